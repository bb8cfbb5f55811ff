//! The wallet: tokens, their lanes, and what may be signed next. A core without I/O.
//!
//! [`Wallet::begin`] and its kin say what to write down ([`Entry`]); the shell appends that to the journal, then calls
//! [`Wallet::apply`], then sends. Replaying a journal gives the same wallet, so a restart neither spends twice nor forgets
//! what may have been charged.

mod carried;
mod purse;

use std::collections::{BTreeMap, BTreeSet};

use comity_token::request::Authority;
use comity_wire::object::{Chain, NodeCertificate, Quote, Receipt, Tariff, Token};
use comity_wire::{Amount, Digest, ModelId, NodeId, Object, Op, SecretKey, Signed, Timestamp, TokenId, cose};

use crate::journal::{Entry, Stored};
use crate::keys::{Key, Keyed, Keys, Outcome};
use crate::lane::{self, Lane, Open, Stopped};
use crate::pending::Pending;

pub use purse::{Above, Purse};

/// Everything the holder has.
#[derive(Debug, Default)]
pub struct Wallet {
    purses: BTreeMap<TokenId, Purse>,
    /// Reservations whose outcome is unknown.
    pending: BTreeMap<TokenId, Pending>,
    /// Content digests of the evidence that stands in the journal.
    evidence: BTreeSet<Digest>,
    keys: Keys,
    /// What was charged of that which was signed on a day; the newest few.
    days: BTreeMap<u32, Amount>,
    /// Σ spent of the tokens of its own that the journal does not carry on any more, and what else they may have cost.
    settled: Amount,
}

/// Lanes whose request is under way in this process. All others that are open are in doubt.
pub type UnderWay = BTreeSet<(TokenId, u16)>;

/// How often a token may be handed on.
pub const DELEGATED_MAX: usize = 1_024;

/// What a token has to name for a call, beside model and op.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// An approval under which the call runs.
    pub grant: Option<Digest>,
    /// The release that has to answer, where its caller asked for one.
    pub release: Option<Digest>,
}

impl Naming {
    pub fn fit(&self, token: &Token, model: &ModelId) -> bool {
        let pinned = || token.scope_of(model).map(|scope| scope.release);
        self.grant.as_ref().is_none_or(|grant| token.terms.grants.contains(grant))
            && self.release.is_none_or(|release| pinned() == Some(release))
    }
}

/// A request that is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a [u8],
    pub model: &'a ModelId,
    pub op: Op,
    pub tariff: Digest,
    pub max_charge: Amount,
    /// Which call it is. Without one, it is any call with this body.
    pub key: Option<Key>,
}

/// What is known of a request that comes.
#[derive(Debug)]
pub enum Place {
    /// Nothing is signed under its key, or nothing that was or will be charged; without a key, none like it is in doubt.
    New,
    /// The request as it was signed: outcome unknown.
    Unknown(Begun),
    /// The request as it was signed and charged, with its receipt's content id.
    Charged { begun: Begun, receipt: Digest, charge: Amount },
    /// It was charged, and its token has ended: nobody can be asked for the answer any more.
    Gone { receipt: Digest, charge: Amount },
    /// Its outcome is unknown, and it cannot be asked again as it was signed, since its token has ended: the node has to be asked for
    /// the receipt before anything is signed.
    Doubt { token: TokenId, lane: u16 },
    /// It is being asked in this process.
    UnderWay,
    /// Another request was signed under it.
    Other,
}

/// What a key says of a call whose caller left open which model answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    /// No part of it is or will be charged: any of the models may be asked.
    New,
    /// This model was asked, and was paid or may have been: its answer is the call's. With the release that its token pins.
    At { model: ModelId, release: Option<Digest> },
    /// Another request was signed under it.
    Other,
}

