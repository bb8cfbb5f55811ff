//! What an operator asks: what is checked, how far it is, what it costs, what was found.

use std::path::PathBuf;

use comity_probe::Finding;
use comity_sdk::Client;
use comity_sdk::journal::{Entry, Journal as Wallet};
use comity_wire::object::Receipt;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, ModelId, NodeId, Signed, Timestamp};
use serde::Serialize;

use super::config::Config;
use super::personas;
use super::runner::Store;
use super::state::{Drawn, Event, Stands, State, Tally};
use crate::failure::{Failure, While as _};
use crate::home::{self, Home};

/// The share of answers beyond each level of a model that is another one, for an idea of how long it takes to find it: the sibling of the
/// shipped model had as many (decision 0066).
const OTHER: f64 = 0.5;

/// How the probes stand.
#[derive(Debug, Serialize)]
pub struct Status {
    pub running: bool,
    pub at: Timestamp,
    /// Today's, with what is held for calls under way.
    pub spent: Amount,
    pub held: Amount,
    pub day_max: Amount,
    /// What all personas have left.
    pub lot: Amount,
    pub planned: usize,
    pub waiting: usize,
    pub doubtful: usize,
    pub personas: usize,
    /// Who works within a week and cannot yet.
    pub lacking: usize,
    pub findings: usize,
    pub models: Vec<ModelStatus>,
}

/// How one model stands.
#[derive(Debug, Serialize)]
pub struct ModelStatus {
    pub model: ModelId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// Whether it is asked: it stands in `probe.toml`, and the federation offers it.
    pub checked: bool,
    pub blind: SideStatus,
    pub announced: SideStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged: Option<Timestamp>,
    pub tally: Tally,
}

/// How far one side is.
#[derive(Debug, Default, Serialize)]
pub struct SideStatus {
    pub prompts: usize,
    /// Whether there is a baseline that answers are compared with.
    pub ready: bool,
    /// What the test for a change has reached, and where it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    pub threshold: f64,
    /// About how long it takes until a model is found of which half of the answers are otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_hours: Option<f64>,
}

impl Status {
    /// # Errors
    /// [`Failure`].
    pub fn look(home: &Home, config: &Config, now: Timestamp) -> Result<Self, Failure> {
        let state = Store::look(home)?;
        let today = now.seconds() / DAY_S;
        let purse = state.program().purse();
        let of_today = state.days.get(&today);
        let stands = |which: Stands| of_today.map_or(0, |of| of.stands.iter().filter(|is| **is == which).count());
        let open = state.open().filter_map(|(day, ask, at)| (at.seconds() / DAY_S == today).then_some((day, ask)));
        let held = open.filter_map(|(day, ask)| state.days.get(&day)?.asks.get(ask).map(|planned| planned.worst));
        let models = config.model.iter().map(|model| &model.id);
        let gone = state.places().iter().map(|place| &place.model).filter(|model| config.of(model).is_none());
        Ok(Self {
            running: super::journal::Journal::is_open(&super::folder(home)),
            at: now,
            spent: purse.spent(today),
            held: held.fold(Amount::ZERO, Amount::saturating_add),
            day_max: config.day_max_ucr,
            lot: purse.lot(),
            planned: of_today.map_or(0, |of| of.asks.len()),
            waiting: stands(Stands::Waits),
            doubtful: state.open().filter(|(_, _, at)| now.since(*at) > 600).count(),
            personas: state.cast.values().filter(|who| who.ready).count(),
            lacking: personas::lacking(config, &state, today..today + 7),
            findings: state.drawn.iter().filter(|drawn| !drawn.dealt_with).count(),
            models: models.chain(gone).map(|model| ModelStatus::of(&state, config, model)).collect(),
        })
    }

    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let runs = if self.running { "running" } else { "not running: comity clearing probe run" };
        let mut lines = vec![
            format!("probes     {runs}"),
            format!(
                "today      {} of {} spent, {} held; the personas have {}",
                self.spent, self.day_max, self.held, self.lot
            ),
            format!("calls      {} planned today, {} to come, {} in doubt", self.planned, self.waiting, self.doubtful),
        ];
        let lacking = match self.lacking {
            0 => String::new(),
            lacking => format!("; {lacking} who work within a week are not: comity clearing probe init"),
        };
        lines.push(format!("personas   {} ready{lacking}", self.personas));
        lines.push(format!("findings   {} that nobody has looked into", self.findings));
        self.models.iter().for_each(|model| model.text(&mut lines));
        lines.join("\n")
    }
}

