//! What keeps texts longer than was told, and what is said of those that went: holds, and a log of removals.
//!
//! Both are files beside the texts, a JSON object a line, written while the folder's lock is held. Each removal carries the digest of the
//! one before, so that a line which was changed or taken out is seen ([`Removed::check`]).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::sealed::Head;
use crate::failure::{Failure, While as _};

pub(super) const HOLDS: &str = "holds.jsonl";
pub(super) const REMOVED: &str = "removed.jsonl";
/// Holds at a time: each is looked at for each line that would go.
const HOLDS_MAX: usize = 256;
/// What is read of a log's end at first: a line has some 20 KB at most.
const TAIL_BYTES: u64 = 64 << 10;
/// Receipts that one line names.
const RECEIPTS_LISTED_MAX: usize = 256;
const LINK_CONTEXT: &[u8] = b"comity/v1/transcripts-removed\0";

/// Which; all that are named must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chosen {
    /// Of a project, by its pseudonym.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Chosen {
    /// Whether it names nothing, and so everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// As a person would say it.
    pub fn in_words(&self) -> String {
        let named = [("project", &self.subject), ("call", &self.receipt), ("model", &self.model)];
        let named = named.into_iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_deref()?)));
        let named: Vec<String> = named.collect();
        if named.is_empty() { "everything".into() } else { named.join(", ") }
    }

    pub fn fits(&self, head: &Head) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        is(&self.subject, &head.subject)
            && is(&self.receipt, &head.receipt.to_string())
            && is(&self.model, head.model.as_str())
    }
}

/// Who says something, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
}

/// Texts that do not go while it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    pub number: u64,
    pub of: Chosen,
    pub set: Said,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Said>,
}

impl Hold {
    pub fn stands(&self) -> bool {
        self.released.is_none()
    }
}

/// Texts that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    pub at: Timestamp,
    /// Left out where their days were over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Said>,
    /// Left out where their days were over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Chosen>,
    /// How many calls.
    pub calls: u64,
    /// SHA-256 of their receipts' ids, in the order of the file: whoever has them can show that these went.
    pub receipts_digest: Digest,
    /// The ids, where somebody asked and there are few: what goes by its days goes each day, and a line of it stays short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Digest>,
    /// The digest of the line before, of the first one zeros.
    pub before: Digest,
}

impl Removed {
    pub(super) fn new(at: Timestamp, asked: Option<(Said, Chosen)>, receipts: Vec<Digest>) -> Self {
        let calls = receipts.len() as u64;
        let parts: Vec<&[u8]> = receipts.iter().map(|receipt| &receipt.0[..]).collect();
        let receipts_digest = Digest::of_parts(&parts);
        let is_listed = asked.is_some() && receipts.len() <= RECEIPTS_LISTED_MAX;
        let receipts = if is_listed { receipts } else { Vec::new() };
        let (asked, of) = asked.unzip();
        Self { at, asked, of, calls, receipts_digest, receipts, before: Digest::ZERO }
    }

    /// Of a line as it is written.
    fn link(line: &[u8]) -> Digest {
        Digest::of_parts(&[LINK_CONTEXT, line])
    }

    /// All of them, each behind the one before.
    ///
    /// # Errors
    /// [`Failure`] naming the first line that does not follow.
    pub(super) fn check(folder: &Path) -> Result<(Vec<Self>, Digest), Failure> {
        let (path, mut all, mut link) = (folder.join(REMOVED), Vec::new(), Digest::ZERO);
        for (number, line) in (1..).zip(lines(&path)?) {
            let removed: Self = serde_json::from_str(&line).while_(format!("{} line {number}", path.display()))?;
            if removed.before != link {
                return Err(Failure::new(format!(
                    "{} line {number} does not follow the line before it",
                    path.display()
                ))
                .hint("somebody changed the file: put it back from a backup, and ask who did"));
            }
            link = Self::link(line.as_bytes());
            all.push(removed);
        }
        Ok((all, link))
    }

    /// Says that texts will go, before they do: one that is said and still there is no harm, and is removed at the next turn. It stands
    /// behind the last line, whatever that says: a log that somebody changed keeps no text longer than was told.
    pub(super) fn say(folder: &Path, mut removed: Self) -> Result<(), Failure> {
        let path = folder.join(REMOVED);
        removed.before = last_line(&path)?.map_or(Digest::ZERO, |line| Self::link(&line));
        append(&path, &serde_json::to_string(&removed)?)
    }
}

pub(super) fn holds(folder: &Path) -> Result<Vec<Hold>, Failure> {
    let path = folder.join(HOLDS);
    let read = |line: &String| serde_json::from_str::<Hold>(line).while_(format!("{} is not readable", path.display()));
    lines(&path)?.iter().map(read).collect()
}

pub(super) fn hold(folder: &Path, of: Chosen, said: Said) -> Result<Hold, Failure> {
    let known = holds(folder)?;
    if known.iter().filter(|hold| hold.stands()).count() >= HOLDS_MAX {
        return Err(Failure::new(format!("{HOLDS_MAX} holds stand, and no more are taken")).hint("release one"));
    }
    let hold = Hold { number: known.len() as u64 + 1, of, set: said, released: None };
    append(&folder.join(HOLDS), &serde_json::to_string(&hold)?)?;
    Ok(hold)
}

pub(super) fn release(folder: &Path, number: u64, said: Said) -> Result<Hold, Failure> {
    let mut known = holds(folder)?;
    let hold = known.iter_mut().find(|hold| hold.number == number && hold.stands());
    let none = || Failure::new(format!("no hold {number} stands")).hint("comity node transcripts holds lists them");
    let hold = hold.ok_or_else(none)?;
    hold.released = Some(said);
    let released = hold.clone();
    let text = known.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    super::folder::replace(&folder.join(HOLDS), &(text.join("\n") + "\n"))?;
    Ok(released)
}

/// The last whole line, read from the end.
fn last_line(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let wrong = || format!("cannot read {}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).while_(wrong()),
    };
    let length = file.metadata().while_(wrong())?.len();
    let mut tail = Vec::new();
    let mut span = TAIL_BYTES.min(length);
    loop {
        file.seek(SeekFrom::Start(length - span)).while_(wrong())?;
        tail.clear();
        file.read_to_end(&mut tail).while_(wrong())?;
        let end = tail.iter().rposition(|byte| *byte == b'\n');
        let begin = end.and_then(|end| tail[..end].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1));
        match (begin, end) {
            (Some(begin), Some(end)) => return Ok(Some(tail[begin..end].to_vec())),
            // The whole file was read.
            (None, end) if span == length => return Ok(end.map(|end| tail[..end].to_vec())),
            _ => span = span.saturating_mul(2).min(length),
        }
    }
}

/// Whole ones alone; none where there is no file.
fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    if path.exists() { super::folder::lines(path) } else { Ok(Vec::new()) }
}

fn append(path: &Path, line: &str) -> Result<(), Failure> {
    let wrong = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).while_(wrong())?;
    let before = super::folder::whole(&mut file).while_(wrong())?;
    file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(|error| {
        let _ = file.set_len(before);
        Failure::new(wrong()).because(error)
    })
}
