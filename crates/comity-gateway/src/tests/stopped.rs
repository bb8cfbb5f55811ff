//! What the operator stops: who is refused and how, who waits, what runs, and that it outlives the process.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_supply::scripted::{Gate, Script, Step};
use comity_wire::cbor::Text;
use comity_wire::object::{Basis, Ended};
use comity_wire::{Amount, Meter, Op, TokenId};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::store::Memory;
use crate::store::stops::{Running, Stop, Stops as _, Target, Word};

const PROJECT: &str = "sub-of-the-project";

pub(super) fn word(reason: &str) -> Word {
    Word { author: "ada".into(), reason: reason.into(), at: NOW }
}

pub(super) fn stop(target: Target, running: Running) -> Stop {
    Stop { target, running, word: word("a report about its answers") }
}

fn streamed(world: &World, chain: &[u8], seq: u64) -> Ask {
    world.ask(chain).seq(seq).body(chat("hi", json!({"max_tokens": 20, "stream": true})))
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

fn go(world: &World, ask: &Ask) -> tokio::task::JoinHandle<(u16, http::HeaderMap, Vec<u8>)> {
    let (router, request) = (world.gateway.router(), ask.request());
    tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await })
}

fn held(world: &World) -> usize {
    world.gateway.0.ledger.with(|book| book.open_count(TOKEN))
}

/// Data payloads, comments, whether `[DONE]` came.
pub(super) fn frames(body: &[u8]) -> (Vec<Value>, Vec<String>, bool) {
    let body = std::str::from_utf8(body).unwrap();
    let (mut data, mut comments, mut done) = (Vec::new(), Vec::new(), false);
    for block in body.split("\n\n").filter(|block| !block.is_empty()) {
        match (block.strip_prefix("data: "), block.strip_prefix(": ")) {
            (Some("[DONE]"), _) => done = true,
            (Some(payload), _) => data.push(serde_json::from_str(payload).unwrap()),
            (_, Some(comment)) => comments.push(comment.to_owned()),
            _ => panic!("{block}"),
        }
    }
    (data, comments, done)
}

#[tokio::test]
async fn a_model_a_project_or_the_node_is_stopped_with_its_reason_and_resumed() {
    let model_target = Target::Model(model());
    for (target, kind, other) in [
        (Target::Node, "node", "stopped"),
        (model_target, "model", "stopped"),
        (Target::Project(PROJECT.into()), "project", "ok"),
    ] {
        let world = World::new(Setting::default()).await;
        let chain = world.mint(|_| {});
        let another = world.mint(|token| {
            token.id = TokenId([77; 16]);
            token.subject = Text::new("sub-of-another").unwrap();
        });
        assert_eq!(world.code(&world.ask(&chain)).await, "ok");
        world.gateway.stop_put(stop(target.clone(), Running::Finishes)).await.unwrap();
        // Its authority is remembered from before, and helps nobody.
        let mut ask = world.ask(&chain).seq(2);
        ask.send_chain = false;
        let (status, headers, body) = read(world.send(&ask).await).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let error = &body["error"];
        assert_eq!((status, &error["code"], &error["stopped"]), (503, &json!("stopped"), &json!(kind)), "{body}");
        assert_eq!((&error["reason"], &error["whose_move"]), (&json!("a report about its answers"), &json!("owner")));
        assert_eq!((&error["since"], &error["type"]), (&json!(NOW.0), &json!("server_error")));
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("resumed")), "{body}");
        assert!(headers["x-should-retry"] == "false" && headers["comity-cost"] == "0", "{headers:?}");
        assert!(!body.to_string().contains("ada"), "who stopped it is the owner's affair: {body}");
        assert_eq!((world.upstream.calls().len(), held(&world)), (1, 0));
        assert_eq!(world.code(&world.ask(&another)).await, other, "{kind}");
        // What was charged before is answered from the books.
        let again = world.send(&world.ask(&chain)).await;
        assert_eq!(again.headers()["comity-replayed"], "true");
        let ended = world.gateway.stop_end(&target, &word("it was nothing")).await.unwrap();
        assert_eq!(ended.map(|stop| stop.target), Some(target.clone()));
        assert_eq!(world.gateway.stop_end(&target, &word("it was nothing")).await.unwrap(), None);
        assert_eq!(world.code(&ask).await, "ok", "the number was not used up");
        let log = world.gateway.stop_log(10).await.unwrap();
        assert_eq!(
            log.iter().map(|said| said.word.reason.as_str()).collect::<Vec<_>>(),
            ["it was nothing", "a report about its answers"]
        );
    }
}

