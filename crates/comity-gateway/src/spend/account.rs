//! What a token has been charged at this node: the durable part of the book.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_wire::merkle::Frontier;
use comity_wire::object::Flags;
use comity_wire::{Amount, Digest, Exact, Meters, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::SEQ_SPAN;

/// Slots of a token that were asked about and whose requests are not stale anyway. Past it the next asker is told to wait.
pub const ASKED_MAX: usize = 1024;

/// A lane of a token: the leaf block (the token itself where there is none) and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneKey {
    pub leaf: Digest,
    pub lane: u16,
}

/// One chargeable part of a lane: the client's number, and the part of that request (0 but for batches).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    pub seq: u64,
    pub item: u32,
}

/// A slot that was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// What the holder signed.
    pub authority: Digest,
    pub n: u64,
    /// The lane's total after it.
    pub total: Amount,
    /// Content id of the receipt.
    pub receipt: Digest,
}

/// A running total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The newest receipt's number; 0 where there is none.
    pub n: u64,
    pub seq_highest: u64,
    pub total: Amount,
    /// total · 10⁶ less the exact sum.
    pub remainder: u32,
    pub meters: Meters,
    pub flags: Flags,
    /// The tree over receipts 1…n.
    pub frontier: Frontier,
    pub acknowledged_n: u64,
    pub acknowledged: Amount,
    /// SHA-256 of the acknowledgement's bytes.
    pub acknowledgement: Option<Digest>,
    /// What the house has answered a claim for.
    pub claimed_n: u64,
    pub claimed_acknowledged_n: u64,
    /// Charged slots whose seq lies within the span below the highest, and the newest. Older ones are in the store alone.
    pub recent: Recent,
}

/// Charged slots, in order. With each charge its lane is copied, and these with it: one piece of memory is, a tree would be built anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recent(Vec<(Slot, Charged)>);

/// With room for the one that is about to be charged: to grow would copy it once more.
impl Clone for Recent {
    fn clone(&self) -> Self {
        let mut slots = Vec::with_capacity(self.0.len() + 1);
        slots.extend_from_slice(&self.0);
        Self(slots)
    }
}

impl Recent {
    pub fn get(&self, slot: Slot) -> Option<&Charged> {
        self.place(slot).ok().map(|at| &self.0[at].1)
    }

    pub fn contains(&self, slot: Slot) -> bool {
        self.place(slot).is_ok()
    }

    /// In place of what was there.
    pub fn insert(&mut self, slot: Slot, charged: Charged) {
        match self.place(slot) {
            Ok(at) => self.0[at].1 = charged,
            Err(at) => self.0.insert(at, (slot, charged)),
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn place(&self, slot: Slot) -> Result<usize, usize> {
        self.0.binary_search_by_key(&slot, |(slot, _)| *slot)
    }
}

/// A token at this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub token: TokenId,
    /// Content id of the token. One `cti` has one content id.
    pub root: Digest,
    /// What was charged under the token and under each block: a charge counts against every ancestor at once.
    pub spent: BTreeMap<Digest, Amount>,
    /// At most `lanes_max` ≤ 1024.
    pub lanes: BTreeMap<LaneKey, Arc<Lane>>,
    /// No new work: a final was asked for.
    pub closed: bool,
    /// The signed final.
    pub final_: Option<Vec<u8>>,
    /// Content ids on whose path this node has met receipts of its own that it no longer has: it signs nothing more
    /// under them (rule 9).
    pub superseded: BTreeSet<Digest>,
    /// The number of the last claim.
    pub claims: u64,
    /// Slots whose holder was told that nothing was charged there, with when that was asked, by its clock: what it signed by then may
    /// still be on its way, and is not taken any more (spec/05-request.md Q-7). At most [`ASKED_MAX`].
    pub asked: BTreeMap<(LaneKey, Slot), Timestamp>,
    /// A claim that was signed and has no answer yet: it is sent again as it is, so that the house and this node agree
    /// on what was settled whatever was lost on the way.
    pub pending: Option<Vec<u8>>,
}

impl Account {
    pub fn new(token: TokenId, root: Digest) -> Self {
        Self {
            token,
            root,
            spent: BTreeMap::new(),
            lanes: BTreeMap::new(),
            closed: false,
            final_: None,
            superseded: BTreeSet::new(),
            asked: BTreeMap::new(),
            claims: 0,
            pending: None,
        }
    }

    pub fn spent(&self, id: &Digest) -> Amount {
        self.spent.get(id).copied().unwrap_or_default()
    }

    /// Whether the holder has given up, at or after `created`, what it signed for a slot.
    pub fn is_given_up(&self, key: LaneKey, slot: Slot, created: Timestamp) -> bool {
        self.asked.get(&(key, slot)).is_some_and(|asked| created <= *asked)
    }

    /// Takes in that a holder asked; the latest counts.
    pub fn asked(&mut self, key: LaneKey, slot: Slot, created: Timestamp) {
        let asked = self.asked.entry((key, slot)).or_insert(created);
        *asked = created.max(*asked);
    }
}

impl Lane {
    /// The exact sum of its charges.
    pub fn exact(&self) -> Exact {
        Exact::from_amount(self.total)
            .checked_sub(Exact(u128::from(self.remainder)))
            .expect("a remainder is below its total")
    }

    pub fn unacknowledged(&self) -> Amount {
        self.total.saturating_sub(self.acknowledged)
    }

    /// Whether seq lies where an uncharged one may still be admitted. A number below the highest that was left out (its
    /// request was refused whilst a later one ran) keeps its place for one span.
    pub fn takes(&self, seq: u64) -> bool {
        seq > self.seq_highest.saturating_sub(SEQ_SPAN) && seq <= self.seq_highest.saturating_add(SEQ_SPAN) && seq > 0
    }

    pub fn by_n(&self, n: u64) -> Option<&Charged> {
        // Nearly always the newest is asked for.
        self.recent.0.iter().rev().map(|(_, charged)| charged).find(|charged| charged.n == n)
    }

    /// Drops from memory what only the store needs to know.
    pub(super) fn prune(&mut self) {
        let floor = self.seq_highest.saturating_sub(SEQ_SPAN);
        let newest = self.n;
        self.recent.0.retain(|(slot, charged)| slot.seq > floor || charged.n == newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_slots_are_in_order_however_they_came() {
        let slot = |seq, item| Slot { seq, item };
        let charged = |n| Charged { authority: Digest([1; 32]), n, total: Amount::ZERO, receipt: Digest([2; 32]) };
        let mut recent = Recent::default();
        for (n, seq) in (1..).zip([5, 2, 9, 7, 2]) {
            recent.insert(slot(seq, 0), charged(n));
        }
        recent.insert(slot(5, 1), charged(6));
        let kept: Vec<_> = recent.0.iter().map(|(slot, charged)| (slot.seq, slot.item, charged.n)).collect();
        assert_eq!(kept, [(2, 0, 5), (5, 0, 1), (5, 1, 6), (7, 0, 4), (9, 0, 3)]);
        assert_eq!(recent.get(slot(7, 0)).map(|charged| charged.n), Some(4));
        assert!(recent.contains(slot(5, 1)) && !recent.contains(slot(5, 2)) && recent.get(slot(6, 0)).is_none());
    }
}
