//! Credit notes (spec/07-settlement.md §11): what this node charged a project, and what its owner gives back of that.

use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::credit::{CreditNoteReply, CreditNoteRequest};
use comity_wire::object::{CreditNote, CreditReason, Receipt};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Code, CreditNoteId, Digest, ModelId, Signed, Timestamp, TokenId, cose};

use crate::claims::{HouseError, bounded};
use crate::control::token_of;
use crate::gateway::{Gateway, Inner};
use crate::spend::LaneKey;
use crate::store::StoreError;

/// Receipts that are looked at for one suggestion; of a project that had more the newest lanes' first ones are not seen.
const LOOKED_AT_MAX: usize = 20_000;

/// What a credit note says.
#[derive(Clone, Debug)]
pub struct Credit {
    pub id: CreditNoteId,
    /// The project's pseudonym: the token has to be its own.
    pub subject: String,
    pub token: TokenId,
    pub amount: Amount,
    /// Of the event of the case that orders it.
    pub case: Digest,
    pub at: Timestamp,
}

/// Why a credit note is not booked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreditError {
    /// It never will be.
    #[error("{message}")]
    Declined { code: String, message: String },
    /// It was not answered, or it waits; it is brought again.
    #[error("{0}")]
    Later(String),
}

impl From<StoreError> for CreditError {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

/// What was charged for calls that were flagged.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FlaggedCharges {
    pub token: TokenId,
    pub receipts: u64,
    pub amount: Amount,
    /// All that was charged under the token: no more can be given back.
    pub charged: Amount,
}

impl Gateway {
    /// Signs a credit note and brings it to the house that issued the token. The same note may be brought as often as one likes.
    ///
    /// # Errors
    /// [`CreditError`].
    pub async fn credit(&self, credit: &Credit) -> Result<CreditNoteReply, CreditError> {
        let inner = &*self.0;
        let stranger = || CreditError::Declined {
            code: Code::NotYours.as_str().into(),
            message: "the project has no token of this id at this node".into(),
        };
        let house = inner.house.as_ref().ok_or_else(|| CreditError::Later("this node has no house".into()))?;
        let chains = inner.ledger.store().chains(credit.token).await?;
        let terms = chains.iter().find_map(|(_, chain)| token_of(chain)).ok_or_else(stranger)?;
        if terms.subject.as_str() != credit.subject || terms.terms.budget.is_zero() {
            return Err(stranger());
        }
        let note = CreditNote {
            id: credit.id,
            node: inner.node,
            token: credit.token,
            amount: credit.amount,
            reason: CreditReason::Case,
            case: Some(credit.case),
            at: credit.at,
        };
        let unsigned = |_| CreditError::Later("the credit note cannot be signed".into());
        let signed = cose::try_sign(&note, &inner.receipt_key).map_err(unsigned)?;
        let note =
            SignedBytes::new(signed.bytes()).map_err(|_| CreditError::Later("a credit note is too long".into()))?;
        inner.fail("credit.before_send");
        let reply = bounded(house.credit_note(terms.issuer(), CreditNoteRequest { note })).await.map_err(answered)?;
        inner.fail("credit.after_answer");
        Ok(reply)
    }

    /// What a project was charged for calls to a model that receipts count as flagged for a category, within a time, by token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flagged_charges(
        &self,
        subject: &str,
        (model, category): (&ModelId, u8),
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<FlaggedCharges>, StoreError> {
        let inner = &*self.0;
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for token in inner.ledger.store().tokens().await? {
            let chains = inner.ledger.store().chains(token).await?;
            let Some(terms) = chains.iter().find_map(|(_, chain)| token_of(chain)) else { continue };
            // A token lives for a day.
            let is_in_time = terms.issued_at <= to && from <= terms.expires_at.plus(DAY_S);
            if terms.subject.as_str() != subject || terms.terms.budget.is_zero() || !is_in_time {
                continue;
            }
            let Some(account) = inner.ledger.store().account(token).await? else { continue };
            let charged = account.lanes.values().fold(Amount::ZERO, |sum, lane| sum.saturating_add(lane.total));
            let mut one = FlaggedCharges { token, receipts: 0, amount: Amount::ZERO, charged };
            for (key, lane) in &account.lanes {
                for n in 1..=lane.n {
                    if looked_at == LOOKED_AT_MAX {
                        break;
                    }
                    looked_at += 1;
                    let Some(receipt) = receipt(inner, token, *key, n).await? else { continue };
                    let is_meant = receipt.model == *model && receipt.at >= from && receipt.at <= to;
                    if is_meant && receipt.flags.0.contains_key(&category) {
                        one.receipts += 1;
                        one.amount = one.amount.saturating_add(receipt.charge);
                    }
                }
            }
            found.push(one);
        }
        Ok(found)
    }
}

async fn receipt(inner: &Inner, token: TokenId, key: LaneKey, n: u64) -> Result<Option<Receipt>, StoreError> {
    let stored = inner.ledger.store().charge_by_n(token, key, n).await?;
    Ok(stored
        .and_then(|stored| Signed::<Receipt>::decode(&stored.receipt).ok())
        .map(|signed| signed.unverified().clone()))
}

/// Whether the house has said no for good. What it may take another day, and what it did not say, is asked again.
fn answered(refused: HouseError) -> CreditError {
    let final_ = [Code::CreditTooHigh, Code::Closed, Code::LimitExceeded, Code::IdempotencyConflict, Code::NotYours];
    match refused.code.filter(|code| final_.contains(code)) {
        Some(code) => CreditError::Declined { code: code.as_str().into(), message: refused.message },
        None => CreditError::Later(refused.message),
    }
}
