//! Fingerprints: taken, shown, checked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use comity_cli::Failure;
use comity_cli::fingerprint::{Check, Foretold, Kept, NotDone, Short, Take, Told, Why, facts, shown};
use comity_sdk::Client;
use comity_sdk::compare::Progress;
use comity_wire::{Amount, ModelId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Raised;

/// A fingerprint to take, as Python says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taking {
    model: ModelId,
    folder: Option<PathBuf>,
    prompts: usize,
    max_tokens: u32,
    logprobs: Option<u8>,
    rounds: usize,
    cap: Option<Amount>,
    at_once: usize,
}

/// A fingerprint that there is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    file: PathBuf,
    model: Option<ModelId>,
    roster: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checking {
    named: Named,
    folder: Option<PathBuf>,
    anyway: bool,
    cap: Option<Amount>,
    at_once: usize,
}

impl Taking {
    pub(crate) fn read(text: &str) -> Result<Self, Raised> {
        serde_json::from_str(text).map_err(|error| Raised::form(&error))
    }

    pub(crate) async fn run(
        self,
        client: Arc<Client>,
        home: PathBuf,
        told: Sender<String>,
        wanted: Arc<AtomicBool>,
    ) -> Result<Value, Raised> {
        let Self { model, folder, prompts, max_tokens, logprobs, rounds, cap, at_once } = self;
        let take = Take { model, folder, prompts, max_tokens, logprobs, rounds, cap, at_once };
        let wanted = || wanted.load(Ordering::Relaxed);
        let taken = take.run(&client, &home, &wanted, &mut |what| hear(&told, what)).await?;
        let (done, of) = taken.done;
        let fingerprint = taken.fingerprint.as_ref();
        Ok(json!({
            "model": take.model, "path": taken.path, "done": done, "of": of, "spent_ucr": taken.spent,
            "rounds_left": taken.rounds_left, "facts": fingerprint.map(facts), "text": fingerprint.map(shown),
        }))
    }
}

impl Named {
    fn kept(self) -> Kept {
        Kept { path: self.file, model: self.model, roster: self.roster }
    }

    pub(crate) fn show(self) -> Result<Value, Raised> {
        let kept = self.kept();
        let known = kept.read(None)?;
        let (facts, text) = (facts(&known.fingerprint), shown(&known.fingerprint));
        let model = known.fingerprint.model;
        Ok(json!({"model": model, "path": kept.path, "own_roster": known.own_roster, "facts": facts, "text": text}))
    }
}

impl Checking {
    pub(crate) fn read(text: &str) -> Result<Self, Raised> {
        serde_json::from_str(text).map_err(|error| Raised::form(&error))
    }

    pub(crate) async fn run(
        self,
        client: Arc<Client>,
        told: Sender<String>,
        wanted: Arc<AtomicBool>,
    ) -> Result<Value, Raised> {
        let Self { named, folder, anyway, cap, at_once } = self;
        let check = Check { kept: named.kept(), out: folder, anyway, cap, at_once };
        let wanted = || wanted.load(Ordering::Relaxed);
        let checked = check.run(&client, &wanted, &mut |what| hear(&told, what)).await?;
        let report = checked.asked.as_ref().map(|(report, _)| report);
        let why = checked.why.as_ref();
        Ok(json!({
            "model": checked.model, "verdict": checked.finding, "text": checked.shown(), "report": checked.report(),
            "openly": checked.openly, "folder": checked.asked.as_ref().map(|(_, folder)| folder),
            "asked": report.map_or(0, |report| report.asked), "of": report.map_or(0, |report| report.of),
            "spent_ucr": report.map_or(Amount::ZERO, |report| report.charge_ucr),
            "why": why.map(|why| &why.message), "hint": why.and_then(|why| why.hint.as_ref()),
        }))
    }
}

/// Counts, each with what is new: first what it would cost.
fn hear(told: &Sender<String>, what: Told) {
    let counts = match what {
        Told::WordsAlone => {
            json!({"note": "by words alone: the owner's rules give you no log-probabilities, so a good copy would \
                                            not be noticed"})
        }
        Told::Foretold(Foretold { left, all, spent, cap, cost }) => {
            let known = cost.as_ref().ok();
            json!({
                "done": all - left, "total": all, "missed": 0, "spent_ucr": spent, "cap_ucr": cap,
                "likely_ucr": known.map(|(likely, _)| likely),
                "most_ucr": known.map(|(_, most)| most), "unknown": cost.as_ref().err(),
            })
        }
        Told::Progress(Progress { done, total, missed, spent, cap }) => {
            json!({"done": done, "total": total, "missed": missed, "spent_ucr": spent, "cap_ucr": cap})
        }
    };
    let _ = told.send(counts.to_string());
}

impl From<NotDone> for Raised {
    fn from(not: NotDone) -> Self {
        match not {
            NotDone::Client(error) => (*error).into(),
            NotDone::Folder(error) => Self::of("fingerprint", error),
            NotDone::Wrong(failure) => Self::of("fingerprint", failure),
            NotDone::Short(short) => short_of_it(*short),
        }
    }
}

fn short_of_it(short: Short) -> Raised {
    let fields = json!({"done": short.done, "of": short.of, "spent_ucr": short.spent});
    let (code, limit) = match &short.why {
        Why::Cap(_) => ("cap".to_owned(), Some("cap".to_owned())),
        Why::Caller => ("stopped".to_owned(), None),
        Why::Refused(None) => ("fingerprint".to_owned(), None),
        Why::Refused(Some(missed)) => (missed.code.clone(), missed.limit.clone()),
    };
    Raised::of(&code, Failure::from(short)).within(limit, fields)
}
