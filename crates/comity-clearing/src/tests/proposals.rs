//! Projects as persons propose them; and from a student without anything to a vetted project in ten minutes.

use comity_wire::api::proposal::{ConductRequest, SponsorRequest};
use comity_wire::object::Vetting;
use comity_wire::{Digest, ProjectId, SecretKey, Timestamp};
use serde_json::{Value, json};

use super::persons::{drawn, requirements};
use super::provider::{Provider, issuer};
use super::world::*;
use crate::admin::{ConductPublish, ProposalDecide};

const CONDUCT: &str = "Use what you are given for what you said.\n";

async fn publish(world: &World, version: &str, body: &str) -> Result<Digest, String> {
    let ask = ConductPublish { version: version.into(), body: body.into() };
    world.house.conduct_publish(ask).await.map(|conduct| conduct.digest).map_err(|failure| failure.to_string())
}

async fn sign(world: &World, key: &SecretKey, version: &str, digest: Digest) -> (u16, Value) {
    let ask = ConductRequest::signed(version, digest, key);
    world.post("/v1/conduct", serde_json::to_value(ask).unwrap(), key).await
}

async fn sponsor(world: &World, pi: &SecretKey, member: &SecretKey, until: Timestamp) -> (u16, Value) {
    let ask = SponsorRequest::signed(world.project, member.public(), until, pi);
    world.post(&format!("/v1/projects/{}/sponsorships", world.project), serde_json::to_value(ask).unwrap(), pi).await
}

fn proposal(world: &World, members: &[&SecretKey]) -> Value {
    let members: Vec<_> = members.iter().map(|key| key.public()).collect();
    json!({
        "id": world.project, "title": "Weather", "purpose": "Whether small models know when they do not know.",
        "use_terms": ["DUO:0000042"], "data_classes": ["public"], "members": members,
    })
}

async fn decide(world: &World, accept: bool, reason: &str) -> Result<(), String> {
    let ask = ProposalDecide { project: world.project, accept, reason: reason.into() };
    world.house.proposal_decide(ask).await.map(drop).map_err(|failure| failure.to_string())
}

/// A key says at the issuer whose it is.
async fn login(world: &World, op: &Provider, key: &SecretKey, claims: Value, mfa: bool) -> Value {
    op.says(|saying| saying.claims = claims);
    let (status, login) = world.post("/v1/logins", json!({ "mfa": mfa }), key).await;
    assert_eq!(status, 200, "{login}");
    world.sleep(60);
    let at = format!("/v1/logins/{}", login["login"].as_str().unwrap());
    let (status, done) = world.post(&at, json!({}), key).await;
    assert_eq!((status, &done["state"]), (200, &json!("done")), "{done}");
    done
}

fn level(reply: &Value, place: usize) -> (Value, Vec<String>) {
    let level = &reply["members"][place]["level"];
    (level["vetting"].clone(), requirements(level))
}

