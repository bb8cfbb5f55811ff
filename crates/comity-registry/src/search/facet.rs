//! Facets: what a summary says in columns, and why it does not fit a question.

use comity_wire::api::node::SearchQuery;
use comity_wire::object::{PriceHint, Summary};
use comity_wire::{Digest, Op};

/// One condition that a model does not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    #[error("it is {have}'s")]
    Org { have: String },
    #[error("it does not offer {op}")]
    Op { op: Op },
    #[error("it does not list language '{asked}'")]
    Language { asked: String },
    #[error("it does not list task '{asked}'")]
    Task { asked: String },
    #[error("its operator does not promise residency in '{asked}'")]
    Residency { asked: String },
    #[error("its context is {}", .have.map_or("not stated".to_owned(), |have| format!("{have} tokens")))]
    Context { have: Option<u32> },
    #[error("its size is {}", .have.map_or("not stated".to_owned(), |have| format!("{have} parameters")))]
    Params { have: Option<u64> },
    #[error("its price is {}", .have.map_or("not stated".to_owned(), |have| format!("{have} µcr for a million tokens each way")))]
    Price { have: Option<u64> },
    #[error("it is of release {have}")]
    Release { have: Digest },
}

/// What keeps a model out of an answer; empty where it fits. A column that is not stated does not meet a bound.
pub fn why_not(summary: &Summary, org: &str, asked: &SearchQuery) -> Vec<Mismatch> {
    let mut reasons = Vec::new();
    let mut require = |holds: bool, reason: &dyn Fn() -> Mismatch| {
        if !holds {
            reasons.push(reason());
        }
    };
    if let Some(name) = &asked.org {
        // Compared as an id: the text of one would be made anew for each model there is.
        require(name == org || name.parse() == Ok(summary.org), &|| Mismatch::Org { have: org.to_owned() });
    }
    if let Some(op) = asked.op {
        require(summary.ops.iter().any(|row| row.op == op), &|| Mismatch::Op { op });
    }
    if let Some(language) = &asked.language {
        require(summary.languages.iter().any(|have| has(have, language)), &|| Mismatch::Language {
            asked: language.clone(),
        });
    }
    if let Some(task) = &asked.task {
        require(summary.tasks.iter().any(|have| have.as_str() == task), &|| Mismatch::Task { asked: task.clone() });
    }
    if let Some(place) = &asked.residency {
        let promised = summary.residency.iter().any(|have| have.as_str().eq_ignore_ascii_case(place));
        require(promised, &|| Mismatch::Residency { asked: place.clone() });
    }
    if let Some(min) = asked.context_min {
        let have = summary.context_length;
        require(have.is_some_and(|have| have >= min), &|| Mismatch::Context { have });
    }
    if let Some(max) = asked.params_max {
        let have = summary.params_total;
        require(have.is_some_and(|have| have <= max), &|| Mismatch::Params { have });
    }
    if let Some(max) = asked.price_max {
        let have = summary.price_hint.as_ref().map(price);
        require(have.is_some_and(|have| have <= max), &|| Mismatch::Price { have });
    }
    if let Some(release) = asked.release {
        require(summary.release == release, &|| Mismatch::Release { have: summary.release });
    }
    reasons
}

/// A language tag, or its first part: `en` finds `en-GB`.
fn has(have: &str, asked: &str) -> bool {
    have == asked || have.split_once('-').is_some_and(|(first, _)| first == asked)
}

/// One figure to sort by: a million tokens in, a million out, one request.
pub(super) fn price(hint: &PriceHint) -> u64 {
    hint.input_ucr_per_million.saturating_add(hint.output_ucr_per_million).saturating_add(hint.request_ucr)
}
