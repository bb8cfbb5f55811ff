//! Honest owners: servers that repeat themselves and servers that do not, with busy afternoons.

use comity_probe::{Promise, TESTS};

use super::owner::{FIRST_DAY, Owner, play, program};

#[test]
fn honest_servers_raise_no_more_alarms_than_promised() {
    let (seeds, days) = (6, 40);
    let (mut alarms, mut model_days, mut asks) = (0, 0, 0);
    for (at, (noise, logprobs)) in
        [(0.0, true), (0.01, true), (0.1, true), (0.0, false), (0.05, false)].iter().enumerate()
    {
        for seed in 0..seeds {
            let seed = seed + 1_000 * at as u64;
            let owner = Owner::honest(seed, *noise, *logprobs);
            let played = play(&mut program(seed), &owner, seed, FIRST_DAY..FIRST_DAY + days, |_| false);
            for found in &played.found {
                println!("noise {noise}, logprobs {logprobs}, seed {seed}: {found:?}");
            }
            alarms += played.found.len();
            model_days += days;
            asks += played.asks;
        }
    }
    let promised = TESTS as f64 * Promise::default().a_year * model_days as f64 / 365.0;
    println!(
        "{alarms} alarms in {model_days} model-days ({asks} calls); at most {promised:.2} are promised on average"
    );
    assert!(model_days >= 1_000 && asks > 140 * model_days, "{model_days} {asks}");
    // A Poisson count of a mean of 0.3 exceeds 2 about three times in a thousand; seeds are fixed.
    assert!(alarms <= 2 && promised < 0.35, "{alarms} alarms");
}
