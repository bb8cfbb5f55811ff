//! `comity demo --json`: the whole loop, and every sum of it.

use std::collections::BTreeSet;

use comity_tests::process;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn awarded_is_settled_and_available_and_every_query_has_its_receipt() {
    let ended = process::run(&["demo", "--json"]).await;
    assert!(ended.success, "the demo failed:\n{}", ended.stderr);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "one object and nothing else on stdout: {}", ended.stdout);
    let report: Value = serde_json::from_str(lines[0]).expect("one JSON object");
    let number = |name: &str| report[name].as_i64().unwrap_or_else(|| panic!("{name} is missing: {report}"));

    assert_eq!(number("awarded_ucr"), number("settled_ucr") + number("available_ucr"), "{report}");
    assert_eq!(number("charged_ucr"), number("settled_ucr"), "{report}");
    assert_eq!(number("ledger_sum_ucr"), 0, "{report}");
    assert_eq!(number("receipts_verified"), number("queries"), "{report}");
    assert!(number("charged_ucr") > 0, "something was paid for: {report}");
    assert!(number("refunded_ucr") > 0, "something went home: {report}");
    assert_eq!((number("nodes"), number("models")), (5, 4), "{report}");
    assert!(number("queries") >= 4, "{report}");

    let refusals = report["refusals"].as_array().expect("a list of refusals");
    let codes: BTreeSet<_> = refusals.iter().filter_map(|refusal| refusal["code"].as_str()).collect();
    for code in ["grant_required", "budget_exhausted"] {
        assert!(codes.contains(code), "nobody was refused for {code}: {report}");
    }
    assert!(refusals.iter().all(|refusal| refusal["case"].as_str().is_some_and(|case| !case.is_empty())), "{report}");
}
