//! Notices: who is told what when something happens to an application or in a case, and how it gets to them.
//!
//! Those of cases are made in [`crate::case`]. [`notices`] makes them of an event, by the [`TABLE`], [`signature_wanted`] where an institution has to sign, [`soon`] before a
//! clock runs out. [`Targets`] says where they go; a
//! store keeps one row for each [`Delivery`] in the transaction of the event ([`Outbox`]), and the [`Dispatcher`] takes the rows
//! from there to webhooks and mail servers (spec/12-notices.md; decisions 0062 and 0063).
//!
//! Promises: a notice has no answer of a form, nothing that the applicant wrote or sealed, no review and no remark: what an owner
//! said *to* the applicant is its only quotation. One event gives the same notices, with the same ids, however often it is
//! asked for. A delivery comes at least once and repeats its notice's id; what nobody took for three days is given up and
//! told of ([`Standing`]).
//! Leaves to others: storing rows, whose address is whose, the process's TLS provider, where secrets lie.

#[cfg(test)]
pub(crate) mod contract;
mod dispatch;
mod id;
mod mail;
mod outbox;
mod schedule;
mod table;
mod target;
mod webhook;
mod words;

use std::fmt;
use std::str::FromStr;

use comity_wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::act::{Kind, Role, State};
use crate::case::{self, CaseId};
use crate::clock::Due;
use crate::id::ApplicationId;

pub use dispatch::{Dispatcher, Pace, Sender, Standing, Turn};
pub use id::{DeliveryId, NotANoticeId, NoticeId};
pub use mail::Mail;
pub use outbox::{Delivery, Outbox, Queued, Unkept};
pub use schedule::{Outcome, Step, step};
pub(crate) use table::SOON_S;
pub use table::{Row, TABLE, Who, markdown, notices, signature_wanted, soon};
pub use target::{BadTarget, Files, Hidden, MailTarget, MailTls, Senders, Target, Targets, WebhookTarget};
pub use webhook::{Webhook, signature};
pub use words::commands;
pub(crate) use words::{date, one_line, plain};

/// Bounds of notices. What is longer is cut, what is more is refused at the start of the node.
pub mod limit {
    /// Characters of a title.
    pub const TITLE_CHARS_MAX: usize = 120;
    /// Characters of a reason that is quoted.
    pub const REASON_CHARS_MAX: usize = 4_000;
    /// Bytes of a notice as JSON: a reason may be escaped to six times its length, and so may names.
    pub const NOTICE_BYTES_MAX: usize = 64 << 10;
    /// Targets of a node.
    pub const TARGETS_MAX: usize = 16;
    /// Addresses of a target, each counted where it is written.
    pub const ADDRESSES_MAX: usize = 64;
    /// Rows that a target's turn takes.
    pub const BATCH_MAX: usize = 16;
    /// Of them at once.
    pub const AT_ONCE_MAX: usize = 4;
    /// Seconds of one attempt.
    pub const ATTEMPT_S_MAX: u64 = 20;
    /// Seconds for which a taken row comes to nobody else; afterwards it comes again, with the same id.
    pub const TAKEN_S: u64 = 180;
    /// Seconds after which nobody is tried any more.
    pub const GIVE_UP_S: u64 = 3 * 86_400;
    /// Characters of what is kept of a failure.
    pub const WHY_CHARS_MAX: usize = 300;

    // What was taken is tried to its end before it comes again.
    const _: () = assert!(BATCH_MAX.div_ceil(AT_ONCE_MAX) as u64 * ATTEMPT_S_MAX < TAKEN_S);
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Topic {
    /// Something was done, by a person or the clock.
    Done(Kind),
    /// A clock is about to run out.
    DueSoon,
    /// Something was done in a case.
    Case(case::Kind),
    /// A case's clock is about to run out.
    CaseDueSoon,
}

/// A text that is no topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a kind of notice is a command of docs/reference/access-matrix.md, or due-soon, or of docs/operating/notices.md: case-…"
)]
pub struct NotATopic;

impl Topic {
    /// Its one text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done(kind) => kind.as_str(),
            Self::DueSoon => "due-soon",
            Self::Case(kind) => kind.topic(),
            Self::CaseDueSoon => "case-due-soon",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Topic {
    type Err = NotATopic;

    fn from_str(text: &str) -> Result<Self, NotATopic> {
        let done = Kind::ALL.iter().map(|kind| Self::Done(*kind));
        let in_a_case = case::Kind::ALL.iter().map(|kind| Self::Case(*kind));
        let mut all = done.chain(in_a_case).chain([Self::DueSoon, Self::CaseDueSoon]);
        all.find(|topic| topic.as_str() == text).ok_or(NotATopic)
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> Self {
        topic.as_str().to_owned()
    }
}

impl TryFrom<String> for Topic {
    type Error = NotATopic;

    fn try_from(text: String) -> Result<Self, NotATopic> {
        text.parse()
    }
}

/// Who is told: those who have a role, or of them the persons named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct To {
    /// As what they are told.
    pub role: Role,
    /// Their ids, the project's pseudonym for the applicant; none: whoever has the role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub persons: Vec<String>,
}

/// What a notice is about: the number of the event in its log, where it stands after it, whose move is next, until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum About {
    /// An application.
    Application {
        /// Which.
        application: ApplicationId,
        event: u64,
        state: State,
        due: Option<Due>,
    },
    /// A case.
    Case {
        /// Which.
        case: CaseId,
        event: u64,
        state: case::State,
        due: Option<case::Due>,
    },
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application { application, .. } => write!(f, "{application}"),
            Self::Case { case, .. } => write!(f, "{case}"),
        }
    }
}

/// What somebody is told. Its JSON form is spec/12-notices.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same however often it is made or delivered.
    pub id: NoticeId,
    /// When it happened; of a clock that is about to run out, when that was seen.
    pub at: Timestamp,
    /// What happened.
    pub kind: Topic,
    /// To what, and where that stands now.
    #[serde(flatten)]
    pub about: About,
    /// Who is told.
    pub to: Vec<To>,
    /// In one line.
    pub title: String,
    /// In plain words, without a character of anybody's but ids.
    pub text: String,
    /// What the owner said to the applicant, word by word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its reader can type.
    pub command: String,
}

impl Notice {
    /// As it is stored and sent.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a notice is plain data")
    }

    /// Reads one; fields that are not known are passed over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
