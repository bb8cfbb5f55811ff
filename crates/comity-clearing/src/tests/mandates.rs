//! Mandates: a student draws while the PI is away, and no more than the PI said.

use comity_wire::api::clearing::SignedBytes;
use comity_wire::cbor::List;
use comity_wire::object::Mandate;
use comity_wire::{Digest, MandateId, ModelId, PublicKey, SecretKey, cose};
use serde_json::{Value, json};

use super::world::*;
use crate::admin::Members;
use crate::mandates::Role;

/// For 1,000 µcr, 600 a day, for five days.
pub(super) fn mandate(id: u8, member: Option<PublicKey>, code: Option<&str>) -> Mandate {
    Mandate {
        id: MandateId([id; 16]),
        project: comity_wire::ProjectId([7; 16]),
        member,
        join_code: code.map(|code| Digest::of(code.as_bytes())),
        cap: ucr(1_000),
        cap_per_day: ucr(600),
        models: List::default(),
        not_before: START,
        not_after: START.plus(5 * DAY),
        model_caps: List::default(),
        assists: None,
    }
}

pub(super) fn body(mandate: &Mandate, signer: &SecretKey, code: Option<&str>) -> Value {
    let bytes = SignedBytes::new(cose::sign(mandate, signer).bytes()).unwrap();
    match code {
        Some(code) => json!({ "mandate": bytes, "join_code": code }),
        None => json!({ "mandate": bytes }),
    }
}

pub(super) async fn redeem(world: &World, body: Value, key: &SecretKey) -> (u16, Value) {
    world.post("/v1/mandates", body, key).await
}

/// Asks for a token of `budget` as `key`, under `mandate`.
pub(super) async fn draw(world: &World, key: &SecretKey, budget: u32, mandate: Option<u8>) -> (u16, Value) {
    let (status, quote) = world.post("/v1/quotes", world.quote_request(), key).await;
    assert_eq!(status, 200, "{quote}");
    let mut ask = world.reservation(&quote["quote"], budget);
    if let Some(mandate) = mandate {
        ask["mandate"] = json!(MandateId([mandate; 16]));
    }
    world.post("/v1/reservations", ask, key).await
}

pub(super) fn says(reply: &(u16, Value), code_: &str, what: &str) {
    assert_eq!(code(reply), code_, "{}", reply.1);
    assert!(reply.1["detail"].as_str().unwrap().contains(what), "{}", reply.1);
}

async fn a_member_draws_under_a_mandate_and_within_it(on: On) {
    let world = World::new(on, 10_000).await;
    let (pi, student, eve) = (&world.member, secret("student"), secret("eve"));
    let signed = body(&mandate(1, Some(student.public()), None), pi, None);
    // Not somebody else's, and not signed by anybody else.
    says(&redeem(&world, signed.clone(), &eve).await, "not_yours", "another member's mandate");
    let forged = body(&mandate(2, Some(eve.public()), None), &eve, None);
    says(&redeem(&world, forged, &eve).await, "not_yours", "signed by a PI");
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &student).await), "not_registered");

    let (status, redeemed) = redeem(&world, signed.clone(), &student).await;
    assert_eq!((status, &redeemed["drawn"], &redeemed["cap"]), (200, &json!(0), &json!(1_000)), "{redeemed}");
    assert_eq!(redeem(&world, signed, &student).await.0, 200, "again is nothing new");
    // A member draws under a mandate, and under no other.
    says(&draw(&world, &student, 100, None).await, "mandate_required", "ask the project's PI");
    says(&draw(&world, &student, 100, Some(9)).await, "not_found", "was not redeemed here");

    let (status, first) = draw(&world, &student, 400, Some(1)).await;
    assert_eq!(status, 200, "{first}");
    says(&draw(&world, &student, 201, Some(1)).await, "limit_exceeded", "today");
    // Many at once, served by one job: four of them fit.
    let (_, quote) = world.post("/v1/quotes", world.quote_request(), &student).await;
    let asks = (0..24).map(|_| {
        let mut ask = world.reservation(&quote["quote"], 50);
        ask["mandate"] = json!(MandateId([1; 16]));
        ask
    });
    let all = futures::future::join_all(asks.map(|ask| world.post("/v1/reservations", ask, &student))).await;
    assert_eq!(all.iter().filter(|reply| reply.0 == 200).count(), 4, "{all:?}");
    // What goes home counts no more.
    let mut lab = Lab::new(&first["token"]);
    lab.charge(lab.root(), 0, 100);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(world.finish(lab.final_()).await.1["refunded"], json!(300));
    let stands = format!("/v1/mandates/{}", MandateId([1; 16]));
    let (_, reply) = world.get(&stands, &student).await;
    assert_eq!((&reply["drawn"], &reply["drawn_today"]), (&json!(300), &json!(300)), "{reply}");
    // The next day has its own room, the whole has not.
    world.pass(DAY).await;
    assert_eq!(draw(&world, &student, 600, Some(1)).await.0, 200);
    world.pass(DAY).await;
    says(&draw(&world, &student, 101, Some(1)).await, "limit_exceeded", "drawn under this mandate");
    assert_eq!(draw(&world, &student, 100, Some(1)).await.0, 200);

    assert_eq!(code(&world.get(&stands, &eve).await), "not_yours");
    let revoke = format!("{stands}/revoke");
    assert_eq!(code(&world.post(&revoke, json!({}), &student).await), "not_yours");
    let (status, over) = world.post(&revoke, json!({}), pi).await;
    assert!(status == 200 && over["over"].as_str().unwrap().contains("was revoked"), "{over}");
    says(&draw(&world, &student, 1, Some(1)).await, "mandate_required", "was revoked");
    world.sums().await;
}

