//! What the guard remembers over a restart: flags of projects by hour, and who is suspended.

use comity_guard::Category;
use comity_guard::volume::{Counted, Delta};
use comity_wire::Timestamp;

use super::Answer;
use super::stops::Word;

/// A project that the owner's filter suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The project's pseudonym.
    pub subject: String,
    pub category: Category,
    /// What it was suspended for.
    pub rule: String,
    pub at: Timestamp,
}

/// The guard's part of a store. Counts are added, so that gateways which share a store share them.
pub trait Guarded: Send + Sync {
    /// A project's counts from an hour on: what, hour, how many.
    fn volume<'a>(&'a self, subject: &'a str, from: u32) -> Answer<'a, Vec<(Counted, u32, u64)>>;
    /// Adds to what is there; all or nothing.
    fn volume_add<'a>(&'a self, deltas: &'a [Delta]) -> Answer<'a, ()>;
    /// Drops what is older than an hour.
    fn volume_forget(&self, before: u32) -> Answer<'_, ()>;
    /// All of them, at most [`SUSPENSIONS_MAX`].
    fn suspensions(&self) -> Answer<'_, Vec<Suspension>>;
    /// The first reason stays.
    fn suspension_put<'a>(&'a self, suspension: &'a Suspension) -> Answer<'a, ()>;
    /// Whether there was one. Where an operator ends it by hand, that is a line of the operator's log.
    fn suspension_end<'a>(&'a self, subject: &'a str, word: Option<&'a Word>) -> Answer<'a, bool>;
}

/// Suspensions that are read.
pub const SUSPENSIONS_MAX: usize = 100_000;
/// Rows of one project that are read: each thing that is counted, each hour of the history.
pub(super) const VOLUME_ROWS_MAX: i64 = 16_384;

/// A category of a number that a store has.
pub(super) fn category(number: i64) -> Category {
    let known = u8::try_from(number).ok().and_then(Category::from_number);
    // One that a later version wrote: suspended is suspended.
    known.unwrap_or(Category::ExtractionProbe)
}

/// A row of what this version counts; a later version's is passed over.
pub(super) fn known((counted, hour, count): (i64, i64, i64)) -> Option<(Counted, u32, u64)> {
    Some((Counted::from_number(u8::try_from(counted).ok()?)?, u32::try_from(hour).ok()?, u64::try_from(count).ok()?))
}
