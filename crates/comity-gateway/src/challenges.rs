//! Challenges of the house (spec/07-settlement.md §5): receipts and the requests behind them, shown from the store.

use std::collections::BTreeSet;

use comity_wire::api::challenge::{AnswerRequest, Before, Challenge, SHOWN_MAX, Shown};
use comity_wire::api::clearing::{SignedBytes, lane_proof};
use comity_wire::cbor::Bytes;
use comity_wire::object::Receipt;
use comity_wire::{OrgId, Signed};
use tracing::{debug, error, warn};

use crate::claims::{ClaimError, bounded, houses};
use crate::gateway::{Gateway, Inner};
use crate::spend::LaneKey;
use crate::store::Store;

impl Gateway {
    /// Shows what the houses of this federation ask for, once. Returns how many challenges have all that they asked for.
    pub async fn answer_challenges(&self) -> usize {
        let inner = &*self.0;
        let Some(house) = &inner.house else { return 0 };
        let mut answered = 0;
        for org in houses(inner) {
            let challenges = match bounded(house.challenges(org, inner.node)).await {
                Ok(reply) => reply.challenges,
                // Of a house that nobody has drawn a token for this node from, this node is not known.
                Err(refused) => {
                    debug!(house = %org, error = %refused, "no challenges were heard");
                    continue;
                }
            };
            for challenge in challenges {
                warn!(token = %challenge.token, lane = challenge.lane, receipts = challenge.left.len() + challenge.left_at.len(), "the house asks for receipts");
                match answer(inner, org, &challenge).await {
                    Ok(done) => answered += usize::from(done),
                    Err(error) => {
                        error!(token = %challenge.token, challenge = %challenge.id, %error, due_at = %challenge.due_at, "a challenge is not answered: it is tried again");
                    }
                }
            }
        }
        answered
    }
}

async fn answer(inner: &Inner, org: OrgId, challenge: &Challenge) -> Result<bool, ClaimError> {
    let house = inner.house.as_ref().ok_or(ClaimError::Stored("no house"))?;
    let store = inner.ledger.store();
    let key = LaneKey { leaf: challenge.leaf, lane: challenge.lane };
    let history = store.history(challenge.token, key, challenge.newest.saturating_sub(1)).await?;
    let numbers = asked(&**store, challenge, key).await?;
    let mut left = numbers.len();
    for numbers in numbers.chunks(SHOWN_MAX) {
        let mut shown = Vec::with_capacity(numbers.len());
        for n in numbers {
            let stored = |n| async move {
                store.charge_by_n(challenge.token, key, n).await?.ok_or(ClaimError::Stored("receipt"))
            };
            let proof = |n| if n < challenge.newest { lane_proof(&history, challenge.newest, n) } else { Vec::new() };
            let receipt = |bytes| SignedBytes::new(bytes).map_err(|_| ClaimError::Stored("receipt"));
            let charge = stored(*n).await?;
            let before = match n.checked_sub(1).filter(|before| *before > 0) {
                Some(before) => Some(Before { receipt: receipt(stored(before).await?.receipt)?, proof: proof(before) }),
                None => None,
            };
            shown.push(Shown {
                receipt: receipt(charge.receipt)?,
                request: charge.evidence.base,
                signature: Bytes::new(charge.evidence.signature.to_vec())
                    .map_err(|_| ClaimError::Stored("signature"))?,
                proof: proof(*n),
                before,
            });
        }
        let reply = bounded(house.answer(org, challenge.id, AnswerRequest { shown })).await?;
        left = reply.left.len() + reply.left_at.len();
    }
    Ok(left == 0)
}

/// The numbers of the receipts that a challenge asks for, ascending: those that it names, and those that charge the amounts which it names.
async fn asked(store: &dyn Store, challenge: &Challenge, key: LaneKey) -> Result<Vec<u64>, ClaimError> {
    let mut numbers: BTreeSet<u64> = challenge.left.iter().copied().collect();
    for amount in &challenge.left_at {
        // Totals only rise: the first receipt that reaches it is the one that charges it.
        let (mut below, mut reaches) = (0, challenge.newest);
        while below + 1 < reaches {
            let middle = below + (reaches - below) / 2;
            let charge = store.charge_by_n(challenge.token, key, middle).await?.ok_or(ClaimError::Stored("receipt"))?;
            let total = Signed::<Receipt>::decode(&charge.receipt).map_err(|_| ClaimError::Stored("receipt"))?;
            if total.unverified().total < *amount {
                below = middle;
            } else {
                reaches = middle;
            }
        }
        numbers.insert(reaches);
    }
    Ok(numbers.into_iter().collect())
}
