//! Two replicas of the house on one database: whichever is asked, they behave as one.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use comity_wire::object::{RevocationList, RevokedKind};
use comity_wire::{Digest, Signed, TokenId};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::disputes::{claimed, disputes, show_tails};
use super::world::*;
use crate::answers::{Answer, Once};
use crate::settlement::CHALLENGE_S;
use crate::{Clearing, FeedHead, FeedNewest, REPLICAS_MAX};

async fn send(house: &Clearing, request: Request<Body>) -> (u16, Value) {
    let response = house.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A project's last credit is spent once, whichever replica each member asks; and a reservation that both are asked for is one.
async fn two_replicas_sell_a_credit_once(on: On) {
    let world = World::new(on, 1_000).await;
    let other = world.twin().await;
    let quote = world.quote().await;
    let asks: Vec<Value> = (0..8).map(|_| world.reservation(&quote, 300)).collect();
    let request = |ask: &Value| world.request("POST", "/v1/reservations", ask, &world.member);
    let calls = asks.iter().enumerate().map(|(at, ask)| {
        let house = if at % 2 == 0 { &world.house } else { &other };
        send(house, request(ask))
    });
    let told = futures::future::join_all(calls).await;
    let sold = told.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(sold, 3, "{told:?}");
    assert_eq!(world.sums().await, [1_000, 0, 900, 100]);

    let ask = world.reservation(&quote, 100);
    let (first, second) = tokio::join!(send(&world.house, request(&ask)), send(&other, request(&ask)));
    assert_eq!((first.0, second.0), (200, 200), "{first:?} {second:?}");
    assert_eq!(first.1["token"], second.1["token"], "one token");
    assert_eq!(world.sums().await, [1_000, 0, 1_000, 0]);
    // What one sold the other settles, and what both are told is settled once.
    let mut lab = Lab::new(&first.1["token"]);
    lab.charge(lab.root(), 0, 40);
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let request = || world.request("POST", "/v1/claims", &claim, &secret("transport"));
    let (first, second) = tokio::join!(send(&world.house, request()), send(&other, request()));
    assert_eq!((first.0, &first), (200, &second), "the same reply");
    assert_eq!(world.sums().await, [1_000, 40, 960, 0]);
    assert!(world.house.log_audit().await.unwrap().holds);
    other.shutdown().await;
}

/// The house is open while any replica beats, and two that beat count time once.
async fn open_time_is_counted_once(on: On) {
    let world = World::new(on, 10_000).await;
    let other = world.twin().await;
    // Only one of them beats: the other one's memory falls behind by more than a gap.
    for _ in 0..4 {
        world.pass(60).await;
    }
    other.beat().await.unwrap();
    assert_eq!(spans(&world).await, [(START.0, START.0 + 240)], "no second span begins within the first");
    for at in 0..60_u32 {
        world.sleep(30);
        if at % 2 == 0 { &other } else { &world.house }.beat().await.unwrap();
    }
    assert_eq!(spans(&world).await, [(START.0, START.0 + 2_040)]);
    // Nobody is there for longer than a gap: closed time, told by whoever is back first.
    world.sleep(1_000);
    other.beat().await.unwrap();
    world.house.beat().await.unwrap();
    assert_eq!(spans(&world).await.len(), 2);
    let [first, second] = [&world.house, &other].map(|house| house.about().open_since);
    assert_eq!((first, second), (world.now(), world.now()));

    // A deadline is the same at both: the other one sweeps by what the books say, not by what it remembers.
    let lab = claimed(&world, 3, 0).await;
    world.house.log_advance().await.unwrap();
    world.pass(CHALLENGE_S).await;
    let (one, two) = tokio::join!(other.sweep(), world.house.sweep());
    let asked = one.unwrap().challenged + two.unwrap().challenged;
    assert_eq!(asked, 1, "the tail of {} has stood its time, and is asked for once", lab.token.id);
    assert_eq!(show_tails(&world, &lab).await, 1);
    assert_eq!(other.sweep().await.unwrap().settled, ucr(0), "and is paid once");
    assert!(world.house.audit().await.unwrap().holds);
    other.shutdown().await;
}

async fn spans(world: &World) -> Vec<(u64, u64)> {
    let mut conn = world.books.connect().await;
    let calendar = crate::store::house::calendar(&mut conn.db()).await.unwrap();
    calendar.spans().iter().map(|span| (span.0.0, span.1.0)).collect()
}

/// Revocation lists have one line of numbers, whoever makes them, and each replica tells of the newest.
async fn lists_are_numbered_in_one_line(on: On) {
    let world = World::new(on, 10_000).await;
    let other = world.twin().await;
    assert_eq!(other.standing().unwrap().bytes(), world.house.standing().unwrap().bytes(), "the second one made none");
    let heard: [Arc<Mutex<Vec<u64>>>; 2] = Default::default();
    for (house, heard) in [&world.house, &other].into_iter().zip(&heard) {
        let heard = Arc::clone(heard);
        house.on_standing(Arc::new(move |list| heard.lock().unwrap().push(list.number)));
    }
    let token = |at: u8| TokenId([at; 16]);
    let calls = (0..12).map(|at| if at % 2 == 0 { world.house.revoke(token(at)) } else { other.revoke(token(at)) });
    let mut numbers: Vec<u64> =
        futures::future::join_all(calls).await.into_iter().map(|number| number.expect("a list was made")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=13).collect::<Vec<_>>(), "each number once");
    // The stored one is the newest, names all, and both give it to whoever asks.
    for house in [&world.house, &other] {
        let request = Request::builder().uri("/comity/v1/standing").body(Body::empty()).unwrap();
        let response = house.router().oneshot(request).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let list = Signed::<RevocationList>::decode(&bytes).unwrap().verify(&secret("issuer").public()).unwrap();
        assert_eq!(list.number, 13);
        assert!((0..12).all(|at| list.contains(RevokedKind::Token, &token(at).to_string())));
    }
    for heard in &heard {
        let heard = heard.lock().unwrap();
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "handed on in the order of their numbers: {heard:?}");
        assert_eq!(*heard.last().unwrap(), 13, "also what the other one made");
    }
    // Due at both: made by one.
    world.pass(12 * 3600).await;
    let (one, two) = tokio::join!(world.house.standing_renew(), other.standing_renew());
    assert_eq!([one.unwrap(), two.unwrap()].into_iter().filter(|made| *made).count(), 1);
    assert_eq!((world.house.standing().unwrap().number, other.standing().unwrap().number), (14, 14));
    assert_eq!(world.count("SELECT COUNT(*) FROM standing").await, 1);
    other.shutdown().await;
}

