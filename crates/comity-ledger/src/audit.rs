//! The audit: re-adds everything from the transfers alone and reports each place where the books disagree.
//!
//! It shares no code with [`decide`](crate::decide): sums are i128, limits are checked after every transfer, so that
//! not even a prefix of the books overspends, and the root names all transfers in their order (RFC 6962).

use std::collections::{BTreeMap, HashSet};

use comity_wire::merkle::Frontier;
use comity_wire::{Amount, Digest};
use serde::Serialize;

use crate::account::{Account, AccountCode, Limit, Unit};
use crate::id::{AccountId, Reference, TransferId};
use crate::transfer::{Posted, TransferKind};

/// What an audit found. The books hold if [`AuditReport::holds`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    pub holds: bool,
    pub accounts: u64,
    pub transfers: u64,
    /// The RFC 6962 root over all transfers in order.
    pub root: Digest,
    pub units: Vec<UnitTotal>,
    pub trial_balance: Vec<CodeTotal>,
    pub breaks: Vec<Break>,
    /// Breaks found beyond the [`BREAKS_MAX`] that are listed.
    pub breaks_left_out: u64,
}

/// All accounts of a unit. The sum is zero in sound books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnitTotal {
    pub unit: Unit,
    /// Credits less debits over the cached sums of all accounts.
    pub sum_ucr: i64,
    pub moved_ucr: i64,
}

/// All accounts of a code, re-added from the transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CodeTotal {
    pub unit: Unit,
    pub code: AccountCode,
    pub accounts: u64,
    pub debits_ucr: i64,
    pub credits_ucr: i64,
    pub balance_ucr: i64,
}

/// One place where the books disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "break", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Break {
    /// The sums kept with an account are not those of its transfers.
    SumsDiffer {
        account: AccountId,
        debits_kept: i64,
        debits_added: i64,
        credits_kept: i64,
        credits_added: i64,
    },
    /// After this transfer the account stood beyond its limit (first time only).
    LimitPassed {
        account: AccountId,
        seq: u64,
        debits: i64,
        credits: i64,
    },
    /// The account's limit is not the one of its code.
    LimitDiffers {
        account: AccountId,
        code: AccountCode,
        limit: Limit,
    },
    AccountMissing {
        seq: u64,
        transfer: TransferId,
        account: AccountId,
    },
    AccountRepeated {
        account: AccountId,
    },
    /// One transfer names an account as one thing, a later one as another.
    CodesDiffer {
        account: AccountId,
        seq: u64,
        code: AccountCode,
        found: AccountCode,
    },
    UnitsDiffer {
        seq: u64,
        transfer: TransferId,
    },
    KindForbidden {
        seq: u64,
        transfer: TransferId,
        kind: TransferKind,
        from: AccountCode,
        to: AccountCode,
    },
    AmountZero {
        seq: u64,
        transfer: TransferId,
    },
    SameAccount {
        seq: u64,
        transfer: TransferId,
    },
    TransferRepeated {
        seq: u64,
        transfer: TransferId,
    },
    /// Places are dense from 1.
    PlaceMissing {
        expected: u64,
        found: u64,
    },
    UnitSumNotZero {
        unit: Unit,
        sum_ucr: i64,
    },
    Unreadable {
        what: String,
    },
    /// The tables do not refuse what they should.
    GuardMissing {
        name: String,
    },
}

/// Breaks listed in a report; more are only counted.
pub const BREAKS_MAX: usize = 1_000;

/// An audit under way: accounts first, then transfers in their order, then [`Auditor::finish`]. Keeps every account
/// and every transfer id in memory.
#[derive(Debug, Default)]
pub struct Auditor {
    tallies: BTreeMap<AccountId, Tally>,
    seen: HashSet<TransferId>,
    history: Frontier,
    moved: BTreeMap<Unit, i128>,
    place: u64,
    breaks: Vec<Break>,
    breaks_left_out: u64,
}

#[derive(Debug)]
struct Tally {
    account: Account,
    debits: i128,
    credits: i128,
    limit_passed: bool,
    /// Whether somebody kept sums with it, to be compared.
    is_kept: bool,
}

impl Auditor {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn found(&mut self, what: Break) {
        if self.breaks.len() < BREAKS_MAX {
            self.breaks.push(what);
        } else {
            self.breaks_left_out += 1;
        }
    }

    pub fn account(&mut self, account: Account) {
        let id = account.id;
        if account.limit != account.code.limit() {
            self.found(Break::LimitDiffers { account: id, code: account.code, limit: account.limit });
        }
        let tally = Tally { account, debits: 0, credits: 0, limit_passed: false, is_kept: true };
        if self.tallies.insert(id, tally).is_some() {
            self.found(Break::AccountRepeated { account: id });
        }
    }

    /// A transfer from books whose accounts nobody lists, such as a log: it says itself what its two accounts are for.
    pub fn transfer_coded(&mut self, posted: &Posted, debit: AccountCode, credit: AccountCode) {
        for (id, code) in [(posted.transfer.debit, debit), (posted.transfer.credit, credit)] {
            let account = || Account {
                id,
                unit: posted.unit,
                code,
                limit: code.limit(),
                reference: Reference::NONE,
                debits: Amount::ZERO,
                credits: Amount::ZERO,
                opened_at: posted.posted_at,
            };
            let new = || Tally { account: account(), debits: 0, credits: 0, limit_passed: false, is_kept: false };
            let known = self.tallies.entry(id).or_insert_with(new).account.code;
            if known != code {
                self.found(Break::CodesDiffer { account: id, seq: posted.seq, code: known, found: code });
            }
        }
        self.transfer(posted);
    }

