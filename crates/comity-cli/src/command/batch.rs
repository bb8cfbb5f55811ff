//! `comity batch run`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Subcommand;
use comity_sdk::compare::Setting;
use comity_wire::{Amount, ModelId};
use serde_json::json;

use super::compare::stopped;
use crate::batch::lines::{Counts, Lines, Report};
use crate::money::amount;
use crate::printer::{Failure, Running, note, say};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Batch {
    /// Ask every line once, and write what came; the same command again goes on
    Run(Run),
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// OpenAI batch lines, or prompts: a line each, or JSON lines
    input: PathBuf,
    /// Where answers go, as OpenAI's output lines; what fails goes beside it, as .errors.jsonl
    #[arg(long, default_value = "answers.jsonl")]
    out: PathBuf,
    /// Whom prompts are for; batch lines say it themselves
    #[arg(long)]
    model: Option<ModelId>,
    /// The most tokens of an answer to a prompt
    #[arg(long, default_value_t = 256)]
    max_tokens: u32,
    /// Instructions that stand before each prompt
    #[arg(long)]
    system: Option<String>,
    /// What all of it may cost at most: micro-credits such as 250000, or credits such as 0.25cr [default: limits.total of the
    /// profile]
    #[arg(long, value_parser = amount)]
    cap: Option<Amount>,
    /// Calls at once
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    #[arg(long)]
    json: bool,
}

impl Batch {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Run(run) = self;
        run.run(session).await
    }
}

impl Run {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let cap = self.cap.unwrap_or_else(|| client.profile().limits.total);
        let setting = Setting { system: self.system.clone(), ..Setting::plain(self.max_tokens) };
        let (input, output, model) = (self.input.clone(), self.out.clone(), self.model.clone());
        let lines = Lines { input, output, model, setting, cap, at_once: self.at_once };
        let stopped = stopped();
        let wanted = || !stopped.load(Ordering::Relaxed);
        let mut running = Running::new();
        let mut told = |counts: Counts| {
            running.show(|| {
                let Counts { total, answered, failed, spent } = counts;
                format!("{answered} of {total} answered, {failed} failed; {spent} of {cap} spent")
            });
        };
        let report = lines.run(&client, &wanted, &mut told).await?;
        running.end();
        self.end(&report)
    }

    fn end(&self, report: &Report) -> Result<(), Failure> {
        let Counts { total, answered, failed, spent } = report.counts;
        if self.json {
            let object = json!({"total": total, "answered": answered, "failed": failed, "spent_ucr": spent, "output": self.out, "batch_price": report.batch_price});
            say(&object.to_string());
        } else {
            say(&format!("{answered} of {total} answered; {spent} spent; {}", self.out.display()));
        }
        for kind in &report.batch_price {
            note(&format!("{kind}: asked at its owner's batch price"));
        }
        if let Some(capped) = &report.capped {
            return Err(Failure::new(
                format!("stopped at the cap: {capped}"),
                "the same command with a higher --cap goes on",
            ));
        }
        if answered == total {
            return Ok(());
        }
        let open = total - answered;
        if let Some(first) = &report.first {
            note(&format!("the first that failed: {}: {}", first.code, first.message));
            if let Some(hint) = &first.hint {
                note(&format!("hint: {hint}"));
            }
        }
        let hint = match report.lost {
            0 => "the same command again asks them; nothing that is answered is asked or paid twice".to_owned(),
            lost => format!(
                "the same command again asks {} of them; {lost} were paid for, or may have been, and are asked no more: each says \
                 in that file how it is asked anew",
                open.saturating_sub(lost)
            ),
        };
        Err(Failure::new(format!("{open} lines have no answer ({})", report.errors.display()), hint))
    }
}
