//! `cargo xtask bench`: figures beside their yardsticks, one JSON object a line or a table for people.
//!
//! Yardsticks (biscuit-auth and the like) live in `bench/`, a package outside the workspace with its own lock, so their
//! features never reach the shipped binary. The gateway's yardstick is a program, so its bench is an example on the
//! federation harness. The demo is measured here, since it needs nothing but the binary.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::bench_sdk;
use crate::demo;
use crate::failure::{Failure, Result};
use crate::peers;
use crate::place::Place;
use crate::postgres::{self, Cluster, Promise};
use crate::process;

pub(crate) const HELP: &str = "\
Measure, beside yardsticks in the same run, median of at least five rounds (the demo: three).

Usage: cargo xtask bench <what> [--json]
       cargo xtask bench gateway [--peers] [beside|doors|curve|streams|peers]… [--json]
       cargo xtask bench ledger [sqlite|postgres|hot|audit]… [--json]
       cargo xtask bench sdk [proxy|batch|search|wheel]… [--items=10000] [--json]

What:
  token     µs to verify a token with three delegation blocks, and a manifest; yardsticks: bare verify_strict, biscuit-auth
  gateway   requests per second, added latency, memory, streams held, one caller to 256; yardstick: nginx as a plain proxy,
            same upstream. About 15 minutes; parts of it by their names
  ledger    reservations and settled receipts per second on SQLite and PostgreSQL, an audit of a million transfers; yardsticks:
            pgbench, bare verify_strict. About 6 minutes; parts of it by their names
  guard     µs to look at a KiB of text by rules and classifier, recall and false flags on held-out data; yardstick: memchr.
            ms to list 10,000 applications, µs to decide about a call
  sdk       ms that proxy and node add, items per second and memory of a batch, a search from the shell, size and import of
            the wheel; yardstick: the package openai, straight to the same upstream. Parts of it by their names. What is built
            already: COMITY_BENCH_BINARY, COMITY_BENCH_WHEEL, and the example bench_gateway as COMITY_BENCH_UPSTREAM
  demo      seconds of `comity demo` after the build

  --peers   gateway: beside Portkey's gateway (npm), LiteLLM (PyPI) and liter-llm (crates.io: compiles 400 crates), which their
            package managers put under target/
  --json    One JSON object per line on stdout; logs stay on stderr

A figure whose part does not exist yet prints `value: null` and names what brings it.
docs/reference/performance.md keeps the history.
";

/// Rounds of the demo; each is a whole federation, so three.
const DEMO_ROUNDS: usize = 3;

/// Benches whose parts come later: their figures, and the work that brings them.
const LATER: &[(&str, &str, &[&str])] = &[(
    "federation",
    "the federation issue",
    &[
        "spread_5000_s",
        "spread_5000_no_gossip_s",
        "gossip_missed_real",
        "leaf_idle_bytes_per_s",
        "leaf_busy_bytes_per_s",
        "cold_start_cpu_s",
        "cold_start_mb",
        "search_100k_p50_ms",
        "search_100k_p99_ms",
        "search_rebuild_s",
        "search_rss_mb",
    ],
)];

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let (flags, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.starts_with('-'));
    if names.first().is_some_and(|name| name.as_str() == "sdk") {
        return bench_sdk::run(place, &[&names[1..], &flags].concat());
    }
    let said = |flag: &str| flags.iter().any(|said| said.as_str() == flag);
    let is_gateway = names.first().is_some_and(|name| name.as_str() == "gateway");
    if let Some(flag) = flags.iter().find(|flag| !(**flag == "--json" || is_gateway && **flag == "--peers")) {
        return Err(Failure::input(format!("`{flag}` is not understood")).hint("cargo xtask bench --help"));
    }
    let json = said("--json");
    if is_gateway {
        return gateway(place, &names[1..], said("--peers"), json);
    }
    if names.first().is_some_and(|name| name.as_str() == "ledger") {
        return ledger(place, &names[1..], json);
    }
    let &[what] = names.as_slice() else {
        return Err(Failure::input("say what to measure")
            .hint("cargo xtask bench token|gateway|ledger|guard|sdk|demo [--json]"));
    };
    match what.as_str() {
        "token" => beside_yardsticks(place, "token", json),
        "guard" => guard(place, json),
        "demo" => {
            print_figures(&[demo_seconds(place)?], json);
            Ok(())
        }
        other => {
            let Some((_, brings, metrics)) = LATER.iter().find(|(name, ..)| *name == other) else {
                return Err(Failure::input(format!("no bench is called `{other}`")).hint("cargo xtask bench --help"));
            };
            let figures: Vec<Value> =
                metrics.iter().map(|metric| figure(metric, None, "", 0, &format!("comes with {brings}"))).collect();
            print_figures(&figures, json);
            Ok(())
        }
    }
}

