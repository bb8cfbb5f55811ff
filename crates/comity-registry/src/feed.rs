//! One author's feed: what is complete and shown, what is being fetched, what came before, and where it forked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use comity_wire::cbor::{Limits, Reader, Writer, scan};
use comity_wire::object::{Entry, Head, Index, Organisation, WriterCertificate};
use comity_wire::{Digest, Malformed, Object, Timestamp, Verified};

use crate::held::{Held, is_replicated};
use crate::proof::Proof;
use crate::replica::{Peer, Ticket};
use crate::verify::{self, HeadPair, Refused};

/// A head and its writer's certificate as bytes: what gossip carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    pub head: Vec<u8>,
    pub writer: Vec<u8>,
}

impl SignedHead {
    /// A gossip message is at most this long.
    pub const GOSSIP_BYTES_MAX: usize = 1024;

    pub fn of((head, writer): &HeadPair) -> Self {
        Self { head: head.bytes().to_vec(), writer: writer.bytes().to_vec() }
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.array(2);
        w.bytes(&self.head);
        w.bytes(&self.writer);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        if r.array()? != 2 {
            return Err(Malformed::value(at, "head and writer certificate"));
        }
        Ok(Self { head: r.bytes()?.to_vec(), writer: r.bytes()?.to_vec() })
    }

    /// The gossip message: `[head, writer]`.
    pub fn to_gossip(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.encode(&mut w);
        w.into_bytes()
    }

    /// # Errors
    /// [`Malformed`].
    pub fn from_gossip(bytes: &[u8]) -> Result<Self, Malformed> {
        scan(bytes, Limits { bytes_max: Self::GOSSIP_BYTES_MAX, items_max: 3, tagged: false })?;
        let mut r = Reader::new(bytes);
        let signed = Self::decode(&mut r)?;
        r.end().map(|()| signed)
    }
}

/// A head with its index and every replicated object, all verified.
#[derive(Clone, Debug)]
pub struct Complete {
    pub head: Verified<Head>,
    pub writer: Verified<WriterCertificate>,
    pub index: Index,
    pub index_bytes: Arc<[u8]>,
    /// By content id. Manifests where they were fetched.
    pub objects: BTreeMap<Digest, Arc<Held>>,
}

impl Complete {
    pub fn number(&self) -> (u32, u64) {
        self.head.number()
    }

    pub fn pair(&self) -> HeadPair {
        (self.head.clone(), self.writer.clone())
    }

    pub fn entry_of(&self, id: &Digest) -> Option<&Entry> {
        self.index.entries.iter().find(|entry| entry.id == *id)
    }

    /// Older than 48 hours: shown with a warning.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.head.issued_at) > Head::STALE_S
    }

    /// Past its expiry, at most 7 days: not shown.
    pub fn is_hidden(&self, now: Timestamp) -> bool {
        now >= self.head.expires_at
    }

    /// An index entry's or the index's own bytes.
    pub fn frame(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        if self.head.index == *digest {
            return Some(Arc::clone(&self.index_bytes));
        }
        self.objects.get(digest).map(|held| Arc::from(held.bytes()))
    }
}

/// A head we believe, and what is missing before we show it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) pair: HeadPair,
    pub(crate) index: Option<(Index, Arc<[u8]>)>,
    pub(crate) objects: BTreeMap<Digest, Arc<Held>>,
    /// Gossip that waits for a verdict: we pass on what we can serve.
    pub(crate) tickets: Vec<Ticket>,
    /// Who said they have it.
    pub(crate) sources: BTreeSet<Peer>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    pub(crate) current: Option<Arc<Complete>>,
    pub(crate) pending: Option<Pending>,
    past: VecDeque<Arc<Complete>>,
    /// Tariffs that left the index: tokens pin them until they end.
    pub(crate) archive: VecDeque<Arc<Held>>,
    /// By epoch.
    pub(crate) proofs: BTreeMap<u32, Proof>,
}

impl Feed {
    /// Complete heads kept behind the current one, to fall back to when the author turns out a liar.
    const PAST_MAX: usize = 3;
    const ARCHIVE_MAX: usize = 256;

    /// The highest number we believe in, complete or not.
    pub(crate) fn highest(&self) -> Option<(u32, u64)> {
        let pending = self.pending.as_ref().map(|pending| pending.pair.0.number());
        pending.max(self.current.as_ref().map(|current| current.number()))
    }

    /// Whether a number lies at or behind a fork.
    pub(crate) fn is_frozen_at(&self, number: (u32, u64)) -> bool {
        self.proofs.get(&number.0).is_some_and(|proof| number >= proof.number())
    }

    /// Whether these very bytes are one of the heads we hold.
    pub(crate) fn holds(&self, id: &Digest) -> bool {
        self.pairs().any(|pair| pair.0.id() == *id)
    }

    fn pairs(&self) -> impl Iterator<Item = HeadPair> {
        let complete = self.current.iter().chain(&self.past).map(|complete| complete.pair());
        complete.chain(self.pending.iter().map(|pending| pending.pair.clone()))
    }

