//! Persons: who the house believes about them, and what it takes down of what it is told. Pure; `service/persons.rs` keeps it.
//!
//! A person is named by how an issuer calls them, `(issuer, subject)`, and never by an e-mail address: addresses are given to
//! others.

pub mod claims;
pub mod issuer;
pub mod oidc;

use comity_wire::{MemberId, PublicKey, Timestamp};

pub use comity_wire::api::person::key_proof;

pub use claims::{Learned, NotLearned, Said};
pub use issuer::{Issuer, Profile, SubjectClaim};

/// The most keys of a person that are in force.
pub const KEYS_MAX: u64 = 16;
/// The most that is kept of one login or visit.
pub const ROWS_MAX: usize = 64;
/// The longest text of evidence, bytes.
pub const TEXT_MAX: usize = 512;

/// A key, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) key: PublicKey,
    pub(crate) person: MemberId,
    pub(crate) bound_at: Timestamp,
    pub(crate) by: By,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// Who said whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum By {
    Login = 1,
    Operator = 2,
    /// Another key of the same person.
    Key = 3,
}

impl By {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Login, Self::Operator, Self::Key].into_iter().find(|by| u64::from(*by as u8) == number)
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Operator => "operator",
            Self::Key => "key",
        }
    }
}
