//! Operator commands, one file each. Researcher commands live in comity-cli.

pub mod audit;
pub mod cases;
pub mod clearing;
pub mod hub;
pub mod ledger;
pub mod model;
pub mod node;
pub mod policy;
pub mod requests;
pub mod roster;

use std::net::SocketAddr;
use std::path::PathBuf;

use comity_wire::NodeId;

use crate::failure::Failure;

/// Who gives a command, by the name of their login.
fn login() -> String {
    let name = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    ["USER", "LOGNAME"].into_iter().find_map(name).unwrap_or_else(|| "the operator".into())
}

/// What every `init` takes.
#[derive(Debug, clap::Args)]
pub struct InitArguments {
    /// The folder to make
    #[arg(long)]
    pub home: PathBuf,
    /// The organisation's name: the first half of its model ids (a-z, 0-9, '.', '_', '-')
    #[arg(long)]
    pub name: String,
    /// What people read
    #[arg(long)]
    pub title: String,
}

/// What every `renew` takes.
#[derive(Debug, clap::Args)]
pub struct RenewArguments {
    /// The home folder that `init` made
    #[arg(long)]
    pub home: PathBuf,
    /// It came back from a backup: say so in the certificate, and begin the next epoch of the feed
    #[arg(long)]
    pub restored: bool,
}

/// What every `run` takes.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The home folder that `init` made
    #[arg(long)]
    pub home: PathBuf,
    /// The HTTPS door; port 0 takes a free one. `none`: this node listens nowhere, and is reached through its hubs
    #[arg(long, default_value = "0.0.0.0:4443")]
    pub listen: Listen,
    /// The QUIC door (UDP), or `none`. Left out, it has the port of the HTTPS door where that is free
    #[arg(long)]
    pub quic: Option<Listen>,
    /// Take no calls that the dialled hubs pass on; at a hub: pass none on
    #[arg(long)]
    pub no_relay: bool,
    /// A name or address that others reach the door by, where it is not the one it listens on (host:port)
    #[arg(long)]
    pub public: Option<String>,
    /// libp2p (TCP); port 0 takes a free one
    #[arg(long)]
    pub libp2p: Option<SocketAddr>,
    /// A hub to dial: MULTIADDRESS@NODE; may be given more than once
    #[arg(long = "hub")]
    pub hubs: Vec<HubAddress>,
}

/// Where a door listens, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    At(SocketAddr),
    Nowhere,
}

impl Listen {
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(address),
            Self::Nowhere => None,
        }
    }
}

impl std::str::FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Nowhere),
            address => address.parse().map(Self::At).map_err(|_| "an address is IP:PORT, or `none`".to_owned()),
        }
    }
}

/// `/ip4/192.0.2.1/tcp/4001@node-…`.
#[derive(Clone, Debug)]
pub struct HubAddress {
    pub address: String,
    pub node: NodeId,
}

impl std::str::FromStr for HubAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, node) =
            text.rsplit_once('@').ok_or("a hub is MULTIADDRESS@NODE, as `comity hub run` prints it under `hub`")?;
        let node = node.parse().map_err(|error| format!("{node}: {error}"))?;
        Ok(Self { address: address.to_owned(), node })
    }
}

/// `renew`: the certificates of a home for another 90 days.
///
/// # Errors
/// [`Failure`].
pub fn renew(arguments: &RenewArguments) -> Result<(), Failure> {
    let (home, now) = (crate::home::Home::open(&arguments.home)?, crate::shell::now());
    let until = if arguments.restored { home.renew_restored(now)? } else { home.renew(now)? };
    comity_cli::say(&format!("certificates renewed until {until}"));
    eprintln!("next: restart what runs from {}; then take keys/organisation.key off line", arguments.home.display());
    Ok(())
}

/// `init`: a home, and what to do with it.
///
/// # Errors
/// [`Failure`].
pub fn init(arguments: &InitArguments, role: crate::home::Role) -> Result<crate::home::Home, Failure> {
    let home = crate::home::Home::init(&arguments.home, &arguments.name, &arguments.title, role)?;
    comity_cli::say(&format!("{} {}", home.card.organisation, home.card.node));
    eprintln!(
        "next: hand {} to the roster's signers; put the roster.cbor they hand back into {}",
        home.file("organisation.json").display(),
        home.path.display()
    );
    Ok(home)
}
