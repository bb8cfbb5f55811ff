//! Credit notes: what an owner gives back of what it was paid (spec/07-settlement.md §11).

use super::{KIB, require};
use crate::amount::Amount;
use crate::cbor::{Malformed, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{CreditNoteId, NodeId, TokenId};
use crate::time::Timestamp;

record! {
    /// Of one token. Signed by a receipt key that is in force. Names nobody: the credits go where they came from.
    pub struct CreditNote {
        1 => id: CreditNoteId,
        2 => node: NodeId,
        3 => token: TokenId,
        4 => amount: Amount,
        5 => reason: CreditReason,
        /// The link of the event of the case that orders it: present exactly for that reason. The event has the case's id, which
        /// nobody can guess, so the link tells the house nothing; the project has the event.
        6 => case: Option<Digest>,
        7 => at: Timestamp,
    }
}

enumeration! {
    /// Why an owner gives something back.
    pub enum CreditReason: "credit reason" {
        /// A case against the project did not stand.
        Case = 1 "case",
        /// What was sold was not what was answered with.
        Fault = 2 "fault",
        /// Nobody had to.
        Goodwill = 3 "goodwill",
    }
}

impl Object for CreditNote {
    const KIND: Kind = Kind { name: "credit-note", bytes_max: KIB, items_max: 16 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.amount.is_zero(), "credit-note: an amount of nothing")?;
        let is_case = matches!(self.reason, CreditReason::Case);
        require(is_case == self.case.is_some(), "credit-note: a case's link, and that reason, or neither")
    }
}
