//! The wallet's journal: what it wrote, and flushed, before it sent (rule 3). Plain JSON lines, one process at a time.
//!
//! Writing a line and waiting for the disk are apart: calls at once share a flush ([`Disk::reach`]). One that has grown begins
//! anew with what it came to, and what stood in it goes into an archive beside it ([`Journal::renew`]).

pub(crate) mod handed;
mod history;
mod renew;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_wire::object::AckLane;
use comity_wire::{Amount, Digest, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::keys::Calls;
use crate::lane::{Carried, Open};
use crate::pending::Pending;
use crate::seal::{self, Sealer};

/// A signed object's or chain's bytes in the journal.
pub type Stored = comity_wire::cbor::Bytes<16384>;

/// One fact. A wallet is what its entries add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// The house is about to be asked for a token: its credits may be set aside from here on.
    Reserving {
        id: TokenId,
        pending: Pending,
    },
    /// The house said that it set nothing aside under this id.
    NotReserved {
        id: TokenId,
    },
    /// A token or a delegated chain came in. The seed is the holder key's.
    Token {
        chain: Stored,
        seed: Stored,
        cap: Amount,
    },
    /// A request is about to be sent: its signature may be charged from here on.
    Signed {
        token: TokenId,
        lane: u16,
        open: Open,
    },
    /// The node said no, or never began: the seq is free again.
    Free {
        token: TokenId,
        lane: u16,
        seq: u64,
    },
    /// A receipt that was checked against what was asked.
    Receipt {
        token: TokenId,
        lane: u16,
        receipt: Stored,
    },
    /// A receipt that breaks a rule, kept for a dispute; or none where one was due. Nothing more is asked under the token.
    Fault {
        token: TokenId,
        lane: u16,
        seq: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<Stored>,
        what: String,
    },
    /// A node certificate or tariff that a receipt was checked under: receipts can be checked again when both have changed.
    Evidence {
        object: Stored,
    },
    Acknowledged {
        token: TokenId,
        ack: JournalAck,
    },
    /// The answer to a call was handed over whole, so nobody asks for it again. Worth no flush ([`Journal::note`]).
    Answered {
        key: Digest,
    },
    /// The node takes nothing more under the token. Its final is still to be asked for.
    Ended {
        token: TokenId,
    },
    /// The node's final is here.
    Closed {
        token: TokenId,
    },
    /// A part of the token was handed on: whoever has it may spend so much until then. `leaf`: of the block that says so.
    Delegated {
        token: TokenId,
        leaf: Digest,
        cap: Amount,
        until: Timestamp,
    },
    /// What all others spent of the token whom parts of it were handed on to, by the node's final.
    SpentByOthers {
        token: TokenId,
        spent: Amount,
    },
    /// First line of a journal that began anew (decision 0099). A program from before refuses it by this name.
    #[serde(rename = "carried_on_by_a_newer_comity")]
    Carried {
        /// Bytes of each archive, the oldest first: what stood in the journal before.
        archives: Vec<u64>,
        /// How many lines belong to this one: the rest of what the wallet was when it began anew.
        lines: u64,
        /// Σ spent of the wallet's own tokens that are not carried on.
        settled: Amount,
        /// What was charged by the day that it was signed on.
        days: Vec<(u32, Amount)>,
    },
    /// All that a lane came to. Only below [`Entry::Carried`], as the next.
    Lane {
        token: TokenId,
        lane: u16,
        carried: Carried,
    },
    /// Calls whose keys are remembered.
    Calls {
        calls: Calls,
    },
}

/// The part of an [`AckLane`] that the wallet needs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalAck {
    pub lane: u16,
    pub n: u64,
    pub total: Amount,
}

impl From<&AckLane> for JournalAck {
    fn from(entry: &AckLane) -> Self {
        Self { lane: entry.lane, n: entry.n, total: entry.total }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot open the wallet's journal {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("another process uses the wallet {path}: end it, or name another wallet")]
    Locked { path: PathBuf },
    #[error("line {line} of the wallet's journal {path} cannot be read: restore it from a copy, do not delete it")]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("line {line} of the wallet's journal {path} was written by a newer version of comity")]
    Newer { path: PathBuf, line: usize },
    #[error(
        "the wallet's journal {path} was cut, and not while it was written: restore it from a copy, do not delete it"
    )]
    Cut { path: PathBuf },
    #[error("the wallet's archive {path} is not there, or not as it was written")]
    Archive { path: PathBuf },
    #[error("cannot write the wallet's journal {path}: nothing was sent")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the wallet's journal {path} could not be written before: make room on the disk, then start again")]
    Broken { path: PathBuf },
}

/// An open journal under an exclusive lock. Dropped, it is flushed.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<Disk>,
    sealer: Option<Sealer>,
    begun: Begun,
}

