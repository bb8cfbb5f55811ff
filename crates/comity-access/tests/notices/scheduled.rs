//! What follows from an attempt, without a clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comity_access::notice::{
    Delivery, DeliveryId, Dispatcher, Notice, Outcome, Pace, Queued, Sender, Step, limit, step,
};
use comity_access::{Kind, Role, State};
use comity_wire::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::memory::{End, Memory};
use crate::story::{DAY, NOW, Story};

fn failed() -> Outcome {
    Outcome::Failed { why: "no".into(), wait_s: None }
}

fn a_notice() -> Notice {
    Story::at(State::Draft).does(Kind::Submit, Role::Applicant).remove(0)
}

/// A row for each name, of one notice.
fn rows(target: &str, count: usize) -> Vec<Delivery> {
    let notice = a_notice();
    let row = |n: usize| {
        let address = format!("{n}@example.org");
        let id = comity_wire::Digest::of(format!("{target} {address}").as_bytes());
        Delivery {
            id: DeliveryId(id.as_bytes()[..16].try_into().unwrap()),
            target: target.into(),
            address: Some(address),
            notice: notice.clone(),
        }
    };
    (0..count).map(row).collect()
}

/// Answers as it is told, and counts.
#[derive(Default)]
struct Scripted {
    script: Mutex<Vec<Outcome>>,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most: AtomicUsize,
    hangs: bool,
}

struct Shared(Arc<Scripted>);

