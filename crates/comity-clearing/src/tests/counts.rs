//! Counts: a node's own meter beside receipts and ledger.

use std::sync::atomic::Ordering;

use comity_wire::api::count::{BreakKind, CountAsked, CountReply, MatchOfNode, Party};
use comity_wire::object::{Count, CountLine};
use comity_wire::{Timestamp, TokenId, cose};
use serde_json::{Value, json};

use super::disputes::{claimed, disputes, draw, end, show_tails};
use super::world::*;
use crate::acts::Outcome;
use crate::settlement::CHALLENGE_S;

const FROM: Timestamp = Timestamp(1_793_491_200);
const TO: Timestamp = Timestamp(1_796_083_200);

/// A token with so many charges, acknowledged, claimed, and done with.
async fn worked(world: &World, charges: u32) -> Lab {
    let mut lab = world.buy(1_000).await;
    for _ in 0..charges {
        lab.charge(lab.root(), 0, PRICE);
    }
    let acknowledged = vec![lab.acknowledge(&secret("holder"))];
    assert_eq!(world.claim(&lab.claim(acknowledged)).await.0, 200);
    lab.taken();
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    lab
}

fn line(token: TokenId, charges: u32) -> CountLine {
    CountLine { token, lanes: 1, charges: u64::from(charges), charged: ucr(charges * PRICE) }
}

/// A count of the month in which the world begins, in one page.
fn count(world: &World, mut lines: Vec<CountLine>) -> Count {
    lines.sort_by_key(|line| line.token);
    let at = world.house.now();
    Count { node: NODE, issuer: HOUSE, from: FROM, to: TO, page: 1, pages: 1, lines: list(lines), at }
}

async fn send_by(world: &World, count: &Count, (signer, caller): (&str, &str)) -> (u16, Value) {
    let signed = cose::sign(count, &secret(signer));
    let bytes = comity_wire::api::clearing::SignedBytes::new(signed.bytes()).unwrap();
    world.post("/v1/counts", json!({ "count": bytes }), &secret(caller)).await
}

async fn send(world: &World, count: &Count) -> CountReply {
    let (status, reply) = send_by(world, count, ("receipt", "transport")).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value(reply).unwrap()
}

