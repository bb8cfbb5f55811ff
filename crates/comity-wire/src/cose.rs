//! COSE_Sign1 (RFC 9052), one closed form: tag 18, `alg` −19, `kid` the raw key, `typ` the kind, nothing unprotected
//! (spec/01-encoding.md §6).
//!
//! Nothing in an object chooses an algorithm or a key: the verifier brings the key it trusts, and `kid` must name it.

use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::cbor::{Decode, Encode, Limits, Malformed, MalformedKind, Reader, Writer, scan};
use crate::code::Code;
use crate::digest::Digest;
use crate::key::{PublicKey, SecretKey};

/// A kind of signed object: its name, and what it may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub bytes_max: usize,
    pub items_max: usize,
}

impl Kind {
    /// `application/vnd.comity.<kind>.v1` (RFC 9596 `typ`).
    pub fn typ(&self) -> String {
        format!("application/vnd.comity.{}.v1", self.name)
    }

    /// The `external_aad`: `comity/v1/<kind>`.
    pub fn aad(&self) -> String {
        format!("comity/v1/{}", self.name)
    }
}

/// An object that is signed as a COSE_Sign1.
pub trait Object: Encode + Decode {
    const KIND: Kind;

    /// Rules between fields that the grammar cannot say.
    ///
    /// # Errors
    /// [`Malformed`] naming the rule.
    fn validate(&self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Why bytes are not a signed object of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("{kind} is malformed")]
    Malformed { kind: &'static str, source: Malformed },
    #[error("not a {kind}, or another version of it")]
    WrongKind { kind: &'static str },
    #[error("{kind} is not signed with Ed25519 (COSE −19)")]
    WrongAlgorithm { kind: &'static str },
    #[error("{kind} is not signed by the key that must sign it")]
    WrongKey { kind: &'static str },
    #[error("signature of {kind} does not verify")]
    BadSignature { kind: &'static str },
}

impl Unverified {
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed { source, .. } if source.kind == MalformedKind::Value(crate::key::KEY) => Code::InvalidKey,
            Self::Malformed { source, .. } => source.code(),
            Self::WrongKind { .. } => Code::WrongKind,
            Self::WrongAlgorithm { .. } => Code::WrongAlgorithm,
            Self::WrongKey { .. } => Code::WrongKey,
            Self::BadSignature { .. } => Code::BadSignature,
        }
    }
}

/// Well-formed bytes that claim to be a `T`. Nobody has checked who signed them.
#[derive(Clone, Debug)]
pub struct Signed<T> {
    object: T,
    bytes: Arc<[u8]>,
    protected: Range<usize>,
    payload: Range<usize>,
    kid: [u8; 32],
    signature: [u8; 64],
}

/// A `T` signed by a key that the verifier trusted for it. Only [`Signed::verify`] and [`sign`] build one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    signed: Signed<T>,
    signer: PublicKey,
    id: Digest,
}

const ALG_ED25519: i64 = -19;

impl<T: Object> Signed<T> {
    /// # Errors
    /// [`Unverified`], before any signature is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unverified> {
        let kind = T::KIND.name;
        let malformed = |source| Unverified::Malformed { kind, source };
        let outer = Limits { bytes_max: T::KIND.bytes_max, items_max: 8, tagged: true };
        scan(bytes, outer).map_err(malformed)?;
        let mut r = Reader::new(bytes);
        r.tag().map_err(malformed)?;
        if r.array().map_err(malformed)? != 4 {
            return Err(malformed(Malformed::new(1, MalformedKind::WrongType("an array of four"))));
        }
        let protected = range(&mut r).map_err(malformed)?;
        let at = r.position();
        if r.map().map_err(malformed)? != 0 {
            return Err(malformed(Malformed::value(at, "unprotected header: it must be empty")));
        }
        let payload = range(&mut r).map_err(malformed)?;
        let signature = r.array_bytes().map_err(malformed)?;
        let kid = header::<T>(&bytes[protected.clone()])?;
        let inner = Limits { bytes_max: T::KIND.bytes_max, items_max: T::KIND.items_max, tagged: false };
        let object = T::from_cbor(&bytes[payload.clone()], inner).map_err(malformed)?;
        object.validate().map_err(malformed)?;
        Ok(Self { object, bytes: bytes.into(), protected, payload, kid, signature })
    }

    /// What the bytes claim. For finding the key that would have to sign, and for nothing else.
    pub fn unverified(&self) -> &T {
        &self.object
    }

    /// The signer's key as the bytes name it: to look up among pinned keys, never to verify with.
    pub fn kid(&self) -> &[u8; 32] {
        &self.kid
    }

    /// The content id: SHA-256(protected ‖ payload).
    pub fn id(&self) -> Digest {
        Digest::of_parts(&[&self.bytes[self.protected.clone()], &self.bytes[self.payload.clone()]])
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// # Errors
    /// [`Unverified::WrongKey`] or [`Unverified::BadSignature`].
    pub fn verify(self, key: &PublicKey) -> Result<Verified<T>, Unverified> {
        let kind = T::KIND.name;
        if key.as_bytes() != &self.kid {
            return Err(Unverified::WrongKey { kind });
        }
        let message = to_be_signed(&T::KIND, &self.bytes[self.protected.clone()], &self.bytes[self.payload.clone()]);
        key.verify(&message, &self.signature).map_err(|_| Unverified::BadSignature { kind })?;
        let id = self.id();
        Ok(Verified { signed: self, signer: *key, id })
    }

    /// Verifies under whichever of the pinned keys `kid` names.
    ///
    /// # Errors
    /// As [`Signed::verify`].
    pub fn verify_any<'k>(self, keys: impl IntoIterator<Item = &'k PublicKey>) -> Result<Verified<T>, Unverified> {
        match keys.into_iter().find(|key| key.as_bytes() == &self.kid) {
            Some(key) => self.verify(key),
            None => Err(Unverified::WrongKey { kind: T::KIND.name }),
        }
    }
}

impl<T> Verified<T> {
    pub fn id(&self) -> Digest {
        self.id
    }

