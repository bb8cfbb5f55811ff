//! What a model answered at first, and how often an honest server does not repeat itself.
//!
//! Batching makes greedy answers differ now and then, so a baseline measures that. The first answer to a prompt is the
//! reference. The second says how far apart is worth telling apart (the levels). The third says how often an honest answer
//! goes beyond each level, and only the third, since levels that were chosen with an answer flatter it. A later answer of the
//! same server lies from the reference as the third did, so what was counted there holds for it: at most so often, by the
//! exact bound of Clopper and Pearson, and [`Slack::tolerance`] times more for hours with other load.

use std::collections::BTreeMap;

use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Choice, DIVERGED, distance};

/// Prompts that were answered three times, before anything is judged.
pub(crate) const PROMPTS_MIN: usize = 120;
/// Prompts of a side that are kept at once; where all are in use, no new one is begun.
pub(crate) const PROMPTS_MAX: usize = 512;
/// Answers to a prompt after which it is not asked again.
pub(crate) const ANSWERS_MAX: u32 = 24;
/// How long a persona waits before it asks a prompt again, as projects run their questions again.
pub(crate) const REST_S: u64 = 2 * DAY_S;
/// Levels that distances are sorted into.
pub(crate) const LEVELS: usize = 3;
/// What a baseline that is taken over days leaves room for.
const DAYS: Slack = Slack { wrong: 0.001, wider: 1.0, tolerance: 1.5 };
/// Distances below these are no difference: rounding of what is reported, kernels that add in another order.
const FLOORS: [f64; LEVELS] = [0.004, 0.02, 0.25];
/// Which part of the second answers lies within a level.
const QUANTILES: [f64; LEVELS] = [0.8, 0.95, 1.0];

/// What is known of one model behind one door.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    known: BTreeMap<u32, Known>,
    second: Vec<f64>,
    third: Vec<f64>,
    /// Third answers of which one of two was a refusal and one was not, and all of them.
    refusals: (u32, u32),
    rates: Option<Rates>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    reference: Answer,
    answers: u32,
    /// Who asked it, and when last.
    asked_by: BTreeMap<u32, Timestamp>,
    /// Shown to somebody as evidence: never asked again.
    burnt: bool,
}

/// Levels, and how often an honest answer goes beyond them at most. Written once, then it holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Distances from which on a level is passed.
    pub levels: [f64; LEVELS],
    /// Bounds of the share of honest answers beyond each.
    pub beyond: [f64; LEVELS],
    /// Bound of the share that is refused and was not, or the other way round.
    pub refused: f64,
    /// Answers that these rest on.
    pub answers: u32,
}

/// What is left to an honest server beside what it was seen to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slack {
    /// Chance that a bound is wrong, all bounds together.
    pub(crate) wrong: f64,
    /// How many times as far apart as was seen its answers may lie, as far as that is a matter of probabilities: where texts
    /// part they part, however busy it is.
    pub(crate) wider: f64,
    /// How many times as often as its bound says it may differ.
    pub(crate) tolerance: f64,
}

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// It was taken into the baseline.
    Taken,
    /// How many levels it went beyond, from 0 on.
    Beyond(usize),
    /// Refused, and answered at first; or the other way round.
    Turned,
    /// Refused as it was at first.
    Refused,
}

impl Baseline {
    /// Takes an answer in, or grades it by what is known.
    pub fn take(&mut self, now: Timestamp, prompt: u32, persona: u32, answer: &Answer) -> Grade {
        let Some(known) = self.known.get_mut(&prompt) else {
            if self.known.len() >= PROMPTS_MAX {
                self.known.retain(|_, known| known.answers < ANSWERS_MAX && !known.burnt);
            }
            if self.known.len() < PROMPTS_MAX {
                let reference = answer.clone().bounded();
                let known = Known { reference, answers: 1, asked_by: BTreeMap::from([(persona, now)]), burnt: false };
                self.known.insert(prompt, known);
            }
            return Grade::Taken;
        };
        known.answers = known.answers.saturating_add(1);
        known.asked_by.insert(persona, now);
        let answer = answer.clone().bounded();
        let apart = distance(&known.reference, &answer);
        let turned = known.reference.choice != answer.choice;
        match (known.answers, self.rates) {
            (2, None) => self.second.extend(apart),
            (3, None) => {
                self.third.extend(apart);
                self.refusals = (self.refusals.0 + u32::from(turned), self.refusals.1 + 1);
                self.rates = (self.third.len() >= PROMPTS_MIN).then(|| self.fix());
            }
            // One more of a prompt whose third answer is in, while others still lack theirs: nothing rests on it.
            (_, None) => {}
            (_, Some(rates)) => return rates.grade(apart, turned, answer.choice),
        }
        Grade::Taken
    }

    /// How far an answer lies from the first one; `None` where there is none, or one of the two is a refusal.
    #[must_use]
    pub fn apart(&self, prompt: u32, answer: &Answer) -> Option<f64> {
        self.known.get(&prompt).and_then(|known| distance(&known.reference, answer))
    }

    /// What it came to, once there were enough answers.
    #[must_use]
    pub fn rates(&self) -> Option<Rates> {
        self.rates
    }

    /// How often a prompt was answered.
    #[must_use]
    pub fn answers(&self, prompt: u32) -> u32 {
        self.known.get(&prompt).map_or(0, |known| known.answers)
    }

