//! A small federation with fixed keys and a fixed clock: what the vectors and this crate's tests are made in.

use comity_token::directory::File;
use comity_wire::cbor::{List, Text, Writer};
use comity_wire::object::*;
use comity_wire::{
    Amount, Digest, GrantId, Meter, ModelId, NodeId, Object, Op, OrgId, RosterId, SecretKey, Timestamp, TokenId,
    Verified, cose,
};

/// 2026-11-23T08:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_795_420_800);
pub(crate) const HOUR_S: u64 = 3600;
pub(crate) const DAY_S: u64 = 86_400;

pub(crate) const FEDERATION: RosterId = RosterId([0xfe; 16]);
pub(crate) const HOUSE: OrgId = OrgId([0x01; 16]);
pub(crate) const LAB: OrgId = OrgId([0x02; 16]);
pub(crate) const UNI: OrgId = OrgId([0x03; 16]);
pub(crate) const HOUSE_NODE: NodeId = NodeId([0x11; 16]);
pub(crate) const LAB_NODE: NodeId = NodeId([0x12; 16]);
pub(crate) const UNI_NODE: NodeId = NodeId([0x13; 16]);
pub(crate) const TOKEN: TokenId = TokenId([0x77; 16]);

/// Each key's seed is the digest of its name, so that a second implementation can make it.
pub(crate) fn seed(name: &str) -> [u8; 32] {
    Digest::of(format!("comity/vectors/{name}").as_bytes()).0
}

pub(crate) fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(seed(name))
}

pub(crate) fn text<const MAX: usize>(words: &str) -> Text<MAX> {
    Text::new(words).expect("fits")
}

pub(crate) fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).expect("fits")
}

pub(crate) fn model(name: &str) -> ModelId {
    name.parse().expect("a model id")
}

/// What a verifier knows: a roster file and signed objects.
#[derive(Clone)]
pub(crate) struct State {
    pub roster: Vec<u8>,
    pub objects: Vec<Vec<u8>>,
}

impl State {
    pub(crate) fn directory(&self) -> File {
        let file = File::new(&self.roster).expect("the roster stands");
        for object in &self.objects {
            file.insert(object).expect("the object stands");
        }
        file
    }
}

/// The usual state; `revoked` is on the house's list, which is `age_s` old (absent: there is none).
pub(crate) fn state(revoked: Vec<(RevokedKind, String)>, age_s: Option<u64>) -> State {
    state_at(revoked, age_s.map(|age_s| NOW.minus(age_s)))
}

/// As [`state`], with the time that the house's list is dated.
pub(crate) fn state_at(revoked: Vec<(RevokedKind, String)>, listed_at: Option<Timestamp>) -> State {
    let mut objects = vec![
        certificate(HOUSE, HOUSE_NODE, "house").bytes().to_vec(),
        certificate(LAB, LAB_NODE, "lab").bytes().to_vec(),
        certificate(UNI, UNI_NODE, "uni").bytes().to_vec(),
        writer(HOUSE, "house").bytes().to_vec(),
        writer(LAB, "lab").bytes().to_vec(),
        writer(UNI, "uni").bytes().to_vec(),
        tariff().bytes().to_vec(),
        policy().bytes().to_vec(),
        announcement().bytes().to_vec(),
        revocations(LAB, Vec::new(), NOW.minus(HOUR_S), "lab issuer").bytes().to_vec(),
    ];
    if let Some(at) = listed_at {
        objects.push(revocations(HOUSE, revoked, at, "house issuer").bytes().to_vec());
    }
    State { roster: roster_file(&roster()), objects }
}

pub(crate) fn base() -> State {
    state(Vec::new(), Some(HOUR_S))
}

pub(crate) fn issuer(
    name: &str,
    use_: IssuerUse,
    status: IssuerStatus,
    from: Timestamp,
    retired: Option<Timestamp>,
) -> IssuerKey {
    IssuerKey { key: secret(name).public(), use_, status, from, retired_at: retired }
}

