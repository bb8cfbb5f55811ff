//! The signed request: a payment authority (spec/05-request.md).

use comity_wire::cbor::Writer;
use comity_wire::{Amount, Digest, PublicKey, SecretKey, Timestamp};
use http::HeaderMap;

use crate::denied::Denied;
use crate::signature::{self, Known, Presented, REQUEST, Target};

pub mod header {
    //! Header names of requests and replies.

    /// The chain, `:base64:`; sent once, and again on `token_unknown`.
    pub const TOKEN: &str = "comity-token";
    /// The leaf's content id, `:base64:`.
    pub const TOKEN_REF: &str = "comity-token-ref";
    pub const LANE: &str = "comity-lane";
    pub const SEQ: &str = "comity-seq";
    pub const TARIFF: &str = "comity-tariff";
    pub const MAX_CHARGE: &str = "comity-max-charge";
    pub const ACKNOWLEDGEMENT: &str = "comity-acknowledgement";
    pub const RECEIPT: &str = "comity-receipt";
    pub const COST: &str = "comity-cost";
    pub const REMAINING: &str = "comity-remaining";
    pub const RESERVED: &str = "comity-reserved";
    pub const IGNORED: &str = "comity-ignored";
}

/// What a holder signs to have one request charged, at most to `max_charge`. `created` and the door lie outside it, so
/// that a retry is the same authority (rule 3).
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// Content id of the last block, of the token where there is none.
    pub leaf: Digest,
    pub lane: u16,
    /// From 1.
    pub seq: u64,
    pub method: String,
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// SHA-256 of the body.
    pub content_digest: Digest,
    /// Content id of the tariff.
    pub tariff: Digest,
    pub max_charge: Amount,
    /// Secret between holder and node: it salts the digests in receipts.
    pub nonce: [u8; 16],
}

/// A request whose body is the one that was signed, if anybody has signed.
#[derive(Clone, Debug)]
pub struct UnverifiedRequest {
    authority: Authority,
    presented: Presented,
}

/// A request that its holder has signed, lately.
#[derive(Clone, Debug)]
pub struct VerifiedRequest {
    authority: Authority,
    id: Digest,
    presented: Presented,
}

impl Authority {
    /// Names the authority: SHA-256 of the CBOR array of its parts.
    pub fn id(&self) -> Digest {
        let mut w = Writer::default();
        w.array(11);
        w.text("comity/v1/request");
        w.bytes(self.leaf.as_bytes());
        w.uint(u64::from(self.lane));
        w.uint(self.seq);
        w.text(&self.method);
        w.text(&self.path);
        w.text(&self.query);
        w.bytes(self.content_digest.as_bytes());
        w.bytes(self.tariff.as_bytes());
        w.uint(self.max_charge.ucr().unsigned_abs());
        w.bytes(&self.nonce);
        Digest::of(&w.into_bytes())
    }

    fn target(&self) -> Target<'_> {
        Target { method: &self.method, path: &self.path, query: &self.query }
    }

    /// The covered fields' values, in the profile's order.
    fn values(&self) -> [String; 6] {
        [
            signature::content_digest_of(&self.content_digest),
            self.leaf.to_sf(),
            self.lane.to_string(),
            self.seq.to_string(),
            self.tariff.to_sf(),
            self.max_charge.ucr().to_string(),
        ]
    }
}

/// The nonce stays out of logs: it unsalts receipts.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { leaf, lane, seq, method, path, max_charge, .. } = self;
        write!(f, "Authority({method} {path} leaf {leaf} lane {lane} seq {seq} max {max_charge})")
    }
}

/// All headers that the signature needs; the token itself (`comity-token`) is not among them.
pub fn sign_request(authority: &Authority, created: Timestamp, key: &SecretKey) -> Vec<(&'static str, String)> {
    let values = authority.values();
    let refs: Vec<&str> = values.iter().map(String::as_str).collect();
    let signed = REQUEST.sign(authority.target(), &refs, created, authority.nonce, key);
    REQUEST.fields.iter().copied().zip(values).chain(signed).collect()
}

