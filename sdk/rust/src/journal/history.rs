//! Everything that a wallet ever wrote down, from its archives and its journal, a line at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::Path;

use comity_wire::{Digest, TokenId};

use super::{Entry, Journal, JournalError, Stored, next, renew};
use crate::seal;

/// Keys of what is carried on, as they stand there.
#[derive(Default)]
struct Seeds {
    tokens: HashMap<Digest, Stored>,
    pending: HashMap<TokenId, Stored>,
}

impl Journal {
    /// Every fact in the order in which it was written, as if the journal had never begun anew; another process may be writing
    /// it. Holder keys of tokens that are not carried on are zeros: no archive has keys.
    ///
    /// # Errors
    /// [`JournalError`], as `E`; and what `take` says.
    pub fn each<E: From<JournalError>>(path: &Path, mut take: impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
        let fail = |source| JournalError::Open { path: path.to_owned(), source };
        // Opened first: it is whole, and names archives that stay as they are, also where another takes its place meanwhile.
        let mut file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(fail(source).into()),
        };
        let (mut line, mut buffer) = (1, Vec::new());
        match next(&mut file, path, line, &mut buffer)? {
            Some(Entry::Carried { archives, lines, .. }) => {
                let mut seeds = Seeds::default();
                for _ in 0..lines {
                    line += 1;
                    let entry = next(&mut file, path, line, &mut buffer)?;
                    seeds.keep(&entry.ok_or_else(|| JournalError::Cut { path: path.to_owned() })?);
                }
                for (number, bytes) in (1..).zip(archives) {
                    archive(&renew::path_of(path, number), bytes, |mut entry| {
                        seeds.fill(&mut entry);
                        take(entry)
                    })?;
                }
            }
            _ => {
                file.seek(SeekFrom::Start(0)).map_err(fail)?;
                line = 0;
            }
        }
        while let Some(entry) = next(&mut file, path, line + 1, &mut buffer)? {
            line += 1;
            take(entry)?;
        }
        Ok(())
    }
}

fn archive<E: From<JournalError>>(
    path: &Path,
    bytes: u64,
    mut take: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let wrong = || JournalError::Archive { path: path.to_owned() };
    let file = File::open(path).map_err(|_| wrong())?;
    let is_whole = file.metadata().is_ok_and(|metadata| metadata.len() == bytes);
    let (mut file, mut line, mut buffer) = (BufReader::new(file), 0, Vec::new());
    if !is_whole {
        return Err(wrong().into());
    }
    while let Some(entry) = next(&mut file, path, line + 1, &mut buffer)? {
        line += 1;
        take(entry)?;
    }
    // What is left has no end of a line.
    if buffer.is_empty() { Ok(()) } else { Err(wrong().into()) }
}

impl Seeds {
    fn keep(&mut self, entry: &Entry) {
        match entry {
            Entry::Token { chain, seed, .. } => drop(self.tokens.insert(Digest::of(chain), seed.clone())),
            Entry::Reserving { id, pending } => drop(self.pending.insert(*id, pending.seed.clone())),
            _ => {}
        }
    }

    fn fill(&self, entry: &mut Entry) {
        let known = match &*entry {
            Entry::Token { chain, .. } => self.tokens.get(&Digest::of(chain)),
            Entry::Reserving { id, .. } => self.pending.get(id),
            _ => None,
        };
        let seed = known.cloned();
        if let Some(place) = seal::secret_mut(entry) {
            *place = seed.unwrap_or_else(|| Stored::new([0; 32]).expect("32 bytes"));
        }
    }
}
