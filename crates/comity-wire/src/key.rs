//! Ed25519 keys (spec/02-keys.md): small-order and non-canonical points are not keys; text form `did:key:z6Mk…`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::cbor::{Decode, Encode, Malformed, Reader, Writer};
use crate::digest::Digest;

/// A public key that may verify: a canonical point of large order.
#[derive(Clone, Copy)]
pub struct PublicKey(VerifyingKey);

/// A secret key. It cannot be printed, and is wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

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

    /// `verify_strict`: no malleable and no small-order signature passes.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)
    }

    /// SHA-256 of the key's bytes; names a holder where nothing else does.
    pub fn thumbprint(&self) -> Digest {
        Digest::of(self.as_bytes())
    }
}

impl SecretKey {
    /// The caller brings the randomness: this crate has none.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The 32 bytes to keep in a key store. Never log them.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
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
}
