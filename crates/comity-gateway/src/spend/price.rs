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
/// `tariff_mismatch`, `max_too_low` with what would do.
pub fn price(
    tariff: &Tariff,
    (pinned, asked): (Digest, Digest),
    demand: Demand,
    limit: Limit,
    max: Amount,
    window: Amount,
) -> Result<Priced, Refused> {
    if pinned != asked {
        return Err(Refused::TariffMismatch { asked, pinned });
    }
    let unpriced = |error: comity_wire::object::Unpriced| Refused::Unpriced { why: error.to_string() };
    let least = tariff.least_charge(demand.op).map_err(unpriced)?;
    let ceiling = demand.output_tokens;
    let worst = |output_tokens| tariff.worst_case(&Demand { output_tokens, ..demand }).map_err(unpriced);
    let (output_tokens, clip) = match limit {
        Limit::Stated(tokens) if tokens > ceiling => (ceiling, Some(Clip::Policy)),
        Limit::Stated(tokens) => (tokens, None),
        Limit::None => {
            let pays = tariff.affordable_output(&demand, max);
            let pays = pays.ok_or_else(|| {
                worst(0).map_or_else(|refused| refused, |required| Refused::MaxTooLow { required, max })
            })?;
            let fits = tariff.affordable_output(&demand, window).unwrap_or(0);
            if pays == 0 && ceiling > 0 {
                return Err(Refused::MaxTooLow { required: worst(1)?, max });
            }
            if fits == 0 && ceiling > 0 {
                return Err(Refused::WindowTooSmall { hold: worst(1)?, window });
            }
            let clip = if fits < pays { Clip::Window } else { Clip::SignedMax };
            (pays.min(fits), (pays.min(fits) < ceiling).then_some(clip))
        }
    };
    let hold = worst(output_tokens)?;
    if hold > max {
        return Err(Refused::MaxTooLow { required: hold, max });
    }
    Ok(Priced { demand: Demand { output_tokens, ..demand }, hold, least: least.min(hold), clip })
}
