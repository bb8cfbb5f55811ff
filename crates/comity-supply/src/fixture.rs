//! Servers that answer as the real ones do, over real HTTP on loopback: for tests, and for trying a node without a GPU.
//!
//! Each file below is one server with its routes and its quirks; what they say comes from one toy language ([`text`])
//! whose log-probabilities are known, so that a probe can be right or wrong about it. Nothing here is served to anyone by
//! a node. Not axum: the quirks are in the bytes (line ends, split characters, ends without an end), which a framework hides.

mod anthropic;
mod azure;
mod http;
mod kserve;
mod llama_cpp;
mod llama_cpp_python;
mod ollama;
mod openai;
mod openai_vendor;
mod ray_serve;
mod sglang;
pub mod text;
mod tgi;
mod vllm;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::JoinHandle;

pub use self::http::Request;
use self::http::{Answer, End};
use crate::Dialect;

/// What its operator is doing to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Ready,
    /// Weights are loading.
    Starting,
    /// More callers than it takes: each server's own way to say so.
    Busy,
    /// The key is not one it knows.
    Locked,
    /// Takes the call and never says a word.
    Silent,
    /// Fails within the answer, after so many frames, with its own error frame.
    Fails(usize),
    /// The connection ends after so many frames.
    Cuts(usize),
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Fixture {
    dialect: Dialect,
    address: Option<SocketAddr>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    mood: Mutex<Mood>,
    asked: Mutex<Vec<Request>>,
}

/// The model that each of them serves.
pub const MODEL: &str = "toy/letters-1b";
/// The key that vendors want to see.
pub const KEY: &str = "sk-fixture-0123456789";
/// How many requests are remembered.
const ASKED_MAX: usize = 1_000;

impl Fixture {
    /// On a free port of loopback.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn start(dialect: Dialect) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                tokio::spawn(http::converse(socket, dialect, Arc::clone(&serving)));
            }
        });
        Self { dialect, address: Some(address), shared, task }
    }

    /// On a socket with this path.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[cfg(unix)]
    pub fn at_socket(dialect: Dialect, path: &std::path::Path) -> Self {
        let listener = tokio::net::UnixListener::bind(path).expect("a socket");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(http::converse(socket, dialect, Arc::clone(&serving)));
            }
        });
        Self { dialect, address: None, shared, task }
    }

    /// `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// For a server on a socket.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("it listens on a port")
    }

    /// The base URL as the server's own pages give it.
    pub fn url(&self) -> String {
        let path = match self.dialect {
            Dialect::Kserve => "/openai/v1",
            Dialect::RayServe => "/llm/v1",
            Dialect::Azure => "",
            _ => "/v1",
        };
        format!("http://{}{path}", self.address())
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().expect("no test panics whilst holding a mood") = mood;
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<Request> {
        self.shared.asked.lock().expect("no test panics whilst holding what was asked").clone()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn take(&self, request: &Request) -> Mood {
        let mut asked = self.asked.lock().expect("no test panics whilst holding what was asked");
        if asked.len() < ASKED_MAX {
            asked.push(request.clone());
        }
        *self.mood.lock().expect("no test panics whilst holding a mood")
    }
}

fn answer(dialect: Dialect, request: &Request, mood: Mood) -> Answer {
    match dialect {
        Dialect::Openai | Dialect::Vllm => vllm::answer(request, mood),
        Dialect::Sglang => sglang::answer(request, mood),
        Dialect::LlamaCpp => llama_cpp::answer(request, mood),
        Dialect::LlamaCppPython => llama_cpp_python::answer(request, mood),
        Dialect::Ollama => ollama::answer(request, mood),
        Dialect::Tgi => tgi::answer(request, mood),
        Dialect::RayServe => ray_serve::answer(request, mood),
        Dialect::Kserve => kserve::answer(request, mood),
        Dialect::OpenaiVendor => openai_vendor::answer(request, mood),
        Dialect::Anthropic => anthropic::answer(request, mood),
        Dialect::Azure => azure::answer(request, mood),
    }
}

/// A list of the one model, as everybody's.
fn models(owner: &str) -> Value {
    serde_json::json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": owner}]})
}

/// Frames up to a failure: what comes then is the server's own way to fail.
fn broken(mut frames: Vec<String>, mood: Mood, failure: Option<String>) -> (Vec<String>, End) {
    match mood {
        Mood::Fails(at) => {
            frames.truncate(at);
            frames.extend(failure);
            (frames, End::Proper)
        }
        Mood::Cuts(at) => {
            frames.truncate(at);
            (frames, End::Cut)
        }
        _ => (frames, End::Proper),
    }
}

#[cfg(test)]
mod tests;
