//! The three-way match (spec/07-settlement.md §9): what an owner's meter says, what its receipts say, what the ledger moved.
//!
//! Each token's two differences are taken apart until nothing of them is left: every micro-credit is matched, in transit, or in
//! a break that says whose move it is.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::api::count::{Break, BreakKind, Matched, Party};
use comity_wire::object::CountLine;
use comity_wire::{Amount, TokenId};

/// What the books have of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    pub lanes: u64,
    /// Receipts over all lanes, by the newest that were claimed.
    pub charges: u64,
    pub receipted: Amount,
    /// Moved to the owner, less what a dispute took back, and what it gave back.
    pub settled: Amount,
    pub reversed: Amount,
    /// By credit notes.
    pub credited: Amount,
    /// Of the receipts: above what could be paid.
    pub clamped: Amount,
    /// Claimed after the close, and so not among the receipts.
    pub late: Amount,
    /// Of the receipts: what a challenge has stopped.
    pub stopped: Amount,
    /// Of the receipts: what waits for its window.
    pub waiting: Amount,
    /// A dispute keeps what is not paid from being paid.
    pub disputed: bool,
    /// Claims still come in.
    pub open: bool,
}

/// A difference that is taken apart.
struct Rest<'a> {
    token: TokenId,
    left: Amount,
    found: &'a mut Found,
}

#[derive(Default)]
struct Found {
    breaks: Vec<Break>,
    in_transit: Amount,
}

impl Rest<'_> {
    /// Up to `most` of it is a break of this kind.
    fn part(&mut self, most: Amount, kind: BreakKind) {
        let part = self.left.min(most);
        if !part.is_zero() {
            self.left = self.left.saturating_sub(part);
            self.found.breaks.push(told(self.token, kind, part));
        }
    }

    fn in_transit(&mut self, most: Amount) {
        let part = self.left.min(most);
        self.left = self.left.saturating_sub(part);
        self.found.in_transit = self.found.in_transit.saturating_add(part);
    }

    /// All that is left of it.
    fn all(mut self, kind: BreakKind) {
        self.part(self.left, kind);
    }

    fn all_in_transit(mut self) {
        self.in_transit(self.left);
    }
}

/// Matches a count with the books, token by token.
pub fn matched(counted: &BTreeMap<TokenId, CountLine>, booked: &BTreeMap<TokenId, Booked>) -> Matched {
    let mut found = Found::default();
    let mut sums = Matched::default();
    let tokens: BTreeSet<TokenId> = counted.keys().chain(booked.keys()).copied().collect();
    for token in tokens {
        let (line, book) = (counted.get(&token), booked.get(&token));
        let metered = line.map_or(Amount::ZERO, |line| line.charged);
        sums.tokens += u64::from(line.is_some() || book.is_some_and(|book| book.charges > 0));
        sums.charges += line.map_or(0, |line| line.charges);
        sums.metered = sums.metered.saturating_add(metered);
        if let Some(book) = book {
            sums.receipted = sums.receipted.saturating_add(book.receipted);
            sums.settled = sums.settled.saturating_add(book.settled);
        }
        one(token, line, book, &mut found);
    }
    sums.in_transit = found.in_transit;
    sums.differing = found.breaks.len() as u64;
    sums.breaks = found.breaks;
    sums
}

fn one(token: TokenId, line: Option<&CountLine>, book: Option<&Booked>, found: &mut Found) {
    let Some(book) = book else {
        if let Some(line) = line {
            found.breaks.push(told(token, BreakKind::NotKnown, line.charged));
        }
        return;
    };
    meter_and_receipts(token, line, book, found);
    receipts_and_ledger(token, book, found);
}

fn meter_and_receipts(token: TokenId, line: Option<&CountLine>, book: &Booked, found: &mut Found) {
    let Some(line) = line else {
        if book.charges > 0 {
            found.breaks.push(told(token, BreakKind::NotCounted, book.receipted));
        }
        return;
    };
    if line.charged < book.receipted {
        let above = book.receipted.saturating_sub(line.charged);
        found.breaks.push(told(token, BreakKind::ClaimedAbove, above));
    } else if line.charged > book.receipted {
        let left = line.charged.saturating_sub(book.receipted);
        let mut rest = Rest { token, left, found };
        rest.part(book.late, BreakKind::Late);
        if book.open {
            rest.all_in_transit();
        } else {
            rest.all(BreakKind::NotClaimed);
        }
    } else if (line.charges, u64::from(line.lanes)) != (book.charges, book.lanes) && !book.open {
        found.breaks.push(told(token, BreakKind::ChargesDiffer, Amount::ZERO));
    }
}

