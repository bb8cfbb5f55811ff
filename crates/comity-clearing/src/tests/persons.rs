//! Persons: who answers for them, what their keys may do, and what tokens say of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use comity_wire::api::clearing::SignedBytes;
use comity_wire::object::{Token, Vetting};
use comity_wire::{MemberId, PublicKey, SecretKey, Signed, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::world::*;
use crate::admin::{Members, PersonKey, PersonShow, PersonVouch, ProjectAdd};
use crate::failure::Failure;
use crate::mandates::Role;

/// A world whose project nobody has said anything of.
pub(super) async fn unvetted(on: On) -> World {
    let world = World::on(Books::new(on).await).await;
    let add = ProjectAdd {
        id: Some(world.project),
        title: "Weather".into(),
        purposes: vec!["research".into()],
        members: vec![world.member.public()],
    };
    world.house.project_add(add).await.unwrap();
    world.house.award(world.award("A-1", 10_000)).await.unwrap();
    world
}

pub(super) async fn vouch(world: &World, who: &str, vetting: Vetting, until: Option<Timestamp>) -> PersonShow {
    let ask = PersonVouch { who: who.into(), vetting, seen: "a letter of the dean".into(), until };
    world.house.person_vouch(ask).await.unwrap()
}

/// What a token states that is drawn by `key` now, and what the reply says is missing for more.
pub(super) async fn drawn(world: &World, key: &SecretKey) -> (Vetting, Vec<String>) {
    let (token, unmet) = token_drawn(world, key).await;
    (token.terms.vetting, unmet)
}

async fn token_drawn(world: &World, key: &SecretKey) -> (comity_wire::Verified<Token>, Vec<String>) {
    let (status, quote) = world.post("/v1/quotes", world.quote_request(), key).await;
    assert_eq!(status, 200, "{quote}");
    let ask = world.reservation(&quote["quote"], 10);
    let (status, reply) = world.post("/v1/reservations", ask, key).await;
    assert_eq!(status, 200, "{reply}");
    let token = Signed::<Token>::decode(&signed_bytes(&reply["token"])).unwrap();
    (token.verify(&secret("issuer").public()).unwrap(), requirements(&reply))
}

pub(super) fn requirements(level: &Value) -> Vec<String> {
    let unmet = level["unmet"].as_array().cloned().unwrap_or_default();
    unmet.iter().map(|unmet| unmet["requirement"].as_str().unwrap().to_owned()).collect()
}

async fn a_token_states_what_the_evidence_on_its_person_gives_when_it_is_drawn(on: On) {
    let world = unvetted(on).await;
    let pi = &world.member;
    let (vetting, unmet) = drawn(&world, pi).await;
    assert_eq!(
        (vetting, unmet),
        (Vetting::None, ["login", "proofing", "affiliation", "mfa"].map(str::to_owned).to_vec())
    );
    let until = world.now().plus(30 * DAY);
    let shown = vouch(&world, &pi.public().to_string(), Vetting::Vetted, Some(until)).await;
    assert_eq!(shown.projects[0].level.vetting, Vetting::Vetted);
    assert_eq!(drawn(&world, pi).await, (Vetting::Vetted, vec![]));
    let (_, who) = world.get("/v1/whoami", pi).await;
    assert_eq!((&who["person"], &who["projects"][0]["level"]["until"]), (&json!(shown.person), &json!(until)), "{who}");
    // A check that is over counts no more, and one that is taken back never again.
    world.sleep(30 * DAY);
    assert_eq!(drawn(&world, pi).await.0, Vetting::None);
    vouch(&world, &shown.person.to_string(), Vetting::Registered, None).await;
    assert_eq!(
        drawn(&world, pi).await,
        (Vetting::Registered, ["proofing", "affiliation", "mfa"].map(str::to_owned).to_vec())
    );
    vouch(&world, &shown.person.to_string(), Vetting::None, None).await;
    assert_eq!(drawn(&world, pi).await.0, Vetting::None);
    let kept = world.house.person_evidence(shown.person).await.unwrap();
    let values: Vec<&str> = kept.iter().map(|row| row.evidence.value.as_str()).collect();
    assert_eq!(values, ["none", "registered", "vetted"], "the newest first, and none is gone");
    assert!(kept.iter().all(|row| row.recorded_by == "operator" && row.note == "a letter of the dean"));
    // The operator's word on the project carries all of its keys, as it did before there were persons.
    let vet = crate::ProjectVet {
        project: world.project,
        vetting: Vetting::Vetted,
        issuer: "operator".into(),
        claim: "seen".into(),
        from: None,
        until: None,
    };
    world.house.project_vet(vet.clone()).await.unwrap();
    assert_eq!(drawn(&world, pi).await, (Vetting::Vetted, vec![]));
    world.house.project_vet(crate::ProjectVet { vetting: Vetting::None, claim: "misuse".into(), ..vet }).await.unwrap();
    vouch(&world, &shown.person.to_string(), Vetting::Vetted, None).await;
    assert_eq!(drawn(&world, pi).await, (Vetting::None, vec!["stopped".to_owned()]));
    world.sums().await;
}

fn key(name: &str) -> PublicKey {
    secret(name).public()
}

async fn a_key_that_was_revoked_acts_for_nobody(on: On) {
    let world = unvetted(on).await;
    let (pi, laptop, eve) = (&world.member, secret("laptop"), secret("eve"));
    let one = vouch(&world, &pi.public().to_string(), Vetting::Vetted, None).await.person;
    let other = vouch(&world, &eve.public().to_string(), Vetting::Vetted, None).await.person;
    assert_ne!(one, other);
    let add = |key: PublicKey| PersonKey { person: one, key, reason: String::new() };
    let shown = world.house.person_key_add(add(laptop.public())).await.unwrap();
    assert_eq!(shown.keys.len(), 2);
    let failure = world.house.person_key_add(add(eve.public())).await.unwrap_err();
    assert!(failure.to_string().contains("another person"), "{failure}");
    // One more key is one more device, and no member of anything yet.
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &laptop).await), "not_registered");
    let members = |add: Vec<PublicKey>, role| Members {
        project: world.project,
        add,
        remove: vec![],
        role: Some(role),
        reason: String::new(),
    };
    world.house.members(members(vec![laptop.public()], Role::Pi)).await.unwrap();
    let (lost, _) = token_drawn(&world, &laptop).await;
    assert_eq!(lost.terms.vetting, Vetting::Vetted);
    let on_list = || world.house.standing().unwrap().entries.len();
    assert_eq!((drawn(&world, pi).await.0, on_list()), (Vetting::Vetted, 0));
    // Nobody else's key ends it, and no key that nobody knows.
    let revoke = json!({ "key": laptop.public() });
    assert_eq!(code(&world.post("/v1/keys/revoke", revoke.clone(), &eve).await), "not_yours");
    assert_eq!(code(&world.post("/v1/keys/revoke", revoke.clone(), &secret("nobody")).await), "not_registered");
    assert_eq!(code(&world.post("/v1/keys/revoke", json!({ "key": key("nobody") }), pi).await), "not_yours");
    let (status, who) = world.post("/v1/keys/revoke", revoke.clone(), pi).await;
    assert_eq!(status, 200, "{who}");
    let ended: Vec<bool> = who["keys"].as_array().unwrap().iter().map(|key| key["revoked_at"].is_u64()).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
    // The computer is lost with what it drew: that is stopped, and nothing of the other one's.
    let told = &who["tokens"];
    assert_eq!((told["stopped"].as_u64(), told["left"].as_u64(), on_list()), (Some(1), Some(0), 1));
    // Shown to the same person's other key, which can have its node end it.
    let shown: Vec<SignedBytes> = serde_json::from_value(told["tokens"].clone()).unwrap();
    let shown: Vec<_> = shown.iter().map(|bytes| Signed::<Token>::decode(bytes).unwrap().unverified().id).collect();
    assert_eq!(shown, [lost.id]);
    let list = world.house.standing().unwrap();
    assert_eq!(list.entries[0].subject.as_str(), lost.id.to_string());
    let (status, again) = world.post("/v1/keys/revoke", revoke.clone(), pi).await;
    assert_eq!((status, &again["tokens"]), (200, &who["tokens"]), "again is nothing new");
    assert_eq!(world.house.standing().unwrap().number, list.number);
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &laptop).await), "not_registered");
    // It learns that it was revoked, and nothing of the person.
    let (_, told) = world.get("/v1/whoami", &laptop).await;
    assert!(told["keys"][0]["revoked_at"].is_u64() && told["keys"].as_array().unwrap().len() == 1, "{told}");
    assert!(told["projects"].is_null() && told["subjects"].is_null());
    // It comes back by no way: not as a member, not as a device, not by a check, and it revokes nobody.
    let refused = [
        world.house.members(members(vec![laptop.public()], Role::Pi)).await.map(drop),
        world.house.person_key_add(add(laptop.public())).await.map(drop),
        world
            .house
            .person_vouch(PersonVouch {
                who: laptop.public().to_string(),
                vetting: Vetting::Vetted,
                seen: "x".into(),
                until: None,
            })
            .await
            .map(drop),
    ];
    for refused in refused {
        assert!(refused.unwrap_err().to_string().contains("was revoked"));
    }
    assert_eq!(code(&world.post("/v1/keys/revoke", json!({ "key": pi.public() }), &laptop).await), "not_registered");
    assert_eq!(drawn(&world, pi).await.0, Vetting::Vetted);
    // A person has so many devices.
    for device in 0..crate::persons::KEYS_MAX - 1 {
        world.house.person_key_add(add(key(&format!("device {device}")))).await.unwrap();
    }
    assert!(world.house.person_key_add(add(key("one more"))).await.unwrap_err().to_string().contains("at most 16"));
}

