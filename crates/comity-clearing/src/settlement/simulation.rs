//! The core against an oracle: seeded schedules of honest and lying nodes, lost replies, closed hours, in any order.

use std::collections::BTreeMap;

use comity_ledger::{AccountCode, Group, Memory, NewAccount, Reference, Transfer, TransferId, TransferKind, Unit};
use comity_wire::api::clearing::lane_proof;
use comity_wire::cbor::{List, Text};
use comity_wire::merkle::root;
use comity_wire::object::{Confirmation, IdText, Scope, Terms, Token, Vetting};
use comity_wire::{Amount, Code, Digest, NodeId, Op, OrgId, SecretKey, Timestamp, TokenId, Verified, cose};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;

const AWARDED: u32 = 10_000;
const HOUR_S: u64 = 3600;

fn ucr(amount: u32) -> Amount {
    Amount::from_ucr(amount)
}

/// What really happened on a lane at the node.
#[derive(Clone, Default)]
struct Truth {
    path: Vec<PathCap>,
    ids: Vec<Digest>,
    totals: Vec<Amount>,
    acknowledged: Amount,
}

struct Sold {
    token: Verified<Token>,
    escrow: Escrow,
    truth: BTreeMap<LaneKey, Truth>,
    claims: Vec<Claimed>,
}

struct World {
    rng: ChaCha8Rng,
    now: Timestamp,
    calendar: Calendar,
    ledger: Memory,
    sold: Vec<Sold>,
    codes: BTreeMap<Code, u32>,
}

fn account(code: AccountCode, byte: u8) -> NewAccount {
    NewAccount::credits(code, Reference([byte; 16]))
}

