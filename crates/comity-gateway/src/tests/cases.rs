//! What went wrong at other gateways and has no better place here: `docs/reference/cases.md` names these.

use std::collections::BTreeMap;

use axum::body::Body;
use comity_supply::scripted::{Gate, Script, Step};
use comity_supply::{Answer, Delta, Event, Usage};
use comity_token::Directory as _;
use comity_wire::cbor::List;
use comity_wire::object::{Basis, Chain, Window};
use comity_wire::{Amount, Meter, Op, SecretKey};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::canaries::good;
use super::world::*;
use crate::routes::{FREE, PRICED};

/// A window of tokens holds before the calls run, not after.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_use_no_more_tokens_than_the_window_has() {
    const ROOM: u64 = 7;
    let mut setting = Setting::default();
    // Held for a call: its body's bytes, 16 of overhead, 5 of answer. Charged: 12 + 3 tokens.
    let body = chat("hi", json!({"max_tokens": 5}));
    let held = body.to_string().len() as u64 + 16 + 5;
    let tokens = Some(held * ROOM + held - 1);
    setting.tier.windows = List::new(vec![Window { seconds: 3_600, requests: None, tokens }]).unwrap();
    let world = World::new(setting).await;
    let gate = Gate::shut();
    for _ in 0..200 {
        world.upstream.push(Script::After(gate.clone(), Box::new(Script::text(Op::Chat, 12, &["a", "b", "c"]))));
    }
    let chain = world.mint(|token| token.terms.lanes_max = 200);
    let (told, mut refused) = tokio::sync::mpsc::channel(200);
    let mut callers = tokio::task::JoinSet::new();
    for lane in 0..200 {
        let (router, request) = (world.gateway.router(), world.ask(&chain).lane(lane).body(body.clone()).request());
        let told = told.clone();
        callers.spawn(async move {
            let said = code(router.oneshot(request).await.unwrap()).await;
            if said != "ok" {
                told.send(()).await.unwrap();
            }
            said
        });
    }
    // All that fits runs at once: nobody is answered before everybody else was told to wait.
    let mut told_to_wait = 0;
    while told_to_wait < 200 - ROOM {
        assert!(
            world.upstream.calls().len() as u64 <= ROOM,
            "the model was asked more often than the window has room for"
        );
        match refused.try_recv() {
            Ok(()) => told_to_wait += 1,
            Err(_) => tokio::task::yield_now().await,
        }
    }
    gate.open(200);
    let mut codes = BTreeMap::<String, u64>::new();
    for code in callers.join_all().await {
        *codes.entry(code).or_default() += 1;
    }
    assert_eq!(codes, BTreeMap::from([("ok".to_owned(), ROOM), ("too_many_requests".to_owned(), 200 - ROOM)]));
}

/// Callers that leave before, within and after an answer hold nothing once they are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_cancelled_calls_leaves_nothing_held() {
    let world = World::new(Setting::default()).await;
    let gate = Gate::shut();
    let chain = world.mint(|_| {});
    let mut left = Vec::new();
    for call in 0..64_u64 {
        let at = usize::try_from(call % 4).unwrap();
        let answer = Script::text(Op::Chat, 12, &["Hello", ", ", "world"]);
        // Some have not even been accepted.
        let script = if at == 3 { Script::After(gate.clone(), Box::new(answer)) } else { answer.held_at(at, &gate) };
        world.upstream.push(script);
        let stream = chat("hi", json!({"max_tokens": 20, "stream": call % 2 == 0}));
        let ask = world.ask(&chain).lane(u16::try_from(call % 8).unwrap()).seq(1 + call / 8).body(stream);
        let (router, request): (_, http::Request<Body>) = (world.gateway.router(), ask.request());
        left.push(tokio::spawn(async move { drop(router.oneshot(request).await.unwrap()) }));
    }
    while world.upstream.calls().len() < 64 {
        tokio::task::yield_now().await;
    }
    assert!(world.gateway.0.ledger.with(|book| book.has_open(TOKEN)), "they hold something while they run");
    for call in left {
        call.abort();
        let _ = call.await;
    }
    gate.open(64);
    world.gateway.drained().await;
    assert!(!world.gateway.0.ledger.with(|book| book.has_open(TOKEN)), "nothing is held");
    let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned()).unwrap();
    let charged = Amount::sum(account.lanes.values().map(|lane| lane.total)).unwrap();
    let (status, headers, _) = read(world.send(&world.ask(&chain).lane(0).seq(60)).await).await;
    assert_eq!((status, &headers["comity-reserved"]), (200, &"0".parse().unwrap()));
    let remaining = Amount::credits(1).ucr() - charged.ucr() - receipt(&headers).charge.ucr();
    assert_eq!(headers["comity-remaining"], remaining.to_string(), "all that was not charged is there");
}

