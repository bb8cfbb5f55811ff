//! `comity proxy`: plain OpenAI on loopback. Tokens, signatures, acknowledgements and receipts happen here.

#![expect(clippy::result_large_err, reason = "a refusal is a response, and a handler gives one back either way")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_sdk::chat::Notes;
use comity_sdk::client::Streaming;
use comity_sdk::{Answer, Client, Error, Query};
use comity_wire::Code;
use comity_wire::api::node::SearchQuery;
use futures::stream;
use serde_json::json;

use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Proxy {
    /// Where to listen. Anything but loopback needs --key
    #[arg(long, default_value = "127.0.0.1:8899")]
    listen: SocketAddr,
    /// The API key that clients must send
    #[arg(long, env = "COMITY_PROXY_KEY", hide_env_values = true)]
    key: Option<String>,
}

struct Shared {
    client: Client,
    key: Option<String>,
}

/// A request body of more than this is refused.
const BODY_BYTES_MAX: usize = 8 << 20;

impl Proxy {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        if !self.listen.ip().is_loopback() && self.key.is_none() {
            return Err(Failure::new(
                format!("{} can be reached by others", self.listen),
                "set a --key that clients must send, or listen on 127.0.0.1",
            ));
        }
        let client = session.client()?;
        client.refresh().await?;
        for (token, error) in client.reconcile().await {
            note(&format!("{token} was asked for and its answer never came; still unknown: {error}"));
        }
        let listener = tokio::net::TcpListener::bind(self.listen).await.map_err(|error| {
            Failure::new(format!("cannot listen on {}: {error}", self.listen), "choose another port with --listen")
        })?;
        let address = listener.local_addr()?;
        say(&format!("http://{address}/v1"));
        note("OPENAI_BASE_URL is the line above; OPENAI_API_KEY may be anything unless you set --key. Ctrl-C ends it.");
        let shared = Arc::new(Shared { client, key: self.key });
        let app = router(Arc::clone(&shared));
        axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
        finish(&shared.client).await;
        Ok(())
    }
}

/// Sends home what is left of every open token.
async fn finish(client: &Client) {
    for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
        match client.finish(purse.token).await {
            Ok(_) => note(&format!("{} ended; spent {}", purse.token, purse.spent)),
            Err(error) => note(&format!("{} stays open until it expires: {error}", purse.token)),
        }
    }
}

async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("a signal handler can be installed");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.ok();
}

fn router(shared: Arc<Shared>) -> Router {
    let routes = || {
        Router::new()
            .route("/chat/completions", post(complete))
            .route("/completions", post(complete))
            .route("/models", get(models))
            .route("/models/{*id}", get(model))
    };
    Router::new()
        .nest("/v1", routes())
        .merge(routes())
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "not_found", "the proxy has no such route", None))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// The caller has the key, where one is set, compared by digest, so that time tells nothing. Where none is set, web pages
/// are kept out: whoever can make this computer's browser call would spend the wallet.
fn check(shared: &Shared, headers: &HeaderMap) -> Result<(), Response> {
    let Some(key) = &shared.key else {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
        if [text(header::HOST), origin].into_iter().flatten().all(is_local) {
            return Ok(());
        }
        let said = "a web page, or a name that is not this computer's, asked: start the proxy with --key to allow that";
        return Err(refusal(StatusCode::FORBIDDEN, "not_yours", said, None));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let digest = |text: &str| comity_wire::Digest::of(text.as_bytes());
    if digest(given) == digest(key) {
        return Ok(());
    }
    Err(refusal(StatusCode::UNAUTHORIZED, "invalid_api_key", "this proxy asks for the key it was started with", None))
}

/// Whether a `host` or `host:port` names this computer.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn complete(
    State(shared): State<Arc<Shared>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    check(&shared, &headers)?;
    let path = if uri.path().ends_with("/chat/completions") { "/v1/chat/completions" } else { "/v1/completions" };
    let query = Query::from_body(path, body.to_vec())
        .map_err(|error| refusal(StatusCode::BAD_REQUEST, "invalid_request", &error.to_string(), None))?;
    if !query.stream {
        let answer = whole(Arc::clone(&shared), query).await?;
        let mut response = Response::new(Body::from(answer.body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let cost = answer.receipt.charge.ucr();
        response.headers_mut().insert("comity-cost", HeaderValue::from(cost));
        if let Ok(id) = HeaderValue::from_str(&answer.receipt.id().to_string()) {
            response.headers_mut().insert("comity-receipt-id", id);
        }
        note_headers(&mut response, &answer.notes);
        return Ok(response);
    }
    // Before the first byte a failure is a real status; after it, an error frame.
    let (notes, events) = relay(Arc::clone(&shared), query).await?;
    let mut response = Response::new(Body::from_stream(events));
    note_headers(&mut response, &notes);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What the node left out, or cut short.
fn note_headers(response: &mut Response, notes: &Notes) {
    for (name, value) in [("comity-ignored", &notes.ignored), ("comity-clipped", &notes.clipped)] {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Runs the call in a task of its own: where the caller goes, the node is let go too, and then asked what it charged.
async fn whole(shared: Arc<Shared>, query: Query) -> Result<Answer, Response> {
    let (mut send, receive) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = shared.client.ask(&query) => outcome,
            () = send.closed() => return shared.client.resolve_all().await,
        };
        send.send(outcome).ok();
    });
    match receive.await {
        Ok(outcome) => outcome.map_err(|error| failed(&error)),
        Err(_) => Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the call ended early", None)),
    }
}

/// Runs the stream in a task of its own, so that a receipt is taken in even where the caller has gone.
async fn relay(
    shared: Arc<Shared>,
    query: Query,
) -> Result<(Notes, impl stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static), Response> {
    const FRAMES_AHEAD: usize = 64;
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(FRAMES_AHEAD);
    let (started, start) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        match shared.client.stream(&query).await {
            Ok(stream) => {
                started.send(Ok(stream.notes())).ok();
                pump(stream, &send).await;
            }
            Err(error) => {
                started.send(Err(failed(&error))).ok();
            }
        }
    });
    let notes = match start.await {
        Ok(started) => started?,
        Err(_) => return Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the call ended early", None)),
    };
    let frames = stream::unfold(receive, async |mut receive| receive.recv().await.map(|frame| (Ok(frame), receive)));
    Ok((notes, frames))
}

