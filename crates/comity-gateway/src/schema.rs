//! What a model that is no language model takes and gives: a small, closed part of JSON Schema (spec/03-manifest.md §3.4).
//!
//! A keyword outside it makes the schema unreadable, and what is unreadable offers nothing. Every size has a bound in the
//! schema itself, and an object has no names but those it lists.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Both sides of `predict`, as a manifest declares them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub(crate) input: Schema,
    pub(crate) output: Schema,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Schema {
    #[serde(rename_all = "camelCase")]
    Object {
        title: Option<String>,
        description: Option<String>,
        properties: BTreeMap<String, Self>,
        #[serde(default)]
        required: Vec<String>,
        /// May be said, and only as `false`.
        additional_properties: Option<bool>,
    },
    #[serde(rename_all = "camelCase")]
    Array {
        title: Option<String>,
        description: Option<String>,
        items: Box<Self>,
        #[serde(default)]
        min_items: usize,
        max_items: usize,
    },
    #[serde(rename_all = "camelCase")]
    String {
        title: Option<String>,
        description: Option<String>,
        #[serde(rename = "enum")]
        words: Option<Vec<String>>,
        #[serde(default)]
        min_length: usize,
        /// In characters; needed where there is no `enum`.
        max_length: Option<usize>,
    },
    Number {
        title: Option<String>,
        description: Option<String>,
        minimum: Option<f64>,
        maximum: Option<f64>,
    },
    Integer {
        title: Option<String>,
        description: Option<String>,
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    Boolean {
        title: Option<String>,
        description: Option<String>,
    },
}

/// Why a schema cannot be held anything against.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("it is not an object of input and output in the part of JSON Schema that is read")]
    Form(#[source] serde_json::Error),
    #[error("at {at}: {why}")]
    Rule { at: String, why: &'static str },
}

/// Where a value is another than its schema says. It never repeats the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) at: String,
    pub(crate) expected: String,
}

const DEPTH_MAX: usize = 8;

impl Pair {
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(json: &[u8]) -> Result<Self, Unreadable> {
        let pair: Self = serde_json::from_slice(json).map_err(Unreadable::Form)?;
        pair.input.sound("input", 0)?;
        pair.output.sound("output", 0)?;
        Ok(pair)
    }
}

impl Schema {
    fn sound(&self, at: &str, depth: usize) -> Result<(), Unreadable> {
        let wrong = |why| Err(Unreadable::Rule { at: at.to_owned(), why });
        if depth > DEPTH_MAX {
            return wrong("deeper than 8 levels");
        }
        match self {
            Self::Object { additional_properties: Some(true), .. } => wrong("additionalProperties can only be false"),
            Self::Object { properties, required, .. } => {
                if !required.iter().all(|name| properties.contains_key(name)) {
                    return wrong("it requires a name that it does not list");
                }
                properties.iter().try_for_each(|(name, schema)| schema.sound(&format!("{at}.{name}"), depth + 1))
            }
            Self::Array { items, .. } => items.sound(&format!("{at}[]"), depth + 1),
            Self::String { words: None, max_length: None, .. } => wrong("a string needs maxLength or enum"),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Mismatch`], the first.
    pub(crate) fn check(&self, at: &str, value: &Value) -> Result<(), Mismatch> {
        let expected = |expected: String| Err(Mismatch { at: at.to_owned(), expected });
        match (self, value) {
            (Self::Object { properties, required, .. }, Value::Object(given)) => {
                if let Some(name) = required.iter().find(|name| !given.contains_key(*name)) {
                    return expected(format!("an object with '{name}'"));
                }
                given.iter().try_for_each(|(name, value)| match properties.get(name) {
                    Some(schema) => schema.check(&format!("{at}.{name}"), value),
                    None => {
                        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                        expected(format!("an object of no other names than {}", names.join(", ")))
                    }
                })
            }
            (Self::Array { items, min_items, max_items, .. }, Value::Array(given)) => {
                if !(*min_items..=*max_items).contains(&given.len()) {
                    return expected(format!("a list of {min_items} to {max_items}"));
                }
                (0..)
                    .zip(given)
                    .try_for_each(|(number, value): (usize, _)| items.check(&format!("{at}[{number}]"), value))
            }
            (Self::String { words: Some(words), .. }, Value::String(given)) if !words.contains(given) => {
                expected(format!("one of {}", words.join(", ")))
            }
            (Self::String { min_length, max_length, .. }, Value::String(given)) => {
                let length = given.chars().count();
                let max = max_length.unwrap_or(usize::MAX);
                if (*min_length..=max).contains(&length) {
                    Ok(())
                } else {
                    expected(format!("{min_length} to {max} characters"))
                }
            }
            (Self::Number { minimum, maximum, .. }, Value::Number(given)) => {
                let given = given.as_f64().unwrap_or(f64::NAN);
                let fits = given.is_finite()
                    && minimum.is_none_or(|min| given >= min)
                    && maximum.is_none_or(|max| given <= max);
                if fits { Ok(()) } else { expected(range("a number", minimum.as_ref(), maximum.as_ref())) }
            }
            (Self::Integer { minimum, maximum, .. }, Value::Number(given)) if given.is_i64() => {
                let given = given.as_i64().expect("it is one");
                let fits = minimum.is_none_or(|min| given >= min) && maximum.is_none_or(|max| given <= max);
                if fits { Ok(()) } else { expected(range("a whole number", minimum.as_ref(), maximum.as_ref())) }
            }
            (Self::Boolean { .. }, Value::Bool(_)) => Ok(()),
            (Self::Object { .. }, _) => expected("an object".into()),
            (Self::Array { .. }, _) => expected("a list".into()),
            (Self::String { .. }, _) => expected("a text".into()),
            (Self::Number { .. }, _) => expected("a number".into()),
            (Self::Integer { .. }, _) => expected("a whole number".into()),
            (Self::Boolean { .. }, _) => expected("true or false".into()),
        }
    }
}

fn range<T: std::fmt::Display>(what: &str, minimum: Option<&T>, maximum: Option<&T>) -> String {
    let min = minimum.map_or_else(String::new, |min| format!(", {min} or more"));
    let max = maximum.map_or_else(String::new, |max| format!(", {max} or less"));
    format!("{what}{min}{max}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair(input: Value) -> Result<Pair, Unreadable> {
        Pair::parse(json!({"input": input, "output": {"type": "number"}}).to_string().as_bytes())
    }

    #[test]
    fn a_schema_with_a_word_that_is_not_read_or_a_size_without_a_bound_is_unreadable() {
        for good in [
            json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"], "additionalProperties": false}),
            json!({"type": "array", "items": {"type": "boolean"}, "maxItems": 3, "title": "t", "description": "d"}),
            json!({"type": "string", "enum": ["a"]}),
        ] {
            assert!(pair(good.clone()).is_ok(), "{good}: {:?}", pair(good.clone()));
        }
        for bad in [
            json!({"type": "string"}),
            json!({"type": "string", "maxLength": 9, "pattern": "a"}),
            json!({"type": "array", "items": {"type": "boolean"}}),
            json!({"type": "object", "properties": {}, "required": ["a"]}),
            json!({"type": "object", "properties": {}, "additionalProperties": true}),
            json!({"type": "object", "properties": {"a": {"$ref": "http://a/"}}}),
            json!({"type": "any"}),
            json!({}),
            (0..10)
                .fold(json!({"type": "boolean"}), |inner, _| json!({"type": "array", "maxItems": 1, "items": inner})),
        ] {
            assert!(pair(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_is_what_its_schema_says_or_is_told_where_it_is_not() {
        let schema = pair(json!({
            "type": "object", "required": ["age"],
            "properties": {
                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                "rates": {"type": "array", "items": {"type": "number", "maximum": 1.5}, "maxItems": 2},
                "sex": {"type": "string", "enum": ["f", "m"]},
                "name": {"type": "string", "maxLength": 2},
                "late": {"type": "boolean"},
            },
        }))
        .unwrap()
        .input;
        let at = |value: Value| schema.check("x", &value).map_err(|mismatch| mismatch.at);
        assert_eq!(at(json!({"age": 0, "rates": [1, 1.5], "sex": "f", "name": "üä", "late": true})), Ok(()));
        for (bad, place) in [
            (json!([]), "x"),
            (json!({}), "x"),
            (json!({"age": 1, "other": 1}), "x"),
            (json!({"age": 1.0}), "x.age"),
            (json!({"age": -1}), "x.age"),
            (json!({"age": 121}), "x.age"),
            (json!({"age": 1, "rates": [1, 2]}), "x.rates[1]"),
            (json!({"age": 1, "rates": [1, 1, 1]}), "x.rates"),
            (json!({"age": 1, "sex": "F"}), "x.sex"),
            (json!({"age": 1, "name": "abc"}), "x.name"),
            (json!({"age": 1, "late": null}), "x.late"),
        ] {
            assert_eq!(at(bad.clone()), Err(place.to_owned()), "{bad}");
        }
    }
}
