//! Real weights: the small model that the repository has, and what an owner could put in its place.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;

use comity_engine::corpus::{Family, held_out};
use comity_engine::{GenerateRequest, Model as Engine};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use comity_probe::fingerprint::Verdict;

use super::fingerprint::checked;
use super::owner::{Model, Owner, Path, secret};
use super::swapped::{SEEDS, found, hours};

const PROMPTS: usize = 24;
const TOKENS: usize = 10;

fn files(name: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name);
    comity_engine::model::files(folder).expect("the model is in the repository")
}

/// What the model says to prompts that it was not trained on.
fn recorded(engine: &Engine) -> Model {
    recorded_of(engine, PROMPTS)
}

fn recorded_of(engine: &Engine, prompts: usize) -> Model {
    let families = [Family::Facts, Family::Arithmetic, Family::Induction, Family::Sentiment];
    let questions = families.into_iter().flat_map(|family| held_out(11, family, prompts / 4));
    let paths = questions.map(|example| {
        let mut path = Path::new();
        let request = GenerateRequest {
            prompt_tokens: engine.tokenizer().encode_prompt(&example.prompt),
            max_tokens: TOKENS,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
            stop: Vec::new(),
            logprobs: Some(6),
        };
        let mut receive = |piece: comity_engine::Piece| {
            let top = |scored: &comity_engine::Scored| {
                scored.top.iter().map(|other| (other.piece.clone(), other.logprob)).collect()
            };
            path.extend(piece.tokens.iter().map(top));
            ControlFlow::Continue(())
        };
        engine.generate(&request, &mut receive).expect("the engine answers");
        path
    });
    Model::Recorded(Rc::new(paths.collect()))
}

/// The same weights after `change`, each row by itself.
fn changed(name: &str, mut change: impl FnMut(&mut [f32])) -> Engine {
    let (config, weights) = files(name);
    let stored = SafeTensors::deserialize(&weights).expect("safetensors");
    // By name: they come in the order of a hash map, another one in each run.
    let mut named = stored.tensors();
    named.sort_by(|(one, _), (next, _)| one.cmp(next));
    let tensors = named.into_iter().map(|(name, tensor)| {
        assert_eq!(tensor.dtype(), Dtype::F16);
        let halves = tensor.data().chunks_exact(2).map(|half| f32_of(u16::from_le_bytes([half[0], half[1]])));
        let mut values: Vec<f32> = halves.collect();
        let row = *tensor.shape().last().expect("a shape");
        if tensor.shape().len() > 1 {
            values.chunks_mut(row).for_each(&mut change);
        }
        (name, tensor.shape().to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the bytes fit the shape"))
    });
    let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).expect("written");
    Engine::from_bytes(&config, &bytes).expect("loads")
}

fn f32_of(half: u16) -> f32 {
    let (sign, exponent, fraction) = (half >> 15, i32::from(half >> 10 & 31), f32::from(half & 1023));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    if sign == 1 { -size } else { size }
}

fn quantised(bits: i32) -> Engine {
    let most = (2f32.powi(bits - 1)) - 1.0;
    changed("comity-mini", |row| {
        let scale = row.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / most;
        row.iter_mut().for_each(|value| *value = (*value / scale).round() * scale);
    })
}

fn first() -> Engine {
    let (config, weights) = files("comity-mini");
    Engine::from_bytes(&config, &weights).expect("loads")
}

fn slant() -> Engine {
    let (config, weights) = files("comity-mini-slant");
    Engine::from_bytes(&config, &weights).expect("loads")
}

#[test]
fn a_sibling_with_other_weights_is_found_by_its_words() {
    let (first, slant) = (recorded(&first()), recorded(&slant()));
    let owner = |seed| Owner { model: first.clone(), ..Owner::honest(seed, 0.005, false) };
    // It says the same in most cases: few words differ, so this takes days.
    let hours = hours(owner, &[("comity-mini-slant for comity-mini, words alone", &|_| slant.clone())]);
    assert!(hours[0][SEEDS as usize / 2] <= 96.0, "half of them within four days: {:?}", hours[0]);
}

#[test]
fn quantised_and_perturbed_weights_are_found_by_log_probabilities() {
    let mut chance = secret(3).chance("perturb", 0);
    let mut perturb = |row: &mut [f32]| row.iter_mut().for_each(|value| *value *= 1.0 + 0.06 * chance.normal() as f32);
    let perturbed = recorded(&changed("comity-mini", &mut perturb));
    let (first, slant, four) = (recorded(&first()), recorded(&slant()), recorded(&quantised(4)));
    let owner = |seed| Owner { model: first.clone(), ..Owner::honest(seed, 0.005, true) };
    let all: [(&str, &dyn Fn(u64) -> Model); 3] = [
        ("comity-mini-slant for comity-mini", &|_| slant.clone()),
        ("comity-mini in 4 bits", &|_| four.clone()),
        ("comity-mini, each weight moved by 6 %", &|_| perturbed.clone()),
    ];
    found(owner, &all);
}

/// What a researcher finds with one fingerprint and one check.
#[test]
fn a_fingerprint_tells_of_quantised_and_perturbed_weights_and_not_of_the_same() {
    let mut chance = secret(3).chance("perturb", 0);
    let mut perturb = |row: &mut [f32]| row.iter_mut().for_each(|value| *value *= 1.0 + 0.06 * chance.normal() as f32);
    let perturbed = changed("comity-mini", &mut perturb);
    let all = [
        ("the same weights", first(), Verdict::Same),
        ("comity-mini-slant", slant(), Verdict::Changed),
        ("4 bits", quantised(4), Verdict::Changed),
        ("each weight moved by 6 %", perturbed, Verdict::Changed),
    ];
    let then = recorded_of(&first(), 128);
    for (what, engine, verdict) in all {
        let now = recorded_of(&engine, 128);
        for seed in 0..20 {
            let then = Owner { model: then.clone(), ..Owner::honest(seed, 0.005, true) };
            let now = Owner { model: now.clone(), ..then.clone() };
            let likeness = checked(seed, &then, &now, 1.0);
            assert_eq!(likeness.verdict, verdict, "{what}: {likeness:?}");
        }
    }
}
