//! `probe.toml` in the house's home: what is checked, as whom it seems, and what it may cost. A key that is not known is refused.

use std::path::Path;

use comity_clearing::lots::FundKind;
use comity_probe::{Promise, Settings};
use comity_wire::object::Vetting;
use comity_wire::{Amount, ModelId};
use serde::Deserialize;

use crate::failure::{Failure, While as _};

/// The file's name.
pub const FILE: &str = "probe.toml";
/// Models that a house checks at most: each has a place of the core's.
const MODELS_MAX: usize = 1_024;
/// Calls of a day at a door, at most: its places have no more people.
const CALLS_MAX: f64 = 400.0;
/// The longest time that personas are made for beforehand.
const AHEAD_MAX: u64 = 180;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    probe: Config,
}

/// The table `[probe]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Hubs or nodes to ask for models, `https://host:port`, as a researcher's profile names them.
    pub entry: Vec<String>,
    /// The house, where it is not found through the federation.
    #[serde(default)]
    pub house: Option<String>,
    /// What all probes of a day may cost together; never passed.
    pub day_max_ucr: Amount,
    /// What each persona's project is awarded.
    pub award_ucr: Amount,
    /// What one of its tokens holds at most. Left out, as much as anybody's wallet draws by itself.
    #[serde(default = "token")]
    pub token_ucr: Amount,
    /// Whose money it is: the award stands in the books as others do.
    pub funder: String,
    /// The award's number at the funder; each persona's has its own number behind it.
    pub award: String,
    #[serde(default)]
    pub kind: FundKind,
    /// How many days a persona's award may be spent.
    #[serde(default = "year")]
    pub award_days: u64,
    /// How many days ahead personas are made.
    #[serde(default = "four_weeks")]
    pub days_ahead: u64,
    /// Calls of an average day at each model, where money suffices.
    #[serde(default = "calls")]
    pub calls_a_day: f64,
    /// Share of them by announced auditors; 0: there are none.
    #[serde(default = "auditors")]
    pub auditors: f64,
    /// One false alarm of a test of a model in so many years.
    #[serde(default = "years")]
    pub years_a_false_alarm: f64,
    /// Titles that projects of personas are given, in turn. Owners do not see them, the house's people do.
    #[serde(default = "titles")]
    pub titles: Vec<String>,
    /// What projects of blind personas declare, in turn.
    pub purposes: Vec<String>,
    /// What those of announced auditors declare, by which owners know them.
    #[serde(default = "audit")]
    pub auditor_purpose: String,
    #[serde(default = "registered")]
    pub vetting: Vetting,
    /// What is checked.
    pub model: Vec<Model>,
}

/// `[[probe.model]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: ModelId,
    /// How much hangs on it, 1 to 4.
    #[serde(default = "two")]
    pub risk: u8,
    /// Alternatives to ask for with each token's log-probability, where the owner's policy gives them.
    #[serde(default)]
    pub logprobs: Option<u8>,
}

