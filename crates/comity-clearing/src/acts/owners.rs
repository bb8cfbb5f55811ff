//! Acts about owners: how they are paid, and that they were.

use comity_wire::{Amount, OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::owners::Basis;

/// How an owner is paid for what is sold from a moment on, until other terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerTerms {
    pub owner: OrgId,
    pub from: Timestamp,
    pub basis: Basis,
    /// They also pay what was sold before them and no terms paid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arrears: bool,
}

/// An owner was paid outside of these books. Owner and payment name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remit {
    pub owner: OrgId,
    pub amount: Amount,
    /// What names the payment where it was made.
    pub payment: String,
    pub paid_on: Timestamp,
}

/// Owners are paid all that is due of what they earned up to the end of a closed period. Its name is that of each payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayRun {
    pub run: String,
    /// The first moment that does not belong to the period.
    pub until: Timestamp,
    pub paid_on: Timestamp,
    /// Empty: all to whom something is due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OrgId>,
}
