//! Every command of `docs/operating/plans.md`, in its order, against processes: a plan is checked, applied with, read, approved, and
//! executed as often as it was approved.

use std::cell::RefCell;
use std::path::Path;

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, page, process};
use comity_wire::object::Run;
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/operating/plans.md");

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_executed_as_often_as_it_was_approved() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let furnish = |name: &str, home: &Path| {
        if name == "lab" {
            let model = home.join("models/model.toml");
            let offer = std::fs::read_to_string(&model).expect("an offer");
            let audited = offer.replace("tier = \"t1\"", "tier = \"t3\"").replace("grant = false", "grant = true");
            std::fs::write(model, audited).expect("it can be written");
        }
    };
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
    let home = federation.researcher().await;
    let plan = federation.path().join("plan.toml");
    std::fs::write(&plan, &page::blocks(PAGE, "toml")[0]).expect("a plan");

    let (application, digest) = (RefCell::new(String::new()), RefCell::new(String::new()));
    let run = async |line: &str| {
        let line = line.replace("app-…", &application.borrow());
        let mut words = page::words(&line);
        assert_eq!(words.remove(0), "comity", "{line}");
        match words.iter().position(|word| word == "lab") {
            Some(lab) => words[lab] = federation.path().join("lab").display().to_string(),
            None => drop(words.splice(0..0, ["--home".to_owned(), home.clone()])),
        }
        words.iter_mut().filter(|word| *word == "plan.toml").for_each(|word| *word = plan.display().to_string());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        process::run(&words).await
    };
    let mut played = 0;
    for block in page::blocks(PAGE, "sh") {
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            let said = run(line).await;
            assert!(said.success, "{line}\n{}{}", said.stdout, said.stderr);
            played += 1;
            let says = |what: &str| assert!(said.stdout.contains(what), "{line}\n{}", said.stdout);
            if line.contains("plan check") {
                says("2 calls, 10000 tokens in, 64 tokens out, 16 in one answer");
                *digest.borrow_mut() = said.stdout.split_whitespace().nth(1).expect("a digest").to_owned();
            } else if line.contains("plan dry-run") {
                says("once approved  answered in tier t3");
                says("needs its owner's grant for tier t3");
                says("an execution costs at most");
                assert_eq!(upstream.asked(), 0, "no model was asked");
            } else if line.contains("access apply") {
                says("submitted");
                let id = said.stdout.split_whitespace().find(|word| word.starts_with("app-")).expect("an id");
                *application.borrow_mut() = id.to_owned();
                // Tier t3 without the plan that was attached: refused, and nothing was decided.
                let alone = "comity requests decide --home lab app-… --approve --tier t3 --reason sure";
                let refused = run(alone).await;
                assert!(!refused.success && refused.stderr.contains("needs an approved plan"), "{}", refused.stderr);
                let other = format!("{alone} --plan-executions 1 --plan {}", "11".repeat(32));
                let refused = run(&other).await;
                assert!(!refused.success && refused.stderr.contains("not attached"), "{}", refused.stderr);
                let early = run("comity chat lab/model --run first --max-tokens 8 early").await;
                assert!(!early.success && early.stderr.contains("grant"), "{}", early.stderr);
            } else if line.contains("requests show") {
                says(&format!("plan {}", digest.borrow()));
                says("One rate for each length, published with the receipts.");
                says("2 calls, 10000 tokens in");
            } else if line.contains("requests decide") {
                says("approved");
            } else if line.contains("requests grants") {
                let grants: Value = serde_json::from_str(&said.stdout).expect("JSON");
                let of = |name: &str| grants[0][name].clone();
                assert_eq!((of("plan"), of("executions")), (Value::from(digest.borrow().as_str()), Value::from(2)));
            } else if line.contains("access status") {
                says("plan 'Where does it say no': 1 of 2 executions left");
                says("chat 2 calls");
            }
        }
    }
    assert_eq!(played, 9, "each command of the page was played");

    let asked = upstream.asked();
    let refused = async |line: &str, what: &str| {
        let said = run(line).await;
        assert!(!said.success && said.stderr.contains(what), "{line}\n{}{}", said.stdout, said.stderr);
    };
    refused("comity chat lab/model --max-tokens 8 nameless", "_required").await;
    refused("comity chat lab/model --run first --max-tokens 8 more", "0 calls of chat are left").await;
    assert_eq!(upstream.asked(), asked, "the model was asked for nothing that is not approved");

    // Another client of the project, and the node started in between: it goes on where it was.
    let client = federation.client("asker");
    let second: Run = "second".parse().expect("it names a run");
    let ask = async |question: &str, run: &Run| {
        let query = Query::chat(lab.model(), &[("user", question)], Some(8), false).within(run);
        client.ask(&query).await.map(drop).map_err(|error| chain(&error))
    };
    ask("Where?", &second).await.expect("the second execution");
    let mut federation = federation;
    federation.service("lab").kill().await;
    federation.service("lab").restart().await;
    eventually("the node answers again", async || ask("When?", &second).await).await;
    let used = ask("Why?", &second).await.expect_err("it was two calls");
    assert!(used.contains("plan_exhausted") && used.contains("are left of run 'second'"), "{used}");
    let used = ask("Who?", &"third".parse().expect("it names a run")).await.expect_err("it was approved twice");
    assert!(used.contains("approved for 2 executions"), "{used}");
    federation.books_add_up().await;
    federation.end().await;
}
