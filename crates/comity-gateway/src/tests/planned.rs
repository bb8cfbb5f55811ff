//! Calls within approved experiment plans: what opens them, what counts, and how often.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use comity_supply::scripted::{Gate, Script};
use comity_wire::api::node::PlansReply;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Grant, Plan, PlanOp, Tier, Token};
use comity_wire::{Digest, GrantId, Op, TokenId, Verified, cose};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::store::{Memory, Sqlite, Store};

/// Three chats in an execution of two hours, a hundred tokens of answers.
pub(super) fn plan() -> Plan {
    let row = PlanOp {
        op: Op::Chat,
        calls: 3,
        input_tokens: Some(1_000),
        output_tokens: Some(100),
        output_tokens_max: None,
        logprobs_max: None,
        choices_max: None,
        sites: List::default(),
    };
    Plan {
        title: Text::new("Three questions").unwrap(),
        models: List::new(vec![model()]).unwrap(),
        ops: List::new(vec![row]).unwrap(),
        hours: 2,
        data: List::default(),
        purpose: Text::new("to see").unwrap(),
        outputs: Text::new("a number").unwrap(),
    }
}

pub(super) fn audited() -> Setting {
    let mut setting = Setting::default();
    (setting.tier.tier, setting.tier.grant) = (Tier::Audited, true);
    setting
}

/// The owner's approval of a plan for so many executions.
pub(super) fn approval(id: u8, plan: &Plan, executions: Option<u32>) -> Verified<Grant> {
    let grant = Grant {
        id: GrantId([id; 16]),
        org: LAB,
        subject: Text::new("sub-of-the-project").unwrap(),
        models: List::new(vec![model()]).unwrap(),
        tier: Tier::Audited,
        ops: List::default(),
        not_before: NOW,
        not_after: NOW.plus(1_000_000),
        plan: Some(plan.digest()),
        reason: Text::new("").unwrap(),
        executions,
    };
    cose::sign(&grant, &secret("lab writer"))
}

pub(super) fn naming(grants: &[&Verified<Grant>]) -> impl FnOnce(&mut Token) + use<> {
    let named: Vec<Digest> = grants.iter().map(|grant| grant.id()).collect();
    move |token| token.terms.grants = List::new(named).unwrap()
}

pub(super) fn within(world: &World, chain: &[u8], seq: u64, run: &str) -> Ask {
    world.ask(chain).seq(seq).body(chat("hi", json!({"max_tokens": 20, "comity_run": run})))
}

/// A world whose owner has approved the plan.
async fn approved(executions: Option<u32>, store: Arc<dyn Store>) -> (World, Vec<u8>) {
    let world = World::on(audited(), store).await;
    let grant = approval(1, &plan(), executions);
    world.gateway.plan_put(&plan().to_bytes().unwrap()).await.unwrap();
    world.gateway.grant_put(grant.bytes()).await.unwrap();
    let chain = world.mint(naming(&[&grant]));
    (world, chain)
}

async fn refused(world: &World, ask: &Ask) -> Value {
    let (_, _, body) = read(world.send(ask).await).await;
    serde_json::from_slice::<Value>(&body).unwrap()["error"].clone()
}

#[tokio::test]
async fn what_opens_a_plan_is_named_one_by_one() {
    let world = World::new(audited()).await;
    let grant = approval(1, &plan(), Some(1));
    let (chain, stranger) = (world.mint(naming(&[&grant])), world.mint(|token| token.id = TokenId([9; 16])));
    let said = async |chain: &[u8], run: Value| {
        let ask = world.ask(chain).body(chat("hi", json!({"max_tokens": 20, "comity_run": run})));
        let error = refused(&world, &ask).await;
        (error["code"].clone(), error["whose_move"].clone())
    };
    let owner = |code: &str| (json!(code), json!("owner"));
    assert_eq!(said(&chain, json!("a")).await, owner("grant_required"));
    world.gateway.grant_put(grant.bytes()).await.unwrap();
    // The grant is here, the plan that it names is not.
    assert_eq!(said(&chain, json!("a")).await, owner("grant_required"));
    let other = Plan { hours: 3, ..plan() };
    world.gateway.plan_put(&other.to_bytes().unwrap()).await.unwrap();
    assert_eq!(said(&chain, json!("a")).await, owner("grant_required"));
    world.gateway.plan_put(&plan().to_bytes().unwrap()).await.unwrap();
    assert_eq!(said(&chain, Value::Null).await, (json!("run_required"), json!("caller")));
    for bad in [json!(""), json!("two words"), json!(7), json!("x".repeat(65))] {
        assert_eq!(said(&chain, bad).await.0, "invalid_request");
    }
    // A token that does not name the grant has none.
    assert_eq!(said(&stranger, json!("a")).await, owner("grant_required"));
    assert!(world.upstream.calls().is_empty(), "nothing was asked");
    assert_eq!(world.code(&within(&world, &chain, 1, "a")).await, "ok");
    let asked = &world.upstream.calls()[0];
    assert!(!format!("{asked:?}").contains("comity_run"), "the upstream gets no run");
    // An op that the plan does not list.
    let completion = world
        .ask(&chain)
        .seq(2)
        .to("/v1/completions", json!({"model": "lab/tiny", "prompt": "hi", "max_tokens": 5, "comity_run": "a"}));
    let error = refused(&world, &completion).await;
    assert_eq!((&error["code"], &error["whose_move"]), (&json!("grant_required"), &json!("owner")));
    assert!(error["message"].as_str().unwrap().contains("does not list completions"), "{error}");
}

