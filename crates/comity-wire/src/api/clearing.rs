//! The clearing house's HTTP API under `/v1/` (spec/09-http.md §2). Each request is signed by its caller's key, tag `comity-api-v1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::cbor::Bytes;
use crate::code::Code;
use crate::id::{AwardId, LotId, MandateId, ModelId, NodeId, OrgId, ProjectId, Pseudonym, TokenId};
use crate::key::PublicKey;
use crate::object::Vetting;
use crate::op::Op;
use crate::time::Timestamp;

/// A signed object's bytes; base64url in JSON.
pub type SignedBytes = Bytes<{ 2 * 1024 * 1024 }>;

/// `GET /v1/house`, by anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HouseReply {
    pub house: OrgId,
    /// Since when it takes claims without a gap.
    pub open_since: Timestamp,
    /// Whether its books came back from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

/// Books came back from a backup: what was done between the two times may be missing in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// How many times so far, as far as these books know.
    pub number: u64,
    pub backup_at: Timestamp,
    /// Tells one time from another, also where both came from the same backup.
    pub restored_at: Timestamp,
}

/// `POST /v1/quotes`, by a member key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteRequest {
    pub project: ProjectId,
    pub node: NodeId,
    #[schemars(length(min = 1, max = 8))]
    pub models: Vec<QuoteModel>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteModel {
    pub model: ModelId,
    #[schemars(length(min = 1))]
    pub ops: Vec<Op>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QuoteReply {
    /// A signed [`crate::object::Quote`].
    pub quote: SignedBytes,
}

/// `POST /v1/reservations`, by a member key. The id is the client's and becomes the token's `cti`: a repeat returns the
/// stored token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReservationRequest {
    pub id: TokenId,
    pub quote: SignedBytes,
    pub budget: Amount,
    pub holder: PublicKey,
    /// Seconds from now; at most 24 h.
    #[schemars(range(max = 86_400))]
    pub valid_s: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_024))]
    pub lanes_max: Option<u16>,
    /// Blocks that may follow, 0 to 4.
    #[schemars(range(max = 4))]
    pub depth: u8,
    /// Content ids of grants, as the owner handed them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<crate::digest::Digest>,
    /// Under which mandate it is drawn; a key of role `member` names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateId>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReservationReply {
    pub token: SignedBytes,
    /// Whether this call created it, or it was there.
    pub created: bool,
    pub available: Amount,
    /// Why the token does not state more vetting; empty where it states the most, or was there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<crate::api::person::Unmet>,
}

/// `POST /v1/mandates`, by the member key that redeems it: the one that the mandate names, or that of the first who knows its
/// join code. The key becomes a member of the project. Again by the same key is nothing new.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MandateRequest {
    /// A signed [`crate::object::Mandate`].
    pub mandate: SignedBytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub join_code: Option<String>,
}

/// `POST /v1/mandates`, `GET /v1/mandates/{id}` by who redeemed it or who may sign mandates, and
/// `POST /v1/mandates/{id}/revoke` by the latter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MandateReply {
    pub mandate: MandateId,
    pub project: ProjectId,
    pub signer: PublicKey,
    pub member: PublicKey,
    pub cap: Amount,
    pub cap_per_day: Amount,
    /// What tokens under it hold or have spent.
    pub drawn: Amount,
    /// Of it, under tokens of this day (UTC).
    pub drawn_today: Amount,
    /// Of it, what nodes were paid.
    #[serde(default)]
    pub settled: Amount,
    /// The same for each model that tokens under it were drawn for, and for each that has a cap of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_model: Vec<MandateUse>,
    /// Whether who redeemed it may look at mandates of the same signer, and end them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assists: bool,
    /// Whether somebody has redeemed it; where not, `member` is its signer.
    #[serde(default = "yes")]
    pub redeemed: bool,
    /// Empty: all models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelId>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Why nothing can be drawn under it now, whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
}

fn yes() -> bool {
    true
}

/// What was drawn under a mandate for one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MandateUse {
    /// Left out: tokens for more than one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// The most for this model, where the mandate says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Amount>,
    pub drawn: Amount,
    pub settled: Amount,
    /// Charged calls that nodes have claimed.
    pub calls: u64,
}

/// `POST /v1/mandates/{id}/revoke`; nothing, `{}`, is as if `tokens` were false.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MandateRevokeRequest {
    /// Whether tokens that were drawn under it end, too: they go on the revocation list.
    #[serde(default)]
    pub tokens: bool,
}

