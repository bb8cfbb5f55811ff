//! OpenAI's Responses API as one chat: what is asked becomes messages, what is answered becomes items.
//!
//! Nothing is kept between two calls: a conversation is sent whole each time, and `previous_response_id` is refused. The
//! events come in the order in which `openai-python` and `openai-node` put them together.

use std::collections::BTreeMap;

use comity_http::Refusal;
use comity_supply::{Delta, ToolCall, Usage};
use serde_json::{Map, Value, json};

use crate::refusal::form;

/// Turns a tabled body of `/v1/responses` into one of `/v1/chat/completions`; what the reply repeats of it is given back.
///
/// # Errors
/// 400, where the items are no conversation.
pub(crate) fn to_chat(body: &mut Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut echoed = Map::new();
    for name in ["instructions", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls", "text"] {
        body.get(name).inspect(|value| drop(echoed.insert(name.to_owned(), (*value).clone())));
    }
    let instructions = body.remove("instructions").map(|text| json!({"role": "system", "content": text}));
    let mut messages: Vec<Value> = instructions.into_iter().collect();
    match body.remove("input") {
        Some(Value::Array(items)) => items.into_iter().for_each(|item| say(&mut messages, item)),
        text => messages.push(json!({"role": "user", "content": text})),
    }
    if messages.is_empty() {
        return Err(form("'input' must hold something", "input"));
    }
    let mut chat = Map::from_iter([("messages".to_owned(), Value::Array(messages))]);
    if let Some(Value::Array(tools)) = body.remove("tools") {
        chat.insert("tools".into(), tools.into_iter().map(function).collect());
    }
    if let Some(choice) = body.remove("tool_choice") {
        chat.insert("tool_choice".into(), if choice.is_object() { function(choice) } else { choice });
    }
    if let Some(format) = body.remove("text").as_mut().and_then(|text| text.get_mut("format")).map(Value::take) {
        chat.insert("response_format".into(), response_format(format));
    }
    // What both call by one name.
    chat.append(body);
    *body = chat;
    Ok(echoed)
}

/// One item of a conversation as a message.
fn say(messages: &mut Vec<Value>, mut item: Value) {
    let mut take = |name: &str| item.get_mut(name).map(Value::take).unwrap_or_default();
    match take("type").as_str() {
        Some("function_call") => {
            let function = json!({"name": take("name"), "arguments": take("arguments")});
            let call = json!({"id": take("call_id"), "type": "function", "function": function});
            // Calls made in one turn stand in one message.
            match messages.last_mut().filter(|last| last["role"] == "assistant").map(|last| &mut last["tool_calls"]) {
                Some(Value::Array(calls)) => calls.push(call),
                Some(none) => *none = json!([call]),
                None => messages.push(json!({"role": "assistant", "tool_calls": [call]})),
            }
        }
        Some("function_call_output") => {
            let call = take("call_id");
            messages.push(json!({"role": "tool", "tool_call_id": call, "content": take("output")}));
        }
        _ => {
            let role = take("role");
            messages.push(json!({"role": role, "content": take("content")}));
        }
    }
}

/// Chat has a function's fields one level down.
fn function(given: Value) -> Value {
    let Value::Object(mut fields) = given else { return given };
    fields.remove("type");
    json!({"type": "function", "function": fields})
}

fn response_format(given: Value) -> Value {
    match given {
        Value::Object(mut fields) if fields.get("type").is_some_and(|kind| kind == "json_schema") => {
            fields.remove("type");
            json!({"type": "json_schema", "json_schema": fields})
        }
        other => other,
    }
}

/// An answer as it is written, event by event.
pub(crate) struct Writer {
    /// What ids of this answer end in.
    id: String,
    head: Map<String, Value>,
    sequence: u64,
    begun: bool,
    /// Items in the order in which they began.
    items: Vec<Item>,
    calls: BTreeMap<u32, usize>,
}

enum Item {
    Text { text: String, done: bool },
    Call { id: String, name: String, arguments: String },
}

/// An event, and whether it carries what the delta said: an answer is charged by what was taken.
pub(crate) type Event = (Value, bool);

impl Writer {
    pub(crate) fn new(id: &str, model: &str, created: u64, limit: Option<u64>, echoed: &Map<String, Value>) -> Self {
        let echo = |name: &str, default: Value| echoed.get(name).cloned().unwrap_or(default);
        let head = json!({
            "id": format!("resp_{id}"), "object": "response", "created_at": created, "status": "in_progress",
            "error": null, "incomplete_details": null, "instructions": echo("instructions", Value::Null),
            "max_output_tokens": limit, "model": model, "output": [], "previous_response_id": null, "store": false,
            "parallel_tool_calls": echo("parallel_tool_calls", true.into()),
            "temperature": echo("temperature", Value::Null), "top_p": echo("top_p", Value::Null),
            "text": echo("text", json!({"format": {"type": "text"}})),
            "tool_choice": echo("tool_choice", "auto".into()), "tools": echo("tools", json!([])),
            "metadata": {}, "usage": null,
        });
        let Value::Object(head) = head else { unreachable!("made as an object above") };
        Self { id: id.to_owned(), head, sequence: 0, begun: false, items: Vec::new(), calls: BTreeMap::new() }
    }

    /// What a delta adds.
    pub(crate) fn delta(&mut self, delta: &Delta) -> Vec<Event> {
        let mut events = self.begin();
        if !delta.text.is_empty() {
            self.text(&delta.text, &mut events);
        }
        for call in &delta.tool_calls {
            self.call(call, &mut events);
        }
        events
    }