    /// What a new head contradicts among those we hold; of several, the lowest.
    pub(crate) fn contradiction(&self, new: &HeadPair) -> Option<Proof> {
        self.pairs().filter_map(|held| Proof::between(&held, new)).min_by_key(Proof::number)
    }

    /// Keeps the proof that freezes earliest. True where it changed something.
    pub(crate) fn freeze(&mut self, proof: Proof) -> bool {
        let (epoch, _) = proof.number();
        if self.proofs.get(&epoch).is_some_and(|known| known.number() <= proof.number()) {
            return false;
        }
        self.proofs.insert(epoch, proof);
        while self.current.as_ref().is_some_and(|current| self.is_frozen_at(current.number())) {
            self.current = self.past.pop_front();
        }
        let agreed: VecDeque<_> = self.past.iter().filter(|past| !self.is_frozen_at(past.number())).cloned().collect();
        self.past = agreed;
        true
    }

    /// Shows a complete head; what it replaces is kept for a while.
    pub(crate) fn show(&mut self, complete: Arc<Complete>) {
        if let Some(before) = self.current.replace(complete) {
            let now = self.current.as_ref().expect("it was just put there");
            for held in before.objects.values() {
                if matches!(**held, Held::Tariff(_)) && !now.objects.contains_key(&held.id()) {
                    self.archive.push_back(Arc::clone(held));
                }
            }
            while self.archive.len() > Self::ARCHIVE_MAX {
                self.archive.pop_front();
            }
            self.past.push_front(before);
            self.past.truncate(Self::PAST_MAX);
        }
    }

    /// Anything an index or content digest names, current, just past or archived.
    pub(crate) fn frame(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let complete = self.current.iter().chain(&self.past).find_map(|complete| complete.frame(digest));
        let archived = || self.archive.iter().find(|held| held.id() == *digest).map(|held| Arc::from(held.bytes()));
        complete.or_else(archived)
    }
}

impl Pending {
    pub(crate) fn new(pair: HeadPair, before: Option<&Complete>) -> Self {
        // What the head before had, and the same writer signed, need not be fetched again.
        let same_writer = before.filter(|before| before.writer.key == pair.1.key);
        let objects = same_writer.map(|before| before.objects.clone()).unwrap_or_default();
        let index = same_writer.filter(|before| before.head.index == pair.0.index);
        let index = index.map(|before| (before.index.clone(), Arc::clone(&before.index_bytes)));
        Self { pair, index, objects, tickets: Vec::new(), sources: BTreeSet::new() }
    }

    /// What has to be fetched before this can be shown.
    pub(crate) fn missing(&self) -> Vec<Digest> {
        match &self.index {
            None => vec![self.pair.0.index],
            Some((index, _)) => {
                let needed = index.entries.iter().filter(|entry| is_replicated(entry.kind));
                let writer = &self.pair.1.key;
                // An object taken over from before must still be what this index says of it.
                let fits = |entry: &Entry| self.objects.get(&entry.id).is_some_and(|held| held.entry(writer) == *entry);
                needed.filter(|entry| !fits(entry)).map(|entry| entry.id).collect()
            }
        }
    }

    /// Takes in bytes that a peer sent for a digest. `Ok(false)`: not ours, or known already.
    pub(crate) fn supply(
        &mut self,
        digest: &Digest,
        bytes: &[u8],
        organisation: &Organisation,
    ) -> Result<bool, Refused> {
        match &self.index {
            None if self.pair.0.index == *digest => {
                self.index = Some((verify::index(bytes, &self.pair.0)?, Arc::from(bytes)));
                Ok(true)
            }
            None => Ok(false),
            Some((index, _)) => {
                let Some(entry) = index.entries.iter().find(|entry| entry.id == *digest) else { return Ok(false) };
                if self.objects.contains_key(digest) {
                    return Ok(false);
                }
                let held = verify::entry(entry, bytes, organisation, &self.pair.1.key)?;
                self.objects.insert(*digest, held.shared());
                Ok(true)
            }
        }
    }

    /// Turns into what is shown once nothing is missing, leaving behind what the index no longer names.
    pub(crate) fn complete(&mut self) -> Option<Complete> {
        if !self.missing().is_empty() {
            return None;
        }
        let (index, index_bytes) = self.index.take().expect("nothing is missing");
        let mut objects = std::mem::take(&mut self.objects);
        let named: BTreeSet<Digest> = index.entries.iter().map(|entry| entry.id).collect();
        objects.retain(|id, _| named.contains(id));
        let (head, writer) = self.pair.clone();
        Some(Complete { head, writer, index, index_bytes, objects })
    }
}

/// Bytes a gossip message can have at all: a head and a certificate of the largest size would not fit, and need not.
const _: () = assert!(SignedHead::GOSSIP_BYTES_MAX >= 700 && Head::KIND.bytes_max <= 1024);
