//! The book against a short oracle, through seeded interleavings, failed commits and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_token::PathCap;
use comity_wire::object::{Basis, Ended, Flags, Receipt};
use comity_wire::{Amount, Digest, Exact, Meter, Meters, NodeId, Op, SecretKey, Signed, Timestamp, TokenId};
use futures::FutureExt as _;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;
use crate::store::{Memory, Store as _};

const TOKEN: TokenId = TokenId([1; 16]);
const LANES: u16 = 3;
const WINDOW: i64 = 90;

/// The root, a block under it and one more under that: leaf k has k + 1 caps on its path.
fn caps() -> Vec<PathCap> {
    [400, 250, 120].iter().enumerate().map(|(i, cap)| PathCap { id: leaf(i), cap: Amount::from_ucr(*cap) }).collect()
}

fn leaf(depth: usize) -> Digest {
    Digest([u8::try_from(depth).unwrap() + 1; 32])
}

fn signer() -> Signer {
    Signer { node: NodeId([9; 16]), key: SecretKey::from_seed([8; 32]), restore: 0 }
}

/// What must hold, kept in the plainest way.
#[derive(Default)]
struct Oracle {
    /// Charge by slot.
    charged: BTreeMap<(LaneKey, u64), i64>,
    acknowledged: BTreeMap<LaneKey, i64>,
    open: Vec<Open>,
}

#[derive(Clone)]
struct Open {
    id: HoldId,
    key: LaneKey,
    seq: u64,
    depth: usize,
    amount: i64,
}

impl Oracle {
    fn spent(&self, depth: usize) -> i64 {
        let under = |key: &LaneKey| (depth..3).any(|below| leaf(below) == key.leaf);
        self.charged.iter().filter(|((key, _), _)| under(key)).map(|(_, charge)| charge).sum()
    }

    fn held(&self, depth: usize) -> i64 {
        self.open.iter().filter(|open| open.depth >= depth).map(|open| open.amount).sum()
    }

    fn lane_total(&self, key: LaneKey) -> i64 {
        self.charged.iter().filter(|((k, _), _)| *k == key).map(|(_, charge)| charge).sum()
    }

    fn admits(&self, key: LaneKey, seq: u64, depth: usize, hold: i64) -> bool {
        let highest = self.charged.keys().filter(|(k, _)| *k == key).map(|(_, seq)| *seq).max().unwrap_or(0);
        let is_free =
            !self.charged.contains_key(&(key, seq)) && self.open.iter().all(|open| (open.key, open.seq) != (key, seq));
        let in_span = seq + SEQ_SPAN > highest && seq <= highest + SEQ_SPAN;
        let fits = (0..=depth).all(|at| self.spent(at) + self.held(at) + hold <= caps()[at].cap.ucr());
        let lane_held: i64 = self.open.iter().filter(|open| open.key == key).map(|open| open.amount).sum();
        let unacknowledged = self.lane_total(key) - self.acknowledged.get(&key).copied().unwrap_or(0);
        is_free && in_span && fits && unacknowledged + lane_held + hold <= WINDOW
    }
}

struct World {
    rng: ChaCha8Rng,
    book: Book,
    store: Memory,
    oracle: Oracle,
    newest: BTreeMap<LaneKey, comity_wire::object::AckLane>,
    receipts: BTreeMap<LaneKey, Vec<Receipt>>,
    admitted: usize,
    refused: usize,
}

impl World {
    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    fn load(&mut self) {
        if !self.book.is_loaded(TOKEN) {
            let account = self.store.account(TOKEN).now_or_never().unwrap().unwrap();
            self.book.load(account.unwrap_or_else(|| Account::new(TOKEN, leaf(0))));
        }
    }

