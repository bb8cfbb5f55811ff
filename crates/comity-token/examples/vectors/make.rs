//! Makes every file of spec/vectors: the same bytes each time.

use comity_token::sign_acknowledgement;
use comity_wire::api::clearing::lane_proof;
use comity_wire::object::*;
use comity_wire::{
    Amount, CreditNoteId, Digest, Encode, Exact, MandateId, Meter, Object, Op, ProjectId, QuoteId, SecretKey, TokenId,
    Verified, cose, log, merkle,
};
use serde_json::{Map, Value, json};

use super::check::{self, States, meters_json};
use super::world::*;
use super::{chains, hex, requests};

/// A file under making.
struct File {
    about: &'static str,
    states: Map<String, Value>,
    known: States,
    vectors: Vec<Value>,
}

impl File {
    fn new(about: &'static str) -> Self {
        Self { about, states: Map::new(), known: States::new(), vectors: Vec::new() }
    }

    fn with_states(mut self, names: &[&str]) -> Self {
        for (name, state) in chains::states() {
            if names.is_empty() || names.contains(&name) {
                let objects: Vec<String> = state.objects.iter().map(hex::encode).collect();
                self.states
                    .insert(name.to_owned(), json!({ "roster": hex::encode(&state.roster), "objects": objects }));
                self.known.insert(name.to_owned(), state.directory());
            }
        }
        self
    }

    /// Adds a vector. What stands gets its details from this implementation, and another one confirms them; what does
    /// not stand has its code from whoever wrote the case.
    fn add(&mut self, id: &str, kind: &str, rule: &str, note: &str, fields: Value, expect: Result<(), &str>) {
        let mut vector = Map::new();
        vector.insert("id".to_owned(), json!(id));
        vector.insert("kind".to_owned(), json!(kind));
        vector.insert("rule".to_owned(), json!(rule));
        vector.insert("note".to_owned(), json!(note));
        vector.extend(fields.as_object().expect("an object").clone());
        let mut vector = Value::Object(vector);
        let expect = match expect {
            Ok(()) => {
                json!({ "ok": check::evaluate(&vector, &self.known).unwrap_or_else(|code| panic!("{id}: {code}")) })
            }
            Err(code) => json!({ "error": code }),
        };
        vector["expect"] = expect;
        assert!(self.vectors.iter().all(|other| other["id"] != id), "{id} is taken");
        self.vectors.push(vector);
    }

    fn finish(self) -> String {
        let mut file = Map::new();
        file.insert("about".to_owned(), json!(self.about));
        if !self.states.is_empty() {
            file.insert("states".to_owned(), Value::Object(self.states));
        }
        file.insert("vectors".to_owned(), Value::Array(self.vectors));
        serde_json::to_string_pretty(&Value::Object(file)).expect("JSON") + "\n"
    }
}

/// Every file by name.
pub(crate) fn files() -> Vec<(&'static str, String)> {
    vec![
        ("encoding.json", encoding()),
        ("keys.json", keys()),
        ("objects.json", objects()),
        ("cose.json", cose_refusals()),
        ("rosters.json", rosters()),
        ("chains.json", chains_file()),
        ("requests.json", requests_file()),
        ("authority.json", authorities()),
        ("money.json", money()),
        ("merkle.json", merkle_file()),
        ("log.json", log_file()),
        ("evidence.json", evidence()),
        ("policy.json", policies()),
    ]
}

