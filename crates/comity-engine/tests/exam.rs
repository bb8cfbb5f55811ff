//! The 0.8 M model is examined again: 100 held-out questions, answered by generation as a user's would be.

use std::ops::ControlFlow;
use std::path::PathBuf;

use comity_engine::corpus::{Family, held_out};
use comity_engine::scorecard::flood;
use comity_engine::train::exact_matches;
use comity_engine::{GenerateRequest, Model, Scorecard, Tokenizer};

#[test]
fn the_committed_model_answers_held_out_questions() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/comity-tiny");
    let model = Model::load(dir).unwrap();
    let mut right_in_all = 0;
    for family in Family::EXAMINED {
        // A seed of its own: not the questions the model card reports.
        let questions = held_out(77, family, 25);
        let right = questions.iter().filter(|question| answer(&model, &question.prompt) == question.answer).count();
        assert!(right * 100 >= 75 * 25, "{}: {right} of 25", family.name());
        right_in_all += right;
    }
    assert!(right_in_all >= 90, "{right_in_all} of 100");
}

#[test]
fn the_model_cards_figures_are_those_of_the_committed_weights() {
    for name in ["comity-tiny", "comity-mini", "comity-mini-slant"] {
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models")).join(name);
        let model = Model::load(&dir).unwrap();
        let card = std::fs::read_to_string(dir.join("README.md")).unwrap();
        for family in Family::EXAMINED {
            let row = format!("| {} | ", family.name());
            let line = card.lines().find_map(|l| l.strip_prefix(&row)).unwrap();
            let said: usize = line.split(' ').next().unwrap().parse().unwrap();
            let questions = held_out(2026, family, 150);
            let right = exact_matches(model.llama(), &questions).unwrap();
            // Sums end in other bits on other machines; a near tie may fall otherwise.
            assert!(right.abs_diff(said) <= 2, "{name} {row}{said}: {right}");
        }
    }
}

fn answer(model: &Model, prompt: &str) -> String {
    let request = GenerateRequest {
        prompt_tokens: Tokenizer.encode_prompt(prompt),
        max_tokens: 32,
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
        stop: vec![],
        logprobs: None,
    };
    let mut text = String::new();
    model
        .generate(&request, &mut |piece| {
            text.push_str(&piece.text);
            ControlFlow::Continue(())
        })
        .unwrap();
    text
}

#[test]
fn the_flood_cards_figures_are_those_of_the_committed_scorecard_and_its_seed_makes_it_again() {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/comity-flood"));
    let card = std::fs::read_to_string(dir.join("README.md")).unwrap();
    let scorecard = Scorecard::from_bytes(&std::fs::read(dir.join("scorecard.json")).unwrap()).unwrap();
    let exam = flood::examine(&scorecard, &flood::houses(2026, "exam", 4_000)).unwrap();
    let rows = [("brier", exam.brier), ("brier of whoever says the average", exam.brier_of_average), ("auc", exam.auc)];
    for (name, figure) in rows {
        let row = format!("| {name} | ");
        let said: f64 =
            card.lines().find_map(|line| line.strip_prefix(&row)?.strip_suffix(" |")).unwrap().parse().unwrap();
        assert!((said - figure).abs() < 2e-4, "{name} {said}: {figure}");
    }
    assert!(exam.brier < 0.7 * exam.brier_of_average && exam.auc > 0.85, "{exam:?}");
    let seed = card.split("--seed ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    let again = flood::fit(&flood::houses(seed, "train", 8_000));
    for (ours, theirs) in again.inputs.iter().zip(&scorecard.inputs) {
        // Logarithms end in other bits on other machines.
        assert!((ours.weight - theirs.weight).abs() < 1e-4, "{}", ours.name);
    }
}
