//! What the books do where an answer of the store is lost, comes late, or never comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tower::ServiceExt as _;

use super::world::*;

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
