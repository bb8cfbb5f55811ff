//! What nobody acknowledged: how a long tail is asked for, and what a node cannot put into one.

use comity_wire::Amount;
use comity_wire::api::challenge::{Challenge, ChallengeCause, Shown};
use serde_json::{Value, json};

use super::disputes::{challenge, disputes, draw, show, show_all, waiting};
use super::logging::verified;
use super::world::*;
use crate::settlement::CHALLENGE_S;

/// A lane of which nothing is acknowledged has stood its time: what the house asks for.
async fn asked(world: &World, lab: &mut Lab) -> Challenge {
    let (status, reply) = world.claim(&lab.claim(vec![])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(0)), "{reply}");
    lab.taken();
    draw(world).await;
    world.pass(CHALLENGE_S).await;
    draw(world).await;
    let [tail] = &waiting(world).await[..] else { panic!("one lane, one challenge") };
    assert_eq!(tail.cause, ChallengeCause::Tail);
    tail.clone()
}

/// What the house says of the receipts of these numbers; the last answer.
async fn said_of(world: &World, lab: &Lab, tail: &Challenge, numbers: &[u64]) -> String {
    let key = (tail.leaf, tail.lane);
    let shown: Vec<Shown> = numbers.iter().map(|n| lab.show(key, *n, tail.newest)).collect();
    let (_, reply) = show(world, tail, shown).await;
    reply["detail"].as_str().unwrap_or_default().to_owned()
}

async fn is_never_paid(world: &World) {
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    assert_eq!(world.sums().await[1], 0, "nothing of the tail is paid");
}

async fn a_long_tail_is_shown_by_what_it_charges(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    for _ in 0..140 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let tail = asked(&world, &mut lab).await;
    let window = lab.token.terms.window;
    let most = window.min(ucr(140 * PRICE));
    assert!(tail.left.is_empty() && !tail.left_at.is_empty() && tail.blind.is_some(), "{tail:?}");
    assert!(tail.left_at.len() <= 64 && tail.left_at.iter().all(|at| *at > Amount::ZERO && *at <= most), "{tail:?}");
    // The same place is drawn by nobody but the house: its signature is in the seed.
    assert!(tail.log_size.is_some());
    // A member who doubts it meanwhile is told that it is asked for; nothing is drawn a second time.
    let (status, doubted) = challenge(&world, &lab, "I never asked that").await;
    assert_eq!((status, &doubted["id"]), (200, &json!(tail.id)), "{doubted}");
    assert_eq!(waiting(&world).await.len(), 1);
    let reply = show_all(&world, &lab, &tail).await;
    assert_eq!(
        (&reply["state"], &reply["left"], reply.get("left_at")),
        (&json!("answered"), &json!([]), None),
        "{reply}"
    );
    assert_eq!(world.sums().await[1], most.ucr());
    assert!(world.house.audit().await.unwrap().holds);
    // Whoever has the log alone finds the claim that it was paid on.
    world.house.log_advance().await.unwrap();
    let report = verified(&world).await;
    assert!(report.holds, "{report:?}");
}

/// One receipt of a hundred, and a third of the money.
async fn what_is_made_up_is_met_by_as_much_as_it_takes(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    for _ in 0..60 {
        lab.charge(lab.root(), 0, 1);
    }
    lab.inflate(lab.root(), 0, 30);
    for _ in 0..39 {
        lab.charge(lab.root(), 0, 1);
    }
    let tail = asked(&world, &mut lab).await;
    // 139 µcr, of which those from the 61st to the 100th are one receipt's that was signed for 10.
    let made_up = tail.left_at.iter().filter(|at| (61..=100).contains(&at.ucr())).count();
    assert!(made_up > 0, "{:?}", tail.left_at);
    assert!(said_of(&world, &lab, &tail, &[61]).await.contains("which is not its charge"));
    // Around it is no way: everything else may be shown, and this is still asked for.
    for numbers in [(1..=16), (17..=32), (33..=48), (49..=60), (62..=77), (78..=93), (94..=100)] {
        let numbers: Vec<u64> = numbers.collect();
        assert_eq!(said_of(&world, &lab, &tail, &numbers).await, "");
    }
    let [left] = &waiting(&world).await[..] else { panic!("it is open") };
    assert!(left.left_at.iter().all(|at| (61..=100).contains(&at.ucr())) && !left.left_at.is_empty(), "{left:?}");
    is_never_paid(&world).await;
    assert!(disputes(&world).await.is_empty());
}

