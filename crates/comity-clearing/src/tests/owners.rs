//! How owners are paid: what their terms allow, and what each payment was for.

use comity_wire::{OrgId, Timestamp};
use serde_json::json;

use super::disputes::{disputes, draw, end};
use super::world::*;
use crate::acts::{Act, Outcome, OwnerTerms, PayRun, PeriodClose, Remit};
use crate::lots::FundKind;
use crate::owners::Basis;
use crate::reports::Period;
use crate::service::{For, RemittanceSet};
use crate::settlement::CHALLENGE_S;
use crate::{AwardAsk, Failure};

pub(super) fn contract(number: &str, ceiling: Option<u32>, ends_at: Option<Timestamp>) -> Basis {
    Basis::Commercial { contract: number.into(), ceiling: ceiling.map(ucr), ends_at }
}

pub(super) fn agency(agreement: &str) -> Basis {
    Basis::Agency { agreement: agreement.into(), ceiling: None, ends_at: None }
}

pub(super) fn terms(owner: OrgId, from: Timestamp, basis: Basis) -> OwnerTerms {
    OwnerTerms { owner, from, basis, arrears: false }
}

pub(super) async fn set(world: &World, terms: OwnerTerms) -> Result<(), String> {
    world.house.act(Act::OwnerTerms(terms), None).await.map(drop).map_err(|failure| failure.to_string())
}

pub(super) async fn pay(world: &World, amount: u32, payment: &str) -> Result<(), Failure> {
    let remit = Remit { owner: LAB, amount: ucr(amount), payment: payment.into(), paid_on: world.now() };
    world.house.act(Act::Remit(remit), None).await.map(drop)
}

