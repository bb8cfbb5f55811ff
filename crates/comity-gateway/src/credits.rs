//! Credit notes (spec/07-settlement.md §11): what this node charged a project, and what its owner gives back of that.
//!
//! Each is kept before it is brought, and brought until the house has answered. Where the house comes back from a backup, what it
//! booked since is brought again, as claims are. One that the house lets wait is not brought before the house looks at it again.

use std::sync::PoisonError;

use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::credit::{CreditNoteReply, CreditNoteRequest};
use comity_wire::object::{CreditNote, CreditReason, Receipt};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Code, CreditNoteId, Digest, ModelId, Signed, Timestamp, TokenId, cose};
use tracing::{info, warn};

use crate::claims::{HouseError, bounded};
use crate::control::token_of;
use crate::gateway::{Gateway, Inner};
use crate::spend::LaneKey;
use crate::store::StoreError;
use crate::store::credited::{CREDITS_MAX, HouseSaid, Noted};

/// Receipts that are looked at for one suggestion; of a project that had more the newest lanes' first ones are not seen.
const LOOKED_AT_MAX: usize = 20_000;
/// Credit notes that are brought in one turn, and that are looked at of one token: the house takes 64 of it.
const BROUGHT_MAX: u32 = 256;
/// However long a house wants to be left alone with a note that waits.
const LATER_S_MAX: u64 = 6 * 3_600;

/// What a credit note says that a case orders.
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

/// What an operator gives back without a case.
#[derive(Clone, Debug)]
pub struct GiveBack {
    pub token: TokenId,
    pub amount: Amount,
    /// `fault` or `goodwill`: a case orders by itself.
    pub reason: CreditReason,
    pub author: String,
    /// Besides what was given of this token for this reason before.
    pub again: bool,
}

/// Why nothing is given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GiveBackError {
    #[error("this node has no priced token of this id")]
    Unknown,
    #[error("a case orders what is given back for it: comity cases refund")]
    Case,
    #[error("nothing is no amount")]
    Nothing,
    #[error("{} µcr is more than the {} that were charged under it and not given back yet", asked.ucr(), left.ucr())]
    TooMuch { asked: Amount, left: Amount },
    #[error(
        "{} µcr of it are given back for this reason already; whoever means more than that says so (--again)",
        amount.ucr()
    )]
    Before { amount: Amount },
    #[error(transparent)]
    Store(#[from] StoreError),
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
        let chains = inner.ledger.store().chains(credit.token).await?;
        let terms = chains.iter().find_map(|(_, chain)| token_of(chain)).ok_or_else(stranger)?;
        if terms.subject.as_str() != credit.subject || terms.terms.budget.is_zero() {
            return Err(stranger());
        }
        let note = Noted {
            id: credit.id,
            house: terms.issuer(),
            token: credit.token,
            amount: credit.amount,
            reason: CreditReason::Case,
            case: Some(credit.case),
            author: String::new(),
            at: credit.at,
            said: HouseSaid::Nothing,
        };
        inner.ledger.store().credit_put(&note).await?;
        bring(inner, &note).await
    }

    /// Gives credits back, without a case. It is kept, and brought at once; while the house has not answered, again.
    ///
    /// # Errors
    /// [`GiveBackError`]; then nothing is kept.
    pub async fn give_back(&self, ask: &GiveBack) -> Result<Noted, GiveBackError> {
        let inner = &*self.0;
        if ask.reason == CreditReason::Case {
            return Err(GiveBackError::Case);
        }
        if ask.amount.is_zero() {
            return Err(GiveBackError::Nothing);
        }
        let store = inner.ledger.store();
        let chains = store.chains(ask.token).await?;
        let terms = chains.iter().find_map(|(_, chain)| token_of(chain)).filter(|terms| !terms.terms.budget.is_zero());
        let terms = terms.ok_or(GiveBackError::Unknown)?;
        let note = {
            // Said twice at the same moment it is said twice.
            let _one_at_a_time = inner.claiming.lock().await;
            let account = store.account(ask.token).await?.ok_or(GiveBackError::Unknown)?;
            let charged = account.lanes.values().fold(Amount::ZERO, |sum, lane| sum.saturating_add(lane.total));
            let before = store.credits(Some(ask.token), BROUGHT_MAX).await?;
            let before = || before.iter().filter(|note| !matches!(note.said, HouseSaid::Declined { .. }));
            let sum = |notes: &mut dyn Iterator<Item = &Noted>| {
                notes.fold(Amount::ZERO, |sum, note| sum.saturating_add(note.amount))
            };
            let amount = sum(&mut before().filter(|note| note.reason == ask.reason));
            if !ask.again && !amount.is_zero() {
                return Err(GiveBackError::Before { amount });
            }
            let left = charged.saturating_sub(sum(&mut before()));
            if ask.amount > left {
                return Err(GiveBackError::TooMuch { asked: ask.amount, left });
            }
            let note = Noted {
                id: CreditNoteId((inner.entropy)()),
                house: terms.issuer(),
                token: ask.token,
                amount: ask.amount,
                reason: ask.reason,
                case: None,
                author: ask.author.clone(),
                at: inner.now(),
                said: HouseSaid::Nothing,
            };
            store.credit_put(&note).await?;
            note
        };
        if let Err(CreditError::Later(why)) = bring(inner, &note).await {
            info!(note = %note.id, why, "credits are given back once the house books it");
        }
        let kept = store.credits(Some(ask.token), BROUGHT_MAX).await?;
        Ok(kept.into_iter().find(|kept| kept.id == note.id).unwrap_or(note))
    }

    /// What was given back, or is to be, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn credits(&self, limit: u32) -> Result<Vec<Noted>, StoreError> {
        self.0.ledger.store().credits(None, limit).await
    }

    /// Brings what houses have not answered, or have forgotten: of those that houses would look at now, the oldest. How many of these
    /// still wait.
    pub async fn bring_credits(&self) -> usize {
        let inner = &*self.0;
        let all = u32::try_from(CREDITS_MAX).expect("a small number");
        let waiting = match inner.ledger.store().credits_waiting(all).await {
            Ok(waiting) => waiting,
            Err(error) => {
                warn!(%error, "cannot read which credit notes wait");
                return 0;
            }
        };
        let (mut left, now) = (0, inner.now());
        inner.credits_later.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, later| now < *later);
        let due = waiting.into_iter().filter(|note| later(inner, note.id).is_none());
        for note in due.take(BROUGHT_MAX as usize) {
            match bring(inner, &note).await {
                Ok(_) => {}
                Err(CreditError::Later(why)) => {
                    info!(note = %note.id, why, "a credit note is not booked yet; it is brought again");
                    left += 1;
                }
                Err(CreditError::Declined { code, message }) => {
                    warn!(note = %note.id, token = %note.token, code, message, "the house declines a credit note");
                }
            }
        }
        left
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

