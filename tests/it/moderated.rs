//! Another server is asked what is in texts, as `docs/operating/moderation.md` has it: what callers were told is what it sees.

use std::path::Path;

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::moderator::Moderator;
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::Amount;
use serde_json::json;

const PAGE: &str = include_str!("../../docs/operating/moderation.md");
const KEY: &str = "sk-canary-51fe70-of-moderation";
const PROMPT: &str = "canary-0c3d11-of-a-moderated-prompt";
const BY: &str = "Example Moderation, Inc.";

/// What the model's file and the node's file say, as the page has it.
fn furnish(home: &Path, url: &str) {
    let path = home.join("models/model.toml");
    let text = std::fs::read_to_string(&path).expect("the model's file");
    let told =
        format!("[data_policy.moderation]\nby = \"{BY}\"\nanswers = false\nretention_days = 30\ntiers = [\"t1\"]\n");
    let text = text.replacen("logging = \"metadata\"\n", &format!("logging = \"metadata\"\n\n{told}"), 1);
    let row = "concurrency = 256\nfilters = [{ category = \"cbrn\", action = \"block\" }]\n";
    std::fs::write(&path, text.replace("concurrency = 256\n", row)).expect("it can be written");
    comity_node::home::write_secret(&home.join("keys/moderation.key"), KEY.as_bytes()).expect("a secret");
    std::fs::write(home.join("node.toml"), settings(url)).expect("node.toml");
}

/// The page's own block, with this server in the vendor's place.
fn settings(url: &str) -> String {
    let blocks = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
    let block = blocks.filter(|block| block.contains("[moderation]")).last().expect("the page has one");
    let lines: Vec<&str> = block.lines().map(str::trim_start).collect();
    lines.join("\n").replace("https://api.example.com/v1", url)
}

/// Every file below a folder that holds some words.
fn files_with(folder: &Path, words: &str) -> Vec<std::path::PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(words.len()).any(|part| part == words.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moderation_server_sees_what_callers_were_told_it_sees_and_nobody_sees_its_key() {
    let (upstream, moderator) = (Scripted::start().await, Moderator::start(KEY).await);
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let url = moderator.url();
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == lab.name {
            furnish(home, &url);
        }
    })
    .await;
    let home = federation.path().join("lab");
    let at = home.display().to_string();
    let node = federation.service("lab");
    node.end().await;
    node.also(&["--metrics", "127.0.0.1:0"]);
    node.restart().await;

    // Before a call: the manifest says it, to a researcher and to the security officer.
    let client = federation.client("asker");
    let manifest = eventually("its manifest", async || {
        client.refresh().await.map_err(|error| chain(&error))?;
        client.manifest(&lab.model()).await.map_err(|error| chain(&error))
    })
    .await;
    let told = manifest.data_policy.moderation.clone().expect("callers are told");
    assert_eq!((told.by.as_str(), told.answers, told.retention_days), (BY, false, 30));
    let shown = process::expect(&["policy", "show", "--home", &at]).await;
    assert!(shown.contains(BY) && shown.contains("prompts of t1") && shown.contains("30 days"), "{shown}");
    let doctor = process::expect(&["node", "doctor", "--home", &at]).await;
    assert!(doctor.contains(&format!("ok    moderation: {BY} answered in")), "{doctor}");

    let ask = |words: &str| Query::chat(lab.model(), &[("user", words)], Some(8), false);
    client
        .buy(&lab.model(), Amount::from_ucr(20 * REQUEST_UCR), 0)
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    eventually("an answer", async || client.ask(&ask(PROMPT)).await.map(drop).map_err(|error| chain(&error))).await;
    let seen = moderator.seen();
    let (headers, body) = seen.last().expect("it was asked");
    assert_eq!(
        *body,
        json!({ "model": "omni-moderation-latest", "input": [PROMPT] }),
        "the words, and its own model's name"
    );
    let subject = federation.account().await.pseudonyms[0].subject.to_string();
    let said = format!("{headers:?} {body}");
    assert!(!said.contains(&subject) && !said.contains("lab/model") && !said.contains("comity-"), "{said}");

    let asked = upstream.asked();
    let flagged = chain(&client.ask(&ask("Tell me of the heron.")).await.expect_err("it is blocked"));
    assert!(flagged.contains("content_filter") || flagged.contains("filter does not let"), "{flagged}");
    moderator.is_down(true);
    let closed = chain(&client.ask(&ask("Anything.")).await.expect_err("nobody can look at it"));
    assert!(closed.contains("nobody could look at this one"), "{closed}");
    assert_eq!(upstream.asked(), asked, "neither reached the model");
    let doctor = process::run(&["node", "doctor", "--home", &at]).await;
    assert!(!doctor.success && doctor.stdout.contains(&format!("FAIL  moderation: {BY}")), "{}", doctor.stdout);
    moderator.is_down(false);

    let log = federation.service("lab").log();
    let address = log.lines().find_map(|line| line.strip_prefix("figures: ")).expect("it says where figures are");
    let figures = reqwest::Client::builder().no_proxy().build().expect("a client").get(address).send().await;
    let figures = figures.expect("figures are served").text().await.expect("figures are text");
    let asked = |outcome: &str| {
        let line =
            format!("comity_moderation_asked_total{{model=\"lab/model\",side=\"prompt\",outcome=\"{outcome}\"}} ");
        figures.lines().any(|found| found.starts_with(&line))
    };
    assert!(asked("clean") && asked("flagged") && asked("failed"), "{figures}");
    assert!(figures.contains("comity_moderation_flagged_total{model=\"lab/model\",category=\"cbrn\"} 1"), "{figures}");
    assert!(figures.contains("comity_moderation_duration_seconds_count{side=\"prompt\"}"), "{figures}");

    // A file that names somebody else: nothing is sent, and the doctor says so.
    let path = home.join("models/model.toml");
    let text = std::fs::read_to_string(&path).expect("the model's file");
    std::fs::write(&path, text.replace(BY, "Somebody Else")).expect("it can be written");
    process::expect(&["model", "publish", "--home", &at]).await;
    let before = moderator.seen().len();
    eventually("it is let through", async || {
        client.ask(&ask("A heron.")).await.map(drop).map_err(|error| chain(&error))
    })
    .await;
    assert_eq!(moderator.seen().len(), before, "callers were told of somebody else");
    let doctor = process::expect(&["node", "doctor", "--home", &at]).await;
    assert!(doctor.contains("names Somebody Else") && doctor.contains("nothing is sent"), "{doctor}");

    federation.service("lab").end().await;
    assert_eq!(
        files_with(federation.path(), KEY),
        [home.join("keys/moderation.key")],
        "a key stands in its own file alone"
    );
    let prompts = files_with(federation.path(), PROMPT);
    assert!(
        prompts.iter().all(|path| !path.starts_with(&home) && path.extension().is_none_or(|kind| kind != "log")),
        "{prompts:?}"
    );
    federation.end().await;
}
