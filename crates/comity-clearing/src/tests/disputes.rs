//! Challenges and disputes: what a node must show, and what follows where it does not.

use std::collections::BTreeSet;

use comity_wire::api::challenge::{Before, Challenge, ChallengeCause, ChallengeState, SHOWN_MAX, Shown};
use comity_wire::{Amount, Digest};
use serde_json::{Value, json};

use super::world::*;
use crate::acts::{Act, DisputeEnd, Officer, OfficerAdd, Outcome};
use crate::reports::Period;
use crate::service::Dispute;
use crate::settlement::CHALLENGE_S;

/// A lane of a token, with `count` calls of 10 µcr claimed, of which the first `acknowledged` are acknowledged.
pub(super) async fn claimed(world: &World, count: u32, acknowledged: u32) -> Lab {
    let mut lab = world.buy(5_000).await;
    for _ in 0..acknowledged {
        lab.charge(lab.root(), 0, PRICE);
    }
    let acknowledgements = if acknowledged > 0 { vec![lab.acknowledge(&secret("holder"))] } else { vec![] };
    for _ in acknowledged..count {
        lab.charge(lab.root(), 0, PRICE);
    }
    let (status, reply) = world.claim(&lab.claim(acknowledgements)).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(acknowledged * PRICE)), "{reply}");
    lab.taken();
    lab
}

/// What the log seals and signs, the house draws from.
pub(super) async fn draw(world: &World) -> u64 {
    world.house.log_advance().await.unwrap();
    world.house.sweep().await.unwrap().challenged
}

pub(super) async fn waiting(world: &World) -> Vec<Challenge> {
    let (status, reply) = world.get(&format!("/v1/challenges?node={NODE}"), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value(reply["challenges"].clone()).unwrap()
}

pub(super) async fn show(world: &World, challenge: &Challenge, shown: Vec<Shown>) -> (u16, Value) {
    let path = format!("/v1/challenges/{}/answers", challenge.id);
    world.post(&path, json!({ "shown": shown }), &secret("transport")).await
}

pub(super) async fn show_all(world: &World, lab: &Lab, challenge: &Challenge) -> Value {
    let key = (challenge.leaf, challenge.lane);
    let mut reply = Value::Null;
    let charging = |at: &Amount| lab.lanes[&key].iter().find(|receipt| receipt.total >= *at).expect("of its total").n;
    let numbers: BTreeSet<u64> = challenge.left.iter().copied().chain(challenge.left_at.iter().map(charging)).collect();
    for numbers in numbers.into_iter().collect::<Vec<_>>().chunks(16) {
        let shown = numbers.iter().map(|n| lab.show(key, *n, challenge.newest)).collect();
        let (status, body) = show(world, challenge, shown).await;
        assert_eq!(status, 200, "{body}");
        reply = body;
    }
    reply
}

/// Tails of a token that have stood their time: the house asks for them, and the node shows them. How many lanes it was.
pub(super) async fn show_tails(world: &World, lab: &Lab) -> usize {
    draw(world).await;
    let of_token = |challenge: &Challenge| challenge.token == lab.token.id && challenge.cause == ChallengeCause::Tail;
    let tails: Vec<_> = waiting(world).await.into_iter().filter(of_token).collect();
    for tail in &tails {
        assert_eq!(show_all(world, lab, tail).await["state"], json!("answered"));
    }
    tails.len()
}

pub(super) async fn disputes(world: &World) -> Vec<Dispute> {
    world.house.disputes().await.unwrap()
}

pub(super) async fn end(world: &World, dispute: &Dispute, outcome: Outcome) {
    let ask = DisputeEnd { dispute: dispute.id, outcome, reason: "meeting of 4 May".into() };
    assert!(world.house.act(Act::DisputeEnd(ask), None).await.unwrap().done);
}

/// Paid out of these books or not: what the owner is to be paid.
async fn payable(world: &World) -> i64 {
    world.house.payables(Period::default()).await.unwrap().total.unwrap().closing_ucr
}

async fn what_is_drawn_from_a_claim_is_shown(on: On) {
    let world = World::sampling(on, 10_000).await;
    let lab = claimed(&world, 30, 30).await;
    assert_eq!(draw(&world).await, 1);
    assert_eq!(draw(&world).await, 0, "a claim is drawn from once");
    let [challenge] = &waiting(&world).await[..] else { panic!("one lane, one challenge") };
    assert_eq!((challenge.cause, challenge.newest, challenge.left.len()), (ChallengeCause::Sample, 30, 4));
    assert_eq!(challenge.claim, Digest(world.claim_ids().await[0]));
    // By the checkpoint that came after it: anybody can draw again.
    let note = world.books.notes().last().unwrap().clone();
    let text = note.split_once("\n\n").unwrap().0;
    let checkpoint = comity_wire::log::Checkpoint::parse(&format!("{text}\n")).unwrap();
    assert_eq!(challenge.log_size, Some(checkpoint.size));
    let root = checkpoint.root;
    let key = crate::settlement::LaneKey { leaf: lab.root(), lane: 0 };
    let again = crate::settlement::draw::receipts(
        &crate::settlement::draw::seed(&root, &challenge.claim),
        &[(key, (0, 30))].into(),
        4,
    );
    assert!(again[&key].iter().eq(&challenge.left), "{again:?} {:?}", challenge.left);

    let first = challenge.left[0];
    let (_, part) = show(&world, challenge, vec![lab.show((lab.root(), 0), first, 30)]).await;
    assert_eq!((part["state"].clone(), part["left"].as_array().unwrap().len()), (json!("open"), 3));
    let reply = show_all(&world, &lab, challenge).await;
    assert_eq!((&reply["state"], &reply["left"]), (&json!("answered"), &json!([])));
    assert!(waiting(&world).await.is_empty());
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 0);
    assert!(disputes(&world).await.is_empty());
    assert_eq!((world.sums().await, payable(&world).await), ([10_000, 300, 4_700, 5_000], 300));
    assert!(world.house.log_audit().await.unwrap().holds);
}

