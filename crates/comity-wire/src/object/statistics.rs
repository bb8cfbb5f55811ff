//! What an owner publishes of its cases (spec/11-access.md): counts of one quarter, in which nobody can be found.

use super::{KIB, ascending, require};
use crate::cbor::{List, Malformed, Text, record};
use crate::cose::{Kind, Object};
use crate::id::OrgId;
use crate::time::Timestamp;

record! {
    /// Of one quarter that is over. Signed by the feed writer, once.
    pub struct Statistics {
        1 => org: OrgId,
        /// `2026-q4`, by UTC.
        2 => period: Text<7>,
        3 => issued_at: Timestamp,
        /// Ascending by category; a category of which no count can be shown is left out.
        4 => rows: List<CaseCounts, 64>,
    }
}

record! {
    /// What happened within the quarter, whenever the case was opened. A count below [`Statistics::LEAST`], also 0, is left out.
    pub struct CaseCounts {
        1 => category: Text<256>,
        2 => opened: Option<u64>,
        /// Decided against the project.
        3 => upheld: Option<u64>,
        /// Decided for it, at once.
        4 => cleared: Option<u64>,
        5 => appealed: Option<u64>,
        /// The appeal was right.
        6 => overturned: Option<u64>,
        /// The owner did not decide in time.
        7 => lapsed: Option<u64>,
    }
}

impl Statistics {
    /// The smallest count that is shown.
    pub const LEAST: u64 = 5;

    /// How the entry of a feed calls it.
    pub fn name(&self) -> String {
        format!("cases-{}", self.period)
    }
}

impl CaseCounts {
    fn counts(&self) -> [Option<u64>; 6] {
        [self.opened, self.upheld, self.cleared, self.appealed, self.overturned, self.lapsed]
    }
}

impl Object for Statistics {
    const KIND: Kind = Kind { name: "statistics", bytes_max: 24 * KIB, items_max: 2_048 };

    fn validate(&self) -> Result<(), Malformed> {
        let period = self.period.as_str().as_bytes();
        let is_quarter = matches!(period, [y, y2, y3, y4, b'-', b'q', b'1'..=b'4']
            if [y, y2, y3, y4].iter().all(|digit| digit.is_ascii_digit()));
        require(is_quarter, "statistics: a period is YYYY-qN")?;
        require(ascending(&self.rows, |row| row.category.clone()), "order of categories")?;
        let shown = self.rows.iter().all(|row| row.counts().iter().any(Option::is_some));
        require(shown, "statistics: a category without a count")?;
        let is_small = |count: &Option<u64>| count.is_some_and(|count| count < Self::LEAST);
        require(!self.rows.iter().any(|row| row.counts().iter().any(is_small)), "statistics: a count below 5")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::Encode as _;

    fn row(category: String) -> CaseCounts {
        CaseCounts {
            category: Text::new(category).expect("a category"),
            opened: Some(u64::MAX >> 1),
            upheld: Some(5),
            cleared: Some(5),
            appealed: Some(5),
            overturned: Some(5),
            lapsed: Some(5),
        }
    }

    fn of(period: &str, rows: Vec<CaseCounts>) -> Statistics {
        let period = Text::new(period).expect("a period");
        Statistics {
            org: OrgId([1; 16]),
            period,
            issued_at: Timestamp(1_800_000_000),
            rows: List::new(rows).expect("rows"),
        }
    }

    #[test]
    fn what_tells_of_few_is_malformed() {
        assert_eq!(of("2026-q4", vec![row("a".into()), row("b".into())]).validate(), Ok(()));
        assert_eq!(of("2026-q4", Vec::new()).validate(), Ok(()));
        let small = CaseCounts { upheld: Some(4), ..row("a".into()) };
        let none = CaseCounts {
            opened: None,
            upheld: None,
            cleared: None,
            appealed: None,
            overturned: None,
            lapsed: None,
            ..row("a".into())
        };
        for bad in [
            of("2026-q5", Vec::new()),
            of("2026-Q4", Vec::new()),
            of("26-q4", Vec::new()),
            of("2026-q4", vec![small]),
            of("2026-q4", vec![none]),
            of("2026-q4", vec![row("b".into()), row("a".into())]),
            of("2026-q4", vec![row("a".into()), row("a".into())]),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_one_has_room() {
        let rows = (0..64).map(|number| row(format!("{number:02}{}", "x".repeat(254)))).collect();
        let bytes = of("2026-q4", rows).to_cbor();
        assert!(bytes.len() + 256 <= Statistics::KIND.bytes_max, "{}", bytes.len());
    }
}
