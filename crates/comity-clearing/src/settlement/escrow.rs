//! One token's escrow and what changes it: the whole rule of who is paid what, when.

use std::collections::BTreeMap;

use comity_wire::api::clearing::{SettledLane, lane_continues};
use comity_wire::{Amount, Code, Digest, NodeId, OrgId, Timestamp, TokenId};

use super::{CHALLENGE_S, Calendar, Claimed, Exception, Finalled, Input, LaneClaim, Movement, MovementKind, Refused};

/// What the house knows of one token's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escrow {
    pub token: TokenId,
    /// Content id of the token.
    pub content: Digest,
    pub node: NodeId,
    /// Who is paid.
    pub owner: OrgId,
    pub budget: Amount,
    pub window: Amount,
    pub lanes_max: u16,
    pub issued_at: Timestamp,
    pub settle_by: Timestamp,
    pub phase: Phase,
    /// While a dispute is open nothing is paid, whatever time it is: it stays in escrow.
    pub is_disputed: bool,
    /// What lies in the escrow account.
    pub held: Amount,
    pub paid: Amount,
    pub refunded: Amount,
    /// How much was claimed above what could be paid, as recorded so far.
    pub clamped: Amount,
    /// How much was claimed after the close, as recorded so far.
    pub late: Amount,
    /// The serial of the newest movement.
    pub movements: u64,
    pub lanes: BTreeMap<LaneKey, Lane>,
    /// What the final says; empty before.
    pub heads: BTreeMap<LaneKey, Head>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// The node has signed this final: claims still come, up to its heads.
    Final(Digest),
    /// Nothing comes in any more; what could be challenged at the close may still go out.
    Closed,
}

/// A lane: (token, leaf block, number), rule 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    pub leaf: Digest,
    pub lane: u16,
}

/// A cap on the path to a leaf: a block's content id, and how much may be charged under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PathCap {
    pub id: Digest,
    pub cap: Amount,
}

/// A lane as far as it was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub path: Vec<PathCap>,
    pub n: u64,
    pub total: Amount,
    pub receipt: Digest,
    /// Root over receipts 1…n−1.
    pub history: Digest,
    /// Content id of the claim that brought them; zero where books of before did not keep it.
    pub claim: Digest,
    pub acknowledged: Amount,
    /// Up to which receipt.
    pub acknowledged_n: u64,
    /// The total up to which the node has shown, in a challenge, what was signed for.
    pub proven: Amount,
    /// Above this a dispute has ended that nothing is paid.
    pub stopped: Option<Amount>,
    pub paid: Amount,
    /// What was claimed without an acknowledgement, ascending; at most [`Lane::TAILS_MAX`].
    pub tails: Vec<Tail>,
}

/// A part of a lane's total that can still be challenged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tail {
    /// The lane's total at this posting.
    pub upto: Amount,
    pub posted_at: Timestamp,
}

/// Where a lane ended, by the node's final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub n: u64,
    pub total: Amount,
    pub receipt: Digest,
}

/// What an input did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub after: Escrow,
    pub movements: Vec<Movement>,
    pub exceptions: Vec<Exception>,
    /// Receipted, not acknowledged, and within every cap: waits to be shown.
    pub unacknowledged: Amount,
}

/// Applies `input` to `escrow`.
///
/// # Errors
/// [`Refused`]; then nothing changes.
pub fn handle(now: Timestamp, calendar: &Calendar, escrow: &Escrow, input: Input<'_>) -> Result<Output, Refused> {
    let mut step = Step { now, calendar, after: escrow.clone(), movements: Vec::new(), exceptions: Vec::new() };
    let unacknowledged = match input {
        Input::Claim(claim) => step.claim(claim)?,
        Input::Final(final_) => step.final_(final_)?,
        Input::Refund => step.refund()?,
        Input::Sweep => step.sweep(),
        Input::Proven { lane, upto, evidence } => step.proven(lane, upto, evidence),
        Input::Stop { lane, evidence } => step.stop(lane, evidence),
    };
    let Step { after, movements, exceptions, .. } = step;
    after.assert_invariants();
    assert!(after.paid >= escrow.paid && after.refunded >= escrow.refunded, "what was paid or returned stays so");
    Ok(Output { after, movements, exceptions, unacknowledged })
}

struct Step<'a> {
    now: Timestamp,
    calendar: &'a Calendar,
    after: Escrow,
    movements: Vec<Movement>,
    exceptions: Vec<Exception>,
}

