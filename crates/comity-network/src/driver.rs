//! The one task that owns the swarm and the replica. It turns swarm events into inputs and outputs into calls; what to
//! believe and what to ask for is decided in comity-registry.

mod admit;
mod dial;
mod own;
mod perform;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_registry::roster::NotTheNext;
use comity_registry::{Input, Peer, Put, Registry, Ticket};
use comity_wire::object::{AnchorRole, Door, Manifest, NodeCertificate};
use comity_wire::{Digest, NodeId, OrgId, Timestamp, Verified};
use futures::stream::{FuturesUnordered, StreamExt as _};
use libp2p::gossipsub::{IdentTopic, MessageId};
use libp2p::identity::Keypair;
use libp2p::request_response::ResponseChannel;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot, watch};

use crate::behaviour::{self, Behaviour};
use crate::config::Config;
use crate::line::Shared;
use crate::replica::Replica;
use crate::store::Store;
use crate::{Clock, Entropy, Failpoint, Identity, Parts, PublishError, Published, StartError, Writer, gossip};

use dial::Dialler;
use own::{Said, Step};

/// What others ask of the task.
pub(crate) enum Command {
    Publish {
        set: Put,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    Announce {
        doors: Vec<Door>,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    /// From now on this process may write our feed, with others that do.
    Share {
        writer: Writer,
        shared: Shared,
    },
    /// Takes over what others have written of our feed.
    Look {
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    Fetch {
        digest: Digest,
        reply: oneshot::Sender<Option<Verified<Manifest>>>,
    },
    Roster {
        bytes: Vec<u8>,
        reply: oneshot::Sender<Result<(), NotTheNext>>,
    },
    /// The admitted peer that is this node.
    Peer {
        node: NodeId,
        reply: oneshot::Sender<Option<PeerId>>,
    },
    /// The hub of the roster that this peer was admitted as.
    Hub {
        peer: PeerId,
        reply: oneshot::Sender<Option<NodeId>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// A publication on its way.
type Committing = futures::future::BoxFuture<'static, Step>;
type Reply = oneshot::Sender<Result<Published, PublishError>>;

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    registry: Registry,
    replica: Arc<Replica>,
    store: Store,
    config: Config,
    identity: Identity,
    node: NodeId,
    org: OrgId,
    clock: Clock,
    entropy: Entropy,
    failpoint: Failpoint,
    dialler: Dialler,
    guests: HashMap<PeerId, Guest>,
    members: BTreeMap<Peer, Member>,
    next_peer: u64,
    next_ticket: u64,
    /// Gossip that waits for its verdict; gossipsub forgets it after 12 seconds, and so do we.
    judging: VecDeque<(Ticket, Instant, MessageId, PeerId)>,
    replying: HashMap<Ticket, ResponseChannel<Vec<u8>>>,
    fetching: HashMap<Digest, Vec<oneshot::Sender<Option<Verified<Manifest>>>>>,
    /// At most one publication is being written; the others wait. Of those that put nothing only others' are looked for.
    committing: FuturesUnordered<Committing>,
    committed: Option<Reply>,
    waiting: VecDeque<(Option<Said>, Option<Reply>)>,
    /// Where our feed is numbered, when other processes write it too.
    shared: Option<Shared>,
    doors: Option<Vec<Door>>,
    /// Our newest head, while nobody has been there to hear it.
    unsaid: Option<Vec<u8>>,
    next_compare: Instant,
    /// While a head has no source: when everybody is asked for it again, and how long until the time after that.
    hunt: Option<(Instant, Duration)>,
    tell: Tell,
}

/// What the outside watches.
pub(crate) struct Tell {
    pub(crate) peers: watch::Sender<Vec<NodeId>>,
    pub(crate) turned_away: watch::Sender<u64>,
}

/// A connected peer.
struct Guest {
    since: Instant,
    admitted: Option<Peer>,
    /// Refused; it is closed once it was told.
    refused: bool,
    /// We have hung up; the connection may take a moment to go.
    closing: bool,
}

struct Member {
    peer: PeerId,
    org: OrgId,
    node: NodeId,
    /// Gossip reaches a newcomer only once it is in a mesh, some heartbeats after hello: what was said in between is
    /// found by a second comparison.
    settles: Option<Instant>,
    /// How long until a comparison that failed is made again.
    retry: Duration,
}

/// Two heartbeats and the delay before the first.
const SETTLING: Duration = Duration::from_millis(2_500);

/// After a sync request that was not answered: doubled each time, until one is.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Gossip messages that may wait for a verdict at once; the oldest is given up.
const JUDGING_MAX: usize = 1024;
const JUDGING: Duration = Duration::from_secs(12);
/// Publications that may wait; a further one is refused.
const WAITING_MAX: usize = 64;
const TICK_MAX: Duration = Duration::from_millis(250);
/// Heads expire after 7 days; a new one is signed each day.
const RENEW_S: u64 = 24 * 3600;

impl Driver {
    pub(crate) fn new(
        config: Config,
        identity: Identity,
        own: &NodeCertificate,
        registry: Registry,
        replica: Arc<Replica>,
        parts: &Parts<'_>,
        store: Store,
        tell: Tell,
    ) -> Result<Self, StartError> {
        let failed = |reason: String| StartError::Transport { reason };
        let key = Keypair::ed25519_from_bytes(*identity.transport.seed()).map_err(|error| failed(error.to_string()))?;
        let federation = registry.roster().federation;
        let swarm = behaviour::swarm(key, &config, federation).map_err(failed)?;
        let dialler = Dialler::new(&config)?;
        Ok(Self {
            swarm,
            topic: gossip::topic(federation),
            registry,
            replica,
            store,
            identity,
            node: own.node,
            org: own.org,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            failpoint: Arc::clone(&parts.failpoint),
            dialler,
            guests: HashMap::new(),
            members: BTreeMap::new(),
            next_peer: 0,
            next_ticket: 0,
            judging: VecDeque::new(),
            replying: HashMap::new(),
            fetching: HashMap::new(),
            committing: FuturesUnordered::new(),
            committed: None,
            waiting: VecDeque::new(),
            shared: None,
            doors: None,
            unsaid: None,
            next_compare: Instant::now() + config.sync_interval(),
            hunt: None,
            tell,
            config,
        })
    }

    /// Listens on every configured address and waits until each has one. More addresses of the same listener (one for
    /// each interface) follow as they come.
    pub(crate) async fn listen(&mut self) -> Result<Vec<String>, StartError> {
        let mut open = Vec::new();
        for address in self.config.listen.clone() {
            let parsed: Multiaddr = address.parse().map_err(|_| StartError::Address { address: address.clone() })?;
            let listener = self.swarm.listen_on(parsed);
            let listener =
                listener.map_err(|error| StartError::Listen { address: address.clone(), reason: error.to_string() })?;
            open.push((listener, address));
        }
        let mut local = Vec::new();
        while !open.is_empty() {
            match self.swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    local.push(address.to_string());
                    open.retain(|(id, _)| *id != listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    if let Some((_, address)) = open.into_iter().find(|(id, _)| *id == listener_id) {
                        let reason = reason.err().map_or_else(|| "it was closed".to_owned(), |error| error.to_string());
                        return Err(StartError::Listen { address, reason });
                    }
                    return Err(StartError::Listen { address: String::new(), reason: "it was closed".to_owned() });
                }
                event => self.swarm_event(event).await,
            }
        }
        Ok(local)
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let period = TICK_MAX.min(self.config.sync_interval() / 2);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                biased;
                Some(step) = self.committing.next() => self.step(step).await,
                command = commands.recv() => match command {
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    Some(command) => self.command(command).await,
                    None => break None,
                },
                _ = tick.tick() => self.tick().await,
                event = self.swarm.select_next_some() => self.swarm_event(event).await,
            }
            self.perform().await;
        };
        while let Some(step) = self.committing.next().await {
            self.step(step).await;
        }
        let Self { swarm, store, .. } = self;
        drop(swarm);
        store.close().await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Publish { set, reply } => self.publish(Some(Said::Objects(set)), Some(reply)).await,
            Command::Look { reply } => self.publish(None, Some(reply)).await,
            Command::Share { writer, shared } => {
                self.identity.writer = Some(writer);
                self.shared = Some(shared);
            }
            Command::Announce { doors, reply } => {
                self.doors = Some(doors.clone());
                self.publish(Some(Said::Doors(doors)), Some(reply)).await;
            }
            Command::Fetch { digest, reply } => match self.registry.manifest(&digest) {
                Some(manifest) => {
                    let _ = reply.send(Some(manifest));
                }
                None => {
                    self.fetching.entry(digest).or_default().push(reply);
                    self.input(Input::Wanted { digest });
                }
            },
            Command::Roster { bytes, reply } => {
                let _ = reply.send(self.registry.roster_step(&bytes));
            }
            Command::Peer { node, reply } => {
                let peer = self.members.values().find(|member| member.node == node).map(|member| member.peer);
                let _ = reply.send(peer);
            }
            Command::Hub { peer, reply } => {
                let _ = reply.send(self.hub(&peer));
            }
            Command::Shutdown { .. } => unreachable!("the loop takes it"),
        }
    }

