//! Who may spend, and what is stated of whom: no one person's to say where two keep the books.

use comity_wire::object::{RevokedKind, Vetting};
use comity_wire::{MemberId, PublicKey};
use serde_json::json;

use super::disputes::{claimed, disputes, end};
use super::world::*;
use crate::Failure;
use crate::acts::{Act, AwardResume, DisputeOpen, Officer, OfficerAdd, Outcome, ProjectResume};
use crate::admin::{Members, PersonKey, PersonVouch, ProjectAdd, ProjectVet};
use crate::reports::Period;

pub(super) async fn two_officers(world: &World) {
    for name in ["ann", "bob"] {
        let officer = Officer { key: secret(name).public(), name: name.into() };
        let add = Act::OfficerAdd(OfficerAdd { officer, reason: "founding".into() });
        world.house.act(add, None).await.unwrap();
    }
}

/// One proposes, the other approves; nobody before that, and neither of them alone.
pub(super) async fn by_both(world: &World, act: Act) {
    let by = |name: &str| Some(act.sign(&secret(name)));
    assert!(world.house.act(act.clone(), None).await.is_err(), "{act:?}");
    assert!(!world.house.act(act.clone(), by("ann")).await.unwrap().done, "{act:?}");
    assert!(world.house.act(act.clone(), by("ann")).await.is_err(), "{act:?}");
    assert!(world.house.act(act.clone(), by("bob")).await.unwrap().done, "{act:?}");
}

pub(super) fn conflicts<T: std::fmt::Debug>(outcome: Result<T, Failure>) {
    assert!(matches!(outcome, Err(Failure::DutyConflict { .. })), "{outcome:?}");
}

async fn members(world: &World) -> i64 {
    world.count("SELECT COUNT(*) FROM member").await
}

async fn nobody_alone_lets_a_key_spend(on: On) {
    let world = World::new(on, 10_000).await;
    let change = |add: &[PublicKey], remove: &[PublicKey], reason: &str| Members {
        project: world.project,
        add: add.to_vec(),
        remove: remove.to_vec(),
        role: None,
        reason: reason.into(),
    };
    let thief = secret("thief").public();
    // While one person keeps the books they do so alone.
    assert_eq!(world.house.members(change(&[thief], &[], "")).await.unwrap(), 2);
    assert_eq!(world.house.members(change(&[], &[thief], "")).await.unwrap(), 1);
    two_officers(&world).await;
    conflicts(world.house.members(change(&[thief], &[], "mine")).await);
    conflicts(world.house.members(change(&[thief], &[world.member.public()], "mine")).await);
    let again = |members| ProjectAdd { id: Some(world.project), title: "Weather".into(), purposes: vec![], members };
    conflicts(world.house.project_add(again(vec![world.member.public(), thief])).await);
    world.house.project_add(again(vec![world.member.public()])).await.unwrap();
    assert_eq!(members(&world).await, 1);
    // A project that is new has no credits, and gets none without them.
    let other = ProjectAdd { id: None, title: "Rain".into(), purposes: vec![], members: vec![thief] };
    world.house.project_add(other).await.unwrap();

    let student = secret("student").public();
    assert!(world.house.act(Act::Members(change(&[student], &[], "")), None).await.is_err());
    by_both(&world, Act::Members(change(&[student], &[], "hired in May"))).await;
    assert_eq!(members(&world).await, 3);
    // Taking away protects, and waits for nobody; what was given once can be given again.
    assert_eq!(world.house.members(change(&[], &[student], "")).await.unwrap(), 1);
    by_both(&world, Act::Members(change(&[student], &[], "hired again in July"))).await;
    assert_eq!(members(&world).await, 3);
    assert!(world.house.audit().await.unwrap().holds);
}

async fn nobody_alone_answers_for_anybody(on: On) {
    let world = World::new(on, 10_000).await;
    let vet = |vetting, claim: &str, from| ProjectVet {
        project: world.project,
        vetting,
        issuer: "operator".into(),
        claim: claim.into(),
        from,
        until: None,
    };
    let vouch = |vetting| PersonVouch {
        who: secret("student").public().to_string(),
        vetting,
        seen: "her passport".into(),
        until: None,
    };
    two_officers(&world).await;
    conflicts(world.house.project_vet(vet(Vetting::Vetted, "a letter", None)).await);
    conflicts(world.house.person_vouch(vouch(Vetting::Registered)).await);
    world.pass(60).await;
    // Less may be said by one.
    assert_eq!(
        world.house.project_vet(vet(Vetting::None, "the letter was forged", None)).await.unwrap(),
        Vetting::None
    );
    world.pass(60).await;
    by_both(&world, Act::Vet(vet(Vetting::Vetted, "a letter", Some(world.now())))).await;
    assert_eq!(world.house.project_status(world.project).await.unwrap().vetting, Vetting::Vetted);
    by_both(&world, Act::Vouch(vouch(Vetting::Vetted))).await;
    let [person] = &world.house.persons().await.unwrap()[..] else { panic!("one person") };
    let key =
        |name: &str, person| PersonKey { person, key: secret(name).public(), reason: "her second computer".into() };
    conflicts(world.house.person_key_add(key("laptop", person.person)).await);
    by_both(&world, Act::PersonKey(key("laptop", person.person))).await;
    assert_eq!(world.house.persons().await.unwrap()[0].keys.len(), 2);
    let nobody = Act::PersonKey(key("phone", MemberId([9; 16])));
    assert!(
        world.house.act(nobody.clone(), Some(nobody.sign(&secret("ann")))).await.is_err(),
        "refused before it waits"
    );
    assert!(world.house.audit().await.unwrap().holds);
}