async fn what_proves_nothing_is_not_taken(on: On) {
    let world = World::sampling(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    let (root, student) = (lab.root(), lab.delegate("student", 500));
    for _ in 0..6 {
        lab.charge(root, 0, PRICE);
        lab.charge(root, 1, PRICE);
    }
    lab.overcharge(root, 0, 500, 499);
    lab.charge(student, 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.charge(root, 0, PRICE);
    while draw(&world).await > 0 {}
    let all = waiting(&world).await;
    let challenge = all.iter().find(|challenge| (challenge.leaf, challenge.lane) == (root, 0));
    let challenge = challenge.expect("four of 14 receipts; one of them lies in the lane that has half of them").clone();
    let (key, newest) = ((root, 0), 7);
    let (mine, others) = (lab.show(key, 3, newest), lab.show(key, 4, newest));
    let refused = async |shown: Shown, why: &str| {
        let reply = show(&world, &challenge, vec![lab.show(key, 5, newest), shown]).await;
        let detail = reply.1["detail"].as_str().unwrap_or_default().to_owned();
        assert!(reply.0 == 400 && detail.contains(why), "{why}: {}", reply.1);
    };
    refused(lab.show((root, 1), 3, 6), "another lane").await;
    refused(lab.show(key, 8, 8), "not in the history").await;
    refused(Shown { proof: others.proof.clone(), ..mine.clone() }, "not in the history").await;
    refused(Shown { request: others.request.clone(), ..mine.clone() }, "signature").await;
    let swapped = Shown { request: others.request, signature: others.signature, ..mine.clone() };
    refused(swapped, "another request").await;
    refused(lab.show(key, 7, newest), "at most").await;
    refused(Shown { before: None, ..mine.clone() }, "without the one before it").await;
    refused(Shown { before: others.before.clone(), ..mine.clone() }, "without the one before it").await;
    let elsewhere = lab.show((root, 1), 3, 6).before;
    refused(Shown { before: elsewhere, ..mine.clone() }, "another lane").await;
    let unproved = Before { proof: Vec::new(), ..mine.before.clone().unwrap() };
    refused(Shown { before: Some(unproved), ..mine.clone() }, "not in the history").await;
    let forged = comity_wire::cose::sign(
        &*comity_wire::Signed::<comity_wire::object::Receipt>::decode(&mine.receipt)
            .unwrap()
            .verify(&secret("receipt").public())
            .unwrap(),
        &secret("rival receipt"),
    );
    let forged = comity_wire::cbor::Bytes::new(forged.bytes()).unwrap();
    refused(Shown { receipt: forged, ..mine.clone() }, "receipt does not verify").await;
    let many = (0..17).map(|_| mine.clone()).collect();
    assert_eq!(code(&show(&world, &challenge, many).await), "limit_exceeded");
    // Nothing of an answer with a fault is kept, and nobody else answers.
    assert_eq!(waiting(&world).await, all);
    let path = format!("/v1/challenges/{}/answers", challenge.id);
    for who in ["rival transport", "member", "receipt"] {
        let reply = world.post(&path, json!({ "shown": [mine] }), &secret(who)).await;
        assert_eq!(code(&reply), "not_yours", "{who}");
        assert_eq!(code(&world.get(&format!("/v1/challenges?node={NODE}"), &secret(who)).await), "not_yours");
    }
}

/// Every request was signed for, and still the tail comes to more than was signed: the node cannot show it.
async fn a_tail_above_its_charges_is_not_shown(on: On) {
    type Bend = fn(&mut Lab);
    let bends: [(Bend, &str); 3] = [
        (|lab| lab.inflate(lab.root(), 0, 490), "which is not its charge"),
        (|lab| lab.charge_again(lab.root(), 0, 20), "charge for one request"),
        // Not beside the first one: found among what was shown in parts.
        (|lab| lab.charge_again(lab.root(), 0, 3), "charge for one request"),
    ];
    for (bend, why) in bends {
        let world = World::new(on, 10_000).await;
        let mut lab = world.buy(5_000).await;
        for _ in 0..20 {
            lab.charge(lab.root(), 0, PRICE);
        }
        bend(&mut lab);
        assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
        let (status, posted) = challenge(&world, &lab, "less was signed for").await;
        assert_eq!(status, 200, "{posted}");
        let challenged: Challenge = serde_json::from_value(posted).unwrap();
        let key = (lab.root(), 0);
        let mut answers = Vec::new();
        for numbers in challenged.left.chunks(SHOWN_MAX) {
            answers.push(show(&world, &challenged, numbers.iter().map(|n| lab.show(key, *n, 21)).collect()).await);
        }
        let said: Vec<_> = answers.iter().map(|(_, reply)| reply["detail"].as_str().unwrap_or_default()).collect();
        assert!(answers.len() == 2 && said[1].contains(why), "{why}: {answers:?}");
        world.pass(CHALLENGE_S).await;
        assert_eq!(world.house.sweep().await.unwrap().missed, 1);
        assert_eq!(world.sums().await, [10_000, 0, 5_000, 5_000], "{why}: nothing of the tail is paid");
    }
}

/// What is claimed after the close is not paid, and is drawn from all the same: the node shows it.
async fn a_claim_after_the_close_is_shown(on: On) {
    let world = World::sampling(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    lab.charge(lab.root(), 0, PRICE);
    world.pass(lab.token.terms.settle_by.since(START)).await;
    world.house.sweep().await.unwrap();
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(0)), "{reply}");
    assert_eq!(draw(&world).await, 1);
    let [challenge] = &waiting(&world).await[..] else { panic!("one lane, one challenge") };
    assert_eq!(show_all(&world, &lab, challenge).await["state"], json!("answered"));
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 0);
}

