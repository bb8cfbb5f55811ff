//! Evidence: receipts, acknowledgements, finals, claims (spec/06-metering.md §6, spec/07-settlement.md).

use super::{Chain, KIB, ascending, require};
use crate::amount::{Amount, Exact};
use crate::cbor::{Bytes, Decode, Encode, List, Malformed, Reader, Writer, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{ModelId, NodeId, TokenId};
use crate::meter::Meters;
use crate::op::Op;
use crate::time::Timestamp;

record! {
    /// The node's signed record of one charge. Stored with it in one transaction and never signed twice (rule 4).
    pub struct Receipt {
        1 => token: TokenId,
        /// Content id of the last block, or of the token where there is none.
        2 => leaf: Digest,
        3 => lane: u16,
        /// The client's order.
        4 => seq: u64,
        /// A part of one request: a batch line; else 0.
        5 => item: u32,
        /// The node's commit order in the lane, from 1.
        6 => n: u64,
        7 => charge: Amount,
        /// Sum of the lane's charges 1…n.
        8 => total: Amount,
        /// total · 10⁶ less the exact sum, below 10⁶.
        9 => remainder: u32,
        10 => meters: Meters,
        /// Running for the lane: the house sees only the newest receipt.
        11 => meters_total: Meters,
        12 => flags: Flags,
        13 => flags_total: Flags,
        14 => bytes_out: Option<u64>,
        15 => rank: Option<u64>,
        16 => basis: Basis,
        17 => ended: Ended,
        /// SHA-256("comity/v1/request-digest" ‖ nonce ‖ body).
        18 => request: Digest,
        /// SHA-256("comity/v1/response-digest" ‖ nonce ‖ response bytes).
        19 => response: Digest,
        20 => release: Digest,
        21 => manifest: Digest,
        22 => tariff: Digest,
        /// RFC 6962 root over the lane's receipt ids 1…n−1.
        23 => history: Digest,
        /// Number of the issuer's revocation list that the node knew.
        24 => standing: u64,
        25 => node: NodeId,
        26 => at: Timestamp,
        /// The node certificate's `restore`.
        27 => restore: u32,
        /// What the holder signed: the authority id.
        28 => authority: Digest,
        29 => model: ModelId,
        30 => op: Op,
    }
}

/// Counts per filter category, by the category's number. Zero is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub std::collections::BTreeMap<u8, u32>);

enumeration! {
    /// What a charge rests on.
    pub enum Basis: "basis" {
        /// The upstream's own count.
        Upstream = 1 "upstream",
        /// What was relayed, counted here.
        Relayed = 2 "relayed",
        /// Requests and bytes alone.
        Counted = 3 "counted",
        /// A vendor's bill.
        VendorUsage = 4 "vendor_usage",
        Nothing = 5 "nothing",
    }
}

enumeration! {
    /// How an answer ended.
    pub enum Ended: "end" {
        Stop = 1 "stop",
        Length = 2 "length",
        Filtered = 3 "filtered",
        ClientGone = 4 "client_gone",
        UpstreamError = 5 "upstream_error",
        UpstreamSilent = 6 "upstream_silent",
        Drained = 7 "drained",
    }
}

record! {
    /// The holder's signature over running totals: an order to pay. By the leaf or any ancestor (rule 7).
    pub struct Acknowledgement {
        1 => token: TokenId,
        2 => lanes: List<AckLane, 64>,
        3 => at: Timestamp,
    }
}

record! {
    pub struct AckLane {
        1 => leaf: Digest,
        2 => lane: u16,
        3 => n: u64,
        4 => total: Amount,
        /// Content id of receipt n.
        5 => receipt: Digest,
    }
}

record! {
    /// The node's word that a token is done with there (rule 8). Signed by a receipt key.
    pub struct Final {
        1 => token: TokenId,
        2 => node: NodeId,
        3 => lanes: List<AckLane, 1024>,
        4 => at: Timestamp,
    }
}

record! {
    /// A node's demand on the house. Signed by a receipt key; this signature stands for the receipts in it.
    pub struct Claim {
        1 => token: TokenId,
        2 => node: NodeId,
        /// The node's order of claims under this token, from 1.
        3 => number: u64,
        /// One chain for each leaf that appears in `lanes`.
        4 => chains: List<Bytes<{ Chain::BYTES_MAX }>, 64>,
        5 => lanes: List<ClaimLane, 64>,
        /// Signed acknowledgements that cover lanes of this claim.
        6 => acknowledgements: List<Bytes<16384>, 64>,
        7 => at: Timestamp,
    }
}

record! {
    pub struct ClaimLane {
        /// The newest receipt, signed.
        1 => receipt: Bytes<2048>,
        /// n of the receipt that was settled last; absent: none.
        2 => settled_n: Option<u64>,
        /// RFC 6962 path of receipt `settled_n` in this receipt's history ([`crate::api::clearing::lane_proof`]).
        3 => inclusion: List<Digest, 64>,
    }
}

impl Flags {
    pub fn add(&mut self, other: &Self) {
        for (category, count) in &other.0 {
            let sum = self.0.entry(*category).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

impl Receipt {
    /// The exact sum of the lane: total · 10⁶ − remainder. One receipt checks alone.
    pub fn exact_total(&self) -> Option<Exact> {
        Exact::from_amount(self.total).checked_sub(Exact(u128::from(self.remainder)))
    }
}

impl Object for Receipt {
    const KIND: Kind = Kind { name: "receipt", bytes_max: 2 * KIB, items_max: 256 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.n >= 1, "receipt: n starts at 1")?;
        require(self.seq >= 1, "receipt: seq starts at 1")?;
        require(self.remainder < 1_000_000, "receipt: the remainder is below 10^6")?;
        require(self.charge <= self.total, "receipt: the charge is above the total")?;
        require(self.exact_total().is_some(), "receipt: the remainder is above the total")?;
        require(self.n > 1 || self.history == crate::merkle::empty_root(), "receipt: the first has no history")
    }
}

impl Object for Acknowledgement {
    const KIND: Kind = Kind { name: "acknowledgement", bytes_max: 16 * KIB, items_max: 1024 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.lanes.is_empty(), "acknowledgement: it names no lane")?;
        require(ascending(&self.lanes, |lane| (lane.leaf, lane.lane)), "order of lanes")
    }
}

impl Object for Final {
    const KIND: Kind = Kind { name: "final", bytes_max: 192 * KIB, items_max: 16_384 };

    fn validate(&self) -> Result<(), Malformed> {
        require(ascending(&self.lanes, |lane| (lane.leaf, lane.lane)), "order of lanes")
    }
}

impl Object for Claim {
    const KIND: Kind = Kind { name: "claim", bytes_max: 2 * KIB * KIB, items_max: 16_384 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.number >= 1, "claim: numbers start at 1")?;
        require(!self.lanes.is_empty() && !self.chains.is_empty(), "claim: it names no lane")
    }
}

impl Encode for Flags {
    fn encode(&self, w: &mut Writer) {
        w.map(self.0.len());
        for (category, count) in &self.0 {
            w.uint(u64::from(*category));
            w.uint(u64::from(*count));
        }
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl Decode for Flags {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        const CATEGORIES_MAX: usize = 32;
        let at = r.position();
        let pairs = r.map()?;
        if pairs == 0 || pairs > CATEGORIES_MAX {
            return Err(Malformed::value(at, "number of categories"));
        }
        let mut flags = Self::default();
        for _ in 0..pairs {
            let at = r.position();
            let category = u8::decode(r)?;
            match u32::decode(r)? {
                0 => return Err(Malformed::value(at, "category with no flag")),
                count => flags.0.insert(category, count),
            };
        }
        Ok(flags)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl serde::Serialize for Flags {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter())
    }
}
