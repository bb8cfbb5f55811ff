use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use comity_wire::Amount;
use zeroize::Zeroizing;

use super::archive::{Archive, travelling};
use super::change::{Folder, Means, State, Way, read_member};
use super::file::{Cost, Kept, Seal};
use super::keyring::{Keyring, KeyringError};
use super::*;
use crate::journal::Journal;
use crate::pending::Pending;

const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
const MEMBER: [u8; 32] = [0x41; 32];
const HOLDER: [u8; 32] = [0x42; 32];
const COMING: [u8; 32] = [0x43; 32];

fn entropy() -> Entropy {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    Arc::new(|| Digest::of(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes()).0)
}

/// A keyring that may be gone.
#[derive(Default)]
struct Ring(Mutex<BTreeMap<String, [u8; 32]>>);

impl Keyring for Ring {
    fn put(&self, account: &str, secret: &[u8; 32]) -> Result<(), KeyringError> {
        self.0.lock().unwrap().insert(account.to_owned(), *secret);
        Ok(())
    }

    fn get(&self, account: &str) -> Result<Secret, KeyringError> {
        self.0.lock().unwrap().get(account).map(|secret| Zeroizing::new(*secret)).ok_or(KeyringError::Missing)
    }

    fn forget(&self, account: &str) -> Result<(), KeyringError> {
        self.0.lock().unwrap().remove(account);
        Ok(())
    }
}

fn pending() -> Entry {
    let pending = Pending {
        node: comity_wire::NodeId([1; 16]),
        model: "lab/tiny".parse().unwrap(),
        seed: Stored::new(COMING).unwrap(),
        quote: Stored::new(b"quote").unwrap(),
        budget: Amount::credits(1),
        valid_s: 60,
        depth: 0,
        grants: Vec::new(),
        mandate: None,
        at: comity_wire::Timestamp(1_000),
    };
    Entry::Reserving { id: TokenId([3; 16]), pending }
}

fn entries() -> Vec<Entry> {
    let (chain, seed) = (Stored::new(b"a chain").unwrap(), Stored::new(HOLDER).unwrap());
    vec![Entry::Token { chain, seed, cap: Amount::MAX }, pending(), Entry::Closed { token: TokenId([9; 16]) }]
}

/// A folder as `comity init` and a wallet that ran leave it.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("member.key"), &*member_text(None, &MEMBER)).unwrap();
    let (mut journal, _) = Journal::open(&crate::Client::journal(home.path())).unwrap();
    for entry in entries() {
        journal.append(&entry).unwrap();
    }
    home
}

fn passphrase(text: &str) -> Way {
    Way::Passphrase(Zeroizing::new(text.to_owned()))
}

fn unlocked(home: &Path, ring: &Ring, text: &str) -> Result<Option<DataKey>, SealError> {
    let asked = || Ok(Zeroizing::new(text.to_owned()));
    Seal::read(home)?.map(|seal| seal.unlock(home, ring, asked)).transpose()
}

/// The secrets as whoever unlocks the folder has them.
fn check(home: &Path, ring: &Ring, text: &str) {
    let key = unlocked(home, ring, text).unwrap();
    assert_eq!(*read_member(&home.join("member.key"), key.as_ref()).unwrap(), MEMBER);
    let kept = Journal::read(&crate::Client::journal(home)).unwrap();
    assert_eq!(opened(key.as_ref(), kept).unwrap(), entries());
}

fn change(home: &Path, ring: &Ring, text: &str, way: Way, at: &dyn Fn(&'static str)) -> Result<(), SealError> {
    let member = home.join("member.key");
    let key = unlocked(home, ring, text)?;
    let means = Means { keyring: ring, entropy: entropy(), cost: CHEAP, at };
    Folder { home, member: Some(&member) }.change(key, way, &means).map(drop)
}

fn state(home: &Path) -> State {
    Folder { home, member: Some(&home.join("member.key")) }.state().unwrap()
}

/// Whether any form of a secret stands in any file.
fn finds(home: &Path, secret: &[u8; 32]) -> bool {
    let forms = [
        secret.to_vec(),
        Digest(*secret).to_string().into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        base64::engine::general_purpose::STANDARD.encode(secret).into_bytes(),
    ];
    std::fs::read_dir(home).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        forms.iter().any(|form| bytes.windows(form.len()).any(|part| part == form))
    })
}