    pub fn transfer(&mut self, posted: &Posted) {
        let Posted { seq, transfer, unit, .. } = *posted;
        let id = transfer.id;
        if seq != self.place + 1 {
            self.found(Break::PlaceMissing { expected: self.place + 1, found: seq });
        }
        self.place = seq;
        self.history.push(&posted.leaf());
        if !self.seen.insert(id) {
            self.found(Break::TransferRepeated { seq, transfer: id });
        }
        if transfer.amount.is_zero() {
            self.found(Break::AmountZero { seq, transfer: id });
        }
        if transfer.debit == transfer.credit {
            self.found(Break::SameAccount { seq, transfer: id });
        }
        let amount = i128::from(transfer.amount.ucr());
        *self.moved.entry(unit).or_default() += amount;
        let from = self.add(posted, transfer.debit, amount, 0);
        let to = self.add(posted, transfer.credit, 0, amount);
        if let (Some(from), Some(to)) = (from, to)
            && !transfer.kind.joins(from, to)
        {
            self.found(Break::KindForbidden { seq, transfer: id, kind: transfer.kind, from, to });
        }
    }

    /// Adds to one side; gives back what the account is for.
    fn add(&mut self, posted: &Posted, id: AccountId, debit: i128, credit: i128) -> Option<AccountCode> {
        let (seq, transfer) = (posted.seq, posted.transfer.id);
        let Some(tally) = self.tallies.get_mut(&id) else {
            self.found(Break::AccountMissing { seq, transfer, account: id });
            return None;
        };
        tally.debits += debit;
        tally.credits += credit;
        let Account { code, unit, .. } = tally.account;
        // The limit of the code, not the one kept with the account: that one may have been tampered with.
        let passed = !code.limit().allows(tally.debits, tally.credits) && !tally.limit_passed;
        tally.limit_passed |= passed;
        let (debits, credits) = (ucr(tally.debits), ucr(tally.credits));
        if passed {
            self.found(Break::LimitPassed { account: id, seq, debits, credits });
        }
        if unit != posted.unit {
            self.found(Break::UnitsDiffer { seq, transfer });
        }
        Some(code)
    }

    pub fn finish(mut self) -> AuditReport {
        let tallies = std::mem::take(&mut self.tallies);
        let mut kept: BTreeMap<Unit, i128> = BTreeMap::new();
        let mut codes: BTreeMap<(Unit, AccountCode), (u64, i128, i128)> = BTreeMap::new();
        for Tally { account, debits, credits, is_kept, .. } in tallies.values() {
            let (debits_kept, credits_kept) = match is_kept {
                true => (account.debits.ucr(), account.credits.ucr()),
                false => (ucr(*debits), ucr(*credits)),
            };
            *kept.entry(account.unit).or_default() += i128::from(credits_kept) - i128::from(debits_kept);
            let code = codes.entry((account.unit, account.code)).or_default();
            *code = (code.0 + 1, code.1 + debits, code.2 + credits);
            if i128::from(debits_kept) != *debits || i128::from(credits_kept) != *credits {
                let (debits_added, credits_added) = (ucr(*debits), ucr(*credits));
                self.found(Break::SumsDiffer {
                    account: account.id,
                    debits_kept,
                    debits_added,
                    credits_kept,
                    credits_added,
                });
            }
        }
        for (unit, sum) in &kept {
            if *sum != 0 {
                self.found(Break::UnitSumNotZero { unit: *unit, sum_ucr: ucr(*sum) });
            }
        }
        let moved = |unit: &Unit| ucr(self.moved.get(unit).copied().unwrap_or_default());
        AuditReport {
            holds: self.breaks.is_empty(),
            accounts: tallies.len() as u64,
            transfers: self.history.size(),
            root: self.history.root(),
            units: kept
                .iter()
                .map(|(unit, sum)| UnitTotal { unit: *unit, sum_ucr: ucr(*sum), moved_ucr: moved(unit) })
                .collect(),
            trial_balance: codes.into_iter().map(code_total).collect(),
            breaks: self.breaks,
            breaks_left_out: self.breaks_left_out,
        }
    }
}

fn code_total(((unit, code), (accounts, debits, credits)): ((Unit, AccountCode), (u64, i128, i128))) -> CodeTotal {
    let [debits_ucr, credits_ucr, balance_ucr] = [debits, credits, credits - debits].map(ucr);
    CodeTotal { unit, code, accounts, debits_ucr, credits_ucr, balance_ucr }
}

/// For the report: sums beyond i64 stand at its end.
fn ucr(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

impl AuditReport {
    /// Credits less debits over all accounts of `unit`; zero in sound books.
    pub fn sum_ucr(&self, unit: Unit) -> i64 {
        self.units.iter().find(|total| total.unit == unit).map_or(0, |total| total.sum_ucr)
    }

    /// The balance of all accounts of a code.
    pub fn balance_ucr(&self, unit: Unit, code: AccountCode) -> i64 {
        let mut totals = self.trial_balance.iter();
        totals.find(|total| (total.unit, total.code) == (unit, code)).map_or(0, |total| total.balance_ucr)
    }
}
