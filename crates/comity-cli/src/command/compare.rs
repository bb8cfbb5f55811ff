//! `comity compare`: several models side by side.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use comity_sdk::Client;
use comity_sdk::client::Patience;
use comity_sdk::compare::{Bounds, Comparison, Ended, Grid, Missed, Prompt, Setting, Skipped};
use comity_sdk::estimate::Assumed;
use comity_wire::{Amount, ModelId};
use serde_json::{Map, Value, json};

use crate::compare::{agreements, csv, figures, page, summary};
use crate::money::amount;
use crate::printer::{Failure, Running, note, put_private, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub struct Compare {
    /// Prompts: a line each, or JSON lines with `prompt` or `messages`, and `id` and `expected` if you like; `-` reads them
    /// from stdin. Left out, what --out holds goes on
    prompts: Option<PathBuf>,
    /// A prompt of its own; may be given more than once
    #[arg(long = "prompt", conflicts_with = "prompts")]
    prompt: Vec<String>,
    #[command(flatten)]
    asked: Asked,
    /// What all of it may cost at most: micro-credits such as 250000, or credits such as 0.25cr [default: limits.total of the
    /// profile]
    #[arg(long, value_parser = amount)]
    cap: Option<Amount>,
    /// Where results, receipts and the report go
    #[arg(long, default_value = "comparison")]
    out: PathBuf,
    /// Calls at once
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    #[arg(long)]
    json: bool,
}

/// What is asked of each model.
#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// The models, with commas between them
    #[arg(long, value_delimiter = ',')]
    models: Vec<ModelId>,
    /// The most tokens of an answer
    #[arg(long, default_value_t = 256)]
    max_tokens: u32,
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Instructions that stand before each prompt
    #[arg(long)]
    system: Option<String>,
    /// Another way to ask, NAME:FIELD=VALUE,FIELD=VALUE, beside the plain one: warm:temperature=1,seed=7. May be given more than
    /// once
    #[arg(long = "setting", value_parser = setting)]
    settings: Vec<(String, Map<String, Value>)>,
    /// How often each is asked
    #[arg(long, default_value_t = 1)]
    repeats: u32,
}

impl Asked {
    pub(super) fn grid(&self, prompts: Vec<Prompt>) -> Result<Grid, Failure> {
        if self.models.is_empty() {
            return Err(Failure::new("no model is named", "--models lab/a,lab/b; `comity models search` lists them"));
        }
        let temperature = serde_json::Number::from_f64(self.temperature)
            .ok_or_else(|| Failure::new("the temperature is no number", "--temperature 0.7"))?;
        let plain = Setting::plain(self.max_tokens);
        let fields = plain.fields.into_iter().chain([("temperature".to_owned(), Value::Number(temperature))]);
        let plain = Setting { system: self.system.clone(), fields: fields.collect(), ..plain };
        let other = |(name, fields): &(String, Map<String, Value>)| {
            let fields = plain.fields.clone().into_iter().chain(fields.clone()).collect();
            Setting { name: name.clone(), system: self.system.clone(), fields }
        };
        let others: Vec<_> = self.settings.iter().map(other).collect();
        let settings = std::iter::once(plain.clone()).chain(others).collect();
        let grid = Grid { models: self.models.clone(), prompts, settings, repeats: self.repeats };
        grid.check()?;
        Ok(grid)
    }
}

/// `warm:temperature=1,seed=7`.
fn setting(text: &str) -> Result<(String, Map<String, Value>), String> {
    let wrong = || format!("{text:?} is no setting: NAME:FIELD=VALUE,FIELD=VALUE");
    let (name, fields) = text.split_once(':').ok_or_else(wrong)?;
    let field = |pair: &str| {
        let (field, value) = pair.split_once('=')?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        (!field.is_empty()).then(|| (field.trim().to_owned(), value))
    };
    let fields: Option<Map<_, _>> = fields.split(',').map(field).collect();
    match fields {
        Some(fields) if !name.is_empty() => Ok((name.to_owned(), fields)),
        _ => Err(wrong()),
    }
}

/// Prompts of a file, or of stdin.
pub(super) fn read(path: &Path) -> Result<Vec<Prompt>, Failure> {
    let of = |error: &dyn std::fmt::Display| {
        let hint = "a line is a prompt; or JSON lines: {\"id\": \"q1\", \"prompt\": \"…\", \"expected\": \"…\"}";
        Failure::new(format!("{}: {error}", path.display()), hint)
    };
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| of(&error))?;
        text
    } else {
        std::fs::read_to_string(path).map_err(|error| of(&error))?
    };
    Prompt::read(&text).map_err(|error| of(&error))
}

