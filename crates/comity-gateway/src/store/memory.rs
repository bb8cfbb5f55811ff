//! A store in memory: for simulation and tests. It keeps nothing over a restart, so it never serves priced work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use comity_guard::Category;
use comity_guard::volume::{Counted, Delta};
use comity_wire::{CreditNoteId, Digest, GrantId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;

use super::agreed::{self, AGREEMENTS_MAX, Agreed, Agreements, TERMS_MAX};
use super::credited::{CREDITS_MAX, Credited, HouseSaid, Noted};
use super::granted::{Given, GrantSaid, Granted};
use super::kept::{HOMES_MAX, Kept, TextHome, subject_of};
use super::passes::{PASSES_MAX, Pass, PassSaid, Passes};
use super::planned::{PLANS_MAX, Planned};
use super::stops::{STOPS_MAX, Said, SaidAct, Stop, Stops, Target, Word, too_many};
use super::{Answer, Guarded, Store, StoreError, StoredCharge, Suspension};
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

impl Guarded for Memory {
    fn volume<'a>(&'a self, subject: &'a str, from: u32) -> Answer<'a, Vec<(Counted, u32, u64)>> {
        self.read(move |rows| {
            let of = rows.volume.iter().filter(|((of, _, hour), _)| of == subject && *hour >= from);
            of.map(|((_, counted, hour), count)| (*counted, *hour, *count)).collect()
        })
    }

    fn volume_add<'a>(&'a self, deltas: &'a [Delta]) -> Answer<'a, ()> {
        self.change(move |rows| {
            for delta in deltas {
                let key = (delta.project.clone(), delta.counted, delta.hour);
                *rows.volume.entry(key).or_default() += u64::from(delta.count);
            }
        })
    }

    fn volume_forget(&self, before: u32) -> Answer<'_, ()> {
        self.change(move |rows| rows.volume.retain(|(_, _, hour), _| *hour >= before))
    }

    fn suspensions(&self) -> Answer<'_, Vec<Suspension>> {
        self.read(|rows| rows.suspensions.values().cloned().collect())
    }

    fn suspension_put<'a>(&'a self, suspension: &'a Suspension) -> Answer<'a, ()> {
        self.change(move |rows| {
            rows.suspensions.entry(suspension.subject.clone()).or_insert_with(|| suspension.clone());
        })
    }

    fn suspension_end<'a>(&'a self, subject: &'a str, word: Option<&'a Word>) -> Answer<'a, bool> {
        async move {
            let mut rows = self.rows();
            let ended = rows.suspensions.remove(subject).is_some();
            if let Some(word) = word.filter(|_| ended) {
                rows.say(SaidAct::Lifted, &Target::Project(subject.to_owned()), word);
            }
            Ok(ended)
        }
        .boxed()
    }
}

impl Granted for Memory {
    fn grant_give<'a>(&'a self, grant: GrantId, given: &'a Given, bytes: &'a [u8], word: &'a Word) -> Answer<'a, ()> {
        self.change(move |rows| {
            if rows.grants.iter().all(|(known, _)| *known != given.content) {
                rows.grants.push((given.content, bytes.to_vec()));
            }
            rows.say_grant(grant, Some(given.clone()), word);
        })
    }

    fn grant_take_back<'a>(&'a self, grant: GrantId, word: &'a Word) -> Answer<'a, ()> {
        self.change(move |rows| {
            if rows.withdrawn.iter().all(|(known, _)| *known != grant) {
                rows.withdrawn.push((grant, word.at));
            }
            rows.say_grant(grant, None, word);
        })
    }

    fn grant_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<GrantSaid>> {
        self.read(move |rows| rows.grant_log.iter().filter(|said| said.n > n).take(most as usize).cloned().collect())
    }
}

