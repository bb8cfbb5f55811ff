//! The house: the settlement core on the ledger's model, and what the service does around it.
//!
//! Durable: [`Books`], changed as a whole. A crash before COMMIT leaves them as they were; one after it loses the reply.

use std::collections::BTreeMap;

use comity_clearing::settlement::{Claimed, Escrow, Input, MovementKind, Phase, Refused, Trust, evidence, handle};
use comity_ledger::{AccountCode, Unit};
use comity_token::mint;
use comity_wire::{Amount, Digest, Signed, Timestamp, TokenId};

use crate::around::Around;
use crate::books::{Books, begun, escrow, payable};
use crate::disputes::kept_from_moving;
use crate::federation::{HOUSE, KEYS, NODE, RECEIPT_KEYS, Seen, token};
use crate::mandates::{self, MANDATED};
use crate::net::{Call, Message, Reply};
use crate::truth::{Checked, Leaf, Sold, Violation};

pub(crate) struct House {
    pub(crate) books: Books,
    backup: Option<Box<Books>>,
    pub(crate) up: bool,
    pub(crate) restored: u32,
    /// Which holders keep to the rules.
    honest: [bool; 3],
}

/// When the process dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Never,
    BeforeCommit,
    AfterCommit,
}

impl House {
    pub(crate) fn new(honest: [bool; 3], now: Timestamp) -> Self {
        Self { books: Books::new(now), backup: None, up: true, restored: 0, honest }
    }

    pub(crate) fn beat(&mut self, around: &mut Around<'_>) {
        self.books.calendar.beat(around.now);
        around.truth.beat(around.now);
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = Some(Box::new(self.books.clone()));
    }

    /// The database is lost; what was backed up is put in its place.
    pub(crate) fn restore(&mut self, around: &mut Around<'_>) {
        if let Some(books) = self.backup.take() {
            self.books = *books;
            self.restored += 1;
            // What it had been told of a lane it may know no more.
            around.truth.stopped.clear();
            // What was drawn under a mandate since, and that it was taken back, its operator says again.
            around.truth.mandated.clone_from(&self.books.under);
        }
    }

    fn death(around: &mut Around<'_>) -> Death {
        match around.chance.below(24) {
            0 if !around.calm => Death::BeforeCommit,
            1 if !around.calm => Death::AfterCommit,
            _ => Death::Never,
        }
    }

    pub(crate) fn hear(&mut self, message: Message, around: &mut Around<'_>) -> Checked {
        match message {
            Message::Reserve { call, id, key, budget } => self.reserve(call, id, key, budget, around),
            Message::Claim { bytes } => self.claim(&bytes, around),
            Message::Final { bytes } => self.final_(&bytes, around),
            Message::Refund { token } => self.timed(token, &Input::Refund, around),
            Message::Challenge { token, leaf, lane } => self.challenge(token, leaf, lane, around),
            Message::AskWhatIsAsked => {
                self.ask(around);
                Ok(())
            }
            Message::Shown { id, items } => self.shown(id, &items, around),
            _ => Ok(()),
        }
    }

    fn reserve(
        &mut self,
        call: Call,
        id: TokenId,
        key: comity_wire::PublicKey,
        budget: Amount,
        around: &mut Around<'_>,
    ) -> Checked {
        if let Some(known) = self.books.tokens.get(&id) {
            around.net.send(Message::Reply { call, reply: Reply::Token(known.bytes().to_vec()) });
            return Ok(());
        }
        if around.truth.tokens.contains_key(&id) {
            // The books were set back. The holder has its token by now; this is a repeat from before, whose signature is stale.
            around.net.send(Message::Reply { call, reply: Reply::NoToken });
            return Ok(());
        }
        let window = Amount::from_ucr(40 + u32::try_from(around.chance.below(160)).expect("small"));
        let lanes_max = 2 + u16::try_from(around.chance.below(5)).expect("small");
        let death = Self::death(around);
        let mut books = self.books.clone();
        if call.holder == MANDATED && !mandates::draws(&mut books, (id, &key, budget), around)? {
            around.net.send(Message::Reply { call, reply: Reply::NoToken });
            return Ok(());
        }
        let drawn = match books.reserve(id, budget, around.now) {
            Ok(drawn) => drawn,
            Err(short) => {
                around.truth.meet("a reservation beyond the allocation");
                if !short.unusable.is_empty() {
                    around.truth.meet("credits that cannot be used now");
                }
                around.net.send(Message::Reply { call, reply: Reply::NoToken });
                return Ok(());
            }
        };
        if drawn.draws.len() > 1 {
            around.truth.meet("a token on several lots");
        }
        let drafted = token(id, key, budget, window, lanes_max, around.now, drawn.ends_at);
        let lots = books.lots();
        let in_time = drawn.draws.iter().all(|draw| {
            let lot = lots.iter().find(|lot| lot.id == draw.lot).expect("it was drawn on");
            lot.opens_at <= around.now && drafted.expires_at <= lot.ends_at
        });
        around.truth.holds("credits are used in their time", in_time, || format!("token {id}"))?;
        // Signed after COMMIT: a token without an escrow would bind the house all the same.
        let early = around.bugs.house_mints_before_commit();
        if death == Death::BeforeCommit && !early {
            return Ok(());
        }
        let signed = mint(drafted, &KEYS.issuer);
        let begun = begun(&signed, budget);
        books.tokens.insert(id, signed.clone());
        books.escrows.insert(id, begun);
        if death != Death::BeforeCommit {
            self.books = books;
        }
        let sold = Sold { budget: budget.ucr(), window: window.ucr(), lanes_max };
        around.truth.tokens.insert(id, sold);
        if call.holder == MANDATED {
            mandates::check(&self.books, id, around)?;
        }
        let honest = self.honest[call.holder];
        around.truth.leaves.insert(signed.id(), Leaf { token: id, block: None, honest });
        around.truth.holds(
            "a token is in the books before anybody has it",
            self.books.tokens.contains_key(&id),
            || format!("token {id}"),
        )?;
        if death != Death::AfterCommit {
            around.net.send(Message::Reply { call, reply: Reply::Token(signed.bytes().to_vec()) });
        }
        Ok(())
    }

