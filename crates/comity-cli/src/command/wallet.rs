//! `comity wallet status|limits|finish|revoke|seal|export|import|challenge|adopt`.

mod carry;
mod revoke;
mod seal;

use std::path::PathBuf;

use clap::Subcommand;
use comity_sdk::client::Finished;
use comity_sdk::{Client, Error, Profile};
use comity_wire::{Amount, Digest, TokenId};

use crate::money::amount;
use crate::printer::{Failure, note, say, table};
use crate::session::{self, Session};

#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// Tokens, their budgets, what is spent
    Status {
        #[arg(long)]
        json: bool,
    },
    /// What this wallet may spend by itself, and how much of it is gone; with an amount, change it
    Limits {
        /// What one token may hold: micro-credits such as 250000, or credits such as 0.25cr
        #[arg(long, value_parser = amount)]
        token: Option<Amount>,
        /// What all tokens may hold together
        #[arg(long, value_parser = amount)]
        total: Option<Amount>,
        /// What the calls of one day (UTC) may cost; `none` takes it away
        #[arg(long, value_parser = day)]
        day: Option<Day>,
        #[arg(long)]
        json: bool,
    },
    /// End tokens at their nodes: what was not spent goes back to the project at once. One of which a part was handed on stays until that ends
    Finish {
        /// All that are not ended yet, expired ones too, where none is named
        tokens: Vec<TokenId>,
    },
    /// Make what was copied or lost useless: tokens end at their nodes, or all that a lost computer's key drew; what is unspent goes home
    Revoke(revoke::Revoke),
    /// Keep your keys another way: sealed, or open. No other program may use the wallet meanwhile
    Seal(seal::Seal),
    /// One sealed file with your key, limits and receipts, for another computer. Tokens are ended first: they do not go along
    Export(carry::Export),
    /// Take over what was exported, into a new home folder
    Import(carry::Import),
    /// Say that calls which nobody acknowledged are not owed: the node must show what was signed for them
    Challenge {
        token: TokenId,
        #[arg(long, default_value_t = 0)]
        lane: u16,
        /// Of somebody whom you handed a part of the token on to: their leaf, from a receipt. Left out: your own
        #[arg(long)]
        leaf: Option<Digest>,
        /// What is wrong with them
        #[arg(long)]
        reason: String,
    },
    /// Take in a right that somebody delegated to you
    Adopt {
        /// The chain file
        chain: PathBuf,
        /// The key it was delegated to
        #[arg(long)]
        key: PathBuf,
    },
}

impl Wallet {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Status { json } => {
                let client = session.look()?;
                let purses = client.purses().await;
                crate::keys::tell(&session.home, client.profile());
                if json {
                    say(&serde_json::to_string_pretty(&purses)?);
                    return Ok(());
                }
                let row = |purse: &comity_sdk::client::PurseStatus| {
                    let state = match (purse.pending, &purse.stopped, purse.open) {
                        (true, ..) => "asked for",
                        (_, Some(_), _) => "stopped",
                        (_, _, true) => "open",
                        _ => "ended",
                    };
                    vec![
                        purse.token.to_string(),
                        purse.budget.to_string(),
                        purse.spent.to_string(),
                        state.to_owned(),
                        purse.expires_at.to_string(),
                    ]
                };
                say(&table(
                    &["token", "budget", "spent", "state", "expires"],
                    &purses.iter().map(row).collect::<Vec<_>>(),
                ));
                for purse in &purses {
                    if let Some(until) = purse.delegated_until {
                        note(&format!("{}: a part of it was handed on until {until}", purse.token));
                    }
                    if let Some(what) = &purse.stopped {
                        note(&format!("{} stopped: {what}; the evidence: comity receipts verify", purse.token));
                    }
                }
                if purses.iter().any(|purse| purse.pending) {
                    note(
                        "\"asked for\": the house's answer never came; comity wallet finish asks again, and sends it home. From what stands under \
                         expires on, nothing can be spent of it and no limit counts it; a week later it is given up",
                    );
                }
                Ok(())
            }
            Self::Limits { token, total, day, json } => limits(session, token, total, day, json).await,
            Self::Seal(seal) => seal.run(session),
            Self::Export(export) => export.run(session).await,
            Self::Import(import) => import.run(session),
            Self::Challenge { token, lane, leaf, reason } => {
                let client = session.client()?;
                client.refresh().await?;
                let challenge = client.challenge(token, leaf, lane, reason).await?;
                say(&serde_json::to_string_pretty(&challenge)?);
                note(&format!(
                    "the node has until {} to show what was signed; the same command tells how it stands",
                    challenge.due_at
                ));
                Ok(())
            }
            Self::Finish { tokens } => finish(session, tokens, Ends::Due).await,
            Self::Revoke(revoke) => revoke.run(session).await,
            Self::Adopt { chain, key } => {
                let client = session.client()?;
                let bytes = std::fs::read(&chain)?;
                let token = client.adopt(&bytes, &session::read_key(&key)?, Amount::MAX).await?;
                note(&format!("{token} is in your wallet"));
                Ok(())
            }
        }
    }
}

