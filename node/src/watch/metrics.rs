//! Figures for Prometheus. Labels are routes, models that are served, codes and statuses: never who asked.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use comity_gateway::moderating::Moderated;
use comity_gateway::{Call, Gateway, ModelNow};
use comity_supply::pool::Standing;
use comity_wire::Meter;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::access::{AccessFigures, Watched};
use super::moderation::ModerationFigures;

/// What is counted. Names that begin with `gen_ai` are OpenTelemetry's, with its units; all others are ours.
pub struct Metrics {
    registry: Registry,
    calls: Family<Outcome, Counter>,
    replays: Family<Model, Counter>,
    tokens: Family<Tokens, Counter>,
    charged: Family<Model, Counter>,
    ended: Family<End, Counter>,
    duration: Family<Operation, Histogram, fn() -> Histogram>,
    first: Family<Operation, Histogram, fn() -> Histogram>,
    commits: Counter,
    commit_changes: Counter,
    commit_duration: Histogram,
    in_flight: Gauge,
    holds: Gauge,
    held: Gauge,
    waiting: Family<Model, Gauge>,
    running: Family<Model, Gauge>,
    upstream_ready: Family<Upstream, Gauge>,
    upstream_in_flight: Family<Upstream, Gauge>,
    log_dropped: Counter<u64, AtomicU64>,
    moderation: ModerationFigures,
    access: AccessFigures,
    process: Process,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    route: &'static str,
    model: String,
    status: u32,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Upstream {
    model: String,
    url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    model: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    model: String,
    ended: &'static str,
    basis: &'static str,
}

/// As OpenTelemetry's semantic conventions for generative AI name them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    gen_ai_operation_name: &'static str,
    gen_ai_request_model: String,
}

#[derive(Default)]
pub(super) struct Process {
    resident: Gauge,
    open_files: Gauge,
    cpu_seconds: Gauge<f64, AtomicU64>,
}

