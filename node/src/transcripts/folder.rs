//! The files. Whoever changes them holds the lock file, so that a command does not lose what the node writes meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use comity_gateway::Transcript;
use comity_wire::time::DAY_S;
use comity_wire::{Digest, Timestamp};

use super::record::{self, Chosen, Hold, Removed, Said};
use super::sealed::{Head, Key, Lock, Texts};
use super::within;
use crate::failure::{Failure, While as _};

/// A hold has no end that anybody knows: the year 9999.
const FAR: Timestamp = Timestamp(253_370_764_800);

pub struct Folder(PathBuf);

/// What became of those that were to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    pub went: usize,
    /// That a hold keeps.
    pub held: usize,
}

/// A transcript that lies there.
pub struct Kept {
    pub head: Head,
    /// The day on which it goes.
    pub until: String,
    line: String,
}

impl Kept {
    /// The line as it lies there, its texts sealed.
    pub fn as_written(&self) -> &str {
        &self.line
    }

    /// # Errors
    /// [`Failure`] where it was sealed for another key.
    pub fn open(&self, key: &Key) -> Result<Texts, Failure> {
        key.open(&self.line)
    }
}

impl Folder {
    /// Of a home; made where it is not there.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be made.
    pub fn open(home: &Path) -> Result<Self, Failure> {
        let folder = within(home);
        std::fs::create_dir_all(&folder).while_(format!("cannot make {}", folder.display()))?;
        #[cfg(unix)]
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .while_(format!("cannot close {} to others", folder.display()))?;
        Ok(Self(folder))
    }

