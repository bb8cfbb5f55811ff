//! `cargo xtask test`: groups of checks, timed, with a budget each.
//!
//! Python environments are made in the background while Rust compiles. Every group runs even when an earlier one is
//! red, so one run shows everything; the exit code is red if any group was.

use std::time::{Duration, Instant};

use crate::demo;
use crate::failure::{Failure, Result};
use crate::node;
use crate::openapi;
use crate::place::Place;
use crate::postgres::{self, Server};
use crate::process::{self, WORKSPACE, cargo, probe, step};
use crate::python::Making;
use crate::tools;

pub(crate) const HELP: &str = "\
Run every check, or only the groups named.

Usage: cargo xtask test [group…]

Groups:
  rust     One build of the workspace with all its tests but those below; nextest where installed, else `cargo test`;
           doctests
  postgres The tests that need a PostgreSQL (those in a module `postgres`), beside one that is started for them
  python   The independent reader of spec/vectors, the unmodified `openai` package against the proxy, the unmodified
           `amieclient` package against the clearing house, and schemathesis against its HTTP API
  node     The unmodified `openai` package of Node against the proxy
  tools    The wheel; lm-evaluation-harness, Inspect, LangChain, curl and the `openai` packages, unmodified: each plays
           its page of docs/start
  lint     rustfmt and clippy, warnings being errors

Python environments are made under target/python beside the compile. A tool that is missing is installed when this
runs as root on Debian, else the line that installs it is printed and the group fails. `cargo xtask doctor` lists all.
A first run takes about 12 minutes on two cores.
";

/// A group, what it runs, and how long it may take before the table complains (two cores, nothing built yet).
struct Group {
    name: &'static str,
    budget: Duration,
    run: fn(&Place, &mut Background) -> Result,
}

const GROUPS: &[Group] = &[
    Group { name: "rust", budget: Duration::from_secs(20 * 60), run: rust },
    Group { name: "postgres", budget: Duration::from_secs(6 * 60), run: postgres },
    Group { name: "python", budget: Duration::from_secs(4 * 60), run: python },
    Group { name: "node", budget: Duration::from_secs(3 * 60), run: node },
    Group { name: "tools", budget: Duration::from_secs(8 * 60), run: tools },
    Group { name: "lint", budget: Duration::from_secs(6 * 60), run: lint },
];

const READER: &str = "spec/reader/run.py";
const READER_REQUIREMENTS: &str = "spec/reader/requirements.txt";
const OPENAI: &str = "tests/python/run.py";
const AMIE: &str = "tests/python/amie.py";
const ACCESS: &str = "tests/python/access.py";
const NOTICES: &str = "tests/python/notices.py";
const AMIE_REQUIREMENTS: &str = "tests/python/amieclient.txt";
const NODE: &str = "tests/node/run.mjs";
const NODE_PACKAGE: &str = "tests/node/package.json";
const FEDERATION: &str = "tests/python/federation.py";
const OPENAI_REQUIREMENTS: &str = "tests/python/requirements.txt";

/// What was started before the first group ran.
#[derive(Default)]
struct Background {
    reader: Option<Making>,
    openai: Option<Making>,
    amie: Option<Making>,
    schemathesis: Option<Making>,
    tools: Option<tools::Background>,
}

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let groups = chosen(args)?;
    let mut background = Background::default();
    if groups.iter().any(|group| group.name == "python") {
        background.reader = Some(Making::start(place, "spec", READER_REQUIREMENTS));
        if place.root.join(OPENAI).is_file() {
            background.openai = Some(Making::start(place, "openai", OPENAI_REQUIREMENTS));
            background.amie = Some(Making::start(place, "amie", AMIE_REQUIREMENTS));
            background.schemathesis = Some(Making::start(place, "schemathesis", openapi::REQUIREMENTS));
        }
    }
    if groups.iter().any(|group| group.name == "tools") {
        background.tools = Some(tools::Background::start(place));
    }
    let mut rows = Vec::new();
    for group in groups {
        eprintln!("==> group {}", group.name);
        let started = Instant::now();
        let result = (group.run)(place, &mut background);
        if let Err(failure) = &result {
            failure.print();
        }
        rows.push((group, started.elapsed(), result));
    }
    table(&rows);
    let red: Vec<&str> = rows.iter().filter(|(_, _, result)| result.is_err()).map(|(group, ..)| group.name).collect();
    if red.is_empty() {
        return Ok(());
    }
    Err(Failure::input(format!("red: {}", red.join(", "))).hint(format!("again: cargo xtask test {}", red.join(" "))))
}

fn chosen(args: &[String]) -> Result<Vec<&'static Group>> {
    if args.is_empty() {
        return Ok(GROUPS.iter().collect());
    }
    let find = |name: &String| {
        GROUPS.iter().find(|group| group.name == name).ok_or_else(|| {
            let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
            Failure::input(format!("no group is called `{name}`")).hint(format!("groups: {}", names.join(", ")))
        })
    };
    args.iter().map(find).collect()
}

/// One build for everything: tests, doctests and the binary share each compiled crate (CONTRIBUTING.md, build rules).
fn rust(place: &Place, _: &mut Background) -> Result {
    if probe("cc", &["--version"]).is_none() {
        process::install(&["build-essential"])?;
    }
    step("build", cargo(place).arg("build").args(WORKSPACE).arg("--all-targets"))?;
    let tests = if probe("cargo", &["nextest", "--version"]).is_some() {
        step("tests", cargo(place).args(["nextest", "run"]).args(WORKSPACE).arg("--no-fail-fast"))
    } else {
        // `--tests --bins --lib` and not the doctests, which have a step of their own below.
        let line = ["--no-fail-fast", "--all-targets", "--", "--skip", "postgres::"];
        step("tests", cargo(place).arg("test").args(WORKSPACE).args(line))
    };
    // The whole workspace is selected although only wire, token and sdk/rust have doctests (`doctest = false` in the
    // others): naming three packages would resolve features anew and compile the third-party crates again.
    let docs = step("doctests", cargo(place).arg("test").args(WORKSPACE).arg("--doc"));
    both(tests, docs)
}

