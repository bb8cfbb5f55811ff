//! What is kept of a person, and the words in which it is said. A word is compared whole, letter by letter: one that is not
//! known is kept, and proves nothing.

use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};

/// One row: who says what of a person. Rows are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub issuer: String,
    pub claim: String,
    pub value: String,
    pub asserted_at: Timestamp,
    /// None: it has no end of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub how: How,
    /// What was recorded together: one login, one visit. Rises with each.
    pub occasion: u64,
}

/// How a row was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum How {
    /// From a listed issuer, in a login that the house verified.
    Login = 1,
    /// In a visa of a listed issuer, which came with a login.
    Visa = 2,
    /// The house's own check.
    House = 3,
    /// Signed by a key that is registered here.
    Signed = 4,
}

impl How {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Login, Self::Visa, Self::House, Self::Signed].into_iter().find(|how| u64::from(*how as u8) == number)
    }
}

/// Who the house is among issuers.
pub const HOUSE: &str = "house";

/// Names of claims. Those of issuers are theirs.
pub mod claim {
    /// That a listed issuer knows the person: its value is how it calls them.
    pub const SUBJECT: &str = "sub";
    pub const ASSURANCE: &str = "eduperson_assurance";
    pub const SCOPED_AFFILIATION: &str = "eduperson_scoped_affiliation";
    /// Made by a proxy, which answers for its scopes.
    pub const EXTERNAL_AFFILIATION: &str = "voperson_external_affiliation";
    /// Of a GA4GH visa.
    pub const VISA_AFFILIATION: &str = "AffiliationAndRole";
    /// That the login was with a second factor; its value is the `acr`, and it is asserted when it was used.
    pub const MFA: &str = "mfa";
    /// The house's word that the home organisation answers for incidents (Sirtfi).
    pub const SIRTFI: &str = "sirtfi";
    /// The house's own check: `registered`, `vetted`, or `none`, which takes one back.
    pub const OWN_CHECK: &str = "own_check";
    /// A code of conduct was signed: its version, a space, its digest.
    pub const CONDUCT: &str = "conduct";
    /// A PI signed for the person: the project, a space, the PI's own id.
    pub const SPONSORED: &str = "sponsored";
}

/// Values of `eduperson_assurance` (REFEDS RAF, IGTF, AARC-G021).
pub mod assurance {
    pub const LOW: &str = "https://refeds.org/assurance/IAP/low";
    pub const MEDIUM: &str = "https://refeds.org/assurance/IAP/medium";
    pub const HIGH: &str = "https://refeds.org/assurance/IAP/high";
    pub const LOCAL_ENTERPRISE: &str = "https://refeds.org/assurance/IAP/local-enterprise";
    pub const CAPPUCCINO: &str = "https://refeds.org/assurance/profile/cappuccino";
    pub const ESPRESSO: &str = "https://refeds.org/assurance/profile/espresso";
    pub const DOGWOOD: &str = "https://igtf.net/ap/authn-assurance/dogwood";
    pub const AFFILIATION_1M: &str = "https://refeds.org/assurance/ATP/ePA-1m";
    pub const AFFILIATION_1D: &str = "https://refeds.org/assurance/ATP/ePA-1d";
    pub const EPPN_KEPT: &str = "https://refeds.org/assurance/ID/eppn-unique-no-reassign";

    /// An identity document, or as much, was seen.
    pub const OF_PI: [&str; 4] = [CAPPUCCINO, ESPRESSO, MEDIUM, HIGH];
    /// Enough for somebody whom a PI answers for.
    pub const OF_MEMBER: [&str; 2] = [DOGWOOD, LOW];
}

/// Affiliations that say something: `affiliate` and what is not known say nothing.
pub const AFFILIATIONS: [&str; 6] = ["faculty", "staff", "employee", "student", "member", "researcher"];

/// What a login counts for, where nothing else bounds it.
pub const LOGIN_AGE_S: u64 = 365 * DAY_S;
/// An affiliation whose freshness the issuer vouches for.
pub const AFFILIATION_AGE_S: u64 = 31 * DAY_S;
/// One of which nobody says how old it is.
pub const AFFILIATION_UNSAID_S: u64 = DAY_S;
/// A second factor.
pub const MFA_AGE_S: u64 = 12 * 3_600;

impl Evidence {
    pub(super) fn in_force(&self, now: Timestamp) -> bool {
        self.asserted_at <= now && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether it is an affiliation that says something.
    pub(super) fn affiliates(&self) -> bool {
        let claims = [claim::SCOPED_AFFILIATION, claim::EXTERNAL_AFFILIATION, claim::VISA_AFFILIATION];
        let role = self.value.split_once('@').map_or("", |(role, _)| role);
        claims.contains(&self.claim.as_str()) && AFFILIATIONS.contains(&role)
    }
}