/// Seconds, as the conventions advise.
const DURATIONS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const COMMITS: [f64; 9] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0];

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("comity_build", "This program", Info::new(version));
        let metrics = Self {
            calls: Family::default(),
            replays: Family::default(),
            tokens: Family::default(),
            charged: Family::default(),
            ended: Family::default(),
            duration: Family::new_with_constructor(durations),
            first: Family::new_with_constructor(durations),
            commits: Counter::default(),
            commit_changes: Counter::default(),
            commit_duration: Histogram::new(COMMITS),
            in_flight: Gauge::default(),
            holds: Gauge::default(),
            held: Gauge::default(),
            waiting: Family::default(),
            running: Family::default(),
            upstream_ready: Family::default(),
            upstream_in_flight: Family::default(),
            log_dropped: Counter::default(),
            moderation: ModerationFigures::default(),
            access: AccessFigures::default(),
            process: Process::default(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register("comity_calls", "Calls at priced routes, by how they ended", m.calls.clone());
        registry.register("comity_replays", "Answers from the store: nothing was charged", m.replays.clone());
        registry.register("comity_tokens", "Tokens as charged", m.tokens.clone());
        registry.register("comity_charged_microcredits", "Charged, in micro-credits", m.charged.clone());
        registry.register("comity_charges", "Receipts, by how the answer ended and what they rest on", m.ended.clone());
        registry.register(
            "gen_ai_server_request_duration_seconds",
            "From a call's head to its end",
            m.duration.clone(),
        );
        registry.register("gen_ai_server_time_to_first_token_seconds", "To the upstream's first word", m.first.clone());
        registry.register("comity_commits", "Transactions of the spend store", m.commits.clone());
        registry.register("comity_commit_changes", "Changes in them", m.commit_changes.clone());
        registry.register("comity_commit_duration_seconds", "Until durable", m.commit_duration.clone());
        registry.register("comity_calls_in_flight", "Calls under way", m.in_flight.clone());
        registry.register("comity_holds", "Holds that are open", m.holds.clone());
        registry.register("comity_held_microcredits", "Set aside by them, in micro-credits", m.held.clone());
        registry.register("comity_queue_waiting", "Calls in line for a place at a model", m.waiting.clone());
        registry.register("comity_queue_running", "Calls that have a place", m.running.clone());
        registry.register("comity_upstream_ready", "1 where a server answers", m.upstream_ready.clone());
        registry.register("comity_upstream_in_flight", "Calls at a server", m.upstream_in_flight.clone());
        registry.register("comity_access_log_dropped", "Lines that the disk was too slow for", m.log_dropped.clone());
        m.moderation.register(&mut registry);
        m.access.register(&mut registry);
        m.process.register(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub(super) fn call(&self, call: &Call) {
        let model = call.model.as_ref().map(ToString::to_string).unwrap_or_default();
        let outcome = Outcome {
            route: call.route,
            model: model.clone(),
            status: u32::from(call.status),
            code: call.code.unwrap_or(if call.status == 0 { "client_gone" } else { "" }),
        };
        self.calls.get_or_create(&outcome).inc();
        let of_model = Model { model: model.clone() };
        if call.replayed {
            self.replays.get_or_create(&of_model).inc();
        }
        if let Some(op) = call.op {
            let operation =
                Operation { gen_ai_operation_name: super::spans::operation(op), gen_ai_request_model: model.clone() };
            self.duration.get_or_create(&operation).observe(call.took.as_secs_f64());
            if let Some(first) = call.first {
                self.first.get_or_create(&operation).observe(first.as_secs_f64());
            }
        }
        let Some(charge) = &call.charge else { return };
        for (direction, meter) in [("input", Meter::InputTokens), ("output", Meter::OutputTokens)] {
            self.tokens.get_or_create(&Tokens { model: model.clone(), direction }).inc_by(charge.meters.get(meter));
        }
        self.charged.get_or_create(&of_model).inc_by(u64::try_from(charge.charge.ucr()).unwrap_or(0));
        let end = End { model, ended: charge.ended.as_str(), basis: charge.basis.as_str() };
        self.ended.get_or_create(&end).inc();
    }

    pub(super) fn commit(&self, changes: usize, took: Duration) {
        self.commits.inc();
        self.commit_changes.inc_by(changes as u64);
        self.commit_duration.observe(took.as_secs_f64());
    }

    pub(super) fn moderated(&self, asked: &Moderated) {
        self.moderation.moderated(asked);
    }

    /// Models and servers that are gone leave no figures behind.
    fn stand(&self, models: &[ModelNow]) {
        self.waiting.clear();
        self.running.clear();
        self.upstream_ready.clear();
        self.upstream_in_flight.clear();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for now in models {
            let model = now.model.to_string();
            let label = Model { model: model.clone() };
            self.waiting.get_or_create(&label).set(count(now.waiting));
            self.running.get_or_create(&label).set(count(now.running));
            for (url, sight) in &now.instances {
                let label = Upstream { model: model.clone(), url: url.clone() };
                self.upstream_ready.get_or_create(&label).set(i64::from(sight.standing == Standing::Ready));
                self.upstream_in_flight.get_or_create(&label).set(sight.in_flight.into());
            }
        }
    }

    pub(super) fn text(&self, gateway: Option<&Gateway>, access: Option<&Watched>, log_dropped: u64) -> String {
        if let Some(access) = access {
            self.access.read(access);
        }
        if let Some(gateway) = gateway {
            let (holds, held) = gateway.holds();
            self.in_flight.set(i64::try_from(gateway.in_flight()).unwrap_or(i64::MAX));
            self.holds.set(i64::try_from(holds).unwrap_or(i64::MAX));
            self.held.set(held.ucr());
            self.stand(&gateway.models());
        }
        self.log_dropped.inner().store(log_dropped, std::sync::atomic::Ordering::Relaxed);
        self.process.read();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl Process {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("process_resident_memory_bytes", "Memory", self.resident.clone());
        registry.register("process_open_fds", "Open files and sockets", self.open_files.clone());
        registry.register("process_cpu_seconds", "CPU, user and system", self.cpu_seconds.clone());
    }

    /// From `/proc`; elsewhere they stay 0.
    pub(super) fn read(&self) {
        let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
        // After the name, which may hold anything, in brackets: field 3 comes first.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |number: usize| rest.split_whitespace().nth(number - 3).and_then(|text| text.parse::<u64>().ok());
        const TICKS_PER_SECOND: f64 = 100.0;
        const PAGE_BYTES: u64 = 4096;
        let ticks = field(14).unwrap_or(0) + field(15).unwrap_or(0);
        self.cpu_seconds.set(ticks as f64 / TICKS_PER_SECOND);
        self.resident.set(i64::try_from(field(24).unwrap_or(0) * PAGE_BYTES).unwrap_or(i64::MAX));
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_files.set(i64::try_from(files).unwrap_or(i64::MAX));
    }
}
