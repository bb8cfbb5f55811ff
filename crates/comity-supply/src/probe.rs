//! What a server can really do: a dozen short questions, and what its answers show.
//!
//! Pages and version numbers promise; evaluations that rest on a promise score at chance without anyone noticing. What is
//! judged here is what harnesses rely on: log-probabilities of a prompt that line up with its tokens, counts in streams,
//! choices that come when they are asked for, fields that are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_wire::Op;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Call, Event, Silence, Upstream, UpstreamError, Usage};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    pub chat: bool,
    pub completions: bool,
    /// The count comes with a stream.
    pub stream_usage: bool,
    /// Log-probabilities of what it says, one for each token.
    pub logprobs: bool,
    /// It repeats a prompt with log-probabilities that line up with the prompt's tokens.
    pub echo: bool,
    /// Prompts as token ids, with nothing put before them.
    pub token_prompts: bool,
    pub tokenize: bool,
    /// Choices of one prompt that came when they were asked for.
    pub choices_max: u16,
    /// Request fields that it answers with an error.
    pub fields_refused: Vec<String>,
}

const PROMPT: &str = "The capital of France is";
/// Whatever the owner's policy allows, more choices are not tried.
pub const CHOICES_MAX: u16 = 16;
const CALL_MAX: Duration = Duration::from_secs(120);

impl Capabilities {
    /// Each by the name that the manifest has for it (spec/03-manifest.md §3.3), whether it works, and how many.
    pub fn rows(&self) -> Vec<(String, bool, Option<u64>)> {
        let works = [
            ("chat", self.chat),
            ("completions", self.completions),
            ("echo", self.echo),
            ("logprobs", self.logprobs),
            ("stream_usage", self.stream_usage),
            ("token_prompts", self.token_prompts),
            ("tokenize", self.tokenize),
        ];
        let works = works.into_iter().map(|(name, works)| (name.to_owned(), works, None));
        let choices = ("choices".to_owned(), self.choices_max > 1, Some(u64::from(self.choices_max)));
        let fields = self.fields_refused.iter().map(|name| (format!("field.{name}"), false, None));
        let mut rows: Vec<_> = works.chain(std::iter::once(choices)).chain(fields).collect();
        rows.sort();
        rows
    }
}

/// Asks, and judges. `choices_wanted` is what the owner's policy allows.
///
/// # Errors
/// Where the server is not well enough to be judged: nothing is concluded from that.
pub async fn probe(upstream: &dyn Upstream, model: &str, choices_wanted: u16) -> Result<Capabilities, UpstreamError> {
    let asking = Asking { upstream, model };
    let chat = asking.may(Op::Chat, json!({})).await?;
    let completions = asking.may(Op::Completions, json!({})).await?;
    let mut found = Capabilities {
        chat: chat.is_some(),
        completions: completions.is_some(),
        stream_usage: [&chat, &completions].into_iter().flatten().all(|heard| heard.usage.is_some()),
        ..Capabilities::default()
    };
    let op = if found.chat { Op::Chat } else { Op::Completions };
    if !found.chat && !found.completions {
        return Err(UpstreamError::Malformed { detail: "it answers neither chat nor completions".into() });
    }
    found.logprobs = asking.logprobs(op).await?;
    let ids = asking.ids().await;
    found.tokenize = ids.is_some();
    if found.completions {
        found.echo = asking.echo().await?;
        if let Some(ids) = ids {
            let heard = asking.may(Op::Completions, json!({"prompt": [ids]})).await?;
            let whole = |heard: Heard| heard.usage.is_none_or(|usage| usage.input_tokens == ids.len() as u64);
            found.token_prompts = heard.is_some_and(whole);
        }
    }
    found.choices_max = asking.choices(op, choices_wanted.min(CHOICES_MAX)).await;
    found.fields_refused = asking.refused(op).await?;
    Ok(found)
}

struct Asking<'a> {
    upstream: &'a dyn Upstream,
    model: &'a str,
}

/// One answer, put together per choice.
#[derive(Default)]
struct Heard {
    texts: BTreeMap<u32, String>,
    logprobs: Vec<Value>,
    usage: Option<Usage>,
}

impl Heard {
    fn text(&self) -> &str {
        self.texts.get(&0).map_or("", String::as_str)
    }

    /// A list of the log-probabilities, over all pieces.
    fn list(&self, name: &str) -> Vec<Value> {
        self.logprobs.iter().filter_map(|piece| piece[name].as_array()).flatten().cloned().collect()
    }
}

