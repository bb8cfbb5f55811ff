//! Keys as files: one 32-byte seed each, hexadecimal, mode 0600, below `keys/` of a home folder.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use comity_wire::SecretKey;

/// A key's purpose, and its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// Certifies nodes and the feed writer. Take it off line once the certificates are made.
    Organisation,
    /// Signs the feed.
    Writer,
    /// TLS, libp2p, calls to the house.
    Transport,
    /// Receipts, finals, claims.
    Receipt,
    /// Tokens: of budget 0 at an owner's node, with a budget at the house.
    Issuer,
    /// The house's next issuer key, until it takes the place of the one before.
    IssuerNext,
    /// The roster.
    Roster,
    /// A person's key at the house.
    Member,
    /// The checkpoints of the house's log.
    Log,
    /// Cosignatures of another's log.
    Witness,
    /// One of the persons who keep a house's books.
    Officer,
    /// What a house's blind probes grow from: when, who, what. Nobody signs with it.
    Probe,
}

/// What the file of an issuer key begins with that was in use before.
const ISSUER_BEFORE: &str = "issuer-before-";

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no key {path}: run the init command for this home first")]
    Missing { path: PathBuf },
    #[error("key {path} exists already and is not overwritten")]
    Exists { path: PathBuf },
    #[error("cannot read or write key {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("key {path} is not 64 hexadecimal digits")]
    Form { path: PathBuf },
    #[error("key {path} can be read by others: chmod 600 it")]
    Open { path: PathBuf },
}

impl KeyName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Writer => "writer",
            Self::Transport => "transport",
            Self::Receipt => "receipt",
            Self::Issuer => "issuer",
            Self::IssuerNext => "issuer-next",
            Self::Roster => "roster",
            Self::Member => "member",
            Self::Log => "log",
            Self::Witness => "witness",
            Self::Officer => "officer",
            Self::Probe => "probe",
        }
    }
}

/// `keys/` of a home.
#[derive(Clone, Debug)]
pub struct KeyStore {
    folder: PathBuf,
}

impl KeyStore {
    pub fn of(home: &Path) -> Self {
        Self { folder: home.join("keys") }
    }

    fn path(&self, name: KeyName) -> PathBuf {
        self.folder.join(format!("{}.key", name.as_str()))
    }

    /// # Errors
    /// [`KeyError::Exists`]: a key is never overwritten.
    pub fn create(&self, name: KeyName) -> Result<SecretKey, KeyError> {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        let fail = |error| KeyError::File { path: self.path(name), source: std::io::Error::other(error) };
        getrandom::fill(&mut *seed).map_err(fail)?;
        self.put(name, &seed)?;
        Ok(SecretKey::from_seed(*seed))
    }

    fn put(&self, name: KeyName, seed: &[u8; 32]) -> Result<(), KeyError> {
        self.put_at(self.path(name), seed)
    }

    fn put_at(&self, path: PathBuf, seed: &[u8; 32]) -> Result<(), KeyError> {
        let fail = |source| KeyError::File { path: path.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(fail)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(KeyError::Exists { path }),
            Err(error) => return Err(fail(error)),
        };
        let text = zeroize::Zeroizing::new(seed.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
    }

    /// # Errors
    /// [`KeyError`]; a key that others can read is refused.
    pub fn read(&self, name: KeyName) -> Result<SecretKey, KeyError> {
        read(&self.path(name))
    }

    /// Puts the same key into another store.
    ///
    /// # Errors
    /// [`KeyError`]; one that is there is not overwritten.
    pub fn copy(&self, name: KeyName, to: &Self) -> Result<(), KeyError> {
        let seed = zeroize::Zeroizing::new(*self.read(name)?.seed());
        to.put(name, &seed)
    }

    /// The key, made where there is none yet.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read_or_create(&self, name: KeyName) -> Result<SecretKey, KeyError> {
        if self.exists(name) { self.read(name) } else { self.create(name) }
    }

    pub fn exists(&self, name: KeyName) -> bool {
        self.path(name).exists()
    }

