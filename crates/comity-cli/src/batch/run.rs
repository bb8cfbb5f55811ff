//! Runs batches: lines at once within a bound, each under its own key, results written as they come.
//!
//! Killed at any point, the next start reads what is written and asks the rest. A line that was asked and not written is
//! asked under its key again: the node answers from its store or says that it was charged, and charges nothing. So what is
//! left at the end of any batch is written or was never charged.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File as Opened, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use comity_sdk::client::{Patience, Wanted};
use comity_sdk::keys::Key;
use comity_sdk::{Client, Error, Query};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::input::{self, Line, Lines};
use super::object::{Batch, Counts, Fault, Faults, File, Status};
use super::price::{Kinds, Settled};
use super::store::{self, Store, StoreError};
use crate::said::Said;

/// Lines at once, of all batches together: tokens have lanes, and other callers of the proxy want some.
const LINES_AT_ONCE: usize = 8;
/// So many lines in a row that were refused for money end the asking: the others are refused without being asked.
const BROKE_AFTER: u64 = 16;

/// Runs what the store holds.
#[derive(Clone)]
pub(crate) struct Runner(Arc<Inner>);

struct Inner {
    client: Arc<Client>,
    store: Store,
    lines: Semaphore,
    running: Mutex<HashMap<String, Arc<Running>>>,
    tracker: TaskTracker,
    /// The process ends: what runs is left as it is, to be taken up again.
    leave: CancellationToken,
}

/// A batch under way.
struct Running {
    cancel: CancellationToken,
    counts: Mutex<Counts>,
}

/// Why the asking came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    All,
    Cancelled,
    Expired,
    Left,
}

/// The two files that results are written to.
struct Results {
    output: Opened,
    errors: Opened,
}

