//! What is kept of terms of use: the texts, and which project agreed to which (spec/03-manifest.md §9). Nothing of it is ever dropped:
//! years later both sides can show what was agreed to.

use comity_wire::{Digest, Timestamp};

use super::{Answer, StoreError};

/// Texts that a node keeps: all of them are in its memory, at most 64 KiB each.
pub const TERMS_MAX: usize = 256;
/// Agreements that a node keeps. Which there are is in its memory.
pub const AGREEMENTS_MAX: usize = 100_000;

/// An agreement of a project, with what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub subject: String,
    pub terms: Digest,
    /// The signed agreement.
    pub bytes: Vec<u8>,
    /// The token whose root holder signed it, as its house signed it.
    pub token: Vec<u8>,
    pub at: Timestamp,
}

/// The part of a store that keeps agreements.
pub trait Agreements: Send + Sync {
    /// Keeps a text; a repeat changes nothing. Refused where there are [`TERMS_MAX`].
    fn terms_put(&self, id: Digest, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()>;
    /// All of them, oldest first.
    fn terms(&self) -> Answer<'_, Vec<Vec<u8>>>;
    /// Keeps an agreement, once it is on the disk. A second one of the same project for the same terms changes nothing. Refused where there
    /// are [`AGREEMENTS_MAX`].
    fn agreement_put(&self, agreed: Agreed) -> Answer<'_, ()>;
    /// Who agreed to what, and when, the oldest first.
    fn agreements(&self) -> Answer<'_, Vec<(String, Digest, Timestamp)>>;
    /// A project's, the newest first.
    fn agreements_of<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<Agreed>>;
}

pub(super) fn too_many_terms() -> StoreError {
    StoreError::Refused { why: format!("it keeps {TERMS_MAX} texts of terms of use already") }
}

pub(super) fn too_many() -> StoreError {
    StoreError::Refused { why: format!("it keeps {AGREEMENTS_MAX} agreements already") }
}

/// Subject, terms, when.
pub(super) type Short = (String, Vec<u8>, i64);

pub(super) fn short((subject, terms, at): Short) -> Result<(String, Digest, Timestamp), StoreError> {
    let (terms, at) = (digest(terms)?, time(at)?);
    Ok((subject, terms, at))
}

/// Subject, terms, the agreement, the token, when.
pub(super) type Row = (String, Vec<u8>, Vec<u8>, Vec<u8>, i64);

pub(super) fn agreed((subject, terms, bytes, token, at): Row) -> Result<Agreed, StoreError> {
    Ok(Agreed { subject, terms: digest(terms)?, bytes, token, at: time(at)? })
}

const UNREADABLE: StoreError = StoreError::Unreadable { what: "an agreement" };

fn digest(bytes: Vec<u8>) -> Result<Digest, StoreError> {
    bytes.try_into().map(Digest).map_err(|_| UNREADABLE)
}

fn time(at: i64) -> Result<Timestamp, StoreError> {
    u64::try_from(at).map(Timestamp).map_err(|_| UNREADABLE)
}

pub(super) fn most(most: usize) -> i64 {
    i64::try_from(most).expect("a small number")
}
