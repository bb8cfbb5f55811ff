//! The owner's pace: a project's calls at once, and its requests and tokens in windows of time (spec/06-metering.md §6.9).
//!
//! A window begins with the first call that counts in it and ends `seconds` later; a call counts where it was admitted,
//! with its worst case while it runs and with what it was charged after that. What was charged in a window is stored with
//! the charge, so that a restart forgets only calls that were never charged.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use comity_wire::object::{Tier, Window};
use comity_wire::{Op, Timestamp};
use serde::{Deserialize, Serialize};

use super::Refused;
use super::runs::{RunKey, RunRow, Runs};

/// Which row of which policy counts: an op's, or its tier's over all ops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// The policy's name: its next version goes on counting.
    pub policy: String,
    pub tier: Tier,
    pub op: Option<Op>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            Some(op) => write!(f, "tier {}, {op}", self.tier),
            None => write!(f, "tier {}", self.tier),
        }
    }
}

/// A row's bounds on pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub rule: Rule,
    /// 0: none.
    pub concurrency: u16,
    pub windows: Vec<Window>,
}

/// What a window counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    Requests,
    Tokens,
}

impl Counted {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// A window of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaceKey {
    pub subject: String,
    pub rule: Rule,
    pub seconds: u32,
}

/// What was charged in a window, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub begun: Timestamp,
    pub requests: u32,
    pub tokens: u64,
}

/// How one count of one window stands, for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub counted: Counted,
    pub seconds: u32,
    pub limit: u64,
    pub remaining: u64,
    /// Until it begins anew; 0 where nothing counts in it.
    pub reset_s: u64,
}

/// A call's place in a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) rule: Rule,
    pub(super) seconds: u32,
    pub(super) begun: Timestamp,
}

/// A project's pace in memory, and its executions of plans.
#[derive(Clone, Default)]
pub(super) struct Subject {
    /// Whether what the store has of it was taken in.
    loaded: bool,
    open: HashMap<Rule, u16>,
    /// Calls under way, over all rules.
    under_way: usize,
    windows: BTreeMap<(Rule, u32), Running>,
    pub(super) runs: Runs,
}

#[derive(Clone, Copy)]
struct Running {
    charged: Pace,
    open_requests: u32,
    open_tokens: u64,
}

impl Running {
    const fn new(begun: Timestamp) -> Self {
        Self { charged: Pace { begun, requests: 0, tokens: 0 }, open_requests: 0, open_tokens: 0 }
    }

    fn ends(&self, seconds: u32) -> Timestamp {
        self.charged.begun.plus(u64::from(seconds))
    }

    fn used(&self, counted: Counted) -> u64 {
        match counted {
            Counted::Requests => u64::from(self.charged.requests) + u64::from(self.open_requests),
            Counted::Tokens => self.charged.tokens.saturating_add(self.open_tokens),
        }
    }
}

/// The counts that a window bounds.
fn counts(window: &Window) -> impl Iterator<Item = (Counted, u64)> {
    let requests = window.requests.map(|limit| (Counted::Requests, u64::from(limit)));
    let tokens = window.tokens.map(|limit| (Counted::Tokens, limit));
    requests.into_iter().chain(tokens)
}

impl Subject {
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// What the store has; what is known already is newer and stays.
    pub(super) fn load(
        &mut self,
        rows: impl IntoIterator<Item = (Rule, u32, Pace)>,
        runs: impl IntoIterator<Item = (RunKey, RunRow)>,
    ) {
        if std::mem::replace(&mut self.loaded, true) {
            return;
        }
        self.runs.load(runs);
        for (rule, seconds, charged) in rows {
            if let Some(running) = self.latest((rule, seconds), charged.begun) {
                running.charged = charged;
            }
        }
    }

    /// It is read from the store again before anything rests on it; what runs stays counted.
    pub(super) fn unload(&mut self) {
        self.loaded = false;
    }

    /// A call that was admitted elsewhere and runs, as [`Subject::take`] counted it there.
    pub(super) fn resume(&mut self, rules: &[Rule], places: &[Place], tokens: u64) {
        self.under_way += 1;
        for rule in rules {
            *self.open.entry(rule.clone()).or_default() += 1;
        }
        for place in places {
            if let Some(running) = self.latest((place.rule.clone(), place.seconds), place.begun) {
                running.open_requests += 1;
                running.open_tokens = running.open_tokens.saturating_add(tokens);
            }
        }
    }

    /// The window that began then, in place of one that began before; `None` where a later one has begun.
    fn latest(&mut self, at: (Rule, u32), begun: Timestamp) -> Option<&mut Running> {
        let running = self.windows.entry(at).or_insert_with(|| Running::new(begun));
        if running.charged.begun < begun {
            *running = Running::new(begun);
        }
        (running.charged.begun == begun).then_some(running)
    }

    fn running(&self, rule: &Rule, seconds: u32, now: Timestamp) -> Option<&Running> {
        self.windows.get(&(rule.clone(), seconds)).filter(|running| now < running.ends(seconds))
    }

