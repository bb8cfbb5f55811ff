//! The life of credit: lots, their dates and restrictions, and the two persons behind what is done to them.

use comity_ledger::db::query;
use comity_ledger::{AccountCode, Group, LedgerTx, NewAccount, Transfer, TransferId, TransferKind, books};
use comity_wire::api::clearing::LotStatus;
use comity_wire::object::Token;
use comity_wire::{Amount, Digest, LotId, Op, ProjectId, SecretKey, TokenId};
use serde_json::{Value, json};

use super::world::*;
use crate::acts::{Act, Extend, Move, Officer, OfficerAdd, PartAsk, Release, Supplement, Withdraw};
use crate::failure::Failure;
use crate::lots::FundKind;
use crate::store::money;
use crate::{AwardAsk, ProjectAdd};

async fn lots(world: &World) -> Vec<LotStatus> {
    let lots = world.house.project_status(world.project).await.unwrap().lots;
    for lot in &lots {
        let here = [lot.unreleased, lot.available, lot.in_escrow, lot.settled, lot.expired, lot.taken_back];
        assert_eq!(Amount::sum(here), Some(lot.amount), "{lot:?}");
    }
    lots
}

/// (award number, available, in escrow, settled) of each lot.
async fn stand(world: &World) -> Vec<(String, i64, i64, i64)> {
    let lots = lots(world).await;
    lots.iter().map(|l| (l.award_number.clone(), l.available.ucr(), l.in_escrow.ucr(), l.settled.ucr())).collect()
}

fn is(lots: &[(&str, i64, i64, i64)]) -> Vec<(String, i64, i64, i64)> {
    lots.iter()
        .map(|(award, available, in_escrow, settled)| ((*award).into(), *available, *in_escrow, *settled))
        .collect()
}

fn part(amount: u32, after_report: bool) -> PartAsk {
    PartAsk { amount: ucr(amount), opens_at: None, ends_at: None, after_report }
}

async fn act(world: &World, act: Act) -> Result<crate::service::ActReply, Failure> {
    world.house.act(act, None).await
}

