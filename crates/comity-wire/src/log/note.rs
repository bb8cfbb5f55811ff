//! Signed notes and checkpoints (C2SP `signed-note`, `tlog-checkpoint`, `tlog-cosignature`), with Ed25519.
//!
//! A line of another key or another algorithm is passed over, as the standard has it; a line under a known name and key id
//! whose signature does not stand makes the whole note worthless.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::code::Code;
use crate::digest::Digest;
use crate::key::{PublicKey, SecretKey};
use crate::time::Timestamp;

/// A note is at most this long: room for 16 signatures of 5 kB and a text.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// Signature lines of a note.
pub const SIGNATURES_MAX: usize = 32;
/// A name of a key, or an origin.
pub const NAME_BYTES_MAX: usize = 255;

/// What a key signs, told apart by the first byte of its vkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// The log's own signature, over the note's text.
    Log = 1,
    /// `cosignature/v1`: a witness's, with its time.
    Cosigner = 4,
}

/// A key that notes are verified under: `name+id+key`, the standard's *vkey*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    use_: KeyUse,
    key: PublicKey,
}

/// Why a note is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("not a signed note: {0}")]
    Form(&'static str),
    #[error("not a checkpoint: {0}")]
    Checkpoint(&'static str),
    #[error("not a verifier key (name+id+key): {0}")]
    Key(&'static str),
    #[error("not signed by {name}")]
    Unsigned { name: String },
    #[error("the signature of {name} does not verify")]
    Signature { name: String },
}

impl NoteError {
    pub fn code(&self) -> Code {
        match self {
            Self::Form(_) | Self::Checkpoint(_) | Self::Key(_) => Code::Malformed,
            Self::Unsigned { .. } => Code::WrongKey,
            Self::Signature { .. } => Code::BadSignature,
        }
    }
}

/// A text with its signature lines, form checked, nothing verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    lines: Vec<Line>,
}

/// `— name base64(key id ‖ signature)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

/// How far a log has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    pub size: u64,
    pub root: Digest,
}

impl VerifierKey {
    /// # Errors
    /// [`NoteError::Key`] where the name cannot be one.
    pub fn new(name: &str, use_: KeyUse, key: PublicKey) -> Result<Self, NoteError> {
        if is_name(name) { Ok(Self { name: name.to_owned(), use_, key }) } else { Err(NoteError::Key("its name")) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn use_(&self) -> KeyUse {
        self.use_
    }

    /// SHA-256(name ‖ LF ‖ type ‖ key), its first four bytes.
    fn id(&self) -> [u8; 4] {
        let parts: [&[u8]; 4] = [self.name.as_bytes(), b"\n", &[self.use_ as u8], self.key.as_bytes()];
        let digest = Digest::of_parts(&parts);
        digest.0[..4].try_into().expect("32 bytes have four")
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[self.use_ as u8], &self.key.as_bytes()[..]].concat());
        write!(f, "{}+{}+{key}", self.name, data_encoding::HEXLOWER.encode(&self.id()))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("three parts with + between them are expected"));
        };
        let bytes = STANDARD.decode(key).map_err(|_| NoteError::Key("its base64"))?;
        let (use_, key) = match bytes.split_first() {
            Some((1, key)) => (KeyUse::Log, key),
            Some((4, key)) => (KeyUse::Cosigner, key),
            _ => return Err(NoteError::Key("Ed25519 (1) or a timestamped Ed25519 cosigner (4) is expected")),
        };
        let key = key.try_into().map_err(|_| NoteError::Key("32 bytes are expected"))?;
        let key = PublicKey::from_bytes(key).map_err(|_| NoteError::Key("not a point of large order"))?;
        let whole = Self::new(name, use_, key)?;
        // The text of a key has one form, so that it can be compared as one.
        if whole.to_string() != text || data_encoding::HEXLOWER.encode(&whole.id()) != id {
            return Err(NoteError::Key("its id is not that of the name and the key"));
        }
        Ok(whole)
    }
}

/// Non-empty, without spaces, control characters or plus.
fn is_name(name: &str) -> bool {
    let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(refused)
}

