//! Every command of `docs/operating/probes.md`, in its order, against processes: an owner counts more than there is, is shown what was found,
//! answers, and everybody reads both.

use comity_http::dial::Client;
use comity_http::{Endpoint, TrustedKeys};
use comity_tests::{eventually, page, process};
use http::Method;
use serde_json::Value;

use super::probed::{PAGE, Stage};

/// What anybody reads at the house.
async fn published(stage: &Stage) -> Vec<Value> {
    let trusted = TrustedKeys::Exactly(vec![*stage.federation.transport_key("house").as_bytes()]);
    let addresses = vec![stage.federation.address("house")];
    let client = Client::new(Endpoint { addresses, trusted }).expect("an address");
    let reply: Value = client.call(Method::GET, "/v1/findings", None::<&()>).await.expect("the house answers");
    reply["findings"].as_array().expect("a list").clone()
}

/// More for one of the projects, as for any: the probes have it from the next `init` on.
async fn supplemented(stage: &Stage) {
    let home = stage.house.display().to_string();
    let lot = async || stage.json(&["status", "--json"]).await["lot"].as_u64().expect("an amount");
    let before = lot().await;
    let profile = std::fs::read_to_string(stage.house.join("probe/people/00000/profile.toml")).expect("a profile");
    let project =
        profile.lines().find_map(|line| line.strip_prefix("project = ")).expect("a project").trim_matches('"');
    let shown = process::expect(&["clearing", "project", "show", "--home", &home, project]).await;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let award = shown["lots"][0]["award"].as_str().expect("an award");
    let more = ["clearing", "award", "supplement", "--home", &home, award, "--number", "1", "--part", "2"];
    process::expect(&more).await;
    stage.json(&["init"]).await;
    assert_eq!(lot().await, before + 2_000_000);
}

