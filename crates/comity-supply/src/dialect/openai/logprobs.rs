//! Log-probabilities in the two shapes that clients read, whatever a server made of them. Floats keep their bits.

use comity_wire::Op;
use serde_json::{Map, Value, json};

/// Brings what a server said into the shape of its op. `offset` is how many characters of the text came before.
pub(super) fn tidy(op: Op, mut said: Value, offset: &mut usize) -> Value {
    match op {
        Op::Chat => {
            let entries = said.get_mut("content").and_then(Value::as_array_mut);
            entries.into_iter().flatten().for_each(entry);
            said
        }
        // llama.cpp says it in chat's shape here, too.
        _ if said.get("content").is_some_and(Value::is_array) => lists(&said["content"], offset),
        _ => said,
    }
}

/// `top_logprobs` is a list, never null; `bytes` is there.
fn entry(entry: &mut Value) {
    let Some(entry) = entry.as_object_mut() else { return };
    let alternatives = entry.entry("top_logprobs").or_insert_with(|| json!([]));
    if alternatives.is_null() {
        *alternatives = json!([]);
    }
    alternatives.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut).for_each(bytes);
    bytes(entry);
}

fn bytes(entry: &mut Map<String, Value>) {
    entry.entry("bytes").or_insert(Value::Null);
}

/// Chat's entries as the parallel lists of the older route.
fn lists(entries: &Value, offset: &mut usize) -> Value {
    let (mut tokens, mut logprobs, mut top, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in entries.as_array().into_iter().flatten() {
        let token = entry.get("token").cloned().unwrap_or_default();
        let mut alternatives = Map::new();
        for other in entry.get("top_logprobs").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(token), Some(value)) = (other.get("token").and_then(Value::as_str), other.get("logprob")) {
                alternatives.insert(token.to_owned(), value.clone());
            }
        }
        offsets.push(*offset);
        *offset += token.as_str().map_or(0, |token| token.chars().count());
        tokens.push(token);
        logprobs.push(entry.get("logprob").cloned().unwrap_or_default());
        top.push(Value::Object(alternatives));
    }
    json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: Op, said: Value, expected: Value) {
        assert_eq!(tidy(op, said, &mut 3), expected);
    }

    #[test]
    fn alternatives_are_a_list_and_never_null() {
        let said = json!({"content": [{"token": "a", "logprob": -0.5, "top_logprobs": null}, {"token": "b", "logprob": -1,
            "bytes": [98], "top_logprobs": [{"token": "b", "logprob": -1}]}]});
        let expected = json!({"content": [{"token": "a", "logprob": -0.5, "top_logprobs": [], "bytes": null},
            {"token": "b", "logprob": -1, "bytes": [98], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": null}]}]});
        check(Op::Chat, said, expected);
    }

    #[test]
    fn chats_shape_on_the_older_route_becomes_lists() {
        let said = json!({"content": [{"token": "ab", "logprob": -0.25, "top_logprobs": [{"token": "ab", "logprob": -0.25}]},
            {"token": "c", "logprob": -1.5, "top_logprobs": []}]});
        let expected = json!({"tokens": ["ab", "c"], "token_logprobs": [-0.25, -1.5], "top_logprobs": [{"ab": -0.25}, {}],
            "text_offset": [3, 5]});
        check(Op::Completions, said, expected);
    }

    #[test]
    fn lists_stay_as_they_are() {
        let said = json!({"tokens": ["a"], "token_logprobs": [null], "top_logprobs": [null], "text_offset": [0]});
        check(Op::Completions, said.clone(), said);
    }
}
