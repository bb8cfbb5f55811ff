//! Credit notes of this node: what its owner has given back, or ordered to be given back, and what the house said.

use comity_wire::object::CreditReason;
use comity_wire::{Amount, CreditNoteId, Digest, OrgId, Timestamp, TokenId};
use serde::Serialize;

use super::{Answer, StoreError};

/// A credit note, as it is signed each time that it is brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Noted {
    pub id: CreditNoteId,
    /// Which issued the token.
    #[serde(skip)]
    pub house: OrgId,
    pub token: TokenId,
    pub amount: Amount,
    pub reason: CreditReason,
    /// Of the event of the case that orders it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<Digest>,
    /// Who ordered it; empty for a case, whose event says so.
    pub author: String,
    pub at: Timestamp,
    pub said: HouseSaid,
}

/// What the house said of it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "house", rename_all = "snake_case")]
pub enum HouseSaid {
    /// It is brought until it says more.
    Nothing,
    Booked {
        content: Digest,
        /// By the house's clock.
        booked_at: Timestamp,
    },
    Declined {
        code: String,
        message: String,
    },
}

/// The credit notes' part of a store.
pub trait Credited: Send + Sync {
    /// Keeps one that is to be brought; a repeat changes nothing. Refused where there are [`CREDITS_MAX`].
    fn credit_put<'a>(&'a self, note: &'a Noted) -> Answer<'a, ()>;
    /// Keeps what the house said.
    fn credit_said<'a>(&'a self, id: CreditNoteId, said: &'a HouseSaid) -> Answer<'a, ()>;
    /// A house has forgotten what it booked from `since` on: that is brought again. How many these are.
    fn credits_again(&self, house: OrgId, since: Timestamp) -> Answer<'_, u64>;
    /// Those to be brought, the oldest first.
    fn credits_waiting(&self, limit: u32) -> Answer<'_, Vec<Noted>>;
    /// Those of a token, or all, the newest first.
    fn credits(&self, token: Option<TokenId>, limit: u32) -> Answer<'_, Vec<Noted>>;
}

/// Credit notes that a node keeps.
pub const CREDITS_MAX: usize = 100_000;

pub(super) fn too_many() -> StoreError {
    StoreError::Refused { why: format!("it keeps {CREDITS_MAX} credit notes already") }
}

/// A row, in the order of [`COLUMNS`].
pub(super) type Row = (
    Vec<u8>,
    Vec<u8>,
    Vec<u8>,
    i64,
    i64,
    Option<Vec<u8>>,
    String,
    i64,
    i64,
    Option<Vec<u8>>,
    Option<i64>,
    Option<String>,
    Option<String>,
);

pub(super) const COLUMNS: &str =
    "id, house, token, amount, reason, case_link, author, at, state, content, booked_at, code, message";

/// How [`HouseSaid`] stands in a row: state, content, booked_at, code, message.
pub(super) type SaidColumns = (i64, Option<Vec<u8>>, Option<i64>, Option<String>, Option<String>);

pub(super) fn said_columns(said: &HouseSaid) -> SaidColumns {
    match said {
        HouseSaid::Nothing => (0, None, None, None, None),
        HouseSaid::Booked { content, booked_at } => {
            (1, Some(content.0.to_vec()), Some(i64::try_from(booked_at.0).unwrap_or(i64::MAX)), None, None)
        }
        HouseSaid::Declined { code, message } => (2, None, None, Some(code.clone()), Some(message.clone())),
    }
}

pub(super) fn noted(row: Row) -> Result<Noted, StoreError> {
    read(row).ok_or(StoreError::Unreadable { what: "a credit note" })
}

fn read(row: Row) -> Option<Noted> {
    let (id, house, token, amount, reason, case, author, at, state, content, booked_at, code, message) = row;
    let time = |at: i64| u64::try_from(at).ok().map(Timestamp);
    let digest = |bytes: Vec<u8>| bytes.try_into().ok().map(Digest);
    let said = match (state, content, booked_at, code, message) {
        (0, ..) => HouseSaid::Nothing,
        (1, Some(content), Some(at), ..) => HouseSaid::Booked { content: digest(content)?, booked_at: time(at)? },
        (2, _, _, Some(code), Some(message)) => HouseSaid::Declined { code, message },
        _ => return None,
    };
    Some(Noted {
        id: CreditNoteId(id.try_into().ok()?),
        house: OrgId(house.try_into().ok()?),
        token: TokenId(token.try_into().ok()?),
        amount: Amount::new(amount).ok()?,
        reason: CreditReason::from_number(u64::try_from(reason).ok()?)?,
        case: match case {
            Some(case) => Some(digest(case)?),
            None => None,
        },
        author,
        at: time(at)?,
        said,
    })
}