/// What the sequencer and the sweep do each few minutes in each replica has one effect.
async fn turns_of_two_replicas_have_one_effect(on: On) {
    let world = World::sampling(on, 50_000).await;
    let other = world.twin().await;
    for _ in 0..6 {
        claimed(&world, 8, 8).await;
    }
    let (one, two) = tokio::join!(world.house.log_advance(), other.log_advance());
    one.unwrap();
    two.unwrap();
    let (one, two) = tokio::join!(world.house.sweep(), other.sweep());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.challenged + two.challenged, 6, "each claim is drawn from once: {one:?} {two:?}");
    assert_eq!((one.failed, two.failed), (0, 0));
    assert_eq!(world.count("SELECT COUNT(*) FROM challenge").await, 6);
    world.pass(CHALLENGE_S).await;
    let (one, two) = tokio::join!(world.house.sweep(), other.sweep());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.missed + two.missed, one.failed, two.failed), (6, 0, 0), "and missed once: {one:?} {two:?}");
    assert_eq!(disputes(&world).await.len(), 6);
    world.sleep(20 * DAY);
    world.house.beat().await.unwrap();
    let (one, two) = tokio::join!(world.house.counts_turn(), other.counts_turn());
    assert_eq!(one.unwrap() + two.unwrap(), 1, "a month is asked for once");
    assert!(world.house.audit().await.unwrap().holds);
    assert!(world.house.log_audit().await.unwrap().holds);
    other.shutdown().await;
}

