//! What a value may look like, all the way down: what passes is built anew from tabled names.
//!
//! Promises: no name that is not in a table reaches an upstream, at whatever depth; every text that reaches one was
//! read out for the filter; what was dropped is named. The one place where names are the caller's own is a JSON Schema.

use comity_http::Refusal;
use comity_wire::Code;
use serde_json::{Map, Value};

use super::printable;
use crate::refusal::form;

/// What a value may look like. `null` always means that a field is left out.
#[derive(Debug)]
pub(crate) enum Shape {
    Flag,
    Number,
    Integer,
    /// A whole number, 0 or more.
    Count,
    /// A name or an id, of at most [`NAME_BYTES_MAX`].
    Name,
    /// Text that somebody wrote.
    Words,
    /// One of these.
    Word(&'static [&'static str]),
    /// At most so many.
    List(usize, &'static Self),
    /// An object of these names.
    Record(&'static [Row]),
    /// An object whose names are decided by one of its fields: the table beside the word. An empty word is what is meant
    /// where the field is left out.
    Tagged(&'static str, &'static [(&'static str, &'static [Row])]),
    /// Text, or a list of parts of which each is text: there are no others.
    Content,
    /// A text, or what another shape says of a list.
    WordsOr(&'static Self),
    /// A text or a record, by what is there.
    WordOr(&'static [&'static str], &'static Self),
    /// Numbers by name.
    Numbers,
    /// A JSON Schema: the names in it are the caller's own.
    Schema,
    /// One text or at most four; an empty list means none.
    Stops,
    /// A list of at most so many values, held against the model's own schema before anything is asked.
    Items(usize),
    /// A text, or a list of at most so many, as texts or as text parts.
    Texts(usize),
    /// A text, a list of token ids, or a list of at most so many of either.
    Prompts(usize),
}

/// A name in an object.
pub(crate) type Row = (&'static str, Need, Shape);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Must,
    May,
}

/// One text of a prompt or an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// What was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Every text that passes, for the filter.
    pub(crate) texts: Vec<String>,
    /// Bytes of [`Shape::Words`] and text prompts: what is surely in the rendered prompt.
    pub(crate) words_bytes: u64,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) ignored: Vec<String>,
}

const NAME_BYTES_MAX: usize = 256;
const STOPS_MAX: usize = 4;
const NUMBERS_MAX: usize = 1_024;
const PARTS_MAX: usize = 256;
/// Of a schema: `serde_json` itself stops at 128.
const SCHEMA_DEPTH_MAX: usize = 32;
/// How many ignored fields are named back.
pub(super) const IGNORED_MAX: usize = 32;

impl Reading {
    pub(crate) fn ignore(&mut self, path: &str, name: &str) {
        let name = if path.is_empty() { printable(name) } else { printable(&format!("{path}.{name}")) };
        if self.ignored.len() < IGNORED_MAX && !self.ignored.contains(&name) {
            self.ignored.push(name);
        }
    }

    fn words(&mut self, text: &str) {
        self.words_bytes += text.len() as u64;
        self.texts.push(text.to_owned());
    }
}

