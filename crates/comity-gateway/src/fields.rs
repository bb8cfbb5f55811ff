//! Request fields: which pass, which this node acts on itself, and what a body asks for.

use comity_http::Refusal;
use comity_wire::{ModelId, Op};
use serde_json::{Map, Value};

use crate::refusal::form;
use crate::routes::Route;
use crate::spend::Limit;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Goes to the upstream as it is.
    Pass(Shape),
    /// The gateway acts on it; the upstream gets what the gateway makes of it, if anything.
    Own,
}

/// What a value may look like. `null` always means that the field is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Number,
    Integer,
    Object,
    /// One text or at most four.
    Stops,
    Messages,
    Prompt,
}

pub(crate) type Field = (&'static str, Rule);

use Rule::{Own, Pass};

pub(crate) const CHAT: &[Field] = &[
    ("model", Own),
    ("messages", Pass(Shape::Messages)),
    ("max_tokens", Own),
    ("max_completion_tokens", Own),
    ("n", Own),
    ("stream", Own),
    ("stream_options", Own),
    ("logprobs", Own),
    ("top_logprobs", Own),
    ("temperature", Pass(Shape::Number)),
    ("top_p", Pass(Shape::Number)),
    ("stop", Pass(Shape::Stops)),
    ("seed", Pass(Shape::Integer)),
    ("presence_penalty", Pass(Shape::Number)),
    ("frequency_penalty", Pass(Shape::Number)),
    ("logit_bias", Pass(Shape::Object)),
    ("response_format", Pass(Shape::Object)),
];

pub(crate) const COMPLETIONS: &[Field] = &[
    ("model", Own),
    ("prompt", Pass(Shape::Prompt)),
    ("max_tokens", Own),
    ("n", Own),
    ("stream", Own),
    ("stream_options", Own),
    ("logprobs", Own),
    ("echo", Own),
    ("temperature", Pass(Shape::Number)),
    ("top_p", Pass(Shape::Number)),
    ("stop", Pass(Shape::Stops)),
    ("seed", Pass(Shape::Integer)),
    ("presence_penalty", Pass(Shape::Number)),
    ("frequency_penalty", Pass(Shape::Number)),
    ("logit_bias", Pass(Shape::Object)),
];

/// The most prompts in one request.
const PROMPTS_MAX: usize = 128;
const MESSAGES_MAX: usize = 4_096;
const STOPS_MAX: usize = 4;
/// How many ignored fields are named back, and how long a name may be.
const IGNORED_MAX: usize = 32;
const IGNORED_NAME_MAX: usize = 48;

/// A body, understood.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) model: ModelId,
    pub(crate) op: Op,
    /// What goes to the upstream, without the limits that pricing sets.
    pub(crate) body: Map<String, Value>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) limit: Limit,
    /// Per prompt.
    pub(crate) n: u64,
    pub(crate) prompts: u64,
    /// Alternatives per token, where log-probabilities are asked for.
    pub(crate) logprobs: Option<u64>,
    pub(crate) echo: bool,
    /// Dropped, and named in `comity-ignored`.
    pub(crate) ignored: Vec<String>,
    /// What the prompt says, for the filter and for bounds on its tokens.
    pub(crate) texts: Vec<String>,
}