/// Runs the package outside the workspace; it prints its own lines.
fn beside_yardsticks(place: &Place, what: &str, json: bool) -> Result {
    let manifest = place.root.join("bench/Cargo.toml");
    if !manifest.is_file() {
        return Err(Failure::machine("bench/Cargo.toml is not there").hint("the checkout is not whole: git status"));
    }
    let mut bench = process::cargo(place);
    bench.env_remove("CARGO_TARGET_DIR");
    bench.args(["run", "--locked", "--release", "--manifest-path"]).arg(manifest);
    bench.arg("--target-dir").arg(place.target.join("bench")).args(["--", what]);
    if json {
        bench.arg("--json");
    }
    process::step("bench", &mut bench)
}

/// Parts of the gateway's bench; without one it is all of them, other gateways only where they are asked for.
const GATEWAY_PARTS: &[&str] = &["beside", "doors", "curve", "streams", "peers"];

/// Parts of the ledger's bench; without one it is all of them.
const LEDGER_PARTS: &[&str] = &["sqlite", "postgres", "hot", "audit"];

fn check_parts(bench: &str, parts: &[&String], known: &[&str]) -> Result {
    match parts.iter().find(|part| !known.contains(&part.as_str())) {
        Some(part) => Err(Failure::input(format!("the bench `{bench}` has no part `{part}`"))
            .hint(format!("parts: {}", known.join(", ")))),
        None => Ok(()),
    }
}

fn gateway(place: &Place, parts: &[&String], peers: bool, json: bool) -> Result {
    check_parts("gateway", parts, GATEWAY_PARTS)?;
    let peers = peers || parts.iter().any(|part| part.as_str() == "peers");
    let program = gateway_build(place)?;
    let mut bench = process::program(place, program);
    bench.args(parts);
    if peers {
        bench.args(peers::install(place));
    }
    if json {
        bench.arg("--json");
    }
    process::step("bench", &mut bench)
}

/// [`shipped_build`], and nginx.
pub(crate) fn gateway_build(place: &Place) -> Result<PathBuf> {
    // Debian keeps it out of an ordinary user's path.
    if process::probe("nginx", &["-v"]).is_none() && process::probe("/usr/sbin/nginx", &["-v"]).is_none() {
        process::install(&["nginx-light"]).map_err(|failure| failure.hint("apt-get install nginx-light"))?;
    }
    shipped_build(place)
}

/// The profile of what an owner runs.
pub(crate) const DIST: &str = "dist";

/// The shipped binary and the callers, of the same packages, so that both share each compiled crate. Gives the callers' program.
pub(crate) fn shipped_build(place: &Place) -> Result<PathBuf> {
    // One after the other: to link either takes gigabytes.
    for what in [["--bin", "comity"], ["--example", "bench_gateway"]] {
        let mut build = process::cargo(place);
        build.args(["build", "--locked", "--profile", DIST, "-p", "comity-node", "-p", "comity-tests"]).args(what);
        process::step("build", &mut build)?;
    }
    Ok(place.target.join(DIST).join("examples/bench_gateway"))
}

