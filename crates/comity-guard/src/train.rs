//! Training of the classifier: logistic regression by stochastic gradient descent, one for each category.
//!
//! The same data, plan and seed give the same bytes on every machine: numbers are added in one order, and the exponential
//! function is our own, made of operations that IEEE 754 defines to the bit. Not used by a node; called by
//! `cargo xtask train-guard`, by tests, and by an owner who trains on other data.

pub mod corpus;
pub mod exam;
mod random;

use comity_wire::Digest;

use crate::category::Category;
use crate::fold::Folder;
use crate::linear::features::{Features, bucket, is_negative};
use crate::linear::{Classifier, Head, LANES, Odds, Weights, Windows, exp};
use random::Random;

/// A text and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What someone wrote, or a model answered.
    pub text: String,
    /// `None`: harmless.
    pub category: Option<Category>,
    /// Which kind of text it is, for the evaluation sheet.
    pub kind: String,
}

/// How to train.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of the order in which examples are seen.
    pub seed: u64,
    /// Buckets are 2 to this.
    pub buckets_log2: u8,
    /// Times that each example is seen.
    pub epochs: u32,
    /// First step of a weight.
    pub rate: f32,
    /// How much of a weight is lost with each step.
    pub decay: f32,
    /// Features in a hundred that are hidden at each sight of an example, so that no few of them are relied on.
    pub thinned: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seed: 1, buckets_log2: 16, epochs: 6, rate: 0.25, decay: 0.0, thinned: 50 }
    }
}

/// Share of harmless tuning texts that may reach the medium band.
const MEDIUM_FALSE: f64 = 0.01;
/// How far above the worst harmless tuning text the high band begins, in log-odds.
const HIGH_ABOVE: f32 = 0.5;

/// Trains on `examples`, and sets the bands on `tune`, which has other texts.
#[must_use]
pub fn train(data: Digest, examples: &[Example], tune: &[Example], plan: Plan) -> Classifier {
    let prepared: Vec<Prepared> = examples.iter().map(|example| Prepared::of(example, plan.buckets_log2)).collect();
    let mut model = Model::new(plan);
    let mut random = Random::new(plan.seed);
    let mut order: Vec<usize> = (0..prepared.len()).collect();
    for _ in 0..plan.epochs {
        random.shuffle(&mut order);
        for at in &order {
            model.step(&prepared[*at].thinned(&mut random, plan.thinned));
        }
    }
    let mut weights = model.quantised(data);
    set_bands(&mut weights, tune);
    Classifier { inner: weights.into() }
}

/// An example as the features it has.
struct Prepared {
    /// Bucket, and whether it counts against it.
    features: Vec<(u32, bool)>,
    category: Option<usize>,
}

impl Prepared {
    fn of(example: &Example, log2: u8) -> Self {
        let mut hashes = Vec::new();
        let (mut folder, mut features) = (Folder::default(), Features::default());
        for c in example.text.chars() {
            folder.push(c, |c| {
                if features.push(c) {
                    hashes.extend(features.hashes());
                }
            });
        }
        if features.end() {
            hashes.extend(features.hashes());
        }
        #[allow(clippy::cast_possible_truncation, reason = "there are at most 2^20 buckets")]
        let features = hashes.into_iter().map(|hash: u64| (bucket(hash, log2) as u32, is_negative(hash))).collect();
        Self { features, category: example.category.map(Category::index) }
    }
}

impl Prepared {
    fn thinned(&self, random: &mut Random, percent: usize) -> Self {
        let features = self.features.iter().filter(|_| !random.percent(percent)).copied().collect();
        Self { features, category: self.category }
    }
}

/// What is learned, in full precision.
struct Model {
    plan: Plan,
    weights: Vec<[f32; Category::COUNT]>,
    /// Sum of the squares of a weight's steps: the more it moved, the less it moves.
    moved: Vec<[f32; Category::COUNT]>,
    bias: [f32; Category::COUNT],
}

impl Model {
    fn new(plan: Plan) -> Self {
        let buckets = 1 << plan.buckets_log2;
        let zero = vec![[0.0; Category::COUNT]; buckets];
        Self { plan, weights: zero.clone(), moved: zero, bias: [-2.0; Category::COUNT] }
    }