impl Shape {
    /// The value as it may pass; `None` where it says nothing.
    ///
    /// # Errors
    /// 400, naming the field.
    pub(crate) fn take(&self, path: &str, value: Value, reading: &mut Reading) -> Result<Option<Value>, Refusal> {
        let wrong = || form(format!("'{path}' must be {}", self.expected()), path);
        let passes = match (self, value) {
            (Self::Flag, value @ Value::Bool(_)) => value,
            (Self::Number, value @ Value::Number(_)) => value,
            (Self::Integer, value) if value.is_i64() || value.is_u64() => value,
            (Self::Count, value) if value.is_u64() => value,
            (Self::Name, Value::String(name)) if name.len() <= NAME_BYTES_MAX => {
                reading.texts.push(name.clone());
                name.into()
            }
            (Self::Words | Self::WordsOr(_), Value::String(text)) => {
                reading.words(&text);
                text.into()
            }
            (Self::Word(words) | Self::WordOr(words, _), Value::String(word)) if words.contains(&word.as_str()) => {
                word.into()
            }
            (Self::WordsOr(shape), value @ Value::Array(_)) => return shape.take(path, value, reading),
            (Self::WordOr(_, shape), value @ Value::Object(_)) => return shape.take(path, value, reading),
            (Self::List(max, shape), Value::Array(items)) if items.len() <= *max => {
                let taken = items.into_iter().map(|item| shape.take(path, item, reading)?.ok_or_else(wrong));
                Value::Array(taken.collect::<Result<_, _>>()?)
            }
            (Self::Record(rows), Value::Object(given)) => record(rows, path, given, reading)?,
            (Self::Tagged(tag, kinds), Value::Object(given)) => {
                let kind = given.get(*tag).map_or(Some(""), Value::as_str);
                let (_, rows) = kinds.iter().find(|(name, _)| Some(*name) == kind).ok_or_else(wrong)?;
                record(rows, path, given, reading)?
            }
            (Self::Content, value) => content(path, value, reading)?,
            (Self::Numbers, Value::Object(given)) => {
                if given.len() > NUMBERS_MAX || !given.values().all(Value::is_number) {
                    return Err(wrong());
                }
                Value::Object(given)
            }
            (Self::Schema, value @ Value::Object(_)) => {
                schema(path, &value, reading, 0)?;
                value
            }
            (Self::Stops, Value::String(stop)) => {
                reading.texts.push(stop.clone());
                stop.into()
            }
            // lm-eval sends an empty list of stops; some servers refuse one.
            (Self::Stops, Value::Array(stops)) if stops.is_empty() => return Ok(None),
            (Self::Stops, Value::Array(stops)) if stops.len() <= STOPS_MAX && stops.iter().all(Value::is_string) => {
                reading.texts.extend(stops.iter().filter_map(Value::as_str).map(str::to_owned));
                Value::Array(stops)
            }
            (Self::Items(max), Value::Array(items)) if !items.is_empty() && items.len() <= *max => {
                for item in &items {
                    schema(path, item, reading, 0)?;
                    reading.prompts.push(Prompt::Text(item.to_string()));
                }
                Value::Array(items)
            }
            (Self::Texts(max), value) => {
                let texts = match value {
                    Value::Array(items) if !items.is_empty() && items.len() <= *max => items,
                    one @ Value::String(_) => vec![one],
                    _ => return Err(wrong()),
                };
                for text in texts {
                    let text = match text {
                        Value::String(text) => text,
                        part => part_text(path, part, reading)?,
                    };
                    reading.words(&text);
                    reading.prompts.push(Prompt::Text(text));
                }
                return Ok(Some(Value::Bool(true)));
            }
            (Self::Prompts(max), value) => {
                let prompts = prompts(&value, *max).ok_or_else(wrong)?;
                for prompt in &prompts {
                    if let Prompt::Text(text) = prompt {
                        reading.words(text);
                    }
                }
                reading.prompts.extend(prompts);
                value
            }
            _ => return Err(wrong()),
        };
        Ok(Some(passes))
    }

    fn expected(&self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Number => "a number".into(),
            Self::Integer => "a whole number".into(),
            Self::Count => "a whole number, 0 or more".into(),
            Self::Name => format!("a text of at most {NAME_BYTES_MAX} bytes"),
            Self::Words => "a text".into(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::WordOr(words, shape) => format!("one of {}, or {}", words.join(", "), shape.expected()),
            Self::WordsOr(shape) => format!("a text, or {}", shape.expected()),
            Self::List(max, shape) => format!("a list of at most {max}, each {}", shape.expected()),
            Self::Record(rows) => {
                let names: Vec<&str> = rows.iter().map(|(name, ..)| *name).collect();
                format!("an object of {}", names.join(", "))
            }
            Self::Tagged(tag, kinds) => {
                let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
                format!("an object whose '{tag}' is one of {}", names.join(", "))
            }
            Self::Content => format!("a text or a list of at most {PARTS_MAX} text parts"),
            Self::Numbers => format!("an object of at most {NUMBERS_MAX} numbers"),
            Self::Schema => format!("a JSON Schema, an object of at most {SCHEMA_DEPTH_MAX} levels"),
            Self::Stops => format!("a text or a list of at most {STOPS_MAX}"),
            Self::Items(max) => format!("a list of 1 to {max}"),
            Self::Texts(max) => format!("a text or a list of at most {max}"),
            Self::Prompts(max) => {
                format!("a text, a list of token ids, or a list of at most {max} of either, none of them empty")
            }
        }
    }
}

