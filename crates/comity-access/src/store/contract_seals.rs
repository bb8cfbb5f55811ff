//! What both databases promise of sealed decisions.

use std::collections::BTreeSet;

use comity_wire::log::{goes_on, includes};
use comity_wire::{Digest, OrgId};

use super::contract::{Meddled, NOW, applicant, decider, postgres, sealed, sqlite};
use super::{Store, contract, contract_cases};
use crate::act::Act;
use crate::case::{CaseId, Role};
use crate::seal::{
    Checked, Found, HEADS_KEPT, Head, Of, SEAL_MAX, Seals, Tree, Unproved, check, consistency, prove, root,
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
    store.head_shown().await.expect("the store").map(|shown| (shown.head, shown.logged))
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
    assert!(matches!(prove(store, application).await, Err(Unproved::NotSealed)));
    assert_eq!(store.seal(4).await.expect("the store"), 4);
    assert!(matches!(prove(store, application).await, Err(Unproved::NotSealed)), "there is no head");
    head(store, 1).await;
    seal_all(store).await;
    // The third event of the application has a leaf, and no head is over it yet.
    for (of, n) in [(application, 2), (case, 2)] {
        let proof = prove(store, of).await.expect("a proof");
        assert_eq!((proof.leaf.n, proof.head.n, proof.logged.len()), (n, 1, 0));
        let leaf = Digest::of_parts(&[&[0], &proof.leaf.link.0]);
        let over = root(store, 1, 4).await.expect("a root");
        assert!(includes(leaf, proof.leaf.place, 4, &over, &proof.path));
    }
    head(store, 2).await;
    assert_eq!(prove(store, application).await.expect("a proof").leaf.n, 3);
    assert!(matches!(prove(store, Of::Case(CaseId([9; 16]))).await, Err(Unproved::NotSealed)));
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
    store.head_logged(HOUSE, 1, 40).await.expect("the store");
    store.head_logged(HOUSE, 1, 40).await.expect("the same again");
    // A logged one is worth more than a newer one that nobody has seen.
    assert_eq!(shown(store).await, Some((first.clone(), vec![(HOUSE, 40)])));
    assert_eq!(store.head_newest().await.expect("the store"), Some(second.clone()));
    // What is long over goes, but for what is logged.
    let last = head(store, HEADS_KEPT + 3).await;
    assert_eq!(shown(store).await, Some((first, vec![(HOUSE, 40)])));
    store.head_logged(HOUSE, last.n, 90).await.expect("the store");
    assert_eq!(shown(store).await, Some((last.clone(), vec![(HOUSE, 90)])));
    assert!(store.head_logged(HOUSE, 2, 50).await.is_err(), "the second was dropped");
    // The first goes, now that the house has a newer one.
    head(store, 2 * HEADS_KEPT + 9).await;
    assert!(store.head_logged(OTHER, 1, 50).await.is_err() && store.head_logged(OTHER, last.n, 50).await.is_ok());
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
    assert_eq!(prove(store, application).await.expect("a proof").head.n, 5);
    assert_eq!(check(store).await.expect("the store").found, []);
}
