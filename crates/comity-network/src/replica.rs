//! The read side: a `Directory`, heads, frames and search over what the registry verified. Sync, and never waits for the
//! network; the driver writes into it as things change.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use comity_registry::search::{Page, Row};
use comity_registry::{Catalog, Complete, Held, Query, Registry};
use comity_token::Directory;
use comity_wire::object::{Announcement, Manifest, NodeCertificate, Policy, RevocationList, Roster, Summary, Tariff};
use comity_wire::{Digest, ModelId, NodeId, OrgId, Timestamp, Verified};
use tokio::sync::watch;

/// What a federation publishes, as this node has verified it.
pub struct Replica {
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

struct State {
    roster: Arc<Roster>,
    roster_digest: Digest,
    roster_bytes: Arc<[u8]>,
    vector_root: Digest,
    feeds: BTreeMap<OrgId, Arc<Complete>>,
    certificates: HashMap<NodeId, Verified<NodeCertificate>>,
    announcements: HashMap<NodeId, Verified<Announcement>>,
    /// Every tariff ever seen since the start, or archived: tokens pin them.
    tariffs: HashMap<Digest, Verified<Tariff>>,
    standings: HashMap<OrgId, Verified<RevocationList>>,
    catalog: Catalog,
}

/// Tariffs kept beside those that feeds name now; at this number no more retired ones are kept.
const TARIFFS_MAX: usize = 65_536;

impl Replica {
    pub(crate) fn new(registry: &Registry) -> Self {
        let state = State {
            roster: Arc::clone(registry.roster()),
            roster_digest: registry.chain().digest(),
            roster_bytes: Arc::clone(registry.chain().bytes()),
            vector_root: registry.vector_root(),
            feeds: BTreeMap::new(),
            certificates: HashMap::new(),
            announcements: HashMap::new(),
            tariffs: HashMap::new(),
            standings: HashMap::new(),
            catalog: Catalog::default(),
        };
        let replica = Self { state: RwLock::new(state), version: watch::Sender::new(1) };
        for (org, _) in registry.feeds() {
            replica.refresh(registry, org);
        }
        replica.greeted(registry);
        replica
    }

    /// Takes over an organisation's feed, or that it is gone.
    pub(crate) fn refresh(&self, registry: &Registry, org: OrgId) {
        let mut state = self.write();
        state.vector_root = registry.vector_root();
        state.certificates.retain(|_, certificate| certificate.org != org);
        state.announcements.retain(|_, announcement| announcement.org != org);
        for held in registry.archived(org) {
            state.tariff(held);
        }
        match (registry.feed(org), registry.roster().organisation(org)) {
            (Some(complete), Some(organisation)) => {
                // Certificates first: an announcement counts where its organisation certified the node.
                let is_certificate = |held: &&Arc<Held>| matches!(***held, Held::NodeCertificate(_));
                let objects = || complete.objects.values();
                objects().filter(is_certificate).for_each(|held| state.put(held, complete));
                objects().filter(|held| !is_certificate(held)).for_each(|held| state.put(held, complete));
                state.catalog.put(&organisation.name, complete);
                state.feeds.insert(org, Arc::clone(complete));
            }
            _ => {
                state.catalog.remove(org);
                state.feeds.remove(&org);
            }
        }
        for certificate in registry.greeted().filter(|certificate| certificate.org == org) {
            state.certificate(certificate);
        }
        drop(state);
        self.bump();
    }

    /// Takes over the certificates shown at hello.
    pub(crate) fn greeted(&self, registry: &Registry) {
        let mut state = self.write();
        registry.greeted().for_each(|certificate| state.certificate(certificate));
        drop(state);
        self.bump();
    }

    pub(crate) fn roster_changed(&self, registry: &Registry) {
        let mut state = self.write();
        state.roster = Arc::clone(registry.roster());
        state.roster_digest = registry.chain().digest();
        state.roster_bytes = Arc::clone(registry.chain().bytes());
        state.vector_root = registry.vector_root();
        let roster = Arc::clone(registry.roster());
        state.certificates.retain(|_, certificate| {
            roster.organisation(certificate.org).is_some_and(|organisation| organisation.key == *certificate.signer())
        });
        state.standings.retain(|org, _| roster.organisation(*org).is_some());
        drop(state);
        self.bump();
    }

    fn bump(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub fn changed(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The roster file as it was signed.
    pub fn roster_bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.read().roster_bytes)
    }

    /// Digest over roster and all heads shown.
    pub fn vector_root(&self) -> Digest {
        self.read().vector_root
    }

