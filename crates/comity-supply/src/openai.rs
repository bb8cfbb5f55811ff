//! Any OpenAI-compatible server over HTTP: vLLM, llama.cpp, Ollama, TGI, Ray Serve, a company's own API.
//!
//! It always asks for a stream with usage: a call that is abandoned can then be stopped by closing the connection,
//! and one that ends can be metered. It follows no redirect, uses no proxy that is not in its settings, and sends no
//! header that came from a client.

mod decode;
mod stream;

use std::fmt;
use std::time::Duration;

use comity_wire::Op;
use futures::FutureExt as _;
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Silence;
use crate::{Answer, BoxFuture, Call, Health, Reply, Tokenizer, Upstream, UpstreamError, sse};

/// Settings of one server. Times bound silence, not work: an answer may stream for as long as it keeps coming.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// With its version, as the `openai` packages take it: `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    #[serde(default)]
    pub api_key: Option<ApiKey>,
    /// `http://host:port` of a proxy to go through; the environment's is never used.
    #[serde(default)]
    pub proxy: Option<String>,
    /// A PEM bundle to trust beside the system's roots, for `https`.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// The model whose presence [`Upstream::health`] checks.
    #[serde(default)]
    pub canary_model: Option<String>,
    #[serde(default = "default_connect_ms")]
    pub connect_ms_max: u64,
    /// Until the response head: many servers send it only with the first token, so it covers queue and prompt.
    #[serde(default = "default_answer_ms")]
    pub answer_ms_max: u64,
    /// Between two pieces of a stream.
    #[serde(default = "default_idle_ms")]
    pub idle_ms_max: u64,
    /// The most that one frame, or an answer in one piece, may hold.
    #[serde(default = "default_frame_bytes")]
    pub frame_bytes_max: usize,
}

impl Config {
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            proxy: None,
            ca_pem: None,
            canary_model: None,
            connect_ms_max: default_connect_ms(),
            answer_ms_max: default_answer_ms(),
            idle_ms_max: default_idle_ms(),
            frame_bytes_max: default_frame_bytes(),
        }
    }
}

fn default_connect_ms() -> u64 {
    5_000
}

fn default_answer_ms() -> u64 {
    300_000
}

fn default_idle_ms() -> u64 {
    60_000
}

fn default_frame_bytes() -> usize {
    sse::Limits::default().frame_bytes_max
}

/// A key that cannot be printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(String);

