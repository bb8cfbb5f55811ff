//! Node packages: one folder per package file, installed once into `target/node/<hash>`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::probe;
use crate::python::{fnv1a, logged};

/// Gives the folder that has `node_modules` in it.
pub(crate) fn install(place: &Place, package: &str) -> Result<PathBuf> {
    for tool in ["node", "npm"] {
        if probe(tool, &["--version"]).is_none() {
            let hint = "apt-get install nodejs npm (Node 20 or newer), then again";
            return Err(Failure::machine(format!("{tool} does not run")).hint(hint));
        }
    }
    let from = place.root.join(package);
    let text = fs::read_to_string(&from)
        .map_err(|error| Failure::input(format!("cannot read {}: {error}", from.display())))?;
    let folder = place.target.join("node").join(format!("{:016x}", fnv1a(&text)));
    let ready = folder.join("ready");
    if ready.is_file() {
        return Ok(folder);
    }
    let machine = |error: std::io::Error| Failure::machine(format!("cannot make {}: {error}", folder.display()));
    fs::create_dir_all(&folder).map_err(machine)?;
    fs::write(folder.join("package.json"), text).map_err(machine)?;
    let mut command = Command::new("npm");
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
    let log = folder.with_extension("log");
    // Once more before it is called a failure: a package index may hiccup.
    logged(&mut command, &log, "npm install").or_else(|_| logged(&mut command, &log, "npm install"))?;
    File::create(&ready).map_err(machine)?;
    Ok(folder)
}
