//! What the prompt holds: counted into the receipt always, refused only where the policy says `block`.

use comity_guard::{Category, Findings};
use comity_http::Refusal;
use comity_wire::Code;
use comity_wire::object::{FilterAction, TierRule};

use super::hold::Held;
use crate::gateway::Inner;

/// A request whose prompt was looked at.
pub(crate) struct Filtered {
    pub(crate) held: Held,
    pub(crate) findings: Findings,
}

pub(crate) fn filter(inner: &Inner, held: Held) -> Result<Filtered, Refusal> {
    let mut findings = Findings::default();
    for text in &held.authorised.asked.texts {
        findings.merge(&inner.filter.scan(text));
    }
    if let Some(category) = blocked(&held.authorised.allowed.tier_rule, &findings) {
        let message = format!("the owner's filter does not let this through ({})", category.name());
        return Err(Refusal::new(Code::ContentFilter, message)
            .with("category", category.name())
            .with("whose_move", "caller"));
    }
    Ok(Filtered { held, findings })
}

/// The first category that was found and that the policy blocks.
pub(crate) fn blocked(rule: &TierRule, findings: &Findings) -> Option<Category> {
    let blocks = |category: &Category| {
        let action =
            rule.filters.iter().find(|filter| filter.category.as_str() == category.name()).map(|filter| filter.action);
        matches!(action, Some(FilterAction::Block | FilterAction::Suspend))
    };
    findings.categories().map(|(category, _)| category).find(blocks)
}