impl Runner {
    pub(crate) fn new(client: Arc<Client>, store: Store) -> Self {
        Self(Arc::new(Inner {
            client,
            store,
            lines: Semaphore::new(LINES_AT_ONCE),
            running: Mutex::default(),
            tracker: TaskTracker::new(),
            leave: CancellationToken::new(),
        }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Takes up every batch that is not over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn resume(&self) -> Result<usize, StoreError> {
        let open: Vec<_> = self.0.store.batches()?.into_iter().filter(|batch| !batch.status.is_over()).collect();
        let count = open.len();
        open.into_iter().for_each(|batch| self.start(batch));
        Ok(count)
    }

    /// Runs a batch that the store keeps.
    pub(crate) fn start(&self, batch: Batch) {
        let running = Arc::new(Running { cancel: CancellationToken::new(), counts: Mutex::new(batch.request_counts) });
        if batch.status == Status::Cancelling {
            running.cancel.cancel();
        }
        self.0.with(|all| all.insert(batch.id.clone(), Arc::clone(&running)));
        let inner = Arc::clone(&self.0);
        self.0.tracker.spawn(async move {
            let id = batch.id.clone();
            if let Err(error) = inner.run(batch, &running).await {
                tracing::error!(%error, batch = id, "a batch stopped: it is taken up again at the next start");
            }
            inner.with(|all| all.remove(&id));
        });
    }

    /// A batch as it stands now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn show(&self, id: &str) -> Result<Batch, StoreError> {
        // Read first: a batch that ends in between has its counts in the store.
        let counts = self.0.with(|all| all.get(id).map(|running| running.counts()));
        let mut batch = self.0.store.batch(id)?;
        if let (Some(counts), false) = (counts, batch.status.is_over()) {
            batch.request_counts = counts;
        }
        Ok(batch)
    }

    /// Asks no more lines of a batch; those under way end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn cancel(&self, id: &str, now: u64) -> Result<Batch, StoreError> {
        let mut batch = self.show(id)?;
        if !matches!(batch.status, Status::Validating | Status::InProgress) {
            return Ok(batch);
        }
        batch.becomes(Status::Cancelling, now);
        self.0.store.keep_batch(&batch)?;
        if let Some(running) = self.0.with(|all| all.get(id).cloned()) {
            running.cancel.cancel();
        }
        Ok(batch)
    }

    /// Waits until every batch is over.
    pub(crate) async fn finished(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// Lets lines that are under way end, and leaves the rest to the next start.
    pub(crate) async fn leave(&self) {
        self.0.leave.cancel();
        self.finished().await;
    }
}

impl Running {
    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Inner {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, Arc<Running>>) -> T) -> T {
        change(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> u64 {
        self.client.now().seconds()
    }

    async fn run(&self, mut batch: Batch, running: &Running) -> Result<(), StoreError> {
        let path = self.store.content(&batch.input_file_id);
        let Some(route) = input::endpoint(&batch.endpoint) else { return self.fail(batch, Vec::new()) };
        let mut settled = self.store.price(&batch.id)?;
        if batch.status == Status::Validating {
            let checked = {
                let path = path.clone();
                tokio::task::spawn_blocking(move || input::check(&path, route)).await
            };
            let (total, kinds) = match checked {
                Ok(Ok(checked)) => checked,
                Ok(Err(faults)) => return self.fail(batch, faults),
                Err(_) => return self.fail(batch, Vec::new()),
            };
            running.count(|counts| counts.total = total);
            if settled.is_none() {
                match self.settle(&batch, &kinds, running).await {
                    Ok(prices) => {
                        self.store.keep_price(&batch.id, &prices)?;
                        settled = Some(prices);
                    }
                    Err(_) if self.leave.is_cancelled() => return Ok(()),
                    // One that was cancelled meanwhile is over without a line.
                    Err(_) if running.cancel.is_cancelled() => {}
                    Err(error) => return self.fail(batch, vec![unsettled(&error)]),
                }
            }
            batch.request_counts = running.counts();
            self.advance(&mut batch, Status::InProgress)?;
        }
        // Without it: begun by a program that knew of no batch price, and signed so.
        let settled = settled.unwrap_or_default();
        let done = self.take_up(&batch, running)?;
        let io = |source| StoreError::Io { path: path.clone(), source };
        let lines = Lines::open(&path, route).map_err(io)?;
        let results = Mutex::new(self.results(&batch)?);
        let end = self.ask_all(&batch, running, (lines, &settled), &done, &results).await?;
        if end == End::Left {
            return Ok(());
        }
        // `cancel` may have written meanwhile.
        batch = self.store.batch(&batch.id)?;
        batch.request_counts = running.counts();
        self.finish(batch, end)
    }

    /// Asks for batch prices, for a minute where somebody cannot be asked.
    async fn settle(&self, batch: &Batch, kinds: &Kinds, running: &Running) -> Result<Settled, comity_sdk::Error> {
        let (patience, mut tries) = (Patience::default(), 1);
        loop {
            let error = match Settled::ask(&self.client, kinds).await {
                Ok(settled) => return Ok(settled),
                Err(error) => error,
            };
            if !error.may_come_later() || tries >= patience.tries_max {
                return Err(error);
            }
            tracing::info!(%error, batch = batch.id, "whether there is a batch price is asked again");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1 << tries)) => tries += 1,
                () = running.cancel.cancelled() => return Err(error),
                () = self.leave.cancelled() => return Err(error),
            }
        }
    }

    fn advance(&self, batch: &mut Batch, status: Status) -> Result<(), StoreError> {
        // A cancellation that came in between stands.
        if self.store.batch(&batch.id)?.status == Status::Cancelling {
            batch.becomes(Status::Cancelling, self.now());
        } else {
            batch.becomes(status, self.now());
        }
        self.store.keep_batch(batch)
    }

    fn fail(&self, mut batch: Batch, faults: Vec<Fault>) -> Result<(), StoreError> {
        batch.errors = Some(Faults { object: "list".to_owned(), data: faults });
        batch.becomes(Status::Failed, self.now());
        self.store.keep_batch(&batch)
    }

    /// What was written before this process.
    fn take_up(&self, batch: &Batch, running: &Running) -> Result<HashSet<u64>, StoreError> {
        let mut done = HashSet::new();
        let mut counts = Counts { total: batch.request_counts.total, ..Counts::default() };
        for (name, count) in [("output", &mut counts.completed), ("errors", &mut counts.failed)] {
            let path = self.store.results(&batch.id, name);
            let numbers = written(&path).map_err(|source| StoreError::Io { path, source })?;
            *count = numbers.len() as u64;
            done.extend(numbers);
        }
        running.count(|kept| *kept = counts);
        Ok(done)
    }