    fn admit(&mut self) {
        let depth = usize::try_from(self.below(3)).unwrap();
        let key = LaneKey { leaf: leaf(depth), lane: u16::try_from(self.below(u64::from(LANES))).unwrap() };
        let seq = 1 + self.below(24);
        let hold = i64::try_from(self.below(40)).unwrap();
        let amount = Amount::new(hold).unwrap();
        let ask = Ask {
            token: TOKEN,
            key,
            slot: Slot { seq, item: 0 },
            authority: leaf(0),
            created: Timestamp(0),
            path: caps()[..=depth].to_vec(),
            lanes: LANES,
            lanes_max: 9,
            window: Amount::new(WINDOW).unwrap(),
            hold: amount,
            least: Amount::ZERO,
            max: amount,
            subject: "s".into(),
            bounds: Vec::new(),
            tokens: 0,
            within: Vec::new(),
        };
        let expected = self.oracle.admits(key, seq, depth, hold);
        match self.book.admit(&ask, Timestamp(0)) {
            Ok(Admission::Held(id)) => {
                assert!(expected, "{ask:?} was admitted");
                self.oracle.open.push(Open { id, key, seq, depth, amount: hold });
                self.admitted += 1;
            }
            other => {
                assert!(!expected, "{ask:?} was refused: {other:?}");
                self.refused += 1;
            }
        }
    }

    /// Charges up to four open requests in one batch, while others are admitted; now and then the store fails.
    fn charge(&mut self) {
        let count = usize::try_from(self.below(4)).unwrap().min(self.oracle.open.len());
        let mut batch = Vec::new();
        let mut taken = Vec::<Open>::new();
        for _ in 0..count {
            let at = usize::try_from(self.below(self.oracle.open.len() as u64)).unwrap();
            let open = self.oracle.open[at].clone();
            if taken.iter().any(|other| other.id == open.id) {
                continue;
            }
            let exact = if open.amount == 0 { 0 } else { self.below(open.amount.unsigned_abs() * 1_000_000 + 1) };
            batch.push(Change::Charge(Box::new(charge(open.id, u128::from(exact)))));
            taken.push(open);
        }
        let excerpt = self.book.excerpt(&batch);
        (0..self.below(3)).for_each(|_| self.admit());
        let stage = excerpt.stage(&batch, &signer());
        (0..self.below(2)).for_each(|_| self.admit());
        self.oracle.open.retain(|open| taken.iter().all(|charged| charged.id != open.id));
        self.store.break_down(self.rng.next_u64().is_multiple_of(7));
        let written = self.store.write(&stage.writes).now_or_never().unwrap();
        self.store.break_down(false);
        if written.is_err() {
            // Nothing was said to anybody: the holds end, the numbers are free.
            self.book.unload(TOKEN);
            taken.iter().for_each(|open| self.book.release(open.id));
            return self.load();
        }
        for (open, outcome) in taken.into_iter().zip(self.book.commit(stage)) {
            let Ok(Outcome::Charged(receipt)) = outcome else { panic!("{outcome:?}") };
            assert!(receipt.charge.ucr() <= open.amount);
            let before = self.oracle.charged.insert((open.key, open.seq), receipt.charge.ucr());
            assert_eq!(before, None, "a slot is charged once");
            let head = comity_wire::object::AckLane {
                leaf: receipt.leaf,
                lane: receipt.lane,
                n: receipt.n,
                total: receipt.total,
                receipt: receipt.id(),
            };
            self.newest.insert(open.key, head);
            self.receipts.entry(open.key).or_default().push(receipt.object().clone());
        }
    }

    fn acknowledge(&mut self) {
        let Some((key, head)) = self.newest.iter().next_back().map(|(key, head)| (*key, head.clone())) else { return };
        self.newest.remove(&key);
        let bytes = format!("{key:?}{}", head.n).into_bytes();
        let total = head.total.ucr();
        let proof = Proof { bytes, lanes: vec![(head, None)] };
        let stage = self.book.stage(&[Change::Acknowledge { token: TOKEN, proof }], &signer());
        self.store.write(&stage.writes).now_or_never().unwrap().unwrap();
        self.book.commit(stage).remove(0).unwrap();
        self.oracle.acknowledged.insert(key, total);
    }

