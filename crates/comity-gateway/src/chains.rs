//! Chains that were verified: the token is sent once, after that its leaf's id is enough.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use comity_token::{Capability, Denied, Directory, Trust};
use comity_wire::{Digest, NodeId, Timestamp, TokenId};

/// Verified chains by leaf, least recently used first out. What is forgotten here is sent again (`token_unknown`).
pub(crate) struct Chains {
    held: Mutex<Held>,
    max: usize,
}

#[derive(Default)]
struct Held {
    by_leaf: HashMap<Digest, Entry>,
    clock: u64,
}

struct Entry {
    capability: Arc<Capability>,
    /// Directory version and time of the verification.
    seen: (u64, Timestamp),
    used_at: u64,
}

/// A verification is believed for this long while the directory has not changed.
const FRESH_S: u64 = 30;

impl Chains {
    pub(crate) fn new(max: usize) -> Self {
        Self { held: Mutex::default(), max: max.max(1) }
    }

    /// Verifies and remembers.
    pub(crate) fn admit(
        &self,
        bytes: &[u8],
        directory: &dyn Directory,
        node: NodeId,
        now: Timestamp,
    ) -> Result<Arc<Capability>, Denied> {
        let version = directory.version();
        let capability = Arc::new(comity_token::verify(bytes, &Trust { directory, node, now })?);
        let mut held = self.lock();
        held.clock += 1;
        let entry = Entry { capability: capability.clone(), seen: (version, now), used_at: held.clock };
        held.by_leaf.insert(capability.leaf(), entry);
        while held.by_leaf.len() > self.max {
            let oldest = held.by_leaf.iter().min_by_key(|(_, entry)| entry.used_at).map(|(leaf, _)| *leaf);
            held.by_leaf.remove(&oldest.expect("it is longer than at least 1"));
        }
        Ok(capability)
    }

    /// The chain that ends in `leaf`, judged as of now; `None` where it is not held.
    pub(crate) fn find(
        &self,
        leaf: Digest,
        directory: &dyn Directory,
        node: NodeId,
        now: Timestamp,
    ) -> Option<Result<Arc<Capability>, Denied>> {
        let mut held = self.lock();
        held.clock += 1;
        let clock = held.clock;
        let entry = held.by_leaf.get_mut(&leaf)?;
        entry.used_at = clock;
        let capability = entry.capability.clone();
        let (version, at) = entry.seen;
        drop(held);
        let fresh = version == directory.version() && now.since(at) < FRESH_S && now < capability.expires_at();
        Some(if fresh { Ok(capability) } else { self.admit(capability.chain_bytes(), directory, node, now) })
    }

    /// Chains of a token that are in memory.
    pub(crate) fn of_token(&self, token: TokenId) -> Vec<Arc<Capability>> {
        let held = self.lock();
        held.by_leaf
            .values()
            .filter(|entry| entry.capability.token().id == token)
            .map(|entry| entry.capability.clone())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
