//! A test that may be looked at after each answer: bets against "no more often than the baseline said".
//!
//! If an honest answer goes beyond level g with probability at most u, the factor 1 + λ·(beyond/u − 1) has a mean of at most
//! 1, whatever came before. Such factors make a detector of change after Shiryaev and Roberts (an e-detector):
//! R ← (R + 1) · factor, started anew with each answer, so that it does not matter when a model was swapped. While the
//! bounds hold, the mean of R never exceeds the number of answers; so R reaches A within n of them with a probability of at
//! most n / A, and that is where [`Promise`] gets its A from. Nothing is assumed about how answers are distributed, nor about
//! when somebody looks. Several bets at once (each level, four sizes) are averaged: it is not known beforehand how another
//! model will show.

use serde::{Deserialize, Serialize};

use crate::baseline::LEVELS;

/// How often a false alarm may be raised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// False alarms of one test of one model in a year, at most.
    pub a_year: f64,
    /// Answers of one model in a day that this is reckoned with; more of them and the promise is weaker in proportion.
    pub answers_a_day: f64,
}

impl Promise {
    /// Where R is an alarm.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        (self.answers_a_day * 365.0 / self.a_year).max(1.0)
    }
}

impl Default for Promise {
    /// One false alarm of a test in a hundred model-years.
    fn default() -> Self {
        Self { a_year: 0.01, answers_a_day: 200.0 }
    }
}

/// Sizes of bets: the part of what is at stake.
const STAKES: [f64; 4] = [0.08, 0.25, 0.55, 0.9];
/// R is not counted beyond this.
const R_MAX: f64 = 1e200;

/// What a bet on one bound is multiplied with.
fn factor(bound: f64, stake: f64, is_beyond: bool) -> f64 {
    let beyond = if is_beyond { 1.0 / bound } else { 0.0 };
    1.0 + stake * (beyond - 1.0)
}

/// How fast the best bet on one bound grows for each answer, in nats, where this part of the answers goes beyond it.
fn growth(bound: f64, part: f64) -> f64 {
    let log = |stake| part * factor(bound, stake, true).ln() + (1.0 - part) * factor(bound, stake, false).ln();
    STAKES.into_iter().map(log).fold(0.0, f64::max)
}

/// A bound that bets can be laid against.
fn clamped(bound: f64) -> f64 {
    bound.clamp(1e-6, 1.0)
}

/// The same bets, begun with 1 and never anew, over answers that are all of one model: of `of`, so many went beyond each bound.
/// The order does not matter, nor when somebody looks: while the bounds hold it reaches A with a probability of at most 1 / A
/// (Ville).
pub(crate) fn evidence(bounds: &[f64], beyond: &[u32], of: u32) -> f64 {
    let bet = |(bound, beyond): (&f64, &u32)| {
        let (bound, beyond, within) = (clamped(*bound), f64::from(*beyond), f64::from(of.saturating_sub(*beyond)));
        STAKES.into_iter().map(move |stake| {
            let log = beyond * factor(bound, stake, true).ln() + within * factor(bound, stake, false).ln();
            log.exp().min(R_MAX)
        })
    };
    let bets = bounds.iter().zip(beyond).flat_map(bet);
    bets.sum::<f64>() / (bounds.len() * STAKES.len()).max(1) as f64
}

/// The smallest part of `of` answers beyond the best of these bounds with which [`evidence`] is expected to reach A, in whole
/// hundredths, where no more than `reach` of them can go beyond each; `None` where that is not enough.
pub(crate) fn found_from(bounds: &[f64], reach: &[f64], of: u32, a: f64) -> Option<f64> {
    let goal = (a * (bounds.len() * STAKES.len()) as f64).ln();
    let is_found = |part: f64| {
        let mut all = bounds.iter().zip(reach);
        all.any(|(bound, reach)| part <= *reach && f64::from(of) * growth(clamped(*bound), part) >= goal)
    };
    (1..=100).map(|part| f64::from(part) / 100.0).find(|part| is_found(*part))
}

/// The test for one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// u of each level.
    beyond: Vec<f64>,
    /// R of each bet: level by level, size by size.
    bets: Vec<f64>,
    answers: u64,
}

impl Detector {
    /// Against these bounds, one for each level. A bound of 1 can never be passed, and is no bet.
    #[must_use]
    pub fn new(beyond: &[f64]) -> Self {
        let beyond: Vec<f64> = beyond.iter().map(|bound| clamped(*bound)).collect();
        Self { bets: vec![0.0; beyond.len() * STAKES.len()], beyond, answers: 0 }
    }

    /// Counts an answer that went beyond so many levels; gives the mean of R.
    pub fn observe(&mut self, levels: usize) -> f64 {
        self.answers += 1;
        for (level, bound) in self.beyond.iter().enumerate() {
            for (size, stake) in STAKES.iter().enumerate() {
                let bet = &mut self.bets[level * STAKES.len() + size];
                *bet = ((*bet + 1.0) * factor(*bound, *stake, levels > level)).min(R_MAX);
            }
        }
        self.value()
    }