    fn hub(&self, peer: &PeerId) -> Option<NodeId> {
        let node = self.members.values().find(|member| member.peer == *peer)?.node;
        let is_hub = self.registry.roster().anchors_of(AnchorRole::Hub).any(|anchor| anchor.node == node);
        is_hub.then_some(node)
    }

    /// Opens and accepts `/comity/door/1`.
    pub(crate) fn door_control(&self) -> libp2p_stream::Control {
        self.swarm.behaviour().door.new_control()
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn fail(&self, point: &'static str) {
        (self.failpoint)(point);
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.registry.handle(now, input);
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        self.close_strangers(now);
        self.dial(now);
        self.judging.retain(|(_, since, ..)| now.duration_since(*since) < JUDGING);
        self.fetching.retain(|_, replies| {
            replies.retain(|reply| !reply.is_closed());
            !replies.is_empty()
        });
        if let Some(bytes) = self.unsaid.take() {
            self.say(bytes);
        }
        let settled = |(peer, member): (&Peer, &mut Member)| {
            let due = member.settles.take_if(|at| *at <= now).is_some();
            due.then_some(*peer)
        };
        let settled: Vec<Peer> = self.members.iter_mut().filter_map(settled).collect();
        settled.into_iter().for_each(|peer| self.input(Input::Compare { peer }));
        if now >= self.next_compare || self.hunts(now) {
            self.next_compare = now + self.jitter(self.config.sync_interval());
            let peers: Vec<Peer> = self.members.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.input(Input::Compare { peer }));
        }
        self.renew().await;
    }

    /// Whether it is time to look for somebody who has what a head names, its teller being gone.
    fn hunts(&mut self, now: Instant) -> bool {
        if !self.registry.lacks_a_source() {
            self.hunt = None;
            return false;
        }
        let (at, wait) = self.hunt.unwrap_or((now, RETRY));
        let is_due = at <= now;
        self.hunt = Some(if is_due { (now + wait, (wait * 2).min(RETRY_MAX)) } else { (at, wait) });
        is_due
    }

    /// Half to one and a half of a duration.
    fn jitter(&self, around: Duration) -> Duration {
        around.mul_f64(0.5 + ((self.entropy)() % 1_000) as f64 / 1_000.0)
    }
}
