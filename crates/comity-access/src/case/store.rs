//! What is kept of cases, beside the applications and in the same database (`crate::store`): one contract on SQLite and PostgreSQL.
//!
//! What a case is stands in its events; a row beside them serves lists and clocks. An act is one transaction: its event, the row,
//! what it leaves to be done at the gateways, and what is said of it. It is taken only if the log is as long as whoever decided it saw it.

use comity_wire::{ModelId, Timestamp};
use futures::future::BoxFuture;

use super::act::State;
use super::event::{Due, Party};
use super::id::CaseId;
use super::machine::Case;
use crate::notice::Delivery;
use crate::store::{Appended, NEVER, StoreError};

/// Bytes of a sealed excerpt.
pub const EXCERPT_BYTES_MAX: usize = 16 << 10;
/// Lines of one page.
pub const PAGE_MAX: u32 = 1_000;

/// What was seen, sealed by whoever has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    pub sealed: Vec<u8>,
    /// Deleted after this.
    pub until: Timestamp,
}

/// One act, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// As it stands after it.
    pub case: &'a Case,
    /// What was seen; kept with the first event, deleted with the one that forgets it.
    pub excerpt: Option<&'a Excerpt>,
    /// Whether more of the same is to be added to it; asked where it is the first event.
    pub gathers: bool,
    /// Whether something is to be done at the gateways.
    pub has_effect: bool,
    /// What is said of it, to each receiver.
    pub deliveries: &'a [Delivery],
    /// How many may be undecided, of this project and in all; asked where it is the first event.
    pub open_max: OpenMax,
}

/// How many cases may be open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMax {
    /// Of one project.
    pub subject: u32,
    /// Of all.
    pub all: u32,
}

/// What a list is asked for. Each that is said narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Of one project.
    pub subject: Option<String>,
    /// Those of which a move is due.
    pub open: bool,
    /// Where the page before ended.
    pub after: Option<(Timestamp, CaseId)>,
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: CaseId,
    pub subject: String,
    pub category: String,
    pub model: ModelId,
    pub state: State,
    pub due: Option<Due>,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
}

impl Row {
    /// For [`Which::after`].
    pub fn cursor(&self) -> (Timestamp, CaseId) {
        (self.opened_at, self.id)
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A database of cases.
pub trait Cases: Send + Sync {
    /// The log, oldest first, read and checked.
    fn case(&self, id: CaseId) -> Answer<'_, Option<Case>>;
    /// Writes the newest event of a case, whole or not at all.
    fn case_append<'a>(&'a self, append: Append<'a>) -> Answer<'a, Appended>;
    /// Writes a case that was kept elsewhere, with its whole log; whether it was not here yet.
    fn case_take<'a>(&'a self, case: &'a Case, excerpt: Option<&'a Excerpt>) -> Answer<'a, bool>;
    /// A page, the newest first; at most `limit` and [`PAGE_MAX`].
    fn case_list<'a>(&'a self, which: &'a Which, limit: u32) -> Answer<'a, Vec<Row>>;
    /// The undecided case to which more of the same is added.
    fn case_undecided<'a>(&'a self, subject: &'a str, category: &'a str, model: &'a str) -> Answer<'a, Option<CaseId>>;
    /// Those whose clock runs out by a time, the first first, behind one that was seen.
    fn case_due(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, CaseId)>,
        limit: u32,
    ) -> Answer<'_, Vec<(Timestamp, CaseId)>>;
    /// What was seen, as it was sealed.
    fn excerpt(&self, id: CaseId) -> Answer<'_, Option<Excerpt>>;
    /// Those whose excerpt has to go, the first first.
    fn excerpts_due(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, CaseId)>,
        limit: u32,
    ) -> Answer<'_, Vec<(Timestamp, CaseId)>>;
    /// Events of which something is still to be done at the gateways, oldest first within a case.
    fn case_effects(&self, after: Option<(CaseId, u64)>, limit: u32) -> Answer<'_, Vec<(CaseId, u64)>>;
    /// It was done.
    fn case_effect_done(&self, id: CaseId, n: u64) -> Answer<'_, ()>;
}

/// The clock of a row, where one runs.
pub(crate) fn due_of(state: State, at: Timestamp) -> Option<Due> {
    (at < NEVER).then(|| Due { party: Party::in_state(state), at })
}