/// Id, rule, note, hex, what comes of it.
type EncodingRow = (&'static str, &'static str, &'static str, &'static str, Result<(), &'static str>);
/// Id, note, op, units.
type ChargeRow = (&'static str, &'static str, Op, &'static [(Meter, u64)]);

fn encoding() -> String {
    let mut file = File::new("Comity-CBOR: one encoding for each value (01-encoding.md, 1.1).");
    let rows: &[EncodingRow] = &[
        ("map", "E-3", "{1: 0, 2: 0}", "a201000200", Ok(())),
        ("bytewise", "E-3", "keys 100 and -1 in bytewise order", "a21864002000", Ok(())),
        ("length-first", "E-3", "the same keys, shorter first", "a22000186400", Err("non_deterministic")),
        ("duplicate", "E-3", "a key twice", "a201000101", Err("non_deterministic")),
        ("descending", "E-3", "keys -1, 0", "a220000100", Err("non_deterministic")),
        ("long-key", "E-1", "key 1 in two bytes", "a1180100", Err("non_deterministic")),
        ("long-two", "E-1", "255 in three bytes", "1900ff", Err("non_deterministic")),
        ("long-four", "E-1", "65535 in five bytes", "1a0000ffff", Err("non_deterministic")),
        ("long-eight", "E-1", "2^32 - 1 in nine bytes", "1b00000000ffffffff", Err("non_deterministic")),
        ("long-bytes", "E-1", "a byte string's length in two bytes", "580161", Err("non_deterministic")),
        ("indefinite-map", "E-1", "an indefinite map", "bf0102ff", Err("non_deterministic")),
        ("indefinite-bytes", "E-1", "an indefinite byte string", "5f4101ff", Err("non_deterministic")),
        ("half", "E-2", "1.0 as a half", "f93c00", Err("non_deterministic")),
        ("double", "E-2", "1.0 as a double", "fb3ff0000000000000", Err("non_deterministic")),
        ("bignum", "E-2", "tag 2", "c24101", Err("non_deterministic")),
        ("stray-tag", "E-2", "tag 1", "c101", Err("non_deterministic")),
        ("stray-tag-18", "E-2", "tag 18 where it does not lead a signed object", "81d280", Err("non_deterministic")),
        ("null", "E-2", "null", "f6", Err("non_deterministic")),
        ("undefined", "E-2", "undefined", "f7", Err("non_deterministic")),
        ("simple", "E-2", "simple value 255", "f8ff", Err("non_deterministic")),
        ("true", "E-2", "true", "f5", Ok(())),
        ("bool-key", "E-4", "true as a key", "a20102f503", Err("malformed")),
        ("text-key", "E-4", "a text as a key", "a1616101", Err("malformed")),
        ("utf-8", "E-4", "text that is not UTF-8", "61ff", Err("malformed")),
        ("surrogate", "E-4", "a surrogate in UTF-8", "63eda080", Err("malformed")),
        ("empty", "E-4", "nothing", "", Err("malformed")),
        ("cut-map", "E-4", "a map without its last value", "a2010002", Err("malformed")),
        ("length-bomb", "E-4", "an array of 2^63 - 1 items in nine bytes", "9b7fffffffffffffff", Err("malformed")),
        ("text-bomb", "E-4", "a text of 2^32 - 1 bytes in five bytes", "7affffffff", Err("malformed")),
        ("trailing", "E-4", "a byte too many", "a1010200", Err("malformed")),
        ("largest", "E-4", "2^63 - 1", "1b7fffffffffffffff", Ok(())),
        ("too-large-integer", "E-4", "2^63", "1b8000000000000000", Err("malformed")),
        ("smallest", "E-4", "-2^63", "3b7fffffffffffffff", Ok(())),
        ("too-small-integer", "E-4", "-2^63 - 1", "3b8000000000000000", Err("malformed")),
        ("eight-deep", "E-5", "eight arrays in each other", "818181818181818100", Ok(())),
        ("nine-deep", "E-5", "nine arrays in each other", "81818181818181818100", Err("too_deep")),
        ("bytes-start-again", "E-5", "a byte string hides what is in it", "8181818181818181428100", Ok(())),
    ];
    for (id, rule, note, hex, expect) in rows {
        file.add(id, "cbor", rule, note, json!({ "hex": hex }), *expect);
    }
    let sized = |hex: &str, bytes: u64, items: u64| json!({ "hex": hex, "bytes_max": bytes, "items_max": items });
    file.add("as-large-as-may-be", "cbor", "E-6", "three bytes where three are allowed", sized("820000", 3, 3), Ok(()));
    file.add(
        "a-byte-too-large",
        "cbor",
        "E-6",
        "three bytes where two are allowed",
        sized("820000", 2, 3),
        Err("too_large"),
    );
    file.add(
        "an-item-too-many",
        "cbor",
        "E-6",
        "three items where two are allowed",
        sized("820000", 3, 2),
        Err("too_large"),
    );
    file.add(
        "size-first",
        "cbor",
        "E-6",
        "size is looked at before anything else",
        sized("ffffff", 2, 2),
        Err("too_large"),
    );
    // RFC 8949 appendix A: what the profile takes of it, and what it does not.
    for (name, hex) in [
        ("0", "00"),
        ("23", "17"),
        ("24", "1818"),
        ("100", "1864"),
        ("1000", "1903e8"),
        ("1000000", "1a000f4240"),
        ("1000000000000", "1b000000e8d4a51000"),
        ("-1", "20"),
        ("-100", "3863"),
        ("-1000", "3903e7"),
        ("false", "f4"),
        ("h''", "40"),
        ("h'01020304'", "4401020304"),
        ("\"\"", "60"),
        ("\"IETF\"", "6449455446"),
        ("\"ü\"", "62c3bc"),
        ("\"水\"", "63e6b0b4"),
        ("[]", "80"),
        ("[1, [2, 3], [4, 5]]", "8301820203820405"),
        ("{}", "a0"),
        ("{1: 2, 3: 4}", "a201020304"),
    ] {
        let note = format!("RFC 8949 appendix A: {name}");
        file.add(&format!("rfc8949-{hex}"), "cbor", "E-1", &note, json!({ "hex": hex }), Ok(()));
    }
    for (name, hex, code) in [
        ("18446744073709551615", "1bffffffffffffffff", "malformed"),
        ("0.0", "f90000", "non_deterministic"),
        ("Infinity", "f97c00", "non_deterministic"),
        ("NaN", "f97e00", "non_deterministic"),
        ("simple(16)", "f0", "non_deterministic"),
        ("1(1363896240)", "c11a514b67b0", "non_deterministic"),
        ("(_ \"strea\", \"ming\")", "7f657374726561646d696e67ff", "non_deterministic"),
        ("[_ ]", "9fff", "non_deterministic"),
        ("{\"a\": 1}", "a1616101", "malformed"),
    ] {
        let note = format!("RFC 8949 appendix A: {name}");
        file.add(&format!("rfc8949-{hex}"), "cbor", "E-1", &note, json!({ "hex": hex }), Err(code));
    }
    file.finish()
}

fn keys() -> String {
    let mut file = File::new(
        "Ed25519 keys and their text form (02-keys.md, 2.1). RFC 8032 section 7.1 and RFC 9421 appendix B.2.6 are named where they stand.",
    );
    for name in ["pi", "student", "job", "house issuer"] {
        let fields = json!({ "seed": hex::encode(seed(name)), "hex": hex::encode(secret(name).public().as_bytes()) });
        file.add(&name.replace(' ', "-"), "key", "K-1", "seed = SHA-256(\"comity/vectors/\" + name)", fields, Ok(()));
    }
    let mut one = [0; 32];
    one[0] = 1;
    let mut loose = [0xff; 32];
    (loose[0], loose[31]) = (0xee, 0x7f);
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let order_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    for (id, note, bytes) in [
        ("identity", "the neutral point, order 1", hex::encode(one)),
        ("order-2", "order 2", hex::encode(minus_one)),
        ("order-4", "y = 0, order 4", "00".repeat(32)),
        ("order-8", "order 8", order_8.to_owned()),
        ("loose", "the neutral point with y = p + 1", hex::encode(loose)),
        ("no-point", "y = 2 is on no point", format!("02{}", "00".repeat(31))),
    ] {
        file.add(id, "key", "K-1", note, json!({ "hex": bytes }), Err("invalid_key"));
    }
    let signed =
        |key: &str, message: &str, signature: &str| json!({ "key": key, "message": message, "signature": signature });
    for (id, key, message, signature) in [
        (
            "rfc8032-1",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "rfc8032-2",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "rfc8032-3",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        file.add(id, "ed25519", "E-11", "RFC 8032 section 7.1", signed(key, message, signature), Ok(()));
    }
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n\
                \"content-type\": application/json\n\"content-length\": 18\n\"@signature-params\": (\"date\" \"@method\" \"@path\" \
                \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let key = SecretKey::from_seed([
        0x9f, 0x83, 0x62, 0xf8, 0x7a, 0x48, 0x4a, 0x95, 0x4e, 0x6e, 0x74, 0x0c, 0x5b, 0x4c, 0x0e, 0x84, 0x22, 0x91,
        0x39, 0xa2, 0x0a, 0xa8, 0xab, 0x56, 0xff, 0x66, 0x58, 0x6f, 0x6a, 0x7d, 0x29, 0xc5,
    ]);
    let fields =
        signed(&hex::encode(key.public().as_bytes()), &hex::encode(base), &hex::encode(key.sign(base.as_bytes())));
    file.add("rfc9421-b26", "ed25519", "Q-3", "RFC 9421 appendix B.2.6", fields, Ok(()));
    let key = secret("pi");
    let good = key.sign(b"message");
    // s + L: the same signature to a verifier that does not look.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (mut malleable, mut carry) = (good, 0_u16);
    for at in 0..32 {
        carry += u16::from(good[32 + at]) + u16::from(order[at]);
        malleable[32 + at] = carry as u8;
        carry >>= 8;
    }
    let public = hex::encode(key.public().as_bytes());
    let message = hex::encode(b"message");
    file.add(
        "malleable",
        "ed25519",
        "E-11",
        "s + L for s",
        signed(&public, &message, &hex::encode(malleable)),
        Err("bad_signature"),
    );
    file.add(
        "altered",
        "ed25519",
        "E-11",
        "one bit",
        signed(&public, &message, &hex::encode(flipped(&good))),
        Err("bad_signature"),
    );
    file.add(
        "other-message",
        "ed25519",
        "E-11",
        "another message",
        signed(&public, "00", &hex::encode(good)),
        Err("bad_signature"),
    );
    file.finish()
}

fn manifest() -> Manifest {
    Manifest {
        model: model("lab/tiny"),
        version: 4,
        org: LAB,
        title: text("Tiny"),
        description: text("A small model that answers questions about little."),
        tasks: list(vec![text("text-generation")]),
        languages: list(vec![text("en")]),
        input: list(vec![Modality::Text]),
        output: list(vec![Modality::Text]),
        family: Some(text("tiny")),
        architecture: Some(text("llama")),
        params_total: Some(812_544),
        params_active: None,
        context_length: Some(512),
        output_tokens_max: Some(256),
        license: License { spdx: text("Apache-2.0"), name: None, link: None },
        release: release("lab/tiny"),
        lineage: list(vec![Lineage { model: text("lab/tinier"), relation: Relation::FineTune, digest: None }]),
        training: Some(Training {
            flop: Some(Fraction { mantissa: Signed64(49), exponent10: Signed64(12) }),
            method: text("measured"),
            hardware: None,
            started_at: None,
            ended_at: None,
            data: None,
        }),
        evaluations: list(vec![Evaluation {
            benchmark: text("held-out"),
            metric: text("exact_match"),
            value: Fraction { mantissa: Signed64(934), exponent10: Signed64(-3) },
            date: NOW.minus(20 * DAY_S),
            harness: None,
            source: None,
        }]),
        data_policy: DataPolicy {
            retention_days: 30,
            trains_on_inputs: false,
            logging: Logging::Metadata,
            residency: list(vec![text("US")]),
            data_classes: list(vec![text("public")]),
            moderation: None,
        },
        operator: None,
        availability: None,
        ops: list(vec![ManifestOp { op: Op::Chat, tariff: tariff().id(), schema: None }]),
        nodes: list(vec![LAB_NODE]),
        policy: policy().id(),
        status: Status { state: ModelState::Active, sunset: None, reason: None },
        released_at: NOW.minus(40 * DAY_S),
        measured: list(vec![Measured { name: text("logprobs"), value: true, at: NOW }]),
        attestations: Default::default(),
        supersedes: None,
        documentation: None,
        contact: Some(text("models@lab.example")),
    }
}

fn index() -> Index {
    let entry = |kind, subject: &str, version, id, size: usize| Entry {
        kind,
        subject: text(subject),
        version,
        id,
        bytes: u32::try_from(size).expect("small"),
    };
    let (tariff, policy) = (tariff(), policy());
    let entries = vec![
        entry(EntryKind::Policy, "standard", 1, policy.id(), policy.bytes().len()),
        entry(EntryKind::Tariff, "standard", 1, tariff.id(), tariff.bytes().len()),
    ];
    Index { entries: list(entries) }
}

fn head() -> Head {
    let index = index().to_cbor();
    Head {
        federation: FEDERATION,
        org: LAB,
        epoch: 1,
        seq: 9,
        previous: Some(Digest::of(b"head 8")),
        index: Digest::of(&index),
        index_bytes: u32::try_from(index.len()).expect("small"),
        entries: 2,
        issued_at: NOW,
        expires_at: NOW.plus(7 * DAY_S),
        roster_version: 3,
    }
}

fn ack() -> Acknowledgement {
    let lane = AckLane {
        leaf: chains::root().id(),
        lane: 3,
        n: 1,
        total: Amount::from_ucr(95),
        receipt: cose::sign(&receipt(), &secret("lab receipt")).id(),
    };
    Acknowledgement { token: TOKEN, lanes: list(vec![lane]), at: NOW }
}

fn claim() -> Claim {
    let lane = ClaimLane {
        receipt: comity_wire::cbor::Bytes::new(cose::sign(&receipt(), &secret("lab receipt")).bytes()).expect("fits"),
        settled_n: None,
        inclusion: Default::default(),
    };
    Claim {
        token: TOKEN,
        node: LAB_NODE,
        number: 1,
        chains: list(vec![comity_wire::cbor::Bytes::new(chains::usual(0)).expect("fits")]),
        lanes: list(vec![lane]),
        acknowledgements: list(vec![
            comity_wire::cbor::Bytes::new(sign_acknowledgement(&ack(), &secret("pi")).bytes()).expect("fits"),
        ]),
        at: NOW,
    }
}

fn quote() -> Quote {
    Quote {
        id: QuoteId([0x55; 16]),
        issuer: HOUSE,
        project: ProjectId([0x44; 16]),
        node: LAB_NODE,
        scope: list(vec![scope("lab/tiny", vec![Op::Chat])]),
        window: Amount::credits(1),
        lanes_max: 8,
        longest_op_s: 600,
        issued_at: NOW,
        expires_at: NOW.plus(DAY_S),
    }
}

fn mandate() -> Mandate {
    Mandate {
        id: MandateId([0x33; 16]),
        project: ProjectId([0x44; 16]),
        member: None,
        join_code: Some(Digest::of(b"a join code")),
        cap: Amount::credits(50),
        cap_per_day: Amount::credits(5),
        models: Default::default(),
        not_before: NOW,
        not_after: NOW.plus(300 * DAY_S),
        model_caps: Default::default(),
        assists: None,
    }
}

/// Caps of single models, an assistant's, and what is no such thing.
fn mandates(file: &mut File) {
    let cap = |name: &str, credits: u32| ModelCap { model: model(name), cap: Amount::credits(credits) };
    let caps = vec![cap("lab/small", 5), cap("lab/tiny", 50)];
    let key = secret("pi");
    let signed = |mandate: &Mandate| {
        let bytes = Raw::of::<Mandate>(key.public().as_bytes()).sign(&mandate.to_cbor(), &key);
        json!({ "object": "mandate", "key": key.public(), "seed": hex::encode(seed("pi")), "hex": hex::encode(bytes) })
    };
    let good = Mandate { model_caps: list(caps.clone()), assists: Some(true), ..mandate() };
    file.add("mandate-of-an-assistant", "object", "T-5", "with caps of single models", signed(&good), Ok(()));
    let rows = [
        (
            "mandate-model-cap-above",
            "T-5",
            "a model's cap above the whole",
            Mandate { model_caps: list(vec![cap("lab/tiny", 51)]), ..mandate() },
        ),
        (
            "mandate-model-cap-elsewhere",
            "T-5",
            "a cap of a model that it is not for",
            Mandate { models: list(vec![model("lab/small")]), ..good },
        ),
        (
            "mandate-model-caps-order",
            "T-5",
            "caps in another order",
            Mandate { model_caps: list(caps.into_iter().rev().collect()), ..mandate() },
        ),
        (
            "mandate-assists-not",
            "T-7",
            "who does not assist is left out",
            Mandate { assists: Some(false), ..mandate() },
        ),
    ];
    for (id, rule, note, mandate) in rows {
        file.add(id, "object", rule, note, signed(&mandate), Err("malformed"));
    }
}

/// Id, note, what is wrong with it.
type RefusedRow<T = Plan> = (&'static str, &'static str, fn(&mut T));

/// What is no plan.
fn plans_refused(file: &mut File) {
    let changed = |change: fn(&mut Plan)| {
        let mut changed = plan();
        change(&mut changed);
        json!({ "object": "plan", "hex": hex::encode(changed.to_cbor()) })
    };
    fn row(plan: &mut Plan, at: usize, change: impl FnOnce(&mut PlanOp)) {
        let mut rows = plan.ops.to_vec();
        change(&mut rows[at]);
        plan.ops = list(rows);
    }
    let rows: [RefusedRow; 9] = [
        ("plan-without-model", "it names no model", |plan| plan.models = list(Vec::new())),
        ("plan-two-owners", "models of two owners", |plan| {
            plan.models = list(vec![model("lab/tiny"), model("uni/small")]);
        }),
        ("plan-order", "ops in another order", |plan| {
            let rows = plan.ops.iter().rev().cloned().collect();
            plan.ops = list(rows);
        }),
        ("plan-endless", "an execution of 721 hours", |plan| plan.hours = 721),
        ("plan-no-time", "an execution of no hour", |plan| plan.hours = 0),
        ("plan-silent", "no word on what comes out", |plan| plan.outputs = text("")),
        ("plan-unbounded", "an op that generates, without a bound on its tokens", |plan| {
            row(plan, 0, |row| row.output_tokens = None);
        }),
        ("plan-no-calls", "an op that may not be called", |plan| row(plan, 0, |row| row.calls = 0)),
        ("plan-no-site", "an op that looks inside, without a site", |plan| {
            row(plan, 1, |row| row.sites = list(Vec::new()));
        }),
    ];
    for (id, note, change) in rows {
        file.add(id, "object", "F-7", note, changed(change), Err("malformed"));
    }
}

fn of_nobody(file: &mut File, good: &Export) {
    let key = secret("lab receipt");
    let bytes =
        Raw::of::<Export>(key.public().as_bytes()).sign(&Export { subject: text(""), ..good.clone() }.to_cbor(), &key);
    let fields = json!({ "object": "export", "key": key.public(), "hex": hex::encode(bytes) });
    file.add("export-of-nobody", "object", "D-6", "without a pseudonym", fields, Err("malformed"));
}

/// A manifest that says who else sees prompts, and what is no such word.
fn moderated(file: &mut File) {
    let key = secret("lab writer");
    let with = |by: &str, tiers: Vec<Tier>| {
        let mut manifest = manifest();
        let tiers = list(tiers);
        manifest.data_policy.moderation = Some(Moderation { by: text(by), answers: false, retention_days: 30, tiers });
        let bytes = Raw::of::<Manifest>(key.public().as_bytes()).sign(&manifest.to_cbor(), &key);
        json!({ "object": "manifest", "key": key.public(), "seed": hex::encode(seed("lab writer")), "hex": hex::encode(bytes) })
    };
    let good = with("Example Moderation, Inc.", vec![Tier::Vetted, Tier::Audited]);
    file.add("manifest-moderated", "object", "F-1", "prompts of two tiers are seen by somebody else", good, Ok(()));
    let refused = [
        ("manifest-moderated-by-nobody", "nobody runs it", with("", vec![Tier::Vetted])),
        ("manifest-moderated-order", "tiers out of order", with("us", vec![Tier::Audited, Tier::Vetted])),
    ];
    for (id, note, fields) in refused {
        file.add(id, "object", "F-1", note, fields, Err("malformed"));
    }
}

fn credit_notes_refused(file: &mut File, good: &CreditNote) {
    let changed = |change: fn(&mut CreditNote)| {
        let mut changed = good.clone();
        change(&mut changed);
        let key = secret("lab receipt");
        let bytes = Raw::of::<CreditNote>(key.public().as_bytes()).sign(&changed.to_cbor(), &key);
        json!({ "object": "credit-note", "key": key.public(), "hex": hex::encode(bytes) })
    };
    let rows: [RefusedRow<CreditNote>; 3] = [
        ("credit-note-of-nothing", "an amount of nothing", |note| note.amount = Amount::ZERO),
        ("credit-note-without-case", "for a case, and no link of one", |note| note.case = None),
        ("credit-note-with-case", "for no case, and a link of one", |note| note.reason = CreditReason::Goodwill),
    ];
    for (id, note, change) in rows {
        file.add(id, "object", "S-22", note, changed(change), Err("malformed"));
    }
}

fn objects() -> String {
    let mut file = File::new("One signed object of each kind, with its JSON view and content id.");
    fn add<T: Object>(file: &mut File, object: &Verified<T>, signer: &str, rule: &str, note: &str) {
        let kind = T::KIND.name;
        let fields = json!({
            "object": kind,
            "key": secret(signer).public(),
            "seed": hex::encode(seed(signer)),
            "hex": hex::encode(object.bytes()),
        });
        file.add(kind, "object", rule, note, fields, Ok(()));
    }
    fn make<T: Object>(file: &mut File, object: &T, signer: &str, rule: &str, note: &str) {
        add(file, &cose::sign(object, &secret(signer)), signer, rule, note);
    }
    let f = &mut file;
    add(f, &certificate(LAB, LAB_NODE, "lab"), "lab organisation", "K-2", "the lab's node");
    add(f, &writer(LAB, "lab"), "lab organisation", "K-2", "the lab's feed writer");
    add(f, &announcement(), "lab writer", "F-1", "a door on loopback");
    make(f, &head(), "lab writer", "F-1", "the ninth head of an epoch");
    make(f, &summary(), "lab writer", "F-1", "what search needs");
    make(f, &manifest(), "lab writer", "F-1", "a full manifest");
    add(f, &tariff(), "lab writer", "F-1", "prices with steps and a minimum");
    add(f, &policy(), "lab writer", "F-5", "four tiers");
    let limited = json!({
        "object": "policy",
        "key": secret("lab writer").public(),
        "seed": hex::encode(seed("lab writer")),
        "hex": hex::encode(cose::sign(&limited_policy(), &secret("lab writer")).bytes()),
    });
    f.add("policy-limits", "object", "F-6", "every limit that a policy may state", limited, Ok(()));
    make(f, &grant(Tier::Audited), "lab writer", "F-5", "t3 with a plan");
    let row = CaseCounts {
        category: text("political_persuasion"),
        opened: Some(12),
        upheld: Some(7),
        cleared: None,
        appealed: None,
        overturned: None,
        lapsed: None,
    };
    let statistics = Statistics { org: LAB, period: text("2026-q3"), issued_at: NOW, rows: list(vec![row]) };
    make(f, &statistics, "lab writer", "F-5", "cases of a quarter, small counts left out");
    let decided = DecisionHead { node: LAB_NODE, n: 3, log: 1, size: 40, root: Digest::of(b"decided"), at: NOW };
    make(f, &decided, "lab receipt", "D-1", "forty events, the third head");
    let handed = Export {
        node: LAB_NODE,
        subject: text("sub-aaaqeayeaudaocajbifqydiob4"),
        contents: Digest::of(b"export.json"),
        complete: false,
        at: NOW,
    };
    make(f, &handed, "lab receipt", "D-6", "something is missing, and it says so");
    of_nobody(f, &handed);
    moderated(f);
    let approved = json!({
        "object": "grant",
        "key": secret("lab writer").public(),
        "seed": hex::encode(seed("lab writer")),
        "hex": hex::encode(cose::sign(&approval(), &secret("lab writer")).bytes()),
    });
    f.add("grant-executions", "object", "F-7", "approves a plan for three executions", approved, Ok(()));
    make(f, &quote(), "house issuer", "T-1", "a pinned price");
    make(f, &token(), "house issuer", "T-1", "the usual token");
    add(f, &blocks(chains::root().id())[0], "pi", "T-3", "PI to student");
    make(f, &mandate(), "pi", "T-1", "with a join code");
    mandates(f);
    make(f, &receipt(), "lab receipt", "R-4", "the first of its lane");
    make(f, &ack(), "pi", "R-6", "of one lane");
    let last = Final { token: TOKEN, node: LAB_NODE, lanes: list(ack().lanes.into_vec()), at: NOW };
    make(f, &last, "lab receipt", "S-1", "with one lane head");
    make(f, &claim(), "lab receipt", "S-1", "the first of a token");
    let line = CountLine { token: TOKEN, lanes: 2, charges: 41, charged: Amount::from_ucr(70_000) };
    let count = Count {
        node: LAB_NODE,
        issuer: HOUSE,
        from: NOW.minus(86_400),
        to: NOW,
        page: 1,
        pages: 1,
        lines: list(vec![line]),
        at: NOW,
    };
    make(f, &count, "lab receipt", "S-16", "of one token");
    let credited = CreditNote {
        id: CreditNoteId([14; 16]),
        node: LAB_NODE,
        token: TOKEN,
        amount: Amount::from_ucr(41),
        reason: CreditReason::Case,
        case: Some(Digest::of(b"the event of a case")),
        at: NOW,
    };
    make(f, &credited, "lab receipt", "S-22", "after a case that did not stand");
    credit_notes_refused(f, &credited);
    let revoked = vec![(RevokedKind::Token, TOKEN.to_string()), (RevokedKind::Block, chains::root().id().to_string())];
    add(f, &revocations(HOUSE, revoked, NOW, "house issuer"), "house issuer", "V-2", "a token and a block");
    let notice =
        Notice { token: TOKEN, block: blocks(chains::root().id())[0].id(), number: 1, cap: Amount::ZERO, at: NOW };
    make(f, &notice, "pi", "V-2", "a revoked block");
    make(f, &agreement(), "pi", "F-10", "to terms of use");
    let plain = |bytes: Vec<u8>, object: &str| json!({ "object": object, "hex": hex::encode(bytes) });
    let read = plain(terms(1).to_cbor(), "terms-of-use");
    f.add("terms-of-use", "object", "F-10", "bound by its digest, not signed", read, Ok(()));
    let blank = TermsOfUse { text: text("\n \n"), ..terms(1) };
    let blank = plain(blank.to_cbor(), "terms-of-use");
    f.add("terms-blank", "object", "F-10", "a text that says nothing", blank, Err("malformed"));
    let lines = TermsOfUse { title: text("Research\nuse"), ..terms(1) };
    let lines = plain(lines.to_cbor(), "terms-of-use");
    f.add("terms-lines", "object", "F-10", "a title of two lines", lines, Err("malformed"));
    f.add("plan", "object", "F-7", "bound by its digest, not signed", plain(plan().to_cbor(), "plan"), Ok(()));
    plans_refused(f);
    f.add("index", "object", "F-1", "bound by its head, not signed", plain(index().to_cbor(), "index"), Ok(()));
    f.add(
        "release",
        "object",
        "F-1",
        "its id is what a token pins",
        plain(release("lab/tiny").to_cbor(), "release"),
        Ok(()),
    );
    f.add("chain", "object", "T-3", "a token and three blocks", plain(chains::usual(3), "chain"), Ok(()));
    file.finish()
}

fn cose_refusals() -> String {
    let mut file = File::new(
        "Signed objects that are refused (01-encoding.md, 1.6). The object is a notice, and `key` must have signed it.",
    );
    let notice = Notice { token: TOKEN, block: chains::root().id(), number: 7, cap: Amount::from_ucr(5), at: NOW };
    let (payload, key) = (notice.to_cbor(), secret("pi"));
    let public = key.public();
    let raw = || Raw::of::<Notice>(public.as_bytes());
    let good = cose::sign(&notice, &key).bytes().to_vec();
    let mut add = |id: &str, rule: &str, note: &str, bytes: Vec<u8>, expect: Result<(), &str>| {
        let fields = json!({ "object": "notice", "key": public, "hex": hex::encode(bytes) });
        file.add(id, "object", rule, note, fields, expect);
    };
    add("good", "E-9", "as it should be", good.clone(), Ok(()));
    add("made-by-hand", "E-9", "the same, put together by hand", raw().sign(&payload, &key), Ok(()));
    add(
        "another-kind",
        "E-10",
        "typ of another kind",
        Raw { typ: "application/vnd.comity.receipt.v1".into(), ..raw() }.sign(&payload, &key),
        Err("wrong_kind"),
    );
    add(
        "another-version",
        "E-10",
        "typ of version 2",
        Raw { typ: "application/vnd.comity.notice.v2".into(), ..raw() }.sign(&payload, &key),
        Err("wrong_kind"),
    );
    add("eddsa", "E-10", "alg -8", Raw { alg: -8, ..raw() }.sign(&payload, &key), Err("wrong_algorithm"));
    add("es256", "E-10", "alg -7", Raw { alg: -7, ..raw() }.sign(&payload, &key), Err("wrong_algorithm"));
    let retyped = |from: &[u8], to: &[u8]| {
        let mut bytes = replace(&raw().sign(&payload, &key), from, to);
        // The header's length stands before it, as two bytes.
        let at = bytes.iter().position(|byte| *byte == 0xa3).expect("the header");
        bytes[at - 1] = u8::try_from(usize::from(bytes[at - 1]) + to.len() - from.len()).expect("short");
        bytes
    };
    add("alg-as-text", "E-10", "alg \"EdDSA\"", retyped(&[0x01, 0x32], b"\x01\x65EdDSA"), Err("wrong_algorithm"));
    add("alg-as-bytes", "E-8", "alg of another type", retyped(&[0x01, 0x32], b"\x01\x41\x32"), Err("malformed"));
    add(
        "another-kid",
        "E-9",
        "kid names another key",
        Raw { kid: secret("student").public().as_bytes(), ..raw() }.sign(&payload, &key),
        Err("wrong_key"),
    );
    add(
        "another-signer",
        "E-11",
        "kid names the key, another one signed",
        raw().sign(&payload, &secret("student")),
        Err("bad_signature"),
    );
    add(
        "another-aad",
        "E-9",
        "signed as another kind",
        Raw { aad: "comity/v1/receipt".into(), ..raw() }.sign(&payload, &key),
        Err("bad_signature"),
    );
    add(
        "no-aad",
        "E-9",
        "signed without external_aad",
        Raw { aad: String::new(), ..raw() }.sign(&payload, &key),
        Err("bad_signature"),
    );
    add("flipped", "E-11", "one bit of the signature", flipped(&good), Err("bad_signature"));
    add(
        "payload-altered",
        "E-11",
        "a cap of 6 for 5",
        replace(&good, &[0x04, 0x05, 0x05], &[0x04, 0x06, 0x05]),
        Err("bad_signature"),
    );
    add("kid-of-16", "E-8", "a kid of 16 bytes", Raw { kid: &[1; 16], ..raw() }.sign(&payload, &key), Err("malformed"));
    add(
        "crit",
        "E-7",
        "label 2 (crit)",
        {
            let bytes = raw().sign(&payload, &key);
            // {1: -19, 4: kid, 16: typ} gets {2: []}: nobody checks the signature of what it does not understand.
            let bytes = replace(&bytes, &[0xa3, 0x01, 0x32, 0x04], &[0xa4, 0x01, 0x32, 0x02, 0x80, 0x04]);
            let at = bytes.iter().position(|byte| *byte == 0xa4).expect("the header");
            let mut bytes = bytes;
            bytes[at - 1] = u8::try_from(bytes[at - 1] as usize + 2).expect("short");
            bytes
        },
        Err("unknown_field"),
    );
    add(
        "unprotected-alg",
        "E-8",
        "alg in the unprotected header",
        Raw { unprotected: &[0xa1, 0x01, 0x32], ..raw() }.sign(&payload, &key),
        Err("malformed"),
    );
    add("untagged", "E-2", "without tag 18", good[1..].to_vec(), Err("malformed"));
    add("tag-98", "E-2", "COSE_Sign for COSE_Sign1", [&[0xd8, 98], &good[1..]].concat(), Err("malformed"));
    add("cut", "E-4", "a byte too few", good[..good.len() - 1].to_vec(), Err("malformed"));
    add("trailing", "E-4", "a byte too many", [&good[..], &[0]].concat(), Err("malformed"));
    add("too-large", "E-6", "513 bytes where a notice has 512", vec![0xd2; 513], Err("too_large"));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = payload.clone();
        change(&mut payload);
        raw().sign(&payload, &key)
    };
    add(
        "field-unknown",
        "E-7",
        "field 6",
        with(&|p| {
            p[0] = 0xa6;
            p.extend_from_slice(&[0x06, 0x00]);
        }),
        Err("unknown_field"),
    );
    add(
        "field-missing",
        "E-8",
        "field 5 is missing",
        with(&|p| {
            p[0] = 0xa4;
            let l = p.len();
            p.truncate(l - 6);
        }),
        Err("malformed"),
    );
    add(
        "field-type",
        "E-8",
        "number is a text",
        with(&|p| {
            *p = replace(p, &[0x03, 0x07, 0x04], &[0x03, 0x60, 0x04]);
        }),
        Err("malformed"),
    );
    add(
        "fields-swapped",
        "E-3",
        "fields 3 and 4 in the wrong order",
        with(&|p| {
            *p = replace(p, &[0x03, 0x07, 0x04, 0x05], &[0x04, 0x05, 0x03, 0x07]);
        }),
        Err("non_deterministic"),
    );
    add(
        "number-long",
        "E-1",
        "a number in two bytes where one would do",
        with(&|p| {
            *p = replace(p, &[0x03, 0x07, 0x04], &[0x03, 0x18, 0x07, 0x04]);
        }),
        Err("non_deterministic"),
    );
    add("deep", "E-5", "a payload of nine arrays", raw().sign(&[&[0x81; 9][..], &[0]].concat(), &key), Err("too_deep"));
    file.finish()
}

