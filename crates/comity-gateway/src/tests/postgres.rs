//! Two gateways of one node on one PostgreSQL, as callers meet them.

use std::sync::Arc;
use std::time::Duration;

use comity_scratch::{Database, Wire};
use comity_supply::scripted::{Gate, Script};
use comity_wire::api::node::FinalAnswer;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Final, Grant, Tier};
use comity_wire::{Amount, GrantId, Op, Signed, cose};
use serde_json::json;

use super::planned;
use super::stopped::{frames, stop, word};
use super::world::*;
use crate::store::Store;
use crate::store::postgres::{Postgres, Waits};
use crate::store::stops::{Running, Target};

async fn on(database: &Database) -> World {
    let store: Arc<dyn Store> = Arc::new(Postgres::open(&database.url()).await.unwrap());
    World::on(Setting::default(), store).await
}

async fn pair() -> (Database, World, World) {
    let database = Database::create().await;
    let (first, second) = (on(&database).await, on(&database).await);
    (database, first, second)
}

fn text() -> Script {
    Script::text(Op::Chat, 12, &["Hello", ", ", "world"])
}

/// What one request holds, as the refusal of an empty budget says it.
async fn hold_of(world: &World) -> i64 {
    let chain = world.mint(|token| {
        token.id = comity_wire::TokenId([77; 16]);
        token.terms.budget = Amount::from_ucr(1);
    });
    let (status, _, body) = read(world.send(&world.ask(&chain)).await).await;
    assert_eq!(status, 402, "{}", String::from_utf8_lossy(&body));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    body["error"]["required"].as_i64().unwrap()
}

/// Who has said that it ends takes no new fence: nobody would give it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_end_is_the_end() {
    let (_database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    assert_eq!(first.code(&first.ask(&chain)).await, "ok");
    first.gateway.leave().await;
    assert_eq!(first.code(&first.ask(&chain).seq(2)).await, "store_unavailable");
    assert_eq!(second.code(&second.ask(&chain).seq(2)).await, "ok");
    first.gateway.leave().await;
}

/// A beat that was on its way when this gateway took a new fence says no more about it once a round has gone well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_late_beat_said_is_forgotten_after_a_round() {
    let database = Database::create().await;
    let world = on(&database).await;
    let chain = world.mint(|_| {});
    let lost = world.gateway.0.ledger.lost().unwrap();
    lost.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    assert!(!lost.load(std::sync::atomic::Ordering::SeqCst), "each beat would make a round for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_and_one_token_overspend_nothing() {
    let (_database, first, second) = pair().await;
    let (hold, room) = (hold_of(&first).await, 7_usize);
    let budget = hold * i64::try_from(room).unwrap() + hold - 1;
    let gate = Gate::shut();
    for world in [&first, &second] {
        (0..200).for_each(|_| world.upstream.push(Script::After(gate.clone(), Box::new(text()))));
    }
    let chain = first.mint(|token| token.terms.budget = Amount::new(budget).unwrap());
    let barrier = Arc::new(tokio::sync::Barrier::new(200));
    let (refusals, mut refused) = tokio::sync::mpsc::channel(200);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..200_u64 {
        let world = if caller % 2 == 0 { &first } else { &second };
        let ask = world.ask(&chain).lane(u16::try_from(caller % 8).unwrap()).seq(1 + caller / 8);
        let (router, barrier, refusals) = (world.gateway.router(), barrier.clone(), refusals.clone());
        callers.spawn(async move {
            barrier.wait().await;
            let reply = tower::ServiceExt::oneshot(router, ask.request()).await.unwrap();
            let said = code(reply).await;
            if said != "ok" {
                refusals.send(()).await.unwrap();
            }
            said
        });
    }
    drop(refusals);
    // Nobody is answered before everybody else was refused: all that fits is held at once.
    for _ in 0..200 - room {
        refused.recv().await.expect("the rest is refused");
    }
    gate.open(room);
    let said = callers.join_all().await;
    assert_eq!(said.iter().filter(|code| *code == "ok").count(), room);
    assert!(
        said.iter().all(|code| ["ok", "budget_in_flight", "budget_exhausted"].contains(&code.as_str())),
        "{said:?}"
    );
    // After quiet nothing is held, and what is spent is the sum of the receipts.
    let account = first.gateway.0.ledger.account(TOKEN, leaf(&chain)).await.unwrap();
    assert_eq!(account.lanes.values().map(|lane| lane.n).sum::<u64>(), room as u64);
    let balance = first
        .gateway
        .0
        .balance(TOKEN, &[comity_token::PathCap { id: leaf(&chain), cap: Amount::new(budget).unwrap() }]);
    let totals = Amount::sum(account.lanes.values().map(|lane| lane.total)).unwrap();
    assert_eq!((balance.reserved, balance.charged), (Amount::ZERO, totals));
}

