//! `comity requests decide`: an owner's decision, through the running node's admin socket.

use std::path::PathBuf;

use clap::Subcommand;
use comity_wire::ModelId;
use comity_wire::object::Tier;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum RequestsCommand {
    /// Grant a project a tier of a model
    Decide {
        #[arg(long)]
        home: PathBuf,
        /// The project's pseudonym at your organisation, sub-…
        #[arg(long)]
        subject: String,
        #[arg(long = "model", required = true)]
        models: Vec<ModelId>,
        /// t0 … t3
        #[arg(long)]
        tier: Tier,
        /// Say that you mean it
        #[arg(long, required = true)]
        grant: bool,
        /// How long it holds
        #[arg(long, default_value_t = 180)]
        days: u32,
        #[arg(long, default_value = "decided by the operator")]
        reason: String,
    },
}

/// `POST /admin/grants` at a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantAsk {
    pub subject: String,
    pub models: Vec<ModelId>,
    pub tier: Tier,
    pub days: u32,
    pub reason: String,
}

/// # Errors
/// [`Failure`] where the node is not running, or refuses.
pub async fn run(command: RequestsCommand) -> Result<String, Failure> {
    let RequestsCommand::Decide { home, subject, models, tier, grant: _, days, reason } = command;
    let ask = GrantAsk { subject, models, tier, days, reason };
    let reply: serde_json::Value = admin::post(&home, "/admin/grants", &ask).await?;
    Ok(serde_json::to_string(&reply)?)
}
