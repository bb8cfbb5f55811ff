//! `comity clearing dispute`: what nodes did not show or signed twice, or officers doubt, and what two persons decide of it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_clearing::acts::{Act, DisputeEnd, DisputeOpen, Outcome};
use comity_wire::{Digest, TokenId};
use serde_json::{Value, json};

use super::act::{Acting, bring};
use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum DisputeCommand {
    /// Disputes and challenges; those that are open stand first
    List {
        #[arg(long)]
        home: PathBuf,
    },
    /// Set aside what an owner was paid under a token, until two persons have decided; nothing more is paid under it until then
    Open {
        #[command(flatten)]
        acting: Acting,
        token: TokenId,
        /// What puts it in doubt; tells one time from the next
        #[arg(long)]
        reason: String,
    },
    /// The owner keeps what it earned, and what is due is paid
    Uphold(Ending),
    /// The payer gets back what is held, and the token is over
    Reverse(Ending),
}

#[derive(Debug, Args)]
pub struct Ending {
    #[command(flatten)]
    acting: Acting,
    dispute: Digest,
    /// What the decision rests on
    #[arg(long)]
    reason: String,
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: DisputeCommand) -> Result<String, Failure> {
    let (ending, outcome) = match command {
        DisputeCommand::List { home } => {
            let disputes: Value = admin::get(&home, "/admin/disputes").await?;
            let challenges: Value = admin::get(&home, "/admin/challenges").await?;
            return Ok(serde_json::to_string_pretty(&json!({ "disputes": disputes, "challenges": challenges }))?);
        }
        DisputeCommand::Open { acting, token, reason } => {
            return bring(&acting, Act::DisputeOpen(DisputeOpen { token, reason })).await;
        }
        DisputeCommand::Uphold(ending) => (ending, Outcome::Upheld),
        DisputeCommand::Reverse(ending) => (ending, Outcome::Reversed),
    };
    let Ending { acting, dispute, reason } = ending;
    bring(&acting, Act::DisputeEnd(DisputeEnd { dispute, outcome, reason })).await
}
