//! What a node shows when it is challenged: a receipt, and the request that its holder signed for it.

use comity_token::{Capability, Denied, signed_authority};
use comity_wire::api::challenge::Shown;
use comity_wire::api::clearing::lane_continues;
use comity_wire::object::Receipt;
use comity_wire::{Amount, Digest, PublicKey, Signed};

use super::LaneKey;

/// The receipt that a claim brought, in whose history the others lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub n: u64,
    pub receipt: Digest,
    pub history: Digest,
    pub total: Amount,
}

/// Why what was shown proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    #[error("the receipt does not verify")]
    Receipt(#[from] comity_wire::Unverified),
    #[error("the receipt is of another lane or token")]
    OtherLane,
    #[error("receipt n {n} is not in the history of receipt n {newest}")]
    NotInHistory { n: u64, newest: u64 },
    #[error("the request does not stand under the holder's signature")]
    Request(#[source] Denied),
    #[error("receipt n {n} is for another request than the one that is shown")]
    OtherRequest { n: u64 },
    #[error("receipt n {n} charges {charge}, its holder signed for at most {max}")]
    AboveMaximum { n: u64, charge: Amount, max: Amount },
}

/// The number of the receipt that is shown, if it is what it must be: signed by the node, in the history that was claimed, for
/// a request that the lane's holder signed, and within the maximum that was signed.
///
/// # Errors
/// [`Misfit`].
pub fn shown(
    item: &Shown,
    key: LaneKey,
    newest: &Newest,
    chain: &Capability,
    receipt_keys: &[PublicKey],
) -> Result<u64, Misfit> {
    let receipt = Signed::<Receipt>::decode(&item.receipt)?.verify_any(receipt_keys)?;
    if (receipt.token, receipt.leaf, receipt.lane) != (chain.token().id, key.leaf, key.lane) {
        return Err(Misfit::OtherLane);
    }
    let n = receipt.n;
    let newest_of = (newest.n, &newest.history);
    let is_in = if n == newest.n {
        receipt.id() == newest.receipt
    } else {
        n < newest.n && lane_continues((n, &receipt.id()), &receipt.history, newest_of, &item.proof)
    };
    if !is_in {
        return Err(Misfit::NotInHistory { n, newest: newest.n });
    }
    let signature = item.signature[..].try_into().map_err(|_| Misfit::Request(Denied::BadSignature))?;
    let authority = signed_authority(&item.request, signature, chain.holder()).map_err(Misfit::Request)?;
    let same = (authority.id(), authority.leaf, authority.lane, authority.seq, authority.tariff)
        == (receipt.authority, key.leaf, key.lane, receipt.seq, receipt.tariff);
    if !same {
        return Err(Misfit::OtherRequest { n });
    }
    if receipt.charge > authority.max_charge {
        return Err(Misfit::AboveMaximum { n, charge: receipt.charge, max: authority.max_charge });
    }
    Ok(n)
}
