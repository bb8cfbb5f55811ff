//! The books in a database: one SQLite file (WAL, synchronous=FULL, STRICT tables), or PostgreSQL.
//!
//! The clearing house's tables live in the same database and share the SQL transaction, so it runs one migrator over both
//! sets ([`migrations`] 1–499, its own from 500). Writing needs a [`LedgerTx`], which only an open transaction gives;
//! a [`Reader`] has no way to write.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::db::{Database, MigrationState, Migrations};
use crate::store::StoreError;

mod audit;
mod backup;
mod copy;
mod read;
mod reader;
mod rows;
mod tx;

pub use audit::audit_in_tx;
pub use backup::{BackupError, PgSnapshot, integrity, sqlite_copy};
pub use copy::{CopyError, copy, is_empty};
pub use read::{Coded, transfers_after};
pub use reader::{Reader, Reading};
pub use tx::LedgerTx;

/// The highest number of the ledger's own migrations; those who share the database start above it.
pub const MIGRATION_MAX: i64 = 499;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: a few shapes, each in sizes of powers of two, and the clearing house's.
const STATEMENTS_MAX: usize = 512;
/// Rows of a statement that may wait to be taken.
const ROWS_ON_THE_WAY: usize = 4_096;

/// How to open a file for writing; creates it. Not for memory databases: WAL and a second reader need a file.
pub(crate) fn connect_options(path: impl AsRef<Path>) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        // Rows cross from the connection's thread one by one: it does not stop for who takes them.
        .row_buffer_size(ROWS_ON_THE_WAY)
        // REPLACE deletes rows, and fires the triggers that refuse this only with recursive triggers.
        .pragma("recursive_triggers", "ON")
        .pragma("trusted_schema", "OFF")
        // A savepoint for each job keeps the pages that it changes: in memory, not in a file beside the books.
        .pragma("temp_store", "MEMORY")
        // 64 MiB of log: a page that many reservations change is written back once.
        .pragma("wal_autocheckpoint", "16000")
}

/// The ledger's tables, numbered from 1 to [`MIGRATION_MAX`].
pub fn migrations() -> Migrations {
    macro_rules! both {
        ($file:literal) => {
            (include_str!(concat!("../migrations/", $file)), include_str!(concat!("../migrations/postgres/", $file)))
        };
    }
    let all = [
        (1, "ledger", both!("0001_ledger.sql")),
        (2, "by reference", both!("0002_by_reference.sql")),
        (3, "writers", both!("0003_writers.sql")),
    ];
    let add = |all: Migrations, (number, name, (sqlite, postgres))| all.with(number, name, sqlite, postgres);
    all.into_iter().fold(Migrations::default(), add)
}

/// Brings a database up to date with the ledger's migrations and `others`.
///
/// # Errors
/// [`StoreError`].
///
/// # Panics
/// Where one of `others` has a number that belongs to the ledger.
pub async fn migrate(database: &Database, others: Migrations) -> Result<(), StoreError> {
    assert!(others.numbers().all(|number| number > MIGRATION_MAX), "numbers up to {MIGRATION_MAX} are the ledger's");
    database.migrate(&migrations().and(others)).await
}

/// How the ledger's migrations and `others` stand in a database. Changes nothing.
///
/// # Errors
/// [`StoreError`].
pub async fn migration_states(database: &Database, others: Migrations) -> Result<Vec<MigrationState>, StoreError> {
    database.migration_states(&migrations().and(others)).await
}

#[cfg(test)]
mod tests;
