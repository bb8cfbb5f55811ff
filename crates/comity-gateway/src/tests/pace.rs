//! The owner's pace: windows and concurrency of a project, over all its tokens and across a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use comity_supply::scripted::{Gate, Script};
use comity_wire::cbor::List;
use comity_wire::object::{Hours, Window};
use comity_wire::{Amount, Op, TokenId};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::world::*;
use crate::store::{Memory, Sqlite, StoreError};

fn windows(rows: &[(u32, Option<u32>, Option<u64>)]) -> List<Window, 4> {
    let window = |(seconds, requests, tokens): &(u32, Option<u32>, Option<u64>)| Window {
        seconds: *seconds,
        requests: *requests,
        tokens: *tokens,
    };
    List::new(rows.iter().map(window).collect()).unwrap()
}

fn paced(rows: &[(u32, Option<u32>, Option<u64>)]) -> Setting {
    let mut setting = Setting::default();
    setting.tier.windows = windows(rows);
    setting
}

fn header<'h>(headers: &'h http::HeaderMap, name: &str) -> &'h str {
    headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}")).to_str().unwrap()
}

async fn error(world: &World, ask: &Ask) -> (u16, http::HeaderMap, Value) {
    let (status, headers, body) = read(world.send(ask).await).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    (status, headers, body["error"].clone())
}

#[tokio::test]
async fn a_refusal_names_its_rule_its_reset_and_the_way_to_more() {
    let world = World::new(paced(&[(60, Some(2), None), (3_600, Some(3), None)])).await;
    let chain = world.mint(|_| {});
    for seq in [1, 2] {
        assert_eq!(world.code(&world.ask(&chain).seq(seq)).await, "ok");
    }
    world.clock.fetch_add(20, Ordering::SeqCst);
    let (status, headers, body) = error(&world, &world.ask(&chain).seq(3)).await;
    assert_eq!((status, &body["code"], &body["whose_move"]), (429, &json!("too_many_requests"), &json!("caller")));
    assert_eq!((header(&headers, "retry-after"), header(&headers, "x-should-retry")), ("40", "true"));
    let rule = json!({"policy": "policy", "tier": "t0", "op": null, "limit": "requests", "value": 2, "window_s": 60, "used": 2});
    assert_eq!(body["rule"], rule);
    assert!(body["more"].as_str().unwrap().starts_with("ask "), "{body}");
    // What is nearest to empty comes under OpenAI's names, the other under its own.
    let told = |name: &str| header(&headers, name).to_owned();
    assert_eq!(
        ["limit", "remaining", "reset"].map(|what| told(&format!("x-ratelimit-{what}-requests"))),
        ["2", "0", "40s"]
    );
    assert_eq!(
        ["limit", "remaining", "reset"].map(|what| told(&format!("x-ratelimit-{what}-requests-3600s"))),
        ["3", "1", "3580s"]
    );
    // The reset was honest, to the second.
    world.clock.fetch_add(39, Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "too_many_requests");
    world.clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "ok");
    // Now the hour is full as well: its reset is the one that waiting must reach.
    let (_, headers, body) = error(&world, &world.ask(&chain).seq(4)).await;
    assert_eq!((header(&headers, "retry-after"), &body["rule"]["window_s"]), ("3540", &json!(3_600)));
}

#[tokio::test]
async fn windows_are_the_projects_whatever_its_token() {
    let world = World::new(paced(&[(60, Some(2), None)])).await;
    let first = world.mint(|_| {});
    let second = world.mint(|token| token.id = TokenId([77; 16]));
    let stranger = world.mint(|token| {
        token.id = TokenId([78; 16]);
        token.subject = comity_wire::cbor::Text::new("sub-of-another").unwrap();
    });
    assert_eq!(world.code(&world.ask(&first)).await, "ok");
    assert_eq!(world.code(&world.ask(&second)).await, "ok");
    assert_eq!(world.code(&world.ask(&first).seq(2)).await, "too_many_requests");
    assert_eq!(world.code(&world.ask(&second).seq(2)).await, "too_many_requests");
    assert_eq!(world.code(&world.ask(&stranger)).await, "ok");
}

