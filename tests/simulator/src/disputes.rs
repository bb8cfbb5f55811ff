//! Challenges and disputes at the house: what it asks of a node, what is shown, and what follows where nothing is.

use std::collections::{BTreeMap, BTreeSet};

use comity_clearing::settlement::draw::OfTail;
use comity_clearing::settlement::matching::Booked;
use comity_clearing::settlement::shown::{Acknowledged, Newest, Slot, distinct, shown};
use comity_clearing::settlement::{CHALLENGE_S, Claimed, Escrow, Input, Lane, LaneKey, Phase, draw};
use comity_ledger::TransferKind;
use comity_token::verify_for_settlement;
use comity_wire::api::challenge::{ASKED_MAX, Shown};
use comity_wire::object::{Claim, Receipt};
use comity_wire::{Amount, Digest, Signed, Timestamp, TokenId};

use crate::around::Around;
use crate::books::{Books, allocation, hold, payable, suspense};
use crate::federation::{NODE, RECEIPT_KEYS, START, Seen};
use crate::house::House;
use crate::net::Message;
use crate::truth::Checked;

/// One claim in so many is drawn from, and so many of its receipts.
const DRAWN_ONE_IN: u32 = 3;
const DRAWN: u64 = 4;
/// How many receipts of a tail are asked for, or µcr of it drawn, where few are.
const FEW: u64 = 1;

/// A challenge.
#[derive(Clone)]
pub(crate) struct Asked {
    token: TokenId,
    key: LaneKey,
    cause: Cause,
    brought: Brought,
    numbers: BTreeSet<u64>,
    shown: BTreeSet<u64>,
    /// Of a long tail: what of its total is asked for, and what was shown of that.
    amounts: BTreeSet<u64>,
    covered: BTreeSet<u64>,
    /// What of the lane's total is proven once all of it is shown.
    upto: Amount,
    slots: BTreeMap<u64, Slot>,
    posted_at: Timestamp,
    state: State,
}

impl Asked {
    /// What is drawn from a claim.
    fn of((token, key): (TokenId, LaneKey), brought: Brought, asked: OfTail, posted_at: Timestamp) -> Self {
        let OfTail { numbers, amounts } = asked;
        let (shown, covered, slots) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let (cause, state, upto) = (Cause::Sample, State::Open, brought.newest.total);
        Self { token, key, cause, brought, numbers, shown, amounts, covered, upto, slots, posted_at, state }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Sample,
    Holder,
    Tail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Answered,
    Missed,
}

#[derive(Clone)]
pub(crate) struct Dispute {
    token: TokenId,
    held: Amount,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Upheld,
    Reversed,
}

/// What claims brought, as far as a challenge needs it.
#[derive(Clone, Default)]
pub(crate) struct Evidence {
    newest: BTreeMap<(TokenId, LaneKey), Brought>,
    /// Claims that were not drawn from yet.
    waiting: Vec<ToDraw>,
}

/// A claim that can be drawn from: of each lane, from which receipt it goes on, and the newest.
#[derive(Clone)]
struct ToDraw {
    token: TokenId,
    lanes: BTreeMap<LaneKey, (u64, Brought)>,
}

/// A lane's newest receipt, and the right under which its requests were signed.
#[derive(Clone)]
struct Brought {
    newest: Newest,
    chain: Vec<u8>,
}

impl Books {
    /// Keeps what a claim brought that was taken.
    pub(crate) fn keep(&mut self, bytes: &[u8], claimed: &Claimed) {
        let signed = Signed::<Claim>::decode(bytes).expect("it was verified");
        let claim = signed.unverified();
        let chains: BTreeMap<Digest, &[u8]> = claim
            .chains
            .iter()
            .filter_map(|bytes| {
                let chain = verify_for_settlement(bytes, &Seen { now: START }, NODE).ok()?;
                Some((chain.leaf(), &bytes[..]))
            })
            .collect();
        let mut lanes = BTreeMap::new();
        for lane in &claim.lanes {
            let receipt = Signed::<Receipt>::decode(&lane.receipt).expect("it was verified");
            let (id, receipt) = (receipt.id(), receipt.unverified());
            let key = LaneKey { leaf: receipt.leaf, lane: receipt.lane };
            let newest = Newest { n: receipt.n, receipt: id, history: receipt.history, total: receipt.total };
            let brought = Brought { newest, chain: chains[&key.leaf].to_vec() };
            lanes.insert(key, (lane.settled_n.unwrap_or(0), brought.clone()));
            self.evidence.newest.insert((claimed.token.id, key), brought);
        }
        self.evidence.waiting.push(ToDraw { token: claimed.token.id, lanes });
    }

