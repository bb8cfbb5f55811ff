//! `cargo xtask simulate money`: the real cores under one seeded clock, and an adversary.
//!
//! The schedules are `comity-simulator` in `tests/simulator`; this builds it and hands over.

use std::process::Stdio;

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::{self, WORKSPACE};

pub(crate) const HELP: &str = "\
Play schedules of the money simulator: the cores of wallet, gateway and clearing house under one seeded clock, with an
adversary who crashes, restores old backups, replays, reorders, drops, lies, colludes, skews clocks and closes the house for
days. Every bound of the design is checked after each step; schedules that failed once are replayed first.

Usage: cargo xtask simulate money [--seeds N] [--seed S] [--steps K] [--json]

  --seeds N   How many schedules [default: 10000, about two minutes]
  --seed S    The first of them [default: 1]
  --steps K   How long each is [default: 90]
  --json      One object on stdout: seeds, steps, bound_violations, min_slack_ucr; the rest is on stderr either way

Ends with an error where a bound was broken, and shows seed, steps and the last that happened. Keep such a schedule: a line in
tests/simulator/kept.txt.
";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let args = check(args)?;
    if process::probe("cc", &["--version"]).is_none() {
        process::install(&["build-essential"])?;
    }
    let mut build = process::cargo(place);
    build.arg("build").args(WORKSPACE).arg("--all-targets").stdout(Stdio::null());
    process::step("build", &mut build)?;
    let program = place.target.join("debug").join(format!("comity-simulator{}", std::env::consts::EXE_SUFFIX));
    process::step("simulate", process::program(place, program).args(args))
}

fn check(args: &[String]) -> Result<&[String]> {
    let Some((what, rest)) = args.split_first() else {
        return Err(Failure::input("what is to be simulated?").hint("cargo xtask simulate money"));
    };
    if what != "money" {
        return Err(Failure::input(format!("`{what}` cannot be simulated")).hint("cargo xtask simulate money"));
    }
    let mut left = rest.iter();
    while let Some(arg) = left.next() {
        if matches!(arg.as_str(), "--seeds" | "--seed" | "--steps") {
            left.next().ok_or_else(|| Failure::input(format!("`{arg}` wants a number")))?;
        } else if arg != "--json" {
            return Err(Failure::input(format!("`{arg}` is not understood")).hint("cargo xtask simulate --help"));
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused_before_anything_is_built() {
        let check = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            check(&words).map(<[String]>::len)
        };
        assert_eq!(check("money --seeds 5 --seed 7 --steps 10 --json").ok(), Some(7));
        for wrong in ["", "federation", "money --seed", "money --fast"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
