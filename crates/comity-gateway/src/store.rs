//! Where the book rests: one trait, and a contract that every backend passes.
//!
//! A store has one writer, which holds its lock and its fence (rule 11). [`Store::write`] is one SQL transaction: all
//! of a batch or nothing.

#[cfg(test)]
mod contract;
mod memory;
pub mod sqlite;

use comity_wire::{Digest, Timestamp, TokenId};
use futures::future::BoxFuture;

use crate::spend::{Account, Charged, Evidence, LaneKey, Slot, Write};

pub use memory::Memory;
pub use sqlite::Sqlite;

/// A charge as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCharge {
    pub slot: Slot,
    pub charged: Charged,
    /// The signed receipt.
    pub receipt: Vec<u8>,
    pub evidence: Evidence,
}

/// Why the store gave no answer. Nothing may be said to a caller that rests on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot reach the spend store")]
    Database(#[from] sqlx::Error),
    #[error("cannot bring the spend store up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("cannot lock the spend store at {path}: another process has it, or the folder is not writable")]
    Locked { path: std::path::PathBuf, source: std::io::Error },
    #[error("another process took over the spend store; this one must not write to it")]
    Fenced,
    #[error("the spend store holds what it cannot hold: {what}")]
    Unreadable { what: &'static str },
    #[error("the spend store refuses to write: {why}")]
    Refused { why: String },
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The durable side of the spend core. Every method is safe to drop but [`Store::write`], whose outcome is then unknown.
pub trait Store: Send + Sync {
    /// The token's account, if it was ever written.
    fn account(&self, token: TokenId) -> Answer<'_, Option<Account>>;
    /// All rows, or none. Compares the fence.
    fn write<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, ()>;
    fn charge(&self, token: TokenId, key: LaneKey, slot: Slot) -> Answer<'_, Option<StoredCharge>>;
    fn charge_by_n(&self, token: TokenId, key: LaneKey, n: u64) -> Answer<'_, Option<StoredCharge>>;
    /// Content ids of receipts 1 … `count` of a lane, in order.
    fn history(&self, token: TokenId, key: LaneKey, count: u64) -> Answer<'_, Vec<Digest>>;
    /// The chain that ends in `leaf`.
    fn chain(&self, leaf: Digest) -> Answer<'_, Option<Vec<u8>>>;
    /// All chains under a token that were charged.
    fn chains(&self, token: TokenId) -> Answer<'_, Vec<(Digest, Vec<u8>)>>;
    fn acknowledgement(&self, token: TokenId, id: Digest) -> Answer<'_, Option<Vec<u8>>>;
    /// Tokens with something to claim, or a final that was asked for and is not delivered.
    fn tokens_due(&self) -> Answer<'_, Vec<TokenId>>;
    fn final_delivered(&self, token: TokenId) -> Answer<'_, ()>;
    fn is_final_delivered(&self, token: TokenId) -> Answer<'_, bool>;
    /// Keeps a signed grant; a repeat changes nothing.
    fn grant_put(&self, id: Digest, subject: String, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()>;
    /// All signed grants, oldest first, at most [`GRANTS_MAX`].
    fn grants(&self) -> Answer<'_, Vec<Vec<u8>>>;
}

/// Grants that a node keeps.
pub const GRANTS_MAX: usize = 100_000;
