//! Calls that have a name: one call whoever asks again, and never another's.

use super::*;

fn place(wallet: &Wallet, body: &[u8], key: &str, now: Timestamp) -> Place {
    wallet.place(&named(&model(), body, key), &UnderWay::default(), now).unwrap()
}

#[test]
fn a_key_names_one_call_before_and_after_its_charge() {
    let mut wallet = wallet();
    assert!(matches!(place(&wallet, b"one", "k", NOW), Place::New));
    let begun = begin_named(&mut wallet, b"one", "k");
    let Place::Unknown(again) = place(&wallet, b"one", "k", NOW) else { panic!("its outcome is unknown") };
    assert_eq!((again.authority.id(), again.entry), (begun.authority.id(), None));
    let under_way = UnderWay::from([(TOKEN, begun.lane)]);
    let concurrent = wallet.place(&named(&model(), b"one", "k"), &under_way, NOW).unwrap();
    assert!(matches!(concurrent, Place::UnderWay));
    let twice = wallet.begin(TOKEN, &named(&model(), b"one", "k"), NOW);
    assert!(matches!(twice, Err(WalletError::Named)), "never signed twice, whoever asks");

    let receipt = Node::of(&begun).receipt(&open(&begun), 4, |_| {});
    take(&mut wallet, begun.lane, &receipt);
    // The lane goes on; the key still names the first.
    begin(&mut wallet, b"another", 100);
    let Place::Charged { begun: again, receipt: known, charge } = place(&wallet, b"one", "k", NOW) else {
        panic!("it was charged")
    };
    assert_eq!((again.authority.id(), known, charge), (begun.authority.id(), receipt.id(), receipt.charge));
    assert!(matches!(wallet.begin(TOKEN, &named(&model(), b"one", "k"), NOW), Err(WalletError::Named)));
    // Once the token has ended there is nobody left to ask.
    assert!(matches!(place(&wallet, b"one", "k", NOW.plus(3600)), Place::Gone { .. }));
}

#[test]
fn a_key_with_another_request_is_refused() {
    let mut wallet = wallet();
    begin_named(&mut wallet, b"one", "k");
    assert!(matches!(place(&wallet, b"two", "k", NOW), Place::Other));
    let (model, under_way) = (model(), UnderWay::default());
    let elsewhere = Ask { path: "/v1/completions", ..named(&model, b"one", "k") };
    assert!(matches!(wallet.place(&elsewhere, &under_way, NOW).unwrap(), Place::Other));
}

#[test]
fn a_new_key_never_takes_the_place_of_another_call() {
    let mut wallet = wallet();
    let first = begin_named(&mut wallet, b"one", "a");
    let under_way = UnderWay::default();
    let model = model();
    for key in [named(&model, b"one", "b").key, None] {
        let ask = Ask { key, ..ask(&model, b"one", 100) };
        assert!(matches!(wallet.place(&ask, &under_way, NOW).unwrap(), Place::New), "{key:?}");
    }
    let second = begin_named(&mut wallet, b"one", "b");
    assert_ne!(first.authority.id(), second.authority.id());
    // A no from the node frees it: the same key asks for the first time again.
    wallet.apply(&Entry::Free { token: TOKEN, lane: first.lane, seq: 1 }).unwrap();
    assert!(matches!(place(&wallet, b"one", "a", NOW), Place::New));
    assert!(matches!(place(&wallet, b"one", "b", NOW), Place::Unknown(_)));
}

#[test]
fn a_key_whose_seq_was_charged_for_another_is_free() {
    let mut wallet = wallet();
    let first = begin_named(&mut wallet, b"one", "a");
    let kept = open(&first);
    wallet.apply(&Entry::Free { token: TOKEN, lane: first.lane, seq: 1 }).unwrap();
    begin_named(&mut wallet, b"two", "b");
    // The node had charged the first after all.
    take(&mut wallet, first.lane, &Node::of(&first).receipt(&kept, 4, |_| {}));
    assert!(matches!(place(&wallet, b"one", "a", NOW), Place::Charged { .. }));
    assert!(matches!(place(&wallet, b"two", "b", NOW), Place::New));
}

