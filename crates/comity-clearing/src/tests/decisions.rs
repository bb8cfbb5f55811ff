//! Heads of owners' decisions: each goes on from the one before, and stands in the house's log.

use comity_wire::api::decisions::{DecisionsReply, HeadKnown};
use comity_wire::log::{Entry, Growing, LogDecisions, Steps, Tiles};
use comity_wire::object::DecisionHead;
use comity_wire::{Digest, Timestamp, cose};
use serde_json::{Value, json};

use super::world::*;
use crate::log::{Disagreement, LogAuditor, LogBreak};

/// A node's tree of decisions.
struct Decided {
    tree: Growing,
    n: u64,
    log: u64,
}

impl Decided {
    fn new(log: u64) -> Self {
        Self { tree: Growing::default(), n: 0, log }
    }

    fn decide(&mut self, from: u64, to: u64) {
        (from..to).for_each(|number| self.tree.push(&Digest::of(&number.to_be_bytes()).0));
    }

    /// The next head, and the proof that it goes on from `before` leaves.
    fn head(&mut self, world: &World, before: u64) -> (DecisionHead, Vec<Digest>) {
        self.n += 1;
        let (size, root) = (self.tree.size(), self.tree.root());
        let steps = Steps::consistency(before, size).unwrap();
        let mut tiles = Tiles::default();
        for tile in steps.tiles() {
            tiles.insert(tile, tile.width_at(size), &self.tree.tile(tile)).unwrap();
        }
        let head = DecisionHead { node: NODE, n: self.n, log: self.log, size, root, at: world.now() };
        (head, steps.of(&tiles).unwrap())
    }
}

async fn bring_by(
    world: &World,
    (head, proof): &(DecisionHead, Vec<Digest>),
    (signer, caller): (&str, &str),
) -> (u16, Value) {
    let signed = cose::sign(head, &secret(signer));
    let bytes = comity_wire::api::clearing::SignedBytes::new(signed.bytes()).unwrap();
    world.post("/v1/decisions", json!({ "head": bytes, "consistency": proof }), &secret(caller)).await
}

async fn bring(world: &World, head: &(DecisionHead, Vec<Digest>)) -> (u16, Value) {
    bring_by(world, head, ("receipt", "transport")).await
}

async fn taken(world: &World, head: &(DecisionHead, Vec<Digest>)) -> HeadKnown {
    let (status, reply) = bring(world, head).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value::<DecisionsReply>(reply).unwrap().newest.unwrap()
}

