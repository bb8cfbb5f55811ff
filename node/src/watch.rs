//! Seeing what a node does: figures for Prometheus, an access log, spans for OpenTelemetry, and what `comity node top` shows.
//!
//! All four are fed from the gateway's [`Call`]s, which hold no prompt, no answer, no token and no key. Figures and the last
//! minute are always counted and shown to the owner alone; the log and the spans are written where the owner says. None of
//! them can hold a request up, and what does not fit is dropped.

mod access;
mod access_log;
mod figures;
mod house;
mod metrics;
mod moderation;
mod recent;
mod spans;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use comity_gateway::moderating::Moderated;
use comity_gateway::{Call, Gateway, Watch};

use crate::failure::Failure;

pub use access::Watched;
pub use access_log::AccessLog;
pub use figures::{Figures, open_metrics};
pub use house::{HouseWatchArguments, HouseWatching};
pub use metrics::Metrics;
pub use recent::{Instance, Last, Recent, Row, Serving, Top};
pub use spans::Spans;

/// What the owner's command line says of watching.
#[derive(Debug, Default, clap::Args)]
pub struct WatchArguments {
    /// Serve Prometheus figures here, on loopback, at /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<std::net::SocketAddr>,
    /// Write one JSON line for each call to this file; four older files of 64 MiB are kept
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<std::path::PathBuf>,
    /// Send a span for each call to this OpenTelemetry collector (OTLP over HTTP), e.g. http://127.0.0.1:4318/v1/traces
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
}

/// All that watches one gateway.
pub struct Watching {
    pub metrics: Metrics,
    pub recent: Recent,
    access_log: Option<AccessLog>,
    spans: Option<Spans>,
    /// Set once the gateway that is watched has started.
    gateway: OnceLock<Gateway>,
    /// The same for applications.
    access: OnceLock<access::Watched>,
}

impl Watching {
    /// # Errors
    /// [`Failure`] where the log cannot be written, or the collector's address is none.
    pub fn start(arguments: &WatchArguments) -> Result<Arc<Self>, Failure> {
        let access_log = arguments.access_log.as_deref().map(AccessLog::open).transpose()?;
        let spans = arguments.otlp.as_deref().map(Spans::start).transpose()?;
        let metrics = Metrics::default();
        Ok(Arc::new(Self {
            metrics,
            recent: Recent::default(),
            access_log,
            spans,
            gateway: OnceLock::new(),
            access: OnceLock::new(),
        }))
    }

    /// Whose requests under way and holds are shown. Once.
    pub fn of(&self, gateway: Gateway) {
        assert!(self.gateway.set(gateway).is_ok(), "one gateway is watched once");
    }

    /// Whose applications and notices are shown. Once.
    pub fn of_access(&self, watched: access::Watched) {
        assert!(self.access.set(watched).is_ok(), "one desk is watched once");
    }

    /// The figures in Prometheus' text form.
    pub fn text(&self) -> String {
        self.metrics.text(self.gateway.get(), self.access.get(), self.access_log.as_ref().map_or(0, AccessLog::dropped))
    }

    /// What `comity node top` shows.
    pub fn top(&self) -> Top {
        self.recent.top(self.gateway.get())
    }

    /// Writes out what is still on its way. Blocks for at most a few seconds.
    pub fn close(&self) {
        if let Some(log) = &self.access_log {
            log.close();
        }
        if let Some(spans) = &self.spans {
            spans.close();
        }
    }
}

impl Watch for Watching {
    fn call(&self, call: &Call) {
        self.metrics.call(call);
        self.recent.call(call);
        if call.is_unwritten {
            return;
        }
        if let Some(log) = &self.access_log {
            log.call(call);
        }
        if let Some(spans) = &self.spans {
            spans.call(call);
        }
    }

    fn commit(&self, changes: usize, took: Duration) {
        self.metrics.commit(changes, took);
    }

    fn moderated(&self, asked: &Moderated) {
        self.metrics.moderated(asked);
    }
}

/// The name of the file that stands beside `path` as its `number`th elder.
fn elder(path: &Path, number: usize) -> std::path::PathBuf {
    path.with_added_extension(number.to_string())
}

#[cfg(test)]
mod tests {
    use comity_gateway::Charge;
    use comity_wire::object::{Basis, Ended, Tier};
    use comity_wire::{Amount, Meter, Meters, Op};

    use super::*;

    /// A call as the gateway tells of it.
    pub(super) fn answered() -> Call {
        let meters =
            Meters::default().with(Meter::Requests, 1).with(Meter::InputTokens, 12).with(Meter::OutputTokens, 3);
        Call {
            request: Some("req-7".into()),
            route: "/v1/chat/completions",
            stream: false,
            model: Some("lab/tiny".parse().unwrap()),
            op: Some(Op::Chat),
            tier: Some(Tier::Registered),
            is_unwritten: false,
            subject: Some("sub-a".into()),
            token: None,
            status: 200,
            code: None,
            replayed: false,
            held: Amount::from_ucr(90),
            charge: Some(Charge { charge: Amount::from_ucr(18), meters, basis: Basis::Upstream, ended: Ended::Stop }),
            first: Some(Duration::from_millis(3)),
            took: Duration::from_micros(12_500),
        }
    }

    #[test]
    fn of_a_call_whose_tier_logs_nothing_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let arguments = WatchArguments { access_log: Some(path.clone()), ..WatchArguments::default() };
        let watching = Watching::start(&arguments).unwrap();
        watching.call(&Call { is_unwritten: true, subject: None, ..answered() });
        watching.call(&answered());
        watching.close();
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1);
        assert!(watching.text().contains("comity_charged_microcredits_total{model=\"lab/tiny\"} 36"));
    }

    #[test]
    fn figures_count_calls_tokens_and_money_and_name_nobody() {
        let watching = Watching::start(&WatchArguments::default()).unwrap();
        watching.call(&answered());
        watching.call(&Call { code: Some("budget_exhausted"), status: 402, charge: None, ..answered() });
        watching.commit(7, Duration::from_millis(1));
        let text = watching.text();
        for line in [
            r#"comity_calls_total{route="/v1/chat/completions",model="lab/tiny",status="200",code=""} 1"#,
            r#"comity_calls_total{route="/v1/chat/completions",model="lab/tiny",status="402",code="budget_exhausted"} 1"#,
            r#"comity_tokens_total{model="lab/tiny",direction="output"} 3"#,
            r#"comity_charged_microcredits_total{model="lab/tiny"} 18"#,
            r#"comity_charges_total{model="lab/tiny",ended="stop",basis="upstream"} 1"#,
            r#"gen_ai_server_request_duration_seconds_count{gen_ai_operation_name="chat",gen_ai_request_model="lab/tiny"} 2"#,
            "comity_commit_changes_total 7",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("sub-a"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