impl Config {
    /// Reads `probe.toml`.
    ///
    /// # Errors
    /// [`Failure`] that names what is wrong.
    pub fn read(home: &Path) -> Result<Self, Failure> {
        let path = home.join(FILE);
        let text = std::fs::read_to_string(&path)
            .while_(format!("cannot read {}", path.display()))
            .map_err(|failure| failure.hint("write it first: docs/operating/probes.md has one to begin with"))?;
        let File { probe } = toml::from_str(&text).while_(format!("{} cannot be used", path.display()))?;
        probe.check().map_err(|what| Failure::new(what).of(&path))?;
        Ok(probe)
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut ids: Vec<_> = self.model.iter().map(|model| &model.id).collect();
        ids.sort();
        ids.dedup();
        let named = |texts: &[String]| !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty());
        let rules: [(bool, &'static str); 11] = [
            (!self.entry.is_empty(), "entry: name a hub or node to ask"),
            (!ids.is_empty() && ids.len() <= MODELS_MAX, "model: 1 to 1024 models can be checked"),
            (ids.len() == self.model.len(), "model: each is checked once"),
            (self.model.iter().all(|model| (1..=4).contains(&model.risk)), "risk: 1 to 4"),
            (
                self.model.iter().all(|model| model.logprobs.is_none_or(|top| (1..=20).contains(&top))),
                "logprobs: 1 to 20",
            ),
            (self.calls_a_day > 0.0 && self.calls_a_day <= CALLS_MAX, "calls_a_day: above 0, and at most 400"),
            ((0.0..1.0).contains(&self.auditors), "auditors: a share from 0 to below 1"),
            (self.years_a_false_alarm > 0.0 && self.years_a_false_alarm.is_finite(), "years_a_false_alarm: above 0"),
            (named(&self.purposes) && named(&self.titles), "purposes, titles: one at least, none of them empty"),
            (!self.purposes.contains(&self.auditor_purpose), "auditor_purpose: blind personas must not declare it"),
            ((1..=AHEAD_MAX).contains(&self.days_ahead), "days_ahead: 1 to 180"),
        ];
        if self.token_ucr > self.award_ucr || self.token_ucr.is_zero() {
            return Err("token_ucr: above 0, and no more than award_ucr");
        }
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// What the core needs of it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let promise = Promise { a_year: 1.0 / self.years_a_false_alarm, answers_a_day: self.calls_a_day };
        Settings { promise, calls_a_day: self.calls_a_day, announced: self.auditors }
    }

    /// The lines on a model.
    #[must_use]
    pub fn of(&self, id: &ModelId) -> Option<&Model> {
        self.model.iter().find(|model| model.id == *id)
    }
}

fn year() -> u64 {
    365
}

fn token() -> Amount {
    comity_sdk::profile::Limits::default().token
}

fn four_weeks() -> u64 {
    28
}

fn calls() -> f64 {
    Settings::default().calls_a_day
}

fn auditors() -> f64 {
    Settings::default().announced
}

fn years() -> f64 {
    1.0 / Promise::default().a_year
}

fn audit() -> String {
    "audit".to_owned()
}

fn registered() -> Vetting {
    Vetting::Registered
}

fn two() -> u8 {
    2
}

fn titles() -> Vec<String> {
    let titles = [
        "How answers depend on the order of examples",
        "Reading comprehension in short passages",
        "Language models for a course on text analysis",
        "Arithmetic in small language models",
        "Questions about places in synthetic texts",
        "A corpus of short answers",
    ];
    titles.map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [probe]
        entry = ["https://127.0.0.1:1"]
        day_max_ucr = 300_000
        award_ucr = 2_000_000
        token_ucr = 100_000
        funder = "House"
        award = "P-1"
        purposes = ["research"]
        [[probe.model]]
        id = "lab/model"
    "#;

    fn read(text: &str) -> Result<Config, String> {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), text).unwrap();
        Config::read(home.path()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_is_left_out_is_as_it_ships_and_what_is_not_known_is_refused() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.settings(), Settings::default());
        for (from, to, what) in [
            ("entry =", "entries =", "unknown field"),
            ("id = \"lab/model\"", "id = \"lab/model\"\nrisk = 9", "risk"),
            ("purposes = [\"research\"]", "purposes = [\"audit\"]", "auditor_purpose"),
            ("token_ucr = 100_000", "token_ucr = 3_000_000", "token_ucr"),
            ("funder", "years_a_false_alarm = 0.0\nfunder", "years"),
            ("funder", "auditors = 1.5\nfunder", "auditors"),
        ] {
            let said = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(said.contains(what), "{what}: {said}");
        }
        let twice = format!("{GOOD}\n[[probe.model]]\nid = \"lab/model\"\n");
        assert!(read(&twice).unwrap_err().contains("once"));
    }
}
