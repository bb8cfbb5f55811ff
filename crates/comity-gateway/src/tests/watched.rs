//! What those who watch are told: one word for each call, whatever its end, and none of what was said.

use std::sync::atomic::Ordering;

use comity_supply::scripted::{Script, Step};
use comity_supply::{Delta, Event};
use comity_wire::object::{Basis, Ended, Logging};
use comity_wire::{Amount, Meter, Op};
use serde_json::json;

use super::world::*;

#[tokio::test]
async fn a_call_that_was_answered_is_told_with_what_its_receipt_says() {
    for stream in [false, true] {
        let world = World::new(Setting::default()).await;
        let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        let (status, _, _) = read(world.send(&ask).await).await;
        let call = world.watched.next().await;
        assert_eq!((call.route, call.stream, call.status), ("/v1/chat/completions", stream, status));
        assert_eq!((call.model, call.op, call.code), (Some(model()), Some(Op::Chat), None));
        assert_eq!((call.subject.as_deref(), call.token), (Some("sub-of-the-project"), Some(TOKEN)));
        assert!(!call.is_unwritten);
        let charge = call.charge.unwrap();
        assert_eq!((charge.charge, charge.basis, charge.ended), (Amount::from_ucr(18), Basis::Upstream, Ended::Stop));
        assert_eq!(charge.meters.get(Meter::OutputTokens), 3);
        assert!(call.held >= charge.charge && call.first.is_some_and(|first| first <= call.took));
        assert_eq!(world.watched.commits.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code_and_without_a_charge() {
    let world = World::new(Setting::default()).await;
    let mut ask = world.ask(&world.mint(|_| {}));
    ask.max = Amount::from_ucr(1);
    assert_eq!(world.code(&ask).await, "max_too_low");
    let call = world.watched.next().await;
    assert_eq!((call.status, call.code), (402, Some("max_too_low")));
    assert!(call.charge.is_none() && call.held == Amount::ZERO);
    // A name that is not served stays out: it would be a stranger's choice of what is counted.
    let other = world
        .ask(&world.mint(|_| {}))
        .body(json!({"model": "lab/other", "messages": [{"role": "user", "content": "hi"}]}));
    world.code(&other).await;
    let call = world.watched.next().await;
    assert!(call.model.is_none() && call.code.is_some(), "{call:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_is_told_with_how_it_ended() {
    let world = World::new(Setting::default()).await;
    let said = Step::Say(Event::Delta(Delta { text: "one".into(), ..Delta::default() }));
    world.upstream.push(Script::Answer(vec![said, Step::Cut]));
    let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    read(world.send(&ask).await).await;
    let call = world.watched.next().await;
    let charge = call.charge.unwrap();
    assert_eq!((call.status, charge.ended), (200, Ended::UpstreamError));
}

#[tokio::test]
async fn a_replay_is_told_as_one() {
    let world = World::new(Setting::default()).await;
    let ask = world.ask(&world.mint(|_| {}));
    world.code(&ask).await;
    assert!(!world.watched.next().await.replayed);
    world.code(&ask).await;
    let call = world.watched.next().await;
    assert!(call.replayed && call.charge.is_none());
}

#[tokio::test]
async fn where_the_tier_logs_nothing_nothing_is_to_be_written() {
    let mut setting = Setting::default();
    setting.tier.logging = Logging::None;
    let world = World::new(setting).await;
    world.code(&world.ask(&world.mint(|_| {}))).await;
    let call = world.watched.next().await;
    assert_eq!((call.subject, call.token, call.is_unwritten), (None, None, true));
    assert!(call.charge.is_some());
}
