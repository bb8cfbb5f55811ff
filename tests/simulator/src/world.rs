//! One schedule: who is honest, what the adversary does, and that everybody comes right in the end.

use comity_clearing::settlement::Phase;
use comity_clearing::settlement::matching::{Booked, matched};
use comity_token::{Narrow, delegate};
use comity_wire::api::challenge::{ASKED_MAX, SHOWN_MAX};
use comity_wire::api::count::{Break, BreakKind};
use comity_wire::object::Chain;
use comity_wire::{Amount, Signed, Timestamp};

use crate::around::{Around, Chance};
use crate::books::awarded;
use crate::bugs::Bugs;
use crate::federation::{DAY_S, HOUR_S, KEYS, START};
use crate::holder::Holder;
use crate::house::House;
use crate::lies::Lies;
use crate::net::{Message, Net, To};
use crate::node::Node;
use crate::truth::{Checked, Leaf, Truth, Violation};

/// Holders: the PI, a student who works under blocks of the PI's tokens, and somebody else of the project.
const PI: usize = 0;
const STUDENT: usize = 1;
const OTHER: usize = 2;

pub(crate) struct World<'b> {
    chance: Chance,
    now: Timestamp,
    /// Seconds that each clock is ahead: holders, node, house.
    skews: [i64; 5],
    holders: Vec<Holder>,
    node: Node,
    house: House,
    pub(crate) net: Net,
    pub(crate) truth: Truth,
    bugs: &'b dyn Bugs,
    calm: bool,
    /// Whether stores of node, house and holders may be set back in this schedule.
    sets_back: [bool; 3],
    pub(crate) step: u32,
}

/// One step in `of`, without asking chance: schedules that were known before stay much as they were.
fn step_is(step: u32, of: u32) -> bool {
    step.is_multiple_of(of)
}

const NODE_CLOCK: usize = 3;
const HOUSE_CLOCK: usize = 4;

/// What somebody who acts is handed; the world's other parts stay free.
macro_rules! around {
    ($world:ident, $clock:expr) => {
        Around {
            now: at($world.now, $world.skews[$clock]),
            chance: &mut $world.chance,
            net: &mut $world.net,
            truth: &mut $world.truth,
            bugs: $world.bugs,
            calm: $world.calm,
        }
    };
}

fn at(now: Timestamp, skew: i64) -> Timestamp {
    if skew < 0 { now.minus(skew.unsigned_abs()) } else { now.plus(skew.unsigned_abs()) }
}

impl<'b> World<'b> {
    pub(crate) fn new(seed: u64, bugs: &'b dyn Bugs, traced: bool) -> Self {
        let mut chance = Chance::seeded(seed);
        // Three in eight keep to the rules, and only the world is against them.
        let role = chance.below(8);
        let (node_lies, holders_lie) = (matches!(role, 4..=6), matches!(role, 3 | 5 | 6));
        let colludes = matches!(role, 5 | 6);
        // A third party: one of the project's holders breaks the rules, the others do not.
        let honest = [!holders_lie || role == 6, !holders_lie || role == 6, !holders_lie];
        let keys = &KEYS.holders;
        let holders = (0..3).map(|at| Holder::new(at, honest[at], keys[at].clone())).collect();
        let lies = node_lies.then(|| Lies::new(colludes, honest));
        let mut truth = Truth::default();
        (truth.awarded, truth.node_honest) = (awarded(), !node_lies);
        let sets_back = [chance.one_in(4), chance.one_in(3), chance.one_in(3)];
        Self {
            house: House::new(honest, START),
            node: Node::new(lies),
            chance,
            now: START,
            skews: [0; 5],
            holders,
            net: Net::new(traced),
            truth,
            bugs,
            calm: false,
            sets_back,
            step: 0,
        }
    }

    /// # Errors
    /// The first bound that does not hold.
    pub(crate) fn play(&mut self, steps: u32) -> Checked {
        self.house.beat(&mut around!(self, HOUSE_CLOCK));
        self.begin()?;
        for step in 0..steps {
            self.step = step;
            self.act()?;
            self.node.check(&mut around!(self, NODE_CLOCK))?;
        }
        self.step = steps;
        self.come_right()
    }