#[tokio::test]
async fn tokens_count_as_held_while_a_call_runs_and_as_charged_after() {
    // 12 + 3 tokens are charged for a call; held are its body's bytes, 16 of overhead and 20 of answer.
    let world = World::new(paced(&[(60, None, Some(300))])).await;
    let chain = world.mint(|_| {});
    let held = world.ask(&chain).body.to_string().len() as u64 + 16 + 20;
    assert!(held > 75 && 2 * held <= 300, "{held}");
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["a", "b", "c"]).held_at(1, &gate));
    let running = tokio::spawn(world.gateway.router().oneshot(world.ask(&chain).request()));
    while world.upstream.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let (status, headers, _) = read(world.send(&world.ask(&chain).lane(1)).await).await;
    assert_eq!(status, 200);
    let left = 300 - held - 15;
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), left.to_string());
    gate.open(1);
    let (_, headers, _) = read(running.await.unwrap().unwrap()).await;
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), (300 - 30).to_string());
    // What can never fit is no matter of waiting.
    let large = world.ask(&chain).lane(2).body(chat("hi", json!({"max_tokens": 400})));
    let (status, _, body) = error(&world, &large).await;
    assert_eq!((status, &body["code"], &body["rule"]["limit"]), (403, &json!("limit_exceeded"), &json!("tokens")));
    // A call without a limit is cut to what its window could ever take.
    let mut open = world.ask(&chain).lane(3).body(chat("hi", json!({})));
    open.max = Amount::from_ucr(100_000);
    world.clock.fetch_add(60, Ordering::SeqCst);
    open.created = comity_wire::Timestamp(world.clock.load(Ordering::SeqCst));
    assert_eq!(world.code(&open).await, "ok");
    let said = world.upstream.calls().pop().unwrap().body["max_tokens"].as_u64().unwrap();
    assert_eq!(said, 300 - 16 - open.body.to_string().len() as u64);
}

#[tokio::test]
async fn what_is_refused_takes_no_place_in_any_window_and_no_number() {
    let mut setting = paced(&[(60, Some(2), Some(10_000))]);
    setting.tier.concurrency = 1;
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let running = tokio::spawn(world.gateway.router().oneshot(world.ask(&chain).request()));
    while world.upstream.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let (status, headers, body) = error(&world, &world.ask(&chain).lane(1)).await;
    assert_eq!((status, &body["rule"]["limit"], &body["rule"]["value"]), (429, &json!("concurrency"), &json!(1)));
    assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), "1", "the running one alone counts");
    gate.open(1);
    assert_eq!(code(running.await.unwrap().unwrap()).await, "ok");
    let mut dear = world.ask(&chain).lane(1);
    dear.max = Amount::from_ucr(1);
    assert_eq!(world.code(&dear).await, "max_too_low");
    // The same lane and number are free, and so is the second place of the window.
    let (status, headers, _) = read(world.send(&world.ask(&chain).lane(1)).await).await;
    assert_eq!((status, header(&headers, "x-ratelimit-remaining-requests")), (200, "0"));
    assert_eq!(world.code(&world.ask(&chain).lane(2)).await, "too_many_requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_at_once_get_exactly_what_the_window_has() {
    let world = World::new(paced(&[(3_600, Some(40), None)])).await;
    let chain = world.mint(|token| token.terms.lanes_max = 200);
    let calls = (0..200).map(|lane| {
        let mut ask = world.ask(&chain).lane(lane).body(chat("hi", json!({"max_tokens": 5})));
        ask.max = Amount::from_ucr(1_000);
        let (router, request): (_, http::Request<Body>) = (world.gateway.router(), ask.request());
        tokio::spawn(async move { code(router.oneshot(request).await.unwrap()).await })
    });
    let mut answered = 0;
    for call in calls.collect::<Vec<_>>() {
        let code = call.await.unwrap();
        assert!(code == "ok" || code == "too_many_requests", "{code}");
        answered += usize::from(code == "ok");
    }
    assert_eq!(answered, 40);
}

#[tokio::test]
async fn a_restart_forgets_no_call_that_was_charged() {
    let dir = tempfile::tempdir().unwrap();
    let setting = || paced(&[(60, Some(2), None), (3_600, None, Some(1_000))]);
    // The one before lets go of its file as its writer ends.
    let open = async || loop {
        match Sqlite::open(dir.path().join("spend.db")).await {
            Ok(store) => break Arc::new(store),
            Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let short = |world: &World, chain: &[u8], seq| world.ask(chain).seq(seq).body(chat("hi", json!({"max_tokens": 5})));
    let world = World::on(setting(), open().await).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&short(&world, &chain, 1)).await, "ok");
    drop(world);
    let world = World::on(setting(), open().await).await;
    let (status, headers, _) = read(world.send(&short(&world, &chain, 2)).await).await;
    assert_eq!((status, header(&headers, "x-ratelimit-remaining-requests")), (200, "0"));
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), (1_000 - 30).to_string());
    drop(world);
    let world = World::on(setting(), open().await).await;
    assert_eq!(world.code(&short(&world, &chain, 3)).await, "too_many_requests");
}

