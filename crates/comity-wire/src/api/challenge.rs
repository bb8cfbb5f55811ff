//! Challenges: the house asks a node to show the receipts of a lane, each with the request that its holder signed for it
//! (spec/07-settlement.md §5). Part of `/v1/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clearing::SignedBytes;
use crate::amount::Amount;
use crate::cbor::Bytes;
use crate::digest::Digest;
use crate::id::TokenId;
use crate::time::Timestamp;

/// The most receipts of one challenge.
pub const ASKED_MAX: usize = 64;
/// How far a lane's numbers may lie apart from its order: a request that is charged as the nth of its lane has a seq of at least n − 127,
/// and of at most 127 below any that was charged before it (spec/05-request.md §6, spec/07-settlement.md S-8).
pub const SEQ_LAG: u64 = 127;
/// The most receipts in one answer.
pub const SHOWN_MAX: usize = 16;

/// Why the house asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeCause {
    /// Drawn from a claim, by the log's next checkpoint.
    Sample,
    /// A member of the project says that what was not acknowledged was not asked for, or not answered.
    Holder,
    /// What nobody acknowledged has stood its time: it is paid once it is shown.
    Tail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeState {
    Open,
    /// Everything that was asked for was shown.
    Answered,
    /// Time ran out.
    Missed,
}

/// One challenge, as node and member see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Challenge {
    pub id: Digest,
    pub token: TokenId,
    pub leaf: Digest,
    pub lane: u16,
    pub cause: ChallengeCause,
    pub state: ChallengeState,
    /// Content id of the claim that brought the newest receipt.
    pub claim: Digest,
    /// Of one that a checkpoint of the log drew: its size. With the claim, anybody can draw again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_size: Option<u64>,
    /// The receipt in whose history the others must lie, and its own total.
    pub newest: u64,
    pub total: Amount,
    /// Numbers of the receipts that are still to be shown, ascending.
    pub left: Vec<u64>,
    /// Of a long tail: µcr of the lane's total whose receipts are still to be shown, ascending. Its receipt is the first with a total of
    /// at least as much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_at: Vec<Amount>,
    /// Of a tail that the house asks for: its signature, by the log's key, without which nobody could foresee the draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<Bytes<64>>,
    /// Until when, if the house stays open.
    pub due_at: Timestamp,
}

/// `GET /v1/challenges?node=…`, by a transport key of the node: those that wait for it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChallengesReply {
    pub challenges: Vec<Challenge>,
    /// Leads to the next page, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<super::clearing::Cursor>,
}

/// `POST /v1/challenges`, by a member of the project: what of a lane is claimed and not acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    pub token: TokenId,
    pub leaf: Digest,
    pub lane: u16,
    #[schemars(length(min = 1, max = 400))]
    pub reason: String,
}

/// `POST /v1/challenges/{id}/answers`, by a transport key of the node. Replies with the challenge.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// At most [`SHOWN_MAX`].
    #[schemars(length(max = 16))]
    pub shown: Vec<Shown>,
}

/// One receipt and what it rests on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    pub receipt: SignedBytes,
    /// The signature base of the request (RFC 9421 §2.5), as its holder signed it.
    pub request: String,
    pub signature: Bytes<64>,
    /// As in a claim: the path of this receipt into the history of the newest one; empty for that one itself.
    pub proof: Vec<Digest>,
    /// The receipt before this one, on whose total its charge goes; none before a lane's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// The receipt before one that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Before {
    pub receipt: SignedBytes,
    /// Its path into the history of the newest receipt.
    pub proof: Vec<Digest>,
}
