//! An owner's next head, made from what the feed holds and what changes. Pure: the shell writes it down before anyone
//! hears of it, since a number that was ever said must not be said again with other content.

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_wire::cbor::Encode as _;
use comity_wire::cose;
use comity_wire::object::{Entry, EntryKind, Head, Index, Organisation, WriterCertificate};
use comity_wire::{Digest, RosterId, SecretKey, Timestamp, Unverified, Verified};

use crate::feed::Complete;
use crate::held::Held;

/// What changes in a feed.
#[derive(Clone, Debug, Default)]
pub struct Put {
    /// Signed objects' bytes. One of the same kind and subject replaces the one before.
    pub objects: Vec<Vec<u8>>,
    /// Entries to withdraw.
    pub remove: Vec<(EntryKind, String)>,
}

/// A head that is ready to be stored and then said.
#[derive(Clone, Debug)]
pub struct Publication {
    pub complete: Arc<Complete>,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CannotPublish {
    #[error("writer certificate cannot be believed")]
    Writer { source: Unverified },
    #[error("writer certificate is not for this key, organisation or time")]
    WriterMismatch,
    #[error("our organisation is not on the roster")]
    NotAMember,
    #[error("object {at} is not of a kind that a feed can hold")]
    Kind { at: usize },
    #[error("object {at} cannot be believed")]
    Object {
        at: usize,
        #[source]
        source: crate::verify::Refused,
    },
    #[error("the index would have {entries} entries, {max} are the most; withdraw some")]
    Full { entries: usize, max: usize },
    #[error("feed is frozen at epoch {epoch}, number {seq}: two heads contradict each other; open a new epoch")]
    Frozen { epoch: u32, seq: u64 },
    #[error("a head of epoch {newer} is known, the writer certificate is for {ours}")]
    EpochBehind { newer: u32, ours: u32 },
}

/// Why a head that another process of ours has numbered was not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CannotAdopt {
    #[error("what is kept of our feed cannot be believed")]
    Refused(#[from] crate::verify::Refused),
    #[error("what is kept of our feed's epoch {epoch}, number {seq}, is not whole")]
    Incomplete { epoch: u32, seq: u64 },
    #[error("feed is frozen at epoch {epoch}, number {seq}: two heads contradict each other; open a new epoch")]
    Forked { epoch: u32, seq: u64 },
}

/// Everything that goes into the next head.
pub(crate) struct Next<'a> {
    pub(crate) now: Timestamp,
    pub(crate) federation: RosterId,
    pub(crate) roster_version: u64,
    pub(crate) organisation: &'a Organisation,
    pub(crate) writer: Verified<WriterCertificate>,
    pub(crate) key: &'a SecretKey,
    pub(crate) current: Option<&'a Complete>,
    /// The highest number that was ever heard in this feed, with its head's id.
    pub(crate) highest: Option<((u32, u64), Digest)>,
    pub(crate) put: &'a Put,
}

impl Next<'_> {
    pub(crate) fn build(self) -> Result<Publication, CannotPublish> {
        let objects = self.objects()?;
        let index = self.index(&objects)?;
        let index_bytes = index.to_cbor();
        let (seq, previous) = self.number()?;
        let head = Head {
            federation: self.federation,
            org: self.organisation.id,
            epoch: self.writer.epoch,
            seq,
            previous,
            index: Digest::of(&index_bytes),
            index_bytes: u32::try_from(index_bytes.len()).expect("an index is at most 512 KiB"),
            entries: u32::try_from(index.entries.len()).expect("an index has at most 2048 entries"),
            issued_at: self.now,
            expires_at: self.now.plus(Head::EXPIRES_S),
            roster_version: self.roster_version,
        };
        let head = cose::sign(&head, self.key);
        let objects = objects.into_values().map(|held| (held.id(), held)).collect();
        let writer = self.writer;
        Ok(Publication {
            complete: Arc::new(Complete { head, writer, index, index_bytes: index_bytes.into(), objects }),
        })
    }

    /// The objects of the next index by kind and subject.
    fn objects(&self) -> Result<BTreeMap<(EntryKind, String), Arc<Held>>, CannotPublish> {
        let writer = &self.writer.key;
        let mut objects = BTreeMap::new();
        // Objects that another writer's key signed are for the publisher to sign anew.
        for held in self.current.filter(|current| current.writer.key == *writer).iter().flat_map(|c| c.objects.values())
        {
            objects.insert((held.kind(), held.subject(writer)), Arc::clone(held));
        }
        for key in &self.put.remove {
            objects.remove(key);
        }
        for (at, bytes) in self.put.objects.iter().enumerate() {
            let held = self.verified(at, bytes)?;
            objects.insert((held.kind(), held.subject(writer)), held.shared());
        }
        Ok(objects)
    }

    /// Checks an object of our own as a stranger will.
    fn verified(&self, at: usize, bytes: &[u8]) -> Result<Held, CannotPublish> {
        let kind = Held::kind_of(bytes).ok_or(CannotPublish::Kind { at })?;
        let issuers = self.organisation.issuers.iter().map(|issuer| issuer.key);
        let keys: Vec<_> = issuers.chain([self.organisation.key, self.writer.key]).collect();
        let refused = |source| CannotPublish::Object { at, source };
        let subject = || kind.to_string();
        let held = Held::verify(kind, bytes, &keys)
            .map_err(|source| refused(crate::verify::Refused::Entry { subject: subject(), source }))?;
        let entry = held.entry(&self.writer.key);
        crate::verify::entry(&entry, bytes, self.organisation, &self.writer.key).map_err(refused)
    }

    fn index(&self, objects: &BTreeMap<(EntryKind, String), Arc<Held>>) -> Result<Index, CannotPublish> {
        let held = objects.iter().map(|(key, held)| (key.clone(), held.entry(&self.writer.key)));
        let mut entries: BTreeMap<(EntryKind, String), Entry> = held.collect();
        // Manifests that we named and do not hold (our store was lost) stay named.
        for entry in self.current.filter(|c| c.writer.key == self.writer.key).iter().flat_map(|c| &c.index.entries) {
            let key = (entry.kind, entry.subject.to_string());
            if !crate::held::is_replicated(entry.kind) && !self.put.remove.contains(&key) {
                entries.entry(key).or_insert_with(|| entry.clone());
            }
        }
        let entries: Vec<Entry> = entries.into_values().collect();
        let (count, max) = (entries.len(), 2048);
        let entries = entries.try_into().map_err(|_| CannotPublish::Full { entries: count, max })?;
        Ok(Index { entries })
    }

    fn number(&self) -> Result<(u64, Option<Digest>), CannotPublish> {
        match self.highest {
            Some(((epoch, _), _)) if epoch > self.writer.epoch => {
                Err(CannotPublish::EpochBehind { newer: epoch, ours: self.writer.epoch })
            }
            Some(((epoch, seq), id)) if epoch == self.writer.epoch => Ok((seq + 1, Some(id))),
            _ => Ok((1, None)),
        }
    }
}
