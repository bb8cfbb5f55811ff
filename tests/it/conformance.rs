//! Every file under `spec/vectors` is read, says what this implementation finds, and is written again to the same bytes.
//!
//! The generator's own modules are shared with `cargo run -p comity-token --example vectors`, which writes the files.

#[path = "../../crates/comity-token/examples/vectors/chains.rs"]
mod chains;
#[path = "../../crates/comity-token/examples/vectors/check.rs"]
mod check;
#[path = "../../crates/comity-token/examples/vectors/hex.rs"]
mod hex;
#[path = "../../crates/comity-token/examples/vectors/make.rs"]
mod make;
#[allow(dead_code)]
#[path = "../../crates/comity-token/examples/vectors/requests.rs"]
mod requests;
#[path = "../../crates/comity-token/examples/vectors/suite.rs"]
mod suite;
#[path = "../../crates/comity-token/examples/vectors/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").to_path_buf()
}

#[test]
fn every_vector_gives_what_it_says() {
    let seen = suite::run(&root().join("spec/vectors"));
    assert!(seen.problems.is_empty(), "{}", seen.problems.join("\n"));
    assert!(seen.files >= 13 && seen.vectors >= 350, "{} files, {} vectors", seen.files, seen.vectors);
    let second = root().join("spec/vectors/python");
    assert!(second.is_dir(), "the second implementation's vectors are missing");
}

#[test]
fn making_the_vectors_again_changes_nothing() {
    let changed = suite::changed(&root().join("spec/vectors"));
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn every_code_has_a_vector_or_a_named_test() {
    let seen = suite::run(&root().join("spec/vectors"));
    let missing = suite::codes_not_shown(&root(), &seen.refused);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Where `spec/README.md` sends a mark to the vectors alone, some vector stands for it. (`spec_list` checks the rest.)
#[test]
fn a_mark_that_vectors_show_has_one() {
    let spec = root().join("spec");
    let table = fs::read_to_string(spec.join("README.md")).expect("spec/README.md");
    let vectors = suite::rules(&spec.join("vectors"));
    let mut checked = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for pair in cells.windows(2) {
            let files: Vec<&str> = pair[1].split('`').skip(1).step_by(2).collect();
            let is_mark = pair[0].len() <= 4 && pair[0].get(1..2) == Some("-");
            if is_mark && !files.is_empty() && files.iter().all(|file| file.starts_with("vectors/")) {
                checked += 1;
                assert!(vectors.contains(pair[0]), "no vector has the mark {}", pair[0]);
            }
        }
    }
    assert!(checked >= 25, "{checked} marks");
}
