//! What follows from an attempt: pure.

use comity_wire::Timestamp;

use super::limit;

/// Seconds to the second attempt; each further wait is twice as long.
const FIRST_S: u64 = 300;
/// The longest wait.
const LONGEST_S: u64 = 12 * 3_600;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver has it not, or did not say so; it may later.
    Failed {
        /// What went wrong.
        why: String,
        /// Seconds that the receiver asked to be left alone for.
        wait_s: Option<u64>,
    },
    /// The receiver will never take this one.
    Refused {
        /// What it said.
        why: String,
    },
    /// The receiver wants nothing of us any more.
    Gone {
        /// What it said.
        why: String,
    },
}

/// What to do with the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do.
    Done,
    /// Try it again.
    Again {
        /// When.
        at: Timestamp,
        /// What went wrong.
        why: String,
    },
    /// Leave it, and tell the operator.
    GiveUp {
        /// What went wrong.
        why: String,
    },
}

/// The step after an attempt at `now` on a row written at `since`, of which `attempts` failed before. `dice` is random, and
/// spreads what failed together over ±25 % of the wait.
pub fn step(outcome: Outcome, attempts: u32, since: Timestamp, now: Timestamp, dice: u8) -> Step {
    let (why, wait_s) = match outcome {
        Outcome::Delivered => return Step::Done,
        Outcome::Refused { why } | Outcome::Gone { why } => return Step::GiveUp { why },
        Outcome::Failed { why, wait_s } => (why, wait_s),
    };
    let usual = FIRST_S.saturating_mul(1 << attempts.min(16)).min(LONGEST_S);
    let spread = usual * (768 + 2 * u64::from(dice)) / 1_024;
    let at = now.plus(spread.max(wait_s.unwrap_or(0).min(LONGEST_S)));
    // Not one attempt more for a row that waits for longer than anybody should.
    if at.since(since) > limit::GIVE_UP_S {
        return Step::GiveUp { why };
    }
    Step::Again { at, why }
}
