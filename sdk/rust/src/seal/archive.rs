//! A wallet in one file, for a computer that takes its place. A core without I/O.
//!
//! What spends does not go along: two computers must never sign in the same lane. Tokens that are not ended are closed in the copy alone: it
//! neither signs under one nor asks for its final, which is for the computer that still uses it. Receipts and evidence do, and the keys of calls, so that a call
//! asked again is known there too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use comity_wire::TokenId;
use comity_wire::cbor::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::file::{Cost, stretched};
use super::{Entropy, NONCE_BYTES, PASSPHRASE_MIN, SealError, fresh};
use crate::journal::Entry;
use crate::wallet::{Wallet, WalletError};

/// What goes into the file.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// `profile.toml`, with the names of the files below.
    pub profile: String,
    pub roster: Part,
    /// The member key's seed.
    pub member: Option<Bytes<32>>,
    /// Whole, its secrets open.
    pub journal: Vec<Entry>,
    /// Other files by their path in the folder.
    pub files: BTreeMap<String, Part>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive of {} entries", self.journal.len())
    }
}

/// A file's bytes.
pub type Part = Bytes<4_194_304>;

/// A file is read up to this.
pub const BYTES_MAX: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    comity: String,
    version: u8,
    cost: Cost,
    salt: Bytes<16>,
}

const KIND: &str = "wallet";
const VERSION: u8 = 1;

impl Archive {
    /// The file, under a passphrase.
    ///
    /// # Errors
    /// [`SealError::Short`].
    pub fn pack(&self, passphrase: &str, cost: Cost, entropy: &Entropy) -> Result<Vec<u8>, SealError> {
        let count = passphrase.chars().count();
        if count < PASSPHRASE_MIN {
            return Err(SealError::Short { count });
        }
        let salt = Bytes::new(&entropy()[..16]).expect("16 bytes");
        let head = Head { comity: KIND.to_owned(), version: VERSION, cost, salt };
        let mut file = text(&head);
        let key = stretched(passphrase, cost, &head.salt).ok_or_else(|| wrong("Argon2 does not take this cost"))?;
        let whole = Zeroizing::new(serde_json::to_vec(self).expect("an archive has a JSON form"));
        let nonce = fresh(entropy);
        let payload = Payload { msg: &whole, aad: &name(&file) };
        let sealed = XChaCha20Poly1305::new((&*key).into()).encrypt(XNonce::from_slice(&nonce), payload);
        file.extend(nonce);
        file.extend(sealed.expect("a wallet is smaller than what one nonce may seal"));
        Ok(file)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`SealError`]: another file, one that was altered, another passphrase.
    pub fn unpack(
        file: &[u8],
        passphrase: impl FnOnce() -> Result<super::file::Passphrase, SealError>,
    ) -> Result<Self, SealError> {
        let end = file.iter().take(512).position(|byte| *byte == b'\n').ok_or_else(|| wrong("it has no head"))?;
        let (line, sealed) = file.split_at(end + 1);
        let head: Head = serde_json::from_slice(line).map_err(|_| wrong("it has no head"))?;
        if head.comity != KIND || head.version != VERSION || text(&head) != line {
            return Err(wrong("it is of another version of comity"));
        }
        head.cost.check(std::path::Path::new(FILE))?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(|| wrong("it was cut"))?;
        let passphrase = passphrase()?;
        let key =
            stretched(&passphrase, head.cost, &head.salt).ok_or_else(|| wrong("Argon2 does not take its cost"))?;
        let payload = Payload { msg: sealed, aad: &name(line) };
        let whole = XChaCha20Poly1305::new((&*key).into()).decrypt(XNonce::from_slice(nonce), payload);
        let whole = Zeroizing::new(whole.map_err(|_| SealError::Archive)?);
        serde_json::from_slice(&whole).map_err(|_| wrong("what is in it cannot be read"))
    }
}

const FILE: &str = "the exported file";

fn wrong(why: &'static str) -> SealError {
    SealError::Form { path: FILE.into(), why }
}

fn text(head: &Head) -> Vec<u8> {
    let mut text = serde_json::to_vec(head).expect("a head has a JSON form");
    text.push(b'\n');
    text
}

fn name(head: &[u8]) -> Vec<u8> {
    [b"comity/seal/1/archive/".as_slice(), head].concat()
}

/// A journal as it goes to another computer: nothing can be signed under what stands in it.
///
/// # Errors
/// [`WalletError`] where it does not follow from itself.
pub fn travelling(mut entries: Vec<Entry>) -> Result<Vec<Entry>, WalletError> {
    let wallet = Wallet::replay(entries.iter().cloned())?;
    let pending: BTreeSet<TokenId> = wallet.pending().map(|(id, _)| id).collect();
    let ended = wallet.purses().filter(|purse| !purse.is_closed()).map(|purse| Entry::Closed { token: purse.id() });
    let more: Vec<_> = ended.chain(pending.into_iter().map(|id| Entry::NotReserved { id })).collect();
    entries.extend(more);
    Ok(entries)
}
