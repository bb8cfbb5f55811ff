//! The roster: the threshold-signed trust root (spec/02-keys.md §3).

use super::{KIB, ascending, require};
use crate::cbor::{List, Malformed, Text, enumeration, record};
use crate::cose::{Detached, Kind, Object};
use crate::id::{NodeId, OrgId, RosterId};
use crate::key::PublicKey;
use crate::time::Timestamp;

/// A roster with its signatures, as it stands in a file.
pub type RosterFile = Detached<Roster>;

record! {
    /// Who belongs to the federation. Version N+1 is signed by a threshold of N's signers and of its own.
    pub struct Roster {
        1 => federation: RosterId,
        2 => version: u64,
        3 => issued_at: Timestamp,
        4 => expires_at: Timestamp,
        /// How many of `signers` must sign.
        5 => threshold: u8,
        6 => signers: List<PublicKey, 16>,
        7 => organisations: List<Organisation, 5000>,
        8 => anchors: List<Anchor, 256>,
    }
}

record! {
    /// A member organisation.
    pub struct Organisation {
        1 => id: OrgId,
        /// The first half of its model ids; unique in the roster.
        2 => name: Text<48>,
        3 => title: Text<96>,
        /// Signs NodeCertificates and the WriterCertificate.
        4 => key: PublicKey,
        5 => issuers: List<IssuerKey, 8>,
    }
}

record! {
    pub struct IssuerKey {
        1 => key: PublicKey,
        2 => use_: IssuerUse,
        3 => status: IssuerStatus,
        /// First use; 48 h after publication but for roster version 1.
        4 => from: Timestamp,
        /// Retired: tokens issued up to here still stand.
        5 => retired_at: Option<Timestamp>,
    }
}

enumeration! {
    pub enum IssuerUse: "issuer use" {
        /// Tokens with a budget: the clearing house.
        Budget = 1 "budget",
        /// Budget-0 tokens for the organisation's own nodes.
        OwnNode = 2 "own_node",
    }
}

enumeration! {
    pub enum IssuerStatus: "issuer status" {
        Active = 1 "active",
        Retired = 2 "retired",
        /// No token of it stands; the house bears the loss.
        Compromised = 3 "compromised",
    }
}

record! {
    /// A node that others must be able to trust before they have any feed: the house, a hub.
    pub struct Anchor {
        1 => node: NodeId,
        2 => org: OrgId,
        3 => role: AnchorRole,
        4 => transport_key: PublicKey,
    }
}

enumeration! {
    pub enum AnchorRole: "anchor role" {
        House = 1 "house",
        Hub = 2 "hub",
    }
}

impl Roster {
    pub fn organisation(&self, id: OrgId) -> Option<&Organisation> {
        self.organisations.binary_search_by_key(&id, |org| org.id).ok().map(|at| &self.organisations[at])
    }

    pub fn organisation_named(&self, name: &str) -> Option<&Organisation> {
        self.organisations.iter().find(|org| org.name.as_str() == name)
    }

    /// Whose issuer key could be used before the world has seen it: not in the version before, and with a first use less than
    /// [`Roster::FIRST_USE_S`] after publication (K-7). Whoever takes the signers' keys for an hour then gains nothing
    /// that its owner cannot take back.
    pub fn hasty_issuer(&self, before: &Self) -> Option<OrgId> {
        let was = |org: OrgId, issuer: &IssuerKey| {
            let known = before.organisation(org)?.issuers.iter();
            known.filter(|known| known.key == issuer.key && known.use_ == issuer.use_).map(|known| known.from).min()
        };
        let hasty = |org: OrgId, issuer: &IssuerKey| {
            let early = issuer.from < self.issued_at.plus(Self::FIRST_USE_S);
            early && was(org, issuer).is_none_or(|from| issuer.from < from)
        };
        let found = self.organisations.iter().find(|org| org.issuers.iter().any(|issuer| hasty(org.id, issuer)));
        found.map(|org| org.id)
    }

    /// From a key's publication, after version 1, to its first use.
    pub const FIRST_USE_S: u64 = 48 * 3600;

    /// Whether `org` may certify `node`: a node that the roster names belongs to the organisation named with it.
    pub fn may_certify(&self, org: OrgId, node: NodeId) -> bool {
        self.anchors.iter().all(|anchor| anchor.node != node || anchor.org == org)
    }

    pub fn anchors_of(&self, role: AnchorRole) -> impl Iterator<Item = &Anchor> {
        self.anchors.iter().filter(move |anchor| anchor.role == role)
    }
}

impl Object for Roster {
    const KIND: Kind = Kind { name: "roster", bytes_max: 4 * KIB * KIB, items_max: 400_000 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.version >= 1, "roster version: it starts at 1")?;
        require(self.issued_at < self.expires_at, "roster expiry: it must lie after its issue")?;
        require(self.threshold >= 1 && usize::from(self.threshold) <= self.signers.len(), "roster threshold")?;
        require(ascending(&self.signers, |key| *key), "order of roster signers")?;
        require(ascending(&self.organisations, |org| org.id), "order of organisations")?;
        require(ascending(&self.anchors, |anchor| anchor.node), "order of anchors")?;
        let mut names: Vec<_> = self.organisations.iter().map(|org| org.name.as_str()).collect();
        names.sort_unstable();
        require(names.windows(2).all(|pair| pair[0] != pair[1]), "organisation name: it is taken")?;
        require(names.iter().all(|name| crate::id::is_slug(name)), "organisation name")?;
        let retired = |key: &IssuerKey| (key.status == IssuerStatus::Retired) == key.retired_at.is_some();
        let issuers = self.organisations.iter().flat_map(|org| org.issuers.iter());
        require(issuers.clone().all(retired), "issuer key: a retired key, and no other, has a retirement time")
    }
}