    /// Most schedules begin with a token in somebody's hands; how it gets there is played by the others.
    fn begin(&mut self) -> Checked {
        self.calm = true;
        if self.sets_back[1] && self.chance.one_in(2) {
            // A backup from before there was any token.
            self.house.back_up();
        }
        self.holders[PI].reserve(&mut around!(self, PI));
        if self.chance.one_in(2) {
            self.holders[OTHER].reserve(&mut around!(self, OTHER));
        }
        if !self.chance.one_in(8) {
            self.drain()?;
        }
        if self.chance.one_in(2) {
            self.delegate();
        }
        self.calm = false;
        Ok(())
    }

    fn act(&mut self) -> Checked {
        self.now = self.now.plus(self.chance.below(12));
        let who = self.chance.index(3);
        match self.chance.below(107) {
            0..=23 => self.holders[who].ask(&mut around!(self, who)),
            24..=38 => self.node.finish(&mut around!(self, NODE_CLOCK)),
            39..=66 => self.deliver(),
            67..=68 => {
                self.holders[who].resolve(&mut around!(self, who));
                Ok(())
            }
            69..=71 => {
                self.holders[who].acknowledge(&mut around!(self, who));
                Ok(())
            }
            72..=76 => self.node.claim(&mut around!(self, NODE_CLOCK)),
            77..=78 => {
                let who = if self.chance.one_in(3) { OTHER } else { PI };
                self.holders[who].reserve(&mut around!(self, who));
                Ok(())
            }
            79..=80 => {
                self.delegate();
                Ok(())
            }
            81 => {
                let who = if self.chance.one_in(3) { OTHER } else { PI };
                self.holders[who].end(&mut around!(self, who));
                Ok(())
            }
            82 => self.ask_refund(),
            83..=84 if self.house.up => self.sweep(),
            85..=86 => self.crash(who),
            87..=88 => self.set_back(who),
            89..=90 => self.pass(),
            91..=95 => {
                self.lie();
                Ok(())
            }
            96 => {
                self.forge();
                Ok(())
            }
            97 => {
                self.holders[who].let_go();
                Ok(())
            }
            98 => {
                self.skew();
                Ok(())
            }
            99..=101 => {
                self.challenge();
                Ok(())
            }
            102 if self.house.up => self.house.decide(&mut around!(self, HOUSE_CLOCK)).map(drop),
            103 if self.house.up && step_is(self.step, 2) => self.house.pay_out(&mut around!(self, HOUSE_CLOCK)),
            103 if self.house.up => self.house.pay_run(&mut around!(self, HOUSE_CLOCK)),
            105 if self.house.up && step_is(self.step, 8) => {
                self.house.end_mandate(&mut around!(self, HOUSE_CLOCK));
                Ok(())
            }
            104 if self.house.up => self.house.credit_note(&mut around!(self, HOUSE_CLOCK)),
            _ => {
                self.holders[who].show(&mut around!(self, who));
                Ok(())
            }
        }
    }

    /// A member looks at what was claimed of some lane, and says that its tail is not owed, rightly or not.
    fn challenge(&mut self) {
        let claimed = self.house.books.escrows.iter();
        let lanes: Vec<_> = claimed.flat_map(|(id, escrow)| escrow.lanes.keys().map(|key| (*id, *key))).collect();
        if let Some((token, key)) = lanes.get(self.chance.index(lanes.len().max(1))) {
            self.net.send(Message::Challenge { token: *token, leaf: key.leaf, lane: key.lane });
        }
    }

    /// What time does at the house. A node answers within the hour what it is asked, as its claims task does; one that lies
    /// does when it likes.
    fn sweep(&mut self) -> Checked {
        if self.truth.node_honest || self.chance.one_in(2) {
            self.answer()?;
        }
        self.house.sweep(&mut around!(self, HOUSE_CLOCK))
    }

    /// Every challenge reaches the node, and its answers the house.
    fn answer(&mut self) -> Checked {
        let calm = std::mem::replace(&mut self.calm, true);
        let under_way = std::mem::take(&mut self.net.queue);
        for _ in 0..ASKED_MAX.div_ceil(SHOWN_MAX) {
            self.house.ask(&mut around!(self, HOUSE_CLOCK));
            for asked in std::mem::take(&mut self.net.queue) {
                self.hand_over(asked)?;
            }
            for shown in std::mem::take(&mut self.net.queue) {
                self.hand_over(shown)?;
            }
        }
        self.net.queue = under_way;
        self.calm = calm;
        Ok(())
    }

