//! What is believed of an ID token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use comity_wire::Timestamp;
use comity_wire::time::SKEW_S;
use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use openidconnect::{ClaimsVerificationError, ClientId, IssuerUrl, Nonce, SignatureVerificationError};
use serde_json::{Map, Value};

use super::super::Issuer;
use crate::vetting::evidence::MFA_AGE_S;

/// Signatures that a public key verifies. No shared secrets, and nothing that is unsigned.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// How old an ID token may be: it comes with the answer to a question that was just asked.
const TOKEN_AGE_S: u64 = 600;

/// What the login asked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// None: a device's login, which sends none.
    pub nonce: Option<&'a str>,
    pub mfa: bool,
}

/// Why an ID token says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotVerified {
    #[error("the ID token cannot be read")]
    Unreadable,
    #[error("no key of the issuer's is the one that the ID token names")]
    UnknownKey,
    #[error("{0}")]
    Claims(String),
    #[error("the ID token was made for the client {azp}")]
    OtherParty { azp: String },
    #[error("its auth_time {at} lies ahead")]
    Ahead { at: Timestamp },
    #[error("the login was asked to be with a second factor, and says {}", acr.as_deref().unwrap_or("nothing of how it was"))]
    NoSecondFactor { acr: Option<String> },
    #[error("the login was asked to be with a second factor of these hours, and does not say when it was")]
    NoAuthTime,
    #[error("the second factor was used at {at}, too long ago")]
    OldSecondFactor { at: Timestamp },
}

/// The claims of an ID token that this issuer made for this house just now.
///
/// # Errors
/// [`NotVerified`] saying what is wrong; [`NotVerified::UnknownKey`] where newer keys of the issuer's may help.
pub fn verify(
    issuer: &Issuer,
    keys: &CoreJsonWebKeySet,
    token: &str,
    expected: Expected<'_>,
    now: Timestamp,
) -> Result<Map<String, Value>, NotVerified> {
    let parsed: CoreIdToken = token.parse().map_err(|_| NotVerified::Unreadable)?;
    let url = IssuerUrl::new(issuer.issuer.clone()).map_err(|_| NotVerified::Unreadable)?;
    let verifier = CoreIdTokenVerifier::new_public_client(ClientId::new(issuer.client_id.clone()), url, keys.clone())
        .set_allowed_algs(ALGORITHMS)
        .set_other_audience_verifier_fn(|_| false)
        .set_time_fn(move || date(now))
        .set_issue_time_verifier_fn(move |at| recent(at, now));
    let nonce = |said: Option<&Nonce>| match (expected.nonce, said) {
        (None, _) => Ok(()),
        (Some(wanted), Some(said)) if said.secret() == wanted => Ok(()),
        (Some(_), _) => Err("not the nonce that was sent".to_owned()),
    };
    parsed.claims(&verifier, nonce).map_err(|error| match error {
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
            NotVerified::UnknownKey
        }
        other => NotVerified::Claims(crate::failure::chain(&other)),
    })?;
    // The same bytes that were verified, with all that they say.
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
    let claims = claims.ok_or(NotVerified::Unreadable)?;
    party(issuer, &claims)?;
    times(issuer, &claims, expected, now)?;
    Ok(claims)
}

/// `azp`, which `openidconnect` leaves alone: a token that names another party was made for that one.
fn party(issuer: &Issuer, claims: &Map<String, Value>) -> Result<(), NotVerified> {
    match claims.get("azp") {
        None => Ok(()),
        Some(Value::String(azp)) if *azp == issuer.client_id => Ok(()),
        Some(other) => Err(NotVerified::OtherParty { azp: other.as_str().unwrap_or("that is no text").to_owned() }),
    }
}

fn times(
    issuer: &Issuer,
    claims: &Map<String, Value>,
    expected: Expected<'_>,
    now: Timestamp,
) -> Result<(), NotVerified> {
    let at = claims.get("auth_time").and_then(Value::as_u64).map(Timestamp);
    if let Some(at) = at.filter(|at| *at > now.plus(SKEW_S)) {
        return Err(NotVerified::Ahead { at });
    }
    if !expected.mfa {
        return Ok(());
    }
    let acr = claims.get("acr").and_then(Value::as_str);
    if !issuer.mfa_acr.iter().any(|own| Some(own.as_str()) == acr) {
        return Err(NotVerified::NoSecondFactor { acr: acr.map(str::to_owned) });
    }
    match at {
        None => Err(NotVerified::NoAuthTime),
        Some(at) if at.plus(MFA_AGE_S) <= now => Err(NotVerified::OldSecondFactor { at }),
        Some(_) => Ok(()),
    }
}

fn recent(at: DateTime<Utc>, now: Timestamp) -> Result<(), String> {
    let at = u64::try_from(at.timestamp()).map(Timestamp).map_err(|_| "issued before 1970".to_owned())?;
    if at > now.plus(SKEW_S) {
        return Err(format!("issued at {at}, which lies ahead"));
    }
    if at.plus(TOKEN_AGE_S) < now {
        return Err(format!("issued at {at}, too long ago"));
    }
    Ok(())
}

fn date(at: Timestamp) -> DateTime<Utc> {
    let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Signed {
        now: Timestamp,
        keys: Vec<Value>,
        tokens: std::collections::BTreeMap<String, String>,
    }

    /// What providers sign with today, made by somebody else's program.
    #[test]
    fn tokens_that_openssl_signed_are_believed_and_altered_ones_are_not() {
        let signed: Signed = serde_json::from_str(include_str!("signed.json")).unwrap();
        let keys: CoreJsonWebKeySet = serde_json::from_value(serde_json::json!({ "keys": signed.keys })).unwrap();
        let issuer: Issuer = serde_json::from_str(
            r#"{"name": "uni", "issuer": "https://idp.uni.example", "client_id": "comity", "profile": "institution"}"#,
        )
        .unwrap();
        assert_eq!(signed.tokens.keys().collect::<Vec<_>>(), ["ES256", "RS256"]);
        for (algorithm, token) in &signed.tokens {
            let verify = |token: &str, nonce| {
                let expected = Expected { nonce, mfa: false };
                verify(&issuer, &keys, token, expected, signed.now)
            };
            assert_eq!(verify(token, Some("n-1")).unwrap()["sub"], "8f14", "{algorithm}");
            assert!(verify(token, Some("n-2")).is_err());
            let (front, signature) = token.rsplit_once('.').unwrap();
            let (header, _) = front.split_once('.').unwrap();
            let other = URL_SAFE_NO_PAD.encode(format!(
                r#"{{"iss":"https://idp.uni.example","aud":"comity","sub":"eve","iat":{0},"exp":{1}}}"#,
                signed.now.0,
                signed.now.0 + 300
            ));
            let altered = verify(&format!("{header}.{other}.{signature}"), None);
            assert!(matches!(altered, Err(NotVerified::Claims(_))), "{algorithm}: {altered:?}");
        }
        assert_eq!(signed.tokens.len(), 2);
    }
}
