//! The books in one SQLite file: WAL, synchronous=FULL, STRICT tables, one writer. Never on a network file system.
//!
//! The clearing house's tables live in the same file and share the SQL transaction, so it runs one migrator over both
//! sets ([`migrations`] 1–499, its own from 500). Writing needs a [`LedgerTx`], which only an open transaction gives;
//! a [`Reader`] has no way to write.

use std::path::Path;
use std::time::Duration;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use crate::store::StoreError;

mod audit;
mod read;
mod reader;
mod rows;
mod tx;

pub use audit::audit;
pub use reader::Reader;
pub use tx::LedgerTx;

/// The highest number of the ledger's own migrations; those who share the file start above it.
pub const MIGRATION_MAX: i64 = 499;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: a few shapes, each in sizes of powers of two, and the clearing house's.
const STATEMENTS_MAX: usize = 512;

/// How to open the books for writing; creates the file. Not for memory databases: WAL and a second reader need a file.
pub fn connect_options(path: impl AsRef<Path>) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        // REPLACE deletes rows, and fires the triggers that refuse this only with recursive triggers.
        .pragma("recursive_triggers", "ON")
        .pragma("trusted_schema", "OFF")
}

/// The ledger's tables, numbered from 1 to [`MIGRATION_MAX`].
pub fn migrations() -> Vec<Migration> {
    let migration =
        |number, name: &'static str, sql| Migration::new(number, name.into(), MigrationType::Simple, sql, false);
    vec![
        migration(1, "ledger", include_str!("../migrations/0001_ledger.sql").into_sql_str()),
        migration(2, "by reference", include_str!("../migrations/0002_by_reference.sql").into_sql_str()),
    ]
}

/// Brings the file up to date with the ledger's migrations and `others`, then moves them from the write-ahead log into
/// the file, so that a fresh database is more than an empty file beside a log.
///
/// # Panics
/// Where one of `others` has a number that belongs to the ledger.
pub async fn migrate(conn: &mut SqliteConnection, others: Vec<Migration>) -> Result<(), StoreError> {
    assert!(others.iter().all(|other| other.version > MIGRATION_MAX), "numbers up to {MIGRATION_MAX} are the ledger's");
    let all = migrations().into_iter().chain(others).collect();
    Migrator::with_migrations(all).run_direct(None, conn, false).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
