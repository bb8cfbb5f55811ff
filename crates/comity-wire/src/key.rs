//! Ed25519 keys (spec/02-keys.md): small-order and non-canonical points are not keys; text form `did:key:z6Mk…`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::cbor::{Decode, Encode, Malformed, Reader, Writer};
use crate::digest::Digest;

/// A public key that may verify: a canonical point of large order.
#[derive(Clone, Copy)]
pub struct PublicKey(VerifyingKey);

/// A secret key. It cannot be printed, and is wiped when the last clone of it is dropped.
#[derive(Clone)]
pub struct SecretKey(Arc<Secret>);

struct Secret {
    seed: Zeroizing<[u8; 32]>,
    /// AWS-LC wipes its own.
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why 32 bytes or a text are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    #[error("not an Ed25519 public key")]
    Point,
    #[error("a small-order point is not a key")]
    SmallOrder,
    #[error("not a key: 'did:key:z6Mk…' is expected")]
    Text,
}

/// A signature that does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// Multicodec `ed25519-pub`, as did:key has it.
const MULTICODEC: [u8; 2] = [0xed, 0x01];

impl PublicKey {
    /// # Errors
    /// [`NotAKey`] where the bytes are no point, or one of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, NotAKey> {
        // dalek takes y ≥ p; one key must have one byte form. (x = 0 with a sign bit, the other loose form, is of small order.)
        if bytes[0] >= 0xed && bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[31] & 0x7f == 0x7f {
            return Err(NotAKey::Point);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| NotAKey::Point)?;
        if key.is_weak() {
            return Err(NotAKey::SmallOrder);
        }
        Ok(Self(key))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// What `ed25519_dalek::VerifyingKey::verify_strict` takes and nothing else (RFC 8032 §5.1.7 without a cofactor): no
    /// malleable and no small-order signature passes. R is compared as it is written and never read as a point, which
    /// is a quarter of the work (docs/decisions/0100).
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        let (r, s) = signature.split_first_chunk::<32>().expect("64 bytes begin with 32");
        let s = <[u8; 32]>::try_from(s).expect("64 bytes less 32 are 32");
        let s: Scalar = Option::from(Scalar::from_canonical_bytes(s)).ok_or(BadSignature)?;
        let challenge = Sha512::new().chain_update(r).chain_update(self.as_bytes()).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&challenge.into());
        let due = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-self.0.to_edwards(), &s);
        // A point has one form where it is written, so R is this point wherever the bytes are the same.
        if due.compress().as_bytes() == r && !due.is_small_order() { Ok(()) } else { Err(BadSignature) }
    }

    /// SHA-256 of the key's bytes; names a holder where nothing else does.
    pub fn thumbprint(&self) -> Digest {
        Digest::of(self.as_bytes())
    }
}

impl SecretKey {
    /// The caller brings the randomness: this crate has none.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).expect("any 32 bytes are a seed");
        let public = <&[u8; 32]>::try_from(pair.public_key().as_ref()).expect("a public key has 32 bytes");
        let public = PublicKey::from_bytes(public).expect("a seed's public key is a key");
        Self(Arc::new(Secret { seed, pair, public }))
    }

    /// The 32 bytes to keep in a key store. Never log them.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.seed.clone()
    }

    pub fn public(&self) -> PublicKey {
        self.0.public
    }

    /// The signature of RFC 8032 §5.1.6: one key and one message have one.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.pair.sign(message).as_ref().try_into().expect("a signature has 64 bytes")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&MULTICODEC);
        bytes[2..].copy_from_slice(self.as_bytes());
        write!(f, "did:key:z{}", bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let base58 = text.strip_prefix("did:key:z").ok_or(NotAKey::Text)?;
        let mut bytes = [0; 34];
        match bs58::decode(base58).onto(&mut bytes[..]) {
            Ok(34) if bytes[..2] == MULTICODEC => {
                let key: &[u8; 32] = bytes[2..].try_into().expect("34 bytes less 2 are 32");
                Self::from_bytes(key)
            }
            _ => Err(NotAKey::Text),
        }
    }
}

crate::id::text_serde!(PublicKey);
crate::id::text_schema!(PublicKey, "^did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}$");

impl Encode for PublicKey {
    fn encode(&self, w: &mut Writer) {
        w.bytes(self.as_bytes());
    }
}

impl Decode for PublicKey {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        Self::from_bytes(&r.array_bytes()?).map_err(|_| Malformed::value(at, KEY))
    }
}