async fn a_token_is_drawn_from_restricted_lots_first_and_its_rest_goes_back_to_them(on: On) {
    let world = World::new(on, 0).await;
    let late = AwardAsk { ends_at: START.plus(300 * DAY), ..world.award("late", 1_000) };
    let soon = AwardAsk {
        ends_at: START.plus(100 * DAY),
        kind: FundKind::Federal,
        listing: "47.070".into(),
        ..world.award("soon", 200)
    };
    let tied =
        AwardAsk { ends_at: START.plus(200 * DAY), owners: vec![LAB], ops: vec![Op::Chat], ..world.award("tied", 100) };
    let rival = AwardAsk { ends_at: START.plus(250 * DAY), owners: vec![RIVAL], ..world.award("rival", 5_000) };
    for ask in [late, soon, tied, rival] {
        world.house.award(ask).await.unwrap();
    }
    let mut lab = world.buy(400).await;
    assert_eq!(
        stand(&world).await,
        is(&[("soon", 0, 200, 0), ("tied", 0, 100, 0), ("rival", 5_000, 0, 0), ("late", 900, 100, 0)])
    );
    // 150 µcr of work: all of the restricted lot, then what ends first.
    for _ in 0..15 {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(world.finish(lab.final_()).await.1["refunded"], json!(250));
    let home = is(&[("soon", 150, 0, 50), ("tied", 0, 0, 100), ("rival", 5_000, 0, 0), ("late", 1_000, 0, 0)]);
    assert_eq!(stand(&world).await, home);
    world.sums().await;
    // What no lot of this project may be used for here is not available here, and the refusal names the lot.
    let refused = world.post("/v1/reservations", world.reservation(&world.quote().await, 2_000), &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (402, "balance_too_low"));
    assert_eq!(refused.1["available_ucr"], json!(1_150));
    assert_eq!(refused.1["unusable"][0]["reason"]["why"], json!("other_owner"), "{}", refused.1);
    assert!(
        refused.1["detail"].as_str().unwrap().contains("award rival, which is for other owners' models"),
        "{}",
        refused.1
    );
    let (_, statement) = world.get("/v1/statement", &world.member).await;
    assert_eq!(statement["closing"], json!(6_150), "{statement}");
}

async fn refused(world: &World, asked: u32) -> String {
    let ask = world.reservation(&world.quote().await, asked);
    let refused = world.post("/v1/reservations", ask, &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (402, "balance_too_low"), "{}", refused.1);
    refused.1["detail"].as_str().unwrap().to_owned()
}

async fn credits_are_used_within_their_period(on: On) {
    let world = World::new(on, 0).await;
    let asks = [
        AwardAsk { starts_at: Some(START.plus(10 * DAY)), ..world.award("next year", 500) },
        AwardAsk { ends_at: START.plus(600), ..world.award("ends soon", 300) },
    ];
    for ask in asks {
        world.house.award(ask).await.unwrap();
    }
    // A token does not outlive what pays it, though an hour was asked for.
    let lab = world.buy(100).await;
    assert_eq!(lab.token.expires_at, START.plus(600));
    assert!(
        lab.token.terms.settle_by
            >= lab.token.expires_at.plus(u64::from(lab.token.terms.longest_op_s) + Token::SETTLE_S_MIN)
    );
    assert!(
        refused(&world, 250).await.contains("award next year, which opens at 2026-12-03"),
        "{}",
        refused(&world, 250).await
    );
    world.pass(541).await;
    let why = refused(&world, 250).await;
    assert!(why.contains("award ends soon, which ended at"), "{why}");
    let closed: Vec<_> = lots(&world).await.into_iter().map(|lot| lot.closed.unwrap_or_default()).collect();
    assert!(closed[0].starts_with("ended at") && closed[1].starts_with("opens at"), "{closed:?}");
    world.pass(10 * DAY).await;
    world.buy(250).await;
    world.sums().await;
}

async fn half_now_and_half_after_a_report(on: On) {
    let world = World::new(on, 0).await;
    let ask = AwardAsk { parts: vec![part(600, false), part(400, true)], ..world.award("A-1", 1_000) };
    let Act::Award(ask) = Act::Award(ask) else { unreachable!() };
    let given = act(&world, Act::Award(ask.clone())).await.unwrap();
    let (award, waiting) = (given.award.unwrap(), given.lots[1]);
    // The same act again is the same award.
    assert!(act(&world, Act::Award(ask)).await.unwrap().done);
    assert_eq!(world.sums().await, [1_000, 0, 0, 600]);
    let refused = world.post("/v1/reservations", world.reservation(&world.quote().await, 700), &world.member).await;
    assert_eq!(refused.1["available_ucr"], json!(600), "{}", refused.1);

    let release = || Act::Release(Release { lot: waiting, report: "annual report 2026".into() });
    act(&world, release()).await.unwrap();
    assert!(act(&world, release()).await.unwrap().done, "the same act again changes nothing");
    let other = Act::Release(Release { lot: waiting, report: "another".into() });
    assert!(matches!(act(&world, other).await, Err(Failure::Invalid { .. })));
    assert_eq!(world.sums().await, [1_000, 0, 0, 1_000]);

    let supplement = Supplement { award, number: "S-1".into(), part: part(50, false) };
    act(&world, Act::Supplement(supplement.clone())).await.unwrap();
    let more = Supplement { part: part(60, false), ..supplement };
    assert!(act(&world, Act::Supplement(more)).await.is_err(), "one number is one supplement");
    // A part with an end of its own keeps it.
    let short = PartAsk { ends_at: Some(START.plus(9 * DAY)), ..part(7, false) };
    act(&world, Act::Supplement(Supplement { award, number: "S-2".into(), part: short })).await.unwrap();
    let extend = Extend { award, ends_at: START.plus(400 * DAY), reason: "no-cost extension".into() };
    assert_eq!(act(&world, Act::Extend(extend)).await.unwrap().lots.len(), 3);
    let ends: Vec<_> = lots(&world).await.iter().map(|lot| lot.ends_at).collect();
    let long = START.plus(400 * DAY);
    assert_eq!(ends, [START.plus(9 * DAY), long, long, long]);
    assert_eq!(world.sums().await, [1_057, 0, 0, 1_057]);
}

async fn credits_move_under_their_award_and_go_back_where_they_came_from(on: On) {
    let world = World::new(on, 0).await;
    let ask = AwardAsk { ops: vec![Op::Chat], ..world.award("A-1", 1_000) };
    let given = act(&world, Act::Award(ask)).await.unwrap();
    let lot = given.lots[0];
    let other = ProjectId([8; 16]);
    let add = ProjectAdd { id: Some(other), title: "Tides".into(), purposes: vec![], members: vec![] };
    world.house.project_add(add).await.unwrap();
    let ask = Move { lot, to: other, amount: ucr(300), reason: "letter of 3 May".into() };
    act(&world, Act::Move(ask.clone())).await.unwrap();
    let moved = world.house.project_status(other).await.unwrap();
    assert_eq!((moved.awarded, moved.available), (ucr(300), ucr(300)));
    assert_eq!((&moved.lots[0].award_number[..], &moved.lots[0].ops[..]), ("A-1", &[Op::Chat][..]));
    let again = Move { amount: ucr(200), ..ask };
    assert!(
        matches!(act(&world, Act::Move(again.clone())).await, Err(Failure::Invalid { .. })),
        "one reason, one move"
    );
    let too_much = Move { amount: ucr(701), reason: "letter of 4 May".into(), ..again };
    assert!(
        matches!(act(&world, Act::Move(too_much)).await, Err(Failure::BalanceTooLow { available, .. }) if available == ucr(700))
    );

    let ask = Withdraw { lot, amount: ucr(100), reason: "audit finding 7".into() };
    act(&world, Act::Withdraw(ask.clone())).await.unwrap();
    let other_amount = Withdraw { amount: ucr(90), ..ask };
    assert!(matches!(act(&world, Act::Withdraw(other_amount)).await, Err(Failure::Invalid { .. })));
    let mine = lots(&world).await;
    assert_eq!((mine[0].available, mine[0].taken_back), (ucr(600), ucr(400)));
    assert_eq!(world.sums().await, [900, 0, 0, 900]);
}

async fn what_is_not_used_in_its_time_expires_also_what_comes_home_later(on: On) {
    let world = World::new(on, 0).await;
    let ends_at = START.plus(2 * 3600);
    let parts = vec![part(400, false), part(100, true)];
    world.house.award(AwardAsk { use_or_lose: true, ends_at, parts, ..world.award("lose", 500) }).await.unwrap();
    world.house.award(AwardAsk { ends_at, ..world.award("keep", 1) }).await.unwrap();
    let lab = world.buy(300).await;
    world.pass(2 * 3600 - 120).await;
    assert_eq!(world.house.sweep().await.unwrap().expired, Amount::ZERO);
    world.pass(120).await;
    assert_eq!(world.house.sweep().await.unwrap().expired, ucr(200));
    assert_eq!(world.house.sweep().await.unwrap().expired, Amount::ZERO);
    assert_eq!(world.finish(lab.final_()).await.1["refunded"], json!(300));
    assert_eq!(world.house.sweep().await.unwrap().expired, ucr(300));
    let expired: Amount = Amount::sum(lots(&world).await.iter().map(|lot| lot.expired)).unwrap();
    assert_eq!(expired, ucr(500));
    assert_eq!(world.sums().await, [501, 0, 0, 1]);
}

async fn a_frozen_award_is_not_drawn_upon(on: On) {
    let world = World::new(on, 1_000).await;
    let award = lots(&world).await[0].award;
    world.house.award_freeze(award, true).await.unwrap();
    let refused = world.post("/v1/reservations", world.reservation(&world.quote().await, 1), &world.member).await;
    assert!(refused.1["detail"].as_str().unwrap().contains("which is frozen"), "{}", refused.1);
    world.house.award_freeze(award, false).await.unwrap();
    world.buy(1).await;
}

/// A class on one award: all ask at once, and are served together; not one credit too many, and none left over.
async fn a_class_shares_one_award_to_the_last_credit(on: On) {
    let world = World::new(on, 1_000).await;
    let quote = world.quote().await;
    let asks: Vec<Value> = (0..300).map(|_| world.reservation(&quote, 4)).collect();
    let calls = asks.into_iter().map(|ask| world.post("/v1/reservations", ask, &world.member));
    let all = futures::future::join_all(calls).await;
    assert_eq!(all.iter().filter(|reply| reply.0 == 200).count(), 250);
    assert!(all.iter().filter(|reply| reply.0 != 200).all(|reply| code(reply) == "balance_too_low"));
    assert_eq!(world.sums().await, [1_000, 0, 1_000, 0]);
}

fn officer(name: &str) -> SecretKey {
    secret(&format!("officer {name}"))
}

async fn register(world: &World, name: &str) {
    let ask =
        OfficerAdd { officer: Officer { key: officer(name).public(), name: name.into() }, reason: "hired".into() };
    assert!(act(world, Act::OfficerAdd(ask)).await.unwrap().done);
}

async fn awards_need_two_persons_once_two_are_registered(on: On) {
    let world = World::new(on, 0).await;
    register(&world, "Ann").await;
    register(&world, "Bob").await;
    let ask = Act::Award(world.award("A-1", 1_000));
    let by = |name: &str| Some(ask.sign(&officer(name)));
    let conflict = |result: Result<_, Failure>| match result {
        Err(Failure::DutyConflict { what }) => what,
        other => panic!("{other:?}"),
    };
    assert!(conflict(world.house.act(ask.clone(), None).await).contains("must sign"));
    assert!(conflict(world.house.act(ask.clone(), by("Eve")).await).contains("no officer"));
    let body = json!({ "act": ask, "by": by("Eve") });
    let request = http::Request::post("/admin/acts").body(axum::body::Body::from(body.to_string())).unwrap();
    let refused = tower::ServiceExt::oneshot(world.house.admin_router(), request).await.unwrap();
    let body = http_body_util::BodyExt::collect(refused.into_body()).await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], json!("duty_conflict"));
    let proposed = world.house.act(ask.clone(), by("Ann")).await.unwrap();
    assert!(!proposed.done);
    assert_eq!(world.sums().await, [0, 0, 0, 0]);
    assert!(conflict(world.house.act(ask.clone(), by("Ann")).await).contains("second person"));
    assert!(world.house.act(ask.clone(), by("Bob")).await.unwrap().done);
    assert!(world.house.act(ask.clone(), by("Bob")).await.unwrap().done, "done once, whoever brings it again");
    assert_eq!(world.sums().await, [1_000, 0, 0, 1_000]);
    let record = world.house.acts().await.unwrap().into_iter().find(|act| act.id == proposed.id).unwrap();
    assert_eq!(record.proposed_by.unwrap().officer, officer("Ann").public());
    assert_eq!(record.approved_by.unwrap().officer, officer("Bob").public());

    // One that waits can be taken back; what was done cannot, and what was signed is what stands in the books.
    let ask = Act::Award(world.award("A-2", 7));
    let waits = world.house.act(ask.clone(), Some(ask.sign(&officer("Bob")))).await.unwrap();
    world.house.act_drop(waits.id).await.unwrap();
    assert!(matches!(world.house.act_drop(proposed.id).await, Err(Failure::NotFound { .. })));
    let mut conn = world.books.connect().await;
    for sql in ["UPDATE act SET body = '{}' WHERE state = 1", "DELETE FROM act WHERE state = 1"] {
        assert!(query(sql).execute(&mut conn.db()).await.is_err(), "{sql}");
    }
    drop(conn);
    // And where the tables' own guards are gone, the audit says so.
    let guards = match on {
        On::Sqlite => "DROP TRIGGER act_is_never_changed; DROP TRIGGER act_is_kept",
        On::Postgres => "DROP TRIGGER act_is_never_changed ON act; DROP TRIGGER act_is_kept ON act",
    };
    world.tamper(guards).await;
    let award = "(SELECT id FROM act WHERE kind = 'award')";
    for (sql, finding) in [
        (format!("UPDATE act SET proposal = approval WHERE id = {award}"), "ActDiffers"),
        (format!("UPDATE act SET body = body || ' ' WHERE id = {award}"), "ActDiffers"),
        (format!("DELETE FROM act WHERE id = {award}"), "ActMissing"),
    ] {
        query(sql.clone()).execute(&mut world.books.connect().await.db()).await.unwrap();
        let found = world.house.audit().await.unwrap().findings;
        assert_eq!(found.iter().map(|found| format!("{:?}", found.what)).collect::<Vec<_>>(), [finding], "{sql}");
    }
}

