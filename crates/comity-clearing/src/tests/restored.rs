//! Books that came back from a backup: everybody who asks is told, and revocations neither go back nor are lost.

use comity_wire::cbor::List;
use comity_wire::object::{Revocation, RevocationList, RevokedKind};
use comity_wire::{Signed, Timestamp, TokenId, cose};
use serde_json::json;

use super::world::*;
use crate::ops;

async fn a_restored_house_says_so_and_its_lists_go_on_above(on: On) {
    let mut world = World::new(on, 10_000).await;
    let (_, about) = world.get("/v1/house", &secret("anybody")).await;
    assert_eq!(about, json!({ "house": HOUSE, "open_since": START }));
    assert_eq!(world.house.standing().unwrap().number, 1);
    // The backup is of now; after it the house revokes a token, and the federation hears of it.
    let lost = TokenId([77; 16]);
    let entry = Revocation {
        kind: RevokedKind::Token,
        subject: comity_wire::cbor::Text::new(lost.to_string()).unwrap(),
        at: START,
    };
    let heard = RevocationList { org: HOUSE, number: 5, issued_at: START, entries: List::new(vec![entry]).unwrap() };
    world.house.shutdown().await;
    let restored = ops::restored_put(&world.books.database(), START.minus(60), START.plus(60)).await.unwrap();
    world.sleep(120);
    world.restart().await;
    let (_, about) = world.get("/v1/house", &secret("anybody")).await;
    let said = json!({ "number": 1, "backup_at": START.minus(60), "restored_at": START.plus(60) });
    assert_eq!((&about["restored"], restored.number), (&said, 1));
    let list = world.house.standing().unwrap();
    assert!(list.number >= START.0, "above all that were signed before: {}", list.number);
    assert_eq!(list.entries.len(), 0);

    world.directory.insert(cose::sign(&heard, &secret("issuer")).bytes()).unwrap();
    assert!(world.house.standing_renew().await.unwrap(), "what only the federation knew");
    assert!(!world.house.standing_renew().await.unwrap(), "once");
    world.house.revoke(TokenId([78; 16])).await.unwrap();
    let list = world.house.standing().unwrap();
    let named: Vec<_> = list.entries.iter().map(|entry| entry.subject.to_string()).collect();
    assert!(named.contains(&lost.to_string()), "what only the federation knew: {named:?}");
    world.restart().await;
    assert_eq!(world.house.standing().unwrap().entries.len(), 2, "it is in the books now");
    let bytes = world.house.standing().unwrap().bytes().to_vec();
    assert!(Signed::<RevocationList>::decode(&bytes).unwrap().verify(&secret("issuer").public()).is_ok());
}

async fn a_house_that_is_behind_its_own_list_makes_another_at_once(on: On) {
    let world = World::new(on, 1_000).await;
    let heard = RevocationList { org: HOUSE, number: 9, issued_at: START, entries: List::default() };
    world.directory.insert(cose::sign(&heard, &secret("issuer")).bytes()).unwrap();
    assert!(world.house.standing_renew().await.unwrap());
    assert_eq!(world.house.standing().unwrap().number, 10);
}

async fn that_books_came_back_is_never_forgotten(on: On) {
    let world = World::new(on, 1_000).await;
    let database = world.books.database();
    for number in 1..=2 {
        let restored = ops::restored_put(&database, START, START.plus(number)).await.unwrap();
        assert_eq!((restored.number, restored.restored_at), (number, START.plus(number)));
    }
    let mut conn = world.books.connect().await;
    for sql in ["UPDATE restored SET restored_at = restored_at + 1", "DELETE FROM restored"] {
        assert!(comity_ledger::db::query(sql).execute(&mut conn.db()).await.is_err(), "{sql}");
    }
    assert_eq!(ops::glance(&database).await.unwrap().facts.restored.unwrap().number, 2);
    assert_eq!(ops::glance(&database).await.unwrap().sum_ucr, 0);
    assert!(ops::is_clock_behind(Some(Timestamp(500)), Timestamp(300)) && !ops::is_clock_behind(None, Timestamp(0)));
}

on_each_store! {
    a_restored_house_says_so_and_its_lists_go_on_above
    a_house_that_is_behind_its_own_list_makes_another_at_once
    that_books_came_back_is_never_forgotten
}
