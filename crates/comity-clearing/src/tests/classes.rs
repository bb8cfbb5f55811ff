//! A class: forty students draw for a term within their caps, the PI's key being offline after the first day; an assistant; what is signed
//! anew; a lost laptop; a job that waits for days.

use comity_wire::object::{Mandate, ModelCap, ModelState, Summary};
use comity_wire::{MandateId, ModelId, SecretKey, cose};
use serde_json::{Value, json};

use super::mandates::{body, draw, mandate, redeem, says};
use super::world::*;
use crate::admin::Members;

const STUDENTS: u8 = 40;
/// A lesson a week, two calls in each.
const LESSONS: u32 = 12;
const LESSON: u32 = 2 * PRICE;

fn student(id: u8) -> SecretKey {
    secret(&format!("student {id}"))
}

fn code_of(id: u8) -> String {
    format!("code {id}")
}

/// What a student may: a lesson's calls and some more in a day, of the large model a lesson's in all.
fn place(id: u8) -> Mandate {
    Mandate {
        cap: ucr(LESSONS * LESSON + 1),
        cap_per_day: ucr(50),
        not_after: START.plus((u64::from(LESSONS) + 1) * 7 * DAY),
        model_caps: list(vec![ModelCap { model: large(), cap: ucr(LESSON) }]),
        ..mandate(id, None, Some(&code_of(id)))
    }
}

async fn draw_for(world: &World, key: &SecretKey, model: &ModelId, budget: u32, mandate: u8) -> (u16, Value) {
    let models = json!([{ "model": model, "ops": ["chat"] }]);
    let ask = json!({ "project": world.project, "node": NODE, "models": models });
    let (status, quote) = world.post("/v1/quotes", ask, key).await;
    assert_eq!(status, 200, "{quote}");
    let mut ask = world.reservation(&quote["quote"], budget);
    ask["mandate"] = json!(MandateId([mandate; 16]));
    world.post("/v1/reservations", ask, key).await
}

/// Two calls under a token, claimed, and the rest sent home.
async fn spends(world: &World, sold: &(u16, Value)) {
    assert_eq!(sold.0, 200, "no refusal within the caps: {}", sold.1);
    let mut lab = Lab::new(&sold.1["token"]);
    lab.charge(lab.root(), 0, PRICE);
    lab.charge(lab.root(), 0, PRICE);
    let claimed = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!(claimed.0, 200, "{}", claimed.1);
    let finished = world.finish(lab.final_()).await;
    assert_eq!(finished.0, 200, "{}", finished.1);
}

