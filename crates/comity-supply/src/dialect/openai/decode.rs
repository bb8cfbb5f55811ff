//! OpenAI's answers as [`Event`]s: pure, for streams and for servers that answer in one piece although asked to stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use comity_wire::Op;
use serde::Deserialize;
use serde_json::Value;

use super::logprobs;
use crate::dialect::{Decode, clip, malformed};
use crate::{Answer, Delta, Event, ToolCall, UpstreamError, Usage};

/// Turns the frames of one answer into events. Remembers which choices have finished.
#[derive(Debug)]
pub(super) struct Decoder {
    op: Op,
    choices_max: u64,
    finished: BTreeSet<u32>,
    /// Tool calls that have begun, per choice.
    tool_calls: BTreeMap<u32, u32>,
    /// Characters of log-probabilities so far, per choice.
    offsets: BTreeMap<u32, usize>,
    ends_without_done: bool,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    error: Option<Value>,
    object: Option<String>,
    message: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u32>,
    delta: Option<Message>,
    message: Option<Message>,
    text: Option<String>,
    logprobs: Option<Value>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    role: Option<String>,
    content: Option<String>,
    tool_calls: Option<Vec<RawToolCall>>,
}

#[derive(Deserialize)]
struct RawToolCall {
    index: Option<u32>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

impl Decode for Decoder {
    fn frame(&mut self, data: &str, events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        if data.trim() == "[DONE]" {
            // Some say so where they broke off: a call that ended another's, a worker that was told to stop.
            if self.finished.is_empty() {
                return Err(malformed("it said [DONE] before a choice had finished"));
            }
            events.push_back(Event::Done);
            return Ok(());
        }
        self.chunk(data.as_bytes(), events)
    }

    fn body(&mut self, body: &[u8], events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        self.chunk(body, events)?;
        if self.finished.is_empty() {
            return Err(malformed("an answer in one piece in which no choice has finished"));
        }
        events.push_back(Event::Done);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.ends_without_done && self.finished.len() as u64 == self.choices_max
    }
}

impl Decoder {
    pub(super) fn new(op: Op, choices_max: u64, ends_without_done: bool) -> Self {
        let (finished, tool_calls, offsets) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { op, choices_max, finished, tool_calls, offsets, ends_without_done }
    }

    fn chunk(&mut self, json: &[u8], events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        // The text is the model's: an error says where, never what.
        let chunk: Chunk = serde_json::from_slice(json)
            .map_err(|e| malformed(format!("a frame that is no chunk (line {}, column {})", e.line(), e.column())))?;
        if let Some(error) = chunk.error {
            return Err(failed(&error));
        }
        if chunk.object.as_deref() == Some("error") {
            return Err(failed(&chunk.message.unwrap_or_default()));
        }
        if chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(malformed("a frame with neither choices nor usage"));
        }
        for choice in chunk.choices.unwrap_or_default() {
            events.extend(self.choice(choice)?.map(Event::Delta));
        }
        events.extend(chunk.usage.as_ref().and_then(usage).map(Event::Usage));
        Ok(())
    }

    fn choice(&mut self, choice: Choice) -> Result<Option<Delta>, UpstreamError> {
        let index = choice.index.unwrap_or(0);
        if u64::from(index) >= self.choices_max {
            return Err(malformed(format!("choice {index} where {} were asked for", self.choices_max)));
        }
        let (role, text, raw) = if self.op == Op::Chat {
            choice.delta.or(choice.message).map_or((None, None, None), |m| (m.role, m.content, m.tool_calls))
        } else {
            (None, choice.text, None)
        };
        let text = text.unwrap_or_default();
        let tool_calls = self.tool_calls(index, raw.unwrap_or_default())?;
        if self.finished.contains(&index) {
            // Some servers repeat the finish reason beside the usage; text after the end is another thing.
            return if text.is_empty() && tool_calls.is_empty() {
                Ok(None)
            } else {
                Err(malformed("text after a choice has finished"))
            };
        }
        let finish_reason = choice.finish_reason.filter(|reason| !reason.is_empty());
        if finish_reason.is_some() {
            self.finished.insert(index);
        }
        let offset = self.offsets.entry(index).or_default();
        let logprobs = choice.logprobs.filter(|l| !l.is_null()).map(|said| logprobs::tidy(self.op, said, offset));
        let delta = Delta { index, role, text, logprobs, tool_calls, finish_reason };
        let empty = delta == Delta { index, ..Delta::default() };
        Ok((!empty).then_some(delta))
    }

