//! `comity hub init|renew|run`: a node with a public address that relays and helps others sync.

use std::sync::Arc;

use clap::Subcommand;
use comity_http::BoxDuplex;
use comity_http::relay::{self, Relay};
use comity_http::serve::Limits;
use comity_wire::NodeId;
use futures::future::BoxFuture;

use crate::command::{InitArguments, RenewArguments, RunArguments};
use crate::failure::Failure;
use crate::home::{Home, Role};
use crate::program::Failpoint;
use crate::service::{Doors, Member};
use crate::settings::HubSettings;

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
    let settings = HubSettings::read(&home)?;
    let member = Member::join(home, &arguments, failpoint).await?;
    let relay = Relay::new(relay::Parts {
        directory: Arc::clone(&member.directory),
        clock: Arc::clone(&member.clock),
        reach: Arc::new(Dialled(member.network.doors())),
        limits: settings.relay,
    });
    let own = member.network.routes(Arc::clone(&member.clock));
    let router = if arguments.no_relay { own } else { relay.before(own) };
    let doors = Doors::open(&member, &arguments, router, None, Limits::default()).await?;
    member.publish(&doors, Vec::new()).await?;
    let why = doors.told_to_stop(&member).await;
    // First nobody new, then the calls that are passed on, then the connections that they are passed on by.
    doors.close().await;
    relay.close().await;
    member.network.shutdown().await;
    why
}

/// The nodes that have dialled this hub.
struct Dialled(comity_network::Doors);

impl relay::Reach for Dialled {
    fn reach(&self, node: NodeId) -> BoxFuture<'_, Result<BoxDuplex, String>> {
        Box::pin(async move {
            match self.0.open(node).await {
                Ok(stream) => Ok(Box::new(stream) as BoxDuplex),
                Err(error) => Err(std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))),
            }
        })
    }
}
