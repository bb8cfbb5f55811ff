//! The events of a message stream as [`Event`]s. `message_stop` is the only proper end.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::Value;

use super::super::{Decode, malformed};
use super::error_text;
use crate::{Delta, Event, UpstreamError, Usage};

#[derive(Debug, Default)]
pub(super) struct Decoder {
    usage: RawUsage,
    has_usage: bool,
    has_begun: bool,
    has_finished: bool,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    message: Option<Message>,
    content_block: Option<Block>,
    delta: Option<Piece>,
    usage: Option<RawUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    usage: Option<RawUsage>,
    #[serde(default)]
    content: Vec<Block>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    stop_reason: Option<String>,
}

/// Stated twice: at the start the input, in the last delta the output so far. What stands in neither is as before.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct RawUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

impl Decode for Decoder {
    fn frame(&mut self, data: &str, events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        let frame: Frame = read(data.as_bytes())?;
        match frame.kind.as_str() {
            "message_start" => {
                self.count(frame.message.and_then(|message| message.usage));
                self.begin(events);
            }
            "content_block_start" => {
                let block = frame.content_block.ok_or_else(|| malformed("a block that starts without one"))?;
                if let Some(text) = self.shown(&block.kind, block.text)? {
                    self.say(text, events)?;
                }
            }
            "content_block_delta" => {
                let piece = frame.delta.ok_or_else(|| malformed("a delta without one"))?;
                if piece.kind.as_deref() == Some("text_delta") {
                    self.say(piece.text.unwrap_or_default(), events)?;
                }
                // Thinking is counted by the vendor and shown by nobody.
            }
            "message_delta" => {
                self.count(frame.usage);
                if let Some(reason) = frame.delta.and_then(|delta| delta.stop_reason) {
                    self.finish(&reason, events)?;
                }
            }
            "message_stop" => self.end(events)?,
            "error" => return Err(failed(frame.error.as_ref())),
            // Pings, ends of blocks, and what a later version adds beside them.
            _ => {}
        }
        Ok(())
    }

    fn body(&mut self, body: &[u8], events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        let message: Message = read(body)?;
        let Some(reason) = message.stop_reason else {
            return Err(malformed("an answer in one piece that has not ended"));
        };
        self.count(message.usage);
        self.begin(events);
        for block in message.content {
            if let Some(text) = self.shown(&block.kind, block.text)? {
                self.say(text, events)?;
            }
        }
        self.finish(&reason, events)?;
        self.end(events)
    }
}

impl Decoder {
    fn begin(&mut self, events: &mut VecDeque<Event>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            events.push_back(Event::Delta(Delta { role: Some("assistant".into()), ..Delta::default() }));
        }
    }

    /// The text of a block that callers may see.
    fn shown(&self, kind: &str, text: Option<String>) -> Result<Option<String>, UpstreamError> {
        match kind {
            "text" => Ok(text),
            "thinking" | "redacted_thinking" => Ok(None),
            // No tools were offered to it.
            _ => Err(malformed("a block that is neither text nor thinking")),
        }
    }

    fn say(&mut self, text: String, events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        if self.has_finished && !text.is_empty() {
            return Err(malformed("text after the message has finished"));
        }
        if !text.is_empty() {
            events.push_back(Event::Delta(Delta { text, ..Delta::default() }));
        }
        Ok(())
    }

    fn finish(&mut self, reason: &str, events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        let reason = match reason {
            "end_turn" | "stop_sequence" | "pause_turn" => "stop",
            "max_tokens" | "model_context_window_exceeded" => "length",
            "refusal" => "content_filter",
            _ => return Err(malformed("a message that stopped for a reason nobody gave it")),
        };
        if !std::mem::replace(&mut self.has_finished, true) {
            events.push_back(Event::Delta(Delta { finish_reason: Some(reason.into()), ..Delta::default() }));
        }
        Ok(())
    }

    fn end(&mut self, events: &mut VecDeque<Event>) -> Result<(), UpstreamError> {
        if !self.has_finished {
            return Err(malformed("a message that stopped without a reason"));
        }
        if self.has_usage {
            let sum =
                [self.usage.input_tokens, self.usage.cache_creation_input_tokens, self.usage.cache_read_input_tokens];
            let input_tokens = sum.into_iter().flatten().fold(0, u64::saturating_add);
            events
                .push_back(Event::Usage(Usage { input_tokens, output_tokens: self.usage.output_tokens.unwrap_or(0) }));
        }
        events.push_back(Event::Done);
        Ok(())
    }

    fn count(&mut self, said: Option<RawUsage>) {
        let Some(said) = said else { return };
        let before = self.usage;
        self.usage = RawUsage {
            input_tokens: said.input_tokens.or(before.input_tokens),
            output_tokens: said.output_tokens.or(before.output_tokens),
            cache_creation_input_tokens: said.cache_creation_input_tokens.or(before.cache_creation_input_tokens),
            cache_read_input_tokens: said.cache_read_input_tokens.or(before.cache_read_input_tokens),
        };
        self.has_usage |= self.usage.input_tokens.is_some();
    }
}

