//! The house's money for probes: so much a day, and no more than its lot has.

use std::collections::BTreeMap;

use comity_wire::Amount;
use serde::{Deserialize, Serialize};

/// Days that are remembered: one that runs, and those whose calls may still be open.
const DAYS_MAX: usize = 4;

/// What was spent and what is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    day_max: Amount,
    lot: Amount,
    days: BTreeMap<u64, Day>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    spent: Amount,
    held: Amount,
}

/// No money is left for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a probe may cost {asked}, and {left} are left for the day: it waits for tomorrow, or for a larger lot")]
pub struct Spent {
    /// What it may cost.
    pub asked: Amount,
    /// What is left.
    pub left: Amount,
}

impl Purse {
    /// So much a day, out of a lot that has so much.
    #[must_use]
    pub fn new(day_max: Amount, lot: Amount) -> Self {
        Self { day_max, lot, days: BTreeMap::new() }
    }

    /// What a day has left, that which is held left out.
    #[must_use]
    pub fn left(&self, day: u64) -> Amount {
        let today = self.days.get(&day).copied().unwrap_or_default();
        let of_day = self.day_max.saturating_sub(today.spent.saturating_add(today.held));
        let held = self.days.values().fold(Amount::ZERO, |sum, day| sum.saturating_add(day.held));
        of_day.min(self.lot.saturating_sub(held))
    }

    /// Holds what a call may cost at most.
    ///
    /// # Errors
    /// [`Spent`]: the day, or the lot, has less.
    pub fn hold(&mut self, day: u64, worst: Amount) -> Result<(), Spent> {
        let left = self.left(day);
        if worst > left {
            return Err(Spent { asked: worst, left });
        }
        let today = self.days.entry(day).or_default();
        today.held = today.held.saturating_add(worst);
        while self.days.len() > DAYS_MAX && self.days.first_key_value().is_some_and(|(_, day)| day.held.is_zero()) {
            self.days.pop_first();
        }
        Ok(())
    }

    /// A call that was held on this day ended, and cost so much.
    ///
    /// # Panics
    /// When it cost more than was held: then a receipt above its signed maximum was taken for good.
    pub fn settle(&mut self, day: u64, worst: Amount, charge: Amount) {
        assert!(charge <= worst, "a receipt of {charge} above the signed maximum of {worst}");
        let today = self.days.entry(day).or_default();
        today.held = today.held.checked_sub(worst).expect("what is settled was held");
        today.spent = today.spent.saturating_add(charge);
        self.lot = self.lot.checked_sub(charge).expect("the lot has what was held of it");
    }

    /// What a day cost.
    #[must_use]
    pub fn spent(&self, day: u64) -> Amount {
        self.days.get(&day).map_or(Amount::ZERO, |day| day.spent)
    }

    /// What the lot has left, that which is held with it.
    #[must_use]
    pub fn lot(&self) -> Amount {
        self.lot
    }

    /// Another sum for each day, and what the lot was given besides.
    pub fn renew(&mut self, day_max: Amount, more: Amount) {
        self.day_max = day_max;
        self.lot = self.lot.saturating_add(more);
    }
}
