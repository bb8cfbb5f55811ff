//! Cases at an owner's node (spec/11-access.md): what was held against a project, as that project sees it and answers it.
//!
//! States and commands are words here; what they mean and who may do what is the table of decision 0060.

use serde::{Deserialize, Serialize};

use super::access::Event;
use crate::amount::Amount;
use crate::digest::Digest;
use crate::id::{CreditNoteId, ModelId, TokenId};
use crate::object::FilterAction;
use crate::time::Timestamp;

/// `GET /comity/v1/access/cases/{id}`, and the answer to each act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// `case-` and 32 lower-case hex digits.
    pub id: String,
    /// The project's pseudonym at this organisation.
    pub subject: String,
    pub state: String,
    /// Whose move it is, until when; left out: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// What the project can do now: `answer`, `appeal`.
    pub can: Vec<String>,
    /// The first time first.
    pub seen: Vec<Seen>,
    pub opened_at: Timestamp,
    /// What the owner did about it, where it was upheld: `note`, `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// What the owner owes after a case that did not stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Owed>,
    /// Whether all of it was given back.
    pub is_paid: bool,
    /// What the owner gives back by credit notes, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<Refund>,
    /// In a sentence.
    pub next: String,
    /// The newest link: keep it. A log that no longer goes through it was rewritten.
    pub head: Digest,
    pub events: Vec<Event>,
}

/// What was seen: names and counts, never a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    pub receipt: Digest,
    pub amount: Amount,
    pub reason: String,
}

/// Credits that the owner told the house to give back. Neither `booked_at` nor `refused`: the house has not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub note: CreditNoteId,
    /// The token that had paid: its lots have the credits again.
    pub token: TokenId,
    pub amount: Amount,
    pub reason: String,
    /// When the house booked it, by the house's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booked_at: Option<Timestamp>,
    /// The evidence of the transfers, as the house's log and a statement name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// Why the house does not book it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// `project`, `owner`, `appeal-reviewer`, `nobody`.
    pub party: Party,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    Project,
    Owner,
    AppealReviewer,
    Nobody,
}

/// `GET /comity/v1/access/cases`: a page of the project's own, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CasesReply {
    pub cases: Vec<Listed>,
    /// For `after`; left out on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    pub model: ModelId,
    pub category: String,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
}

/// What the project does in a case, as the `act` of [`ActRequest`](super::access::ActRequest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Heard {
    Answer { text: String },
    Appeal { reason: String },
}
