//! What guards a model against misuse: rule packs and a linear classifier over prompts and outputs, and volume over time.
//!
//! Packs are data (`packs/*.toml`, or an owner's own), compiled once to one Aho-Corasick automaton and a few bounded
//! regular expressions over folded text. The [`Classifier`] sees what no rule lists, and may be wrong. What comes out is [`Findings`]: counts per [`Category`] and which rules.
//!
//! Promises: no text is kept; memory is bounded however long the stream; the same text gives the same findings however
//! it was cut into chunks; a pack that could break those promises is refused when it is read. Leaves to others: what a
//! flag means (the policy's), blocking (the gateway's), HTTP, SQL, clocks.
//!
//! ```text
//! let filter = Filter::builtin();
//! let findings = filter.scan(prompt);             // whole text
//! let mut output = filter.scanner();              // a stream
//! output.push(chunk); …; let findings = output.finish();
//! receipt.flags = findings.flags();
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod category;
mod filter;
mod findings;
mod fold;
mod linear;
pub mod moderation;
mod pack;
mod scanner;
pub mod train;
pub mod volume;

pub use category::{Category, UnknownCategory};
pub use filter::{BadFilter, Filter};
pub use findings::Findings;
pub use fold::fold;
pub use linear::{BadWeights, Band, Classifier, Scores};
pub use pack::{BadPack, Rule, RulePack, signed as pack_signed};
pub use scanner::Scanner;

/// Bounds of packs and scans. A pack above one is refused; a text above [`SCAN_BYTES_MAX`](limit::SCAN_BYTES_MAX) is
/// scanned up to there and the rest is counted as unscanned.
pub mod limit {
    /// Bytes of one pack's TOML.
    pub const PACK_BYTES_MAX: usize = 256 * 1024;
    /// Rules over all packs of a filter.
    pub const RULES_MAX: usize = 1_024;
    /// Phrases and patterns of one rule.
    pub const RULE_ENTRIES_MAX: usize = 512;
    /// Phrases over all packs of a filter.
    pub const PHRASES_MAX: usize = 20_000;
    /// Patterns over all packs of a filter; each is a pass of its own over the text.
    pub const PATTERNS_MAX: usize = 128;
    /// Bytes of a phrase or of a pattern's source.
    pub const ENTRY_BYTES_MAX: usize = 512;
    /// Bytes of an id or a name.
    pub const NAME_BYTES_MAX: usize = 64;
    /// Folded bytes that one match may span; a pattern that could span more is refused. This is what a stream keeps back.
    pub const MATCH_BYTES_MAX: usize = 1_024;
    /// Folded bytes scanned at a time.
    pub const BLOCK_BYTES: usize = 4_096;
    /// Bytes of text that one scan looks at.
    pub const SCAN_BYTES_MAX: u64 = 16 * 1024 * 1024;
    /// Bytes of trained weights.
    pub const WEIGHTS_BYTES_MAX: usize = 8 * 1024 * 1024;
    /// Buckets of trained weights are at most 2 to this.
    pub const BUCKETS_LOG2_MAX: u8 = 20;
    /// Memory that one compiled pattern may take.
    pub const PATTERN_MEMORY_MAX: usize = 2 * 1024 * 1024;
}
