//! Time: whole seconds since 1970-01-01T00:00:00Z. Cores take it as an argument; only shells read a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cbor::{Decode, Encode, Malformed, Reader, Writer};

/// Seconds since the epoch (RFC 8392 NumericDate, integers only), 0 ≤ t < 2⁵³.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// How far two clocks may differ: ±60 s on `created`, `nbf`, `exp` (spec/05-request.md §4).
pub const SKEW_S: u64 = 60;
pub const DAY_S: u64 = 86_400;
const MAX: u64 = 1 << 53;

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "integer", "format": "int64", "minimum": 0, "maximum": MAX - 1,
            "description": "Whole seconds since 1970-01-01T00:00:00Z.",
        })
    }
}

impl Timestamp {
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to here, 0 where it lies ahead.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn seconds(self) -> u64 {
        self.0
    }
}

/// RFC 3339, UTC (civil date by the days-from-civil rule of the proleptic Gregorian calendar).
/// A text that is not `YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date: YYYY-MM-DD is expected")]
pub struct NotADate;

impl Timestamp {
    /// The first moment of a day in UTC, written `YYYY-MM-DD`, from 1970 on.
    ///
    /// # Errors
    /// [`NotADate`].
    pub fn of_date(text: &str) -> Result<Self, NotADate> {
        let mut parts = text.split('-');
        let mut part = |length: usize| -> Result<u64, NotADate> {
            let digits = parts.next().filter(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(NotADate)
        };
        let (year, month, day) = (part(4)?, part(2)?, part(2)?);
        if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(NotADate);
        }
        let (year_of_march, month_index) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, year_of_era) = (year_of_march / 400, year_of_march % 400);
        let day_of_year = (153 * month_index + 2) / 5 + day - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
        let found = Self(days * DAY_S);
        // The thirty-first of a short month would be a day of the next.
        if found.to_string().starts_with(text) { Ok(found) } else { Err(NotADate) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / DAY_S, self.0 % DAY_S);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

impl Encode for Timestamp {
    fn encode(&self, w: &mut Writer) {
        w.uint(self.0);
    }
}

impl Decode for Timestamp {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        let value = r.uint()?;
        if value < MAX { Ok(Self(value)) } else { Err(Malformed::value(at, "time")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_rfc_3339() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(951_782_400).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Timestamp(1_795_420_800).to_string(), "2026-11-23T08:00:00Z");
    }

    #[test]
    fn dates_are_the_days_that_they_name() {
        for day in (0..200 * 366).step_by(13) {
            let at = Timestamp(day * DAY_S);
            assert_eq!(Timestamp::of_date(&at.to_string()[..10]), Ok(at));
        }
        assert_eq!(Timestamp::of_date("2028-02-29").unwrap().to_string(), "2028-02-29T00:00:00Z");
        for text in [
            "2027-02-29",
            "2027-04-31",
            "1969-12-31",
            "2027-13-01",
            "2027-1-01",
            "27-01-01",
            "2027-01-01T",
            "2027-01-+1",
            "",
        ] {
            assert_eq!(Timestamp::of_date(text), Err(NotADate), "{text}");
        }
    }
}
