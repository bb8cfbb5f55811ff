//! Whether a house is well, as whoever balances loads is told.

use serde_json::{Value, json};

use super::world::*;

async fn ready(world: &World) -> (u16, Vec<String>) {
    let (status, body) = world.get("/readyz", &secret("anybody")).await;
    let parts = body["parts"].as_object().expect("parts").iter();
    let ill: Vec<_> =
        parts.filter(|(_, is_well)| **is_well == Value::Bool(false)).map(|(part, _)| part.clone()).collect();
    assert_eq!(body["ready"], json!(ill.is_empty()));
    (status, ill)
}

async fn a_house_is_ready_while_every_part_is_well(on: On) {
    let world = World::new(on, 1_000).await;
    assert_eq!(ready(&world).await, (200, vec![]));
    world.sleep(151);
    assert_eq!(ready(&world).await, (503, vec!["heartbeat".into()]));
    world.house.beat().await.unwrap();
    assert_eq!(ready(&world).await, (200, vec![]));
    world.set_back(121);
    assert_eq!(ready(&world).await, (503, vec!["clock".into()]));
    world.sleep(121);
    // It goes on serving while it sends others away.
    world.house.retire();
    assert_eq!(ready(&world).await, (503, vec!["open".into()]));
    assert_eq!(world.get("/healthz", &secret("anybody")).await, (200, json!({ "live": true })));
    assert_eq!(world.post("/v1/quotes", world.quote_request(), &world.member).await.0, 200);
}

async fn a_house_whose_books_are_held_by_another_is_not_ready(on: On) {
    let world = World::new(on, 1_000).await;
    let mut conn = world.books.connect().await;
    let held = conn.write().await.unwrap();
    assert_eq!(ready(&world).await, (503, vec!["writing".into()]));
    held.rollback().await.unwrap();
    let vital = world.house.vital().await;
    assert!(!vital.is_ready() && vital.list_age_s == 0 && vital.commits > 0, "asked again a moment later: {vital:?}");
}

on_each_store! {
    a_house_is_ready_while_every_part_is_well
    a_house_whose_books_are_held_by_another_is_not_ready
}
