//! What both databases promise of sealed decisions.

use std::collections::BTreeSet;

use comity_wire::api::decisions::{ProofAsked, SINCE_MAX};
use comity_wire::log::{goes_on, includes};
use comity_wire::{Digest, OrgId};

use super::contract::{Meddled, NOW, applicant, decider, postgres, sealed, sqlite};
use super::{Store, contract, contract_cases};
use crate::act::Act;
use crate::case::{CaseId, Role};
use crate::seal::{
    Checked, Found, HEADS_KEPT, Head, Of, SEAL_MAX, Seals, Tree, Unproved, check, consistency, prove, root, since,
};

comity_scratch::contract! {
    {
        seals_each_event_once_in_order
        proves_that_an_event_is_under_a_head
        proves_that_a_tree_goes_on
        finds_what_was_rewritten
        never_changes_what_was_sealed
        keeps_the_head_that_is_logged
        begins_another_log_with_all_that_is_left
        shows_since_when_an_event_stands_also_in_a_log_that_ended
        finds_what_was_taken_from_the_queue
        hands_out_a_long_log_in_pages
    }
    sqlite: sqlite, postgres: postgres
}

const HOUSE: OrgId = OrgId([3; 16]);
const OTHER: OrgId = OrgId([4; 16]);

/// An application of three events, and a case of two that came between.
async fn decided(store: &impl Store) -> (Of, Of) {
    let mut application = contract::opened(1, "sub-a", "one", NOW);
    contract::kept(store, &application).await;
    let mut case = contract_cases::begun(store, 1, "sub-a", NOW).await;
    contract::done(store, &mut application, Act::Submit { sealed: sealed() }, &applicant("sub-a"), NOW.plus(1)).await;
    contract_cases::done(store, &mut case, contract_cases::answer(), Role::Project).await;
    let reject = Act::Reject { reason: "no".into() };
    contract::done(store, &mut application, reject, &decider(), NOW.plus(2)).await;
    (Of::Application(contract::id(1)), Of::Case(contract_cases::id(1)))
}

async fn seal_all(store: &impl Seals) -> u64 {
    let mut all = 0;
    loop {
        match store.seal(SEAL_MAX).await.expect("the store") {
            0 => break all,
            some => all += some,
        }
    }
}

async fn head(store: &impl Seals, n: u64) -> Head {
    let Tree { log, size, .. } = store.tree().await.expect("the store");
    let head = Head { n, log, size, bytes: vec![7; 100] };
    assert!(store.head_put(&head).await.expect("the store"));
    head
}

async fn shown(store: &impl Seals) -> Option<(Head, Vec<(OrgId, u64)>)> {
    store.head_shown(None).await.expect("the store").map(|shown| (shown.head, shown.logged))
}

async fn links(store: &impl Seals, log: u64) -> Vec<(Of, u64, Digest)> {
    let leaves = store.leaves(log, 0, SEAL_MAX).await.expect("the store");
    leaves.into_iter().map(|(leaf, _)| (leaf.of, leaf.n, leaf.link)).collect()
}

async fn seals_each_event_once_in_order(store: &impl Store) {
    assert_eq!(store.tree().await.expect("the store"), Tree { log: 1, size: 0, heads: 0 });
    assert_eq!(check(store).await.expect("the store").found, []);
    let (application, case) = decided(store).await;
    assert_eq!(store.unsealed().await.expect("the store"), 5);
    // In pieces, as many at once.
    assert_eq!(store.seal(2).await.expect("the store"), 2);
    assert_eq!(seal_all(store).await, 3);
    assert_eq!(store.unsealed().await.expect("the store"), 0);
    let sealed = links(store, 1).await;
    let order: Vec<_> = sealed.iter().map(|(of, n, _)| (*of, *n)).collect();
    assert_eq!(order, [(application, 1), (case, 1), (application, 2), (case, 2), (application, 3)]);
    let loaded = store.load(contract::id(1)).await.expect("the store").expect("it is there");
    let of_it: Vec<_> = sealed.iter().filter(|(of, ..)| *of == application).map(|(.., link)| *link).collect();
    assert_eq!(of_it, loaded.events().iter().map(|event| event.link()).collect::<Vec<_>>());
    let mut tree = comity_wire::log::Growing::default();
    sealed.iter().for_each(|(.., link)| tree.push(&link.0));
    assert_eq!(root(store, 1, 5).await.expect("a root"), tree.root());
    let Checked { root, found, .. } = check(store).await.expect("the store");
    assert_eq!((root, found), (tree.root(), vec![]));
}

