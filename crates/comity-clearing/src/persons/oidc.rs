//! OpenID Connect as a relying party: what is asked of an issuer, and what is believed of its answers. Pure: requests go out of here
//! as values, answers come in, and `service/logins.rs` does the talking through a [`Line`].
//!
//! The crate `openidconnect` verifies signature, issuer, audience, nonce and expiry. What it leaves to its callers is in [`verify`]: `azp`,
//! times that lie ahead, a second factor that was asked for.

pub mod verify;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use http::{Method, Request, Response, header};
use openidconnect::core::CoreJsonWebKeySet;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Issuer;
use crate::vetting::evidence::MFA_AGE_S;

pub use verify::{Expected, NotVerified};

/// The most of an issuer's answer that is read, bytes.
pub const REPLY_BYTES_MAX: usize = 256 * 1024;
/// How long an issuer's endpoints and keys are remembered.
pub const REMEMBERED_S: u64 = 3_600;
/// How soon keys are fetched again for one that is not among them.
pub const REFETCH_S: u64 = 60;
/// How long somebody has to finish a login.
pub const LOGIN_S: u64 = 900;
/// What a device waits between two questions, where the issuer does not say (RFC 8628 §3.2).
pub const INTERVAL_S: u64 = 5;

/// The wire to issuers. Whoever runs the house has it: timeouts, TLS and the most that is read of an answer are its own.
pub trait Line: Send + Sync {
    fn call(&self, request: Request<Vec<u8>>) -> BoxFuture<'_, Result<Response<Vec<u8>>, Unreached>>;
}

/// No answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Unreached {
    pub what: String,
}

/// Why an issuer's answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Answered {
    #[error("status {status}")]
    Status { status: u16 },
    #[error("its answer cannot be read: {what}")]
    Unreadable { what: String },
    #[error("its metadata is of the issuer {found}, which is not {wanted}")]
    OtherIssuer { wanted: String, found: String },
    #[error("its metadata names {what} at {url}, which is not https")]
    Plain { what: &'static str, url: String },
    #[error("it has no {what}")]
    Lacks { what: &'static str },
    /// In OAuth's own words.
    #[error("it refused: {error}{}", description.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused { error: String, description: Option<String> },
}

/// What an issuer says of itself (OpenID Connect Discovery 1.0 §3, RFC 8628 §4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub userinfo_endpoint: Option<String>,
    pub device_authorization_endpoint: Option<String>,
}

/// What a device is told (RFC 8628 §3.2).
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceStarted {
    pub device_code: String,
    pub user_code: String,
    pub verification_uri: String,
    #[serde(default)]
    pub verification_uri_complete: Option<String>,
    pub expires_in: u64,
    #[serde(default)]
    pub interval: Option<u64>,
}

/// What comes for a code.
#[derive(Clone, Debug, Deserialize)]
pub struct Tokens {
    pub access_token: String,
    #[serde(default)]
    pub id_token: Option<String>,
}

