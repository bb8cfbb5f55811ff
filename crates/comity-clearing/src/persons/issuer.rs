//! An OpenID provider that the house believes, and what of its words.

use serde::Deserialize;

/// `https://refeds.org/profile/mfa`: what a login with a second factor is called, unless an issuer has its own word.
pub const REFEDS_MFA: &str = "https://refeds.org/profile/mfa";

/// One `[[issuer]]` of `clearing.toml`, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What people call it: `comity login --issuer NAME`.
    pub name: String,
    /// Its `iss`, letter by letter.
    pub issuer: String,
    pub client_id: String,
    /// A file with the password that goes with it; left out: there is none. Read by whoever runs the house.
    #[serde(default)]
    pub client_secret_file: Option<std::path::PathBuf>,
    pub profile: Profile,
    /// Which claim names the person; left out: the profile's.
    #[serde(default)]
    pub subject: Option<SubjectClaim>,
    /// Scopes to ask for beside `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Whose affiliations it may state: `uni.example` for `member@uni.example`.
    #[serde(default)]
    pub affiliation_scopes: Vec<String>,
    /// Its incidents are answered for (Sirtfi): then its `IAP/local-enterprise` counts.
    #[serde(default)]
    pub sirtfi: bool,
    /// Of a proxy: the home organisations (`schac_home_organization`) of which that is known.
    #[serde(default)]
    pub sirtfi_homes: Vec<String>,
    /// Its federation forbids that an `eduPersonPrincipalName` is given to somebody else.
    #[serde(default)]
    pub eppn_kept: bool,
    /// What it calls a login with a second factor.
    #[serde(default = "refeds_mfa")]
    pub mfa_acr: Vec<String>,
    /// Whether what the ID token lacks is asked for at its userinfo.
    #[serde(default)]
    pub userinfo: bool,
    /// Whether it may be logged in at by a code that is typed into another device.
    #[serde(default = "yes")]
    pub device: bool,
}

/// What kind of provider it is: which claims of its are taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// An institution's own provider: assurance, affiliations in its scopes.
    Institution,
    /// A proxy in AARC's manner (eduTEAMS, MyAccessID, NFDI, a Keycloak in front of a federation): affiliations too that the proxy made.
    Proxy,
    /// CILogon, whose `affiliation` is one text with semicolons.
    Cilogon,
    /// Which researcher, and nothing else.
    Orcid,
    /// That somebody has an account, and nothing else.
    Social,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectClaim {
    Sub,
    VopersonId,
    /// Only where it is never given to somebody else.
    Eppn,
}

fn yes() -> bool {
    true
}

fn refeds_mfa() -> Vec<String> {
    vec![REFEDS_MFA.to_owned()]
}

impl Issuer {
    pub fn subject_claim(&self) -> SubjectClaim {
        self.subject.unwrap_or(match self.profile {
            Profile::Proxy => SubjectClaim::VopersonId,
            _ => SubjectClaim::Sub,
        })
    }

    /// What is wrong with what was written; none: nothing.
    pub fn fault(&self) -> Option<String> {
        let is_word = |text: &str| {
            !text.is_empty()
                && text.len() <= 32
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !is_word(&self.name) {
            return Some("name is 1 to 32 of a-z, 0-9 and -".into());
        }
        // One that is the house's own word would speak as the house.
        let is_local = self.issuer.starts_with("http://127.0.0.1:") || self.issuer.starts_with("http://[::1]:");
        if !self.issuer.starts_with("https://") && !is_local {
            return Some(format!("issuer {} does not begin with https://", self.issuer));
        }
        if self.client_id.is_empty() {
            return Some("client_id is missing".into());
        }
        if self.mfa_acr.is_empty() {
            return Some("mfa_acr is empty: leave it out, or say what a second factor is called there".into());
        }
        if self.affiliation_scopes.iter().any(|scope| scope.contains('*') || scope.contains('@')) {
            return Some("affiliation_scopes are whole domains: no @ and no *".into());
        }
        None
    }
}
