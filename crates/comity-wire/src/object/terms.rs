//! Terms of use: what an owner asks a project to agree to before it calls, and the agreement (spec/03-manifest.md §9).
//!
//! Terms are not signed: the owner's policy names their digest, and whoever agrees signs it.

use super::{KIB, require};
use crate::cbor::{Decode as _, Encode as _, Limits, Malformed, Text, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{OrgId, TokenId};
use crate::time::Timestamp;

record! {
    /// One text has one encoding, and so one digest.
    pub struct TermsOfUse {
        1 => org: OrgId,
        2 => title: Text<120>,
        /// Plain text or Markdown, as people read it.
        3 => text: Text<64000>,
    }
}

record! {
    /// Signed by the root holder of a token that a house sold: the house can say who drew it.
    pub struct Agreement {
        1 => org: OrgId,
        /// The project's pseudonym at this organisation: the token's `sub`.
        2 => subject: Text<80>,
        /// Digest of the terms.
        3 => terms: Digest,
        4 => token: TokenId,
        5 => at: Timestamp,
    }
}

impl TermsOfUse {
    pub const BYTES_MAX: usize = 64 * KIB;
    const LIMITS: Limits = Limits { bytes_max: Self::BYTES_MAX, items_max: 8, tagged: false };

    /// Reads the one encoding of terms that keep the rules.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let terms = Self::from_cbor(bytes, Self::LIMITS)?;
        let said = [terms.title.as_str(), &terms.text];
        require(said.iter().all(|text| !text.trim().is_empty()), "terms: title and text say something")?;
        require(!terms.title.contains('\n'), "terms: the title is one line")?;
        Ok(terms)
    }

    /// The terms as they are kept and hashed.
    ///
    /// # Errors
    /// [`Malformed`] where they break a rule, or are too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let bytes = self.to_cbor();
        Self::from_bytes(&bytes)?;
        Ok(bytes)
    }

    /// What a policy names and a project signs.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_cbor())
    }
}

impl Object for Agreement {
    const KIND: Kind = Kind { name: "agreement", bytes_max: 512, items_max: 16 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.subject.is_empty(), "agreement: it names no project")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_say_something_under_one_title() {
        let terms = |title: &str, text: &str| TermsOfUse {
            org: OrgId([2; 16]),
            title: Text::new(title).unwrap(),
            text: Text::new(text).unwrap(),
        };
        let stands = |terms: &TermsOfUse| terms.to_bytes().is_ok();
        assert!(stands(&terms("Research use, version 2", "1. Publish what you find.\n2. No persons.")));
        assert!(!stands(&terms(" ", "Publish.")));
        assert!(!stands(&terms("Research use", "\n")));
        assert!(!stands(&terms("Research\nuse", "Publish.")));
        let largest = terms("Research use", &"a".repeat(64_000));
        assert_eq!(TermsOfUse::from_bytes(&largest.to_bytes().unwrap()).unwrap().digest(), largest.digest());
    }
}