fn escrow_account(token: TokenId) -> NewAccount {
    NewAccount::credits(AccountCode::Escrow, Reference(token.0))
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Timestamp(1_000_000);
        let mut ledger = Memory::new();
        let accounts =
            [AccountCode::Issuance, AccountCode::Allocation, AccountCode::OwnerPayable, AccountCode::Suspense];
        let _ = ledger.open(&accounts.map(|code| account(code, 0)), now);
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now,
            calendar: Calendar::default(),
            ledger,
            sold: Vec::new(),
            codes: BTreeMap::new(),
        };
        world.calendar.beat(now);
        let (from, to) = (account(AccountCode::Issuance, 0), account(AccountCode::Allocation, 0));
        assert!(world.post(TransferKind::Award, from, to, ucr(AWARDED), b"award"));
        world
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn post(&mut self, kind: TransferKind, from: NewAccount, to: NewAccount, amount: Amount, id: &[u8]) -> bool {
        let id = TransferId::derive(kind, &[id]);
        let (reference, evidence) = (Reference::NONE, Digest::ZERO);
        let transfer = Transfer { id, kind, debit: from.id, credit: to.id, amount, reference, evidence };
        self.ledger.post(&[Group::single(transfer)], self.now)[0].is_created()
    }

    fn reserve(&mut self) {
        let budget = ucr(1 + self.below(2_000));
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let token = token(TokenId(id), budget, ucr(10 + self.now.0 as u32 % 300), self.now);
        let escrow = escrow_account(token.id);
        let _ = self.ledger.open(&[escrow], self.now);
        if !self.post(TransferKind::Reserve, account(AccountCode::Allocation, 0), escrow, budget, &id) {
            return;
        }
        // Now and then the house forgets a token, as after a restore: the credits went home, the token lives.
        let known = self.below(10) != 0;
        if !known {
            let lost = [b"lost", &id[..]].concat();
            assert!(self.post(TransferKind::Refund, escrow, account(AccountCode::Allocation, 0), budget, &lost));
        }
        let mut begun = begun(&token, self.now);
        begun.held = if known { budget } else { Amount::ZERO };
        self.sold.push(Sold { token, escrow: begun, truth: BTreeMap::new(), claims: Vec::new() });
    }

    /// A charge at the node; a careless node charges past budgets and caps.
    fn charge(&mut self, at: usize) {
        let (leaf, lane, charge) = (self.below(3), self.below(2) as u16, ucr(self.below(200)));
        let id = Digest::of(&self.rng.next_u64().to_be_bytes());
        let sold = &mut self.sold[at];
        let (leaf, path) = match leaf {
            0 => (sold.token.id(), vec![]),
            block => {
                let id = Digest::of(&[block as u8; 3]);
                (id, vec![PathCap { id, cap: ucr(block * 150) }])
            }
        };
        let truth = sold.truth.entry(LaneKey { leaf, lane }).or_default();
        truth.path = path;
        let before = truth.totals.last().copied().unwrap_or(Amount::ZERO);
        truth.ids.push(id);
        truth.totals.push(before.checked_add(charge).unwrap());
    }

    fn acknowledge(&mut self, at: usize) {
        let pick = self.below(4) as usize;
        if let Some(truth) = self.sold[at].truth.values_mut().nth(pick) {
            truth.acknowledged = truth.totals.last().copied().unwrap_or(Amount::ZERO);
        }
    }

    fn claim(&mut self, at: usize) {
        let lie = self.below(12);
        let sold = &self.sold[at];
        if sold.truth.is_empty() {
            return;
        }
        let mut lanes: BTreeMap<_, _> =
            sold.truth.iter().map(|(key, truth)| (*key, honest(truth, sold.escrow.lanes.get(key)))).collect();
        let settled = sold.escrow.lanes.clone();
        let (key, lane) = lanes.iter_mut().next().expect("at least one lane");
        let known = settled.get(key).filter(|_| sold.escrow.phase != Phase::Closed);
        let expected = match (lie, known) {
            (0, Some(known)) if known.n > 1 => {
                lane.n = known.n - 1;
                Some(Code::ClaimOlder)
            }
            (1, Some(known)) if !known.total.is_zero() => {
                (lane.n, lane.total) = (lane.n + 1, Amount::ZERO);
                Some(Code::ClaimLower)
            }
            (2, Some(known)) if known.n > 1 && lane.n > known.n => {
                lane.history = Digest::of(b"another past");
                Some(Code::BrokenHistory)
            }
            // The node took the settled receipt out of its history and put another in its place.
            (5, Some(known)) if lane.n > known.n => {
                let mut ids = sold.truth[key].ids.clone();
                ids[known.n as usize - 1] = Digest::of(b"another receipt");
                lane.history = root(&ids[..lane.n as usize - 1]);
                lane.inclusion = lane_proof(&ids, lane.n, known.n);
                Some(Code::BrokenHistory)
            }
            (3, Some(known)) if lane.n == known.n => {
                lane.receipt = Digest::of(b"a second receipt");
                Some(Code::BrokenHistory)
            }
            (6, Some(known)) if lane.n > known.n => {
                lane.settled_n = [None, Some(known.n + 1), Some(known.n - 1)][lane.n as usize % 3];
                Some(Code::SettledDiffers)
            }
            // The house was set back: the node names what was settled before that, with a proof of it.
            (4, None) => {
                (lane.settled_n, lane.inclusion) = (Some(lane.n), vec![Digest::of(b"proof")]);
                None
            }
            _ => None,
        };
        let number = sold.claims.len() as u64 + 1;
        let id = Digest::of(&[&sold.token.id.0[..], &number.to_be_bytes(), &[lie as u8]].concat());
        let claimed = Claimed { id, number, token: sold.token.clone(), compromised: false, lanes };
        let refused = self.step(at, Input::Claim(&claimed));
        assert_eq!(refused, expected);
        if refused.is_none() {
            self.sold[at].claims.push(claimed);
        }
    }

    /// A reply was lost, and the claim comes again, later and out of order: nothing is paid twice.
    fn repeat(&mut self, at: usize) {
        let Some(claim) = self.sold[at].claims.last().cloned() else { return };
        let before = self.sold[at].escrow.paid;
        let matured = self.below(2) == 0;
        if matured {
            assert_eq!(self.step(at, Input::Sweep), None);
        }
        let after_sweep = self.sold[at].escrow.paid;
        assert_eq!(self.step(at, Input::Claim(&claim)), None);
        if matured {
            assert_eq!(self.sold[at].escrow.paid, after_sweep);
        }
        assert!(self.sold[at].escrow.paid >= before);
    }

    fn final_(&mut self, at: usize) {
        let sold = &self.sold[at];
        let lie = self.rng.next_u32().is_multiple_of(8);
        let head = |(key, truth): (&LaneKey, &Truth)| {
            let cut = if lie { truth.ids.len() / 2 } else { truth.ids.len() };
            let total = cut.checked_sub(1).map_or(Amount::ZERO, |last| truth.totals[last]);
            let receipt = cut.checked_sub(1).map_or(Digest::ZERO, |last| truth.ids[last]);
            (*key, Head { n: cut as u64, total, receipt })
        };
        let heads = sold.truth.iter().map(head).collect();
        let finalled = Finalled { id: Digest::of(&self.now.0.to_be_bytes()), token: sold.token.id, heads };
        self.step(at, Input::Final(&finalled));
    }

    /// One input, its movements posted to a real ledger, and everything that must hold afterwards.
    fn step(&mut self, at: usize, input: Input<'_>) -> Option<Code> {
        let sold = &self.sold[at];
        let early = matches!(input, Input::Refund)
            && sold.escrow.phase == Phase::Open
            && !self.calendar.has_passed(sold.escrow.issued_at, sold.escrow.settle_by, self.now);
        let output = match handle(self.now, &self.calendar, &sold.escrow, input) {
            Ok(output) => output,
            Err(refused) => {
                *self.codes.entry(refused.code()).or_default() += 1;
                return Some(refused.code());
            }
        };
        assert!(!early || sold.escrow.held.is_zero(), "a refund before final and settle_by");
        for exception in &output.exceptions {
            *self.codes.entry(exception.code).or_default() += 1;
        }
        let escrow = escrow_account(sold.token.id);
        let id = sold.token.id;
        for movement in &output.movements {
            let (kind, from, to) = match movement.kind {
                MovementKind::Settle => (TransferKind::Settle, escrow, account(AccountCode::OwnerPayable, 0)),
                MovementKind::Suspense => (
                    TransferKind::SuspenseSettle,
                    account(AccountCode::Suspense, 0),
                    account(AccountCode::OwnerPayable, 0),
                ),
                MovementKind::Refund => (TransferKind::Refund, escrow, account(AccountCode::Allocation, 0)),
            };
            let serial = [&id.0[..], &movement.serial.to_be_bytes()].concat();
            assert!(self.post(kind, from, to, movement.amount, &serial), "the books take {movement:?}");
        }
        self.sold[at].escrow = output.after;
        self.check(at);
        None
    }

    fn check(&self, at: usize) {
        let Sold { token, escrow, truth, .. } = &self.sold[at];
        let held =
            self.ledger.accounts().find(|account| account.id == escrow_account(token.id).id).unwrap().available();
        assert_eq!(held, escrow.held, "the core and the books agree on what is held");
        assert!(escrow.paid <= token.terms.budget);
        for (key, lane) in &escrow.lanes {
            let happened = truth[key].totals.last().copied().unwrap_or(Amount::ZERO);
            assert!(lane.paid <= happened, "nobody is paid for what did not happen");
        }
        for block in 1..=2_u32 {
            let id = Digest::of(&[block as u8; 3]);
            let under = escrow.lanes.values().filter(|lane| lane.path.iter().any(|cap| cap.id == id));
            assert!(Amount::sum(under.map(|lane| lane.paid)).unwrap() <= ucr(block * 150));
        }
        let sum =
            |code| self.ledger.accounts().filter(|a| a.code == code).map(|a| i128::from(a.balance_ucr())).sum::<i128>();
        let settled = sum(AccountCode::OwnerPayable) + sum(AccountCode::Suspense);
        assert!(settled + sum(AccountCode::Escrow) <= i128::from(AWARDED), "settled + in escrow ≤ awarded");
        assert_eq!(settled + sum(AccountCode::Escrow) + sum(AccountCode::Allocation), i128::from(AWARDED));
    }

    fn pass(&mut self, hours: u64) {
        let open = self.below(4) != 0;
        for _ in 0..hours * 60 {
            self.now = self.now.plus(60);
            if open {
                self.calendar.beat(self.now);
            }
        }
        self.calendar.beat(self.now);
    }

    /// The node shows what it has to, as far as it happened.
    fn show(&mut self, at: usize) {
        for key in self.sold[at].escrow.to_show(self.now, &self.calendar) {
            let upto = self.sold[at].escrow.lanes[&key].total;
            assert_eq!(self.step(at, Input::Proven { lane: key, upto, evidence: Digest::of(b"shown") }), None);
        }
        assert!(
            self.sold[at].escrow.to_show(self.now, &self.calendar).is_empty(),
            "what was shown is not asked for again"
        );
    }

    /// Every node claims honestly, every tail stands its time and is shown: then each is owed exactly what the oracle says.
    fn finish(&mut self) {
        for at in 0..self.sold.len() {
            if self.sold[at].escrow.phase == Phase::Closed || self.sold[at].truth.is_empty() {
                continue;
            }
            let sold = &self.sold[at];
            let lanes =
                sold.truth.iter().map(|(key, truth)| (*key, honest(truth, sold.escrow.lanes.get(key)))).collect();
            let id = Digest::of(&sold.token.id.0);
            let claimed = Claimed { id, number: 99, token: sold.token.clone(), compromised: false, lanes };
            assert_eq!(self.step(at, Input::Claim(&claimed)), None);
        }
        for _ in 0..CHALLENGE_S / 60 + 1 {
            self.now = self.now.plus(60);
            self.calendar.beat(self.now);
        }
        for at in 0..self.sold.len() {
            let open = self.sold[at].escrow.phase == Phase::Open;
            let before = self.sold[at].escrow.paid;
            assert_eq!(self.step(at, Input::Sweep), None);
            assert_eq!(self.sold[at].escrow.paid, before, "time pays nothing");
            self.show(at);
            if open {
                assert_eq!(self.sold[at].escrow.paid, owed(&self.sold[at]), "the oracle");
            }
        }
        for _ in 0..40 * 24 * 60 {
            self.now = self.now.plus(60);
            self.calendar.beat(self.now);
        }
        for at in 0..self.sold.len() {
            assert_eq!(self.step(at, Input::Sweep), None);
            let escrow = &self.sold[at].escrow;
            assert_eq!(escrow.held, Amount::ZERO, "nothing stays in escrow for ever");
            assert_eq!(escrow.phase, Phase::Closed);
        }
        let report = self.ledger.audit();
        assert!(report.holds, "{:?}", report.breaks);
        assert_eq!(report.sum_ucr(Unit::CREDITS), 0);
    }
}

