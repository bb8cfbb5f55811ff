//! Figures of applications and of notices about them: how many wait for whom, and what could not be done or said.

use std::sync::Arc;

use comity_access::notice::Dispatcher;
use comity_access::{Desk, Party};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whose figures are shown.
pub(super) type Watched = (Desk, Arc<Dispatcher>);

#[derive(Default)]
pub(super) struct AccessFigures {
    waiting: Family<WaitsFor, Gauge>,
    overdue: Family<WaitsFor, Gauge>,
    undone: Gauge,
    notices: Family<Target, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitsFor {
    waits_for: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    target: String,
    outcome: &'static str,
}

impl AccessFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("comity_applications", "Open applications, by whose move it is", self.waiting.clone());
        registry.register("comity_applications_overdue", "Of them, those whose time is over", self.overdue.clone());
        registry.register("comity_decisions_undone", "Decisions whose grants are not written yet", self.undone.clone());
        registry.register("comity_notices", "Notices since the start, by target and outcome", self.notices.clone());
    }

    pub(super) fn read(&self, (desk, dispatcher): &Watched) {
        let int = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if let Some(standing) = desk.standing() {
            for party in [Party::Applicant, Party::Owner, Party::AppealReviewer] {
                let waits = standing.waits.iter().find(|waits| waits.party == party);
                let of = WaitsFor { waits_for: party.word() };
                self.waiting.get_or_create(&of).set(waits.map_or(0, |waits| int(waits.open)));
                self.overdue.get_or_create(&of).set(waits.map_or(0, |waits| int(waits.overdue)));
            }
            self.undone.set(int(standing.undone));
        }
        for line in dispatcher.standing() {
            for (outcome, count) in [("delivered", line.delivered), ("failed", line.failed), ("gave_up", line.gave_up)]
            {
                self.notices.get_or_create(&Target { target: line.target.clone(), outcome }).set(int(count));
            }
        }
    }
}
