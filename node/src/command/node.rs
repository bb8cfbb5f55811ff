//! `comity node init|renew|run|top|stop|resume|doctor|witness|findings`: an owner's node.

use std::path::PathBuf;

use clap::Subcommand;

use crate::command::{InitArguments, RenewArguments, RunArguments};
use crate::failure::Failure;
use crate::home::{Home, Role};
use crate::program::Failpoint;
use crate::service::owner;
use crate::watch::WatchArguments;

mod credit;
mod decisions;
mod doctor;
mod export;
mod findings;
pub(crate) mod flags;
mod packs;
pub(crate) mod stop;
mod top;

mod transcripts;
pub mod who;
mod witness;

pub use doctor::Doctor;
pub use flags::Flags;
pub use stop::{Resume, Stop};
pub use top::Top;
pub use transcripts::Transcripts;
pub use witness::Witness;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a node's home: keys, certificates, organisation.json, models/
    Init(InitArguments),
    /// Sign this node's certificates again, for 90 days
    Renew(RenewArguments),
    /// Make the home of one more process of this node, for a node with its books in PostgreSQL
    Replica(ReplicaArguments),
    /// Run the node: its door, its place in the federation, its upstreams
    Run(NodeRun),
    /// Watch a running node: calls, charges, holds, lines, servers, the last minute of each model
    Top(Top),
    /// What the owner's filter told of, and who is suspended
    Flags(Flags),
    /// Rule packs: which rules are looked for, what they find, signing one for others
    #[command(subcommand)]
    Packs(packs::Packs),
    /// Who can stop what at this node, and what is stopped
    Who(who::Who),
    /// Stop a model, a project or the node: nothing of it is let in from within a second on, until it is resumed
    Stop(Stop),
    /// Let in again what was stopped, or whom the filter suspended
    Resume(Resume),
    /// What is wrong with the node, what is stopped, and whose move is next
    Doctor(Doctor),
    /// Cosign a clearing house's log: see that it only grows, and say so
    Witness(Box<Witness>),
    /// Whether what was decided on applications and cases is as it was, and where houses have logged that
    #[command(subcommand)]
    Decisions(decisions::Decisions),
    /// Give back what a token had paid: a credit note to its clearing house
    Credit(credit::Credit),
    /// All that is kept of one project, in a folder to hand over
    Export(export::Export),
    /// What a clearing house's blind checks found of this node's models, and your answer
    #[command(subcommand)]
    Findings(findings::FindingsCommand),
    /// What was kept of calls whose tier keeps their texts
    #[command(subcommand)]
    Transcripts(Transcripts),
}

#[derive(Debug, clap::Args)]
pub struct NodeRun {
    #[command(flatten)]
    pub run: RunArguments,
    #[command(flatten)]
    pub watch: WatchArguments,
}

#[derive(Debug, clap::Args)]
pub struct ReplicaArguments {
    /// The home folder of the process that publishes
    #[arg(long)]
    home: PathBuf,
    /// The folder to make
    #[arg(long)]
    into: PathBuf,
}

/// # Errors
/// [`Failure`] with a hint.
pub async fn run(command: NodeCommand, failpoint: &Failpoint) -> Result<(), Failure> {
    match command {
        NodeCommand::Init(arguments) => {
            let home = crate::command::init(&arguments, Role::Owner)?;
            std::fs::create_dir_all(home.file("models"))?;
            eprintln!("then: comity model example > {}/NAME.toml", home.file("models").display());
            Ok(())
        }
        NodeCommand::Renew(arguments) => crate::command::renew(&arguments),
        NodeCommand::Replica(arguments) => {
            let home = Home::open(&arguments.home)?.replica(&arguments.into)?;
            comity_cli::say(&home.card.node.to_string());
            eprintln!(
                "next: say in {} where the node's PostgreSQL is; restart the process of {}, whose certificate now names \
                 both; then run this one",
                home.file("node.toml").display(),
                arguments.home.display()
            );
            Ok(())
        }
        NodeCommand::Run(arguments) => owner::run(arguments.run, arguments.watch, failpoint).await,
        NodeCommand::Top(top) => top.run().await,
        NodeCommand::Flags(flags) => flags.run().await,
        NodeCommand::Packs(packs) => packs.run(),
        NodeCommand::Who(who) => who.run().await,
        NodeCommand::Stop(stop) => stop.run().await,
        NodeCommand::Resume(resume) => resume.run().await,
        NodeCommand::Decisions(decisions) => decisions.run().await,
        NodeCommand::Credit(credit) => {
            comity_cli::say(&credit.run().await?);
            Ok(())
        }
        NodeCommand::Export(export) => export.run().await,
        NodeCommand::Doctor(doctor) => doctor.run().await,
        NodeCommand::Witness(witness) => {
            comity_cli::say(&witness.run().await?);
            Ok(())
        }
        NodeCommand::Findings(command) => {
            comity_cli::say(&findings::run(command).await?);
            Ok(())
        }
        NodeCommand::Transcripts(transcripts) => transcripts.run().await,
    }
}
