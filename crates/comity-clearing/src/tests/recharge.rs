//! What recharge owners may ask, and what they have recovered.

use comity_wire::{Meter, Op, Timestamp};
use serde_json::json;

use super::owners::{contract, earn, set, terms};
use super::prices::reprice;
use super::world::*;
use crate::acts::{Act, OwnerCosts, OwnerSchedule};
use crate::owners::Basis;
use crate::recharge::ScheduleRate;
use crate::reports::Period;

pub(super) fn schedule(price: u64, costs: u32, from: Timestamp) -> OwnerSchedule {
    let rate = ScheduleRate {
        model: model(),
        op: Op::Chat,
        meter: Meter::Requests,
        ucr_per_million: price * 1_000_000,
        expected_units: 100,
    };
    OwnerSchedule {
        owner: LAB,
        schedule: "Core rates".into(),
        from,
        approved_by: "Provost, letter of 1 June".into(),
        fiscal_year: "2027".into(),
        costs: ucr(costs),
        rates: vec![rate],
    }
}

pub(super) async fn record(world: &World, schedule: OwnerSchedule) -> Result<(), String> {
    world.house.act(Act::OwnerSchedule(schedule), None).await.map(drop).map_err(|failure| failure.to_string())
}

fn recharge() -> Basis {
    Basis::Recharge { schedule: "Core rates".into(), dated: START }
}

async fn a_recharge_owner_asks_no_more_than_it_published(on: On) {
    let world = World::new(on, 10_000).await;
    // What it rests on comes first.
    let missing = set(&world, terms(LAB, START, recharge())).await.unwrap_err();
    assert!(missing.contains("no schedule 'Core rates'"), "{missing}");
    assert!(record(&world, schedule(10, 999, START)).await.unwrap_err().contains("recovers cost and no more"));
    let mut twice = schedule(10, 5_000, START);
    twice.rates.push(twice.rates[0].clone());
    assert!(record(&world, twice).await.unwrap_err().contains("two rates"));
    assert!(record(&world, schedule(10, 1_000, START.minus(2 * DAY))).await.unwrap_err().contains("published before"));
    record(&world, schedule(10, 1_000, START)).await.unwrap();
    set(&world, terms(LAB, START, recharge())).await.unwrap();
    world.quote().await;
    // Above it: refused at the quote, with whose move it is.
    reprice(&world, 2, 11);
    let (status, reply) = world.post("/v1/quotes", world.quote_request(), &world.member).await;
    assert_eq!((status, &reply["code"]), (403, &json!("owner_terms")), "{reply}");
    assert!(reply["whose_move"].as_str().unwrap().starts_with("the owner"), "{reply}");
    // A newer version of the schedule has it; before its day it does not.
    record(&world, schedule(11, 1_100, START.plus(DAY))).await.unwrap();
    assert_eq!(world.post("/v1/quotes", world.quote_request(), &world.member).await.0, 403);
    world.pass(DAY).await;
    world.quote().await;
    // Cheaper is the owner's business, and others' prices are not the schedule's.
    reprice(&world, 3, 1);
    world.quote().await;
    reprice(&world, 4, 500);
    assert_eq!(world.post("/v1/quotes", world.quote_request(), &world.member).await.0, 403);
    set(&world, terms(LAB, world.now(), contract("C-1", None, None))).await.unwrap();
    world.quote().await;
    world.sums().await;
}

async fn over_and_under_recovery_is_carried_forward(on: On) {
    let world = World::new(on, 10_000).await;
    record(&world, schedule(10, 1_000, START)).await.unwrap();
    set(&world, terms(LAB, START, recharge())).await.unwrap();
    let costs = |year: &str, from, until, costs: u32| {
        let (fiscal_year, evidence) = (year.into(), format!("general ledger, {year}"));
        Act::OwnerCosts(OwnerCosts { owner: LAB, fiscal_year, from, until, costs: ucr(costs), evidence })
    };
    let act = async |act| world.house.act(act, None).await.map(drop).map_err(|failure| failure.to_string());
    // Two "years" of a day: 100 and 60 µcr come in.
    earn(&world, 10).await;
    world.pass(DAY).await;
    earn(&world, 6).await;
    let days = [START, START.plus(DAY), START.plus(2 * DAY)];
    assert!(act(costs("2028", days[1], days[2], 90)).await.unwrap_err().contains("when it is over"));
    world.pass(DAY).await;
    act(costs("2027", days[0], days[1], 50)).await.unwrap();
    act(costs("2027", days[0], days[1], 70)).await.unwrap();
    act(costs("2028", days[1], days[2], 110)).await.unwrap();
    assert!(act(costs("2029", days[1], days[2], 1)).await.unwrap_err().contains("in fiscal year 2028 already"));
    let row = async |year: &str| world.house.recovery(year).await.unwrap().rows.remove(0);
    let first = row("2027").await;
    assert_eq!((first.costs_ucr, first.recovered_ucr, first.carried_in_ucr, first.carried_out_ucr), (70, 100, 0, 30));
    assert_eq!(
        (first.expected_ucr, first.adjust_ppm),
        (1_000, Some(-30_000)),
        "3 % less, and the next year takes it up"
    );
    let second = row("2028").await;
    assert_eq!((second.difference_ucr, second.carried_in_ucr, second.carried_out_ucr), (-50, 30, -20));
    assert_eq!((second.adjust_ppm, &second.findings[..]), (Some(20_000), ""));
    // The report and the payables say the same of what came in.
    let payables = world.house.payables(Period::default()).await.unwrap().rows.remove(0);
    assert_eq!(first.recovered_ucr + second.recovered_ucr, payables.settled_ucr);
    assert_eq!(row("2029").await.findings, "no costs reported for this year");
    // What was recorded is what the acts say, or the audit tells.
    let off = match on {
        On::Sqlite => "DROP TRIGGER owner_schedule_is_never_changed; DROP TRIGGER owner_costs_are_never_changed",
        On::Postgres => "ALTER TABLE owner_schedule DISABLE TRIGGER USER; ALTER TABLE owner_costs DISABLE TRIGGER USER",
    };
    world.tamper(off).await;
    for (sql, undo) in [
        ("UPDATE owner_schedule SET costs = costs + 1", "UPDATE owner_schedule SET costs = costs - 1"),
        ("UPDATE owner_costs SET costs = costs - 1", "UPDATE owner_costs SET costs = costs + 1"),
        ("UPDATE owner_costs SET act = zeroblob(32) WHERE place = 1", ""),
    ] {
        world.tamper(sql).await;
        let report = world.house.audit().await.unwrap();
        assert_eq!(
            report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect::<Vec<_>>(),
            ["TermsDiffer"]
        );
        if !undo.is_empty() {
            world.tamper(undo).await;
            world.sums().await;
        }
    }
    world.sleep(731 * DAY);
    assert!(row("2028").await.findings.contains("schedule older than two years"));
}

on_each_store! {
    a_recharge_owner_asks_no_more_than_it_published
    over_and_under_recovery_is_carried_forward
}
