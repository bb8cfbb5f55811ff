//! What models cost, and when.

use comity_wire::Timestamp;
use comity_wire::object::ModelState;

use super::world::*;
use crate::reports::Period;

/// The owner publishes another tariff.
pub(super) fn reprice(world: &World, version: u64, price: u32) {
    world.directory.insert(tariff(price).bytes()).unwrap();
    world.publish(version, tariff(price).id(), ModelState::Active);
}

async fn every_price_that_was_quoted_is_kept(on: On) {
    let mut world = World::new(on, 10_000).await;
    world.quote().await;
    world.pass(7_200).await;
    world.quote().await;
    world.pass(60).await;
    reprice(&world, 2, 12);
    let changed = world.now();
    world.quote().await;
    let rows = world.house.prices(Some(LAB), Period::default()).await.unwrap().rows;
    let told = |row: &crate::service::PriceRow| {
        (row.ucr_per_million, row.quoted_from.clone(), row.quoted_until.clone(), row.quoted_last.clone())
    };
    let at = |at: Timestamp| at.to_string();
    assert_eq!(
        rows.iter().map(told).collect::<Vec<_>>(),
        [
            (10_000_000, at(START), at(changed), at(START.plus(7_200))),
            (12_000_000, at(changed), String::new(), at(changed)),
        ]
    );
    assert_eq!((&rows[0].model[..], &rows[0].op[..], &rows[0].meter[..]), ("lab/tiny", "chat", "requests"));
    assert_eq!(rows[0].tariff, tariff(10).id().to_string());
    assert!(crate::reports::csv(&rows).starts_with("owner,model,op,meter,from_units,ucr_per_million,"));
    let before = Period { from: None, to: Some(changed) };
    assert_eq!(world.house.prices(None, before).await.unwrap().rows.len(), 1);
    assert!(world.house.prices(Some(RIVAL), Period::default()).await.unwrap().rows.is_empty());
    // Books from before: the quotes that they kept are looked through at the next start.
    let triggers = match on {
        On::Sqlite => "DROP TRIGGER price_is_kept",
        On::Postgres => "ALTER TABLE price DISABLE TRIGGER USER",
    };
    world.tamper(triggers).await;
    world.tamper("DELETE FROM price; UPDATE price_begun SET done = 0").await;
    world.restart().await;
    let again = world.house.prices(None, Period::default()).await.unwrap().rows;
    let firsts = |rows: &[crate::service::PriceRow]| {
        rows.iter().map(|row| (row.ucr_per_million, row.quoted_from.clone())).collect::<Vec<_>>()
    };
    assert_eq!(firsts(&again), firsts(&rows));
}

/// What nobody bought under is forgotten; what somebody did is kept for whoever asks what it cost.
async fn quotes_that_nobody_bought_under_end(on: On) {
    let world = World::new(on, 10_000).await;
    let quotes = async || world.count("SELECT COUNT(*) FROM quote").await;
    world.buy(10).await;
    // Nobody draws under this one, nor under the next.
    world.pass(60).await;
    world.quote().await;
    world.pass(7_200).await;
    world.quote().await;
    assert_eq!(quotes().await, 3);
    world.pass(DAY).await;
    assert_eq!(world.house.sweep().await.unwrap().quotes, 1, "the second hour passed without a sale");
    assert_eq!(quotes().await, 2);
    world.pass(7_200 + 60).await;
    assert_eq!(world.house.sweep().await.unwrap().quotes, 1);
    assert_eq!((world.house.sweep().await.unwrap().quotes, quotes().await), (0, 1));
    assert_eq!(world.count("SELECT COUNT(*) FROM quote WHERE kept = 1").await, 1);
    // One that cannot be read stays, and holds up no other.
    world.quote().await;
    world.books.tamper("UPDATE quote SET bytes = x'00' WHERE kept = 0").await;
    world.pass(60).await;
    world.quote().await;
    world.pass(DAY + 7_200).await;
    assert_eq!((world.house.sweep().await.unwrap().quotes, quotes().await), (1, 2));
    assert!(world.house.audit().await.unwrap().holds);
}

on_each_store! {
    quotes_that_nobody_bought_under_end
    every_price_that_was_quoted_is_kept
}
