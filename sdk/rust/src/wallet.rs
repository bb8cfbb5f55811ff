//! The wallet: tokens, their lanes, and what may be signed next. A core without I/O.
//!
//! [`Wallet::begin`] and its kin say what to write down ([`Entry`]); the shell appends that to the journal, then calls
//! [`Wallet::apply`], then sends. Replaying a journal gives the same wallet, so a restart neither spends twice nor forgets
//! what may have been charged.

mod carried;

use std::collections::{BTreeMap, BTreeSet};

use comity_token::request::Authority;
use comity_wire::cbor::List;
use comity_wire::object::{
    AckLane, Acknowledgement, Block, Chain, Final, NodeCertificate, Quote, Receipt, Tariff, Token,
};
use comity_wire::{Amount, Digest, ModelId, NodeId, Object, Op, SecretKey, Signed, Timestamp, TokenId, Verified, cose};

use crate::journal::{Entry, JournalAck, Stored};
use crate::keys::{Key, Keyed, Keys, Outcome};
use crate::lane::{self, Lane, Open, ReceiptFault, Right, Stopped};
use crate::pending::Pending;

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

/// One token, or a delegated chain, with its lanes.
#[derive(Debug)]
pub struct Purse {
    chain: Vec<u8>,
    token: Token,
    blocks: Vec<Block>,
    leaf: Digest,
    key: SecretKey,
    cap: Amount,
    lanes: Vec<Lane>,
    /// The node takes nothing more under it.
    ended: bool,
    /// The node's final is here.
    closed: bool,
    /// What was handed on: the cap of each block and its end, by the block's leaf.
    delegated: BTreeMap<Digest, (Amount, Timestamp)>,
    /// What was spent of that, once the node's final says it.
    others: Option<Amount>,
}

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

impl Purse {
    fn new(chain: &[u8], key: SecretKey, cap: Amount) -> Result<Self, WalletError> {
        let malformed = |source| WalletError::Token(cose::Unverified::Malformed { kind: "chain", source });
        let parts = Chain::from_bytes(chain).map_err(malformed)?;
        let token = Signed::<Token>::decode(&parts.token).map_err(WalletError::Token)?;
        let mut leaf = token.id();
        let mut blocks = Vec::new();
        for bytes in &parts.blocks {
            let block = Signed::<Block>::decode(bytes).map_err(WalletError::Token)?;
            leaf = block.id();
            blocks.push(block.unverified().clone());
        }
        let token = token.unverified().clone();
        Ok(Self {
            chain: chain.to_vec(),
            token,
            blocks,
            leaf,
            key,
            cap,
            lanes: Vec::new(),
            ended: false,
            closed: false,
            delegated: BTreeMap::new(),
            others: None,
        })
    }

    pub fn id(&self) -> TokenId {
        self.token.id
    }

    pub fn token(&self) -> &Token {
        &self.token
    }

    pub fn chain(&self) -> &[u8] {
        &self.chain
    }

    pub fn leaf(&self) -> Digest {
        self.leaf
    }

    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    pub fn node(&self) -> NodeId {
        self.token.audience()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the holder is the root: only then may it ask for a final.
    pub fn is_root(&self) -> bool {
        self.blocks.is_empty()
    }

    pub fn is_open(&self, now: Timestamp) -> bool {
        !self.closed && !self.ended && now < self.expires_at()
    }

    /// Whether its node may still be paid for what is open.
    fn may_be_owed(&self, now: Timestamp) -> bool {
        !self.closed && now < self.token.terms.settle_by
    }

    /// Why nothing more is asked under it, where a receipt was missing or wrong.
    pub fn stopped(&self) -> Option<&Stopped> {
        self.lanes.iter().find_map(Lane::stopped)
    }

    /// Why nothing more is asked under it, as an error.
    pub(crate) fn refused(&self) -> Option<WalletError> {
        self.stopped().map(|what| self.refusal(what))
    }

    fn refusal(&self, why: &Stopped) -> WalletError {
        WalletError::Stopped { token: self.id(), node: self.node(), what: why.to_string() }
    }

    pub fn expires_at(&self) -> Timestamp {
        self.blocks.last().map_or(self.token.expires_at, |block| block.expires_at)
    }

    pub fn lanes_max(&self) -> u16 {
        self.blocks.last().map_or(self.token.terms.lanes_max, Block::lanes)
    }

    /// The least cap on the path, and what the user set.
    pub fn budget(&self) -> Amount {
        let caps = self.blocks.iter().map(|block| block.cap);
        caps.chain([self.token.terms.budget, self.cap]).min().expect("two caps at least")
    }

    pub fn spent(&self) -> Amount {
        self.lanes.iter().fold(Amount::ZERO, |sum, lane| sum.saturating_add(lane.total()))
    }

    /// The most that may still be charged for what is open.
    fn open_max(&self) -> Amount {
        self.lanes.iter().map(Lane::open_max).fold(Amount::ZERO, Amount::saturating_add)
    }

    /// What is neither charged nor signed for.
    pub fn free(&self) -> Amount {
        self.budget().saturating_sub(self.spent()).saturating_sub(self.open_max())
    }

    /// The most that the token can still cost: its budget while something can be asked under it, then what was. What others spent of
    /// it counts; as long as that is not known, all that was handed on.
    fn committed(&self, now: Timestamp) -> Amount {
        let last = self.expires_at().plus(u64::from(self.token.terms.longest_op_s));
        let own = match (self.closed, now >= last) {
            (true, _) => self.spent(),
            (false, true) => self.spent().saturating_add(self.open_max()),
            (false, false) => return self.budget(),
        };
        match self.others {
            Some(others) => own.saturating_add(others),
            // Its node let nobody go beyond the budget.
            None => own.saturating_add(self.delegated()).min(self.budget().max(own)),
        }
    }

    /// Until when somebody whom a part was handed on to may be at work under it; `None` where nobody may. Who ended the token before would
    /// take it from them.
    pub fn delegated_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.closed || self.ended {
            return None;
        }
        let longest = u64::from(self.token.terms.longest_op_s);
        self.delegated.values().map(|(_, until)| until.plus(longest)).filter(|until| now < *until).max()
    }