/// Reads a signed request. Nothing is verified but that the body has the digest that is covered.
///
/// # Errors
/// `unsigned`, `not_covered`, `malformed`, `invalid_key`, `body_altered`.
pub fn parse_request(
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<UnverifiedRequest, Denied> {
    read(Target { method, path, query }, headers, body, None)
}

/// [`parse_request`] where the key that should have signed is known: to read it as a point of the curve costs a seventh of a verification,
/// and to write it as text not much less.
///
/// # Errors
/// As [`parse_request`]. Another key is no error here: [`UnverifiedRequest::verify`] refuses it.
pub fn parse_request_of(
    holder: &Known,
    target: Target<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<UnverifiedRequest, Denied> {
    read(target, headers, body, Some(holder))
}

fn read(
    target: Target<'_>,
    headers: &HeaderMap,
    body: &[u8],
    likely: Option<&Known>,
) -> Result<UnverifiedRequest, Denied> {
    let (presented, values) = REQUEST.present(target, headers, likely)?;
    let authority = authority(target, &values, presented.parameters.nonce)?;
    if authority.content_digest == Digest::of(body) {
        Ok(UnverifiedRequest { authority, presented })
    } else {
        Err(Denied::BodyAltered)
    }
}

/// What a holder signed, read back from what the node kept of it: [`VerifiedRequest::signature_base`] and its signature. The
/// time of signing is not judged: the request was admitted once.
///
/// # Errors
/// `not_covered`, `malformed`, `invalid_key`, `wrong_key`, `bad_signature`.
pub fn signed_authority(base: &str, signature: [u8; 64], holder: &PublicKey) -> Result<Authority, Denied> {
    let (presented, target, values) = REQUEST.read_base(base, signature)?;
    let authority = authority(target, &values, presented.parameters.nonce)?;
    presented.verify(holder, presented.parameters.created)?;
    Ok(authority)
}

/// The covered values, each in its one form.
fn authority(target: Target<'_>, values: &[&str], nonce: [u8; 16]) -> Result<Authority, Denied> {
    let [content_digest, leaf, lane, seq, tariff, max_charge] = values[..] else {
        unreachable!("the profile has six fields")
    };
    let digest = |text, header| Digest::from_sf(text).ok_or(Denied::Header { header });
    let leaf = digest(leaf, header::TOKEN_REF)?;
    let lane = number(lane, header::LANE)?;
    let lane = u16::try_from(lane).map_err(|_| Denied::Header { header: header::LANE })?;
    let seq = number(seq, header::SEQ)?;
    if seq == 0 {
        return Err(Denied::Header { header: header::SEQ });
    }
    let tariff = digest(tariff, header::TARIFF)?;
    let max_charge = number(max_charge, header::MAX_CHARGE)?;
    let max_charge = i64::try_from(max_charge).ok().and_then(|ucr| Amount::new(ucr).ok());
    let max_charge = max_charge.ok_or(Denied::Header { header: header::MAX_CHARGE })?;
    let content_digest = content_digest.strip_prefix("sha-256=").and_then(Digest::from_sf);
    let content_digest = content_digest.ok_or(Denied::Header { header: signature::CONTENT_DIGEST })?;
    Ok(Authority {
        leaf,
        lane,
        seq,
        method: target.method.to_owned(),
        path: target.path.to_owned(),
        query: target.query.to_owned(),
        content_digest,
        tariff,
        max_charge,
        nonce,
    })
}

/// Decimal digits, no sign, no leading zero, at most 2⁶³−1.
fn number(text: &str, header: &'static str) -> Result<u64, Denied> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    let value = text.parse::<u64>().ok().filter(|value| canonical && *value <= i64::MAX.unsigned_abs());
    value.ok_or(Denied::Header { header })
}

impl UnverifiedRequest {
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn created(&self) -> Timestamp {
        self.presented.parameters.created
    }

    /// What is signed, exactly; evidence together with [`Self::signature`].
    pub fn signature_base(&self) -> &str {
        &self.presented.base
    }

    pub fn signature(&self) -> &[u8; 64] {
        &self.presented.signature
    }

    /// # Errors
    /// `wrong_key`, `bad_signature`, `stale`, in this order.
    pub fn verify(&self, holder: &PublicKey, now: Timestamp) -> Result<VerifiedRequest, Denied> {
        self.presented.verify(holder, now)?;
        let (authority, presented) = (self.authority.clone(), self.presented.clone());
        Ok(VerifiedRequest { id: authority.id(), authority, presented })
    }
}

impl VerifiedRequest {
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// [`Authority::id`], worked out once.
    pub fn id(&self) -> Digest {
        self.id
    }

    pub fn created(&self) -> Timestamp {
        self.presented.parameters.created
    }

    pub fn holder(&self) -> &PublicKey {
        &self.presented.parameters.key
    }

    pub fn signature_base(&self) -> &str {
        &self.presented.base
    }

    pub fn signature(&self) -> &[u8; 64] {
        &self.presented.signature
    }
}

/// Receipt field 18: salted, since the house holds receipts and must not guess short prompts.
pub fn request_digest(nonce: &[u8; 16], body: &[u8]) -> Digest {
    Digest::of_parts(&[b"comity/v1/request-digest", nonce, body])
}

/// Receipt field 19. Response bytes: the body; of a stream each `data` payload and a line feed, without comments.
pub fn response_digest(nonce: &[u8; 16], response: &[u8]) -> Digest {
    Digest::of_parts(&[b"comity/v1/response-digest", nonce, response])
}

#[cfg(test)]
mod tests;
