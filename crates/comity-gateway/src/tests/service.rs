//! What a caller gets for a good request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use comity_supply::scripted::{Gate, Script, Step};
use comity_token::{request_digest, response_digest};
use comity_wire::object::{Basis, Ended};
use comity_wire::{Amount, Meter, Op};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;

fn frames(body: &[u8]) -> (Vec<Value>, Vec<String>, bool) {
    let text = std::str::from_utf8(body).unwrap();
    let (mut data, mut comments, mut done) = (Vec::new(), Vec::new(), false);
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        assert!(!done, "nothing follows [DONE]: {block}");
        match (block.strip_prefix("data: "), block.strip_prefix(": ")) {
            (Some("[DONE]"), _) => done = true,
            (Some(payload), _) => {
                assert!(comments.is_empty(), "the receipt comes after all content");
                data.push(serde_json::from_str(payload).unwrap());
            }
            (_, Some(comment)) => comments.push(comment.to_owned()),
            _ => panic!("not a frame: {block}"),
        }
    }
    (data, comments, done)
}

#[tokio::test]
async fn a_chat_is_answered_with_its_cost_and_a_receipt() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "temperature": 0, "user": "me"})));
    let (status, headers, body) = read(world.send(&ask).await).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["choices"][0]["message"], json!({"role": "assistant", "content": "Hello, world"}));
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert_eq!(reply["usage"]["completion_tokens"], 3);
    let receipt = receipt(&headers);
    // 12 input tokens at 1, 3 output tokens at 2.
    assert_eq!((receipt.charge, receipt.total, receipt.n), (Amount::from_ucr(18), Amount::from_ucr(18), 1));
    assert_eq!((receipt.basis, receipt.ended), (Basis::Upstream, Ended::Stop));
    assert_eq!(receipt.meters.get(Meter::OutputBytes), 12);
    assert_eq!(receipt.request, request_digest(&ask.nonce, ask.body.to_string().as_bytes()));
    assert_eq!(receipt.response, response_digest(&ask.nonce, &body));
    assert_eq!(receipt.authority, ask.authority().id());
    assert_eq!(
        (&headers["comity-cost"], &headers["comity-remaining"]),
        (&"18".parse().unwrap(), &"999982".parse().unwrap())
    );
    assert_eq!(headers["comity-reserved"], "0");
    assert_eq!(headers["comity-ignored"], "user");
    let call = world.upstream.calls().pop().unwrap();
    assert_eq!(call.model, "tiny-on-disk");
    assert_eq!(call.body["max_tokens"], 20);
    assert!(!call.body.contains_key("user") && !call.body.contains_key("model"));
}

#[tokio::test]
async fn the_token_is_sent_once_and_named_after_that() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain);
    ask.send_chain = false;
    assert_eq!(world.code(&ask).await, "token_unknown");
    ask.send_chain = true;
    assert_eq!(world.code(&ask).await, "ok");
    ask.send_chain = false;
    assert_eq!(world.code(&ask.seq(2)).await, "ok");
    // A new process finds the chain in its store.
    let again = World::on(Setting::default(), world.store.clone()).await;
    let mut ask = again.ask(&chain).seq(3);
    ask.send_chain = false;
    assert_eq!(again.code(&ask).await, "ok");
}

#[tokio::test]
async fn a_stream_ends_with_its_receipt_before_done() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let more = json!({"max_tokens": 20, "stream": true, "stream_options": {"include_usage": true}});
    let ask = world.ask(&chain).body(chat("hi", more));
    let (status, headers, body) = read(world.send(&ask).await).await;
    assert_eq!((status, &headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    let (data, comments, done) = frames(&body);
    assert!(done);
    let text: String = data.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello, world");
    assert_eq!(data[0]["choices"][0]["delta"]["role"], "assistant");
    let reasons: Vec<_> = data.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["stop"]);
    let usage = data.last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["prompt_tokens"]), (&json!([]), &json!(12)));
    let [comment] = &comments[..] else { panic!("{comments:?}") };
    let receipt = verify(&URL_SAFE_NO_PAD.decode(comment.strip_prefix("comity-receipt ").unwrap()).unwrap());
    assert_eq!(receipt.charge, Amount::from_ucr(18));
    assert_eq!(receipt.response, response_digest(&ask.nonce, said(body).as_bytes()));
}

