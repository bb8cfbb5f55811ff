use bytes::Bytes;
use comity_wire::object::{Ended, Tier};
use comity_wire::{Amount, Digest, Op, TokenId};

use super::*;
use crate::home::Role;

const NOW: Timestamp = Timestamp(1_795_000_000);
const DAY_S: u64 = 86_400;

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
    Key::create(&home.path, &folder.path().join("transcripts.key")).unwrap();
    (folder, home)
}

fn transcript(subject: &str, at: Timestamp, days: u16) -> Transcript {
    Transcript {
        at,
        model: "lab/tiny".parse().unwrap(),
        op: Op::Chat,
        tier: Tier::Vetted,
        subject: subject.into(),
        token: TokenId([7; 16]),
        receipt: Digest::of(subject.as_bytes()),
        charge: Amount::from_ucr(18),
        ended: Ended::Stop,
        retention_days: days,
        request: Bytes::from_static(b"canary-of-the-request"),
        response: vec![Bytes::from_static(b"canary-of"), Bytes::from_static(b"-the-answer")],
    }
}

fn of(subject: &str) -> Chosen {
    Chosen { subject: Some(subject.into()), ..Chosen::default() }
}

fn said(reason: &str) -> Said {
    Said { at: NOW, by: "ada".into(), reason: reason.into() }
}

/// Every byte below a folder.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(bytes_below(&path)) } else { all.extend(std::fs::read(&path).unwrap()) }
    }
    all
}

#[test]
fn texts_lie_sealed_and_open_with_the_key_alone() {
    let (folder, home) = home();
    let files = Folder::open(&home.path).unwrap();
    let lock = Lock::of(&home.path).unwrap().expect("it was made");
    files.append(&lock, &transcript("sub-a", NOW, 30)).unwrap();
    let all = String::from_utf8_lossy(&bytes_below(&within(&home.path))).into_owned();
    assert!(all.contains("sub-a") && !all.contains("canary"), "{all}");

    let kept = &files.all().unwrap()[0];
    assert_eq!((kept.head.subject.as_str(), kept.head.charge_ucr), ("sub-a", Amount::from_ucr(18)));
    let key = Key::read(&folder.path().join("transcripts.key")).unwrap();
    let texts = kept.open(&key).unwrap();
    assert_eq!(texts.request, "canary-of-the-request");
    assert_eq!(texts.response.concat(), "canary-of-the-answer");

    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    Key::create(&other, &other.join("key")).unwrap();
    assert!(kept.open(&Key::read(&other.join("key")).unwrap()).is_err());
    // Whoever may write the file cannot put a text under another name.
    let path = within(&home.path).join(&kept.until).join("lab+tiny.jsonl");
    let altered = std::fs::read_to_string(&path).unwrap().replace("sub-a", "sub-b");
    std::fs::write(&path, altered).unwrap();
    let kept = files.all().unwrap();
    assert!(kept[0].head.subject == "sub-b" && kept[0].open(&key).is_err());
    // Neither half is ever overwritten.
    assert!(Key::create(&home.path, &folder.path().join("new.key")).is_err());
}

#[test]
fn they_go_on_the_day_that_was_told_and_not_before() {
    let (_folder, home) = home();
    let files = Folder::open(&home.path).unwrap();
    let lock = Lock::of(&home.path).unwrap().unwrap();
    for (subject, days) in [("short", 1), ("long", 30)] {
        files.append(&lock, &transcript(subject, NOW, days)).unwrap();
    }
    std::fs::create_dir(within(&home.path).join("notes")).unwrap();
    let left = |files: &Folder| files.all().unwrap().into_iter().map(|kept| kept.head.subject).collect::<Vec<_>>();
    // The day of NOW began so many seconds before it.
    let morning = Timestamp(NOW.0 - NOW.0 % DAY_S);
    assert_eq!(files.sweep(morning.plus(DAY_S - 1)).unwrap(), 0);
    assert_eq!(files.sweep(morning.plus(DAY_S)).unwrap(), 1);
    assert_eq!(left(&files), ["long"]);
    assert_eq!(files.sweep(morning.plus(30 * DAY_S - 1)).unwrap(), 0);
    assert_eq!(files.sweep(morning.plus(30 * DAY_S)).unwrap(), 1);
    assert!(left(&files).is_empty() && within(&home.path).join("notes").exists());
}

#[test]
fn one_projects_texts_can_be_removed_and_a_line_that_was_cut_off_harms_nothing() {
    let (_folder, home) = home();
    let files = Folder::open(&home.path).unwrap();
    let lock = Lock::of(&home.path).unwrap().unwrap();
    for subject in ["a", "b", "a"] {
        files.append(&lock, &transcript(subject, NOW, 9)).unwrap();
    }
    let path = within(&home.path).join(&files.all().unwrap()[0].until).join("lab+tiny.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"head\": \"half a li");
    std::fs::write(&path, text).unwrap();
    assert_eq!(files.all().unwrap().len(), 3);
    files.append(&lock, &transcript("c", NOW, 9)).unwrap();
    assert_eq!(files.remove(&of("a"), said("asked")).unwrap(), Gone { went: 2, held: 0 });
    let left: Vec<_> = files.all().unwrap().into_iter().map(|kept| kept.head.subject).collect();
    assert_eq!(left, ["b", "c"]);
}

