//! Credit notes at the house: an owner gives back, now and then too much, twice, or of what is in dispute. The core decides; the books
//! keep what was noted.

use std::collections::BTreeSet;

use comity_clearing::settlement::credit::{Book, Booked, Kept, Other, Refused, book};
use comity_clearing::settlement::{CHALLENGE_S, Phase};
use comity_ledger::TransferKind;
use comity_wire::{Amount, Timestamp, TokenId};

use crate::around::Around;
use crate::books::{Books, allocation, payable, suspense};
use crate::house::House;
use crate::truth::Checked;

impl Books {
    /// What notes gave back of a token.
    pub(crate) fn credited(&self, token: TokenId) -> Amount {
        let of = self.notes.values().filter(|note| note.0 == token);
        of.fold(Amount::ZERO, |sum, note| sum.saturating_add(note.1))
    }

    /// What disputes about tokens may ask for, but for one of them; and which these are.
    pub(crate) fn kept(&self, but: Option<TokenId>, now: Timestamp) -> (Kept, BTreeSet<TokenId>) {
        let (mut kept, mut which, since) = (Kept::default(), BTreeSet::new(), self.calendar.since(now, CHALLENGE_S));
        for (id, escrow) in self.escrows.iter().filter(|(id, _)| Some(**id) != but) {
            let is_closed = escrow.phase == Phase::Closed;
            let other = Other {
                settled: escrow.paid,
                gone: escrow.paid.saturating_sub(self.net(*id)),
                paid_out: self.paid_out.get(id).copied().unwrap_or_default(),
                is_closed,
                waiting: if is_closed { escrow.held } else { Amount::ZERO },
                is_undecided: self.is_disputed(*id) || self.is_asked(*id),
                final_at: self.finals.get(id).copied(),
            };
            if kept.add(&other, since) {
                which.insert(*id);
            }
        }
        (kept, which)
    }

    /// Tokens that may lose something in a dispute: reckoned without the core.
    fn under_way(&self) -> impl Iterator<Item = &TokenId> {
        let is_under_way =
            |id: &&TokenId| self.escrows[*id].phase != Phase::Closed || self.is_disputed(**id) || self.is_asked(**id);
        self.escrows.keys().filter(is_under_way)
    }

    /// What these may lose, of what was paid out and of what was not.
    pub(crate) fn all_may_be_disputed(&self) -> Amount {
        self.under_way().fold(Amount::ZERO, |sum, id| sum.saturating_add(self.net(*id)))
    }

    /// What other tokens have in the owner's account, and may lose in a dispute.
    fn may_be_disputed(&self, token: TokenId) -> Amount {
        self.under_way().filter(|id| **id != token).fold(Amount::ZERO, |sum, id| {
            let paid_out = self.paid_out.get(id).copied().unwrap_or_default();
            sum.saturating_add(self.net(*id).saturating_sub(paid_out))
        })
    }

    fn book(&self, token: TokenId, now: Timestamp) -> Book {
        let escrow = &self.escrows[&token];
        Book {
            budget: escrow.budget,
            settled: escrow.paid,
            reversed: self.reversed(token),
            credited: self.credited(token),
            notes: self.notes.values().filter(|note| note.0 == token).count() as u64,
            held: escrow.held,
            paid_out: self.paid_out.get(&token).copied().unwrap_or_default(),
            owed: self.available(payable()),
            kept: self.kept(Some(token), now).0,
            is_disputed: self.is_disputed(token),
            is_open: escrow.phase != Phase::Closed,
            settle_by: escrow.settle_by,
            draws: self.draws.get(&token).cloned().unwrap_or_default(),
        }
    }

    /// Moves what was decided; `false` where the books refuse.
    fn credit(&mut self, (id, token, amount): (u64, TokenId, Amount), booked: Booked, around: &Around<'_>) -> bool {
        let kind = TransferKind::CreditNote;
        for (lot, part) in &booked.home {
            let id = [&id.to_be_bytes()[..], &lot.0].concat();
            if !self.post(kind, payable(), allocation(*lot), *part, &id, around.now) {
                return false;
            }
        }
        let over = booked.to_suspense;
        if !over.is_zero() && !self.post(kind, payable(), suspense(), over, &id.to_be_bytes(), around.now) {
            return false;
        }
        self.draws.insert(token, booked.draws);
        self.notes.insert(id, (token, amount));
        true
    }
}

impl House {
    /// The owner brings a note: a new one, or one that it brought before.
    pub(crate) fn credit_note(&mut self, around: &mut Around<'_>) -> Checked {
        let known: Vec<_> = self.books.notes.iter().map(|(id, note)| (*id, note.0, note.1)).collect();
        let all: Vec<_> = self.books.escrows.keys().copied().collect();
        let paid_out = |token: &TokenId| self.books.paid_out.get(token).is_some_and(|amount| !amount.is_zero());
        let friends: Vec<_> = all.iter().copied().filter(paid_out).collect();
        let tokens = if friends.is_empty() || around.chance.one_in(2) { all } else { friends };
        if tokens.is_empty() {
            return Ok(());
        }
        let note = if !known.is_empty() && around.chance.one_in(4) {
            known[around.chance.index(known.len())]
        } else {
            let token = tokens[around.chance.index(tokens.len())];
            let left = self.books.escrows[&token].paid;
            let part = Amount::from_ucr(1 + u32::try_from(around.chance.below(60)).expect("small"));
            let amount = match around.chance.below(4) {
                0 if !left.is_zero() => left,
                1 => left.saturating_add(part),
                _ => part,
            };
            (around.chance.below(u64::MAX), token, amount)
        };
        self.transact(around, |books, around| {
            let (id, token, amount) = note;
            let owed = books.available(payable());
            let is_known = books.notes.contains_key(&id) && !around.bugs.house_forgets_notes();
            if is_known {
                around.truth.meet("a credit note again");
                return Ok(Ok(()));
            }
            let mut before = books.book(token, around.now);
            if around.bugs.house_gives_what_others_earned() {
                before.kept = Kept::default();
            }
            if around.bugs.house_forgets_notes() {
                before.credited = Amount::ZERO;
            }
            match book(around.now, &before, amount) {
                Ok(booked) => {
                    around.truth.holds("nothing goes back while a dispute is open", !before.is_disputed, || {
                        format!("token {token}")
                    })?;
                    let posted = books.credit(note, booked, around);
                    around.truth.holds("the books take a credit note", posted, || format!("token {token}"))?;
                    let less = owed.saturating_sub(books.available(payable()));
                    around.truth.holds("a credit note moves what it says", less == amount, || {
                        format!("token {token}: {less} of {amount}")
                    })?;
                    // An owner who gives back to a friend cannot give what a dispute about somebody else's token will need.
                    let (kept, left) = (books.may_be_disputed(token), books.available(payable()));
                    let what = || format!("token {token} gives {amount}");
                    around.truth.bound("a note leaves what disputes may take", kept.ucr(), left.ucr(), what)?;
                    around.truth.meet("credits that are given back");
                    if before.settled == before.paid_out {
                        around.truth.meet("credits of a token that was paid out");
                    }
                }
                Err(Refused::TooHigh { .. }) => around.truth.meet("a credit note above what was paid"),
                Err(Refused::Kept { .. }) => around.truth.meet("a credit note that others would have to pay"),
                Err(Refused::Disputed) => around.truth.meet("a credit note in a dispute"),
                Err(_) => around.truth.meet("a credit note that waits"),
            }
            Ok(Ok(()))
        })
        .map(drop)
    }
}