#[tokio::test]
async fn an_op_has_bounds_of_its_own_beside_its_tiers() {
    let mut setting = paced(&[(60, Some(3), None)]);
    setting.rule = |rule| {
        if rule.op == Op::Completions {
            rule.windows = windows(&[(60, Some(1), None)]);
        }
    };
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let completion = |seq| {
        let mut ask = world.ask(&chain).seq(seq).body(json!({"model": "lab/tiny", "prompt": "hi", "max_tokens": 5}));
        ask.path = "/v1/completions".into();
        ask
    };
    assert_eq!(world.code(&completion(1)).await, "ok");
    let (_, _, body) = error(&world, &completion(2)).await;
    assert_eq!((&body["rule"]["op"], &body["rule"]["value"]), (&json!("completions"), &json!(1)));
    // The tier counts both.
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).seq(4)).await, "too_many_requests");
}

#[tokio::test]
async fn a_closed_tier_says_when_it_opens() {
    let minute = u16::try_from(NOW.seconds() % 86_400 / 60).unwrap();
    let mut setting = Setting::default();
    setting.tier.hours = List::new(vec![Hours { days: List::default(), from: minute + 5, until: minute + 6 }]).unwrap();
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let (status, headers, body) = error(&world, &world.ask(&chain)).await;
    assert_eq!((status, &body["code"]), (429, &json!("outside_hours")));
    assert_eq!((header(&headers, "retry-after"), &body["opens_at"]), ("300", &json!(NOW.seconds() + 300)));
    world.clock.fetch_add(300, Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
}

#[tokio::test]
async fn no_call_holds_more_than_its_op_may() {
    let rule = |rule: &mut comity_wire::object::OpRule| rule.charge_max = Some(Amount::from_ucr(200));
    let world = World::new(Setting { rule, ..Setting::default() }).await;
    let chain = world.mint(|_| {});
    let (status, _, body) = error(&world, &world.ask(&chain).body(chat("hi", json!({"max_tokens": 400})))).await;
    assert_eq!((status, &body["code"], &body["rule"]["limit"]), (403, &json!("limit_exceeded"), &json!("charge_max")));
    let fits = body["output_tokens_fit"].as_u64().unwrap();
    assert_eq!(world.code(&world.ask(&chain).body(chat("hi", json!({"max_tokens": fits})))).await, "ok");
}

/// A policy's change, a body's additions, and what is wrong with them: nothing where it is empty.
async fn limits(rule: fn(&mut comity_wire::object::OpRule), more: Value, wrong: &str) {
    let world = World::new(Setting { rule, ..Setting::default() }).await;
    let mut ask = world.ask(&world.mint(|_| {})).body(chat("hi", more.clone()));
    ask.max = Amount::from_ucr(10_000);
    let (status, _, body) = read(world.send(&ask).await).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let (expected, code) = if wrong.is_empty() { (200, Value::Null) } else { (403, json!("limit_exceeded")) };
    assert_eq!((status, &body["error"]["code"]), (expected, &code), "{more}: {body}");
    if !wrong.is_empty() {
        assert_eq!((&body["error"]["param"], &body["error"]["rule"]["op"]), (&json!(wrong), &json!("chat")), "{more}");
        assert_eq!(world.code(&world.ask(&ask.chain)).await, "ok", "the number is free");
    }
}

#[tokio::test]
async fn what_a_policy_says_of_parameters_and_biases_is_kept() {
    use comity_wire::cbor::Text;
    use comity_wire::object::{BiasKind, LogitBias};
    let listed: fn(&mut comity_wire::object::OpRule) =
        |rule| rule.parameters = List::new(vec![Text::new("temperature").unwrap()]).unwrap();
    limits(listed, json!({"max_tokens": 5, "temperature": 0}), "").await;
    limits(listed, json!({"max_tokens": 5, "top_p": 0.5}), "top_p").await;
    let bias = |id: &str, value: f64| json!({"max_tokens": 5, "logit_bias": {id: value}});
    limits(|rule| rule.logit_bias = None, bias("1", -1.0), "logit_bias").await;
    let block: fn(&mut comity_wire::object::OpRule) =
        |rule| rule.logit_bias = Some(LogitBias { kind: BiasKind::Block, entries_max: 2 });
    limits(block, bias("1", -100.0), "").await;
    limits(block, bias("1", 1.0), "logit_bias").await;
    limits(block, json!({"max_tokens": 5, "logit_bias": {"1": -1, "2": -1, "3": -1}}), "logit_bias").await;
    limits(|_| {}, bias("1", 5.0), "").await;
    limits(|_| {}, json!({"max_tokens": 5, "logit_bias": {"1": 5}, "logprobs": true}), "logit_bias").await;
}

#[tokio::test]
async fn log_probabilities_leave_with_the_decimals_that_the_owner_gives() {
    use comity_supply::scripted::Step;
    use comity_supply::{Delta, Event, Usage};
    for stream in [false, true] {
        let rule = |rule: &mut comity_wire::object::OpRule| {
            rule.logprobs_decimals = (rule.op == Op::Logprobs).then_some(2);
        };
        let world = World::new(Setting { rule, ..Setting::default() }).await;
        let logprobs = json!({"content": [{"token": "a", "logprob": -0.123_456, "top_logprobs": []}]});
        let delta = Delta { text: "a".into(), logprobs: Some(logprobs), ..Delta::default() };
        let usage = Event::Usage(Usage { input_tokens: 2, output_tokens: 1 });
        let steps = [Event::Delta(delta), usage, Event::Done].map(Step::Say).to_vec();
        world.upstream.push(Script::Answer(steps));
        let more = json!({"max_tokens": 5, "logprobs": true, "stream": stream});
        let ask = world.ask(&world.mint(|_| {})).body(chat("hi", more));
        let said = String::from_utf8(read(world.send(&ask).await).await.2).unwrap();
        assert!(said.contains("\"logprob\":-0.12,") || said.contains("\"logprob\":-0.12}"), "{said}");
        assert!(!said.contains("0.123"), "{said}");
    }
}

#[tokio::test]
async fn what_is_too_dear_is_told_the_limit_that_fits() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|token| token.terms.budget = Amount::from_ucr(500));
    let mut ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 400})));
    for max in [300, 10_000] {
        // By what was signed, then by what is left.
        ask.max = Amount::from_ucr(max);
        let (status, headers, body) = error(&world, &ask).await;
        assert_eq!((status, header(&headers, "x-should-retry")), (402, "false"));
        let fits = body["output_tokens_fit"].as_u64().unwrap();
        let at = |tokens: u64| {
            let mut again = world.ask(&chain).body(chat("hi", json!({"max_tokens": tokens})));
            again.max = ask.max;
            again
        };
        assert_eq!(world.code(&at(fits + 1)).await, body["code"].as_str().unwrap(), "one more is too many");
        world.upstream.push(Script::Unreachable);
        assert_eq!(world.code(&at(fits)).await, "upstream_unavailable", "{fits} get past the hold");
    }
}

