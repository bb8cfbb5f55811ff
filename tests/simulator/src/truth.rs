//! What really happened, kept in the plainest way beside the cores, and the bounds that must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::object::{Acknowledgement, Receipt};
use comity_wire::{Digest, Timestamp, TokenId, Verified};

/// (leaf, lane number).
pub(crate) type Lane = (Digest, u16);

/// A bound that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    pub bound: &'static str,
    pub what: String,
}

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// A token that the house signed.
#[derive(Clone, Debug)]
pub(crate) struct Sold {
    pub(crate) budget: i64,
    pub(crate) window: i64,
    pub(crate) lanes_max: u16,
}

/// A right: the token itself, or a block under it.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) token: TokenId,
    /// The block and its cap; `None` for the token itself.
    pub(crate) block: Option<(Digest, i64)>,
    /// Whether all that may sign under it keep to the rules.
    pub(crate) honest: bool,
}

/// A charge that an honest node made durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged {
    pub(crate) seq: u64,
    pub(crate) total: i64,
    pub(crate) id: Digest,
}

#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) awarded: i64,
    pub(crate) node_honest: bool,
    /// Its store was set back: what it signed before is not all in it.
    pub(crate) node_set_back: bool,
    pub(crate) tokens: BTreeMap<TokenId, Sold>,
    pub(crate) leaves: BTreeMap<Digest, Leaf>,
    /// The most that was ever signed for each seq, in any version of it.
    pub(crate) signed: BTreeMap<Lane, BTreeMap<u64, i64>>,
    /// The highest total that anybody with the right to do so has signed an acknowledgement of.
    pub(crate) acknowledged: BTreeMap<Lane, i64>,
    /// The same, where it names a receipt of the node as it is.
    pub(crate) properly: BTreeMap<Lane, i64>,
    /// At the honest node, by n − 1.
    pub(crate) charged: BTreeMap<Lane, Vec<Charged>>,
    /// Receipts that were handed to somebody.
    pub(crate) answered: BTreeMap<Digest, (TokenId, Lane, u64)>,
    /// Receipts that an honest holder took in, by seq.
    pub(crate) taken: BTreeMap<Lane, BTreeMap<u64, (Digest, i64)>>,
    /// Tokens that a final was signed for, truly or not.
    pub(crate) finals: BTreeSet<TokenId>,
    /// The total up to which a node has shown what a lane's tail rests on.
    pub(crate) shown: BTreeMap<(TokenId, Lane), i64>,
    /// Lanes of which not every receipt was asked for.
    pub(crate) sampled: BTreeSet<Lane>,
    /// Up to where a lane is paid whose node did not show what its holder challenged, unless somebody acknowledges more.
    pub(crate) stopped: BTreeMap<(TokenId, Lane), i64>,
    /// When each of the tokens was drawn that were drawn under a mandate, as far as the house remembers.
    pub(crate) mandated: BTreeMap<TokenId, Timestamp>,
    /// When the house took claims, by its own clock.
    pub(crate) opened: Vec<(u64, u64)>,
    slack: BTreeMap<&'static str, i64>,
    /// How often each thing happened: a schedule that never met what it is about is worth nothing.
    pub(crate) met: BTreeMap<&'static str, u64>,
}

impl Truth {
    /// `have` ≤ `limit`, or the bound is broken.
    pub(crate) fn bound(
        &mut self,
        bound: &'static str,
        have: i64,
        limit: i64,
        what: impl FnOnce() -> String,
    ) -> Checked {
        let slack = self.slack.entry(bound).or_insert(i64::MAX);
        *slack = (*slack).min(limit - have);
        if have <= limit {
            return Ok(());
        }
        Err(Violation { bound, what: format!("{}: {have} is above {limit}", what()) })
    }

    pub(crate) fn holds(&mut self, bound: &'static str, holds: bool, what: impl FnOnce() -> String) -> Checked {
        self.slack.entry(bound).or_insert(i64::MAX);
        if holds { Ok(()) } else { Err(Violation { bound, what: what() }) }
    }

