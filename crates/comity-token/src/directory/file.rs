//! A directory of signed objects in memory, or read from a folder of `*.cbor` files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use comity_wire::object::{
    Announcement, IssuerStatus, Manifest, NodeCertificate, Organisation, Policy, RevocationList, Roster, RosterFile,
    Summary, Tariff, WriterCertificate,
};
use comity_wire::{Code, Digest, ModelId, NodeId, Object, OrgId, PublicKey, Signed, Unverified, Verified};

use super::Directory;

/// Each object was verified as it came in: roster → organisation key → certificates → feed writer. It knows no time, so
/// dates are judged by whoever uses an object.
pub struct File {
    inner: RwLock<Inner>,
}

struct Inner {
    roster: Arc<Roster>,
    roster_digest: Digest,
    writers: HashMap<OrgId, Verified<WriterCertificate>>,
    certificates: HashMap<NodeId, Verified<NodeCertificate>>,
    tariffs: HashMap<Digest, Verified<Tariff>>,
    policies: HashMap<ModelId, Verified<Policy>>,
    summaries: HashMap<ModelId, Verified<Summary>>,
    manifests: HashMap<ModelId, Verified<Manifest>>,
    standings: HashMap<OrgId, Verified<RevocationList>>,
    announcements: HashMap<NodeId, Verified<Announcement>>,
    version: u64,
}

/// What an insert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is now the newest of its subject.
    Newest { kind: &'static str, id: Digest },
    /// A newer one, or the same, is there already.
    Known { kind: &'static str, id: Digest },
}

/// Why an object does not come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error(transparent)]
    Object(#[from] Unverified),
    #[error("not an object that a directory holds")]
    Kind,
    #[error("roster has {have} of the {threshold} signatures it needs")]
    RosterThreshold { have: usize, threshold: usize },
    #[error("roster version {found} does not follow {have}")]
    RosterVersion { have: u64, found: u64 },
    #[error("a new issuer key of {org} could be used within 48 h of its publication")]
    Hasty { org: OrgId },
    #[error("roster is another federation's")]
    Federation,
    #[error("{org} is not on the roster")]
    Organisation { org: OrgId },
    #[error("{org} has no certified feed writer here yet")]
    Writer { org: OrgId },
    #[error("{org} has no say over {subject}")]
    Subject { org: OrgId, subject: String },
}

impl Refused {
    /// The stable code that outsiders get.
    pub fn code(&self) -> Code {
        match self {
            Self::Object(source) => source.code(),
            Self::Kind => Code::WrongKind,
            Self::RosterThreshold { .. } => Code::RosterThreshold,
            Self::RosterVersion { .. } => Code::RosterVersion,
            Self::Federation => Code::WrongFederation,
            Self::Organisation { .. } | Self::Writer { .. } | Self::Hasty { .. } => Code::WrongIssuer,
            Self::Subject { .. } => Code::NotYours,
        }
    }
}

/// Why a folder cannot be read as a directory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is refused", path.display())]
    Refused { path: PathBuf, source: Refused },
}

