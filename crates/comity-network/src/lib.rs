//! The libp2p shell: gossip, sync and admission between members; drives the registry and keeps its store.
//!
//! One task owns the swarm and the replica (`driver`); everyone else talks to it through bounded channels and reads the
//! [`Replica`], the `Directory` over what was verified. It promises that only certified nodes of roster organisations get
//! gossip or sync, and that a head of our own is on disk before anyone hears of it. Leaves to others: money, tokens,
//! the HTTP listener ([`Network::routes`] is mounted by the composition root).
#![forbid(unsafe_code)]

mod behaviour;
mod codec;
mod config;
mod door;
mod driver;
mod gossip;
mod hello;
mod line;
mod replica;
mod routes;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comity_registry::message::FRAME_BYTES_MAX;
use comity_registry::publish::{CannotAdopt, CannotPublish};
use comity_registry::{Registry, roster::NotTheNext};
use comity_token::Directory;
use comity_wire::object::{Door, Manifest};
use comity_wire::{Digest, NodeId, SecretKey, Timestamp, Verified};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use comity_registry::Put as PublishSet;
pub use config::{Config, Hub, Role};
pub use door::{DoorStream, Doors, NoDoor};
pub use line::{Line, Newest, Numbered, Shared};
pub use replica::Replica;

use driver::{Command, Driver};

/// Reads the wall clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// 64 random bits; only schedules depend on them.
pub type Entropy = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Called at named points. Does nothing in a node; a crash test's own binary ends the process in it.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The hook of everything that is not a crash test.
pub fn no_failpoint() -> Failpoint {
    Arc::new(|_| {})
}

/// Who this node is.
pub struct Identity {
    /// libp2p's identity; named by the certificate.
    pub transport: SecretKey,
    /// A signed `NodeCertificate`.
    pub certificate: Vec<u8>,
    /// Where this node publishes its organisation's feed.
    pub writer: Option<Writer>,
}

pub struct Writer {
    /// A signed `WriterCertificate`.
    pub certificate: Vec<u8>,
    pub key: SecretKey,
}

/// What the composition root brings.
pub struct Parts<'a> {
    /// The pinned roster file.
    pub roster: Vec<u8>,
    /// The store's file; made where it is missing.
    pub store: &'a Path,
    pub clock: Clock,
    pub entropy: Entropy,
    pub failpoint: Failpoint,
}

/// A running network. Dropping it and its routes without [`Network::shutdown`] ends it too,
/// without waiting.
pub struct Network {
    commands: mpsc::Sender<Command>,
    doors: Doors,
    replica: Arc<Replica>,
    peers: watch::Receiver<Vec<NodeId>>,
    turned_away: watch::Receiver<u64>,
    local: Vec<String>,
    ended: CancellationToken,
    task: JoinHandle<()>,
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("pinned roster is no trust root")]
    Roster { source: NotTheNext },
    #[error("our own certificate would not be admitted")]
    Certificate { source: comity_registry::NotAdmitted },
    #[error("cannot open the network store")]
    Store { source: sqlx::Error },
    #[error("'{address}' is not a multiaddress")]
    Address { address: String },
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("cannot set up libp2p: {reason}")]
    Transport { reason: String },
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    #[error("this node has no writer key; publish where your organisation's feed is written")]
    NoWriter,
    #[error(transparent)]
    Refused(#[from] CannotPublish),
    #[error("head could not be written to disk, and was not said: {reason}")]
    Store { reason: String },
    #[error("head was not numbered where all processes of this feed number theirs, and was not said: {reason}")]
    Line { reason: String },
    #[error(transparent)]
    Adopt(#[from] CannotAdopt),
    #[error("nothing is published, since the next number is not certain: {why}")]
    Unsure { why: String },
    #[error("network has shut down")]
    Closed,
}

/// A head that is on disk and was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub epoch: u32,
    pub seq: u64,
    pub head: Digest,
}

impl Network {
    /// Commands that wait for the swarm's task; callers beyond wait too.
    const COMMANDS_MAX: usize = 256;

