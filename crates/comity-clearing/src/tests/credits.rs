//! Credit notes: what an owner gives back of what it earned, where it goes, and what nobody can give.

use comity_ledger::db::query;
use comity_wire::api::count::{BreakKind, CountReply};
use comity_wire::object::{Count, CountLine, CreditNote, CreditReason};
use comity_wire::{CreditNoteId, Digest, Timestamp, TokenId, cose};
use serde_json::{Value, json};

use super::disputes::{claimed, disputes, draw, end};
use super::owners::{contract, earn, pay, set, terms};
use super::world::*;
use crate::acts::{Act, Outcome, PayRun, PeriodClose};
use crate::reports::Period;
use crate::settlement::CHALLENGE_S;
use crate::settlement::credit::UNTIL_S;

pub(super) fn note(world: &World, number: u8, token: TokenId, amount: u32) -> CreditNote {
    let (reason, case) = (CreditReason::Case, Some(Digest::of(b"link")));
    CreditNote { id: CreditNoteId([number; 16]), node: NODE, token, amount: ucr(amount), reason, case, at: world.now() }
}

async fn send_by(world: &World, note: &CreditNote, (signer, caller): (&str, &str)) -> (u16, Value) {
    let signed = cose::sign(note, &secret(signer));
    let bytes = comity_wire::api::clearing::SignedBytes::new(signed.bytes()).unwrap();
    world.post("/v1/credit-notes", json!({ "note": bytes }), &secret(caller)).await
}

/// Where it waits, as long as it has to until the house looks at it again.
async fn send(world: &World, note: &CreditNote) -> (u16, Value) {
    let said = send_by(world, note, ("receipt", "transport")).await;
    if code(&said) == "credit_waits" {
        world.pass(said.1["retry_after_s"].as_u64().expect("when to come again")).await;
    }
    said
}

pub(super) async fn taken(world: &World, note: &CreditNote) -> Value {
    let (status, reply) = send(world, note).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

/// Everything that was ever written agrees with everything else.
pub(super) async fn is_sound(world: &World) {
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
        ("receipt", "rival transport", "wrong_key"),
        ("receipt", "member", "wrong_key"),
        ("receipt", "receipt", "wrong_key"),
    ] {
        assert_eq!(code(&send_by(&world, &good, (signer, caller)).await), why, "{signer} by {caller}");
    }
    let ahead = CreditNote { at: world.now().plus(61), ..good.clone() };
    assert_eq!(code(&send(&world, &ahead).await), "not_yet_valid");
    // Another node, also of the same owner, gives nothing of what this one was paid.
    world.directory.insert(&second_certificate()).unwrap();
    let second = CreditNote { node: SECOND_NODE, ..good.clone() };
    assert_eq!(code(&send_by(&world, &second, ("second receipt", "second transport")).await), "not_yours");
    let unknown = note(&world, 3, TokenId([9; 16]), 1);
    assert_eq!(code(&send(&world, &unknown).await), "not_found");
    taken(&world, &good).await;
    assert_eq!(code(&send(&world, &note(&world, 4, token, 1)).await), "credit_too_high");
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
    is_sound(&world).await;
}