    /// # Errors
    /// The bound that keeps the call out longest: when that one ends, the others have ended too.
    pub(super) fn judge(&self, bounds: &[Bound], tokens: u64, now: Timestamp) -> Result<(), Refused> {
        let mut longest: Option<(u64, Refused)> = None;
        for bound in bounds {
            if bound.concurrency > 0 && self.open.get(&bound.rule).is_some_and(|open| *open >= bound.concurrency) {
                let refused = Refused::Concurrency { rule: bound.rule.clone(), concurrency: bound.concurrency };
                longest = longest.or(Some((0, refused)));
            }
            for window in &bound.windows {
                for (counted, limit) in counts(window) {
                    let (rule, seconds) = (bound.rule.clone(), window.seconds);
                    let needed = if counted == Counted::Tokens { tokens } else { 1 };
                    if needed > limit {
                        return Err(Refused::BeyondWindow { rule, counted, needed, limit, seconds });
                    }
                    let Some(running) = self.running(&rule, seconds, now) else { continue };
                    let used = running.used(counted);
                    if used.saturating_add(needed) <= limit {
                        continue;
                    }
                    let retry_after_s = running.ends(seconds).since(now);
                    if longest.as_ref().is_none_or(|(wait, _)| retry_after_s > *wait) {
                        let refused = Refused::RateWindow { rule, counted, limit, used, seconds, retry_after_s };
                        longest = Some((retry_after_s, refused));
                    }
                }
            }
        }
        longest.map_or(Ok(()), |(_, refused)| Err(refused))
    }

    /// Counts a call that was judged.
    pub(super) fn take(&mut self, bounds: &[Bound], tokens: u64, now: Timestamp) -> Vec<Place> {
        self.under_way += 1;
        let mut places = Vec::new();
        for bound in bounds {
            *self.open.entry(bound.rule.clone()).or_default() += 1;
            for window in &bound.windows {
                let seconds = window.seconds;
                let running = self.windows.entry((bound.rule.clone(), seconds)).or_insert_with(|| Running::new(now));
                if now >= running.ends(seconds) {
                    *running = Running::new(now);
                }
                running.open_requests += 1;
                running.open_tokens = running.open_tokens.saturating_add(tokens);
                places.push(Place { rule: bound.rule.clone(), seconds, begun: running.charged.begun });
            }
        }
        places
    }

    /// The call has ended; its worst case no longer counts.
    pub(super) fn leave(&mut self, rules: &[Rule], places: &[Place], tokens: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        for rule in rules {
            let open = self.open.get_mut(rule).expect("a call counts under its rules");
            *open -= 1;
            if *open == 0 {
                self.open.remove(rule);
            }
        }
        for place in places {
            let Some(running) = self.at(place) else { continue };
            running.open_requests -= 1;
            running.open_tokens = running.open_tokens.saturating_sub(tokens);
            if running.open_requests == 0 && running.charged.requests == 0 {
                // Nothing counts in it: it has not begun.
                self.windows.remove(&(place.rule.clone(), place.seconds));
            }
        }
    }

    /// What it was charged counts in the windows in which it was admitted, as far as they still run.
    pub(super) fn charge(&mut self, places: &[Place], tokens: u64) {
        for place in places {
            let Some(running) = self.at(place) else { continue };
            running.charged = running.charged.with(tokens);
        }
    }

    /// What was charged in the window of a place; `None` where another has begun.
    pub(super) fn charged(&self, place: &Place) -> Option<Pace> {
        let running = self.windows.get(&(place.rule.clone(), place.seconds))?;
        (running.charged.begun == place.begun).then_some(running.charged)
    }

    fn at(&mut self, place: &Place) -> Option<&mut Running> {
        let running = self.windows.get_mut(&(place.rule.clone(), place.seconds))?;
        (running.charged.begun == place.begun).then_some(running)
    }
}

impl Pace {
    /// One more call.
    pub(super) fn with(self, tokens: u64) -> Self {
        Self {
            begun: self.begun,
            requests: self.requests.saturating_add(1),
            tokens: self.tokens.saturating_add(tokens),
        }
    }
}

/// What callers are told of a project that is decided on elsewhere: as it was in the last round.
#[derive(Clone, Default)]
pub struct PaceView(Subject);

impl PaceView {
    pub(super) fn of(subject: Option<&Subject>) -> Self {
        Self(subject.cloned().unwrap_or_default())
    }

    pub fn standing(&self, bounds: &[Bound], now: Timestamp) -> Vec<Standing> {
        standing(Some(&self.0), bounds, now)
    }
}

/// Each count of each window under `bounds`, nearest to empty first; a project that is not known stands at its limits.
pub(super) fn standing(subject: Option<&Subject>, bounds: &[Bound], now: Timestamp) -> Vec<Standing> {
    let mut all = Vec::new();
    for bound in bounds {
        for window in &bound.windows {
            let running = subject.and_then(|subject| subject.running(&bound.rule, window.seconds, now));
            for (counted, limit) in counts(window) {
                let used = running.map_or(0, |running| running.used(counted));
                let reset_s = running.map_or(0, |running| running.ends(window.seconds).since(now));
                let remaining = limit.saturating_sub(used);
                all.push(Standing { counted, seconds: window.seconds, limit, remaining, reset_s });
            }
        }
    }
    // By the share that is left; of two alike the one that stays longer.
    let share = |s: &Standing| u128::from(s.remaining) * 1_000_000 / u128::from(s.limit.max(1));
    all.sort_by_key(|s| (share(s), std::cmp::Reverse(s.reset_s)));
    all
}