    /// Prompts that were answered before and may be asked now, with how often they were answered; by a persona that is to stay
    /// blind, only those that it has not asked for some days.
    pub fn prompts(&self, now: Timestamp, blind: Option<u32>) -> impl Iterator<Item = (u32, u32)> + '_ {
        let rests = move |known: &Known| {
            let asked = blind.and_then(|persona| known.asked_by.get(&persona));
            asked.is_none_or(|asked| now.since(*asked) >= REST_S)
        };
        let free = move |known: &Known| !known.burnt && known.answers < ANSWERS_MAX && rests(known);
        self.known.iter().filter(move |(_, known)| free(known)).map(|(number, known)| (*number, known.answers))
    }

    /// How many prompts are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing was asked yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Never asks it again: somebody was shown that it is a probe.
    pub fn burn(&mut self, prompt: u32) {
        if let Some(known) = self.known.get_mut(&prompt) {
            known.burnt = true;
        }
    }

    fn fix(&mut self) -> Rates {
        let (second, third) = (std::mem::take(&mut self.second), std::mem::take(&mut self.third));
        Rates::new(second, &third, self.refusals, DAYS)
    }
}

impl Rates {
    /// From how far second and third answers lie from the first ones, and how many of how many third ones were a refusal where
    /// the first was none, or the other way round.
    pub(crate) fn new(mut second: Vec<f64>, third: &[f64], refusals: (u32, u32), slack: Slack) -> Self {
        second.sort_by(f64::total_cmp);
        let mut levels = [0.0; LEVELS];
        for (at, level) in levels.iter_mut().enumerate() {
            let seen = quantile(&second, QUANTILES[at]).max(FLOORS[at]);
            *level = (slack.wider * seen).min(seen.max(DIVERGED));
        }
        let each = slack.wrong / (LEVELS + 1) as f64;
        let bound = |seen, of| (slack.tolerance * at_most(seen, of, each)).min(1.0);
        let answers = third.len() as u32;
        let beyond = levels.map(|level| bound(third.iter().filter(|apart| **apart > level).count() as u32, answers));
        Self { levels, beyond, refused: bound(refusals.0, refusals.1), answers }
    }

    pub(crate) fn grade(&self, apart: Option<f64>, turned: bool, choice: Choice) -> Grade {
        match apart {
            Some(apart) => Grade::Beyond(self.levels.iter().filter(|level| apart > **level).count()),
            None if turned => Grade::Turned,
            None if choice == Choice::Refused => Grade::Refused,
            None => Grade::Beyond(0),
        }
    }
}

/// The value below which this part of a sorted list lies.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[at]
}

/// The highest probability of which `seen` of `of` would not surprise: P(at most `seen`) = `wrong` (Clopper and Pearson).
#[must_use]
pub(crate) fn at_most(seen: u32, of: u32, wrong: f64) -> f64 {
    if of == 0 || seen >= of {
        return 1.0;
    }
    let (mut low, mut high) = (f64::from(seen) / f64::from(of), 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most_seen(seen, of, middle) > wrong { low = middle } else { high = middle }
    }
    high
}

/// P(Binomial(of, p) ≤ seen), summed from the largest term of the logarithm down.
fn at_most_seen(seen: u32, of: u32, p: f64) -> f64 {
    let (mut log, mut sum) = (f64::from(of) * (1.0 - p).ln(), 0.0);
    for k in 0..=seen {
        sum += log.exp();
        log += (f64::from(of - k) / f64::from(k + 1)).ln() + p.ln() - (1.0 - p).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_clopper_and_pearson() {
        // 0 of n: 1 − wrong^(1/n); the others from tables of the exact one-sided interval at 95 %.
        assert!((at_most(0, 60, 0.05) - 0.048_70).abs() < 1e-4, "{}", at_most(0, 60, 0.05));
        assert!((at_most(1, 20, 0.05) - 0.216_11).abs() < 1e-4, "{}", at_most(1, 20, 0.05));
        assert!((at_most(5, 10, 0.05) - 0.777_56).abs() < 1e-4, "{}", at_most(5, 10, 0.05));
        assert!((at_most(0, 0, 0.05) - 1.0).abs() < f64::EPSILON && (at_most(9, 9, 0.05) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_server_that_repeats_itself_has_the_floors_and_one_that_does_not_has_more() {
        let mut steady = Baseline::default();
        let mut unsteady = Baseline::default();
        for prompt in 0..PROMPTS_MIN as u32 {
            for round in 0..3 {
                assert!(steady.rates().is_none());
                assert_eq!(steady.take(Timestamp(0), prompt, round, &Answer::of_text("yes")), Grade::Taken);
                let text = if (prompt + round) % 4 == 0 { "no" } else { "yes" };
                unsteady.take(Timestamp(0), prompt, round, &Answer::of_text(text));
            }
        }
        let (steady_rates, unsteady_rates) = (steady.rates().unwrap(), unsteady.rates().unwrap());
        assert_eq!(steady_rates.levels, FLOORS);
        assert!(steady_rates.beyond[2] < 0.12, "{steady_rates:?}");
        assert!(unsteady_rates.levels[2] >= 1.0 && unsteady_rates.beyond[2] < 0.25, "{unsteady_rates:?}");
        assert_eq!(steady.take(Timestamp(0), 0, 9, &Answer::of_text("no")), Grade::Beyond(LEVELS));
        assert_eq!(steady.take(Timestamp(0), 0, 9, &Answer::refusal()), Grade::Turned);
        assert_eq!(steady.take(Timestamp(0), 0, 9, &Answer::of_text("yes")), Grade::Beyond(0));
    }
}
