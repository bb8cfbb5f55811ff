//! The read handle on what a federation publishes: roster, certificates, tariffs, policies, revocations.
//!
//! Everything behind it was verified before it came in. `comity-network` implements it over its replica, [`File`] over
//! signed objects in memory or in a folder.

mod file;

use std::sync::Arc;

use comity_wire::object::{Announcement, Manifest, NodeCertificate, Policy, RevocationList, Roster, Summary, Tariff};
use comity_wire::{Digest, ModelId, NodeId, OrgId, Verified};

pub use file::{File, Inserted, LoadError, Refused};

/// Sync and cheap: it is asked on every request, and never waits.
pub trait Directory: Send + Sync {
    /// The newest verified roster.
    fn roster(&self) -> Arc<Roster>;
    /// SHA-256 of its payload.
    fn roster_digest(&self) -> Digest;
    fn certificate(&self, node: NodeId) -> Option<Verified<NodeCertificate>>;
    /// By content id; a tariff that was ever seen stays, since tokens pin it.
    fn tariff(&self, id: &Digest) -> Option<Verified<Tariff>>;
    fn policy(&self, model: &ModelId) -> Option<Verified<Policy>>;
    fn summary(&self, model: &ModelId) -> Option<Verified<Summary>>;
    /// Where it is held locally.
    fn manifest(&self, model: &ModelId) -> Option<Verified<Manifest>>;
    /// The newest revocation list of that organisation.
    fn standing(&self, org: OrgId) -> Option<Verified<RevocationList>>;
    fn announcement(&self, node: NodeId) -> Option<Verified<Announcement>>;
    /// Rises with each change.
    fn version(&self) -> u64;
}

impl<D: Directory + ?Sized> Directory for Arc<D> {
    fn roster(&self) -> Arc<Roster> {
        (**self).roster()
    }
    fn roster_digest(&self) -> Digest {
        (**self).roster_digest()
    }
    fn certificate(&self, node: NodeId) -> Option<Verified<NodeCertificate>> {
        (**self).certificate(node)
    }
    fn tariff(&self, id: &Digest) -> Option<Verified<Tariff>> {
        (**self).tariff(id)
    }
    fn policy(&self, model: &ModelId) -> Option<Verified<Policy>> {
        (**self).policy(model)
    }
    fn summary(&self, model: &ModelId) -> Option<Verified<Summary>> {
        (**self).summary(model)
    }
    fn manifest(&self, model: &ModelId) -> Option<Verified<Manifest>> {
        (**self).manifest(model)
    }
    fn standing(&self, org: OrgId) -> Option<Verified<RevocationList>> {
        (**self).standing(org)
    }
    fn announcement(&self, node: NodeId) -> Option<Verified<Announcement>> {
        (**self).announcement(node)
    }
    fn version(&self) -> u64 {
        (**self).version()
    }
}