impl Sender for Shared {
    fn send<'a>(&'a self, _: &'a Queued, _: Timestamp) -> BoxFuture<'a, Outcome> {
        async move {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            self.0.most.fetch_max(self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if self.0.hangs {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            self.0.at_once.fetch_sub(1, Ordering::SeqCst);
            let mut script = self.0.script.lock().unwrap();
            if script.is_empty() { Outcome::Delivered } else { script.remove(0) }
        }
        .boxed()
    }
}

fn dispatcher(outbox: &Arc<Memory>, senders: &[(&str, &Arc<Scripted>)]) -> Dispatcher {
    let boxed = |(name, sender): &(&str, &Arc<Scripted>)| {
        ((*name).to_owned(), Box::new(Shared(Arc::clone(sender))) as Box<dyn Sender>)
    };
    Dispatcher::new(Arc::clone(outbox) as _, senders.iter().map(boxed).collect())
}

#[tokio::test]
async fn the_outbox_in_memory_keeps_to_the_contract() {
    let outbox = Memory::default();
    crate::contract::keeps(&outbox, &a_notice(), async |rows, now| outbox.write(rows, now)).await;
}

#[test]
fn waits_double_from_five_minutes_to_twelve_hours_and_end_after_three_days() {
    // The middle of the dice: the wait as it is meant.
    let mut at = NOW;
    let mut waits = Vec::new();
    for attempts in 0..20 {
        match step(failed(), attempts, NOW, at, 128) {
            Step::Again { at: next, why } => {
                assert_eq!(why, "no");
                waits.push(next.since(at) / 60);
                at = next;
            }
            Step::GiveUp { why } => {
                assert_eq!(why, "no");
                break;
            }
            Step::Done => panic!("it failed"),
        }
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 720, 720, 720, 720]);
    assert!(at.since(NOW) > limit::GIVE_UP_S - 12 * 3_600, "the last attempt is in the last half day");
    assert_eq!(step(Outcome::Delivered, 3, NOW, NOW, 0), Step::Done);
    for never in [Outcome::Refused { why: "no".into() }, Outcome::Gone { why: "no".into() }] {
        assert_eq!(step(never, 0, NOW, NOW, 0), Step::GiveUp { why: "no".into() });
    }
    // What a node that was off for a week finds is tried once.
    assert_eq!(step(failed(), 0, NOW, NOW.plus(7 * DAY), 0), Step::GiveUp { why: "no".into() });
}

#[test]
fn a_receiver_may_ask_for_more_time_and_not_for_ever() {
    let wait = |wait_s| match step(Outcome::Failed { why: String::new(), wait_s: Some(wait_s) }, 0, NOW, NOW, 128) {
        Step::Again { at, .. } => at.since(NOW),
        other => panic!("{other:?}"),
    };
    assert_eq!((wait(1), wait(3_600), wait(u64::MAX)), (300, 3_600, 12 * 3_600));
}

proptest! {
    #[test]
    fn no_dice_and_no_count_makes_a_wait_that_is_too_short_or_without_end(attempts: u32, dice: u8, age in 0..=4 * DAY) {
        match step(failed(), attempts, NOW, NOW.plus(age), dice) {
            Step::Again { at, .. } => {
                let wait = at.since(NOW.plus(age));
                prop_assert!((225..=54_000).contains(&wait), "{}", wait);
                prop_assert!(at.since(NOW) <= limit::GIVE_UP_S);
            }
            Step::GiveUp { .. } => prop_assert!(age + 54_000 > limit::GIVE_UP_S),
            Step::Done => prop_assert!(false),
        }
    }
}

#[tokio::test]
async fn what_failed_is_tried_again_when_its_time_has_come_and_not_before() {
    let outbox = Arc::new(Memory::default());
    let sender = Arc::new(Scripted { script: Mutex::new(vec![failed()]), ..Scripted::default() });
    let desk = dispatcher(&outbox, &[("desk", &sender)]);
    outbox.write(rows("desk", 1), NOW);
    outbox.write(rows("desk", 1), NOW.plus(1));
    assert_eq!(outbox.rows().len(), 1, "a row that is written twice is there once");
    desk.turn(NOW).await.unwrap();
    let kept = outbox.only();
    assert_eq!((kept.row.attempts, kept.why.as_str(), kept.end), (1, "no", None));
    assert_eq!(desk.turn(kept.next.minus(1)).await.unwrap().taken, 0);
    assert_eq!(desk.turn(kept.next).await.unwrap().delivered, 1);
    assert_eq!(outbox.only().end, Some(End::Done));
    assert_eq!(desk.turn(kept.next.plus(9 * DAY)).await.unwrap().taken, 0, "what is done is done");
    let standing = &desk.standing()[0];
    assert_eq!((standing.delivered, standing.failed, standing.gave_up), (1, 1, 0));
    assert_eq!(standing.last_failure, Some((NOW, "no".into())));
    assert_eq!(standing.last_delivered, Some(kept.next));
}

#[tokio::test]
async fn what_nobody_took_is_given_up_and_told_of() {
    let outbox = Arc::new(Memory::default());
    let sender = Arc::new(Scripted { script: Mutex::new(vec![failed(); 99]), ..Scripted::default() });
    let desk = dispatcher(&outbox, &[("desk", &sender)]);
    outbox.write(rows("desk", 1), NOW);
    let mut now = NOW;
    for _ in 0..20 {
        now = outbox.only().next;
        if desk.turn(now).await.unwrap().gave_up == 1 {
            break;
        }
    }
    assert_eq!(outbox.only().end, Some(End::GaveUp("no".into())));
    assert!(now.since(NOW) <= limit::GIVE_UP_S && now.since(NOW) > 2 * DAY, "{}", now.since(NOW));
    assert_eq!(desk.standing()[0].gave_up, 1);
}

#[tokio::test]
async fn a_row_that_was_taken_comes_to_nobody_else_until_its_time_is_over() {
    let outbox = Arc::new(Memory::default());
    let sender = Arc::new(Scripted::default());
    let desk = dispatcher(&outbox, &[("desk", &sender)]);
    outbox.write(rows("desk", 1), NOW);
    outbox.dies.store(true, Ordering::SeqCst);
    assert!(desk.turn(NOW).await.is_err(), "killed between the delivery and the word that it is done");
    outbox.dies.store(false, Ordering::SeqCst);
    assert_eq!(desk.turn(NOW.plus(limit::TAKEN_S - 1)).await.unwrap().taken, 0);
    assert_eq!(desk.turn(NOW.plus(limit::TAKEN_S)).await.unwrap().delivered, 1);
    assert_eq!(sender.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_target_that_wants_nothing_more_is_asked_no_more_and_holds_up_no_other() {
    let outbox = Arc::new(Memory::default());
    let gone =
        Arc::new(Scripted { script: Mutex::new(vec![Outcome::Gone { why: "410".into() }]), ..Scripted::default() });
    let well = Arc::new(Scripted::default());
    let desk = dispatcher(&outbox, &[("gone", &gone), ("well", &well)]);
    outbox.write(rows("gone", 1), NOW);
    desk.turn(NOW).await.unwrap();
    assert_eq!(desk.standing()[0].off, Some((NOW, "410".into())));
    outbox.write(rows("gone", 3), NOW.plus(1));
    outbox.write(rows("well", 3), NOW.plus(1));
    assert_eq!(desk.turn(NOW.plus(1)).await.unwrap().delivered, 3);
    assert_eq!(gone.asked.load(Ordering::SeqCst), 1);
    // A restart asks again what is not too old.
    let desk = dispatcher(&outbox, &[("gone", &gone)]);
    assert_eq!(desk.turn(NOW.plus(600)).await.unwrap().delivered, 2);
}

#[tokio::test]
async fn at_most_so_many_are_under_way_at_once() {
    let outbox = Arc::new(Memory::default());
    let sender = Arc::new(Scripted::default());
    outbox.write(rows("desk", 40), NOW);
    let desk = dispatcher(&outbox, &[("desk", &sender)]);
    assert_eq!(desk.turn(NOW).await.unwrap().taken, limit::BATCH_MAX);
    assert_eq!(sender.most.load(Ordering::SeqCst), limit::AT_ONCE_MAX);
}

/// Waits, by the machine's clock, until something is so; it must be within ten seconds.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to be");
}

#[tokio::test]
async fn a_target_that_hangs_is_cut_off_and_holds_up_no_other() {
    let outbox = Arc::new(Memory::default());
    let (slow, well) = (Arc::new(Scripted { hangs: true, ..Scripted::default() }), Arc::new(Scripted::default()));
    outbox.write(rows("slow", 40), NOW);
    outbox.write(rows("well", 40), NOW);
    let pace = Pace { grace: Duration::from_millis(20), ..Pace::default() };
    let desk = dispatcher(&outbox, &[("slow", &slow), ("well", &well)]).paced(pace);
    let (desk, stop) = (Arc::new(desk), CancellationToken::new());
    let (running, stopped) = (Arc::clone(&desk), stop.clone());
    let task = tokio::spawn(async move { running.run(|| NOW, stopped).await });
    until(|| desk.standing()[1].delivered == 40).await;
    assert_eq!(slow.asked.load(Ordering::SeqCst), limit::AT_ONCE_MAX, "each goes at its own pace");
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), task).await;
    ended.expect("the node's end does not wait for a receiver that hangs").unwrap();
    let pace = Pace { attempt: Duration::from_millis(10), ..Pace::default() };
    let desk = dispatcher(&outbox, &[("slow", &slow)]).paced(pace);
    desk.turn(NOW.plus(limit::TAKEN_S)).await.unwrap();
    let standing = &desk.standing()[0];
    assert_eq!(standing.failed, limit::BATCH_MAX as u64);
    assert_eq!(standing.last_failure.as_ref().unwrap().1, "no answer within 10ms");
}

