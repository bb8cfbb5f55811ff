//! Owners that count more than there is.

use comity_probe::{Contradiction, Why};

use super::owner::{Counting, FIRST_DAY, Owner, midnight, play, program, settle, spread};

/// Hours until a contradiction stands, for an owner that counts so from a day on (from the first call on: `None`).
fn hours(counting: Counting, logprobs: bool, at_start: bool, kinds: &[Contradiction]) -> Vec<f64> {
    let one = |seed| {
        let owner = Owner::honest(seed, 0.0, logprobs);
        let mut program = program(seed);
        let day = if at_start { FIRST_DAY } else { settle(&mut program, &owner, seed, false) };
        let owner = Owner { counting: (counting, midnight(day)), ..owner };
        let days = play(&mut program, &owner, seed, day..day + 20, |days| !days.found.is_empty());
        let is = |why| matches!(why, Why::Meters(kind) if kinds.contains(&kind));
        let at = days.first(is, false).unwrap_or_else(|| panic!("seed {seed}: {:?}", days.found));
        let found = days.found.iter().find(|found| is(found.why)).expect("found");
        assert!(found.excess >= 3 && found.receipts.len() >= 3 && found.personas.len() > 1, "{found:?}");
        at.since(midnight(day)) as f64 / 3_600.0
    };
    (0..40).map(one).collect()
}

#[test]
fn five_more_tokens_in_a_hundred_are_found_within_a_day() {
    let of = [Contradiction::InputVaries];
    assert!(spread("5 % more tokens from a day on", hours(Counting::Adds(5), false, false, &of)) <= 24.0);
}

/// Thirty more in a hundred of eight tokens are two more than there are; five in a hundred of so short answers are none.
#[test]
fn more_tokens_than_were_listed_are_found_though_it_was_never_otherwise() {
    let of = [Contradiction::OutputTokens];
    assert!(spread("30 % more tokens from the first call on", hours(Counting::Adds(30), true, true, &of)) <= 24.0);
}

#[test]
fn a_receipt_that_says_more_than_the_answer_or_the_tariff_is_found() {
    let of = [Contradiction::Usage, Contradiction::InputVaries];
    assert!(spread("receipts say more than `usage`", hours(Counting::UsageBelow, false, false, &of)) <= 24.0);
    let of = [Contradiction::Charge];
    assert!(spread("one µcr above the tariff", hours(Counting::Overcharges, false, true, &of)) <= 24.0);
}
