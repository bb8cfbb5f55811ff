//! Ids: 16 assigned bytes with one byte form and one text form, `node-` and 26 lower-case base32 characters.
//!
//! Ids name organisations, nodes, projects and tokens; keys are dated attributes certified to them (rule 1). The
//! text form fits a host name and a `CONNECT` target (spec/01-encoding.md §5).

use std::fmt;
use std::str::FromStr;

use crate::cbor::{Decode, Encode, Malformed, Reader, Writer};
use crate::time::Timestamp;

/// Why a text is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnId {
    #[error("not an id: '{prefix}-' and 26 characters of a-z and 2-7 are expected")]
    Form { prefix: &'static str },
    #[error("not a model id: 'organisation/model' of a-z, 0-9, '.', '_' and '-' is expected, at most 96 characters")]
    Model,
}

/// Serialises through the one text form.
macro_rules! text_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

/// Its form in JSON Schema: a text that matches.
macro_rules! text_schema {
    ($name:ident, $pattern:expr) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}
pub(crate) use text_schema;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}", $prefix, base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(concat!($prefix, "-")).and_then(unbase32).map(Self).ok_or(NotAnId::Form { prefix: $prefix })
            }
        }

        text_serde!($name);
        // The last of 26 characters has two spare bits, which are zero.
        text_schema!($name, concat!("^", $prefix, "-[a-z2-7]{25}[aeimquy4]$"));

        impl Encode for $name {
            fn encode(&self, w: &mut Writer) {
                w.bytes(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                r.array_bytes().map(Self)
            }
        }
    )*};
}

ids! {
    /// A federation: the one roster that its members share.
    RosterId "fed";
    /// A member organisation, assigned by the roster.
    OrgId "org";
    /// A node: one spend store with a door, assigned by its organisation's certificate.
    NodeId "node";
    /// A project at the clearing house.
    ProjectId "proj";
    /// A person registered at the clearing house.
    MemberId "mem";
    /// What one organisation knows a project by: stable there, unlinkable elsewhere.
    Pseudonym "sub";
    /// `cti`: names a token and its escrow.
    TokenId "tok";
    QuoteId "quote";
    /// What an owner gives back of a token.
    CreditNoteId "credit";
    GrantId "grant";
    MandateId "mand";
    /// What a funder gave a project, at the clearing house.
    AwardId "award";
    /// A dated part of an award, with accounts of its own in the ledger.
    LotId "lot";
}

impl TokenId {
    /// A UUID of version 7 (RFC 9562 §5.7): the time first, so that tokens which are drawn together are kept together. `random`
    /// gives the rest; ids of one second are in no order.
    pub fn v7(at: Timestamp, random: [u8; 16]) -> Self {
        let mut id = random;
        let millisecond = u64::from(u16::from_be_bytes([random[0], random[1]]) % 1_000);
        id[..6].copy_from_slice(&(at.seconds() * 1_000 + millisecond).to_be_bytes()[2..]);
        id[6] = id[6] & 0x0f | 0x70;
        id[8] = id[8] & 0x3f | 0x80;
        Self(id)
    }
}

fn base32(bytes: &[u8; 16]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn unbase32(text: &str) -> Option<[u8; 16]> {
    if text.len() != 26 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    // BASE32_NOPAD checks that the two trailing bits are zero, so that one id has one text.
    data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?.try_into().ok()
}

/// `organisation/model`, the name a caller asks for. The first half is the organisation's roster name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(String);

impl ModelId {
    pub const BYTES_MAX: usize = 96;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The organisation's roster name.
    pub fn organisation(&self) -> &str {
        self.0.split_once('/').map_or("", |(org, _)| org)
    }

    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

/// A name part of a [`ModelId`], also an organisation's roster name: `[a-z0-9][a-z0-9._-]*`.
pub fn is_slug(text: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.iter().all(|b| tail(*b))
}

impl FromStr for ModelId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (org, name) = text.split_once('/').ok_or(NotAnId::Model)?;
        if text.len() > Self::BYTES_MAX || !is_slug(org) || !is_slug(name) {
            return Err(NotAnId::Model);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(ModelId);
text_schema!(ModelId, "^(?=.{3,96}$)[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$");

impl Encode for ModelId {
    fn encode(&self, w: &mut Writer) {
        w.text(&self.0);
    }
}

impl Decode for ModelId {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        r.text()?.parse().map_err(|_| Malformed::value(at, "model id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_has_one_text() {
        let id = NodeId([7; 16]);
        let text = id.to_string();
        assert_eq!(text.len(), "node-".len() + 26);
        assert_eq!(text.parse::<NodeId>(), Ok(id));
        assert!(text.to_uppercase().parse::<NodeId>().is_err());
        assert!(text.parse::<OrgId>().is_err());
        // The last character carries two spare bits; only zero is canonical.
        let mut loose = text.clone();
        loose.pop();
        loose.push('b');
        assert!(loose.parse::<NodeId>().is_err());
    }

    #[test]
    fn tokens_of_a_later_second_stand_behind() {
        let ids = |at| [[0; 16], [0x5a; 16], [0xff; 16]].map(|random| TokenId::v7(Timestamp(at), random));
        let (early, late) = (ids(1_764_000_000), ids(1_764_000_001));
        assert!(early.iter().all(|early| late.iter().all(|late| early < late)), "{early:?} {late:?}");
        // RFC 9562: 48 bits of milliseconds, version 7, variant 10.
        let [first, second, _] = early;
        assert_eq!(first.0[..6], 1_764_000_000_000_u64.to_be_bytes()[2..]);
        assert_eq!((first.0[6], first.0[8]), (0x70, 0x80));
        assert_eq!((second.0[6], second.0[8], second.0[15]), (0x7a, 0x9a, 0x5a));
    }

    #[test]
    fn a_model_id_has_two_halves() {
        assert_eq!("lab/tiny-1".parse::<ModelId>().unwrap().organisation(), "lab");
        for bad in ["lab", "/x", "lab/", "Lab/x", "lab/x/y", "lab/..\u{202e}", "-a/b"] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad}");
        }
    }
}