    fn tool_calls(&mut self, choice: u32, raw: Vec<RawToolCall>) -> Result<Vec<ToolCall>, UpstreamError> {
        let begun = self.tool_calls.entry(choice).or_default();
        let read = |RawToolCall { index, id, function }: RawToolCall| {
            let function = function.unwrap_or(Function { name: None, arguments: None });
            let arguments = match function.arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                // Servers that have read what the model wrote before passing it on.
                Some(other) => other.to_string(),
            };
            // Without a number: a call that is named begins, another goes on.
            let begins = function.name.is_some() || *begun == 0;
            let index = index.unwrap_or(if begins { *begun } else { *begun - 1 });
            if index >= TOOL_CALLS_MAX {
                return Err(malformed(format!("tool call {index}, at most {TOOL_CALLS_MAX} in a choice")));
            }
            *begun = (*begun).max(index + 1);
            Ok(ToolCall { index, id, name: function.name, arguments })
        };
        raw.into_iter().map(read).collect()
    }
}

/// The most tool calls of one choice.
const TOOL_CALLS_MAX: u32 = 128;

/// A whole answer that is not generated text.
pub(in crate::dialect) fn answer(body: &[u8]) -> Result<Answer, UpstreamError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|e| malformed(format!("an answer that is no JSON (line {}, column {})", e.line(), e.column())))?;
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Err(failed(error));
    }
    let usage = body.get("usage").and_then(|usage| usage.get("prompt_tokens")).and_then(Value::as_u64);
    let usage = usage.map(|input_tokens| Usage { input_tokens, output_tokens: 0 });
    Ok(Answer { body, usage })
}

/// What an error body says: `{"error": {…}}`, `{"error": "…"}`, `{"message": …}`, `{"detail": …}`, or text.
pub(in crate::dialect) fn error_text(body: &[u8]) -> (Option<String>, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (None, clip(&String::from_utf8_lossy(body)));
    };
    let error = value.get("error").filter(|e| !e.is_null()).unwrap_or(&value);
    let message = match error {
        Value::String(message) => message.clone(),
        _ => match error.get("message").or_else(|| error.get("detail")) {
            Some(Value::String(message)) => message.clone(),
            Some(other) => other.to_string(),
            None => error.to_string(),
        },
    };
    let code = error.get("code").and_then(|c| match c {
        Value::String(code) => Some(clip(code)),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    });
    (code, clip(&message))
}

/// A count that is none (negative, a word, an object) is a count that is missing: the charge then rests on what was relayed.
fn usage(said: &Value) -> Option<Usage> {
    let input_tokens = said.get("prompt_tokens")?.as_u64()?;
    // Left out by some servers where it is 0.
    let output_tokens = match said.get("completion_tokens") {
        None | Some(Value::Null) => 0,
        Some(said) => said.as_u64()?,
    };
    Some(Usage { input_tokens, output_tokens })
}

