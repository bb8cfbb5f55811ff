//! What a request asks for, read from its body, and the answer as it comes back.

use comity_wire::object::{Demand, DoorKind, NotARun, Receipt, Run};
use comity_wire::{Amount, Digest, ModelId, NodeId, Op, Verified};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::client::Served;
use crate::door::Response;
use crate::keys::Key;
use crate::route::Route;
use crate::want::{Name, NotAName};

/// Names the execution of an approved plan, in the body of any charged call (spec/03-manifest.md §3.8).
pub const RUN: &str = "comity_run";

/// Asks at the owner's batch price, in the body of a call that can wait (spec/03-manifest.md F-13).
pub const BATCH: &str = "comity_batch";

/// One query: a path of the door, and the JSON body that is sent as it stands here. A `Query<Name>` may leave open which model
/// answers it: its body is as its caller wrote it, and becomes each model's own ([`Query::to`]).
#[derive(Clone, Debug)]
pub struct Query<M = ModelId> {
    pub model: M,
    pub op: Op,
    pub method: &'static str,
    pub path: &'static str,
    /// What stands after `?`, without it.
    pub query: String,
    pub body: Vec<u8>,
    pub stream: bool,
    pub demanded: Demanded,
    /// The most the caller lets this call cost; `None`: the wallet chooses.
    pub max_charge: Option<Amount>,
    /// The execution of an approved plan that it is part of: the body's `comity_run`.
    pub run: Option<Run>,
    /// Which call it is: the same key and body are asked and charged once. `None`: any call with this body.
    pub key: Option<Key>,
    /// The release that has to answer; `None`: the one that the model has.
    pub release: Option<Digest>,
}

/// What both sides read from a body to find its worst case (spec/06-metering.md §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demanded {
    pub choices: u64,
    /// The stated limit of output tokens; `None` where the body states none.
    pub output_tokens: Option<u64>,
}

/// Why a body is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuery {
    #[error("the body must be a JSON object")]
    Json,
    #[error("the body must name a model as organisation/model")]
    Model,
    #[error("model: {0}")]
    Name(NotAName),
    #[error("model: many calls name their model as organisation/model; any: and same: are for one call at a time")]
    Open,
    #[error("no such route: {0}")]
    Route(String),
    #[error("comity_run: {0}")]
    Run(NotARun),
    #[error("{0} cannot be streamed")]
    Stream(&'static str),
}

/// What a node says beside its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notes {
    /// Who answered.
    pub node: NodeId,
    /// Headers for whoever asked: [`for_the_caller`].
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The door it came by.
    pub door: Option<DoorKind>,
    /// Which model answered and which did not, where the caller left that open.
    pub served: Option<Box<Served>>,
}

/// Headers that mean something to the caller: what it cost and what is left, limits, when to come again, which request it was.
pub fn for_the_caller(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    const NAMED: &[&str] = &["x-request-id", "x-should-retry", "retry-after", "retry-after-ms"];
    let meant = |name: &str| NAMED.contains(&name) || name.starts_with("x-ratelimit-") || name.starts_with("comity-");
    let meant = headers.iter().filter(|(name, _)| meant(name.as_str()));
    meant.take(HEADERS_MAX).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// More of a node's headers than this are not handed on.
const HEADERS_MAX: usize = 64;

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Answer {
    pub body: Vec<u8>,
    /// With request and body, what the receipt's digests are made of.
    pub nonce: [u8; 16],
    pub receipt: Verified<Receipt>,
    pub notes: Notes,
}

impl Notes {
    pub(crate) fn of(response: &Response, node: NodeId) -> Self {
        Self { node, headers: for_the_caller(response.headers()), door: response.door(), served: None }
    }
}

impl Query {
    /// Reads an OpenAI request.
    ///
    /// # Errors
    /// [`NotAQuery`].
    pub fn from_body(path: &str, body: Vec<u8>) -> Result<Self, NotAQuery> {
        let query = Query::<Name>::read(path, body)?;
        match query.model.clone() {
            Name::Model(model) => Ok(query.with(model)),
            Name::Want(_) => Err(NotAQuery::Open),
        }
    }

    /// A chat of one question.
    pub fn chat(model: ModelId, messages: &[(&str, &str)], max_tokens: Option<u32>, stream: bool) -> Self {
        let body = question(&model.to_string(), messages, max_tokens, stream);
        Self::from_body(CHAT, body).expect("a chat is a query")
    }

    /// The same at the batch price; `None` where it cannot be asked so.
    #[must_use]
    pub fn as_batch(&self) -> Option<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(&self.body) else { return None };
        if self.stream || !self.op.is_batched() {
            return None;
        }
        fields.insert(BATCH.to_owned(), true.into());
        let body = serde_json::to_vec(&fields).expect("a JSON value has bytes");
        Some(Self { body, op: Op::Batch, ..self.clone() })
    }

    pub fn demand(&self, output_ceiling: u64) -> Demand {
        let output_tokens = self.demanded.output_tokens.unwrap_or(output_ceiling);
        Demand { op: self.op, input_bytes: self.body.len() as u64, choices: self.demanded.choices, output_tokens }
    }
}

