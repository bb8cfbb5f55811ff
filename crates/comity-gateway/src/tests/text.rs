//! Generated text as OpenAI's packages and lm-eval read it: tools, log-probabilities, echo.

use comity_supply::scripted::{Script, Step};
use comity_supply::{Delta, Event, ToolCall, Usage};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Ended, Filter, FilterAction};
use comity_wire::{Meter, Op};
use serde_json::{Value, json};

use super::world::*;

fn script(deltas: Vec<Delta>, output_tokens: u64) -> Script {
    let mut steps: Vec<Step> = deltas.into_iter().map(|delta| Step::Say(Event::Delta(delta))).collect();
    steps.push(Step::Say(Event::Usage(Usage { input_tokens: 4, output_tokens })));
    steps.push(Step::Say(Event::Done));
    Script::Answer(steps)
}

fn called(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
    let (id, name) = (id.map(str::to_owned), name.map(str::to_owned));
    Delta { tool_calls: vec![ToolCall { index, id, name, arguments: arguments.into() }], ..Delta::default() }
}

fn ends(reason: &str) -> Delta {
    Delta { finish_reason: Some(reason.into()), ..Delta::default() }
}

fn tool_answer() -> Script {
    let pieces = vec![
        called(0, Some("c1"), Some("weather"), ""),
        called(0, None, None, "{\"city\":"),
        called(0, None, None, "\"Oslo\"}"),
        called(1, None, Some("time"), "{}"),
        ends("tool_calls"),
    ];
    script(pieces, 9)
}

fn with_tools(stream: bool) -> Value {
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let more = json!({"max_tokens": 20, "stream": stream, "tools": [tool], "tool_choice": "auto", "parallel_tool_calls": false});
    chat("hi", more)
}

#[tokio::test]
async fn tool_calls_are_put_together_and_charged_for() {
    let world = World::new(Setting::default()).await;
    world.upstream.push(tool_answer());
    let ask = world.ask(&world.mint(|_| {})).body(with_tools(false));
    let (status, headers, body) = read(world.send(&ask).await).await;
    assert_eq!(status, 200);
    let choice = serde_json::from_slice::<Value>(&body).unwrap()["choices"][0].clone();
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
    let calls = &choice["message"]["tool_calls"];
    assert_eq!(
        calls[0],
        json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}})
    );
    assert!(calls[1]["id"].as_str().unwrap().starts_with("call_"), "a name where the server gave none");
    let bytes = "weather{\"city\":\"Oslo\"}time{}".len() as u64;
    assert_eq!(receipt(&headers).meters.get(Meter::OutputBytes), bytes);
    let sent = world.upstream.calls().pop().unwrap().body;
    assert_eq!((&sent["tools"], &sent["tool_choice"]), (&ask.body["tools"], &json!("auto")));
}

#[tokio::test]
async fn the_pieces_of_a_tool_call_name_it_once() {
    let world = World::new(Setting::default()).await;
    world.upstream.push(tool_answer());
    let ask = world.ask(&world.mint(|_| {})).body(with_tools(true));
    let said = String::from_utf8(read(world.send(&ask).await).await.2).unwrap();
    let chunks = said.split("\n\n").filter_map(|block| block.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let chunks: Vec<Value> = chunks.map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let calls: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!(
        *calls[0],
        json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}})
    );
    assert_eq!(*calls[1], json!({"index": 0, "function": {"arguments": "{\"city\":"}}));
    assert_eq!((&calls[3]["index"], &calls[3]["function"]["name"]), (&json!(1), &json!("time")));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "tool_calls");
    assert!(said.contains("data: [DONE]"));
}

#[tokio::test]
async fn what_tools_are_called_with_and_give_back_is_filtered() {
    const WITHHELD: &str = "his IBAN is DE89370400440532013000, card 4111 1111 1111 1111, mail a@b.org";
    let mut setting = Setting::default();
    let filter = Filter { category: Text::new("personal_data").unwrap(), action: FilterAction::Block };
    setting.tier.filters = List::new(vec![filter]).unwrap();
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let call =
        |arguments: &str| json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}});
    for messages in [
        json!([{"role": "assistant", "tool_calls": [call(WITHHELD)]}]),
        json!([{"role": "assistant", "tool_calls": [call("{}")]}, {"role": "tool", "tool_call_id": "c", "content": WITHHELD}]),
    ] {
        let ask = world.ask(&chain).body(json!({"model": "lab/tiny", "max_tokens": 5, "messages": messages}));
        assert_eq!(world.code(&ask).await, "content_filter");
    }
    assert!(world.upstream.calls().is_empty());
    let (first, second) = WITHHELD.split_at(20);
    for (seq, stream) in [(1, false), (2, true)] {
        let pieces = vec![called(0, Some("c"), Some("f"), first), called(0, None, None, second), ends("tool_calls")];
        world.upstream.push(script(pieces, 9));
        let ask = world.ask(&chain).seq(seq).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        let said = String::from_utf8(read(world.send(&ask).await).await.2).unwrap();
        assert!(said.contains("content_filter") && !said.contains("a@b.org"), "{said}");
    }
}