/// Neither more tokens than were held for, nor a cost of its own, changes a price; and none of it reaches the caller.
#[tokio::test]
async fn what_an_upstream_claims_of_cost_and_usage_is_not_believed_beyond_the_hold() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let said = Step::Say(Event::Delta(Delta { text: "a".into(), ..Delta::default() }));
    let usage = Step::Say(Event::Usage(Usage { input_tokens: u64::MAX, output_tokens: u64::MAX }));
    world.upstream.push(Script::Answer(vec![said, usage, Step::Say(Event::Done)]));
    let ask = world.ask(&chain);
    let (status, headers, _) = read(world.send(&ask).await).await;
    let receipt_of_lie = receipt(&headers);
    assert_eq!((status, receipt_of_lie.basis), (200, Basis::Upstream));
    assert_eq!(receipt_of_lie.meters.get(Meter::OutputTokens), 20, "what was held for");
    assert_eq!(receipt_of_lie.meters.get(Meter::InputTokens), ask.body.to_string().len() as u64 + 16);
    let free = json!({"data": [{"embedding": [1.0]}], "usage": {"prompt_tokens": 9, "cost": 0}, "cost": 0});
    world.upstream.set_answer(Op::Embeddings, move |_| {
        let usage = Some(Usage { input_tokens: 9, output_tokens: 0 });
        Script::Whole(Answer { body: free.clone(), usage })
    });
    let body = json!({"model": "lab/tiny", "input": "a"});
    let (_, headers, reply) = read(world.send(&world.ask(&chain).seq(2).to("/v1/embeddings", body)).await).await;
    assert_eq!(receipt(&headers).charge, Amount::from_ucr(9));
    assert!(!String::from_utf8_lossy(&reply).contains("cost"));
}

