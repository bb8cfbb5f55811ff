//! What a node says: honest receipts, every lie in one, finals.

use super::*;
use crate::client::send::receipt::{Exchanged, Stands, judged};
use crate::lane::ReceiptFault;

#[test]
fn a_final_is_held_against_the_receipts_that_are_here() {
    let mut wallet = wallet();
    let mut receipts = Vec::new();
    let mut node = None;
    for question in [b"one", b"two"] {
        let begun = begin(&mut wallet, question, 100);
        let receipt = node.get_or_insert_with(|| Node::of(&begun)).receipt(&open(&begun), 2, |_| {});
        take(&mut wallet, begun.lane, &receipt);
        receipts.push(receipt);
    }
    let newest = receipts[1].object();
    let head = |lane, n, total, receipt| AckLane { leaf: newest.leaf, lane, n, total, receipt };
    let above = |heads: Vec<AckLane>| {
        let final_ = Final { token: TOKEN, node: NODE, lanes: List::new(heads).unwrap(), at: NOW };
        wallet.purse(TOKEN).unwrap().above(&final_)
    };
    let ours = (2, newest.total);
    assert_eq!(above(vec![head(0, 2, newest.total, receipts[1].id())]), [], "what is here");
    assert_eq!(above(vec![head(0, 1, receipts[0].total, receipts[0].id())]), [], "the node has lost one: its loss");
    let more = newest.total.checked_add(Amount::from_ucr(1)).unwrap();
    let other = Digest([9; 32]);
    for (said, known, head) in [
        ((3, more), ours, head(0, 3, more, other)),
        ((2, more), ours, head(0, 2, more, receipts[1].id())),
        ((2, newest.total), ours, head(0, 2, newest.total, other)),
        ((1, more), (0, Amount::ZERO), head(1, 1, more, other)),
    ] {
        let lane = head.lane;
        assert_eq!(above(vec![head]), [Above { lane, said, known }]);
    }
    // Of somebody whom a part was handed on to: that one knows.
    assert_eq!(above(vec![AckLane { leaf: other, ..head(0, 9, more, other) }]), []);
}

#[test]
fn an_honest_lane_is_taken_in_receipt_by_receipt() {
    let mut wallet = wallet();
    let mut node = None;
    for output in [1, 2, 3, 0, 7] {
        let begun = begin(&mut wallet, format!("question {output}").as_bytes(), 100);
        let node = node.get_or_insert_with(|| Node::of(&begun));
        let receipt = node.receipt(&open(&begun), output, |_| {});
        take(&mut wallet, begun.lane, &receipt);
    }
    // 5 · 3 + 13 · 0.5 = 21.5
    assert_eq!(wallet.purse(TOKEN).unwrap().spent(), Amount::from_ucr(22));
    let acknowledgement = wallet.purse(TOKEN).unwrap().acknowledge(NOW).unwrap();
    assert_eq!((acknowledgement.lanes[0].n, acknowledgement.lanes[0].total), (5, Amount::from_ucr(22)));
    // Two calls at once carry the same; it is written down once.
    let entries = wallet.purse(TOKEN).unwrap().acknowledged(&acknowledgement);
    assert_eq!(entries.len(), 1);
    wallet.apply(&entries[0]).unwrap();
    let purse = wallet.purse(TOKEN).unwrap();
    assert_eq!((purse.acknowledged(&acknowledgement), purse.acknowledge(NOW)), (Vec::new(), None));
}

