//! Volume: what single texts do not show. Flags of a project over hours and days, prompts that are alike, tokens that are
//! biased one after the other, all of it against what the project said it was for.
//!
//! Pure: it takes `now`, keeps counts and hashes, and never a text. Everything has a bound. What it counts can be written
//! down as [`Delta`]s and given back after a restart, or by another process that saw the same project: counts add up,
//! whoever counted first.
//!
//! ```text
//! if !volume.knows(project) { volume.restore(project, rows_of_the_store, now) }
//! let alarms = volume.observe(now, &seen);         // each rule at most once a day
//! let standing = volume.standing(project, &purposes, now);  // all that is above its bound now
//! store.add(volume.take_deltas());
//! ```

mod limits;
mod prints;
mod project;
mod spread;

use std::collections::BTreeMap;

use comity_wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::category::{Category, UnknownCategory};
use crate::linear::Band;
use project::Project;

pub use limits::{BadLimits, Limit, Limits};
pub use prints::Print;
pub use spread::{Advice, Spread, spread};

/// Projects that are remembered; one more, and the one that was seen longest ago is forgotten. Its counts are in the store.
pub const PROJECTS_MAX: usize = 4_096;
/// Counts that wait to be written down; above that they are still counted, and lost with a restart.
pub const DELTAS_MAX: usize = 100_000;
/// Flags of one call that count: a single text is no flood.
pub const CALL_MAX: u32 = 1_000;
/// Projects that houses may speak of at once.
pub const ADVISED_MAX: usize = 4_096;
/// Hours of history that a store has to keep.
pub const HISTORY_HOURS: u32 = 29 * 24;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Counted {
    /// Flags of a category.
    Flags(Category),
    /// Prompts of one skeleton with other words in it.
    Templated,
    /// Prompts that hardly differ from one before.
    NearDuplicate,
    /// Tokens that were given a bias and had none that day.
    BiasedTokens,
}

impl Counted {
    /// How many there are.
    pub const COUNT: usize = Category::COUNT + 3;

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let more = [Self::Templated, Self::NearDuplicate, Self::BiasedTokens];
        Category::ALL.into_iter().map(Self::Flags).chain(more)
    }

    /// The number that stores write: a category's own, or above 100.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Flags(category) => category.number(),
            Self::Templated => 101,
            Self::NearDuplicate => 102,
            Self::BiasedTokens => 103,
        }
    }

    /// What has a number, if something has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::all().find(|counted| counted.number() == number)
    }

    /// The name that the table of limits uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flags(category) => category.name(),
            Self::Templated => "templated",
            Self::NearDuplicate => "near_duplicate",
            Self::BiasedTokens => "biased_tokens",
        }
    }

    /// What it speaks of: prompts in series and biased tokens are how a model is carried off.
    #[must_use]
    pub fn category(self) -> Category {
        match self {
            Self::Flags(category) => category,
            Self::Templated | Self::NearDuplicate | Self::BiasedTokens => Category::ExtractionProbe,
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Flags(category) => category.index(),
            Self::Templated => Category::COUNT,
            Self::NearDuplicate => Category::COUNT + 1,
            Self::BiasedTokens => Category::COUNT + 2,
        }
    }
}

impl From<Counted> for String {
    fn from(counted: Counted) -> Self {
        counted.name().to_owned()
    }
}

impl TryFrom<String> for Counted {
    type Error = UnknownCategory;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::all().find(|counted| counted.name() == name).ok_or(UnknownCategory(name))
    }
}

/// Why a project's volume is flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// More in a day than anyone may.
    Daily,
    /// More in a day than its declared purpose explains.
    Purpose,
    /// Far more in a day than it used to: a robust z-score over its last four weeks.
    Unusual,
    /// Far more in an hour than it used to: above its moving average.
    Burst,
    /// Over several owners, as a clearing house tells: at none of them alone.
    Spread,
}

impl Why {
    /// The name that notices give, in place of a pack's rule.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Daily => "volume/daily",
            Self::Purpose => "volume/purpose",
            Self::Unusual => "volume/unusual",
            Self::Burst => "volume/burst",
            Self::Spread => "volume/spread",
        }
    }
}

/// A project's volume that is above a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Which bound.
    pub why: Why,
    /// Of what.
    pub counted: Counted,
    /// How many there were.
    pub count: u64,
    /// How many were allowed.
    pub bound: u64,
    /// How far above.
    pub band: Band,
}

/// One call, as it ended.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The project's pseudonym.
    pub project: &'a str,
    /// What it declared.
    pub purposes: &'a [&'a str],
    /// Flags by category.
    pub flags: [u32; Category::COUNT],
    /// The prompt's, where there was one.
    pub print: Option<Print>,
    /// Tokens that were given a bias.
    pub biased: &'a [u32],
}

/// A count to be added to what a store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The project's pseudonym.
    pub project: String,
    /// What.
    pub counted: Counted,
    /// Hours since 1970.
    pub hour: u32,
    /// How many more.
    pub count: u32,
}

/// All projects' volume.
#[derive(Debug, Clone)]
pub struct Volume {
    limits: Limits,
    projects_max: usize,
    projects: BTreeMap<String, Project>,
    deltas: BTreeMap<(String, Counted, u32), u32>,
    advised: BTreeMap<String, Vec<Advice>>,
    /// Counts that could not be kept for the store.
    lost: u64,
}

