//! `cargo demo`: build the one binary, then hand over to `comity demo`.

use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process;

pub(crate) const HELP: &str = "\
Build the binary and play the whole loop on this machine: a clearing house, a hub and three owners as separate
processes on loopback; a researcher who discovers, buys, is refused, is granted, chats, delegates and settles.

Usage: cargo demo [--keep] [--json] [arguments of `comity demo`]

  --keep   Leave it running and print how to use it: docs/start/quickstart.md goes on from there
  --json   Print one report object on stdout and nothing else there

Needs Rust 1.95.0, a C compiler and make. The first build takes about 5 to 7 minutes on two cores; later ones seconds.
";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    // `cargo demo -- --json` and `cargo demo --json` are the same wish.
    let args = match args.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        _ => args,
    };
    build(place)?;
    eprintln!("==> stage 2 of 2: running the demo");
    let mut demo = Command::new(place.binary());
    demo.arg("demo").args(args);
    hand_over(demo)
}

/// Builds `comity` in the dev profile, with cargo's own progress on stderr.
pub(crate) fn build(place: &Place) -> Result {
    if ["cc", "make"].iter().any(|tool| process::probe(tool, &["--version"]).is_none()) {
        process::install(&["build-essential"])
            .map_err(|failure| Failure { what: "no C compiler: `cc` or `make` is not there".to_owned(), ..failure })?;
    }
    eprintln!("==> stage 1 of 2: building comity (dev profile)");
    if !place.binary().is_file() {
        eprintln!("    the first build takes about 5 to 7 minutes on two cores; later ones take seconds");
    }
    let mut build = process::cargo(place);
    // cargo's stdout carries nothing for us; the report of `--json` must stand there alone.
    build.args(["build", "--locked", "-p", "comity-node"]).stdout(Stdio::null());
    process::step("build", &mut build).map_err(|failure| failure.hint("cargo's messages above say why"))
}

/// The demo takes this process's place, so that Ctrl-C and the exit code are its own.
#[cfg(unix)]
fn hand_over(mut demo: Command) -> Result {
    use std::os::unix::process::CommandExt as _;
    let error = demo.exec();
    Err(Failure::machine(format!("cannot start {}: {error}", demo.get_program().to_string_lossy())))
}

#[cfg(not(unix))]
fn hand_over(mut demo: Command) -> Result {
    let status = demo.status().map_err(|error| Failure::machine(format!("cannot start the demo: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::input(format!("the demo ended with {status}"))) }
}
