//! The house's revocation list: number 1 is empty and made at the start; a fresh one comes at least every 12 h.

use std::sync::PoisonError;

use comity_wire::cbor::List;
use comity_wire::object::{RevocationList, RevokedKind};
use comity_wire::{NodeId, OrgId, Signed, TokenId, Verified, cose};

use super::Clearing;
use crate::config::Publisher;
use crate::failure::Failure;
use crate::store;

/// When a list is made anew; nodes take one for 24 h.
pub(crate) const RENEW_S: u64 = 12 * 3600;

impl Clearing {
    /// The newest list.
    pub fn standing(&self) -> Option<Verified<RevocationList>> {
        self.inner.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands the newest list, and each that follows, to the feed.
    pub fn on_standing(&self, publisher: Publisher) {
        if let Some(list) = self.standing() {
            publisher(&list);
        }
        *self.inner.publisher.write().unwrap_or_else(PoisonError::into_inner) = Some(publisher);
    }

    /// Stops new work under a token, everywhere. What was done is paid all the same (rule 8).
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke(&self, token: TokenId) -> Result<u64, Failure> {
        self.revoke_subject(RevokedKind::Token, token.to_string()).await
    }

    /// Stops new work at a node.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_node(&self, node: NodeId) -> Result<u64, Failure> {
        self.revoke_subject(RevokedKind::Node, node.to_string()).await
    }

    /// Stops new work at all nodes of an organisation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_organisation(&self, org: OrgId) -> Result<u64, Failure> {
        self.revoke_subject(RevokedKind::Organisation, org.to_string()).await
    }

    async fn revoke_subject(&self, kind: RevokedKind, subject: String) -> Result<u64, Failure> {
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move { store::house::revocation_insert_in_tx(conn, kind, &subject, now).await })
        })
        .await?;
        self.fail("revoke.after_commit");
        self.standing_issue().await
    }

    pub(super) async fn standing_begin(&self) -> Result<(), Failure> {
        let mut conn = self.read().await?;
        let stored = store::house::standing(&mut conn.db()).await?;
        let revoked = store::house::revocations(&mut conn.db(), self.now()).await?;
        drop(conn);
        let mut is_whole = true;
        if let Some(bytes) = stored {
            match Signed::<RevocationList>::decode(&bytes)?.verify_any(&self.inner.keys.issuers()) {
                Ok(list) => {
                    // One that still names what has ended meanwhile is whole.
                    is_whole = revoked.iter().all(|entry| list.entries.contains(entry));
                    *self.inner.standing.write().unwrap_or_else(PoisonError::into_inner) = Some(list);
                }
                // The house has another issuer key and not the one before: it signs the next list at once.
                Err(source) => tracing::warn!(%source, "the stored revocation list is an earlier key's"),
            }
        }
        if is_whole {
            return self.standing_renew().await.map(drop);
        }
        // The house stopped between a revocation and the list that tells of it. A list that cannot be made is no reason
        // to stay shut: the stored one stands.
        if let Err(source) = self.standing_issue().await {
            tracing::error!(error = &source as &dyn std::error::Error, "a revocation is not on any list yet");
        }
        Ok(())
    }

    /// Makes a fresh list where the newest is 12 h old or signed by a key that retired; whether it did.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn standing_renew(&self) -> Result<bool, Failure> {
        let fresh = self.standing().is_some_and(|list| {
            self.now().since(list.issued_at) < RENEW_S && *list.signer() == self.inner.keys.issuer.public()
        });
        if !fresh {
            self.standing_issue().await?;
        }
        Ok(!fresh)
    }

    /// Numbers, signs, stores and publishes a list of everything that is revoked.
    async fn standing_issue(&self) -> Result<u64, Failure> {
        let turn = self.inner.standing_turn.lock().await;
        let mut conn = self.read().await?;
        let now = self.now();
        let entries = store::house::revocations(&mut conn.db(), now).await?;
        // Numbers rise whoever signed the list before.
        let stored = store::house::standing(&mut conn.db()).await?;
        drop(conn);
        let stored = stored.map(|bytes| Signed::<RevocationList>::decode(&bytes)).transpose()?;
        let number = stored.map_or(1, |list| list.unverified().number + 1);
        let entries = List::new(entries).map_err(Failure::invalid)?;
        let list = RevocationList { org: self.inner.config.org, number, issued_at: now, entries };
        let list = cose::sign(&list, &self.inner.keys.issuer);
        let (bytes, named) = (list.bytes().to_vec(), (number, list.id()));
        self.fail("list.before_commit");
        self.write(move |conn| {
            Box::pin(async move { store::house::standing_put_in_tx(conn, named, &bytes, now).await })
        })
        .await?;
        self.fail("list.after_commit");
        *self.inner.standing.write().unwrap_or_else(PoisonError::into_inner) = Some(list.clone());
        let publisher = self.inner.publisher.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(publisher) = publisher {
            publisher(&list);
        }
        drop(turn);
        Ok(number)
    }
}