/// The process that goes on: one at a time, and what is asked of it meanwhile is done by it.
async fn goes_on(stage: &Stage) {
    let home = stage.house.display().to_string();
    let running = process::spawn(&["clearing", "probe", "run", "--home", &home]);
    eventually("it runs", async || {
        let status = stage.json(&["status", "--json"]).await;
        if status["running"] == true { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    for second in [vec!["run", "--once"], vec!["init"]] {
        let words = [&["clearing", "probe", second[0], "--home", &home], &second[1..]].concat();
        let refused = process::run(&words).await;
        assert!(!refused.success && refused.stderr.contains("hint"), "{}", refused.stderr);
    }
    let stopped = process::stop(running).await;
    assert!(stopped.success && stopped.stdout.contains("stopped"), "{}{}", stopped.stdout, stopped.stderr);
    assert_eq!(stage.json(&["status", "--json"]).await["running"], false);
}

/// A backup that is taken while they ask has what they know, and a home that it is put into goes on from there.
async fn comes_back(stage: &Stage) {
    let path = |name: &str| stage.federation.path().join(name).display().to_string();
    let (home, backup, again) = (path("house"), path("backup"), path("house-again"));
    let running = process::spawn(&["clearing", "probe", "run", "--home", &home]);
    process::expect(&["clearing", "backup", "--home", &home, "--out", &backup, "--with-keys"]).await;
    process::stop(running).await;
    let restored = process::expect(&["clearing", "restore", "--from", &backup, "--home", &again]).await;
    let restored: Value = serde_json::from_str(&restored).expect("JSON");
    let put = restored["put"].as_array().expect("a list");
    for name in ["probe.toml", "probe/journal", "probe/people/00000/wallet.journal", "keys/probe.key"] {
        assert!(put.iter().any(|put| put == name), "{name}: {restored}");
    }
    let status = process::expect(&["clearing", "probe", "status", "--home", &again, "--json"]).await;
    let mut status: Value = serde_json::from_str(&status).expect("JSON");
    let mut here = stage.json(&["status", "--json"]).await;
    for told in [&mut status, &mut here] {
        told.as_object_mut().expect("an object").remove("at").expect("when it was asked");
    }
    assert_eq!(status, here);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_shown_answered_and_published() {
    let mut stage = Stage::start().await;
    stage.write();
    let folder = stage.federation.path().to_owned();
    let home = |name: &str| folder.join(name).display().to_string();
    let (roster, hub) = (folder.join("roster/roster.cbor").display().to_string(), stage.federation.address("hub"));
    process::expect(&["--home", &home("reader"), "init", "--roster", &roster, "--entry", &hub]).await;
    let house = stage.federation.address("house");
    let mut id = String::new();
    let commands = PAGE.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("it ends"));
    let commands: Vec<&str> = commands.flat_map(str::lines).filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(commands.len(), 11, "{commands:?}");
    for line in commands {
        let mut words = page::words(line);
        assert_eq!(words.remove(0), "comity", "{line}");
        if line.contains("receipts verify") {
            words.pop();
            let files = std::fs::read_dir(folder.join("evidence")).expect("a folder");
            words.extend(files.map(|file| file.expect("a file").path().display().to_string()));
            words.splice(0..0, ["--home".to_owned(), home("reader")]);
        }
        for word in &mut words {
            match word.as_str() {
                "house" | "lab" | "evidence" => *word = home(word),
                "https://house.example:4443" => word.clone_from(&house),
                "ID" => word.clone_from(&id),
                _ => {}
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Before its owner could answer it is nobody else's.
        if line.contains("findings answer") {
            let publish = [
                "clearing",
                "probe",
                "findings",
                "publish",
                "--home",
                &home("house"),
                &id,
                "--by",
                "Ada",
                "--reason",
                "now",
            ];
            let early = process::run(&publish).await;
            assert!(!early.success && early.stderr.contains("too_early"), "{}", early.stderr);
            assert!(published(&stage).await.is_empty());
        }
        let said = process::expect(&words).await;
        let json = || serde_json::from_str::<Value>(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"));
        if line.contains("probe init") {
            assert!(json()["new"].as_u64() >= Some(8), "{said}");
            let key = std::fs::metadata(stage.house.join("keys/probe.key")).expect("a secret");
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
            // Again: the same people.
            assert_eq!(stage.json(&["init"]).await["new"], 0);
            supplemented(&stage).await;
        } else if line.contains("--once") {
            assert_eq!(json()["failed"], 0, "{said}");
            goes_on(&stage).await;
        } else if line.contains("probe status") {
            assert!(
                said.contains("not running") && said.contains("lab/model") && said.contains("no baseline yet"),
                "{said}"
            );
            // Days go by, then the node's server counts a twentieth more.
            for _ in 0..4 {
                stage.play().await;
            }
            assert!(stage.found().await.is_empty());
            comes_back(&stage).await;
            stage.upstream.counts_more(5);
            let found = stage.until_found(4, "meters/input_varies").await;
            found["id"].as_str().expect("an id").clone_into(&mut id);
            let finding = stage.verified(&id).await;
            assert!(finding["evidence"]["excess"].as_u64() >= Some(3), "{finding}");
        } else if line.contains("probe findings list") {
            let list = json();
            let one = list
                .as_array()
                .and_then(|list| list.iter().find(|one| one["id"] == id.as_str()))
                .expect("it is listed");
            assert_eq!((one["state"].as_str(), &one["dealt_with"]), (Some("drawn"), &Value::Bool(false)));
        } else if line.contains("findings look") {
            let named = json()["evidence"]["receipts"].as_array().map(Vec::len);
            assert_eq!(named, std::fs::read_dir(folder.join("evidence")).ok().map(Iterator::count));
        } else if line.contains("receipts verify") {
            assert!(said.contains("receipts stand"), "{said}");
        } else if line.contains("findings show") {
            assert!(json()["state"]["shown"]["answer_by"].is_u64(), "{said}");
            let list = stage.found().await;
            assert!(list.iter().any(|one| one["id"] == id.as_str() && one["dealt_with"] == true), "{list:?}");
            // The node looks at its start, and twice a day.
            let lab = stage.federation.service("lab");
            assert!(!lab.log().contains(&id), "nobody was told before");
            lab.end().await;
            lab.restart().await;
            eventually("the node's log says so", async || {
                let log = stage.federation.service("lab").log();
                if log.contains(&id) && log.contains("waits for an answer") { Ok(()) } else { Err(log) }
            })
            .await;
        } else if line.contains("node findings list") {
            let list = json();
            assert_eq!((list[0]["id"].as_str(), list[0]["answer"].as_str()), (Some(id.as_str()), None), "{said}");
            assert!(!said.contains("prompt") && !said.contains("persona"), "{said}");
        } else if line.contains("findings answer") {
            assert!(json()["answer"].as_str().expect("an answer").starts_with("A driver"), "{said}");
        } else if line.contains("findings publish") {
            let all = published(&stage).await;
            assert_eq!(all[0]["state"]["published"]["by"], "Ada Lovelace");
            assert!(all[0]["answer"].as_str().expect("the answer goes with it").starts_with("A driver"));
        } else {
            assert!(line.contains("findings withdraw"), "{line}");
            assert_eq!(
                published(&stage).await[0]["state"]["withdrawn"]["reason"],
                "The owner has shown the driver's log."
            );
        }
    }
    stage.federation.books_add_up().await;
    stage.federation.end().await;
}
