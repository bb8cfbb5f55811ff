//! `comity model example|publish`: what a node offers.

use std::path::PathBuf;

use clap::Subcommand;

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Print a commented models/NAME.toml to start from
    Example,
    /// Have the running node read its models folder again and publish what changed
    Publish {
        #[arg(long)]
        home: PathBuf,
    },
}

/// # Errors
/// [`Failure`] where the node is not running, or a file has a mistake: then nothing changed.
pub async fn run(command: ModelCommand) -> Result<String, Failure> {
    match command {
        ModelCommand::Example => Ok(include_str!("../offer/example.toml").to_owned()),
        ModelCommand::Publish { home } => {
            let reply: serde_json::Value = admin::post(&home, "/admin/publish", &serde_json::json!({})).await?;
            Ok(serde_json::to_string(&reply)?)
        }
    }
}
