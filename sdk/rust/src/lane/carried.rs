//! A lane as a journal that begins anew carries it on: all that its receipts came to, without them.

use comity_wire::merkle::Frontier;
use comity_wire::object::Flags;
use comity_wire::{Amount, Digest, Meter, Meters};
use serde::{Deserialize, Serialize};

use super::{FREED_MAX, Lane, Open, Stopped};

/// A lane's state, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    open: Option<Open>,
    freed: Vec<Open>,
    seq: u64,
    n: u64,
    total: Amount,
    remainder: u32,
    meters: Vec<(Meter, u64)>,
    flags: Vec<(u8, u32)>,
    newest: Option<Digest>,
    acknowledged: Amount,
    acknowledged_n: u64,
    /// Of the tree of its `n` receipts.
    roots: Vec<Digest>,
    stopped: Option<Stopped>,
}

impl From<&Lane> for Carried {
    fn from(lane: &Lane) -> Self {
        // Taken apart, so that a field that is added cannot be forgotten here.
        let Lane {
            open,
            freed,
            seq,
            n,
            total,
            remainder,
            meters,
            flags,
            newest,
            acknowledged,
            acknowledged_n,
            history,
            stopped,
        } = lane.clone();
        debug_assert_eq!(history.size(), n, "one leaf a receipt");
        Self {
            open,
            freed,
            seq,
            n,
            total,
            remainder,
            meters: meters.iter().collect(),
            flags: flags.0.into_iter().collect(),
            newest,
            acknowledged,
            acknowledged_n,
            roots: history.roots().to_vec(),
            stopped,
        }
    }
}

impl Carried {
    /// `None` where no lane can be so.
    pub(crate) fn lane(&self) -> Option<Lane> {
        let this = self.clone();
        let meters = this.meters.iter().fold(Meters::default(), |meters, (meter, units)| meters.with(*meter, *units));
        let lane = Lane {
            open: this.open,
            freed: this.freed,
            seq: this.seq,
            n: this.n,
            total: this.total,
            remainder: this.remainder,
            meters,
            flags: Flags(this.flags.into_iter().collect()),
            newest: this.newest,
            acknowledged: this.acknowledged,
            acknowledged_n: this.acknowledged_n,
            history: Frontier::from_parts(this.n, this.roots)?,
            stopped: this.stopped,
        };
        let follows = lane.n <= lane.seq && lane.acknowledged_n <= lane.n && lane.acknowledged <= lane.total;
        (follows && lane.newest.is_some() == (lane.n > 0) && lane.freed.len() <= FREED_MAX).then_some(lane)
    }
}
