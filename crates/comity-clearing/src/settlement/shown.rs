//! What a node shows when it is challenged: a receipt, and the request that its holder signed for it.

use std::collections::BTreeMap;

use comity_token::{Capability, Denied, signed_authority};
use comity_wire::api::challenge::{SEQ_LAG, Shown};
use comity_wire::api::clearing::lane_continues;
use comity_wire::object::Receipt;
use comity_wire::{Amount, Digest, PublicKey, Signed, Verified};
use serde::{Deserialize, Serialize};

use super::{Lane, LaneKey};

/// The receipt that a claim brought, in whose history the others lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub n: u64,
    pub receipt: Digest,
    pub history: Digest,
    pub total: Amount,
}

/// What was acknowledged of a lane: up to which receipt, and its total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub n: u64,
    pub total: Amount,
}

impl Acknowledged {
    /// Of a lane in the books. What was claimed after the close is not in them: nothing of it is acknowledged there.
    pub fn of(lane: Option<&Lane>) -> Self {
        lane.map_or(Self { n: 0, total: Amount::ZERO }, |lane| Self {
            n: lane.acknowledged_n,
            total: lane.acknowledged,
        })
    }
}

/// What a request takes of its lane: two receipts for one slot are one charge too many (spec/05-request.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    pub seq: u64,
    pub item: u32,
}

/// A receipt that stands, with the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub n: u64,
    /// What of the lane's total it charges: above the first, up to the second.
    pub charges: (Amount, Amount),
    /// The slots of both, by their numbers.
    pub slots: BTreeMap<u64, Slot>,
}

/// Why what was shown proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    #[error("the receipt does not verify")]
    Receipt(#[from] comity_wire::Unverified),
    #[error("the receipt is of another lane or token")]
    OtherLane,
    #[error("receipt n {n} is not in the history of receipt n {newest}")]
    NotInHistory { n: u64, newest: u64 },
    #[error("the request does not stand under the holder's signature")]
    Request(#[source] Denied),
    #[error("receipt n {n} is for another request than the one that is shown")]
    OtherRequest { n: u64 },
    #[error("receipt n {n} charges {charge}, its holder signed for at most {max}")]
    AboveMaximum { n: u64, charge: Amount, max: Amount },
    #[error("receipt n {n} is shown without the one before it")]
    NothingBefore { n: u64 },
    #[error(
        "receipt n {n} has the total {total}, which is not its charge {charge} above the {before} of the one before it"
    )]
    OtherTotal { n: u64, before: Amount, charge: Amount, total: Amount },
    #[error("receipt n {n} has the total {total}, where {acknowledged} was acknowledged up to it")]
    AboveAcknowledged { n: u64, total: Amount, acknowledged: Amount },
    #[error("receipts n {n} and n {other} charge for one request")]
    SameRequest { n: u64, other: u64 },
    #[error("receipt n {n} is for item {item} of a request, and a request has one charge")]
    Item { n: u64, item: u32 },
    #[error("receipt n {n} is for seq {seq}: a request is not charged so long after those that came after it")]
    TooLate { n: u64, seq: u64 },
}

/// The receipt that is shown, if it is what it must be: signed by the node, in the history that was claimed, for a request
/// that the lane's holder signed, within the maximum that was signed, and of a total that is the charge above the one before.
///
/// # Errors
/// [`Misfit`].
pub fn shown(
    item: &Shown,
    key: LaneKey,
    newest: &Newest,
    acknowledged: Acknowledged,
    chain: &Capability,
    receipt_keys: &[PublicKey],
) -> Result<Proved, Misfit> {
    let claimed = Claimed { key, newest, chain, receipt_keys };
    let receipt = claimed.receipt(&item.receipt, &item.proof)?;
    let n = receipt.n;
    let signature = item.signature[..].try_into().map_err(|_| Misfit::Request(Denied::BadSignature))?;
    let authority = signed_authority(&item.request, signature, chain.holder()).map_err(Misfit::Request)?;
    let same = (authority.id(), authority.leaf, authority.lane, authority.seq, authority.tariff)
        == (receipt.authority, key.leaf, key.lane, receipt.seq, receipt.tariff);
    if !same {
        return Err(Misfit::OtherRequest { n });
    }
    if n <= acknowledged.n && receipt.total > acknowledged.total {
        return Err(Misfit::AboveAcknowledged { n, total: receipt.total, acknowledged: acknowledged.total });
    }
    if receipt.charge > authority.max_charge {
        return Err(Misfit::AboveMaximum { n, charge: receipt.charge, max: authority.max_charge });
    }
    let mut slots = BTreeMap::from([(n, slot(&receipt)?)]);
    let mut total = Amount::ZERO;
    if n > 1 {
        let before = item.before.as_ref().ok_or(Misfit::NothingBefore { n })?;
        let before = claimed.receipt(&before.receipt, &before.proof)?;
        if before.n != n - 1 {
            return Err(Misfit::NothingBefore { n });
        }
        total = before.total;
        if before.n <= acknowledged.n && total > acknowledged.total {
            return Err(Misfit::AboveAcknowledged { n: before.n, total, acknowledged: acknowledged.total });
        }
        distinct(&mut slots, &[(before.n, slot(&before)?)].into())?;
    }
    if total.checked_add(receipt.charge) != Some(receipt.total) {
        return Err(Misfit::OtherTotal { n, before: total, charge: receipt.charge, total: receipt.total });
    }
    Ok(Proved { n, charges: (total, receipt.total), slots })
}

