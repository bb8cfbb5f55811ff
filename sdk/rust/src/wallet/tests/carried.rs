//! A journal that begins anew is the same wallet, wherever it is cut.

use std::path::Path;

use super::*;
use crate::journal::{Journal, JournalError};

/// All that a wallet is, but for the evidence, which is written again.
fn is_same(one: &Wallet, other: &Wallet) -> bool {
    let of = |wallet: &Wallet| {
        let Wallet { purses, pending, evidence: _, keys: _, days, settled } = wallet;
        format!("{purses:?} {pending:?} {days:?} {settled}")
    };
    of(one) == of(other) && one.keys.is_as(&other.keys)
}

fn pending_of(id: u8) -> Entry {
    let pending = Pending {
        node: NODE,
        model: model(),
        seed: stored(&[id; 32]),
        quote: stored(b"quote"),
        budget: Amount::from_ucr(50),
        valid_s: 60,
        depth: 0,
        grants: Vec::new(),
        mandate: None,
        at: NOW,
    };
    Entry::Reserving { id: TokenId([id; 16]), pending }
}

/// A life of a wallet by chance: what it wrote down.
fn life(seed: u64, steps: usize) -> (Wallet, Vec<Entry>) {
    let mut chance = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
    let mut roll = move |sides: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (chance >> 33) % sides
    };
    let mut wallet = Wallet::default();
    let mut written = Vec::new();
    let mut write = |wallet: &mut Wallet, entry: Entry| {
        wallet.apply(&entry).unwrap();
        written.push(entry);
    };
    write(&mut wallet, token(1, Amount::from_ucr(1_000_000)));
    let mut nodes: BTreeMap<u16, Node> = BTreeMap::new();
    let model = model();
    for step in 0..steps {
        let lane = u16::try_from(roll(2)).unwrap();
        let open = wallet.purse(TOKEN).unwrap().lane(lane).and_then(|lane| lane.open.clone());
        match (roll(14), open) {
            (0..4, Some(open)) => {
                let node = nodes.entry(lane).or_insert_with(|| Node {
                    lane,
                    n: 0,
                    exact: Exact(0),
                    meters: Meters::default(),
                    history: Frontier::default(),
                });
                let receipt = node.receipt(&open, roll(20), |_| {});
                write(&mut wallet, Entry::Receipt { token: TOKEN, lane, receipt: stored(receipt.bytes()) });
            }
            (4, Some(open)) => write(&mut wallet, Entry::Free { token: TOKEN, lane, seq: open.seq }),
            (5, Some(open)) => {
                let fault = Entry::Fault { token: TOKEN, lane, seq: open.seq, receipt: None, what: String::new() };
                write(&mut wallet, fault);
            }
            (6, _) => {
                let Some(acknowledgement) = wallet.purse(TOKEN).unwrap().acknowledge(NOW) else { continue };
                for entry in wallet.purse(TOKEN).unwrap().acknowledged(&acknowledgement) {
                    write(&mut wallet, entry);
                }
            }
            (7, _) => write(&mut wallet, pending_of(u8::try_from(roll(5) + 100).unwrap())),
            (8, _) => {
                write(&mut wallet, Entry::NotReserved { id: TokenId([u8::try_from(roll(5) + 100).unwrap(); 16]) })
            }
            (13, _) => {
                write(
                    &mut wallet,
                    Entry::SpentByOthers { token: TOKEN, spent: Amount::from_ucr(u32::try_from(roll(9)).unwrap()) },
                );
            }
            (12, _) => {
                let (leaf, cap) = (Digest([u8::try_from(roll(9)).unwrap(); 32]), Amount::from_ucr(50));
                write(&mut wallet, Entry::Delegated { token: TOKEN, leaf, cap, until: NOW.plus(roll(99)) });
            }
            (9, _) => {
                let key = Key::of_run(roll(step as u64 + 1).to_string().as_bytes(), NOW);
                write(&mut wallet, Entry::Answered { key: key.digest });
            }
            _ => {
                let text = step.to_string();
                let at = NOW.plus(roll(3) * 86_400);
                let key = match roll(4) {
                    0 => Some(Key::of_run(text.as_bytes(), NOW)),
                    1 => Some(Key::random([u8::try_from(step % 256).unwrap(); 32], NOW)),
                    2 => Some(Key::of_caller(text.as_bytes(), NOW).at_model(Digest([6; 32]), &model)),
                    _ => None,
                };
                let ask = Ask { key, ..ask(&model, text.as_bytes(), 100) };
                if let Ok(Begun { entry: Some(entry), .. }) = wallet.begin(TOKEN, &ask, at.min(NOW.plus(3_000))) {
                    write(&mut wallet, entry);
                }
            }
        }
    }
    (wallet, written)
}