/// What a stream's response digest covers.
fn said(body: Vec<u8>) -> String {
    let body = String::from_utf8(body).unwrap();
    let payloads = body.split("\n\n").filter_map(|block| block.strip_prefix("data: ")).filter(|p| *p != "[DONE]");
    payloads.map(|payload| format!("{payload}\n")).collect()
}

/// The transport and the request's task meet at the end of each stream; whoever is first, the receipt is for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_stream_that_was_taken_whole_is_receipted_whole() {
    const LANES: u16 = 8;
    const STREAMS: u64 = 120;
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|token| token.terms.budget = Amount::credits(1));
    let lane = |lane| {
        let asks = (1..=STREAMS).map(|seq| {
            world.ask(&chain).lane(lane).seq(seq).body(chat("hi", json!({"max_tokens": 20, "stream": true})))
        });
        let (asks, router) = (asks.collect::<Vec<_>>(), world.gateway.router());
        tokio::spawn(async move {
            for mut ask in asks {
                ask.max = Amount::from_ucr(200);
                let (status, _, body) = read(router.clone().oneshot(ask.request()).await.unwrap()).await;
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                let (_, comments, _) = frames(&body);
                let receipt = comments.iter().find_map(|comment| comment.strip_prefix("comity-receipt ")).unwrap();
                let receipt = verify(&URL_SAFE_NO_PAD.decode(receipt).unwrap());
                assert_eq!(receipt.response, response_digest(&ask.nonce, said(body).as_bytes()), "seq {}", ask.seq);
            }
        })
    };
    for lane in (0..LANES).map(lane).collect::<Vec<_>>() {
        lane.await.unwrap();
    }
}

