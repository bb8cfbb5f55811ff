//! What a policy says and its owner may not have meant. Nothing here is refused: it is told.

use comity_wire::Op;
use comity_wire::object::{FilterAction, OpRule, Policy, Tier, Vetting};
use serde::Serialize;

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// As in [`Change`](super::Change).
    pub place: String,
    pub what: String,
    /// What one could write instead.
    pub next: &'static str,
}

/// Ops that show more than a model's words.
const REVEALING: [Op; 2] = [Op::Logprobs, Op::PromptLogprobs];

/// In the order in which the policy is written.
pub fn advice(policy: &Policy) -> Vec<Advice> {
    let mut found = Vec::new();
    for rule in &policy.tiers {
        let mut say = |name: &str, what: String, next| {
            found.push(Advice { place: format!("{}.{name}", rule.tier), what, next });
        };
        let ops: Vec<&OpRule> = policy.rules.iter().filter(|op| op.tier == rule.tier).collect();
        if rule.windows.is_empty() && ops.iter().any(|op| op.windows.is_empty()) {
            say(
                "windows",
                "a project may ask without end".into(),
                "windows = [{ seconds = 86_400, tokens = 20_000_000 }] bounds a day",
            );
        }
        if rule.concurrency == 0 {
            say("concurrency", "one project may take every place of the server".into(), "concurrency = 16");
        }
        if rule.filters.is_empty() && rule.tier < Tier::Audited {
            say(
                "filters",
                "nothing is looked for in what is asked and answered".into(),
                "filters = [{ category = \"cbrn\", action = \"block\" }, …]",
            );
        }
        let suspends = |action| matches!(action, FilterAction::Suspend | FilterAction::Block);
        let blocked = rule
            .filters
            .iter()
            .find(|filter| filter.category.as_str() == "political_persuasion" && suspends(filter.action));
        if blocked.is_some() {
            say(
                "filters",
                "political text is blocked, and it is lawful and often what is studied".into(),
                "action = \"log\", and a row for \"volume/political_persuasion\": amounts that do not go with the project's purpose",
            );
        }
        if rule.vetting == Vetting::None && !rule.grant && rule.tier > Tier::Open {
            say(
                "vetting",
                format!("it asks nothing that t0 does not, and is named {}", rule.tier),
                "vetting = \"registered\"",
            );
        }
    }
    for rule in &policy.rules {
        let mut say = |name: &str, what: String, next| {
            found.push(Advice { place: format!("{}.{}.{name}", rule.op, rule.tier), what, next });
        };
        if REVEALING.contains(&rule.op) && rule.logprobs_decimals.is_none() && rule.tier < Tier::Audited {
            say(
                "logprobs_decimals",
                "log-probabilities leave as they are; enough of them are the output matrix".into(),
                "logprobs_decimals = 3",
            );
        }
        // The highest tier that is reached decides, so a higher one that gives less takes away.
        let lower = policy.rules_of(rule.op).take_while(|other| other.tier < rule.tier);
        for other in lower {
            for (name, mine, theirs) in [
                ("output_tokens_max", u64::from(rule.output_tokens_max), u64::from(other.output_tokens_max)),
                ("input_bytes_max", u64::from(rule.input_bytes_max), u64::from(other.input_bytes_max)),
                ("choices_max", u64::from(rule.choices_max), u64::from(other.choices_max)),
                ("logprobs_max", u64::from(rule.logprobs_max), u64::from(other.logprobs_max)),
            ] {
                if mine < theirs {
                    say(
                        name,
                        format!(
                            "{mine} is less than {theirs} at {}, and whoever reaches {} has this",
                            other.tier, rule.tier
                        ),
                        "give the higher tier at least as much",
                    );
                }
            }
        }
    }
    found
}
