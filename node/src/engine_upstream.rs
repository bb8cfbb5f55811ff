//! The built-in engine as an upstream: the engine knows no HTTP and supply knows no candle; here they meet.

use std::ops::ControlFlow;
use std::sync::Arc;

use comity_engine::{Finish, GenerateRequest, Model, Piece, chat};
use comity_supply::{Answer, BoxFuture, Call, Delta, Event, Health, Reply, Tokenizer, Upstream, UpstreamError, Usage};
use comity_wire::Op;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, mpsc};

/// One model, run on blocking threads; what does not fit waits.
#[derive(Debug)]
pub(crate) struct EngineUpstream {
    model: Model,
    name: String,
    turns: Arc<Semaphore>,
}

/// Calls that compute at once; a CPU model gains nothing from more.
const AT_ONCE: usize = 2;
/// Pieces computed ahead of a slow reader.
const PIECES_AHEAD: usize = 64;
/// What a call without a limit may generate here; the gateway has capped it by then.
const TOKENS_DEFAULT: usize = 64;

impl EngineUpstream {
    pub(crate) fn new(name: impl Into<String>, model: Model) -> Self {
        Self { model, name: name.into(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    fn request(&self, call: &Call) -> Result<GenerateRequest, UpstreamError> {
        let prompt = match call.op {
            Op::Chat => chat::render(&messages(&call.body)?).map_err(|error| refused(&error.to_string()))?,
            Op::Completions => match call.body.get("prompt") {
                Some(Value::String(prompt)) => prompt.clone(),
                Some(Value::Array(list)) if list.len() == 1 && list[0].is_string() => {
                    list[0].as_str().unwrap_or_default().to_owned()
                }
                _ => return Err(refused("prompt: the built-in engine takes one text")),
            },
            op => return Err(UpstreamError::Unsupported { op }),
        };
        for unable in ["tools", "best_of"] {
            if call.body.contains_key(unable) {
                return Err(refused(&format!("{unable}: the built-in engine has none")));
            }
        }
        if call.body.get("response_format").is_some_and(|format| format["type"] != "text") {
            return Err(refused("response_format: the built-in engine writes text as it comes"));
        }
        let number = |name: &str| call.body.get(name).and_then(Value::as_f64);
        let whole = |name: &str| call.body.get(name).and_then(Value::as_u64);
        let asked = whole("max_completion_tokens").or_else(|| whole("max_tokens"));
        let prompt_tokens = self.model.tokenizer().encode_prompt(&prompt);
        let room = self.model.context_tokens_max().saturating_sub(prompt_tokens.len());
        let max_tokens = asked
            .map_or_else(|| TOKENS_DEFAULT.min(room), |asked| usize::try_from(asked).unwrap_or(usize::MAX).min(room));
        if room == 0 {
            return Err(UpstreamError::Refused {
                status: 400,
                code: Some("context_length_exceeded".to_owned()),
                message: format!("the prompt fills the context of {} tokens", self.model.context_tokens_max()),
                retry_after_s: None,
            });
        }
        let request = GenerateRequest {
            prompt_tokens,
            max_tokens,
            temperature: number("temperature").unwrap_or(1.0),
            top_p: number("top_p").unwrap_or(1.0),
            // OpenAI's seeds are signed; one seed is as good as another.
            seed: call
                .body
                .get("seed")
                .and_then(Value::as_i64)
                .map(i64::cast_unsigned)
                .or_else(|| whole("seed"))
                .unwrap_or(0),
            stop: stops(call.body.get("stop")),
            logprobs: alternatives(call),
        };
        // Before the call is accepted: what is out of range is the caller's to mend, not a failure of the model.
        self.model.check(&request).map_err(|error| UpstreamError::Refused {
            status: 400,
            code: Some(error.code().to_owned()),
            message: error.to_string(),
            retry_after_s: None,
        })?;
        Ok(request)
    }
}

impl EngineUpstream {
    /// What the byte tokenizer makes of a text, and back.
    fn tokenize(&self, call: &Call) -> Result<Answer, UpstreamError> {
        let tokenizer = self.model.tokenizer();
        let body = match call.tokenizer() {
            Tokenizer::Encode => {
                let prompt = call.body.get("prompt").and_then(Value::as_str);
                let prompt = prompt.ok_or_else(|| refused("prompt: the built-in engine takes one text"))?;
                let bare = call.body.get("add_special_tokens").and_then(Value::as_bool) == Some(false);
                let tokens = if bare { tokenizer.encode(prompt) } else { tokenizer.encode_prompt(prompt) };
                json!({"count": tokens.len(), "max_model_len": self.model.context_tokens_max(), "tokens": tokens})
            }
            Tokenizer::Decode => {
                let tokens: Option<Vec<u32>> = call.body.get("tokens").and_then(Value::as_array).and_then(|tokens| {
                    tokens.iter().map(|token| token.as_u64().and_then(|token| u32::try_from(token).ok())).collect()
                });
                let tokens = tokens.ok_or_else(|| refused("tokens: a list of token ids is expected"))?;
                json!({"prompt": tokenizer.decode(&tokens)})
            }
            Tokenizer::Describe => json!({
                "bos_token": tokenizer.piece(comity_engine::tokenizer::BOS),
                "eos_token": tokenizer.piece(comity_engine::tokenizer::EOS),
                "pad_token": null,
                "chat_template": null,
            }),
        };
        Ok(Answer { body, usage: None })
    }
}

fn refused(message: &str) -> UpstreamError {
    UpstreamError::Refused {
        status: 400,
        code: Some("invalid_request".to_owned()),
        message: message.to_owned(),
        retry_after_s: None,
    }
}

/// Role and text of each message; content is a string or a list of text parts.
fn messages(body: &Map<String, Value>) -> Result<Vec<(String, String)>, UpstreamError> {
    let list = body.get("messages").and_then(Value::as_array).ok_or_else(|| refused("messages: a list is expected"))?;
    let text = |content: &Value| match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect::<Option<String>>()
        }
        Value::Null => Some(String::new()),
        _ => None,
    };
    let message = |message: &Value| {
        let role = message.get("role").and_then(Value::as_str)?;
        Some((role.to_owned(), text(message.get("content")?)?))
    };
    list.iter().map(message).collect::<Option<_>>().ok_or_else(|| refused("messages: each needs a role and a text"))
}

fn stops(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Alternatives per token, where log-probabilities are asked for.
fn alternatives(call: &Call) -> Option<u8> {
    let count = |name: &str| call.body.get(name).and_then(Value::as_u64).and_then(|count| u8::try_from(count).ok());
    match call.op {
        Op::Chat => call.body.get("logprobs").and_then(Value::as_bool)?.then(|| count("top_logprobs").unwrap_or(0)),
        _ => count("logprobs"),
    }
}

impl Upstream for EngineUpstream {
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>> {
        Box::pin(async move {
            let request = self.request(&call)?;
            let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| UpstreamError::Cancelled)?;
            let (send, receive) = mpsc::channel(PIECES_AHEAD);
            let model = self.model.clone();
            tokio::task::spawn_blocking(move || {
                run(&model, &call, &request, &send);
                drop(turn);
            });
            let events = futures::stream::unfold(receive, async |mut receive| {
                receive.recv().await.map(|event| (event, receive))
            });
            Ok(Reply::new(events))
        })
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        let answered = match call.op {
            Op::Tokenize => self.tokenize(&call),
            op => Err(UpstreamError::Unsupported { op }),
        };
        Box::pin(async move { answered })
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let models = vec![self.name.clone()];
        Box::pin(async move { Health::ready(models) })
    }
}

/// Computes on a blocking thread; a reader that went away, or a cancelled call, ends it at the next piece.
fn run(model: &Model, call: &Call, request: &GenerateRequest, send: &mpsc::Sender<Result<Event, UpstreamError>>) {
    let mut first = true;
    let mut offset = 0;
    let outcome = model.generate(request, &mut |piece| {
        let role = (first && call.op == Op::Chat).then(|| "assistant".to_owned());
        first = false;
        let logprobs = request.logprobs.map(|_| logprobs(call.op, &piece, &mut offset));
        let delta = Delta { role, text: piece.text, logprobs, ..Delta::default() };
        let gone = call.cancel.is_cancelled() || send.blocking_send(Ok(Event::Delta(delta))).is_err();
        if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let say = |event| send.blocking_send(event).is_ok();
    match outcome {
        Ok(outcome) if outcome.finish == Finish::Cancelled => {
            say(Err(UpstreamError::Cancelled));
        }
        Ok(outcome) => {
            let end = Delta { finish_reason: Some(outcome.finish.as_str().to_owned()), ..Delta::default() };
            let count = |tokens: usize| tokens as u64;
            let usage = Usage {
                input_tokens: count(outcome.usage.prompt_tokens),
                output_tokens: count(outcome.usage.completion_tokens),
            };
            let _ = say(Ok(Event::Delta(end))) && say(Ok(Event::Usage(usage))) && say(Ok(Event::Done));
        }
        Err(error) => {
            say(Err(UpstreamError::Failed { code: Some(error.code().to_owned()), message: error.to_string() }));
        }
    }
}

/// OpenAI's shapes: `{"content": […]}` for chat, parallel lists for completions.
fn logprobs(op: Op, piece: &Piece, offset: &mut usize) -> Value {
    if op == Op::Chat {
        let entry = |token: &comity_engine::Scored| json!({"token": token.piece, "logprob": token.logprob, "bytes": token.bytes});
        let content: Vec<_> = piece
            .tokens
            .iter()
            .map(|token| {
                let mut value = entry(token);
                value["top_logprobs"] = token.top.iter().map(entry).collect();
                value
            })
            .collect();
        return json!({"content": content});
    }
    let tokens: Vec<_> = piece.tokens.iter().map(|token| token.piece.clone()).collect();
    let values: Vec<_> = piece.tokens.iter().map(|token| token.logprob).collect();
    let top: Vec<Value> = piece
        .tokens
        .iter()
        .map(|token| {
            token.top.iter().map(|other| (other.piece.clone(), json!(other.logprob))).collect::<Map<_, _>>().into()
        })
        .collect();
    let offsets: Vec<_> =
        piece.tokens.iter().map(|token| std::mem::replace(offset, *offset + token.bytes.len())).collect();
    json!({"tokens": tokens, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{self, Loaded};

    fn tiny() -> EngineUpstream {
        let Ok(Loaded::Language(model)) = models::load("comity-tiny") else { panic!("it ships") };
        EngineUpstream::new("comity-tiny", *model)
    }

    #[test]
    fn what_is_out_of_range_is_refused_before_it_is_accepted() {
        let engine = tiny();
        let check = |field: &str, value: Value, is_good: bool| {
            let mut body = json!({"messages": [{"role": "user", "content": "2+2="}], "max_tokens": 4});
            body[field] = value.clone();
            let call = Call::new(Op::Chat, "comity-tiny", body.as_object().unwrap().clone());
            match engine.request(&call) {
                Ok(_) => assert!(is_good, "{field} {value} was accepted"),
                Err(UpstreamError::Refused { status: 400, message, .. }) => {
                    assert!(!is_good && message.contains(field), "{field} {value}: {message}");
                }
                Err(error) => panic!("{field} {value}: {error}"),
            }
        };
        check("temperature", json!(2.5), false);
        check("temperature", json!(2), true);
        check("top_p", json!(0), false);
        check("top_p", json!(1), true);
        check("stop", json!(""), false);
        check("stop", json!(["\n"]), true);
        check("seed", json!(-1), true);
        check("tools", json!([{}]), false);
        check("response_format", json!({"type": "json_object"}), false);
        check("response_format", json!({"type": "text"}), true);
    }

    #[tokio::test]
    async fn the_engine_tokenizes_and_refuses_what_it_cannot_do() {
        let engine = tiny();
        let ask = async |op, body: Value| engine.answer(Call::new(op, "m", body.as_object().unwrap().clone())).await;
        let tokens = ask(Op::Tokenize, json!({"prompt": "ab"})).await.unwrap().body;
        assert_eq!((&tokens["tokens"], &tokens["count"]), (&json!([1, 100, 101]), &json!(3)));
        let bare = ask(Op::Tokenize, json!({"prompt": "ab", "add_special_tokens": false})).await.unwrap().body;
        assert_eq!(bare["tokens"], json!([100, 101]));
        assert_eq!(ask(Op::Tokenize, json!({"tokens": [1, 100, 101]})).await.unwrap().body["prompt"], "ab");
        assert_eq!(ask(Op::Tokenize, json!({})).await.unwrap().body["eos_token"], "</s>");
        assert!(ask(Op::Tokenize, json!({"tokens": [-1]})).await.is_err());
        assert_eq!(ask(Op::Embeddings, json!({"input": "a"})).await.unwrap_err().name(), "unsupported");
    }

    #[test]
    fn content_may_be_parts_and_must_be_text() {
        let body = |value: Value| value.as_object().unwrap().clone();
        let parts = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]});
        assert_eq!(messages(&body(parts)).unwrap(), [("user".to_owned(), "ab".to_owned())]);
        let image = json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]});
        assert!(messages(&body(image)).is_err());
        assert!(messages(&body(json!({}))).is_err());
    }
}