async fn from_nothing_to_a_vetted_project_in_ten_minutes(on: On) {
    let world = World::on(Books::new(on).await).await;
    let op = Provider::of(&world, issuer());
    let (began, pi, student) = (world.now(), &world.member, secret("student"));
    let digest = publish(&world, "2026-1", CONDUCT).await.unwrap();
    // Minute 1: the PI logs in with a second factor, and is told what is next.
    let done = login(&world, &op, pi, op.professor("ada"), true).await;
    assert!(done["whoami"]["projects"].is_null());
    // Minute 2: signs the code of conduct, proposes the project with the student in it.
    let (_, conduct) = world.get("/v1/conduct", pi).await;
    assert_eq!((&conduct["digest"], &conduct["body"]), (&json!(digest), &json!(CONDUCT)));
    world.sleep(60);
    assert_eq!(sign(&world, pi, "2026-1", digest).await.0, 200);
    let (status, missing) = world.post("/v1/projects", proposal(&world, &[&student]), pi).await;
    assert_eq!(status, 200, "{missing}");
    assert_eq!(
        (missing["members"].as_array().unwrap().len(), level(&missing, 0)),
        (1, (json!("none"), vec!["accepted".to_owned()]))
    );
    assert_eq!(missing["members"][0]["level"]["unmet"][0]["whose_move"], json!("house"));
    // Minute 4: the house's operator reads it, and takes it in; an officer awards credits.
    world.sleep(120);
    let waiting = world.house.proposals().await.unwrap();
    assert_eq!(
        (waiting[0].state.as_str(), waiting[0].purpose.as_str()),
        ("waits", "Whether small models know when they do not know.")
    );
    decide(&world, true, "").await.unwrap();
    world.house.award(world.award("A-1", 10_000)).await.unwrap();
    assert_eq!(drawn(&world, pi).await, (Vetting::Vetted, vec![]));
    // Minute 6: the student logs in and signs; what is left is the PI's move.
    let dogwood = json!({ "sub": "bob", "eduperson_scoped_affiliation": "student@uni.example", "eduperson_assurance": "https://igtf.net/ap/authn-assurance/dogwood" });
    login(&world, &op, &student, dogwood, false).await;
    world.sleep(60);
    let (_, who) = sign(&world, &student, "2026-1", digest).await;
    assert_eq!(requirements(&who["projects"][0]["level"]), ["sponsor"]);
    assert_eq!(who["projects"][0]["level"]["unmet"][0]["whose_move"], json!("pi"));
    // Minute 7: the PI signs for the student.
    world.sleep(60);
    let (status, missing) = sponsor(&world, pi, &student, world.now().plus(120 * DAY)).await;
    assert_eq!((status, level(&missing, 1)), (200, (json!("vetted"), vec![])), "{missing}");
    assert!(world.now().since(began) <= 600, "{} s", world.now().since(began));
    // As a member the student draws under a mandate; made a manager, alone: and the token says that both were looked at.
    let manager = crate::admin::Members {
        project: world.project,
        add: vec![student.public()],
        remove: vec![],
        role: Some(crate::mandates::Role::Manager),
        reason: String::new(),
    };
    world.house.members(manager).await.unwrap();
    assert_eq!(drawn(&world, &student).await, (Vetting::Vetted, vec![]));
    // A month later the PI's affiliation is stale. The student's level says so, and whose move it is.
    world.sleep(31 * DAY);
    let (vetting, unmet) = drawn(&world, &student).await;
    assert_eq!((vetting, unmet), (Vetting::Registered, vec!["pi".to_owned()]));
    login(&world, &op, pi, op.professor("ada"), true).await;
    assert_eq!(drawn(&world, &student).await.0, Vetting::Vetted);
    // The PI takes the word back.
    assert_eq!(sponsor(&world, pi, &student, world.now()).await.0, 200);
    assert_eq!(drawn(&world, &student).await, (Vetting::Registered, vec!["sponsor".to_owned()]));
    world.sums().await;
}

async fn a_code_of_conduct_is_signed_by_each_in_its_newest_version(on: On) {
    let world = super::persons::unvetted(on).await;
    let (pi, eve) = (&world.member, secret("eve"));
    assert_eq!(code(&world.get("/v1/conduct", pi).await), "not_found");
    super::persons::vouch(&world, &pi.public().to_string(), Vetting::Vetted, None).await;
    assert_eq!(drawn(&world, pi).await.0, Vetting::Vetted, "where there is none, none is asked for");
    let first = publish(&world, "1", CONDUCT).await.unwrap();
    assert_eq!(publish(&world, "1", CONDUCT).await.unwrap(), first, "again is nothing new");
    assert!(publish(&world, "1", "Other words.").await.unwrap_err().contains("other words"));
    assert!(publish(&world, "ü", CONDUCT).await.is_err() && publish(&world, "2", " ").await.is_err());
    assert_eq!(drawn(&world, pi).await, (Vetting::None, vec!["conduct".to_owned()]));
    // By a key of somebody, under the very words, by that key.
    assert_eq!(code(&sign(&world, &eve, "1", first).await), "not_registered");
    assert_eq!(code(&sign(&world, pi, "1", Digest([1; 32])).await), "invalid_request");
    assert_eq!(code(&sign(&world, pi, "2", first).await), "invalid_request");
    let forged = serde_json::to_value(ConductRequest::signed("1", first, &eve)).unwrap();
    assert_eq!(code(&world.post("/v1/conduct", forged, pi).await), "not_yours");
    assert_eq!(sign(&world, pi, "1", first).await.0, 200);
    assert_eq!(drawn(&world, pi).await.0, Vetting::Vetted);
    let rows = "SELECT COUNT(*) FROM person_evidence WHERE claim = 'conduct'";
    assert_eq!((sign(&world, pi, "1", first).await.0, world.count(rows).await), (200, 1));
    // A newer one is signed anew, and an older one cannot come back.
    let second = publish(&world, "2", "And say what you found.").await.unwrap();
    assert_eq!(drawn(&world, pi).await, (Vetting::None, vec!["conduct".to_owned()]));
    assert!(publish(&world, "1", CONDUCT).await.is_err());
    assert_eq!(code(&sign(&world, pi, "1", first).await), "invalid_request");
    assert_eq!(sign(&world, pi, "2", second).await.0, 200);
    assert_eq!((drawn(&world, pi).await.0, world.count(rows).await), (Vetting::Vetted, 2));
}

