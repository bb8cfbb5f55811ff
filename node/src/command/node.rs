//! `comity node init|renew|run`: an owner's node.

use clap::Subcommand;

use crate::command::{InitArguments, RenewArguments, RunArguments};
use crate::failure::Failure;
use crate::home::Role;
use crate::program::Failpoint;
use crate::service::owner;
use crate::watch::WatchArguments;

mod top;

pub use top::Top;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a node's home: keys, certificates, organisation.json, models/
    Init(InitArguments),
    /// Sign this node's certificates again, for 90 days
    Renew(RenewArguments),
    /// Run the node: its door, its place in the federation, its upstreams
    Run(NodeRun),
    /// Watch a running node: calls, charges, holds, the last minute of each model
    Top(Top),
}

#[derive(Debug, clap::Args)]
pub struct NodeRun {
    #[command(flatten)]
    pub run: RunArguments,
    #[command(flatten)]
    pub watch: WatchArguments,
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
        NodeCommand::Run(arguments) => owner::run(arguments.run, arguments.watch, failpoint).await,
        NodeCommand::Top(top) => top.run().await,
    }
}