/// The holder acknowledged a receipt of the node; the node's history has another one with that number, and a higher total.
async fn a_tail_on_another_receipt_than_the_acknowledged_one_is_not_shown(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(5_000).await;
    lab.charge(lab.root(), 0, PRICE);
    lab.charge(lab.root(), 0, PRICE);
    let acknowledged = lab.acknowledge(&secret("holder"));
    lab.forget(lab.root(), 0);
    lab.inflate(lab.root(), 0, 300);
    lab.charge(lab.root(), 0, PRICE);
    let (status, reply) = world.claim(&lab.claim(vec![acknowledged])).await;
    assert_eq!((status, &reply["settled"], &reply["unacknowledged"]), (200, &json!(20), &json!(310)), "{reply}");
    let (_, posted) = challenge(&world, &lab, "I acknowledged another receipt").await;
    let posted: Challenge = serde_json::from_value(posted).unwrap();
    assert_eq!(posted.left, [3]);
    let reply = show(&world, &posted, vec![lab.show((lab.root(), 0), 3, 3)]).await;
    assert!(reply.1["detail"].as_str().unwrap().contains("acknowledged"), "{}", reply.1);
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    assert_eq!(world.sums().await, [10_000, 20, 4_980, 5_000]);
}

async fn what_is_not_shown_is_disputed_and_two_outcomes_are_possible(on: On) {
    for outcome in [Outcome::Upheld, Outcome::Reversed] {
        let world = World::sampling(on, 10_000).await;
        let mut lab = claimed(&world, 30, 30).await;
        assert_eq!(draw(&world).await, 1);
        world.pass(CHALLENGE_S - 120).await;
        assert_eq!(world.house.sweep().await.unwrap().missed, 0);
        // Time in which the house was closed does not count.
        world.sleep(7 * DAY);
        world.pass(60).await;
        assert_eq!(world.house.sweep().await.unwrap().missed, 0);
        world.pass(120).await;
        assert_eq!(world.house.sweep().await.unwrap().missed, 1);
        let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
        assert_eq!((&dispute.cause[..], dispute.held, &dispute.state[..]), ("challenge_missed", ucr(300), "open"));
        assert_eq!(payable(&world).await, 0, "what was earned is set aside");
        assert_eq!(world.sums().await, [10_000, 300, 4_700, 5_000]);
        // Work that was acknowledged meanwhile waits too.
        lab.charge(lab.root(), 0, PRICE);
        let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
        assert_eq!((status, &reply["settled"], &reply["unacknowledged"]), (200, &json!(0), &json!(10)), "{reply}");
        lab.taken();
        world.pass(CHALLENGE_S).await;
        assert_eq!(world.house.sweep().await.unwrap().settled, Amount::ZERO);

        end(&world, dispute, outcome).await;
        let ask = DisputeEnd { dispute: dispute.id, outcome, reason: "another meeting".into() };
        assert!(world.house.act(Act::DisputeEnd(ask), None).await.is_err(), "what was decided stands");
        let roll = world.house.roll_forward(Period::default()).await.unwrap().total.unwrap();
        match outcome {
            Outcome::Upheld => {
                // Meanwhile the token's deadline came: what nobody claims went home, what was frozen did not.
                assert_eq!((world.sums().await, payable(&world).await), ([10_000, 310, 0, 9_690], 310));
                assert_eq!((roll.settled_ucr, roll.reversed_ucr), (310, 0));
            }
            Outcome::Reversed => {
                assert_eq!((world.sums().await, payable(&world).await), ([10_000, 0, 0, 10_000], 0));
                assert_eq!((roll.settled_ucr, roll.reversed_ucr), (300, 300));
                assert_eq!(world.house.totals().await.unwrap().projects[0].sums.settled, Amount::ZERO);
                let (_, reply) = world.claim(&lab.claim(vec![])).await;
                assert_eq!(reply["settled"], json!(0), "the token is over");
            }
        }
        let statement = world.house.fund_statement(world.project, Period::default()).await.unwrap();
        assert_eq!(statement.end_balance_ucr, statement.available_ucr);
        assert!(world.house.log_audit().await.unwrap().holds);
    }
}

