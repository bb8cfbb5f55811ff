//! A node's own routes under `/comity/v1/` (spec/09-http.md §3), beside OpenAI's under `/v1/`.

use serde::{Deserialize, Serialize};

use super::clearing::SignedBytes;
use crate::amount::Amount;
use crate::digest::Digest;
use crate::id::{GrantId, ModelId, NodeId, OrgId, TokenId};
use crate::key::PublicKey;
use crate::op::Op;
use crate::time::Timestamp;

/// `POST /comity/v1/tokens`: an own-node token of budget 0 (rule 9). Signed by the holder key it names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnTokenRequest {
    pub holder: PublicKey,
    pub models: Vec<ModelId>,
    pub valid_s: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnTokenReply {
    pub token: SignedBytes,
}

/// `POST /comity/v1/acknowledgements`. No signature but the acknowledgement's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeRequest {
    /// The chain whose leaf or ancestor signs; the node knows it already where any request used it.
    pub acknowledgement: SignedBytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcknowledgeReply {
    pub token: TokenId,
    pub lanes: usize,
}

/// `GET /comity/v1/lanes?token=…`, signed by the root holder or a leaf (tag `comity-api-v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanesReply {
    pub token: TokenId,
    pub charged: Amount,
    pub held: Amount,
    pub budget: Amount,
    pub closed: bool,
    pub lanes: Vec<LaneStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    pub leaf: Digest,
    pub lane: u16,
    pub n: u64,
    pub seq_highest: u64,
    pub total: Amount,
    pub acknowledged: Amount,
    /// The newest receipt.
    pub receipt: Option<SignedBytes>,
}

/// `GET /comity/v1/plans?token=…`, signed by a holder on the path: what this owner approved for the token's project and would
/// count now, and how far each was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlansReply {
    /// The newest approval first.
    pub plans: Vec<Approval>,
}

/// A grant that approves a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub grant: GrantId,
    /// The grant's content id: what a token has to name (`grants` of a reservation).
    pub content: Digest,
    pub plan: Digest,
    /// Left out where this node does not have the plan: then nothing can be done under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub models: Vec<ModelId>,
    pub executions: u32,
    /// That have not begun.
    pub left: u32,
    pub not_after: Timestamp,
    /// Each execution that has begun, the newest first.
    pub runs: Vec<RunStatus>,
}

/// An execution of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    pub run: String,
    pub begun_at: Timestamp,
    /// From then on no call counts in it.
    pub ends_at: Timestamp,
    /// What was charged of each op.
    pub ops: Vec<RunOp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOp {
    pub op: Op,
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// `GET /comity/v1/terms/{digest}`: terms of use that this owner asks for, or asked for. Whoever reads them reckons the digest again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsReply {
    pub terms: Digest,
    pub org: OrgId,
    pub title: String,
    pub text: String,
}

/// `POST /comity/v1/agreements`, signed by the root holder (tag `comity-api-v1`): the project agrees to terms of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementRequest {
    pub agreement: SignedBytes,
}

/// What both routes answer. `GET /comity/v1/agreements?token=…`, signed by a holder on the path: what the token's project agreed to at this
/// owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementsReply {
    /// The newest first.
    pub agreements: Vec<Agreed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    pub terms: Digest,
    /// Left out where the text is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub at: Timestamp,
    pub agreement: SignedBytes,
}

/// `GET /comity/v1/receipts?token=…&leaf=…&lane=…&seq=…`, signed by the holder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptReply {
    pub receipt: SignedBytes,
}

/// `POST /comity/v1/finals`, signed by the root holder, or of a revoked token by whoever shows it (tag `comity-api-v1`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalAsk {
    pub token: TokenId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FinalAnswer {
    #[serde(rename = "final")]
    pub final_: SignedBytes,
    /// Whether the house has it already.
    pub delivered: bool,
}

/// `GET /comity/v1/node`: what a caller needs to check who answers. Unsigned; the certificate inside is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReply {
    pub node: NodeId,
    pub certificate: SignedBytes,
}

/// `GET /comity/v1/search?q=…`, served by nodes and hubs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchQuery {
    /// Words; each must occur.
    pub q: String,
    pub org: Option<String>,
    pub op: Option<Op>,
    pub language: Option<String>,
    pub task: Option<String>,
    pub residency: Option<String>,
    pub context_min: Option<u32>,
    pub params_max: Option<u64>,
    pub price_max: Option<u64>,
    /// Only models of this release.
    pub release: Option<Digest>,
    /// `relevance` (default), `price`, `context`, `newest`.
    pub sort: Option<String>,
    pub limit: Option<u32>,
    pub offset: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchReply {
    /// Signed summaries, best first, for the caller to verify under its own roster.
    pub hits: Vec<SearchHit>,
    pub total: usize,
    /// Digest of the heads this answer rests on.
    pub as_of: Digest,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchHit {
    pub model: ModelId,
    pub org: OrgId,
    pub summary: SignedBytes,
    /// Age of the author's head in seconds.
    pub head_age_s: u64,
    /// That head: its writer's certificate is what the summary is verified under. Absent in replies of older nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadFrame>,
}

/// `GET /comity/v1/heads?org=…`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadsQuery {
    /// An organisation's name on the roster; left out, it is all of them.
    pub org: Option<String>,
}

/// `GET /comity/v1/heads`: the authors' newest heads with their writer certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadsReply {
    pub roster_version: u64,
    pub heads: Vec<HeadFrame>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadFrame {
    pub head: SignedBytes,
    pub writer: SignedBytes,
}

/// `GET /comity/v1/frames/{digest}`: the bytes of an index (by SHA-256) or signed object (by content id).
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
