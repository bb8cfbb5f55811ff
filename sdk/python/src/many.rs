//! Comparisons and batches: many calls, told of as they come, stopped by Ctrl-C.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_cli::batch::lines::{Counts, Lines};
use comity_cli::compare;
use comity_sdk::Client;
use comity_sdk::client::Patience;
use comity_sdk::compare::{Bounds, Comparison, Ended, Setting};
use comity_wire::{Amount, ModelId};
use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::get_runtime;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::act::Asked;
use crate::failure::Raised;

type Wanted = Arc<AtomicBool>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Comparing {
    folder: PathBuf,
    /// `None`: what the folder holds goes on.
    grid: Option<Asked>,
    cap: Option<Amount>,
    at_once: usize,
    /// Asks nothing; shows what there is.
    #[serde(default)]
    look: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    input: PathBuf,
    output: PathBuf,
    model: Option<ModelId>,
    setting: Setting,
    cap: Option<Amount>,
    at_once: usize,
}

impl Comparing {
    pub(crate) fn read(text: &str) -> Result<Self, Raised> {
        serde_json::from_str(text).map_err(|error| Raised::form(&error))
    }

    pub(crate) async fn run(self, client: Arc<Client>, told: Sender<String>, wanted: Wanted) -> Result<Value, Raised> {
        let of = |error: comity_sdk::compare::CompareError| Raised::of("comparison", error);
        let mut comparison = match self.grid {
            Some(grid) => {
                Comparison::create(&self.folder, &grid.grid()?, comity_cli::random(), client.now()).map_err(of)?
            }
            None => Comparison::open(&self.folder).map_err(of)?,
        };
        let (mut ended, mut skipped) = (Ended::All, Vec::new());
        if !self.look {
            let cap = self.cap.unwrap_or_else(|| client.profile().limits.total);
            let bounds = Bounds { cap, at_once: self.at_once, patience: Patience::default() };
            let wanted = || wanted.load(Ordering::Relaxed);
            let mut hears = |row: &comity_sdk::compare::Row, progress: comity_sdk::compare::Progress| {
                let progress = json!({
                    "done": progress.done, "total": progress.total, "missed": progress.missed,
                    "spent_ucr": progress.spent, "cap_ucr": progress.cap,
                });
                let _ = told.send(json!([row, progress]).to_string());
            };
            (ended, skipped) = comparison.run(&client, bounds, &wanted, &mut hears).await.map_err(of)?;
        }
        let skipped: Vec<_> = skipped
            .iter()
            .map(|skipped| json!({"model": skipped.model, "why": skipped.why, "calls": skipped.calls}))
            .collect();
        let ended = match ended {
            Ended::All => json!({"how": "all"}),
            Ended::Stopped => json!({"how": "stopped"}),
            Ended::Cap(capped) => json!({"how": "cap", "message": capped.to_string(), "cap_ucr": capped.limit}),
        };
        Ok(json!({
            "folder": comparison.folder(), "rows": comparison.rows().collect::<Vec<_>>(), "of": comparison.grid().len(),
            "done": comparison.done(), "spent_ucr": comparison.spent(), "skipped": skipped, "ended": ended,
            "figures": compare::figures(&comparison), "agreements": compare::agreements(&comparison),
            "prompts": comparison.grid().prompts, "page": compare::page(&comparison), "csv": compare::csv(&comparison),
        }))
    }
}

impl Batch {
    pub(crate) fn read(text: &str) -> Result<Self, Raised> {
        serde_json::from_str(text).map_err(|error| Raised::form(&error))
    }

    pub(crate) async fn run(self, client: Arc<Client>, told: Sender<String>, wanted: Wanted) -> Result<Value, Raised> {
        let Self { input, output, model, setting, cap, at_once } = self;
        let cap = cap.unwrap_or_else(|| client.profile().limits.total);
        let lines = Lines { input, output: output.clone(), model, setting, cap, at_once };
        let counts = |counts: Counts| json!({"total": counts.total, "answered": counts.answered, "failed": counts.failed, "spent_ucr": counts.spent});
        let wanted = || wanted.load(Ordering::Relaxed);
        let mut hears = |at: Counts| drop(told.send(counts(at).to_string()));
        let report = lines.run(&client, &wanted, &mut hears).await.map_err(|error| Raised::of("batch", error))?;
        let mut object = counts(report.counts);
        object["output"] = json!(output);
        object["errors"] = json!(report.errors);
        object["capped"] = json!(report.capped.map(|capped| capped.to_string()));
        object["first_error"] = json!(report.first);
        Ok(object)
    }
}

/// Runs many calls to their end, and gives what came of them as JSON. `told` hears of each, and of nothing ("") while nothing comes. An exception of `told`, or Ctrl-C, lets those under way
/// end, and is raised then: what was paid for is kept.
pub(crate) fn run<F>(
    py: Python<'_>,
    told: Option<Py<PyAny>>,
    start: impl FnOnce(Sender<String>, Wanted) -> F,
) -> PyResult<String>
where
    F: Future<Output = Result<Value, Raised>> + Send + 'static,
{
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let wanted: Wanted = Arc::new(AtomicBool::new(true));
    let task = get_runtime().spawn(start(sender, Arc::clone(&wanted)));
    let mut raised = None;
    loop {
        let heard = py
            .detach(|| receiver.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(Duration::from_millis(50)));
        let result = match (heard, &told) {
            // Its end of the channel goes with the task.
            (Err(RecvTimeoutError::Disconnected), _) => break,
            (Ok(text), Some(told)) if raised.is_none() => told.call1(py, (text,)).map(drop),
            // Asked now and then whether it still wants the rest.
            (Err(RecvTimeoutError::Timeout), Some(told)) if raised.is_none() => told.call1(py, ("",)).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = result.and_then(|()| py.check_signals()) {
            wanted.store(false, Ordering::Relaxed);
            raised.get_or_insert(error);
        }
    }
    let done = py.detach(|| get_runtime().block_on(task));
    match (raised, done) {
        (Some(error), _) => Err(error),
        (None, Ok(Ok(value))) => Ok(value.to_string()),
        (None, Ok(Err(raised))) => Err(raised.raise(py)),
        (None, Err(error)) => Err(pyo3::exceptions::PyRuntimeError::new_err(error.to_string())),
    }
}