impl Step<'_> {
    fn claim(&mut self, claim: &Claimed) -> Result<Amount, Refused> {
        if claim.token.id() != self.after.content {
            return Err(Refused::TokenConflict { token: self.after.token });
        }
        if self.after.phase == Phase::Closed {
            self.late(claim);
            return Ok(self.pay(claim.id));
        }
        self.same_start(claim)?;
        for (key, lane) in &claim.lanes {
            self.lane(*key, lane, claim.id)?;
        }
        let (lanes, max) = (self.after.lanes.len(), self.after.lanes_max);
        if lanes > usize::from(max) {
            let lane = claim.lanes.keys().map(|key| key.lane).max().unwrap_or(0);
            return Err(Refused::LaneBeyondMax { lane, max });
        }
        let waiting = self.pay(claim.id);
        self.close_when_empty();
        Ok(waiting)
    }

    /// Node and house must speak of the same settled receipt. Where they do not, one of them was set back to a backup: no
    /// proof of anything, and the node can mend it, so it is told of every lane at once.
    fn same_start(&self, claim: &Claimed) -> Result<(), Refused> {
        let differs = |(key, lane): (&LaneKey, &LaneClaim)| {
            let settled = self.after.lanes.get(key).filter(|settled| lane.n > settled.n)?;
            (lane.settled_n != Some(settled.n)).then_some(SettledLane { leaf: key.leaf, lane: key.lane, n: settled.n })
        };
        let lanes: Vec<_> = claim.lanes.iter().filter_map(differs).collect();
        if lanes.is_empty() { Ok(()) } else { Err(Refused::SettledDiffers { lanes }) }
    }

    /// A claim after the close is kept for a dispute, not thrown away.
    fn late(&mut self, claim: &Claimed) {
        let known = |key| self.after.lanes.get(key).map_or(Amount::ZERO, |lane| lane.total);
        let above = claim.lanes.iter().map(|(key, lane)| lane.total.saturating_sub(known(key)));
        let late = above.fold(Amount::ZERO, Amount::saturating_add);
        let amount = late.saturating_sub(self.after.late);
        if !amount.is_zero() {
            self.after.late = late;
            let message =
                format!("{amount} claimed after the escrow of {} was closed: kept for a dispute", self.after.token);
            self.exceptions.push(Exception { code: Code::Closed, amount, message });
        }
    }

    fn lane(&mut self, key: LaneKey, claim: &LaneClaim, id: Digest) -> Result<(), Refused> {
        let broken = |what: String| Err(Refused::BrokenHistory { what });
        let lane = self.after.lanes.entry(key).or_insert_with(|| Lane::unclaimed(claim.path.clone()));
        if claim.n < lane.n {
            return Err(Refused::Older { n: claim.n, settled: lane.n });
        }
        if claim.total < lane.total {
            return Err(Refused::Lower { n: claim.n, total: claim.total, settled: lane.total });
        }
        if claim.n == lane.n && claim.receipt != lane.receipt {
            return broken(format!("two receipts have n {}", claim.n));
        }
        if self.after.heads.get(&key).is_some_and(|head| head.n == claim.n && head.receipt != claim.receipt) {
            return broken(format!("the final names another receipt with n {}", claim.n));
        }
        // A lane's first claim here needs no proof, and one that it brings is not looked at: a house that was set back to
        // an older backup has nothing to compare with, and is bound all the same (rule 9). The node could leave it out.
        if lane.n > 0 && claim.n > lane.n {
            let (settled, newest) = ((lane.n, &lane.receipt), (claim.n, &claim.history));
            if !lane_continues(settled, &lane.history, newest, &claim.inclusion) {
                return broken(format!("receipt n {} does not continue n {}", claim.n, lane.n));
            }
        }
        lane.advance(claim, id, self.now);
        Ok(())
    }

    fn final_(&mut self, final_: &Finalled) -> Result<Amount, Refused> {
        if final_.token != self.after.token {
            return Err(Refused::WrongToken { what: "the final", token: self.after.token });
        }
        match self.after.phase {
            Phase::Open => {}
            // Said again, perhaps signed again at another hour: the same heads are the same word.
            Phase::Final(_) | Phase::Closed if self.repeats(final_) => return Ok(self.pay(final_.id)),
            Phase::Closed if self.after.heads.is_empty() => return Ok(self.pay(final_.id)),
            Phase::Final(_) | Phase::Closed => return Err(Refused::FinalConflict),
        }
        for (key, lane) in &self.after.lanes {
            if let Some(head) = final_.heads.get(key) {
                lane.ends_at(head)?;
            }
        }
        self.after.heads.clone_from(&final_.heads);
        for (key, lane) in &self.after.lanes {
            // A settled lane that the final leaves out has ended where it was settled.
            let settled = Head { n: lane.n, total: lane.total, receipt: lane.receipt };
            self.after.heads.entry(*key).or_insert(settled);
        }
        self.after.phase = Phase::Final(final_.id);
        let waiting = self.pay(final_.id);
        let to_pay = self.after.spent().saturating_sub(self.after.paid);
        self.send_home(self.after.held.saturating_sub(to_pay), final_.id);
        self.close_when_empty();
        Ok(waiting)
    }

    fn repeats(&self, final_: &Finalled) -> bool {
        let same = |(key, head): (&LaneKey, &Head)| self.after.heads.get(key) == Some(head);
        self.after.phase == Phase::Final(final_.id) || (!final_.heads.is_empty() && final_.heads.iter().all(same))
    }

    fn refund(&mut self) -> Result<Amount, Refused> {
        let due = self.deadline_passed();
        // spec S-7: after the final it is never too early; a tail still in its window just stays.
        if self.after.phase == Phase::Open && !due && !self.after.held.is_zero() {
            let Escrow { issued_at, settle_by, .. } = self.after;
            return Err(Refused::TooEarly { at: self.calendar.moved(issued_at, settle_by, self.now) });
        }
        Ok(self.sweep())
    }

    fn sweep(&mut self) -> Amount {
        let waiting = self.pay(Digest::ZERO);
        if self.after.phase != Phase::Closed && self.deadline_passed() {
            // What can still be shown stays, so that time cannot take it from its owner.
            self.send_home(self.after.held.saturating_sub(waiting), Digest::ZERO);
            self.after.phase = Phase::Closed;
        }
        self.close_when_empty();
        waiting
    }

    fn proven(&mut self, key: LaneKey, upto: Amount, evidence: Digest) -> Amount {
        if let Some(lane) = self.after.lanes.get_mut(&key) {
            lane.proven = lane.proven.max(upto.min(lane.total));
        }
        let waiting = self.pay(evidence);
        self.close_when_empty();
        waiting
    }

    /// Of one lane: its tail is not paid. Of all: nothing more is paid at all, and what is left goes home.
    fn stop(&mut self, key: Option<LaneKey>, evidence: Digest) -> Amount {
        for (at, lane) in &mut self.after.lanes {
            if key.is_none_or(|key| key == *at) {
                let upto = if key.is_some() { lane.acknowledged.max(lane.paid) } else { lane.paid };
                lane.stopped = Some(lane.stopped.map_or(upto, |stopped| stopped.min(upto).max(lane.paid)));
            }
        }
        if key.is_none() {
            self.after.phase = Phase::Closed;
        }
        let waiting = self.pay(evidence);
        let stays = match self.after.phase {
            Phase::Open => self.after.held,
            Phase::Final(_) => self.after.spent().saturating_sub(self.after.paid),
            Phase::Closed => waiting,
        };
        self.send_home(self.after.held.saturating_sub(stays), evidence);
        self.close_when_empty();
        waiting
    }

    fn deadline_passed(&self) -> bool {
        self.calendar.has_passed(self.after.issued_at, self.after.settle_by, self.now)
    }

    /// Pays what is acknowledged or was shown, each lane in key order, within budget and caps.
    /// Gives back what is claimed within them and not yet payable.
    fn pay(&mut self, evidence: Digest) -> Amount {
        let escrow = &self.after;
        let mut room = Room::of(escrow);
        let payable = |(key, lane): (&LaneKey, &Lane)| {
            let upto = if escrow.is_disputed { Amount::ZERO } else { lane.payable(escrow.window) };
            (*key, upto.min(escrow.ceiling(key)).saturating_sub(lane.paid))
        };
        let mut lines: Vec<_> = escrow.lanes.iter().map(payable).collect();
        for (key, amount) in &mut lines {
            *amount = room.take(&escrow.lanes[key].path, *amount);
        }
        let granted: BTreeMap<_, _> = lines.iter().copied().collect();
        let (mut waiting, mut above) = (Amount::ZERO, Amount::ZERO);
        for (key, lane) in &escrow.lanes {
            let done = lane.paid.saturating_add(granted[key]);
            let limit = lane.limit(escrow.window).min(escrow.ceiling(key)).max(done);
            let rest = room.take(&lane.path, limit.saturating_sub(done));
            waiting = waiting.saturating_add(rest);
            // What a dispute has stopped is on record with the dispute.
            let claimed = lane.total.min(escrow.stopped(key));
            above = above.saturating_add(claimed.saturating_sub(done.saturating_add(rest)));
        }
        lines.retain(|(_, amount)| !amount.is_zero());
        self.record_clamped(above);
        self.pay_lines(lines, evidence);
        waiting
    }

    fn pay_lines(&mut self, lines: Vec<(LaneKey, Amount)>, evidence: Digest) {
        let (mut from_escrow, mut from_suspense) = (Vec::new(), Vec::new());
        let mut held = self.after.held;
        for (key, amount) in lines {
            let lane = self.after.lanes.get_mut(&key).expect("a line is of a lane of this escrow");
            lane.paid = lane.paid.checked_add(amount).expect("paid stays within the budget");
            self.after.paid = self.after.paid.checked_add(amount).expect("paid stays within the budget");
            let covered = amount.min(held);
            held = held.saturating_sub(covered);
            from_escrow.push((key, covered));
            from_suspense.push((key, amount.saturating_sub(covered)));
        }
        self.after.held = held;
        self.move_credits(MovementKind::Settle, from_escrow, evidence);
        self.move_credits(MovementKind::Suspense, from_suspense, evidence);
    }

    fn move_credits(&mut self, kind: MovementKind, mut lines: Vec<(LaneKey, Amount)>, evidence: Digest) {
        lines.retain(|(_, amount)| !amount.is_zero());
        let amount = Amount::sum(lines.iter().map(|line| line.1)).expect("paid stays within the budget");
        if !amount.is_zero() {
            self.after.movements += 1;
            self.movements.push(Movement { serial: self.after.movements, kind, amount, lines, evidence });
        }
    }

    fn send_home(&mut self, amount: Amount, evidence: Digest) {
        if amount.is_zero() {
            return;
        }
        self.after.held = self.after.held.checked_sub(amount).expect("no more goes home than is held");
        self.after.refunded = self.after.refunded.checked_add(amount).expect("refunds stay within the budget");
        self.after.movements += 1;
        let (serial, kind) = (self.after.movements, MovementKind::Refund);
        self.movements.push(Movement { serial, kind, amount, lines: Vec::new(), evidence });
    }

    fn record_clamped(&mut self, above: Amount) {
        let amount = above.saturating_sub(self.after.clamped);
        if !amount.is_zero() {
            let message = format!("{amount} claimed above what token {} binds the clearing house to", self.after.token);
            self.exceptions.push(Exception { code: Code::ClaimClamped, amount, message });
            self.after.clamped = above;
        }
    }

    /// After the final, an escrow with nothing in it has nothing to wait for.
    fn close_when_empty(&mut self) {
        let settled = self.after.paid >= self.after.spent() && self.after.held.is_zero();
        if matches!(self.after.phase, Phase::Final(_)) && settled {
            self.after.phase = Phase::Closed;
        }
    }
}

