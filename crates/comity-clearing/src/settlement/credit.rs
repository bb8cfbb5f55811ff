//! What a credit note does to the books of one token (spec/07-settlement.md §11): pure, decided before anything is written.
//!
//! It promises: no more goes back than was settled to the owner and is still its own; the lots get it that paid, the last charged
//! first, and the house what it had paid from suspense; nothing of it comes from escrow, and nothing from what a dispute about
//! another token of the owner's may still take. What the owner was paid out for the token it may give back too: out of what
//! it is owed for others, as far as these are past disputes.

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
    /// Of it: paid out to the owner.
    pub paid_out: Amount,
    /// What the owner is owed now, over all its tokens.
    pub owed: Amount,
    /// What disputes about its other tokens may ask for.
    pub kept: Kept,
    pub is_disputed: bool,
    /// More may still be settled.
    pub is_open: bool,
    pub settle_by: Timestamp,
    /// In the order in which charges fall on them.
    pub draws: Vec<Draw>,
}

/// Another token of the same owner's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    pub settled: Amount,
    /// Of it: held by a dispute, taken back by one, or given back by notes.
    pub gone: Amount,
    /// Of it: paid out to the owner.
    pub paid_out: Amount,
    /// Nothing more is claimed under it.
    pub is_closed: bool,
    /// What is claimed and waits for its window.
    pub waiting: Amount,
    /// A dispute or a challenge about it is open, or nobody has yet drawn from a claim of it.
    pub is_undecided: bool,
    /// When its node's final was taken.
    pub final_at: Option<Timestamp>,
}

impl Other {
    /// Whether a dispute about it is open or may still open, where a window that began at `since` is just over: a second final of
    /// the node is looked for as long as a tail is.
    fn can_be_disputed(&self, since: Timestamp) -> bool {
        !self.is_closed || !self.waiting.is_zero() || self.is_undecided || self.final_at.is_some_and(|at| at > since)
    }
}

/// What of the owner's earnings disputes about its other tokens may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What these tokens themselves have in the owner's account.
    own: Amount,
    /// With what was paid out for them: a dispute takes that from what the owner is owed for others.
    all: Amount,
}

impl Kept {
    /// Counts one of the owner's other tokens. Whether something of it is kept.
    pub fn add(&mut self, other: &Other, since: Timestamp) -> bool {
        let is_kept = other.can_be_disputed(since);
        if is_kept {
            let net = other.settled.saturating_sub(other.gone);
            self.own = self.own.saturating_add(net.saturating_sub(other.paid_out));
            self.all = self.all.saturating_add(net);
        }
        is_kept
    }

    /// What of the owner's account disputes about none of these tokens will miss: a payment run pays no more (spec/07-settlement.md S-13),
    /// and a credit note about another token takes it.
    pub fn leaves(&self, owed: Amount) -> Amount {
        owed.saturating_sub(self.all)
    }
}

impl Book {
    /// What the owner can give back now. What the token itself still has in the owner's account may go unless another token's own
    /// would pay for it; anything above that, only if disputes about all others would still find what they may ask for.
    fn free(&self) -> Amount {
        let net = self.settled.saturating_sub(self.reversed).saturating_sub(self.credited);
        let own = net.saturating_sub(self.paid_out);
        own.min(self.owed.saturating_sub(self.kept.own)).max(self.kept.leaves(self.owed))
    }
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
        "the owner is owed {owed} now, and of that {free} is free, less than {asked}: the rest is kept while other tokens of it can still come into dispute; it is booked once their time is over, or more was earned"
    )]
    Kept { asked: Amount, free: Amount, owed: Amount },
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
            Self::Disputed | Self::NotSettled { .. } | Self::OwedTooLittle { .. } | Self::Kept { .. } => {
                Code::CreditWaits
            }
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
    let free = book.free();
    if amount > free {
        return Err(Refused::Kept { asked: amount, free, owed: book.owed });
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
    use crate::settlement::CHALLENGE_S;

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

    type Change = fn(&mut Other);

    /// Of the owner's other tokens: 100 settled, of which so much was paid out; closed long ago, unless `change` says otherwise.
    fn kept(others: &[(u32, Change)]) -> Kept {
        let mut kept = Kept::default();
        for (paid_out, change) in others {
            let mut other = Other { settled: ucr(100), paid_out: ucr(*paid_out), is_closed: true, ..Other::default() };
            other.final_at = Some(NOW.minus(CHALLENGE_S));
            change(&mut other);
            kept.add(&other, NOW.minus(CHALLENGE_S));
        }
        kept
    }

    #[test]
    fn only_what_is_past_disputes_pays_for_another_token() {
        for (change, is_kept) in [
            ((|_| ()) as Change, false),
            (|other| other.is_closed = false, true),
            (|other| other.waiting = ucr(1), true),
            (|other| other.is_undecided = true, true),
            (|other| other.final_at = Some(NOW.minus(CHALLENGE_S - 1)), true),
            (|other| other.final_at = None, false),
        ] {
            let expected = if is_kept { (ucr(70), ucr(100)) } else { (Amount::ZERO, Amount::ZERO) };
            let kept = kept(&[(30, change)]);
            assert_eq!((kept.own, kept.all), expected);
        }
        let open = |other: &mut Other| (other.is_closed, other.gone) = (false, ucr(60));
        assert_eq!(kept(&[(0, open), (50, open)]), Kept { own: ucr(40), all: ucr(80) });
    }

    #[test]
    fn what_other_tokens_may_come_to_need_is_left_to_them() {
        // 150 were settled under this token; what was paid out of it, what the owner is owed, what others keep, and what is free.
        for (paid_out, owed, own, all, free) in [
            (0, 150, 0, 0, 150),
            // Its own goes back, whatever others have.
            (0, 250, 100, 100, 150),
            (0, 350, 100, 100, 250),
            // It was paid out: what can still be disputed pays nothing of it.
            (150, 100, 100, 100, 0),
            (150, 130, 100, 100, 30),
            (100, 150, 100, 100, 50),
            // The others were paid out too early, so that a dispute would take from this one: its own goes back all the same.
            (0, 150, 0, 100, 150),
            (100, 50, 0, 100, 50),
            (150, 130, 0, 100, 30),
            // A third one was paid out and then disputed: what is missing is nobody's to give.
            (0, 230, 100, 100, 130),
            (0, 90, 100, 100, 0),
        ] {
            let kept = Kept { own: ucr(own), all: ucr(all) };
            let book = Book { paid_out: ucr(paid_out), owed: ucr(owed), kept, ..closed() };
            assert_eq!(book.free(), ucr(free), "{book:?}");
        }
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
        let rest = |book: &mut Book| (book.paid_out, book.kept) = (ucr(150), Kept { own: ucr(990), all: ucr(990) });
        let kept = refused(rest, 11);
        assert_eq!(
            (kept.code(), kept),
            (Code::CreditWaits, Refused::Kept { asked: ucr(11), free: ucr(10), owed: ucr(1_000) })
        );
        assert_eq!(refused(|book| book.is_disputed = true, 1).code(), Code::CreditWaits);
        assert_eq!(refused(|book| book.notes = NOTES_MAX, 1), Refused::TooMany);
        let late = refused(|book| book.settle_by = NOW.minus(UNTIL_S), 1);
        assert_eq!((late.code(), late), (Code::Closed, Refused::TooLate { until: NOW }));
    }
}
