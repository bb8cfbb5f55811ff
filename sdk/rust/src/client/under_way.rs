//! Which lanes have a request under way in this process: an open lane that is not among them is in doubt.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comity_wire::TokenId;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::wallet;

#[derive(Clone, Default)]
pub(super) struct UnderWay {
    lanes: Arc<Mutex<wallet::UnderWay>>,
    ended: Arc<Notify>,
    /// When the last request began or ended.
    last: Arc<Mutex<Option<Instant>>>,
}

/// A request that is under way until this is dropped, however its call ends.
pub(super) struct Busy {
    of: UnderWay,
    lane: (TokenId, u16),
}

impl UnderWay {
    pub(super) fn start(&self, token: TokenId, lane: u16) -> Busy {
        let lane = (token, lane);
        self.touch();
        self.with(|lanes| lanes.insert(lane));
        Busy { of: self.clone(), lane }
    }

    pub(super) fn lanes(&self) -> wallet::UnderWay {
        self.with(|lanes| lanes.clone())
    }

    pub(super) fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long nothing has been under way; `None` while something is, or nothing ever was.
    pub(super) fn idle(&self) -> Option<Duration> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|_| self.with(|lanes| lanes.is_empty())).map(|last| last.elapsed())
    }

    pub(super) fn any(&self, token: TokenId) -> bool {
        self.with(|lanes| lanes.iter().any(|(of, _)| *of == token))
    }

    /// Resolves once a request ends, counted from now.
    pub(super) fn ended(&self) -> OwnedNotified {
        self.ended.clone().notified_owned()
    }

    fn with<T>(&self, change: impl FnOnce(&mut wallet::UnderWay) -> T) -> T {
        change(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.of.touch();
        self.of.with(|lanes| lanes.remove(&self.lane));
        self.of.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_is_under_way_until_its_call_ends() {
        let (under_way, token) = (UnderWay::default(), TokenId([1; 16]));
        let busy = under_way.start(token, 3);
        assert!(under_way.any(token) && under_way.lanes().contains(&(token, 3)));
        assert_eq!(under_way.idle(), None, "while something is under way");
        let ended = under_way.ended();
        drop(busy);
        // Also where it ended before anybody waited.
        ended.await;
        assert!(!under_way.any(token) && under_way.idle().is_some());
    }
}
