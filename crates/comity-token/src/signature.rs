//! HTTP message signatures (RFC 9421), as one closed profile: fixed components in fixed order, parameters `created`,
//! `nonce`, `keyid`, `alg`, `tag` in this order, label `comity`, exactly one signature (spec/05-request.md §2).
//!
//! Written out rather than taken from a library: with nothing to negotiate, reading is comparing with the one form.
//! `httpsig` and Python's `http-message-signatures` are test oracles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_wire::time::SKEW_S;
use comity_wire::{Digest, PublicKey, SecretKey, Timestamp};
use http::HeaderMap;

use crate::denied::Denied;

pub const CONTENT_DIGEST: &str = "content-digest";
pub const SIGNATURE_INPUT: &str = "signature-input";
pub const SIGNATURE: &str = "signature";
const LABEL: &str = "comity";
const ALGORITHM: &str = "ed25519";

/// What a signature is for, and what it must cover.
#[derive(Debug)]
pub struct Profile {
    pub tag: &'static str,
    /// Header fields that are covered after `@method`, `@path`, `@query`, in order.
    pub fields: &'static [&'static str],
}

/// A payment authority: a query under a token.
pub const REQUEST: Profile = Profile {
    tag: "comity-req-v1",
    fields: &[CONTENT_DIGEST, "comity-token-ref", "comity-lane", "comity-seq", "comity-tariff", "comity-max-charge"],
};

/// A call that spends nothing: to the clearing house, or a node's control routes.
pub const API: Profile = Profile { tag: "comity-api-v1", fields: &[CONTENT_DIGEST] };

/// The request line as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub method: &'a str,
    /// As sent, at least `/`.
    pub path: &'a str,
    /// Without the question mark; empty where there is none.
    pub query: &'a str,
}

/// The parameters of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub created: Timestamp,
    pub nonce: [u8; 16],
    pub key: PublicKey,
}

/// A key beside its text: to write that anew costs as much as all else that is read of a request.
#[derive(Clone, Debug)]
pub struct Known {
    key: PublicKey,
    text: Box<str>,
}

impl Known {
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl From<PublicKey> for Known {
    fn from(key: PublicKey) -> Self {
        Self { key, text: key.to_string().into() }
    }
}

/// A signature as it was read, with the base it must stand over. Kept as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    pub parameters: Parameters,
    pub base: String,
    pub signature: [u8; 64],
}

impl Profile {
    fn components(&self) -> String {
        // With room for the parameters that follow.
        let mut list = String::with_capacity(512);
        list.push_str("(\"@method\" \"@path\" \"@query\"");
        for field in self.fields {
            list.extend([" \"", field, "\""]);
        }
        list.push(')');
        list
    }

    /// `key` is the text of one.
    fn signature_params(&self, created: Timestamp, nonce: [u8; 16], key: &str) -> String {
        let (created, nonce) = (created.0.to_string(), STANDARD.encode(nonce));
        let mut params = self.components();
        params.extend([";created=", &created, ";nonce=\"", &nonce, "\";keyid=\"", key]);
        params.extend(["\";alg=\"", ALGORITHM, "\";tag=\"", self.tag, "\""]);
        params
    }

    /// RFC 9421 §2.5.
    fn base(&self, target: Target<'_>, values: &[&str], params: &str) -> String {
        debug_assert_eq!(values.len(), self.fields.len());
        let Target { method, path, query } = target;
        let mut base = String::with_capacity(1_024);
        base.extend(["\"@method\": ", method, "\n\"@path\": ", path, "\n\"@query\": ?", query, "\n"]);
        for (field, value) in self.fields.iter().zip(values) {
            base.extend(["\"", field, "\": ", value, "\n"]);
        }
        base.extend(["\"@signature-params\": ", params]);
        base
    }

    /// The headers `signature-input` and `signature`.
    pub fn sign(
        &self,
        target: Target<'_>,
        values: &[&str],
        created: Timestamp,
        nonce: [u8; 16],
        key: &SecretKey,
    ) -> [(&'static str, String); 2] {
        let params = self.signature_params(created, nonce, &key.public().to_string());
        let base = self.base(target, values, &params);
        let signature = STANDARD.encode(key.sign(base.as_bytes()));
        [(SIGNATURE_INPUT, format!("{LABEL}={params}")), (SIGNATURE, format!("{LABEL}=:{signature}:"))]
    }

    /// Reads the signature and the covered fields' values. Order: is there one, its tag, its algorithm, what it covers,
    /// its parameters' form, its key. Where the key is the one that is `likely`, its text needs no reading.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn present<'h>(
        &self,
        target: Target<'_>,
        headers: &'h HeaderMap,
        likely: Option<&Known>,
    ) -> Result<(Presented, Vec<&'h str>), Denied> {
        let unsigned = || Denied::Unsigned { tag: self.tag };
        let input = single(headers, SIGNATURE_INPUT)?.ok_or_else(unsigned)?;
        let signature = single(headers, SIGNATURE)?.ok_or_else(unsigned)?;
        let params = input.strip_prefix("comity=").ok_or(Denied::NotCovered { component: "label" })?;
        let parameters = self.parameters(params, likely)?;
        let signature = signature_bytes(signature).ok_or(Denied::Header { header: SIGNATURE })?;
        let mut values = Vec::with_capacity(self.fields.len());
        for field in self.fields {
            values.push(single(headers, field)?.ok_or(Denied::NotCovered { component: field })?);
        }
        let base = self.base(target, &values, params);
        Ok((Presented { parameters, base, signature }, values))
    }