#[tokio::test]
async fn an_execution_is_its_plans_volume_and_no_more() {
    let (world, chain) = approved(Some(2), Arc::new(Memory::default())).await;
    for seq in 1..=3 {
        assert_eq!(world.code(&within(&world, &chain, seq, "a")).await, "ok");
    }
    let error = refused(&world, &within(&world, &chain, 4, "a")).await;
    assert_eq!((&error["code"], &error["whose_move"]), (&json!("plan_exhausted"), &json!("caller")));
    assert_eq!(error["rule"], json!({"run": "a", "op": "chat", "limit": "calls", "left": 0}));
    assert_eq!(world.code(&within(&world, &chain, 4, "b")).await, "ok", "the second execution");
    let error = refused(&world, &within(&world, &chain, 5, "c")).await;
    assert_eq!((&error["code"], &error["whose_move"]), (&json!("plan_exhausted"), &json!("owner")));
    assert_eq!(error["rule"], json!({"limit": "executions", "value": 2}));
    // Approved once more, a token that names the new approval goes on.
    let again = approval(2, &plan(), None);
    world.gateway.grant_put(again.bytes()).await.unwrap();
    let named = naming(&[&again]);
    let second = world.mint(|token| {
        token.id = TokenId([8; 16]);
        named(token);
    });
    assert_eq!(world.code(&within(&world, &second, 1, "c")).await, "ok");
    // Left out, an approval is for one execution.
    assert_eq!(world.code(&within(&world, &second, 2, "d")).await, "plan_exhausted");
}

#[tokio::test]
async fn tokens_count_as_held_while_a_call_runs_and_as_charged_after() {
    let (world, chain) = approved(Some(1), Arc::new(Memory::default())).await;
    let ask = |seq: u64, lane: u16, tokens: u32| {
        let body = chat("hi", json!({"max_tokens": tokens, "comity_run": "a"}));
        world.ask(&chain).seq(seq).lane(lane).body(body)
    };
    // More than a whole execution may say: waiting does not help, nor another execution.
    let error = refused(&world, &ask(1, 0, 101)).await;
    assert_eq!((&error["code"], &error["rule"]["limit"]), (&json!("limit_exceeded"), &json!("output_tokens")));
    let gate = Gate::shut();
    world.upstream.push(Script::text(Op::Chat, 12, &["a", "b", "c"]).held_at(1, &gate));
    let running = tokio::spawn(world.gateway.router().oneshot(ask(1, 0, 90).request()));
    while world.upstream.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    // What is held may come back.
    assert_eq!(world.code(&ask(1, 1, 20)).await, "too_many_requests");
    gate.open(1);
    assert_eq!(read(running.await.unwrap().unwrap()).await.0, 200);
    // 3 of the 90 were said.
    assert_eq!(world.code(&ask(1, 1, 97)).await, "ok");
    let error = refused(&world, &ask(2, 1, 95)).await;
    assert_eq!(error["rule"], json!({"run": "a", "op": "chat", "limit": "output_tokens", "left": 94}));
    // A call without a limit is cut to what an execution could ever say.
    let open = ask(2, 1, 0).body(chat("hi", json!({"comity_run": "b"})));
    assert_eq!(world.code(&open).await, "plan_exhausted", "it was approved for one");
}

