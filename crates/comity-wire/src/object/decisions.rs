//! What an owner's node says of all that its people decided (spec/11-access.md §11.9).

use super::require;
use crate::cbor::{Malformed, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::NodeId;
use crate::time::Timestamp;

record! {
    /// The root over the links of all events of applications and cases that a node has sealed. Signed by a receipt key.
    pub struct DecisionHead {
        1 => node: NodeId,
        /// From 1, and higher with each head of this node, whichever log it is of.
        2 => n: u64,
        /// Which log: from 1, and one more where one was lost and another begun.
        3 => log: u64,
        /// Leaves of the tree (RFC 6962 §2.1); a leaf's data is the link of one event.
        4 => size: u64,
        5 => root: Digest,
        6 => at: Timestamp,
    }
}

impl Object for DecisionHead {
    const KIND: Kind = Kind { name: "decision-head", bytes_max: 512, items_max: 16 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.n >= 1 && self.log >= 1 && self.size >= 1, "decision-head: numbers begin with 1")?;
        require(i64::try_from(self.n.max(self.log).max(self.size)).is_ok(), "decision-head: numbers are below 2^63")
    }
}
