//! From the core's refusals to what a caller reads.

use comity_http::Refusal;
use comity_supply::UpstreamError;
use comity_token::policy::Requirement;
use comity_token::{Denied, Missing};
use comity_wire::object::{Manifest, OpRule, Policy, Tier};
use comity_wire::{Code, Op, Timestamp};
use serde_json::{Value, json};
use tracing::error;

use crate::gateway::Inner;
use crate::spend::{Refused, Rule};
use crate::store::StoreError;
use crate::writer::WriteError;

/// Soon enough for a request under way to end.
const IN_FLIGHT_RETRY_S: u64 = 1;

pub(crate) fn denied(denied: &Denied, now: Timestamp) -> Refusal {
    let refusal = Refusal::new(denied.code(), sentence(denied)).with("whose_move", "caller");
    match denied {
        Denied::Stale { .. } | Denied::Expired { .. } | Denied::NotYetValid { .. } => {
            refusal.with("node_time", now.seconds())
        }
        Denied::RosterBehind { .. } | Denied::RosterExpired { .. } | Denied::StandingStale { .. } => {
            refusal.with("whose_move", "owner").retry_after_s(30)
        }
        _ => refusal,
    }
}

pub(crate) fn refused(refused: &Refused) -> Refusal {
    let refusal = Refusal::new(refused.code(), refused.to_string()).with("whose_move", "caller");
    match refused {
        Refused::MaxTooLow { required, max, fits } => {
            let refusal = refusal.with("required", required.ucr()).with("max", max.ucr());
            output_fits(refusal, *fits).hint("sign a higher maximum, or ask for less")
        }
        Refused::BeyondPolicy { required, max, fits } => {
            let refusal = refusal.with("required", required.ucr()).with("limit", max.ucr()).param("max_tokens");
            output_fits(refusal, *fits).with("rule", json!({"limit": "charge_max"})).hint("ask for less")
        }
        Refused::BudgetExhausted { left, cap, hold } => {
            let refusal = refusal.with("remaining", left.ucr()).with("budget", cap.ucr()).with("required", hold.ucr());
            refusal.hint("draw a new token, or ask for less")
        }
        Refused::BudgetInFlight { .. } => refusal.retry_after_s(IN_FLIGHT_RETRY_S),
        Refused::AckRequired { unacknowledged, window } => {
            let refusal = refusal.with("unacknowledged", unacknowledged.ucr()).with("window", window.ucr());
            refusal.hint("send comity-acknowledgement with the same request, or POST /comity/v1/acknowledgements")
        }
        Refused::InFlight { .. } | Refused::StillOpen | Refused::Busy | Refused::AskedTooOften => {
            refusal.retry_after_s(IN_FLIGHT_RETRY_S)
        }
        Refused::Concurrency { rule, concurrency } => {
            let rule = rule_of(rule, "concurrency", u64::from(*concurrency));
            refusal.with("rule", rule).retry_after_s(IN_FLIGHT_RETRY_S)
        }
        Refused::RateWindow { rule, counted, limit, used, seconds, retry_after_s } => {
            let mut rule = rule_of(rule, counted.as_str(), *limit);
            (rule["window_s"], rule["used"]) = ((*seconds).into(), (*used).into());
            refusal.with("rule", rule).retry_after_s((*retry_after_s).max(1))
        }
        Refused::BeyondWindow { rule, counted, needed, limit, seconds } => {
            let mut rule = rule_of(rule, counted.as_str(), *limit);
            (rule["window_s"], rule["needed"]) = ((*seconds).into(), (*needed).into());
            refusal.with("rule", rule).hint("ask for less; waiting does not help")
        }
        Refused::BeyondPlan { op, counted, needed, most } => {
            let rule = json!({"op": op, "limit": counted, "value": most, "needed": needed});
            refusal.with("rule", rule).hint("ask for less, or apply with a plan that gives more")
        }
        Refused::RunUsedUp { run, op, counted, left } => {
            let rule = json!({"run": run, "op": op, "limit": counted, "left": left});
            refusal
                .with("rule", rule)
                .hint("ask for no more than is left, or begin another execution: another 'comity_run'")
        }
        Refused::RunOver { run, ended_at } => {
            let refusal = refusal.with("rule", json!({"run": run, "ended_at": ended_at.seconds()}));
            refusal.hint("begin another execution: another 'comity_run'")
        }
        Refused::ExecutionsUsed { executions } => {
            let refusal = refusal.with("rule", json!({"limit": "executions", "value": executions}));
            refusal.with("whose_move", "owner").hint("apply again with the plan for more executions")
        }
        Refused::RunInFlight { .. } => refusal.retry_after_s(IN_FLIGHT_RETRY_S),
        Refused::SeqOutsideSpan { highest, .. } => refusal.with("seq_highest", *highest),
        _ => refusal,
    }
}

