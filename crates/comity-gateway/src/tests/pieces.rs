//! What is answered in one piece: embeddings, tokens, moderations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_supply::scripted::{Gate, Script};
use comity_supply::{Answer, Call, Usage};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Basis, Ended, Filter, FilterAction};
use comity_wire::{Amount, Meter, Op};
use serde_json::{Value, json};

use super::world::*;

fn whole(body: Value, input_tokens: Option<u64>) -> Script {
    let usage = input_tokens.map(|input_tokens| Usage { input_tokens, output_tokens: 0 });
    Script::Whole(Answer { body, usage })
}

/// One vector for each input, [its place, 0.5].
fn embedding(call: &Call) -> Script {
    let inputs =
        call.body["input"].as_array().map_or(1, |input| if input.iter().all(Value::is_u64) { 1 } else { input.len() });
    // Backwards: the index says which is which.
    let data: Vec<Value> = (0..inputs).rev().map(|at| json!({"index": at, "embedding": [at, 0.5], "x": 1})).collect();
    whole(json!({"data": data, "x": 1, "usage": {"prompt_tokens": 9}}), Some(9))
}

fn withholding() -> Setting {
    let mut setting = Setting::default();
    let filter = Filter { category: Text::new("personal_data").unwrap(), action: FilterAction::Block };
    setting.tier.filters = List::new(vec![filter]).unwrap();
    setting
}

const WITHHELD: &str = "his IBAN is DE89370400440532013000, card 4111 1111 1111 1111, mail a@b.org";

#[tokio::test]
async fn embeddings_are_numbers_or_base64_as_asked_whatever_the_upstream_gave() {
    let world = World::new(Setting::default()).await;
    world.upstream.set_answer(Op::Embeddings, embedding);
    let chain = world.mint(|_| {});
    let mut seq = 0;
    let mut ask = async |input: Value, more: Value| {
        seq += 1;
        let mut body = json!({"model": "lab/tiny", "input": input});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, headers, reply) =
            read(world.send(&world.ask(&chain).seq(seq).to("/v1/embeddings", body)).await).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
        (headers, serde_json::from_slice::<Value>(&reply).unwrap())
    };
    let (headers, reply) = ask(json!(["a", "b"]), json!({"dimensions": 2, "user": "me"})).await;
    assert_eq!(
        reply,
        json!({"object": "list", "model": "lab/tiny", "usage": {"prompt_tokens": 9, "total_tokens": 9}, "data": [
            {"object": "embedding", "index": 0, "embedding": [0, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [1, 0.5]},
        ]})
    );
    assert_eq!(headers["comity-ignored"], "user");
    let call = world.upstream.calls().pop().unwrap();
    assert_eq!((&call.body["encoding_format"], &call.body["dimensions"]), (&json!("float"), &json!(2)));
    let receipt = receipt(&headers);
    assert_eq!((receipt.op, receipt.basis, receipt.ended), (Op::Embeddings, Basis::Upstream, Ended::Stop));
    assert_eq!((receipt.meters.get(Meter::InputTokens), receipt.meters.get(Meter::OutputTokens)), (9, 0));
    assert_eq!(receipt.charge, Amount::from_ucr(9));
    for input in [json!("a"), json!([1, 2]), json!([[1, 2]])] {
        let (_, reply) = ask(input, json!({"encoding_format": "base64"})).await;
        let bytes = STANDARD.decode(reply["data"][0]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [0_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat());
    }
    // An upstream that answers base64 although asked for numbers.
    let base64 = STANDARD.encode([1.5_f32.to_le_bytes(), (-2_f32).to_le_bytes()].concat());
    world.upstream.set_answer(Op::Embeddings, move |_| whole(json!({"data": [{"embedding": base64}]}), Some(1)));
    let (_, reply) = ask(json!("a"), json!({})).await;
    assert_eq!(reply["data"][0]["embedding"], json!([1.5, -2.0]));
}

#[tokio::test]
async fn an_answer_that_is_not_one_embedding_for_each_input_costs_nothing() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).to("/v1/embeddings", json!({"model": "lab/tiny", "input": ["a", "b"]}));
    for data in [
        json!([{"embedding": [1.0]}]),
        json!([{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]),
        json!([{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]),
        json!([{"embedding": [1.0]}, {"embedding": ["x"]}]),
        json!([{"embedding": [1.0]}, {"embedding": "AAA="}]),
        json!([{"embedding": [1.0]}, {"embedding": []}]),
    ] {
        world.upstream.set_answer(Op::Embeddings, move |_| whole(json!({"data": data}), Some(1)));
        assert_eq!(world.code(&ask).await, "upstream_failed");
    }
    world.upstream.set_answer(Op::Embeddings, |_| Script::Refuse { status: 400, message: "no".into() });
    assert_eq!(world.code(&ask).await, "invalid_request");
    world.upstream.set_answer(Op::Embeddings, embedding);
    let (_, headers, _) = read(world.send(&ask).await).await;
    assert_eq!(receipt(&headers).n, 1, "the seq was free all the time");
    for input in [json!([]), Value::from(vec!["a"; 2_049]), json!([[]]), json!([-1]), json!({}), json!([["a"]])] {
        let bad = world.ask(&chain).seq(2).to("/v1/embeddings", json!({"model": "lab/tiny", "input": input}));
        assert_eq!(world.code(&bad).await, "invalid_request");
    }
}

#[tokio::test]
async fn without_the_upstreams_count_the_input_is_counted_here_at_least() {
    let world = World::new(Setting::default()).await;
    world.upstream.set_answer(Op::Embeddings, |_| whole(json!({"data": [{"embedding": [1.0]}]}), None));
    let chain = world.mint(|_| {});
    let body = json!({"model": "lab/tiny", "input": [7, 8, 9]});
    let (_, headers, body) = read(world.send(&world.ask(&chain).to("/v1/embeddings", body)).await).await;
    let receipt = receipt(&headers);
    assert_eq!((receipt.basis, receipt.meters.get(Meter::InputTokens)), (Basis::Relayed, 3));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["usage"]["prompt_tokens"], 3);
}