/// What a journal began with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Begun {
    /// Of what it carries on, with its first line.
    bytes: u64,
    lines: u64,
    archives: Vec<u64>,
}

/// What of a journal is on the disk: shared with those who wait for it.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines that stood there when it was opened.
    found: u64,
    /// Bytes of whole lines.
    written: AtomicU64,
    /// Of these, the bytes that are known to be on the disk.
    durable: AtomicU64,
    /// A line could not be taken back, or a flush failed: what is on the disk is not known, and a second flush that
    /// succeeds would prove nothing.
    broken: AtomicBool,
    /// Whoever has it flushes, for all that wait for it.
    turn: tokio::sync::Mutex<()>,
    /// One flush at a time: the kernel tells of a failure once, and whoever flushed beside would be told that all is well.
    flushing: Mutex<()>,
    flush: fn(&File) -> std::io::Result<()>,
}

/// How far a journal was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Journal {
    /// Opens or creates the journal and reads what stands in it.
    ///
    /// A last line without its end was cut while it was being written, so nothing was sent on its strength: it is dropped.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let fail = |source| JournalError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        // Who changed how keys are kept put another file here while this one was opened.
        if !is_at(&file, path).map_err(fail)? {
            return Err(JournalError::Locked { path: path.to_owned() });
        }
        let (entries, whole, begun) = read(&file, path)?;
        file.set_len(whole).map_err(fail)?;
        if begun.lines > 0 {
            // Whoever put it here may have died before that was on the disk: a power cut must not bring back the one before, and
            // take what is written to this one.
            renew::flush_folder(path).map_err(fail)?;
        }
        // What was read may be in the kernel's memory alone: whoever wrote it may have died before its flush.
        let disk = Disk::of(file, path, whole, 0);
        Ok((Self { disk: Arc::new(disk), sealer: None, begun }, entries))
    }

    /// Secrets are closed from now on where there is a sealer.
    pub fn seal_with(&mut self, sealer: Option<Sealer>) {
        self.sealer = sealer;
    }

    /// What stands in a journal that another process may be writing: its whole lines. What it was before it began anew
    /// comes with [`Journal::each`].
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn read(path: &Path) -> Result<Vec<Entry>, JournalError> {
        match File::open(path) {
            Ok(file) => Ok(read(&file, path)?.0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(JournalError::Open { path: path.to_owned(), source }),
        }
    }

    /// Appends and flushes to disk; returns only when it is durable.
    ///
    /// # Errors
    /// [`JournalError::Write`]: then nothing may be sent on the strength of it.
    pub fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.note(entry)?;
        self.disk.flush()
    }

    /// Appends without waiting for the disk: it outlives this process, and a power cut only once [`Disk::reach`] says so.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn note(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.disk.check()?;
        self.put(entry)
    }

    fn put(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let disk = &self.disk;
        let mut line = seal::line(self.sealer.as_ref(), entry);
        line.push(b'\n');
        let written = (&disk.file).write_all(&line);
        if written.is_ok() && disk.check().is_ok() {
            disk.written.fetch_add(line.len() as u64, Ordering::AcqRel);
            return Ok(());
        }
        let _flushing = disk.flushing();
        match written {
            // A flush failed meanwhile, and cut off what it could not make durable: this line may stand behind the cut.
            Ok(()) => disk.cut().and_then(|()| disk.check()),
            Err(source) => {
                // Half a line would make the next one, and with it the wallet, unreadable.
                let whole = disk.written.load(Ordering::Acquire);
                let taken_back = disk.file.set_len(whole).and_then(|()| disk.file.sync_data());
                disk.broken.fetch_or(taken_back.is_err(), Ordering::AcqRel);
                Err(JournalError::Write { path: disk.path.clone(), source })
            }
        }
    }

    /// What has been written so far, and whom to ask for it to be durable.
    pub fn written(&self) -> (Arc<Disk>, Mark) {
        (Arc::clone(&self.disk), Mark(self.disk.written.load(Ordering::Acquire)))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let (disk, mark) = self.written();
        if mark.0 > disk.found && !disk.has(mark) {
            // Nobody is left who could be told; what a power cut takes now is asked for again.
            disk.flush().ok();
        }
        disk.let_go();
    }
}

impl Disk {
    fn of(file: File, path: &Path, whole: u64, durable: u64) -> Self {
        Self {
            file,
            path: path.to_owned(),
            found: whole,
            written: AtomicU64::new(whole),
            durable: AtomicU64::new(durable),
            broken: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
            flushing: Mutex::default(),
            flush: File::sync_data,
        }
    }

    fn let_go(&self) {
        // A flush that is still under way must cut off nothing of whoever opens it next.
        {
            let _flushing = self.flushing();
            self.broken.store(true, Ordering::Release);
        }
        // A process that is being started may have the descriptor until it runs its own program: closing would not be enough.
        self.file.unlock().ok();
    }