    /// Opens the store, restores the replica, listens, and dials the configured hubs. Returns once every listener has
    /// its address. Not cancel safe: a dropped start leaves listeners to the runtime's end.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, identity: Identity, parts: Parts<'_>) -> Result<Self, StartError> {
        let opened = store::Store::open(parts.store, Arc::clone(&parts.failpoint)).await;
        let (store, stored) = opened.map_err(|source| StartError::Store { source })?;
        let mut registry = Registry::start(&parts.roster, stored).map_err(|source| StartError::Roster { source })?;
        let now = (parts.clock)();
        let key = identity.transport.public();
        let own =
            registry.admit(now, &identity.certificate, &key).map_err(|source| StartError::Certificate { source })?;
        let replica = Arc::new(Replica::new(&registry));
        let (commands, inbox) = mpsc::channel(Self::COMMANDS_MAX);
        let (peers, peers_watch) = watch::channel(Vec::new());
        let (turned_away, turned_away_watch) = watch::channel(0);
        let tell = driver::Tell { peers, turned_away };
        let mut driver = Driver::new(config, identity, &own, registry, Arc::clone(&replica), &parts, store, tell)?;
        let local = driver.listen().await?;
        let doors = Doors::new(commands.clone(), driver.door_control());
        let ended = CancellationToken::new();
        let ends = ended.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _ends = ends;
            driver.run(inbox).await;
        });
        Ok(Self { commands, doors, replica, peers: peers_watch, turned_away: turned_away_watch, local, ended, task })
    }

    /// The read handle on everything that was verified. Cheap to clone; it outlives the network.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.replica) as Arc<dyn Directory>
    }

    /// As [`Network::directory`], with search and heads beside it.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The directory's version, each time it rises.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.replica.changed()
    }

    /// The admitted peers' nodes, each time they change.
    pub fn peers(&self) -> watch::Receiver<Vec<NodeId>> {
        self.peers.clone()
    }

    /// Resolves once the network's task has ended, also where it did so by a fault: nothing is heard or said from then on.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }

    /// How many peers were closed because they were not admitted.
    pub fn turned_away(&self) -> watch::Receiver<u64> {
        self.turned_away.clone()
    }

    /// The multiaddresses this node listens on, with the ports it was given.
    pub fn local_addrs(&self) -> &[String] {
        &self.local
    }

    /// Adds to, and withdraws from, our organisation's feed: one new head, on disk before it is said. A dropped call may
    /// still publish.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, set: PublishSet) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Publish { set, reply }).await.map_err(|()| PublishError::Closed)?;
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Publishes this node's certificate and the doors it can be reached at; renewed daily.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn announce(&self, doors: Vec<Door>) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Announce { doors, reply }).await.map_err(|()| PublishError::Closed)?;
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    /// From now on writes our organisation's feed together with other processes. Without it, and without [`Identity::writer`], nothing
    /// is published from here.
    pub async fn share(&self, writer: Writer, shared: Shared) {
        let _ = self.send(Command::Share { writer, shared }).await;
    }

    /// Takes over what other processes have published of our feed, and says it again; the newest head.
    ///
    /// # Errors
    /// [`PublishError`], also where nothing was published yet.
    pub async fn look(&self) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Look { reply }).await.map_err(|()| PublishError::Closed)?;
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    /// A manifest by the digest its summary names, from here or from whoever has it. `None` where no peer does.
    pub async fn fetch_manifest(&self, digest: Digest) -> Option<Verified<Manifest>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Fetch { digest, reply }).await.ok()?;
        tokio::time::timeout(Self::FETCH_TIMEOUT, answer).await.ok()?.ok()?
    }

    const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

    /// Takes the next roster file; peers get it by sync.
    ///
    /// # Errors
    /// [`NotTheNext`]; also where the network has shut down, as a wrong version.
    pub async fn roster(&self, bytes: Vec<u8>) -> Result<(), NotTheNext> {
        let (reply, answer) = oneshot::channel();
        let closed = || NotTheNext::Version { given: 0, expected: self.replica.roster().version + 1 };
        self.send(Command::Roster { bytes, reply }).await.map_err(|()| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Streams for calls, between a hub and a node that has dialled it.
    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// `/comity/v1/{search,heads,frames,roster}`.
    pub fn routes(&self, clock: Clock) -> axum::Router {
        routes::router(Arc::clone(&self.replica), clock, self.commands.clone())
    }

    /// Closes connections, writes what is queued, and ends.
    pub async fn shutdown(self) {
        let (reply, done) = oneshot::channel();
        if self.send(Command::Shutdown { reply }).await.is_ok() {
            let _ = done.await;
        }
        let _ = self.task.await;
    }

    async fn send(&self, command: Command) -> Result<(), ()> {
        self.commands.send(command).await.map_err(|_| ())
    }
}

/// Frames on `/comity/sync/1` and `/comity/hello/1` are no larger.
const _: () = assert!(FRAME_BYTES_MAX <= 8 * 1024 * 1024);
