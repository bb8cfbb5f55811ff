//! Persons at the clearing house (spec/09-http.md §2, docs/operating/persons.md): who a key belongs to, what vetting it gives for which
//! project, and what is missing for more, with whose move it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::clearing::SignedBytes;
use crate::cbor::Bytes;
use crate::id::{MemberId, ProjectId};
use crate::key::PublicKey;
use crate::object::Vetting;
use crate::time::Timestamp;

/// Something that a higher vetting asks, and nobody has shown yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unmet {
    /// `login`, `conduct`, `proofing`, `affiliation`, `mfa`, `sponsor`, `pi`, `accepted`, `stopped`.
    pub requirement: String,
    pub why: String,
    /// `person`, `pi`, `institution`, `house`.
    pub whose_move: String,
    /// What they do, as a command where there is one.
    pub how: String,
}

/// What the house states of a key for a project now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    pub vetting: Vetting,
    /// The version of the rule that it was computed by.
    pub policy: u32,
    /// For the next level; empty where there is none above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<Unmet>,
    /// When it falls if nobody does anything; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// `GET /v1/whoami`, by any key: what the house knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoamiReply {
    pub key: PublicKey,
    /// Left out: nobody has said whose key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<MemberId>,
    /// How issuers call this person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// All keys of the person: what is not yours should be revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyStatus>,
    /// Of this key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<ProjectOfKey>,
    /// In the reply to a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensStopped>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    pub issuer: String,
    /// Stable at this issuer, and never an e-mail address.
    pub subject: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyStatus {
    pub key: PublicKey,
    pub bound_at: Timestamp,
    /// `login` or `operator`.
    pub bound_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectOfKey {
    pub project: ProjectId,
    pub title: String,
    /// `pi`, `co_pi`, `manager`, `member`.
    pub role: String,
    pub level: Level,
}

/// What became of the tokens that a revoked key had drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokensStopped {
    /// On the house's revocation list, now or before: no node takes new work under them.
    pub stopped: u64,
    /// For which the list has no room. They end by themselves, within a day.
    pub left: u64,
    /// Those that can be ended at their nodes, so that what they have not spent goes home now; the largest [`TOKENS_SHOWN_MAX`]. Asked again,
    /// it is those that are not ended yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<SignedBytes>,
}

/// Tokens that one reply shows.
pub const TOKENS_SHOWN_MAX: usize = 64;

/// `POST /v1/keys/revoke`, by a key of the same person: the key acts for nobody any more, and what it drew is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRevokeRequest {
    pub key: PublicKey,
}

/// `GET /v1/projects/{id}/missing`, by a member key: all that is missing in a project, and whose move it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingReply {
    pub project: ProjectId,
    pub title: String,
    pub members: Vec<MemberLevel>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberLevel {
    pub key: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<MemberId>,
    pub role: String,
    pub level: Level,
}

/// `POST /v1/keys`, by a key of the person: another key is the same person's, on another device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyAddRequest {
    pub key: PublicKey,
    /// Ed25519 by that key over `comity/clearing/person-key/v1` and the person's 16 bytes: nobody is made another's device unasked.
    pub proof: Bytes<64>,
}

/// What a key signs to be a person's.
pub fn key_proof(person: MemberId) -> Vec<u8> {
    [b"comity/clearing/person-key/v1".as_slice(), person.as_bytes()].concat()
}
