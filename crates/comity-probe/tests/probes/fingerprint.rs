//! Fingerprints: a server that did not change is not accused, however it is batched; another model behind the name is told of.

use comity_probe::fingerprint::{FALSE_ALARM, Likeness, ROUNDS, Reference, Verdict};
use comity_probe::{Answer, Chance, Choice};

use super::owner::{Model, Owner, secret};

const PROMPTS: u32 = 128;

fn answer(owner: &Owner, noise: f64, prompt: u32, chance: &mut Chance) -> Answer {
    let steps = owner.steps(owner.model.path(prompt), noise, chance);
    if owner.logprobs {
        return Answer { choice: Choice::Answered, steps };
    }
    Answer::of_text(&steps.iter().map(|step| step.text.as_str()).collect::<String>())
}

/// Taken of one model at one hour, checked of another at an hour of other load.
pub(crate) fn checked(seed: u64, then: &Owner, now: &Owner, load: f64) -> Likeness {
    let mut chance = secret(seed).chance("fingerprint", 0);
    let mut round = || (0..PROMPTS).map(|at| Some(answer(then, then.noise, at, &mut chance))).collect();
    let rounds: [Vec<Option<Answer>>; ROUNDS] = [round(), round(), round()];
    let reference = Reference::new(rounds).expect("all prompts were answered");
    let answers: Vec<Answer> = (0..PROMPTS).map(|at| answer(now, load * now.noise, at, &mut chance)).collect();
    reference.compare(answers.iter().enumerate())
}

fn share(verdicts: &[Verdict], of: Verdict) -> f64 {
    verdicts.iter().filter(|verdict| **verdict == of).count() as f64 / verdicts.len() as f64
}

/// Also where it is twice as unsteady when it is checked as when it was taken.
#[test]
fn a_server_that_did_not_change_is_not_accused() {
    let runs = 200;
    for (logprobs, noise) in
        [(true, 0.0), (true, 0.01), (true, 0.05), (true, 0.2), (false, 0.0), (false, 0.01), (false, 0.05)]
    {
        for load in [1.0, 2.0] {
            let one = |seed| {
                let owner = Owner::honest(seed, noise, logprobs);
                checked(seed, &owner, &owner, load).verdict
            };
            let verdicts: Vec<Verdict> = (0..runs).map(one).collect();
            let (changed, same) = (share(&verdicts, Verdict::Changed), share(&verdicts, Verdict::Same));
            println!("logprobs {logprobs}, noise {noise}, load {load}: same {same}, changed {changed}");
            // 2,800 checks at 1 in 10,000 at most; seeds are fixed.
            assert!(
                FALSE_ALARM <= 1e-4 && changed < 0.001,
                "logprobs {logprobs}, noise {noise}, load {load}: {changed}"
            );
            // What is so unsteady that it may hide a model is not called changed for that.
            assert!(noise > 0.1 || same > 0.95, "logprobs {logprobs}, noise {noise}, load {load}: {same}");
        }
    }
}

/// What it is, whether it lists tokens, how unsteady it is, and what stands there later.
type Case<'a> = (&'a str, bool, f64, &'a dyn Fn(u64) -> Model);

#[test]
fn another_model_behind_the_name_is_told_of() {
    let moved = |mix| move |seed| Model::Toy { seed, other: seed + 5_000, mix };
    let other = |seed| Model::toy(seed + 10_000);
    let (coarse, slight) = (moved(1.2), moved(0.4));
    let all: [Case<'_>; 4] = [
        ("another model, words alone, unsteady server", false, 0.015, &other),
        ("another model, log-probabilities", true, 0.05, &other),
        ("logits moved by up to 0.6, log-probabilities", true, 0.01, &coarse),
        ("logits moved by up to 0.2, log-probabilities", true, 0.01, &slight),
    ];
    for (what, logprobs, noise, now) in all {
        let one = |seed| {
            let then = Owner::honest(seed, noise, logprobs);
            let now = Owner { model: now(seed), ..then.clone() };
            checked(seed, &then, &now, 1.0).verdict
        };
        let verdicts: Vec<Verdict> = (0..100).map(one).collect();
        println!("{what}: changed {}", share(&verdicts, Verdict::Changed));
        assert!(share(&verdicts, Verdict::Changed) > 0.98, "{what}");
    }
}
