//! Answering: prompt in, pieces of text out, token by token.
//!
//! Pieces are whole characters: bytes of an unfinished character, and text that may yet turn into a stop string, are
//! held back and come with a later piece. Each generated token is in exactly one piece, so the pieces' tokens add up
//! to `usage.completion_tokens`; the `</s>` by which the model ends is neither shown nor counted.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};

use crate::chance::Chance;
use crate::llama::{Cache, Form};
use crate::model::Model;
use crate::score::{ALTERNATIVES_MAX, Row, Scored};
use crate::sites::{NoSites, Sites};
use crate::tokenizer::{EOS, Utf8Stream, VOCABULARY};

/// Most stop strings of one request.
pub const STOPS_MAX: usize = 16;
/// Longest stop string in bytes; also bounds what is held back.
pub const STOP_BYTES_MAX: usize = 256;
/// Highest temperature.
pub const TEMPERATURE_MAX: f64 = 2.0;

/// What to answer and how.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    pub prompt_tokens: Vec<u32>,
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    pub top_p: f64,
    /// The same seed and request give the same answer on the same machine.
    pub seed: u64,
    /// Text before which the answer ends.
    pub stop: Vec<String>,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<u8>,
}

/// Some text of the answer and the tokens it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub text: String,
    /// The tokens since the piece before: usually one, none where the last piece only ends an unfinished character. `top` is empty unless log-probabilities were asked for.
    pub tokens: Vec<Scored>,
}

/// Why the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string came.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The receiver broke off.
    Cancelled,
}

impl Finish {
    /// The word of OpenAI's API (`cancelled` is ours).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Exact counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
}

/// How an answer ended and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub finish: Finish,
    pub usage: Usage,
}

/// Why the engine did not run a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error("{prompt} prompt tokens and up to {asked} more exceed the context of {context} tokens")]
    ContextLengthExceeded { prompt: usize, asked: usize, context: usize },
    #[error("the prompt has no tokens")]
    PromptEmpty,
    #[error("the vocabulary has no token {token}")]
    TokenUnknown { token: u32 },
    #[error("{field} is {value}, the engine takes {takes}")]
    OutOfRange { field: &'static str, value: String, takes: &'static str },
    #[error("the forward pass failed")]
    Compute(#[from] candle_core::Error),
}

impl RunError {
    /// A stable code for outsiders.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ContextLengthExceeded { .. } => "context_length_exceeded",
            Self::PromptEmpty | Self::TokenUnknown { .. } | Self::OutOfRange { .. } => "invalid_request",
            Self::Compute(_) => "engine_failed",
        }
    }
}

