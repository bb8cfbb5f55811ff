//! Read-only connections for statements, pages and audits, beside the one writer.

use std::path::Path;

use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};

use super::{audit, connect_options, read};
use crate::account::Account;
use crate::audit::AuditReport;
use crate::id::{AccountId, TransferId};
use crate::store::StoreError;
use crate::transfer::Posted;

/// A pool that cannot write: its connections are `query_only`, and it has no method that would. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: SqlitePool,
}

/// Readers at once; one more waits.
const CONNECTIONS_MAX: u32 = 4;

impl Reader {
    /// Opens readers on a file that exists and is up to date.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let options = connect_options(path).create_if_missing(false).pragma("query_only", "ON");
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await?;
        Ok(Self { pool })
    }

    /// The read-only pool, for those who keep their own tables in the same file.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.accounts(&[id]).await?.into_iter().next())
    }

    /// Those of `ids` that exist, in id order.
    pub async fn accounts(&self, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
        read::accounts(&mut *self.pool.acquire().await?, ids).await
    }

    pub async fn transfer(&self, id: TransferId) -> Result<Option<Posted>, StoreError> {
        Ok(read::transfers(&mut *self.pool.acquire().await?, &[id]).await?.into_iter().next())
    }

    /// Transfers that debit or credit `id` after place `after`, oldest first, at most `limit`.
    pub async fn transfers_of_account(&self, id: AccountId, after: u64, limit: u32) -> Result<Vec<Posted>, StoreError> {
        read::transfers_of_account(&mut *self.pool.acquire().await?, id, after, limit).await
    }

    /// Re-adds the books from one snapshot, while others write on.
    pub async fn audit(&self) -> Result<AuditReport, StoreError> {
        audit(&mut *self.pool.acquire().await?).await
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}