/// The longest answer that would have been let in.
pub(crate) fn output_fits(refusal: Refusal, tokens: Option<u64>) -> Refusal {
    match tokens {
        Some(tokens) if tokens > 0 => refusal.with("output_tokens_fit", tokens),
        _ => refusal,
    }
}

fn rule_of(rule: &Rule, limit: &str, value: u64) -> Value {
    json!({"policy": rule.policy, "tier": rule.tier, "op": rule.op, "limit": limit, "value": value})
}

/// The way to more, where the owner's policy has said no: whom to ask, and the next tier with what it asks.
pub(crate) fn more(
    refusal: Refusal,
    inner: &Inner,
    manifest: &Manifest,
    policy: &Policy,
    op: Op,
    tier: Option<Tier>,
) -> Refusal {
    if refusal.status == http::StatusCode::PAYMENT_REQUIRED {
        // Its owner has no say in what a caller signs and holds.
        return refusal;
    }
    let owner = inner.directory.roster().organisation(manifest.org).map(|org| org.title.as_str().to_owned());
    let owner = owner.unwrap_or_else(|| manifest.org.to_string());
    let mut more = match &manifest.contact {
        Some(contact) => format!("ask {owner}: {contact}"),
        None => format!("ask {owner}"),
    };
    let above = |rule: &&OpRule| tier.is_some_and(|tier| rule.tier > tier);
    if let Some(next) = policy.rules_of(op).find(above).and_then(|rule| policy.tier(rule.tier)) {
        let grant = if next.grant { " and the owner's grant" } else { "" };
        more.push_str(&format!("; tier {} asks vetting '{}'{grant}", next.tier, next.vetting));
    }
    refusal.with("more", more)
}

pub(crate) fn missing(missing: &Missing, now: Timestamp) -> Refusal {
    let refusal = Refusal::new(missing.code, missing.message.clone())
        .with("whose_move", missing.whose_move.as_str())
        .with("requirement", format!("{:?}", missing.requirement));
    match missing.requirement {
        Requirement::Hours { opens_at } => {
            refusal.with("opens_at", opens_at.seconds()).retry_after_s(opens_at.since(now).max(1))
        }
        Requirement::Terms(terms) => refusal.with("terms", terms.to_string()).hint(format!(
            "`comity access terms show MODEL` reads them, `comity access terms sign MODEL --terms {terms}` agrees"
        )),
        _ => refusal,
    }
}

pub(crate) fn store(error: &StoreError) -> Refusal {
    error!(%error, "spend store");
    match error {
        StoreError::Overtaken { .. } => overtaken(),
        _ => unavailable(),
    }
}

pub(crate) fn write(error: &WriteError) -> Refusal {
    match error {
        WriteError::Refused(why) => refused(why),
        WriteError::Store(error) if matches!(**error, StoreError::Doubt) => Refusal::new(
            Code::StoreUnavailable,
            "this node cannot tell at the moment whether this was charged; the same request again is answered from its books",
        )
        .with("whose_move", "owner")
        .retry_after_s(5),
        WriteError::Store(error) => store(error),
        WriteError::Stopped => ended(),
    }
}

