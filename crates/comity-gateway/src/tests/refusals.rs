//! Each refusal that belongs to the gateway, with its code.

use comity_token::{Narrow, delegate};
use comity_wire::cbor::List;
use comity_wire::object::{
    Filter, FilterAction, Grant, ModelState, Revocation, RevokedKind, Tier, TierRule, Token, Vetting, Window,
};
use comity_wire::{Amount, Digest, GrantId, Op, SecretKey, cose};
use serde_json::{Value, json};

use super::world::*;

/// One change to a good request gives one code, and the good request still works after it under the same seq.
async fn check(setting: Setting, change: impl FnOnce(&World, &mut Ask), expected: &str) {
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain);
    change(&world, &mut ask);
    assert_eq!(world.code(&ask).await, expected);
    let held = world.gateway.0.ledger.with(|book| book.has_open(TOKEN));
    assert!(!held, "a refusal holds nothing");
    assert!(world.upstream.calls().is_empty(), "nothing was forwarded");
}

async fn check_token(change: impl FnOnce(&mut Token), expected: &str) {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(change);
    assert_eq!(world.code(&world.ask(&chain)).await, expected);
}

#[tokio::test]
async fn who_and_when() {
    let default = Setting::default;
    check(default(), |_, ask| ask.key = secret("thief"), "wrong_key").await;
    check(default(), |_, ask| ask.altered = Some(b"{}".to_vec()), "body_altered").await;
    check(default(), |_, ask| ask.created = NOW.minus(61), "stale").await;
    check(default(), |_, ask| ask.send_chain = false, "token_unknown").await;
    check(default(), |_, ask| ask.chain = vec![0x80], "malformed").await;
    check(default(), |world, ask| ask.chain = world.mint(|token| token.audience.0.0 = [9; 16]), "wrong_audience").await;
    let other = |world: &World, ask: &mut Ask| ask.chain = chain(world.token(), "stranger");
    check(default(), other, "wrong_issuer").await;
    check_token(|token| (token.not_before, token.issued_at) = (NOW.plus(100), NOW.plus(100)), "not_yet_valid").await;
    check_token(
        |token| (token.expires_at, token.not_before, token.issued_at) = (NOW.minus(60), NOW.minus(99), NOW.minus(99)),
        "expired",
    )
    .await;
    check_token(|token| token.terms.roster_version = 2, "roster_behind").await;
    check(Setting { standing_at: NOW.minus(24 * 3600 + 1), ..default() }, |_, _| {}, "standing_stale").await;
    let entry = Revocation {
        kind: RevokedKind::Token,
        subject: comity_wire::cbor::Text::new(TOKEN.to_string()).unwrap(),
        at: NOW,
    };
    check(Setting { revoked: vec![entry], ..default() }, |_, _| {}, "revoked").await;
}

#[tokio::test]
async fn a_request_without_a_signature_or_with_less_covered() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let send = async |change: &dyn Fn(&mut http::HeaderMap)| {
        let mut request = world.ask(&chain).request();
        change(request.headers_mut());
        code(tower::ServiceExt::oneshot(world.gateway.router(), request).await.unwrap()).await
    };
    assert_eq!(
        send(&|headers| drop((headers.remove("signature"), headers.remove("signature-input")))).await,
        "unsigned"
    );
    let uncovered = |headers: &mut http::HeaderMap| {
        let input = headers["signature-input"].to_str().unwrap().replace(" \"comity-max-charge\"", "");
        headers.insert("signature-input", input.parse().unwrap());
    };
    assert_eq!(send(&uncovered).await, "not_covered");
    assert_eq!(
        send(&|headers| drop(headers.insert("comity-max-charge", "999".parse().unwrap()))).await,
        "bad_signature"
    );
    assert_eq!(send(&|_| {}).await, "ok");
}

#[tokio::test]
async fn a_second_token_of_the_same_id() {
    let world = World::new(Setting::default()).await;
    let first = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&first)).await, "ok");
    let second = world.mint(|token| token.terms.budget = Amount::credits(9));
    assert_eq!(world.code(&world.ask(&second).seq(2)).await, "token_conflict");
}

#[tokio::test]
async fn sequence() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    assert_eq!(
        world.code(&world.ask(&chain).body(chat("other", json!({"max_tokens": 20})))).await,
        "sequence_conflict"
    );
    assert_eq!(world.code(&world.ask(&chain).seq(66)).await, "seq_outside_span");
    assert_eq!(world.code(&world.ask(&chain).seq(65)).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).seq(129)).await, "ok");
    // Old numbers are answered from the store, and old gaps stay shut.
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "seq_outside_span");
    assert_eq!(world.code(&world.ask(&chain).seq(128)).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).lane(8)).await, "lane_beyond_max");
}

