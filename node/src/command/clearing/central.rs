//! `comity clearing amie central`: what central sites ask of this house as one of their resources, and what is done of it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comity_clearing::acts::Act;
use comity_clearing::admin::{AccountView, Bind, PacketAt, PacketRefuse, PacketView, UsageView};
use comity_wire::PublicKey;
use serde_json::Value;

use super::act::{self, Acting};
use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process reads one")]
pub enum CentralCommand {
    /// What central sites asked for, and whose move it is; what waits stands first
    List {
        #[arg(long)]
        home: PathBuf,
    },
    /// Stand for the act that a grant asks for; once two officers are registered, two must. Then the central site is told
    Approve {
        #[command(flatten)]
        acting: Acting,
        /// The packet's number in the list
        packet: u64,
    },
    /// Tell the central site that a grant is not taken, and why
    Refuse {
        #[command(flatten)]
        one: One,
        /// What it is told
        #[arg(long)]
        because: String,
    },
    /// Send an answer again that the central site did not take
    Retry {
        #[command(flatten)]
        one: One,
    },
    /// The accounts that central sites asked for; those that nobody can use yet stand first
    Accounts {
        #[arg(long)]
        home: PathBuf,
    },
    /// What was reported of what grants used: how much was taken there, and what was refused
    Usage {
        #[arg(long)]
        home: PathBuf,
        /// Send again what was refused
        #[arg(long)]
        again: bool,
    },
    /// Let a person act by a key, and by no other of before
    Bind {
        #[command(flatten)]
        acting: Acting,
        /// The person's number in the list of accounts
        person: u64,
        /// did:key:z6Mk…
        member: PublicKey,
        /// With --officer: what it rests on; tells one time from the next
        #[arg(long, default_value = "", requires = "officer")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct One {
    #[arg(long)]
    home: PathBuf,
    /// The packet's number in the list
    packet: u64,
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: CentralCommand) -> Result<String, Failure> {
    match command {
        CentralCommand::List { home } => Ok(serde_json::to_string_pretty(&packets(&home).await?)?),
        CentralCommand::Approve { acting, packet } => {
            let found = one(&acting.home, packet).await?;
            let id = found.act.filter(|_| !found.act_body.is_empty()).ok_or_else(|| {
                Failure::new(format!("packet {packet} asks the officers for nothing")).hint(found.whose_move.clone())
            })?;
            // Signed is what the house drafted, read here: its id must be that of what is shown.
            let act: Act = serde_json::from_str(&found.act_body)?;
            if act.id() != id {
                return Err(Failure::new(format!("act {id} does not read as what was drafted"))
                    .hint("this comity is older or newer than the house: use the same version"));
            }
            comity_cli::note(&format!("approving: {}", found.act_body));
            act::bring(&acting, act).await
        }
        CentralCommand::Refuse { one: One { home, packet }, because } => {
            let central = one(&home, packet).await?.central;
            let ask = PacketRefuse { central, packet, because };
            let reply: Value = admin::post(&home, "/admin/amie/central/refuse", &ask).await?;
            Ok(reply.to_string())
        }
        CentralCommand::Retry { one: One { home, packet } } => {
            let ask = PacketAt { central: one(&home, packet).await?.central, packet };
            let reply: Value = admin::post(&home, "/admin/amie/central/retry", &ask).await?;
            Ok(reply.to_string())
        }
        CentralCommand::Accounts { home } => Ok(serde_json::to_string_pretty(&accounts(&home).await?)?),
        CentralCommand::Usage { home, again } => {
            let seen: Vec<UsageView> = admin::get(&home, "/admin/amie/central/usage").await?;
            if !again {
                return Ok(serde_json::to_string_pretty(&seen)?);
            }
            let mut replies = Vec::new();
            for central in seen.into_iter().filter(|view| view.refused > 0).map(|view| view.central) {
                let ask = serde_json::json!({ "central": central });
                replies.push(admin::post::<Value>(&home, "/admin/amie/central/usage/again", &ask).await?);
            }
            Ok(serde_json::to_string(&replies)?)
        }
        CentralCommand::Bind { acting, person, member, reason } => {
            let found = accounts(&acting.home).await?.into_iter().find(|account| account.person == person);
            let central = found.map(|account| account.central).ok_or_else(|| {
                Failure::new(format!("no person {person}")).hint("comity clearing amie central accounts shows all")
            })?;
            let ask = Bind { central, person, member, reason };
            if acting.officer.is_some() {
                return act::bring(&acting, Act::CentralBind(ask)).await;
            }
            let reply: Value = admin::post(&acting.home, "/admin/amie/central/bind", &ask).await?;
            Ok(reply.to_string())
        }
    }
}

async fn packets(home: &Path) -> Result<Vec<PacketView>, Failure> {
    admin::get(home, "/admin/amie/central/packets").await
}

async fn accounts(home: &Path) -> Result<Vec<AccountView>, Failure> {
    admin::get(home, "/admin/amie/central/accounts").await
}

async fn one(home: &Path, packet: u64) -> Result<PacketView, Failure> {
    let found = packets(home).await?.into_iter().find(|known| known.packet == packet);
    found.ok_or_else(|| {
        Failure::new(format!("no packet {packet}"))
            .hint("comity clearing amie central list shows what came, by its number")
    })
}