/// What a node is owed in the end, by definition: each lane to its acknowledged total and a window more, lanes under a
/// block to its cap, all to the budget.
fn owed(sold: &Sold) -> Amount {
    let window = sold.token.terms.window;
    let lane = |truth: &Truth| {
        truth.totals.last().map_or(Amount::ZERO, |total| (*total).min(truth.acknowledged.saturating_add(window)))
    };
    let mut under: BTreeMap<Option<(Digest, Amount)>, Amount> = BTreeMap::new();
    for truth in sold.truth.values() {
        let sum = under.entry(truth.path.first().map(|cap| (cap.id, cap.cap))).or_default();
        *sum = sum.saturating_add(lane(truth));
    }
    let capped = under.into_iter().map(|(cap, sum)| cap.map_or(sum, |(_, cap)| sum.min(cap)));
    capped.fold(Amount::ZERO, Amount::saturating_add).min(sold.token.terms.budget)
}

fn honest(truth: &Truth, settled: Option<&Lane>) -> LaneClaim {
    let n = truth.ids.len();
    let settled_n = settled.map(|lane| lane.n);
    LaneClaim {
        path: truth.path.clone(),
        n: n as u64,
        total: *truth.totals.last().unwrap(),
        receipt: truth.ids[n - 1],
        history: root(&truth.ids[..n - 1]),
        flags: comity_wire::object::Flags::default(),
        at: Timestamp(0),
        settled_n,
        inclusion: settled_n.map_or_else(Vec::new, |settled| lane_proof(&truth.ids, n as u64, settled)),
        acknowledged: truth.acknowledged,
        acknowledged_n: 0,
    }
}

