//! Finding models: ask any hub or node, verify everything under the pinned roster, remember the highest head seen.

use std::collections::BTreeMap;
use std::sync::Mutex;

use comity_token::directory::{Directory, File, Refused};
use comity_wire::api::node::{HeadFrame, HeadsReply, SearchQuery, SearchReply};
use comity_wire::cbor::Decode as _;
use comity_wire::object::{EntryKind, Head, Index, Statistics, Summary, WriterCertificate};
use comity_wire::{Code, Digest, ModelId, Object as _, OrgId, Signed, Timestamp, Verified};

use crate::client::Error;
use crate::door::Door;

/// What of the federation this client has seen and verified.
pub struct Seen {
    pub directory: File,
    /// Highest head of each organisation, so that nobody can show an older one.
    heads: Mutex<BTreeMap<OrgId, HeadSeen>>,
    /// What organisations publish of their cases, by quarter; no more than their indexes have room for.
    statistics: Mutex<BTreeMap<(OrgId, String), Verified<Statistics>>>,
}

/// (epoch, seq) and content id.
type HeadSeen = ((u32, u64), Digest);

/// How often a feed may move while it is read.
const TRIES_MAX: u32 = 3;

/// One verified hit.
#[derive(Clone, Debug)]
pub struct Hit {
    pub summary: Verified<Summary>,
    pub head_age_s: u64,
}

impl Seen {
    pub fn new(directory: File) -> Self {
        Self { directory, heads: Mutex::default(), statistics: Mutex::default() }
    }

    /// Searches at `door`. Hits whose bytes do not verify are an error: the one who answered is lying or broken.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn search(&self, door: &Door, query: &SearchQuery, now: Timestamp) -> Result<Vec<Hit>, Error> {
        self.refresh(door, now).await?;
        let path = format!("/comity/v1/search?{}", query_string(query));
        let reply: SearchReply = door.get(&path).await?;
        let mut hits = Vec::new();
        for hit in reply.hits {
            self.directory.insert(&hit.summary).map_err(Error::Refused)?;
            let summary = self.directory.summary(&hit.model).ok_or(Error::Missing("the summary that was found"))?;
            hits.push(Hit { summary, head_age_s: hit.head_age_s });
        }
        Ok(hits)
    }

    /// Fetches every organisation's newest head and what it lists, but for manifests.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refresh(&self, door: &Door, now: Timestamp) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.refresh_once(door, now).await {
                // A feed that moved on between its head and its index: the newer head is there now.
                Err(error) if error.code() == Some(Code::NotFound) && tries < TRIES_MAX => tries += 1,
                done => return done,
            }
        }
    }

    async fn refresh_once(&self, door: &Door, now: Timestamp) -> Result<(), Error> {
        let reply: HeadsReply = door.get("/comity/v1/heads").await?;
        let mut unreached = Ok(());
        for frame in &reply.heads {
            match self.author(door, frame, now).await {
                Ok(()) => {}
                // The door's trouble, a feed that moved on, or a proof of a lie: told once the others are in.
                Err(error @ (Error::Door(_) | Error::Equivocation(_))) => unreached = Err(error),
                // One author's fault is not everybody's.
                Err(error) => tracing::warn!(error = %crate::chain(&error), "an author's feed is passed over"),
            }
        }
        unreached
    }

    /// Makes sure that the manifest of `model` is here.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn manifest(&self, door: &Door, model: &ModelId) -> Result<(), Error> {
        if self.directory.manifest(model).is_some() {
            return Ok(());
        }
        let summary = self.directory.summary(model).ok_or_else(|| Error::ModelUnknown(model.clone()))?;
        let bytes = door.frame(&summary.manifest).await?;
        self.directory.insert(&bytes).map_err(Error::Refused)?;
        Ok(())
    }

    async fn author(&self, door: &Door, frame: &HeadFrame, now: Timestamp) -> Result<(), Error> {
        let Some(head) = self.head(frame, now)? else { return Ok(()) };
        let bytes = door.frame(&head.index).await?;
        if Digest::of(&bytes) != head.index {
            return Err(Error::Missing("an index with the digest that its head names"));
        }
        let limits = comity_wire::cbor::Limits {
            bytes_max: Index::KIND.bytes_max,
            items_max: Index::KIND.items_max,
            tagged: false,
        };
        let index = Index::from_cbor(&bytes, limits).map_err(Error::Malformed)?;
        // Certificates first: what follows is verified under them.
        let mut entries: Vec<_> = index.entries.iter().filter(|entry| entry.kind != EntryKind::Manifest).collect();
        entries.sort_by_key(|entry| entry.kind != EntryKind::NodeCertificate);
        for entry in entries {
            let bytes = door.frame(&entry.id).await?;
            if entry.kind == EntryKind::Statistics {
                self.statistic(&bytes, &head);
                continue;
            }
            match self.directory.insert(&bytes) {
                Ok(_) => {}
                // A kind that callers have no use for, such as a grant.
                Err(Refused::Kind) => {}
                Err(refused) => tracing::warn!(%refused, author = %head.org, entry = %entry.id, "entry passed over"),
            }
        }
        self.heads.lock().expect("no panic holds this lock").insert(head.org, (head.number(), head.id()));
        Ok(())
    }

    fn statistic(&self, bytes: &[u8], head: &Verified<Head>) {
        match Signed::<Statistics>::decode(bytes).and_then(|signed| signed.verify(head.signer())) {
            Ok(found) if found.org == head.org => {
                let mut statistics = self.statistics.lock().expect("no panic holds this lock");
                statistics.insert((found.org, found.period.to_string()), found);
            }
            _ => tracing::warn!(author = %head.org, "statistics that its author did not sign are passed over"),
        }
    }

    /// What an organisation publishes of its cases, the oldest quarter first.
    pub fn statistics(&self, org: OrgId) -> Vec<Verified<Statistics>> {
        let statistics = self.statistics.lock().expect("no panic holds this lock");
        statistics.iter().filter(|((of, _), _)| *of == org).map(|(_, found)| found.clone()).collect()
    }

    /// The head where it is new; `None` where nothing changed.
    fn head(&self, frame: &HeadFrame, now: Timestamp) -> Result<Option<Verified<Head>>, Error> {
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
        if head.expires_at <= now {
            return Ok(None);
        }
        self.directory.insert(&frame.writer).map_err(Error::Refused)?;
        let heads = self.heads.lock().expect("no panic holds this lock");
        match heads.get(&head.org) {
            Some((number, id)) if *number == head.number() && *id != head.id() => Err(Error::Equivocation(head.org)),
            // An older head, or the same: there is nothing to fetch, and nothing to forget.
            Some((number, _)) if *number >= head.number() => Ok(None),
            _ => Ok(Some(head)),
        }
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        let query = SearchQuery { q: "a b&c=ü".into(), context_min: Some(8), ..SearchQuery::default() };
        assert_eq!(query_string(&query), "q=a%20b%26c%3D%C3%BC&context_min=8");
    }
}