pub(crate) fn roster() -> Roster {
    let long_ago = NOW.minus(100 * DAY_S);
    let mut signers = vec![secret("root 1").public(), secret("root 2").public(), secret("root 3").public()];
    signers.sort_unstable();
    let organisation = |id, name: &str, issuers| Organisation {
        id,
        name: text(name),
        title: text(&format!("The {name}")),
        key: secret(&format!("{name} organisation")).public(),
        issuers: list(issuers),
    };
    let house = vec![
        issuer("house issuer", IssuerUse::Budget, IssuerStatus::Active, long_ago, None),
        issuer("house issuer retired", IssuerUse::Budget, IssuerStatus::Retired, long_ago, Some(NOW.minus(DAY_S / 2))),
        issuer("house issuer compromised", IssuerUse::Budget, IssuerStatus::Compromised, long_ago, None),
        issuer("house issuer next", IssuerUse::Budget, IssuerStatus::Active, NOW.plus(48 * HOUR_S), None),
    ];
    let lab = vec![issuer("lab issuer", IssuerUse::OwnNode, IssuerStatus::Active, long_ago, None)];
    let anchor = Anchor {
        node: HOUSE_NODE,
        org: HOUSE,
        role: AnchorRole::House,
        transport_key: secret("house transport").public(),
    };
    Roster {
        federation: FEDERATION,
        version: 3,
        issued_at: NOW.minus(10 * DAY_S),
        expires_at: NOW.plus(80 * DAY_S),
        threshold: 2,
        signers: list(signers),
        organisations: list(vec![
            organisation(HOUSE, "house", house),
            organisation(LAB, "lab", lab),
            organisation(UNI, "uni", Vec::new()),
        ]),
        anchors: list(vec![anchor]),
    }
}

pub(crate) fn roster_file(roster: &Roster) -> Vec<u8> {
    signed_by(roster, &["root 1", "root 2"])
}

pub(crate) fn signed_by(roster: &Roster, names: &[&str]) -> Vec<u8> {
    let mut file = RosterFile::new(roster);
    for name in names {
        file.sign(&secret(name));
    }
    file.to_bytes()
}

pub(crate) fn certificate(org: OrgId, node: NodeId, name: &str) -> Verified<NodeCertificate> {
    let receipt = ReceiptKey {
        key: secret(&format!("{name} receipt")).public(),
        from: NOW.minus(30 * DAY_S),
        until: NOW.plus(50 * DAY_S),
    };
    let object = NodeCertificate {
        org,
        node,
        transport_keys: list(vec![secret(&format!("{name} transport")).public()]),
        receipt_keys: list(vec![receipt]),
        not_before: NOW.minus(30 * DAY_S),
        not_after: NOW.plus(50 * DAY_S),
        restore: 0,
    };
    cose::sign(&object, &secret(&format!("{name} organisation")))
}

pub(crate) fn writer(org: OrgId, name: &str) -> Verified<WriterCertificate> {
    let object = WriterCertificate {
        org,
        key: secret(&format!("{name} writer")).public(),
        epoch: 1,
        not_before: NOW.minus(30 * DAY_S),
        not_after: NOW.plus(300 * DAY_S),
    };
    cose::sign(&object, &secret(&format!("{name} organisation")))
}

pub(crate) fn announcement() -> Verified<Announcement> {
    let object = Announcement {
        org: LAB,
        node: LAB_NODE,
        doors: list(vec![Door { kind: DoorKind::Https, address: text("https://127.0.0.1:8443") }]),
        issued_at: NOW.minus(HOUR_S),
        expires_at: NOW.plus(DAY_S),
    };
    cose::sign(&object, &secret("lab writer"))
}

pub(crate) fn revocations(
    org: OrgId,
    revoked: Vec<(RevokedKind, String)>,
    at: Timestamp,
    signer: &str,
) -> Verified<RevocationList> {
    let mut entries: Vec<Revocation> =
        revoked.into_iter().map(|(kind, subject)| Revocation { kind, subject: text(&subject), at }).collect();
    entries.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    let number = if entries.is_empty() { 1 } else { 2 };
    cose::sign(&RevocationList { org, number, issued_at: at, entries: list(entries) }, &secret(signer))
}

pub(crate) fn release(model: &str) -> Release {
    Release {
        weights: Digest::of(format!("weights of {model}").as_bytes()),
        tokenizer: Digest::of(b"bytes"),
        template: Digest::of(b"plain"),
        dtype: text("float32"),
        tokenizer_name: text("bytes"),
        undisclosed: false,
    }
}

pub(crate) fn rate(meter: Meter, steps: &[(u64, u64)]) -> Rate {
    let steps = steps.iter().map(|(from, ucr_per_million)| Step { from: *from, ucr_per_million: *ucr_per_million });
    Rate { meter, steps: list(steps.collect()) }
}

