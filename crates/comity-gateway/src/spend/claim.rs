//! What is due from the house, and the proof that it continues what was settled.

use comity_wire::Digest;
use comity_wire::merkle::consistency_proof;

use super::{Account, LaneKey};

/// A lane that goes into a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimPart {
    pub key: LaneKey,
    pub n: u64,
    pub acknowledged_n: u64,
    pub acknowledgement: Option<Digest>,
    /// `None` where nothing of it was settled.
    pub settled_n: Option<u64>,
}

/// The lanes with something that the house does not know: a newer receipt, or a newer acknowledgement.
pub fn due(account: &Account) -> Vec<ClaimPart> {
    let part = |(key, lane): (&LaneKey, &std::sync::Arc<super::Lane>)| {
        let is_due = lane.n > lane.claimed_n || lane.acknowledged_n > lane.claimed_acknowledged_n;
        is_due.then_some(ClaimPart {
            key: *key,
            n: lane.n,
            acknowledged_n: lane.acknowledged_n,
            acknowledgement: lane.acknowledgement,
            settled_n: (lane.claimed_n > 0).then_some(lane.claimed_n),
        })
    };
    account.lanes.iter().filter_map(part).collect()
}

/// RFC 6962 §2.1.2, between the two roots that the house can read in the receipts' `history`: the tree before the
/// settled receipt and the tree before the new one. `receipts` are the ids of receipts 1 … n−1.
pub fn proof(receipts: &[Digest], settled_n: Option<u64>) -> Vec<Digest> {
    let before =
        settled_n.map_or(0, |n| usize::try_from(n.saturating_sub(1)).expect("ids in memory are counted by usize"));
    consistency_proof(receipts, before)
}
