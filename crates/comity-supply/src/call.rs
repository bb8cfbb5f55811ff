//! One request to an upstream, already normalised.

use comity_wire::Op;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

/// What an upstream is asked. Every field of `body` is one that the gateway's table lets pass; nothing of the
/// client's headers comes this far.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which work is asked for. Generated text ([`Op::Chat`], [`Op::Completions`]) comes by
    /// [`Upstream::complete`](crate::Upstream::complete), all else in one piece by [`Upstream::answer`](crate::Upstream::answer).
    /// What an upstream does not do it refuses with [`UpstreamError::Unsupported`](crate::UpstreamError::Unsupported).
    pub op: Op,
    /// The model's name at the upstream, which need not be its name in the federation.
    pub model: String,
    /// The OpenAI request body without `model`, `stream` and `stream_options`: an upstream sets these itself, and
    /// always asks for a stream with usage, so that an abandoned call can be stopped and a finished one metered.
    pub body: Map<String, Value>,
    /// Cancelled when the caller has gone. The reply then ends with [`UpstreamError::Cancelled`](crate::UpstreamError::Cancelled).
    pub cancel: CancellationToken,
}

impl Call {
    pub fn new(op: Op, model: impl Into<String>, body: Map<String, Value>) -> Self {
        Self { op, model: model.into(), body, cancel: CancellationToken::new() }
    }

    /// Which work of the tokenizer a call of [`Op::Tokenize`] asks for.
    pub fn tokenizer(&self) -> Tokenizer {
        match () {
            () if self.body.contains_key("tokens") => Tokenizer::Decode,
            () if self.body.is_empty() => Tokenizer::Describe,
            () => Tokenizer::Encode,
        }
    }

    /// How many choices were asked for (`n`, and one per prompt of a list); at least one.
    pub fn choices(&self) -> u64 {
        let n = self.body.get("n").and_then(Value::as_u64).unwrap_or(1).max(1);
        let prompts = match self.body.get("prompt") {
            // A list of numbers is one prompt of token ids.
            Some(Value::Array(items)) if !items.iter().all(Value::is_number) => items.len() as u64,
            _ => 1,
        };
        n.saturating_mul(prompts.max(1))
    }
}

/// [`Op::Tokenize`] is three questions; the body tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// `{"prompt": text}` → `{"tokens": [id …]}`.
    Encode,
    /// `{"tokens": [id …]}` → `{"prompt": text}`.
    Decode,
    /// Nothing → `{"bos_token", "eos_token", "pad_token", "chat_template"}`, as far as they are known.
    Describe,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_token_ids_is_one_prompt_and_a_list_of_lists_is_several() {
        let choices = |body: Value| {
            let Value::Object(body) = body else { unreachable!() };
            Call::new(Op::Completions, "m", body).choices()
        };
        assert_eq!(choices(serde_json::json!({"prompt": [1, 2, 3]})), 1);
        assert_eq!(choices(serde_json::json!({"prompt": [[1, 2], [3]]})), 2);
        assert_eq!(choices(serde_json::json!({"prompt": ["a", "b"], "n": 3})), 6);
        assert_eq!(choices(serde_json::json!({"n": 0})), 1);
    }
}