    /// The end: every item is closed, and the whole comes once more.
    pub(crate) fn end(&mut self, reason: Option<&str>, usage: Usage) -> Vec<Event> {
        let mut events = self.begin();
        if self.items.is_empty() {
            self.open_text(&mut events);
        }
        let whole = self.whole(reason, usage);
        for at in 0..self.items.len() {
            self.close(at, &whole["output"][at], &mut events);
        }
        let kind = if whole["status"] == "completed" { "response.completed" } else { "response.incomplete" };
        self.push(&mut events, kind, json!({"response": whole}));
        events
    }

    /// The answer in one piece, as far as it has come.
    pub(crate) fn whole(&self, reason: Option<&str>, usage: Usage) -> Value {
        let short = match reason {
            Some("length") => Some("max_output_tokens"),
            Some("content_filter") => Some("content_filter"),
            _ => None,
        };
        let status = if short.is_some() { "incomplete" } else { "completed" };
        let mut whole = self.head.clone();
        whole.insert("status".into(), status.into());
        if let Some(reason) = short {
            whole.insert("incomplete_details".into(), json!({"reason": reason}));
        }
        let output = (0..self.items.len()).map(|at| self.item(at, status));
        whole.insert("output".into(), output.collect());
        whole.insert(
            "usage".into(),
            json!({
                "input_tokens": usage.input_tokens, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": usage.output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
            }),
        );
        whole.into()
    }

    fn begin(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            let response = Value::Object(self.head.clone());
            self.push(&mut events, "response.created", json!({"response": response}));
            self.push(&mut events, "response.in_progress", json!({"response": response}));
        }
        events
    }

    fn push(&mut self, events: &mut Vec<Event>, kind: &'static str, fields: Value) {
        let mut event = json!({"type": kind, "sequence_number": self.sequence});
        self.sequence += 1;
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        events.push((event, kind.ends_with(".delta")));
    }

    fn open_text(&mut self, events: &mut Vec<Event>) -> usize {
        let at = self.items.len();
        self.items.push(Item::Text { text: String::new(), done: false });
        let mut item = self.item(at, "in_progress");
        item["content"] = json!([]);
        self.push(events, "response.output_item.added", json!({"output_index": at, "item": item}));
        let part = part("");
        let fields = json!({"item_id": item["id"], "output_index": at, "content_index": 0, "part": part});
        self.push(events, "response.content_part.added", fields);
        at
    }

    fn text(&mut self, text: &str, events: &mut Vec<Event>) {
        let open = self.items.iter().position(|item| matches!(item, Item::Text { done: false, .. }));
        let at = open.unwrap_or_else(|| self.open_text(events));
        if let Item::Text { text: all, .. } = &mut self.items[at] {
            all.push_str(text);
        }
        let fields = json!({
            "item_id": self.item_id(at), "output_index": at, "content_index": 0, "delta": text, "logprobs": [],
        });
        self.push(events, "response.output_text.delta", fields);
    }

    fn call(&mut self, call: &ToolCall, events: &mut Vec<Event>) {
        let at = self.calls.get(&call.index).copied().unwrap_or_else(|| {
            let at = self.items.len();
            let id = call.id.clone().filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("call_{}_{}", self.id, call.index));
            let name = call.name.clone().unwrap_or_default();
            self.items.push(Item::Call { id, name, arguments: String::new() });
            self.calls.insert(call.index, at);
            let item = self.item(at, "in_progress");
            self.push(events, "response.output_item.added", json!({"output_index": at, "item": item}));
            at
        });
        if let Item::Call { arguments, .. } = &mut self.items[at] {
            arguments.push_str(&call.arguments);
        }
        let fields = json!({"item_id": self.item_id(at), "output_index": at, "delta": call.arguments});
        self.push(events, "response.function_call_arguments.delta", fields);
    }

    fn close(&mut self, at: usize, item: &Value, events: &mut Vec<Event>) {
        let id = self.item_id(at);
        match &mut self.items[at] {
            Item::Text { text, done } => {
                *done = true;
                let text = text.clone();
                let part = part(&text);
                let place = json!({"item_id": id, "output_index": at, "content_index": 0});
                let with = |name: &str, value: Value| {
                    let mut fields = place.clone();
                    fields[name] = value;
                    fields
                };
                let mut said = with("text", text.into());
                said["logprobs"] = json!([]);
                self.push(events, "response.output_text.done", said);
                self.push(events, "response.content_part.done", with("part", part));
            }
            Item::Call { name, arguments, .. } => {
                let fields = json!({"item_id": id, "output_index": at, "name": name, "arguments": arguments});
                self.push(events, "response.function_call_arguments.done", fields);
            }
        }
        self.push(events, "response.output_item.done", json!({"output_index": at, "item": item}));
    }

    fn item_id(&self, at: usize) -> String {
        let kind = if matches!(self.items[at], Item::Text { .. }) { "msg" } else { "fc" };
        format!("{kind}_{}_{at}", self.id)
    }

    fn item(&self, at: usize, status: &str) -> Value {
        let id = self.item_id(at);
        match &self.items[at] {
            Item::Text { text, .. } => {
                let content = json!([part(text)]);
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Item::Call { id: call, name, arguments } => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call, "name": name,
                "arguments": arguments,
            }),
        }
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
