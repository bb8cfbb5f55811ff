//! A model that was exchanged under its release is found within 24 hours of probes, over 200 seeds of each kind.

use comity_probe::Why;

use super::owner::{Days, Model, Owner, midnight, play, program, settle, spread};

pub(crate) const SEEDS: u64 = 200;

/// Hours until each of some models is found in the place of an owner's, over all seeds. One baseline for each seed, then a
/// swap at some hour of the day after, whichever day of the week that is.
pub(crate) fn hours(owner: impl Fn(u64) -> Owner, all: &[(&str, &dyn Fn(u64) -> Model)]) -> Vec<Vec<f64>> {
    let mut hours = vec![Vec::new(); all.len()];
    for seed in 0..SEEDS {
        let owner = owner(seed);
        let mut settled = program(seed);
        let day = settle(&mut settled, &owner, seed, false);
        let swap = midnight(day).plus(seed * 7_919 % 86_400);
        for ((_, then), hours) in all.iter().zip(&mut hours) {
            let owner = Owner { then: Some((swap, then(seed))), ..owner.clone() };
            let is = |why| why == Why::Changed;
            let enough = |days: &Days| days.found.iter().any(|found| is(found.why));
            let days = play(&mut settled.clone(), &owner, seed, day..day + 8, enough);
            let found = days.first(is, false).or_else(|| days.first(is, true));
            assert!(found.is_none_or(|found| found >= swap), "seed {seed}: found before it happened");
            hours.push(found.map_or(f64::INFINITY, |found| found.since(swap) as f64 / 3_600.0));
        }
    }
    for ((what, _), hours) in all.iter().zip(&mut hours) {
        spread(what, hours.clone());
        hours.sort_by(f64::total_cmp);
    }
    hours
}

/// Each of them within 24 hours in 99 of 100 seeds, and within two days in all.
pub(crate) fn found(owner: impl Fn(u64) -> Owner, all: &[(&str, &dyn Fn(u64) -> Model)]) {
    let hours = hours(owner, all);
    for ((what, _), hours) in all.iter().zip(&hours) {
        let (most, longest) = (hours[(hours.len() - 1) * 99 / 100], hours[hours.len() - 1]);
        assert!(most <= 24.0 && longest <= 48.0, "{what}: {most:.1} and {longest:.1} hours");
    }
}

#[test]
fn another_model_is_found_by_its_words_behind_a_server_that_often_differs() {
    let other = |seed| Model::toy(seed + 10_000);
    found(|seed| Owner::honest(seed, 0.015, false), &[("another model, words alone, unsteady server", &other)]);
}

#[test]
fn changed_logits_are_found_by_log_probabilities() {
    let moved = |mix| move |seed| Model::Toy { seed, other: seed + 5_000, mix };
    let (coarse, slight) = (moved(1.2), moved(0.4));
    let all: [(&str, &dyn Fn(u64) -> Model); 2] = [
        ("logits moved by up to 0.6, log-probabilities", &coarse),
        ("logits moved by up to 0.2, log-probabilities", &slight),
    ];
    found(|seed| Owner::honest(seed, 0.01, true), &all);
}

/// An owner whose auditors keep getting the first model is found by those who do not say that they are.
#[test]
fn who_shows_auditors_the_first_model_is_found_and_the_difference_is_told() {
    let mut hours = Vec::new();
    let mut signs = 0;
    for seed in 0..20 {
        let owner = Owner::honest(seed, 0.01, true);
        let mut program = program(seed);
        let day = settle(&mut program, &owner, seed, true);
        let swap = midnight(day);
        let then = Some((swap, Model::toy(seed + 10_000)));
        let owner = Owner { then, shows_auditors_the_first: true, ..owner };
        let days = play(&mut program, &owner, seed, day..day + 28, |_| false);
        let changed = days.first(|why| why == Why::Changed, false).expect("found by the blind");
        assert!(changed.since(swap) <= 86_400, "seed {seed}");
        assert_eq!(days.first(|why| why == Why::Changed, true), None, "seed {seed}: auditors saw no change");
        let told = days.found.iter().find(|found| found.why == Why::Auditors).expect("the difference is told");
        let counts = told.signs.expect("signs");
        signs += u64::from(counts.better > counts.worse);
        hours.push(told.at.since(swap) as f64 / 3_600.0);
    }
    let longest = spread("auditors alone keep the first model: the difference between them and others", hours);
    assert!(signs == 20 && longest <= 7.0 * 24.0, "{signs} {longest}");
}

/// Nothing was exchanged: the better model was kept for auditors from the first day on. Only answers that are right or wrong tell.
#[test]
fn who_always_gave_auditors_a_better_model_is_found() {
    let hours = (0..20).map(|seed| {
        let owner = Owner { right: (0.9, 0.4), ..Owner::honest(seed, 0.01, true) };
        let mut program = program(seed);
        let first = super::owner::FIRST_DAY;
        let days = play(&mut program, &owner, seed, first..first + 60, |days| !days.found.is_empty());
        let at =
            days.first(|why| why == Why::Auditors, false).unwrap_or_else(|| panic!("seed {seed}: {:?}", days.found));
        at.since(midnight(first)) as f64 / 3_600.0
    });
    let longest = spread("auditors were always better off (right 90 % against 40 %)", hours.collect());
    assert!(longest <= 45.0 * 24.0, "{longest}");
}

#[test]
fn a_filter_that_was_not_there_is_found_and_is_no_other_model() {
    let hours = (0..20).map(|seed| {
        let owner = Owner::honest(seed, 0.01, true);
        let mut program = program(seed);
        let day = settle(&mut program, &owner, seed, false);
        let owner = Owner { refuses: (0.6, midnight(day)), ..owner };
        let days = play(&mut program, &owner, seed, day..day + 15, |days| !days.found.is_empty());
        assert_eq!(days.first(|why| why == Why::Changed, false), None, "seed {seed}");
        days.first(|why| why == Why::Filters, false).expect("found").since(midnight(day)) as f64 / 3_600.0
    });
    assert!(spread("three in five prompts are refused", hours.collect()) <= 72.0);
}