async fn a_proposal_waits_for_the_house_and_makes_nobody_a_member(on: On) {
    let world = World::on(Books::new(on).await).await;
    let (pi, victim) = (&world.member, secret("victim"));
    assert_eq!(code(&world.post("/v1/projects", proposal(&world, &[]), pi).await), "not_registered");
    super::persons::vouch(&world, &pi.public().to_string(), Vetting::Vetted, None).await;
    for (field, value) in [
        ("title", json!("")),
        ("title", json!("x".repeat(97))),
        ("purpose", json!(" ")),
        ("purpose", json!("x".repeat(8_193))),
        ("use_terms", json!(vec!["x"; 17])),
        ("data_classes", json!(["x".repeat(49)])),
        ("members", json!(vec![victim.public(); 101])),
        ("budget", json!(1)),
    ] {
        let mut wrong = proposal(&world, &[]);
        wrong[field] = value;
        let refused = world.post("/v1/projects", wrong, pi).await;
        assert!(["invalid_request", "limit_exceeded"].contains(&code(&refused).as_str()), "{field}: {}", refused.1);
    }
    let ask = proposal(&world, &[&victim]);
    assert_eq!(world.post("/v1/projects", ask.clone(), pi).await.0, 200);
    assert_eq!(world.post("/v1/projects", ask.clone(), pi).await.0, 200, "again is nothing new");
    let mut other = ask.clone();
    other["purpose"] = json!("Something else.");
    assert_eq!(code(&world.post("/v1/projects", other, pi).await), "not_yours");
    let eve = secret("eve");
    super::persons::vouch(&world, &eve.public().to_string(), Vetting::Vetted, None).await;
    assert_eq!(code(&world.post("/v1/projects", ask, &eve).await), "not_yours", "somebody else's id");
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &victim).await), "not_registered");
    assert_eq!(drawn_none(&world, pi).await, vec!["accepted".to_owned()]);
    assert!(decide(&world, false, " ").await.unwrap_err().contains("a no has a reason"));
    decide(&world, false, "say which models").await.unwrap();
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &victim).await), "not_registered");
    assert_eq!(drawn_none(&world, pi).await, vec!["accepted".to_owned()]);
    assert_eq!(world.house.proposals().await.unwrap()[0].reason, "say which models");
    decide(&world, true, "said by mail").await.unwrap();
    assert_eq!(
        requirements(&world.get("/v1/whoami", &victim).await.1["projects"][0]["level"]),
        ["login", "proofing", "sponsor"]
    );
    // Its use terms are what its tokens carry as purposes.
    assert_eq!(world.get(&format!("/v1/projects/{}", world.project), pi).await.1["purposes"], json!(["DUO:0000042"]));
    // A word for a member is a PI's, for somebody whom the house knows, for a year at most, and signed for this project.
    assert_eq!(code(&sponsor(&world, pi, &victim, world.now().plus(DAY)).await), "invalid_request");
    super::persons::vouch(&world, &victim.public().to_string(), Vetting::Registered, None).await;
    assert_eq!(code(&sponsor(&world, &victim, pi, world.now().plus(DAY)).await), "not_yours");
    assert_eq!(code(&sponsor(&world, pi, pi, world.now().plus(DAY)).await), "not_yours");
    assert_eq!(code(&sponsor(&world, pi, &eve, world.now().plus(DAY)).await), "not_found");
    assert_eq!(code(&sponsor(&world, pi, &victim, world.now().plus(367 * DAY)).await), "limit_exceeded");
    let elsewhere = SponsorRequest::signed(ProjectId([9; 16]), victim.public(), world.now().plus(DAY), pi);
    let at = format!("/v1/projects/{}/sponsorships", world.project);
    assert_eq!(code(&world.post(&at, serde_json::to_value(elsewhere).unwrap(), pi).await), "not_yours");
    assert_eq!(sponsor(&world, pi, &victim, world.now().plus(DAY)).await.0, 200);
    // So many wait, and no more.
    for place in 0..9_u8 {
        let mut next = proposal(&world, &[]);
        next["id"] = json!(ProjectId([100 + place; 16]));
        let reply = world.post("/v1/projects", next, pi).await;
        assert_eq!(code(&reply), if place < 8 { "none" } else { "limit_exceeded" }, "{}", reply.1);
    }
}

/// What is missing for a key that gets nothing.
async fn drawn_none(world: &World, key: &SecretKey) -> Vec<String> {
    let (_, missing) = world.get(&format!("/v1/projects/{}/missing", world.project), key).await;
    assert_eq!(missing["members"][0]["level"]["vetting"], json!("none"), "{missing}");
    requirements(&missing["members"][0]["level"])
}

on_each_store! {
    from_nothing_to_a_vetted_project_in_ten_minutes
    a_code_of_conduct_is_signed_by_each_in_its_newest_version
    a_proposal_waits_for_the_house_and_makes_nobody_a_member
}
