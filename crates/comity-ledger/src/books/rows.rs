//! Rows to types and back. What a row cannot hold is [`StoreError::Unreadable`], never a default.

use comity_wire::{Amount, Digest, Timestamp};

use crate::account::{Account, AccountCode, Limit, Unit};
use crate::db::Row;
use crate::id::{AccountId, Reference, TransferId};
use crate::store::StoreError;
use crate::transfer::{Posted, Transfer, TransferKind};

pub(super) const ACCOUNT: &str = "account";
pub(super) const TRANSFER: &str = "transfer";

pub(super) fn account(row: &Row) -> Result<Account, StoreError> {
    let cells = Cells { table: ACCOUNT, row };
    Ok(Account {
        id: AccountId(cells.bytes("id")?),
        unit: cells.unit()?,
        code: AccountCode::from_number(cells.int("code")?).ok_or_else(|| cells.unreadable("code"))?,
        limit: Limit::from_number(cells.int("limited")?).ok_or_else(|| cells.unreadable("limited"))?,
        reference: Reference(cells.bytes("reference")?),
        debits: cells.amount("debits")?,
        credits: cells.amount("credits")?,
        opened_at: cells.time("opened_at")?,
    })
}

pub(super) fn posted(row: &Row) -> Result<Posted, StoreError> {
    let cells = Cells { table: TRANSFER, row };
    let transfer = Transfer {
        id: TransferId(cells.bytes("id")?),
        kind: TransferKind::from_number(cells.int("kind")?).ok_or_else(|| cells.unreadable("kind"))?,
        debit: AccountId(cells.bytes("debit_id")?),
        credit: AccountId(cells.bytes("credit_id")?),
        amount: cells.amount("amount")?,
        reference: Reference(cells.bytes("reference")?),
        evidence: Digest(cells.bytes("evidence")?),
    };
    let seq = u64::try_from(cells.int("seq")?).map_err(|_| cells.unreadable("seq"))?;
    Ok(Posted { seq, transfer, unit: cells.unit()?, posted_at: cells.time("posted_at")? })
}

/// A row of a table, read by column.
pub(super) struct Cells<'r> {
    pub(super) table: &'static str,
    pub(super) row: &'r Row,
}

impl Cells<'_> {
    pub(super) fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.row.int(column).map_err(|_| self.unreadable(column))
    }

    pub(super) fn bytes<const N: usize>(&self, column: &'static str) -> Result<[u8; N], StoreError> {
        let bytes = self.row.blob(column).map_err(|_| self.unreadable(column))?;
        bytes.try_into().map_err(|_| self.unreadable(column))
    }

    fn amount(&self, column: &'static str) -> Result<Amount, StoreError> {
        Amount::new(self.int(column)?).map_err(|_| self.unreadable(column))
    }

    fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        u64::try_from(self.int(column)?).map(Timestamp).map_err(|_| self.unreadable(column))
    }

    fn unit(&self) -> Result<Unit, StoreError> {
        u32::try_from(self.int("unit")?).map(Unit).map_err(|_| self.unreadable("unit"))
    }

    fn unreadable(&self, what: &'static str) -> StoreError {
        StoreError::Unreadable { table: self.table, what }
    }
}

/// Times are stored as i64; those of the wire stay below 2⁵³.
pub(super) fn seconds(at: comity_wire::Timestamp) -> i64 {
    i64::try_from(at.seconds()).unwrap_or(i64::MAX)
}