#[test]
fn keys_are_found_again_after_a_restart() {
    let mut entries = vec![token(1, BUDGET)];
    let mut wallet = wallet();
    let begun = begin_named(&mut wallet, b"one", "k");
    entries.extend(begun.entry.clone());
    let line = serde_json::to_string(&entries[1]).unwrap();
    assert!(!line.contains("\"k\""), "a key's text is not written down");
    let replayed = Wallet::replay(
        entries.iter().map(|entry| serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap()),
    );
    assert!(matches!(place(&replayed.unwrap(), b"one", "k", NOW), Place::Unknown(_)));
}

fn part<'a>(model: &'a ModelId, body: &'a [u8], key: &str, asked: u8, at: &str) -> Ask<'a> {
    let whole = Key::of_caller(key.as_bytes(), NOW);
    Ask { key: Some(whole.at_model(Digest([asked; 32]), &at.parse().unwrap())), ..ask(model, body, 100) }
}

#[test]
fn of_a_call_that_any_model_may_answer_one_part_is_signed_at_a_time() {
    let (mut wallet, model) = (wallet(), model());
    let whole = Key::of_caller(b"k", NOW);
    let asked = Digest([1; 32]);
    assert_eq!(wallet.whole(&whole, &asked, NOW), Whole::New);
    let first = wallet.begin(TOKEN, &part(&model, b"one", "k", 1, "lab/tiny"), NOW).unwrap();
    wallet.apply(first.entry.as_ref().unwrap()).unwrap();
    let at = Whole::At { model: model.clone(), release: Some(Digest([7; 32])) };
    assert_eq!(wallet.whole(&whole, &asked, NOW), at);
    // It may be charged: nothing is signed elsewhere, by whatever path.
    let elsewhere = part(&model, b"one", "k", 1, "museum/tiny");
    assert!(matches!(wallet.begin(TOKEN, &elsewhere, NOW), Err(WalletError::Named)));
    // A clear no, and another may be asked; which is then the one.
    wallet.apply(&Entry::Free { token: TOKEN, lane: first.lane, seq: 1 }).unwrap();
    assert_eq!(wallet.whole(&whole, &asked, NOW), Whole::New);
    let second = wallet.begin(TOKEN, &elsewhere, NOW).unwrap();
    wallet.apply(second.entry.as_ref().unwrap()).unwrap();
    let again = wallet.begin(TOKEN, &part(&model, b"one", "k", 1, "lab/tiny"), NOW);
    assert!(matches!(again, Err(WalletError::Named)), "the first is back, and the second may be charged");
    let receipt = Node::of(&second).receipt(&open(&second), 4, |_| {});
    take(&mut wallet, second.lane, &receipt);
    let charged = Outcome::Charged { receipt: receipt.id(), charge: receipt.charge };
    assert_eq!(wallet.keys().outcome(&whole.digest), Some(charged));
    let again = wallet.begin(TOKEN, &part(&model, b"one", "k", 1, "lab/tiny"), NOW);
    assert!(matches!(again, Err(WalletError::Named)), "paid once, never elsewhere too");
    assert!(matches!(wallet.whole(&whole, &asked, NOW), Whole::At { .. }));
}

#[test]
fn a_key_names_one_request_whether_it_names_a_model_or_not() {
    let (mut wallet, model) = (wallet(), model());
    let begun = wallet.begin(TOKEN, &part(&model, b"one", "open", 1, "lab/tiny"), NOW).unwrap();
    wallet.apply(begun.entry.as_ref().unwrap()).unwrap();
    assert_eq!(wallet.whole(&Key::of_caller(b"open", NOW), &Digest([2; 32]), NOW), Whole::Other);
    assert!(matches!(place(&wallet, b"one", "open", NOW), Place::Other), "it named no model then");
    begin_named(&mut wallet, b"two", "named");
    assert_eq!(wallet.whole(&Key::of_caller(b"named", NOW), &Digest([1; 32]), NOW), Whole::Other);
}
