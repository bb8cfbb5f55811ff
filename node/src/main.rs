//! The one binary. It installs the TLS provider and the log, then runs one command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use comity_node::command;
use comity_node::demo::Demo;
use comity_node::failure::Failure;

/// Offer AI models to researchers without letting go of them.
///
/// Owners run `comity node`, researchers `comity chat` or `comity proxy`, the clearing house `comity clearing`. New here?
/// `comity demo` plays the whole loop on this computer.
#[derive(Parser)]
#[command(name = "comity", version, max_term_width = 100, arg_required_else_help = true, propagate_version = true)]
struct Arguments {
    /// A researcher's home folder [default: $COMITY_HOME, else ~/.config/comity]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
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
    /// Owner: decide who may use what
    #[command(subcommand)]
    Requests(command::requests::RequestsCommand),
    /// Clearing house: make and run it, projects and awards
    #[command(subcommand)]
    Clearing(command::clearing::ClearingCommand),
    /// Clearing house: re-add the books
    #[command(subcommand)]
    Ledger(command::ledger::LedgerCommand),
    /// Hub: make and run one
    #[command(subcommand)]
    Hub(command::hub::HubCommand),
    /// The federation's trust root
    #[command(subcommand)]
    Roster(command::roster::RosterCommand),
    /// Play the whole loop on this computer
    Demo(Demo),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    comity_http::tls::install();
    comity_node::telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives threads");
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let said = |result: Result<String, Failure>| result.map(|text| comity_cli::say(&text)).map_err(|f| f.to_string());
    let done = |result: Result<(), Failure>| result.map_err(|failure| failure.to_string());
    match arguments.command {
        Command::Researcher(command) => comity_cli::run(command, arguments.home).await.map_err(|f| f.to_string()),
        Command::Node(command) => done(command::node::run(command).await),
        Command::Model(command) => said(command::model::run(command).await),
        Command::Requests(command) => said(command::requests::run(command).await),
        Command::Clearing(command) => done(command::clearing::run(command).await),
        Command::Ledger(command) => said(command::ledger::run(command).await),
        Command::Hub(command) => done(command::hub::run(command).await),
        Command::Roster(command) => said(command::roster::run(command)),
        Command::Demo(demo) => done(demo.run().await),
    }
}
