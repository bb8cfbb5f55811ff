//! A house in this process, with everything that its callers bring: projects with awards, quotes, tokens, receipts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comity_clearing::acts::Act;
use comity_clearing::{AwardAsk, Clearing, Config, Keys, ProjectAdd, ProjectVet};
use comity_ledger::Database;
use comity_token::directory::File;
use comity_wire::api::clearing::{QuoteModel, QuoteRequest, ReservationRequest, SignedBytes};
use comity_wire::cbor::{Bytes, List, Text};
use comity_wire::object::*;
use comity_wire::{
    Amount, Digest, Meter, Meters, ModelId, NodeId, Op, OrgId, ProjectId, RosterId, SecretKey, Signed, Timestamp,
    TokenId, Verified, cose, merkle,
};

const HOUSE: OrgId = OrgId([1; 16]);
const LAB: OrgId = OrgId([2; 16]);
const NODE: NodeId = NodeId([3; 16]);
const START: Timestamp = Timestamp(1_795_420_800);
const DAY: u64 = 86_400;
/// What a lane's newest receipt is claimed for.
const LANE_TOTAL: u32 = 1_000;

/// Lanes of one claim, and of its one acknowledgement.
pub(crate) const LANES: u16 = 64;

fn ucr(amount: u32) -> Amount {
    Amount::from_ucr(amount)
}

fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(name.as_bytes()).as_bytes())
}

fn text<const N: usize>(text: &str) -> Text<N> {
    Text::new(text).expect("a short text")
}

fn list<T, const N: usize>(items: Vec<T>) -> List<T, N> {
    List::new(items).expect("a short list")
}

fn model() -> ModelId {
    "lab/tiny".parse().expect("a model id")
}

fn roster() -> Vec<u8> {
    let org = |id, name: &str, issuers| Organisation {
        id,
        name: text(name),
        title: text(name),
        key: secret(&format!("{name} organisation")).public(),
        issuers: list(issuers),
    };
    let issuer = IssuerKey {
        key: secret("issuer").public(),
        use_: IssuerUse::Budget,
        status: IssuerStatus::Active,
        from: START.minus(DAY),
        retired_at: None,
    };
    let roster = Roster {
        federation: RosterId([9; 16]),
        version: 1,
        issued_at: START.minus(DAY),
        expires_at: START.plus(365 * DAY),
        threshold: 1,
        signers: list(vec![secret("root").public()]),
        organisations: list(vec![org(HOUSE, "house", vec![issuer]), org(LAB, "lab", vec![])]),
        anchors: List::default(),
    };
    let mut file = RosterFile::new(&roster);
    file.sign(&secret("root"));
    file.to_bytes()
}

fn tariff() -> Verified<Tariff> {
    let step = Step { from: 0, ucr_per_million: 10_000_000 };
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
        window_max: ucr(LANE_TOTAL),
        lanes_max: LANES,
        charge_max: ucr(500),
        concurrency: 8,
        windows: List::default(),
        logging: Logging::None,
        filters: List::default(),
        terms: None,
        hours: List::default(),
        priority: None,
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
        models: list(vec![model()]),
        tiers: list(vec![tier]),
        rules: list(vec![rule]),
        issued_at: START,
    }
}

fn summary() -> Summary {
    Summary {
        model: model(),
        version: 1,
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
        tariff: tariff().id(),
        release: Digest::of(b"release"),
        retention_days: 0,
        residency: List::default(),
        state: ModelState::Active,
        released_at: START,
        sunset: None,
        price_hint: None,
    }
}

fn directory() -> Result<Arc<File>, String> {
    let bad = |error| format!("error: the bench's own federation: {error}");
    let directory = File::new(&roster()).map_err(|error| bad(error.to_string()))?;
    let until = START.plus(90 * DAY);
    let certificate = NodeCertificate {
        org: LAB,
        node: NODE,
        transport_keys: list(vec![secret("transport").public()]),
        receipt_keys: list(vec![ReceiptKey { key: secret("receipt").public(), from: START.minus(DAY), until }]),
        not_before: START.minus(DAY),
        not_after: until,
        restore: 0,
    };
    let writer = WriterCertificate {
        org: LAB,
        key: secret("writer").public(),
        epoch: 0,
        not_before: START.minus(DAY),
        not_after: START.plus(365 * DAY),
    };
    let all = [
        cose::sign(&certificate, &secret("lab organisation")).bytes().to_vec(),
        cose::sign(&writer, &secret("lab organisation")).bytes().to_vec(),
        tariff().bytes().to_vec(),
        cose::sign(&policy(), &secret("writer")).bytes().to_vec(),
        cose::sign(&summary(), &secret("writer")).bytes().to_vec(),
    ];
    for bytes in all {
        directory.insert(&bytes).map_err(|error| bad(error.to_string()))?;
    }
    Ok(Arc::new(directory))
}

/// A house, and a quote for each of its projects.
pub(crate) struct World {
    pub(crate) house: Clearing,
    quotes: Vec<SignedBytes>,
    next: AtomicU64,
}

impl World {
    /// A house with `projects` projects, each with an award that a bench does not use up.
    pub(crate) async fn open(database: Database, projects: usize) -> Result<Self, String> {
        let keys = Keys::new(secret("issuer"), [5; 32]);
        let clock = Arc::new(|| START);
        let config = Config { quote_valid_s: 10 * DAY, ..Config::new(HOUSE) };
        let opened = Clearing::open(config, database, keys, directory()?, clock).await;
        let house = opened.map_err(|error| format!("error: the house does not open: {error}"))?;
        let mut world = Self { house, quotes: Vec::new(), next: AtomicU64::new(1) };
        let made = futures::future::try_join_all((0..projects).map(|number| world.project(number))).await;
        world.quotes = made.map_err(|failure| format!("error: {failure}"))?;
        Ok(world)
    }