    /// Adds one; a line that was written in part is taken back.
    pub(super) fn append(&self, lock: &Lock, transcript: &Transcript) -> Result<(), Failure> {
        let line = lock.seal(transcript)?;
        let _held = self.lock()?;
        // On that day they go: never longer than was told.
        let until = day(transcript.at.plus(u64::from(transcript.retention_days) * DAY_S));
        let folder = self.0.join(until);
        std::fs::create_dir_all(&folder).while_(format!("cannot make {}", folder.display()))?;
        let path = folder.join(transcript.model.to_string().replace('/', "+") + ".jsonl");
        let wrong = || format!("cannot write {}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).while_(wrong())?;
        let before = whole(&mut file).while_(wrong())?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(|error| {
            let _ = file.set_len(before);
            Failure::new(wrong()).because(error)
        })
    }

    /// Removes what has to go by now, but for what a hold keeps; how many went.
    ///
    /// # Errors
    /// [`Failure`] where something stays that must not.
    pub fn sweep(&self, now: Timestamp) -> Result<usize, Failure> {
        let _held = self.lock()?;
        let over = due(self.days()?, &day(now));
        let files = self.files()?.into_iter().filter(|(day, _)| over.contains(day)).map(|(_, path)| path).collect();
        let gone = self.go(files, |_| true, |receipts| Removed::new(now, None, receipts))?;
        for name in over {
            let path = self.0.join(name);
            // What a hold keeps keeps its folder.
            if self.files_in(&path)?.is_empty() {
                std::fs::remove_dir_all(&path).while_(format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(gone.went)
    }

    /// All that is there, the first that goes first.
    ///
    /// # Errors
    /// [`Failure`] naming the file that cannot be read.
    pub fn all(&self) -> Result<Vec<Kept>, Failure> {
        let mut all = Vec::new();
        for (until, path) in self.files()? {
            for line in lines(&path)? {
                all.push(Kept { head: Head::read(&line)?, until: until.clone(), line });
            }
        }
        Ok(all)
    }

    /// Those that were chosen, one after the other, the first that goes first.
    ///
    /// # Errors
    /// [`Failure`] naming the file that cannot be read, or what `take` says.
    pub fn each(&self, chosen: &Chosen, mut take: impl FnMut(Kept) -> Result<(), Failure>) -> Result<(), Failure> {
        for (until, path) in self.files()? {
            for line in lines(&path)? {
                let kept = Kept { head: Head::read(&line)?, until: until.clone(), line };
                if chosen.fits(&kept.head) {
                    take(kept)?;
                }
            }
        }
        Ok(())
    }

    /// Until when something lies there; `None` where nothing does.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read.
    pub(super) fn lies_until(&self) -> Result<Option<Timestamp>, Failure> {
        let days = self.files()?.into_iter().filter_map(|(day, _)| Timestamp::of_date(&day).ok());
        let last = days.max().map(|day| day.plus(DAY_S));
        let holds = self.holds()?.iter().any(Hold::stands);
        Ok(last.map(|last| if holds { last.max(FAR) } else { last }))
    }

    /// Removes those that were chosen, but for what a hold keeps.
    ///
    /// # Errors
    /// [`Failure`] naming the file that could not be written; what was not rewritten is as it was.
    pub fn remove(&self, chosen: &Chosen, asked: Said) -> Result<Gone, Failure> {
        let _held = self.lock()?;
        let files = self.files()?.into_iter().map(|(_, path)| path).collect();
        let removed = |receipts| Removed::new(asked.at, Some((asked.clone(), chosen.clone())), receipts);
        self.go(files, |head| chosen.fits(head), removed)
    }

    /// File by file: what is to go is said, then it goes.
    fn go(
        &self,
        files: Vec<PathBuf>,
        is_meant: impl Fn(&Head) -> bool,
        removed: impl Fn(Vec<Digest>) -> Removed,
    ) -> Result<Gone, Failure> {
        let holds: Vec<Hold> = record::holds(&self.0)?.into_iter().filter(Hold::stands).collect();
        let mut gone = Gone::default();
        for path in files {
            let (mut stay, mut receipts) = (String::new(), Vec::new());
            for line in lines(&path)? {
                let head = Head::read(&line)?;
                let is_held = is_meant(&head) && holds.iter().any(|hold| hold.of.fits(&head));
                gone.held += usize::from(is_held);
                if is_meant(&head) && !is_held {
                    receipts.push(head.receipt);
                } else {
                    stay.push_str(&line);
                    stay.push('\n');
                }
            }
            if !receipts.is_empty() {
                gone.went += receipts.len();
                Removed::say(&self.0, removed(receipts))?;
                replace(&path, &stay)?;
            }
        }
        Ok(gone)
    }

    /// From now on these do not go, neither when their days are over nor when they are asked to.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written down.
    pub fn hold(&self, of: Chosen, said: Said) -> Result<Hold, Failure> {
        let _held = self.lock()?;
        record::hold(&self.0, of, said)
    }

    /// Ends a hold: what is overdue goes with the next turn.
    ///
    /// # Errors
    /// [`Failure`] where none of that number stands.
    pub fn release(&self, number: u64, said: Said) -> Result<Hold, Failure> {
        let _held = self.lock()?;
        record::release(&self.0, number, said)
    }

    /// Every hold there ever was, the oldest first.
    ///
    /// # Errors
    /// [`Failure`] where they cannot be read.
    pub fn holds(&self) -> Result<Vec<Hold>, Failure> {
        record::holds(&self.0)
    }

    /// What went, the oldest first, and the digest of the newest line: whoever keeps it sees later whether a line was changed.
    ///
    /// # Errors
    /// [`Failure`] where a line does not follow the one before.
    pub fn removed(&self) -> Result<(Vec<Removed>, Digest), Failure> {
        Removed::check(&self.0)
    }

    fn lock(&self) -> Result<File, Failure> {
        let path = self.0.join("lock");
        let wrong = || format!("cannot lock {}", path.display());
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).while_(wrong())?;
        file.lock().while_(wrong())?;
        Ok(file)
    }

    fn days(&self) -> Result<Vec<String>, Failure> {
        let entries = std::fs::read_dir(&self.0).while_(format!("cannot read {}", self.0.display()))?;
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        let mut days: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        days.sort();
        Ok(days)
    }

    fn files(&self) -> Result<Vec<(String, PathBuf)>, Failure> {
        let mut files = Vec::new();
        for day in self.days()? {
            let paths = self.files_in(&self.0.join(&day))?;
            files.extend(paths.into_iter().map(|path| (day.clone(), path)));
        }
        Ok(files)
    }

    fn files_in(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let entries = std::fs::read_dir(folder).while_(format!("cannot read {}", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect();
        paths.sort();
        Ok(paths)
    }
}

/// Of a time, `YYYY-MM-DD` UTC.
fn day(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

/// Days that are over, or begin today.
fn due(days: Vec<String>, today: &str) -> Vec<String> {
    let is_day = |name: &str| {
        name.len() == 10
            && name
                .bytes()
                .enumerate()
                .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
    };
    days.into_iter().filter(|day| is_day(day) && day.as_str() <= today).collect()
}

/// The length of what was written whole: a line that a death cut off is taken away.
pub(super) fn whole(file: &mut File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] {
        return Ok(length);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    file.set_len(whole)?;
    Ok(whole)
}

/// Whole ones alone: the node may have died over the last.
pub(super) fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let wrong = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).while_(wrong())?;
    Ok(text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect())
}

pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return std::fs::remove_file(path).while_(format!("cannot remove {}", path.display()));
    }
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    crate::home::write_secret(&part, text.as_bytes())?;
    std::fs::rename(&part, path).while_(format!("cannot write {}", path.display()))
}
