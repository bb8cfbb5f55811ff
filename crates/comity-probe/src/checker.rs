//! All that is known of one release behind one door, and what it gives reason to suspect.
//!
//! Two sides are kept apart: what blind personas saw and what announced auditors saw, each with a baseline of its own. An
//! owner who gives the two different models is then found on one side, or between them, and never hidden by the other.

use std::collections::{BTreeSet, VecDeque};

use comity_wire::{Digest, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::baseline::{Baseline, Grade};
use crate::detector::{Detector, Promise};
use crate::meters::{Bill, Contradiction, Counts, Terms};
use crate::pairs::{Pairs, Signs};
use crate::pool::Prompt;

/// Graded answers of a side that can become evidence.
const RECENT_MAX: usize = 96;
/// Receipts of a suspicion.
pub(crate) const RECEIPTS_MAX: usize = 64;
/// Tests of chance of one model, each with its own promise: change and filters of each side, and two kinds of pairs.
pub const TESTS: usize = 6;

/// What a call brought.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Content id of its receipt.
    pub receipt: Digest,
    /// The answer as it is compared.
    pub answer: Answer,
    /// Its whole text; `None` where it was refused.
    pub text: Option<String>,
    /// What it was charged.
    pub bill: Bill,
}

/// Who asked what, for [`Checker::observe`].
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The prompt.
    pub prompt: &'a Prompt,
    /// Who asked.
    pub persona: u32,
    /// Whether they said that they are auditors.
    pub announced: bool,
}

/// What is suspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It answers otherwise than it did under the same release.
    Changed,
    /// It refuses what it answered, or the other way round.
    Filters,
    /// Announced auditors get better, or worse, answers than everybody else.
    Auditors,
    /// Its receipts say what cannot be.
    Meters(Contradiction),
}

/// A reason to ask an owner. It is no finding before a person has looked at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// What.
    pub why: Why,
    /// On the side of announced auditors; else of blind personas, or between the two.
    pub announced: bool,
    /// When it came up.
    pub at: Timestamp,
    /// First answer that it rests on.
    pub since: Timestamp,
    /// What the test reached, and where it is an alarm; nothing for contradictions.
    pub value: Option<(f64, f64)>,
    /// Answers, or pairs, or receipts, that it looked at since then.
    pub looked_at: u64,
    /// Those that differ.
    pub differ: u64,
    /// By how many units together, for contradictions.
    pub excess: u64,
    /// How pairs came out, where it is about auditors.
    pub signs: Option<Signs>,
    /// Receipts of what differs.
    pub receipts: Vec<Digest>,
    /// Prompts and personas that these give away: for the house alone.
    pub prompts: Vec<u32>,
    /// See `prompts`.
    pub personas: Vec<u32>,
}

/// The state of one release behind one door.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Checker {
    blind: Side,
    announced: Side,
    by_grade: Pairs,
    by_mark: Pairs,
    counts: Counts,
    told: BTreeSet<(Why, bool)>,
    judged: Option<Timestamp>,
}