#[tokio::test]
async fn once_the_node_stops_nothing_more_is_begun() {
    let outbox = Arc::new(Memory::default());
    let sender = Arc::new(Scripted { hangs: true, ..Scripted::default() });
    outbox.write(rows("desk", 16), NOW);
    let pace = Pace { attempt: Duration::from_millis(200), ..Pace::default() };
    let desk = dispatcher(&outbox, &[("desk", &sender)]).paced(pace);
    let (desk, stop) = (Arc::new(desk), CancellationToken::new());
    let (running, stopped) = (Arc::clone(&desk), stop.clone());
    let task = tokio::spawn(async move { running.run(|| NOW, stopped).await });
    until(|| sender.asked.load(Ordering::SeqCst) == limit::AT_ONCE_MAX).await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(sender.asked.load(Ordering::SeqCst), limit::AT_ONCE_MAX);
    assert_eq!(desk.standing()[0].failed, limit::AT_ONCE_MAX as u64, "what was under way was heard to its end");
}

#[tokio::test]
async fn a_row_goes_out_when_the_store_says_that_it_was_written() {
    let outbox = Arc::new(Memory::default());
    let sender = Arc::new(Scripted::default());
    let pace = Pace { rest: Duration::from_mins(60), ..Pace::default() };
    let desk = dispatcher(&outbox, &[("desk", &sender)]).paced(pace);
    outbox.write(rows("left", 2), NOW);
    let (desk, stop) = (Arc::new(desk), CancellationToken::new());
    let (running, stopped) = (Arc::clone(&desk), stop.clone());
    let task = tokio::spawn(async move { running.run(|| NOW, stopped).await });
    let why = "its target is not in the settings any more";
    until(|| outbox.rows().iter().all(|kept| kept.end == Some(End::GaveUp(why.into())))).await;
    outbox.write(rows("desk", 1), NOW);
    desk.wake();
    until(|| desk.standing()[0].delivered == 1).await;
    stop.cancel();
    task.await.unwrap();
}
