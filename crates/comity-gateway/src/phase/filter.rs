//! What the prompt holds: counted into the receipt always, stopped where the policy says so.
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
use crate::guarding;
use crate::moderating::Side;
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
/// A prompt above this is looked at on a thread of its own: it takes milliseconds, and others wait on this one.
const INLINE_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn filter(inner: &Inner, mut held: Held) -> Result<Filtered, Refusal> {
    if let Form::Piece(work) = held.authorised.authenticated.route.form
        && !work.runs_the_model()
    {
        return Ok(Filtered { held, findings: Findings::default(), decoded: Vec::new() });
    }
    let decoded = decode(&held).await?;
    let texts = std::mem::take(&mut held.authorised.asked.texts);
    let (mut findings, texts, decoded) = look(inner, texts, decoded).await?;
    held.authorised.asked.texts = texts;
    inner.recall(held.authorised.subject()).await;
    let stopped = |findings: &Findings| {
        let by_text = guarding::stopped(&held.authorised.allowed.tier_rule, findings);
        by_text.or_else(|| inner.stopped_by_volume(&held.authorised, findings))
    };
    let mut stop = stopped(&findings);
    // What is stopped here is shown to nobody else.
    if stop.is_none() && inner.moderates(&held.authorised, Side::Prompt).is_some() {
        let texts: Vec<&str> = decoded.iter().chain(&held.authorised.asked.texts).map(String::as_str).collect();
        stop = match inner.moderate(&held.authorised, Side::Prompt, &texts, held.deadline).await {
            None => None,
            Some(Ok(found)) => {
                findings.beside(&found);
                stopped(&findings)
            }
            Some(Err(why)) => inner.unjudged(&held.authorised.allowed.tier_rule, &findings, why)?,
        };
    }
    if let Some((category, action)) = stop {
        // What was asked and not let through counts, too.
        inner.guard(&held.authorised, &findings).await;
        return Err(guarding::refusal(category, action));
    }
    Ok(Filtered { held, findings, decoded })
}

async fn look(
    inner: &Inner,
    texts: Vec<String>,
    decoded: Vec<String>,
) -> Result<(Findings, Vec<String>, Vec<String>), Refusal> {
    let filter = inner.filter.clone();
    let bytes: usize = decoded.iter().chain(&texts).map(String::len).sum();
    let look = move || {
        let mut findings = Findings::default();
        for text in decoded.iter().chain(&texts) {
            findings.merge(&filter.scan(text));
        }
        (findings, texts, decoded)
    };
    if bytes <= INLINE_BYTES_MAX {
        return Ok(look());
    }
    let looked = tokio::task::spawn_blocking(look).await;
    // Never fail open: what could not be looked at does not pass.
    looked.map_err(|error| Refusal::new(Code::Internal, format!("the prompt could not be looked at: {error}")))
}

/// The text of token ids.
///
/// # Errors
/// `text_required` where the owner stops what a prompt says and nobody here can say what this one does.
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
    rule.filters.iter().any(|filter| guarding::stops(filter.action))
}

/// The category that was found and that the policy does not let pass.
pub(crate) fn blocked(rule: &TierRule, findings: &Findings) -> Option<(Category, FilterAction)> {
    guarding::stopped(rule, findings)
}