fn record(rows: &[Row], path: &str, given: Map<String, Value>, reading: &mut Reading) -> Result<Value, Refusal> {
    let mut taken = Map::new();
    for (name, value) in given {
        match rows.iter().find(|(known, ..)| *known == name) {
            _ if value.is_null() => {}
            Some((_, _, shape)) => {
                if let Some(value) = shape.take(&format!("{path}.{name}"), value, reading)? {
                    taken.insert(name, value);
                }
            }
            None => reading.ignore(path, &name),
        }
    }
    match rows.iter().find(|(name, need, _)| *need == Need::Must && !taken.contains_key(*name)) {
        Some((name, ..)) => Err(form(format!("'{path}.{name}' is missing"), path)),
        None => Ok(Value::Object(taken)),
    }
}

/// A message's content. Media come as web addresses or as bytes, and this node fetches nothing for a caller.
fn content(path: &str, value: Value, reading: &mut Reading) -> Result<Value, Refusal> {
    let parts = match value {
        Value::Array(parts) if parts.len() <= PARTS_MAX => parts,
        Value::String(text) => {
            reading.words(&text);
            return Ok(text.into());
        }
        _ => return Err(form(format!("'{path}' must be {}", Shape::Content.expected()), path)),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let text = part_text(path, part, reading)?;
        reading.words(&text);
        texts.push(serde_json::json!({"type": "text", "text": text}));
    }
    Ok(Value::Array(texts))
}

/// The text of a part; `input_text` and `output_text` are the Responses API's names for it.
fn part_text(path: &str, part: Value, reading: &mut Reading) -> Result<String, Refusal> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("without a type");
    if !matches!(kind, "text" | "input_text" | "output_text") {
        return Err(not_text(path, kind));
    }
    let Value::Object(part) = part else { return Err(not_text(path, "no object")) };
    let mut found = None;
    for (name, value) in part {
        match (name.as_str(), value) {
            ("type", _) | (_, Value::Null) => {}
            ("text", Value::String(text)) => found = Some(text),
            _ => reading.ignore(path, &name),
        }
    }
    found.ok_or_else(|| form(format!("a text part of '{path}' has no 'text'"), path))
}

fn not_text(path: &str, kind: &str) -> Refusal {
    let message = format!(
        "a part of '{path}' is {}: content may be text only; this node fetches no web address and takes no media",
        printable(kind)
    );
    Refusal::new(Code::ContentNotText, message).param(path).with("whose_move", "caller")
}

/// Reads out every text of a schema; a reference may point into the schema itself alone.
fn schema(path: &str, value: &Value, reading: &mut Reading, depth: usize) -> Result<(), Refusal> {
    if depth > SCHEMA_DEPTH_MAX {
        return Err(form(format!("'{path}' is deeper than {SCHEMA_DEPTH_MAX} levels"), path));
    }
    match value {
        Value::String(text) => reading.texts.push(text.clone()),
        Value::Array(items) => items.iter().try_for_each(|item| schema(path, item, reading, depth + 1))?,
        Value::Object(fields) => {
            for (name, value) in fields {
                let points_away = value.as_str().is_some_and(|to| !to.starts_with('#'));
                if points_away && matches!(name.as_str(), "$ref" | "$dynamicRef") {
                    return Err(form(format!("'{path}': {name} may point into the schema itself alone"), path));
                }
                reading.texts.push(name.clone());
                schema(path, value, reading, depth + 1)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn prompts(value: &Value, max: usize) -> Option<Vec<Prompt>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        Value::Array(ids) if !ids.is_empty() => ids
            .iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<_>>()
            .map(Prompt::Ids),
        _ => None,
    };
    if let Some(one) = one(value) {
        return Some(vec![one]);
    }
    let list = value.as_array().filter(|list| !list.is_empty() && list.len() <= max)?;
    list.iter().map(one).collect()
}