impl File {
    /// A directory that knows nothing but a roster, which is checked against its own threshold: the caller pins it.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn new(roster: &[u8]) -> Result<Self, Refused> {
        let (file, roster) = RosterFile::decode(roster)?;
        threshold(&file, &roster)?;
        Ok(Self {
            inner: RwLock::new(Inner {
                roster: Arc::new(roster),
                roster_digest: file.id(),
                writers: HashMap::new(),
                certificates: HashMap::new(),
                tariffs: HashMap::new(),
                policies: HashMap::new(),
                summaries: HashMap::new(),
                manifests: HashMap::new(),
                standings: HashMap::new(),
                announcements: HashMap::new(),
                version: 1,
            }),
        })
    }

    /// Reads `roster.cbor`, then every other `*.cbor` of the folder, certificates first.
    ///
    /// # Errors
    /// [`LoadError`]: one file that is refused refuses the folder.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| LoadError::Read { path: path.into(), source });
        let roster = dir.join("roster.cbor");
        let file = Self::new(&read(&roster)?).map_err(|source| LoadError::Refused { path: roster.clone(), source })?;
        let listed = std::fs::read_dir(dir).map_err(|source| LoadError::Read { path: dir.into(), source })?;
        let mut paths = Vec::new();
        for entry in listed {
            let path = entry.map_err(|source| LoadError::Read { path: dir.into(), source })?.path();
            if path.extension().is_some_and(|extension| extension == "cbor") && path != roster {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        // What waits for a certificate comes in a later pass; there are two levels of certificates.
        const PASSES: usize = 3;
        for pass in 1..=PASSES {
            let mut waiting = Vec::new();
            for path in paths {
                match file.insert(&read(&path)?) {
                    Ok(_) => {}
                    Err(Refused::Writer { .. } | Refused::Subject { .. }) if pass < PASSES => waiting.push(path),
                    Err(source) => return Err(LoadError::Refused { path, source }),
                }
            }
            paths = waiting;
        }
        Ok(file)
    }

    /// Takes the next roster version: signed by a threshold of the present signers and of its own.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn replace_roster(&self, bytes: &[u8]) -> Result<(), Refused> {
        let (file, next) = RosterFile::decode(bytes)?;
        let mut inner = self.write();
        let have = &inner.roster;
        if next.federation != have.federation {
            return Err(Refused::Federation);
        }
        if next.version != have.version + 1 {
            return Err(Refused::RosterVersion { have: have.version, found: next.version });
        }
        threshold(&file, have)?;
        threshold(&file, &next)?;
        if let Some(org) = next.hasty_issuer(have) {
            return Err(Refused::Hasty { org });
        }
        inner.roster_digest = file.id();
        inner.roster = Arc::new(next);
        inner.version += 1;
        Ok(())
    }

    /// Verifies one signed object and keeps it where it is the newest of its subject.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn insert(&self, bytes: &[u8]) -> Result<Inserted, Refused> {
        let mut inner = self.write();
        let inserted = inner.insert(bytes)?;
        if matches!(inserted, Inserted::Newest { .. }) {
            inner.version += 1;
        }
        Ok(inserted)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // A writer that panicked has changed one map entry or none.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn threshold(file: &RosterFile, roster: &Roster) -> Result<(), Refused> {
    let (have, threshold) = (file.count(&roster.signers), usize::from(roster.threshold));
    if have >= threshold { Ok(()) } else { Err(Refused::RosterThreshold { have, threshold }) }
}

/// Decodes as `T`; `None` where it is another kind.
fn of_kind<T: Object>(bytes: &[u8]) -> Result<Option<Signed<T>>, Refused> {
    match Signed::decode(bytes) {
        Ok(signed) => Ok(Some(signed)),
        Err(Unverified::WrongKind { .. }) => Ok(None),
        // A kind with smaller limits may call a larger kind's bytes too large; the right kind is tried too.
        Err(Unverified::Malformed { source, .. }) if source.code() == Code::TooLarge => Ok(None),
        Err(other) => Err(other.into()),
    }
}

impl Inner {
    fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, Refused> {
        if let Some(signed) = of_kind::<NodeCertificate>(bytes)? {
            let key = self.organisation(signed.unverified().org)?.key;
            let object = signed.verify(&key)?;
            let (org, node) = (object.org, object.node);
            // The organisation that certified a node first keeps it; the roster's word on its own nodes comes before.
            let other = self.certificates.get(&node).is_some_and(|known| known.org != org);
            if other || !self.roster.may_certify(org, node) {
                return Err(Refused::Subject { org, subject: node.to_string() });
            }
            let order = |c: &NodeCertificate| (c.restore, c.not_before);
            return keep(&mut self.certificates, object.node, object, order);
        }
        if let Some(signed) = of_kind::<WriterCertificate>(bytes)? {
            let key = self.organisation(signed.unverified().org)?.key;
            let object = signed.verify(&key)?;
            return keep(&mut self.writers, object.org, object, |c| (c.epoch, c.not_before));
        }
        if let Some(signed) = of_kind::<RevocationList>(bytes)? {
            let org = signed.unverified().org;
            let sound = |issuer: &&comity_wire::object::IssuerKey| issuer.status != IssuerStatus::Compromised;
            let issuers = self.organisation(org)?.issuers.iter().filter(sound);
            let mut keys: Vec<PublicKey> = issuers.map(|issuer| issuer.key).collect();
            keys.extend(self.writers.get(&org).map(|writer| writer.key));
            let object = signed.verify_any(&keys)?;
            return keep(&mut self.standings, org, object, |list| list.number);
        }
        if let Some(signed) = of_kind::<Tariff>(bytes)? {
            let key = self.writer(signed.unverified().org)?;
            let object = signed.verify(&key)?;
            let id = object.id();
            return keep(&mut self.tariffs, id, object, |_| 0);
        }
        if let Some(signed) = of_kind::<Announcement>(bytes)? {
            let (org, node) = (signed.unverified().org, signed.unverified().node);
            let object = signed.verify(&self.writer(org)?)?;
            if self.certificates.get(&node).is_none_or(|certificate| certificate.org != org) {
                return Err(Refused::Subject { org, subject: node.to_string() });
            }
            return keep(&mut self.announcements, node, object, |a| a.issued_at);
        }
        if let Some(signed) = of_kind::<Policy>(bytes)? {
            return self.insert_policy(signed);
        }
        if let Some(signed) = of_kind::<Summary>(bytes)? {
            let (org, model) = (signed.unverified().org, signed.unverified().model.clone());
            let object = signed.verify(&self.writer(org)?)?;
            self.owns(org, &model)?;
            return keep(&mut self.summaries, model, object, |s| s.version);
        }
        if let Some(signed) = of_kind::<Manifest>(bytes)? {
            let (org, model) = (signed.unverified().org, signed.unverified().model.clone());
            let object = signed.verify(&self.writer(org)?)?;
            self.owns(org, &model)?;
            return keep(&mut self.manifests, model, object, |m| m.version);
        }
        Err(Refused::Kind)
    }