fn begun(token: &Verified<Token>, now: Timestamp) -> Escrow {
    Escrow {
        token: token.id,
        content: token.id(),
        node: token.audience(),
        owner: OrgId([2; 16]),
        budget: token.terms.budget,
        window: token.terms.window,
        lanes_max: token.terms.lanes_max,
        issued_at: now,
        settle_by: token.terms.settle_by,
        phase: Phase::Open,
        is_disputed: false,
        held: token.terms.budget,
        paid: Amount::ZERO,
        refunded: Amount::ZERO,
        clamped: Amount::ZERO,
        late: Amount::ZERO,
        movements: 0,
        lanes: BTreeMap::new(),
        heads: BTreeMap::new(),
    }
}

fn token(id: TokenId, budget: Amount, window: Amount, now: Timestamp) -> Verified<Token> {
    let scope = Scope {
        model: "lab/tiny".parse().unwrap(),
        release: Digest::of(b"release"),
        ops: List::new(vec![Op::Chat]).unwrap(),
        tariff: Digest::of(b"tariff"),
    };
    let expires_at = now.plus(HOUR_S);
    let terms = Terms {
        roster_version: 1,
        scope: List::new(vec![scope]).unwrap(),
        budget,
        vetting: Vetting::Vetted,
        purposes: List::default(),
        window,
        lanes_max: 8,
        longest_op_s: 600,
        settle_by: expires_at.plus(600 + 30 * 24 * HOUR_S),
        depth: 1,
        grants: List::default(),
    };
    let token = Token {
        issuer: IdText(OrgId([1; 16])),
        subject: Text::new("sub").unwrap(),
        audience: IdText(NodeId([3; 16])),
        expires_at,
        not_before: now,
        issued_at: now,
        id,
        holder: Confirmation(SecretKey::from_seed([9; 32]).public()),
        terms,
    };
    cose::sign(&token, &SecretKey::from_seed([1; 32]))
}