    fn claim(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Checked {
        let directory = Seen { now: around.now };
        let trust = Trust { house: HOUSE, directory: &directory, receipt_keys: &*RECEIPT_KEYS };
        let claimed = evidence::claim(bytes, &trust);
        let mut claimed = match claimed {
            Ok(claimed) => claimed,
            Err(refused) => {
                around.truth.meet("a claim that does not verify");
                around.net.note(|| format!("house refuses a claim: {refused}"));
                return Ok(());
            }
        };
        let (token, id) = (claimed.token.id, claimed.id);
        if self.books.answered.contains_key(&id) {
            around.net.send(Message::Claimed { token, claim: id, outcome: Ok(()) });
            return Ok(());
        }
        around.bugs.house_reads(&mut claimed);
        let outcome = self.claim_in_books(bytes, &claimed, around)?;
        let said = match outcome {
            None => return Ok(()),
            Some(Ok(())) => Ok(()),
            Some(Err(Refused::SettledDiffers { lanes })) => {
                around.truth.meet("another settled receipt");
                Err((comity_wire::Code::SettledDiffers, lanes))
            }
            Some(Err(refused)) => {
                if refused.is_the_nodes() {
                    self.contradicted(token, id, around)?;
                }
                Err((refused.code(), Vec::new()))
            }
        };
        around.net.send(Message::Claimed { token, claim: id, outcome: said });
        Ok(())
    }

    fn final_(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Checked {
        let Ok(signed) = Signed::<comity_wire::object::Final>::decode(bytes) else { return Ok(()) };
        let token = signed.unverified().token;
        if !self.books.escrows.contains_key(&token) {
            around.net.send(Message::FinalTaken { token });
            return Ok(());
        }
        let directory = Seen { now: around.now };
        let trust = Trust { house: HOUSE, directory: &directory, receipt_keys: &*RECEIPT_KEYS };
        let Ok(finalled) = evidence::final_(bytes, NODE, &trust) else {
            around.truth.meet("a final that does not verify");
            return Ok(());
        };
        let input = Input::Final(&finalled);
        let outcome = self.transact(around, |books, around| {
            let outcome = Self::step(books, token, &input, around)?;
            books.finals.entry(token).or_insert(around.now);
            Ok(outcome)
        });
        let Some(outcome) = outcome? else { return Ok(()) };
        around.truth.meet(if outcome.is_ok() { "a final" } else { "a final that contradicts" });
        if outcome.is_err_and(|refused| refused.is_the_nodes()) {
            self.contradicted(token, finalled.id, around)?;
        }
        around.net.send(Message::FinalTaken { token });
        Ok(())
    }

    pub(crate) fn sweep(&mut self, around: &mut Around<'_>) -> Checked {
        let tokens: Vec<_> = self.books.escrows.keys().copied().collect();
        for token in tokens {
            self.timed(token, &Input::Sweep, around)?;
            self.tails_ask(token, around)?;
        }
        self.challenges_turn(around)
    }

    fn timed(&mut self, token: TokenId, input: &Input<'_>, around: &mut Around<'_>) -> Checked {
        if self.books.escrows.contains_key(&token) {
            self.transact(around, |books, around| Self::step(books, token, input, around))?;
        }
        Ok(())
    }

    /// A payment run, now and then: it leaves in the owner's account what disputes may ask for.
    pub(crate) fn pay_run(&mut self, around: &mut Around<'_>) -> Checked {
        self.transact(around, |books, around| {
            let mut kept = books.kept(None, around.now);
            if around.bugs.house_pays_what_may_be_disputed() {
                kept = Default::default();
            }
            let paid = books.pay_run(kept, around.now);
            around.truth.holds("the books take a payment", paid.is_some(), || "of a run".into())?;
            let (asked, left) = (books.all_may_be_disputed(), books.available(payable()));
            let Some(paid) = paid.filter(|paid| !paid.is_zero()) else { return Ok(Ok(())) };
            around
                .truth
                .bound("a run leaves what disputes may take", asked.ucr(), left.ucr(), || format!("paid {paid}"))?;
            around.truth.meet("an owner is paid by a run");
            if !asked.is_zero() {
                around.truth.meet("a run that leaves something");
            }
            Ok(Ok(()))
        })
        .map(drop)
    }

    /// The owner is paid all at once, now and then: what was paid out no dispute can hold.
    pub(crate) fn pay_out(&mut self, around: &mut Around<'_>) -> Checked {
        self.transact(around, |books, around| {
            if !books.pay_out(around.now).is_zero() {
                around.truth.meet("an owner is paid");
            }
            Ok(Ok(()))
        })
        .map(drop)
    }

    fn claim_in_books(
        &mut self,
        bytes: &[u8],
        claimed: &Claimed,
        around: &mut Around<'_>,
    ) -> Checked<Option<Result<(), Refused>>> {
        let token = claimed.token.id;
        self.transact(around, |books, around| {
            if !books.escrows.contains_key(&token) {
                // It has signed it all the same, and is bound (rule 9).
                around.truth.meet("a token that the books do not know");
                let _ = books.ledger.open(&[escrow(token)], around.now);
                books.tokens.insert(token, claimed.token.clone());
                books.escrows.insert(token, begun(&claimed.token, Amount::ZERO));
            }
            let outcome = Self::step(books, token, &Input::Claim(claimed), around)?;
            if outcome.is_ok() {
                books.answered.insert(claimed.id, token);
                books.keep(bytes, claimed);
            }
            Ok(outcome)
        })
    }

    /// One transaction. `None` where the house died in it, or before its reply.
    pub(crate) fn transact(
        &mut self,
        around: &mut Around<'_>,
        change: impl FnOnce(&mut Books, &mut Around<'_>) -> Checked<Result<(), Refused>>,
    ) -> Checked<Option<Result<(), Refused>>> {
        let death = Self::death(around);
        let mut books = self.books.clone();
        let outcome = change(&mut books, around)?;
        if outcome.is_ok() {
            if death == Death::BeforeCommit {
                return Ok(None);
            }
            self.books = books;
            self.check(around)?;
        }
        Ok((death == Death::Never).then_some(outcome))
    }

    /// What an input does to a token's escrow and to the ledger.
    pub(crate) fn step(
        books: &mut Books,
        token: TokenId,
        input: &Input<'_>,
        around: &mut Around<'_>,
    ) -> Checked<Result<(), Refused>> {
        let mut before = books.escrows[&token].clone();
        let known = before.clone();
        around.bugs.house_before(&mut before);
        let time = around.bugs.house_time(&before, input, around.now);
        let (now, calendar) = time.as_ref().map_or((around.now, &books.calendar), |(now, calendar)| (*now, calendar));
        let mut output = match handle(now, calendar, &before, input.clone()) {
            Ok(output) => output,
            Err(refused) => {
                around.net.note(|| format!("house refuses: {refused}"));
                return Ok(Err(refused));
            }
        };
        around.bugs.house_after(&known, &mut output.after);
        kept_from_moving(&known, &output.after, around)?;
        for movement in &output.movements {
            around.net.note(|| format!("house moves {movement:?}"));
            if movement.kind == MovementKind::Refund {
                early(&known, input, around)?;
            }
            let posted = books.movement(token, movement, around.now);
            around.truth.holds("the books take what settlement decides", posted, || format!("{movement:?}"))?;
            around.truth.meet(match movement.kind {
                MovementKind::Settle => "paid from escrow",
                MovementKind::Suspense => "paid from suspense",
                MovementKind::Refund => "a refund",
            });
        }
        for exception in &output.exceptions {
            around.truth.meet(if exception.code == comity_wire::Code::ClaimClamped { "clamped" } else { "late" });
        }
        books.escrows.insert(token, output.after);
        Ok(Ok(()))
    }

    /// Everything that must hold of the books, after each transaction.
    fn check(&self, around: &mut Around<'_>) -> Checked {
        let truth = &mut *around.truth;
        let ledger = &self.books.ledger;
        let sum =
            |code| ledger.accounts().filter(|a| a.code == code).map(|a| i128::from(a.balance_ucr())).sum::<i128>();
        let all: i128 = ledger.accounts().map(|account| i128::from(account.balance_ucr())).sum();
        truth.holds("all balances sum to zero", all == 0, || format!("they sum to {all}"))?;
        let narrow = |sum: i128| i64::try_from(sum).expect("a sum of amounts");
        let earned =
            [AccountCode::OwnerPayable, AccountCode::Remitted, AccountCode::DisputeHold, AccountCode::Suspense];
        let settled = narrow(earned.into_iter().map(sum).sum());
        let reserved = narrow(sum(AccountCode::Escrow));
        let awarded = truth.awarded;
        truth
            .bound("settled and in escrow within the award", settled + reserved, awarded, || "the allocation".into())?;
        for (id, escrow) in &self.books.escrows {
            self.check_token(*id, escrow, around)?;
        }
        self.check_disputes(around)
    }

    fn check_token(&self, id: TokenId, state: &Escrow, around: &mut Around<'_>) -> Checked {
        let truth = &mut *around.truth;
        let held = self.books.ledger.accounts().find(|account| account.id == escrow(id).id).expect("it was opened");
        truth
            .holds("settlement and books agree on what is held", held.available() == state.held, || format!("{id}"))?;
        let sold = truth.tokens.get(&id).cloned();
        let Some(sold) = sold else {
            let what = format!("the house never signed {id}");
            return Err(Violation { bound: "only what was signed is in the books", what });
        };
        truth.bound("settled within the budget", state.paid.ucr(), sold.budget, || format!("token {id}"))?;
        let mut under: BTreeMap<Digest, (i64, i64)> = BTreeMap::new();
        for (key, lane) in &state.lanes {
            let at = (key.leaf, key.lane);
            let Some(leaf) = truth.leaves.get(&key.leaf).cloned() else {
                return Err(Violation { bound: "a node claims under rights that were given", what: format!("{at:?}") });
            };
            let paid = lane.paid.ucr();
            if let Some((block, cap)) = leaf.block {
                let sum = under.entry(block).or_insert((0, cap));
                sum.0 += paid;
            }
            let acknowledged = truth.acknowledged.get(&at).copied().unwrap_or(0);
            let tail = acknowledged + sold.window;
            truth.bound("no more is paid than acknowledged and a window", paid, tail, || {
                format!("lane {at:?} of {id}")
            })?;
            let shown = truth.shown.get(&(id, at)).copied().unwrap_or(0);
            truth.bound("no tail is paid before it is shown", paid, acknowledged.max(shown), || {
                format!("lane {at:?} of {id}")
            })?;
            if leaf.honest {
                let signed = truth.signed_sum(at);
                truth.bound("an honest holder acknowledges within what it signed", acknowledged, signed, || {
                    format!("{at:?}")
                })?;
                // Of a tail of more than 64 receipts not all are asked for: spec/07-settlement.md §7.5.
                let tail = if truth.sampled.contains(&at) { sold.window } else { 0 };
                truth.bound("a holder pays within what it signed", paid, signed + tail, || {
                    format!("lane {at:?} of {id}")
                })?;
            }
        }
        for (block, (paid, cap)) in under {
            truth.bound("settled within a block's cap", paid, cap, || format!("block {block} of {id}"))?;
        }
        Ok(())
    }

    /// Books are audited as an auditor would.
    pub(crate) fn audit(&self, around: &mut Around<'_>) -> Checked {
        let report = self.books.ledger.audit();
        let clean = report.holds && report.sum_ucr(Unit::CREDITS) == 0;
        around.truth.holds("an audit finds nothing", clean, || format!("{:?}", report.breaks))
    }
}

/// In seconds, as its name says.
const EARLY: &str = "nothing goes home before final or settle_by (s)";

/// Nothing goes home before a final or `settle_by`, counted in open time (rule 8), or a dispute that two persons reversed.
fn early(before: &Escrow, input: &Input<'_>, around: &mut Around<'_>) -> Checked {
    if matches!(input, Input::Stop { lane: None, .. }) {
        return Ok(());
    }
    let final_ = matches!(before.phase, Phase::Final(_)) || matches!(input, Input::Final(_));
    if final_ {
        let signed = around.truth.finals.contains(&before.token);
        return around.truth.holds("a final is the node's word", signed, || format!("token {}", before.token));
    }
    let due = i64::try_from(before.settle_by.since(before.issued_at)).expect("days");
    let open = i64::try_from(around.truth.open_s(before.issued_at, around.now)).expect("days");
    around.truth.bound(EARLY, due, open, || format!("token {}", before.token))
}
