//! Holds that several gateways share: written down by one, read by the others, judged by the same book.
//!
//! A gateway that shares its store keeps no holds in memory. For each round it fills a book with what the store has of the
//! tokens in question (under their locks), decides as if it were alone, and writes down what came of it (rule 11).

use std::collections::{BTreeMap, HashMap};

use comity_token::PathCap;
use comity_wire::{Amount, Digest, TokenId};

use super::admit::Hold;
use super::{Account, Balance, Book, HoldId, LaneKey, PaceView, Slot};

/// Numbers that one start of a gateway gives to holds; its fence stands above them, so that none comes twice.
const NUMBERS: u32 = 40;

impl HoldId {
    /// The first one of the gateway that started under `fence`.
    ///
    /// # Panics
    /// After 2^23 starts.
    pub const fn first_of(fence: u64) -> Self {
        assert!(fence < 1 << (63 - NUMBERS), "a node starts its gateways fewer than 2^23 times");
        Self(fence << NUMBERS)
    }

    pub const fn number(self) -> u64 {
        self.0
    }

    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// A hold, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedHold {
    pub id: HoldId,
    pub token: TokenId,
    pub key: LaneKey,
    pub slot: Slot,
    pub subject: String,
    pub amount: Amount,
    /// All of it, in a form that is the book's own.
    pub body: String,
}

/// What callers are told of a token that is decided on elsewhere: as it was in the last round.
#[derive(Clone, Debug, Default)]
pub struct View {
    spent: BTreeMap<Digest, Amount>,
    held: HashMap<Digest, Amount>,
}

impl View {
    pub fn balance(&self, path: &[PathCap]) -> Balance {
        let spent = |id: &Digest| self.spent.get(id).copied().unwrap_or_default();
        let leaf = path.last().map(|at| at.id);
        Balance {
            charged: leaf.map(|id| spent(&id)).unwrap_or_default(),
            remaining: path.iter().map(|at| at.cap.saturating_sub(spent(&at.id))).min().unwrap_or_default(),
            reserved: leaf.and_then(|id| self.held.get(&id).copied()).unwrap_or_default(),
        }
    }

    /// As [`Book::free`].
    pub fn free(&self, path: &[PathCap]) -> Amount {
        let of = |amount: Option<&Amount>| amount.copied().unwrap_or_default();
        let used = |id: &Digest| of(self.spent.get(id)).saturating_add(of(self.held.get(id)));
        path.iter().map(|at| at.cap.saturating_sub(used(&at.id))).min().unwrap_or_default()
    }
}

/// A path in a hold's JSON: pairs of a block's content id and its cap.
pub(super) mod path {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Amount, Digest, PathCap};

    pub(in crate::spend) fn serialize<S: Serializer>(path: &[PathCap], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(path.iter().map(|at| (at.id, at.cap)))
    }

    pub(in crate::spend) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathCap>, D::Error> {
        let pairs = Vec::<(Digest, Amount)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(id, cap)| PathCap { id, cap }).collect())
    }
}

impl Book {
    /// A book for one round, whose holds are numbered from `next` on.
    pub fn for_round(next: HoldId) -> Self {
        let mut book = Self::new(usize::MAX);
        book.next = next.0;
        book
    }

    /// The number that the next hold gets.
    pub const fn next(&self) -> HoldId {
        HoldId(self.next)
    }

    /// The account as it is now; the book no longer has it.
    pub fn unload_account(&mut self, token: TokenId) -> Option<Account> {
        self.entries.get_mut(&token)?.account.take()
    }

    /// Takes in a hold that was written down. Its token must be loaded.
    ///
    /// # Errors
    /// Where it is not what a book writes.
    pub fn hold_import(&mut self, id: HoldId, body: &str) -> Result<(), serde_json::Error> {
        let hold: Hold = serde_json::from_str(body)?;
        self.entries.entry(hold.token).or_default();
        let subject = self.subjects.entry(hold.subject.clone()).or_default();
        subject.resume(&hold.rules, &hold.places, hold.tokens);
        hold.runs.iter().for_each(|place| subject.runs.resume(place));
        self.set_aside(id, hold);
        Ok(())
    }

    /// Counts a hold of a token that is not loaded in its project's pace.
    ///
    /// # Errors
    /// Where it is not what a book writes.
    pub fn hold_counts(&mut self, body: &str) -> Result<(), serde_json::Error> {
        let hold: Hold = serde_json::from_str(body)?;
        let subject = self.subjects.entry(hold.subject).or_default();
        subject.resume(&hold.rules, &hold.places, hold.tokens);
        hold.runs.iter().for_each(|place| subject.runs.resume(place));
        Ok(())
    }

    /// What to write down of a hold.
    pub fn hold_export(&self, id: HoldId) -> Option<SharedHold> {
        let hold = self.holds.get(&id)?;
        Some(SharedHold {
            id,
            token: hold.token,
            key: hold.key,
            slot: hold.slot,
            subject: hold.subject.clone(),
            amount: hold.amount,
            body: serde_json::to_string(&**hold).expect("a hold is plain data"),
        })
    }

    /// Whether a hold is open.
    pub fn is_held(&self, id: HoldId) -> bool {
        self.holds.contains_key(&id)
    }

    /// What callers may be told of a project's pace until the next round.
    pub fn pace_view(&self, subject: &str) -> PaceView {
        PaceView::of(self.subjects.get(subject))
    }

    /// What callers may be told of a token until the next round.
    pub fn view(&self, token: TokenId) -> View {
        let Some(entry) = self.entries.get(&token) else { return View::default() };
        View {
            spent: entry.account.as_ref().map(|account| account.spent.clone()).unwrap_or_default(),
            held: entry.held.iter().map(|(id, held)| (*id, held.amount)).collect(),
        }
    }
}
