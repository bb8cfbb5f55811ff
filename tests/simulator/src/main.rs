//! `comity-simulator --seeds N [--seed S] [--steps K] [--json]`: what `cargo xtask simulate money` runs.
// Stdout is where the result goes.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Instant;

use comity_simulator::{Report, STEPS, Sound, campaign, kept};

struct Asked {
    seeds: u64,
    seed: u64,
    steps: u32,
    json: bool,
}

fn main() -> ExitCode {
    let asked = match read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("error: {why}\n\nUsage: comity-simulator [--seeds N] [--seed S] [--steps K] [--json]");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let replayed = kept(&Sound);
    let report = campaign(asked.seed, asked.seeds, asked.steps, &Sound);
    let took = began.elapsed().as_secs_f64();
    for (what, times) in &report.met {
        eprintln!("{times:>12}  {what}");
    }
    for (bound, left) in &report.slack {
        let left = if *left == i64::MAX { "holds".to_owned() } else { format!("{left} left") };
        eprintln!("{left:>20}  {bound}");
    }
    let kept_count = replayed.seeds;
    eprintln!("{} schedules and {kept_count} kept ones in {took:.1} s", report.seeds);
    let broken = replayed.failed.len() + report.failed.len();
    for failed in replayed.failed.iter().chain(&report.failed) {
        eprintln!(
            "\nseed {} steps {}: {}: {}",
            failed.seed, failed.steps, failed.violation.bound, failed.violation.what
        );
        failed.trace.iter().for_each(|line| eprintln!("    {line}"));
        eprintln!("again: cargo xtask simulate money --seeds 1 --seed {} --steps {}", failed.seed, failed.steps);
    }
    println!("{}", shown(&report, broken, asked.json));
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn shown(report: &Report, broken: usize, json: bool) -> String {
    let Report { seeds, steps, .. } = report;
    let slack = report.min_slack_ucr();
    if json {
        format!(r#"{{"seeds":{seeds},"steps":{steps},"bound_violations":{broken},"min_slack_ucr":{slack}}}"#)
    } else {
        format!("{seeds} schedules, {steps} steps: {broken} bounds broken, {slack} µcr the least that was left")
    }
}

fn read(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { seeds: 10_000, seed: 1, steps: STEPS, json: false };
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().ok_or_else(|| format!("`{arg}` wants a number"))?;
            text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"))
        };
        match arg.as_str() {
            "--seeds" => asked.seeds = number()?,
            "--seed" => asked.seed = number()?,
            "--steps" => asked.steps = u32::try_from(number()?).map_err(|_| "too many steps".to_owned())?,
            "--json" => asked.json = true,
            _ => return Err(format!("`{arg}` is not understood")),
        }
    }
    Ok(asked)
}
