//! A reservation whose outcome is unknown: journalled before the house is asked, so that a lost reply loses no escrow.
//!
//! The house looks a reservation up by its id first: the same request gives the stored token again, however late.

use comity_wire::api::clearing::{ReservationRequest, SignedBytes};
use comity_wire::object::Quote;
use comity_wire::{Amount, Code, Digest, MandateId, ModelId, NodeId, SecretKey, Signed, Timestamp, TokenId};
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
/// How wrong this computer's clock may be, where nobody says so.
const SKEW_S: u64 = 24 * 3600;
/// How long it is asked for after nothing of it can be spent any more: whoever gets it late brings it home before its deadline.
const GIVEN_UP_AFTER_S: u64 = 7 * 24 * 3600;

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

    /// From when on the house sells nothing more for it: its quote has ended, and no request is under way.
    pub fn unsold_from(&self) -> Timestamp {
        let quote = Signed::<Quote>::decode(&self.quote).ok();
        // What is no quote is sold nothing for.
        let ends = quote.map_or(self.at, |quote| quote.unverified().expires_at);
        ends.max(self.at).plus(LATE_S)
    }

    /// From when on nothing can be spent of it, whatever the house did with it: what it could sell last has expired, and nobody but this
    /// wallet has the key.
    pub fn over_at(&self) -> Timestamp {
        self.unsold_from().plus(u64::from(self.valid_s)).plus(SKEW_S)
    }

    /// Whether it is asked for no more, whoever says what: a house that is gone, or is another one, never answers. What may have been set
    /// aside goes home by itself at its deadline (spec/07-settlement.md §7.4).
    pub fn is_given_up(&self, now: Timestamp) -> bool {
        now >= self.over_at().plus(GIVEN_UP_AFTER_S)
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
    use comity_wire::object::Scope;

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
    fn one_that_is_never_answered_is_over_when_nothing_of_it_can_be_spent() {
        let scope = Scope {
            model: "lab/tiny".parse().unwrap(),
            release: Digest([7; 32]),
            ops: comity_wire::cbor::List::new(vec![comity_wire::Op::Chat]).unwrap(),
            tariff: Digest([8; 32]),
        };
        let quote = Quote {
            id: comity_wire::QuoteId([1; 16]),
            issuer: comity_wire::OrgId([2; 16]),
            project: comity_wire::ProjectId([3; 16]),
            node: NodeId([1; 16]),
            scope: comity_wire::cbor::List::new(vec![scope]).unwrap(),
            window: Amount::credits(1),
            lanes_max: 1,
            longest_op_s: 60,
            issued_at: Timestamp(900),
            expires_at: Timestamp(5_000),
        };
        let quote = comity_wire::cose::sign(&quote, &SecretKey::from_seed([9; 32]));
        let pending = Pending { quote: Stored::new(quote.bytes()).unwrap(), ..pending() };
        assert_eq!(pending.unsold_from(), Timestamp(5_120), "the quote could be taken up until then");
        assert_eq!(pending.over_at(), Timestamp(5_180 + SKEW_S));
        let ends = 5_180 + SKEW_S + GIVEN_UP_AFTER_S;
        assert!(!pending.is_given_up(Timestamp(ends - 1)) && pending.is_given_up(Timestamp(ends)));
        // Sent when the quote had ended already.
        let late = Pending { at: Timestamp(9_000), ..pending };
        assert_eq!(late.unsold_from(), Timestamp(9_120));
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
