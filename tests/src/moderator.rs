//! A server that speaks OpenAI's `/v1/moderations`: over real HTTP, on port 0. It flags what speaks of a heron, and keeps what it saw.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Moderator {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    key: String,
    down: AtomicBool,
    seen: Mutex<Vec<(HeaderMap, Value)>>,
}

/// What it flags, as `illicit/violent`.
pub const FLAGGED: &str = "heron";

impl Moderator {
    /// Answers whoever has the key.
    ///
    /// # Panics
    /// Where the machine has no free port.
    pub async fn start(key: &str) -> Self {
        let shared = Arc::new(Shared { key: key.to_owned(), down: AtomicBool::new(false), seen: Mutex::default() });
        let app = Router::new().route("/v1/moderations", post(judge)).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves until it is ended") });
        Self { address, shared, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From here on it refuses everybody, or no longer.
    pub fn is_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// What it was asked so far: headers and body.
    pub fn seen(&self) -> Vec<(HeaderMap, Value)> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Moderator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn judge(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(asked): Json<Value>) -> Response {
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push((headers.clone(), asked.clone()));
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    // As vendors do: the refusal quotes the key.
    let refused = |status, what: &str| {
        let message = format!("{what} (key {})", shared.key);
        (status, Json(json!({ "error": { "message": message, "code": "refused" } }))).into_response()
    };
    if authorization != Some(&format!("Bearer {}", shared.key)) {
        return refused(StatusCode::UNAUTHORIZED, "who are you?");
    }
    if shared.down.load(Ordering::SeqCst) {
        return refused(StatusCode::TOO_MANY_REQUESTS, "slow down");
    }
    let result = |text: &Value| {
        let is_found = text.as_str().is_some_and(|text| text.contains(FLAGGED));
        let score = if is_found { 0.97 } else { 0.02 };
        json!({
            "flagged": is_found,
            "categories": { "illicit/violent": is_found, "harassment": false },
            "category_scores": { "illicit/violent": score, "harassment": 0.5 },
        })
    };
    let results: Vec<Value> = asked["input"].as_array().into_iter().flatten().map(result).collect();
    Json(json!({ "id": "modr-1", "model": asked["model"], "results": results })).into_response()
}
