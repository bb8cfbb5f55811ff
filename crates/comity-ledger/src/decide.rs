//! The rules of double entry, pure: a view of the books and transfers in, an outcome for each and the changes out.
//!
//! Every store decides here and nowhere else, so SQLite, PostgreSQL and the simulator cannot differ in a rule. Groups
//! are taken in turn, each sees what those before it did, and each is posted whole or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use comity_wire::{Amount, Timestamp};

use crate::account::{Account, AccountCode, Limit, Unit};
use crate::id::{AccountId, TransferId};
use crate::transfer::{Transfer, TransferKind};

/// Transfers that stand or fall together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group(pub Vec<Transfer>);

/// What a store has read of the books: every account that the groups name and every transfer under their ids, as far
/// as they exist. What is missing here does not exist.
#[derive(Clone, Debug, Default)]
pub struct View {
    accounts: BTreeMap<AccountId, Account>,
    known: HashMap<TransferId, Transfer>,
}

/// What became of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    Created,
    /// The very same transfer stood in the books already. Nothing moved.
    Exists,
    Refused(Refusal),
}

/// Why a transfer was not posted: the first in this order. What an id stands for comes first, so that a repeat gets the
/// same answer however the books have moved on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("transfer {id} is posted already, with another {field}")]
    Conflict { id: TransferId, field: &'static str },
    #[error("transfer {id} stands twice in one group")]
    RepeatedInGroup { id: TransferId },
    #[error("a transfer moves at least 1 µcr")]
    AmountZero,
    #[error("debit and credit are the same account {id}")]
    SameAccount { id: AccountId },
    #[error("no account {id}")]
    AccountNotFound { id: AccountId },
    #[error("debit account counts unit {}, credit account unit {}", debit.0, credit.0)]
    UnitsDiffer { debit: Unit, credit: Unit },
    #[error("a transfer of kind {kind:?} does not go from {from:?} to {to:?}")]
    KindForbidden { kind: TransferKind, from: AccountCode, to: AccountCode },
    #[error("{asked} asked of account {id}, which has {available}")]
    ExceedsCredits { id: AccountId, available: Amount, asked: Amount },
    #[error("{asked} given back to account {id}, which gave {outstanding}")]
    ExceedsDebits { id: AccountId, outstanding: Amount, asked: Amount },
    #[error("the sums of account {id} would leave the range of an amount")]
    Overflow { id: AccountId },
    #[error("another transfer of the group was refused")]
    LinkedFailed,
}

/// What became of one group, transfer by transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct GroupOutcome(pub Vec<Outcome>);

/// What is to be written, and the answers.
#[derive(Clone, Debug)]
pub struct Decision {
    pub outcomes: Vec<GroupOutcome>,
    /// The transfers to insert, in the order of the books.
    pub posted: Vec<Accepted>,
    /// The accounts to update, in id order.
    pub changed: BTreeMap<AccountId, Change>,
    pub posted_at: Timestamp,
}

/// A transfer that was decided to be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub transfer: Transfer,
    pub unit: Unit,
}

/// An account before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub before: Account,
    pub after: Account,
}

/// Decides all groups against `view`. Total over any input; allocates in proportion to it.
pub fn decide(view: &View, groups: &[Group], now: Timestamp) -> Decision {
    let mut books = Books { view, changed: BTreeMap::new(), posted: Vec::new(), fresh: HashMap::new() };
    let outcomes = groups.iter().map(|group| books.group(group)).collect();
    let decision = Decision { outcomes, posted: books.posted, changed: books.changed, posted_at: now };
    decision.assert_double_entry();
    decision
}

/// The view with what this decision has moved so far.
struct Books<'v> {
    view: &'v View,
    changed: BTreeMap<AccountId, Change>,
    posted: Vec<Accepted>,
    fresh: HashMap<TransferId, Transfer>,
}