/// A good receipt, of a call before: with another call's answer it is none.
#[test]
fn an_answer_comes_with_the_receipt_of_its_own_call() {
    let mut wallet = wallet();
    let first = begin(&mut wallet, b"one", 100);
    let mut node = Node::of(&first);
    let one = node.receipt(&open(&first), 2, |r| r.response = response_digest(&first.authority.nonce, b"one's"));
    let judge = |wallet: &Wallet, begun: &Begun, body: &[u8]| {
        let exchanged = Exchanged { authority: begun.authority.id(), nonce: &begun.authority.nonce, body };
        judged(wallet.purse(TOKEN).unwrap(), begun.lane, &one, &tariff(), Some(exchanged))
    };
    assert_eq!(judge(&wallet, &first, b"one's"), Ok(Stands::Anew));
    assert_eq!(judge(&wallet, &first, b"another"), Err(ReceiptFault::Response));
    take(&mut wallet, first.lane, &one);
    // Its node was asked for it, and then the answer came after all.
    assert_eq!(judge(&wallet, &first, b"one's"), Ok(Stands::Already));
    assert_eq!(judge(&wallet, &first, b"another"), Err(ReceiptFault::Response));
    let second = begin(&mut wallet, b"two", 100);
    assert_eq!(second.lane, first.lane);
    assert_eq!(judge(&wallet, &second, b"one's"), Err(ReceiptFault::OtherRequest));
    let asked = judged(wallet.purse(TOKEN).unwrap(), first.lane, &one, &tariff(), None);
    assert_eq!(asked, Ok(Stands::Already), "asked for alone, it is what the node has");
}

#[test]
fn every_lie_in_a_receipt_is_found() {
    type Lie = (fn(&mut Receipt), ReceiptFault);
    let lies: [Lie; 21] = [
        (|r| r.seq = 2, ReceiptFault::OtherRequest),
        (|r| r.authority = Digest([0; 32]), ReceiptFault::OtherRequest),
        (|r| r.request = Digest([0; 32]), ReceiptFault::OtherRequest),
        (|r| r.token = TokenId([2; 16]), ReceiptFault::Other("token")),
        (|r| r.leaf = Digest([0; 32]), ReceiptFault::Other("leaf")),
        (|r| r.lane = 1, ReceiptFault::Other("lane")),
        (|r| r.item = 1, ReceiptFault::Other("item")),
        (|r| r.node = NodeId([8; 16]), ReceiptFault::Other("node")),
        (|r| r.model = "lab/large".parse().unwrap(), ReceiptFault::Other("model")),
        (|r| r.op = Op::Completions, ReceiptFault::Other("op")),
        (|r| r.tariff = Digest([0; 32]), ReceiptFault::Other("tariff")),
        (|r| r.release = Digest([0; 32]), ReceiptFault::Other("release")),
        (
            |r| (r.charge, r.total) = (Amount::from_ucr(101), Amount::from_ucr(101)),
            ReceiptFault::AboveMaximum { charge: Amount::from_ucr(101), max: Amount::from_ucr(100) },
        ),
        (|r| (r.n, r.history) = (2, Digest([0; 32])), ReceiptFault::Gap { expected: 1, got: 2 }),
        (|r| r.total = Amount::from_ucr(50), ReceiptFault::Total),
        (|r| r.meters_total.set(Meter::OutputTokens, 9), ReceiptFault::Running("meters")),
        (|r| r.flags_total = Flags([(1, 1)].into()), ReceiptFault::Running("flags")),
        (|r| both(r, Meter::Requests, 2), ReceiptFault::Meter { meter: Meter::Requests, units: 2, due: 1 }),
        (|r| both(r, Meter::InputBytes, 9), ReceiptFault::Meter { meter: Meter::InputBytes, units: 9, due: 8 }),
        (|r| both(r, Meter::InputTokens, 25), ReceiptFault::Meter { meter: Meter::InputTokens, units: 25, due: 24 }),
        (|r| (r.charge, r.total) = (Amount::from_ucr(8), Amount::from_ucr(8)), ReceiptFault::Price),
    ];
    for (at, (lie, fault)) in lies.into_iter().enumerate() {
        let mut wallet = wallet();
        let begun = begin(&mut wallet, b"question", 100);
        let mut node = Node::of(&begun);
        let honest = Node::of(&begun).receipt(&open(&begun), 8, |_| {});
        let receipt = node.receipt(&open(&begun), 8, lie);
        let purse = wallet.purse(TOKEN).unwrap();
        assert_eq!(purse.check(begun.lane, &receipt, &tariff()), Err(fault), "lie {at}");
        assert_eq!(purse.check(begun.lane, &honest, &tariff()), Ok(()));
    }
}

