//! Several processes write one feed, by a line that they share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use comity_network::{
    Config, Identity, Line, Network, Newest, Numbered, Parts, PublishError, Role, Shared, Writer, no_failpoint,
};
use comity_wire::cbor::List;
use comity_wire::{Digest, SecretKey, cose};
use futures::future::BoxFuture;
use tempfile::TempDir;

use super::support::{Org, START, org, roster};
use super::{TCP, clock, config, has_peers, sees, start};

/// A line in memory, with the faults that a test asks for.
#[derive(Default)]
struct Shelf {
    heads: Mutex<Vec<Numbered>>,
    /// It takes what it is given, and says that it could not.
    is_silent: AtomicBool,
}

impl Line for Shelf {
    fn newest(&self, known: Option<Digest>) -> BoxFuture<'_, Result<Newest, String>> {
        let last = self.heads.lock().unwrap().last().cloned();
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(match last {
                None => Newest::Nothing,
                Some(last) if Some(last.id) == known => Newest::Known,
                Some(last) => Newest::Other(last),
            })
        })
    }

    fn append(&self, after: Option<Digest>, next: Numbered) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut heads = self.heads.lock().unwrap();
            if heads.last().map(|last| last.id) != after {
                return Ok(false);
            }
            heads.push(next);
            if self.is_silent.load(Ordering::Relaxed) { Err("no answer".into()) } else { Ok(true) }
        })
    }
}

impl Shelf {
    fn numbers(&self) -> Vec<u64> {
        self.heads.lock().unwrap().iter().map(|head| head.seq).collect()
    }
}

/// A hub, and two processes of one node with a transport key each.
struct Twins {
    hub_org: Org,
    author: Org,
    keys: [SecretKey; 2],
    roster: Vec<u8>,
    dir: TempDir,
    hub: Network,
    line: Arc<Shelf>,
}

impl Twins {
    async fn new() -> Self {
        let (hub_org, author) = (org(1), org(2));
        let roster = roster(1, &[&hub_org, &author]);
        let dir = tempfile::tempdir().unwrap();
        let hub =
            start(&hub_org, Config { role: Role::Hub, ..config(&[TCP], &[]) }, &roster, &dir.path().join("hub.db"))
                .await;
        let keys = [author.transport.clone(), SecretKey::from_seed([77; 32])];
        Self { hub_org, author, keys, roster, dir, hub, line: Arc::default() }
    }

    fn certificate(&self) -> Vec<u8> {
        let mut certificate = self.author.node_certificate();
        certificate.transport_keys = List::new(self.keys.iter().map(SecretKey::public).collect()).unwrap();
        cose::sign(&certificate, &self.author.key).bytes().to_vec()
    }

    /// The first or the second process, from its own store.
    async fn process(&self, at: usize, epoch: u32, may_begin: bool, is_alone: bool) -> Network {
        let config = config(&[TCP], &[(self.hub.local_addrs()[0].clone(), &self.hub_org)]);
        let identity = Identity { transport: self.keys[at].clone(), certificate: self.certificate(), writer: None };
        let store = self.dir.path().join(format!("process-{at}.db"));
        let parts = Parts {
            roster: self.roster.clone(),
            store: &store,
            clock: clock(),
            entropy: Arc::new(|| 500),
            failpoint: no_failpoint(),
        };
        let network = Network::start(config, identity, parts).await.expect("it starts");
        let writer = Writer { certificate: self.author.writer_certificate(epoch), key: self.author.writer.clone() };
        let line: Arc<dyn Line> = self.line.clone();
        network.share(writer, Shared { line, may_begin, is_alone }).await;
        network
    }
}

/// Both write at once; nobody is ever told two things under one number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_write_one_feed() {
    let twins = Twins::new().await;
    let (first, second) = (twins.process(0, 1, true, false).await, twins.process(1, 1, false, false).await);
    has_peers(&twins.hub, 2).await;
    // Only the first one may begin.
    let refused = second.publish(twins.author.put(1, START)).await;
    assert!(matches!(refused, Err(PublishError::Unsure { .. })), "{refused:?}");
    first.publish(twins.author.put(1, START)).await.unwrap();
    for number in 1..=8 {
        let (one, two) = tokio::join!(
            first.publish(twins.author.put(2 * number, START)),
            second.publish(twins.author.put(2 * number + 1, START))
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one.seq, two.seq, "a number of its own for each");
    }
    assert_eq!(twins.line.numbers(), (1..=17).collect::<Vec<_>>());
    for process in [&first, &second] {
        assert_eq!(process.look().await.unwrap().seq, 17);
    }
    let last = twins.line.heads.lock().unwrap().last().unwrap().id;
    for network in [&twins.hub, &first, &second] {
        sees(network, &twins.author, 17).await;
        assert_eq!(network.replica().feed(twins.author.id).unwrap().head.id(), last);
    }
    first.shutdown().await;
    second.shutdown().await;
    twins.hub.shutdown().await;
}

/// A process that dies after its head was numbered has said nothing: the other one says it, and goes on behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_numbered_and_did_not_say_the_other_one_says() {
    let twins = Twins::new().await;
    let (first, second) = (twins.process(0, 1, true, false).await, twins.process(1, 1, false, false).await);
    has_peers(&twins.hub, 2).await;
    first.publish(twins.author.put(1, START)).await.unwrap();
    twins.line.is_silent.store(true, Ordering::Relaxed);
    let unknown = first.publish(twins.author.put(2, START)).await;
    assert!(matches!(unknown, Err(PublishError::Line { .. })), "{unknown:?}");
    assert_eq!(first.replica().feed(twins.author.id).unwrap().head.seq, 1, "what is not certain is not said");
    first.shutdown().await;
    twins.line.is_silent.store(false, Ordering::Relaxed);
    assert_eq!(second.look().await.unwrap().seq, 2);
    sees(&twins.hub, &twins.author, 2).await;
    assert_eq!(second.publish(twins.author.put(3, START)).await.unwrap().seq, 3);
    sees(&twins.hub, &twins.author, 3).await;
    // One that was away all the while goes on from the line too, with a store that knows of number 1.
    let first = twins.process(0, 1, true, false).await;
    assert_eq!(first.publish(twins.author.put(4, START)).await.unwrap().seq, 4);
    first.shutdown().await;
    second.shutdown().await;
    twins.hub.shutdown().await;
}

/// A line that was set back does not know which numbers were said: of several processes none says anything before the next epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_was_set_back_is_not_gone_on_from() {
    let twins = Twins::new().await;
    let first = twins.process(0, 1, true, false).await;
    for number in 1..=3 {
        first.publish(twins.author.put(number, START)).await.unwrap();
    }
    twins.line.heads.lock().unwrap().truncate(1);
    let refused = first.publish(twins.author.put(4, START)).await;
    let Err(PublishError::Unsure { why }) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("number 3") && why.contains("epoch"), "{why}");
    first.shutdown().await;
    // A process without others knows all that was ever said, and goes on from its own store.
    let alone = twins.process(0, 1, true, true).await;
    assert_eq!(alone.publish(twins.author.put(4, START)).await.unwrap().seq, 4);
    alone.shutdown().await;
    twins.line.heads.lock().unwrap().truncate(1);
    // Others begin anew, above all of it.
    let renewed = twins.process(0, 2, true, false).await;
    let published = renewed.publish(twins.author.put(5, START)).await.unwrap();
    assert_eq!((published.epoch, published.seq), (2, 1));
    renewed.shutdown().await;
    twins.hub.shutdown().await;
}