const CHAT: &str = "/v1/chat/completions";

fn question(model: &str, messages: &[(&str, &str)], max_tokens: Option<u32>, stream: bool) -> Vec<u8> {
    let messages: Vec<_> =
        messages.iter().map(|(role, content)| serde_json::json!({"role": role, "content": content})).collect();
    let mut body = serde_json::json!({"model": model, "messages": messages, "stream": stream, "temperature": 0});
    if let Some(limit) = max_tokens {
        body["max_tokens"] = limit.into();
    }
    serde_json::to_vec(&body).expect("a JSON value has bytes")
}

impl<M> Query<M> {
    /// The same as part of an execution of an approved plan.
    #[must_use]
    pub fn within(self, run: &Run) -> Self {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(&self.body) else { return self };
        fields.insert(RUN.to_owned(), run.as_str().into());
        let body = serde_json::to_vec(&fields).expect("a JSON value has bytes");
        Self { body, run: Some(run.clone()), ..self }
    }

    fn with<N>(self, model: N) -> Query<N> {
        let Self { model: _, op, method, path, query, body, stream, demanded, max_charge, run, key, release } = self;
        Query { model, op, method, path, query, body, stream, demanded, max_charge, run, key, release }
    }
}

impl Query<Name> {
    /// Reads an OpenAI request whose `model` is a model's name, or what a model has to be.
    ///
    /// # Errors
    /// [`NotAQuery`].
    pub fn read(path: &str, body: Vec<u8>) -> Result<Self, NotAQuery> {
        let route = Route::find(path).ok_or_else(|| NotAQuery::Route(path.to_owned()))?;
        let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else { return Err(NotAQuery::Json) };
        let name = fields.get("model").and_then(Value::as_str).ok_or(NotAQuery::Model)?;
        let model: Name = name.parse().map_err(|error| match error {
            NotAName::Neither => NotAQuery::Model,
            error => NotAQuery::Name(error),
        })?;
        let stream = fields.get("stream").and_then(Value::as_bool).unwrap_or(false);
        if stream && !route.streams {
            return Err(NotAQuery::Stream(route.path));
        }
        let run = match fields.get(RUN).filter(|run| !run.is_null()) {
            Some(run) => Some(run.as_str().unwrap_or_default().parse().map_err(NotAQuery::Run)?),
            None => None,
        };
        let demanded = route.demanded(&fields);
        let batch = fields.get(BATCH).and_then(Value::as_bool).unwrap_or(false) && route.op.is_batched();
        if batch && stream {
            return Err(NotAQuery::Stream("a batch"));
        }
        if batch && matches!(model, Name::Want(_)) {
            return Err(NotAQuery::Open);
        }
        // A body of GET would be nobody's: its one field goes into the address.
        let (query, body) = match (route.method, &model) {
            ("GET", Name::Model(model)) => (format!("model={}", model.to_string().replace('/', "%2F")), Vec::new()),
            _ => (String::new(), body),
        };
        let (method, path, op) = (route.method, route.path, if batch { Op::Batch } else { route.op });
        Ok(Self {
            model,
            op,
            method,
            path,
            query,
            body,
            stream,
            demanded,
            max_charge: None,
            run,
            key: None,
            release: None,
        })
    }

    /// A chat of one question, to a model or to one that fits.
    pub fn question(model: &Name, messages: &[(&str, &str)], max_tokens: Option<u32>, stream: bool) -> Self {
        Self::read(CHAT, question(&model.to_string(), messages, max_tokens, stream)).expect("a chat is a query")
    }

    /// What tells this call from another under one key: of one that leaves its model open, [`crate::keys::Part::asked`].
    pub fn asked(&self) -> Digest {
        match self.model {
            Name::Model(_) => Digest::of(&self.body),
            Name::Want(_) => Digest::of_parts(&[self.path.as_bytes(), &self.body]),
        }
    }

