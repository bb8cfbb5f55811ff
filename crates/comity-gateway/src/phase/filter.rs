//! What the prompt holds: counted into the receipt always, refused only where the policy says `block`.
//!
//! Every text that the model would read is looked at: messages, what tools were called with and gave back, schemas, stops.
//! Token ids are turned back into text by the upstream's own tokenizer, so that they are no way around.

use comity_guard::{Category, Findings};
use comity_http::Refusal;
use comity_supply::{Call, UpstreamError};
use comity_wire::object::{FilterAction, TierRule};
use comity_wire::{Code, Op};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use super::forward;
use super::hold::Held;
use crate::gateway::Inner;
use crate::routes::Form;

/// A request whose prompt was looked at.
pub(crate) struct Filtered {
    pub(crate) held: Held,
    pub(crate) findings: Findings,
    /// What prompts of token ids say, in their order; empty where nobody could tell.
    pub(crate) decoded: Vec<String>,
}

/// Prompts of token ids that are turned back into text at once.
const DECODED_AT_ONCE: usize = 16;

pub(crate) async fn filter(inner: &Inner, held: Held) -> Result<Filtered, Refusal> {
    let mut findings = Findings::default();
    if let Form::Piece(work) = held.authorised.authenticated.route.form
        && !work.runs_the_model()
    {
        return Ok(Filtered { held, findings, decoded: Vec::new() });
    }
    let decoded = decode(&held).await?;
    for text in &decoded {
        findings.merge(&inner.filter.scan(text));
    }
    for text in &held.authorised.asked.texts {
        findings.merge(&inner.filter.scan(text));
    }
    if let Some(category) = blocked(&held.authorised.allowed.tier_rule, &findings) {
        let message = format!("the owner's filter does not let this through ({})", category.name());
        return Err(Refusal::new(Code::ContentFilter, message)
            .with("category", category.name())
            .with("whose_move", "caller"));
    }
    Ok(Filtered { held, findings, decoded })
}

/// The text of token ids.
///
/// # Errors
/// `text_required` where the owner blocks by what a prompt says and nobody here can say what this one does.
async fn decode(held: &Held) -> Result<Vec<String>, Refusal> {
    let authorised = &held.authorised;
    let decode_one = |ids: &[u32]| {
        let body = Map::from_iter([("tokens".to_owned(), Value::from(ids))]);
        let call = Call::new(Op::Tokenize, authorised.served.upstream_model.clone(), body);
        let answer = authorised.served.upstream.answer(call);
        async move {
            let answer =
                tokio::time::timeout_at(held.deadline, answer).await.unwrap_or_else(|_| Err(forward::late()))?;
            let text = answer.body.get("prompt").and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| UpstreamError::Malformed { detail: "no 'prompt' in what was detokenized".into() })
        }
    };
    let calls: Vec<_> = authorised.asked.ids().map(decode_one).collect();
    let decoded = futures::stream::iter(calls).buffered(DECODED_AT_ONCE).try_collect::<Vec<String>>().await;
    match decoded {
        Ok(decoded) => Ok(decoded),
        Err(_) if !may_block(&authorised.allowed.tier_rule) => Ok(Vec::new()),
        Err(error) => {
            tracing::warn!(model = %authorised.asked.model, %error, "token ids cannot be read");
            let message = "the owner's filter reads text, and this node cannot turn token ids back into it; send text";
            Err(Refusal::new(Code::TextRequired, message).with("whose_move", "caller"))
        }
    }
}

/// Whether what a prompt or an answer says can stop it.
pub(crate) fn may_block(rule: &TierRule) -> bool {
    rule.filters.iter().any(|filter| matches!(filter.action, FilterAction::Block | FilterAction::Suspend))
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
