//! From the claims of a login to rows of evidence: what is taken down, what is passed over and why.
//!
//! Words are compared whole. What nobody asked this issuer for is not taken down; of what it may state, unknown values are kept.

use comity_wire::Timestamp;
use serde_json::{Map, Value};

use super::issuer::{Issuer, Profile, SubjectClaim};
use super::{ROWS_MAX, TEXT_MAX};
use crate::vetting::evidence::{assurance, claim};

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub claim: String,
    pub value: String,
    pub asserted_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// What a login told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// How the issuer calls the person.
    pub subject: String,
    pub rows: Vec<Said>,
    /// What was not taken down, and why: for whoever logged in.
    pub ignored: Vec<String>,
}

/// Why nobody can be named by these claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLearned {
    #[error("the issuer sent no {claim}, by which it names persons here")]
    NoSubject { claim: &'static str },
    #[error("the issuer's {claim} is longer than {TEXT_MAX} bytes")]
    TooLong { claim: &'static str },
    #[error("the issuer does not say that its eduPersonPrincipalName is never given to somebody else")]
    EppnReused,
}

/// # Errors
/// [`NotLearned`] where the claims name nobody.
pub fn learn(issuer: &Issuer, claims: &Map<String, Value>, now: Timestamp) -> Result<Learned, NotLearned> {
    let mut learned = Learned { subject: subject(issuer, claims)?, rows: Vec::new(), ignored: Vec::new() };
    let own = learned.subject.clone();
    learned.take(claim::SUBJECT, own, now);
    match issuer.profile {
        Profile::Orcid | Profile::Social => {}
        Profile::Institution => learned.scoped(issuer, claims, now),
        Profile::Proxy => {
            learned.scoped(issuer, claims, now);
            for value in texts(claims, claim::EXTERNAL_AFFILIATION) {
                learned.take(claim::EXTERNAL_AFFILIATION, value, now);
            }
        }
        Profile::Cilogon => {
            let said = texts(claims, "affiliation");
            for value in said.iter().flat_map(|text| text.split(';')).filter(|text| !text.is_empty()) {
                learned.take(claim::EXTERNAL_AFFILIATION, value.to_owned(), now);
            }
        }
    }
    if !matches!(issuer.profile, Profile::Orcid | Profile::Social) {
        let names = [claim::ASSURANCE, "eduPersonAssurance"];
        for value in names.iter().flat_map(|name| texts(claims, name)) {
            learned.take(claim::ASSURANCE, value, now);
        }
        let home = texts(claims, "schac_home_organization");
        if issuer.sirtfi || home.iter().any(|home| issuer.sirtfi_homes.contains(home)) {
            learned.take(claim::SIRTFI, "true".into(), now);
        }
        for value in home {
            learned.take("schac_home_organization", value, now);
        }
    }
    learned.second_factor(issuer, claims, now);
    Ok(learned)
}

fn subject(issuer: &Issuer, claims: &Map<String, Value>) -> Result<String, NotLearned> {
    let claim = match issuer.subject_claim() {
        SubjectClaim::Sub => "sub",
        SubjectClaim::VopersonId => "voperson_id",
        SubjectClaim::Eppn => "eduperson_principal_name",
    };
    if issuer.subject_claim() == SubjectClaim::Eppn {
        let said = texts(claims, claim::ASSURANCE);
        if !issuer.eppn_kept && !said.iter().any(|value| value == assurance::EPPN_KEPT) {
            return Err(NotLearned::EppnReused);
        }
    }
    let named = claims.get(claim).and_then(Value::as_str).filter(|subject| !subject.is_empty());
    let named = named.ok_or(NotLearned::NoSubject { claim })?;
    if named.len() > TEXT_MAX { Err(NotLearned::TooLong { claim }) } else { Ok(named.to_owned()) }
}

impl Learned {
    fn take(&mut self, claim: &str, value: String, at: Timestamp) {
        if value.len() > TEXT_MAX {
            self.ignored.push(format!("{claim}: a value of more than {TEXT_MAX} bytes"));
        } else if self.rows.len() >= ROWS_MAX {
            self.ignored.push(format!("{claim} {value}: more than {ROWS_MAX} values came with it"));
        } else {
            self.rows.push(Said { claim: claim.into(), value, asserted_at: at, expires_at: None });
        }
    }

    /// An institution states who belongs to it, and to no other.
    fn scoped(&mut self, issuer: &Issuer, claims: &Map<String, Value>, now: Timestamp) {
        for value in texts(claims, claim::SCOPED_AFFILIATION) {
            let scope = value.rsplit_once('@').map_or("", |(_, scope)| scope);
            if issuer.affiliation_scopes.iter().any(|own| own == scope) {
                self.take(claim::SCOPED_AFFILIATION, value, now);
            } else {
                self.ignored.push(format!("{} {value}: not a scope of {}", claim::SCOPED_AFFILIATION, issuer.name));
            }
        }
    }

    /// A second factor counts from when it was used, which only the issuer knows.
    fn second_factor(&mut self, issuer: &Issuer, claims: &Map<String, Value>, now: Timestamp) {
        let acr = claims.get("acr").and_then(Value::as_str).unwrap_or_default();
        if !issuer.mfa_acr.iter().any(|own| own == acr) {
            return;
        }
        match claims.get("auth_time").and_then(Value::as_u64) {
            Some(at) => self.take(claim::MFA, acr.to_owned(), Timestamp(at).min(now)),
            None => self.ignored.push(format!("acr {acr}: the issuer does not say when (auth_time)")),
        }
    }
}

/// A claim's values: one text, or a list of them.
fn texts(claims: &Map<String, Value>, name: &str) -> Vec<String> {
    match claims.get(name) {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
