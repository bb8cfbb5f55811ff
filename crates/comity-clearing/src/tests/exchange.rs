//! Exchange: earnings become credit for the owner's own projects, and no lot is laundered by it.

use comity_wire::{OrgId, ProjectId, Timestamp};

use super::owners::{agency, contract, earn, set, terms};
use super::world::*;
use crate::acts::{Act, Exchange, ProjectOf};
use crate::lots::FundKind;
use crate::reports::Period;
use crate::service::ActReply;
use crate::{AwardAsk, Failure, ProjectAdd};

const OWN: ProjectId = ProjectId([8; 16]);
const ENDS: Timestamp = START.plus(200 * DAY);

async fn state(world: &World, project: ProjectId, owner: OrgId) {
    let ask = ProjectOf { project, organisation: owner, reason: format!("letter of {owner}") };
    world.house.act(Act::ProjectOf(ask), None).await.unwrap();
}

async fn own_project(world: &World) {
    let add = ProjectAdd { id: Some(OWN), title: "Lab's own".into(), purposes: vec![], members: vec![] };
    world.house.project_add(add).await.unwrap();
    state(world, OWN, LAB).await;
}

async fn exchange(world: &World, project: ProjectId, amount: u32, number: &str) -> Result<ActReply, Failure> {
    let ask = Exchange { owner: LAB, project, amount: ucr(amount), number: number.into(), ends_at: ENDS };
    world.house.act(Act::Exchange(ask), None).await
}

fn refused(result: Result<ActReply, Failure>) -> String {
    match result {
        Err(Failure::OwnerTerms { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

async fn earnings_become_credit_and_everything_adds_up(on: On) {
    let world = World::new(on, 10_000).await;
    own_project(&world).await;
    state(&world, world.project, RIVAL).await;
    earn(&world, 10).await;
    assert!(refused(exchange(&world, OWN, 60, "1").await).contains("no_terms"), "bounded by what is payable");
    set(&world, terms(LAB, START, contract("C-7", None, None))).await.unwrap();
    let done = exchange(&world, OWN, 60, "1").await.unwrap();
    assert_eq!(done.lots.len(), 1);
    exchange(&world, OWN, 60, "1").await.unwrap();
    let lot = &world.house.project_status(OWN).await.unwrap().lots[0];
    assert_eq!((&lot.kind[..], lot.ends_at, lot.available), ("institutional", ENDS, ucr(60)));
    assert!(lot.owners.is_empty() && lot.award_number == "exchange 1");
    // Both sides' statements, the roll-forward, the journal, the audits.
    let whole = Period::default();
    let statement = world.house.fund_statement(OWN, whole).await.unwrap();
    assert_eq!((statement.total_credits_ucr, &statement.rows[0].kind[..]), (60, "exchange"));
    let payables = world.house.payables(whole).await.unwrap().rows.remove(0);
    assert_eq!((payables.settled_ucr, payables.exchanged_ucr, payables.closing_ucr), (100, 60, 40));
    assert_eq!((payables.payable_ucr, payables.remitted_ucr), (40, 0));
    let rolled = world.house.roll_forward(whole).await.unwrap();
    let row = rolled.rows.iter().find(|row| row.project == OWN.to_string()).unwrap();
    assert_eq!((row.awarded_ucr, row.exchanged_ucr, row.closing_ucr), (0, 60, 60));
    let trial = world.house.trial_balance(whole).await.unwrap();
    let balance = |account: &str| trial.rows.iter().find(|row| row.account == account).unwrap().balance_ucr;
    assert_eq!(rolled.total.unwrap().closing_ucr, balance("allocation") + balance("unreleased") + balance("escrow"));
    assert!(world.house.journal(0).await.unwrap().journal.contains(" exchange  ; seq:"));
    world.sums().await;
    world.house.log_advance().await.unwrap();
    assert!(world.house.log_audit().await.unwrap().holds);
    // No more than is left, never to others, and under a number of its own.
    assert!(exchange(&world, OWN, 41, "2").await.unwrap_err().to_string().contains("is owed 40"));
    assert!(refused(exchange(&world, world.project, 5, "2").await).contains("is not stated to be a project of"));
    assert!(exchange(&world, OWN, 5, "1").await.is_err(), "in other words");
    exchange(&world, OWN, 40, "2").await.unwrap();
    world.sums().await;
    // What the audit is for.
    let (off, on_again) = match on {
        On::Sqlite => ("DROP TRIGGER payout_line_is_never_changed", "SELECT 1"),
        On::Postgres => ("ALTER TABLE payout_line DISABLE TRIGGER USER", "ALTER TABLE payout_line ENABLE TRIGGER USER"),
    };
    world.tamper(off).await;
    world.tamper("UPDATE payout_line SET amount = amount - 1 WHERE amount = 40").await;
    let report = world.house.audit().await.unwrap();
    assert_eq!(
        report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect::<Vec<_>>(),
        ["PayoutDiffers"]
    );
    world.tamper(on_again).await;
}

/// The owner's own project, with a federal award that ends soon and is for this owner only, pays the owner; nothing of it
/// becomes an unrestricted credit.
async fn what_an_owner_paid_itself_keeps_its_terms(on: On) {
    let world = World::new(on, 0).await;
    own_project(&world).await;
    let ends_at = START.plus(30 * DAY);
    let federal = AwardAsk {
        kind: FundKind::Federal,
        owners: vec![LAB],
        use_or_lose: true,
        ends_at,
        ..world.award("F-1", 1_000)
    };
    world.house.award(federal).await.unwrap();
    set(&world, terms(LAB, START, agency("IAA-7"))).await.unwrap();
    // Nobody stated whose the paying project is: it counts as the owner's.
    earn(&world, 10).await;
    let done = exchange(&world, OWN, 60, "1").await.unwrap();
    let lot = world.house.project_status(OWN).await.unwrap().lots.remove(0);
    assert_eq!(done.lots, [lot.lot]);
    assert_eq!((&lot.kind[..], &lot.award_number[..], lot.ends_at), ("federal", "F-1", ends_at));
    assert_eq!((lot.owners, lot.available), (vec![LAB], ucr(60)));
    world.sums().await;
    // Stated to be another's, it pays in freely; but these tokens were paid out first.
    state(&world, world.project, LAB).await;
    exchange(&world, OWN, 10, "2").await.unwrap();
    assert_eq!(world.house.project_status(OWN).await.unwrap().lots.len(), 2);
    // When the award has ended, what is left of it cannot come back as anything.
    world.sleep(31 * DAY);
    world.house.beat().await.unwrap();
    let swept = world.house.sweep().await.unwrap();
    assert_eq!(swept.expired, ucr(70 + 500), "and what was exchanged ends with it");
    let what = refused(exchange(&world, OWN, 20, "3").await);
    assert!(what.contains("0 µcr can be exchanged"), "{what}");
    world.sums().await;
}

on_each_store! {
    earnings_become_credit_and_everything_adds_up
    what_an_owner_paid_itself_keeps_its_terms
}
