//! Who may talk to us: a node whose organisation is on the roster certified the key it connects with.

use comity_wire::object::{NodeCertificate, RevokedKind};
use comity_wire::{NodeId, OrgId, PublicKey, Signed, Timestamp, Unverified, Verified};

use super::{Change, Output, Registry};
use crate::held::Held;
use crate::roster::NotTheNext;

/// Why a peer is not admitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    #[error("node certificate cannot be believed")]
    Certificate { source: Unverified },
    #[error("{org} is not on our roster, or not yet")]
    UnknownOrganisation { org: OrgId },
    #[error("node certificate is valid from {from} to {to}")]
    NotInTime { from: Timestamp, to: Timestamp },
    #[error("node certificate does not name the key of this connection")]
    TransportKey,
    #[error("the roster names another organisation for {node}")]
    OtherOrganisation { node: NodeId },
    #[error("{node} was revoked by its organisation")]
    Revoked { node: NodeId },
    #[error("{node} showed a certificate of restore {known} before, this one says {shown}")]
    Restored { node: NodeId, known: u32, shown: u32 },
    #[error(transparent)]
    Roster(#[from] NotTheNext),
}

impl NotAdmitted {
    /// Whether a newer roster could change the answer.
    pub const fn is_lag(&self) -> bool {
        matches!(self, Self::UnknownOrganisation { .. } | Self::Roster(_))
    }
}

impl Registry {
    /// Judges a certificate shown at hello by the peer that holds `key`, and remembers it.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(
        &mut self,
        now: Timestamp,
        certificate: &[u8],
        key: &PublicKey,
    ) -> Result<Verified<NodeCertificate>, NotAdmitted> {
        self.chain.expired(now)?;
        let signed =
            Signed::<NodeCertificate>::decode(certificate).map_err(|source| NotAdmitted::Certificate { source })?;
        let org = signed.unverified().org;
        let organisation = self.roster().organisation(org).ok_or(NotAdmitted::UnknownOrganisation { org })?;
        let certificate = signed.verify(&organisation.key).map_err(|source| NotAdmitted::Certificate { source })?;
        let node = certificate.node;
        if !certificate.is_valid_at(now) {
            return Err(NotAdmitted::NotInTime { from: certificate.not_before, to: certificate.not_after });
        }
        if !certificate.transport_keys.contains(key) {
            return Err(NotAdmitted::TransportKey);
        }
        if !self.roster().may_certify(org, node) {
            return Err(NotAdmitted::OtherOrganisation { node });
        }
        if self.is_revoked(org, node) {
            return Err(NotAdmitted::Revoked { node });
        }
        let before = self.certificate(org, node);
        if let Some(known) = before.as_ref().filter(|known| known.restore > certificate.restore) {
            return Err(NotAdmitted::Restored { node, known: known.restore, shown: certificate.restore });
        }
        if before.is_none_or(|known| known.not_before < certificate.not_before || known.restore < certificate.restore) {
            if self.greeted.len() >= Self::GREETED_MAX {
                self.greeted.pop_first();
            }
            self.greeted.insert((org, node), certificate.clone());
            self.out.push_back(Output::Notify(Change::Certificate { node }));
        }
        Ok(certificate)
    }

    /// Whether the organisation's writer, or one of its issuers, has revoked this node.
    pub fn is_revoked(&self, org: OrgId, node: NodeId) -> bool {
        let subject = node.to_string();
        let objects = self.feed(org).into_iter().flat_map(|current| current.objects.values());
        objects
            .filter_map(|held| if let Held::RevocationList(list) = &**held { Some(list) } else { None })
            .any(|list| list.contains(RevokedKind::Node, &subject))
    }
}