async fn a_node_that_signs_two_receipts_for_one_number_disputes_itself(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = claimed(&world, 5, 5).await;
    let receipts = lab.lanes.get_mut(&(lab.token.id(), 0)).unwrap();
    receipts.pop();
    lab.charge(lab.root(), 0, 2 * PRICE);
    assert_eq!(code(&world.claim(&lab.claim(vec![])).await), "broken_history");
    let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
    assert_eq!((&dispute.cause[..], dispute.held), ("broken_history", ucr(50)));
    assert_eq!(world.house.contradictions().await.unwrap()[0].id, dispute.evidence);
    // Signed twice, disputed once.
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(code(&world.claim(&lab.claim(vec![])).await), "broken_history");
    assert_eq!(disputes(&world).await.len(), 1);
    assert_eq!(payable(&world).await, 0);
    // Two officers: neither decides alone.
    let add = |name: &str| {
        let officer = Officer { key: secret(name).public(), name: name.into() };
        Act::OfficerAdd(OfficerAdd { officer, reason: "founding".into() })
    };
    world.house.act(add("ann"), None).await.unwrap();
    world.house.act(add("bob"), None).await.unwrap();
    let ask = DisputeEnd { dispute: dispute.id, outcome: Outcome::Reversed, reason: "two receipts".into() };
    let act = Act::DisputeEnd(ask);
    assert!(world.house.act(act.clone(), None).await.is_err());
    let by = |name: &str| Some(act.sign(&secret(name)));
    assert!(!world.house.act(act.clone(), by("ann")).await.unwrap().done);
    assert!(world.house.act(act.clone(), by("ann")).await.is_err(), "one person twice is one person");
    assert_eq!(disputes(&world).await[0].state, "open");
    assert!(world.house.act(act.clone(), by("bob")).await.unwrap().done);
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
}