impl Model {
    /// Generates an answer, handing each piece to `receive` as soon as it is certain; `Break` ends it.
    pub fn generate(
        &self,
        request: &GenerateRequest,
        receive: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<Outcome, RunError> {
        self.generate_at(request, &mut NoSites, receive)
    }

    /// [`Self::generate`] with sites read or patched.
    pub fn generate_at(
        &self,
        request: &GenerateRequest,
        sites: &mut dyn Sites,
        receive: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<Outcome, RunError> {
        self.check(request)?;
        let mut cache = Cache::default();
        let mut chance = Chance::new(request.seed, "sample");
        let mut writer = Writer::new(&request.stop);
        let mut completion_tokens = 0;
        let mut feed = request.prompt_tokens.clone();
        let finish = loop {
            if completion_tokens == request.max_tokens {
                break Finish::Length;
            }
            let row = self.next(&feed, &mut cache, sites)?;
            let token = row.choose(request.temperature, request.top_p, &mut chance);
            if token == EOS {
                break Finish::Stop;
            }
            completion_tokens += 1;
            feed = vec![token];
            match writer.token(row.scored(token, request.logprobs)) {
                Written::Nothing => {}
                Written::Piece(piece) => {
                    if receive(piece).is_break() {
                        break Finish::Cancelled;
                    }
                }
                Written::Stopped(piece) => {
                    let cancelled = receive(piece).is_break();
                    break if cancelled { Finish::Cancelled } else { Finish::Stop };
                }
            }
        };
        // After a stop string or a break nothing is left to hand out.
        if let Some(piece) = writer.finish().filter(|_| finish != Finish::Cancelled) {
            let _ = receive(piece);
        }
        Ok(Outcome { finish, usage: Usage { prompt_tokens: request.prompt_tokens.len(), completion_tokens } })
    }

    /// How likely the model found each token of a prompt given those before it; the first has none before it.
    pub fn prompt_logprobs(&self, tokens: &[u32], k: Option<u8>) -> Result<Vec<Option<Scored>>, RunError> {
        self.check_prompt(tokens, 0)?;
        check_alternatives(k)?;
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let hidden = self.llama.hidden(&input, Form::Fused, None, &mut NoSites)?;
        let rows = self.llama.logits(&hidden)?.to_vec2::<f32>()?;
        let after = rows.iter().zip(&tokens[1..]);
        let scored = after.map(|(row, token)| Some(Row::new(row).scored(*token, k)));
        Ok(std::iter::once(None).chain(scored).collect())
    }

    fn next(&self, feed: &[u32], cache: &mut Cache, sites: &mut dyn Sites) -> Result<Row, RunError> {
        let input = Tensor::new(feed, &Device::Cpu)?.unsqueeze(0)?;
        let hidden = self.llama.hidden(&input, Form::Fused, Some(cache), sites)?;
        let last = hidden.narrow(1, feed.len() - 1, 1)?.contiguous()?;
        let scores = self.llama.logits(&last)?.flatten_all()?;
        Ok(Row::new(&scores.to_vec1::<f32>()?))
    }

    /// Whether the model can run `request`, told before anything is computed.
    ///
    /// # Errors
    /// [`RunError`]: an empty or too long prompt, a parameter out of its range.
    pub fn check(&self, request: &GenerateRequest) -> Result<(), RunError> {
        self.check_prompt(&request.prompt_tokens, request.max_tokens)?;
        check_alternatives(request.logprobs)?;
        if !(0.0..=TEMPERATURE_MAX).contains(&request.temperature) {
            return out_of_range("temperature", request.temperature, "0 to 2");
        }
        if !(request.top_p > 0.0 && request.top_p <= 1.0) {
            return out_of_range("top_p", request.top_p, "above 0, up to 1");
        }
        if request.stop.len() > STOPS_MAX {
            return out_of_range("stop", request.stop.len(), "up to 16 strings");
        }
        match request.stop.iter().find(|s| s.is_empty() || s.len() > STOP_BYTES_MAX) {
            Some(stop) => out_of_range("stop", format!("{} bytes long", stop.len()), "1 to 256 bytes"),
            None => Ok(()),
        }
    }

    fn check_prompt(&self, tokens: &[u32], asked: usize) -> Result<(), RunError> {
        let (prompt, context) = (tokens.len(), self.context_tokens_max());
        if prompt == 0 {
            return Err(RunError::PromptEmpty);
        }
        if prompt.saturating_add(asked) > context {
            return Err(RunError::ContextLengthExceeded { prompt, asked, context });
        }
        match tokens.iter().find(|t| **t as usize >= VOCABULARY) {
            Some(token) => Err(RunError::TokenUnknown { token: *token }),
            None => Ok(()),
        }
    }
}

fn check_alternatives(k: Option<u8>) -> Result<(), RunError> {
    match k {
        Some(k) if k > ALTERNATIVES_MAX => out_of_range("logprobs", k, "0 to 20"),
        _ => Ok(()),
    }
}

fn out_of_range(field: &'static str, value: impl ToString, takes: &'static str) -> Result<(), RunError> {
    Err(RunError::OutOfRange { field, value: value.to_string(), takes })
}

/// Turns tokens into pieces: whole characters, nothing of a stop string.
struct Writer<'a> {
    stops: &'a [String],
    characters: Utf8Stream,
    held: String,
    tokens: Vec<Scored>,
}

enum Written {
    Nothing,
    Piece(Piece),
    Stopped(Piece),
}

impl<'a> Writer<'a> {
    fn new(stops: &'a [String]) -> Self {
        Self { stops, characters: Utf8Stream::default(), held: String::new(), tokens: Vec::new() }
    }

