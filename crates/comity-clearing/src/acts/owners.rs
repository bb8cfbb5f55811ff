//! Acts about owners: how they are paid, and that they were.

use comity_wire::{Amount, OrgId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::owners::Basis;
use crate::recharge::ScheduleRate;

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

/// A recharge owner's published rates, a version of a schedule (2 CFR 200.468).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerSchedule {
    pub owner: OrgId,
    /// What terms call it.
    pub schedule: String,
    pub from: Timestamp,
    /// Who approved it, and where that is written.
    pub approved_by: String,
    pub fiscal_year: String,
    /// What the year is expected to cost.
    pub costs: Amount,
    pub rates: Vec<ScheduleRate>,
}

/// What a fiscal year did cost a recharge owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerCosts {
    pub owner: OrgId,
    pub fiscal_year: String,
    pub from: Timestamp,
    /// The first moment that does not belong to it.
    pub until: Timestamp,
    pub costs: Amount,
    pub evidence: String,
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

/// Earnings become credit for a project of the owner's own. Owner and number name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub owner: OrgId,
    pub project: ProjectId,
    pub amount: Amount,
    pub number: String,
    /// Of what others' projects paid. What the owner's own paid keeps the ends of its lots.
    pub ends_at: Timestamp,
}

/// Whose project it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectOf {
    pub project: ProjectId,
    pub organisation: OrgId,
    pub reason: String,
}