impl ModelStatus {
    fn of(state: &State, config: &Config, model: &ModelId) -> Self {
        let at = state.places().iter().position(|place| place.model == *model);
        let place = at.and_then(|at| state.places().get(at));
        let known = at.and_then(|at| state.program().door(at)).map(|(_, known)| known);
        let side = |announced: bool| {
            let settings = config.settings();
            let threshold = settings.promise.threshold();
            let Some(known) = known else { return SideStatus { threshold, ..SideStatus::default() } };
            let share = if announced { settings.announced } else { 1.0 - settings.announced };
            let test = known.changed(announced);
            let answers = test.and_then(|test| test.delay([OTHER; 3], &settings.promise));
            SideStatus {
                prompts: known.baseline(announced).len(),
                ready: known.baseline(announced).rates().is_some(),
                value: test.map(comity_probe::Detector::value),
                threshold,
                delay_hours: answers.map(|answers| answers / (settings.calls_a_day * share) * 24.0),
            }
        };
        Self {
            model: model.clone(),
            node: place.map(|place| place.node),
            release: place.map(|place| place.release),
            checked: place.is_some_and(|place| place.risk > 0) && config.of(model).is_some(),
            blind: side(false),
            announced: side(true),
            judged: known.and_then(comity_probe::Checker::judged),
            tally: at.and_then(|at| state.tallies.get(at)).cloned().unwrap_or_default(),
        }
    }

    fn text(&self, lines: &mut Vec<String>) {
        let node = self.node.map_or_else(|| "not offered yet".to_owned(), |node| node.to_string());
        let kept = if self.checked { "" } else { ", not asked" };
        lines.push(format!("{}  {node}{kept}", self.model));
        for (name, side) in [("blind", &self.blind), ("auditors", &self.announced)] {
            let how = match (side.ready, side.delay_hours) {
                (false, _) => format!("{} prompts known, no baseline yet", side.prompts),
                (true, None) => format!("baseline of {} prompts; another model would not be found", side.prompts),
                (true, Some(hours)) => format!(
                    "baseline of {} prompts; a change is at {:.0} of {:.0}, another model is found in about {hours:.1} hours",
                    side.prompts,
                    side.value.unwrap_or_default(),
                    side.threshold
                ),
            };
            lines.push(format!("  {name:<9}{how}"));
        }
        let Tally { answered, compared, failed, missed, last, reasons } = &self.tally;
        let last = last.map_or_else(|| "never".to_owned(), |last| last.to_string());
        lines.push(format!(
            "  calls    {answered} answered, {compared} compared, {failed} failed, {missed} not made; last {last}"
        ));
        for (why, (times, last)) in reasons {
            lines.push(format!("    {times} × {why}, last {last}"));
        }
    }
}