    /// Reads a base that was kept as evidence: the one text that this profile would have signed.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn read_base<'b>(
        &self,
        base: &'b str,
        signature: [u8; 64],
    ) -> Result<(Presented, Target<'b>, Vec<&'b str>), Denied> {
        let mut lines = base.split('\n');
        let mut line = |component: &'static str| {
            let named = |line: &'b str| line.strip_prefix('"')?.strip_prefix(component)?.strip_prefix("\": ");
            lines.next().and_then(named).ok_or(Denied::NotCovered { component })
        };
        let (method, path) = (line("@method")?, line("@path")?);
        let query = line("@query")?.strip_prefix('?').ok_or(Denied::NotCovered { component: "@query" })?;
        let target = Target { method, path, query };
        let values = self.fields.iter().map(|field| line(field)).collect::<Result<Vec<_>, _>>()?;
        let params = line("@signature-params")?;
        let parameters = self.parameters(params, None)?;
        if self.base(target, &values, params) != base {
            return Err(Denied::NotCovered { component: "one that is not in the list" });
        }
        Ok((Presented { parameters, base: base.to_owned(), signature }, target, values))
    }

    /// Reads `@signature-params`. Order: its tag, its algorithm, what it covers, its parameters' form, its key.
    fn parameters(&self, params: &str, likely: Option<&Known>) -> Result<Parameters, Denied> {
        let malformed = Denied::Header { header: SIGNATURE_INPUT };
        let (covered, rest) =
            params.strip_prefix('(').and_then(|p| p.split_once(')')).ok_or_else(|| malformed.clone())?;
        let read = Params::parse(rest).ok_or(Denied::NotCovered { component: "parameters" })?;
        if read.tag != self.tag {
            return Err(Denied::NotCovered { component: "tag" });
        }
        if read.alg != ALGORITHM {
            return Err(Denied::NotCovered { component: "alg" });
        }
        self.check_covered(covered)?;
        let created = Timestamp(read.created.parse().map_err(|_| malformed.clone())?);
        let nonce: [u8; 16] = STANDARD
            .decode(read.nonce)
            .ok()
            .and_then(|nonce| nonce.try_into().ok())
            .ok_or_else(|| malformed.clone())?;
        let known = match likely {
            Some(known) if *known.text == *read.keyid => known,
            _ => &Known::from(read.keyid.parse::<PublicKey>().map_err(|_| Denied::InvalidKey)?),
        };
        // One form only: what was read must write the same text again.
        if self.signature_params(created, nonce, &known.text) != params {
            return Err(malformed);
        }
        Ok(Parameters { created, nonce, key: known.key })
    }

    fn check_covered(&self, covered: &str) -> Result<(), Denied> {
        let mut named = covered.split(' ');
        let wanted = ["@method", "@path", "@query"].iter().chain(self.fields);
        for component in wanted {
            let quoted = named.next().and_then(|item| item.strip_prefix('"')?.strip_suffix('"'));
            if quoted != Some(component) {
                return Err(Denied::NotCovered { component });
            }
        }
        if named.next().is_some() {
            Err(Denied::NotCovered { component: "one that is not in the list" })
        } else {
            Ok(())
        }
    }
}

impl Presented {
    /// The key that must have signed, then its signature, then the time.
    ///
    /// # Errors
    /// [`Denied::WrongKey`], [`Denied::BadSignature`], [`Denied::Stale`].
    pub fn verify(&self, key: &PublicKey, now: Timestamp) -> Result<(), Denied> {
        if self.parameters.key != *key {
            return Err(Denied::WrongKey);
        }
        key.verify(self.base.as_bytes(), &self.signature).map_err(|_| Denied::BadSignature)?;
        let created = self.parameters.created;
        if now.0.abs_diff(created.0) > SKEW_S {
            return Err(Denied::Stale { created, now });
        }
        Ok(())
    }
}

/// `;created=…;nonce="…";keyid="…";alg="…";tag="…"`, in this order.
struct Params<'a> {
    created: &'a str,
    nonce: &'a str,
    keyid: &'a str,
    alg: &'a str,
    tag: &'a str,
}

impl<'a> Params<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(";created=")?;
        let (created, rest) = rest.split_once(";nonce=\"")?;
        let (nonce, rest) = rest.split_once("\";keyid=\"")?;
        let (keyid, rest) = rest.split_once("\";alg=\"")?;
        let (alg, rest) = rest.split_once("\";tag=\"")?;
        Some(Self { created, nonce, keyid, alg, tag: rest.strip_suffix('"')? })
    }
}

/// `sha-256=:…:` of a body (RFC 9530).
pub fn content_digest(body: &[u8]) -> String {
    content_digest_of(&Digest::of(body))
}

pub(crate) fn content_digest_of(digest: &Digest) -> String {
    format!("sha-256={}", digest.to_sf())
}

/// Compares the header with the body at hand.
pub(crate) fn check_body(header: &str, body: &[u8]) -> Result<Digest, Denied> {
    let named = header.strip_prefix("sha-256=").and_then(Digest::from_sf);
    let named = named.ok_or(Denied::Header { header: CONTENT_DIGEST })?;
    if named == Digest::of(body) { Ok(named) } else { Err(Denied::BodyAltered) }
}

/// A header that may come once; twice is malformed.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Denied> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    let text = first.to_str().map_err(|_| Denied::Header { header: name })?;
    if all.next().is_some() { Err(Denied::Header { header: name }) } else { Ok(Some(text)) }
}

fn signature_bytes(header: &str) -> Option<[u8; 64]> {
    let inner = header.strip_prefix("comity=:")?.strip_suffix(':')?;
    STANDARD.decode(inner).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