    /// An author's newest complete head and what belongs to it.
    pub fn feed(&self, org: OrgId) -> Option<Arc<Complete>> {
        self.read().feeds.get(&org).cloned()
    }

    pub fn feeds(&self) -> Vec<Arc<Complete>> {
        self.read().feeds.values().cloned().collect()
    }

    /// An index by its SHA-256, a signed object by its content id.
    pub fn frame(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let state = self.read();
        let named = state.feeds.values().find_map(|feed| feed.frame(digest));
        named.or_else(|| state.tariffs.get(digest).map(|tariff| Arc::from(tariff.bytes())))
    }

    /// Searches, and hands the page to `read` while the catalogue is held, with the feeds that it was made of.
    pub fn search<T>(
        &self,
        query: &Query,
        now: Timestamp,
        read: impl FnOnce(Page<'_>, &BTreeMap<OrgId, Arc<Complete>>) -> T,
    ) -> T {
        let state = self.read();
        read(state.catalog.find(query, now), &state.feeds)
    }

    fn row<T>(&self, model: &ModelId, read: impl FnOnce(&Row) -> T) -> Option<T> {
        let state = self.read();
        let row = state.catalog.row(model)?;
        Some(read(row))
    }

    fn held<T>(&self, org: OrgId, id: &Digest, read: impl FnOnce(&Held) -> Option<T>) -> Option<T> {
        self.read().feeds.get(&org)?.objects.get(id).and_then(|held| read(held))
    }

    // A panic while a lock is held leaves maps that are whole: each change is an insert or a removal.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, held: &Arc<Held>, complete: &Complete) {
        match &**held {
            Held::NodeCertificate(certificate) => self.certificate(certificate),
            Held::Announcement(announcement) if self.certifies(announcement.org, announcement.node) => {
                self.announcements.insert(announcement.node, announcement.clone());
            }
            Held::Tariff(_) => self.tariff(held),
            Held::RevocationList(list) => self.standing(list, complete),
            _ => {}
        }
    }

    /// The organisation that certified a node first keeps it; the roster's word on its own nodes comes before.
    fn certificate(&mut self, certificate: &Verified<NodeCertificate>) {
        let age = |certificate: &Verified<NodeCertificate>| (certificate.restore, certificate.not_before);
        let (org, node) = (certificate.org, certificate.node);
        let known = self.certificates.get(&node);
        let is_other = known.is_some_and(|known| known.org != org);
        if is_other || !self.roster.may_certify(org, node) {
            tracing::warn!(%org, %node, "an organisation certified a node of another one; not taken");
        } else if known.is_none_or(|known| age(known) <= age(certificate)) {
            self.certificates.insert(node, certificate.clone());
        }
    }

    fn certifies(&self, org: OrgId, node: NodeId) -> bool {
        self.certificates.get(&node).is_some_and(|certificate| certificate.org == org)
    }

    fn tariff(&mut self, held: &Arc<Held>) {
        if let Held::Tariff(tariff) = &**held
            && self.tariffs.len() < TARIFFS_MAX
        {
            self.tariffs.insert(tariff.id(), tariff.clone());
        }
    }

    /// The issuer's list counts before the writer's, and no list's number falls.
    fn standing(&mut self, list: &Verified<RevocationList>, complete: &Complete) {
        let rank = |list: &Verified<RevocationList>| (*list.signer() != complete.writer.key, list.number);
        let known = self.standings.get(&list.org);
        if known.is_none_or(|known| rank(known) <= rank(list)) {
            self.standings.insert(list.org, list.clone());
        }
    }
}

impl Directory for Replica {
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
        let (org, id) = self.row(model, |row| (row.summary.org, row.summary.policy))?;
        self.held(org, &id, |held| if let Held::Policy(policy) = held { Some(policy.clone()) } else { None })
    }

    fn summary(&self, model: &ModelId) -> Option<Verified<Summary>> {
        self.row(model, |row| row.summary.clone())
    }

    fn manifest(&self, model: &ModelId) -> Option<Verified<Manifest>> {
        let (org, id) = self.row(model, |row| (row.summary.org, row.summary.manifest))?;
        self.held(org, &id, |held| if let Held::Manifest(manifest) = held { Some(manifest.clone()) } else { None })
    }

    fn standing(&self, org: OrgId) -> Option<Verified<RevocationList>> {
        self.read().standings.get(&org).cloned()
    }

    fn announcement(&self, node: NodeId) -> Option<Verified<Announcement>> {
        self.read().announcements.get(&node).cloned()
    }

    fn version(&self) -> u64 {
        *self.version.borrow()
    }
}
