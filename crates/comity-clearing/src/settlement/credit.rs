//! What a credit note does to the books of one token (spec/07-settlement.md §11): pure, decided before anything is written.
//!
//! It promises: no more goes back than was settled to the owner and is still its own; the lots get it that paid, the last charged
//! first, and the house what it had paid from suspense; nothing of it comes from escrow. Whether and when the owner was paid out
//! for that token makes no difference: the credits come from what it is owed now, and a payment takes them into account.

use comity_wire::time::DAY_S;
use comity_wire::{Amount, Code, LotId, Timestamp};

use crate::lots::{Draw, give_back};

/// Credit notes of one token.
pub const NOTES_MAX: u64 = 64;
/// How long after `settle_by` a token's earnings can be given back, in seconds: a funder's books of that year are closed by then.
pub const UNTIL_S: u64 = 366 * DAY_S;

/// What the books have of a token, and of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub budget: Amount,
    /// To the owner, from escrow and from suspense.
    pub settled: Amount,
    /// Of it: taken back by disputes.
    pub reversed: Amount,
    /// Of it: given back by notes before.
    pub credited: Amount,
    /// How many these were.
    pub notes: u64,
    /// Still in escrow.
    pub held: Amount,
    /// What the owner is owed now, over all its tokens.
    pub owed: Amount,
    pub is_disputed: bool,
    /// More may still be settled.
    pub is_open: bool,
    pub settle_by: Timestamp,
    /// In the order in which charges fall on them.
    pub draws: Vec<Draw>,
}

/// What moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The draws with what came home.
    pub draws: Vec<Draw>,
    pub home: Vec<(LotId, Amount)>,
    pub to_suspense: Amount,
    /// What the owner then has left of the token.
    pub left: Amount,
}

/// Why nothing moves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error(
        "{asked} is more than the {left} that the owner can still have of this token: the owner makes a note over less"
    )]
    TooHigh { asked: Amount, left: Amount },
    #[error("a dispute about this token is open: two officers of the clearing house end it first")]
    Disputed,
    #[error(
        "of {asked} only {left} is settled: the rest is booked once the node has claimed it and its time has passed"
    )]
    NotSettled { asked: Amount, left: Amount },
    #[error("the owner is owed {owed} now, less than {asked}: it is booked once the owner has earned that much")]
    OwedTooLittle { asked: Amount, owed: Amount },
    #[error(
        "it is too late: what was sold under this token could be given back until {until}; the owner and the project settle it otherwise"
    )]
    TooLate { until: Timestamp },
    #[error("of one token at most {NOTES_MAX} credit notes are taken")]
    TooMany,
}

impl Refused {
    pub const fn code(&self) -> Code {
        match self {
            Self::TooHigh { .. } => Code::CreditTooHigh,
            Self::Disputed | Self::NotSettled { .. } | Self::OwedTooLittle { .. } => Code::CreditWaits,
            Self::TooLate { .. } => Code::Closed,
            Self::TooMany => Code::LimitExceeded,
        }
    }
}