impl Asking<'_> {
    async fn ask(&self, op: Op, more: Value) -> Result<Heard, UpstreamError> {
        let prompt = if op == Op::Chat {
            json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4})
        } else {
            json!({"prompt": PROMPT, "max_tokens": 4})
        };
        let fields = |value| if let Value::Object(fields) = value { fields } else { Map::new() };
        let mut body = fields(prompt);
        body.extend(fields(more));
        let call = Call::new(op, self.model, body);
        let heard = tokio::time::timeout(CALL_MAX, self.hear(call)).await;
        let after_ms = u64::try_from(CALL_MAX.as_millis()).unwrap_or(u64::MAX);
        heard.unwrap_or(Err(UpstreamError::Silent { after_ms, whilst: Silence::WhilstAnswering }))
    }

    async fn hear(&self, call: Call) -> Result<Heard, UpstreamError> {
        let mut reply = self.upstream.complete(call).await?;
        let mut heard = Heard::default();
        while let Some(event) = reply.next().await {
            match event? {
                Event::Delta(delta) => {
                    heard.texts.entry(delta.index).or_default().push_str(&delta.text);
                    heard.logprobs.extend(delta.logprobs);
                }
                Event::Usage(usage) => heard.usage = Some(usage),
                _ => {}
            }
        }
        Ok(heard)
    }

    /// `None` where it says no to just that.
    async fn may(&self, op: Op, more: Value) -> Result<Option<Heard>, UpstreamError> {
        match self.ask(op, more).await {
            Ok(heard) => Ok(Some(heard)),
            Err(
                UpstreamError::Unsupported { .. } | UpstreamError::Refused { status: 400 | 404 | 405 | 422 | 501, .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn logprobs(&self, op: Op) -> Result<bool, UpstreamError> {
        let more = if op == Op::Chat { json!({"logprobs": true, "top_logprobs": 2}) } else { json!({"logprobs": 2}) };
        let Some(heard) = self.may(op, more).await? else { return Ok(false) };
        let said = if op == Op::Chat {
            heard.list("content").iter().map(|entry| entry["logprob"].clone()).collect()
        } else {
            heard.list("token_logprobs")
        };
        let one_each = heard.usage.is_none_or(|usage| usage.output_tokens == said.len() as u64);
        Ok(!said.is_empty() && one_each && said.iter().all(is_logprob))
    }

    async fn ids(&self) -> Option<Vec<u64>> {
        let body = Map::from_iter([("prompt".to_owned(), json!(PROMPT))]);
        let asked = self.upstream.answer(Call::new(Op::Tokenize, self.model, body));
        let answer = tokio::time::timeout(CALL_MAX, asked).await.ok()?.ok()?;
        let ids: Option<Vec<u64>> = answer.body["tokens"].as_array()?.iter().map(Value::as_u64).collect();
        ids.filter(|ids| !ids.is_empty())
    }

    async fn echo(&self) -> Result<bool, UpstreamError> {
        let ask =
            |prompt: String| json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0});
        let Some(first) = self.may(Op::Completions, ask(PROMPT.to_owned())).await? else { return Ok(false) };
        if !lines_up(PROMPT, &first) {
            return Ok(false);
        }
        // The token it has just said, as part of a prompt: off by one, it would get another's number.
        let tokens = first.list("tokens");
        let said = tokens.last().and_then(Value::as_str).unwrap_or_default();
        let prompt = format!("{PROMPT}{said}");
        let Some(second) = self.may(Op::Completions, ask(prompt.clone())).await? else { return Ok(false) };
        Ok(lines_up(&prompt, &second) && agree(&first, &second))
    }

    async fn choices(&self, op: Op, wanted: u16) -> u16 {
        let mut most = 1;
        while most < wanted {
            let n = (most * 2).min(wanted);
            // A choice that never comes is an answer that never ends, to some: that too is a no.
            match self.may(op, json!({"n": n, "temperature": 1})).await {
                Ok(Some(heard)) if heard.texts.len() == usize::from(n) => {}
                _ => break,
            }
            most = n;
        }
        most
    }

    /// All at once; where that is refused, one by one.
    async fn refused(&self, op: Op) -> Result<Vec<String>, UpstreamError> {
        let Value::Object(mut all) = samples() else { return Ok(Vec::new()) };
        if op != Op::Chat {
            all.shift_remove("response_format");
        }
        if self.may(op, Value::Object(all.clone())).await?.is_some() {
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for (name, value) in all {
            if self.may(op, json!({name.clone(): value})).await?.is_none() {
                refused.push(name);
            }
        }
        Ok(refused)
    }
}

/// Every tabled field that shapes an answer, with a value that nobody could mind.
fn samples() -> Value {
    json!({"temperature": 0.5, "top_p": 0.9, "stop": ["###"], "seed": 1, "presence_penalty": 0.1, "frequency_penalty": 0.1,
           "logit_bias": {"100": -1}, "response_format": {"type": "text"}})
}

fn is_logprob(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value <= 1e-6)
}

/// As lm-evaluation-harness reads it: parallel lists over prompt and answer, a number for each token but the first, and
/// among its alternatives the token itself with the same number.
fn lines_up(prompt: &str, heard: &Heard) -> bool {
    let (tokens, values, top) = (heard.list("tokens"), heard.list("token_logprobs"), heard.list("top_logprobs"));
    let text: String = tokens.iter().filter_map(Value::as_str).collect();
    let counted = heard.usage.is_none_or(|usage| usage.input_tokens + usage.output_tokens == tokens.len() as u64);
    let parallel = tokens.len() == values.len() && tokens.len() == top.len() && tokens.len() > 1;
    heard.text().starts_with(prompt)
        && text == heard.text()
        && counted
        && parallel
        && (1..tokens.len()).all(|at| {
            let own = tokens[at].as_str().and_then(|token| top[at].get(token));
            is_logprob(&values[at]) && own == Some(&values[at])
        })
}

/// How far two runs of one model may be apart.
const APART: f64 = 0.1;

/// Whether the last token of the first has the same number within the second, where both cut the text alike.
fn agree(first: &Heard, second: &Heard) -> bool {
    let (a, b) = (first.list("tokens"), second.list("tokens"));
    let at = a.len() - 1;
    if b.len() <= at || a[..] != b[..=at] {
        return true;
    }
    let value = |heard: &Heard| heard.list("token_logprobs")[at].as_f64();
    matches!((value(first), value(second)), (Some(a), Some(b)) if (a - b).abs() <= APART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, MODEL, text};
    use crate::server::{Config, Server};
    use crate::{Dialect, State};

    async fn found(dialect: Dialect) -> Capabilities {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let fixture = Fixture::start(dialect).await;
        let mut config = Config::new(fixture.url());
        config.dialect = dialect;
        config.api_key = Some(crate::server::ApiKey::new(crate::fixture::KEY));
        let server = Server::new(config).unwrap();
        assert_eq!(server.health().await.state, State::Ready);
        probe(&server, MODEL, 4).await.unwrap()
    }

    #[tokio::test]
    async fn each_server_is_found_to_do_what_it_does_and_nothing_else() {
        let all = Capabilities {
            chat: true,
            completions: true,
            stream_usage: true,
            logprobs: true,
            echo: true,
            token_prompts: true,
            tokenize: true,
            choices_max: 4,
            fields_refused: Vec::new(),
        };
        assert_eq!(found(Dialect::Vllm).await, all);
        assert_eq!(found(Dialect::Sglang).await, all);
        let one = Capabilities { echo: false, choices_max: 1, ..all.clone() };
        assert_eq!(found(Dialect::LlamaCpp).await, one);
        let ollama = Capabilities { token_prompts: false, tokenize: false, ..one };
        let uncounted = Capabilities { stream_usage: false, ..ollama.clone() };
        assert_eq!(found(Dialect::LlamaCppPython).await, uncounted);
        assert_eq!(found(Dialect::Ollama).await, ollama);
        let tgi = Capabilities { fields_refused: vec!["logit_bias".into()], ..ollama };
        assert_eq!(found(Dialect::Tgi).await, tgi);
        let vendor = Capabilities { completions: false, choices_max: 4, ..tgi };
        assert_eq!(found(Dialect::OpenaiVendor).await, vendor);
        let said = found(Dialect::Anthropic).await;
        assert!(said.chat && said.stream_usage && !said.logprobs && !said.echo && said.choices_max == 1, "{said:?}");
        assert!(
            ["seed", "logit_bias", "response_format"]
                .iter()
                .all(|name| said.fields_refused.contains(&(*name).to_owned()))
        );
    }

    fn heard(shift: usize, prompt: &str) -> Heard {
        let whole: Vec<char> = prompt.chars().chain(['g']).collect();
        let mut lists = text::lists(&whole, 0, 1);
        for name in ["token_logprobs", "top_logprobs"] {
            lists[name].as_array_mut().unwrap().rotate_left(shift);
        }
        let text = whole.iter().collect();
        Heard { texts: BTreeMap::from([(0, text)]), logprobs: vec![lists], usage: None }
    }

    #[test]
    fn what_is_off_by_one_does_not_line_up() {
        assert!(lines_up("ab ", &heard(0, "ab ")));
        assert!(!lines_up("ab ", &heard(1, "ab ")));
        assert!(!lines_up("other", &heard(0, "ab ")));
        // Lists that were moved together line up with themselves, and not with another run.
        let (first, mut second) = (heard(0, "ab "), heard(0, "ab g"));
        assert!(agree(&first, &second));
        second.logprobs[0]["token_logprobs"].as_array_mut().unwrap().swap(2, 3);
        assert!(!agree(&first, &second));
    }

    #[tokio::test]
    async fn nothing_is_concluded_from_a_server_that_is_not_well() {
        use crate::scripted::{Script, Scripted};
        let gone = Scripted::new(Script::Unreachable);
        assert_eq!(probe(&gone, MODEL, 1).await.unwrap_err().name(), "unreachable");
    }
}