    /// One message arrives, out of turn, twice, altered or never.
    fn deliver(&mut self) -> Checked {
        if self.net.queue.is_empty() {
            return Ok(());
        }
        let at = if self.chance.one_in(2) { 0 } else { self.chance.index(self.net.queue.len()) };
        let fate = self.chance.below(24);
        if fate == 0 {
            self.net.queue.remove(at);
            self.truth.meet("a message that is lost");
            return Ok(());
        }
        if self.net.queue[at].to() == To::House && !self.house.up {
            return Ok(());
        }
        let twice = fate <= 2 && !matches!(self.net.queue[at], Message::Reply { .. });
        let mut message = if twice { self.net.queue[at].clone() } else { self.net.queue.remove(at) };
        if fate == 3
            && let Some(bytes) = message.bytes_mut()
            && !bytes.is_empty()
        {
            let at = self.chance.index(bytes.len());
            bytes[at] ^= 1 << self.chance.below(8);
            self.truth.meet("a message that is altered");
        }
        self.hand_over(message)
    }

    fn hand_over(&mut self, message: Message) -> Checked {
        match message.to() {
            To::Holder(who) => {
                let Message::Reply { call, reply } = message else { return Ok(()) };
                self.holders[who].hear(call, reply, &mut around!(self, who))
            }
            To::Node => self.node.hear(message, &mut around!(self, NODE_CLOCK)),
            To::House => self.house.hear(message, &mut around!(self, HOUSE_CLOCK)),
        }
    }

    /// The PI hands a part of a token on to the student.
    fn delegate(&mut self) {
        let taken: Vec<_> = self.holders[STUDENT].purses().map(comity_sdk::wallet::Purse::id).collect();
        let purses = self.holders[PI].purses().filter(|purse| purse.is_root() && !taken.contains(&purse.id()));
        let Some(purse) = purses.last() else { return };
        let (token, expires_at) = (purse.id(), purse.expires_at());
        let cap = Amount::from_ucr(u32::try_from(10 + self.chance.below(120)).expect("small"));
        let narrow = Narrow {
            cap: cap.min(purse.budget()),
            expires_at,
            lanes: 1 + u16::try_from(self.chance.below(2)).expect("small").min(purse.lanes_max() - 1),
            depth: 0,
            models: Vec::new(),
            ops: Vec::new(),
            next: KEYS.holders[STUDENT].public(),
        };
        let cap = narrow.cap;
        let Ok(chain) = delegate(purse.chain(), purse.key(), narrow) else { return };
        let parts = Chain::from_bytes(&chain).expect("it was made just now");
        let block = Signed::<comity_wire::object::Block>::decode(parts.blocks.last().expect("one")).expect("a block");
        let honest = self.holders[PI].honest && self.holders[STUDENT].honest;
        let leaf = Leaf { token, block: Some((block.id(), cap.ucr())), honest };
        self.truth.leaves.insert(block.id(), leaf);
        self.truth.meet("a block");
        self.holders[STUDENT].adopt(&chain, cap);
    }

    fn ask_refund(&mut self) -> Checked {
        let tokens: Vec<_> = self.truth.tokens.keys().copied().collect();
        if let Some(token) = tokens.get(self.chance.index(tokens.len().max(1))) {
            self.net.send(Message::Refund { token: *token });
        }
        Ok(())
    }

    fn crash(&mut self, who: usize) -> Checked {
        if self.chance.one_in(2) {
            self.net.note(|| "node dies".into());
            self.node.crash();
        } else {
            self.net.note(|| format!("holder {who} dies"));
            self.holders[who].crash();
        }
        Ok(())
    }

