//! Calls that are here and hold nothing yet: they wait for a place, or are still judged.
//!
//! Whoever asks what became of a call hears `in_flight` of these: `not_found` would be a promise that it is not charged, and it may be once
//! its turn comes. As many as there are requests in flight, which are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use comity_wire::TokenId;

use crate::spend::{LaneKey, Slot};

type Call = (TokenId, LaneKey, Slot);

#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived(Arc<Mutex<HashMap<Call, u32>>>);

/// A call that is here until this is dropped.
#[derive(Debug)]
pub(crate) struct Here {
    of: Arrived,
    call: Call,
}

impl Arrived {
    /// The same call may be here more than once.
    pub(crate) fn enter(&self, token: TokenId, key: LaneKey, slot: Slot) -> Here {
        let call = (token, key, slot);
        self.with(|calls| *calls.entry(call).or_default() += 1);
        Here { of: self.clone(), call }
    }

    pub(crate) fn has(&self, token: TokenId, key: LaneKey, slot: Slot) -> bool {
        self.with(|calls| calls.contains_key(&(token, key, slot)))
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Call, u32>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.of.with(|calls| {
            if let Some(count) = calls.get_mut(&self.call) {
                *count -= 1;
                if *count == 0 {
                    calls.remove(&self.call);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comity_wire::Digest;

    #[test]
    fn a_call_is_here_until_the_last_that_asks_it_has_gone() {
        let arrived = Arrived::default();
        let (token, key) = (TokenId([1; 16]), LaneKey { leaf: Digest([2; 32]), lane: 0 });
        let (first, second) = (Slot { seq: 1, item: 0 }, Slot { seq: 2, item: 0 });
        let once = arrived.enter(token, key, first);
        let again = arrived.enter(token, key, first);
        drop(once);
        assert!(arrived.has(token, key, first) && !arrived.has(token, key, second));
        drop(again);
        assert!(!arrived.has(token, key, first) && arrived.with(|calls| calls.is_empty()));
    }
}
