//! Admission: the one step in which a request is looked up, judged against every cap, and held.

use std::collections::HashMap;
use std::sync::Arc;

use comity_token::PathCap;
use comity_wire::{Amount, Digest, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::pace::{self, Bound, Pace, Place, Rule, Standing, Subject};
use super::runs::{RunKey, RunPlace, RunRow, Volume, Within};
use super::{Account, Charged, Lane, LaneKey, Refused, SEQ_SPAN, Slot};

/// A hold on credits while a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub(super) u64);

/// A request that asks to be held.
#[derive(Clone, Debug)]
pub struct Ask {
    pub token: TokenId,
    pub key: LaneKey,
    pub slot: Slot,
    pub authority: Digest,
    /// When it was signed, by its holder's clock.
    pub created: Timestamp,
    /// Root first.
    pub path: Vec<PathCap>,
    /// Lanes of the leaf.
    pub lanes: u16,
    /// Distinct lanes under the token, over all leaves.
    pub lanes_max: u16,
    pub window: Amount,
    pub hold: Amount,
    pub least: Amount,
    /// What the holder signed for.
    pub max: Amount,
    /// The project's pseudonym: whose pace it counts in, whatever token it comes under.
    pub subject: String,
    pub bounds: Vec<Bound>,
    /// Input and output tokens at most.
    pub tokens: u64,
    /// The executions of plans that it counts in.
    pub within: Vec<Within>,
}

impl Ask {
    /// Whether it counts against limits that all tokens of its subject share.
    pub fn is_counted(&self) -> bool {
        !self.within.is_empty() || self.bounds.iter().any(|bound| bound.concurrency > 0 || !bound.windows.is_empty())
    }
}

/// What became of an ask that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    Held(HoldId),
    /// It was answered: the store has the receipt.
    Charged(Charged),
    /// Only the store knows whether this old slot was charged; if it was not, it is outside the span.
    AskStore {
        highest: u64,
    },
}

/// What the book knows of a slot, without judging anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Known {
    Free,
    Charged(Charged),
    AskStore { highest: u64 },
}

/// What a caller is told about its money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub charged: Amount,
    /// The tightest cap on the path less what was charged under it.
    pub remaining: Amount,
    pub reserved: Amount,
}

/// Its JSON is what gateways that share a store read of each other's holds ([`super::shared`]): a new field needs a default.
#[derive(Serialize, Deserialize)]
pub(super) struct Hold {
    pub(super) token: TokenId,
    pub(super) key: LaneKey,
    pub(super) slot: Slot,
    pub(super) authority: Digest,
    #[serde(with = "super::shared::path")]
    pub(super) path: Vec<PathCap>,
    pub(super) amount: Amount,
    pub(super) max: Amount,
    least: Amount,
    pub(super) subject: String,
    #[serde(default)]
    pub(super) rules: Vec<Rule>,
    /// The windows it counts in.
    #[serde(default)]
    pub(super) places: Vec<Place>,
    #[serde(default)]
    pub(super) tokens: u64,
    /// Its places in executions of plans.
    #[serde(default)]
    pub(super) runs: Vec<RunPlace>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) amount: Amount,
    least: Amount,
    /// How many holds: one of nothing is a hold too.
    holds: usize,
}

/// What is open in a lane.
#[derive(Default)]
struct LaneHeld {
    amount: Amount,
    /// One for each hold; few, since no number lies more than a span above the least.
    seqs: Vec<u64>,
}

#[derive(Default)]
pub(super) struct Entry {
    /// `None` while it must be read from the store (again).
    pub(super) account: Option<Account>,
    pub(super) held: HashMap<Digest, Held>,
    lanes_held: HashMap<LaneKey, LaneHeld>,
    pub(super) open: HashMap<(LaneKey, Slot), HoldId>,
    used_at: u64,
}