pub(crate) fn tariff_object() -> Tariff {
    let chat = Price {
        op: Op::Chat,
        rates: list(vec![
            rate(Meter::Requests, &[(0, 50_000_000)]),
            rate(Meter::InputTokens, &[(0, 250_000), (1_000, 125_000)]),
            rate(Meter::OutputTokens, &[(0, 1_000_000)]),
        ]),
        minimum: Amount::from_ucr(60),
    };
    let completions = Price {
        op: Op::Completions,
        rates: list(vec![rate(Meter::InputBytes, &[(0, 33_333)]), rate(Meter::OutputBytes, &[(0, 77_777)])]),
        minimum: Amount::ZERO,
    };
    Tariff {
        org: LAB,
        name: text("standard"),
        version: 1,
        prices: list(vec![chat, completions]),
        overhead_tokens: 32,
        output_bytes_per_token: 16,
        issued_at: NOW.minus(9 * DAY_S),
    }
}

pub(crate) fn tariff() -> Verified<Tariff> {
    cose::sign(&tariff_object(), &secret("lab writer"))
}

pub(crate) fn tier(tier: Tier, vetting: Vetting, grant: bool) -> TierRule {
    TierRule {
        tier,
        vetting,
        grant,
        purposes: List::default(),
        identity: Identity::Pseudonym,
        delegates: Delegates::All,
        window_max: Amount::credits(1),
        lanes_max: 64,
        charge_max: Amount::from_ucr(500_000),
        concurrency: 8,
        windows: list(vec![Window { seconds: 60, requests: Some(120), tokens: None }]),
        logging: Logging::Metadata,
        filters: List::default(),
        terms: None,
        hours: List::default(),
        priority: None,
        terms_from: None,
        terms_before: None,
    }
}

/// What the project agrees to.
pub(crate) fn terms(version: u8) -> TermsOfUse {
    TermsOfUse {
        org: LAB,
        title: text(&format!("Research use, version {version}")),
        text: text("1. Nobody is harmed with what the model says.\n2. What was found is published.\n"),
    }
}

pub(crate) fn agreement() -> Agreement {
    Agreement { org: LAB, subject: text("sub-of-the-project"), terms: terms(1).digest(), token: TOKEN, at: NOW }
}

pub(crate) fn rule(op: Op, tier: Tier) -> OpRule {
    OpRule {
        op,
        tier,
        input_bytes_max: 65_536,
        output_tokens_max: 1_024,
        choices_max: 4,
        logprobs_max: 5,
        parameters: List::default(),
        logprobs_decimals: None,
        logit_bias: None,
        concurrency: None,
        windows: List::default(),
        charge_max: None,
    }
}

/// Every limit that a policy may state.
pub(crate) fn limited_policy() -> Policy {
    let mut open = tier(Tier::Open, Vetting::None, false);
    let (work, night) = (
        Hours { days: list(vec![Day::Monday, Day::Friday]), from: 8 * 60, until: 18 * 60 },
        Hours { days: List::default(), from: 0, until: 6 * 60 },
    );
    open.hours = list(vec![work, night]);
    open.priority = Some(Priority::Low);
    open.windows = list(vec![
        Window { seconds: 60, requests: Some(10), tokens: Some(100_000) },
        Window { seconds: 86_400, requests: None, tokens: Some(1_000_000) },
    ]);
    let mut chat = rule(Op::Chat, Tier::Open);
    chat.parameters = list(vec![text("max_tokens"), text("temperature")]);
    chat.logprobs_decimals = Some(3);
    chat.logit_bias = Some(LogitBias { kind: BiasKind::Block, entries_max: 50 });
    chat.concurrency = Some(2);
    chat.windows = list(vec![Window { seconds: 3_600, requests: Some(100), tokens: None }]);
    chat.charge_max = Some(Amount::from_ucr(10_000));
    Policy { tiers: list(vec![open]), rules: list(vec![chat]), name: text("limited"), ..policy_object() }
}

pub(crate) fn policy_object() -> Policy {
    let mut vetted = tier(Tier::Vetted, Vetting::Vetted, true);
    vetted.purposes = list(vec![text("DUO:0000042"), text("education")]);
    vetted.delegates = Delegates::None;
    Policy {
        org: LAB,
        name: text("standard"),
        version: 1,
        models: list(vec![model("lab/tiny"), model("lab/wide")]),
        tiers: list(vec![
            tier(Tier::Open, Vetting::None, false),
            tier(Tier::Registered, Vetting::Registered, false),
            vetted,
            tier(Tier::Audited, Vetting::Vetted, true),
        ]),
        rules: list(vec![
            rule(Op::Chat, Tier::Open),
            rule(Op::Chat, Tier::Registered),
            rule(Op::Completions, Tier::Registered),
            rule(Op::Logprobs, Tier::Vetted),
            rule(Op::Activations, Tier::Audited),
        ]),
        issued_at: NOW.minus(9 * DAY_S),
    }
}

