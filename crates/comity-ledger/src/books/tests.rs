//! What the file itself refuses, and what the audit sees when it did not.

use std::time::Instant;

use comity_wire::Amount;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tempfile::TempDir;

use super::*;
use crate::account::{AccountCode, NewAccount, Unit};
use crate::audit::{AuditReport, Break};
use crate::contract::{NOW, account, transfer};
use crate::db::{Conn, Db, ROWS_PER_STATEMENT_MAX, list, query};
use crate::decide::{Group, GroupOutcome, Outcome};
use crate::id::{Reference, TransferId};
use crate::store::Store as _;
use crate::transfer::{Transfer, TransferKind};

struct Books {
    conn: SqliteConnection,
    dir: TempDir,
}

/// Issuance gave alice 100, of which 30 are in escrow.
async fn books() -> Books {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::sqlite(dir.path().join("ledger.db"));
    migrate(&database, Migrations::default()).await.unwrap();
    let mut conn = database.connect().await.unwrap();
    let cast =
        [account(AccountCode::Issuance, 0), account(AccountCode::Allocation, 1), account(AccountCode::Escrow, 2)];
    let mut tx = conn.write().await.unwrap();
    let mut db = tx.db();
    let mut ledger = LedgerTx::new(&mut db);
    let opened = ledger.accounts_open_in_tx(&cast, NOW).await.unwrap();
    assert_eq!(opened.len(), 3);
    let groups = [
        Group::single(transfer(TransferKind::Award, 1, cast[0], cast[1], 100)),
        Group::single(transfer(TransferKind::Reserve, 2, cast[1], cast[2], 20)),
        Group::single(transfer(TransferKind::Reserve, 3, cast[1], cast[2], 10)),
    ];
    let outcomes = ledger.transfers_post_in_tx(&groups, NOW).await.unwrap();
    assert!(outcomes.iter().all(GroupOutcome::is_created));
    tx.commit().await.unwrap();
    let Conn::Sqlite(conn) = conn else { panic!("it is SQLite's") };
    Books { conn, dir }
}

/// [`audit_in_tx`] in a transaction of its own.
async fn audit(conn: &mut SqliteConnection) -> Result<AuditReport, StoreError> {
    let mut tx = sqlx::Connection::begin(conn).await?;
    let report = audit_in_tx(&mut Db::Sqlite(&mut tx)).await?;
    tx.rollback().await?;
    Ok(report)
}

impl Books {
    async fn sql(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.map(drop)
    }

    /// The audit after someone with access to the file did this.
    async fn tampered(sql: &str) -> AuditReport {
        let mut books = books().await;
        let sound = audit(&mut books.conn).await.unwrap();
        assert!(sound.holds && sound.breaks.is_empty());
        books.sql("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").await.unwrap();
        books.sql(sql).await.unwrap();
        let report = audit(&mut books.conn).await.unwrap();
        assert!(!report.holds, "{sql}");
        report
    }
}

#[tokio::test]
async fn what_was_posted_cannot_be_changed_by_sql() {
    let mut books = books().await;
    let before = audit(&mut books.conn).await.unwrap();
    for sql in [
        "UPDATE transfer SET amount = 1",
        "UPDATE transfer SET posted_at = 0 WHERE seq = 1",
        "DELETE FROM transfer WHERE seq = 3",
        "INSERT OR REPLACE INTO transfer SELECT * FROM transfer WHERE seq = 1",
        "INSERT INTO transfer SELECT seq + 10, id, kind, debit_id, credit_id, unit, amount, reference, evidence, posted_at FROM transfer",
        "INSERT INTO transfer SELECT seq + 10, randomblob(16), kind, debit_id, credit_id, unit, 0, reference, evidence, 0 FROM transfer",
        "INSERT INTO transfer SELECT seq + 10, randomblob(16), kind, debit_id, debit_id, unit, 1, reference, evidence, 0 FROM transfer",
        "INSERT INTO transfer SELECT seq + 10, randomblob(16), kind, randomblob(16), credit_id, unit, 1, reference, evidence, 0 FROM transfer",
        "INSERT INTO transfer SELECT seq + 10, randomblob(15), kind, debit_id, credit_id, unit, 1, reference, evidence, 0 FROM transfer",
        "INSERT INTO transfer SELECT seq + 10, NULL, kind, debit_id, credit_id, unit, 1, reference, evidence, 0 FROM transfer",
        "UPDATE account SET credits = credits - 1",
        "UPDATE account SET debits = debits + 1000 WHERE code = 3",
        "UPDATE account SET credits = credits + 1000 WHERE code = 1",
        "UPDATE account SET limited = 0",
        "UPDATE account SET code = 6 WHERE code = 3",
        "UPDATE account SET credits = 1.5",
        "DELETE FROM account WHERE code = 4",
        "INSERT INTO account SELECT randomblob(16), unit, code, 0, reference, 5, 5, 0 FROM account",
    ] {
        assert!(books.sql(sql).await.is_err(), "{sql}");
    }
    assert_eq!(audit(&mut books.conn).await.unwrap(), before);
}