    /// Σ caps of what was handed on, as far as the budget goes.
    pub fn delegated(&self) -> Amount {
        let caps = self.delegated.values().map(|(cap, _)| *cap);
        caps.fold(Amount::ZERO, Amount::saturating_add).min(self.budget())
    }

    /// What to write down before `chain`, which was made of this one, is given away.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn delegating(&self, chain: &[u8], now: Timestamp) -> Result<Entry, WalletError> {
        if !self.is_open(now) {
            return Err(WalletError::Ended);
        }
        let malformed = |source| WalletError::Token(cose::Unverified::Malformed { kind: "chain", source });
        let parts = Chain::from_bytes(chain).map_err(malformed)?;
        let block = parts.blocks.last().ok_or(WalletError::Journal)?;
        let block = Signed::<Block>::decode(block).map_err(WalletError::Token)?;
        let (leaf, block) = (block.id(), block.unverified());
        if self.delegated.len() >= DELEGATED_MAX && !self.delegated.contains_key(&leaf) {
            return Err(WalletError::Delegated(self.id()));
        }
        Ok(Entry::Delegated { token: self.id(), leaf, cap: block.cap, until: block.expires_at })
    }

    pub fn allows(&self, model: &ModelId, op: Op) -> bool {
        let narrowed = |block: &Block| {
            (block.models.is_empty() || block.models.contains(model))
                && (block.ops.is_empty() || block.ops.contains(&op))
        };
        self.token.scope_of(model).is_some_and(|scope| scope.ops.contains(&op)) && self.blocks.iter().all(narrowed)
    }

    fn numbered(&self) -> impl Iterator<Item = (u16, &Lane)> {
        (0..).zip(&self.lanes)
    }

    /// Lanes whose last request has an unknown outcome, and is not under way in this process. What a wrong receipt was
    /// for is not asked about again.
    pub fn doubtful<'a>(&'a self, under_way: &'a UnderWay) -> impl Iterator<Item = (u16, &'a Open)> {
        let asked = self.numbered().filter(|(_, lane)| !lane.is_faulted());
        let lanes = asked.filter_map(|(at, lane)| Some((at, lane.open.as_ref()?)));
        lanes.filter(|(lane, _)| !under_way.contains(&(self.id(), *lane)))
    }

    /// Lanes whose last answer came without a receipt, and that have none since.
    pub fn without_receipt(&self) -> impl Iterator<Item = u16> {
        let missing = self.numbered().filter(|(_, lane)| lane.stopped() == Some(&Stopped::Missing));
        missing.map(|(at, _)| at)
    }

    /// Checks a receipt of one lane, before it is journalled.
    ///
    /// # Errors
    /// [`ReceiptFault`].
    pub fn check(&self, lane: u16, receipt: &Receipt, tariff: &Tariff) -> Result<(), ReceiptFault> {
        let release = self.token.scope_of(&receipt.model).map(|scope| scope.release);
        let right = Right { token: self.id(), leaf: self.leaf, lane, node: self.node(), release };
        self.lane(lane).ok_or(ReceiptFault::OtherRequest)?.check(&right, receipt, tariff)
    }

    pub fn lane(&self, lane: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(lane))
    }

    /// The maximum to sign for a call without a limit: a quarter of what is free, at most the policy's ceiling and the
    /// call's worst case, at least the call's `least` where that fits.
    pub fn small_maximum(&self, worst: Amount, ceiling: Amount, least: Amount) -> Amount {
        let free = self.free();
        let quarter = Amount::new(free.ucr() / 4).expect("a quarter of an amount is one");
        worst.min(ceiling.min(quarter).max(least.min(free))).min(self.token.terms.window)
    }

    /// A signed acknowledgement of everything receipted and not yet acknowledged; `None` where nothing is.
    pub fn acknowledge(&self, now: Timestamp) -> Option<Verified<Acknowledgement>> {
        const LANES_MAX: usize = 64;
        let entries = self.numbered().filter_map(|(at, lane)| lane.acknowledgement(self.leaf, at));
        let lanes: Vec<_> = entries.take(LANES_MAX).collect();
        if lanes.is_empty() {
            return None;
        }
        let lanes = List::new(lanes).expect("at most 64 were taken");
        Some(cose::sign(&Acknowledgement { token: self.token.id, lanes, at: now }, &self.key))
    }

    /// The entries to journal once the node has taken `acknowledgement`: of calls at once, each carries the same.
    pub fn acknowledged(&self, acknowledgement: &Acknowledgement) -> Vec<Entry> {
        let token = acknowledgement.token;
        let is_new = |ack: &&AckLane| self.lane(ack.lane).is_none_or(|lane| !lane.is_acknowledged(ack.n));
        let new = acknowledgement.lanes.iter().filter(is_new);
        new.map(|lane| Entry::Acknowledged { token, ack: JournalAck::from(lane) }).collect()
    }

    /// Where a final says more of this holder's lanes than there are receipts for here, and something of it is still to be paid.
    pub fn above(&self, final_: &Final) -> Vec<Above> {
        let own = final_.lanes.iter().filter(|head| head.leaf == self.leaf);
        let above = own.filter_map(|head| {
            let nothing = Lane::default();
            let lane = self.lane(head.lane).unwrap_or(&nothing);
            let is_known = head.n <= lane.n()
                && head.total <= lane.total()
                && !(head.n == lane.n() && lane.is_other(&head.receipt));
            let is_above = !is_known && head.total > lane.acknowledged_total();
            is_above.then(|| Above { lane: head.lane, said: (head.n, head.total), known: (lane.n(), lane.total()) })
        });
        above.collect()
    }

    /// What to write down of what others spent, by the node's final; `None` where nobody else had a part of it.
    pub fn spent_by_others(&self, final_: &Final) -> Option<Entry> {
        let others = final_.lanes.iter().filter(|head| head.leaf != self.leaf);
        let spent = others.fold(Amount::ZERO, |sum, head| sum.saturating_add(head.total));
        let had_none = self.delegated.is_empty() && spent.is_zero();
        (!had_none).then(|| Entry::SpentByOthers { token: self.id(), spent })
    }

    fn free_lane(&self) -> Result<u16, WalletError> {
        let idle = self.lanes.iter().position(Lane::is_idle);
        let lane = idle.unwrap_or(self.lanes.len());
        match u16::try_from(lane) {
            Ok(lane) if lane < self.lanes_max() => Ok(lane),
            _ => Err(WalletError::LanesBusy(self.lanes_max())),
        }
    }

    fn authority(&self, lane: u16, seq: u64, content: Digest, ask: &Ask<'_>) -> Authority {
        Authority {
            leaf: self.leaf,
            lane,
            seq,
            method: ask.method.to_owned(),
            path: ask.path.to_owned(),
            query: ask.query.to_owned(),
            content_digest: content,
            tariff: ask.tariff,
            max_charge: ask.max_charge,
            nonce: self.nonce(lane, seq, &content),
        }
    }

    /// Secret, and found again from the key and the request, so that a retry after a crash is the same request.
    fn nonce(&self, lane: u16, seq: u64, content: &Digest) -> [u8; 16] {
        let seed = self.key.seed();
        let parts: [&[u8]; 5] =
            [b"comity/v1/nonce", &*seed, &lane.to_be_bytes(), &seq.to_be_bytes(), content.as_bytes()];
        let digest = Digest::of_parts(&parts);
        digest.0[..16].try_into().expect("16 of 32 bytes")
    }
}

/// A lane of which a node's final says more than its holder has receipts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above {
    pub lane: u16,
    /// Number and total of the receipt that the final names.
    pub said: (u64, Amount),
    /// Of the newest receipt here.
    pub known: (u64, Amount),
}

impl std::fmt::Display for Above {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lane, said: (n, total), known: (known_n, known) } = self;
        write!(f, "lane {lane}: the final names receipt {n} and {total}, this wallet has receipt {known_n} and {known}")
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
