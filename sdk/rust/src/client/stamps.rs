//! When what goes to a node is said to have been signed, lane by lane.
//!
//! A node that has said that nothing was charged takes nothing that was signed by the time of the asking (spec/05-request.md Q-7). So an
//! asking is never earlier than the call that it is about, whatever became of the clock, and a call that follows it is later, also
//! within the same second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use comity_wire::time::SKEW_S;
use comity_wire::{Timestamp, TokenId};

/// Of calls that may still be on their way. In memory: a process that was started since signs later.
#[derive(Default)]
pub(super) struct Stamps(Mutex<HashMap<(TokenId, u16), Stamp>>);

#[derive(Clone, Copy, Default)]
struct Stamp {
    called: Timestamp,
    asked: Option<Timestamp>,
}

/// Lanes that are remembered before those whose calls are stale anyway are forgotten.
const LANES_MAX: usize = 1024;
/// A node that takes one of two signatures takes none that is further from it than this.
const APART_S: u64 = 2 * SKEW_S;

impl Stamps {
    /// For a call in a lane.
    pub(super) fn call(&self, lane: (TokenId, u16), now: Timestamp) -> Timestamp {
        self.with(lane, now, |stamp| {
            let at = stamp.asked.map_or(now, |asked| at_least(asked.plus(1), now));
            stamp.called = at;
            at
        })
    }

    /// For asking what became of the last call in a lane.
    pub(super) fn asking(&self, lane: (TokenId, u16), now: Timestamp) -> Timestamp {
        self.with(lane, now, |stamp| {
            let at = at_least(stamp.called, now);
            stamp.asked = Some(at);
            at
        })
    }

    fn with<T>(&self, lane: (TokenId, u16), now: Timestamp, with: impl FnOnce(&mut Stamp) -> T) -> T {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= LANES_MAX && !lanes.contains_key(&lane) {
            lanes.retain(|_, stamp| stamp.called.max(stamp.asked.unwrap_or_default()).plus(APART_S) >= now);
        }
        with(lanes.entry(lane).or_default())
    }
}

/// A clock that was set back by more was wrong before: nothing that was signed by it is taken beside what is signed now.
fn at_least(least: Timestamp, now: Timestamp) -> Timestamp {
    if least <= now.plus(APART_S) { now.max(least) } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_an_asking_is_later_and_an_asking_is_not_earlier_than_its_call() {
        let (stamps, lane, other) = (Stamps::default(), (TokenId([1; 16]), 0), (TokenId([1; 16]), 1));
        let at = Timestamp;
        assert_eq!(stamps.call(lane, at(100)), at(100));
        assert_eq!(stamps.asking(lane, at(100)), at(100));
        assert_eq!((stamps.call(lane, at(100)), stamps.call(other, at(100))), (at(101), at(100)));
        assert_eq!((stamps.asking(lane, at(100)), stamps.call(lane, at(100))), (at(101), at(102)));
        assert_eq!((stamps.asking(lane, at(500)), stamps.call(lane, at(500))), (at(500), at(501)));
        // A clock that goes back a little, and one that was wrong.
        assert_eq!((stamps.asking(lane, at(450)), stamps.call(lane, at(450))), (at(501), at(502)));
        assert_eq!((stamps.asking(lane, at(9)), stamps.call(lane, at(9))), (at(9), at(10)));
    }

    #[test]
    fn lanes_whose_calls_are_stale_are_forgotten() {
        let stamps = Stamps::default();
        for token in 0..2_000_u16 {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&token.to_be_bytes());
            let _ = stamps.call((TokenId(id), 0), Timestamp(u64::from(token) * APART_S));
        }
        assert!(stamps.0.lock().unwrap().len() <= LANES_MAX);
    }
}
