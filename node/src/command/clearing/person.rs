//! `comity clearing person vouch|list|show|evidence|add-key|revoke-key|conduct`: who the house has seen, and what each signs.

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::acts::Act;
use comity_clearing::admin::{ConductPublish, PersonKey, PersonVouch};
use comity_wire::api::person::KeyRevokeRequest;
use comity_wire::object::Vetting;
use comity_wire::time::DAY_S;
use comity_wire::{MemberId, PublicKey};

use super::act::{Acting, bring};
use crate::failure::{Failure, While as _};
use crate::service::admin;
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum PersonCommand {
    /// Answer for a person: what you saw is kept as evidence. Without an issuer this is how persons are vetted
    Vouch {
        #[command(flatten)]
        acting: Acting,
        /// A person's id, mem-…, or a member key, did:key:z6Mk…: one that nobody has makes a new person
        who: String,
        /// vetted, registered; or none, which takes an earlier check back
        vetting: Vetting,
        /// What was seen: whose letter, which document, by whom
        #[arg(long)]
        seen: String,
        /// How many days it counts; left out: until you say otherwise
        #[arg(long)]
        days: Option<u64>,
    },
    /// The newest persons, with their keys
    List {
        #[arg(long)]
        home: PathBuf,
    },
    /// A person: how issuers call them, keys, the level in each project and what is missing for more
    Show {
        #[arg(long)]
        home: PathBuf,
        person: MemberId,
    },
    /// Everything that was recorded on a person, the newest first
    Evidence {
        #[arg(long)]
        home: PathBuf,
        person: MemberId,
    },
    /// One more key of a person: another device
    AddKey {
        #[command(flatten)]
        acting: Acting,
        person: MemberId,
        key: PublicKey,
        /// With --officer: what it rests on; tells one time from the next
        #[arg(long, default_value = "", requires = "officer")]
        reason: String,
    },
    /// Say what every person signs from now on; who signed an earlier version signs anew
    Conduct {
        #[arg(long)]
        home: PathBuf,
        /// A name of its own for this version, such as 2026-1
        #[arg(long)]
        name: String,
        /// A text of at most 64 KiB
        file: PathBuf,
    },
    /// End a key: it is no member's of any project any more, and is never taken again. What it drew is stopped, within a minute
    RevokeKey {
        #[arg(long)]
        home: PathBuf,
        key: PublicKey,
    },
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: PersonCommand) -> Result<String, Failure> {
    let reply: serde_json::Value = match command {
        PersonCommand::Vouch { acting, who, vetting, seen, days } => {
            let until = days.map(|days| shell::now().plus(days.saturating_mul(DAY_S)));
            let ask = PersonVouch { who, vetting, seen, until };
            if acting.officer.is_some() {
                return bring(&acting, Act::Vouch(ask)).await;
            }
            admin::post(&acting.home, "/admin/persons", &ask).await?
        }
        PersonCommand::List { home } => admin::get(&home, "/admin/persons").await?,
        PersonCommand::Show { home, person } => admin::get(&home, &format!("/admin/persons/show/{person}")).await?,
        PersonCommand::Evidence { home, person } => {
            admin::get(&home, &format!("/admin/persons/evidence/{person}")).await?
        }
        PersonCommand::AddKey { acting, person, key, reason } => {
            let ask = PersonKey { person, key, reason };
            if acting.officer.is_some() {
                return bring(&acting, Act::PersonKey(ask)).await;
            }
            admin::post(&acting.home, "/admin/persons/keys", &ask).await?
        }
        PersonCommand::Conduct { home, name, file } => {
            let body = std::fs::read_to_string(&file).while_(format!("cannot read {}", file.display()))?;
            admin::post(&home, "/admin/conduct", &ConductPublish { version: name, body }).await?
        }
        PersonCommand::RevokeKey { home, key } => {
            admin::post(&home, "/admin/persons/keys/revoke", &KeyRevokeRequest { key }).await?
        }
    };
    Ok(serde_json::to_string_pretty(&reply)?)
}
