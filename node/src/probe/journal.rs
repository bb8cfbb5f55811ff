//! What the probes know, on disk: facts as JSON lines, each flushed before the next thing is done, and now and then all of them in one
//! file, so that the lines can go.
//!
//! Both carry a number. A snapshot has everything up to its own; lines at or below it are passed over, so that a process that dies between
//! writing the one and cutting the other loses nothing and counts nothing twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, While as _};

pub const LINES: &str = "journal";
pub const WHOLE: &str = "snapshot.json";
/// Bytes of lines after which a snapshot is made.
pub const LINES_BYTES_MAX: u64 = 4 << 20;

/// A fact, or everything up to one.
#[derive(Debug, Serialize, Deserialize)]
struct Numbered<T> {
    n: u64,
    #[serde(rename = "is")]
    what: T,
}

/// An open journal: one process has it.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    bytes: u64,
    n: u64,
    /// A write failed and could not be taken back.
    broken: bool,
}

/// What was kept.
#[derive(Debug)]
pub struct Kept<S, E> {
    pub snapshot: Option<S>,
    /// What came after it.
    pub events: Vec<E>,
}

impl Journal {
    /// Opens or makes it. A last line without its end was cut while it was being written: nothing was done on its strength.
    ///
    /// # Errors
    /// [`Failure`]; also where another process has it.
    pub fn open<S: DeserializeOwned, E: DeserializeOwned>(folder: &Path) -> Result<(Self, Kept<S, E>), Failure> {
        let path = folder.join(LINES);
        let doing = || format!("cannot open {}", path.display());
        std::fs::create_dir_all(folder).while_(doing())?;
        #[cfg(unix)]
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).while_(doing())?;
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).while_(doing())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new("another process runs the probes of this house")
                    .hint("one at a time: end it first, or ask it with `comity clearing probe status`"));
            }
            Err(TryLockError::Error(error)) => return Err(error).while_(doing()),
        }
        let (lines, bytes) = lines::<E>(&mut file, &path)?;
        file.set_len(bytes).while_(doing())?;
        let (kept, n) = join(folder, lines)?;
        Ok((Self { folder: folder.to_owned(), file, bytes, n, broken: false }, kept))
    }

    /// Whether a process has it open.
    #[must_use]
    pub fn is_open(folder: &Path) -> bool {
        File::open(folder.join(LINES)).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// What stands there while another process may be writing.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn look<S: DeserializeOwned, E: DeserializeOwned>(folder: &Path) -> Result<Kept<S, E>, Failure> {
        let path = folder.join(LINES);
        // Lines first: where a snapshot is made meanwhile, it has what these lines are cut of.
        let lines = match File::open(&path) {
            Ok(mut file) => lines(&mut file, &path)?.0,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
        };
        Ok(join(folder, lines)?.0)
    }

    /// Returns once it is durable.
    ///
    /// # Errors
    /// [`Failure`]: nothing may be done on its strength.
    pub fn append(&mut self, event: &impl Serialize) -> Result<(), Failure> {
        let path = self.folder.join(LINES);
        if self.broken {
            return Err(Failure::new(format!("{} could not be written before", path.display()))
                .hint("make room on the disk, then start again"));
        }
        let mut line = serde_json::to_vec(&Numbered { n: self.n + 1, what: event })?;
        line.push(b'\n');
        match self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.n += 1;
                self.bytes += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.broken = self.file.set_len(self.bytes).and_then(|()| self.file.sync_data()).is_err();
                Err(error).while_(format!("cannot write {}", path.display()))
            }
        }
    }

    /// Whether it is time for a snapshot.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.bytes >= LINES_BYTES_MAX
    }

    /// Writes everything, then cuts the lines.
    ///
    /// # Errors
    /// [`Failure`]: the lines are still there.
    pub fn snapshot(&mut self, whole: &impl Serialize) -> Result<(), Failure> {
        let path = self.folder.join(WHOLE);
        let bytes = serde_json::to_vec(&Numbered { n: self.n, what: whole })?;
        let new = self.folder.join("snapshot.new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&new).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        let renamed = written.and_then(|()| std::fs::rename(&new, &path));
        // The name, too, has to be on the disk before the lines go.
        let durable = renamed.and_then(|()| File::open(&self.folder)?.sync_all());
        durable.while_(format!("cannot write {}", path.display()))?;
        self.file.set_len(0).and_then(|()| self.file.sync_data()).while_("cannot cut the journal")?;
        self.bytes = 0;
        Ok(())
    }
}

fn lines<E: DeserializeOwned>(file: &mut File, path: &Path) -> Result<(Vec<Numbered<E>>, u64), Failure> {
    let mut text = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text));
    read.while_(format!("cannot read {}", path.display()))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = Vec::new();
    for (at, line) in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let line = serde_json::from_slice(line).while_(format!("line {} of {} cannot be read", at + 1, path.display()));
        lines.push(line.map_err(|failure| failure.hint("restore it from a copy; without it the baselines are lost"))?);
    }
    Ok((lines, whole as u64))
}

fn join<S: DeserializeOwned, E>(folder: &Path, lines: Vec<Numbered<E>>) -> Result<(Kept<S, E>, u64), Failure> {
    let path = folder.join(WHOLE);
    let whole: Option<Numbered<S>> = match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).while_(format!("{} cannot be read", path.display()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
    };
    let from = whole.as_ref().map_or(0, |whole| whole.n);
    let (mut n, mut events) = (from, Vec::new());
    for line in lines.into_iter().filter(|line| line.n > from) {
        if line.n != n + 1 {
            return Err(Failure::new(format!("facts {} to {} are missing in {}", n + 1, line.n - 1, folder.display()))
                .hint("restore the folder from a copy: snapshot.json and journal belong together"));
        }
        n = line.n;
        events.push(line.what);
    }
    Ok((Kept { snapshot: whole.map(|whole| whole.what), events }, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Journal, Kept<u64, u64>) {
        Journal::open(folder).unwrap()
    }

    #[test]
    fn nothing_is_lost_or_counted_twice_wherever_a_process_dies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (mut journal, _) = open(path);
        (1..=3_u64).for_each(|event| journal.append(&event).unwrap());
        let before = std::fs::read(path.join(LINES)).unwrap();
        journal.snapshot(&6_u64).unwrap();
        journal.append(&4_u64).unwrap();
        drop(journal);
        let (journal, kept) = open(path);
        assert_eq!((kept.snapshot, kept.events), (Some(6), vec![4]));
        assert!(Journal::is_open(path) && Journal::open::<u64, u64>(path).is_err());
        drop(journal);
        // Between the snapshot and the cut, and in the middle of a line.
        let mut torn = before;
        torn.extend_from_slice(b"{\"n\":4,\"is");
        std::fs::write(path.join(LINES), torn).unwrap();
        let (mut journal, kept) = open(path);
        assert_eq!((kept.snapshot, kept.events), (Some(6), Vec::new()));
        journal.append(&9_u64).unwrap();
        drop(journal);
        let kept: Kept<u64, u64> = Journal::look(path).unwrap();
        assert_eq!((kept.snapshot, kept.events), (Some(6), vec![9]));
        // Lines without the snapshot that they follow.
        std::fs::remove_file(path.join(WHOLE)).unwrap();
        std::fs::write(path.join(LINES), b"{\"n\":4,\"is\":9}\n").unwrap();
        assert!(Journal::open::<u64, u64>(path).is_err());
    }
}