pub(crate) fn policy() -> Verified<Policy> {
    cose::sign(&policy_object(), &secret("lab writer"))
}

pub(crate) fn grant(tier: Tier) -> Grant {
    Grant {
        id: GrantId([0x66; 16]),
        org: LAB,
        subject: text("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        models: list(vec![model("lab/tiny")]),
        tier,
        ops: List::default(),
        not_before: NOW.minus(DAY_S),
        not_after: NOW.plus(30 * DAY_S),
        plan: (tier == Tier::Audited).then(|| Digest::of(b"the approved plan")),
        reason: text("a good plan"),
        executions: None,
    }
}

/// Logprobs and a look at one layer, three hundred calls each.
pub(crate) fn plan() -> Plan {
    let row = |op: Op| PlanOp {
        op,
        calls: 300,
        input_tokens: None,
        output_tokens: None,
        output_tokens_max: None,
        logprobs_max: None,
        choices_max: None,
        sites: List::default(),
    };
    Plan {
        title: text("Where the answer is decided"),
        models: list(vec![model("lab/tiny")]),
        ops: list(vec![
            PlanOp {
                input_tokens: Some(60_000),
                output_tokens: Some(3_000),
                output_tokens_max: Some(10),
                logprobs_max: Some(5),
                choices_max: Some(1),
                ..row(Op::Logprobs)
            },
            PlanOp { sites: list(vec![text("resid_post.4")]), ..row(Op::Activations) },
        ]),
        hours: 24,
        data: list(vec![text("public"), text("synthetic")]),
        purpose: text("Which layer settles on the answer to a question of arithmetic."),
        outputs: text("One number for each layer, published with the receipts."),
    }
}

/// The owner's approval of that plan for three executions.
pub(crate) fn approval() -> Grant {
    Grant { plan: Some(plan().digest()), executions: Some(3), ..grant(Tier::Audited) }
}

pub(crate) fn scope(name: &str, ops: Vec<Op>) -> Scope {
    Scope { model: model(name), release: release(name).digest(), ops: list(ops), tariff: tariff().id() }
}

/// The usual token: house to holder `pi`, for the lab's node.
pub(crate) fn token() -> Token {
    let expires_at = NOW.plus(12 * HOUR_S);
    Token {
        issuer: IdText(HOUSE),
        subject: text("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        audience: IdText(LAB_NODE),
        expires_at,
        not_before: NOW.minus(HOUR_S),
        issued_at: NOW.minus(HOUR_S),
        id: TOKEN,
        holder: Confirmation(secret("pi").public()),
        terms: Terms {
            roster_version: 3,
            scope: list(vec![scope("lab/tiny", vec![Op::Chat, Op::Completions]), scope("lab/wide", vec![Op::Chat])]),
            budget: Amount::credits(10),
            vetting: Vetting::Registered,
            purposes: list(vec![text("education")]),
            window: Amount::credits(1),
            lanes_max: 8,
            longest_op_s: 600,
            settle_by: expires_at.plus(600 + 30 * DAY_S),
            depth: 3,
            grants: List::default(),
        },
    }
}

/// A budget-0 token of the lab for its own node.
pub(crate) fn own_token() -> Token {
    let mut own = token();
    own.issuer = IdText(LAB);
    own.subject = text(&secret("pi").public().thumbprint().to_string());
    own.terms.budget = Amount::ZERO;
    own.terms.vetting = Vetting::None;
    own.terms.purposes = List::default();
    own.terms.depth = 0;
    own
}

/// The first block of the usual chain: `pi` to `student`.
pub(crate) fn block(previous: Digest) -> Block {
    Block {
        previous,
        index: 1,
        cap: Amount::credits(4),
        expires_at: NOW.plus(6 * HOUR_S),
        lanes: Some(4),
        depth: Some(2),
        models: list(vec![model("lab/tiny")]),
        ops: list(vec![Op::Chat]),
        next: secret("student").public(),
    }
}

/// The chain PI → student → job → part of the job.
pub(crate) fn blocks(root: Digest) -> [Verified<Block>; 3] {
    let first = cose::sign(&block(root), &secret("pi"));
    let mut second = block(first.id());
    (second.index, second.cap, second.lanes, second.depth) = (2, Amount::credits(1), Some(2), Some(1));
    (second.models, second.ops, second.next) = (List::default(), List::default(), secret("job").public());
    let second = cose::sign(&second, &secret("student"));
    let mut third = block(second.id());
    (third.index, third.cap, third.lanes, third.depth) = (3, Amount::from_ucr(200_000), None, None);
    third.expires_at = NOW.plus(HOUR_S);
    third.next = secret("part").public();
    let third = cose::sign(&third, &secret("job"));
    [first, second, third]
}

pub(crate) fn chain(token: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    Chain { token: token.to_vec(), blocks: blocks.iter().map(|block| block.to_vec()).collect() }.to_bytes()
}

/// What a signature that breaks rules is made of.
pub(crate) struct Raw<'a> {
    pub alg: i64,
    pub kid: &'a [u8],
    pub typ: String,
    pub aad: String,
    /// An unknown label at the end of the protected header.
    pub label: Option<i64>,
    pub unprotected: &'a [u8],
}

impl<'a> Raw<'a> {
    pub(crate) fn of<T: Object>(kid: &'a [u8]) -> Self {
        Self { alg: -19, kid, typ: T::KIND.typ(), aad: T::KIND.aad(), label: None, unprotected: &[0xa0] }
    }

    pub(crate) fn sign(&self, payload: &[u8], key: &SecretKey) -> Vec<u8> {
        let mut header = Writer::default();
        header.map(3 + usize::from(self.label.is_some()));
        header.uint(1);
        header.int(self.alg);
        header.uint(4);
        header.bytes(self.kid);
        header.uint(16);
        header.text(&self.typ);
        if let Some(label) = self.label {
            header.int(label);
            header.uint(1);
        }
        let header = header.into_bytes();
        let mut signed = Writer::default();
        signed.array(4);
        signed.text("Signature1");
        signed.bytes(&header);
        signed.bytes(self.aad.as_bytes());
        signed.bytes(payload);
        let signature = key.sign(&signed.into_bytes());
        let mut w = Writer::default();
        w.tag(18);
        w.array(4);
        w.bytes(&header);
        w.raw(self.unprotected);
        w.bytes(payload);
        w.bytes(&signature);
        w.into_bytes()
    }
}

/// `bytes` with the only place that holds `from` changed to `to`.
pub(crate) fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// The same bytes, but the last one, which belongs to the signature.
pub(crate) fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().expect("bytes") ^= 1;
    bytes
}