/// A node has new keys before every house has heard of them: no last word.
async fn a_house_that_has_not_heard_of_a_new_key_says_nothing_for_good(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = earn(&world, 10).await;
    let good = note(&world, 1, lab.token.id, 10);
    let (status, refused) = send_by(&world, &good, ("receipt 2", "transport 2")).await;
    assert_eq!((status, &refused["code"]), (401, &json!("wrong_key")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("bring it again"), "{refused}");
    world.directory.insert(&rotated_certificate("transport 2", "receipt 2", world.now().plus(1))).unwrap();
    world.pass(60).await;
    assert_eq!(send_by(&world, &good, ("receipt 2", "transport 2")).await.0, 200);
    is_sound(&world).await;
}

/// All that an owner has under way is added up for a note: one that waits is told when to come again, and is not decided before.
async fn a_note_that_waits_is_not_decided_again_before_its_time(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = earn(&world, 10).await;
    let bring = async |note: &CreditNote| send_by(&world, note, ("receipt", "transport")).await;
    let early = note(&world, 1, lab.token.id, 120);
    let (status, refused) = bring(&early).await;
    assert_eq!((status, &refused["code"], &refused["retry_after_s"]), (409, &json!("credit_waits"), &json!(60)));
    // What it waited for came; it has its answer for a minute all the same, and others of the owner have theirs.
    let mut lab = lab;
    for _ in 0..5 {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    world.pass(20).await;
    let (_, again) = bring(&early).await;
    assert_eq!((&again["detail"], &again["retry_after_s"]), (&refused["detail"], &json!(40)), "{again}");
    taken(&world, &note(&world, 2, lab.token.id, 10)).await;
    world.pass(40).await;
    assert_eq!(bring(&early).await.0, 200);
    // One that has waited for long is looked at less often.
    world.pass(8 * 600).await;
    let late = CreditNote { at: world.now().minus(8 * 600), ..note(&world, 3, lab.token.id, 300) };
    assert_eq!(bring(&late).await.1["retry_after_s"], json!(600));
    is_sound(&world).await;
}

/// What a note has to leave alone is found by its owner, however much the house has of others.
async fn what_a_note_leaves_alone_is_found_by_its_owner(on: On) {
    let world = World::new(on, 10_000).await;
    let sql = crate::store::credits::DISPUTABLE;
    let (explain, sql) = match on {
        On::Sqlite => ("EXPLAIN QUERY PLAN ", sql.replace("?1", "zeroblob(16)").replace("?2", "5")),
        On::Postgres => ("EXPLAIN ", sql.replace("?1", "decode(repeat('00', 16), 'hex')").replace("?2", "5")),
    };
    let mut conn = world.books.connect().await;
    if on == On::Postgres {
        // Which it would take, had it a million rows.
        query("SET enable_seqscan = off").execute(&mut conn.db()).await.unwrap();
    }
    let column = if on == On::Sqlite { "detail" } else { "QUERY PLAN" };
    let plan = query(format!("{explain}{sql}")).fetch_all(&mut conn.db()).await.unwrap();
    let steps: Vec<String> = plan.iter().map(|row| row.text(column).unwrap()).collect();
    for index in ["token_disputable", "token_by_final", "dispute_by_token", "payout_line_by_owner"] {
        assert!(steps.iter().any(|step| step.contains(index)), "{index}: {steps:#?}");
    }
    match on {
        On::Sqlite => {
            let by_id = |step: &String| step.starts_with("SEARCH t USING PRIMARY KEY");
            assert!(steps.iter().any(by_id), "{steps:#?}");
            // Only what was found of the owner is walked through.
            let walks = |step: &&String| step.starts_with("SCAN") && *step != "SCAN w" || step.contains("AUTOMATIC");
            assert_eq!(steps.iter().find(walks), None, "{steps:#?}");
        }
        On::Postgres => assert!(!steps.iter().any(|step| step.contains("Seq Scan on ")), "{steps:#?}"),
    }
}

/// What a token has to be decided is counted beside it, and its newest final has its time there: as in the rows themselves, whatever the
/// house does, and in books from before.
async fn what_is_to_be_decided_of_a_token_is_counted_beside_it(on: On) {
    let world = World::sampling(on, 10_000).await;
    let stands = async |why: &str| {
        let sql = "SELECT t.undecided, (SELECT COUNT(*) FROM claim c WHERE c.token = t.id AND c.drawn = 0) + \
                   (SELECT COUNT(*) FROM challenge h WHERE h.token = t.id AND h.state = 0) + \
                   (SELECT COUNT(*) FROM dispute d WHERE d.token = t.id AND d.state = 0) AS counted, \
                   COALESCE(t.final_at, -1) AS final_at, \
                   COALESCE((SELECT MAX(f.taken_at) FROM final f WHERE f.token = t.id), -1) AS newest FROM token t";
        let mut conn = world.books.connect().await;
        let rows = query(sql).fetch_all(&mut conn.db()).await.unwrap();
        let number = |row: &comity_ledger::db::Row, name| row.int(name).unwrap();
        for row in &rows {
            assert_eq!(number(row, "undecided"), number(row, "counted"), "{why}");
            assert_eq!(number(row, "final_at"), number(row, "newest"), "{why}");
        }
        rows.iter().map(|row| (number(row, "undecided"), number(row, "final_at") >= 0)).collect::<Vec<_>>()
    };
    let mut lab = claimed(&world, 5, 5).await;
    assert_eq!(stands("a claim that nobody drew from").await, [(1, false)]);
    world.house.log_advance().await.unwrap();
    assert_eq!(world.house.sweep().await.unwrap().challenged, 1);
    assert_eq!(stands("drawn from, and asked").await, [(1, false)]);
    world.pass(CHALLENGE_S).await;
    assert_eq!(world.house.sweep().await.unwrap().missed, 1);
    assert_eq!(stands("not shown: a dispute").await, [(1, false)]);
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    assert_eq!(stands("and another claim").await, [(2, false)]);
    let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
    end(&world, dispute, Outcome::Upheld).await;
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    assert_eq!(stands("ended by two officers, and by a final").await, [(1, true)]);
}

/// Books from before know of no token what is to be decided of it.
async fn books_from_before_count_what_is_to_be_decided(on: On) {
    let books = Books::empty(on).await;
    comity_ledger::books::migrate(&books.database(), crate::store::migrations_until(584)).await.unwrap();
    for sql in [
        "INSERT INTO token (id, node, owner, budget, \"window\", lanes_max, issued_at, expires_at, settle_by, request) \
         VALUES (zeroblob(16), zeroblob(16), zeroblob(16), 5, 5, 1, 1, 2, 3, zeroblob(32))",
        "INSERT INTO claim (id, token, number, bytes, reply, taken_at, drawn) VALUES (zeroblob(32), zeroblob(16), 1, x'00', '', 5, 1)",
        "INSERT INTO claim (id, token, number, bytes, reply, taken_at, drawn) VALUES \
         (x'0101010101010101010101010101010101010101010101010101010101010101', zeroblob(16), 2, x'00', '', 6, 0)",
        "INSERT INTO final (id, token, bytes, taken_at) VALUES (zeroblob(32), zeroblob(16), x'00', 7)",
        "INSERT INTO final (id, token, bytes, taken_at) SELECT id, token, bytes, 9 FROM claim WHERE number = 2",
        "INSERT INTO dispute (id, token, cause, evidence, held, opened_at, state) \
         VALUES (zeroblob(32), zeroblob(16), 'why', zeroblob(32), 0, 8, 0)",
    ] {
        books.tamper(sql).await;
    }
    comity_ledger::books::migrate(&books.database(), crate::store::migrations()).await.unwrap();
    let mut conn = books.connect().await;
    let row = query("SELECT undecided, final_at FROM token").fetch_one(&mut conn.db()).await.unwrap();
    assert_eq!((row.int("undecided").unwrap(), row.int("final_at").unwrap()), (2, 9));
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
        let first = note(&world, 1, lab.token.id, 20);
        taken(&world, &first).await;
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
        taken(&world, &first).await;
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

/// Paid out is no reason to keep it: it comes from what the owner is owed for others, once nobody can dispute these, and the next
/// payment is so much less.
async fn what_was_paid_out_is_taken_from_the_next_payment(on: On) {
    let world = World::new(on, 10_000).await;
    set(&world, terms(LAB, world.now(), contract("C-1", None, None))).await.unwrap();
    let first = earn(&world, 10).await;
    pay(&world, 100, "wire 1").await.unwrap();
    assert_eq!(world.finish(first.final_()).await.0, 200);
    let given = note(&world, 1, first.token.id, 30);
    let waits = async |why: &str| {
        let (status, refused) = send(&world, &given).await;
        assert_eq!((status, &refused["code"]), (409, &json!("credit_waits")), "{why}: {refused}");
        assert!(refused["detail"].as_str().unwrap().contains(why), "{why}: {refused}");
    };
    waits("is owed 0 ").await;
    let second = earn(&world, 5).await;
    waits("is owed 50 µcr now").await;
    // Its end is not the end of what may be said of it, nor is time alone: its claim has to be drawn from.
    assert_eq!(world.finish(second.final_()).await.0, 200);
    waits("0 cr is free").await;
    world.pass(CHALLENGE_S).await;
    waits("0 cr is free").await;
    draw(&world).await;
    taken(&world, &given).await;
    let row = world.house.payables(Period::default()).await.unwrap().rows.remove(0);
    assert_eq!((row.credited_ucr, row.closing_ucr, row.payable_ucr), (30, 20, 20));
    assert!(pay(&world, 21, "wire 2").await.is_err());
    // A run nets it: first what is to be taken back, then what is due.
    world.pass(3_600).await;
    let until = START.plus(3 * DAY);
    world.house.act(Act::PeriodClose(PeriodClose { name: "one".into(), until }), None).await.unwrap();
    let run = |name: &str| Act::PayRun(PayRun { run: name.into(), until, paid_on: world.now(), owners: vec![] });
    let before = world.house.payables(Period { from: None, to: Some(until) }).await.unwrap();
    world.house.act(run("run 1"), None).await.unwrap();
    let set = world.house.remittances("run 1", None, crate::service::For::Owner).await.unwrap();
    assert_eq!((set.net_ucr, set.remittances.len()), (20, 1), "{set:?}");
    // Given back after the period was closed: the closed one stays, the next run nets it.
    let fourth = earn(&world, 4).await;
    assert_eq!(world.finish(fourth.final_()).await.0, 200);
    draw(&world).await;
    world.pass(CHALLENGE_S).await;
    taken(&world, &note(&world, 2, first.token.id, 10)).await;
    assert_eq!(world.house.payables(Period { from: None, to: Some(until) }).await.unwrap().rows, before.rows);
    assert_eq!(world.house.payables(Period::default()).await.unwrap().rows[0].payable_ucr, 30);
    assert_eq!(world.sums().await[1], 150);
    is_sound(&world).await;
}

/// An owner gives back to a friend what it was paid out, before somebody else finds out what its other token was worth.
async fn a_note_leaves_what_a_dispute_about_another_token_takes(on: On) {
    let world = World::new(on, 10_000).await;
    set(&world, terms(LAB, world.now(), contract("C-1", None, None))).await.unwrap();
    let friend = earn(&world, 10).await;
    assert_eq!(world.finish(friend.final_()).await.0, 200);
    pay(&world, 100, "wire 1").await.unwrap();
    let mut other = claimed(&world, 5, 5).await;
    let own = earn(&world, 3).await;
    draw(&world).await;
    // What the third token itself has is its own to give.
    assert_eq!(code(&send(&world, &note(&world, 1, friend.token.id, 1)).await), "credit_waits");
    taken(&world, &note(&world, 2, own.token.id, 10)).await;
    let receipts = other.lanes.get_mut(&(other.token.id(), 0)).unwrap();
    receipts.pop();
    other.charge(other.root(), 0, 2 * PRICE);
    assert_eq!(code(&world.claim(&other.claim(vec![])).await), "broken_history");
    let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
    assert_eq!(dispute.held, ucr(50), "all that was paid under the token is there");
    assert_eq!(code(&send(&world, &note(&world, 1, friend.token.id, 1)).await), "credit_waits");
    taken(&world, &note(&world, 3, own.token.id, 10)).await;
    end(&world, dispute, Outcome::Reversed).await;
    // What is left is still under way.
    assert_eq!(code(&send(&world, &note(&world, 1, friend.token.id, 1)).await), "credit_waits");
    assert_eq!(world.finish(own.final_()).await.0, 200);
    world.pass(CHALLENGE_S).await;
    taken(&world, &note(&world, 1, friend.token.id, 1)).await;
    assert_eq!(world.sums().await[1], 100 + 10 - 1);
    is_sound(&world).await;
}

/// A house that pays before its windows are over has taken that risk itself; what is left to a dispute then, a note on a token that
/// was paid out does not take as well.
async fn a_note_leaves_what_a_dispute_about_a_token_that_was_paid_out_takes(on: On) {
    let world = World::new(on, 10_000).await;
    set(&world, terms(LAB, world.now(), contract("C-1", None, None))).await.unwrap();
    let friend = earn(&world, 10).await;
    assert_eq!(world.finish(friend.final_()).await.0, 200);
    let mut other = claimed(&world, 5, 5).await;
    pay(&world, 150, "wire 1").await.unwrap();
    let later = earn(&world, 8).await;
    assert_eq!(world.finish(later.final_()).await.0, 200);
    draw(&world).await;
    world.pass(CHALLENGE_S).await;
    assert_eq!(code(&send(&world, &note(&world, 1, friend.token.id, 31)).await), "credit_waits");
    taken(&world, &note(&world, 2, friend.token.id, 30)).await;
    let receipts = other.lanes.get_mut(&(other.token.id(), 0)).unwrap();
    receipts.pop();
    other.charge(other.root(), 0, 2 * PRICE);
    assert_eq!(code(&world.claim(&other.claim(vec![])).await), "broken_history");
    let [dispute] = &disputes(&world).await[..] else { panic!("one dispute") };
    assert_eq!(dispute.held, ucr(50));
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
        ("UPDATE token SET undecided = 0", "dispute_differs"),
        ("UPDATE token SET final_at = 5", "dispute_differs"),
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
    a_house_that_has_not_heard_of_a_new_key_says_nothing_for_good
    a_key_that_was_rotated_out_gives_nothing_away
    a_note_that_waits_is_not_decided_again_before_its_time
    what_a_note_leaves_alone_is_found_by_its_owner
    what_is_to_be_decided_of_a_token_is_counted_beside_it
    books_from_before_count_what_is_to_be_decided
    a_dispute_comes_first_and_takes_only_what_is_left
    what_was_paid_out_is_taken_from_the_next_payment
    a_note_leaves_what_a_dispute_about_another_token_takes
    a_note_leaves_what_a_dispute_about_a_token_that_was_paid_out_takes
    the_match_says_what_was_given_back
    what_comes_home_late_expires_and_what_comes_too_late_is_refused
    an_audit_finds_each_credit_note_that_was_bent
}
