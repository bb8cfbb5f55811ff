//! What a federation of one house and one lab publishes: real keys, signed objects.

use std::sync::Arc;

use comity_token::directory::File;
use comity_wire::cbor::{List, Text};
use comity_wire::cose;
use comity_wire::object::*;
use comity_wire::{Amount, Digest, Meter, ModelId, NodeId, Op, OrgId, RosterId, SecretKey, Timestamp, TokenId};

pub(super) const HOUSE: OrgId = OrgId([1; 16]);
pub(super) const LAB: OrgId = OrgId([2; 16]);
/// Another member of the federation, who owns no node.
pub(super) const RIVAL: OrgId = OrgId([4; 16]);
pub(super) const NODE: NodeId = NodeId([3; 16]);
pub(super) const START: Timestamp = Timestamp(1_795_420_800);
/// What a call costs.
pub(super) const PRICE: u32 = 10;
pub(super) const WINDOW: u32 = 1_000;

pub(super) fn ucr(amount: u32) -> Amount {
    Amount::from_ucr(amount)
}

pub(super) fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(name.as_bytes()).as_bytes())
}

pub(super) fn model() -> ModelId {
    "lab/tiny".parse().unwrap()
}

/// A second model of the lab's, which it publishes where a test asks for it.
pub(super) fn large() -> ModelId {
    "lab/large".parse().unwrap()
}

fn text<const N: usize>(text: &str) -> Text<N> {
    Text::new(text).unwrap()
}

pub(super) fn list<T, const N: usize>(items: Vec<T>) -> List<T, N> {
    List::new(items).unwrap()
}

fn roster() -> Vec<u8> {
    let org = |id, name: &str, issuers| Organisation {
        id,
        name: text(name),
        title: text(name),
        key: secret(&format!("{name} organisation")).public(),
        issuers: list(issuers),
    };
    let issuer = |name: &str, from| IssuerKey {
        key: secret(name).public(),
        use_: IssuerUse::Budget,
        status: IssuerStatus::Active,
        from,
        retired_at: None,
    };
    let issuers = vec![issuer("issuer", START.minus(DAY)), issuer("next issuer", START.plus(DAY))];
    let roster = Roster {
        federation: RosterId([9; 16]),
        version: 1,
        issued_at: START.minus(DAY),
        expires_at: START.plus(365 * DAY),
        threshold: 1,
        signers: list(vec![secret("root").public()]),
        organisations: list(vec![org(HOUSE, "house", issuers), org(LAB, "lab", vec![]), org(RIVAL, "rival", vec![])]),
        anchors: List::default(),
    };
    let mut file = RosterFile::new(&roster);
    file.sign(&secret("root"));
    file.to_bytes()
}

pub(super) const DAY: u64 = 86_400;

/// A certificate of a node by `org`, good for 90 days from `from`.
fn certificate_of(
    node: NodeId,
    (org, name): (OrgId, &str),
    (transport, receipt): (&str, &str),
    from: Timestamp,
) -> Vec<u8> {
    let receipt = ReceiptKey { key: secret(receipt).public(), from, until: from.plus(90 * DAY) };
    let certificate = NodeCertificate {
        org,
        node,
        transport_keys: list(vec![secret(transport).public()]),
        receipt_keys: list(vec![receipt]),
        not_before: from,
        not_after: from.plus(90 * DAY),
        restore: 0,
    };
    cose::sign(&certificate, &secret(&format!("{name} organisation"))).bytes().to_vec()
}

/// Of the lab's node.
fn certificate(of: (OrgId, &str), keys: (&str, &str), from: Timestamp) -> Vec<u8> {
    certificate_of(NODE, of, keys, from)
}

/// Another node of the lab's.
pub(super) const SECOND_NODE: NodeId = NodeId([0x5e; 16]);

pub(super) fn second_certificate() -> Vec<u8> {
    certificate_of(SECOND_NODE, (LAB, "lab"), ("second transport", "second receipt"), START)
}

/// What everybody publishes, with this certificate for the lab's node.
pub(super) fn directory(certificate: &[u8]) -> Arc<File> {
    let directory = File::new(&roster()).unwrap();
    directory.insert(certificate).unwrap();
    let writer = WriterCertificate {
        org: LAB,
        key: secret("writer").public(),
        epoch: 0,
        not_before: START.minus(DAY),
        not_after: START.plus(365 * DAY),
    };
    directory.insert(cose::sign(&writer, &secret("lab organisation")).bytes()).unwrap();
    directory.insert(tariff(PRICE).bytes()).unwrap();
    directory.insert(cose::sign(&policy(), &secret("writer")).bytes()).unwrap();
    Arc::new(directory)
}

