//! How one kind of server is spoken to: calls become routes and bodies, frames become events. Nothing here awaits.
//!
//! One file for each way of speaking ([`openai`], [`anthropic`], [`azure`]); servers that speak OpenAI's API and differ
//! in small things are rows of one table ([`Flavour`]). What a server can really do is measured (`probe`), not read here:
//! a row only says what every release of it is known for.

mod anthropic;
mod azure;
mod openai;

use std::collections::VecDeque;
use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::server::ApiKey;
use crate::{Answer, Call, Event, UpstreamError};

/// The word an owner writes for the kind of server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Any server of OpenAI's API that is not named below.
    #[default]
    Openai,
    Vllm,
    Sglang,
    LlamaCpp,
    /// The server of the package `llama-cpp-python`, another program than llama.cpp's own.
    LlamaCppPython,
    Ollama,
    Tgi,
    /// Ray Serve's LLM application, below whatever prefix it was deployed under.
    RayServe,
    /// KServe's OpenAI routes (`…/openai/v1`); the ingress finds the service by its host name.
    Kserve,
    /// A company's API that speaks OpenAI's, with the owner's key.
    OpenaiVendor,
    Anthropic,
    /// Azure OpenAI: the deployment stands in the path.
    Azure,
}

/// What a dialect is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// Its word in the models file.
    pub name: &'static str,
    /// Whether somebody else runs the weights and does not disclose them: no white-box ops, and its count is a vendor's.
    pub is_vendor: bool,
    /// Says 200 once it can answer, above the versioned base; the list of models is asked in any case.
    pub(crate) ready_path: Option<&'static str>,
    /// Where the list says that a model is served; vendors list what they sell and not what is deployed.
    pub(crate) lists_models: bool,
    /// How the limit on output is spelled for chat.
    pub(crate) chat_limit: &'static str,
    /// Older releases end a stream without `[DONE]`: there, an answer that HTTP's own framing ends after each choice
    /// has finished is whole. Elsewhere it is cut.
    pub(crate) ends_without_done: bool,
    /// Request fields that it has never taken.
    pub fields_refused: &'static [&'static str],
    /// How it turns text into tokens, and where.
    pub(crate) tokens: Tokens,
    /// Fields with which a call undoes what the server would do unasked, where the call does not say them itself.
    pub(crate) unless_said: &'static [(&'static str, u8)],
}

/// The routes for tokens, which no two families share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    None,
    /// `POST /tokenize {model, prompt, add_special_tokens}` → `{tokens, count}`; `/detokenize {tokens}` → `{prompt}`.
    Vllm,
    /// `POST /tokenize {content, add_special}` → `{tokens}`; `/detokenize {tokens}` → `{content}`.
    LlamaCpp,
}

const PLAIN: Flavour = Flavour {
    name: "openai",
    is_vendor: false,
    ready_path: None,
    lists_models: true,
    chat_limit: "max_tokens",
    ends_without_done: false,
    fields_refused: &[],
    tokens: Tokens::Vllm,
    unless_said: &[],
};

impl Dialect {
    pub const ALL: [Self; 12] = [
        Self::Openai,
        Self::Vllm,
        Self::Sglang,
        Self::LlamaCpp,
        Self::LlamaCppPython,
        Self::Ollama,
        Self::Tgi,
        Self::RayServe,
        Self::Kserve,
        Self::OpenaiVendor,
        Self::Anthropic,
        Self::Azure,
    ];

    pub fn flavour(self) -> Flavour {
        let vendor =
            Flavour { is_vendor: true, lists_models: false, fields_refused: &["echo"], tokens: Tokens::None, ..PLAIN };
        match self {
            Self::Openai => PLAIN,
            Self::Vllm => Flavour { name: "vllm", ready_path: Some("health"), ..PLAIN },
            Self::Sglang => Flavour { name: "sglang", ready_path: Some("health"), ..PLAIN },
            Self::LlamaCpp => Flavour {
                name: "llama_cpp",
                ready_path: Some("health"),
                // It answers for the one model it has loaded, under whatever alias.
                lists_models: false,
                fields_refused: &["echo"],
                tokens: Tokens::LlamaCpp,
                ..PLAIN
            },
            Self::LlamaCppPython => Flavour {
                name: "llama_cpp_python",
                fields_refused: &["echo"],
                tokens: Tokens::None,
                // Its own: a penalty of 1.1 on what was said before, which makes its greedy answers not the model's.
                unless_said: &[("repeat_penalty", 1), ("temperature", 1), ("top_p", 1), ("top_k", 0), ("min_p", 0)],
                ..PLAIN
            },
            Self::Ollama => {
                Flavour { name: "ollama", fields_refused: &["echo", "logit_bias"], tokens: Tokens::None, ..PLAIN }
            }
            Self::Tgi => Flavour {
                name: "tgi",
                ready_path: Some("health"),
                ends_without_done: true,
                fields_refused: &["echo"],
                tokens: Tokens::None,
                ..PLAIN
            },
            Self::RayServe => Flavour { name: "ray_serve", ..PLAIN },
            Self::Kserve => Flavour { name: "kserve", ..PLAIN },
            Self::OpenaiVendor => Flavour { name: "openai_vendor", chat_limit: "max_completion_tokens", ..vendor },
            Self::Anthropic => Flavour { name: "anthropic", fields_refused: anthropic::FIELDS_REFUSED, ..vendor },
            Self::Azure => Flavour { name: "azure", chat_limit: "max_completion_tokens", ..vendor },
        }
    }

