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
    let wire = Wire::to(scratch.far()).await;
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

/// A function of the database that gives its transaction up the first `times` times, as engines do for another one's sake.
async fn given_up(database: &Database, state: &str, times: u32) {
    let mut conn = database.connect().await.unwrap();
    let function = format!(
        "CREATE FUNCTION given_up() RETURNS TRIGGER LANGUAGE plpgsql AS \
         $$ BEGIN IF nextval('runs') <= {times} THEN RAISE SQLSTATE '{state}'; END IF; RETURN NULL; END $$"
    );
    query("CREATE SEQUENCE runs").execute(&mut conn.db()).await.unwrap();
    query(function).execute(&mut conn.db()).await.unwrap();
}

async fn trigger(database: &Database, sql: &'static str) {
    let mut conn = database.connect().await.unwrap();
    query(sql).execute(&mut conn.db()).await.unwrap();
}

/// In the middle of the second of three jobs, and then at COMMIT.
#[tokio::test]
async fn what_was_given_up_for_another_transaction_is_run_again_whole() {
    for (state, when) in [
        (
            "40001",
            "CREATE TRIGGER meets AFTER INSERT ON transfer FOR EACH ROW WHEN (NEW.kind = 3) EXECUTE FUNCTION given_up()",
        ),
        (
            "40P01",
            "CREATE TRIGGER meets AFTER INSERT ON transfer FOR EACH ROW WHEN (NEW.kind = 3) EXECUTE FUNCTION given_up()",
        ),
        (
            "40001",
            "CREATE CONSTRAINT TRIGGER meets AFTER UPDATE ON writer DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION given_up()",
        ),
    ] {
        let scratch = comity_scratch::Database::create().await;
        let database = migrated(&scratch).await;
        let (committer, writer) = Committer::open(database.clone()).await.unwrap();
        let running = tokio::spawn(writer.run(std::future::pending()));
        assert_eq!(award(&committer, 9).await, Outcome::Created);
        given_up(&database, state, 2).await;
        trigger(&database, when).await;
        let before = committer.commits();
        let told = join_all((1..=3).map(|number| reserve(&committer, number))).await;
        let told: Vec<Outcome> = told.into_iter().map(Result::unwrap).collect();
        assert!(told.iter().all(|outcome| *outcome == Outcome::Created), "{state}: {told:?}");
        assert!(committer.commits() > before);
        drop(committer);
        running.await.unwrap();
        let reader = Reader::open(&database).await.unwrap();
        let report = reader.audit().await.unwrap();
        assert!(report.holds && report.transfers == 4, "{state}: {report:?}");
        assert_eq!(reader.account(alice().id).await.unwrap().unwrap().available(), comity_wire::Amount::from_ucr(6));
        reader.close().await;
    }
}

#[tokio::test]
async fn what_is_always_given_up_is_told_so_and_nothing_of_it_is_kept() {
    let scratch = comity_scratch::Database::create().await;
    let database = migrated(&scratch).await;
    let (committer, writer) = Committer::open(database.clone()).await.unwrap();
    let running = tokio::spawn(writer.run(std::future::pending()));
    assert_eq!(award(&committer, 9).await, Outcome::Created);
    given_up(&database, "40001", u32::MAX).await;
    trigger(&database, "CREATE TRIGGER meets AFTER INSERT ON transfer FOR EACH ROW EXECUTE FUNCTION given_up()").await;
    let told = reserve(&committer, 1).await;
    assert!(matches!(told, Err(CommitError::NotCommitted { .. })), "{told:?}");
    let mut conn = database.connect().await.unwrap();
    let runs = query("SELECT last_value FROM runs").fetch_one(&mut conn.db()).await.unwrap();
    assert_eq!(runs.first().unwrap(), i64::from(RUNS_MAX));
    trigger(&database, "DROP TRIGGER meets ON transfer").await;
    assert_eq!(reserve(&committer, 1).await.unwrap(), Outcome::Created, "the writer lives on");
    drop(committer);
    running.await.unwrap();
}