fn rosters() -> String {
    let mut file = File::new("Roster files, each by itself or as the one after `have` (02-keys.md, 2.2).");
    let have = roster();
    let good = roster_file(&have);
    let next = |change: &dyn Fn(&mut Roster)| {
        let mut next = roster();
        next.version = 4;
        change(&mut next);
        next
    };
    let alone = |bytes: &[u8]| json!({ "hex": hex::encode(bytes) });
    let after = |bytes: &[u8]| json!({ "hex": hex::encode(bytes), "have": hex::encode(&good) });
    file.add("alone", "roster", "K-3", "two of three signers", alone(&good), Ok(()));
    file.add(
        "one-signature",
        "roster",
        "K-3",
        "one where two are needed",
        alone(&signed_by(&have, &["root 1"])),
        Err("roster_threshold"),
    );
    file.add(
        "a-stranger",
        "roster",
        "K-3",
        "one signer and a stranger",
        alone(&signed_by(&have, &["root 1", "stranger"])),
        Err("roster_threshold"),
    );
    file.add(
        "next",
        "roster",
        "K-3",
        "version 4 by other two signers",
        after(&signed_by(&next(&|_| ()), &["root 2", "root 3"])),
        Ok(()),
    );
    file.add(
        "next-by-one",
        "roster",
        "K-3",
        "version 4 by one",
        after(&signed_by(&next(&|_| ()), &["root 2"])),
        Err("roster_threshold"),
    );
    let taken = next(&|roster| {
        let mut signers = vec![secret("thief 1").public(), secret("thief 2").public()];
        signers.sort_unstable();
        roster.signers = list(signers);
    });
    file.add(
        "taken-over",
        "roster",
        "K-3",
        "signed by its own signers alone",
        after(&signed_by(&taken, &["thief 1", "thief 2"])),
        Err("roster_threshold"),
    );
    file.add(
        "not-its-own",
        "roster",
        "K-3",
        "signed by the old signers alone",
        after(&signed_by(&taken, &["root 1", "root 2"])),
        Err("roster_threshold"),
    );
    let names = ["root 1", "root 2", "thief 1", "thief 2"];
    file.add(
        "handed-over",
        "roster",
        "K-3",
        "signed by old and new signers",
        after(&signed_by(&taken, &names)),
        Ok(()),
    );
    file.add(
        "skipped",
        "roster",
        "K-3",
        "version 5 after 3",
        after(&signed_by(&next(&|roster| roster.version = 5), &["root 1", "root 2"])),
        Err("roster_version"),
    );
    file.add(
        "rolled-back",
        "roster",
        "K-3",
        "version 2 after 3",
        after(&signed_by(&next(&|roster| roster.version = 2), &["root 1", "root 2"])),
        Err("roster_version"),
    );
    let with_key = |from: u64| {
        next(&|roster| {
            let mut organisations = std::mem::take(&mut roster.organisations).into_vec();
            let mut issuers = organisations[0].issuers.clone().into_vec();
            issuers.push(IssuerKey {
                key: secret("house issuer of version 4").public(),
                use_: IssuerUse::Budget,
                status: IssuerStatus::Active,
                from: roster.issued_at.plus(from),
                retired_at: None,
            });
            organisations[0].issuers = list(issuers);
            roster.organisations = list(organisations);
        })
    };
    let signers = ["root 1", "root 2"];
    file.add(
        "a-key-in-time",
        "roster",
        "K-7",
        "a new issuer key, first used 48 h on",
        after(&signed_by(&with_key(2 * DAY_S), &signers)),
        Ok(()),
    );
    file.add(
        "a-hasty-key",
        "roster",
        "K-7",
        "a new issuer key, first used a second too early",
        after(&signed_by(&with_key(2 * DAY_S - 1), &signers)),
        Err("wrong_issuer"),
    );
    let other = next(&|roster| roster.federation = comity_wire::RosterId([1; 16]));
    file.add(
        "another-federation",
        "roster",
        "K-3",
        "of another federation",
        after(&signed_by(&other, &["root 1", "root 2"])),
        Err("wrong_federation"),
    );
    file.finish()
}

