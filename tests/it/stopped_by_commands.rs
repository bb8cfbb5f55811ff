//! An operator stops a model, a project and a node, whether the node runs or not, and takes it back: by the commands, and what
//! they say is what callers meet.

use std::path::Path;
use std::time::{Duration, Instant};

use comity_scratch::Database;
use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::holder::Met;
use comity_tests::{Federation, Holder, Owner, Scripted, process};
use comity_token::Directory as _;
use comity_wire::{Amount, Code};
use serde_json::{Value, json};

async fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&process::expect(arguments).await).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_stops_and_resumes_and_it_is_so_whether_the_node_runs_or_not() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let home = federation.path().join("lab").display().to_string();
    let model = lab.model().to_string();
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let ask = async || {
        let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
        client.ask(&query).await.map(drop).map_err(|error| (error.code(), chain(&error)))
    };
    ask().await.expect("it is open");
    let project = federation.account().await.pseudonyms.first().expect("the lab knows it").subject.to_string();
    let stop = |more: &[&str]| {
        let arguments: Vec<String> =
            ["node", "stop", "--home", &home].iter().chain(more).map(|word| (*word).to_owned()).collect();
        async move {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            process::run(&words).await
        }
    };

    // A typing error stops nothing, and says so.
    let wrong = stop(&["--model", "lab/tipo", "--reason", "x"]).await;
    assert!(!wrong.success && wrong.stderr.contains(&model), "{}", wrong.stderr);
    let nothing = stop(&["--reason", "x"]).await;
    assert!(!nothing.success && nothing.stderr.contains("--all"), "{}", nothing.stderr);
    let no_reason = stop(&["--all"]).await;
    assert!(!no_reason.success && no_reason.stderr.contains("--reason"), "{}", no_reason.stderr);
    assert_eq!(process::expect(&["node", "stop", "--home", &home, "--list"]).await.trim(), "nothing is stopped");
    ask().await.expect("nothing was stopped");

    // Each kind, in force with the command's answer, and taken back.
    for target in [&["--model", &model][..], &["--project", &project], &["--all"]] {
        let stopped = stop(&[target, &["--reason", "a report", "--by", "ada"]].concat()).await;
        assert!(
            stopped.success && stopped.stdout.contains("by ada: a report"),
            "{} {}",
            stopped.stdout,
            stopped.stderr
        );
        let (code, said) = ask().await.expect_err("it is stopped");
        assert!(code == Some(Code::Stopped) && said.contains("a report"), "{said}");
        let top = json_of(&["node", "top", "--home", &home, "--json"]).await;
        assert!(top["stopped"][0].as_str().is_some_and(|line| line.ends_with(": a report")), "{top}");
        let resume = [&["node", "resume", "--home", &home][..], target, &["--reason", "it was nothing"]].concat();
        assert!(process::expect(&resume).await.contains("by ada: a report"));
        assert!(process::expect(&resume).await.contains("it was not stopped"));
        ask().await.unwrap_or_else(|(_, said)| panic!("{target:?} is resumed: {said}"));
    }

    // It outlives the process, and can be said and taken back while there is none.
    assert!(stop(&["--model", &model, "--reason", "for the night"]).await.success);
    federation.service("lab").end().await;
    let list = json_of(&["node", "stop", "--home", &home, "--list", "--json"]).await;
    assert_eq!((&list["running"], &list["stops"][0]["target"]["name"]), (&json!(false), &json!(model)), "{list}");
    assert!(stop(&["--all", "--reason", "moving house"]).await.success);
    let wrong = stop(&["--model", "lab/tipo", "--reason", "x"]).await;
    assert!(!wrong.success && wrong.stderr.contains(&model), "{}", wrong.stderr);
    federation.service("lab").restart().await;
    let refused = async |why: &str| {
        eventually("the node answers again", async || match ask().await {
            Err((Some(Code::Stopped), said)) if said.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    refused("moving house").await;
    let resumed = process::run(&["node", "resume", "--home", &home, "--all", "--reason", "moved"]).await;
    assert!(resumed.success && resumed.stderr.contains("still stopped: model"), "{}", resumed.stderr);
    refused("for the night").await;
    // The doctor names it, and what to do.
    let doctor = process::expect(&["node", "doctor", "--home", &home]).await;
    assert!(doctor.contains(&format!("WARN  stopped: model {model} is stopped since")), "{doctor}");
    assert!(doctor.contains(&format!("comity node resume --home {home} --model {model}")), "{doctor}");
    federation.service("lab").end().await;
    process::expect(&["node", "resume", "--home", &home, "--model", &model, "--reason", "morning"]).await;
    federation.service("lab").restart().await;
    eventually("it answers", async || ask().await.map_err(|(_, said)| said)).await;

    // Who said what and why is kept.
    let log = json_of(&["node", "stop", "--home", &home, "--log", "--json"]).await;
    let said: Vec<_> = log.as_array().expect("a list").iter().map(|said| (&said["act"], &said["reason"])).collect();
    assert_eq!(
        said[..4],
        [
            (&json!("resumed"), &json!("morning")),
            (&json!("resumed"), &json!("moved")),
            (&json!("stopped"), &json!("moving house")),
            (&json!("stopped"), &json!("for the night")),
        ]
    );
    assert_eq!(said.len(), 10);
    client.finish(token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    federation.end().await;
}

mod postgres {
    use super::*;

    /// `--now`, said to one process of a node, ends what runs at the other within a second; nothing is charged for it.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_stopped_at_one_process_ends_at_the_other_within_a_second() {
        let database = Database::create().await;
        let url = database.url();
        let furnish = |home: &Path, publish: bool| {
            let text = format!("[feed]\npublish = {publish}\n[spend]\nstore_file = \"keys/spend.url\"\n");
            std::fs::write(home.join("node.toml"), text).expect("node.toml");
            comity_node::home::write_secret(&home.join("keys/spend.url"), url.as_bytes()).expect("a secret");
        };
        let upstream = Scripted::shut().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
            if name == lab.name {
                furnish(home, true);
            }
        })
        .await;
        federation.replica("lab", "lab-b", |home| furnish(home, false)).await;
        let client = federation.client("raw");
        let node = federation.card("lab").node;
        eventually("a certificate that names both processes", async || {
            client.refresh().await.map_err(|error| chain(&error))?;
            let keys = client.directory().certificate(node).map_or(0, |certificate| certificate.transport_keys.len());
            if keys == 2 { Ok(()) } else { Err(format!("{keys} keys")) }
        })
        .await;
        let price = Amount::from_ucr(REQUEST_UCR);
        let holder = Holder::mint(&federation, &client, &lab.model(), Amount::from_ucr(REQUEST_UCR * 8), 8).await;
        let first = holder.at(federation.address("lab"));
        let request = holder.sign(&lab.model(), 0, 1, price);
        let running = first.send(&request);
        let home = federation.path().join("lab-b").display().to_string();
        let stopping = async {
            eventually("the model is asked", async || match upstream.asked() {
                1 => Ok(()),
                asked => Err(format!("{asked}")),
            })
            .await;
            let stop = ["node", "stop", "--home", &home, "--all", "--now", "--reason", "a leak"];
            process::expect(&stop).await;
            Instant::now()
        };
        let (met, said_at) = tokio::join!(
            async {
                let met = running.await;
                (met, Instant::now())
            },
            stopping
        );
        let (met, met_at) = met;
        assert!(matches!(met, Met::Refused { code: Code::Stopped, status: 503, receipt: None }), "{met:?}");
        let took = met_at.saturating_duration_since(said_at);
        // A second is what it takes; a machine that does much else besides takes longer, and a stop that was not heard takes for ever.
        assert!(took < Duration::from_secs(10), "{took:?} after the command had ended");
        let lanes = first.lanes().await;
        assert_eq!((lanes.charged, lanes.held), (Amount::ZERO, Amount::ZERO));
        // The other process is stopped, too, where the command spoke to this one.
        for process in ["lab", "lab-b"] {
            let met = holder.at(federation.address(process)).send(&holder.sign(&lab.model(), 1, 1, price)).await;
            assert!(matches!(met, Met::Refused { code: Code::Stopped, .. }), "{process}: {met:?}");
        }
        assert_eq!(upstream.asked(), 1);
        // Neither runs: the command writes the store that they share.
        for process in ["lab", "lab-b"] {
            federation.service(process).end().await;
        }
        process::expect(&["node", "resume", "--home", &home, "--all", "--reason", "it was closed"]).await;
        assert_eq!(process::expect(&["node", "stop", "--home", &home, "--list"]).await.trim(), "nothing is stopped");
    }
}
