//! What an owner may publish of its cases: counts by category, how they ended, how long they took. Nobody is named.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::act::{Kind, State};
use super::machine::Case;

/// Of all cases, by category.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    pub categories: BTreeMap<String, Counts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub opened: u64,
    pub undecided: u64,
    /// Upheld, confirmed or closed.
    pub upheld: u64,
    /// Cleared, overturned or lapsed.
    pub for_the_project: u64,
    pub appealed: u64,
    pub overturned: u64,
    /// The owner did not decide in time.
    pub lapsed: u64,
    /// From the opening to the first decision; the middle one of those that were decided.
    pub decided_after_s: Option<u64>,
}

impl Statistics {
    pub fn of<'c>(cases: impl IntoIterator<Item = &'c Case>) -> Self {
        let mut statistics = Self::default();
        let mut took: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for case in cases {
            let Some(category) = case.seen().first().map(|seen| seen.category.clone()) else { continue };
            let counts = statistics.categories.entry(category.clone()).or_default();
            let had = |kind| case.events().iter().any(|recorded| recorded.event().act.kind() == kind);
            counts.opened += 1;
            match case.state() {
                State::Open | State::ToDecide | State::Appealed => counts.undecided += 1,
                State::Upheld | State::Confirmed | State::Closed => counts.upheld += 1,
                State::Cleared | State::Overturned | State::Lapsed => counts.for_the_project += 1,
            }
            counts.appealed += u64::from(had(Kind::Appeal));
            counts.overturned += u64::from(case.state() == State::Overturned);
            counts.lapsed += u64::from(case.state() == State::Lapsed);
            let opened_at = case.events().first().map(|first| first.event().at);
            let decided = case
                .events()
                .iter()
                .find(|recorded| matches!(recorded.event().act.kind(), Kind::Clear | Kind::Uphold | Kind::Lapse));
            if let (Some(opened_at), Some(decided)) = (opened_at, decided) {
                took.entry(category).or_default().push(decided.event().at.since(opened_at));
            }
        }
        for (category, mut took) in took {
            took.sort_unstable();
            if let Some(counts) = statistics.categories.get_mut(&category) {
                counts.decided_after_s = took.get(took.len() / 2).copied();
            }
        }
        statistics
    }
}