    /// What the books have of each token, for the three-way match.
    pub(crate) fn booked(&self) -> BTreeMap<TokenId, Booked> {
        let of = |(id, escrow): (&TokenId, &Escrow)| {
            let stopped = |lane: &Lane| match lane.stopped {
                Some(at) if at <= lane.total => lane.total.saturating_sub(at.max(lane.paid)),
                _ => Amount::ZERO,
            };
            let sum =
                |of: &dyn Fn(&Lane) -> Amount| escrow.lanes.values().map(of).fold(Amount::ZERO, Amount::saturating_add);
            let reversed = self.reversed(*id);
            let booked = Booked {
                lanes: escrow.lanes.len() as u64,
                charges: escrow.lanes.values().map(|lane| lane.n).sum(),
                receipted: sum(&|lane| lane.total),
                settled: escrow.paid.saturating_sub(reversed).saturating_sub(self.credited(*id)),
                reversed,
                credited: self.credited(*id),
                clamped: escrow.clamped,
                late: escrow.late,
                stopped: sum(&stopped),
                waiting: Amount::ZERO,
                disputed: escrow.is_disputed,
                open: escrow.phase != Phase::Closed,
            };
            (*id, booked)
        };
        self.escrows.iter().map(of).collect()
    }

    /// Says anew whether anything is paid under a token.
    fn freeze(&mut self, token: TokenId) {
        let is_disputed = self.is_disputed(token);
        self.escrows.get_mut(&token).expect("it is in the books").is_disputed = is_disputed;
    }

    /// A member says that a lane's tail is not owed, or it has stood its time.
    fn challenge(&mut self, cause: Cause, (token, key): (TokenId, LaneKey), seed: Digest, now: Timestamp) -> bool {
        let Some(brought) = self.evidence.newest.get(&(token, key)).cloned() else { return false };
        let Some(escrow) = self.escrows.get(&token) else { return false };
        let Some(lane) = escrow.lanes.get(&key).filter(|lane| lane.receipt == brought.newest.receipt) else {
            return false;
        };
        let (done, limit) = lane.to_prove(escrow.window);
        let what: &[u8] = if cause == Cause::Tail { b"tail" } else { b"holder" };
        let (n, number, most) = (lane.n.to_be_bytes(), key.lane.to_be_bytes(), limit.ucr().to_be_bytes());
        let id = Digest::of_parts(&[what, &token.0, key.leaf.as_bytes(), &n, &number, &most]);
        if limit <= done || lane.stopped.is_some() || self.asked.contains_key(&id) {
            return false;
        }
        let span = (lane.acknowledged_n.min(lane.n - 1), lane.n);
        // Now and then few are asked for, so that they are drawn by what they charge although no tail here is long.
        let most = if seed.0[0].is_multiple_of(2) { FEW } else { ASKED_MAX as u64 };
        let asked = draw::tail(&seed, span, (done, limit), most);
        let upto = if asked.amounts.is_empty() { lane.total } else { limit };
        self.asked.insert(id, Asked { cause, upto, ..Asked::of((token, key), brought, asked, now) });
        true
    }