    /// The process dies: holds are gone, what was charged is not.
    fn crash(&mut self) {
        self.book = Book::new(100);
        self.oracle.open.clear();
        self.load();
    }

    fn check(&self) {
        for (at, cap) in caps().iter().enumerate() {
            assert!(self.oracle.spent(at) + self.oracle.held(at) <= cap.cap.ucr());
            let account = self.book.account(TOKEN).unwrap();
            assert_eq!(account.spent(&cap.id).ucr(), self.oracle.spent(at), "cap {at}");
        }
    }
}

fn charge(hold: HoldId, exact: u128) -> Charge {
    Charge {
        hold,
        exact: Exact(exact),
        meters: Meters::default().with(Meter::Requests, 1),
        flags: Flags::default(),
        basis: Basis::Counted,
        ended: Ended::Stop,
        request: leaf(0),
        response: leaf(0),
        model: "lab/m".parse().unwrap(),
        op: Op::Chat,
        release: leaf(0),
        manifest: leaf(0),
        tariff: leaf(0),
        standing: 1,
        at: Timestamp(5),
        evidence: Evidence { base: String::new(), signature: [0; 64] },
        chain: Arc::from(&b"chain"[..]),
        acknowledgement: None,
    }
}

fn run(seed: u64) -> (usize, usize) {
    let mut world = World {
        rng: ChaCha8Rng::seed_from_u64(seed),
        book: Book::new(100),
        store: Memory::default(),
        oracle: Oracle::default(),
        newest: BTreeMap::new(),
        receipts: BTreeMap::new(),
        admitted: 0,
        refused: 0,
    };
    world.load();
    for _ in 0..400 {
        match world.below(21) {
            0..12 => world.admit(),
            12..17 => world.charge(),
            17..19 => world.acknowledge(),
            19 => {
                world.book.sweep();
                world.load();
            }
            _ => world.crash(),
        }
        world.check();
    }
    // What is stored is one history per lane, each receipt once, summing exactly to its totals.
    let mut slots = BTreeSet::new();
    let mut by_lane = BTreeMap::<LaneKey, Vec<Vec<u8>>>::new();
    for (_, key, stored) in world.store.charges() {
        assert!(slots.insert((key, stored.slot)));
        by_lane.entry(key).or_default().push(stored.receipt);
    }
    for (key, bytes) in by_lane {
        let mut receipts: Vec<_> = bytes
            .iter()
            .map(|bytes| Signed::<Receipt>::decode(bytes).unwrap().verify(&signer().key.public()).unwrap())
            .collect();
        receipts.sort_by_key(|receipt| receipt.n);
        let mut ids = Vec::new();
        let mut total = Amount::ZERO;
        for receipt in &receipts {
            total = total.checked_add(receipt.charge).unwrap();
            assert_eq!((receipt.n, receipt.total), (ids.len() as u64 + 1, total));
            assert_eq!(receipt.history, comity_wire::merkle::root(&ids));
            ids.push(receipt.id());
        }
        let answered: Vec<_> = receipts.iter().map(|receipt| receipt.object().clone()).collect();
        assert_eq!(Some(&answered), world.receipts.get(&key), "answered = durable");
    }
    (world.admitted, world.refused)
}

#[test]
fn the_book_agrees_with_the_oracle_through_failures_and_crashes() {
    let (mut admitted, mut refused) = (0, 0);
    for seed in 0..60 {
        let told = std::panic::catch_unwind(|| run(seed));
        let (a, r) = told.unwrap_or_else(|cause| panic!("seed {seed}: {:?}", cause.downcast_ref::<String>()));
        admitted += a;
        refused += r;
    }
    assert!(
        admitted > 1_000 && refused > 1_000,
        "{admitted} admitted, {refused} refused: it should be tried both ways"
    );
}

