//! Revocation lists and notices (spec/08-revocation.md).

use super::{KIB, ascending, require};
use crate::amount::Amount;
use crate::cbor::{List, Malformed, Text, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{OrgId, TokenId};
use crate::time::Timestamp;

record! {
    /// Everything an issuer has revoked, by its issuer key (tokens) or feed writer (grants, nodes). Number 1 is empty
    /// and published at the start. Names no project and no holder.
    pub struct RevocationList {
        1 => org: OrgId,
        2 => number: u64,
        3 => issued_at: Timestamp,
        4 => entries: List<Revocation, { RevocationList::ENTRIES_MAX }>,
    }
}

record! {
    pub struct Revocation {
        1 => kind: RevokedKind,
        /// Text form of a `cti`, a block's content id, a grant's, node's or organisation's id.
        2 => subject: Text<80>,
        3 => at: Timestamp,
    }
}

enumeration! {
    pub enum RevokedKind: "revoked kind" {
        Token = 1 "token",
        Block = 2 "block",
        Grant = 3 "grant",
        Node = 4 "node",
        Organisation = 5 "organisation",
    }
}

record! {
    /// An ancestor's lowering or revocation of a block, sent to the one audience. Signed by the ancestor's holder key.
    pub struct Notice {
        1 => token: TokenId,
        /// Content id of the block that is lowered.
        2 => block: Digest,
        /// Ascending for each block.
        3 => number: u64,
        /// The new cap; 0 revokes.
        4 => cap: Amount,
        5 => at: Timestamp,
    }
}

impl RevocationList {
    /// What fits into one list.
    pub const ENTRIES_MAX: usize = 4096;
    /// Older than this ⇒ `standing_stale`.
    pub const STALE_S: u64 = 24 * 3600;

    pub fn contains(&self, kind: RevokedKind, subject: &str) -> bool {
        self.entries.binary_search_by(|entry| (entry.kind, entry.subject.as_str()).cmp(&(kind, subject))).is_ok()
    }
}

impl Object for RevocationList {
    const KIND: Kind = Kind { name: "revocation-list", bytes_max: 512 * KIB, items_max: 32_768 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.number >= 1, "revocation list: numbers start at 1")?;
        let key = |entry: &Revocation| (entry.kind, entry.subject.clone());
        require(ascending(&self.entries, key), "order of revocations")
    }
}

impl Object for Notice {
    const KIND: Kind = Kind { name: "notice", bytes_max: 512, items_max: 16 };
}