pub(super) async fn challenge(world: &World, lab: &Lab, reason: &str) -> (u16, Value) {
    let ask = json!({ "token": lab.token.id, "leaf": lab.root(), "lane": 0, "reason": reason });
    world.post("/v1/challenges", ask, &world.member).await
}

async fn a_holder_challenges_a_tail_and_the_node_shows_it(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = claimed(&world, 70, 10).await;
    world.pass(CHALLENGE_S / 2).await;
    let (status, reply) = challenge(&world, &lab, "these calls were never answered").await;
    assert_eq!(status, 200, "{reply}");
    let posted: Challenge = serde_json::from_value(reply).unwrap();
    assert_eq!((posted.cause, posted.newest), (ChallengeCause::Holder, 70));
    assert!(posted.left.iter().copied().eq(11..=70), "what was acknowledged is not asked for: {:?}", posted.left);
    let (_, again) = challenge(&world, &lab, "said again").await;
    assert_eq!(again["id"], json!(posted.id));
    // Nothing of it is paid for having waited, and the token's deadline takes nothing either.
    world.pass(CHALLENGE_S - 240).await;
    assert_eq!(world.house.sweep().await.unwrap().settled, Amount::ZERO);
    assert_eq!(show_all(&world, &lab, &posted).await["state"], json!("answered"));
    // The token's deadline came meanwhile: what nobody claimed went home, the tail stayed. It is paid at once.
    assert_eq!(world.sums().await, [10_000, 700, 0, 9_300]);
    let refused = challenge(&world, &lab, "once more").await;
    assert_eq!(refused.1["state"], json!("answered"), "what was shown is not asked for again: {}", refused.1);
    assert!(world.house.log_audit().await.unwrap().holds);
}

