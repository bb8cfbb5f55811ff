//! The key that the house sells with: one that two officers approved, and that the roster lets sign.
//!
//! Whoever can change a file on the house's machine could else let it sign with a key of their own. What is sold already is not
//! touched: claims, finals and the revocation list go on.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use comity_ledger::Db;
use comity_wire::object::{IssuerStatus, IssuerUse};
use comity_wire::{Digest, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clearing;
use super::acts::text;
use crate::acts::{self, IssuerApprove};
use crate::failure::Failure;
use crate::store;

/// A key that the house may sell with, or sold with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerView {
    pub key: PublicKey,
    pub since: Timestamp,
    /// None: nobody approved it. It was there while fewer than two officers were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Digest>,
    /// Whether this process signs with it.
    pub in_use: bool,
    /// What the roster says of it: `active`, `active from …`, `retired at …`, `compromised`, `not listed`.
    pub roster: String,
}

pub(super) async fn check(conn: &mut Db<'_>, ask: &IssuerApprove) -> Result<(), Failure> {
    text("the reason", &ask.reason)?;
    match store::issuing::known(conn).await?.iter().any(|known| known.key == ask.key) {
        true => Err(Failure::invalid(format!("{} is approved already", ask.key))),
        false => Ok(()),
    }
}

impl Clearing {
    /// The keys that the house may sell with, the newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn issuer_keys(&self) -> Result<Vec<IssuerView>, Failure> {
        let known = store::issuing::known(&mut self.read().await?.db()).await?;
        let (own, now) = (self.inner.keys.issuer.public(), self.now());
        let view = |store::issuing::IssuerRow { key, since, act }| IssuerView {
            key,
            since,
            act,
            in_use: key == own,
            roster: self.listed(&key, now).map_or_else(|why| why, |()| "active".into()),
        };
        Ok(known.into_iter().map(view).collect())
    }

    /// Looks whether the key in use is one of those that two officers approved. While there are fewer than two it is taken down.
    pub(crate) async fn issuing_look(&self) -> Result<(), Failure> {
        let (own, now) = (self.inner.keys.issuer.public(), self.now());
        let known = store::issuing::known(&mut self.read().await?.db()).await?;
        let approved = known.iter().any(|known| known.key == own) || {
            self.write(move |conn| {
                Box::pin(async move {
                    let known = store::issuing::known(conn).await?;
                    if known.iter().any(|known| known.key == own) {
                        return Ok(true);
                    }
                    // Books that have none yet are new, or from before this was asked: theirs is the key that they sold with.
                    if known.is_empty() || acts::alone(&store::acts::officers(conn).await?).is_ok() {
                        store::issuing::approve_in_tx(conn, &own, None, now).await?;
                        tracing::info!(key = %own, "the issuer key is taken down");
                        return Ok(true);
                    }
                    Ok(false)
                })
            })
            .await?
        };
        if !approved {
            tracing::error!(key = %own, "two officers have not approved the issuer key: nothing is sold");
        }
        let mut keys: BTreeSet<PublicKey> = known.into_iter().map(|known| known.key).collect();
        if approved {
            keys.insert(own);
        }
        *self.inner.issuing.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whether two officers approved the key in use.
    pub(super) fn is_issuing(&self) -> bool {
        self.is_approved(&self.inner.keys.issuer.public())
    }

    fn is_approved(&self, key: &PublicKey) -> bool {
        self.inner.issuing.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Whether what this key signed is still the house's word: approved, and not in other hands. A file beside the others makes no key of
    /// the house.
    pub(super) fn is_word_of(&self, key: &PublicKey) -> bool {
        let roster = self.inner.directory.roster();
        let own = roster.organisation(self.inner.config.org);
        let listed = own.and_then(|own| own.issuers.iter().find(|issuer| issuer.key == *key));
        self.is_approved(key) && listed.is_none_or(|issuer| issuer.status != IssuerStatus::Compromised)
    }

    /// Whether nodes would take what is signed now.
    ///
    /// # Errors
    /// [`Failure::DutyConflict`] where two officers have not approved the key, [`Failure::NotListed`] where the roster does not let
    /// it sign.
    pub(super) fn issues(&self, now: Timestamp) -> Result<(), Failure> {
        if !self.is_issuing() {
            return Err(Failure::DutyConflict {
                what: "two officers of the clearing house have not approved the key that it signs with: it sells nothing until \
                       they have (comity clearing issuer approve)"
                    .into(),
            });
        }
        self.listed(&self.inner.keys.issuer.public(), now).map_err(|what| Failure::NotListed { what })
    }

    /// What the roster says of a key, where it may not sign now.
    fn listed(&self, key: &PublicKey, now: Timestamp) -> Result<(), String> {
        let roster = self.inner.directory.roster();
        let own = roster.organisation(self.inner.config.org);
        let listed = own.and_then(|own| own.issuers.iter().find(|issuer| issuer.key == *key));
        let Some(issuer) = listed.filter(|issuer| issuer.use_ == IssuerUse::Budget) else {
            return Err("not listed".into());
        };
        match (issuer.status, issuer.retired_at) {
            (IssuerStatus::Compromised, _) => Err("compromised".into()),
            (_, Some(at)) if at < now => Err(format!("retired at {at}")),
            _ if now < issuer.from => Err(format!("active from {}", issuer.from)),
            _ => Ok(()),
        }
    }
}