/// A challenge that was answered at one replica while another one was about to end it stays answered.
async fn what_was_answered_elsewhere_is_not_missed(on: On) {
    let world = World::sampling(on, 10_000).await;
    let lab = claimed(&world, 4, 4).await;
    assert_eq!(super::disputes::draw(&world).await, 1);
    let [challenge] = &world.house.challenges().await.unwrap()[..] else { panic!("one") };
    let key = (challenge.leaf, challenge.lane);
    let shown: Vec<_> = challenge.left.iter().map(|n| lab.show(key, *n, challenge.newest)).collect();
    world.pass(CHALLENGE_S).await;
    let other = world.twin().await;
    let path = format!("/v1/challenges/{}/answers", challenge.id);
    let request = world.request("POST", &path, &json!({ "shown": shown }), &secret("transport"));
    let (answered, swept) = tokio::join!(send(&other, request), world.house.sweep());
    assert_eq!(answered.0, 200, "{answered:?}");
    let is_answered = answered.1["state"] == json!("answered");
    let missed = swept.unwrap().missed;
    assert_eq!((missed, disputes(&world).await.len()), if is_answered { (0, 0) } else { (1, 1) }, "one of the two");
    other.shutdown().await;
}

/// One call under one key at two replicas: what was answered first is what both answer, then and later.
async fn a_key_has_one_answer_at_both(on: On) {
    let world = World::new(on, 10_000).await;
    let other = world.twin().await;
    let once = |call: &[u8]| Once { signer: world.member.public(), key: Digest::of(b"k1"), call: Digest::of(call) };
    let answer = |body: &str| Answer { status: 200, body: body.as_bytes().to_vec() };
    // Both were asked before either had an answer.
    let (first, second) =
        (world.house.answer_turn(&once(b"call")).unwrap(), other.answer_turn(&once(b"call")).unwrap());
    assert_eq!(world.house.answer_keep(&once(b"call"), answer("one")).await, answer("one"));
    assert_eq!(other.answer_keep(&once(b"call"), answer("two")).await, answer("one"));
    assert_eq!(other.answer_keep(&once(b"another"), answer("three")).await, answer("three"));
    drop((first, second));
    for house in [&world.house, &other] {
        assert_eq!(house.answer_kept(&once(b"call")).await.unwrap(), Some(answer("one")));
        assert!(house.answer_kept(&once(b"another")).await.is_err());
    }
    // By HTTP: what one has answered, the other one answers.
    let ask = world.quote_request();
    let keyed = || {
        let mut request = world.request("POST", "/v1/quotes", &ask, &world.member);
        request.headers_mut().insert("idempotency-key", "k2".parse().unwrap());
        request
    };
    let (status, quoted) = send(&world.house, keyed()).await;
    world.sleep(1);
    assert_eq!(
        (status, &send(&other, keyed()).await.1),
        (200, &quoted),
        "a quote of another second would be another one"
    );
    other.shutdown().await;
}

