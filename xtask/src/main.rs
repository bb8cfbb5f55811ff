//! Build tasks: `cargo demo` and `cargo xtask <task>`.
//!
//! Promises: no dependency on any crate of the house (so it builds in seconds and can build them), progress on
//! stderr, results on stdout, an exit code that tells, and an error that says whose move is next. A tool that is
//! missing is installed (as root) or named with the line that installs it; nothing is skipped in silence.
#![forbid(unsafe_code)]
// The printer of the build tasks: stdout is where their results go.
#![allow(clippy::print_stdout)]

mod bench;
mod bench_sdk;
mod demo;
mod doctor;
mod failure;
mod interop;
mod node;
mod openapi;
mod peers;
mod place;
mod postgres;
mod process;
mod python;
mod rooms;
mod simulate;
mod soak;
mod test;
mod tools;
mod torture;
mod train;
mod wheel;

use std::process::ExitCode;

use failure::{Failure, Result};
use place::Place;

/// One task: its name, one line about it, its help text, and what runs it.
struct Task {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    run: fn(&Place, &[String]) -> Result,
}

const TASKS: &[Task] = &[
    Task {
        name: "demo",
        about: "Build the binary and play the whole loop on this machine",
        help: demo::HELP,
        run: demo::run,
    },
    Task { name: "test", about: "Run every check, or the groups named", help: test::HELP, run: test::run },
    Task {
        name: "bench",
        about: "Measure token, gateway or demo beside their yardsticks",
        help: bench::HELP,
        run: bench::run,
    },
    Task {
        name: "soak",
        about: "Keep a node at work for an hour and see whether its memory grows",
        help: soak::HELP,
        run: soak::run,
    },
    Task {
        name: "torture",
        about: "Kill every kind of process under load, and count what was lost",
        help: torture::HELP,
        run: torture::run,
    },
    Task {
        name: "simulate",
        about: "Play schedules of the money simulator, and hold every bound of the design against them",
        help: simulate::HELP,
        run: simulate::run,
    },
    Task {
        name: "interop",
        about: "Play a story with a program of others, built from its package",
        help: interop::HELP,
        run: interop::run,
    },
    Task { name: "wheel", about: "Build the Python package as a wheel", help: wheel::HELP, run: wheel::run },
    Task {
        name: "openapi",
        about: "Write the description of the house's HTTP API, or hold the house to it",
        help: openapi::HELP,
        run: openapi::run,
    },
    Task {
        name: "postgres",
        about: "Run a command beside a PostgreSQL that is made for it",
        help: postgres::HELP,
        run: postgres::run,
    },
    Task { name: "train-demo", about: "Train the demonstration models again", help: train::HELP, run: train::run },
    Task {
        name: "train-guard",
        about: "Train the classifier that guards models again, and examine it",
        help: train::GUARD_HELP,
        run: train::guard,
    },
    Task { name: "rooms", about: "Measure how long the tests of one room take", help: rooms::HELP, run: rooms::run },
    Task {
        name: "doctor",
        about: "List the tools that are needed, found and missing",
        help: doctor::HELP,
        run: doctor::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(args: &[String]) -> Result {
    let Some((name, rest)) = args.split_first() else {
        print!("{}", overview());
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        match rest.first() {
            None => print!("{}", overview()),
            Some(topic) => print!("{}", find(topic)?.help),
        }
        return Ok(());
    }
    let task = find(name)?;
    // The demo has help of its own in the binary; `cargo demo --help` would build for minutes to print it.
    if rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{}", task.help);
        return Ok(());
    }
    (task.run)(&Place::find()?, rest)
}

fn find(name: &str) -> Result<&'static Task> {
    TASKS.iter().find(|task| task.name == name).ok_or_else(|| {
        let near = TASKS.iter().find(|task| task.name.starts_with(name) || name.starts_with(task.name));
        Failure::input(format!("no task is called `{name}`")).hint(match near {
            Some(task) => format!("did you mean `cargo xtask {}`?", task.name),
            None => "`cargo xtask help` lists them".to_owned(),
        })
    })
}

fn overview() -> String {
    let mut text = String::from("Build tasks of Comity.\n\nUsage: cargo xtask <task> [arguments]\n\nTasks:\n");
    for task in TASKS {
        text.push_str(&format!("  {:<11} {}\n", task.name, task.about));
    }
    text.push_str("\n`cargo xtask <task> --help` says more. `cargo demo` is short for `cargo xtask demo`.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_help_that_shows_its_usage() {
        for task in TASKS {
            assert!(task.help.contains("Usage: cargo"), "{} has no usage line", task.name);
            assert!(overview().contains(task.about));
        }
    }

    #[test]
    fn an_unknown_task_is_an_error_with_a_hint() {
        let failure = find("tests").err().expect("there is no task `tests`");
        assert_eq!(failure.exit, 1);
        assert!(failure.hint.expect("a hint").contains("cargo xtask test"));
    }
}
