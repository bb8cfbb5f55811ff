//! This owner's grants, looked up in the node's own store: taking one back works at once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use comity_token::Directory;
use comity_wire::object::{Grant, RevocationList, RevokedKind, Tier};
use comity_wire::{Digest, GrantId, OrgId, PublicKey, Signed, Timestamp, Unverified, Verified};

/// Grants by subject, all in memory; the store bounds how many there are.
pub(crate) struct Grants {
    org: OrgId,
    writer: PublicKey,
    by_subject: RwLock<HashMap<String, Vec<Arc<Verified<Grant>>>>>,
    withdrawn: RwLock<HashMap<GrantId, Timestamp>>,
}

impl Grants {
    pub(crate) fn new(org: OrgId, writer: PublicKey) -> Self {
        Self { org, writer, by_subject: RwLock::default(), withdrawn: RwLock::default() }
    }

    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<Verified<Grant>, Unverified> {
        let grant = Signed::<Grant>::decode(bytes)?.verify(&self.writer)?;
        if grant.org == self.org { Ok(grant) } else { Err(Unverified::WrongKey { kind: "grant" }) }
    }

    pub(crate) fn put(&self, grant: Verified<Grant>) {
        let mut by_subject = self.by_subject.write().unwrap_or_else(PoisonError::into_inner);
        let of_subject = by_subject.entry(grant.subject.as_str().to_owned()).or_default();
        of_subject.retain(|known| known.id() != grant.id());
        of_subject.push(Arc::new(grant));
    }

    /// From now on it counts no more, whenever it comes.
    pub(crate) fn withdraw(&self, grant: GrantId, at: Timestamp) {
        self.withdrawn.write().unwrap_or_else(PoisonError::into_inner).entry(grant).or_insert(at);
    }

    /// Those of the grants here that were taken back before they ended, with when that was: what a revocation list has to name.
    pub(crate) fn withdrawn(&self, now: Timestamp) -> Vec<(GrantId, Timestamp)> {
        let by_subject = self.by_subject.read().unwrap_or_else(PoisonError::into_inner);
        let withdrawn = self.withdrawn.read().unwrap_or_else(PoisonError::into_inner);
        let grants = by_subject.values().flatten().filter(|grant| now < grant.not_after);
        let mut found: Vec<_> = grants.filter_map(|grant| Some((grant.id, *withdrawn.get(&grant.id)?))).collect();
        found.sort_unstable();
        found.dedup_by_key(|(grant, _)| *grant);
        found
    }

    /// Whether it was taken back: here, or by a list that stands.
    fn is_withdrawn(&self, grant: &Grant, standing: Option<&RevocationList>) -> bool {
        let withdrawn = self.withdrawn.read().unwrap_or_else(PoisonError::into_inner);
        withdrawn.contains_key(&grant.id)
            || standing.is_some_and(|list| list.contains(RevokedKind::Grant, &grant.id.to_string()))
    }

    /// Every grant that is known, with when it was taken back, where it was.
    pub(crate) fn all(&self) -> Vec<(Arc<Verified<Grant>>, Option<Timestamp>)> {
        let by_subject = self.by_subject.read().unwrap_or_else(PoisonError::into_inner);
        let withdrawn = self.withdrawn.read().unwrap_or_else(PoisonError::into_inner);
        by_subject.values().flatten().map(|grant| (Arc::clone(grant), withdrawn.get(&grant.id).copied())).collect()
    }

    /// Every grant in force, whoever has it, as it was signed.
    pub(crate) fn in_force(&self, directory: &dyn Directory, now: Timestamp) -> Vec<Vec<u8>> {
        let by_subject = self.by_subject.read().unwrap_or_else(PoisonError::into_inner);
        let standing = directory.standing(self.org);
        let stands = |grant: &&Arc<Verified<Grant>>| {
            let revoked = self.is_withdrawn(grant, standing.as_deref());
            !revoked && grant.not_before <= now && now < grant.not_after
        };
        by_subject.values().flatten().filter(stands).map(|grant| grant.bytes().to_vec()).collect()
    }

    /// A subject's grants in force that approve a plan.
    pub(crate) fn approving(
        &self,
        subject: &str,
        directory: &dyn Directory,
        now: Timestamp,
    ) -> Vec<Arc<Verified<Grant>>> {
        let by_subject = self.by_subject.read().unwrap_or_else(PoisonError::into_inner);
        let standing = directory.standing(self.org);
        let approves = |grant: &&Arc<Verified<Grant>>| {
            let in_date = grant.not_before <= now && now < grant.not_after;
            grant.plan.is_some() && in_date && !self.is_withdrawn(grant, standing.as_deref())
        };
        by_subject.get(subject).into_iter().flatten().filter(approves).cloned().collect()
    }

    /// What a subject may use now. A grant of tier T3 counts only where the token names it.
    pub(crate) fn of(
        &self,
        subject: &str,
        named: &[Digest],
        directory: &dyn Directory,
        now: Timestamp,
    ) -> Vec<Arc<Verified<Grant>>> {
        let by_subject = self.by_subject.read().unwrap_or_else(PoisonError::into_inner);
        let standing = directory.standing(self.org);
        let stands = |grant: &&Arc<Verified<Grant>>| {
            let revoked = self.is_withdrawn(grant, standing.as_deref());
            let in_date = grant.not_before <= now && now < grant.not_after;
            !revoked && in_date && (grant.tier != Tier::Audited || named.contains(&grant.id()))
        };
        by_subject.get(subject).into_iter().flatten().filter(stands).cloned().collect()
    }
}
