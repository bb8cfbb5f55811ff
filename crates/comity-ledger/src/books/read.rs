//! Reading accounts and transfers: the statements that [`LedgerTx`](super::LedgerTx) and [`Reader`](super::Reader) share.

use std::collections::BTreeMap;

use super::rows;
use crate::account::{Account, AccountCode};
use crate::db::{Db, query};
use crate::id::{AccountId, TransferId};
use crate::store::{PAGE_MAX, StoreError};
use crate::transfer::Posted;
use crate::values;

/// Those of `ids` that exist, in id order.
pub(super) async fn accounts(db: &mut Db<'_>, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
    let mut found = BTreeMap::new();
    let asking = query("SELECT * FROM account WHERE id {any}").each(ids.iter().map(|id| values![id.0]));
    for row in asking.repeatable().fetch_all(db).await? {
        let account = rows::account(&row)?;
        found.insert(account.id, account);
    }
    Ok(found.into_values().collect())
}

/// Those of `ids` that are posted, in no order.
pub(super) async fn transfers(db: &mut Db<'_>, ids: &[TransferId]) -> Result<Vec<Posted>, StoreError> {
    let asking = query("SELECT * FROM transfer WHERE id {any}").each(ids.iter().map(|id| values![id.0]));
    asking.repeatable().fetch_all(db).await?.iter().map(rows::posted).collect()
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

/// A transfer with what the two accounts are for that it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coded {
    pub posted: Posted,
    pub debit: AccountCode,
    pub credit: AccountCode,
}

/// All transfers behind place `after`, oldest first, at most `limit`.
///
/// # Errors
/// [`StoreError`].
pub async fn transfers_after(db: &mut Db<'_>, after: u64, limit: u32) -> Result<Vec<Coded>, StoreError> {
    let Ok(after) = i64::try_from(after) else {
        return Ok(Vec::new());
    };
    let rows = query(
        "SELECT t.*, d.code AS debit_code, c.code AS credit_code FROM transfer t \
         JOIN account d ON d.id = t.debit_id JOIN account c ON c.id = t.credit_id \
         WHERE t.seq > ? ORDER BY t.seq LIMIT ?",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    let coded = |row| {
        let code = |name| {
            let cells = rows::Cells { table: rows::TRANSFER, row };
            let unreadable = StoreError::Unreadable { table: rows::TRANSFER, what: name };
            AccountCode::from_number(cells.int(name)?).ok_or(unreadable)
        };
        Ok(Coded { posted: rows::posted(row)?, debit: code("debit_code")?, credit: code("credit_code")? })
    };
    rows.iter().map(coded).collect()
}
