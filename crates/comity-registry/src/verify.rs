//! What makes a head, an index and an entry believable. Pure; the SDK, which runs no replica, uses the same.

use comity_wire::cbor::Limits;
use comity_wire::object::{Entry, Head, Index, Organisation, Roster, WriterCertificate};
use comity_wire::{Decode, Digest, Malformed, Object, OrgId, PublicKey, Signed, Timestamp, Unverified, Verified};

use crate::held::Held;

/// A head may be dated this far ahead of our clock.
pub const AHEAD_S_MAX: u64 = 600;

/// Why a head, an index or an entry is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error("head cannot be believed")]
    Head { source: Unverified },
    #[error("writer certificate cannot be believed")]
    Writer { source: Unverified },
    #[error("head of another federation")]
    Federation,
    #[error("{org} is not on our roster, or not yet")]
    UnknownOrganisation { org: OrgId },
    #[error("head needs roster version {needed}, ours is {ours}")]
    RosterBehind { needed: u64, ours: u64 },
    #[error("writer certificate is for another organisation, epoch or time")]
    WriterMismatch,
    #[error("head is dated {at}, more than ten minutes ahead of our clock")]
    Ahead { at: Timestamp },
    #[error("head expired at {at}")]
    Expired { at: Timestamp },
    #[error("index is not the one its head names")]
    IndexDigest,
    #[error("index cannot be read")]
    Index { source: Malformed },
    #[error("entry '{subject}' cannot be believed")]
    Entry { subject: String, source: Unverified },
    #[error("entry '{subject}' says something else than its object")]
    EntryMismatch { subject: String },
}

impl Refused {
    /// Whether waiting for a newer roster could change the answer.
    pub const fn is_lag(&self) -> bool {
        matches!(self, Self::UnknownOrganisation { .. } | Self::RosterBehind { .. })
    }
}

/// A head with the certificate of the writer who signed it.
pub type HeadPair = (Verified<Head>, Verified<WriterCertificate>);

/// Whether the organisation's writer signed this head, whatever its age.
///
/// # Errors
/// [`Refused`].
pub fn head(head: &[u8], writer: &[u8], roster: &Roster) -> Result<HeadPair, Refused> {
    let head = Signed::<Head>::decode(head).map_err(|source| Refused::Head { source })?;
    let claimed = head.unverified();
    if claimed.federation != roster.federation {
        return Err(Refused::Federation);
    }
    let org = claimed.org;
    let organisation = roster.organisation(org).ok_or(Refused::UnknownOrganisation { org })?;
    if claimed.roster_version > roster.version {
        return Err(Refused::RosterBehind { needed: claimed.roster_version, ours: roster.version });
    }
    let writer = Signed::<WriterCertificate>::decode(writer).map_err(|source| Refused::Writer { source })?;
    let writer = writer.verify(&organisation.key).map_err(|source| Refused::Writer { source })?;
    let in_time = writer.not_before <= claimed.issued_at && claimed.issued_at < writer.not_after;
    if writer.org != org || writer.epoch != claimed.epoch || !in_time {
        return Err(Refused::WriterMismatch);
    }
    let head = head.verify(&writer.key).map_err(|source| Refused::Head { source })?;
    Ok((head, writer))
}

/// Whether a head is of now.
///
/// # Errors
/// [`Refused::Ahead`] or [`Refused::Expired`].
pub fn fresh(head: &Head, now: Timestamp) -> Result<(), Refused> {
    if head.issued_at > now.plus(AHEAD_S_MAX) {
        return Err(Refused::Ahead { at: head.issued_at });
    }
    if head.expires_at <= now { Err(Refused::Expired { at: head.expires_at }) } else { Ok(()) }
}

/// Whether these bytes are the index that a head names.
///
/// # Errors
/// [`Refused`].
pub fn index(bytes: &[u8], head: &Head) -> Result<Index, Refused> {
    if bytes.len() as u64 != u64::from(head.index_bytes) || Digest::of(bytes) != head.index {
        return Err(Refused::IndexDigest);
    }
    let limits = Limits { bytes_max: Index::KIND.bytes_max, items_max: Index::KIND.items_max, tagged: false };
    let index = Index::from_cbor(bytes, limits).map_err(|source| Refused::Index { source })?;
    index.validate().map_err(|source| Refused::Index { source })?;
    if index.entries.len() as u64 != u64::from(head.entries) {
        return Err(Refused::IndexDigest);
    }
    Ok(index)
}

/// Whether these bytes are the object of an index entry: the right key for its kind, and what the entry says of it.
///
/// # Errors
/// [`Refused`].
pub fn entry(entry: &Entry, bytes: &[u8], organisation: &Organisation, writer: &PublicKey) -> Result<Held, Refused> {
    let subject = || entry.subject.to_string();
    let keys = keys_for(entry, organisation, writer);
    let held =
        Held::verify(entry.kind, bytes, &keys).map_err(|source| Refused::Entry { subject: subject(), source })?;
    if held.entry(writer) != *entry || !belongs(&held, organisation) {
        return Err(Refused::EntryMismatch { subject: subject() });
    }
    Ok(held)
}

/// The keys that may sign a kind (spec/02-keys.md §2).
fn keys_for(entry: &Entry, organisation: &Organisation, writer: &PublicKey) -> Vec<PublicKey> {
    use comity_wire::object::EntryKind as Kind;
    match entry.kind {
        Kind::NodeCertificate => vec![organisation.key],
        Kind::RevocationList => {
            // In a feed the writer's head vouches for it. Were a list of a key that was stolen refused, nobody who is new to the feed could
            // read anything of it until another list is made.
            organisation.issuers.iter().map(|issuer| issuer.key).chain([*writer]).collect()
        }
        _ => vec![*writer],
    }
}

/// An organisation speaks for itself and for models under its own name only.
fn belongs(held: &Held, organisation: &Organisation) -> bool {
    let name = organisation.name.as_str();
    let own_models = match held {
        Held::Summary(summary) => summary.model.organisation() == name,
        Held::Manifest(manifest) => manifest.model.organisation() == name,
        Held::Policy(policy) => policy.models.iter().all(|model| model.organisation() == name),
        Held::Grant(grant) => grant.models.iter().all(|model| model.organisation() == name),
        _ => true,
    };
    held.org() == organisation.id && own_models
}
