//! The replica: takes inputs, gives outputs, holds everything that was verified.

mod admission;
mod answer;
mod own;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use comity_wire::object::{EntryKind, Head, Manifest, NodeCertificate, Roster, WriterCertificate};
use comity_wire::{Digest, NodeId, OrgId, Signed, Timestamp, Verified};

pub use admission::NotAdmitted;

use crate::feed::{Complete, Feed, Pending, SignedHead};
use crate::held::Held;
use crate::message::{Hello, Reply, Request};
use crate::proof::{self, Proof};
use crate::publish::Publication;
use crate::roster::{Chain, NotTheNext};
use crate::verify::{self, HeadPair, Refused};

use sync::Link;

/// A connected, admitted replica, as the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// Names a gossip message that waits for its verdict, or a request that waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the shell has to tell.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer was admitted, as a node of this organisation.
    Joined {
        peer: Peer,
        org: OrgId,
    },
    Left {
        peer: Peer,
    },
    /// It is time to compare with a peer.
    Compare {
        peer: Peer,
    },
    /// A peer asks.
    Asked {
        peer: Peer,
        ticket: Ticket,
        request: Request,
    },
    /// A peer answered our one open request.
    Answered {
        peer: Peer,
        reply: Reply,
    },
    /// Our one open request to a peer came to nothing.
    Failed {
        peer: Peer,
    },
    /// A head came by gossip.
    Gossip {
        from: Peer,
        ticket: Ticket,
        bytes: Vec<u8>,
    },
    /// A publication of our own is on disk.
    Published(Publication),
    /// An operator brings a newer roster file.
    Roster {
        bytes: Vec<u8>,
    },
    /// Someone here needs an object that is not replicated.
    Wanted {
        digest: Digest,
    },
}

/// What the shell has to do, in order.
#[derive(Clone, Debug)]
pub enum Output {
    Ask {
        peer: Peer,
        request: Request,
    },
    Answer {
        ticket: Ticket,
        reply: Reply,
    },
    /// A verdict on a gossip message; the shell passes on what is accepted.
    Judge {
        ticket: Ticket,
        verdict: Verdict,
    },
    /// A head of our own.
    Gossip {
        bytes: Vec<u8>,
    },
    Store(Write),
    Notify(Change),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// True, new, and we can serve what it names.
    Accept,
    /// Known, old, frozen, or not ours to judge yet.
    Ignore,
    /// Nobody honest passes this on.
    Reject,
}

/// One atomic change of the store.
#[derive(Clone, Debug)]
pub enum Write {
    Roster {
        version: u64,
        bytes: Arc<[u8]>,
    },
    /// Replaces what is stored of an author.
    Feed {
        org: OrgId,
        head: SignedHead,
        frames: Vec<(Digest, Arc<[u8]>)>,
    },
    /// An author left, or was frozen before anything agreed.
    Drop {
        org: OrgId,
    },
    /// An object fetched on demand.
    Frame {
        org: OrgId,
        digest: Digest,
        bytes: Arc<[u8]>,
    },
    Proof {
        org: OrgId,
        epoch: u32,
        first: SignedHead,
        second: SignedHead,
    },
}

/// What changed, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Roster {
        version: u64,
    },
    Feed {
        org: OrgId,
    },
    Frozen {
        org: OrgId,
        epoch: u32,
        seq: u64,
    },
    /// A manifest arrived.
    Object {
        digest: Digest,
    },
    /// Nobody we asked has this object.
    Unavailable {
        digest: Digest,
    },
    /// A certificate became known by hello.
    Certificate {
        node: NodeId,
    },
}

/// What a store gives back at the start.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Ascending; versions up to the pinned one are passed over.
    pub rosters: Vec<Vec<u8>>,
    pub feeds: Vec<StoredFeed>,
    pub proofs: Vec<(SignedHead, SignedHead)>,
}

