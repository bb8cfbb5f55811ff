//! AMIE at work: who may call, what is announced to whom, what a site's packets change (docs/reference/amie.md).
//!
//! Whatever the house's operator does to a project that a site knows becomes due there in the same SQL transaction; what
//! waits for a site already is not asked for twice. No act on credits fails because a site is behind.

mod announce;
mod export;
mod packets;
mod persons;
mod usage;

use comity_wire::{AwardId, Digest, OrgId, ProjectId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clearing;
use crate::amie::State;
use crate::failure::Failure;
use crate::store;
use crate::store::amie::{Site, Transaction};

pub(in crate::service) use announce::{act_in_tx, due_in_tx};
pub(in crate::service) use export::usage_record;
pub use export::{ReportAs, UsagePage};
pub(crate) use packets::{List, Note};
pub use persons::{MemberOf, Merge, Person, PersonSay};
pub use usage::MeterRow;
pub(crate) use usage::UsageMessage;

/// Sites, revoked ones too.
const SITES_MAX: usize = 256;
/// Transactions of one site that are in progress.
const OPEN_MAX: u64 = 20_000;
/// Transactions that the operator is shown at once.
const TRANSACTIONS_SHOWN_MAX: u32 = 1_000;
const NAME_BYTES_MAX: usize = 64;

/// `POST /admin/amie/sites`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteAdd {
    /// What the site says in `XA-SITE`.
    pub name: String,
    /// Whose resource it is.
    pub organisation: OrgId,
    /// The one element of every ResourceList.
    pub resource: String,
}

/// `POST /admin/amie/sites/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteChange {
    /// A new key; the old one is worth nothing from then on.
    Rekey,
    Revoke,
}

/// A site's name and the key to show once; none where it was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteKey {
    pub site: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A site, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRow {
    pub site: String,
    pub organisation: OrgId,
    pub resource: String,
    pub added_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    pub in_progress: u64,
}

/// `POST /admin/amie/announce`: an award to a site that did not hear of it by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    pub site: String,
    pub award: AwardId,
}

/// A transaction, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    pub transaction: u64,
    pub site: String,
    pub flow: String,
    pub state: String,
    pub project: ProjectId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<PublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub award: Option<AwardId>,
    /// What the site said of it at the end.
    pub message: String,
    pub began_at: Timestamp,
    pub changed_at: Timestamp,
}

impl From<Transaction> for TransactionRow {
    fn from(row: Transaction) -> Self {
        Self {
            transaction: row.id,
            site: row.site,
            flow: row.flow.word().to_owned(),
            state: row.state.word().to_owned(),
            project: row.project,
            member: row.member,
            award: row.award,
            message: row.message,
            began_at: row.began_at,
            changed_at: row.changed_at,
        }
    }
}

impl Clearing {
    /// Lets a site call; gives the key that it shows, which is nowhere kept.
    ///
    /// # Errors
    /// [`Failure`] where there is a site of this name, or no such organisation.
    pub async fn amie_site_add(&self, ask: SiteAdd) -> Result<SiteKey, Failure> {
        let SiteAdd { name, organisation, resource } = ask;
        for (what, text) in [("a site's name", &name), ("a resource's name", &resource)] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
                return Err(Failure::invalid(format!(
                    "{what} is 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, '.', '_' and '-'"
                )));
            }
        }
        if !self.directory().roster().organisations.iter().any(|org| org.id == organisation) {
            return Err(Failure::NotFound { what: format!("organisation {organisation} in the roster") });
        }
        let (key, digest) = new_key()?;
        let site = Site {
            name: name.clone(),
            owner: organisation,
            resource,
            key: digest,
            added_at: self.now(),
            revoked_at: None,
        };
        self.write(move |conn| {
            Box::pin(async move {
                let known = store::amie::sites(conn).await?;
                if known.len() >= SITES_MAX {
                    return Err(Failure::Limit { what: "AMIE sites", max: SITES_MAX.to_string() });
                }
                if known.iter().any(|known| known.name == site.name) {
                    return Err(Failure::invalid(format!(
                        "site {} is there already: `comity clearing amie site rekey` gives it another key",
                        site.name
                    )));
                }
                store::amie::site_insert_in_tx(conn, &site).await
            })
        })
        .await?;
        Ok(SiteKey { site: name, key: Some(key) })
    }

    /// Gives a site another key, or lets it call no more. What it was asked for and what it reported stays.
    ///
    /// # Errors
    /// [`Failure`] where there is no such site.
    pub async fn amie_site_change(&self, name: String, change: SiteChange) -> Result<SiteKey, Failure> {
        let now = self.now();
        let (key, digest) = new_key()?;
        self.write(move |conn| {
            Box::pin(async move {
                let mut site = site_of(conn, &name).await?;
                // Whoever was revoked and is let in again gets a key that nobody else has seen.
                site.key = digest;
                site.revoked_at = (change == SiteChange::Revoke).then_some(now);
                store::amie::site_put_in_tx(conn, &site).await?;
                Ok(SiteKey { site: name, key: (change == SiteChange::Rekey).then_some(key) })
            })
        })
        .await
    }

    /// # Errors
    /// [`Failure`].
    pub async fn amie_sites(&self) -> Result<Vec<SiteRow>, Failure> {
        let mut conn = self.read().await?;
        let mut rows = Vec::new();
        for site in store::amie::sites(&mut conn.db()).await? {
            rows.push(SiteRow {
                in_progress: store::amie::transactions_open(&mut conn.db(), &site.name).await?,
                site: site.name,
                organisation: site.owner,
                resource: site.resource,
                added_at: site.added_at,
                revoked_at: site.revoked_at,
            });
        }
        Ok(rows)
    }

    /// The newest transactions, those in progress first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn amie_transactions(&self, state: Option<State>) -> Result<Vec<TransactionRow>, Failure> {
        let mut conn = self.read().await?;
        let rows = store::amie::transactions(&mut conn.db(), state, TRANSACTIONS_SHOWN_MAX).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// The site that shows this key; none where either is wrong.
    pub(crate) async fn amie_site(&self, name: &str, key: &str) -> Result<Option<Site>, Failure> {
        let shown = Digest::of(key.as_bytes());
        let site = store::amie::site_find(&mut self.read().await?.db(), name).await?;
        // Digests of secrets are compared without telling by the time where they begin to differ.
        let same = |known: &Digest| known.0.iter().zip(shown.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0;
        Ok(site.filter(|site| site.revoked_at.is_none() && same(&site.key)))
    }

    /// What the house is called as a site: its organisation's name in the roster.
    pub(crate) fn amie_name(&self) -> String {
        let roster = self.directory().roster();
        let own = roster.organisations.iter().find(|org| org.id == self.inner.config.org);
        own.map_or_else(|| "COMITY".to_owned(), |org| org.name.to_string().to_uppercase())
    }
}

pub(super) async fn site_of(conn: &mut comity_ledger::Db<'_>, name: &str) -> Result<Site, Failure> {
    let site = store::amie::site_find(conn, name).await?;
    site.ok_or_else(|| Failure::NotFound { what: format!("AMIE site {name}") })
}

/// 256 bits of randomness, and what of it is kept.
fn new_key() -> Result<(String, Digest), Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Failure::Entropy)?;
    let key = format!("amie-{}", Digest(bytes));
    let digest = Digest::of(key.as_bytes());
    Ok((key, digest))
}