/// What is charged and held. One per node: its store is locked and fenced (rule 11).
pub struct Book {
    pub(super) entries: HashMap<TokenId, Entry>,
    pub(super) holds: HashMap<HoldId, Arc<Hold>>,
    pub(super) subjects: HashMap<String, Subject>,
    pub(super) next: u64,
    clock: u64,
    /// The clock at the last sweep.
    swept: u64,
    tokens_max: usize,
    /// How often an account was forgotten, by its token's last byte: what was read before that may be older than what was
    /// charged since.
    forgotten: [u64; 256],
    /// The same of projects, by a byte of their name's digest.
    subjects_forgotten: [u64; 256],
}

/// Projects whose pace is in memory; past it those with nothing under way are read from the store again when they call.
const SUBJECTS_MAX: usize = 65_536;

/// What a store has of a project: its windows, and what its executions used.
type SubjectRows = (Vec<(Rule, u32, Pace)>, Vec<(RunKey, RunRow)>);

impl Book {
    /// Keeps at most `tokens_max` accounts in memory; those with open holds are never dropped.
    pub fn new(tokens_max: usize) -> Self {
        let (entries, holds, subjects) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (forgotten, subjects_forgotten) = ([0; 256], [0; 256]);
        Self { entries, holds, subjects, next: 1, clock: 0, swept: 0, tokens_max, forgotten, subjects_forgotten }
    }

    pub fn is_loaded(&self, token: TokenId) -> bool {
        self.entries.get(&token).is_some_and(|entry| entry.account.is_some())
    }

    /// Whether it is loaded; then it counts as used, and stays for whoever asks.
    pub fn touch(&mut self, token: TokenId) -> bool {
        let Some(entry) = self.entries.get_mut(&token).filter(|entry| entry.account.is_some()) else { return false };
        self.clock += 1;
        entry.used_at = self.clock;
        true
    }

    /// Takes what the store has of a token. What the book knows already is newer and stays.
    pub fn load(&mut self, account: Account) {
        self.clock += 1;
        let entry = self.entries.entry(account.token).or_default();
        entry.used_at = self.clock;
        entry.account.get_or_insert(account);
        self.evict();
    }

    /// What is to be shown with an account that was read from the store: taken before it is read.
    pub fn generation(&self, token: TokenId) -> u64 {
        self.forgotten[bucket(token)]
    }

    /// Takes what was read of a token since `generation`. `false` where an account was forgotten meanwhile: what was read may
    /// be from before its last charge, and has to be read again.
    #[must_use]
    pub fn load_read(&mut self, account: Account, generation: u64) -> bool {
        let is_known = self.is_loaded(account.token);
        if !is_known && self.generation(account.token) != generation {
            return false;
        }
        self.load(account);
        true
    }

    /// Forgets what was charged, so that it is read again; holds stay.
    pub fn unload(&mut self, token: TokenId) {
        self.forgotten[bucket(token)] += 1;
        if let Some(entry) = self.entries.get_mut(&token) {
            entry.account = None;
        }
    }

    /// Forgets accounts that nobody has used since the last sweep and that have no call under way: a token that is used up
    /// would stay until `tokens_max` others came. Who calls under one after all reads it again.
    pub fn sweep(&mut self) {
        let before = std::mem::replace(&mut self.swept, self.clock);
        let forgotten = &mut self.forgotten;
        self.entries.retain(|token, entry| {
            let stays = !entry.open.is_empty() || entry.used_at > before;
            forgotten[bucket(*token)] += u64::from(!stays);
            stays
        });
    }

    /// How many holds are open, and what they set aside together.
    pub fn open_holds(&self) -> (usize, Amount) {
        let sum = |sum: Amount, hold: &Arc<Hold>| sum.saturating_add(hold.amount);
        (self.holds.len(), self.holds.values().fold(Amount::ZERO, sum))
    }

    pub fn account(&self, token: TokenId) -> Option<&Account> {
        self.entries.get(&token)?.account.as_ref()
    }

