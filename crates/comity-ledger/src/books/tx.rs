//! Writing: lock → decide → write in sets → read back, inside a transaction that someone else began and will commit.
//!
//! A fixed number of statements per call, whatever the number of transfers (up to 256 at a time): many requests in one
//! call are far cheaper than many calls.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::Timestamp;

use super::read;
use super::rows::{self, Cells, seconds};
use crate::account::{Account, NewAccount};
use crate::audit::AuditReport;
use crate::db::{Db, query};
use crate::decide::{Change, Decision, Group, GroupOutcome, View, decide};
use crate::id::{AccountId, TransferId};
use crate::store::{ACCOUNTS_PER_CALL_MAX, Opened, Store, StoreError, at_most, check_bounds};
use crate::transfer::Posted;
use crate::values;

/// Moves sums of many accounts, each found by its key, if they are what they were when they were read: then as many rows change as
/// are said. The `COALESCE` says nothing; but SQLite would make an index of `moved.id` by itself where the rows are more than two
/// hundred, and then read every account there is.
pub(super) const ACCOUNTS_UPDATE: &str = "WITH moved (id, debits, credits, debited, credited) AS ({rows}) \
    UPDATE account SET debits = moved.debits + moved.debited, credits = moved.credits + moved.credited FROM moved \
    WHERE account.id = COALESCE(moved.id, moved.id) AND account.debits = moved.debits AND account.credits = moved.credits";

/// The books inside an open transaction.
pub struct LedgerTx<'a> {
    db: Db<'a>,
    /// What was opened here and did not move since: it need not be read back. Should anybody else move it in the same transaction, the
    /// update finds other sums than it was told.
    fresh: BTreeMap<AccountId, Account>,
}

impl<'a> LedgerTx<'a> {
    /// Joins the transaction that is open on `db`. It must have begun with [`Conn::write`](crate::db::Conn::write): that one
    /// writes alone is the row lock of every account.
    ///
    /// # Panics
    /// Where no transaction is open: then each statement would commit on its own.
    pub fn new(db: &'a mut Db<'_>) -> Self {
        assert!(db.is_in_transaction(), "the ledger is written inside an open transaction");
        Self { db: db.reborrow(), fresh: BTreeMap::new() }
    }

    /// The connection, for tables that share the transaction.
    pub fn db(&mut self) -> &mut Db<'a> {
        &mut self.db
    }

    async fn transfers_insert(&mut self, decision: &Decision) -> Result<(), StoreError> {
        if decision.posted.is_empty() {
            return Ok(());
        }
        // Nobody else writes: the next place is free.
        let mut last = query("SELECT COALESCE(MAX(seq), 0) FROM transfer").fetch_one(&mut self.db).await?.first()?;
        let rows = decision.posted.iter().map(|accepted| {
            let transfer = &accepted.transfer;
            last += 1;
            values![
                last,
                transfer.id.0,
                i64::from(transfer.kind.number()),
                transfer.debit.0,
                transfer.credit.0,
                i64::from(accepted.unit.0),
                transfer.amount.ucr(),
                transfer.reference.0,
                transfer.evidence.0,
                seconds(decision.posted_at),
            ]
        });
        let inserting = query(
            "INSERT INTO transfer (seq, id, kind, debit_id, credit_id, unit, amount, reference, evidence, posted_at) {rows}",
        );
        let inserted = inserting.each(rows).execute(&mut self.db).await?;
        written("transfers", inserted, decision.posted.len())
    }

    async fn accounts_update(&mut self, decision: &Decision) -> Result<(), StoreError> {
        let moved =
            decision.changed.values().map(|change: &Change| {
                let Change { before, .. } = change;
                values![
                    before.id.0,
                    before.debits.ucr(),
                    before.credits.ucr(),
                    change.debited_ucr(),
                    change.credited_ucr(),
                ]
            });
        let changed = query(ACCOUNTS_UPDATE).each(moved).repeatable().execute(&mut self.db).await?;
        written("accounts", changed, decision.changed.len())
    }
}

