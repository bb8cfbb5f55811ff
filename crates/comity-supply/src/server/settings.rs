//! Settings of one server, and the line that they make.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::header;
use serde::Deserialize;

use super::line::{Line, POOL_IDLE_PER_HOST_MAX, chain};
use crate::dialect::{Dialect, Speak};
use crate::{UpstreamError, sse};

/// Times bound silence, not work: an answer may stream for as long as it keeps coming.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// With its version, as the `openai` packages take it: `http://127.0.0.1:8000/v1`, below whatever path; or
    /// `unix:/run/vllm.sock` for a server that listens on a socket, with the path `/v1`.
    pub base_url: String,
    #[serde(default)]
    pub dialect: Dialect,
    #[serde(default)]
    pub api_key: Option<ApiKey>,
    /// Azure's `api-version`, Anthropic's `anthropic-version`.
    #[serde(default)]
    pub api_version: Option<String>,
    /// The host name to ask for, where that is not the URL's: an ingress tells services apart by it.
    #[serde(default)]
    pub host: Option<String>,
    /// `http://host:port` of a proxy to go through; the environment's is never used.
    #[serde(default)]
    pub proxy: Option<String>,
    /// A PEM bundle to trust beside the system's roots, for `https`.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// The model whose presence [`Upstream::health`](crate::Upstream::health) checks.
    #[serde(default)]
    pub canary_model: Option<String>,
    #[serde(default = "default_connect_ms")]
    pub connect_ms_max: u64,
    /// Until the response head: many servers send it only with the first token, so it covers queue and prompt.
    #[serde(default = "default_silence_ms")]
    pub answer_ms_max: u64,
    /// Between two frames of a stream. A model may think for minutes before it goes on.
    #[serde(default = "default_silence_ms")]
    pub idle_ms_max: u64,
    /// The most that one frame, or an answer in one piece, may hold.
    #[serde(default = "default_frame_bytes")]
    pub frame_bytes_max: usize,
}

impl Config {
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            dialect: Dialect::default(),
            api_key: None,
            api_version: None,
            host: None,
            proxy: None,
            ca_pem: None,
            canary_model: None,
            connect_ms_max: default_connect_ms(),
            answer_ms_max: default_silence_ms(),
            idle_ms_max: default_silence_ms(),
            frame_bytes_max: default_frame_bytes(),
        }
    }
}

fn default_connect_ms() -> u64 {
    5_000
}

fn default_silence_ms() -> u64 {
    300_000
}

fn default_frame_bytes() -> usize {
    sse::Limits::default().frame_bytes_max
}

/// A key that cannot be printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(String);

/// A shorter one is a placeholder (`none`, `EMPTY`) that may well stand in a message.
const KEY_BYTES_MIN: usize = 8;

impl ApiKey {
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// For a header, and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// A vendor's message that quotes the key, without it.
    pub(super) fn cut_from(&self, message: &str) -> String {
        if self.0.len() < KEY_BYTES_MIN { message.to_owned() } else { message.replace(&self.0, "…") }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The line, and the base URL that its requests are below.
pub(super) fn line(config: &Config, speak: &dyn Speak) -> Result<(Line, String), UpstreamError> {
    let settings = |detail: String| UpstreamError::Settings { detail };
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(settings("no TLS provider is installed in this process".into()));
    }
    let connect_max = Duration::from_millis(config.connect_ms_max);
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .default_headers(headers(config, speak)?)
        .connect_timeout(connect_max)
        .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX)
        .tcp_nodelay(true);
    let socket = config.base_url.strip_prefix("unix:");
    let base = socket.map_or(config.base_url.as_str(), |_| "http://localhost/v1");
    let url = reqwest::Url::parse(base).map_err(|e| settings(format!("base_url '{base}' is not a URL: {e}")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain || url.fragment().is_some() {
        return Err(settings("base_url must be http(s)://host:port/path without user, query or fragment".into()));
    }
    let base = url.as_str().trim_end_matches('/').to_owned();
    if url.scheme() == "http" && socket.is_none() && config.proxy.is_none() && config.ca_pem.is_none() {
        return Ok((Line::plain(connect_max, headers(config, speak)?), base));
    }
    if let Some(path) = socket {
        if !Path::new(path).is_absolute() || config.proxy.is_some() {
            return Err(settings(format!("'{path}' must be the whole path of a socket, and goes through no proxy")));
        }
        builder = at_socket(builder, path)?;
    }
    if let Some(proxy) = &config.proxy {
        let proxy = reqwest::Proxy::all(proxy).map_err(|e| settings(format!("proxy: {e}")))?;
        builder = builder.proxy(proxy);
    }
    if let Some(pem) = &config.ca_pem {
        let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
        builder = builder.tls_certs_merge(roots.map_err(|e| settings(format!("ca_pem: {e}")))?);
    }
    if url.scheme() == "http" && config.proxy.is_none() {
        // No TLS will be spoken, so a machine without a system trust store will do.
        builder = builder.tls_certs_only([]);
    }
    let http = builder.build().map_err(|e| settings(chain(&e)))?;
    Ok((Line::Any(http), base))
}

fn headers(config: &Config, speak: &dyn Speak) -> Result<header::HeaderMap, UpstreamError> {
    let mut headers = header::HeaderMap::new();
    let agent = concat!("comity/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
    for (name, value) in speak.headers(config.api_key.as_ref()) {
        let mut value = value.map_err(|_| UpstreamError::Settings {
            detail: format!("api_key or api_version has characters that header {name} cannot carry"),
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if let Some(host) = &config.host {
        let host = header::HeaderValue::from_str(host).ok().filter(|_| host.parse::<http::uri::Authority>().is_ok());
        let host = host.ok_or_else(|| UpstreamError::Settings { detail: "host is not the name of one".into() })?;
        headers.insert(header::HOST, host);
    }
    Ok(headers)
}

#[cfg(unix)]
fn at_socket(builder: reqwest::ClientBuilder, path: &str) -> Result<reqwest::ClientBuilder, UpstreamError> {
    Ok(builder.unix_socket(path))
}

#[cfg(not(unix))]
fn at_socket(_: reqwest::ClientBuilder, _: &str) -> Result<reqwest::ClientBuilder, UpstreamError> {
    Err(UpstreamError::Settings { detail: "this system has no such sockets".into() })
}
