//! An auditor's sample: drawn from the log, and every trail computed again from what it shows.

use comity_wire::object::Token;
use comity_wire::{Digest, Signed};

use super::disputes::show_tails;
use super::owners::{contract, pay, set, terms};
use super::world::*;
use crate::acts::OwnerTerms;
use crate::log::sample::{Sample, drawn, settlement};
use crate::log::trail::{Trail, recompute};

/// A token with so many charges at the tariff's price, of which all but `tail` are acknowledged, claimed.
async fn paid(world: &World, charges: u32, tail: u32) -> Lab {
    let mut lab = world.buy(1_000).await;
    for _ in 0..charges - tail {
        lab.charge(lab.root(), 0, PRICE);
    }
    let acknowledged = if charges > tail { vec![lab.acknowledge(&secret("holder"))] } else { vec![] };
    for _ in 0..tail {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(acknowledged)).await.0, 200);
    lab.taken();
    lab
}

async fn trails(world: &World, sample: &Sample) -> Vec<Trail> {
    let mut trails = Vec::new();
    for index in &sample.items {
        trails.push(world.house.trail(*index, sample.size).await.unwrap());
    }
    trails
}

/// The checks that do not hold.
fn differing(trail: &Trail, sample: &Sample) -> Vec<String> {
    let key = comity_wire::log::VerifierKey::new(
        sample.checkpoint.lines().next().unwrap(),
        comity_wire::log::KeyUse::Log,
        secret("log").public(),
    );
    let checks = recompute(trail, sample, Some(&key.unwrap()));
    assert!(checks.len() >= 8, "{checks:?}");
    checks.into_iter().filter(|check| !check.holds).map(|check| check.check).collect()
}

async fn every_settlement_has_a_trail_that_can_be_computed_again(on: On) {
    let world = World::new(on, 10_000).await;
    let mut first = paid(&world, 5, 0).await;
    paid(&world, 3, 0).await;
    let tail = paid(&world, 2, 2).await;
    first.charge(first.root(), 0, PRICE);
    first.charge(first.root(), 1, PRICE);
    let acknowledged = vec![first.acknowledge(&secret("holder"))];
    assert_eq!(world.claim(&first.claim(acknowledged)).await.0, 200, "a second settlement under one token");
    world.pass(4 * DAY).await;
    assert_eq!(show_tails(&world, &tail).await, 1);
    set(&world, OwnerTerms { arrears: true, ..terms(LAB, world.now(), contract("C-1", None, None)) }).await.unwrap();
    pay(&world, 60, "wire 1").await.unwrap();
    world.house.log_advance().await.unwrap();

    let sample = world.house.sample(60, "2027", None, None).await.unwrap();
    assert_eq!((sample.population, sample.items.len()), (4, 4), "the tail too, which was shown");
    let trails = trails(&world, &sample).await;
    for trail in &trails {
        assert!(differing(trail, &sample).is_empty(), "{:?}", recompute(trail, &sample, None));
        let acts = if trail.paid_out.is_empty() { 1 } else { 3 };
        assert_eq!((trail.awards.len(), trail.approvals.len(), trail.claims.len()), (1, acts, 1));
        assert!(!trail.quotes.is_empty() && trail.tariffs.len() == 1);
        // Nothing but files: written, read, computed again.
        let again: Trail = serde_json::from_str(&serde_json::to_string(trail).unwrap()).unwrap();
        assert!(differing(&again, &sample).is_empty());
    }
    let second = trails.iter().find(|trail| trail.settlement.settled_before > ucr(0)).expect("the second settlement");
    assert_eq!((second.settlement.settled_before, second.transfer.amount), (ucr(50), ucr(20)));
    let paid_out: Vec<_> = second.paid_out.iter().map(|line| (line.run.as_str(), line.amount_ucr)).collect();
    assert_eq!(paid_out, [("wire 1", 60)], "the oldest sale first");
    let mut unapproved = second.clone();
    unapproved.approvals.retain(|act| act.id != second.paid_out[0].act);
    assert_eq!(differing(&unapproved, &sample), ["approved"]);
    let befores: Vec<_> = second.settlement.lines.iter().map(|line| (line.lane, line.before, line.amount)).collect();
    assert_eq!(befores, [(0, ucr(50), ucr(10)), (1, ucr(0), ucr(10))]);

    // Two are drawn as anybody draws them again, and of a time that has no settlements there are none.
    let two = world.house.sample(2, "2027", None, None).await.unwrap();
    let places = drawn(&two.root, "2027", 4, 2);
    let all = world.house.sample(4, "x", None, None).await.unwrap().items;
    let again: Vec<u64> = places.iter().map(|place| all[usize::try_from(*place).unwrap()]).collect();
    assert_eq!((two.items.len(), &two.items), (2, &again));
    let none = world.house.sample(2, "2027", None, Some(START)).await.unwrap();
    assert_eq!((none.population, none.items.len()), (0, 0));
    let later = world.house.sample(9, "2027", Some(START.plus(1)), None).await.unwrap();
    assert_eq!(later.population, 1, "the tail was paid once it was shown");
}

