//! Credit notes: an owner gives back of what it was paid for a token (spec/07-settlement.md §11). Part of `/v1/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clearing::SignedBytes;
use crate::amount::Amount;
use crate::digest::Digest;
use crate::id::{CreditNoteId, TokenId};
use crate::time::Timestamp;

/// `POST /v1/credit-notes`, by a transport key of the node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditNoteRequest {
    /// A signed `credit-note`.
    pub note: SignedBytes,
}

/// What was done. The same note again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreditNoteReply {
    pub id: CreditNoteId,
    /// The note's content id as the log has it: the evidence of its transfers.
    pub content: Digest,
    pub token: TokenId,
    pub amount: Amount,
    /// Of it: went home to the lots that paid.
    pub returned: Amount,
    /// Of it: went to the house, which had paid it from suspense.
    pub to_suspense: Amount,
    /// What the owner then had left of the token.
    pub left: Amount,
    pub taken_at: Timestamp,
}
