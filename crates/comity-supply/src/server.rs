//! A model server over HTTP, in the dialect it speaks: vLLM, llama.cpp, Ollama, a company's own API.
//!
//! It always asks for a stream with usage: a call that is abandoned can then be stopped by closing the connection,
//! and one that ends can be metered. It follows no redirect, uses no proxy that is not in its settings, and sends no
//! header that came from a client.

mod body;
mod line;
mod settings;

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use comity_wire::Op;
use futures::FutureExt as _;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use line::{Answered, Broken, Line};

pub use settings::{ApiKey, Config};

use crate::dialect::{Ask, Flavour, Question, Speak};
use crate::error::Silence;
use crate::{Answer, BoxFuture, Call, Health, Reply, Upstream, UpstreamError};

/// An upstream over HTTP.
pub struct Server {
    line: Line,
    /// Without a slash at its end.
    base: String,
    flavour: Flavour,
    speak: Box<dyn Speak>,
    config: Config,
    /// By path below the base, as they were read once.
    urls: RwLock<HashMap<String, Uri>>,
}

/// The most of an error body or a model list that is read.
const SMALL_BODY_BYTES_MAX: usize = 64 << 10;
const MODELS_BODY_BYTES_MAX: usize = 1 << 20;
const HEALTH_MS_MAX: u64 = 5_000;
/// An answer in one piece that is not text: 2,048 embeddings of 1,024 numbers are half of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A dialect has a handful of paths; one with the model's name in it has one for each model.
const URLS_MAX: usize = 64;

impl Server {
    /// The process must have installed its TLS provider (`comity_http::tls::install`).
    ///
    /// # Errors
    /// [`UpstreamError::Settings`].
    pub fn new(config: Config) -> Result<Self, UpstreamError> {
        let speak = config.dialect.speak(config.api_version.as_deref())?;
        let (line, base) = settings::line(&config, &*speak)?;
        let urls = RwLock::default();
        Ok(Self { line, base, flavour: config.dialect.flavour(), speak, config, urls })
    }

    async fn ask(&self, call: Call) -> Result<Reply, UpstreamError> {
        let (decoder, cancel) = (self.speak.decoder(&call), call.cancel.clone());
        let Ask { path, body } = self.speak.ask(call)?;
        let request = post(self.url(&path)?, "text/event-stream", &body)?;
        let answered = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(UpstreamError::Cancelled),
            answered = timeout(self.config.answer_ms_max, Silence::BeforeAnswer, self.line.send(request)) => answered?,
        };
        let response = answered.map_err(|e| self.unanswered(e))?;
        if response.status != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let limits =
            body::Limits { idle_ms_max: self.config.idle_ms_max, frame_bytes_max: self.config.frame_bytes_max };
        match media_type(&response).as_str() {
            "text/event-stream" => Ok(Reply::new(body::events(response, decoder, cancel, limits))),
            "application/json" => Ok(Reply::new(body::one_piece(response, decoder, cancel, limits))),
            other => {
                Err(UpstreamError::Malformed { detail: format!("content type '{other}' instead of an event stream") })
            }
        }
    }

    /// Of a path below the base.
    fn url(&self, path: &str) -> Result<Uri, UpstreamError> {
        let known = self.urls.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = known.get(path) {
            return Ok(url.clone());
        }
        let has_room = known.len() < URLS_MAX;
        drop(known);
        let url = read(&format!("{}/{path}", self.base))?;
        if has_room {
            self.urls.write().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), url.clone());
        }
        Ok(url)
    }

    /// One question, one JSON answer.
    async fn ask_whole(&self, call: Call) -> Result<Answer, UpstreamError> {
        let Question { at_root, path, body } = self.speak.question(&call)?;
        let url = read(&format!("{}/{path}", if at_root { self.root() } else { &self.base }))?;
        let request = match &body {
            Some(body) => post(url, "application/json", body)?,
            None => get(url, "application/json"),
        };
        let answered = async {
            let sent = self.line.send(request);
            let response = timeout(self.config.answer_ms_max, Silence::BeforeAnswer, sent).await?;
            let response = response.map_err(|e| self.unanswered(e))?;
            match response.status {
                StatusCode::OK => {}
                // The route is not there; what is wrong with a call has other numbers.
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if call.op == Op::Tokenize => {
                    return Err(UpstreamError::Unsupported { op: call.op });
                }
                _ => return Err(self.refused(response).await),
            }
            let collected = body::collect(response, ANSWER_BYTES_MAX);
            timeout(self.config.answer_ms_max, Silence::WhilstAnswering, collected).await?
        };
        let bytes = tokio::select! {
            biased;
            () = call.cancel.cancelled() => return Err(UpstreamError::Cancelled),
            bytes = answered => bytes?,
        };
        self.speak.answer(&call, &bytes)
    }

    /// Above the versioned base.
    fn root(&self) -> &str {
        self.base.strip_suffix("/v1").unwrap_or(&self.base)
    }

    fn unanswered(&self, Broken { unreachable, detail }: Broken) -> UpstreamError {
        if unreachable {
            return UpstreamError::Unreachable { upstream: self.base.clone(), detail };
        }
        UpstreamError::Cut { bytes: 0, detail }
    }

    async fn refused(&self, response: Answered) -> UpstreamError {
        let status = response.status.as_u16();
        let retry_after_s = retry_after_s(&response.headers);
        // A refusal whose body does not come is still a refusal.
        let body =
            timeout(HEALTH_MS_MAX, Silence::WhilstAnswering, body::collect(response, SMALL_BODY_BYTES_MAX)).await;
        let (code, message) = body.ok().and_then(Result::ok).map_or((None, String::new()), |b| self.speak.error(&b));
        let message = match &self.config.api_key {
            Some(key) => key.cut_from(&message),
            None => message,
        };
        UpstreamError::Refused { status, code, message, retry_after_s }
    }

    /// The server's own word that it is ready, where it has one; then its list of models.
    async fn probe(&self) -> Result<Health, UpstreamError> {
        if let Some(path) = self.flavour.ready_path {
            self.get(&format!("{}/{path}", self.root()), SMALL_BODY_BYTES_MAX).await?;
        }
        let list = self.get(&format!("{}/{}", self.base, self.speak.models_path()), MODELS_BODY_BYTES_MAX).await?;
        Ok(self.listed(&list))
    }

    async fn get(&self, url: &str, bytes_max: usize) -> Result<Vec<u8>, UpstreamError> {
        let response = self.line.send(get(read(url)?, "*/*")).await.map_err(|e| self.unanswered(e))?;
        if response.status != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        body::collect(response, bytes_max).await
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
            return Health::down("its list of models is none");
        };
        let models: Vec<String> = list.data.into_iter().map(|m| m.id).take(Health::MODELS_MAX).collect();
        match &self.config.canary_model {
            Some(model) if self.flavour.lists_models && !models.iter().any(|listed| same(listed, model)) => {
                Health { models, ..Health::down(format!("it does not list the model '{model}'")) }
            }
            _ => Health::ready(models),
        }
    }
}