pub(super) fn lab_certificate() -> Vec<u8> {
    certificate((LAB, "lab"), ("transport", "receipt"), START.minus(DAY))
}

/// The lab's, with other keys.
pub(super) fn rotated_certificate(transport: &str, receipt: &str, from: Timestamp) -> Vec<u8> {
    certificate((LAB, "lab"), (transport, receipt), from)
}

/// Another member says that the node is its own.
pub(super) fn rival_certificate() -> Vec<u8> {
    certificate((RIVAL, "rival"), ("rival transport", "rival receipt"), START)
}

pub(super) fn tariff(price: u32) -> comity_wire::Verified<Tariff> {
    let step = Step { from: 0, ucr_per_million: u64::from(price) * 1_000_000 };
    let rate = Rate { meter: Meter::Requests, steps: list(vec![step]) };
    let price = Price { op: Op::Chat, rates: list(vec![rate]), minimum: Amount::ZERO };
    let tariff = Tariff {
        org: LAB,
        name: text("by the call"),
        version: 1,
        prices: list(vec![price]),
        overhead_tokens: 16,
        output_bytes_per_token: 8,
        issued_at: START,
    };
    cose::sign(&tariff, &secret("writer"))
}

fn policy() -> Policy {
    let tier = TierRule {
        tier: Tier::Open,
        vetting: Vetting::None,
        grant: false,
        purposes: List::default(),
        identity: Identity::Pseudonym,
        delegates: Delegates::All,
        window_max: ucr(WINDOW),
        lanes_max: 8,
        charge_max: ucr(500),
        concurrency: 8,
        windows: List::default(),
        logging: Logging::None,
        filters: List::default(),
        terms: None,
        hours: List::default(),
        priority: None,
        terms_from: None,
        terms_before: None,
    };
    let rule = OpRule {
        op: Op::Chat,
        tier: Tier::Open,
        input_bytes_max: 10_000,
        output_tokens_max: 1_000,
        choices_max: 1,
        logprobs_max: 0,
        parameters: List::default(),
        logprobs_decimals: None,
        logit_bias: None,
        concurrency: None,
        windows: List::default(),
        charge_max: None,
    };
    Policy {
        org: LAB,
        name: text("open"),
        version: 1,
        models: list(vec![large(), model()]),
        tiers: list(vec![tier]),
        rules: list(vec![rule]),
        issued_at: START,
    }
}

pub(super) fn summary(version: u64, tariff: Digest, state: ModelState) -> Summary {
    Summary {
        model: model(),
        version,
        org: LAB,
        title: text("Tiny"),
        description: text("A small model."),
        tasks: List::default(),
        languages: List::default(),
        input: list(vec![Modality::Text]),
        output: list(vec![Modality::Text]),
        params_total: None,
        context_length: None,
        license: text("MIT"),
        ops: list(vec![OpTier { op: Op::Chat, tier: Tier::Open, vetting: Vetting::None, grant: false }]),
        nodes: list(vec![NODE]),
        manifest: Digest::of(b"manifest"),
        policy: Digest::of(b"policy"),
        tariff,
        release: Digest::of(b"release"),
        retention_days: 0,
        residency: List::default(),
        state,
        released_at: START,
        sunset: None,
        price_hint: None,
    }
}

/// A token of the lab's node for 200 µcr, as the house drafts one.
pub(super) fn old_token(id: TokenId, holder: comity_wire::PublicKey) -> Token {
    let scope = Scope {
        model: model(),
        release: Digest::of(b"release"),
        ops: list(vec![Op::Chat]),
        tariff: tariff(PRICE).id(),
    };
    let expires_at = START.plus(3600);
    Token {
        issuer: IdText(HOUSE),
        subject: text(&comity_wire::Pseudonym([6; 16]).to_string()),
        audience: IdText(NODE),
        expires_at,
        not_before: START,
        issued_at: START,
        id,
        holder: Confirmation(holder),
        terms: Terms {
            roster_version: 1,
            scope: list(vec![scope]),
            budget: ucr(200),
            vetting: Vetting::Vetted,
            purposes: list(vec![text("research")]),
            window: ucr(WINDOW),
            lanes_max: 8,
            longest_op_s: 900,
            settle_by: expires_at.plus(900 + Token::SETTLE_S_MIN),
            depth: 2,
            grants: List::default(),
        },
    }
}
