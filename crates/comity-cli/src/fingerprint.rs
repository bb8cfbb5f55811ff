//! A model's fingerprint taken, shown and checked (decision 0094), without a terminal: for the command and for the Python package.
//!
//! [`Take`] and [`Check`] name folders, say what will be spent before it is ([`Told::Foretold`]), and go on where they were stopped.
//! What a fingerprint is, and what answers show, is the SDK's. Leaves to others: where it is written to, and in which words it is
//! stopped.

mod check;
mod take;
mod words;

use std::path::{Path, PathBuf};

use comity_sdk::cap::Capped;
use comity_sdk::client::Client;
use comity_sdk::compare::{CompareError, Ended, Grid, Missed, Progress};
use comity_sdk::estimate::Assumed;
use comity_sdk::evidence::Evidence;
use comity_sdk::fingerprint::Fingerprint;
use comity_wire::{Amount, Digest, ModelId};

use crate::printer::Failure;

pub(crate) use check::VERDICT;
pub use check::{Check, Checked, Finding};
pub use take::{PROMPTS_MIN, Take, Taken};
pub use words::{changes, facts, said, shown};

/// A fingerprint that somebody took, where it lies.
#[derive(Clone, Debug)]
pub struct Kept {
    /// fingerprint.json, its folder, or a file of evidence that has one.
    pub path: PathBuf,
    /// Whose, where the file has several.
    pub model: Option<ModelId>,
    /// The roster that its reader trusts.
    pub roster: Option<PathBuf>,
}

/// A fingerprint that was read.
#[derive(Debug)]
pub struct Known {
    pub fingerprint: Fingerprint,
    /// The file's own roster, where no other was named: anybody can make one.
    pub own_roster: Option<Digest>,
}

/// What is told while it is asked.
#[derive(Clone, Debug)]
pub enum Told {
    /// The owner's rules give no log-probabilities: a good copy will not be noticed.
    WordsAlone,
    Foretold(Foretold),
    Progress(Progress),
}

/// What it would cost, before anything is spent.
#[derive(Clone, Debug)]
pub struct Foretold {
    /// Calls without an answer, and all calls.
    pub left: u64,
    pub all: u64,
    /// What those that are answered cost.
    pub spent: Amount,
    pub cap: Amount,
    /// What all calls cost, likely and at most; or why that is not known.
    pub cost: Result<(Amount, Amount), String>,
}

/// Why there is no fingerprint, or no verdict.
#[derive(Debug)]
pub enum NotDone {
    Client(Box<comity_sdk::Error>),
    Folder(CompareError),
    /// What was asked for, or a file, is not what it has to be.
    Wrong(Failure),
    Short(Box<Short>),
}

/// Stopped before its end; the same again goes on.
#[derive(Clone, Debug)]
pub struct Short {
    pub why: Why,
    /// Calls that are answered, of so many.
    pub done: u64,
    pub of: u64,
    pub spent: Amount,
}

/// What it was stopped by.
#[derive(Clone, Debug)]
pub enum Why {
    Cap(Capped),
    Caller,
    /// The rest was asked for in vain; the last refusal, where there was one.
    Refused(Option<Missed>),
}

const FILE: &str = "fingerprint.json";
/// The most of a file that is read (spec/06-metering.md §6.12).
const BYTES_MAX: u64 = 64 << 20;

impl Kept {
    /// The file itself, also where its folder was named.
    fn file(&self) -> PathBuf {
        if self.path.is_dir() { self.path.join(FILE) } else { self.path.clone() }
    }

    /// `trusted`: the roster where none is named; without either it is the file's own.
    ///
    /// # Errors
    /// [`NotDone::Wrong`]: no such file, or one that does not stand.
    pub fn read(&self, trusted: Option<&Path>) -> Result<Known, NotDone> {
        let path = self.file();
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
        let own_roster = match pinned {
            Some(_) => None,
            None => Some(evidence.verify(None).map_err(|error| wrong(error.into()))?.0),
        };
        Ok(Known { fingerprint, own_roster })
    }
}

impl Short {
    fn after(ended: Ended, missed: Option<&Missed>, (done, of): (u64, u64), spent: Amount) -> NotDone {
        let why = match ended {
            Ended::Cap(capped) => Why::Cap(capped),
            Ended::Stopped => Why::Caller,
            Ended::All => Why::Refused(missed.cloned()),
        };
        NotDone::Short(Box::new(Self { why, done, of, spent }))
    }

    /// Where it stands.
    pub fn stands(&self) -> String {
        format!("{} of {} calls are answered, {} spent", self.done, self.of, self.spent)
    }
}

impl From<comity_sdk::Error> for NotDone {
    fn from(error: comity_sdk::Error) -> Self {
        Self::Client(Box::new(error))
    }
}

impl From<CompareError> for NotDone {
    fn from(error: CompareError) -> Self {
        Self::Folder(error)
    }
}

impl From<Failure> for NotDone {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

impl From<NotDone> for Failure {
    fn from(not: NotDone) -> Self {
        match not {
            NotDone::Client(error) => (*error).into(),
            NotDone::Folder(error) => error.into(),
            NotDone::Wrong(failure) => failure,
            NotDone::Short(short) => (*short).into(),
        }
    }
}

impl From<Short> for Failure {
    fn from(short: Short) -> Self {
        let stands = short.stands();
        match short.why {
            Why::Cap(capped) => Self::new(
                format!("stopped at the cap: {capped}"),
                format!("{stands}; the same with a higher cap goes on where it stopped"),
            ),
            Why::Caller => Self::new("stopped before its end", format!("{stands}; the same goes on")),
            Why::Refused(Some(missed)) => {
                let hint = missed.hint.unwrap_or_else(|| "the same once more asks them again".to_owned());
                Self::new(format!("{stands}; the rest were refused: {}: {}", missed.code, missed.message), hint)
            }
            Why::Refused(None) => Self::new(format!("{stands}; the rest has no answer"), "the same goes on"),
        }
    }
}

/// What the calls of some rounds would cost. Calls: left, and all; money: spent, and
/// the cap. `None` where nobody can say anything of it.
async fn foretold(
    client: &Client,
    grid: &Grid,
    (left, all): (u64, u64),
    (spent, cap): (Amount, Amount),
) -> Option<Foretold> {
    let cost = match client.estimate(grid, Assumed::default()).await.map(|mut estimates| estimates.pop()) {
        Ok(one) => {
            let one = one?;
            let rounds = all.div_ceil(grid.len().max(1));
            let times = |amount: Amount| (0..rounds).fold(Amount::ZERO, |sum, _| sum.saturating_add(amount));
            Ok((times(one.likely_ucr), times(one.high_ucr)))
        }
        Err(error) => Err(error.to_string()),
    };
    Some(Foretold { left, all, spent, cap, cost })
}