async fn proves_that_an_event_is_under_a_head(store: &impl Store) {
    let (application, case) = decided(store).await;
    assert!(matches!(prove(store, application, None).await, Err(Unproved::NotSealed)));
    assert_eq!(store.seal(4).await.expect("the store"), 4);
    assert!(matches!(prove(store, application, None).await, Err(Unproved::NotSealed)), "there is no head");
    head(store, 1).await;
    seal_all(store).await;
    // The third event of the application has a leaf, and no head is over it yet.
    for (of, n) in [(application, 2), (case, 2)] {
        let proof = prove(store, of, None).await.expect("a proof");
        assert_eq!((proof.leaf.n, proof.head.n, proof.logged.len()), (n, 1, 0));
        let leaf = Digest::of_parts(&[&[0], &proof.leaf.link.0]);
        let over = root(store, 1, 4).await.expect("a root");
        assert!(includes(leaf, proof.leaf.place, 4, &over, &proof.path));
    }
    head(store, 2).await;
    assert_eq!(prove(store, application, None).await.expect("a proof").leaf.n, 3);
    assert!(matches!(prove(store, Of::Case(CaseId([9; 16])), None).await, Err(Unproved::NotSealed)));
}

async fn proves_that_a_tree_goes_on(store: &impl Store) {
    decided(store).await;
    assert_eq!(store.seal(3).await.expect("the store"), 3);
    let before = root(store, 1, 3).await.expect("a root");
    seal_all(store).await;
    let proof = consistency(store, 1, 3, 5).await.expect("a proof");
    assert!(goes_on(3, &before, 5, &root(store, 1, 5).await.expect("a root"), &proof));
    assert_eq!(root(store, 1, 3).await.expect("a root"), before, "of an earlier size too");
}

async fn finds_what_was_rewritten(store: &impl Meddled) {
    let (application, case) = decided(store).await;
    seal_all(store).await;
    // Whoever has the database can take its own guards away.
    for sql in UNGUARDED {
        let _ = store.meddle(sql).await;
    }
    let changed =
        store.meddle("UPDATE access_event SET bytes = (SELECT bytes FROM access_event WHERE n = 1) WHERE n = 2");
    assert_eq!(changed.await.expect("no guard"), 1);
    assert_eq!(store.meddle("DELETE FROM access_case_event WHERE n = 2").await.expect("no guard"), 1);
    let found = check(store).await.expect("the store").found;
    assert_eq!(found, [Found::Changed { of: application, n: 2 }, Found::Gone { of: case, n: 2 }]);
    // Whoever changes the leaf too is left with another tree.
    let sql = "UPDATE access_leaf SET link = (SELECT link FROM access_leaf WHERE place = 0) WHERE place = 2";
    assert_eq!(store.meddle(sql).await.expect("no guard"), 1);
    let found = check(store).await.expect("the store").found;
    assert!(found.contains(&Found::TreeDiffers { size: 5 }), "{found:?}");
    assert_eq!(store.meddle("DELETE FROM access_leaf WHERE place = 1").await.expect("no guard"), 1);
    let found = check(store).await.expect("the store").found;
    assert!(found.contains(&Found::LeafMissing { place: 1 }), "{found:?}");
}

/// In either engine's words; the other's are refused.
const UNGUARDED: &[&str] = &[
    "DROP TRIGGER access_event_stays",
    "DROP TRIGGER access_case_event_is_kept",
    "DROP TRIGGER access_leaf_stays",
    "DROP TRIGGER access_leaf_is_kept",
    "DROP TRIGGER access_leaf_stays ON access_leaf",
    "DROP TRIGGER access_case_event_stays ON access_case_event",
    "DROP TRIGGER access_event_stays ON access_event",
];

async fn never_changes_what_was_sealed(store: &impl Meddled) {
    decided(store).await;
    seal_all(store).await;
    for sql in ["UPDATE access_leaf SET n = 9 WHERE place = 0", "DELETE FROM access_leaf"] {
        assert!(store.meddle(sql).await.is_err(), "{sql}");
    }
    assert_eq!(links(store, 1).await.len(), 5);
}

