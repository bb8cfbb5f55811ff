//! Two houses on one PostgreSQL, and a network that loses bytes.

use std::time::Duration;

use comity_scratch::Wire;
use comity_wire::Timestamp;
use futures::future::join_all;

use super::*;
use crate::account::{AccountCode, NewAccount};
use crate::books::{self, LedgerTx, Reader, audit_in_tx};
use crate::contract::{NOW, account, transfer};
use crate::db::Migrations;
use crate::decide::Outcome;
use crate::id::{Reference, TransferId};
use crate::store::{Store as _, StoreError};
use crate::transfer::{Transfer, TransferKind};

const ROOM: u32 = 50;

async fn migrated(scratch: &comity_scratch::Database) -> Database {
    let database = Database::postgres(&scratch.url()).unwrap();
    books::migrate(&database, Migrations::default()).await.unwrap();
    database
}

fn issuance() -> NewAccount {
    account(AccountCode::Issuance, 0)
}

fn alice() -> NewAccount {
    account(AccountCode::Allocation, 1)
}

/// Gives alice so much.
async fn award(committer: &Committer, ucr: u32) -> Outcome {
    let work = committer.run(move |db| {
        Box::pin(async move {
            let mut ledger = LedgerTx::new(db);
            let _ = ledger.accounts_open_in_tx(&[issuance(), alice()], NOW).await?;
            ledger.transfer_post_in_tx(transfer(TransferKind::Award, 1, issuance(), alice(), ucr), NOW).await
        })
    });
    let done: Result<Outcome, CommitError<StoreError>> = work.await;
    done.unwrap()
}

/// Reserves 1 of alice's for the `number`th token.
async fn reserve(committer: &Committer, number: u32) -> Result<Outcome, CommitError<StoreError>> {
    let mut reference = [9; 16];
    reference[..4].copy_from_slice(&number.to_be_bytes());
    let escrow = NewAccount::credits(AccountCode::Escrow, Reference(reference));
    let work = committer.run(move |db| {
        Box::pin(async move {
            let mut ledger = LedgerTx::new(db);
            let _ = ledger.accounts_open_in_tx(&[escrow], NOW).await?;
            let id = TransferId::derive(TransferKind::Reserve, &[escrow.reference.as_bytes()]);
            let reserve = Transfer { id, ..transfer(TransferKind::Reserve, 0, alice(), escrow, 1) };
            ledger.transfer_post_in_tx(reserve, Timestamp(NOW.0 + 1)).await
        })
    });
    work.await
}

#[tokio::test]
async fn two_houses_that_race_for_the_last_credit_spend_it_once() {
    let scratch = comity_scratch::Database::create().await;
    let database = migrated(&scratch).await;
    let (first, writer) = Committer::open(database.clone()).await.unwrap();
    let (second, other) = Committer::open(database.clone()).await.unwrap();
    let writers = [tokio::spawn(writer.run(std::future::pending())), tokio::spawn(other.run(std::future::pending()))];
    assert_eq!(award(&first, ROOM).await, Outcome::Created);
    // Each of them asks for every token, from either end: none waits for the other but by the lock.
    let calls = (0..2 * ROOM).flat_map(|number| [(&first, number), (&second, 2 * ROOM - 1 - number)]);
    let told = join_all(calls.map(|(committer, number)| reserve(committer, number))).await;
    let told: Vec<Outcome> = told.into_iter().map(Result::unwrap).collect();
    let count = |word: &str| told.iter().filter(|outcome| outcome.word() == word).count();
    assert_eq!((count("created"), count("exceeds_credits")), (ROOM as usize, 2 * ROOM as usize), "{told:?}");
    assert_eq!(count("exists"), ROOM as usize);
    drop((first, second));
    for writer in writers {
        writer.await.unwrap();
    }
    let reader = Reader::open(&database).await.unwrap();
    let report = reader.audit().await.unwrap();
    assert!(report.holds && report.transfers == u64::from(ROOM) + 1, "{report:?}");
    assert!(reader.account(alice().id).await.unwrap().unwrap().available().is_zero());
    // Nor does a reader write.
    let mut reading = reader.acquire().await.unwrap();
    assert!(query("DELETE FROM writer").execute(&mut reading.db()).await.is_err());
    drop(reading);
    reader.close().await;
}

