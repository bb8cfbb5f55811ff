//! Keys at rest: one data key closes every secret that a home folder holds. A core without I/O.
//!
//! What is closed: the member key, and the holder keys in the wallet's journal. Each is bound to its place, so that none can be put
//! where another stands. What is not: receipts, prompts and answers, and what is made for somebody else (`comity delegate`). Who may
//! read a running program's memory reads the keys (decision 0093).
//!
//! [`mod@file`] keeps the data key, [`keyring`] asks the operating system for it, [`change`] goes from one way to another.

pub mod archive;
pub mod change;
pub mod file;
pub mod keyring;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use comity_wire::{Digest, TokenId};
use zeroize::Zeroizing;

use crate::journal::{Entry, Stored};

/// An Ed25519 seed, or another secret of its size.
pub type Secret = Zeroizing<[u8; SECRET_BYTES]>;

const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Nonce, text, tag.
const CLOSED_BYTES: usize = NONCE_BYTES + SECRET_BYTES + 16;
/// Before what is closed in a key file.
const MARK: &str = "sealed:";

/// What every secret of a home folder is closed with.
#[derive(Clone)]
pub struct DataKey {
    secret: Secret,
    /// SHA-256 of the `wallet.seal` that it opens, where it was opened from one.
    of: Option<Digest>,
}

/// Where a secret stands.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// In the member key's file.
    Member,
    /// The holder key of a chain with this digest.
    Holder(Digest),
    /// The holder key of a token that the house is about to be asked for.
    Pending(TokenId),
}

/// Why keys cannot be opened, or not be closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    #[error("the keys of this profile are sealed, and no passphrase was given")]
    NoPassphrase,
    #[error("the passphrase does not open {path}")]
    Passphrase { path: PathBuf },
    #[error("the passphrase has {count} characters, {PASSPHRASE_MIN} at least are needed")]
    Short { count: usize },
    #[error("{path} is no seal of keys: {why}")]
    Form { path: PathBuf, why: &'static str },
    #[error("{path} asks for {asked} {unit}, {most} are the most: it was not made by comity")]
    Cost { path: PathBuf, unit: &'static str, asked: u32, most: u32 },
    #[error("a sealed key does not open: it was altered, put where another stood, or sealed in another folder")]
    Closed,
    #[error("the exported file does not open: another passphrase, or it was altered")]
    Archive,
    #[error("a key of this folder is sealed, and {path} is not there")]
    Lost { path: PathBuf },
    #[error("{path} is a link, or lies outside of the profile's folder")]
    Outside { path: PathBuf },
    #[error("how the keys of this folder are kept was changed meanwhile")]
    Changed,
    #[error("{path} is not a key: a key file holds 64 hexadecimal digits, or what comity wallet seal made of them")]
    NotAKey { path: PathBuf },
    #[error("cannot {what} {path}")]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Keyring(#[from] keyring::KeyringError),
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
}

/// Characters that a new passphrase has at least.
pub const PASSPHRASE_MIN: usize = 8;

/// A key that is gone cannot be made again; what it may do can be another's.
pub const LOST_KEY: &str = "put it back from a copy. Without one: `comity --home NEW init` makes another, which `comity whoami --join` makes \
                            yours, or your PI or the clearing house's operator takes into the project; `comity whoami --revoke` ends the lost one";
const READ_KEY: &str = "read the key";

impl SealError {
    /// What to do next. `None` where the message says it all.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoPassphrase => {
                "run it on a terminal, or name a file that only you can read: --passphrase-file FILE, or COMITY_PASSPHRASE_FILE"
            }
            Self::Passphrase { .. } => {
                "try again. Without it the keys are lost: make another profile (comity init), log in, and end this one's key with comity wallet revoke --lost"
            }
            Self::Archive => {
                "try the passphrase that it was made with; without it the file is lost, and the wallet that it was made of is not"
            }
            Self::Short { .. } => "four words that nobody would guess are good",
            Self::Form { .. } | Self::Cost { .. } | Self::Closed | Self::Lost { .. } => {
                "put back wallet.seal, member.key, wallet.journal and the wallet.archive files from one and the same copy; without one: comity init in a new folder, and comity wallet revoke --lost"
            }
            Self::Changed => "run it again",
            Self::Outside { .. } => "move it into the folder, and name it so in profile.toml",
            Self::NotAKey { .. } => LOST_KEY,
            Self::File { what: READ_KEY, .. } => LOST_KEY,
            Self::Keyring(error) => error.hint(),
            Self::File { .. } | Self::Journal(_) => return None,
        })
    }
}

impl DataKey {
    /// A new one. The caller brings the randomness.
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self { secret: Zeroizing::new(random), of: None }
    }

    /// `nonce`: fresh for each secret.
    pub fn close(&self, nonce: [u8; NONCE_BYTES], place: Place, secret: &[u8; SECRET_BYTES]) -> Vec<u8> {
        seal(&self.secret, nonce, &place.name(), secret)
    }

    /// # Errors
    /// [`SealError::Closed`] where it was closed with another key or for another place, or altered.
    pub fn open(&self, place: Place, closed: &[u8]) -> Result<Secret, SealError> {
        open(&self.secret, &place.name(), closed).ok_or(SealError::Closed)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

impl Place {
    /// What is authenticated beside the secret.
    fn name(self) -> Vec<u8> {
        match self {
            Self::Member => b"comity/seal/1/member".to_vec(),
            Self::Holder(chain) => [b"comity/seal/1/holder/".as_slice(), chain.as_bytes()].concat(),
            Self::Pending(token) => [b"comity/seal/1/pending/".as_slice(), &token.0].concat(),
        }
    }
}

/// Nonce, then text and tag: XChaCha20-Poly1305, whose nonces may be drawn at random.
fn seal(key: &[u8; 32], nonce: [u8; NONCE_BYTES], name: &[u8], secret: &[u8]) -> Vec<u8> {
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: secret, aad: name })
        .expect("a few bytes are not too many");
    [nonce.as_slice(), &sealed].concat()
}