impl Passes for Memory {
    fn passes(&self) -> Answer<'_, Vec<Pass>> {
        self.read(|rows| {
            let pass = |((subject, category), until): (&(String, Category), &Timestamp)| Pass {
                subject: subject.clone(),
                category: *category,
                until: *until,
            };
            rows.passes.iter().map(pass).collect()
        })
    }

    fn pass_put<'a>(&'a self, pass: &'a Pass, word: &'a Word) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            rows.passes.retain(|_, until| word.at < *until);
            let place = (pass.subject.clone(), pass.category);
            if !rows.passes.contains_key(&place) && rows.passes.len() >= PASSES_MAX {
                return Err(super::passes::too_many());
            }
            rows.passes.insert(place, pass.until);
            rows.say_pass(&pass.subject, pass.category, Some(pass.until), word);
            Ok(())
        }
        .boxed()
    }

    fn pass_end<'a>(&'a self, subject: &'a str, category: Category, word: &'a Word) -> Answer<'a, bool> {
        self.change(move |rows| {
            let gone = rows.passes.remove(&(subject.to_owned(), category)).is_some();
            if gone {
                rows.say_pass(subject, category, None, word);
            }
            gone
        })
    }

    fn pass_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<PassSaid>> {
        self.read(move |rows| rows.pass_log.iter().filter(|said| said.n > n).take(most as usize).cloned().collect())
    }
}

impl Credited for Memory {
    fn credit_put<'a>(&'a self, note: &'a Noted) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.credits.values().any(|known| known.id == note.id) {
                return Ok(());
            }
            if rows.credits.len() >= CREDITS_MAX {
                return Err(super::credited::too_many());
            }
            rows.credits.insert((note.at, note.id), Noted { said: HouseSaid::Nothing, ..note.clone() });
            Ok(())
        }
        .boxed()
    }

    fn credit_said<'a>(&'a self, id: CreditNoteId, said: &'a HouseSaid) -> Answer<'a, ()> {
        self.change(move |rows| {
            if let Some(note) = rows.credits.values_mut().find(|note| note.id == id) {
                note.said = said.clone();
            }
        })
    }

    fn credits_again(&self, house: OrgId, since: Timestamp) -> Answer<'_, u64> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let booked = |note: &&mut Noted| {
                note.house == house && matches!(note.said, HouseSaid::Booked { booked_at, .. } if booked_at >= since)
            };
            let mut again = 0;
            for note in rows.credits.values_mut().filter(booked) {
                note.said = HouseSaid::Nothing;
                again += 1;
            }
            Ok(again)
        }
        .boxed()
    }

    fn credits_waiting(&self, limit: u32) -> Answer<'_, Vec<Noted>> {
        self.read(move |rows| {
            let waiting = rows.credits.values().filter(|note| note.said == HouseSaid::Nothing);
            waiting.take(limit as usize).cloned().collect()
        })
    }

    fn credits(&self, token: Option<TokenId>, limit: u32) -> Answer<'_, Vec<Noted>> {
        self.read(move |rows| {
            let of = rows.credits.values().rev().filter(|note| token.is_none_or(|token| note.token == token));
            of.take(limit as usize).cloned().collect()
        })
    }
}

impl Kept for Memory {
    fn tokens_of<'a>(&'a self, subject: &'a str, from: TokenId, most: u32) -> Answer<'a, Vec<TokenId>> {
        self.read(move |rows| {
            let of = rows.chains.values().filter(|(token, bytes)| *token >= from && subject_of(bytes) == subject);
            let tokens: BTreeSet<TokenId> = of.map(|(token, _)| *token).collect();
            tokens.into_iter().take(most as usize).collect()
        })
    }

    fn subjects_fill(&self) -> Answer<'_, u32> {
        self.read(|_| 0)
    }

    fn home_put<'a>(&'a self, home: &'a TextHome) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let over = home.seen_at.minus(super::kept::UNHEARD_S);
            rows.homes.retain(|id, known| *id != home.id && known.until > over);
            if home.until > home.seen_at {
                if rows.homes.len() >= HOMES_MAX {
                    return Err(super::kept::too_many());
                }
                rows.homes.insert(home.id.clone(), TextHome { place: super::kept::place(home), ..home.clone() });
            }
            Ok(())
        }
        .boxed()
    }

    fn homes(&self) -> Answer<'_, Vec<TextHome>> {
        self.read(|rows| rows.homes.values().cloned().collect())
    }
}

