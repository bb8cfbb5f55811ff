//! Real swarms on loopback: what one member publishes the others come to hold, and strangers stay outside.
//!
//! Nothing sleeps: each test waits for the directory or the peers to change, within a deadline.

#[path = "../../comity-registry/tests/support/mod.rs"]
mod support;

#[path = "shared/line.rs"]
mod line;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use comity_network::{Config, Hub, Identity, Network, NoDoor, Parts, PublishSet, Role, Writer, no_failpoint};
use comity_token::Directory as _;
use comity_wire::api::node::{HeadsReply, SearchReply};
use comity_wire::object::{Door, DoorKind, Revocation, RevocationList, RevokedKind};
use comity_wire::{Digest, SecretKey, cose};
use http_body_util::BodyExt as _;
use support::{Org, START, org, roster, roster_with_hubs};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tower::ServiceExt as _;

const DEADLINE: Duration = Duration::from_secs(20);
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// Longer than any test: what arrives was said, not found by comparing.
const NEVER_MS: u64 = 3_600_000;

fn clock() -> comity_network::Clock {
    Arc::new(|| START.plus(5))
}

fn config(listen: &[&str], hubs: &[(String, &Org)]) -> Config {
    Config {
        listen: listen.iter().map(ToString::to_string).collect(),
        hubs: hubs.iter().map(|(address, org)| Hub { address: address.clone(), node: org.node }).collect(),
        sync_interval_ms: NEVER_MS,
        hello_timeout_ms: 500,
        redial_ms: 50,
        ..Config::default()
    }
}

async fn start(org: &Org, config: Config, roster: &[u8], store: &Path) -> Network {
    let identity = Identity {
        transport: org.transport.clone(),
        certificate: org.signed_certificate(),
        writer: Some(Writer { certificate: org.writer_certificate(1), key: org.writer.clone() }),
    };
    let parts =
        Parts { roster: roster.to_vec(), store, clock: clock(), entropy: Arc::new(|| 500), failpoint: no_failpoint() };
    Network::start(config, identity, parts).await.expect("it starts")
}

/// Waits until `holds`, looking again at each change.
async fn until<T>(mut changes: watch::Receiver<T>, what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            changes.changed().await.expect("the network runs");
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} did not happen in time"));
}

async fn sees(network: &Network, author: &Org, seq: u64) {
    let replica = Arc::clone(network.replica());
    let what = format!("{} {seq}", author.name());
    until(network.changed(), &what, || replica.feed(author.id).is_some_and(|feed| feed.head.seq >= seq)).await;
}

async fn has_peers(network: &Network, count: usize) {
    let peers = network.peers();
    until(network.peers(), "peers", || peers.borrow().len() == count).await;
}

struct Federation {
    orgs: Vec<Org>,
    roster: Vec<u8>,
    dir: TempDir,
    hub: Network,
    nodes: Vec<Network>,
}

impl Federation {
    /// A hub and three nodes; the last one speaks QUIC.
    async fn start(gossip: bool, sync_interval_ms: u64) -> Self {
        let orgs: Vec<Org> = (1..=4).map(org).collect();
        let roster = roster(1, &orgs.iter().collect::<Vec<_>>());
        let dir = tempfile::tempdir().unwrap();
        let common = |config: Config| Config { gossip, sync_interval_ms, ..config };
        let hub_config = common(Config { role: Role::Hub, ..config(&[TCP, QUIC], &[]) });
        let hub = start(&orgs[0], hub_config, &roster, &dir.path().join("hub.db")).await;
        let mut nodes = Vec::new();
        for (n, org) in orgs.iter().enumerate().skip(1) {
            let address = hub.local_addrs()[usize::from(n == 3)].clone();
            let config = common(config(&[if n == 3 { QUIC } else { TCP }], &[(address, &orgs[0])]));
            nodes.push(start(org, config, &roster, &dir.path().join(format!("{n}.db"))).await);
        }
        has_peers(&hub, 3).await;
        for node in &nodes {
            has_peers(node, 1).await;
        }
        Self { orgs, roster, dir, hub, nodes }
    }

