//! Request fields: which pass, which this node acts on itself, and what a body asks for.

mod shape;
mod table;

use comity_http::Refusal;
use comity_wire::object::Run;
use comity_wire::{ModelId, Op};
use serde_json::{Map, Value};

use crate::refusal::form;
use crate::responses;
use crate::routes::{Form, Route};
use crate::schema::Pair;
use crate::spend::Limit;

pub(crate) use shape::{Prompt, Shape};
pub(crate) use table::{
    CHAT, COMPLETIONS, DETOKENIZE, EMBEDDINGS, MODERATIONS, PREDICT, RESPONSES, TOKENIZE, TOKENIZER_INFO,
};

/// What becomes of a field.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Goes to the upstream, as far as it is tabled.
    Pass(Shape),
    /// The gateway acts on it; the upstream gets what the gateway makes of it, if anything.
    Own,
}

pub(crate) type Field = (&'static str, Rule);

use Rule::{Own, Pass};

/// Every route takes it, and no upstream gets it.
pub(crate) const RUN: &str = "comity_run";
/// Every route that has a batch price takes it, and no upstream gets it.
pub(crate) const BATCH: &str = "comity_batch";
/// The most prompts in one completion.
const PROMPTS_MAX: usize = 128;
/// How long an ignored field's name may be when it is named back.
const IGNORED_NAME_MAX: usize = 48;

/// A body, understood.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) model: ModelId,
    pub(crate) op: Op,
    /// Whether it is part of a batch: it is charged as op `batch`, and let in by that op's rows, too.
    pub(crate) batch: bool,
    /// What goes to the upstream, without the limits that pricing sets.
    pub(crate) body: Map<String, Value>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) limit: Limit,
    /// Choices of one prompt that are answered with.
    pub(crate) n: u64,
    /// Choices of one prompt that are generated: `n`, or `best_of`.
    pub(crate) generated: u64,
    /// Prompts, or items of an input; empty for a chat.
    pub(crate) prompts: Vec<Prompt>,
    /// Alternatives per token, where log-probabilities are asked for.
    pub(crate) logprobs: Option<u64>,
    pub(crate) echo: bool,
    /// Embeddings as base64.
    pub(crate) base64: bool,
    /// What the manifest says that `predict` takes and gives; found once the model is known.
    pub(crate) schema: Option<Pair>,
    /// The execution of an approved plan that it is part of.
    pub(crate) run: Option<Run>,
    /// What a response repeats of its request.
    pub(crate) echoed: Map<String, Value>,
    /// Dropped, and named in `comity-ignored`.
    pub(crate) ignored: Vec<String>,
    /// Every text that the upstream would get, for the filter.
    pub(crate) texts: Vec<String>,
    /// Bytes of the prompt's own texts, for bounds on its tokens.
    pub(crate) words_bytes: u64,
}

impl Asked {
    /// How many prompts `output_tokens` is generated for.
    pub(crate) fn prompts(&self) -> u64 {
        (self.prompts.len() as u64).max(1)
    }

    /// What `requests` counts: a prediction is charged by the item.
    pub(crate) fn requests(&self) -> u64 {
        if self.op == Op::Predict { self.prompts() } else { 1 }
    }

    /// What it is charged as.
    pub(crate) fn priced_op(&self) -> Op {
        if self.batch { Op::Batch } else { self.op }
    }

