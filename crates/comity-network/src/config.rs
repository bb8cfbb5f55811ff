//! What an operator sets.

use std::time::Duration;

use comity_wire::NodeId;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Multiaddresses; port 0 takes any free one.
    pub listen: Vec<String>,
    pub hubs: Vec<Hub>,
    pub role: Role,
    /// Without it heads arrive at the next comparison.
    pub gossip: bool,
    /// How often a node compares with its peers, ± half of it.
    pub sync_interval_ms: u64,
    /// A peer that was not admitted by then is closed.
    pub hello_timeout_ms: u64,
    /// Between two attempts to reach a hub at first; doubled up to a minute.
    pub redial_ms: u64,
}

/// A hub to dial: where, and who must answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    pub address: String,
    pub node: NodeId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    #[default]
    Node,
    /// Serves many: wide mesh, gossip to all.
    Hub,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned(), "/ip4/0.0.0.0/udp/0/quic-v1".to_owned()],
            hubs: Vec::new(),
            role: Role::Node,
            gossip: true,
            sync_interval_ms: 60_000,
            hello_timeout_ms: 5_000,
            redial_ms: 1_000,
        }
    }
}

impl Config {
    pub(crate) fn sync_interval(&self) -> Duration {
        Duration::from_millis(self.sync_interval_ms.max(10))
    }

    pub(crate) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(self.hello_timeout_ms)
    }
}