/// A client's password at an issuer: it stands in one header and in no message.
#[derive(Clone)]
pub struct Secret(pub zeroize::Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An issuer, and what the house is there.
#[derive(Clone, Debug)]
pub struct Client {
    pub issuer: Issuer,
    pub secret: Option<Secret>,
}

pub fn metadata_request(issuer: &Issuer) -> Request<Vec<u8>> {
    get(&format!("{}/.well-known/openid-configuration", issuer.issuer.trim_end_matches('/')))
}

/// # Errors
/// [`Answered`] where it is another issuer's, or leads to where nobody should send anything.
pub fn metadata(issuer: &Issuer, response: &Response<Vec<u8>>) -> Result<Metadata, Answered> {
    let metadata: Metadata = read(response)?;
    // Letter by letter: a document that any path of a host could serve speaks for nobody else.
    if metadata.issuer != issuer.issuer {
        return Err(Answered::OtherIssuer { wanted: issuer.issuer.clone(), found: metadata.issuer });
    }
    let urls = [
        ("an authorization endpoint", metadata.authorization_endpoint.as_ref()),
        ("a token endpoint", Some(&metadata.token_endpoint)),
        ("keys", Some(&metadata.jwks_uri)),
        ("userinfo", metadata.userinfo_endpoint.as_ref()),
        ("a device endpoint", metadata.device_authorization_endpoint.as_ref()),
    ];
    // Only what is plain itself, on loopback, may lead to what is plain.
    let may =
        |url: &str| url.starts_with("https://") || issuer.issuer.starts_with("http://") && url.starts_with("http://");
    for (what, url) in urls {
        if let Some(url) = url.filter(|url| !may(url)) {
            return Err(Answered::Plain { what, url: url.clone() });
        }
    }
    Ok(metadata)
}

pub fn keys_request(metadata: &Metadata) -> Request<Vec<u8>> {
    get(&metadata.jwks_uri)
}

/// # Errors
/// [`Answered`].
pub fn keys(response: &Response<Vec<u8>>) -> Result<CoreJsonWebKeySet, Answered> {
    read(response)
}

impl Client {
    /// Asks for a code that a person types into another device (RFC 8628 §3.1).
    ///
    /// # Errors
    /// [`Answered::Lacks`] where the issuer knows no such codes.
    pub fn device_request(&self, metadata: &Metadata, mfa: bool) -> Result<Request<Vec<u8>>, Answered> {
        let endpoint = metadata.device_authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(Answered::Lacks { what: "login by a code that is typed into another device" })?;
        let mut form = vec![("scope", self.scope())];
        form.extend(self.asked(mfa));
        Ok(self.post(endpoint, form))
    }

    /// Asks whether the person has done it (RFC 8628 §3.4).
    pub fn device_poll(&self, metadata: &Metadata, device_code: &str) -> Request<Vec<u8>> {
        let grant = "urn:ietf:params:oauth:grant-type:device_code".to_owned();
        self.post(&metadata.token_endpoint, vec![("grant_type", grant), ("device_code", device_code.to_owned())])
    }

    /// Where a browser is sent (OpenID Connect Core §3.1.2.1, with PKCE).
    ///
    /// # Errors
    /// [`Answered::Lacks`] where the issuer has no such place.
    pub fn browser_url(
        &self,
        metadata: &Metadata,
        redirect: &str,
        (state, nonce, verifier): (&str, &str, &str),
        mfa: bool,
    ) -> Result<String, Answered> {
        let endpoint = metadata.authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(Answered::Lacks { what: "login by a browser" })?;
        let mut query = vec![
            ("response_type", "code".to_owned()),
            ("client_id", self.issuer.client_id.clone()),
            ("redirect_uri", redirect.to_owned()),
            ("scope", self.scope()),
            ("state", state.to_owned()),
            ("nonce", nonce.to_owned()),
            ("code_challenge", URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))),
            ("code_challenge_method", "S256".to_owned()),
        ];
        query.extend(self.asked(mfa));
        let join = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{join}{}", form_text(&query)))
    }

    /// Trades a browser's code.
    pub fn code_request(&self, metadata: &Metadata, code: &str, redirect: &str, verifier: &str) -> Request<Vec<u8>> {
        let form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", redirect.to_owned()),
            ("code_verifier", verifier.to_owned()),
        ];
        self.post(&metadata.token_endpoint, form)
    }

    fn scope(&self) -> String {
        let own = self.issuer.scopes.iter().filter(|scope| *scope != "openid");
        std::iter::once("openid").chain(own.map(String::as_str)).collect::<Vec<_>>().join(" ")
    }

    /// A second factor, used within the time in which it counts.
    fn asked(&self, mfa: bool) -> Vec<(&'static str, String)> {
        if mfa {
            vec![("acr_values", self.issuer.mfa_acr.join(" ")), ("max_age", MFA_AGE_S.to_string())]
        } else {
            Vec::new()
        }
    }

    fn post(&self, url: &str, mut form: Vec<(&'static str, String)>) -> Request<Vec<u8>> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        // Also beside a password: providers differ in whether they look for it.
        form.push(("client_id", self.issuer.client_id.clone()));
        let request = match &self.secret {
            // RFC 6749 §2.3.1: each half is encoded as in a form before they are joined.
            Some(Secret(secret)) => {
                let pair = format!("{}:{}", encoded(&self.issuer.client_id), encoded(secret));
                request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))
            }
            None => request,
        };
        built(request.body(form_text(&form).into_bytes()))
    }
}

pub fn userinfo_request(endpoint: &str, access_token: &str) -> Request<Vec<u8>> {
    let mut request = get(endpoint);
    if let Ok(value) = http::HeaderValue::from_str(&format!("Bearer {access_token}")) {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

/// Reads an answer of success; one that is none in OAuth's words.
///
/// # Errors
/// [`Answered`].
pub fn read<T: serde::de::DeserializeOwned>(response: &Response<Vec<u8>>) -> Result<T, Answered> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        error_description: Option<String>,
    }
    let status = response.status().as_u16();
    if status == 200 {
        let read = serde_json::from_slice(response.body());
        return read.map_err(|error| Answered::Unreadable { what: error.to_string() });
    }
    match serde_json::from_slice::<Refusal>(response.body()) {
        Ok(Refusal { error, error_description }) => {
            let cut = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect();
            Err(Answered::Refused { error: cut(error), description: error_description.map(cut) })
        }
        Err(_) => Err(Answered::Status { status }),
    }
}

fn get(url: &str) -> Request<Vec<u8>> {
    built(Request::builder().uri(url).header(header::ACCEPT, "application/json").body(Vec::new()))
}

/// What an issuer names may be no URI at all: then the request goes nowhere, and the line says so.
fn built(request: http::Result<Request<Vec<u8>>>) -> Request<Vec<u8>> {
    request.unwrap_or_else(|_| Request::new(Vec::new()))
}

fn form_text(pairs: &[(&'static str, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

/// Percent-encoding of all but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
