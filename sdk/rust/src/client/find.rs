//! Who serves what, and behind which door.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use comity_http::TrustedKeys;
use comity_http::dial::Relay;
use comity_token::directory::Directory as _;
use comity_wire::api::node as api;
use comity_wire::object::{Anchor, AnchorRole, DoorKind, Manifest, NodeCertificate, Summary, Tariff};
use comity_wire::{Amount, Digest, ModelId, NodeId, Op, OrgId, PublicKey, Verified};

use super::{Client, Error};
use crate::chat::Query;
use crate::discover::{Hit, Page, Part};
use crate::door::Door;

/// Doors where a node, hub or house is itself; which is taken the dialler decides.
const OWN_DOORS: [DoorKind; 2] = [DoorKind::Quic, DoorKind::Https];

const HOUSE: &str = "the clearing house";

/// What a call needs to know of a model.
pub(crate) struct Target {
    pub(crate) summary: Verified<Summary>,
    pub(crate) tariff: Verified<Tariff>,
    pub(crate) node: NodeId,
}

impl Client {
    /// Searches at the first entry that answers.
    ///
    /// # Errors
    /// The last entry's [`Error`].
    pub async fn search(&self, query: &api::SearchQuery) -> Result<Vec<Hit>, Error> {
        self.search_page(query).await.map(|page| page.hits)
    }