fn run(seed: u64, steps: u32) -> BTreeMap<Code, u32> {
    let mut world = World::new(seed);
    world.reserve();
    for _ in 0..steps {
        let at = world.below(world.sold.len() as u32) as usize;
        match world.below(40) {
            0..=2 => world.reserve(),
            3..=16 => world.charge(at),
            17..=21 => world.acknowledge(at),
            22..=30 => world.claim(at),
            31..=33 => world.repeat(at),
            34 => world.final_(at),
            35 => drop(world.step(at, Input::Refund)),
            36 => drop(world.step(at, Input::Sweep)),
            _ => {
                let hours = u64::from(world.below(40));
                world.pass(hours);
            }
        }
    }
    world.finish();
    world.codes
}

#[test]
fn whatever_the_order_nobody_is_paid_twice_or_too_much() {
    let mut codes: BTreeMap<Code, u32> = BTreeMap::new();
    for seed in 0..60 {
        eprintln!("seed {seed}");
        for (code, count) in run(seed, 400) {
            *codes.entry(code).or_default() += count;
        }
    }
    // The schedule is worth nothing if it never met what it is about.
    for code in [
        Code::ClaimOlder,
        Code::ClaimLower,
        Code::SettledDiffers,
        Code::BrokenHistory,
        Code::ClaimClamped,
        Code::TooEarly,
        Code::Closed,
    ] {
        assert!(codes.contains_key(&code), "{code} never happened: {codes:?}");
    }
}

#[test]
fn a_tail_is_asked_for_after_its_time_and_closed_hours_do_not_count() {
    let mut world = World::new(7);
    world.reserve();
    let at = 0;
    let (leaf, total) = (world.sold[at].token.id(), ucr(1));
    let truth = Truth { path: vec![], ids: vec![Digest::of(b"1")], totals: vec![total], acknowledged: Amount::ZERO };
    world.sold[at].truth.insert(LaneKey { leaf, lane: 0 }, truth.clone());
    let lanes = [(LaneKey { leaf, lane: 0 }, honest(&truth, None))].into();
    let claimed =
        Claimed { id: Digest::of(b"c"), number: 1, token: world.sold[at].token.clone(), compromised: false, lanes };
    assert_eq!(world.step(at, Input::Claim(&claimed)), None);
    assert_eq!(world.sold[at].escrow.paid, Amount::ZERO);
    // Four days in which the house was closed.
    world.now = world.now.plus(4 * 24 * HOUR_S);
    world.calendar.beat(world.now);
    assert!(world.sold[at].escrow.to_show(world.now, &world.calendar).is_empty());
    for _ in 0..CHALLENGE_S / 60 {
        world.now = world.now.plus(60);
        world.calendar.beat(world.now);
    }
    assert_eq!(world.step(at, Input::Sweep), None);
    assert_eq!(world.sold[at].escrow.paid, Amount::ZERO, "time pays nothing");
    let lane = LaneKey { leaf, lane: 0 };
    assert_eq!(world.sold[at].escrow.to_show(world.now, &world.calendar), [lane]);
    let disputed = Escrow { is_disputed: true, ..world.sold[at].escrow.clone() };
    assert!(disputed.to_show(world.now, &world.calendar).is_empty(), "persons decide first");
    world.show(at);
    assert_eq!(world.sold[at].escrow.paid, total);
}