    /// Opens a dispute: what the owner was paid under the token, and has not been paid out, is set aside.
    fn dispute(&mut self, token: TokenId, evidence: Digest, now: Timestamp) -> bool {
        let id = Digest::of_parts(&[b"dispute", &token.0, evidence.as_bytes()]);
        if self.is_disputed(token) || self.disputes.contains_key(&id) || !self.escrows.contains_key(&token) {
            return false;
        }
        let reversed = self.reversed(token);
        let paid = self.escrows[&token].paid;
        let gone = reversed.saturating_add(self.credited(token));
        let held = paid.saturating_sub(gone).min(self.available(payable()));
        if !held.is_zero() {
            let _ = self.ledger.open(&[hold(token)], now);
            let posted = self.post(TransferKind::Dispute, payable(), hold(token), held, id.as_bytes(), now);
            assert!(posted, "what an owner has can be set aside");
        }
        self.disputes.insert(id, Dispute { token, held, outcome: None });
        self.freeze(token);
        true
    }

    /// Whether one is open.
    pub(crate) fn is_disputed(&self, token: TokenId) -> bool {
        self.disputes.values().any(|dispute| dispute.token == token && dispute.outcome.is_none())
    }

    /// What an open one has set aside.
    fn set_aside(&self, token: TokenId) -> Amount {
        let open = self.disputes.values().find(|dispute| dispute.token == token && dispute.outcome.is_none());
        open.map_or(Amount::ZERO, |dispute| dispute.held)
    }

    /// What of a token's earnings is the owner's now, paid out or not.
    pub(crate) fn net(&self, token: TokenId) -> Amount {
        let gone = self.reversed(token).saturating_add(self.set_aside(token)).saturating_add(self.credited(token));
        self.escrows[&token].paid.saturating_sub(gone)
    }

    /// Whether a challenge about it is open, or nobody has drawn from a claim of it.
    pub(crate) fn is_asked(&self, token: TokenId) -> bool {
        self.asked.values().any(|asked| asked.token == token && asked.state == State::Open)
            || self.evidence.waiting.iter().any(|claim| claim.token == token)
    }

    pub(crate) fn reversed(&self, token: TokenId) -> Amount {
        let of = self.disputes.values().filter(|one| one.token == token && one.outcome == Some(Outcome::Reversed));
        of.fold(Amount::ZERO, |sum, one| sum.saturating_add(one.held))
    }

    /// Ends a dispute's hold on credits.
    fn release(&mut self, id: Digest, outcome: Outcome, now: Timestamp) -> bool {
        let Dispute { token, held, .. } = self.disputes[&id];
        self.disputes.get_mut(&id).expect("it is there").outcome = Some(outcome);
        self.freeze(token);
        let (kind, id) = (TransferKind::DisputeEnd, id.as_bytes());
        match (held.is_zero(), outcome) {
            (true, _) => true,
            (false, Outcome::Upheld) => self.post(kind, hold(token), payable(), held, id, now),
            (false, Outcome::Reversed) => match self.go_home(kind, hold(token), (token, held), id, now) {
                Some(left) if left.is_zero() => true,
                Some(left) => self.post(kind, hold(token), suspense(), left, id, now),
                None => false,
            },
        }
    }
}

impl House {
    pub(crate) fn challenge(&mut self, token: TokenId, leaf: Digest, lane: u16, around: &mut Around<'_>) -> Checked {
        let (key, seed) = (LaneKey { leaf, lane }, Digest::of(&around.chance.bytes()));
        self.transact(around, |books, around| {
            if books.challenge(Cause::Holder, (token, key), seed, around.now) {
                around.truth.meet("a holder challenges");
                around.net.note(|| format!("house asks for lane {lane} of {leaf}"));
            }
            Ok(Ok(()))
        })
        .map(drop)
    }

