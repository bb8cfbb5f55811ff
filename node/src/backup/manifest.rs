//! `manifest.json`: what a backup is of, how far its books had come, and the digest of each file.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use comity_clearing::ops::{LogFacts, Restored};
use comity_wire::{Digest, NodeId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::failure::{Failure, While as _};

pub(super) const FILE: &str = "manifest.json";
const FORM: &str = "comity-clearing-backup/1";
/// Files that a backup has; one with more is none of ours.
const FILES_MAX: usize = 64 + super::probe::FILES_MAX;
const BYTES_MAX: u64 = 8 << 20;

/// Unknown keys are refused: a newer form has another name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub form: String,
    pub house: OrgId,
    pub node: NodeId,
    pub made_at: Timestamp,
    /// The program that made it.
    pub program: String,
    pub store: Stored,
    /// The highest migration of the books.
    pub schema: i64,
    pub transfers: u64,
    /// Entries of the log, signed or not.
    pub sealed: u64,
    /// The newest checkpoint in the books.
    pub log: Option<LogFacts>,
    /// The last time that these books came back from a backup themselves.
    pub restored: Option<Restored>,
    pub files: Vec<Entry>,
    /// What the home had and this backup has not.
    pub left_out: Vec<String>,
}

/// Which engine the books were in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    Sqlite,
    Postgres,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub path: String,
    pub bytes: u64,
    pub sha256: Digest,
}

impl Entry {
    /// Of a file below `folder`.
    pub(super) fn of(folder: &Path, path: &str) -> Result<Self, Failure> {
        let (bytes, sha256) = digest(&folder.join(path))?;
        Ok(Self { path: path.to_owned(), bytes, sha256 })
    }
}

impl Manifest {
    pub(super) const fn form() -> &'static str {
        FORM
    }

    /// Writes it, last of all files: a folder without it is no backup. Its own digest.
    pub(super) fn write(&self, folder: &Path) -> Result<Digest, Failure> {
        let text = serde_json::to_vec_pretty(self)?;
        super::take::write_private(&folder.join(FILE), &text)?;
        std::fs::File::open(folder)?.sync_all()?;
        Ok(Digest::of(&text))
    }

    /// Reads it and holds every file against it.
    ///
    /// # Errors
    /// [`Failure`] naming the first file that is not what it was.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let hint =
            "a backup is the whole folder that `comity clearing backup --out` made; one without a manifest broke off";
        let about = std::fs::metadata(&path).while_(format!("cannot read {}", path.display()));
        if about.map_err(|failure| failure.hint(hint))?.len() > BYTES_MAX {
            return Err(Failure::new(format!("{} is no backup's manifest", path.display())));
        }
        let text = std::fs::read(&path).while_(format!("cannot read {}", path.display()))?;
        let manifest: Self = serde_json::from_slice(&text)
            .while_(format!("{} cannot be read", path.display()))
            .map_err(|failure| failure.hint("a newer program may have made it: use that"))?;
        if manifest.form != FORM || manifest.files.len() > FILES_MAX {
            return Err(Failure::new(format!("{} has form {}, not {FORM}", path.display(), manifest.form)));
        }
        for entry in &manifest.files {
            manifest.file(folder, &entry.path)?;
        }
        Ok(manifest)
    }

    /// A file of the backup, as it was.
    pub(super) fn file(&self, folder: &Path, name: &str) -> Result<PathBuf, Failure> {
        let entry = self.files.iter().find(|entry| entry.path == name);
        let entry = entry.ok_or_else(|| Failure::new(format!("the backup has no {name}")))?;
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Failure::new(format!("the manifest names {name}, which is not in the folder")));
        }
        let path = folder.join(name);
        let (bytes, sha256) = digest(&path)?;
        if (bytes, sha256) != (entry.bytes, entry.sha256) {
            return Err(Failure::new(format!("{} is not what it was when the backup was made", path.display()))
                .because(format!("{bytes} bytes of {sha256}, and were {} of {}", entry.bytes, entry.sha256))
                .hint("take another copy of this backup, or an older backup"));
        }
        Ok(path)
    }
}

/// Length and SHA-256 of a file of any size.
fn digest(path: &Path) -> Result<(u64, Digest), Failure> {
    let mut file = std::fs::File::open(path).while_(format!("cannot read {}", path.display()))?;
    let (mut hasher, mut buffer, mut bytes) = (sha2::Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer).while_(format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok((bytes, Digest(hasher.finalize().into())));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_or_lies_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "one").unwrap();
        let entry = Entry::of(folder.path(), "a").unwrap();
        assert_eq!(entry.sha256, Digest::of(b"one"));
        let mut manifest = Manifest {
            form: FORM.into(),
            house: OrgId([1; 16]),
            node: NodeId([2; 16]),
            made_at: Timestamp(1),
            program: "0".into(),
            store: Stored::Sqlite,
            schema: 1,
            transfers: 0,
            sealed: 0,
            log: None,
            restored: None,
            files: vec![entry],
            left_out: vec![],
        };
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap().files.len(), 1);
        std::fs::write(folder.path().join("a"), "one!").unwrap();
        assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains("not what it was"));
        for outside in ["../a", "/etc/hostname"] {
            manifest.files[0].path = outside.into();
            std::fs::remove_file(folder.path().join(FILE)).unwrap();
            manifest.write(folder.path()).unwrap();
            assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains("not in the folder"));
        }
        std::fs::write(folder.path().join(FILE), r#"{"form": "comity-clearing-backup/1", "more": 1}"#).unwrap();
        assert!(Manifest::read(folder.path()).is_err());
    }
}
