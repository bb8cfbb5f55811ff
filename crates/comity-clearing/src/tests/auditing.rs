//! What the audit of the house finds beyond the ledger's own: each break on books that are sound otherwise.

use comity_ledger::{Group, LedgerTx, NewAccount, Transfer, TransferId, TransferKind};
use comity_wire::{Digest, LotId, TokenId};

use super::world::*;
use crate::store::money;

/// One token with 40 of 100 settled, and what the audit says of it after somebody meddled.
async fn books(on: On) -> (World, TokenId) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(100).await;
    lab.charge(lab.root(), 0, 40);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(found(&world).await, [""; 0]);
    (world, lab.token.id)
}

async fn found(world: &World) -> Vec<String> {
    let report = world.house.audit().await.unwrap();
    assert!(report.ledger.holds, "the ledger's own rules are kept: {:?}", report.ledger.breaks);
    assert_eq!(report.holds, report.findings.is_empty());
    report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect()
}

/// Posts by the ledger's own rules: its triggers, limits and sums are content.
async fn post(world: &World, kind: TransferKind, from: NewAccount, to: NewAccount, amount: u32, reference: [u8; 16]) {
    let mut conn = world.books.connect().await;
    let mut tx = conn.write().await.unwrap();
    let mut db = tx.db();
    let mut ledger = LedgerTx::new(&mut db);
    money::open_in_tx(&mut ledger, &[from, to], world.now()).await.unwrap();
    let transfer = Transfer {
        id: TransferId::derive(kind, &[b"by hand"]),
        kind,
        debit: from.id,
        credit: to.id,
        amount: ucr(amount),
        reference: money::reference(reference),
        evidence: Digest::ZERO,
    };
    money::post_in_tx(&mut ledger, Group::single(transfer), world.now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_transfer_that_no_row_accounts_for_is_found(on: On) {
    use TransferKind as Kind;
    let (lost, nobody) = (TokenId([99; 16]), [0; 16]);
    let (other, none) = (LotId([8; 16]), LotId(nobody));
    // About a token that is not in the books, however the ledger may like it.
    let (world, token) = books(on).await;
    let lot = world.lot().await;
    post(&world, Kind::Reserve, money::allocation(lot), money::escrow(lost), 5, lost.0).await;
    assert_eq!(found(&world).await, ["ProjectDiffers", "LotDiffers", "TransferWithoutRow"]);
    // Somebody else is paid for a token's work, with the very sums that the token's row says.
    let (world, _) = books(on).await;
    post(&world, Kind::Settle, money::escrow(token), money::payable(RIVAL), 60, token.0).await;
    world.tamper("UPDATE token SET paid = 100").await;
    world.tamper("UPDATE lane SET total = 100, paid = 100").await;
    world
        .tamper("INSERT INTO line SELECT f.id, l.token, l.leaf, l.lane, 60 FROM transfer f, lane l WHERE f.amount = 60")
        .await;
    assert_eq!(found(&world).await, ["TransferWithoutRow"]);
    // Kinds that the house does not make.
    let (world, _) = books(on).await;
    post(&world, Kind::Correction, money::payable(LAB), money::payable(RIVAL), 40, nobody).await;
    assert_eq!(found(&world).await, ["TransferWithoutRow"]);
    // Credits that no award gave, and an award's that went to another project.
    let (world, _) = books(on).await;
    post(&world, Kind::Award, money::issuance(), money::unreleased(none), 5, nobody).await;
    assert_eq!(found(&world).await, ["TransferWithoutRow", "ActMissing"]);
    let (world, _) = books(on).await;
    post(&world, Kind::WriteOff, money::written_off(), money::suspense(), 5, nobody).await;
    assert_eq!(found(&world).await, ["ActMissing"]);
    let (world, _) = books(on).await;
    post(&world, Kind::Correction, money::allocation(lot), money::allocation(other), 5, nobody).await;
    assert_eq!(found(&world).await, ["ProjectDiffers", "LotDiffers", "TransferWithoutRow"]);
}

async fn a_tokens_columns_are_what_was_signed(on: On) {
    let (world, _) = books(on).await;
    for (sql, undo) in [
        ("UPDATE token SET \"window\" = \"window\" + 1", "UPDATE token SET \"window\" = \"window\" - 1"),
        ("UPDATE token SET lanes_max = lanes_max + 1", "UPDATE token SET lanes_max = lanes_max - 1"),
        ("UPDATE token SET expires_at = expires_at + 1", "UPDATE token SET expires_at = expires_at - 1"),
        ("UPDATE token SET settle_by = settle_by - 1", "UPDATE token SET settle_by = settle_by + 1"),
        ("UPDATE token SET issued_at = issued_at - 1", "UPDATE token SET issued_at = issued_at + 1"),
        ("UPDATE token SET payload = substr(payload, 2)", ""),
    ] {
        world.tamper(sql).await;
        assert_eq!(found(&world).await, ["TokenDiffers"], "{sql}");
        if !undo.is_empty() {
            world.tamper(undo).await;
            assert_eq!(found(&world).await, [""; 0], "{undo}");
        }
    }
    for sql in [
        "UPDATE token SET content = zeroblob(32)",
        "UPDATE token SET bytes = payload",
        "UPDATE token SET issuer = (SELECT key FROM node_key WHERE use = 1)",
    ] {
        let (world, _) = books(on).await;
        world.tamper(sql).await;
        assert_eq!(found(&world).await, ["TokenDiffers"], "{sql}");
    }
    // Another node, budget, owner or project breaks more than that.
    for (sql, breaks) in [
        ("UPDATE token SET node = zeroblob(16)", &["TokenDiffers"][..]),
        ("UPDATE token SET budget = 101", &["ReservationDiffers", "TokenDiffers"]),
        (
            "UPDATE token SET owner = x'04040404040404040404040404040404'",
            &["TransferWithoutRow", "OwnerDiffers", "TokenDiffers"],
        ),
        (
            "INSERT INTO project VALUES (zeroblob(16), 'Other', '[]', 0, 0); UPDATE token SET project = zeroblob(16)",
            &["AllocationOverspent", "ProjectDiffers", "TransferWithoutRow", "TokenDiffers"],
        ),
    ] {
        let (world, _) = books(on).await;
        world.tamper(sql).await;
        assert_eq!(found(&world).await, breaks, "{sql}");
    }
}

async fn a_token_that_waits_for_its_signature_is_no_break(on: On) {
    let (world, _) = books(on).await;
    world.buy(10).await;
    world.tamper("UPDATE token SET bytes = NULL, content = NULL WHERE budget = 10").await;
    assert_eq!(found(&world).await, [""; 0]);
}

/// `cargo nextest run --workspace --run-ignored only --no-capture -E 'test(audit_time)'` prints how long an audit takes on
/// this machine for 1,000 tokens and for 10,000.
#[tokio::test]
#[ignore = "a measurement"]
async fn audit_time() {
    const BATCH: usize = 250;
    let world = World::new(On::Sqlite, 10_000_000).await;
    let (quote, member, transport) = (world.quote().await, world.member.public(), secret("transport").public());
    let mut tokens = 0;
    for wanted in [1_000, 10_000] {
        while tokens < wanted {
            let ask = |_| serde_json::from_value(world.reservation(&quote, 100)).unwrap();
            let asks: Vec<_> = (0..BATCH).map(ask).collect();
            let replies = futures::future::join_all(asks.iter().map(|ask| world.house.reserve(&member, ask))).await;
            let claim = |reply: Result<comity_wire::api::clearing::ReservationReply, crate::Failure>| {
                let mut lab = Lab::new(&serde_json::json!(reply.unwrap().token));
                lab.charge(lab.root(), 0, PRICE);
                signed_bytes(&lab.claim(vec![lab.acknowledge(&secret("holder"))])["claim"])
            };
            let claims: Vec<_> = replies.into_iter().map(claim).collect();
            let claims = claims.iter().map(|claim| world.house.claim(&transport, claim));
            let settled = futures::future::join_all(claims).await;
            assert!(settled.iter().all(|reply| reply.as_ref().unwrap().settled == ucr(PRICE)));
            tokens += BATCH;
        }
        let begun = std::time::Instant::now();
        assert!(world.house.audit().await.unwrap().holds);
        eprintln!("{tokens} tokens: {:?}", begun.elapsed());
    }
}

on_each_store! {
    a_transfer_that_no_row_accounts_for_is_found
    a_tokens_columns_are_what_was_signed
    a_token_that_waits_for_its_signature_is_no_break
}
