//! Where applications and cases rest: one trait, two databases, one contract that both pass.
//!
//! What an application is stands in its events; a row beside them serves lists and clocks. An act is one transaction: its event, the row,
//! and what it does to the node's grants. It is taken only if the log is as long as whoever decided it saw it.

mod before;
mod cases;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_cases;
#[cfg(test)]
mod contract_register;
#[cfg(test)]
mod contract_seals;
mod outbox;
mod register;
mod seals;
mod sql;

use comity_wire::{Digest, GrantId, ModelId, Timestamp};
use futures::future::BoxFuture;

use crate::act::{Act, State};
use crate::application::Application;
use crate::case::store::Cases;
use crate::clock::{Due, Party};
use crate::form::Form;
use crate::id::ApplicationId;
use crate::notice::{Delivery, Outbox};
use crate::register::Register;
use crate::seal::Seals;

pub use before::{Taken, take_cases};
pub use sql::{Postgres, Sqlite};

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database.
    #[error("cannot reach the store of applications and cases")]
    Database(#[from] sqlx::Error),
    /// Its tables.
    #[error("cannot bring the tables of applications and cases up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row that no version has written, or a log that does not hold.
    #[error("the access store holds what it cannot hold: {what}")]
    Unreadable {
        /// Which.
        what: String,
    },
    /// It took longer than anybody waits.
    #[error("the store of applications and cases did not answer in time")]
    Timeout,
}

/// What an owner's decision does to the node's grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectKind {
    /// A grant is signed and put.
    Grant,
    /// It is taken back.
    Withdraw,
}

/// One of these, of event `n` of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whose.
    pub application: ApplicationId,
    /// Of which event.
    pub n: u64,
    /// What.
    pub kind: EffectKind,
    /// Which grant.
    pub grant: GrantId,
}

/// One act, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// As it stands after it.
    pub application: &'a Application,
    /// The form that it was begun with; kept with the first event.
    pub form: &'a Form,
    /// The form's text.
    pub form_text: &'a str,
    /// The grant that the act gives or takes.
    pub effect: Option<Effect>,
    /// What is said of it, to each receiver.
    pub deliveries: &'a [Delivery],
    /// How many may be open, of this subject and in all; asked where it is the first event.
    pub open_max: OpenMax,
}

/// How many applications may be open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMax {
    /// Of one project.
    pub subject: u32,
    /// Of one project, begun within a day, whatever became of them.
    pub subject_a_day: u32,
    /// Of all.
    pub all: u32,
}

/// Bytes of attachments that are kept at once, also of applications that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptMax {
    /// Of one project.
    pub subject: u64,
    /// Of all.
    pub all: u64,
}

/// What became of an attachment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// They are there.
    Done,
    /// A bound of [`KeptMax`]; nothing was written.
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        most: u32,
    },
}

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is there for good.
    Done,
    /// Somebody else was quicker; nothing was written.
    Moved,
    /// A bound of [`OpenMax`]; nothing was written.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
}

/// Which applications are listed. Each that is said narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of a project.
    pub subject: Option<String>,
    /// In a state.
    pub state: Option<State>,
    /// Those that wait for somebody.
    pub party: Option<Party>,
    /// That ask for a model.
    pub model: Option<ModelId>,
    /// Only those that are not over.
    pub open: bool,
    /// Where the page before ended.
    pub after: Option<(Timestamp, ApplicationId)>,
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub id: ApplicationId,
    /// Whose.
    pub subject: String,
    /// Where it stands.
    pub state: State,
    /// Whose move it is.
    pub due: Option<Due>,
    /// What it asks for.
    pub models: Vec<ModelId>,
    /// When it was begun.
    pub opened_at: Timestamp,
    /// When anything last happened.
    pub changed_at: Timestamp,
}

impl Row {
    /// For [`Filter::after`].
    pub fn cursor(&self) -> (Timestamp, ApplicationId) {
        (self.due.map_or(NEVER, |due| due.at), self.id)
    }
}

