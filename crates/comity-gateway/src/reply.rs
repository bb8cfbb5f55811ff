//! What a caller reads: OpenAI's shapes, with cost, remaining, reserved and the receipt beside them.

mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use comity_guard::Findings;
use comity_supply::{Delta, ToolCall, Usage};
use comity_token::request::header as named;
use comity_wire::{Amount, Op};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value, json};

use self::shapes::{Content, OneChoice, Reply, UsageShown, Words};
use crate::guarding;
use crate::phase::authorise::Authorised;
use crate::responses::Writer;
use crate::routes::{Form, Names};
use crate::spend::{Balance, Limit, Standing};

/// The parts that all chunks of a reply share.
pub(crate) struct Shape {
    id: String,
    op: Op,
    names: Names,
    created: u64,
    model: String,
    include_usage: bool,
    /// Of the Responses API, whose events are its own.
    responses: Option<Writer>,
}

/// What goes out for one delta: payloads, and whether each carries what the delta said.
pub(crate) type Said = Vec<(Bytes, bool)>;

/// One choice, put together from its deltas.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    role: Option<String>,
    logprobs: Option<Value>,
    tool_calls: BTreeMap<u32, ToolCall>,
    pub(crate) finish_reason: Option<String>,
}

impl Shape {
    pub(crate) fn of(authorised: &Authorised) -> Self {
        let authenticated = &authorised.authenticated;
        let Form::Text(names) = authenticated.route.form else { unreachable!("only text has choices") };
        // From the authority: the same request has the same id, however often it is tried.
        let id = authenticated.request.id().to_string();
        Self {
            id: format!("{}{}", names.prefix, &id[..24]),
            op: authorised.asked.op,
            names,
            created: authenticated.now.seconds(),
            model: authorised.asked.model.to_string(),
            include_usage: authorised.asked.include_usage,
            responses: (authorised.asked.op == Op::Responses).then(|| {
                let limit = match authorised.asked.limit {
                    Limit::Stated(tokens) => Some(tokens),
                    Limit::None => None,
                };
                let model = authorised.asked.model.to_string();
                Writer::new(&id[..24], &model, authenticated.now.seconds(), limit, &authorised.asked.echoed)
            }),
        }
    }

    /// Whether the end of an answer is said once, with its usage, and not in the last piece of each choice.
    pub(crate) fn ends_at_once(&self) -> bool {
        self.responses.is_some()
    }

    pub(crate) fn said(&mut self, delta: &Delta, is_first: bool) -> Said {
        match &mut self.responses {
            Some(writer) => bytes(writer.delta(delta)),
            None => vec![(self.piece(delta, is_first), true)],
        }
    }

    /// What closes an answer that has ended like this.
    pub(crate) fn end(&mut self, reason: Option<&str>, usage: Usage) -> Said {
        match &mut self.responses {
            Some(writer) => bytes(writer.end(reason, usage)),
            None if self.include_usage => vec![(self.usage_piece(usage), false)],
            None => Vec::new(),
        }
    }

    fn piece(&self, delta: &Delta, is_first: bool) -> Bytes {
        let logprobs = delta.logprobs.clone().map_or(Value::Null, |given| tabled(self.op, given));
        let (index, finish_reason) = (delta.index, delta.finish_reason.as_deref());
        let content = if self.op == Op::Chat {
            let calls = delta.tool_calls.iter().map(|call| self.call_piece(delta.index, call));
            Content::Delta {
                delta: Words {
                    role: is_first.then(|| delta.role.as_deref().unwrap_or("assistant")),
                    content: (is_first || !delta.text.is_empty()).then_some(Some(delta.text.as_str())),
                    tool_calls: calls.collect(),
                },
            }
        } else {
            Content::Text { text: &delta.text }
        };
        self.chunk(&[OneChoice { index, content, logprobs, finish_reason }], None)
    }

    /// A piece of a tool call: its id, type and name stand in its first piece alone.
    fn call_piece(&self, choice: u32, call: &ToolCall) -> Value {
        let Some(name) = &call.name else {
            return json!({"index": call.index, "function": {"arguments": call.arguments}});
        };
        let id = self.call_id(choice, call);
        let function = json!({"name": name, "arguments": call.arguments});
        json!({"index": call.index, "id": id, "type": "function", "function": function})
    }

