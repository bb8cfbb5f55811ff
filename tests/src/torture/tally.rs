//! What is counted, by all that run at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Kind;

/// The one object that torture prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Deaths.
    pub cycles: u32,
    /// Receipts, tokens, revocations and publications that somebody was answered with.
    pub acked: u64,
    /// Of these: what is not there afterwards, or was not paid.
    pub lost: u64,
    /// Places of a sequence with two receipts.
    pub doubled: u64,
    /// Credits that were paid without a receipt, or made from nothing.
    pub overspent_ucr: i64,
    /// Refusals that an honest caller must not get.
    pub phantom_refusals: u64,
    /// The house's own audit holds, sums agree, and nothing is in escrow that should not be.
    pub audit_clean: bool,
}

/// The tally of all stories. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tally {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    report: Report,
    /// Named points, and how often a process died there.
    points: BTreeMap<(Kind, &'static str), u32>,
    /// Points that a process was to die at and did not come to.
    missed: Vec<(Kind, &'static str)>,
}

impl Report {
    /// Whether nothing is broken.
    pub const fn holds(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.overspent_ucr == 0 && self.phantom_refusals == 0 && self.audit_clean
    }
}

impl Default for Tally {
    fn default() -> Self {
        let report = Report {
            cycles: 0,
            acked: 0,
            lost: 0,
            doubled: 0,
            overspent_ucr: 0,
            phantom_refusals: 0,
            audit_clean: true,
        };
        Self { inner: Arc::new(Mutex::new(Inner { report, points: BTreeMap::new(), missed: Vec::new() })) }
    }
}

impl Tally {
    pub fn report(&self) -> Report {
        self.lock().report.clone()
    }

    /// Points at which a process died, and how often.
    pub fn covered(&self) -> Vec<String> {
        let told = |((kind, point), count): (&(Kind, &str), &u32)| format!("{} {point} {count}×", kind.name());
        self.lock().points.iter().map(told).collect()
    }

    /// Points of `kinds` at which nothing died.
    pub fn uncovered(&self, kinds: &[Kind]) -> Vec<String> {
        let inner = self.lock();
        let all = kinds.iter().flat_map(|kind| kind.points().iter().map(|point| (*kind, point.name)));
        let left = all.filter(|key| !inner.points.contains_key(key));
        left.map(|(kind, point)| format!("{} {point}", kind.name())).collect()
    }

    /// Points that a process was sent to and did not reach: a fault of the story, not of the process.
    pub fn missed(&self) -> Vec<String> {
        self.lock().missed.iter().map(|(kind, point)| format!("{} {point}", kind.name())).collect()
    }

    pub(super) fn died_at(&self, kind: Kind, point: &'static str) {
        let mut inner = self.lock();
        inner.report.cycles += 1;
        *inner.points.entry((kind, point)).or_default() += 1;
    }

    pub(super) fn was_killed(&self) {
        self.lock().report.cycles += 1;
    }

    pub(super) fn missed_point(&self, kind: Kind, point: &'static str) {
        eprintln!("MISSED: {} did not come to {point}", kind.name());
        self.lock().missed.push((kind, point));
    }

    pub(super) fn acked(&self) {
        self.lock().report.acked += 1;
    }

    pub(super) fn lost(&self, what: &str) {
        eprintln!("LOST: {what}");
        self.lock().report.lost += 1;
    }

    pub(super) fn doubled(&self, what: &str) {
        eprintln!("DOUBLED: {what}");
        self.lock().report.doubled += 1;
    }

    pub(super) fn overspent(&self, ucr: i64, what: &str) {
        eprintln!("OVERSPENT: {ucr} µcr: {what}");
        self.lock().report.overspent_ucr += ucr;
    }

    pub(super) fn phantom(&self, what: &str) {
        eprintln!("PHANTOM REFUSAL: {what}");
        self.lock().report.phantom_refusals += 1;
    }

    /// Something does not add up, or a story came to no end.
    pub fn broken(&self, what: &str) {
        eprintln!("BROKEN: {what}");
        self.lock().report.audit_clean = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
