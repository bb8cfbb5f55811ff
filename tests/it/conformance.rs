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
