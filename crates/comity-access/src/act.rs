//! What can be done to an application, by whom, and what state it leaves.

use std::fmt;

use comity_wire::api::access::{Sealed, Shown};
use comity_wire::object::Tier;
use comity_wire::{Digest, ModelId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::form::Answers;
use crate::id::ApplicationId;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$each])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Each there is, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its one text form.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// As what somebody acts. Who has which role is the node's configuration.
    Role {
        Applicant = "applicant",
        /// Of the applicant's project.
        Member = "member",
        /// Signs for the applicant's institution.
        Signatory = "signatory",
        Reviewer = "reviewer",
        Decider = "decider",
        AppealReviewer = "appeal-reviewer",
        Operator = "operator",
        /// The clock and the owner's rules.
        Bot = "bot",
    }
}

words! {
    /// Where an application stands.
    State {
        Draft = "draft",
        Submitted = "submitted",
        Returned = "returned",
        UnderReview = "under-review",
        DecisionAsked = "decision-asked",
        Approved = "approved",
        Rejected = "rejected",
        Revoked = "revoked",
        Appealed = "appealed",
        Withdrawn = "withdrawn",
        /// A clock ran out.
        Lapsed = "lapsed",
        /// The time that was granted is over.
        Expired = "expired",
        Closed = "closed",
    }
}

words! {
    /// Which act, without its content.
    Kind {
        Open = "open",
        SaveDraft = "save-draft",
        ChangeModels = "change-models",
        Attach = "attach",
        Submit = "submit",
        Reveal = "reveal",
        Sign = "sign",
        Return = "return",
        Answer = "answer",
        RequestReview = "request-review",
        Review = "review",
        DeclareConflict = "declare-conflict",
        RequestDecision = "request-decision",
        Vote = "vote",
        Approve = "approve",
        Reject = "reject",
        Remark = "remark",
        Revoke = "revoke",
        Withdraw = "withdraw",
        Appeal = "appeal",
        Reinstate = "reinstate",
        Dismiss = "dismiss",
        CopyAsNew = "copy-as-new",
        Close = "close",
        Remind = "remind",
        Escalate = "escalate",
        Lapse = "lapse",
        Expire = "expire",
    }
}

impl State {
    /// Nothing but a copy can follow.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Withdrawn | Self::Lapsed | Self::Expired | Self::Closed)
    }
}

/// Who acts, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The project's pseudonym for the applicant's side, the operator's word for the owner's.
    pub id: String,
    /// As what.
    pub role: Role,
    /// The organisation that they work for, where it is known.
    pub organisation: Option<String>,
}

/// What is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// A part of the models that were asked for, or all.
    pub models: Vec<ModelId>,
    /// The tier that a grant will name.
    pub tier: Tier,
    /// When it ends.
    pub not_after: Timestamp,
    /// The experiment plan that is approved: one that is attached to the application. Tier t3 needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// How often it may be executed; left out: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executions: Option<u32>,
}

