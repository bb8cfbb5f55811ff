//! `comity hub init|renew|run`: a node with a public address that relays and helps others sync.

use clap::Subcommand;

use crate::command::{InitArguments, RenewArguments, RunArguments};
use crate::failure::Failure;
use crate::home::{Home, Role};
use crate::program::Failpoint;
use crate::service::{Doors, Member};

#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Make a hub's home: keys, certificates, organisation.json
    Init(InitArguments),
    /// Sign this hub's certificates again, for 90 days
    Renew(RenewArguments),
    /// Run a hub
    Run(RunArguments),
}

/// # Errors
/// [`Failure`] with a hint.
pub async fn run(command: HubCommand, failpoint: &Failpoint) -> Result<(), Failure> {
    match command {
        HubCommand::Init(arguments) => crate::command::init(&arguments, Role::Hub).map(|_| ()),
        HubCommand::Renew(arguments) => crate::command::renew(&arguments),
        HubCommand::Run(arguments) => serve(arguments, failpoint).await,
    }
}

async fn serve(arguments: RunArguments, failpoint: &Failpoint) -> Result<(), Failure> {
    let home = Home::open(&arguments.home)?;
    let member = Member::join(home, &arguments, failpoint).await?;
    let router = member.network.routes(std::sync::Arc::clone(&member.clock));
    let doors = Doors::open(&member, &arguments, router, None).await?;
    member.publish(&doors, Vec::new()).await?;
    doors.until_stopped(member).await
}
