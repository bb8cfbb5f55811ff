//! The newest checkpoint that the log's key signed, as a file in the home: a database that comes back from a backup is held
//! against it.

use std::io;
use std::path::{Path, PathBuf};

use comity_clearing::LogMemory;

/// The file's name in a house's home.
const FILE: &str = "log.checkpoint";

#[derive(Clone, Debug)]
pub struct FileMemory {
    path: PathBuf,
}

impl FileMemory {
    pub fn of(home: &Path) -> Self {
        Self { path: home.join(FILE) }
    }

    /// Whether nothing was ever signed here.
    pub fn is_empty(&self) -> bool {
        !self.path.exists()
    }
}

impl LogMemory for FileMemory {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        read_maybe(&self.path)
    }

    fn write(&self, note: &[u8]) -> io::Result<()> {
        write_durably(&self.path, note)
    }
}

/// What stands in a file; `None` where there is none.
pub(crate) fn read_maybe(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file whole or not at all, and its name too survives a power cut.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let part = path.with_extension("part");
    let mut file = std::fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_note_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        let memory = FileMemory::of(home.path());
        assert_eq!(memory.read().unwrap(), None);
        memory.write(b"one").unwrap();
        memory.write(b"two").unwrap();
        assert_eq!(FileMemory::of(home.path()).read().unwrap(), Some(b"two".to_vec()));
        assert!(FileMemory::of(&home.path().join("nowhere")).write(b"x").is_err());
    }
}
