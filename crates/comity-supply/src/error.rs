//! Why an upstream gave no answer, or not a whole one.

use comity_wire::Op;

/// Why a call failed. From [`Upstream::complete`](crate::Upstream::complete): the upstream did not accept it. From a
/// [`Reply`](crate::Reply): it was accepted, and what was relayed before counts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    #[error("upstream {upstream} cannot be reached: {detail}")]
    Unreachable { upstream: String, detail: String },
    /// The upstream answered, and the answer was no. `message` is the upstream's own: for the owner's log; what a
    /// client may see of it is the gateway's choice.
    #[error("upstream answered {status}: {message}")]
    Refused { status: u16, code: Option<String>, message: String, retry_after_s: Option<u64> },
    /// No instance can be asked: all are loading, or left alone after failures.
    #[error("no instance {}; worth trying in {retry_after_s} s", if *is_starting { "is loaded yet" } else { "is up" })]
    Out { is_starting: bool, retry_after_s: u64 },
    #[error("upstream does not serve {op:?}")]
    Unsupported { op: Op },
    #[error("upstream said nothing for {after_ms} ms {whilst}")]
    Silent { after_ms: u64, whilst: Silence },
    /// The connection ended before the upstream said that the answer had ended.
    #[error("upstream's answer was cut after {bytes} bytes: {detail}")]
    Cut { bytes: u64, detail: String },
    #[error("upstream's answer is malformed: {detail}")]
    Malformed { detail: String },
    #[error("upstream's answer passes {limit} {unit}")]
    TooLarge { limit: usize, unit: &'static str },
    /// An error frame inside the stream.
    #[error("upstream failed while answering: {message}")]
    Failed { code: Option<String>, message: String },
    #[error("the call was cancelled")]
    Cancelled,
    #[error("upstream settings: {detail}")]
    Settings { detail: String },
}

/// When a silent upstream fell silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It never sent a response head.
    BeforeAnswer,
    /// It stopped between two frames, or within one.
    WhilstAnswering,
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BeforeAnswer => "before answering",
            Self::WhilstAnswering => "whilst answering",
        })
    }
}

impl UpstreamError {
    /// One word for logs, metrics and a receipt's "how it ended".
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Out { .. } => "out",
            Self::Unsupported { .. } => "unsupported",
            Self::Silent { .. } => "silent",
            Self::Cut { .. } => "cut",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Settings { .. } => "settings",
        }
    }

    /// Whether the same call might be answered later: the upstream is down, busy or loading.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Out { .. } | Self::Silent { .. } | Self::Cut { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
