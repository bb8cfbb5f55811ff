//! A catalogue for `cargo xtask bench sdk search`: authors with signed feeds of many models, laid into a hub's store.
//!
//! `cards FOLDER AUTHORS` writes their `organisation.json` files for the roster; `feeds STORE ROSTER AUTHORS MODELS` signs their feeds and
//! lays them where the hub keeps what it was shown. The hub then starts as it would after any restart: it verifies each object again,
//! so nothing is in its catalogue that its author's writer has not signed. Keys follow from names: for benches alone.

use std::path::Path;
use std::process::ExitCode;

use comity_node::home::{Card, Role};
use comity_node::shell;
use comity_registry::Held;
use comity_wire::cbor::{Encode as _, List, Text};
use comity_wire::object::{
    Announcement, DataPolicy, Delegates, Entry, Head, Identity, Index, License, Logging, Manifest, ManifestOp,
    Modality, ModelState, NodeCertificate, OpRule, OpTier, Policy, Price, PriceHint, Rate, Release, RosterFile, Status,
    Step, Summary, Tariff, Tier, TierRule, Vetting, WriterCertificate,
};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, Meter, ModelId, NodeId, Op, OrgId, SecretKey, Timestamp, Verified, cose};
use sqlx::{Connection as _, SqliteConnection};

/// With their manifests, policies and what else a feed has they fill an index of 2,048 entries.
const MODELS_EACH_MAX: usize = 1_000;
/// A policy covers so many models at most.
const POLICY_MODELS: usize = 64;
/// One manifest of so many is at the hub: those that somebody asked for before.
const MANIFESTS_KEPT: usize = 100;

const FIELDS: [&str; 16] = [
    "clinical",
    "legal",
    "chemical",
    "historical",
    "astronomical",
    "financial",
    "botanical",
    "medieval",
    "maritime",
    "pediatric",
    "geological",
    "musical",
    "agricultural",
    "statistical",
    "genomic",
    "judicial",
];
const MATERIALS: [&str; 12] = [
    "notes",
    "letters",
    "abstracts",
    "protocols",
    "interviews",
    "reports",
    "contracts",
    "diaries",
    "questions",
    "tables",
    "speeches",
    "surveys",
];
const TASKS: [&str; 5] = ["text-generation", "summarization", "translation", "question-answering", "classification"];
const LANGUAGES: [&str; 8] = ["en", "de", "fr", "it", "es", "ja", "pl", "sw"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["cards", folder, authors] => number(authors).and_then(|authors| cards(Path::new(folder), authors)),
        ["feeds", store, roster, authors, models] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("the operating system gives a thread");
            number(authors)
                .and_then(|authors| Ok((authors, number(models)?)))
                .and_then(|counts| runtime.block_on(feeds(Path::new(store), Path::new(roster), counts)))
        }
        _ => Err("bench_catalogue cards FOLDER AUTHORS | feeds STORE ROSTER AUTHORS MODELS".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("'{word}' is no number of authors or models"))
}

/// An organisation that offers models, and its keys.
struct Author {
    name: String,
    id: OrgId,
    node: NodeId,
    key: SecretKey,
    writer: SecretKey,
    transport: SecretKey,
}

impl Author {
    fn new(at: usize) -> Self {
        let name = format!("author-{at:03}");
        let seed = |what: &str| Digest::of(format!("comity bench catalogue {name} {what}").as_bytes()).0;
        let id = |what: &str| seed(what)[..16].try_into().expect("16 of 32 bytes");
        Self {
            id: OrgId(id("organisation")),
            node: NodeId(id("node")),
            key: SecretKey::from_seed(seed("key")),
            writer: SecretKey::from_seed(seed("writer")),
            transport: SecretKey::from_seed(seed("transport")),
            name,
        }
    }

    fn card(&self) -> Card {
        Card {
            organisation: self.id,
            name: self.name.clone(),
            title: format!("Laboratory {}", self.name),
            key: self.key.public(),
            node: self.node,
            transport_key: self.transport.public(),
            role: Role::Owner,
            issuer_key: None,
        }
    }
}