/// A call that was let in, and stands in the writer's line while its key ends or its project is frozen, is given nothing.
async fn what_stands_in_line_when_its_key_ends_draws_nothing(on: On) {
    let mut world = World::new(on, 10_000).await;
    let (passed, in_line) = (Arc::new(Notify::new()), AtomicBool::new(false));
    let says = passed.clone();
    world
        .restart_failing(Arc::new(move |point| {
            if point == "reserve.before_line" && in_line.swap(true, Ordering::SeqCst) {
                says.notify_one();
            }
        }))
        .await;
    let laptop = secret("laptop");
    let members = Members {
        project: world.project,
        add: vec![laptop.public()],
        remove: vec![],
        role: Some(Role::Pi),
        reason: String::new(),
    };
    world.house.members(members).await.unwrap();
    let (status, quote) = world.post("/v1/quotes", world.quote_request(), &laptop).await;
    assert_eq!(status, 200, "{quote}");
    let (status, sold) = world.post("/v1/reservations", world.reservation(&quote["quote"], 10), &laptop).await;
    assert_eq!(status, 200, "{sold}");
    let before = world.sums().await;
    let mut told = Vec::new();
    for is_frozen in [true, false] {
        let gate = Arc::new(Semaphore::new(0));
        let shut = gate.clone();
        // What ends the key stands in line before what draws, which was let in by what is in the books.
        let busy = world.house.write(move |_| {
            let shut = shut.clone();
            Box::pin(async move {
                drop(shut.acquire().await.expect("it is never closed"));
                Ok::<_, Failure>(())
            })
        });
        let end = async {
            match is_frozen {
                true => world.house.freeze(world.project, true).await,
                false => world.house.key_revoke(None, laptop.public()).await.map(drop),
            }
        };
        let ask = world.reservation(&quote["quote"], 10);
        let go_on = async {
            passed.notified().await;
            gate.add_permits(1);
        };
        let (_, ended, drawn, ()) = tokio::join!(busy, end, world.post("/v1/reservations", ask, &laptop), go_on);
        ended.unwrap();
        told.push(code(&drawn));
        if is_frozen {
            world.house.freeze(world.project, false).await.unwrap();
        }
    }
    assert_eq!((told, world.sums().await), (vec!["frozen".to_owned(), "not_registered".to_owned()], before));
    assert_eq!(world.house.standing().unwrap().entries.len(), 1, "what was drawn before is stopped");
}

