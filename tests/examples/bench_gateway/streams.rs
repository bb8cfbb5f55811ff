//! Streams held open at once: how many, before a frame comes late; what they take in memory.
//!
//! Each stream speaks 20 tokens a second, and each token says when it was due at the upstream, so whatever is late is late by
//! all of the way: upstream, server, caller. All three share the machine. The same is asked of nginx, and straight of the upstream,
//! which shows what the rig itself can do.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use comity_tests::doors::alone;
use comity_tests::{Federation, Holder, Owner};
use comity_wire::ModelId;
use comity_wire::object::DoorKind;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::callers::{Caller, Receipts, Target};
use crate::nginx::Nginx;
use crate::paced::{self, PACE, now_us};
use crate::process;
use crate::rig::{BUDGET, PACED, PRICE, RATES, Upstream};

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) node: Most,
    pub(crate) nginx: Most,
    pub(crate) direct: Most,
    /// The node's memory before any stream, and the most with a thousand.
    pub(crate) before_mb: f64,
    pub(crate) thousand_mb: f64,
}

/// The most that were held, and how late the latest frame of them was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Most {
    pub(crate) held: usize,
    pub(crate) worst_ms: f64,
    /// Frames that were judged, over all tries.
    pub(crate) frames: usize,
}

/// # Errors
/// Where a stream does not come up or breaks.
pub(crate) async fn measure() -> Result<Found, String> {
    let upstream = Upstream::start(PACED).await?;
    let nginx = Nginx::start(upstream.address())?;
    let mut node = Node::start(&upstream).await?;
    let id = node.id();
    let before_mb = process::resident_mb(id);
    let mut thousand_mb: f64 = 0.0;
    let requests = node.requests(THOUSAND);
    hold(&node.door.clone(), requests, || thousand_mb = thousand_mb.max(process::resident_mb(id))).await?;
    eprintln!("{THOUSAND} streams: {thousand_mb:.1} MB, {before_mb:.1} before");
    let (door, proxy, straight) = (node.door.clone(), nginx.door(), Target::plain(upstream.address()));
    let found = Found {
        node: most("the node", &door, |count| node.requests(count)).await?,
        nginx: most(&nginx.version, &proxy, |count| node.samples(count)).await?,
        direct: most("the upstream itself", &straight, |count| node.samples(count)).await?,
        before_mb,
        thousand_mb,
    };
    node.federation.end().await;
    Ok(found)
}

const THOUSAND: usize = 1_000;
/// The search begins here, and goes no further than that.
const FIRST: usize = 500;
const CEILING: usize = 4_000;
/// Found to within this share.
const WITHIN: usize = 10;
/// A count is held where at least so many of the tries had no late frame; what else the machine does spoils some.
const GOOD: usize = 2;
const TRIES: usize = 3;

/// Doubles while all are held, then halves the distance.
async fn most(what: &str, target: &Target, mut requests: impl FnMut(usize) -> Vec<Vec<u8>>) -> Result<Most, String> {
    let (mut most, mut beyond, mut count) = (Most::default(), None, FIRST);
    loop {
        let (mut good, mut worst_ms) = (0, 0_f64);
        for tried in 1..=TRIES {
            let watch = hold(target, requests(count), || {}).await?;
            let held = watch.held(count);
            eprintln!(
                "{what}: {count} streams {}held, {} of {} frames late, the latest by {:.1} ms",
                if held { "" } else { "not " },
                watch.late,
                watch.frames,
                watch.worst_ms
            );
            most.frames += watch.frames;
            if held {
                (good, worst_ms) = (good + 1, worst_ms.max(watch.worst_ms));
            }
            if good == GOOD || tried - good > TRIES - GOOD {
                break;
            }
        }
        if good == GOOD {
            (most.held, most.worst_ms) = (count, worst_ms);
        } else {
            beyond = Some(count);
        }
        count = match beyond {
            None if count == CEILING => return Ok(most),
            None => (count * 2).min(CEILING),
            Some(beyond) if beyond - most.held <= (beyond / WITHIN).max(WITHIN) => return Ok(most),
            Some(beyond) => usize::midpoint(most.held, beyond),
        };
    }
}

/// A node whose owner allows streams of minutes and as many as there are.
struct Node {
    federation: Federation,
    holder: Holder,
    model: ModelId,
    door: Target,
    /// The next number of each lane.
    seqs: Vec<u64>,
    next_lane: usize,
}

const LANES: u16 = 256;

impl Node {
    async fn start(upstream: &Upstream) -> Result<Self, String> {
        eprintln!("starting a federation whose node takes streams by the thousand");
        let lab = Owner { name: "lab", upstream: upstream.url(), rates: RATES };
        let mut federation =
            Federation::start_with(std::slice::from_ref(&lab), alone(DoorKind::Https), |name, home| {
                if name == lab.name {
                    allow_many(home);
                }
            })
            .await;
        let client = federation.client("bench");
        let model = lab.model();
        let holder = Holder::mint(&federation, &client, &model, BUDGET, LANES).await;
        let door = &federation.service("lab").ready.door;
        let address = door.trim_start_matches("https://").parse();
        let address = address.map_err(|_| format!("error: the node's door is {door:?}"))?;
        let door = Target::door(address, &holder.transport_keys, Receipts::Demanded);
        let (seqs, next_lane) = (vec![1; usize::from(LANES)], 0);
        let mut node = Self { federation, holder, model, door, seqs, next_lane };
        // With the token, which the node then knows.
        let first = node.signed(1).http1();
        Caller::connect(&node.door).await?.listen(&first, |_| {}).await?;
        Ok(node)
    }