    /// The server's own name of a call, or one of ours where it has none.
    fn call_id(&self, choice: u32, call: &ToolCall) -> String {
        let named = call.id.clone().filter(|id| !id.is_empty());
        named.unwrap_or_else(|| {
            format!("call_{}_{choice}_{}", self.id.trim_start_matches(self.names.prefix), call.index)
        })
    }

    /// The last chunk, for those who asked for it: no choices.
    fn usage_piece(&self, usage: Usage) -> Bytes {
        self.chunk(&[], Some(usage))
    }

    fn chunk(&self, choices: &[OneChoice<'_>], usage: Option<Usage>) -> Bytes {
        self.written(self.names.piece, choices, self.include_usage.then(|| usage.map(UsageShown::of)))
    }

    fn written(&self, object: &str, choices: &[OneChoice<'_>], usage: Option<Option<UsageShown>>) -> Bytes {
        let (id, created, model) = (&self.id, self.created, &self.model);
        let reply = Reply { id, object, created, model, choices, usage };
        Bytes::from(serde_json::to_vec(&reply).expect("texts and numbers have a JSON form"))
    }

    pub(crate) fn whole(&mut self, mut choices: Vec<Choice>, usage: Usage) -> Bytes {
        if let Some(writer) = &mut self.responses {
            let choice = choices.into_iter().next().unwrap_or_default();
            let tool_calls = choice.tool_calls.into_values().collect();
            writer.delta(&Delta { text: choice.text, tool_calls, ..Delta::default() });
            return Bytes::from(writer.whole(choice.finish_reason.as_deref(), usage).to_string());
        }
        let choices: Vec<_> = (0..).zip(&mut choices).map(|(index, choice)| self.choice(index, choice)).collect();
        self.written(self.names.whole, &choices, Some(Some(UsageShown::of(usage))))
    }

    fn choice<'c>(&self, index: u32, choice: &'c mut Choice) -> OneChoice<'c> {
        let logprobs = choice.logprobs.take().map_or(Value::Null, |given| tabled(self.op, given));
        let choice = &*choice;
        let ends = if choice.tool_calls.is_empty() { "stop" } else { "tool_calls" };
        let finish_reason = Some(choice.finish_reason.as_deref().unwrap_or(ends));
        let content = if self.op == Op::Chat {
            let calls = choice.tool_calls.values().map(|call| {
                let function = json!({"name": call.name.as_deref().unwrap_or(""), "arguments": call.arguments});
                json!({"id": self.call_id(index, call), "type": "function", "function": function})
            });
            let says = choice.tool_calls.is_empty() || !choice.text.is_empty();
            Content::Message {
                message: Words {
                    role: Some(choice.role.as_deref().unwrap_or("assistant")),
                    content: Some(says.then_some(choice.text.as_str())),
                    tool_calls: calls.collect(),
                },
            }
        } else {
            Content::Text { text: &choice.text }
        };
        OneChoice { index, content, logprobs, finish_reason }
    }
}

impl Choice {
    /// Leaves nothing of what the model said.
    pub(crate) fn withhold(&mut self) {
        let (role, finish_reason) = (self.role.take(), self.finish_reason.take());
        *self = Self { role, finish_reason, ..Self::default() };
    }

    /// Bytes that the model wrote.
    pub(crate) fn bytes(&self) -> u64 {
        self.text.len() as u64 + self.tool_calls.values().map(call_bytes).sum::<u64>()
    }