impl Books<'_> {
    fn group(&mut self, group: &Group) -> GroupOutcome {
        let mark = self.posted.len();
        let mut undo = Vec::new();
        let mut outcomes = Vec::with_capacity(group.0.len());
        let mut here = BTreeSet::new();
        for (at, transfer) in group.0.iter().enumerate() {
            let outcome = if here.insert(transfer.id) {
                self.transfer(transfer, &mut undo)
            } else {
                Outcome::Refused(Refusal::RepeatedInGroup { id: transfer.id })
            };
            if let Outcome::Refused(_) = outcome {
                // The first refusal speaks for the group; the rest only say that they fell with it.
                outcomes = vec![Outcome::Refused(Refusal::LinkedFailed); group.0.len()];
                outcomes[at] = outcome;
                self.take_back(mark, undo);
                return GroupOutcome(outcomes);
            }
            outcomes.push(outcome);
        }
        // A group is posted whole: where a part stood in the books already, it was posted as part of something else.
        if outcomes.contains(&Outcome::Exists) && outcomes.contains(&Outcome::Created) {
            for outcome in &mut outcomes {
                if *outcome == Outcome::Created {
                    *outcome = Outcome::Refused(Refusal::LinkedFailed);
                }
            }
            self.take_back(mark, undo);
        }
        GroupOutcome(outcomes)
    }

    fn transfer(&mut self, transfer: &Transfer, undo: &mut Vec<(AccountId, Option<Change>)>) -> Outcome {
        if let Some(known) = self.fresh.get(&transfer.id).or_else(|| self.view.known.get(&transfer.id)) {
            return match first_difference(known, transfer) {
                None => Outcome::Exists,
                Some(field) => Outcome::Refused(Refusal::Conflict { id: transfer.id, field }),
            };
        }
        let (debit, credit) = match self.moved(transfer) {
            Ok(both) => both,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        let unit = debit.unit;
        for after in [debit, credit] {
            undo.push((after.id, self.changed.get(&after.id).copied()));
            let before = self.changed.get(&after.id).map_or_else(|| self.view.accounts[&after.id], |c| c.before);
            self.changed.insert(after.id, Change { before, after });
        }
        self.fresh.insert(transfer.id, *transfer);
        self.posted.push(Accepted { transfer: *transfer, unit });
        Outcome::Created
    }

    /// Both accounts as the transfer would leave them.
    fn moved(&self, transfer: &Transfer) -> Result<(Account, Account), Refusal> {
        let Transfer { kind, amount, .. } = *transfer;
        if amount.is_zero() {
            return Err(Refusal::AmountZero);
        }
        if transfer.debit == transfer.credit {
            return Err(Refusal::SameAccount { id: transfer.debit });
        }
        let mut debit = self.account(transfer.debit)?;
        let mut credit = self.account(transfer.credit)?;
        if debit.unit != credit.unit {
            return Err(Refusal::UnitsDiffer { debit: debit.unit, credit: credit.unit });
        }
        if !kind.joins(debit.code, credit.code) {
            return Err(Refusal::KindForbidden { kind, from: debit.code, to: credit.code });
        }
        let (available, outstanding) = (debit.available(), credit.debits.saturating_sub(credit.credits));
        if debit.limit == Limit::DebitsWithinCredits && amount > available {
            return Err(Refusal::ExceedsCredits { id: debit.id, available, asked: amount });
        }
        if credit.limit == Limit::CreditsWithinDebits && amount > outstanding {
            return Err(Refusal::ExceedsDebits { id: credit.id, outstanding, asked: amount });
        }
        debit.debits = debit.debits.checked_add(amount).ok_or(Refusal::Overflow { id: debit.id })?;
        credit.credits = credit.credits.checked_add(amount).ok_or(Refusal::Overflow { id: credit.id })?;
        Ok((debit, credit))
    }

    fn account(&self, id: AccountId) -> Result<Account, Refusal> {
        let changed = self.changed.get(&id).map(|change| change.after);
        changed.or_else(|| self.view.accounts.get(&id).copied()).ok_or(Refusal::AccountNotFound { id })
    }

    fn take_back(&mut self, mark: usize, undo: Vec<(AccountId, Option<Change>)>) {
        for accepted in self.posted.drain(mark..) {
            self.fresh.remove(&accepted.transfer.id);
        }
        for (id, change) in undo.into_iter().rev() {
            match change {
                Some(change) => self.changed.insert(id, change),
                None => self.changed.remove(&id),
            };
        }
    }
}

