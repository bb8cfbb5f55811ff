//! `comity node credit`: gives back what a token had paid, because of a fault or out of goodwill (docs/operating/credits.md).

use std::path::PathBuf;

use comity_wire::object::CreditReason;
use comity_wire::{Amount, Timestamp, TokenId};
use serde_json::Value;

use crate::failure::Failure;
use crate::service::admin;
use crate::service::credits::{Ask, PATH};

#[derive(Debug, clap::Args)]
pub struct Credit {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// Which had paid: as in a receipt, or in the project's statement
    #[arg(long, required_unless_present = "list")]
    token: Option<TokenId>,
    /// Micro-credits
    #[arg(long, value_name = "UCR", required_unless_present = "list")]
    amount: Option<u32>,
    /// `fault`: the answers were not what was sold; `goodwill`: nobody had to. What a case is about: comity cases refund
    #[arg(long, required_unless_present = "list")]
    reason: Option<CreditReason>,
    /// Besides what was given back of this token for this reason before
    #[arg(long)]
    again: bool,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
    /// Show what was given back, for cases too, and what the house said; the newest first
    #[arg(long, conflicts_with_all = ["token", "amount", "reason", "again"])]
    list: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Credit {
    /// # Errors
    /// [`Failure`] where the node does not run, or nothing can be given back.
    pub(super) async fn run(self) -> Result<String, Failure> {
        let said: Value = match (self.token, self.amount, self.reason) {
            (Some(token), Some(amount), Some(reason)) => {
                let author = self.author.unwrap_or_else(crate::command::login);
                let ask = Ask { token, amount: Amount::from_ucr(amount), reason, author, again: self.again };
                admin::post(&self.home, PATH, &ask).await?
            }
            _ => admin::get(&self.home, PATH).await?,
        };
        if self.json {
            return Ok(serde_json::to_string_pretty(&said)?);
        }
        let lines: Vec<String> = match said.as_array() {
            Some(notes) if notes.is_empty() => vec!["nothing was given back".into()],
            Some(notes) => notes.iter().map(line).collect(),
            None => vec![line(&said)],
        };
        Ok(lines.join("\n"))
    }
}

fn line(note: &Value) -> String {
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let said = &note["said"];
    let stands = match said["house"].as_str() {
        Some("booked") => format!("booked at {}", Timestamp(said["booked_at"].as_u64().unwrap_or_default())),
        Some("declined") => format!("declined by the house: {}", text(said, "message")),
        _ => "the house has not booked it yet; it is brought again".into(),
    };
    let at = Timestamp(note["at"].as_u64().unwrap_or_default());
    let (amount, token, reason) = (&note["amount"], text(note, "token"), text(note, "reason"));
    format!("{at}  {amount} µcr of {token}, {reason}, by {}: {stands}", text(note, "id"))
}
