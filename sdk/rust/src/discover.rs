//! Finding models: ask any hub or node, verify everything under the pinned roster, remember the highest head seen.
//!
//! Of a feed that is asked for which a caller needs ([`Part`]): a federation has more models than anybody wants to read.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use comity_registry::Held;
use comity_token::directory::{Directory, File, Refused};
use comity_wire::api::node::{HeadFrame, HeadsReply, SearchHit, SearchQuery, SearchReply};
use comity_wire::object::{Entry, EntryKind, Head, Index, Organisation, Statistics, Summary, WriterCertificate};
use comity_wire::{Code, Digest, ModelId, OrgId, Signed, Timestamp, Verified};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::client::Error;
use crate::door::Door;

/// Somebody who answers what nodes and hubs answer to anyone. Nothing of it is believed before it was verified.
pub trait Source: Clone + Send + Sync + 'static {
    /// `GET`, read as JSON.
    fn get<T: DeserializeOwned + Send + 'static>(&self, path: String) -> BoxFuture<'_, Result<T, Error>>;
    /// The bytes of an object by its digest.
    fn frame(&self, digest: Digest) -> BoxFuture<'_, Result<Vec<u8>, Error>>;
}

impl Source for Door {
    fn get<T: DeserializeOwned + Send + 'static>(&self, path: String) -> BoxFuture<'_, Result<T, Error>> {
        Box::pin(async move { self.get(&path).await })
    }

    fn frame(&self, digest: Digest) -> BoxFuture<'_, Result<Vec<u8>, Error>> {
        Box::pin(async move { self.frame(&digest).await })
    }
}

/// What of the federation this client has seen and verified.
pub struct Seen {
    pub directory: File,
    feeds: Mutex<BTreeMap<OrgId, Feed>>,
    /// What organisations publish of their cases, by quarter; no more than their indexes have room for.
    statistics: Mutex<BTreeMap<(OrgId, String), Verified<Statistics>>>,
}

/// What is known of one organisation's feed.
struct Feed {
    /// The highest head, so that nobody can show an older one.
    head: Verified<Head>,
    /// What that head lists, where it was asked for.
    index: Option<Arc<Index>>,
    /// Content ids of what it lists that is here, or is of no use.
    asked: HashSet<Digest>,
    /// Models that are here with their tariff and their policy, as the head `whole_at` has them.
    models: BTreeSet<ModelId>,
    whole_at: Option<Digest>,
    /// When the feed was looked at last.
    looked_at: Timestamp,
    /// Nobody could show it: until then what is here is taken as it is.
    taken_until: Timestamp,
}

/// What is needed of an organisation's feed.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Its nodes: certificates, and where they are.
    Nodes,
    /// Its nodes, and one model with its tariff and its policy.
    Model(&'a ModelId),
    /// Everything but manifests.
    All,
}

/// Whether what a door shows of an author still stands.
enum Shown {
    Stands,
    /// By this computer's clock.
    Ended(Timestamp),
}

/// Of several authors: told where none of them stands. One that ended is its own matter; all of them are a clock that is ahead, or
/// a door that hears of nothing.
#[derive(Default)]
struct Standing {
    stands: bool,
    ended: Option<Timestamp>,
}

impl Standing {
    fn note(&mut self, shown: &Shown) {
        match shown {
            Shown::Stands => self.stands = true,
            Shown::Ended(at) => self.ended = self.ended.max(Some(*at)),
        }
    }

    fn told(&self, now: Timestamp) -> Result<(), Error> {
        match self.ended {
            Some(at) if !self.stands => Err(Error::Ended { at, now }),
            _ => Ok(()),
        }
    }
}

/// How often a feed may move while it is read.
const TRIES_MAX: u32 = 3;
/// How long what is here of a feed is taken for its newest, in seconds: a program may run for weeks.
const FRESH_S: u64 = 300;
/// How soon a feed is looked at again that nobody could show.
const AGAIN_S: u64 = 60;
/// Objects that are asked for at once.
const FRAMES_AT_ONCE: usize = 16;