async fn a_tail_that_is_not_shown_goes_home(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = claimed(&world, 30, 10).await;
    assert_eq!(challenge(&world, &lab, "not mine").await.0, 200);
    world.pass(CHALLENGE_S).await;
    let swept = world.house.sweep().await.unwrap();
    assert_eq!((swept.missed, swept.settled), (1, Amount::ZERO));
    assert!(disputes(&world).await.is_empty(), "nothing that was paid is in question");
    assert_eq!(world.house.challenges().await.unwrap()[0].state, ChallengeState::Missed);
    assert_eq!(world.sums().await, [10_000, 100, 4_900, 5_000]);
    // A holder who thinks better of it still pays.
    lab.charge(lab.root(), 0, PRICE);
    let (_, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!(reply["settled"], json!(210), "{reply}");
    lab.taken();
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    // Without that the rest goes home with the final.
    assert_eq!(world.finish(lab.final_()).await.1["refunded"], json!(4_690));
    assert_eq!(world.sums().await, [10_000, 310, 0, 9_690]);
}

/// Nobody says anything, and time alone pays nothing: the node shows what its tail rests on.
async fn a_tail_that_has_stood_its_time_is_paid_once_it_is_shown(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = claimed(&world, 100, 10).await;
    world.pass(CHALLENGE_S - 120).await;
    assert_eq!(draw(&world).await, 0, "it has not stood its time");
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    world.pass(120).await;
    let swept = world.house.sweep().await.unwrap();
    assert_eq!((swept.challenged, swept.settled), (0, Amount::ZERO), "the claim is not in the log yet");
    assert_eq!(draw(&world).await, 1);
    assert_eq!(draw(&world).await, 0, "it is asked for once");
    let claim = Digest(*world.claim_ids().await.last().unwrap());
    world.pass(120).await;
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    assert_eq!(draw(&world).await, 0, "nor for what came since, while it is open");
    let [posted] = &waiting(&world).await[..] else { panic!("one lane") };
    // With what was claimed since: shown once, it need not be shown again.
    assert_eq!((posted.cause, posted.newest), (ChallengeCause::Tail, 101));
    // 64 draws of 910 µcr, for there are more than 64 receipts.
    assert!(posted.left.is_empty() && (50..=64).contains(&posted.left_at.len()), "{:?}", posted.left_at);
    let new = ucr(101)..=ucr(1_010);
    assert!(posted.left_at.iter().all(|at| new.contains(at)), "what was acknowledged is not asked for");
    assert_eq!(posted.claim, claim);
    let drawing = |note: &&String| note.lines().nth(1) == posted.log_size.map(|size| size.to_string()).as_deref();
    let note = world.books.notes().into_iter().rfind(|note| drawing(&note)).unwrap();
    let text = note.split_once("\n\n").unwrap().0;
    let checkpoint = comity_wire::log::Checkpoint::parse(&format!("{text}\n")).unwrap();
    assert_eq!(posted.log_size, Some(checkpoint.size));
    // Anybody can draw again, and nobody could beforehand.
    let blind: [u8; 64] = posted.blind.as_ref().unwrap()[..].try_into().unwrap();
    let signed = [&b"comity/challenge/blind/v1"[..], posted.id.as_bytes(), checkpoint.root.as_bytes()].concat();
    secret("log").public().verify(&signed, &blind).unwrap();
    let seed = crate::settlement::draw::blind_seed(&checkpoint.root, &posted.claim, &blind);
    let again = crate::settlement::draw::tail(&seed, (10, 101), (ucr(100), ucr(1_010)), 64).amounts;
    let told: BTreeSet<u64> = posted.left_at.iter().map(|at| at.ucr().unsigned_abs()).collect();
    assert_eq!(again, told);
    // Nobody has to challenge it as well, and who does is given this one.
    let (_, held) = challenge(&world, &lab, "these calls were never answered").await;
    assert_eq!(held["id"], json!(posted.id));
    assert_eq!(world.sums().await, [10_000, 100, 4_900, 5_000], "time alone pays nothing");
    show_all(&world, &lab, posted).await;
    assert_eq!(world.sums().await, [10_000, 1_010, 3_990, 5_000]);
    assert_eq!(draw(&world).await, 0, "what was shown is not asked for again");
    assert!(world.house.log_audit().await.unwrap().holds);
    assert!(world.house.audit().await.unwrap().holds);
}

/// Receipts that a node signs for itself are worth nothing to it, whoever looks on.
async fn a_tail_that_nobody_signed_for_goes_home_by_itself(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = claimed(&world, 30, 10).await;
    // An earlier challenge of the holder's stands for the house's own while it is open.
    assert_eq!(challenge(&world, &lab, "not mine").await.0, 200);
    world.pass(CHALLENGE_S - 120).await;
    assert_eq!(draw(&world).await, 0);
    world.pass(120).await;
    assert_eq!((draw(&world).await, world.house.challenges().await.unwrap().len()), (0, 1), "it was stopped");

    let mut second = world.buy(1_000).await;
    second.charge(second.root(), 0, 900);
    assert_eq!(world.claim(&second.claim(vec![])).await.0, 200);
    second.taken();
    world.pass(CHALLENGE_S).await;
    assert_eq!(draw(&world).await, 1);
    // Its deadline comes meanwhile, and takes nothing that may still be shown.
    let to_settle = second.token.terms.settle_by.since(world.now());
    world.pass(CHALLENGE_S - 120).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 0);
    world.pass(120).await;
    let swept = world.house.sweep().await.unwrap();
    assert_eq!((swept.missed, swept.settled), (1, Amount::ZERO));
    assert!(disputes(&world).await.is_empty(), "nothing that was paid is in question");
    assert_eq!(draw(&world).await, 0, "it is over");
    world.pass(to_settle).await;
    world.house.sweep().await.unwrap();
    lab.taken();
    assert_eq!(world.sums().await, [10_000, 100, 0, 9_900]);
    assert!(world.house.log_audit().await.unwrap().holds);
}