#[test]
fn what_is_carried_on_is_the_same_wallet_at_every_step_of_any_life() {
    let mut receipts = 0;
    for seed in 0..20 {
        let (_, written) = life(seed, 60);
        let mut wallet = Wallet::default();
        // The one that began anew at each step before.
        let mut anew = Wallet::default();
        for (at, entry) in written.iter().enumerate() {
            wallet.apply(entry).unwrap();
            anew.apply(entry).unwrap();
            let carried = anew.carried(NOW);
            let text = crate::seal::journal_text(None, &carried);
            let read = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let read: Vec<Entry> = read.map(|line| serde_json::from_slice(line).unwrap()).collect();
            assert_eq!(read, carried, "life {seed}, entry {at}");
            anew = Wallet::replay(read).unwrap();
            assert!(is_same(&wallet, &anew), "life {seed}, entry {at}: {entry:?}\n{wallet:?}\n{anew:?}");
            assert_eq!((wallet.drawn(NOW), wallet.today(NOW)), (anew.drawn(NOW), anew.today(NOW)));
        }
        receipts += written.iter().filter(|entry| matches!(entry, Entry::Receipt { .. })).count();
    }
    assert!(receipts > 100, "{receipts}: lives in which something happens");
}

#[test]
fn a_token_leaves_when_nothing_of_it_can_be_asked_and_what_it_spent_counts_on() {
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let receipt = Node::of(&begun).receipt(&open(&begun), 4, |_| {});
    let settled = wallet.purse(TOKEN).unwrap().token().terms.settle_by;
    let late = settled.plus(7 * 24 * 3600);
    let kept = |wallet: &Wallet, now| Wallet::replay(wallet.carried(now)).unwrap();
    wallet.apply(&Entry::Closed { token: TOKEN }).unwrap();
    assert_eq!(kept(&wallet, late).purses().count(), 1, "its call is in doubt");
    take(&mut wallet, begun.lane, &receipt);
    assert_eq!(kept(&wallet, Timestamp(late.seconds() - 1)).purses().count(), 1);
    let after = kept(&wallet, late);
    assert_eq!((after.purses().count(), after.drawn(late)), (0, receipt.charge), "limits.total counts it");
    assert_eq!(after.today(NOW), receipt.charge, "and its day");
    assert_eq!(kept(&after, late).drawn(late), receipt.charge, "also the next time");

    // A remembered call keeps its token: who asks again is told that it was charged.
    let mut wallet = super::wallet();
    let named = begin_named(&mut wallet, b"one", "k");
    let receipt = Node::of(&named).receipt(&open(&named), 4, |_| {});
    take(&mut wallet, named.lane, &receipt);
    wallet.apply(&Entry::Closed { token: TOKEN }).unwrap();
    assert_eq!(kept(&wallet, late).purses().count(), 1);

    // One that was never ended went home by itself; what of it is in doubt counts as if it had been charged.
    let mut wallet = super::wallet();
    begin(&mut wallet, b"one", 100);
    let (late, gone) = (settled.plus(30 * 24 * 3600 - 1), settled.plus(30 * 24 * 3600));
    assert_eq!(kept(&wallet, late).purses().count(), 1, "a clock that is wrong by less lets it not go");
    let after = kept(&wallet, gone);
    assert_eq!((after.purses().count(), after.drawn(gone)), (0, Amount::from_ucr(100)));
    assert_eq!(kept(&super::wallet(), gone).drawn(gone), Amount::ZERO);

    // What is proved against its node stays: nothing new is put at its mercy.
    let mut wallet = super::wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let fault = Entry::Fault { token: TOKEN, lane: 0, seq: open(&begun).seq, receipt: None, what: String::new() };
    wallet.apply(&fault).unwrap();
    assert_eq!(kept(&wallet, gone).purses().count(), 1);
}

