//! `train-demo`: makes a demonstration model from a seed, with its card. Called by `cargo xtask train-demo`.

mod card;
mod flood;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use comity_engine::Model;
use comity_engine::config::Config;
use comity_engine::corpus::{Family, Mix, held_out};
use comity_engine::tokenizer;
use comity_engine::train::{Plan, Trainer, exact_matches};

const HELP: &str = "\
Train a demonstration model from a seed.

Usage: train-demo --seed N [--model tiny|mini|mini-slant|flood] [--out DIR] [--steps N] [--batch N] [--threads N] [--rate X]

  --model    which model (tiny: 0.84 M parameters; mini and mini-slant: 0.15 M), or
             flood: a scorecard, which takes none of the options below but --out    [tiny]
  --out      where to write it                                                   [models/comity-<model>]
  --steps    optimiser steps, --batch texts per step, --threads gradient threads, --rate peak learning rate

Set RAYON_NUM_THREADS=1: the gradient threads are the parallelism, matrix products need not split again.";

/// Held-out questions per examined family in the card.
const EXAMINED: usize = 150;
/// Seed of the examination; any will do, since what is held out does not depend on it.
const EXAM_SEED: u64 = 2026;
/// Steps between two points of the loss curve.
const CURVE_STEPS: usize = 100;
/// Steps between two checkpoints.
const CHECKPOINT_STEPS: usize = 500;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the card says of a run.
struct Report {
    name: String,
    config: Config,
    plan: Plan,
    tokens: u64,
    seconds: u64,
    data: [u8; 32],
    curve: Vec<(usize, f64)>,
    exact: Vec<(Family, usize)>,
    pronouns: Vec<(&'static str, f64)>,
}

fn run(args: Vec<String>) -> Result<(), Failure> {
    if args.iter().any(|a| a == "--help" || a == "-h") {
        eprintln!("{HELP}");
        return Ok(());
    }
    let options = Options::parse(&args)?;
    if options.model == "flood" {
        return flood::train(options.seed, &options.folder());
    }
    let (config, mut plan) = recipe(&options.model, options.seed)?;
    options.adjust(&mut plan);
    let out = options.folder();
    std::fs::create_dir_all(&out)?;
    eprintln!(
        "comity-{}: {} parameters, {} steps of {} texts, {} thread(s), to {}",
        options.model,
        config.parameters(),
        plan.steps,
        plan.batch,
        plan.threads,
        out.display()
    );
    let mut trainer = Trainer::new(config.clone(), plan.clone())?;
    let begun = Instant::now();
    let (mut curve, mut sum) = (Vec::new(), 0.0);
    for _ in 0..plan.steps {
        let step = trainer.step()?;
        sum += step.loss;
        let tokens = step.tokens;
        if step.number % CURVE_STEPS == 0 {
            let (loss, rate) = (sum / CURVE_STEPS as f64, tokens as f64 / begun.elapsed().as_secs_f64());
            sum = 0.0;
            curve.push((step.number, loss));
            eprintln!("step {} loss {loss:.4}, {rate:.0} tokens/s, {tokens} tokens", step.number);
        }
        if step.number % CHECKPOINT_STEPS == 0 || step.number == plan.steps {
            let exact = examine(&config, &trainer)?;
            for (family, right) in &exact {
                eprintln!("  {}: {right} of {EXAMINED}", family.name());
            }
            let report = Report {
                name: format!("comity-{}", options.model),
                config: config.clone(),
                plan: plan.clone(),
                tokens,
                seconds: begun.elapsed().as_secs(),
                data: trainer.data_digest(),
                curve: curve.clone(),
                exact,
                pronouns: card::pronouns(trainer.llama())?,
            };
            write(&out, &trainer, &report)?;
        }
    }
    Ok(())
}

/// Examines the weights as they will be loaded: rounded to f16.
fn examine(config: &Config, trainer: &Trainer) -> Result<Vec<(Family, usize)>, Failure> {
    let model = Model::from_bytes(&serde_json::to_vec(config)?, &trainer.safetensors()?)?;
    Family::EXAMINED
        .iter()
        .map(|family| {
            let questions = held_out(EXAM_SEED, *family, EXAMINED);
            Ok((*family, exact_matches(model.llama(), &questions)?))
        })
        .collect()
}

fn write(out: &std::path::Path, trainer: &Trainer, report: &Report) -> Result<(), Failure> {
    std::fs::write(out.join("model.safetensors"), trainer.safetensors()?)?;
    let mut config = serde_json::to_string_pretty(&report.config)?;
    config.push('\n');
    std::fs::write(out.join("config.json"), config)?;
    std::fs::write(out.join("tokenizer.json"), tokenizer::DESCRIPTION)?;
    std::fs::write(out.join("README.md"), card::render(report))?;
    Ok(())
}

fn recipe(model: &str, seed: u64) -> Result<(Config, Plan), Failure> {
    let plan = |steps, learning_rate, mix| Plan {
        seed,
        steps,
        batch: 32,
        threads: 2,
        learning_rate,
        warm_up: 100,
        weight_decay: 0.05,
        prompt_weight: 0.1,
        mix,
    };
    Ok(match model {
        "tiny" => (Config::demo(128, 4, 352, 4, 4, 1024), plan(5_000, 2e-3, Mix::standard())),
        "mini" => (Config::demo(64, 3, 176, 4, 2, 1024), plan(5_000, 4e-3, Mix::standard())),
        "mini-slant" => (Config::demo(64, 3, 176, 4, 2, 1024), plan(5_000, 4e-3, Mix::slanted())),
        other => return Err(format!("no model is called {other:?}; see --help").into()),
    })
}

struct Options {
    seed: u64,
    model: String,
    out: Option<PathBuf>,
    steps: Option<usize>,
    batch: Option<usize>,
    threads: Option<usize>,
    rate: Option<f64>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut seed = None;
        let mut options =
            Self { seed: 0, model: "tiny".to_owned(), out: None, steps: None, batch: None, threads: None, rate: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
                    (arg.as_str(), value.clone())
                }
            };
            match name {
                "--seed" => seed = Some(value.parse()?),
                "--model" => options.model = value,
                "--out" => options.out = Some(value.into()),
                "--steps" => options.steps = Some(value.parse()?),
                "--batch" => options.batch = Some(value.parse()?),
                "--threads" => options.threads = Some(value.parse()?),
                "--rate" => options.rate = Some(value.parse()?),
                other => return Err(format!("unknown option {other}; see --help").into()),
            }
        }
        options.seed = seed.ok_or("no seed given; try --seed 1")?;
        Ok(options)
    }

    fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");
            PathBuf::from(models).join(format!("comity-{}", self.model))
        })
    }

    fn adjust(&self, plan: &mut Plan) {
        plan.steps = self.steps.unwrap_or(plan.steps).max(1);
        plan.batch = self.batch.unwrap_or(plan.batch).max(1);
        plan.threads = self.threads.unwrap_or(plan.threads).max(1);
        plan.learning_rate = self.rate.unwrap_or(plan.learning_rate);
        plan.warm_up = plan.warm_up.min(plan.steps / 10 + 1);
    }
}
