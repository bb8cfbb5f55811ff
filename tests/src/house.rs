//! A house in this process, over whatever keeps its books, and the one owner that it settles with: for those who strike it
//! and those who measure it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comity_clearing::lots::FundKind;
use comity_clearing::{AwardAsk, Clearing, Config, Keys, OpenError, ProjectAdd, ProjectVet};
use comity_ledger::Database;
use comity_token::directory::File;
use comity_wire::api::clearing::{QuoteModel, QuoteRequest, SignedBytes};
use comity_wire::cbor::{List, Text};
use comity_wire::object::Modality;
use comity_wire::object::{
    Delegates, Identity, IssuerKey, IssuerStatus, IssuerUse, Logging, ModelState, NodeCertificate, OpRule, OpTier,
    Organisation, Policy, Price, Rate, ReceiptKey, Roster, RosterFile, Step, Summary, Tariff, Tier, TierRule, Vetting,
    WriterCertificate,
};
use comity_wire::{
    Amount, Digest, Meter, ModelId, NodeId, Object, Op, OrgId, ProjectId, RosterId, SecretKey, Timestamp, cose,
};

pub const START: Timestamp = Timestamp(1_795_420_800);
const HOUSE: OrgId = OrgId([1; 16]);
const LAB: OrgId = OrgId([2; 16]);
pub const NODE: NodeId = NodeId([3; 16]);
pub const PROJECT: ProjectId = ProjectId([7; 16]);
/// Lanes of a token.
pub const LANES: u16 = 64;
const DAY_S: u64 = 86_400;
/// What the project is given: more than any run spends.
pub const AWARD: Amount = Amount::credits(1_000);

pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Digest::of(format!("comity/torture/{name}").as_bytes()).0)
}

pub fn model() -> ModelId {
    "lab/tiny".parse().expect("a model id")
}

fn text<const N: usize>(words: &str) -> Text<N> {
    Text::new(words).expect("it fits")
}

pub fn list<T, const N: usize>(items: Vec<T>) -> List<T, N> {
    List::new(items).expect("it fits")
}

/// What outlives every house that is opened: published objects, the clock, the member.
pub struct World {
    directory: Arc<File>,
    clock: Arc<AtomicU64>,
    pub member: SecretKey,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// # Panics
    /// Never: what it publishes stands.
    pub fn new() -> Self {
        let directory = File::new(&roster()).expect("the roster stands");
        let writer = secret("writer");
        let certified = WriterCertificate {
            org: LAB,
            key: writer.public(),
            epoch: 0,
            not_before: START.minus(DAY_S),
            not_after: START.plus(365 * DAY_S),
        };
        let put = |bytes: &[u8]| directory.insert(bytes).map(drop).expect("the object stands");
        put(&signed(&certificate(), &secret("lab organisation")));
        put(&signed(&certified, &secret("lab organisation")));
        put(&signed(&tariff(), &writer));
        put(&signed(&policy(), &writer));
        put(&signed(&summary(), &writer));
        Self { directory: Arc::new(directory), clock: Arc::new(AtomicU64::new(START.0)), member: secret("member") }
    }

    /// # Errors
    /// Where the books cannot be opened.
    pub async fn open(&self, database: Database) -> Result<Clearing, OpenError> {
        let clock = Arc::clone(&self.clock);
        let clock = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)));
        let keys = Keys::new(secret("issuer"), [5; 32]);
        // Nobody here answers challenges, and clocks are set by days.
        let config = Config { sample_one_in: 0, ..Config::new(HOUSE) };
        Clearing::open(config, database, keys, self.directory.clone(), clock).await
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    /// The machine's clock is set.
    pub fn set_clock(&self, now: Timestamp) {
        self.clock.store(now.0, Ordering::SeqCst);
    }

    /// A project that the house vets, with an award.
    pub async fn begin(&self, house: &Clearing, project: ProjectId, amount: Amount) {
        let members = vec![self.member.public()];
        let add = ProjectAdd { id: Some(project), title: "Weather".into(), purposes: vec!["research".into()], members };
        house.project_add(add).await.expect("a project is added");
        let vet = ProjectVet {
            project,
            vetting: Vetting::Vetted,
            issuer: "operator".into(),
            claim: "passport seen".into(),
            from: None,
            until: None,
        };
        house.project_vet(vet).await.expect("a project is vetted");
        let award = AwardAsk {
            project,
            amount,
            funder: "NSF".into(),
            award_number: format!("A-{project}"),
            ends_at: START.plus(365 * DAY_S),
            starts_at: None,
            listing: String::new(),
            kind: FundKind::Institutional,
            owners: Vec::new(),
            ops: Vec::new(),
            use_or_lose: false,
            parts: Vec::new(),
        };
        house.award(award).await.expect("an award is given");
    }

    /// # Errors
    /// The house's.
    pub async fn quote(&self, house: &Clearing, project: ProjectId) -> Result<SignedBytes, comity_clearing::Failure> {
        let models = vec![QuoteModel { model: model(), ops: vec![Op::Chat] }];
        let quote = house.quote(&self.member.public(), &QuoteRequest { project, node: NODE, models }).await?;
        Ok(SignedBytes::new(quote.bytes()).expect("a quote is small"))
    }
}

fn signed<T: Object>(object: &T, key: &SecretKey) -> Vec<u8> {
    cose::sign(object, key).bytes().to_vec()
}

/// A roster that stands.
pub fn roster() -> Vec<u8> {
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
        from: START.minus(DAY_S),
        retired_at: None,
    };
    let roster = Roster {
        federation: RosterId([9; 16]),
        version: 1,
        issued_at: START.minus(DAY_S),
        expires_at: START.plus(365 * DAY_S),
        threshold: 1,
        signers: list(vec![secret("root").public()]),
        organisations: list(vec![org(HOUSE, "house", vec![issuer]), org(LAB, "lab", vec![])]),
        anchors: List::default(),
    };
    let mut file = RosterFile::new(&roster);
    file.sign(&secret("root"));
    file.to_bytes()
}

fn certificate() -> NodeCertificate {
    let (from, until) = (START.minus(10 * DAY_S), START.plus(80 * DAY_S));
    NodeCertificate {
        org: LAB,
        node: NODE,
        transport_keys: list(vec![secret("transport").public()]),
        receipt_keys: list(vec![ReceiptKey { key: secret("receipt").public(), from, until }]),
        not_before: from,
        not_after: until,
        restore: 0,
    }
}

pub fn tariff() -> Tariff {
    let step = Step { from: 0, ucr_per_million: 10_000_000 };
    let rate = Rate { meter: Meter::Requests, steps: list(vec![step]) };
    let price = Price { op: Op::Chat, rates: list(vec![rate]), minimum: Amount::ZERO };
    Tariff {
        org: LAB,
        name: text("by the call"),
        version: 1,
        prices: list(vec![price]),
        overhead_tokens: 16,
        output_bytes_per_token: 8,
        issued_at: START,
    }
}

fn policy() -> Policy {
    let tier = TierRule {
        tier: Tier::Open,
        vetting: Vetting::None,
        grant: false,
        purposes: List::default(),
        identity: Identity::Pseudonym,
        delegates: Delegates::All,
        window_max: Amount::from_ucr(1_000),
        lanes_max: LANES,
        charge_max: Amount::from_ucr(500),
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
        tariff: cose::sign(&tariff(), &secret("writer")).id(),
        release: Digest::of(b"release"),
        retention_days: 0,
        residency: List::default(),
        state: ModelState::Active,
        released_at: START,
        sunset: None,
        price_hint: None,
    }
}