    fn all(&self) -> impl Iterator<Item = &Network> {
        self.nodes.iter().chain([&self.hub])
    }

    async fn end(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
        self.hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_publishes_reaches_all_by_gossip_over_tcp_and_quic() {
    let federation = Federation::start(true, NEVER_MS).await;
    let (author, orgs) = (&federation.nodes[0], &federation.orgs);
    let door = Door { kind: DoorKind::Https, address: "https://127.0.0.1:4433".try_into().unwrap() };
    let first = author.announce(vec![door]).await.unwrap();
    assert_eq!((first.epoch, first.seq), (1, 1));
    for network in federation.all() {
        sees(network, &orgs[1], 1).await;
        let directory = network.directory();
        assert_eq!(directory.certificate(orgs[1].node).unwrap().bytes(), orgs[1].signed_certificate());
        assert_eq!(directory.announcement(orgs[1].node).unwrap().doors[0].address.as_str(), "https://127.0.0.1:4433");
    }
    // The first may have been found by the comparison that follows hello. From here on nobody compares: the leaf behind
    // QUIC and the hub are heard by gossip or not at all.
    for number in 1..=3 {
        federation.nodes[2].publish(orgs[3].put(number, START)).await.unwrap();
        federation.hub.publish(orgs[0].put(number, START)).await.unwrap();
        for network in federation.all() {
            sees(network, &orgs[3], number).await;
            sees(network, &orgs[0], number).await;
        }
    }
    let root = federation.hub.replica().vector_root();
    assert!(federation.all().all(|network| network.replica().vector_root() == root));
    federation.end().await;
}

/// A caller keeps the announcement of the latest date, so that nobody shows it an older one: two of one second must have two dates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doors_that_change_twice_within_a_second_are_told_apart() {
    let author = org(1);
    let (roster, dir) = (roster(1, &[&author]), tempfile::tempdir().unwrap());
    let network = start(&author, config(&[TCP], &[]), &roster, &dir.path().join("one.db")).await;
    let announce = async |address: &str| {
        let door = Door { kind: DoorKind::Https, address: address.try_into().unwrap() };
        network.announce(vec![door]).await.unwrap();
        network.replica().announcement(author.node).unwrap()
    };
    let (first, second) = (announce("https://127.0.0.1:1").await, announce("https://127.0.0.1:2").await);
    assert!(first.issued_at < second.issued_at, "the clock stands still");
    let caller = comity_token::directory::File::new(&roster).unwrap();
    let certificate = network.replica().certificate(author.node).unwrap();
    caller.insert(&author.writer_certificate(1)).unwrap();
    for bytes in [certificate.bytes(), first.bytes(), second.bytes()] {
        caller.insert(bytes).unwrap();
    }
    assert_eq!(caller.announcement(author.node).unwrap().doors[0].address.as_str(), "https://127.0.0.1:2");
    network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_gossip_comparing_is_enough_and_a_revocation_list_spreads() {
    let federation = Federation::start(false, 100).await;
    let (author, orgs) = (&federation.nodes[1], &federation.orgs);
    author.publish(orgs[2].put(1, START)).await.unwrap();
    let token = Revocation { kind: RevokedKind::Token, subject: "tok-x".try_into().unwrap(), at: START };
    let list =
        RevocationList { org: orgs[2].id, number: 2, issued_at: START, entries: vec![token].try_into().unwrap() };
    let list = cose::sign(&list, &orgs[2].writer).bytes().to_vec();
    author.publish(PublishSet { objects: vec![list], remove: Vec::new() }).await.unwrap();
    for network in federation.all() {
        sees(network, &orgs[2], 2).await;
        let standing = network.directory().standing(orgs[2].id).unwrap();
        assert!(standing.number == 2 && standing.contains(RevokedKind::Token, "tok-x"));
    }
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_catches_up_and_goes_on_from_its_own_number() {
    let mut federation = Federation::start(true, NEVER_MS).await;
    let orgs = &federation.orgs;
    let path = federation.dir.path().join("1.db");
    let sleeper = federation.nodes.remove(0);
    sleeper.publish(orgs[1].put(1, START)).await.unwrap();
    sees(&federation.hub, &orgs[1], 1).await;
    sleeper.shutdown().await;
    has_peers(&federation.hub, 2).await;
    federation.nodes[0].publish(orgs[2].put(1, START)).await.unwrap();
    federation.nodes[0].publish(orgs[2].put(2, START)).await.unwrap();
    sees(&federation.hub, &orgs[2], 2).await;
    let address = federation.hub.local_addrs()[0].clone();
    let woken = start(&orgs[1], config(&[TCP], &[(address, &orgs[0])]), &federation.roster, &path).await;
    // Its own feed came back from disk, before anyone was asked.
    assert_eq!(woken.replica().feed(orgs[1].id).unwrap().head.seq, 1);
    sees(&woken, &orgs[2], 2).await;
    assert_eq!(woken.publish(orgs[1].put(2, START)).await.unwrap().seq, 2);
    sees(&federation.nodes[1], &orgs[1], 2).await;
    woken.shutdown().await;
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_closed_and_hear_nothing() {
    let (hub_org, member, stranger) = (org(1), org(2), org(3));
    let dir = tempfile::tempdir().unwrap();
    let pinned = roster(1, &[&hub_org, &member]);
    let hub_config = Config { role: Role::Hub, sync_interval_ms: 100, ..config(&[TCP], &[]) };
    let hub = start(&hub_org, hub_config, &pinned, &dir.path().join("hub.db")).await;
    hub.publish(hub_org.put(1, START)).await.unwrap();
    let address = hub.local_addrs()[0].clone();
    // One is of no organisation on the hub's roster; one signs as a member with a key that is not the member's.
    let impostor = Org { key: SecretKey::from_seed([77; 32]), transport: stranger.transport.clone(), ..org(2) };
    let theirs = roster(1, &[&hub_org, &member, &stranger]);
    let forged = roster(1, &[&hub_org, &impostor]);
    let outsiders = [(1, "stranger", &stranger, theirs), (2, "impostor", &impostor, forged)];
    for (closed, case, org, roster) in outsiders {
        let config = Config { redial_ms: NEVER_MS, ..config(&[TCP], &[(address.clone(), &hub_org)]) };
        let outside = start(org, config, &roster, &dir.path().join(format!("{case}.db"))).await;
        let turned_away = hub.turned_away();
        until(hub.turned_away(), case, || *turned_away.borrow() == closed).await;
        let peers = outside.peers();
        until(outside.peers(), "closed", || peers.borrow().is_empty()).await;
        assert!(hub.peers().borrow().is_empty(), "{case}");
        assert!(outside.replica().feed(hub_org.id).is_none(), "{case} got the hub's feed");
        outside.shutdown().await;
    }
    // A member is let in by the same hub.
    let inside = start(&member, config(&[TCP], &[(address, &hub_org)]), &pinned, &dir.path().join("member.db")).await;
    sees(&inside, &hub_org, 1).await;
    inside.shutdown().await;
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_roster_spreads_and_lets_a_new_organisation_in() {
    let (hub_org, old, new) = (org(1), org(2), org(3));
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (roster(1, &[&hub_org, &old]), roster(2, &[&hub_org, &old, &new]));
    let hub_config = Config { role: Role::Hub, sync_interval_ms: 100, ..config(&[TCP], &[]) };
    let hub = start(&hub_org, hub_config, &one, &dir.path().join("hub.db")).await;
    let address = hub.local_addrs()[0].clone();
    let node_config = || Config { sync_interval_ms: 100, ..config(&[TCP], &[(address.clone(), &hub_org)]) };
    let node = start(&old, node_config(), &one, &dir.path().join("old.db")).await;
    has_peers(&hub, 1).await;
    // The newcomer pins version 2, which the hub hears of only later, from its operator.
    let newcomer = start(&new, node_config(), &two, &dir.path().join("new.db")).await;
    hub.roster(two.clone()).await.unwrap();
    has_peers(&hub, 2).await;
    newcomer.publish(new.put(1, START)).await.unwrap();
    sees(&node, &new, 1).await;
    assert_eq!(node.directory().roster().version, 2);
    assert!(hub.roster(roster(2, &[&hub_org])).await.is_err());
    for network in [newcomer, node, hub] {
        network.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_answers_searches_and_fetches_manifests_on_demand() {
    let federation = Federation::start(true, NEVER_MS).await;
    let (author, orgs, hub) = (&federation.nodes[0], &federation.orgs, &federation.hub);
    let owner = &orgs[1];
    let manifest = cose::sign(&owner.manifest("tiny"), &owner.writer);
    let mut summary = owner.summary("tiny", "Tiny chat", "Answers short questions about weather.");
    summary.manifest = manifest.id();
    let summary = cose::sign(&summary, &owner.writer);
    let objects = vec![manifest.bytes().to_vec(), summary.bytes().to_vec(), owner.tariff(1)];
    author.publish(PublishSet { objects, remove: Vec::new() }).await.unwrap();
    sees(hub, owner, 1).await;

    let routes = hub.routes(clock());
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let reply = routes.clone().oneshot(request).await.unwrap();
        (reply.status(), reply.into_body().collect().await.unwrap().to_bytes())
    };
    let (status, body) = get("/comity/v1/search?q=weather&op=chat&limit=5").await;
    assert_eq!(status, StatusCode::OK);
    let reply: SearchReply = serde_json::from_slice(&body).unwrap();
    assert_eq!((reply.total, reply.hits[0].model.as_str(), reply.hits[0].head_age_s), (1, "org2/tiny", 0));
    assert_eq!(&reply.hits[0].summary[..], summary.bytes());
    let shown = reply.hits[0].head.as_ref().expect("a hit comes with its author's head");
    let told = comity_registry::verify::head(&shown.head, &shown.writer, &hub.directory().roster()).unwrap();
    assert_eq!(told.0.org, owner.id);
    assert_eq!(reply.as_of, hub.replica().vector_root());
    let (_, body) = get("/comity/v1/search?q=nothing").await;
    assert_eq!(serde_json::from_slice::<SearchReply>(&body).unwrap().total, 0);
    assert_eq!(get("/comity/v1/search?bogus=1").await.0, StatusCode::BAD_REQUEST);

    let (_, body) = get("/comity/v1/heads").await;
    let heads: HeadsReply = serde_json::from_slice(&body).unwrap();
    assert_eq!(heads.heads.len(), 1);
    for (org, count) in [("org2", 1), ("org1", 0), ("nobody", 0)] {
        let (_, body) = get(&format!("/comity/v1/heads?org={org}")).await;
        assert_eq!(serde_json::from_slice::<HeadsReply>(&body).unwrap().heads.len(), count, "{org}");
    }
    assert_eq!(get("/comity/v1/heads?bogus=1").await.0, StatusCode::BAD_REQUEST);
    let (_, roster_bytes) = get("/comity/v1/roster").await;
    assert_eq!(roster_bytes, federation.roster);
    // As the SDK does: head, then index, then what the index names.
    let roster = hub.directory().roster();
    let (head, writer) = comity_registry::verify::head(&heads.heads[0].head, &heads.heads[0].writer, &roster).unwrap();
    let (_, index) = get(&format!("/comity/v1/frames/{}", head.index)).await;
    let index = comity_registry::verify::index(&index, &head).unwrap();
    assert_eq!(index.entries.len(), 3);
    // The hub holds no manifest until someone asks.
    let model = "org2/tiny".parse().unwrap();
    assert!(hub.directory().manifest(&model).is_none());
    let (status, bytes) = get(&format!("/comity/v1/frames/{}", manifest.id())).await;
    assert_eq!(status, StatusCode::OK);
    let entry = index.entries.iter().find(|entry| entry.id == manifest.id()).unwrap();
    comity_registry::verify::entry(entry, &bytes, roster.organisation(owner.id).unwrap(), &writer.key).unwrap();
    assert_eq!(hub.directory().manifest(&model).unwrap().id(), manifest.id());
    sees(&federation.nodes[1], owner, 1).await;
    assert_eq!(federation.nodes[1].fetch_manifest(manifest.id()).await.unwrap().id(), manifest.id());
    let nothing = Digest::of(b"nobody has this");
    assert_eq!(get(&format!("/comity/v1/frames/{nothing}")).await.0, StatusCode::NOT_FOUND);
    assert!(hub.fetch_manifest(nothing).await.is_none());
    assert!(
        hub.directory().tariff(&index.entries.iter().find(|e| e.subject.as_str() == "standard").unwrap().id).is_some()
    );
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_of_the_roster_opens_streams_to_a_node_that_only_dials_out_and_nobody_else_does() {
    let (hub_org, member, other) = (org(1), org(2), org(3));
    let dir = tempfile::tempdir().unwrap();
    let pinned = roster_with_hubs(1, &[&hub_org, &member, &other], &[&hub_org]);
    let hub_config = Config { role: Role::Hub, ..config(&[TCP], &[]) };
    let hub = start(&hub_org, hub_config, &pinned, &dir.path().join("hub.db")).await;
    let none = hub.doors().open(member.node).await.map(|_| ());
    assert!(matches!(none, Err(NoDoor::NotConnected(node)) if node == member.node));

    // Both listen nowhere.
    let address = hub.local_addrs()[0].clone();
    let node = start(&member, config(&[], &[(address.clone(), &hub_org)]), &pinned, &dir.path().join("2.db")).await;
    assert_eq!(node.local_addrs(), [] as [&str; 0]);
    has_peers(&hub, 1).await;
    has_peers(&node, 1).await;
    assert!(matches!(hub.doors().open(member.node).await, Err(NoDoor::Open(_))), "it takes no calls yet");

    let mut taken = node.doors().accept().unwrap();
    assert!(node.doors().accept().is_err(), "one at a time");
    // Many at once: none is missed, and each is a stream of its own.
    let opening = (0..20_u8).map(|number| {
        let doors = hub.doors();
        tokio::spawn(async move {
            let mut stream = doors.open(org(2).node).await.expect("a stream");
            stream.write_all(&[number]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert_eq!(back, [number, number + 100]);
        })
    });
    let opening: Vec<_> = opening.collect();
    for _ in 0..20 {
        let (from, mut stream) = taken.recv().await.unwrap();
        assert_eq!(from, hub_org.node);
        tokio::spawn(async move {
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            stream.write_all(&[said[0], said[0] + 100]).await.unwrap();
            stream.shutdown().await.unwrap();
        });
    }
    for opened in opening {
        opened.await.unwrap();
    }

    // A member that is no hub is hung up on, also where the node is connected to it.
    let listens = start(&other, config(&[TCP], &[]), &pinned, &dir.path().join("3.db")).await;
    let both = [(address, &hub_org), (listens.local_addrs()[0].clone(), &other)];
    node.shutdown().await;
    let node = start(&member, config(&[], &both), &pinned, &dir.path().join("2.db")).await;
    has_peers(&listens, 1).await;
    has_peers(&node, 2).await;
    let mut taken = node.doors().accept().unwrap();
    let refused = listens.doors().open(member.node).await.map(|_| ());
    assert!(matches!(refused, Err(NoDoor::NotTaken)), "{refused:?}");
    assert!(taken.try_recv().is_err());
    for network in [node, listens, hub] {
        network.shutdown().await;
    }
}
