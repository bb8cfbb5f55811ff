//! The group `tools`: programs of others, as they come from their packages, play their pages of docs/start.

use std::process::Command;

use crate::demo;
use crate::failure::Result;
use crate::node;
use crate::place::Place;
use crate::process::{self, probe, step};
use crate::python::Making;
use crate::test::both;

const CHECK: &str = "tests/python/tools/check.py";
const PLAY: &str = "tests/python/tools/play.py";
const NODE_PACKAGE: &str = "tests/node/package.json";

/// One that comes from a Python package; the file says which version.
struct Packaged {
    tool: &'static str,
    venv: &'static str,
    requirements: &'static str,
}

/// In the order in which their environments are made, the quickest first.
const PACKAGED: &[Packaged] = &[
    // Not the environment of the python group, which is being made under its name at the same time.
    Packaged { tool: "openai", venv: "tools-openai", requirements: "tests/python/requirements.txt" },
    Packaged { tool: "langchain", venv: "langchain", requirements: "tests/python/langchain.txt" },
    Packaged { tool: "inspect", venv: "inspect", requirements: "tests/python/inspect.txt" },
    Packaged { tool: "lm-eval", venv: "lm-eval", requirements: "tests/python/lm-eval.txt" },
];

/// Environments that are being made.
pub(crate) struct Background(Vec<(&'static str, Making)>);

impl Background {
    pub(crate) fn start(place: &Place) -> Self {
        let making = |one: &Packaged| (one.tool, Making::start(place, one.venv, one.requirements));
        Self(PACKAGED.iter().map(making).collect())
    }
}

/// Each tool plays, whatever another did; the first failure is given, the others are printed.
pub(crate) fn run(place: &Place, background: Background) -> Result {
    step("what plays the pages", python(place).arg(CHECK))?;
    if !place.binary().is_file() {
        demo::build(place)?;
    }
    let mut worst = curl(place);
    for (tool, making) in background.0 {
        worst = both(worst, packaged(place, tool, making));
    }
    worst
}

fn curl(place: &Place) -> Result {
    if probe("curl", &["--version"]).is_none() {
        process::install(&["curl"])?;
    }
    step("curl", python(place).arg(PLAY).arg(place.binary()).arg("curl"))
}

fn packaged(place: &Place, tool: &'static str, making: Making) -> Result {
    let venv = making.finish()?;
    eprintln!("    venv {tool}: {}", process::seconds(venv.took));
    let mut command = venv.script(place, PLAY);
    command.arg(place.binary()).arg(tool);
    if tool == "openai" {
        command.env("COMITY_NODE_MODULES", node::install(place, NODE_PACKAGE)?);
    }
    step(tool, &mut command)
}

/// The system's own, which needs no package.
fn python(place: &Place) -> Command {
    let mut command = process::program(place, "python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_has_one_version_and_an_environment_of_its_own() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout");
        for one in PACKAGED {
            let text = std::fs::read_to_string(root.join(one.requirements)).expect("a file of requirements");
            assert!(text.lines().all(|line| line.contains("==")), "{}: pinned", one.requirements);
            assert_eq!(PACKAGED.iter().filter(|other| other.venv == one.venv).count(), 1, "{}", one.venv);
            assert!(root.join(format!("docs/start/{}.md", one.tool)).is_file(), "{} has a page", one.tool);
        }
    }
}
