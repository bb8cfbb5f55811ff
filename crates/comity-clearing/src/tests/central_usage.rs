//! What projects of a central site's grants used, as that site hears of it.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::amie::{members, usable_at_the_lab};
use super::central::{Line, central, project, turn};
use super::disputes::{claimed, disputes, draw, end};
use super::world::*;
use crate::acts::{Act, Outcome};
use crate::admin::Bind;
use crate::amie::central::Central;
use crate::service::central::{Reported, Wire, WireError};
use crate::settlement::CHALLENGE_S;

/// Two houses; of the second's members the world's own is the PI of what the first granted.
async fn spending<'w>(first: &'w World, second: &mut World) -> Line<'w> {
    let line = Line::to(first).await;
    first.house.award(usable_at_the_lab(first, "A-1")).await.unwrap();
    turn(second, &line).await;
    let act: Act = serde_json::from_str(&second.house.central_packets().await.unwrap()[0].act_body).unwrap();
    second.house.act(act, None).await.unwrap();
    turn(second, &line).await;
    turn(second, &line).await;
    second.project = project(second).await;
    let member = second.member.public();
    let bind = Bind { central: "access".into(), person: 1, member, reason: String::new() };
    second.house.central_bind(bind).await.unwrap();
    line
}

async fn report(world: &World, line: &Line<'_>) -> Reported {
    world.house.central_report(&central(), line).await.unwrap()
}

/// What the first house's books have of the second's meter: records, and µcr of service units.
async fn heard(first: &World) -> (u64, i64) {
    let rows = first.house.amie_meter("COMITY", "2026-11").await.unwrap();
    rows.first().map_or((0, 0), |row| (row.records, row.charge_ucr))
}

