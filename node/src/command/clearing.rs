//! `comity clearing init|renew|run|project`: the house.

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::admin::{AwardAsk, ProjectAdd, ProjectVet};
use comity_wire::object::Vetting;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, ProjectId, PublicKey};

use crate::command::{InitArguments, RenewArguments, RunArguments};
use crate::failure::Failure;
use crate::home::Role;
use crate::service::{admin, house};
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum ClearingCommand {
    /// Make the house's home: keys, certificates, organisation.json
    Init(InitArguments),
    /// Sign the house's certificates again, for 90 days
    Renew(RenewArguments),
    /// Run the house
    Run(RunArguments),
    /// Projects: who spends
    #[command(subcommand)]
    Project(ProjectCommand),
}

#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Register a project and its members' keys; prints its id
    Add {
        #[arg(long)]
        home: PathBuf,
        #[arg(long)]
        title: String,
        /// A declared purpose; may be given more than once
        #[arg(long = "purpose")]
        purposes: Vec<String>,
        /// A member's key, did:key:z6Mk…; may be given more than once
        #[arg(long = "member", required = true)]
        members: Vec<PublicKey>,
    },
    /// State a project's vetting: none, registered, vetted
    Vet {
        #[arg(long)]
        home: PathBuf,
        project: ProjectId,
        vetting: Vetting,
        /// What was seen
        #[arg(long, default_value = "checked by the operator")]
        claim: String,
    },
    /// Give a project credits
    Award {
        #[arg(long)]
        home: PathBuf,
        project: ProjectId,
        /// Whole credits (10⁶ µcr each)
        #[arg(long)]
        credits: u32,
        #[arg(long)]
        funder: String,
        /// The award's number at the funder
        #[arg(long)]
        award: String,
        /// How long it may be spent
        #[arg(long, default_value_t = 365)]
        days: u64,
    },
    /// Show a project's account
    Show {
        #[arg(long)]
        home: PathBuf,
        project: ProjectId,
    },
}

/// # Errors
/// [`Failure`] with a hint.
pub async fn run(command: ClearingCommand) -> Result<(), Failure> {
    match command {
        ClearingCommand::Init(arguments) => crate::command::init(&arguments, Role::House).map(|_| ()),
        ClearingCommand::Renew(arguments) => crate::command::renew(&arguments),
        ClearingCommand::Run(arguments) => house::run(arguments).await,
        ClearingCommand::Project(command) => {
            comity_cli::say(&project(command).await?);
            Ok(())
        }
    }
}

async fn project(command: ProjectCommand) -> Result<String, Failure> {
    match command {
        ProjectCommand::Add { home, title, purposes, members } => {
            let ask = ProjectAdd { id: None, title, purposes, members };
            let reply: serde_json::Value = admin::post(&home, "/admin/projects", &ask).await?;
            Ok(reply["project"].as_str().unwrap_or_default().to_owned())
        }
        ProjectCommand::Vet { home, project, vetting, claim } => {
            let issuer = "operator".to_owned();
            let ask = ProjectVet { project, vetting, issuer, claim, from: None, until: None };
            let reply: serde_json::Value = admin::post(&home, "/admin/vetting", &ask).await?;
            Ok(serde_json::to_string(&reply)?)
        }
        ProjectCommand::Award { home, project, credits, funder, award, days } => {
            let ends_at = shell::now().plus(days.saturating_mul(DAY_S));
            let ask = AwardAsk { project, amount: Amount::credits(credits), funder, award_number: award, ends_at };
            let reply: serde_json::Value = admin::post(&home, "/admin/awards", &ask).await?;
            Ok(serde_json::to_string(&reply)?)
        }
        ProjectCommand::Show { home, project } => {
            let reply: serde_json::Value = admin::get(&home, &format!("/admin/projects/{project}")).await?;
            Ok(serde_json::to_string_pretty(&reply)?)
        }
    }
}
