//! `comity fingerprint check`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use comity_sdk::compare::{Missed, Progress};
use comity_sdk::fingerprint::{By, Checking, Fingerprint, Report, Verdict, openly};
use comity_wire::Amount;
use serde_json::json;

use super::{File, Spending, foretell, stopped_short, told, words};
use crate::command::compare::stopped;
use crate::printer::{Failure, Running, note, put_private, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    file: File,
    /// A folder for the answers and verdict.json [default: a new one beside the file, unless a check was stopped there]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Ask also where the owner says that it is another model by now
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    spending: Spending,
    #[arg(long)]
    json: bool,
}

const VERDICT: &str = "verdict.json";
/// Checks beside one file.
const CHECKS_MAX: u32 = 10_000;
/// Where fewer of the questions were answered, there is no verdict yet.
const ANSWERED_MIN: f64 = 0.9;

impl Check {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let fingerprint = self.file.read(Some(&client.profile().roster))?;
        let manifest = client.manifest(&fingerprint.model).await?;
        let changes = openly(&fingerprint, &manifest, manifest.id());
        if manifest.release.digest() != fingerprint.release && !self.anyway {
            return self.said_so(&fingerprint, &changes);
        }
        let has_tokens = fingerprint.lists_tokens();
        let alternatives = client.alternatives(&fingerprint.model).await?;
        let folder = self.folder()?;
        let mut checking = Checking::create(&folder, fingerprint, alternatives, session::random(), client.now())?;
        let bounds = self.spending.bounds(&client);
        let of = checking.grid().len();
        let left = of - checking.comparison().done();
        if left > 0 {
            foretell(&client, checking.grid(), (left, of), bounds.cap).await;
        }
        let stopped = stopped();
        let wanted = || !stopped.load(Ordering::Relaxed);
        let mut running = Running::new();
        let mut told = |progress: Progress| running.show(|| told(progress));
        let ended = checking.run(&client, bounds, &wanted, &mut told).await?;
        running.end();
        let report = checking.report(Some((&manifest, manifest.id())))?;
        let is_enough = report.asked as f64 >= ANSWERED_MIN * report.of as f64;
        if !is_enough && report.verdict() != Verdict::Changed {
            let missed: Option<&Missed> = checking.comparison().rows().filter_map(|row| row.error.as_ref()).last();
            return Err(stopped_short(&ended, missed, (report.asked, report.of), report.charge_ucr));
        }
        put_private(&folder.join(VERDICT), &serde_json::to_vec_pretty(&report)?)?;
        self.end(&report, has_tokens, &folder)
    }

    /// The owner says that it is another model: asking would cost, and say no more.
    fn said_so(&self, fingerprint: &Fingerprint, changes: &[comity_sdk::fingerprint::Change]) -> Result<(), Failure> {
        if self.json {
            let report = json!({"model": fingerprint.model, "verdict": "changed_openly", "openly": changes, "asked": 0,
                "charge_ucr": Amount::ZERO});
            say(&serde_json::to_string_pretty(&report)?);
        } else {
            say(&words::changes(changes));
        }
        Err(Failure::new(
            format!(
                "{} was changed openly: its owner has published another release; nothing was asked",
                fingerprint.model
            ),
            "--anyway asks it all the same; `comity fingerprint take` takes a fingerprint of the new one",
        ))
    }

    /// A check that was stopped goes on; else there is a new one.
    fn folder(&self) -> Result<PathBuf, Failure> {
        if let Some(out) = &self.out {
            if out.join(VERDICT).exists() {
                return Err(Failure::new(
                    format!("the check in {} is done: {VERDICT} says what it came to", out.display()),
                    "name another folder, or leave --out away, for a new one",
                ));
            }
            return Ok(out.clone());
        }
        let checks = self.file.path().with_extension("checks");
        let mut numbered = (1..=CHECKS_MAX).map(|number| checks.join(number.to_string()));
        let free = numbered.find(|folder| !folder.join(VERDICT).exists());
        free.ok_or_else(|| Failure::new(format!("{} is full", checks.display()), "name a folder with --out"))
    }

    /// `has_tokens`: the fingerprint was taken with them.
    fn end(&self, report: &Report, has_tokens: bool, folder: &Path) -> Result<(), Failure> {
        if self.json {
            say(&serde_json::to_string_pretty(report)?);
        } else {
            say(&words::said(report));
        }
        note(&format!("{} spent; {}", report.charge_ucr, folder.join(VERDICT).display()));
        let model = &report.model;
        match report.verdict() {
            // One answer without them is enough for that, and a good copy says the same words.
            Verdict::Same if has_tokens && report.by == By::Words => Err(Failure::new(
                format!(
                    "cannot tell whether {model} has changed: it says the same words, and shows its tokens no more"
                ),
                "ask its owner why; check again, at another hour",
            )),
            Verdict::Same => Ok(()),
            Verdict::Changed => Err(Failure::new(
                format!("{model} has changed since {}", report.taken.1),
                format!(
                    "ask its owner, before you say it of anybody: `comity receipts export --comparison {}` is the evidence, \
                     beside the fingerprint",
                    folder.display()
                ),
            )),
            Verdict::TooFew => Err(Failure::new(
                format!("cannot tell whether {model} has changed: too few answers to compare"),
                "it may refuse more than it did; take a fingerprint with more --prompts",
            )),
            Verdict::TooNoisy => Err(Failure::new(
                format!("cannot tell whether {model} has changed: it differs too much from itself"),
                "take a fingerprint with more --prompts, or with --logprobs where its owner gives them",
            )),
            Verdict::Doubtful => Err(Failure::new(
                format!(
                    "cannot tell whether {model} has changed: more differs than is usual, and less than shows a change"
                ),
                "check again, at another hour",
            )),
        }
    }
}