async fn asked(world: &World) -> Vec<CountAsked> {
    let (status, reply) = world.get(&format!("/v1/counts?node={NODE}"), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value(reply["counts"].clone()).unwrap()
}

/// To the ninth day of the next month, for most of the time closed: it takes a commit every two minutes to be open.
async fn to_the_count(world: &World) {
    skip(world, TO.plus(8 * DAY).since(world.house.now())).await;
}

async fn skip(world: &World, seconds: u64) {
    world.clock.fetch_add(seconds, Ordering::SeqCst);
    world.house.beat().await.unwrap();
}

async fn a_month_is_counted_once_it_is_over(on: On) {
    let world = World::new(on, 10_000).await;
    let (first, second) = (worked(&world, 5).await, worked(&world, 3).await);
    world.buy(500).await; // Never used: on nobody's meter, and no break.
    assert_eq!(world.house.counts_turn().await.unwrap(), 0);
    skip(&world, TO.since(world.house.now()) + 8 * DAY - 60).await;
    assert_eq!(world.house.counts_turn().await.unwrap(), 0, "the tails of its last day may still be challenged");
    world.pass(60).await;
    assert_eq!(world.house.counts_turn().await.unwrap(), 1);
    assert_eq!(world.house.counts_turn().await.unwrap(), 0, "a month is asked for once");
    let now = world.house.now();
    assert_eq!(asked(&world).await, [CountAsked { from: FROM, to: TO, asked_at: now }]);
    let [waiting] = &world.house.matches(FROM, TO).await.unwrap()[..] else { panic!("one node") };
    assert_eq!((waiting.counted_at, waiting.matched.receipted, waiting.matched.differing), (None, ucr(80), 0));

    let whole = count(&world, vec![line(first.token.id, 5), line(second.token.id, 3)]);
    let reply = send(&world, &whole).await;
    let matched = reply.matched.clone().expect("it is whole");
    assert_eq!((matched.tokens, matched.charges, matched.differing), (2, 8, 0));
    assert_eq!((matched.metered, matched.receipted, matched.settled), (ucr(80), ucr(80), ucr(80)));
    assert!(matched.breaks.is_empty() && matched.in_transit.is_zero());
    assert_eq!(send(&world, &whole).await, reply, "the same page is answered again");
    assert!(asked(&world).await.is_empty());
    let stranger = comity_wire::NodeId([9; 16]);
    let refused = world.house.count_ask(FROM, TO, Some(stranger)).await.unwrap_err();
    assert!(refused.to_string().contains("whose work was sold"), "{refused}");
    // Another count is one that nobody waits for, until the operator asks.
    world.pass(1).await;
    let another = count(&world, vec![line(first.token.id, 5)]);
    let (status, refused) = send_by(&world, &another, ("receipt", "transport")).await;
    assert_eq!((status, code(&(status, refused.clone()))), (400, "invalid_request".to_owned()), "{refused}");
    assert_eq!(world.house.count_ask(FROM, TO, None).await.unwrap(), 1);
    assert_eq!(asked(&world).await.len(), 1);
    let matched = send(&world, &another).await.matched.unwrap();
    assert_eq!((matched.differing, matched.breaks[0].kind), (1, BreakKind::NotCounted));
    assert_eq!((matched.breaks[0].token, matched.breaks[0].whose_move), (second.token.id, Party::Owner));
    let [told] = &world.house.matches(FROM, TO).await.unwrap()[..] else { panic!("one node") };
    assert_eq!((told.counted_at, told.matched.differing), (Some(another.at), 1));
    assert!(world.house.audit().await.unwrap().holds);
}

/// Each of the three sides is wrong once, and each break is told to the micro-credit.
async fn meter_receipts_and_ledger_are_laid_beside_each_other(on: On) {
    let world = World::new(on, 10_000).await;
    let (less, more, above) = (worked(&world, 5).await, worked(&world, 3).await, worked(&world, 2).await);
    // Nobody acknowledges the last of them: within the window it is paid once it was shown.
    let mut tail = world.buy(1_000).await;
    tail.charge(tail.root(), 0, 40);
    assert_eq!(world.claim(&tail.claim(vec![])).await.0, 200);
    tail.taken();
    let unknown = TokenId([7; 16]);
    // The last claims come in while the house is open.
    world.pass(tail.token.terms.settle_by.since(START) + CHALLENGE_S).await;
    assert_eq!(show_tails(&world, &tail).await, 1);
    to_the_count(&world).await;
    assert_eq!(world.house.counts_turn().await.unwrap(), 1);
    let lines = vec![
        line(less.token.id, 7),
        line(more.token.id, 3),
        line(above.token.id, 1),
        CountLine { token: tail.token.id, lanes: 1, charges: 1, charged: ucr(40) },
        line(unknown, 9),
    ];
    let matched = send(&world, &count(&world, lines)).await.matched.unwrap();
    let mut found: Vec<_> = matched.breaks.iter().map(|found| (found.token, found.kind, found.amount)).collect();
    found.sort_by_key(|found| found.1);
    assert_eq!(
        found,
        [
            (unknown, BreakKind::NotKnown, ucr(90)),
            (less.token.id, BreakKind::NotClaimed, ucr(20)),
            (above.token.id, BreakKind::ClaimedAbove, ucr(10)),
        ]
    );
    assert_eq!((matched.metered, matched.receipted, matched.settled), (ucr(240), ucr(140), ucr(140)));
    assert!(matched.in_transit.is_zero(), "{matched:?}");
}

/// What is charged and claimed right before the count is on its way, and no break.
async fn what_is_on_its_way_is_no_break(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, 30);
    let acknowledged = vec![lab.acknowledge(&secret("holder"))];
    lab.charge(lab.root(), 0, 20);
    assert_eq!(world.claim(&lab.claim(acknowledged)).await.0, 200);
    let now = world.house.now();
    assert_eq!(
        world.house.count_ask(START, now.plus(1), None).await.unwrap_err().to_string(),
        "a period that is counted has begun, and has ended by now"
    );
    world.pass(60).await;
    let to = now.plus(60);
    assert_eq!(world.house.count_ask(START, to, None).await.unwrap(), 1);
    let asked = count(&world, vec![CountLine { token: lab.token.id, lanes: 1, charges: 3, charged: ucr(65) }]);
    let matched = send(&world, &Count { from: START, to, ..asked }).await.matched.unwrap();
    assert_eq!((matched.metered, matched.receipted, matched.settled), (ucr(65), ucr(50), ucr(30)));
    assert_eq!((matched.in_transit, matched.differing), (ucr(35), 0), "{matched:?}");
}