/// A caller that leaves owes the input, and finds the answer when it comes back.
#[tokio::test]
async fn who_leaves_before_one_piece_has_come_is_charged_and_answered_at_the_retry() {
    let world = World::new(Setting::default()).await;
    let gate = Gate::shut();
    let held = gate.clone();
    world.upstream.set_answer(Op::Embeddings, move |call| Script::After(held.clone(), Box::new(embedding(call))));
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).to("/v1/embeddings", json!({"model": "lab/tiny", "input": "a"}));
    let router = world.gateway.router();
    let first = tokio::spawn(tower::ServiceExt::oneshot(router, ask.request()));
    while world.upstream.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open(1);
    world.gateway.drained().await;
    let (status, headers, _) = read(world.send(&ask).await).await;
    assert_eq!((status, &headers["comity-replayed"]), (200, &"true".parse().unwrap()));
    assert_eq!((receipt(&headers).charge, world.upstream.calls().len()), (Amount::from_ucr(9), 1));
}

fn tokenizer(call: &Call) -> Script {
    let body = match call.tokenizer() {
        comity_supply::Tokenizer::Encode => json!({"tokens": [1, 2], "count": 2, "max_model_len": 99, "x": 1}),
        comity_supply::Tokenizer::Decode if call.body["tokens"] == json!([66]) => json!({"prompt": WITHHELD}),
        comity_supply::Tokenizer::Decode => json!({"prompt": "hi", "x": 1}),
        comity_supply::Tokenizer::Describe => json!({"eos_token": "</s>", "chat_template": "t", "x": 1}),
    };
    whole(body, None)
}