/// `POST /v1/claims`, by a transport key of the node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    pub claim: SignedBytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimReply {
    pub token: TokenId,
    pub number: u64,
    /// Newly paid by this claim.
    pub settled: Amount,
    /// Paid under this token so far.
    pub settled_total: Amount,
    /// Receipted but not acknowledged: waits for the challenge window.
    pub unacknowledged: Amount,
    /// What was clamped and kept on record, with its code.
    pub exceptions: Vec<ClaimException>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimException {
    pub code: Code,
    pub amount: Amount,
    pub message: String,
}

/// A lane whose claim proves from another receipt than the one that the house settled last. A `settled_differs` names
/// them all in its field `settled`, so that the node can prove from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettledLane {
    pub leaf: crate::digest::Digest,
    pub lane: u16,
    /// What the house settled last.
    pub n: u64,
}

/// What [`crate::object::ClaimLane::inclusion`] holds: the RFC 6962 path of receipt `settled_n` in the tree of receipts
/// 1…n−1, whose root the newest receipt carries. It shows that this very receipt is in the newest one's history, and
/// that its own `history` lies before it; the house needs nothing but the receipt that it settled last. `receipts` are the
/// ids of at least receipts 1…n−1.
pub fn lane_proof(receipts: &[crate::digest::Digest], n: u64, settled_n: u64) -> Vec<crate::digest::Digest> {
    let place = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
    let earlier = &receipts[..receipts.len().min(place(n))];
    crate::merkle::inclusion_proof(earlier, place(settled_n))
}

/// Whether `proof` is the [`lane_proof`] that receipt `n` with this `history` continues the settled one (spec S-5).
pub fn lane_continues(
    (settled_n, settled): (u64, &crate::digest::Digest),
    settled_history: &crate::digest::Digest,
    (n, history): (u64, &crate::digest::Digest),
    proof: &[crate::digest::Digest],
) -> bool {
    settled_n >= 1
        && crate::merkle::continues(settled_n - 1, settled_history, settled, n.saturating_sub(1), history, proof)
}

/// `POST /v1/finals`, by anyone who holds one: it is signed by the node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinalRequest {
    #[serde(rename = "final")]
    pub final_: SignedBytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FinalReply {
    pub token: TokenId,
    pub refunded: Amount,
    /// Still in escrow for charges that the final names and no claim has settled yet.
    pub in_escrow: Amount,
}

/// `POST /v1/refunds`, by a member key: asks for what a token did not use. `too_early` before the node's final or the
/// token's `settle_by` (rule 8).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    pub token: TokenId,
}

/// `GET /v1/projects/{id}`, by a member key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectReply {
    pub project: ProjectId,
    pub title: String,
    pub vetting: Vetting,
    pub purposes: Vec<String>,
    /// Less what was taken back: unreleased + available + in escrow + settled + expired.
    pub awarded: Amount,
    /// What waits for a report.
    #[serde(default)]
    pub unreleased: Amount,
    /// What lies in the lots and can be drawn, each in its time.
    pub available: Amount,
    pub in_escrow: Amount,
    pub settled: Amount,
    /// What nobody used in its time.
    #[serde(default)]
    pub expired: Amount,
    /// Where the credits come from and until when they can be used, in the order of their ends.
    #[serde(default)]
    pub lots: Vec<LotStatus>,
    /// The newest, at most 1,000: `GET /v1/projects/{id}/tokens` has them all.
    pub tokens: Vec<TokenStatus>,
    /// What each organisation knows the project by.
    pub pseudonyms: Vec<PseudonymAt>,
}

/// A dated part of an award.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LotStatus {
    pub lot: LotId,
    pub award: AwardId,
    pub part: String,
    pub funder: String,
    pub award_number: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listing: String,
    /// `federal`, `institutional`, `donated` or `starter`.
    pub kind: String,
    pub opens_at: Timestamp,
    pub ends_at: Timestamp,
    /// As it was given; less what was taken back: unreleased + available + in escrow + settled + expired.
    pub amount: Amount,
    pub taken_back: Amount,
    pub unreleased: Amount,
    pub available: Amount,
    pub in_escrow: Amount,
    pub settled: Amount,
    pub expired: Amount,
    /// Usable at these owners only; empty: at all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OrgId>,
    /// Usable for these ops only; empty: for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<Op>,
    /// What is left at the end expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub use_or_lose: bool,
    /// Why nothing can be drawn from it now, whatever for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PseudonymAt {
    pub org: OrgId,
    pub subject: Pseudonym,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenStatus {
    pub token: TokenId,
    pub node: NodeId,
    pub budget: Amount,
    pub settled: Amount,
    pub refunded: Amount,
    /// Of the settled: given back by the owner, by credit notes.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub credited: Amount,
    pub expires_at: Timestamp,
    pub settle_by: Timestamp,
    pub closed: bool,
}