/// Adds the slots of receipts to those of others of the lane.
///
/// # Errors
/// [`Misfit::SameRequest`] where two receipts have one slot, [`Misfit::TooLate`] where one lies further behind an earlier one than a
/// lane lets it.
pub fn distinct(known: &mut BTreeMap<u64, Slot>, more: &BTreeMap<u64, Slot>) -> Result<(), Misfit> {
    for (n, slot) in more {
        // What stands in both, too: an answer in parts shows one receipt twice.
        let before = known.range(..n).map(|(_, slot)| slot.seq).max();
        if before.is_some_and(|before| slot.seq.saturating_add(SEQ_LAG) < before) {
            return Err(Misfit::TooLate { n: *n, seq: slot.seq });
        }
        let after = known.range(n.saturating_add(1)..).find(|(_, after)| after.seq.saturating_add(SEQ_LAG) < slot.seq);
        if let Some((n, after)) = after {
            return Err(Misfit::TooLate { n: *n, seq: after.seq });
        }
        if let Some((other, _)) = known.iter().find(|(other, taken)| *other != n && *taken == slot) {
            return Err(Misfit::SameRequest { n: *n, other: *other });
        }
        known.insert(*n, *slot);
    }
    Ok(())
}

/// The slot of a receipt, where its number fits its place in the lane. Receipts could otherwise be made without end for requests that
/// were charged before.
fn slot(receipt: &Receipt) -> Result<Slot, Misfit> {
    let Receipt { n, seq, item, .. } = *receipt;
    if item != 0 {
        return Err(Misfit::Item { n, item });
    }
    if n > seq.saturating_add(SEQ_LAG) {
        return Err(Misfit::TooLate { n, seq });
    }
    Ok(Slot { seq, item })
}

/// What a claim said of a lane.
struct Claimed<'a> {
    key: LaneKey,
    newest: &'a Newest,
    chain: &'a Capability,
    receipt_keys: &'a [PublicKey],
}

impl Claimed<'_> {
    /// A receipt of the lane that is in the history that was claimed.
    fn receipt(&self, bytes: &[u8], proof: &[Digest]) -> Result<Verified<Receipt>, Misfit> {
        let Self { key, newest, chain, receipt_keys } = *self;
        let receipt = Signed::<Receipt>::decode(bytes)?.verify_any(receipt_keys)?;
        if (receipt.token, receipt.leaf, receipt.lane) != (chain.token().id, key.leaf, key.lane) {
            return Err(Misfit::OtherLane);
        }
        let n = receipt.n;
        let newest_of = (newest.n, &newest.history);
        let is_in = if n == newest.n {
            receipt.id() == newest.receipt
        } else {
            n < newest.n && lane_continues((n, &receipt.id()), &receipt.history, newest_of, proof)
        };
        if is_in { Ok(receipt) } else { Err(Misfit::NotInHistory { n, newest: newest.n }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_s_numbers_lie_near_its_order() {
        let slots = |all: &[(u64, u64)]| -> BTreeMap<u64, Slot> {
            all.iter().map(|(n, seq)| (*n, Slot { seq: *seq, item: 0 })).collect()
        };
        let fits = |known: &[(u64, u64)], more: &[(u64, u64)]| distinct(&mut slots(known), &slots(more));
        // Whichever of the two is seen first.
        for (known, more) in [((10, 500), (20, 373)), ((20, 373), (10, 500))] {
            assert_eq!(fits(&[known], &[more]), Ok(()));
        }
        for (known, more) in [((10, 500), (20, 372)), ((20, 372), (10, 500))] {
            assert_eq!(fits(&[known], &[more]), Err(Misfit::TooLate { n: 20, seq: 372 }));
        }
        assert_eq!(fits(&[(10, 500)], &[(9, 1), (10, 500), (11, 501)]), Ok(()));
        assert_eq!(fits(&[(10, 500)], &[(11, 500)]), Err(Misfit::SameRequest { n: 11, other: 10 }));
    }
}