/// A receipt has the digest of these bytes, and a retry is given them again.
#[tokio::test]
async fn an_answer_is_written_in_openais_order() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let usage = r#"{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}"#;
    let said = async |seq, path: &str, body: Value| {
        let ask = world.ask(&chain).seq(seq).to(path, body);
        let id = ask.authority().id().to_string()[..24].to_owned();
        let (_, _, said) = read(world.send(&ask).await).await;
        (String::from_utf8(said).unwrap().replace(&id, "ID"), NOW.seconds())
    };
    let (whole, now) = said(1, "/v1/chat/completions", chat("hi", json!({"max_tokens": 20}))).await;
    let choice =
        r#"{"index":0,"message":{"role":"assistant","content":"Hello, world"},"logprobs":null,"finish_reason":"stop"}"#;
    let head = |object| format!(r#"{{"id":"chatcmpl-ID","object":"{object}","created":{now},"model":"lab/tiny""#);
    assert_eq!(whole, format!(r#"{},"choices":[{choice}],"usage":{usage}}}"#, head("chat.completion")));

    let more = json!({"max_tokens": 20, "stream": true, "stream_options": {"include_usage": true}});
    let (stream, _) = said(2, "/v1/chat/completions", chat("hi", more)).await;
    let piece = |choices: &str, usage: &str| {
        format!("data: {},\"choices\":[{choices}],\"usage\":{usage}}}\n\n", head("chat.completion.chunk"))
    };
    let one = |delta: &str, reason: &str| {
        piece(&format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#), "null")
    };
    let begins = [
        one(r#"{"role":"assistant","content":""}"#, "null"),
        one(r#"{"content":"Hello"}"#, "null"),
        one(r#"{"content":", "}"#, "null"),
        one(r#"{"content":"world"}"#, "null"),
        one("{}", "\"stop\""),
        piece("", usage),
    ];
    assert!(stream.starts_with(&begins.concat()), "{stream}");

    world.upstream.push(Script::text(Op::Completions, 12, &["Hello", ", ", "world"]));
    let body = json!({"model": "lab/tiny", "prompt": "hi", "max_tokens": 20});
    let (text, _) = said(3, "/v1/completions", body).await;
    let choice = r#"{"index":0,"text":"Hello, world","logprobs":null,"finish_reason":"stop"}"#;
    let head = format!(r#"{{"id":"cmpl-ID","object":"text_completion","created":{now},"model":"lab/tiny""#);
    assert_eq!(text, format!(r#"{head},"choices":[{choice}],"usage":{usage}}}"#));
}

/// Where no comments come, there is nothing to wait for.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), work).await.expect("a comment each second")
}

/// A model that thinks within its answer: the connection is kept open by comments, which are no part of the answer. How long a server
/// may be silent is comity-supply's.
#[tokio::test]
async fn a_thinking_gap_ends_no_stream_and_is_filled_with_comments() {
    let mut setting = Setting::default();
    setting.config.keep_alive_s = 1;
    let world = World::new(setting).await;
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["Hello", ", ", "world"]).held_at(2, &gate));
    let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    let mut body = world.send(&ask).await.into_body();
    let (mut said, mut waits) = (Vec::new(), 0);
    while let Some(frame) = within(http_body_util::BodyExt::frame(&mut body)).await {
        match frame.unwrap().into_data().unwrap() {
            wait if *wait == *crate::reply::KEEP_ALIVE => {
                waits += 1;
                // The model goes on after the second.
                gate.open(waits - 1);
            }
            piece => said.extend(piece),
        }
    }
    let (data, comments, done) = frames(&said);
    let text: String = data.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), done), ("Hello, world", true));
    assert!(waits >= 2, "a busy machine may take a third second");
    let signed = comments.iter().find_map(|comment| comment.strip_prefix("comity-receipt ")).expect("a receipt");
    let receipt = verify(&URL_SAFE_NO_PAD.decode(signed).unwrap());
    assert_eq!((receipt.ended, receipt.charge), (Ended::Stop, Amount::from_ucr(18)));
}

#[tokio::test]
async fn usage_is_shown_only_to_those_who_asked() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    let (data, _, done) = frames(&read(world.send(&ask).await).await.2);
    assert!(done);
    assert!(data.iter().all(|chunk| chunk.get("usage").is_none() && chunk["choices"].as_array().unwrap().len() == 1));
}

#[tokio::test]
async fn a_completion_has_the_older_shape() {
    let world = World::new(Setting::default()).await;
    world.upstream.push(Script::text(Op::Completions, 4, &["a", "b"]));
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain).body(json!({"model": "lab/tiny", "prompt": "x", "max_tokens": 5, "stop": []}));
    ask.path = "/v1/completions".to_owned();
    let (status, _, body) = read(world.send(&ask).await).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &reply["object"], &reply["choices"][0]["text"]),
        (200, &json!("text_completion"), &json!("ab"))
    );
    let call = world.upstream.calls().pop().unwrap();
    assert!(!call.body.contains_key("stop"));
    ask = ask.seq(2).body(json!({"model": "lab/tiny", "prompt": "x", "max_tokens": 5, "echo": true}));
    assert_eq!(world.code(&ask).await, "op_not_offered");
}

#[tokio::test]
async fn an_answer_without_a_limit_is_as_long_as_its_maximum_pays_and_says_so() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain).body(chat("hi", json!({})));
    ask.max = Amount::from_ucr(300);
    let (status, headers, _) = read(world.send(&ask).await).await;
    assert_eq!(status, 200);
    let input = ask.body.to_string().len() as u64 + 16;
    let pays = (300 - input) / 2;
    assert_eq!(headers["comity-clipped"], format!("max-charge; output_tokens={pays}"));
    assert_eq!(world.upstream.calls().pop().unwrap().body["max_tokens"], pays);
}

#[tokio::test]
async fn a_broken_stream_is_charged_for_what_was_relayed_and_never_done() {
    let world = World::new(Setting::default()).await;
    for step in [Step::Cut, Step::Silence(9), Step::Fail("secret detail".into())] {
        world.upstream.push(Script::text(Op::Chat, 12, &["Hello", ", ", "world"]).broken_at(3, step));
    }
    let chain = world.mint(|_| {});
    for (seq, ended) in [(1, Ended::UpstreamError), (2, Ended::UpstreamSilent), (3, Ended::UpstreamError)] {
        let ask = world.ask(&chain).seq(seq).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
        let body = read(world.send(&ask).await).await.2;
        assert!(!String::from_utf8_lossy(&body).contains("secret detail"));
        let (data, comments, done) = frames(&body);
        assert!(!done);
        assert_eq!(data.last().unwrap()["error"]["code"], "upstream_failed");
        let receipt = verify(&URL_SAFE_NO_PAD.decode(comments[0].strip_prefix("comity-receipt ").unwrap()).unwrap());
        assert_eq!((receipt.basis, receipt.ended), (Basis::Relayed, ended));
        assert_eq!(receipt.meters.get(Meter::OutputTokens), 2);
    }
}