async fn newest(world: &World) -> Option<HeadKnown> {
    let (status, reply) = world.get(&format!("/v1/decisions?node={NODE}"), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value::<DecisionsReply>(reply).unwrap().newest
}

async fn refused(world: &World, head: &(DecisionHead, Vec<Digest>)) -> String {
    let reply = bring(world, head).await;
    assert!(reply.0 >= 400, "{reply:?}");
    code(&reply)
}

/// The entry at a place of the house's log.
async fn entry(world: &World, index: u64) -> Entry {
    let (status, reply) = world.get(&format!("/v1/log/inclusion?index={index}"), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    let bytes = signed_bytes(&reply["entry"]);
    Entry::from_bytes(&bytes).unwrap()
}

async fn heads_are_logged_and_each_goes_on_from_the_one_before(on: On) {
    let world = World::new(on, 10_000).await;
    assert_eq!(newest(&world).await, None);
    let mut decided = Decided::new(1);
    decided.decide(0, 5);
    let first = decided.head(&world, 0);
    let known = taken(&world, &first).await;
    assert_eq!((known.n, known.log, known.size, known.root, known.index), (1, 1, 5, first.0.root, None));
    assert_eq!(taken(&world, &first).await, known, "the newest one again is answered again");
    world.house.log_advance().await.unwrap();
    let index = newest(&world).await.unwrap().index.expect("it is in the log");
    let expected = LogDecisions { node: NODE, n: 1, log: 1, content: known.content };
    assert_eq!(entry(&world, index).await, Entry::Decisions(expected));

    decided.decide(5, 300);
    let second = decided.head(&world, 5);
    // Other acts stand between and behind, and the place is still its own.
    world.buy(100).await;
    let known = taken(&world, &second).await;
    world.buy(100).await;
    world.house.log_advance().await.unwrap();
    let index = newest(&world).await.unwrap().index.unwrap();
    let Entry::Decisions(said) = entry(&world, index).await else { panic!("another entry") };
    assert_eq!((said.n, said.content), (2, known.content));
    let report = world.house.log_audit().await.unwrap();
    assert!(report.holds, "{:?}", report.disagreements);
    assert_eq!(world.sums().await[1], 0, "a head moves nothing");
}

async fn an_hour_has_room_for_sixty(on: On) {
    let world = World::new(on, 10_000).await;
    let mut decided = Decided::new(1);
    for size in 1..=60 {
        decided.decide(size - 1, size);
        taken(&world, &decided.head(&world, size - 1)).await;
    }
    decided.decide(60, 61);
    let one_more = decided.head(&world, 60);
    assert_eq!(refused(&world, &one_more).await, "too_many_requests");
    world.pass(3_600).await;
    assert_eq!(taken(&world, &one_more).await.size, 61);
}

async fn what_was_decided_cannot_be_decided_anew(on: On) {
    let world = World::new(on, 10_000).await;
    let mut decided = Decided::new(1);
    decided.decide(0, 40);
    taken(&world, &decided.head(&world, 0)).await;
    let kept = newest(&world).await;

    // One event of the forty is another one; whatever proof goes with it.
    let mut anew = Decided { n: 1, ..Decided::new(1) };
    anew.decide(0, 17);
    anew.tree.push(&[7; 32]);
    anew.decide(18, 50);
    let head = anew.head(&world, 40);
    assert_eq!(refused(&world, &head).await, "broken_history");
    assert_eq!(refused(&world, &(head.0, Vec::new())).await, "broken_history");
    // As many, fewer, and a number that is not above the one before.
    let mut same = Decided { n: 1, ..Decided::new(1) };
    same.tree.push(&[7; 32]);
    same.decide(1, 40);
    assert_eq!(refused(&world, &same.head(&world, 40)).await, "broken_history");
    let mut fewer = Decided { n: 1, ..Decided::new(1) };
    fewer.decide(0, 39);
    assert_eq!(refused(&world, &fewer.head(&world, 0)).await, "broken_history");
    decided.decide(40, 41);
    let mut again = decided.head(&world, 40);
    again.0.n = 1;
    assert_eq!(refused(&world, &again).await, "broken_history");
    assert_eq!(newest(&world).await, kept, "nothing of it was kept");

    // Another log may begin, and says so for good; the one before is over.
    let mut next = Decided { n: 2, ..Decided::new(2) };
    next.decide(0, 3);
    let head = next.head(&world, 0);
    assert_eq!(refused(&world, &(head.0.clone(), vec![Digest::ZERO])).await, "invalid_request");
    taken(&world, &head).await;
    decided.n = 5;
    assert_eq!(refused(&world, &decided.head(&world, 40)).await, "broken_history");
    world.house.log_advance().await.unwrap();
    assert_eq!(newest(&world).await.unwrap().log, 2);
}

async fn a_head_is_the_nodes_own_word(on: On) {
    let world = World::new(on, 10_000).await;
    let mut decided = Decided::new(1);
    decided.decide(0, 2);
    let head = decided.head(&world, 0);
    let by = |signer, caller| bring_by(&world, &head, (signer, caller));
    assert_eq!(code(&by("transport", "transport").await), "wrong_key");
    assert_eq!(code(&by("receipt", "holder").await), "not_yours");
    let asked = world.get(&format!("/v1/decisions?node={NODE}"), &world.member).await;
    assert_eq!((asked.0, code(&asked).as_str()), (403, "not_yours"));
    let mut ahead = head.clone();
    ahead.0.at = world.now().plus(3_600);
    assert_eq!(refused(&world, &ahead).await, "invalid_request");
    assert_eq!(refused(&world, &(head.0.clone(), vec![Digest::ZERO])).await, "invalid_request");
    assert_eq!(newest(&world).await, None);
    // What a head says of the time is true to the hour; the newest one may come again whenever.
    let mut old = head.clone();
    old.0.at = Timestamp(world.now().0 - 3_601);
    assert_eq!(refused(&world, &old).await, "invalid_request");
    old.0.at = Timestamp(world.now().0 - 3_600);
    let known = taken(&world, &old).await;
    world.pass(7_200).await;
    assert_eq!(taken(&world, &old).await, known);
    for meddling in ["UPDATE decision_head SET size = 9", "DELETE FROM decision_head"] {
        let done = comity_ledger::db::query(meddling).execute(&mut world.books.connect().await.db()).await;
        assert!(done.is_err(), "{meddling}");
    }
}

/// A head that the house has and its log does not.
async fn a_log_without_a_head_that_was_taken_disagrees(on: On) {
    let world = World::new(on, 10_000).await;
    let mut decided = Decided::new(1);
    decided.decide(0, 2);
    let known = taken(&world, &decided.head(&world, 0)).await;
    let agreed = || async { world.house.log_audit().await.unwrap().disagreements };
    assert_eq!(agreed().await, [], "it waits");
    world.tamper("DELETE FROM unsealed WHERE kind = 6").await;
    world.house.log_advance().await.unwrap();
    assert_eq!(agreed().await, [Disagreement::ActMissing { content: known.content }]);
}

#[test]
fn an_auditor_sees_heads_that_do_not_ascend() {
    use comity_wire::Encode as _;
    let breaks = |heads: &[(u64, u64)]| {
        let mut auditor = LogAuditor::new();
        for (n, log) in heads {
            let content = Digest::of(&[*n as u8, *log as u8]);
            auditor.entry(&Entry::Decisions(LogDecisions { node: NODE, n: *n, log: *log, content }).to_cbor());
        }
        auditor.finish(None).breaks
    };
    assert_eq!(breaks(&[(1, 1), (2, 1), (5, 3)]), []);
    let node = NODE;
    assert_eq!(breaks(&[(1, 1), (1, 1)]), [LogBreak::DecisionsNotAscending { index: 1, node }]);
    assert_eq!(breaks(&[(1, 2), (2, 1)]), [LogBreak::DecisionsNotAscending { index: 1, node }]);
}

on_each_store! {
    an_hour_has_room_for_sixty
    heads_are_logged_and_each_goes_on_from_the_one_before
    what_was_decided_cannot_be_decided_anew
    a_head_is_the_nodes_own_word
    a_log_without_a_head_that_was_taken_disagrees
}
