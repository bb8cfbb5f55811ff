//! Double entry: pure rules and their stores.
//!
//! Promises: every transfer debits one account and credits another by the same amount; no limited account passes its
//! limit, not even between two transfers of one batch; a repeated transfer is `exists` and another one under its id is
//! `conflict`; what was posted is never changed; and [`audit`] can re-add all of it from the transfers alone.
//!
//! The rules are [`decide`], a pure function. A store locks rows in id order, decides, and writes what was decided in
//! sets ([`Store`]; [`Memory`] is the model, [`LedgerTx`] the books, in SQLite or PostgreSQL). Who may post, and what a
//! transfer is for, is left to the clearing house; its tables share the ledger's database and its SQL transaction.
#![forbid(unsafe_code)]

pub mod account;
pub mod audit;
pub mod books;
#[cfg(test)]
mod contract;
pub mod db;
pub mod decide;
pub mod group_commit;
pub mod id;
pub mod memory;
pub mod store;
#[cfg(test)]
mod story;
pub mod transfer;

pub use account::{Account, AccountCode, Limit, NewAccount, Unit};
pub use audit::{AuditReport, Auditor, Break};
pub use books::{LedgerTx, Reader, Reading};
pub use db::{Database, Db};
pub use decide::{Decision, Group, GroupOutcome, Outcome, Refusal, View, decide};
pub use group_commit::{CommitError, Committer, Merged, Writer};
pub use id::{AccountId, Reference, TransferId};
pub use memory::Memory;
pub use store::{Opened, Store, StoreError};
pub use transfer::{Posted, Transfer, TransferKind};