/// A cluster for all of them; each makes a database of its own in it.
fn postgres(place: &Place, _: &mut Background) -> Result {
    let started = Instant::now();
    let cluster = Server::find()?;
    match cluster {
        Server::Named(_) => eprintln!("    the server that {} names", postgres::VARIABLE),
        Server::Started(_) => eprintln!("    PostgreSQL was there after {}", process::seconds(started.elapsed())),
    }
    // `tests/it` runs the binary that lies in the target directory.
    step("build", cargo(place).arg("build").args(WORKSPACE).arg("--all-targets"))?;
    let mut tests = cargo(place);
    if probe("cargo", &["nextest", "--version"]).is_some() {
        tests.args(["nextest", "run"]).args(WORKSPACE).args(["--no-fail-fast", "--profile", "postgres"]);
    } else {
        tests.arg("test").args(WORKSPACE).args(["--no-fail-fast", "--all-targets", "--", "postgres::"]);
    }
    step("tests", tests.env(postgres::VARIABLE, cluster.url()))
}

fn python(place: &Place, background: &mut Background) -> Result {
    let reader = spec_reader(place, background);
    let openai = background.openai.take().map_or(Ok(()), |making| openai(place, making));
    let amie = background.amie.take().map_or(Ok(()), |making| amie(place, making));
    let schemathesis = background.schemathesis.take().map_or(Ok(()), |making| schemathesis(place, making));
    both(both(reader, openai), both(amie, schemathesis))
}

fn spec_reader(place: &Place, background: &mut Background) -> Result {
    let making = background.reader.take().expect("started whenever the python group is chosen");
    let venv = making.finish()?;
    eprintln!("    venv spec: {}", process::seconds(venv.took));
    step("spec reader", &mut venv.script(place, READER))?;
    step("a receiver of notices", &mut venv.script(place, NOTICES))
}

fn openai(place: &Place, making: Making) -> Result {
    let venv = making.finish()?;
    eprintln!("    venv openai: {}", process::seconds(venv.took));
    // Re-foots the house's books there.
    if probe("hledger", &["--version"]).is_none() {
        process::install(&["hledger"])?;
    }
    if !place.binary().is_file() {
        demo::build(place)?;
    }
    step("openai package", venv.script(place, OPENAI).arg(place.binary()))
}

fn amie(place: &Place, making: Making) -> Result {
    let venv = making.finish()?;
    eprintln!("    venv amie: {}", process::seconds(venv.took));
    if !place.binary().is_file() {
        demo::build(place)?;
    }
    step("amieclient package", venv.script(place, AMIE).arg(place.binary()))?;
    step("two houses by AMIE", venv.script(place, ACCESS).arg(place.binary()))
}

fn schemathesis(place: &Place, making: Making) -> Result {
    let venv = making.finish()?;
    eprintln!("    venv schemathesis: {}", process::seconds(venv.took));
    if !place.binary().is_file() {
        demo::build(place)?;
    }
    step("schemathesis", venv.script(place, openapi::SCRIPT).arg(place.binary()))
}

/// The same federation as the python group's, started by Python's own library; the client is Node's.
fn node(place: &Place, _: &mut Background) -> Result {
    let folder = node::install(place, NODE_PACKAGE)?;
    if !place.binary().is_file() {
        demo::build(place)?;
    }
    let mut command = process::program(place, "python3");
    command.arg(FEDERATION).arg(place.binary()).args(["node", NODE]);
    command.env("COMITY_NODE_MODULES", folder).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    step("openai package for node", &mut command)
}

fn tools(place: &Place, background: &mut Background) -> Result {
    tools::run(place, background.tools.take().expect("started whenever the tools group is chosen"))
}

fn lint(place: &Place, _: &mut Background) -> Result {
    let format = step("rustfmt", cargo(place).args(["fmt", "--all", "--check"]))
        .map_err(|failure| failure.hint("cargo fmt --all"));
    let clippy = step(
        "clippy",
        cargo(place).args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    let deny = if probe("cargo", &["deny", "--version"]).is_some() {
        step("cargo deny", cargo(place).args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
    } else {
        eprintln!("    cargo deny is not installed; the architecture test has checked licences, bans and floors");
        Ok(())
    };
    both(both(format, clippy), deny)
}

/// The first failure; a second one is printed here, so that none is lost.
pub(crate) fn both(first: Result, second: Result) -> Result {
    match (first, second) {
        (Err(first), Err(second)) => {
            second.print();
            Err(first)
        }
        (first, second) => first.and(second),
    }
}

fn table(rows: &[(&Group, Duration, Result)]) {
    println!("\n{:<8} {:>8} {:>8}  result", "group", "seconds", "budget");
    for (group, took, result) in rows {
        let word = match result {
            Ok(()) if *took > group.budget => "ok, over budget",
            Ok(()) => "ok",
            Err(_) => "FAILED",
        };
        println!("{:<8} {:>8.1} {:>8}  {word}", group.name, took.as_secs_f64(), group.budget.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_group_runs_and_a_wrong_name_is_refused() {
        assert_eq!(chosen(&[]).expect("all").len(), GROUPS.len());
        assert_eq!(chosen(&["lint".to_owned()]).expect("one")[0].name, "lint");
        assert!(chosen(&["lnt".to_owned()]).err().and_then(|failure| failure.hint).expect("a hint").contains("python"));
    }
}