fn failed(error: &Value) -> UpstreamError {
    let (code, message) = error_text(error.to_string().as_bytes());
    UpstreamError::Failed { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(op: Op, frames: &[&str]) -> Result<Vec<Event>, UpstreamError> {
        let mut decoder = Decoder::new(op, 2, false);
        let mut events = VecDeque::new();
        frames.iter().try_for_each(|f| decoder.frame(f, &mut events))?;
        Ok(events.into())
    }

    #[test]
    fn a_count_that_is_none_is_missing_and_spoils_no_answer() {
        let counted = |usage: &str| {
            let frame = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}}}}],"usage":{usage}}}"#);
            decode(Op::Chat, &[&frame]).unwrap().into_iter().find_map(|event| match event {
                Event::Usage(usage) => Some((usage.input_tokens, usage.output_tokens)),
                _ => None,
            })
        };
        assert_eq!(counted(r#"{"prompt_tokens":3,"completion_tokens":2}"#), Some((3, 2)));
        assert_eq!(counted(r#"{"prompt_tokens":3}"#), Some((3, 0)));
        for none in [
            "null",
            "7",
            r#""many""#,
            "{}",
            r#"{"prompt_tokens":-3,"completion_tokens":2}"#,
            r#"{"prompt_tokens":3,"completion_tokens":-2}"#,
            r#"{"prompt_tokens":"3","completion_tokens":[2]}"#,
            r#"{"prompt_tokens":3.5,"completion_tokens":2}"#,
        ] {
            assert_eq!(counted(none), None, "{none}");
        }
    }

    #[test]
    fn a_chat_stream_becomes_deltas_usage_and_done() {
        let events = decode(
            Op::Chat,
            &[
                r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":{"content":[{"token":"Hi","logprob":-0.10000000149011612}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#,
                "[DONE]",
            ],
        )
        .unwrap();
        // What is missing is added, what was said keeps its bits.
        let logprobs = serde_json::json!(
            {"content":[{"token":"Hi","logprob":-0.10000000149011612,"top_logprobs":[],"bytes":null}]});
        assert_eq!(
            events,
            [
                Event::Delta(Delta { role: Some("assistant".into()), ..Delta::default() }),
                Event::Delta(Delta { text: "Hi".into(), logprobs: Some(logprobs), ..Delta::default() }),
                Event::Delta(Delta { finish_reason: Some("stop".into()), ..Delta::default() }),
                Event::Usage(Usage { input_tokens: 3, output_tokens: 1 }),
                Event::Done,
            ]
        );
    }

    #[test]
    fn an_end_before_a_choice_has_finished_is_no_end() {
        let spoken = r#"{"choices":[{"index":0,"delta":{"content":"And"},"finish_reason":null}]}"#;
        assert_eq!(decode(Op::Chat, &[spoken, "[DONE]"]).unwrap_err().name(), "malformed");
        let finished = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        // Others ignore `n`: one that has finished is enough.
        assert_eq!(decode(Op::Chat, &[spoken, finished, "[DONE]"]).unwrap().last(), Some(&Event::Done));
    }

    #[test]
    fn a_completion_stream_reads_text_and_not_delta() {
        let events = decode(Op::Completions, &[r#"{"choices":[{"index":1,"text":"a","finish_reason":"length"}]}"#]);
        let delta = Delta { index: 1, text: "a".into(), finish_reason: Some("length".into()), ..Delta::default() };
        assert_eq!(events.unwrap(), [Event::Delta(delta)]);
    }

    #[test]
    fn tool_calls_are_read_in_pieces_and_numbered_where_the_server_does_not() {
        let piece = |calls: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{calls}]}}}}]}}"#);
        let read = |frames: &[String]| {
            let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
            let events = decode(Op::Chat, &frames).unwrap();
            let calls = events.into_iter().map(|event| match event {
                Event::Delta(delta) => delta.tool_calls,
                other => panic!("{other:?}"),
            });
            calls.flatten().map(|call| (call.index, call.id, call.name, call.arguments)).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        let numbered = [
            piece(r#"{"index":1,"id":"a","type":"function","function":{"name":"f","arguments":""}}"#),
            piece(r#"{"index":1,"function":{"arguments":"{\"x\""}}"#),
        ];
        assert_eq!(read(&numbered), [(1, some("a"), some("f"), String::new()), (1, None, None, r#"{"x""#.to_owned())]);
        let bare = [piece(
            r#"{"function":{"name":"f","arguments":{"x":1}}},{"function":{"arguments":"+"}},{"function":{"name":"g"}}"#,
        )];
        let indexes: Vec<_> = read(&bare).into_iter().map(|(index, _, _, arguments)| (index, arguments)).collect();
        assert_eq!(indexes, [(0, r#"{"x":1}"#.to_owned()), (0, "+".to_owned()), (1, String::new())]);
        assert!(decode(Op::Chat, &[&piece(r#"{"index":128,"function":{"name":"f"}}"#)]).is_err());
    }

    #[test]
    fn error_frames_strange_indexes_and_non_chunks_are_faults_and_do_not_quote_the_text() {
        for (frame, name) in [
            (r#"{"error":{"message":"out of memory","code":500}}"#, "failed"),
            (r#"{"object":"error","message":"bad"}"#, "failed"),
            (r#"{"choices":[{"index":2,"delta":{"content":"x"}}]}"#, "malformed"),
            (r#"{"choices":[{"index":0,"delta":{"content":7}}]}"#, "malformed"),
            (r#"{"hello":1}"#, "malformed"),
            (r#"{"choices":[{"index":0,"delta":{"content":"secret"#, "malformed"),
        ] {
            let error = decode(Op::Chat, &[frame]).unwrap_err();
            assert_eq!(error.name(), name, "{frame}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn an_error_body_of_any_shape_gives_one_clean_line() {
        for (body, code, message) in [
            (
                r#"{"error":{"message":"no\nsuch model","code":"model_not_found"}}"#,
                Some("model_not_found"),
                "no such model",
            ),
            (r#"{"error":"loading"}"#, None, "loading"),
            (r#"{"detail":"Not Found"}"#, None, "Not Found"),
            (r#"{"object":"error","message":"m","code":400}"#, Some("400"), "m"),
            ("<html>bad gateway", None, "<html>bad gateway"),
        ] {
            assert_eq!(error_text(body.as_bytes()), (code.map(str::to_owned), message.to_owned()));
        }
    }
}
