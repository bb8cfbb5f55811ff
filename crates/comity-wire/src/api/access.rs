//! Applications at an owner's node (spec/11-access.md): what the applicant's side and the owner's side say to it, and what they see.
//!
//! Roles, states and commands are words here; what they mean and who may do what is `docs/reference/access-matrix.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::id::ModelId;
use crate::object::Tier;
use crate::time::Timestamp;

/// `GET /comity/v1/access/forms?model=…`, by anybody: what is asked of whoever applies for a model, in which time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormReply {
    /// Of `text`.
    pub form: Digest,
    pub title: String,
    pub fields: Vec<FormField>,
    /// The owner answers within this.
    pub answer_s: u64,
    /// What happens when it does not: `remind`, `escalate`, `lapse`, `approve`.
    pub when_silent: String,
    /// The applicant hands in, or answers, within this.
    pub applicant_s: u64,
    /// How long a refusal can be appealed.
    pub appeal_s: u64,
    /// Whether the applicant's institution has to sign.
    pub signatory: bool,
    /// What the applicant has to show before anything is granted: `organisation`, `person`.
    pub shown: Vec<String>,
    /// The form's TOML, as the owner wrote it.
    pub text: String,
}

/// One question of a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormField {
    pub id: String,
    pub label: String,
    /// `text`, `checkbox`, `date`, `choice`, `country`.
    #[serde(rename = "type")]
    pub kind: String,
    pub required: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// `POST /comity/v1/access/applications`: begins one. The caller draws the id, so that a repeat is the same application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// `app-` and 32 lower-case hex digits, random.
    pub id: String,
    /// Ascending, once each.
    pub models: Vec<ModelId>,
    pub answers: BTreeMap<String, String>,
    /// An application of this project that is over, whose models and answers are taken; then `models` and `answers` are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<String>,
}

/// `POST /comity/v1/access/applications/{id}/acts`, and under `/comity/v1/requests/` by the owner's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// The newest link that the caller has seen: an application that has moved on is looked at again before anything is done to it.
    pub after: Digest,
    /// `{"kind": …, …}`.
    pub act: Value,
}

/// An application as one side sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Application {
    pub id: String,
    /// The project's pseudonym at this organisation.
    pub subject: String,
    pub state: String,
    /// Whose move it is, until when; left out: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// What can be done next, by whoever reads this, as words of the matrix.
    pub can: Vec<String>,
    pub models: Vec<ModelId>,
    pub answers: BTreeMap<String, String>,
    pub form: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
    /// A notice of revocation that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_from: Option<Notice>,
    /// What the applicant has shown of who stands behind it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shown: BTreeMap<String, String>,
    /// The newest link: keep it. A log that no longer goes through it was rewritten.
    pub head: Digest,
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// `applicant`, `signatory`, `owner`, `appeal-reviewer`, `nobody`.
    pub party: Party,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    Applicant,
    Signatory,
    Owner,
    AppealReviewer,
    Caller,
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub models: Vec<ModelId>,
    pub tier: Tier,
    pub not_after: Timestamp,
    /// The plan that was approved, by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// How often it may be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executions: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub at: Timestamp,
    pub reason: String,
}

/// One line of the log, as one side sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub n: u64,
    pub at: Timestamp,
    pub kind: String,
    /// As what it was done.
    pub role: String,
    pub state: String,
    /// The link of this event: the next one carries it.
    pub link: Digest,
    /// The event as it was written, whose digest the link is; left out where it is the other side's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `GET /comity/v1/access/applications` and `GET /comity/v1/requests`: a page, those whose time ends first before the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListReply {
    pub applications: Vec<Listed>,
    /// For `after`; left out on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    pub subject: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    pub models: Vec<ModelId>,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
}

/// What the applicant's side does to an application, as its JSON. The owner's side has more; the matrix has all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Applying {
    SaveDraft { answers: BTreeMap<String, String> },
    ChangeModels { models: Vec<ModelId> },
    Attach { name: String, digest: Digest, bytes: u64 },
    Submit { sealed: Sealed },
    Reveal { what: Shown, value: String, salt: Digest },
    Answer { answers: BTreeMap<String, String>, text: String },
    Remark { text: String, public: bool },
    Withdraw { reason: String },
    Appeal { reason: String },
}

/// Who stands behind an application, sealed until they consent: two commitments, said when it is handed in. With their consent the
/// applicant says what was sealed, and everybody can check that it was this from the start.
///
/// It protects the applicant before consent (the owner cannot try names against a salted digest) and the owner after it (nobody becomes
/// somebody else once a decision is near). It does not say that a name is true, which is the house's evidence, and it does not make an
/// owner forget what was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub organisation: Digest,
    pub person: Digest,
}

/// What of it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    Organisation,
    Person,
}

impl Sealed {
    /// The commitment to one of the two.
    pub const fn of(&self, what: Shown) -> Digest {
        match what {
            Shown::Organisation => self.organisation,
            Shown::Person => self.person,
        }
    }
}

impl Shown {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Person => "person",
        }
    }
}

/// SHA-256 over context, which of the two, salt and value. The salt has to be 32 random bytes, another one for each.
pub fn commitment(what: Shown, salt: &Digest, value: &str) -> Digest {
    let which = match what {
        Shown::Organisation => [1],
        Shown::Person => [2],
    };
    Digest::of_parts(&[b"comity/v1/access-identity\0", &which, salt.as_bytes(), value.as_bytes()])
}
