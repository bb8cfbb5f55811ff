//! What both databases promise of the register.

use comity_wire::Timestamp;

use super::contract::{Meddled, NOW, postgres, sqlite};
use super::{Store, contract};
use crate::id::Salt;
use crate::register::{Deed, ENTER_MAX, Line, compare, read};
use crate::seal::{Found, Head, Of, SEAL_MAX, Tree, check, shown_one};

comity_scratch::contract! {
    {
        enters_each_line_once_and_behind_the_last
        enters_so_many_at_once
        seals_acts_with_events
        finds_an_act_that_was_rewritten_or_taken_out
        proves_one_act_by_itself
    }
    sqlite: sqlite, postgres: postgres
}

fn line(number: u64) -> (Line, Salt) {
    let deed = Deed::Resume { target: "the node".into() };
    let (source, author, reason) = ("stops".to_owned(), "hanna".to_owned(), format!("reason {number}"));
    (
        Line { source, line: number, at: NOW.plus(number), author, deed, reason },
        Salt([u8::try_from(number % 251).expect("small"); 16]),
    )
}

async fn enter(store: &impl Store, numbers: std::ops::RangeInclusive<u64>, now: Timestamp) -> u64 {
    let lines: Vec<_> = numbers.map(line).collect();
    store.acts_enter(&lines, now).await.expect("the store")
}

async fn enters_each_line_once_and_behind_the_last(store: &impl Store) {
    assert_eq!(store.acts_last("stops").await.expect("the store"), 0);
    assert_eq!(enter(store, 1..=2, NOW.plus(60)).await, 2);
    assert_eq!(enter(store, 1..=3, NOW.plus(50)).await, 1, "two are there");
    assert_eq!(enter(store, 1..=3, NOW.plus(99)).await, 0);
    assert_eq!(store.acts_last("stops").await.expect("the store"), 3);
    assert_eq!(store.acts_last("grants").await.expect("the store"), 0);
    let acts = store.acts_after(0, 9).await.expect("the store");
    let said: Vec<_> = acts.iter().filter_map(|(_, bytes)| read(bytes)).collect();
    let by: Vec<_> = said.iter().map(|act| (act.event().n, act.event().line, act.event().entered)).collect();
    // A clock that was set back turns nothing round.
    assert_eq!(by, [(1, 1, NOW.plus(60)), (2, 2, NOW.plus(60)), (3, 3, NOW.plus(60))]);
    assert_eq!(said[2].event().before, said[1].link());
    assert_eq!(store.acts_after(2, 9).await.expect("the store"), acts[2..]);
    let lines = (1..=3).map(|n| (("stops".to_owned(), n), line(n).0)).collect();
    assert_eq!(compare(&acts, &lines, &["stops".to_owned()].into(), NOW), []);
}

async fn enters_so_many_at_once(store: &impl Store) {
    let many = ENTER_MAX as u64 + 3;
    assert_eq!(enter(store, 1..=many, NOW).await, ENTER_MAX as u64);
    assert_eq!(enter(store, 1..=many, NOW).await, 3);
    assert_eq!(enter(store, 1..=many, NOW).await, 0);
}

async fn seals_acts_with_events(store: &impl Store) {
    contract::kept(store, &contract::opened(1, "sub-a", "one", NOW)).await;
    enter(store, 1..=2, NOW).await;
    assert_eq!(store.unsealed().await.expect("the store"), 3);
    assert_eq!(store.seal(SEAL_MAX).await.expect("the store"), 3);
    let leaves = store.leaves(1, 0, 9).await.expect("the store");
    let of: Vec<_> = leaves.iter().map(|(leaf, now)| (leaf.of, leaf.n, *now == Some(leaf.link))).collect();
    assert_eq!(of, [(Of::Application(contract::id(1)), 1, true), (Of::Register, 1, true), (Of::Register, 2, true)]);
    assert_eq!(check(store).await.expect("the store").found, []);
    assert_eq!(store.log_begin("it was lost", NOW).await.expect("the store"), 2);
    assert_eq!(store.seal(SEAL_MAX).await.expect("the store"), 3, "in another log too");
}

async fn finds_an_act_that_was_rewritten_or_taken_out(store: &impl Meddled) {
    enter(store, 1..=3, NOW).await;
    for sql in ["UPDATE access_act SET line = 9 WHERE n = 1", "DELETE FROM access_act"] {
        assert!(store.meddle(sql).await.is_err(), "{sql}");
    }
    store.seal(2).await.expect("the store");
    for sql in [
        "DROP TRIGGER access_act_stays",
        "DROP TRIGGER access_act_is_kept",
        "DROP TRIGGER access_act_stays ON access_act",
    ] {
        let _ = store.meddle(sql).await;
    }
    store.meddle("DELETE FROM access_unsealed").await.expect("no guard");
    store.meddle("DELETE FROM access_act WHERE n = 1").await.expect("no guard");
    let sql = "UPDATE access_act SET bytes = (SELECT bytes FROM access_act WHERE n = 3) WHERE n = 2";
    assert_eq!(store.meddle(sql).await.expect("no guard"), 1);
    let of = Of::Register;
    let found = check(store).await.expect("the store").found;
    assert_eq!(found, [Found::Gone { of, n: 1 }, Found::Changed { of, n: 2 }, Found::NeverSealed { of, n: 3 }]);
    let acts = store.acts_after(0, 9).await.expect("the store");
    let lines = (1..=3).map(|n| (("stops".to_owned(), n), line(n).0)).collect();
    let found = compare(&acts, &lines, &["stops".to_owned()].into(), NOW);
    assert!(found.iter().all(|found| matches!(found, Found::Unlinked { .. })) && !found.is_empty(), "{found:?}");
}

async fn proves_one_act_by_itself(store: &impl Store) {
    enter(store, 1..=3, NOW).await;
    assert!(shown_one(store, Of::Register, 2, None).await.is_err(), "it is not sealed yet");
    store.seal(SEAL_MAX).await.expect("the store");
    let Tree { log, size, .. } = store.tree().await.expect("the store");
    assert!(store.head_put(&Head { n: 1, log, size, bytes: vec![7; 100] }).await.expect("the store"));
    let house = comity_wire::OrgId([3; 16]);
    let proof = shown_one(store, Of::Register, 2, None).await.expect("a proof");
    assert_eq!((proof.n, proof.leaf, proof.since.len()), (2, 1, 0));
    assert!(store.head_logged(house, 1, 40).await.expect("the store"));
    let proof = shown_one(store, Of::Register, 2, Some(house)).await.expect("a proof");
    let since: Vec<_> = proof.since.iter().map(|since| (since.n, since.head, since.leaf)).collect();
    assert_eq!((since, proof.next, proof.logged[0].index), (vec![(2, 1, 1)], None, 40));
    assert!(shown_one(store, Of::Register, 4, None).await.is_err());
    assert!(shown_one(store, Of::Register, u64::MAX, None).await.is_err());
}
