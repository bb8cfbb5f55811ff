//! One token with its lanes: what may be signed under it, and what it may still cost.

use std::collections::BTreeMap;

use comity_token::request::Authority;
use comity_wire::cbor::List;
use comity_wire::object::{AckLane, Acknowledgement, Block, Chain, Final, Receipt, Tariff, Token};
use comity_wire::{Amount, Digest, ModelId, NodeId, Op, SecretKey, Signed, Timestamp, TokenId, Verified, cose};

use super::{Ask, DELEGATED_MAX, UnderWay, WalletError};
use crate::journal::{Entry, JournalAck};
use crate::lane::{Lane, Open, ReceiptFault, Right, Stopped};

/// One token, or a delegated chain, with its lanes.
#[derive(Debug)]
pub struct Purse {
    pub(super) chain: Vec<u8>,
    pub(super) token: Token,
    pub(super) blocks: Vec<Block>,
    pub(super) leaf: Digest,
    pub(super) key: SecretKey,
    pub(super) cap: Amount,
    pub(super) lanes: Vec<Lane>,
    /// The node takes nothing more under it.
    pub(super) ended: bool,
    /// The node's final is here.
    pub(super) closed: bool,
    /// What was handed on: the cap of each block and its end, by the block's leaf.
    pub(super) delegated: BTreeMap<Digest, (Amount, Timestamp)>,
    /// What was spent of that, once the node's final says it.
    pub(super) others: Option<Amount>,
}

impl Purse {
    pub(super) fn new(chain: &[u8], key: SecretKey, cap: Amount) -> Result<Self, WalletError> {
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
    pub(super) fn may_be_owed(&self, now: Timestamp) -> bool {
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

    pub(super) fn refusal(&self, why: &Stopped) -> WalletError {
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
    pub(super) fn open_max(&self) -> Amount {
        self.lanes.iter().map(Lane::open_max).fold(Amount::ZERO, Amount::saturating_add)
    }

    /// What is neither charged nor signed for.
    pub fn free(&self) -> Amount {
        self.budget().saturating_sub(self.spent()).saturating_sub(self.open_max())
    }

    /// The most that the token can still cost: its budget while something can be asked under it, then what was. What others spent of
    /// it counts; as long as that is not known, all that was handed on.
    pub(super) fn committed(&self, now: Timestamp) -> Amount {
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

    pub(super) fn numbered(&self) -> impl Iterator<Item = (u16, &Lane)> {
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

    pub(super) fn free_lane(&self) -> Result<u16, WalletError> {
        let idle = self.lanes.iter().position(Lane::is_idle);
        let lane = idle.unwrap_or(self.lanes.len());
        match u16::try_from(lane) {
            Ok(lane) if lane < self.lanes_max() => Ok(lane),
            _ => Err(WalletError::LanesBusy(self.lanes_max())),
        }
    }

    pub(super) fn authority(&self, lane: u16, seq: u64, content: Digest, ask: &Ask<'_>) -> Authority {
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
    pub(super) fn nonce(&self, lane: u16, seq: u64, content: &Digest) -> [u8; 16] {
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
