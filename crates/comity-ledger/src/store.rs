//! What a store of the books can do inside an open transaction; every backend passes one contract suite.

use std::future::Future;

use comity_wire::Timestamp;

use crate::account::{Account, NewAccount};
use crate::audit::AuditReport;
use crate::decide::{Group, GroupOutcome, Outcome};
use crate::id::{AccountId, TransferId};
use crate::transfer::{Posted, Transfer};

/// The most transfers that one call posts.
pub const TRANSFERS_PER_CALL_MAX: usize = 8_190;
/// The most accounts that one call opens.
pub const ACCOUNTS_PER_CALL_MAX: usize = 8_190;
/// The most transfers that one page of a statement holds; a larger limit is lowered to it.
pub const PAGE_MAX: u32 = 1_000;

/// What became of opening an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Opened {
    Created,
    /// The same account was open already.
    Exists,
    /// Another account has this id: other unit, code or reference.
    Conflict,
}

/// Why the books could not be read or written. Nothing of the open transaction may be kept after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot reach the ledger's database")]
    Database(#[from] sqlx::Error),
    #[error("cannot bring the ledger's tables up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the address of the database is not postgres://USER@HOST/DATABASE")]
    Address,
    #[error("the ledger's table {table} holds what it cannot hold: {what}")]
    Unreadable { table: &'static str, what: &'static str },
    #[error("read back from the ledger: {what}; the transaction must not be kept")]
    ReadBack { what: String },
    #[error("{asked} rows in one call, the most is {max}")]
    TooMany { asked: usize, max: usize },
}

/// The books inside one open transaction. Nothing is durable before that transaction commits, and a caller who gets a
/// [`StoreError`] rolls it back.
///
/// No method is safe to drop half-way unless the transaction is rolled back after.
pub trait Store: Send {
    /// Opens accounts, each once, answers in order.
    fn accounts_open_in_tx(
        &mut self,
        accounts: &[NewAccount],
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Opened>, StoreError>> + Send;

    /// Posts groups in turn, each whole or not at all; answers in order. Refusals are answers, not errors.
    fn transfers_post_in_tx(
        &mut self,
        groups: &[Group],
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<GroupOutcome>, StoreError>> + Send;

    /// The accounts that exist among `ids`, in id order.
    fn accounts_in_tx(&mut self, ids: &[AccountId]) -> impl Future<Output = Result<Vec<Account>, StoreError>> + Send;

    /// The transfer under `id`.
    fn transfer_in_tx(&mut self, id: TransferId) -> impl Future<Output = Result<Option<Posted>, StoreError>> + Send;

    /// Transfers that debit or credit `id` after place `after`, oldest first, at most `limit` ≤ [`PAGE_MAX`].
    fn transfers_of_account_in_tx(
        &mut self,
        id: AccountId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Posted>, StoreError>> + Send;

    /// Re-adds the books, this transaction's work included.
    fn audit_in_tx(&mut self) -> impl Future<Output = Result<AuditReport, StoreError>> + Send;

    /// Opens one account.
    fn account_open_in_tx(
        &mut self,
        account: &NewAccount,
        now: Timestamp,
    ) -> impl Future<Output = Result<Opened, StoreError>> + Send {
        async move {
            let opened = self.accounts_open_in_tx(std::slice::from_ref(account), now).await?;
            Ok(opened.into_iter().next().expect("one answer per account"))
        }
    }

    /// Posts one transfer on its own.
    fn transfer_post_in_tx(
        &mut self,
        transfer: Transfer,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        async move {
            let outcomes = self.transfers_post_in_tx(&[Group::single(transfer)], now).await?;
            let first = outcomes.into_iter().next().and_then(|group| group.0.into_iter().next());
            Ok(first.expect("one answer per transfer"))
        }
    }

    /// The account `id`, if it is open.
    fn account_in_tx(&mut self, id: AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send {
        async move { Ok(self.accounts_in_tx(&[id]).await?.into_iter().next()) }
    }
}

/// The bounds of one call, the same in every store.
pub(crate) fn check_bounds(groups: &[Group]) -> Result<(), StoreError> {
    at_most(groups.iter().map(|group| group.0.len()).sum(), TRANSFERS_PER_CALL_MAX)
}

pub(crate) fn at_most(asked: usize, max: usize) -> Result<(), StoreError> {
    if asked <= max { Ok(()) } else { Err(StoreError::TooMany { asked, max }) }
}
