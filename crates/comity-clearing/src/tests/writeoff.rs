//! What suspense paid and nothing covers: whose loss it becomes, and what becomes of it when it comes back.

use serde_json::json;

use super::credits::{is_sound, note, taken};
use super::rights::{by_both, conflicts, two_officers};
use super::world::*;
use crate::acts::{Act, WriteOff};
use crate::reports::Period;

fn write_off(amount: u32, recovered: bool, reason: &str) -> Act {
    Act::WriteOff(WriteOff { amount: ucr(amount), recovered, reason: reason.into() })
}

/// Suspense and written-off, as the trial balance has them; and its total.
async fn balances(world: &World) -> [i64; 3] {
    let report = world.house.trial_balance(Period::default()).await.unwrap();
    let of = |word: &str| report.rows.iter().find(|row| row.account == word).map_or(0, |row| row.balance_ucr);
    [of("suspense"), of("written-off"), report.total.unwrap().balance_ucr]
}

async fn refused(world: &World, act: Act) -> String {
    world.house.act(act.clone(), Some(act.sign(&secret("ann")))).await.unwrap_err().to_string()
}

async fn a_loss_is_written_off_by_two_and_taken_back_where_it_returns(on: On) {
    let bought = World::new(on, 10_000).await;
    let mut lab = bought.buy(100).await;
    for _ in 0..10 {
        lab.charge(lab.root(), 0, PRICE);
    }
    // A house that lost its books pays for what it signed.
    let world = World::new(on, 0).await;
    two_officers(&world).await;
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(100)), "{reply}");
    assert_eq!(balances(&world).await, [-100, 0, 0]);

    conflicts(world.house.act(write_off(60, false, "books of 3 May lost"), None).await);
    assert!(
        refused(&world, write_off(101, false, "more than there is")).await.contains("100 µcr is suspense short of")
    );
    assert!(refused(&world, write_off(0, false, "nothing")).await.contains("at least 1"));
    assert!(refused(&world, write_off(1, false, " ")).await.contains("empty"));
    assert!(refused(&world, write_off(1, true, "nothing came back")).await.contains("0 µcr of what was written off"));
    by_both(&world, write_off(60, false, "books of 3 May lost")).await;
    assert_eq!(balances(&world).await, [-40, -60, 0]);
    // The same words are the same act.
    let again = write_off(60, false, "books of 3 May lost");
    assert!(world.house.act(again.clone(), Some(again.sign(&secret("bob")))).await.unwrap().done);
    assert_eq!(balances(&world).await, [-40, -60, 0]);
    // What was proposed while there was room is looked at again when it is approved.
    let late = write_off(40, false, "the rest");
    assert!(!world.house.act(late.clone(), Some(late.sign(&secret("ann")))).await.unwrap().done);
    by_both(&world, write_off(30, false, "half of the rest")).await;
    assert!(world.house.act(late.clone(), Some(late.sign(&secret("bob")))).await.is_err());
    by_both(&world, write_off(10, false, "what is left")).await;
    assert_eq!(balances(&world).await, [0, -100, 0]);
    is_sound(&world).await;

    // The owner gives some of it back: suspense has what nobody waits for, until it is no loss any more.
    world.pass(crate::settlement::CHALLENGE_S + 60).await;
    let reply = taken(&world, &note(&world, 1, lab.token.id, 30)).await;
    assert_eq!(reply["to_suspense"], json!(30), "{reply}");
    assert_eq!(balances(&world).await, [30, -100, 0]);
    assert!(refused(&world, write_off(1, false, "nothing is short")).await.contains("0 µcr is suspense short of"));
    assert!(refused(&world, write_off(31, true, "more than came back")).await.contains("30 µcr of what was"));
    by_both(&world, write_off(30, true, "credit note 1")).await;
    assert_eq!(balances(&world).await, [0, -70, 0]);
    is_sound(&world).await;
    let journal = world.house.journal(0).await.unwrap().journal;
    assert!(journal.contains("write_off") && journal.contains("written-off"), "{journal}");
}

on_each_store! {
    a_loss_is_written_off_by_two_and_taken_back_where_it_returns
}
