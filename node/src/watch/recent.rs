//! The last minute, for `comity node top`: in memory, a second a slot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use comity_gateway::{Call, Gateway, ModelNow};
use comity_supply::pool::Sight;
use comity_wire::Meter;
use serde::{Deserialize, Serialize};

/// How far back it goes, seconds.
const SECONDS: u64 = 60;
/// Calls whose durations stand for a second's; more of them are counted, and not looked at for the quantiles.
const DURATIONS_MAX: usize = 256;
/// Models in one second; those past it are counted together.
const MODELS_MAX: usize = 64;
const LAST_MAX: usize = 20;

/// What came lately.
pub struct Recent {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: VecDeque<(u64, BTreeMap<String, Slot>)>,
    last: VecDeque<Last>,
}

#[derive(Default)]
struct Slot {
    calls: u64,
    refused: u64,
    charged: u64,
    charge_ucr: i64,
    tokens: [u64; 2],
    durations_ms: Vec<f64>,
}

/// What `GET /admin/top` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Top {
    pub up_s: u64,
    pub in_flight: usize,
    pub holds: usize,
    pub held_ucr: i64,
    /// Over so many seconds.
    pub over_s: u64,
    pub models: Vec<Row>,
    /// What is served, now.
    pub serving: Vec<Serving>,
    /// What the operator has stopped, and why.
    pub stopped: Vec<String>,
    /// The newest first.
    pub last: Vec<Last>,
}

/// A model's last minute. The name is empty for calls that came to no model that is served.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub model: String,
    pub calls: u64,
    pub refused: u64,
    pub charged: u64,
    pub charge_ucr: i64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
}

/// A model that is served: its line, and its servers.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Serving {
    pub model: String,
    pub waiting: usize,
    pub running: usize,
    pub slots: u32,
    /// None where it runs in the node itself.
    pub upstreams: Vec<Instance>,
}

/// A server behind a model.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub url: String,
    /// `ready`, `starting`, `down`; `unknown` before it was heard of.
    pub standing: String,
    pub in_flight: u32,
    /// Until it accepts a call, smoothed.
    pub accepts_ms: Option<u64>,
    /// In a row.
    pub failures: u32,
}

impl Serving {
    pub(super) fn all(gateway: &Gateway) -> Vec<Self> {
        let instance = |(url, sight): (String, Sight)| Instance {
            url,
            standing: sight.standing.as_str().to_owned(),
            in_flight: sight.in_flight,
            accepts_ms: sight.accepts_ms,
            failures: sight.failures,
        };
        let serving = |now: ModelNow| Self {
            model: now.model.to_string(),
            waiting: now.waiting,
            running: now.running,
            slots: now.slots,
            upstreams: now.instances.into_iter().map(instance).collect(),
        };
        gateway.models().into_iter().map(serving).collect()
    }
}

/// A call that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Last {
    pub ago_s: u64,
    pub route: String,
    pub model: String,
    pub status: u16,
    /// How it ended: the receipt's word, else the refusal's code.
    pub how: String,
    pub took_ms: f64,
    pub charge_ucr: Option<i64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { began: Instant::now(), inner: Mutex::default() }
    }
}

impl Recent {
    pub(super) fn call(&self, call: &Call) {
        let second = self.began.elapsed().as_secs();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).add(second, call);
    }

    pub(super) fn top(&self, gateway: Option<&Gateway>) -> Top {
        let second = self.began.elapsed().as_secs();
        let (models, last) = self.inner.lock().unwrap_or_else(PoisonError::into_inner).read(second);
        let (holds, held) = gateway.map(Gateway::holds).unwrap_or_default();
        let in_flight = gateway.map_or(0, Gateway::in_flight);
        let serving = gateway.map(Serving::all).unwrap_or_default();
        let (held_ucr, over_s) = (held.ucr(), second.clamp(1, SECONDS));
        let stopped = gateway.map(Gateway::stops).unwrap_or_default().into_iter();
        let stopped = stopped.map(|stop| format!("{}: {}", stop.target, stop.word.reason)).collect();
        Top { up_s: second, in_flight, holds, held_ucr, over_s, models, serving, stopped, last }
    }
}