#[test]
fn each_way_leads_to_each_other_and_no_secret_lies_open_where_it_is_sealed() {
    let (home, ring) = (home(), Ring::default());
    let home = home.path();
    let ways: [(fn() -> Way, State); 6] = [
        (|| passphrase("correct horse"), State::Passphrase),
        (|| Way::Keyring, State::Keyring),
        (|| Way::Open, State::Open),
        (|| Way::Keyring, State::Keyring),
        (|| passphrase("correct horse"), State::Passphrase),
        (|| Way::Open, State::Open),
    ];
    assert_eq!(state(home), State::Open);
    assert!(finds(home, &MEMBER) && finds(home, &HOLDER) && finds(home, &COMING), "the search finds what is there");
    for (way, after) in ways {
        change(home, &ring, "correct horse", way(), &|_| {}).unwrap();
        assert_eq!(state(home), after);
        check(home, &ring, "correct horse");
        let lies_open = after == State::Open;
        for secret in [MEMBER, HOLDER, COMING] {
            assert_eq!(finds(home, &secret), lies_open, "{after:?}");
        }
        let kept = ring.0.lock().unwrap().len();
        assert_eq!(kept, usize::from(after == State::Keyring), "nothing is left in the keyring");
    }
}

#[test]
fn what_a_sealed_journal_is_given_is_sealed() {
    let home = tempfile::tempdir().unwrap();
    let key = DataKey::new([7; 32]);
    let path = crate::Client::journal(home.path());
    let (mut journal, _) = Journal::open(&path).unwrap();
    journal.seal_with(Some(Sealer::new(key.clone(), entropy())));
    for entry in entries() {
        journal.append(&entry).unwrap();
    }
    assert!(!finds(home.path(), &HOLDER) && !finds(home.path(), &COMING));
    let kept = Journal::read(&path).unwrap();
    assert!(!lies_open(&kept));
    assert!(matches!(opened(None, kept.clone()), Err(SealError::NoPassphrase)));
    assert!(matches!(opened(Some(&DataKey::new([8; 32])), kept.clone()), Err(SealError::Closed)));
    assert_eq!(opened(Some(&key), kept).unwrap(), entries());
}

#[test]
fn a_wrong_passphrase_is_refused_and_says_what_to_do() {
    let (home, ring) = (home(), Ring::default());
    change(home.path(), &ring, "", passphrase("correct horse"), &|_| {}).unwrap();
    for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
        let error = unlocked(home.path(), &ring, wrong).unwrap_err();
        assert!(matches!(error, SealError::Passphrase { .. }), "{wrong:?}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("comity wallet revoke")));
    }
    let short = change(home.path(), &ring, "correct horse", passphrase("seven77"), &|_| {});
    assert!(matches!(short, Err(SealError::Short { count: 7 })));
    check(home.path(), &ring, "correct horse");
}

#[test]
fn no_byte_of_a_seal_or_of_a_sealed_key_can_be_another() {
    let (home, ring) = (home(), Ring::default());
    for way in [passphrase("correct horse"), Way::Keyring] {
        change(home.path(), &ring, "correct horse", way, &|_| {}).unwrap();
        let path = Seal::path(home.path());
        let text = std::fs::read(&path).unwrap();
        for at in 0..text.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bent = text.clone();
                bent[at] ^= flip;
                std::fs::write(&path, &bent).unwrap();
                assert!(unlocked(home.path(), &ring, "correct horse").is_err(), "byte {at}: {bent:?}");
            }
        }
        std::fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert!(unlocked(home.path(), &ring, "correct horse").is_err(), "cut");
        std::fs::write(&path, &text).unwrap();
    }
    let key = DataKey::new([7; 32]);
    let place = Place::Holder(Digest::of(b"a chain"));
    let closed = key.close([1; 24], place, &HOLDER);
    assert_eq!(*key.open(place, &closed).unwrap(), HOLDER);
    for at in 0..closed.len() {
        let mut bent = closed.clone();
        bent[at] ^= 1;
        assert!(key.open(place, &bent).is_err(), "byte {at}");
    }
    for elsewhere in [Place::Member, Place::Holder(Digest::of(b"another")), Place::Pending(TokenId([3; 16]))] {
        assert!(key.open(elsewhere, &closed).is_err(), "{elsewhere:?}");
    }
}

#[test]
fn a_seal_cannot_ask_for_all_the_memory() {
    let (home, ring) = (home(), Ring::default());
    change(home.path(), &ring, "", passphrase("correct horse"), &|_| {}).unwrap();
    let seal = Seal::read(home.path()).unwrap().unwrap();
    let Kept::Passphrase { salt, .. } = &seal.kept else { panic!("{seal:?}") };
    let over = |cost: Cost| {
        let kept = Kept::Passphrase { cost, salt: salt.clone() };
        let mut asked = seal.clone();
        asked.kept = kept;
        std::fs::write(Seal::path(home.path()), asked.text()).unwrap();
        let never = || panic!("nothing is asked of anybody");
        Seal::read(home.path()).unwrap().unwrap().unlock(home.path(), &ring, never).unwrap_err()
    };
    for cost in [
        Cost { memory_kib: 4 << 20, ..CHEAP },
        Cost { memory_kib: Cost::MOST.memory_kib + 1, ..CHEAP },
        Cost { passes: u32::MAX, ..CHEAP },
        Cost { lanes: 17, ..CHEAP },
    ] {
        assert!(matches!(over(cost), SealError::Cost { .. }), "{cost:?}");
    }
}

