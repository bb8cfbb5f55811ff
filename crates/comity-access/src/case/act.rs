//! What can be done in a case, by whom, and what follows of it outside.

use std::fmt;

use comity_wire::object::FilterAction;
use comity_wire::{Amount, CreditNoteId, Digest, ModelId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::act::words;

words! {
    /// As what somebody acts. Who has which role is the node's configuration.
    Role {
        /// The project, or whoever brings its word.
        Project = "project",
        /// Of the owner's side.
        Handler = "handler",
        /// Of the owner's side, without a part in it before.
        AppealReviewer = "appeal-reviewer",
        /// The filter and the clock.
        Bot = "bot",
    }
}

words! {
    /// Where a case stands.
    State {
        /// The project may answer; nothing is upheld before it has, or its time is over.
        Open = "open",
        ToDecide = "to-decide",
        Upheld = "upheld",
        Appealed = "appealed",
        /// Nothing was wrong.
        Cleared = "cleared",
        /// The appeal was right.
        Overturned = "overturned",
        /// The appeal was not right.
        Confirmed = "confirmed",
        /// The owner did not decide in time: for the project.
        Lapsed = "lapsed",
        /// Upheld, and nobody appealed in time.
        Closed = "closed",
    }
}

words! {
    /// Which act, without its content.
    Kind {
        Open = "open",
        Add = "add",
        Answer = "answer",
        Remark = "remark",
        Clear = "clear",
        Uphold = "uphold",
        Appeal = "appeal",
        Overturn = "overturn",
        Confirm = "confirm",
        Owe = "owe",
        Pay = "pay",
        Refund = "refund",
        Booked = "booked",
        Declined = "declined",
        Await = "await",
        Lapse = "lapse",
        Close = "close",
        Forget = "forget",
    }
}

words! {
    /// What the owner does about a case that is upheld.
    Measure {
        /// It stays on record.
        Note = "note",
        /// The project is stopped at this node, until it is resumed.
        Stop = "stop",
    }
}

impl Kind {
    /// How a notice calls it.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Open => "case-open",
            Self::Add => "case-add",
            Self::Answer => "case-answer",
            Self::Remark => "case-remark",
            Self::Clear => "case-clear",
            Self::Uphold => "case-uphold",
            Self::Appeal => "case-appeal",
            Self::Overturn => "case-overturn",
            Self::Confirm => "case-confirm",
            Self::Owe => "case-owe",
            Self::Pay => "case-pay",
            Self::Refund => "case-refund",
            Self::Booked => "case-booked",
            Self::Declined => "case-declined",
            Self::Await => "case-await",
            Self::Lapse => "case-lapse",
            Self::Close => "case-close",
            Self::Forget => "case-forget",
        }
    }
}

impl State {
    /// The project is in the right, for good.
    pub const fn is_for_the_project(self) -> bool {
        matches!(self, Self::Cleared | Self::Overturned | Self::Lapsed)
    }

    /// No more is decided.
    pub const fn is_ended(self) -> bool {
        self.is_for_the_project() || matches!(self, Self::Confirmed | Self::Closed)
    }
}

/// Who acts, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The project's pseudonym for its side, the operator's word for the owner's.
    pub id: String,
    pub role: Role,
}

/// What was seen: names and counts, never a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub model: ModelId,
    pub category: String,
    /// `pack/rule`, `linear/category`, `volume/why`, or `operator`.
    pub rule: String,
    pub band: String,
    pub count: u64,
    /// What was done at once.
    pub action: FilterAction,
}