#[tokio::test]
async fn the_audit_finds_a_changed_amount() {
    let sound = audit(&mut books().await.conn).await.unwrap();
    let report =
        Books::tampered("DROP TRIGGER transfer_is_never_changed; UPDATE transfer SET amount = 21 WHERE seq = 2").await;
    assert!(report.breaks.contains(&Break::GuardMissing { name: "transfer_is_never_changed".into() }));
    let differ = report.breaks.iter().filter(|found| matches!(found, Break::SumsDiffer { .. })).count();
    assert_eq!(differ, 2, "{:?}", report.breaks);
    assert_ne!(report.root, sound.root);
}

#[tokio::test]
async fn the_audit_finds_a_changed_time_by_the_root_alone() {
    let sound = audit(&mut books().await.conn).await.unwrap();
    let report =
        Books::tampered("DROP TRIGGER transfer_is_never_changed; UPDATE transfer SET posted_at = 5 WHERE seq = 1")
            .await;
    assert_eq!(report.breaks, [Break::GuardMissing { name: "transfer_is_never_changed".into() }]);
    assert_ne!(report.root, sound.root);
}

#[tokio::test]
async fn the_audit_finds_each_kind_of_tampering() {
    let has =
        |report: &AuditReport, word: &str| report.breaks.iter().any(|found| format!("{found:?}").starts_with(word));
    for (sql, words) in [
        ("DROP TRIGGER transfer_is_kept; DELETE FROM transfer WHERE seq = 2", &["PlaceMissing", "SumsDiffer"][..]),
        ("UPDATE account SET credits = credits + 5 WHERE code = 3", &["SumsDiffer", "UnitSumNotZero"]),
        ("DROP TRIGGER account_keeps_its_terms; UPDATE account SET limited = 0 WHERE code = 3", &["LimitDiffers"]),
        ("DROP TRIGGER account_is_kept; DELETE FROM account WHERE code = 4", &["AccountMissing", "UnitSumNotZero"]),
        (
            "DROP TRIGGER account_keeps_its_terms; UPDATE account SET unit = 2 WHERE code = 4",
            &["UnitsDiffer", "UnitSumNotZero"],
        ),
        ("DROP TRIGGER account_keeps_its_terms; UPDATE account SET code = 5 WHERE code = 4", &["KindForbidden"]),
        ("DROP TRIGGER account_keeps_its_terms; UPDATE account SET code = 77 WHERE code = 4", &["Unreadable"]),
        (
            "INSERT INTO transfer SELECT 4, zeroblob(16), kind, debit_id, credit_id, unit, 71, reference, evidence, 9 FROM transfer WHERE seq = 2",
            &["LimitPassed", "SumsDiffer"],
        ),
        (
            "INSERT INTO transfer SELECT 4, zeroblob(16), kind, debit_id, credit_id, unit, 0, reference, evidence, 9 FROM transfer WHERE seq = 2",
            &["AmountZero"],
        ),
        (
            "INSERT INTO transfer SELECT 4, zeroblob(16), 12, debit_id, debit_id, unit, 1, reference, evidence, 9 FROM transfer WHERE seq = 2",
            &["SameAccount", "SumsDiffer"],
        ),
        (
            "INSERT INTO transfer SELECT 4, zeroblob(3), kind, debit_id, credit_id, unit, 1, reference, evidence, 9 FROM transfer WHERE seq = 2",
            &["Unreadable"],
        ),
    ] {
        let report = Books::tampered(sql).await;
        for word in words {
            assert!(has(&report, word), "{sql}: no {word} in {:?}", report.breaks);
        }
    }
}

#[tokio::test]
async fn a_report_reads_as_json() {
    let report = Books::tampered("UPDATE account SET credits = credits + 5 WHERE code = 3").await;
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["holds"], false);
    assert_eq!(json["transfers"], 3);
    assert_eq!(json["units"][0]["sum_ucr"], 5);
    assert_eq!(json["breaks"][0]["break"], "sums_differ");
    assert_eq!(json["breaks"][0]["credits_added"], 100);
    assert_eq!(json["trial_balance"][2]["code"], "escrow");
    assert_eq!(json["trial_balance"][2]["balance_ucr"], 30);
    assert_eq!(json["root"], report.root.to_string());
}

