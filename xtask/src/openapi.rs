//! `cargo xtask openapi`: the description of the house's HTTP API, and more of what schemathesis asks of it.

use std::fs;
use std::process::Stdio;

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::{self, WORKSPACE, cargo};
use crate::python::Making;

pub(crate) const HELP: &str = "\
Write spec/openapi/clearing.json anew, from the code.

Usage: cargo xtask openapi [--fuzz EXAMPLES [--seed SEED]]

  --fuzz  Instead, start a house and let schemathesis ask each of its routes so many times (the python group of
          `cargo xtask test`: a few)
  --seed  Of what it asks; left out: that of the tests
";

const DOCUMENT: &str = "spec/openapi/clearing.json";
pub(crate) const SCRIPT: &str = "tests/python/openapi.py";
pub(crate) const REQUIREMENTS: &str = "tests/python/schemathesis.txt";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let asked = asked(args)?;
    let mut build = cargo(place);
    build.arg("build").args(WORKSPACE).arg("--all-targets").stdout(Stdio::null());
    if let Some(options) = asked {
        let making = Making::start(place, "schemathesis", REQUIREMENTS);
        process::step("build", &mut build)?;
        let venv = making.finish()?;
        return process::step("schemathesis", venv.script(place, SCRIPT).arg(place.binary()).args(options));
    }
    process::step("build", &mut build)?;
    let said = process::program(place, place.binary()).args(["clearing", "openapi"]).output();
    let said = said.map_err(|error| Failure::machine(format!("cannot run {}: {error}", place.binary().display())))?;
    if !said.status.success() {
        return Err(Failure::machine(String::from_utf8_lossy(&said.stderr)));
    }
    let path = place.root.join(DOCUMENT);
    fs::write(&path, said.stdout).map_err(|error| Failure::machine(format!("cannot write {}: {error}", path.display())))
}

/// What schemathesis is told; none: write the document.
fn asked(args: &[String]) -> Result<Option<Vec<String>>> {
    let hint = "cargo xtask openapi [--fuzz EXAMPLES [--seed SEED]]";
    let wrong = |what: &str| Failure::input(what.to_owned()).hint(hint);
    let mut options = Vec::new();
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(wrong("each option has a value")) };
        let name = match name.as_str() {
            "--fuzz" => "--examples",
            "--seed" => "--seed",
            _ => return Err(wrong("no such option")),
        };
        value.parse::<u32>().map_err(|_| wrong("the value is a number"))?;
        options.extend([name.to_owned(), value.clone()]);
    }
    if !options.is_empty() && !options.iter().any(|option| option == "--examples") {
        return Err(wrong("a seed is for --fuzz"));
    }
    Ok((!options.is_empty()).then_some(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_or_it_asks() {
        let asked = |line: &str| asked(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(asked("").unwrap_or_else(|_| panic!("it is understood")), None);
        let options = asked("--fuzz 50 --seed 7").unwrap_or_else(|_| panic!("it is understood")).expect("options");
        assert_eq!(options, ["--examples", "50", "--seed", "7"]);
        for wrong in ["--fuzz", "--fuzz x", "--seed 7", "write"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
