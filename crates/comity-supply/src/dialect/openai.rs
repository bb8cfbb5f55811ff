//! OpenAI's API: its own, and what servers make of it.

mod decode;
mod logprobs;

use comity_wire::Op;
use serde_json::{Value, json};

pub(super) use decode::{answer, error_text};

use super::{Ask, Decode, Flavour, Question, Speak, Tokens};
use crate::{Answer, Call, Tokenizer, UpstreamError};

#[derive(Debug)]
pub(super) struct OpenAi(pub(super) Flavour);

impl Speak for OpenAi {
    fn ask(&self, call: Call) -> Result<Ask, UpstreamError> {
        let path = match call.op {
            Op::Chat => "chat/completions",
            Op::Completions => "completions",
            op => return Err(UpstreamError::Unsupported { op }),
        };
        let mut body = call.body;
        body.insert("model".into(), Value::String(call.model));
        body.insert("stream".into(), Value::Bool(true));
        // Asked for always: what ends without it can only be metered by what was relayed.
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        for (field, value) in self.0.unless_said {
            body.entry(*field).or_insert(Value::from(*value));
        }
        if call.op == Op::Chat
            && self.0.chat_limit != "max_tokens"
            && let Some(limit) = body.shift_remove("max_tokens")
        {
            body.insert(self.0.chat_limit.into(), limit);
        }
        Ok(Ask { path: path.to_owned(), body })
    }

    fn decoder(&self, call: &Call) -> Box<dyn Decode> {
        Box::new(decode::Decoder::new(call.op, call.choices(), self.0.ends_without_done))
    }

    fn question(&self, call: &Call) -> Result<Question, UpstreamError> {
        let mut body = call.body.clone();
        body.insert("model".into(), Value::String(call.model.clone()));
        // The tokenizer stands beside `/v1`, not under it.
        let (at_root, path, body) = match (call.op, call.tokenizer(), self.0.tokens) {
            (Op::Embeddings, ..) => (false, "embeddings", Some(body)),
            (Op::Moderations, ..) => {
                if call.model.is_empty() {
                    body.shift_remove("model");
                }
                (false, "moderations", Some(body))
            }
            (Op::Tokenize, Tokenizer::Encode, Tokens::LlamaCpp) => {
                let special = body.shift_remove("add_special_tokens").unwrap_or(Value::Bool(true));
                let content = body.shift_remove("prompt").unwrap_or_default();
                let body = [("content".to_owned(), content), ("add_special".to_owned(), special)];
                (true, "tokenize", Some(body.into_iter().collect()))
            }
            (Op::Tokenize, Tokenizer::Describe, Tokens::LlamaCpp) => (true, "props", None),
            (Op::Tokenize, Tokenizer::Encode, Tokens::Vllm) => (true, "tokenize", Some(body)),
            (Op::Tokenize, Tokenizer::Decode, Tokens::Vllm | Tokens::LlamaCpp) => (true, "detokenize", Some(body)),
            (Op::Tokenize, Tokenizer::Describe, Tokens::Vllm) => (true, "tokenizer_info", None),
            // Not OpenAI's: `{"inputs": […]}` → `{"outputs": […]}`.
            (Op::Predict, ..) if !self.0.is_vendor => (false, "predict", Some(body)),
            (op, ..) => return Err(UpstreamError::Unsupported { op }),
        };
        Ok(Question { at_root, path, body })
    }

    fn answer(&self, call: &Call, body: &[u8]) -> Result<Answer, UpstreamError> {
        let mut answer = answer(body)?;
        if call.op == Op::Tokenize && self.0.tokens == Tokens::LlamaCpp {
            let said = answer.body;
            answer.body = match call.tokenizer() {
                Tokenizer::Encode => {
                    json!({"tokens": said["tokens"], "count": said["tokens"].as_array().map(Vec::len)})
                }
                Tokenizer::Decode => json!({"prompt": said["content"]}),
                Tokenizer::Describe => json!({"bos_token": said["bos_token"], "eos_token": said["eos_token"],
                    "pad_token": null, "chat_template": said["chat_template"]}),
            };
        }
        Ok(answer)
    }
}
