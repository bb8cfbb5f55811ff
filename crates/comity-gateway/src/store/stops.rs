//! What the owner's operator has stopped, and the log of who stopped and resumed what, when and why.

use std::fmt;

use comity_wire::{ModelId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Answer, StoreError};

/// What can be stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Target {
    /// All that this node answers.
    Node,
    Model(ModelId),
    /// A project, by its pseudonym with this organisation.
    Project(String),
}

/// Who says something of a target, why and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub author: String,
    /// Callers read it where something is stopped.
    pub reason: String,
    pub at: Timestamp,
}

/// A target that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub target: Target,
    /// Whether what was running was ended too, or may come to its end.
    pub running: Running,
    /// Of whoever stopped it first.
    #[serde(flatten)]
    pub word: Word,
}

/// What becomes of calls that are being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    Finishes,
    Ends,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// From 1, without gaps.
    pub n: u64,
    pub act: SaidAct,
    pub target: Target,
    #[serde(flatten)]
    pub word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaidAct {
    Stopped,
    /// With what was running.
    StoppedNow,
    Resumed,
    /// The filter had suspended the project, and it was let in again by hand.
    Lifted,
}

/// The operator's part of a store.
pub trait Stops: Send + Sync {
    /// All that is stopped, at most [`STOPS_MAX`].
    fn stops(&self) -> Answer<'_, Vec<Stop>>;
    /// Stops a target and logs it. The first word on it stays; that running calls end is added to it. What stands now.
    fn stop_put<'a>(&'a self, stop: &'a Stop) -> Answer<'a, Stop>;
    /// Resumes a target and logs it, if it was stopped: what stood.
    fn stop_end<'a>(&'a self, target: &'a Target, word: &'a Word) -> Answer<'a, Option<Stop>>;
    /// The newest lines of the log, newest first.
    fn stop_log(&self, most: u32) -> Answer<'_, Vec<Said>>;
    /// Lines of the log above `n`, in order.
    fn stop_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<Said>>;
}

/// Targets that can be stopped at once. Above it, the node is what is to be stopped.
pub const STOPS_MAX: usize = 10_000;
/// Bytes of an author, of a project's pseudonym.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a reason.
pub const REASON_BYTES_MAX: usize = 1_000;

impl Target {
    /// Whether a call of a project for a model is of it.
    pub fn covers(&self, model: &ModelId, project: &str) -> bool {
        match self {
            Self::Node => true,
            Self::Model(stopped) => stopped == model,
            Self::Project(stopped) => stopped == project,
        }
    }

    /// As a refusal and a table name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Model(_) => "model",
            Self::Project(_) => "project",
        }
    }

    /// The number and the name of its row.
    pub(super) fn row(&self) -> (i64, String) {
        match self {
            Self::Node => (1, String::new()),
            Self::Model(model) => (2, model.to_string()),
            Self::Project(project) => (3, project.clone()),
        }
    }

    pub(super) fn of_row(kind: i64, name: &str) -> Result<Self, StoreError> {
        match kind {
            1 => Ok(Self::Node),
            2 => name.parse().map(Self::Model).map_err(|_| StoreError::Unreadable { what: "stop" }),
            3 => Ok(Self::Project(name.to_owned())),
            _ => Err(StoreError::Unreadable { what: "stop" }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("the node"),
            Self::Model(model) => write!(f, "model {model}"),
            Self::Project(project) => write!(f, "project {project}"),
        }
    }
}

impl Word {
    /// What is wrong with it, where something is.
    pub fn fault(&self) -> Option<&'static str> {
        let is_line = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
        if !is_line(&self.author) || self.author.len() > NAME_BYTES_MAX {
            return Some("an author is one line of at most 256 bytes");
        }
        if !is_line(&self.reason) || self.reason.len() > REASON_BYTES_MAX {
            return Some("a reason is one line of at most 1,000 bytes; callers read it");
        }
        None
    }
}

impl Running {
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Finishes => 0,
            Self::Ends => 1,
        }
    }

    pub(super) const fn of_number(number: i64) -> Self {
        if number == 0 { Self::Finishes } else { Self::Ends }
    }

    pub(super) const fn said(self) -> SaidAct {
        match self {
            Self::Finishes => SaidAct::Stopped,
            Self::Ends => SaidAct::StoppedNow,
        }
    }
}

impl SaidAct {
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Stopped => 1,
            Self::StoppedNow => 2,
            Self::Resumed => 3,
            Self::Lifted => 4,
        }
    }

    pub(super) const fn of_number(number: i64) -> Result<Self, StoreError> {
        match number {
            1 => Ok(Self::Stopped),
            2 => Ok(Self::StoppedNow),
            3 => Ok(Self::Resumed),
            4 => Ok(Self::Lifted),
            _ => Err(StoreError::Unreadable { what: "stop_log" }),
        }
    }
}

pub(super) fn too_many() -> StoreError {
    StoreError::Refused { why: format!("{STOPS_MAX} models and projects are stopped already; stop the node instead") }
}