#[test]
fn the_cost_of_new_seals_is_one_that_is_taken() {
    let seal = Seal::by_passphrase(&DataKey::new([7; 32]), "correct horse", Cost::NEW, &entropy()).unwrap();
    let asked = || Ok(Zeroizing::new("correct horse".to_owned()));
    let key = seal.unlock(Path::new("."), &Ring::default(), asked).unwrap();
    assert_eq!(*key.secret, [7; 32]);
}

#[test]
fn a_change_that_ends_anywhere_loses_no_key_and_is_completed_by_the_same_again() {
    let (ring, points) = (Ring::default(), ["seal.kept", "seal.file", "seal.member", "seal.journal", "seal.removed"]);
    let ways: [fn() -> Way; 3] = [|| passphrase("correct horse"), || Way::Keyring, || Way::Open];
    let mut died = 0;
    for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
        for point in points {
            let home = home();
            let home = home.path();
            change(home, &ring, "", ways[from](), &|_| {}).unwrap();
            let dies = std::panic::catch_unwind(|| {
                change(home, &ring, "correct horse", ways[to](), &|at| assert!(at != point, "it ends here")).unwrap();
            });
            check(home, &ring, "correct horse");
            if dies.is_ok() {
                continue;
            }
            died += 1;
            change(home, &ring, "correct horse", ways[to](), &|_| {}).unwrap();
            check(home, &ring, "correct horse");
            assert_eq!(state(home), [State::Passphrase, State::Keyring, State::Open][to], "{from}→{to} at {point}");
            assert_eq!(finds(home, &MEMBER), to == 2);
        }
    }
    // Sealing has four points, unsealing three.
    assert_eq!(died, 3 * (4 + 4 + 3));
}

#[test]
fn what_a_change_left_that_was_cut_short_is_taken_away() {
    let (home, ring) = (home(), Ring::default());
    change(home.path(), &ring, "", passphrase("correct horse"), &|_| {}).unwrap();
    // Unsealing wrote it, and the power went.
    std::fs::write(home.path().join("member.key.new"), &*member_text(None, &MEMBER)).unwrap();
    assert_eq!(state(home.path()), State::Half);
    change(home.path(), &ring, "correct horse", passphrase("correct horse"), &|_| {}).unwrap();
    assert_eq!(state(home.path()), State::Passphrase);
    assert!(!finds(home.path(), &MEMBER));
}

#[test]
fn a_wallet_in_use_and_a_key_from_elsewhere_are_left_alone() {
    let (home, ring) = (home(), Ring::default());
    let (held, _) = Journal::open(&crate::Client::journal(home.path())).unwrap();
    let busy = change(home.path(), &ring, "", passphrase("correct horse"), &|_| {});
    assert!(matches!(busy, Err(SealError::Journal(crate::journal::JournalError::Locked { .. }))));
    drop(held);
    let elsewhere = tempfile::tempdir().unwrap();
    let member = elsewhere.path().join("member.key");
    std::fs::write(&member, &*member_text(None, &MEMBER)).unwrap();
    let means = Means { keyring: &ring, entropy: entropy(), cost: CHEAP, at: &|_| {} };
    let folder = Folder { home: home.path(), member: Some(&member) };
    assert!(matches!(folder.change(None, Way::Keyring, &means), Err(SealError::Outside { .. })));
    assert_eq!(state(home.path()), State::Open);
}

fn archive() -> Archive {
    Archive {
        profile: "roster = \"roster.cbor\"\n".to_owned(),
        roster: comity_wire::cbor::Bytes::new(b"a roster").unwrap(),
        member: Some(comity_wire::cbor::Bytes::new(MEMBER).unwrap()),
        journal: entries(),
        files: BTreeMap::new(),
    }
}

#[test]
fn an_exported_file_opens_with_its_passphrase_and_no_byte_of_it_can_be_another() {
    let file = archive().pack("correct horse", CHEAP, &entropy()).unwrap();
    let opens = |file: &[u8], text: &str| Archive::unpack(file, || Ok(Zeroizing::new(text.to_owned())));
    assert_eq!(opens(&file, "correct horse").unwrap(), archive());
    assert!(matches!(opens(&file, "correct hors"), Err(SealError::Archive)));
    assert!(matches!(archive().pack("short", CHEAP, &entropy()), Err(SealError::Short { count: 5 })));
    for at in 0..file.len() {
        for flip in [1, 0x80] {
            let mut bent = file.clone();
            bent[at] ^= flip;
            assert!(opens(&bent, "correct horse").is_err(), "byte {at}");
        }
    }
    for cut in [0, 1, 100, 200, file.len() - 1] {
        assert!(opens(&file[..cut], "correct horse").is_err(), "cut at {cut}");
    }
    for secret in [MEMBER, HOLDER, COMING] {
        let text = URL_SAFE_NO_PAD.encode(secret).into_bytes();
        let stands = |form: &[u8]| file.windows(form.len()).any(|part| part == form);
        assert!(!stands(&secret) && !stands(&text));
    }
}

