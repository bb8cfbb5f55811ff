//! The group `tools`: our wheel, and programs of others as they come from their packages, play their pages of docs/start.

use std::path::PathBuf;
use std::process::Command;

use crate::demo;
use crate::failure::{Failure, Result};
use crate::node;
use crate::place::Place;
use crate::process::{self, probe, step};
use crate::python::Making;
use crate::test::both;
use crate::wheel;

const CHECK: &str = "tests/python/tools/check.py";
const PLAY: &str = "tests/python/tools/play.py";
const NODE_PACKAGE: &str = "tests/node/package.json";
const OPENCODE_PACKAGE: &str = "tests/node/opencode/package.json";
const OPENCODE_VERSION: &str = "1.18.33";

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

/// Pages that need nothing but our own command.
const COMMANDS: &[&str] = &["compare", "routing"];
/// Pages that need nothing but our own package.
const OWN: &[&str] = &["quickstart", "python", "cookbook", "trouble"];

/// Environments that are being made.
pub(crate) struct Background {
    packaged: Vec<(&'static str, Making)>,
    maturin: Making,
}

impl Background {
    pub(crate) fn start(place: &Place) -> Self {
        let making = |one: &Packaged| (one.tool, Making::start(place, one.venv, one.requirements));
        Self { packaged: PACKAGED.iter().map(making).collect(), maturin: wheel::making(place) }
    }
}

/// Each tool plays, whatever another did; the first failure is given, the others are printed.
pub(crate) fn run(place: &Place, background: Background) -> Result {
    step("what plays the pages", python(place).arg(CHECK))?;
    if !place.binary().is_file() {
        demo::build(place)?;
    }
    let played = |page: &&str| step(page, python(place).arg(PLAY).arg(place.binary()).arg(page));
    let commands = COMMANDS.iter().map(played).fold(Ok(()), both);
    let mut worst = both(both(curl(place), commands), both(agent(place), own(place, background.maturin)));
    for (tool, making) in background.packaged {
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

fn agent(place: &Place) -> Result {
    let opencode = opencode(place)?;
    step("agent", python(place).arg(PLAY).arg(place.binary()).arg("agent").env("COMITY_OPENCODE", opencode))
}

/// The folder that has the program.
fn opencode(place: &Place) -> Result<PathBuf> {
    if OPENCODE_IS_PACKAGED {
        return Ok(node::install(place, OPENCODE_PACKAGE)?.join("node_modules/opencode-linux-x64/bin"));
    }
    let missing = || {
        Failure::machine(format!(
            "opencode {OPENCODE_VERSION} is not installed, and has no package here for this machine"
        ))
        .hint(format!("npm install -g opencode-ai@{OPENCODE_VERSION}"))
    };
    opencode_found().ok_or_else(missing)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|folder| folder.join("opencode").is_file()).ok_or_else(missing)
}

/// Where the package of `OPENCODE_PACKAGE` runs; elsewhere it is for who sits there to install.
const OPENCODE_IS_PACKAGED: bool = cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"));

/// What the doctor says of it.
pub(crate) fn opencode_found() -> Option<String> {
    if OPENCODE_IS_PACKAGED {
        return Some(format!("{OPENCODE_VERSION}, which the tests install"));
    }
    probe("opencode", &["--version"]).filter(|version| version == OPENCODE_VERSION)
}

/// Our own package, built and installed as anybody would.
fn own(place: &Place, maturin: Making) -> Result {
    let wheel = wheel::build(place, &maturin.finish()?, true)?;
    let play =
        |page: &str| step(page, python(place).arg(PLAY).arg(place.binary()).arg(page).env("COMITY_WHEEL", &wheel));
    OWN.iter().map(|page| play(page)).fold(Ok(()), both)
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
    use std::path::Path;

    use super::*;

    #[test]
    fn each_tool_has_one_version_and_an_environment_of_its_own() {
        let root = root();
        for one in PACKAGED {
            let text = std::fs::read_to_string(root.join(one.requirements)).expect("a file of requirements");
            assert!(text.lines().all(|line| line.contains("==")), "{}: pinned", one.requirements);
            assert_eq!(PACKAGED.iter().filter(|other| other.venv == one.venv).count(), 1, "{}", one.venv);
            assert!(root.join(format!("docs/start/{}.md", one.tool)).is_file(), "{} has a page", one.tool);
        }
    }

    #[test]
    fn the_agent_has_one_version() {
        let text = |name| std::fs::read_to_string(root().join(name)).expect("a file of the checkout");
        let package = format!("\"opencode-linux-x64\": \"{OPENCODE_VERSION}\"");
        assert!(text(OPENCODE_PACKAGE).contains(&package), "{OPENCODE_PACKAGE}: {package}");
        let by_hand = format!("npm install -g opencode-ai@{OPENCODE_VERSION}");
        assert!(text("docs/start/agent.md").contains(&by_hand), "the page says: {by_hand}");
    }

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout")
    }
}
