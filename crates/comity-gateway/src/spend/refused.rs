//! Why the book turns a request away.

use comity_wire::object::Run;
use comity_wire::{Amount, Code, Digest, Op, Timestamp, TokenId};

use super::pace::{Counted, Rule};

/// A refusal of the spend core. It consumes neither sequence nor quota (rule 12).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error("another token has the same id {token}; only the first stands, and the two are proof against their issuer")]
    TokenConflict { token: TokenId },
    #[error("token was closed by a final; draw a new one")]
    Closed,
    #[error("this node has lost receipts that it signed under this token; draw a new token")]
    Superseded,
    #[error("seq {seq} was charged for another request; take the next seq")]
    SequenceConflict { seq: u64 },
    #[error("seq {seq} is being answered; retry when it has ended")]
    InFlight { seq: u64 },
    #[error("seq {seq} lies outside the span around {highest}, the highest that was charged")]
    SeqOutsideSpan { seq: u64, highest: u64 },
    #[error("seq {seq} was asked about after this was signed, and it was said that nothing is charged; sign it again")]
    GivenUp { seq: u64 },
    #[error("too many seqs of this token were asked about in these minutes; ask again")]
    AskedTooOften,
    #[error("lane {lane} is not below {lanes}, the lanes of this right")]
    LaneBeyondMax { lane: u16, lanes: u16 },
    #[error("the token's {lanes} lanes are all in use")]
    LanesUsedUp { lanes: u16 },
    #[error("tariff {asked} is not {pinned}, which the token pins")]
    TariffMismatch { asked: Digest, pinned: Digest },
    #[error("no price is known: {why}")]
    Unpriced { why: String },
    #[error("this request may cost {required}, the signed maximum is {max}")]
    MaxTooLow { required: Amount, max: Amount, fits: Option<u64> },
    #[error("this request may cost {required}, the owner lets one call hold {max}")]
    BeyondPolicy { required: Amount, max: Amount, fits: Option<u64> },
    #[error("{left} are left of {cap}, this request needs {hold}")]
    BudgetExhausted { left: Amount, cap: Amount, hold: Amount },
    #[error("requests under way hold what is left of {cap}; retry when they have ended")]
    BudgetInFlight { cap: Amount },
    #[error("{unacknowledged} of the lane await acknowledgement, its window is {window}; acknowledge and retry")]
    AckRequired { unacknowledged: Amount, window: Amount },
    #[error("this request needs {hold}, more than the lane's whole window of {window}; ask for less")]
    WindowTooSmall { hold: Amount, window: Amount },
    #[error("{concurrency} requests of this project run already: the owner allows no more at once ({rule})")]
    Concurrency { rule: Rule, concurrency: u16 },
    #[error("{used} of {limit} {} in {seconds} s are used or held: the owner allows a project no more ({rule})", counted.as_str())]
    RateWindow { rule: Rule, counted: Counted, limit: u64, used: u64, seconds: u32, retry_after_s: u64 },
    #[error("this request may take {needed} {}, the owner allows a project {limit} in {seconds} s ({rule})", counted.as_str())]
    BeyondWindow { rule: Rule, counted: Counted, needed: u64, limit: u64, seconds: u32 },
    #[error("this request may take {needed} {counted} of {op}, the plan gives a whole execution {most}")]
    BeyondPlan { op: Op, counted: &'static str, needed: u64, most: u64 },
    #[error("{left} {counted} of {op} are left of run '{run}', and this request may take more")]
    RunUsedUp { run: Run, op: Op, counted: &'static str, left: u64 },
    #[error("requests under way hold what is left of run '{run}'; retry when they have ended")]
    RunInFlight { run: Run },
    #[error("run '{run}' was over at {ended_at}: the plan gives an execution no longer")]
    RunOver { run: Run, ended_at: Timestamp },
    #[error("the plan was approved for {executions} executions, and each has begun")]
    ExecutionsUsed { executions: u32 },
    #[error("acknowledgement names a receipt that this node did not sign")]
    OtherReceipt,
    #[error("requests of this token still run; ask again when they have ended")]
    StillOpen,
    #[error("token has no account here")]
    NoAccount,
    #[error("another claim of this token is under way")]
    ClaimUnderWay,
    #[error("the project's pace was not read from the store")]
    NoSubject,
    #[error("the hold is gone")]
    HoldGone,
    #[error("too many tokens are in use here at once; retry shortly")]
    Busy,
}

impl Refused {
    pub fn code(&self) -> Code {
        match self {
            Self::TokenConflict { .. } => Code::TokenConflict,
            Self::Closed => Code::Closed,
            Self::Superseded => Code::Superseded,
            Self::SequenceConflict { .. } => Code::SequenceConflict,
            Self::InFlight { .. } | Self::StillOpen => Code::InFlight,
            Self::SeqOutsideSpan { .. } => Code::SeqOutsideSpan,
            Self::GivenUp { .. } => Code::Stale,
            Self::LaneBeyondMax { .. } | Self::LanesUsedUp { .. } => Code::LaneBeyondMax,
            Self::TariffMismatch { .. } | Self::Unpriced { .. } => Code::TariffMismatch,
            Self::MaxTooLow { .. } => Code::MaxTooLow,
            Self::BudgetExhausted { .. } => Code::BudgetExhausted,
            Self::BudgetInFlight { .. } => Code::BudgetInFlight,
            Self::AckRequired { .. } => Code::AckRequired,
            Self::WindowTooSmall { .. } | Self::BeyondPolicy { .. } | Self::BeyondWindow { .. } => Code::LimitExceeded,
            Self::Concurrency { .. } | Self::RateWindow { .. } | Self::RunInFlight { .. } => Code::TooManyRequests,
            Self::BeyondPlan { .. } => Code::LimitExceeded,
            Self::RunUsedUp { .. } | Self::RunOver { .. } | Self::ExecutionsUsed { .. } => Code::PlanExhausted,
            Self::OtherReceipt => Code::BrokenHistory,
            Self::NoAccount => Code::NotFound,
            Self::HoldGone | Self::NoSubject => Code::Internal,
            Self::Busy | Self::ClaimUnderWay | Self::AskedTooOften => Code::Busy,
        }
    }
}