impl Store for LedgerTx<'_> {
    async fn accounts_open_in_tx(
        &mut self,
        accounts: &[NewAccount],
        now: Timestamp,
    ) -> Result<Vec<Opened>, StoreError> {
        at_most(accounts.len(), ACCOUNTS_PER_CALL_MAX)?;
        // The first of those that share an id is the one that may be created.
        let mut firsts = BTreeMap::new();
        for account in accounts {
            firsts.entry(account.id).or_insert(*account);
        }
        let firsts: Vec<NewAccount> = firsts.into_values().collect();
        let asking =
            query("SELECT id FROM account WHERE id {any}").each(firsts.iter().map(|account| values![account.id.0]));
        let mut there = BTreeSet::new();
        for row in asking.repeatable().fetch_all(&mut self.db).await? {
            there.insert(AccountId(Cells { table: rows::ACCOUNT, row: &row }.bytes("id")?));
        }
        let opening =
            query("INSERT INTO account (id, unit, code, limited, reference, debits, credits, opened_at) {rows}");
        let new = || firsts.iter().filter(|account| !there.contains(&account.id));
        let mut created: BTreeSet<AccountId> = new().map(|account| account.id).collect();
        let rows = new().map(|account| {
            values![
                account.id.0,
                i64::from(account.unit.0),
                i64::from(account.code.number()),
                i64::from(account.code.limit().number()),
                account.reference.0,
                0_i64,
                0_i64,
                seconds(now),
            ]
        });
        let opened = opening.each(rows).execute(&mut self.db).await?;
        written("new accounts", opened, created.len())?;
        self.fresh.extend(new().map(|account| (account.id, account.opened(now))));
        if created.len() == accounts.len() {
            return Ok(vec![Opened::Created; accounts.len()]);
        }
        let ids: Vec<AccountId> = firsts.iter().map(|account| account.id).collect();
        let stored: BTreeMap<_, _> =
            self.accounts_in_tx(&ids).await?.into_iter().map(|account| (account.id, account)).collect();
        let answer = |new: &NewAccount| {
            let account = stored.get(&new.id).ok_or_else(|| read_back(format!("account {} is gone", new.id)))?;
            // Only the first mention of an id that this call created is `Created`.
            Ok(match (new.is(account), created.remove(&new.id)) {
                (true, true) => Opened::Created,
                (true, false) => Opened::Exists,
                (false, _) => Opened::Conflict,
            })
        };
        accounts.iter().map(answer).collect()
    }

    async fn transfers_post_in_tx(
        &mut self,
        groups: &[Group],
        now: Timestamp,
    ) -> Result<Vec<GroupOutcome>, StoreError> {
        check_bounds(groups)?;
        let (fresh, others): (Vec<AccountId>, Vec<AccountId>) =
            Group::accounts(groups).into_iter().partition(|id| self.fresh.contains_key(id));
        let transfers: Vec<TransferId> = Group::transfers(groups).into_iter().collect();
        let mut accounts = read::accounts(&mut self.db, &others).await?;
        accounts.extend(fresh.iter().filter_map(|id| self.fresh.remove(id)));
        let known = read::transfers(&mut self.db, &transfers).await?;
        let view = View::new(accounts, known.into_iter().map(|posted| posted.transfer));
        let decision = decide(&view, groups, now);
        self.transfers_insert(&decision).await?;
        self.accounts_update(&decision).await?;
        Ok(decision.outcomes)
    }

    async fn accounts_in_tx(&mut self, ids: &[AccountId]) -> Result<Vec<Account>, StoreError> {
        read::accounts(&mut self.db, ids).await
    }

    async fn transfer_in_tx(&mut self, id: TransferId) -> Result<Option<Posted>, StoreError> {
        Ok(read::transfers(&mut self.db, &[id]).await?.into_iter().next())
    }

    async fn transfers_of_account_in_tx(
        &mut self,
        id: AccountId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Posted>, StoreError> {
        read::transfers_of_account(&mut self.db, id, after, limit).await
    }

    async fn audit_in_tx(&mut self) -> Result<AuditReport, StoreError> {
        super::audit_in_tx(&mut self.db).await
    }
}

/// Whether as many rows were written as were decided: a row that moved since it was read is not.
fn written(what: &str, rows: u64, decided: usize) -> Result<(), StoreError> {
    match u64::try_from(decided) {
        Ok(decided) if decided == rows => Ok(()),
        _ => Err(read_back(format!("of {decided} {what} that were decided {rows} were written: some had moved"))),
    }
}

fn read_back(what: String) -> StoreError {
    StoreError::ReadBack { what }
}