#[tokio::test]
async fn an_upstream_that_fails_before_anything_was_said_costs_nothing_and_leaves_the_seq_free() {
    let world = World::new(Setting::default()).await;
    world.upstream.push(Script::Unreachable);
    world.upstream.push(Script::Refuse { status: 400, message: "maximum context length is 64".into() });
    world.upstream.push(Script::Answer(vec![Step::Cut]));
    world.upstream.push(Script::text(Op::Chat, 12, &["a"]).broken_at(2, Step::Cut));
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain);
    for expected in ["upstream_unavailable", "context_length_exceeded", "upstream_failed", "upstream_failed", "ok"] {
        assert_eq!(world.code(&ask).await, expected);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_first_word_owes_the_input_and_is_told_so_when_it_asks_again() {
    for stream in [false, true] {
        let world = World::new(Setting::default()).await;
        let gate = Gate::shut();
        world.upstream.push(Script::text(Op::Chat, 12, &["Hello"]).held_at(0, &gate));
        let chain = world.mint(|_| {});
        let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        let caller = tokio::spawn(tower::ServiceExt::oneshot(world.gateway.router(), ask.request()));
        while world.upstream.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        // Asked about while it runs, it is neither charged nor free.
        let query = format!("token={TOKEN}&leaf={}&lane=0&seq=1", leaf(&chain));
        let told = world.call("GET", "/comity/v1/receipts", &query, &json!(null), &secret("holder")).await;
        assert_eq!(code(told).await, "in_flight", "its outcome is not known yet");
        caller.abort();
        let _ = caller.await;
        world.gateway.drained().await;
        let (status, headers, _) = read(world.send(&ask).await).await;
        assert_eq!(status, 409, "stream {stream}: there is no answer to repeat");
        let receipt = receipt(&headers);
        assert_eq!((receipt.ended, receipt.meters.get(Meter::OutputTokens)), (Ended::ClientGone, 0));
        assert!(receipt.meters.get(Meter::InputTokens) > 0, "the upstream had accepted");
        assert!(!receipt.charge.is_zero());
        for seq in [0, 1_u64 << 63] {
            let query = format!("token={TOKEN}&leaf={}&lane=0&seq={seq}", leaf(&chain));
            let told = world.call("GET", "/comity/v1/receipts", &query, &json!(null), &secret("holder")).await;
            assert_eq!(code(told).await, "invalid_request");
        }
        let told = world.call("GET", "/comity/v1/receipts", "token=x", &json!(null), &secret("holder")).await;
        assert_eq!(told.headers()["x-should-retry"], "false");
        assert_eq!(code(told).await, "invalid_request");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_a_stream_is_charged_for_what_it_took() {
    let world = World::new(Setting::default()).await;
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["Hello", ", ", "world"]).held_at(3, &gate));
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    let response = world.send(&ask).await;
    let mut body = response.into_body();
    for _ in 0..2 {
        let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
        assert!(frame.into_data().unwrap().starts_with(b"data: "));
    }
    drop(body);
    world.gateway.drained().await;
    let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned()).unwrap();
    let (key, lane) = account.lanes.iter().next().unwrap();
    assert_eq!(lane.n, 1);
    let stored = world.store.charge_by_n(TOKEN, *key, 1).await.unwrap().unwrap();
    let receipt = verify(&stored.receipt);
    assert_eq!((receipt.ended, receipt.basis), (Ended::ClientGone, Basis::Relayed));
    assert_eq!((receipt.meters.get(Meter::OutputTokens), receipt.meters.get(Meter::OutputBytes)), (1, 5));
    assert!(receipt.meters.get(Meter::InputTokens) > 0, "the upstream had accepted");
    // The receipt, and no answer: the caller may have it again by its seq.
    assert_eq!(world.code(&ask).await, "replayed");
}

