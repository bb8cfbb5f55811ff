//! Blind probes, with processes: house, hub, owner, and `comity clearing probe`, a fresh process for each day that is played. An honest owner
//! is found in nothing; one that exchanges its model is found within a day of probes, with receipts that stand by themselves. What becomes of a
//! finding, and who counts more than there is: `probes_page.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::routing::{get, post};
use axum::{Json, Router};
use comity_node::shell;
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::{Client, receipts};
use comity_tests::federation::{LOOPBACK, PER_TOKEN};
use comity_tests::{Federation, Owner, process};
use comity_wire::object::{Chain, Receipt, Token, Vetting};
use comity_wire::time::DAY_S;
use comity_wire::{Digest, Signed, Timestamp};
use serde_json::{Value, json};

/// A model server whose words follow from the prompt and from which model it is; what it counts can be made to lie.
pub(crate) struct Upstream {
    pub(crate) url: String,
    model: Arc<AtomicU64>,
    more: Arc<AtomicU64>,
    pub(crate) asked: Arc<AtomicUsize>,
}

pub(crate) const PAGE: &str = include_str!("../../docs/operating/probes.md");
const WORDS: &[&str] =
    &["seven", "green", "no", "Riga", "often", "the", "wagon", "north", "half", "paper", "soon", "yes"];

impl Upstream {
    pub(crate) async fn start() -> Self {
        let (model, more, asked) =
            (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let (which, counts, count) = (Arc::clone(&model), Arc::clone(&more), Arc::clone(&asked));
        let chat = move |Json(body): Json<Value>| async move {
            count.fetch_add(1, Ordering::SeqCst);
            answer(&body, which.load(Ordering::SeqCst), counts.load(Ordering::SeqCst))
        };
        let models = || async { Json(json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]})) };
        let app = Router::new().route("/v1/chat/completions", post(chat)).route("/v1/models", get(models));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { url, model, more, asked }
    }

    /// From here on another model answers, under the same release.
    fn exchange(&self) {
        self.model.store(2, Ordering::SeqCst);
    }

    /// From here on so many of a hundred tokens more are counted.
    pub(crate) fn counts_more(&self, percent: u64) {
        self.more.store(percent, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(body: &Value, model: u64, more: u64) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
    let digest = Digest::of_parts(&[&model.to_be_bytes(), prompt.as_bytes()]);
    let words: Vec<&str> = digest.0[..5].iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
    let more = |tokens: u64| tokens + tokens * more / 100;
    let (input, output) = (more(prompt.len() as u64 / 4 + 8), 5);
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let text = words.join(" ");
    // What each word is, what it might have been; where nobody asked, nothing.
    let listed = |words: &[&str]| {
        let token = |word: &&str| {
            let top = json!([{"token": word, "logprob": -0.2, "bytes": null}, {"token": "or", "logprob": -2.5, "bytes": null}]);
            json!({"token": word, "logprob": -0.2, "bytes": null, "top_logprobs": top})
        };
        let content: Vec<Value> = words.iter().map(token).collect();
        if body["logprobs"] == true { json!({"content": content}) } else { Value::Null }
    };
    if body["stream"] == true {
        let piece = |delta: Value, words: &[&str], end: Option<&str>| {
            json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
                   "choices": [{"index": 0, "delta": delta, "logprobs": listed(words), "finish_reason": end}]})
        };
        let last = json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": [],
                          "usage": usage});
        let (first, second) = text.split_at(4);
        let (begin, end) = words.split_at(1);
        let frames =
            [piece(json!({"content": first}), begin, None), piece(json!({"content": second}), end, Some("stop")), last];
        let mut stream: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
        stream.push_str("data: [DONE]\n\n");
        return ([("content-type", "text/event-stream")], stream).into_response();
    }
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "logprobs": listed(&words), "finish_reason": "stop"});
    Json(json!({"id": "s", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice],
                "usage": usage}))
    .into_response()
}

/// A rule that gives log-probabilities, before the tariff.
const LOGPROBS: &str = r#"[[policy.rules]]
op = "logprobs"
tier = "t1"
input_bytes_max = 8_192
output_tokens_max = 128
choices_max = 1
logprobs_max = 5

[tariff]"#;

