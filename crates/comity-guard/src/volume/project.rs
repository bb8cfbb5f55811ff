//! What is remembered of one project: counts by hour and by day, prints of its newest prompts, tokens it biased.

use std::collections::VecDeque;

use comity_wire::Timestamp;
use comity_wire::time::DAY_S;

use super::limits::Limits;
use super::prints::Print;
use super::{Alarm, Counted, Why, hour};
use crate::linear::Band;

/// Hours that are kept one by one: a day, and the one that runs.
const HOURS_MAX: usize = 25;
/// Whole days of history.
const DAYS_MAX: u32 = 28;
/// Days of history without which nothing is unusual.
const DAYS_MIN: usize = 7;
/// Prints of prompts that a new one is compared with.
const PRINTS_MAX: usize = 128;
/// Skeletons that are counted at once.
const SKELETONS_MAX: usize = 64;
/// Prompts of a skeleton before another one of it is a template's.
const SKELETON_SEEN_MIN: u32 = 8;
/// Bits of the set of biased tokens; two tokens that share one count once.
const BIAS_BITS: usize = 8_192;

/// Robust z-scores from which on a day is unusual, and surely so.
const Z_MEDIUM: f64 = 6.0;
const Z_HIGH: f64 = 12.0;
/// Least flags for which it is worth to say so.
const UNUSUAL_MIN: u64 = 20;
/// An hour is a burst above so many times the moving average, and this many more.
const BURST_TIMES: f64 = 10.0;
const BURST_MORE: f64 = 50.0;
/// Weight of the newest hour in the moving average: half of it is from the last day or so.
const EWMA_NEWEST: f64 = 1.0 / 32.0;

#[derive(Debug, Clone)]
pub(super) struct Project {
    first: Timestamp,
    seen: Timestamp,
    restored: Option<Timestamp>,
    counters: [Counter; Counted::COUNT],
    prints: VecDeque<Print>,
    skeletons: Vec<Skeleton>,
    biased: Option<Box<[u64; BIAS_BITS / 64]>>,
    biased_day: u64,
    /// Day on which a bound was told of.
    told: Vec<(Why, Counted, u64)>,
}

#[derive(Debug, Clone, Default)]
struct Counter {
    /// Hour and count, ascending, none of them 0.
    hours: VecDeque<(u32, u64)>,
    /// Day and count of whole days that left the hours, ascending.
    days: VecDeque<(u32, u64)>,
    /// Moving average by hour, as of `ewma_at`.
    ewma: f64,
    ewma_at: u32,
}

#[derive(Debug, Clone, Copy)]
struct Skeleton {
    hash: u64,
    seen: u32,
    last: u64,
}

/// What a prompt is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Alike {
    pub(super) templated: bool,
    pub(super) near_duplicate: bool,
}