    /// The same call at one model: its name stands in the body, and the key is the call's at it.
    pub fn to(&self, model: &ModelId) -> Query {
        let asked = self.asked();
        let to = || {
            let Ok(Value::Object(mut fields)) = serde_json::from_slice(&self.body) else { return None };
            fields.insert("model".to_owned(), model.to_string().into());
            let body = serde_json::to_vec(&fields).expect("a JSON value has bytes");
            Query::from_body(self.path, body).ok()
        };
        match &self.model {
            Name::Model(_) => self.clone().with(model.clone()),
            Name::Want(_) => {
                let query = to().expect("what was read once is read again");
                let key = self.key.map(|key| key.at_model(asked, model));
                Query { max_charge: self.max_charge, key, ..query }
            }
        }
    }
}

impl From<Query> for Query<Name> {
    fn from(query: Query) -> Self {
        let model = Name::Model(query.model.clone());
        query.with(model)
    }
}

impl Answer {
    /// The first choice's text, of chat or completions.
    pub fn text(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let choice = body.get("choices")?.get(0)?;
        let text = choice.get("message").and_then(|message| message.get("content")).or_else(|| choice.get("text"))?;
        text.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_priced_route_can_be_asked_and_no_other() {
        let ask = |path: &str, body: &str| Query::from_body(path, body.as_bytes().to_vec());
        let query = ask("/v1/embeddings", r#"{"model":"lab/m","input":["a"]}"#).unwrap();
        assert_eq!((query.op, query.path, query.stream), (Op::Embeddings, "/v1/embeddings", false));
        let batch = query.as_batch().unwrap();
        assert_eq!((batch.op, batch.path, batch.demanded), (Op::Batch, "/v1/embeddings", query.demanded));
        let again = Query::from_body("/v1/embeddings", batch.body.clone()).unwrap();
        assert_eq!((again.op, again.as_batch().is_none()), (Op::Batch, true), "its body says what it is");
        let streamed = ask("/v1/responses", r#"{"model":"lab/m","input":"a","stream":true}"#).unwrap();
        assert!(streamed.stream && streamed.op == Op::Responses && streamed.as_batch().is_none());
        let both = ask("/v1/responses", r#"{"model":"lab/m","input":"a","stream":true,"comity_batch":true}"#);
        assert_eq!(both.unwrap_err(), NotAQuery::Stream("a batch"));
        let open = br#"{"model":"any:price<=1","input":"a","comity_batch":true}"#.to_vec();
        assert_eq!(Query::<Name>::read("/v1/embeddings", open).unwrap_err(), NotAQuery::Open);
        let unstreamed = ask("/v1/embeddings", r#"{"model":"lab/m","input":"a","stream":true}"#).unwrap_err();
        assert_eq!(unstreamed, NotAQuery::Stream("/v1/embeddings"));
        assert_eq!(ask("/v1/images", "{}").unwrap_err(), NotAQuery::Route("/v1/images".to_owned()));
        let read = ask("/tokenizer_info", r#"{"model":"lab/m"}"#).unwrap();
        assert_eq!((read.method, read.query.as_str(), read.body.len()), ("GET", "model=lab%2Fm", 0));
        assert_eq!(ask("/tokenize", r#"{"prompt":"a"}"#).unwrap_err(), NotAQuery::Model);
    }

    #[test]
    fn a_call_that_leaves_its_model_open_becomes_each_models_own() {
        use crate::keys::Key;
        use comity_wire::Timestamp;

        let body = br#"{"model":"same:lab/m","input":["a"],"user":"x"}"#.to_vec();
        let key = Key::of_caller(b"k", Timestamp(1));
        let read = Query::<Name>::read("/v1/embeddings", body).unwrap();
        let open = Query { key: Some(key), max_charge: Some(Amount::from_ucr(7)), ..read };
        let query = open.to(&"museum/m".parse().unwrap());
        assert_eq!(query.body, br#"{"model":"museum/m","input":["a"],"user":"x"}"#);
        assert_eq!((query.max_charge, query.op), (Some(Amount::from_ucr(7)), Op::Embeddings));
        let part = query.key.unwrap();
        assert_eq!(part.part.unwrap().of, key.digest);
        assert_ne!(part.digest, open.to(&"lab/m".parse().unwrap()).key.unwrap().digest, "each model's own");
        let tokens = Query::<Name>::read("/tokenizer_info", br#"{"model":"same:lab/m"}"#.to_vec()).unwrap();
        let tokens = tokens.to(&"museum/m".parse().unwrap());
        assert_eq!((tokens.query.as_str(), tokens.body.len()), ("model=museum%2Fm", 0));
        let many = Query::from_body("/v1/embeddings", br#"{"model":"any:op=chat","input":"a"}"#.to_vec());
        assert_eq!(many.unwrap_err(), NotAQuery::Open);
        let wrong = Query::<Name>::read("/v1/embeddings", br#"{"model":"any:price=1","input":"a"}"#.to_vec());
        assert!(wrong.unwrap_err().to_string().contains("is no condition"));
    }
}
