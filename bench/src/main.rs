//! Figures beside their yardsticks: `token`. The gateway's are measured in `tests/examples/bench_gateway`.
//!
//! Each yardstick is measured in the same run, interleaved with ours, median of the rounds. Stdout carries figures only.

#[path = "../../crates/comity-token/examples/vectors/chains.rs"]
#[allow(dead_code)]
mod chains;
mod figure;
mod token;
#[path = "../../crates/comity-token/examples/vectors/world.rs"]
#[allow(dead_code)]
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let names: Vec<_> = arguments.iter().filter(|argument| *argument != "--json").map(String::as_str).collect();
    let measured = match names.as_slice() {
        ["token"] => Ok(token::measure()),
        _ => Err("error: say what to measure\nhint: comity-bench token [--json]".to_owned()),
    };
    match measured {
        Ok(figures) => {
            figure::print(&figures, json);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