/// What [`Wallet::begin`] decided: journal `entry`, apply it, then sign `authority` and send.
#[derive(Clone, Debug)]
pub struct Begun {
    /// `None` where it stands in the journal already: the request is a retry.
    pub entry: Option<Entry>,
    pub authority: Authority,
    pub token: TokenId,
    pub lane: u16,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    #[error("no token {0} in this wallet")]
    Unknown(TokenId),
    #[error("this wallet holds another right under token {0}: use another wallet folder for this one")]
    Another(TokenId),
    #[error("the token is closed or has ended: a new one is needed")]
    Ended,
    #[error("node {node} did not keep the rules of receipts ({what}): nothing more is asked of it under token {token}")]
    Stopped { token: TokenId, node: NodeId, what: String },
    #[error("the call may cost {asked}, {free} is left of the token")]
    Budget { asked: Amount, free: Amount },
    #[error("the call may cost {asked}, {window} is the most that may stand unacknowledged in a lane")]
    Window { asked: Amount, window: Amount },
    #[error("the call that this key names is being asked already")]
    Named,
    #[error("{DELEGATED_MAX} parts of token {0} were handed on: no more can be")]
    Delegated(TokenId),
    #[error("all {0} lanes of the token are busy: wait for a call to end")]
    LanesBusy(u16),
    #[error("what came is not a token of ours")]
    Token(#[source] cose::Unverified),
    #[error("the journal holds an entry that does not follow from those before")]
    Journal,
}

impl Wallet {
    /// # Errors
    /// [`WalletError::Journal`] where entries do not follow from one another.
    pub fn replay(entries: impl IntoIterator<Item = Entry>) -> Result<Self, WalletError> {
        let mut wallet = Self::default();
        for entry in entries {
            wallet.apply(&entry)?;
        }
        Ok(wallet)
    }

    pub fn purse(&self, token: TokenId) -> Result<&Purse, WalletError> {
        self.purses.get(&token).ok_or(WalletError::Unknown(token))
    }

    pub fn purses(&self) -> impl Iterator<Item = &Purse> {
        self.purses.values()
    }

    pub fn pending(&self) -> impl Iterator<Item = (TokenId, &Pending)> {
        self.pending.iter().map(|(id, pending)| (*id, pending))
    }

    /// Σ of what this wallet drew and may draw: what is spent of tokens that are done with, also by those whom parts of them were handed
    /// on to, the budgets of all others, and reservations whose outcome is unknown. Rights that somebody delegated are not drawn.
    pub fn drawn(&self, now: Timestamp) -> Amount {
        let purses = self.purses.values().filter(|purse| purse.is_root()).map(|purse| purse.committed(now));
        let pending = self.pending.values().filter(|pending| now < pending.over_at()).map(|pending| pending.budget);
        purses.chain(pending).fold(self.settled, Amount::saturating_add)
    }

    /// What of these delegations is new, of tokens that are here.
    pub(crate) fn new_of(&self, delegated: Vec<Entry>) -> Vec<Entry> {
        let is_new = |entry: &Entry| match entry {
            Entry::Delegated { token, leaf, .. } => {
                self.purses.get(token).is_some_and(|purse| !purse.delegated.contains_key(leaf))
            }
            _ => false,
        };
        delegated.into_iter().filter(is_new).collect()
    }

    /// Whether this object stands in the journal as evidence.
    pub fn has_evidence(&self, bytes: &[u8]) -> bool {
        self.evidence.contains(&Digest::of(bytes))
    }

    /// The purse to ask with for this model and op at this node: one with `needed` free, then one with an idle lane, then
    /// the one with most left.
    ///
    /// # Errors
    /// [`WalletError::Stopped`] where a token at this node stopped and is not ended yet: nothing new is put at its mercy.
    pub fn purse_for(
        &self,
        node: NodeId,
        model: &ModelId,
        op: Op,
        needed: Amount,
        names: &Naming,
        now: Timestamp,
    ) -> Result<Option<&Purse>, WalletError> {
        let at_node = || self.purses.values().filter(|purse| purse.node() == node && !purse.closed);
        if let Some((purse, what)) = at_node().find_map(|purse| Some((purse, purse.stopped()?))) {
            return Err(purse.refusal(what));
        }
        let fits = |purse: &&Purse| purse.is_open(now) && purse.allows(model, op) && names.fit(purse.token(), model);
        let rank = |purse: &&Purse| (purse.free() >= needed, purse.free_lane().is_ok(), purse.free());
        Ok(at_node().filter(fits).max_by_key(rank))
    }

    /// The most that what was signed on the day of `now` costs: what was charged of it, and the maximum of what is open.
    pub fn today(&self, now: Timestamp) -> Amount {
        let day = day(now);
        let lanes = self.purses.values().flat_map(|purse| &purse.lanes);
        let open = lanes.filter_map(|lane| lane.open.as_ref()).filter(|open| open.day == Some(day));
        open.fold(self.charged_today(now), |sum, open| sum.saturating_add(open.max_charge))
    }

