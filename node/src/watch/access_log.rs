//! The access log: one JSON line for each call, written by a thread of its own.
//!
//! Bounded in memory (lines that wait) and on disk (a file and its elders). Who asked stands in it only where the tier's
//! log class says so; what was asked never does.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use comity_gateway::Call;
use comity_wire::Meter;
use serde_json::{Value, json};

use super::elder;
use crate::failure::{Failure, While as _};

/// Lines that wait for the disk; one more is dropped and counted.
const LINES_MAX: usize = 8_192;
const FILE_BYTES_MAX: u64 = 64 << 20;
const ELDERS: usize = 4;

/// A log that is being written.
pub struct AccessLog {
    lines: Mutex<Option<SyncSender<String>>>,
    dropped: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Appends to the file, readable by this user alone.
    ///
    /// # Errors
    /// [`Failure`] naming the file.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::bounded(path, FILE_BYTES_MAX)
    }

    fn bounded(path: &Path, bytes_max: u64) -> Result<Self, Failure> {
        let cannot = || format!("cannot write the access log {}", path.display());
        let file = create(path).while_(cannot())?;
        let bytes = file.metadata().while_(cannot())?.len();
        let (lines, queue) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { path: path.to_owned(), file, bytes, bytes_max, dropped: dropped.clone() };
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&queue));
        let writer = Mutex::new(Some(thread.while_(cannot())?));
        Ok(Self { lines: Mutex::new(Some(lines)), dropped, writer })
    }

    pub(super) fn call(&self, call: &Call) {
        self.line(&line(&crate::shell::now().to_string(), call));
    }

    pub(super) fn line(&self, line: &Value) {
        let line = line.to_string();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = lines.as_ref().map(|lines| lines.try_send(line));
        if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits, then ends the thread.
    pub(super) fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<String>) {
        while let Ok(line) = queue.recv() {
            if self.bytes >= self.bytes_max
                && let Err(error) = self.turn()
            {
                tracing::error!(%error, path = %self.path.display(), "the access log cannot be turned; it grows on");
                self.bytes = 0;
            }
            match self.file.write_all(format!("{line}\n").as_bytes()) {
                Ok(()) => self.bytes += line.len() as u64 + 1,
                // A full disk must not stop the node: what is charged stands in the spend store.
                Err(error) => {
                    if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::error!(%error, path = %self.path.display(), "the access log cannot be written");
                    }
                }
            }
        }
    }

    /// Makes the file its own first elder; the oldest goes.
    fn turn(&mut self) -> std::io::Result<()> {
        for number in (1..ELDERS).rev() {
            let younger = elder(&self.path, number);
            if younger.exists() {
                std::fs::rename(younger, elder(&self.path, number + 1))?;
            }
        }
        std::fs::rename(&self.path, elder(&self.path, 1))?;
        self.file = create(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn line(at: &str, call: &Call) -> Value {
    let ms = |duration: std::time::Duration| (duration.as_secs_f64() * 1e4).round() / 10.0;
    let mut line = json!({
        "at": at, "request": call.request, "route": call.route, "status": call.status, "code": call.code, "model": call.model, "op": call.op,
        "tier": call.tier, "stream": call.stream, "subject": call.subject, "token": call.token,
        "held_ucr": call.held.ucr(), "took_ms": ms(call.took), "first_ms": call.first.map(ms),
    });
    if call.replayed {
        line["replayed"] = true.into();
    }
    if let Some(charge) = &call.charge {
        line["charge_ucr"] = charge.charge.ucr().into();
        line["input_tokens"] = charge.meters.get(Meter::InputTokens).into();
        line["output_tokens"] = charge.meters.get(Meter::OutputTokens).into();
        line["basis"] = charge.basis.as_str().into();
        line["ended"] = charge.ended.as_str().into();
    }
    line.as_object_mut().expect("made as an object above").retain(|_, value| !value.is_null());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tests::answered;

    #[test]
    fn a_line_says_what_was_charged_and_nothing_that_is_not_known() {
        let line = line("2026-11-28T00:00:00Z", &answered());
        assert_eq!(
            line.to_string(),
            r#"{"at":"2026-11-28T00:00:00Z","request":"req-7","route":"/v1/chat/completions","status":200,"model":"lab/tiny","op":"chat","tier":"t1","stream":false,"subject":"sub-a","held_ucr":90,"took_ms":12.5,"first_ms":3.0,"charge_ucr":18,"input_tokens":12,"output_tokens":3,"basis":"upstream","ended":"stop"}"#
        );
    }

    #[test]
    fn the_file_and_its_elders_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let log = AccessLog::bounded(&path, 1_000).unwrap();
        for _ in 0..200 {
            log.call(&answered());
        }
        log.close();
        assert_eq!(log.dropped(), 0);
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 1 + ELDERS, "{names:?}");
        for name in names {
            let text = std::fs::read_to_string(folder.path().join(&name)).unwrap();
            assert!(text.len() < 1_500, "{name:?} holds {}", text.len());
            assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        }
    }
}