    fn id(&mut self) -> u32 {
        self.federation.service("lab").id()
    }

    fn requests(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.signed(tokens(count)).known().http1()).collect()
    }

    /// As large as a signed one, for those who look at no signature.
    fn samples(&self, count: usize) -> Vec<Vec<u8>> {
        vec![self.holder.sign_stream(&self.model, 0, self.seqs[0], PRICE, tokens(count)).known().http1(); count]
    }

    fn signed(&mut self, tokens: u32) -> comity_tests::holder::Signed {
        let lane = self.next_lane;
        self.next_lane = (lane + 1) % self.seqs.len();
        let seq = self.seqs[lane];
        self.seqs[lane] += 1;
        let lane = u16::try_from(lane).expect("few lanes");
        self.holder.sign_stream(&self.model, lane, seq, PRICE, tokens)
    }
}

/// What a harness's owner does not allow: a thousand calls of a project at once, answers of minutes, more calls than a
/// node takes by default.
fn allow_many(home: &Path) {
    let path = home.join("models/model.toml");
    let offer = std::fs::read_to_string(&path).expect("the harness wrote it");
    let many = offer
        .replace("output_tokens_max = 64", "output_tokens_max = 4_096")
        .replace("context_length = 256", "context_length = 8_192")
        .replace("concurrency = 256", "concurrency = 0")
        .replace("probe = false", "probe = false\nslots = 8_192");
    std::fs::write(path, many).expect("a file that can be written");
    std::fs::write(home.join("node.toml"), "[gateway]\nin_flight_max = 8_192\n").expect("a folder of ours");
}

/// A frame later than this is late.
const LATE: Duration = Duration::from_millis(50);
/// How long all of them are watched once all are open.
const WATCHED: Duration = Duration::from_secs(4);
/// From the last one's first token until they are watched.
const SETTLED: Duration = Duration::from_millis(500);
/// Streams opened in a second: connections, handshakes and signatures are not what is measured here.
const OPENED_PER_S: u32 = 400;
/// Streams of one address: a node takes 1,024 connections of each.
const PER_ADDRESS: usize = 500;

/// How many tokens streams of this many have to speak for all to be watched, also where they open late.
fn tokens(count: usize) -> u32 {
    let spoken = ramp(count).mul_f64(1.5) + SETTLED + WATCHED + Duration::from_secs(3);
    u32::try_from(spoken.as_millis() / PACE.as_millis()).expect("minutes of tokens")
}

fn ramp(count: usize) -> Duration {
    Duration::from_secs_f64(count as f64 / f64::from(OPENED_PER_S))
}

/// What came while all were open.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    open: usize,
    /// From then on all are judged.
    from_us: Option<u64>,
    frames: usize,
    late: usize,
    worst_ms: f64,
}

impl Watch {
    /// No frame was late, and each stream spoke all the while: one that opened too late to do so is one that was not held.
    fn held(&self, count: usize) -> bool {
        let due = count * usize::try_from(WATCHED.as_millis() / PACE.as_millis()).expect("some");
        self.late == 0 && self.frames >= due - count
    }

    fn is_judged(&self, at_us: u64) -> bool {
        self.from_us.is_some_and(|from| (from..from + us(WATCHED)).contains(&at_us))
    }

    fn opened(&mut self, count: usize) {
        self.open += 1;
        if self.open == count {
            self.from_us = Some(now_us() + us(SETTLED));
        }
    }

    fn heard(&mut self, due_us: u64) {
        if self.is_judged(due_us) {
            let late_us = now_us().saturating_sub(due_us);
            self.frames += 1;
            self.late += usize::from(late_us > us(LATE));
            self.worst_ms = self.worst_ms.max(late_us as f64 / 1e3);
        }
    }
}

/// Opens a stream for each request, one after another, and watches all of them together; `look` is called now and then while
/// all are open. They end by themselves.
///
/// # Errors
/// Where one does not come up or breaks.
async fn hold(target: &Target, requests: Vec<Vec<u8>>, mut look: impl FnMut()) -> Result<Watch, String> {
    let count = requests.len();
    let watch = RefCell::new(Watch::default());
    let started = Instant::now();
    let one = |(at, request): (usize, Vec<u8>)| {
        let watch = &watch;
        async move {
            tokio::time::sleep_until((started + ramp(at)).into()).await;
            let source = u8::try_from(at / PER_ADDRESS + 1).expect("few enough for one byte");
            let mut caller = Caller::connect_from(target, Ipv4Addr::new(127, 0, 0, source)).await?;
            let mut is_open = false;
            caller
                .listen(&request, |frame| {
                    let mut watch = watch.borrow_mut();
                    if !std::mem::replace(&mut is_open, true) {
                        watch.opened(count);
                    }
                    if let Some(due_us) = paced::due_us(frame) {
                        watch.heard(due_us);
                    }
                })
                .await
        }
    };
    let mut running: FuturesUnordered<_> = requests.into_iter().enumerate().map(one).collect();
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            ended = running.next() => match ended {
                Some(ended) => ended?,
                None => break,
            },
            _ = looks.tick() => if watch.borrow().is_judged(now_us()) { look() },
        }
    }
    drop(running);
    Ok(watch.into_inner())
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("minutes")
}
