//! What a hub is shown before it connects to a node that only dials out: a token for that node, and who holds it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use comity_http::dial::Pass;
use comity_wire::{NodeId, SecretKey, Timestamp};

/// The newest usable token for each node. Clones share it; as many entries as nodes that were asked.
#[derive(Clone, Default)]
pub(crate) struct Passes(Arc<Mutex<HashMap<NodeId, Held>>>);

/// A chain, and the key of its holder.
type Held = (Vec<u8>, SecretKey);

impl Passes {
    pub(crate) fn put(&self, node: NodeId, chain: &[u8], key: &SecretKey) {
        self.0.lock().expect("no panic holds this lock").insert(node, (chain.to_vec(), key.clone()));
    }

    /// What a dialler asks each time it opens a connection.
    pub(crate) fn of(
        &self,
        node: NodeId,
        clock: &Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Arc<dyn Fn() -> Option<Pass> + Send + Sync> {
        let (passes, clock) = (self.clone(), Arc::clone(clock));
        Arc::new(move || {
            let known = passes.0.lock().expect("no panic holds this lock").get(&node).cloned();
            known.map(|(chain, key)| Pass { chain, key, now: clock() })
        })
    }
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passes")
    }
}
