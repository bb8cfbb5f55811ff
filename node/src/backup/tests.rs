//! A backup of books that stand still: what is in it, who may read it, what a restore refuses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use comity_clearing::{LOG_FORGOTTEN, ops};
use comity_ledger::Database;
use comity_ledger::db::query;

use super::*;
use crate::home::{Home, Role};

struct Bench {
    folder: tempfile::TempDir,
    home: Home,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        std::fs::write(home.file("roster.cbor"), "a roster").unwrap();
        ops::migrate(&Database::sqlite(home.file("clearing.sqlite"))).await.unwrap();
        Self { folder, home }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn restore(&self, from: &str, home: &str) -> Result<Returned, String> {
        let (from, home) = (self.path(from), self.path(home));
        let ask = Restore { from: &from, home: &home, store: None, checkpoint: None };
        restore(ask).await.map_err(|failure| failure.to_string())
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_backup_is_closed_to_others_and_has_keys_only_where_they_were_asked_for() {
    let bench = Bench::new().await;
    let last = take(&bench.home, &bench.path("plain"), false).await.unwrap();
    assert!(!bench.path("plain/keys").exists());
    assert!(last.manifest.left_out.contains(&"keys/issuer.key".to_owned()), "{:?}", last.manifest.left_out);
    let keyed = take(&bench.home, &bench.path("keyed"), true).await.unwrap();
    assert_eq!(keyed.manifest.left_out, [""; 0]);
    for folder in ["plain", "keyed", "keyed/keys"] {
        assert_eq!(mode(&bench.path(folder)), 0o700, "{folder}");
    }
    for entry in &keyed.manifest.files {
        assert_eq!(mode(&bench.path("keyed").join(&entry.path)), 0o600, "{}", entry.path);
    }
    assert_eq!(mode(&bench.path("keyed/manifest.json")), 0o600);
    assert!(!bench.path("keyed/log.checkpoint").exists(), "an older memory of the log is worse than none");
    let again = take(&bench.home, &bench.path("plain"), false).await.unwrap_err().to_string();
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(LastBackup::read(&bench.home).unwrap().manifest_sha256, keyed.manifest_sha256);
}

#[tokio::test]
async fn a_restore_overwrites_nothing_and_is_known_to_the_books() {
    let bench = Bench::new().await;
    take(&bench.home, &bench.path("b"), true).await.unwrap();
    assert!(bench.restore("b", "house").await.unwrap_err().contains("is not overwritten"));

    let returned = bench.restore("b", "new").await.unwrap();
    assert_eq!(returned.restored.number, 1);
    assert!(returned.next.iter().any(|next| next.contains("--restored")), "{:?}", returned.next);
    assert_eq!(std::fs::read(bench.path("new/log.checkpoint")).unwrap(), LOG_FORGOTTEN);
    assert_eq!(mode(&bench.path("new/clearing.sqlite")), 0o600);
    assert_eq!(mode(&bench.path("new/keys/issuer.key")), 0o600);
    let new = Home::open(&bench.path("new")).unwrap();
    assert!(new.feed_may_go_on().is_err());
    let glance = ops::glance(&Database::sqlite(new.file("clearing.sqlite"))).await.unwrap();
    assert_eq!(glance.facts.restored, Some(returned.restored));

    // The house's own home, whose books are lost: what it has is newer than the backup, and stays.
    for name in ["clearing.sqlite", "clearing.sqlite-wal", "clearing.sqlite-shm"] {
        let _ = std::fs::remove_file(bench.home.file(name));
    }
    std::fs::write(bench.home.file("roster.cbor"), "a newer roster").unwrap();
    std::fs::write(bench.home.file("log.checkpoint"), "what was signed last").unwrap();
    std::fs::write(bench.home.file("network.sqlite"), "the feeds").unwrap();
    let returned = bench.restore("b", "house").await.unwrap();
    assert_eq!(returned.put, [""; 0]);
    assert_eq!(bench.home.read("roster.cbor").unwrap(), b"a newer roster");
    assert_eq!(bench.home.read("log.checkpoint").unwrap(), b"what was signed last");
    bench.home.feed_may_go_on().unwrap();
    // Another house's.
    let other = Home::init(&bench.path("other"), "other", "Other", Role::House).unwrap();
    assert!(bench.restore("b", "other").await.unwrap_err().contains("and the backup is of"));
    assert!(!other.file("clearing.sqlite").exists());
}

/// What the probes know goes with the house: the journal always, people and their wallets with the keys; back again as a whole.
#[tokio::test]
async fn what_the_probes_know_is_in_a_backup_and_comes_back_as_a_whole() {
    use crate::probe::journal::{Journal, Kept};
    let bench = Bench::new().await;
    let probe = bench.home.file("probe");
    for folder in ["probe/people/00000/keys", "probe/decided"] {
        std::fs::create_dir_all(bench.home.file(folder)).unwrap();
    }
    let (mut journal, _): (Journal, Kept<u64, u64>) = Journal::open(&probe).unwrap();
    (1..=3_u64).for_each(|event| journal.append(&event).unwrap());
    journal.snapshot(&6_u64).unwrap();
    journal.append(&4_u64).unwrap();
    for (name, text) in [
        ("probe.toml", "[probe]"),
        ("keys/probe.key", "secret"),
        ("probe/decided/finding", ""),
        ("probe/people/00000/profile.toml", "project = 1"),
        ("probe/people/00000/profile.toml.new", "half"),
        ("probe/people/00000/wallet.journal", "token"),
        ("probe/people/00000/keys/member.key", "member"),
    ] {
        std::fs::write(bench.home.file(name), text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", bench.home.file("probe/people/00000/link")).unwrap();
    // While the probes run.
    let plain = take(&bench.home, &bench.path("plain"), false).await.unwrap().manifest;
    assert!(plain.left_out.contains(&"probe/people".to_owned()) && !bench.path("plain/probe/people").exists());
    let has = |manifest: &Manifest| {
        let files = manifest.files.iter().map(|entry| entry.path.clone());
        files.filter(|name| name.starts_with("probe")).collect::<Vec<_>>()
    };
    // A process may cut its journal meanwhile: what was copied before has all that the snapshot has not.
    let known = ["probe/decided/finding", "probe.toml", "probe/journal", "probe/snapshot.json"];
    assert_eq!(has(&plain), known);
    let keyed = take(&bench.home, &bench.path("keyed"), true).await.unwrap().manifest;
    let people = ["keys/member.key", "profile.toml", "wallet.journal"].map(|name| format!("probe/people/00000/{name}"));
    assert_eq!(has(&keyed), [&known.map(str::to_owned)[..], &people[..]].concat());
    for folder in ["keyed/probe", "keyed/probe/people/00000/keys", "plain/probe"] {
        assert_eq!(mode(&bench.path(folder)), 0o700, "{folder}");
    }

    let returned = bench.restore("keyed", "new").await.unwrap();
    assert!(returned.next.iter().any(|next| next.contains("clearing probe init")), "{:?}", returned.next);
    let kept: Kept<u64, u64> = Journal::look(&bench.path("new/probe")).unwrap();
    assert_eq!((kept.snapshot, kept.events), (Some(6), vec![4]));
    for name in keyed.files.iter().map(|entry| &entry.path).filter(|name| name.contains("probe")) {
        assert_eq!(std::fs::read(bench.path("new").join(name)).unwrap(), bench.home.read(name).unwrap(), "{name}");
        assert_eq!(mode(&bench.path("new").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&bench.path("new/probe/people")), 0o700);
    let returned = bench.restore("plain", "keyless").await.unwrap();
    let missing = returned.next.iter().find(|next| next.contains("put back what the backup has not")).unwrap();
    assert!(missing.contains("probe/people"), "{missing}");

    // A home that has probes keeps what they know, all of it: older people do not go with a newer journal.
    for name in ["clearing.sqlite", "clearing.sqlite-wal", "clearing.sqlite-shm"] {
        let _ = std::fs::remove_file(bench.home.file(name));
    }
    std::fs::remove_dir_all(bench.home.file("probe/people")).unwrap();
    assert_eq!(bench.restore("keyed", "house").await.unwrap().put, [""; 0]);
    assert!(!bench.home.file("probe/people").exists());
}

/// Nothing of a manifest leads out of the folder of the probes.
#[test]
fn only_what_lies_below_the_folder_of_the_probes_is_put_back() {
    for (name, is_part) in [
        ("probe.toml", true),
        ("probe/journal", true),
        ("probe/people/00000/keys/member.key", true),
        ("probe", false),
        ("probes/journal", false),
        ("probe/../keys/issuer.key", false),
        ("/probe/journal", false),
        ("probe/a/b/c/d/e", false),
        ("network.sqlite", false),
    ] {
        assert_eq!(super::probe::is_part(name), is_part, "{name}");
    }
}

#[tokio::test]
async fn a_backup_that_was_changed_or_broke_off_is_none() {
    let bench = Bench::new().await;
    take(&bench.home, &bench.path("b"), false).await.unwrap();
    let copy = bench.path("b/clearing.sqlite");
    let whole = std::fs::read(&copy).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&copy, &changed).unwrap();
    assert!(bench.restore("b", "new").await.unwrap_err().contains("is not what it was"));
    assert!(!bench.path("new").exists(), "nothing was touched");
    std::fs::write(&copy, &whole).unwrap();
    std::fs::remove_file(bench.path("b/manifest.json")).unwrap();
    assert!(bench.restore("b", "new").await.unwrap_err().contains("broke off"));
}

/// Somebody else writes while the copy is made: it is of one moment.
#[tokio::test]
async fn the_books_are_written_while_they_are_copied() {
    let bench = Bench::new().await;
    let database = Database::sqlite(bench.home.file("clearing.sqlite"));
    let mut conn = database.connect().await.unwrap();
    let mut open = conn.write().await.unwrap();
    query("INSERT INTO open_span (begins_at, ends_at) VALUES (1, 1)").execute(&mut open.db()).await.unwrap();
    // The write lock is held, and the copy does not wait for it.
    take(&bench.home, &bench.path("b"), false).await.unwrap();
    open.commit().await.unwrap();
    let mut copy = Database::sqlite_at_rest(bench.path("b/clearing.sqlite")).connect().await.unwrap();
    let spans = query("SELECT COUNT(*) FROM open_span").fetch_one(&mut copy.db()).await.unwrap().first().unwrap();
    assert_eq!(spans, 0, "what was not committed is not in it");
}