impl Inner {
    fn add(&mut self, second: u64, call: &Call) {
        if self.slots.back().is_none_or(|(at, _)| *at < second) {
            self.slots.push_back((second, BTreeMap::new()));
        }
        while self.slots.front().is_some_and(|(at, _)| at + SECONDS <= second) {
            self.slots.pop_front();
        }
        let model = call.model.as_ref().map(ToString::to_string).unwrap_or_default();
        let (_, models) = self.slots.back_mut().expect("one was put in above");
        let name = if models.len() < MODELS_MAX || models.contains_key(&model) { model.clone() } else { String::new() };
        let slot = models.entry(name).or_default();
        let took_ms = call.took.as_secs_f64() * 1e3;
        slot.calls += 1;
        slot.refused += u64::from(call.code.is_some());
        if slot.durations_ms.len() < DURATIONS_MAX {
            slot.durations_ms.push(took_ms);
        }
        if let Some(charge) = &call.charge {
            slot.charged += 1;
            slot.charge_ucr = slot.charge_ucr.saturating_add(charge.charge.ucr());
            slot.tokens[0] += charge.meters.get(Meter::InputTokens);
            slot.tokens[1] += charge.meters.get(Meter::OutputTokens);
        }
        let ended = call.charge.as_ref().map(|charge| charge.ended.as_str());
        let how = call.code.or(ended).unwrap_or(if call.replayed { "replayed" } else { "client_gone" });
        self.last.push_front(Last {
            ago_s: second,
            route: call.route.to_owned(),
            model,
            status: call.status,
            how: how.to_owned(),
            took_ms,
            charge_ucr: call.charge.as_ref().map(|charge| charge.charge.ucr()),
        });
        self.last.truncate(LAST_MAX);
    }

    fn read(&self, second: u64) -> (Vec<Row>, Vec<Last>) {
        let mut rows: BTreeMap<&str, (Row, Vec<f64>)> = BTreeMap::new();
        let within = self.slots.iter().filter(|(at, _)| at + SECONDS > second);
        for (model, slot) in within.flat_map(|(_, models)| models) {
            let (row, durations) = rows.entry(model).or_default();
            row.model.clone_from(model);
            row.calls += slot.calls;
            row.refused += slot.refused;
            row.charged += slot.charged;
            row.charge_ucr = row.charge_ucr.saturating_add(slot.charge_ucr);
            row.input_tokens += slot.tokens[0];
            row.output_tokens += slot.tokens[1];
            durations.extend(&slot.durations_ms);
        }
        let rows = rows.into_values().map(|(row, mut durations)| {
            durations.sort_by(f64::total_cmp);
            let quantile = |of: f64| durations.get((durations.len() as f64 * of) as usize).copied().unwrap_or_default();
            Row { p50_ms: quantile(0.5), p95_ms: quantile(0.95), ..row }
        });
        let last = self.last.iter().map(|last| Last { ago_s: second - last.ago_s, ..last.clone() });
        (rows.collect(), last.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tests::answered;

    #[test]
    fn a_minute_is_summed_and_what_is_older_is_gone() {
        let mut inner = Inner::default();
        inner.add(0, &answered());
        for second in 30..34 {
            inner.add(second, &answered());
        }
        let mut refused = answered();
        (refused.charge, refused.code, refused.status) = (None, Some("budget_exhausted"), 402);
        inner.add(34, &refused);
        let (rows, last) = inner.read(61);
        assert_eq!((rows[0].calls, rows[0].refused, rows[0].charged), (5, 1, 4));
        assert_eq!((rows[0].charge_ucr, rows[0].input_tokens, rows[0].p50_ms), (4 * 18, 4 * 12, 12.5));
        assert_eq!((last.len(), last[0].ago_s, last[0].how.as_str()), (6, 27, "budget_exhausted"));
        assert_eq!(last[1].how, "stop");
        assert!(inner.read(95).0.is_empty());
    }

    #[test]
    fn it_stays_bounded() {
        let mut inner = Inner::default();
        for number in 0..2_000_u64 {
            let mut call = answered();
            call.model = Some(format!("lab/m{number}").parse().unwrap());
            inner.add(number / 500, &call);
            inner.add(number / 500, &answered());
        }
        assert_eq!(inner.last.len(), LAST_MAX);
        for (_, models) in &inner.slots {
            assert!(models.len() <= MODELS_MAX + 1, "{}", models.len());
            assert!(models.values().all(|slot| slot.durations_ms.len() <= DURATIONS_MAX));
        }
    }
}