/// The text is the model's: an error says where, never what.
fn read<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(json)
        .map_err(|e| malformed(format!("a frame that is no event (line {}, column {})", e.line(), e.column())))
}

fn failed(error: Option<&Value>) -> UpstreamError {
    let (_, message) = error_text(error.unwrap_or(&Value::Null).to_string().as_bytes());
    let code = error.and_then(|error| error["type"].as_str()).map(super::clip);
    UpstreamError::Failed { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"stop_reason":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":2,"cache_read_input_tokens":30,"output_tokens":1}}}"#;
    const BLOCK: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    const HI: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;
    const STOPPED: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;

    fn decode(frames: &[&str]) -> Result<Vec<Event>, UpstreamError> {
        let (mut decoder, mut events) = (Decoder::default(), VecDeque::new());
        frames.iter().try_for_each(|frame| decoder.frame(frame, &mut events))?;
        Ok(events.into())
    }

    fn text(text: &str) -> Event {
        Event::Delta(Delta { text: text.into(), ..Delta::default() })
    }

    fn finish(reason: &str) -> Event {
        Event::Delta(Delta { finish_reason: Some(reason.into()), ..Delta::default() })
    }

    fn role() -> Event {
        Event::Delta(Delta { role: Some("assistant".into()), ..Delta::default() })
    }

    #[test]
    fn a_stream_becomes_deltas_usage_and_done_and_cached_input_counts() {
        let ping = r#"{"type":"ping"}"#;
        let thought = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
        let end = r#"{"type":"content_block_stop","index":0}"#;
        let usage = Event::Usage(Usage { input_tokens: 41, output_tokens: 4 });
        let events = decode(&[START, ping, BLOCK, thought, HI, end, STOPPED, STOP]).unwrap();
        assert_eq!(events, [role(), text("Hi"), finish("stop"), usage, Event::Done]);
    }

    #[test]
    fn each_stop_reason_has_its_word() {
        for (reason, word) in
            [("max_tokens", "length"), ("stop_sequence", "stop"), ("refusal", "content_filter"), ("pause_turn", "stop")]
        {
            let stopped = STOPPED.replace("end_turn", reason);
            assert_eq!(decode(&[&stopped]).unwrap(), [finish(word)]);
        }
    }

    #[test]
    fn errors_tools_and_ends_out_of_place_are_faults_and_quote_nothing() {
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let error = decode(&[START, HI, overloaded]).unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Failed { code: Some(code), .. } if code == "overloaded_error"),
            "{error}"
        );
        let tool = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"secret"}}"#;
        for frames in
            [&[START, STOP][..], &[tool], &[STOPPED, HI], &["secret"], &[&STOPPED.replace("end_turn", "tool_use")]]
        {
            let error = decode(frames).unwrap_err();
            assert!(error.name() == "malformed" && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_answer_in_one_piece_is_the_same() {
        let body = r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"Hi"}],"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":1}}"#;
        let (mut decoder, mut events) = (Decoder::default(), VecDeque::new());
        decoder.body(body.as_bytes(), &mut events).unwrap();
        let usage = Event::Usage(Usage { input_tokens: 3, output_tokens: 1 });
        assert_eq!(Vec::from(events), [role(), text("Hi"), finish("length"), usage, Event::Done]);
        assert!(Decoder::default().body(br#"{"content":[],"stop_reason":null}"#, &mut VecDeque::new()).is_err());
    }
}
