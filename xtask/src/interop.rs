//! `cargo xtask interop`: the house beside programs of others that take long to build, so it is no part of `test`.

use std::process::Stdio;

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::{self, WORKSPACE, probe};
use crate::python::Making;

pub(crate) const HELP: &str = "\
Play a story with a program of others, built from its public package.

Usage: cargo xtask interop llama-cpp [--json]

  llama-cpp  Builds llama.cpp's Python server (`llama-cpp-python[server]` from PyPI: ten to thirty minutes of C++ at the first
             time, under target/python), writes the demonstration model as GGUF, puts the server behind a node, and asks it and the
             engine the same through the proxy: greedy answers have to be the same, log-probabilities within 0.05 nats

  --json     One JSON object on stdout; progress is on stderr either way
";

const SCRIPT: &str = "tests/python/llama_server.py";
const REQUIREMENTS: &str = "tests/python/llama_server.txt";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let json = check(args)?;
    // It is compiled with CMake and Ninja, which come from PyPI as well; the compiler does not.
    if probe("c++", &["--version"]).is_none() {
        process::install(&["build-essential"])?;
    }
    let making = Making::start(place, "llama-cpp", REQUIREMENTS);
    // All targets, as `cargo xtask test` builds them: then nothing is compiled for this alone.
    let mut build = process::cargo(place);
    build.arg("build").args(WORKSPACE).arg("--all-targets").stdout(Stdio::null());
    process::step("build", &mut build)?;
    let venv = making.finish()?;
    eprintln!("    venv llama-cpp: {}", process::seconds(venv.took));
    let mut play = venv.script(place, SCRIPT);
    play.arg(place.binary());
    if !json {
        play.arg("--table");
    }
    process::step("llama.cpp", &mut play)
}

/// Whether it is to be JSON.
fn check(args: &[String]) -> Result<bool> {
    let hint = "cargo xtask interop llama-cpp [--json]";
    let (flags, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.starts_with('-'));
    if let Some(flag) = flags.iter().find(|flag| flag.as_str() != "--json") {
        return Err(Failure::input(format!("`{flag}` is not understood")).hint(hint));
    }
    match names.as_slice() {
        [name] if name.as_str() == "llama-cpp" => Ok(!flags.is_empty()),
        [] => Err(Failure::input("say with what").hint(hint)),
        _ => Err(Failure::input("no such story").hint(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused_before_anything_is_built() {
        let check = |line: &str| check(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert!(check("llama-cpp --json").expect("it is understood"));
        assert!(!check("llama-cpp").expect("it is understood"));
        for wrong in ["", "llama-cpp --jsn", "llama", "llama-cpp llama-cpp"] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