/// A page of a search.
#[derive(Clone, Debug)]
pub struct Page {
    pub hits: Vec<Hit>,
    /// How many the door showed on it: an author whose head has expired has none among `hits`.
    pub shown: usize,
    /// How many fit on all pages, by the door's word.
    pub total: usize,
}

impl Page {
    /// Whether none comes after it, of pages of `limit`. What was shown and is not taken counts: a page is no shorter for it.
    pub const fn is_last(&self, limit: u32, offset: u32) -> bool {
        self.shown < limit as usize || self.total <= offset as usize + self.shown
    }
}

/// One verified hit.
#[derive(Clone, Debug)]
pub struct Hit {
    pub summary: Verified<Summary>,
    pub head_age_s: u64,
}

impl Seen {
    pub fn new(directory: File) -> Self {
        Self { directory, feeds: Mutex::default(), statistics: Mutex::default() }
    }

    /// Searches at a door. Hits whose bytes do not verify are an error: the one who answered is lying or broken. A hit is what its
    /// owner signed, and may be older than what it signed last: a call reads its owner's feed anew.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn search(&self, door: &impl Source, query: &SearchQuery, now: Timestamp) -> Result<Page, Error> {
        let path = format!("/comity/v1/search?{}", query_string(query));
        let reply: SearchReply = door.get(path).await?;
        let (shown, total) = (reply.hits.len(), reply.total);
        let (mut hits, mut standing, mut read) = (Vec::new(), Standing::default(), BTreeSet::new());
        for hit in reply.hits {
            let (stands, head_age_s) = self.author_of(door, &hit, &mut read, now).await?;
            standing.note(&stands);
            if let Shown::Ended(_) = stands {
                continue;
            }
            self.directory.insert(&hit.summary).map_err(Error::Refused)?;
            let summary = self.directory.summary(&hit.model).filter(|summary| summary.org == hit.org);
            let summary = summary.ok_or(Error::Missing("the summary that was found"))?;
            hits.push(Hit { summary, head_age_s });
        }
        standing.told(now).map(|()| Page { hits, shown, total })
    }

    /// Makes sure that the key is here under which a hit is signed, and gives the age of its author's head in seconds.
    /// `read`: whose feeds were read for this search.
    async fn author_of(
        &self,
        door: &impl Source,
        hit: &SearchHit,
        read: &mut BTreeSet<OrgId>,
        now: Timestamp,
    ) -> Result<(Shown, u64), Error> {
        let Some(frame) = &hit.head else {
            // A hub of before, which shows no heads with its hits.
            let roster = self.directory.roster();
            let org = roster.organisation(hit.org).ok_or(Error::Missing("the hit's organisation on the roster"))?;
            if read.insert(org.id) {
                match self.refresh_of(door, org, Part::Nodes, now).await {
                    Err(Error::Ended { at, .. }) => return Ok((Shown::Ended(at), hit.head_age_s)),
                    done => done?,
                }
            }
            return Ok((Shown::Stands, hit.head_age_s));
        };
        let head = self.verified(frame)?;
        if head.org != hit.org {
            return Err(Error::Missing("the head of the organisation whose hit it is"));
        }
        let age = now.since(head.issued_at);
        Ok((self.take_head(frame, head, now)?, age))
    }

    /// Fetches every organisation's newest head and what it lists, but for manifests.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refresh(&self, door: &impl Source, now: Timestamp) -> Result<(), Error> {
        self.refreshed(door, None, Part::All, now).await
    }

    /// Fetches one organisation's newest head, and a part of what it lists that is not here yet. An organisation that has
    /// published nothing is no error.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refresh_of(
        &self,
        door: &impl Source,
        org: &Organisation,
        part: Part<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.refreshed(door, Some(org), part, now).await
    }

    async fn refreshed(
        &self,
        door: &impl Source,
        org: Option<&Organisation>,
        part: Part<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.refresh_once(door, org, part, now).await {
                // A feed that moved on between its head and its index: the newer head is there now.
                Err(error) if error.code() == Some(Code::NotFound) && tries < TRIES_MAX => tries += 1,
                done => return done,
            }
        }
    }

    async fn refresh_once(
        &self,
        door: &impl Source,
        org: Option<&Organisation>,
        part: Part<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let path = match org {
            Some(org) => format!("/comity/v1/heads?org={}", percent(org.name.as_str())),
            None => "/comity/v1/heads".to_owned(),
        };
        let reply: HeadsReply = door.get(path).await?;
        let (mut unreached, mut standing) = (Ok(()), Standing::default());
        for frame in &reply.heads {
            match self.author(door, frame, org, part, now).await {
                Ok(shown) => shown.iter().for_each(|shown| standing.note(shown)),
                // The door's trouble, a feed that moved on, or a proof of a lie: told once the others are in.
                Err(error @ (Error::Door(_) | Error::Equivocation(_))) => unreached = Err(error),
                // Asked for one alone, another door may show what verifies.
                Err(error) if org.is_some() => unreached = Err(error),
                // One author's fault is not everybody's.
                Err(error) => tracing::warn!(error = %crate::chain(&error), "an author's feed is passed over"),
            }
        }
        unreached.and_then(|()| standing.told(now))
    }

    /// Makes sure that the manifest of `model` is here: the one that its summary names.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn manifest(&self, door: &impl Source, model: &ModelId) -> Result<(), Error> {
        let known = self.directory.manifest(model);
        let Some(summary) = self.directory.summary(model) else {
            return known.map(|_| ()).ok_or_else(|| Error::ModelUnknown(model.clone()));
        };
        if known.is_some_and(|known| known.id() == summary.manifest) {
            return Ok(());
        }
        let bytes = door.frame(summary.manifest).await?;
        self.directory.insert(&bytes).map_err(Error::Refused)?;
        Ok(())
    }

    /// Fetches tariffs by their content ids, as far as this door has them.
    pub async fn tariffs(&self, door: &impl Source, ids: &[Digest]) {
        let frames: Vec<_> = ids.iter().map(|id| frame_of(door.clone(), *id)).collect();
        let mut frames = futures::stream::iter(frames).buffer_unordered(FRAMES_AT_ONCE);
        while let Some(bytes) = frames.next().await {
            if let Ok(bytes) = bytes
                && let Err(refused) = self.directory.insert(&bytes)
            {
                tracing::debug!(%refused, "a tariff is passed over");
            }
        }
    }

    /// Whether a model is here with its tariff and its policy, as its owner's feed had them when it was read last.
    pub fn knows(&self, model: &ModelId) -> bool {
        self.feeds().values().any(|feed| feed.models.contains(model))
    }

    /// Whether that is what the owner's newest head has, as far as anybody here knows, and was looked at not long ago.
    pub fn is_fresh(&self, model: &ModelId, now: Timestamp) -> bool {
        let is_whole = |feed: &Feed| feed.whole_at == Some(feed.head.id()) && now < feed.looked_at.plus(FRESH_S);
        self.feeds().values().any(|feed| feed.models.contains(model) && (now < feed.taken_until || is_whole(feed)))
    }

    /// Nobody could show the feed of a model that is known: what is known is taken for a while.
    pub fn postpone(&self, model: &ModelId, now: Timestamp) {
        for feed in self.feeds().values_mut().filter(|feed| feed.models.contains(model)) {
            feed.taken_until = now.plus(AGAIN_S);
        }
    }

    /// `only`: a door of before shows all heads, whoever was asked for; of the others nothing is given.
    async fn author(
        &self,
        door: &impl Source,
        frame: &HeadFrame,
        only: Option<&Organisation>,
        part: Part<'_>,
        now: Timestamp,
    ) -> Result<Option<Shown>, Error> {
        let head = self.verified(frame)?;
        let org = head.org;
        if only.is_some_and(|only| only.id != org) {
            return Ok(None);
        }
        if let ended @ Shown::Ended(_) = self.take_head(frame, head, now)? {
            return Ok(Some(ended));
        }
        let (head, index) = self.index(door, org).await?;
        // What was whole before stays so under a newer head.
        let mut models = self.feeds().get(&org).map(|feed| feed.models.clone()).unwrap_or_default();
        models.extend(match part {
            Part::Model(model) => Some(model.clone()),
            Part::Nodes | Part::All => None,
        });
        let wanted = |entry: &&Entry| match (entry.kind, part) {
            (EntryKind::Manifest, _) => false,
            (_, Part::All) | (EntryKind::NodeCertificate | EntryKind::Announcement, _) => true,
            (EntryKind::Summary, _) => models.iter().any(|model| model.as_str() == entry.subject.as_str()),
            _ => false,
        };
        self.entries(door, &head, index.entries.iter().filter(wanted).collect()).await?;
        let listed: BTreeSet<ModelId> = {
            let summaries = index.entries.iter().filter(|entry| entry.kind == EntryKind::Summary);
            summaries.filter_map(|entry| entry.subject.parse().ok()).collect()
        };
        if matches!(part, Part::All) {
            models.clone_from(&listed);
        } else {
            // A hit's word alone makes no model: its owner's feed may list it no more.
            models.retain(|model| listed.contains(model));
            let wanted = self.rests_on(&index, &models);
            let entries = index.entries.iter().filter(|entry| wanted.contains(&entry.id)).collect();
            self.entries(door, &head, entries).await?;
        }
        models.retain(|model| self.directory.summary(model).is_some());
        if let Some(feed) = self.feeds().get_mut(&org).filter(|feed| feed.head.id() == head.id()) {
            if feed.whole_at != Some(head.id()) {
                feed.models.clear();
            }
            feed.models.extend(models);
            (feed.whole_at, feed.looked_at, feed.taken_until) = (Some(head.id()), now, Timestamp(0));
        }
        Ok(Some(Shown::Stands))
    }

    /// The tariffs and policies of these models, as far as the index lists them.
    fn rests_on(&self, index: &Index, models: &BTreeSet<ModelId>) -> HashSet<Digest> {
        let mut wanted = HashSet::new();
        for summary in models.iter().filter_map(|model| self.directory.summary(model)) {
            wanted.extend([summary.tariff, summary.policy]);
            if !index.entries.iter().any(|entry| entry.id == summary.policy) {
                // The summary names one that was replaced: the newest that covers the model counts.
                let policies = index.entries.iter().filter(|entry| entry.kind == EntryKind::Policy);
                wanted.extend(policies.map(|entry| entry.id));
            }
        }
        wanted
    }

    /// The highest head of an organisation, and what it lists.
    async fn index(&self, door: &impl Source, org: OrgId) -> Result<(Verified<Head>, Arc<Index>), Error> {
        let (head, known) = {
            let feeds = self.feeds();
            let feed = feeds.get(&org).ok_or(Error::Missing("a head of the organisation"))?;
            (feed.head.clone(), feed.index.clone())
        };
        if let Some(index) = known {
            return Ok((head, index));
        }
        let bytes = door.frame(head.index).await?;
        let index = comity_registry::verify::index(&bytes, &head);
        let index = Arc::new(index.map_err(|_| Error::Missing("the index that its head names"))?);
        if let Some(feed) = self.feeds().get_mut(&org).filter(|feed| feed.head.id() == head.id()) {
            feed.asked.retain(|id| index.entries.iter().any(|entry| entry.id == *id));
            feed.index = Some(Arc::clone(&index));
        }
        Ok((head, index))
    }

    /// Fetches those that were not asked for yet.
    async fn entries(&self, door: &impl Source, head: &Verified<Head>, mut entries: Vec<&Entry>) -> Result<(), Error> {
        {
            let feeds = self.feeds();
            entries.retain(|entry| feeds.get(&head.org).is_none_or(|feed| !feed.asked.contains(&entry.id)));
        }
        // Certificates first: what follows is verified under them.
        entries.sort_by_key(|entry| entry.kind != EntryKind::NodeCertificate);
        let frames: Vec<_> = entries.into_iter().map(|entry| fetched(door.clone(), entry.clone())).collect();
        let mut frames = futures::stream::iter(frames).buffered(FRAMES_AT_ONCE);
        while let Some((entry, bytes)) = frames.next().await {
            self.take_entry(head, &entry, &bytes?)?;
            if let Some(feed) = self.feeds().get_mut(&head.org) {
                feed.asked.insert(entry.id);
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Missing`] where these bytes are not what the index lists: whoever showed them is lying or broken, and another door is
    /// asked.
    fn take_entry(&self, head: &Verified<Head>, entry: &Entry, bytes: &[u8]) -> Result<(), Error> {
        let roster = self.directory.roster();
        let org = roster.organisation(head.org).ok_or(Error::Missing("the head's organisation on the roster"))?;
        let held = comity_registry::verify::entry(entry, bytes, org, head.signer()).map_err(|refused| {
            tracing::warn!(%refused, author = %head.org, entry = %entry.id, "not what the index lists");
            Error::Missing("the object that an index lists")
        })?;
        if let Held::Statistics(found) = held {
            let mut statistics = self.statistics.lock().expect("no panic holds this lock");
            statistics.insert((found.org, found.period.to_string()), found);
            return Ok(());
        }
        match self.directory.insert(bytes) {
            // Grants are of no use to callers.
            Ok(_) | Err(Refused::Kind) => {}
            Err(refused) => tracing::warn!(%refused, author = %head.org, entry = %entry.id, "entry passed over"),
        }
        Ok(())
    }

    /// What an organisation publishes of its cases, the oldest quarter first.
    pub fn statistics(&self, org: OrgId) -> Vec<Verified<Statistics>> {
        let statistics = self.statistics.lock().expect("no panic holds this lock");
        statistics.iter().filter(|((of, _), _)| *of == org).map(|(_, found)| found.clone()).collect()
    }

    /// A head that its organisation's feed writer signed.
    fn verified(&self, frame: &HeadFrame) -> Result<Verified<Head>, Error> {
        let roster = self.directory.roster();
        let writer = Signed::<WriterCertificate>::decode(&frame.writer).map_err(Error::Unverified)?;
        let org = roster
            .organisation(writer.unverified().org)
            .ok_or(Error::Missing("the head's organisation on the roster"))?;
        let writer = writer.verify(&org.key).map_err(Error::Unverified)?;
        let head =
            Signed::<Head>::decode(&frame.head).and_then(|head| head.verify(&writer.key)).map_err(Error::Unverified)?;
        if head.org != org.id || head.epoch != writer.epoch || head.federation != roster.federation {
            return Err(Error::Missing("a head of the organisation that signed it"));
        }
        Ok(head)
    }

    /// Remembers a head that stands where it is the highest.
    fn take_head(&self, frame: &HeadFrame, head: Verified<Head>, now: Timestamp) -> Result<Shown, Error> {
        if head.expires_at <= now {
            return Ok(Shown::Ended(head.expires_at));
        }
        self.directory.insert(&frame.writer).map_err(Error::Refused)?;
        let mut feeds = self.feeds();
        match feeds.get_mut(&head.org) {
            Some(known) if known.head.number() == head.number() && known.head.id() != head.id() => {
                return Err(Error::Equivocation(head.org));
            }
            // An older head, or the same: there is nothing to forget.
            Some(known) if known.head.number() >= head.number() => {}
            Some(known) => {
                known.head = head;
                known.index = None;
                // Somebody can be asked again.
                known.taken_until = Timestamp(0);
            }
            None => {
                let feed = Feed {
                    head,
                    index: None,
                    asked: HashSet::new(),
                    models: BTreeSet::new(),
                    whole_at: None,
                    looked_at: now,
                    taken_until: Timestamp(0),
                };
                feeds.insert(feed.head.org, feed);
            }
        }
        Ok(Shown::Stands)
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<OrgId, Feed>> {
        self.feeds.lock().expect("no panic holds this lock")
    }
}

/// Owns what it needs, so that it can be one of many.
async fn fetched(door: impl Source, entry: Entry) -> (Entry, Result<Vec<u8>, Error>) {
    let bytes = door.frame(entry.id).await;
    (entry, bytes)
}

async fn frame_of(door: impl Source, id: Digest) -> Result<Vec<u8>, Error> {
    door.frame(id).await
}

/// `q=…&op=…` of a search.
pub fn query_string(query: &SearchQuery) -> String {
    let value = serde_json::to_value(query).expect("a search query has a JSON form");
    let fields = value.as_object().expect("a struct is an object");
    let pair = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(format!("{name}={}", percent(text))),
        other => Some(format!("{name}={other}")),
    };
    fields.iter().filter_map(pair).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests;
