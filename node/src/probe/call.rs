//! One call, as any program with the SDK makes it: a signed request, an answer, a receipt that was verified. And the same call again,
//! after a process died over it: under its key it is asked and charged once.

use std::sync::Arc;

use comity_probe::{Prompt, Read};
use comity_sdk::client::Error;
use comity_sdk::keys::Key;
use comity_sdk::{Client, Query};
use comity_wire::object::{Receipt, Tariff};
use comity_wire::{Amount, ModelId, Timestamp, Verified};
use serde_json::json;

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
        Ok(seen(read, &receipt, body_bytes, u64::from(self.prompt.max_tokens)))
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
    match (error.code(), error.root()) {
        (Some(code), _) => code.as_str().to_owned(),
        (None, Error::Door(_) | Error::NoDoor(_)) => "not reached".to_owned(),
        (None, Error::Cut(_)) => "the stream was cut".to_owned(),
        (None, Error::Limit { .. } | Error::TokenLimit { .. }) => "the persona's credits are spent".to_owned(),
        (None, other) => other.to_string(),
    }
}

/// What there is to keep of an answer.
fn seen(read: Read, receipt: &Verified<Receipt>, body_bytes: u64, max_tokens: u64) -> Seen {
    let listed = (!read.steps.is_empty()).then_some(read.steps.len() as u64);
    let answer = read.answer();
    let receipt = Stored::new(receipt.bytes()).expect("a receipt is smaller than what is stored");
    Seen {
        receipt,
        answer,
        text: read.text.filter(|_| !read.refused),
        body_bytes,
        max_tokens,
        usage: read.usage,
        listed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
