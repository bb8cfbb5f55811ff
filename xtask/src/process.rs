//! Running other programs: cargo with a clean environment, timed steps, tools that may be missing.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::place::Place;

/// All that links without Python: what only it loads is built by maturin (`cargo xtask wheel`).
pub(crate) const WORKSPACE: [&str; 4] = ["--locked", "--workspace", "--exclude", "comity-python"];

/// Cargo in the checkout, with no stdin.
///
/// `cargo run` describes *this* package in its environment; a nested cargo that inherits that sees build scripts'
/// `rerun-if-env-changed` fire and compiles aws-lc and its kin again, so those variables are taken away.
pub(crate) fn cargo(place: &Place) -> Command {
    let mut command = program(place, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if of_this_package || matches!(text, "CARGO_PRIMARY_PACKAGE" | "OUT_DIR") {
            command.env_remove(name);
        }
    }
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        command.env("CARGO_TARGET_DIR", &place.target);
    }
    command
}

/// Any program, in the checkout, with no stdin.
pub(crate) fn program(place: &Place, name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(&place.root).stdin(Stdio::null());
    command
}

/// Runs a step with its output passed through; red is a failure that names the command.
pub(crate) fn step(what: &str, command: &mut Command) -> Result {
    let line = spell(command);
    eprintln!("==> {what}: {line}");
    let started = Instant::now();
    let status = command.status().map_err(|error| Failure::machine(format!("cannot run `{line}`: {error}")))?;
    eprintln!("    {what} took {}", seconds(started.elapsed()));
    if status.success() { Ok(()) } else { Err(Failure::input(format!("{what} failed ({status}): {line}"))) }
}

/// Whether `name arguments…` runs and ends well; its first line of output if it does.
pub(crate) fn probe(name: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
}

/// Installs Debian packages when we may; otherwise the error carries the exact line.
pub(crate) fn install(packages: &[&str]) -> Result {
    // dpkg has one lock: two groups that find something missing at once take turns.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().expect("no installer panics while it holds the turn");
    let list = packages.join(" ");
    let by_hand = format!("sudo apt-get install -y --no-install-recommends {list}");
    if probe("apt-get", &["--version"]).is_none() {
        return Err(
            Failure::machine(format!("missing: {list}")).hint("install it with the package manager of this system")
        );
    }
    if probe("id", &["-u"]).as_deref() != Some("0") {
        return Err(Failure::machine(format!("missing: {list}")).hint(by_hand));
    }
    eprintln!("==> installing {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // RUNLEVEL=1: a package that brings a daemon must not start it.
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdin(Stdio::null());
        command.stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(packages);
    if apt(&install) || (apt(&["update", "-qq"]) && apt(&install)) {
        return Ok(());
    }
    Err(Failure::machine(format!("apt-get could not install {list}")).hint(by_hand))
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn spell(command: &Command) -> String {
    let program = command.get_program();
    let name = std::path::Path::new(program).file_name().unwrap_or(program);
    let mut line = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
