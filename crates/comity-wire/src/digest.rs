//! SHA-256, the one digest of the protocol.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::cbor::{Decode, Encode, Malformed, Reader, Writer};

/// 32 bytes of SHA-256. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: 64 lower-case hex digits are expected")]
pub struct NotADigest;

impl Digest {
    pub const ZERO: Self = Self([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256 over the parts in turn, with nothing between them.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The structured-field byte sequence `:…:` (RFC 9651 §3.3.5) that stands in headers.
    pub fn to_sf(&self) -> String {
        format!(":{}:", STANDARD.encode(self.0))
    }

    /// Reads `:…:`; `None` for anything else, also for base64 that is not the canonical one.
    pub fn from_sf(text: &str) -> Option<Self> {
        let inner = text.strip_prefix(':')?.strip_suffix(':')?;
        STANDARD.decode(inner).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = NotADigest;
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| NotADigest)?;
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

crate::id::text_serde!(Digest);
crate::id::text_schema!(Digest, "^[0-9a-f]{64}$");

impl Encode for Digest {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.0);
    }
}

impl Decode for Digest {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.array_bytes().map(Self)
    }
}