#[tokio::test]
async fn an_answered_commit_waits_for_the_disk() {
    let mut books = books().await;
    for (pragma, value) in
        [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1"), ("recursive_triggers", "1")]
    {
        let row = sqlx::query(AssertSqlSafe(format!("PRAGMA {pragma}"))).fetch_one(&mut books.conn).await.unwrap();
        let found = row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string())).unwrap();
        assert_eq!(found, value, "{pragma}");
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_others_join_above() {
    let mut books = books().await;
    let other = Migrations::default().with(500, "other", "CREATE TABLE other (x INTEGER) STRICT", "");
    let database = Database::sqlite(books.dir.path().join("ledger.db"));
    migrate(&database, other.clone()).await.unwrap();
    migrate(&database, other).await.unwrap();
    books.sql("INSERT INTO other VALUES (1)").await.unwrap();
    assert!(audit(&mut books.conn).await.unwrap().holds);
}

#[tokio::test]
async fn a_reader_sees_the_books_and_cannot_write() {
    let books = books().await;
    let reader = Reader::open(&Database::sqlite(books.dir.path().join("ledger.db"))).await.unwrap();
    let alice = account(AccountCode::Allocation, 1);
    assert_eq!(reader.account(alice.id).await.unwrap().unwrap().available(), Amount::from_ucr(70));
    assert_eq!(reader.transfers_of_account(alice.id, 1, 9).await.unwrap().len(), 2);
    assert!(reader.transfer(TransferId([0; 16])).await.unwrap().is_none());
    assert!(reader.audit().await.unwrap().holds);
    let mut reading = reader.acquire().await.unwrap();
    assert!(query("DELETE FROM writer").execute(&mut reading.db()).await.is_err());
    drop(reading);
    reader.close().await;
    assert!(Reader::open(&Database::sqlite(books.dir.path().join("none.db"))).await.is_err());
}

#[tokio::test]
#[should_panic(expected = "inside an open transaction")]
async fn the_ledger_is_not_written_outside_a_transaction() {
    let mut books = books().await;
    let _ = LedgerTx::new(&mut Db::Sqlite(&mut books.conn));
}

#[tokio::test]
async fn a_row_that_moved_under_a_decision_is_noticed() {
    let mut books = books().await;
    // A trigger stands in for whatever else might move a row between reading and writing.
    books.sql("CREATE TRIGGER meddle AFTER INSERT ON transfer BEGIN UPDATE account SET credits = credits + 1 WHERE code = 3; END").await.unwrap();
    let mut tx = books.conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let reserve =
        transfer(TransferKind::Reserve, 9, account(AccountCode::Allocation, 1), account(AccountCode::Escrow, 2), 5);
    let posted = LedgerTx::new(&mut Db::Sqlite(&mut tx)).transfer_post_in_tx(reserve, NOW).await;
    assert!(matches!(posted, Err(StoreError::ReadBack { .. })), "{posted:?}");
}

#[tokio::test]
async fn an_account_that_was_just_opened_is_not_read_back_and_its_move_is_noticed_all_the_same() {
    let mut books = books().await;
    let escrow = account(AccountCode::Escrow, 77);
    let reserve = |n, ucr| transfer(TransferKind::Reserve, n, account(AccountCode::Allocation, 1), escrow, ucr);
    let mut tx = books.conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    {
        let mut db = Db::Sqlite(&mut tx);
        let mut ledger = LedgerTx::new(&mut db);
        ledger.accounts_open_in_tx(&[escrow], NOW).await.unwrap();
        // Twice: the second rests on what the first has moved.
        assert_eq!(ledger.transfer_post_in_tx(reserve(31, 5), NOW).await.unwrap(), Outcome::Created);
        assert_eq!(ledger.transfer_post_in_tx(reserve(32, 6), NOW).await.unwrap(), Outcome::Created);
        assert_eq!(ledger.accounts_in_tx(&[escrow.id]).await.unwrap()[0].credits, Amount::from_ucr(11));
    }
    tx.rollback().await.unwrap();
    let mut tx = books.conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let mut db = Db::Sqlite(&mut tx);
    let mut ledger = LedgerTx::new(&mut db);
    ledger.accounts_open_in_tx(&[escrow], NOW).await.unwrap();
    let meddle = query("UPDATE account SET credits = credits + 1 WHERE id = ?").bind(escrow.id.0.to_vec());
    assert_eq!(meddle.execute(ledger.db()).await.unwrap(), 1);
    let posted = ledger.transfer_post_in_tx(reserve(33, 5), NOW).await;
    assert!(matches!(posted, Err(StoreError::ReadBack { .. })), "{posted:?}");
}

#[tokio::test]
async fn accounts_are_updated_by_key_and_not_by_scan() {
    let mut books = books().await;
    for rows in [1, ROWS_PER_STATEMENT_MAX] {
        let rows = format!("VALUES {}", list("(x'00',1,1,1,1)", rows));
        let sql = format!("EXPLAIN QUERY PLAN {}", super::tx::ACCOUNTS_UPDATE.replace("{rows}", &rows));
        let plan = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut books.conn).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get::<String, _>("detail")).collect();
        assert!(steps.iter().any(|step| step.starts_with("SEARCH account USING PRIMARY KEY")), "{steps:?}");
        assert!(!steps.iter().any(|step| step.starts_with("SCAN account")), "{steps:?}");
    }
}

