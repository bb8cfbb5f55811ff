//! Anthropic's messages API, spoken for callers who speak OpenAI's: chat only, one choice, text in and text out.
//!
//! What the API has no word for is refused before anything is sent, so that nobody is charged for an answer to another
//! question than theirs.

mod decode;

use comity_wire::Op;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::openai::error_text;
use super::{Ask, Decode, Speak, clip, form};
use crate::server::ApiKey;
use crate::{Call, UpstreamError};

#[derive(Debug)]
pub(super) struct Anthropic {
    version: String,
}

/// The only version of the messages API there is.
const VERSION: &str = "2023-06-01";

pub(super) const FIELDS_REFUSED: &[&str] = &[
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "response_format",
    "seed",
    "tool_choice",
    "tools",
    "top_logprobs",
];

impl Anthropic {
    pub(super) fn new(version: Option<&str>) -> Self {
        Self { version: version.unwrap_or(VERSION).to_owned() }
    }
}

impl Speak for Anthropic {
    fn ask(&self, call: Call) -> Result<Ask, UpstreamError> {
        if call.op != Op::Chat {
            return Err(UpstreamError::Unsupported { op: call.op });
        }
        let mut body = Map::new();
        body.insert("model".into(), Value::String(call.model));
        body.insert("stream".into(), Value::Bool(true));
        for (name, value) in call.body {
            match name.as_str() {
                "messages" => messages(&value, &mut body)?,
                "max_tokens" | "top_p" => {
                    body.insert(name, value);
                }
                "temperature" if value.as_f64().is_some_and(|t| t > 1.0) => {
                    return Err(form("'temperature' goes from 0 to 1 with this model"));
                }
                "temperature" => {
                    body.insert(name, value);
                }
                "stop" => {
                    let list = if value.is_string() { json!([value]) } else { value };
                    body.insert("stop_sequences".into(), list);
                }
                "n" if value.as_u64() == Some(1) => {}
                _ => return Err(form(format!("this model's server has no '{name}'"))),
            }
        }
        if !body.contains_key("max_tokens") {
            return Err(form("'max_tokens' is missing: this model's server asks for it"));
        }
        Ok(Ask { path: "messages".into(), body })
    }

    fn decoder(&self, _: &Call) -> Box<dyn Decode> {
        Box::new(decode::Decoder::default())
    }

    fn headers(
        &self,
        key: Option<&ApiKey>,
    ) -> Vec<(HeaderName, Result<HeaderValue, http::header::InvalidHeaderValue>)> {
        let version = (HeaderName::from_static("anthropic-version"), HeaderValue::from_str(&self.version));
        let key = key.map(|key| (HeaderName::from_static("x-api-key"), HeaderValue::from_str(key.expose())));
        std::iter::once(version).chain(key).collect()
    }

    /// `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`: the type is what others call code.
    fn error(&self, body: &[u8]) -> (Option<String>, String) {
        let (code, message) = error_text(body);
        let kind = serde_json::from_slice::<Value>(body).ok();
        let kind = kind.as_ref().and_then(|value| value["error"]["type"].as_str()).map(clip);
        // "prompt is too long: 208310 tokens > 200000 maximum"
        let is_long = message.contains("prompt is too long");
        (if is_long { Some("context_length_exceeded".into()) } else { code.or(kind) }, message)
    }
}

/// System and developer messages go into one field of their own; the others keep their order.
fn messages(value: &Value, body: &mut Map<String, Value>) -> Result<(), UpstreamError> {
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    for message in value.as_array().into_iter().flatten() {
        if message.get("name").is_some() {
            return Err(form("this model's server has no 'name' in a message"));
        }
        let text = text(&message["content"])?;
        match message["role"].as_str() {
            Some("system" | "developer") => system.push(text),
            Some(role @ ("user" | "assistant")) => turns.push(json!({"role": role, "content": text})),
            _ => return Err(form("this model's server knows the roles system, user and assistant")),
        }
    }
    if turns.is_empty() {
        return Err(form("this model's server asks for at least one message of a user"));
    }
    if !system.is_empty() {
        body.insert("system".into(), Value::String(system.join("\n\n")));
    }
    body.insert("messages".into(), Value::Array(turns));
    Ok(())
}

/// A text, or text parts.
fn text(content: &Value) -> Result<String, UpstreamError> {
    let part = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    let text = match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => None,
    };
    text.ok_or_else(|| form("this model's server is asked in text only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: Value) -> Result<Value, UpstreamError> {
        let Value::Object(body) = body else { unreachable!() };
        let call = Call::new(Op::Chat, "m", body);
        Anthropic::new(None).ask(call).map(|ask| Value::Object(ask.body))
    }

    #[test]
    fn a_chat_becomes_messages_with_the_system_apart() {
        let asked = ask(json!({"max_tokens": 7, "temperature": 0, "stop": "x", "n": 1, "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c"}, {"role": "developer", "content": "Now."}, {"role": "user", "content": "d"}]}));
        let expected = json!({"model": "m", "stream": true, "max_tokens": 7, "temperature": 0, "stop_sequences": ["x"],
            "system": "Be brief.\n\nNow.", "messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"}]});
        assert_eq!(asked.unwrap(), expected);
    }

    #[test]
    fn what_the_api_has_no_word_for_is_refused_before_it_is_sent() {
        for (extra, word) in [
            (json!({"seed": 1}), "seed"),
            (json!({"n": 2}), "'n'"),
            (json!({"temperature": 1.5}), "temperature"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"messages": [{"role": "user", "name": "a", "content": "b"}]}), "'name'"),
            (json!({"messages": [{"role": "system", "content": "b"}]}), "user"),
            (json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}), "text"),
            (json!({"max_tokens": null}), "max_tokens"),
        ] {
            let mut body = json!({"max_tokens": 7, "messages": [{"role": "user", "content": "a"}]});
            for (name, value) in extra.as_object().unwrap() {
                body[name] = value.clone();
            }
            if body["max_tokens"].is_null() {
                body.as_object_mut().unwrap().remove("max_tokens");
            }
            let error = ask(body).unwrap_err();
            assert!(
                matches!(&error, UpstreamError::Refused { status: 400, message, .. } if message.contains(word)),
                "{error}"
            );
        }
    }

    #[test]
    fn only_chat_is_asked() {
        let call = Call::new(Op::Completions, "m", Map::new());
        assert!(matches!(Anthropic::new(None).ask(call), Err(UpstreamError::Unsupported { .. })));
    }

    #[test]
    fn an_error_is_named_by_its_type() {
        let error = |body: &str| Anthropic::new(None).error(body.as_bytes());
        let overloaded =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
        assert_eq!(error(overloaded), (Some("overloaded_error".into()), "Overloaded".into()));
        let long = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#;
        assert_eq!(error(long).0.as_deref(), Some("context_length_exceeded"));
    }
}
