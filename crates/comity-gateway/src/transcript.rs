//! The texts of a call, for owners whose tier says that they keep them (`logging = "bodies"`, spec/03-manifest.md §3.6).
//!
//! The gateway hands them over once the call is charged, and admits no call of such a tier while they cannot be kept. What
//! becomes of them, and under which key, is the shell's.

use bytes::Bytes;
use comity_wire::object::{Ended, Tier};
use comity_wire::{Amount, Digest, ModelId, Op, Timestamp, TokenId};

/// A charged call with its texts.
#[derive(Clone, Debug)]
pub struct Transcript {
    pub at: Timestamp,
    pub model: ModelId,
    pub op: Op,
    pub tier: Tier,
    /// The project's pseudonym with this organisation.
    pub subject: String,
    pub token: TokenId,
    /// SHA-256 of the signed receipt.
    pub receipt: Digest,
    pub charge: Amount,
    pub ended: Ended,
    /// What the manifest told the caller: it may be kept for so many days, and no longer.
    pub retention_days: u16,
    /// As it came.
    pub request: Bytes,
    /// As it was handed over: one piece, or the `data` payloads of a stream.
    pub response: Vec<Bytes>,
}

/// Who keeps them. Must not wait.
pub trait Transcripts: Send + Sync {
    /// Whether what is handed over now would be kept.
    fn is_ready(&self) -> bool;

    fn keep(&self, transcript: Transcript);
}