fn withdrawal(trail: &Trail) -> crate::acts::Withdraw {
    crate::acts::Withdraw { lot: trail.reservation.draws[0].lot, amount: ucr(1), reason: "another act".into() }
}

async fn a_trail_that_was_bent_is_found_out(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = paid(&world, 5, 0).await;
    let other = paid(&world, 2, 0).await;
    world.house.log_advance().await.unwrap();
    let sample = world.house.sample(60, "2027", None, None).await.unwrap();
    let of = |trails: &[Trail], lab: &Lab| {
        let id = comity_ledger::Reference(lab.token.id.0).to_string();
        trails.iter().find(|trail| trail.transfer.reference == id).unwrap().clone()
    };
    let all = trails(&world, &sample).await;
    let (trail, another) = (of(&all, &lab), of(&all, &other));
    let bent = |bend: &dyn Fn(&mut Trail)| {
        let mut bent = trail.clone();
        bend(&mut bent);
        differing(&bent, &sample)
    };
    assert!(bent(&|_| {}).is_empty());
    assert_eq!(bent(&|trail| trail.transfer.amount = ucr(51)), ["in_the_log", "lines"]);
    assert_eq!(bent(&|trail| trail.proof.index += 1), ["in_the_log"]);
    assert_eq!(bent(&|trail| trail.proof = another.proof.clone()), ["in_the_log"]);
    assert_eq!(bent(&|trail| trail.token = another.token.clone())[..1], ["token"]);
    assert_eq!(bent(&|trail| trail.settlement.settled_before = ucr(951)), ["within_budget"]);
    assert_eq!(bent(&|trail| trail.reservation.draws[0].amount = ucr(999)), ["reserved"]);
    assert_eq!(bent(&|trail| trail.reservation.transfers.clear()), ["reserved"]);
    assert_eq!(bent(&|trail| trail.approvals.clear()), ["approved"]);
    assert_eq!(bent(&|trail| trail.approvals[0].body.push(' ')), ["approved"]);
    // Signatures: of another act, and one person for two.
    let act: crate::acts::Act = serde_json::from_str(&trail.approvals[0].body).unwrap();
    let (ann, of_another_act) =
        (act.sign(&secret("ann")), crate::acts::Act::Withdraw(withdrawal(&trail)).sign(&secret("ann")));
    assert!(bent(&|trail| trail.approvals[0].proposed_by = Some(ann.clone())).is_empty());
    assert_eq!(bent(&|trail| trail.approvals[0].proposed_by = Some(of_another_act.clone())), ["approved"]);
    let twice = bent(&|trail| {
        trail.approvals[0].proposed_by = Some(ann.clone());
        trail.approvals[0].approved_by = Some(ann.clone());
    });
    assert_eq!(twice, ["approved"]);
    assert_eq!(bent(&|trail| trail.approvals[0].done_at = None), ["approved"]);
    assert_eq!(bent(&|trail| trail.claims = another.claims.clone()), ["receipted"]);
    assert_eq!(bent(&|trail| trail.node_keys.clear())[0], "claimed");
    assert_eq!(bent(&|trail| trail.settlement.lines[0].before = ucr(1)), ["receipted"]);
    assert_eq!(bent(&|trail| trail.tariffs.clear()), ["charged_by_tariff"]);
    let dear = vec![comity_wire::api::clearing::SignedBytes::new(tariff(PRICE + 1).bytes()).unwrap()];
    assert_eq!(bent(&|trail| trail.tariffs = dear.clone()), ["charged_by_tariff"], "another price is another tariff");
    // Another root, another checkpoint.
    let elsewhere = Sample { root: Digest::of(b"another"), ..sample.clone() };
    assert_eq!(differing(&trail, &elsewhere), ["in_the_log", "checkpoint_signed"]);
    let token = Signed::<Token>::decode(&trail.token.signed).unwrap();
    assert_eq!(token.id(), lab.root());
}