#[test]
fn only_the_first_line_begins_a_wallet() {
    let mut wallet = wallet();
    let again = wallet.carried(NOW).remove(0);
    assert!(matches!(wallet.apply(&again), Err(WalletError::Journal)));
}

/// A journal with a life in it, and the wallet that it is.
fn journal(folder: &Path, seed: u64) -> (Journal, Wallet, Vec<Entry>) {
    let (wallet, written) = life(seed, 80);
    let (mut journal, found) = Journal::open(&folder.join("wallet.journal")).unwrap();
    assert_eq!(found, []);
    for entry in &written {
        journal.note(entry).unwrap();
    }
    (journal, wallet, written)
}

/// But for keys of tokens that were asked for: an archive has none.
fn keyless(mut entry: Entry) -> Entry {
    if let Entry::Reserving { pending, .. } = &mut entry {
        pending.seed = stored(&[0; 32]);
    }
    entry
}

fn every(path: &Path) -> Result<Vec<Entry>, JournalError> {
    let mut entries = Vec::new();
    Journal::each(path, |entry| {
        entries.push(keyless(entry));
        Ok::<_, JournalError>(())
    })?;
    Ok(entries)
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

#[test]
fn a_journal_that_dies_while_it_begins_anew_is_the_old_or_the_new_and_nobody_gets_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.journal");
    let (mut journal, mut wallet, written) = journal(folder.path(), 7);
    let mut written: Vec<_> = written.into_iter().map(keyless).collect();
    for round in 1..4 {
        let died = std::cell::RefCell::new(Vec::new());
        let at = |step| {
            assert!(matches!(Journal::open(&path), Err(JournalError::Locked { .. })), "{step}");
            let looked = Wallet::replay(Journal::read(&path).unwrap()).unwrap();
            assert!(is_same(&looked, &wallet), "{step}: who looks meanwhile");
            died.borrow_mut().push((step, copied(folder.path())));
        };
        journal.renew(wallet.carried(NOW), &at).unwrap();
        let died = died.into_inner();
        assert_eq!(died.len(), 5);
        for (step, copy) in died {
            let path = copy.path().join("wallet.journal");
            let (mut journal, found) = Journal::open(&path).unwrap();
            assert!(is_same(&Wallet::replay(found).unwrap(), &wallet), "{step}");
            assert!(every(&path).unwrap() == written, "{step}: nothing that was ever written is lost");
            // What was left over is in nobody's way.
            journal.renew(wallet.carried(NOW), &|_| {}).unwrap();
            drop(journal);
            assert!(is_same(&Wallet::replay(Journal::open(&path).unwrap().1).unwrap(), &wallet), "{step}");
            assert!(every(&path).unwrap() == written, "{step}: the next time");
        }
        // It goes on: what is written from now on stands in the new one.
        let more = pending_of(200 + round);
        journal.append(&more).unwrap();
        wallet.apply(&more).unwrap();
        written.push(keyless(more));
        drop(journal);
        let (again, found) = Journal::open(&path).unwrap();
        assert!(is_same(&Wallet::replay(found).unwrap(), &wallet));
        journal = again;
    }
}

#[test]
fn a_journal_that_began_anew_is_cut_behind_what_it_carries_on_or_not_read_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.journal");
    let (mut journal, mut wallet, _) = journal(folder.path(), 3);
    let carried = wallet.carried(NOW);
    journal.renew(carried, &|_| {}).unwrap();
    let begun = std::fs::metadata(&path).unwrap().len();
    let mut wallets = vec![(begun, format!("{:?}", wallet.pending))];
    for id in 210..213 {
        journal.append(&pending_of(id)).unwrap();
        wallet.apply(&pending_of(id)).unwrap();
        wallets.push((std::fs::metadata(&path).unwrap().len(), format!("{:?}", wallet.pending)));
    }
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    for end in 0..=whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let read = Journal::read(&path);
        let known = wallets.iter().rev().find(|(from, _)| end as u64 >= *from);
        match (read, known) {
            (Ok(entries), Some((_, pending))) => {
                assert_eq!(format!("{:?}", Wallet::replay(entries).unwrap().pending), *pending, "cut at {end}");
            }
            (Err(JournalError::Cut { .. }), None) => {}
            (read, _) => panic!("cut at {end} of {begun}: {read:?}"),
        }
    }
}

