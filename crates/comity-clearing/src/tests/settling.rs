//! Settlement when something went wrong before: a certificate of another member, a token that cannot be swept.

use comity_ledger::db::{Migrations, query};
use comity_wire::Amount;
use serde_json::json;

use super::disputes::{disputes, end};
use super::world::*;
use crate::acts::Outcome;

/// Spec §2.4: the house pays the owner that it first sold work of this node for.
async fn a_node_stays_with_the_owner_whose_work_was_sold_first(on: On) {
    let mut world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, 40);
    let acknowledgement = lab.acknowledge(&secret("holder"));
    let honest = lab.claim(vec![acknowledgement.clone()]);

    world.restart_with(&rival_certificate()).await;
    lab.receipt_key = secret("rival receipt");
    let stolen = lab.claim(vec![acknowledgement]);
    let refused = world.post("/v1/claims", stolen.clone(), &secret("rival transport")).await;
    assert_eq!((refused.0, code(&refused).as_str()), (403, "not_yours"));
    assert_eq!(code(&world.finish(lab.final_()).await), "wrong_key");
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);

    // Nor can it become the owner by being asked for a price, and the lab is paid although the directory names another.
    let refused = world.post("/v1/quotes", world.quote_request(), &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (404, "not_found"));
    assert_eq!(code(&world.post("/v1/claims", stolen, &secret("transport")).await), "wrong_key");
    let (status, reply) = world.claim(&honest).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(40)), "{reply}");

    world.restart_with(&lab_certificate()).await;
    let (_, earned) = world.get(&format!("/v1/statement?node={NODE}"), &secret("transport")).await;
    assert_eq!(earned["closing"], json!(40), "{earned}");
    assert_eq!(world.sums().await, [10_000, 40, 960, 9_000]);
}

async fn the_sweep_passes_over_a_token_that_fails_and_does_the_others(on: On) {
    let world = World::new(on, 10_000).await;
    let first = world.buy(100).await;
    let second = world.buy(200).await;
    let panics = world.buy(300).await;
    let last = world.buy(400).await;
    // In the order of their ids: the first is fine, the second cannot be read, the third breaks what settlement asserts.
    assert!(first.token.id < second.token.id && second.token.id < panics.token.id && panics.token.id < last.token.id);
    world.tamper("UPDATE token SET phase = 1 WHERE budget = 200").await;
    world.tamper("UPDATE token SET paid = 1 WHERE budget = 300").await;
    world.pass(first.token.terms.settle_by.since(first.token.issued_at)).await;
    // One at a time, so that those which fail are in the way of the last.
    let swept = world.house.sweep_by(1).await.unwrap();
    assert_eq!((swept.tokens, swept.failed), (2, 2), "{swept:?}");
    assert_eq!((swept.settled, swept.refunded), (Amount::ZERO, ucr(500)));
    // Once they are mended, they are swept too.
    world.tamper("UPDATE token SET phase = 0, paid = 0").await;
    let swept = world.house.sweep().await.unwrap();
    assert_eq!((swept.failed, swept.refunded), (0, ucr(500)), "{swept:?}");
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
}

/// Rule 9: the token binds the house whatever its books say, and the node knows more of them than the house does.
#[tokio::test]
async fn a_house_set_back_to_before_the_first_claim_takes_the_next_one() {
    let mut world = World::new(On::Sqlite, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let student = lab.delegate("student", 200);
    let backup = world.backup().await;
    for _ in 0..5 {
        lab.charge(lab.root(), 0, PRICE);
        lab.charge(student, 0, 1);
    }
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    lab.taken();
    assert_eq!(world.sums().await, [10_000, 55, 945, 9_000]);

    world.restore(&backup).await;
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);
    for _ in 0..4 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let next = lab.draft(vec![lab.acknowledge(&secret("holder"))]);
    assert!(next.lanes.iter().all(|lane| lane.settled_n == Some(5)));
    let (status, reply) = world.claim(&lab.sign(&next)).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(95)), "{reply}");
    // From here on the house has something to compare with again.
    lab.taken();
    lab.charge(lab.root(), 0, PRICE);
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(10)), "{reply}");
    assert_eq!(world.sums().await, [10_000, 105, 895, 9_000]);
}