async fn use_is_reported_once(on: On) {
    let (first, mut second) = (World::new(on, 0).await, World::new(on, 1_000).await);
    // What other projects use is nobody's there.
    let mut own = second.buy(300).await;
    own.charge(own.root(), 0, PRICE);
    assert_eq!(second.claim(&own.claim(vec![own.acknowledge(&secret("holder"))])).await.0, 200);
    let line = spending(&first, &mut second).await;
    assert_eq!(report(&second, &line).await, Reported::default());
    let mut lab = second.buy(300).await;
    for count in [5, 2] {
        for _ in 0..count {
            lab.charge(lab.root(), 0, PRICE);
        }
        assert_eq!(second.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
        lab.taken();
    }
    // The reply is lost: the same records are sent again, and count once there.
    line.lost.store(1, Ordering::SeqCst);
    let lost = report(&second, &line).await;
    assert_eq!((lost.made, lost.taken), (2, 0));
    assert!(matches!(lost.failed, Some(WireError::Unreached { .. })));
    assert_eq!(heard(&first).await, (2, 35), "70 µcr are 35 millionths of a service unit");
    assert_eq!(report(&second, &line).await, Reported { taken: 2, ..Reported::default() });
    assert_eq!(report(&second, &line).await, Reported::default());
    assert_eq!(heard(&first).await, (2, 35));
    // It dies behind what it told.
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(second.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    let dies = std::sync::Arc::new(|point: &str| assert!(point != "central.told", "killed"));
    second.restart_failing(dies).await;
    let (told, terms) = (&line, central());
    let died = std::panic::AssertUnwindSafe(second.house.central_report(&terms, told));
    assert!(futures::FutureExt::catch_unwind(died).await.is_err());
    second.restart().await;
    assert_eq!(report(&second, &line).await.taken, 1);
    assert_eq!(heard(&first).await, (3, 40));
    let view = &second.house.central_usage().await.unwrap()[0];
    assert_eq!((view.waiting, view.taken, view.refused), (0, 3, 0));
}

async fn what_a_dispute_takes_back_is_an_adjustment(on: On) {
    let (first, mut second) = (World::new(on, 0).await, World::sampling(on, 0).await);
    let line = spending(&first, &mut second).await;
    claimed(&second, 30, 30).await;
    report(&second, &line).await;
    assert_eq!(heard(&first).await, (1, 150));
    assert_eq!(draw(&second).await, 1);
    second.pass(CHALLENGE_S).await;
    assert_eq!(second.house.sweep().await.unwrap().missed, 1);
    let dispute = &disputes(&second).await[0];
    end(&second, dispute, Outcome::Reversed).await;
    let reported = report(&second, &line).await;
    assert!(reported.taken > 0 && reported.refused == 0, "{reported:?}");
    let (_, charge) = heard(&first).await;
    let used = 3_000_000 - second.house.project_status(second.project).await.unwrap().available.ucr();
    let held = second.house.project_status(second.project).await.unwrap().in_escrow.ucr();
    assert_eq!(charge * 2, used - held, "what is heard there is what was used here");
    assert!(charge < 150, "{charge}");
}

async fn what_is_refused_is_seen(on: On) {
    let (first, mut second) = (World::new(on, 0).await, World::new(on, 0).await);
    let line = spending(&first, &mut second).await;
    let mut lab = second.buy(300).await;
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(second.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    // The resource is called otherwise there.
    let wrong = Central { resource: "another".into(), ..central() };
    let reported = second.house.central_report(&wrong, &line).await.unwrap();
    assert_eq!((reported.taken, reported.refused, reported.failed), (0, 1, None));
    let view = second.house.central_usage().await.unwrap().remove(0);
    assert!(view.refusals[0].error.contains("Resource"), "{view:?}");
    assert_eq!(second.house.central_usage_again("access".into()).await.unwrap(), 1);
    assert_eq!(second.house.central_usage().await.unwrap()[0].waiting, 1);
    members(&first, &["student"], &[]).await;
}

/// What no service unit divides is lost to nobody: the total is divided once, not each record.
async fn totals_are_divided_once(on: On) {
    let (first, mut second) = (World::new(on, 0).await, World::new(on, 0).await);
    let line = spending(&first, &mut second).await;
    let mut lab = second.buy(300).await;
    for _ in 0..4 {
        lab.charge(lab.root(), 0, 3);
        assert_eq!(second.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
        lab.taken();
    }
    assert_eq!(report(&second, &line).await.taken, 4);
    assert_eq!(heard(&first).await, (4, 6), "12 µcr at two for one");
}

/// A usage API that takes no message with a wrong record in it.
struct Strict {
    wrong: String,
    calls: AtomicU32,
    took: std::sync::Mutex<Vec<String>>,
}

impl Wire for Strict {
    async fn packets(&self) -> Result<Vec<Value>, WireError> {
        Ok(Vec::new())
    }

    async fn transaction(&self, _: u64) -> Result<Value, WireError> {
        Ok(Value::Null)
    }

    async fn send(&self, _: Value) -> Result<Value, WireError> {
        Ok(Value::Null)
    }

    async fn usage(&self, message: Value) -> Result<Value, WireError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let records = message["Records"].as_array().unwrap();
        if records.iter().any(|record| record["LocalRecordID"] == self.wrong) {
            return Err(WireError::Refused { status: 400, what: "no".into() });
        }
        let ids = records.iter().map(|record| record["LocalRecordID"].as_str().unwrap().to_owned());
        self.took.lock().unwrap().extend(ids);
        Ok(json!({ "Message": "OK", "ValidationFailedRecords": [] }))
    }
}

async fn one_wrong_record_keeps_no_other_out(on: On) {
    let (first, mut second) = (World::new(on, 0).await, World::new(on, 0).await);
    spending(&first, &mut second).await;
    let mut lab = second.buy(300).await;
    for _ in 0..7 {
        lab.charge(lab.root(), 0, PRICE);
        assert_eq!(second.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
        lab.taken();
    }
    // Which one is wrong is not known before they are made.
    struct Away;
    impl Wire for Away {
        async fn packets(&self) -> Result<Vec<Value>, WireError> {
            Ok(Vec::new())
        }
        async fn transaction(&self, _: u64) -> Result<Value, WireError> {
            Ok(Value::Null)
        }
        async fn send(&self, _: Value) -> Result<Value, WireError> {
            Ok(Value::Null)
        }
        async fn usage(&self, _: Value) -> Result<Value, WireError> {
            Err(WireError::Refused { status: 503, what: "later".into() })
        }
    }
    let later = second.house.central_report(&central(), &Away).await.unwrap();
    assert_eq!((later.made, later.taken, later.refused), (7, 0, 0), "503 is no verdict on a record");
    let sql = "SELECT record FROM central_usage ORDER BY seq LIMIT 1 OFFSET 4";
    let row = comity_ledger::db::query(sql).fetch_one(&mut second.books.connect().await.db()).await.unwrap();
    let wrong = row.text("record").unwrap();
    let strict = Strict { wrong: wrong.clone(), calls: AtomicU32::new(0), took: std::sync::Mutex::default() };
    let reported = second.house.central_report(&central(), &strict).await.unwrap();
    assert_eq!((reported.taken, reported.refused), (6, 1));
    let took = strict.took.lock().unwrap().clone();
    assert!(took.len() == 6 && !took.contains(&wrong), "each of the others, once: {took:?}");
    let view = second.house.central_usage().await.unwrap().remove(0);
    assert_eq!(view.refusals[0].record["LocalRecordID"], json!(wrong));
    assert!(strict.calls.load(Ordering::SeqCst) < 14);
    assert_eq!(second.house.central_report(&central(), &strict).await.unwrap(), Reported::default());
}

on_each_store! {
    use_is_reported_once
    what_a_dispute_takes_back_is_an_adjustment
    what_is_refused_is_seen
    totals_are_divided_once
    one_wrong_record_keeps_no_other_out
}