/// What may still be paid under the token and under each block.
struct Room {
    token: Amount,
    blocks: BTreeMap<Digest, Amount>,
}

impl Room {
    fn of(escrow: &Escrow) -> Self {
        let mut blocks: BTreeMap<Digest, Amount> = BTreeMap::new();
        for lane in escrow.lanes.values() {
            for cap in &lane.path {
                let room = blocks.entry(cap.id).or_insert(cap.cap);
                *room = room.checked_sub(lane.paid).expect("paid under a block stays within its cap");
            }
        }
        Self { token: escrow.budget.checked_sub(escrow.paid).expect("paid stays within the budget"), blocks }
    }

    /// As much of `asked` as fits everywhere on the path.
    fn take(&mut self, path: &[PathCap], asked: Amount) -> Amount {
        let fits = path.iter().map(|cap| self.blocks[&cap.id]).fold(self.token, Amount::min).min(asked);
        self.token = self.token.saturating_sub(fits);
        for cap in path {
            let room = self.blocks.get_mut(&cap.id).expect("every block on a path has its room");
            *room = room.saturating_sub(fits);
        }
        fits
    }
}

impl Escrow {
    /// The most of a lane, by the node's final and by disputes that have ended.
    fn ceiling(&self, key: &LaneKey) -> Amount {
        match (self.heads.get(key), self.phase) {
            (Some(head), _) => head.total,
            (None, Phase::Final(_)) => Amount::ZERO,
            (None, _) if !self.heads.is_empty() => Amount::ZERO,
            (None, _) => Amount::MAX,
        }
        .min(self.stopped(key))
    }

