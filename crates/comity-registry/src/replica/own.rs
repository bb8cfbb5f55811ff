//! Our own feed: what its next head is, and what another process of ours has made it.

use std::sync::Arc;

use comity_wire::object::WriterCertificate;
use comity_wire::{Digest, OrgId, SecretKey, Signed, Timestamp};

use super::{Change, Output, Registry, StoredFeed, Verdict, Write, feed_write, is_tariff};
use crate::feed::{Pending, SignedHead};
use crate::held::Held;
use crate::publish::{CannotAdopt, CannotPublish, Next, Publication, Put};
use crate::verify::Refused;

impl Registry {
    /// Makes the next head of our own feed. The shell stores it, then gives it back as [`Input::Published`].
    ///
    /// # Errors
    /// [`CannotPublish`].
    pub fn prepare(
        &self,
        now: Timestamp,
        writer: &[u8],
        key: &SecretKey,
        put: &Put,
    ) -> Result<Publication, CannotPublish> {
        let signed = Signed::<WriterCertificate>::decode(writer).map_err(|source| CannotPublish::Writer { source })?;
        let org = signed.unverified().org;
        let organisation = self.roster().organisation(org).ok_or(CannotPublish::NotAMember)?;
        let writer = signed.verify(&organisation.key).map_err(|source| CannotPublish::Writer { source })?;
        if writer.key != key.public() || now < writer.not_before || writer.not_after <= now {
            return Err(CannotPublish::WriterMismatch);
        }
        let feed = self.feeds.get(&org);
        if let Some(proof) = feed.and_then(|feed| feed.proofs.get(&writer.epoch)) {
            let (epoch, seq) = proof.number();
            return Err(CannotPublish::Frozen { epoch, seq });
        }
        let current = feed.and_then(|feed| feed.current.as_ref());
        let highest = self.highest(org);
        let next = Next {
            now,
            federation: self.roster().federation,
            roster_version: self.chain.version(),
            organisation,
            writer,
            key,
            current: current.map(|current| &**current),
            highest,
            put,
        };
        next.build()
    }

    /// The highest number that was ever heard in a feed, with its head's id; also of a head that is not complete here yet.
    pub fn highest(&self, org: OrgId) -> Option<((u32, u64), Digest)> {
        let feed = self.feeds.get(&org)?;
        let pending = feed.pending.iter().map(|pending| &pending.pair.0);
        let heads = pending.chain(feed.current.iter().map(|current| &current.head));
        heads.map(|head| (head.number(), head.id())).max()
    }

    /// Takes over a head of our own feed that another process of ours has numbered, with everything that it names, and says it: whoever
    /// numbered it may have ended before it could. Whether it was news.
    ///
    /// # Errors
    /// [`CannotAdopt`]; a head that contradicts one that is here freezes the feed, as it does at everybody else's.
    pub fn adopt(&mut self, stored: &StoredFeed) -> Result<bool, CannotAdopt> {
        let roster = Arc::clone(self.chain.roster());
        let pair = self.checked(&stored.head)?;
        let (org, number) = (pair.0.org, pair.0.number());
        let organisation = roster.organisation(org).ok_or(Refused::UnknownOrganisation { org })?;
        let feed = self.feeds.entry(org).or_default();
        if let Some(proof) = feed.contradiction(&pair) {
            self.freeze(proof);
        }
        let feed = self.feeds.entry(org).or_default();
        if feed.is_frozen_at(number) {
            return Err(CannotAdopt::Forked { epoch: number.0, seq: number.1 });
        }
        if feed.current.as_ref().is_some_and(|current| current.number() >= number) {
            return Ok(false);
        }
        let mut pending = Pending::new(pair, feed.current.as_deref());
        let index = pending.pair.0.index;
        for (digest, bytes) in stored.frames.get_key_value(&index).into_iter().chain(&stored.frames) {
            pending.supply(digest, bytes, organisation)?;
        }
        let complete = pending.complete().ok_or(CannotAdopt::Incomplete { epoch: number.0, seq: number.1 })?;
        // The same by gossip, or one that lies behind it.
        if let Some(heard) = feed.pending.take_if(|heard| heard.pair.0.number() <= number) {
            heard.tickets.into_iter().for_each(|ticket| self.judge(ticket, Verdict::Accept));
        }
        let publication = Publication { complete: Arc::new(complete) };
        self.out.push_back(Output::Store(self.write_of(&publication)));
        self.published(publication);
        Ok(true)
    }

    /// What the shell stores before a publication is said.
    pub fn write_of(&self, publication: &Publication) -> Write {
        let archive = self.feeds.get(&publication.complete.head.org).map(|feed| feed.archive.clone());
        let mut kept: Vec<Arc<Held>> = archive.into_iter().flatten().collect();
        // The tariffs it retires are still among the current ones.
        let current = self.feed(publication.complete.head.org);
        kept.extend(
            current.iter().flat_map(|current| current.objects.values()).filter(|held| is_tariff(held)).cloned(),
        );
        feed_write(&publication.complete, kept.iter())
    }

    pub(super) fn published(&mut self, publication: Publication) {
        let complete = publication.complete;
        let org = complete.head.org;
        let feed = self.feeds.entry(org).or_default();
        if feed.highest() >= Some(complete.number()) || feed.is_frozen_at(complete.number()) {
            return;
        }
        let gossip = SignedHead::of(&complete.pair()).to_gossip();
        feed.pending = None;
        feed.show(complete);
        self.out.push_back(Output::Gossip { bytes: gossip });
        self.out.push_back(Output::Notify(Change::Feed { org }));
    }
}
