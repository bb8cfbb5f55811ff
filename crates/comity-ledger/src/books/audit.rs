//! The audit of a database: one snapshot, every row streamed once, and a look at the guards of the tables.

use futures::TryStreamExt as _;

use super::rows;
use crate::audit::{AuditReport, Auditor, Break};
use crate::db::{Db, Kind, query};
use crate::store::StoreError;

/// The triggers without which rows could be changed unnoticed.
const SQLITE_GUARDS: &[&str] = &[
    "account_opens_empty",
    "account_keeps_its_terms",
    "account_sums_only_grow",
    "account_is_kept",
    "transfer_is_never_changed",
    "transfer_is_kept",
];
const POSTGRES_GUARDS: &[&str] = &[
    "account_opens_empty",
    "account_keeps_its_terms",
    "account_is_kept",
    "account_is_emptied",
    "transfer_is_kept",
    "transfer_is_emptied",
];

/// Re-adds the books from the transfers alone, inside an open transaction that sees one state. What is wrong is in the
/// report; an error means that the books could not be read at all. Safe to drop.
///
/// # Errors
/// [`StoreError`].
pub async fn audit_in_tx(db: &mut Db<'_>) -> Result<AuditReport, StoreError> {
    let mut auditor = Auditor::new();
    let (guards, sql) = match db.kind() {
        Kind::Sqlite => (SQLITE_GUARDS, "SELECT name FROM sqlite_schema WHERE type = 'trigger'"),
        // A trigger that was switched off guards nothing.
        Kind::Postgres => (
            POSTGRES_GUARDS,
            "SELECT CAST(t.tgname AS TEXT) AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
             WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND c.relname IN ('account', 'transfer')",
        ),
    };
    let present = query(sql).fetch_all(db).await?;
    let present = present.iter().map(|row| row.text("name")).collect::<Result<Vec<_>, _>>()?;
    for guard in guards.iter().filter(|guard| !present.iter().any(|name| name == *guard)) {
        auditor.found(Break::GuardMissing { name: (*guard).to_owned() });
    }

    let mut accounts = query("SELECT * FROM account").fetch(db);
    while let Some(row) = accounts.try_next().await? {
        match rows::account(&row) {
            Ok(account) => auditor.account(account),
            Err(unreadable) => auditor.found(Break::Unreadable { what: unreadable.to_string() }),
        }
    }
    drop(accounts);

    let mut transfers = query("SELECT * FROM transfer ORDER BY seq").fetch(db);
    while let Some(row) = transfers.try_next().await? {
        match rows::posted(&row) {
            Ok(posted) => auditor.transfer(&posted),
            Err(unreadable) => auditor.found(Break::Unreadable { what: unreadable.to_string() }),
        }
    }
    drop(transfers);
    Ok(auditor.finish())
}