#[tokio::test]
async fn a_seq_that_is_being_answered() {
    let world = World::new(Setting::default()).await;
    let gate = comity_supply::scripted::Gate::shut();
    world.upstream.push(comity_supply::scripted::Script::text(Op::Chat, 1, &["a"]).held_at(1, &gate));
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain);
    let router = world.gateway.router();
    let first = tokio::spawn(tower::ServiceExt::oneshot(router, ask.request()));
    while world.upstream.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.code(&ask).await, "in_flight");
    assert_eq!(world.code(&world.ask(&chain).body(chat("other", json!({})))).await, "in_flight");
    gate.open(1);
    assert_eq!(code(first.await.unwrap().unwrap()).await, "ok");
}

#[tokio::test]
async fn scope_and_policy() {
    let default = Setting::default;
    let body = |body: Value| move |_: &World, ask: &mut Ask| ask.body = body;
    let other = json!({"model": "lab/other", "messages": [{"role": "user", "content": "a"}]});
    check(default(), body(other), "model_not_in_scope").await;
    check(default(), body(json!({"model": "lab/tiny"})), "invalid_request").await;
    check(default(), body(chat("hi", json!({"n": 5}))), "limit_exceeded").await;
    check(default(), body(chat("hi", json!({"logprobs": true, "top_logprobs": 6}))), "limit_exceeded").await;
    check(default(), body(chat(&"x".repeat(10_001), json!({}))), "limit_exceeded").await;
    check(Setting { state: ModelState::Withdrawn, ..default() }, |_, _| {}, "withdrawn").await;
    let tier = |change: &dyn Fn(&mut TierRule)| {
        let mut setting = default();
        change(&mut setting.tier);
        setting
    };
    let vetted = tier(&|tier| (tier.tier, tier.vetting) = (Tier::Vetted, Vetting::Vetted));
    check(vetted, |_, _| {}, "vetting_too_low").await;
    let purposes = tier(&|tier| tier.purposes = List::new(vec![comity_wire::cbor::Text::new("HMB").unwrap()]).unwrap());
    check(purposes, |_, _| {}, "purpose_not_allowed").await;
    let filter =
        Filter { category: comity_wire::cbor::Text::new("personal_data").unwrap(), action: FilterAction::Block };
    let blocks = tier(&|tier| tier.filters = List::new(vec![filter.clone()]).unwrap());
    check(
        blocks,
        |_, ask| {
            ask.body = chat(
                "his IBAN is DE89370400440532013000, card 4111 1111 1111 1111, mail a@b.org",
                json!({"max_tokens": 5}),
            )
        },
        "content_filter",
    )
    .await;
    let no_ops = |token: &mut Token| {
        token.terms.scope = {
            let mut scope = token.terms.scope[0].clone();
            scope.ops = List::new(vec![Op::Completions]).unwrap();
            List::new(vec![scope]).unwrap()
        }
    };
    check_token(no_ops, "op_not_in_scope").await;
    let release = |token: &mut Token| {
        token.terms.scope = {
            let mut scope = token.terms.scope[0].clone();
            scope.release = Digest([1; 32]);
            List::new(vec![scope]).unwrap()
        }
    };
    check_token(release, "withdrawn").await;
}

#[tokio::test]
async fn a_grant_makes_the_same_seq_succeed() {
    let mut setting = Setting::default();
    setting.tier.grant = true;
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    let ask = world.ask(&chain);
    assert_eq!(world.code(&ask).await, "grant_required");
    let grant = |subject: &str| Grant {
        id: GrantId([1; 16]),
        org: LAB,
        subject: comity_wire::cbor::Text::new(subject).unwrap(),
        models: List::new(vec![model()]).unwrap(),
        tier: Tier::Open,
        ops: List::default(),
        not_before: NOW,
        not_after: NOW.plus(1_000),
        plan: None,
        executions: None,
        reason: comity_wire::cbor::Text::new("").unwrap(),
    };
    let forged = cose::sign(&grant("sub-of-the-project"), &secret("stranger"));
    assert!(world.gateway.grant_put(forged.bytes()).await.is_err());
    let others = cose::sign(&grant("sub-of-another"), &secret("lab writer"));
    world.gateway.grant_put(others.bytes()).await.unwrap();
    assert_eq!(world.code(&ask).await, "grant_required");
    let granted = cose::sign(&grant("sub-of-the-project"), &secret("lab writer"));
    world.gateway.grant_put(granted.bytes()).await.unwrap();
    assert_eq!(world.code(&ask).await, "ok");
    assert_eq!(world.gateway.grants_withdrawn(), []);
    // It is kept.
    let again = World::on(
        Setting { tier: TierRule { grant: true, ..Setting::default().tier }, ..Setting::default() },
        world.store.clone(),
    )
    .await;
    assert_eq!(again.code(&again.ask(&chain).seq(2)).await, "ok");
    // Taken back it counts no more, from the next request on, after a start, and where it comes once more.
    again.gateway.grant_withdraw(GrantId([1; 16])).await.unwrap();
    assert_eq!(again.code(&again.ask(&chain).seq(3)).await, "grant_required");
    assert_eq!(again.gateway.grants_withdrawn(), [(GrantId([1; 16]), NOW)]);
    assert!(!again.gateway.grants().contains(&granted.bytes().to_vec()));
    let later = World::on(
        Setting { tier: TierRule { grant: true, ..Setting::default().tier }, ..Setting::default() },
        again.store.clone(),
    )
    .await;
    assert_eq!(later.code(&later.ask(&chain).seq(3)).await, "grant_required");
    later.gateway.grant_put(granted.bytes()).await.unwrap();
    assert_eq!(later.code(&later.ask(&chain).seq(3)).await, "grant_required");
}

