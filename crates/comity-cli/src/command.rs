//! `comity` for researchers: verbs on nouns.

mod access;
mod agent;
mod batch;
mod chat;
mod cite;
mod class;
mod compare;
mod conduct;
mod delegate;
mod estimate;
mod fingerprint;
mod init;
mod login;
mod mandate;
mod models;
mod plan;
mod project;
pub mod proxy;
mod quote;
mod receipts;
mod wallet;
mod whoami;

use std::sync::Arc;

use clap::Subcommand;
use comity_sdk::client::Failpoint;

use crate::keys::Source;
use crate::printer::Failure;
use crate::session::{self, Folder, Session};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a profile and a member key: the first thing to do
    Init(init::Init),
    /// Find models and read what their owners say of them
    #[command(subcommand)]
    Models(models::Models),
    /// Say at an issuer whose key this is: the clearing house learns who you are from somebody that it believes
    Login(login::Login),
    /// The code of conduct of the clearing house
    #[command(subcommand)]
    Conduct(conduct::ConductCommand),
    /// Who the clearing house takes your key for, what vetting it gives, and what is missing for more
    Whoami(whoami::Whoami),
    /// What a model costs your project, pinned by the clearing house
    Quote(quote::Quote),
    /// Apply to a model's owner for access, and see where it stands
    #[command(subcommand)]
    Access(access::Access),
    /// Experiment plans: what an owner approves for a number of executions
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// What a file of prompts would cost with each of some models, before anything is spent
    Estimate(estimate::Estimate),
    /// Ask a model one question
    Chat(chat::Chat),
    /// Several models side by side: many prompts, within a cap, with a report
    Compare(compare::Compare),
    /// A file of OpenAI batch lines, or of prompts, asked once each; goes on where it was killed
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Whether the model behind a name is still the one that it was: its fingerprint, taken once and checked later
    #[command(subcommand)]
    Fingerprint(fingerprint::FingerprintCommand),
    /// Plain OpenAI on this computer: point any OpenAI client at it
    Proxy(proxy::Proxy),
    /// Coding agents: have one ask models through the proxy
    #[command(subcommand)]
    Agent(agent::Agent),
    /// A PI's permission to draw tokens within a cap, the PI being away
    #[command(subcommand)]
    Mandate(mandate::MandateCommand),
    /// A class: a list becomes places with join codes, capped, seen and ended one by one
    #[command(subcommand)]
    Class(class::ClassCommand),
    /// Your project's award: what is spent, in escrow, left
    Project(project::Project),
    /// The tokens you hold; end them so that what is left goes home
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// Hand on a narrower right, offline
    Delegate(delegate::Delegate),
    /// Receipts: read them, check them, hand them on as evidence
    #[command(subcommand)]
    Receipts(receipts::Receipts),
    /// A receipt as a reference: BibTeX, CSL-JSON, a sentence for a methods section
    Cite(cite::Cite),
}

/// Runs a command to its end. `failpoint` is called at the client's named points.
///
/// # Errors
/// [`Failure`], with what to do next.
pub async fn run(command: Command, folder: Folder, failpoint: &Failpoint) -> Result<(), Failure> {
    let source = Source::new(folder.passphrase_file);
    let session = Session::new(session::home(folder.home)?, source, Arc::clone(failpoint));
    match command {
        Command::Init(command) => command.run(&session),
        Command::Models(command) => command.run(&session).await,
        Command::Login(command) => command.run(&session).await,
        Command::Conduct(command) => command.run(&session).await,
        Command::Whoami(command) => command.run(&session).await,
        Command::Quote(command) => command.run(&session).await,
        Command::Access(command) => command.run(&session).await,
        Command::Plan(command) => command.run(&session).await,
        Command::Estimate(command) => command.run(&session).await,
        Command::Chat(command) => command.run(&session).await,
        Command::Compare(command) => command.run(&session).await,
        Command::Batch(command) => command.run(&session).await,
        Command::Fingerprint(command) => command.run(&session).await,
        Command::Proxy(command) => command.run(&session).await,
        Command::Agent(command) => command.run(&session).await,
        Command::Mandate(command) => command.run(&session).await,
        Command::Class(command) => command.run(&session).await,
        Command::Project(command) => command.run(&session).await,
        Command::Wallet(command) => command.run(&session).await,
        Command::Delegate(command) => command.run(&session).await,
        Command::Receipts(command) => command.run(&session).await,
        Command::Cite(command) => command.run(&session).await,
    }
}