    /// Asks the node for tails of a token that have stood their time and that nobody asks about.
    pub(crate) fn tails_ask(&mut self, token: TokenId, around: &mut Around<'_>) -> Checked {
        let due = self.books.escrows[&token].to_show(around.now, &self.books.calendar);
        let is_asked = |key: &LaneKey| {
            let open = |asked: &Asked| asked.state == State::Open && asked.cause != Cause::Sample;
            self.books.asked.values().any(|asked| open(asked) && (asked.token, asked.key) == (token, *key))
        };
        let due: Vec<LaneKey> = due.into_iter().filter(|key| !is_asked(key)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let seed = Digest::of(&around.chance.bytes());
        self.transact(around, |books, around| {
            for key in due {
                if books.challenge(Cause::Tail, (token, key), seed, around.now) {
                    around.truth.meet("a tail that has to be shown");
                }
            }
            Ok(Ok(()))
        })
        .map(drop)
    }

    /// Tells the node what it is asked for.
    pub(crate) fn ask(&self, around: &mut Around<'_>) {
        for (id, asked) in self.books.asked.iter().filter(|(_, asked)| asked.state == State::Open) {
            let left = asked.numbers.difference(&asked.shown).copied().collect();
            let left_at = asked.amounts.difference(&asked.covered).copied().collect();
            let Asked { token, key: LaneKey { leaf, lane }, .. } = *asked;
            let newest = asked.brought.newest.n;
            around.send(Message::Asked { id: *id, token, leaf, lane, newest, left, left_at });
        }
    }

    /// Takes what a node shows: all of an answer, or nothing of it.
    pub(crate) fn shown(&mut self, id: Digest, items: &[Shown], around: &mut Around<'_>) -> Checked {
        let Some(asked) = self.books.asked.get(&id).filter(|asked| asked.state == State::Open).cloned() else {
            return Ok(());
        };
        let directory = Seen { now: around.now };
        let chain = verify_for_settlement(&asked.brought.chain, &directory, NODE).expect("it was verified");
        let acknowledged = Acknowledged::of(self.books.escrows[&asked.token].lanes.get(&asked.key));
        let (mut numbers, mut charges, mut slots) = (BTreeSet::new(), Vec::new(), asked.slots.clone());
        for item in items {
            let proved = shown(item, asked.key, &asked.brought.newest, acknowledged, &chain, &*RECEIPT_KEYS);
            match proved.and_then(|proved| distinct(&mut slots, &proved.slots).map(|()| (proved.n, proved.charges))) {
                Ok((n, charge)) => {
                    self.is_signed_for(item, around)?;
                    numbers.insert(n);
                    charges.push(charge);
                }
                Err(misfit) if around.bugs.house_believes(&misfit) => {
                    self.is_signed_for(item, around)?;
                    let receipt = Signed::<Receipt>::decode(&item.receipt).expect("a receipt");
                    let receipt = receipt.unverified();
                    numbers.insert(receipt.n);
                    charges.push((receipt.total.saturating_sub(receipt.charge), receipt.total));
                }
                Err(misfit) => {
                    around.truth.meet("something is shown that proves nothing");
                    around.net.note(|| format!("house takes nothing of what was shown: {misfit}"));
                    return Ok(());
                }
            }
        }
        let done = self.transact(around, |books, around| {
            let row = books.asked.get_mut(&id).expect("it was there");
            row.shown.extend(numbers.intersection(&row.numbers));
            for (above, upto) in charges.iter().filter(|(above, upto)| above < upto) {
                let upto = upto.ucr().unsigned_abs();
                row.covered.extend(row.amounts.range(above.ucr().unsigned_abs() + 1..=upto));
            }
            row.slots = slots;
            if row.shown != row.numbers || row.covered != row.amounts {
                return Ok(Ok(()));
            }
            row.state = State::Answered;
            around.truth.meet("a challenge that is answered");
            if asked.cause == Cause::Sample {
                return Ok(Ok(()));
            }
            let row_is_whole = asked.amounts.is_empty();
            let upto = asked.upto;
            // Where more than 64 are open, those that are asked for stand for the others.
            around.truth.proven(asked.token, (asked.key.leaf, asked.key.lane), upto.ucr(), row_is_whole)?;
            if !row_is_whole {
                around.truth.meet("a tail that is shown by what it charges");
            }
            Self::step(books, asked.token, &Input::Proven { lane: asked.key, upto, evidence: id }, around)
        });
        done.map(drop)
    }

    /// What the house takes for shown, an honest holder has signed for.
    fn is_signed_for(&self, item: &Shown, around: &mut Around<'_>) -> Checked {
        let receipt = Signed::<Receipt>::decode(&item.receipt).expect("it was verified");
        let receipt = receipt.unverified();
        let lane = (receipt.leaf, receipt.lane);
        if around.truth.leaves.get(&receipt.leaf).is_some_and(|leaf| leaf.honest) {
            let signed = around.truth.signed.get(&lane).and_then(|seqs| seqs.get(&receipt.seq)).copied().unwrap_or(-1);
            let what = || format!("n {} of lane {lane:?}", receipt.n);
            around.truth.bound("what is shown was signed for", receipt.charge.ucr(), signed, what)?;
        }
        Ok(())
    }

    /// What time does to challenges, and what the log's next checkpoint draws.
    pub(crate) fn challenges_turn(&mut self, around: &mut Around<'_>) -> Checked {
        let now = around.now;
        let books = &self.books;
        let due =
            |asked: &Asked| asked.state == State::Open && books.calendar.open_s(asked.posted_at, now) >= CHALLENGE_S;
        let missed: Vec<Digest> = books.asked.iter().filter(|(_, asked)| due(asked)).map(|(id, _)| *id).collect();
        for id in missed {
            self.miss(id, around)?;
        }
        let waiting = std::mem::take(&mut self.books.evidence.waiting);
        for ToDraw { token, lanes } in waiting {
            let seed = draw::seed(&Digest::of(&around.chance.bytes()), &Digest::of(&token.0));
            if !draw::is_drawn(&seed, DRAWN_ONE_IN) {
                continue;
            }
            let spans = lanes.iter().map(|(key, (settled, brought))| (*key, (*settled, brought.newest.n))).collect();
            for (key, numbers) in draw::receipts(&seed, &spans, DRAWN) {
                let id = Digest::of_parts(&[b"sample", seed.as_bytes(), key.leaf.as_bytes(), &key.lane.to_be_bytes()]);
                let drawn = OfTail { numbers, amounts: BTreeSet::new() };
                let asked = Asked::of((token, key), lanes[&key].1.clone(), drawn, now);
                self.books.asked.insert(id, asked);
                around.truth.meet("a claim that is drawn from");
            }
        }
        Ok(())
    }

    fn miss(&mut self, id: Digest, around: &mut Around<'_>) -> Checked {
        let asked = self.books.asked[&id].clone();
        let excused = !around.truth.node_honest || around.truth.node_set_back;
        let what = || format!("challenge {id} of {}", asked.token);
        around.truth.holds("an honest node shows what it is asked for", excused, what)?;
        around.truth.meet("a challenge that is missed");
        let done = self.transact(around, |books, around| {
            books.asked.get_mut(&id).expect("it is there").state = State::Missed;
            match asked.cause {
                Cause::Holder | Cause::Tail => {
                    let lane = &books.escrows[&asked.token].lanes[&asked.key];
                    let stopped = lane.acknowledged.max(lane.paid).ucr();
                    around.truth.stopped.insert((asked.token, (asked.key.leaf, asked.key.lane)), stopped);
                    Self::step(books, asked.token, &Input::Stop { lane: Some(asked.key), evidence: id }, around)
                }
                Cause::Sample => {
                    books.dispute(asked.token, id, around.now);
                    Ok(Ok(()))
                }
            }
        });
        done.map(drop)
    }

    /// The node contradicted itself: a dispute opens by itself.
    pub(crate) fn contradicted(&mut self, token: TokenId, evidence: Digest, around: &mut Around<'_>) -> Checked {
        let excused = !around.truth.node_honest || around.truth.node_set_back;
        around.truth.holds("an honest node never contradicts itself", excused, || format!("token {token}"))?;
        let done = self.transact(around, |books, around| {
            if books.dispute(token, evidence, around.now) {
                around.truth.meet("a dispute");
            }
            Ok(Ok(()))
        });
        done.map(drop)
    }

    /// Two persons decide one dispute that is open.
    pub(crate) fn decide(&mut self, around: &mut Around<'_>) -> Checked<bool> {
        let open = self.books.disputes.iter().find(|(_, dispute)| dispute.outcome.is_none());
        let Some((id, token)) = open.map(|(id, dispute)| (*id, dispute.token)) else { return Ok(false) };
        let outcome = if around.chance.one_in(2) { Outcome::Upheld } else { Outcome::Reversed };
        self.transact(around, |books, around| {
            let posted = books.release(id, outcome, around.now);
            around.truth.holds("the books take how a dispute ends", posted, || format!("dispute {id}"))?;
            let (input, met) = match outcome {
                Outcome::Upheld => (Input::Sweep, "a dispute that is upheld"),
                Outcome::Reversed => (Input::Stop { lane: None, evidence: id }, "a dispute that is reversed"),
            };
            around.truth.meet(met);
            Self::step(books, token, &input, around)
        })?;
        Ok(true)
    }

    /// Bounds of disputes and lots, after each transaction.
    pub(crate) fn check_disputes(&self, around: &mut Around<'_>) -> Checked {
        let books = &self.books;
        for (lot, given) in books.given() {
            let drawn = books.draws.values().flatten().filter(|draw| draw.lot == lot);
            let out: i64 = drawn.map(|draw| draw.amount.ucr() - draw.returned.ucr()).sum();
            let left = books.available(allocation(lot)).ucr();
            let what = || format!("{lot}: {left} left and {out} out of {given}");
            around.truth.holds("a lot holds what was not drawn or came home", left + out == given.ucr(), what)?;
        }
        for (id, escrow) in &books.escrows {
            let held: i64 = books
                .disputes
                .values()
                .filter(|dispute| dispute.token == *id && dispute.outcome.is_none())
                .map(|dispute| dispute.held.ucr())
                .sum();
            let holds = books.available(hold(*id)).ucr();
            around.truth.holds("a dispute holds what it set aside", held == holds, || format!("token {id}"))?;
            around.truth.bound(
                "set aside, taken and given back within what was paid",
                held + books.reversed(*id).ucr() + books.credited(*id).ucr(),
                escrow.paid.ucr(),
                || format!("token {id}"),
            )?;
            for (key, lane) in &escrow.lanes {
                let at = (*id, (key.leaf, key.lane));
                if let Some(stopped) = around.truth.stopped.get(&at).copied() {
                    let most = stopped.max(lane.acknowledged.ucr());
                    around.truth.bound("what was stopped is not paid", lane.paid.ucr(), most, || format!("{at:?}"))?;
                }
            }
        }
        Ok(())
    }
}

/// What may not move while a dispute is open.
pub(crate) fn kept_from_moving(before: &Escrow, after: &Escrow, around: &mut Around<'_>) -> Checked {
    if !before.is_disputed {
        return Ok(());
    }
    for (key, lane) in &after.lanes {
        let was = before.lanes.get(key).map_or(Amount::ZERO, |lane| lane.paid);
        let what = || format!("lane {} of {}", key.lane, after.token);
        around.truth.bound("nothing disputed is paid", lane.paid.ucr(), was.ucr(), what)?;
    }
    Ok(())
}