async fn keeps_the_head_that_is_logged(store: &impl Store) {
    decided(store).await;
    assert_eq!(store.seal(3).await.expect("the store"), 3);
    let first = head(store, 1).await;
    assert!(!store.head_put(&first).await.expect("the store"), "its number is given");
    assert_eq!(shown(store).await, Some((first.clone(), vec![])));
    seal_all(store).await;
    let stale = Head { n: 2, size: 3, ..first.clone() };
    assert!(!store.head_put(&stale).await.expect("the store"), "the tree went on meanwhile");
    let second = head(store, 2).await;
    assert!(logged_at(store, HOUSE, 1, 40).await && logged_at(store, HOUSE, 1, 40).await, "the same again");
    // A logged one is worth more than a newer one that nobody has seen.
    assert_eq!(shown(store).await, Some((first.clone(), vec![(HOUSE, 40)])));
    assert_eq!(store.head_newest().await.expect("the store"), Some(second.clone()));
    // What is long over goes, but for what is logged: that says since when.
    let last = head(store, HEADS_KEPT + 3).await;
    assert_eq!(shown(store).await, Some((first.clone(), vec![(HOUSE, 40)])));
    assert!(logged_at(store, HOUSE, last.n, 90).await);
    assert_eq!(shown(store).await, Some((last.clone(), vec![(HOUSE, 90)])));
    assert!(!logged_at(store, HOUSE, 2, 50).await, "the second was dropped");
    head(store, 2 * HEADS_KEPT + 9).await;
    // Each house has its own newest; a house that has none is shown another's.
    assert!(logged_at(store, OTHER, 1, 50).await);
    assert_eq!(store.houses_logged().await.expect("the store"), BTreeSet::from([HOUSE, OTHER]));
    assert_eq!(store.head(last.n).await.expect("the store"), Some(last.clone()));
    assert_eq!(store.head(2).await.expect("the store"), None);
    let of = async |house| store.head_shown(Some(house)).await.expect("the store").expect("a head").head.n;
    assert_eq!((of(HOUSE).await, of(OTHER).await, of(OrgId([5; 16])).await), (last.n, 1, last.n));
}

async fn logged_at(store: &impl Seals, house: OrgId, n: u64, index: u64) -> bool {
    store.head_logged(house, n, index).await.expect("the store")
}