pub(crate) fn summary() -> Summary {
    Summary {
        model: model("lab/tiny"),
        version: 4,
        org: LAB,
        title: text("Tiny"),
        description: text("A small model that answers questions about little."),
        tasks: list(vec![text("text-generation")]),
        languages: list(vec![text("en")]),
        input: list(vec![Modality::Text]),
        output: list(vec![Modality::Text]),
        params_total: Some(812_544),
        context_length: Some(512),
        license: text("Apache-2.0"),
        ops: list(vec![OpTier { op: Op::Chat, tier: Tier::Open, vetting: Vetting::None, grant: false }]),
        nodes: list(vec![LAB_NODE]),
        manifest: Digest::of(b"the manifest"),
        policy: policy().id(),
        tariff: tariff().id(),
        release: release("lab/tiny").digest(),
        retention_days: 30,
        residency: list(vec![text("US")]),
        state: ModelState::Active,
        released_at: NOW.minus(40 * DAY_S),
        sunset: None,
        price_hint: Some(PriceHint {
            input_ucr_per_million: 250_000,
            output_ucr_per_million: 1_000_000,
            request_ucr: 50,
        }),
    }
}

/// The lab node's receipt for the usual request, the first of its lane.
pub(crate) fn receipt() -> Receipt {
    let meters = comity_wire::Meters::default()
        .with(Meter::Requests, 1)
        .with(Meter::InputTokens, 131)
        .with(Meter::OutputTokens, 12);
    Receipt {
        token: TOKEN,
        leaf: super::chains::root().id(),
        lane: 3,
        seq: 17,
        item: 0,
        n: 1,
        charge: Amount::from_ucr(95),
        total: Amount::from_ucr(95),
        remainder: 250_000,
        meters,
        meters_total: meters,
        flags: Flags([(1, 1)].into()),
        flags_total: Flags([(1, 1)].into()),
        bytes_out: None,
        rank: None,
        basis: Basis::Upstream,
        ended: Ended::Stop,
        request: Digest::of(b"salted request"),
        response: Digest::of(b"salted response"),
        release: release("lab/tiny").digest(),
        manifest: Digest::of(b"the manifest"),
        tariff: tariff().id(),
        history: comity_wire::merkle::empty_root(),
        standing: 1,
        node: LAB_NODE,
        at: NOW,
        restore: 0,
        authority: Digest::of(b"the authority"),
        model: model("lab/tiny"),
        op: Op::Chat,
    }
}