/// A high cost is what keeps the writer from reading a table whole. It is no reason to compile the statement.
#[tokio::test]
async fn the_writer_looks_up_by_keys_and_compiles_nothing() {
    let scratch = comity_scratch::Database::create().await;
    let mut conn = migrated(&scratch).await.connect().await.unwrap();
    for setting in ["SHOW enable_seqscan", "SHOW jit"] {
        let row = query(setting).fetch_one(&mut conn.db()).await.unwrap();
        assert_eq!(row.text(setting.trim_start_matches("SHOW ")).unwrap(), "off", "{setting}");
    }
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

/// A server with a synchronous standby is lost in the middle of the work: whoever was answered finds its work on the standby,
/// and the same committer and readers go on there by themselves.
#[tokio::test]
async fn a_lost_server_is_followed_by_its_standby_and_nothing_that_was_answered_is_lost() {
    let mut first = comity_scratch::Server::start(&["synchronous_standby_names=second", "wal_level=replica"]);
    let second = first.standby("second");
    first
        .until("the standby is synchronous", |first| first.say("SELECT sync_state FROM pg_stat_replication") == "sync");
    let database = Database::postgres(&comity_scratch::url_of(&[&first, &second])).unwrap();
    books::migrate(&database, Migrations::default()).await.unwrap();
    let reader = Reader::open(&database).await.unwrap();
    let (committer, writer) = Committer::open(database.clone()).await.unwrap();
    let running = tokio::spawn(writer.run(std::future::pending()));
    let _ = award(&committer, 10_000).await;

    // Eight callers, each again until it is answered, as clients do; one thing is known of each: what it was answered.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let caller = |caller: u32| {
        let (committer, stop) = (committer.clone(), std::sync::Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut answered, mut unanswered) = (Vec::new(), 0_u32);
            for number in (caller..).step_by(8) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                loop {
                    match reserve(&committer, number).await {
                        Ok(Outcome::Created | Outcome::Exists) => break answered.push(number),
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => {
                            unanswered += 1;
                            tokio::task::yield_now().await;
                        }
                    }
                }
            }
            (answered, unanswered)
        })
    };
    let callers: Vec<_> = (0..8).map(caller).collect();
    let commits = async |more: u64| {
        let reach = committer.commits() + more;
        while committer.commits() < reach {
            tokio::task::yield_now().await;
        }
    };
    commits(20).await;
    let first = tokio::task::spawn_blocking(move || {
        first.stop_immediate();
        first
    });
    let first = first.await.unwrap();
    let second = tokio::task::spawn_blocking(move || {
        second.promote();
        second
    });
    let second = second.await.unwrap();
    commits(20).await;
    stop.store(true, Ordering::SeqCst);
    let mut answered = Vec::new();
    let mut unanswered = 0;
    for (own, failed) in join_all(callers).await.into_iter().map(Result::unwrap) {
        answered.extend(own);
        unanswered += failed;
    }
    assert!(answered.len() > 40 && unanswered > 0, "{} answered, {unanswered} asked again", answered.len());

    // The readers follow too.
    let mut reading = reader.acquire().await.unwrap();
    let found = query("SELECT COUNT(*) FROM transfer WHERE kind = ?")
        .bind(i64::from(TransferKind::Reserve.number()))
        .fetch_one(&mut reading.db())
        .await
        .unwrap();
    assert_eq!(usize::try_from(found.first().unwrap()).unwrap(), answered.len(), "what was answered, once each");
    drop(reading);
    assert!(reader.audit().await.unwrap().holds);
    let on_second = second.say("SELECT pg_is_in_recovery()");
    assert_eq!(on_second, "f");
    drop(committer);
    running.abort();
    drop(first);
}

/// A COMMIT whose standby does not answer is seen by others on its server, and is lost with it: it is not answered.
#[tokio::test]
async fn a_commit_that_no_standby_has_is_not_taken_for_one() {
    let first = comity_scratch::Server::start(&["synchronous_standby_names=second", "wal_level=replica"]);
    let second = first.standby("second");
    first
        .until("the standby is synchronous", |first| first.say("SELECT sync_state FROM pg_stat_replication") == "sync");
    let Database::Postgres(servers, _) = Database::postgres(&comity_scratch::url_of(&[&first, &second])).unwrap()
    else {
        panic!("it is PostgreSQL's")
    };
    let database = Database::Postgres(servers, Duration::from_secs(2));
    books::migrate(&database, Migrations::default()).await.unwrap();
    let (committer, writer) = Committer::open(database).await.unwrap();
    let running = tokio::spawn(writer.run(std::future::pending()));
    let _ = award(&committer, 100).await;
    assert!(matches!(reserve(&committer, 1).await, Ok(Outcome::Created)));
    // The standby is lost and its server lives on; there the COMMIT waits for the standby, until somebody ends its connection: from
    // then on all who look on this server see it.
    let first = tokio::task::spawn_blocking(move || {
        let mut second = second;
        second.stop_immediate();
        first
    });
    let first = first.await.unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        let waits = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        first.until("a COMMIT waits", |first| first.say(waits) != "0");
        first
    });
    let told = reserve(&committer, 2).await;
    assert!(matches!(told, Err(CommitError::Unknown { .. })), "{told:?}");
    let first = ended.await.unwrap();
    let seen = first.say("SELECT COUNT(*) FROM transfer WHERE kind = 3");
    assert_eq!(seen, "2", "whoever looks here sees it all the same");
    drop(committer);
    running.abort();
}
