//! Executions of approved plans: how many have begun, and what each has used of each op (spec/06-metering.md §6.11).
//!
//! An execution begins with the first call that counts in it. A call counts with its worst case while it runs, and with what
//! was charged after that; what ends without a charge counts nowhere. What was charged is stored with the charge, so that a
//! retry, which is charged once, counts once, and a restart forgets only calls that were never charged.

use std::collections::BTreeMap;

use comity_wire::object::Run;
use comity_wire::{GrantId, Op, Timestamp};
use serde::{Deserialize, Serialize};

use super::Refused;

/// What a plan counts of an op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// As the meter `requests`.
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// The execution that a call is part of, with everything that it is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    pub grant: GrantId,
    pub run: Run,
    /// How many may begin.
    pub executions: u32,
    /// How long one may last.
    pub seconds: u64,
    /// When the grant ends.
    pub until: Timestamp,
    /// The ops that the call counts under, with the most that an execution may use of each.
    pub ops: Vec<(Op, Volume)>,
    /// The call's worst case.
    pub worst: Volume,
}

/// What was charged of an op in an execution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    pub subject: String,
    pub grant: GrantId,
    pub run: Run,
    pub op: Op,
}

/// As the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRow {
    pub begun: Timestamp,
    /// When its grant ends.
    pub until: Timestamp,
    pub used: Volume,
}

/// A call's place in an execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunPlace {
    grant: GrantId,
    run: Run,
    begun: Timestamp,
    until: Timestamp,
    pub(super) ops: Vec<Op>,
    worst: Volume,
}

/// A project's executions in memory.
#[derive(Clone, Default)]
pub(super) struct Runs(BTreeMap<(GrantId, Run), Execution>);

#[derive(Clone)]
struct Execution {
    begun: Timestamp,
    until: Timestamp,
    charged: BTreeMap<Op, Volume>,
    open: BTreeMap<Op, Volume>,
    under_way: usize,
}

impl Volume {
    const fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }

    const fn less(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(other.calls),
            input_tokens: self.input_tokens.saturating_sub(other.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(other.output_tokens),
        }
    }

    /// No more than `most` of each.
    pub fn within(self, most: Self) -> Self {
        Self {
            calls: self.calls.min(most.calls),
            input_tokens: self.input_tokens.min(most.input_tokens),
            output_tokens: self.output_tokens.min(most.output_tokens),
        }
    }

    /// The first count that is above `most`: what it is called, how much it is, and the most.
    fn above(self, most: Self) -> Option<(&'static str, u64, u64)> {
        let counts = [
            ("calls", self.calls, most.calls),
            ("input_tokens", self.input_tokens, most.input_tokens),
            ("output_tokens", self.output_tokens, most.output_tokens),
        ];
        counts.into_iter().find(|(_, count, most)| count > most)
    }
}

impl Execution {
    const fn new(begun: Timestamp, until: Timestamp) -> Self {
        Self { begun, until, charged: BTreeMap::new(), open: BTreeMap::new(), under_way: 0 }
    }

    fn of(volumes: &BTreeMap<Op, Volume>, op: Op) -> Volume {
        volumes.get(&op).copied().unwrap_or_default()
    }
}

impl Runs {
    /// What the store has; what is known already is newer and stays.
    pub(super) fn load(&mut self, rows: impl IntoIterator<Item = (RunKey, RunRow)>) {
        for (RunKey { grant, run, op, .. }, row) in rows {
            let execution = self.0.entry((grant, run)).or_insert_with(|| Execution::new(row.begun, row.until));
            execution.begun = execution.begun.min(row.begun);
            execution.charged.insert(op, row.used);
        }
    }