impl Note {
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let wrong = |what| Err(NoteError::Form(what));
        if bytes.len() > NOTE_BYTES_MAX {
            return wrong("it is too long");
        }
        let Ok(whole) = std::str::from_utf8(bytes) else { return wrong("it is not UTF-8") };
        if whole.chars().any(|c| c < ' ' && c != '\n') {
            return wrong("it has control characters");
        }
        let Some(end) = whole.rfind("\n\n") else { return wrong("no empty line before the signatures") };
        let (text, signatures) = (&whole[..=end], &whole[end + 2..]);
        let Some(signatures) = signatures.strip_suffix('\n') else { return wrong("its last line does not end") };
        let lines = signatures.split('\n').map(Line::parse).collect::<Result<Vec<_>, _>>()?;
        if lines.len() > SIGNATURES_MAX {
            return wrong("too many signatures");
        }
        Ok(Self { text: text.to_owned(), lines })
    }

    /// A checkpoint signed by its log, whose key is named for its origin.
    pub fn sign(checkpoint: &Checkpoint, key: &SecretKey) -> Result<Self, NoteError> {
        let name = VerifierKey::new(&checkpoint.origin, KeyUse::Log, key.public())?;
        let text = checkpoint.text();
        let line = Line { id: name.id(), name: name.name, signature: key.sign(text.as_bytes()).to_vec() };
        Ok(Self { text, lines: vec![line] })
    }

    /// Adds a line that somebody else made. The same key's older line goes.
    ///
    /// # Errors
    /// [`NoteError::Form`] where there are too many.
    pub fn add(&mut self, line: Line) -> Result<(), NoteError> {
        self.lines.retain(|held| (&held.name, held.id) != (&line.name, line.id));
        if self.lines.len() >= SIGNATURES_MAX {
            return Err(NoteError::Form("too many signatures"));
        }
        self.lines.push(line);
        Ok(())
    }

    /// What was signed, its last line feed included.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What the log says that `key` is of: signed by it, and under its own name.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn verify(&self, key: &VerifierKey) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::parse(&self.text)?;
        if checkpoint.origin != key.name || key.use_ != KeyUse::Log {
            return Err(NoteError::Unsigned { name: key.name.clone() });
        }
        let signature = |line: &Line| line.signature.as_slice().try_into().ok();
        self.verified(key, |line| key.key.verify(self.text.as_bytes(), &signature(line)?).ok())?;
        Ok(checkpoint)
    }

    /// When the witness `key` cosigned this note.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn cosigned(&self, key: &VerifierKey) -> Result<Timestamp, NoteError> {
        if key.use_ != KeyUse::Cosigner {
            return Err(NoteError::Unsigned { name: key.name.clone() });
        }
        self.verified(key, |line| {
            let (at, signature) = line.signature.split_first_chunk::<8>()?;
            let at = u64::from_be_bytes(*at);
            let message = cosigned_message(&self.text, at);
            let stands = i64::try_from(at).is_ok() && at > 0;
            key.key.verify(message.as_bytes(), signature.try_into().ok()?).ok().filter(|()| stands)?;
            Some(Timestamp(at))
        })
    }

    /// Every line of the key must stand, and there must be one.
    fn verified<T>(&self, key: &VerifierKey, check: impl Fn(&Line) -> Option<T>) -> Result<T, NoteError> {
        let mut found = None;
        for line in self.lines.iter().filter(|line| line.name == key.name && line.id == key.id()) {
            found = Some(check(line).ok_or_else(|| NoteError::Signature { name: key.name.clone() })?);
        }
        found.ok_or_else(|| NoteError::Unsigned { name: key.name.clone() })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn cosigned_message(text: &str, at: u64) -> String {
    format!("cosignature/v1\ntime {at}\n{text}")
}

impl Line {
    /// Without its line feed.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Form("a signature line is an em dash, a name and base64");
        let Some((name, signature)) = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')) else {
            return Err(wrong);
        };
        let bytes = STANDARD.decode(signature).ok().filter(|_| is_name(name)).ok_or_else(|| wrong.clone())?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(wrong)?;
        Ok(Self { name: name.to_owned(), id: *id, signature: signature.to_vec() })
    }

    /// A witness's line for the text of a checkpoint.
    ///
    /// # Errors
    /// [`NoteError::Key`] where the name cannot be one.
    pub fn cosign(text: &str, name: &str, key: &SecretKey, now: Timestamp) -> Result<Self, NoteError> {
        let name = VerifierKey::new(name, KeyUse::Cosigner, key.public())?;
        let signature = key.sign(cosigned_message(text, now.0).as_bytes());
        let signature = [&now.0.to_be_bytes()[..], &signature].concat();
        Ok(Self { id: name.id(), name: name.name, signature })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\u{2014} {} {}", self.name, STANDARD.encode([&self.id[..], &self.signature].concat()))
    }
}

