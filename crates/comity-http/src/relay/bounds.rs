//! How much a hub carries: tunnels by number and bytes by rate, per token, per node and in all. Takes `now`, waits for
//! nobody.

use std::collections::HashMap;
use std::hash::Hash;

use comity_wire::{NodeId, TokenId};
use serde::Deserialize;

/// What the tunnels of one thing, and all of them together, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub tunnels_max: u32,
    pub bytes_per_s: u32,
}

/// What a hub lends to others.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub token: Share,
    pub node: Share,
    pub total: Share,
    /// With no byte either way, a tunnel ends. Longer than any model thinks: TLS inside is kept alive by its ends.
    pub idle_ms_max: u64,
    /// For the node to take the stream.
    pub reach_ms_max: u64,
    /// When the hub stops: how long tunnels that carry something may go on.
    pub drain_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            token: Share { tunnels_max: 16, bytes_per_s: 4 << 20 },
            node: Share { tunnels_max: 256, bytes_per_s: 16 << 20 },
            total: Share { tunnels_max: 1_024, bytes_per_s: 64 << 20 },
            idle_ms_max: 120_000,
            reach_ms_max: 10_000,
            drain_ms_max: 10_000,
        }
    }
}

impl Limits {
    /// What cannot be meant, in words that name the field.
    pub fn fault(&self) -> Option<String> {
        for (name, share) in [("token", self.token), ("node", self.node), ("total", self.total)] {
            if i64::from(share.bytes_per_s) * BURST_S < i64::from(OPEN_BYTES) {
                let least = i64::from(OPEN_BYTES) / BURST_S;
                return Some(format!("relay.{name}.bytes_per_s is below {least}, which opening a tunnel takes"));
            }
        }
        let spans = [("idle_ms_max", self.idle_ms_max), ("reach_ms_max", self.reach_ms_max)];
        let zero = spans.into_iter().find(|(_, ms)| *ms == 0);
        zero.map(|(name, _)| format!("relay.{name} is 0, so no tunnel would ever stand"))
    }
}

/// Which bound stands in the way of one more tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Token,
    Node,
    Total,
    /// The token has opened tunnels, or sent through them, faster than it may.
    Rate,
}

/// What opening a tunnel costs of the rate: it makes handshakes at three places.
const OPEN_BYTES: u32 = 64 << 10;
/// A burst is what two seconds bring in.
const BURST_S: i64 = 2;
/// Tokens that are remembered for their rate beside those with tunnels; beyond, the first that has recovered goes, and
/// where none has, nothing new is taken.
const TOKENS_MAX: usize = 8_192;

/// Tunnels and rates as they stand.
pub(super) struct Bounds {
    limits: Limits,
    tokens: HashMap<TokenId, Use>,
    nodes: HashMap<NodeId, Use>,
    total: Use,
}

#[derive(Clone, Copy)]
struct Use {
    share: Share,
    tunnels: u32,
    /// Bytes that may pass at once; below zero: owed.
    level: i64,
    at_ms: u64,
}

impl Use {
    fn new(share: Share, now_ms: u64) -> Self {
        Self { share, tunnels: 0, level: Self::most(share), at_ms: now_ms }
    }

    fn most(share: Share) -> i64 {
        i64::from(share.bytes_per_s) * BURST_S
    }

    fn refill(&mut self, now_ms: u64) {
        let since = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        let more = since.saturating_mul(i64::from(self.share.bytes_per_s)) / 1_000;
        self.level = self.level.saturating_add(more).min(Self::most(self.share));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Takes from the level; gives how long to wait until nothing is owed.
    fn take(&mut self, now_ms: u64, bytes: u32) -> u64 {
        self.refill(now_ms);
        self.level = self.level.saturating_sub(i64::from(bytes));
        let owed = u64::try_from(self.level.saturating_neg()).unwrap_or(0);
        owed.saturating_mul(1_000).div_ceil(u64::from(self.share.bytes_per_s.max(1)))
    }

    fn is_fresh(&mut self, now_ms: u64) -> bool {
        self.refill(now_ms);
        self.tunnels == 0 && self.level == Self::most(self.share)
    }
}

impl Bounds {
    pub(super) fn new(limits: Limits) -> Self {
        let total = Use::new(limits.total, 0);
        Self { limits, tokens: HashMap::new(), nodes: HashMap::new(), total }
    }

    /// Takes a place for one more tunnel; [`Bounds::close`] gives it back.
    pub(super) fn open(&mut self, now_ms: u64, token: TokenId, node: NodeId) -> Result<(), Full> {
        let limits = self.limits;
        if self.total.tunnels >= limits.total.tunnels_max {
            return Err(Full::Total);
        }
        if !self.tokens.contains_key(&token) && self.tokens.len() >= TOKENS_MAX {
            forget_one(&mut self.tokens, now_ms);
        }
        if !self.tokens.contains_key(&token) && self.tokens.len() >= TOKENS_MAX {
            return Err(Full::Total);
        }
        let by_token = self.tokens.entry(token).or_insert_with(|| Use::new(limits.token, now_ms));
        if by_token.tunnels >= limits.token.tunnels_max {
            return Err(Full::Token);
        }
        if self.nodes.get(&node).is_some_and(|by_node| by_node.tunnels >= limits.node.tunnels_max) {
            return Err(Full::Node);
        }
        by_token.refill(now_ms);
        if by_token.level < i64::from(OPEN_BYTES) {
            return Err(Full::Rate);
        }
        by_token.take(now_ms, OPEN_BYTES);
        by_token.tunnels += 1;
        self.nodes.entry(node).or_insert_with(|| Use::new(limits.node, now_ms)).tunnels += 1;
        self.total.tunnels += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, now_ms: u64, token: TokenId, node: NodeId) {
        self.total.tunnels -= 1;
        if let Some(by_token) = self.tokens.get_mut(&token) {
            by_token.tunnels -= 1;
        }
        // A node's rate is its own: with no tunnel there is nothing to remember. A token may come back at once.
        if let Some(by_node) = self.nodes.get_mut(&node) {
            by_node.tunnels -= 1;
            if by_node.tunnels == 0 && by_node.is_fresh(now_ms) {
                self.nodes.remove(&node);
            }
        }
    }

