//! Nodes: whose they are, and every key that was certified to them while the house looked.
//!
//! A node may rotate its keys, leave the directory, or be certified by somebody else: its older receipts are settled all
//! the same, for the owner whose work the house first sold (spec/02-keys.md §4).

use std::sync::atomic::Ordering;

use comity_wire::object::NodeCertificate;
use comity_wire::{NodeId, OrgId, PublicKey, Verified};

use super::Clearing;
use crate::failure::Failure;
use crate::store;
use crate::store::house::KeyUse;

/// What the house believes of a node now.
pub(super) struct Known {
    /// Under which claims, finals and receipts stand.
    pub(super) receipt_keys: Vec<PublicKey>,
    /// With which the node may call. An old one is good enough: what pays is signed by a receipt key.
    pub(super) transport_keys: Vec<PublicKey>,
    pub(super) owner: Option<OrgId>,
    /// The owner's, where the directory has one.
    pub(super) certificate: Option<Verified<NodeCertificate>>,
}

impl Clearing {
    /// What was remembered, with what the directory says now. What is new about a node whose work was sold is kept.
    pub(super) async fn known(&self, node: NodeId) -> Result<Known, Failure> {
        let mut conn = self.read().await?;
        let stored = store::house::node_keys(&mut conn.db(), node).await?;
        drop(conn);
        // Whoever certifies the node now, it is the owner's.
        let certificate = self.inner.directory.certificate(node);
        let certificate = certificate.filter(|found| stored.owner.is_none_or(|owner| owner == found.org));
        let mut receipt_keys: Vec<_> = stored.of(KeyUse::Receipt).collect();
        let mut transport_keys: Vec<_> = stored.of(KeyUse::Transport).collect();
        if let Some(certificate) = &certificate {
            // A node of which nothing was sold is not remembered for calling: its owner is decided by the first sale.
            if stored.owner.is_some() && stored.lacks(certificate) {
                self.remember(certificate.clone()).await?;
            }
            receipt_keys.extend(certificate.receipt_keys.iter().map(|entry| entry.key));
            transport_keys.extend(certificate.transport_keys.iter());
        }
        let owner = stored.owner.or_else(|| certificate.as_ref().map(|certificate| certificate.org));
        Ok(Known { receipt_keys, transport_keys, owner, certificate })
    }

    /// What the house believes of the node that calls; `what` says whose it is, where it is another's.
    pub(super) async fn node_asking(
        &self,
        caller: &PublicKey,
        node: NodeId,
        what: &'static str,
    ) -> Result<Known, Failure> {
        let known = self.known(node).await?;
        if known.owner.is_some() && known.transport_keys.contains(caller) {
            Ok(known)
        } else {
            Err(Failure::NotYours { what })
        }
    }

    /// Whether work of `certificate`'s node may be sold under it.
    pub(super) async fn is_owner(&self, certificate: &NodeCertificate) -> Result<(), Failure> {
        let mut conn = self.read().await?;
        let owner = store::house::node_keys(&mut conn.db(), certificate.node).await?.owner;
        if owner.is_none_or(|owner| owner == certificate.org) { Ok(()) } else { Err(not_the_owner(certificate.node)) }
    }

    /// Keeps what the directory has learnt of the nodes whose work was sold, if it has learnt anything.
    ///
    /// # Errors
    /// [`Failure`]; then it is tried again the next time.
    pub(crate) async fn certificates_look(&self) -> Result<(), Failure> {
        let version = self.inner.directory.version();
        if self.inner.directory_seen.load(Ordering::Relaxed) == version {
            return Ok(());
        }
        let mut conn = self.read().await?;
        let nodes = store::house::nodes(&mut conn.db()).await?;
        drop(conn);
        for node in nodes {
            self.known(node).await?;
        }
        self.inner.directory_seen.store(version, Ordering::Relaxed);
        Ok(())
    }

    async fn remember(&self, certificate: Verified<NodeCertificate>) -> Result<(), Failure> {
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move { store::house::node_keys_put_in_tx(conn, &certificate, now).await.map(drop) })
        })
        .await
    }
}

pub(super) fn not_the_owner(node: NodeId) -> Failure {
    Failure::NotFound { what: format!("certificate of node {node} by the organisation that owns it") }
}