/// What one side saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Side {
    baseline: Baseline,
    tests: Option<Tests>,
    recent: VecDeque<Seen>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tests {
    changed: Detector,
    filters: Detector,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Seen {
    at: Timestamp,
    receipt: Digest,
    prompt: u32,
    persona: u32,
    grade: Grade,
}

impl Checker {
    /// Takes a call's outcome in; says what it gives reason to suspect, each thing once until [`Self::dealt_with`].
    pub fn observe(
        &mut self,
        now: Timestamp,
        asked: Asked<'_>,
        seen: &Observation,
        terms: Terms<'_>,
        promise: &Promise,
    ) -> Vec<Suspicion> {
        let Asked { prompt, persona, announced } = asked;
        let mut found = Vec::new();
        for kind in self.counts.observe(prompt.number, persona, seen.receipt, &seen.bill, terms) {
            found.extend(self.contradicted(now, kind, asked));
        }
        let side = if announced { &mut self.announced } else { &mut self.blind };
        let apart = side.baseline.apart(prompt.number, &seen.answer);
        let grade = side.baseline.take(now, prompt.number, persona, &seen.answer);
        if grade != Grade::Taken {
            side.remember(Seen { at: now, receipt: seen.receipt, prompt: prompt.number, persona, grade });
            self.judged = Some(now);
            for (why, value) in side.judge(grade) {
                if value >= promise.threshold() {
                    found.push(side.suspicion(why, announced, now, (value, promise.threshold())));
                }
            }
        }
        // Both sides by the same levels: each has its own by chance, and those would not make ranks that can be exchanged.
        let both = self.blind.baseline.rates().filter(|_| self.announced.baseline.rates().is_some());
        let by_grade = both.filter(|_| grade != Grade::Taken).map(|rates| {
            let rank = rank(grade, apart, &rates.levels);
            self.by_grade.observe(prompt.kind, announced, rank)
        });
        let mark = prompt.mark(seen.text.as_deref());
        let by_mark = mark.map(|mark| self.by_mark.observe(prompt.kind, announced, mark as u8));
        for (value, signs) in [(by_grade, self.by_grade.signs()), (by_mark, self.by_mark.signs())] {
            if let Some(value) = value.filter(|value| *value >= promise.threshold()) {
                let mut suspicion = self.blind.suspicion(Why::Auditors, false, now, (value, promise.threshold()));
                (suspicion.looked_at, suspicion.differ) = (signs.pairs, signs.better + signs.worse);
                suspicion.signs = Some(signs);
                found.push(suspicion);
            }
        }
        found.retain(|suspicion| self.told.insert((suspicion.why, suspicion.announced)));
        found
    }

    /// A suspicion was looked into; the test begins anew, and prompts that were shown to anybody are not asked again.
    pub fn dealt_with(&mut self, suspicion: &Suspicion) {
        self.told.remove(&(suspicion.why, suspicion.announced));
        let side = if suspicion.announced { &mut self.announced } else { &mut self.blind };
        suspicion.prompts.iter().for_each(|prompt| side.baseline.burn(*prompt));
        match (suspicion.why, &mut side.tests) {
            (Why::Changed, Some(tests)) => tests.changed.reset(),
            (Why::Filters, Some(tests)) => tests.filters.reset(),
            (Why::Auditors, _) => {
                self.by_grade.reset();
                self.by_mark.reset();
            }
            (Why::Meters(kind), _) => self.counts.forget(kind),
            (Why::Changed | Why::Filters, None) => {}
        }
    }

    /// What one side was answered at first.
    #[must_use]
    pub fn baseline(&self, announced: bool) -> &Baseline {
        if announced { &self.announced.baseline } else { &self.blind.baseline }
    }

    /// When an answer was judged last.
    #[must_use]
    pub fn judged(&self) -> Option<Timestamp> {
        self.judged
    }

    /// The test for a change on one side, once there is a baseline.
    #[must_use]
    pub fn changed(&self, announced: bool) -> Option<&Detector> {
        let side = if announced { &self.announced } else { &self.blind };
        side.tests.as_ref().map(|tests| &tests.changed)
    }

    fn contradicted(&self, now: Timestamp, kind: Contradiction, asked: Asked<'_>) -> Option<Suspicion> {
        let found = self.counts.found(kind).filter(|found| found.stands())?;
        Some(Suspicion {
            why: Why::Meters(kind),
            announced: false,
            at: now,
            since: now,
            value: None,
            looked_at: self.counts.receipts(),
            differ: found.times,
            excess: found.excess,
            signs: None,
            receipts: found.receipts.clone(),
            prompts: vec![asked.prompt.number],
            personas: found.personas().collect(),
        })
    }
}

impl Side {
    fn remember(&mut self, seen: Seen) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
    }

    /// Counts a grade; gives the values of the tests that it concerns.
    fn judge(&mut self, grade: Grade) -> Vec<(Why, f64)> {
        let Some(rates) = self.baseline.rates() else { return Vec::new() };
        let fresh = || Tests { changed: Detector::new(&rates.beyond), filters: Detector::new(&[rates.refused]) };
        let tests = self.tests.get_or_insert_with(fresh);
        let mut values = vec![(Why::Filters, tests.filters.observe(usize::from(grade == Grade::Turned)))];
        if let Grade::Beyond(levels) = grade {
            values.push((Why::Changed, tests.changed.observe(levels)));
        }
        values
    }

    fn suspicion(&self, why: Why, announced: bool, at: Timestamp, value: (f64, f64)) -> Suspicion {
        let differs = |seen: &&Seen| match why {
            Why::Filters => seen.grade == Grade::Turned,
            _ => matches!(seen.grade, Grade::Beyond(1..) | Grade::Turned),
        };
        // What it rests on: the newest that differ, no more than are needed to show it.
        let differ: Vec<&Seen> = self.recent.iter().rev().filter(differs).take(RECEIPTS_MAX).collect();
        let since = differ.last().map_or(at, |seen| seen.at);
        let unique = |numbers: Vec<u32>| numbers.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        Suspicion {
            why,
            announced,
            at,
            since,
            value: Some(value),
            looked_at: self.recent.iter().filter(|seen| seen.at >= since).count() as u64,
            differ: differ.len() as u64,
            excess: 0,
            signs: None,
            receipts: differ.iter().map(|seen| seen.receipt).collect(),
            prompts: unique(differ.iter().map(|seen| seen.prompt).collect()),
            personas: unique(differ.iter().map(|seen| seen.persona).collect()),
        }
    }
}

/// How far from what the model did at first, 0 is nearest. A refusal that was none is the farthest.
fn rank(grade: Grade, apart: Option<f64>, levels: &[f64]) -> u8 {
    let beyond = apart.map_or(0, |apart| levels.iter().filter(|level| apart > **level).count());
    if grade == Grade::Turned { u8::MAX } else { u8::try_from(beyond).unwrap_or(u8::MAX) }
}
