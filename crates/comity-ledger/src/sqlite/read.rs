//! Reading accounts and transfers: the statements that [`LedgerTx`](super::LedgerTx) and [`Reader`](super::Reader) share.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::rows::{self, list, padded_runs};
use crate::account::Account;
use crate::id::{AccountId, TransferId};
use crate::store::{PAGE_MAX, StoreError};
use crate::transfer::Posted;

/// Those of `ids` that exist, in id order.
pub(super) async fn accounts(conn: &mut SqliteConnection, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
    let mut found = BTreeMap::new();
    for run in padded_runs(ids) {
        let sql = format!("SELECT * FROM account WHERE id IN ({})", list("?", run.len()));
        let query = run.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id.0.to_vec()));
        for row in query.fetch_all(&mut *conn).await? {
            let account = rows::account(&row)?;
            found.insert(account.id, account);
        }
    }
    Ok(found.into_values().collect())
}

/// Those of `ids` that are posted, in no order.
pub(super) async fn transfers(conn: &mut SqliteConnection, ids: &[TransferId]) -> Result<Vec<Posted>, StoreError> {
    let mut found = Vec::new();
    for run in padded_runs(ids) {
        let sql = format!("SELECT * FROM transfer WHERE id IN ({})", list("?", run.len()));
        let query = run.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id.0.to_vec()));
        for row in query.fetch_all(&mut *conn).await? {
            found.push(rows::posted(&row)?);
        }
    }
    Ok(found)
}

pub(super) async fn transfers_of_account(
    conn: &mut SqliteConnection,
    id: AccountId,
    after: u64,
    limit: u32,
) -> Result<Vec<Posted>, StoreError> {
    let Ok(after) = i64::try_from(after) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query(
        "SELECT * FROM transfer WHERE debit_id = ?1 AND seq > ?2 \
         UNION ALL SELECT * FROM transfer WHERE credit_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )
    .bind(id.0.to_vec())
    .bind(after)
    .bind(i64::from(limit.min(PAGE_MAX)))
    .fetch_all(conn)
    .await?;
    rows.iter().map(rows::posted).collect()
}