    /// The mean of R.
    #[must_use]
    pub fn value(&self) -> f64 {
        let bets = self.bets.len().max(1);
        self.bets.iter().sum::<f64>() / bets as f64
    }

    /// Answers counted.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Begins anew, after an alarm was dealt with.
    pub fn reset(&mut self) {
        self.bets.iter_mut().for_each(|bet| *bet = 0.0);
    }

    /// About how many answers it takes to find a model of which these parts go beyond each level; `None` where it would not
    /// be found. For an operator who asks whether a budget is enough.
    #[must_use]
    pub fn delay(&self, beyond: [f64; LEVELS], promise: &Promise) -> Option<f64> {
        let goal = (promise.threshold() * self.bets.len() as f64).ln();
        let best = self.beyond.iter().zip(beyond).map(|(bound, part)| growth(*bound, part)).fold(0.0, f64::max);
        (best > 0.0).then(|| goal / best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chance, Secret};

    fn levels(chance: &mut Chance, beyond: [f64; LEVELS]) -> usize {
        let draw = chance.unit();
        beyond.iter().filter(|part| draw < **part).count()
    }

    /// Without beginning anew the mean stays 1 at the edge, so that A is reached at most once in A.
    #[test]
    fn evidence_that_is_not_begun_anew_keeps_a_mean_of_one() {
        let (bounds, runs, answers) = ([0.4, 0.2, 0.1], 40_000, 3);
        let (mut sum, mut alarms) = (0.0, 0);
        for run in 0..runs {
            let mut chance = Secret::new([6; 32]).chance("edge", run);
            let mut beyond = [0; 3];
            for _ in 0..answers {
                let passed = levels(&mut chance, bounds);
                beyond[..passed].iter_mut().for_each(|count| *count += 1);
            }
            let evidence = evidence(&bounds, &beyond, answers);
            sum += evidence;
            alarms += u64::from(evidence >= 10.0);
        }
        let (mean, share) = (sum / runs as f64, alarms as f64 / runs as f64);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert!(share > 0.0 && share <= 0.1, "{share}");
    }

    #[test]
    fn what_would_be_found_is_found_from_there_on() {
        let (bounds, of, a) = ([0.1, 0.1, 0.1], 128, 40_000.0);
        let part = found_from(&bounds, &[1.0; 3], of, a).unwrap();
        let at = |part: f64| evidence(&bounds, &[(part * f64::from(of)).round() as u32, 0, 0], of);
        assert!(at(part + 0.01) >= a && at(part - 0.05) < a, "{part}: {} {}", at(part + 0.01), at(part - 0.05));
        assert_eq!(found_from(&[0.9], &[1.0], 60, a), None, "so noisy a server hides any model");
        assert_eq!(found_from(&bounds, &[0.1; 3], of, a), None, "nothing goes so far");
    }

    /// At the edge of its bounds R has the mean that the promise rests on: the number of answers.
    #[test]
    fn the_mean_of_r_at_the_edge_is_the_number_of_answers() {
        let (bounds, runs, answers) = ([0.4, 0.2, 0.1], 40_000, 8);
        let mut sum = 0.0;
        for run in 0..runs {
            let mut chance = Secret::new([7; 32]).chance("edge", run);
            let mut detector = Detector::new(&bounds);
            sum += (0..answers).map(|_| detector.observe(levels(&mut chance, bounds))).last().unwrap();
        }
        let mean = sum / runs as f64;
        assert!((mean - f64::from(answers)).abs() < 0.5, "{mean}");
    }

    #[test]
    fn alarms_are_no_more_than_promised_and_delays_about_as_said() {
        let bounds = [0.3, 0.15, 0.08];
        // A promise that is broken often enough to be counted: P(alarm within n) ≤ n/A.
        let promise = Promise { a_year: 36.5, answers_a_day: 60.0 };
        let (a, n, runs) = (promise.threshold(), 60, 4_000_u32);
        let mut alarms = 0;
        for run in 0..runs {
            let mut chance = Secret::new([8; 32]).chance("honest", u64::from(run));
            let mut detector = Detector::new(&bounds);
            alarms += u32::from((0..n).any(|_| detector.observe(levels(&mut chance, bounds)) >= a));
        }
        let share = f64::from(alarms) / f64::from(runs);
        println!("promised at most {}, seen {share}", f64::from(n) / a);
        assert!(share <= f64::from(n) / a && share > 0.0, "{share}");

        let (promise, swapped) = (Promise::default(), [0.9, 0.8, 0.6]);
        let said = Detector::new(&bounds).delay(swapped, &promise).unwrap();
        let mut sum = 0;
        for run in 0..500 {
            let mut chance = Secret::new([9; 32]).chance("swapped", run);
            let mut detector = Detector::new(&bounds);
            sum += 1
                + (0..500).take_while(|_| detector.observe(levels(&mut chance, swapped)) < promise.threshold()).count();
        }
        let seen = sum as f64 / 500.0;
        println!("said {said:.1} answers, seen {seen:.1}");
        assert!((0.6..1.4).contains(&(seen / said)), "said {said}, seen {seen}");
        assert_eq!(Detector::new(&bounds).delay([0.0; 3], &promise), None);
    }
}
