//! A streamed answer: a task reads it, Python takes its pieces.

use std::sync::Arc;

use comity_sdk::client::Client;
use comity_sdk::{Error, Name, Query};
use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::{future_into_py, get_runtime};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::act::{noted, receipted};
use crate::failure::Raised;
use crate::wait::wait;

/// Pieces that wait for Python; the node is not read faster than that.
const PIECES: usize = 64;

enum Piece {
    /// Who answers, as JSON: the first.
    Notes(String),
    Data(String),
    /// The receipt, as JSON: the last.
    Receipt(String),
    Failed(Raised),
}

/// What it is, and its text; `None` after the receipt.
type Shown = Option<(&'static str, String)>;
type Pieces = Arc<Mutex<mpsc::Receiver<Piece>>>;

/// A stream under way. Closed or forgotten before its end, the node is let go: what was delivered is charged, and no more.
#[pyclass(frozen, module = "comity._comity")]
pub(crate) struct Stream {
    pieces: Pieces,
    unwanted: CancellationToken,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.unwanted.cancel();
    }
}

#[pymethods]
impl Stream {
    /// The next piece: `("notes", …)`, then `("data", payload)` each, then `("receipt", …)`, then `None`.
    fn next(&self, py: Python<'_>) -> PyResult<Shown> {
        let pieces = Arc::clone(&self.pieces);
        let piece = wait(py, async move { pieces.lock().await.recv().await })?;
        shown(piece).map_err(|raised| raised.raise(py))
    }

    fn next_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pieces = Arc::clone(&self.pieces);
        future_into_py(py, async move {
            let piece = pieces.lock().await.recv().await;
            shown(piece).map_err(|raised| Python::attach(|py| raised.raise(py)))
        })
    }

    fn close(&self) {
        self.unwanted.cancel();
    }
}

impl Stream {
    /// `ends`: with whatever else its client has under way.
    pub(crate) fn start(client: Arc<Client>, query: Query<Name>, ends: &CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES);
        let unwanted = ends.child_token();
        let told = unwanted.clone();
        get_runtime().spawn(async move { read(&client, &query, &sender, &told).await });
        Self { pieces: Arc::new(Mutex::new(receiver)), unwanted }
    }
}

async fn read(client: &Client, query: &Query<Name>, sender: &mpsc::Sender<Piece>, unwanted: &CancellationToken) {
    let failed = |error: Error| Piece::Failed(error.into());
    let begun = tokio::select! {
        begun = client.stream(query) => begun,
        // Its place stays in doubt until the wallet asks for it again.
        () = unwanted.cancelled() => return,
    };
    let mut stream = match begun {
        Ok(stream) => stream,
        Err(error) => {
            let _ = sender.send(failed(error)).await;
            return;
        }
    };
    // There is room for the first.
    let _ = sender.send(Piece::Notes(noted(&stream.notes()).to_string())).await;
    loop {
        let piece = tokio::select! {
            piece = stream.next() => piece,
            // Nobody wants the rest.
            () = unwanted.cancelled() => return stream.abandon().await,
        };
        match piece {
            Ok(Some(payload)) => {
                let sent = tokio::select! {
                    sent = sender.send(Piece::Data(payload)) => sent.is_ok(),
                    () = unwanted.cancelled() => false,
                };
                if !sent {
                    return stream.abandon().await;
                }
            }
            Ok(None) => break,
            Err(error) => {
                stream.abandon().await;
                let _ = sender.send(failed(error)).await;
                return;
            }
        }
    }
    let last = match stream.receipt().await {
        Ok(receipt) => Piece::Receipt(json!(receipted(&receipt)).to_string()),
        Err(error) => failed(error),
    };
    let _ = sender.send(last).await;
}

fn shown(piece: Option<Piece>) -> Result<Shown, Raised> {
    match piece {
        None => Ok(None),
        Some(Piece::Notes(notes)) => Ok(Some(("notes", notes))),
        Some(Piece::Data(payload)) => Ok(Some(("data", payload))),
        Some(Piece::Receipt(receipt)) => Ok(Some(("receipt", receipt))),
        Some(Piece::Failed(raised)) => Err(raised),
    }
}