/// Reads a body under a route's table.
///
/// # Errors
/// 400, naming the field.
pub(crate) fn read(route: &Route, body: &[u8]) -> Result<Asked, Refusal> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| form(format!("the body is not JSON: {error}"), "body"))?;
    let Value::Object(given) = value else { return Err(form("the body must be a JSON object", "body")) };
    let mut own = Map::new();
    let (mut pass, mut ignored, mut texts) = (Map::new(), Vec::new(), Vec::new());
    let mut prompts = 1;
    for (name, value) in given {
        if value.is_null() {
            continue;
        }
        match route.fields.iter().find(|(known, _)| *known == name) {
            Some((_, Own)) => {
                own.insert(name, value);
            }
            Some((_, Pass(shape))) => {
                check(&name, &value, *shape, &mut texts, &mut prompts)?;
                // lm-eval sends an empty list of stops; some servers refuse one.
                if *shape != Shape::Stops || value.as_array().is_none_or(|stops| !stops.is_empty()) {
                    pass.insert(name, value);
                }
            }
            None if ignored.len() < IGNORED_MAX => ignored.push(printable(&name)),
            None => {}
        }
    }
    let needed = if route.op == Op::Chat { "messages" } else { "prompt" };
    if !pass.contains_key(needed) {
        return Err(form(format!("'{needed}' is missing"), needed));
    }
    let model =
        own.get("model").and_then(Value::as_str).ok_or_else(|| form("'model' must be a model's name", "model"))?;
    let model = model.parse().map_err(|_| {
        Refusal::new(comity_wire::Code::ModelNotFound, format!("there is no model '{}'", printable(model)))
            .param("model")
    })?;
    let stream = flag(&own, "stream")?;
    let usage = own.get("stream_options").and_then(|options| options.get("include_usage"));
    let include_usage = stream && usage.and_then(Value::as_bool).unwrap_or(false);
    let stated = match (count(&own, "max_tokens")?, count(&own, "max_completion_tokens")?) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let logprobs = if route.op == Op::Chat {
        let top = count(&own, "top_logprobs")?;
        let asked = flag(&own, "logprobs")?;
        if top.is_some_and(|top| top > 0) && !asked {
            return Err(form("'top_logprobs' needs 'logprobs': true", "top_logprobs"));
        }
        if asked {
            pass.insert("logprobs".into(), true.into());
            top.inspect(|top| drop(pass.insert("top_logprobs".into(), (*top).into())));
        }
        asked.then(|| top.unwrap_or(0))
    } else {
        count(&own, "logprobs")?.inspect(|top| drop(pass.insert("logprobs".into(), (*top).into())))
    };
    let n = count(&own, "n")?.unwrap_or(1);
    if n == 0 {
        return Err(form("'n' must be 1 or more", "n"));
    }
    if n > 1 {
        pass.insert("n".into(), n.into());
    }
    let echo = flag(&own, "echo")?;
    if echo {
        pass.insert("echo".into(), true.into());
    }
    // OpenAI's own default for completions; a chat without a limit may be as long as its maximum pays.
    let limit = match (stated, route.op) {
        (Some(tokens), _) => Limit::Stated(tokens),
        (None, Op::Completions) if echo => Limit::Stated(16),
        (None, _) => Limit::None,
    };
    Ok(Asked {
        model,
        op: route.op,
        body: pass,
        stream,
        include_usage,
        limit,
        n,
        prompts,
        logprobs,
        echo,
        ignored,
        texts,
    })
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

fn check(name: &str, value: &Value, shape: Shape, texts: &mut Vec<String>, prompts: &mut u64) -> Result<(), Refusal> {
    let holds = match shape {
        Shape::Number => value.is_number(),
        Shape::Integer => value.is_i64() || value.is_u64(),
        Shape::Object => value.is_object(),
        Shape::Stops => match value {
            Value::String(_) => true,
            Value::Array(stops) => stops.len() <= STOPS_MAX && stops.iter().all(Value::is_string),
            _ => false,
        },
        Shape::Messages => messages(value, texts),
        Shape::Prompt => prompt(value, texts, prompts),
    };
    let expected = match shape {
        Shape::Number => "a number",
        Shape::Integer => "a whole number",
        Shape::Object => "an object",
        Shape::Stops => "a text or a list of at most four",
        Shape::Messages => "a list of messages, each with 'role' and text 'content'",
        Shape::Prompt => "a text, a list of token ids, or a list of at most 128 of either",
    };
    if holds { Ok(()) } else { Err(form(format!("'{name}' must be {expected}"), name)) }
}

/// Messages with a role and a content of text or text parts. Other keys of a message are refused: nothing untabled
/// reaches the upstream.
fn messages(value: &Value, texts: &mut Vec<String>) -> bool {
    let Some(messages) = value.as_array().filter(|list| !list.is_empty() && list.len() <= MESSAGES_MAX) else {
        return false;
    };
    messages.iter().all(|message| {
        let Some(message) = message.as_object() else { return false };
        let known = message.keys().all(|key| matches!(key.as_str(), "role" | "content" | "name"));
        let role = message.get("role").and_then(Value::as_str);
        let role = role.is_some_and(|role| matches!(role, "system" | "developer" | "user" | "assistant"));
        let named = message.get("name").is_none_or(Value::is_string);
        known && role && named && content(message.get("content"), texts)
    })
}

