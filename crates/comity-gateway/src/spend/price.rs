//! What a request may cost at most, and how much it may say for that (spec/06-metering.md §6.6).

use comity_wire::object::{Demand, Tariff};
use comity_wire::{Amount, Digest};

use super::Refused;

/// How many output tokens the caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Stated(u64),
    /// The answer may be as long as the signed maximum pays.
    None,
}

/// What may be held for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// What the holder signed.
    pub signed: Amount,
    /// The lane's window.
    pub window: Amount,
    /// What the owner lets one call hold; `None`: no bound.
    pub policy: Option<Amount>,
}

/// Which cap made an answer shorter than it might have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clip {
    SignedMax,
    Window,
    Policy,
}

impl Clip {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedMax => "max-charge",
            Self::Window => "window",
            Self::Policy => "policy",
        }
    }
}

/// A request with its price bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priced {
    /// `output_tokens` is what the upstream is allowed to say.
    pub demand: Demand,
    pub hold: Amount,
    pub least: Amount,
    pub clip: Option<Clip>,
}

/// Prices a demand whose `output_tokens` is the owner's ceiling.
///
/// # Errors
/// `tariff_mismatch`, `max_too_low` with what would do, `limit_exceeded`.
pub fn price(
    tariff: &Tariff,
    (pinned, asked): (Digest, Digest),
    demand: Demand,
    limit: Limit,
    caps: Caps,
) -> Result<Priced, Refused> {
    if pinned != asked {
        return Err(Refused::TariffMismatch { asked, pinned });
    }
    let unpriced = |error: comity_wire::object::Unpriced| Refused::Unpriced { why: error.to_string() };
    let least = tariff.least_charge(demand.op).map_err(unpriced)?;
    let ceiling = demand.output_tokens;
    let worst = |output_tokens| tariff.worst_case(&Demand { output_tokens, ..demand }).map_err(unpriced);
    let fits = |max| tariff.affordable_output(&demand, max);
    let (output_tokens, clip) = match limit {
        Limit::Stated(tokens) if tokens > ceiling => (ceiling, Some(Clip::Policy)),
        Limit::Stated(tokens) => (tokens, None),
        Limit::None => {
            // The least that is an answer: one token, where the owner lets it have one.
            let answer = worst(ceiling.min(1))?;
            let policy = caps.policy.unwrap_or(Amount::MAX);
            if answer > caps.signed {
                return Err(Refused::MaxTooLow { required: answer, max: caps.signed, fits: None });
            }
            if answer > policy {
                return Err(Refused::BeyondPolicy { required: answer, max: policy, fits: None });
            }
            if answer > caps.window {
                return Err(Refused::WindowTooSmall { hold: answer, window: caps.window });
            }
            let caps = [(caps.signed, Clip::SignedMax), (policy, Clip::Policy), (caps.window, Clip::Window)];
            let tightest =
                caps.iter().map(|(cap, clip)| (fits(*cap).unwrap_or(0), *clip)).min_by_key(|(fits, _)| *fits);
            let (pays, clip) = tightest.expect("there are three");
            (pays, (pays < ceiling).then_some(clip))
        }
    };
    let hold = worst(output_tokens)?;
    if let Some(max) = caps.policy.filter(|max| hold > *max) {
        return Err(Refused::BeyondPolicy { required: hold, max, fits: fits(max.min(caps.signed)) });
    }
    if hold > caps.signed {
        return Err(Refused::MaxTooLow { required: hold, max: caps.signed, fits: fits(caps.signed) });
    }
    Ok(Priced { demand: Demand { output_tokens, ..demand }, hold, least: least.min(hold), clip })
}
