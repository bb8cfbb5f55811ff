//! Pages that claim something and name the test that shows it: the test is there, and no claim stands alone.
//!
//! A row of `docs/reference/cases.md` and `docs/operating/threat-model.md` ends in the tests that show it, as
//! `cargo nextest list` writes them (`comity-gateway tests::money::a_stream_is_replayed_whole`), in functions of the two
//! packages' own groups (`tests/python/surface.py penniless`), or in a sentence that begins with "Cannot occur:".

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A sentence shorter than this says nothing.
const SENTENCE_BYTES_MIN: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

#[test]
fn every_case_of_other_gateways_is_shown_or_cannot_occur() {
    let page = std::fs::read_to_string(root().join("docs/reference/cases.md")).expect("the page");
    let rows = check(&page);
    assert!(rows >= 60, "{rows} cases");
}

#[test]
fn every_defence_of_the_threat_model_is_shown_or_cannot_be_needed() {
    let page = std::fs::read_to_string(root().join("docs/operating/threat-model.md")).expect("the page");
    let rows = check(&page);
    assert!(rows >= 20, "{rows} threats");
}

/// How many rows there are; fails where one is not shown.
fn check(page: &str) -> usize {
    let rows: Vec<Vec<&str>> = page.lines().filter(|line| line.starts_with("| `")).map(cells).collect();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(ids.len(), rows.len(), "an id is there twice");
    let mut wrong = Vec::new();
    for row in &rows {
        let shown = row.last().expect("a row has cells");
        if let Some(sentence) = shown.strip_prefix("Cannot occur:") {
            if sentence.len() < SENTENCE_BYTES_MIN {
                wrong.push(format!("{}: why can it not occur?", row[0]));
            }
            continue;
        }
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("{}: neither a test nor why it cannot occur", row[0]));
        }
        wrong.extend(names.iter().filter(|name| !is_there(name)).map(|name| format!("{}: no test {name}", row[0])));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    rows.len()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split(" | ").map(str::trim).collect()
}

/// `crate path::test`, `crate::binary path::test`, or `file function`.
fn is_there(name: &str) -> bool {
    let Some((of, path)) = name.split_once(' ') else { return false };
    if of.contains('/') {
        let text = std::fs::read_to_string(root().join(of)).unwrap_or_default();
        return [format!("def {path}("), format!("function {path}(")].iter().any(|head| text.contains(head));
    }
    let (package, binary) = of.split_once("::").map_or((of, None), |(package, binary)| (package, Some(binary)));
    let folder = match package {
        "comity-node" => root().join("node"),
        "comity-sdk" => root().join("sdk/rust"),
        "comity-tests" => root().join("tests"),
        package => root().join("crates").join(package),
    };
    let (modules, test) = path.rsplit_once("::").unwrap_or(("", path));
    let modules: Vec<&str> = modules.split("::").filter(|module| !module.is_empty()).collect();
    let mut base = match binary {
        None => folder.join("src"),
        Some(binary) if package == "comity-tests" => folder.join(binary),
        Some(binary) if modules.is_empty() => {
            return has_test(&folder.join("tests").join(format!("{binary}.rs")), test);
        }
        Some(binary) => folder.join("tests").join(binary),
    };
    let Some((last, above)) = modules.split_last() else { return false };
    above.iter().for_each(|module| base.push(module));
    // A file of its own, or a module within the file above; what needs a PostgreSQL stands in a module of that name.
    let is_within = ["tests", "postgres"].contains(last);
    has_test(&base.join(format!("{last}.rs")), test) || (is_within && has_test(&base.with_extension("rs"), test))
}

/// Whether the file has a function of this name under `#[test]` or `#[tokio::test…]`.
fn has_test(file: &Path, test: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    // A story that is told through each door is three tests.
    if text.contains(&format!("through_each_door!({test});")) {
        return true;
    }
    // One that is told on each engine is two.
    if let Some((_, told)) = text.split_once("on_each_store! {") {
        let names = told.split('}').next().unwrap_or_default();
        if names.lines().any(|line| line.trim() == test) {
            return true;
        }
    }
    let heads = [format!("fn {test}("), format!("async fn {test}(")];
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if heads.iter().any(|head| line.starts_with(head.as_str())) {
            return is_test;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    false
}

#[test]
fn a_test_that_is_not_there_is_seen() {
    for name in [
        "comity-gateway tests::money::a_stream_is_replayed_whole",
        "comity-wire amount::tests::amounts_read_in_credits",
        "comity-clearing tests::story::a_quote_pins_what_the_owner_published",
        "comity-guard::filter a_disguised_word_is_the_same_word",
        "comity-tests::it architecture::tidy::the_toolchain_is_exactly_1_95_0",
        "comity-tests::it named_tests::a_test_that_is_not_there_is_seen",
        "tests/python/surface.py penniless",
        "tests/node/surface.mjs embedded",
    ] {
        assert!(is_there(name), "{name}");
    }
    for name in [
        "comity-gateway tests::money::a_stream_is_replayed",
        "comity-gateway tests::money::by_request",
        "comity-clearing tests::story::a_quote_pins",
        "comity-gateway tests::service::a_stream_is_replayed_whole",
        "comity-guard::filter nothing",
        "tests/python/surface.py nothing",
        "a_stream_is_replayed_whole",
        "",
    ] {
        assert!(!is_there(name), "{name}");
    }
    for row in ["| `a` | x | |", "| `a` | x | Cannot occur: no. |", "| `a` | x | see the code |"] {
        assert!(std::panic::catch_unwind(|| check(row)).is_err(), "{row}");
    }
}