#[test]
fn while_they_cannot_be_written_the_writer_is_not_ready_and_nothing_is_lost() {
    let (_folder, home) = home();
    let writer = Writer::start(&home, Arc::new(|| NOW)).unwrap().expect("there is a lock");
    assert!(writer.is_ready());
    // A file where the day's folder should be.
    let until = day_of(NOW.plus(9 * DAY_S));
    let wall = within(&home.path).join(until);
    std::fs::write(&wall, "").unwrap();
    writer.keep(transcript("a", NOW, 9));
    while writer.is_ready() {
        std::thread::yield_now();
    }
    std::fs::remove_file(&wall).unwrap();
    while !writer.is_ready() {
        std::thread::yield_now();
    }
    writer.keep(transcript("b", NOW, 9));
    writer.close();
    assert_eq!(Folder::open(&home.path).unwrap().all().unwrap().len(), 2);
}

fn day_of(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

#[test]
fn without_a_lock_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
    assert!(Writer::start(&home, Arc::new(|| NOW)).unwrap().is_none());
    assert!(!within(&home.path).exists());
}

#[test]
fn what_a_hold_keeps_does_not_go_by_its_days_nor_by_a_command_until_it_is_released() {
    let (_folder, home) = home();
    let files = Folder::open(&home.path).unwrap();
    let lock = Lock::of(&home.path).unwrap().unwrap();
    for subject in ["a", "b"] {
        files.append(&lock, &transcript(subject, NOW, 1)).unwrap();
    }
    let hold = files.hold(of("a"), said("a court wants it")).unwrap();
    let left = |files: &Folder| files.all().unwrap().into_iter().map(|kept| kept.head.subject).collect::<Vec<_>>();
    assert_eq!(files.sweep(NOW.plus(9 * DAY_S)).unwrap(), 1);
    assert_eq!(files.sweep(NOW.plus(9 * DAY_S)).unwrap(), 0);
    assert_eq!(left(&files), ["a"]);
    for chosen in [of("a"), Chosen::default()] {
        assert_eq!(files.remove(&chosen, said("they ask")).unwrap(), Gone { went: 0, held: 1 });
    }
    assert!(files.release(hold.number + 1, said("x")).is_err());
    let released = files.release(hold.number, said("it is over")).unwrap();
    assert!(!released.stands() && files.release(hold.number, said("again")).is_err());
    assert_eq!(files.holds().unwrap(), [released]);
    assert_eq!(files.sweep(NOW.plus(9 * DAY_S)).unwrap(), 1);
    assert!(left(&files).is_empty());
    // The folder of the day went with the last of them.
    assert_eq!(
        std::fs::read_dir(within(&home.path)).unwrap().flatten().filter(|entry| entry.path().is_dir()).count(),
        0
    );
}

#[test]
fn what_went_is_said_in_a_log_that_cannot_be_changed_unseen() {
    let (_folder, home) = home();
    let files = Folder::open(&home.path).unwrap();
    let lock = Lock::of(&home.path).unwrap().unwrap();
    assert_eq!(files.removed().unwrap(), (vec![], Digest::ZERO));
    for (subject, days) in [("a", 1), ("b", 9), ("c", 9)] {
        files.append(&lock, &transcript(subject, NOW, days)).unwrap();
    }
    files.sweep(NOW.plus(2 * DAY_S)).unwrap();
    files.remove(&of("b"), said("they ask")).unwrap();
    files.remove(&of("nobody"), said("they ask")).unwrap();
    let (removed, newest) = files.removed().unwrap();
    // Those whose days were over are counted, those that somebody asked for are named.
    let receipts: Vec<_> = removed.iter().map(|one| (one.calls, one.receipts.clone())).collect();
    assert_eq!(receipts, [(1, vec![]), (1, vec![Digest::of(b"b")])]);
    assert_eq!(removed[0].receipts_digest, Digest::of(&Digest::of(b"a").0));
    assert_eq!((removed[0].asked.clone(), removed[1].asked.clone()), (None, Some(said("they ask"))));
    assert_ne!(newest, Digest::ZERO);
    // A line that is changed is seen by the next, one that is left out by its neighbour, the last by whoever kept the newest digest.
    let path = within(&home.path).join("removed.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"calls\":1", "\"calls\":2", 1)).unwrap();
    assert!(files.removed().is_err());
    // What was told goes all the same, and what is said of it stands behind the last line.
    files.append(&lock, &transcript("d", NOW, 3)).unwrap();
    assert_eq!(files.sweep(NOW.plus(5 * DAY_S)).unwrap(), 1);
    assert!(files.removed().is_err(), "the break stays to be seen");
    let more = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, more.replacen("\"calls\":2", "\"calls\":1", 1)).unwrap();
    assert_eq!(files.removed().unwrap().0.len(), 3);
    // A death cut the last line off: the next one follows the one before it.
    std::fs::write(&path, format!("{text}{{\"at\"")).unwrap();
    files.remove(&of("c"), said("they ask")).unwrap();
    assert_eq!(files.removed().unwrap().0.len(), 3);
    let second = text.split_inclusive('\n').nth(1).unwrap();
    std::fs::write(&path, second).unwrap();
    assert!(files.removed().is_err());
    std::fs::write(&path, text.split_inclusive('\n').next().unwrap()).unwrap();
    assert_ne!(files.removed().unwrap().1, newest);
}
