//! An entry's object, verified under the key that must sign its kind.

use std::sync::Arc;

use comity_wire::object::{
    Announcement, Entry, EntryKind, Grant, Manifest, NodeCertificate, Policy, RevocationList, Statistics, Summary,
    Tariff,
};
use comity_wire::{Digest, Object, PublicKey, Signed, Unverified, Verified};

/// What an index entry stands for.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives behind an Arc")]
pub enum Held {
    Summary(Verified<Summary>),
    Manifest(Verified<Manifest>),
    Policy(Verified<Policy>),
    Tariff(Verified<Tariff>),
    NodeCertificate(Verified<NodeCertificate>),
    Announcement(Verified<Announcement>),
    RevocationList(Verified<RevocationList>),
    Grant(Verified<Grant>),
    Statistics(Verified<Statistics>),
}

macro_rules! each {
    ($held:expr, $object:ident => $value:expr) => {
        match $held {
            Held::Summary($object) => $value,
            Held::Manifest($object) => $value,
            Held::Policy($object) => $value,
            Held::Tariff($object) => $value,
            Held::NodeCertificate($object) => $value,
            Held::Announcement($object) => $value,
            Held::RevocationList($object) => $value,
            Held::Grant($object) => $value,
            Held::Statistics($object) => $value,
        }
    };
}

impl Held {
    /// Decodes bytes of a kind and verifies them under whichever of the keys they name.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn verify(kind: EntryKind, bytes: &[u8], keys: &[PublicKey]) -> Result<Self, Unverified> {
        fn one<T: Object>(bytes: &[u8], keys: &[PublicKey]) -> Result<Verified<T>, Unverified> {
            Signed::<T>::decode(bytes)?.verify_any(keys)
        }
        match kind {
            EntryKind::Summary => one(bytes, keys).map(Self::Summary),
            EntryKind::Manifest => one(bytes, keys).map(Self::Manifest),
            EntryKind::Policy => one(bytes, keys).map(Self::Policy),
            EntryKind::Tariff => one(bytes, keys).map(Self::Tariff),
            EntryKind::NodeCertificate => one(bytes, keys).map(Self::NodeCertificate),
            EntryKind::Announcement => one(bytes, keys).map(Self::Announcement),
            EntryKind::RevocationList => one(bytes, keys).map(Self::RevocationList),
            EntryKind::Grant => one(bytes, keys).map(Self::Grant),
            EntryKind::Statistics => one(bytes, keys).map(Self::Statistics),
        }
    }

    /// The kind that bytes claim to be of; `None` where no entry may hold them.
    pub fn kind_of(bytes: &[u8]) -> Option<EntryKind> {
        fn is<T: Object>(bytes: &[u8]) -> bool {
            Signed::<T>::decode(bytes).is_ok()
        }
        type Is = fn(&[u8]) -> bool;
        let kinds: [(EntryKind, Is); 9] = [
            (EntryKind::Summary, is::<Summary>),
            (EntryKind::Manifest, is::<Manifest>),
            (EntryKind::Policy, is::<Policy>),
            (EntryKind::Tariff, is::<Tariff>),
            (EntryKind::NodeCertificate, is::<NodeCertificate>),
            (EntryKind::Announcement, is::<Announcement>),
            (EntryKind::RevocationList, is::<RevocationList>),
            (EntryKind::Grant, is::<Grant>),
            (EntryKind::Statistics, is::<Statistics>),
        ];
        kinds.into_iter().find(|(_, is)| is(bytes)).map(|(kind, _)| kind)
    }

    pub const fn kind(&self) -> EntryKind {
        match self {
            Self::Summary(_) => EntryKind::Summary,
            Self::Manifest(_) => EntryKind::Manifest,
            Self::Policy(_) => EntryKind::Policy,
            Self::Tariff(_) => EntryKind::Tariff,
            Self::NodeCertificate(_) => EntryKind::NodeCertificate,
            Self::Announcement(_) => EntryKind::Announcement,
            Self::RevocationList(_) => EntryKind::RevocationList,
            Self::Grant(_) => EntryKind::Grant,
            Self::Statistics(_) => EntryKind::Statistics,
        }
    }

    pub fn id(&self) -> Digest {
        each!(self, object => object.id())
    }

    pub fn bytes(&self) -> &[u8] {
        each!(self, object => object.bytes())
    }

    pub fn signer(&self) -> &PublicKey {
        each!(self, object => object.signer())
    }

    pub fn org(&self) -> comity_wire::OrgId {
        each!(self, object => object.org)
    }

    /// What its entry in an index must be called. Revocation lists are told apart by who signs them: an issuer's is
    /// named by its key, the writer's `feed`.
    pub fn subject(&self, writer: &PublicKey) -> String {
        match self {
            Self::Summary(summary) => summary.model.to_string(),
            Self::Manifest(manifest) => manifest.model.to_string(),
            Self::Policy(policy) => policy.name.to_string(),
            Self::Tariff(tariff) => tariff.name.to_string(),
            Self::NodeCertificate(certificate) => certificate.node.to_string(),
            Self::Announcement(announcement) => announcement.node.to_string(),
            Self::RevocationList(list) if list.signer() == writer => "feed".to_owned(),
            Self::RevocationList(list) => list.signer().to_string(),
            Self::Grant(grant) => grant.id.to_string(),
            Self::Statistics(statistics) => statistics.name(),
        }
    }

    /// The version its entry carries: the object's own, its number, or when it began.
    pub fn version(&self) -> u64 {
        match self {
            Self::Summary(summary) => summary.version,
            Self::Manifest(manifest) => manifest.version,
            Self::Policy(policy) => policy.version,
            Self::Tariff(tariff) => tariff.version,
            Self::NodeCertificate(certificate) => certificate.not_before.seconds(),
            Self::Announcement(announcement) => announcement.issued_at.seconds(),
            Self::RevocationList(list) => list.number,
            Self::Grant(grant) => grant.not_before.seconds(),
            Self::Statistics(statistics) => statistics.issued_at.seconds(),
        }
    }

    pub fn entry(&self, writer: &PublicKey) -> Entry {
        let subject = self.subject(writer).try_into().expect("ids and names are shorter than an entry's subject");
        let bytes = u32::try_from(self.bytes().len()).expect("kinds are smaller than 4 GiB");
        Entry { kind: self.kind(), subject, version: self.version(), id: self.id(), bytes }
    }

    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

/// Whether every replica holds objects of a kind, or fetches them when asked.
pub const fn is_replicated(kind: EntryKind) -> bool {
    !matches!(kind, EntryKind::Manifest)
}