/// One thing that is done to an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// The first event, made by [`Application::open`](crate::Application::open) alone.
    Open {
        /// The project's pseudonym at this organisation.
        subject: String,
        /// Of the form's text, so that a form that changes later is another one.
        form: Digest,
        /// The application that this one repeats.
        copy_of: Option<ApplicationId>,
        /// What is asked for.
        models: Vec<ModelId>,
        /// So far.
        answers: Answers,
    },
    /// Keeps what was filled in.
    SaveDraft {
        /// All of them, not those that changed.
        answers: Answers,
    },
    /// Asks for other models.
    ChangeModels {
        /// In place of those before.
        models: Vec<ModelId>,
    },
    /// Names a file by its digest.
    Attach {
        /// As the applicant calls it.
        name: String,
        /// Of its bytes.
        digest: Digest,
        /// How many.
        bytes: u64,
    },
    /// Hands it in.
    Submit {
        /// Who stands behind it, sealed until they consent.
        sealed: Sealed,
    },
    /// The applicant's consent: opens one seal.
    Reveal {
        /// Which.
        what: Shown,
        /// What was sealed.
        value: String,
        /// What it was sealed with.
        salt: Digest,
    },
    /// The institution stands behind it.
    Sign {
        /// As what, under which rule.
        text: String,
    },
    /// Asks the applicant for more.
    Return {
        /// For what.
        reason: String,
    },
    /// The applicant's answer: hands it in again.
    Answer {
        /// All of them.
        answers: Answers,
        /// To the question.
        text: String,
    },
    /// Asks others for their view.
    RequestReview {
        /// Their ids.
        reviewers: Vec<String>,
    },
    /// A view.
    Review {
        /// For or against.
        favour: bool,
        /// Why.
        reason: String,
    },
    /// Steps back from it.
    DeclareConflict {
        /// Why.
        reason: String,
    },
    /// Puts it before those who decide.
    RequestDecision {
        /// Their ids; those who are asked may vote.
        deciders: Vec<String>,
    },
    /// A voice; it decides nothing by itself.
    Vote {
        /// For or against.
        favour: bool,
        /// Why.
        reason: String,
    },
    /// Grants.
    Approve {
        /// What.
        terms: Terms,
        /// Why.
        reason: String,
    },
    /// Refuses.
    Reject {
        /// Why.
        reason: String,
    },
    /// A note beside it.
    Remark {
        /// What it says.
        text: String,
        /// Whether the applicant's side reads it.
        public: bool,
    },
    /// Takes back what was granted.
    Revoke {
        /// Why.
        reason: String,
        /// When it takes effect: now, or after a notice.
        effective: Timestamp,
    },
    /// The applicant's side wants it no more.
    Withdraw {
        /// Why; may be empty.
        reason: String,
    },
    /// Asks somebody else to look again.
    Appeal {
        /// Why.
        reason: String,
    },
    /// The appeal is right.
    Reinstate {
        /// What is granted.
        terms: Terms,
        /// Why.
        reason: String,
    },
    /// The appeal is not right: it stands as before.
    Dismiss {
        /// Why.
        reason: String,
    },
    /// Ends it.
    Close {
        /// Why.
        reason: String,
    },
    /// The clock ran out, and the same party is asked again.
    Remind {},
    /// The clock ran out, and somebody else is asked.
    Escalate {
        /// Whom.
        to: String,
    },
    /// The clock ran out for good.
    Lapse {},
    /// What was granted is over.
    Expire {},
}

impl Act {
    /// Which it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Open { .. } => Kind::Open,
            Self::SaveDraft { .. } => Kind::SaveDraft,
            Self::ChangeModels { .. } => Kind::ChangeModels,
            Self::Attach { .. } => Kind::Attach,
            Self::Submit { .. } => Kind::Submit,
            Self::Reveal { .. } => Kind::Reveal,
            Self::Sign { .. } => Kind::Sign,
            Self::Return { .. } => Kind::Return,
            Self::Answer { .. } => Kind::Answer,
            Self::RequestReview { .. } => Kind::RequestReview,
            Self::Review { .. } => Kind::Review,
            Self::DeclareConflict { .. } => Kind::DeclareConflict,
            Self::RequestDecision { .. } => Kind::RequestDecision,
            Self::Vote { .. } => Kind::Vote,
            Self::Approve { .. } => Kind::Approve,
            Self::Reject { .. } => Kind::Reject,
            Self::Remark { .. } => Kind::Remark,
            Self::Revoke { .. } => Kind::Revoke,
            Self::Withdraw { .. } => Kind::Withdraw,
            Self::Appeal { .. } => Kind::Appeal,
            Self::Reinstate { .. } => Kind::Reinstate,
            Self::Dismiss { .. } => Kind::Dismiss,
            Self::Close { .. } => Kind::Close,
            Self::Remind {} => Kind::Remind,
            Self::Escalate { .. } => Kind::Escalate,
            Self::Lapse {} => Kind::Lapse,
            Self::Expire {} => Kind::Expire,
        }
    }

    /// The words that it must come with.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Return { reason }
            | Self::Review { reason, .. }
            | Self::DeclareConflict { reason }
            | Self::Vote { reason, .. }
            | Self::Approve { reason, .. }
            | Self::Reject { reason }
            | Self::Revoke { reason, .. }
            | Self::Appeal { reason }
            | Self::Reinstate { reason, .. }
            | Self::Dismiss { reason }
            | Self::Close { reason } => Some(reason),
            Self::Remark { text, .. } | Self::Sign { text } | Self::Answer { text, .. } => Some(text),
            _ => None,
        }
    }
}