/// Spec S-5: what comes after must rest on the settled receipt, not only on those before it.
async fn a_node_cannot_take_a_settled_receipt_out_of_its_history(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let key = (lab.root(), 0);
    for _ in 0..5 {
        lab.charge(key.0, key.1, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    // The fifth is replaced by a dearer one; the four before it are the same.
    let receipts = lab.lanes.get_mut(&key).unwrap();
    let settled = receipts.pop().unwrap();
    lab.charge(key.0, key.1, 2 * PRICE);
    lab.charge(key.0, key.1, PRICE);
    let refused = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((refused.0, code(&refused).as_str()), (409, "broken_history"));
    // With the one that was settled in its place the lane goes on.
    let receipts = lab.lanes.get_mut(&key).unwrap();
    receipts.truncate(4);
    receipts.push(settled);
    lab.charge(key.0, key.1, PRICE);
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"], &reply["unacknowledged"]), (200, &json!(0), &json!(60)), "{reply}");
    // Paid when two persons have decided that the node may keep it.
    end(&world, &disputes(&world).await[0], Outcome::Upheld).await;
    assert_eq!(world.sums().await, [10_000, 60, 940, 9_000]);
}

/// Spec §2.4: claims and finals stand under any receipt key ever certified to the node.
async fn a_node_that_changed_its_keys_still_has_its_receipts_settled(on: On) {
    let mut world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, 10);
    // Between the sale and the first claim it changes them twice; the house hears of the first change from its directory.
    world.directory.insert(&rotated_certificate("transport 2", "receipt 2", START)).unwrap();
    world.house.certificates_look().await.unwrap();
    world.restart_with(&rotated_certificate("transport 3", "receipt 3", START.plus(1))).await;
    lab.receipt_key = secret("receipt 2");
    lab.charge(lab.root(), 0, 20);
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let (status, reply) = world.post("/v1/claims", claim, &secret("transport 3")).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(30)), "{reply}");
    lab.taken();

    // The fourth keys it hears of from a claim alone, the fifth replace them before it looks again.
    world.directory.insert(&rotated_certificate("transport 4", "receipt 4", START.plus(2))).unwrap();
    lab.receipt_key = secret("receipt 4");
    lab.charge(lab.root(), 0, 30);
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    assert_eq!(world.post("/v1/claims", claim, &secret("transport 4")).await.0, 200);
    lab.taken();
    world.restart_with(&rotated_certificate("transport 5", "receipt 5", START.plus(3))).await;
    lab.charge(lab.root(), 0, 40);
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let (status, reply) = world.post("/v1/claims", claim, &secret("transport 4")).await;
    assert_eq!((status, &reply["settled_total"]), (200, &json!(100)), "{reply}");
    lab.receipt_key = secret("receipt");
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    assert_eq!(world.sums().await, [10_000, 100, 0, 9_900]);
    // A key that was never certified is none.
    lab.receipt_key = secret("receipt 6");
    assert_eq!(code(&world.post("/v1/claims", lab.claim(vec![]), &secret("transport 5")).await), "wrong_key");
}

/// Keys that an older house remembered, without dates, stand for good; of two owners the first is it.
#[tokio::test]
async fn keys_that_were_remembered_without_dates_are_kept() {
    let books = Books::empty(On::Sqlite).await;
    let older = Migrations::default().with(500, "clearing", include_str!("../../migrations/0500_clearing.sql"), "");
    comity_ledger::books::migrate(&books.database(), older).await.unwrap();
    let mut conn = books.connect().await;
    let insert = "INSERT INTO node_key (node, key, owner, seen_at) VALUES (?, ?, ?, ?)";
    for (key, owner, seen_at) in [("receipt", LAB, 5_i64), ("receipt 2", LAB, 7), ("rival receipt", RIVAL, 6)] {
        let key = secret(key).public().as_bytes().to_vec();
        let row = query(insert).bind(NODE.0.to_vec()).bind(key).bind(owner.0.to_vec()).bind(seen_at);
        row.execute(&mut conn.db()).await.unwrap();
    }
    comity_ledger::books::migrate(&books.database(), crate::store::migrations()).await.unwrap();
    let known = crate::store::house::node_keys(&mut conn.db(), NODE).await.unwrap();
    assert_eq!(known.owner, Some(LAB));
    let keys: std::collections::BTreeSet<_> = known.of(crate::store::house::KeyUse::Receipt).collect();
    assert_eq!(keys, [secret("receipt").public(), secret("receipt 2").public()].into());
    assert!(known.keys.iter().all(|key| (key.from.0, key.until.0) == (0, (1 << 53) - 1)));
}