impl Compare {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let mut comparison = self.comparison(&client)?;
        let cap = self.cap.unwrap_or_else(|| client.profile().limits.total);
        foretell(&client, &comparison, cap).await?;
        let bounds = Bounds { cap, at_once: self.at_once, patience: Patience::default() };
        let stopped = stopped();
        let wanted = || !stopped.load(Ordering::Relaxed);
        let mut running = Running::new();
        let mut told = |_: &comity_sdk::compare::Row, progress: comity_sdk::compare::Progress| {
            running.show(|| {
                let comity_sdk::compare::Progress { done, total, missed, spent, cap } = progress;
                let missed = if missed > 0 { format!(", {missed} refused") } else { String::new() };
                format!("{done} of {total} answered{missed}; {spent} of {cap} spent")
            });
        };
        let (ended, skipped) = comparison.run(&client, bounds, &wanted, &mut told).await?;
        running.end();
        let report = write(&comparison)?;
        if self.json {
            say(&serde_json::to_string_pretty(&json!({
                "figures": figures(&comparison), "agreements": agreements(&comparison), "spent_ucr": comparison.spent(),
                "done": comparison.done(), "of": comparison.grid().len(), "report": report,
            }))?);
        } else {
            say(&summary(&comparison));
        }
        self.end(&comparison, &ended, &skipped, &report)
    }

    fn comparison(&self, client: &Client) -> Result<Comparison, Failure> {
        let prompts = match &self.prompts {
            Some(path) => read(path)?,
            None => self.prompt.iter().zip(1..).map(|(text, n): (_, u32)| Prompt::asked(n.to_string(), text)).collect(),
        };
        if prompts.is_empty() {
            let hint = "name a file of prompts: comity compare prompts.jsonl --models lab/a,lab/b";
            return Comparison::open(&self.out).map_err(|error| Failure { hint: Some(hint.into()), ..error.into() });
        }
        let grid = self.asked.grid(prompts)?;
        Ok(Comparison::create(&self.out, &grid, session::random(), client.now())?)
    }

    fn end(&self, comparison: &Comparison, ended: &Ended, skipped: &[Skipped], report: &Path) -> Result<(), Failure> {
        for (model, error, calls) in missed(comparison) {
            note(&format!("{model}: {calls} without an answer: {}: {}", error.code, error.message));
            if let Some(hint) = &error.hint {
                note(&format!("hint: {hint}"));
            }
        }
        for skipped in skipped.iter().filter(|skipped| skipped.calls > 0) {
            note(&format!("{}: {} more were not asked, since each would be refused", skipped.model, skipped.calls));
        }
        note(&format!("{} spent; report: {}", comparison.spent(), report.display()));
        let again = format!("comity compare --out {}", comparison.folder().display());
        match ended {
            Ended::Cap(capped) => Err(Failure::new(
                format!("stopped at the cap: {capped}"),
                format!("{again} --cap {} goes on where it stopped", raised(capped.limit)),
            )),
            Ended::Stopped => Err(Failure::new("stopped before its end", format!("{again} goes on"))),
            Ended::All if comparison.done() < comparison.grid().len() => {
                let open = comparison.grid().len() - comparison.done();
                Err(Failure::new(format!("{open} calls have no answer"), format!("{again} asks them again")))
            }
            Ended::All => Ok(()),
        }
    }
}

/// Why calls have no answer: each code of each model, with the first that had it, and how many did.
fn missed(comparison: &Comparison) -> Vec<(ModelId, Missed, u64)> {
    let mut found: Vec<(ModelId, Missed, u64)> = Vec::new();
    for row in comparison.rows() {
        let Some(error) = &row.error else { continue };
        match found.iter_mut().find(|(model, known, _)| *model == row.model && known.code == error.code) {
            Some((.., calls)) => *calls += 1,
            None => found.push((row.model.clone(), error.clone(), 1)),
        }
    }
    found
}

/// Twice as much.
fn raised(limit: Amount) -> String {
    limit.saturating_add(limit).ucr().to_string()
}

/// What is open would cost, before it is spent.
async fn foretell(client: &Client, comparison: &Comparison, cap: Amount) -> Result<(), Failure> {
    let left = comparison.grid().len() - comparison.done();
    if left == 0 {
        note("every call has an answer already; nothing is asked");
        return Ok(());
    }
    match client.estimate(comparison.grid(), Assumed::default()).await {
        Ok(estimates) => {
            let sum = |of: fn(&comity_sdk::estimate::Estimate) -> Amount| {
                estimates.iter().map(of).fold(Amount::ZERO, Amount::saturating_add)
            };
            let (likely, most) = (sum(|one| one.likely_ucr), sum(|one| one.high_ucr));
            note(&format!(
                "{left} calls; all {} cost likely {likely}, at most {most}; the cap is {cap}",
                comparison.grid().len()
            ));
        }
        // Each model says no by itself, to its own calls.
        Err(error) => note(&format!("what it costs is not known: {error}")),
    }
    Ok(())
}

/// The report and the table, beside the results.
fn write(comparison: &Comparison) -> Result<PathBuf, Failure> {
    let put = |name: &str, text: String| {
        let path = comparison.folder().join(name);
        let put = put_private(&path, text.as_bytes());
        put.map(|()| path.clone()).map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", path.display()), "the answers are kept in results.jsonl")
        })
    };
    put("results.csv", csv(comparison))?;
    put("report.html", page(comparison))
}

/// Set by the first Ctrl-C: what is under way ends. A second one ends the program.
pub(super) fn stopped() -> std::sync::Arc<AtomicBool> {
    let stopped = std::sync::Arc::new(AtomicBool::new(false));
    let told = std::sync::Arc::clone(&stopped);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            note("\nwhat is under way ends; Ctrl-C once more ends it now");
            told.store(true, Ordering::Relaxed);
            if tokio::signal::ctrl_c().await.is_ok() {
                leave();
            }
        }
    });
    stopped
}

#[expect(clippy::exit, reason = "asked for twice")]
fn leave() {
    std::process::exit(130);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_name_and_fields() {
        let (name, fields) = setting("warm:temperature=1,seed=7,user=a b").unwrap();
        assert_eq!(
            (name.as_str(), &fields["temperature"], &fields["seed"], &fields["user"]),
            ("warm", &json!(1), &json!(7), &json!("a b"))
        );
        for wrong in ["warm", ":a=1", "warm:a", "warm:=1", "warm:"] {
            assert!(setting(wrong).is_err(), "{wrong}");
        }
    }
}