impl ApiKey {
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// An upstream over HTTP. Cheap to clone: clones share the connection pool.
#[derive(Clone)]
pub struct OpenAi {
    http: reqwest::Client,
    base: String,
    config: Config,
}

/// The most of an error body or a model list that is read.
const SMALL_BODY_BYTES_MAX: usize = 64 << 10;
const MODELS_BODY_BYTES_MAX: usize = 1 << 20;
const HEALTH_MS_MAX: u64 = 5_000;
const POOL_IDLE_PER_HOST_MAX: usize = 64;
/// An answer in one piece that is not text: 2,048 embeddings of 1,024 numbers are half of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

impl OpenAi {
    /// The process must have installed its TLS provider (`comity_http::tls::install`).
    ///
    /// # Errors
    /// [`UpstreamError::Settings`].
    pub fn new(config: Config) -> Result<Self, UpstreamError> {
        let settings = |detail: String| UpstreamError::Settings { detail };
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(settings("no TLS provider is installed in this process".into()));
        }
        let url = reqwest::Url::parse(&config.base_url)
            .map_err(|e| settings(format!("base_url '{}' is not a URL: {e}", config.base_url)))?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain || url.fragment().is_some() {
            return Err(settings("base_url must be http(s)://host:port/path without user, query or fragment".into()));
        }
        let mut headers = header::HeaderMap::new();
        if let Some(ApiKey(key)) = &config.api_key {
            let mut value = header::HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| settings("api_key has characters that no header can carry".into()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("comity/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(Duration::from_millis(config.connect_ms_max))
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX)
            .tcp_nodelay(true);
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
        Ok(Self { http, base: url.as_str().trim_end_matches('/').to_owned(), config })
    }

    async fn ask(&self, call: Call) -> Result<Reply, UpstreamError> {
        let path = match call.op {
            Op::Chat => "chat/completions",
            Op::Completions => "completions",
            op => return Err(UpstreamError::Unsupported { op }),
        };
        let decoder = decode::Decoder::new(call.op, call.choices());
        let mut body = call.body;
        body.insert("model".into(), Value::String(call.model));
        body.insert("stream".into(), Value::Bool(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        let request =
            self.http.post(format!("{}/{path}", self.base)).header(header::ACCEPT, "text/event-stream").json(&body);
        let answered = tokio::select! {
            biased;
            () = call.cancel.cancelled() => return Err(UpstreamError::Cancelled),
            answered = timeout(self.config.answer_ms_max, Silence::BeforeAnswer, request.send()) => answered?,
        };
        let response = answered.map_err(|e| self.unanswered(&e))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let limits =
            stream::Limits { idle_ms_max: self.config.idle_ms_max, frame_bytes_max: self.config.frame_bytes_max };
        match media_type(&response).as_str() {
            "text/event-stream" => Ok(Reply::new(stream::events(response, decoder, call.cancel, limits))),
            "application/json" => Ok(Reply::new(stream::one_piece(response, decoder, call.cancel, limits))),
            other => {
                Err(UpstreamError::Malformed { detail: format!("content type '{other}' instead of an event stream") })
            }
        }
    }

    /// One question, one JSON answer.
    async fn ask_whole(&self, call: Call) -> Result<Answer, UpstreamError> {
        let mut body = call.body.clone();
        body.insert("model".into(), Value::String(call.model.clone()));
        // vLLM and its kin have the tokenizer beside `/v1`, not under it.
        let root = self.base.strip_suffix("/v1").unwrap_or(&self.base);
        let request = match (call.op, call.tokenizer()) {
            (Op::Embeddings, _) => self.http.post(format!("{}/embeddings", self.base)).json(&body),
            (Op::Tokenize, Tokenizer::Encode) => self.http.post(format!("{root}/tokenize")).json(&body),
            (Op::Tokenize, Tokenizer::Decode) => self.http.post(format!("{root}/detokenize")).json(&body),
            (Op::Tokenize, Tokenizer::Describe) => self.http.get(format!("{root}/tokenizer_info")),
            // Not OpenAI's: `{"inputs": […]}` → `{"outputs": […]}`.
            (Op::Predict, _) => self.http.post(format!("{}/predict", self.base)).json(&body),
            (op, _) => return Err(UpstreamError::Unsupported { op }),
        };
        let answered = async {
            let sent = request.header(header::ACCEPT, "application/json").send();
            let response = timeout(self.config.answer_ms_max, Silence::BeforeAnswer, sent).await?;
            let response = response.map_err(|e| self.unanswered(&e))?;
            match response.status() {
                StatusCode::OK => {}
                // The route is not there; what is wrong with a call has other numbers.
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if call.op == Op::Tokenize => {
                    return Err(UpstreamError::Unsupported { op: call.op });
                }
                _ => return Err(self.refused(response).await),
            }
            let collected = stream::collect(response, ANSWER_BYTES_MAX);
            timeout(self.config.answer_ms_max, Silence::WhilstAnswering, collected).await?
        };
        let bytes = tokio::select! {
            biased;
            () = call.cancel.cancelled() => return Err(UpstreamError::Cancelled),
            bytes = answered => bytes?,
        };
        decode::answer(&bytes)
    }

    fn unanswered(&self, error: &reqwest::Error) -> UpstreamError {
        if error.is_connect() {
            return UpstreamError::Unreachable { upstream: self.base.clone(), detail: chain(error) };
        }
        UpstreamError::Cut { bytes: 0, detail: chain(error) }
    }

    async fn refused(&self, response: Response) -> UpstreamError {
        let status = response.status().as_u16();
        let retry_after_s = response.headers().get(header::RETRY_AFTER);
        let retry_after_s = retry_after_s.and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
        // A refusal whose body does not come is still a refusal.
        let body =
            timeout(HEALTH_MS_MAX, Silence::WhilstAnswering, stream::collect(response, SMALL_BODY_BYTES_MAX)).await;
        let (code, message) = body.ok().and_then(Result::ok).map_or((None, String::new()), |b| decode::error_text(&b));
        UpstreamError::Refused { status, code, message, retry_after_s }
    }

    async fn probe(&self) -> Health {
        let asked = timeout(HEALTH_MS_MAX, Silence::BeforeAnswer, async {
            let response =
                self.http.get(format!("{}/models", self.base)).send().await.map_err(|e| self.unanswered(&e))?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(response).await);
            }
            stream::collect(response, MODELS_BODY_BYTES_MAX).await
        });
        match asked.await.and_then(|answer| answer) {
            Ok(body) => self.listed(&body),
            // llama.cpp and vLLM's front ends say 503 whilst the weights load.
            Err(error @ UpstreamError::Refused { status: 503, .. }) => Health::starting(error.to_string()),
            Err(error) => Health::down(error.to_string()),
        }
    }

    fn listed(&self, body: &[u8]) -> Health {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let Ok(list) = serde_json::from_slice::<List>(body) else {
            return Health::down("its answer to GET /models is no list of models");
        };
        let models: Vec<String> = list.data.into_iter().map(|m| m.id).take(Health::MODELS_MAX).collect();
        match &self.config.canary_model {
            Some(model) if !models.contains(model) => {
                Health { models, ..Health::down(format!("it does not list the model '{model}'")) }
            }
            _ => Health::ready(models),
        }
    }
}

impl Upstream for OpenAi {
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>> {
        self.ask(call).boxed()
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.ask_whole(call).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.probe().boxed()
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("base", &self.base).finish_non_exhaustive()
    }
}

fn media_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Waits at most `ms`; what comes later is silence.
async fn timeout<T>(ms: u64, whilst: Silence, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
    tokio::time::timeout(Duration::from_millis(ms), work)
        .await
        .map_err(|_| UpstreamError::Silent { after_ms: ms, whilst })
}

/// reqwest's own message leaves the cause to `source`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
