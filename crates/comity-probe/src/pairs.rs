//! Whether announced auditors, who ask what anybody can list, are treated as everybody else is.
//!
//! Both sides ask prompts that were made by one rule, the one from a published seed, the other from the secret. A prompt is
//! never asked by both: an owner who remembers what auditors asked would know who else is one. So the first answer of one
//! side is laid beside the first of the other for the same kind of work, the second beside the second, and so on. If a door
//! treats both alike, the two could be exchanged; of the pairs that differ each side is then the better one half of the time,
//! whatever the model can do; three in five are allowed for hours that differ. A sign test, by bets, that may be looked at after each pair.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detector::Detector;
use crate::pool::Kind;

/// How often one of two sides that are treated alike may be the better one: more than half, since auditors and others work
/// at other hours, and a busy server differs more.
const UNEVEN: f64 = 0.6;
/// Answers of one side that wait for the other; above that the oldest is left out.
const WAITING_MAX: usize = 64;

/// Pairs, and their signs in both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    better: Detector,
    worse: Detector,
    waiting: [Waiting; Kind::ALL.len()],
    counts: Signs,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Waiting {
    announced: VecDeque<u8>,
    blind: VecDeque<u8>,
}

/// How pairs came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signs {
    /// The announced side was better off.
    pub better: u64,
    /// It was worse off.
    pub worse: u64,
    /// All, those that were alike too.
    pub pairs: u64,
}

impl Default for Pairs {
    fn default() -> Self {
        Self {
            better: Detector::new(&[UNEVEN]),
            worse: Detector::new(&[UNEVEN]),
            waiting: Default::default(),
            counts: Signs::default(),
        }
    }
}

impl Pairs {
    /// Takes one side's answer, as a rank of which 0 is the best; gives the larger value of the two directions.
    pub fn observe(&mut self, kind: Kind, announced: bool, rank: u8) -> f64 {
        let at = Kind::ALL.iter().position(|other| *other == kind).expect("all kinds are in the list");
        let waiting = &mut self.waiting[at];
        let side = if announced { &mut waiting.announced } else { &mut waiting.blind };
        if side.len() == WAITING_MAX {
            side.pop_front();
        }
        side.push_back(rank);
        if waiting.announced.is_empty() || waiting.blind.is_empty() {
            return self.value();
        }
        let (Some(announced), Some(blind)) = (waiting.announced.pop_front(), waiting.blind.pop_front()) else {
            return self.value();
        };
        self.counts.pairs += 1;
        if announced != blind {
            let better = announced < blind;
            self.counts.better += u64::from(better);
            self.counts.worse += u64::from(!better);
            self.better.observe(usize::from(better));
            self.worse.observe(usize::from(!better));
        }
        self.value()
    }

    /// The larger value of the two directions, which share the promise.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.better.value().max(self.worse.value()) / 2.0
    }

    /// How pairs came out.
    #[must_use]
    pub fn signs(&self) -> Signs {
        self.counts
    }

    /// Begins anew: what was found before counts for no later finding.
    pub fn reset(&mut self) {
        self.better.reset();
        self.worse.reset();
        self.counts = Signs::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_before_counts_for_no_later_finding() {
        let mut pairs = Pairs::default();
        let pair = |pairs: &mut Pairs| {
            pairs.observe(Kind::Chat, true, 0);
            pairs.observe(Kind::Chat, false, 1);
        };
        (0..9).for_each(|_| pair(&mut pairs));
        assert_eq!(pairs.signs(), Signs { better: 9, worse: 0, pairs: 9 });
        pairs.reset();
        pair(&mut pairs);
        assert_eq!(pairs.signs(), Signs { better: 1, worse: 0, pairs: 1 });
    }
}
