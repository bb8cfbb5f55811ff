//! `cargo xtask train-demo` and `train-guard`: the committed demonstration models, and the classifier that guards models,
//! made again from their seeds.

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process;

pub(crate) const HELP: &str = "\
Train the demonstration models again from a seed: safetensors and a model card with the loss curve.

Usage: cargo xtask train-demo --seed N [arguments of the trainer]

About 6,000 tokens/s on two cores: the 0.8 M parameter model takes a good part of an hour. Same seed, same number of
threads: same loss curve (not the same bits on another machine).
";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    if !args.iter().any(|arg| arg == "--seed" || arg.starts_with("--seed=")) {
        return Err(Failure::input("no seed given").hint("cargo xtask train-demo --seed 1"));
    }
    let mut train = process::cargo(place);
    train.args(["run", "--locked", "--release", "-p", "comity-engine", "--bin", "train-demo", "--"]).args(args);
    process::step("training", &mut train)
}

pub(crate) const GUARD_HELP: &str = "\
Train the classifier that guards models again from a seed, examine it on held-out data, and write its evaluation sheet.

Usage: cargo xtask train-guard --seed N [--check]

Seconds. Writes crates/comity-guard/weights/linear.bin and docs/reference/guard.md; the same seed gives the same bytes on any
machine. --check writes nothing and fails where what is committed is not what the seed gives.
";

pub(crate) fn guard(place: &Place, args: &[String]) -> Result {
    if !args.iter().any(|arg| arg == "--seed" || arg.starts_with("--seed=")) {
        return Err(Failure::input("no seed given").hint("cargo xtask train-guard --seed 1"));
    }
    let mut train = process::cargo(place);
    train.args(["run", "--locked", "--release", "-p", "comity-guard", "--bin", "train-guard", "--"]).args(args);
    process::step("training", &mut train)
}
