//! What the books do where an answer of the store is lost, comes late, or never comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use comity_supply::scripted::{Gate, Script};
use comity_wire::Op;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::world::*;
use crate::spend::{ASKED_MAX, LaneKey};
use crate::store::Memory;

/// A broken invariant ends the writer: who cannot be charged is not let in, and whoever watches the process hears of it.
#[tokio::test]
async fn where_the_writer_has_ended_nobody_is_let_in_and_health_says_so() {
    let broken = AtomicBool::new(false);
    let failpoint = Arc::new(move |point: &'static str| {
        assert!(point != "charge.before_commit" || broken.swap(true, Ordering::SeqCst), "planted by a test");
    });
    let world = World::new(Setting { failpoint, ..Setting::default() }).await;
    let chain = world.mint(|_| {});
    let health = || async {
        let request = http::Request::get("/health").body(axum::body::Body::empty()).unwrap();
        world.gateway.router().oneshot(request).await.unwrap()
    };
    assert_eq!(code(health().await).await, "ok");
    assert_eq!(world.code(&world.ask(&chain)).await, "store_unavailable");
    assert_eq!(world.code(&world.ask(&chain).lane(1)).await, "store_unavailable");
    assert_eq!(world.upstream.calls().len(), 1, "the model is not asked for what cannot be charged");
    assert_eq!(code(health().await).await, "store_unavailable");
}

/// Read before a charge and handed out after it: what was charged since is not forgotten.
#[tokio::test]
async fn an_account_that_was_read_before_a_charge_takes_nothing_back() {
    let store = Memory::default();
    let world = World::on(Setting::default(), Arc::new(store.clone())).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    let ledger = &world.gateway.0.ledger;
    ledger.with(|book| book.unload(TOKEN));
    let late = Arc::new(Semaphore::new(0));
    store.hand_out_late(&late);
    let root = leaf(&chain);
    let mut loading = std::pin::pin!(ledger.load(TOKEN, root));
    assert!(futures::poll!(&mut loading).is_pending());
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "ok");
    // As after a batch that failed, or to make room.
    ledger.with(|book| book.unload(TOKEN));
    late.add_permits(1);
    loading.await.unwrap();
    let n = ledger.with(|book| book.account(TOKEN).map(|account| account.lanes.values().map(|lane| lane.n).max()));
    assert_eq!(n, Some(Some(2)), "the newer one stays");
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "ok");
}

/// What may have been charged is said to be in doubt, and its answer is kept for who asks again.
#[tokio::test]
async fn an_answer_whose_charge_is_in_doubt_is_there_for_the_retry() {
    for stream in [false, true] {
        let store = Memory::default();
        let world = World::on(Setting::default(), Arc::new(store.clone())).await;
        let chain = world.mint(|_| {});
        let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        store.lose_the_answer();
        let (status, _, body) = read(world.send(&ask).await).await;
        let said = String::from_utf8(body).unwrap();
        assert!(stream || status == 503, "{said}");
        assert!(said.contains("cannot tell") && !said.contains("nothing was charged"), "{said}");
        store.break_down(false);
        let (status, headers, body) = read(world.send(&ask).await).await;
        let said = String::from_utf8_lossy(&body);
        assert_eq!((status, &headers["comity-replayed"]), (200, &"true".parse().unwrap()), "{said}");
        assert!(said.contains("world"), "{said}");
        assert_eq!((world.upstream.calls().len(), store.charges().len()), (1, 1));
    }
}

/// An answer that was kept in doubt belongs to no other charge of the same request.
#[tokio::test]
async fn what_was_kept_in_doubt_is_not_handed_out_for_another_charge() {
    let store = Memory::default();
    let world = World::on(Setting::default(), Arc::new(store.clone())).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain);
    // It was not written, and nobody can tell.
    store.break_down_at_the_next_write();
    assert_eq!(world.code(&ask).await, "store_unavailable");
    store.break_down(false);
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["another"]).held_at(0, &gate));
    let again = tokio::spawn(world.gateway.router().oneshot(ask.request()));
    while world.upstream.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    // Its caller leaves; what it owes is charged.
    again.abort();
    let _ = again.await;
    world.gateway.drained().await;
    let (status, _, body) = read(world.send(&ask).await).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["error"]["code"]), (409, &json!("replayed")), "{body}");
}

