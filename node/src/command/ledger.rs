//! `comity ledger audit|contradictions`: every balance added again from the transfers; what nodes signed against the books.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Re-add everything from the transfers, compare, and hold the log against it; a break ends with an error
    Audit {
        #[arg(long)]
        home: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// List claims and finals that were refused because they contradict the books: evidence for a dispute
    Contradictions {
        #[arg(long)]
        home: PathBuf,
    },
}

/// # Errors
/// [`Failure`] where the house is not running, or a break was found.
pub async fn run(command: LedgerCommand) -> Result<String, Failure> {
    match command {
        LedgerCommand::Audit { home, json } => audit(&home, json).await,
        LedgerCommand::Contradictions { home } => {
            let kept: serde_json::Value = admin::get(&home, "/admin/contradictions").await?;
            Ok(serde_json::to_string_pretty(&kept)?)
        }
    }
}

async fn audit(home: &Path, json: bool) -> Result<String, Failure> {
    let mut report: serde_json::Value = admin::get(home, "/admin/audit").await?;
    let log: serde_json::Value = admin::get(home, "/admin/log/audit").await?;
    let is_sound = |report: &serde_json::Value| report.get("holds").and_then(serde_json::Value::as_bool) == Some(true);
    let holds = is_sound(&report) && is_sound(&log);
    report["holds"] = holds.into();
    report["log"] = log;
    let text = if json { serde_json::to_string(&report)? } else { serde_json::to_string_pretty(&report)? };
    if holds {
        Ok(text)
    } else {
        Err(Failure::new("the books have a break")
            .because(text)
            .hint("stop the house, keep a copy of its database, and look at the listed transfers"))
    }
}