/// A replica that never signed remembers all the same what was: it is the only one left when the database comes back older.
#[tokio::test]
async fn a_replica_remembers_what_another_one_signed() {
    let mut world = World::new(On::Sqlite, 10_000).await;
    world.buy(100).await;
    world.house.log_advance().await.unwrap();
    let backup = world.backup().await;
    let home = tempfile::tempdir().unwrap();
    let other = world.replica(home.path()).await;
    world.buy(100).await;
    let signed = world.house.log_advance().await.unwrap();
    assert_eq!(other.log_advance().await.unwrap(), signed);
    let note = |folder: &std::path::Path| std::fs::read(folder.join("log.checkpoint")).unwrap();
    assert_eq!(note(home.path()), note(world.books.folder()), "as if it had signed it");
    // The first one is gone with its machine, and the database comes back from a backup.
    other.shutdown().await;
    world.restore(&backup).await;
    world.house.shutdown().await;
    let other = world.replica(home.path()).await;
    let buy = world.request("POST", "/v1/quotes", &world.quote_request(), &world.member);
    assert_eq!(send(&other, buy).await.0, 200, "the books go on");
    let why = other.log_advance().await.unwrap_err().to_string();
    assert!(why.contains("set back to an older state"), "{why}");
    assert_eq!(note(home.path()), signed_note(&world), "nothing was signed");
    other.shutdown().await;
}

fn signed_note(world: &World) -> Vec<u8> {
    world.books.notes().last().unwrap().clone().into_bytes()
}

/// One replica seals and signs between what another one reads of the log: that is no database that was set back.
async fn a_log_that_grows_meanwhile_is_not_set_back(on: On) {
    let world = World::new(on, 10_000).await;
    let home = tempfile::tempdir().unwrap();
    let other = world.replica(home.path()).await;
    let grow = async {
        for _ in 0..12 {
            world.buy(10).await;
            world.house.log_advance().await.unwrap();
        }
    };
    let look = async {
        for _ in 0..60 {
            other.log_advance().await.unwrap();
        }
    };
    tokio::join!(grow, look);
    assert!(world.house.log_audit().await.unwrap().holds);
    other.shutdown().await;
}

/// A log that one replica has ended is not signed any further by another that was about to.
async fn an_ended_log_is_signed_by_nobody(on: On) {
    let world = World::new(on, 10_000).await;
    world.buy(100).await;
    let other = world.twin().await;
    world.house.log_advance().await.unwrap();
    world.house.log_restart("a drill").await.unwrap();
    let late = crate::store::log::Signed {
        size: 1_000,
        root: Digest::of(b"root"),
        note: "note".into(),
        signed_at: world.now(),
    };
    let mut conn = world.books.connect().await;
    let mut tx = conn.write().await.unwrap();
    assert!(crate::store::log::checkpoint_insert_in_tx(&mut tx.db(), 1, &late).await.is_err());
    tx.rollback().await.unwrap();
    drop(conn);
    assert!(other.log_advance().await.unwrap().origin.ends_with("/log/2"), "it goes on with the next");
    other.shutdown().await;
}

/// Which of several replicas signed last before the books came back from a backup nobody knows: none signs before a new log.
async fn replicas_sign_nothing_on_books_that_came_back_before_a_new_log(on: On) {
    let world = World::new(on, 10_000).await;
    let home = tempfile::tempdir().unwrap();
    world.buy(100).await;
    let other = world.replica(home.path()).await;
    let signed = other.log_advance().await.unwrap();
    world.house.shutdown().await;
    other.shutdown().await;
    crate::ops::restored_put(&world.books.database(), START, START.plus(60)).await.unwrap();
    world.sleep(120);
    let other = world.replica(home.path()).await;
    let why = other.log_advance().await.unwrap_err().to_string();
    assert!(why.contains("several replicas") && why.contains("log restart"), "{why}");
    other.log_restart("a drill").await.unwrap();
    let next = other.log_advance().await.unwrap();
    assert!(next.origin.ends_with("/log/2") && next.size > signed.size, "{next:?}");
    other.shutdown().await;
}

fn head(epoch: u32, seq: u64, says: &str) -> FeedHead {
    let id = Digest::of(format!("{epoch} {seq} {says}").as_bytes());
    let frames = vec![(Digest::of(says.as_bytes()), says.as_bytes().to_vec()), (Digest::of(b"kept"), b"kept".to_vec())];
    let frames = frames.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect();
    FeedHead { epoch, seq, id, head: b"head".to_vec(), writer: b"writer".to_vec(), frames }
}

