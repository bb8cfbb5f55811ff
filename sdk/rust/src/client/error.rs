//! Why a call did not come about, and who may be asked in its place.

use std::path::PathBuf;

use comity_wire::{Amount, Code, Digest, ModelId, NodeId, OrgId, Timestamp, TokenId};

use super::open::Tried;
use crate::door::{DoorError, Refusal};
use crate::journal::JournalError;
use crate::lane::ReceiptFault;
use crate::receipts;
use crate::seal::SealError;
use crate::wallet::{Above, WalletError};

/// Everything that can go wrong between a question and its receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot use the roster {path}")]
    Roster { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a roster that stands")]
    NotARoster { path: PathBuf, source: comity_token::directory::Refused },
    #[error("an object does not verify under the pinned roster")]
    Refused(#[source] comity_token::directory::Refused),
    #[error("an object does not verify")]
    Unverified(#[source] comity_wire::Unverified),
    #[error("an object cannot be read")]
    Malformed(#[source] comity_wire::Malformed),
    #[error("the other side did not show {0}")]
    Missing(&'static str),
    #[error("{0} has signed two feeds under one number: do not use its models until it has explained")]
    Equivocation(OrgId),
    #[error("no model {0} is known: search for it, or ask another hub")]
    ModelUnknown(ModelId),
    #[error("what the entry knows of it ended by {at}, and here it is {now}")]
    Ended { at: Timestamp, now: Timestamp },
    #[error("{0} has no door that this client can use")]
    NoDoor(NodeId),
    #[error("{model} does not fit any more: {why}")]
    NoFit { model: ModelId, why: String },
    #[error("{0} does not answer: nothing was asked of it")]
    Silent(NodeId),
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the profile names no {0}")]
    Profile(&'static str),
    #[error("the wallet's limit is {limit}, {asked} would be drawn: raise limits.total in the profile")]
    Limit { limit: Amount, asked: Amount },
    #[error(
        "the call may cost {needed}, a token holds at most {limit}: ask for less, or raise limits.token in the profile"
    )]
    TokenLimit { limit: Amount, needed: Amount },
    #[error(
        "the call may cost {asked}, {today} of today's {limit} is spent or under way: wait for tomorrow (UTC), or raise \
         limits.day in the profile"
    )]
    DayLimit { limit: Amount, today: Amount, asked: Amount },
    #[error("no model fits {asked}{why}")]
    NoChoice {
        asked: String,
        /// Of those that came nearest, in words; empty where none was found.
        why: String,
    },
    #[error("none of those that {asked} may be answered by did: {}", super::open::told(.tried))]
    Tried {
        asked: String,
        tried: Vec<Tried>,
        #[source]
        last: Box<Self>,
    },
    #[error("the token would pin release {pinned}, {asked} has to answer: nothing was asked")]
    OtherRelease { pinned: Digest, asked: Digest },
    #[error("the tariff has no price for this call")]
    Unpriced(#[source] comity_wire::object::Unpriced),
    #[error("the receipt does not verify")]
    Receipt(#[source] receipts::NotAReceipt),
    #[error("the reply has no receipt: nothing more is asked under its token until the node shows it")]
    NoReceipt,
    #[error("the receipt breaks the rules; it is kept as evidence, and nothing more is asked under its token")]
    Fault(#[source] ReceiptFault),
    #[error(
        "{0}; its node has claimed none of that yet: end the token again, so that it is challenged before it is paid"
    )]
    Above(Above),
    #[error("the stream was cut: {0}")]
    Cut(String),
    #[error(
        "token {token} was asked for, and the house's answer never came: it is given up. Nothing can be spent of it any more; what was \
         set aside for it, {budget} at most, goes home by itself"
    )]
    GivenUp {
        token: TokenId,
        budget: Amount,
        #[source]
        last: Box<Self>,
    },
    #[error(
        "a part of token {token} was handed on until {until}: ended before, it would be taken from whoever works under it"
    )]
    HandedOn { token: TokenId, until: Timestamp },
    #[error("cannot delegate")]
    Delegate(#[source] comity_token::DelegateError),
    #[error("this client was opened to look, not to write")]
    LooksOnly,
    #[error("the key names another request: use a new key for a new request")]
    KeyConflict,
    #[error("what was signed for this call was not charged, and nothing new was wanted: it was not asked")]
    Unsigned,
    #[error(
        "{node} had this call before, may have charged up to {most} for it, and does not say: nothing else is asked for it meanwhile"
    )]
    InDoubt {
        node: NodeId,
        /// The most that was signed for it.
        most: Amount,
        #[source]
        source: Box<Self>,
    },
    #[error(
        "this call was answered and charged {charge} before (receipt {receipt}), and its answer is not kept any more: \
         use a new key to ask and pay again"
    )]
    Replayed { receipt: Digest, charge: Amount },
}

