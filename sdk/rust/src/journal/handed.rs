//! What was handed on of tokens beside a program that holds the journal: `wallet.delegated`, a line each.
//!
//! Who delegates needs no lock on the wallet, which a proxy may have for days. It writes here before the chain is anybody's; whoever has the
//! journal takes it over from here when it opens, and before it ends a token.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::{Entry, JournalError, next, renew};

/// Lines of it at most: a program that has the wallet takes them over each time.
const LINES_MAX: usize = 4_096;

fn path_of(journal: &Path) -> PathBuf {
    journal.with_extension("delegated")
}

/// Writes an entry down, and flushes it.
///
/// # Errors
/// [`JournalError`]: it is not known.
pub(crate) fn put(journal: &Path, entry: &Entry) -> Result<(), JournalError> {
    let path = path_of(journal);
    let fail = |source| JournalError::Write { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(fail)?;
    file.lock().map_err(fail)?;
    let (entries, whole) = lines(&file, &path)?;
    if entries.len() >= LINES_MAX {
        return Err(fail(std::io::Error::other("it is full: comity wallet finish takes over what stands in it")));
    }
    // A line that was cut is of one that died before it gave its chain away.
    file.set_len(whole).map_err(fail)?;
    let mut line = serde_json::to_vec(entry).expect("an entry has only string keys");
    line.push(b'\n');
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(fail)?;
    renew::flush_folder(&path).map_err(fail)
}

/// What stands there.
///
/// # Errors
/// [`JournalError`].
pub(crate) fn read(journal: &Path) -> Result<Vec<Entry>, JournalError> {
    let path = path_of(journal);
    match File::open(&path) {
        Ok(file) => Ok(lines(&file, &path)?.0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(JournalError::Open { path, source }),
    }
}

/// Takes over what stands there; once `keep` has made it durable, it is taken away.
///
/// # Errors
/// [`JournalError`], as `E`, and what `keep` says: it stays there.
pub(crate) fn take<E: From<JournalError>>(
    journal: &Path,
    keep: impl FnOnce(Vec<Entry>) -> Result<(), E>,
) -> Result<(), E> {
    let path = path_of(journal);
    let fail = |source| JournalError::Open { path: path.clone(), source };
    let file = match OpenOptions::new().read(true).append(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(fail(source).into()),
    };
    file.lock().map_err(fail)?;
    let (entries, _) = lines(&file, &path)?;
    if entries.is_empty() {
        return Ok(());
    }
    keep(entries)?;
    Ok(file.set_len(0).map_err(fail)?)
}

fn lines(mut file: &File, path: &Path) -> Result<(Vec<Entry>, u64), JournalError> {
    file.seek(SeekFrom::Start(0)).map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
    let (mut reader, mut buffer, mut entries, mut whole) = (BufReader::new(file), Vec::new(), Vec::new(), 0);
    while let Some(entry) = next(&mut reader, path, entries.len() + 1, &mut buffer)? {
        entries.push(entry);
        whole += buffer.len() as u64;
    }
    Ok((entries, whole))
}

#[cfg(test)]
mod tests {
    use comity_wire::{Amount, Digest, Timestamp, TokenId};

    use super::*;

    fn entry(n: u8) -> Entry {
        Entry::Delegated {
            token: TokenId([1; 16]),
            leaf: Digest([n; 32]),
            cap: Amount::from_ucr(5),
            until: Timestamp(9),
        }
    }

    #[test]
    fn what_was_handed_on_stands_there_until_it_is_durable_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("wallet.journal");
        let taken = |keep: bool| {
            let mut taken = Vec::new();
            let done = take(&journal, |entries| {
                taken = entries;
                if keep { Ok(()) } else { Err(JournalError::Broken { path: journal.clone() }) }
            });
            (taken, done.is_ok())
        };
        assert_eq!((read(&journal).unwrap(), taken(true)), (vec![], (vec![], true)), "nobody handed anything on");
        put(&journal, &entry(1)).unwrap();
        // One that died while it wrote.
        let mut file = OpenOptions::new().append(true).open(path_of(&journal)).unwrap();
        file.write_all(b"{\"kind\":\"dele").unwrap();
        assert_eq!(read(&journal).unwrap(), [entry(1)]);
        put(&journal, &entry(2)).unwrap();
        assert_eq!(taken(false), (vec![entry(1), entry(2)], false));
        assert_eq!(taken(true), (vec![entry(1), entry(2)], true), "it stayed");
        assert_eq!((taken(true), read(&journal).unwrap()), ((vec![], true), vec![]));
    }
}