    async fn project(&self, number: usize) -> Result<SignedBytes, comity_clearing::Failure> {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let project = ProjectId(id);
        let add = ProjectAdd {
            id: Some(project),
            title: format!("Project {number}"),
            purposes: vec!["research".into()],
            members: vec![secret("member").public()],
        };
        self.house.project_add(add).await?;
        let vet = ProjectVet {
            project,
            vetting: Vetting::Registered,
            issuer: "operator".into(),
            claim: "bench".into(),
            from: None,
            until: None,
        };
        self.house.project_vet(vet).await?;
        let award = AwardAsk {
            project,
            amount: Amount::credits(1_000_000),
            funder: "NSF".into(),
            award_number: format!("A-{number}"),
            ends_at: START.plus(365 * DAY),
            starts_at: None,
            listing: String::new(),
            kind: comity_clearing::lots::FundKind::Federal,
            owners: Vec::new(),
            ops: Vec::new(),
            use_or_lose: false,
            parts: Vec::new(),
        };
        self.house.act(Act::Award(award), None).await?;
        let models = vec![QuoteModel { model: model(), ops: vec![Op::Chat] }];
        let quote = self.house.quote(&secret("member").public(), &QuoteRequest { project, node: NODE, models }).await?;
        SignedBytes::new(quote.bytes()).map_err(|error| comity_clearing::Failure::Invalid { what: error.to_string() })
    }

    /// A new reservation of one of the projects in turn.
    pub(crate) async fn reserve(&self, budget: u32) -> Result<SignedBytes, comity_clearing::Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        let request = ReservationRequest {
            id: TokenId(id),
            quote: self.quotes[number as usize % self.quotes.len()].clone(),
            budget: ucr(budget),
            holder: secret("holder").public(),
            valid_s: 3600,
            lanes_max: None,
            depth: 0,
            grants: Vec::new(),
            mandate: None,
        };
        Ok(self.house.reserve(&secret("member").public(), &request).await?.token)
    }

    /// A claim over [`LANES`] lanes of a token of its own, with one acknowledgement for all of them.
    pub(crate) async fn drafted(&self) -> Result<Vec<u8>, comity_clearing::Failure> {
        let bytes = self.reserve(LANE_TOTAL * u32::from(LANES)).await?;
        let token = Signed::<Token>::decode(&bytes)?.verify(&secret("issuer").public())?;
        let receipts: Vec<_> = (0..LANES).map(|lane| receipt(&token, lane)).collect();
        let acked = receipts.iter().map(|receipt| AckLane {
            leaf: token.id(),
            lane: receipt.lane,
            n: receipt.n,
            total: receipt.total,
            receipt: receipt.id(),
        });
        let acknowledgement = Acknowledgement { token: token.id, lanes: list(acked.collect()), at: START };
        let acknowledgement = cose::sign(&acknowledgement, &secret("holder"));
        let chain = Chain { token: bytes.to_vec(), blocks: vec![] };
        let lane = |receipt: &Verified<Receipt>| ClaimLane {
            receipt: Bytes::new(receipt.bytes()).expect("a receipt's bytes"),
            settled_n: None,
            inclusion: List::default(),
        };
        let claim = Claim {
            token: token.id,
            node: NODE,
            number: 1,
            chains: list(vec![Bytes::new(chain.to_bytes()).expect("a chain's bytes")]),
            lanes: list(receipts.iter().map(lane).collect()),
            acknowledgements: list(vec![Bytes::new(acknowledgement.bytes()).expect("an acknowledgement's bytes")]),
            at: START,
        };
        Ok(cose::sign(&claim, &secret("receipt")).bytes().to_vec())
    }

    /// Settles a claim; everything in it is paid.
    pub(crate) async fn claim(&self, claim: &[u8]) -> Result<(), String> {
        let reply = self.house.claim(&secret("transport").public(), claim).await;
        let reply = reply.map_err(|failure| format!("error: a claim was refused: {failure}"))?;
        if reply.settled == ucr(LANE_TOTAL * u32::from(LANES)) {
            Ok(())
        } else {
            Err(format!("error: {} of a claim was paid", reply.settled))
        }
    }
}

/// The newest receipt of a lane in which a thousand queries were answered.
fn receipt(token: &Verified<Token>, lane: u16) -> Verified<Receipt> {
    let n = 1_000;
    let receipt = Receipt {
        token: token.id,
        leaf: token.id(),
        lane,
        seq: n,
        item: 0,
        n,
        charge: ucr(1),
        total: ucr(LANE_TOTAL),
        remainder: 0,
        meters: Meters::default().with(Meter::Requests, 1),
        meters_total: Meters::default().with(Meter::Requests, n),
        flags: Flags::default(),
        flags_total: Flags::default(),
        bytes_out: None,
        rank: None,
        basis: Basis::Counted,
        ended: Ended::Stop,
        request: Digest::of(b"request"),
        response: Digest::of(b"response"),
        release: Digest::of(b"release"),
        manifest: Digest::of(b"manifest"),
        tariff: tariff().id(),
        history: merkle::root(&[Digest::of(b"earlier")]),
        standing: 1,
        node: NODE,
        at: START,
        restore: 0,
        authority: Digest::of(&lane.to_be_bytes()),
        model: model(),
        op: Op::Chat,
    };
    cose::sign(&receipt, &secret("receipt"))
}
