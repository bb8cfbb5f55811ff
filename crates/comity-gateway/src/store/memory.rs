//! A store in memory: for simulation and tests. It keeps nothing over a restart, so it never serves priced work.

mod agreed;
mod credited;
mod granted;
mod guarded;
mod kept;
mod passes;
mod planned;
mod stops;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use comity_guard::Category;
use comity_guard::volume::Counted;
use comity_wire::{CreditNoteId, Digest, GrantId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;

use super::agreed::Agreed;
use super::credited::Noted;
use super::granted::{Given, GrantSaid};
use super::kept::TextHome;
use super::passes::PassSaid;
use super::stops::{Said, SaidAct, Stop, Target, Word};
use super::{Answer, Store, StoreError, StoredCharge, Suspension};
use crate::spend::{Account, LaneKey, Pace, PaceKey, Rule, RunKey, RunRow, Slot, Write};

/// Clones are the same store, so that a test can crash one gateway and start another on it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Rows>>);

#[derive(Clone, Default)]
struct Rows {
    accounts: BTreeMap<TokenId, Account>,
    charges: BTreeMap<(TokenId, LaneKey, Slot), StoredCharge>,
    chains: BTreeMap<Digest, (TokenId, Vec<u8>)>,
    acknowledgements: BTreeMap<(TokenId, Digest), Vec<u8>>,
    delivered: BTreeMap<TokenId, bool>,
    houses: BTreeMap<OrgId, Timestamp>,
    grants: Vec<(Digest, Vec<u8>)>,
    withdrawn: Vec<(GrantId, Timestamp)>,
    paces: BTreeMap<PaceKey, Pace>,
    credits: BTreeMap<(Timestamp, CreditNoteId), Noted>,
    plans: Vec<(Digest, Vec<u8>)>,
    terms: Vec<(Digest, Vec<u8>)>,
    agreements: Vec<Agreed>,
    runs: BTreeMap<RunKey, RunRow>,
    volume: BTreeMap<(String, Counted, u32), u64>,
    suspensions: BTreeMap<String, Suspension>,
    stops: BTreeMap<Target, Stop>,
    stop_log: Vec<Said>,
    grant_log: Vec<GrantSaid>,
    passes: BTreeMap<(String, Category), Timestamp>,
    pass_log: Vec<PassSaid>,
    homes: BTreeMap<String, TextHome>,
    broken: bool,
    full: bool,
    /// Writes are taken, and their answer is lost.
    doubtful: bool,
    breaking: bool,
    /// The next account, or the next windows, that are read are handed out when this lets them.
    #[cfg(test)]
    late: Option<Arc<tokio::sync::Semaphore>>,
    writes: usize,
}

impl Memory {
    /// From here on every write and read fails, as on a full or read-only disk.
    pub fn break_down(&self, broken: bool) {
        self.rows().broken = broken;
    }

    /// From here on every write fails, and what was written can be read, as on a disk without room.
    pub fn fill_up(&self, full: bool) {
        self.rows().full = full;
    }

    /// The next write is taken, its answer is lost, and from then on nothing can be read, as where a machine hangs at a bad
    /// moment.
    pub fn lose_the_answer(&self) {
        self.rows().doubtful = true;
    }

    /// The next write fails, and from then on nothing can be read.
    pub fn break_down_at_the_next_write(&self) {
        self.rows().breaking = true;
    }

    /// The next account, or the windows of the next project, that are read wait on their way out for a permit.
    #[cfg(test)]
    pub(crate) fn hand_out_late(&self, gate: &Arc<tokio::sync::Semaphore>) {
        self.rows().late = Some(gate.clone());
    }

    #[cfg(test)]
    async fn hand_out(&self) {
        let late = self.rows().late.take();
        if let Some(late) = late {
            late.acquire().await.expect("it is never closed").forget();
        }
    }

    /// How many transactions were committed.
    pub fn commits(&self) -> usize {
        self.rows().writes
    }

    /// What a backup has: another store, which from here on goes its own way.
    #[must_use]
    pub fn copy(&self) -> Self {
        let rows = self.rows().clone();
        Self(Arc::new(Mutex::new(rows)))
    }

    /// Every charge, for audits.
    pub fn charges(&self) -> Vec<(TokenId, LaneKey, StoredCharge)> {
        self.rows().charges.iter().map(|((token, key, _), charge)| (*token, *key, charge.clone())).collect()
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<'a, T: Send + 'a>(&'a self, read: impl FnOnce(&Rows) -> T + Send + 'a) -> Answer<'a, T> {
        async move {
            let rows = self.rows();
            if rows.broken {
                Err(StoreError::Refused { why: "it was broken by a test".into() })
            } else {
                Ok(read(&rows))
            }
        }
        .boxed()
    }

    fn change<'a, T: Send + 'a>(&'a self, change: impl FnOnce(&mut Rows) -> T + Send + 'a) -> Answer<'a, T> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            Ok(change(&mut rows))
        }
        .boxed()
    }
}