    /// Where disputes have ended a lane. What a holder acknowledges later is owed all the same, while claims are taken.
    fn stopped(&self, key: &LaneKey) -> Amount {
        match self.lanes.get(key) {
            Some(Lane { stopped: Some(stopped), .. }) if self.phase == Phase::Closed => *stopped,
            Some(Lane { stopped: Some(stopped), acknowledged, .. }) => *stopped.max(acknowledged),
            _ => Amount::MAX,
        }
    }

    /// What the final says was charged, as far as the budget reaches.
    fn spent(&self) -> Amount {
        let heads = self.heads.iter().map(|(key, head)| head.total.min(self.ceiling(key)));
        heads.fold(Amount::ZERO, Amount::saturating_add).min(self.budget)
    }

    /// Lanes whose tail has stood [`CHALLENGE_S`] of open time: what of it would be paid, the node has to show (spec §7.3).
    pub fn to_show(&self, now: Timestamp, calendar: &Calendar) -> Vec<LaneKey> {
        let stood = |tail: &Tail| calendar.open_s(tail.posted_at, now) >= CHALLENGE_S;
        let is_due = |(key, lane): &(&LaneKey, &Lane)| {
            let done = lane.acknowledged.max(lane.proven).max(lane.paid);
            let most = lane.limit(self.window).min(self.ceiling(key));
            lane.tails.iter().any(|tail| tail.upto.min(most) > done && stood(tail))
        };
        if self.is_disputed {
            return Vec::new();
        }
        self.lanes.iter().filter(is_due).map(|(key, _)| *key).collect()
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(self.paid <= self.budget, "paid {} above the budget {} of {}", self.paid, self.budget, self.token);
        let lanes = Amount::sum(self.lanes.values().map(|lane| lane.paid));
        assert_eq!(lanes, Some(self.paid), "the lanes of {} add up to what was paid", self.token);
        for lane in self.lanes.values() {
            assert!(lane.paid <= lane.total, "a lane of {} was paid above its total", self.token);
        }
        drop(Room::of(self));
    }
}

