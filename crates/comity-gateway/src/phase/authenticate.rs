//! Who asks: a chain that verifies, and a request that its leaf's holder signed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use comity_http::Refusal;
use comity_token::request::header;
use comity_token::signature::Target;
use comity_token::{Capability, Denied, VerifiedRequest, parse_request, parse_request_of};
use comity_wire::object::Chain;
use comity_wire::{Code, Digest, Timestamp, TokenId};
use http::HeaderMap;
use http::request::Parts;

use crate::acknowledge;
use crate::gateway::Inner;
use crate::refusal;
use crate::routes::Route;
use crate::spend::{LaneKey, Proof, Slot};
use crate::watch::Trail;

/// A request whose signature and chain stand, now.
pub(crate) struct Authenticated {
    pub(crate) route: &'static Route,
    pub(crate) capability: Arc<Capability>,
    pub(crate) request: VerifiedRequest,
    pub(crate) body: Bytes,
    /// What came in header `comity-acknowledgement`.
    pub(crate) acknowledgement: Option<Proof>,
    pub(crate) now: Timestamp,
    pub(crate) trail: Trail,
}

impl Authenticated {
    pub(crate) fn token(&self) -> TokenId {
        self.capability.token().id
    }

    pub(crate) fn key(&self) -> LaneKey {
        let authority = self.request.authority();
        LaneKey { leaf: authority.leaf, lane: authority.lane }
    }

    pub(crate) fn slot(&self) -> Slot {
        Slot { seq: self.request.authority().seq, item: 0 }
    }
}

/// The right that a request's headers name: the chain that comes along, else one that was sent before. What is wrong with
/// a chain is said before what is wrong with the request (spec/04-token.md §4.2).
pub(crate) async fn capability(inner: &Inner, parts: &Parts) -> Result<Arc<Capability>, Refusal> {
    let now = inner.now();
    let denied = |denied: Denied| refusal::denied(&denied, now);
    if let Some(bytes) = chain_header(&parts.headers)? {
        return inner.chains.admit(&bytes, &*inner.directory, inner.node, now).map_err(denied);
    }
    let leaf = parts.headers.get(header::TOKEN_REF).and_then(|value| Digest::from_sf(value.to_str().ok()?));
    let Some(leaf) = leaf else {
        // Refused for its form: no body could mend it.
        let query = parts.uri.query().unwrap_or("");
        let unsigned = parse_request(parts.method.as_str(), parts.uri.path(), query, &parts.headers, &[]);
        let refused = unsigned.err().unwrap_or(Denied::Header { header: header::TOKEN_REF });
        return Err(denied(refused));
    };
    inner.chain(leaf).await?.ok_or_else(|| {
        Refusal::new(Code::TokenUnknown, "this node does not hold that token; send it once in header comity-token")
            .with("whose_move", "caller")
    })
}

pub(crate) async fn authenticate(
    inner: &Inner,
    route: &'static Route,
    parts: &Parts,
    body: Bytes,
    capability: Arc<Capability>,
    trail: Trail,
) -> Result<Box<Authenticated>, Refusal> {
    let now = inner.now();
    let denied = |denied: Denied| refusal::denied(&denied, now);
    let query = parts.uri.query().unwrap_or("");
    let target = Target { method: parts.method.as_str(), path: parts.uri.path(), query };
    let unverified = parse_request_of(capability.known_holder(), target, &parts.headers, &body).map_err(denied)?;
    if unverified.authority().leaf != capability.leaf() {
        let message = "comity-token-ref names another leaf than the token that was sent ends in";
        return Err(Refusal::new(Code::WrongKey, message).with("whose_move", "caller"));
    }
    let request = unverified.verify(capability.holder(), now).map_err(denied)?;
    let root = capability.token().id();
    inner.ledger.load(capability.token().id, root).await.map_err(|error| refusal::store(&error))?;
    let acknowledgement = match sf_bytes(&parts.headers, header::ACKNOWLEDGEMENT)? {
        Some(bytes) => Some(acknowledge::prove(inner, &bytes, std::slice::from_ref(&capability)).await?),
        None => None,
    };
    Ok(Box::new(Authenticated { route, capability, request, body, acknowledgement, now, trail }))
}

/// The chain in header `comity-token`.
pub(crate) fn chain_header(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Refusal> {
    let bytes = sf_bytes(headers, header::TOKEN)?;
    if bytes.as_ref().is_some_and(|bytes| bytes.len() > Chain::BYTES_MAX) {
        return Err(Refusal::new(Code::TooLarge, "the token with its blocks is larger than any may be"));
    }
    Ok(bytes)
}

/// A structured-field byte sequence, `:base64:` (RFC 9651 §3.3.5); at most one line of it.
fn sf_bytes(headers: &HeaderMap, name: &'static str) -> Result<Option<Vec<u8>>, Refusal> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let malformed =
        || Refusal::new(Code::Malformed, format!("header {name} is not one ':base64:'")).with("whose_move", "caller");
    if lines.next().is_some() {
        return Err(malformed());
    }
    let inner = line.to_str().ok().and_then(|text| text.strip_prefix(':')?.strip_suffix(':'));
    inner.and_then(|text| STANDARD.decode(text).ok()).map(Some).ok_or_else(malformed)
}