/// What is shown proves what was drawn from. A node that holds an acknowledgement back would else have the next window for nothing.
async fn what_lies_above_the_window_is_asked_for_by_itself(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    let window = u32::try_from(lab.token.terms.window.ucr()).unwrap();
    assert!((640..2_000).contains(&window), "{window}");
    for _ in 0..window / PRICE {
        lab.charge(lab.root(), 0, PRICE);
    }
    let acknowledged = lab.acknowledge(&secret("holder"));
    lab.inflate(lab.root(), 0, window - PRICE);
    let tail = asked(&world, &mut lab).await;
    assert!(tail.left_at.iter().all(|at| *at <= ucr(window)), "{tail:?}");
    assert_eq!(show_all(&world, &lab, &tail).await["state"], json!("answered"));
    assert_eq!(world.sums().await[1], i64::from(window));
    let (status, reply) = world.claim(&lab.claim(vec![acknowledged])).await;
    assert_eq!((status, &reply["settled"], &reply["settled_total"]), (200, &json!(0), &json!(window)), "{reply}");
    // Whoever doubts the rest may ask; else the house does, when its time has come.
    world.pass(CHALLENGE_S).await;
    draw(&world).await;
    let [rest] = &waiting(&world).await[..] else { panic!("the rest is asked for") };
    assert_ne!(rest.id, tail.id);
    assert_eq!(rest.left, [u64::from(window / PRICE) + 1], "one receipt is above what was acknowledged");
    let said = said_of(&world, &lab, rest, &rest.left.clone()).await;
    assert!(said.contains("which is not its charge"), "{said}");
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    assert_eq!(world.sums().await[1], i64::from(window));
    assert!(world.house.audit().await.unwrap().holds);
}

/// A request that was charged and acknowledged long ago is charged once more.
async fn what_was_acknowledged_is_not_charged_again(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    for _ in 0..140 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let acknowledged = lab.acknowledge(&secret("holder"));
    lab.charge_again(lab.root(), 0, 1);
    let (status, reply) = world.claim(&lab.claim(vec![acknowledged])).await;
    assert_eq!((status, &reply["settled"], &reply["unacknowledged"]), (200, &json!(1_400), &json!(10)), "{reply}");
    lab.taken();
    draw(&world).await;
    world.pass(CHALLENGE_S).await;
    draw(&world).await;
    let [tail] = &waiting(&world).await[..] else { panic!("one lane, one challenge") };
    assert_eq!(tail.left, [141]);
    let said = said_of(&world, &lab, tail, &[141]).await;
    assert!(said.contains("n 141 is for seq 1: a request is not charged so long after"), "{said}");
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    assert_eq!(world.sums().await[1], 1_400);
}

/// One request that was signed, and many receipts that say they are parts of it.
async fn a_request_has_one_charge(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    lab.charge(lab.root(), 0, PRICE);
    lab.item = 1;
    lab.charge_again(lab.root(), 0, 1);
    let tail = asked(&world, &mut lab).await;
    assert_eq!(tail.left, [1, 2]);
    assert_eq!(said_of(&world, &lab, &tail, &[1]).await, "");
    let said = said_of(&world, &lab, &tail, &[2]).await;
    assert!(said.contains("item 1 of a request"), "{said}");
    is_never_paid(&world).await;
}

/// A program of before, at work on these books beside this one, left a lane with the claim that it knew.
async fn a_lane_whose_claim_was_not_noted_is_asked_for_all_the_same(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    lab.charge(lab.root(), 0, PRICE);
    let first: Value = lab.claim(vec![]);
    assert_eq!(world.claim(&first).await.0, 200);
    lab.taken();
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    draw(&world).await;
    world.tamper("UPDATE lane SET claim = (SELECT id FROM claim ORDER BY number LIMIT 1)").await;
    world.pass(CHALLENGE_S).await;
    draw(&world).await;
    let [tail] = &waiting(&world).await[..] else { panic!("one lane, one challenge") };
    assert_eq!(show_all(&world, &lab, tail).await["state"], json!("answered"));
    assert_eq!(world.sums().await[1], 20);
}

on_each_store! {
    a_long_tail_is_shown_by_what_it_charges
    what_is_made_up_is_met_by_as_much_as_it_takes
    what_lies_above_the_window_is_asked_for_by_itself
    what_was_acknowledged_is_not_charged_again
    a_request_has_one_charge
    a_lane_whose_claim_was_not_noted_is_asked_for_all_the_same
}
