//! Training of the demonstration models in plain candle: seeded weights, seeded batches, AdamW, warm-up and cosine.
//!
//! Candle draws nothing here: initial weights and texts come from [`Chance`]. On the same number of threads and the
//! same kind of machine a seed gives the same loss curve; across machines the last bits of a sum may differ.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, ops};
use sha2::{Digest as _, Sha256};

use crate::chance::Chance;
use crate::config::Config;
use crate::corpus::{Example, Generator, Mix};
use crate::llama::{Form, Llama};
use crate::sites::NoSites;
use crate::tokenizer::{EOS, Tokenizer};

/// What one training run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub steps: usize,
    pub batch: usize,
    pub threads: usize,
    pub learning_rate: f64,
    pub warm_up: usize,
    pub weight_decay: f64,
    /// What a prompt byte counts beside an answer byte.
    pub prompt_weight: f32,
    pub mix: Mix,
}

/// Batches drawn together and sorted by length, so that little is spent on padding.
const POOL: usize = 8;
/// Largest norm of a step's gradient; beyond it the gradient is scaled down.
const GRADIENT_MAX: f64 = 1.0;

/// A run under way.
pub struct Trainer {
    plan: Plan,
    config: Config,
    vars: BTreeMap<String, Var>,
    llama: Llama,
    matrices: AdamW,
    vectors: AdamW,
    generator: Generator,
    order: Chance,
    pool: Vec<Vec<Example>>,
    data: Sha256,
    step: usize,
    tokens: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub number: usize,
    /// Mean weighted loss in nats per byte.
    pub loss: f64,
    pub tokens: u64,
}

impl Trainer {
    /// A run at its start.
    pub fn new(config: Config, plan: Plan) -> Result<Self> {
        let mut chance = Chance::new(plan.seed, "weights");
        let mut vars = BTreeMap::new();
        let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
        for (name, shape) in config.weights() {
            let var = Var::from_tensor(&initial(&config, &name, &shape, &mut chance)?)?;
            match shape.len() {
                1 => vectors.push(var.clone()),
                _ => matrices.push(var.clone()),
            }
            vars.insert(name, var);
        }
        let weights = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let params = |weight_decay| ParamsAdamW { lr: 0.0, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay };
        Ok(Self {
            llama: Llama::new(&config, &weights)?,
            matrices: AdamW::new(matrices, params(plan.weight_decay))?,
            vectors: AdamW::new(vectors, params(0.0))?,
            generator: Generator::new(plan.seed, plan.mix.clone()),
            order: Chance::new(plan.seed, "order"),
            pool: Vec::new(),
            data: Sha256::new(),
            step: 0,
            tokens: 0,
            config,
            plan,
            vars,
        })
    }

    /// One step: a batch, its gradient on `threads` threads, one update.
    pub fn step(&mut self) -> Result<Step> {
        let batch = self.batch();
        let per_thread = batch.len().div_ceil(self.plan.threads.max(1));
        let shards = batch
            .chunks(per_thread)
            .map(|part| Shard::new(part, self.plan.prompt_weight))
            .collect::<Result<Vec<_>>>()?;
        let total: f32 = shards.iter().map(|s| s.weight).sum();
        let llama = &self.llama;
        let parts: Vec<Result<(f64, GradStore)>> = std::thread::scope(|scope| {
            let running: Vec<_> =
                shards.iter().map(|shard| scope.spawn(move || shard.gradient(llama, total))).collect();
            running.into_iter().map(|thread| thread.join().expect("a gradient thread does not panic")).collect()
        });
        let mut loss = 0.0;
        let mut sum: Option<GradStore> = None;
        for part in parts {
            let (part_loss, grads) = part?;
            loss += part_loss;
            sum = Some(match sum {
                None => grads,
                Some(before) => self.add(before, &grads)?,
            });
        }
        let mut grads = sum.expect("a batch has at least one shard");
        self.clip(&mut grads)?;
        self.step += 1;
        let rate = self.rate();
        self.matrices.set_learning_rate(rate);
        self.vectors.set_learning_rate(rate);
        self.matrices.step(&grads)?;
        self.vectors.step(&grads)?;
        self.tokens += shards.iter().map(|s| s.tokens).sum::<u64>();
        Ok(Step { number: self.step, loss, tokens: self.tokens })
    }

