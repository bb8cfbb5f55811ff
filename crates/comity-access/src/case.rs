//! Cases at an owner's node: what a filter or an operator held against a project, its answer, the decision, the appeal.
//!
//! A [`Case`] is what its events say and nothing else, as an application is: an event is made from an [`Act`] by one of the
//! [`Role`]s, if the [`MATRIX`] has it and the conditions are met, and is linked to the one before.
//!
//! Promises: nothing is upheld before the project had its time to answer; an appeal is decided by somebody who took no part;
//! an owner who does not decide in time has decided for the project ([`State::Lapsed`]); every refusal says whose move is
//! next; what is owed after a case that did not stand is written down with whose move it is; everything that grows has a
//! bound. Leaves to others: what a flag is, sealing what was seen, lifting and stopping ([`Effect`]), clocks, notices.

mod act;
mod event;
mod id;
mod machine;
mod matrix;
mod refused;
mod statistics;
pub mod store;

pub use crate::event::Linked;
pub use act::{Act, Actor, Effect, Kind, Measure, Role, Seen, State};
pub use event::{Due, Event, Party};
pub use id::{CaseId, NotACaseId};
pub use machine::{Case, Notice, Owed};
pub use matrix::{MATRIX, Row, allows, markdown, row};
pub use refused::Refused;
pub use statistics::{Counts, Statistics};

use serde::{Deserialize, Serialize};

/// How long whom is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The project answers within this.
    pub answer_s: u64,
    /// The owner decides within this.
    pub decide_s: u64,
    /// The project appeals within this.
    pub appeal_s: u64,
    /// The appeal is decided within this.
    pub appeal_decide_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        use comity_wire::time::DAY_S;
        Self { answer_s: 14 * DAY_S, decide_s: 14 * DAY_S, appeal_s: 30 * DAY_S, appeal_decide_s: 30 * DAY_S }
    }
}

/// Bounds of a case. An act above one is refused with [`Refused::TooMuch`].
pub mod limit {
    /// Times that something was seen. More of the same changes nothing any more, and keeps nobody from answering.
    pub const SEEN_MAX: usize = 32;
    /// Answers of the project.
    pub const ANSWERS_MAX: usize = 16;
    /// Remarks of the owner's side.
    pub const REMARKS_MAX: usize = 32;
    /// Bytes of a reason, a remark or an answer.
    pub const TEXT_BYTES_MAX: usize = 4_000;
    /// Bytes of a name: a person, a project, a category, a rule.
    pub const NAME_BYTES_MAX: usize = 256;
    /// Receipts for which something is owed.
    pub const OWED_MAX: usize = 32;
}
