//! A small federation with keys: every organisation writes its own feed.

#![allow(dead_code, unreachable_pub)]

use comity_registry::publish::Put;
use comity_wire::cose;
use comity_wire::object::{
    Anchor, AnchorRole, Announcement, DataPolicy, Head, License, Logging, Manifest, Modality, ModelState,
    NodeCertificate, OpTier, Organisation, PriceHint, Release, RevocationList, Roster, RosterFile, Status, Summary,
    Tariff, Tier, Vetting, WriterCertificate,
};
use comity_wire::{Digest, NodeId, Op, OrgId, RosterId, SecretKey, Timestamp};

pub const START: Timestamp = Timestamp(1_795_000_000);
pub const FEDERATION: RosterId = RosterId([9; 16]);

/// One organisation's keys. `n` names it.
pub struct Org {
    pub n: u8,
    pub id: OrgId,
    pub node: NodeId,
    pub key: SecretKey,
    pub writer: SecretKey,
    pub transport: SecretKey,
}

pub fn org(n: u8) -> Org {
    let key = |use_: u8| SecretKey::from_seed([n, use_].repeat(16).try_into().unwrap());
    Org { n, id: OrgId([n; 16]), node: NodeId([n; 16]), key: key(1), writer: key(2), transport: key(3) }
}

impl Org {
    pub fn name(&self) -> String {
        format!("org{}", self.n)
    }

    pub fn writer_certificate(&self, epoch: u32) -> Vec<u8> {
        let certificate = WriterCertificate {
            org: self.id,
            key: self.writer.public(),
            epoch,
            not_before: START.minus(3600),
            not_after: START.plus(80 * 86_400),
        };
        cose::sign(&certificate, &self.key).bytes().to_vec()
    }

    pub fn node_certificate(&self) -> NodeCertificate {
        NodeCertificate {
            org: self.id,
            node: self.node,
            transport_keys: vec![self.transport.public()].try_into().unwrap(),
            receipt_keys: Default::default(),
            not_before: START.minus(3600),
            not_after: START.plus(80 * 86_400),
            restore: 0,
        }
    }

    pub fn signed_certificate(&self) -> Vec<u8> {
        cose::sign(&self.node_certificate(), &self.key).bytes().to_vec()
    }

    /// A small change: revocation list number `number`, and an announcement.
    pub fn put(&self, number: u64, now: Timestamp) -> Put {
        let list = RevocationList { org: self.id, number, issued_at: now, entries: Default::default() };
        let announcement = Announcement {
            org: self.id,
            node: self.node,
            doors: Default::default(),
            issued_at: now,
            expires_at: now.plus(Head::EXPIRES_S),
        };
        Put {
            objects: vec![
                cose::sign(&list, &self.writer).bytes().to_vec(),
                cose::sign(&announcement, &self.writer).bytes().to_vec(),
            ],
            remove: Vec::new(),
        }
    }

    pub fn summary(&self, slug: &str, title: &str, description: &str) -> Summary {
        Summary {
            model: format!("{}/{slug}", self.name()).parse().unwrap(),
            version: 1,
            org: self.id,
            title: title.try_into().unwrap(),
            description: description.try_into().unwrap(),
            tasks: vec!["text-generation".try_into().unwrap()].try_into().unwrap(),
            languages: vec!["en-GB".try_into().unwrap()].try_into().unwrap(),
            input: vec![Modality::Text].try_into().unwrap(),
            output: vec![Modality::Text].try_into().unwrap(),
            params_total: Some(1_000 * u64::from(self.n)),
            context_length: Some(512),
            license: "MIT".try_into().unwrap(),
            ops: vec![OpTier { op: Op::Chat, tier: Tier::Open, vetting: Vetting::None, grant: false }]
                .try_into()
                .unwrap(),
            nodes: vec![self.node].try_into().unwrap(),
            manifest: Digest::of(b"manifest"),
            policy: Digest::of(b"policy"),
            tariff: Digest::of(b"tariff"),
            release: Digest::of(b"release"),
            retention_days: 0,
            residency: vec!["CH".try_into().unwrap()].try_into().unwrap(),
            state: ModelState::Active,
            released_at: START.minus(u64::from(self.n)),
            sunset: None,
            price_hint: Some(PriceHint {
                input_ucr_per_million: u64::from(self.n),
                output_ucr_per_million: 0,
                request_ucr: 0,
            }),
        }
    }

