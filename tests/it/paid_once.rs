//! A line that was paid for and has no answer is not paid for again, also once the wallet has forgotten it.

use std::path::Path;

use comity_sdk::Client;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR};
use comity_tests::process::{expect, run, run_armed};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::Amount;
use serde_json::Value;

/// As if so many calls were younger that no key is remembered.
fn forget(home: &str) {
    let path = Client::journal(Path::new(home));
    let text = std::fs::read_to_string(&path).expect("the wallet's journal");
    let line = |line: &str| {
        let mut entry: Value = serde_json::from_str(line).expect("a line");
        if let Some(open) = entry.get_mut("open").and_then(Value::as_object_mut) {
            open.remove("key");
        }
        format!("{entry}\n")
    };
    std::fs::write(path, text.lines().map(line).collect::<String>()).expect("a journal");
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("lines");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_was_paid_for_without_an_answer_is_never_paid_again_by_its_batch() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let ada = federation.researcher().await;
    let folder = federation.path();
    let (input, out) = (folder.join("in.jsonl"), folder.join("out.jsonl"));
    let line = |n: usize| format!("{{\"id\":\"q{n}\",\"prompt\":\"number {n}\"}}\n");
    std::fs::write(&input, (0..3).map(line).collect::<String>()).expect("a file");
    let (input, output) = (input.display().to_string(), out.display().to_string());
    let batch = ["--home", &ada, "batch", "run", &input, "--out", &output, "--model", "lab/model", "--max-tokens", "8"];
    let batch = [batch.as_slice(), &["--at-once", "1"]].concat();
    let cap = (3 * REQUEST_UCR).to_string();

    // The answer of the first is lost with the process, and its token ends before anybody asks for it again.
    assert!(!run_armed(&batch, "receipt.before:1").await.success);
    expect(&["--home", &ada, "wallet", "finish"]).await;
    let once = run(&batch).await;
    assert!(!once.success && once.stderr.contains("replayed"), "{}", once.stderr);
    assert_eq!(upstream.asked(), 3);
    let errors = folder.join("out.errors.jsonl");
    let lost = |errors: Vec<Value>| {
        assert_eq!(errors.len(), 1, "{errors:?}");
        let [error] = <[Value; 1]>::try_from(errors).expect("one");
        assert_eq!((&error["custom_id"], &error["error"]["code"]), (&"q0".into(), &"replayed".into()));
        assert_eq!(error["comity"]["charge_ucr"], REQUEST_UCR);
        assert!(error["error"]["hint"].as_str().expect("a hint").contains("another custom_id"), "{error}");
        error["comity"]["receipt"].clone()
    };
    let receipt = lost(read(&errors));

    forget(&ada);
    for _ in 0..2 {
        let again = run(&[batch.as_slice(), &["--cap", &cap]].concat()).await;
        assert!(!again.success && again.stderr.contains("are asked no more"), "{}", again.stderr);
        assert_eq!(upstream.asked(), 3, "it is not paid for again");
        assert_eq!(lost(read(&errors)), receipt, "what it cost stays told");
    }
    // Its charge counts for the cap: nothing else has room there.
    std::fs::write(folder.join("in.jsonl"), (0..4).map(line).collect::<String>()).expect("a file");
    let capped = run(&[batch.as_slice(), &["--cap", &cap]].concat()).await;
    assert!(!capped.success && capped.stderr.contains("stopped at the cap"), "{}", capped.stderr);
    assert_eq!(upstream.asked(), 3);
    expect(&["--home", &ada, "wallet", "finish"]).await;
    let account = federation.books_add_up().await;
    assert_eq!((account.settled.ucr(), account.in_escrow), (3 * i64::from(REQUEST_UCR), Amount::ZERO));
    federation.end().await;
}
