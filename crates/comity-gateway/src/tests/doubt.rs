//! What the books do where an answer of the store is lost, comes late, or never comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::world::*;
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
