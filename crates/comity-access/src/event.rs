//! Events: what was done, by whom, when, and the digest of the event before.
//!
//! An event is kept as the bytes that were hashed. Rewriting one breaks every link after it; cutting the end off, or
//! writing the whole log anew, is seen by whoever kept a later link, and both sides get the newest one with every answer.

use comity_wire::{Digest, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::act::{Act, Role, State};
use crate::clock::Due;
use crate::id::{ApplicationId, Salt};

/// What a chain is made of: events of applications, and of cases.
pub trait Linked: Serialize + DeserializeOwned {
    /// Stands before the bytes that a link is made of, so that no event of one kind passes for one of another.
    const CONTEXT: &'static [u8];
}

/// One line of an application's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Whose log.
    pub application: ApplicationId,
    /// From 1, without gaps.
    pub n: u64,
    /// When; never before the event before.
    pub at: Timestamp,
    /// Who.
    pub author: String,
    /// As what.
    pub role: Role,
    /// What was done.
    pub act: Act,
    /// Where it stands after it.
    pub state: State,
    /// Whose move is next, until when.
    pub due: Option<Due>,
    /// Link of the event before; of the first, zeros.
    pub before: Digest,
    /// Not in the first, whose text both sides read, nor in those of before salts were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
}

impl Linked for Event {
    const CONTEXT: &'static [u8] = b"comity/v1/access-event\0";
}

/// An event and the bytes that its link was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<E = Event> {
    event: E,
    bytes: Vec<u8>,
    link: Digest,
}

/// Why a log is not one that this machine wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// There is nothing, or something else than an opening first.
    #[error("the log does not begin with an opening")]
    NoBeginning,
    /// The bytes are no event, or not written as one is.
    #[error("event {n} is not written as events are")]
    Form {
        /// Which.
        n: u64,
    },
    /// It belongs to another log.
    #[error("event {n} is of another log")]
    Application {
        /// Which.
        n: u64,
    },
    /// Something was changed, left out or put in before it.
    #[error("event {n} does not follow from the event before it")]
    Link {
        /// Which.
        n: u64,
    },
    /// Time ran backwards.
    #[error("event {n} is older than the event before it")]
    Time {
        /// Which.
        n: u64,
    },
    /// No such step exists.
    #[error("event {n} is a step that the rules do not have")]
    Step {
        /// Which.
        n: u64,
    },
}

impl<E: Linked> Recorded<E> {
    pub(crate) fn new(event: E) -> Self {
        let bytes = serde_json::to_vec(&event).expect("an event is plain data");
        let link = Digest::of_parts(&[E::CONTEXT, &bytes]);
        Self { event, bytes, link }
    }

    /// Reads one; `None` for anything that would not be written in these very bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let read = Self::new(serde_json::from_slice(bytes).ok()?);
        (read.bytes == bytes).then_some(read)
    }

    /// What it says.
    pub const fn event(&self) -> &E {
        &self.event
    }

    /// As it is stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the next event carries.
    pub const fn link(&self) -> Digest {
        self.link
    }
}
