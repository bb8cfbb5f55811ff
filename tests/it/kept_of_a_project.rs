//! What an owner keeps of a project is handed over and removed by the commands of `docs/operating/kept.md`.

use std::path::Path;

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::{Amount, Digest};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/operating/kept.md");
const PROMPT: &str = "canary-91ab77-of-the-prompt";

#[test]
fn each_command_of_the_page_is_played_here() {
    let played = include_str!("kept_of_a_project.rs");
    let blocks = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter(|line| line.starts_with("comity")).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    for line in lines {
        for word in line.split_whitespace().filter(|word| word.starts_with("--") && *word != "--home") {
            assert!(played.contains(&format!("\"{word}\"")), "{word} of {line} is not played");
        }
    }
}

fn keep_texts(home: &Path) {
    let path = home.join("models/model.toml");
    let text = std::fs::read_to_string(&path).expect("the model's file");
    let text = text.replace("logging = \"metadata\"", "logging = \"bodies\"");
    std::fs::write(&path, text.replace("retention_days = 0", "retention_days = 2")).expect("it can be written");
}

fn lines(folder: &str, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(folder).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_kept_of_a_project_is_handed_over_and_its_texts_removed() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name != "lab" {
            return;
        }
        keep_texts(home);
    })
    .await;
    let home = federation.path().join("lab").display().to_string();
    let key = federation.path().join("transcripts.key").display().to_string();
    federation.service("lab").end().await;
    process::expect(&["node", "transcripts", "init", "--home", &home, "--key", &key]).await;
    federation.service("lab").restart().await;
    let (client, model) = (federation.client("asker"), lab.model());
    let token = client.buy(&model, Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    for words in [PROMPT, "Where?"] {
        let query = Query::chat(model.clone(), &[("user", words)], Some(8), false);
        client.ask(&query).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let subject = federation.account().await.pseudonyms[0].subject.to_string();
    let name = model.to_string();
    // More than one page of them.
    for number in 0..24 {
        let category = ["cbrn", "cyber_offence"][number % 2];
        let open = ["cases", "open", "--home", &home, "--project", &subject, "--model", &name, "--category", category];
        process::expect(&[&open[..], &["--reason", "a word", "--by", "hanna"]].concat()).await;
    }
    let open = ["cases", "open", "--home", &home, "--project", &subject, "--model", &name, "--category", "cbrn"];
    process::expect(&[&open[..], &["--reason", "a word", "--by", "hanna"]].concat()).await;
    let grant = ["requests", "grant", "--home", &home, "--subject", &subject, "--tier", "t1", "--model", &name];
    process::expect(&[&grant[..], &["--reason", "they may"]].concat()).await;

    let stop = ["node", "stop", "--home", &home, "--project", &subject, "--reason", "a look", "--by", "hanna"];
    process::expect(&stop).await;
    process::expect(&["node", "resume", "--home", &home, "--project", &subject, "--reason", "seen"]).await;

    let into = federation.path().join("sub-ada").display().to_string();
    let export = ["node", "export", "--home", &home, "--project", &subject, "--into", &into];
    let export = [&export[..], &["--reason", "they ask what we have", "--by", "hanna"]].concat();
    let said = process::expect(&export).await;
    let text = std::fs::read(Path::new(&into).join("export.json")).expect("what was handed over");
    assert!(said.contains(&format!("export.json  {}", Digest::of(&text))), "{said}");
    let handed: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!((&handed["project"], &handed["by"]), (&json!(subject), &json!("hanna")));
    for part in handed["files"].as_array().expect("files") {
        let bytes = std::fs::read(Path::new(&into).join(part["name"].as_str().expect("a name"))).expect("it is there");
        assert_eq!(part["sha256"], json!(Digest::of(&bytes)), "{part}");
        assert!(!bytes.windows(PROMPT.len()).any(|part| part == PROMPT.as_bytes()), "texts stay sealed: {part}");
    }
    let calls = lines(&into, "calls.jsonl");
    assert_eq!(calls.len(), 2);
    assert_eq!((&calls[0]["receipt"]["n"], &calls[0]["receipt"]["model"]), (&json!(1), &json!(name)));
    assert!(calls[0]["request"].as_str().expect("a base").contains("\"@method\": POST"), "{}", calls[0]);
    assert_eq!((lines(&into, "cases.jsonl").len(), lines(&into, "grants.jsonl").len()), (25, 1));
    assert_eq!((lines(&into, "texts.jsonl").len(), lines(&into, "stops.jsonl").len()), (2, 0));
    assert_eq!((lines(&into, "stop-log.jsonl").len(), lines(&into, "removed.jsonl").len()), (2, 0));
    assert_eq!((&handed["complete"], &handed["missing"]), (&json!(true), &json!([])), "{said}");
    // Whoever has the roster can check it, far from the node.
    let roster = federation.path().join("lab/roster.cbor").display().to_string();
    let check = ["node", "export", "--check", &into, "--roster", &roster];
    let checked = process::expect(&check).await;
    assert!(checked.contains("complete: all that") && checked.contains(&subject), "{checked}");
    let counted = Path::new(&into).join("counted.json");
    let before = std::fs::read(&counted).expect("it is there");
    std::fs::write(&counted, "{}").expect("it can be written");
    let altered = process::run(&check).await;
    assert!(
        !altered.success && altered.stderr.contains("counted.json is not as it was handed over"),
        "{}",
        altered.stderr
    );
    std::fs::write(&counted, before).expect("it can be written");
    let again = process::run(&export).await;
    assert!(!again.success && again.stderr.contains("is there already"), "{}", again.stderr);

    // Of a project that has never been here there is nothing; opened, the texts can be read.
    let nobody = federation.path().join("nobody").display().to_string();
    let stranger =
        ["node", "export", "--home", &home, "--project", "sub-aaaqeayeaudaocajbifqydiob4", "--into", &nobody];
    process::expect(&[&stranger[..], &["--reason", "they ask"]].concat()).await;
    assert_eq!((lines(&nobody, "calls.jsonl").len(), lines(&nobody, "texts.jsonl").len()), (0, 0));
    assert_eq!((lines(&nobody, "cases.jsonl").len(), lines(&nobody, "grants.jsonl").len()), (0, 0));
    let opened = federation.path().join("opened").display().to_string();
    let export = ["node", "export", "--home", &home, "--project", &subject, "--into", &opened, "--key", &key];
    process::expect(&[&export[..], &["--reason", "they ask what we have"]].concat()).await;
    assert!(lines(&opened, "texts.jsonl").iter().any(|line| line["texts"].to_string().contains(PROMPT)));

    let delete = ["node", "transcripts", "delete", "--home", &home, "--subject", &subject, "--reason", "they asked"];
    let went: Value =
        serde_json::from_str(&process::expect(&[&delete[..], &["--by", "hanna"]].concat()).await).unwrap();
    assert_eq!(went, json!({ "removed": 2, "held": 0 }));
    let removed = process::expect(&["node", "transcripts", "removed", "--home", &home]).await;
    assert!(removed.contains("they asked") && removed.contains(&subject), "{removed}");
    federation.end().await;
}

mod postgres {
    use comity_scratch::Database;
    use comity_tests::eventually;
    use comity_tests::holder::{Holder, Met};
    use comity_token::Directory as _;

    use super::*;

    /// Texts lie on the disk of the process that answered: an export of one home names the others, and takes in those that it is given.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_is_not_complete_while_texts_lie_in_another_home() {
        let database = Database::create().await;
        let url = database.url();
        let furnish = |home: &Path, publish: bool| {
            let text = format!("[feed]\npublish = {publish}\n[spend]\nstore_file = \"keys/spend.url\"\n");
            std::fs::write(home.join("node.toml"), text).expect("node.toml");
            comity_node::home::write_secret(&home.join("keys/spend.url"), url.as_bytes()).expect("a secret");
        };
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
            if name == lab.name {
                furnish(home, true);
                keep_texts(home);
            }
        })
        .await;
        let first = federation.path().join("lab");
        let (home, key) =
            (first.display().to_string(), federation.path().join("transcripts.key").display().to_string());
        process::expect(&["node", "transcripts", "init", "--home", &home, "--key", &key]).await;
        let lock = first.join("transcripts.pub");
        federation
            .replica("lab", "lab-b", |home| {
                furnish(home, false);
                std::fs::copy(&lock, home.join("transcripts.pub")).expect("the same lock");
            })
            .await;
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
        for (lane, process) in [(0, "lab"), (1, "lab-b")] {
            let holder = holder.at(federation.address(process));
            let met = holder.send(&holder.sign(&lab.model(), lane, 1, price)).await;
            assert!(matches!(met, Met::Answered { .. }), "{process}: {met:?}");
        }
        let kept = async |process: &str| {
            eventually("its text is written", async || {
                let folder = comity_node::transcripts::Folder::open(&federation.path().join(process));
                let all = folder.and_then(|folder| folder.all()).map_err(|failure| failure.to_string())?;
                all.first().map(|kept| kept.head.subject.clone()).ok_or_else(|| "nothing".to_owned())
            })
            .await
        };
        let subject = kept("lab").await;
        assert_eq!(kept("lab-b").await, subject);
        let other = federation.path().join("lab-b").display().to_string();
        let root = federation.path().to_owned();
        let export = async |into: &str, more: &[&str]| {
            let into = root.join(into).display().to_string();
            let export =
                ["node", "export", "--home", &home, "--project", &subject, "--into", &into, "--reason", "asked"];
            let said = process::expect(&[&export[..], more].concat()).await;
            let text = std::fs::read(Path::new(&into).join("export.json")).expect("what was handed over");
            (said, serde_json::from_slice::<Value>(&text).expect("JSON"), lines(&into, "texts.jsonl").len(), into)
        };
        let (said, handed, texts, into) = export("one", &[]).await;
        assert_eq!((&handed["complete"], texts), (&json!(false), 1), "{said}");
        let missing = handed["missing"][0]["what"].as_str().expect("what is missing");
        assert!(missing.contains(&other) && said.contains("not complete") && said.contains(missing), "{said}");
        assert_eq!(lines(&into, "calls.jsonl").len(), 2, "the books are one");
        let roster = first.join("roster.cbor").display().to_string();
        let checked = process::expect(&["node", "export", "--check", &into, "--roster", &roster]).await;
        assert!(checked.contains("not complete") && checked.contains(&other), "{checked}");
        // Of a process that does not run, too, until its texts' days are over.
        federation.service("lab-b").end().await;
        let (_, handed, texts, _) = export("again", &[]).await;
        assert_eq!((&handed["complete"], texts), (&json!(false), 1));
        let (said, handed, texts, _) = export("all", &["--texts-of", &other]).await;
        assert_eq!((&handed["complete"], texts), (&json!(true), 2), "{said}");
        // A copy of it from before its process said last what lies there.
        let seen = federation.path().join("lab-b/home-seen");
        let told = std::fs::read_to_string(&seen).expect("when it said so").parse::<u64>().expect("seconds");
        std::fs::write(&seen, (told - 3_600).to_string()).expect("the home is ours");
        let (said, handed, texts, _) = export("stale", &["--texts-of", &other]).await;
        assert_eq!((&handed["complete"], texts), (&json!(false), 2), "{said}");
        assert!(said.contains("copy it again"), "{said}");
        federation.end().await;
    }
}
