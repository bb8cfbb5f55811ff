//! One lane as its holder sees it: what was asked, what was receipted, what was acknowledged.
//!
//! The holder's half of rules 2, 3, 4 and 6 (spec/06-metering.md): a retry reuses its seq and nonce, receipts follow one
//! another without a gap, and the holder recomputes the history that each receipt claims.

use comity_wire::merkle::Frontier;
use comity_wire::object::{AckLane, Receipt};
use comity_wire::{Amount, Digest, Verified};
use serde::{Deserialize, Serialize};

/// What the holder signed and has no receipt for yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub seq: u64,
    pub nonce: [u8; 16],
    /// Authority id of what was signed.
    pub authority: Digest,
    /// Content digest of the body, to tell a retry from another request.
    pub content: Digest,
    pub max_charge: Amount,
}

/// The state of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    pub open: Option<Open>,
    seq: u64,
    n: u64,
    total: Amount,
    remainder: u32,
    newest: Option<Digest>,
    acknowledged: Amount,
    acknowledged_n: u64,
    history: Frontier,
    /// A receipt broke a rule: nothing more is signed in this lane.
    fault: Option<ReceiptFault>,
}

/// Why a receipt does not fit what the holder signed and saw. Evidence for a dispute; the lane stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    #[error("receipt is for another request than the one that was signed")]
    OtherRequest,
    #[error("receipt charges {charge}, {max} was the most that was signed")]
    AboveMaximum { charge: Amount, max: Amount },
    #[error("receipt is number {got} of the lane where {expected} was due")]
    Gap { expected: u64, got: u64 },
    #[error("receipt's total does not follow from the one before")]
    Total,
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

    pub fn unacknowledged(&self) -> Amount {
        self.total.saturating_sub(self.acknowledged)
    }

    pub fn fault(&self) -> Option<&ReceiptFault> {
        self.fault.as_ref()
    }

    /// What may still have to be paid here: unacknowledged charges and the open maximum.
    pub fn exposure(&self) -> Amount {
        let open = self.open.as_ref().map_or(Amount::ZERO, |open| open.max_charge);
        self.unacknowledged().saturating_add(open)
    }

    /// Checks a receipt against what was signed and takes it in. A repeat of the newest one changes nothing.
    ///
    /// # Errors
    /// [`ReceiptFault`]; the lane then signs nothing more.
    pub fn receipt(&mut self, receipt: &Verified<Receipt>) -> Result<(), ReceiptFault> {
        if self.newest == Some(receipt.id()) {
            return Ok(());
        }
        self.check(receipt).inspect_err(|fault| self.fault = Some(fault.clone()))?;
        self.history.push(&receipt.id());
        self.n = receipt.n;
        self.total = receipt.total;
        self.remainder = receipt.remainder;
        self.newest = Some(receipt.id());
        self.seq = self.seq.max(receipt.seq);
        self.open = None;
        Ok(())
    }

    fn check(&self, receipt: &Receipt) -> Result<(), ReceiptFault> {
        let open = self.open.as_ref().ok_or(ReceiptFault::OtherRequest)?;
        if receipt.seq != open.seq || receipt.authority != open.authority {
            return Err(ReceiptFault::OtherRequest);
        }
        if receipt.charge > open.max_charge {
            return Err(ReceiptFault::AboveMaximum { charge: receipt.charge, max: open.max_charge });
        }
        if receipt.n != self.n + 1 {
            return Err(ReceiptFault::Gap { expected: self.n + 1, got: receipt.n });
        }
        if self.total.checked_add(receipt.charge) != Some(receipt.total) {
            return Err(ReceiptFault::Total);
        }
        if receipt.history != self.history.root() {
            return Err(ReceiptFault::History);
        }
        Ok(())
    }

    /// The exact sum before this receipt, for the price check: total · 10⁶ − remainder.
    pub fn exact(&self) -> u128 {
        u128::from(self.total.ucr().unsigned_abs()) * 1_000_000 - u128::from(self.remainder)
    }

    /// The entry that acknowledges everything receipted; `None` where nothing is new.
    pub fn acknowledgement(&self, leaf: Digest, lane: u16) -> Option<AckLane> {
        let receipt = self.newest?;
        (self.acknowledged_n < self.n).then_some(AckLane { leaf, lane, n: self.n, total: self.total, receipt })
    }

    /// The node took an acknowledgement of the first `n` receipts.
    pub fn acknowledged(&mut self, n: u64, total: Amount) {
        if n > self.acknowledged_n {
            self.acknowledged_n = n;
            self.acknowledged = total;
        }
    }
}
