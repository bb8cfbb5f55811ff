//! The transparency log: sealed in order, served, proved, whole after every crash, and told apart from a database that was
//! changed or set back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use comity_wire::api::clearing::{LogConsistency, LogInclusion, LogReply};
use comity_wire::log::{
    AddCheckpoint, Checkpoint, Entry, KeyUse, Line, Note, Resource, TileId, VerifierKey, goes_on, includes, unbundle,
};
use comity_wire::{TokenId, merkle};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::log::{Disagreement, LogAuditor, LogReport};
use crate::store::log;

/// One token with 40 of 100 settled and the rest sent home; another one that is open.
async fn story(world: &World) -> TokenId {
    let mut lab = world.buy(100).await;
    lab.charge(lab.root(), 0, 40);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    world.buy(50).await;
    lab.token.id
}

async fn fetch(world: &World, path: &str) -> (u16, Vec<u8>) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = world.house.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn fetched<T: serde::de::DeserializeOwned>(world: &World, path: &str) -> T {
    let (status, body) = fetch(world, path).await;
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// The key that an auditor was told.
fn vkey(epoch: u64) -> VerifierKey {
    VerifierKey::new(&format!("comity/{HOUSE}/log/{epoch}"), KeyUse::Log, secret("log").public()).unwrap()
}

async fn checkpoint(world: &World) -> (Note, Checkpoint) {
    let (status, bytes) = fetch(world, "/log/checkpoint").await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    let note = Note::parse(&bytes).unwrap();
    let verified = note.verify(&vkey(1)).or_else(|_| note.verify(&vkey(2))).unwrap();
    (note, verified)
}

async fn entries(world: &World, size: u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for index in 0..size.div_ceil(256) {
        let width = TileId { level: 0, index }.width_at(size);
        let (status, bytes) = fetch(world, &format!("/log/tile/{}", Resource::Entries(index, width).path())).await;
        assert_eq!(status, 200);
        all.extend(unbundle(index, width, &bytes).unwrap().into_iter().map(<[u8]>::to_vec));
    }
    all
}

/// Verifies the house by nothing but what it serves to everybody.
pub(super) async fn verified(world: &World) -> LogReport {
    let (_, signed) = checkpoint(world).await;
    let mut auditor = LogAuditor::new();
    for entry in entries(world, signed.size).await {
        auditor.entry(&entry);
    }
    for level in 0..3 {
        let mut index = 0;
        while (TileId { level, index }).width_at(signed.size) > 0 {
            let tile = TileId { level, index };
            let width = tile.width_at(signed.size);
            let path = Resource::Tile(tile, width).path();
            auditor.tile(tile, width, &fetch(world, &format!("/log/tile/{path}")).await.1);
            index += 1;
        }
    }
    auditor.finish(Some(&signed))
}

async fn agreed(world: &World) -> Vec<Disagreement> {
    let report = world.house.log_audit().await.unwrap();
    assert_eq!(report.holds, report.disagreements.is_empty());
    report.disagreements
}

async fn every_act_is_sealed_in_its_order_and_the_house_verifies_from_its_log_alone(on: On) {
    let world = World::new(on, 10_000).await;
    let token = story(&world).await;
    world.house.revoke(token).await.unwrap();
    world.house.log_advance().await.unwrap();
    let report = verified(&world).await;
    assert!(report.holds, "{:?} {:?}", report.breaks, report.ledger.breaks);
    // Award and allocation; two reservations; one settlement; one refund.
    let kinds = [("claim", 1), ("final", 1), ("standing", 2), ("token", 2), ("transfer", 6)];
    assert_eq!(report.kinds, BTreeMap::from(kinds));
    assert_eq!((report.settled_ucr, report.tokens_budget_ucr), (40, 150));
    assert_eq!(report.ledger.root, world.house.audit().await.unwrap().ledger.root, "the ledger's own root");
    assert_eq!(agreed(&world).await, []);
    world.sums().await;

    // In the order of the acts: the reservation, then its token; the payment, then its claim; the refund, then its final.
    let (_, signed) = checkpoint(&world).await;
    let all = entries(&world, signed.size).await;
    let said: Vec<Value> =
        all.iter().map(|entry| serde_json::to_value(Entry::from_bytes(entry).unwrap()).unwrap()).collect();
    let order: Vec<&str> = said.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    let expected = [
        "standing", "transfer", "transfer", "transfer", "token", "transfer", "claim", "transfer", "final", "transfer",
        "token", "standing",
    ];
    assert_eq!(order, expected);
    // Nobody is named: not the project, not a member, not the holder.
    for entry in &all {
        for name in [&[7; 16][..], secret("member").public().as_bytes(), secret("holder").public().as_bytes()] {
            assert!(!entry.windows(name.len()).any(|part| part == name));
        }
    }
    // Nothing new, nothing signed again.
    world.house.log_advance().await.unwrap();
    let notes = world.books.notes();
    assert_eq!(notes.last().unwrap(), &checkpoint(&world).await.0.to_string());
    let sizes: Vec<u64> =
        notes.iter().map(|note| Note::parse(note.as_bytes()).unwrap().verify(&vkey(1)).unwrap().size).collect();
    assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "each size is signed once: {sizes:?}");
}

