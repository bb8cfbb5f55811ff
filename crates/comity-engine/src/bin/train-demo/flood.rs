//! The scorecard and its card.

use std::path::Path;

use comity_engine::Scorecard;
use comity_engine::scorecard::flood::{examine, fit, houses};

use crate::{EXAM_SEED, Failure};

const TRAINED_ON: usize = 8_000;
const HELD_OUT: usize = 4_000;

pub(crate) fn train(seed: u64, out: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(out)?;
    let card = fit(&houses(seed, "train", TRAINED_ON));
    let text = serde_json::to_string_pretty(&card)? + "\n";
    // As it will be read.
    let card = Scorecard::from_bytes(text.as_bytes())?;
    let exam = examine(&card, &houses(EXAM_SEED, "exam", HELD_OUT))?;
    std::fs::write(out.join("scorecard.json"), text)?;
    let weights: Vec<String> =
        card.inputs.iter().map(|input| format!("| `{}` | {:+.2} |", input.name, input.weight)).collect();
    let readme = format!(
        "\
# comity-flood

A toy risk score for demonstrations and tests: how likely an **invented** house is flooded within ten years. It shows what an
owner offers whose model is no language model (`POST /v1/predict`). Do not use it for any real house.

| | |
|---|---|
| command | `cargo xtask train-demo --seed {seed} --model flood` |
| kind | logistic scorecard, one JSON file: weights, means and scales of five quantities |
| data | {TRAINED_ON} houses of the seeded generator in `crates/comity-engine/src/scorecard/flood.rs`, no other |
| licence | MIT OR Apache-2.0, like the repository |

## What it takes

| quantity | change of the log-odds by one standard deviation |
|---|---|
{}

It gives `risk` (0 to 1) and its `band`: low below 0.2, medium, high from 0.5 on.

## What it knows

On {HELD_OUT} held-out houses:

| figure | value |
|---|---|
| brier | {:.4} |
| brier of whoever says the average | {:.4} |
| auc | {:.4} |
",
        weights.join("\n"),
        exam.brier,
        exam.brier_of_average,
        exam.auc
    );
    std::fs::write(out.join("README.md"), readme)?;
    eprintln!("comity-flood: {exam:?}, to {}", out.display());
    Ok(())
}
