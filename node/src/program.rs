//! The program that the one binary is: it installs the TLS provider and the log, then runs one command.
//!
//! A library, so that a crash test's own binary is this very program with a failpoint that ends the process; `comity`
//! hands in one that does nothing, and has no way to get another.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
pub use comity_gateway::{Failpoint, no_failpoint};

use crate::command;
use crate::demo::Demo;
use crate::failure::Failure;

/// Offer AI models to researchers without letting go of them.
///
/// Owners run `comity node`, researchers `comity chat` or `comity proxy`, the clearing house `comity clearing`. New here?
/// `comity demo` plays the whole loop on this computer.
#[derive(Parser)]
#[command(name = "comity", version, max_term_width = 100, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    folder: comity_cli::Folder,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Researcher(comity_cli::Command),
    /// Owner: make and run a node beside a model
    #[command(subcommand)]
    Node(command::node::NodeCommand),
    /// Owner: publish what stands in the node's models folder
    #[command(subcommand)]
    Model(command::model::ModelCommand),
    /// Owner: what the policies of the models folder mean, and what publishing them changes
    #[command(subcommand)]
    Policy(command::policy::PolicyCommand),
    /// Owner: decide who may use what
    #[command(subcommand)]
    Requests(command::requests::RequestsCommand),
    /// Owner: what was held against a project, its answer, the decision, the appeal
    #[command(subcommand)]
    Cases(command::cases::CasesCommand),
    /// Clearing house: make and run it, projects and awards
    #[command(subcommand)]
    Clearing(command::clearing::ClearingCommand),
    /// Clearing house: re-add the books
    #[command(subcommand)]
    Ledger(command::ledger::LedgerCommand),
    /// Auditor: verify a whole clearing house from its log alone
    Audit(Box<command::audit::Audit>),
    /// Hub: make and run one
    #[command(subcommand)]
    Hub(command::hub::HubCommand),
    /// The federation's trust root
    #[command(subcommand)]
    Roster(command::roster::RosterCommand),
    /// Play the whole loop on this computer
    Demo(Demo),
    /// Print what a shell needs to complete commands
    Completions { shell: comity_cli::program::Shell },
}

/// The page of all commands.
pub fn reference() -> String {
    comity_cli::reference::page(&Arguments::command())
}

/// Runs the command that the process was called with. `failpoint` is called at the named points of every service.
///
/// # Panics
/// Where the operating system gives no threads.
pub fn main(failpoint: &Failpoint) -> ExitCode {
    let arguments = Arguments::parse();
    comity_http::tls::install();
    crate::telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives threads");
    match runtime.block_on(run(arguments, failpoint)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments, failpoint: &Failpoint) -> Result<(), String> {
    let said = |result: Result<String, Failure>| result.map(|text| comity_cli::say(&text)).map_err(|f| f.to_string());
    let done = |result: Result<(), Failure>| result.map_err(|failure| failure.to_string());
    let Some(command) = arguments.command else {
        comity_cli::say(&comity_cli::program::lesson(arguments.folder.home));
        comity_cli::note(
            "an owner begins with `comity node init --help`; `comity demo` plays the whole loop on this computer",
        );
        return Ok(());
    };
    match command {
        Command::Researcher(command) => {
            comity_cli::run(command, arguments.folder, failpoint).await.map_err(|f| f.to_string())
        }
        Command::Node(command) => done(command::node::run(command, failpoint).await),
        Command::Model(command) => said(command::model::run(command).await),
        Command::Policy(command) => said(command::policy::run(command).await),
        Command::Requests(command) => said(command::requests::run(command).await),
        Command::Cases(command) => said(command::cases::run(command).await),
        Command::Clearing(command) => done(command::clearing::run(command, failpoint).await),
        Command::Ledger(command) => said(command::ledger::run(command).await),
        Command::Audit(audit) => said(command::audit::run(*audit).await),
        Command::Hub(command) => done(command::hub::run(command, failpoint).await),
        Command::Roster(command) => said(command::roster::run(command)),
        Command::Demo(demo) => done(demo.run().await),
        Command::Completions { shell } => {
            comity_cli::program::completions(shell, &mut Arguments::command());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_of_commands_is_that_of_the_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/commands.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        let made = super::reference();
        let other = made.lines().zip(page.lines()).find(|(made, page)| made != page);
        assert!(
            page.trim_end() == made.trim_end(),
            "cargo run -p comity-node --example reference > docs/reference/commands.md\nthe first other line: {other:?}"
        );
    }
}
#[cfg(test)]
mod pages;