/// A number of the feed is given away once, whoever asks for it.
async fn the_feed_has_one_line(on: On) {
    let world = World::new(on, 0).await;
    let other = world.twin().await;
    assert_eq!(other.feed_newest(None).await.unwrap(), FeedNewest::Nothing);
    let first = head(0, 7, "as the home had it");
    assert!(world.house.feed_append(None, first.clone()).await.unwrap());
    assert_eq!(other.feed_newest(None).await.unwrap(), FeedNewest::Other(first.clone()));
    assert_eq!(other.feed_newest(Some(first.id)).await.unwrap(), FeedNewest::Known);
    let (one, two) = (head(0, 8, "one"), head(0, 8, "two"));
    let (one_is, two_is) = tokio::join!(
        world.house.feed_append(Some(first.id), one.clone()),
        other.feed_append(Some(first.id), two.clone())
    );
    let (one_is, two_is) = (one_is.unwrap(), two_is.unwrap());
    assert!(one_is != two_is, "one of them has number 8");
    let eighth = if one_is { one } else { two };
    for house in [&world.house, &other] {
        assert_eq!(house.feed_newest(Some(first.id)).await.unwrap(), FeedNewest::Other(eighth.clone()));
        assert!(house.feed_append(Some(first.id), eighth.clone()).await.unwrap(), "the same again stands there");
        assert!(!house.feed_append(None, head(0, 9, "late")).await.unwrap());
    }
    assert!(other.feed_append(Some(eighth.id), head(0, 8, "once more")).await.is_err());
    assert!(other.feed_append(Some(eighth.id), head(1, 1, "next epoch")).await.unwrap());
    assert!(world.house.feed_append(Some(head(1, 1, "next epoch").id), head(0, 9, "before it")).await.is_err());
    // Nor do the tables take it.
    let mut conn = world.books.connect().await;
    for sql in ["UPDATE feed_head SET seq = seq - 1", "UPDATE feed_head SET head = writer", "DELETE FROM feed_head"] {
        assert!(comity_ledger::db::query(sql).execute(&mut conn.db()).await.is_err(), "{sql}");
    }
    other.shutdown().await;
}

async fn who_is_there_is_announced(on: On) {
    let world = World::new(on, 0).await;
    let key = |at: u64| secret(&format!("replica {at}")).public();
    let doors = |at: u64| vec![(1, format!("https://10.0.0.{at}:4443"))];
    for at in 0..REPLICAS_MAX {
        world.house.replica_seen(key(at), doors(at), START).await.unwrap();
    }
    assert!(world.house.replica_seen(key(9), doors(9), START).await.is_err(), "there are enough");
    assert_eq!(world.house.replicas().await.unwrap().len() as u64, REPLICAS_MAX);
    world.house.replica_left(key(0)).await.unwrap();
    world.house.replica_seen(key(9), doors(9), START).await.unwrap();
    world.sleep(40);
    world.house.replica_seen(key(9), doors(10), START).await.unwrap();
    world.sleep(10);
    let there = world.house.replicas().await.unwrap();
    assert_eq!(there.iter().map(|one| (one.key, one.doors.clone())).collect::<Vec<_>>(), [(key(9), doors(10))]);
    let found = crate::ops::replicas(&world.books.database(), world.now()).await.unwrap();
    assert_eq!((found.there, found.feed), (there, None));
}

on_each_store! {
    two_replicas_sell_a_credit_once
    open_time_is_counted_once
    lists_are_numbered_in_one_line
    turns_of_two_replicas_have_one_effect
    what_was_answered_elsewhere_is_not_missed
    a_key_has_one_answer_at_both
    a_log_that_grows_meanwhile_is_not_set_back
    an_ended_log_is_signed_by_nobody
    replicas_sign_nothing_on_books_that_came_back_before_a_new_log
    the_feed_has_one_line
    who_is_there_is_announced
}