    /// # Errors
    /// The first bound that keeps the call out; nothing was counted.
    pub(super) fn judge(&self, within: &Within, now: Timestamp) -> Result<(), Refused> {
        let run = || within.run.clone();
        for (op, most) in &within.ops {
            if let Some((counted, needed, most)) = within.worst.above(*most) {
                return Err(Refused::BeyondPlan { op: *op, counted, needed, most });
            }
        }
        let Some(execution) = self.0.get(&(within.grant, within.run.clone())) else {
            return self.judge_another(within);
        };
        let ended_at = execution.begun.plus(within.seconds);
        if now >= ended_at {
            return Err(Refused::RunOver { run: run(), ended_at });
        }
        for (op, most) in &within.ops {
            let charged = Execution::of(&execution.charged, *op);
            if let Some((counted, ..)) = charged.plus(within.worst).above(*most) {
                let left = most.less(charged);
                let left = match counted {
                    "calls" => left.calls,
                    "input_tokens" => left.input_tokens,
                    _ => left.output_tokens,
                };
                return Err(Refused::RunUsedUp { run: run(), op: *op, counted, left });
            }
            let held = Execution::of(&execution.open, *op);
            if charged.plus(held).plus(within.worst).above(*most).is_some() {
                return Err(Refused::RunInFlight { run: run() });
            }
        }
        Ok(())
    }

    fn judge_another(&self, within: &Within) -> Result<(), Refused> {
        let executions = usize::try_from(within.executions).unwrap_or(usize::MAX);
        let of_grant = || self.0.iter().filter(|((grant, _), _)| *grant == within.grant);
        let charged = of_grant().filter(|(_, execution)| !execution.charged.is_empty()).count();
        if charged >= executions {
            return Err(Refused::ExecutionsUsed { executions: within.executions });
        }
        if of_grant().count() >= executions {
            // One that is never charged has not begun.
            return Err(Refused::RunInFlight { run: within.run.clone() });
        }
        Ok(())
    }

    /// Counts a call that was judged.
    pub(super) fn take(&mut self, within: &Within, now: Timestamp) -> RunPlace {
        let at = (within.grant, within.run.clone());
        let execution = self.0.entry(at).or_insert_with(|| Execution::new(now, within.until));
        let place = RunPlace {
            grant: within.grant,
            run: within.run.clone(),
            begun: execution.begun,
            until: execution.until,
            ops: within.ops.iter().map(|(op, _)| *op).collect(),
            worst: within.worst,
        };
        execution.enter(&place);
        place
    }

    /// A call that was admitted elsewhere and runs, as [`Runs::take`] counted it there.
    pub(super) fn resume(&mut self, place: &RunPlace) {
        let at = (place.grant, place.run.clone());
        let execution = self.0.entry(at).or_insert_with(|| Execution::new(place.begun, place.until));
        execution.begun = execution.begun.min(place.begun);
        execution.enter(place);
    }

    /// The call has ended; its worst case no longer counts.
    pub(super) fn leave(&mut self, place: &RunPlace) {
        let at = (place.grant, place.run.clone());
        let Some(execution) = self.0.get_mut(&at) else { return };
        execution.under_way = execution.under_way.saturating_sub(1);
        for op in &place.ops {
            let open = execution.open.entry(*op).or_default();
            *open = open.less(place.worst);
        }
        if execution.under_way == 0 && execution.charged.is_empty() {
            // Nothing counts in it: it has not begun.
            self.0.remove(&at);
        }
    }

    /// What it was charged counts in its execution.
    pub(super) fn charge(&mut self, place: &RunPlace, used: Volume) {
        let Some(execution) = self.0.get_mut(&(place.grant, place.run.clone())) else { return };
        for op in &place.ops {
            let charged = execution.charged.entry(*op).or_default();
            *charged = charged.plus(used.within(place.worst));
        }
    }

    /// What was charged of an op so far.
    pub(super) fn charged(&self, place: &RunPlace, op: Op) -> RunRow {
        let execution = self.0.get(&(place.grant, place.run.clone()));
        let used = execution.map(|execution| Execution::of(&execution.charged, op)).unwrap_or_default();
        RunRow { begun: execution.map_or(place.begun, |execution| execution.begun), until: place.until, used }
    }
}

impl Execution {
    fn enter(&mut self, place: &RunPlace) {
        self.under_way += 1;
        for op in &place.ops {
            let open = self.open.entry(*op).or_default();
            *open = open.plus(place.worst);
        }
    }
}

impl RunPlace {
    pub(super) fn keys(&self, subject: &str) -> impl Iterator<Item = RunKey> {
        let key = |op: &Op| RunKey { subject: subject.to_owned(), grant: self.grant, run: self.run.clone(), op: *op };
        self.ops.iter().map(key)
    }

    /// One more call that came to this.
    pub(super) fn with(&self, row: RunRow, used: Volume) -> RunRow {
        RunRow { used: row.used.plus(used.within(self.worst)), ..row }
    }
}
