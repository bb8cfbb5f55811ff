//! `wallet.seal`: how the data key is kept, and the data key itself where a passphrase wraps it.
//!
//! One line of JSON, which has one form: what is read is written again and compared, and everything but the wrapped key is authenticated
//! with it. So no byte of it can be another.

use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use comity_wire::Digest;
use comity_wire::cbor::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::keyring::Keyring;
use super::{DataKey, Entropy, PASSPHRASE_MIN, SealError, Secret, fresh, open, seal};

/// A passphrase; wiped when it is done with.
pub type Passphrase = Zeroizing<String>;

/// How the data key is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kept {
    /// In the operating system's keyring, under this name.
    Keyring { account: String },
    /// Wrapped under what Argon2id makes of a passphrase.
    Passphrase { cost: Cost, salt: Bytes<16> },
}

/// What one guess costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Cost {
    /// RFC 9106 §4, the second recommended option, on one thread: a tenth of a second.
    pub const NEW: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// What a file may ask for: whoever can write it must not be able to fill the memory, or to keep the machine busy.
    pub const MOST: Self = Self { memory_kib: 256 * 1024, passes: 16, lanes: 16 };

    /// # Errors
    /// [`SealError::Cost`] where it is more than [`Cost::MOST`].
    pub(super) fn check(self, path: &Path) -> Result<(), SealError> {
        let bounds = [
            ("KiB of memory", self.memory_kib, Self::MOST.memory_kib),
            ("passes", self.passes, Self::MOST.passes),
            ("lanes", self.lanes, Self::MOST.lanes),
        ];
        match bounds.into_iter().find(|(_, asked, most)| asked > most) {
            Some((unit, asked, most)) => Err(SealError::Cost { path: path.to_owned(), unit, asked, most }),
            None => Ok(()),
        }
    }
}

/// A `wallet.seal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    version: u8,
    pub kept: Kept,
    /// The data key under the passphrase's; of a keyring, a secret of zeroes under the data key, by which it is known again.
    sealed: Bytes<72>,
}

#[derive(Serialize)]
struct Head<'a> {
    version: u8,
    kept: &'a Kept,
}

const VERSION: u8 = 1;
const BYTES_MAX: usize = 1024;

impl Seal {
    pub const FILE: &'static str = "wallet.seal";

    /// Where a home folder's is.
    pub fn path(home: &Path) -> PathBuf {
        home.join(Self::FILE)
    }

