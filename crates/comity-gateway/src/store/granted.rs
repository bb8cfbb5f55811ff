//! What operators did with grants by hand, with who, why and when: what an application decides has its own log.

use comity_wire::{Digest, GrantId};

use super::stops::Word;
use super::{Answer, StoreError};

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantSaid {
    /// From 1, without gaps.
    pub n: u64,
    pub grant: GrantId,
    /// `None`: it was taken back.
    pub given: Option<Given>,
    pub word: Word,
}

/// What was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The content id of the signed grant.
    pub content: Digest,
    pub subject: String,
}

/// The operator's part of a store, as far as grants go.
pub trait Granted: Send + Sync {
    /// Keeps a signed grant and logs it, in one transaction; a repeat changes nothing and is logged.
    fn grant_give<'a>(&'a self, grant: GrantId, given: &'a Given, bytes: &'a [u8], word: &'a Word) -> Answer<'a, ()>;
    /// Takes a grant back for good and logs it, in one transaction.
    fn grant_take_back<'a>(&'a self, grant: GrantId, word: &'a Word) -> Answer<'a, ()>;
    /// Lines of the log above `n`, in order, at most `most`.
    fn grant_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<GrantSaid>>;
}

/// A row: number, act, grant, content, subject, author, reason, at.
pub(super) type Row = (i64, i64, Vec<u8>, Option<Vec<u8>>, String, String, String, i64);

pub(super) fn said((n, act, grant, content, subject, author, reason, at): Row) -> Result<GrantSaid, StoreError> {
    let unreadable = || StoreError::Unreadable { what: "grant_log" };
    let uint = |number: i64| u64::try_from(number).map_err(|_| unreadable());
    let given = match (act, content) {
        (1, Some(content)) => Some(Given { content: Digest(content.try_into().map_err(|_| unreadable())?), subject }),
        (2, None) => None,
        _ => return Err(unreadable()),
    };
    Ok(GrantSaid {
        n: uint(n)?,
        grant: GrantId(grant.try_into().map_err(|_| unreadable())?),
        given,
        word: Word { author, reason, at: comity_wire::Timestamp(uint(at)?) },
    })
}