#[tokio::test]
async fn a_lost_answer_is_read_back_from_ones_own_row_whatever_others_commit() {
    let scratch = comity_scratch::Database::create().await;
    let database = migrated(&scratch).await;
    let (_committer, mut writer) = Committer::open(database.clone()).await.unwrap();
    let (other, others) = Committer::open(database).await.unwrap();
    let others = tokio::spawn(others.run(std::future::pending()));
    let lost = sqlx::Error::WorkerCrashed;
    let mut conn = writer.conn.take().unwrap();
    let mark = mark_next(&mut conn.db(), writer.started).await.unwrap(); // This one happened.
    assert_eq!(award(&other, 5).await, Outcome::Created);
    assert_eq!(reserve(&other, 1).await.unwrap(), Outcome::Created);
    assert!(matches!(writer.read_back(mark, &lost).await, Fate::Committed));
    assert!(matches!(writer.read_back(mark + 1, &lost).await, Fate::NotCommitted { .. }), "that was the other one");
    drop(other);
    others.await.unwrap();
}

#[tokio::test]
async fn a_database_that_falls_silent_is_not_waited_for_and_nothing_is_half_done() {
    let scratch = comity_scratch::Database::create().await;
    let direct = migrated(&scratch).await;
    let wire = Wire::to(scratch.socket()).await;
    let Database::Postgres(options, _) = Database::postgres(&scratch.url_by(wire.port())).unwrap() else { panic!() };
    let by_wire = Database::Postgres(options, Duration::from_secs(2));
    let (committer, writer) = Committer::open(by_wire).await.unwrap();
    let writer = tokio::spawn(writer.run(std::future::pending()));
    assert_eq!(award(&committer, 9).await, Outcome::Created);
    // The server hears and is not heard: what it was told to do it may have done.
    wire.deafen();
    let told = reserve(&committer, 1).await;
    assert!(matches!(told, Err(CommitError::NotCommitted { .. } | CommitError::Unknown { .. })), "{told:?}");
    wire.mend();
    // The connection that holds the lock is dropped, or the server ends it: then the same is asked again.
    let again = loop {
        match reserve(&committer, 1).await {
            Ok(outcome) => break outcome,
            Err(CommitError::NotCommitted { .. } | CommitError::Unknown { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(matches!(again, Outcome::Created | Outcome::Exists), "{again:?}");
    drop(committer);
    writer.await.unwrap();
    let mut conn = direct.connect().await.unwrap();
    let mut tx = conn.write().await.unwrap();
    let report = audit_in_tx(&mut tx.db()).await.unwrap();
    assert!(report.holds && report.transfers == 2, "{report:?}");
}

/// Large books take longer than any other statement may.
#[tokio::test]
async fn an_audit_is_not_cut_off_where_other_statements_are() {
    let scratch = comity_scratch::Database::create().await;
    let Database::Postgres(options, _) = migrated(&scratch).await else { panic!("it is PostgreSQL's") };
    let reader = Reader::open(&Database::Postgres(options, Duration::from_secs(2))).await.unwrap();
    let mut reading = reader.acquire().await.unwrap();
    let long = || query("SELECT COUNT(*) FROM pg_sleep(3)");
    let mut snapshot = reading.snapshot_to_audit().await.unwrap();
    assert_eq!(long().fetch_one(&mut snapshot.db()).await.unwrap().first().unwrap(), 1);
    snapshot.rollback().await.unwrap();
    let mut snapshot = reading.snapshot().await.unwrap();
    assert!(long().fetch_one(&mut snapshot.db()).await.is_err());
}