async fn stands(world: &World, id: u8, key: &SecretKey) -> Value {
    let (status, reply) = world.get(&format!("/v1/mandates/{}", MandateId([id; 16])), key).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

async fn forty_students_draw_for_twelve_weeks_while_the_pi_is_away(on: On) {
    let world = World::new(on, 100_000).await;
    let big = Summary { model: large(), ..summary(1, tariff(PRICE).id(), ModelState::Active) };
    world.directory.insert(cose::sign(&big, &secret("writer")).bytes()).unwrap();
    // The first day: the PI signs, and is not heard of again.
    let signed: Vec<Value> = (1..=STUDENTS).map(|id| body(&place(id), &world.member, Some(&code_of(id)))).collect();
    for lesson in 0..LESSONS {
        for (id, signed) in (1..=STUDENTS).zip(&signed) {
            let key = student(id);
            // One in eight comes late.
            let first = if id % 8 == 0 { 2 } else { 0 };
            if lesson == first {
                assert_eq!(redeem(&world, signed.clone(), &key).await.0, 200, "the PI need not be there");
            }
            if lesson >= first {
                spends(&world, &draw_for(&world, &key, &model(), LESSON, id).await).await;
            }
        }
        if lesson == 3 {
            beyond_a_day_and_a_model(&world).await;
        }
        world.pass(7 * DAY).await;
    }
    let drawn = i64::from(LESSONS * LESSON);
    for id in 1..=STUDENTS {
        let reply = stands(&world, id, &student(id)).await;
        let missed = if id % 8 == 0 { 2 * i64::from(LESSON) } else { 0 };
        let used = reply["by_model"].as_array().unwrap().iter().find(|row| row["model"] == json!(model())).unwrap();
        // One µcr of the first's lies in a token for the large model.
        let held = i64::from(id == 1);
        assert_eq!(
            (&reply["drawn"], &reply["settled"]),
            (&json!(drawn - missed + held), &json!(drawn - missed)),
            "{reply}"
        );
        assert_eq!(used["calls"], json!((drawn - missed) / i64::from(PRICE)), "{reply}");
        if missed == 0 {
            says(&draw_for(&world, &student(id), &model(), 2, id).await, "limit_exceeded", "drawn under this mandate");
        }
    }
    world.sums().await;
}

/// Of the same day: a day's cap leaves 30, of which the large model may have 20.
async fn beyond_a_day_and_a_model(world: &World) {
    let key = student(1);
    let (status, sold) = draw_for(world, &key, &large(), LESSON, 1).await;
    assert_eq!(status, 200, "{sold}");
    says(&draw_for(world, &key, &large(), 1, 1).await, "limit_exceeded", "for this model");
    says(&draw_for(world, &key, &model(), 11, 1).await, "limit_exceeded", "today");
    // Both at once would be neither.
    let two = json!([{ "model": large(), "ops": ["chat"] }, { "model": model(), "ops": ["chat"] }]);
    let ask = json!({ "project": world.project, "node": NODE, "models": two });
    let (status, quote) = world.post("/v1/quotes", ask, &key).await;
    assert_eq!(status, 200, "{quote}");
    let mut ask = world.reservation(&quote["quote"], 1);
    ask["mandate"] = json!(MandateId([1; 16]));
    says(&world.post("/v1/reservations", ask, &key).await, "invalid_request", "for one model");
    // Another's mandate is nobody's way around it.
    says(&draw_for(world, &key, &model(), 1, 2).await, "not_yours", "another member's mandate");
    // What goes home counts no more, for the model either.
    assert_eq!(world.finish(Lab::new(&sold["token"]).final_()).await.0, 200);
    assert_eq!(draw_for(world, &key, &large(), 1, 1).await.0, 200);
}

async fn an_assistant_looks_and_ends_and_spends_for_nobody_else(on: On) {
    let world = World::new(on, 10_000).await;
    let (pi, anna, bob, tutor, eve) = (&world.member, secret("anna"), secret("bob"), secret("tutor"), secret("eve"));
    for (id, key) in [(1, &anna), (2, &bob)] {
        let signed = body(&mandate(id, None, Some("code")), pi, Some("code"));
        assert_eq!(redeem(&world, signed, key).await.0, 200);
    }
    let assists = Mandate { assists: Some(true), ..mandate(3, Some(tutor.public()), None) };
    let path = |id: u8, more: &str| format!("/v1/mandates/{}{more}", MandateId([id; 16]));
    assert_eq!(code(&world.get(&path(1, ""), &tutor).await), "not_yours", "not before it was redeemed");
    assert_eq!(redeem(&world, body(&assists, pi, None), &tutor).await.0, 200);
    assert_eq!(draw(&world, &anna, 100, Some(1)).await.0, 200);
    assert_eq!(stands(&world, 1, &tutor).await["drawn"], json!(100));
    assert_eq!(stands(&world, 3, &tutor).await["assists"], json!(true));
    // Students look at their own alone; the assistant draws under their own alone.
    assert_eq!(code(&world.get(&path(2, ""), &anna).await), "not_yours");
    says(&draw(&world, &tutor, 1, Some(1)).await, "not_yours", "another member's mandate");
    assert_eq!(draw(&world, &tutor, 1, Some(3)).await.0, 200);
    // An assistant signs nothing.
    let forged = body(&mandate(4, None, Some("code")), &tutor, None);
    says(&redeem(&world, forged, &tutor).await, "invalid_request", "join code");
    assert_eq!(world.post(&path(1, "/revoke"), json!({}), &tutor).await.0, 200);
    says(&draw(&world, &anna, 1, Some(1)).await, "mandate_required", "was revoked");
    assert_eq!(draw(&world, &bob, 1, Some(2)).await.0, 200);
    // Whose own has ended assists no more, and nobody assists another signer.
    let members = crate::admin::Members {
        project: world.project,
        add: vec![eve.public()],
        remove: vec![],
        role: Some(crate::mandates::Role::CoPi),
        reason: String::new(),
    };
    world.house.members(members).await.unwrap();
    assert_eq!(redeem(&world, body(&mandate(5, Some(bob.public()), None), &eve, None), &bob).await.0, 200);
    assert_eq!(code(&world.get(&path(5, ""), &tutor).await), "not_yours", "it was signed by another");
    assert_eq!(world.post(&path(3, "/revoke"), json!({}), pi).await.0, 200);
    assert_eq!(code(&world.get(&path(2, ""), &tutor).await), "not_yours");
}

async fn what_is_signed_anew_takes_the_place_and_counts_on(on: On) {
    let world = World::new(on, 10_000).await;
    let (pi, anna, late) = (&world.member, secret("anna"), secret("late"));
    let first = mandate(1, None, Some("first"));
    // Before anybody has claimed it: another code, brought by the PI. What was handed out before serves with the new one only.
    let second = Mandate { join_code: mandate(1, None, Some("second")).join_code, ..first.clone() };
    let (status, lodged) = redeem(&world, body(&second, pi, None), pi).await;
    assert_eq!((status, &lodged["redeemed"], &lodged["member"]), (200, &json!(false), &json!(pi.public())), "{lodged}");
    assert_eq!(redeem(&world, body(&second, pi, None), pi).await.0, 200, "again is nothing new");
    says(&draw(&world, pi, 1, Some(1)).await, "not_yours", "another member's mandate");
    says(&redeem(&world, body(&first, pi, Some("first")), &anna).await, "not_yours", "another join code");
    assert_eq!(redeem(&world, body(&first, pi, Some("second")), &anna).await.0, 200);
    says(&redeem(&world, body(&second, pi, Some("second")), &late).await, "not_yours", "somebody has redeemed");
    let (_, sold) = draw(&world, &anna, 400, Some(1)).await;
    says(&draw(&world, &anna, 201, Some(1)).await, "limit_exceeded", "today");

    // More for whoever has it: nobody does anything but the PI.
    let more = Mandate { member: Some(anna.public()), join_code: None, cap_per_day: ucr(1_000), ..first.clone() };
    says(&redeem(&world, body(&more, &anna, None), &anna).await, "not_yours", "somebody has redeemed");
    assert_eq!(redeem(&world, body(&more, pi, None), pi).await.0, 200);
    assert_eq!(draw(&world, &anna, 300, Some(1)).await.0, 200);
    assert_eq!(stands(&world, 1, &anna).await["drawn"], json!(700), "what was drawn counts on");

    // The laptop is lost: what it drew is stopped, and another key has what is left.
    let path = format!("/v1/mandates/{}/revoke", MandateId([1; 16]));
    assert_eq!(world.post(&path, json!({ "tokens": true }), pi).await.0, 200);
    let token = Lab::new(&sold["token"]).token.id.to_string();
    assert!(listed(&world).await.contains(&token), "what the lost laptop drew is on the list");
    let third = Mandate { join_code: mandate(1, None, Some("third")).join_code, member: None, ..more };
    assert_eq!(redeem(&world, body(&third, pi, None), pi).await.0, 200);
    assert_eq!(redeem(&world, body(&third, pi, Some("third")), &late).await.0, 200);
    says(&draw(&world, &anna, 1, Some(1)).await, "not_yours", "another member's mandate");
    says(&draw(&world, &late, 301, Some(1)).await, "limit_exceeded", "drawn under this mandate");
    assert_eq!(draw(&world, &late, 300, Some(1)).await.0, 200);
    world.sums().await;
}

/// The subjects of the newest revocation list.
async fn listed(world: &World) -> Vec<String> {
    let request = http::Request::builder().uri("/comity/v1/standing").body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(world.house.router(), request).await.unwrap();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let list = comity_wire::Signed::<comity_wire::object::RevocationList>::decode(&bytes).unwrap();
    let list = list.verify(&secret("issuer").public()).unwrap();
    list.entries.iter().map(|entry| entry.subject.to_string()).collect()
}

async fn a_job_that_starts_three_days_later_pays(on: On) {
    let world = World::new(on, 10_000).await;
    let (pi, job) = (&world.member, secret("job"));
    // For 72 hours in the queue and 8 of work, signed when the job is handed in.
    let signed = Mandate {
        cap: ucr(100),
        cap_per_day: ucr(100),
        not_after: START.plus(80 * 3_600),
        ..mandate(1, Some(job.public()), None)
    };
    assert_eq!(redeem(&world, body(&signed, pi, None), pi).await.0, 200);
    world.pass(3 * DAY).await;
    spends(&world, &draw(&world, &job, 60, Some(1)).await).await;
    says(&draw(&world, &job, 81, Some(1)).await, "limit_exceeded", "80 µcr more");
    assert_eq!(stands(&world, 1, pi).await["settled"], json!(LESSON), "it paid");
    world.pass(9 * 3_600).await;
    says(&draw(&world, &job, 1, Some(1)).await, "mandate_required", "has ended");
}

async fn a_members_job_draws_within_what_the_member_has(on: On) {
    let world = World::new(on, 10_000).await;
    let (pi, anna, job, eve) = (&world.member, secret("anna"), secret("job"), secret("eve"));
    let hers = Mandate {
        model_caps: list(vec![ModelCap { model: model(), cap: ucr(500) }]),
        ..mandate(1, Some(anna.public()), None)
    };
    let within = |id: u8| Mandate {
        cap: ucr(400),
        cap_per_day: ucr(400),
        not_after: START.plus(80 * 3_600),
        ..mandate(id, Some(job.public()), None)
    };
    // Nobody signs within what they have not redeemed.
    says(&redeem(&world, body(&within(2), &anna, None), &job).await, "not_yours", "signed by a PI");
    assert_eq!(redeem(&world, body(&hers, pi, None), &anna).await.0, 200);
    for wide in [
        Mandate { cap: ucr(1_001), ..within(2) },
        Mandate { cap: ucr(700), cap_per_day: ucr(601), ..within(2) },
        Mandate { not_after: START.plus(6 * DAY), ..within(2) },
        Mandate { assists: Some(true), ..within(2) },
        Mandate { member: None, join_code: mandate(2, None, Some("code")).join_code, ..within(2) },
    ] {
        let code = wide.join_code.map(|_| "code");
        says(&redeem(&world, body(&wide, &anna, code), &job).await, "not_yours", "signed by a PI");
    }
    assert_eq!(redeem(&world, body(&within(2), &anna, None), &job).await.0, 200);
    // Nor does a member's word take the place of a PI's, though a PI brings it.
    says(&redeem(&world, body(&within(1), &anna, None), pi).await, "not_yours", "another's mandate");
    // A job signs for no other.
    let further = Mandate { member: Some(eve.public()), ..within(3) };
    says(&redeem(&world, body(&further, &job, None), &eve).await, "not_yours", "signed by a PI");
    world.pass(3 * DAY).await;
    assert_eq!(draw(&world, &anna, 200, Some(1)).await.0, 200);
    says(&draw(&world, &job, 301, Some(2)).await, "limit_exceeded", "for this model");
    let (status, sold) = draw(&world, &job, 300, Some(2)).await;
    assert_eq!(status, 200, "{sold}");
    says(&draw(&world, &anna, 1, Some(1)).await, "limit_exceeded", "for this model");
    let reply = stands(&world, 1, &anna).await;
    assert_eq!((&reply["drawn"], &reply["by_model"][0]["drawn"]), (&json!(500), &json!(500)), "{reply}");
    assert_eq!(stands(&world, 2, &anna).await["drawn"], json!(300), "whoever signed for a job sees how it stands");
    assert_eq!(code(&world.get(&format!("/v1/mandates/{}", MandateId([1; 16])), &job).await), "not_yours");
    // With the member's own it ends, and what it drew.
    let revoke = format!("/v1/mandates/{}/revoke", MandateId([1; 16]));
    assert_eq!(world.post(&revoke, json!({ "tokens": true }), pi).await.0, 200);
    says(&draw(&world, &job, 1, Some(2)).await, "mandate_required", "was revoked");
    assert!(listed(&world).await.contains(&Lab::new(&sold["token"]).token.id.to_string()));
}

/// A key that is lost, or was sent away, spends nothing more: not by jobs that it signed for, not by new ones.
async fn a_key_that_is_no_members_any_more_draws_by_no_job(on: On) {
    for is_lost in [true, false] {
        let world = World::new(on, 10_000).await;
        let (pi, anna, job, eve) = (&world.member, secret("anna"), secret("job"), secret("eve"));
        let hers = Mandate { assists: Some(true), ..mandate(1, Some(anna.public()), None) };
        let within = |id: u8, key: &SecretKey| Mandate {
            cap: ucr(400),
            cap_per_day: ucr(400),
            not_after: START.plus(80 * 3_600),
            ..mandate(id, Some(key.public()), None)
        };
        assert_eq!(redeem(&world, body(&hers, pi, None), &anna).await.0, 200);
        assert_eq!(redeem(&world, body(&within(2, &job), &anna, None), &job).await.0, 200);
        world.pass(3 * DAY).await;
        let (status, sold) = draw(&world, &job, 100, Some(2)).await;
        assert_eq!(status, 200, "{sold}");
        if is_lost {
            let done = world.house.key_revoke(None, anna.public()).await.unwrap();
            assert_eq!((done.stopped, done.left), (1, 0), "what its jobs drew ends with it");
            assert!(listed(&world).await.contains(&Lab::new(&sold["token"]).token.id.to_string()));
        } else {
            let away = Members {
                project: world.project,
                add: vec![],
                remove: vec![anna.public()],
                role: None,
                reason: String::new(),
            };
            world.house.members(away).await.unwrap();
        }
        says(&draw(&world, &job, 1, Some(2)).await, "mandate_required", "no member of the project");
        says(&redeem(&world, body(&within(3, &eve), &anna, None), &eve).await, "not_yours", "signed by a PI");
        assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &eve).await), "not_registered");
        // Nor does it look at others' mandates, which it could as an assistant.
        assert_eq!(redeem(&world, body(&mandate(4, Some(eve.public()), None), pi, None), &eve).await.0, 200);
        assert_eq!(code(&world.get(&format!("/v1/mandates/{}", MandateId([4; 16])), &anna).await), "not_yours");
        let over = stands(&world, 1, pi).await["over"].clone();
        assert!(over.as_str().is_some_and(|over| over.contains("no member of the project")), "{over}");
    }
}

on_each_store! {
    a_key_that_is_no_members_any_more_draws_by_no_job
    a_members_job_draws_within_what_the_member_has
    forty_students_draw_for_twelve_weeks_while_the_pi_is_away
    an_assistant_looks_and_ends_and_spends_for_nobody_else
    what_is_signed_anew_takes_the_place_and_counts_on
    a_job_that_starts_three_days_later_pays
}