/// A house in the bench's own process, beside a PostgreSQL that keeps what it was told.
fn ledger(place: &Place, parts: &[&String], json: bool) -> Result {
    check_parts("ledger", parts, LEDGER_PARTS)?;
    let bin = postgres::binaries()?;
    let mut build = process::cargo(place);
    // With the node's package, as the gateway's bench: both then share each compiled crate.
    build.args([
        "build",
        "--locked",
        "--release",
        "-p",
        "comity-node",
        "-p",
        "comity-tests",
        "--example",
        "bench_ledger",
    ]);
    process::step("build", &mut build)?;
    let cluster = Cluster::start(Promise::Durable)?;
    let mut bench = process::program(place, place.target.join("release/examples/bench_ledger"));
    bench.args(parts);
    bench.env(postgres::VARIABLE, cluster.url()).env("COMITY_BENCH_POSTGRES_BIN", bin);
    if json {
        bench.arg("--json");
    }
    process::step("bench", &mut bench)
}

/// Guard and desk need nothing of the others, so their benches are examples of their own rooms.
fn guard(place: &Place, json: bool) -> Result {
    for (room, example) in [("comity-guard", "bench_guard"), ("comity-access", "bench_access")] {
        let mut build = process::cargo(place);
        build.args(["build", "--locked", "--release", "-p", room, "--example", example]);
        process::step("build", &mut build)?;
        let mut bench = process::program(place, place.target.join("release/examples").join(example));
        if json {
            bench.arg("--json");
        }
        process::step("bench", &mut bench)?;
    }
    Ok(())
}

/// Wall time of `comity demo --json`, three whole federations one after the other.
fn demo_seconds(place: &Place) -> Result<Value> {
    demo::build(place)?;
    let mut rounds = Vec::with_capacity(DEMO_ROUNDS);
    for round in 1..=DEMO_ROUNDS {
        let started = Instant::now();
        let output = process::program(place, place.binary())
            .args(["demo", "--json"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure::machine(format!("cannot start the demo: {error}")))?;
        let took = started.elapsed();
        if !output.status.success() {
            return Err(Failure::input(format!("the demo ended with {} in round {round}", output.status)));
        }
        let report: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::input(format!("the demo's report is not one JSON object: {error}")))?;
        if report["ledger_sum_ucr"] != json!(0) {
            return Err(Failure::input(format!(
                "the demo does not add up: ledger_sum_ucr is {}",
                report["ledger_sum_ucr"]
            )));
        }
        eprintln!("    round {round}: {}", process::seconds(took));
        rounds.push(took.as_secs_f64());
    }
    let note = format!(
        "dev profile, after the build; rounds {}",
        rounds.iter().map(|s| format!("{s:.2}")).collect::<Vec<_>>().join(", ")
    );
    Ok(figure("demo_seconds", Some(median(&mut rounds)), "s", DEMO_ROUNDS, &note))
}

/// A line without a yardstick.
fn figure(metric: &str, value: Option<f64>, unit: &str, n: usize, note: &str) -> Value {
    let rounded = value.map(|value| (value * 1000.0).round() / 1000.0);
    json!({
        "metric": metric, "value": rounded, "unit": unit,
        "yardstick": null, "yardstick_value": null, "ratio": null, "n": n, "note": note,
    })
}

fn print_figures(figures: &[Value], json: bool) {
    if !json {
        println!("{:<26} {:>10} {:<4} {:>3}  note", "metric", "value", "unit", "n");
    }
    for figure in figures {
        if json {
            println!("{figure}");
            continue;
        }
        let text = |key: &str| figure[key].as_str().unwrap_or_default().to_owned();
        let value = figure["value"].as_f64().map_or_else(|| "-".to_owned(), |value| value.to_string());
        println!("{:<26} {value:>10} {:<4} {:>3}  {}", text("metric"), text("unit"), figure["n"], text("note"));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_every_field_in_the_agreed_form() {
        let line = figure("demo_seconds", Some(12.345_67), "s", 3, "").to_string();
        assert_eq!(
            line,
            r#"{"metric":"demo_seconds","value":12.346,"unit":"s","yardstick":null,"yardstick_value":null,"ratio":null,"n":3,"note":""}"#
        );
        assert!(figure("reserve_pg", None, "", 0, "comes later")["value"].is_null());
    }

    #[test]
    fn the_median_is_the_middle_one_whatever_the_order() {
        assert!((median(&mut [9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