/// While a dispute is open what was paid counts as paid; what it takes back is a break, and the ledger says so.
async fn what_a_dispute_took_back_is_a_break(on: On) {
    let world = World::sampling(on, 10_000).await;
    let lab = claimed(&world, 30, 30).await;
    assert_eq!(draw(&world).await, 1);
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    let to = world.house.now();
    assert_eq!(world.house.count_ask(START, to, None).await.unwrap(), 1);
    let of_dispute = |world: &World| Count { from: START, to, ..count(world, vec![line(lab.token.id, 30)]) };
    let open = send(&world, &of_dispute(&world)).await.matched.unwrap();
    assert_eq!((open.settled, open.differing), (ucr(300), 0), "{open:?}");
    let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
    end(&world, dispute, Outcome::Reversed).await;
    let [told] = &world.house.matches(START, to).await.unwrap()[..] else { panic!("one node") };
    assert_eq!((told.matched.receipted, told.matched.settled), (ucr(300), ucr(0)));
    let breaks: Vec<_> = told.matched.breaks.iter().map(|found| (found.kind, found.amount)).collect();
    assert_eq!(breaks, [(BreakKind::Disputed, ucr(300))]);
}

async fn a_count_is_the_nodes_own_word_and_asked_for(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = worked(&world, 5).await;
    let refused = async |count: &Count, keys: (&str, &str)| code(&send_by(&world, count, keys).await);
    to_the_count(&world).await;
    let lines = || vec![line(lab.token.id, 5)];
    let own = ("receipt", "transport");
    assert_eq!(refused(&count(&world, lines()), own).await, "not_found", "nobody asked");
    assert_eq!(world.house.counts_turn().await.unwrap(), 1);
    assert_eq!(refused(&count(&world, lines()), ("receipt", "member")).await, "not_yours");
    assert_eq!(refused(&count(&world, lines()), ("transport", "transport")).await, "wrong_key");
    let (status, reply) = world.get(&format!("/v1/counts?node={NODE}"), &secret("member")).await;
    assert_eq!((status, code(&(status, reply))), (403, "not_yours".to_owned()));
    let of_another = Count { issuer: LAB, ..count(&world, lines()) };
    assert_eq!(refused(&of_another, own).await, "invalid_request");
    let ahead = Count { at: world.house.now().plus(3_600), ..count(&world, lines()) };
    assert_eq!(refused(&ahead, own).await, "invalid_request");
    assert_eq!(refused(&Count { to: TO.minus(1), ..count(&world, lines()) }, own).await, "not_found");
    // Two pages, in any order; no page twice, no token twice, no change of mind about how many there are.
    let second = Count { page: 2, pages: 2, ..count(&world, vec![line(TokenId([9; 16]), 1)]) };
    let reply = send(&world, &second).await;
    assert_eq!((reply.pages, reply.matched), (1, None));
    assert_eq!(refused(&Count { page: 2, pages: 2, ..count(&world, lines()) }, own).await, "invalid_request");
    assert_eq!(refused(&Count { pages: 3, ..count(&world, lines()) }, own).await, "invalid_request");
    let twice = Count { pages: 2, ..count(&world, vec![line(TokenId([9; 16]), 1)]) };
    assert_eq!(refused(&twice, own).await, "invalid_request");
    assert_eq!(asked(&world).await.len(), 1, "it is still waited for");
    let reply = send(&world, &Count { pages: 2, ..count(&world, lines()) }).await;
    assert_eq!((reply.pages, reply.matched.unwrap().differing), (2, 1));
    let [MatchOfNode { counted_at: Some(_), .. }] = &world.house.matches(FROM, TO).await.unwrap()[..] else {
        panic!("it has come")
    };
    assert!(world.house.audit().await.unwrap().holds);
    assert_eq!(world.sums().await[1], i64::from(5 * PRICE), "a match moves nothing");
}

on_each_store! {
    a_month_is_counted_once_it_is_over
    meter_receipts_and_ledger_are_laid_beside_each_other
    what_is_on_its_way_is_no_break
    what_a_dispute_took_back_is_a_break
    a_count_is_the_nodes_own_word_and_asked_for
}
