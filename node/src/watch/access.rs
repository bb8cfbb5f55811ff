//! Figures of applications and of notices about them: how many wait for whom, and what could not be done, said or sealed.

use std::sync::Arc;

use comity_access::notice::Dispatcher;
use comity_access::{Desk, Party};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::service::decisions::{AtHouse, Decisions, Standing};

/// Whose figures are shown.
pub struct Watched {
    pub desk: Desk,
    pub dispatcher: Arc<Dispatcher>,
    pub decisions: Decisions,
}

#[derive(Default)]
pub(super) struct AccessFigures {
    waiting: Family<WaitsFor, Gauge>,
    overdue: Family<WaitsFor, Gauge>,
    undone: Gauge,
    notices: Family<Target, Gauge>,
    sealed: Gauge,
    unsealed: Gauge,
    houses: Family<State, Gauge>,
}

/// Whether the tree of decisions goes on from what a house has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
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
        registry.register(
            "comity_decisions_sealed",
            "Events of applications and cases in the tree",
            self.sealed.clone(),
        );
        registry.register("comity_decisions_unsealed", "Events that wait for it", self.unsealed.clone());
        registry.register(
            "comity_decisions_houses",
            "Houses, by whether the tree goes on from what they have",
            self.houses.clone(),
        );
        registry.register("comity_notices", "Notices since the start, by target and outcome", self.notices.clone());
    }

    pub(super) fn read(&self, Watched { desk, dispatcher, decisions }: &Watched) {
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
        if let Some(Standing { sealed, waiting, houses, .. }) = decisions.seen() {
            self.sealed.set(int(sealed));
            self.unsealed.set(int(waiting));
            let state = |at: &AtHouse| match (&at.broken, &at.trouble) {
                (Some(_), _) => "broken",
                (None, Some(_)) => "unreached",
                (None, None) => "holds",
            };
            for of in ["holds", "unreached", "broken"] {
                let count = houses.iter().filter(|at| state(at) == of).count();
                self.houses.get_or_create(&State { state: of }).set(int(count as u64));
            }
        }
        for line in dispatcher.standing() {
            for (outcome, count) in [("delivered", line.delivered), ("failed", line.failed), ("gave_up", line.gave_up)]
            {
                self.notices.get_or_create(&Target { target: line.target.clone(), outcome }).set(int(count));
            }
        }
    }
}