impl Error {
    /// What the last one said, where several were tried; of a call in doubt, what its node said when it was asked.
    pub fn root(&self) -> &Self {
        match self {
            Self::Tried { last, .. } => last.root(),
            Self::InDoubt { source, .. } => source.root(),
            error => error,
        }
    }

    /// Whether it is not known what became of the call, and its node did not say when it was asked.
    pub(crate) fn is_in_doubt(&self) -> bool {
        match self {
            Self::Tried { last, .. } => last.is_in_doubt(),
            error => matches!(error, Self::InDoubt { .. }),
        }
    }

    /// Which models were tried, where the caller left that open.
    pub fn tried(&self) -> &[Tried] {
        match self {
            Self::Tried { tried, .. } => tried,
            _ => &[],
        }
    }

    /// The other side's code, where it gave one.
    pub fn code(&self) -> Option<Code> {
        match self.root() {
            Self::Door(door) => door.code(),
            Self::Replayed { .. } => Some(Code::Replayed),
            Self::Wallet(WalletError::Named) => Some(Code::InFlight),
            _ => None,
        }
    }

    /// What the other side said instead of an answer, as it said it.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self.root() {
            Self::Door(DoorError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the node did nothing with the call, and another that serves the model may.
    pub(crate) fn lets_another_try(&self) -> bool {
        let cannot_now = matches!(
            self.code(),
            Some(
                Code::ModelStarting | Code::UpstreamUnavailable | Code::Busy | Code::RosterBehind | Code::StandingStale
            )
        );
        let did_nothing = self.is_unsent() || cannot_now || matches!(self, Self::NoDoor(_) | Self::Silent(_));
        did_nothing && !matches!(self, Self::InDoubt { .. })
    }

    /// Whether another owner of the same release may do what this one did not, where this one charged nothing: what stopped it
    /// is this owner's, and neither the request nor the caller's own limits.
    pub(super) fn lets_another_serve(&self) -> bool {
        let is_owners = matches!(
            self.code(),
            Some(
                Code::UpstreamFailed
                    | Code::NodeUnreachable
                    | Code::TooManyRequests
                    | Code::OutsideHours
                    | Code::Withdrawn
                    | Code::Stopped
                    | Code::ModelNotFound
                    | Code::RosterExpired
                    | Code::StoreUnavailable
                    | Code::Internal
                    // Its own rules, which a search does not know whole.
                    | Code::TermsNotSigned
                    | Code::PurposeNotAllowed
                    | Code::OpNotOffered
                    | Code::VettingTooLow
                    | Code::GrantRequired
            )
        );
        let is_lost = matches!(self, Self::Door(door) if door.code().is_none());
        let is_broken = matches!(
            self,
            Self::Missing(_)
                | Self::ModelUnknown(_)
                | Self::NoFit { .. }
                | Self::OtherRelease { .. }
                | Self::Wallet(WalletError::Stopped { .. })
        );
        self.lets_another_try() || is_owners || is_lost || is_broken
    }

    /// How long the other side asks to wait.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self.root() {
            Self::Door(DoorError::Refused(refusal)) => refusal.remote.retry_after_s,
            _ => None,
        }
    }

    /// Whether there was no token that a hub would connect for.
    pub(super) fn is_without_pass(&self) -> bool {
        matches!(self, Self::Door(door) if door.is_without_pass())
    }

    /// Whether nothing has left this machine.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Door(door) if door.is_unsent())
    }
}
