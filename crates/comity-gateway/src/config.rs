//! What the node brings: settings, keys, clock, upstreams.

use std::sync::Arc;

use comity_http::body;
use comity_supply::Upstream;
use comity_token::Directory;
use comity_wire::{ModelId, NodeId, OrgId, PublicKey, SecretKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::claims::House;
use crate::guarding::Flags;
use crate::moderating::Moderation;
use crate::store::Store;
use crate::transcript::Transcripts;
use crate::watch::Watch;

pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
pub type Entropy = Arc<dyn Fn() -> [u8; 16] + Send + Sync>;
/// Called at named points. Does nothing in a node; a crash test's own binary ends the process in it.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The hook of everything that is not a crash test.
pub fn no_failpoint() -> Failpoint {
    Arc::new(|_| {})
}

/// Bounds of the door.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Requests at once, over all callers; one more is 503 `busy`.
    pub in_flight_max: usize,
    pub body_bytes_max: usize,
    /// From the first wait for a body to its last byte.
    pub body_ms_max: u64,
    /// A body that comes slower than this, once it was given a second, is cut.
    pub body_bytes_per_s_min: u64,
    /// Calls of one project that may wait for a place at a model.
    pub queue_project_max: usize,
    /// Calls that may wait for a place at a model, over all projects.
    pub queue_max: usize,
    /// What those that wait for a model may keep in memory.
    pub queue_bytes_max: usize,
    /// How long a call may wait for a place.
    pub queue_wait_s: u64,
    /// Verified chains that are remembered.
    pub chains_max: usize,
    /// Tokens whose accounts stay in memory.
    pub tokens_max: usize,
    /// Finished replies are kept this long for a caller that did not get them; 0: not at all.
    pub replay_s: u64,
    pub replay_bytes_max: usize,
    /// A caller that takes nothing for this long has gone.
    pub stall_s: u64,
    /// A comment goes out when an upstream has said nothing for this long.
    pub keep_alive_s: u64,
    /// After the process is told to end: how long what runs may go on. What is left then is ended with its receipt, or
    /// uncharged.
    pub drain_s: u64,
    pub claim_every_s: u64,
    /// How long an own-node token may live.
    pub own_token_s_max: u32,
    pub own_token_lanes: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_flight_max: 1024,
            body_bytes_max: 8 << 20,
            body_ms_max: 30_000,
            body_bytes_per_s_min: 1_024,
            queue_project_max: 64,
            queue_max: 512,
            queue_bytes_max: 128 << 20,
            queue_wait_s: 60,
            chains_max: 10_000,
            tokens_max: 10_000,
            replay_s: 600,
            replay_bytes_max: 64 << 20,
            stall_s: 120,
            keep_alive_s: 20,
            drain_s: 900,
            claim_every_s: 1_800,
            own_token_s_max: 24 * 3600,
            own_token_lanes: 16,
        }
    }
}

/// More calls at once than any machine holds sockets for.
const IN_FLIGHT_MAX: usize = 1_000_000;
/// A process that is told to end does not run for days.
const DRAIN_S_MAX: u64 = 86_400;

impl Config {
    /// What no door could work with, in a sentence.
    pub fn fault(&self) -> Option<String> {
        let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let needed = [
            ("in_flight_max", whole(self.in_flight_max)),
            ("body_bytes_max", whole(self.body_bytes_max)),
            ("body_ms_max", self.body_ms_max),
            ("queue_project_max", whole(self.queue_project_max)),
            ("queue_max", whole(self.queue_max)),
            ("queue_bytes_max", whole(self.queue_bytes_max)),
            ("queue_wait_s", self.queue_wait_s),
            ("chains_max", whole(self.chains_max)),
            ("tokens_max", whole(self.tokens_max)),
            ("claim_every_s", self.claim_every_s),
            ("drain_s", self.drain_s),
        ];
        if let Some((key, _)) = needed.into_iter().find(|(_, number)| *number == 0) {
            return Some(format!("gateway.{key} is 0, and nothing would be let in, or let end"));
        }
        if self.drain_s > DRAIN_S_MAX {
            return Some(format!("gateway.drain_s is above {DRAIN_S_MAX}, a day"));
        }
        (self.in_flight_max > IN_FLIGHT_MAX).then(|| format!("gateway.in_flight_max is above {IN_FLIGHT_MAX}"))
    }

    pub(crate) fn body(&self) -> body::Limit {
        body::Limit {
            ms_max: self.body_ms_max,
            bytes_per_s_min: self.body_bytes_per_s_min,
            ..body::Limit::bytes(self.body_bytes_max)
        }
    }
}

/// A model that this node answers for.
#[derive(Clone, Debug)]
pub struct Served {
    pub model: ModelId,
    pub upstream: Arc<dyn Upstream>,
    /// Its name there.
    pub upstream_model: String,
    /// Whether the upstream can repeat the prompt with its log-probabilities.
    pub echo: bool,
    /// The most choices that the upstream makes of one prompt.
    pub choices_max: u16,
    /// Whether a vendor runs it: its count is the vendor's, and receipts say so.
    pub is_vendor: bool,
    /// Tabled request fields that it was found not to take: they never reach it.
    pub fields_refused: Vec<String>,
    /// Calls that the upstream takes at once; the others wait for a place.
    pub slots: u32,
}

/// Everything that is not a number.
pub struct Parts {
    pub node: NodeId,
    pub org: OrgId,
    pub directory: Arc<dyn Directory>,
    pub served: Vec<Served>,
    pub store: Arc<dyn Store>,
    pub receipt_key: SecretKey,
    /// This organisation's own-node issuer, for budget-0 tokens.
    pub own_issuer: Option<SecretKey>,
    /// Whose grants are taken.
    pub feed_writer: PublicKey,
    pub house: Option<Arc<dyn House>>,
    pub clock: Clock,
    pub entropy: Entropy,
    pub failpoint: Failpoint,
    /// Who is told what each call came to.
    pub watch: Arc<dyn Watch>,
    /// Who keeps the texts of tiers that log them; `None`: nobody does.
    pub transcripts: Option<Arc<dyn Transcripts>>,
    /// What prompts and answers are looked through for.
    pub filter: comity_guard::Filter,
    /// Another server that is asked what is in texts; `None`: nobody is.
    pub moderation: Option<Moderation>,
    /// Who opens cases about what was flagged; `None`: the node's own list is all there is.
    pub flags: Option<Arc<dyn Flags>>,
}
