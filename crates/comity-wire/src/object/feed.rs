//! Feeds: head → index → summary → manifest (spec/03-manifest.md §2).

use super::{KIB, ascending, require};
use crate::cbor::{List, Malformed, Text, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{ModelId, NodeId, OrgId, RosterId};
use crate::op::Op;
use crate::time::Timestamp;

record! {
    /// The newest state of an organisation's feed. The only thing that gossip carries.
    pub struct Head {
        1 => federation: RosterId,
        2 => org: OrgId,
        3 => epoch: u32,
        4 => seq: u64,
        /// Content id of the head before; absent at seq 1 of an epoch.
        5 => previous: Option<Digest>,
        /// SHA-256 of the index's bytes.
        6 => index: Digest,
        7 => index_bytes: u32,
        8 => entries: u32,
        9 => issued_at: Timestamp,
        10 => expires_at: Timestamp,
        11 => roster_version: u64,
    }
}

record! {
    /// Not signed: the head binds it by digest. Entries ascend by (kind, subject).
    pub struct Index {
        1 => entries: List<Entry, 2048>,
    }
}

record! {
    pub struct Entry {
        1 => kind: EntryKind,
        /// A model id, a node id, a policy's or list's name.
        2 => subject: Text<96>,
        3 => version: u64,
        /// Content id of the signed object.
        4 => id: Digest,
        5 => bytes: u32,
    }
}

enumeration! {
    pub enum EntryKind: "entry kind" {
        Summary = 1 "summary",
        /// Fetched on demand; all other kinds are replicated.
        Manifest = 2 "manifest",
        Policy = 3 "policy",
        Tariff = 4 "tariff",
        NodeCertificate = 5 "node_certificate",
        Announcement = 6 "announcement",
        RevocationList = 7 "revocation_list",
        Grant = 8 "grant",
        Statistics = 9 "statistics",
    }
}

record! {
    /// What search needs of a model, and no more. Signed by the feed writer.
    pub struct Summary {
        1 => model: ModelId,
        2 => version: u64,
        3 => org: OrgId,
        4 => title: Text<96>,
        5 => description: Text<400>,
        6 => tasks: List<Text<48>, 8>,
        7 => languages: List<Text<8>, 64>,
        8 => input: List<Modality, 8>,
        9 => output: List<Modality, 8>,
        10 => params_total: Option<u64>,
        11 => context_length: Option<u32>,
        12 => license: Text<64>,
        /// Each op with the least tier that opens it.
        13 => ops: List<OpTier, 16>,
        14 => nodes: List<NodeId, 16>,
        15 => manifest: Digest,
        16 => policy: Digest,
        17 => tariff: Digest,
        18 => release: Digest,
        19 => retention_days: u16,
        20 => residency: List<Text<2>, 16>,
        21 => state: ModelState,
        22 => released_at: Timestamp,
        23 => sunset: Option<Timestamp>,
        /// Price of 10⁶ input and output tokens, for sorting; the tariff decides.
        24 => price_hint: Option<PriceHint>,
    }
}

record! {
    pub struct OpTier {
        1 => op: Op,
        2 => tier: super::Tier,
        /// What that tier asks of the caller, so that search can say what is missing.
        3 => vetting: super::Vetting,
        4 => grant: bool,
    }
}

record! {
    pub struct PriceHint {
        1 => input_ucr_per_million: u64,
        2 => output_ucr_per_million: u64,
        3 => request_ucr: u64,
    }
}

enumeration! {
    pub enum Modality: "modality" {
        Text = 1 "text",
        Image = 2 "image",
        Audio = 3 "audio",
        Video = 4 "video",
        Tabular = 5 "tabular",
        Vector = 6 "vector",
    }
}

enumeration! {
    pub enum ModelState: "model state" {
        Active = 1 "active",
        Deprecated = 2 "deprecated",
        Withdrawn = 3 "withdrawn",
    }
}

impl Head {
    pub const STALE_S: u64 = 48 * 3600;
    pub const EXPIRES_S: u64 = 7 * crate::time::DAY_S;

    /// (epoch, seq): the order of an author's heads.
    pub fn number(&self) -> (u32, u64) {
        (self.epoch, self.seq)
    }
}

impl Object for Head {
    const KIND: Kind = Kind { name: "head", bytes_max: KIB, items_max: 32 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.seq >= 1, "head: seq starts at 1")?;
        require((self.seq == 1) == self.previous.is_none(), "head: all but the first of an epoch name the one before")?;
        require(self.issued_at < self.expires_at, "head: it ends before it begins")?;
        require(self.expires_at.since(self.issued_at) <= Self::EXPIRES_S, "head: 7 days are the most")
    }
}

impl Object for Index {
    const KIND: Kind = Kind { name: "index", bytes_max: 512 * KIB, items_max: 32_768 };

    fn validate(&self) -> Result<(), Malformed> {
        require(ascending(&self.entries, |entry| (entry.kind, entry.subject.clone())), "order of index entries")
    }
}

impl Object for Summary {
    const KIND: Kind = Kind { name: "summary", bytes_max: 3 * KIB, items_max: 256 };
}