#[tokio::test]
async fn another_model_goes_on() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let other = Target::Model("lab/other".parse().unwrap());
    world.gateway.stop_put(stop(other, Running::Ends)).await.unwrap();
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
}

#[tokio::test]
async fn a_stop_outlives_the_process_and_one_that_cannot_be_written_is_in_force_all_the_same() {
    let store = Memory::default();
    let world = World::on(Setting::default(), Arc::new(store.clone())).await;
    let chain = world.mint(|_| {});
    store.fill_up(true);
    assert!(world.gateway.stop_put(stop(Target::Node, Running::Finishes)).await.is_err());
    assert_eq!(world.code(&world.ask(&chain)).await, "stopped");
    store.fill_up(false);
    assert_eq!(store.stops().await.unwrap(), []);
    world.gateway.stop_put(stop(Target::Node, Running::Finishes)).await.unwrap();
    assert_eq!(world.gateway.stops().len(), 1);
    // The end of a stop is written first.
    store.fill_up(true);
    assert!(world.gateway.stop_end(&Target::Node, &word("done")).await.is_err());
    assert_eq!(world.code(&world.ask(&chain)).await, "stopped");
    store.fill_up(false);
    drop(world);
    let world = World::on(Setting::default(), Arc::new(store.clone())).await;
    assert_eq!(world.code(&world.ask(&chain)).await, "stopped");
    world.gateway.stop_end(&Target::Node, &word("done")).await.unwrap();
    drop(world);
    let world = World::on(Setting::default(), Arc::new(store)).await;
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
}

/// A place in the line is no right to be answered, and nobody is kept standing for nothing.
#[tokio::test]
async fn who_waits_is_refused_at_once_and_what_runs_finishes() {
    let world = World::new(Setting { slots: 1, ..Setting::default() }).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["a", "b"]).held_at(1, &gate));
    let running = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let waits = go(&world, &world.ask(&chain).lane(1));
    until(|| world.gateway.0.places(&model()).counts() == (1, 1)).await;
    world.gateway.stop_put(stop(Target::Model(model()), Running::Finishes)).await.unwrap();
    let (status, _, body) = waits.await.unwrap();
    assert!(status == 503 && String::from_utf8_lossy(&body).contains("\"stopped\""), "the gate is shut still");
    gate.open(1);
    let (status, headers, _) = running.await.unwrap();
    assert_eq!((status, receipt(&headers).ended), (200, Ended::Stop));
    assert_eq!(world.upstream.calls().len(), 1);
}

/// Between its turn and the model a call may wait for the store: it is asked once more.
#[tokio::test]
async fn a_call_whose_turn_comes_at_that_moment_does_not_reach_the_model() {
    let world = World::new(Setting { slots: 1, ..Setting::default() }).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["a"]).held_at(1, &gate));
    let running = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    // Its prompt is turned back into text before it is forwarded, and that is held up.
    let decoding = Gate::shut();
    let answer = Script::Whole(comity_supply::Answer { body: json!({"prompt": "a"}), usage: None });
    let slow = Script::After(decoding.clone(), Box::new(answer));
    world.upstream.set_answer(Op::Tokenize, move |_| slow.clone());
    let ids = world
        .ask(&chain)
        .lane(1)
        .to("/v1/completions", json!({"model": "lab/tiny", "prompt": [1, 2], "max_tokens": 5}));
    let late = go(&world, &ids);
    until(|| world.gateway.0.places(&model()).counts() == (1, 1)).await;
    gate.open(1);
    assert_eq!(running.await.unwrap().0, 200);
    until(|| world.upstream.calls().len() == 2).await;
    world.gateway.stop_put(stop(Target::Project(PROJECT.into()), Running::Finishes)).await.unwrap();
    decoding.open(1);
    let (status, _, body) = late.await.unwrap();
    assert!(status == 503 && String::from_utf8_lossy(&body).contains("\"stopped\""));
    assert_eq!((world.upstream.calls().len(), held(&world)), (2, 0), "the model was not asked");
}

