//! Sums over the books, for totals and audits.

use comity_ledger::{AccountCode, TransferKind};
use comity_wire::{Amount, ProjectId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::money;
use crate::audit::{Sums, code};
use crate::failure::Failure;

pub(crate) async fn of_project(conn: &mut SqliteConnection, project: ProjectId) -> Result<Sums, Failure> {
    let id = || project.0.to_vec();
    let one = |sql: &'static str| sqlx::query(sql).bind(id());
    let awarded =
        amount(one("SELECT COALESCE(SUM(amount), 0) FROM award WHERE project = ?").fetch_one(&mut *conn).await?)?;
    let available = sqlx::query("SELECT COALESCE(SUM(credits - debits), 0) FROM account WHERE id = ?")
        .bind(money::allocation(project).id.0.to_vec())
        .fetch_one(&mut *conn)
        .await?;
    let in_escrow = sqlx::query(
        "SELECT COALESCE(SUM(e.credits - e.debits), 0) FROM token t JOIN account e ON e.reference = t.id AND e.code = ? WHERE t.project = ?",
    )
    .bind(code(AccountCode::Escrow))
    .bind(id())
    .fetch_one(&mut *conn)
    .await?;
    let paid = one("SELECT COALESCE(SUM(paid), 0) FROM token WHERE project = ?").fetch_one(&mut *conn).await?;
    let refunded = one("SELECT COALESCE(SUM(refunded), 0) FROM token WHERE project = ?").fetch_one(&mut *conn).await?;
    let clamped = one("SELECT COALESCE(SUM(clamped), 0) FROM token WHERE project = ?").fetch_one(&mut *conn).await?;
    let suspense = sqlx::query(
        "SELECT COALESCE(SUM(f.amount), 0) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind = ? WHERE t.project = ?",
    )
    .bind(i64::from(TransferKind::SuspenseSettle.number()))
    .bind(id())
    .fetch_one(&mut *conn)
    .await?;
    Ok(Sums {
        awarded,
        available: amount(available)?,
        in_escrow: amount(in_escrow)?,
        settled: amount(paid)?,
        from_suspense: amount(suspense)?,
        refunded: amount(refunded)?,
        clamped: amount(clamped)?,
    })
}

pub(crate) async fn overall(conn: &mut SqliteConnection) -> Result<Sums, Failure> {
    let awarded = amount(sqlx::query("SELECT COALESCE(SUM(amount), 0) FROM award").fetch_one(&mut *conn).await?)?;
    let paid = amount(sqlx::query("SELECT COALESCE(SUM(paid), 0) FROM token").fetch_one(&mut *conn).await?)?;
    let refunded = amount(sqlx::query("SELECT COALESCE(SUM(refunded), 0) FROM token").fetch_one(&mut *conn).await?)?;
    let clamped = amount(sqlx::query("SELECT COALESCE(SUM(clamped), 0) FROM token").fetch_one(&mut *conn).await?)?;
    Ok(Sums {
        awarded,
        available: balance(conn, AccountCode::Allocation).await?,
        in_escrow: balance(conn, AccountCode::Escrow).await?,
        settled: paid,
        from_suspense: moved(conn, TransferKind::SuspenseSettle).await?,
        refunded,
        clamped,
    })
}

async fn balance(conn: &mut SqliteConnection, of: AccountCode) -> Result<Amount, Failure> {
    let row = sqlx::query("SELECT COALESCE(SUM(credits - debits), 0) FROM account WHERE code = ?").bind(code(of));
    amount(row.fetch_one(conn).await?)
}

async fn moved(conn: &mut SqliteConnection, kind: TransferKind) -> Result<Amount, Failure> {
    let row =
        sqlx::query("SELECT COALESCE(SUM(amount), 0) FROM transfer WHERE kind = ?").bind(i64::from(kind.number()));
    amount(row.fetch_one(conn).await?)
}

fn amount(row: sqlx::sqlite::SqliteRow) -> Result<Amount, Failure> {
    Amount::new(row.try_get(0)?).map_err(|_| Failure::Unreadable { table: "transfer", what: "a sum" })
}