async fn shows_since_when_an_event_stands_also_in_a_log_that_ended(store: &impl Meddled) {
    let (application, case) = decided(store).await;
    assert_eq!(store.seal(3).await.expect("the store"), 3);
    head(store, 1).await;
    seal_all(store).await;
    head(store, 2).await;
    let seen = async |of, house| {
        let found = since(store, of, (1, 9), house).await.expect("the store");
        for proof in &found {
            let leaf = Digest::of_parts(&[&[0], &proof.leaf.link.0]);
            let over = root(store, proof.head.log, proof.head.size).await.expect("a root");
            assert!(includes(leaf, proof.leaf.place, proof.head.size, &over, &proof.path));
        }
        found.iter().map(|proof| (proof.leaf.n, proof.head.n)).collect::<Vec<_>>()
    };
    assert_eq!(seen(application, None).await, [], "no house has anything");
    assert!(logged_at(store, HOUSE, 2, 41).await);
    assert_eq!(seen(application, None).await, [(1, 2), (2, 2), (3, 2)]);
    assert!(logged_at(store, OTHER, 1, 7).await);
    assert_eq!(seen(application, None).await, [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(seen(application, Some(HOUSE)).await, [(1, 2), (2, 2), (3, 2)]);
    assert_eq!(seen(application, Some(OTHER)).await, [(1, 1), (2, 1)]);
    assert_eq!(seen(case, None).await, [(1, 1), (2, 2)]);
    // An event is written anew and sealed again in another log: the others stand since when they did.
    for sql in UNGUARDED {
        let _ = store.meddle(sql).await;
    }
    let changed =
        store.meddle("UPDATE access_event SET bytes = (SELECT bytes FROM access_event WHERE n = 1) WHERE n = 2");
    assert_eq!(changed.await.expect("no guard"), 1);
    assert_eq!(seen(application, None).await, [(1, 1), (3, 2)], "what was sealed is not what it is");
    assert_eq!(store.log_begin("nobody will see", NOW.plus(9)).await.expect("the store"), 2);
    seal_all(store).await;
    head(store, 3).await;
    assert!(logged_at(store, HOUSE, 3, 99).await);
    assert_eq!(seen(application, None).await, [(1, 1), (2, 3), (3, 2)]);
}

async fn finds_what_was_taken_from_the_queue(store: &impl Meddled) {
    let (application, _) = decided(store).await;
    assert_eq!(store.seal(4).await.expect("the store"), 4);
    assert_eq!(check(store).await.expect("the store").found, [], "the last one waits");
    assert_eq!(store.meddle("DELETE FROM access_unsealed").await.expect("no guard"), 1);
    assert_eq!(check(store).await.expect("the store").found, [Found::NeverSealed { of: application, n: 3 }]);
    store.log_begin("it was taken away", NOW.plus(9)).await.expect("the store");
    assert_eq!(check(store).await.expect("the store").found, [], "all wait again");
    seal_all(store).await;
    assert_eq!(check(store).await.expect("the store").found, []);
}

async fn hands_out_a_long_log_in_pages(store: &impl Store) {
    let mut case = contract_cases::begun(store, 1, "sub-a", NOW).await;
    contract_cases::done(store, &mut case, contract_cases::answer(), Role::Project).await;
    for _ in 0..SINCE_MAX {
        let note = crate::case::Act::Remark { text: "a note".into(), salt: None };
        contract_cases::done(store, &mut case, note, Role::Handler).await;
    }
    seal_all(store).await;
    head(store, 1).await;
    assert!(logged_at(store, HOUSE, 1, 5).await);
    let of = Of::Case(contract_cases::id(1));
    let page = async |from| {
        let asked = ProofAsked { from: Some(from), house: Some(HOUSE) };
        let page = crate::seal::shown(store, of, asked).await.expect("a proof");
        let ends = page.since.first().zip(page.since.last()).map(|(first, last)| (first.n, last.n));
        assert_eq!((page.n, page.heads.len()), (SINCE_MAX + 2, usize::from(ends.is_some())));
        (ends, page.next)
    };
    assert_eq!(page(1).await, (Some((1, SINCE_MAX)), Some(SINCE_MAX + 1)));
    assert_eq!(page(SINCE_MAX + 1).await, (Some((SINCE_MAX + 1, SINCE_MAX + 2)), None));
    assert_eq!(page(SINCE_MAX + 3).await, (None, None));
    assert_eq!(page(u64::MAX).await, (None, None));
}

async fn begins_another_log_with_all_that_is_left(store: &impl Store) {
    let (application, _) = decided(store).await;
    seal_all(store).await;
    head(store, 4).await;
    let before = links(store, 1).await;
    assert_eq!(store.log_begin("the disk died", NOW.plus(9)).await.expect("the store"), 2);
    assert_eq!(store.tree().await.expect("the store"), Tree { log: 2, size: 0, heads: 4 });
    assert_eq!(shown(store).await, None, "the old log's head proves nothing of this one");
    assert_eq!(seal_all(store).await, 5);
    let after: BTreeSet<_> = links(store, 2).await.into_iter().collect();
    assert_eq!(after, before.iter().copied().collect());
    assert_eq!(links(store, 1).await, before, "what was sealed before stays");
    assert!(!store.head_put(&Head { n: 4, log: 2, size: 5, bytes: vec![1] }).await.expect("the store"));
    head(store, 5).await;
    assert_eq!(prove(store, application, None).await.expect("a proof").head.n, 5);
    assert_eq!(check(store).await.expect("the store").found, []);
}

/// What only an engine with several writers can do.
mod beside {
    mod postgres {
        use super::super::*;

        #[tokio::test]
        async fn an_event_that_is_written_while_another_log_begins_is_sealed_once_and_in_order() {
            let store = super::super::postgres().await;
            let (application, _) = decided(&*store).await;
            seal_all(&*store).await;
            // Another process has written the fourth event of the application, and has not committed.
            let mut writing = store.pool().begin().await.expect("a connection");
            let fourth = "INSERT INTO access_event (application, n, bytes) SELECT application, 4, bytes FROM access_event WHERE n = 3";
            sqlx::query(fourth).execute(&mut *writing).await.expect("it is an event");
            let begin = store.log_begin("it was lost", NOW.plus(9));
            let waits = async {
                let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
                loop {
                    let (waiting,): (i64,) = sqlx::query_as(sql).fetch_one(store.pool()).await.expect("the server");
                    if waiting > 0 {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            };
            futures::pin_mut!(begin, waits);
            // It waits for whoever writes; where it would not, it is over at once and what follows shows it.
            let begun = match futures::future::select(begin, waits).await {
                futures::future::Either::Left((log, _)) => {
                    writing.commit().await.expect("it is written");
                    log
                }
                futures::future::Either::Right(((), begin)) => {
                    writing.commit().await.expect("it is written");
                    begin.await
                }
            };
            assert_eq!(begun.expect("the store"), 2);
            assert_eq!(seal_all(&*store).await, 6);
            let sealed = links(&*store, 2).await;
            let of_it: Vec<_> = sealed.iter().filter(|(of, ..)| *of == application).map(|(_, n, _)| *n).collect();
            assert_eq!(of_it, [1, 2, 3, 4]);
        }
    }
}
