//! The Responses API, as OpenAI's packages put its events together.

use comity_supply::scripted::{Script, Step};
use comity_supply::{Delta, Event, ToolCall, Usage};
use comity_wire::object::Ended;
use comity_wire::{Amount, Meter, Op};
use serde_json::{Value, json};

use super::world::*;

fn ask(world: &World, more: Value) -> Ask {
    let mut body = json!({"model": "lab/tiny", "input": "hi", "max_output_tokens": 20});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.ask(&world.mint(|_| {})).to("/v1/responses", body)
}

/// The events of a stream, each under its own name, and whether it ended.
fn events(body: &[u8]) -> (Vec<Value>, bool) {
    let text = std::str::from_utf8(body).unwrap();
    let mut events: Vec<Value> = Vec::new();
    for block in text.split("\n\n").filter(|block| block.starts_with("event: ")) {
        let (name, data) = block.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["type"], name.strip_prefix("event: ").unwrap());
        assert_eq!(event["sequence_number"], events.len());
        events.push(event);
    }
    (events, text.ends_with("data: [DONE]\n\n"))
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap()).collect()
}

#[tokio::test]
async fn a_response_is_a_chat_at_the_upstream_and_a_response_to_the_caller() {
    let world = World::new(Setting::default()).await;
    let more = json!({"instructions": "be kind", "store": true, "temperature": 0});
    let (status, headers, body) = read(world.send(&ask(&world, more)).await).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{reply}");
    assert!(reply["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(
        (&reply["object"], &reply["status"], &reply["store"]),
        (&json!("response"), &json!("completed"), &json!(false))
    );
    assert_eq!(
        reply["output"][0]["content"],
        json!([{"type": "output_text", "text": "Hello, world", "annotations": [], "logprobs": []}])
    );
    assert_eq!((&reply["usage"]["input_tokens"], &reply["usage"]["total_tokens"]), (&json!(12), &json!(15)));
    assert_eq!((&reply["instructions"], &headers["comity-ignored"]), (&json!("be kind"), &"store".parse().unwrap()));
    let call = world.upstream.calls().pop().unwrap();
    assert_eq!(call.op, Op::Chat);
    let messages = json!([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]);
    assert_eq!(Value::Object(call.body), json!({"messages": messages, "temperature": 0, "max_tokens": 20}));
    let receipt = receipt(&headers);
    assert_eq!((receipt.op, receipt.charge, receipt.ended), (Op::Responses, Amount::from_ucr(18), Ended::Stop));
}

#[tokio::test]
async fn a_conversation_with_tools_is_sent_whole() {
    let world = World::new(Setting::default()).await;
    let input = json!([
        {"role": "developer", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
            "content": [{"type": "output_text", "text": "b", "annotations": []}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "c"},
    ]);
    let more = json!({
        "input": input, "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    });
    assert_eq!(world.code(&ask(&world, more)).await, "ok");
    let body = world.upstream.calls().pop().unwrap().body;
    let call =
        |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}], "tool_calls": [call("1", "f"), call("2", "g")]},
            {"role": "tool", "tool_call_id": "1", "content": "c"},
        ])
    );
    let function = json!({"name": "f", "parameters": {"type": "object"}, "strict": true});
    assert_eq!(body["tools"], json!([{"type": "function", "function": function}]));
    assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
    let schema = json!({"name": "n", "schema": {"type": "object"}});
    assert_eq!(body["response_format"], json!({"type": "json_schema", "json_schema": schema}));
}

#[tokio::test]
async fn a_stream_says_its_events_in_the_order_in_which_they_are_put_together() {
    let world = World::new(Setting::default()).await;
    let (_, _, body) = read(world.send(&ask(&world, json!({"stream": true}))).await).await;
    let (events, done) = events(&body);
    assert!(done);
    assert_eq!(
        types(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!((&*text, &events[7]["text"]), ("Hello, world", &json!("Hello, world")));
    let whole = &events[10]["response"];
    assert_eq!((&whole["status"], &whole["output"][0]), (&json!("completed"), &events[9]["item"]));
    assert_eq!((&whole["usage"]["output_tokens"], &whole["id"]), (&json!(3), &events[0]["response"]["id"]));
    // The same once more from what was kept.
    let again = read(world.send(&ask(&world, json!({"stream": true}))).await).await;
    assert_eq!(self::events(&again.2).0, events);
    assert_eq!(again.1["comity-replayed"], "true");
}

#[tokio::test]
async fn tool_calls_and_short_answers_have_their_own_events() {
    let world = World::new(Setting::default()).await;
    let call = |id: Option<&str>, name: Option<&str>, arguments: &str| {
        let (id, name) = (id.map(str::to_owned), name.map(str::to_owned));
        Step::Say(Event::Delta(Delta {
            tool_calls: vec![ToolCall { index: 0, id, name, arguments: arguments.into() }],
            ..Delta::default()
        }))
    };
    world.upstream.push(Script::Answer(vec![
        call(Some("c1"), Some("f"), "{\"a\""),
        call(None, None, ":1}"),
        Step::Say(Event::Delta(Delta { finish_reason: Some("length".into()), ..Delta::default() })),
        Step::Say(Event::Usage(Usage { input_tokens: 4, output_tokens: 6 })),
        Step::Say(Event::Done),
    ]));
    let (_, _, body) = read(world.send(&ask(&world, json!({"stream": true}))).await).await;
    let (events, done) = events(&body);
    assert!(done);
    assert_eq!(
        types(&events)[2..],
        [
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "incomplete",
        ]
    );
    assert_eq!(events[2]["item"]["call_id"], "c1");
    let whole = &events[7]["response"];
    assert_eq!(whole["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(whole["output"][0]["arguments"], "{\"a\":1}");
}

#[tokio::test]
async fn a_broken_stream_is_an_error_and_not_a_completed_response() {
    let world = World::new(Setting::default()).await;
    world.upstream.push(Script::text(Op::Chat, 12, &["a", "b"]).broken_at(2, Step::Cut));
    let (_, _, body) = read(world.send(&ask(&world, json!({"stream": true}))).await).await;
    let said = String::from_utf8(body).unwrap();
    assert!(said.contains("data: {\"error\":") && !said.contains("completed") && !said.contains("[DONE]"), "{said}");
}

#[tokio::test]
async fn what_would_need_a_memory_is_refused_with_a_hint() {
    let world = World::new(Setting::default()).await;
    for more in [
        json!({"previous_response_id": "resp_1"}),
        json!({"conversation": "c"}),
        json!({"background": true}),
        json!({"input": []}),
    ] {
        let (status, _, body) = read(world.send(&ask(&world, more.clone())).await).await;
        let error = &serde_json::from_slice::<Value>(&body).unwrap()["error"];
        assert_eq!((status, &error["code"]), (400, &json!("invalid_request")), "{more}");
        assert!(error["hint"].is_string() || more.get("input").is_some(), "{error}");
    }
    let ask = ask(&world, json!({"max_output_tokens": 0, "input": [{"role": "user", "content": "a"}]}));
    let (_, headers, _) = read(world.send(&ask).await).await;
    assert_eq!(receipt(&headers).meters.get(Meter::OutputTokens), 0);
}
