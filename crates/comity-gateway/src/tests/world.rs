//! One house, one lab with one node and one model, and a holder; keys by name, a clock that stands still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_supply::{Scripted, scripted::Script};
use comity_token::directory::{File, Inserted};
use comity_token::{Authority, sign_api, sign_request};
use comity_wire::cbor::{List, Text};
use comity_wire::cose::Detached;
use comity_wire::object::*;
use comity_wire::*;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::moderating::Moderated;
use crate::store::{Memory, Store};
use crate::{Call, Config, Gateway, House, Parts, Served, Watch, no_failpoint};

pub(super) const NOW: Timestamp = Timestamp(1_795_420_800);
pub(super) const HOUSE: OrgId = OrgId([1; 16]);
pub(super) const LAB: OrgId = OrgId([2; 16]);
pub(super) const NODE: NodeId = NodeId([3; 16]);
pub(super) const TOKEN: TokenId = TokenId([4; 16]);
const FEDERATION: RosterId = RosterId([5; 16]);
/// A late fee's risk by age.
const PREDICT: &[u8] = br#"{
    "input": {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]},
    "output": {"type": "number", "minimum": 0, "maximum": 1}
}"#;
/// All that is served.
pub(super) const OPS: [Op; 10] = [
    Op::Chat,
    Op::Completions,
    Op::Embeddings,
    Op::Logprobs,
    Op::PromptLogprobs,
    Op::Predict,
    Op::Tokenize,
    Op::Moderations,
    Op::Responses,
    Op::Batch,
];

pub(super) fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Digest::of(name.as_bytes()).0)
}

pub(super) fn model() -> ModelId {
    "lab/tiny".parse().unwrap()
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).map_err(|_| "too many").unwrap()
}

pub(super) fn rate(meter: Meter, ucr_per_million: u64) -> Rate {
    Rate { meter, steps: list(vec![Step { from: 0, ucr_per_million }]) }
}

/// 1 credit for 10⁶ tokens either way, at least 5 µcr a call.
pub(super) fn token_rates() -> Vec<Rate> {
    vec![rate(Meter::InputTokens, 1_000_000), rate(Meter::OutputTokens, 2_000_000)]
}

pub(super) struct Setting {
    pub(super) rates: Vec<Rate>,
    pub(super) minimum: u32,
    /// What op `batch` costs, without a minimum, where that is something else.
    pub(super) batch: Option<Vec<Rate>>,
    pub(super) tier: TierRule,
    /// A last change to each op rule.
    pub(super) rule: fn(&mut OpRule),
    /// No tier has it.
    pub(super) without: Option<Op>,
    pub(super) state: ModelState,
    pub(super) roster_version: u64,
    pub(super) standing_at: Timestamp,
    pub(super) revoked: Vec<Revocation>,
    pub(super) echo: bool,
    pub(super) slots: u32,
    pub(super) house: Option<Arc<dyn House>>,
    pub(super) transcripts: Option<Arc<dyn crate::Transcripts>>,
    pub(super) flags: Option<Arc<dyn crate::Flags>>,
    pub(super) moderation: Option<crate::moderating::Moderation>,
    /// What the manifest says of it.
    pub(super) told: Option<Moderation>,
    pub(super) failpoint: crate::Failpoint,
    pub(super) config: Config,
}