/// A request of the only lane of the root, which holds the least there is.
fn one(seq: u64) -> Ask {
    Ask {
        token: TOKEN,
        key: LaneKey { leaf: leaf(0), lane: 0 },
        slot: Slot { seq, item: 0 },
        authority: leaf(0),
        created: Timestamp(0),
        path: caps()[..1].to_vec(),
        lanes: 1,
        lanes_max: 1,
        window: Amount::from_ucr(500),
        hold: Amount::from_ucr(1),
        least: Amount::ZERO,
        max: Amount::from_ucr(1),
        subject: String::new(),
        bounds: Vec::new(),
        tokens: 0,
        within: Vec::new(),
    }
}

/// What is charged last of its lane is not charged long after those that came behind it (spec/05-request.md §6).
#[test]
fn nothing_runs_further_ahead_than_a_span_of_what_is_still_open() {
    let mut book = Book::new(1);
    book.load(Account::new(TOKEN, leaf(0)));
    let open = |book: &mut Book, seq| match book.admit(&one(seq), Timestamp(0)) {
        Ok(Admission::Held(id)) => Ok(id),
        Ok(other) => panic!("{other:?}"),
        Err(refused) => Err(refused),
    };
    let charge_now = |book: &mut Book, id| {
        let stage = book.stage(&[Change::Charge(Box::new(charge(id, 300_000)))], &signer());
        let Ok(Outcome::Charged(receipt)) = book.commit(stage).remove(0) else { panic!() };
        (receipt.n, receipt.seq)
    };
    let slow = open(&mut book, 1).unwrap();
    for seq in 2..=65 {
        let id = open(&mut book, seq).unwrap();
        assert_eq!(charge_now(&mut book, id), (seq - 1, seq));
    }
    assert_eq!(open(&mut book, 66), Err(Refused::InFlight { seq: 1 }));
    assert_eq!(charge_now(&mut book, slow), (65, 1), "never further behind than the span");
    let next = open(&mut book, 66).unwrap();
    assert_eq!(charge_now(&mut book, next), (66, 66));
}

#[test]
fn what_runs_is_neither_asked_about_nor_closed_over() {
    let mut book = Book::new(1);
    book.load(Account::new(TOKEN, leaf(0)));
    let Ok(Admission::Held(id)) = book.admit(&one(1), Timestamp(0)) else { panic!("it is held") };
    let Ask { key, slot, .. } = one(1);
    let (created, at) = (Timestamp(1), Timestamp(2));
    let ask = Change::Asked { token: TOKEN, key, slot, created, at };
    let close = Change::Close { token: TOKEN, leaf: leaf(0), chain: Arc::from(&b"chain"[..]) };
    let batch = [ask, close, Change::Final { token: TOKEN, at }];
    let outcomes = book.stage(&batch, &signer()).outcomes;
    assert!(
        matches!(outcomes[..], [Err(Refused::InFlight { seq: 1 }), Ok(_), Err(Refused::StillOpen)]),
        "{outcomes:?}"
    );
    book.release(id);
    let outcomes = book.stage(&batch, &signer()).outcomes;
    assert!(matches!(outcomes[..], [Ok(Outcome::Asked), Ok(_), Ok(Outcome::Final(_))]), "{outcomes:?}");
}

#[test]
fn who_calls_no_more_leaves_memory_and_who_calls_stays() {
    let mut book = Book::new(8);
    let other = TokenId([9; 16]);
    book.load(Account::new(TOKEN, leaf(0)));
    book.load(Account::new(other, leaf(1)));
    let Ok(Admission::Held(id)) = book.admit(&one(1), Timestamp(0)) else { panic!("it is held") };
    book.sweep();
    assert!(book.is_loaded(other), "it was read since the last sweep");
    assert!(book.touch(other));
    book.sweep();
    assert!(book.is_loaded(other), "somebody looked for it, and is about to use it");
    let generation = book.generation(other);
    book.sweep();
    assert!(!book.touch(other));
    assert!(!book.load_read(Account::new(other, leaf(1)), generation), "what was read before that may be old");
    book.sweep();
    assert!(book.is_loaded(TOKEN), "its call is under way");
    let stage = book.stage(&[Change::Charge(Box::new(charge(id, 300_000)))], &signer());
    assert!(matches!(book.commit(stage).remove(0), Ok(Outcome::Charged(_))));
    book.sweep();
    assert!(book.is_loaded(TOKEN), "its call has ended since the last sweep");
    book.sweep();
    assert!(!book.is_loaded(TOKEN));
}

