//! Why a caller or an object is turned away before anything is held, forwarded or paid.

use comity_wire::object::RevokedKind;
use comity_wire::{Code, Digest, Malformed, ModelId, NodeId, Op, OrgId, Timestamp, TokenId, Unverified};

/// A refusal: the first fault in the order of spec/04-token.md §5 and spec/05-request.md §4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    #[error("chain is malformed")]
    Chain(#[source] Malformed),
    #[error(transparent)]
    Object(#[from] Unverified),
    #[error("block {index} is malformed or not signed by the holder before it")]
    Block { index: usize, source: Unverified },
    #[error("token asks for roster version {needs}, this side has {have}; retry once it has caught up")]
    RosterBehind { needs: u64, have: u64 },
    #[error("the roster this side has ended at {at}; it needs a newer one")]
    RosterExpired { at: Timestamp },
    #[error("token's key is not an issuer key of {issuer} for it: {why}")]
    WrongIssuer { issuer: OrgId, why: &'static str },
    #[error("block in place {place} says it is number {index}")]
    BlockOrder { place: usize, index: usize },
    #[error("block {index} does not follow what stands before it")]
    BlockSpliced { index: usize },
    #[error("block {index} widens the right before it: {what}")]
    BlockWidens { index: usize, what: &'static str },
    #[error("token is for {audience}, this is {node}")]
    WrongAudience { audience: NodeId, node: NodeId },
    #[error("the right ended at {at}; draw a new token")]
    Expired { at: Timestamp },
    #[error("token is not valid before {from}")]
    NotYetValid { from: Timestamp },
    #[error("no revocation list of {issuer} that is younger than a day; retry once this node has one")]
    StandingStale { issuer: OrgId },
    #[error("{kind} {subject} was revoked")]
    Revoked { kind: RevokedKind, subject: String },
    #[error("token's scope does not have model {model}")]
    ModelNotInScope { model: ModelId },
    #[error("token's scope does not have {op} of {model}")]
    OpNotInScope { model: ModelId, op: Op },
    #[error("request is not signed; sign it with the holder's key (tag {tag})")]
    Unsigned { tag: &'static str },
    #[error("signature does not cover exactly what it must, in order: see {component}")]
    NotCovered { component: &'static str },
    #[error("header {header} is not in its one form")]
    Header { header: &'static str },
    #[error("keyid is not an Ed25519 did:key that may sign")]
    InvalidKey,
    #[error("body is not the one whose digest was signed")]
    BodyAltered,
    #[error("request is not signed by the key that must sign it")]
    WrongKey,
    #[error("signature of the request does not verify")]
    BadSignature,
    #[error("request was signed at {created}, here it is {now}; 60 s are allowed")]
    Stale { created: Timestamp, now: Timestamp },
    #[error("object is about token {found}, not {expected}")]
    OtherToken { found: TokenId, expected: TokenId },
    #[error("object is another organisation's or project's than the token's")]
    OtherProject,
    #[error("object is signed for node {found}, not {expected}")]
    OtherNode { found: NodeId, expected: NodeId },
    #[error("no key on the path to leaf {leaf} has signed")]
    NotOnPath { leaf: Digest },
}

impl Denied {
    /// The stable code that outsiders get (spec/errors.md).
    pub fn code(&self) -> Code {
        match self {
            Self::Chain(source) => source.code(),
            Self::Object(source) | Self::Block { source, .. } => source.code(),
            Self::RosterBehind { .. } => Code::RosterBehind,
            Self::RosterExpired { .. } => Code::RosterExpired,
            Self::WrongIssuer { .. } | Self::OtherNode { .. } => Code::WrongIssuer,
            Self::BlockOrder { .. } => Code::BlockOrder,
            Self::BlockSpliced { .. } => Code::BlockSpliced,
            Self::BlockWidens { .. } => Code::BlockWidens,
            Self::WrongAudience { .. } => Code::WrongAudience,
            Self::Expired { .. } => Code::Expired,
            Self::NotYetValid { .. } => Code::NotYetValid,
            Self::StandingStale { .. } => Code::StandingStale,
            Self::Revoked { .. } => Code::Revoked,
            Self::ModelNotInScope { .. } => Code::ModelNotInScope,
            Self::OpNotInScope { .. } => Code::OpNotInScope,
            Self::Unsigned { .. } => Code::Unsigned,
            Self::NotCovered { .. } => Code::NotCovered,
            Self::Header { .. } => Code::Malformed,
            Self::InvalidKey => Code::InvalidKey,
            Self::BodyAltered => Code::BodyAltered,
            Self::WrongKey | Self::OtherToken { .. } | Self::NotOnPath { .. } => Code::WrongKey,
            Self::OtherProject => Code::NotYours,
            Self::BadSignature => Code::BadSignature,
            Self::Stale { .. } => Code::Stale,
        }
    }
}
