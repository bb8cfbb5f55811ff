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
pub mod desk;
mod event;
pub mod http;
mod id;
mod machine;
mod matrix;
pub mod notices;
mod quarter;
mod refused;
mod statistics;
pub mod store;
mod view;

pub use crate::event::Linked;
pub use act::{Act, Actor, Effect, Kind, Measure, Order, Role, Seen, State};
pub use event::{Due, Event, Party};
pub use id::{CaseId, NotACaseId};
pub use machine::{Answer, Case, Notice, Owed, Refund};
pub use matrix::{MATRIX, Row, allows, markdown, row};
pub use quarter::{NotAQuarter, Quarter, Tally};
pub use refused::Refused;
pub use statistics::{Counts, Statistics};

use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};

use store::OpenMax;

/// What an owner says about its cases: `[access.case]` in `node.toml`. How long whom is waited for, and how many there may be.
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
    /// Cases of one project that have not ended.
    pub open_of_a_project_max: u32,
    /// Of all projects, opened by filters.
    pub open_max: u32,
    /// Whether counts of a quarter are published by themselves once it is over.
    pub publish: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer_s: 14 * DAY_S,
            decide_s: 14 * DAY_S,
            appeal_s: 30 * DAY_S,
            appeal_decide_s: 30 * DAY_S,
            open_of_a_project_max: 64,
            open_max: 50_000,
            publish: false,
        }
    }
}

/// The least that a project has, seconds: nobody is judged between an evening and a morning.
const PROJECTS_S: std::ops::RangeInclusive<u64> = 3 * DAY_S..=366 * DAY_S;
/// The least and the most that an owner gives itself.
const OWNERS_S: std::ops::RangeInclusive<u64> = 3_600..=366 * DAY_S;

impl Settings {
    /// What is wrong with it.
    pub fn fault(&self) -> Option<String> {
        let spans = [
            ("answer_s", self.answer_s, PROJECTS_S, "3 days"),
            ("appeal_s", self.appeal_s, PROJECTS_S, "3 days"),
            ("decide_s", self.decide_s, OWNERS_S, "1 hour"),
            ("appeal_decide_s", self.appeal_decide_s, OWNERS_S, "1 hour"),
        ];
        for (name, seconds, span, least) in spans {
            if !span.contains(&seconds) {
                return Some(format!("[access.case] {name} = {seconds} is not between {least} and 366 days"));
            }
        }
        match (self.open_of_a_project_max, self.open_max) {
            (0, _) | (_, 0) => {
                Some("[access.case] opens no case at all: a project that is stopped could not be heard".into())
            }
            _ => None,
        }
    }

    pub(crate) const fn open(&self) -> OpenMax {
        OpenMax { subject: self.open_of_a_project_max, all: self.open_max }
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
    /// Credit notes that are ordered.
    pub const REFUNDS_MAX: usize = 32;
}