fn chains_file() -> String {
    let mut file =
        File::new("Chains at a node (04-token.md, 4.2). `states` has the roster and the objects that the node knows.")
            .with_states(&[]);
    for case in chains::cases() {
        let fields = json!({
            "state": case.state,
            "node": case.node,
            "now": case.now,
            "hex": hex::encode(&case.chain),
        });
        file.add(case.id, "chain", case.rule, case.note, fields, case.expect.map_err(|code| code.as_str()));
    }
    let scope = |blocks: usize, model: &str, op: Op| json!({ "state": "base", "node": LAB_NODE, "now": NOW, "hex": hex::encode(chains::usual(blocks)), "model": model, "op": op });
    file.add("scope", "scope", "T-4", "in scope", scope(0, "lab/tiny", Op::Completions), Ok(()));
    file.add("scope-narrowed", "scope", "T-4", "what three blocks leave", scope(3, "lab/tiny", Op::Chat), Ok(()));
    file.add(
        "model-out",
        "scope",
        "T-4",
        "a model that is not in scope",
        scope(0, "lab/other", Op::Chat),
        Err("model_not_in_scope"),
    );
    file.add(
        "model-taken",
        "scope",
        "T-4",
        "a model that a block took away",
        scope(1, "lab/wide", Op::Chat),
        Err("model_not_in_scope"),
    );
    file.add(
        "op-out",
        "scope",
        "T-4",
        "an op that is not in scope",
        scope(0, "lab/wide", Op::Completions),
        Err("op_not_in_scope"),
    );
    file.add(
        "op-taken",
        "scope",
        "T-4",
        "an op that a block took away",
        scope(3, "lab/tiny", Op::Completions),
        Err("op_not_in_scope"),
    );
    file.finish()
}