#[tokio::test]
async fn what_is_about_one_token_is_found_and_not_searched_for() {
    let mut books = books().await;
    for sql in [
        "EXPLAIN QUERY PLAN SELECT SUM(amount) FROM transfer WHERE reference = x'00' AND kind IN (4, 6)",
        "EXPLAIN QUERY PLAN SELECT credits - debits FROM account WHERE reference = x'00' AND code = 4",
    ] {
        let plan = sqlx::query(sql).fetch_all(&mut books.conn).await.unwrap();
        let step: String = plan[0].get("detail");
        assert!(
            step.starts_with("SEARCH")
                && ["kind", "code"].iter().any(|by| step.ends_with(&format!("_by_reference (reference=? AND {by}=?)"))),
            "{step}"
        );
    }
}

/// `cargo test -p comity-ledger -- --ignored --nocapture` prints reservations per second on this machine.
#[tokio::test]
#[ignore = "a measurement"]
async fn reservations_per_second() {
    const ALLOCATIONS: u32 = 1_000;
    const BATCHES: u32 = 40;
    const BATCH: u32 = 256;
    let mut books = books().await;
    let reference = |tag: u8, n: u32| {
        let mut id = [tag; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        Reference(id)
    };
    let allocation = |n| NewAccount::credits(AccountCode::Allocation, reference(7, n % ALLOCATIONS));
    let allocations: Vec<NewAccount> = (0..ALLOCATIONS).map(allocation).collect();
    let award = |to: &NewAccount| {
        let id = TransferId::derive(TransferKind::Award, &[to.reference.as_bytes()]);
        Group::single(Transfer {
            id,
            ..transfer(TransferKind::Award, 0, account(AccountCode::Issuance, 0), *to, 1_000_000)
        })
    };
    let mut tx = books.conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let mut db = Db::Sqlite(&mut tx);
    let mut ledger = LedgerTx::new(&mut db);
    assert_eq!(ledger.accounts_open_in_tx(&allocations, NOW).await.unwrap().len(), 1_000);
    let awards: Vec<Group> = allocations.iter().map(award).collect();
    assert!(ledger.transfers_post_in_tx(&awards, NOW).await.unwrap().iter().all(GroupOutcome::is_created));
    tx.commit().await.unwrap();

    let start = Instant::now();
    for batch in 0..BATCHES {
        let escrows: Vec<NewAccount> =
            (0..BATCH).map(|n| NewAccount::credits(AccountCode::Escrow, reference(8, batch * BATCH + n))).collect();
        let reserve = |(n, escrow): (usize, &NewAccount)| {
            let id = TransferId::derive(TransferKind::Reserve, &[escrow.reference.as_bytes()]);
            let from = allocation(batch * BATCH + u32::try_from(n).unwrap());
            Group::single(Transfer { id, ..transfer(TransferKind::Reserve, 0, from, *escrow, 10) })
        };
        let groups: Vec<Group> = escrows.iter().enumerate().map(reserve).collect();
        let mut tx = books.conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let mut db = Db::Sqlite(&mut tx);
        let mut ledger = LedgerTx::new(&mut db);
        assert_eq!(ledger.accounts_open_in_tx(&escrows, NOW).await.unwrap().len(), BATCH as usize);
        assert!(ledger.transfers_post_in_tx(&groups, NOW).await.unwrap().iter().all(GroupOutcome::is_created));
        tx.commit().await.unwrap();
    }
    let took = start.elapsed();
    let start = Instant::now();
    let report = audit(&mut books.conn).await.unwrap();
    assert!(report.holds);
    assert_eq!(report.sum_ucr(Unit::CREDITS), 0);
    eprintln!(
        "{:.0} reservations/s in batches of {BATCH}; {} transfers audited in {:?}",
        f64::from(BATCHES * BATCH) / took.as_secs_f64(),
        report.transfers,
        start.elapsed()
    );
}
