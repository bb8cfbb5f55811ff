//! Files and batches under the wallet's home: plain files, closed to other accounts, bounded in size and number.
//!
//! A record is written beside its place, flushed, and moved there: after a kill it is the old one or the new one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::object::{Batch, File};
use super::price::Settled;

/// The most bytes of one file.
pub(crate) const FILE_BYTES_MAX: u64 = 200 << 20;
/// The most files, and the most bytes in all of them.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 2 << 30;
/// The most batches that are kept.
const BATCHES_MAX: usize = 1_000;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// Why something is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("there is no {kind} {id}")]
    Unknown { kind: &'static str, id: String },
    #[error("there is room for {most} {what}: delete some")]
    Full { most: u64, what: &'static str },
    #[error("the folder {path} cannot be used")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} cannot be read: it was changed by hand")]
    Form { path: PathBuf, source: serde_json::Error },
}

impl Store {
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn open(home: &Path) -> Result<Self, StoreError> {
        let store = Self { root: home.join("proxy") };
        for folder in [&store.root, &store.root.join("files"), &store.root.join("batches")] {
            closed_folder(folder).map_err(|source| StoreError::Io { path: folder.clone(), source })?;
        }
        Ok(store)
    }

    pub(crate) fn files(&self) -> Result<Vec<File>, StoreError> {
        let mut files: Vec<File> = self.records("files")?;
        files.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(files)
    }

    pub(crate) fn file(&self, id: &str) -> Result<File, StoreError> {
        self.record("files", "file", id)
    }

    /// Where the bytes of a file are.
    pub(crate) fn content(&self, id: &str) -> PathBuf {
        self.root.join("files").join(id)
    }

    /// Whether there is room for one more file.
    pub(crate) fn room(&self) -> Result<(), StoreError> {
        let files = self.files()?;
        if files.len() >= FILES_MAX {
            return Err(StoreError::Full { most: FILES_MAX as u64, what: "files" });
        }
        if files.iter().map(|file| file.bytes).sum::<u64>() >= BYTES_MAX {
            return Err(StoreError::Full { most: BYTES_MAX, what: "bytes of files" });
        }
        Ok(())
    }

    /// The bytes are in [`Store::content`]'s place already.
    pub(crate) fn keep_file(&self, file: &File) -> Result<(), StoreError> {
        self.write("files", &file.id, file)
    }

    pub(crate) fn delete_file(&self, id: &str) -> Result<(), StoreError> {
        self.file(id)?;
        let record = self.path("files", id);
        for path in [record, self.content(id)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Io { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn batches(&self) -> Result<Vec<Batch>, StoreError> {
        let mut batches: Vec<Batch> = self.records("batches")?;
        batches.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(batches)
    }

    pub(crate) fn batch(&self, id: &str) -> Result<Batch, StoreError> {
        self.record("batches", "batch", id)
    }

    pub(crate) fn room_for_a_batch(&self) -> Result<(), StoreError> {
        if self.batches()?.len() >= BATCHES_MAX {
            return Err(StoreError::Full { most: BATCHES_MAX as u64, what: "batches" });
        }
        Ok(())
    }

    pub(crate) fn keep_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write("batches", &batch.id, batch)
    }

    /// What was settled of a batch's prices. Beside its record, which is shown as OpenAI's is.
    pub(crate) fn price(&self, id: &str) -> Result<Option<Settled>, StoreError> {
        let path = self.results(id, "price");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| StoreError::Form { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    pub(crate) fn keep_price(&self, id: &str, settled: &Settled) -> Result<(), StoreError> {
        Self::put(&self.results(id, "price"), settled)
    }

    /// Where a batch's results are written while it runs.
    pub(crate) fn results(&self, id: &str, name: &str) -> PathBuf {
        self.root.join("batches").join(format!("{id}.{name}.jsonl"))
    }

    fn path(&self, folder: &str, id: &str) -> PathBuf {
        self.root.join(folder).join(format!("{id}.json"))
    }

    fn record<T: DeserializeOwned>(&self, folder: &str, kind: &'static str, id: &str) -> Result<T, StoreError> {
        let unknown = || StoreError::Unknown { kind, id: id.chars().take(64).collect() };
        // An id is a name of ours: nothing else is looked for on the disk.
        if id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err(unknown());
        }
        let path = self.path(folder, id);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StoreError::Form { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown()),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    fn records<T: DeserializeOwned>(&self, folder: &str) -> Result<Vec<T>, StoreError> {
        let path = self.root.join(folder);
        let io = |source| StoreError::Io { path: path.clone(), source };
        let mut records = Vec::new();
        for entry in fs::read_dir(&path).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = fs::read(&path).map_err(io)?;
                records.push(serde_json::from_slice(&bytes).map_err(|source| StoreError::Form { path, source })?);
            }
        }
        Ok(records)
    }

    fn write(&self, folder: &str, id: &str, record: &impl Serialize) -> Result<(), StoreError> {
        Self::put(&self.path(folder, id), record)
    }

    fn put(path: &Path, record: &impl Serialize) -> Result<(), StoreError> {
        let beside = path.with_extension("new");
        let bytes = serde_json::to_vec(record).expect("a record has only string keys");
        let written = (|| {
            let mut file = closed(OpenOptions::new().create(true).write(true).truncate(true)).open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&beside, path)
        })();
        written.map_err(|source| StoreError::Io { path: path.to_owned(), source })
    }
}

/// Readable by its owner alone.
pub(crate) fn closed(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn closed_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// `file-…` or `batch_…`.
pub(crate) fn new_id(prefix: &str) -> String {
    let random = comity_wire::Digest(crate::session::random()).to_string();
    format!("{prefix}{}", &random[..24])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: &str) -> File {
        File {
            id: id.to_owned(),
            object: File::object(),
            bytes: 3,
            created_at: 5,
            filename: "a.jsonl".to_owned(),
            purpose: "batch".to_owned(),
            status: "processed".to_owned(),
        }
    }

    #[test]
    fn a_file_is_kept_listed_and_deleted() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        fs::write(store.content("file-1"), "abc").unwrap();
        store.keep_file(&file("file-1")).unwrap();
        assert_eq!(store.file("file-1").unwrap(), file("file-1"));
        assert_eq!(store.files().unwrap().len(), 1);
        store.delete_file("file-1").unwrap();
        assert!(matches!(store.file("file-1"), Err(StoreError::Unknown { .. })));
        assert!(!store.content("file-1").exists());
    }

    #[test]
    fn an_id_cannot_leave_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        fs::write(home.path().join("profile.json"), "{}").unwrap();
        for id in ["../../profile", "..", "", "a/b", "a.b", "a%2f"] {
            assert!(matches!(store.file(id), Err(StoreError::Unknown { .. })), "{id}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_kept_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.keep_file(&file("file-1")).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.root.clone()), 0o700);
        assert_eq!(mode(store.path("files", "file-1")), 0o600);
    }
}