async fn proofs_of_every_entry_and_between_all_sizes_are_served(on: On) {
    let world = World::new(on, 10_000).await;
    story(&world).await;
    world.house.log_advance().await.unwrap();
    let (note, signed) = checkpoint(&world).await;
    let all = entries(&world, signed.size).await;
    for index in 0..signed.size {
        let proof: LogInclusion = fetched(&world, &format!("/v1/log/inclusion?index={index}")).await;
        assert_eq!((&*proof.entry, proof.checkpoint), (&all[usize::try_from(index).unwrap()][..], note.to_string()));
        assert!(includes(merkle::leaf_of(&proof.entry), index, signed.size, &signed.root, &proof.proof));
        for to in index..=signed.size {
            let shown: LogConsistency = fetched(&world, &format!("/v1/log/consistency?from={index}&to={to}")).await;
            let before: LogConsistency = fetched(&world, &format!("/v1/log/consistency?from=0&to={index}")).await;
            assert!(goes_on(index, &before.root, to, &shown.root, &shown.proof), "{index} in {to}");
        }
    }
    let status: LogReply = fetched(&world, "/v1/log").await;
    assert_eq!((status.vkey, status.size, status.stopped), (vkey(1).to_string(), signed.size, None));
    let size = signed.size;
    for (path, status) in [
        (format!("/v1/log/inclusion?index={size}"), 404),
        (format!("/v1/log/inclusion?index=0&size={}", size + 1), 400),
        ("/v1/log/inclusion".to_owned(), 400),
        ("/v1/log/inclusion?index=0&more=1".to_owned(), 400),
        (format!("/v1/log/consistency?from={}", size + 1), 400),
        (format!("/log/tile/0/000.p/{}", size + 1), 404),
        ("/log/tile/0/000".to_owned(), 404),
        ("/log/tile/0/0".to_owned(), 404),
        ("/log/tile/entries/001".to_owned(), 404),
        ("/log/tile/9/000.p/1".to_owned(), 404),
    ] {
        assert_eq!(fetch(&world, &path).await.0, status, "{path}");
    }
    assert_eq!(
        fetch(&world, "/log/tile/0/000.p/1").await,
        (200, merkle::leaf_of(&all[0]).0.to_vec()),
        "a narrower tile"
    );
}

async fn a_log_of_thousands_grows_over_tiles_and_transactions(on: On) {
    let world = World::new(on, 10_000).await;
    story(&world).await;
    // Lists in the queue, as if the house had revoked as often.
    world
        .tamper(
            "INSERT INTO unsealed (place, kind, content, number) \
             WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 4999) \
             SELECT 1000, 3, zeroblob(32), i FROM n",
        )
        .await;
    let signed = world.house.log_advance().await.unwrap();
    assert!(signed.size > 4_900);
    let report = verified(&world).await;
    assert!(report.holds, "{:?}", report.breaks);
    assert_eq!(report.root, signed.root);
    assert_eq!(agreed(&world).await, []);
    let proof: LogConsistency = fetched(&world, "/v1/log/consistency?from=300").await;
    let before: LogConsistency = fetched(&world, "/v1/log/consistency?from=0&to=300").await;
    assert!(goes_on(300, &before.root, signed.size, &signed.root, &proof.proof));
}

/// The points at which a house may die, in their order.
const POINTS: [&str; 6] =
    ["log.before_seal", "log.in_seal", "log.after_seal", "log.before_memory", "log.after_memory", "log.after_sign"];

