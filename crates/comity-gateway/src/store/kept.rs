//! What it takes to say what is kept of one project: its tokens, and the homes in which texts of calls lie.

use comity_wire::time::DAY_S;
use comity_wire::{Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::{Answer, StoreError};

/// Homes of one node that are known at once.
pub const HOMES_MAX: usize = 256;
/// How long a home is still named, in seconds, of which nobody has said that nothing lies there any more: the process that would have
/// removed what lies there may be gone.
pub const UNHEARD_S: u64 = 400 * DAY_S;
/// Chains that [`Kept::subjects_fill`] looks at in one transaction.
pub const FILL_MAX: u32 = 500;
/// Bytes of a home's place; the rest is cut.
pub const PLACE_BYTES_MAX: usize = 512;

/// A home of one of this node's processes in which texts of calls lie, or may come to lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextHome {
    /// Of the home, whichever machine it is on.
    pub id: String,
    /// For people: machine and folder.
    pub place: String,
    /// When its process said so last.
    pub seen_at: Timestamp,
    /// By then its process removes what lies there. Whether it did, it alone says.
    pub until: Timestamp,
}

/// The part of a store that answers for one project.
pub trait Kept: Send + Sync {
    /// Tokens of a project under which something was charged here, from one on, ascending, at most so many.
    fn tokens_of<'a>(&'a self, subject: &'a str, from: TokenId, most: u32) -> Answer<'a, Vec<TokenId>>;
    /// Notes whose the chains are that were written before stores knew: at most [`FILL_MAX`]. How many it noted.
    fn subjects_fill(&self) -> Answer<'_, u32>;
    /// A process says what lies in its home. One in which nothing lies is forgotten, and each whose time is over for [`UNHEARD_S`].
    fn home_put<'a>(&'a self, home: &'a TextHome) -> Answer<'a, ()>;
    /// All of them, by id.
    fn homes(&self) -> Answer<'_, Vec<TextHome>>;
}

/// Whose a chain is; nobody's where it cannot be read.
pub(super) fn subject_of(chain: &[u8]) -> String {
    crate::control::token_of(chain).map_or_else(String::new, |token| token.subject.to_string())
}

pub(super) fn place(home: &TextHome) -> String {
    home.place[..home.place.floor_char_boundary(PLACE_BYTES_MAX)].to_owned()
}

pub(super) fn too_many() -> StoreError {
    StoreError::Refused { why: format!("this node has {HOMES_MAX} homes with texts in them already") }
}

/// A row as it is read.
pub(super) type Row = (String, String, i64, i64);

pub(super) fn read((id, place, seen_at, until): Row) -> Result<TextHome, StoreError> {
    let time = |at| u64::try_from(at).map(Timestamp).map_err(|_| StoreError::Unreadable { what: "a home" });
    Ok(TextHome { id, place, seen_at: time(seen_at)?, until: time(until)? })
}