fn requests_file() -> String {
    let mut file = File::new("Signed requests and calls with their full headers (05-request.md).");
    for case in requests::cases() {
        let headers: Vec<Value> = case.headers.iter().map(|(name, value)| json!([name, value])).collect();
        let fields = json!({
            "method": case.method,
            "path": case.path,
            "query": case.query,
            "headers": headers,
            "body": hex::encode(&case.body),
            "holder": secret(case.holder).public(),
            "seed": hex::encode(seed(case.holder)),
            "now": case.now,
        });
        let kind = if case.payment { "request" } else { "call" };
        file.add(case.id, kind, case.rule, case.note, fields, case.expect.map_err(|code| code.as_str()));
    }
    file.finish()
}

fn authorities() -> String {
    let mut file = File::new("Authority ids (05-request.md, 5.3) and salted digests (06-metering.md, 6.7).");
    let fields = |change: &dyn Fn(&mut comity_token::Authority)| {
        let mut a = requests::authority();
        change(&mut a);
        json!({
            "leaf": a.leaf, "lane": a.lane, "seq": a.seq, "method": a.method, "path": a.path, "query": a.query,
            "content_digest": a.content_digest, "tariff": a.tariff, "max": a.max_charge, "nonce": hex::encode(a.nonce),
        })
    };
    file.add("usual", "authority", "5.3", "a chat request", fields(&|_| ()), Ok(()));
    file.add(
        "query",
        "authority",
        "5.3",
        "with a query, without its question mark",
        fields(&|a| a.query = "a=1&b=%20".into()),
        Ok(()),
    );
    file.add(
        "zero",
        "authority",
        "5.3",
        "the smallest numbers",
        fields(&|a| {
            a.lane = 0;
            a.seq = 1;
            a.max_charge = Amount::ZERO;
        }),
        Ok(()),
    );
    file.add(
        "largest",
        "authority",
        "5.3",
        "the largest numbers",
        fields(&|a| {
            a.lane = u16::MAX;
            a.seq = i64::MAX as u64;
            a.max_charge = Amount::MAX;
        }),
        Ok(()),
    );
    file.add("other-nonce", "authority", "5.4", "another nonce, another id", fields(&|a| a.nonce = [0; 16]), Ok(()));
    for (id, bytes) in [("empty", &b""[..]), ("yes", b"yes"), ("body", requests::BODY)] {
        let fields = json!({ "nonce": hex::encode(requests::NONCE), "hex": hex::encode(bytes) });
        file.add(
            &format!("salted-{id}"),
            "salted",
            "6.7",
            "digests of a request and a response with these bytes",
            fields,
            Ok(()),
        );
    }
    file.finish()
}

fn money() -> String {
    let mut file = File::new(
        "Charges, worst cases and rounding (06-metering.md, 6.3 and 6.6). `tariff` is a signed tariff; its signature is not the question here.",
    );
    let usual = hex::encode(tariff().bytes());
    let sign = |tariff: &Tariff| hex::encode(cose::sign(tariff, &secret("lab writer")).bytes());
    let exact = |tariff: &str, op: Op, meters: &[(Meter, u64)]| json!({ "tariff": tariff, "op": op, "meters": meters_json(meters) });
    let rows: &[ChargeRow] = &[
        ("minimum", "below the minimum of 60 µcr", Op::Chat, &[(Meter::Requests, 1)]),
        (
            "above-minimum",
            "a request and some tokens",
            Op::Chat,
            &[(Meter::Requests, 1), (Meter::InputTokens, 131), (Meter::OutputTokens, 12)],
        ),
        (
            "at-the-step",
            "1000 input tokens, all in the first step",
            Op::Chat,
            &[(Meter::Requests, 1), (Meter::InputTokens, 1_000)],
        ),
        (
            "past-the-step",
            "one token in the second step",
            Op::Chat,
            &[(Meter::Requests, 1), (Meter::InputTokens, 1_001)],
        ),
        (
            "not-priced-meter",
            "a meter without a price costs nothing",
            Op::Chat,
            &[(Meter::Requests, 1), (Meter::OutputBytes, 1 << 40), (Meter::OutputTokens, 100)],
        ),
        ("bytes", "bytes in and out", Op::Completions, &[(Meter::InputBytes, 100), (Meter::OutputBytes, 7)]),
        ("nothing", "no units, no minimum", Op::Completions, &[]),
    ];
    for (id, note, op, meters) in rows {
        file.add(&format!("exact-{id}"), "exact", "R-1", note, exact(&usual, *op, meters), Ok(()));
    }
    file.add(
        "exact-no-price",
        "exact",
        "12",
        "no price, no service",
        exact(&usual, Op::Embeddings, &[]),
        Err("no_price"),
    );
    let mut dear = tariff_object();
    dear.prices = list(vec![Price {
        op: Op::Chat,
        rates: list(vec![rate(Meter::OutputTokens, &[(0, i64::MAX as u64)])]),
        minimum: Amount::ZERO,
    }]);
    let dear = sign(&dear);
    let mut by_item = tariff_object();
    by_item.prices = list(vec![Price {
        op: Op::Predict,
        rates: list(vec![rate(Meter::Requests, &[(0, 7_000_000)])]),
        minimum: Amount::ZERO,
    }]);
    let by_item = sign(&by_item);
    let demand = |tariff: &str, op: Op, input: u64, choices: u64, output: u64| json!({ "tariff": tariff, "op": op, "input_bytes": input, "choices": choices, "output_tokens": output });
    file.add("worst", "worst_case", "R-1", "100 bytes, 64 tokens", demand(&usual, Op::Chat, 100, 1, 64), Ok(()));
    file.add("worst-choices", "worst_case", "R-1", "three choices", demand(&usual, Op::Chat, 100, 3, 64), Ok(()));
    file.add(
        "worst-long",
        "worst_case",
        "R-1",
        "input over the step",
        demand(&usual, Op::Chat, 60_000, 1, 1_024),
        Ok(()),
    );
    file.add("worst-minimum", "worst_case", "R-1", "the minimum decides", demand(&usual, Op::Chat, 2, 1, 0), Ok(()));
    file.add(
        "worst-bytes",
        "worst_case",
        "R-1",
        "output bytes bound by tokens",
        demand(&usual, Op::Completions, 123, 2, 17),
        Ok(()),
    );
    file.add(
        "worst-items",
        "worst_case",
        "R-1",
        "a prediction counts items",
        demand(&by_item, Op::Predict, 90, 3, 0),
        Ok(()),
    );
    file.add(
        "worst-no-price",
        "worst_case",
        "12",
        "no price, no service",
        demand(&usual, Op::Embeddings, 1, 1, 1),
        Err("no_price"),
    );
    file.add(
        "worst-units-overflow",
        "worst_case",
        "R-1",
        "more tokens than a number holds",
        demand(&usual, Op::Chat, 1, 1 << 40, 1 << 40),
        Err("overflow"),
    );
    file.add(
        "worst-sum-overflow",
        "worst_case",
        "R-1",
        "dearer than any amount",
        demand(&dear, Op::Chat, 1, 1, 2_000_000),
        Err("overflow"),
    );
    file.add(
        "worst-largest",
        "worst_case",
        "R-1",
        "as dear as an amount may be",
        demand(&dear, Op::Chat, 1, 1, 1_000_000),
        Ok(()),
    );
    let within = |max: u64, output: u64| {
        let mut fields = demand(&usual, Op::Chat, 100, 2, output);
        fields["max"] = json!(max);
        fields
    };
    file.add("affordable-all", "affordable", "Q-4", "the whole limit fits", within(1_000, 200), Ok(()));
    file.add("affordable-some", "affordable", "Q-4", "a part of it fits", within(200, 1_000), Ok(()));
    file.add("affordable-none", "affordable", "Q-4", "only the input fits", within(83, 1_000), Ok(()));
    file.add("too-dear", "affordable", "Q-4", "not even the input fits", within(82, 1_000), Err("too_dear"));
    let lane = |charges: &[u128]| json!({ "exact": charges.iter().map(u128::to_string).collect::<Vec<_>>() });
    file.add("round-up-once", "rounding", "R-1", "ten tenths cost 1 µcr, not 10", lane(&[100_000; 10]), Ok(()));
    file.add(
        "round-mixed",
        "rounding",
        "R-1",
        "parts, wholes and nothing",
        lane(&[1, 999_999, 1, 0, 2_500_000, 250_000, 250_001]),
        Ok(()),
    );
    file.add("round-zero", "rounding", "R-1", "a free lane", lane(&[0, 0]), Ok(()));
    let whole = Exact::from_amount(Amount::MAX).0;
    file.add("round-largest", "rounding", "R-1", "up to the last amount", lane(&[whole - 1, 1]), Ok(()));
    file.add("round-overflow", "rounding", "R-1", "past the last amount", lane(&[whole, 1]), Err("overflow"));
    // A fixed run of 60 charges by a small generator (x = x * 6364136223846793005 + 1442695040888963407).
    let (mut x, mut charges) = (7_u64, Vec::new());
    for _ in 0..60 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        charges.push(u128::from(x >> 40));
    }
    file.add("round-run", "rounding", "R-1", "sixty charges", lane(&charges), Ok(()));
    file.finish()
}