async fn a_claim_that_contradicts_what_was_settled_is_kept_for_a_dispute(on: On) {
    let mut world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let key = (lab.root(), 0);
    for _ in 0..3 {
        lab.charge(key.0, key.1, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    lab.lanes.get_mut(&key).unwrap().pop();
    lab.charge(key.0, key.1, PRICE + 1);
    lab.charge(key.0, key.1, PRICE);
    let broken = lab.claim(vec![]);
    for _ in 0..2 {
        assert_eq!(code(&world.claim(&broken).await), "broken_history");
    }
    let kept = world.house.contradictions().await.unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((kept[0].token, kept[0].code.as_str(), kept[0].taken_at), (lab.token.id, "broken_history", world.now()));
    let bytes = signed_bytes(&broken["claim"]);
    let mut conn = world.books.connect().await;
    let stored =
        query("SELECT bytes FROM contradiction").fetch_one(&mut conn.db()).await.unwrap().blob("bytes").unwrap();
    conn.close().await.unwrap();
    assert_eq!(stored, bytes, "the very bytes, signature and all");
    // A final that ends in another third receipt, too.
    lab.lanes.get_mut(&key).unwrap().pop();
    assert_eq!(code(&world.finish(lab.final_()).await), "broken_history");
    assert_eq!(world.count("SELECT COUNT(*) FROM contradiction").await, 2);
    // However many there are, the books stay as they were and the table within its bound.
    lab.charge(key.0, key.1, PRICE);
    for _ in 0..20 {
        assert_eq!(code(&world.claim(&lab.claim(vec![])).await), "broken_history");
    }
    assert_eq!(world.count("SELECT COUNT(*) FROM contradiction").await, 16);
    assert_eq!(world.count("SELECT COUNT(*) FROM claim").await, 1);
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);
    world.restart().await;
    assert_eq!(world.house.contradictions().await.unwrap().len(), 16);

    let mut other = world.buy(100).await;
    other.charge(other.root(), 0, PRICE);
    assert_eq!(world.finish(other.final_()).await.0, 200);
    other.charge(other.root(), 0, PRICE);
    assert_eq!(code(&world.finish(other.final_()).await), "closed");
    assert_eq!(world.count("SELECT COUNT(*) FROM contradiction WHERE code = 'closed'").await, 1);
    // A refusal that proves nothing leaves nothing.
    lab.receipt_key = secret("thief");
    assert_eq!(code(&world.claim(&lab.claim(vec![])).await), "wrong_key");
    assert_eq!(code(&world.finish(lab.final_()).await), "wrong_key");
    assert_eq!(world.count("SELECT COUNT(*) FROM contradiction").await, 17);
}

async fn a_final_for_a_token_that_is_not_in_the_books_is_not_found_and_leaves_nothing(on: On) {
    let sold = World::new(on, 1_000).await;
    let mut lab = sold.buy(100).await;
    // Another house of the same keys: at first it has never met the node, then it has sold other work of it.
    let world = World::new(on, 1_000).await;
    let counts = "SELECT (SELECT COUNT(*) FROM token) + (SELECT COUNT(*) FROM final) + (SELECT COUNT(*) FROM head) \
                  + (SELECT COUNT(*) FROM contradiction)";
    let refused = world.finish(lab.final_()).await;
    assert_eq!((refused.0, code(&refused).as_str()), (404, "not_found"));
    world.reservation(&world.quote().await, 0);
    let other = world.buy(10).await;
    assert_ne!(other.token.id, lab.token.id);
    assert_eq!(code(&world.finish(lab.final_()).await), "not_found");
    assert_eq!(world.count(counts).await, 1, "the token it has sold");
    // Whoever signed it.
    lab.receipt_key = secret("thief");
    assert_eq!(code(&world.finish(lab.final_()).await), "not_found");
    // A claim tells the house of the token (rule 9); then the final counts.
    lab.receipt_key = secret("receipt");
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    let (status, reply) = world.finish(lab.final_()).await;
    assert_eq!((status, &reply["refunded"], &reply["in_escrow"]), (200, &json!(0), &json!(0)), "{reply}");
}

/// A node that says the same again and again, each time signed anew, does not fill the house's disk.
async fn claims_and_finals_that_change_nothing_are_not_kept(on: On) {
    let mut world = World::new(on, 1_000).await;
    let mut lab = world.buy(100).await;
    lab.charge(lab.root(), 0, PRICE);
    for number in 1..=5 {
        let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
        assert_eq!((status, &reply["settled_total"], &reply["number"]), (200, &json!(10), &json!(number)), "{reply}");
    }
    assert_eq!(world.count("SELECT COUNT(*) FROM claim").await, 1);
    let [first, second] = [START, START.plus(1)].map(|at| lab.final_at(at));
    assert_ne!(first, second);
    for final_ in [first, second] {
        assert_eq!(world.finish(final_).await.1["refunded"], json!(90));
    }
    assert_eq!(world.count("SELECT COUNT(*) FROM final").await, 1);
    world.restart().await;
    assert_eq!(world.sums().await, [1_000, 10, 0, 990]);
}

/// Rule 9 again: the backup has an older state of the lane than the node remembers. The house says where it stands.
#[tokio::test]
async fn a_house_set_back_to_the_middle_of_a_lane_says_where_it_stands() {
    let mut world = World::new(On::Sqlite, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let key = (lab.root(), 0);
    let mut backup = Vec::new();
    for n in 1..=3 {
        lab.charge(key.0, key.1, PRICE);
        lab.charge(key.0, key.1, PRICE);
        assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
        lab.taken();
        if n == 1 {
            backup = world.backup().await;
        }
    }
    world.restore(&backup).await;
    lab.charge(key.0, key.1, PRICE);
    let refused = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((refused.0, code(&refused).as_str()), (409, "settled_differs"));
    assert_eq!(refused.1["settled"], json!([{ "leaf": key.0, "lane": 0, "n": 2 }]));
    assert_eq!(world.house.contradictions().await.unwrap(), [], "it proves nothing");
    lab.settled.insert(key, 2);
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(50)), "{reply}");
    assert_eq!(world.sums().await, [10_000, 70, 930, 9_000]);
}