#[test]
fn what_was_asked_for_and_never_came_does_not_travel() {
    let went = travelling(vec![pending()]).unwrap();
    let wallet = crate::wallet::Wallet::replay(went).unwrap();
    assert_eq!(wallet.pending().count(), 0, "both computers would fetch the same token");
}

#[test]
fn a_key_that_was_opened_before_keys_were_kept_another_way_is_taken_for_none() {
    let (home, ring) = (home(), Ring::default());
    change(home.path(), &ring, "", passphrase("correct horse"), &|_| {}).unwrap();
    // Somebody types for a while; meanwhile another program takes the seal away.
    let typed = unlocked(home.path(), &ring, "correct horse").unwrap();
    assert!(Seal::is_of(home.path(), typed.as_ref()).unwrap() && !Seal::is_of(home.path(), None).unwrap());
    change(home.path(), &ring, "correct horse", Way::Open, &|_| {}).unwrap();
    assert!(!Seal::is_of(home.path(), typed.as_ref()).unwrap() && Seal::is_of(home.path(), None).unwrap());
    let member = home.path().join("member.key");
    let means = Means { keyring: &ring, entropy: entropy(), cost: CHEAP, at: &|_| {} };
    let folder = Folder { home: home.path(), member: Some(&member) };
    let stale = folder.change(typed, passphrase("battery staple"), &means);
    assert!(matches!(stale, Err(SealError::Changed)), "{stale:?}");
    check(home.path(), &ring, "");
}

#[cfg(unix)]
#[test]
fn what_a_link_points_to_is_not_called_sealed() {
    let (home, ring, elsewhere) = (home(), Ring::default(), tempfile::tempdir().unwrap());
    let (member, there) = (home.path().join("member.key"), elsewhere.path().join("secret.key"));
    std::fs::rename(&member, &there).unwrap();
    std::os::unix::fs::symlink(&there, &member).unwrap();
    let sealed = change(home.path(), &ring, "", passphrase("correct horse"), &|_| {});
    assert!(matches!(sealed, Err(SealError::Outside { .. })), "{sealed:?}");
    assert_eq!(state(home.path()), State::Open);
}

/// Lets the journal begin anew with all that it holds.
fn renew(home: &Path, key: Option<&DataKey>) {
    let (mut journal, found) = Journal::open(&crate::Client::journal(home)).unwrap();
    journal.seal_with(key.map(|key| Sealer::new(key.clone(), entropy())));
    let mut carried = opened(key, found).unwrap();
    carried.retain(|entry| !matches!(entry, Entry::Carried { .. }));
    carried.insert(0, Entry::Carried { archives: Vec::new(), lines: 0, settled: Amount::ZERO, days: Vec::new() });
    journal.renew(carried, &|_| {}).unwrap();
}

#[test]
fn a_journal_that_begins_anew_is_sealed_and_opened_as_any_and_its_archive_has_no_key() {
    let home = home();
    let (home, path) = (home.path(), crate::Client::journal(home.path()));
    let (ring, words) = (Ring::default(), "four words and more");
    let holds = |key: Option<&DataKey>| {
        let mut every = Vec::new();
        let read = Journal::each(&path, |entry| {
            every.push(entry);
            Ok::<_, SealError>(())
        });
        read.unwrap();
        assert_eq!(opened(key, every).unwrap(), entries(), "as if it had never begun anew");
        let archive = std::fs::read_to_string(path.with_extension("archive.1")).unwrap();
        assert_eq!(archive.matches("\"seed\":\"\"").count(), 2, "{archive}");
    };
    renew(home, None);
    holds(None);
    change(home, &ring, "", passphrase(words), &|_| {}).unwrap();
    let key = unlocked(home, &ring, words).unwrap().unwrap();
    assert!(!finds(home, &HOLDER) && !finds(home, &COMING), "sealing leaves no key open");
    holds(Some(&key));
    renew(home, Some(&key));
    assert!(!finds(home, &HOLDER) && !finds(home, &COMING));
    holds(Some(&key));
    change(home, &ring, words, Way::Open, &|_| {}).unwrap();
    holds(None);
}