    /// What is known of a slot. The request may come under another authority: then it is refused.
    ///
    /// # Errors
    /// `token_conflict`, `in_flight`, `sequence_conflict`.
    pub fn known(
        &self,
        token: TokenId,
        root: Digest,
        key: LaneKey,
        slot: Slot,
        authority: Digest,
    ) -> Result<Known, Refused> {
        let Some(entry) = self.entries.get(&token) else { return Ok(Known::Free) };
        let Some(account) = &entry.account else { return Ok(Known::Free) };
        if account.root != root {
            return Err(Refused::TokenConflict { token });
        }
        if entry.open.contains_key(&(key, slot)) {
            return Err(Refused::InFlight { seq: slot.seq });
        }
        let Some(lane) = account.lanes.get(&key) else { return Ok(Known::Free) };
        match lane.recent.get(slot) {
            Some(charged) if charged.authority == authority => Ok(Known::Charged(*charged)),
            Some(_) => Err(Refused::SequenceConflict { seq: slot.seq }),
            None if slot.seq <= lane.seq_highest && !lane.takes(slot.seq) => {
                Ok(Known::AskStore { highest: lane.seq_highest })
            }
            None => Ok(Known::Free),
        }
    }

    /// Judges and holds in one step. The token's account must be loaded.
    ///
    /// # Errors
    /// [`Refused`]; nothing was consumed.
    pub fn admit(&mut self, ask: &Ask, now: Timestamp) -> Result<Admission, Refused> {
        let root = ask.path.first().expect("a path begins at the token").id;
        match self.known(ask.token, root, ask.key, ask.slot, ask.authority)? {
            Known::Charged(charged) => return Ok(Admission::Charged(charged)),
            Known::AskStore { highest } => return Ok(Admission::AskStore { highest }),
            Known::Free => {}
        }
        let entry = self.entries.get(&ask.token).ok_or(Refused::NoAccount)?;
        let account = entry.account.as_ref().ok_or(Refused::NoAccount)?;
        Self::judge(entry, account, ask)?;
        self.judge_subject(ask, now)?;
        Ok(Admission::Held(self.hold(ask, now)))
    }

