//! Who stands behind an application, sealed until they consent.
//!
//! When it is handed in, the applicant says the digest of their organisation and of their name, each with a secret salt;
//! with their consent they say what was sealed, and everybody can check that it was this from the start.
//!
//! It protects the applicant before consent (the owner cannot try names against a salted digest) and the owner after it
//! (nobody becomes somebody else once a decision is near). It does not say that a name is true, which is the house's
//! evidence, and it does not make an owner forget what was opened.

use comity_wire::Digest;
use serde::{Deserialize, Serialize};

const CONTEXT: &[u8] = b"comity/v1/access-identity\0";

/// Two commitments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// [`commitment`] of the organisation.
    pub organisation: Digest,
    /// [`commitment`] of the person.
    pub person: Digest,
}

/// What of an identity is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Which organisation.
    Organisation,
    /// Who.
    Person,
}

impl Sealed {
    /// The commitment to one of the two.
    pub const fn of(&self, what: Shown) -> Digest {
        match what {
            Shown::Organisation => self.organisation,
            Shown::Person => self.person,
        }
    }
}

/// SHA-256 over context, which of the two, salt and value. The salt has to be 32 random bytes, another one for each.
pub fn commitment(what: Shown, salt: &Digest, value: &str) -> Digest {
    let which = match what {
        Shown::Organisation => [1],
        Shown::Person => [2],
    };
    Digest::of_parts(&[CONTEXT, &which, salt.as_bytes(), value.as_bytes()])
}
