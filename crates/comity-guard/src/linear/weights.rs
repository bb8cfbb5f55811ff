//! The bytes of trained weights.
//!
//! `comity-linear/1\n`, buckets (log2, u8), categories (u8), digest of the data (32 bytes); for each category its number (u8)
//! and bias, scale, medium, high (f32); a bit for each bucket that has a row; the rows, one i8 for each category; SHA-256 of
//! all before. Numbers are little-endian. Each set of weights has one form of bytes.

use comity_wire::Digest;

use super::{Head, LANES, Weights};
use crate::category::Category;
use crate::limit;

const MAGIC: &[u8; 16] = b"comity-linear/1\n";

/// Why bytes are not trained weights.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadWeights {
    /// Too few, too many, or not the right ones at the beginning.
    #[error("not trained weights: {what}")]
    Form {
        /// What is wrong.
        what: &'static str,
    },
    /// The digest at the end is not that of the bytes.
    #[error("the weights were changed: their digest does not fit")]
    Changed,
    /// Trained for other categories than this binary has.
    #[error("the weights are for category number {found} where this version has {expected}; train them again")]
    Categories {
        /// What stands there.
        found: u8,
        /// What should.
        expected: u8,
    },
}

impl Weights {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([self.buckets_log2, Category::COUNT as u8]);
        bytes.extend(self.data.as_bytes());
        for (category, head) in Category::ALL.iter().zip(&self.heads) {
            bytes.push(category.number());
            for number in [head.bias, head.scale, head.medium, head.high] {
                bytes.extend(number.to_le_bytes());
            }
        }
        let has_row = |row: &[i8; LANES]| row.iter().any(|weight| *weight != 0);
        bytes.extend(
            self.rows.chunks(8).map(|rows| {
                rows.iter().enumerate().fold(0_u8, |bits, (at, row)| bits | (u8::from(has_row(row)) << at))
            }),
        );
        for row in self.rows.iter().filter(|row| has_row(row)) {
            bytes.extend(row[..Category::COUNT].iter().map(|weight| weight.cast_unsigned()));
        }
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BadWeights> {
        if bytes.len() > limit::WEIGHTS_BYTES_MAX {
            return Err(form("more bytes than are read"));
        }
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or(form("too short"))?;
        let mut rest = body.strip_prefix(MAGIC).ok_or(form("they begin otherwise"))?;
        if Digest::of(body).as_bytes() != digest {
            return Err(BadWeights::Changed);
        }
        let [buckets_log2, categories] = take::<2>(&mut rest)?;
        if !(8..=limit::BUCKETS_LOG2_MAX).contains(&buckets_log2) {
            return Err(form("too few or too many buckets"));
        }
        if usize::from(categories) != Category::COUNT {
            return Err(BadWeights::Categories { found: categories, expected: Category::COUNT as u8 });
        }
        let data = Digest(take::<32>(&mut rest)?);
        let mut heads = [Head { bias: 0.0, scale: 0.0, medium: 0.0, high: 0.0 }; Category::COUNT];
        for (category, head) in Category::ALL.into_iter().zip(&mut heads) {
            let [number] = take::<1>(&mut rest)?;
            if number != category.number() {
                return Err(BadWeights::Categories { found: number, expected: category.number() });
            }
            let mut float = || take::<4>(&mut rest).map(f32::from_le_bytes);
            *head = Head { bias: float()?, scale: float()?, medium: float()?, high: float()? };
            if ![head.bias, head.scale, head.medium, head.high].iter().all(|number| number.is_finite()) {
                return Err(form("a number that is not finite"));
            }
            if head.high < head.medium {
                return Err(form("the high band begins below the medium one"));
            }
        }
        let buckets = 1_usize << buckets_log2;
        let (bits, mut rest) = rest.split_at_checked(buckets / 8).ok_or(form("too short"))?;
        let mut rows = vec![[0_i8; LANES]; buckets];
        for (at, row) in rows.iter_mut().enumerate() {
            if bits[at / 8] >> (at % 8) & 1 == 1 {
                let weights = take::<{ Category::COUNT }>(&mut rest)?;
                for (weight, byte) in row.iter_mut().zip(weights) {
                    *weight = byte.cast_signed();
                }
                if weights == [0; Category::COUNT] {
                    return Err(form("a row of nothing"));
                }
            }
        }
        if !rest.is_empty() {
            return Err(form("bytes behind the last row"));
        }
        Ok(Self { buckets_log2, data, heads, rows })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadWeights> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(form("too short"))?;
    *rest = left;
    Ok(*taken)
}

const fn form(what: &'static str) -> BadWeights {
    BadWeights::Form { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::Classifier;

    fn small() -> Weights {
        let head = Head { bias: -2.0, scale: 0.5, medium: 0.0, high: 1.0 };
        let mut rows = vec![[0; LANES]; 256];
        rows[3] = [1, -2, 3, 0, -128, 0, 0, 0];
        rows[255] = [0, 0, 0, 0, 127, 0, 0, 0];
        Weights { buckets_log2: 8, data: Digest::of(b"data"), heads: [head; Category::COUNT], rows }
    }

    #[test]
    fn weights_come_back_as_they_were_written() {
        let bytes = small().write();
        assert_eq!(Weights::read(&bytes), Ok(small()));
        assert_eq!(Classifier::builtin().to_bytes(), include_bytes!("../../weights/linear.bin"));
    }

    #[test]
    fn changed_or_misshapen_bytes_are_refused() {
        let bytes = small().write();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Weights::read(&changed).is_err(), "byte {at}");
        }
        let resealed = |body: &[u8]| {
            let mut bytes = body.to_vec();
            bytes.extend(Digest::of(body).as_bytes());
            Weights::read(&bytes)
        };
        let body = &bytes[..bytes.len() - 32];
        assert!(resealed(body).is_ok());
        for short in 0..body.len() {
            assert!(resealed(&body[..short]).is_err(), "{short} bytes");
        }
        assert_eq!(resealed(&[body, &[0]].concat()), Err(form("bytes behind the last row")));
        let mut other = body.to_vec();
        other[50] = 9;
        assert_eq!(resealed(&other), Err(BadWeights::Categories { found: 9, expected: 1 }));
        let mut nan = body.to_vec();
        nan[51..55].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(resealed(&nan), Err(form("a number that is not finite")));
    }
}
