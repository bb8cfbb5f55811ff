//! A policy as somebody reads it who has to answer for it: for each tier whom it is for, what leaves by which op, and what is kept.

use std::fmt::Write as _;

use comity_wire::Digest;
use comity_wire::object::{Delegates, Filter, LogitBias, Moderation, OpRule, Policy, TierRule, Vetting};

use super::facts::{open, window};

/// All of it, but for what the money needs.
pub fn shown(policy: &Policy) -> String {
    let mut text = String::new();
    for tier in &policy.tiers {
        let mut line = |what: &str, said: String| {
            let _ = writeln!(
                text,
                "  {:<4}{what:<18}{said}",
                if what == "for" { tier.tier.to_string() } else { String::new() }
            );
        };
        line("for", whom(tier));
        line("kept", tier.logging.to_string());
        if let Some(terms) = &tier.terms {
            line("agree to", terms_of(tier, terms));
        }
        let filters = tier.filters.iter().map(|Filter { category, action }| format!("{}: {action}", category.as_str()));
        line("filters", or(filters.collect(), "counted, nothing is done"));
        line("at most", bounds(tier));
        for rule in policy.rules.iter().filter(|rule| rule.tier == tier.tier) {
            line(&rule.op.to_string(), leaves(rule));
        }
    }
    text.trim_end().to_owned()
}

/// Who else sees words, in a line below the tiers.
pub fn seen_by(told: &Moderation) -> String {
    let tiers: Vec<String> = told.tiers.iter().map(ToString::to_string).collect();
    let what = if told.answers { "prompts and answers" } else { "prompts" };
    format!(
        "      {:<18}{what} of {}: {}, who may keep them for {} days",
        "also seen",
        tiers.join(", "),
        told.by.as_str(),
        told.retention_days
    )
}

fn or(parts: Vec<String>, none: &str) -> String {
    if parts.is_empty() { none.to_owned() } else { parts.join("; ") }
}

fn whom(tier: &TierRule) -> String {
    let mut parts = vec![match tier.vetting {
        Vetting::None => "anybody".to_owned(),
        vetting => format!("projects that are {vetting} at a clearing house"),
    }];
    if tier.grant {
        parts.push("with your grant".to_owned());
    }
    if !tier.purposes.is_empty() {
        let purposes: Vec<&str> = tier.purposes.iter().map(|purpose| purpose.as_str()).collect();
        parts.push(format!("for {}", purposes.join(", ")));
    }
    if tier.delegates != Delegates::All {
        parts.push(format!("delegates: {}", tier.delegates));
    }
    parts.join(", ")
}

/// Which terms of use, and since when.
fn terms_of(tier: &TierRule, terms: &Digest) -> String {
    match (tier.terms_from, &tier.terms_before) {
        (Some(from), Some(before)) => format!("terms {terms} from {from} on, until then {before} as well"),
        (Some(from), None) => format!("terms {terms} from {from} on"),
        (None, _) => format!("terms {terms}"),
    }
}

fn bounds(tier: &TierRule) -> String {
    let mut parts = Vec::new();
    if tier.concurrency > 0 {
        parts.push(format!("{} calls at once", tier.concurrency));
    }
    parts.extend(tier.windows.iter().map(window));
    parts.extend(tier.hours.iter().map(open));
    or(parts, "no bound in time")
}

/// What a caller takes home of one call.
fn leaves(rule: &OpRule) -> String {
    let mut parts = Vec::new();
    if rule.output_tokens_max > 0 {
        let choices =
            if rule.choices_max > 1 { format!(" in each of {} answers", rule.choices_max) } else { String::new() };
        parts.push(format!("{} tokens{choices}", rule.output_tokens_max));
    }
    parts.push(match (rule.logprobs_max, rule.logprobs_decimals) {
        (0, _) => "no log-probabilities".to_owned(),
        (most, None) => format!("{most} log-probabilities a token, in full"),
        (most, Some(decimals)) => format!("{most} log-probabilities a token, {decimals} decimals"),
    });
    if let Some(LogitBias { kind, entries_max }) = &rule.logit_bias {
        parts.push(format!("biases: {kind}, {entries_max}"));
    }
    if let Some(concurrency) = rule.concurrency {
        parts.push(format!("{concurrency} at once"));
    }
    parts.extend(rule.windows.iter().map(window));
    parts.join("; ")
}
