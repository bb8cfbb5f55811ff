//! What a request asks for, read from its body, and the answer as it comes back.

use comity_wire::object::{Demand, Receipt};
use comity_wire::{Amount, ModelId, Op, Verified};
use serde_json::{Map, Value};

/// One query: a path of the door, and the JSON body that is sent as it stands here.
#[derive(Clone, Debug)]
pub struct Query {
    pub model: ModelId,
    pub op: Op,
    pub path: &'static str,
    pub body: Vec<u8>,
    pub stream: bool,
    pub demanded: Demanded,
    /// The most the caller lets this call cost; `None`: the wallet chooses.
    pub max_charge: Option<Amount>,
}

/// What both sides read from a body to find its worst case (spec/06-metering.md §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demanded {
    pub choices: u64,
    /// The stated limit of output tokens; `None` where the body states none.
    pub output_tokens: Option<u64>,
}

/// Why a body is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuery {
    #[error("the body must be a JSON object")]
    Json,
    #[error("the body must name a model as organisation/model")]
    Model,
    #[error("no such route: {0}")]
    Route(String),
}

/// What a node says of how it took a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Fields that it dropped.
    pub ignored: Option<String>,
    /// Which cap clipped the output, where one did.
    pub clipped: Option<String>,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Answer {
    pub body: Vec<u8>,
    pub receipt: Verified<Receipt>,
    pub notes: Notes,
}

impl Notes {
    pub(crate) fn of(headers: &http::HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { ignored: text(comity_token::request::header::IGNORED), clipped: text("comity-clipped") }
    }
}

impl Query {
    /// Reads an OpenAI request.
    ///
    /// # Errors
    /// [`NotAQuery`].
    pub fn from_body(path: &str, body: Vec<u8>) -> Result<Self, NotAQuery> {
        let (op, path) = match path {
            "/v1/chat/completions" => (Op::Chat, "/v1/chat/completions"),
            "/v1/completions" => (Op::Completions, "/v1/completions"),
            other => return Err(NotAQuery::Route(other.to_owned())),
        };
        let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else { return Err(NotAQuery::Json) };
        let model = fields.get("model").and_then(Value::as_str).and_then(|model| model.parse().ok());
        let model = model.ok_or(NotAQuery::Model)?;
        let stream = fields.get("stream").and_then(Value::as_bool).unwrap_or(false);
        let demanded = Demanded::read(op, &fields);
        Ok(Self { model, op, path, body, stream, demanded, max_charge: None })
    }

    /// A chat of one question.
    pub fn chat(model: ModelId, messages: &[(&str, &str)], max_tokens: Option<u32>, stream: bool) -> Self {
        let messages: Vec<_> =
            messages.iter().map(|(role, content)| serde_json::json!({"role": role, "content": content})).collect();
        let mut body = serde_json::json!({"model": model, "messages": messages, "stream": stream, "temperature": 0});
        if let Some(limit) = max_tokens {
            body["max_tokens"] = limit.into();
        }
        let body = serde_json::to_vec(&body).expect("a JSON value has bytes");
        Self::from_body("/v1/chat/completions", body).expect("a chat is a query")
    }

    pub fn demand(&self, output_ceiling: u64) -> Demand {
        let output_tokens = self.demanded.output_tokens.unwrap_or(output_ceiling);
        Demand { op: self.op, input_bytes: self.body.len() as u64, choices: self.demanded.choices, output_tokens }
    }
}

impl Demanded {
    pub fn read(op: Op, body: &Map<String, Value>) -> Self {
        let number = |name| body.get(name).and_then(Value::as_u64);
        let prompts = match body.get("prompt") {
            // A list of numbers is one prompt of token ids.
            Some(Value::Array(items)) if op == Op::Completions && !items.iter().all(Value::is_number) => {
                items.len() as u64
            }
            _ => 1,
        };
        let each = number("n").unwrap_or(1).max(number("best_of").unwrap_or(1)).max(1);
        // Both names count; OpenAI's newer one wins.
        let output_tokens = number("max_completion_tokens").or_else(|| number("max_tokens"));
        Self { choices: prompts.max(1).saturating_mul(each), output_tokens }
    }
}

impl Answer {
    /// The first choice's text, of chat or completions.
    pub fn text(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let choice = body.get("choices")?.get(0)?;
        let text = choice.get("message").and_then(|message| message.get("content")).or_else(|| choice.get("text"))?;
        text.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_how_often_and_how_much() {
        let read = |op, body: Value| Demanded::read(op, body.as_object().unwrap());
        let two = read(Op::Chat, serde_json::json!({"n": 2, "max_tokens": 9, "max_completion_tokens": 5}));
        assert_eq!(two, Demanded { choices: 2, output_tokens: Some(5) });
        let many = read(Op::Completions, serde_json::json!({"prompt": ["a", "b"], "best_of": 3}));
        assert_eq!(many, Demanded { choices: 6, output_tokens: None });
        assert_eq!(read(Op::Completions, serde_json::json!({"prompt": [1, 2]})).choices, 1);
    }
}