    /// [`Client::search`], and how many there are.
    ///
    /// # Errors
    /// The last entry's [`Error`].
    pub async fn search_page(&self, query: &api::SearchQuery) -> Result<Page, Error> {
        let mut last = Error::Profile("entry: a hub or node to ask");
        for entry in &self.profile.entry {
            let door = self.entry(entry)?;
            match self.seen.search(&door, query, self.now()).await {
                Ok(page) => return Ok(page),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Brings everything but manifests up to date from the first entry that answers.
    ///
    /// # Errors
    /// The last entry's [`Error`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut last = Error::Profile("entry: a hub or node to ask");
        for entry in &self.profile.entry {
            let door = self.entry(entry)?;
            match Box::pin(self.seen.refresh(&door, self.now())).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Brings a part of one organisation's feed up to date from the first entry that answers.
    pub(super) async fn refresh_of(&self, org: OrgId, part: Part<'_>) -> Result<(), Error> {
        let roster = self.seen.directory.roster();
        let org = roster.organisation(org).ok_or(Error::Missing("the organisation on the roster"))?;
        let mut last = Error::Profile("entry: a hub or node to ask");
        for entry in &self.profile.entry {
            let door = self.entry(entry)?;
            match Box::pin(self.seen.refresh_of(&door, org, part, self.now())).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Makes sure that what a call of this model needs is here as its owner's feed has it, looked at not long ago. A model that is known
    /// stays so while nobody can show the feed: who has a token needs no hub.
    pub(super) async fn read_model(&self, model: &ModelId) -> Result<(), Error> {
        let now = self.now();
        if self.seen.is_fresh(model, now) {
            return Ok(());
        }
        match self.refresh_of(self.org_of(model)?, Part::Model(model)).await {
            Ok(()) if self.seen.knows(model) => Ok(()),
            Ok(()) => Err(Error::ModelUnknown(model.clone())),
            Err(error) if self.seen.knows(model) => {
                tracing::debug!(error = %crate::chain(&error), %model, "the owner's feed was not read anew");
                self.seen.postpone(model, now);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches tariffs of models that were found, as far as there is somebody who has them: prices are compared, and what a call costs is
    /// read anew before it.
    pub(super) async fn read_tariffs(&self, ids: impl Iterator<Item = Digest>) {
        /// Of more the cheapest by their owners' hints, in whose order they were found.
        const TARIFFS_MAX: usize = 256;
        let mut known = BTreeSet::new();
        let is_wanted = |id: &Digest| known.insert(*id) && self.seen.directory.tariff(id).is_none();
        let mut wanted: Vec<_> = ids.filter(is_wanted).collect();
        wanted.truncate(TARIFFS_MAX);
        for entry in &self.profile.entry {
            if wanted.is_empty() {
                return;
            }
            if let Ok(door) = self.entry(entry) {
                self.seen.tariffs(&door, &wanted).await;
                wanted.retain(|id| self.seen.directory.tariff(id).is_none());
            }
        }
    }

    /// The organisation that a model's name names.
    pub(super) fn org_of(&self, model: &ModelId) -> Result<OrgId, Error> {
        let roster = self.seen.directory.roster();
        let org = roster.organisation_named(model.organisation());
        org.map(|org| org.id).ok_or_else(|| Error::ModelUnknown(model.clone()))
    }

    /// Brings up to date where a node is and which keys it has.
    pub(super) async fn refresh_node(&self, node: NodeId) -> Result<(), Error> {
        let certified = self.seen.directory.certificate(node).map(|certificate| certificate.org);
        let anchored = || {
            let roster = self.seen.directory.roster();
            roster.anchors.iter().find(|anchor| anchor.node == node).map(|anchor| anchor.org)
        };
        if let Some(org) = certified.or_else(anchored) {
            return self.refresh_of(org, Part::Nodes).await;
        }
        // A token of an earlier day says whose models the node serves.
        let models: BTreeSet<_> = {
            let state = self.state.lock().await;
            let purses = state.wallet.purses().filter(|purse| purse.node() == node);
            purses.flat_map(|purse| &*purse.token().terms.scope).map(|scope| scope.model.clone()).collect()
        };
        let orgs: BTreeSet<_> = models.iter().filter_map(|model| self.org_of(model).ok()).collect();
        for org in orgs {
            let read = self.refresh_of(org, Part::Nodes).await;
            if read.is_ok() && self.certificate(node).is_ok() {
                return Ok(());
            }
        }
        self.refresh().await
    }

    /// Fetches the full manifest of a model from the first entry that gives it.
    ///
    /// # Errors
    /// The last entry's [`Error`].
    pub async fn manifest(&self, model: &ModelId) -> Result<Verified<Manifest>, Error> {
        Box::pin(self.read_model(model)).await?;
        let mut last = Error::Profile("entry: a hub or node to ask");
        for entry in &self.profile.entry {
            match self.seen.manifest(&self.entry(entry)?, model).await {
                Ok(()) => {
                    let manifest = self.seen.directory.manifest(model);
                    return manifest.ok_or_else(|| Error::ModelUnknown(model.clone()));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Any hub or house of the roster, or any node whose certificate is known, may stand behind an entry.
    pub(super) fn entry(&self, address: &str) -> Result<Door, Error> {
        let roster = self.seen.directory.roster();
        let keys = roster.anchors.iter().flat_map(|anchor| self.keys_of(anchor)).collect();
        Ok(Door::new(vec![address.to_owned()], keys)?.called("the entry of the federation"))
    }

    /// The keys that a house's or hub's door may show: the roster's, and those of its other processes, which its own organisation
    /// certified.
    fn keys_of(&self, anchor: &Anchor) -> Vec<PublicKey> {
        let certificate = self.seen.directory.certificate(anchor.node);
        let others = certificate.filter(|certificate| certificate.org == anchor.org);
        let others = others.map(|certificate| certificate.transport_keys.to_vec()).unwrap_or_default();
        std::iter::once(anchor.transport_key).chain(others).collect()
    }

    /// The clearing house's door.
    ///
    /// # Errors
    /// [`Error`] where neither profile nor federation says where it is.
    pub async fn house(&self) -> Result<Door, Error> {
        let roster = self.seen.directory.roster();
        let anchor =
            roster.anchors_of(AnchorRole::House).next().ok_or(Error::Missing("a clearing house on the roster"))?;
        if let Some(address) = &self.profile.house {
            // Behind one address may be several processes, each with a key of its own: the feed certifies them.
            let looked = self.certificate(anchor.node).is_ok() || self.house_looked.swap(true, Ordering::AcqRel);
            if !looked && let Err(error) = Box::pin(self.refresh_of(anchor.org, Part::Nodes)).await {
                tracing::debug!(error = %crate::chain(&error), "the house's feed was not read");
            }
            return Ok(Door::new(vec![address.clone()], self.keys_of(anchor))?.called(HOUSE));
        }
        if !self.is_announced(anchor.node) {
            Box::pin(self.refresh_of(anchor.org, Part::Nodes)).await?;
        }
        let addresses = self.addresses(anchor.node, &OWN_DOORS);
        if addresses.is_empty() {
            Err(Error::NoDoor(anchor.node))
        } else {
            Ok(Door::new(addresses, self.keys_of(anchor))?.called(HOUSE))
        }
    }

    fn is_announced(&self, node: NodeId) -> bool {
        !self.addresses(node, &OWN_DOORS).is_empty() || !self.relays(node).is_empty()
    }

    /// Whether a node can be reached through hubs alone.
    pub(super) fn is_behind_hubs(&self, node: NodeId) -> bool {
        self.addresses(node, &OWN_DOORS).is_empty()
    }

    /// The addresses of these kinds that a node announces.
    fn addresses(&self, node: NodeId, kinds: &[DoorKind]) -> Vec<String> {
        let Some(announcement) = self.seen.directory.announcement(node) else { return Vec::new() };
        let doors = announcement.doors.iter().filter(|door| kinds.contains(&door.kind));
        doors.map(|door| door.address.to_string()).collect()
    }

    /// The hubs that a node can be reached through: named by the node, known by the roster, found by their own word.
    fn relays(&self, node: NodeId) -> Vec<Relay> {
        let roster = self.seen.directory.roster();
        let relay = |hub: NodeId| {
            let anchor = roster.anchors_of(AnchorRole::Hub).find(|anchor| anchor.node == hub)?;
            let trusted = TrustedKeys::Exactly(vec![*anchor.transport_key.as_bytes()]);
            let addresses = self.addresses(hub, &[DoorKind::Https]);
            let pass = self.passes.of(node, &self.world.clock);
            (!addresses.is_empty()).then_some(Relay { addresses, trusted, node, pass })
        };
        let named = self.addresses(node, &[DoorKind::Relayed]);
        named.iter().filter_map(|hub| relay(hub.parse().ok()?)).collect()
    }

    /// The token that a hub is shown for a node: one that still buys something, else one that still has to be ended.
    pub(super) async fn note_pass(&self, node: NodeId) {
        let now = self.now();
        let state = self.state.lock().await;
        let purses = state.wallet.purses().filter(|purse| purse.node() == node);
        if let Some(purse) = purses.max_by_key(|purse| (purse.is_open(now), purse.expires_at())) {
            self.passes.put(node, purse.chain(), purse.key());
        }
    }

    /// A node's door, trusted by the certificate its organisation signed.
    pub(super) async fn door(&self, node: NodeId) -> Result<Door, Error> {
        if let Some(door) = self.doors.lock().expect("no panic holds this lock").get(&node) {
            return Ok(door.clone());
        }
        let has_moved = self.moved.lock().expect("no panic holds this lock").remove(&node);
        // Its model may have come a little before its address.
        if !self.is_announced(node) || self.certificate(node).is_err() {
            Box::pin(self.refresh_node(node)).await?;
        } else if has_moved {
            Box::pin(self.refresh_node(node)).await.ok();
        }
        Box::pin(self.refresh_hubs(node, has_moved)).await;
        let certificate = self.certificate(node)?;
        let (addresses, relays) = (self.addresses(node, &OWN_DOORS), self.relays(node));
        if addresses.is_empty() && relays.is_empty() {
            return Err(Error::NoDoor(node));
        }
        if !relays.is_empty() {
            self.note_pass(node).await;
        }
        let roster = self.seen.directory.roster();
        let owner = roster.organisation(certificate.org).map_or("its owner", |org| org.name.as_str());
        let door = Door::through(addresses, certificate.transport_keys.to_vec(), relays)?;
        let door = door.called(&format!("the node of {owner}"));
        self.doors.lock().expect("no panic holds this lock").insert(node, door.clone());
        Ok(door)
    }

    /// Brings up to date where the hubs are that a node is behind: those that are not known, or `all`. One that cannot be found is
    /// passed over: there may be others.
    async fn refresh_hubs(&self, node: NodeId, all: bool) {
        let roster = self.seen.directory.roster();
        let named = self.addresses(node, &[DoorKind::Relayed]);
        let hubs: Vec<NodeId> = named.iter().filter_map(|hub| hub.parse().ok()).collect();
        for hub in roster.anchors_of(AnchorRole::Hub).filter(|anchor| hubs.contains(&anchor.node)) {
            if (all || !self.is_announced(hub.node))
                && let Err(error) = self.refresh_of(hub.org, Part::Nodes).await
            {
                tracing::debug!(error = %crate::chain(&error), hub = %hub.node, "not found");
            }
        }
    }

    /// It cannot be reached where it was: the next call looks for where it is.
    pub(super) fn forget_door(&self, node: NodeId) {
        let known = self.doors.lock().expect("no panic holds this lock").remove(&node);
        if known.is_some() {
            self.moved.lock().expect("no panic holds this lock").insert(node);
        }
    }

    /// The door of the node that serves `model`, for callers that sign by themselves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn door_of(&self, model: &ModelId) -> Result<Door, Error> {
        let target = self.target(model).await?;
        self.door(target.node).await
    }

    pub(super) fn certificate(&self, node: NodeId) -> Result<Verified<NodeCertificate>, Error> {
        self.seen.directory.certificate(node).ok_or(Error::Missing("the node's certificate"))
    }

    /// A tariff by its content id: also one that its owner has replaced, which tokens may still pin (rule 5).
    pub(super) async fn tariff(&self, id: &Digest, node: NodeId) -> Result<Verified<Tariff>, Error> {
        if let Some(tariff) = self.seen.directory.tariff(id) {
            return Ok(tariff);
        }
        let bytes = self.door(node).await?.frame(id).await?;
        self.seen.directory.insert(&bytes).map_err(Error::Refused)?;
        self.seen.directory.tariff(id).ok_or(Error::Missing("the tariff that the token pins"))
    }

    /// The first node that serves `model`.
    pub(crate) async fn target(&self, model: &ModelId) -> Result<Target, Error> {
        let first = self.targets(model).await?.into_iter().next();
        first.ok_or(Error::Missing("a node that serves the model"))
    }

    /// Every node that serves `model`, in the order that its owner gives; one at least.
    pub(super) async fn targets(&self, model: &ModelId) -> Result<Vec<Target>, Error> {
        Box::pin(self.read_model(model)).await?;
        let summary = self.seen.directory.summary(model).ok_or_else(|| Error::ModelUnknown(model.clone()))?;
        let mut targets = Vec::new();
        let mut last = Error::Missing("a node that serves the model");
        for node in summary.nodes.iter().copied() {
            match self.target_at(&summary, node).await {
                Ok(target) => targets.push(target),
                Err(error) => last = error,
            }
        }
        if targets.is_empty() { Err(last) } else { Ok(targets) }
    }

    async fn target_at(&self, summary: &Verified<Summary>, node: NodeId) -> Result<Target, Error> {
        if self.certificate(node).is_err() {
            self.refresh_of(summary.org, Part::Nodes).await?;
        }
        // Prompts go to nodes of the model's own organisation, whoever else certified that node.
        if self.certificate(node)?.org != summary.org {
            return Err(Error::Missing("a certificate of the model's owner for the node that serves it"));
        }
        let tariff = self.tariff(&summary.tariff, node).await?;
        Ok(Target { summary: summary.clone(), tariff, node })
    }

    /// The most that a call may cost: under the price that its model has now, at any node that serves it, and under those that
    /// open tokens pin (rule 5), whichever is most.
    ///
    /// # Errors
    /// [`Error`]: an unknown model, an op without a price.
    pub async fn worst_case(&self, query: &Query) -> Result<Amount, Error> {
        let mut most = Amount::ZERO;
        for target in self.targets(&query.model).await? {
            let demand = query.demand(self.output_ceiling(&target));
            most = most.max(target.tariff.worst_case(&demand).map_err(Error::Unpriced)?);
            for pinned in Box::pin(self.pinned(&target, &query.model, query.op)).await? {
                most = most.max(pinned.worst_case(&demand).map_err(Error::Unpriced)?);
            }
        }
        Ok(most)
    }

    /// Other tariffs than the newest that open tokens pin which serve this op of this model (rule 5).
    pub(super) async fn pinned(
        &self,
        target: &Target,
        model: &ModelId,
        op: Op,
    ) -> Result<Vec<Verified<Tariff>>, Error> {
        let now = self.now();
        let ids: BTreeSet<_> = {
            let state = self.state.lock().await;
            let open = state.wallet.purses().filter(|purse| purse.node() == target.node && purse.is_open(now));
            let serving = open.filter(|purse| purse.allows(model, op));
            serving.filter_map(|purse| purse.token().scope_of(model)).map(|scope| scope.tariff).collect()
        };
        let mut tariffs = Vec::new();
        for id in ids.into_iter().filter(|id| *id != target.tariff.id()) {
            tariffs.push(self.tariff(&id, target.node).await?);
        }
        Ok(tariffs)
    }

    /// The most output tokens that the owner's policy would give to anyone, for calls without a limit.
    pub(crate) fn output_ceiling(&self, target: &Target) -> u64 {
        const WITHOUT_POLICY: u64 = 4096;
        let policy = self.seen.directory.policy(&target.summary.model);
        let most = policy.and_then(|policy| policy.rules.iter().map(|rule| u64::from(rule.output_tokens_max)).max());
        most.unwrap_or(WITHOUT_POLICY)
    }

    pub(super) fn charge_ceiling(&self, target: &Target) -> Amount {
        let policy = self.seen.directory.policy(&target.summary.model);
        let most = policy.and_then(|policy| policy.tiers.iter().map(|tier| tier.charge_max).max());
        most.unwrap_or(Amount::MAX)
    }
}
