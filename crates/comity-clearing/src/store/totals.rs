//! Sums over the books, for totals and audits.

use comity_ledger::db::{Db, Row, query};
use comity_ledger::{AccountCode, TransferKind};
use comity_wire::{Amount, ProjectId};

use crate::audit::{Sums, code};
use crate::failure::Failure;

pub(crate) async fn of_project(conn: &mut Db<'_>, project: ProjectId) -> Result<Sums, Failure> {
    let id = || project.0.to_vec();
    let one = |sql: &'static str| query(sql).bind(id());
    let awarded = amount(
        one("SELECT CAST(COALESCE(SUM(l.amount - (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f \
             WHERE f.reference = l.id AND f.kind IN (11, 13))), 0) AS BIGINT) FROM lot l WHERE l.project = ?")
        .fetch_one(conn)
        .await?,
    )?;
    let unreleased = of_lots(conn, project, AccountCode::AwardLot).await?;
    let available = of_lots(conn, project, AccountCode::Allocation).await?;
    let expired = of_lots(conn, project, AccountCode::Expired).await?;
    let in_escrow = query(
        "SELECT CAST(COALESCE(SUM(e.credits - e.debits), 0) AS BIGINT) FROM token t JOIN account e ON e.reference = t.id AND e.code = ? WHERE t.project = ?",
    )
    .bind(code(AccountCode::Escrow))
    .bind(id())
    .fetch_one(conn)
    .await?;
    let paid =
        one("SELECT CAST(COALESCE(SUM(paid), 0) AS BIGINT) FROM token WHERE project = ?").fetch_one(conn).await?;
    let refunded =
        one("SELECT CAST(COALESCE(SUM(refunded), 0) AS BIGINT) FROM token WHERE project = ?").fetch_one(conn).await?;
    let clamped =
        one("SELECT CAST(COALESCE(SUM(clamped), 0) AS BIGINT) FROM token WHERE project = ?").fetch_one(conn).await?;
    let suspense = query(
        "SELECT CAST(COALESCE(SUM(f.amount), 0) AS BIGINT) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind = ? WHERE t.project = ?",
    )
    .bind(i64::from(TransferKind::SuspenseSettle.number()))
    .bind(id())
    .fetch_one(conn)
    .await?;
    let reversed = |to: AccountCode| {
        query(
            "SELECT CAST(COALESCE(SUM(f.amount), 0) AS BIGINT) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind IN (9, 15) \
             JOIN account c ON c.id = f.credit_id AND c.code = ? WHERE t.project = ?",
        )
        .bind(code(to))
        .bind(id())
    };
    let home = amount(reversed(AccountCode::Allocation).fetch_one(conn).await?)?;
    let to_suspense = amount(reversed(AccountCode::Suspense).fetch_one(conn).await?)?;
    Ok(Sums {
        awarded,
        unreleased,
        available,
        expired,
        in_escrow: amount(in_escrow)?,
        settled: amount(paid)?.saturating_sub(home).saturating_sub(to_suspense),
        from_suspense: amount(suspense)?.saturating_sub(to_suspense),
        refunded: amount(refunded)?,
        clamped: amount(clamped)?,
    })
}

pub(crate) async fn overall(conn: &mut Db<'_>) -> Result<Sums, Failure> {
    let awarded = query(
        "SELECT CAST((SELECT COALESCE(SUM(amount), 0) FROM lot) - \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer WHERE kind IN (11, 13)) AS BIGINT)",
    );
    let awarded = amount(awarded.fetch_one(conn).await?)?;
    let paid = amount(query("SELECT CAST(COALESCE(SUM(paid), 0) AS BIGINT) FROM token").fetch_one(conn).await?)?;
    let refunded =
        amount(query("SELECT CAST(COALESCE(SUM(refunded), 0) AS BIGINT) FROM token").fetch_one(conn).await?)?;
    let clamped = amount(query("SELECT CAST(COALESCE(SUM(clamped), 0) AS BIGINT) FROM token").fetch_one(conn).await?)?;
    let (home, to_suspense) =
        (reversed(conn, AccountCode::Allocation).await?, reversed(conn, AccountCode::Suspense).await?);
    Ok(Sums {
        awarded,
        unreleased: balance(conn, AccountCode::AwardLot).await?,
        available: balance(conn, AccountCode::Allocation).await?,
        expired: balance(conn, AccountCode::Expired).await?,
        in_escrow: balance(conn, AccountCode::Escrow).await?,
        settled: paid.saturating_sub(home).saturating_sub(to_suspense),
        from_suspense: moved(conn, TransferKind::SuspenseSettle).await?.saturating_sub(to_suspense),
        refunded,
        clamped,
    })
}

/// What lies in a project's lots, in their accounts of one code.
async fn of_lots(conn: &mut Db<'_>, project: ProjectId, of: AccountCode) -> Result<Amount, Failure> {
    let sum = query(
        "SELECT CAST(COALESCE(SUM(c.credits - c.debits), 0) AS BIGINT) FROM lot l \
         JOIN account c ON c.reference = l.id AND c.code = ? WHERE l.project = ?",
    );
    amount(sum.bind(code(of)).bind(project.0.to_vec()).fetch_one(conn).await?)
}

async fn balance(conn: &mut Db<'_>, of: AccountCode) -> Result<Amount, Failure> {
    let row =
        query("SELECT CAST(COALESCE(SUM(credits - debits), 0) AS BIGINT) FROM account WHERE code = ?").bind(code(of));
    amount(row.fetch_one(conn).await?)
}

/// What disputes took back from owners, and what owners gave back, to accounts of one code.
async fn reversed(conn: &mut Db<'_>, to: AccountCode) -> Result<Amount, Failure> {
    let sum = query(
        "SELECT CAST(COALESCE(SUM(f.amount), 0) AS BIGINT) FROM transfer f JOIN account c ON c.id = f.credit_id \
         WHERE f.kind IN (9, 15) AND c.code = ?",
    );
    amount(sum.bind(code(to)).fetch_one(conn).await?)
}

async fn moved(conn: &mut Db<'_>, kind: TransferKind) -> Result<Amount, Failure> {
    let row = query("SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM transfer WHERE kind = ?")
        .bind(i64::from(kind.number()));
    amount(row.fetch_one(conn).await?)
}

fn amount(row: Row) -> Result<Amount, Failure> {
    Amount::new(row.first()?).map_err(|_| Failure::Unreadable { table: "transfer", what: "a sum" })
}