/// What was handed over is charged, to the token; the receipt says that the owner ended it.
#[tokio::test]
async fn stopped_now_a_stream_ends_with_its_receipt_and_without_done() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["Hello", ", ", "world"]).held_at(3, &gate));
    let response = world.send(&streamed(&world, &chain, 1)).await;
    let mut body = response.into_body();
    let mut said = Vec::new();
    for _ in 0..3 {
        said.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    world.gateway.stop_put(stop(Target::Node, Running::Ends)).await.unwrap();
    said.extend(body.collect().await.unwrap().to_bytes());
    let (data, comments, done) = frames(&said);
    assert!(!done, "{said:?}");
    let text: String = data.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), &data.last().unwrap()["error"]["code"]), ("Hello, ", &json!("stopped")));
    let signed = comments.iter().find_map(|comment| comment.strip_prefix("comity-receipt ")).expect("a receipt");
    let receipt = verify(&URL_SAFE_NO_PAD.decode(signed).unwrap());
    assert_eq!(
        (receipt.ended, receipt.basis, receipt.meters.get(Meter::OutputTokens)),
        (Ended::Drained, Basis::Relayed, 2)
    );
    assert_eq!(receipt.meters.get(Meter::OutputBytes), "Hello, ".len() as u64);
    assert_eq!(held(&world), 0);
    // Asked again, it is told so: there is no whole answer to repeat.
    assert_eq!(world.code(&streamed(&world, &chain, 1)).await, "replayed");
}

/// A caller that does not read holds nobody up: the model stops at once. What it takes later is charged, what it never takes
/// is not, and a piece that found no room before the end is neither sent nor charged.
#[tokio::test]
async fn stopped_now_a_stream_is_charged_for_what_was_taken_however_slowly_it_is_read() {
    for comes_back in [false, true] {
        let mut setting = Setting::default();
        setting.config.stall_s = if comes_back { 20 } else { 1 };
        let world = World::new(setting).await;
        let chain = world.mint(|_| {});
        let pieces: Vec<String> = (0..60).map(|n| format!("{n:03}")).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        world.upstream.push(Script::text(Op::Chat, 12, &pieces));
        let mut ask = streamed(&world, &chain, 1).body(chat("hi", json!({"max_tokens": 100, "stream": true})));
        ask.max = Amount::credits(1);
        let mut body = world.send(&ask).await.into_body();
        // The role and two pieces; then nothing more, until every place between the two is taken.
        let mut said = Vec::new();
        for _ in 0..3 {
            said.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.gateway.stop_put(stop(Target::Node, Running::Ends)).await.unwrap();
        let (mut taken, mut ended) = (2, Ended::ClientGone);
        if comes_back {
            said.extend(body.collect().await.unwrap().to_bytes());
            let (data, _, done) = frames(&said);
            assert_eq!((&data.last().unwrap()["error"]["code"], done), (&json!("stopped"), false));
            let texts = data
                .iter()
                .filter(|chunk| chunk["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()));
            (taken, ended) = (texts.count() as u64, Ended::Drained);
            assert!(taken > 2 && taken < 60, "{taken} pieces");
            world.gateway.drained().await;
        } else {
            world.gateway.drained().await;
            drop(body);
        }
        let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned()).unwrap();
        let (key, _) = account.lanes.iter().next().unwrap();
        let receipt = verify(&world.store.charge_by_n(TOKEN, *key, 1).await.unwrap().unwrap().receipt);
        assert_eq!(
            (receipt.ended, receipt.meters.get(Meter::OutputTokens)),
            (ended, taken),
            "comes back: {comes_back}"
        );
    }
}

/// A reader that was given up is charged, and then nothing is kept for it: neither its place at the model nor its place among
/// those under way.
#[tokio::test]
async fn nobody_waits_for_a_reader_that_was_given_up() {
    let mut setting = Setting { slots: 1, ..Setting::default() };
    setting.config.stall_s = 3;
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let pieces: Vec<String> = (0..60).map(|n| format!("{n:03}")).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    world.upstream.push(Script::text(Op::Chat, 12, &pieces));
    let mut ask = streamed(&world, &chain, 1).body(chat("hi", json!({"max_tokens": 100, "stream": true})));
    ask.max = Amount::credits(1);
    let mut body = world.send(&ask).await.into_body();
    body.frame().await.unwrap().unwrap();
    let charged = || {
        let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned());
        account.is_some_and(|account| account.lanes.values().any(|lane| lane.n == 1))
    };
    while !charged() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let soon = tokio::time::timeout(Duration::from_millis(1_500), world.gateway.drained()).await;
    assert!(soon.is_ok(), "it was waited for again");
    assert_eq!(world.gateway.0.places(&model()).counts(), (0, 0));
    drop(body);
}

/// The end of a drain: a stream has its receipt, what was not handed over costs nothing, and both may be sent again.
#[tokio::test]
async fn what_still_runs_when_the_process_ends_is_ended_with_its_receipt_or_uncharged() {
    let world = World::new(Setting { slots: 2, ..Setting::default() }).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    for _ in 0..2 {
        world.upstream.push(Script::text(Op::Chat, 12, &["Hello", ", ", "world"]).held_at(2, &gate));
    }
    let mut body = world.send(&streamed(&world, &chain, 1)).await.into_body();
    let mut said = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    let buffered = go(&world, &world.ask(&chain).lane(1));
    until(|| world.upstream.calls().len() == 2).await;
    let waits = go(&world, &world.ask(&chain).lane(2));
    until(|| world.gateway.0.places(&model()).counts() == (1, 2)).await;
    world.gateway.end_running();
    said.extend(body.collect().await.unwrap().to_bytes());
    let (data, comments, done) = frames(&said);
    assert_eq!((&data.last().unwrap()["error"]["code"], done), (&json!("busy"), false));
    let signed = comments.iter().find_map(|comment| comment.strip_prefix("comity-receipt ")).expect("a receipt");
    assert_eq!(verify(&URL_SAFE_NO_PAD.decode(signed).unwrap()).ended, Ended::Drained);
    for ended in [buffered, waits] {
        let (status, headers, body) = ended.await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["error"]["code"]), (503, &json!("busy")), "{body}");
        assert!(headers["x-should-retry"] == "true" && !headers.contains_key("comity-receipt"), "{headers:?}");
    }
    world.gateway.drained().await;
    let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned()).unwrap();
    assert_eq!(account.lanes.values().map(|lane| lane.n).collect::<Vec<_>>(), [1], "the stream alone is charged");
    assert_eq!(world.code(&world.ask(&chain).lane(3)).await, "busy");
}