#[tokio::test]
async fn a_retry_counts_once_and_what_was_not_answered_counts_nothing() {
    let (world, chain) = approved(Some(1), Arc::new(Memory::default())).await;
    let calls = async || {
        let rows = world.store.runs("sub-of-the-project").await.unwrap();
        rows.iter().map(|(_, row)| row.used.calls).sum::<u64>()
    };
    world.upstream.push(Script::Unreachable);
    assert_eq!(world.code(&within(&world, &chain, 1, "a")).await, "upstream_unavailable");
    assert_eq!(calls().await, 0);
    // Nothing was charged in it: it has not begun, and another one may.
    assert_eq!(world.code(&within(&world, &chain, 1, "b")).await, "ok");
    assert_eq!(calls().await, 1);
    for _ in 0..5 {
        // The same request is answered from the books, whatever is left.
        assert_eq!(world.code(&within(&world, &chain, 1, "b")).await, "ok");
    }
    assert_eq!(calls().await, 1);
    // The same number under another execution is another request.
    assert_eq!(world.code(&within(&world, &chain, 1, "a")).await, "sequence_conflict");
    assert_eq!(world.code(&within(&world, &chain, 2, "a")).await, "plan_exhausted");
}

#[tokio::test]
async fn an_execution_ends_with_its_hours_and_goes_on_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spend.sqlite");
    let chain = {
        let (world, chain) = approved(Some(2), Arc::new(Sqlite::open(&path).await.unwrap())).await;
        assert_eq!(world.code(&within(&world, &chain, 1, "a")).await, "ok");
        world.gateway.stop();
        chain
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while Sqlite::open(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let world = World::on(audited(), Arc::new(Sqlite::open(&path).await.unwrap())).await;
    // The plan and what was used of it are known.
    assert_eq!(world.code(&within(&world, &chain, 2, "a")).await, "ok");
    assert_eq!(world.code(&within(&world, &chain, 3, "a")).await, "ok");
    assert_eq!(world.code(&within(&world, &chain, 4, "a")).await, "plan_exhausted");
    assert_eq!(world.code(&within(&world, &chain, 4, "b")).await, "ok");
    world.clock.fetch_add(7_199, Ordering::SeqCst);
    let renewed = world.mint(|token| {
        token.id = TokenId([8; 16]);
        naming(&[&approval(1, &plan(), Some(2))])(token);
        token.expires_at = NOW.plus(80_000);
        token.terms.settle_by = NOW.plus(80_000 + 600 + Token::SETTLE_S_MIN);
    });
    assert_eq!(world.code(&within(&world, &renewed, 1, "b")).await, "ok", "a second before two hours");
    world.clock.fetch_add(1, Ordering::SeqCst);
    let error = refused(&world, &within(&world, &renewed, 2, "b")).await;
    assert_eq!((&error["code"], &error["rule"]["ended_at"]), (&json!("plan_exhausted"), &json!(NOW.plus(7_200))));
}

#[tokio::test]
async fn the_holder_sees_what_is_approved_and_what_is_left() {
    let (world, chain) = approved(Some(3), Arc::new(Memory::default())).await;
    assert_eq!(world.code(&within(&world, &chain, 1, "a")).await, "ok");
    world.clock.fetch_add(60, Ordering::SeqCst);
    assert_eq!(world.code(&within(&world, &chain, 2, "b")).await, "ok");
    let query = format!("token={TOKEN}");
    let asked = world.call("GET", "/comity/v1/plans", &query, &Value::Null, &secret("holder")).await;
    let (status, _, body) = read(asked).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let reply: PlansReply = serde_json::from_slice(&body).unwrap();
    let [approved] = &reply.plans[..] else { panic!("{reply:?}") };
    assert_eq!((approved.executions, approved.left, approved.plan), (3, 1, plan().digest()));
    assert_eq!(approved.content, approval(1, &plan(), Some(3)).id(), "what a token has to name");
    assert_eq!(approved.title.as_deref(), Some("Three questions"));
    let runs: Vec<_> = approved.runs.iter().map(|run| (run.run.as_str(), run.begun_at, run.ends_at)).collect();
    assert_eq!(runs, [("b", NOW.plus(60), NOW.plus(7_260)), ("a", NOW, NOW.plus(7_200))]);
    let used = approved.runs[0].ops[0];
    assert_eq!((used.op, used.calls, used.input_tokens, used.output_tokens), (Op::Chat, 1, 12, 3));
    let stranger = world.call("GET", "/comity/v1/plans", &query, &Value::Null, &secret("stranger")).await;
    assert_eq!(code(stranger).await, "not_yours");
}

#[tokio::test]
async fn a_run_that_no_plan_counts_is_named_as_ignored() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let (status, headers, _) = read(world.send(&within(&world, &chain, 1, "a")).await).await;
    assert_eq!((status, headers["comity-ignored"].to_str().unwrap()), (200, "comity_run"));
}