async fn a_house_that_dies_between_two_steps_goes_on_without_a_fork(on: On) {
    for point in POINTS {
        let mut world = World::new(on, 10_000).await;
        story(&world).await;
        world.house.log_advance().await.unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let at = Arc::clone(&armed);
        world
            .restart_failing(Arc::new(move |here| {
                assert!(here != point || !at.load(Ordering::SeqCst), "the house stops here");
            }))
            .await;
        armed.store(true, Ordering::SeqCst);
        let before = checkpoint(&world).await.1;
        story(&world).await;
        let house = world.house.clone();
        let died = tokio::spawn(async move { house.log_advance().await.map_err(|_| ()) }).await;
        assert!(!matches!(died, Ok(Ok(_))), "{point}");
        world.restart().await;
        world.house.log_advance().await.unwrap();
        let after = checkpoint(&world).await.1;
        assert!(after.size > before.size, "{point}");
        let report = verified(&world).await;
        assert!(report.holds, "{point}: {:?}", report.breaks);
        assert_eq!(agreed(&world).await, [], "{point}");
        // Whatever was ever signed is a beginning of what stands now, and no size was signed with two roots.
        let mut roots = BTreeMap::new();
        for note in world.books.notes() {
            let signed = Note::parse(note.as_bytes()).unwrap().verify(&vkey(1)).unwrap();
            assert_eq!(*roots.entry(signed.size).or_insert(signed.root), signed.root, "{point}: size {}", signed.size);
            let path = format!("/v1/log/consistency?from={}", signed.size);
            let shown: LogConsistency = fetched(&world, &path).await;
            assert!(goes_on(signed.size, &signed.root, after.size, &after.root, &shown.proof), "{point}");
        }
    }
}

async fn the_order_does_not_depend_on_how_much_is_sealed_at_once(on: On) {
    let mut world = World::new(on, 10_000).await;
    world.house.log_advance().await.unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let at = Arc::clone(&armed);
    let stop = move |here| assert!(here != "log.before_seal" || !at.load(Ordering::SeqCst), "nothing is sealed now");
    world.restart_failing(Arc::new(stop)).await;
    armed.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let token = story(&world).await;
        world.house.revoke(token).await.unwrap();
    }
    let mut orders = Vec::new();
    for limit in [1, 2, 3, 5, 1_000] {
        let mut conn = world.books.connect().await;
        let mut tx = conn.write().await.unwrap();
        let mut db = tx.db();
        let mut order = Vec::new();
        loop {
            let before = log::state(&mut db).await.unwrap();
            let waiting = log::waiting(&mut db, &before, limit).await.unwrap();
            if waiting.entries.is_empty() {
                break;
            }
            assert!(log::seal_in_tx(&mut db, &before, &waiting, &[]).await.unwrap());
            order.extend(waiting.entries);
        }
        tx.rollback().await.unwrap();
        orders.push(order);
    }
    // Each story: two reservations and their tokens, payment and claim, refund and final; and a list.
    assert_eq!(orders[0].len(), 27);
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]));
    armed.store(false, Ordering::SeqCst);
    world.restart().await;
    let signed = world.house.log_advance().await.unwrap();
    assert!(entries(&world, signed.size).await.ends_with(&orders[0]), "and so it was sealed");
    assert!(verified(&world).await.holds);
}

async fn one_tree_is_sealed_by_several_processes(on: On) {
    let mut world = World::new(on, 10_000).await;
    let first = world.house.clone();
    let other = world.twin().await;
    for round in 0..4 {
        story(&world).await;
        let (one, two) = tokio::join!(first.log_advance(), other.log_advance());
        // Who comes second finds it done: it takes nothing that the other one does for a database that was set back.
        assert!(one.is_ok() && two.is_ok(), "round {round}: {one:?} {two:?}");
    }
    first.log_advance().await.unwrap();
    assert!(verified(&world).await.holds);
    assert_eq!(agreed(&world).await, []);
    other.shutdown().await;
    world.restart().await;
}

