//! A cursor over bytes that were scanned.

use super::scan::head;
use super::{Decode, Malformed, MalformedKind as Kind};

/// Reads typed items one after another.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub const fn position(&self) -> usize {
        self.at
    }

    /// # Errors
    /// Where bytes follow.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed::new(self.at, Kind::Trailing)) }
    }

    fn major(&mut self, major: u8, expected: &'static str) -> Result<u64, Malformed> {
        let at = self.at;
        let head = head(self.bytes, &mut self.at)?;
        if head.major == major { Ok(head.value) } else { Err(Malformed::new(at, Kind::WrongType(expected))) }
    }

    pub fn uint(&mut self) -> Result<u64, Malformed> {
        self.major(0, "an unsigned integer")
    }

    pub fn int(&mut self) -> Result<i64, Malformed> {
        let at = self.at;
        let head = head(self.bytes, &mut self.at)?;
        let magnitude = i64::try_from(head.value).map_err(|_| Malformed::new(at, Kind::IntegerRange))?;
        match head.major {
            0 => Ok(magnitude),
            1 => Ok(-1 - magnitude),
            _ => Err(Malformed::new(at, Kind::WrongType("an integer"))),
        }
    }

    /// An integer, or a text: COSE has labels' values that may be either.
    pub fn int_or_text(&mut self) -> Result<Result<i64, &'a str>, Malformed> {
        let mut ahead = self.at;
        if head(self.bytes, &mut ahead)?.major == 3 { self.text().map(Err) } else { self.int().map(Ok) }
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        let at = self.at;
        match self.major(7, "true or false")? {
            20 => Ok(false),
            21 => Ok(true),
            _ => Err(Malformed::new(at, Kind::Simple)),
        }
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.major(2, "a byte string")?;
        self.take(length)
    }

    pub fn array_bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let at = self.at;
        self.bytes()?.try_into().map_err(|_| Malformed::value(at, "byte string length"))
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let at = self.at;
        let length = self.major(3, "a text string")?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed::new(at, Kind::Utf8))
    }

    /// The number of items of an array, which the caller then reads.
    pub fn array(&mut self) -> Result<usize, Malformed> {
        let at = self.at;
        let length = self.major(4, "an array")?;
        self.fits(at, length)
    }

    /// The number of pairs of a map, which the caller then reads.
    pub fn map(&mut self) -> Result<usize, Malformed> {
        let at = self.at;
        let length = self.major(5, "a map")?;
        self.fits(at, length)
    }

    pub fn tag(&mut self) -> Result<u64, Malformed> {
        self.major(6, "a tag")
    }

    /// One value of a type of ours.
    pub fn value<T: Decode>(&mut self) -> Result<T, Malformed> {
        T::decode(self)
    }

    fn fits(&self, at: usize, length: u64) -> Result<usize, Malformed> {
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.len() - self.at => Ok(length),
            _ => Err(Malformed::new(at, Kind::Truncated)),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = self.fits(self.at, length)?;
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }
}