/// Ollama lists `NAME:latest` for what it is asked for as `NAME`.
fn same(listed: &str, model: &str) -> bool {
    listed == model || listed.strip_suffix(":latest") == Some(model)
}

impl Upstream for Server {
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>> {
        self.ask(call).boxed()
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.ask_whole(call).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        async {
            match timeout(HEALTH_MS_MAX, Silence::BeforeAnswer, self.probe()).await.and_then(|found| found) {
                Ok(health) => health,
                // llama.cpp and vLLM's front ends say 503 whilst the weights load.
                Err(error @ UpstreamError::Refused { status: 503, .. }) => Health::starting(error.to_string()),
                Err(error) => Health::down(error.to_string()),
            }
        }
        .boxed()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("dialect", &self.flavour.name).field("base", &self.base).finish_non_exhaustive()
    }
}

/// As a browser reads it: a path may have a model's name in it, and what no path can carry is escaped.
fn read(url: &str) -> Result<Uri, UpstreamError> {
    let refused = |e: &dyn fmt::Display| UpstreamError::Settings { detail: format!("'{url}' is not an address: {e}") };
    let whole = reqwest::Url::parse(url).map_err(|e| refused(&e))?;
    whole.as_str().parse().map_err(|e| refused(&e))
}

fn post(url: Uri, accept: &'static str, body: &impl Serialize) -> Result<Request<Bytes>, UpstreamError> {
    let body = serde_json::to_vec(body).map_err(|e| UpstreamError::Malformed { detail: e.to_string() })?;
    let mut request = request(Method::POST, url, accept, body.into());
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(request)
}

fn get(url: Uri, accept: &'static str) -> Request<Bytes> {
    request(Method::GET, url, accept, Bytes::new())
}

fn request(method: Method, url: Uri, accept: &'static str, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = url;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
    request
}

fn media_type(response: &Answered) -> String {
    let value = response.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Seconds, or the milliseconds that vendors send beside them.
fn retry_after_s(headers: &header::HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number("retry-after").or_else(|| number("retry-after-ms").map(|ms| ms.div_ceil(1_000)))
}

/// Waits at most `ms`; what comes later is silence.
async fn timeout<T>(ms: u64, whilst: Silence, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
    tokio::time::timeout(Duration::from_millis(ms), work)
        .await
        .map_err(|_| UpstreamError::Silent { after_ms: ms, whilst })
}

#[cfg(test)]
mod tests;
