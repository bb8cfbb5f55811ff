//! Credit notes: what an owner gives back of what it earned, where it goes, and what nobody can give.

use comity_wire::api::count::{BreakKind, CountReply};
use comity_wire::object::{Count, CountLine, CreditNote, CreditReason};
use comity_wire::{CreditNoteId, Digest, Timestamp, TokenId, cose};
use serde_json::{Value, json};

use super::disputes::{claimed, disputes, end};
use super::owners::{contract, earn, pay, set, terms};
use super::world::*;
use crate::acts::{Act, Outcome, PayRun, PeriodClose};
use crate::reports::Period;
use crate::settlement::credit::UNTIL_S;

fn note(world: &World, number: u8, token: TokenId, amount: u32) -> CreditNote {
    let (reason, case) = (CreditReason::Case, Some(Digest::of(b"link")));
    CreditNote { id: CreditNoteId([number; 16]), node: NODE, token, amount: ucr(amount), reason, case, at: world.now() }
}

async fn send_by(world: &World, note: &CreditNote, (signer, caller): (&str, &str)) -> (u16, Value) {
    let signed = cose::sign(note, &secret(signer));
    let bytes = comity_wire::api::clearing::SignedBytes::new(signed.bytes()).unwrap();
    world.post("/v1/credit-notes", json!({ "note": bytes }), &secret(caller)).await
}

async fn send(world: &World, note: &CreditNote) -> (u16, Value) {
    send_by(world, note, ("receipt", "transport")).await
}

