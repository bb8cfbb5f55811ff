//! Signed calls that spend nothing: to the clearing house and to a node's control routes (spec/05-request.md §6). Their
//! tag keeps them apart from payment authorities.

use comity_wire::{PublicKey, SecretKey, Timestamp};
use http::HeaderMap;

use crate::denied::Denied;
use crate::signature::{self, API, Target};

/// Who called. Whether that key may is the caller's question; so is whether the nonce was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiCaller {
    pub key: PublicKey,
    pub nonce: [u8; 16],
    pub created: Timestamp,
}

/// The headers `content-digest`, `signature-input`, `signature`.
pub fn sign_api(
    method: &str,
    path: &str,
    query: &str,
    body: &[u8],
    created: Timestamp,
    nonce: [u8; 16],
    key: &SecretKey,
) -> Vec<(&'static str, String)> {
    let digest = signature::content_digest(body);
    let signed = API.sign(Target { method, path, query }, &[&digest], created, nonce, key);
    std::iter::once((signature::CONTENT_DIGEST, digest)).chain(signed).collect()
}

/// Verifies under the key that `keyid` names.
///
/// # Errors
/// As [`crate::parse_request`], then `bad_signature`, `stale`.
pub fn verify_api(
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<ApiCaller, Denied> {
    let (presented, values) = API.present(Target { method, path, query }, headers, None)?;
    signature::check_body(values[0], body)?;
    let signature::Parameters { created, nonce, key } = presented.parameters;
    presented.verify(&key, now)?;
    Ok(ApiCaller { key, nonce, created })
}