    /// Waits until everything up to `mark` is on the disk. Callers at once wait for one flush, whoever of them began it;
    /// one that is dropped keeps no other waiting.
    ///
    /// # Errors
    /// [`JournalError::Write`], [`JournalError::Broken`]: then nothing may be sent on the strength of what was written.
    pub async fn reach(self: &Arc<Self>, mark: Mark) -> Result<(), JournalError> {
        if self.has(mark) {
            return self.check();
        }
        let _turn = self.turn.lock().await;
        // Who was before this one may have flushed it along.
        if self.has(mark) {
            return self.check();
        }
        let disk = Arc::clone(self);
        let flushed = tokio::task::spawn_blocking(move || disk.flush());
        flushed.await.unwrap_or_else(|_| Err(JournalError::Broken { path: self.path.clone() }))
    }

    fn has(&self, mark: Mark) -> bool {
        self.durable.load(Ordering::Acquire) >= mark.0
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        Ok(())
    }

    fn flushing(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was written until now, and not the caller's line alone.
    fn flush(&self) -> Result<(), JournalError> {
        let _flushing = self.flushing();
        self.check()?;
        let end = self.written.load(Ordering::Acquire);
        if let Err(source) = (self.flush)(&self.file) {
            self.broken.store(true, Ordering::Release);
            // The kernel may keep pages that it could not write, and take them for written from now on: who starts next must not
            // believe them. Nothing was sent on their strength.
            self.cut().ok();
            return Err(JournalError::Write { path: self.path.clone(), source });
        }
        self.durable.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Cuts the journal off behind what is known to be on the disk.
    fn cut(&self) -> Result<(), JournalError> {
        let durable = self.durable.load(Ordering::Acquire).max(self.found);
        self.file.set_len(durable).map_err(|source| JournalError::Write { path: self.path.clone(), source })
    }
}

/// Whether the file that was opened is the one that stands there now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (held, there) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> std::io::Result<bool> {
    Ok(true)
}

/// All whole lines, how many bytes they are, and what of them was carried on.
fn read(mut file: &File, path: &Path) -> Result<(Vec<Entry>, u64, Begun), JournalError> {
    let fail = |source| JournalError::Open { path: path.to_owned(), source };
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut reader = BufReader::new(file);
    let (mut entries, mut whole, mut begun, mut buffer) = (Vec::new(), 0, Begun::default(), Vec::new());
    while let Some(entry) = next(&mut reader, path, entries.len() + 1, &mut buffer)? {
        if let (Entry::Carried { archives, lines, .. }, true) = (&entry, entries.is_empty()) {
            begun = Begun { bytes: 0, lines: lines.saturating_add(1), archives: archives.clone() };
        }
        entries.push(entry);
        whole += buffer.len() as u64;
        if entries.len() as u64 == begun.lines {
            begun.bytes = whole;
        }
    }
    // It was put here whole: without one of these lines a lane's number, or a day's sum, would be forgotten.
    let is_lost = || entries.is_empty() && renew::path_of(path, 1).exists();
    if (entries.len() as u64) < begun.lines || is_lost() {
        return Err(JournalError::Cut { path: path.to_owned() });
    }
    Ok((entries, whole, begun))
}

/// The next whole line, which is in `buffer` then.
fn next(
    reader: &mut impl BufRead,
    path: &Path,
    line: usize,
    buffer: &mut Vec<u8>,
) -> Result<Option<Entry>, JournalError> {
    buffer.clear();
    let count = reader.read_until(b'\n', buffer);
    let count = count.map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
    if count == 0 || buffer.last() != Some(&b'\n') {
        return Ok(None);
    }
    let entry = serde_json::from_slice(buffer).map_err(|source| {
        let path = path.to_owned();
        if is_unknown(buffer) { JournalError::Newer { path, line } } else { JournalError::Line { path, line, source } }
    });
    entry.map(Some)
}

/// Whether a line is of a kind that this program does not know.
fn is_unknown(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let Ok(Kind { kind }) = serde_json::from_slice(line) else { return false };
    let alone = serde_json::from_value::<Entry>(serde_json::json!({"kind": kind}));
    alone.is_err_and(|error| error.to_string().starts_with("unknown variant"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(id: u8) -> Entry {
        Entry::Closed { token: TokenId([id; 16]) }
    }

    #[test]
    fn a_line_that_was_cut_is_dropped_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&closed(1)).unwrap();
        drop(journal);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"kind\":\"clo").unwrap();
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert_eq!(entries, [closed(1)]);
        journal.append(&closed(2)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [closed(1), closed(2)]);
    }