    /// A copy is made of somebody's disk, or put in the disk's place.
    fn set_back(&mut self, who: usize) -> Checked {
        let restores = self.chance.one_in(3);
        match self.chance.below(3) {
            0 if self.sets_back[0] => {
                if restores {
                    self.net.note(|| "node is set back".into());
                    self.truth.meet("a node that is set back");
                    self.node.restore(&mut around!(self, NODE_CLOCK));
                } else {
                    self.node.back_up();
                }
            }
            1 if self.sets_back[1] => {
                if restores {
                    self.net.note(|| "house is set back".into());
                    self.truth.meet("a house that is set back");
                    self.house.restore(&mut around!(self, HOUSE_CLOCK));
                } else {
                    self.house.back_up();
                }
            }
            2 if self.sets_back[2] => {
                if restores {
                    self.net.note(|| format!("holder {who} is set back"));
                    self.truth.meet("a holder that is set back");
                    self.holders[who].restore();
                } else {
                    self.holders[who].back_up();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Time passes; now and then the house is closed for days of it.
    fn pass(&mut self) -> Checked {
        let seconds = match self.chance.below(12) {
            0 => self.chance.below(4 * DAY_S),
            1 => self.chance.below(20 * HOUR_S),
            _ => self.chance.below(HOUR_S / 2),
        };
        self.house.up = !self.chance.one_in(3);
        let (up, hours) = (self.house.up, seconds / HOUR_S);
        self.net.note(|| format!("{hours} h pass, house up {up}"));
        self.let_pass(seconds);
        self.house.up |= self.chance.one_in(2);
        if !self.house.up {
            self.truth.meet("a house that is closed");
            return Ok(());
        }
        self.house.beat(&mut around!(self, HOUSE_CLOCK));
        if self.chance.one_in(4) {
            self.quiet()?;
        }
        self.node.claim(&mut around!(self, NODE_CLOCK))?;
        self.sweep()
    }

    /// An hour in which nothing goes wrong: all that is open is answered, acknowledged and claimed.
    fn quiet(&mut self) -> Checked {
        self.truth.meet("a quiet hour");
        self.calm = true;
        self.drain()?;
        for who in 0..3 {
            self.holders[who].acknowledge(&mut around!(self, who));
        }
        self.drain()?;
        self.node.claim(&mut around!(self, NODE_CLOCK))?;
        self.drain()?;
        self.calm = false;
        Ok(())
    }

    fn let_pass(&mut self, seconds: u64) {
        const BEAT_S: u64 = 110;
        let end = self.now.plus(seconds);
        while self.house.up && self.now.plus(BEAT_S) < end {
            self.now = self.now.plus(BEAT_S);
            self.house.beat(&mut around!(self, HOUSE_CLOCK));
        }
        self.now = end;
        if self.house.up {
            self.house.beat(&mut around!(self, HOUSE_CLOCK));
        }
    }

    fn lie(&mut self) {
        let liars: Vec<_> = (0..3).filter(|who| !self.holders[*who].honest).collect();
        if !liars.is_empty() && (self.truth.node_honest || self.chance.one_in(2)) {
            let who = liars[self.chance.index(liars.len())];
            self.holders[who].lie(&mut around!(self, who));
        } else {
            self.node.lie(&mut around!(self, NODE_CLOCK));
        }
    }

    /// Somebody who holds no key of anybody sends what he saw under a signature of his own.
    fn forge(&mut self) {
        if self.net.queue.is_empty() {
            return;
        }
        let at = self.chance.index(self.net.queue.len());
        let forged = crate::forge::forged(&self.net.queue[at]);
        if let Some(message) = forged {
            self.truth.meet("a forgery");
            self.net.send(message);
        }
    }

    fn skew(&mut self) {
        let clock = self.chance.index(5);
        let most = match self.chance.below(4) {
            0 => 2 * DAY_S,
            1 => 300,
            _ => 50,
        };
        let seconds =
            i64::try_from(self.chance.below(2 * most + 1)).expect("days") - i64::try_from(most).expect("days");
        self.skews[clock] = seconds;
        self.net.note(|| format!("clock {clock} is {seconds} s ahead"));
    }

    /// The adversary ends. Everybody starts again, says what is left to say, and is paid.
    fn come_right(&mut self) -> Checked {
        self.calm = true;
        self.skews = [0; 5];
        self.house.up = true;
        self.net.queue.clear();
        self.net.note(|| "it is calm".into());
        self.node.crash();
        for who in 0..3 {
            self.holders[who].crash();
        }
        // A clock that was ahead: the house counts no time twice. It may have taken a claim then and not have beaten yet.
        let lanes = self.house.books.escrows.values().flat_map(|escrow| escrow.lanes.values());
        let posted = lanes.flat_map(|lane| &lane.tails).map(|tail| tail.posted_at.0).max().unwrap_or(0);
        let opened = self.truth.opened.last().map_or(0, |span| span.1);
        let ahead = opened.max(posted).saturating_sub(self.now.0);
        self.now = self.now.plus(ahead + 1);
        self.house.beat(&mut around!(self, HOUSE_CLOCK));
        if self.house.restored > 0 && self.bugs.operator_claims_anew() {
            self.node.claim_anew(&mut around!(self, NODE_CLOCK))?;
        }
        // Whose tokens were paid out gives back to a friend what the others are about to earn.
        if self.chance.one_in(2) {
            self.house.pay_out(&mut around!(self, HOUSE_CLOCK))?;
        }
        for round in 0..6 {
            for who in 0..3 {
                self.holders[who].resolve(&mut around!(self, who));
                if round == 0 {
                    self.holders[who].show(&mut around!(self, who));
                }
                if round > 1 {
                    self.holders[who].acknowledge(&mut around!(self, who));
                }
            }
            self.drain()?;
            self.node.claim(&mut around!(self, NODE_CLOCK))?;
            self.drain()?;
        }
        self.give_back()?;
        self.let_pass(73 * HOUR_S);
        for _ in 0..3 {
            self.node.claim(&mut around!(self, NODE_CLOCK))?;
            self.drain()?;
        }
        // Tails that have stood their time are asked for; then they are shown, and paid at once.
        self.sweep()?;
        self.sweep()?;
        self.check_paid()?;
        for days in [0, 9, 4, 4] {
            self.let_pass(days * DAY_S);
            self.sweep()?;
            while self.house.decide(&mut around!(self, HOUSE_CLOCK))? {}
            self.give_back()?;
        }
        for (id, escrow) in &self.house.books.escrows {
            let nothing = escrow.held.is_zero() && escrow.phase == Phase::Closed;
            self.truth.holds("nothing stays in escrow for ever", nothing, || format!("{id} holds {}", escrow.held))?;
        }
        self.house.pay_out(&mut around!(self, HOUSE_CLOCK))?;
        self.check_match()?;
        self.house.audit(&mut around!(self, HOUSE_CLOCK))
    }

    fn give_back(&mut self) -> Checked {
        (0..3).try_for_each(|_| self.house.credit_note(&mut around!(self, HOUSE_CLOCK)))
    }

    /// The node's meter, what was claimed, and what the ledger moved (spec/07-settlement.md §9).
    fn check_match(&mut self) -> Checked {
        let booked = self.house.books.booked();
        let matched = matched(&self.node.counted(self.truth.tokens.keys()), &booked);
        let above = matched.breaks.iter().find(|found| found.kind == BreakKind::PaidAbove);
        self.truth.holds("nothing is paid above the receipts", above.is_none(), || format!("{above:?}"))?;
        if !matched.breaks.is_empty() {
            self.truth.meet("a break in the match");
        }
        if !self.truth.node_honest || self.truth.node_set_back {
            return Ok(());
        }
        let late = |token| booked.get(token).is_some_and(|book: &Booked| !book.late.is_zero());
        // What the owner gave back itself is a difference that says so, to the micro-credit.
        let credited =
            |found: &Break| found.kind == BreakKind::Credited && found.amount == self.house.books.credited(found.token);
        let broken = matched.breaks.iter().find(|found| !late(&found.token) && !credited(found));
        self.truth
            .holds("meter, receipts and ledger of an honest node match", broken.is_none(), || format!("{broken:?}"))?;
        self.truth
            .holds("nothing is in transit for ever", matched.in_transit.is_zero(), || format!("{}", matched.in_transit))
    }

    fn drain(&mut self) -> Checked {
        for _ in 0..400 {
            while self.node.is_running() {
                self.node.finish(&mut around!(self, NODE_CLOCK))?;
            }
            if self.net.queue.is_empty() {
                return Ok(());
            }
            let message = self.net.queue.remove(0);
            self.hand_over(message)?;
        }
        Err(Violation { bound: "talk ends", what: "400 messages and no end".into() })
    }

    /// An honest node has what it worked for, whatever the house's database lost (rule 9).
    fn check_paid(&mut self) -> Checked {
        if !self.truth.node_honest || self.truth.node_set_back {
            return Ok(());
        }
        let tokens: Vec<_> = self.truth.tokens.keys().copied().collect();
        for id in &tokens {
            // Books that were set back may not know it at all.
            let escrow = self.house.books.escrows.get(id);
            let lanes = self.truth.charged.iter().filter(|(lane, _)| self.truth.leaves[&lane.0].token == *id);
            let due: i64 = lanes.filter_map(|(_, charged)| charged.last()).map(|last| last.total).sum();
            if escrow.is_none_or(|escrow| escrow.late.is_zero()) {
                let paid = escrow.map_or(0, |escrow| escrow.paid.ucr());
                self.truth.bound("an honest node is paid what it charged", due, paid, || format!("token {id}"))?;
                self.truth.bound("a node is paid no more than it charged", paid, due, || format!("token {id}"))?;
                self.truth.meet("paid in full");
            } else {
                self.truth.meet("a claim after the close");
            }
        }
        Ok(())
    }
}
