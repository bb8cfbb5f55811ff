//! Other gateways, each from its own package manager, below the target directory.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::Result;
use crate::node;
use crate::place::Place;
use crate::process;
use crate::python::{Making, logged};

const PORTKEY: &str = "tests/examples/bench_gateway/peers/portkey.json";
const LITELLM: &str = "tests/examples/bench_gateway/peers/litellm.txt";
/// As `tests/examples/bench_gateway/peers.rs` names it.
const LITERLLM: &str = "2.4.4";

/// What the bench is told of each: where it is, or why it cannot be installed here. A null with a reason is then its figure.
pub(crate) fn install(place: &Place) -> Vec<String> {
    let litellm = Making::start(place, "litellm", LITELLM);
    let portkey = node::install(place, PORTKEY);
    let literllm = literllm(place);
    let found = [("portkey", portkey), ("litellm", litellm.finish().map(|venv| venv.folder())), ("literllm", literllm)];
    found.into_iter().flat_map(|(name, found)| said(name, found)).collect()
}

fn said(name: &str, found: Result<PathBuf>) -> [String; 2] {
    match found {
        Ok(folder) => ["--peer".to_owned(), format!("{name}={}", folder.display())],
        Err(failure) => {
            failure.print();
            let why = failure.what.split_whitespace().collect::<Vec<_>>().join(" ");
            ["--no-peer".to_owned(), format!("{name}={why}")]
        }
    }
}

/// `cargo install`, with a target directory of its own: a first time compiles some 400 crates.
fn literllm(place: &Place) -> Result<PathBuf> {
    let folder = place.target.join("peers/liter-llm");
    if folder.join("bin/liter-llm").is_file() && installed(&folder) {
        return Ok(folder);
    }
    eprintln!("==> compiling liter-llm {LITERLLM}");
    let mut install: Command = process::cargo(place);
    install.args(["install", "liter-llm-cli", "--locked", "--version", LITERLLM, "--root"]).arg(&folder);
    install.env("CARGO_TARGET_DIR", place.target.join("peers/cargo"));
    std::fs::create_dir_all(&folder)
        .map_err(|error| crate::failure::Failure::machine(format!("cannot make {}: {error}", folder.display())))?;
    logged(&mut install, &folder.with_extension("log"), "cargo install liter-llm-cli")?;
    Ok(folder)
}

/// Whether cargo's own list there has this version.
fn installed(folder: &std::path::Path) -> bool {
    std::fs::read_to_string(folder.join(".crates.toml"))
        .is_ok_and(|list| list.contains(&format!("liter-llm-cli {LITERLLM} ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn what_cannot_be_installed_is_named_with_its_reason_in_one_line() {
        assert_eq!(said("portkey", Ok(PathBuf::from("/p"))), ["--peer", "portkey=/p"]);
        let failure = Failure::machine("cannot npm install (exit 1):\nE404");
        assert_eq!(said("portkey", Err(failure)), ["--no-peer", "portkey=cannot npm install (exit 1): E404"]);
    }
}