async fn taken(world: &World, note: &CreditNote) -> Value {
    let (status, reply) = send(world, note).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

/// Everything that was ever written agrees with everything else.
async fn is_sound(world: &World) {
    world.house.log_advance().await.unwrap();
    let audit = world.house.log_audit().await.unwrap();
    assert!(audit.holds, "{audit:?}");
    assert!(world.house.audit().await.unwrap().holds);
}

async fn a_credit_note_gives_back_once_what_it_says(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = earn(&world, 10).await;
    assert_eq!(world.sums().await, [10_000, 100, 400, 9_500]);
    let first = note(&world, 1, lab.token.id, 30);
    let reply = taken(&world, &first).await;
    assert_eq!((&reply["amount"], &reply["returned"], &reply["left"]), (&json!(30), &json!(30), &json!(70)), "{reply}");
    assert!(reply["to_suspense"] == json!(0) && reply["content"] == json!(cose::sign(&first, &secret("receipt")).id()));
    assert_eq!(world.sums().await, [10_000, 70, 400, 9_530]);
    // Lost on its way and brought again: the same answer, and nothing more.
    world.pass(7).await;
    assert_eq!(taken(&world, &first).await, reply);
    assert_eq!(world.sums().await, [10_000, 70, 400, 9_530]);
    // One id is one note.
    let other = CreditNote { amount: ucr(31), ..first.clone() };
    assert_eq!(code(&send(&world, &other).await), "idempotency_conflict");
    // The project sees it where it looks: its status, its statement, its lots.
    let uri = format!("/v1/projects/{}", world.project);
    let (_, project) = world.get(&uri, &world.member).await;
    let [token] = &project["tokens"].as_array().unwrap()[..] else { panic!("one token") };
    assert_eq!((&token["settled"], &token["credited"]), (&json!(100), &json!(30)));
    let lot = &project["lots"][0];
    assert_eq!(
        [&lot["settled"], &lot["in_escrow"], &lot["available"]],
        [&json!(70), &json!(400), &json!(9_530)],
        "{lot}"
    );
    let (_, statement) = world.get("/v1/statement", &world.member).await;
    let line = statement["lines"].as_array().unwrap().last().unwrap();
    assert_eq!((&line["kind"], &line["amount"], &line["debit"]), (&json!("credit_note"), &json!(30), &json!(false)));
    // And the owner in its own.
    let (_, earnings) = world.get(&format!("/v1/earnings?node={NODE}"), &secret("transport")).await;
    assert_eq!(earnings["earnings"][0]["credited"], json!(30));
    let roll = world.house.roll_forward(Period::default()).await.unwrap().total.unwrap();
    assert_eq!((roll.settled_ucr, roll.credited_ucr, roll.closing_ucr), (100, 30, 9_930));
    let payables = world.house.payables(Period::default()).await.unwrap().total.unwrap();
    assert_eq!((payables.settled_ucr, payables.credited_ucr, payables.closing_ucr), (100, 30, 70));
    let journal = world.house.journal(0).await.unwrap().journal;
    assert!(journal.contains(" credit_note  ;"), "{journal}");
    let books = world.house.fund_statement(world.project, Period::default()).await.unwrap();
    assert_eq!(books.end_balance_ucr, books.available_ucr);
    // The token goes on: what it does not use comes home as ever.
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    assert_eq!(world.sums().await, [10_000, 70, 0, 9_930]);
    is_sound(&world).await;
}

async fn no_more_is_given_back_than_was_paid_and_by_nobody_else(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = earn(&world, 10).await;
    let token = lab.token.id;
    assert_eq!(code(&send(&world, &note(&world, 1, token, 501)).await), "credit_too_high", "above the budget");
    assert_eq!(
        code(&send(&world, &note(&world, 1, token, 101)).await),
        "credit_waits",
        "the rest may still be settled"
    );
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    assert_eq!(code(&send(&world, &note(&world, 1, token, 101)).await), "credit_too_high", "and now it may not");
    taken(&world, &note(&world, 1, token, 60)).await;
    let (status, refused) = send(&world, &note(&world, 2, token, 41)).await;
    assert_eq!((status, &refused["code"]), (409, &json!("credit_too_high")));
    assert!(refused["detail"].as_str().unwrap().contains("more than the 40"), "{refused}");
    // Whose key and whose word: the receipt key signs, the node itself brings it.
    let good = note(&world, 3, token, 40);
    for (signer, caller, why) in [
        ("transport", "transport", "wrong_key"),
        ("rival receipt", "transport", "wrong_key"),
        ("receipt", "rival transport", "not_yours"),
        ("receipt", "member", "not_yours"),
        ("receipt", "receipt", "not_yours"),
    ] {
        assert_eq!(code(&send_by(&world, &good, (signer, caller)).await), why, "{signer} by {caller}");
    }
    let ahead = CreditNote { at: world.now().plus(61), ..good.clone() };
    assert_eq!(code(&send(&world, &ahead).await), "not_yet_valid");
    let unknown = note(&world, 3, TokenId([9; 16]), 1);
    assert_eq!(code(&send(&world, &unknown).await), "not_found");
    taken(&world, &good).await;
    assert_eq!(code(&send(&world, &note(&world, 4, token, 1)).await), "credit_too_high");
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
    is_sound(&world).await;
}

/// A key that was good once claims for ever, and gives nothing away.
async fn a_key_that_was_rotated_out_gives_nothing_away(on: On) {
    let mut world = World::new(on, 10_000).await;
    let lab = earn(&world, 10).await;
    let good = note(&world, 1, lab.token.id, 10);
    let reply = taken(&world, &good).await;
    world.directory.insert(&rotated_certificate("transport", "receipt 2", world.now().plus(1))).unwrap();
    world.pass(60).await;
    assert_eq!(code(&send(&world, &note(&world, 2, lab.token.id, 10)).await), "wrong_key");
    // What was in the post is signed anew, and is the same note.
    assert_eq!(send_by(&world, &good, ("receipt 2", "transport")).await, (200, reply));
    let second = send_by(&world, &note(&world, 2, lab.token.id, 10), ("receipt 2", "transport")).await;
    assert_eq!(second.0, 200, "{}", second.1);
    // Nor does one whose time is over, while no newer certificate is there.
    world.sleep(91 * DAY);
    world.house.beat().await.unwrap();
    let late = send_by(&world, &note(&world, 3, lab.token.id, 10), ("receipt 2", "transport")).await;
    assert_eq!(code(&late), "wrong_key");
    assert_eq!(world.sums().await[1], 80);
    let _ = &mut world;
}

async fn a_dispute_comes_first_and_takes_only_what_is_left(on: On) {
    for outcome in [Outcome::Upheld, Outcome::Reversed] {
        let world = World::new(on, 10_000).await;
        let mut lab = claimed(&world, 5, 5).await;
        taken(&world, &note(&world, 1, lab.token.id, 20)).await;
        let receipts = lab.lanes.get_mut(&(lab.token.id(), 0)).unwrap();
        receipts.pop();
        lab.charge(lab.root(), 0, 2 * PRICE);
        assert_eq!(code(&world.claim(&lab.claim(vec![])).await), "broken_history");
        let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
        assert_eq!(dispute.held, ucr(30), "what was given back is not held a second time");
        let (status, refused) = send(&world, &note(&world, 2, lab.token.id, 5)).await;
        assert_eq!((status, &refused["code"]), (409, &json!("credit_waits")));
        assert!(refused["detail"].as_str().unwrap().contains("officers"), "{refused}");
        // A repeat of what was booked is no new note.
        taken(&world, &note(&world, 1, lab.token.id, 20)).await;
        end(&world, dispute, outcome).await;
        match outcome {
            Outcome::Upheld => {
                taken(&world, &note(&world, 2, lab.token.id, 5)).await;
                assert_eq!(world.sums().await, [10_000, 25, 4_950, 5_025]);
            }
            Outcome::Reversed => {
                assert_eq!(code(&send(&world, &note(&world, 2, lab.token.id, 1)).await), "credit_too_high");
                assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
            }
        }
        is_sound(&world).await;
    }
}

/// Paid out is no reason to keep it: it comes from what the owner is owed now, and the next payment is so much less.
async fn what_was_paid_out_is_taken_from_the_next_payment(on: On) {
    let world = World::new(on, 10_000).await;
    set(&world, terms(LAB, world.now(), contract("C-1", None, None))).await.unwrap();
    let first = earn(&world, 10).await;
    pay(&world, 100, "wire 1").await.unwrap();
    let (status, refused) = send(&world, &note(&world, 1, first.token.id, 30)).await;
    assert_eq!((status, &refused["code"]), (409, &json!("credit_waits")));
    assert!(refused["detail"].as_str().unwrap().contains("is owed 0 "), "{refused}");
    earn(&world, 5).await;
    taken(&world, &note(&world, 1, first.token.id, 30)).await;
    let row = world.house.payables(Period::default()).await.unwrap().rows.remove(0);
    assert_eq!((row.credited_ucr, row.closing_ucr, row.payable_ucr), (30, 20, 20));
    assert!(pay(&world, 21, "wire 2").await.is_err());
    // A run nets it: first what is to be taken back, then what is due.
    world.pass(DAY + 3_600).await;
    let until = START.plus(DAY);
    world.house.act(Act::PeriodClose(PeriodClose { name: "one".into(), until }), None).await.unwrap();
    let run = |name: &str| Act::PayRun(PayRun { run: name.into(), until, paid_on: world.now(), owners: vec![] });
    world.house.act(run("run 1"), None).await.unwrap();
    let set = world.house.remittances("run 1", None, crate::service::For::Owner).await.unwrap();
    assert_eq!((set.net_ucr, set.remittances.len()), (20, 1), "{set:?}");
    // Given back after the period was closed: the closed one stays, the next run nets it.
    let before = world.house.payables(Period { from: None, to: Some(until) }).await.unwrap();
    earn(&world, 4).await;
    taken(&world, &note(&world, 2, first.token.id, 10)).await;
    assert_eq!(world.house.payables(Period { from: None, to: Some(until) }).await.unwrap().rows, before.rows);
    assert_eq!(world.house.payables(Period::default()).await.unwrap().rows[0].payable_ucr, 30);
    assert_eq!(world.sums().await[1], 150);
    is_sound(&world).await;
}

async fn the_match_says_what_was_given_back(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = earn(&world, 10).await;
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    taken(&world, &note(&world, 1, lab.token.id, 30)).await;
    let (from, to) = (START.minus(DAY), START.plus(DAY));
    world.pass(2 * DAY).await;
    assert_eq!(world.house.count_ask(from, to, None).await.unwrap(), 1);
    let line = CountLine { token: lab.token.id, lanes: 1, charges: 10, charged: ucr(100) };
    let at = world.now();
    let count = Count { node: NODE, issuer: HOUSE, from, to, page: 1, pages: 1, lines: list(vec![line]), at };
    let bytes = cose::sign(&count, &secret("receipt"));
    let bytes = comity_wire::api::clearing::SignedBytes::new(bytes.bytes()).unwrap();
    let (status, reply) = world.post("/v1/counts", json!({ "count": bytes }), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    let matched = serde_json::from_value::<CountReply>(reply).unwrap().matched.unwrap();
    let breaks: Vec<_> = matched.breaks.iter().map(|found| (found.kind, found.amount)).collect();
    assert_eq!((matched.settled, breaks), (ucr(70), vec![(BreakKind::Credited, ucr(30))]));
    is_sound(&world).await;
}

/// Where a lot has ended, use-it-or-lose-it, what comes home expires with it; and after a year nothing is given back any more.
async fn what_comes_home_late_expires_and_what_comes_too_late_is_refused(on: On) {
    let world = World::new(on, 10_000).await;
    world.tamper("UPDATE award SET forfeits = 1").await;
    let lab = earn(&world, 10).await;
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    world.tamper("UPDATE lot SET ends_at = 1795430000; UPDATE award SET ends_at = 1795430000").await;
    world.pass(DAY).await;
    world.house.sweep().await.unwrap();
    taken(&world, &note(&world, 1, lab.token.id, 30)).await;
    assert_eq!(world.house.totals().await.unwrap().overall.available, ucr(30));
    world.house.sweep().await.unwrap();
    let sums = world.house.totals().await.unwrap().overall;
    assert_eq!((sums.available, sums.expired, sums.settled), (ucr(0), ucr(9_930), ucr(70)));
    is_sound(&world).await;
    let until: Timestamp = lab.token.terms.settle_by.plus(UNTIL_S);
    world.sleep(until.since(world.now()));
    world.directory.insert(&rotated_certificate("transport", "receipt", world.now().minus(1))).unwrap();
    world.house.beat().await.unwrap();
    assert_eq!(code(&send(&world, &note(&world, 2, lab.token.id, 30)).await), "closed");
}

/// Whatever is changed behind the house's back is found, by the books' audit or the log's.
async fn an_audit_finds_each_credit_note_that_was_bent(on: On) {
    for (sql, what) in [
        ("UPDATE token SET credited = credited + 1", "credit_note_differs"),
        (
            "INSERT INTO credit_note (id, note, node, token, amount, bytes, reply, taken_at) \
             SELECT zeroblob(32), zeroblob(16), node, token, 1, bytes, reply, taken_at FROM credit_note",
            "credit_note_differs",
        ),
        ("UPDATE draw SET returned = returned - 1", "draw_differs"),
    ] {
        let world = World::new(on, 10_000).await;
        let lab = earn(&world, 10).await;
        taken(&world, &note(&world, 1, lab.token.id, 30)).await;
        world.tamper(sql).await;
        let report = world.house.audit().await.unwrap();
        let found: Vec<_> = report.findings.iter().map(|found| serde_json::to_value(found.what).unwrap()).collect();
        assert!(!report.holds && found.contains(&json!(what)), "{sql}: {found:?}");
    }
}

on_each_store! {
    a_credit_note_gives_back_once_what_it_says
    no_more_is_given_back_than_was_paid_and_by_nobody_else
    a_key_that_was_rotated_out_gives_nothing_away
    a_dispute_comes_first_and_takes_only_what_is_left
    what_was_paid_out_is_taken_from_the_next_payment
    the_match_says_what_was_given_back
    what_comes_home_late_expires_and_what_comes_too_late_is_refused
    an_audit_finds_each_credit_note_that_was_bent
}