#[test]
fn an_archive_that_is_not_as_it_was_written_is_named_and_the_wallet_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, archive) = (folder.path().join("wallet.journal"), folder.path().join("wallet.archive.1"));
    let (mut journal, wallet, _) = journal(folder.path(), 5);
    journal.renew(wallet.carried(NOW), &|_| {}).unwrap();
    drop(journal);
    let whole = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(every(&path), Err(JournalError::Archive { .. })));
    std::fs::remove_file(&archive).unwrap();
    assert!(matches!(every(&path), Err(JournalError::Archive { path }) if path == archive));
    assert!(is_same(&Wallet::replay(Journal::open(&path).unwrap().1).unwrap(), &wallet));
}

#[test]
fn a_line_of_a_newer_version_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.journal");
    std::fs::write(&path, "{\"kind\":\"of_times_to_come\",\"more\":1}\n").unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::Newer { line: 1, .. })));
    std::fs::write(&path, "{\"kind\":\"closed\",\"more\":1}\n").unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::Line { line: 1, .. })));
}

#[test]
#[cfg(unix)]
fn a_linked_journal_stays_as_it_is() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("wallet.journal");
    std::os::unix::fs::symlink(other.path().join("wallet.journal"), &path).unwrap();
    let (mut journal, wallet, _) = journal(folder.path(), 5);
    journal.renew(wallet.carried(NOW), &|_| {}).unwrap();
    assert!(path.is_symlink() && !folder.path().join("wallet.archive.1").exists());
}

/// Writes a wallet of 10,000 named calls into a folder, for measurements (docs/reference/performance.md).
#[test]
#[ignore = "COMITY_WALLET=FOLDER cargo test -p comity-sdk --lib ten_thousand_calls -- --ignored"]
fn ten_thousand_calls() {
    let folder = std::path::PathBuf::from(std::env::var_os("COMITY_WALLET").expect("COMITY_WALLET"));
    let (mut journal, _) = Journal::open(&folder.join("wallet.journal")).unwrap();
    let mut wallet = Wallet::default();
    let first = token(1, Amount::from_ucr(4_000_000));
    wallet.apply(&first).unwrap();
    journal.note(&first).unwrap();
    let (model, mut node) = (model(), None);
    for call in 0..10_000 {
        let body = format!("question {call}");
        let key = Key::of_run(body.as_bytes(), NOW);
        let begun = wallet.begin(TOKEN, &Ask { key: Some(key), ..ask(&model, body.as_bytes(), 100) }, NOW).unwrap();
        let receipt = node.get_or_insert_with(|| Node::of(&begun)).receipt(&open(&begun), 4, |_| {});
        let receipt = Entry::Receipt { token: TOKEN, lane: begun.lane, receipt: stored(receipt.bytes()) };
        let answered = Entry::Answered { key: key.digest };
        for entry in [begun.entry.expect("new"), receipt, answered] {
            wallet.apply(&entry).unwrap();
            journal.note(&entry).unwrap();
        }
    }
    let start = |what: &str| {
        let from = std::time::Instant::now();
        let again = Wallet::replay(Journal::read(&folder.join("wallet.journal")).unwrap()).unwrap();
        let took = from.elapsed();
        let bytes = std::fs::metadata(folder.join("wallet.journal")).unwrap().len();
        println!("{what}: {bytes} bytes, read and replayed in {took:?}");
        assert!(is_same(&again, &wallet));
    };
    start("as it grew");
    std::fs::copy(folder.join("wallet.journal"), folder.join("grown")).unwrap();
    assert!(journal.is_due());
    let from = std::time::Instant::now();
    journal.renew(wallet.carried(NOW), &|_| {}).unwrap();
    println!("began anew in {:?}", from.elapsed());
    start("anew");
    assert!(!journal.is_due());
}