    /// A folder's seal; `None` where it has none.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn read(home: &Path) -> Result<Option<Self>, SealError> {
        let path = Self::path(home);
        match std::fs::read(&path) {
            Ok(text) => Self::parse(&text).map(Some).map_err(|why| SealError::Form { path, why }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SealError::File { what: "read", path, source }),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.len() > BYTES_MAX {
            return Err("it is too long");
        }
        let read: Self = serde_json::from_slice(text).map_err(|_| "it cannot be read")?;
        if read.version != VERSION {
            return Err("it is of another version of comity");
        }
        if read.text() != text { Err("it is not as it was written") } else { Ok(read) }
    }

    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("a seal has a JSON form");
        text.push(b'\n');
        text
    }

    /// Wraps a data key under a passphrase.
    ///
    /// # Errors
    /// [`SealError::Short`].
    pub fn by_passphrase(key: &DataKey, passphrase: &str, cost: Cost, entropy: &Entropy) -> Result<Self, SealError> {
        let count = passphrase.chars().count();
        if count < PASSPHRASE_MIN {
            return Err(SealError::Short { count });
        }
        let salt = Bytes::new(&entropy()[..16]).expect("16 bytes");
        let over = stretched(passphrase, cost, &salt)
            .ok_or_else(|| SealError::Form { path: Self::FILE.into(), why: "Argon2 does not take this cost" })?;
        let kept = Kept::Passphrase { cost, salt };
        Ok(Self::made(&over, kept, &key.secret, entropy))
    }

    /// Puts a data key into the keyring, and looks whether it is there.
    ///
    /// # Errors
    /// [`SealError::Keyring`].
    pub fn by_keyring(key: &DataKey, keyring: &dyn Keyring, entropy: &Entropy) -> Result<Self, SealError> {
        let account = comity_wire::Digest(entropy()).to_string().chars().take(32).collect::<String>();
        keyring.put(&account, &key.secret)?;
        let kept = Kept::Keyring { account };
        let made = Self::made(&key.secret, kept, &[0; 32], entropy);
        made.unlock_by(keyring, Path::new(""))?;
        Ok(made)
    }

    /// SHA-256 of its file.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.text())
    }

    /// Whether the seal that stands in a folder is the one that `key` was opened from; of neither, whether there is none.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn is_of(home: &Path, key: Option<&DataKey>) -> Result<bool, SealError> {
        let stands = Self::read(home)?.map(|seal| seal.digest());
        Ok(stands == key.and_then(|key| key.of) && stands.is_some() == key.is_some())
    }

    fn made(over: &Secret, kept: Kept, secret: &[u8; 32], entropy: &Entropy) -> Self {
        let sealed = seal(over, fresh(entropy), &head(&kept), secret);
        Self { version: VERSION, kept, sealed: Bytes::new(sealed).expect("72 bytes") }
    }

    /// Whether a passphrase is needed.
    pub fn asks(&self) -> bool {
        matches!(self.kept, Kept::Passphrase { .. })
    }

    /// The data key. `passphrase` is called where one is needed, once; `home` is named in errors.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn unlock(
        &self,
        home: &Path,
        keyring: &dyn Keyring,
        passphrase: impl FnOnce() -> Result<Passphrase, SealError>,
    ) -> Result<DataKey, SealError> {
        let path = Self::path(home);
        let Kept::Passphrase { cost, salt } = &self.kept else { return self.unlock_by(keyring, home) };
        cost.check(&path)?;
        let passphrase = passphrase()?;
        let over = stretched(&passphrase, *cost, salt);
        let over = over.ok_or_else(|| SealError::Form { path: path.clone(), why: "Argon2 does not take its cost" })?;
        let key = open(&over, &head(&self.kept), &self.sealed).ok_or(SealError::Passphrase { path })?;
        Ok(DataKey { secret: key, of: Some(self.digest()) })
    }

    fn unlock_by(&self, keyring: &dyn Keyring, home: &Path) -> Result<DataKey, SealError> {
        let path = Self::path(home);
        let Kept::Keyring { account } = &self.kept else {
            return Err(SealError::Form { path, why: "no keyring keeps its key" });
        };
        let key = keyring.get(account)?;
        match open(&key, &head(&self.kept), &self.sealed) {
            Some(_) => Ok(DataKey { secret: key, of: Some(self.digest()) }),
            None => Err(SealError::Form { path, why: "the keyring keeps another key" }),
        }
    }
}

/// What is authenticated beside the wrapped key.
fn head(kept: &Kept) -> Vec<u8> {
    let head = serde_json::to_vec(&Head { version: VERSION, kept }).expect("a head has a JSON form");
    [b"comity/seal/1/key/".as_slice(), &head].concat()
}

/// `None` where Argon2 takes no such cost.
pub(super) fn stretched(passphrase: &str, cost: Cost, salt: &[u8]) -> Option<Secret> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
    let mut over = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(passphrase.as_bytes(), salt, &mut *over).ok()?;
    Some(over)
}

/// A passphrase from a file: what stands in it, less the end of its one line.
///
/// # Errors
/// [`SealError::File`].
pub fn passphrase_file(path: &Path) -> Result<Passphrase, SealError> {
    let read = std::fs::read_to_string(path);
    let mut text = Zeroizing::new(read.map_err(|source| SealError::File {
        what: "read the passphrase's file",
        path: path.to_owned(),
        source,
    })?);
    let whole = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(whole);
    Ok(text)
}
