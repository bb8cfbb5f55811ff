//! Answers that are kept under an `Idempotency-Key` (spec/09-http.md §2, decision 0044).
//!
//! What a key protects is idempotent by itself: every write of the house is named by what it carries. So the answer is kept after
//! the effect and not with it, and a process that dies between the two repeats the effect to no effect.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use comity_wire::{Digest, PublicKey};

use crate::failure::Failure;

/// The longest key.
pub(crate) const KEY_BYTES_MAX: usize = 255;
/// How long an answer is kept.
pub(crate) const KEPT_S: u64 = 24 * 3_600;
/// Answers that are kept for one signer; the oldest give way.
pub(crate) const KEPT_PER_SIGNER_MAX: u64 = 1_000;
/// Answers that are kept in all; the oldest give way.
pub(crate) const KEPT_MAX: u64 = 200_000;
/// A larger answer is not kept: its call is idempotent without.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Calls with keys that are under way at once.
const TURNS_MAX: usize = 1_024;
/// When a call that is under way should be asked for again.
pub(crate) const RETRY_AFTER_S: u64 = 1;

/// A call as its key names it.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    pub(crate) signer: PublicKey,
    /// Digest of the key: what callers put into it is nobody's business.
    pub(crate) key: Digest,
    /// Digest of method, path, query and body.
    pub(crate) call: Digest,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

type Taken = BTreeSet<([u8; 32], Digest)>;

/// Who is being answered now, by this process: what it was doing ends with it. Two replicas may do one call under one key at the same
/// moment; it has one effect, and the answer that is kept first is given by both (decision 0051).
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<Taken>>);

/// Held while a call is under way.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    of: ([u8; 32], Digest),
}

impl Turns {
    pub(crate) fn take(&self, once: &Once) -> Result<Turn, Failure> {
        let of = (*once.signer.as_bytes(), once.key);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.contains(&of) {
            return Err(Failure::InFlight);
        }
        if taken.len() >= TURNS_MAX {
            return Err(Failure::Busy);
        }
        taken.insert(of);
        Ok(Turn { turns: self.clone(), of })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.of);
    }
}
