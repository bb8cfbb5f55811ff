//! `comity estimate`: what prompts would cost, before anything is spent.

use std::path::PathBuf;

use comity_sdk::compare::Prompt;
use comity_sdk::estimate::Assumed;
use serde_json::json;

use super::compare::{Asked, read};
use crate::printer::{Failure, note, say, table};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Estimate {
    /// Prompts: a line each, or JSON lines; `-` reads them from stdin
    prompts: Option<PathBuf>,
    /// So many prompts, where there is no file yet
    #[arg(long, conflicts_with = "prompts", requires = "input_tokens")]
    count: Option<u32>,
    /// Tokens of each prompt, where that is known better than by its length
    #[arg(long)]
    input_tokens: Option<u64>,
    /// Tokens of each answer; where it is not said, half of --max-tokens
    #[arg(long)]
    output_tokens: Option<u64>,
    #[command(flatten)]
    asked: Asked,
    #[arg(long)]
    json: bool,
}

impl Estimate {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let prompts = self.prompts()?;
        let grid = self.asked.grid(prompts)?;
        let assumed = Assumed { input_tokens: self.input_tokens, output_tokens: self.output_tokens };
        let estimates = client.estimate(&grid, assumed).await?;
        let batches = client.estimate_batch(&grid, assumed).await?;
        if self.json {
            say(&serde_json::to_string_pretty(&json!({"estimates": estimates, "batches": batches}))?);
            return Ok(());
        }
        let row = |one: &comity_sdk::estimate::Estimate, how: &str| {
            vec![
                format!("{}{how}", one.model),
                one.calls.to_string(),
                one.likely_ucr.to_string(),
                format!("{} to {}", one.low_ucr, one.high_ucr),
                one.call_max_ucr.to_string(),
            ]
        };
        let head = ["model", "calls", "likely", "range", "one call at most"];
        let as_batch = batches.iter().map(|one| row(one, ", as a batch"));
        say(&table(&head, &estimates.iter().map(|one| row(one, "")).chain(as_batch).collect::<Vec<_>>()));
        if !batches.is_empty() {
            note("as a batch: what `comity batch run` asks, at the owner's batch price");
        }
        note(
            "nothing was spent. The upper end is what the calls are signed for at today's prices: they cannot cost more",
        );
        Ok(())
    }

    fn prompts(&self) -> Result<Vec<Prompt>, Failure> {
        match (&self.prompts, self.count, self.input_tokens) {
            (Some(path), ..) => read(path),
            (None, Some(count), Some(tokens)) => {
                let bytes = usize::try_from(tokens.saturating_mul(4)).unwrap_or(usize::MAX).min(1 << 20);
                let count = (count as usize).min(Prompt::COUNT_MAX);
                Ok((1..=count).map(|n| Prompt::asked(n.to_string(), "x".repeat(bytes))).collect())
            }
            _ => Err(Failure::new(
                "there is nothing to estimate",
                "name a file of prompts, or --count 10000 --input-tokens 20 --output-tokens 20",
            )),
        }
    }
}
