//! The strict, allocation-free scanner that foreign bytes meet first.

use super::{Malformed, MalformedKind as Kind};

/// What an object of some kind may be at most (spec/01-encoding.md §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bytes_max: usize,
    pub items_max: usize,
    /// A COSE object: tag 18 must come first, and nowhere else.
    pub tagged: bool,
}

/// Containers may nest this deep; the outermost is 1, a byte string starts again.
const DEPTH_MAX: usize = 8;

/// Accepts exactly one item of Comity-CBOR and nothing after it.
///
/// # Errors
/// [`Malformed`], the first fault in reading order; size is looked at before anything else.
pub fn scan(bytes: &[u8], limits: Limits) -> Result<(), Malformed> {
    if bytes.len() > limits.bytes_max {
        return Err(Malformed::new(limits.bytes_max, Kind::TooLarge));
    }
    let mut scanner = Scanner { bytes, at: 0, items: limits.items_max };
    if limits.tagged {
        match bytes.first() {
            Some(0xd2) => scanner.at = 1,
            Some(_) => return Err(Malformed::new(0, Kind::WrongType("tag 18 (COSE_Sign1)"))),
            None => return Err(Malformed::new(0, Kind::Truncated)),
        }
    }
    scanner.item(0)?;
    if scanner.at < bytes.len() {
        return Err(Malformed::new(scanner.at, Kind::Trailing));
    }
    Ok(())
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
}

impl Scanner<'_> {
    fn item(&mut self, depth: usize) -> Result<(), Malformed> {
        let at = self.at;
        self.items = self.items.checked_sub(1).ok_or_else(|| Malformed::new(at, Kind::TooManyItems))?;
        let head = head(self.bytes, &mut self.at)?;
        match head.major {
            0 | 1 => Ok(()),
            2 => self.skip(at, head.value).map(|_| ()),
            3 => {
                let start = self.at;
                let end = self.skip(at, head.value)?;
                std::str::from_utf8(&self.bytes[start..end]).map(|_| ()).map_err(|_| Malformed::new(at, Kind::Utf8))
            }
            4 | 5 if depth == DEPTH_MAX => Err(Malformed::new(at, Kind::TooDeep)),
            4 => {
                for _ in 0..self.count(at, head.value)? {
                    self.item(depth + 1)?;
                }
                Ok(())
            }
            5 => self.map(at, head.value, depth),
            6 => Err(Malformed::new(at, Kind::Tag)),
            _ => match head.value {
                20 | 21 => Ok(()),
                _ => Err(Malformed::new(at, Kind::Simple)),
            },
        }
    }

    fn map(&mut self, at: usize, pairs: u64, depth: usize) -> Result<(), Malformed> {
        let mut previous: Option<(usize, usize)> = None;
        for _ in 0..self.count(at, pairs)? {
            let start = self.at;
            match self.bytes.get(start).map(|byte| byte >> 5) {
                Some(0 | 1) => self.item(depth + 1)?,
                Some(_) => return Err(Malformed::new(start, Kind::KeyType)),
                None => return Err(Malformed::new(start, Kind::Truncated)),
            }
            let key = (start, self.at);
            // Bytewise and strict, which also refuses a key that comes twice.
            if previous.is_some_and(|(a, b)| self.bytes[a..b] >= self.bytes[key.0..key.1]) {
                return Err(Malformed::new(start, Kind::KeyOrder));
            }
            previous = Some(key);
            self.item(depth + 1)?;
        }
        Ok(())
    }

    /// A length that cannot fit in what is left ends here, before anyone allocates for it.
    fn count(&self, at: usize, claimed: u64) -> Result<usize, Malformed> {
        match usize::try_from(claimed) {
            Ok(count) if count <= self.bytes.len() - self.at => Ok(count),
            _ => Err(Malformed::new(at, Kind::Truncated)),
        }
    }

    fn skip(&mut self, at: usize, claimed: u64) -> Result<usize, Malformed> {
        self.at += self.count(at, claimed)?;
        Ok(self.at)
    }
}

pub(super) struct Head {
    pub(super) major: u8,
    pub(super) value: u64,
}

/// Reads one head in its shortest form; integers stay within 63 bits.
pub(super) fn head(bytes: &[u8], at: &mut usize) -> Result<Head, Malformed> {
    let start = *at;
    let fail = |kind| Malformed::new(start, kind);
    let first = *bytes.get(start).ok_or_else(|| fail(Kind::Truncated))?;
    let (major, low) = (first >> 5, first & 31);
    *at += 1;
    if low < 24 {
        return Ok(Head { major, value: u64::from(low) });
    }
    let width = match (major, low) {
        (7, 24) => return Err(fail(Kind::Simple)),
        (7, 25..=27) => return Err(fail(Kind::Float)),
        (_, 24..=27) => 1_usize << (low - 24),
        (_, 31) => return Err(fail(Kind::Indefinite)),
        _ => return Err(fail(Kind::Simple)),
    };
    let tail = bytes.get(*at..*at + width).ok_or_else(|| fail(Kind::Truncated))?;
    let value = tail.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    *at += width;
    let least = match width {
        1 => 24,
        2 => 1 << 8,
        4 => 1 << 16,
        _ => 1 << 32,
    };
    if value < least {
        return Err(fail(Kind::NotShortest));
    }
    if value > i64::MAX.unsigned_abs() && major < 2 {
        return Err(fail(Kind::IntegerRange));
    }
    Ok(Head { major, value })
}
