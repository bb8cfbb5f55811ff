//! Python environments: one venv per requirements file, made once, beside the compile.
//!
//! The directory is named by a hash of what was asked for and by which python, so a changed requirement gets a new
//! environment and an old one is never patched. A marker file says that the installation came to its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::{self, probe};

/// A venv that is being made in the background.
pub(crate) struct Making {
    thread: JoinHandle<Result<Venv>>,
}

/// A venv with everything that its requirements file names.
pub(crate) struct Venv {
    python: PathBuf,
    /// How long it took to make; beside the compile, so most of it is hidden.
    pub(crate) took: Duration,
}

impl Making {
    /// Starts to make `target/python/<name>-<hash>` from the requirements file.
    pub(crate) fn start(place: &Place, name: &'static str, requirements: &str) -> Self {
        let (place, requirements) = (place.clone(), place.root.join(requirements));
        Self { thread: std::thread::spawn(move || make(&place, name, &requirements)) }
    }

    pub(crate) fn finish(self) -> Result<Venv> {
        self.thread.join().unwrap_or_else(|_| Err(Failure::machine("the python installer panicked")))
    }
}

impl Venv {
    /// Where it is.
    pub(crate) fn folder(&self) -> PathBuf {
        // `…/bin/python`.
        self.python.ancestors().nth(2).unwrap_or(&self.python).to_owned()
    }

    /// This environment's python on a script of the checkout, leaving no bytecode behind.
    pub(crate) fn script(&self, place: &Place, script: &str) -> Command {
        let mut command = process::program(place, &self.python);
        command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
        command
    }
}

fn make(place: &Place, name: &str, requirements: &Path) -> Result<Venv> {
    let started = Instant::now();
    let text = fs::read_to_string(requirements)
        .map_err(|error| Failure::input(format!("cannot read {}: {error}", requirements.display())))?;
    if probe("python3", &["--version"]).is_none() {
        process::install(&["python3", "python3-venv"])?;
    }
    if probe("python3", &["-c", "import ensurepip, venv"]).is_none() {
        process::install(&["python3-venv"])?;
    }
    let version = probe("python3", &["-c", "import sys; print(sys.version, sys.prefix)"])
        .ok_or_else(|| Failure::machine("python3 does not run").hint("cargo xtask doctor"))?;
    let home = place.target.join("python");
    let folder = home.join(format!("{name}-{:016x}", fnv1a(&format!("{version}\n{text}"))));
    let python = folder.join("bin/python");
    let ready = folder.join("ready");
    if ready.is_file() && python.exists() {
        return Ok(Venv { python, took: started.elapsed() });
    }
    let machine = |what: &str, error: std::io::Error| Failure::machine(format!("{what} {}: {error}", folder.display()));
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| machine("cannot clear the half-made", error))?;
    }
    fs::create_dir_all(&home).map_err(|error| machine("cannot make", error))?;
    let log = folder.with_extension("log");
    let mut command = Command::new("python3");
    command.args(["-m", "venv"]).arg(&folder);
    logged(&mut command, &log, "make a venv")?;
    let mut command = Command::new(&python);
    command
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
        .arg(requirements);
    // A file of requirements cannot say so by itself: its first line is this comment, with the reason behind it.
    if text.starts_with("# ignore-requires-python: ") {
        command.arg("--ignore-requires-python");
    }
    // Once more before it is called a failure: a package index may hiccup.
    logged(&mut command, &log, "pip install").or_else(|_| logged(&mut command, &log, "pip install"))?;
    File::create(&ready).map_err(|error| machine("cannot mark as ready", error))?;
    Ok(Venv { python, took: started.elapsed() })
}

/// Runs with its output in a file, which is shown only when it ends badly.
pub(crate) fn logged(command: &mut Command, log: &Path, what: &str) -> Result {
    let open =
        || File::create(log).map_err(|error| Failure::machine(format!("cannot write {}: {error}", log.display())));
    let (out, err) = (
        open()?,
        File::options()
            .append(true)
            .open(log)
            .map_err(|error| Failure::machine(format!("cannot write {}: {error}", log.display())))?,
    );
    let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status();
    let why = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let said = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(12).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(Failure::machine(format!("cannot {what} ({why}):\n{}", last.join("\n")))
        .hint(format!("{} has all of it; it needs a package index it can reach", log.display())))
}

/// FNV-1a, 64 bit: a name, not a promise.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_requirement_is_another_environment() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(fnv1a("cwt==3.3.0"), fnv1a("cwt==3.3.1"));
    }
}