    /// Counts bytes that passed; gives how many milliseconds the tunnel waits before it reads on.
    pub(super) fn passed(&mut self, now_ms: u64, token: TokenId, node: NodeId, bytes: u32) -> u64 {
        let by_token = self.tokens.get_mut(&token).map_or(0, |by| by.take(now_ms, bytes));
        let by_node = self.nodes.get_mut(&node).map_or(0, |by| by.take(now_ms, bytes));
        by_token.max(by_node).max(self.total.take(now_ms, bytes))
    }

    pub(super) fn tunnels(&self) -> u32 {
        self.total.tunnels
    }
}

fn forget_one<K: Copy + Eq + Hash>(uses: &mut HashMap<K, Use>, now_ms: u64) {
    let fresh = uses.iter_mut().find_map(|(key, by)| by.is_fresh(now_ms).then_some(*key));
    if let Some(key) = fresh {
        uses.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        let share = |tunnels_max, bytes_per_s| Share { tunnels_max, bytes_per_s };
        let (token, node, total) = (share(2, 1 << 20), share(3, 2 << 20), share(5, 4 << 20));
        Bounds::new(Limits { token, node, total, ..Limits::default() })
    }

    fn token(n: u8) -> TokenId {
        TokenId([n; 16])
    }

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    #[test]
    fn tunnels_are_bounded_by_token_by_node_and_in_all_and_a_closed_one_makes_room() {
        let mut bounds = bounds();
        let mut open = |t, n| bounds.open(0, token(t), node(n));
        assert_eq!((open(1, 1), open(1, 2), open(1, 3)), (Ok(()), Ok(()), Err(Full::Token)));
        assert_eq!((open(2, 1), open(3, 1), open(4, 1)), (Ok(()), Ok(()), Err(Full::Node)));
        assert_eq!((open(4, 4), open(5, 5)), (Ok(()), Err(Full::Total)));
        assert_eq!(bounds.nodes.len(), 3, "a node that nobody is connected to is not remembered");
        bounds.close(0, token(1), node(1));
        assert_eq!(bounds.open(0, token(5), node(5)), Ok(()));
        assert_eq!(bounds.tunnels(), 5);
    }

    #[test]
    fn whoever_sends_more_than_its_share_waits_and_others_do_not() {
        let mut bounds = bounds();
        bounds.open(0, token(1), node(1)).unwrap();
        bounds.open(0, token(2), node(1)).unwrap();
        // Two seconds' worth at once, but for what opening took; then second for second.
        assert_eq!(bounds.passed(0, token(1), node(1), (2 << 20) - OPEN_BYTES), 0);
        assert_eq!(bounds.passed(0, token(1), node(1), 1 << 20), 1_000);
        assert_eq!(bounds.passed(0, token(2), node(1), 1_000), 0, "another token");
        assert_eq!(bounds.passed(1_000, token(1), node(1), 0), 0, "a second later nothing is owed");
    }

    #[test]
    fn the_share_of_a_node_is_common_to_its_tokens_and_the_hubs_to_all_nodes() {
        // Each token within its own share: two seconds of a node's, then of the hub's, and who comes next waits.
        let most = (2 << 20) - OPEN_BYTES;
        for (nodes, shared) in [([1, 1, 1, 2, 3], 3), ([1, 1, 2, 2, 3], 5)] {
            let mut bounds = bounds();
            for (number, n) in (1..).zip(nodes) {
                bounds.open(0, token(number), node(n)).unwrap();
                let wait_ms = bounds.passed(0, token(number), node(n), most);
                assert_eq!(wait_ms > 0, number == shared, "the {number}th of {nodes:?}: {wait_ms} ms");
                if number == shared {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_token_that_opens_and_closes_without_end_is_told_to_slow_down_and_recovers() {
        let mut bounds = bounds();
        let mut opened = 0;
        while bounds.open(0, token(1), node(1)).is_ok() {
            bounds.close(0, token(1), node(1));
            opened += 1;
        }
        assert_eq!(opened, 32);
        assert_eq!(bounds.open(0, token(1), node(1)), Err(Full::Rate));
        assert_eq!(bounds.open(1_000, token(1), node(1)), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut bounds = bounds();
        for n in 0..TOKENS_MAX + 10 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            // A minute apart: the tokens before have recovered, and are forgotten one by one.
            let now_ms = n as u64 * 60_000;
            bounds.open(now_ms, TokenId(id), NodeId(id)).unwrap();
            bounds.close(now_ms, TokenId(id), NodeId(id));
        }
        assert_eq!(bounds.tokens.len(), TOKENS_MAX);
        assert!(bounds.nodes.is_empty());
    }
}
