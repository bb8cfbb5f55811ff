//! Read-only connections for statements, pages and audits, beside the one writer.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Sqlite};

use super::{audit_in_tx, read};
use crate::account::Account;
use crate::audit::AuditReport;
use crate::db::{Database, Db, Readers, Tx, query, within};
use crate::id::{AccountId, TransferId};
use crate::store::StoreError;
use crate::transfer::Posted;

/// A pool that cannot write: its connections refuse to, and it has no method that would. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: Readers,
}

/// How long one statement of an audit may take on PostgreSQL.
const AUDIT_WAIT: Duration = Duration::from_secs(3600);

/// A reading connection, given back when it is dropped.
#[derive(Debug)]
pub enum Reading {
    Sqlite(PoolConnection<Sqlite>),
    /// With how long an answer is waited for.
    Postgres(PoolConnection<Postgres>, Duration),
}

impl Reading {
    pub fn db(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(conn) => Db::Sqlite(conn),
            Self::Postgres(conn, wait) => Db::Postgres(conn, *wait),
        }
    }

    /// Sees one state, whatever others write meanwhile, until it is dropped.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn snapshot(&mut self) -> Result<Tx<'_>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(conn) => Tx::Sqlite(sqlx::Connection::begin(&mut **conn).await?),
            Self::Postgres(conn, wait) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let begun = within(*wait, sqlx::Connection::begin_with(&mut **conn, begin)).await?;
                Tx::Postgres(begun, *wait)
            }
        })
    }

    /// [`Reading::snapshot`] for statements that read all of the books, and take as long as those are.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn snapshot_to_audit(&mut self) -> Result<Tx<'_>, sqlx::Error> {
        let mut snapshot = self.snapshot().await?;
        if let Tx::Postgres(_, wait) = &mut snapshot {
            *wait = AUDIT_WAIT;
            let ms = AUDIT_WAIT.as_millis();
            query(format!("SET LOCAL statement_timeout = {ms}")).execute(&mut snapshot.db()).await?;
        }
        Ok(snapshot)
    }
}

impl Reader {
    /// Opens readers on a database that exists and is up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { pool: database.readers().await? })
    }

    /// A connection, also for those who keep their own tables beside the ledger's.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn acquire(&self) -> Result<Reading, sqlx::Error> {
        Ok(match &self.pool {
            Readers::Sqlite(pool) => Reading::Sqlite(pool.acquire().await?),
            Readers::Postgres(readers, wait) => Reading::Postgres(readers.acquire().await?, *wait),
        })
    }

    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.accounts(&[id]).await?.into_iter().next())
    }

    /// Those of `ids` that exist, in id order.
    pub async fn accounts(&self, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
        read::accounts(&mut self.acquire().await?.db(), ids).await
    }

    pub async fn transfer(&self, id: TransferId) -> Result<Option<Posted>, StoreError> {
        Ok(read::transfers(&mut self.acquire().await?.db(), &[id]).await?.into_iter().next())
    }

    /// Transfers that debit or credit `id` after place `after`, oldest first, at most `limit`.
    pub async fn transfers_of_account(&self, id: AccountId, after: u64, limit: u32) -> Result<Vec<Posted>, StoreError> {
        read::transfers_of_account(&mut self.acquire().await?.db(), id, after, limit).await
    }

    /// Re-adds the books from one snapshot, while others write on.
    pub async fn audit(&self) -> Result<AuditReport, StoreError> {
        let mut reading = self.acquire().await?;
        let mut snapshot = reading.snapshot_to_audit().await?;
        let report = audit_in_tx(&mut snapshot.db()).await?;
        snapshot.rollback().await?;
        Ok(report)
    }

    /// Bids every connection goodbye. One that was given up half-way, and whose server is not heard any more, is waited for
    /// no longer than for an answer: the pool would ask it for one, and wait for ever.
    pub async fn close(&self) {
        match &self.pool {
            Readers::Sqlite(pool) => pool.close().await,
            Readers::Postgres(readers, wait) => {
                if tokio::time::timeout(*wait, readers.close()).await.is_err() {
                    tracing::warn!("reading connections did not close in time");
                }
            }
        }
    }
}