    /// What was charged of that which was signed on the day of `now`.
    pub fn charged_today(&self, now: Timestamp) -> Amount {
        self.days.get(&day(now)).copied().unwrap_or(Amount::ZERO)
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What is known of the call that `ask` names; of one that nobody named, whether one like it is in doubt, which is taken up where
    /// it may cost `ask.max_charge` at most.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn place(&self, ask: &Ask<'_>, under_way: &UnderWay, now: Timestamp) -> Result<Place, WalletError> {
        let Some(key) = ask.key else { return Ok(self.unnamed(ask, under_way, now)) };
        if key.part.is_none() && self.keys.parts(&key.digest, now).next().is_some() {
            return Ok(Place::Other);
        }
        let Some(keyed) = self.keys.find(&key.digest, now) else { return Ok(Place::New) };
        let content = Digest::of(ask.body);
        if keyed.content != content {
            return Ok(Place::Other);
        }
        let purse = self.purse(keyed.token)?;
        let begun = self.once_more(purse, keyed, ask, content);
        Ok(match (keyed.outcome, begun) {
            (Outcome::Free, _) => Place::New,
            (_, None) => Place::Other,
            (Outcome::Unknown, _) if under_way.contains(&(keyed.token, keyed.lane)) => Place::UnderWay,
            (Outcome::Unknown, Some(begun)) if purse.is_open(now) => Place::Unknown(begun),
            (Outcome::Unknown, Some(_)) => Place::Doubt { token: keyed.token, lane: keyed.lane },
            (Outcome::Charged { receipt, charge }, Some(begun)) if purse.is_open(now) => {
                Place::Charged { begun, receipt, charge }
            }
            (Outcome::Charged { receipt, charge }, Some(_)) => Place::Gone { receipt, charge },
        })
    }

    /// What is known of the call that `key` names, whose body its caller wrote as `asked` (a content digest) and which names no model.
    pub fn whole(&self, key: &Key, asked: &Digest, now: Timestamp) -> Whole {
        if self.keys.find(&key.digest, now).is_some() {
            return Whole::Other;
        }
        let parts = || self.keys.parts(&key.digest, now);
        if parts().any(|keyed| keyed.key.part.is_none_or(|part| part.asked != *asked)) {
            return Whole::Other;
        }
        let pinned = |keyed: &Keyed| Some(self.purse(keyed.token).ok()?.token().scope_of(&keyed.model)?.release);
        let taken = parts().find(|keyed| keyed.outcome != Outcome::Free);
        taken.map_or(Whole::New, |keyed| Whole::At { model: keyed.model.clone(), release: pinned(keyed) })
    }

    /// Whether what `key` names, or another part of the same call, was charged or may be.
    fn is_taken(&self, key: &Key, now: Timestamp) -> bool {
        let own = self.keys.find(&key.digest, now).into_iter();
        let others = key.part.iter().flat_map(|part| self.keys.parts(&part.of, now));
        own.chain(others).any(|keyed| keyed.outcome != Outcome::Free)
    }

    /// The key names nothing that anybody owes an answer for.
    pub fn forget(&mut self, key: &Digest) {
        self.keys.became(key, Outcome::Free);
    }

    /// `None` where it was signed for another path.
    fn once_more(&self, purse: &Purse, keyed: &Keyed, ask: &Ask<'_>, content: Digest) -> Option<Begun> {
        let ask = Ask { tariff: keyed.tariff, max_charge: keyed.max_charge, ..*ask };
        let authority = purse.authority(keyed.lane, keyed.seq, content, &ask);
        let same = authority.id() == keyed.authority;
        same.then(|| Begun { entry: None, authority, token: purse.id(), lane: keyed.lane })
    }