/// What a [`Malformed`] calls a key that is none, so that it gets its own code.
pub const KEY: &str = "public key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_text() {
        let key = SecretKey::from_seed([1; 32]).public();
        assert!(key.to_string().starts_with("did:key:z6Mk"));
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        assert_eq!("did:key:z6Mk".parse::<PublicKey>(), Err(NotAKey::Text));
    }

    #[test]
    fn small_order_points_are_not_keys() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(NotAKey::SmallOrder));
        assert_eq!(PublicKey::from_bytes(&[0; 32]), Err(NotAKey::SmallOrder));
        // p + 1, the identity written a second way.
        let mut loose = [0xff; 32];
        loose[0] = 0xee;
        loose[31] = 0x7f;
        assert!(PublicKey::from_bytes(&loose).is_err());
    }

    fn digest(parts: &[&[u8]]) -> Scalar {
        let hash = parts.iter().fold(Sha512::new(), |hash, part| hash.chain_update(part));
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }

    /// dalek's word on the same key, message and signature.
    fn strict(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
        key.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }

    /// Keys and nonces with every small-order part, R written loosely, s with ℓ added: what tells verifiers apart
    /// ("Taming the many EdDSAs", Chalkias, Garillot, Nikolaenko 2020, §5). Each is judged as `verify_strict` judges it.
    #[test]
    fn a_signature_stands_where_verify_strict_says_so() {
        use curve25519_dalek::constants::EIGHT_TORSION;
        let (mut stand, mut fall) = (0, 0);
        let mut judge = |key: &PublicKey, message: &[u8], signature: [u8; 64]| {
            let says = strict(key, message, &signature);
            assert_eq!(key.verify(message, &signature).is_ok(), says, "{key} {signature:02x?}");
            *(if says { &mut stand } else { &mut fall }) += 1;
        };
        for turn in 0_u8..4 {
            let (secret, nonce) = (digest(&[b"secret", &[turn]]), digest(&[b"nonce", &[turn]]));
            for (of_key, of_nonce) in (0..8).flat_map(|key| (0..8).map(move |nonce| (key, nonce))) {
                let key = EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[of_key];
                let key = PublicKey::from_bytes(key.compress().as_bytes()).expect("of large order");
                let large = EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[of_nonce];
                for (r, nonce) in [(large, nonce), (EIGHT_TORSION[of_nonce], Scalar::ZERO)] {
                    let r = r.compress().to_bytes();
                    // Some of these messages make k a multiple of 8, where the small parts cancel.
                    for message in 0_u8..24 {
                        let s = nonce + digest(&[&r, key.as_bytes(), &[message]]) * secret;
                        let mut signature = [r, s.to_bytes()].concat().try_into().expect("32 and 32 are 64");
                        judge(&key, &[message], signature);
                        signature[63] |= 0x80;
                        judge(&key, &[message], signature);
                        signature = [r, plus_order(s.to_bytes())].concat().try_into().expect("32 and 32 are 64");
                        judge(&key, &[message], signature);
                        signature[31] ^= 0x80;
                        judge(&key, &[message], signature);
                    }
                }
            }
        }
        // Points that can be written twice: y < 19, as y + p.
        let key = SecretKey::from_seed([9; 32]).public();
        for low in 0xed..=0xff_u8 {
            for sign in [0x7f, 0xff] {
                let mut signature = [0; 64];
                (signature[0], signature[31]) = (low, sign);
                signature[1..31].fill(0xff);
                judge(&key, b"loose", signature);
            }
        }
        assert!(stand > 500 && fall > 10_000, "{stand} stand, {fall} do not");
    }

    /// s + ℓ, little-endian, as a forger writes the same number a second time.
    fn plus_order(mut s: [u8; 32]) -> [u8; 32] {
        let order = (Scalar::ZERO - Scalar::ONE).to_bytes();
        let mut carry = 1_u16;
        for (byte, add) in s.iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry as u8;
            carry >>= 8;
        }
        s
    }

    #[test]
    fn a_signature_is_the_one_that_dalek_makes() {
        use ed25519_dalek::Signer as _;
        for turn in 0..64_u8 {
            let (seed, message) = ([turn; 32], vec![turn; usize::from(turn) * 7]);
            let (ours, dalek) = (SecretKey::from_seed(seed), ed25519_dalek::SigningKey::from_bytes(&seed));
            assert_eq!(ours.sign(&message), dalek.sign(&message).to_bytes());
            assert_eq!(ours.public().as_bytes(), dalek.verifying_key().as_bytes());
            assert_eq!(*ours.seed(), seed);
            assert_eq!(ours.public().verify(&message, &ours.sign(&message)), Ok(()));
        }
    }
}
