//! Advisories: what a clearing house tells owners of a project whose flags are spread over several of them
//! (spec/07-settlement.md §10). Part of `/v1/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Pseudonym;
use crate::time::Timestamp;

/// `GET /v1/advisories?node=…`, by a transport key of the node: those that are news to its owner, by their subjects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdvisoriesReply {
    pub advisories: Vec<Advisory>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Over several owners together, and at none of them alone, a project was flagged for more than its purposes explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advisory {
    /// The project, as this owner knows it.
    pub subject: Pseudonym,
    /// A category's name; one that is not known is not acted on.
    pub category: String,
    /// Flags within 24 hours, at least: 1, 2, 5, 10, … times the bound.
    pub count: u64,
    /// Flags that are allowed at one owner.
    pub bound: u64,
    pub band: AdvisoryBand,
    /// When it was first so, of a day (UTC).
    pub first_at: Timestamp,
    /// When it was last so.
    pub at: Timestamp,
    /// Until when it is news.
    pub until: Timestamp,
}

/// How far above the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdvisoryBand {
    Medium,
    /// More than five times the bound.
    High,
}

/// A category over all projects and owners, as the house's operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CategorySum {
    pub category: String,
    /// Left out where fewer than five projects were flagged: nobody is to be found in a sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<Sum>,
}

/// Counts that five projects or more are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sum {
    pub projects: u64,
    pub owners: u64,
    pub flags: u64,
}
