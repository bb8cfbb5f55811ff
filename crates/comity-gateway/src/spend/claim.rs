//! What is due from the house, and the proof that it continues what was settled.

use comity_wire::Digest;
use comity_wire::api::clearing::lane_proof;

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

/// Spec S-5: that the settled receipt and all before it are in the history of receipt n. `receipts` are the ids of
/// receipts 1 … n−1.
pub fn proof(receipts: &[Digest], settled_n: Option<u64>) -> Vec<Digest> {
    settled_n.map_or_else(Vec::new, |settled_n| lane_proof(receipts, receipts.len() as u64 + 1, settled_n))
}
