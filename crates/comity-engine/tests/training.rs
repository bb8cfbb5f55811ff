//! Training keeps its promises at a size that runs in seconds.

use comity_engine::Model;
use comity_engine::config::Config;
use comity_engine::corpus::{Family, Mix, held_out};
use comity_engine::train::{Plan, Trainer, exact_matches};

fn plan(seed: u64, threads: usize) -> Plan {
    Plan {
        seed,
        steps: 30,
        batch: 8,
        threads,
        learning_rate: 5e-3,
        warm_up: 5,
        weight_decay: 0.05,
        prompt_weight: 0.1,
        mix: Mix::standard(),
    }
}

fn losses(seed: u64, threads: usize) -> (Vec<f64>, Trainer) {
    let config = Config::demo(32, 2, 48, 4, 2, 128);
    let mut trainer = Trainer::new(config, plan(seed, threads)).unwrap();
    let losses = (0..30).map(|_| trainer.step().unwrap().loss).collect();
    (losses, trainer)
}

#[test]
fn a_seed_reproduces_the_loss_curve_and_the_loss_falls() {
    let (first, trainer) = losses(3, 1);
    let (again, twin) = losses(3, 1);
    assert_eq!(first, again);
    assert_eq!(trainer.data_digest(), twin.data_digest());
    assert_eq!(trainer.safetensors().unwrap(), twin.safetensors().unwrap());
    assert_ne!(first, losses(4, 1).0);
    assert!(first[0] > 5.0, "an untrained model knows nothing: {}", first[0]);
    assert!(first[29] < 0.75 * first[0], "{} to {}", first[0], first[29]);
}

#[test]
fn two_threads_take_the_same_steps_as_one() {
    let (one, _) = losses(3, 1);
    let (two, _) = losses(3, 2);
    for (a, b) in one.iter().zip(&two).take(10) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
}

#[test]
fn what_training_writes_the_engine_loads_and_the_examination_is_that_of_generation() {
    let (_, trainer) = losses(3, 1);
    let config = serde_json::to_vec(trainer.llama().config()).unwrap();
    let model = Model::from_bytes(&config, &trainer.safetensors().unwrap()).unwrap();
    assert_eq!(model.release().dtype, "float16");
    let questions = held_out(1, Family::Facts, 10);
    assert_eq!(exact_matches(model.llama(), &questions).unwrap(), 0);
}
