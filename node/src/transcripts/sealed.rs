//! One line of a file: a head that is readable, and texts that only the owner's key opens.
//!
//! HPKE (RFC 9180) in base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305; the head is authenticated with the texts.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_gateway::Transcript;
use comity_wire::object::{Ended, Tier};
use comity_wire::{Amount, Digest, ModelId, Op, Timestamp, TokenId};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::{Failure, While as _};
use crate::home;

const INFO: &[u8] = b"comity/transcript/1";
const KEY_BYTES: usize = 32;
const LOCK_FILE: &str = "transcripts.pub";

/// The public half: it seals.
#[derive(Debug)]
pub struct Lock(HpkePublicKey);

/// The secret half: it opens.
pub struct Key(HpkePrivateKey);

/// What is readable of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub at: Timestamp,
    pub model: ModelId,
    pub op: Op,
    pub tier: Tier,
    pub subject: String,
    pub token: TokenId,
    pub receipt: Digest,
    pub charge_ucr: Amount,
    pub ended: Ended,
}

/// What is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    pub request: String,
    /// One piece, or the `data` payloads of a stream.
    pub response: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// JSON, as it was authenticated.
    head: String,
    sealed: String,
}

impl Lock {
    /// The lock of a home; `None` where it has none, and so keeps nothing.
    ///
    /// # Errors
    /// [`Failure`] where the file is something else.
    pub fn of(home: &Path) -> Result<Option<Self>, Failure> {
        let path = home.join(LOCK_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self(HpkePublicKey(bytes(&text, &path)?)))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).while_(format!("cannot read {}", path.display())),
        }
    }

    pub(super) fn seal(&self, transcript: &Transcript) -> Result<String, Failure> {
        let head = serde_json::to_string(&Head::of(transcript))?;
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        let texts =
            Texts { request: text(&transcript.request), response: transcript.response.iter().map(text).collect() };
        let texts = Zeroizing::new(serde_json::to_vec(&texts)?);
        let (secret, sealed) =
            SUITE.seal(INFO, head.as_bytes(), &texts, &self.0).while_("a transcript is not sealed")?;
        let sealed = STANDARD.encode([secret.0, sealed].concat());
        Ok(serde_json::to_string(&Line { head, sealed })? + "\n")
    }
}

impl Key {
    /// Makes a pair: the lock into the home, the key into a file of its own, which nobody else can read.
    ///
    /// # Errors
    /// [`Failure`] where either is there already.
    pub fn create(home: &Path, key: &Path) -> Result<(), Failure> {
        let lock = home.join(LOCK_FILE);
        if lock.exists() {
            return Err(Failure::new(format!("{} is there already", lock.display())).hint(
                "what was kept is sealed for it; move it away to change keys, and keep the old key for the old texts",
            ));
        }
        if key.exists() {
            return Err(Failure::new(format!("{} is there already", key.display())).hint("choose another --key"));
        }
        let (public, secret) = SUITE.generate_key_pair().while_("cannot make a key")?;
        let text = Zeroizing::new(STANDARD.encode(secret.secret_bytes()) + "\n");
        home::write_secret(key, text.as_bytes())?;
        home::write(&lock, (STANDARD.encode(public.0) + "\n").as_bytes())
    }

    /// # Errors
    /// [`Failure`] where the file is no key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).while_(format!("cannot read {}", path.display()))?;
        Ok(Self(HpkePrivateKey::from(bytes(&Zeroizing::new(text), path)?)))
    }

    /// # Errors
    /// [`Failure`] where the texts were sealed for another key, or the line was altered.
    pub(super) fn open(&self, line: &str) -> Result<Texts, Failure> {
        let line: Line = serde_json::from_str(line).while_("a line is no transcript")?;
        let sealed = STANDARD.decode(&line.sealed).while_("a line is no transcript")?;
        let Some((secret, sealed)) = sealed.split_at_checked(KEY_BYTES) else {
            return Err(Failure::new("a line is no transcript"));
        };
        let opened = SUITE.open(&EncapsulatedSecret(secret.to_vec()), INFO, line.head.as_bytes(), sealed, &self.0);
        let texts = opened.map_err(|_| {
            Failure::new("a transcript does not open").hint("it was sealed for another key, or its line was altered")
        })?;
        Ok(serde_json::from_slice(&Zeroizing::new(texts))?)
    }
}

impl Head {
    fn of(transcript: &Transcript) -> Self {
        Self {
            at: transcript.at,
            model: transcript.model.clone(),
            op: transcript.op,
            tier: transcript.tier,
            subject: transcript.subject.clone(),
            token: transcript.token,
            receipt: transcript.receipt,
            charge_ucr: transcript.charge,
            ended: transcript.ended,
        }
    }

    /// # Errors
    /// [`Failure`] where the line is none.
    pub(super) fn read(line: &str) -> Result<Self, Failure> {
        let line: Line = serde_json::from_str(line).while_("a line is no transcript")?;
        serde_json::from_str(&line.head).while_("a line is no transcript")
    }
}

fn bytes(text: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == KEY_BYTES);
    bytes.ok_or_else(|| Failure::new(format!("{} holds no key for transcripts", path.display())))
}
