//! The wallet's journal: what it wrote, and flushed, before it sent (rule 3). Plain JSON lines, one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use comity_wire::object::AckLane;
use comity_wire::{Amount, Digest, TokenId};
use serde::{Deserialize, Serialize};

use crate::lane::Open;
use crate::pending::Pending;

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
    #[error("cannot write the wallet's journal {path}: nothing was sent")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the wallet's journal {path} could not be written before: make room on the disk, then start again")]
    Broken { path: PathBuf },
}

/// An open journal under an exclusive lock.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Bytes of whole lines.
    whole: u64,
    /// A write failed and could not be taken back: what is on the disk is not known.
    broken: bool,
    path: PathBuf,
}

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
        let (entries, whole) = read(&file, path)?;
        file.set_len(whole).map_err(fail)?;
        Ok((Self { file, whole, broken: false, path: path.to_owned() }, entries))
    }

    /// What stands in a journal that another process may be writing: its whole lines.
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
        self.put(entry, File::sync_data)
    }

    /// Appends without waiting for the disk: it outlives this process, and not a power cut. For what nothing depends on
    /// that could be lost.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn note(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.put(entry, |_| Ok(()))
    }

    fn put(&mut self, entry: &Entry, flush: fn(&File) -> std::io::Result<()>) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        let mut line = serde_json::to_vec(entry).expect("an entry has only string keys");
        line.push(b'\n');
        match self.file.write_all(&line).and_then(|()| flush(&self.file)) {
            Ok(()) => {
                self.whole += line.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Half a line would make the next one, and with it the wallet, unreadable.
                self.broken = self.file.set_len(self.whole).and_then(|()| self.file.sync_data()).is_err();
                Err(JournalError::Write { path: self.path.clone(), source })
            }
        }
    }
}

/// All whole lines, and how many bytes they are.
fn read(mut file: &File, path: &Path) -> Result<(Vec<Entry>, u64), JournalError> {
    let fail = |source| JournalError::Open { path: path.to_owned(), source };
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut reader = BufReader::new(file);
    let (mut entries, mut whole, mut buffer) = (Vec::new(), 0, Vec::new());
    loop {
        buffer.clear();
        let count = reader.read_until(b'\n', &mut buffer).map_err(fail)?;
        if count == 0 || buffer.last() != Some(&b'\n') {
            return Ok((entries, whole));
        }
        let line = entries.len() + 1;
        let entry = serde_json::from_slice(&buffer);
        entries.push(entry.map_err(|source| JournalError::Line { path: path.to_owned(), line, source })?);
        whole += count as u64;
    }
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
        journal.file = File::open(&path).unwrap();
        assert!(matches!(journal.append(&closed(2)), Err(JournalError::Write { .. })));
        journal.file = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(matches!(journal.append(&closed(3)), Err(JournalError::Broken { .. })));
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [closed(1)]);
    }

    #[test]
    fn one_wallet_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let _held = Journal::open(&path).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Locked { .. })));
        assert_eq!(Journal::read(&path).unwrap(), [], "looking needs no lock");
    }
}
