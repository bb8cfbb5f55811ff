//! Findings of blind probes: the owner first, then everybody; and nobody else before.

use comity_probe::{Finding, State, Suspicion, Why};
use comity_wire::time::DAY_S;
use comity_wire::{Digest, Timestamp};
use serde_json::json;

use super::world::*;
use crate::admin::FindingAct;
use crate::failure::Failure;

fn drawn(differ: u64) -> Finding {
    let suspicion = Suspicion {
        why: Why::Changed,
        announced: false,
        at: Timestamp(2_000),
        since: Timestamp(1_000),
        value: Some((9e6, 7.3e6)),
        looked_at: 12,
        differ,
        excess: 0,
        signs: None,
        receipts: vec![Digest::of(b"receipt")],
        prompts: vec![7],
        personas: vec![3],
    };
    Finding::draw(NODE, model(), Digest::of(b"release"), &suspicion)
}

async fn show(world: &World, finding: &Finding) -> Finding {
    world.house.finding_act(FindingAct::Show { finding: Box::new(finding.clone()) }).await.unwrap()
}

async fn shown(world: &World) -> Vec<Finding> {
    let (status, reply) = world.get(&format!("/v1/findings/shown?node={NODE}"), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value(reply["findings"].clone()).unwrap()
}

/// As anybody reads them.
async fn published(world: &World, query: &str) -> serde_json::Value {
    let uri = format!("/v1/findings{query}");
    let request = http::Request::builder().uri(&uri).body(axum::body::Body::empty()).unwrap();
    let (status, reply) = world.send(request).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

fn publish(id: Digest) -> FindingAct {
    FindingAct::Publish { id, by: "Ada".to_owned(), reason: "two weeks went by".to_owned() }
}

async fn a_finding_is_its_owners_for_two_weeks_and_then_everybodys(on: On) {
    let world = World::new(on, 10_000).await;
    let finding = drawn(9);
    assert_eq!(show(&world, &finding).await.id, finding.id);
    let until = world.now().plus(14 * DAY_S);
    let [one] = &shown(&world).await[..] else { panic!("one") };
    assert_eq!((one.id, &one.state), (finding.id, &State::Shown { answer_by: until }));
    // Shown again, the two weeks run from the first.
    world.pass(3_600).await;
    assert_eq!(show(&world, &finding).await.state, State::Shown { answer_by: until });
    assert_eq!(published(&world, "").await["findings"], json!([]));
    let early = world.house.finding_act(publish(finding.id)).await.unwrap_err();
    assert!(matches!(early, Failure::Finding(comity_probe::Refused::TooEarly { .. })), "{early}");
    // Nobody else reads it, or answers it.
    for key in [&world.member, &secret("holder")] {
        let refused = world.get(&format!("/v1/findings/shown?node={NODE}"), key).await;
        assert_eq!((refused.0, code(&refused).as_str()), (403, "not_yours"));
        let refused = world.post(&format!("/v1/findings/{}/answers", finding.id), json!({"answer": "no"}), key).await;
        assert_eq!((refused.0, code(&refused).as_str()), (403, "not_yours"));
    }
    world.sleep(14 * DAY_S);
    world.house.beat().await.unwrap();
    let public = world.house.finding_act(publish(finding.id)).await.unwrap();
    assert!(matches!(&public.state, State::Published { by, .. } if by == "Ada"));
    let all = published(&world, "").await;
    assert_eq!(serde_json::from_value::<Finding>(all["findings"][0].clone()).unwrap(), public);
    // Also a late answer stands with it.
    let path = format!("/v1/findings/{}/answers", finding.id);
    let late = world.post(&path, json!({"answer": "We moved to other cards."}), &secret("transport")).await;
    assert_eq!(late.0, 200, "{}", late.1);
    assert_eq!(published(&world, "").await["findings"][0]["answer"], "We moved to other cards.");
}

async fn an_answer_shortens_the_wait_and_what_was_wrong_stays_readable_as_withdrawn(on: On) {
    let world = World::new(on, 10_000).await;
    let (first, second) = (drawn(9), drawn(10));
    show(&world, &first).await;
    world.pass(60).await;
    show(&world, &second).await;
    let path = |id: Digest| format!("/v1/findings/{id}/answers");
    let transport = secret("transport");
    let empty = world.post(&path(first.id), json!({"answer": ""}), &transport).await;
    assert_eq!((empty.0, code(&empty).as_str()), (400, "invalid_request"));
    let none = world.post(&path(Digest::of(b"other")), json!({"answer": "what"}), &transport).await;
    assert_eq!((none.0, code(&none).as_str()), (404, "not_found"));
    for id in [first.id, second.id] {
        let said = world.post(&path(id), json!({"answer": "It was a driver."}), &transport).await;
        assert_eq!(said.0, 200, "{}", said.1);
        world.house.finding_act(publish(id)).await.unwrap();
    }
    // A page at a time, the oldest first.
    let page = published(&world, "?limit=1").await;
    assert_eq!(page["findings"][0]["id"], first.id.to_string());
    let next = published(&world, &format!("?limit=1&cursor={}", page["next"].as_str().unwrap())).await;
    assert_eq!((&next["findings"][0]["id"], &next["next"]), (&json!(second.id.to_string()), &json!(null)));
    let withdraw = FindingAct::Withdraw { id: first.id, by: "Ada".to_owned(), reason: "a driver".to_owned() };
    world.house.finding_act(withdraw).await.unwrap();
    let all = published(&world, "").await;
    assert_eq!(
        (all["findings"].as_array().unwrap().len(), &all["findings"][0]["state"]["withdrawn"]["by"]),
        (2, &json!("Ada"))
    );
    let over = world.post(&path(first.id), json!({"answer": "more"}), &transport).await;
    assert_eq!((over.0, code(&over).as_str()), (410, "closed"));
    // One that was withdrawn before it was published, its owner alone has seen.
    let third = drawn(11);
    show(&world, &third).await;
    let withdraw = FindingAct::Withdraw { id: third.id, by: "Ada".to_owned(), reason: "noise".to_owned() };
    world.house.finding_act(withdraw).await.unwrap();
    assert_eq!((shown(&world).await.len(), published(&world, "").await["findings"].as_array().unwrap().len()), (3, 2));
}

/// Evidence under another's id, an answer put into the owner's mouth: neither gets in.
async fn what_is_shown_is_what_its_id_says(on: On) {
    let world = World::new(on, 10_000).await;
    let mut forged = drawn(9);
    forged.evidence.differ = 90;
    let refused = world.house.finding_act(FindingAct::Show { finding: Box::new(forged) }).await.unwrap_err();
    assert!(matches!(refused, Failure::Invalid { .. }), "{refused}");
    let said = State::Published { at: Timestamp(1), by: "nobody".to_owned(), reason: "none".to_owned() };
    let spoken = Finding { answer: Some("We did it.".to_owned()), state: said, ..drawn(9) };
    let shown = show(&world, &spoken).await;
    assert!(shown.answer.is_none() && matches!(shown.state, State::Shown { .. }), "{shown:?}");
    assert_eq!(published(&world, "").await["findings"], json!([]));
}

on_each_store! {
    a_finding_is_its_owners_for_two_weeks_and_then_everybodys
    an_answer_shortens_the_wait_and_what_was_wrong_stays_readable_as_withdrawn
    what_is_shown_is_what_its_id_says
}