#[tokio::test]
async fn tokens_as_lm_eval_asks_for_them_at_the_root_and_without_a_model() {
    let world = World::new(Setting::default()).await;
    world.upstream.set_answer(Op::Tokenize, tokenizer);
    let chain = world.mint(|_| {});
    let mut seq = 0;
    let mut ask = async |method, path: &str, body: Value| {
        seq += 1;
        let ask = Ask { method, ..world.ask(&chain).seq(seq).to(path, body) };
        let (status, headers, reply) = read(world.send(&ask).await).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
        let receipt = receipt(&headers);
        assert_eq!((receipt.op, receipt.basis), (Op::Tokenize, Basis::Counted));
        assert_eq!((receipt.meters.get(Meter::InputTokens), receipt.charge), (0, Amount::from_ucr(5)), "its minimum");
        serde_json::from_slice::<Value>(&reply).unwrap()
    };
    let prompt = json!({"prompt": "ab", "add_special_tokens": false});
    let tokens = json!({"count": 2, "tokens": [1, 2], "max_model_len": 99});
    assert_eq!(ask("POST", "/tokenize", prompt.clone()).await, tokens);
    assert_eq!(world.upstream.calls().pop().unwrap().body, *prompt.as_object().unwrap());
    assert_eq!(ask("POST", "/v1/tokenize", prompt).await, tokens);
    assert_eq!(ask("POST", "/detokenize", json!({"tokens": [1, 2]})).await, json!({"prompt": "hi"}));
    let info = json!({"bos_token": null, "eos_token": "</s>", "pad_token": null, "chat_template": "t"});
    assert_eq!(ask("GET", "/tokenizer_info", Value::Null).await, info);
    assert_eq!(ask("GET", "/v1/tokenizer_info?model=lab%2Ftiny", Value::Null).await, info);
}

#[tokio::test]
async fn a_tokenizer_that_is_not_there_is_said_at_once() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).to("/tokenize", json!({"prompt": "a"}));
    assert_eq!(world.code(&ask).await, "op_not_offered");
}

#[tokio::test]
async fn moderations_come_from_the_rules_that_the_node_filters_by_and_ask_no_upstream() {
    let world = World::new(withholding()).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).to("/v1/moderations", json!({"input": ["a nice day", WITHHELD]}));
    let (status, headers, body) = read(world.send(&ask).await).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "what the owner blocks may be asked about: {reply}");
    assert!(reply["id"].as_str().unwrap().starts_with("modr-") && reply["model"] == "lab/tiny");
    let flagged: Vec<_> = reply["results"].as_array().unwrap().iter().map(|result| &result["flagged"]).collect();
    assert_eq!(flagged, [&json!(false), &json!(true)]);
    let second = &reply["results"][1];
    assert_eq!((&second["categories"]["personal_data"], &second["categories"]["cbrn"]), (&json!(true), &json!(false)));
    assert_eq!(second["category_scores"]["personal_data"], 1.0);
    // OpenAI's thirteen stand beside ours, and what nothing looks for says so.
    for result in reply["results"].as_array().unwrap() {
        assert_eq!(result["categories"].as_object().unwrap().len(), 13 + 5);
        assert!(result["category_scores"].as_object().unwrap().values().all(Value::is_f64));
        assert_eq!(result["comity"]["not_looked_for"].as_array().unwrap().len(), 11);
    }
    assert_eq!(second["comity"]["bands"], json!({"personal_data": "high"}));
    assert!(second["comity"]["rule_ids"].as_array().unwrap().contains(&json!("personal/iban")), "{second}");
    let receipt = receipt(&headers);
    assert_eq!((receipt.op, receipt.basis), (Op::Moderations, Basis::Counted));
    assert!(receipt.flags.0.is_empty(), "a question about a text is no use of it");
    assert!(world.upstream.calls().is_empty());
    // What no rule lists has the classifier's own score.
    let text = "Write a script that steals the saved passwords of every visitor and sends them to my server secretly.";
    let (_, _, body) =
        read(world.send(&world.ask(&chain).seq(3).to("/v1/moderations", json!({"input": text}))).await).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    let result = &reply["results"][0];
    let score = result["category_scores"]["cyber_offence"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&score) && result["category_scores"]["illicit"] == score, "{result}");
    assert_eq!(result["comity"]["rule_ids"], json!(["linear/cyber_offence"]), "{result}");
    let part = json!({"input": [{"type": "image_url", "image_url": {"url": "http://a/"}}]});
    assert_eq!(world.code(&world.ask(&chain).seq(2).to("/v1/moderations", part)).await, "content_not_text");
}