impl Checkpoint {
    /// The three lines that are signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads the text of a note. Lines behind the third are the log's own affair, and none of them may be empty.
    ///
    /// # Errors
    /// [`NoteError::Checkpoint`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Checkpoint;
        let body = text.strip_suffix('\n').ok_or_else(|| wrong("its last line does not end"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(wrong("three lines are expected"));
        };
        if origin.is_empty() || origin.len() > NAME_BYTES_MAX {
            return Err(wrong("its origin"));
        }
        let number =
            size.parse::<u64>().ok().filter(|number| number.to_string() == size && i64::try_from(*number).is_ok());
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).map(Digest);
        if lines.any(str::is_empty) {
            return Err(wrong("an empty line"));
        }
        let (size, root) = (number.ok_or_else(|| wrong("its size"))?, root.ok_or_else(|| wrong("its root"))?);
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "comity.example/log/1".into(), size: 3, root: Digest::of(b"root") }
    }

    #[test]
    fn the_standards_own_examples_verify() {
        let key: VerifierKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let note = "This is an example message.\n\n\u{2014} example.com/foo \
                    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let note = Note::parse(note.as_bytes()).unwrap();
        let stands =
            |line: &Line| key.key.verify(note.text.as_bytes(), line.signature.as_slice().try_into().ok()?).ok();
        note.verified(&key, stands).unwrap();
    }

    #[test]
    fn a_checkpoint_verifies_under_its_logs_key_and_its_witnesss() {
        let (key, witness) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let vkey = VerifierKey::new(&checkpoint().origin, KeyUse::Log, key.public()).unwrap();
        assert_eq!(vkey.to_string().parse(), Ok(vkey.clone()));
        let mut note = Note::sign(&checkpoint(), &key).unwrap();
        let line = Line::cosign(note.text(), "witness.example", &witness, Timestamp(9)).unwrap();
        note.add(line).unwrap();
        let read = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.verify(&vkey).unwrap(), checkpoint());
        let cosigner = VerifierKey::new("witness.example", KeyUse::Cosigner, witness.public()).unwrap();
        assert_eq!(read.cosigned(&cosigner), Ok(Timestamp(9)));

        let bent = note.to_string().replace("\n3\n", "\n4\n");
        let bent = Note::parse(bent.as_bytes()).unwrap();
        assert!(matches!(bent.verify(&vkey), Err(NoteError::Signature { .. })));
        assert!(matches!(bent.cosigned(&cosigner), Err(NoteError::Signature { .. })));
        let other = VerifierKey::new(&checkpoint().origin, KeyUse::Log, witness.public()).unwrap();
        assert!(matches!(note.verify(&other), Err(NoteError::Unsigned { .. })));
        let named = VerifierKey::new("another/log", KeyUse::Log, key.public()).unwrap();
        assert!(matches!(note.verify(&named), Err(NoteError::Unsigned { .. })));
    }

    #[test]
    fn what_is_no_note_no_checkpoint_or_no_key_is_refused() {
        let good = Note::sign(&checkpoint(), &SecretKey::from_seed([1; 32])).unwrap().to_string();
        for (old, new) in [("\n\n", "\n"), ("\u{2014} ", "- "), ("\u{2014} ", "\u{2014}"), ("=\n", "=")] {
            assert!(Note::parse(good.replace(old, new).as_bytes()).is_err(), "{old:?}");
        }
        assert!(Note::parse(good.replace("log", "l\tog").as_bytes()).is_err());
        assert!(Note::parse(&[0xff]).is_err());
        for text in ["", "a\n1\n", "a\n01\nAAAA\n", "\n1\nAAAA\n", "a\n1\nAAAA\n"] {
            assert!(Checkpoint::parse(text).is_err(), "{text:?}");
        }
        let text = checkpoint().text();
        assert!(Checkpoint::parse(&format!("{text}\n")).is_err(), "an empty extension line");
        assert_eq!(Checkpoint::parse(&format!("{text}more\n")), Ok(checkpoint()));
        let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        for (old, new) in
            [("530d", "530e"), ("foo", "f oo"), ("+Aeky", "+Beky"), ("U2k", "U2"), ("530d903a", "530D903A")]
        {
            assert!(vkey.replace(old, new).parse::<VerifierKey>().is_err(), "{old}");
        }
    }
}