    /// Of calls that nobody named, one with this body that is in doubt, at whichever node and under whichever token: it keeps its seq,
    /// nonce, tariff and maximum, so it cannot be charged twice (rule 3). One that the caller would not let cost as much now, or
    /// whose token has ended, is asked about before another is signed. Of calls that were named, each is its own.
    fn unnamed(&self, ask: &Ask<'_>, under_way: &UnderWay, now: Timestamp) -> Place {
        let owed = self.purses.values().filter(|purse| purse.may_be_owed(now));
        let doubtful = owed.flat_map(|purse| purse.doubtful(under_way).map(move |(lane, open)| (purse, lane, open)));
        let bytes = ask.body.len() as u64;
        let mut alike = doubtful.filter(|(.., open)| open.key.is_none() && open.input_bytes == bytes).peekable();
        if alike.peek().is_none() {
            return Place::New;
        }
        let content = Digest::of(ask.body);
        let place = alike.find_map(|(purse, lane, open)| {
            let asked = Ask { tariff: open.tariff, max_charge: open.max_charge, ..*ask };
            let authority = purse.authority(lane, open.seq, content, &asked);
            if authority.id() != open.authority {
                return None;
            }
            Some(if purse.is_open(now) && open.max_charge <= ask.max_charge {
                Place::Unknown(Begun { entry: None, authority, token: purse.id(), lane })
            } else {
                Place::Doubt { token: purse.id(), lane }
            })
        });
        place.unwrap_or(Place::New)
    }

    /// Chooses a lane and a seq for a request.
    ///
    /// # Errors
    /// [`WalletError`]: nothing was signed.
    pub fn begin(&self, token: TokenId, ask: &Ask<'_>, now: Timestamp) -> Result<Begun, WalletError> {
        let purse = self.purse(token)?;
        let content = Digest::of(ask.body);
        if ask.key.is_some_and(|key| self.is_taken(&key, now)) {
            return Err(WalletError::Named);
        }
        if let Some(what) = purse.stopped() {
            return Err(purse.refusal(what));
        }
        if !purse.is_open(now) {
            return Err(WalletError::Ended);
        }
        let lane = purse.free_lane()?;
        let free = purse.free();
        if ask.max_charge > free {
            return Err(WalletError::Budget { asked: ask.max_charge, free });
        }
        // What stands unacknowledged is acknowledged with this very request, so the window bounds the call alone.
        let window = purse.token.terms.window;
        if ask.max_charge > window {
            return Err(WalletError::Window { asked: ask.max_charge, window });
        }
        let seq = purse.lanes.get(usize::from(lane)).map_or(1, Lane::next_seq);
        let authority = purse.authority(lane, seq, content, ask);
        let open = Open {
            seq,
            nonce: authority.nonce,
            authority: authority.id(),
            content,
            request: lane::request_of(&authority.nonce, ask.body),
            input_bytes: ask.body.len() as u64,
            model: ask.model.clone(),
            op: ask.op,
            tariff: ask.tariff,
            max_charge: ask.max_charge,
            key: ask.key,
            day: Some(day(now)),
        };
        Ok(Begun { entry: Some(Entry::Signed { token, lane, open }), authority, token, lane })
    }

    /// Takes a fact in.
    ///
    /// # Errors
    /// [`WalletError`]; the wallet is as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), WalletError> {
        match entry {
            Entry::Reserving { id, pending } => {
                pending.key().ok_or(WalletError::Journal)?;
                self.pending.insert(*id, pending.clone());
            }
            Entry::NotReserved { id } => {
                self.pending.remove(id);
            }
            Entry::Token { chain, seed, cap } => {
                let seed: [u8; 32] = (**seed).try_into().map_err(|_| WalletError::Journal)?;
                let purse = Purse::new(chain, SecretKey::from_seed(seed), *cap)?;
                self.pending.remove(&purse.id());
                // The first stays: its lanes may have gone on.
                self.purses.entry(purse.token.id).or_insert(purse);
            }
            Entry::Signed { token, lane, open } => {
                self.lane_mut(*token, *lane)?.open = Some(open.clone());
                self.keys.signed(*token, *lane, open);
            }
            Entry::Free { token, lane, seq } => {
                let lane = self.lane_mut(*token, *lane)?;
                let key = lane.open.as_ref().filter(|open| open.seq == *seq).and_then(|open| open.key);
                lane.free(*seq);
                self.became(key, Outcome::Free);
            }
            Entry::Receipt { token, lane, receipt } => self.receipt(*token, *lane, &reread(receipt)?)?,
            Entry::Answered { key } => self.keys.answered(key),
            Entry::Fault { token, lane, seq: _, receipt, what } => {
                let why = if receipt.is_some() { Stopped::Fault(what.clone()) } else { Stopped::Missing };
                self.lane_mut(*token, *lane)?.stop(why);
            }
            Entry::Evidence { object } => {
                self.evidence.insert(Digest::of(object));
            }
            Entry::Acknowledged { token, ack } => self.lane_mut(*token, ack.lane)?.acknowledged(ack.n, ack.total),
            Entry::Ended { token } => self.purse_mut(*token)?.ended = true,
            Entry::Closed { token } => self.purse_mut(*token)?.closed = true,
            Entry::Delegated { token, leaf, cap, until } => {
                self.purse_mut(*token)?.delegated.insert(*leaf, (*cap, *until));
            }
            Entry::SpentByOthers { token, spent } => self.purse_mut(*token)?.others = Some(*spent),
            Entry::Carried { settled, days, .. } => self.begin_with(*settled, days)?,
            Entry::Lane { token, lane, carried } => {
                *self.lane_mut(*token, *lane)? = carried.lane().ok_or(WalletError::Journal)?;
            }
            Entry::Calls { calls } => self.keys.take_in(calls).ok_or(WalletError::Journal)?,
        }
        Ok(())
    }

