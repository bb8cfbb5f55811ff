//! `comity clearing init|renew|replica|issuer|run|backup|restore|migrate|doctor|project|person|award|officer|act|write-off|dispute|match|period|owner|probe|revoke|log|report|amie`:
//! the house.

mod act;
mod amie;
mod award;
mod backup;
mod central;
mod dispute;
mod doctor;
mod issuer;
mod log;
mod matching;
mod migrate;
mod oversight;
mod owner;
mod period;
mod person;
mod probe;
mod replica;
pub(super) mod report;

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::acts::{Act, ProjectResume, WriteOff};
use comity_clearing::admin::{Freeze, Members, ProjectAdd, ProjectVet, ProposalDecide, Revoke};
use comity_clearing::mandates::Role;
use comity_wire::object::Vetting;
use comity_wire::{Amount, NodeId, OrgId, ProjectId, PublicKey, TokenId};

use crate::command::{InitArguments, RenewArguments, RunArguments};
use crate::failure::Failure;
use crate::home::Role as HomeRole;
use crate::program::Failpoint;
use crate::service::{admin, house};
use crate::watch::HouseWatchArguments;

#[derive(Debug, Subcommand)]
pub enum ClearingCommand {
    /// Make the house's home: keys, certificates, organisation.json
    Init(InitArguments),
    /// Sign the house's certificates again, for 90 days
    Renew(RenewArguments),
    /// Make the home of one more replica of this house, for a house with its books in PostgreSQL
    Replica(replica::Replica),
    /// The key that the house sells with: a new one, once two officers and the roster let it sign
    #[command(subcommand)]
    Issuer(issuer::IssuerCommand),
    /// Run the house
    Run(HouseRun),
    /// Copy the books while the house works, and what stands beside them, into a new folder
    Backup(backup::Backup),
    /// Put a backup back into a home that has no books, and say whose move is next
    Restore(backup::Restore),
    /// Show and apply the migrations of the books, or copy books that outgrow SQLite into a PostgreSQL
    Migrate(migrate::Migrate),
    /// Look at everything that a house needs, and say whose move is next; a failure ends with an error
    Doctor(doctor::Doctor),
    /// Projects: who spends
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Persons: who the house has seen, their keys, what is known of them
    #[command(subcommand)]
    Person(person::PersonCommand),
    /// Print the description of the house's HTTP API (OpenAPI 3.1), as it also serves it at /v1/openapi.json
    Openapi,
    /// The transparency log: what auditors verify
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Statements, balances, a journal: as JSON, or as CSV for a spreadsheet
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Awards: their parts, supplements, ends
    #[command(subcommand)]
    Award(award::AwardCommand),
    /// The persons who keep the books: two of them stand behind each act on credits
    #[command(subcommand)]
    Officer(act::OfficerCommand),
    /// Acts on credits: what waits for a second person, what was done
    #[command(subcommand)]
    Act(act::ActCommand),
    /// Sites that speak ACCESS AMIE: their keys, what they were asked for, what they report
    #[command(subcommand)]
    Amie(amie::AmieCommand),
    /// What the house paid from suspense and nothing will cover becomes its loss
    WriteOff(WriteOffArguments),
    /// Disputes: what a node signed twice or did not show, and what is decided of it
    #[command(subcommand)]
    Dispute(dispute::DisputeCommand),
    /// Counts: what owners' meters say, beside receipts and ledger
    #[command(subcommand)]
    Match(matching::MatchCommand),
    /// Periods: close the books of a month
    #[command(subcommand)]
    Period(period::PeriodCommand),
    /// Flags by category over all projects and owners; owners concerned are told by themselves of a project that spreads thin
    Oversight(oversight::OversightArguments),
    /// Owners: how they are paid, what is payable, and what they were paid
    #[command(subcommand)]
    Owner(owner::OwnerCommand),
    /// Owners are checked too: blind calls by ordinary projects, and what they show
    #[command(subcommand)]
    Probe(probe::ProbeCommand),
    /// Stop new work under a token, at a node, or at all nodes of an organisation. Work that was admitted is paid
    Revoke(RevokeArguments),
}

#[derive(Debug, clap::Args)]
pub struct HouseRun {
    #[command(flatten)]
    pub run: RunArguments,
    #[command(flatten)]
    pub watch: HouseWatchArguments,
    /// Serve ACCESS AMIE here, on loopback, for a proxy in front of it that has a certificate (docs/operating/amie.md)
    #[arg(long)]
    pub amie: Option<std::net::SocketAddr>,
    /// Where a house works from this home already: wait until it has ended, then take over
    #[arg(long)]
    pub standby: bool,
}

