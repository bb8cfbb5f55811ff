//! Against scripted instances; nothing here waits for time.

use comity_wire::Op;
use serde_json::Map;

use super::*;
use crate::scripted::{Gate, Script, Scripted, Step};

fn answers(text: &str) -> Scripted {
    Scripted::new(Script::text(Op::Chat, 3, &[text]))
}

fn pool(instances: &[&Scripted]) -> Pool {
    let named = |(at, one): (usize, &&Scripted)| (at.to_string(), Arc::new((*one).clone()) as Arc<dyn Upstream>);
    Pool::new(instances.iter().enumerate().map(named).collect(), Settings::default(), Arc::new(|| 0))
}

async fn ask(pool: &Pool) -> Result<(String, &'static str), UpstreamError> {
    let reply = pool.complete(Call::new(Op::Chat, "m", Map::new())).await?;
    Ok(read(reply).await)
}

/// The text, and how it ended.
async fn read(mut reply: Reply) -> (String, &'static str) {
    let mut text = String::new();
    loop {
        match reply.next().await.expect("a reply has an end") {
            Ok(Event::Delta(delta)) => text.push_str(&delta.text),
            Ok(Event::Done) => return (text, "done"),
            Ok(_) => {}
            Err(error) => return (text, error.name()),
        }
    }
}

#[tokio::test]
async fn another_instance_answers_where_the_first_cannot_and_the_call_is_accepted_once() {
    let (first, second) = (answers("a"), answers("b"));
    let pool = pool(&[&first, &second]);
    for script in [Script::Unreachable, Script::Refuse { status: 503, message: "full".into() }] {
        first.push(script);
        assert_eq!(ask(&pool).await.unwrap(), ("b".to_owned(), "done"));
    }
    assert_eq!((first.calls().len(), second.calls().len()), (2, 2));
}

#[tokio::test]
async fn what_was_accepted_is_never_asked_again() {
    let (first, second) = (answers("a"), answers("b"));
    let pool = pool(&[&first, &second]);
    first.push(Script::text(Op::Chat, 3, &["a", "a"]).broken_at(1, Step::Cut));
    assert_eq!(ask(&pool).await.unwrap(), (String::new(), "cut"));
    assert_eq!(second.calls().len(), 0);
    assert_eq!(pool.instances()[0].1.failures, 1, "it counts against the instance");
}

#[tokio::test]
async fn a_callers_mistake_goes_to_nobody_else() {
    let (first, second) = (answers("a"), answers("b"));
    let pool = pool(&[&first, &second]);
    first.push(Script::Refuse { status: 400, message: "no".into() });
    assert!(matches!(ask(&pool).await, Err(UpstreamError::Refused { status: 400, .. })));
    assert_eq!(second.calls().len(), 0);
}

#[tokio::test]
async fn calls_go_where_fewest_are_under_way_and_a_dropped_answer_frees_its_place() {
    let gate = Gate::shut();
    let held = |text: &str| Scripted::new(Script::text(Op::Chat, 3, &[text]).held_at(1, &gate));
    let (first, second) = (held("a"), held("b"));
    let pool = pool(&[&first, &second]);
    let call = || Call::new(Op::Chat, "m", Map::new());
    let replies = [pool.complete(call()).await.unwrap(), pool.complete(call()).await.unwrap()];
    assert_eq!((first.calls().len(), second.calls().len()), (1, 1));
    assert_eq!(pool.instances().iter().map(|(_, sight)| sight.in_flight).collect::<Vec<_>>(), [1, 1]);
    drop(replies);
    assert_eq!(pool.instances().iter().map(|(_, sight)| sight.in_flight).collect::<Vec<_>>(), [0, 0]);
    gate.open(1);
    assert_eq!(read(pool.complete(call()).await.unwrap()).await.1, "done");
    assert_eq!(pool.instances().iter().map(|(_, sight)| sight.in_flight).sum::<u32>(), 0);
}

#[tokio::test]
async fn all_loading_is_starting_and_all_dead_is_out_each_with_a_time_to_come_back() {
    let (first, second) = (answers("a"), answers("b"));
    first.set_health(Health::starting("weights"));
    second.set_health(Health::starting("weights"));
    let starting = pool(&[&first, &second]);
    starting.look_now().await;
    let error = ask(&starting).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Out { is_starting: true, retry_after_s: 1..=3 }), "{error}");
    assert_eq!(starting.health().await.state, crate::State::Starting);
    assert_eq!(first.calls().len(), 0, "nobody is asked whilst loading");

    let dead = Scripted::new(Script::Unreachable);
    dead.set_health(Health::down("gone"));
    let dead = pool(&[&dead]);
    // Each failure is a probe or a call; three in a row are enough.
    for _ in 0..3 {
        let _ = ask(&dead).await;
    }
    let error = ask(&dead).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Out { is_starting: false, retry_after_s: 1..=30 }), "{error}");
}

#[tokio::test]
async fn a_pool_without_an_instance_is_out() {
    assert!(matches!(ask(&pool(&[])).await, Err(UpstreamError::Out { is_starting: false, .. })));
}