async fn what_was_changed_in_the_database_is_named(on: On) {
    let guards = match on {
        On::Sqlite => {
            "DROP TRIGGER log_entry_is_never_changed; DROP TRIGGER log_entry_is_kept; DROP TRIGGER log_tile_only_grows; \
             DROP TRIGGER transfer_is_never_changed; DROP TRIGGER log_checkpoint_is_never_changed"
        }
        On::Postgres => {
            "DROP TRIGGER log_entry_is_kept ON log_entry; DROP TRIGGER log_tile_only_grows ON log_tile; \
             DROP TRIGGER transfer_is_kept ON transfer; DROP TRIGGER log_checkpoint_is_kept ON log_checkpoint"
        }
    };
    let tampered = async |sql: &'static str| {
        let world = World::new(on, 10_000).await;
        story(&world).await;
        world.house.log_advance().await.unwrap();
        assert!(verified(&world).await.holds);
        assert_eq!(agreed(&world).await, []);
        world.tamper(guards).await;
        world.tamper(sql).await;
        let named: Vec<String> = agreed(&world).await.iter().map(|found| format!("{found:?}")).collect();
        (world, named)
    };
    // An amount of the books: the log has another.
    let (_, named) = tampered("UPDATE transfer SET amount = amount + 1 WHERE seq = 3").await;
    assert_eq!(named, ["TransferDiffers { index: 3, seq: 3 }"]);
    // A byte of an entry: named, and so are its tile and every checkpoint above it.
    let copy = "UPDATE log_entry SET bytes = (SELECT bytes FROM log_entry e WHERE e.idx = 2) WHERE idx = 3";
    let (world, named) = tampered(copy).await;
    assert_eq!(named[0], "TransferDiffers { index: 3, seq: 3 }");
    assert!(named.iter().any(|found| found == "TileDiffers { level: 0, tile: 0 }"), "{named:?}");
    assert!(named.iter().any(|found| found.starts_with("CheckpointDiffers")), "{named:?}");
    let report = verified(&world).await;
    assert!(!report.holds);
    let breaks: Vec<String> = report.breaks.iter().map(|found| format!("{found:?}")).collect();
    assert!(breaks.iter().any(|found| found == "TileDiffers { level: 0, tile: 0 }"), "{breaks:?}");
    assert!(breaks.iter().any(|found| found.starts_with("RootDiffers")), "{breaks:?}");
    // An entry that is gone.
    let (_, named) = tampered("DELETE FROM log_entry WHERE idx = 3").await;
    assert!(named[0].starts_with("EntryUnreadable"), "{named:?}");
    // A token that the log never heard of, and a claim that went away.
    let (_, named) = tampered("UPDATE token SET budget = 101 WHERE budget = 100").await;
    assert!(matches!(&named[..], [one] if one.starts_with("ActUnknown { index: 4,")), "{named:?}");
    let (_, named) = tampered("DELETE FROM claim").await;
    assert!(matches!(&named[..], [one] if one.starts_with("ActUnknown { index: 6,")), "{named:?}");
    // An act that was taken out of the queue before it was sealed.
    let world = World::new(on, 10_000).await;
    world.house.log_advance().await.unwrap();
    story(&world).await;
    world.tamper("DELETE FROM unsealed WHERE kind = 4").await;
    assert!(matches!(&agreed(&world).await[..], [Disagreement::ActMissing { .. }]));
    // A tile: then the tree is not what was signed, and nothing more is.
    let (mut world, named) = tampered("UPDATE log_tile SET hashes = substr(hashes, 33) WHERE level = 0").await;
    assert_eq!(named, ["TileDiffers { level: 0, tile: 0 }"]);
    story(&world).await;
    assert_eq!(world.house.log_advance().await.unwrap_err().code().as_str(), "store_unavailable");
    assert_eq!(fetch(&world, "/log/checkpoint").await.0, 503);
    world.restart().await;
    assert_eq!(fetch(&world, "/log/checkpoint").await.0, 503);
    let refused = world.house.log_restart("to be rid of it").await.unwrap_err().to_string();
    assert!(refused.contains("differ in 1 places"), "{refused}");
    world.buy(10).await;
}

async fn a_witness_that_was_let_in_cosigns_and_nobody_else(on: On) {
    let world = World::new(on, 10_000).await;
    story(&world).await;
    world.house.log_advance().await.unwrap();
    let (note, signed) = checkpoint(&world).await;
    let witness = VerifierKey::new("lab.example/w", KeyUse::Cosigner, secret("witness").public()).unwrap();
    // What a witness does with it: first seen, from nothing.
    let ask = AddCheckpoint { old: 0, proof: Vec::new(), note: note.clone() };
    assert_eq!(ask.judge(&vkey(1), None).unwrap(), signed);
    let cosign = async |text: &str, size: u64| {
        let line = Line::cosign(text, "lab.example/w", &secret("witness"), world.now()).unwrap().to_string();
        let body = serde_json::to_vec(&json!({ "size": size, "line": line })).unwrap();
        world.send(Request::builder().method("POST").uri("/v1/log/cosignatures").body(Body::from(body)).unwrap()).await
    };
    assert_eq!(code(&cosign(note.text(), signed.size).await), "not_yours", "not let in yet");
    world.house.log_witness(&witness.to_string()).await.unwrap();
    assert!(world.house.log_witness(&vkey(1).to_string()).await.is_err(), "a log's key is no cosigner's");
    assert_eq!(code(&cosign("another\n1\n", signed.size).await), "invalid_request");
    assert_eq!(code(&cosign(note.text(), signed.size + 1).await), "not_found");
    assert_eq!(cosign(note.text(), signed.size).await.0, 200);
    let (cosigned, _) = checkpoint(&world).await;
    assert_eq!(cosigned.cosigned(&witness), Ok(world.now()));
    // The next checkpoint is another text: it has to be cosigned anew.
    story(&world).await;
    world.house.log_advance().await.unwrap();
    assert!(checkpoint(&world).await.0.cosigned(&witness).is_err());
}

