//! One call, as any program with the SDK makes it: a signed request, an answer, a receipt that was verified. And the same call again,
//! after a process died over it: under its key it is asked and charged once.

use std::sync::Arc;

use comity_probe::{Answer, Choice, Prompt, Step};
use comity_sdk::client::Error;
use comity_sdk::keys::Key;
use comity_sdk::{Client, Query};
use comity_wire::object::{Receipt, Tariff};
use comity_wire::{Amount, ModelId, Timestamp, Verified};
use serde_json::{Value, json};

use super::state::{Seen, Stored};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Call {
    pub model: ModelId,
    pub prompt: Prompt,
    pub stream: bool,
    pub logprobs: Option<u8>,
    /// What was planned for it.
    pub worst: Amount,
    /// Which call of the plan: the same after a restart.
    pub key: Key,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    Answered(Box<Seen>),
    /// Nothing to compare; what it cost all the same.
    Failed {
        charge: Amount,
        why: String,
    },
    /// Nobody knows yet whether it was charged: it is asked again later.
    Doubt {
        why: String,
    },
}

/// The longest text of an answer that is kept.
const TEXT_BYTES_MAX: usize = 16_384;

impl Call {
    /// The key of a call of a plan.
    #[must_use]
    pub fn key(persona: u32, day: u64, ask: usize, at: Timestamp) -> Key {
        Key::of_caller(format!("{persona}/{day}/{ask}").as_bytes(), at)
    }

    /// The body, as `comity chat` writes it; nothing in it is there for the sake of the probe.
    fn query(&self) -> Query {
        let messages = json!([{"role": "user", "content": self.prompt.text}]);
        let mut body = json!({
            "model": self.model, "messages": messages, "stream": self.stream, "temperature": 0,
            "max_tokens": self.prompt.max_tokens,
        });
        if self.stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(top) = self.logprobs {
            (body["logprobs"], body["top_logprobs"]) = (true.into(), top.into());
        }
        let body = serde_json::to_vec(&body).expect("a JSON value has bytes");
        // No maximum of its own: the wallet signs the worst case of these very bytes, as it does for everybody.
        let query = Query::from_body("/v1/chat/completions", body).expect("a chat is a query");
        Query { key: Some(self.key), ..query }
    }

    /// Whether what the wallet will sign, the worst case of the body, is within what was planned.
    #[must_use]
    pub fn fits(&self, tariff: Option<&Tariff>) -> bool {
        let worst = tariff.and_then(|tariff| tariff.worst_case(&self.query().demand(0)).ok());
        worst.is_some_and(|worst| worst <= self.worst)
    }

    /// Makes it, and finds out what it cost where it failed.
    pub async fn make(&self, client: &Arc<Client>) -> Outcome {
        let query = self.query();
        match self.once(client, &query).await {
            Ok(seen) => Outcome::Answered(Box::new(seen)),
            Err(error) => self.ended(client, &query, error).await,
        }
    }

    /// A call that a process before this one began: what became of it. One that was never sent, or that the node refused, is not
    /// asked now: its time is over.
    pub async fn again(&self, client: &Arc<Client>) -> Outcome {
        client.resolve_all().await;
        if client.may_be_charged(&self.key).await {
            self.make(client).await
        } else {
            Outcome::Failed { charge: Amount::ZERO, why: "the process ended before it was asked".to_owned() }
        }
    }

    async fn once(&self, client: &Client, query: &Query) -> Result<Seen, Error> {
        let body_bytes = query.body.len() as u64;
        let (read, receipt) = if self.stream {
            let mut streaming = client.stream(query).await?;
            let mut read = Read::default();
            loop {
                match streaming.next().await {
                    Ok(Some(payload)) => read.piece(&payload),
                    Ok(None) => break,
                    Err(error) => {
                        streaming.abandon().await;
                        return Err(error);
                    }
                }
            }
            (read, streaming.receipt().await?)
        } else {
            let answer = client.ask(query).await?;
            (Read::whole(&answer.body), answer.receipt)
        };
        client.answered(&self.key).await?;
        Ok(read.seen(&receipt, body_bytes, u64::from(self.prompt.max_tokens)))
    }

    async fn ended(&self, client: &Arc<Client>, query: &Query, error: Error) -> Outcome {
        let why = why(&error);
        if let Error::Replayed { charge, .. } = error {
            return Outcome::Failed { charge, why: "charged, and its answer is not kept any more".to_owned() };
        }
        if !client.may_be_charged(&self.key).await {
            return Outcome::Failed { charge: Amount::ZERO, why };
        }
        if matches!(error, Error::Fault(_) | Error::Receipt(_) | Error::NoReceipt) {
            // Kept as evidence in its wallet, and nothing more is asked under that token. It may be claimed whole.
            return Outcome::Failed { charge: self.worst, why };
        }
        // Asked once more, it is the same call.
        match self.once(client, query).await {
            Ok(seen) => Outcome::Answered(Box::new(seen)),
            Err(Error::Replayed { charge, .. }) => Outcome::Failed { charge, why },
            Err(_) if !client.may_be_charged(&self.key).await => Outcome::Failed { charge: Amount::ZERO, why },
            Err(_) => Outcome::Doubt { why },
        }
    }
}

