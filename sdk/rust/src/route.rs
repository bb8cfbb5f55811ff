//! The priced routes of a node, as a caller sees them: one row says what a body asks for and what bounds its price.
//!
//! The node has the same rows (`comity-gateway`'s table) and decides; these only let a wallet sign a maximum that is enough.
//! A path that is no row here is not asked at all.

use comity_wire::Op;
use serde_json::{Map, Value};

use crate::chat::Demanded;

/// A priced route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub op: Op,
    /// Whether `stream: true` means something.
    pub streams: bool,
    output: Output,
}

/// What bounds the output that a body may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The first of these fields that is there, per choice; else the wallet chooses.
    Limit(&'static [&'static str]),
    /// Nothing is generated.
    None,
}

const fn row(path: &'static str, op: Op, streams: bool, output: Output) -> Route {
    Route { method: "POST", path, op, streams, output }
}

/// OpenAI's newer name wins where a body has both.
pub const PRICED: &[Route] = &[
    row("/v1/chat/completions", Op::Chat, true, Output::Limit(&["max_completion_tokens", "max_tokens"])),
    row("/v1/completions", Op::Completions, true, Output::Limit(&["max_tokens"])),
    row("/v1/responses", Op::Responses, true, Output::Limit(&["max_output_tokens"])),
    row("/v1/embeddings", Op::Embeddings, false, Output::None),
    row("/v1/moderations", Op::Moderations, false, Output::None),
    row("/v1/predict", Op::Predict, false, Output::None),
    row("/tokenize", Op::Tokenize, false, Output::None),
    row("/detokenize", Op::Tokenize, false, Output::None),
    Route { method: "GET", ..row("/tokenizer_info", Op::Tokenize, false, Output::None) },
];

impl Route {
    pub fn find(path: &str) -> Option<&'static Self> {
        PRICED.iter().find(|route| route.path == path)
    }

    /// What both sides read from a body to find its worst case (spec/06-metering.md §6.6).
    pub fn demanded(&self, body: &Map<String, Value>) -> Demanded {
        let number = |name: &str| body.get(name).and_then(Value::as_u64);
        let Output::Limit(fields) = self.output else {
            let items = body.get("inputs").and_then(Value::as_array).filter(|_| self.op == Op::Predict);
            let choices = items.map_or(1, |items| items.len() as u64).max(1);
            return Demanded { choices, output_tokens: Some(0) };
        };
        let prompts = match body.get("prompt") {
            // A list of numbers is one prompt of token ids.
            Some(Value::Array(items)) if self.op == Op::Completions && !items.iter().all(Value::is_number) => {
                items.len() as u64
            }
            _ => 1,
        };
        let each = number("n").unwrap_or(1).max(number("best_of").unwrap_or(1)).max(1);
        let output_tokens = fields.iter().find_map(|field| number(field));
        Demanded { choices: prompts.max(1).saturating_mul(each), output_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, body: &Value) -> Demanded {
        Route::find(path).unwrap().demanded(body.as_object().unwrap())
    }

    #[test]
    fn a_body_says_how_often_and_how_much() {
        let two = serde_json::json!({"n": 2, "max_tokens": 9, "max_completion_tokens": 5});
        assert_eq!(read("/v1/chat/completions", &two), Demanded { choices: 2, output_tokens: Some(5) });
        let many = serde_json::json!({"prompt": ["a", "b"], "best_of": 3});
        assert_eq!(read("/v1/completions", &many), Demanded { choices: 6, output_tokens: None });
        assert_eq!(read("/v1/completions", &serde_json::json!({"prompt": [1, 2]})).choices, 1);
        let reply = serde_json::json!({"input": "a", "max_output_tokens": 7});
        assert_eq!(read("/v1/responses", &reply), Demanded { choices: 1, output_tokens: Some(7) });
    }

    #[test]
    fn what_generates_nothing_has_a_worst_case_of_its_input_alone() {
        let body = serde_json::json!({"input": ["a", "b"], "max_tokens": 9});
        for route in PRICED.iter().filter(|route| route.output == Output::None) {
            let demanded = route.demanded(body.as_object().unwrap());
            assert_eq!(demanded, Demanded { choices: 1, output_tokens: Some(0) }, "{}", route.path);
            assert!(!route.streams, "{}", route.path);
        }
    }

    #[test]
    fn a_prediction_is_held_for_by_the_item() {
        let body = serde_json::json!({"inputs": [{"a": 1}, {"a": 2}, {"a": 3}]});
        assert_eq!(read("/v1/predict", &body).choices, 3);
    }

    #[test]
    fn each_path_has_one_row() {
        for (at, route) in PRICED.iter().enumerate() {
            assert_eq!(PRICED.iter().position(|other| other.path == route.path), Some(at), "{}", route.path);
        }
        assert_eq!(Route::find("/v1/images/generations"), None);
    }
}