#[tokio::test]
async fn models_are_listed_and_found_by_their_whole_id() {
    let world = World::new(Setting::default()).await;
    let get = async |path: &str| {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let (status, _, body) = read(tower::ServiceExt::oneshot(world.gateway.router(), request).await.unwrap()).await;
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (status, all) = get("/v1/models").await;
    assert_eq!((status, &all["data"][0]["id"], &all["data"][0]["owned_by"]), (200, &json!("lab/tiny"), &json!("lab")));
    assert_eq!(get("/v1/models/lab/tiny").await.1["object"], "model");
    assert_eq!(get("/v1/models/lab/other").await.0, 404);
    assert_eq!(get("/health").await.0, 200);
    assert_eq!(get("/v1/embeddings").await.1["error"]["code"], "method_not_allowed");
}

#[tokio::test]
async fn an_open_tier_runs_on_the_nodes_own_tokens_without_any_house() {
    let world = World::new(Setting { rates: Vec::new(), minimum: 0, ..Setting::default() }).await;
    let ask = json!({"holder": secret("guest").public(), "models": ["lab/tiny"], "valid_s": 600});
    assert_eq!(code(world.call("POST", "/comity/v1/tokens", "", &ask, &secret("another")).await).await, "not_yours");
    let (status, _, body) = read(world.call("POST", "/comity/v1/tokens", "", &ask, &secret("guest")).await).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let reply: comity_wire::api::node::OwnTokenReply = serde_json::from_slice(&body).unwrap();
    let chain = comity_wire::object::Chain { token: reply.token.to_vec(), blocks: Vec::new() }.to_bytes();
    let mut ask = world.ask(&chain);
    (ask.key, ask.max) = (secret("guest"), Amount::ZERO);
    let (status, headers, body) = read(world.send(&ask).await).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(receipt(&headers).charge, Amount::ZERO);
}

/// A key costs nothing: a limit for each of them would be none.
#[tokio::test]
async fn those_whom_nobody_knows_count_as_one() {
    let mut setting = Setting { rates: Vec::new(), minimum: 0, ..Setting::default() };
    let window = comity_wire::object::Window { seconds: 60, requests: Some(3), tokens: None };
    setting.tier.windows = comity_wire::cbor::List::new(vec![window]).unwrap();
    let world = World::new(setting).await;
    let (mut said, mut chains) = (Vec::new(), Vec::new());
    for name in ["first", "second", "third", "fourth"] {
        let ask = json!({"holder": secret(name).public(), "models": ["lab/tiny"], "valid_s": 600});
        let (status, _, body) = read(world.call("POST", "/comity/v1/tokens", "", &ask, &secret(name)).await).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let reply: comity_wire::api::node::OwnTokenReply = serde_json::from_slice(&body).unwrap();
        let chain = comity_wire::object::Chain { token: reply.token.to_vec(), blocks: Vec::new() }.to_bytes();
        let mut ask = world.ask(&chain);
        (ask.key, ask.max) = (secret(name), Amount::ZERO);
        chains.push(chain);
        let (status, headers, _) = read(world.send(&ask).await).await;
        let left = headers.get("x-ratelimit-remaining-requests").unwrap().to_str().unwrap().to_owned();
        said.push((status, left));
    }
    assert_eq!(said, [(200, "2".into()), (200, "1".into()), (200, "0".into()), (429, "0".into())]);
    // Whom the owner gave a grant is known, and has its own.
    let grant = comity_wire::object::Grant {
        id: comity_wire::GrantId([1; 16]),
        org: LAB,
        subject: comity_wire::cbor::Text::new(secret("first").public().thumbprint().to_string()).unwrap(),
        models: comity_wire::cbor::List::new(vec![model()]).unwrap(),
        tier: comity_wire::object::Tier::Open,
        ops: comity_wire::cbor::List::default(),
        not_before: NOW,
        not_after: NOW.plus(100_000),
        plan: None,
        executions: None,
        reason: comity_wire::cbor::Text::new("").unwrap(),
    };
    world.gateway.grant_put(comity_wire::cose::sign(&grant, &secret("lab writer")).bytes()).await.unwrap();
    let mut again = world.ask(&chains[0]).seq(2);
    (again.key, again.max) = (secret("first"), Amount::ZERO);
    let (status, headers, _) = read(world.send(&again).await).await;
    assert_eq!((status, headers.get("x-ratelimit-remaining-requests").unwrap().to_str().unwrap()), (200, "2"));
    // A project that the house knows has its own.
    let chain = world.mint(|token| token.terms.window = Amount::from_ucr(1));
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
}
