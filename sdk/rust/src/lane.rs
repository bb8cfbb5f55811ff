//! One lane as its holder sees it: what was asked, what was receipted, what was acknowledged.
//!
//! The holder's half of rules 2, 3, 4 and 6 (spec/06-metering.md): a retry reuses its seq and nonce, receipts follow one
//! another without a gap, and the holder recomputes what each receipt claims.

mod carried;

use comity_token::request::{request_digest, response_digest};
use comity_wire::merkle::Frontier;
use comity_wire::object::{AckLane, Basis, Flags, Receipt, Tariff};
use comity_wire::{Amount, Digest, Exact, Meter, Meters, ModelId, NodeId, Op, TokenId};
use serde::{Deserialize, Serialize};

use crate::keys::Key;

pub use carried::Carried;

/// What the holder signed and has no receipt for yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub seq: u64,
    pub nonce: [u8; 16],
    /// Authority id of what was signed.
    pub authority: Digest,
    /// Content digest of the body, to tell a retry from another request.
    pub content: Digest,
    /// What a receipt must name as its request.
    pub request: Digest,
    pub input_bytes: u64,
    pub model: ModelId,
    pub op: Op,
    pub tariff: Digest,
    pub max_charge: Amount,
    /// Which call it is, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The day (UTC, from 1970-01-01) that it counts for, whatever day its receipt names; none in journals from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<u32>,
}

/// What every receipt of a lane must name.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    pub token: TokenId,
    pub leaf: Digest,
    pub lane: u16,
    pub node: NodeId,
    /// The release that the token's scope pins for the receipt's model.
    pub release: Option<Digest>,
}

/// The state of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    pub open: Option<Open>,
    /// Requests of the coming seq that the node said it did not charge. It may sign for one of them still: only one.
    freed: Vec<Open>,
    seq: u64,
    n: u64,
    total: Amount,
    remainder: u32,
    meters: Meters,
    flags: Flags,
    newest: Option<Digest>,
    acknowledged: Amount,
    acknowledged_n: u64,
    history: Frontier,
    stopped: Option<Stopped>,
}

/// Why nothing more is signed in a lane (rule 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// An answer came without its receipt. Ends with the receipt, or with the node's word that nothing was charged.
    Missing,
    /// A receipt broke a rule. It is kept as evidence and never acknowledged.
    Fault(String),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("an answer came without its receipt"),
            Self::Fault(what) => f.write_str(what),
        }
    }
}

/// How many requests of one seq are remembered.
const FREED_MAX: usize = 16;

