//! The audit of a SQLite file: one snapshot, every row streamed once, and a look at the guards of the tables.

use futures::TryStreamExt as _;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use super::rows;
use crate::audit::{AuditReport, Auditor, Break};
use crate::store::StoreError;

/// The triggers without which rows could be changed unnoticed.
const GUARDS: [&str; 6] = [
    "account_opens_empty",
    "account_keeps_its_terms",
    "account_sums_only_grow",
    "account_is_kept",
    "transfer_is_never_changed",
    "transfer_is_kept",
];

/// Re-adds the books on `conn` from the transfers alone. What is wrong is in the report; an error means that the books
/// could not be read at all. Safe to drop.
pub async fn audit(conn: &mut SqliteConnection) -> Result<AuditReport, StoreError> {
    let mut snapshot = conn.begin().await?;
    let mut auditor = Auditor::new();

    let present =
        sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetch_all(&mut *snapshot).await?;
    let present = present.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    for guard in GUARDS.iter().filter(|guard| !present.iter().any(|name| name == *guard)) {
        auditor.found(Break::GuardMissing { name: (*guard).to_owned() });
    }

    let mut accounts = sqlx::query("SELECT * FROM account").fetch(&mut *snapshot);
    while let Some(row) = accounts.try_next().await? {
        match rows::account(&row) {
            Ok(account) => auditor.account(account),
            Err(unreadable) => auditor.found(Break::Unreadable { what: unreadable.to_string() }),
        }
    }
    drop(accounts);

    let mut transfers = sqlx::query("SELECT * FROM transfer ORDER BY seq").fetch(&mut *snapshot);
    while let Some(row) = transfers.try_next().await? {
        match rows::posted(&row) {
            Ok(posted) => auditor.transfer(&posted),
            Err(unreadable) => auditor.found(Break::Unreadable { what: unreadable.to_string() }),
        }
    }
    drop(transfers);
    snapshot.rollback().await?;
    Ok(auditor.finish())
}