/// What a note over `amount` moves.
///
/// # Errors
/// [`Refused`], which says whose move it is.
pub fn book(now: Timestamp, book: &Book, amount: Amount) -> Result<Booked, Refused> {
    let gone = book.reversed.saturating_add(book.credited);
    let left = book.settled.saturating_sub(gone);
    let ever = if book.is_open { book.budget.saturating_sub(gone) } else { left };
    let until = book.settle_by.plus(UNTIL_S);
    if now >= until {
        return Err(Refused::TooLate { until });
    }
    if book.notes >= NOTES_MAX {
        return Err(Refused::TooMany);
    }
    if book.is_disputed {
        return Err(Refused::Disputed);
    }
    if amount > ever.max(left) {
        return Err(Refused::TooHigh { asked: amount, left: ever });
    }
    if amount > left {
        return Err(Refused::NotSettled { asked: amount, left });
    }
    if amount > book.owed {
        return Err(Refused::OwedTooLittle { asked: amount, owed: book.owed });
    }
    // What lies in escrow is drawn and not charged: it goes home by another way.
    let drawn =
        book.draws.iter().fold(Amount::ZERO, |sum, draw| sum.saturating_add(draw.amount.saturating_sub(draw.returned)));
    let charged = drawn.saturating_sub(book.held);
    let mut draws = book.draws.clone();
    let to_lots = amount.min(charged);
    let (home, over) = give_back(&mut draws, to_lots);
    let to_suspense = amount.saturating_sub(to_lots);
    let returned = home.iter().fold(Amount::ZERO, |sum, (_, part)| sum.saturating_add(*part));
    assert!(
        over.is_zero() && returned.checked_add(to_suspense) == Some(amount),
        "what is given back is the note's amount"
    );
    Ok(Booked { draws, home, to_suspense, left: left.saturating_sub(amount) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn ucr(amount: u32) -> Amount {
        Amount::from_ucr(amount)
    }

    fn draw(lot: u8, amount: u32, returned: u32) -> Draw {
        Draw { lot: LotId([lot; 16]), amount: ucr(amount), returned: ucr(returned) }
    }

    /// Two lots of 100, of which 150 was charged and 50 is home.
    fn closed() -> Book {
        Book {
            budget: ucr(200),
            settled: ucr(150),
            owed: ucr(1_000),
            settle_by: NOW,
            draws: vec![draw(1, 100, 0), draw(2, 100, 50)],
            ..Book::default()
        }
    }

    fn home(booked: &Booked) -> Vec<(u8, i64)> {
        booked.home.iter().map(|(lot, part)| (lot.0[0], part.ucr())).collect()
    }

    #[test]
    fn the_lots_get_it_that_paid_and_the_last_charged_first() {
        let booked = book(NOW, &closed(), ucr(70)).unwrap();
        assert_eq!((home(&booked), booked.to_suspense, booked.left), (vec![(2, 50), (1, 20)], Amount::ZERO, ucr(80)));
        assert_eq!(booked.draws, [draw(1, 100, 20), draw(2, 100, 100)]);
        let all = book(NOW, &closed(), ucr(150)).unwrap();
        assert_eq!((home(&all), all.left), (vec![(2, 50), (1, 100)], Amount::ZERO));
    }

    #[test]
    fn what_suspense_had_paid_goes_back_last_and_to_suspense() {
        let short = Book { settled: ucr(170), ..closed() };
        let booked = book(NOW, &short, ucr(160)).unwrap();
        assert_eq!((home(&booked), booked.to_suspense, booked.left), (vec![(2, 50), (1, 100)], ucr(10), ucr(10)));
        let unknown = Book { draws: Vec::new(), ..closed() };
        let booked = book(NOW, &unknown, ucr(5)).unwrap();
        assert_eq!((home(&booked), booked.to_suspense), (vec![], ucr(5)));
    }

    #[test]
    fn nothing_comes_from_escrow() {
        let open = Book {
            settled: ucr(60),
            held: ucr(140),
            is_open: true,
            draws: vec![draw(1, 100, 0), draw(2, 100, 0)],
            ..closed()
        };
        let booked = book(NOW, &open, ucr(60)).unwrap();
        assert_eq!((home(&booked), booked.to_suspense), (vec![(2, 60)], Amount::ZERO));
        // What was settled from suspense meanwhile is no lot's, however much lies in escrow.
        let odd = Book { settled: ucr(80), held: ucr(140), ..open };
        assert_eq!(book(NOW, &odd, ucr(80)).unwrap().to_suspense, ucr(20));
    }

    #[test]
    fn each_refusal_says_whose_move_it_is() {
        let refused = |change: fn(&mut Book), amount: u32| {
            let mut changed = closed();
            change(&mut changed);
            book(NOW, &changed, ucr(amount)).unwrap_err()
        };
        let no_change = |_: &mut Book| ();
        assert_eq!(refused(no_change, 151), Refused::TooHigh { asked: ucr(151), left: ucr(150) });
        assert_eq!(
            refused(|book| (book.reversed, book.credited) = (ucr(100), ucr(30)), 21).code(),
            Code::CreditTooHigh
        );
        assert_eq!(refused(|book| book.is_open = true, 151), Refused::NotSettled { asked: ucr(151), left: ucr(150) });
        assert_eq!(refused(|book| book.is_open = true, 201), Refused::TooHigh { asked: ucr(201), left: ucr(200) });
        assert_eq!(refused(|book| book.owed = ucr(9), 10), Refused::OwedTooLittle { asked: ucr(10), owed: ucr(9) });
        assert_eq!(refused(|book| book.is_disputed = true, 1).code(), Code::CreditWaits);
        assert_eq!(refused(|book| book.notes = NOTES_MAX, 1), Refused::TooMany);
        let late = refused(|book| book.settle_by = NOW.minus(UNTIL_S), 1);
        assert_eq!((late.code(), late), (Code::Closed, Refused::TooLate { until: NOW }));
    }
}