/// A federation of one owner, and a house that checks it.
pub(crate) struct Stage {
    pub(crate) federation: Federation,
    pub(crate) upstream: Upstream,
    pub(crate) house: PathBuf,
    /// The next day that is played: days since 1970.
    day: u64,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let upstream = Upstream::start().await;
        let lab = Owner { name: "lab", upstream: upstream.url.clone(), rates: PER_TOKEN };
        let furnish = |name: &str, home: &Path| {
            if name == "lab" {
                // Room for the longest prompts.
                let model = home.join("models/model.toml");
                let offer = std::fs::read_to_string(&model).expect("an offer").replace("4_096", "8_192");
                let offer = offer.replace("output_tokens_max = 64", "output_tokens_max = 128");
                let offer = offer.replace("context_length = 256", "context_length = 4096");
                let offer = offer.replace("[tariff]", LOGPROBS)
                    + "\n[[tariff.prices]]\nop = \"logprobs\"\nminimum = 0\nrates = []\n";
                std::fs::write(model, offer).expect("written");
            }
        };
        let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
        let house = federation.path().join("house");
        let day = shell::now().seconds() / DAY_S + 1;
        Self { federation, upstream, house, day }
    }

    /// `probe.toml` as the page has it, by words alone.
    pub(crate) fn write(&self) {
        self.write_with(|toml| toml);
    }

    fn write_with(&self, change: impl Fn(String) -> String) {
        let toml = PAGE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
        let toml = toml.replace("https://hub.example:4443", &self.federation.address("hub"));
        std::fs::write(self.house.join("probe.toml"), change(toml)).expect("probe.toml");
    }

    pub(crate) async fn probe(&self, words: &[&str]) -> String {
        let (noun, rest) = match words {
            ["findings", verb, rest @ ..] => (vec!["clearing", "probe", "findings", verb], rest),
            [verb, rest @ ..] => (vec!["clearing", "probe", verb], rest),
            [] => panic!("no words"),
        };
        let home = self.house.display().to_string();
        process::expect(&[noun.as_slice(), &["--home", &home], rest].concat()).await
    }

    pub(crate) async fn json(&self, words: &[&str]) -> Value {
        let said = self.probe(words).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"))
    }

    /// The next day.
    fn next(&mut self) -> String {
        let day = Timestamp(self.day * DAY_S).to_string();
        self.day += 1;
        day.split('T').next().expect("a day").to_owned()
    }

    /// Plays a day, each in a process of its own.
    pub(crate) async fn play(&mut self) -> Value {
        let day = self.next();
        self.json(&["run", "--rehearse", &day]).await
    }

    /// What the tokens of personas show of them to an owner: purposes, and how many had each.
    fn purposes(&self) -> BTreeMap<Vec<String>, usize> {
        let mut purposes = BTreeMap::new();
        for entry in self.wallets() {
            let Entry::Token { chain, .. } = entry else { continue };
            let chain = Chain::from_bytes(&chain).expect("a chain");
            let token = Signed::<Token>::decode(&chain.token).expect("a token");
            let terms = &token.unverified().terms;
            assert_eq!(terms.vetting, Vetting::Registered);
            let said = terms.purposes.iter().map(ToString::to_string).collect();
            *purposes.entry(said).or_default() += 1;
        }
        purposes
    }

    /// What all receipts in the personas' wallets charge together, each read from its file.
    fn spent(&self) -> u64 {
        let charge = |entry| match entry {
            Entry::Receipt { receipt, .. } => {
                let receipt = Signed::<Receipt>::decode(&receipt).expect("a receipt");
                Some(receipt.unverified().charge.ucr().unsigned_abs())
            }
            _ => None,
        };
        self.wallets().into_iter().filter_map(charge).sum()
    }

    /// How many answers of the journal list their tokens.
    fn listed(&self) -> usize {
        let folder = self.house.join("probe");
        let text =
            ["journal", "snapshot.json"].map(|file| std::fs::read_to_string(folder.join(file)).unwrap_or_default());
        text.iter().map(|text| text.matches("\"top\":[[").count()).sum()
    }

    fn wallets(&self) -> Vec<Entry> {
        let people = std::fs::read_dir(self.house.join("probe/people")).expect("people");
        let journal = |folder: std::io::Result<std::fs::DirEntry>| {
            Journal::read(&Client::journal(&folder.expect("a folder").path())).expect("a journal")
        };
        people.flat_map(journal).collect()
    }

    pub(crate) async fn found(&self) -> Vec<Value> {
        self.json(&["findings", "list"]).await.as_array().expect("a list").clone()
    }

    /// Days until both sides have a baseline: by chance, and the auditors' few calls take longest.
    async fn settle(&mut self) {
        for _ in 0..30 {
            self.play().await;
            let status = self.json(&["status", "--json"]).await;
            let ready = |side: &str| status["models"][0][side]["ready"] == true;
            assert!(self.found().await.is_empty(), "an honest owner: {:?}", self.found().await);
            if ready("blind") && ready("announced") {
                return;
            }
        }
        panic!("no baseline: {}", self.probe(&["status"]).await);
    }

    /// Plays days until something is found.
    pub(crate) async fn until_found(&mut self, days: u64, why: &str) -> Value {
        for _ in 0..days {
            self.play().await;
            if let Some(found) = self.found().await.iter().find(|found| found["why"] == why) {
                return found.clone();
            }
        }
        panic!("not found: {:?}", self.probe(&["status"]).await);
    }

    /// A finding, and whether each of its receipts stands by itself under the roster.
    pub(crate) async fn verified(&self, id: &str) -> Value {
        let folder = self.federation.path().join(format!("receipts-{}", &id[..8]));
        let finding = self.json(&["findings", "look", id, "--receipts", &folder.display().to_string()]).await;
        let client = self.federation.client("auditor");
        client.refresh().await.expect("the federation answers");
        let named: Vec<String> =
            serde_json::from_value(finding["evidence"]["receipts"].clone()).expect("receipts are named");
        assert!(named.len() >= 3, "{finding}");
        for receipt in named {
            let bytes = std::fs::read(folder.join(format!("{receipt}.receipt"))).expect("the receipt is there");
            let verified = receipts::verify(&bytes, client.directory()).expect("it stands");
            assert_eq!(verified.id().to_string(), receipt);
            assert_eq!(verified.release.to_string(), finding["evidence"]["release"].as_str().expect("a release"));
        }
        finding
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_owner_is_found_in_nothing_and_one_that_exchanged_its_model_is() {
    let mut stage = Stage::start().await;
    stage.write_with(|toml| toml.replace("# logprobs", "logprobs"));
    let made = stage.json(&["init"]).await;
    assert_eq!(made["waiting"], 0, "{made}");
    stage.settle().await;
    // Two more days by what was settled.
    for _ in 0..2 {
        stage.play().await;
        assert!(stage.found().await.is_empty());
    }
    // Every call has its receipt, and what was paid is what the books say.
    let status = stage.json(&["status", "--json"]).await;
    let tally = &status["models"][0]["tally"];
    assert_eq!((&tally["compared"], tally["failed"].as_u64()), (&tally["answered"], Some(0)), "{status}");
    assert_eq!(tally["answered"].as_u64(), Some(stage.upstream.asked() as u64), "asked once each");

    assert!(stage.listed() > 500, "log-probabilities came with the answers");
    // Owners know auditors by what they declare, and nobody else by anything.
    let purposes = stage.purposes();
    let known: Vec<&str> = purposes.keys().map(|said| said[0].as_str()).collect();
    assert_eq!(known, ["audit", "research", "teaching"], "{purposes:?}");

    stage.upstream.exchange();
    let swapped = Timestamp(stage.day * DAY_S);
    let found = stage.until_found(2, "changed").await;
    let finding = stage.verified(found["id"].as_str().expect("an id")).await;
    let at = finding["evidence"]["until"].as_u64().expect("a time");
    let hours = Timestamp(at).since(swapped) as f64 / 3_600.0;
    println!("found after {hours:.1} hours of probes");
    assert!(at >= swapped.0 && hours <= 24.0, "{hours}");
    let text = finding.to_string();
    assert!(!text.contains("prompt") && !text.contains("persona"), "{text}");
    stage.federation.books_add_up().await;
    stage.federation.end().await;
}

/// Where it dies, one after the other, on each of some days; then the day is played to its end.
const POINTS: [&[&str]; 4] = [
    &["probe.planned:1", "buy.before:2", "buy.after:2"],
    &["probe.before_began:3", "probe.began:5"],
    &["send.before:7", "send.after:6"],
    &["receipt.after:8", "probe.before_ended:4"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_anywhere_asks_nothing_twice_and_loses_nothing() {
    let mut stage = Stage::start().await;
    stage.write();
    stage.json(&["init"]).await;
    let home = stage.house.display().to_string();
    let (mut answered, mut failed) = (0, 0);
    for points in POINTS {
        let day = stage.next();
        for point in points {
            let dying = ["clearing", "probe", "run", "--home", &home, "--rehearse", &day];
            let died = process::run_armed(&dying, point).await;
            assert!(!died.success && died.stdout.is_empty(), "{point} was not reached: {}{}", died.stdout, died.stderr);
        }
        let done = stage.json(&["run", "--rehearse", &day]).await;
        assert_eq!(done["missed"], 0, "{points:?}: {done}");
        let status = stage.json(&["status", "--json"]).await;
        let tally = &status["models"][0]["tally"];
        assert_eq!(status["doubtful"], 0, "{points:?}: {status}");
        let count = |name: &str| tally[name].as_u64().expect("a count");
        // Every call that the model was asked is answered here, once; a few were never sent.
        assert_eq!(count("answered"), stage.upstream.asked() as u64, "{points:?}: {status}");
        assert!(count("answered") > answered + 50, "{points:?}: the day went on: {status}");
        let under_way = 8 * points.len() as u64;
        assert!(count("failed") - failed <= under_way, "{points:?}: what was under way, at most: {status}");
        (answered, failed) = (count("answered"), count("failed"));
    }
    // What the probes say they have left is what the books say was settled or is still held for them.
    let tokens = stage.spent();
    let status = stage.json(&["status", "--json"]).await;
    let personas = status["personas"].as_u64().expect("a count");
    assert_eq!(status["lot"].as_u64(), Some(personas * 5_000_000 - tokens), "{status}");
    stage.federation.books_add_up().await;
    stage.federation.end().await;
}