#[tokio::test]
async fn a_free_tier_works_with_an_empty_purse() {
    let world = World::new(Setting { rates: Vec::new(), minimum: 0, ..Setting::default() }).await;
    let chain = world.mint(|token| (token.terms.budget, token.terms.window) = (Amount::ZERO, Amount::ZERO));
    for seq in 1..=3 {
        let mut ask =
            world.ask(&chain).seq(seq).body(chat("hi", if seq == 1 { json!({}) } else { json!({"max_tokens": 9}) }));
        ask.max = Amount::ZERO;
        let (status, headers, body) = read(world.send(&ask).await).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        assert_eq!((receipt(&headers).charge, header(&headers, "comity-remaining")), (Amount::ZERO, "0"));
        assert!(!headers.contains_key("comity-clipped"), "nothing was clipped");
    }
}

#[tokio::test]
async fn a_clipped_answer_says_which_cap_clipped_it() {
    let check = async |max: u32, window: u32, tier_max: u32, expected: &str| {
        let mut setting = Setting::default();
        setting.tier.charge_max = Amount::from_ucr(tier_max);
        let world = World::new(setting).await;
        let chain = world.mint(|token| token.terms.window = Amount::from_ucr(window));
        let mut ask = world.ask(&chain).body(chat("hi", json!({})));
        ask.max = Amount::from_ucr(max);
        let (status, headers, _) = read(world.send(&ask).await).await;
        assert_eq!(status, 200);
        assert!(header(&headers, "comity-clipped").starts_with(expected), "{headers:?}");
    };
    check(300, 5_000, 5_000, "max-charge").await;
    check(5_000, 300, 5_000, "window").await;
    check(5_000, 5_000, 300, "policy").await;
}

/// Read before a charge and handed out after it: what was charged since counts.
#[tokio::test]
async fn windows_that_were_read_before_a_charge_take_nothing_back() {
    let store = Memory::default();
    let world = World::on(paced(&[(60, Some(2), None)]), Arc::new(store.clone())).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    let ledger = &world.gateway.0.ledger;
    // As after a batch that failed.
    let forget = || ledger.with(|book| book.unload_subject("sub-of-the-project"));
    forget();
    let late = Arc::new(Semaphore::new(0));
    store.hand_out_late(&late);
    let other = world.ask(&chain).lane(1);
    let mut reading = std::pin::pin!(world.send(&other));
    assert!(futures::poll!(&mut reading).is_pending());
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "ok");
    forget();
    late.add_permits(1);
    assert_eq!(code(reading.await).await, "too_many_requests", "two are all that the owner lets in");
    assert_eq!(store.charges().len(), 2);
}
