//! A policy as facts that can be compared: one for each place, in words.

use std::collections::BTreeMap;
use std::fmt::Display;

use comity_wire::object::{Filter, Hours, LogitBias, OpRule, Policy, TierRule, Window};
use serde::Serialize;

/// What stands at a place before and after; empty where nothing does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// As `t1.vetting` or `chat.t1.output_tokens_max`.
    pub place: String,
    pub before: String,
    pub after: String,
}

/// What differs between two policies of one model, in the order of the places.
pub fn changes(before: &Policy, after: &Policy) -> Vec<Change> {
    let (before, after) = (facts(before), facts(after));
    let places: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let at = |facts: &BTreeMap<String, String>, place: &String| facts.get(place).cloned().unwrap_or_default();
    let change = |place: &String| Change { place: place.clone(), before: at(&before, place), after: at(&after, place) };
    places.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

fn facts(policy: &Policy) -> BTreeMap<String, String> {
    // Who it is of, its number and its hour are not what it says.
    let Policy { org: _, name: _, version: _, models: _, tiers, rules, issued_at: _ } = policy;
    let mut facts = BTreeMap::new();
    tiers.iter().for_each(|rule| of_tier(rule, &mut facts));
    rules.iter().for_each(|rule| of_op(rule, &mut facts));
    facts
}

fn of_tier(rule: &TierRule, facts: &mut BTreeMap<String, String>) {
    let TierRule {
        tier,
        vetting,
        grant,
        purposes,
        identity,
        delegates,
        window_max,
        lanes_max,
        charge_max,
        concurrency,
        windows,
        logging,
        filters,
        terms,
        hours,
        priority: _,
        terms_from,
        terms_before,
    } = rule;
    let mut put = |name: &str, value: String| facts.insert(format!("{tier}.{name}"), value);
    put("vetting", vetting.to_string());
    put("grant", grant.to_string());
    put("purposes", listed(purposes, |purpose| purpose.as_str().to_owned()));
    put("identity", identity.to_string());
    put("delegates", delegates.to_string());
    put("window_max", window_max.to_string());
    put("lanes_max", lanes_max.to_string());
    put("charge_max", charge_max.to_string());
    put("concurrency", bound(*concurrency));
    put("windows", listed(windows, window));
    put("logging", logging.to_string());
    put("filters", listed(filters, |Filter { category, action }| format!("{}: {action}", category.as_str())));
    put("terms", terms.map_or_else(String::new, |terms| terms.to_string()));
    put("terms_from", some(terms_from.as_ref()));
    put("terms_before", some(terms_before.as_ref()));
    put("hours", listed(hours, open));
    put("priority", rule.priority().to_string());
}

fn of_op(rule: &OpRule, facts: &mut BTreeMap<String, String>) {
    let OpRule {
        op,
        tier,
        input_bytes_max,
        output_tokens_max,
        choices_max,
        logprobs_max,
        parameters,
        logprobs_decimals,
        logit_bias,
        concurrency,
        windows,
        charge_max,
    } = rule;
    let mut put = |name: &str, value: String| facts.insert(format!("{op}.{tier}.{name}"), value);
    put("input_bytes_max", input_bytes_max.to_string());
    put("output_tokens_max", output_tokens_max.to_string());
    put("choices_max", choices_max.to_string());
    put("logprobs_max", logprobs_max.to_string());
    put("parameters", listed(parameters, |name| name.as_str().to_owned()));
    put("logprobs_decimals", some(logprobs_decimals.as_ref()));
    let bias = |LogitBias { kind, entries_max }: &LogitBias| format!("{kind}, {entries_max} entries");
    put("logit_bias", logit_bias.as_ref().map_or_else(|| "none".to_owned(), bias));
    put("concurrency", some(concurrency.as_ref()));
    put("windows", listed(windows, window));
    put("charge_max", some(charge_max.as_ref()));
}

fn listed<T>(list: &[T], one: impl Fn(&T) -> String) -> String {
    list.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn some(value: Option<&impl Display>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn bound(most: u16) -> String {
    if most == 0 { "no bound".to_owned() } else { most.to_string() }
}

pub(super) fn window(window: &Window) -> String {
    let Window { seconds, requests, tokens } = window;
    let requests = requests.map(|requests| format!("{requests} requests"));
    let tokens = tokens.map(|tokens| format!("{tokens} tokens"));
    let counted: Vec<String> = requests.into_iter().chain(tokens).collect();
    format!("{} in {seconds} s", counted.join(" and "))
}

pub(super) fn open(hours: &Hours) -> String {
    let Hours { days, from, until } = hours;
    let days = if days.is_empty() { "every day".to_owned() } else { listed(days, ToString::to_string) };
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{days} {} to {} UTC", clock(*from), clock(*until))
}
