//! What an operator lets pass: texts of one project and category that a row of the policy would hold, until a moment; and the log of who said
//! so, why and when.

use comity_guard::Category;
use comity_wire::Timestamp;
use serde::{Deserialize, Serialize};

use super::stops::Word;
use super::{Answer, StoreError};

/// That stand at once.
pub const PASSES_MAX: usize = 10_000;

/// What would be held and passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The project's pseudonym.
    pub subject: String,
    pub category: Category,
    /// From then on it is held again.
    pub until: Timestamp,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassSaid {
    /// From 1, without gaps.
    pub n: u64,
    pub subject: String,
    /// By name; one that a later version wrote has none here, and is `category` and its number.
    pub category: String,
    /// Left out: it was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(flatten)]
    pub word: Word,
}

impl PassSaid {
    /// Whether this version knows the category.
    pub fn is_known(&self) -> bool {
        Category::ALL.iter().any(|category| category.name() == self.category)
    }
}

/// The part of a store that remembers what passes.
pub trait Passes: Send + Sync {
    /// All that nobody ended, also those whose time is over, at most [`PASSES_MAX`].
    fn passes(&self) -> Answer<'_, Vec<Pass>>;
    /// Lets it pass and logs it, in one transaction. A second word on the same replaces the first; those whose time is over go. Refused where
    /// [`PASSES_MAX`] stand.
    fn pass_put<'a>(&'a self, pass: &'a Pass, word: &'a Word) -> Answer<'a, ()>;
    /// Ends it and logs that, where it stood: whether it did.
    fn pass_end<'a>(&'a self, subject: &'a str, category: Category, word: &'a Word) -> Answer<'a, bool>;
    /// Lines of the log above `n`, in order, at most `most`.
    fn pass_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<PassSaid>>;
}

pub(super) fn too_many() -> StoreError {
    StoreError::Refused { why: format!("{PASSES_MAX} projects and categories pass already; end some") }
}

/// Subject, category, until.
pub(super) type Row = (String, i64, i64);

/// `None`: of a category that a later version wrote, which is held as ever.
pub(super) fn pass((subject, number, until): Row) -> Option<Result<Pass, StoreError>> {
    let category = known(number)?;
    Some(time(until).map(|until| Pass { subject, category, until }))
}

fn known(number: i64) -> Option<Category> {
    Category::from_number(u8::try_from(number).ok()?)
}

/// Number, subject, category, until, author, reason, at.
pub(super) type SaidRow = (i64, String, i64, Option<i64>, String, String, i64);

pub(super) fn said((n, subject, number, until, author, reason, at): SaidRow) -> Result<PassSaid, StoreError> {
    let n = u64::try_from(n).map_err(|_| UNREADABLE)?;
    let word = Word { author, reason, at: time(at)? };
    let category = known(number).map_or_else(|| format!("category {number}"), |category| category.name().to_owned());
    Ok(PassSaid { n, subject, category, until: until.map(time).transpose()?, word })
}

const UNREADABLE: StoreError = StoreError::Unreadable { what: "pass" };

fn time(at: i64) -> Result<Timestamp, StoreError> {
    u64::try_from(at).map(Timestamp).map_err(|_| UNREADABLE)
}