    pub fn signer(&self) -> &PublicKey {
        &self.signer
    }

    pub fn bytes(&self) -> &[u8] {
        &self.signed.bytes
    }

    pub fn object(&self) -> &T {
        &self.signed.object
    }

    pub fn into_object(self) -> T {
        self.signed.object
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.signed.object
    }
}

impl<T> PartialEq for Verified<T> {
    fn eq(&self, other: &Self) -> bool {
        self.signed.bytes == other.signed.bytes
    }
}

/// Signs `object`. Ed25519 is deterministic: the same object and key give the same bytes.
///
/// # Panics
/// Where the object breaks its own rules or limits: that is a bug of the caller's, and must not leave the house.
pub fn sign<T: Object>(object: &T, key: &SecretKey) -> Verified<T> {
    let signed = try_sign(object, key).expect("an object that is signed keeps its kind's rules and limits");
    let id = signed.id();
    Verified { signed, signer: key.public(), id }
}

/// As [`sign`], for objects made of what others said.
///
/// # Errors
/// [`Unverified::Malformed`] where the object breaks its own rules or limits.
pub fn try_sign<T: Object>(object: &T, key: &SecretKey) -> Result<Signed<T>, Unverified> {
    let protected = protected_header(&T::KIND, &key.public());
    let payload = object.to_cbor();
    let signature = key.sign(&to_be_signed(&T::KIND, &protected, &payload));
    // Reading it back checks limits, order of keys and the object's rules by the path a stranger will take.
    Signed::decode(&envelope(&protected, &payload, &signature))
}

/// Whether [`try_sign`] with the secret half of `key` would sign `object`, at less than the price of a signature.
///
/// # Errors
/// [`Unverified::Malformed`] where the object breaks its own rules or limits.
pub fn check<T: Object>(object: &T, key: &PublicKey) -> Result<(), Unverified> {
    let protected = protected_header(&T::KIND, key);
    Signed::<T>::decode(&envelope(&protected, &object.to_cbor(), &[0; 64])).map(drop)
}

/// More than the heads of an envelope's items take.
const HEADS: usize = 32;

fn envelope(protected: &[u8], payload: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let mut w = Writer::with_capacity(protected.len() + payload.len() + signature.len() + HEADS);
    w.tag(18);
    w.array(4);
    w.bytes(protected);
    w.map(0);
    w.bytes(payload);
    w.bytes(signature);
    w.into_bytes()
}

/// The content id that `object` will have once `key` has signed it: the id does not depend on the signature.
pub fn content_id<T: Object>(object: &T, key: &PublicKey) -> Digest {
    Digest::of_parts(&[&protected_header(&T::KIND, key), &object.to_cbor()])
}

/// A roster's form: one payload, several signers, each as a detached COSE_Sign1 (docs/decisions/0003).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached<T> {
    pub payload: Vec<u8>,
    pub signatures: Vec<([u8; 32], [u8; 64])>,
    kind: PhantomData<T>,
}

impl<T: Object> Detached<T> {
    const SIGNATURES_MAX: usize = 32;

    pub fn new(object: &T) -> Self {
        Self { payload: object.to_cbor(), signatures: Vec::new(), kind: PhantomData }
    }

    pub fn sign(&mut self, key: &SecretKey) {
        let public = key.public();
        let signature = key.sign(&to_be_signed(&T::KIND, &protected_header(&T::KIND, &public), &self.payload));
        self.signatures.retain(|(kid, _)| kid != public.as_bytes());
        self.signatures.push((*public.as_bytes(), signature));
        self.signatures.sort_unstable();
    }