/// The first acts of an owner's register, and what is none.
fn acts(file: &mut File) {
    let text = |n: u64, before: Digest, reason: &str| {
        let (at, salt) = (1_800_000_000 + n, format!("{n:02x}").repeat(16));
        format!(
            "{{\"n\":{n},\"at\":{at},\"entered\":{},\"author\":\"hanna\",\"deed\":{{\"kind\":\"stop\",\"target\":\"model lab/tiny\",\"now\":false}},\"reason\":\"{reason}\",\"source\":\"stops\",\"line\":{n},\"before\":\"{before}\",\"salt\":\"{salt}\"}}",
            at + 30
        )
    };
    let link = |text: &str| Digest::of_parts(&[b"comity/v1/operator-act\0", text.as_bytes()]);
    let first = text(1, Digest::ZERO, "answers leak");
    let second = text(2, link(&first), "it was mended");
    let third = text(3, link(&second), "it leaks again");
    let mut add = |id: &str, note: &str, acts: Vec<String>, expect| {
        file.add(id, "acts", "D-7", note, json!({ "acts": acts }), expect);
    };
    let broken = Err("broken_history");
    add("acts", "three acts of a register", vec![first.clone(), second.clone(), third.clone()], Ok(()));
    let other = first.replace("answers leak", "a test");
    add("acts-rewritten", "the first says something else", vec![other, second.clone(), third.clone()], broken);
    add("acts-cut", "the second was taken out", vec![first.clone(), third], broken);
    add("acts-blank", "a blank that no node writes", vec![first.replacen(':', ": ", 1), second.clone()], broken);
    add("acts-late-begin", "the first names one before it", vec![second], broken);
}

fn merkle_file() -> String {
    let mut file = File::new(
        "RFC 6962 trees over receipt ids (06-metering.md, R-5; 07-settlement.md). The data of a leaf is the 32 bytes of a digest.",
    );
    let leaves: Vec<Digest> = (0..33_u32).map(|at| Digest::of(format!("receipt {at}").as_bytes())).collect();
    for size in [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33] {
        let note = format!("{size} leaves");
        file.add(&format!("root-{size}"), "root", "R-5", &note, json!({ "leaves": leaves[..size] }), Ok(()));
    }
    for (settled, n) in [
        (1, 2),
        (1, 3),
        (1, 9),
        (2, 3),
        (2, 4),
        (3, 5),
        (4, 8),
        (5, 8),
        (7, 8),
        (8, 9),
        (8, 33),
        (13, 33),
        (32, 33),
        (32, 34),
    ] {
        let note = format!("receipt {n} continues receipt {settled}");
        let input = json!({ "leaves": leaves[..n - 1], "settled": settled });
        file.add(&format!("lane-proof-{settled}-{n}"), "lane_proof", "S-5", &note, input, Ok(()));
    }
    let (settled, n) = (4, 8);
    let proof = lane_proof(&leaves, n as u64, settled as u64);
    let (before, history) = (merkle::root(&leaves[..settled - 1]), merkle::root(&leaves[..n - 1]));
    let good = json!({
        "settled": settled, "receipt": leaves[settled - 1], "before": before, "n": n, "history": history, "proof": proof,
    });
    let another = Digest::of(b"another");
    let mut add = |id: &str, note: &str, field: &str, value: Value| {
        let mut input = good.clone();
        let expect = if field.is_empty() { Ok(()) } else { Err("broken_history") };
        if !field.is_empty() {
            input[field] = value;
        }
        file.add(id, "lane_proof_check", "S-5", note, input, expect);
    };
    add("proof", "a good proof", "", Value::Null);
    add("another-receipt", "the settled receipt was replaced by another", "receipt", json!(another));
    add("another-past", "another history before the settled receipt", "before", json!(another));
    add("another-present", "another new history", "history", json!(another));
    add("proof-short", "a step is missing", "proof", json!(proof[..proof.len() - 1]));
    add("proof-long", "a step too many", "proof", json!([&proof[..], &[Digest::ZERO]].concat()));
    add("proof-none", "no proof", "proof", json!([]));
    add("shrunk", "a history that does not reach the settled receipt", "n", json!(settled));
    add("another-place", "the proof of this receipt at another place", "settled", json!(settled - 1));
    acts(&mut file);
    file.finish()
}

fn log_file() -> String {
    let mut file = File::new("The clearing house's log (10-log.md): entries, signed notes, paths of tiles, proofs.");
    log_entries(&mut file);
    log_notes(&mut file);
    for (id, path, expect) in [
        ("path", "0/000", Ok(())),
        ("path-partial", "3/005.p/17", Ok(())),
        ("path-long", "0/x001/x234/067", Ok(())),
        ("path-entries", "entries/x001/000.p/1", Ok(())),
        ("path-short", "0/00", Err("malformed")),
        ("path-padded", "0/x000/001", Err("malformed")),
        ("path-level", "64/000", Err("malformed")),
        ("path-level-padded", "00/000", Err("malformed")),
        ("path-full", "0/000.p/256", Err("malformed")),
        ("path-none", "0/000.p/0", Err("malformed")),
        ("path-last", "0/x001/x002", Err("malformed")),
    ] {
        file.add(id, "log_path", "L-6", "a tile's path", json!({ "path": path }), expect);
    }
    log_proofs(&mut file);
    file.finish()
}

fn log_entries(file: &mut File) {
    let (token, content) = (TokenId([7; 16]), Digest::of(b"content"));
    let mut transfer = [0; log::TRANSFER_BYTES];
    transfer[..21].copy_from_slice(b"comity/ledger/leaf/v1");
    let bytes = log::TransferBytes(transfer);
    let all = [
        ("entry-transfer", log::Entry::Transfer(log::LogTransfer { bytes, debit_code: 3, credit_code: 4 })),
        ("entry-token", log::Entry::Token(log::LogToken { token, content, budget: Amount::from_ucr(1_000) })),
        ("entry-standing", log::Entry::Standing(log::LogStanding { number: 1, content })),
        ("entry-claim", log::Entry::Claim(log::LogClaim { token, content, number: 2 })),
        ("entry-final", log::Entry::Final(log::LogFinal { token, content })),
        ("entry-decisions", log::Entry::Decisions(log::LogDecisions { node: LAB_NODE, n: 3, log: 1, content })),
        (
            "entry-credit-note",
            log::Entry::CreditNote(log::LogCreditNote { token, content, amount: Amount::from_ucr(41) }),
        ),
    ];
    let last = all[4].1.to_cbor();
    for (id, entry) in all {
        file.add(id, "log_entry", "L-1", "an entry", json!({ "hex": hex::encode(entry.to_cbor()) }), Ok(()));
    }
    let mut add = |id: &str, note: &str, bytes: &[u8], code: &str| {
        file.add(id, "log_entry", "L-1", note, json!({ "hex": hex::encode(bytes) }), Err(code));
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = last.clone();
        bytes[at] = byte;
        bytes
    };
    add("entry-kind", "a kind that is not in the list", &with(1, 23), "malformed");
    add("entry-kind-0", "kind 0", &with(1, 0), "malformed");
    add("entry-other-kind", "a final's fields as a token's", &with(1, 2), "malformed");
    add("entry-trailing", "something behind it", &[&last[..], &[0]].concat(), "malformed");
    add("entry-cut", "cut", &last[..last.len() - 1], "malformed");
    add(
        "entry-order",
        "its fields in another order",
        &[&last[..2], &[0xa2], &last[21..], &last[3..21]].concat(),
        "non_deterministic",
    );
    let more = [&last[..2], &[0xa3], &last[3..], &[9, 0]].concat();
    add("entry-field", "a field that is not known", &more, "unknown_field");
    add("entry-three", "a third item", &[&[0x83], &last[1..], &[0]].concat(), "malformed");
    add("entry-long", "longer than an entry may be", &[&[0x59, 0x10, 0x00][..], &[0; 4096]].concat(), "too_large");
}

