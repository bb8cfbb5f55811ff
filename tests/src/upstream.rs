//! A model server that speaks OpenAI's API and says what the test wants: over real HTTP, on port 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    asked: AtomicUsize,
    gate: watch::Sender<bool>,
    /// Whether streams begin before the gate is open.
    halfway: bool,
    /// Made once: a bench must not measure how they are made.
    whole: Bytes,
    stream: Bytes,
}

/// What it reads of a request.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    stream: bool,
}

/// What it calls its model.
pub const MODEL: &str = "scripted";
/// What it answers.
pub const ANSWER: &str = "Paris.";
/// What it says it has counted.
pub const INPUT_TOKENS: u64 = 9;
pub const OUTPUT_TOKENS: u64 = 2;

impl Scripted {
    /// Answers at once.
    ///
    /// # Panics
    /// Where the machine has no free port.
    pub async fn start() -> Self {
        Self::with_gate(true, false).await
    }

    /// Takes calls in, and answers none until [`Scripted::open`].
    ///
    /// # Panics
    /// As [`Scripted::start`].
    pub async fn shut() -> Self {
        Self::with_gate(false, false).await
    }

    /// The same, but of a stream it says at once what it has to say, and ends it after [`Scripted::open`].
    ///
    /// # Panics
    /// As [`Scripted::start`].
    pub async fn halfway() -> Self {
        Self::with_gate(false, true).await
    }

    async fn with_gate(open: bool, halfway: bool) -> Self {
        let (asked, gate) = (AtomicUsize::new(0), watch::Sender::new(open));
        let shared = Arc::new(Shared { asked, gate, halfway, whole: whole(), stream: stream() });
        let app = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves until it is ended") });
        Self { address, shared, task }
    }

    pub fn open(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Answers none again until [`Scripted::open`].
    pub fn close(&self) {
        self.shared.gate.send_replace(false);
    }

    /// Calls that came in.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "test"}]}))
}

async fn chat(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let mut gate = shared.gate.subscribe();
    let opened = async move { drop(gate.wait_for(|open| *open).await.expect("the gate lives as long as the server")) };
    let asked = serde_json::from_slice(&body);
    if shared.halfway && matches!(asked, Ok(Asked { stream: true })) {
        let mut rest = shared.stream.clone();
        let said = rest.split_to(end_of(&rest, ANSWER));
        let frames = futures::stream::iter([said]).chain(futures::stream::once(opened.map(move |()| rest)));
        let body = axum::body::Body::from_stream(frames.map(Ok::<_, std::convert::Infallible>));
        return ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
    }
    opened.await;
    match asked {
        Ok(Asked { stream: true }) => {
            ([(header::CONTENT_TYPE, "text/event-stream")], shared.stream.clone()).into_response()
        }
        Ok(Asked { stream: false }) => {
            ([(header::CONTENT_TYPE, "application/json")], shared.whole.clone()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn usage() -> Value {
    let total = INPUT_TOKENS + OUTPUT_TOKENS;
    json!({"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": total})
}

/// The answer in one piece.
fn whole() -> Bytes {
    let message = json!({"role": "assistant", "content": ANSWER});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    let whole = json!({"id": "s", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice],
                       "usage": usage()});
    whole.to_string().into()
}

/// Where the frame ends that has `text` in it.
fn end_of(stream: &[u8], text: &str) -> usize {
    let stream = std::str::from_utf8(stream).expect("a stream is text");
    let at = stream.find(text).expect("it is said");
    at + stream[at..].find("\n\n").expect("a frame ends") + 2
}

/// The same as a stream, with usage.
fn stream() -> Bytes {
    let chunk = |delta: Value, finish: Option<&str>| {
        json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": MODEL,
               "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let usage = json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [],
                       "usage": usage()});
    let frames = [
        chunk(json!({"role": "assistant", "content": ""}), None),
        chunk(json!({"content": ANSWER}), None),
        chunk(json!({}), Some("stop")),
        usage,
    ];
    let mut body: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
    body.push_str("data: [DONE]\n\n");
    body.into()
}