    fn token(&mut self, scored: Scored) -> Written {
        for byte in &scored.bytes {
            self.held += &self.characters.push(*byte);
        }
        self.tokens.push(scored);
        let first = self.stops.iter().filter_map(|s| self.held.find(s)).min();
        if let Some(at) = first {
            self.held.truncate(at);
            self.characters = Utf8Stream::default();
            let text = std::mem::take(&mut self.held);
            return Written::Stopped(self.piece(text));
        }
        let certain = self.held.len() - self.may_be_stop();
        if certain == 0 {
            return Written::Nothing;
        }
        let rest = self.held.split_off(certain);
        let text = std::mem::replace(&mut self.held, rest);
        Written::Piece(self.piece(text))
    }

    /// Bytes at the end of the held text that a stop string could begin with.
    fn may_be_stop(&self) -> usize {
        self.stops
            .iter()
            .flat_map(|stop| stop.char_indices().map(move |(at, _)| &stop[..at]))
            .filter(|start| self.held.ends_with(*start))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }

    fn finish(&mut self) -> Option<Piece> {
        let mut text = std::mem::take(&mut self.held);
        text += &self.characters.finish();
        if text.is_empty() && self.tokens.is_empty() {
            return None;
        }
        Some(self.piece(text))
    }

    fn piece(&mut self, text: String) -> Piece {
        Piece { text, tokens: std::mem::take(&mut self.tokens) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;

    /// Runs text through the writer byte by byte: the pieces' texts, and whether a stop string ended it.
    fn write(text: &[u8], stops: &[&str]) -> (Vec<String>, bool, usize) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let row = Row::new(&[0.0; VOCABULARY]);
        let mut writer = Writer::new(&stops);
        let (mut pieces, mut tokens) = (Vec::new(), 0);
        for byte in text {
            let token = Tokenizer.encode("\0")[0] + u32::from(*byte);
            match writer.token(row.scored(token, None)) {
                Written::Nothing => {}
                Written::Piece(piece) => {
                    tokens += piece.tokens.len();
                    pieces.push(piece.text);
                }
                Written::Stopped(piece) => {
                    tokens += piece.tokens.len();
                    pieces.push(piece.text);
                    assert_eq!(writer.finish(), None);
                    return (pieces, true, tokens);
                }
            }
        }
        if let Some(piece) = writer.finish() {
            tokens += piece.tokens.len();
            pieces.push(piece.text);
        }
        (pieces, false, tokens)
    }

    #[test]
    fn characters_come_whole_and_no_token_is_lost() {
        let text = "é東🦀.";
        let (pieces, _, tokens) = write(text.as_bytes(), &[]);
        assert_eq!(pieces, ["é", "東", "🦀", "."]);
        assert_eq!(tokens, text.len());
        let (pieces, _, tokens) = write(&[b'a', 0xF0, 0x9F], &[]);
        assert_eq!((pieces.concat().as_str(), tokens), ("a\u{FFFD}", 3));
    }

    #[test]
    fn nothing_of_a_stop_string_is_handed_out() {
        let (pieces, stopped, tokens) = write(b"one\n\nQ: two", &["\nQ:", "zzz"]);
        assert_eq!((pieces.concat().as_str(), stopped, tokens), ("one\n", true, 7));
        let (pieces, stopped, _) = write(b"one\nQ", &["\nQ:"]);
        assert_eq!((pieces.concat().as_str(), stopped), ("one\nQ", false));
        assert_eq!(pieces.len(), 4, "what may be a stop is held: {pieces:?}");
        let (pieces, stopped, _) = write("wait …".as_bytes(), &["…"]);
        assert_eq!((pieces.concat().as_str(), stopped), ("wait ", true));
        let (pieces, stopped, _) = write(b"aaab", &["aab"]);
        assert_eq!((pieces.concat().as_str(), stopped), ("a", true));
    }
}
