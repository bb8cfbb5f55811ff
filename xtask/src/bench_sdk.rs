//! `cargo xtask bench sdk`: the researcher's side, beside the `openai` package and plain asyncio.
//!
//! The shipped binary, the wheel, and the gateway bench's upstream, all of the release profile; `tests/python/bench/sdk.py` plays
//! and measures. Each of them can be one that is ready, named in the environment, so that the bench can be tried in minutes.

use std::env;
use std::path::PathBuf;

use crate::bench;
use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process;
use crate::python::Making;
use crate::wheel;

const SCRIPT: &str = "tests/python/bench/sdk.py";
const PARTS: &[&str] = &["proxy", "batch", "search", "wheel"];
/// What is ready already.
const BINARY: &str = "COMITY_BENCH_BINARY";
const UPSTREAM: &str = "COMITY_BENCH_UPSTREAM";
const WHEEL: &str = "COMITY_BENCH_WHEEL";
const CATALOGUE: &str = "COMITY_BENCH_CATALOGUE";

/// What the words after `sdk` ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    parts: Vec<String>,
    items: Option<u32>,
    models: Option<u32>,
    json: bool,
}

impl Wish {
    fn read(words: &[&String]) -> Result<Self> {
        let mut wish = Self::default();
        for word in words {
            match word.as_str() {
                "--json" => wish.json = true,
                part if PARTS.contains(&part) => wish.parts.push(part.to_owned()),
                other => {
                    let (name, count) = other.split_once('=').unwrap_or((other, ""));
                    let count = count.parse().ok().filter(|count| *count > 0);
                    match (name, count) {
                        ("--items", Some(_)) => wish.items = count,
                        ("--models", Some(_)) => wish.models = count,
                        _ => {
                            return Err(Failure::input(format!("the bench `sdk` does not know `{other}`"))
                                .hint(format!("[{}]… [--items=10000] [--models=100000] [--json]", PARTS.join("|"))));
                        }
                    }
                }
            }
        }
        Ok(wish)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|one| one == part)
    }

    /// Whether anything needs a federation.
    fn asks(&self) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|one| one != "wheel")
    }
}

pub(crate) fn run(place: &Place, words: &[&String]) -> Result {
    let wish = Wish::read(words)?;
    // Under the name, and so the environment, of the tools' tests.
    let packages = Making::start(place, "tools-openai", "tests/python/requirements.txt");
    let wheel = if wish.wants("wheel") { Some(wheel_of(place)?) } else { None };
    let (binary, upstream) = if wish.asks() { programs(place)? } else { (place.binary(), place.binary()) };
    let mut bench = packages.finish()?.script(place, SCRIPT);
    bench.arg(binary).arg(upstream);
    if let Some(wheel) = wheel {
        bench.arg("--wheel").arg(wheel);
    }
    if wish.wants("search") {
        bench.arg("--catalogue").arg(catalogue(place)?);
    }
    if let Some(models) = wish.models {
        bench.arg("--models").arg(models.to_string());
    }
    if let Some(items) = wish.items {
        bench.arg("--items").arg(items.to_string());
    }
    if wish.json {
        bench.arg("--json");
    }
    bench.args(&wish.parts);
    process::step("bench", &mut bench)
}

fn wheel_of(place: &Place) -> Result<PathBuf> {
    match ready(WHEEL)? {
        Some(wheel) => Ok(wheel),
        None => wheel::build(place, &wheel::making(place).finish()?, false),
    }
}

/// The binary, and the gateway bench's callers, which serve as the upstream too.
fn programs(place: &Place) -> Result<(PathBuf, PathBuf)> {
    let (binary, upstream) = (ready(BINARY)?, ready(UPSTREAM)?);
    if let (Some(binary), Some(upstream)) = (&binary, &upstream) {
        return Ok((binary.clone(), upstream.clone()));
    }
    let callers = bench::shipped_build(place)?;
    let made = place.target.join(bench::DIST).join(format!("comity{}", env::consts::EXE_SUFFIX));
    Ok((binary.unwrap_or(made), upstream.unwrap_or(callers)))
}

/// Signs the feeds that a search is made over.
fn catalogue(place: &Place) -> Result<PathBuf> {
    if let Some(program) = ready(CATALOGUE)? {
        return Ok(program);
    }
    let mut build = process::cargo(place);
    build.args([
        "build",
        "--locked",
        "--release",
        "-p",
        "comity-node",
        "-p",
        "comity-tests",
        "--example",
        "bench_catalogue",
    ]);
    process::step("build", &mut build)?;
    Ok(place.target.join("release/examples/bench_catalogue"))
}

/// What a variable names, where it is set: relative to where cargo was called, and it has to be there.
fn ready(variable: &str) -> Result<Option<PathBuf>> {
    let Some(named) = env::var_os(variable).filter(|named| !named.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(named);
    let path =
        path.canonicalize().map_err(|error| Failure::input(format!("{variable}={}: {error}", path.display())))?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Wish> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wish::read(&words.iter().collect::<Vec<_>>())
    }

    #[test]
    fn without_a_part_it_is_all_of_them() {
        let wish = read("--json").expect("it is understood");
        assert!(wish.json && wish.asks() && PARTS.iter().all(|part| wish.wants(part)));
        let wish = read("wheel --items=50 --models=9000").expect("it is understood");
        assert!(!wish.asks() && wish.wants("wheel") && !wish.wants("batch"));
        assert_eq!((wish.items, wish.models), (Some(50), Some(9_000)));
    }

    #[test]
    fn what_is_not_understood_is_named_and_nothing_is_built() {
        for wrong in ["wheels", "--items=0", "--items=many", "--items", "--models=", "--peers"] {
            let failure = read(&format!("proxy {wrong}")).expect_err("it is an error");
            assert_eq!(failure.exit, 1);
            assert!(failure.hint.expect("a hint").contains("proxy|batch|search|wheel"));
        }
    }

    #[test]
    fn the_script_and_the_task_name_the_same_parts() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout");
        let text = std::fs::read_to_string(root.join(SCRIPT)).expect("the script");
        let quoted: Vec<_> = PARTS.iter().map(|part| format!("\"{part}\"")).collect();
        assert!(text.contains(&format!("PARTS = ({})", quoted.join(", "))));
    }
}