/// Whether an amount is left out.
fn is_nothing(amount: &Amount) -> bool {
    amount.is_zero()
}

/// `GET /v1/projects/{id}/tokens`, by a member key: every token of the project, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokensReply {
    pub tokens: Vec<TokenStatus>,
    /// Leads to the next page, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// Where a page begins: opaque, and of no use with another query than the one it came from.
pub type Cursor = String;

/// `GET /v1/earnings`, by a transport key of the node: what each token has brought its owner, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarningsReply {
    pub earnings: Vec<Earning>,
    /// Leads to the next page, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// What the house owes, or owed, for work under one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Earning {
    pub token: TokenId,
    pub budget: Amount,
    /// Posted to the owner's account.
    pub settled: Amount,
    /// Of it: given back by credit notes.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub credited: Amount,
    /// Receipted and not acknowledged: waits for its challenge window.
    pub waiting: Amount,
    /// Claimed above the budget, and never paid.
    pub clamped: Amount,
    pub issued_at: Timestamp,
    pub settle_by: Timestamp,
    pub closed: bool,
}

/// `GET /v1/exceptions`, by a member key or a transport key of the node: what was clamped in claims, in the order of the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionsReply {
    pub exceptions: Vec<Exception>,
    /// Leads to the next page, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// A demand, or a part of one, that the house did not pay and keeps on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exception {
    pub at: Timestamp,
    pub token: TokenId,
    pub code: Code,
    pub amount: Amount,
    pub message: String,
    /// Content id of the claim or final it was in.
    pub evidence: crate::digest::Digest,
}

/// `GET /v1/statement`: one line for each transfer of the caller's account, newest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    pub opening: Amount,
    pub credits: Amount,
    pub debits: Amount,
    pub closing: Amount,
    pub lines: Vec<StatementLine>,
    /// Leads to the next page, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Of a node's, on its last page: what of the closing its organisation's terms make payable (spec/07-settlement.md §7.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payable: Option<Payable>,
}

/// What an owner's terms make of what it earned: payable + not payable = the closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payable {
    /// `recharge`, `commercial`, `agency`, `none`; empty: the house has no terms with it.
    pub terms: String,
    pub payable: Amount,
    pub not_payable: Amount,
    pub reasons: Vec<PayableReason>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PayableReason {
    /// `no_terms`, `ended`, `above_ceiling`, `no_agreement`, `given`.
    pub reason: String,
    pub amount: Amount,
    pub whose_move: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementLine {
    pub at: Timestamp,
    pub kind: String,
    pub amount: Amount,
    pub debit: bool,
    pub reference: String,
}

/// `GET /v1/log`: which log this house writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogReply {
    pub origin: String,
    /// The key its checkpoints are verified under, as a C2SP vkey.
    pub vkey: String,
    /// Entries that are signed and served.
    pub size: u64,
    /// The keys that may cosign.
    pub witnesses: Vec<String>,
    /// Earlier logs of this house.
    pub ended: Vec<LogEnded>,
    /// Why it is neither signed nor served now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogEnded {
    pub origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    pub why: String,
    pub ended_at: Timestamp,
}

/// `GET /v1/log/inclusion?index=…&size=…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogInclusion {
    pub index: u64,
    pub size: u64,
    pub root: crate::digest::Digest,
    /// The data of the leaf.
    pub entry: Bytes<{ crate::log::ENTRY_BYTES_MAX }>,
    /// The same, for people.
    pub said: serde_json::Value,
    /// RFC 6962 §2.1.1, from the leaf up.
    pub proof: Vec<crate::digest::Digest>,
    /// The newest signed checkpoint.
    pub checkpoint: String,
}

/// `GET /v1/log/consistency?from=…&to=…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogConsistency {
    pub from: u64,
    pub to: u64,
    /// Of the tree of `to`.
    pub root: crate::digest::Digest,
    /// RFC 6962 §2.1.2.
    pub proof: Vec<crate::digest::Digest>,
    pub checkpoint: String,
}

/// `POST /v1/log/cosignatures`, by a witness that the house's operator let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosignatureRequest {
    /// Of the checkpoint.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub size: u64,
    /// The signature line, without its line feed.
    #[schemars(length(max = 4_096))]
    pub line: String,
}