#[derive(Clone, Debug)]
pub struct StoredFeed {
    pub head: SignedHead,
    pub frames: BTreeMap<Digest, Vec<u8>>,
}

/// A replica of the federation.
#[derive(Debug)]
pub struct Registry {
    chain: Chain,
    feeds: BTreeMap<OrgId, Feed>,
    links: BTreeMap<Peer, Link>,
    /// On-demand objects, by digest, with the peers that were asked and did not say no.
    wanted: BTreeMap<Digest, BTreeSet<Peer>>,
    /// Certificates that were shown at hello: a feed that is behind does not lock a member out.
    /// Shown at hello. An organisation's word on a node never displaces another's.
    greeted: BTreeMap<(OrgId, NodeId), Verified<NodeCertificate>>,
    out: VecDeque<Output>,
}

/// What became of a head that someone showed us.
#[derive(Debug)]
enum Considered {
    Accepted(OrgId),
    /// The one we are fetching.
    Pending(OrgId),
    /// The one we show.
    Current,
    /// Older than what we have, or behind a fork.
    Passed,
    Forked,
    Refused(Refused),
}

impl Registry {
    /// Objects that may be awaited at once; a further wish is told that it is unavailable.
    const WANTED_MAX: usize = 256;
    const GREETED_MAX: usize = 8192;

    /// Starts from the pinned roster file and what was stored. Everything is verified again; what does not stand is left
    /// out, and comes back from others.
    ///
    /// # Errors
    /// [`NotTheNext`] where the pinned file is no trust root.
    pub fn start(pinned: &[u8], stored: Stored) -> Result<Self, NotTheNext> {
        let mut chain = Chain::pinned(pinned)?;
        for step in &stored.rosters {
            // A step that was pinned over, or that does not follow, is passed over: the chain's own rules decide.
            let _ = chain.advance(step);
        }
        let mut registry = Self {
            chain,
            feeds: BTreeMap::new(),
            links: BTreeMap::new(),
            wanted: BTreeMap::new(),
            greeted: BTreeMap::new(),
            out: VecDeque::new(),
        };
        for (first, second) in &stored.proofs {
            if let Ok(Some(proof)) = Proof::verify(first, second, registry.roster()) {
                registry.feeds.entry(proof.org()).or_default().freeze(proof);
            }
        }
        for feed in stored.feeds {
            registry.restore(feed);
        }
        Ok(registry)
    }

    fn restore(&mut self, stored: StoredFeed) {
        let roster = Arc::clone(self.chain.roster());
        let Ok(pair) = verify::head(&stored.head.head, &stored.head.writer, &roster) else { return };
        let Some(organisation) = roster.organisation(pair.0.org) else { return };
        let feed = self.feeds.entry(organisation.id).or_default();
        if feed.is_frozen_at(pair.0.number()) {
            return;
        }
        let writer = pair.1.key;
        let mut pending = Pending::new(pair, None);
        let index = pending.pair.0.index;
        if let Some(bytes) = stored.frames.get(&index) {
            let _ = pending.supply(&index, bytes, organisation);
        }
        for (digest, bytes) in &stored.frames {
            if let Ok(false) = pending.supply(digest, bytes, organisation)
                && let Ok(held) = Held::verify(EntryKind::Tariff, bytes, &[writer])
                && held.org() == organisation.id
                && !pending.objects.contains_key(digest)
            {
                feed.archive.push_back(held.shared());
            }
        }
        match pending.complete() {
            Some(complete) => feed.current = Some(Arc::new(complete)),
            None => feed.pending = Some(pending),
        }
    }

