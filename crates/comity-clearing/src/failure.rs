//! Why the house says no, or cannot say anything.

use std::sync::Arc;

use comity_ledger::{CommitError, StoreError};
use comity_token::Denied;
use comity_wire::{
    Amount, Code, CreditNoteId, LotId, MandateId, ModelId, NodeId, Op, ProjectId, Timestamp, TokenId, Unverified,
};

use crate::lots::Unusable;
use crate::settlement;

/// A call that was not done: the caller's to mend where [`Failure::code`] is below 500, the house's otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    #[error("{what}")]
    Invalid { what: String },
    #[error("what was handed in does not verify")]
    Unverified(#[from] Unverified),
    #[error("the call is not signed as it must be")]
    Denied(#[from] Denied),
    #[error("the claim or final was refused")]
    Settlement(#[from] settlement::Refused),
    #[error("the credit note was not booked")]
    Credit(#[from] settlement::credit::Refused),
    #[error("credit note {id} was brought before with another content: take a new id")]
    CreditNoteConflict { id: CreditNoteId },
    #[error("{what}")]
    NotYet { what: &'static str },
    #[error("this key is not registered here: ask the clearing house's operator to add it to your project")]
    NotRegistered,
    #[error("this is not yours: {what}")]
    NotYours { what: &'static str },
    /// Its certificate may still be on its way here: whoever has a new key brings the same again.
    #[error(
        "this clearing house knows no such transport key of node {node}: bring it again once it has the node's certificate"
    )]
    NodeKeyUnknown { node: NodeId },
    #[error("no such {what}")]
    NotFound { what: String },
    #[error("project {project} is frozen: ask the clearing house's operator")]
    Frozen { project: ProjectId },
    #[error("{asked} asked, {available} available{}", unusable_text(unusable))]
    BalanceTooLow {
        asked: Amount,
        available: Amount,
        /// Lots with credits that this cannot be paid from.
        unusable: Vec<(LotId, String, Amount, Unusable)>,
    },
    #[error("mandate {id} {why}: ask the project's PI for another one")]
    MandateOver { id: MandateId, why: &'static str },
    #[error("mandate {id} is not for {model}")]
    MandateModel { id: MandateId, model: ModelId },
    #[error("mandate {id} was not redeemed here: bring it first (POST /v1/mandates)")]
    MandateUnknown { id: MandateId },
    #[error("members draw under a mandate: ask the project's PI for one")]
    MandateRequired,
    #[error("{what}")]
    OwnerTerms { what: String, whose_move: &'static str },
    #[error("the login is not believed: {why}")]
    LoginRefused { why: String },
    #[error("the issuer {issuer} gives no answer that is of use: {what}")]
    IssuerUnreached { issuer: String, what: String },
    #[error("duty conflict: {what}")]
    DutyConflict { what: String },
    #[error("reservation {token} was made with another {field}: take a new id")]
    ReservationConflict { token: TokenId, field: &'static str },
    #[error("the quote ended at {at}; ask for a new one")]
    QuoteExpired { at: Timestamp },
    #[error("no model {model} at node {node}")]
    ModelNotFound { model: ModelId, node: NodeId },
    #[error("{model} was withdrawn by its owner")]
    Withdrawn { model: ModelId },
    #[error("{model} does not offer {op}")]
    OpNotOffered { model: ModelId, op: Op },
    #[error("{what}: at most {max}")]
    Limit { what: &'static str, max: String },
    #[error(
        "the revocation list has {entries} entries of {room}{ends}. Freeze the project, which sells it no more tokens, or revoke the \
         node or the organisation in their place"
    )]
    ListFull { entries: usize, room: usize, ends: String },
    #[error("node or organisation was revoked")]
    Revoked,
    #[error("the roster ended at {at}; the clearing house needs a newer one")]
    RosterExpired { at: Timestamp },
    #[error("the roster does not let the clearing house's key sign ({what}): it sells nothing until a newer one does")]
    NotListed { what: String },
    #[error("the directory does not have {what} of {model} yet")]
    DirectoryBehind { what: &'static str, model: ModelId },
    #[error("cannot write to or read from the database")]
    Store(#[from] StoreError),
    #[error("cannot read or write the database")]
    Database(#[from] sqlx::Error),
    #[error("not written: {cause}")]
    NotWritten { cause: String },
    #[error("too many writes are waiting; try again")]
    Busy,
    /// It comes again by itself.
    #[error("the credit note cannot be booked yet")]
    CreditWaits {
        #[source]
        why: settlement::credit::Refused,
        wait_s: u64,
    },
    #[error("another credit note of this owner is being decided: bring this one again")]
    OwnerBusy,
    #[error("the call of this Idempotency-Key is being answered")]
    InFlight,
    #[error("this Idempotency-Key was used for another call")]
    IdempotencyConflict,
    #[error("table {table} holds what it cannot hold: {what}")]
    Unreadable { table: &'static str, what: &'static str },
    #[error("the books refused what the house's own rules allow: {what}")]
    Books { what: String },
    #[error("the operating system has no randomness")]
    Entropy,
    /// What is stored is not what was signed.
    #[error("the log does not go on: {what}")]
    LogStopped { what: String },
    /// What an owner's node signed before is not in what it signs now.
    #[error("the decisions do not go on from those that are logged: {what}")]
    DecisionsBroken { what: String },
    #[error("as many {what} as are taken in an hour have come; the next one is taken in {wait_s} s")]
    TooSoon { what: &'static str, wait_s: u64 },
    #[error("this house has no key for a log")]
    LogKeyless,
    #[error("packet {id} was answered by packet {by}, in other words")]
    AmieAnswered { id: u64, by: u64 },
    #[error("transaction {id} is {state}")]
    AmieOver { id: u64, state: &'static str },
    #[error("{0}")]
    Finding(comity_probe::Refused),
}

impl Failure {
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::InvalidRequest,
            Self::Unverified(source) => source.code(),
            Self::Denied(source) => source.code(),
            Self::Settlement(source) => source.code(),
            Self::Credit(source) | Self::CreditWaits { why: source, .. } => source.code(),
            Self::CreditNoteConflict { .. } => Code::IdempotencyConflict,
            Self::NotYet { .. } => Code::NotYetValid,
            Self::NotRegistered => Code::NotRegistered,
            Self::NotYours { .. } => Code::NotYours,
            Self::NodeKeyUnknown { .. } => Code::WrongKey,
            Self::NotFound { .. } => Code::NotFound,
            Self::Frozen { .. } => Code::Frozen,
            Self::BalanceTooLow { .. } => Code::BalanceTooLow,
            Self::LoginRefused { .. } => Code::LoginRefused,
            Self::IssuerUnreached { .. } => Code::UpstreamUnavailable,
            Self::DutyConflict { .. } => Code::DutyConflict,
            Self::OwnerTerms { .. } => Code::OwnerTerms,
            Self::MandateOver { .. } | Self::MandateModel { .. } | Self::MandateRequired => Code::MandateRequired,
            Self::MandateUnknown { .. } => Code::NotFound,
            Self::ReservationConflict { .. } => Code::ReservationConflict,
            Self::AmieAnswered { .. } | Self::AmieOver { .. } => Code::AmieConflict,
            Self::Finding(comity_probe::Refused::State { .. }) => Code::Closed,
            Self::Finding(comity_probe::Refused::TooEarly { .. }) => Code::TooEarly,
            Self::Finding(comity_probe::Refused::Text) => Code::InvalidRequest,
            Self::QuoteExpired { .. } => Code::Expired,
            Self::ModelNotFound { .. } => Code::ModelNotFound,
            Self::Withdrawn { .. } => Code::Withdrawn,
            Self::OpNotOffered { .. } => Code::OpNotOffered,
            Self::Limit { .. } | Self::ListFull { .. } => Code::LimitExceeded,
            Self::Revoked => Code::Revoked,
            Self::RosterExpired { .. } => Code::RosterExpired,
            Self::NotListed { .. } => Code::RosterBehind,
            Self::DirectoryBehind { .. } | Self::Busy | Self::OwnerBusy => Code::Busy,
            Self::Store(_) | Self::Database(_) | Self::NotWritten { .. } | Self::LogStopped { .. } => {
                Code::StoreUnavailable
            }
            Self::LogKeyless => Code::NotFound,
            Self::DecisionsBroken { .. } => Code::BrokenHistory,
            Self::TooSoon { .. } => Code::TooManyRequests,
            Self::InFlight => Code::InFlight,
            Self::IdempotencyConflict => Code::IdempotencyConflict,
            Self::Unreadable { .. } | Self::Books { .. } | Self::Entropy => Code::Internal,
        }
    }

    /// What outsiders read: the sentence and its causes, without anything of the house's inside.
    pub fn message(&self) -> String {
        match self {
            Self::Store(_) | Self::Database(_) | Self::NotWritten { .. } => {
                "the clearing house cannot write its books now".into()
            }
            Self::Unreadable { .. } | Self::Books { .. } | Self::Entropy => {
                "the clearing house failed; its log says why".into()
            }
            Self::Unverified(source) => chain(source),
            Self::Denied(source) => chain(source),
            Self::Settlement(settlement::Refused::Unverified(source)) => chain(source),
            Self::Settlement(source) => chain(source),
            Self::Credit(source) | Self::CreditWaits { why: source, .. } => chain(source),
            other => other.to_string(),
        }
    }

    pub(crate) fn invalid(what: impl std::fmt::Display) -> Self {
        Self::Invalid { what: what.to_string() }
    }
}

/// Names the first few lots that cannot be used, and why.
fn unusable_text(unusable: &[(LotId, String, Amount, Unusable)]) -> String {
    let mut text = String::new();
    for (_, award, amount, why) in unusable.iter().take(3) {
        text.push_str(&format!("; {amount} more lie in award {award}, which {why}"));
    }
    text
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Of one of those whose requests were served by one job.
impl From<CommitError<Arc<Self>>> for Failure {
    fn from(error: CommitError<Arc<Self>>) -> Self {
        match error {
            CommitError::Refused(failure) => Self::NotWritten { cause: chain(&*failure) },
            CommitError::Busy => Self::Busy,
            CommitError::Stopped => Self::NotWritten { cause: "the writer has stopped".into() },
            CommitError::NotCommitted { cause } | CommitError::Unknown { cause } => Self::NotWritten { cause },
        }
    }
}

impl From<CommitError<Self>> for Failure {
    fn from(error: CommitError<Self>) -> Self {
        match error {
            CommitError::Refused(failure) => failure,
            CommitError::Busy => Self::Busy,
            CommitError::Stopped => Self::NotWritten { cause: "the writer has stopped".into() },
            CommitError::NotCommitted { cause } | CommitError::Unknown { cause } => Self::NotWritten { cause },
        }
    }
}
