//! Projects that are proposed to the clearing house, the code of conduct that each person signs, and the PI's word for a member
//! (spec/09-http.md §2, docs/operating/persons.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cbor::Bytes;
use crate::digest::Digest;
use crate::id::ProjectId;
use crate::key::{PublicKey, SecretKey};
use crate::time::Timestamp;

/// `GET /v1/conduct`, by anybody: what has to be signed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConductReply {
    pub version: String,
    /// SHA-256 of `body`.
    pub digest: Digest,
    pub body: String,
}

/// `POST /v1/conduct`, by a key of a person: the person signs the code of conduct. Again is nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConductRequest {
    #[schemars(length(min = 1, max = 32))]
    pub version: String,
    pub digest: Digest,
    /// Ed25519 by the calling key over [`conduct_text`].
    pub signature: Bytes<64>,
}

/// `POST /v1/projects`, by a key of a person, who will be its PI. The id is the caller's: the same again is nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalRequest {
    pub id: ProjectId,
    #[schemars(length(min = 1, max = 96))]
    pub title: String,
    /// What is to be found out, and why these models.
    #[schemars(length(min = 1, max = 8_192))]
    pub purpose: String,
    /// Codes of use, as GA4GH DUO has them: what owners' policies ask for as purposes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub use_terms: Vec<String>,
    /// What kinds of data will be sent to models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub data_classes: Vec<String>,
    /// Keys of those who will draw under mandates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub members: Vec<PublicKey>,
}

/// `POST /v1/projects/{id}/sponsorships`, by a PI or co-PI: their word for a member. A later one stands in place of an earlier one,
/// and one that ends at once takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SponsorRequest {
    pub member: PublicKey,
    /// At most 366 days from now.
    pub until: Timestamp,
    /// Ed25519 by the calling key over [`sponsor_text`].
    pub signature: Bytes<64>,
}

/// What is signed for a code of conduct.
pub fn conduct_text(version: &str, digest: &Digest) -> Vec<u8> {
    [b"comity/clearing/conduct/v1".as_slice(), digest.as_bytes(), version.as_bytes()].concat()
}

/// What a PI signs for a member.
pub fn sponsor_text(project: ProjectId, member: &PublicKey, until: Timestamp) -> Vec<u8> {
    let until = until.0.to_be_bytes();
    [b"comity/clearing/sponsor/v1".as_slice(), project.as_bytes(), member.as_bytes(), &until].concat()
}

impl ConductRequest {
    pub fn signed(version: &str, digest: Digest, key: &SecretKey) -> Self {
        let signature = signature(&conduct_text(version, &digest), key);
        Self { version: version.to_owned(), digest, signature }
    }
}

impl SponsorRequest {
    pub fn signed(project: ProjectId, member: PublicKey, until: Timestamp, key: &SecretKey) -> Self {
        Self { member, until, signature: signature(&sponsor_text(project, &member, until), key) }
    }
}

/// Whether `key` signed this text.
pub fn stands(text: &[u8], signature: &Bytes<64>, key: &PublicKey) -> bool {
    <[u8; 64]>::try_from(&signature[..]).is_ok_and(|bytes| key.verify(text, &bytes).is_ok())
}

fn signature(text: &[u8], key: &SecretKey) -> Bytes<64> {
    Bytes::new(key.sign(text).to_vec()).expect("a signature has 64 bytes")
}