impl Project {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            first: now,
            seen: now,
            restored: None,
            counters: Default::default(),
            prints: VecDeque::new(),
            skeletons: Vec::new(),
            biased: None,
            biased_day: 0,
            told: Vec::new(),
        }
    }

    pub(super) fn saw(&mut self, now: Timestamp) {
        self.seen = self.seen.max(now);
    }

    pub(super) fn seen_at(&self) -> Timestamp {
        self.seen
    }

    pub(super) fn restored(&self) -> Option<Timestamp> {
        self.restored
    }

    pub(super) fn restore(&mut self, rows: impl Iterator<Item = (Counted, u32, u64)>, now: Timestamp) {
        self.restored = Some(now);
        let mut rows: Vec<_> = rows.filter(|(_, at, _)| *at <= hour(now)).collect();
        rows.sort_unstable_by_key(|(counted, at, _)| (*at, *counted));
        self.counters = Default::default();
        if let Some((_, at, _)) = rows.first() {
            self.first = self.first.min(Timestamp(u64::from(*at) * 3_600));
        }
        for (counted, at, count) in rows {
            self.counters[counted.index()].add(at, count);
        }
    }

    pub(super) fn count(&mut self, counted: Counted, count: u32, now: Timestamp) {
        self.counters[counted.index()].add(hour(now), u64::from(count));
    }

    pub(super) fn day(&self, counted: Counted, now: Timestamp) -> u64 {
        self.counters[counted.index()].last_day(hour(now))
    }

    /// Compares a prompt with those before, and remembers it.
    pub(super) fn alike(&mut self, print: Print, now: Timestamp) -> Alike {
        let near_duplicate = self.prints.iter().any(|before| print.is_near(*before));
        let is_again = self.prints.iter().any(|before| before.exact == print.exact);
        if !is_again {
            if self.prints.len() == PRINTS_MAX {
                self.prints.pop_front();
            }
            self.prints.push_back(print);
        }
        let templated = !is_again && print.skeleton != 0 && self.skeleton(print.skeleton, now) > SKELETON_SEEN_MIN;
        Alike { templated, near_duplicate }
    }

    /// How many prompts of a skeleton there were in a row of days, this one with them.
    fn skeleton(&mut self, hash: u64, now: Timestamp) -> u32 {
        let now = now.seconds();
        self.skeletons.retain(|skeleton| now.saturating_sub(skeleton.last) < DAY_S);
        if let Some(known) = self.skeletons.iter_mut().find(|skeleton| skeleton.hash == hash) {
            known.seen = known.seen.saturating_add(1);
            known.last = now;
            return known.seen;
        }
        if self.skeletons.len() == SKELETONS_MAX {
            // The rarest goes, of those the oldest: a flood of new ones does not drive out a series.
            let rarest = (0..SKELETONS_MAX).min_by_key(|at| (self.skeletons[*at].seen, self.skeletons[*at].last));
            self.skeletons.swap_remove(rarest.expect("there are some"));
        }
        self.skeletons.push(Skeleton { hash, seen: 1, last: now });
        1
    }

    /// Tokens of these that had no bias yet that day.
    pub(super) fn bias(&mut self, tokens: &[u32], now: Timestamp) -> u32 {
        if tokens.is_empty() {
            return 0;
        }
        let day = now.seconds() / DAY_S;
        if day != self.biased_day {
            self.biased = None;
            self.biased_day = day;
        }
        let bits = self.biased.get_or_insert_with(|| Box::new([0; BIAS_BITS / 64]));
        let mut fresh = 0;
        for token in tokens {
            let bit = (u64::from(*token).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51) as usize % BIAS_BITS;
            let (word, mask) = (bit / 64, 1_u64 << (bit % 64));
            fresh += u32::from(bits[word] & mask == 0);
            bits[word] |= mask;
        }
        fresh
    }

    /// Whether this is the first word of it today.
    pub(super) fn tell(&mut self, why: Why, counted: Counted, now: Timestamp) -> bool {
        let day = now.seconds() / DAY_S;
        self.told.retain(|(_, _, told)| *told == day);
        if self.told.iter().any(|(told_why, told_of, _)| (*told_why, *told_of) == (why, counted)) {
            return false;
        }
        self.told.push((why, counted, day));
        true
    }

    pub(super) fn alarms(&self, counted: Counted, limits: &Limits, purposes: &[&str], now: Timestamp) -> Vec<Alarm> {
        let (counter, limit) = (&self.counters[counted.index()], limits.of(counted));
        let count = counter.last_day(hour(now));
        let mut alarms = Vec::new();
        if count == 0 {
            // The hour that runs is a part of the day, and each bound is one on what there was in them.
            return alarms;
        }
        let mut alarm = |why, count, bound, surely| {
            let band = if surely { Band::High } else { Band::Medium };
            alarms.push(Alarm { why, counted, count, bound, band });
        };
        if count > limit.a_day {
            alarm(Why::Daily, count, limit.a_day, true);
        }
        let expected = limits.expects(purposes, counted);
        if !expected && count > limit.unexpected_a_day {
            alarm(Why::Purpose, count, limit.unexpected_a_day, count > 5 * limit.unexpected_a_day);
        }
        if let Some((z, usual)) = self.unusual(counter, count, now).filter(|(z, _)| *z >= Z_MEDIUM && !expected) {
            alarm(Why::Unusual, count, usual, z >= Z_HIGH);
        }
        let (in_hour, average) = counter.hour(hour(now));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an average of counts")]
        let usual = (average * BURST_TIMES + BURST_MORE) as u64;
        let is_settled = now.since(self.first) >= DAY_S;
        if is_settled && in_hour > usual && !expected {
            alarm(Why::Burst, in_hour, usual, false);
        }
        alarms
    }

    /// How far this day is from the days before, in robust standard deviations, and what those had in the middle.
    #[allow(clippy::cast_precision_loss, reason = "counts of a day")]
    fn unusual(&self, counter: &Counter, count: u64, now: Timestamp) -> Option<(f64, u64)> {
        if count < UNUSUAL_MIN {
            return None;
        }
        let today = hour(now) / 24;
        let first = (hour(self.first) / 24 + 1).max(today.saturating_sub(DAYS_MAX));
        let mut days: Vec<u64> = (first..today).map(|day| counter.of_day(day)).collect();
        if days.len() < DAYS_MIN {
            return None;
        }
        let median = middle(&mut days);
        let mut apart: Vec<u64> = days.iter().map(|day| day.abs_diff(median)).collect();
        // Counts of rare things vary by the root of their mean, however alike the last days were.
        let spread = (middle(&mut apart) as f64 * 1.4826).max((median as f64).sqrt()).max(1.0);
        Some(((count as f64 - median as f64) / spread, median))
    }
}

