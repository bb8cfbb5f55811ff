//! Heads of what an owner's people decided: brought to the house, which logs them; and the proof that an event is under one
//! (spec/11-access.md §11.9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clearing::SignedBytes;
use crate::digest::Digest;
use crate::id::{NodeId, OrgId};
use crate::time::Timestamp;

/// Steps of a path, or of a proof of consistency.
pub const STEPS_MAX: usize = 64;
/// Events of which one reply says since when they stand in a house's log.
pub const SINCE_MAX: u64 = 32;

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

/// What the two routes of proofs are asked.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProofAsked {
    /// The first event of `since`; 1 where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Heads that this house has in its log are meant, wherever there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub house: Option<OrgId>,
}

/// `GET /comity/v1/access/applications/{id}/proof` and `GET /comity/v1/access/cases/{id}/proof`: that the newest sealed event of a log is
/// under a head that the owner cannot take back, and since when each event is.
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
    /// For each event from the one that was asked for, at most [`SINCE_MAX`]: where it stands under the first head that a house has in
    /// its log. What no house has yet is left out.
    #[serde(default)]
    pub since: Vec<Since>,
    /// The heads that `since` names.
    #[serde(default)]
    pub heads: Vec<FirstHead>,
    /// From where to ask for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One act of an owner's register, as the owner hands it to whoever asks (§11.9): that it is under a head, and since when.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActProof {
    /// Whose register.
    pub node: NodeId,
    /// The act's bytes.
    pub text: String,
    /// Of this act: `n` is its number, and `since` has no other.
    pub proof: DecisionProof,
}

/// An event under the first logged head over it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Since {
    /// Which event.
    pub n: u64,
    /// Its link.
    pub link: Digest,
    /// The number of the head.
    pub head: u64,
    /// Its leaf in that head's tree, from 0.
    pub leaf: u64,
    /// From the leaf to that head's root.
    pub path: Vec<Digest>,
}

/// A head, and where houses have it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FirstHead {
    /// A signed `decision-head`.
    pub head: SignedBytes,
    /// Where houses have it in their logs.
    pub logged: Vec<Logged>,
}

/// A head in a house's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Logged {
    pub house: OrgId,
    pub index: u64,
}