/// Why a receipt does not fit what the holder signed and saw. Evidence for a dispute; the token stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    #[error("receipt is for another request than the one that was signed")]
    OtherRequest,
    #[error("receipt names another {0} than was asked for")]
    Other(&'static str),
    #[error("receipt charges {charge}, {max} was the most that was signed")]
    AboveMaximum { charge: Amount, max: Amount },
    #[error("receipt is number {got} of the lane where {expected} was due")]
    Gap { expected: u64, got: u64 },
    #[error("receipt's total does not follow from the one before")]
    Total,
    #[error("receipt's running {0} do not follow from the ones before")]
    Running(&'static str),
    #[error("receipt counts {units} {meter}, {due} is right")]
    Meter { meter: Meter, units: u64, due: u64 },
    #[error("receipt claims another past of the lane than the one that was seen")]
    History,
    #[error("receipt's charge is not what its meters cost under the tariff")]
    Price,
    #[error("receipt names another response than the one that arrived")]
    Response,
}

impl Lane {
    pub fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    pub fn n(&self) -> u64 {
        self.n
    }

    pub fn total(&self) -> Amount {
        self.total
    }

    pub fn acknowledged_total(&self) -> Amount {
        self.acknowledged
    }

    /// Whether this is another receipt than the newest.
    pub fn is_other(&self, receipt: &Digest) -> bool {
        self.newest.is_some_and(|newest| newest != *receipt)
    }

    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// Whether a receipt of this lane was wrong: nothing that its node says of the lane can mend that.
    pub fn is_faulted(&self) -> bool {
        matches!(self.stopped, Some(Stopped::Fault(_)))
    }

    /// Whether a request may be signed here.
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.stopped.is_none()
    }

    /// The most that may still be charged for what is open.
    pub fn open_max(&self) -> Amount {
        self.open.as_ref().map_or(Amount::ZERO, |open| open.max_charge)
    }

    /// Whether this receipt was taken in as the newest.
    pub fn has(&self, receipt: &Digest) -> bool {
        self.newest == Some(*receipt)
    }

    /// Checks a receipt against what was signed, what the token pins, and its price.
    ///
    /// # Errors
    /// The first [`ReceiptFault`].
    pub fn check(&self, right: &Right, receipt: &Receipt, tariff: &Tariff) -> Result<(), ReceiptFault> {
        let open = self.asked(receipt)?;
        let named = [
            ("token", receipt.token == right.token),
            ("leaf", receipt.leaf == right.leaf),
            ("lane", receipt.lane == right.lane),
            ("item", receipt.item == 0),
            ("node", receipt.node == right.node),
            ("model", receipt.model == open.model),
            ("op", receipt.op == open.op),
            ("tariff", receipt.tariff == open.tariff),
            ("release", right.release == Some(receipt.release)),
        ];
        if let Some((what, _)) = named.iter().find(|(_, holds)| !holds) {
            return Err(ReceiptFault::Other(what));
        }
        if receipt.request != open.request {
            return Err(ReceiptFault::OtherRequest);
        }
        self.follows(open, receipt)?;
        counted(open, receipt, tariff)?;
        self.priced(receipt, tariff)
    }

    /// The request that a receipt is for: the open one, or one of its seq that was believed free.
    pub(crate) fn asked(&self, receipt: &Receipt) -> Result<&Open, ReceiptFault> {
        let mut signed = self.open.iter().chain(&self.freed);
        signed
            .find(|open| open.seq == receipt.seq && open.authority == receipt.authority)
            .ok_or(ReceiptFault::OtherRequest)
    }

    fn follows(&self, open: &Open, receipt: &Receipt) -> Result<(), ReceiptFault> {
        if receipt.charge > open.max_charge {
            return Err(ReceiptFault::AboveMaximum { charge: receipt.charge, max: open.max_charge });
        }
        if receipt.n != self.n + 1 {
            return Err(ReceiptFault::Gap { expected: self.n + 1, got: receipt.n });
        }
        if self.total.checked_add(receipt.charge) != Some(receipt.total) {
            return Err(ReceiptFault::Total);
        }
        if self.meters.checked_add(&receipt.meters) != Some(receipt.meters_total) {
            return Err(ReceiptFault::Running("meters"));
        }
        let mut flags = self.flags.clone();
        flags.add(&receipt.flags);
        if flags != receipt.flags_total {
            return Err(ReceiptFault::Running("flags"));
        }
        if receipt.history != self.history.root() {
            return Err(ReceiptFault::History);
        }
        Ok(())
    }

    /// Exact sums, rounded up once per lane (rule 5).
    fn priced(&self, receipt: &Receipt, tariff: &Tariff) -> Result<(), ReceiptFault> {
        let exact = tariff.exact(receipt.op, &receipt.meters).map_err(|_| ReceiptFault::Price)?;
        let before = u128::from(self.total.ucr().unsigned_abs()) * 1_000_000 - u128::from(self.remainder);
        let sum = Exact(before).checked_add(exact).ok_or(ReceiptFault::Price)?;
        let holds = sum.ceil() == Some(receipt.total) && receipt.exact_total() == Some(sum);
        // An answer that rests on nothing is charged nothing, whatever the minimum.
        let nothing = receipt.basis == Basis::Nothing && receipt.charge.is_zero();
        if holds || nothing { Ok(()) } else { Err(ReceiptFault::Price) }
    }

    /// Takes a receipt in that was verified and checked when it came; `id` is its content id. A repeat of the newest one
    /// changes nothing.
    ///
    /// # Errors
    /// [`ReceiptFault`] where it cannot be of this lane; nothing is changed.
    pub(crate) fn receipt(&mut self, id: Digest, receipt: &Receipt) -> Result<(), ReceiptFault> {
        if self.has(&id) {
            return Ok(());
        }
        let open = self.asked(receipt)?;
        self.follows(open, receipt)?;
        self.history.push(&id);
        self.n = receipt.n;
        self.total = receipt.total;
        self.remainder = receipt.remainder;
        self.meters = receipt.meters_total;
        self.flags = receipt.flags_total.clone();
        self.newest = Some(id);
        self.seq = self.seq.max(receipt.seq);
        self.open = None;
        self.freed.clear();
        if self.stopped == Some(Stopped::Missing) {
            self.stopped = None;
        }
        Ok(())
    }

    /// The node's word that `seq` was not charged.
    pub(crate) fn free(&mut self, seq: u64) {
        let Some(open) = self.open.take_if(|open| open.seq == seq) else { return };
        if self.freed.len() < FREED_MAX {
            self.freed.push(open);
        }
        if self.stopped == Some(Stopped::Missing) {
            self.stopped = None;
        }
    }

    pub(crate) fn stop(&mut self, why: Stopped) {
        // What was proved stays.
        if !self.is_faulted() {
            self.stopped = Some(why);
        }
    }

    /// The entry that acknowledges everything receipted; `None` where nothing is new, or a receipt was wrong.
    pub fn acknowledgement(&self, leaf: Digest, lane: u16) -> Option<AckLane> {
        if self.is_faulted() {
            return None;
        }
        let receipt = self.newest?;
        (self.acknowledged_n < self.n).then_some(AckLane { leaf, lane, n: self.n, total: self.total, receipt })
    }

    pub fn is_acknowledged(&self, n: u64) -> bool {
        n <= self.acknowledged_n
    }

    /// The node took an acknowledgement of the first `n` receipts.
    pub fn acknowledged(&mut self, n: u64, total: Amount) {
        if n > self.acknowledged_n {
            self.acknowledged_n = n;
            self.acknowledged = total;
        }
    }
}