fn cards(folder: &Path, authors: usize) -> Result<(), String> {
    for author in (0..authors).map(Author::new) {
        let text = serde_json::to_string(&author.card()).map_err(told)?;
        std::fs::write(folder.join(format!("{}.json", author.name)), text).map_err(told)?;
    }
    Ok(())
}

async fn feeds(store: &Path, roster: &Path, (authors, models): (usize, usize)) -> Result<(), String> {
    let most = authors.saturating_mul(MODELS_EACH_MAX);
    if models > most {
        return Err(format!("{authors} authors have room for {most} models"));
    }
    let (_, roster) = RosterFile::decode(&std::fs::read(roster).map_err(told)?).map_err(told)?;
    let now = shell::now();
    let url = format!("sqlite://{}", store.display());
    let mut connection = SqliteConnection::connect(&url).await.map_err(told)?;
    for at in 0..authors {
        let author = Author::new(at);
        let count = models / authors + usize::from(at < models % authors);
        let feed = Feed::of(&author, at, count, now);
        let index = Index { entries: list(feed.entries) }.to_cbor();
        let head = Head {
            federation: roster.federation,
            org: author.id,
            epoch: 1,
            seq: 1,
            previous: None,
            index: Digest::of(&index),
            index_bytes: u32::try_from(index.len()).map_err(told)?,
            entries: feed.count,
            issued_at: now,
            expires_at: now.plus(Head::EXPIRES_S),
            roster_version: roster.version,
        };
        let head = cose::sign(&head, &author.writer);
        let writer = WriterCertificate {
            org: author.id,
            key: author.writer.public(),
            epoch: 1,
            not_before: now.minus(DAY_S),
            not_after: now.plus(30 * DAY_S),
        };
        let writer = cose::sign(&writer, &author.key);
        let mut tx = connection.begin().await.map_err(told)?;
        sqlx::query("INSERT INTO feed (org, head, writer) VALUES (?, ?, ?)")
            .bind(&author.id.0[..])
            .bind(head.bytes())
            .bind(writer.bytes())
            .execute(&mut *tx)
            .await
            .map_err(told)?;
        for (digest, bytes) in feed.frames.iter().chain([&(head.index, index)]) {
            sqlx::query("INSERT INTO frame (org, digest, bytes) VALUES (?, ?, ?)")
                .bind(&author.id.0[..])
                .bind(&digest.0[..])
                .bind(&bytes[..])
                .execute(&mut *tx)
                .await
                .map_err(told)?;
        }
        tx.commit().await.map_err(told)?;
    }
    connection.close().await.map_err(told)
}

/// What an author's index lists, and the bytes of what a hub holds of it.
struct Feed {
    entries: Vec<Entry>,
    count: u32,
    frames: Vec<(Digest, Vec<u8>)>,
}

