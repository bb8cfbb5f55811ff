//! `spec/README.md` says which rule is shown where: every mark of the chapters, and only files that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Marks such as `E-3` or `T-12` in a text.
fn marks(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_mark = |word: &&str| {
        let Some((letter, number)) = word.split_once('-') else { return false };
        letter.len() == 1
            && "BEFHKLNQRSTV".contains(letter)
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    };
    words.filter(is_mark).map(str::to_owned).collect()
}

#[test]
fn every_mark_and_rule_is_shown_somewhere() {
    let readme = read("spec/README.md");
    let listed = marks(&readme);
    let mut said = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("spec")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name.starts_with(|first: char| first.is_ascii_digit()) {
            said.extend(marks(&read(&format!("spec/{name}"))));
        }
    }
    assert_eq!(said, listed, "marks of the chapters, and marks that spec/README.md lists");
    for rule in 1..=12 {
        assert!(readme.contains(&format!("\n| {rule} | `")), "rule {rule} is not in spec/README.md");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let readme = read("spec/README.md");
    let quoted = readme.split('`').skip(1).step_by(2);
    let files = quoted.filter(|text| text.contains('/') && !text.contains('*') && !text.contains(' '));
    for file in files {
        let below = if file.starts_with("vectors") || file.starts_with("reader") {
            format!("spec/{file}")
        } else {
            file.to_owned()
        };
        assert!(root().join(&below).exists(), "spec/README.md names {below}, which is not there");
    }
}
