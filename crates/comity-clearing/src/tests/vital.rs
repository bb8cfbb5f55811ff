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

/// A replica whose disk takes no checkpoint signs nothing, and another one does: whoever balances loads is told which.
async fn a_replica_that_cannot_remember_what_it_signs_is_not_ready(on: On) {
    let world = World::new(on, 1_000).await;
    let home = tempfile::tempdir().unwrap();
    let replica = world.replica(home.path()).await;
    let ill = async |house: &crate::Clearing| {
        let parts = house.vital().await.parts.into_iter();
        parts.filter(|(_, is_well)| !is_well).map(|(part, _)| part).collect::<Vec<_>>()
    };
    replica.log_advance().await.unwrap();
    assert_eq!(ill(&replica).await, [""; 0]);
    let gone = home.path().to_owned();
    drop(home);
    world.house.award(world.award("A-2", 5)).await.unwrap();
    assert!(replica.log_advance().await.is_err());
    assert_eq!(ill(&replica).await, ["checkpoint"]);
    // The other one signs, and the first follows as soon as it can.
    world.house.log_advance().await.unwrap();
    assert_eq!(ill(&world.house).await, [""; 0]);
    assert!(replica.log_advance().await.is_err());
    assert_eq!(ill(&replica).await, ["checkpoint"]);
    std::fs::create_dir(&gone).unwrap();
    replica.log_advance().await.unwrap();
    assert_eq!(ill(&replica).await, [""; 0]);
    replica.shutdown().await;
    std::fs::remove_dir_all(gone).unwrap();
}

async fn a_replica_that_publishes_nothing_is_not_ready(on: On) {
    let world = World::new(on, 1_000).await;
    world.house.publishing(false);
    assert_eq!(ready(&world).await, (503, vec!["publishing".into()]));
    // It goes on selling.
    assert_eq!(world.post("/v1/quotes", world.quote_request(), &world.member).await.0, 200);
    world.house.publishing(true);
    assert_eq!(ready(&world).await, (200, vec![]));
}

on_each_store! {
    a_replica_that_cannot_remember_what_it_signs_is_not_ready
    a_replica_that_publishes_nothing_is_not_ready
    a_house_is_ready_while_every_part_is_well
    a_house_whose_books_are_held_by_another_is_not_ready
}