/// The writer has ended: only a start of the process mends it.
pub(crate) fn ended() -> Refusal {
    error!("the spend store's writer has ended: its panic stands above; start this process again");
    unavailable()
}

fn unavailable() -> Refusal {
    Refusal::new(Code::StoreUnavailable, "this node cannot keep its books at the moment; nothing was charged")
        .with("whose_move", "owner")
        .retry_after_s(5)
}

/// The store is well, and memory is too small for what is used at once.
fn overtaken() -> Refusal {
    Refusal::new(
        Code::StoreUnavailable,
        "more tokens or projects are used at this node at once than it keeps in memory; the same request again may be answered, and its \
         operator can let it keep more tokens (tokens_max)",
    )
    .with("whose_move", "owner")
    .retry_after_s(1)
}

pub(crate) fn form(message: impl Into<String>, param: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, message).param(param).with("whose_move", "caller")
}

/// What a caller may see of an upstream's failure. The detail is the owner's.
pub(crate) fn upstream(error: &UpstreamError) -> Refusal {
    match error {
        UpstreamError::Refused { status: 400, code: Some(code), .. } if code == "content_filter" => {
            Refusal::new(Code::ContentFilter, "the vendor's own filter does not let this through; nothing was charged")
                .with("whose_move", "caller")
        }
        UpstreamError::Refused { status: 400 | 413 | 422, code, message, .. } => {
            let long = code.as_deref() == Some("context_length_exceeded") || message.contains("context length");
            let code = if long { Code::ContextLengthExceeded } else { Code::InvalidRequest };
            Refusal::new(code, format!("the model's server refused the request: {message}"))
                .with("whose_move", "caller")
        }
        UpstreamError::Refused { status: 429 | 503 | 529, retry_after_s, .. } => {
            Refusal::new(Code::UpstreamUnavailable, "the model's server is busy; nothing was charged")
                .with("whose_move", "caller")
                .retry_after_s(retry_after_s.unwrap_or(5).clamp(1, 60))
        }
        UpstreamError::Unreachable { .. } => {
            Refusal::new(Code::UpstreamUnavailable, "the model's server cannot be reached; nothing was charged")
                .with("whose_move", "owner")
                .retry_after_s(10)
        }
        UpstreamError::Out { is_starting: true, retry_after_s } => {
            Refusal::new(Code::ModelStarting, "the model is being loaded; nothing was charged")
                .with("whose_move", "caller")
                .retry_after_s(*retry_after_s)
        }
        UpstreamError::Out { is_starting: false, retry_after_s } => {
            Refusal::new(Code::UpstreamUnavailable, "no instance of the model's server is up; nothing was charged")
                .with("whose_move", "owner")
                .retry_after_s(*retry_after_s)
        }
        UpstreamError::Unsupported { op } => {
            Refusal::new(Code::OpNotOffered, format!("the model's server does not do {op}"))
        }
        other => Refusal::new(
            Code::UpstreamFailed,
            format!("the model's server failed ({}); nothing was charged", other.name()),
        )
        .with("whose_move", "owner"),
    }
}

/// An error with its causes: a caller that sent bad bytes needs the offset.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn books_that_leave_memory_too_soon_are_their_operators_to_mend() {
        let error = StoreError::Overtaken { what: "an account", reads: 16 };
        let words = error.to_string();
        assert!(words.contains("an account left it each of the 16 times") && words.contains("tokens_max"), "{words}");
        for said in [store(&error), write(&WriteError::Store(Arc::new(error)))] {
            let said = format!("{said:?}");
            for part in ["store_unavailable", "tokens_max", "the same request again", "whose_move", "owner"] {
                assert!(said.contains(part), "{part}: {said}");
            }
            assert!(!said.contains("nothing was charged"), "it may be one that was: {said}");
        }
    }
}
