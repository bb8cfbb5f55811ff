//! Every command of `docs/operating/terms.md`, in its order, against processes: a tier asks for terms of use, a researcher reads and signs
//! them, and they change without anybody losing what they had.

use std::cell::RefCell;
use std::path::Path;

use comity_tests::federation::{LOOPBACK, PER_REQUEST};
use comity_tests::{Federation, Owner, Scripted, eventually, page, process};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/operating/terms.md");

#[tokio::test(flavor = "multi_thread")]
async fn a_project_agrees_before_it_calls_and_to_the_next_terms_in_time() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |_, _| {}).await;
    let home = federation.researcher().await;

    let lab_home = federation.path().join("lab");
    let (model, terms) = (lab_home.join("models/model.toml"), lab_home.join("terms"));
    let offer = std::fs::read_to_string(&model).expect("an offer");
    let (asking, text) = (page::blocks(PAGE, "toml"), &page::blocks(PAGE, "markdown")[0]);
    std::fs::create_dir_all(&terms).expect("a folder");
    std::fs::write(terms.join("research-1.md"), text).expect("a text");
    std::fs::write(&model, format!("{offer}\n{}", asking[0])).expect("it can be written");

    let (digest, subject) = (RefCell::new(String::new()), RefCell::new(String::new()));
    let run = async |line: &str| {
        let line = line.replace("DIGEST", &digest.borrow()).replace("sub-…", &subject.borrow());
        let mut words = page::words(&line);
        assert_eq!(words.remove(0), "comity", "{line}");
        match words.iter().position(|word| word == "lab") {
            Some(lab) => words[lab] = lab_home.display().to_string(),
            None => drop(words.splice(0..0, ["--home".to_owned(), home.clone()])),
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        process::run(&words).await
    };
    let chat = async || run("comity chat lab/model --max-tokens 8 hello").await;
    // What was published comes to the researcher a moment later.
    let shown = async |title: &str| {
        eventually(title, async || {
            let said = run("comity access terms show lab/model").await;
            let digest = said.stdout.split("--terms ").nth(1).and_then(|rest| rest.split_whitespace().next());
            let digest = digest.unwrap_or_default();
            if said.success && said.stdout.contains(title) { Ok(digest.to_owned()) } else { Err(said.stderr) }
        })
        .await
    };
    let mut played = 0;
    for block in page::blocks(PAGE, "sh") {
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            if line == "comity policy diff --home lab" && played > 1 {
                let next = text.replace("version 1", "version 2").replace("no text", "nothing");
                std::fs::write(terms.join("research-2.md"), next).expect("a text");
                std::fs::write(&model, format!("{offer}\n{}", asking[1])).expect("it can be written");
            }
            if line.contains("terms show") && played < 5 {
                *digest.borrow_mut() = shown("Research use, version 1").await;
                // Whoever has not signed is told what to do, and nothing else is signed by mistake.
                let refused = chat().await;
                assert!(!refused.success && refused.stderr.contains("terms show"), "{}", refused.stderr);
                let other = run(&format!("comity access terms sign lab/model --terms {}", "00".repeat(32))).await;
                assert!(!other.success && other.stderr.contains("no terms of use of that digest"), "{}", other.stderr);
            } else if line.contains("terms show") {
                *digest.borrow_mut() = shown("Research use, version 2").await;
            } else if line.contains("agreements --home lab --as") {
                let known = federation.account().await.pseudonyms;
                *subject.borrow_mut() = known.first().expect("the lab knows it by a name").subject.to_string();
            }
            let said = run(line).await;
            assert!(said.success, "{line}\n{}{}", said.stdout, said.stderr);
            played += 1;
            let says = |what: &str| assert!(said.stdout.contains(what), "{line}\n{}", said.stdout);
            match played {
                2 => {
                    says("loses: chat for vetting registered: t1 → nothing");
                    let stopped = run("comity policy publish --home lab").await;
                    assert!(!stopped.success && stopped.stderr.contains("'from' and 'before'"), "{}", stopped.stderr);
                }
                4 => {
                    says("# Research use, version 1");
                    says("comity access terms sign lab/model --terms");
                }
                5 => {
                    says("your project agreed to 'Research use, version 1'");
                    assert!(chat().await.success, "it is signed");
                    let copies = std::fs::read_dir(Path::new(&home).join("terms")).expect("copies").count();
                    assert_eq!(copies, 1);
                }
                6 => says("Research use, version 1"),
                7 => says("Research use, version 1"),
                8 => {
                    let agreed: Value = serde_json::from_str(&said.stdout).expect("JSON");
                    assert!(agreed[0]["proof"]["agreement"].is_string() && agreed[0]["proof"]["token"].is_string());
                }
                9 => says("t1"),
                10 => {
                    says("t1.terms_from");
                    assert!(!said.stdout.contains("loses"), "{}", said.stdout);
                }
                12 => says("from 2099-01-01"),
                _ => {}
            }
        }
    }
    assert_eq!(played, 12, "each command of the page was played");
    // Nobody lost anything, and who signs early is done.
    let still = chat().await;
    assert!(still.success, "{}", still.stderr);
    let early = run("comity access terms sign lab/model --terms DIGEST").await;
    assert!(early.success && early.stdout.contains("version 2"), "{}{}", early.stdout, early.stderr);
    let listed = run("comity access terms list lab/model").await.stdout;
    assert!(listed.contains("version 1") && listed.contains("version 2"), "{listed}");
    // What a node keeps of the project has both.
    let into = federation.path().join("kept").display().to_string();
    let (lab_home, subject) = (lab_home.display().to_string(), subject.borrow().clone());
    let export = ["node", "export", "--home", &lab_home, "--project", &subject, "--into", &into];
    process::expect(&[&export[..], &["--reason", "they ask what we have"]].concat()).await;
    let agreements = std::fs::read_to_string(Path::new(&into).join("agreements.jsonl")).expect("they are there");
    assert_eq!(agreements.lines().count(), 2);
    federation.end().await;
}