    /// Linear warm-up, then a cosine down to a fiftieth.
    fn rate(&self) -> f64 {
        let (step, warm) = (self.step as f64, self.plan.warm_up as f64);
        let peak = self.plan.learning_rate;
        if step < warm {
            return peak * step / warm;
        }
        let done = (step - warm) / (self.plan.steps as f64 - warm).max(1.0);
        peak * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()))
    }

    fn batch(&mut self) -> Vec<Example> {
        if self.pool.is_empty() {
            let mut drawn: Vec<Example> = (0..POOL * self.plan.batch).map(|_| self.generator.example()).collect();
            for example in &drawn {
                self.data.update(example.prompt.as_bytes());
                self.data.update([0]);
                self.data.update(example.answer.as_bytes());
                self.data.update([0]);
            }
            drawn.sort_by_key(|e| e.prompt.len() + e.answer.len());
            self.pool = drawn.chunks(self.plan.batch).map(<[_]>::to_vec).collect();
            self.order.shuffle(&mut self.pool);
        }
        self.pool.pop().expect("the pool was just filled")
    }

    fn add(&self, mut one: GradStore, other: &GradStore) -> Result<GradStore> {
        for var in self.vars.values() {
            if let Some(grad) = other.get(var.as_tensor()) {
                let sum = match one.get(var.as_tensor()) {
                    Some(before) => (before + grad)?,
                    None => grad.clone(),
                };
                one.insert(var.as_tensor(), sum);
            }
        }
        Ok(one)
    }

    fn clip(&self, grads: &mut GradStore) -> Result<()> {
        let mut square = 0.0;
        for var in self.vars.values() {
            if let Some(grad) = grads.get(var.as_tensor()) {
                square += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = square.sqrt();
        if norm > GRADIENT_MAX {
            for var in self.vars.values() {
                if let Some(grad) = grads.remove(var.as_tensor()) {
                    grads.insert(var.as_tensor(), (grad * (GRADIENT_MAX / norm))?);
                }
            }
        }
        Ok(())
    }

    /// The weights as they stand, as an f16 safetensors file.
    pub fn safetensors(&self) -> Result<Vec<u8>> {
        let halves = self
            .config
            .weights()
            .into_iter()
            .map(|(name, _)| {
                let half = self.vars[&name].as_tensor().to_dtype(DType::F16)?;
                Ok((name, half))
            })
            .collect::<Result<Vec<(String, Tensor)>>>()?;
        safetensors::tensor::serialize(halves, None).map_err(candle_core::Error::wrap)
    }

    /// The model under training (the plain form is what was trained).
    pub fn llama(&self) -> &Llama {
        &self.llama
    }

    /// SHA-256 over every text drawn so far, prompt and answer each ended by a zero byte.
    pub fn data_digest(&self) -> [u8; 32] {
        self.data.clone().finalize().into()
    }
}

fn initial(config: &Config, name: &str, shape: &[usize], chance: &mut Chance) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let deviation = match name {
        _ if shape.len() == 1 => return Tensor::ones(shape, DType::F32, &Device::Cpu),
        "model.embed_tokens.weight" => 0.05,
        _ if name.contains("o_proj") || name.contains("down_proj") => {
            let depth = (2 * config.num_hidden_layers) as f64;
            1.0 / (shape[1] as f64).sqrt() / depth.sqrt()
        }
        _ => 1.0 / (shape[1] as f64).sqrt(),
    };
    let values: Vec<f32> = (0..count).map(|_| (chance.normal() * deviation) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// A part of a batch, padded and weighted.
struct Shard {
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor,
    weight: f32,
    tokens: u64,
}

impl Shard {
    fn new(examples: &[Example], prompt_weight: f32) -> Result<Self> {
        let rows: Vec<(Vec<u32>, usize)> = examples.iter().map(sequence).collect();
        let width = rows.iter().map(|(r, _)| r.len() - 1).max().unwrap_or(1);
        let (mut inputs, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut tokens = 0;
        for (row, prompt) in &rows {
            tokens += row.len() as u64 - 1;
            for at in 0..width {
                inputs.push(row.get(at).copied().unwrap_or(EOS));
                targets.push(row.get(at + 1).copied().unwrap_or(EOS));
                weights.push(match at + 1 {
                    next if next >= row.len() => 0.0,
                    next if next < *prompt => prompt_weight,
                    _ => 1.0,
                });
            }
        }
        let weight = weights.iter().sum();
        let count = inputs.len();
        Ok(Self {
            inputs: Tensor::from_vec(inputs, (rows.len(), width), &Device::Cpu)?,
            targets: Tensor::from_vec(targets, (count, 1), &Device::Cpu)?,
            weights: Tensor::from_vec(weights, (count, 1), &Device::Cpu)?,
            weight,
            tokens,
        })
    }

    fn gradient(&self, llama: &Llama, total: f32) -> Result<(f64, GradStore)> {
        let hidden = llama.hidden(&self.inputs, Form::Plain, None, &mut NoSites)?;
        let scores = ops::log_softmax(&llama.logits(&hidden)?, 1)?;
        let picked = (scores.gather(&self.targets, 1)? * &self.weights)?;
        let loss = (picked.sum_all()? * (-1.0 / f64::from(total)))?;
        Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
    }
}

/// A text's tokens and how many of them are prompt.
fn sequence(example: &Example) -> (Vec<u32>, usize) {
    let mut tokens = Tokenizer.encode_prompt(&example.prompt);
    let prompt = tokens.len();
    tokens.extend(Tokenizer.encode(&example.answer));
    tokens.push(EOS);
    (tokens, prompt)
}

/// How many of `examples` the model answers exactly when it always takes the likeliest byte.
///
/// Measured with the right answer as input: every byte is the likeliest one exactly when greedy generation, which
/// would have fed back the same bytes, gives the answer and then ends.
pub fn exact_matches(llama: &Llama, examples: &[Example]) -> Result<usize> {
    let mut right = 0;
    for part in examples.chunks(EXAMINED_AT_ONCE) {
        let shard = Shard::new(part, 0.0)?;
        let (rows, width) = shard.inputs.dims2()?;
        let hidden = llama.hidden(&shard.inputs, Form::Fused, None, &mut NoSites)?;
        let likeliest: Vec<u32> = llama.logits(&hidden)?.argmax(1)?.to_vec1()?;
        let targets: Vec<u32> = shard.targets.flatten_all()?.to_vec1()?;
        let weights: Vec<f32> = shard.weights.flatten_all()?.to_vec1()?;
        right += (0..rows)
            .filter(|row| (row * width..(row + 1) * width).all(|at| weights[at] == 0.0 || likeliest[at] == targets[at]))
            .count();
    }
    Ok(right)
}

const EXAMINED_AT_ONCE: usize = 50;
