//! Writes spec/vectors: `cargo run -p comity-token --example vectors`. With `--check` it writes nothing, works every
//! vector out, also those that another implementation made, and says what differs.

mod chains;
mod check;
mod hex;
mod make;
#[allow(dead_code)]
mod requests;
mod suite;
mod world;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("spec/vectors");
    if !std::env::args().any(|argument| argument == "--check") {
        for (name, text) in make::files() {
            std::fs::write(folder.join(name), text).expect("spec/vectors can be written");
        }
    }
    let seen = suite::run(&folder);
    let problems = [&seen.problems[..], &suite::changed(&folder)].concat();
    for problem in &problems {
        eprintln!("{problem}");
    }
    for code in suite::codes_not_shown(&root, &seen.refused) {
        eprintln!("not shown: {code}");
    }
    eprintln!(
        "{} vectors in {} files, {} codes, {} problems",
        seen.vectors,
        seen.files,
        seen.refused.len(),
        problems.len()
    );
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
