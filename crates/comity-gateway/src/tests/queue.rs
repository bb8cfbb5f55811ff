//! The line before a model's places: who waits holds nothing, who leaves frees its place, and nobody waits behind a
//! stranger's backlog.

use comity_guard::Category;
use comity_supply::scripted::{Gate, Script};
use comity_token::Directory as _;
use comity_wire::cbor::List;
use comity_wire::object::{OpRule, Tier, TierRule};
use comity_wire::{Amount, Op, TokenId, cose};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::store::Suspension;

fn narrow(slots: u32) -> Setting {
    let mut setting = Setting { slots, ..Setting::default() };
    setting.config.queue_project_max = 2;
    setting
}

fn places(world: &World) -> (usize, usize) {
    world.gateway.0.places(&model()).counts()
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

fn go(world: &World, ask: &Ask) -> tokio::task::JoinHandle<(u16, http::HeaderMap, Value)> {
    let (router, request) = (world.gateway.router(), ask.request());
    tokio::spawn(async move {
        let (status, headers, body) = read(router.oneshot(request).await.unwrap()).await;
        (status, headers, serde_json::from_slice(&body).unwrap())
    })
}

#[tokio::test]
async fn who_waits_holds_nothing_and_a_full_line_says_when_to_come_back() {
    let world = World::new(narrow(1)).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let first = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let waiting = [1, 2].map(|lane| go(&world, &world.ask(&chain).lane(lane)));
    until(|| places(&world) == (2, 1)).await;
    let open = world.gateway.0.ledger.with(|book| book.open_count(TOKEN));
    assert_eq!(open, 1, "the one that is being served");
    // Whoever asks what became of one that waits hears that it is here: not found would say that it is not charged, and another
    // owner would be paid for it.
    let leaf = leaf(&chain);
    let became = async |lane: u16| {
        let query = format!("token={TOKEN}&leaf={leaf}&lane={lane}&seq=1");
        let told = world.call("GET", "/comity/v1/receipts", &query, &Value::Null, &secret("holder")).await;
        let told: Value = serde_json::from_slice(&read(told).await.2).unwrap();
        told["code"].clone()
    };
    assert_eq!(became(1).await, json!("in_flight"));
    assert_eq!(became(3).await, json!("not_found"), "nothing of it is here");
    // The third in its project's line is told to come back; its number stays free. What was signed before that answer is not taken.
    world.clock.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let (status, headers, body) = go(&world, &world.ask(&chain).lane(3)).await.unwrap();
    assert_eq!((status, &body["error"]["code"]), (429, &json!("too_many_requests")));
    assert_eq!(
        (&body["error"]["rule"], headers["retry-after"].to_str().unwrap()),
        (&json!({"limit": "queue", "value": 2}), "1")
    );
    gate.open(1);
    assert_eq!(first.await.unwrap().0, 200);
    for call in waiting {
        assert_eq!(call.await.unwrap().0, 200);
    }
    assert_eq!(world.code(&world.ask(&chain).lane(3)).await, "ok");
    until(|| places(&world) == (0, 0)).await;
}

/// A suspension does not ask how long somebody has stood in the line.
#[tokio::test]
async fn who_may_no_more_when_its_turn_comes_is_refused() {
    let world = World::new(narrow(1)).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let running = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let waits = go(&world, &world.ask(&chain).lane(1));
    until(|| places(&world) == (1, 1)).await;
    let (subject, rule) = ("sub-of-the-project".to_owned(), "political/x".to_owned());
    let suspension = Suspension { subject, category: Category::PoliticalPersuasion, rule, at: NOW };
    let inner = &world.gateway.0;
    inner.ledger.store().suspension_put(&suspension).await.unwrap();
    inner.guarding.follow(&**inner.ledger.store()).await.unwrap();
    gate.open(1);
    assert_eq!(running.await.unwrap().0, 200, "what was admitted in time is finished");
    let (_, _, body) = waits.await.unwrap();
    assert_eq!(body["error"]["code"], json!("suspended"), "{body}");
    assert_eq!(world.upstream.calls().len(), 1, "the model was not asked");
    until(|| places(&world) == (0, 0)).await;
}

/// It was priced and bounded by the tier that it came with.
#[tokio::test]
async fn who_would_be_answered_by_another_tier_when_its_turn_comes_asks_again() {
    let world = World::new(narrow(1)).await;
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let chain = world.mint(|_| {});
    let running = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let waiting = go(&world, &world.ask(&chain).lane(1));
    until(|| places(&world).0 == 1).await;
    let mut policy = world.directory.policy(&model()).unwrap().object().clone();
    let (mut tiers, mut rules) = (policy.tiers.to_vec(), policy.rules.to_vec());
    let higher: Vec<_> = rules.iter().cloned().map(|rule| OpRule { tier: Tier::Registered, ..rule }).collect();
    tiers.push(TierRule { tier: Tier::Registered, ..tiers[0].clone() });
    rules.extend(higher);
    rules.sort_by_key(|rule| (rule.op, rule.tier));
    (policy.tiers, policy.rules) = (List::new(tiers).unwrap(), List::new(rules).unwrap());
    policy.version += 1;
    world.directory.insert(cose::sign(&policy, &secret("lab writer")).bytes()).unwrap();
    gate.open(1);
    assert_eq!(running.await.unwrap().0, 200);
    let (status, headers, body) = waiting.await.unwrap();
    assert_eq!((status, &body["error"]["code"]), (503, &json!("busy")), "{body}");
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(world.code(&world.ask(&chain).lane(1)).await, "ok", "the same again");
}

#[tokio::test]
async fn who_leaves_the_line_frees_its_place_and_costs_nothing() {
    let world = World::new(narrow(1)).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let first = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let leaves = go(&world, &world.ask(&chain).lane(1));
    let stays = go(&world, &world.ask(&chain).lane(2));
    until(|| places(&world) == (2, 1)).await;
    leaves.abort();
    until(|| places(&world) == (1, 1)).await;
    gate.open(1);
    assert_eq!((first.await.unwrap().0, stays.await.unwrap().0), (200, 200));
    assert_eq!(world.upstream.calls().len(), 2, "who left was not asked for");
    until(|| places(&world) == (0, 0)).await;
}

#[tokio::test]
async fn a_strangers_backlog_does_not_stand_before_ones_first_call() {
    let world = World::new(Setting { slots: 1, ..Setting::default() }).await;
    let greedy = world.mint(|_| {});
    let polite = world.mint(|token| {
        token.id = TokenId([77; 16]);
        token.subject = comity_wire::cbor::Text::new("sub-of-another").unwrap();
    });
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let running = go(&world, &world.ask(&greedy));
    until(|| world.upstream.calls().len() == 1).await;
    let mut backlog = Vec::new();
    for lane in 1..=6 {
        backlog.push(go(&world, &world.ask(&greedy).lane(lane).body(chat("greedy", json!({"max_tokens": 20})))));
        until(|| places(&world) == (usize::from(lane), 1)).await;
    }
    let polite = go(&world, &world.ask(&polite).body(chat("polite", json!({"max_tokens": 20}))));
    until(|| places(&world) == (7, 1)).await;
    gate.open(1);
    assert_eq!((running.await.unwrap().0, polite.await.unwrap().0), (200, 200));
    for call in backlog {
        assert_eq!(call.await.unwrap().0, 200);
    }
    let said = world.upstream.calls();
    let turn = said.iter().position(|call| call.body["messages"][0]["content"] == "polite").unwrap();
    assert!(turn <= 2, "it was number {turn} of {}", said.len());
}

#[tokio::test]
async fn the_wait_counts_in_the_deadline() {
    let mut setting = narrow(1);
    setting.config.queue_wait_s = 600;
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let running = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let hasty = world.mint(|token| {
        token.id = TokenId([77; 16]);
        token.terms.longest_op_s = 0;
    });
    let (status, headers, body) = go(&world, &world.ask(&hasty)).await.unwrap();
    assert_eq!((status, &body["error"]["code"]), (503, &json!("busy")));
    assert!(headers.contains_key("retry-after"));
    gate.open(1);
    assert_eq!(running.await.unwrap().0, 200);
}

#[tokio::test]
async fn what_would_be_refused_anyway_does_not_wait() {
    let world = World::new(narrow(1)).await;
    let chain = world.mint(|_| {});
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let running = go(&world, &world.ask(&chain));
    until(|| world.upstream.calls().len() == 1).await;
    let poor = world.mint(|token| {
        token.id = TokenId([77; 16]);
        token.terms.budget = Amount::from_ucr(50);
    });
    // Its account is read on the way.
    assert_eq!(world.code(&world.ask(&poor)).await, "budget_exhausted");
    gate.open(1);
    assert_eq!(running.await.unwrap().0, 200);
}