/// Two tokens under one id were both signed by the house: nothing that the node did.
async fn a_second_token_of_the_houses_own_is_no_dispute_with_the_node(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = claimed(&world, 5, 5).await;
    let second = comity_wire::cose::sign(&old_token(lab.token.id, secret("thief").public()), &secret("issuer"));
    let bytes = comity_wire::api::clearing::SignedBytes::new(second.bytes()).unwrap();
    let mut other = Lab::new(&json!(bytes));
    other.charge(other.root(), 0, PRICE);
    assert_eq!(code(&world.claim(&other.claim(vec![])).await), "token_conflict");
    assert_eq!(world.house.contradictions().await.unwrap().len(), 1, "it is kept");
    assert!(disputes(&world).await.is_empty());
    assert_eq!(payable(&world).await, 50);
}

async fn a_challenge_that_cannot_be_ended_keeps_nobody_from_being_paid(on: On) {
    let world = World::new(on, 20_000).await;
    let mut labs = Vec::new();
    for _ in 0..3 {
        labs.push(claimed(&world, 10, 0).await);
    }
    for lab in &labs[..2] {
        assert_eq!(challenge(&world, lab, "not mine").await.0, 200);
    }
    // Its phase cannot be read: a final, and none is there.
    world
        .tamper("UPDATE token SET phase = 1 WHERE id IN (SELECT token FROM challenge ORDER BY posted_at, id LIMIT 1)")
        .await;
    world.house.log_advance().await.unwrap();
    world.pass(CHALLENGE_S).await;
    let swept = world.house.sweep().await.unwrap();
    assert_eq!((swept.missed, swept.challenged), (1, 1), "{swept:?}");
    assert!(swept.failed >= 1, "{swept:?}");
    assert_eq!(show_tails(&world, &labs[2]).await, 1);
    assert_eq!(payable(&world).await, 100);
    world.tamper("UPDATE token SET phase = 0 WHERE phase = 1").await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    assert_eq!(payable(&world).await, 100);
    world.sums().await;
}

async fn a_challenge_needs_a_tail_and_a_member(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = claimed(&world, 10, 10).await;
    let refused = challenge(&world, &lab, "why not").await;
    assert!(refused.1["detail"].as_str().unwrap().contains("nothing of this lane waits"), "{}", refused.1);
    assert_eq!(code(&challenge(&world, &lab, " ").await), "invalid_request");
    let ask = json!({ "token": lab.token.id, "leaf": lab.root(), "lane": 1, "reason": "no such lane" });
    assert_eq!(code(&world.post("/v1/challenges", ask.clone(), &world.member).await), "not_found");
    assert_eq!(code(&world.post("/v1/challenges", ask, &secret("rival")).await), "not_registered");
}

on_each_store! {
    what_is_drawn_from_a_claim_is_shown
    what_proves_nothing_is_not_taken
    a_claim_after_the_close_is_shown
    a_tail_above_its_charges_is_not_shown
    a_tail_on_another_receipt_than_the_acknowledged_one_is_not_shown
    what_is_not_shown_is_disputed_and_two_outcomes_are_possible
    a_node_that_signs_two_receipts_for_one_number_disputes_itself
    a_holder_challenges_a_tail_and_the_node_shows_it
    a_tail_that_is_not_shown_goes_home
    a_second_token_of_the_houses_own_is_no_dispute_with_the_node
    a_tail_that_has_stood_its_time_is_paid_once_it_is_shown
    a_tail_that_nobody_signed_for_goes_home_by_itself
    a_challenge_that_cannot_be_ended_keeps_nobody_from_being_paid
    a_challenge_needs_a_tail_and_a_member
}