    fn results(&self, batch: &Batch) -> Result<Results, StoreError> {
        let open = |name| {
            let path = self.store.results(&batch.id, name);
            let opened = store::closed(OpenOptions::new().create(true).append(true)).open(&path);
            opened.map_err(|source| StoreError::Io { path, source })
        };
        Ok(Results { output: open("output")?, errors: open("errors")? })
    }

    async fn ask_all(
        &self,
        batch: &Batch,
        running: &Running,
        (lines, settled): (Lines, &Settled),
        done: &HashSet<u64>,
        results: &Mutex<Results>,
    ) -> Result<End, StoreError> {
        let broke = AtomicU64::new(0);
        let end = || {
            if self.leave.is_cancelled() {
                Some(End::Left)
            } else if running.cancel.is_cancelled() {
                Some(End::Cancelled)
            } else if batch.expires_at.is_some_and(|at| self.now() >= at) {
                Some(End::Expired)
            } else {
                None
            }
        };
        let left = lines.filter_map(Result::ok).filter(|line| !done.contains(&line.number));
        let asked = futures::stream::iter(left).map(|line| {
            let (broke, end) = (&broke, &end);
            async move {
                let _permit = self.lines.acquire().await.ok();
                let key = key_of(&batch.id, line.number, self.client.now());
                // Once it ends, only what may have been charged is still asked: it is written down then.
                if end().is_some() && (end() == Some(End::Left) || !self.client.may_be_charged(&key).await) {
                    return None;
                }
                let line = Line { query: settled.query(line.query), ..line };
                self.answer(batch, running, line, key, broke).await
            }
        });
        let mut asked = std::pin::pin!(asked.buffer_unordered(LINES_AT_ONCE));
        while let Some(answered) = asked.next().await {
            let Some((is_good, text)) = answered else { continue };
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            let file = if is_good { &mut results.output } else { &mut results.errors };
            let written = file.write_all(text.as_bytes());
            written.map_err(|source| StoreError::Io { path: self.store.results(&batch.id, "output"), source })?;
            running.count(|counts| if is_good { counts.completed += 1 } else { counts.failed += 1 });
        }
        let counts = running.counts();
        let all = counts.completed + counts.failed >= counts.total;
        Ok(if all && !running.cancel.is_cancelled() { End::All } else { end().unwrap_or(End::All) })
    }

    /// Gives whether it was answered, and its line of the output or the error file; none where the next process asks it again.
    async fn answer(
        &self,
        batch: &Batch,
        running: &Running,
        line: Line,
        key: Key,
        broke: &AtomicU64,
    ) -> Option<(bool, String)> {
        let id = request_id(&batch.id, line.number);
        let outcome = if broke.load(Ordering::Relaxed) >= BROKE_AFTER && !self.client.may_be_charged(&key).await {
            let message = format!("not asked: the {BROKE_AFTER} lines before it were refused for want of credits");
            Err(Said::new(StatusCode::PAYMENT_REQUIRED, "budget_exhausted", message))
        } else {
            match self.ask(&Query { key: Some(key), ..line.query }, running).await {
                Ok(answered) => Ok(answered),
                // It waited for its turn when this process was told to end.
                Err(error) if self.leave.is_cancelled() && error.may_come_later() => return None,
                // It was cancelled, and nothing of this line was charged: as those that were never begun.
                Err(Error::Unsigned) => return None,
                Err(error) => Err(Said::from(&error)),
            }
        };
        Some(match outcome {
            Ok((request_id, body)) => {
                broke.store(0, Ordering::Relaxed);
                let response = json!({"status_code": 200, "request_id": request_id, "body": body});
                let text = json!({"id": id, "custom_id": line.custom_id, "response": response, "error": null});
                (true, format!("{text}\n"))
            }
            Err(said) => {
                if said.status == StatusCode::PAYMENT_REQUIRED {
                    broke.fetch_add(1, Ordering::Relaxed);
                }
                let status = said.status.as_u16();
                let response = json!({"status_code": status, "request_id": id, "body": said.body()});
                // Whole numbers, as evaluation harnesses read them.
                let error = json!({"code": status, "message": said.error.get("message")});
                let text = json!({"id": id, "custom_id": line.custom_id, "response": response, "error": error});
                (false, format!("{text}\n"))
            }
        })
    }

