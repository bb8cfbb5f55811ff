//! Notices by webhook, in the headers of Standard Webhooks 1.0 (decision 0062).
//!
//! HTTPS; plain HTTP to loopback alone. Private addresses are as good as public ones, since the operator wrote the URL and
//! nobody else can. Redirects are not followed and no answer's body is read: the status says it all.

use std::error::Error as _;
use std::time::Duration;

use comity_wire::Timestamp;
use data_encoding::BASE64;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, StatusCode, Url};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::schedule::Outcome;
use super::target::{Hidden, ReadSecret, WebhookTarget};
use super::{Queued, Sender, limit};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Secrets that a request is signed with at once.
const SECRETS_MAX: usize = 4;

/// Posts to one URL.
pub struct Webhook {
    http: reqwest::Client,
    url: Url,
    secrets: Vec<Zeroizing<Vec<u8>>>,
}

impl Webhook {
    /// Takes the process's TLS provider, which `comity_http::tls::install` sets.
    pub(super) fn open(target: &WebhookTarget, secret: ReadSecret<'_>) -> Result<Self, String> {
        let url = address(&target.url)?;
        let secrets = secrets(&secret(&target.secret_file)?)?;
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("comity/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(Duration::from_secs(limit::ATTEMPT_S_MAX));
        if url.scheme() == "http" {
            // No TLS will be spoken, so a machine without a system trust store will do.
            builder = builder.no_proxy().tls_certs_only([]);
        } else if let Some(file) = &target.ca_file {
            builder = builder.tls_certs_only(believed(file, secret)?);
        }
        let http = builder.build().map_err(|error| format!("has no HTTP client: {error}"))?;
        Ok(Self { http, url, secrets })
    }

    async fn post(&self, queued: &Queued, now: Timestamp) -> Outcome {
        let notice = &queued.delivery.notice;
        let (id, body) = (notice.id.to_string(), notice.to_json());
        let signatures: Vec<String> = self.secrets.iter().map(|secret| signature(secret, &id, now, &body)).collect();
        let request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.seconds().to_string())
            .header("webhook-signature", signatures.join(" "))
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Failed { why: chain(&error.without_url()), wait_s: None },
        };
        let status = response.status();
        let why = format!("the receiver answered {}", status.as_u16());
        if status.is_success() {
            return Outcome::Delivered;
        }
        if status == StatusCode::GONE {
            return Outcome::Gone { why };
        }
        let wait_s = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
        Outcome::Failed { why, wait_s }
    }
}

impl Sender for Webhook {
    fn send<'a>(&'a self, queued: &'a Queued, now: Timestamp) -> BoxFuture<'a, Outcome> {
        self.post(queued, now).boxed()
    }
}

/// `v1,` and the HMAC-SHA256 of id, time and body in base64, as Standard Webhooks has it.
pub fn signature(secret: &[u8], id: &str, at: Timestamp, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", at.seconds().to_string().as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

/// A URL that notices may be posted to; the sentence never shows it.
pub(super) fn address(text: &Hidden) -> Result<Url, String> {
    let url = Url::parse(&text.0).map_err(|_| "has a url that is none: https://…".to_owned())?;
    let is_loopback = url.host_str().is_some_and(is_loopback);
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err("has a url that is not https: plain http goes to this computer alone".into()),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("has a url with a user or a fragment".into());
    }
    Ok(url)
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn secrets(text: &str) -> Result<Vec<Zeroizing<Vec<u8>>>, String> {
    let wrong = || "has a secret_file that is not lines of whsec_ and the base64 of 24 to 64 random bytes".to_owned();
    let secrets: Vec<_> = text
        .split_whitespace()
        .map(|line| BASE64.decode(line.strip_prefix("whsec_")?.as_bytes()).ok().map(Zeroizing::new))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let is_fit = (1..=SECRETS_MAX).contains(&secrets.len()) && secrets.iter().all(|s| (24..=64).contains(&s.len()));
    if is_fit { Ok(secrets) } else { Err(wrong()) }
}

/// The certificates in a file.
fn believed(file: &std::path::Path, read: ReadSecret<'_>) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(read(file)?.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("has a ca_file without a certificate in PEM".into()),
    }
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}