/// What is not in memory is looked up: an acknowledgement is judged by the receipts that the store has.
#[tokio::test]
async fn what_is_not_in_memory_is_not_remembered() {
    let store = Memory::default();
    let world = World::on(Setting::default(), Arc::new(store.clone())).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    let (ledger, key) = (&world.gateway.0.ledger, LaneKey { leaf: leaf(&chain), lane: 0 });
    assert!(ledger.remembers(TOKEN, key, 1));
    ledger.with(|book| book.unload(TOKEN));
    assert!(!ledger.remembers(TOKEN, key, 1));
}

/// Whoever hears that nothing was charged asks elsewhere: what it signed before and is still on its way is not taken any more.
#[tokio::test]
async fn what_was_signed_before_its_holder_heard_that_it_is_not_charged_is_not_taken() {
    let store = Memory::default();
    let world = World::on(Setting::default(), Arc::new(store.clone())).await;
    let chain = world.mint(|_| {});
    let late = world.ask(&chain);
    let became = async |world: &World, seq: u64, key: &str, with_chain: bool| {
        let query = format!("token={TOKEN}&leaf={}&lane=0&seq={seq}", leaf(&chain));
        let call = world.called("GET", "/comity/v1/receipts", &query, &Value::Null, &secret(key));
        let call = if with_chain { call.header("comity-token", sf(&chain)) } else { call };
        code(world.gateway.router().oneshot(call.body(axum::body::Body::empty()).unwrap()).await.unwrap()).await
    };
    // No promise: this node cannot tell whose the slot is.
    assert_eq!(became(&world, 1, "holder", false).await, "token_unknown");
    assert_eq!(became(&world, 1, "thief", true).await, "not_yours");
    assert_eq!(became(&world, 1, "holder", true).await, "not_found");
    assert_eq!(world.code(&late).await, "stale");
    // Also by a process that was started since.
    let again = World::on(Setting::default(), Arc::new(store.clone())).await;
    assert_eq!(again.code(&late).await, "stale");
    assert!(world.upstream.calls().is_empty() && again.upstream.calls().is_empty() && store.charges().is_empty());
    // The number stays free for what is signed after the answer, and others are not concerned.
    let anew = Ask { created: late.created.plus(1), ..again.ask(&chain) };
    assert_eq!(again.code(&anew).await, "ok");
    assert_eq!(again.code(&again.ask(&chain).seq(2)).await, "ok");
    assert_eq!(became(&again, 1, "holder", false).await, "ok");
    assert_eq!(
        again.code(&late).await,
        "ok",
        "charged is charged: it is the same request, and is answered from memory"
    );
    assert_eq!(store.charges().len(), 2);
}

/// How many slots of a token are remembered has a bound, and those of which everything is stale leave room.
#[tokio::test]
async fn who_asks_about_more_than_is_remembered_waits() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    let became = async |seq: u64| {
        let query = format!("token={TOKEN}&leaf={}&lane=0&seq={seq}", leaf(&chain));
        code(world.call("GET", "/comity/v1/receipts", &query, &Value::Null, &secret("holder")).await).await
    };
    for seq in 2..2 + u64::try_from(ASKED_MAX).unwrap() {
        assert_eq!(became(seq).await, "not_found");
    }
    assert_eq!(became(5_000).await, "busy");
    assert_eq!(became(2).await, "not_found", "it is remembered already");
    world.clock.fetch_add(61, Ordering::SeqCst);
    assert_eq!(became(5_000).await, "not_found");
    let remembered = world.gateway.0.ledger.with(|book| book.account(TOKEN).map(|account| account.asked.len()));
    assert_eq!(remembered, Some(1));
}