impl Feed {
    fn of(author: &Author, at: usize, count: usize, now: Timestamp) -> Self {
        let mut feed = Self { entries: Vec::new(), count: 0, frames: Vec::new() };
        let writer = &author.writer;
        let tariffs: Vec<_> = (0..4).map(|step| cose::sign(&tariff(author, step, now), writer)).collect();
        let names: Vec<ModelId> = (0..count).map(|model| name(author, at, model)).collect();
        for (number, names) in names.chunks(POLICY_MODELS).enumerate() {
            let mut models = names.to_vec();
            models.sort_unstable();
            let policy = cose::sign(&policy(author, number, models, now), writer);
            for (offset, name) in names.iter().enumerate() {
                let model = number * POLICY_MODELS + offset;
                let tariff = &tariffs[model % tariffs.len()];
                let manifest = manifest(author, (at, model), name, &policy, tariff, now);
                let manifest = cose::sign(&manifest, writer);
                feed.add(author, Held::Summary(cose::sign(&summary(&manifest, tariff), writer)), true);
                feed.add(author, Held::Manifest(manifest), model.is_multiple_of(MANIFESTS_KEPT));
            }
            feed.add(author, Held::Policy(policy), true);
        }
        tariffs.into_iter().for_each(|tariff| feed.add(author, Held::Tariff(tariff), true));
        let certificate = NodeCertificate {
            org: author.id,
            node: author.node,
            transport_keys: list(vec![author.transport.public()]),
            receipt_keys: List::default(),
            not_before: now.minus(DAY_S),
            not_after: now.plus(30 * DAY_S),
            restore: 0,
        };
        feed.add(author, Held::NodeCertificate(cose::sign(&certificate, &author.key)), true);
        let announcement = Announcement {
            org: author.id,
            node: author.node,
            doors: List::default(),
            issued_at: now,
            expires_at: now.plus(Head::EXPIRES_S),
        };
        feed.add(author, Held::Announcement(cose::sign(&announcement, writer)), true);
        feed.entries.sort_by(|a, b| (a.kind, a.subject.as_str()).cmp(&(b.kind, b.subject.as_str())));
        feed
    }

    fn add(&mut self, author: &Author, held: Held, is_kept: bool) {
        self.entries.push(held.entry(&author.writer.public()));
        self.count += 1;
        if is_kept {
            self.frames.push((held.id(), held.bytes().to_vec()));
        }
    }
}

/// One of a list, so that neighbours differ and the same comes out each time.
fn of<T: Copy>(all: &[T], (at, model): (usize, usize), salt: usize) -> T {
    let digest = Digest::of(format!("{at} {model} {salt}").as_bytes()).0;
    all[usize::from(u16::from_le_bytes([digest[0], digest[1]])) % all.len()]
}

fn name(author: &Author, at: usize, model: usize) -> ModelId {
    let place = (at, model);
    let name = format!("{}/{}-{}-{model:04}", author.name, of(&FIELDS, place, 0), of(&MATERIALS, place, 1));
    name.parse().expect("a name of slugs")
}

fn tariff(author: &Author, step: u64, now: Timestamp) -> Tariff {
    let rate = |meter, ucr_per_million| Rate { meter, steps: list(vec![Step { from: 0, ucr_per_million }]) };
    let base = 100_000 * (step + 1);
    let price = Price {
        op: Op::Chat,
        rates: list(vec![rate(Meter::InputTokens, base), rate(Meter::OutputTokens, 3 * base)]),
        minimum: Amount::from_ucr(1),
    };
    Tariff {
        org: author.id,
        name: text(&format!("step-{step}")),
        version: 1,
        prices: list(vec![price]),
        overhead_tokens: 64,
        output_bytes_per_token: 32,
        issued_at: now,
    }
}

fn policy(author: &Author, number: usize, models: Vec<ModelId>, now: Timestamp) -> Policy {
    let tier = TierRule {
        tier: Tier::Registered,
        vetting: Vetting::Registered,
        grant: false,
        purposes: List::default(),
        identity: Identity::Pseudonym,
        delegates: Delegates::All,
        window_max: Amount::credits(1),
        lanes_max: 64,
        charge_max: Amount::from_ucr(50_000),
        concurrency: 64,
        windows: List::default(),
        logging: Logging::Metadata,
        filters: List::default(),
        terms: None,
        hours: List::default(),
        priority: None,
        terms_from: None,
        terms_before: None,
    };
    let rule = OpRule {
        op: Op::Chat,
        tier: Tier::Registered,
        input_bytes_max: 65_536,
        output_tokens_max: 1_024,
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
        org: author.id,
        name: text(&format!("policy-{number:02}")),
        version: 1,
        models: list(models),
        tiers: list(vec![tier]),
        rules: list(vec![rule]),
        issued_at: now,
    }
}