/// Sells a token, and settles this many calls of 10 µcr under it.
pub(super) async fn earn(world: &World, calls: u32) -> Lab {
    let mut lab = world.buy(500).await;
    for _ in 0..calls {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    lab.taken();
    lab
}

/// Payable, not payable, and why.
async fn payable(world: &World) -> (i64, i64, String) {
    let row = world.house.payables(Period::default()).await.unwrap().rows.remove(0);
    assert_eq!(row.closing_ucr, row.payable_ucr + row.not_payable_ucr, "no micro-credit vanishes");
    let show = world.house.owner_show(LAB).await.unwrap();
    assert_eq!((show.payable_ucr, show.not_payable_ucr), (row.payable_ucr, row.not_payable_ucr));
    (row.payable_ucr, row.not_payable_ucr, row.reasons)
}

async fn an_owner_is_paid_what_its_terms_allow(on: On) {
    let world = World::new(on, 10_000).await;
    earn(&world, 10).await;
    // Without terms it is counted and nothing is payable; the refusal says whose move it is, and so does a doctor.
    assert_eq!(payable(&world).await, (0, 100, "no_terms 100".into()));
    let waiting = async || crate::ops::owners_without_terms(&world.books.database(), world.now()).await.unwrap();
    assert_eq!(waiting().await, [(LAB, ucr(100))]);
    let refused = pay(&world, 1, "wire 1").await.unwrap_err();
    assert_eq!(refused.code(), comity_wire::Code::OwnerTerms);
    let Failure::OwnerTerms { what, whose_move } = refused else { panic!("{refused}") };
    assert!(what.contains("earned 100 µcr, of which 0 are payable") && whose_move.contains("--arrears"), "{what}");
    // The owner reads the same in its statement.
    let uri = format!("/v1/statement?node={NODE}");
    let (_, statement) = world.get(&uri, &secret("transport")).await;
    assert_eq!((&statement["closing"], &statement["payable"]["payable"]), (&json!(100), &json!(0)), "{statement}");
    assert_eq!(statement["payable"]["reasons"][0]["reason"], "no_terms");
    assert!(world.get("/v1/statement", &world.member).await.1["payable"].is_null(), "no business of a project's");
    // An agency: counted until there is a number.
    set(&world, OwnerTerms { arrears: true, ..terms(LAB, world.now(), agency("")) }).await.unwrap();
    assert_eq!(waiting().await, [], "they say that it is counted and not paid");
    world.pass(60).await;
    earn(&world, 2).await;
    assert_eq!(payable(&world).await, (0, 120, "no_agreement 120".into()));
    assert!(pay(&world, 1, "wire 1").await.unwrap_err().to_string().contains("no_agreement"));
    // A contract with a ceiling: from now on, and for what nobody paid before.
    world.pass(60).await;
    let ends_at = world.now().plus(DAY);
    let basis = contract("C-7", Some(150), Some(ends_at));
    set(&world, OwnerTerms { arrears: true, ..terms(LAB, world.now(), basis) }).await.unwrap();
    earn(&world, 5).await;
    assert_eq!(payable(&world).await, (150, 20, "above_ceiling 20".into()));
    pay(&world, 140, "wire 1").await.unwrap();
    assert!(pay(&world, 11, "wire 2").await.unwrap_err().to_string().contains("above_ceiling"));
    pay(&world, 10, "wire 2").await.unwrap();
    // What was sold after its end is not its business; what was sold before is paid whenever it settles.
    let mut before = world.buy(500).await;
    world.pass(DAY).await;
    earn(&world, 3).await;
    assert_eq!(payable(&world).await.2, "ended 30; above_ceiling 20");
    before.charge(before.root(), 0, PRICE);
    assert_eq!(world.claim(&before.claim(vec![before.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(payable(&world).await, (0, 60, "ended 30; above_ceiling 30".into()));
    // Recharge pays all that is sold under it; a gift is none of its business.
    let recharge = Basis::Recharge { schedule: "Core rates".into(), dated: START };
    super::recharge::record(&world, super::recharge::schedule(10, 1_000, world.now())).await.unwrap();
    set(&world, terms(LAB, world.now(), recharge)).await.unwrap();
    world.pass(60).await;
    earn(&world, 4).await;
    assert_eq!(payable(&world).await.0, 40 + 30, "what is sold in that second falls under the later terms");
    set(&world, terms(LAB, world.now(), Basis::None {})).await.unwrap();
    earn(&world, 6).await;
    assert!(payable(&world).await.2.contains("given 100"), "{:?}", payable(&world).await);
    world.sums().await;
    assert!(world.house.log_audit().await.unwrap().holds);
}

async fn terms_never_reach_into_a_closed_period(on: On) {
    let world = World::new(on, 10_000).await;
    earn(&world, 10).await;
    world.pass(DAY + 3_600).await;
    let end = START.plus(DAY);
    world.house.act(Act::PeriodClose(PeriodClose { name: "one".into(), until: end }), None).await.unwrap();
    let before = world.house.payables(Period { from: None, to: Some(end) }).await.unwrap();
    let early = set(&world, terms(LAB, end.minus(1), contract("C-1", None, None))).await.unwrap_err();
    assert!(early.contains("the books are closed up to"), "{early}");
    set(&world, OwnerTerms { arrears: true, ..terms(LAB, end, contract("C-1", None, None)) }).await.unwrap();
    let after = world.house.payables(Period { from: None, to: Some(end) }).await.unwrap();
    assert_eq!(before.rows, after.rows, "what a closed period said stays what it said");
    assert_eq!(payable(&world).await.0, 100, "and the arrears are payable in the open one");
    // Others from the same moment take the place of the first; what is wrong in itself is told.
    set(&world, OwnerTerms { arrears: true, ..terms(LAB, end, agency("IAA-1")) }).await.unwrap();
    let rows = world.house.owner_terms().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.in_force).collect::<Vec<_>>(), [false, true]);
    for wrong in [
        terms(OrgId([77; 16]), end, agency("IAA-1")),
        terms(LAB, end, contract(" ", None, None)),
        terms(LAB, end, contract("C", Some(0), None)),
        terms(LAB, end, contract("C", None, Some(end))),
        terms(LAB, end, Basis::Agency { agreement: String::new(), ceiling: Some(ucr(5)), ends_at: None }),
        OwnerTerms { arrears: true, ..terms(LAB, end, Basis::None {}) },
    ] {
        assert!(set(&world, wrong.clone()).await.is_err(), "{wrong:?}");
    }
    world.sums().await;
}

async fn a_run_pays_a_closed_period_once_and_says_for_what(on: On) {
    let world = World::new(on, 450).await;
    let federal = AwardAsk {
        kind: FundKind::Federal,
        listing: "47.070".into(),
        ends_at: START.plus(400 * DAY),
        ..world.award("F-1", 1_000)
    };
    world.house.award(federal).await.unwrap();
    set(&world, terms(LAB, START, contract("C-7", None, None))).await.unwrap();
    // 450 of the first award and 50 of the federal one are drawn for the first token.
    let mut lab = world.buy(500).await;
    lab.charge(lab.root(), 0, 460);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    lab.taken();
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    world.pass(DAY + 3_600).await;
    let end = START.plus(DAY);
    let run = |name: &str, until| {
        let run = PayRun { run: name.into(), until, paid_on: START.plus(DAY), owners: vec![] };
        world.house.act(Act::PayRun(run), None)
    };
    assert!(run("2026-11", end).await.unwrap_err().to_string().contains("closed periods"));
    world.house.act(Act::PeriodClose(PeriodClose { name: "one".into(), until: end }), None).await.unwrap();
    earn(&world, 2).await;
    pay(&world, 100, "wire 1").await.unwrap();
    draw(&world).await;
    world.pass(CHALLENGE_S).await;
    run("2026-11", end).await.unwrap();
    let remitted = |set: &RemittanceSet| {
        let parts = set.remittances.iter().flat_map(|remittance| &remittance.rows);
        parts.map(|row| (row.reference.clone(), row.fund.clone(), row.amount_ucr)).collect::<Vec<_>>()
    };
    let first = world.house.remittances("wire 1", None, For::Owner).await.unwrap();
    assert_eq!(remitted(&first), [("C-7".into(), "institutional".into(), 100)]);
    let paid = world.house.remittances("2026-11", Some(LAB), For::Owner).await.unwrap();
    let [part, other] = &remitted(&paid)[..] else { panic!("{paid:?}") };
    assert_eq!((&part.1[..], part.2, &other.1[..], other.2), ("federal", 10, "institutional", 350));
    assert_eq!((paid.net_ucr, paid.remittances[0].held_ucr), (360, 0), "what settled later is for the next run");
    let owner = &paid.remittances[0].rows[0];
    assert!(owner.subject.starts_with("sub-") && owner.award_number.is_none() && owner.project.is_none(), "{owner:?}");
    let funds = world.house.remittances("2026-11", None, For::Funds).await.unwrap();
    let federal = funds.remittances[0].rows.iter().find(|row| row.fund == "federal").unwrap();
    assert_eq!((federal.award_number.as_deref(), federal.listing.as_deref()), (Some("F-1"), Some("47.070")));
    let text = crate::reports::csv(&funds.remittances[0].rows);
    assert!(text.starts_with("owner,run,paid_on,earned_before,kind,reference,subject,fund,project,"), "{text}");
    // The same period again has nothing left, and says so.
    run("2026-11 again", end).await.unwrap();
    assert_eq!(world.house.remittances("2026-11 again", None, For::Owner).await.unwrap().remittances, []);
    assert!(run("2026-11", end.minus(1)).await.is_err());
    assert!(world.house.remittances("never", None, For::Owner).await.is_err());
    let payables = world.house.payables(Period::default()).await.unwrap().total.unwrap();
    assert_eq!((payables.remitted_ucr, payables.payable_ucr), (460, 20));
    world.sums().await;
}

/// What a dispute may come to ask for stays in the owner's account: a run leaves it, and the house reads how much that is.
async fn a_run_leaves_what_may_still_come_into_dispute(on: On) {
    let world = World::new(on, 10_000).await;
    set(&world, terms(LAB, START, contract("C-7", None, None))).await.unwrap();
    let _open = earn(&world, 7).await;
    world.pass(60).await;
    let ended = earn(&world, 10).await;
    // Two officers may pay what is open all the same; then other earnings answer for it.
    pay(&world, 60, "wire 1").await.unwrap();
    world.pass(DAY + 3_600).await;
    let until = START.plus(DAY);
    world.house.act(Act::PeriodClose(PeriodClose { name: "one".into(), until }), None).await.unwrap();
    let run = async |name: &str| {
        let run = PayRun { run: name.into(), until, paid_on: world.now(), owners: vec![] };
        world.house.act(Act::PayRun(run), None).await.unwrap();
        world.house.remittances(name, None, For::Owner).await.unwrap().net_ucr
    };
    // Payable, and of it kept.
    let kept = async || {
        let show = world.house.owner_show(LAB).await.unwrap();
        (show.payable_ucr, show.kept_ucr)
    };
    assert_eq!((kept().await, run("run 1").await), ((110, 110), 0), "neither has ended");
    assert_eq!(world.finish(ended.final_()).await.0, 200);
    assert_eq!((kept().await, run("run 2").await), ((110, 110), 0), "nobody has drawn from its claim");
    draw(&world).await;
    assert_eq!((kept().await, run("run 3").await), ((110, 110), 0), "a second final may still come");
    world.pass(CHALLENGE_S).await;
    // Of 100 that are past disputes 60 stay for what was paid too early.
    assert_eq!((kept().await, run("run 4").await), ((110, 70), 40));
    assert_eq!((kept().await, run("run 5").await), ((70, 70), 0), "once");
    // Its time to settle ends, and with it what may be said of the other one.
    world.pass(CHALLENGE_S).await;
    draw(&world).await;
    assert_eq!((kept().await, run("run 6").await), ((70, 0), 70));
    world.sums().await;
    assert!(world.house.audit().await.unwrap().holds);
}

/// Paid out, then set aside: the next payment is less by it, and when it is the owner's again it is paid.
async fn what_a_dispute_holds_lessens_the_next_payment(on: On) {
    let world = World::sampling(on, 10_000).await;
    set(&world, terms(LAB, START, contract("C-7", None, None))).await.unwrap();
    earn(&world, 10).await;
    pay(&world, 100, "wire 1").await.unwrap();
    world.house.log_advance().await.unwrap();
    assert_eq!(world.house.sweep().await.unwrap().challenged, 1);
    earn(&world, 8).await;
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
    assert_eq!(dispute.held, ucr(80), "what is still owed, and no more");
    assert_eq!(payable(&world).await, (0, 0, String::new()));
    assert_eq!(world.house.owner_show(LAB).await.unwrap().held_ucr, 80);
    assert!(pay(&world, 1, "wire 2").await.unwrap_err().to_string().contains("is owed 0"));
    end(&world, dispute, Outcome::Upheld).await;
    assert_eq!(payable(&world).await.0, 80);
    pay(&world, 80, "wire 2").await.unwrap();
    world.sums().await;
}

async fn books_from_before_know_what_they_paid(on: On) {
    let world = World::new(on, 10_000).await;
    set(&world, terms(LAB, START, contract("C-7", None, None))).await.unwrap();
    earn(&world, 10).await;
    pay(&world, 30, "wire 1").await.unwrap();
    // As the migration finds them: a payment, and no line.
    let (off, on_again) = match on {
        On::Sqlite => ("DROP TRIGGER payout_line_is_kept; DROP TRIGGER payout_is_never_changed", "SELECT 1"),
        On::Postgres => (
            "ALTER TABLE payout DISABLE TRIGGER USER; ALTER TABLE payout_line DISABLE TRIGGER USER",
            "ALTER TABLE payout ENABLE TRIGGER USER; ALTER TABLE payout_line ENABLE TRIGGER USER",
        ),
    };
    world.tamper(off).await;
    world.tamper("DELETE FROM payout_line; UPDATE payout SET lined = 0").await;
    assert_eq!(payable(&world).await.0, 70);
    world.sums().await;
    pay(&world, 70, "wire 2").await.unwrap();
    assert!(pay(&world, 1, "wire 3").await.is_err());
    world.sums().await;
    // And what the audit is for: lines that do not add up, terms that were exceeded, terms that nobody set.
    let found = async || {
        let report = world.house.audit().await.unwrap();
        report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect::<Vec<_>>()
    };
    world.tamper("UPDATE payout SET lined = 1").await;
    assert_eq!(found().await, ["PayoutDiffers"]);
    world.tamper("UPDATE payout SET lined = 0 WHERE run = 'wire 1'").await;
    assert_eq!(found().await, [""; 0]);
    world.tamper(on_again).await;
    let off = match on {
        On::Sqlite => "DROP TRIGGER owner_terms_are_never_changed",
        On::Postgres => "ALTER TABLE owner_terms DISABLE TRIGGER USER",
    };
    world.tamper(off).await;
    world.tamper("UPDATE owner_terms SET ceiling = 69").await;
    assert_eq!(found().await, ["TermsExceeded", "TermsDiffer"]);
    world.tamper("UPDATE owner_terms SET ceiling = NULL, pays = 0").await;
    assert_eq!(found().await, ["TermsExceeded", "TermsDiffer"]);
}

on_each_store! {
    an_owner_is_paid_what_its_terms_allow
    terms_never_reach_into_a_closed_period
    a_run_pays_a_closed_period_once_and_says_for_what
    a_run_leaves_what_may_still_come_into_dispute
    what_a_dispute_holds_lessens_the_next_payment
    books_from_before_know_what_they_paid
}