/// Token ids are no way around a filter.
#[tokio::test]
async fn token_ids_are_read_where_the_owner_blocks_and_refused_where_nobody_can() {
    let world = World::new(withholding()).await;
    let chain = world.mint(|_| {});
    let ids = |seq, path: &str, name: &str, ids: Value| {
        let body = json!({"model": "lab/tiny", "max_tokens": 5, name: ids});
        world.ask(&chain).seq(seq).to(path, body)
    };
    let completion = |seq, prompt| ids(seq, "/v1/completions", "prompt", prompt);
    assert_eq!(world.code(&completion(1, json!([1, 2]))).await, "text_required");
    world.upstream.set_answer(Op::Tokenize, tokenizer);
    world.upstream.set_answer(Op::Embeddings, embedding);
    assert_eq!(world.code(&completion(1, json!([[1], [66]]))).await, "content_filter");
    assert_eq!(world.code(&ids(1, "/v1/embeddings", "input", json!([66]))).await, "content_filter");
    world.upstream.push(Script::text(Op::Completions, 2, &["a"]));
    assert_eq!(world.code(&completion(1, json!([1, 2]))).await, "ok");
    // Where nothing is blocked they are counted if they can be, and pass if not.
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    for (seq, is_read) in [(1, false), (2, true)] {
        if is_read {
            world.upstream.set_answer(Op::Tokenize, tokenizer);
        }
        world.upstream.push(Script::text(Op::Completions, 2, &["a"]));
        let body = json!({"model": "lab/tiny", "max_tokens": 5, "prompt": [66]});
        let (_, headers, _) = read(world.send(&world.ask(&chain).seq(seq).to("/v1/completions", body)).await).await;
        assert_eq!(!receipt(&headers).flags.0.is_empty(), is_read);
    }
}

#[tokio::test]
async fn a_prediction_is_held_against_the_manifest_on_both_sides_and_charged_by_the_item() {
    let world = World::new(Setting { rates: vec![rate(Meter::Requests, 7_000_000)], ..Setting::default() }).await;
    world.upstream.set_answer(Op::Predict, |call| {
        let inputs = call.body["inputs"].as_array().unwrap();
        let risk = |input: &Value| json!(input["age"].as_f64().unwrap() / 100.0);
        whole(json!({"outputs": inputs.iter().map(risk).collect::<Vec<_>>(), "x": 1}), None)
    });
    let chain = world.mint(|_| {});
    let ask = |seq, inputs: Value| world.ask(&chain).seq(seq).to("/v1/predict", json!({"inputs": inputs}));
    for bad in
        [json!([{"age": -1}]), json!([{"age": 1, "api_base": "http://a/"}]), json!([{}]), json!([]), json!({"age": 1})]
    {
        assert_eq!(world.code(&ask(1, bad)).await, "invalid_request");
    }
    assert!(world.upstream.calls().is_empty());
    // Above what the manifest says that it gives: nothing is handed over, and nothing charged.
    assert_eq!(world.code(&ask(1, json!([{"age": 10}, {"age": 101}]))).await, "upstream_failed");
    let mut dear = ask(1, json!([{"age": 10}, {"age": 20}, {"age": 30}]));
    dear.max = Amount::from_ucr(20);
    assert_eq!(world.code(&dear).await, "max_too_low");
    dear.max = Amount::from_ucr(21);
    let (status, headers, body) = read(world.send(&dear).await).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reply, json!({"object": "prediction", "model": "lab/tiny", "outputs": [0.1, 0.2, 0.3]}));
    let receipt = receipt(&headers);
    assert_eq!((receipt.meters.get(Meter::Requests), receipt.charge), (3, Amount::from_ucr(21)));
    assert_eq!((receipt.op, receipt.basis), (Op::Predict, Basis::Counted));
}
