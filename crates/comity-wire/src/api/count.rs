//! Counts: the house asks a node what its own meter says of a period, and tells where that differs from receipts and ledger
//! (spec/07-settlement.md §9). Part of `/v1/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clearing::SignedBytes;
use crate::amount::Amount;
use crate::id::{NodeId, TokenId};
use crate::time::Timestamp;

/// Breaks that a node is told of.
pub const BREAKS_TOLD_MAX: usize = 100;

/// `GET /v1/counts?node=…`, by a transport key of the node: the counts that wait for it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountsReply {
    pub counts: Vec<CountAsked>,
}

/// Tokens that were issued in this period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountAsked {
    pub from: Timestamp,
    pub to: Timestamp,
    pub asked_at: Timestamp,
}

/// `POST /v1/counts`, by a transport key of the node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountRequest {
    /// A signed `count`.
    pub count: SignedBytes,
}

/// `matched` once every page is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountReply {
    /// Pages of this count that the house has.
    pub pages: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<Matched>,
}

/// Owner's meter, receipts and ledger beside each other, over all tokens that a house issued for a node in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Matched {
    pub tokens: u64,
    pub charges: u64,
    /// By the owner's meter.
    pub metered: Amount,
    /// By the newest receipts that were claimed.
    pub receipted: Amount,
    /// What the ledger moved to the owner under these tokens.
    pub settled: Amount,
    /// Differences that time mends: charged and not claimed yet, claimed and not due yet.
    pub in_transit: Amount,
    /// How many breaks there are; `breaks` has the first of them.
    pub differing: u64,
    pub breaks: Vec<Break>,
}

/// A token of which two of the three differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Break {
    pub token: TokenId,
    pub kind: BreakKind,
    /// By how much.
    pub amount: Amount,
    pub whose_move: Party,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakKind {
    /// The meter has a token that the house does not know.
    NotKnown,
    /// Receipts were claimed of a token that the meter does not have.
    NotCounted,
    /// The meter has more than was claimed, and the time for claims is over.
    NotClaimed,
    /// More was claimed than the meter has.
    ClaimedAbove,
    /// The amounts agree, the numbers of charges or lanes do not.
    ChargesDiffer,
    /// Receipts above the token's budget.
    Clamped,
    /// Receipts that came after the close.
    Late,
    /// A tail that a challenge has stopped.
    Stopped,
    /// A dispute keeps it, or took it back.
    Disputed,
    /// The owner gave it back by a credit note.
    Credited,
    /// Receipts that nobody acknowledged, above what the window lets the house pay.
    Unacknowledged,
    /// More was moved than was receipted.
    PaidAbove,
}

/// Who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    Owner,
    House,
    Nobody,
}

/// A node, and what was matched for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MatchOfNode {
    pub node: NodeId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// When the meter was read; absent while no count has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_at: Option<Timestamp>,
    #[serde(flatten)]
    pub matched: Matched,
}