/// A token that a tariff gives no price for is refused before the model is asked, whatever the policy says.
#[tokio::test]
async fn an_op_without_a_price_is_refused() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let priced = world.directory.tariff(&world.tariff).unwrap();
    assert!(priced.price(Op::Activations).is_none());
    let demand = comity_wire::object::Demand { op: Op::Activations, input_bytes: 1, choices: 1, output_tokens: 1 };
    let caps = crate::spend::Caps { signed: Amount::MAX, window: Amount::MAX, policy: None };
    let pinned = (world.tariff, world.tariff);
    let refused = crate::spend::price(&priced, pinned, demand, crate::spend::Limit::Stated(1), caps).unwrap_err();
    assert!(matches!(refused, crate::spend::Refused::Unpriced { .. }), "{refused:?}");
    let body = json!({"model": "lab/tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1});
    assert_eq!(world.code(&world.ask(&chain).to("/v1/activations", body)).await, "not_found");
    assert!(world.upstream.calls().is_empty());
}

/// Host, path and bearer as attackers bend them: no route opens for who has signed nothing.
#[tokio::test]
async fn no_host_no_path_and_no_bearer_opens_a_route() {
    let world = World::new(Setting::default()).await;
    let hosts = ["localhost:4000/#@x", "127.0.0.1", "localhost", "a/../comity", "x@localhost", "[::1]/v1/models", ""];
    let bearers = [
        "Bearer sk-1' OR '1'='1",
        "Bearer ' UNION SELECT 1;--",
        "Bearer ",
        "Basic YTpi",
        "Bearer null",
        "bearer {{7*7}}",
    ];
    let private = FREE.iter().filter(|route| route.who != "anyone").map(|route| (route.method, route.paths[0]));
    let priced = PRICED.iter().map(|route| (route.method.as_str(), route.paths[0]));
    for (method, path) in priced.chain(private) {
        for prefix in ["", "/health/..", "/v1/models/..", "/%2e%2e", "//", "/.;", "/public/..%2f"] {
            for host in hosts {
                for bearer in bearers {
                    let mut request = http::Request::builder().method(method).uri(format!("{prefix}{path}"));
                    for (name, value) in [
                        ("host", host),
                        ("authorization", bearer),
                        ("x-forwarded-host", host),
                        ("x-original-url", "/health"),
                        ("x-rewrite-url", path),
                        ("x-http-method-override", "GET"),
                    ] {
                        request = request.header(name, value);
                    }
                    let body = if method == "GET" { Value::Null } else { good_or_empty(path) };
                    let request = request.body(Body::from(body.to_string())).unwrap();
                    let (status, _, body) = read(world.gateway.router().oneshot(request).await.unwrap()).await;
                    let said = String::from_utf8_lossy(&body);
                    let is_model = method == "GET" && prefix == "/v1/models/..";
                    assert!(
                        (400..=405).contains(&status) || is_model,
                        "{method} {prefix}{path} {host} {bearer}: {said}"
                    );
                    assert!(!said.contains("lab/tiny"), "{said}");
                }
            }
        }
    }
    assert!(world.upstream.calls().is_empty(), "no model was asked");
}

fn good_or_empty(path: &str) -> Value {
    if PRICED.iter().any(|route| route.paths[0] == path) { good(path) } else { json!({}) }
}

/// What was verified is remembered under all of its bytes: one that shares any part of them is judged anew.
#[tokio::test]
async fn a_chain_that_differs_in_one_byte_is_not_the_one_that_was_verified() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    for at in (0..chain.len()).rev() {
        let mut bent = chain.clone();
        bent[at] ^= 1;
        let mut ask = world.ask(&chain).seq(2);
        ask.chain = bent;
        assert_ne!(world.code(&ask).await, "ok", "byte {at}");
    }
    // The same claims under the name that the good one is remembered by.
    let forged = world.token();
    let forged = Chain { token: cose_of(&forged, &secret("stranger")), blocks: Vec::new() }.to_bytes();
    let mut ask = world.ask(&chain).seq(2);
    ask.chain = forged;
    assert_eq!(world.code(&ask).await, "wrong_issuer");
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "ok");
}

fn cose_of(token: &comity_wire::object::Token, key: &SecretKey) -> Vec<u8> {
    comity_wire::cose::sign(token, key).bytes().to_vec()
}

/// A server that says whose key it was, and what that key has spent, says it to its owner alone.
#[tokio::test]
async fn what_a_server_says_of_keys_and_spend_stays_with_its_owner() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let message = "Budget has been exceeded! key alias prod-7, sk-...a1b2, spend 3.14, max_budget 3.00";
    for (seq, status) in (1..).zip([401, 402, 403, 404, 429, 500, 503]) {
        world.upstream.push(Script::Refuse { status, message: message.into() });
        let (status, headers, body) = read(world.send(&world.ask(&chain).seq(seq)).await).await;
        let said = format!("{headers:?}{}", String::from_utf8_lossy(&body));
        assert!(status >= 500, "{said}");
        for part in ["prod-7", "a1b2", "3.14", "max_budget"] {
            assert!(!said.contains(part), "{said}");
        }
    }
}