    /// The issuer keys beside the one in use: those of before, and the next one where there is one.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn issuers_beside(&self) -> Result<Vec<SecretKey>, KeyError> {
        self.issuer_files()?.iter().map(|path| read(path)).collect()
    }

    /// Puts the issuer keys beside the one in use into another store, too.
    ///
    /// # Errors
    /// [`KeyError`]; one that is there is not overwritten.
    pub fn copy_issuers_beside(&self, to: &Self) -> Result<(), KeyError> {
        for path in self.issuer_files()? {
            let seed = zeroize::Zeroizing::new(*read(&path)?.seed());
            to.put_at(to.folder.join(path.file_name().expect("a file of a folder")), &seed)?;
        }
        Ok(())
    }

    /// Lets the next issuer key take the place of the one in use, which is kept beside it. A process that dies within leaves one of the
    /// two in use, and the same call again ends it.
    ///
    /// # Errors
    /// [`KeyError`]; then the key in use is the one before.
    pub fn issuer_switch(&self) -> Result<(), KeyError> {
        let (path, next) = (self.path(KeyName::Issuer), self.path(KeyName::IssuerNext));
        let (old, _) = (read(&path)?, read(&next)?);
        let name: String = old.public().as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let kept = self.folder.join(format!("{ISSUER_BEFORE}{name}.key"));
        let fail = |source| KeyError::File { path: path.clone(), source };
        match std::fs::hard_link(&path, &kept) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            linked => linked.map_err(fail)?,
        }
        std::fs::rename(&next, &path).and_then(|()| std::fs::File::open(&self.folder)?.sync_all()).map_err(fail)
    }

    fn issuer_files(&self) -> Result<Vec<PathBuf>, KeyError> {
        let fail = |source| KeyError::File { path: self.folder.clone(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let is_before = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(ISSUER_BEFORE) && name.ends_with(".key"));
            if is_before || path == self.path(KeyName::IssuerNext) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Reads a key file by its path.
///
/// # Errors
/// [`KeyError`].
pub fn read(path: &Path) -> Result<SecretKey, KeyError> {
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(KeyError::Missing { path }),
        Err(source) => return Err(KeyError::File { path, source }),
    };
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(&path).map_err(|source| KeyError::File { path: path.clone(), source })?;
        if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
            return Err(KeyError::Open { path });
        }
    }
    let digest: comity_wire::Digest = text.trim().parse().map_err(|_| KeyError::Form { path })?;
    Ok(SecretKey::from_seed(digest.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::of(home.path());
        let key = store.create(KeyName::Receipt).unwrap();
        assert_eq!(store.read(KeyName::Receipt).unwrap().public(), key.public());
        assert!(matches!(store.create(KeyName::Receipt), Err(KeyError::Exists { .. })));
        assert!(matches!(store.read(KeyName::Issuer), Err(KeyError::Missing { .. })));
    }

    #[test]
    fn an_issuer_key_makes_room_for_the_next_and_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::of(home.path());
        let public = |keys: Vec<SecretKey>| keys.iter().map(SecretKey::public).collect::<Vec<_>>();
        let first = store.create(KeyName::Issuer).unwrap().public();
        assert!(matches!(store.issuer_switch(), Err(KeyError::Missing { .. })));
        assert_eq!((store.read(KeyName::Issuer).unwrap().public(), store.issuers_beside().unwrap().len()), (first, 0));
        let second = store.create(KeyName::IssuerNext).unwrap().public();
        assert_eq!(public(store.issuers_beside().unwrap()), [second], "it is read before it is used");
        // Ended between its two steps, it goes on.
        let kept: String = first.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let kept = home.path().join(format!("keys/issuer-before-{kept}.key"));
        std::fs::hard_link(store.path(KeyName::Issuer), &kept).unwrap();
        store.issuer_switch().unwrap();
        assert_eq!(store.read(KeyName::Issuer).unwrap().public(), second);
        assert_eq!(public(store.issuers_beside().unwrap()), [first]);
        assert!(!store.exists(KeyName::IssuerNext));
        let other = KeyStore::of(&home.path().join("other"));
        store.copy_issuers_beside(&other).unwrap();
        assert_eq!(public(other.issuers_beside().unwrap()), [first]);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::of(home.path());
        store.create(KeyName::Member).unwrap();
        let path = store.path(KeyName::Member);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(store.read(KeyName::Member), Err(KeyError::Open { .. })));
    }
}
