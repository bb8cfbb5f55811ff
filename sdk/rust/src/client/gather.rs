//! A bundle of evidence from what the wallet and the federation have.

use std::collections::BTreeSet;

use comity_token::directory::Directory as _;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::node::{HeadFrame, HeadsReply};
use comity_wire::object::{Head, Receipt, Tariff};
use comity_wire::{Digest, OrgId, Signed};

use super::{Client, Error};
use crate::discover::{Part, percent};
use crate::door::Door;
use crate::evidence::{Evidence, Exchange};
use crate::journal::{Entry, Journal};
use crate::receipts;

impl Client {
    /// Gathers what a reviewer needs to check receipts: what this client knows, what the wallet keeps as evidence, and the
    /// manifests that the receipts name, asked for where they are not here. What cannot be had is left out, and the bundle's
    /// check says so.
    ///
    /// # Errors
    /// [`Error`]: a roster or a journal that cannot be read.
    pub async fn gather(
        &self,
        home: &std::path::Path,
        receipts: &[Signed<Receipt>],
        exchanges: Vec<Exchange>,
    ) -> Result<Evidence, Error> {
        let path = self.profile.roster.clone();
        let roster = std::fs::read(&path).map_err(|source| Error::Roster { path, source })?;
        let models: BTreeSet<_> = receipts.iter().map(|receipt| &receipt.unverified().model).collect();
        for model in models {
            let read = async { self.refresh_of(self.org_of(model)?, Part::Model(model)).await };
            if let Err(error) = read.await {
                tracing::warn!(error = %crate::chain(&error), "a feed was not read: what the wallet keeps is taken");
            }
        }
        let mut objects: BTreeSet<Vec<u8>> = self.kept_evidence(home, receipts)?;
        let mut indexes = BTreeSet::new();
        for receipt in receipts.iter().map(Signed::unverified) {
            let directory = &self.seen.directory;
            objects.extend(directory.certificate(receipt.node).map(|certificate| certificate.bytes().to_vec()));
            match directory.tariff(&receipt.tariff) {
                Some(tariff) => objects.extend([tariff.bytes().to_vec()]),
                // One that was replaced since; of another wallet's receipt nothing is kept here.
                None => objects.extend(self.frame(&receipt.tariff).await),
            }
            objects.extend(self.manifest_bytes(receipt).await);
        }
        let orgs: BTreeSet<_> = receipts
            .iter()
            .filter_map(|receipt| Some(self.seen.directory.certificate(receipt.unverified().node)?.org))
            .collect();
        for (writer, head, index) in self.feeds(&orgs).await {
            objects.extend([writer, head]);
            indexes.extend(index);
        }
        let list =
            |bytes: BTreeSet<Vec<u8>>| bytes.iter().filter_map(|bytes| SignedBytes::new(bytes.clone()).ok()).collect();
        Ok(Evidence {
            comity_evidence: Evidence::VERSION,
            roster: SignedBytes::new(roster).map_err(|_| Error::Missing("a roster of at most 2 MiB"))?,
            objects: list(objects),
            indexes: list(indexes),
            receipts: receipts.iter().filter_map(|receipt| SignedBytes::new(receipt.bytes()).ok()).collect(),
            exchanges,
            fingerprints: Vec::new(),
        })
    }

    /// Certificates and tariffs under which the wallet took the receipts in.
    fn kept_evidence(&self, home: &std::path::Path, receipts: &[Signed<Receipt>]) -> Result<BTreeSet<Vec<u8>>, Error> {
        let nodes: BTreeSet<_> = receipts.iter().map(|receipt| receipt.unverified().node).collect();
        let tariffs: BTreeSet<_> = receipts.iter().map(|receipt| receipt.unverified().tariff).collect();
        let roster = self.seen.directory.roster();
        let is_of_these = |bytes: &[u8]| match receipts::certificate(bytes, &roster) {
            Some(certificate) => certificate.is_ok_and(|certificate| nodes.contains(&certificate.node)),
            None => Signed::<Tariff>::decode(bytes).is_ok_and(|tariff| tariffs.contains(&tariff.id())),
        };
        let mut objects = BTreeSet::new();
        Journal::each(&Self::journal(home), |entry| {
            if let Entry::Evidence { object } = entry
                && is_of_these(&object)
            {
                objects.insert(object.to_vec());
            }
            Ok::<_, Error>(())
        })?;
        Ok(objects)
    }

    /// The manifest that a receipt names, also one that was replaced since.
    async fn manifest_bytes(&self, receipt: &Receipt) -> Option<Vec<u8>> {
        if let Ok(manifest) = self.manifest(&receipt.model).await
            && manifest.id() == receipt.manifest
        {
            return Some(manifest.bytes().to_vec());
        }
        self.frame(&receipt.manifest).await
    }

    async fn frame(&self, digest: &Digest) -> Option<Vec<u8>> {
        for entry in &self.profile.entry {
            if let Ok(door) = self.entry(entry)
                && let Ok(bytes) = door.frame(digest).await
            {
                return Some(bytes);
            }
        }
        None
    }

    /// The newest writer, head and index of each of these feeds.
    async fn feeds(&self, orgs: &BTreeSet<OrgId>) -> Vec<(Vec<u8>, Vec<u8>, Option<Vec<u8>>)> {
        for entry in &self.profile.entry {
            let Ok(door) = self.entry(entry) else { continue };
            let Ok(heads) = self.heads(&door, orgs).await else { continue };
            let mut feeds = Vec::new();
            for frame in heads {
                let Ok(head) = Signed::<Head>::decode(&frame.head) else { continue };
                let head = head.unverified();
                if orgs.contains(&head.org) {
                    let index = door.frame(&head.index).await.ok();
                    feeds.push((frame.writer.to_vec(), frame.head.to_vec(), index));
                }
            }
            return feeds;
        }
        Vec::new()
    }

    async fn heads(&self, door: &Door, orgs: &BTreeSet<OrgId>) -> Result<Vec<HeadFrame>, Error> {
        let roster = self.seen.directory.roster();
        let mut heads = Vec::new();
        for org in orgs.iter().filter_map(|org| roster.organisation(*org)) {
            let path = format!("/comity/v1/heads?org={}", percent(org.name.as_str()));
            let reply: HeadsReply = door.get(&path).await?;
            // A door of before shows all heads.
            let is_its = |frame: &HeadFrame| {
                Signed::<Head>::decode(&frame.head).is_ok_and(|head| head.unverified().org == org.id)
            };
            heads.extend(reply.heads.into_iter().filter(is_its));
        }
        Ok(heads)
    }
}
