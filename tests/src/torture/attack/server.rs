//! A model's server that does what a question says, and counts what it handed over for each.
//!
//! `words COUNT PAUSE_MS …` is an answer of so many words, a word a token; `lie NAME …` is one of [`super::liars`]; any other
//! question has an answer of two words at once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::liars;
use crate::upstream::MODEL;

/// What every word begins with.
pub(super) const WORD: &str = "word-";
const INPUT_TOKENS: u64 = 9;

/// A running server. Dropping it ends it.
pub(super) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    asked: AtomicUsize,
    running: AtomicUsize,
    /// Words that were handed over, by question.
    handed: Mutex<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    stream: bool,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

/// An answer that is being given. Dropped when it ends, whoever ends it.
struct Running(Arc<Shared>);

impl Running {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let models = async || Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model"}]}));
        let app = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves until it is ended") });
        Self { address, shared, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(super) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Answers that are being given.
    pub(super) fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// Words that were handed over for a question.
    pub(super) fn handed(&self, question: &str) -> u64 {
        self.shared.handed.lock().unwrap_or_else(PoisonError::into_inner).get(question).copied().unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn hand(&self, question: &str, words: u64) {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner).entry(question.to_owned()).or_default() += words;
    }
}

async fn chat(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let running = Running::begin(&shared);
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        return (axum::http::StatusCode::BAD_REQUEST, "no chat").into_response();
    };
    let question = asked.messages.last().map(|message| message.content.clone()).unwrap_or_default();
    let mut parts = question.split(' ');
    let (count, pause) = match parts.next() {
        Some("lie") => {
            let name = parts.next().unwrap_or_default();
            shared.hand(&question, liars::words_max(name));
            return liars::told(name, asked.stream, Box::new(running));
        }
        Some("words") => {
            let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
            (number(), Duration::from_millis(number()))
        }
        _ => (2, Duration::ZERO),
    };
    if asked.stream {
        return streamed(running, question, count, pause);
    }
    tokio::time::sleep(pause * u32::try_from(count).unwrap_or(u32::MAX)).await;
    shared.hand(&question, count);
    let text: Vec<_> = (0..count).map(word).collect();
    Json(whole(&text.concat(), &usage(count))).into_response()
}

fn streamed(running: Running, question: String, count: u64, pause: Duration) -> Response {
    let stream = futures::stream::unfold((0, running, question), move |(at, running, question)| async move {
        if at > count {
            return None;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let text = if at < count {
            running.0.hand(&question, 1);
            frame(&chunk(&word(at)))
        } else {
            let last = chunk_of(&json!({}), Some("stop"));
            format!("{}{}data: [DONE]\n\n", frame(&last), frame(&counted(&usage(count))))
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (at + 1, running, question)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

fn word(at: u64) -> String {
    format!("{WORD}{at} ")
}

pub(super) fn usage(output: u64) -> Value {
    json!({"prompt_tokens": INPUT_TOKENS, "completion_tokens": output, "total_tokens": INPUT_TOKENS + output})
}

pub(super) fn whole(text: &str, usage: &Value) -> Value {
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    json!({"id": "s", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage})
}

pub(super) fn chunk(text: &str) -> Value {
    chunk_of(&json!({"content": text}), None)
}

pub(super) fn chunk_of(delta: &Value, finish: Option<&str>) -> Value {
    json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": MODEL,
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

/// The frame that tells usage.
pub(super) fn counted(usage: &Value) -> Value {
    json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [], "usage": usage})
}

pub(super) fn frame(value: &Value) -> String {
    format!("data: {value}\n\n")
}