    #[test]
    fn a_write_that_failed_leaves_whole_lines_or_nothing_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&closed(1)).unwrap();
        // Read-only: neither the line nor its taking back succeeds.
        let disk = |journal: &mut Journal, file| Arc::get_mut(&mut journal.disk).unwrap().file = file;
        disk(&mut journal, File::open(&path).unwrap());
        assert!(matches!(journal.append(&closed(2)), Err(JournalError::Write { .. })));
        disk(&mut journal, OpenOptions::new().append(true).open(&path).unwrap());
        assert!(matches!(journal.append(&closed(3)), Err(JournalError::Broken { .. })));
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [closed(1)]);
    }

    /// How often the one journal whose flushes are counted was flushed.
    static FLUSHES: AtomicU64 = AtomicU64::new(0);

    fn counted(file: &File) -> std::io::Result<()> {
        FLUSHES.fetch_add(1, Ordering::SeqCst);
        file.sync_data()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn callers_at_once_share_a_flush_and_none_goes_on_before_its_line_is_on_the_disk() {
        const CALLERS: u8 = 64;
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&folder.path().join("journal")).unwrap();
        Arc::get_mut(&mut journal.disk).unwrap().flush = counted;
        let turn = Arc::clone(&journal.disk);
        // Nobody flushes before all have written: what is counted does not depend on who is quick.
        let first = turn.turn.lock().await;
        let mut waiting = tokio::task::JoinSet::new();
        for id in 0..CALLERS {
            journal.note(&closed(id)).unwrap();
            let (disk, mark) = journal.written();
            assert!(!disk.has(mark), "written is not durable");
            waiting.spawn(async move {
                disk.reach(mark).await.unwrap();
                assert!(disk.has(mark));
            });
        }
        drop(first);
        while let Some(done) = waiting.join_next().await {
            done.unwrap();
        }
        assert_eq!(FLUSHES.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_flush_that_failed_stops_the_journal_whatever_the_next_one_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        Arc::get_mut(&mut journal.disk).unwrap().flush = |_| Err(std::io::ErrorKind::StorageFull.into());
        journal.note(&closed(1)).unwrap();
        let (disk, mark) = journal.written();
        assert!(matches!(disk.reach(mark).await, Err(JournalError::Write { .. })));
        drop(disk);
        Arc::get_mut(&mut journal.disk).unwrap().flush = File::sync_data;
        let (disk, mark) = journal.written();
        assert!(matches!(disk.reach(mark).await, Err(JournalError::Broken { .. })));
        assert!(matches!(journal.note(&closed(2)), Err(JournalError::Broken { .. })));
        drop((journal, disk));
        assert_eq!(
            Journal::open(&path).unwrap().1,
            [],
            "nothing was sent on the strength of it, so it is not believed"
        );
    }

    #[tokio::test]
    async fn what_is_found_is_flushed_before_it_counts_as_durable_and_stays_where_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.note(&closed(1)).unwrap();
        drop(journal);
        let (mut journal, _) = Journal::open(&path).unwrap();
        let (disk, mark) = journal.written();
        assert!(!disk.has(mark), "its writer may have been killed before its flush");
        drop(disk);
        Arc::get_mut(&mut journal.disk).unwrap().flush = |_| Err(std::io::ErrorKind::StorageFull.into());
        journal.note(&closed(2)).unwrap();
        let (disk, mark) = journal.written();
        assert!(matches!(disk.reach(mark).await, Err(JournalError::Write { .. })));
        drop((journal, disk));
        assert_eq!(Journal::open(&path).unwrap().1, [closed(1)]);
    }

    #[test]
    fn a_line_that_is_written_while_a_flush_fails_does_not_stand_behind_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&closed(1)).unwrap();
        // As if the flush had failed between the look at the journal and the line.
        journal.disk.broken.store(true, Ordering::Release);
        let written = journal.put(&closed(2));
        assert!(matches!(written, Err(JournalError::Broken { .. })), "{written:?}");
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [closed(1)]);
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_keeps_no_other_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&folder.path().join("journal")).unwrap();
        journal.note(&closed(1)).unwrap();
        let (disk, mark) = journal.written();
        {
            let mut leaver = std::pin::pin!(disk.reach(mark));
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(leaver.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        disk.reach(mark).await.unwrap();
        assert!(disk.has(mark));
    }

    #[test]
    fn a_file_that_another_took_the_place_of_is_not_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("journal"), folder.path().join("journal.new"));
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        File::create(&new).unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert!(!is_at(&file, &path).unwrap(), "what is written to it would be lost");
    }

    #[test]
    fn one_wallet_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let _held = Journal::open(&path).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Locked { .. })));
        assert_eq!(Journal::read(&path).unwrap(), [], "looking needs no lock");
    }

    #[test]
    fn a_wallet_that_was_closed_is_free_whoever_inherited_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, _) = Journal::open(&path).unwrap();
        let _inherited = journal.disk.file.try_clone().unwrap();
        drop(journal);
        Journal::open(&path).unwrap();
    }
}
