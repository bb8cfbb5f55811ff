//! The files. Whoever changes them holds the lock file, so that a command does not lose what the node writes meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use comity_gateway::Transcript;
use comity_wire::Timestamp;
use comity_wire::time::DAY_S;

use super::sealed::{Head, Key, Lock, Texts};
use super::within;
use crate::failure::{Failure, While as _};

pub struct Folder(PathBuf);

/// A transcript that lies there.
pub struct Kept {
    pub head: Head,
    /// The day on which it goes.
    pub until: String,
    line: String,
}

impl Kept {
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

    /// Removes what has to go by now; the days that went.
    ///
    /// # Errors
    /// [`Failure`] where something stays that must not.
    pub fn sweep(&self, now: Timestamp) -> Result<Vec<String>, Failure> {
        let _held = self.lock()?;
        let gone = due(self.days()?, &day(now));
        for name in &gone {
            let path = self.0.join(name);
            std::fs::remove_dir_all(&path).while_(format!("cannot remove {}", path.display()))?;
        }
        Ok(gone)
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

    /// Removes those that `is_meant`; how many went.
    ///
    /// # Errors
    /// [`Failure`] naming the file that could not be written; what was not rewritten is as it was.
    pub fn remove(&self, is_meant: impl Fn(&Head) -> bool) -> Result<usize, Failure> {
        let _held = self.lock()?;
        let mut gone = 0;
        for (_, path) in self.files()? {
            let mut stay = String::new();
            let mut here = 0;
            for line in lines(&path)? {
                if is_meant(&Head::read(&line)?) {
                    here += 1;
                } else {
                    stay.push_str(&line);
                    stay.push('\n');
                }
            }
            if here > 0 {
                replace(&path, &stay)?;
                gone += here;
            }
        }
        Ok(gone)
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
            let folder = self.0.join(&day);
            let entries = std::fs::read_dir(&folder).while_(format!("cannot read {}", folder.display()))?;
            let paths = entries.flatten().map(|entry| entry.path());
            let mut paths: Vec<_> =
                paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect();
            paths.sort();
            files.extend(paths.into_iter().map(|path| (day.clone(), path)));
        }
        Ok(files)
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
fn whole(file: &mut File) -> std::io::Result<u64> {
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
fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let wrong = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).while_(wrong())?;
    Ok(text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect())
}

fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return std::fs::remove_file(path).while_(format!("cannot remove {}", path.display()));
    }
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    crate::home::write_secret(&part, text.as_bytes())?;
    std::fs::rename(&part, path).while_(format!("cannot write {}", path.display()))
}
