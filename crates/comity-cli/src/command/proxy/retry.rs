//! Which calls are one call asked again (docs/decisions/0031-proxy-idempotency.md). A core: it takes `now`.
//!
//! The official SDKs retry twice and name nothing; they do count (`x-stainless-retry-count`). A first call is always new. A
//! retry is the call before it, where that was of the same client with the same body, had asked fewer times, and failed:
//! its connection ended, or it was answered with an error. So two calls that somebody means are never made one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use comity_sdk::keys::Key;
use comity_wire::Digest;

use super::connection::Connection;

/// The calls of the last seconds.
#[derive(Default)]
pub(super) struct Chains(VecDeque<Chain>);

/// One call, however often it was asked.
struct Chain {
    /// Of path, body and client.
    fingerprint: Digest,
    key: Key,
    /// The retry count of the last time it was asked.
    count: u32,
    connection: Connection,
    /// It was answered with an error: when, and until when the client was asked to wait.
    refused: Option<(Instant, Duration)>,
    at: Instant,
}

/// How long after a failure a retry is looked for: both SDKs wait 8 s at most where they are not told to wait longer.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// The most that a client is believed to wait longer.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// The most calls that are remembered; the oldest go first, and a retry of such a one is a new call.
const CHAINS_MAX: usize = 4_096;
/// A call that did not end within this is not remembered: an SDK's own limit is 10 minutes.
const AGE_MAX: Duration = Duration::from_secs(3_600);

impl Chains {
    /// The key of the call that this is a retry of.
    pub(super) fn again(
        &mut self,
        fingerprint: &Digest,
        count: u32,
        connection: &Connection,
        now: Instant,
    ) -> Option<Key> {
        if count == 0 {
            return None;
        }
        let failed =
            |chain: &&mut Chain| chain.fingerprint == *fingerprint && chain.count < count && chain.failed_within(now);
        let chain = self.0.iter_mut().rev().find(failed)?;
        chain.count = count;
        chain.connection = connection.clone();
        chain.refused = None;
        Some(chain.key)
    }

    pub(super) fn first(&mut self, fingerprint: Digest, key: Key, count: u32, connection: &Connection, now: Instant) {
        while self.0.front().is_some_and(|oldest| self.0.len() >= CHAINS_MAX || now - oldest.at > AGE_MAX) {
            self.0.pop_front();
        }
        let chain = Chain { fingerprint, key, count, connection: connection.clone(), refused: None, at: now };
        self.0.push_back(chain);
    }

    /// The call was answered with an error.
    pub(super) fn refused(&mut self, key: &Key, wait: Option<u64>, now: Instant) {
        let wait = Duration::from_secs(wait.unwrap_or(0)).min(WAIT_MAX);
        if let Some(chain) = self.0.iter_mut().rev().find(|chain| chain.key.digest == key.digest) {
            chain.refused = Some((now, wait));
        }
    }
}

impl Chain {
    fn failed_within(&self, now: Instant) -> bool {
        let lost = self.connection.ended_at().is_some_and(|at| now.saturating_duration_since(at) <= WINDOW);
        let refused =
            self.refused.is_some_and(|(at, wait)| now.saturating_duration_since(at) <= WINDOW.saturating_add(wait));
        lost || refused
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::Timestamp;

    use super::*;

    struct World {
        chains: Chains,
        start: Instant,
        next: u8,
    }

    const BODY: Digest = Digest([1; 32]);

    impl World {
        fn new() -> Self {
            Self { chains: Chains::default(), start: Instant::now(), next: 0 }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// Gives the key, and whether it is a call from before.
        fn ask(&mut self, body: Digest, count: u32, connection: &Connection, second: u64) -> (Key, bool) {
            let now = self.at(second);
            if let Some(key) = self.chains.again(&body, count, connection, now) {
                return (key, true);
            }
            self.next += 1;
            let key = Key::random([self.next; 32], Timestamp(0));
            self.chains.first(body, key, count, connection, now);
            (key, false)
        }
    }

    #[test]
    fn a_first_call_is_always_new() {
        let mut world = World::new();
        let connection = Connection::default();
        let (first, _) = world.ask(BODY, 0, &connection, 0);
        connection.end(world.at(1));
        let (second, again) = world.ask(BODY, 0, &Connection::default(), 2);
        assert!(!again && first != second);
    }

    #[test]
    fn a_retry_is_the_call_whose_connection_was_lost() {
        let mut world = World::new();
        let (lost, kept) = (Connection::default(), Connection::default());
        let (first, _) = world.ask(BODY, 0, &lost, 0);
        // Meant, equal, and answered since: it is not what comes again.
        let (second, _) = world.ask(BODY, 0, &kept, 0);
        lost.end(world.at(5));
        assert_eq!(world.ask(BODY, 1, &Connection::default(), 7), (first, true));
        // The second retry of a call that was lost twice is found from the first.
        let third = Connection::default();
        assert!(!world.ask(BODY, 1, &third, 8).1, "nobody lost that one");
        assert_ne!(first, second);
    }

    #[test]
    fn a_retry_of_a_retry_is_the_same_call() {
        let mut world = World::new();
        let (a, b) = (Connection::default(), Connection::default());
        let (first, _) = world.ask(BODY, 0, &a, 0);
        a.end(world.at(1));
        assert_eq!(world.ask(BODY, 1, &b, 2), (first, true));
        assert!(!world.ask(BODY, 2, &Connection::default(), 3).1, "the first retry is still being answered");
        b.end(world.at(4));
        assert_eq!(world.ask(BODY, 2, &Connection::default(), 5), (first, true));
    }

    #[test]
    fn a_retry_after_an_error_is_found_on_the_same_connection_and_after_the_wait() {
        let mut world = World::new();
        let connection = Connection::default();
        let (first, _) = world.ask(BODY, 0, &connection, 0);
        assert!(!world.ask(BODY, 1, &connection, 1).1, "it is being answered");
        let now = world.at(2);
        world.chains.refused(&first, Some(30), now);
        assert_eq!(world.ask(BODY, 1, &connection, 40), (first, true));
        world.chains.refused(&first, None, world.start + Duration::from_secs(41));
        assert!(!world.ask(BODY, 2, &connection, 60).1, "too late");
    }

    #[test]
    fn another_body_or_too_late_is_another_call() {
        let mut world = World::new();
        let connection = Connection::default();
        world.ask(BODY, 0, &connection, 0);
        connection.end(world.at(0));
        assert!(!world.ask(Digest([2; 32]), 1, &Connection::default(), 1).1);
        assert!(!world.ask(BODY, 1, &Connection::default(), 11).1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut world = World::new();
        for n in 0..=CHAINS_MAX {
            let key = Key::random([0; 32], Timestamp(n as u64));
            world.chains.first(BODY, key, 0, &Connection::default(), world.start);
        }
        assert_eq!(world.chains.0.len(), CHAINS_MAX);
    }
}
