//! Reading accounts and transfers: the statements that [`LedgerTx`](super::LedgerTx) and [`Reader`](super::Reader) share.

use std::collections::BTreeMap;

use super::rows::{self, list, padded_runs};
use crate::account::Account;
use crate::db::{Db, query};
use crate::id::{AccountId, TransferId};
use crate::store::{PAGE_MAX, StoreError};
use crate::transfer::Posted;

/// Those of `ids` that exist, in id order.
pub(super) async fn accounts(db: &mut Db<'_>, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
    let mut found = BTreeMap::new();
    for run in padded_runs(ids) {
        let sql = format!("SELECT * FROM account WHERE id IN ({})", list("?", run.len()));
        let asking = run.iter().fold(query(sql), |asking, id| asking.bind(id.0.to_vec()));
        for row in asking.fetch_all(db).await? {
            let account = rows::account(&row)?;
            found.insert(account.id, account);
        }
    }
    Ok(found.into_values().collect())
}

/// Those of `ids` that are posted, in no order.
pub(super) async fn transfers(db: &mut Db<'_>, ids: &[TransferId]) -> Result<Vec<Posted>, StoreError> {
    let mut found = Vec::new();
    for run in padded_runs(ids) {
        let sql = format!("SELECT * FROM transfer WHERE id IN ({})", list("?", run.len()));
        let asking = run.iter().fold(query(sql), |asking, id| asking.bind(id.0.to_vec()));
        for row in asking.fetch_all(db).await? {
            found.push(rows::posted(&row)?);
        }
    }
    Ok(found)
}

pub(super) async fn transfers_of_account(
    db: &mut Db<'_>,
    id: AccountId,
    after: u64,
    limit: u32,
) -> Result<Vec<Posted>, StoreError> {
    let Ok(after) = i64::try_from(after) else {
        return Ok(Vec::new());
    };
    let rows = query(
        "SELECT * FROM transfer WHERE debit_id = ?1 AND seq > ?2 \
         UNION ALL SELECT * FROM transfer WHERE credit_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )
    .bind(id.0.to_vec())
    .bind(after)
    .bind(i64::from(limit.min(PAGE_MAX)))
    .fetch_all(db)
    .await?;
    rows.iter().map(rows::posted).collect()
}