fn receipts_and_ledger(token: TokenId, book: &Booked, found: &mut Found) {
    if book.settled > book.receipted {
        let above = book.settled.saturating_sub(book.receipted);
        found.breaks.push(told(token, BreakKind::PaidAbove, above));
        return;
    }
    let left = book.receipted.saturating_sub(book.settled);
    let mut rest = Rest { token, left, found };
    rest.part(book.clamped, BreakKind::Clamped);
    rest.part(book.reversed, BreakKind::Disputed);
    rest.part(book.credited, BreakKind::Credited);
    rest.part(book.stopped, BreakKind::Stopped);
    if book.disputed {
        rest.all(BreakKind::Disputed);
        return;
    }
    rest.in_transit(book.waiting);
    if book.open {
        // Whoever spent it may still acknowledge it.
        rest.all_in_transit();
    } else {
        rest.all(BreakKind::Unacknowledged);
    }
}

fn told(token: TokenId, kind: BreakKind, amount: Amount) -> Break {
    let (whose_move, message) = match kind {
        BreakKind::NotKnown => {
            (Party::Owner, "the house does not know this token: claim what was charged, the claim brings the token")
        }
        BreakKind::NotCounted => (
            Party::Owner,
            "receipts were claimed of a token that the meter does not have: find out why, and be counted again",
        ),
        BreakKind::NotClaimed => {
            (Party::Owner, "charged and not claimed before the close: it is not paid; find out why no claim came")
        }
        BreakKind::ClaimedAbove => {
            (Party::House, "more was claimed than the owner's meter has: ask the owner before it is paid out")
        }
        BreakKind::ChargesDiffer => {
            (Party::Owner, "the amounts agree, the numbers of charges or lanes do not: be counted again, or say why")
        }
        BreakKind::Clamped => (Party::Nobody, "receipts above what could be paid: recorded as an exception, not paid"),
        BreakKind::Late => (Party::Nobody, "claimed after the close: recorded as an exception, not paid"),
        BreakKind::Stopped => {
            (Party::Nobody, "a challenge was not answered: not paid unless the holder acknowledges it")
        }
        BreakKind::Disputed => (Party::House, "in dispute, or taken back by one: see `comity clearing dispute list`"),
        BreakKind::Credited => (Party::Nobody, "the owner gave it back by a credit note: booked, and done"),
        BreakKind::Unacknowledged => {
            (Party::Nobody, "nobody acknowledged it and it is above the window that the house pays without")
        }
        BreakKind::PaidAbove => (Party::House, "more was paid than receipts say: run `comity audit`"),
    };
    Break { token, kind, amount, whose_move, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: TokenId = TokenId([1; 16]);

    fn ucr(amount: u32) -> Amount {
        Amount::from_ucr(amount)
    }

    fn line(charges: u64, charged: u32) -> CountLine {
        CountLine { token: TOKEN, lanes: 1, charges, charged: ucr(charged) }
    }

    fn book(receipted: u32, settled: u32) -> Booked {
        Booked { lanes: 1, charges: 3, receipted: ucr(receipted), settled: ucr(settled), ..Booked::default() }
    }

    fn of(line: Option<CountLine>, book: Option<Booked>) -> Matched {
        matched(
            &line.map(|line| (TOKEN, line)).into_iter().collect(),
            &book.map(|book| (TOKEN, book)).into_iter().collect(),
        )
    }

    /// Kind, amount, whose move.
    fn breaks(matched: &Matched) -> Vec<(BreakKind, u64)> {
        matched.breaks.iter().map(|found| (found.kind, u64::try_from(found.amount.ucr()).unwrap())).collect()
    }

    #[test]
    fn what_agrees_is_no_break() {
        let agreed = of(Some(line(3, 70)), Some(book(70, 70)));
        assert_eq!((agreed.tokens, agreed.charges, agreed.differing), (1, 3, 0));
        assert_eq!((agreed.metered, agreed.receipted, agreed.settled), (ucr(70), ucr(70), ucr(70)));
        // A token that was drawn and never used is on nobody's meter.
        let unused = of(None, Some(Booked::default()));
        assert_eq!((unused.tokens, unused.differing), (0, 0));
    }

    #[test]
    fn each_side_may_lack_the_token() {
        assert_eq!(breaks(&of(Some(line(3, 70)), None)), [(BreakKind::NotKnown, 70)]);
        assert_eq!(breaks(&of(None, Some(book(70, 70)))), [(BreakKind::NotCounted, 70)]);
    }

    #[test]
    fn what_was_not_claimed_is_in_transit_while_claims_come_in() {
        let open = of(Some(line(4, 100)), Some(Booked { open: true, ..book(70, 70) }));
        assert_eq!((open.in_transit, open.differing), (ucr(30), 0));
        assert_eq!(breaks(&of(Some(line(4, 100)), Some(book(70, 70)))), [(BreakKind::NotClaimed, 30)]);
        let late = of(Some(line(4, 100)), Some(Booked { late: ucr(20), ..book(70, 70) }));
        assert_eq!(breaks(&late), [(BreakKind::Late, 20), (BreakKind::NotClaimed, 10)]);
    }

    #[test]
    fn a_claim_above_the_meter_is_the_houses_to_ask() {
        let above = of(Some(line(3, 60)), Some(book(70, 70)));
        assert_eq!(breaks(&above), [(BreakKind::ClaimedAbove, 10)]);
        assert_eq!(above.breaks[0].whose_move, Party::House);
        assert_eq!(breaks(&of(Some(line(2, 70)), Some(book(70, 70)))), [(BreakKind::ChargesDiffer, 0)]);
        let lanes = CountLine { lanes: 2, ..line(3, 70) };
        assert_eq!(breaks(&of(Some(lanes), Some(book(70, 70)))), [(BreakKind::ChargesDiffer, 0)]);
    }

    #[test]
    fn what_was_not_paid_is_taken_apart_to_the_micro_credit() {
        let books = Booked { clamped: ucr(5), stopped: ucr(7), waiting: ucr(11), ..book(100, 60) };
        let apart = of(Some(line(3, 100)), Some(books.clone()));
        assert_eq!(breaks(&apart), [(BreakKind::Clamped, 5), (BreakKind::Stopped, 7), (BreakKind::Unacknowledged, 17)]);
        assert_eq!(apart.in_transit, ucr(11));
        let open = of(Some(line(3, 100)), Some(Booked { open: true, ..books.clone() }));
        assert_eq!((breaks(&open), open.in_transit), (vec![(BreakKind::Clamped, 5), (BreakKind::Stopped, 7)], ucr(28)));
        let disputed = of(Some(line(3, 100)), Some(Booked { disputed: true, ..books }));
        assert_eq!(breaks(&disputed), [(BreakKind::Clamped, 5), (BreakKind::Stopped, 7), (BreakKind::Disputed, 28)]);
        let reversed = of(Some(line(3, 100)), Some(Booked { reversed: ucr(100), ..book(100, 0) }));
        assert_eq!(breaks(&reversed), [(BreakKind::Disputed, 100)]);
        let both = Booked { reversed: ucr(60), credited: ucr(30), ..book(100, 10) };
        let both = of(Some(line(3, 100)), Some(both));
        assert_eq!(breaks(&both), [(BreakKind::Disputed, 60), (BreakKind::Credited, 30)]);
        assert_eq!(both.breaks[1].whose_move, Party::Nobody);
        assert_eq!(breaks(&of(Some(line(3, 100)), Some(book(100, 101)))), [(BreakKind::PaidAbove, 1)]);
    }

    #[test]
    fn differences_in_transit_and_breaks_are_all_there_is() {
        // Whatever the books say, nothing of a difference is lost and nothing is told twice.
        for step in 0..5_000_u32 {
            let part = |shift: u32| (step.wrapping_mul(2_654_435_761) >> shift) % 50;
            let (metered, receipted) = (100 + part(3), 100 + part(7));
            let settled = receipted.saturating_sub(part(11));
            let book = Booked {
                clamped: ucr(part(13)),
                late: ucr(part(5)),
                stopped: ucr(part(17)),
                waiting: ucr(part(19)),
                reversed: ucr(part(23) % 3),
                credited: ucr(part(27) % 5),
                disputed: step % 3 == 0,
                open: step % 2 == 0,
                ..book(receipted, settled)
            };
            let matched = of(Some(line(3, metered)), Some(book));
            let told: i64 = matched.breaks.iter().map(|found| found.amount.ucr()).sum();
            let differences = i64::from(metered.abs_diff(receipted)) + i64::from(receipted - settled);
            assert_eq!(told + matched.in_transit.ucr(), differences, "{matched:?}");
        }
    }
}
