//! Reports: each re-added from the transfers, and all of one mind.

use comity_wire::ProjectId;
use serde_json::json;

use super::world::*;
use crate::acts::{Act, Move, Withdraw};
use crate::reports::{Period, csv};
use crate::{AwardAsk, ProjectAdd};

async fn reports_agree_to_the_micro_credit(on: On) {
    let world = World::new(on, 1_000).await;
    let other = ProjectId([8; 16]);
    let add = ProjectAdd { id: Some(other), title: "=Tides, \"high\"".into(), purposes: vec![], members: vec![] };
    world.house.project_add(add).await.unwrap();
    let lot = world.lot().await;
    // First day: 300 in escrow, of which 120 are settled and 30 wait.
    let mut lab = world.buy(300).await;
    for _ in 0..12 {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    lab.taken();
    world.pass(DAY).await;
    // Second day: it ends, credits move and go back, and what is not used in time expires.
    for _ in 0..3 {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.finish(lab.final_()).await.1["refunded"], json!(150));
    let moved = Act::Move(Move { lot, to: other, amount: ucr(200), reason: "letter".into() });
    world.house.act(moved, None).await.unwrap();
    let back = Act::Withdraw(Withdraw { lot, amount: ucr(50), reason: "finding".into() });
    world.house.act(back, None).await.unwrap();
    let short = AwardAsk { use_or_lose: true, ends_at: world.now().plus(3_600), ..world.award("short", 70) };
    world.house.award(short).await.unwrap();
    world.pass(3_600).await;
    world.house.sweep().await.unwrap();

    let whole = Period::default();
    let first = Period { from: None, to: Some(START.plus(DAY)) };
    let second = Period { from: first.to, to: None };
    let trial = world.house.trial_balance(whole).await.unwrap();
    let balance = |account: &str| trial.rows.iter().find(|row| row.account == account).unwrap().balance_ucr;
    assert_eq!(trial.total.as_ref().unwrap().balance_ucr, 0);
    assert_eq!(
        ["issuance", "allocation", "escrow", "payable", "expired"].map(balance),
        [-(1_070 - 50), 1_070 - 50 - 70 - 120 - 30, 30, 120, 70]
    );
    let audit = world.house.audit().await.unwrap().ledger;
    assert_eq!(audit.trial_balance.iter().map(|total| total.balance_ucr).filter(|balance| *balance != 0).count(), 5);

    let roll = world.house.roll_forward(whole).await.unwrap();
    let total = roll.total.clone().unwrap();
    assert_eq!((total.opening_ucr, total.awarded_ucr, total.settled_ucr, total.expired_ucr), (0, 1_070, 120, 70));
    assert_eq!((total.moved_in_ucr, total.moved_out_ucr, total.withdrawn_ucr), (200, 200, 50));
    let held = balance("allocation") + balance("unreleased") + balance("escrow");
    assert_eq!(total.closing_ucr, held, "what projects have is what their accounts hold");
    // The end of one period is the beginning of the next.
    let (one, two) = (world.house.roll_forward(first).await.unwrap(), world.house.roll_forward(second).await.unwrap());
    for (one, two) in one.rows.iter().zip(&two.rows) {
        assert_eq!((&one.project, one.closing_ucr), (&two.project, two.opening_ucr));
    }
    assert_eq!(two.total.unwrap().closing_ucr, total.closing_ucr);
    assert_eq!(one.total.unwrap().settled_ucr, 120);

    let holds = world.house.holds().await.unwrap();
    assert_eq!(holds.rows.iter().map(|row| (row.held_ucr, row.age_days)).collect::<Vec<_>>(), [(30, 1)]);
    assert_eq!((&holds.rows[0].phase[..], holds.rows[0].overdue), ("final", false));
    let payables = world.house.payables(second).await.unwrap();
    assert_eq!((payables.rows[0].opening_ucr, payables.rows[0].closing_ucr), (120, balance("payable")));

    let statement = world.house.fund_statement(world.project, whole).await.unwrap();
    assert_eq!(statement.end_balance_ucr, statement.available_ucr);
    assert_eq!(statement.reserved_ucr, 30);
    assert_eq!(statement.total_credits_ucr - statement.total_debits_ucr, statement.end_balance_ucr);
    let later = world.house.fund_statement(world.project, second).await.unwrap();
    assert_eq!((later.start_balance_ucr, later.end_balance_ucr), (700, statement.end_balance_ucr));
    let text = csv(&statement.rows);
    let sum: i64 = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|cells| cells[5].parse::<i64>().unwrap() - cells[6].parse::<i64>().unwrap())
        .sum();
    assert_eq!(sum, statement.end_balance_ucr, "{text}");
    assert!(csv(&roll.rows).contains("\"'=Tides, \"\"high\"\"\""), "{}", csv(&roll.rows));

    let (mut journal, mut next) = (String::new(), Some(0));
    while let Some(after) = next {
        let page = world.house.journal(after).await.unwrap();
        journal.push_str(&page.journal);
        next = page.next;
    }
    let payable: i64 = journal
        .lines()
        .filter_map(|line| line.trim().strip_prefix("payable:"))
        .map(|line| line.split_whitespace().nth(1).unwrap().replace('.', "").parse::<i64>().unwrap())
        .sum();
    assert_eq!(payable, -balance("payable"), "{journal}");
    assert_eq!(journal.matches("seq:").count() as u64, audit.transfers);
    let empty = Period { from: Some(START), to: Some(START) };
    assert!(world.house.trial_balance(empty).await.is_err());
}

on_each_store! {
    reports_agree_to_the_micro_credit
}