/// The first field in which two transfers of one id differ.
fn first_difference(a: &Transfer, b: &Transfer) -> Option<&'static str> {
    [
        ("kind", a.kind == b.kind),
        ("debit account", a.debit == b.debit),
        ("credit account", a.credit == b.credit),
        ("amount", a.amount == b.amount),
        ("reference", a.reference == b.reference),
        ("evidence", a.evidence == b.evidence),
    ]
    .into_iter()
    .find_map(|(field, same)| (!same).then_some(field))
}

impl Decision {
    /// Debits equal credits equal what was posted, per unit, and every account keeps its limit.
    fn assert_double_entry(&self) {
        let mut units: BTreeMap<Unit, (i128, i128, i128)> = BTreeMap::new();
        for Change { before, after } in self.changed.values() {
            assert!(after.is_within_limit(), "account {} left its limit", after.id);
            let sums = units.entry(after.unit).or_default();
            sums.0 += i128::from(after.debits.ucr()) - i128::from(before.debits.ucr());
            sums.1 += i128::from(after.credits.ucr()) - i128::from(before.credits.ucr());
        }
        for accepted in &self.posted {
            units.entry(accepted.unit).or_default().2 += i128::from(accepted.transfer.amount.ucr());
        }
        for (unit, (debits, credits, posted)) in units {
            assert!(
                debits == credits && debits == posted,
                "unit {}: debits {debits}, credits {credits}, posted {posted}",
                unit.0
            );
        }
    }
}

impl Change {
    pub(crate) fn debited_ucr(&self) -> i64 {
        self.after.debits.ucr() - self.before.debits.ucr()
    }

    pub(crate) fn credited_ucr(&self) -> i64 {
        self.after.credits.ucr() - self.before.credits.ucr()
    }
}

impl View {
    pub fn new(accounts: impl IntoIterator<Item = Account>, known: impl IntoIterator<Item = Transfer>) -> Self {
        Self {
            accounts: accounts.into_iter().map(|account| (account.id, account)).collect(),
            known: known.into_iter().map(|transfer| (transfer.id, transfer)).collect(),
        }
    }
}

impl Group {
    /// A group of one.
    pub fn single(transfer: Transfer) -> Self {
        Self(vec![transfer])
    }

    /// The accounts that these groups name, in id order: the order in which rows are locked.
    pub fn accounts(groups: &[Self]) -> BTreeSet<AccountId> {
        groups.iter().flat_map(|group| &group.0).flat_map(|transfer| [transfer.debit, transfer.credit]).collect()
    }

    /// The ids of the transfers in these groups, in id order.
    pub fn transfers(groups: &[Self]) -> BTreeSet<TransferId> {
        groups.iter().flat_map(|group| &group.0).map(|transfer| transfer.id).collect()
    }
}

impl From<Transfer> for Group {
    fn from(transfer: Transfer) -> Self {
        Self::single(transfer)
    }
}

impl Outcome {
    /// The word for it in stories, logs and reports.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Exists => "exists",
            Self::Refused(refusal) => refusal.word(),
        }
    }
}

impl Refusal {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::RepeatedInGroup { .. } => "repeated_in_group",
            Self::AmountZero => "amount_zero",
            Self::SameAccount { .. } => "same_account",
            Self::AccountNotFound { .. } => "account_not_found",
            Self::UnitsDiffer { .. } => "units_differ",
            Self::KindForbidden { .. } => "kind_forbidden",
            Self::ExceedsCredits { .. } => "exceeds_credits",
            Self::ExceedsDebits { .. } => "exceeds_debits",
            Self::Overflow { .. } => "overflow",
            Self::LinkedFailed => "linked_failed",
        }
    }
}

impl GroupOutcome {
    /// Whether the group stands in the books, now or before.
    pub fn is_posted(&self) -> bool {
        self.refusal().is_none()
    }

    /// Whether it was this call that posted it.
    pub fn is_created(&self) -> bool {
        self.0.iter().all(|outcome| *outcome == Outcome::Created)
    }

    /// Why the group does not stand in the books: the refusal that brought the others down.
    pub fn refusal(&self) -> Option<&Refusal> {
        let refusals = || {
            self.0.iter().filter_map(|outcome| match outcome {
                Outcome::Refused(refusal) => Some(refusal),
                Outcome::Created | Outcome::Exists => None,
            })
        };
        refusals().find(|refusal| **refusal != Refusal::LinkedFailed).or_else(|| refusals().next())
    }
}
