//! The books in memory: the model that every store is compared with, and the store of simulations.
//!
//! A clone is a snapshot; to roll back is to put the clone back.

use std::collections::{BTreeMap, HashMap};

use comity_wire::Timestamp;

use crate::account::{Account, NewAccount};
use crate::audit::{AuditReport, Auditor};
use crate::decide::{Group, GroupOutcome, View, decide};
use crate::id::{AccountId, TransferId};
use crate::store::{ACCOUNTS_PER_CALL_MAX, Opened, PAGE_MAX, Store, StoreError, at_most, check_bounds};
use crate::transfer::Posted;

/// Accounts and transfers, nothing else. Grows with what is posted, as books do.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    accounts: BTreeMap<AccountId, Account>,
    transfers: Vec<Posted>,
    by_id: HashMap<TransferId, usize>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// All transfers, in the order of the books.
    pub fn transfers(&self) -> &[Posted] {
        &self.transfers
    }

    pub fn audit(&self) -> AuditReport {
        let mut auditor = Auditor::new();
        self.accounts.values().for_each(|account| auditor.account(*account));
        self.transfers.iter().for_each(|posted| auditor.transfer(posted));
        auditor.finish()
    }

    /// [`Store::accounts_open_in_tx`] without the waiting, for cores that are not async.
    pub fn open(&mut self, accounts: &[NewAccount], now: Timestamp) -> Vec<Opened> {
        let open = |new: &NewAccount| match self.accounts.get(&new.id) {
            Some(account) if new.is(account) => Opened::Exists,
            Some(_) => Opened::Conflict,
            None => {
                self.accounts.insert(new.id, new.opened(now));
                Opened::Created
            }
        };
        accounts.iter().map(open).collect()
    }

    /// [`Store::transfers_post_in_tx`] without the waiting, for cores that are not async.
    pub fn post(&mut self, groups: &[Group], now: Timestamp) -> Vec<GroupOutcome> {
        let accounts = Group::accounts(groups).into_iter().filter_map(|id| self.accounts.get(&id).copied());
        let known = Group::transfers(groups)
            .into_iter()
            .filter_map(|id| self.by_id.get(&id).map(|at| self.transfers[*at].transfer));
        let decision = decide(&View::new(accounts, known), groups, now);
        for accepted in &decision.posted {
            self.by_id.insert(accepted.transfer.id, self.transfers.len());
            let seq = self.transfers.len() as u64 + 1;
            self.transfers.push(Posted { seq, transfer: accepted.transfer, unit: accepted.unit, posted_at: now });
        }
        for (id, change) in &decision.changed {
            self.accounts.insert(*id, change.after);
        }
        decision.outcomes
    }
}

impl Store for Memory {
    async fn accounts_open_in_tx(
        &mut self,
        accounts: &[NewAccount],
        now: Timestamp,
    ) -> Result<Vec<Opened>, StoreError> {
        at_most(accounts.len(), ACCOUNTS_PER_CALL_MAX)?;
        Ok(self.open(accounts, now))
    }

    async fn transfers_post_in_tx(
        &mut self,
        groups: &[Group],
        now: Timestamp,
    ) -> Result<Vec<GroupOutcome>, StoreError> {
        check_bounds(groups)?;
        Ok(self.post(groups, now))
    }

    async fn accounts_in_tx(&mut self, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
        let ids: std::collections::BTreeSet<_> = ids.iter().collect();
        Ok(ids.into_iter().filter_map(|id| self.accounts.get(id).copied()).collect())
    }

    async fn transfer_in_tx(&mut self, id: TransferId) -> Result<Option<Posted>, StoreError> {
        Ok(self.by_id.get(&id).map(|at| self.transfers[*at]))
    }

    async fn transfers_of_account_in_tx(
        &mut self,
        id: AccountId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Posted>, StoreError> {
        let of = |posted: &&Posted| posted.seq > after && (posted.transfer.debit == id || posted.transfer.credit == id);
        Ok(self.transfers.iter().filter(of).take(limit.min(PAGE_MAX) as usize).copied().collect())
    }

    async fn audit_in_tx(&mut self) -> Result<AuditReport, StoreError> {
        Ok(self.audit())
    }
}