    /// What the upstream is asked for: a response is a chat there.
    pub(crate) fn upstream_op(&self) -> Op {
        if self.op == Op::Responses { Op::Chat } else { self.op }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &[u32]> {
        self.prompts.iter().filter_map(|prompt| match prompt {
            Prompt::Ids(ids) => Some(&ids[..]),
            Prompt::Text(_) => None,
        })
    }
}

/// Reads a body under a route's table. `only` is the model of a caller whose token names no other: some tools of the trade
/// leave it out.
///
/// # Errors
/// 400, naming the field.
pub(crate) fn read(
    route: &Route,
    given: Map<String, Value>,
    only: impl FnOnce() -> Option<ModelId>,
) -> Result<Asked, Refusal> {
    let mut own = Map::new();
    let mut pass = Map::new();
    let mut reading = shape::Reading::default();
    let mut unknown = shape::Reading::default();
    let (mut run, mut batch) = (None, false);
    for (name, value) in given {
        if value.is_null() {
            continue;
        }
        if name == RUN {
            let named = value.as_str().and_then(|name| name.parse().ok());
            run = Some(named.ok_or_else(|| form(format!("'{RUN}': {}", comity_wire::object::NotARun), RUN))?);
            continue;
        }
        if name == BATCH && route.op.is_batched() {
            batch = value.as_bool().ok_or_else(|| form(format!("'{BATCH}' must be true or false"), BATCH))?;
            continue;
        }
        match route.fields.iter().find(|(known, _)| *known == name) {
            Some((_, Own)) => {
                own.insert(name, value);
            }
            Some((known, Pass(shape))) => {
                if let Some(value) = shape.take(known, value, &mut reading)? {
                    pass.insert(name, value);
                }
            }
            None => unknown.ignore("", &name),
        }
    }
    if !route.needed.is_empty() && !route.needed.iter().any(|needed| pass.contains_key(*needed)) {
        return Err(form(format!("'{}' is missing", route.needed.join("' or '")), route.needed[0]));
    }
    let model = model(&own, route, only)?;
    let stream = flag(&own, "stream")?;
    if stream && batch {
        return Err(form("a batch has no streams", "stream"));
    }
    let usage = own.get("stream_options").and_then(|options| options.get("include_usage"));
    let include_usage = stream && usage.and_then(Value::as_bool).unwrap_or(false);
    let logprobs = logprobs(route, &own, &mut pass)?;
    let n = count(&own, "n")?.unwrap_or(1);
    if n == 0 {
        return Err(form("'n' must be 1 or more", "n"));
    }
    if n > 1 {
        pass.insert("n".into(), n.into());
    }
    let best_of = count(&own, "best_of")?.unwrap_or(n);
    if best_of < n || (best_of > n && stream) {
        return Err(form("'best_of' must be 'n' or more, and with 'stream' the same", "best_of"));
    }
    if best_of > n {
        pass.insert("best_of".into(), best_of.into());
    }
    let echo = flag(&own, "echo")?;
    if echo {
        pass.insert("echo".into(), true.into());
    }
    let base64 = match own.get("encoding_format").and_then(Value::as_str) {
        _ if !own.contains_key("encoding_format") => false,
        Some("float") => false,
        Some("base64") => true,
        _ => return Err(form("'encoding_format' must be float or base64", "encoding_format")),
    };
    let echoed = if route.op == Op::Responses {
        stateless(&own)?;
        responses::to_chat(&mut pass)?
    } else {
        Map::new()
    };
    tidy(&mut pass);
    Ok(Asked {
        model,
        op: route.op,
        batch,
        body: pass,
        stream,
        include_usage,
        limit: limit(route, &own, echo)?,
        n,
        generated: best_of,
        prompts: reading.prompts,
        logprobs,
        echo,
        base64,
        schema: None,
        run,
        echoed,
        // The body's own names first: what lies within may be many.
        ignored: unknown.ignored.into_iter().chain(reading.ignored).take(shape::IGNORED_MAX).collect(),
        texts: reading.texts,
        words_bytes: reading.words_bytes,
    })
}

/// A JSON body's fields.
///
/// # Errors
/// 400.
pub(crate) fn body(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| form(format!("the body is not JSON: {error}"), "body"))?;
    let Value::Object(given) = value else { return Err(form("the body must be a JSON object", "body")) };
    Ok(given)
}

