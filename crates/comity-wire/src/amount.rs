//! Credits: integer micro-credits, checked always (spec/06-metering.md §1).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cbor::{Decode, Encode, Malformed, Reader, Writer};

/// Micro-credits (µcr), 0 ≤ a ≤ 2⁶³−1. One credit is 1,000,000 µcr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Amount(i64);

/// An exact charge in 10⁻⁶ µcr: what units × price gives before it is rounded (spec/06-metering.md §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exact(pub u128);

/// An amount that is negative, or a sum that left the range of an [`Amount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range: micro-credits are whole numbers from 0 to 9223372036854775807")]
pub struct OutOfRange;

impl schemars::JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX,
            "description": "Micro-credits: 1,000,000 are one credit.",
        })
    }
}

impl Amount {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_ucr(ucr: u32) -> Self {
        Self(ucr as i64)
    }

    /// # Errors
    /// [`OutOfRange`] where `ucr` is negative.
    pub const fn new(ucr: i64) -> Result<Self, OutOfRange> {
        if ucr < 0 { Err(OutOfRange) } else { Ok(Self(ucr)) }
    }

    pub const fn credits(whole: u32) -> Self {
        Self(whole as i64 * 1_000_000)
    }

    pub const fn ucr(self) -> i64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `None` where the result would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).filter(|difference| *difference >= 0).map(Self)
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Sum without overflow; `None` past the range.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

impl Exact {
    pub const ZERO: Self = Self(0);
    const PER_UCR: u128 = 1_000_000;

    pub fn from_amount(amount: Amount) -> Self {
        Self(u128::from(amount.0.unsigned_abs()) * Self::PER_UCR)
    }

    /// ⌈x / 10⁶⌉ µcr; `None` past the range of an amount.
    pub fn ceil(self) -> Option<Amount> {
        i64::try_from(self.0.div_ceil(Self::PER_UCR)).ok().map(Amount)
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl TryFrom<i64> for Amount {
    type Error = OutOfRange;
    fn try_from(ucr: i64) -> Result<Self, OutOfRange> {
        Self::new(ucr)
    }
}

impl From<Amount> for i64 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

/// `1.250000 credits` reads `1.25 cr`; below a thousandth of a credit `37 µcr`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 != 0 && self.0 < 1_000 {
            return write!(f, "{} µcr", self.0);
        }
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if part == 0 {
            return write!(f, "{whole} cr");
        }
        let digits = format!("{part:06}");
        write!(f, "{whole}.{} cr", digits.trim_end_matches('0'))
    }
}

impl Encode for Amount {
    fn encode(&self, w: &mut Writer) {
        w.uint(self.0.unsigned_abs());
    }
}

impl Decode for Amount {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        let value = r.uint()?;
        i64::try_from(value).map(Self).map_err(|_| Malformed::value(at, "amount"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_in_credits() {
        let text = |ucr| Amount::new(ucr).unwrap().to_string();
        assert_eq!(text(0), "0 cr");
        assert_eq!(text(37), "37 µcr");
        assert_eq!(text(1_250_000), "1.25 cr");
        assert_eq!(text(2_000), "0.002 cr");
    }

    #[test]
    fn the_smallest_part_rounds_up() {
        assert_eq!(Exact(1).ceil(), Some(Amount::from_ucr(1)));
        assert_eq!(Exact(1_000_000).ceil(), Some(Amount::from_ucr(1)));
        assert_eq!(Exact(0).ceil(), Some(Amount::ZERO));
        assert_eq!(Exact(u128::MAX).ceil(), None);
        assert_eq!(Amount::from_ucr(1).checked_sub(Amount::from_ucr(2)), None);
    }
}
