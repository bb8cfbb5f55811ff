//! `comity fingerprint take|show|check`: whether the model behind a name is still the one that it was.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Subcommand;
use comity_sdk::compare::Progress;
use comity_wire::{Amount, ModelId};

use super::compare::stopped;
use crate::fingerprint::{self, Foretold, Kept, Told, facts, shown};
use crate::money::amount;
use crate::printer::{Failure, Running, note, say};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum FingerprintCommand {
    /// Ask a model some small questions three times, and keep what it answers; the same command goes on
    Take(Take),
    /// What a fingerprint is of, and what a check by it would find: needs no account and no network
    Show(Show),
    /// Ask the model again: same, changed, or cannot tell
    Check(Check),
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
    /// What all of it may cost at most: micro-credits such as 250000, or credits such as 0.25cr [default: of `take`, limits.total of
    /// the profile; of `check`, what the fingerprint cost to take, where that is less]
    #[arg(long, value_parser = amount)]
    cap: Option<Amount>,
    /// Calls at once
    #[arg(long, default_value_t = 8)]
    at_once: usize,
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

impl FingerprintCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Take(take) => take.run(session).await,
            Self::Show(show) => show.run(),
            Self::Check(check) => check.run(session).await,
        }
    }
}

impl Take {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let take = fingerprint::Take {
            model: self.model,
            folder: self.out,
            prompts: usize::from(self.prompts),
            max_tokens: self.max_tokens,
            logprobs: self.logprobs,
            rounds: usize::from(self.rounds),
            cap: self.spending.cap,
            at_once: self.spending.at_once,
        };
        let (stopped, mut running) = (stopped(), Running::new());
        let wanted = || !stopped.load(Ordering::Relaxed);
        let taken = take.run(&client, &session.home, &wanted, &mut |told| hear(&mut running, told)).await?;
        running.end();
        let Some(fingerprint) = &taken.fingerprint else {
            note(&format!(
                "{} spent; {} rounds are left: the same command goes on, now or another day",
                taken.spent, taken.rounds_left
            ));
            return Ok(());
        };
        if self.json {
            say(&serde_json::to_string_pretty(&facts(fingerprint))?);
        } else {
            say(&shown(fingerprint));
        }
        note(&format!("{} spent; {}", taken.spent, taken.path.display()));
        note("it shows its prompts: whoever sees it before a check could prepare for them");
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let known = self.file.kept().read(None)?;
        if let Some(roster) = known.own_roster {
            note(&format!(
                "under the file's own roster, {roster}, which anybody can make: name the one that you trust with --roster"
            ));
        }
        if self.json {
            say(&serde_json::to_string_pretty(&facts(&known.fingerprint))?);
        } else {
            say(&shown(&known.fingerprint));
        }
        Ok(())
    }
}

impl Check {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let check = fingerprint::Check {
            kept: self.file.kept(),
            out: self.out,
            anyway: self.anyway,
            cap: self.spending.cap,
            at_once: self.spending.at_once,
        };
        let (stopped, mut running) = (stopped(), Running::new());
        let wanted = || !stopped.load(Ordering::Relaxed);
        let checked = check.run(&client, &wanted, &mut |told| hear(&mut running, told)).await?;
        running.end();
        if self.json {
            say(&serde_json::to_string_pretty(&checked.report())?);
        } else {
            say(&checked.shown());
        }
        if let Some((report, folder)) = &checked.asked {
            note(&format!("{} spent; {}", report.charge_ucr, folder.join(fingerprint::VERDICT).display()));
        }
        checked.why.map_or(Ok(()), Err)
    }
}

impl File {
    fn kept(&self) -> Kept {
        Kept { path: self.fingerprint.clone(), model: self.model.clone(), roster: self.roster.clone() }
    }
}

fn hear(running: &mut Running, told: Told) {
    match told {
        Told::WordsAlone => {
            note(
                "by words alone: the owner's rules give you no log-probabilities, so a good copy would not be noticed",
            );
        }
        Told::Foretold(Foretold { left, all, cap, cost: Ok((likely, most)), .. }) => {
            note(&format!("{left} calls; all {all} cost likely {likely}, at most {most}; the cap is {cap}"));
        }
        Told::Foretold(Foretold { cost: Err(why), cap, .. }) => {
            note(&format!("what it costs is not known: {why}; the cap is {cap}"));
        }
        Told::Progress(Progress { done, total, missed, spent, cap }) => running.show(|| {
            let missed = if missed > 0 { format!(", {missed} refused") } else { String::new() };
            format!("{done} of {total} answered{missed}; {spent} of {cap} spent")
        }),
    }
}
