//! The key that the house sells with: how another takes its place, and that nobody alone can.

use comity_wire::Signed;
use comity_wire::object::{Quote, Token};
use serde_json::json;

use super::rights::{by_both, two_officers};
use super::world::*;
use crate::acts::{Act, IssuerApprove};

fn approve(name: &str) -> Act {
    Act::IssuerKey(IssuerApprove { key: secret(name).public(), reason: "once a year".into() })
}

async fn quoted(world: &World) -> (u16, String) {
    let said = world.post("/v1/quotes", world.quote_request(), &world.member).await;
    (said.0, code(&said))
}

async fn sells(world: &World) -> bool {
    quoted(world).await.0 == 200
}

async fn is_ready(world: &World) -> bool {
    world.house.vital().await.parts.contains(&("issuer_key", true))
}

/// What the house knows of its keys: whose act, whether in use, what the roster says.
async fn known(world: &World) -> Vec<(bool, bool, String)> {
    let all = world.house.issuer_keys().await.unwrap();
    all.into_iter().map(|known| (known.act.is_some(), known.in_use, known.roster)).collect()
}

async fn nobody_alone_lets_the_house_sell_with_another_key(on: On) {
    let mut world = World::new(on, 10_000).await;
    two_officers(&world).await;
    let quote = world.quote().await;
    let (first, second) = (world.reservation(&quote, 100), world.reservation(&quote, 100));
    let sold = world.post("/v1/reservations", first.clone(), &world.member).await;
    let mut lab = Lab::new(&sold.1["token"]);
    lab.charge(lab.root(), 0, PRICE);

    // Somebody with the machine puts a key of their own there.
    world.restart_beside("next issuer", &["issuer"]).await;
    assert!(!is_ready(&world).await);
    assert_eq!(quoted(&world).await, (403, "duty_conflict".into()));
    assert_eq!(code(&world.post("/v1/reservations", second.clone(), &world.member).await), "duty_conflict");
    // What was sold binds: it is answered again as it was, and paid. And what stops work goes on.
    let again = world.post("/v1/reservations", first.clone(), &world.member).await;
    assert_eq!((again.0, &again.1["token"]), (200, &sold.1["token"]));
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(10)), "{reply}");
    world.house.revoke(lab.token.id).await.unwrap();
    // A minute later it is not taken down after all.
    world.house.issuing_look().await.unwrap();
    assert_eq!(known(&world).await, [(false, false, "active".into())]);

    by_both(&world, approve("next issuer")).await;
    assert!(is_ready(&world).await, "at once, in the process that did it");
    let (status, code_) = quoted(&world).await;
    assert_eq!((status, &code_[..]), (503, "roster_behind"), "two days lie before a key's first use");
    world.pass(DAY).await;
    assert!(sells(&world).await);
    assert_eq!(known(&world).await.iter().filter(|known| **known == (true, true, "active".into())).count(), 1);
    let quote = world.quote().await;
    let (_, sold) = world.post("/v1/reservations", world.reservation(&quote, 100), &world.member).await;
    let token = Signed::<Token>::decode(&signed_bytes(&sold["token"])).unwrap();
    token.verify(&secret("next issuer").public()).unwrap();
    // Back to the one before, which nobody took away.
    world.restart_beside("issuer", &["next issuer"]).await;
    assert!(sells(&world).await && is_ready(&world).await);
    let approved = approve("issuer");
    let refused = world.house.act(approved.clone(), Some(approved.sign(&secret("ann")))).await.unwrap_err();
    assert!(refused.to_string().contains("approved already"), "{refused}");
    assert!(world.house.audit().await.unwrap().holds);
}

async fn a_house_of_one_person_takes_down_what_it_signs_with(on: On) {
    let mut world = World::new(on, 10_000).await;
    assert_eq!(known(&world).await, [(false, true, "active".into())]);
    world.restart_keyed("next issuer").await;
    assert!(is_ready(&world).await);
    assert_eq!(quoted(&world).await.1, "roster_behind");
    world.pass(DAY).await;
    assert!(sells(&world).await);
    // From the second officer on no further one; those that are there stay.
    two_officers(&world).await;
    world.restart_keyed("issuer").await;
    assert!(sells(&world).await);
    world.restart_keyed("issuer 2").await;
    assert_eq!(quoted(&world).await.1, "duty_conflict");
    by_both(&world, approve("issuer 2")).await;
    assert_eq!(quoted(&world).await.1, "roster_behind", "a key that the roster does not have");
    assert_eq!(known(&world).await.iter().filter(|known| known.2 == "not listed").count(), 1);
}

/// A key that lies beside the others and that nobody approved signs no quote that the house takes for its own.
async fn what_an_unapproved_key_quoted_is_not_sold(on: On) {
    let mut world = World::new(on, 10_000).await;
    two_officers(&world).await;
    let quote = world.quote().await;
    let forged: Signed<Quote> = Signed::decode(&signed_bytes(&quote)).unwrap();
    let forged = comity_wire::cose::sign(forged.unverified(), &secret("next issuer"));
    let forged = json!(comity_wire::api::clearing::SignedBytes::new(forged.bytes()).unwrap());
    world.restart_beside("issuer", &["next issuer"]).await;
    let ask = world.reservation(&forged, 10);
    assert_eq!(code(&world.post("/v1/reservations", ask.clone(), &world.member).await), "wrong_key");
    // Once it is the house's, what it signed is; and what the key before it signed stays so.
    by_both(&world, approve("next issuer")).await;
    assert_eq!(world.post("/v1/reservations", ask, &world.member).await.0, 200);
    let ask = world.reservation(&quote, 10);
    let sold = world.post("/v1/reservations", ask.clone(), &world.member).await;
    assert_eq!(sold.0, 200);
    // What was sold is answered again, whatever becomes of the key that quoted it.
    world.restart_beside("issuer 2", &["issuer", "next issuer"]).await;
    world.tamper("DELETE FROM issuer WHERE act IS NULL").await;
    world.house.issuing_look().await.unwrap();
    let again = world.post("/v1/reservations", ask, &world.member).await;
    assert_eq!((again.0, &again.1["token"]), (200, &sold.1["token"]));
}

async fn the_other_replica_hears_of_it_within_a_minute(on: On) {
    let mut world = World::new(on, 10_000).await;
    two_officers(&world).await;
    world.restart_beside("next issuer", &["issuer"]).await;
    let home = tempfile::tempdir().unwrap();
    // Of one key, too, and started before the officers approved it.
    let other = world.replica_keyed(home.path(), "next issuer").await;
    assert!(!other.vital().await.parts.contains(&("issuer_key", true)));
    by_both(&world, approve("next issuer")).await;
    other.issuing_look().await.unwrap();
    assert!(other.vital().await.parts.contains(&("issuer_key", true)));
    other.shutdown().await;
}

on_each_store! {
    nobody_alone_lets_the_house_sell_with_another_key
    a_house_of_one_person_takes_down_what_it_signs_with
    the_other_replica_hears_of_it_within_a_minute
    what_an_unapproved_key_quoted_is_not_sold
}
