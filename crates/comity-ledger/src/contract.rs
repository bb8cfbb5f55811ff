//! What every store promises: one suite, run over each backend. A new backend adds one line at the end.

use comity_wire::{Amount, Digest, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::account::{AccountCode, NewAccount, Unit};
use crate::books::{LedgerTx, audit_in_tx, migrate};
use crate::db::{Database, Migrations};
use crate::decide::{Group, GroupOutcome, Outcome, Refusal};
use crate::id::{AccountId, Reference, TransferId};
use crate::memory::Memory;
use crate::store::{Opened, Store, StoreError, TRANSFERS_PER_CALL_MAX};
use crate::transfer::{Transfer, TransferKind};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);

/// An empty ledger in a file, inside a transaction that is committed afterwards.
pub(crate) async fn with_sqlite<R>(act: impl AsyncFnOnce(&mut LedgerTx<'_>) -> R) -> R {
    let dir = tempfile::tempdir().unwrap();
    with(&Database::sqlite(dir.path().join("ledger.db")), act).await
}

async fn with_postgres<R>(act: impl AsyncFnOnce(&mut LedgerTx<'_>) -> R) -> R {
    let scratch = comity_scratch::Database::create().await;
    with(&Database::postgres(&scratch.url()).unwrap(), act).await
}

async fn with<R>(database: &Database, act: impl AsyncFnOnce(&mut LedgerTx<'_>) -> R) -> R {
    migrate(database, Migrations::default()).await.unwrap();
    let mut conn = database.connect().await.unwrap();
    let mut tx = conn.write().await.unwrap();
    let result = act(&mut LedgerTx::new(&mut tx.db())).await;
    tx.commit().await.unwrap();
    conn.close().await.unwrap();
    result
}

async fn with_memory<R>(act: impl AsyncFnOnce(&mut Memory) -> R) -> R {
    act(&mut Memory::new()).await
}

pub(crate) fn named(number: u8) -> Reference {
    Reference([number; 16])
}

pub(crate) fn account(code: AccountCode, number: u8) -> NewAccount {
    NewAccount::credits(code, named(number))
}

pub(crate) fn transfer(kind: TransferKind, id: u8, debit: NewAccount, credit: NewAccount, ucr: u32) -> Transfer {
    Transfer {
        id: TransferId::derive(kind, &[&[id]]),
        kind,
        debit: debit.id,
        credit: credit.id,
        amount: Amount::from_ucr(ucr),
        reference: named(id),
        evidence: Digest::ZERO,
    }
}

fn issuance() -> NewAccount {
    account(AccountCode::Issuance, 0)
}

fn alice() -> NewAccount {
    account(AccountCode::Allocation, 1)
}

fn escrow() -> NewAccount {
    account(AccountCode::Escrow, 2)
}

/// Opens the three and awards alice `ucr`.
async fn house<S: Store>(store: &mut S, ucr: u32) {
    let opened = store.accounts_open_in_tx(&[issuance(), alice(), escrow()], NOW).await.unwrap();
    assert_eq!(opened, [Opened::Created; 3]);
    let award = transfer(TransferKind::Award, 1, issuance(), alice(), ucr);
    assert_eq!(store.transfer_post_in_tx(award, NOW).await.unwrap(), Outcome::Created);
}

async fn balance<S: Store>(store: &mut S, account: NewAccount) -> i64 {
    store.account_in_tx(account.id).await.unwrap().unwrap().balance_ucr()
}

async fn an_account_opens_once<S: Store>(store: &mut S) {
    let other = NewAccount { code: AccountCode::Suspense, ..alice() };
    let opened = store.accounts_open_in_tx(&[alice(), alice(), other], NOW).await.unwrap();
    assert_eq!(opened, [Opened::Created, Opened::Exists, Opened::Conflict]);
    let again = store.accounts_open_in_tx(&[alice(), escrow()], Timestamp(NOW.0 + 9)).await.unwrap();
    assert_eq!(again, [Opened::Exists, Opened::Created]);
    assert_eq!(store.account_in_tx(alice().id).await.unwrap(), Some(alice().opened(NOW)));
    assert_eq!(store.account_in_tx(AccountId([9; 16])).await.unwrap(), None);
    for other in [
        NewAccount { unit: Unit(7), ..alice() },
        NewAccount { code: AccountCode::Escrow, ..alice() },
        NewAccount { reference: Reference::NONE, ..alice() },
    ] {
        assert_eq!(store.account_open_in_tx(&other, NOW).await.unwrap(), Opened::Conflict);
    }
}

async fn every_field_of_a_transfer_is_its_content<S: Store>(store: &mut S) {
    house(store, 100).await;
    let first = transfer(TransferKind::Reserve, 1, alice(), escrow(), 10);
    assert_eq!(store.transfer_post_in_tx(first, NOW).await.unwrap(), Outcome::Created);
    assert_eq!(store.transfer_post_in_tx(first, Timestamp(NOW.0 + 60)).await.unwrap(), Outcome::Exists);
    for (field, other) in [
        ("kind", Transfer { kind: TransferKind::Correction, ..first }),
        ("debit account", Transfer { debit: issuance().id, ..first }),
        ("credit account", Transfer { credit: issuance().id, ..first }),
        ("amount", Transfer { amount: Amount::from_ucr(11), ..first }),
        ("reference", Transfer { reference: named(77), ..first }),
        ("evidence", Transfer { evidence: Digest::of(b"another claim"), ..first }),
    ] {
        let outcome = store.transfer_post_in_tx(other, NOW).await.unwrap();
        assert_eq!(outcome, Outcome::Refused(Refusal::Conflict { id: first.id, field }));
    }
    let stored = store.transfer_in_tx(first.id).await.unwrap().unwrap();
    assert_eq!((stored.seq, stored.transfer, stored.unit, stored.posted_at), (2, first, Unit::CREDITS, NOW));
    assert_eq!(balance(store, alice()).await, 90);
}

async fn a_reservation_beyond_the_balance_leaves_the_books_as_they_were<S: Store>(store: &mut S) {
    house(store, 100).await;
    let before = store.audit_in_tx().await.unwrap();
    let accounts = store.accounts_in_tx(&[issuance().id, alice().id, escrow().id]).await.unwrap();
    let dear = transfer(TransferKind::Reserve, 1, alice(), escrow(), 101);
    let outcome = store.transfer_post_in_tx(dear, NOW).await.unwrap();
    let (available, asked) = (Amount::from_ucr(100), Amount::from_ucr(101));
    assert_eq!(outcome, Outcome::Refused(Refusal::ExceedsCredits { id: alice().id, available, asked }));
    assert_eq!(store.audit_in_tx().await.unwrap(), before);
    assert_eq!(store.accounts_in_tx(&[issuance().id, alice().id, escrow().id]).await.unwrap(), accounts);
    assert_eq!(store.transfer_in_tx(dear.id).await.unwrap(), None);
}

async fn groups_of_one_call_see_each_other_in_turn<S: Store>(store: &mut S) {
    house(store, 100).await;
    let reserve = |id, ucr| transfer(TransferKind::Reserve, id, alice(), escrow(), ucr);
    let refund = transfer(TransferKind::Refund, 9, escrow(), alice(), 60);
    let groups = [
        Group::single(reserve(1, 60)),
        Group::single(reserve(2, 60)),
        Group(vec![reserve(3, 30), reserve(4, 30)]),
        Group::single(refund),
        Group::single(reserve(2, 60)),
        Group::single(reserve(1, 60)),
        Group::default(),
    ];
    let outcomes = store.transfers_post_in_tx(&groups, NOW).await.unwrap();
    let words: Vec<Vec<&str>> = outcomes.iter().map(|group| group.0.iter().map(Outcome::word).collect()).collect();
    let expected: [&[&str]; 7] = [
        &["created"],
        &["exceeds_credits"],
        &["linked_failed", "exceeds_credits"],
        &["created"],
        &["created"],
        &["exists"],
        &[],
    ];
    assert_eq!(words, expected);
    assert!(outcomes[5].is_posted() && !outcomes[5].is_created() && outcomes[6].is_posted());
    assert_eq!(outcomes[2].refusal().map(Refusal::word), Some("exceeds_credits"));
    assert_eq!(balance(store, alice()).await, 40);
    let order = store.transfers_of_account_in_tx(alice().id, 0, 10).await.unwrap();
    let ids: Vec<TransferId> = order.iter().skip(1).map(|posted| posted.transfer.id).collect();
    assert_eq!(ids, [reserve(1, 60).id, refund.id, reserve(2, 60).id]);
}

async fn a_statement_is_paged_by_place<S: Store>(store: &mut S) {
    house(store, 100).await;
    for id in 1..=5 {
        let reserve = transfer(TransferKind::Reserve, id, alice(), escrow(), 1);
        assert_eq!(store.transfer_post_in_tx(reserve, NOW).await.unwrap(), Outcome::Created);
    }
    let places = async |store: &mut S, after, limit| {
        let page = store.transfers_of_account_in_tx(alice().id, after, limit).await.unwrap();
        page.iter().map(|posted| posted.seq).collect::<Vec<_>>()
    };
    assert_eq!(places(store, 0, 4).await, [1, 2, 3, 4]);
    assert_eq!(places(store, 4, 4).await, [5, 6]);
    assert!(places(store, 6, 4).await.is_empty());
    assert!(places(store, u64::MAX, 4).await.is_empty());
    assert_eq!(store.transfers_of_account_in_tx(escrow().id, 0, 9).await.unwrap().len(), 5);
    assert_eq!(store.transfers_of_account_in_tx(AccountId([9; 16]), 0, 9).await.unwrap(), []);
}

async fn sums_stay_in_the_range_of_an_amount<S: Store>(store: &mut S) {
    house(store, 1).await;
    let all = Transfer { amount: Amount::MAX, ..transfer(TransferKind::Award, 2, issuance(), alice(), 0) };
    let outcome = store.transfer_post_in_tx(all, NOW).await.unwrap();
    assert_eq!(outcome, Outcome::Refused(Refusal::Overflow { id: issuance().id }));
    let rest = Transfer { amount: Amount::new(i64::MAX - 1).unwrap(), ..all };
    assert_eq!(store.transfer_post_in_tx(rest, NOW).await.unwrap(), Outcome::Created);
    assert_eq!(balance(store, alice()).await, i64::MAX);
    assert!(store.audit_in_tx().await.unwrap().holds);
}

async fn a_call_is_bounded<S: Store>(store: &mut S) {
    house(store, 1).await;
    let one = transfer(TransferKind::Reserve, 1, alice(), escrow(), 1);
    let many = vec![Group(vec![one; 2]); TRANSFERS_PER_CALL_MAX / 2 + 1];
    let refused = store.transfers_post_in_tx(&many, NOW).await;
    assert!(matches!(refused, Err(StoreError::TooMany { .. })), "{refused:?}");
    assert!(store.transfers_post_in_tx(&[], NOW).await.unwrap().is_empty());
    assert!(store.accounts_open_in_tx(&[], NOW).await.unwrap().is_empty());
}

async fn a_large_call_is_posted_in_its_order<S: Store>(store: &mut S) {
    house(store, 1_000).await;
    let escrows: Vec<NewAccount> = (0..600_u32)
        .map(|n| {
            let mut reference = [3; 16];
            reference[..4].copy_from_slice(&n.to_be_bytes());
            NewAccount::credits(AccountCode::Escrow, Reference(reference))
        })
        .collect();
    assert!(store.accounts_open_in_tx(&escrows, NOW).await.unwrap().iter().all(|opened| *opened == Opened::Created));
    let reserve = |escrow: &NewAccount| {
        let id = TransferId::derive(TransferKind::Reserve, &[escrow.reference.as_bytes()]);
        Group::single(Transfer { id, ..transfer(TransferKind::Reserve, 0, alice(), *escrow, 1) })
    };
    let groups: Vec<Group> = escrows.iter().map(reserve).collect();
    let outcomes = store.transfers_post_in_tx(&groups, NOW).await.unwrap();
    assert!(outcomes.iter().all(GroupOutcome::is_created));
    assert_eq!(balance(store, alice()).await, 400);
    let posted = store.transfers_of_account_in_tx(alice().id, 1, 1_000).await.unwrap();
    assert!(posted.iter().map(|posted| posted.transfer.credit).eq(escrows.iter().map(|escrow| escrow.id)));
    let report = store.audit_in_tx().await.unwrap();
    assert!(report.holds, "{:?}", report.breaks);
    assert_eq!(report.balance_ucr(Unit::CREDITS, AccountCode::Escrow), 600);
}

/// Runs every promise over one backend.
macro_rules! contract_suite {
    ($backend:ident, $with:path) => {
        contract_suite!($backend, $with,
            an_account_opens_once,
            every_field_of_a_transfer_is_its_content,
            a_reservation_beyond_the_balance_leaves_the_books_as_they_were,
            groups_of_one_call_see_each_other_in_turn,
            a_statement_is_paged_by_place,
            sums_stay_in_the_range_of_an_amount,
            a_call_is_bounded,
            a_large_call_is_posted_in_its_order);
    };
    ($backend:ident, $with:path, $($promise:ident),*) => {
        mod $backend {
            $(#[tokio::test]
            async fn $promise() {
                $with(async |store| super::$promise(store).await).await;
            })*
        }
    };
}

contract_suite!(memory, super::with_memory);
contract_suite!(sqlite, super::with_sqlite);
contract_suite!(postgres, super::with_postgres);

/// One step of a random history: kind, id, debit, credit, amount. Few ids and small amounts, so that they collide.
type Step = (usize, u8, usize, usize, u32);

fn cast() -> Vec<NewAccount> {
    let codes = AccountCode::ALL.into_iter().enumerate();
    let two = codes.flat_map(|(n, code)| [account(code, n as u8), account(code, n as u8 + 100)]);
    let foreign = NewAccount { unit: Unit(2), ..account(AccountCode::Allocation, 200) };
    // One that is never opened stands at the end.
    two.chain([foreign, account(AccountCode::Escrow, 201)]).collect()
}

fn groups_of(cast: &[NewAccount], batch: &[Vec<Step>]) -> Vec<Group> {
    let step = |(kind, id, debit, credit, ucr): &Step| {
        let kind = TransferKind::ALL[kind % TransferKind::ALL.len()];
        // Most steps go where their kind may go, else nearly all would be refused for that.
        let fits = |from: &NewAccount, to: &NewAccount| kind.joins(from.code, to.code);
        let ways: Vec<(NewAccount, NewAccount)> = cast
            .iter()
            .flat_map(|from| cast.iter().map(move |to| (*from, *to)))
            .filter(|(from, to)| *ucr % 7 == 0 || fits(from, to))
            .collect();
        let (from, to) = ways[(debit * 31 + credit) % ways.len()];
        let id = TransferId::derive(kind, &[&[*id]]);
        Transfer { id, ..transfer(kind, 0, from, to, *ucr) }
    };
    batch.iter().map(|group| Group(group.iter().map(step).collect())).collect()
}

/// The model and SQLite, side by side over random histories with commits and rollbacks: same answers, same books.
mod model {
    mod sqlite {
        #[test]
        fn does_what_the_model_does() {
            super::super::histories_end_as_in_the_model(48, async || {
                let dir = tempfile::tempdir().unwrap();
                (crate::Database::sqlite(dir.path().join("ledger.db")), dir)
            });
        }
    }

    mod postgres {
        #[test]
        fn does_what_the_model_does() {
            super::super::histories_end_as_in_the_model(24, async || {
                let scratch = comity_scratch::Database::create().await;
                (crate::Database::postgres(&scratch.url()).unwrap(), scratch)
            });
        }
    }
}

/// Plays random histories on a new database each, and on the model; `open` gives it with what must live as long.
fn histories_end_as_in_the_model<G>(cases: u32, open: impl AsyncFn() -> (Database, G)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let step = (0..64_usize, 0..24_u8, 0..64_usize, 0..64_usize, 0..40_u32);
    let group = prop::collection::vec(step, 1..4);
    let batch = (prop::collection::vec(group, 0..12), prop::bool::weighted(0.8), prop::bool::weighted(0.3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let outcome = runner.run(&prop::collection::vec(batch, 1..8), |history| {
        runtime.block_on(async {
            let (database, _guard) = open().await;
            migrate(&database, Migrations::default()).await.unwrap();
            let mut conn = database.connect().await.unwrap();
            let mut memory = Memory::new();
            let cast = cast();
            let open = &cast[..cast.len() - 1];
            let ids: Vec<AccountId> = cast.iter().map(|account| account.id).collect();
            for (at, (batch, commit, again)) in history.iter().enumerate() {
                let now = NOW.plus(at as u64);
                let before = memory.clone();
                let mut tx = conn.write().await.unwrap();
                let mut db = tx.db();
                let mut books = LedgerTx::new(&mut db);
                let opened = books.accounts_open_in_tx(open, now).await.unwrap();
                prop_assert_eq!(opened, memory.open(open, now));
                let mut groups = groups_of(&cast, batch);
                if *again {
                    // A client that heard nothing sends everything once more.
                    history[..at].iter().for_each(|(batch, _, _)| groups.extend(groups_of(&cast, batch)));
                }
                let outcomes = books.transfers_post_in_tx(&groups, now).await.unwrap();
                let expected = memory.post(&groups, now);
                seen.borrow_mut().extend(expected.iter().flat_map(|group| &group.0).map(Outcome::word));
                prop_assert_eq!(outcomes, expected);
                prop_assert_eq!(
                    books.accounts_in_tx(&ids).await.unwrap(),
                    memory.accounts().copied().collect::<Vec<_>>()
                );
                if *commit {
                    tx.commit().await.unwrap();
                } else {
                    tx.rollback().await.unwrap();
                    memory = before;
                }
            }
            let mut tx = conn.write().await.unwrap();
            let report = audit_in_tx(&mut tx.db()).await.unwrap();
            tx.rollback().await.unwrap();
            conn.close().await.unwrap();
            prop_assert!(report.holds, "{:?}", report.breaks);
            prop_assert_eq!(report, memory.audit());
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // The histories reached what they are there to compare.
    for word in [
        "created",
        "exists",
        "conflict",
        "exceeds_credits",
        "linked_failed",
        "account_not_found",
        "kind_forbidden",
        "amount_zero",
    ] {
        assert!(seen.borrow().contains(word), "no history saw {word}: {:?}", seen.borrow());
    }
}