/// One thing that is done in a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// The first event, made by [`Case::open`](super::Case::open) alone.
    Open {
        /// The project's pseudonym at this organisation.
        subject: String,
        seen: Seen,
        /// SHA-256 of the sealed excerpt, where one is kept: nobody puts another in its place.
        excerpt: Option<Digest>,
        /// An operator's word; empty where the filter opened it.
        reason: String,
    },
    /// More of the same was seen while nothing was decided.
    Add { seen: Seen },
    /// The project's side of it.
    Answer {
        text: String,
        /// Whoever wrote it down for the project, where it did not come by its own key.
        brought_by: Option<String>,
    },
    /// A note of the owner's side.
    Remark {
        text: String,
        /// Random, so that whoever sees the link and not the words cannot try words against it. Events of before have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        salt: Option<Digest>,
    },
    /// Nothing was wrong.
    Clear { reason: String },
    /// Something was.
    Uphold { measure: Measure, reason: String },
    /// Asks somebody else to look again.
    Appeal { reason: String, brought_by: Option<String> },
    /// The appeal is right.
    Overturn { reason: String },
    /// The appeal is not right.
    Confirm { reason: String },
    /// The project was charged for what it should have had, or should not have been refused.
    Owe { receipt: Digest, amount: Amount, reason: String },
    /// All that is owed was given back.
    Pay {
        /// Where that can be seen: a statement, a lot, a letter.
        reference: String,
    },
    /// Credits go back to the project: the clearing house is told by a credit note, until it answers.
    Refund {
        /// Drawn by the desk.
        note: CreditNoteId,
        /// Which had paid.
        token: TokenId,
        amount: Amount,
        reason: String,
    },
    /// The house has booked a credit note.
    Booked {
        note: CreditNoteId,
        /// The note's content id, as the house's log has it.
        content: Digest,
        /// By the house's clock.
        booked_at: Timestamp,
    },
    /// The house will not book it.
    Declined {
        note: CreditNoteId,
        /// The house's code and sentence.
        code: String,
        message: String,
    },
    /// The project's time to answer is over.
    Await {},
    /// The owner's time is over.
    Lapse {},
    /// The time to appeal is over.
    Close {},
    /// What was seen is deleted.
    Forget {},
}

/// What follows of an act outside the case. The desk does it after the event is written, and again if it is not sure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The project is let in again: a suspension by the filter, and a stop by this case, end.
    Lift { subject: String },
    /// The project is stopped.
    Stop { subject: String, reason: String },
    /// The clearing house is told to give credits back.
    Refund(Order),
}

/// What a credit note says; the door signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub note: CreditNoteId,
    /// The project's pseudonym: the token has to be its own.
    pub subject: String,
    pub token: TokenId,
    pub amount: Amount,
    /// The link of the event that orders it.
    pub link: Digest,
    pub at: Timestamp,
}

impl Act {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Open { .. } => Kind::Open,
            Self::Add { .. } => Kind::Add,
            Self::Answer { .. } => Kind::Answer,
            Self::Remark { .. } => Kind::Remark,
            Self::Clear { .. } => Kind::Clear,
            Self::Uphold { .. } => Kind::Uphold,
            Self::Appeal { .. } => Kind::Appeal,
            Self::Overturn { .. } => Kind::Overturn,
            Self::Confirm { .. } => Kind::Confirm,
            Self::Owe { .. } => Kind::Owe,
            Self::Pay { .. } => Kind::Pay,
            Self::Refund { .. } => Kind::Refund,
            Self::Booked { .. } => Kind::Booked,
            Self::Declined { .. } => Kind::Declined,
            Self::Await {} => Kind::Await,
            Self::Lapse {} => Kind::Lapse,
            Self::Close {} => Kind::Close,
            Self::Forget {} => Kind::Forget,
        }
    }

    /// The words that it must come with.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Answer { text, .. } | Self::Remark { text, .. } => Some(text),
            Self::Clear { reason }
            | Self::Uphold { reason, .. }
            | Self::Appeal { reason, .. }
            | Self::Overturn { reason }
            | Self::Confirm { reason }
            | Self::Owe { reason, .. }
            | Self::Refund { reason, .. } => Some(reason),
            Self::Pay { reference } => Some(reference),
            _ => None,
        }
    }
}