fn log_notes(file: &mut File) {
    let (key, witness) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let origin = "comity/org-aeaqcaibaeaqcaibaeaqcaibae/log/1";
    let checkpoint = log::Checkpoint { origin: origin.to_owned(), size: 7, root: Digest::of(b"root") };
    let vkey = |name: &str, use_, key: &SecretKey| {
        log::VerifierKey::new(name, use_, key.public()).expect("a name").to_string()
    };
    let (ours, theirs) = (vkey(origin, log::KeyUse::Log, &key), vkey("lab.example/w", log::KeyUse::Cosigner, &witness));
    let mut note = log::Note::sign(&checkpoint, &key).expect("a note");
    let line = log::Line::cosign(note.text(), "lab.example/w", &witness, NOW).expect("a line");
    note.add(line).expect("a second line");
    let text = note.to_string();
    let mut add = |id: &str, note: &str, text: &str, vkey: &str, expect: Result<(), &str>| {
        let input = json!({ "hex": hex::encode(text.as_bytes()), "vkey": vkey });
        file.add(id, "log_note", "L-5", note, input, expect);
    };
    add("note", "the log's signature", &text, &ours, Ok(()));
    add("note-cosigned", "a witness's", &text, &theirs, Ok(()));
    add(
        "note-extended",
        "a fourth line, signed by nobody",
        &text.replace("\n\n", "\nmore\n\n"),
        &ours,
        Err("bad_signature"),
    );
    add("note-altered", "another size", &text.replace("\n7\n", "\n8\n"), &ours, Err("bad_signature"));
    add("note-altered-cosigned", "another size", &text.replace("\n7\n", "\n8\n"), &theirs, Err("bad_signature"));
    let other = vkey(origin, log::KeyUse::Log, &witness);
    add("note-key", "another key of the same name", &text, &other, Err("wrong_key"));
    let name = vkey("another/log", log::KeyUse::Log, &key);
    add("note-name", "the same key by another name", &text, &name, Err("wrong_key"));
    add("note-size", "a size with a zero before it", &text.replace("\n7\n", "\n07\n"), &ours, Err("malformed"));
    add("note-line", "no empty line", &text.replace("\n\n", "\n"), &ours, Err("malformed"));
    add("note-dash", "a hyphen for the dash", &text.replace('\u{2014}', "-"), &ours, Err("malformed"));
    add("note-end", "its last line does not end", text.trim_end(), &ours, Err("malformed"));
    add(
        "note-vkey",
        "a vkey of another id",
        &text,
        &ours.replacen(&ours[origin.len() + 1..origin.len() + 9], "00000000", 1),
        Err("malformed"),
    );
}

fn log_proofs(file: &mut File) {
    let mut tree = log::Growing::default();
    let (mut roots, mut tiles) = (vec![tree.root()], log::Tiles::default());
    for at in 0..300_u32 {
        tree.push(&at.to_be_bytes());
        roots.push(tree.root());
    }
    for (tile, bytes) in tree.changed() {
        tiles.insert(tile, tile.width_at(300), &bytes).expect("a tile");
    }
    let another = Digest::of(b"another");
    for (at, size) in [(0, 1), (0, 2), (4, 7), (6, 7), (255, 256), (256, 257), (299, 300), (31, 300)] {
        let proof = log::Steps::inclusion(at, size).and_then(|steps| steps.of(&tiles).ok()).expect("a proof");
        let leaf = merkle::leaf_of(&u32::try_from(at).expect("small").to_be_bytes());
        let good = json!({ "leaf": leaf, "index": at, "size": size, "root": roots[size as usize], "proof": proof });
        let mut add = |id: &str, field: &str, value: Value| {
            let mut input = good.clone();
            let expect = if field.is_empty() { Ok(()) } else { Err("broken_history") };
            if !field.is_empty() {
                input[field] = value;
            }
            file.add(
                &format!("inclusion-{at}-{size}{id}"),
                "log_inclusion",
                "L-6",
                "an entry in a tree",
                input,
                expect,
            );
        };
        add("", "", Value::Null);
        add("-leaf", "leaf", json!(another));
        add("-root", "root", json!(another));
        add("-place", "index", json!(at + 1));
        add("-long", "proof", json!([&proof[..], &[another]].concat()));
    }
    for (old, size) in [(0, 7), (1, 2), (3, 7), (4, 7), (6, 7), (7, 7), (255, 300), (256, 300), (257, 300)] {
        let proof = log::Steps::consistency(old, size).and_then(|steps| steps.of(&tiles).ok()).expect("a proof");
        let (before, root) = (roots[old as usize], roots[size as usize]);
        let good = json!({ "from": old, "before": before, "to": size, "root": root, "proof": proof });
        let mut add = |id: &str, field: &str, value: Value| {
            let mut input = good.clone();
            let expect = if field.is_empty() { Ok(()) } else { Err("broken_history") };
            if !field.is_empty() {
                input[field] = value;
            }
            file.add(
                &format!("consistency-{old}-{size}{id}"),
                "log_consistency",
                "L-6",
                "a tree that goes on",
                input,
                expect,
            );
        };
        add("", "", Value::Null);
        add("-before", "before", json!(another));
        add("-long", "proof", json!([&proof[..], &[another]].concat()));
        if old > 0 {
            add("-root", "root", json!(another));
        }
        if !proof.is_empty() {
            add("-short", "proof", json!(proof[1..]));
        }
    }
}

fn evidence() -> String {
    let mut file =
        File::new("Receipts under a node's certificate, acknowledgements under a chain (06-metering.md, 6.7 and 6.8).")
            .with_states(&["base"]);
    let add = |file: &mut File,
               id: &str,
               rule: &str,
               note: &str,
               receipt: &Receipt,
               signer: &str,
               expect: Result<(), &str>| {
        let fields = json!({ "state": "base", "node": LAB_NODE, "hex": hex::encode(cose::sign(receipt, &secret(signer)).bytes()) });
        file.add(id, "receipt", rule, note, fields, expect);
    };
    let later = Receipt {
        n: 2,
        seq: 19,
        charge: Amount::from_ucr(60),
        total: Amount::from_ucr(155),
        history: merkle::root(&[cose::sign(&receipt(), &secret("lab receipt")).id()]),
        ..receipt()
    };
    add(&mut file, "receipt", "R-4", "the first of a lane", &receipt(), "lab receipt", Ok(()));
    add(&mut file, "second", "R-5", "its history is the tree of the first", &later, "lab receipt", Ok(()));
    add(
        &mut file,
        "transport-key",
        "K-2",
        "signed by the transport key",
        &receipt(),
        "lab transport",
        Err("wrong_key"),
    );
    add(&mut file, "another-node", "K-2", "another node's receipt key", &receipt(), "uni receipt", Err("wrong_key"));
    add(
        &mut file,
        "about-another-node",
        "R-4",
        "names another node",
        &Receipt { node: UNI_NODE, ..receipt() },
        "lab receipt",
        Err("wrong_issuer"),
    );
    add(
        &mut file,
        "before-the-key",
        "2.4",
        "at a time before the key's",
        &Receipt { at: NOW.minus(31 * DAY_S), ..receipt() },
        "lab receipt",
        Err("wrong_key"),
    );
    add(
        &mut file,
        "after-the-key",
        "2.4",
        "at a time after the key's",
        &Receipt { at: NOW.plus(50 * DAY_S), ..receipt() },
        "lab receipt",
        Err("wrong_key"),
    );
    let root = chains::root();
    let ids: Vec<Digest> = std::iter::once(root.id()).chain(blocks(root.id()).iter().map(Verified::id)).collect();
    let ack = |leaf: usize, signer: &str, token: comity_wire::TokenId| {
        let lane =
            AckLane { leaf: ids[leaf], lane: 0, n: 2, total: Amount::from_ucr(155), receipt: Digest::of(b"receipt 2") };
        let object = Acknowledgement { token, lanes: list(vec![lane]), at: NOW };
        json!({
            "state": "base",
            "node": LAB_NODE,
            "chain": hex::encode(chains::usual(3)),
            "hex": hex::encode(sign_acknowledgement(&object, &secret(signer)).bytes()),
        })
    };
    let other = comity_wire::TokenId([1; 16]);
    file.add("ack-by-leaf", "acknowledgement", "R-6", "by the leaf itself", ack(3, "part", TOKEN), Ok(()));
    file.add("ack-by-parent", "acknowledgement", "R-6", "by the block before", ack(3, "job", TOKEN), Ok(()));
    file.add("ack-by-root", "acknowledgement", "R-6", "by the root holder", ack(3, "pi", TOKEN), Ok(()));
    file.add(
        "ack-by-child",
        "acknowledgement",
        "R-6",
        "a child for its parent",
        ack(1, "job", TOKEN),
        Err("wrong_key"),
    );
    file.add("ack-by-stranger", "acknowledgement", "R-6", "by a stranger", ack(3, "stranger", TOKEN), Err("wrong_key"));
    file.add(
        "ack-of-another-token",
        "acknowledgement",
        "R-6",
        "of another token",
        ack(3, "pi", other),
        Err("wrong_key"),
    );
    file.finish()
}

