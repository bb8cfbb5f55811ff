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

/// Splits rows into runs whose sizes are powers of two, so that few statement texts serve every number of rows.
pub(super) fn runs<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = (rows.len().checked_ilog2()?).min(ROWS_PER_STATEMENT_MAX.ilog2());
        let (run, rest) = rows.split_at(1 << size);
        rows = rest;
        Some(run)
    })
}

/// Splits rows into runs and fills the last up to a power of two by repeating a row, where a repeat does no harm:
/// fewer statements than [`runs`], which matters because each one is a trip to the connection's thread.
pub(super) fn padded_runs<T: Copy>(rows: &[T]) -> impl Iterator<Item = Vec<T>> {
    rows.chunks(ROWS_PER_STATEMENT_MAX).map(|chunk| {
        let mut run = chunk.to_vec();
        run.resize(chunk.len().next_power_of_two(), chunk[0]);
        run
    })
}

/// Rows in one statement: 9 columns × 256 stay well below SQLite's 32,766 parameters.
pub(super) const ROWS_PER_STATEMENT_MAX: usize = 256;

/// `one`, `times` over, with commas.
pub(super) fn list(one: &str, times: usize) -> String {
    let mut list = String::with_capacity((one.len() + 1) * times);
    for at in 0..times {
        if at > 0 {
            list.push(',');
        }
        list.push_str(one);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_row_once_in_sizes_of_powers_of_two() {
        for count in [0, 1, 2, 3, 7, 255, 256, 257, 1000] {
            let rows: Vec<usize> = (0..count).collect();
            let whole: Vec<usize> = runs(&rows).flatten().copied().collect();
            assert_eq!(whole, rows);
            assert!(runs(&rows).all(|run| run.len().is_power_of_two() && run.len() <= ROWS_PER_STATEMENT_MAX));
            let mut padded: Vec<usize> = padded_runs(&rows).flatten().collect();
            padded.sort_unstable();
            padded.dedup();
            assert_eq!(padded, rows);
            assert!(padded_runs(&rows).all(|run| run.len().is_power_of_two()));
        }
    }
}
