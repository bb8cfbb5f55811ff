//! A home's place in the federation: its network, its feed, its read handle on everybody else's.

use std::sync::Arc;

use comity_network::{Config, Hub, Identity, Network, Parts, PublishSet, Role as NetworkRole, Writer};
use comity_token::Directory;
use comity_wire::SecretKey;

use crate::command::RunArguments;
use crate::failure::{Failure, While as _};
use crate::home::{Home, Role};
use crate::keystore::KeyName;
use crate::program::Failpoint;
use crate::service::Doors;
use crate::shell;

/// A joined member.
pub struct Member {
    pub home: Home,
    pub network: Network,
    pub directory: Arc<dyn Directory>,
    pub transport: SecretKey,
    pub certificate: Vec<u8>,
    pub clock: comity_network::Clock,
}

impl Member {
    /// Starts the network: listens, dials hubs, restores what was stored.
    ///
    /// # Errors
    /// [`Failure`] naming the file or address.
    pub async fn join(home: Home, arguments: &RunArguments, failpoint: &Failpoint) -> Result<Self, Failure> {
        let writer = Self::writer(&home)?;
        Self::start(home, Some(writer), arguments, failpoint).await
    }

    /// What the feed is written with.
    ///
    /// # Errors
    /// [`Failure`], also where the home has forgotten what it wrote.
    pub fn writer(home: &Home) -> Result<Writer, Failure> {
        home.feed_may_go_on()?;
        Ok(Writer { certificate: home.read("writer-certificate.cbor")?, key: home.keys.read(KeyName::Writer)? })
    }

    /// As [`Member::join`], for a process that leaves its organisation's feed to another: a feed has one writer.
    ///
    /// # Errors
    /// [`Failure`] naming the file or address.
    pub async fn follow(home: Home, arguments: &RunArguments, failpoint: &Failpoint) -> Result<Self, Failure> {
        Self::start(home, None, arguments, failpoint).await
    }

    async fn start(
        home: Home,
        writer: Option<Writer>,
        arguments: &RunArguments,
        failpoint: &Failpoint,
    ) -> Result<Self, Failure> {
        let (roster, _) = home.roster()?;
        let transport = home.keys.read(KeyName::Transport)?;
        let certificate = home.read("node-certificate.cbor")?;
        let config = Config {
            listen: addresses(arguments),
            hubs: arguments.hubs.iter().map(|hub| Hub { address: hub.address.clone(), node: hub.node }).collect(),
            role: if home.card.role == Role::Hub { NetworkRole::Hub } else { NetworkRole::Node },
            ..Config::default()
        };
        let identity = Identity { transport: transport.clone(), certificate: certificate.clone(), writer };
        let clock = shell::clock();
        let store = home.file("network.sqlite");
        let parts = Parts {
            roster,
            store: &store,
            clock: Arc::clone(&clock),
            entropy: Arc::new(|| u64::from_le_bytes(shell::random())),
            failpoint: Arc::clone(failpoint),
        };
        let network = Network::start(config, identity, parts).await.while_("cannot join the federation")?;
        let directory = network.directory();
        Ok(Self { home, network, directory, transport, certificate, clock })
    }

    /// Says where this node is, and what it has to say beside that.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn publish(&self, doors: &Doors, objects: Vec<Vec<u8>>) -> Result<(), Failure> {
        self.network.announce(doors.announced(&self.network)).await.while_("cannot announce this node")?;
        self.put(objects).await
    }

    /// Adds objects to the feed.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put(&self, objects: Vec<Vec<u8>>) -> Result<(), Failure> {
        if !objects.is_empty() {
            self.network.publish(PublishSet { objects, remove: Vec::new() }).await.while_("cannot publish")?;
        }
        Ok(())
    }
}

/// libp2p listens beside the door: TCP where it is told, or on a free port of the same address; nowhere where the node
/// only dials out.
fn addresses(arguments: &RunArguments) -> Vec<String> {
    let beside = arguments.listen.address().map(|door| std::net::SocketAddr::new(door.ip(), 0));
    let Some(listen) = arguments.libp2p.or(beside) else { return Vec::new() };
    let family = if listen.is_ipv4() { "ip4" } else { "ip6" };
    let (ip, port) = (listen.ip(), listen.port());
    vec![format!("/{family}/{ip}/tcp/{port}"), format!("/{family}/{ip}/udp/{port}/quic-v1")]
}
