//! Twenty members under one clock of ours: loss, latency, churn with restarts from disk, and a liar with two faces.
//!
//! Whatever the schedule, the honest come to show the same; the liar is frozen at all of them; no author's number falls
//! unless it lied. A failure names its seed. The same seed gives the same trace.

mod support;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use comity_registry::publish::Publication;
use comity_registry::replica::{Stored, StoredFeed, Write};
use comity_registry::{Change, Input, Output, Peer, Registry, Reply, SignedHead, Ticket, Verdict};
use comity_wire::{Digest, OrgId, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use support::{Org, START, org, roster};

const MEMBERS: usize = 20;
/// The liar's second face shares its organisation's keys.
const LIAR: usize = MEMBERS - 1;
const SECOND_FACE: usize = MEMBERS;
const NODES: usize = MEMBERS + 1;
const COMPARE_MS: u64 = 10_000;
const TIMEOUT_MS: u64 = 5_000;
/// Until then messages are lost, members come and go, and authors publish.
const TROUBLE_MS: u64 = 240_000;
const END_MS: u64 = 480_000;

#[derive(Debug)]
enum Event {
    Deliver { to: usize, life: u32, input: Input },
    Compare { node: usize },
    Publish { node: usize },
    Down { node: usize },
    Up { node: usize },
}

struct Node {
    org: Org,
    registry: Option<Registry>,
    /// Counts restarts: what was sent to an earlier life is lost.
    life: u32,
    published: u64,
    disk: Disk,
    shown: BTreeMap<OrgId, (u32, u64)>,
    /// Gossip in hand: content and where it came from.
    tickets: BTreeMap<Ticket, (Vec<u8>, usize)>,
    heard: BTreeSet<Digest>,
}

#[derive(Default)]
struct Disk {
    feeds: BTreeMap<OrgId, (SignedHead, BTreeMap<Digest, Vec<u8>>)>,
    proofs: BTreeMap<(OrgId, u32), (SignedHead, SignedHead)>,
}

struct World {
    seed: u64,
    gossip: bool,
    rng: ChaCha8Rng,
    ms: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    nodes: Vec<Node>,
    links: BTreeSet<(usize, usize)>,
    pinned: Vec<u8>,
    /// Who asked, with which life, for each ticket of an open request.
    asked: BTreeMap<u64, (usize, u32)>,
    trace: Digest,
    lost: u64,
}

impl World {
    fn new(seed: u64, gossip: bool) -> Self {
        let orgs: Vec<Org> = (0..MEMBERS).map(|n| org(n as u8 + 1)).collect();
        let pinned = roster(1, &orgs.iter().collect::<Vec<_>>());
        let mut world = Self {
            seed,
            gossip,
            rng: ChaCha8Rng::seed_from_u64(seed),
            ms: 0,
            order: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            nodes: Vec::new(),
            links: BTreeSet::new(),
            pinned,
            asked: BTreeMap::new(),
            trace: Digest::ZERO,
            lost: 0,
        };
        let second = org(LIAR as u8 + 1);
        for org in orgs.into_iter().chain([second]) {
            world.nodes.push(Node {
                org,
                registry: None,
                life: 0,
                published: 0,
                disk: Disk::default(),
                shown: BTreeMap::new(),
                tickets: BTreeMap::new(),
                heard: BTreeSet::new(),
            });
        }
        world.connect();
        for node in 0..NODES {
            world.at(0, Event::Up { node });
            let jitter = world.below(COMPARE_MS);
            world.at(1 + jitter, Event::Compare { node });
            let jitter = world.below(20_000);
            world.at(1_000 + jitter, Event::Publish { node });
        }
        for _ in 0..30 {
            let (node, at, for_ms) =
                (world.below(LIAR as u64) as usize, world.below(TROUBLE_MS - 60_000), world.below(40_000));
            world.at(at, Event::Down { node });
            world.at(at + for_ms, Event::Up { node });
        }
        world
    }

    /// A ring keeps it one piece; chords make it short. The faces know different people.
    fn connect(&mut self) {
        for node in 0..LIAR {
            self.links.insert(ordered(node, (node + 1) % LIAR));
            let other = self.below(LIAR as u64) as usize;
            if other != node {
                self.links.insert(ordered(node, other));
            }
        }
        for node in (0..LIAR).step_by(5) {
            self.links.insert(ordered(node, LIAR));
            self.links.insert(ordered(node + 2, SECOND_FACE));
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn now(&self) -> Timestamp {
        START.plus(self.ms / 1000)
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((ms.max(self.ms), self.order)));
        self.events.insert(self.order, event);
    }

    fn send(&mut self, to: usize, input: Input) {
        let latency = 10 + self.below(90);
        let life = self.nodes[to].life;
        self.at(self.ms + latency, Event::Deliver { to, life, input });
    }

    fn is_lost(&mut self) -> bool {
        let lost = self.ms < TROUBLE_MS && self.below(100) < 20;
        self.lost += u64::from(lost);
        lost
    }

    fn neighbours(&self, node: usize) -> Vec<usize> {
        let other = |(a, b): &(usize, usize)| match (*a == node, *b == node) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        };
        self.links.iter().filter_map(other).filter(|other| self.nodes[*other].registry.is_some()).collect()
    }

    fn run(&mut self) {
        while let Some(Reverse((ms, order))) = self.queue.pop() {
            if ms > END_MS {
                return;
            }
            self.ms = ms;
            let event = self.events.remove(&order).expect("each queued event is kept");
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Deliver { to, life, input } => {
                if self.nodes[to].life == life {
                    self.handle(to, input);
                }
            }
            Event::Compare { node } => {
                for other in self.neighbours(node) {
                    self.handle(node, Input::Compare { peer: Peer(other as u64) });
                }
                let jitter = self.below(COMPARE_MS);
                self.at(self.ms + COMPARE_MS / 2 + jitter, Event::Compare { node });
            }
            Event::Publish { node } => self.publish(node),
            Event::Down { node } => self.down(node),
            Event::Up { node } => self.up(node),
        }
    }

    fn up(&mut self, node: usize) {
        if self.nodes[node].registry.is_some() {
            return;
        }
        let disk = &self.nodes[node].disk;
        let stored = Stored {
            rosters: Vec::new(),
            feeds: disk
                .feeds
                .values()
                .map(|(head, frames)| StoredFeed { head: head.clone(), frames: frames.clone() })
                .collect(),
            proofs: disk.proofs.values().cloned().collect(),
        };
        self.nodes[node].registry = Some(Registry::start(&self.pinned, stored).unwrap());
        for other in self.neighbours(node) {
            let of = |node: usize| Input::Joined { peer: Peer(node as u64), org: self.nodes[node].org.id };
            let (here, there) = (of(other), of(node));
            self.handle(node, here);
            self.handle(other, there);
        }
    }

    fn down(&mut self, node: usize) {
        if self.nodes[node].registry.take().is_none() {
            return;
        }
        self.nodes[node].life += 1;
        self.nodes[node].tickets.clear();
        self.nodes[node].heard.clear();
        for other in self.neighbours(node) {
            self.handle(other, Input::Left { peer: Peer(node as u64) });
        }
    }

    fn publish(&mut self, node: usize) {
        if self.ms > TROUBLE_MS - 20_000 {
            return;
        }
        let next = self.ms + 15_000 + self.below(30_000);
        self.at(next, Event::Publish { node });
        let now = self.now();
        let published = self.nodes[node].published;
        // The faces say the same twice, then each its own.
        let said_at = if node >= LIAR && published < 2 { START.plus(published) } else { now };
        let salt = if node == SECOND_FACE && published >= 2 { 1_000 } else { 0 };
        let here = &self.nodes[node];
        let Some(registry) = &here.registry else { return };
        let put = here.org.put(published + 1 + salt, said_at);
        let Ok(publication) = registry.prepare(said_at, &here.org.writer_certificate(1), &here.org.writer, &put) else {
            assert!(node >= LIAR, "seed {}: an honest author could not publish", self.seed);
            return;
        };
        self.nodes[node].published += 1;
        self.commit(node, publication);
    }

    /// On disk first, then said.
    fn commit(&mut self, node: usize, publication: Publication) {
        let write = self.nodes[node].registry.as_ref().unwrap().write_of(&publication);
        self.nodes[node].disk.apply(write);
        self.handle(node, Input::Published(publication));
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.now();
        let asked = if let Input::Asked { ticket, .. } = &input { Some(ticket.0) } else { None };
        let Some(registry) = &mut self.nodes[node].registry else { return };
        registry.handle(now, input);
        while let Some(output) = self.nodes[node].registry.as_mut().and_then(Registry::poll) {
            self.record(node, &output);
            self.perform(node, output);
        }
        if let Some(ticket) = asked {
            self.asked.remove(&ticket);
        }
    }

    fn perform(&mut self, node: usize, output: Output) {
        let me = Peer(node as u64);
        match output {
            Output::Ask { peer, request } => {
                let to = peer.0 as usize;
                if self.nodes[to].registry.is_none() || self.is_lost() {
                    let life = self.nodes[node].life;
                    self.at(self.ms + TIMEOUT_MS, Event::Deliver { to: node, life, input: Input::Failed { peer } });
                    return;
                }
                // What goes over the wire is bytes.
                let request = comity_registry::Request::from_bytes(&request.to_bytes()).unwrap();
                self.order += 1;
                let ticket = Ticket(self.order);
                self.asked.insert(ticket.0, (node, self.nodes[node].life));
                self.send(to, Input::Asked { peer: me, ticket, request });
            }
            Output::Answer { ticket, reply } => {
                let Some((asker, life)) = self.asked.get(&ticket.0).copied() else { return };
                if self.nodes[asker].life != life {
                    return;
                }
                if self.is_lost() {
                    let input = Input::Failed { peer: me };
                    self.at(self.ms + TIMEOUT_MS, Event::Deliver { to: asker, life, input });
                    return;
                }
                let reply = Reply::from_bytes(&reply.to_bytes()).unwrap();
                self.send(asker, Input::Answered { peer: me, reply });
            }
            Output::Judge { ticket, verdict } => {
                let Some((bytes, from)) = self.nodes[node].tickets.remove(&ticket) else { return };
                assert_ne!(verdict, Verdict::Reject, "seed {}: nobody forged anything", self.seed);
                if verdict == Verdict::Accept {
                    self.spread(node, Some(from), &bytes);
                }
            }
            Output::Gossip { bytes } if self.gossip => self.spread(node, None, &bytes),
            Output::Gossip { .. } => {}
            Output::Store(write) => self.nodes[node].disk.apply(write),
            Output::Notify(change) => self.check(node, &change),
        }
    }

    fn spread(&mut self, node: usize, from: Option<usize>, bytes: &[u8]) {
        for to in self.neighbours(node).into_iter().filter(|to| Some(*to) != from) {
            if self.is_lost() || !self.nodes[to].heard.insert(Digest::of(bytes)) {
                continue;
            }
            self.order += 1;
            let ticket = Ticket(self.order);
            self.nodes[to].tickets.insert(ticket, (bytes.to_vec(), node));
            self.send(to, Input::Gossip { from: Peer(node as u64), ticket, bytes: bytes.to_vec() });
        }
    }

    /// No author's number falls, unless it is frozen at or below.
    fn check(&mut self, node: usize, change: &Change) {
        let (Change::Feed { org } | Change::Frozen { org, .. }) = change else { return };
        let here = &mut self.nodes[node];
        let registry = here.registry.as_ref().unwrap();
        let Some(number) = registry.feed(*org).map(|feed| feed.number()) else { return };
        let before = here.shown.insert(*org, number);
        let frozen = registry.proofs().any(|proof| proof.org() == *org);
        if !frozen {
            assert!(before <= Some(number), "seed {}: node {node} fell from {before:?} to {number:?}", self.seed);
        }
    }

    fn record(&mut self, node: usize, output: &Output) {
        let line = match output {
            Output::Ask { peer, request } => format!("{} {node} ask {peer:?} {request:?}", self.ms),
            Output::Answer { ticket, .. } => format!("{} {node} answer {ticket:?}", self.ms),
            Output::Judge { ticket, verdict } => format!("{} {node} {ticket:?} {verdict:?}", self.ms),
            Output::Gossip { bytes } => format!("{} {node} gossip {}", self.ms, Digest::of(bytes)),
            Output::Store(write) => format!("{} {node} store {write:?}", self.ms),
            Output::Notify(change) => format!("{} {node} {change:?}", self.ms),
        };
        self.trace = Digest::of_parts(&[self.trace.as_bytes(), line.as_bytes()]);
    }

    fn honest(&self) -> impl Iterator<Item = (usize, &Registry)> {
        self.nodes[..LIAR]
            .iter()
            .enumerate()
            .map(|(n, node)| (n, node.registry.as_ref().expect("all are up at the end")))
    }
}

impl Disk {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Feed { org, head, frames } => {
                let frames = frames.into_iter().map(|(digest, bytes)| (digest, bytes.to_vec())).collect();
                self.feeds.insert(org, (head, frames));
            }
            Write::Drop { org } => {
                self.feeds.remove(&org);
            }
            Write::Proof { org, epoch, first, second } => {
                self.proofs.insert((org, epoch), (first, second));
            }
            Write::Frame { org, digest, bytes } => {
                if let Some((_, frames)) = self.feeds.get_mut(&org) {
                    frames.insert(digest, bytes.to_vec());
                }
            }
            Write::Roster { .. } => {}
        }
    }
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn check(seed: u64, gossip: bool) {
    let mut world = World::new(seed, gossip);
    world.run();
    assert!(world.lost > 100, "seed {seed}: the network was too kind");
    let liar = world.nodes[LIAR].org.id;
    let (_, first) = world.honest().next().unwrap();
    let root = first.vector_root();
    let fork: Vec<_> = first.proofs().map(|proof| (proof.org(), proof.number())).collect();
    for (n, registry) in world.honest() {
        assert_eq!(registry.vector_root(), root, "seed {seed}: node {n} shows something else");
        // Where it forked is the lowest number that anyone has both contents of; 3 is where the faces parted.
        let forked = registry.proofs().map(|proof| (proof.org(), proof.number())).collect::<Vec<_>>();
        assert_eq!(forked, fork, "seed {seed}: node {n} froze the liar elsewhere");
        assert!(forked.len() == 1 && forked[0].0 == liar && forked[0].1 >= (1, 3), "seed {seed}: node {n} {forked:?}");
        let agreed = registry.feed(liar).map(|feed| feed.number());
        assert!(agreed.is_none_or(|agreed| agreed < forked[0].1), "seed {seed}: node {n} shows {agreed:?}");
        for author in &world.nodes[..LIAR] {
            let shown = registry.feed(author.org.id).map(|feed| feed.head.seq);
            assert_eq!(shown, Some(author.published), "seed {seed}: node {n} is behind {}", author.org.name());
        }
    }
}

#[test]
fn with_gossip_the_honest_agree_and_the_liar_is_frozen() {
    (1..=6).for_each(|seed| check(seed, true));
}

#[test]
fn without_gossip_they_agree_as_well() {
    (11..=16).for_each(|seed| check(seed, false));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::new(seed, true);
        world.run();
        world.trace
    };
    assert_eq!(trace(42), trace(42));
    assert_ne!(trace(42), trace(43));
}