/// A lane whose newest receipt charges what the tariff does not say.
async fn a_charge_beside_the_tariff_is_found_by_recomputation(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, PRICE);
    lab.charge(lab.root(), 0, PRICE + 3);
    let acknowledged = vec![lab.acknowledge(&secret("holder"))];
    assert_eq!(world.claim(&lab.claim(acknowledged)).await.0, 200, "whoever acknowledges it pays it");
    world.house.log_advance().await.unwrap();
    let sample = world.house.sample(1, "2027", None, None).await.unwrap();
    let [trail] = &trails(&world, &sample).await[..] else { panic!("one settlement") };
    assert_eq!(differing(trail, &sample), ["charged_by_tariff"]);
}

/// The token comes from the claim's chain: the house that sold it had another key.
async fn a_trail_outlives_the_key_that_sold_the_token(on: On) {
    let mut world = World::new(on, 10_000).await;
    paid(&world, 2, 0).await;
    world.house.log_advance().await.unwrap();
    world.restart_keyed("issuer 2").await;
    let sample = world.house.sample(1, "2027", None, None).await.unwrap();
    let [trail] = &trails(&world, &sample).await[..] else { panic!("one settlement") };
    assert!(differing(trail, &sample).is_empty(), "{:?}", recompute(trail, &sample, None));
    assert_eq!(trail.token.issuer, secret("issuer").public());
}

async fn samples_have_bounds_and_are_of_settlements(on: On) {
    let world = World::new(on, 10_000).await;
    paid(&world, 1, 0).await;
    world.house.log_advance().await.unwrap();
    for (n, seed) in [(0, "x"), (1_001, "x"), (1, "")] {
        assert!(world.house.sample(n, seed, None, None).await.is_err(), "{n} {seed}");
    }
    assert!(world.house.sample(1, &"x".repeat(257), None, None).await.is_err());
    let sample = world.house.sample(1, "x", None, None).await.unwrap();
    let of_another_kind = (0..sample.size).find(|index| !sample.items.contains(index)).unwrap();
    let refused = world.house.trail(of_another_kind, sample.size).await.unwrap_err();
    assert!(refused.to_string().contains("settlement"), "{refused}");
    let proof = world.house.log_inclusion(of_another_kind, None).await.unwrap();
    assert!(settlement(&proof.entry, None, None).is_none());
    assert!(world.house.trail(sample.size, sample.size).await.is_err());
}

on_each_store! {
    every_settlement_has_a_trail_that_can_be_computed_again
    a_trail_that_was_bent_is_found_out
    a_charge_beside_the_tariff_is_found_by_recomputation
    a_trail_outlives_the_key_that_sold_the_token
    samples_have_bounds_and_are_of_settlements
}
