//! Events of a case, linked as those of applications are, and the clock that both sides see.

use std::fmt;

use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::act::{Act, Role, State};
use super::id::CaseId;
use crate::event::Linked;

/// One line of a case's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub case: CaseId,
    /// From 1, without gaps.
    pub n: u64,
    /// Never before the event before.
    pub at: Timestamp,
    pub author: String,
    pub role: Role,
    pub act: Act,
    /// Where it stands after it.
    pub state: State,
    /// Whose move is next, until when.
    pub due: Option<Due>,
    /// Link of the event before; of the first, zeros.
    pub before: Digest,
}

impl Linked for Event {
    const CONTEXT: &'static [u8] = b"comity/v1/case-event\0";
}

/// A side of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    Project,
    Owner,
    AppealReviewer,
    Nobody,
}

/// Until when whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    pub party: Party,
    pub at: Timestamp,
}

impl Party {
    pub(super) const fn in_state(state: State) -> Self {
        match state {
            State::Open | State::Upheld => Self::Project,
            State::ToDecide => Self::Owner,
            State::Appealed => Self::AppealReviewer,
            State::Cleared | State::Overturned | State::Confirmed | State::Lapsed | State::Closed => Self::Nobody,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Project => "the project's move",
            Self::Owner => "the owner's move",
            Self::AppealReviewer => "the move of an appeal reviewer",
            Self::Nobody => "nobody's move",
        })
    }
}