#[tokio::test]
async fn log_probabilities_keep_their_bits_and_lose_what_is_not_tabled() {
    let world = World::new(Setting::default()).await;
    let entry = json!({"token": "a", "logprob": -0.10000000149011612, "bytes": [97], "top_logprobs": null, "rank": 1});
    let delta = Delta { text: "a".into(), logprobs: Some(json!({"content": [entry], "x": 1})), ..ends("stop") };
    world.upstream.push(script(vec![delta], 1));
    let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 5, "logprobs": true})));
    let (_, _, body) = read(world.send(&ask).await).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    let expected =
        json!({"content": [{"token": "a", "logprob": -0.10000000149011612, "bytes": [97], "top_logprobs": []}]});
    assert_eq!(reply["choices"][0]["logprobs"], expected);
}

/// lm-eval's loglikelihood: as many entries as prompt tokens and one, of one choice per prompt.
#[tokio::test]
async fn echo_of_token_ids_gives_every_entry_of_the_legacy_arrays_and_charges_what_was_generated() {
    let prompt_tokens = 200;
    for max_tokens in [1, 0] {
        let world = World::new(Setting { echo: true, ..Setting::default() }).await;
        let entries = prompt_tokens + max_tokens;
        let logprobs = |at: usize| if at == 0 { Value::Null } else { json!(-0.5) };
        let arrays = json!({
            "tokens": vec!["t"; entries],
            "token_logprobs": (0..entries).map(logprobs).collect::<Vec<_>>(),
            "top_logprobs": (0..entries).map(|at| if at == 0 { Value::Null } else { json!({"t": -0.5}) }).collect::<Vec<_>>(),
            "text_offset": (0..entries).collect::<Vec<_>>(),
            "x": [],
        });
        let answer =
            |index| Delta { index, text: "t".repeat(entries), logprobs: Some(arrays.clone()), ..ends("length") };
        world.upstream.push(script(vec![answer(1), answer(0)], 2 * max_tokens as u64));
        let ids: Vec<usize> = (0..prompt_tokens).collect();
        let body = json!({
            "model": "lab/tiny", "prompt": [ids, ids], "temperature": 0, "max_tokens": max_tokens,
            "logprobs": 1, "seed": 1234, "echo": true, "stop": [],
        });
        let mut ask = world.ask(&world.mint(|_| {})).to("/v1/completions", body);
        ask.max = comity_wire::Amount::from_ucr(100_000);
        let (status, headers, body) = read(world.send(&ask).await).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let reply: Value = serde_json::from_slice(&body).unwrap();
        let indexes: Vec<_> = reply["choices"].as_array().unwrap().iter().map(|choice| &choice["index"]).collect();
        assert_eq!(indexes, [&json!(0), &json!(1)]);
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let given = &reply["choices"][1]["logprobs"][name];
            assert_eq!((given.as_array().unwrap().len(), given), (entries, &arrays[name]), "{name}");
        }
        assert!(reply["choices"][0]["logprobs"].get("x").is_none());
        let receipt = receipt(&headers);
        assert_eq!((receipt.ended, receipt.op), (Ended::Length, Op::Completions));
        assert_eq!(receipt.meters.get(Meter::OutputTokens), 2 * max_tokens as u64);
        let call = world.upstream.calls().pop().unwrap();
        assert_eq!((&call.body["max_tokens"], call.body.get("stop")), (&json!(max_tokens), None));
    }
}

#[tokio::test]
async fn of_the_best_of_several_all_are_held_for_and_one_is_answered() {
    let world = World::new(Setting::default()).await;
    world.upstream.push(Script::text(Op::Completions, 4, &["best"]));
    let body = |best_of: u64| json!({"model": "lab/tiny", "prompt": "a", "max_tokens": 10, "best_of": best_of});
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain).to("/v1/completions", body(3));
    // 16 for the frame, 2 for each of 10 tokens of 3 choices, and its bytes as tokens.
    let required = ask.body.to_string().len() as u64 + 16 + 60;
    ask.max = comity_wire::Amount::new(required as i64 - 1).unwrap();
    assert_eq!(world.code(&ask).await, "max_too_low");
    ask.max = comity_wire::Amount::new(required as i64).unwrap();
    let (_, _, reply) = read(world.send(&ask).await).await;
    assert_eq!(serde_json::from_slice::<Value>(&reply).unwrap()["choices"].as_array().unwrap().len(), 1);
    assert_eq!(world.upstream.calls().pop().unwrap().body["best_of"], 3);
    assert_eq!(world.code(&world.ask(&chain).seq(2).to("/v1/completions", body(5))).await, "limit_exceeded");
}