    async fn ask(&self, query: &Query, running: &Running) -> Result<(String, Value), Error> {
        let wanted = || match (self.leave.is_cancelled(), running.cancel.is_cancelled()) {
            (true, _) => Wanted::No,
            (false, true) => Wanted::Charged,
            (false, false) => Wanted::Yes,
        };
        let answer = self.client.ask_patiently(query, Patience::default(), &wanted).await?;
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.receipt.id().to_string(), body))
    }

    /// Results become files; their ids follow from the batch's, so that doing it twice is doing it once.
    fn finish(&self, mut batch: Batch, end: End) -> Result<(), StoreError> {
        if end == End::All && batch.status == Status::InProgress {
            batch.becomes(Status::Finalizing, self.now());
            self.store.keep_batch(&batch)?;
        }
        batch.output_file_id = self.file_of(&batch, "output")?;
        batch.error_file_id = self.file_of(&batch, "errors")?;
        let status = match end {
            End::Expired => Status::Expired,
            _ if batch.status == Status::Cancelling => Status::Cancelled,
            _ => Status::Completed,
        };
        batch.becomes(status, self.now());
        self.store.keep_batch(&batch)
    }

    fn file_of(&self, batch: &Batch, name: &str) -> Result<Option<String>, StoreError> {
        let (from, id) = (self.store.results(&batch.id, name), format!("file-{}-{name}", batch.id));
        let place = self.store.content(&id);
        let io = |source| StoreError::Io { path: from.clone(), source };
        if from.exists() {
            let opened = Opened::open(&from).map_err(io)?;
            opened.sync_all().map_err(io)?;
            if opened.metadata().map_err(io)?.len() == 0 {
                fs::remove_file(&from).map_err(io)?;
                return Ok(None);
            }
            fs::rename(&from, &place).map_err(io)?;
        }
        let Ok(metadata) = place.metadata() else { return Ok(None) };
        self.store.keep_file(&File {
            id: id.clone(),
            object: File::object(),
            bytes: metadata.len(),
            created_at: self.now(),
            filename: format!("{}_{name}.jsonl", batch.id),
            purpose: "batch_output".to_owned(),
            status: "processed".to_owned(),
        })?;
        Ok(Some(id))
    }
}

fn unsettled(error: &comity_sdk::Error) -> Fault {
    let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
    let message = format!("whether there is a batch price could not be asked; no line was asked: {error}{hint}");
    Fault { code: error.name().to_owned(), line: None, message, param: None }
}

/// The call that a line is, now and after any restart.
fn key_of(batch: &str, line: u64, now: comity_wire::Timestamp) -> Key {
    Key::of_run(format!("batch line {batch} {line}").as_bytes(), now)
}

fn request_id(batch: &str, line: u64) -> String {
    format!("batch_req_{}_{line}", batch.trim_start_matches("batch_"))
}

/// The lines of the input that stand in a file of results. A last line that was cut is taken away: it is asked for again.
fn written(path: &Path) -> std::io::Result<HashSet<u64>> {
    let file = match store::closed(OpenOptions::new().read(true).write(true)).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let (mut numbers, mut whole, mut line) = (HashSet::new(), 0, Vec::new());
    let mut reader = BufReader::new(&file);
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if count == 0 || line.last() != Some(&b'\n') {
            break;
        }
        whole += count as u64;
        let id = serde_json::from_slice::<Value>(&line).ok();
        let id: Option<u64> = id.as_ref().and_then(|line| line.get("id")?.as_str()?.rsplit_once('_')?.1.parse().ok());
        numbers.extend(id);
    }
    file.set_len(whole)?;
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_known_and_a_line_that_was_cut_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        assert!(written(&path).unwrap().is_empty());
        let line = |n| format!("{}\n", json!({"id": request_id("batch_ab", n), "custom_id": "x"}));
        fs::write(&path, format!("{}{}{}", line(0), line(7), &line(9)[..20])).unwrap();
        assert_eq!(written(&path).unwrap(), HashSet::from([0, 7]));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}{}", line(0), line(7)));
    }

    #[test]
    fn each_line_is_a_call_of_its_own() {
        let now = comity_wire::Timestamp(1);
        let key = |batch, line| key_of(batch, line, now).digest;
        assert_eq!(key("batch_a", 1), key("batch_a", 1));
        assert_ne!(key("batch_a", 1), key("batch_a", 2));
        assert_ne!(key("batch_a", 1), key("batch_b", 1));
    }
}