async fn nobody_alone_lets_go_on_what_was_frozen(on: On) {
    let world = World::new(on, 10_000).await;
    world.house.freeze(world.project, true).await.unwrap();
    world.house.freeze(world.project, false).await.unwrap();
    two_officers(&world).await;
    let award = world.house.project_status(world.project).await.unwrap().lots[0].award;
    world.house.freeze(world.project, true).await.unwrap();
    world.house.award_freeze(award, true).await.unwrap();
    conflicts(world.house.freeze(world.project, false).await);
    conflicts(world.house.award_freeze(award, false).await);
    let resume = |reason: &str| Act::ProjectResume(ProjectResume { project: world.project, reason: reason.into() });
    let resume_award = |reason: &str| Act::AwardResume(AwardResume { award, reason: reason.into() });
    by_both(&world, resume("the audit found nothing")).await;
    let quote = world.quote().await;
    let (_, refused) = world.post("/v1/reservations", world.reservation(&quote, 10), &world.member).await;
    assert_eq!(refused["code"], json!("balance_too_low"), "the award is frozen still: {refused}");
    by_both(&world, resume_award("the audit found nothing")).await;
    world.buy(10).await;
    for act in [resume("once more"), resume_award("once more")] {
        let refused = world.house.act(act.clone(), Some(act.sign(&secret("ann")))).await.unwrap_err().to_string();
        assert!(refused.contains("is not frozen"), "{refused}");
    }
    // What was said again without a reason of its own is the same act, and was done.
    world.house.freeze(world.project, true).await.unwrap();
    let same = resume("the audit found nothing");
    assert!(world.house.act(same.clone(), Some(same.sign(&secret("ann")))).await.unwrap().done);
    assert_eq!(world.count("SELECT COUNT(*) FROM project WHERE frozen = 1").await, 1);
}

/// An accountant who sees more paid than was metered need not wait for the machine to find a contradiction.
async fn a_dispute_is_opened_by_hand_and_ends_either_way(on: On) {
    for outcome in [Outcome::Upheld, Outcome::Reversed] {
        let world = World::new(on, 10_000).await;
        two_officers(&world).await;
        let mut lab = claimed(&world, 30, 30).await;
        let open = |reason: &str| Act::DisputeOpen(DisputeOpen { token: lab.token.id, reason: reason.into() });
        by_both(&world, open("the count says 12")).await;
        let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
        assert_eq!((&dispute.cause[..], dispute.held, &dispute.state[..]), ("officers", ucr(300), "open"));
        assert_eq!(dispute.evidence, open("the count says 12").id());
        let twice = open("and so do I");
        let refused = world.house.act(twice.clone(), Some(twice.sign(&secret("ann")))).await.unwrap_err().to_string();
        assert!(refused.contains(&dispute.id.to_string()), "{refused}");
        // Nothing is paid under it until it has ended.
        lab.charge(lab.root(), 0, PRICE);
        let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
        assert_eq!((status, &reply["settled"]), (200, &json!(0)), "{reply}");
        let ask = crate::acts::DisputeEnd { dispute: dispute.id, outcome, reason: "meeting of 4 May".into() };
        by_both(&world, Act::DisputeEnd(ask)).await;
        let paid = world.house.payables(Period::default()).await.unwrap().total.unwrap().closing_ucr;
        let sums = world.sums().await;
        match outcome {
            Outcome::Upheld => assert_eq!((paid, sums), (310, [10_000, 310, 4_690, 5_000])),
            Outcome::Reversed => assert_eq!((paid, sums), (0, [10_000, 0, 0, 10_000])),
        }
        // Nobody serves on under a token that will not be paid.
        let listed = world.house.standing().unwrap().contains(RevokedKind::Token, &lab.token.id.to_string());
        assert_eq!(listed, outcome == Outcome::Reversed);
        assert!(world.house.audit().await.unwrap().holds);
        world.house.log_advance().await.unwrap();
        assert!(world.house.log_audit().await.unwrap().holds);
    }
    // Alone where nobody else keeps the books, and of a token that is there.
    let world = World::new(on, 10_000).await;
    let lab = claimed(&world, 3, 3).await;
    let nothing = DisputeOpen { token: comity_wire::TokenId([9; 16]), reason: "no such token".into() };
    assert!(world.house.act(Act::DisputeOpen(nothing), None).await.is_err());
    let ask = DisputeOpen { token: lab.token.id, reason: "alone".into() };
    assert!(world.house.act(Act::DisputeOpen(ask), None).await.unwrap().done);
    let dispute = disputes(&world).await.remove(0);
    end(&world, &dispute, Outcome::Upheld).await;
}

on_each_store! {
    nobody_alone_lets_a_key_spend
    nobody_alone_answers_for_anybody
    nobody_alone_lets_go_on_what_was_frozen
    a_dispute_is_opened_by_hand_and_ends_either_way
}
