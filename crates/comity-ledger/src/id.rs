//! Ids of accounts and transfers: 16 bytes, derived from what they stand for, so that a replay collides with itself.

use std::fmt;
use std::str::FromStr;

use comity_wire::Digest;

use crate::account::AccountCode;
use crate::transfer::TransferKind;

/// A text that is not 32 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ledger id: 32 lower-case hex digits are expected")]
pub struct NotALedgerId;

macro_rules! hex_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = NotALedgerId;
            fn from_str(text: &str) -> Result<Self, NotALedgerId> {
                unhex(text).map(Self).ok_or(NotALedgerId)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

hex_ids! {
    /// Names an account.
    AccountId;
    /// Names a transfer; the key of its idempotency.
    TransferId;
    /// What an account or a transfer is about: the 16 bytes of a token, project, organisation or award id.
    Reference;
}

impl AccountId {
    /// The account of `code` for what `parts` name, such as the escrow of one token.
    pub fn derive(code: AccountCode, parts: &[&[u8]]) -> Self {
        Self(derive(b"comity/ledger/account/v1", code.number(), parts))
    }

    /// As [`derive`](Self::derive), beside `reference`: see [`Reference::beside`].
    pub fn near(code: AccountCode, reference: Reference) -> Self {
        Self(reference.beside(Self::derive(code, &[reference.as_bytes()]).0))
    }
}

impl TransferId {
    /// The transfer of `kind` that `parts` single out. The same parts give the same id at every replay; put into them
    /// what makes the act unique (token and claim), never the amount: then another amount is a conflict.
    pub fn derive(kind: TransferKind, parts: &[&[u8]]) -> Self {
        Self(derive(b"comity/ledger/transfer/v1", kind.number(), parts))
    }

    /// As [`derive`](Self::derive) of `reference` and `parts`, beside `reference`: see [`Reference::beside`].
    pub fn near(kind: TransferKind, reference: Reference, parts: &[&[u8]]) -> Self {
        let all: Vec<&[u8]> = std::iter::once(&reference.0[..]).chain(parts.iter().copied()).collect();
        Self(reference.beside(Self::derive(kind, &all).0))
    }
}

impl Reference {
    pub const NONE: Self = Self([0; 16]);
    /// The bytes of a UUID of version 7 (RFC 9562 §5.7) that tell when it was made.
    const TIME_BYTES: usize = 6;

    /// An id that begins as this one does. Where ids begin with their time, as those of tokens do, what is written at one time
    /// then stands together in every index, and a commit touches a few pages; ten bytes of a digest tell apart what one
    /// millisecond made, and an id that is taken all the same is a conflict and no second account.
    fn beside(self, mut id: [u8; 16]) -> [u8; 16] {
        id[..Self::TIME_BYTES].copy_from_slice(&self.0[..Self::TIME_BYTES]);
        id
    }
}

/// The first 16 bytes of SHA-256 over domain, number, and each part behind its length, so that parts cannot run together.
fn derive(domain: &[u8], number: u16, parts: &[&[u8]]) -> [u8; 16] {
    let mut bytes = domain.to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    let digest = Digest::of(&bytes);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    id
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 32 {
        return None;
    }
    let mut id = [0; 16];
    for (at, pair) in bytes.chunks_exact(2).enumerate() {
        id[at] = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_derives_the_same_id_and_nothing_else_does() {
        let id = |kind, parts: &[&[u8]]| TransferId::derive(kind, parts);
        let reserve = id(TransferKind::Reserve, &[b"tok", b"1"]);
        assert_eq!(reserve, id(TransferKind::Reserve, &[b"tok", b"1"]));
        assert_ne!(reserve, id(TransferKind::Settle, &[b"tok", b"1"]));
        assert_ne!(reserve, id(TransferKind::Reserve, &[b"to", b"k1"]));
        assert_ne!(reserve, id(TransferKind::Reserve, &[b"tok1"]));
        assert_eq!(reserve.to_string().parse(), Ok(reserve));
        let token = Reference([7; 16]);
        let near = TransferId::near(TransferKind::Reserve, token, &[b"1"]);
        assert_eq!(near, TransferId::near(TransferKind::Reserve, token, &[b"1"]));
        assert_eq!((&near.0[..6], &near.0[6..]), (&[7; 6][..], &id(TransferKind::Reserve, &[&[7; 16], b"1"]).0[6..]));
        assert_ne!(near, TransferId::near(TransferKind::Reserve, token, &[b"2"]));
        assert_ne!(near.0, AccountId::near(AccountCode::Escrow, token).0);
        assert!("00".parse::<TransferId>().is_err());
        assert!(reserve.to_string().to_uppercase().parse::<TransferId>().is_err());
    }
}
