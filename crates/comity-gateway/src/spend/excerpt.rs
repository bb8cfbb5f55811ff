//! What a batch needs of the book, taken out of it at one moment: while its receipts are signed, others are admitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_wire::TokenId;

use super::admit::Hold;
use super::{Account, Book, Change, HoldId, LaneKey, Pace, RunRow, Slot};

/// What [`Book::stage`] works with. What the book does meanwhile changes nothing in it: a batch is worked out as of the moment at
/// which this was taken, as if that had taken no time.
pub struct Excerpt {
    pub(super) accounts: BTreeMap<TokenId, Account>,
    pub(super) lent: BTreeMap<HoldId, Lent>,
    /// Slots that a holder asks about, and that are being answered.
    pub(super) open: BTreeSet<(TokenId, LaneKey, Slot)>,
    /// Tokens that a final is asked for, and under which requests still run.
    pub(super) busy: BTreeSet<TokenId>,
}

/// A hold that is about to be charged.
pub(super) struct Lent {
    pub(super) hold: Arc<Hold>,
    /// What was charged in the window of each of its places so far; `None` where another has begun. Empty where its project was not
    /// read.
    pub(super) paces: Vec<Option<Pace>>,
    /// The same of its executions, for each of its places' ops.
    pub(super) runs: Vec<RunRow>,
}

impl Book {
    /// Accounts must be loaded.
    pub fn excerpt(&self, changes: &[Change]) -> Excerpt {
        let mut excerpt =
            Excerpt { accounts: BTreeMap::new(), lent: BTreeMap::new(), open: BTreeSet::new(), busy: BTreeSet::new() };
        for change in changes {
            let token = match change {
                Change::Charge(charge) => {
                    let Some(hold) = self.holds.get(&charge.hold) else { continue };
                    excerpt.lent.insert(charge.hold, self.lend(hold));
                    hold.token
                }
                Change::Asked { token, key, slot, .. } => {
                    if self.is_open(*token, *key, *slot) {
                        excerpt.open.insert((*token, *key, *slot));
                    }
                    *token
                }
                Change::Final { token, .. } => {
                    if self.has_open(*token) {
                        excerpt.busy.insert(*token);
                    }
                    *token
                }
                Change::Acknowledge { token, .. }
                | Change::Close { token, .. }
                | Change::Supersede { token, .. }
                | Change::ClaimPending { token, .. }
                | Change::Claimed { token, .. }
                | Change::Settled { token, .. } => *token,
            };
            if !excerpt.accounts.contains_key(&token)
                && let Some(account) = self.account(token)
            {
                excerpt.accounts.insert(token, account.clone());
            }
        }
        excerpt
    }

    fn lend(&self, hold: &Arc<Hold>) -> Lent {
        let subject = self.subjects.get(&hold.subject);
        let read = subject.filter(|subject| subject.is_loaded());
        let paces = read.map(|subject| hold.places.iter().map(|place| subject.charged(place)).collect());
        let runs = subject.map(|subject| {
            let ops = hold.runs.iter().flat_map(|place| place.ops.iter().map(move |op| (place, *op)));
            ops.map(|(place, op)| subject.runs.charged(place, op)).collect()
        });
        Lent { hold: hold.clone(), paces: paces.unwrap_or_default(), runs: runs.unwrap_or_default() }
    }
}