    /// `[payload, [[kid, signature], …]]`, kids strictly ascending.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.array(2);
        w.bytes(&self.payload);
        w.array(self.signatures.len());
        for (kid, signature) in &self.signatures {
            w.array(2);
            w.bytes(kid);
            w.bytes(signature);
        }
        w.into_bytes()
    }

    /// # Errors
    /// [`Unverified::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, T), Unverified> {
        Self::parse(bytes).map_err(|source| Unverified::Malformed { kind: T::KIND.name, source })
    }

    fn parse(bytes: &[u8]) -> Result<(Self, T), Malformed> {
        let limits = Limits { bytes_max: T::KIND.bytes_max, items_max: 3 + 3 * Self::SIGNATURES_MAX, tagged: false };
        scan(bytes, limits)?;
        let mut r = Reader::new(bytes);
        if r.array()? != 2 {
            return Err(Malformed::new(0, MalformedKind::WrongType("an array of two")));
        }
        let payload = r.bytes()?.to_vec();
        let mut signatures = Vec::new();
        for _ in 0..r.array()? {
            let at = r.position();
            if r.array()? != 2 {
                return Err(Malformed::new(at, MalformedKind::WrongType("an array of two")));
            }
            let entry = (r.array_bytes()?, r.array_bytes()?);
            if signatures.last().is_some_and(|(kid, _): &([u8; 32], [u8; 64])| *kid >= entry.0) {
                return Err(Malformed::new(at, MalformedKind::KeyOrder));
            }
            signatures.push(entry);
        }
        let inner = Limits { bytes_max: T::KIND.bytes_max, items_max: T::KIND.items_max, tagged: false };
        let object = T::from_cbor(&payload, inner)?;
        object.validate()?;
        Ok((Self { payload, signatures, kind: PhantomData }, object))
    }

    /// How many of `keys` have signed this payload.
    pub fn count(&self, keys: &[PublicKey]) -> usize {
        let stands = |key: &&PublicKey| {
            self.signatures.iter().any(|(kid, signature)| {
                let message = || to_be_signed(&T::KIND, &protected_header(&T::KIND, key), &self.payload);
                kid == key.as_bytes() && key.verify(&message(), signature).is_ok()
            })
        };
        keys.iter().filter(stands).count()
    }

    /// SHA-256 of the payload: what names it, whoever has signed.
    pub fn id(&self) -> Digest {
        Digest::of(&self.payload)
    }
}

fn protected_header(kind: &Kind, key: &PublicKey) -> Vec<u8> {
    let mut w = Writer::default();
    w.map(3);
    w.uint(1);
    w.int(ALG_ED25519);
    w.uint(4);
    w.bytes(key.as_bytes());
    w.uint(16);
    w.text(&kind.typ());
    w.into_bytes()
}

/// Reads the protected header: exactly `alg`, `kid`, `typ`, in this order.
fn header<T: Object>(protected: &[u8]) -> Result<[u8; 32], Unverified> {
    let kind = T::KIND.name;
    let malformed = |source| Unverified::Malformed { kind, source };
    scan(protected, Limits { bytes_max: 256, items_max: 16, tagged: false }).map_err(malformed)?;
    let mut r = Reader::new(protected);
    let (mut alg, mut kid, mut typ) = (None, None, None);
    for _ in 0..r.map().map_err(malformed)? {
        let at = r.position();
        match r.int().map_err(malformed)? {
            1 => alg = Some(r.int_or_text().map_err(malformed)?),
            4 => kid = Some(r.array_bytes::<32>().map_err(malformed)?),
            16 => typ = Some(r.int_or_text().map_err(malformed)?),
            other => return Err(malformed(Malformed::new(at, MalformedKind::UnknownField(other)))),
        }
    }
    match (alg, kid, typ) {
        (_, _, Some(typ)) if typ != Err(T::KIND.typ().as_str()) => Err(Unverified::WrongKind { kind }),
        (Some(alg), _, Some(_)) if alg != Ok(ALG_ED25519) => Err(Unverified::WrongAlgorithm { kind }),
        (Some(_), Some(kid), Some(_)) => Ok(kid),
        (_, _, None) => Err(malformed(Malformed::new(0, MalformedKind::MissingField(16)))),
        (None, ..) => Err(malformed(Malformed::new(0, MalformedKind::MissingField(1)))),
        (_, None, _) => Err(malformed(Malformed::new(0, MalformedKind::MissingField(4)))),
    }
}

/// `Sig_structure` of RFC 9052 §4.4.
fn to_be_signed(kind: &Kind, protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let (context, aad) = ("Signature1", kind.aad());
    let mut w = Writer::with_capacity(context.len() + protected.len() + aad.len() + payload.len() + HEADS);
    w.array(4);
    w.text(context);
    w.bytes(protected);
    w.bytes(aad.as_bytes());
    w.bytes(payload);
    w.into_bytes()
}

fn range(r: &mut Reader<'_>) -> Result<Range<usize>, Malformed> {
    let bytes = r.bytes()?;
    Ok(r.position() - bytes.len()..r.position())
}
