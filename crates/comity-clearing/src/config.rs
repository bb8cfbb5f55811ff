//! How a house is run, and the keys it holds.

use comity_wire::time::DAY_S;
use comity_wire::{OrgId, PublicKey, SecretKey, Verified};
use serde::Deserialize;

/// Unknown keys are refused. Every duration is in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The clearing house's own organisation on the roster.
    pub org: OrgId,
    /// How long a quote can be reserved on.
    #[serde(default = "defaults::quote_valid_s")]
    pub quote_valid_s: u64,
    /// The most lanes a token has where the owner's policy allows more.
    #[serde(default = "defaults::lanes_max")]
    pub lanes_max: u16,
    /// How long admitted work may run after the token's expiry.
    #[serde(default = "defaults::longest_op_s")]
    pub longest_op_s: u32,
    /// From expiry and the longest op to the earliest close of an escrow.
    #[serde(default = "defaults::settle_after_s")]
    pub settle_after_s: u64,
    /// One in so many claims is asked to show receipts with the requests behind them; 0: none is.
    #[serde(default = "defaults::sample_one_in")]
    pub sample_one_in: u32,
    /// How many receipts of such a claim.
    #[serde(default = "defaults::sample_receipts")]
    pub sample_receipts: u8,
}

mod defaults {
    use super::DAY_S;

    pub(super) const fn quote_valid_s() -> u64 {
        3600
    }
    pub(super) const fn lanes_max() -> u16 {
        256
    }
    pub(super) const fn longest_op_s() -> u32 {
        900
    }
    pub(super) const fn settle_after_s() -> u64 {
        30 * DAY_S
    }
    pub(super) const fn sample_one_in() -> u32 {
        16
    }
    pub(super) const fn sample_receipts() -> u8 {
        4
    }
}

impl Config {
    pub const fn new(org: OrgId) -> Self {
        Self {
            org,
            quote_valid_s: defaults::quote_valid_s(),
            lanes_max: defaults::lanes_max(),
            longest_op_s: defaults::longest_op_s(),
            settle_after_s: defaults::settle_after_s(),
            sample_one_in: defaults::sample_one_in(),
            sample_receipts: defaults::sample_receipts(),
        }
    }
}

/// The house's secrets.
#[derive(Clone)]
pub struct Keys {
    /// Signs tokens, quotes and revocation lists.
    pub issuer: SecretKey,
    /// The house's other issuer keys, earlier ones and one that is to come: what was begun under them can still be signed again, and
    /// what another replica signed with them is read.
    pub retired: Vec<SecretKey>,
    /// Makes pseudonyms. Whoever has it can link them; whoever loses it gives every project new names.
    pub pseudonyms: zeroize::Zeroizing<[u8; 32]>,
    /// Signs the log's checkpoints; a key of its own. Without it the log is sealed, and neither signed nor served.
    pub log: Option<LogKey>,
}

/// The log's key, and where its newest signature is remembered.
#[derive(Clone)]
pub struct LogKey {
    pub secret: SecretKey,
    pub memory: std::sync::Arc<dyn LogMemory>,
    /// Whether other replicas sign with it too: then what this memory lacks may have been signed all the same.
    pub others: bool,
}

/// Remembers the newest checkpoint that was signed, outside of the database: so that a database which comes back from a
/// backup is noticed before anything is signed a second time.
pub trait LogMemory: Send + Sync {
    /// # Errors
    /// Where it cannot be read; that there is none is `None`.
    fn read(&self) -> std::io::Result<Option<Vec<u8>>>;
    /// Durable when it returns.
    ///
    /// # Errors
    /// Where it cannot be written; then nothing is signed.
    fn write(&self, note: &[u8]) -> std::io::Result<()>;
}

/// What stands in the memory of a log where books came back from a backup, and the checkpoint that was signed last did not.
/// What was signed after the backup is not known then, and a second past must not be signed.
pub const LOG_FORGOTTEN: &[u8] = b"restored from a backup: what was signed after it is not known here\n";

impl Keys {
    pub fn new(issuer: SecretKey, pseudonyms: [u8; 32]) -> Self {
        Self { issuer, retired: Vec::new(), pseudonyms: zeroize::Zeroizing::new(pseudonyms), log: None }
    }

    /// The same, with the key of a log.
    #[must_use]
    pub fn with_log(self, secret: SecretKey, memory: std::sync::Arc<dyn LogMemory>) -> Self {
        Self { log: Some(LogKey { secret, memory, others: false }), ..self }
    }

    /// The same, where other replicas of the house have these keys too.
    #[must_use]
    pub fn shared(mut self) -> Self {
        if let Some(log) = &mut self.log {
            log.others = true;
        }
        self
    }

    /// The secret half of `key`, where the house still has it.
    pub(crate) fn issuer_of(&self, key: &PublicKey) -> Option<&SecretKey> {
        std::iter::once(&self.issuer).chain(&self.retired).find(|secret| secret.public() == *key)
    }

    pub(crate) fn issuers(&self) -> Vec<PublicKey> {
        std::iter::once(&self.issuer).chain(&self.retired).map(SecretKey::public).collect()
    }
}

/// Where new revocation lists go: the owner's feed writer.
pub type Publisher = std::sync::Arc<dyn Fn(&Verified<comity_wire::object::RevocationList>) + Send + Sync>;
