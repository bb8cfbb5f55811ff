//! Seeing what a clearing house does: figures for Prometheus, and a line for each call. Labels are routes, statuses and codes;
//! no project, no member, no token and no key stands in either.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use comity_clearing::{Clearing, Sums};
use comity_http::Refusal;
use comity_http::serve::RequestId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::Mutex;

use super::AccessLog;
use super::figures::open_metrics;
use super::metrics::Process;
use crate::failure::Failure;

/// What the house's command line says of watching.
#[derive(Debug, Default, clap::Args)]
pub struct HouseWatchArguments {
    /// Serve Prometheus figures here, on loopback, at /metrics, beside /healthz and /readyz
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<std::net::SocketAddr>,
    /// Write one JSON line for each call to this file; four older files of 64 MiB are kept
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<std::path::PathBuf>,
}

const DURATIONS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];
/// The sums over all books are added anew after this long.
const SUMS_S: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    route: String,
    status: u32,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    what: &'static str,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

/// All that watches one house.
pub struct HouseWatching {
    registry: Registry,
    calls: Family<Outcome, Counter>,
    duration: Family<Route, Histogram, fn() -> Histogram>,
    commits: Counter<u64, AtomicU64>,
    waiting: Gauge,
    ready: Family<Named, Gauge>,
    beat_age: Gauge,
    list_age: Gauge,
    log_signed: Gauge,
    log_waiting: Gauge,
    log_stopped: Gauge,
    credits: Family<Named, Gauge>,
    dropped: Counter<u64, AtomicU64>,
    process: Process,
    sums: Mutex<Option<(Instant, Sums)>>,
    access_log: Option<AccessLog>,
}

impl HouseWatching {
    /// # Errors
    /// [`Failure`] where the log cannot be written.
    pub fn start(arguments: &HouseWatchArguments) -> Result<Arc<Self>, Failure> {
        let access_log = arguments.access_log.as_deref().map(AccessLog::open).transpose()?;
        let mut watching = Self {
            registry: Registry::default(),
            calls: Family::default(),
            duration: Family::new_with_constructor(durations),
            commits: Counter::default(),
            waiting: Gauge::default(),
            ready: Family::default(),
            beat_age: Gauge::default(),
            list_age: Gauge::default(),
            log_signed: Gauge::default(),
            log_waiting: Gauge::default(),
            log_stopped: Gauge::default(),
            credits: Family::default(),
            dropped: Counter::default(),
            process: Process::default(),
            sums: Mutex::new(None),
            access_log,
        };
        let mut registry = Registry::default();
        let w = &watching;
        registry.register("comity_build", "This program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("comity_house_calls", "Calls at the house's door, by how they ended", w.calls.clone());
        registry.register("comity_house_call_duration_seconds", "From a call's head to its answer", w.duration.clone());
        registry.register("comity_house_commits", "Transactions of the books", w.commits.clone());
        registry.register("comity_house_writes_waiting", "Writes in line for the one writer", w.waiting.clone());
        registry.register("comity_house_ready", "1 where a part of the house is as it must be", w.ready.clone());
        registry.register("comity_house_beat_age_seconds", "Since the last heartbeat was written", w.beat_age.clone());
        registry.register("comity_house_list_age_seconds", "Since the revocation list was signed", w.list_age.clone());
        registry.register(
            "comity_house_log_signed",
            "Entries of the log that a checkpoint signs",
            w.log_signed.clone(),
        );
        registry.register("comity_house_log_waiting", "Acts that wait for the log", w.log_waiting.clone());
        registry.register("comity_house_log_stopped", "1 where the log waits for its operator", w.log_stopped.clone());
        registry.register("comity_house_microcredits", "Where the credits are, over all projects", w.credits.clone());
        registry.register("comity_access_log_dropped", "Lines that the disk was too slow for", w.dropped.clone());
        w.process.register(&mut registry);
        watching.registry = registry;
        Ok(Arc::new(watching))
    }

    /// The same routes, each call counted and written down.
    pub fn over(self: &Arc<Self>, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::clone(self), watched))
    }

    /// What is served on loopback.
    pub fn router(self: &Arc<Self>, house: &Clearing) -> Router {
        let (watching, of) = (Arc::clone(self), house.clone());
        let metrics = move || {
            let (watching, house) = (Arc::clone(&watching), of.clone());
            async move { open_metrics(watching.text(&house).await) }
        };
        Router::new().route("/metrics", get(metrics)).merge(house.health_router())
    }

    async fn text(&self, house: &Clearing) -> String {
        let vital = house.vital().await;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.commits.inner().store(vital.commits, std::sync::atomic::Ordering::Relaxed);
        self.waiting.set(count(vital.writes_waiting));
        for (what, is_well) in &vital.parts {
            self.ready.get_or_create(&Named { what }).set(i64::from(*is_well));
        }
        self.beat_age.set(count(vital.beat_age_s));
        self.list_age.set(count(vital.list_age_s));
        if let Ok(status) = house.log_status().await {
            self.log_signed.set(count(status.size));
            self.log_waiting.set(count(status.waiting));
            self.log_stopped.set(i64::from(status.stopped.is_some()));
        }
        if let Some(sums) = self.sums(house).await {
            for (what, amount) in [
                ("awarded", sums.awarded),
                ("unreleased", sums.unreleased),
                ("available", sums.available),
                ("expired", sums.expired),
                ("in_escrow", sums.in_escrow),
                ("settled", sums.settled),
                ("from_suspense", sums.from_suspense),
                ("clamped", sums.clamped),
            ] {
                self.credits.get_or_create(&Named { what }).set(amount.ucr());
            }
        }
        let dropped = self.access_log.as_ref().map_or(0, AccessLog::dropped);
        self.dropped.inner().store(dropped, std::sync::atomic::Ordering::Relaxed);
        self.process.read();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// Whoever asks often does not add the books up often.
    async fn sums(&self, house: &Clearing) -> Option<Sums> {
        let mut kept = self.sums.lock().await;
        if let Some((at, sums)) = *kept
            && at.elapsed() < SUMS_S
        {
            return Some(sums);
        }
        let sums = house.overall().await.ok()?;
        *kept = Some((Instant::now(), sums));
        Some(sums)
    }

    /// Writes out what is still on its way.
    pub fn close(&self) {
        if let Some(log) = &self.access_log {
            log.close();
        }
    }
}

async fn watched(State(watching): State<Arc<HouseWatching>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    // The route, not the path: that has ids in it.
    let route = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    let method = request.method().clone();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    let code = response.extensions().get::<Refusal>().map_or("", |refusal| refusal.code);
    let outcome = Outcome { route: route.clone(), status: u32::from(status), code };
    watching.calls.get_or_create(&outcome).inc();
    watching.duration.get_or_create(&Route { route: route.clone() }).observe(took.as_secs_f64());
    if let Some(log) = &watching.access_log {
        let took_ms = (took.as_secs_f64() * 1e4).round() / 10.0;
        log.line(&json!({
            "at": crate::shell::now().to_string(), "request": id, "method": method.as_str(), "route": route, "status": status,
            "code": code, "took_ms": took_ms,
        }));
    }
    response
}