fn policies() -> String {
    let mut file =
        File::new("The access decision (03-manifest.md, 3.6). `hex` is a signed policy, `grants` are signed grants.");
    let signed = hex::encode(policy().bytes());
    let held = |grant: &Grant| hex::encode(cose::sign(grant, &secret("lab writer")).bytes());
    let ask = |op: Op, vetting: Vetting, grants: &[Grant], purposes: &[&str], delegated: bool| {
        json!({
            "hex": signed, "model": "lab/tiny", "op": op, "vetting": vetting, "purposes": purposes,
            "grants": grants.iter().map(held).collect::<Vec<_>>(), "delegated": delegated, "now": NOW,
        })
    };
    let (t2, t3) = (grant(Tier::Vetted), approval());
    // Of tier t0: the terms that are asked for, from when on, and those before.
    let asking = |terms_of: Option<u8>,
                  from: Option<comity_wire::Timestamp>,
                  before: Option<u8>,
                  agreed: &[u8],
                  delegated: bool| {
        let digest = |version: u8| terms(version).digest();
        let mut asking = policy().object().clone();
        let mut tiers = asking.tiers.to_vec();
        tiers[0] = TierRule {
            terms: terms_of.map(digest),
            terms_from: from,
            terms_before: before.map(digest),
            ..tiers[0].clone()
        };
        asking.tiers = list(tiers);
        let mut ask = ask(Op::Chat, Vetting::None, &[], &[], delegated);
        ask["hex"] = json!(hex::encode(cose::sign(&asking, &secret("lab writer")).bytes()));
        ask["agreed"] = json!(agreed.iter().map(|version| digest(*version)).collect::<Vec<_>>());
        ask
    };
    let within = |ask: Value, plans: &[Plan], run: Option<&str>| {
        let mut ask = ask;
        ask["plans"] = json!(plans.iter().map(|plan| hex::encode(plan.to_cbor())).collect::<Vec<_>>());
        ask["run"] = json!(run);
        ask
    };
    let mut add = |id: &str, note: &str, fields: Value, expect: Result<(), &str>| {
        let rule = match expect {
            Err("op_not_offered") => "F-4",
            _ if id.starts_with("hours") => "F-6",
            _ if id.starts_with("plan") => "F-8",
            _ if id.starts_with("terms") => "F-11",
            _ => "F-5",
        };
        file.add(id, "policy", rule, note, fields, expect)
    };
    add("open", "nobody in particular", ask(Op::Chat, Vetting::None, &[], &[], false), Ok(()));
    add("highest", "the highest tier decides", ask(Op::Chat, Vetting::Vetted, &[], &[], false), Ok(()));
    add("vetting", "vetting 1 is asked", ask(Op::Completions, Vetting::None, &[], &[], false), Err("vetting_too_low"));
    add(
        "grant",
        "a grant is asked",
        ask(Op::Logprobs, Vetting::Vetted, &[], &["education"], false),
        Err("grant_required"),
    );
    add(
        "granted",
        "with a grant",
        ask(Op::Logprobs, Vetting::Vetted, std::slice::from_ref(&t2), &["education"], false),
        Ok(()),
    );
    add(
        "one-purpose-of-two",
        "one of the declared purposes is listed",
        ask(Op::Logprobs, Vetting::Vetted, std::slice::from_ref(&t2), &["commerce", "education"], false),
        Ok(()),
    );
    add(
        "purpose",
        "another purpose",
        ask(Op::Logprobs, Vetting::Vetted, std::slice::from_ref(&t2), &["commerce"], false),
        Err("purpose_not_allowed"),
    );
    add(
        "no-purpose",
        "none declared",
        ask(Op::Logprobs, Vetting::Vetted, std::slice::from_ref(&t2), &[], false),
        Err("purpose_not_allowed"),
    );
    add(
        "delegate",
        "delegates are not admitted",
        ask(Op::Logprobs, Vetting::Vetted, std::slice::from_ref(&t2), &["education"], true),
        Err("delegate_not_allowed"),
    );
    add(
        "lower-grant",
        "a t2 grant does not open t3",
        ask(Op::Activations, Vetting::Vetted, std::slice::from_ref(&t2), &[], false),
        Err("grant_required"),
    );
    add(
        "audited",
        "a t3 grant with a plan",
        within(ask(Op::Activations, Vetting::Vetted, std::slice::from_ref(&t3), &[], false), &[plan()], Some("run-1")),
        Ok(()),
    );
    let looks = || ask(Op::Activations, Vetting::Vetted, std::slice::from_ref(&t3), &[], false);
    let scores = |grants: &[Grant]| ask(Op::Logprobs, Vetting::Vetted, grants, &["education"], false);
    add(
        "plan-unknown",
        "the node does not have the plan that was approved",
        within(looks(), &[], Some("run-1")),
        Err("grant_required"),
    );
    add(
        "plan-other",
        "the node has another plan",
        within(looks(), &[Plan { hours: 25, ..plan() }], Some("run-1")),
        Err("grant_required"),
    );
    add("plan-no-run", "no execution is named", within(looks(), &[plan()], None), Err("run_required"));
    let only_scores = Plan { ops: list(plan().ops.iter().take(1).cloned().collect()), ..plan() };
    let other = Grant { plan: Some(only_scores.digest()), ..approval() };
    add(
        "plan-without-op",
        "the approved plan does not list the op",
        within(
            ask(Op::Activations, Vetting::Vetted, std::slice::from_ref(&other), &[], false),
            std::slice::from_ref(&only_scores),
            Some("run-1"),
        ),
        Err("grant_required"),
    );
    add(
        "plan-below",
        "at a lower tier too its grant opens only the plan: no execution is named",
        within(scores(std::slice::from_ref(&t3)), &[plan()], None),
        Err("run_required"),
    );
    add(
        "plan-narrows",
        "a lower tier within the plan, whose limits on a call are narrower than the policy's",
        within(scores(std::slice::from_ref(&t3)), &[plan()], Some("run-1")),
        Ok(()),
    );
    add(
        "plan-beside-grant",
        "a grant without a plan opens its tier without one",
        within(scores(&[t2.clone(), t3.clone()]), &[plan()], None),
        Ok(()),
    );
    let later = Grant { not_before: t3.not_before.plus(1), id: comity_wire::GrantId([0x67; 16]), ..other };
    add(
        "plan-latest",
        "of two approvals the later one counts",
        within(scores(&[later, t3.clone()]), &[plan(), only_scores], Some("run-1")),
        Ok(()),
    );
    let ended = Grant { not_after: NOW, ..t3.clone() };
    add(
        "grant-ended",
        "the grant ends now",
        ask(Op::Activations, Vetting::Vetted, &[ended], &[], false),
        Err("grant_required"),
    );
    let foreign = Grant { org: UNI, ..t3.clone() };
    add(
        "grant-foreign",
        "another owner's grant",
        ask(Op::Activations, Vetting::Vetted, &[foreign], &[], false),
        Err("grant_required"),
    );
    let narrow = Grant { ops: list(vec![Op::Chat]), ..t3 };
    add(
        "grant-other-op",
        "a grant for another op",
        ask(Op::Activations, Vetting::Vetted, &[narrow], &[], false),
        Err("grant_required"),
    );
    let unsigned = Err("terms_not_signed");
    let (soon, now) = (Some(NOW.plus(1)), Some(NOW));
    add("terms", "the tier asks for terms of use", asking(Some(2), None, None, &[], false), unsigned);
    add("terms-agreed", "which the project has agreed to", asking(Some(2), None, None, &[1, 2], false), Ok(()));
    add("terms-others", "it has agreed to others", asking(Some(2), None, None, &[1], false), unsigned);
    add(
        "terms-soon",
        "they are asked for later, and none were before",
        asking(Some(2), soon, None, &[], false),
        Ok(()),
    );
    add("terms-before", "those before are enough until then", asking(Some(2), soon, Some(1), &[1], false), Ok(()));
    add("terms-neither", "neither those nor these", asking(Some(2), soon, Some(1), &[], false), unsigned);
    add("terms-early", "the new ones are enough, too", asking(Some(2), soon, Some(1), &[2], false), Ok(()));
    add(
        "terms-from-now",
        "those before are not enough from then on",
        asking(Some(2), now, Some(1), &[1], false),
        unsigned,
    );
    add(
        "terms-delegate",
        "the project's agreement stands for its delegates",
        asking(Some(2), None, None, &[2], true),
        Ok(()),
    );
    add(
        "not-offered",
        "an op without a row",
        ask(Op::Embeddings, Vetting::Vetted, &[], &[], false),
        Err("op_not_offered"),
    );
    let at = |now: comity_wire::Timestamp| {
        let mut ask = ask(Op::Chat, Vetting::Vetted, &[], &[], false);
        ask["hex"] = json!(hex::encode(cose::sign(&limited_policy(), &secret("lab writer")).bytes()));
        ask["now"] = json!(now);
        ask
    };
    // The days are those of 23 to 29 November 2026; the first is a Monday.
    let monday = comity_wire::Timestamp(1_795_392_000);
    let (day, hour) = (86_400, 3_600);
    add("hours-night", "every day from midnight on", at(monday.plus(day)), Ok(()));
    add("hours-night-over", "until is not part of it", at(monday.plus(day + 6 * hour)), Err("outside_hours"));
    add("hours-work", "Friday at eight", at(monday.plus(4 * day + 8 * hour)), Ok(()));
    add(
        "hours-too-soon",
        "Friday, a second before eight",
        at(monday.plus(4 * day + 8 * hour - 1)),
        Err("outside_hours"),
    );
    add("hours-weekend", "Saturday at eight", at(monday.plus(5 * day + 8 * hour)), Err("outside_hours"));
    let mut other = ask(Op::Chat, Vetting::Vetted, &[], &[], false);
    other["model"] = json!("lab/other");
    add("not-covered", "a model that the policy does not name", other, Err("model_not_found"));
    file.finish()
}
