//! When projects ask: sessions that arrive at random with the rhythm of a day and a week, some calls in each.
//!
//! The same generator makes the traffic of personas and, in tests, that of honest projects; its table is to be fitted to the
//! counts of the house's receipts, never to texts. Times are drawn first and prompts put into them after, so nothing of
//! what the house wants to know shapes when it asks.

use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::pool::Kind;

/// How one project works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Habit {
    /// Sessions of a working day, on average.
    pub sessions_a_day: f64,
    /// Calls of a session, on average.
    pub calls_a_session: f64,
    /// Median seconds between two calls of a session.
    pub gap_s: f64,
    /// Where its people live: hours ahead of UTC.
    pub offset_h: i8,
    /// Share of a working day's sessions that a day of a weekend has.
    pub weekend: f64,
    /// How much of each kind of work it has.
    pub kinds: [f64; 3],
    /// Share of calls that stream.
    pub streams: f64,
    /// Share of calls that are asked once more, shortly after.
    pub repeats: f64,
}

/// One call of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// When.
    pub at: Timestamp,
    /// Which session of the day.
    pub session: u32,
    /// What kind of work.
    pub kind: Kind,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether it asks what the call before it asked.
    pub repeats: bool,
}

/// How likely work is in each hour of a local day.
const HOURS: [f64; 24] = [
    0.15, 0.10, 0.05, 0.05, 0.05, 0.10, 0.25, 0.5, 0.9, 1.0, 1.0, 0.95, 0.75, 0.9, 1.0, 1.0, 0.95, 0.8, 0.55, 0.45,
    0.5, 0.5, 0.4, 0.25,
];
/// Sessions and calls that a day can have at most.
const SESSIONS_MAX: u32 = 64;
const CALLS_MAX: usize = 40;

impl Habit {
    /// Some project of the house, as they differ.
    #[must_use]
    pub fn draw(chance: &mut Chance) -> Self {
        // Each project has one kind of work above all.
        let mut kinds = [0.1, 0.1, 0.1];
        kinds[chance.below(3)] += 0.7;
        Self {
            sessions_a_day: chance.lognormal(2.0, 0.5).clamp(0.5, 8.0),
            calls_a_session: chance.lognormal(4.0, 0.4).clamp(1.5, 12.0),
            gap_s: chance.lognormal(40.0, 0.6).clamp(5.0, 600.0),
            offset_h: *chance.of(&[-8, -7, -6, -5, -5, 0, 1, 1, 2, 9]),
            weekend: 0.3 + 0.7 * chance.unit(),
            kinds,
            streams: *chance.of(&[0.0, 0.1, 0.5, 0.95]),
            repeats: 0.01 + 0.05 * chance.unit(),
        }
    }

    /// Calls that it makes on an average day of a week.
    #[must_use]
    pub fn calls_a_day(&self) -> f64 {
        self.sessions_a_day * self.calls_a_session * (5.0 + 2.0 * self.weekend) / 7.0
    }

    /// The calls of a day (days since 1970), in order of time. A session belongs to the day in which it begins.
    #[must_use]
    pub fn day(&self, day: u64, chance: &mut Chance) -> Vec<Slot> {
        let start = Timestamp(day.saturating_mul(DAY_S));
        // A Poisson process at its highest rate, thinned to the rate of the hour (Lewis and Shedler).
        let sum: f64 = HOURS.iter().sum();
        let busiest = self.sessions_a_day / sum / 3_600.0;
        let (mut slots, mut at, mut session) = (Vec::new(), 0.0, 0);
        while session < SESSIONS_MAX && busiest > 0.0 {
            at += chance.exponential(1.0 / busiest);
            #[allow(clippy::cast_precision_loss, reason = "seconds of a day")]
            if at >= DAY_S as f64 {
                break;
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a day")]
            let began = start.plus(at as u64);
            if chance.happens(self.activity(began)) {
                self.session(began, session, chance, &mut slots);
                session += 1;
            }
        }
        slots.sort_by_key(|slot| slot.at);
        slots
    }

    /// How much goes on at a time, 1 at most.
    fn activity(&self, at: Timestamp) -> f64 {
        let local = at.seconds().saturating_add_signed(i64::from(self.offset_h) * 3_600);
        // 1970-01-01 was a Thursday.
        let weekend = (local / DAY_S + 3) % 7 >= 5;
        HOURS[(local / 3_600 % 24) as usize] * if weekend { self.weekend } else { 1.0 }
    }

    fn session(&self, began: Timestamp, session: u32, chance: &mut Chance, slots: &mut Vec<Slot>) {
        let kind = Kind::ALL[chance.weighted(&self.kinds)];
        let mut at = began;
        for call in 0..CALLS_MAX {
            let repeats = call > 0 && chance.happens(self.repeats);
            let stream = chance.happens(self.streams);
            slots.push(Slot { at, session, kind, stream, repeats });
            // Geometric, so that a session of n calls goes on as one of one did.
            if chance.happens(1.0 / self.calls_a_session) {
                break;
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let gap = chance.lognormal(self.gap_s, 0.8).clamp(1.0, 3_600.0) as u64;
            at = at.plus(gap);
        }
    }
}
