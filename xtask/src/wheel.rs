//! `cargo xtask wheel`: the Python package as one file.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::{self, step};
use crate::python::{Making, Venv};

pub(crate) const HELP: &str = "\
Build the Python package `comity` (sdk/python) as a wheel, into target/wheels.

Usage: cargo xtask wheel [--dev]

  --dev   Of the dev profile: built in a minute, slower, and larger

One wheel serves every CPython from 3.10 on. It is for this kind of machine; maturin, which builds it, comes into an
environment of its own under target/python.
";

const REQUIREMENTS: &str = "tests/python/maturin.txt";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let dev = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--dev"] => true,
        other => {
            return Err(Failure::input(format!("not understood: {}", other.join(" "))).hint("cargo xtask wheel --help"));
        }
    };
    let wheel = build(place, &making(place).finish()?, dev)?;
    let bytes = std::fs::metadata(&wheel).map_or(0, |file| file.len());
    println!("{} ({:.1} MB)", wheel.display(), bytes as f64 / 1e6);
    Ok(())
}

/// The environment with maturin, in the background.
pub(crate) fn making(place: &Place) -> Making {
    Making::start(place, "maturin", REQUIREMENTS)
}

/// Builds, and gives where the wheel is.
pub(crate) fn build(place: &Place, maturin: &Venv, dev: bool) -> Result<PathBuf> {
    let folder = place.target.join("wheels").join(if dev { "dev" } else { "release" });
    // Another version's wheel must not be taken for this one.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| Failure::machine(format!("{}: {error}", folder.display())))?;
    }
    let mut command = process::program(place, maturin.folder().join("bin/maturin"));
    command.current_dir(place.root.join("sdk/python"));
    command.args(["build", "--locked", "--profile", if dev { "dev" } else { "release" }, "--out"]).arg(&folder);
    // The one that cargo was asked with, and the target directory that all else is built in.
    command.env("CARGO_TARGET_DIR", &place.target);
    step("wheel", &mut command)?;
    found(&folder)
}

fn found(folder: &Path) -> Result<PathBuf> {
    let missing = || Failure::machine(format!("maturin left no wheel in {}", folder.display()));
    let listed = std::fs::read_dir(folder).map_err(|_| missing())?;
    let mut wheels = listed.filter_map(|entry| Some(entry.ok()?.path()));
    wheels.find(|path| path.extension().is_some_and(|extension| extension == "whl")).ok_or_else(missing)
}