async fn what_is_missing_in_a_project_says_whose_move_it_is(on: On) {
    let world = unvetted(on).await;
    let student = secret("student");
    let (project, add, role) = (world.project, vec![student.public()], Some(Role::Member));
    let add = Members { project, add, remove: vec![], role, reason: String::new() };
    world.house.members(add).await.unwrap();
    let at = format!("/v1/projects/{}/missing", world.project);
    assert_eq!(code(&world.get(&at, &secret("eve")).await), "not_registered");
    let (status, missing) = world.get(&at, &student).await;
    assert_eq!(status, 200, "{missing}");
    let members = missing["members"].as_array().unwrap();
    assert_eq!((&members[0]["role"], &members[1]["role"]), (&json!("pi"), &json!("member")));
    assert_eq!(requirements(&members[1]["level"]), ["login", "proofing", "sponsor", "pi"]);
    vouch(&world, &world.member.public().to_string(), Vetting::Vetted, None).await;
    let (_, missing) = world.get(&at, &student).await;
    assert_eq!(requirements(&missing["members"][0]["level"]), [""; 0]);
    assert_eq!(requirements(&missing["members"][1]["level"]), ["login", "proofing", "sponsor"]);
    let moves: Vec<&str> = missing["members"][1]["level"]["unmet"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unmet| unmet["whose_move"].as_str().unwrap())
        .collect();
    assert_eq!(moves, ["person", "institution", "pi"]);
    assert!(world.house.person_show(MemberId([1; 16])).await.is_err());
}

on_each_store! {
    a_token_states_what_the_evidence_on_its_person_gives_when_it_is_drawn
    a_key_that_was_revoked_acts_for_nobody
    what_stands_in_line_when_its_key_ends_draws_nothing
    what_is_missing_in_a_project_says_whose_move_it_is
}
