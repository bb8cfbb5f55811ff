//! The house's revocation list: number 1 is empty and made at the start; a fresh one comes at least every 12 h.

use std::sync::PoisonError;

use comity_wire::cbor::List;
use comity_wire::object::{Revocation, RevocationList, RevokedKind};
use comity_wire::{NodeId, OrgId, Signed, Timestamp, TokenId, Verified, cose};

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
        // Others may have a list of a higher number, from before the books were set back: one that is above it is made at once.
        let restored_at = self.inner.restored.map(|restored| restored.restored_at);
        let is_set_back = self.standing().is_some_and(|list| restored_at.is_some_and(|at| list.issued_at < at));
        if is_whole && !is_set_back {
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
        let heard = self.standing_heard().map_or(0, |list| list.number);
        let fresh = self.standing().is_some_and(|list| {
            let is_newest = list.number >= heard && self.standing_lost(&list.entries, self.now()).is_empty();
            is_newest && self.now().since(list.issued_at) < RENEW_S && *list.signer() == self.inner.keys.issuer.public()
        });
        if !fresh {
            self.standing_issue().await?;
        }
        Ok(!fresh)
    }

    /// The house's own newest list as the federation has it. It is above the house's where books were set back to a backup.
    fn standing_heard(&self) -> Option<Verified<RevocationList>> {
        self.inner.directory.standing(self.inner.config.org)
    }

    /// What that list names and `known` does not, and has not ended by itself.
    fn standing_lost(&self, known: &[Revocation], now: Timestamp) -> Vec<Revocation> {
        let heard = self.standing_heard();
        let is_known =
            |entry: &Revocation| known.iter().any(|known| (known.kind, &known.subject) == (entry.kind, &entry.subject));
        let has_ended = |entry: &Revocation| entry.kind == RevokedKind::Token && entry.at < store::house::ended(now);
        let lost = heard.iter().flat_map(|list| list.entries.iter());
        lost.filter(|entry| !is_known(entry) && !has_ended(entry)).cloned().collect()
    }

    /// Numbers, signs, stores and publishes a list of everything that is revoked. What the federation has of the house's lists and
    /// the books have not is revoked all the same.
    async fn standing_issue(&self) -> Result<u64, Failure> {
        let turn = self.inner.standing_turn.lock().await;
        let mut conn = self.read().await?;
        let now = self.now();
        let mut entries = store::house::revocations(&mut conn.db(), now).await?;
        let heard = self.standing_heard();
        let lost = self.standing_lost(&entries, now);
        if !lost.is_empty() {
            tracing::warn!(
                entries = lost.len(),
                "the federation knows of revocations that are not in the books: they are taken over"
            );
            entries.extend(lost.iter().cloned());
            entries.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        }
        // Numbers rise whoever signed the list before.
        let stored = store::house::standing(&mut conn.db()).await?;
        drop(conn);
        let stored = stored.map(|bytes| Signed::<RevocationList>::decode(&bytes)).transpose()?;
        let number = stored.map_or(1, |list| list.unverified().number + 1);
        let number = number.max(heard.map_or(1, |list| list.number + 1));
        // Of books that were set back nobody knows how far the numbers had come; the time is above all of them.
        let number = self.inner.restored.map_or(number, |_| number.max(now.0));
        let entries = List::new(entries).map_err(Failure::invalid)?;
        let list = RevocationList { org: self.inner.config.org, number, issued_at: now, entries };
        let list = cose::sign(&list, &self.inner.keys.issuer);
        let (bytes, named) = (list.bytes().to_vec(), (number, list.id()));
        self.fail("list.before_commit");
        self.write(move |conn| {
            Box::pin(async move {
                for entry in &lost {
                    store::house::revocation_insert_in_tx(conn, entry.kind, &entry.subject, entry.at).await?;
                }
                store::house::standing_put_in_tx(conn, named, &bytes, now).await
            })
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
