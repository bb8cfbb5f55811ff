//! From one way of keeping keys to another, so that a process may end at any point and no key is lost.
//!
//! Each file is replaced whole. Sealing begins with `wallet.seal` and unsealing ends with it, and each secret says by its form
//! whether it is closed: what was half done works, and the same change again completes it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::{Cost, Kept, Passphrase, Seal};
use super::keyring::Keyring;
use super::{DataKey, Entropy, KeyText, Place, READ_KEY, SealError, Sealer, Secret, journal_text, member_text, opened};
use crate::client::Client;
use crate::journal::Journal;

/// How keys are to be kept.
pub enum Way {
    /// The operating system's keyring keeps the data key.
    Keyring,
    /// A passphrase opens it.
    Passphrase(Passphrase),
    /// Files that only their owner may read.
    Open,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyring => "Keyring",
            Self::Passphrase(_) => "Passphrase",
            Self::Open => "Open",
        })
    }
}

/// How keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Keyring,
    Passphrase,
    Open,
    /// There is a seal, and some key lies beside it open: a change was cut short.
    Half,
}

/// The files of a home folder that hold secrets.
#[derive(Debug)]
pub struct Folder<'a> {
    pub home: &'a Path,
    /// The member key's file, where the profile names one.
    pub member: Option<&'a Path>,
}

/// What a change is given instead of reaching for it.
pub struct Means<'a> {
    pub keyring: &'a dyn Keyring,
    pub entropy: Entropy,
    pub cost: Cost,
    /// Called between two durable steps.
    pub at: &'a dyn Fn(&'static str),
}

impl Folder<'_> {
    /// How keys are kept here.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn state(&self) -> Result<State, SealError> {
        let Some(seal) = Seal::read(self.home)? else { return Ok(State::Open) };
        let member = self.member.map(read_key).transpose()?;
        let is_open = matches!(member, Some(KeyText::Open(_)))
            || super::lies_open(&Journal::read(&Client::journal(self.home))?)
            || self.leftovers().any(|path| path.exists());
        Ok(match seal.kept {
            _ if is_open => State::Half,
            Kept::Keyring { .. } => State::Keyring,
            Kept::Passphrase { .. } => State::Passphrase,
        })
    }

    /// Keeps the keys another way from now on; gives the data key that opens them then. `key`: the one that does now, where there is a
    /// seal. No other process may use the wallet.
    ///
    /// # Errors
    /// [`SealError`]; the keys can be opened as before, or as they will be.
    pub fn change(&self, key: Option<DataKey>, way: Way, means: &Means<'_>) -> Result<Option<DataKey>, SealError> {
        let path = Client::journal(self.home);
        let outside = self.member.filter(|member| member.parent() != Some(self.home));
        // What a link points to would stay as it is, and be called sealed.
        let mut files = [self.member, Some(&path)].into_iter().flatten().filter(|path| path.is_symlink());
        if let Some(path) = outside.or_else(|| files.next()) {
            return Err(SealError::Outside { path: path.to_owned() });
        }
        // Held to the end, also where there was none: nobody writes a secret the old way meanwhile.
        let (_held, entries) = Journal::open(&path)?;
        if !Seal::is_of(self.home, key.as_ref())? {
            return Err(SealError::Changed);
        }
        let before = Seal::read(self.home)?;
        let entries = opened(key.as_ref(), entries)?;
        let member = self.member.map(|path| read_member(path, key.as_ref())).transpose()?;

        let sealer = if matches!(way, Way::Open) {
            None
        } else {
            let mut key = key.unwrap_or_else(|| DataKey::new((means.entropy)()));
            let seal = match &way {
                Way::Passphrase(passphrase) => Seal::by_passphrase(&key, passphrase, means.cost, &means.entropy)?,
                _ => Seal::by_keyring(&key, means.keyring, &means.entropy)?,
            };
            (means.at)("seal.kept");
            replace(&Seal::path(self.home), &seal.text())?;
            (means.at)("seal.file");
            key.of = Some(seal.digest());
            Some(Sealer::new(key, means.entropy.clone()))
        };
        if let (Some(path), Some(seed)) = (self.member, &member) {
            replace(path, member_text(sealer.as_ref(), seed).as_bytes())?;
            (means.at)("seal.member");
        }
        // Its place is taken by another file, which is held as this one is.
        let _held_too = replace(&path, &journal_text(sealer.as_ref(), &entries))?;
        (means.at)("seal.journal");
        if sealer.is_none() {
            remove(&Seal::path(self.home))?;
            (means.at)("seal.removed");
        }
        for path in self.leftovers() {
            remove(&path)?;
        }
        // Last: until here the old way may still be needed.
        if let Some(Kept::Keyring { account }) = before.map(|before| before.kept) {
            // What is left there opens nothing that is not here.
            let _ = means.keyring.forget(&account);
        }
        Ok(sealer.map(|sealer| sealer.key))
    }

    /// Files that a change left which was cut short.
    fn leftovers(&self) -> impl Iterator<Item = PathBuf> {
        let paths = [Some(Seal::path(self.home)), Some(Client::journal(self.home)), self.member.map(Path::to_owned)];
        paths.into_iter().flatten().map(|path| beside(&path))
    }
}

/// The member key in a file; `key` opens one that is sealed.
///
/// # Errors
/// [`SealError`].
pub fn read_member(path: &Path, key: Option<&DataKey>) -> Result<Secret, SealError> {
    match (read_key(path)?, key) {
        (KeyText::Open(seed), _) => Ok(seed),
        (KeyText::Closed(closed), Some(key)) => key.open(Place::Member, &closed),
        (KeyText::Closed(_), None) => Err(SealError::Lost { path: path.with_file_name(Seal::FILE) }),
    }
}

fn read_key(path: &Path) -> Result<KeyText, SealError> {
    let failed = |source| SealError::File { what: READ_KEY, path: path.to_owned(), source };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    KeyText::read(&text).ok_or_else(|| SealError::NotAKey { path: path.to_owned() })
}

/// A file is what it was or what it becomes, also where the power goes. Gives the file that stands there now, locked.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<File, SealError> {
    let new = beside(path);
    let put = || {
        // One that a change left which was cut short, whatever its mode.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.lock()?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        Ok(file)
    };
    put().map_err(|source| SealError::File { what: "write", path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), SealError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SealError::File { what: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
