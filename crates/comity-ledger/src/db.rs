//! The two databases that books may be kept in, and what both can do.
//!
//! Not sqlx's `Any`: a statement here has integers, bytes and texts, each of a type that both engines have, and its text is
//! plain SQL with `?` or `?N` for its values. Where the engines differ a caller asks which one it has ([`Db::kind`]).
//!
//! Writing has one writer at a time on either: SQLite by its one write lock, PostgreSQL by a row that every writing
//! transaction locks first (decision 0035). All that is read and decided in between is therefore true until COMMIT.

mod connect;
mod many;
mod query;
mod row;
mod servers;

use std::cell::Cell;
use std::time::Duration;

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Connection as _, Transaction};

pub(crate) use connect::Readers;
pub use connect::{Database, MigrationStanding, MigrationState, Migrations};
pub use many::{Many, ROWS_PER_STATEMENT_MAX, list, runs};
pub use query::{Query, Value, query};
pub use row::Row;
pub use servers::Servers;

/// SQLSTATE of `serialization_failure` and `deadlock_detected` (PostgreSQL, appendix A; other engines with its protocol say the
/// former wherever two transactions meet).
const CONFLICTS: [&str; 2] = ["40001", "40P01"];

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A connection on loan, in a transaction or not.
#[derive(Debug)]
pub enum Db<'a> {
    Sqlite(&'a mut SqliteConnection),
    /// With how long an answer is waited for.
    Postgres(&'a mut PgConnection, Duration),
}

impl Db<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(..) => Kind::Postgres,
        }
    }

    /// The same, on loan for a shorter time.
    pub fn reborrow(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(conn) => Db::Sqlite(conn),
            Self::Postgres(conn, wait) => Db::Postgres(conn, *wait),
        }
    }

    pub fn is_in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(conn) => conn.is_in_transaction(),
            Self::Postgres(conn, _) => conn.is_in_transaction(),
        }
    }
}

/// A connection of one's own.
#[derive(Debug)]
pub enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection, Duration),
}

impl Conn {
    pub fn db(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(conn) => Db::Sqlite(conn),
            Self::Postgres(conn, wait) => Db::Postgres(conn, *wait),
        }
    }

    /// Begins to write, once nobody else does.
    ///
    /// # Errors
    /// [`sqlx::Error`] where another one writes for longer than is waited for.
    pub async fn write(&mut self) -> Result<Tx<'_>, sqlx::Error> {
        match self {
            Self::Sqlite(conn) => Ok(Tx::Sqlite(conn.begin_with("BEGIN IMMEDIATE").await?)),
            Self::Postgres(conn, wait) => {
                let begin = async {
                    let mut tx = conn.begin().await?;
                    sqlx::query("SELECT one FROM writing WHERE one = 1 FOR UPDATE").execute(&mut *tx).await?;
                    Ok(tx)
                };
                Ok(Tx::Postgres(within(*wait, begin).await?, *wait))
            }
        }
    }

    /// # Errors
    /// [`sqlx::Error`]; it is closed all the same.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(conn) => conn.close().await,
            Self::Postgres(conn, wait) => within(wait, conn.close()).await,
        }
    }
}

/// An open transaction, or a savepoint in one. Dropping it undoes it.
pub enum Tx<'a> {
    Sqlite(Transaction<'a, Sqlite>),
    Postgres(Transaction<'a, Postgres>, Duration),
}

impl Tx<'_> {
    pub fn db(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(tx) => Db::Sqlite(tx),
            Self::Postgres(tx, wait) => Db::Postgres(tx, *wait),
        }
    }

    /// # Errors
    /// [`sqlx::Error`].
    pub async fn savepoint(&mut self) -> Result<Tx<'_>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(tx) => Tx::Sqlite(tx.begin().await?),
            Self::Postgres(tx, wait) => Tx::Postgres(within(*wait, tx.begin()).await?, *wait),
        })
    }

    /// # Errors
    /// [`sqlx::Error`]: of the outermost transaction it may have happened all the same.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx, wait) => within(wait, tx.commit()).await,
        }
    }

    /// # Errors
    /// [`sqlx::Error`].
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx, wait) => within(wait, tx.rollback()).await,
        }
    }
}

tokio::task_local! {
    /// Whether the server gave up something that was asked meanwhile, for another transaction's sake.
    static CONFLICT: Cell<bool>;
}

/// Runs `work`, which asks a database, and tells with its result whether another transaction came in its way
/// (`serialization_failure` and `deadlock_detected` of PostgreSQL): then the whole transaction is to be run again.
pub(crate) async fn noting_conflicts<T>(work: impl Future<Output = T>) -> (T, bool) {
    let noted = async { (work.await, has_conflict()) };
    CONFLICT.scope(Cell::new(false), noted).await
}

/// Inside [`noting_conflicts`]: whether there was one so far.
pub(crate) fn has_conflict() -> bool {
    CONFLICT.try_with(Cell::get).unwrap_or(false)
}

/// A network that loses bytes tells nobody.
pub(crate) async fn within<T>(
    wait: Duration,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(wait, asked)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
    if answer.as_ref().is_err_and(is_conflict) {
        // Nobody notes it: then nobody runs it again.
        let _ = CONFLICT.try_with(|noted| noted.set(true));
    }
    answer
}

/// Whether the server gave a transaction up for another one's sake.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| CONFLICTS.contains(&&*code)))
}
