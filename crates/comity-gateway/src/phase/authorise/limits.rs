//! The bounds that the owner's policy sets on what one call may ask (spec/03-manifest.md §3.6).

use comity_http::Refusal;
use comity_token::Allowed;
use comity_wire::object::{BiasKind, OpRule};
use comity_wire::{Code, Op};
use serde_json::Value;

use crate::config::Served;
use crate::fields::Asked;
use crate::phase::authenticate::Authenticated;
use crate::refusal;

/// What every call says, and what only makes it smaller: a policy's list of parameters need not name it.
const ALWAYS: [&str; 11] = [
    "model",
    "messages",
    "prompt",
    "input",
    "instructions",
    "tokens",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];
/// OpenAI's own bounds on a bias.
const BIAS_MAX: f64 = 100.0;

/// # Errors
/// The first bound that the call passes: `limit_exceeded`, with the field, the bound and its row.
pub(super) fn check(
    authenticated: &Authenticated,
    asked: &Asked,
    served: &Served,
    allowed: &Allowed,
    also: &[Allowed],
) -> Result<(), Refusal> {
    let rule = &allowed.rule;
    limit(rule, "bytes of the body", authenticated.body.len() as u64, u64::from(rule.input_bytes_max), "body")?;
    limit(rule, "choices", asked.generated, u64::from(rule.choices_max.min(served.choices_max)), "n")?;
    for row in also.iter().filter(|row| row.rule.op == Op::Batch) {
        let rule = &row.rule;
        limit(rule, "bytes of the body", authenticated.body.len() as u64, u64::from(rule.input_bytes_max), "body")?;
        limit(rule, "choices", asked.generated, u64::from(rule.choices_max), "n")?;
    }
    for row in also.iter().filter(|row| row.rule.op != Op::Batch) {
        let alternatives = row.rule.logprobs_max.max(rule.logprobs_max);
        let asked = asked.logprobs.unwrap_or(0);
        limit(&row.rule, "log-probabilities per token", asked, u64::from(alternatives), "logprobs")?;
    }
    parameters(rule, asked)?;
    logit_bias(rule, asked)?;
    if asked.echo && !served.echo {
        let message = format!("{} cannot repeat the prompt: 'echo' is not supported here", asked.model);
        return Err(Refusal::new(Code::OpNotOffered, message).param("echo").with("whose_move", "nobody"));
    }
    Ok(())
}

fn limit(rule: &OpRule, what: &str, asked: u64, max: u64, param: &str) -> Result<(), Refusal> {
    if asked <= max {
        return Ok(());
    }
    Err(refused(rule, format!("{asked} {what}, the owner allows {max}"), param).with("limit", max))
}

fn parameters(rule: &OpRule, asked: &Asked) -> Result<(), Refusal> {
    if rule.parameters.is_empty() {
        return Ok(());
    }
    let listed = |name: &str| ALWAYS.contains(&name) || rule.parameters.iter().any(|allowed| allowed.as_str() == name);
    let Some(name) = asked.body.keys().find(|name| !listed(name)) else { return Ok(()) };
    let names: Vec<&str> = rule.parameters.iter().map(|name| name.as_str()).collect();
    let message = format!("the owner does not allow '{name}' here; allowed are {}", names.join(", "));
    Err(refused(rule, message, name).with("allowed", names))
}

/// A bias and log-probabilities together read a model out, token by token: never both, whatever the policy says.
fn logit_bias(rule: &OpRule, asked: &Asked) -> Result<(), Refusal> {
    const FIELD: &str = "logit_bias";
    let Some(value) = asked.body.get(FIELD) else { return Ok(()) };
    let Some(allowed) = &rule.logit_bias else {
        return Err(refused(rule, "the owner does not allow 'logit_bias' here".into(), FIELD).with("limit", 0));
    };
    if asked.logprobs.is_some() {
        return Err(refused(rule, "'logit_bias' and log-probabilities are never given in one call".into(), FIELD));
    }
    let entries = value.as_object().map(|map| map.len()).unwrap_or_default() as u64;
    limit(rule, "biases", entries, u64::from(allowed.entries_max), FIELD)?;
    for bias in value.as_object().into_iter().flat_map(|map| map.values()) {
        let number = bias.as_f64().filter(|bias| bias.abs() <= BIAS_MAX);
        let number = number.ok_or_else(|| refusal::form("a bias must be a number from -100 to 100", FIELD))?;
        if allowed.kind == BiasKind::Block && number >= 0.0 {
            let message = format!("the owner allows negative biases only, to keep words out; {number} is not one");
            return Err(refused(rule, message, FIELD));
        }
    }
    Ok(())
}

fn refused(rule: &OpRule, message: String, param: &str) -> Refusal {
    Refusal::new(Code::LimitExceeded, message)
        .param(param)
        .with("rule", serde_json::json!({"tier": rule.tier, "op": rule.op, "limit": param}))
        .with("whose_move", "caller")
}

/// Rounds log-probabilities to so many decimals, whatever shape they came in: `logprob`, `token_logprobs`, and the maps
/// of `top_logprobs`.
pub(crate) fn round(value: &mut Value, decimals: u8) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| round(item, decimals)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match (name.as_str(), &mut *field) {
                    ("logprob", number) => round_number(number, decimals),
                    ("token_logprobs", Value::Array(numbers)) => {
                        numbers.iter_mut().for_each(|number| round_number(number, decimals));
                    }
                    ("top_logprobs", Value::Array(tokens)) => {
                        for token in tokens.iter_mut() {
                            round_named(token, decimals);
                            round(token, decimals);
                        }
                    }
                    _ => round(field, decimals),
                }
            }
        }
        _ => {}
    }
}

/// A map from words to numbers, as completions have them; any word may be a key of it, those of chat's fields too.
fn round_named(token: &mut Value, decimals: u8) {
    let numbers = token.as_object_mut().into_iter().flat_map(|map| map.values_mut());
    numbers.for_each(|number| round_number(number, decimals));
}

fn round_number(number: &mut Value, decimals: u8) {
    // A whole number has no decimals.
    let Some(exact) = number.as_f64().filter(|_| number.is_f64()) else { return };
    let scale = 10_f64.powi(i32::from(decimals));
    let rounded = (exact * scale).round() / scale;
    // Minus zero reads as a slip.
    *number = Value::from(if rounded == 0.0 { 0.0 } else { rounded });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn log_probabilities_are_rounded_in_every_shape_and_nothing_else_is() {
        let mut chat = json!({"content": [{"token": "a", "logprob": -0.123_456, "bytes": [97],
            "top_logprobs": [{"token": "a", "logprob": -0.123_456, "bytes": [97]}]}]});
        round(&mut chat, 2);
        assert_eq!(
            chat,
            json!({"content": [{"token": "a", "logprob": -0.12, "bytes": [97],
                "top_logprobs": [{"token": "a", "logprob": -0.12, "bytes": [97]}]}]})
        );
        let mut completions = json!({"tokens": ["a", "0.125"], "token_logprobs": [null, -0.125], "text_offset": [0, 1],
            "top_logprobs": [null, {"b": -0.001, "c": -9.876, "token": -1.234}]});
        round(&mut completions, 1);
        assert_eq!(
            completions,
            json!({"tokens": ["a", "0.125"], "token_logprobs": [null, -0.1], "text_offset": [0, 1],
                "top_logprobs": [null, {"b": 0.0, "c": -9.9, "token": -1.2}]})
        );
    }
}
