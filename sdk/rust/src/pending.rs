//! A reservation whose outcome is unknown: journalled before the house is asked, so that a lost reply loses no escrow.
//!
//! The house looks a reservation up by its id first: the same request gives the stored token again, however late.

use comity_wire::api::clearing::{ReservationRequest, SignedBytes};
use comity_wire::{Amount, Code, Digest, MandateId, ModelId, NodeId, SecretKey, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::journal::Stored;

/// Everything that the request is made of again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    pub node: NodeId,
    pub model: ModelId,
    /// The holder key's.
    pub seed: Stored,
    /// A signed [`comity_wire::object::Quote`].
    pub quote: Stored,
    pub budget: Amount,
    pub valid_s: u32,
    pub depth: u8,
    /// Grants that it names, by content id: an approved plan counts only under a token that does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Digest>,
    /// Under which it is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateId>,
    /// When it was first sent.
    pub at: Timestamp,
}

/// A request that was sent is not taken later than this: its signature is stale by then (spec/05-request.md §5.1).
const LATE_S: u64 = 120;

impl Pending {
    /// `None` where the journal was changed by hand.
    pub fn key(&self) -> Option<SecretKey> {
        Some(SecretKey::from_seed((*self.seed).try_into().ok()?))
    }

    /// The same request, to the byte.
    pub fn request(&self, id: TokenId) -> Option<ReservationRequest> {
        Some(ReservationRequest {
            id,
            quote: SignedBytes::new(&*self.quote).ok()?,
            budget: self.budget,
            holder: self.key()?.public(),
            valid_s: self.valid_s,
            lanes_max: None,
            depth: self.depth,
            grants: self.grants.clone(),
            mandate: self.mandate,
        })
    }

    /// Whether the house's answer proves that no credits were set aside and none will be.
    ///
    /// The answer to the only request that was ever sent does, where it is a clear no. To a repeat, it takes a no that the
    /// house gives after it has looked the id up, once the first request can no longer arrive.
    pub fn is_refused(&self, code: Code, is_first: bool, now: Timestamp) -> bool {
        let after_lookup = matches!(
            code,
            Code::BalanceTooLow
                | Code::Expired
                | Code::LimitExceeded
                | Code::ModelNotFound
                | Code::NotFound
                | Code::Withdrawn
                | Code::OpNotOffered
                | Code::Frozen
                | Code::MandateRequired
                | Code::Revoked
        );
        if is_first { code.status() < 500 } else { after_lookup && now > self.at.plus(LATE_S) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        Pending {
            node: NodeId([1; 16]),
            model: "lab/tiny".parse().unwrap(),
            seed: Stored::new([7; 32]).unwrap(),
            quote: Stored::new(b"quote").unwrap(),
            budget: Amount::credits(1),
            valid_s: 60,
            depth: 0,
            grants: Vec::new(),
            mandate: None,
            at: Timestamp(1_000),
        }
    }

    #[test]
    fn a_repeat_is_the_same_request() {
        let (id, pending) = (TokenId([3; 16]), pending());
        let written: Pending = serde_json::from_str(&serde_json::to_string(&pending).unwrap()).unwrap();
        assert_eq!(written.request(id), pending.request(id));
        assert_eq!(pending.request(id).unwrap().holder, SecretKey::from_seed([7; 32]).public());
    }

    #[test]
    fn only_a_no_that_proves_something_ends_it() {
        let pending = pending();
        let late = Timestamp(1_121);
        assert!(pending.is_refused(Code::NotRegistered, true, pending.at));
        assert!(!pending.is_refused(Code::StoreUnavailable, true, pending.at), "it may have been committed");
        assert!(!pending.is_refused(Code::BalanceTooLow, false, Timestamp(1_120)), "the first may still arrive");
        assert!(pending.is_refused(Code::BalanceTooLow, false, late));
        assert!(!pending.is_refused(Code::NotRegistered, false, late), "said before the id is looked up");
        assert!(!pending.is_refused(Code::ReservationConflict, false, late), "it is there, with other terms");
    }
}
