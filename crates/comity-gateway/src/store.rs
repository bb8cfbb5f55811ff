//! Where the book rests: one trait, and a contract that every backend passes.
//!
//! A store has one writer, which holds its lock and its fence (rule 11), and whose holds live in memory. [`Store::write`] is
//! one SQL transaction: all of a batch or nothing. A store that several gateways write at once keeps the holds too: it has
//! [`Rounds`], in which everything is decided under its locks.

pub mod agreed;
#[cfg(test)]
mod contract;
pub mod credited;
pub mod granted;
pub mod guarded;
pub mod kept;
mod memory;
pub mod passes;
pub mod planned;
pub mod postgres;
pub mod sqlite;
pub mod stops;

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::{Digest, GrantId, OrgId, Timestamp, TokenId};
use futures::future::BoxFuture;

use crate::spend::{Account, Book, Charged, Evidence, HoldId, LaneKey, Pace, Rule, Slot, Write};

pub use agreed::Agreements;
pub use credited::Credited;
pub use granted::Granted;
pub use guarded::{Guarded, Suspension};
pub use kept::{Kept, TextHome};
pub use memory::Memory;
pub use passes::Passes;
pub use planned::Planned;
pub use postgres::Postgres;
pub use sqlite::Sqlite;
pub use stops::Stops;

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
    #[error("cannot write to the spend store's file")]
    File(#[from] rusqlite::Error),
    #[error("cannot bring the spend store up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("cannot lock the spend store at {path}: another process has it, or the folder is not writable")]
    Locked { path: std::path::PathBuf, source: std::io::Error },
    #[error("another process took over the spend store; this one must not write to it")]
    Fenced,
    #[error("the spend store did not answer in time")]
    Timeout,
    #[error("cannot learn whether the spend store took a batch")]
    Doubt,
    #[error("the spend store holds what it cannot hold: {what}")]
    Unreadable { what: &'static str },
    #[error("the spend store refuses to write: {why}")]
    Refused { why: String },
    /// Nothing is wrong with the store.
    #[error(
        "more is used at once than memory has room for: {what} left it each of the {reads} times that it was read; raise [gateway] \
         tokens_max in node.toml"
    )]
    Overtaken { what: &'static str, reads: usize },
    #[error("the spend store did not take the last batch, and has not been seen to take another since")]
    Unwell,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The durable side of the spend core. Every method is safe to drop but [`Store::write`], whose outcome is then unknown.
pub trait Store: Agreements + Credited + Granted + Guarded + Kept + Passes + Planned + Stops {
    /// The token's account, if it was ever written.
    fn account(&self, token: TokenId) -> Answer<'_, Option<Account>>;
    /// All rows, or none. Compares the fence. A file is written on the thread that polls this, which waits for the disk: it is for a
    /// thread of its own.
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
    /// All tokens that anything was charged under, or that were ended here.
    fn tokens(&self) -> Answer<'_, Vec<TokenId>>;
    fn final_delivered(&self, token: TokenId) -> Answer<'_, ()>;
    /// The house may have forgotten it: it is delivered again.
    fn final_forgotten(&self, token: TokenId) -> Answer<'_, ()>;
    /// Of which time that a house came back from a backup this node has claimed again.
    fn house_restored(&self, house: OrgId) -> Answer<'_, Option<Timestamp>>;
    fn house_restored_put(&self, house: OrgId, at: Timestamp) -> Answer<'_, ()>;
    fn is_final_delivered(&self, token: TokenId) -> Answer<'_, bool>;
    /// What was charged in the windows of a project, also in those that have ended.
    fn paces<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(Rule, u32, Pace)>>;
    /// Drops windows that ended before `now`.
    fn paces_forget(&self, now: Timestamp) -> Answer<'_, ()>;
    /// Drops which slots were asked about before a moment.
    fn asked_forget(&self, before: Timestamp) -> Answer<'_, ()>;
    /// Keeps a signed grant; a repeat changes nothing.
    fn grant_put(&self, id: Digest, subject: String, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()>;
    /// All signed grants, oldest first, at most [`GRANTS_MAX`].
    fn grants(&self) -> Answer<'_, Vec<Vec<u8>>>;
    /// Takes a grant back for good, also one that comes later; a repeat changes nothing.
    fn grant_withdraw(&self, grant: GrantId, at: Timestamp) -> Answer<'_, ()>;
    /// Those that were taken back, and when, the last ones first, at most [`GRANTS_MAX`].
    fn grants_withdrawn(&self) -> Answer<'_, Vec<(GrantId, Timestamp)>>;
    /// Takes as much as a batch may need, durably, and lets go of it: whether there is room. A store with [`Rounds`] is not
    /// asked, since there nothing is admitted that was not written.
    fn try_out(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
    /// Where several gateways write it at once.
    fn rounds(&self) -> Option<&dyn Rounds> {
        None
    }
}

/// What a round has to have under its locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// With the token's content id, where a row may have to be made for it.
    pub tokens: BTreeMap<TokenId, Option<Digest>>,
    /// Those whose limits are judged, or given back to.
    pub subjects: BTreeSet<String>,
}

/// What a round decided.
#[derive(Debug, Default)]
pub struct Decided {
    pub writes: Vec<Write>,
    /// Holds that it opened and left open.
    pub held: Vec<HoldId>,
    /// Holds of before that it ended, by a charge or for nothing.
    pub ended: Vec<HoldId>,
}

/// What a beat found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Gateways that had not been heard of and whose holds were released.
    pub buried: usize,
    /// Counts what was said to all gateways: grants, published models, suspensions, stops.
    pub news: u64,
}

/// A store that several gateways of one node share: linearizable, since a round decides under locks on all that it reads.
///
/// Each start of a gateway has a fence. A gateway that is not heard of for [`postgres::LEASE_S`] loses it, and with it its
/// holds; a round under a fence that was lost is [`StoreError::Fenced`].
pub trait Rounds: Send + Sync {
    /// Locks, fills a book, lets `decide` decide, and makes it durable; all or nothing. `decide` may be asked again where the
    /// database says to: only what it said last counts, and only if this answers `Ok`. [`StoreError::Doubt`] means that
    /// nobody knows. Not safe to drop: the outcome is then unknown.
    fn round<'a>(
        &'a self,
        needs: &'a Needs,
        decide: &'a mut (dyn FnMut(&mut Book) -> Decided + Send),
    ) -> Answer<'a, ()>;
    /// Takes a new fence, after the old one was lost. Holds of before are somebody else's to bury.
    fn rejoin(&self) -> Answer<'_, ()>;
    /// Says that this gateway lives, and buries those that were not heard of.
    fn beat(&self) -> Answer<'_, Beat>;
    /// The orderly end: its holds and its fence are gone at once.
    fn leave(&self) -> Answer<'_, ()>;
    /// Counts what was said to all gateways, as a [`Beat`] does: asked often, it is one row.
    fn news(&self) -> Answer<'_, u64>;
    /// Whether this very request is being answered, at any gateway.
    fn is_open(&self, token: TokenId, key: LaneKey, slot: Slot) -> Answer<'_, bool>;
    /// Takes the one right to send claims of a token; `false` where another gateway has it. It ends with
    /// [`Rounds::claim_end`] or with the gateway's fence.
    fn claim_begin(&self, token: TokenId) -> Answer<'_, bool>;
    fn claim_end(&self, token: TokenId) -> Answer<'_, ()>;
    /// Tells all gateways that there is something to read again.
    fn tell(&self) -> Answer<'_, ()>;
}

/// Grants that a node keeps.
pub const GRANTS_MAX: usize = 100_000;

/// A row of what was taken back.
fn withdrawn((id, at): (Vec<u8>, i64)) -> Result<(GrantId, Timestamp), StoreError> {
    let unreadable = || StoreError::Unreadable { what: "a grant that was taken back" };
    let id = id.try_into().map_err(|_| unreadable())?;
    Ok((GrantId(id), Timestamp(u64::try_from(at).map_err(|_| unreadable())?)))
}
