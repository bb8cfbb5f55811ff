//! Stories: the rules as tables, played on the model and on SQLite.
//!
//! ```text
//! open    alice allocation                 an account
//! reserve r1  alice tok1  30 -> created    kind, id, debit, credit, µcr, what comes of it (created if unsaid)
//! settle  s1  tok1  node1 12 &             linked with the next line
//! balance alice 70                         credits less debits
//! ```

use std::collections::BTreeMap;

use comity_wire::{Amount, Digest, Timestamp};

use crate::account::{AccountCode, NewAccount, Unit};
use crate::contract::with_sqlite;
use crate::decide::Group;
use crate::id::{AccountId, Reference, TransferId};
use crate::memory::Memory;
use crate::store::{Opened, Store};
use crate::transfer::{Transfer, TransferKind};

/// Plays a story on every store and compares each line with what happened.
async fn check(story: &str) {
    play(&mut Memory::new(), story).await;
    with_sqlite(async |store| play(store, story).await).await;
}

async fn play<S: Store>(store: &mut S, story: &str) {
    let now = Timestamp(1_800_000_000);
    let mut names: BTreeMap<&str, AccountId> = BTreeMap::new();
    let (mut group, mut expected) = (Group::default(), Vec::new());
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (act, outcome) = line.split_once("->").map_or((line, "created"), |(act, outcome)| (act, outcome.trim()));
        let (act, linked) = act.trim().strip_suffix('&').map_or((act, false), |act| (act, true));
        let words: Vec<&str> = act.split_whitespace().collect();
        let account = |name: &str| names.get(name).copied().unwrap_or(AccountId([0xee; 16]));
        match words[..] {
            ["open", name, code] => {
                let new = NewAccount::credits(code_of(code), reference(name));
                assert_eq!(store.account_open_in_tx(&new, now).await.unwrap(), Opened::Created, "{line}");
                names.insert(name, new.id);
            }
            ["open", name, code, unit] => {
                let new = NewAccount {
                    unit: Unit(unit.parse().unwrap()),
                    ..NewAccount::credits(code_of(code), reference(name))
                };
                assert_eq!(store.account_open_in_tx(&new, now).await.unwrap(), Opened::Created, "{line}");
                names.insert(name, new.id);
            }
            ["balance", name, ucr] => {
                let found = store.account_in_tx(account(name)).await.unwrap().expect("the account is open");
                assert_eq!(found.balance_ucr().to_string(), ucr, "{line}");
            }
            [kind, id, debit, credit, ucr] => {
                group.0.push(Transfer {
                    id: TransferId(reference(id).0),
                    kind: kind_of(kind),
                    debit: account(debit),
                    credit: account(credit),
                    amount: Amount::new(ucr.parse().unwrap()).unwrap(),
                    reference: Reference::NONE,
                    evidence: Digest::ZERO,
                });
                expected.push(outcome);
                if !linked {
                    let outcomes = store.transfers_post_in_tx(&[std::mem::take(&mut group)], now).await.unwrap();
                    let words: Vec<&str> = outcomes[0].0.iter().map(|outcome| outcome.word()).collect();
                    assert_eq!(words, std::mem::take(&mut expected), "{line}");
                }
            }
            _ => panic!("not a line of a story: {line}"),
        }
    }
    let report = store.audit_in_tx().await.unwrap();
    assert!(report.holds, "{:?}", report.breaks);
    assert!(report.units.iter().all(|unit| unit.sum_ucr == 0), "{:?}", report.units);
}

fn reference(name: &str) -> Reference {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    Reference(id)
}

fn code_of(word: &str) -> AccountCode {
    let name = |code: &AccountCode| format!("{code:?}").to_lowercase() == word.replace('_', "");
    AccountCode::ALL.into_iter().find(name).unwrap_or_else(|| panic!("no code {word}"))
}

fn kind_of(word: &str) -> TransferKind {
    let name = |kind: &TransferKind| format!("{kind:?}").to_lowercase() == word.replace('_', "");
    TransferKind::ALL.into_iter().find(name).unwrap_or_else(|| panic!("no kind {word}"))
}

const HOUSE: &str = "
    open   issuance issuance
    open   alice    allocation
    open   tok1     escrow
    open   node1    owner_payable
    award  a1 issuance alice 100