/// A finding in a list.
#[derive(Debug, Serialize)]
pub struct DrawnLine {
    pub id: Digest,
    pub model: ModelId,
    pub why: String,
    pub at: Timestamp,
    pub announced: bool,
    pub differ: u64,
    pub looked_at: u64,
    pub dealt_with: bool,
    /// Where it stands at the house, and what its owner said.
    pub state: comity_probe::State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl DrawnLine {
    /// What a list says of one, beside what the house has.
    #[must_use]
    pub fn of(drawn: &Drawn, house: &[Finding]) -> Self {
        let stands = house.iter().find(|finding| finding.id == drawn.finding.id).unwrap_or(&drawn.finding);
        let evidence = &drawn.finding.evidence;
        Self {
            id: drawn.finding.id,
            model: evidence.model.clone(),
            why: evidence.why.name(),
            at: evidence.until,
            announced: evidence.announced,
            differ: evidence.differ,
            looked_at: evidence.looked_at,
            dealt_with: drawn.dealt_with,
            state: stands.state.clone(),
            answer: stands.answer.clone(),
        }
    }
}

/// The findings that the tests drew up.
///
/// # Errors
/// [`Failure`].
pub fn drawn(home: &Home) -> Result<Vec<Drawn>, Failure> {
    Ok(Store::look(home)?.drawn)
}

/// One of them.
///
/// # Errors
/// [`Failure`] where none has that id.
pub fn drawn_one(home: &Home, id: Digest) -> Result<Drawn, Failure> {
    let found = drawn(home)?.into_iter().find(|drawn| drawn.finding.id == id);
    found.ok_or_else(|| {
        Failure::new(format!("no finding {id} was drawn up here")).hint("comity clearing probe findings list")
    })
}

/// Puts the receipts of a finding into a folder, one file each, from the wallets that have them; gives how many.
///
/// # Errors
/// [`Failure`]; also where one is nowhere.
pub fn receipts(home: &Home, finding: &Finding, into: &std::path::Path) -> Result<usize, Failure> {
    let state = Store::look(home)?;
    let mut wanted: std::collections::BTreeSet<Digest> = finding.evidence.receipts.iter().copied().collect();
    let all = wanted.len();
    std::fs::create_dir_all(into).while_(format!("cannot make {}", into.display()))?;
    for who in state.cast.values() {
        Wallet::each(&Client::journal(&personas::folder(home, who)), |entry| {
            let Entry::Receipt { receipt, .. } = entry else { return Ok(()) };
            let id = Signed::<Receipt>::decode(&receipt)?.id();
            if wanted.remove(&id) {
                home::write(&into.join(format!("{id}.receipt")), &receipt)?;
            }
            Ok::<_, Failure>(())
        })?;
    }
    match wanted.len() {
        0 => Ok(all),
        lost => Err(Failure::new(format!("{lost} of {all} receipts are in no wallet"))
            .hint("restore the folder `people` of the probes from a copy")),
    }
}

/// Where commands leave word for the process that has the journal.
pub const DECIDED: &str = "decided";

fn desk(home: &Home) -> PathBuf {
    super::folder(home).join(DECIDED)
}

/// A person looked into a finding: its test begins anew, and what its evidence gives away is used no more.
///
/// # Errors
/// [`Failure`].
pub fn deal_with(home: &Home, finding: Digest) -> Result<(), Failure> {
    let desk = desk(home);
    std::fs::create_dir_all(&desk).while_(format!("cannot make {}", desk.display()))?;
    home::write(&desk.join(finding.to_string()), b"")?;
    // Where nobody runs, it is done at once; else within half a minute.
    if super::journal::Journal::is_open(&super::folder(home)) {
        return Ok(());
    }
    let mut store = Store::open(home)?;
    for (finding, file) in decided(home)? {
        store.record(Event::DealtWith { finding })?;
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// What was left there.
///
/// # Errors
/// [`Failure`].
pub fn decided(home: &Home) -> Result<Vec<(Digest, PathBuf)>, Failure> {
    let desk = desk(home);
    let files = match std::fs::read_dir(&desk) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).while_(format!("cannot read {}", desk.display())),
    };
    let mut found = Vec::new();
    for file in files {
        let path = file?.path();
        // A name that is no id is one that is being written.
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        found.extend(id.map(|id| (id, path)));
    }
    Ok(found)
}