/// A node's word in its final holds for its claims after it.
async fn a_claim_that_ends_elsewhere_than_the_final_said_is_refused_and_kept(on: On) {
    let world = World::new(on, 1_000).await;
    let mut lab = world.buy(100).await;
    let key = (lab.root(), 0);
    lab.charge(key.0, key.1, PRICE);
    lab.charge(key.0, key.1, PRICE);
    assert_eq!(world.finish(lab.final_()).await.1["in_escrow"], json!(20));
    let last = lab.lanes.get_mut(&key).unwrap().pop().unwrap();
    lab.charge(key.0, key.1, PRICE - 1);
    let refused = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((refused.0, code(&refused).as_str()), (409, "broken_history"));
    assert_eq!(world.house.contradictions().await.unwrap().len(), 1);
    *lab.lanes.get_mut(&key).unwrap().last_mut().unwrap() = last;
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(0)), "{reply}");
    end(&world, &disputes(&world).await[0], Outcome::Upheld).await;
    assert_eq!(world.sums().await, [1_000, 20, 0, 980]);
}

on_each_store! {
    a_node_stays_with_the_owner_whose_work_was_sold_first
    the_sweep_passes_over_a_token_that_fails_and_does_the_others
    a_node_cannot_take_a_settled_receipt_out_of_its_history
    a_node_that_changed_its_keys_still_has_its_receipts_settled
    a_claim_that_contradicts_what_was_settled_is_kept_for_a_dispute
    a_final_for_a_token_that_is_not_in_the_books_is_not_found_and_leaves_nothing
    claims_and_finals_that_change_nothing_are_not_kept
    a_claim_that_ends_elsewhere_than_the_final_said_is_refused_and_kept
}