";

#[tokio::test]
async fn a_final_returns_what_was_not_charged() {
    check(&format!(
        "{HOUSE}
        reserve r1 alice tok1  30
        balance alice 70
        settle  s1 tok1  node1 12
        settle  s2 tok1  node1 6
        balance alice 70
        balance tok1  12
        refund  f1 tok1  alice 12
        balance alice 82
        balance tok1  0
        balance node1 18
        balance issuance -100
    "
    ))
    .await;
}

#[tokio::test]
async fn a_reservation_beyond_the_balance_is_refused_and_changes_nothing() {
    check(&format!(
        "{HOUSE}
        reserve r1 alice tok1 60
        reserve r2 alice tok1 41 -> exceeds_credits
        balance alice 40
        balance tok1  60
        reserve r2 alice tok1 40
        reserve r3 alice tok1 1  -> exceeds_credits
    "
    ))
    .await;
}

#[tokio::test]
async fn a_token_never_settles_more_than_its_escrow() {
    check(&format!(
        "{HOUSE}
        reserve r1 alice tok1  30
        settle  s1 tok1  node1 31 -> exceeds_credits
        settle  s1 tok1  node1 30
        refund  f1 tok1  alice 1  -> exceeds_credits
        balance alice 70
    "
    ))
    .await;
}

#[tokio::test]
async fn a_repeat_is_exists_and_another_amount_is_conflict() {
    check(&format!(
        "{HOUSE}
        reserve r1 alice tok1 30
        reserve r1 alice tok1 30 -> exists
        reserve r1 alice tok1 31 -> conflict
        reserve r1 alice tok1 0  -> conflict
        refund  r1 alice tok1 30 -> conflict
        reserve r1 tok1 alice 30 -> conflict
        balance alice 70
        reserve r2 alice tok1 70
        reserve r1 alice tok1 30 -> exists
        reserve r1 alice tok1 99 -> conflict
    "
    ))
    .await;
}

#[tokio::test]
async fn the_first_fault_in_order_is_the_one_told() {
    check(&format!(
        "{HOUSE}
        open    euros  allocation 2
        reserve x1 alice  alice  0   -> amount_zero
        reserve x1 nobody nobody 5   -> same_account
        reserve x1 alice  nobody 5   -> account_not_found
        reserve x1 nobody tok1   5   -> account_not_found
        settle  x1 euros  tok1   5   -> units_differ
        settle  x1 alice  node1  500 -> kind_forbidden
        reserve x1 alice  tok1   500 -> exceeds_credits
        withdraw x1 alice issuance 101 -> exceeds_credits
        balance alice 100
    "
    ))
    .await;
}

#[tokio::test]
async fn linked_transfers_are_posted_whole_or_not_at_all() {
    check(&format!(
        "{HOUSE}
        reserve r1 alice tok1  30
        settle  s1 tok1  node1 20 & -> linked_failed
        refund  f1 tok1  alice 11   -> exceeds_credits
        balance tok1 30
        settle  s1 tok1  node1 20 &
        refund  f1 tok1  alice 10
        settle  s1 tok1  node1 20 & -> exists
        refund  f1 tok1  alice 10   -> exists
        settle  s1 tok1  node1 20 & -> exists
        reserve r9 alice tok1  1    -> linked_failed
        reserve r8 alice tok1  1  & -> linked_failed
        reserve r8 alice tok1  1    -> repeated_in_group
        balance alice 80
        balance tok1  0
    "
    ))
    .await;
}

#[tokio::test]
async fn what_binds_the_house_is_paid_from_suspense() {
    check(&format!(
        "{HOUSE}
        open  suspense suspense
        reserve r1 alice tok1 5
        settle  s1 tok1 node1 5 &
        suspense_settle s2 suspense node1 7
        balance suspense -7
        balance node1 12
    "
    ))
    .await;
}

#[tokio::test]
async fn credits_cannot_be_returned_that_were_never_issued() {
    check(
        "
        open  issuance issuance
        open  fix      correction
        open  alice    allocation
        correction c1 fix alice 10
        withdraw   w1 alice issuance 10 -> exceeds_debits
        award      a1 issuance alice 4
        withdraw   w1 alice issuance 4
        balance    alice 10
        balance    fix -10
    ",
    )
    .await;
}
