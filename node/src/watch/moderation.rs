//! Figures of the server that is asked what is in texts: how often, how it came out, how long it took. Never a text.

use comity_gateway::moderating::Moderated;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(super) struct ModerationFigures {
    asked: Family<Asked, Counter>,
    flagged: Family<Flagged, Counter>,
    took: Family<Side, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    model: String,
    side: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flagged {
    model: String,
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Side {
    side: &'static str,
}

/// Seconds: it is waited for on the way of each call.
const TOOK: [f64; 10] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

fn took() -> Histogram {
    Histogram::new(TOOK)
}

impl Default for ModerationFigures {
    fn default() -> Self {
        Self { asked: Family::default(), flagged: Family::default(), took: Family::new_with_constructor(took) }
    }
}

impl ModerationFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("comity_moderation_asked", "Texts that another server was asked about", self.asked.clone());
        registry.register("comity_moderation_flagged", "What it found in them", self.flagged.clone());
        let seconds = "Until it had answered, or was given up";
        registry.register("comity_moderation_duration_seconds", seconds, self.took.clone());
    }

    pub(super) fn moderated(&self, asked: &Moderated) {
        let (model, side) = (asked.model.to_string(), asked.side.as_str());
        for category in &asked.categories {
            let flagged = Flagged { model: model.clone(), category: category.name() };
            self.flagged.get_or_create(&flagged).inc();
        }
        self.asked.get_or_create(&Asked { model, side, outcome: asked.outcome.as_str() }).inc();
        self.took.get_or_create(&Side { side }).observe(asked.took.as_secs_f64());
    }
}
