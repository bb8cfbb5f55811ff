//! Acts on what is the house's own: what it bears, and the key that it signs with.

use comity_wire::{Amount, PublicKey};
use serde::{Deserialize, Serialize};

/// What suspense is short of becomes the house's loss; or, `recovered`, what was written off came back to suspense and is no loss any
/// more. The reason names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteOff {
    pub amount: Amount,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovered: bool,
    pub reason: String,
}

/// The house may sign tokens, quotes and its revocation list with this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerApprove {
    pub key: PublicKey,
    pub reason: String,
}