#[tokio::test]
async fn price() {
    let default = Setting::default;
    check(default(), |_, ask| ask.tariff = Digest([1; 32]), "tariff_mismatch").await;
    check(default(), |_, ask| ask.max = Amount::from_ucr(50), "max_too_low").await;
    check(default(), |_, ask| (ask.max, ask.body) = (Amount::from_ucr(50), chat("hi", json!({}))), "max_too_low").await;
    check_token(|token| token.terms.budget = Amount::from_ucr(50), "budget_exhausted").await;
    check_token(|token| token.terms.window = Amount::from_ucr(50), "limit_exceeded").await;
}

#[tokio::test]
async fn what_is_required_is_said_and_enough() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let mut ask = world.ask(&chain);
    ask.max = Amount::from_ucr(50);
    let (status, headers, body) = read(world.send(&ask).await).await;
    assert_eq!(status, 402);
    assert_eq!(headers["x-should-retry"], "false");
    assert_eq!(
        (&headers["comity-cost"], &headers["comity-remaining"]),
        (&"0".parse().unwrap(), &"1000000".parse().unwrap())
    );
    let body: Value = serde_json::from_slice(&body).unwrap();
    ask.max = Amount::new(body["error"]["required"].as_i64().unwrap()).unwrap();
    assert_eq!(world.code(&ask).await, "ok");
}

#[tokio::test]
async fn a_block_stops_at_its_cap_and_counts_against_all_above() {
    let world = World::new(Setting::default()).await;
    let root = world.mint(|_| {});
    let narrow = |cap, next: &str, depth, lanes| Narrow {
        cap: Amount::from_ucr(cap),
        expires_at: NOW.plus(600),
        lanes,
        depth,
        models: Vec::new(),
        ops: Vec::new(),
        next: secret(next).public(),
    };
    let student = delegate(&root, &secret("holder"), narrow(180, "student", 1, 2)).unwrap();
    let job = delegate(&student, &secret("student"), narrow(180, "job", 0, 1)).unwrap();
    let by = |chain: &[u8], key: &str, seq| {
        let mut ask = world.ask(chain).seq(seq);
        ask.key = secret(key);
        ask
    };
    assert_eq!(world.code(&by(&student, "holder", 1)).await, "wrong_key");
    assert_eq!(world.code(&by(&student, "student", 1)).await, "ok");
    assert_eq!(world.code(&by(&job, "job", 1)).await, "ok");
    assert_eq!(world.code(&by(&job, "job", 1).lane(1)).await, "lane_beyond_max");
    // Each was charged 18; a call may need 136: 36 + 136 ≤ 180 once more, whoever asks.
    let (_, headers, _) = read(world.send(&by(&student, "student", 2)).await).await;
    assert_eq!(headers["comity-remaining"], "126");
    assert_eq!(world.code(&by(&job, "job", 2)).await, "budget_exhausted");
    assert_eq!(world.code(&by(&root, "holder", 1)).await, "ok");
}

#[tokio::test]
async fn at_most_so_many_lanes_over_all_leaves() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|token| token.terms.lanes_max = 2);
    assert_eq!(world.code(&world.ask(&chain).lane(2)).await, "lane_beyond_max");
    assert_eq!(world.code(&world.ask(&chain).lane(0)).await, "ok");
    let narrow = Narrow {
        cap: Amount::credits(1),
        expires_at: NOW.plus(600),
        lanes: 2,
        depth: 0,
        models: Vec::new(),
        ops: Vec::new(),
        next: secret("student").public(),
    };
    let student = delegate(&chain, &secret("holder"), narrow).unwrap();
    let by = |lane| {
        let mut ask = world.ask(&student).lane(lane);
        ask.key = secret("student");
        ask
    };
    assert_eq!(world.code(&by(0)).await, "ok");
    assert_eq!(world.code(&by(1)).await, "lane_beyond_max");
}