/// Signs it and brings it to its house. What that says for good is kept before anybody hears of it.
async fn bring(inner: &Inner, note: &Noted) -> Result<CreditNoteReply, CreditError> {
    if let Some(later) = later(inner, note.id) {
        return Err(CreditError::Later(format!("the house lets it wait, and looks at it again at {later}")));
    }
    let house = inner.house.as_ref().ok_or_else(|| CreditError::Later("this node has no house".into()))?;
    let object = CreditNote {
        id: note.id,
        node: inner.node,
        token: note.token,
        amount: note.amount,
        reason: note.reason,
        case: note.case,
        at: note.at,
    };
    let unsigned = |_| CreditError::Later("the credit note cannot be signed".into());
    let signed = cose::try_sign(&object, &inner.receipt_key).map_err(unsigned)?;
    let ask = SignedBytes::new(signed.bytes()).map_err(|_| CreditError::Later("a credit note is too long".into()))?;
    inner.fail("credit.before_send");
    let answer = bounded(house.credit_note(note.house, CreditNoteRequest { note: ask })).await;
    inner.fail("credit.after_answer");
    let wait_s = answer.as_ref().err().filter(|refused| refused.code == Some(Code::CreditWaits));
    if let Some(wait_s) = wait_s.and_then(|refused| refused.retry_after_s) {
        let until = inner.now().plus(wait_s.min(LATER_S_MAX));
        inner.credits_later.lock().unwrap_or_else(PoisonError::into_inner).insert(note.id, until);
    }
    let answer = answer.map_err(answered);
    let said = match &answer {
        Ok(reply) => HouseSaid::Booked { content: reply.content, booked_at: reply.taken_at },
        Err(CreditError::Declined { code, message }) => {
            HouseSaid::Declined { code: code.clone(), message: message.clone() }
        }
        Err(CreditError::Later(_)) => return answer,
    };
    inner.ledger.store().credit_said(note.id, &said).await?;
    answer
}

/// Until when the house lets it wait, if it does.
fn later(inner: &Inner, note: CreditNoteId) -> Option<Timestamp> {
    let known = inner.credits_later.lock().unwrap_or_else(PoisonError::into_inner).get(&note).copied();
    known.filter(|later| inner.now() < *later)
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
