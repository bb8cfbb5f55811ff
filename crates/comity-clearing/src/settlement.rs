//! Settlement: what a claim, a final and the calendar do to one token's escrow (spec/07-settlement.md).
//!
//! A sans-IO core. [`evidence`] turns signed bytes into what they prove; [`handle`] takes the time, the calendar of the
//! hours in which the house was open, one token's [`Escrow`] and an [`Input`], and gives back the escrow as it then
//! stands with the credits that move. It promises: paid ≤ budget; paid under a block ≤ its cap; nothing is paid twice;
//! nothing goes home before a final or `settle_by`. The store applies an [`Output`] whole, in one SQL transaction, or
//! not at all.

pub mod calendar;
pub mod credit;
pub mod draw;
pub mod escrow;
pub mod evidence;
pub mod matching;
pub mod shown;
#[cfg(test)]
mod simulation;

pub use calendar::Calendar;
pub use escrow::{Escrow, Head, Lane, LaneKey, Output, PathCap, Phase, Tail, handle};
pub use evidence::{Claimed, Finalled, LaneClaim, Trust};

use comity_token::Denied;
use comity_wire::api::clearing::SettledLane;
use comity_wire::{Amount, Code, Digest, OrgId, Timestamp, TokenId, Unverified};

/// How long a tail stands before the house asks the node to show it, and how long the node then has, in seconds of open time.
pub const CHALLENGE_S: u64 = 72 * 3600;

/// What happens to an escrow.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    Claim(&'a Claimed),
    Final(&'a Finalled),
    /// Somebody asks for what is left.
    Refund,
    /// Time has passed.
    Sweep,
    /// In a challenge the node has shown what was signed for, up to this total of a lane. `evidence` is the claim that had brought it.
    Proven {
        lane: LaneKey,
        upto: Amount,
        evidence: Digest,
    },
    /// A challenge has ended against the node, of one lane; or a dispute, of the whole token.
    Stop {
        lane: Option<LaneKey>,
        evidence: Digest,
    },
}

/// Credits that move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Dense from 1 for each token: with the token it names the transfer.
    pub serial: u64,
    pub kind: MovementKind,
    pub amount: Amount,
    /// Which lanes are paid; empty for a refund.
    pub lines: Vec<(LaneKey, Amount)>,
    /// Content id of the claim or final; zero where time alone moved it.
    pub evidence: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovementKind {
    /// Escrow → owner.
    Settle,
    /// Suspense → owner: the token binds the house although its escrow is short (rule 9).
    Suspense,
    /// Escrow → allocation.
    Refund,
}

/// What was not paid, kept on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub code: Code,
    pub amount: Amount,
    pub message: String,
}

/// Why an input changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error("what was handed in does not verify")]
    Unverified(#[from] Unverified),
    #[error("a chain of the claim does not verify")]
    Chain(#[source] Denied),
    #[error("the token's issuer is {issuer}, not this clearing house")]
    WrongIssuer { issuer: OrgId },
    #[error("{what} speaks of another token than {token}")]
    WrongToken { what: &'static str, token: TokenId },
    #[error("the token is for another node than the one that claims")]
    WrongNode,
    #[error("two tokens carry the id {token}; this clearing house signed another one")]
    TokenConflict { token: TokenId },
    #[error("no chain of the claim ends in leaf {leaf}")]
    LeafUnknown { leaf: Digest },
    #[error("the claim names lane {lane} of leaf {leaf} twice")]
    LaneTwice { leaf: Digest, lane: u16 },
    #[error("lane {lane} lies beyond the {max} that were granted")]
    LaneBeyondMax { lane: u16, max: u16 },
    #[error("an acknowledgement of n {n} does not fit the receipt")]
    AcknowledgementMisfit { n: u64 },
    #[error("receipt n {n} is older than n {settled}, which is settled: claim with the newest receipt")]
    Older { n: u64, settled: u64 },
    #[error("the total of receipt n {n} is {total}, below the {settled} that the lane had reached")]
    Lower { n: u64, total: Amount, settled: Amount },
    #[error("{} of the claim's lanes prove from another receipt than the one that was settled last", lanes.len())]
    SettledDiffers { lanes: Vec<SettledLane> },
    #[error("the lane's history is broken: {what}")]
    BrokenHistory { what: String },
    #[error("this token is closed at the node by an earlier final; what it held back stands")]
    FinalConflict,
    #[error("it is too early: escrow returns on the node's final, or at {at}")]
    TooEarly { at: Timestamp },
}

impl Refused {
    /// Whether the refused bytes prove by themselves, beside the books, that who signed them broke their word.
    pub const fn is_contradiction(&self) -> bool {
        matches!(
            self,
            Self::TokenConflict { .. } | Self::Lower { .. } | Self::BrokenHistory { .. } | Self::FinalConflict
        )
    }

    /// Whether it was the node that broke its word. Two tokens under one id were both signed by the house.
    pub const fn is_the_nodes(&self) -> bool {
        self.is_contradiction() && !matches!(self, Self::TokenConflict { .. })
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Unverified(source) => source.code(),
            Self::WrongIssuer { .. } => Code::WrongIssuer,
            Self::Chain(source) => source.code(),
            Self::WrongToken { .. }
            | Self::LeafUnknown { .. }
            | Self::LaneTwice { .. }
            | Self::AcknowledgementMisfit { .. } => Code::InvalidRequest,
            Self::WrongNode => Code::WrongAudience,
            Self::TokenConflict { .. } => Code::TokenConflict,
            Self::LaneBeyondMax { .. } => Code::LaneBeyondMax,
            Self::Older { .. } => Code::ClaimOlder,
            Self::Lower { .. } => Code::ClaimLower,
            Self::SettledDiffers { .. } => Code::SettledDiffers,
            Self::BrokenHistory { .. } => Code::BrokenHistory,
            Self::FinalConflict => Code::Closed,
            Self::TooEarly { .. } => Code::TooEarly,
        }
    }
}