#[test]
fn exact_sums_round_up_once_for_the_lane_and_not_for_each_charge() {
    let mut book = Book::new(1);
    book.load(Account::new(TOKEN, leaf(0)));
    let mut charges = Vec::new();
    for seq in 1..=4 {
        let ask = Ask { window: Amount::from_ucr(50), ..one(seq) };
        let Ok(Admission::Held(id)) = book.admit(&ask, Timestamp(0)) else { panic!() };
        let stage = book.stage(&[Change::Charge(Box::new(charge(id, 300_000)))], &signer());
        let Ok(Outcome::Charged(receipt)) = book.commit(stage).remove(0) else { panic!() };
        charges.push((receipt.charge.ucr(), receipt.total.ucr(), receipt.remainder));
    }
    assert_eq!(charges, [(1, 1, 700_000), (0, 1, 400_000), (0, 1, 100_000), (1, 2, 800_000)]);
}

#[test]
fn what_is_not_known_to_be_written_is_read_again_before_it_is_counted_on() {
    use comity_wire::GrantId;
    use comity_wire::object::Run;
    let run: Run = "a".parse().unwrap();
    let most = Volume { calls: 3, input_tokens: 1_000, output_tokens: 1_000 };
    let worst = Volume { calls: 1, input_tokens: 10, output_tokens: 10 };
    let within = Within {
        grant: GrantId([7; 16]),
        run: run.clone(),
        executions: 1,
        seconds: 3_600,
        until: Timestamp(10_000),
        ops: vec![(Op::Chat, most)],
        worst,
    };
    let mut book = Book::new(8);
    book.load(Account::new(TOKEN, leaf(0)));
    let ask = |seq| Ask {
        window: Amount::new(WINDOW).unwrap(),
        subject: "s".into(),
        within: vec![within.clone()],
        ..one(seq)
    };
    assert!(book.needs_subject(&ask(1)), "executions are in the store alone");
    book.load_subject("s", Vec::new(), Vec::new());
    let Ok(Admission::Held(first)) = book.admit(&ask(1), Timestamp(5)) else { panic!("it is held") };
    let Ok(Admission::Held(second)) = book.admit(&ask(2), Timestamp(6)) else { panic!("it is held") };
    let change = |hold| Change::Charge(Box::new(charge(hold, 0)));
    let calls = |stage: &Stage| {
        let rows = stage.writes.iter().filter_map(|write| match write {
            Write::Run { row, .. } => Some((row.begun, row.used.calls)),
            _ => None,
        });
        rows.collect::<Vec<_>>()
    };
    // A batch whose commit nobody answered: it was written, and this book was not told.
    let lost = book.stage(&[change(first)], &signer());
    assert_eq!(calls(&lost), [(Timestamp(5), 1)]);
    assert!(book.subject_to_read(second).is_none());
    for subject in lost.subjects() {
        book.unload_subject(&subject);
    }
    drop(lost);
    assert_eq!(book.subject_to_read(second), Some("s"));
    assert!(book.needs_subject(&ask(3)));
    let key = RunKey { subject: "s".into(), grant: GrantId([7; 16]), run, op: Op::Chat };
    let row = RunRow { begun: Timestamp(5), until: Timestamp(10_000), used: Volume { calls: 1, ..Volume::default() } };
    book.load_subject("s", Vec::new(), vec![(key, row)]);
    assert_eq!(calls(&book.stage(&[change(second)], &signer())), [(Timestamp(5), 2)], "it goes on from there");
}