/// How an owner's applications stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By whose move it is; nobody whose none is.
    pub waits: Vec<Waits>,
    /// Effects of decisions that are not done yet.
    pub undone: u64,
}

/// Open applications that wait for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For whom.
    pub party: Party,
    /// How many.
    pub open: u64,
    /// Of them, those whose time is over.
    pub overdue: u64,
}

/// When no clock runs.
pub const NEVER: Timestamp = Timestamp(i64::MAX as u64);
/// Lines of one page.
pub const PAGE_MAX: u32 = 1_000;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A database of applications and cases, and of what was sealed of them.
pub trait Store: Outbox + Cases + Register + Seals {
    /// The log, oldest first, read and checked.
    fn load(&self, id: ApplicationId) -> Answer<'_, Option<Application>>;
    /// Writes the newest event of an application, whole or not at all.
    fn append<'a>(&'a self, append: Append<'a>) -> Answer<'a, Appended>;
    /// A page, those whose time ends first before the others; at most `limit` and [`PAGE_MAX`].
    fn list<'a>(&'a self, filter: &'a Filter, limit: u32) -> Answer<'a, Vec<Row>>;
    /// A page of those whose clock has run out, the longest ago first, behind a place.
    fn run_out(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, ApplicationId)>,
        limit: u32,
    ) -> Answer<'_, Vec<(Timestamp, ApplicationId)>>;
    /// A form's text.
    fn form(&self, digest: Digest) -> Answer<'_, Option<String>>;
    /// Keeps an attachment's bytes; a repeat changes nothing.
    fn attach<'a>(
        &'a self,
        of: &'a Application,
        digest: Digest,
        bytes: &'a [u8],
        most: KeptMax,
    ) -> Answer<'a, Attached>;
    /// Removes the bytes of all attachments of applications that nothing happened to since, and that are over; how many.
    fn forget_attachments(&self, ended_before: Timestamp) -> Answer<'_, u64>;
    /// The bytes, where they were sent.
    fn attachment(&self, id: ApplicationId, digest: Digest) -> Answer<'_, Option<Vec<u8>>>;
    /// A page of what is still to be done of a kind to the node's grants, behind a place, oldest first within an application.
    fn effects(&self, kind: EffectKind, after: Option<(ApplicationId, u64)>, limit: u32) -> Answer<'_, Vec<Effect>>;
    /// It was done.
    fn effect_done(&self, effect: Effect) -> Answer<'_, ()>;
    /// The grant that an application last gave.
    fn grant_of(&self, id: ApplicationId) -> Answer<'_, Option<GrantId>>;
    /// The application that a grant came of.
    fn application_of(&self, grant: GrantId) -> Answer<'_, Option<ApplicationId>>;
    /// How many wait for whom, and what is left to be done.
    fn standing(&self, now: Timestamp) -> Answer<'_, Standing>;
    /// Writes notices that no event brings: a clock that will run out. Those that are there stay as they are.
    fn tell<'a>(&'a self, deliveries: &'a [Delivery], at: Timestamp) -> Answer<'a, ()>;
    /// Forgets notices that were over before a time.
    fn forget_notices(&self, before: Timestamp) -> Answer<'_, ()>;
    /// Whether a project has an application that was revoked and not reinstated, whatever became of it since.
    fn was_revoked<'a>(&'a self, subject: &'a str) -> Answer<'a, bool>;
}

/// Whether the log left the grants as they were; else what changed, by the newest event.
pub(crate) fn effect_of(before: State, application: &Application) -> Option<EffectKind> {
    let act = &application.events().last()?.event().act;
    match (before, application.state()) {
        (_, State::Approved) if matches!(act, Act::Approve { .. } | Act::Reinstate { .. }) => Some(EffectKind::Grant),
        (State::Approved, State::Approved) => None,
        (State::Approved, _) => Some(EffectKind::Withdraw),
        _ => None,
    }
}