impl Lane {
    /// What of the lane's total has still to be shown: above the first, up to the second. Nothing where they are one.
    pub fn to_prove(&self, window: Amount) -> (Amount, Amount) {
        let done = self.acknowledged.max(self.proven).max(self.paid);
        (done, self.total.min(self.acknowledged.saturating_add(window)).max(done))
    }

    /// Bound of `tails`; further postings join the newest, which only makes them wait longer.
    pub const TAILS_MAX: usize = 16;

    fn unclaimed(path: Vec<PathCap>) -> Self {
        let zero = Amount::ZERO;
        let (receipt, history) = (Digest::ZERO, comity_wire::merkle::empty_root());
        Self {
            path,
            n: 0,
            total: zero,
            receipt,
            history,
            claim: Digest::ZERO,
            acknowledged: zero,
            acknowledged_n: 0,
            proven: zero,
            stopped: None,
            paid: zero,
            tails: Vec::new(),
        }
    }

    fn advance(&mut self, claim: &LaneClaim, id: Digest, now: Timestamp) {
        if claim.total > self.total {
            let tail = Tail { upto: claim.total, posted_at: now };
            if self.tails.len() == Self::TAILS_MAX {
                self.tails.pop();
            }
            self.tails.push(tail);
        }
        if claim.receipt != self.receipt {
            self.claim = id;
        }
        (self.n, self.total, self.receipt, self.history) = (claim.n, claim.total, claim.receipt, claim.history);
        self.acknowledged = self.acknowledged.max(claim.acknowledged);
        self.acknowledged_n = self.acknowledged_n.max(claim.acknowledged_n);
        self.tails.retain(|tail| tail.upto > self.acknowledged);
    }

    /// Acknowledged, or shown; of what was shown, no more than `window` above what was acknowledged (rule 6).
    fn payable(&self, window: Amount) -> Amount {
        self.acknowledged.max(self.proven.min(self.limit(window)))
    }

    /// The most that this lane may ever be paid with the acknowledgements it has.
    fn limit(&self, window: Amount) -> Amount {
        self.total.min(self.acknowledged.saturating_add(window))
    }

    fn ends_at(&self, head: &Head) -> Result<(), Refused> {
        if head.n < self.n {
            return Err(Refused::Older { n: head.n, settled: self.n });
        }
        if head.total < self.total {
            return Err(Refused::Lower { n: head.n, total: head.total, settled: self.total });
        }
        if head.n == self.n && head.receipt != self.receipt {
            return Err(Refused::BrokenHistory { what: format!("two receipts have n {}", head.n) });
        }
        Ok(())
    }
}
