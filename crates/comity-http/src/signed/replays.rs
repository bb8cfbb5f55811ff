//! Which nonces were seen: a signed call runs once.
//!
//! In memory: what a restart forgets is bounded by the two minutes in which a signature is fresh, and the calls that
//! matter carry ids of their own that make a repeat harmless.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use comity_wire::time::SKEW_S;
use comity_wire::{Code, PublicKey, Timestamp};

use crate::problem::Refusal;

/// Two generations of nonces, each as long as a signature can be fresh.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    since: Timestamp,
    young: Generation,
    old: Generation,
}

/// Nonces by the key that used them.
#[derive(Debug, Default)]
struct Generation {
    seen: HashMap<[u8; 32], HashSet<[u8; 16]>>,
    size: usize,
}

/// A signature is taken from `created − SKEW_S` to `created + SKEW_S`.
const FRESH_S: u64 = 2 * SKEW_S + 1;
/// Per generation and key; about 80 calls a second. Above it this key's calls are refused as busy, and nobody else's.
const NONCES_PER_KEY_MAX: usize = 10_000;
/// Per generation; about 1,600 calls a second, some 10 MB. Above it calls are refused as busy rather than let through unseen.
const NONCES_MAX: usize = 200_000;

impl Replays {
    pub(super) fn admit(&self, key: &PublicKey, nonce: &[u8; 16], now: Timestamp) -> Result<(), Refusal> {
        let mut seen = self.lock();
        if now.since(seen.since) >= FRESH_S {
            let forget_all = now.since(seen.since) >= 2 * FRESH_S;
            let young = std::mem::take(&mut seen.young);
            seen.old = if forget_all { Generation::default() } else { young };
            seen.since = now;
        }
        let key = key.as_bytes();
        if seen.old.contains(key, nonce) || seen.young.contains(key, nonce) {
            return Err(Refusal::new(Code::Replayed, "this signed call was made before").hint("sign it again"));
        }
        let busy = |what: &str| Err(Refusal::new(Code::Busy, what).retry_after_s(FRESH_S));
        if seen.young.seen.get(key).is_some_and(|nonces| nonces.len() >= NONCES_PER_KEY_MAX) {
            return busy("too many signed calls of this key at once");
        }
        if seen.young.size >= NONCES_MAX {
            return busy("too many signed calls at once");
        }
        seen.young.insert(key, nonce);
        Ok(())
    }

    /// Makes room again for a call that changed nothing and would change nothing if it came once more.
    pub(super) fn forget(&self, key: &PublicKey, nonce: &[u8; 16]) {
        let mut seen = self.lock();
        seen.young.remove(key.as_bytes(), nonce);
        seen.old.remove(key.as_bytes(), nonce);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().expect("nothing panics whilst holding the nonces")
    }
}

impl Generation {
    fn contains(&self, key: &[u8; 32], nonce: &[u8; 16]) -> bool {
        self.seen.get(key).is_some_and(|nonces| nonces.contains(nonce))
    }

    fn insert(&mut self, key: &[u8; 32], nonce: &[u8; 16]) {
        self.size += usize::from(self.seen.entry(*key).or_default().insert(*nonce));
    }

    fn remove(&mut self, key: &[u8; 32], nonce: &[u8; 16]) {
        let Some(nonces) = self.seen.get_mut(key) else { return };
        self.size -= usize::from(nonces.remove(nonce));
        if nonces.is_empty() {
            self.seen.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::SecretKey;

    use super::*;

    #[test]
    fn a_nonce_is_taken_once_for_as_long_as_its_signature_is_fresh() {
        let (replays, key) = (Replays::default(), SecretKey::from_seed([1; 32]).public());
        let other = SecretKey::from_seed([2; 32]).public();
        let code = |key, nonce, at| replays.admit(key, &[nonce; 16], Timestamp(at)).map_err(|r| r.code);
        assert_eq!(code(&key, 1, 1_000), Ok(()));
        assert_eq!(code(&other, 1, 1_000), Ok(()));
        assert_eq!(code(&key, 1, 1_000), Err("replayed"));
        // A signature from a clock that runs ahead is fresh longest.
        assert_eq!(code(&key, 2, 1_100), Ok(()));
        assert_eq!(code(&key, 2, 1_100 + 2 * SKEW_S), Err("replayed"));
        assert_eq!(code(&key, 2, 1_100 + 2 * FRESH_S), Ok(()));
    }

    fn caller(n: u8) -> PublicKey {
        SecretKey::from_seed([n; 32]).public()
    }

    #[test]
    fn one_caller_cannot_lock_out_another() {
        let (replays, at) = (Replays::default(), Timestamp(5));
        let one = caller(1);
        for n in 0..NONCES_PER_KEY_MAX as u128 {
            replays.admit(&one, &n.to_be_bytes(), at).unwrap();
        }
        let refused = replays.admit(&caller(1), &u128::MAX.to_be_bytes(), at).unwrap_err();
        assert_eq!((refused.code, refused.retry), ("busy", true));
        assert_eq!(replays.admit(&caller(1), &[0; 16], at).unwrap_err().code, "replayed", "what was seen stays so");
        replays.admit(&caller(2), &[0; 16], at).unwrap();
        // Nor by means of keys that anybody can make, as long as what they are refused for is forgotten.
        let mut forgotten = Replays::default();
        let many: Vec<_> = (0..200).map(caller).collect();
        for n in 0..2 * NONCES_MAX {
            let (key, nonce) = (&many[n % many.len()], (n as u128).to_be_bytes());
            forgotten.admit(key, &nonce, at).unwrap();
            forgotten.forget(key, &nonce);
        }
        let left = forgotten.0.get_mut().unwrap();
        assert_eq!((left.young.size, left.young.seen.len()), (0, 0));
    }

    #[test]
    fn a_full_memory_refuses_rather_than_lets_through() {
        let replays = Replays::default();
        let keys = NONCES_MAX / NONCES_PER_KEY_MAX;
        for key in (0..keys).map(|key| caller(key as u8)) {
            for n in 0..NONCES_PER_KEY_MAX as u128 {
                replays.admit(&key, &n.to_be_bytes(), Timestamp(5)).unwrap();
            }
        }
        let next = caller(keys as u8);
        assert_eq!(replays.admit(&next, &[0; 16], Timestamp(5)).unwrap_err().code, "busy");
        replays.forget(&caller(0), &[0; 16]);
        replays.admit(&next, &[0; 16], Timestamp(5)).unwrap();
        assert_eq!(replays.admit(&next, &[1; 16], Timestamp(5)).unwrap_err().code, "busy");
        assert!(replays.admit(&next, &[1; 16], Timestamp(5 + FRESH_S)).is_ok(), "the next generation has room");
    }
}