on_each_store! {
    every_act_is_sealed_in_its_order_and_the_house_verifies_from_its_log_alone
    proofs_of_every_entry_and_between_all_sizes_are_served
    a_log_of_thousands_grows_over_tiles_and_transactions
    a_house_that_dies_between_two_steps_goes_on_without_a_fork
    the_order_does_not_depend_on_how_much_is_sealed_at_once
    one_tree_is_sealed_by_several_processes
    what_was_changed_in_the_database_is_named
    a_witness_that_was_let_in_cosigns_and_nobody_else
}

/// The file comes back from a backup: what was signed since is lost, and a second past must not be signed.
#[tokio::test]
async fn a_database_that_was_set_back_signs_nothing_until_its_operator_ends_the_log() {
    let mut world = World::new(On::Sqlite, 10_000).await;
    story(&world).await;
    world.house.log_advance().await.unwrap();
    let backup = world.backup().await;
    let kept = checkpoint(&world).await.1;
    story(&world).await;
    world.house.log_advance().await.unwrap();
    let (lost, signed) = checkpoint(&world).await;
    world.restore(&backup).await;
    let status = world.house.log_status().await.unwrap();
    let why = status.stopped.unwrap();
    assert!(why.contains("set back to an older state") && why.contains("The operator"), "{why}");
    assert_eq!(fetch(&world, "/log/checkpoint").await.0, 503);
    // The books go on: money does not wait for the log.
    story(&world).await;
    assert!(world.house.log_advance().await.is_err());
    assert_eq!(world.books.notes().last().unwrap(), &lost.to_string(), "nothing was signed");

    assert!(world.house.log_restart(" ").await.is_err(), "everybody shall read why");
    let status = world.house.log_restart("disk lost, backup of noon").await.unwrap();
    assert_eq!((status.stopped, status.ended.len()), (None, 1));
    assert_eq!(status.ended[0].note.as_ref(), Some(&lost.to_string()), "the lost past is shown");
    assert_eq!(status.vkey, vkey(2).to_string());
    let (_, next) = checkpoint(&world).await;
    assert!(next.origin.ends_with("/log/2") && next.size > kept.size);
    assert!(verified(&world).await.holds);
    assert_eq!(agreed(&world).await, []);
    let before: LogConsistency = fetched(&world, &format!("/v1/log/consistency?from=0&to={}", kept.size)).await;
    assert_eq!(before.root, kept.root, "up to the backup both logs are one");
    assert_ne!(signed.origin, next.origin);
    world.restart().await;
    assert_eq!(checkpoint(&world).await.1, next);
}

/// The operator could not say what was signed after the backup: nothing is, until the log has ended.
#[tokio::test]
async fn a_house_that_forgot_what_it_signed_signs_nothing_until_its_operator_ends_the_log() {
    let mut world = World::new(On::Sqlite, 10_000).await;
    story(&world).await;
    world.house.log_advance().await.unwrap();
    let backup = world.backup().await;
    std::fs::write(world.books.folder().join("log.checkpoint"), crate::LOG_FORGOTTEN).unwrap();
    world.restore(&backup).await;
    let signed = world.books.notes().len();
    story(&world).await;
    let refused = world.house.log_advance().await.unwrap_err().to_string();
    assert!(refused.contains("not known here") && refused.contains("log.checkpoint"), "{refused}");
    assert_eq!(world.books.notes().len(), signed, "nothing was signed");
    let status = world.house.log_restart("disk lost").await.unwrap();
    assert_eq!((status.stopped, status.ended.len()), (None, 1));
    world.restart().await;
    assert!(checkpoint(&world).await.1.origin.ends_with("/log/2"));
    assert!(verified(&world).await.holds);
    assert_eq!(agreed(&world).await, []);
}
