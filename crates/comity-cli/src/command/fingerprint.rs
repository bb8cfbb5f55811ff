//! `comity fingerprint take|show|check`: whether the model behind a name is still the one that it was.

mod check;
mod words;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Subcommand;
use comity_sdk::client::{Client, Patience};
use comity_sdk::compare::{Bounds, Ended, Grid, Progress};
use comity_sdk::estimate::Assumed;
use comity_sdk::evidence::Evidence;
use comity_sdk::fingerprint::{Fingerprint, PROMPTS_MAX, Taking, Wish};
use comity_wire::{Amount, ModelId};

use super::compare::stopped;
use crate::money::amount;
use crate::printer::{Failure, Running, note, put_private, say};
use crate::session::{self, Session};

#[derive(Debug, Subcommand)]
pub enum FingerprintCommand {
    /// Ask a model some small questions three times, and keep what it answers; the same command goes on
    Take(Take),
    /// What a fingerprint is of, and what a check by it would find: needs no account and no network
    Show(Show),
    /// Ask the model again: same, changed, or cannot tell
    Check(check::Check),
}

#[derive(Debug, clap::Args)]
pub struct Take {
    model: ModelId,
    /// A folder for it; the file to keep and to give away is fingerprint.json in it [default: NAME.fingerprint]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Questions, each asked three times; the more, the smaller a change they tell of
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(64..=512))]
    prompts: u16,
    /// The most tokens of an answer
    #[arg(long, default_value_t = 24)]
    max_tokens: u32,
    /// Alternatives of each token, with log-probabilities; 0 compares words alone [default: what the owner's rules give, at most 5]
    #[arg(long)]
    logprobs: Option<u8>,
    /// Stop after so many of the three rounds: on other days, at other hours, they learn more of how the server differs from itself
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    rounds: u8,
    #[command(flatten)]
    spending: Spending,
    #[arg(long)]
    json: bool,
}

/// How much and how fast.
#[derive(Debug, clap::Args)]
struct Spending {
    /// What all of it may cost at most: micro-credits such as 250000, or credits such as 0.25cr [default: limits.total of the
    /// profile]
    #[arg(long, value_parser = amount)]
    cap: Option<Amount>,
    /// Calls at once
    #[arg(long, default_value_t = 8)]
    at_once: usize,
}

impl Spending {
    fn bounds(&self, client: &Client) -> Bounds {
        let cap = self.cap.unwrap_or_else(|| client.profile().limits.total);
        Bounds { cap, at_once: self.at_once, patience: Patience::default() }
    }
}

#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    file: File,
    #[arg(long)]
    json: bool,
}

/// A fingerprint that somebody took.
#[derive(Debug, clap::Args)]
struct File {
    /// fingerprint.json, its folder, or a file of evidence that has one
    fingerprint: PathBuf,
    /// Whose, where the file has several
    #[arg(long)]
    model: Option<ModelId>,
    /// The roster that you trust; without it, `check` takes your profile's, and `show` the file's own
    #[arg(long)]
    roster: Option<PathBuf>,
}

impl FingerprintCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Take(take) => take.run(session).await,
            Self::Show(show) => show.run(),
            Self::Check(check) => check.run(session).await,
        }
    }
}

/// What is asked of a model that says nothing of log-probabilities' number.
const ALTERNATIVES: u8 = 5;
const FILE: &str = "fingerprint.json";
/// The most of a file that is read (spec/06-metering.md §6.12).
const BYTES_MAX: u64 = 64 << 20;

impl Take {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let folder = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.fingerprint", self.model.name())));
        let alternatives = match self.logprobs {
            Some(alternatives) => alternatives,
            None => client.alternatives(&self.model).await?.min(ALTERNATIVES),
        };
        let wish = Wish {
            model: self.model.clone(),
            prompts: usize::from(self.prompts).min(PROMPTS_MAX),
            max_tokens: self.max_tokens,
            alternatives,
        };
        let mut taking = Taking::create(&folder, &wish, session::random(), client.now())?;
        let bounds = self.spending.bounds(&client);
        let (done, of) = taking.done();
        if done < of {
            if alternatives == 0 {
                note(
                    "by words alone: the owner's rules give you no log-probabilities, so a good copy would not be noticed",
                );
            }
            foretell(&client, taking.grid(), (of - done, of), bounds.cap).await;
        }
        let stopped = stopped();
        let wanted = || !stopped.load(Ordering::Relaxed);
        let mut running = Running::new();
        let mut told = |progress: Progress| running.show(|| told(progress));
        let ended = taking.run(&client, usize::from(self.rounds), bounds, &wanted, &mut told).await?;
        running.end();
        if taking.rounds_done() < usize::from(self.rounds) {
            return Err(stopped_short(&ended, taking.missed().last(), taking.done(), taking.spent()));
        }
        if taking.rounds_done() < 3 {
            let left = 3 - taking.rounds_done();
            note(&format!(
                "{} spent; {left} rounds are left: the same command goes on, now or another day",
                taking.spent()
            ));
            return Ok(());
        }
        let evidence = taking.gather(&client, &session.home).await?;
        // Read as its reader will.
        let fingerprint = Fingerprint::read(&evidence, None, None).map_err(|error| {
            let hint = "take another, with a longer --max-tokens or more --prompts, into another folder (--out)";
            Failure { hint: Some(hint.to_owned()), ..Failure::from(error) }
        })?;
        let path = folder.join(FILE);
        put_private(&path, &serde_json::to_vec(&evidence)?)?;
        if self.json {
            say(&serde_json::to_string_pretty(&words::facts(&fingerprint))?);
        } else {
            say(&words::shown(&fingerprint));
        }
        note(&format!("{} spent; {}", taking.spent(), path.display()));
        note("it shows its prompts: whoever sees it before a check could prepare for them");
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let fingerprint = self.file.read(None)?;
        if self.json {
            say(&serde_json::to_string_pretty(&words::facts(&fingerprint))?);
        } else {
            say(&words::shown(&fingerprint));
        }
        Ok(())
    }
}

