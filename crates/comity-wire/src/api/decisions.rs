//! Heads of what an owner's people decided: brought to the house, which logs them; and the proof that an event is under one
//! (spec/11-access.md §11.9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clearing::SignedBytes;
use crate::digest::Digest;
use crate::id::OrgId;
use crate::time::Timestamp;

/// Steps of a path, or of a proof of consistency.
pub const STEPS_MAX: usize = 64;

/// `POST /v1/decisions`, by a transport key of the node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionsRequest {
    /// A signed `decision-head`.
    pub head: SignedBytes,
    /// That its tree goes on from the one that the house has (RFC 6962 §2.1.2); empty where the house has none of this log.
    #[serde(default)]
    pub consistency: Vec<Digest>,
}

/// `GET /v1/decisions?node=…`, by a transport key of the node, and the reply where one was brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionsReply {
    /// The newest head of the node that the house has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<HeadKnown>,
}

/// A head that a house has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeadKnown {
    pub n: u64,
    pub log: u64,
    pub size: u64,
    pub root: Digest,
    /// Its content id.
    pub content: Digest,
    pub taken_at: Timestamp,
    /// Its place in the house's log, from 0; absent until it is sealed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

/// `GET /comity/v1/access/applications/{id}/proof` and `GET /comity/v1/access/cases/{id}/proof`: that the newest sealed event of a log is
/// under a head that the owner cannot take back.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionProof {
    /// A signed `decision-head`.
    pub head: SignedBytes,
    /// Which event of the application or the case.
    pub n: u64,
    /// Its link.
    pub link: Digest,
    /// Its leaf in the tree, from 0.
    pub leaf: u64,
    /// From the leaf to the head's root (RFC 6962 §2.1.1).
    pub path: Vec<Digest>,
    /// Where houses have the head in their logs.
    pub logged: Vec<Logged>,
}

/// A head in a house's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Logged {
    pub house: OrgId,
    pub index: u64,
}
