//! Reaching the configured hubs, again and again.

use std::time::{Duration, Instant};

use comity_wire::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};

use super::Driver;
use crate::StartError;
use crate::config::Config;

pub(super) struct Dialler {
    targets: Vec<Target>,
    first: Duration,
}

struct Target {
    address: Multiaddr,
    node: NodeId,
    state: State,
    backoff: Duration,
}

enum State {
    Due(Instant),
    Dialling(ConnectionId),
    Connected(PeerId),
}

const BACKOFF_MAX: Duration = Duration::from_secs(60);

impl Dialler {
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let first = Duration::from_millis(config.redial_ms.max(10));
        let target = |hub: &crate::config::Hub| {
            let address = hub.address.parse().map_err(|_| StartError::Address { address: hub.address.clone() })?;
            Ok(Target { address, node: hub.node, state: State::Due(Instant::now()), backoff: first })
        };
        Ok(Self { targets: config.hubs.iter().map(target).collect::<Result<_, _>>()?, first })
    }

    /// The node that must answer on a connection which we dialled.
    pub(super) fn expected(&self, peer: &PeerId) -> Option<NodeId> {
        self.targets
            .iter()
            .find(|target| matches!(&target.state, State::Connected(p) if p == peer))
            .map(|target| target.node)
    }

    pub(super) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        for target in &mut self.targets {
            if matches!(target.state, State::Dialling(id) if id == connection) {
                target.state = State::Connected(peer);
            }
        }
    }

    /// Said hello: the next failure starts with a short wait again.
    pub(super) fn admitted(&mut self, peer: &PeerId) {
        for target in &mut self.targets {
            if matches!(&target.state, State::Connected(p) if p == peer) {
                target.backoff = self.first;
            }
        }
    }

    pub(super) fn failed(&mut self, connection: ConnectionId) {
        for target in &mut self.targets {
            if matches!(target.state, State::Dialling(id) if id == connection) {
                target.wait();
            }
        }
    }

    pub(super) fn left(&mut self, peer: &PeerId) {
        for target in &mut self.targets {
            if matches!(&target.state, State::Connected(p) if p == peer) {
                target.wait();
            }
        }
    }
}

impl Target {
    fn wait(&mut self) {
        self.state = State::Due(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

impl Driver {
    pub(super) fn dial(&mut self, now: Instant) {
        for target in &mut self.dialler.targets {
            if !matches!(target.state, State::Due(at) if at <= now) {
                continue;
            }
            let options = DialOpts::unknown_peer_id().address(target.address.clone()).build();
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => target.state = State::Dialling(connection),
                Err(error) => {
                    tracing::debug!(hub = %target.node, %error, "hub could not be dialled");
                    target.wait();
                }
            }
        }
    }
}
