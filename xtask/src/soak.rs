//! `cargo xtask soak`: a node under steady work, and the slope of its memory.

use crate::bench;
use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process;

pub(crate) const HELP: &str = "\
Keep a node at steady, mixed work and see whether its memory grows: short answers, streams, callers that leave, new tokens, new
connections. Samples go to stderr; the slope over all but the first quarter is the figure `gateway_rss_slope_mb_per_h`.

Usage: cargo xtask soak [--minutes N] [--json]

  --minutes N  [default: 60]; a short run's slope is mostly noise
  --json       One JSON object on stdout
";

const MINUTES: &str = "60";

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let words = words(args)?;
    let mut soak = process::program(place, bench::gateway_build(place)?);
    soak.args(words);
    process::step("soak", &mut soak)
}

/// What the program is called with.
fn words(args: &[String]) -> Result<Vec<String>> {
    let hint = "cargo xtask soak [--minutes N] [--json]";
    let (mut minutes, mut json) = (MINUTES.to_owned(), false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--minutes" => {
                let said = args.next().filter(|said| said.parse().is_ok_and(|minutes: f64| minutes > 0.0));
                minutes = said.ok_or_else(|| Failure::input("--minutes wants a number above 0").hint(hint))?.clone();
            }
            other => return Err(Failure::input(format!("`{other}` is not understood")).hint(hint)),
        }
    }
    let mut words = vec!["soak".to_owned(), "--minutes".to_owned(), minutes];
    words.extend(json.then(|| "--json".to_owned()));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_unless_it_says_otherwise_and_nothing_that_is_not_understood() {
        let words = |line: &str| words(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(words("").expect("an hour"), ["soak", "--minutes", "60"]);
        assert_eq!(words("--json --minutes 1.5").expect("less"), ["soak", "--minutes", "1.5", "--json"]);
        for wrong in ["--minutes", "--minutes 0", "--minutes x", "--hours 1", "60"] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }
}