    /// # Errors
    /// [`UpstreamError::Settings`] for a version that cannot stand in a query or a header.
    pub(crate) fn speak(self, api_version: Option<&str>) -> Result<Box<dyn Speak>, UpstreamError> {
        let plain = |version: &str| version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if let Some(version) = api_version.filter(|version| version.is_empty() || !plain(version)) {
            return Err(UpstreamError::Settings { detail: format!("api_version '{version}' is not one") });
        }
        Ok(match self {
            Self::Anthropic => Box::new(anthropic::Anthropic::new(api_version)),
            Self::Azure => Box::new(azure::Azure::new(api_version)),
            other => Box::new(openai::OpenAi(other.flavour())),
        })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flavour().name)
    }
}

/// A request, ready to be sent below the base URL.
#[derive(Debug)]
pub(crate) struct Ask {
    /// With its query.
    pub(crate) path: String,
    pub(crate) body: Map<String, Value>,
}

/// A question that is answered in one piece.
#[derive(Debug)]
pub(crate) struct Question {
    /// Beside the versioned base instead of below it.
    pub(crate) at_root: bool,
    pub(crate) path: &'static str,
    /// None is a GET.
    pub(crate) body: Option<Map<String, Value>>,
}

/// A way of speaking.
pub(crate) trait Speak: Send + Sync + fmt::Debug {
    /// # Errors
    /// [`UpstreamError::Unsupported`], or [`UpstreamError::Refused`] for what the caller must change: before anything is sent.
    fn ask(&self, call: Call) -> Result<Ask, UpstreamError>;

    fn decoder(&self, call: &Call) -> Box<dyn Decode>;

    /// What is asked for an answer in one piece.
    ///
    /// # Errors
    /// As [`Speak::ask`].
    fn question(&self, call: &Call) -> Result<Question, UpstreamError> {
        Err(UpstreamError::Unsupported { op: call.op })
    }

    /// An answer in one piece, in the shape that its op has here.
    fn answer(&self, _: &Call, body: &[u8]) -> Result<Answer, UpstreamError> {
        openai::answer(body)
    }

    /// Headers of every request; the key's value is marked as sensitive by whoever sends it.
    fn headers(
        &self,
        key: Option<&ApiKey>,
    ) -> Vec<(HeaderName, Result<HeaderValue, http::header::InvalidHeaderValue>)> {
        key.map(|key| (http::header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", key.expose()))))
            .into_iter()
            .collect()
    }

    /// Where the models are listed.
    fn models_path(&self) -> String {
        "models".to_owned()
    }

    /// Code and message of an error body.
    fn error(&self, body: &[u8]) -> (Option<String>, String) {
        openai::error_text(body)
    }
}

/// Frames of one answer to events.
pub(crate) trait Decode: Send {
    /// One `data` frame.
    fn frame(&mut self, data: &str, events: &mut VecDeque<Event>) -> Result<(), UpstreamError>;

    /// A whole answer in one JSON body: it is complete because its length was.
    fn body(&mut self, body: &[u8], events: &mut VecDeque<Event>) -> Result<(), UpstreamError>;

    /// Whether an answer that HTTP ended properly here, without a last frame, is a whole one.
    fn is_whole(&self) -> bool {
        false
    }
}

/// What the frames of one answer come to, as far as its end or its first fault: for those who make up the frames. `None`
/// where the dialect does not speak without settings.
pub fn decoded(dialect: Dialect, call: &Call, frames: &[String]) -> Option<(Vec<Event>, Option<UpstreamError>)> {
    let mut decoder = dialect.speak(None).ok()?.decoder(call);
    let (mut said, mut events) = (Vec::new(), VecDeque::new());
    for frame in frames {
        let fault = decoder.frame(frame, &mut events).err();
        for event in events.drain(..) {
            let is_end = event == Event::Done;
            said.push(event);
            if is_end {
                return Some((said, None));
            }
        }
        if fault.is_some() {
            return Some((said, fault));
        }
    }
    if decoder.is_whole() {
        said.push(Event::Done);
    }
    Some((said, None))
}

/// What the caller must change, said before anything is sent.
fn form(message: impl Into<String>) -> UpstreamError {
    UpstreamError::Refused {
        status: 400,
        code: Some("invalid_request".into()),
        message: message.into(),
        retry_after_s: None,
    }
}

fn malformed(detail: impl Into<String>) -> UpstreamError {
    UpstreamError::Malformed { detail: detail.into() }
}

/// At most 300 characters, without control characters: it goes to a log.
fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_has_one_word_and_reads_it_back() {
        for dialect in Dialect::ALL {
            let word = serde_json::Value::String(dialect.to_string());
            assert_eq!(serde_json::from_value::<Dialect>(word).unwrap(), dialect);
        }
    }

    #[test]
    fn vendors_repeat_no_prompt() {
        let vendors = Dialect::ALL.into_iter().map(Dialect::flavour).filter(|flavour| flavour.is_vendor);
        let names: Vec<_> =
            vendors.inspect(|row| assert!(row.fields_refused.contains(&"echo"))).map(|row| row.name).collect();
        assert_eq!(names, ["openai_vendor", "anthropic", "azure"]);
    }

    #[test]
    fn a_version_that_could_carry_something_else_is_refused() {
        for version in ["", "2024-10-21&x=1", "a/b", "a b", "a\r\nx: y"] {
            assert!(matches!(Dialect::Azure.speak(Some(version)), Err(UpstreamError::Settings { .. })), "{version:?}");
        }
    }
}
