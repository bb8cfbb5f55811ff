//! Catching up with a peer: compare, then fetch what differs. One request is open for each peer at a time; a request
//! that fails empties the queue, and the next comparison starts over.

use std::collections::VecDeque;

use comity_wire::{Digest, OrgId, Timestamp};

use super::{Change, Considered, Output, Peer, Registry, Write};
use crate::feed::{Complete, SignedHead};
use crate::held::is_replicated;
use crate::message::{DIGESTS_MAX, HEADS_MAX, Hello, Position, Reply, Request};
use crate::proof::Proof;
use crate::verify;

/// The conversation with one peer.
#[derive(Debug)]
pub(super) struct Link {
    org: OrgId,
    open: Option<Request>,
    queue: VecDeque<Request>,
}

impl Link {
    /// Requests that wait for one peer. What is beyond is dropped, and found missing at the next comparison.
    const QUEUE_MAX: usize = 256;

    pub(super) fn of(org: OrgId) -> Self {
        Self { org, open: None, queue: VecDeque::new() }
    }

    /// Whether the peer is asked, now or before.
    fn push(&mut self, request: Request) -> bool {
        if self.open.as_ref() == Some(&request) || self.queue.contains(&request) {
            return true;
        }
        let has_room = self.queue.len() < Self::QUEUE_MAX;
        if has_room {
            self.queue.push_back(request);
        }
        has_room
    }

    /// Forgets what waits; the objects that were asked for.
    fn clear(&mut self) -> Vec<Digest> {
        let asked = |request: Request| match request {
            Request::Objects { digests } => digests,
            _ => Vec::new(),
        };
        self.open.take().into_iter().chain(self.queue.drain(..)).flat_map(asked).collect()
    }
}

impl Registry {
    /// Whether a head is believed and nobody who is here is known to have what it names: who told of it has gone. Somebody else may
    /// have it by now, so it is worth asking before the next comparison is due.
    pub fn lacks_a_source(&self) -> bool {
        self.feeds.values().any(|feed| feed.pending.as_ref().is_some_and(|pending| pending.sources.is_empty()))
    }

    /// Starts a comparison, unless one is waiting already.
    pub(super) fn compare(&mut self, peer: Peer) {
        let hello = Request::Hello(self.hello());
        if let Some(link) = self.links.get_mut(&peer) {
            if !link.queue.iter().any(|request| matches!(request, Request::Hello(_))) {
                link.push(hello);
            }
            self.pump(peer);
        }
    }