impl Counter {
    /// Hours come in order; one that comes late counts in its own where that is kept.
    fn add(&mut self, at: u32, count: u64) {
        self.age(at);
        let place = self.hours.partition_point(|(hour, _)| *hour < at);
        match self.hours.get_mut(place) {
            Some((hour, known)) if *hour == at => *known = known.saturating_add(count),
            _ => self.hours.insert(place, (at, count)),
        }
        while self.hours.len() > HOURS_MAX {
            self.retire();
        }
        let newest = self.hours.back().map_or(at, |(hour, _)| *hour);
        while self.hours.front().is_some_and(|(hour, _)| hour.saturating_add(24) < newest) {
            self.retire();
        }
    }

    /// The oldest hour becomes a part of its day.
    fn retire(&mut self) {
        let Some((hour, count)) = self.hours.pop_front() else { return };
        let day = hour / 24;
        match self.days.back_mut() {
            Some((last, known)) if *last == day => *known = known.saturating_add(count),
            _ => self.days.push_back((day, count)),
        }
        while self.days.len() > DAYS_MAX as usize + 1
            || self.days.front().is_some_and(|(first, _)| first.saturating_add(DAYS_MAX) < day)
        {
            self.days.pop_front();
        }
    }

    /// Brings the moving average up to the hour before `at`.
    fn age(&mut self, at: u32) {
        let average = self.average(at);
        if at > self.ewma_at {
            self.ewma = average;
            self.ewma_at = at;
        }
    }

    /// The moving average of the hours before `at`.
    #[allow(clippy::cast_precision_loss, reason = "counts of an hour")]
    fn average(&self, at: u32) -> f64 {
        if at <= self.ewma_at {
            return self.ewma;
        }
        // The hour that ended last, then hours in which there was nothing.
        let of = |hour: u32| self.hours.iter().find(|(known, _)| *known == hour).map_or(0, |(_, count)| *count) as f64;
        let ended = self.ewma + (of(self.ewma_at) - self.ewma) * EWMA_NEWEST;
        let empty = i32::try_from((at - self.ewma_at - 1).min(10_000)).expect("bounded");
        ended * (1.0 - EWMA_NEWEST).powi(empty)
    }

    fn hour(&self, now: u32) -> (u64, f64) {
        let count = self.hours.iter().find(|(hour, _)| *hour == now).map_or(0, |(_, count)| *count);
        (count, self.average(now))
    }

    /// The hour that runs and the 23 before.
    fn last_day(&self, now: u32) -> u64 {
        let within = self.hours.iter().filter(|(hour, _)| *hour <= now && hour.saturating_add(24) > now);
        within.map(|(_, count)| *count).fold(0, u64::saturating_add)
    }

    fn of_day(&self, day: u32) -> u64 {
        let hours = self.hours.iter().filter(|(hour, _)| hour / 24 == day).map(|(_, count)| *count);
        let days = self.days.iter().filter(|(known, _)| *known == day).map(|(_, count)| *count);
        hours.chain(days).fold(0, u64::saturating_add)
    }
}

fn middle(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}
