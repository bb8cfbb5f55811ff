//! A model is checked by a fingerprint.

use std::path::PathBuf;

use comity_sdk::client::{Client, Patience};
use comity_sdk::compare::{Bounds, Missed, Progress};
use comity_sdk::fingerprint::{By, Change, Checking, Report, Verdict, openly};
use comity_wire::{Amount, ModelId};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Kept, NotDone, Short, Told, changes, foretold, said};
use crate::printer::{Failure, put_private};
use crate::session;

/// By which fingerprint, and what it may cost.
#[derive(Clone, Debug)]
pub struct Check {
    pub kept: Kept,
    /// A folder for the answers and the verdict; `None`: a new one beside the file, unless a check was stopped there.
    pub out: Option<PathBuf>,
    /// Asks also where the owner says that it is another model by now.
    pub anyway: bool,
    /// What all of it may cost; `None`: what the fingerprint cost to take, within `limits.total` of the profile. A check asks a
    /// third of that; whoever made the file chose how much there is to ask.
    pub cap: Option<Amount>,
    pub at_once: usize,
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Same,
    Changed,
    CannotTell,
    ChangedOpenly,
}

/// What a check came to.
#[derive(Debug)]
pub struct Checked {
    pub model: ModelId,
    pub finding: Finding,
    /// What the owner changed openly.
    pub openly: Vec<Change>,
    /// Where something was asked: what the answers show, and the folder that has them.
    pub asked: Option<(Report, PathBuf)>,
    /// Why it is not the same, and what comes next.
    pub why: Option<Failure>,
}

/// In a check's folder, once it is done.
pub(crate) const VERDICT: &str = "verdict.json";
/// Checks beside one file.
const CHECKS_MAX: u32 = 10_000;
/// Where fewer of the questions were answered, there is no verdict yet.
const ANSWERED_MIN: f64 = 0.9;

impl Check {
    /// Asks what has no answer yet, until it is sure.
    ///
    /// # Errors
    /// [`NotDone`]: what was answered is kept in the folder, and the same again goes on.
    pub async fn run(
        &self,
        client: &Client,
        wanted: &(dyn Fn() -> bool + Sync),
        told: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Checked, NotDone> {
        let fingerprint = self.kept.read(Some(&client.profile().roster))?.fingerprint;
        let manifest = client.manifest(&fingerprint.model).await?;
        let openly = openly(&fingerprint, &manifest, manifest.id());
        if manifest.release.digest() != fingerprint.release && !self.anyway {
            return Ok(Checked::openly(fingerprint.model, openly));
        }
        let has_tokens = fingerprint.lists_tokens();
        let cap = self.cap.unwrap_or_else(|| fingerprint.charge.min(client.profile().limits.total));
        let alternatives = client.alternatives(&fingerprint.model).await?;
        let folder = self.folder()?;
        let mut checking = Checking::create(&folder, fingerprint, alternatives, session::random(), client.now())?;
        let bounds = Bounds { cap, at_once: self.at_once, patience: Patience::default() };
        let of = checking.grid().len();
        let left = of - checking.comparison().done();
        if left > 0 {
            let foretold = foretold(client, checking.grid(), (left, of), (checking.comparison().spent(), cap)).await;
            foretold.into_iter().for_each(|foretold| told(Told::Foretold(foretold)));
        }
        let mut hears = |progress: Progress| told(Told::Progress(progress));
        let ended = checking.run(client, bounds, wanted, &mut hears).await?;
        let report = checking.report(Some((&manifest, manifest.id()))).map_err(Failure::from)?;
        let is_enough = report.asked as f64 >= ANSWERED_MIN * report.of as f64;
        if !is_enough && report.verdict() != Verdict::Changed {
            let missed: Option<&Missed> = checking.comparison().rows().filter_map(|row| row.error.as_ref()).last();
            return Err(Short::after(ended, missed, (report.asked, report.of), report.charge_ucr));
        }
        let text = serde_json::to_vec_pretty(&report).map_err(Failure::from)?;
        put_private(&folder.join(VERDICT), &text).map_err(Failure::from)?;
        Ok(Checked::asked(report, has_tokens, folder))
    }

    /// A check that was stopped goes on; else there is a new one.
    fn folder(&self) -> Result<PathBuf, Failure> {
        if let Some(out) = &self.out {
            if out.join(VERDICT).exists() {
                return Err(Failure::new(
                    format!("the check in {} is done: {VERDICT} says what it came to", out.display()),
                    "name another folder, or none, for a new one",
                ));
            }
            return Ok(out.clone());
        }
        let checks = self.kept.file().with_extension("checks");
        let mut numbered = (1..=CHECKS_MAX).map(|number| checks.join(number.to_string()));
        let free = numbered.find(|folder| !folder.join(VERDICT).exists());
        free.ok_or_else(|| Failure::new(format!("{} is full", checks.display()), "name a folder for it (out)"))
    }
}

impl Checked {
    /// The owner says that it is another model: asking would cost, and say no more.
    fn openly(model: ModelId, openly: Vec<Change>) -> Self {
        let why = Failure::new(
            format!("{model} was changed openly: its owner has published another release; nothing was asked"),
            "`anyway` asks it all the same; `comity fingerprint take` takes a fingerprint of the new one",
        );
        Self { model, finding: Finding::ChangedOpenly, openly, asked: None, why: Some(why) }
    }

    /// `has_tokens`: the fingerprint was taken with them.
    fn asked(report: Report, has_tokens: bool, folder: PathBuf) -> Self {
        let (model, folder_named) = (report.model.clone(), folder.display());
        let cannot_tell = |why: &str, hint: &str| {
            let why = Failure::new(format!("cannot tell whether {model} has changed: {why}"), hint);
            (Finding::CannotTell, Some(why))
        };
        let (finding, why) = match report.verdict() {
            // One answer without them is enough for that, and a good copy says the same words.
            Verdict::Same if has_tokens && report.by == By::Words => cannot_tell(
                "it says the same words, and shows its tokens no more",
                "ask its owner why; check again, at another hour",
            ),
            Verdict::Same => (Finding::Same, None),
            Verdict::Changed => {
                let why = Failure::new(
                    format!("{model} has changed since {}", report.taken.1),
                    format!(
                        "ask its owner, before you say it of anybody: `comity receipts export --comparison {folder_named}` is the \
                         evidence, beside the fingerprint"
                    ),
                );
                (Finding::Changed, Some(why))
            }
            Verdict::TooFew => cannot_tell(
                "too few answers to compare",
                "it may refuse more than it did; take a fingerprint with more prompts",
            ),
            Verdict::TooNoisy => cannot_tell(
                "it differs too much from itself",
                "take a fingerprint with more prompts, or with log-probabilities where its owner gives them",
            ),
            Verdict::Doubtful => {
                cannot_tell("more differs than is usual, and less than shows a change", "check again, at another hour")
            }
        };
        Self { model, finding, openly: report.openly.clone(), asked: Some((report, folder)), why }
    }

    /// For people.
    pub fn shown(&self) -> String {
        self.asked.as_ref().map_or_else(|| changes(&self.openly), |(report, _)| said(report))
    }

    /// For programs.
    pub fn report(&self) -> Value {
        match &self.asked {
            Some((report, _)) => json!(report),
            None => json!({"model": self.model, "verdict": self.finding, "openly": self.openly, "asked": 0,
                "charge_ucr": Amount::ZERO}),
        }
    }
}
