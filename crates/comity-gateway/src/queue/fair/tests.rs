//! The line in a seeded simulation: time is the clock of a heap of ends.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;

const LINE: Line = Line { slots: 8, project_max: 64, waiting_max: 1_000, bytes_max: 1 << 30 };

/// How a project behaves: how many calls it keeps in the line, and how large they are.
#[derive(Clone, Copy)]
struct Habit {
    calls: usize,
    cost: (u64, u64),
    weight: u64,
}

#[derive(Clone, Copy, Default)]
struct Served {
    calls: u64,
    cost: u64,
    /// The longest wait of any call, in ms.
    waited_ms: u64,
}

struct Simulation {
    rng: ChaCha8Rng,
    fair: Fair,
    habits: Vec<Habit>,
    served: Vec<Served>,
    /// Who, what it costs, since when.
    calls: HashMap<Ticket, (usize, u64, u64)>,
    ends: BinaryHeap<Reverse<(u64, Ticket)>>,
    now_ms: u64,
}

impl Simulation {
    fn new(seed: u64, habits: Vec<Habit>) -> Self {
        let mut fair = Fair::default();
        fair.set(LINE);
        let served = vec![Served::default(); habits.len()];
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { rng, fair, habits, served, calls: HashMap::new(), ends: BinaryHeap::new(), now_ms: 0 }
    }

    fn ask(&mut self, who: usize) {
        let Habit { cost: (least, most), weight, .. } = self.habits[who];
        let cost = least + self.rng.next_u64() % (most - least + 1);
        match self.fair.enter(&who.to_string(), weight, cost, 0, self.now_ms) {
            Entered::Now(ticket) => {
                self.calls.insert(ticket, (who, cost, self.now_ms));
                self.begins(ticket);
            }
            Entered::Waits(ticket) => drop(self.calls.insert(ticket, (who, cost, self.now_ms))),
            full => panic!("a bounded asker found {full:?}"),
        }
    }

    fn begins(&mut self, ticket: Ticket) {
        let (who, cost, since) = self.calls[&ticket];
        let served = &mut self.served[who];
        served.waited_ms = served.waited_ms.max(self.now_ms - since);
        (served.calls, served.cost) = (served.calls + 1, served.cost + cost);
        // Ten tokens a millisecond, and something for each call.
        self.ends.push(Reverse((self.now_ms + 5 + cost / 10, ticket)));
    }

    /// Everybody always asks anew. Returns at `until_ms`.
    fn run(mut self, until_ms: u64) -> Vec<Served> {
        for who in 0..self.habits.len() {
            (0..self.habits[who].calls).for_each(|_| self.ask(who));
        }
        while self.now_ms < until_ms {
            let Reverse((at, ticket)) = self.ends.pop().expect("somebody is always served");
            self.now_ms = at;
            assert!(self.fair.running() <= LINE.slots);
            self.fair.leave(ticket, at);
            let (who, ..) = self.calls.remove(&ticket).unwrap();
            self.ask(who);
            while let Some(next) = self.fair.next() {
                self.begins(next);
            }
        }
        self.served
    }
}