/// What the other side said, by its code where it has one: no text of a node's is kept.
fn why(error: &Error) -> String {
    match (error.code(), error) {
        (Some(code), _) => code.as_str().to_owned(),
        (None, Error::Door(_) | Error::NoDoor(_)) => "not reached".to_owned(),
        (None, Error::Cut(_)) => "the stream was cut".to_owned(),
        (None, Error::Limit { .. } | Error::TokenLimit { .. }) => "the persona's credits are spent".to_owned(),
        (None, other) => other.to_string(),
    }
}

/// What is read of an answer, whole or in pieces.
#[derive(Debug, Default)]
struct Read {
    text: Option<String>,
    steps: Vec<Step>,
    refused: bool,
    usage: Option<(u64, u64)>,
}

impl Read {
    fn whole(body: &[u8]) -> Self {
        let mut read = Self::default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        read.take(&body, "message");
        read
    }

    fn piece(&mut self, payload: &str) {
        let body: Value = serde_json::from_str(payload).unwrap_or_default();
        self.take(&body, "delta");
    }

    fn take(&mut self, body: &Value, part: &str) {
        let tokens = |name: &str| body["usage"][name].as_u64();
        self.usage = tokens("prompt_tokens").zip(tokens("completion_tokens")).or(self.usage);
        let choice = &body["choices"][0];
        if let Some(more) = choice[part]["content"].as_str() {
            let text = self.text.get_or_insert_default();
            let room = TEXT_BYTES_MAX.saturating_sub(text.len());
            text.push_str(&more[..more.floor_char_boundary(room)]);
        }
        let says = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        self.refused |= says(&choice[part]["refusal"]) || choice["finish_reason"] == "content_filter";
        self.steps.extend(choice["logprobs"]["content"].as_array().into_iter().flatten().map(step));
    }

    fn seen(self, receipt: &Verified<Receipt>, body_bytes: u64, max_tokens: u64) -> Seen {
        let listed = (!self.steps.is_empty()).then_some(self.steps.len() as u64);
        let text = self.text.filter(|_| !self.refused);
        let answer = match (&text, self.steps) {
            _ if self.refused => Answer::refusal(),
            (_, steps) if !steps.is_empty() => Answer { choice: Choice::Answered, steps },
            (text, _) => Answer::of_text(text.as_deref().unwrap_or_default()),
        };
        let receipt = Stored::new(receipt.bytes()).expect("a receipt is smaller than what is stored");
        Seen { receipt, answer: answer.bounded(), text, body_bytes, max_tokens, usage: self.usage, listed }
    }
}

fn step(token: &Value) -> Step {
    let text = |value: &Value| value["token"].as_str().unwrap_or_default().to_owned();
    let top = token["top_logprobs"].as_array().into_iter().flatten();
    let top = top.filter_map(|other| Some((text(other), other["logprob"].as_f64()?)));
    Step { text: text(token), top: top.take(20).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(pieces: &[&str]) -> Read {
        let mut read = Read::default();
        pieces.iter().for_each(|piece| read.piece(piece));
        read
    }

    /// An owner reads body and signed maximum: both are what any wallet makes of the question.
    #[test]
    fn a_probe_is_asked_as_any_question_is() {
        let model: ModelId = "lab/model".parse().unwrap();
        let prompt = comity_probe::Pool::new(comity_probe::Secret::new([1; 32])).prompt(7);
        let key = Call::key(1, 2, 3, Timestamp(4));
        let worst = Amount::credits(1);
        let call = Call { model: model.clone(), prompt, stream: false, logprobs: None, worst, key };
        let asked = Query::chat(model, &[("user", &call.prompt.text)], Some(call.prompt.max_tokens), false);
        let query = call.query();
        assert_eq!((&query.body, query.path, query.max_charge), (&asked.body, asked.path, None));
        assert_eq!(query.demanded, asked.demanded);
        assert_eq!(Call::key(1, 2, 3, Timestamp(9)).digest, key.digest, "the same call after a restart");
        assert_ne!(Call::key(1, 2, 4, Timestamp(4)).digest, key.digest);
    }

    #[test]
    fn an_answer_is_the_same_whole_or_in_pieces() {
        let tokens = r#"{"token":"Pa","top_logprobs":[{"token":"Pa","logprob":-0.5},{"token":"Li","logprob":-1.5}]}"#;
        let more = r#"{"token":"ris","top_logprobs":[]}"#;
        let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":2}"#;
        let whole = format!(
            r#"{{"choices":[{{"message":{{"content":"Paris","refusal":null}},"logprobs":{{"content":[{tokens},{more}]}},"finish_reason":"stop"}}],{usage}}}"#
        );
        let whole = Read::whole(whole.as_bytes());
        let pieces = logged(&[
            &format!(r#"{{"choices":[{{"delta":{{"content":"Pa"}},"logprobs":{{"content":[{tokens}]}}}}]}}"#),
            &format!(r#"{{"choices":[{{"delta":{{"content":"ris"}},"logprobs":{{"content":[{more}]}}}}]}}"#),
            &format!(r#"{{"choices":[],{usage}}}"#),
        ]);
        for read in [whole, pieces] {
            assert_eq!((read.text.as_deref(), read.usage, read.refused), (Some("Paris"), Some((9, 2)), false));
            assert_eq!(read.steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(), ["Pa", "ris"]);
            assert_eq!(read.steps[0].top[1], ("Li".to_owned(), -1.5));
        }
        for refusal in [
            r#"{"choices":[{"delta":{"content":"Pa"},"finish_reason":"content_filter"}]}"#,
            r#"{"choices":[{"delta":{"refusal":"no"}}]}"#,
        ] {
            assert!(logged(&[refusal]).refused, "{refusal}");
        }
    }
}