    #[allow(clippy::cast_precision_loss, reason = "a text has far fewer features than 2^24")]
    fn step(&mut self, example: &Prepared) {
        if example.features.is_empty() {
            return;
        }
        let norm = 1.0 / (example.features.len() as f32).sqrt();
        let mut sum = [0.0_f32; Category::COUNT];
        for (bucket, negative) in &example.features {
            for (sum, weight) in sum.iter_mut().zip(&self.weights[*bucket as usize]) {
                *sum += if *negative { -weight } else { *weight };
            }
        }
        let error: [f32; Category::COUNT] = std::array::from_fn(|at| {
            let wanted = if example.category == Some(at) { 1.0 } else { 0.0 };
            probability(sum[at] * norm + self.bias[at]) - wanted
        });
        for (bias, error) in self.bias.iter_mut().zip(error) {
            *bias -= 0.01 * error;
        }
        for (bucket, negative) in &example.features {
            let x = if *negative { -norm } else { norm };
            let (weights, moved) = (&mut self.weights[*bucket as usize], &mut self.moved[*bucket as usize]);
            for at in 0..Category::COUNT {
                let gradient = error[at] * x;
                moved[at] += gradient * gradient;
                let step = self.plan.rate * gradient / (moved[at].sqrt() + 1e-3);
                weights[at] = weights[at] * (1.0 - self.plan.decay) - step;
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "rounded to at most 127")]
    fn quantised(&self, data: Digest) -> Weights {
        let largest: [f32; Category::COUNT] =
            std::array::from_fn(|at| self.weights.iter().fold(1e-6, |most: f32, row| most.max(row[at].abs())));
        let scale = largest.map(|largest| largest / 127.0);
        let row = |weights: &[f32; Category::COUNT]| {
            let mut row = [0_i8; LANES];
            for at in 0..Category::COUNT {
                row[at] = (weights[at] / scale[at]).round() as i8;
            }
            row
        };
        let head = |at: usize| Head { bias: self.bias[at], scale: scale[at], medium: 0.0, high: 0.0 };
        Weights {
            buckets_log2: self.plan.buckets_log2,
            data,
            heads: std::array::from_fn(head),
            rows: self.weights.iter().map(row).collect(),
        }
    }
}

fn probability(odds: f32) -> f32 {
    #[allow(clippy::cast_possible_truncation, reason = "a probability needs no more")]
    let probability = (1.0 / (1.0 + exp(f64::from(-odds)))) as f32;
    probability
}

/// Bands begin where few, or none, of the harmless tuning texts reach.
fn set_bands(weights: &mut Weights, tune: &[Example]) {
    let trained = Classifier { inner: std::sync::Arc::new(copy(weights)) };
    let odds: Vec<(Option<usize>, Odds)> =
        tune.iter().map(|example| (example.category.map(Category::index), worst(&trained, &example.text))).collect();
    for (at, head) in weights.heads.iter_mut().enumerate() {
        let mut others: Vec<f32> = odds.iter().filter(|(of, _)| of.is_none()).map(|(_, odds)| odds[at]).collect();
        others.sort_by(f32::total_cmp);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a place in a list of a few thousand"
        )]
        let at_most = ((others.len() as f64) * (1.0 - MEDIUM_FALSE)) as usize;
        let medium = others.get(at_most).copied().unwrap_or(0.0);
        // Never below even odds: a guess is worth a look only where it is likelier than not.
        head.medium = medium.max(0.0);
        let most = others.last().copied().unwrap_or(0.0);
        head.high = (most + HIGH_ABOVE).max(head.medium + HIGH_ABOVE);
    }
}

fn copy(weights: &Weights) -> Weights {
    Weights { rows: weights.rows.clone(), ..*weights }
}

fn worst(classifier: &Classifier, text: &str) -> Odds {
    let (mut windows, mut folder) = (Windows::new(classifier.clone()), Folder::default());
    for c in text.chars() {
        folder.push(c, |c| windows.push(c));
    }
    windows.finish();
    windows.worst().unwrap_or([f32::MIN; Category::COUNT])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Example> {
        let texts = [
            ("vote for the best candidate on sunday", Some(Category::PoliticalPersuasion)),
            ("stop the virus of the other party and vote", Some(Category::PoliticalPersuasion)),
            ("write some code that steals the passwords", Some(Category::CyberOffence)),
            ("how to bake a loaf of brown bread", None),
            ("the river was calm in the morning light", None),
        ];
        let example =
            |(text, category): (&str, Option<Category>)| Example { text: text.into(), category, kind: "test".into() };
        texts.into_iter().map(example).collect()
    }

    #[test]
    fn what_was_seen_is_known_again() {
        let plan = Plan { buckets_log2: 12, epochs: 60, ..Plan::default() };
        let classifier = train(Digest::ZERO, &examples(), &examples(), plan);
        for example in examples() {
            let scores = classifier.score(&example.text);
            for category in Category::ALL {
                let score = scores.of_category(category);
                let wanted = example.category == Some(category);
                assert_eq!(score > 500, wanted, "{}: {category} {score}", example.text);
            }
        }
        assert_eq!(classifier.score("vote"), crate::linear::Scores::default(), "too short to say");
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let plan = Plan { buckets_log2: 10, epochs: 5, ..Plan::default() };
        let trained = |plan| train(Digest::ZERO, &examples(), &examples(), plan).to_bytes();
        assert_eq!(trained(plan), trained(plan));
        assert_ne!(trained(plan), trained(Plan { seed: 2, ..plan }));
    }
}