fn both(receipt: &mut Receipt, meter: Meter, units: u64) {
    receipt.meters.set(meter, units);
    receipt.meters_total.set(meter, units);
}

#[test]
fn a_history_that_leaves_one_out_is_found() {
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let mut node = Node::of(&begun);
    let receipt = node.receipt(&open(&begun), 1, |_| {});
    take(&mut wallet, begun.lane, &receipt);
    let begun = begin(&mut wallet, b"two", 100);
    let receipt = node.receipt(&open(&begun), 1, |r| r.history = Frontier::default().root());
    let purse = wallet.purse(TOKEN).unwrap();
    assert_eq!(purse.check(begun.lane, &receipt, &tariff()), Err(ReceiptFault::History));
}

#[test]
fn a_wrong_receipt_is_evidence_and_stops_the_token() {
    let model = model();
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let mut node = Node::of(&begun);
    let receipt = node.receipt(&open(&begun), 1, |_| {});
    take(&mut wallet, begun.lane, &receipt);
    let begun = begin(&mut wallet, b"two", 100);
    let lie = node.receipt(&open(&begun), 1, |r| r.release = Digest([0; 32]));
    let fault = Entry::Fault {
        token: TOKEN,
        lane: begun.lane,
        seq: 2,
        receipt: Some(stored(lie.bytes())),
        what: "another release".to_owned(),
    };
    wallet.apply(&fault).unwrap();
    let stopped = |result| matches!(result, Err(WalletError::Stopped { token: TOKEN, node: NODE, .. }));
    assert!(stopped(wallet.begin(TOKEN, &ask(&model, b"three", 1), NOW).map(|_| ())));
    let purse = wallet.purse_for(NODE, &model, Op::Chat, Amount::ZERO, &Naming::default(), NOW).map(|_| ());
    assert!(stopped(purse), "nor is another token drawn");
    assert_eq!(wallet.purse(TOKEN).unwrap().acknowledge(NOW), None, "an acknowledgement is an order to pay");
    let asked_again = wallet.purse(TOKEN).unwrap().doubtful(&UnderWay::default()).count();
    assert_eq!(asked_again, 0, "the node has said what it says");
    // Once it is ended at its node, the user may go on.
    wallet.apply(&Entry::Closed { token: TOKEN }).unwrap();
    assert!(wallet.purse_for(NODE, &model, Op::Chat, Amount::ZERO, &Naming::default(), NOW).unwrap().is_none());
}

#[test]
fn a_missing_receipt_stops_the_token_until_it_comes() {
    let model = model();
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let missing = Entry::Fault { token: TOKEN, lane: begun.lane, seq: 1, receipt: None, what: String::new() };
    wallet.apply(&missing).unwrap();
    assert!(matches!(wallet.begin(TOKEN, &ask(&model, b"two", 1), NOW), Err(WalletError::Stopped { .. })));
    let receipt = Node::of(&begun).receipt(&open(&begun), 1, |_| {});
    take(&mut wallet, begun.lane, &receipt);
    wallet.begin(TOKEN, &ask(&model, b"two", 1), NOW).unwrap();
}

#[test]
fn a_request_that_was_believed_free_and_charged_after_all_is_known_again() {
    let mut wallet = wallet();
    let first = begin(&mut wallet, b"one", 100);
    let mut node = Node::of(&first);
    wallet.apply(&Entry::Free { token: TOKEN, lane: first.lane, seq: 1 }).unwrap();
    let second = begin(&mut wallet, b"two", 50);
    assert_eq!((second.lane, second.authority.seq), (first.lane, 1));
    let receipt = node.receipt(&open(&first), 1, |_| {});
    take(&mut wallet, first.lane, &receipt);
    // The second was not charged and never will be: its place is taken.
    assert_eq!(begin(&mut wallet, b"two", 50).authority.seq, 2);
}
