//! `comity clearing issuer`: the key that the house sells with, and how another one takes its place.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comity_clearing::acts::{Act, IssuerApprove};
use comity_clearing::service::IssuerView;
use comity_wire::PublicKey;

use super::act::{Acting, bring};
use crate::failure::Failure;
use crate::home::{Home, Role};
use crate::keystore::KeyName;
use crate::service::admin;

/// The card that the roster's signers enter.
const NEXT_CARD: &str = "organisation.next.json";

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process reads one")]
pub enum IssuerCommand {
    /// The keys that the house may sell with, which one is in use, and what the roster says of each
    List {
        #[arg(long)]
        home: PathBuf,
    },
    /// Make the next key: keys/issuer-next.key, and organisation.next.json for the roster's signers. Nothing is signed with it yet
    New {
        #[arg(long)]
        home: PathBuf,
    },
    /// Let the house sell with a key; once two officers are registered, two must approve it
    Approve {
        #[command(flatten)]
        acting: Acting,
        key: PublicKey,
        /// What it rests on
        #[arg(long)]
        reason: String,
    },
    /// Let the next key take the place of the one in use, which is kept beside it; then start the house again
    Switch {
        #[arg(long)]
        home: PathBuf,
    },
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: IssuerCommand) -> Result<String, Failure> {
    match command {
        IssuerCommand::List { home } => Ok(serde_json::to_string_pretty(&issuers(&home).await?)?),
        IssuerCommand::New { home } => new(&home),
        IssuerCommand::Approve { acting, key, reason } => {
            bring(&acting, Act::IssuerKey(IssuerApprove { key, reason })).await
        }
        IssuerCommand::Switch { home } => switch(&home).await,
    }
}

async fn issuers(home: &Path) -> Result<Vec<IssuerView>, Failure> {
    admin::get(home, "/admin/issuers").await
}

fn house(path: &Path) -> Result<Home, Failure> {
    let home = Home::open(path)?;
    if home.card.role == Role::House {
        return Ok(home);
    }
    Err(Failure::new(format!("{} is no house's home", path.display())).hint("name the house's home with --home"))
}

fn new(path: &Path) -> Result<String, Failure> {
    let home = house(path)?;
    let key = home.keys.create(KeyName::IssuerNext)?.public();
    home.write_card(key, NEXT_CARD)?;
    comity_cli::note(&format!(
        "next: two officers approve it (comity clearing issuer approve --home {} {key} --reason …), and the roster's signers enter {} \
         (comity roster add); 48 hours later comity clearing issuer switch",
        path.display(),
        home.file(NEXT_CARD).display()
    ));
    Ok(key.to_string())
}

async fn switch(path: &Path) -> Result<String, Failure> {
    let home = house(path)?;
    if !home.keys.exists(KeyName::IssuerNext) {
        // One that was ended between its two steps.
        let key = home.keys.read(KeyName::Issuer)?.public();
        if home.card.issuer_key != Some(key) {
            home.write_card(key, "organisation.json")?;
            let _ = std::fs::remove_file(home.file(NEXT_CARD));
            comity_cli::note("next: start the house again");
            return Ok(key.to_string());
        }
    }
    let next = home.keys.read(KeyName::IssuerNext).map_err(|error| {
        Failure::from(error).hint("comity clearing issuer new makes one; after a switch there is none")
    })?;
    let key = next.public();
    // A house that sold with a key that nodes do not take would keep what researchers drew.
    let known = issuers(path).await?.into_iter().find(|known| known.key == key).ok_or_else(|| {
        Failure::new(format!("nobody approved {key}"))
            .hint(format!("comity clearing issuer approve --home {} {key} --reason …", path.display()))
    })?;
    if known.roster != "active" {
        return Err(Failure::new(format!("the roster that the house knows does not let {key} sign: {}", known.roster))
            .hint("have the roster's signers enter organisation.next.json, put their roster.cbor here and start the house again; a key is used from 48 hours after it was published on"));
    }
    let before = home.keys.read(KeyName::Issuer)?.public();
    home.keys.issuer_switch()?;
    home.write_card(key, "organisation.json")?;
    let _ = std::fs::remove_file(home.file(NEXT_CARD));
    comity_cli::note(&format!(
        "next: start the house again, in each of its homes; then the roster's signers retire the key before (comity roster retire {before})"
    ));
    Ok(key.to_string())
}
