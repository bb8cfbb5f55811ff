//! `comity clearing match`: each owner's meter beside receipts and ledger.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_clearing::admin::CountAsk;
use comity_clearing::reports::csv;
use comity_wire::api::count::{Break, MatchOfNode};
use comity_wire::{Amount, NodeId, Timestamp, TokenId};
use serde::Serialize;
use serde_json::Value;

use super::report::{day, last_day};
use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum MatchCommand {
    /// Ask nodes for a count now; by itself the house asks for each month eight days after its end
    Ask {
        #[command(flatten)]
        over: Over,
        /// One node; left out: all that sold work then
        #[arg(long)]
        node: Option<NodeId>,
    },
    /// What was matched, node by node, and the breaks with whose move it is
    Show {
        #[command(flatten)]
        over: Over,
        /// The breaks alone, as comma-separated values
        #[arg(long)]
        csv: bool,
    },
}

#[derive(Debug, Args)]
pub struct Over {
    #[arg(long)]
    home: PathBuf,
    /// The first day on which tokens were issued (UTC), YYYY-MM-DD
    #[arg(long, value_parser = day)]
    from: Timestamp,
    /// The last day (UTC), YYYY-MM-DD
    #[arg(long, value_parser = last_day)]
    to: Timestamp,
}

/// A break as a row of its own.
#[derive(Serialize)]
struct Row<'a> {
    node: NodeId,
    token: TokenId,
    #[serde(rename = "break")]
    kind: Value,
    amount_ucr: Amount,
    whose_move: Value,
    message: &'a str,
}

impl<'a> Row<'a> {
    fn of(node: NodeId, found: &'a Break) -> Result<Self, serde_json::Error> {
        let Break { token, kind, amount, whose_move, ref message } = *found;
        let (kind, whose_move) = (serde_json::to_value(kind)?, serde_json::to_value(whose_move)?);
        Ok(Self { node, token, kind, amount_ucr: amount, whose_move, message })
    }
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: MatchCommand) -> Result<String, Failure> {
    match command {
        MatchCommand::Ask { over: Over { home, from, to }, node } => {
            let asked: Value = admin::post(&home, "/admin/counts", &CountAsk { from, to, node }).await?;
            Ok(serde_json::to_string_pretty(&asked)?)
        }
        MatchCommand::Show { over: Over { home, from, to }, csv: as_csv } => {
            let path = format!("/admin/matches?from={}&to={}", from.seconds(), to.seconds());
            let matches: Vec<MatchOfNode> = admin::get(&home, &path).await?;
            if !as_csv {
                return Ok(serde_json::to_string_pretty(&matches)?);
            }
            let mut rows = Vec::new();
            for of_node in &matches {
                for found in &of_node.matched.breaks {
                    rows.push(Row::of(of_node.node, found)?);
                }
            }
            Ok(csv(&rows).trim_end_matches("\r\n").to_owned())
        }
    }
}