#[derive(Debug, clap::Args)]
pub struct WriteOffArguments {
    #[command(flatten)]
    acting: act::Acting,
    /// No more than suspense is short of (`report trial-balance`)
    #[arg(long, value_parser = award::credits)]
    credits: Amount,
    /// The other way: what was written off came back to suspense, and is no loss any more
    #[arg(long)]
    recovered: bool,
    /// What it rests on; tells one time from the next
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub struct RevokeArguments {
    #[arg(long)]
    home: PathBuf,
    #[command(flatten)]
    subject: Subject,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Subject {
    /// One token's id
    #[arg(long)]
    token: Option<TokenId>,
    /// One node's id
    #[arg(long)]
    node: Option<NodeId>,
    /// An organisation's id
    #[arg(long)]
    organisation: Option<OrgId>,
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
    /// Let more keys spend for a project, or fewer: what a removed member drew stays valid until it ends
    Member {
        #[command(flatten)]
        acting: act::Acting,
        project: ProjectId,
        /// A member's key, did:key:z6Mk…; may be given more than once
        #[arg(long)]
        add: Vec<PublicKey>,
        /// A key to take away; may be given more than once
        #[arg(long, required_unless_present = "add")]
        remove: Vec<PublicKey>,
        /// What the added keys may do, also those that were there: pi and co-pi sign mandates, they and a manager draw tokens by
        /// themselves, a member draws under a mandate. Left out: new keys are managers', the others stay what they are
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// With --officer: what it rests on; tells one time from the next
        #[arg(long, default_value = "", requires = "officer")]
        reason: String,
    },
    /// Stop a project from drawing new tokens, which one person may
    Freeze {
        #[command(flatten)]
        acting: act::Acting,
        project: ProjectId,
        /// Let it draw again; with --officer, where two keep the books
        #[arg(long)]
        resume: bool,
        /// With --officer: what it rests on; tells one time from the next
        #[arg(long, default_value = "", requires_all = ["officer", "resume"])]
        reason: String,
    },
    /// State a project's vetting: none, registered, vetted
    Vet {
        #[command(flatten)]
        acting: act::Acting,
        project: ProjectId,
        vetting: Vetting,
        /// What was seen
        #[arg(long, default_value = "checked by the operator")]
        claim: String,
    },
    /// What persons proposed, what waits first
    Proposals {
        #[arg(long)]
        home: PathBuf,
    },
    /// Take a proposed project in
    Accept {
        #[arg(long)]
        home: PathBuf,
        project: ProjectId,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Do not take a proposed project in; the PI reads why
    Decline {
        #[arg(long)]
        home: PathBuf,
        project: ProjectId,
        #[arg(long)]
        reason: String,
    },
    /// Give a project credits; `comity clearing award give` is the same
    Award(award::Give),
    /// Show a project's account
    Show {
        #[arg(long)]
        home: PathBuf,
        project: ProjectId,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum RoleName {
    Pi,
    CoPi,
    Manager,
    Member,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Pi => Self::Pi,
            RoleName::CoPi => Self::CoPi,
            RoleName::Manager => Self::Manager,
            RoleName::Member => Self::Member,
        }
    }
}

/// # Errors
/// [`Failure`] with a hint.
pub async fn run(command: ClearingCommand, failpoint: &Failpoint) -> Result<(), Failure> {
    match command {
        ClearingCommand::Init(arguments) => crate::command::init(&arguments, HomeRole::House).map(|_| ()),
        ClearingCommand::Renew(arguments) => crate::command::renew(&arguments),
        ClearingCommand::Replica(arguments) => {
            comity_cli::say(&arguments.run().await?);
            Ok(())
        }
        ClearingCommand::Issuer(command) => {
            comity_cli::say(&issuer::run(command).await?);
            Ok(())
        }
        ClearingCommand::WriteOff(WriteOffArguments { acting, credits, recovered, reason }) => {
            let ask = WriteOff { amount: credits, recovered, reason };
            comity_cli::say(&act::bring(&acting, Act::WriteOff(ask)).await?);
            Ok(())
        }
        ClearingCommand::Run(arguments) => house::run(arguments, failpoint).await,
        ClearingCommand::Openapi => {
            comity_cli::say(comity_clearing::http::openapi().trim_end());
            Ok(())
        }
        ClearingCommand::Revoke(RevokeArguments { home, subject }) => {
            let Subject { token, node, organisation } = subject;
            let ask = Revoke { token, node, organisation };
            let reply: serde_json::Value = admin::post(&home, "/admin/revoke", &ask).await?;
            comity_cli::say(&serde_json::to_string(&reply)?);
            Ok(())
        }
        ClearingCommand::Log(command) => {
            comity_cli::say(&log::run(command).await?);
            Ok(())
        }
        ClearingCommand::Backup(arguments) => {
            comity_cli::say(&arguments.run().await?);
            Ok(())
        }
        ClearingCommand::Restore(arguments) => {
            comity_cli::say(&arguments.run().await?);
            Ok(())
        }
        ClearingCommand::Migrate(arguments) => {
            comity_cli::say(&arguments.run().await?);
            Ok(())
        }
        ClearingCommand::Doctor(arguments) => arguments.run().await,
        ClearingCommand::Report(command) => report::run(command).await,
        ClearingCommand::Match(command) => {
            comity_cli::say(&matching::run(command).await?);
            Ok(())
        }
        ClearingCommand::Award(command) => {
            comity_cli::say(&award::run(command).await?);
            Ok(())
        }
        ClearingCommand::Officer(command) => {
            comity_cli::say(&act::officer(command).await?);
            Ok(())
        }
        ClearingCommand::Amie(command) => {
            comity_cli::say(&amie::run(command).await?);
            Ok(())
        }
        ClearingCommand::Act(command) => {
            comity_cli::say(&act::run(command).await?);
            Ok(())
        }
        ClearingCommand::Dispute(command) => {
            comity_cli::say(&dispute::run(command).await?);
            Ok(())
        }
        ClearingCommand::Oversight(arguments) => {
            comity_cli::say(&oversight::run(&arguments).await?);
            Ok(())
        }
        ClearingCommand::Period(command) => {
            comity_cli::say(&period::run(command).await?);
            Ok(())
        }
        ClearingCommand::Person(command) => {
            comity_cli::say(&person::run(command).await?);
            Ok(())
        }
        ClearingCommand::Probe(command) => {
            comity_cli::say(&probe::run(command, failpoint).await?);
            Ok(())
        }
        ClearingCommand::Owner(command) => {
            comity_cli::say(&owner::run(command).await?);
            Ok(())
        }
        ClearingCommand::Project(command) => {
            comity_cli::say(&project(command).await?);
            Ok(())
        }
    }
}

async fn decide(home: &std::path::Path, project: ProjectId, accept: bool, reason: String) -> Result<String, Failure> {
    let ask = ProposalDecide { project, accept, reason };
    let reply: serde_json::Value = admin::post(home, "/admin/proposals/decide", &ask).await?;
    Ok(serde_json::to_string_pretty(&reply)?)
}

async fn project(command: ProjectCommand) -> Result<String, Failure> {
    match command {
        ProjectCommand::Add { home, title, purposes, members } => {
            let ask = ProjectAdd { id: None, title, purposes, members };
            let reply: serde_json::Value = admin::post(&home, "/admin/projects", &ask).await?;
            Ok(reply["project"].as_str().unwrap_or_default().to_owned())
        }
        ProjectCommand::Member { acting, project, add, remove, role, reason } => {
            let ask = Members { project, add, remove, role: role.map(Into::into), reason };
            if acting.officer.is_some() {
                return act::bring(&acting, Act::Members(ask)).await;
            }
            let reply: serde_json::Value = admin::post(&acting.home, "/admin/members", &ask).await?;
            Ok(serde_json::to_string(&reply)?)
        }
        ProjectCommand::Freeze { acting, project, resume, reason } if resume && acting.officer.is_some() => {
            act::bring(&acting, Act::ProjectResume(ProjectResume { project, reason })).await
        }
        ProjectCommand::Freeze { acting, project, resume, .. } => {
            let ask = Freeze { project, frozen: !resume };
            let reply: serde_json::Value = admin::post(&acting.home, "/admin/freeze", &ask).await?;
            Ok(serde_json::to_string(&reply)?)
        }
        ProjectCommand::Vet { acting, project, vetting, claim } => {
            let issuer = "operator".to_owned();
            // Of an act: the same statement at another time is another one.
            let from = acting.officer.is_some().then(crate::shell::now);
            let ask = ProjectVet { project, vetting, issuer, claim, from, until: None };
            if acting.officer.is_some() {
                return act::bring(&acting, Act::Vet(ask)).await;
            }
            let reply: serde_json::Value = admin::post(&acting.home, "/admin/vetting", &ask).await?;
            Ok(serde_json::to_string(&reply)?)
        }
        ProjectCommand::Proposals { home } => {
            let reply: serde_json::Value = admin::get(&home, "/admin/proposals").await?;
            Ok(serde_json::to_string_pretty(&reply)?)
        }
        ProjectCommand::Accept { home, project, reason } => decide(&home, project, true, reason).await,
        ProjectCommand::Decline { home, project, reason } => decide(&home, project, false, reason).await,
        ProjectCommand::Award(give) => award::give(give).await,
        ProjectCommand::Show { home, project } => {
            let reply: serde_json::Value = admin::get(&home, &format!("/admin/projects/{project}")).await?;
            Ok(serde_json::to_string_pretty(&reply)?)
        }
    }
}
