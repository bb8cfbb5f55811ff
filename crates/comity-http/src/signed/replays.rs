//! Which nonces were seen: a signed call runs once.
//!
//! In memory: what a restart forgets is bounded by the two minutes in which a signature is fresh, and the calls that
//! matter carry ids of their own that make a repeat harmless.

use std::collections::HashSet;
use std::sync::Mutex;

use comity_wire::time::SKEW_S;
use comity_wire::{Code, PublicKey, Timestamp};

use crate::problem::Refusal;

/// Two generations of nonces, each as long as a signature can be fresh.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    since: Timestamp,
    young: HashSet<Seen>,
    old: HashSet<Seen>,
}

type Seen = ([u8; 32], [u8; 16]);

/// A signature is taken from `created − SKEW_S` to `created + SKEW_S`.
const FRESH_S: u64 = 2 * SKEW_S + 1;
/// Per generation; about 400 calls a second. Above it calls are refused as busy rather than let through unseen.
const NONCES_MAX: usize = 50_000;

impl Replays {
    pub(super) fn admit(&self, key: &PublicKey, nonce: &[u8; 16], now: Timestamp) -> Result<(), Refusal> {
        let mut seen = self.0.lock().expect("nothing panics whilst holding the nonces");
        if now.since(seen.since) >= FRESH_S {
            let forget_all = now.since(seen.since) >= 2 * FRESH_S;
            seen.old = if forget_all { HashSet::new() } else { std::mem::take(&mut seen.young) };
            seen.young.clear();
            seen.since = now;
        }
        let this = (*key.as_bytes(), *nonce);
        if seen.old.contains(&this) || seen.young.contains(&this) {
            return Err(Refusal::new(Code::Replayed, "this signed call was made before").hint("sign it again"));
        }
        if seen.young.len() >= NONCES_MAX {
            return Err(Refusal::new(Code::Busy, "too many signed calls at once").retry_after_s(FRESH_S));
        }
        seen.young.insert(this);
        Ok(())
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

    #[test]
    fn a_full_memory_refuses_rather_than_lets_through() {
        let (replays, key) = (Replays::default(), SecretKey::from_seed([1; 32]).public());
        for n in 0..NONCES_MAX as u128 {
            replays.admit(&key, &n.to_be_bytes(), Timestamp(5)).unwrap();
        }
        let refused = replays.admit(&key, &u128::MAX.to_be_bytes(), Timestamp(5)).unwrap_err();
        assert_eq!(refused.code, "busy");
    }
}
