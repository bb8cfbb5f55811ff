//! What an owner sees of a running node, and that nothing said to a model, and no key, is to be seen anywhere.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_http::Server;
use comity_http::serve::Limits;
use comity_sdk::{Client, Query};
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const PROMPT: &str = "canary-7f3a91-of-the-prompt";
const KEY: &str = "canary-2c55d0-of-the-key";

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_each_call_and_nobody_sees_what_was_said() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let collector = Collector::start().await;
    let home = federation.path().join("lab");
    let access_log = federation.path().join("access.jsonl");
    let keyed = lab.offer("First").replace("probe = false", "probe = false\napi_key_file = \"upstream.key\"");
    let kept = keyed.replace("logging = \"metadata\"", "logging = \"bodies\"");
    let keyed = kept.replace("retention_days = 0", "retention_days = 2");
    let key = federation.path().join("transcripts.key").display().to_string();
    process::expect(&["node", "transcripts", "init", "--home", &home.display().to_string(), "--key", &key]).await;
    std::fs::write(home.join("models/upstream.key"), KEY).expect("a key's file");
    std::fs::write(home.join("models/model.toml"), keyed).expect("a model's file");
    let node = federation.service("lab");
    node.end().await;
    let log = access_log.display().to_string();
    node.also(&["--metrics", "127.0.0.1:0", "--access-log", &log, "--otlp", &collector.url]);
    node.restart().await;

    let client = federation.client("reader");
    let ask = |stream| Query::chat(lab.model(), &[("user", PROMPT)], Some(8), stream);
    eventually("an answer", async || {
        client.refresh().await.map_err(|error| chain(&error))?;
        client.ask(&ask(false)).await.map(drop).map_err(|error| chain(&error))
    })
    .await;
    streamed(&client, &ask(true)).await;

    // What an error says, too.
    let mut cheap = ask(false);
    cheap.max_charge = Some(comity_wire::Amount::from_ucr(1));
    let refused = chain(&client.ask(&cheap).await.expect_err("too little"));
    assert_eq!(
        count(refused.as_bytes(), PROMPT.as_bytes()) + count(refused.as_bytes(), KEY.as_bytes()),
        0,
        "{refused}"
    );

    let view = process::expect(&["node", "top", "--json", "--home", &home.display().to_string()]).await;
    let view: Value = serde_json::from_str(&view).expect("a view is JSON");
    let row = view["models"].as_array().expect("rows").iter().find(|row| row["model"] == "lab/model");
    let row = row.expect("the model was called");
    assert_eq!((&row["charged"], &row["charge_ucr"]), (&2.into(), &(2 * REQUEST_UCR).into()), "{view}");
    assert_eq!((&view["holds"], &view["held_ucr"]), (&0.into(), &0.into()), "{view}");
    let serving = &view["serving"][0];
    assert_eq!(
        (&serving["model"], &serving["waiting"], &serving["running"]),
        (&"lab/model".into(), &0.into(), &0.into())
    );
    let server = &serving["upstreams"][0];
    assert_eq!((&server["standing"], &server["in_flight"]), (&"ready".into(), &0.into()), "{view}");

    let said = federation.service("lab").log();
    let address = said.lines().find_map(|line| line.strip_prefix("figures: ")).expect("it says where figures are");
    let figures = figures(address).await;
    let charged = format!("comity_charged_microcredits_total{{model=\"lab/model\"}} {}", 2 * REQUEST_UCR);
    assert!(figures.lines().any(|line| line == charged), "{charged}\nis not in\n{figures}");

    let ready = |line: &str| line.starts_with("comity_upstream_ready{model=\"lab/model\",url=") && line.ends_with(" 1");
    assert!(figures.lines().any(ready), "{figures}");

    // What its tier keeps is sealed for a key that is not the node's.
    let transcripts = async |command: &[&str]| {
        let home = home.display().to_string();
        process::expect(&[&["node", "transcripts"], command, &["--home", &home]].concat()).await
    };
    let shown = eventually("both texts", async || {
        let shown = transcripts(&["show", "--key", &key]).await;
        if shown.lines().count() == 2 { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!(count(shown.as_bytes(), PROMPT.as_bytes()), 2, "{shown}");
    let listed = transcripts(&["list"]).await;
    assert!(listed.lines().count() == 2 && !listed.contains(PROMPT), "{listed}");

    // Its end writes out what waits.
    federation.service("lab").end().await;
    let lines = std::fs::read_to_string(&access_log).expect("the access log");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let charged: Vec<_> = lines.iter().filter(|line| line["charge_ucr"] == REQUEST_UCR).collect();
    assert_eq!(charged.len(), 2, "{lines:?}");
    assert!(charged.iter().all(|line| line["status"] == 200 && line["request"].is_string()), "{lines:?}");
    let spans = collector.end().await;
    assert_eq!(count(&spans, b"chat lab/model"), lines.iter().filter(|line| line["model"].is_string()).count());

    assert_eq!(count(&spans, PROMPT.as_bytes()) + count(figures.as_bytes(), PROMPT.as_bytes()), 0);
    assert_eq!(count(&spans, KEY.as_bytes()) + count(figures.as_bytes(), KEY.as_bytes()), 0);
    let read = files_with(federation.path(), &[PROMPT, KEY]);
    assert_eq!(read, [home.join("models/upstream.key")], "only the file that the owner wrote has it");
    let hold = transcripts(&["hold", "--model", &lab.model().to_string(), "--reason", "a court wants it"]).await;
    assert!(hold.contains("\"number\":1"), "{hold}");
    let delete = ["delete", "--all", "--reason", "they ask", "--by", "ada"];
    let went = async |delete: &[&str]| serde_json::from_str::<Value>(&transcripts(delete).await).expect("JSON");
    assert_eq!(went(&delete).await, serde_json::json!({"removed": 0, "held": 2}));
    transcripts(&["release", "1", "--reason", "it is over"]).await;
    assert_eq!(went(&delete).await, serde_json::json!({"removed": 2, "held": 0}));
    let removed = transcripts(&["removed"]).await;
    assert!(removed.contains("they ask") && removed.contains("ada") && !removed.contains("canary"), "{removed}");
    assert_eq!(transcripts(&["list"]).await, "");
    // Nor is any key of the federation to be seen, as its file has it or as bytes: houses' and hubs' logs are among the files.
    let keys = keys_below(federation.path());
    assert!(keys.len() >= 8, "{} keys", keys.len());
    for (file, text) in &keys {
        let hex = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..32).map(hex).collect();
        let bytes = bytes.filter(|_| text.len() == 64).unwrap_or_else(|| STANDARD.decode(text).expect("hex or base64"));
        assert_eq!(files_with(federation.path(), &[text]), [file.as_path()], "a key stands in its own file alone");
        for seen in [&spans[..], figures.as_bytes(), said.as_bytes(), refused.as_bytes()] {
            assert_eq!(count(seen, text.as_bytes()) + count(seen, &bytes), 0, "{}", file.display());
        }
    }
    federation.end().await;
}

async fn streamed(client: &Client, query: &Query) {
    let mut stream = client.stream(query).await.expect("a stream begins");
    while stream.next().await.expect("it goes on").is_some() {}
    stream.receipt().await.expect("it ends with a receipt");
}

/// Asks as Prometheus does.
async fn figures(address: &str) -> String {
    let answer = reqwest::Client::builder().no_proxy().build().expect("a client").get(address).send().await;
    answer.expect("figures are served").text().await.expect("figures are text")
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|window| *window == what).count()
}