/// The meters that the client can count by itself.
fn counted(open: &Open, receipt: &Receipt, tariff: &Tariff) -> Result<(), ReceiptFault> {
    let fault = |meter, due| Err(ReceiptFault::Meter { meter, units: receipt.meters.get(meter), due });
    // A prediction counts its items; what bounds them here is the signed maximum.
    let requests = if open.op == Op::Predict { receipt.meters.get(Meter::Requests) } else { 1 };
    for (meter, due) in [(Meter::Requests, requests), (Meter::InputBytes, open.input_bytes)] {
        let units = receipt.meters.get(meter);
        let holds = if receipt.basis == Basis::Nothing { units <= due } else { units == due };
        if !holds {
            return fault(meter, due);
        }
    }
    let most = open.input_bytes.saturating_add(u64::from(tariff.overhead_tokens));
    if receipt.meters.get(Meter::InputTokens) > most { fault(Meter::InputTokens, most) } else { Ok(()) }
}

/// Whether a receipt is for these very bytes: the salted digests of request and response (rule 4).
///
/// # Errors
/// [`ReceiptFault::Response`].
pub fn check_response(receipt: &Receipt, nonce: &[u8; 16], response: &[u8]) -> Result<(), ReceiptFault> {
    if receipt.response == response_digest(nonce, response) { Ok(()) } else { Err(ReceiptFault::Response) }
}

/// What a receipt must name for a body that was signed under this nonce.
pub(crate) fn request_of(nonce: &[u8; 16], body: &[u8]) -> Digest {
    request_digest(nonce, body)
}