    pub(crate) fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    /// The least that was left under each bound; `i64::MAX` where it is no sum.
    pub(crate) fn slack(&self) -> &BTreeMap<&'static str, i64> {
        &self.slack
    }

    pub(crate) fn sign(&mut self, lane: Lane, seq: u64, max: i64) {
        let signed = self.signed.entry(lane).or_default().entry(seq).or_default();
        *signed = (*signed).max(max);
    }

    pub(crate) fn signed_sum(&self, lane: Lane) -> i64 {
        self.signed.get(&lane).map_or(0, |seqs| seqs.values().sum())
    }

    /// A challenge of a tail has ended: the node has shown what its total rests on, all of it or what was drawn.
    pub(crate) fn proven(&mut self, token: TokenId, lane: Lane, total: i64, is_all: bool) -> Checked {
        let shown = self.shown.entry((token, lane)).or_default();
        *shown = (*shown).max(total);
        if !is_all {
            self.sampled.insert(lane);
            return Ok(());
        }
        if self.leaves.get(&lane.0).is_some_and(|leaf| leaf.honest) {
            let signed = self.signed_sum(lane);
            let what = || format!("lane {lane:?} of {token}");
            self.bound("what is shown in all was signed for in all", total, signed, what)?;
        }
        Ok(())
    }

    /// An acknowledgement was signed, by a key that has the right to.
    pub(crate) fn acknowledge(&mut self, acknowledgement: &Acknowledgement) {
        for entry in &acknowledgement.lanes {
            let lane = (entry.leaf, entry.lane);
            let total = entry.total.ucr();
            let most = self.acknowledged.entry(lane).or_default();
            *most = (*most).max(total);
            let charged = self.charged.get(&lane).and_then(|charged| charged.get(entry.n as usize - 1));
            if charged.is_some_and(|charged| charged.id == entry.receipt && charged.total == total) {
                let most = self.properly.entry(lane).or_default();
                *most = (*most).max(total);
            }
        }
    }

    /// A charge became durable at the honest node.
    pub(crate) fn charge(&mut self, receipt: &Verified<Receipt>) -> Checked {
        let lane = (receipt.leaf, receipt.lane);
        let signed = self.signed.get(&lane).and_then(|seqs| seqs.get(&receipt.seq)).copied().unwrap_or(-1);
        let charge = receipt.charge.ucr();
        self.bound("charge within the signed maximum", charge, signed, || {
            format!("lane {lane:?} seq {}", receipt.seq)
        })?;
        let before = self.charged.entry(lane).or_default();
        let (n, total) = (before.len() as u64 + 1, before.last().map_or(0, |last| last.total) + charge);
        let once = before.iter().all(|charged| charged.seq != receipt.seq);
        let follows = receipt.n == n && receipt.total.ucr() == total;
        before.push(Charged { seq: receipt.seq, total, id: receipt.id() });
        self.holds("a seq is charged once", once, || format!("seq {} of lane {lane:?} again", receipt.seq))?;
        self.holds("charges follow one another", follows, || format!("n {} of lane {lane:?}", receipt.n))?;
        let leaf = self.leaves.get(&receipt.leaf).cloned().expect("work is done under rights that were given");
        let sold = self.tokens[&leaf.token].clone();
        let under = |of: Option<Digest>, truth: &Self| -> i64 {
            let is_under = |(leaf, _): &&Lane| {
                let right = &truth.leaves[leaf];
                of.map_or(right.token == receipt.token, |block| right.block.is_some_and(|(id, _)| id == block))
            };
            let lanes = truth.charged.keys().filter(is_under);
            lanes.filter_map(|lane| truth.charged[lane].last()).map(|last| last.total).sum()
        };
        let spent = under(None, self);
        self.bound("charged within the budget", spent, sold.budget, || format!("token {}", receipt.token))?;
        if let Some((block, cap)) = leaf.block {
            let spent = under(Some(block), self);
            self.bound("charged within a block's cap", spent, cap, || format!("block {block}"))?;
        }
        Ok(())
    }

    /// An honest holder took a receipt in.
    pub(crate) fn take(&mut self, receipt: &Verified<Receipt>) -> Checked {
        let lane = (receipt.leaf, receipt.lane);
        let (seq, charge) = (receipt.seq, receipt.charge.ucr());
        let signed = self.signed.get(&lane).and_then(|seqs| seqs.get(&seq)).copied().unwrap_or(-1);
        self.bound("a holder pays no more than it signed", charge, signed, || format!("lane {lane:?} seq {seq}"))?;
        let before = self.taken.entry(lane).or_default().insert(seq, (receipt.id(), charge));
        let once = before.is_none_or(|(id, _)| id == receipt.id());
        self.holds("a holder pays once for a seq", once, || format!("lane {lane:?} seq {seq}"))
    }

    /// The house takes claims at `now`, by its clock.
    pub(crate) fn beat(&mut self, now: Timestamp) {
        match self.opened.last_mut() {
            Some(last) if now.0 <= last.1 => {}
            Some(last) if now.0 - last.1 <= 120 => last.1 = now.0,
            _ => self.opened.push((now.0, now.0)),
        }
    }

    /// Seconds between `from` and `to` in which the house took claims; a beat that is due does not close it.
    pub(crate) fn open_s(&self, from: Timestamp, to: Timestamp) -> u64 {
        let overlap = |(begin, end): &(u64, u64)| (*end).min(to.0).saturating_sub((*begin).max(from.0));
        let due = self.opened.last().map_or(0, |(_, end)| to.0.saturating_sub((*end).max(from.0)));
        self.opened.iter().map(overlap).sum::<u64>() + if due <= 120 { due } else { 0 }
    }
}
