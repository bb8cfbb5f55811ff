//! Comity-CBOR: one encoding for each value (spec/01-encoding.md).
//!
//! A profile of RFC 8949 §4.2.1: shortest heads, integer map keys strictly ascending bytewise, no floats, null,
//! undefined, indefinite lengths, no tags but 18 at the top of a COSE object. [`scan`] walks foreign bytes first, without
//! allocating; [`Reader`] then reads what was scanned. ciborium and coset accept far more and serve as test oracles
//! only (docs/decisions/0001).

mod bounded;
mod read;
mod record;
mod scan;
mod write;

use std::fmt;

pub use bounded::{Bytes, List, Text};
pub use read::Reader;
pub use scan::{Limits, scan};
pub use write::Writer;

pub(crate) use record::{enumeration, record};

use crate::code::Code;

/// Something with a Comity-CBOR form.
pub trait Encode {
    fn encode(&self, w: &mut Writer);

    /// Whether a map leaves this value out: an empty option or list.
    fn is_absent(&self) -> bool {
        false
    }

    fn to_cbor(&self) -> Vec<u8> {
        // A receipt takes some 500 bytes.
        let mut w = Writer::with_capacity(512);
        self.encode(&mut w);
        w.into_bytes()
    }
}

/// Something that can be read from bytes which [`scan`] accepted.
pub trait Decode: Sized {
    /// # Errors
    /// [`Malformed`] where the bytes hold something else.
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// What a map that leaves the field out means; `None` where it must not.
    fn absent() -> Option<Self> {
        None
    }

    /// Scans, reads, and refuses trailing bytes.
    ///
    /// # Errors
    /// [`Malformed`], the first fault in reading order.
    fn from_cbor(bytes: &[u8], limits: Limits) -> Result<Self, Malformed> {
        scan(bytes, limits)?;
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

/// Bytes that are not what they should be: what is wrong, and at which offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct Malformed {
    pub at: usize,
    pub kind: MalformedKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedKind {
    Truncated,
    Trailing,
    NotShortest,
    Indefinite,
    Float,
    Simple,
    Tag,
    KeyType,
    KeyOrder,
    Utf8,
    TooDeep,
    TooLarge,
    TooManyItems,
    IntegerRange,
    UnknownField(i64),
    MissingField(i64),
    WrongType(&'static str),
    Value(&'static str),
}

impl fmt::Display for MalformedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end too early"),
            Self::Trailing => f.write_str("bytes follow the object"),
            Self::NotShortest => f.write_str("a number is not in its shortest form"),
            Self::Indefinite => f.write_str("indefinite lengths are not allowed"),
            Self::Float => f.write_str("floating point is not allowed"),
            Self::Simple => f.write_str("only true and false are allowed as simple values"),
            Self::Tag => f.write_str("a tag is not allowed here"),
            Self::KeyType => f.write_str("map keys must be integers"),
            Self::KeyOrder => f.write_str("map keys must ascend bytewise, each once"),
            Self::Utf8 => f.write_str("text is not UTF-8"),
            Self::TooDeep => f.write_str("nested deeper than 8 levels"),
            Self::TooLarge => f.write_str("the object is larger than its kind may be"),
            Self::TooManyItems => f.write_str("the object has more items than its kind may have"),
            Self::IntegerRange => f.write_str("an integer is outside -2^63 to 2^63-1"),
            Self::UnknownField(key) => write!(f, "field {key} is not known here"),
            Self::MissingField(key) => write!(f, "field {key} is missing"),
            Self::WrongType(expected) => write!(f, "{expected} expected"),
            Self::Value(what) => write!(f, "not an allowed {what}"),
        }
    }
}

impl Malformed {
    pub const fn new(at: usize, kind: MalformedKind) -> Self {
        Self { at, kind }
    }

    pub const fn value(at: usize, what: &'static str) -> Self {
        Self::new(at, MalformedKind::Value(what))
    }

    /// The stable code that outsiders get (spec/errors.md).
    pub fn code(&self) -> Code {
        match self.kind {
            MalformedKind::NotShortest
            | MalformedKind::Indefinite
            | MalformedKind::Float
            | MalformedKind::Simple
            | MalformedKind::Tag
            | MalformedKind::KeyOrder => Code::NonDeterministic,
            MalformedKind::TooDeep => Code::TooDeep,
            MalformedKind::TooLarge | MalformedKind::TooManyItems => Code::TooLarge,
            MalformedKind::UnknownField(_) => Code::UnknownField,
            _ => Code::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