/// Every file below `folder` that holds one of `canaries`, in order.
fn files_with(folder: &Path, canaries: &[&str]) -> Vec<std::path::PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if let Ok(bytes) = std::fs::read(&path)
            && canaries.iter().any(|canary| count(&bytes, canary.as_bytes()) > 0)
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every file of a key below `folder`, and the 64 digits in it.
fn keys_below(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.parent().is_some_and(|parent| parent.ends_with("keys"))
            && path.extension().is_some_and(|extension| extension == "key")
        {
            let text = std::fs::read_to_string(&path).expect("a key").trim().to_owned();
            found.push((path, text));
        }
    }
    found
}

/// An OpenTelemetry collector that keeps what it is sent.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<u8>>>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<comity_http::Drained>,
}

impl Collector {
    async fn start() -> Self {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        let keep = move |body: Bytes| {
            kept.lock().expect("nothing panics here").extend_from_slice(&body);
            std::future::ready(())
        };
        let router = Router::new().route("/v1/traces", post(keep));
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind_plain(address, Limits::default()).await.expect("a listener");
        let url = format!("{}/v1/traces", server.url().expect("it has an address"));
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.run(router, stop.clone()));
        Self { url, bodies, stop, server }
    }

    async fn end(self) -> Vec<u8> {
        self.stop.cancel();
        self.server.await.expect("it ends");
        self.bodies.lock().expect("nothing panics here").clone()
    }
}
