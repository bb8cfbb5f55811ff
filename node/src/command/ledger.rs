//! `comity ledger audit`: every balance added again from the transfers.

use std::path::PathBuf;

use clap::Subcommand;

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Re-add everything from the transfers and compare; a break ends with an error
    Audit {
        #[arg(long)]
        home: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

/// # Errors
/// [`Failure`] where the house is not running, or a break was found.
pub async fn run(command: LedgerCommand) -> Result<String, Failure> {
    let LedgerCommand::Audit { home, json } = command;
    let report: serde_json::Value = admin::get(&home, "/admin/audit").await?;
    let holds = report.get("holds").and_then(serde_json::Value::as_bool) == Some(true);
    let text = if json { serde_json::to_string(&report)? } else { serde_json::to_string_pretty(&report)? };
    if holds {
        Ok(text)
    } else {
        Err(Failure::new("the books have a break")
            .because(text)
            .hint("stop the house, keep a copy of its database, and look at the listed transfers"))
    }
}