    pub fn manifest(&self, slug: &str) -> Manifest {
        let digest = Digest::of(b"something");
        Manifest {
            model: format!("{}/{slug}", self.name()).parse().unwrap(),
            version: 1,
            org: self.id,
            title: "Tiny".try_into().unwrap(),
            description: "A small model.".try_into().unwrap(),
            tasks: Default::default(),
            languages: Default::default(),
            input: vec![Modality::Text].try_into().unwrap(),
            output: vec![Modality::Text].try_into().unwrap(),
            family: None,
            architecture: None,
            params_total: None,
            params_active: None,
            context_length: None,
            output_tokens_max: None,
            license: License { spdx: "MIT".try_into().unwrap(), name: None, link: None },
            release: Release {
                weights: digest,
                tokenizer: digest,
                template: digest,
                dtype: "f32".try_into().unwrap(),
                tokenizer_name: "bytes".try_into().unwrap(),
                undisclosed: false,
            },
            lineage: Default::default(),
            training: None,
            evaluations: Default::default(),
            data_policy: DataPolicy {
                retention_days: 0,
                trains_on_inputs: false,
                logging: Logging::Metadata,
                residency: Default::default(),
                data_classes: Default::default(),
                moderation: None,
            },
            operator: None,
            availability: None,
            ops: Default::default(),
            nodes: Default::default(),
            policy: digest,
            status: Status { state: ModelState::Active, sunset: None, reason: None },
            released_at: START,
            measured: Default::default(),
            attestations: Default::default(),
            supersedes: None,
            documentation: None,
            contact: None,
        }
    }

    pub fn tariff(&self, version: u64) -> Vec<u8> {
        let tariff = Tariff {
            org: self.id,
            name: "standard".try_into().unwrap(),
            version,
            prices: Default::default(),
            overhead_tokens: 0,
            output_bytes_per_token: 8,
            issued_at: START,
        };
        cose::sign(&tariff, &self.writer).bytes().to_vec()
    }
}

/// A roster of organisations, signed by one key.
pub fn roster(version: u64, orgs: &[&Org]) -> Vec<u8> {
    roster_with_hubs(version, orgs, &[])
}

/// [`roster`], where some organisations' nodes are hubs.
pub fn roster_with_hubs(version: u64, orgs: &[&Org], hubs: &[&Org]) -> Vec<u8> {
    let signer = SecretKey::from_seed([200; 32]);
    let organisations: Vec<_> = orgs
        .iter()
        .map(|org| Organisation {
            id: org.id,
            name: org.name().try_into().unwrap(),
            title: org.name().try_into().unwrap(),
            key: org.key.public(),
            issuers: Default::default(),
        })
        .collect();
    let anchor = |hub: &&Org| Anchor {
        node: hub.node,
        org: hub.id,
        role: AnchorRole::Hub,
        transport_key: hub.transport.public(),
    };
    let mut anchors: Vec<_> = hubs.iter().map(anchor).collect();
    anchors.sort_unstable_by_key(|anchor| anchor.node);
    let roster = Roster {
        federation: FEDERATION,
        version,
        issued_at: START.minus(3600),
        expires_at: START.plus(300 * 86_400),
        threshold: 1,
        signers: vec![signer.public()].try_into().unwrap(),
        organisations: organisations.try_into().unwrap(),
        anchors: anchors.try_into().unwrap(),
    };
    let mut file = RosterFile::new(&roster);
    file.sign(&signer);
    file.to_bytes()
}
