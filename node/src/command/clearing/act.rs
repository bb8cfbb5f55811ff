//! `comity clearing officer|act`: who keeps the books, and what needs two of them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comity_clearing::acts::{Act, ActRecord, Officer, OfficerAdd, OfficerRemove};
use comity_clearing::admin::ActAsk;
use comity_clearing::service::ActReply;
use comity_wire::{Digest, PublicKey};

use crate::failure::Failure;
use crate::keystore::{self, KeyName, KeyStore};
use crate::service::admin;

/// Where an act goes, and who stands for it.
#[derive(Debug, Args)]
pub struct Acting {
    #[arg(long)]
    pub home: PathBuf,
    /// Key file of the officer who brings this act; needed once two officers are registered
    #[arg(long, value_name = "FILE")]
    pub officer: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum OfficerCommand {
    /// Make a key for a person who will keep the books: FOLDER/keys/officer.key; prints its public half
    Key { folder: PathBuf },
    /// Register a person's key. Two keys with one name are one person
    Add {
        #[command(flatten)]
        acting: Acting,
        key: PublicKey,
        #[arg(long)]
        name: String,
        /// What it rests on; tells one time from the next
        #[arg(long)]
        reason: String,
    },
    /// Take a key away; two persons must remain
    Remove {
        #[command(flatten)]
        acting: Acting,
        key: PublicKey,
        #[arg(long)]
        reason: String,
    },
    /// Who keeps the books
    List {
        #[arg(long)]
        home: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ActCommand {
    /// The newest acts; those that wait for a second person stand first
    List {
        #[arg(long)]
        home: PathBuf,
    },
    /// Approve an act that somebody else proposed: it is done at once
    Approve {
        #[command(flatten)]
        acting: Acting,
        id: Digest,
    },
    /// Take back an act that waits
    Drop {
        #[arg(long)]
        home: PathBuf,
        id: Digest,
    },
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn officer(command: OfficerCommand) -> Result<String, Failure> {
    match command {
        OfficerCommand::Key { folder } => Ok(KeyStore::of(&folder).create(KeyName::Officer)?.public().to_string()),
        OfficerCommand::Add { acting, key, name, reason } => {
            bring(&acting, Act::OfficerAdd(OfficerAdd { officer: Officer { key, name }, reason })).await
        }
        OfficerCommand::Remove { acting, key, reason } => {
            bring(&acting, Act::OfficerRemove(OfficerRemove { key, reason })).await
        }
        OfficerCommand::List { home } => {
            let officers: Vec<Officer> = admin::get(&home, "/admin/officers").await?;
            Ok(serde_json::to_string_pretty(&officers)?)
        }
    }
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: ActCommand) -> Result<String, Failure> {
    match command {
        ActCommand::List { home } => Ok(serde_json::to_string_pretty(&acts(&home).await?)?),
        ActCommand::Approve { acting, id } => {
            let acts = acts(&acting.home).await?;
            let found = acts.into_iter().find(|act| act.id == id).ok_or_else(|| {
                Failure::new(format!("no act {id}")).hint("comity clearing act list shows what waits, by its id")
            })?;
            // Signed is what the house stored, read here: its id must be that of what is shown.
            let act: Act = serde_json::from_str(&found.body)?;
            if act.id() != id {
                return Err(Failure::new(format!("act {id} does not read as what was proposed"))
                    .hint("this comity is older or newer than the house: use the same version"));
            }
            comity_cli::note(&format!("approving: {}", found.body));
            bring(&acting, act).await
        }
        ActCommand::Drop { home, id } => {
            let reply: serde_json::Value = admin::delete(&home, &format!("/admin/acts/{id}")).await?;
            Ok(serde_json::to_string(&reply)?)
        }
    }
}

async fn acts(home: &Path) -> Result<Vec<ActRecord>, Failure> {
    admin::get(home, "/admin/acts").await
}

/// Brings an act to the house, signed where a key is named.
pub(super) async fn bring(acting: &Acting, act: Act) -> Result<String, Failure> {
    let key = acting.officer.as_deref().map(keystore::read).transpose()?;
    let by = key.map(|key| act.sign(&key));
    let reply: ActReply = admin::post(&acting.home, "/admin/acts", &ActAsk { act, by }).await?;
    if !reply.done {
        let home = acting.home.display();
        comity_cli::note(&format!(
            "waits for a second officer: comity clearing act approve --home {home} {} --officer FILE",
            reply.id
        ));
    }
    Ok(serde_json::to_string(&reply)?)
}
