//! Texts of calls, kept where a tier's `logging` is `"bodies"`: sealed for a key that need not be on this machine, and gone
//! when the days have passed that the manifest told.
//!
//! `transcripts/DATE/MODEL.jsonl` in the home, where DATE is the day on which they go: what was promised at the call holds,
//! whatever the owner's files say later. One line a call; its head is as readable as the access log's, its texts are not.

mod folder;
mod record;
mod sealed;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use comity_gateway::{Transcript, Transcripts};
use comity_wire::Timestamp;

use crate::failure::Failure;
use crate::home::Home;

pub use folder::{Folder, Gone, Kept};
pub use record::{Chosen, Hold, Removed, Said};
pub use sealed::{Head, Key, Lock, Texts};

/// Texts that wait for the disk; with more of them no call of such a tier is admitted. Calls under way still come on top.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// A disk that is full is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// How often is looked for what has to go.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Tries to write what is left when the node ends.
const LAST_TRIES: u32 = 3;

/// Writes them, on a thread of its own.
pub struct Writer {
    state: Arc<State>,
    send: Mutex<Option<Sender<Transcript>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    waiting_bytes: AtomicUsize,
    is_well: AtomicBool,
    is_closing: AtomicBool,
}

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Writer {
    /// Begins to write, where the home has a lock for them; `None` where it has none.
    ///
    /// # Errors
    /// [`Failure`] where the lock cannot be read, or the folder cannot be made.
    pub fn start(home: &Home, clock: Clock) -> Result<Option<Arc<Self>>, Failure> {
        let Some(lock) = Lock::of(&home.path)? else { return Ok(None) };
        let folder = Folder::open(&home.path)?;
        let (send, receive) = channel();
        let state = Arc::new(State {
            waiting_bytes: AtomicUsize::new(0),
            is_well: AtomicBool::new(true),
            is_closing: AtomicBool::new(false),
        });
        let work = Work { folder, lock, clock, state: state.clone(), receive };
        let thread = std::thread::Builder::new().name("transcripts".into()).spawn(move || work.run())?;
        Ok(Some(Arc::new(Self { state, send: Mutex::new(Some(send)), thread: Mutex::new(Some(thread)) })))
    }

    /// Writes what waits, and ends. Blocks for a few seconds where the disk is full.
    pub fn close(&self) {
        self.state.is_closing.store(true, Ordering::Relaxed);
        drop(self.send.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Transcripts for Writer {
    fn is_ready(&self) -> bool {
        self.state.is_well.load(Ordering::Relaxed)
            && self.state.waiting_bytes.load(Ordering::Relaxed) < WAITING_BYTES_MAX
    }

    fn keep(&self, transcript: Transcript) {
        let bytes = size(&transcript);
        let send = self.send.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(send) = &*send {
            self.state.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            let _ = send.send(transcript);
        }
    }
}

fn size(transcript: &Transcript) -> usize {
    transcript.request.len() + transcript.response.iter().map(bytes::Bytes::len).sum::<usize>()
}

struct Work {
    folder: Folder,
    lock: Lock,
    clock: Clock,
    state: Arc<State>,
    receive: Receiver<Transcript>,
}

impl Work {
    fn run(self) {
        loop {
            self.sweep();
            let until = std::time::Instant::now() + SWEEP_EVERY;
            loop {
                match self.receive.recv_timeout(until.saturating_duration_since(std::time::Instant::now())) {
                    Ok(transcript) => self.write(&transcript),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Tries until it is written; meanwhile no call of such a tier is admitted. Only at the node's end it is given up.
    fn write(&self, transcript: &Transcript) {
        let mut last_tries = LAST_TRIES;
        loop {
            match self.folder.append(&self.lock, transcript) {
                Ok(()) => break,
                Err(failure) => {
                    if self.state.is_well.swap(false, Ordering::Relaxed) {
                        tracing::error!(%failure, "texts cannot be kept; calls of tiers that keep them wait for the owner");
                    }
                    std::thread::sleep(AGAIN);
                    last_tries -= u32::from(self.state.is_closing.load(Ordering::Relaxed));
                    if last_tries == 0 {
                        tracing::error!(receipt = %transcript.receipt, "the texts of this call are lost");
                        return;
                    }
                }
            }
        }
        self.state.waiting_bytes.fetch_sub(size(transcript), Ordering::Relaxed);
        self.state.is_well.store(true, Ordering::Relaxed);
    }

    fn sweep(&self) {
        match self.folder.sweep((self.clock)()) {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "texts whose days have passed are gone"),
            Err(failure) => tracing::error!(%failure, "texts whose days have passed were not removed"),
        }
    }
}

/// Until when texts lie in a home, as far as their days and holds say now; `None` where there are none.
///
/// # Errors
/// [`Failure`] where the folder cannot be read.
pub fn lies_until(home: &Path) -> Result<Option<Timestamp>, Failure> {
    if within(home).is_dir() { Folder::open(home)?.lies_until() } else { Ok(None) }
}

/// Whether a home has a lock, and so keeps the texts of calls that say so.
///
/// # Errors
/// [`Failure`] where the lock cannot be read.
pub fn keeps(home: &Path) -> Result<bool, Failure> {
    Ok(Lock::of(home)?.is_some())
}

/// What was said of texts in a home: those that went, in the order of their numbers, and all holds.
///
/// # Errors
/// [`Failure`] where a line does not follow the one before.
pub fn said_of(home: &Path) -> Result<(Vec<Removed>, Vec<Hold>), Failure> {
    if !within(home).is_dir() {
        return Ok((Vec::new(), Vec::new()));
    }
    let folder = Folder::open(home)?;
    let (removed, _) = folder.removed()?;
    Ok((removed, folder.holds()?))
}

/// Where they lie in a home.
fn within(home: &Path) -> std::path::PathBuf {
    home.join("transcripts")
}

#[cfg(test)]
mod tests;
