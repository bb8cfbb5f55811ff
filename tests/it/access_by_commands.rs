//! Every command of `docs/operating/access.md`, in its order, against processes: a project asks, the owner answers, and calls are let in
//! and refused by what was decided.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, page, process};
use comity_wire::{Amount, ModelId};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/operating/access.md");

/// What the page leaves open.
#[derive(Default)]
struct Found {
    application: String,
    subject: String,
    grant: String,
    /// The application's link, as it was handed in.
    link: String,
}

async fn ask(client: &comity_sdk::Client, model: &ModelId) -> Result<(), String> {
    let query = Query::chat(model.clone(), &[("user", "Where?")], Some(8), false);
    client.ask(&query).await.map(drop).map_err(|error| chain(&error))
}

fn today() -> String {
    let text = comity_node::shell::now().to_string();
    text.split('T').next().expect("a day").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page_and_what_callers_meet() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let toml = page::blocks(PAGE, "toml");
    let (node, form) = (&toml[0], &toml[1]);
    let furnish = |name: &str, home: &Path| {
        if name != "lab" {
            return;
        }
        std::fs::write(home.join("node.toml"), node).expect("node.toml");
        std::fs::create_dir_all(home.join("forms")).expect("a folder");
        std::fs::write(home.join("forms/restricted.toml"), form).expect("a form");
        let model = home.join("models/model.toml");
        let offer = std::fs::read_to_string(&model).expect("an offer");
        std::fs::write(model, offer.replace("grant = false", "grant = true")).expect("it can be written");
    };
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
    let home = federation.researcher().await;

    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(40 * REQUEST_UCR), 0).await;
    token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let refused = ask(&client, &lab.model()).await.expect_err("nobody was asked yet");
    assert!(refused.contains("grant_required"), "{refused}");

    let found = RefCell::new(Found::default());
    let said_of = async |line: &str| {
        let line = {
            let found = found.borrow();
            line.replace("app-…", &found.application).replace("sub-…", &found.subject).replace("grant-…", &found.grant)
        };
        let line = line.replace("LINK", &found.borrow().link);
        let mut words = page::words(&line.replace("2026-11-29", &today()));
        assert_eq!(words.remove(0), "comity", "{line}");
        if words[0] == "access" {
            words.splice(0..0, ["--home".to_owned(), home.clone()]);
        } else {
            let lab = words.iter().position(|word| word == "lab").expect("an owner's command names its home");
            words[lab] = federation.path().join("lab").display().to_string();
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        process::run(&words).await
    };
    let play = async |line: &str| -> String {
        let said = said_of(line).await;
        assert!(said.success, "{line}\n{}{}", said.stdout, said.stderr);
        said.stdout
    };
    let refuses = async |line: &str, why: &str| {
        let said = said_of(line).await;
        assert!(!said.success && said.stderr.contains(why), "{line}\n{}{}", said.stdout, said.stderr);
    };
    let mut played = 0;
    for block in page::blocks(PAGE, "sh") {
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            let said = play(line).await;
            played += 1;
            let says = |what: &str| assert!(said.contains(what), "{line}\n{said}");
            let is = |words: &str| line.starts_with(&format!("comity {words}"));
            if is("access form") {
                says("purpose");
                says("14 days");
            } else if is("access apply") {
                says("submitted");
                says("waits for  the owner");
                let id = said.split_whitespace().find(|word| word.starts_with("app-")).expect("an id");
                found.borrow_mut().application = id.to_owned();
                // The names are in no line that the owner reads before it is shown.
                let seen = play("comity requests show --home lab --json app-…").await;
                assert!(!seen.contains("Jena") && !seen.contains("Lovelace"), "{seen}");
                let seen: Value = serde_json::from_str(&seen).expect("JSON");
                found.borrow_mut().subject = seen["subject"].as_str().expect("a pseudonym").to_owned();
                found.borrow_mut().link = seen["head"].as_str().expect("a link").to_owned();
            } else if is("requests list --home lab --state revoked") || is("requests list --home lab --all") {
                says(&found.borrow().application);
            } else if is("requests show --home lab app") {
                says("which proteins fold");
            } else if line.contains("--applicant") {
                says("returned");
                assert!(play("comity access status").await.contains("waits for  you"));
            } else if is("access reveal") {
                let seen = play("comity requests show --home lab app-…").await;
                assert!(seen.contains("Uni Jena") && !seen.contains("Lovelace"), "{seen}");
            } else if is("requests remark") {
                let seen = play("comity access status --json").await;
                assert!(!seen.contains("sound, and small") && !seen.contains("the paper"), "{seen}");
                ask(&client, &lab.model()).await.expect_err("nothing was decided yet");
                // What was looked at when it was handed in is not what would be decided on now.
                let old = "comity requests decide --home lab --as dora --seen LINK app-… --reject --reason \"no\"";
                refuses(old, "application_moved").await;
            } else if is("requests grants --home lab") && !line.contains("--on") {
                // A grant that an application led to is taken back there, where the researcher reads why.
                let grant = said.split_whitespace().next().expect("a grant").to_owned();
                let past = format!("comity requests revoke --home lab --grant {grant} --reason \"harm\"");
                refuses(&past, "came of application").await;
                ask(&client, &lab.model()).await.expect("nothing was taken back");
            } else if line.contains("--as dora app-… --approve") {
                says("approved");
                ask(&client, &lab.model()).await.expect("it was granted");
            } else if line.contains("revoke --home lab --as dora") {
                let at = Instant::now();
                let refused = ask(&client, &lab.model()).await.expect_err("it was taken back");
                assert!(refused.contains("grant_required"), "{refused}");
                assert!(at.elapsed() < Duration::from_secs(20), "it is refused, not tried for ever");
                says("revoked");
            } else if line.contains("--as petra") {
                says("approved");
                ask(&client, &lab.model()).await.expect("it was reinstated");
                // Whoever took part does not answer an appeal, and the researcher cannot be told a log that was rewritten.
                let kept = Path::new(&home).join("applications").join(format!("{}.json", found.borrow().application));
                let text = std::fs::read_to_string(&kept).expect("what the researcher keeps");
                let mut other: Value = serde_json::from_str(&text).expect("JSON");
                play("comity access status").await;
                other["head"] = Value::from("11".repeat(32));
                std::fs::write(&kept, other.to_string()).expect("it can be written");
                let said = process::run(&["--home", &home, "access", "status"]).await;
                assert!(!said.success && said.stderr.contains("rewritten"), "{}", said.stderr);
                std::fs::write(&kept, text).expect("it can be written");
            } else if is("requests grant ") {
                let grant: Value = serde_json::from_str(&said).expect("JSON");
                found.borrow_mut().grant = grant["grant"].as_str().expect("an id").to_owned();
            } else if line.contains("--grant grant-…") {
                says("withdrawn");
                let held = play("comity requests grants --home lab").await;
                assert!(!held.contains(&found.borrow().grant) && held.contains("a month"), "{held}");
                ask(&client, &lab.model()).await.expect("another grant holds");
            } else if line.contains("--on") {
                says("taken back");
                says("a month, then we look again");
            }
        }
    }
    assert_eq!(played, 23, "each command of the page was played");

    // The owner's feed says what was taken back.
    let scout = federation.client("scout");
    let org = federation.card("lab").organisation;
    eventually("the revocation list names what was taken back", async || {
        use comity_token::Directory as _;
        scout.refresh().await.map_err(|error| chain(&error))?;
        let list = scout.directory().standing(org).ok_or("no list")?;
        match list.entries.len() {
            2 => Ok(()),
            entries => Err(format!("{entries} of 2")),
        }
    })
    .await;

    // The node is started again: what was decided stands, and the application is what it was.
    let mut federation = federation;
    let before = process::expect(&["--home", &home, "access", "status", "--json"]).await;
    federation.service("lab").kill().await;
    federation.service("lab").restart().await;
    eventually("the node answers again", async || ask(&client, &lab.model()).await).await;
    let after = process::expect(&["--home", &home, "access", "status", "--json"]).await;
    assert_eq!(before, after);
    process::expect(&["--home", &home, "access", "withdraw", "--reason", "we are done"]).await;
    let refused = ask(&client, &lab.model()).await.expect_err("what was granted has ended");
    assert!(refused.contains("grant_required"), "{refused}");
    federation.books_add_up().await;
    federation.end().await;
}