impl Default for Setting {
    fn default() -> Self {
        let tier = TierRule {
            tier: Tier::Open,
            vetting: Vetting::None,
            grant: false,
            purposes: List::default(),
            identity: Identity::Pseudonym,
            delegates: Delegates::All,
            window_max: Amount::credits(100),
            lanes_max: 1024,
            charge_max: Amount::credits(100),
            concurrency: 1000,
            windows: List::default(),
            logging: Logging::Metadata,
            filters: List::default(),
            terms: None,
            hours: List::default(),
            priority: None,
            terms_from: None,
            terms_before: None,
        };
        Self {
            rates: token_rates(),
            minimum: 5,
            batch: None,
            tier,
            rule: |_| {},
            without: None,
            state: ModelState::Active,
            roster_version: 1,
            standing_at: NOW,
            revoked: Vec::new(),
            echo: false,
            slots: 1_000,
            house: None,
            transcripts: None,
            flags: None,
            moderation: None,
            told: None,
            failpoint: no_failpoint(),
            config: Config::default(),
        }
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub(super) struct Watched {
    calls: Mutex<Vec<Call>>,
    moderated: Mutex<Vec<Moderated>>,
    pub(super) commits: AtomicU64,
}

impl Watched {
    /// The calls that have ended since it was last asked; waits for the first.
    pub(super) async fn next(&self) -> Call {
        loop {
            if let Some(call) = self.calls.lock().unwrap().pop() {
                return call;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Watched {
    /// All that another server was asked, in order.
    pub(super) fn moderated(&self) -> Vec<Moderated> {
        self.moderated.lock().unwrap().clone()
    }
}

impl Watch for Watched {
    fn call(&self, call: &Call) {
        self.calls.lock().unwrap().push(call.clone());
    }

    fn moderated(&self, asked: &Moderated) {
        self.moderated.lock().unwrap().push(asked.clone());
    }

    fn commit(&self, changes: usize, _: Duration) {
        self.commits.fetch_add(changes as u64, Ordering::SeqCst);
    }
}

pub(super) struct World {
    pub(super) watched: Arc<Watched>,
    pub(super) gateway: Gateway,
    pub(super) store: Arc<dyn Store>,
    pub(super) upstream: Scripted,
    pub(super) directory: Arc<File>,
    pub(super) tariff: Digest,
    pub(super) release: Digest,
    pub(super) clock: Arc<AtomicU64>,
}

pub(super) fn organisation(id: OrgId, name: &str, issuers: Vec<IssuerKey>) -> Organisation {
    let key = secret(&format!("{name} organisation")).public();
    Organisation { id, name: text(name), title: text(name), key, issuers: list(issuers) }
}

fn issuer(key: &str, use_: IssuerUse) -> IssuerKey {
    IssuerKey { key: secret(key).public(), use_, status: IssuerStatus::Active, from: Timestamp(0), retired_at: None }
}

pub(super) fn manifest(tariff: Digest, policy: Digest, state: ModelState) -> Manifest {
    Manifest {
        model: model(),
        version: 1,
        org: LAB,
        title: text("Tiny"),
        description: text("A small model"),
        tasks: List::default(),
        languages: List::default(),
        input: List::default(),
        output: List::default(),
        family: None,
        architecture: None,
        params_total: None,
        params_active: None,
        context_length: None,
        output_tokens_max: Some(1_000),
        license: License { spdx: text("MIT"), name: None, link: None },
        release: Release {
            weights: Digest([7; 32]),
            tokenizer: Digest([8; 32]),
            template: Digest([9; 32]),
            dtype: text("f32"),
            tokenizer_name: text("bytes"),
            undisclosed: false,
        },
        lineage: List::default(),
        training: None,
        evaluations: List::default(),
        data_policy: DataPolicy {
            retention_days: 7,
            trains_on_inputs: false,
            logging: Logging::Metadata,
            residency: List::default(),
            data_classes: List::default(),
            moderation: None,
        },
        operator: None,
        availability: None,
        ops: list(
            OPS.map(|op| {
                let schema = (op == Op::Predict).then(|| comity_wire::cbor::Bytes::new(PREDICT.to_vec()).unwrap());
                ManifestOp { op, tariff, schema }
            })
            .to_vec(),
        ),
        nodes: list(vec![NODE]),
        policy,
        status: Status { state, sunset: None, reason: None },
        released_at: NOW,
        measured: List::default(),
        attestations: List::default(),
        supersedes: None,
        documentation: None,
        contact: None,
    }
}

impl World {
    /// The house's next list names the token.
    pub(super) fn revoke_token(&self) {
        let subject = Text::new(TOKEN.to_string()).unwrap();
        let entries = List::new(vec![Revocation { kind: RevokedKind::Token, subject, at: NOW }]).unwrap();
        let list = RevocationList { org: HOUSE, number: 2, issued_at: NOW, entries };
        self.directory.insert(cose::sign(&list, &secret("house issuer")).bytes()).unwrap();
    }

    pub(super) async fn new(setting: Setting) -> Self {
        Self::on(setting, Arc::new(Memory::default())).await
    }

    /// A gateway over a store that may have been used before.
    pub(super) async fn on(setting: Setting, store: Arc<dyn Store>) -> Self {
        let roster = Roster {
            federation: FEDERATION,
            version: setting.roster_version,
            issued_at: NOW,
            expires_at: NOW.plus(1_000_000),
            threshold: 1,
            signers: list(vec![secret("root").public()]),
            organisations: list(vec![
                organisation(HOUSE, "house", vec![issuer("house issuer", IssuerUse::Budget)]),
                organisation(LAB, "lab", vec![issuer("lab issuer", IssuerUse::OwnNode)]),
            ]),
            anchors: List::default(),
        };
        let mut detached = Detached::new(&roster);
        detached.sign(&secret("root"));
        let directory = Arc::new(File::new(&detached.to_bytes()).unwrap());
        let writer = secret("lab writer");
        let put = |bytes: &[u8]| assert!(matches!(directory.insert(bytes), Ok(Inserted::Newest { .. })));
        let certificate = NodeCertificate {
            org: LAB,
            node: NODE,
            transport_keys: list(vec![secret("transport").public()]),
            receipt_keys: list(vec![ReceiptKey {
                key: secret("receipt").public(),
                from: NOW,
                until: NOW.plus(5_000_000),
            }]),
            not_before: NOW,
            not_after: NOW.plus(5_000_000),
            restore: 0,
        };
        put(cose::sign(&certificate, &secret("lab organisation")).bytes());
        let (not_before, not_after) = (NOW, NOW.plus(5_000_000));
        let of_writer = WriterCertificate { org: LAB, key: writer.public(), epoch: 0, not_before, not_after };
        put(cose::sign(&of_writer, &secret("lab organisation")).bytes());
        for (org, key) in [(HOUSE, "house issuer"), (LAB, "lab issuer")] {
            let entries = list(if org == HOUSE { setting.revoked.clone() } else { Vec::new() });
            let standing = RevocationList { org, number: 1, issued_at: setting.standing_at, entries };
            put(cose::sign(&standing, &secret(key)).bytes());
        }
        let price = |op| match &setting.batch {
            Some(rates) if op == Op::Batch => Price { op, rates: list(rates.clone()), minimum: Amount::ZERO },
            _ => Price { op, rates: list(setting.rates.clone()), minimum: Amount::from_ucr(setting.minimum) },
        };
        let tariff = Tariff {
            org: LAB,
            name: text("standard"),
            version: 1,
            prices: list(OPS.map(price).to_vec()),
            overhead_tokens: 16,
            output_bytes_per_token: 8,
            issued_at: NOW,
        };
        let tariff = cose::sign(&tariff, &writer);
        put(tariff.bytes());
        let tier = setting.tier.tier;
        let rule = |op| {
            let mut rule = OpRule {
                op,
                tier,
                input_bytes_max: 10_000,
                output_tokens_max: 500,
                choices_max: 4,
                logprobs_max: 5,
                parameters: List::default(),
                logprobs_decimals: None,
                logit_bias: Some(LogitBias { kind: BiasKind::Any, entries_max: 300 }),
                concurrency: None,
                windows: List::default(),
                charge_max: None,
            };
            (setting.rule)(&mut rule);
            rule
        };
        let policy = Policy {
            org: LAB,
            name: text("policy"),
            version: 1,
            models: list(vec![model()]),
            tiers: list(vec![setting.tier.clone()]),
            rules: list(OPS.into_iter().filter(|op| setting.without != Some(*op)).map(rule).collect()),
            issued_at: NOW,
        };
        let policy = cose::sign(&policy, &writer);
        put(policy.bytes());
        let mut manifest = manifest(tariff.id(), policy.id(), setting.state);
        manifest.data_policy.moderation = setting.told;
        let release = manifest.release.digest();
        put(cose::sign(&manifest, &writer).bytes());
        let upstream = Scripted::new(Script::text(Op::Chat, 12, &["Hello", ", ", "world"]));
        let clock = Arc::new(AtomicU64::new(NOW.0));
        let watched = Arc::new(Watched::default());
        let (ticking, drawn) = (clock.clone(), AtomicU64::new(1));
        let parts = Parts {
            node: NODE,
            org: LAB,
            directory: directory.clone(),
            served: vec![Served {
                model: model(),
                upstream: Arc::new(upstream.clone()),
                upstream_model: "tiny-on-disk".into(),
                echo: setting.echo,
                choices_max: 4,
                is_vendor: false,
                fields_refused: Vec::new(),
                slots: setting.slots,
            }],
            store: store.clone(),
            receipt_key: secret("receipt"),
            own_issuer: Some(secret("lab issuer")),
            feed_writer: writer.public(),
            house: setting.house,
            clock: Arc::new(move || Timestamp(ticking.load(Ordering::SeqCst))),
            entropy: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::SeqCst)).to_be_bytes()),
            failpoint: setting.failpoint,
            watch: watched.clone(),
            transcripts: setting.transcripts,
            filter: comity_guard::Filter::builtin(),
            flags: setting.flags,
            moderation: setting.moderation,
        };
        let gateway = Gateway::new(setting.config, parts).await.unwrap();
        Self { watched, gateway, store, upstream, directory, tariff: tariff.id(), release, clock }
    }

    pub(super) fn token(&self) -> Token {
        let scope = Scope { model: model(), release: self.release, ops: list(OPS.to_vec()), tariff: self.tariff };
        let expires_at = NOW.plus(3_600);
        Token {
            issuer: IdText(HOUSE),
            subject: text("sub-of-the-project"),
            audience: IdText(NODE),
            expires_at,
            not_before: NOW,
            issued_at: NOW,
            id: TOKEN,
            holder: Confirmation(secret("holder").public()),
            terms: Terms {
                roster_version: 1,
                scope: list(vec![scope]),
                budget: Amount::credits(1),
                vetting: Vetting::Registered,
                purposes: List::default(),
                window: Amount::credits(1),
                lanes_max: 8,
                longest_op_s: 600,
                settle_by: expires_at.plus(600 + Token::SETTLE_S_MIN),
                depth: 2,
                grants: List::default(),
            },
        }
    }

    pub(super) fn mint(&self, change: impl FnOnce(&mut Token)) -> Vec<u8> {
        let mut token = self.token();
        change(&mut token);
        chain(token, "house issuer")
    }

    pub(super) fn ask(&self, chain: &[u8]) -> Ask {
        Ask {
            chain: chain.to_vec(),
            send_chain: true,
            leaf: leaf(chain),
            lane: 0,
            seq: 1,
            method: "POST",
            path: "/v1/chat/completions".to_owned(),
            body: chat("hi", json!({"max_tokens": 20})),
            tariff: self.tariff,
            max: Amount::from_ucr(10_000),
            nonce: [6; 16],
            created: Timestamp(self.clock.load(Ordering::SeqCst)),
            key: secret("holder"),
            acknowledgement: None,
            altered: None,
        }
    }

    pub(super) async fn send(&self, ask: &Ask) -> Response {
        self.gateway.router().oneshot(ask.request()).await.unwrap()
    }

    /// The reply's code; `ok` for a 200.
    pub(super) async fn code(&self, ask: &Ask) -> String {
        code(self.send(ask).await).await
    }

    pub(super) async fn call(&self, method: &str, path: &str, query: &str, body: &Value, key: &SecretKey) -> Response {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = self.called(method, path, query, body, key);
        self.gateway.router().oneshot(request.body(Body::from(bytes)).unwrap()).await.unwrap()
    }

    /// The head of a signed call.
    pub(super) fn called(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &Value,
        key: &SecretKey,
    ) -> http::request::Builder {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let nonce = Digest::of(&bytes).0[..16].try_into().unwrap();
        let created = Timestamp(self.clock.load(Ordering::SeqCst));
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in sign_api(method, path, query, &bytes, created, nonce, key) {
            request = request.header(name, value);
        }
        request
    }
}

/// A payment request with everything about it open to change.
pub(super) struct Ask {
    pub(super) chain: Vec<u8>,
    pub(super) send_chain: bool,
    pub(super) leaf: Digest,
    pub(super) lane: u16,
    pub(super) seq: u64,
    pub(super) method: &'static str,
    /// With its query.
    pub(super) path: String,
    /// `null`: none.
    pub(super) body: Value,
    pub(super) tariff: Digest,
    pub(super) max: Amount,
    pub(super) nonce: [u8; 16],
    pub(super) created: Timestamp,
    pub(super) key: SecretKey,
    pub(super) acknowledgement: Option<Vec<u8>>,
    /// A body sent in place of the one that was signed.
    pub(super) altered: Option<Vec<u8>>,
}

impl Ask {
    pub(super) fn authority(&self) -> Authority {
        Authority {
            leaf: self.leaf,
            lane: self.lane,
            seq: self.seq,
            method: self.method.into(),
            path: self.path.split('?').next().unwrap().to_owned(),
            query: self.path.split_once('?').map_or("", |(_, query)| query).to_owned(),
            content_digest: Digest::of(&self.bytes()),
            tariff: self.tariff,
            max_charge: self.max,
            nonce: self.nonce,
        }
    }

    pub(super) fn request(&self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in sign_request(&self.authority(), self.created, &self.key) {
            request = request.header(name, value);
        }
        if self.send_chain {
            request = request.header("comity-token", sf(&self.chain));
        }
        if let Some(ack) = &self.acknowledgement {
            request = request.header("comity-acknowledgement", sf(ack));
        }
        let body = self.altered.clone().unwrap_or_else(|| self.bytes());
        request.body(Body::from(body)).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        if self.body.is_null() { Vec::new() } else { self.body.to_string().into_bytes() }
    }

    pub(super) fn to(mut self, path: &str, body: Value) -> Self {
        (self.path, self.body) = (path.to_owned(), body);
        self
    }

    pub(super) fn seq(mut self, seq: u64) -> Self {
        self.seq = seq;
        self
    }

    pub(super) fn lane(mut self, lane: u16) -> Self {
        self.lane = lane;
        self
    }

    pub(super) fn body(mut self, body: Value) -> Self {
        self.body = body;
        self
    }
}

pub(super) fn sf(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

pub(super) fn chain(token: Token, issuer: &str) -> Vec<u8> {
    Chain { token: cose::sign(&token, &secret(issuer)).bytes().to_vec(), blocks: Vec::new() }.to_bytes()
}

pub(super) fn leaf(chain: &[u8]) -> Digest {
    let chain = Chain::from_bytes(chain).unwrap();
    match chain.blocks.last() {
        Some(block) => Signed::<Block>::decode(block).unwrap().id(),
        None => Signed::<Token>::decode(&chain.token).unwrap().id(),
    }
}

pub(super) fn chat(content: &str, more: Value) -> Value {
    let mut body = json!({"model": "lab/tiny", "messages": [{"role": "user", "content": content}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub(super) async fn read(response: Response) -> (u16, http::HeaderMap, Vec<u8>) {
    let (parts, body) = response.into_parts();
    (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

pub(super) async fn code(response: Response) -> String {
    let (status, headers, body) = read(response).await;
    if status == 200 {
        return "ok".into();
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let code = body["error"]["code"].as_str().or_else(|| body["code"].as_str()).unwrap().to_owned();
    let expected: Code = code.parse().unwrap();
    assert_eq!(status, expected.status(), "{code}");
    assert_eq!(headers["x-should-retry"], expected.should_retry().to_string(), "{code}");
    code
}

/// The receipt of a buffered reply, under the node's key.
pub(super) fn receipt(headers: &http::HeaderMap) -> Verified<Receipt> {
    let text = headers["comity-receipt"].to_str().unwrap().trim_matches(':');
    verify(&STANDARD.decode(text).unwrap())
}

pub(super) fn verify(bytes: &[u8]) -> Verified<Receipt> {
    Signed::<Receipt>::decode(bytes).unwrap().verify(&secret("receipt").public()).unwrap()
}

pub(super) fn acknowledge(receipts: &[&Verified<Receipt>], key: &SecretKey) -> Vec<u8> {
    let mut lanes: Vec<_> = receipts
        .iter()
        .map(|r| AckLane { leaf: r.leaf, lane: r.lane, n: r.n, total: r.total, receipt: r.id() })
        .collect();
    lanes.sort_by_key(|lane| (lane.leaf, lane.lane));
    let ack = Acknowledgement { token: receipts[0].token, lanes: list(lanes), at: NOW };
    cose::sign(&ack, key).bytes().to_vec()
}
