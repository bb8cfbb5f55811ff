//! Certificates: which keys an organisation's node, and its feed writer, have for how long (spec/02-keys.md §4).

use super::{KIB, require};
use crate::cbor::{List, Malformed, Text, record};
use crate::cose::{Kind, Object};
use crate::id::{NodeId, OrgId};
use crate::key::PublicKey;
use crate::time::Timestamp;

record! {
    /// Signed by the organisation's key; at most 90 days.
    pub struct NodeCertificate {
        1 => org: OrgId,
        2 => node: NodeId,
        /// TLS, libp2p, the node's calls to the house.
        3 => transport_keys: List<PublicKey, 8>,
        /// Receipts, finals, claims. Empty for hubs and the house.
        4 => receipt_keys: List<ReceiptKey, 2>,
        5 => not_before: Timestamp,
        6 => not_after: Timestamp,
        /// +1 after a backup was restored.
        7 => restore: u32,
    }
}

record! {
    pub struct ReceiptKey {
        1 => key: PublicKey,
        2 => from: Timestamp,
        3 => until: Timestamp,
    }
}

record! {
    /// One feed, one writer, one epoch. Signed by the organisation's key.
    pub struct WriterCertificate {
        1 => org: OrgId,
        2 => key: PublicKey,
        /// +1 where the feed's numbers had to start again.
        3 => epoch: u32,
        4 => not_before: Timestamp,
        5 => not_after: Timestamp,
    }
}

record! {
    /// Where a node can be reached. Signed by the feed writer; carries addresses, since ports may be 0 at start.
    pub struct Announcement {
        1 => org: OrgId,
        2 => node: NodeId,
        3 => doors: List<Door, 16>,
        4 => issued_at: Timestamp,
        5 => expires_at: Timestamp,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Door {
        1 => kind: DoorKind,
        /// `https://host:port`, `quic://host:port`, a multiaddress, or the id of a hub to `CONNECT` through.
        2 => address: Text<256>,
    }
}

crate::cbor::enumeration! {
    pub enum DoorKind: "door" {
        Https = 1 "https",
        Quic = 2 "quic",
        Relayed = 3 "relayed",
        Libp2p = 4 "libp2p",
    }
}

impl NodeCertificate {
    pub const VALID_S_MAX: u64 = 90 * crate::time::DAY_S;

    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// The keys a receipt of time `at` may be signed with.
    pub fn receipt_keys_at(&self, at: Timestamp) -> impl Iterator<Item = &PublicKey> {
        self.receipt_keys.iter().filter(move |key| key.from <= at && at < key.until).map(|key| &key.key)
    }
}

impl Object for NodeCertificate {
    const KIND: Kind = Kind { name: "node-certificate", bytes_max: 2 * KIB, items_max: 64 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.transport_keys.is_empty(), "node certificate: it needs a transport key")?;
        require(self.not_before < self.not_after, "node certificate: it ends before it begins")?;
        let days = self.not_after.since(self.not_before);
        require(days <= Self::VALID_S_MAX, "node certificate: 90 days are the most")?;
        // Transport, receipt and feed keys are different keys (rule 1).
        let shared = self.receipt_keys.iter().any(|receipt| self.transport_keys.contains(&receipt.key));
        require(!shared, "node certificate: a receipt key must not be a transport key")
    }
}

impl Object for WriterCertificate {
    const KIND: Kind = Kind { name: "writer-certificate", bytes_max: 512, items_max: 16 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.not_before < self.not_after, "writer certificate: it ends before it begins")
    }
}

impl Object for Announcement {
    const KIND: Kind = Kind { name: "announcement", bytes_max: 6 * KIB, items_max: 128 };
}