    fn receipt(&mut self, token: TokenId, lane: u16, receipt: &Signed<Receipt>) -> Result<(), WalletError> {
        let (id, receipt) = (receipt.id(), receipt.unverified());
        let lane = self.lane_mut(token, lane)?;
        let is_new = !lane.has(&id);
        let asked = lane.asked(receipt).ok();
        let (charged, day) = (asked.and_then(|open| open.key), asked.and_then(|open| open.day));
        let open = lane.open.as_ref().and_then(|open| open.key);
        lane.receipt(id, receipt).map_err(|_| WalletError::Journal)?;
        if is_new {
            // One seq, one charge: where it was another's of this seq, the open one was not charged and will not be.
            self.became(open, Outcome::Free);
            self.became(charged, Outcome::Charged { receipt: id, charge: receipt.charge });
            self.count(day, receipt.charge);
        }
        Ok(())
    }

    fn count(&mut self, day: Option<u32>, charge: Amount) {
        let Some(day) = day else { return };
        let sum = self.days.entry(day).or_insert(Amount::ZERO);
        *sum = sum.saturating_add(charge);
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
    }

    fn became(&mut self, key: Option<Key>, outcome: Outcome) {
        if let Some(key) = key {
            self.keys.became(&key.digest, outcome);
        }
    }

    fn purse_mut(&mut self, token: TokenId) -> Result<&mut Purse, WalletError> {
        self.purses.get_mut(&token).ok_or(WalletError::Journal)
    }

    fn lane_mut(&mut self, token: TokenId, lane: u16) -> Result<&mut Lane, WalletError> {
        let purse = self.purse_mut(token)?;
        let lanes_max = purse.lanes_max();
        let at = usize::from(lane);
        if at >= usize::from(lanes_max) {
            return Err(WalletError::Journal);
        }
        while purse.lanes.len() <= at {
            purse.lanes.push(Lane::default());
        }
        Ok(&mut purse.lanes[at])
    }
}

/// Days of which sums are kept: a call may end days after it was signed.
const DAYS_MAX: usize = 32;

fn day(at: Timestamp) -> u32 {
    u32::try_from(at.seconds() / 86_400).unwrap_or(u32::MAX)
}

/// The journal holds only receipts that were verified before they were written: their signatures are not checked again.
fn reread(bytes: &Stored) -> Result<Signed<Receipt>, WalletError> {
    Signed::<Receipt>::decode(bytes).map_err(WalletError::Token)
}

/// A stored form that always fits: objects are bounded by their kind.
pub fn stored(bytes: &[u8]) -> Stored {
    const {
        assert!(Receipt::KIND.bytes_max <= 16384 && Chain::BYTES_MAX <= 16384);
        assert!(Quote::KIND.bytes_max <= 16384 && NodeCertificate::KIND.bytes_max <= 16384);
        assert!(Tariff::KIND.bytes_max <= 16384);
    }
    Stored::new(bytes).expect("what the journal keeps is below 16 KiB")
}

#[cfg(test)]
mod tests;