impl Agreements for Memory {
    fn terms_put(&self, id: Digest, bytes: Vec<u8>, _at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.terms.iter().any(|(known, _)| *known == id) {
                return Ok(());
            }
            if rows.terms.len() >= TERMS_MAX {
                return Err(agreed::too_many_terms());
            }
            rows.terms.push((id, bytes));
            Ok(())
        }
        .boxed()
    }

    fn terms(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.read(|rows| rows.terms.iter().map(|(_, bytes)| bytes.clone()).collect())
    }

    fn agreement_put(&self, agreed: Agreed) -> Answer<'_, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let same = |known: &Agreed| (&known.subject, known.terms) == (&agreed.subject, agreed.terms);
            if rows.agreements.iter().any(same) {
                return Ok(());
            }
            if rows.agreements.len() >= AGREEMENTS_MAX {
                return Err(agreed::too_many());
            }
            rows.agreements.push(agreed);
            Ok(())
        }
        .boxed()
    }

    fn agreements(&self) -> Answer<'_, Vec<(String, Digest, Timestamp)>> {
        self.read(|rows| {
            let mut all: Vec<_> = rows.agreements.iter().collect();
            all.sort_by_key(|agreed| (agreed.at, agreed.subject.clone(), agreed.terms));
            all.into_iter().map(|agreed| (agreed.subject.clone(), agreed.terms, agreed.at)).collect()
        })
    }

    fn agreements_of<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<Agreed>> {
        self.read(move |rows| {
            let mut of: Vec<_> = rows.agreements.iter().filter(|agreed| agreed.subject == subject).cloned().collect();
            of.sort_by_key(|agreed| (std::cmp::Reverse(agreed.at), agreed.terms));
            of
        })
    }
}

impl Planned for Memory {
    fn plan_put(&self, id: Digest, bytes: Vec<u8>, _at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.plans.iter().any(|(known, _)| *known == id) {
                return Ok(());
            }
            if rows.plans.len() >= PLANS_MAX {
                return Err(super::planned::too_many());
            }
            rows.plans.push((id, bytes));
            Ok(())
        }
        .boxed()
    }

    fn plans(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.read(|rows| rows.plans.iter().map(|(_, bytes)| bytes.clone()).collect())
    }

    fn runs<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(RunKey, RunRow)>> {
        self.read(move |rows| {
            let of = rows.runs.iter().filter(|(key, _)| key.subject == subject);
            of.map(|(key, row)| (key.clone(), *row)).collect()
        })
    }

    fn runs_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| rows.runs.retain(|_, row| row.until >= before))
    }
}

impl Stops for Memory {
    fn stops(&self) -> Answer<'_, Vec<Stop>> {
        self.read(|rows| rows.stops.values().cloned().collect())
    }

    fn stop_put<'a>(&'a self, wanted: &'a Stop) -> Answer<'a, Stop> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.stops.len() >= STOPS_MAX && !rows.stops.contains_key(&wanted.target) {
                return Err(too_many());
            }
            rows.say(wanted.running.said(), &wanted.target, &wanted.word);
            let stands = rows.stops.entry(wanted.target.clone()).or_insert_with(|| wanted.clone());
            stands.running = stands.running.max(wanted.running);
            Ok(stands.clone())
        }
        .boxed()
    }

    fn stop_end<'a>(&'a self, target: &'a Target, word: &'a Word) -> Answer<'a, Option<Stop>> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let ended = rows.stops.remove(target);
            if ended.is_some() {
                rows.say(SaidAct::Resumed, target, word);
            }
            Ok(ended)
        }
        .boxed()
    }

    fn stop_log(&self, most: u32) -> Answer<'_, Vec<Said>> {
        self.read(move |rows| rows.stop_log.iter().rev().take(most as usize).cloned().collect())
    }

    fn stop_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<Said>> {
        self.read(move |rows| rows.stop_log.iter().filter(|said| said.n > n).take(most as usize).cloned().collect())
    }
}

impl Store for Memory {
    fn account(&self, token: TokenId) -> Answer<'_, Option<Account>> {
        self.read(move |rows| rows.accounts.get(&token).cloned())
    }

    fn write<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, ()> {
        self.change(move |rows| {
            // A token's row first, as the foreign keys of a database want it.
            for write in writes {
                rows.apply(write);
            }
            rows.writes += 1;
        })
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
        self.read(move |rows| {
            let of = rows.paces.iter().filter(|(key, _)| key.subject == subject);
            of.map(|(key, pace)| (key.rule.clone(), key.seconds, *pace)).collect()
        })
    }

    fn paces_forget(&self, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| rows.paces.retain(|key, pace| now < pace.begun.plus(u64::from(key.seconds))))
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