impl Rows {
    fn writable(&self) -> Result<(), StoreError> {
        if self.broken || self.full {
            return Err(StoreError::Refused { why: "it was broken by a test".into() });
        }
        Ok(())
    }

    fn say(&mut self, act: SaidAct, target: &Target, word: &Word) {
        let n = self.stop_log.len() as u64 + 1;
        self.stop_log.push(Said { n, act, target: target.clone(), word: word.clone() });
    }

    fn say_grant(&mut self, grant: GrantId, given: Option<Given>, word: &Word) {
        let n = self.grant_log.len() as u64 + 1;
        self.grant_log.push(GrantSaid { n, grant, given, word: word.clone() });
    }

    fn say_pass(&mut self, subject: &str, category: Category, until: Option<Timestamp>, word: &Word) {
        let n = self.pass_log.len() as u64 + 1;
        self.pass_log.push(PassSaid {
            n,
            subject: subject.to_owned(),
            category: category.name().to_owned(),
            until,
            word: word.clone(),
        });
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Token { token, root } => {
                self.accounts.entry(*token).or_insert_with(|| Account::new(*token, *root));
            }
            Write::Chain { token, leaf, bytes } => {
                self.chains.insert(*leaf, (*token, bytes.to_vec()));
            }
            Write::Spent { token, id, amount, .. } => {
                self.account(*token).spent.insert(*id, *amount);
            }
            Write::Lane { token, key, lane } => {
                self.account(*token).lanes.insert(*key, lane.clone());
            }
            Write::Charge { token, key, slot, charged, receipt, evidence, .. } => {
                let row = StoredCharge {
                    slot: *slot,
                    charged: *charged,
                    receipt: receipt.clone(),
                    evidence: evidence.clone(),
                };
                let before = self.charges.insert((*token, *key, *slot), row);
                assert!(before.is_none(), "a slot is charged once");
            }
            Write::Acknowledgement { token, id, bytes } => {
                self.acknowledgements.insert((*token, *id), bytes.clone());
            }
            Write::Closed { token } => self.account(*token).closed = true,
            Write::Final { token, bytes } => self.account(*token).final_ = Some(bytes.clone()),
            Write::Superseded { token, at } => {
                self.account(*token).superseded.insert(*at);
            }
            Write::Asked { token, key, slot, created } => self.account(*token).asked(*key, *slot, *created),
            Write::Claim { token, number, pending } => {
                let account = self.account(*token);
                (account.claims, account.pending) = (*number, pending.clone());
            }
            Write::Pace { key, pace } => {
                self.paces.insert(key.clone(), *pace);
            }
            Write::Run { key, row } => {
                self.runs.insert(key.clone(), *row);
            }
        }
    }

    fn account(&mut self, token: TokenId) -> &mut Account {
        self.accounts.get_mut(&token).expect("a token's row is written before what hangs on it")
    }
}