    /// Takes an input. Outputs follow from [`Registry::poll`].
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Joined { peer, org } => {
                self.links.insert(peer, Link::of(org));
                self.compare(peer);
            }
            Input::Left { peer } => self.left(peer),
            Input::Compare { peer } => self.compare(peer),
            Input::Asked { peer, ticket, request } => {
                let reply = self.answer(&request);
                if let Reply::Objects { missing, .. } = &reply {
                    self.want_for(peer, missing);
                }
                self.out.push_back(Output::Answer { ticket, reply });
            }
            Input::Answered { peer, reply } => self.answered(now, peer, reply),
            Input::Failed { peer } => self.failed(peer),
            Input::Gossip { from, ticket, bytes } => self.gossip(now, from, ticket, &bytes),
            Input::Published(publication) => self.published(publication),
            Input::Roster { bytes } => {
                let _ = self.roster_step(&bytes);
            }
            Input::Wanted { digest } => self.want(digest),
        }
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub fn roster(&self) -> &Arc<Roster> {
        self.chain.roster()
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// An author's newest complete head and what belongs to it.
    pub fn feed(&self, org: OrgId) -> Option<&Arc<Complete>> {
        self.feeds.get(&org)?.current.as_ref()
    }

    /// All complete feeds, by organisation.
    pub fn feeds(&self) -> impl Iterator<Item = (OrgId, &Arc<Complete>)> {
        self.feeds.iter().filter_map(|(org, feed)| Some((*org, feed.current.as_ref()?)))
    }

    /// Tariffs that an author withdrew and tokens may still pin.
    pub fn archived(&self, org: OrgId) -> impl Iterator<Item = &Arc<Held>> {
        self.feeds.get(&org).into_iter().flat_map(|feed| &feed.archive)
    }

    pub fn proofs(&self) -> impl Iterator<Item = &Proof> {
        self.feeds.values().flat_map(|feed| feed.proofs.values())
    }

    /// An organisation's node's certificate, from its feed or from hello: the one of the newest restore and date.
    pub fn certificate(&self, org: OrgId, node: NodeId) -> Option<Verified<NodeCertificate>> {
        let published = self.feed(org).and_then(|current| {
            current.objects.values().find_map(|held| match &**held {
                Held::NodeCertificate(certificate) if certificate.node == node => Some(certificate.clone()),
                _ => None,
            })
        });
        let greeted = self.greeted.get(&(org, node)).cloned();
        [published, greeted]
            .into_iter()
            .flatten()
            .max_by_key(|certificate| (certificate.restore, certificate.not_before))
    }

    pub fn greeted(&self) -> impl Iterator<Item = &Verified<NodeCertificate>> {
        self.greeted.values()
    }

    /// An index by its SHA-256, an object by its content id.
    pub fn frame(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.feeds.values().find_map(|feed| feed.frame(digest))
    }

    /// Digest over roster and all complete heads: equal on two replicas exactly where they show the same.
    pub fn vector_root(&self) -> Digest {
        let mut bytes = self.chain.digest().0.to_vec();
        for organisation in &self.roster().organisations {
            match self.feed(organisation.id) {
                None => bytes.extend_from_slice(&[0; 44]),
                Some(current) => {
                    bytes.extend_from_slice(&current.head.epoch.to_be_bytes());
                    bytes.extend_from_slice(&current.head.seq.to_be_bytes());
                    bytes.extend_from_slice(current.head.id().as_bytes());
                }
            }
        }
        Digest::of(&bytes)
    }

    fn hello(&self) -> Hello {
        Hello {
            federation: self.roster().federation,
            roster_version: self.chain.version(),
            vector_root: self.vector_root(),
            proofs_root: proof::root(self.proofs()),
        }
    }

    fn gossip(&mut self, now: Timestamp, from: Peer, ticket: Ticket, bytes: &[u8]) {
        let considered = match SignedHead::from_gossip(bytes) {
            Ok(head) => self.consider(now, &head, from),
            Err(_) => return self.judge(ticket, Verdict::Reject),
        };
        match considered {
            Considered::Accepted(org) | Considered::Pending(org) => {
                let feed = self.feeds.get_mut(&org).expect("an accepted head has a feed");
                match &mut feed.pending {
                    // The verdict waits for the objects: we pass on what we can serve.
                    Some(pending) => pending.tickets.push(ticket),
                    None => return self.judge(ticket, Verdict::Accept),
                }
                self.fetch(org, from);
            }
            // Sync was quicker than gossip; those behind us may still wait for it.
            Considered::Current => self.judge(ticket, Verdict::Accept),
            Considered::Passed | Considered::Forked => self.judge(ticket, Verdict::Ignore),
            Considered::Refused(refused) if refused.is_lag() => {
                self.judge(ticket, Verdict::Ignore);
                self.compare(from);
            }
            Considered::Refused(Refused::Ahead { .. } | Refused::Expired { .. }) => self.judge(ticket, Verdict::Ignore),
            Considered::Refused(_) => self.judge(ticket, Verdict::Reject),
        }
    }

    fn judge(&mut self, ticket: Ticket, verdict: Verdict) {
        self.out.push_back(Output::Judge { ticket, verdict });
    }

    /// The acceptance rule (spec/03-manifest.md §2).
    fn consider(&mut self, now: Timestamp, signed: &SignedHead, from: Peer) -> Considered {
        // Cheap first: the same bytes come many times.
        let Ok(claimed) = Signed::<Head>::decode(&signed.head) else {
            return self.checked(signed).map_or_else(Considered::Refused, |_| Considered::Passed);
        };
        let (org, number, id) = (claimed.unverified().org, claimed.unverified().number(), claimed.id());
        if let Some(feed) = self.feeds.get_mut(&org)
            && feed.holds(&id)
        {
            if let Some(pending) = feed.pending.as_mut().filter(|pending| pending.pair.0.id() == id) {
                pending.sources.insert(from);
                return Considered::Pending(org);
            }
            let current = feed.current.as_ref().is_some_and(|current| current.head.id() == id);
            return if current { Considered::Current } else { Considered::Passed };
        }
        if self.chain.expired(now).is_err() {
            return Considered::Passed;
        }
        let pair = match self.checked(signed) {
            Ok(pair) => pair,
            Err(refused) => return Considered::Refused(refused),
        };
        let feed = self.feeds.entry(org).or_default();
        if let Some(proof) = feed.contradiction(&pair) {
            self.freeze(proof);
            return Considered::Forked;
        }
        if let Err(refused) = verify::fresh(&pair.0, now) {
            return Considered::Refused(refused);
        }
        if feed.is_frozen_at(number) || feed.highest() >= Some(number) {
            return Considered::Passed;
        }
        self.accept(pair, from);
        Considered::Accepted(org)
    }

    fn checked(&self, signed: &SignedHead) -> Result<HeadPair, Refused> {
        verify::head(&signed.head, &signed.writer, self.roster())
    }

    fn accept(&mut self, pair: HeadPair, from: Peer) {
        let org = pair.0.org;
        let feed = self.feeds.entry(org).or_default();
        let mut pending = Pending::new(pair, feed.current.as_deref());
        pending.sources.insert(from);
        if let Some(before) = feed.pending.replace(pending) {
            before.tickets.into_iter().for_each(|ticket| self.judge(ticket, Verdict::Ignore));
        }
        self.finish(org);
    }

    /// Shows an author's pending head where nothing is missing any more.
    fn finish(&mut self, org: OrgId) {
        let Some(feed) = self.feeds.get_mut(&org) else { return };
        let Some(complete) = feed.pending.as_mut().and_then(Pending::complete) else { return };
        let pending = feed.pending.take().expect("it was complete");
        let complete = Arc::new(complete);
        feed.show(Arc::clone(&complete));
        let write = feed_write(&complete, feed.archive.iter());
        self.out.push_back(Output::Store(write));
        self.out.push_back(Output::Notify(Change::Feed { org }));
        pending.tickets.into_iter().for_each(|ticket| self.judge(ticket, Verdict::Accept));
    }

    fn freeze(&mut self, proof: Proof) {
        let (org, (epoch, seq)) = (proof.org(), proof.number());
        let feed = self.feeds.entry(org).or_default();
        let before = feed.current.as_ref().map(|current| current.number());
        let (first, second) = proof.heads();
        let write = Write::Proof { org, epoch, first: first.clone(), second: second.clone() };
        if !feed.freeze(proof) {
            return;
        }
        if feed.pending.as_ref().is_some_and(|pending| feed.is_frozen_at(pending.pair.0.number())) {
            let pending = feed.pending.take().expect("it is there");
            pending.tickets.into_iter().for_each(|ticket| self.judge(ticket, Verdict::Ignore));
        }
        self.out.push_back(Output::Store(write));
        let feed = self.feeds.get(&org).expect("it was just frozen");
        match &feed.current {
            Some(current) if Some(current.number()) != before => {
                self.out.push_back(Output::Store(feed_write(current, feed.archive.iter())));
            }
            None if before.is_some() => self.out.push_back(Output::Store(Write::Drop { org })),
            _ => {}
        }
        self.out.push_back(Output::Notify(Change::Frozen { org, epoch, seq }));
        self.compare_all();
    }

    /// One step of the roster. What the new one does not vouch for is dropped.
    pub fn roster_step(&mut self, bytes: &[u8]) -> Result<(), NotTheNext> {
        self.chain.advance(bytes)?;
        let roster = Arc::clone(self.chain.roster());
        let stands = |org: &OrgId, feed: &Feed| {
            let organisation = roster.organisation(*org);
            let signed = |writer: &Verified<WriterCertificate>| organisation.is_some_and(|o| o.key == *writer.signer());
            let current = feed.current.as_ref().is_none_or(|current| signed(&current.writer));
            organisation.is_some() && current && feed.pending.as_ref().is_none_or(|pending| signed(&pending.pair.1))
        };
        let gone: Vec<OrgId> =
            self.feeds.iter().filter(|(org, feed)| !stands(org, feed)).map(|(org, _)| *org).collect();
        let version = self.chain.version();
        self.out.push_back(Output::Store(Write::Roster { version, bytes: bytes.into() }));
        for org in gone {
            let tickets = self.feeds.remove(&org).and_then(|feed| feed.pending).map(|pending| pending.tickets);
            tickets.into_iter().flatten().for_each(|ticket| self.judge(ticket, Verdict::Ignore));
            self.out.push_back(Output::Store(Write::Drop { org }));
            self.out.push_back(Output::Notify(Change::Feed { org }));
        }
        self.greeted.retain(|_, certificate| {
            roster.organisation(certificate.org).is_some_and(|organisation| organisation.key == *certificate.signer())
        });
        self.out.push_back(Output::Notify(Change::Roster { version }));
        self.compare_all();
        Ok(())
    }

    /// The manifest of a model, where it was published here or fetched.
    pub fn manifest(&self, digest: &Digest) -> Option<Verified<Manifest>> {
        self.feeds().find_map(|(_, current)| match current.objects.get(digest).map(|held| &**held) {
            Some(Held::Manifest(manifest)) => Some(manifest.clone()),
            _ => None,
        })
    }
}

fn is_tariff(held: &Arc<Held>) -> bool {
    matches!(**held, Held::Tariff(_))
}

fn feed_write<'a>(complete: &Complete, archive: impl Iterator<Item = &'a Arc<Held>>) -> Write {
    let frame = |held: &Arc<Held>| (held.id(), Arc::from(held.bytes()));
    let mut frames: BTreeMap<Digest, Arc<[u8]>> = archive.map(frame).collect();
    frames.extend(complete.objects.values().map(frame));
    frames.insert(complete.head.index, Arc::clone(&complete.index_bytes));
    Write::Feed { org: complete.head.org, head: SignedHead::of(&complete.pair()), frames: frames.into_iter().collect() }
}
