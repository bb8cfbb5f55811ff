//! What an owner wrote and nothing would ever meet: a misspelled name must be an error and not a rule that is not applied.

use comity_guard::Category;
use comity_wire::object::{Logging, OpRule, TierRule};

use super::Offer;
use crate::failure::Failure;

/// # Errors
/// [`Failure`] for the first name that matches nothing.
pub(super) fn check(offer: &Offer) -> Result<(), Failure> {
    let terms = &offer.policy;
    terms.tiers.iter().try_for_each(|tier| check_tier(tier, &terms.rules))?;
    terms.rules.iter().try_for_each(check_rule)?;
    if terms.tiers.iter().any(|tier| tier.logging == Logging::Bodies)
        && (offer.data_policy.logging != Logging::Bodies || offer.data_policy.retention_days == 0)
    {
        return Err(Failure::new("a tier keeps the texts of its calls, and [data_policy] does not tell callers so").hint(
            "say logging = \"bodies\" and retention_days of 1 or more in [data_policy]; they see it before they call",
        ));
    }
    for price in &offer.tariff.prices {
        let Some(counted) = comity_gateway::meters_of(price.op) else { continue };
        if let Some(rate) = price.rates.iter().find(|rate| !counted.contains(&rate.meter)) {
            let names: Vec<&str> = counted.iter().map(|meter| meter.as_str()).collect();
            let said = format!("{} is priced by {}, which is never counted for it", price.op, rate.meter);
            return Err(Failure::new(said).hint(format!("price it by {}", names.join(", "))));
        }
    }
    Ok(())
}

fn check_tier(tier: &TierRule, rules: &[OpRule]) -> Result<(), Failure> {
    if !rules.iter().any(|rule| rule.tier == tier.tier) {
        return Err(Failure::new(format!("tier {} has no op", tier.tier))
            .hint("add a [[policy.rules]] with it, or leave it out"));
    }
    // `volume/` and a category: what is done about an amount of it.
    let known = |name: &str| name.strip_prefix("volume/").unwrap_or(name).parse::<Category>().is_ok();
    let unknown = tier.filters.iter().find(|filter| !known(filter.category.as_str()));
    if let Some(filter) = unknown {
        let names = Category::ALL.map(Category::name).join(", ");
        let said = format!("tier {} filters '{}', which nothing is found under", tier.tier, filter.category.as_str());
        return Err(Failure::new(said).hint(format!("categories: {names}; `volume/` before one: an amount of it")));
    }
    Ok(())
}

fn check_rule(rule: &OpRule) -> Result<(), Failure> {
    let unknown = rule.parameters.iter().find(|name| comity_gateway::takes(rule.op, name.as_str()) == Some(false));
    match unknown {
        Some(name) => Err(Failure::new(format!("{} takes no field '{}'", rule.op, name.as_str()))
            .hint("docs/reference/routes.md lists the fields of each route")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("example.toml");

    #[test]
    fn a_name_that_matches_nothing_is_an_error() {
        let example: Offer = toml::from_str(EXAMPLE).unwrap();
        check(&example).unwrap();
        for (from, to, word) in [
            ("category = \"political_persuasion\"", "category = \"political_persuation\"", "political_persuation"),
            ("# parameters = [\"seed\"", "parameters = [\"sed\"", "'sed'"),
            ("tier = \"t1\"\nvetting", "tier = \"t3\"\nvetting", "tier t3"),
            ("logging = \"metadata\"  ", "logging = \"bodies\"  ", "data_policy"),
            ("[[tariff.prices]]\nop = \"completions\"", "[[tariff.prices]]\nop = \"embeddings\"", "output_tokens"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let offer: Offer = toml::from_str(&EXAMPLE.replace(from, to)).unwrap();
            let failure = check(&offer).unwrap_err().to_string();
            assert!(failure.contains(word), "{to}: {failure}");
        }
    }
}
