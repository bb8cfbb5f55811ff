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
