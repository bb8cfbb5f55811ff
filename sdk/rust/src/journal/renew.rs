//! A journal begins anew (decision 0099): a new file with what it came to takes its place, and what stood in it is an archive.
//!
//! 1. `wallet.archive.N`, without the keys, is written and flushed. No journal names it yet.
//! 2. `wallet.journal.new` is written, locked and flushed, and the folder with both.
//! 3. It takes the journal's place, and the folder is flushed.
//!
//! Whoever dies before the third leaves the old journal, and after it the new one; what is left over is written over the next time.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Begun, Disk, Entry, Journal, JournalError, Stored, next};
use crate::seal;

/// A journal grows by this and by as much as it carries on before it begins anew: some 300 calls.
const GROWN_MIN: u64 = 512 * 1024;
/// With 512 KiB each at least: 5 GB of what was asked. Then the journal grows again.
const ARCHIVES_MAX: usize = 10_000;

impl Journal {
    /// Whether it has grown enough to begin anew. Where files are not told from one another (Windows), it never has: another
    /// process could go on writing to the old one.
    pub fn is_due(&self) -> bool {
        let written = self.disk.written.load(Ordering::Acquire);
        let grown = written.saturating_sub(self.begun.bytes);
        cfg!(unix) && grown >= GROWN_MIN.max(self.begun.bytes) && self.begun.archives.len() < ARCHIVES_MAX
    }

    /// Begins anew with `carried`, which is what all its entries come to; `at` is called between two steps.
    ///
    /// # Errors
    /// [`JournalError`]: it goes on as it was, or, where that cannot be known, takes nothing more.
    pub fn renew(&mut self, carried: Vec<Entry>, at: &dyn Fn(&'static str)) -> Result<(), JournalError> {
        let disk = Arc::clone(&self.disk);
        disk.check()?;
        let path = &disk.path;
        let fail = |source| JournalError::Write { path: path.clone(), source };
        // What a link points to may be another folder's wallet too: it would go on by itself.
        if path.is_symlink() {
            return Ok(());
        }
        let mut begun = Begun { archives: self.begun.archives.clone(), ..Begun::default() };
        begun.archives.push(self.archive(begun.archives.len() + 1)?);
        at("journal.archive");

        let mut entries = carried;
        begun.lines = entries.len() as u64;
        let Some(Entry::Carried { archives, lines, .. }) = entries.first_mut() else {
            return Err(fail(std::io::ErrorKind::InvalidInput.into()));
        };
        archives.clone_from(&begun.archives);
        *lines = begun.lines - 1;
        let text = seal::journal_text(self.sealer.as_ref(), &entries);
        begun.bytes = text.len() as u64;
        let (file, new) = write_new(path, &text).map_err(fail)?;
        at("journal.new");
        // Read again before anything is given up for it.
        let (again, ..) = super::read(&file, &new)?;
        let again = seal::opened(self.sealer.as_ref().map(seal::Sealer::key), again);
        if again.ok().as_ref() != Some(&entries) {
            return Err(fail(std::io::ErrorKind::InvalidData.into()));
        }
        flush_folder(path).map_err(fail)?;
        at("journal.folder");

        std::fs::rename(&new, path).map_err(fail)?;
        at("journal.renamed");
        // From here on it stands there: what is written to the old one would be lost.
        self.disk = Arc::new(Disk::of(file, path, begun.bytes, begun.bytes));
        self.begun = begun;
        disk.let_go();
        flush_folder(path).map_err(|source| {
            self.disk.broken.store(true, Ordering::Release);
            fail(source)
        })?;
        at("journal.done");
        Ok(())
    }

    /// Writes what stands below what the journal carries on into an archive, and gives its bytes. No key goes along.
    fn archive(&self, number: usize) -> Result<u64, JournalError> {
        let path = path_of(&self.disk.path, number);
        let fail = |source| JournalError::Write { path: path.clone(), source };
        let file = create(&path).map_err(fail)?;
        let (mut to, mut bytes) = (BufWriter::new(&file), 0);
        let mut from = &self.disk.file;
        from.seek(SeekFrom::Start(self.begun.bytes)).map_err(fail)?;
        let (mut from, mut buffer, mut line) = (BufReader::new(from), Vec::new(), 0);
        while let Some(mut entry) = next(&mut from, &self.disk.path, line + 1, &mut buffer)? {
            line += 1;
            if let Some(seed) = seal::secret_mut(&mut entry) {
                *seed = Stored::new([]).expect("nothing fits");
                buffer = seal::line(None, &entry);
                buffer.push(b'\n');
            }
            to.write_all(&buffer).map_err(fail)?;
            bytes += buffer.len() as u64;
        }
        to.flush().map_err(fail)?;
        drop(to);
        file.sync_all().map_err(fail)?;
        Ok(bytes)
    }
}

/// Where an archive is; the first is number 1.
pub(super) fn path_of(journal: &Path, number: usize) -> PathBuf {
    journal.with_extension(format!("archive.{number}"))
}

/// Waits until what was made and renamed in the journal's folder is on the disk.
pub(super) fn flush_folder(journal: &Path) -> std::io::Result<()> {
    match journal.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Locked before it takes the place of one that is.
fn write_new(path: &Path, text: &[u8]) -> std::io::Result<(File, PathBuf)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = create(&new)?;
    file.lock()?;
    file.write_all(text)?;
    file.sync_all()?;
    Ok((file, new))
}

/// A file of its owner's, in place of one that was cut short.
fn create(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.create_new(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