/// The fields of a `GET`, all of them texts.
///
/// # Errors
/// 400.
pub(crate) fn query(query: &str) -> Result<Map<String, Value>, Refusal> {
    let uri: http::Uri =
        format!("/?{query}").parse().map_err(|error| form(format!("the query is no query: {error}"), "query"))?;
    let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
        .map_err(|error| form(format!("the query is no query: {error}"), "query"))?;
    Ok(pairs.into_iter().map(|(name, value)| (name, value.into())).collect())
}

fn model(own: &Map<String, Value>, route: &Route, only: impl FnOnce() -> Option<ModelId>) -> Result<ModelId, Refusal> {
    let missing = || form("'model' must be a model's name", "model");
    let Some(given) = own.get("model") else {
        // Without a choice there is nothing to name; what generates is always told for what.
        return if matches!(route.form, Form::Text(_)) { None } else { only() }.ok_or_else(missing);
    };
    let name = given.as_str().ok_or_else(missing)?;
    name.parse().map_err(|_| {
        Refusal::new(comity_wire::Code::ModelNotFound, format!("there is no model '{}'", printable(name)))
            .param("model")
    })
}

fn logprobs(route: &Route, own: &Map<String, Value>, pass: &mut Map<String, Value>) -> Result<Option<u64>, Refusal> {
    if route.op == Op::Completions {
        return Ok(count(own, "logprobs")?.inspect(|top| drop(pass.insert("logprobs".into(), (*top).into()))));
    }
    let top = count(own, "top_logprobs")?;
    let asked = flag(own, "logprobs")?;
    if top.is_some_and(|top| top > 0) && !asked {
        return Err(form("'top_logprobs' needs 'logprobs': true", "top_logprobs"));
    }
    if asked {
        pass.insert("logprobs".into(), true.into());
        top.inspect(|top| drop(pass.insert("top_logprobs".into(), (*top).into())));
    }
    Ok(asked.then(|| top.unwrap_or(0)))
}

fn limit(route: &Route, own: &Map<String, Value>, echo: bool) -> Result<Limit, Refusal> {
    let mut stated = None;
    for name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
        let also = count(own, name)?;
        stated = stated.min(also).or(stated).or(also);
    }
    Ok(match (stated, &route.form) {
        // Nothing is generated.
        (_, Form::Piece(_)) => Limit::Stated(0),
        (Some(tokens), _) => Limit::Stated(tokens),
        // OpenAI's own default for completions; a chat without a limit may be as long as its maximum pays.
        (None, _) if echo => Limit::Stated(16),
        (None, _) => Limit::None,
    })
}

/// A node keeps no conversation: what would need one is refused rather than dropped.
fn stateless(own: &Map<String, Value>) -> Result<(), Refusal> {
    for name in ["previous_response_id", "conversation"] {
        if own.contains_key(name) {
            let message = format!("this node keeps no conversation: '{name}' names one");
            return Err(form(message, name).hint("send the whole conversation in 'input'"));
        }
    }
    if flag(own, "background")? {
        let refused = form("this node answers while you wait: 'background' must be false", "background");
        return Err(refused.hint("leave 'background' out, or use 'stream'"));
    }
    Ok(())
}

/// What servers trip over although it is well formed.
fn tidy(body: &mut Map<String, Value>) {
    if body.get("tools").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        body.remove("tools");
    }
    // OpenAI's newer name for it; the templates of open models know the older one alone.
    for message in body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        if message["role"] == "developer" {
            message["role"] = "system".into();
        }
    }
}

fn flag(own: &Map<String, Value>, name: &'static str) -> Result<bool, Refusal> {
    match own.get(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(form(format!("'{name}' must be true or false"), name)),
    }
}

fn count(own: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = own.get(name) else { return Ok(None) };
    let whole = value.as_u64().filter(|count| *count <= u64::from(u32::MAX));
    whole.map(Some).ok_or_else(|| form(format!("'{name}' must be a whole number, 0 or more"), name))
}

/// A stranger's name that can stand in a header.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '_' }).take(IGNORED_NAME_MAX).collect()
}

#[cfg(test)]
mod tests;