impl Volume {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::bounded(limits, PROJECTS_MAX)
    }

    /// The same, with another bound on projects.
    #[must_use]
    pub fn bounded(limits: Limits, projects_max: usize) -> Self {
        let projects_max = projects_max.max(1);
        Self {
            limits,
            projects_max,
            projects: BTreeMap::new(),
            deltas: BTreeMap::new(),
            advised: BTreeMap::new(),
            lost: 0,
        }
    }

    /// Whether what a store has of a project was taken in, and since when.
    #[must_use]
    pub fn knows(&self, project: &str) -> Option<Timestamp> {
        self.projects.get(project).and_then(Project::restored)
    }

    /// Takes in what a store has of a project, in place of what was known; what was not written down yet is added.
    pub fn restore(&mut self, project: &str, rows: impl IntoIterator<Item = (Counted, u32, u64)>, now: Timestamp) {
        let pending = self.deltas.iter().filter(|((of, ..), _)| of == project);
        let pending: Vec<_> = pending.map(|((_, counted, hour), count)| (*counted, *hour, u64::from(*count))).collect();
        let known = self.project(project, now);
        known.restore(rows.into_iter().chain(pending), now);
    }

    /// Counts a call; says what went above its bound with it. Each bound is told of once a day.
    pub fn observe(&mut self, now: Timestamp, seen: &Seen<'_>) -> Vec<Alarm> {
        let project = self.project(seen.project, now);
        let mut counts = [0_u32; Counted::COUNT];
        for category in Category::ALL {
            counts[Counted::Flags(category).index()] = seen.flags[category.index()].min(CALL_MAX);
        }
        if let Some(print) = seen.print {
            let alike = project.alike(print, now);
            counts[Counted::Templated.index()] = u32::from(alike.templated);
            counts[Counted::NearDuplicate.index()] = u32::from(alike.near_duplicate);
        }
        counts[Counted::BiasedTokens.index()] = project.bias(seen.biased, now);
        let counted: Vec<_> = Counted::all().map(|counted| (counted, counts[counted.index()])).collect();
        for (counted, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            self.project(seen.project, now).count(counted, count, now);
            self.remember(seen.project, counted, hour(now), count);
        }
        let standing = self.standing(seen.project, seen.purposes, now);
        let Some(project) = self.projects.get_mut(seen.project) else { return Vec::new() };
        // Only what this call was a part of is news.
        let fresh = standing.into_iter().filter(|alarm| counts[alarm.counted.index()] > 0);
        fresh.filter(|alarm| project.tell(alarm.why, alarm.counted, now)).collect()
    }

    /// All that is above a bound now, here or as houses have told.
    #[must_use]
    pub fn standing(&self, project: &str, purposes: &[&str], now: Timestamp) -> Vec<Alarm> {
        let advised = self.advised.get(project).into_iter().flatten().filter_map(|advice| advice.alarm(now));
        let known = self.projects.get(project);
        let own = known.map(|known| Counted::all().flat_map(|of| known.alarms(of, &self.limits, purposes, now)));
        own.into_iter().flatten().chain(advised).collect()
    }

    /// What houses tell of projects, in place of what they told before; of more than [`ADVISED_MAX`] projects, the first by name.
    pub fn advise(&mut self, advised: BTreeMap<String, Vec<Advice>>) {
        self.advised = advised.into_iter().take(ADVISED_MAX).collect();
    }

    /// What houses have told of a project, or of all, by name.
    pub fn advised(&self) -> impl Iterator<Item = (&str, &Advice)> {
        self.advised.iter().flat_map(|(project, advised)| advised.iter().map(|advice| (project.as_str(), advice)))
    }

    /// Counts of the last 24 hours.
    #[must_use]
    pub fn day(&self, project: &str, counted: Counted, now: Timestamp) -> u64 {
        self.projects.get(project).map_or(0, |project| project.day(counted, now))
    }

    /// What is to be added to the store, once.
    pub fn take_deltas(&mut self) -> Vec<Delta> {
        let deltas = std::mem::take(&mut self.deltas);
        deltas.into_iter().map(|((project, counted, hour), count)| Delta { project, counted, hour, count }).collect()
    }

    /// Takes deltas back that the store did not take.
    pub fn put_back(&mut self, deltas: Vec<Delta>) {
        for delta in deltas {
            self.remember(&delta.project, delta.counted, delta.hour, delta.count);
        }
    }

    /// Counts that were not kept for the store, since too many waited.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Projects in memory.
    #[must_use]
    pub fn projects(&self) -> usize {
        self.projects.len()
    }

    fn remember(&mut self, project: &str, counted: Counted, hour: u32, count: u32) {
        let key = (project.to_owned(), counted, hour);
        if self.deltas.len() >= DELTAS_MAX && !self.deltas.contains_key(&key) {
            self.lost = self.lost.saturating_add(u64::from(count));
            return;
        }
        let kept = self.deltas.entry(key).or_default();
        *kept = kept.saturating_add(count);
    }

    fn project(&mut self, name: &str, now: Timestamp) -> &mut Project {
        if self.projects.len() >= self.projects_max && !self.projects.contains_key(name) {
            let oldest = self.projects.iter().min_by_key(|(name, project)| (project.seen_at(), name.as_str()));
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| self.projects.remove(&name));
        }
        let project = self.projects.entry(name.to_owned()).or_insert_with(|| Project::new(now));
        project.saw(now);
        project
    }
}

/// Hours since 1970.
pub(crate) fn hour(at: Timestamp) -> u32 {
    u32::try_from(at.seconds() / 3_600).unwrap_or(u32::MAX)
}
