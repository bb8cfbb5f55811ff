//! Which call a request is: the same key is the same call, however often it is asked (rule 3). A core without I/O.
//!
//! A key is journalled with what was signed under it, so it outlives the process. Asked again, it is the same signed request:
//! the node answers from its store, or with the stored receipt, and charges nothing. What is remembered is bounded in
//! number and age; digests alone are kept, never a key's text.

mod carried;

use std::collections::{HashMap, VecDeque};

use comity_wire::{Amount, Digest, ModelId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::lane::Open;
use crate::wallet::UnderWay;

pub use carried::Calls;

/// Names one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub digest: Digest,
    pub origin: Origin,
    /// When the call was first asked.
    pub at: Timestamp,
    /// Of a call whose caller left open which model answers it: this key is of one of the models that may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// The call that a model's own key is a part of. Of all its parts one at most is charged, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The digest of the call's own key.
    pub of: Digest,
    /// Digest of path and body as the caller wrote them, before the body named a model.
    pub asked: Digest,
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

impl Outcome {
    /// Its receipt, and what it cost.
    pub fn charged(self) -> Option<(Digest, Amount)> {
        match self {
            Self::Charged { receipt, charge } => Some((receipt, charge)),
            Self::Unknown | Self::Free => None,
        }
    }
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
    /// The parts that were signed of a call, the newest last.
    parts: HashMap<Digest, Vec<Digest>>,
}

/// The most keys that are remembered: the oldest go first.
pub const KEYS_MAX: usize = 16_384;
/// How long a key names its call.
pub const KEY_AGE_S: u64 = 24 * 3600;

impl Key {
    /// The caller's own words for a call.
    pub fn of_caller(text: &[u8], at: Timestamp) -> Self {
        let digest = Digest::of_parts(&[b"comity/v1/idempotency-key", text]);
        Self { digest, origin: Origin::Caller, at, part: None }
    }

    /// A call of a comparison or a batch, by the run's own words.
    pub fn of_run(text: &[u8], at: Timestamp) -> Self {
        Self { origin: Origin::Run, ..Self::of_caller(text, at) }
    }

    /// One that nobody chose before.
    pub fn random(entropy: [u8; 32], at: Timestamp) -> Self {
        Self { digest: Digest::of_parts(&[b"comity/v1/call", &entropy]), origin: Origin::Proxy, at, part: None }
    }

    /// The key of the same call at one model. `asked`: [`Part::asked`].
    #[must_use]
    pub fn at_model(&self, asked: Digest, model: &ModelId) -> Self {
        let digest =
            Digest::of_parts(&[b"comity/v1/call-at-model", self.digest.as_bytes(), model.to_string().as_bytes()]);
        Self { digest, part: Some(Part { of: self.digest, asked }), ..*self }
    }

    /// The key that its caller knows the call by.
    fn whole(&self) -> Self {
        Self { digest: self.part.map_or(self.digest, |part| part.of), part: None, ..*self }
    }
}

impl Keyed {
    /// What its caller wrote ([`crate::Query::asked`]).
    fn asked(&self) -> Digest {
        self.key.part.map_or(self.content, |part| part.asked)
    }
}

impl Keys {
    /// What a key names, while it is young enough; a run's own key, while it is remembered.
    pub fn find(&self, digest: &Digest, now: Timestamp) -> Option<&Keyed> {
        let is_young = |keyed: &&Keyed| now.since(keyed.key.at) < KEY_AGE_S;
        self.by_digest.get(digest).filter(|keyed| keyed.key.origin == Origin::Run || is_young(keyed))
    }

    /// What was signed of the parts of a call, the newest first, while it is young enough.
    pub fn parts(&self, of: &Digest, now: Timestamp) -> impl Iterator<Item = &Keyed> {
        self.parts.get(of).into_iter().flatten().rev().filter_map(move |digest| self.find(digest, now))
    }

    /// What became of the call that a key names, whatever its age, while it is remembered.
    pub fn outcome(&self, digest: &Digest) -> Option<Outcome> {
        self.at_stake(digest).map(|(outcome, _)| outcome)
    }

    /// The same, with the most that was signed for it.
    pub fn at_stake(&self, digest: &Digest) -> Option<(Outcome, Amount)> {
        let parts = self.parts.get(digest).into_iter().flatten().rev();
        let keyed = std::iter::once(digest).chain(parts).filter_map(|digest| self.by_digest.get(digest));
        let mut signed = keyed.map(|keyed| (keyed.outcome, keyed.max_charge));
        let first = signed.next()?;
        // Of its parts one at most is not free.
        Some(std::iter::once(first).chain(signed).find(|(outcome, _)| *outcome != Outcome::Free).unwrap_or(first))
    }

    /// The youngest call of this body, as its caller wrote it, that a proxy named since `since` and before `until`, and whose
    /// answer was not handed over.
    pub fn unanswered(&self, content: &Digest, since: Timestamp, until: Timestamp) -> Option<Key> {
        let young = self.order.iter().rev().filter_map(|digest| self.by_digest.get(digest));
        let mut young = young.take_while(|keyed| keyed.key.at >= since);
        let found = young.find(|keyed| {
            let own = keyed.key.origin == Origin::Proxy && keyed.key.at < until;
            own && !keyed.answered && keyed.asked() == *content
        });
        found.map(|keyed| keyed.key.whole())
    }

    /// The call of this body, as its caller wrote it, that nobody but this program named and whose outcome is unknown, while it is
    /// young enough: the youngest of those that are not under way.
    pub(crate) fn doubtful(&self, content: &Digest, under_way: &UnderWay, now: Timestamp) -> Option<Key> {
        let young = self.order.iter().rev().filter_map(|digest| self.find(digest, now));
        let mut doubtful = young.filter(|keyed| keyed.outcome == Outcome::Unknown && keyed.key.origin == Origin::Proxy);
        let found = doubtful.find(|keyed| {
            keyed.asked() == *content && !keyed.answered && !under_way.contains(&(keyed.token, keyed.lane))
        });
        found.map(|keyed| keyed.key.whole())
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
        if let Some(part) = key.part {
            let parts = self.parts.entry(part.of).or_default();
            parts.retain(|known| *known != key.digest);
            parts.push(key.digest);
        }
        if self.by_digest.insert(key.digest, keyed).is_none() {
            self.order.push_back(key.digest);
        }
        while self.order.len() > KEYS_MAX {
            let oldest = self.order.pop_front().expect("more than none");
            if let Some(Part { of, .. }) = self.by_digest.remove(&oldest).and_then(|keyed| keyed.key.part) {
                self.forget_part(of, &oldest);
            }
        }
    }

    pub(crate) fn became(&mut self, digest: &Digest, outcome: Outcome) {
        if let Some(keyed) = self.by_digest.get_mut(digest) {
            keyed.outcome = outcome;
        }
    }

    /// `digest`: of the whole call, or of a part.
    pub(crate) fn answered(&mut self, digest: &Digest) {
        let parts = self.parts.get(digest).into_iter().flatten();
        for digest in std::iter::once(digest).chain(parts) {
            if let Some(keyed) = self.by_digest.get_mut(digest) {
                keyed.answered = true;
            }
        }
    }

    fn forget_part(&mut self, of: Digest, part: &Digest) {
        if let Some(parts) = self.parts.get_mut(&of) {
            parts.retain(|known| known != part);
            if parts.is_empty() {
                self.parts.remove(&of);
            }
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
        let unanswered = |content: u8| keys.unanswered(&Digest([content; 32]), since, until);
        assert_eq!(unanswered(1), None, "too old");
        assert_eq!(unanswered(2), Some(own(2, 150)));
        assert_eq!(unanswered(3), None, "its caller names it");
        assert_eq!(unanswered(4), None, "of this very process");
        assert_eq!(unanswered(5), None, "handed over");
    }

    #[test]
    fn a_call_that_nobody_named_is_found_while_it_is_in_doubt() {
        let (mut keys, now) = (Keys::default(), Timestamp(150));
        let token = TokenId([1; 16]);
        let asked = Digest([8; 32]);
        let part = |key: Key| key.at_model(asked, &"lab/m".parse().unwrap());
        let own = |n: u8| Key::random([n; 32], now);
        let nothing = UnderWay::new();
        keys.signed(token, 0, &open(part(own(1)), 1));
        let here = UnderWay::from([(token, 0)]);
        assert_eq!(keys.doubtful(&asked, &nothing, now), Some(own(1)), "by what its caller wrote");
        assert_eq!(keys.doubtful(&Digest([1; 32]), &nothing, now), None, "not by what was sent");
        assert_eq!(keys.doubtful(&asked, &here, now), None, "it is being asked");
        assert_eq!(keys.doubtful(&asked, &nothing, now.plus(KEY_AGE_S)), None, "too old");
        keys.signed(token, 1, &open(part(Key::of_caller(b"k", now)), 1));
        assert_eq!(keys.doubtful(&asked, &nothing, now), Some(own(1)), "a call that its caller named is its own");
        for outcome in [Outcome::Free, Outcome::Charged { receipt: asked, charge: Amount::ZERO }] {
            keys.became(&part(own(1)).digest, outcome);
            assert_eq!(keys.doubtful(&asked, &nothing, now), None, "{outcome:?}");
        }
        keys.signed(token, 2, &open(own(3), 3));
        assert_eq!(keys.doubtful(&Digest([3; 32]), &nothing, now), Some(own(3)), "of one model");
        keys.answered(&own(3).digest);
        assert_eq!(keys.doubtful(&Digest([3; 32]), &nothing, now), None, "handed over");
    }

    #[test]
    fn the_parts_of_a_call_are_found_by_its_own_key_and_go_with_it() {
        let mut keys = Keys::default();
        let whole = Key::random([9; 32], Timestamp(150));
        let (asked, now) = (Digest([8; 32]), Timestamp(150));
        let part = |name: &str| whole.at_model(asked, &name.parse().unwrap());
        for name in ["lab/m", "museum/m", "lab/m"] {
            keys.signed(TokenId([1; 16]), 0, &open(part(name), 1));
        }
        let signed: Vec<_> = keys.parts(&whole.digest, now).map(|keyed| keyed.key).collect();
        assert_eq!(signed, [part("lab/m"), part("museum/m")], "the newest first, each once");
        assert_eq!(keys.outcome(&whole.digest), Some(Outcome::Unknown));
        keys.became(&part("lab/m").digest, Outcome::Free);
        assert_eq!(keys.outcome(&whole.digest), Some(Outcome::Unknown), "the other part may be charged");
        assert_eq!(keys.unanswered(&asked, Timestamp(100), Timestamp(200)), Some(whole), "by what its caller wrote");
        keys.answered(&whole.digest);
        assert_eq!(keys.unanswered(&asked, Timestamp(100), Timestamp(200)), None);
        for n in 0..KEYS_MAX {
            keys.signed(TokenId([1; 16]), 0, &open(Key::of_caller(&n.to_be_bytes(), now), 1));
        }
        assert!(keys.parts.is_empty(), "bounded as the keys are");
    }
}