    /// What [`Book::admit`] would refuse as things stand. Holds nothing.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn foresee(&self, ask: &Ask, now: Timestamp) -> Result<(), Refused> {
        let entry = self.entries.get(&ask.token).ok_or(Refused::NoAccount)?;
        let account = entry.account.as_ref().ok_or(Refused::NoAccount)?;
        Self::judge(entry, account, ask)?;
        self.judge_subject(ask, now)
    }

    /// Whether the store has still to be asked for a project's windows before it can be judged by them.
    pub fn needs_subject(&self, ask: &Ask) -> bool {
        let counts = !ask.within.is_empty() || ask.bounds.iter().any(|bound| !bound.windows.is_empty());
        counts && !self.subjects.get(&ask.subject).is_some_and(Subject::is_loaded)
    }

    /// The project of a hold whose charge counts in windows or executions that have to be read first.
    pub fn subject_to_read(&self, hold: HoldId) -> Option<&str> {
        let hold = self.holds.get(&hold).filter(|hold| !hold.places.is_empty() || !hold.runs.is_empty())?;
        let is_loaded = self.subjects.get(&hold.subject).is_some_and(Subject::is_loaded);
        (!is_loaded).then_some(hold.subject.as_str())
    }

    /// Forgets that a project was read, so that it is read again; what runs stays counted.
    pub fn unload_subject(&mut self, subject: &str) {
        self.subjects_forgotten[bucket_of(subject)] += 1;
        if let Some(subject) = self.subjects.get_mut(subject) {
            subject.unload();
        }
    }

    /// As [`Book::generation`], of a project.
    pub fn subject_generation(&self, subject: &str) -> u64 {
        self.subjects_forgotten[bucket_of(subject)]
    }

    /// Takes what was read of a project since `generation`. `false` where one was forgotten meanwhile: what was read may be from
    /// before its last charge, and has to be read again.
    #[must_use]
    pub fn load_subject_read(&mut self, subject: &str, (rows, runs): SubjectRows, generation: u64) -> bool {
        let is_known = self.subjects.get(subject).is_some_and(Subject::is_loaded);
        if !is_known && self.subject_generation(subject) != generation {
            return false;
        }
        self.load_subject(subject, rows, runs);
        true
    }

    /// Takes what the store has of a project's windows and executions. What the book knows already is newer and stays.
    pub fn load_subject(&mut self, subject: &str, rows: Vec<(Rule, u32, Pace)>, runs: Vec<(RunKey, RunRow)>) {
        if self.subjects.len() >= SUBJECTS_MAX {
            let forgotten = &mut self.subjects_forgotten;
            self.subjects.retain(|name, subject| {
                let stays = !subject.is_idle();
                forgotten[bucket_of(name)] += u64::from(!stays);
                stays
            });
        }
        self.subjects.entry(subject.to_owned()).or_default().load(rows, runs);
    }

    /// How a project's windows stand, nearest to empty first.
    pub fn pace(&self, subject: &str, bounds: &[Bound], now: Timestamp) -> Vec<Standing> {
        pace::standing(self.subjects.get(subject), bounds, now)
    }

    fn judge(entry: &Entry, account: &Account, ask: &Ask) -> Result<(), Refused> {
        if account.closed {
            return Err(Refused::Closed);
        }
        if ask.path.iter().any(|at| account.superseded.contains(&at.id)) {
            return Err(Refused::Superseded);
        }
        let nothing = Lane::default();
        let lane = account.lanes.get(&ask.key).map_or(&nothing, |lane| lane);
        if !lane.takes(ask.slot.seq) {
            return Err(Refused::SeqOutsideSpan { seq: ask.slot.seq, highest: lane.seq_highest });
        }
        if account.is_given_up(ask.key, ask.slot, ask.created) {
            return Err(Refused::GivenUp { seq: ask.slot.seq });
        }
        // What is charged long after those that came after it could not be told from what is charged twice (spec/05-request.md §6).
        let least = entry.lanes_held.get(&ask.key).and_then(|held| held.seqs.iter().min());
        if let Some(least) = least.filter(|least| ask.slot.seq > least.saturating_add(SEQ_SPAN)) {
            return Err(Refused::InFlight { seq: *least });
        }
        if ask.key.lane >= ask.lanes {
            return Err(Refused::LaneBeyondMax { lane: ask.key.lane, lanes: ask.lanes });
        }
        let is_used = |key: &LaneKey| account.lanes.contains_key(key) || entry.lanes_held.contains_key(key);
        if !is_used(&ask.key) {
            let opening = entry.lanes_held.keys().filter(|key| !account.lanes.contains_key(key)).count();
            if account.lanes.len() + opening >= usize::from(ask.lanes_max) {
                return Err(Refused::LanesUsedUp { lanes: ask.lanes_max });
            }
        }
        if ask.hold > ask.max {
            return Err(Refused::MaxTooLow { required: ask.hold, max: ask.max, fits: None });
        }
        for at in &ask.path {
            Self::judge_cap(entry, account, at, ask.hold)?;
        }
        let lane_held = entry.lanes_held.get(&ask.key).map_or(Amount::ZERO, |held| held.amount);
        let unacknowledged = lane.unacknowledged();
        let standing = Amount::sum([unacknowledged, lane_held, ask.hold]);
        if standing.is_none_or(|standing| standing > ask.window) {
            return Err(if ask.hold > ask.window {
                Refused::WindowTooSmall { hold: ask.hold, window: ask.window }
            } else {
                Refused::AckRequired { unacknowledged, window: ask.window }
            });
        }
        Ok(())
    }

    fn judge_cap(entry: &Entry, account: &Account, at: &PathCap, hold: Amount) -> Result<(), Refused> {
        let left = at.cap.saturating_sub(account.spent(&at.id));
        let held = entry.held.get(&at.id).copied().unwrap_or_default();
        if held.amount.checked_add(hold).is_some_and(|needed| needed <= left) {
            return Ok(());
        }
        // Waiting cures it only if it would fit once every open request has ended as cheaply as it can.
        if held.least.checked_add(hold).is_some_and(|needed| needed <= left) {
            return Err(Refused::BudgetInFlight { cap: at.cap });
        }
        Err(Refused::BudgetExhausted { left, cap: at.cap, hold })
    }

    fn judge_subject(&self, ask: &Ask, now: Timestamp) -> Result<(), Refused> {
        if self.needs_subject(ask) {
            return Err(Refused::NoSubject);
        }
        let nobody = Subject::default();
        let subject = self.subjects.get(&ask.subject).unwrap_or(&nobody);
        // What waiting does not cure is said first.
        ask.within.iter().try_for_each(|within| subject.runs.judge(within, now))?;
        subject.judge(&ask.bounds, ask.tokens, now)
    }

    fn hold(&mut self, ask: &Ask, now: Timestamp) -> HoldId {
        let id = HoldId(self.next);
        self.next += 1;
        self.clock += 1;
        let subject = self.subjects.entry(ask.subject.clone()).or_default();
        let places = subject.take(&ask.bounds, ask.tokens, now);
        let runs = ask.within.iter().map(|within| subject.runs.take(within, now)).collect();
        let hold = Hold {
            token: ask.token,
            key: ask.key,
            slot: ask.slot,
            authority: ask.authority,
            path: ask.path.clone(),
            amount: ask.hold,
            max: ask.max,
            least: ask.least,
            subject: ask.subject.clone(),
            rules: ask.bounds.iter().map(|bound| bound.rule.clone()).collect(),
            places,
            tokens: ask.tokens,
            runs,
        };
        self.set_aside(id, hold);
        id
    }

    /// A hold counts on its whole path, on its lane and for its slot.
    pub(super) fn set_aside(&mut self, id: HoldId, hold: Hold) {
        let entry = self.entries.get_mut(&hold.token).expect("its token was judged or loaded");
        entry.used_at = self.clock;
        for at in &hold.path {
            let held = entry.held.entry(at.id).or_default();
            held.amount = held.amount.checked_add(hold.amount).expect("holds stay below a cap");
            held.least = held.least.saturating_add(hold.least);
            held.holds += 1;
        }
        let lane = entry.lanes_held.entry(hold.key).or_default();
        lane.amount = lane.amount.saturating_add(hold.amount);
        lane.seqs.push(hold.slot.seq);
        entry.open.insert((hold.key, hold.slot), id);
        self.holds.insert(id, Arc::new(hold));
    }

    /// Gives a hold back, and its place in the windows: what was not answered uses up no quota (rule 12). Nothing
    /// happens where it was charged or released before.
    pub fn release(&mut self, id: HoldId) {
        self.end(id);
    }

    /// The hold of a charge that is durable: what was charged stays in the windows.
    pub(super) fn charged(&mut self, id: HoldId, used: Volume) {
        if let Some(hold) = self.holds.get(&id)
            && let Some(subject) = self.subjects.get_mut(&hold.subject)
        {
            subject.charge(&hold.places, used.input_tokens.saturating_add(used.output_tokens));
            hold.runs.iter().for_each(|place| subject.runs.charge(place, used));
        }
        self.end(id);
    }

    fn end(&mut self, id: HoldId) {
        let Some(hold) = self.holds.remove(&id) else { return };
        self.clock += 1;
        let entry = self.entries.get_mut(&hold.token).expect("an entry with holds stays");
        entry.used_at = self.clock;
        for at in &hold.path {
            let held = entry.held.get_mut(&at.id).expect("a hold counts on its whole path");
            held.amount = held.amount.checked_sub(hold.amount).expect("no hold is given back twice");
            held.least = held.least.saturating_sub(hold.least);
            held.holds -= 1;
            if held.holds == 0 {
                entry.held.remove(&at.id);
            }
        }
        let lane = entry.lanes_held.get_mut(&hold.key).expect("a hold counts on its lane");
        lane.amount = lane.amount.saturating_sub(hold.amount);
        if let Some(at) = lane.seqs.iter().position(|seq| *seq == hold.slot.seq) {
            lane.seqs.swap_remove(at);
        }
        if lane.seqs.is_empty() {
            entry.lanes_held.remove(&hold.key);
        }
        entry.open.remove(&(hold.key, hold.slot));
        if let Some(subject) = self.subjects.get_mut(&hold.subject) {
            subject.leave(&hold.rules, &hold.places, hold.tokens);
            hold.runs.iter().for_each(|place| subject.runs.leave(place));
            if subject.is_idle() && !subject.is_loaded() {
                self.subjects.remove(&hold.subject);
            }
        }
        self.evict();
    }

    /// Whether this very request is being answered.
    pub fn is_open(&self, token: TokenId, key: LaneKey, slot: Slot) -> bool {
        self.entries.get(&token).is_some_and(|entry| entry.open.contains_key(&(key, slot)))
    }

    /// Requests of a token that run.
    #[cfg(test)]
    pub(crate) fn open_count(&self, token: TokenId) -> usize {
        self.entries.get(&token).map_or(0, |entry| entry.open.len())
    }

    /// Whether requests of a token still run.
    pub fn has_open(&self, token: TokenId) -> bool {
        self.entries.get(&token).is_some_and(|entry| !entry.open.is_empty())
    }

    /// What a call may still hold at this moment: the least over the path of cap less charged less held.
    pub fn free(&self, token: TokenId, path: &[PathCap]) -> Amount {
        let Some(entry) = self.entries.get(&token) else { return Amount::ZERO };
        let spent = |id: &Digest| entry.account.as_ref().map_or(Amount::ZERO, |account| account.spent(id));
        let held = |id: &Digest| entry.held.get(id).map_or(Amount::ZERO, |held| held.amount);
        let free = |at: &PathCap| at.cap.saturating_sub(spent(&at.id)).saturating_sub(held(&at.id));
        path.iter().map(free).min().unwrap_or_default()
    }

    pub fn balance(&self, token: TokenId, path: &[PathCap]) -> Balance {
        let Some(entry) = self.entries.get(&token) else { return Balance::default() };
        let spent = |id: &Digest| entry.account.as_ref().map_or(Amount::ZERO, |account| account.spent(id));
        let held = |id: &Digest| entry.held.get(id).map_or(Amount::ZERO, |held| held.amount);
        let leaf = path.last().map(|at| at.id);
        Balance {
            charged: leaf.map_or(Amount::ZERO, |id| spent(&id)),
            remaining: path.iter().map(|at| at.cap.saturating_sub(spent(&at.id))).min().unwrap_or_default(),
            reserved: leaf.map_or(Amount::ZERO, |id| held(&id)),
        }
    }

    fn evict(&mut self) {
        while self.entries.len() > self.tokens_max {
            let idle = self.entries.iter().filter(|(_, entry)| entry.open.is_empty());
            let Some((&token, _)) = idle.min_by_key(|(_, entry)| entry.used_at) else { return };
            self.entries.remove(&token);
            self.forgotten[bucket(token)] += 1;
        }
    }
}

fn bucket_of(subject: &str) -> usize {
    usize::from(Digest::of(subject.as_bytes()).0[0])
}

fn bucket(token: TokenId) -> usize {
    usize::from(token.0[15])
}
