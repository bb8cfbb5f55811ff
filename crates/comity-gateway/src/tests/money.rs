//! What money must always do, under many callers at once.

use std::collections::BTreeMap;

use axum::body::Body;
use comity_wire::{Amount, Meter};
use serde_json::json;
use tower::ServiceExt as _;

use super::world::*;
use crate::store::Sqlite;

/// 200 callers at once, one lane each, a token with room for exactly 40 calls.
async fn forty_of_two_hundred(world: World) {
    let price = 1_000;
    let chain = world.mint(|token| {
        token.terms.budget = Amount::from_ucr(40 * price);
        token.terms.window = Amount::from_ucr(price);
        token.terms.lanes_max = 200;
    });
    let calls = (0..200).map(|lane| {
        let mut ask = world.ask(&chain).lane(lane).body(chat("hi", json!({"max_tokens": 5})));
        ask.max = Amount::from_ucr(price);
        ask.nonce = [u8::try_from(lane).unwrap(); 16];
        let (router, request): (_, http::Request<Body>) = (world.gateway.router(), ask.request());
        tokio::spawn(async move { code(router.oneshot(request).await.unwrap()).await })
    });
    let mut codes = BTreeMap::<String, usize>::new();
    for call in calls.collect::<Vec<_>>() {
        *codes.entry(call.await.unwrap()).or_default() += 1;
    }
    assert_eq!(codes, BTreeMap::from([("ok".to_owned(), 40), ("budget_exhausted".to_owned(), 160)]));
}

fn by_request() -> Setting {
    Setting { rates: vec![rate(Meter::Requests, 1_000_000_000)], minimum: 0, ..Setting::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_callers_at_once_get_exactly_what_the_token_pays() {
    forty_of_two_hundred(World::new(by_request()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_callers_at_once_get_exactly_what_the_token_pays_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("spend.db")).await.unwrap();
    forty_of_two_hundred(World::on(by_request(), std::sync::Arc::new(store)).await).await;
}

#[tokio::test]
async fn a_call_that_waiting_would_let_in_is_told_to_wait() {
    let world = World::new(Setting::default()).await;
    let gate = comity_supply::scripted::Gate::shut();
    world.upstream.push(comity_supply::scripted::Script::text(comity_wire::Op::Chat, 1, &["a"]).held_at(1, &gate));
    // A call holds 136 and is charged 5 at least.
    let chain = world.mint(|token| token.terms.budget = Amount::from_ucr(200));
    let first = tokio::spawn(world.gateway.router().oneshot(world.ask(&chain).request()));
    while world.upstream.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.code(&world.ask(&chain).lane(1)).await, "budget_in_flight");
    gate.open(1);
    assert_eq!(code(first.await.unwrap().unwrap()).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).lane(1)).await, "ok");
}

#[tokio::test]
async fn a_full_window_opens_with_the_acknowledgement_in_the_same_request() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|token| token.terms.window = Amount::from_ucr(150));
    let (_, headers, _) = read(world.send(&world.ask(&chain)).await).await;
    let first = receipt(&headers);
    let mut ask = world.ask(&chain).seq(2);
    assert_eq!(world.code(&ask).await, "ack_required");
    ask.acknowledgement = Some(acknowledge(&[&first], &secret("stranger")));
    assert_eq!(world.code(&ask).await, "wrong_key");
    ask.acknowledgement = Some(acknowledge(&[&first], &secret("holder")));
    assert_eq!(world.code(&ask).await, "ok");
}

#[tokio::test]
async fn a_replay_gets_the_same_reply_or_its_receipt_and_charges_nothing() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain);
    let (_, first, body) = read(world.send(&ask).await).await;
    // Signed again a little later: the same request.
    world.clock.fetch_add(30, std::sync::atomic::Ordering::SeqCst);
    ask.created = NOW.plus(30);
    let (status, again, same) = read(world.send(&ask).await).await;
    assert_eq!((status, &same), (200, &body));
    assert_eq!(first["comity-receipt"], again["comity-receipt"]);
    assert_eq!(
        (&again["comity-cost"], &again["comity-remaining"]),
        (&"0".parse().unwrap(), &"999982".parse().unwrap())
    );
    // Past ten minutes only the receipt is left.
    world.clock.fetch_add(600, std::sync::atomic::Ordering::SeqCst);
    ask.created = NOW.plus(630);
    let (status, late, _) = read(world.send(&ask).await).await;
    assert_eq!(status, 409);
    assert_eq!(
        (&late["x-should-retry"], &late["comity-receipt"]),
        (&"false".parse().unwrap(), &first["comity-receipt"])
    );
    assert_eq!(world.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_stream_is_replayed_whole() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    let first = read(world.send(&ask).await).await.2;
    let again = read(world.send(&ask).await).await.2;
    assert_eq!(String::from_utf8(first), String::from_utf8(again));
    assert_eq!(world.upstream.calls().len(), 1);
}