    pub(super) fn compare_all(&mut self) {
        let peers: Vec<Peer> = self.links.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.compare(peer));
    }

    fn ask(&mut self, peer: Peer, request: Request) -> bool {
        self.links.get_mut(&peer).is_some_and(|link| link.push(request))
    }

    /// Sends the next request where none is open.
    fn pump(&mut self, peer: Peer) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if link.open.is_none()
            && let Some(request) = link.queue.pop_front()
        {
            link.open = Some(request.clone());
            self.out.push_back(Output::Ask { peer, request });
        }
    }

    pub(super) fn left(&mut self, peer: Peer) {
        self.links.remove(&peer);
        for feed in self.feeds.values_mut() {
            feed.pending.iter_mut().for_each(|pending| {
                pending.sources.remove(&peer);
            });
        }
        self.wanted.values_mut().for_each(|asked| {
            asked.remove(&peer);
        });
        self.give_up();
    }

    pub(super) fn failed(&mut self, peer: Peer) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let digests = link.clear();
        self.refused(peer, &digests);
    }

    pub(super) fn answered(&mut self, now: Timestamp, peer: Peer, reply: Reply) {
        let Some(request) = self.links.get_mut(&peer).and_then(|link| link.open.take()) else { return };
        match (request, reply) {
            (Request::Hello(_), Reply::Hello(theirs)) => self.compared(peer, &theirs),
            (Request::Rosters { .. }, Reply::Rosters { rosters }) => self.rosters(peer, &rosters),
            (Request::Vector { .. }, Reply::Vector { positions, more }) => self.vector(peer, &positions, more),
            (Request::Heads { .. }, Reply::Heads { heads }) => self.heads(now, peer, &heads),
            (Request::Objects { digests }, Reply::Objects { objects, missing }) => {
                self.supplied(peer, &digests, &objects, &missing);
            }
            (Request::Proofs { .. }, Reply::Proofs { proofs, more }) => self.take_proofs(peer, &proofs, more),
            // An answer to something else: the peer is confused. The next comparison starts over.
            (request, _) => {
                if let Request::Objects { digests } = request {
                    self.refused(peer, &digests);
                }
                self.failed(peer);
            }
        }
        self.pump(peer);
    }

    fn compared(&mut self, peer: Peer, theirs: &Hello) {
        let ours = self.hello();
        if theirs.federation != ours.federation {
            return;
        }
        if theirs.roster_version > ours.roster_version {
            self.ask(peer, Request::Rosters { after: ours.roster_version });
        }
        if theirs.proofs_root != ours.proofs_root {
            self.ask(peer, Request::Proofs { after: None });
        }
        if theirs.vector_root != ours.vector_root {
            self.ask(peer, Request::Vector { after: None });
        }
    }

    fn rosters(&mut self, peer: Peer, rosters: &[Vec<u8>]) {
        let before = self.chain.version();
        for bytes in rosters {
            if self.roster_step(bytes).is_err() {
                break;
            }
        }
        if self.chain.version() > before {
            self.ask(peer, Request::Rosters { after: self.chain.version() });
        }
    }

    fn vector(&mut self, peer: Peer, positions: &[Position], more: bool) {
        let mut wanted: Vec<OrgId> = Vec::new();
        for position in positions {
            match self.stands_to(position) {
                Standing::Wanted => wanted.push(position.org),
                Standing::Pending => {
                    let pending = self.feeds.get_mut(&position.org).and_then(|feed| feed.pending.as_mut());
                    pending.expect("it is pending").sources.insert(peer);
                    self.fetch(position.org, peer);
                }
                Standing::Settled => {}
            }
        }
        for orgs in wanted.chunks(HEADS_MAX) {
            self.ask(peer, Request::Heads { orgs: orgs.to_vec() });
        }
        // A peer whose page does not move forward would hold us forever.
        if let Some(last) = positions.last().filter(|_| more && positions.is_sorted_by_key(|position| position.org)) {
            self.ask(peer, Request::Vector { after: Some(last.org) });
        }
    }

    fn stands_to(&self, position: &Position) -> Standing {
        if self.roster().organisation(position.org).is_none() {
            return Standing::Settled;
        }
        let Some(feed) = self.feeds.get(&position.org) else { return Standing::Wanted };
        if feed.is_frozen_at(position.number()) {
            return Standing::Settled;
        }
        let same = |id: Digest, number| number == position.number() && id.0[..8] == position.head;
        if feed.current.as_ref().is_some_and(|current| same(current.head.id(), current.number())) {
            return Standing::Settled;
        }
        if feed.pending.as_ref().is_some_and(|pending| same(pending.pair.0.id(), pending.pair.0.number())) {
            return Standing::Pending;
        }
        // Equal numbers with other contents are wanted too: they are a proof.
        if feed.highest() <= Some(position.number()) { Standing::Wanted } else { Standing::Settled }
    }

    fn heads(&mut self, now: Timestamp, peer: Peer, heads: &[SignedHead]) {
        for head in heads {
            if let Considered::Accepted(org) | Considered::Pending(org) = self.consider(now, head, peer) {
                self.fetch(org, peer);
            }
        }
    }

    /// Asks a peer for what an author's pending head lacks.
    pub(super) fn fetch(&mut self, org: OrgId, peer: Peer) {
        let pending = self.feeds.get(&org).and_then(|feed| feed.pending.as_ref());
        let missing = pending.map(crate::feed::Pending::missing).unwrap_or_default();
        for digests in missing.chunks(DIGESTS_MAX) {
            self.ask(peer, Request::Objects { digests: digests.to_vec() });
        }
        self.pump(peer);
    }

    fn supplied(&mut self, peer: Peer, asked: &[Digest], objects: &[(Digest, Vec<u8>)], missing: &[Digest]) {
        let roster = std::sync::Arc::clone(self.roster());
        let mut touched: Vec<OrgId> = Vec::new();
        for (digest, bytes) in objects.iter().filter(|(digest, _)| asked.contains(digest)) {
            for (org, feed) in &mut self.feeds {
                let Some(organisation) = roster.organisation(*org) else { continue };
                // Wrong bytes for a digest are as good as none: another peer may do better.
                let supplied = feed.pending.as_mut().map(|pending| pending.supply(digest, bytes, organisation));
                if matches!(supplied, Some(Ok(true))) && !touched.contains(org) {
                    touched.push(*org);
                }
            }
            self.found(digest, bytes);
        }
        for org in touched {
            self.finish(org);
            // The index was the first page; its objects are the next.
            let open = self.feeds.get(&org).and_then(|feed| feed.pending.as_ref());
            if open.is_some_and(|pending| pending.index.is_some() && asked.contains(&pending.pair.0.index)) {
                self.fetch(org, peer);
            }
        }
        let rest =
            asked.iter().filter(|digest| !missing.contains(digest) && !objects.iter().any(|(id, _)| id == *digest));
        let rest: Vec<Digest> = rest.copied().collect();
        // A page holds at least one object: who sends none of what it does not lack will not send the rest either.
        if objects.is_empty() {
            self.refused(peer, &rest);
        } else if !rest.is_empty() {
            self.ask(peer, Request::Objects { digests: rest });
        }
        // Whoever lacks it now is no source of it; another one may be.
        for pending in self.feeds.values_mut().filter_map(|feed| feed.pending.as_mut()) {
            if pending.missing().iter().any(|digest| missing.contains(digest)) {
                pending.sources.remove(&peer);
            }
        }
        self.refused(peer, missing);
    }

    fn take_proofs(&mut self, peer: Peer, proofs: &[(SignedHead, SignedHead)], more: bool) {
        let mut last = None;
        for (first, second) in proofs {
            if let Ok(Some(proof)) = Proof::verify(first, second, self.roster()) {
                last = Some((proof.org(), proof.number().0)).max(last);
                self.freeze(proof);
            }
        }
        if let Some(last) = last.filter(|_| more) {
            self.ask(peer, Request::Proofs { after: Some(last) });
        }
    }

    /// Asks every peer for an object that is not replicated.
    pub(super) fn want(&mut self, digest: Digest) {
        if self.frame(&digest).is_some() {
            self.out.push_back(Output::Notify(Change::Object { digest }));
            return;
        }
        let peers: Vec<Peer> = self.links.keys().copied().collect();
        if self.named_by(&digest).is_none() || !self.want_of(digest, &peers) {
            self.out.push_back(Output::Notify(Change::Unavailable { digest }));
        }
    }

    /// A peer asked in vain for objects that are fetched on demand. Their authors may be known here alone, as at a hub: they
    /// are asked, and whoever asks again has an answer. Nobody but the author's own organisation is asked, so that such
    /// wishes do not run through the federation.
    pub(super) fn want_for(&mut self, asker: Peer, missing: &[Digest]) {
        for digest in missing {
            let Some(org) = self.named_by(digest).filter(|_| !self.wanted.contains_key(digest)) else { continue };
            let own = self.links.iter().filter(|(peer, link)| link.org == org && **peer != asker);
            let peers: Vec<Peer> = own.map(|(peer, _)| *peer).collect();
            self.want_of(*digest, &peers);
        }
    }

    /// Whose feed names this as an object that is not replicated.
    fn named_by(&self, digest: &Digest) -> Option<OrgId> {
        let names = |current: &Complete| current.entry_of(digest).is_some_and(|entry| !is_replicated(entry.kind));
        self.feeds().find(|(_, current)| names(current)).map(|(org, _)| org)
    }

    /// Whether anybody was asked.
    fn want_of(&mut self, digest: Digest, peers: &[Peer]) -> bool {
        if self.wanted.len() >= Self::WANTED_MAX && !self.wanted.contains_key(&digest) {
            return false;
        }
        let mut asked = self.wanted.remove(&digest).unwrap_or_default();
        for peer in peers {
            if self.ask(*peer, Request::Objects { digests: vec![digest] }) {
                asked.insert(*peer);
            }
            self.pump(*peer);
        }
        let is_asked = !asked.is_empty();
        if is_asked {
            self.wanted.insert(digest, asked);
        }
        is_asked
    }

    /// An on-demand object came.
    fn found(&mut self, digest: &Digest, bytes: &[u8]) {
        if !self.wanted.contains_key(digest) {
            return;
        }
        let roster = std::sync::Arc::clone(self.roster());
        for (org, feed) in &mut self.feeds {
            let Some(current) = &mut feed.current else { continue };
            let Some(organisation) = roster.organisation(*org) else { continue };
            let Some(entry) = current.entry_of(digest) else { continue };
            let Ok(held) = verify::entry(entry, bytes, organisation, &current.writer.key) else { continue };
            std::sync::Arc::make_mut(current).objects.insert(*digest, held.shared());
            self.wanted.remove(digest);
            self.out.push_back(Output::Store(Write::Frame { org: *org, digest: *digest, bytes: bytes.into() }));
            self.out.push_back(Output::Notify(Change::Object { digest: *digest }));
            return;
        }
    }

    fn refused(&mut self, peer: Peer, missing: &[Digest]) {
        for digest in missing {
            if let Some(asked) = self.wanted.get_mut(digest) {
                asked.remove(&peer);
            }
        }
        self.give_up();
    }

    /// Tells those who wait for objects that nobody who was asked has.
    fn give_up(&mut self) {
        let gone: Vec<Digest> = self.wanted.iter().filter(|(_, asked)| asked.is_empty()).map(|(d, _)| *d).collect();
        for digest in gone {
            self.wanted.remove(&digest);
            self.out.push_back(Output::Notify(Change::Unavailable { digest }));
        }
    }
}

/// How a peer's number for an author stands to ours.
enum Standing {
    Wanted,
    Pending,
    Settled,
}
