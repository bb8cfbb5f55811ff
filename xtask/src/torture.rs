//! `cargo xtask torture`: kill −9 of every kind of process, at named points and at random, and attacks on a node.
//!
//! The stories are `comity-torture` in `tests`; this builds it with everything that it starts, and hands over.

use std::process::Stdio;

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::postgres::{Cluster, Promise, VARIABLE};
use crate::process::{self, WORKSPACE};

pub(crate) const HELP: &str = "\
Kill every kind of process under load (node, clearing house, hub, wallet): at named points between two durable things,
then at random times. After each death it is started again and everything has to resume; at the end the house's books are
held against the wallets. Attack a node that stays up: a storm of callers that hang up, a model's server that lies, 1,000 slow
readers, a disk that is full, a database that is cut off from one of two processes.

Usage: cargo xtask torture [gateway|clearing] [--cycles N] [--seed N] [--kind node|house|hub|wallet]…
                           [--attack storm|liars|readers|full|partition]… [--store sqlite|postgres] [--json]

  gateway      Only what concerns a node: its deaths and all attacks
  clearing     Only the clearing house: N faults of what keeps its books (SQLite: the power is cut, the disk is full; PostgreSQL:
               stopped without warning, the answer of COMMIT lost), of its clock, 200 who want the last credit, storms of
               replays; then deaths of its process, a tenth as many
  --cycles N   Deaths of each kind at named points, and as many at random; faults of disk and database [default: 20]
  --seed N     Where and when; a run prints the one it took
  --kind K     Only this kind; may be given more than once
  --attack A   Only this attack; may be given more than once. `full` is for sqlite, `partition` for postgres
  --store S    Where the node keeps its books [default: sqlite]; a PostgreSQL is started for `postgres`
  --json       A row for each attack, then one object, on stdout; progress is on stderr either way

Prints cycles, acked, lost, doubled, overspent_ucr, phantom_refusals, audit_clean. Ends with an error unless the four
in the middle are 0 and the audit is clean, and every point that was due was reached. 20 cycles take about ten minutes
on two cores.
";

/// Flags that take a value.
const VALUED: &[&str] = &["--cycles", "--seed", "--kind", "--attack", "--store"];

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    check(args)?;
    if process::probe("cc", &["--version"]).is_none() {
        process::install(&["build-essential"])?;
    }
    // All targets, as `cargo xtask test` builds them: then nothing is compiled for this alone.
    let mut build = process::cargo(place);
    build.arg("build").args(WORKSPACE).arg("--all-targets").stdout(Stdio::null());
    process::step("build", &mut build)?;
    let program = place.target.join("debug").join(format!("comity-torture{}", std::env::consts::EXE_SUFFIX));
    // A thousand slow readers have a connection each, and so has the model's server: as many files as this account may open.
    let mut torture = process::program(place, "sh");
    torture.args(["-c", "ulimit -S -n \"$(ulimit -H -n)\"; exec \"$0\" \"$@\""]).arg(program).args(args);
    let is_postgres = args.windows(2).any(|pair| pair == ["--store", "postgres"]);
    let cluster = if is_postgres { Some(Cluster::start(Promise::None)?) } else { None };
    if let Some(cluster) = &cluster {
        torture.env(VARIABLE, cluster.url());
    }
    process::step("torture", &mut torture)
}

fn check(args: &[String]) -> Result {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if VALUED.contains(&arg.as_str()) {
            args.next().ok_or_else(|| Failure::input(format!("`{arg}` wants a value")))?;
        } else if !matches!(arg.as_str(), "--json" | "gateway" | "clearing") {
            return Err(Failure::input(format!("`{arg}` is not understood")).hint("cargo xtask torture --help"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused_before_anything_is_built() {
        let check = |line: &str| check(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        check("gateway --attack storm").expect("all of it is understood");
        check("--json --cycles 2 --seed 7 --kind hub --kind node --store postgres").expect("all of it is understood");
        assert!(check("--cycle 2").is_err());
        assert!(check("--seed").is_err());
    }
}