/// Payloads to the caller; once the caller has gone, the node is let go too and the lane resolved later.
async fn pump(mut stream: Streaming<'_>, send: &tokio::sync::mpsc::Sender<Bytes>) {
    loop {
        match stream.next().await {
            Ok(Some(payload)) => {
                if send.send(Bytes::from(format!("data: {payload}\n\n"))).await.is_err() {
                    return stream.abandon().await;
                }
            }
            Ok(None) => break,
            Err(error) => {
                send.send(error_frame(&error.to_string())).await.ok();
                return stream.abandon().await;
            }
        }
    }
    let last = match stream.receipt().await {
        Ok(_) => Bytes::from_static(b"data: [DONE]\n\n"),
        Err(error) => error_frame(&error.to_string()),
    };
    send.send(last).await.ok();
}

fn error_frame(message: &str) -> Bytes {
    let body =
        json!({"error": {"message": message, "type": "upstream_error", "code": "upstream_failed", "param": null}});
    Bytes::from(format!("data: {body}\n\n"))
}

async fn listed(shared: &Shared) -> Result<Vec<serde_json::Value>, Response> {
    let hits = shared.client.search(&SearchQuery::default()).await.map_err(|error| failed(&error))?;
    let entry = |hit: &comity_sdk::discover::Hit| {
        json!({"id": hit.summary.model, "object": "model", "created": hit.summary.released_at,
               "owned_by": hit.summary.model.organisation()})
    };
    Ok(hits.iter().map(entry).collect())
}

async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Response> {
    check(&shared, &headers)?;
    let data = listed(&shared).await?;
    Ok(Json(json!({"object": "list", "data": data})).into_response())
}

async fn model(
    State(shared): State<Arc<Shared>>,
    axum::extract::Path(id): axum::extract::Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    check(&shared, &headers)?;
    let found = listed(&shared).await?.into_iter().find(|entry| entry["id"] == id.as_str());
    found
        .map(|entry| Json(entry).into_response())
        .ok_or_else(|| refusal(StatusCode::NOT_FOUND, "model_not_found", &format!("no model {id} is known"), None))
}

fn failed(error: &Error) -> Response {
    let code = error.code();
    let status = code.and_then(|code| StatusCode::from_u16(code.status()).ok());
    let status = status.unwrap_or(match error {
        Error::ModelUnknown(_) => StatusCode::NOT_FOUND,
        Error::Limit { .. } | Error::TokenLimit { .. } | Error::Wallet(_) => StatusCode::PAYMENT_REQUIRED,
        _ => StatusCode::BAD_GATEWAY,
    });
    let name = match (code, error) {
        (Some(code), _) => code.as_str(),
        (None, Error::ModelUnknown(_)) => "model_not_found",
        (None, Error::Limit { .. } | Error::TokenLimit { .. } | Error::Wallet(_)) => "wallet_limit",
        (None, _) => "upstream_failed",
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    let mut response = refusal(status, name, &message, code);
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// OpenAI's error body.
fn refusal(status: StatusCode, name: &str, message: &str, code: Option<Code>) -> Response {
    let kind = match status.as_u16() {
        402 => "insufficient_quota",
        429 => "rate_limit_error",
        401 => "authentication_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": name}});
    let mut response = (status, Json(body)).into_response();
    let retry = code.is_some_and(Code::should_retry);
    response.headers_mut().insert("x-should-retry", HeaderValue::from_static(if retry { "true" } else { "false" }));
    response
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_this_computer_is_local() {
        for local in ["127.0.0.1:8899", "localhost", "LOCALHOST:1", "[::1]:8899", "127.9.9.9"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["example.org", "127.0.0.1.example.org:8899", "localhost.example.org", "null", "", "10.0.0.1:80"] {
            assert!(!is_local(other), "{other}");
        }
    }
}