async fn a_join_code_binds_the_first_who_brings_it(on: On) {
    let world = World::new(on, 10_000).await;
    let (student, late) = (secret("student"), secret("late"));
    let code_ = "weather class 2026";
    let of = |code: Option<&str>| body(&mandate(1, None, Some(code_)), &world.member, code);
    says(&redeem(&world, of(None), &student).await, "invalid_request", "join code");
    says(&redeem(&world, of(Some("guess")), &student).await, "not_yours", "another join code");
    assert_eq!(redeem(&world, of(Some(code_)), &student).await.0, 200);
    says(&redeem(&world, of(Some(code_)), &late).await, "not_yours", "somebody has redeemed");
    assert_eq!(draw(&world, &student, 10, Some(1)).await.0, 200);
}

async fn a_mandate_stands_as_long_as_its_pi(on: On) {
    let world = World::new(on, 10_000).await;
    let (student, heir) = (secret("student"), secret("heir"));
    let other: ModelId = "lab/other".parse().unwrap();
    let narrow = Mandate { models: List::new(vec![other]).unwrap(), ..mandate(2, Some(student.public()), None) };
    let later = Mandate { not_before: START.plus(DAY), ..mandate(3, Some(student.public()), None) };
    for mandate in [&mandate(1, Some(student.public()), None), &narrow, &later] {
        assert_eq!(redeem(&world, body(mandate, &world.member, None), &student).await.0, 200);
    }
    says(&draw(&world, &student, 1, Some(2)).await, "mandate_required", "is not for lab/tiny");
    says(&draw(&world, &student, 1, Some(3)).await, "mandate_required", "not in force yet");
    assert_eq!(draw(&world, &student, 1, Some(1)).await.0, 200);
    let members = |add: Vec<PublicKey>, remove: Vec<PublicKey>, role| Members {
        project: world.project,
        add,
        remove,
        role,
        reason: String::new(),
    };
    // Added once more without a role, the PI stays the PI.
    world.house.members(members(vec![world.member.public()], vec![], None)).await.unwrap();
    assert_eq!(draw(&world, &student, 1, Some(1)).await.0, 200);
    // A manager draws alone and signs no mandates; a co-PI does both.
    world.house.members(members(vec![heir.public()], vec![], Some(Role::Manager))).await.unwrap();
    assert_eq!(draw(&world, &heir, 1, None).await.0, 200);
    let by_heir = body(&mandate(4, Some(student.public()), None), &heir, None);
    says(&redeem(&world, by_heir.clone(), &student).await, "not_yours", "signed by a PI");
    world.house.members(members(vec![heir.public()], vec![world.member.public()], Some(Role::CoPi))).await.unwrap();
    assert_eq!(redeem(&world, by_heir, &student).await.0, 200);
    says(&draw(&world, &student, 1, Some(1)).await, "mandate_required", "no PI of the project any more");
    assert_eq!(draw(&world, &student, 1, Some(4)).await.0, 200);
    world.pass(5 * DAY).await;
    says(&draw(&world, &student, 1, Some(4)).await, "mandate_required", "has ended");
}

on_each_store! {
    a_member_draws_under_a_mandate_and_within_it
    a_join_code_binds_the_first_who_brings_it
    a_mandate_stands_as_long_as_its_pi
}