fn content(value: Option<&Value>, texts: &mut Vec<String>) -> bool {
    match value {
        Some(Value::String(text)) => {
            texts.push(text.clone());
            true
        }
        Some(Value::Array(parts)) => parts.iter().all(|part| {
            let text = part.get("text").and_then(Value::as_str);
            let is_text = part.get("type").and_then(Value::as_str) == Some("text");
            let only = part.as_object().is_some_and(|part| part.len() == 2);
            texts.extend(text.map(str::to_owned));
            is_text && only && text.is_some()
        }),
        _ => false,
    }
}

fn prompt(value: &Value, texts: &mut Vec<String>, prompts: &mut u64) -> bool {
    let is_ids = |ids: &[Value]| !ids.is_empty() && ids.iter().all(Value::is_u64);
    match value {
        Value::String(text) => {
            texts.push(text.clone());
            true
        }
        Value::Array(ids) if is_ids(ids) => true,
        Value::Array(list) if !list.is_empty() && list.len() <= PROMPTS_MAX => {
            *prompts = list.len() as u64;
            list.iter().all(|prompt| match prompt {
                Value::String(text) => {
                    texts.push(text.clone());
                    true
                }
                Value::Array(ids) => is_ids(ids),
                _ => false,
            })
        }
        _ => false,
    }
}

/// A stranger's name that can stand in a header.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '_' }).take(IGNORED_NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{CHAT as CHAT_ROUTE, COMPLETIONS as COMPLETIONS_ROUTE};

    fn chat(extra: &str) -> Result<Asked, Refusal> {
        read(
            &CHAT_ROUTE,
            format!(r#"{{"model":"lab/m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#).as_bytes(),
        )
    }

    #[test]
    fn what_is_not_in_the_table_is_dropped_and_named() {
        let asked = chat(r#","tools":[],"x,y":1,"temperature":0,"user":"me""#).unwrap();
        assert_eq!(asked.ignored, ["tools", "x_y", "user"]);
        assert_eq!(asked.body.keys().collect::<Vec<_>>(), ["messages", "temperature"]);
    }

    #[test]
    fn nothing_untabled_hides_inside_a_message() {
        let with =
            |message: &str| read(&CHAT_ROUTE, format!(r#"{{"model":"lab/m","messages":[{message}]}}"#).as_bytes());
        assert!(with(r#"{"role":"user","content":[{"type":"text","text":"a"}]}"#).is_ok());
        for bad in [
            r#"{"role":"user","content":"a","tool_calls":[]}"#,
            r#"{"role":"tool","content":"a"}"#,
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://inside/"}}]}"#,
            r#"{"role":"user"}"#,
        ] {
            assert_eq!(with(bad).unwrap_err().code, "invalid_request", "{bad}");
        }
    }

    #[test]
    fn limits_are_read_in_both_spellings() {
        assert_eq!(chat("").unwrap().limit, Limit::None);
        assert_eq!(chat(r#","max_tokens":null"#).unwrap().limit, Limit::None);
        assert_eq!(chat(r#","max_tokens":9,"max_completion_tokens":7"#).unwrap().limit, Limit::Stated(7));
        assert_eq!(chat(r#","max_tokens":-1"#).unwrap_err().param.as_deref(), Some("max_tokens"));
        assert_eq!(chat(r#","max_tokens":1.5"#).unwrap_err().code, "invalid_request");
    }

    #[test]
    fn prompts_are_counted() {
        let prompts = |prompt: &str| {
            let body = format!(r#"{{"model":"lab/m","prompt":{prompt}}}"#);
            read(&COMPLETIONS_ROUTE, body.as_bytes()).map(|asked| asked.prompts).map_err(|refusal| refusal.code)
        };
        assert_eq!(prompts(r#""a""#), Ok(1));
        assert_eq!(prompts("[1,2]"), Ok(1));
        assert_eq!(prompts("[[1],[2,3]]"), Ok(2));
        assert_eq!(prompts(r#"["a","b","c"]"#), Ok(3));
        assert_eq!(prompts("[]"), Err("invalid_request"));
        assert_eq!(prompts("7"), Err("invalid_request"));
    }

    #[test]
    fn every_priced_route_names_its_meters_and_its_model_field() {
        for route in crate::routes::PRICED {
            assert!(route.meters.contains(&comity_wire::Meter::Requests), "{}", route.path);
            assert!(route.fields.iter().any(|(name, _)| *name == "model"), "{}", route.path);
        }
    }
}