#[tokio::test]
async fn stopped_now_what_was_not_handed_over_yet_is_refused_and_costs_nothing() {
    let gate = Gate::shut();
    let chat_text = || Script::text(Op::Chat, 12, &["Hello", ", ", "world"]);
    let whole = Script::Whole(comity_supply::Answer { body: json!({"data": [{"embedding": [1.0]}]}), usage: None });
    let piece = json!({"model": "lab/tiny", "input": "a"});
    for (what, script, stream, is_piece) in [
        ("not accepted", Script::After(gate.clone(), Box::new(chat_text())), true, false),
        ("no word yet", chat_text().held_at(0, &gate), true, false),
        ("buffered", chat_text().held_at(2, &gate), false, false),
        ("silent", chat_text().broken_at(2, Step::Hang), false, false),
        ("in one piece", Script::After(gate.clone(), Box::new(whole)), false, true),
    ] {
        let world = World::new(Setting::default()).await;
        let chain = world.mint(|_| {});
        let ask = if is_piece {
            world.upstream.set_answer(Op::Embeddings, move |_| script.clone());
            world.ask(&chain).to("/v1/embeddings", piece.clone())
        } else {
            world.upstream.push(script);
            world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": stream})))
        };
        let running = go(&world, &ask);
        until(|| world.upstream.calls().len() == 1).await;
        assert_eq!(held(&world), 1, "{what}");
        world.gateway.stop_put(stop(Target::Model(model()), Running::Ends)).await.unwrap();
        let (status, headers, body) = running.await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["error"]["code"]), (503, &json!("stopped")), "{what}");
        assert!(!headers.contains_key("comity-receipt"), "{what}");
        until(|| held(&world) == 0).await;
        let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned());
        assert!(
            account.is_none_or(|account| account.lanes.values().all(|lane| lane.n == 0)),
            "{what}: nothing is charged"
        );
    }
}
