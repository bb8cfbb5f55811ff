//! What no owner alone sees: a project whose flags are spread over several of them.
//!
//! A clearing house adds up what receipts count (spec/06-metering.md), and tells the owners concerned. It knows counts by category,
//! never a text.

use comity_wire::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Alarm, Counted, Limits, Why};
use crate::category::Category;
use crate::linear::Band;

/// A project's flags of one category within 24 hours, over all owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Of what.
    pub category: Category,
    /// How many, what is above the bound at one owner left out.
    pub count: u64,
    /// How many were allowed at one owner.
    pub bound: u64,
    /// How far above.
    pub band: Band,
}

/// What a house tells an owner of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// Of what.
    pub category: Category,
    /// There were at least so many.
    pub count: u64,
    /// How many were allowed.
    pub bound: u64,
    /// How far above.
    pub band: Band,
    /// Until when it is news.
    pub until: Timestamp,
}

impl Advice {
    /// As an alarm of this owner's own, while it is news.
    #[must_use]
    pub fn alarm(&self, now: Timestamp) -> Option<Alarm> {
        let Self { category, count, bound, band, until } = *self;
        (now < until).then_some(Alarm { why: Why::Spread, counted: Counted::Flags(category), count, bound, band })
    }
}

/// Whether flags of one category, by owner, are above the bound together. What is above it at one owner is that owner's own alarm and
/// counts here up to the bound alone; and without the owner who has most there must be half a bound left: nobody is accused on one
/// owner's word.
#[must_use]
pub fn spread(limits: &Limits, category: Category, purposes: &[&str], by_owner: &[u64]) -> Option<Spread> {
    let counted = Counted::Flags(category);
    let limit = limits.of(counted);
    let bound = if limits.expects(purposes, counted) { limit.a_day } else { limit.unexpected_a_day };
    let capped = || by_owner.iter().map(|count| (*count).min(bound));
    let count = capped().fold(0, u64::saturating_add);
    let most = capped().max().unwrap_or(0);
    let is_spread = count > bound && count - most >= bound.div_ceil(2);
    let band = if count > bound.saturating_mul(5) { Band::High } else { Band::Medium };
    is_spread.then_some(Spread { category, count, bound, band })
}

impl Spread {
    /// The count as others may know it: 1, 2, 5, 10, … times the bound.
    #[must_use]
    pub fn at_least(&self) -> u64 {
        let times = self.count / self.bound.max(1);
        let (mut told, mut unit) = (1, 1_u64);
        while unit <= times {
            for step in [1, 2, 5] {
                let candidate = unit.saturating_mul(step);
                if candidate <= times {
                    told = candidate;
                }
            }
            unit = unit.saturating_mul(10);
        }
        told * self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn political(purposes: &[&str], by_owner: &[u64]) -> Option<Spread> {
        spread(&Limits::builtin(), Category::PoliticalPersuasion, purposes, by_owner)
    }

    #[test]
    fn five_hundred_lines_over_three_owners_are_seen_under_biology_and_not_under_political_science() {
        // Each of the owners sees less than its own bound of 200.
        let seen = political(&["biology"], &[167, 167, 166]).expect("together they are too many");
        assert_eq!((seen.count, seen.bound, seen.at_least(), seen.band), (500, 200, 400, Band::Medium));
        assert_eq!(political(&["political_science"], &[167, 167, 166]), None);
        assert_eq!(political(&[], &[167, 167, 166]), Some(seen));
    }

    #[test]
    fn nobody_is_accused_on_one_owners_word() {
        assert_eq!(political(&["biology"], &[1_000_000]), None);
        // What one says beyond its own bound counts for nothing, and a few flags elsewhere do not make it two.
        assert_eq!(political(&["biology"], &[1_000_000, 99]), None);
        assert!(political(&["biology"], &[1_000_000, 100]).is_some_and(|seen| seen.count == 300));
        assert_eq!(political(&["biology"], &[100, 100]), None, "the bound itself is allowed");
        assert!(political(&["biology"], &[101, 100]).is_some());
        assert_eq!(political(&["biology"], &[]), None);
    }

    #[test]
    fn what_others_hear_is_a_step_and_not_the_count() {
        let told = |times: u64| {
            Spread { category: Category::Cbrn, count: 10 * times + 9, bound: 10, band: Band::Medium }.at_least()
        };
        let steps = [1, 2, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100, 1_234].map(told);
        assert_eq!(steps, [10, 20, 20, 50, 50, 100, 100, 200, 200, 500, 500, 1_000, 10_000]);
    }

    #[test]
    fn advice_is_an_alarm_until_it_is_old() {
        let until = Timestamp(100);
        let advice = Advice { category: Category::Cbrn, count: 20, bound: 10, band: Band::High, until };
        let alarm = advice.alarm(Timestamp(99)).expect("it is news");
        assert_eq!((alarm.why, alarm.count, alarm.counted), (Why::Spread, 20, Counted::Flags(Category::Cbrn)));
        assert_eq!(advice.alarm(until), None);
    }
}