impl File {
    /// The file itself, also where its folder was named.
    fn path(&self) -> PathBuf {
        if self.fingerprint.is_dir() { self.fingerprint.join(FILE) } else { self.fingerprint.clone() }
    }

    /// `trusted`: the roster where none is named; without either it is the file's own, which anybody can make.
    fn read(&self, trusted: Option<&Path>) -> Result<Fingerprint, Failure> {
        let path = self.path();
        let read = |path: &Path| {
            let fails = |error: &dyn std::fmt::Display| {
                let hint = "comity fingerprint take MODEL makes one; give the file, or its folder";
                Failure::new(format!("cannot read {}: {error}", path.display()), hint)
            };
            match std::fs::metadata(path) {
                Ok(file) if file.len() > BYTES_MAX => Err(fails(&"it is larger than 64 MiB")),
                _ => std::fs::read(path).map_err(|error| fails(&error)),
            }
        };
        let pinned = self.roster.as_deref().or(trusted).map(read).transpose()?;
        let wrong = |failure: Failure| {
            let hint = "do not rely on it; ask whoever gave it to you, or take one yourself";
            Failure::new(format!("{}: {}", path.display(), failure.message), hint)
        };
        let evidence = Evidence::read(&read(&path)?).map_err(|error| wrong(error.into()))?;
        let read = Fingerprint::read(&evidence, pinned.as_deref(), self.model.as_ref());
        let fingerprint = read.map_err(|error| wrong(error.into()))?;
        if pinned.is_none() {
            let (roster, _) = evidence.verify(None).map_err(|error| wrong(error.into()))?;
            note(&format!(
                "under the file's own roster, {roster}, which anybody can make: name the one that you trust with --roster"
            ));
        }
        Ok(fingerprint)
    }
}

/// What is open would cost, before it is spent. `calls`: left, and all.
async fn foretell(client: &Client, grid: &Grid, (left, all): (u64, u64), cap: Amount) {
    let one = match client.estimate(grid, Assumed::default()).await.map(|mut estimates| estimates.pop()) {
        Ok(Some(one)) => one,
        Ok(None) => return,
        Err(error) => return note(&format!("what it costs is not known: {error}")),
    };
    let rounds = all.div_ceil(grid.len().max(1));
    let times = |amount: Amount| (0..rounds).fold(Amount::ZERO, |sum, _| sum.saturating_add(amount));
    note(&format!(
        "{left} calls; all {all} cost likely {}, at most {}; the cap is {cap}",
        times(one.likely_ucr),
        times(one.high_ucr)
    ));
}

fn told(progress: Progress) -> String {
    let Progress { done, total, missed, spent, cap } = progress;
    let missed = if missed > 0 { format!(", {missed} refused") } else { String::new() };
    format!("{done} of {total} answered{missed}; {spent} of {cap} spent")
}

/// Why it ended before it was done.
fn stopped_short(
    ended: &Ended,
    missed: Option<&comity_sdk::compare::Missed>,
    (done, of): (u64, u64),
    spent: Amount,
) -> Failure {
    let stands = format!("{done} of {of} calls are answered, {spent} spent");
    match (ended, missed) {
        (Ended::Cap(capped), _) => Failure::new(
            format!("stopped at the cap: {capped}"),
            format!("{stands}; the same command with a higher --cap goes on where it stopped"),
        ),
        (Ended::Stopped, _) => Failure::new("stopped before its end", format!("{stands}; the same command goes on")),
        (Ended::All, Some(missed)) => {
            let hint = missed.hint.clone().unwrap_or_else(|| "the same command asks them again".to_owned());
            Failure::new(format!("{stands}; the rest were refused: {}: {}", missed.code, missed.message), hint)
        }
        (Ended::All, None) => Failure::new(format!("{stands}; the rest has no answer"), "the same command goes on"),
    }
}
