//! Which models fit, and in which order they are asked. A core without I/O.
//!
//! The cheapest first, by the tariff of the op that is asked, then by name: the same federation gives everybody the same order.
//! Models of another release than the one that has to answer never come in.

use comity_wire::object::{Step, Summary, Tariff, Tier};
use comity_wire::{Amount, Digest, Meter, ModelId, Op};

use super::Needs;

/// One model that may be asked, with what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    pub summary: &'a Summary,
    /// Its tariff of now; `None` where it is not here.
    pub tariff: Option<&'a Tariff>,
    /// What the caller lacks to use the op that is asked, and the one that the conditions name.
    pub missing: Option<&'a str>,
}

/// The release that has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answering {
    pub release: Digest,
    /// Whose weights nobody shows are the same as nobody else's: then this model alone.
    pub alone: Option<ModelId>,
}

/// A model that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    pub model: ModelId,
    pub release: Digest,
    /// For 10⁶ tokens in, 10⁶ out and one request.
    pub price: Amount,
}

/// Why a model does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("it is of another release")]
    Release,
    #[error("it does not offer {0}")]
    Op(Op),
    #[error("you may not use it yet: {0}")]
    Missing(String),
    #[error("its context is {}", .0.map_or("not stated".to_owned(), |have| format!("{have} tokens")))]
    Context(Option<u32>),
    #[error("its price is {}", .0.map_or("not known here".to_owned(), |have| format!("{have} for a million tokens each way")))]
    Price(Option<Amount>),
    #[error("{0} opens at no tier that was asked for")]
    Tier(Op),
    #[error("its data may be in {}", if .0.is_empty() { "places that are not stated" } else { .0 })]
    Residency(String),
    #[error("it keeps prompts for {0} days")]
    Retention(u16),
    #[error("it does not list language '{0}'")]
    Language(String),
    #[error("it is {0}'s")]
    Owner(String),
}

/// Those that fit, the cheapest first, and why the others do not.
pub fn rank<'a>(
    needs: &Needs,
    op: Op,
    answering: Option<&Answering>,
    offered: impl IntoIterator<Item = Offered<'a>>,
) -> (Vec<Ranked>, Vec<(ModelId, Misfit)>) {
    let (mut fit, mut misfit) = (Vec::new(), Vec::new());
    for offer in offered {
        match fits(needs, op, answering, &offer) {
            Ok(ranked) => fit.push(ranked),
            Err(why) => misfit.push((offer.summary.model.clone(), why)),
        }
    }
    fit.sort_by(|a, b| (a.price, &a.model).cmp(&(b.price, &b.model)));
    (fit, misfit)
}

fn fits(needs: &Needs, op: Op, answering: Option<&Answering>, offer: &Offered<'_>) -> Result<Ranked, Misfit> {
    let summary = offer.summary;
    let is_asked = |answering: &Answering| {
        summary.release == answering.release && answering.alone.as_ref().is_none_or(|alone| summary.model == *alone)
    };
    let require = |holds: bool, why: &dyn Fn() -> Misfit| if holds { Ok(()) } else { Err(why()) };
    require(answering.is_none_or(is_asked), &|| Misfit::Release)?;
    for op in needs.op.into_iter().chain([op]) {
        require(summary.ops.iter().any(|row| row.op == op), &|| Misfit::Op(op))?;
    }
    let owner = summary.model.organisation();
    require(needs.owners.is_empty() || needs.owners.iter().any(|name| name == owner), &|| {
        Misfit::Owner(owner.to_owned())
    })?;
    let context = summary.context_length;
    let is_long = |min: u32| context.is_some_and(|have| have >= min);
    require(needs.context_min.is_none_or(is_long), &|| Misfit::Context(context))?;
    let opens = |max: Tier| summary.ops.iter().any(|row| row.op == op && row.tier <= max);
    require(needs.tier_max.is_none_or(opens), &|| Misfit::Tier(op))?;
    require(resides(summary, &needs.residency), &|| {
        Misfit::Residency(summary.residency.iter().map(|place| place.as_str()).collect::<Vec<_>>().join(", "))
    })?;
    let days = summary.retention_days;
    require(needs.retention_max.is_none_or(|max| days <= max), &|| Misfit::Retention(days))?;
    let speaks = |tag: &String| {
        let first = |have: &str| have.split_once('-').is_some_and(|(first, _)| first == tag);
        summary.languages.iter().any(|have| have.as_str() == tag || first(have.as_str()))
    };
    if let Some(tag) = needs.language.as_ref().filter(|tag| !speaks(tag)) {
        return Err(Misfit::Language(tag.clone()));
    }
    // What has no price that can be worked out is not cheap.
    let price = offer.tariff.and_then(|tariff| price(tariff, op));
    require(needs.price_max.is_none_or(|max| price.is_some_and(|have| have <= max)), &|| Misfit::Price(price))?;
    // Last: what a model is comes before whether one may use it.
    offer.missing.map_or(Ok(()), |missing| Err(Misfit::Missing(missing.to_owned())))?;
    Ok(Ranked { model: summary.model.clone(), release: summary.release, price: price.ok_or(Misfit::Price(None))? })
}

/// Each place that the owner states is one of those, and one is stated: data may be in any of them.
fn resides(summary: &Summary, places: &[String]) -> bool {
    /// ISO 3166 alpha-2, 2026.
    const EU: [&str; 27] = [
        "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU",
        "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
    ];
    let within = |have: &str| {
        let have = have.to_ascii_uppercase();
        places.iter().any(|place| *place == have || (place == "EU" && EU.contains(&have.as_str())))
    };
    places.is_empty() || (!summary.residency.is_empty() && summary.residency.iter().all(|place| within(place.as_str())))
}

/// For 10⁶ tokens in, 10⁶ out and one request, each at its dearest step; a meter of bytes counts as many to a token as the tariff
/// says a token has at most. `None` where the op has no price.
pub fn price(tariff: &Tariff, op: Op) -> Option<Amount> {
    const MILLION: u128 = 1_000_000;
    let row = tariff.price(op)?;
    let mut sum = 0_u128;
    let mut request = 0_u128;
    for rate in row.rates.iter() {
        let dearest = u128::from(rate.steps.iter().map(|step: &Step| step.ucr_per_million).max().unwrap_or(0));
        let bytes = u128::from(tariff.output_bytes_per_token.max(1));
        match rate.meter {
            Meter::InputTokens | Meter::OutputTokens => sum = sum.checked_add(dearest)?,
            Meter::InputBytes | Meter::OutputBytes => sum = sum.checked_add(dearest.checked_mul(bytes)?)?,
            Meter::Requests => request = request.checked_add(dearest.div_ceil(MILLION))?,
            // No bound is known for these beforehand.
            _ => return None,
        }
    }
    // The minimum is what a request costs where its meters come to less.
    let minimum = u128::from(row.minimum.ucr().unsigned_abs());
    let sum = sum.checked_add(request.max(minimum))?;
    i64::try_from(sum).ok().and_then(|ucr| Amount::new(ucr).ok())
}

#[cfg(test)]
mod tests;