    fn insert_policy(&mut self, signed: Signed<Policy>) -> Result<Inserted, Refused> {
        let org = signed.unverified().org;
        let object = signed.verify(&self.writer(org)?)?;
        for model in &object.models {
            self.owns(org, model)?;
        }
        let mut inserted = Inserted::Known { kind: Policy::KIND.name, id: object.id() };
        for model in object.models.iter().cloned() {
            let kept = keep(&mut self.policies, model, object.clone(), |p| p.version)?;
            if matches!(kept, Inserted::Newest { .. }) {
                inserted = kept;
            }
        }
        Ok(inserted)
    }

    fn organisation(&self, org: OrgId) -> Result<&Organisation, Refused> {
        self.roster.organisation(org).ok_or(Refused::Organisation { org })
    }

    fn writer(&self, org: OrgId) -> Result<PublicKey, Refused> {
        self.organisation(org)?;
        self.writers.get(&org).map(|writer| writer.key).ok_or(Refused::Writer { org })
    }

    /// A model's first half is its organisation's roster name.
    fn owns(&self, org: OrgId, model: &ModelId) -> Result<(), Refused> {
        let own = self.organisation(org)?.name.as_str() == model.organisation();
        if own { Ok(()) } else { Err(Refused::Subject { org, subject: model.to_string() }) }
    }
}

/// Keeps `object` where its number is above what is there.
fn keep<K: std::hash::Hash + Eq, T: Object, N: Ord>(
    map: &mut HashMap<K, Verified<T>>,
    subject: K,
    object: Verified<T>,
    number: impl Fn(&T) -> N,
) -> Result<Inserted, Refused> {
    let (kind, id) = (T::KIND.name, object.id());
    match map.get(&subject) {
        Some(have) if number(have) >= number(&object) => Ok(Inserted::Known { kind, id }),
        _ => {
            map.insert(subject, object);
            Ok(Inserted::Newest { kind, id })
        }
    }
}

impl Directory for File {
    fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.read().roster)
    }
    fn roster_digest(&self) -> Digest {
        self.read().roster_digest
    }
    fn certificate(&self, node: NodeId) -> Option<Verified<NodeCertificate>> {
        self.read().certificates.get(&node).cloned()
    }
    fn tariff(&self, id: &Digest) -> Option<Verified<Tariff>> {
        self.read().tariffs.get(id).cloned()
    }
    fn policy(&self, model: &ModelId) -> Option<Verified<Policy>> {
        self.read().policies.get(model).cloned()
    }
    fn summary(&self, model: &ModelId) -> Option<Verified<Summary>> {
        self.read().summaries.get(model).cloned()
    }
    fn manifest(&self, model: &ModelId) -> Option<Verified<Manifest>> {
        self.read().manifests.get(model).cloned()
    }
    fn standing(&self, org: OrgId) -> Option<Verified<RevocationList>> {
        self.read().standings.get(&org).cloned()
    }
    fn announcement(&self, node: NodeId) -> Option<Verified<Announcement>> {
        self.read().announcements.get(&node).cloned()
    }
    fn version(&self) -> u64 {
        self.read().version
    }
}

#[cfg(test)]
mod tests;
