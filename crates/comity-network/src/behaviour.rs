//! The behaviours in one swarm, and the swarm's transports and limits.

use std::iter;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};

use comity_registry::message::FRAME_BYTES_MAX;
use comity_wire::RosterId;

use crate::codec::Framed;
use crate::config::{Config, Role};
use crate::gossip::{self, Gossipsub};
use crate::hello;

/// Limits come first, so that a connection too many is denied before anyone works for it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossipsub: Toggle<Gossipsub>,
    pub(crate) hello: request_response::Behaviour<Framed>,
    pub(crate) sync: request_response::Behaviour<Framed>,
    /// Streams for calls to a node that only dials out.
    pub(crate) door: libp2p_stream::Behaviour,
}

/// A request carries at most 1,024 digests.
const SYNC_REQUEST_BYTES_MAX: usize = 64 * 1024;
const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Hello and sync need a few; the rest are tunnels of a hub to one node, which it bounds at 256.
const STREAMS_MAX: usize = 512;
const IDLE: Duration = Duration::from_secs(600);

pub(crate) fn swarm(key: Keypair, config: &Config, federation: RosterId) -> Result<Swarm<Behaviour>, String> {
    let behaviour = behaviour(&key, config, federation)?;
    let muxer = || {
        let mut muxer = yamux::Config::default();
        muxer.set_max_num_streams(STREAMS_MAX);
        muxer
    };
    let builder = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, muxer)
        .map_err(|error| error.to_string())?
        .with_quic()
        .with_dns()
        .map_err(|error| error.to_string())?
        .with_behaviour(|_| behaviour)
        .map_err(|error| error.to_string())?;
    // Only gossip and sync streams come and go; without this a quiet connection would be closed after 10 seconds.
    Ok(builder.with_swarm_config(|config| config.with_idle_connection_timeout(IDLE)).build())
}

fn behaviour(key: &Keypair, config: &Config, federation: RosterId) -> Result<Behaviour, String> {
    let established = if config.role == Role::Hub { 10_000 } else { 512 };
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(128))
        .with_max_pending_outgoing(Some(64))
        .with_max_established(Some(established))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let identify = identify::Config::new("comity/1".to_owned(), key.public())
        .with_agent_version(concat!("comity/", env!("CARGO_PKG_VERSION")).to_owned())
        // Addresses are announced in feeds, and a long list would overflow identify's 4 KiB.
        .with_hide_listen_addrs(true);
    let gossipsub = match config.gossip {
        true => Some(gossip::behaviour(key.clone(), config.role, &gossip::topic(federation))?),
        false => None,
    };
    let hello = Framed { request_max: hello::REQUEST_BYTES_MAX, response_max: hello::REPLY_BYTES_MAX };
    let sync = Framed { request_max: SYNC_REQUEST_BYTES_MAX, response_max: FRAME_BYTES_MAX };
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new()),
        gossipsub: gossipsub.into(),
        hello: exchange(hello, "/comity/hello/1", 2, Duration::from_secs(5)),
        sync: exchange(sync, "/comity/sync/1", 4, Duration::from_secs(30)),
        door: libp2p_stream::Behaviour::new(),
    })
}

fn exchange(
    codec: Framed,
    name: &'static str,
    streams: usize,
    timeout: Duration,
) -> request_response::Behaviour<Framed> {
    let config = request_response::Config::default().with_request_timeout(timeout).with_max_concurrent_streams(streams);
    let protocols = iter::once((StreamProtocol::new(name), ProtocolSupport::Full));
    request_response::Behaviour::with_codec(codec, protocols, config)
}