fn manifest(
    author: &Author,
    place: (usize, usize),
    model: &ModelId,
    policy: &Verified<Policy>,
    tariff: &Verified<Tariff>,
    now: Timestamp,
) -> Manifest {
    let (field, material, task) = (of(&FIELDS, place, 0), of(&MATERIALS, place, 1), of(&TASKS, place, 2));
    let digest = |what: &str| Digest::of(format!("{model} {what}").as_bytes());
    let mut languages = vec![of(&LANGUAGES, place, 3), "en"];
    languages.sort_unstable();
    languages.dedup();
    Manifest {
        model: model.clone(),
        version: 1,
        org: author.id,
        title: text(&format!("{field} {material} {}", place.1)),
        description: text(&format!(
            "A language model for {task} of {field} {material}, trained on what the laboratory holds of them."
        )),
        tasks: list(vec![text(task)]),
        languages: list(languages.into_iter().map(text).collect()),
        input: list(vec![Modality::Text]),
        output: list(vec![Modality::Text]),
        family: None,
        architecture: None,
        params_total: Some(of(&[1, 3, 8, 14, 70], place, 4) * 1_000_000_000),
        params_active: None,
        context_length: Some(of(&[4_096, 8_192, 32_768, 131_072], place, 5)),
        output_tokens_max: Some(1_024),
        license: License { spdx: text("Apache-2.0"), name: None, link: None },
        release: Release {
            weights: digest("weights"),
            tokenizer: digest("tokenizer"),
            template: digest("template"),
            dtype: text("bf16"),
            tokenizer_name: text("bytes"),
            undisclosed: false,
        },
        lineage: List::default(),
        training: None,
        evaluations: List::default(),
        data_policy: DataPolicy {
            retention_days: of(&[0, 0, 30], place, 6),
            trains_on_inputs: false,
            logging: Logging::Metadata,
            residency: list(vec![text("CH")]),
            data_classes: List::default(),
            moderation: None,
        },
        operator: None,
        availability: None,
        ops: list(vec![ManifestOp { op: Op::Chat, tariff: tariff.id(), schema: None }]),
        nodes: list(vec![author.node]),
        policy: policy.id(),
        status: Status { state: ModelState::Active, sunset: None, reason: None },
        released_at: now.minus(DAY_S + u64::from(of(&[1_u32, 60, 3_600, 7_200], place, 7))),
        measured: List::default(),
        attestations: List::default(),
        supersedes: None,
        documentation: None,
        contact: None,
    }
}

/// As an owner's node makes it of a manifest.
fn summary(manifest: &Verified<Manifest>, tariff: &Verified<Tariff>) -> Summary {
    let rate = |at: usize| tariff.prices[0].rates[at].steps[0].ucr_per_million;
    Summary {
        model: manifest.model.clone(),
        version: manifest.version,
        org: manifest.org,
        title: manifest.title.clone(),
        description: text(manifest.description.as_str()),
        tasks: manifest.tasks.clone(),
        languages: manifest.languages.clone(),
        input: manifest.input.clone(),
        output: manifest.output.clone(),
        params_total: manifest.params_total,
        context_length: manifest.context_length,
        license: manifest.license.spdx.clone(),
        ops: list(vec![OpTier { op: Op::Chat, tier: Tier::Registered, vetting: Vetting::Registered, grant: false }]),
        nodes: manifest.nodes.clone(),
        manifest: manifest.id(),
        policy: manifest.policy,
        tariff: tariff.id(),
        release: manifest.release.digest(),
        retention_days: manifest.data_policy.retention_days,
        residency: manifest.data_policy.residency.clone(),
        state: manifest.status.state,
        released_at: manifest.released_at,
        sunset: None,
        price_hint: Some(PriceHint {
            input_ucr_per_million: rate(0),
            output_ucr_per_million: rate(1),
            request_ucr: tariff.prices[0].minimum.ucr().unsigned_abs(),
        }),
    }
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    text.try_into().expect("the bench's texts are short")
}

fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    let Ok(list) = items.try_into() else { panic!("the bench's lists are short") };
    list
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
