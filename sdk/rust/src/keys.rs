//! Which call a request is: the same key is the same call, however often it is asked (rule 3). A core without I/O.
//!
//! A key is journalled with what was signed under it, so it outlives the process. Asked again, it is the same signed request:
//! the node answers from its store, or with the stored receipt, and charges nothing. What is remembered is bounded in
//! number and age; digests alone are kept, never a key's text.

use std::collections::{HashMap, VecDeque};

use comity_wire::{Amount, Digest, ModelId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::lane::Open;

/// Names one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub digest: Digest,
    pub origin: Origin,
    /// When the call was first asked.
    pub at: Timestamp,
}

/// Who chose a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The caller: it will send the same key when it asks again.
    Caller,
    /// A proxy, for a caller that sends none.
    Proxy,
    /// A comparison or a batch of this program: its calls are the same calls for as long as they are remembered, since nobody
    /// means another one by the same key.
    Run,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Signed; not known to be charged or free.
    Unknown,
    /// The node said no, or never began: asking again is asking for the first time.
    Free,
    /// The content id of its receipt, and what it cost.
    Charged { receipt: Digest, charge: Amount },
}

/// What was signed under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    pub key: Key,
    pub token: TokenId,
    pub lane: u16,
    pub seq: u64,
    pub authority: Digest,
    /// Content digest of the body.
    pub content: Digest,
    pub tariff: Digest,
    pub max_charge: Amount,
    pub model: ModelId,
    pub outcome: Outcome,
    /// The answer was handed over whole to whoever asked.
    pub answered: bool,
}

/// The newest keys.
#[derive(Debug, Default)]
pub struct Keys {
    by_digest: HashMap<Digest, Keyed>,
    order: VecDeque<Digest>,
}

/// The most keys that are remembered: the oldest go first.
pub const KEYS_MAX: usize = 16_384;
/// How long a key names its call.
pub const KEY_AGE_S: u64 = 24 * 3600;

impl Key {
    /// The caller's own words for a call.
    pub fn of_caller(text: &[u8], at: Timestamp) -> Self {
        Self { digest: Digest::of_parts(&[b"comity/v1/idempotency-key", text]), origin: Origin::Caller, at }
    }

    /// A call of a comparison or a batch, by the run's own words.
    pub fn of_run(text: &[u8], at: Timestamp) -> Self {
        Self { origin: Origin::Run, ..Self::of_caller(text, at) }
    }

    /// One that nobody chose before.
    pub fn random(entropy: [u8; 32], at: Timestamp) -> Self {
        Self { digest: Digest::of_parts(&[b"comity/v1/call", &entropy]), origin: Origin::Proxy, at }
    }
}

impl Keys {
    /// What a key names, while it is young enough; a run's own key, while it is remembered.
    pub fn find(&self, digest: &Digest, now: Timestamp) -> Option<&Keyed> {
        let is_young = |keyed: &&Keyed| now.since(keyed.key.at) < KEY_AGE_S;
        self.by_digest.get(digest).filter(|keyed| keyed.key.origin == Origin::Run || is_young(keyed))
    }

    /// What became of the call that a key names, whatever its age, while it is remembered.
    pub fn outcome(&self, digest: &Digest) -> Option<Outcome> {
        self.by_digest.get(digest).map(|keyed| keyed.outcome)
    }

    /// The youngest call of this body that a proxy named since `since` and before `until`, and whose answer was not handed over.
    pub fn unanswered(&self, content: &Digest, since: Timestamp, until: Timestamp) -> Option<&Keyed> {
        let young = self.order.iter().rev().filter_map(|digest| self.by_digest.get(digest));
        let mut young = young.take_while(|keyed| keyed.key.at >= since);
        young.find(|keyed| {
            let own = keyed.key.origin == Origin::Proxy && keyed.key.at < until;
            own && !keyed.answered && keyed.content == *content
        })
    }

    pub(crate) fn signed(&mut self, token: TokenId, lane: u16, open: &Open) {
        let Some(key) = open.key else { return };
        let keyed = Keyed {
            key,
            token,
            lane,
            seq: open.seq,
            authority: open.authority,
            content: open.content,
            tariff: open.tariff,
            max_charge: open.max_charge,
            model: open.model.clone(),
            outcome: Outcome::Unknown,
            answered: false,
        };
        if self.by_digest.insert(key.digest, keyed).is_none() {
            self.order.push_back(key.digest);
        }
        while self.order.len() > KEYS_MAX {
            let oldest = self.order.pop_front().expect("more than none");
            self.by_digest.remove(&oldest);
        }
    }

    pub(crate) fn became(&mut self, digest: &Digest, outcome: Outcome) {
        if let Some(keyed) = self.by_digest.get_mut(digest) {
            keyed.outcome = outcome;
        }
    }

    pub(crate) fn answered(&mut self, digest: &Digest) {
        if let Some(keyed) = self.by_digest.get_mut(digest) {
            keyed.answered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::Op;

    use super::*;

    fn open(key: Key, content: u8) -> Open {
        Open {
            seq: 1,
            nonce: [0; 16],
            authority: Digest([3; 32]),
            content: Digest([content; 32]),
            request: Digest([4; 32]),
            input_bytes: 5,
            model: "lab/m".parse().unwrap(),
            op: Op::Chat,
            tariff: Digest([5; 32]),
            max_charge: Amount::from_ucr(7),
            key: Some(key),
            day: None,
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_age() {
        let mut keys = Keys::default();
        let key = |n: usize| Key::of_caller(n.to_string().as_bytes(), Timestamp(1_000));
        for n in 0..=KEYS_MAX {
            keys.signed(TokenId([1; 16]), 0, &open(key(n), 1));
        }
        let find = |n: usize, now| keys.find(&key(n).digest, Timestamp(now)).is_some();
        assert!(!find(0, 1_000), "the oldest of one too many");
        assert!(find(1, 1_000) && find(KEYS_MAX, 1_000));
        assert!(find(1, 1_000 + KEY_AGE_S - 1) && !find(1, 1_000 + KEY_AGE_S));
        let run = Key::of_run(b"a call of a run", Timestamp(1_000));
        keys.signed(TokenId([1; 16]), 0, &open(run, 1));
        assert!(keys.find(&run.digest, Timestamp(1_000 + 30 * KEY_AGE_S)).is_some(), "taken up a month later");
        assert_eq!((keys.order.len(), keys.by_digest.len()), (KEYS_MAX, KEYS_MAX));
    }

    #[test]
    fn only_a_proxys_own_calls_that_nobody_got_are_unanswered() {
        let mut keys = Keys::default();
        let (since, until) = (Timestamp(100), Timestamp(200));
        let own = |n: u8, at| Key::random([n; 32], Timestamp(at));
        let callers = Key::of_caller(b"k", Timestamp(150));
        for (key, content) in [(own(1, 99), 1), (own(2, 150), 2), (callers, 3), (own(4, 200), 4), (own(5, 150), 5)] {
            keys.signed(TokenId([1; 16]), 0, &open(key, content));
        }
        keys.answered(&own(5, 150).digest);
        let unanswered = |content: u8| keys.unanswered(&Digest([content; 32]), since, until).map(|keyed| keyed.key);
        assert_eq!(unanswered(1), None, "too old");
        assert_eq!(unanswered(2), Some(own(2, 150)));
        assert_eq!(unanswered(3), None, "its caller names it");
        assert_eq!(unanswered(4), None, "of this very process");
        assert_eq!(unanswered(5), None, "handed over");
    }
}
