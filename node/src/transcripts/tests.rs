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
    assert!(files.sweep(morning.plus(DAY_S - 1)).unwrap().is_empty());
    assert_eq!(files.sweep(morning.plus(DAY_S)).unwrap().len(), 1);
    assert_eq!(left(&files), ["long"]);
    assert!(files.sweep(morning.plus(30 * DAY_S - 1)).unwrap().is_empty());
    assert_eq!(files.sweep(morning.plus(30 * DAY_S)).unwrap().len(), 1);
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
    assert_eq!(files.remove(|head| head.subject == "a").unwrap(), 2);
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