#[tokio::test]
async fn the_owners_own_pace() {
    let mut setting = Setting::default();
    setting.tier.windows = List::new(vec![Window { seconds: 60, requests: Some(2), tokens: None }]).unwrap();
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    for (seq, expected) in [(1, "ok"), (2, "ok"), (3, "too_many_requests")] {
        assert_eq!(world.code(&world.ask(&chain).seq(seq)).await, expected);
    }
    world.clock.store(NOW.0 + 60, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "ok");
}

#[tokio::test]
async fn what_was_not_answered_uses_up_no_quota() {
    let mut setting = Setting::default();
    setting.tier.windows = List::new(vec![Window { seconds: 60, requests: Some(1), tokens: None }]).unwrap();
    let world = World::new(setting).await;
    let chain = world.mint(|_| {});
    world.upstream.push(comity_supply::scripted::Script::Unreachable);
    world.upstream.push(comity_supply::scripted::Script::Unreachable);
    let asked = ["upstream_unavailable", "upstream_unavailable", "ok"];
    for expected in asked {
        assert_eq!(world.code(&world.ask(&chain)).await, expected);
    }
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "too_many_requests");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_answers_nothing() {
    let store = std::sync::Arc::new(crate::store::Memory::default());
    let world = World::on(Setting::default(), store.clone()).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    store.break_down(true);
    let ask = world.ask(&chain).seq(2);
    let (status, headers, body) = read(world.send(&ask).await).await;
    assert_eq!(status, 503);
    assert!(!headers.contains_key("comity-receipt") && !String::from_utf8_lossy(&body).contains("Hello"));
    let stream = world.ask(&chain).seq(3).body(chat("hi", json!({"max_tokens": 5, "stream": true})));
    let (status, _, body) = read(world.send(&stream).await).await;
    let said = String::from_utf8_lossy(&body);
    assert!(
        status == 503
            || (said.contains("store_unavailable") && !said.contains("[DONE]") && !said.contains("comity-receipt"))
    );
    store.break_down(false);
    // Nothing of it was charged, and both numbers are free.
    assert_eq!(world.code(&ask).await, "ok");
    assert_eq!(world.code(&stream).await, "ok");
    let (_, headers, _) = read(world.send(&world.ask(&chain).seq(4)).await).await;
    assert_eq!(receipt(&headers).n, 4);
}

/// A stream is handed over before it is charged: without room each would be a gift.
#[tokio::test]
async fn a_store_without_room_is_tried_out_before_the_model_is_asked_again() {
    let store = std::sync::Arc::new(crate::store::Memory::default());
    let world = World::on(Setting::default(), store.clone()).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    store.fill_up(true);
    let stream = |seq| world.ask(&chain).seq(seq).body(chat("hi", json!({"max_tokens": 5, "stream": true})));
    // Nobody knows yet.
    let (status, _, body) = read(world.send(&stream(2)).await).await;
    let said = String::from_utf8_lossy(&body);
    assert_eq!(status, 200);
    assert!(said.contains("store_unavailable") && !said.contains("[DONE]") && !said.contains("comity-receipt"));
    let asked = world.upstream.calls().len();
    for seq in 2..6 {
        let (status, _, body) = read(world.send(&stream(seq)).await).await;
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &said["error"]["whose_move"]), (503, &json!("owner")), "{said}");
    }
    assert_eq!(world.upstream.calls().len(), asked);
    store.fill_up(false);
    assert_eq!(world.code(&stream(2)).await, "ok");
}

#[tokio::test]
async fn control_routes_know_whose_a_lane_is() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let (_, headers, _) = read(world.send(&world.ask(&chain)).await).await;
    let receipt = receipt(&headers);
    let query = format!("token={TOKEN}&leaf={}&lane=0&seq=1", receipt.leaf);
    let get =
        async |query: &str, key: &SecretKey| world.call("GET", "/comity/v1/receipts", query, &Value::Null, key).await;
    let (status, _, body) = read(get(&query, &secret("holder")).await).await;
    let reply: comity_wire::api::node::ReceiptReply = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &*reply.receipt), (200, receipt.bytes()));
    assert_eq!(code(get(&query, &secret("thief")).await).await, "not_yours");
    assert_eq!(code(get(&query.replace("seq=1", "seq=9"), &secret("holder")).await).await, "not_found");
    let lanes = world.call("GET", "/comity/v1/lanes", &format!("token={TOKEN}"), &Value::Null, &secret("holder")).await;
    let (_, _, body) = read(lanes).await;
    let reply: comity_wire::api::node::LanesReply = serde_json::from_slice(&body).unwrap();
    assert_eq!((reply.charged, reply.lanes[0].n, reply.lanes[0].seq_highest), (Amount::from_ucr(18), 1, 1));
}