fn open(key: &[u8; 32], name: &[u8], closed: &[u8]) -> Option<Secret> {
    if closed.len() != CLOSED_BYTES {
        return None;
    }
    let (nonce, sealed) = closed.split_at(NONCE_BYTES);
    let payload = Payload { msg: sealed, aad: name };
    let opened = XChaCha20Poly1305::new(key.into()).decrypt(XNonce::from_slice(nonce), payload).ok()?;
    let opened = Zeroizing::new(opened);
    Some(Zeroizing::new(opened.as_slice().try_into().ok()?))
}

/// Closes what a journal is given to write.
#[derive(Clone)]
pub struct Sealer {
    key: DataKey,
    entropy: Entropy,
}

/// Fresh bytes at each call.
pub type Entropy = Arc<dyn Fn() -> [u8; 32] + Send + Sync>;

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    pub fn new(key: DataKey, entropy: Entropy) -> Self {
        Self { key, entropy }
    }

    pub(crate) fn key(&self) -> &DataKey {
        &self.key
    }

    fn close(&self, place: Place, secret: &[u8; SECRET_BYTES]) -> Vec<u8> {
        self.key.close(fresh(&self.entropy), place, secret)
    }
}

fn fresh(entropy: &Entropy) -> [u8; NONCE_BYTES] {
    entropy()[..NONCE_BYTES].try_into().expect("24 of 32 bytes")
}

/// An entry as it stands in a journal: closed where there is a sealer. What is closed stays so.
pub(crate) fn line(sealer: Option<&Sealer>, entry: &Entry) -> Vec<u8> {
    let closed = sealer.and_then(|sealer| {
        let (place, seed) = secret(entry)?;
        let seed = Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(&**seed).ok()?);
        let mut entry = entry.clone();
        *secret_mut(&mut entry)? = stored(&sealer.close(place, &seed));
        Some(entry)
    });
    serde_json::to_vec(closed.as_ref().unwrap_or(entry)).expect("an entry has only string keys")
}

/// A whole journal's text.
pub fn journal_text(sealer: Option<&Sealer>, entries: &[Entry]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    for entry in entries {
        text.extend(line(sealer, entry));
        text.push(b'\n');
    }
    text
}

/// A journal's entries with their secrets open. One that was never closed stays as it is.
///
/// # Errors
/// [`SealError`] where there is no key for what is closed, or it does not open.
pub fn opened(key: Option<&DataKey>, mut entries: Vec<Entry>) -> Result<Vec<Entry>, SealError> {
    for entry in &mut entries {
        let Some((place, seed)) = secret(entry).filter(|(_, seed)| seed.len() != SECRET_BYTES) else { continue };
        let seed = key.ok_or(SealError::NoPassphrase)?.open(place, seed)?;
        if let Some(place) = secret_mut(entry) {
            *place = stored(&*seed);
        }
    }
    Ok(entries)
}

/// Whether any secret among these lies open.
pub(crate) fn lies_open(entries: &[Entry]) -> bool {
    entries.iter().filter_map(secret).any(|(_, seed)| seed.len() == SECRET_BYTES)
}

fn secret(entry: &Entry) -> Option<(Place, &Stored)> {
    match entry {
        Entry::Token { chain, seed, .. } => Some((Place::Holder(Digest::of(chain)), seed)),
        Entry::Reserving { id, pending } => Some((Place::Pending(*id), &pending.seed)),
        _ => None,
    }
}

pub(crate) fn secret_mut(entry: &mut Entry) -> Option<&mut Stored> {
    match entry {
        Entry::Token { seed, .. } => Some(seed),
        Entry::Reserving { pending, .. } => Some(&mut pending.seed),
        _ => None,
    }
}

fn stored(bytes: &[u8]) -> Stored {
    Stored::new(bytes).expect("a secret is small")
}

/// The text of a member key's file.
pub fn member_text(sealer: Option<&Sealer>, seed: &[u8; SECRET_BYTES]) -> Zeroizing<String> {
    let text = match sealer {
        Some(sealer) => format!("{MARK}{}", URL_SAFE_NO_PAD.encode(sealer.close(Place::Member, seed))),
        None => Digest(*seed).to_string(),
    };
    Zeroizing::new(text + "\n")
}

/// What a key file's text says.
pub enum KeyText {
    Open(Secret),
    Closed(Vec<u8>),
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Open(_)) { "Open" } else { "Closed" })
    }
}

impl KeyText {
    /// `None` where it is neither.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_prefix(MARK) {
            Some(closed) => URL_SAFE_NO_PAD.decode(closed).ok().map(Self::Closed),
            None => text.parse::<Digest>().ok().map(|seed| Self::Open(Zeroizing::new(seed.0))),
        }
    }
}

#[cfg(test)]
mod tests;