impl Store for Memory {
    fn account(&self, token: TokenId) -> Answer<'_, Option<Account>> {
        async move {
            let found = self.read(move |rows| rows.accounts.get(&token).cloned()).await?;
            #[cfg(test)]
            self.hand_out().await;
            Ok(found)
        }
        .boxed()
    }

    fn write<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.broken |= std::mem::take(&mut rows.breaking);
            rows.writable()?;
            // A token's row first, as the foreign keys of a database want it.
            for write in writes {
                rows.apply(write);
            }
            rows.writes += 1;
            rows.broken = rows.doubtful;
            if std::mem::take(&mut rows.doubtful) { Err(StoreError::Timeout) } else { Ok(()) }
        }
        .boxed()
    }

    fn charge(&self, token: TokenId, key: LaneKey, slot: Slot) -> Answer<'_, Option<StoredCharge>> {
        self.read(move |rows| rows.charges.get(&(token, key, slot)).cloned())
    }

    fn charge_by_n(&self, token: TokenId, key: LaneKey, n: u64) -> Answer<'_, Option<StoredCharge>> {
        self.read(move |rows| {
            let mut of_lane = rows.charges.iter().filter(|((t, k, _), _)| (*t, *k) == (token, key));
            of_lane.find(|(_, charge)| charge.charged.n == n).map(|(_, charge)| charge.clone())
        })
    }

    fn history(&self, token: TokenId, key: LaneKey, count: u64) -> Answer<'_, Vec<Digest>> {
        self.read(move |rows| {
            let of_lane = rows.charges.iter().filter(|((t, k, _), _)| (*t, *k) == (token, key));
            let mut ids: Vec<_> = of_lane.map(|(_, charge)| (charge.charged.n, charge.charged.receipt)).collect();
            ids.sort_unstable();
            ids.into_iter().filter(|(n, _)| *n <= count).map(|(_, id)| id).collect()
        })
    }

    fn chain(&self, leaf: Digest) -> Answer<'_, Option<Vec<u8>>> {
        self.read(move |rows| rows.chains.get(&leaf).map(|(_, bytes)| bytes.clone()))
    }

    fn chains(&self, token: TokenId) -> Answer<'_, Vec<(Digest, Vec<u8>)>> {
        self.read(move |rows| {
            let of_token = rows.chains.iter().filter(|(_, (t, _))| *t == token);
            of_token.map(|(leaf, (_, bytes))| (*leaf, bytes.clone())).collect()
        })
    }

    fn acknowledgement(&self, token: TokenId, id: Digest) -> Answer<'_, Option<Vec<u8>>> {
        self.read(move |rows| rows.acknowledgements.get(&(token, id)).cloned())
    }

    fn tokens_due(&self) -> Answer<'_, Vec<TokenId>> {
        self.read(|rows| {
            let is_due = |account: &&Account| {
                let delivered = rows.delivered.get(&account.token).copied().unwrap_or(false);
                (account.closed && !delivered) || account.pending.is_some() || !crate::spend::due(account).is_empty()
            };
            rows.accounts.values().filter(is_due).map(|account| account.token).collect()
        })
    }

    fn final_delivered(&self, token: TokenId) -> Answer<'_, ()> {
        self.change(move |rows| {
            rows.delivered.insert(token, true);
        })
    }

    fn tokens(&self) -> Answer<'_, Vec<TokenId>> {
        self.read(|rows| rows.accounts.keys().copied().collect())
    }

    fn final_forgotten(&self, token: TokenId) -> Answer<'_, ()> {
        self.change(move |rows| {
            rows.delivered.insert(token, false);
        })
    }

    fn house_restored(&self, house: OrgId) -> Answer<'_, Option<Timestamp>> {
        self.read(move |rows| rows.houses.get(&house).copied())
    }

    fn house_restored_put(&self, house: OrgId, at: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| {
            rows.houses.insert(house, at);
        })
    }

    fn is_final_delivered(&self, token: TokenId) -> Answer<'_, bool> {
        self.read(move |rows| rows.delivered.get(&token).copied().unwrap_or(false))
    }

    fn paces<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(Rule, u32, Pace)>> {
        async move {
            let read = self.read(move |rows| {
                let of = rows.paces.iter().filter(|(key, _)| key.subject == subject);
                of.map(|(key, pace)| (key.rule.clone(), key.seconds, *pace)).collect()
            });
            let found = read.await?;
            #[cfg(test)]
            self.hand_out().await;
            Ok(found)
        }
        .boxed()
    }

    fn paces_forget(&self, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| rows.paces.retain(|key, pace| now < pace.begun.plus(u64::from(key.seconds))))
    }

    fn asked_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| {
            for account in rows.accounts.values_mut() {
                account.asked.retain(|_, asked| *asked >= before);
            }
        })
    }

    fn grant_put(&self, id: Digest, _subject: String, bytes: Vec<u8>, _at: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| {
            if rows.grants.iter().all(|(known, _)| *known != id) {
                rows.grants.push((id, bytes));
            }
        })
    }

    fn grants(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.read(|rows| rows.grants.iter().map(|(_, bytes)| bytes.clone()).collect())
    }

    fn grant_withdraw(&self, grant: GrantId, at: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| {
            if rows.withdrawn.iter().all(|(known, _)| *known != grant) {
                rows.withdrawn.push((grant, at));
            }
        })
    }

    fn grants_withdrawn(&self) -> Answer<'_, Vec<(GrantId, Timestamp)>> {
        self.read(|rows| rows.withdrawn.iter().rev().copied().collect())
    }

    fn try_out(&self) -> Answer<'_, ()> {
        self.change(|_| ())
    }
}