/// (Σx)² ÷ (n · Σx²): 1 where all are alike.
fn jain(shares: &[u64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| {
        let share = *share as f64;
        (sum + share, squares + share * share)
    });
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn ten_polite_projects_are_served_alike_beside_a_greedy_one() {
    for seed in 0..8 {
        let polite = Habit { calls: 2, cost: (100, 400), weight: 4 };
        let greedy = Habit { calls: 60, cost: (20_000, 30_000), weight: 4 };
        let mut habits = vec![polite; 10];
        habits.push(greedy);
        let served = Simulation::new(seed, habits).run(600_000);
        let (greedy, polite) = served.split_last().unwrap();
        let shares: Vec<u64> = polite.iter().map(|served| served.cost).collect();
        assert!(jain(&shares) >= 0.95, "seed {seed}: {shares:?}");
        // Two places are never heavy: nobody waits for a large body to end.
        let longest = polite.iter().map(|served| served.waited_ms).max().unwrap();
        assert!(longest <= 1_000, "seed {seed}: a small call waited {longest} ms");
        assert!(greedy.calls > 0, "seed {seed}: heavy calls are served, too");
    }
}

#[test]
fn all_who_always_ask_get_the_same_work_whatever_the_size_of_their_calls() {
    for seed in 0..8 {
        let habits = (1..=10).map(|n| Habit { calls: 20, cost: (n * 100, n * 200), weight: 4 }).collect();
        let served = Simulation::new(seed, habits).run(400_000);
        let shares: Vec<u64> = served.iter().map(|served| served.cost).collect();
        assert!(jain(&shares) >= 0.99, "seed {seed}: {shares:?}");
    }
}

#[test]
fn a_weight_is_a_share_and_never_a_rank() {
    let of = |weight| Habit { calls: 30, cost: (500, 1_500), weight };
    let served = Simulation::new(1, vec![of(1), of(4), of(16)]).run(600_000);
    let [low, normal, high] = [served[0].cost, served[1].cost, served[2].cost];
    for (more, less) in [(normal, low), (high, normal)] {
        let ratio = more as f64 / less as f64;
        assert!((3.6..=4.4).contains(&ratio), "{low} {normal} {high}");
    }
}

#[test]
fn nobody_overtakes_by_more_than_the_bound() {
    // Two projects of one place: work of the other while a call waits at its head.
    let mut fair = Fair::default();
    fair.set(Line { slots: 1, ..LINE });
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (ours, theirs) = ((1_u64, 400_u64), (4_u64, 900_u64));
    let Entered::Now(mut running) = fair.enter("x", 1, 1, 0, 0) else { panic!("it was idle") };
    let mut costs = HashMap::new();
    let add = |fair: &mut Fair, costs: &mut HashMap<Ticket, (bool, u64)>, is_ours: bool, rng: &mut ChaCha8Rng| {
        let (weight, most) = if is_ours { ours } else { theirs };
        let cost = 1 + rng.next_u64() % most;
        let Entered::Waits(ticket) = fair.enter(if is_ours { "o" } else { "t" }, weight, cost, 0, 0) else {
            panic!("one place, and it is taken")
        };
        costs.insert(ticket, (is_ours, cost));
    };
    for _ in 0..20 {
        add(&mut fair, &mut costs, true, &mut rng);
        add(&mut fair, &mut costs, false, &mut rng);
    }
    let (mut before, mut overtaken) = (0, 0);
    for turn in 0..5_000 {
        fair.leave(running, turn);
        running = fair.next().expect("many wait");
        let (is_ours, cost) = costs.remove(&running).unwrap();
        if is_ours {
            (before, overtaken) = (cost, 0);
        } else {
            overtaken += cost;
            let bound = theirs.0 * before / ours.0 + theirs.1;
            assert!(overtaken <= bound, "{overtaken} of theirs went before ours, the bound is {bound}");
        }
        add(&mut fair, &mut costs, is_ours, &mut rng);
    }
}

#[test]
fn a_full_line_says_when_it_moves() {
    let mut fair = Fair::default();
    fair.set(Line { slots: 2, project_max: 3, waiting_max: 5, bytes_max: 100 });
    let enter = |fair: &mut Fair, who: &str, bytes| fair.enter(who, 4, 100, bytes, 0);
    let Entered::Now(first) = enter(&mut fair, "a", 0) else { panic!("free") };
    assert!(matches!(enter(&mut fair, "a", 0), Entered::Now(_)));
    for _ in 0..3 {
        assert!(matches!(enter(&mut fair, "a", 10), Entered::Waits(_)));
    }
    // Nothing was measured: two places, a second each.
    assert_eq!(enter(&mut fair, "a", 0), Entered::ProjectFull { retry_after_s: 1 });
    assert_eq!(enter(&mut fair, "b", 71), Entered::Full { retry_after_s: 1 }, "101 bytes would wait");
    assert!(matches!(enter(&mut fair, "b", 10), Entered::Waits(_)));
    fair.leave(first, 40_000);
    // The place is b's, whose first call it is. The next frees after 40 s ÷ 2.
    assert!(fair.next().is_some());
    assert_eq!(enter(&mut fair, "a", 0), Entered::ProjectFull { retry_after_s: 20 });
    assert!(matches!(enter(&mut fair, "b", 10), Entered::Waits(_)));
    assert_eq!(enter(&mut fair, "a", 0), Entered::ProjectFull { retry_after_s: 40 }, "a's share is one half now");
    assert!(matches!(enter(&mut fair, "c", 10), Entered::Waits(_)));
    assert_eq!(enter(&mut fair, "d", 0), Entered::Full { retry_after_s: 20 });
}

#[test]
fn whoever_leaves_the_line_frees_its_place_and_its_tags() {
    let mut fair = Fair::default();
    fair.set(Line { slots: 1, ..LINE });
    let Entered::Now(running) = fair.enter("x", 4, 100, 7, 0) else { panic!("free") };
    let tickets: Vec<Ticket> = (0..3)
        .map(|_| match fair.enter("a", 4, 1_000, 7, 0) {
            Entered::Waits(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    let Entered::Waits(b) = fair.enter("b", 4, 1_000, 7, 0) else { panic!("it waits") };
    fair.leave(tickets[0], 1);
    assert_eq!((fair.waiting(), fair.waiting_bytes), (3, 21));
    fair.leave(running, 2);
    assert_eq!(fair.next(), Some(tickets[1]), "the second of a stands where the first stood, before b");
    assert_eq!(fair.next(), None);
    fair.leave(tickets[1], 3);
    assert_eq!(fair.next(), Some(b));
    for ticket in [b, tickets[2]] {
        fair.leave(ticket, 4);
    }
    assert_eq!((fair.waiting(), fair.running(), fair.waiting_bytes, fair.projects.len()), (0, 0, 0, 0));
}