#[tokio::test]
async fn a_subjects_limits_are_shared() {
    let database = Database::create().await;
    let limited = || {
        let mut setting = Setting::default();
        setting.tier.concurrency = 1;
        setting.tier.windows =
            List::new(vec![comity_wire::object::Window { seconds: 60, requests: Some(2), tokens: None }]).unwrap();
        setting
    };
    let store = async || Arc::new(Postgres::open(&database.url()).await.unwrap());
    let (first, second) = (World::on(limited(), store().await).await, World::on(limited(), store().await).await);
    let gate = Gate::shut();
    first.upstream.push(text().held_at(2, &gate));
    let chain = first.mint(|_| {});
    let running = tokio::spawn({
        let (router, request) = (first.gateway.router(), first.ask(&chain).request());
        async move { code(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    until(|| async { first.gateway.0.ledger.is_open(TOKEN, first.ask(&chain).key_of(), slot(1)).await.unwrap() }).await;
    let (_, _, body) = read(second.send(&second.ask(&chain).lane(1)).await).await;
    assert!(String::from_utf8_lossy(&body).contains("run already"), "{}", String::from_utf8_lossy(&body));
    gate.open(1);
    assert_eq!(running.await.unwrap(), "ok");
    assert_eq!(second.code(&second.ask(&chain).lane(1)).await, "ok");
    let (_, _, body) = read(first.send(&first.ask(&chain).lane(2)).await).await;
    assert!(String::from_utf8_lossy(&body).contains("2 requests in 60 s"), "{}", String::from_utf8_lossy(&body));
}

#[tokio::test]
async fn a_rolling_restart_charges_once_and_answers_from_the_books() {
    let (database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    let (status, headers, _) = read(first.send(&first.ask(&chain)).await).await;
    assert_eq!(status, 200);
    let charged = receipt(&headers);
    // The first one goes; its caller never got the answer and asks the second again.
    first.gateway.stop();
    first.gateway.drained().await;
    first.gateway.leave().await;
    let (status, headers, _) = read(second.send(&second.ask(&chain)).await).await;
    assert_eq!((status, receipt(&headers).id()), (409, charged.id()), "its receipt, and nothing charged");
    // Another request under the same number is refused with that receipt, and work goes on where it was.
    let other = second.ask(&chain).body(chat("other", json!({"max_tokens": 20})));
    assert_eq!(second.code(&other).await, "sequence_conflict");
    let (_, headers, _) = read(second.send(&second.ask(&chain).seq(2)).await).await;
    assert_eq!((receipt(&headers).n, receipt(&headers).history), (2, comity_wire::merkle::root(&[charged.id()])));
    // And the one that comes up instead knows all of it.
    let third = on(&database).await;
    assert_eq!(third.code(&third.ask(&chain).seq(3)).await, "ok");
    let store = Postgres::open(&database.url()).await.unwrap();
    assert_eq!(store.account(TOKEN).await.unwrap().unwrap().lanes.values().next().unwrap().n, 3);
}

#[tokio::test]
async fn an_outcome_is_in_flight_at_every_gateway_before_its_chain_is_known() {
    let (_database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    let query = format!("token={TOKEN}&leaf={}&lane=0&seq=1", leaf(&chain));
    let told =
        async |by: &str| code(second.call("GET", "/comity/v1/receipts", &query, &json!(null), &secret(by)).await).await;
    assert_eq!(told("holder").await, "token_unknown", "nothing was asked yet");
    let gate = Gate::shut();
    first.upstream.push(text().held_at(2, &gate));
    let running = tokio::spawn({
        let (router, request) = (first.gateway.router(), first.ask(&chain).request());
        async move { code(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    until(|| async { second.gateway.0.ledger.is_open(TOKEN, first.ask(&chain).key_of(), slot(1)).await.unwrap() })
        .await;
    // Its first request runs at the other one, which alone has met its chain: a wallet asks again.
    assert_eq!(told("holder").await, "in_flight");
    gate.open(1);
    assert_eq!(running.await.unwrap(), "ok");
    assert_eq!((told("holder").await, told("anyone").await), ("ok".into(), "not_yours".into()));
}

/// A call that stands in a line at one gateway when another says that it is not there is turned away when it is its turn.
#[tokio::test]
async fn what_one_gateway_said_is_not_charged_no_other_takes() {
    let (database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    assert_eq!(first.code(&first.ask(&chain)).await, "ok");
    let query = format!("token={TOKEN}&leaf={}&lane=0&seq=2", leaf(&chain));
    let told =
        async || code(second.call("GET", "/comity/v1/receipts", &query, &json!(null), &secret("holder")).await).await;
    // In memory at both, so that the mark has to come there.
    let late = first.ask(&chain).seq(2);
    assert_eq!(second.code(&second.ask(&chain).lane(1)).await, "ok");
    assert_eq!(told().await, "not_found");
    for world in [&first, &second] {
        assert_eq!(world.code(&late).await, "stale");
    }
    assert_eq!(on(&database).await.code(&late).await, "stale");
    let anew = Ask { created: late.created.plus(1), ..late };
    assert_eq!(first.code(&anew).await, "ok");
    assert_eq!(told().await, "ok");
}

#[tokio::test]
async fn a_final_waits_for_what_runs_at_other_gateways() {
    let (_database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    assert_eq!(first.code(&first.ask(&chain)).await, "ok");
    let gate = Gate::shut();
    first.upstream.push(text().held_at(2, &gate));
    let running = tokio::spawn({
        let (router, request) = (first.gateway.router(), first.ask(&chain).seq(2).request());
        async move { read(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    until(|| async { second.gateway.0.ledger.is_open(TOKEN, first.ask(&chain).key_of(), slot(2)).await.unwrap() })
        .await;
    let second = Arc::new(second);
    let asked = tokio::spawn({
        let second = second.clone();
        async move {
            read(second.call("POST", "/comity/v1/finals", "", &json!({"token": TOKEN}), &secret("holder")).await).await
        }
    });
    // Closed at one, it is closed at all.
    until(|| async { second.gateway.0.ledger.account(TOKEN, leaf(&chain)).await.unwrap().closed }).await;
    assert_eq!(first.code(&first.ask(&chain).seq(3)).await, "closed");
    assert!(!asked.is_finished());
    gate.open(1);
    let (status, headers, _) = running.await.unwrap();
    assert_eq!(status, 200);
    let (status, _, body) = asked.await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let answer: FinalAnswer = serde_json::from_slice(&body).unwrap();
    let signed = Signed::<Final>::decode(&answer.final_).unwrap();
    let heads: Vec<_> = signed.unverified().lanes.iter().map(|head| (head.n, head.receipt)).collect();
    assert_eq!(heads, [(2, receipt(&headers).id())]);
}

#[tokio::test]
async fn a_grant_that_one_gateway_was_given_counts_at_the_other() {
    let (_database, first, second) = pair().await;
    let grant = Grant {
        id: GrantId([5; 16]),
        org: LAB,
        subject: Text::new("sub-of-the-project").unwrap(),
        models: List::new(vec![model()]).unwrap(),
        tier: Tier::Vetted,
        ops: List::default(),
        not_before: NOW,
        not_after: NOW.plus(1_000),
        plan: None,
        executions: None,
        reason: Text::new("approved").unwrap(),
    };
    let grant = cose::sign(&grant, &secret("lab writer"));
    let mut news = second.gateway.news().unwrap();
    news.borrow_and_update();
    first.gateway.grant_put(grant.bytes()).await.unwrap();
    second.gateway.0.ledger.store().rounds().unwrap().beat().await.unwrap();
    until(|| async {
        let known = second.gateway.0.grants.of("sub-of-the-project", &[], &*second.directory, NOW);
        known.iter().any(|known| known.id() == grant.id())
    })
    .await;
    second.gateway.grant_withdraw(grant.id).await.unwrap();
    first.gateway.0.ledger.store().rounds().unwrap().beat().await.unwrap();
    until(|| async { first.gateway.0.grants.of("sub-of-the-project", &[], &*first.directory, NOW).is_empty() }).await;
}

#[tokio::test]
async fn executions_of_a_plan_are_counted_by_all_gateways_together() {
    let database = Database::create().await;
    let store = async || Arc::new(Postgres::open(&database.url()).await.unwrap());
    let first = World::on(planned::audited(), store().await).await;
    let second = World::on(planned::audited(), store().await).await;
    let (plan, grant) = (planned::plan(), planned::approval(1, &planned::plan(), Some(2)));
    first.gateway.plan_put(&plan.to_bytes().unwrap()).await.unwrap();
    first.gateway.grant_put(grant.bytes()).await.unwrap();
    let chain = first.mint(planned::naming(&[&grant]));
    // What one was told, the other hears, the plan too.
    until(|| async {
        second.gateway.0.ledger.store().rounds().unwrap().beat().await.unwrap();
        second.gateway.plan(&plan.digest()).is_some() && !second.gateway.grants().is_empty()
    })
    .await;
    let gate = Gate::shut();
    first.upstream.push(text().held_at(2, &gate));
    let running = tokio::spawn({
        let (router, request) = (first.gateway.router(), planned::within(&first, &chain, 1, "a").request());
        async move { code(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    until(|| async { second.gateway.0.ledger.is_open(TOKEN, first.ask(&chain).key_of(), slot(1)).await.unwrap() })
        .await;
    // One that runs there counts here; with a second one nothing is left to begin until one ends without a charge.
    assert_eq!(second.code(&planned::within(&second, &chain, 1, "b").lane(1)).await, "ok");
    assert_eq!(second.code(&planned::within(&second, &chain, 1, "c").lane(2)).await, "too_many_requests");
    gate.open(1);
    assert_eq!(running.await.unwrap(), "ok");
    assert_eq!(second.code(&planned::within(&second, &chain, 1, "c").lane(2)).await, "plan_exhausted");
    // The volume is shared as well: three calls of run a, whoever answers.
    for (world, lane) in [(&second, 3), (&first, 4)] {
        assert_eq!(world.code(&planned::within(world, &chain, 1, "a").lane(lane)).await, "ok");
    }
    for (world, lane) in [(&second, 5), (&first, 6)] {
        assert_eq!(world.code(&planned::within(world, &chain, 1, "a").lane(lane)).await, "plan_exhausted");
    }
    // A retry at the other one is answered from the books, and counts nothing.
    assert_eq!(second.code(&planned::within(&second, &chain, 1, "a").lane(4)).await, "replayed");
    let rows = first.gateway.runs("sub-of-the-project").await.unwrap();
    let mut rows: Vec<_> = rows.iter().map(|(key, row)| (key.run.as_str(), row.used.calls)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [("a", 3), ("b", 1)]);
    // One that comes up instead knows all of it.
    let third = World::on(planned::audited(), store().await).await;
    assert_eq!(third.code(&planned::within(&third, &chain, 2, "a").lane(5)).await, "plan_exhausted");
    assert_eq!(third.code(&planned::within(&third, &chain, 2, "b").lane(5)).await, "ok");
}

#[tokio::test]
async fn a_database_out_of_reach_is_503_and_nothing_is_answered_uncharged_or_lost() {
    let database = Database::create().await;
    let wire = Wire::to(database.far()).await;
    let waits = Waits { answer: Duration::from_secs(2), doubt: Duration::from_secs(1), lease_s: 600 };
    let store = Postgres::open_with(&database.url_by(wire.port()), waits).await.unwrap();
    let world = World::on(Setting::default(), Arc::new(store)).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    // Cut before it is let in: refused, and the model is not asked.
    let asked = world.upstream.calls().len();
    wire.cut();
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "store_unavailable");
    assert_eq!(world.upstream.calls().len(), asked);
    wire.mend();
    // Cut between the hold and the charge: the answer is there and is not given.
    let gate = Gate::shut();
    world.upstream.push(text().held_at(2, &gate));
    let running = tokio::spawn({
        let (router, request) = (world.gateway.router(), world.ask(&chain).seq(2).request());
        async move { read(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    until(|| async { world.gateway.0.ledger.is_open(TOKEN, world.ask(&chain).key_of(), slot(2)).await.unwrap() }).await;
    wire.cut();
    gate.open(1);
    let (status, headers, body) = running.await.unwrap();
    let body = String::from_utf8_lossy(&body);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("store_unavailable") && !body.contains("world") && !headers.contains_key("comity-receipt"));
    wire.mend();
    // The number is free again, and what is charged is what was answered.
    assert_eq!(retried(&world, world.ask(&chain).seq(2)).await, "ok");
    let beside = Postgres::open(&database.url()).await.unwrap();
    let account = beside.account(TOKEN).await.unwrap().unwrap();
    assert_eq!(account.lanes.values().next().unwrap().n, 2);
}

/// The hold of the lost one is given back with the next round: until then its number is in use.
async fn retried(world: &World, ask: Ask) -> String {
    loop {
        let said = world.code(&ask).await;
        if said != "in_flight" && said != "store_unavailable" {
            return said;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_dead_gateway_held_is_free_again_and_its_late_charge_is_not_answered() {
    let (database, first, second) = pair().await;
    let hold = hold_of(&first).await;
    // Room for one and a part: a second has to wait for what the first comes to.
    let chain = first.mint(|token| token.terms.budget = Amount::new(2 * hold - 1).unwrap());
    let gate = Gate::shut();
    first.upstream.push(text().held_at(2, &gate));
    let running = tokio::spawn({
        let (router, request) = (first.gateway.router(), first.ask(&chain).request());
        async move { code(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    until(|| async { second.gateway.0.ledger.is_open(TOKEN, first.ask(&chain).key_of(), slot(1)).await.unwrap() })
        .await;
    assert_eq!(second.code(&second.ask(&chain).lane(1)).await, "budget_in_flight");
    database_says(&database, "UPDATE replica SET expires_at = 0 WHERE fence = 1").await;
    let buried = second.gateway.0.ledger.store().rounds().unwrap().beat().await.unwrap().buried;
    assert_eq!(buried, 1);
    // The same request, sent again to who lives, runs and is paid once.
    assert_eq!(second.code(&second.ask(&chain)).await, "ok");
    gate.open(1);
    assert_eq!(running.await.unwrap(), "store_unavailable", "its hold was somebody else's to charge");
    // The dead one was not dead: it goes on under a new fence.
    assert_eq!(first.code(&first.ask(&chain)).await, "replayed");
    let account = first.gateway.0.ledger.account(TOKEN, leaf(&chain)).await.unwrap();
    assert_eq!(account.lanes.values().map(|lane| lane.n).sum::<u64>(), 1);
}

/// What one operator stops at one process is in force at the other within a second: for whoever comes, waits or runs there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stopped_at_one_gateway_is_stopped_at_the_other_within_a_second() {
    let (database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    assert_eq!(second.code(&second.ask(&chain)).await, "ok");
    let gate = Gate::shut();
    second.upstream.push(text().held_at(3, &gate));
    let running = second.ask(&chain).lane(1).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    let mut body = second.send(&running).await.into_body();
    http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    first.gateway.stop_put(stop(Target::Project("sub-of-the-project".into()), Running::Ends)).await.unwrap();
    let said = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let (data, comments, done) = frames(&said);
    assert_eq!((&data.last().unwrap()["error"]["code"], done), (&json!("stopped"), false));
    assert!(comments.iter().any(|comment| comment.starts_with("comity-receipt ")), "{comments:?}");
    assert_eq!(second.code(&second.ask(&chain).lane(2)).await, "stopped");
    // One that starts now knows it too.
    let third = on(&database).await;
    assert_eq!(third.code(&third.ask(&chain).lane(2)).await, "stopped");
    second.gateway.stop_end(&Target::Project("sub-of-the-project".into()), &word("it was nothing")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for world in [&first, &third] {
        assert_ne!(world.code(&world.ask(&chain).lane(3)).await, "stopped");
    }
}

/// A gateway whose own looking has come to a standstill looks before it asks the model.
#[tokio::test]
async fn no_call_rests_on_an_old_look_at_what_is_stopped() {
    let (database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    assert_eq!(second.code(&second.ask(&chain)).await, "ok");
    // Ends what runs in the background, looking too.
    second.gateway.stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.gateway.stop_put(stop(Target::Node, Running::Finishes)).await.unwrap();
    let asked = second.upstream.calls().len();
    tokio::time::sleep(Duration::from_millis(750)).await;
    assert_eq!(second.code(&second.ask(&chain).seq(2)).await, "stopped");
    assert_eq!(second.upstream.calls().len(), asked, "the model was not asked");
    drop(database);
}

/// Suspensions of the filter travel as fast.
#[tokio::test]
async fn who_is_suspended_at_one_gateway_is_suspended_at_the_other_within_a_second() {
    let (_database, first, second) = pair().await;
    let chain = first.mint(|_| {});
    let suspension = crate::store::Suspension {
        subject: "sub-of-the-project".into(),
        category: comity_guard::Category::Cbrn,
        rule: "cbrn/x".into(),
        at: NOW,
    };
    first.gateway.0.ledger.store().suspension_put(&suspension).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(second.code(&second.ask(&chain)).await, "suspended");
}

async fn database_says(database: &Database, sql: &str) {
    use sqlx::{ConnectOptions as _, Executor as _};
    let options: sqlx::postgres::PgConnectOptions = database.url().parse().unwrap();
    options.connect().await.unwrap().execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
}

fn slot(seq: u64) -> crate::spend::Slot {
    crate::spend::Slot { seq, item: 0 }
}

impl Ask {
    fn key_of(&self) -> crate::spend::LaneKey {
        crate::spend::LaneKey { leaf: self.leaf, lane: self.lane }
    }
}

/// Looks again until it is so; a test that hangs is ended by its runner.
async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    while !so().await {
        tokio::task::yield_now().await;
    }
}