    pub(crate) fn add(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.role = self.role.take().or(delta.role);
        self.finish_reason = delta.finish_reason.or_else(|| self.finish_reason.take());
        for call in delta.tool_calls {
            let whole = self
                .tool_calls
                .entry(call.index)
                .or_insert_with(|| ToolCall { index: call.index, ..ToolCall::default() });
            whole.id = whole.id.take().or(call.id);
            whole.name = whole.name.take().or(call.name);
            whole.arguments.push_str(&call.arguments);
        }
        match (&mut self.logprobs, delta.logprobs) {
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

/// How many tokens a delta shows by its log-probabilities; else one where it says something.
pub(crate) fn tokens_of(delta: &Delta) -> u64 {
    let listed =
        delta.logprobs.as_ref().and_then(|logprobs| logprobs.get("content").or_else(|| logprobs.get("tokens")));
    match listed.and_then(Value::as_array) {
        Some(tokens) => tokens.len() as u64,
        None => u64::from(bytes_of(delta) > 0),
    }
}

/// Bytes that the model wrote: text, and what it calls tools with.
pub(crate) fn bytes_of(delta: &Delta) -> u64 {
    delta.text.len() as u64 + delta.tool_calls.iter().map(call_bytes).sum::<u64>()
}

fn call_bytes(call: &ToolCall) -> u64 {
    (call.name.as_ref().map_or(0, String::len) + call.arguments.len()) as u64
}

/// Log-probabilities by the names that are tabled for callers, every float with its bits.
fn tabled(op: Op, mut given: Value) -> Value {
    const TEXT: [&str; 4] = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
    if op == Op::Completions {
        let take = |name: &str| Some((name.to_owned(), given.get_mut(name)?.take()));
        return TEXT.into_iter().filter_map(take).collect();
    }
    let entry = |mut given: Value| -> Map<String, Value> {
        let mut take = |name: &str| given.get_mut(name).map(Value::take);
        let (token, logprob) = (take("token").unwrap_or_default(), take("logprob").unwrap_or_default());
        [("token", token), ("logprob", logprob), ("bytes", take("bytes").unwrap_or_default())]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    };
    let list = |given: Option<Value>| match given {
        Some(Value::Array(items)) => items,
        // SDKs want a list where some servers say null.
        _ => Vec::new(),
    };
    let content = list(given.get_mut("content").map(Value::take)).into_iter().map(|mut token| {
        let top = list(token.get_mut("top_logprobs").map(Value::take)).into_iter().map(|one| entry(one).into());
        let top: Vec<Value> = top.collect();
        let mut fields = entry(token);
        fields.insert("top_logprobs".into(), top.into());
        Value::Object(fields)
    });
    json!({"content": content.collect::<Vec<_>>()})
}

fn bytes(events: Vec<crate::responses::Event>) -> Said {
    events.into_iter().map(|(event, carries)| (Bytes::from(event.to_string()), carries)).collect()
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

/// A frame. An event of the Responses API stands under its name, which its payload begins with.
pub(crate) fn data(payload: &[u8]) -> Bytes {
    let named = payload.strip_prefix(b"{\"type\":\"").filter(|rest| rest.starts_with(b"response."));
    match named.and_then(|rest| rest.split(|byte| *byte == b'"').next()) {
        Some(name) => [b"event: ", name, b"\ndata: ", payload, b"\n\n"].concat().into(),
        None => [b"data: ", payload, b"\n\n"].concat().into(),
    }
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

/// How the owner's windows stand, nearest to empty first: of each kind the first under OpenAI's names, each further
/// window under its own (spec/09-http.md §9.6).
pub(crate) fn pace(headers: &mut HeaderMap, standing: &[Standing]) {
    let mut told = BTreeSet::new();
    for row in standing {
        let counted = row.counted.as_str();
        let is_first = told.insert((row.counted, None));
        if !told.insert((row.counted, Some(row.seconds))) {
            // Another row with a window of this length: the one nearer to empty was told.
            continue;
        }
        let window = if is_first { String::new() } else { format!("-{}s", row.seconds) };
        let reset = format!("{}s", row.reset_s);
        let values = [("limit", row.limit.to_string()), ("remaining", row.remaining.to_string()), ("reset", reset)];
        for (what, value) in values {
            let name = HeaderName::try_from(format!("x-ratelimit-{what}-{counted}{window}"));
            let value = HeaderValue::try_from(value);
            headers.insert(name.expect("lower-case letters and digits"), value.expect("digits"));
        }
    }
}

pub(crate) fn receipt(headers: &mut HeaderMap, bytes: &[u8]) {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 2);
    text.push(':');
    STANDARD.encode_string(bytes, &mut text);
    text.push(':');
    let value = HeaderValue::from_maybe_shared(Bytes::from(text));
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
}

/// What the owner has callers told of what was found (`annotate`).
pub(crate) fn flags(headers: &mut HeaderMap, authorised: &Authorised, findings: &Findings) {
    if let Some(said) = guarding::annotation(&authorised.allowed.tier_rule, findings) {
        headers.insert("comity-flags", HeaderValue::from_str(&said).expect("names and numbers"));
    }
}

/// The same for a stream, whose headers are gone when its text is known.
pub(crate) fn flags_comment(authorised: &Authorised, findings: &Findings) -> Option<Bytes> {
    let said = guarding::annotation(&authorised.allowed.tier_rule, findings)?;
    Some(Bytes::from(format!(": comity-flags {said}\n\n")))
}