/// Which tokens are ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// But for those that others may be at work under.
    Due,
    All,
}

async fn finish(session: &Session, tokens: Vec<TokenId>, ends: Ends) -> Result<(), Failure> {
    let client = session.client()?;
    client.refresh().await?;
    match finish_with(&client, tokens, ends).await {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} tokens are not ended"), "again: comity wallet finish")),
    }
}

/// Ends tokens, or all where none is named; gives how many are not.
async fn finish_with(client: &Client, tokens: Vec<TokenId>, ends: Ends) -> u64 {
    let is_named = !tokens.is_empty();
    let due = client.purses().await.into_iter().filter(|purse| purse.unfinished).map(|purse| purse.token);
    let tokens = if is_named { tokens } else { due.collect() };
    let mut failed = 0;
    for token in tokens {
        let ended = match ends {
            Ends::Due => client.finish(token).await,
            Ends::All => client.take_back(token).await,
        };
        match ended {
            Ok(Finished { reply, above, .. }) => {
                let home = reply.map_or(Amount::ZERO, |reply| reply.refunded);
                say(&format!("{token} ended; {home} went home"));
                for above in above {
                    say(&format!("{above}; challenged: it is paid where the node shows what was signed"));
                    let lane = above.lane;
                    note(&format!("how it stands: comity wallet challenge {token} --lane {lane} --reason again"));
                }
            }
            Err(Error::HandedOn { token, until }) => {
                failed += u64::from(is_named);
                note(&super::proxy::stays(&token, until));
            }
            Err(error @ Error::GivenUp { .. }) => say(&error.to_string()),
            Err(error) if !is_unfinished(client, token).await => {
                say(&format!("{token} was never sold, and nothing was set aside for it ({error})"));
            }
            // The others go home all the same.
            Err(error) => {
                failed += 1;
                note(&format!("{token} is not ended: {}", Failure::from(error)));
            }
        }
    }
    failed
}

/// A limit for a day, or none.
#[derive(Clone, Copy, Debug)]
pub struct Day(Option<Amount>);

fn day(text: &str) -> Result<Day, String> {
    if text == "none" { Ok(Day(None)) } else { amount(text).map(|amount| Day(Some(amount))) }
}

async fn limits(
    session: &Session,
    token: Option<Amount>,
    total: Option<Amount>,
    day: Option<Day>,
    json: bool,
) -> Result<(), Failure> {
    if token.is_some() || total.is_some() || day.is_some() {
        Profile::amend(&session.home, |profile| {
            profile.limits.token = token.unwrap_or(profile.limits.token);
            profile.limits.total = total.unwrap_or(profile.limits.total);
            profile.limits.day = day.map_or(profile.limits.day, |day| day.0);
        })?;
        note("a program that runs already goes on with the limits it began with");
    }
    let limits = session.look()?.limits().await;
    if json {
        say(&serde_json::to_string_pretty(&limits)?);
        return Ok(());
    }
    let day = limits.day_ucr.map_or_else(|| "none".to_owned(), |day| day.to_string());
    let rows = [
        vec![
            "limits.token".to_owned(),
            limits.token_ucr.to_string(),
            String::new(),
            "one token holds at most".to_owned(),
        ],
        vec![
            "limits.total".to_owned(),
            limits.total_ucr.to_string(),
            limits.drawn_ucr.to_string(),
            "tokens that this wallet drew".to_owned(),
        ],
        vec!["limits.day".to_owned(), day, limits.today_ucr.to_string(), "calls signed today (UTC)".to_owned()],
    ];
    say(&table(&["limit", "allowed", "used", "of"], &rows));
    Ok(())
}

async fn is_unfinished(client: &Client, token: TokenId) -> bool {
    client.purses().await.iter().any(|purse| purse.token == token && purse.unfinished)
}
