//! Names that no table has never reach an upstream, on no route and at no depth.

use comity_supply::Answer;
use comity_supply::scripted::Script;
use comity_wire::Op;
use serde_json::{Map, Value, json};

use super::world::*;
use crate::routes::{Form, PRICED};

const CANARIES: [&str; 7] =
    ["vllm_xargs", "kv_transfer_params", "extra_body", "guided_json", "metadata", "store", "canary"];

/// The same value with every canary in every object of it.
fn laced(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut laced: Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name, self::laced(value))).collect();
            for canary in CANARIES {
                laced.insert(canary.to_owned(), json!({"canary": "canary", "api_base": "http://canary/"}));
            }
            laced.into()
        }
        Value::Array(items) => items.into_iter().map(laced).collect(),
        other => other,
    }
}

pub(super) fn good(path: &str) -> Value {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    match path {
        "/v1/chat/completions" => json!({
            "max_tokens": 5, "tools": [tool], "stop": [], "tool_choice": tool,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n"}},
            "stream_options": {"include_usage": true},
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "b"},
            ],
        }),
        "/v1/responses" => json!({
            "max_output_tokens": 5, "text": {"format": {"type": "json_object"}},
            "input": [{"role": "user", "content": "a"}, {"type": "function_call_output", "call_id": "c", "output": "b"}],
            "tools": [{"type": "function", "name": "f"}],
        }),
        "/v1/completions" => json!({"max_tokens": 5, "prompt": "a", "best_of": 1}),
        // An item is held against its schema; no name of it is dropped.
        "/v1/predict" => json!({}),
        "/v1/embeddings" | "/v1/moderations" => json!({"input": ["a"]}),
        "/tokenize" => json!({"prompt": "a"}),
        "/detokenize" => json!({"tokens": [1]}),
        "/tokenizer_info" => json!({}),
        other => panic!("the route {other} has no good request here: add one"),
    }
}

/// Every name of an object in a value.
fn names(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            into.push(name.clone());
            names(value, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn no_canary_reaches_an_upstream_on_any_route() {
    let world = World::new(Setting::default()).await;
    let whole = |body: Value| move |_: &comity_supply::Call| Script::Whole(Answer { body: body.clone(), usage: None });
    world.upstream.set_answer(Op::Embeddings, whole(json!({"data": [{"embedding": [1.0]}]})));
    world.upstream.set_answer(Op::Tokenize, whole(json!({"tokens": [1], "prompt": "a"})));
    world.upstream.set_answer(Op::Predict, whole(json!({"outputs": [0.5]})));
    let chain = world.mint(|_| {});
    for (seq, route) in (1..).zip(PRICED) {
        let mut body = laced(good(route.paths[0]));
        body["model"] = "lab/tiny".into();
        if route.op == Op::Predict {
            body["inputs"] = json!([{"age": 3}]);
        }
        let (mut path, mut body) = (route.paths[0].to_owned(), body);
        if route.method == http::Method::GET {
            let query: Vec<String> = CANARIES.iter().map(|canary| format!("{canary}=1")).collect();
            (path, body) = (format!("{path}?{}", query.join("&")), Value::Null);
        }
        let method = if body.is_null() { "GET" } else { "POST" };
        let mut request = Ask { method, ..world.ask(&chain).seq(seq).to(&path, body) }.request();
        for header in ["x-request-id", "openai-organization", "x-stainless-lang", "x-portkey-custom-host"] {
            request.headers_mut().insert(header, "canary".parse().unwrap());
        }
        let answered = tower::ServiceExt::oneshot(world.gateway.router(), request).await.unwrap();
        let (status, headers, reply) = read(answered).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&reply));
        let ignored = headers["comity-ignored"].to_str().unwrap();
        for canary in CANARIES {
            assert!(ignored.split(", ").any(|name| name == canary), "{path} does not name {canary}: {ignored}");
        }
        assert!(!headers["x-request-id"].to_str().unwrap().contains("canary"));
        if path == "/v1/moderations" {
            continue;
        }
        let sent = Value::Object(world.upstream.calls().pop().unwrap().body);
        assert!(!sent.to_string().contains("canary"), "{path}: {sent}");
        let mut sent_names = Vec::new();
        names(&sent, &mut sent_names);
        for canary in CANARIES {
            assert!(!sent_names.iter().any(|name| name == canary), "{path}: {sent}");
        }
        let made_here: &[&str] = match route.form {
            // What a response asks for, as a chat says it.
            Form::Text(_) if route.op == Op::Responses => &["messages", "max_tokens", "response_format"],
            Form::Text(_) => &["max_tokens", "n", "logprobs"],
            Form::Piece(_) => &["encoding_format"],
        };
        for name in sent.as_object().unwrap().keys() {
            let tabled = route.fields.iter().any(|(known, _)| known == name);
            assert!(tabled || made_here.contains(&&**name), "{path} sends {name}");
        }
    }
    assert_eq!(world.upstream.calls().len(), PRICED.len() - 1);
}
