//! Closing the books, and what owners were paid.

use comity_wire::Timestamp;

use super::owners::{contract, set, terms};
use super::world::*;
use crate::acts::{Act, PeriodClose, PeriodReopen, Remit};
use crate::reports::Period;
use crate::service::ActReply;

async fn act(world: &World, act: Act) -> Result<ActReply, String> {
    world.house.act(act, None).await.map_err(|failure| failure.to_string())
}

fn close(name: &str, until: Timestamp) -> Act {
    Act::PeriodClose(PeriodClose { name: name.into(), until })
}

/// 40 µcr were settled on the first day, 60 on the second.
async fn two_days(on: On) -> World {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    for calls in [4, 6] {
        for _ in 0..calls {
            lab.charge(lab.root(), 0, PRICE);
        }
        assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
        lab.taken();
        world.pass(DAY).await;
    }
    world
}

async fn a_closed_period_keeps_its_totals(on: On) {
    let world = two_days(on).await;
    let (first, second) = (START.plus(DAY), START.plus(2 * DAY));
    assert!(act(&world, close("too soon", second)).await.unwrap_err().contains("an hour after its end"));
    assert!(act(&world, close(" ", first)).await.is_err());
    world.house.log_advance().await.unwrap();
    assert!(act(&world, close("first day", first)).await.unwrap().done);
    assert!(act(&world, close("again", first)).await.unwrap_err().contains("closed already"));
    let [period] = &world.house.periods().await.unwrap()[..] else { panic!("one period") };
    let trial = world.house.trial_balance(Period { from: None, to: Some(first) }).await.unwrap();
    let nonzero: Vec<_> = trial.rows.into_iter().filter(|row| (row.debits_ucr, row.credits_ucr) != (0, 0)).collect();
    assert!(period.totals.iter().all(|row| nonzero.contains(row)) && period.totals.len() == nonzero.len());
    assert_eq!(period.totals.iter().find(|row| row.account == "payable").unwrap().balance_ucr, 40);
    assert!(period.log_size.is_some() && period.transfers == 4, "{period:?}");
    // Nothing is posted into it, not even with a clock that went back; the house goes on after it.
    world.clock.store(START.plus(DAY - 60).0, std::sync::atomic::Ordering::SeqCst);
    assert!(world.house.award(world.award("late", 5)).await.is_err());
    world.clock.store(second.plus(3_600).0, std::sync::atomic::Ordering::SeqCst);
    world.house.award(world.award("in time", 5)).await.unwrap();
    world.sums().await;

    assert!(act(&world, close("second day", second)).await.unwrap().done);
    let all = world.house.periods().await.unwrap();
    assert_eq!(all.iter().map(|period| &period.name[..]).collect::<Vec<_>>(), ["second day", "first day"]);
    assert_eq!(all[0].totals.iter().find(|row| row.account == "payable").unwrap().balance_ucr, 100);
    world.sums().await;
}

async fn a_period_is_reopened_by_an_act_and_stays_on_record(on: On) {
    let world = two_days(on).await;
    let (first, second) = (START.plus(DAY), START.plus(2 * DAY));
    world.pass(3_600).await;
    let reopen = |until| Act::PeriodReopen(PeriodReopen { until, reason: "a letter that was late".into() });
    assert!(act(&world, reopen(first)).await.unwrap_err().contains("a closed period"));
    act(&world, close("first day", first)).await.unwrap();
    act(&world, close("second day", second)).await.unwrap();
    assert!(act(&world, reopen(first)).await.unwrap_err().contains("reopen that one first"));
    let reopened = act(&world, reopen(second)).await.unwrap();
    let all = world.house.periods().await.unwrap();
    assert_eq!((all[0].reopened_by, all[1].reopened_by), (Some(reopened.id), None));
    // Closed anew, under a name that says so.
    act(&world, close("second day, again", second)).await.unwrap();
    assert_eq!(world.house.periods().await.unwrap().len(), 3);
    world.sums().await;
}

/// Not a row of the transfers, but what was said of them.
async fn totals_that_were_changed_are_found(on: On) {
    let world = two_days(on).await;
    act(&world, close("first day", START.plus(DAY))).await.unwrap();
    let found = async || {
        let report = world.house.audit().await.unwrap();
        report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect::<Vec<_>>()
    };
    assert!(found().await.is_empty());
    let (off, on_again) = match on {
        On::Sqlite => ("DROP TRIGGER period_is_frozen", "SELECT 1"),
        On::Postgres => ("ALTER TABLE period DISABLE TRIGGER ALL", "ALTER TABLE period ENABLE TRIGGER ALL"),
    };
    world.tamper(off).await;
    world.tamper("UPDATE period SET transfers = transfers + 1").await;
    assert_eq!(found().await, ["PeriodDiffers"]);
    world.tamper("UPDATE period SET transfers = transfers - 1, totals = replace(totals, '40', '41')").await;
    assert_eq!(found().await, ["PeriodDiffers"]);
    world.tamper(on_again).await;
}

async fn what_owners_were_paid_is_recorded_once(on: On) {
    let world = two_days(on).await;
    let remit = |amount, payment: &str| {
        let paid_on = START.plus(DAY);
        Act::Remit(Remit { owner: LAB, amount: ucr(amount), payment: payment.into(), paid_on })
    };
    set(&world, terms(LAB, START, contract("C-7", None, None))).await.unwrap();
    assert!(act(&world, remit(101, "wire 1")).await.unwrap_err().contains("is owed 100"));
    assert!(act(&world, remit(0, "wire 1")).await.is_err());
    act(&world, remit(70, "wire 1")).await.unwrap();
    act(&world, remit(70, "wire 1")).await.unwrap();
    assert!(act(&world, remit(20, "wire 1")).await.unwrap_err().contains("in other words"));
    act(&world, remit(20, "wire 2")).await.unwrap();
    let payables = world.house.payables(Period::default()).await.unwrap().total.unwrap();
    assert_eq!((payables.settled_ucr, payables.remitted_ucr, payables.closing_ucr), (100, 90, 10));
    world.sums().await;
    assert!(world.house.log_audit().await.unwrap().holds);
}

on_each_store! {
    a_closed_period_keeps_its_totals
    a_period_is_reopened_by_an_act_and_stays_on_record
    totals_that_were_changed_are_found
    what_owners_were_paid_is_recorded_once
}
