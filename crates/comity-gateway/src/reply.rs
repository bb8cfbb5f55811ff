//! What a caller reads: OpenAI's shapes, with cost, remaining, reserved and the receipt beside them.

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use comity_supply::{Delta, Usage};
use comity_token::request::header as named;
use comity_wire::{Amount, Op};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::phase::authorise::Authorised;
use crate::spend::Balance;

/// The parts that all chunks of a reply share.
pub(crate) struct Shape {
    id: String,
    op: Op,
    whole: &'static str,
    piece: &'static str,
    created: u64,
    model: String,
    include_usage: bool,
}

/// One choice, put together from its deltas.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    role: Option<String>,
    pub(crate) logprobs: Option<Value>,
    pub(crate) finish_reason: Option<String>,
}

impl Shape {
    pub(crate) fn of(authorised: &Authorised) -> Self {
        let authenticated = &authorised.authenticated;
        let (prefix, whole, piece) = authenticated.route.reply;
        // From the authority: the same request has the same id, however often it is tried.
        let id = authenticated.request.authority().id().to_string();
        Self {
            id: format!("{prefix}{}", &id[..24]),
            op: authorised.asked.op,
            whole,
            piece,
            created: authenticated.now.seconds(),
            model: authorised.asked.model.to_string(),
            include_usage: authorised.asked.include_usage,
        }
    }

    pub(crate) fn piece(&self, delta: &Delta, is_first: bool) -> Bytes {
        let logprobs = delta.logprobs.clone().map_or(Value::Null, tidy);
        let choice = if self.op == Op::Chat {
            let mut fields = Map::new();
            if is_first {
                fields.insert("role".into(), delta.role.as_deref().unwrap_or("assistant").into());
            }
            if !delta.text.is_empty() || is_first {
                fields.insert("content".into(), delta.text.as_str().into());
            }
            json!({"index": delta.index, "delta": fields, "logprobs": logprobs, "finish_reason": delta.finish_reason})
        } else {
            json!({"index": delta.index, "text": delta.text, "logprobs": logprobs, "finish_reason": delta.finish_reason})
        };
        self.chunk(json!([choice]), None)
    }

    /// The last chunk, for those who asked for it: no choices.
    pub(crate) fn usage_piece(&self, usage: Usage) -> Bytes {
        self.chunk(json!([]), Some(usage))
    }

    fn chunk(&self, choices: Value, usage: Option<Usage>) -> Bytes {
        let mut chunk = json!({
            "id": self.id, "object": self.piece, "created": self.created, "model": self.model, "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage.map_or(Value::Null, usage_of);
        }
        Bytes::from(chunk.to_string())
    }

    pub(crate) fn whole(&self, choices: Vec<Choice>, usage: Usage) -> Bytes {
        let choices: Vec<Value> =
            choices.into_iter().enumerate().map(|(index, choice)| self.choice(index, choice)).collect();
        let reply = json!({
            "id": self.id, "object": self.whole, "created": self.created, "model": self.model, "choices": choices,
            "usage": usage_of(usage),
        });
        Bytes::from(reply.to_string())
    }

    fn choice(&self, index: usize, choice: Choice) -> Value {
        let finish_reason = choice.finish_reason.unwrap_or_else(|| "stop".into());
        let logprobs = choice.logprobs.unwrap_or(Value::Null);
        if self.op == Op::Chat {
            let role = choice.role.unwrap_or_else(|| "assistant".into());
            let message = json!({"role": role, "content": choice.text});
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason})
        } else {
            json!({"index": index, "text": choice.text, "logprobs": logprobs, "finish_reason": finish_reason})
        }
    }
}

impl Choice {
    pub(crate) fn add(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.role = self.role.take().or(delta.role);
        self.finish_reason = delta.finish_reason.or_else(|| self.finish_reason.take());
        match (&mut self.logprobs, delta.logprobs.map(tidy)) {
            (Some(Value::Object(all)), Some(Value::Object(more))) => {
                for (name, value) in more {
                    match (all.get_mut(&name), value) {
                        (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
                        (None, value) => drop(all.insert(name, value)),
                        _ => {}
                    }
                }
            }
            (all @ None, more) => *all = more,
            _ => {}
        }
    }
}

/// How many tokens a delta shows by its log-probabilities; else one where it has text.
pub(crate) fn tokens_of(delta: &Delta) -> u64 {
    let listed =
        delta.logprobs.as_ref().and_then(|logprobs| logprobs.get("content").or_else(|| logprobs.get("tokens")));
    match listed.and_then(Value::as_array) {
        Some(tokens) => tokens.len() as u64,
        None => u64::from(!delta.text.is_empty()),
    }
}

/// SDKs want a list where some servers say null.
fn tidy(mut logprobs: Value) -> Value {
    for entry in logprobs.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(top) = entry.get_mut("top_logprobs").filter(|top| top.is_null()) {
            *top = json!([]);
        }
    }
    logprobs
}

fn usage_of(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
    })
}

pub(crate) fn whole(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The head of a stream; nothing between here and the caller should buffer it.
pub(crate) fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(crate) fn data(payload: &[u8]) -> Bytes {
    [b"data: ", payload, b"\n\n"].concat().into()
}

pub(crate) fn receipt_comment(receipt: &[u8]) -> Bytes {
    Bytes::from(format!(": {} {}\n\n", named::RECEIPT, URL_SAFE_NO_PAD.encode(receipt)))
}

pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";
pub(crate) const KEEP_ALIVE: &[u8] = b": wait\n\n";

/// A stream that was sent before, in one go.
pub(crate) fn pieces_again(pieces: Vec<Bytes>, receipt: &[u8], balance: Balance) -> Response {
    let mut body: Vec<u8> = pieces.iter().flat_map(|piece| data(piece)).collect();
    body.extend_from_slice(&receipt_comment(receipt));
    body.extend_from_slice(DONE);
    let mut response = stream(Body::from(body));
    money(response.headers_mut(), Some(Amount::ZERO), balance);
    response
}

/// What this request cost, where that is known yet, and what is left.
pub(crate) fn money(headers: &mut HeaderMap, cost: Option<Amount>, balance: Balance) {
    if let Some(cost) = cost {
        headers.insert(named::COST, HeaderValue::from(cost.ucr()));
    }
    headers.insert(named::REMAINING, HeaderValue::from(balance.remaining.ucr()));
    headers.insert(named::RESERVED, HeaderValue::from(balance.reserved.ucr()));
}

pub(crate) fn receipt(headers: &mut HeaderMap, bytes: &[u8]) {
    let value = HeaderValue::from_str(&format!(":{}:", STANDARD.encode(bytes)));
    headers.insert(named::RECEIPT, value.expect("base64 stands in a header"));
}

/// What was dropped and what was cut short.
pub(crate) fn notes(headers: &mut HeaderMap, authorised: &Authorised) {
    let ignored = authorised.asked.ignored.join(", ");
    if let Ok(value) = HeaderValue::from_str(&ignored)
        && !ignored.is_empty()
    {
        headers.insert(named::IGNORED, value);
    }
    if let Some(clip) = authorised.priced.clip {
        let text = format!("{}; output_tokens={}", clip.as_str(), authorised.priced.demand.output_tokens);
        headers.insert("comity-clipped", HeaderValue::from_str(&text).expect("plain text"));
    }
    let id = authorised.authenticated.request.authority().id().to_string();
    headers.insert("x-request-id", HeaderValue::from_str(&id[..24]).expect("hex digits"));
}