/// Books from before there were lots: awards went into one account of the project, and tokens were drawn from that.
async fn books_from_before_lots_go_on(on: On) {
    let books = Books::empty(on).await;
    let database = books.database();
    books::migrate(&database, crate::store::migrations_until(503)).await.unwrap();
    let project = ProjectId([7; 16]);
    let (token, holder) = (TokenId([0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0]), secret("holder").public());
    let (awards, pool) = ([[1; 16], [2; 16]], LotId(project.0));
    let mut conn = database.connect().await.unwrap();
    let mut tx = conn.write().await.unwrap();
    let mut db = tx.db();
    let id = project.0.to_vec();
    let insert = "INSERT INTO project (id, title, purposes, created_at) VALUES (?, 'Weather', '[\"research\"]', ?)";
    query(insert).bind(id.clone()).bind(START.0 as i64).execute(&mut db).await.unwrap();
    let insert = "INSERT INTO member (project, key, added_at) VALUES (?, ?, 0)";
    query(insert).bind(id.clone()).bind(secret("member").public().as_bytes().to_vec()).execute(&mut db).await.unwrap();
    let mut transfers = Vec::new();
    let transfer =
        |kind, parts: &[&[u8]], debit: NewAccount, credit: NewAccount, amount, reference: [u8; 16]| Transfer {
            id: TransferId::derive(kind, parts),
            kind,
            debit: debit.id,
            credit: credit.id,
            amount: ucr(amount),
            reference: money::reference(reference),
            evidence: Digest::of(b"A-1"),
        };
    for (award, (amount, days)) in awards.iter().zip([(700_u32, 100_i64), (300, 200)]) {
        let insert = "INSERT INTO award (id, project, amount, funder, award_number, ends_at, awarded_at) VALUES (?, ?, ?, 'NSF', ?, ?, ?)";
        query(insert)
            .bind(award.to_vec())
            .bind(id.clone())
            .bind(i64::from(amount))
            .bind(format!("old {amount}"))
            .bind(START.0 as i64 + days * DAY as i64)
            .bind(START.0 as i64)
            .execute(&mut db)
            .await
            .unwrap();
        let lot = money::unreleased(LotId(*award));
        transfers.push(transfer(TransferKind::Award, &[award], money::issuance(), lot, amount, *award));
        transfers.push(transfer(TransferKind::Allocate, &[award], lot, money::allocation(pool), amount, *award));
    }
    let terms = old_token(token, holder);
    // Ids of escrows were digests.
    let escrow = NewAccount::credits(AccountCode::Escrow, money::reference(token.0));
    assert_ne!(escrow, money::escrow(token));
    let signed = comity_wire::cose::sign(&terms, &secret("issuer"));
    transfers.push(transfer(TransferKind::Reserve, &[&token.0], money::allocation(pool), escrow, 200, token.0));
    let insert = "INSERT INTO token (id, project, node, owner, budget, \"window\", lanes_max, issued_at, expires_at, settle_by, \
                  request, payload, issuer, content, bytes) VALUES (?, ?, ?, ?, 200, ?, 8, ?, ?, ?, ?, ?, ?, ?, ?)";
    query(insert)
        .bind(token.0.to_vec())
        .bind(id)
        .bind(NODE.0.to_vec())
        .bind(LAB.0.to_vec())
        .bind(i64::from(WINDOW))
        .bind(START.0 as i64)
        .bind(terms.expires_at.0 as i64)
        .bind(terms.terms.settle_by.0 as i64)
        .bind(Digest::of(b"asked").0.to_vec())
        .bind(comity_wire::Encode::to_cbor(&terms))
        .bind(secret("issuer").public().as_bytes().to_vec())
        .bind(signed.id().0.to_vec())
        .bind(signed.bytes().to_vec())
        .execute(&mut db)
        .await
        .unwrap();
    let mut ledger = LedgerTx::new(&mut db);
    let all = [0, 1].map(|at| money::unreleased(LotId(awards[at])));
    let accounts = [all[0], all[1], money::issuance(), money::allocation(pool), escrow];
    money::open_in_tx(&mut ledger, &accounts, START).await.unwrap();
    money::post_in_tx(&mut ledger, Group(transfers), START).await.unwrap();
    tx.commit().await.unwrap();
    conn.close().await.unwrap();

    let world = World::on(books).await;
    assert_eq!(world.sums().await, [1_000, 0, 200, 800]);
    let lot = &lots(&world).await[0];
    assert_eq!((lot.amount, lot.ends_at, &lot.award_number[..]), (ucr(1_000), START.plus(200 * DAY), "old 300"));
    // The old token is settled and goes home; new ones are drawn; the award grows.
    let mut lab = Lab::new(&json!(comity_wire::api::clearing::SignedBytes::new(signed.bytes()).unwrap()));
    lab.charge(lab.root(), 0, 50);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(world.finish(lab.final_()).await.1["refunded"], json!(150));
    world.buy(900).await;
    act(&world, Act::Supplement(Supplement { award: lot.award, number: "S".into(), part: part(5, false) }))
        .await
        .unwrap();
    assert_eq!(world.sums().await, [1_005, 50, 900, 55]);
}

on_each_store! {
    a_token_is_drawn_from_restricted_lots_first_and_its_rest_goes_back_to_them
    credits_are_used_within_their_period
    half_now_and_half_after_a_report
    credits_move_under_their_award_and_go_back_where_they_came_from
    what_is_not_used_in_its_time_expires_also_what_comes_home_later
    a_frozen_award_is_not_drawn_upon
    a_class_shares_one_award_to_the_last_credit
    awards_need_two_persons_once_two_are_registered
    books_from_before_lots_go_on
}
