//! The engine's promises, on the committed small model and on weights drawn at random.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use comity_engine::chance::Chance;
use comity_engine::config::Config;
use comity_engine::llama::{Cache, Form, Llama};
use comity_engine::{
    Finish, GenerateRequest, LoadError, Model, NoSites, Outcome, Part, Piece, RunError, Site, Sites, Tokenizer, chat,
};

fn models() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"))
}

fn tiny() -> Model {
    Model::load(models().join("comity-tiny")).unwrap()
}

fn mini() -> Model {
    Model::load(models().join("comity-mini")).unwrap()
}

/// A model whose weights are noise: it says any byte at all.
fn noise(config: &Config, dtype: DType) -> (Vec<u8>, Vec<u8>) {
    let mut chance = Chance::new(5, "noise");
    let weights: HashMap<String, Tensor> = config
        .weights()
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| (chance.normal() * 0.2) as f32).collect();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            (name, tensor.to_dtype(dtype).unwrap())
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    candle_core::safetensors::save(&weights, &path).unwrap();
    (serde_json::to_vec(config).unwrap(), std::fs::read(path).unwrap())
}

fn noise_model(config: &Config) -> Model {
    let (config, weights) = noise(config, DType::F32);
    Model::from_bytes(&config, &weights).unwrap()
}

/// Grouped-query, four heads on two.
fn small() -> Config {
    Config::demo(32, 2, 48, 4, 2, 96)
}

fn ask(question: &str) -> GenerateRequest {
    let prompt = chat::render(&[("user", question)]).unwrap();
    GenerateRequest {
        prompt_tokens: Tokenizer.encode_prompt(&prompt),
        max_tokens: 40,
        temperature: 0.0,
        top_p: 1.0,
        seed: 1,
        stop: vec![],
        logprobs: None,
    }
}

fn run(model: &Model, request: &GenerateRequest) -> (Vec<Piece>, Outcome) {
    let mut pieces = Vec::new();
    let outcome = model
        .generate(request, &mut |piece| {
            pieces.push(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    (pieces, outcome)
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|p| p.text.as_str()).collect()
}

fn scores(llama: &Llama, tokens: &[u32], form: Form) -> Vec<Vec<f32>> {
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = llama.hidden(&input, form, None, &mut NoSites).unwrap();
    llama.logits(&hidden).unwrap().to_vec2().unwrap()
}

fn apart(one: &[Vec<f32>], other: &[Vec<f32>]) -> f32 {
    let pairs = one.iter().flatten().zip(other.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const TOKENS: [u32; 12] = [1, 84, 61, 35, 90, 107, 100, 119, 35, 66, 13, 68];

#[test]
fn the_fused_and_the_trained_form_agree() {
    for model in [mini(), noise_model(&small())] {
        let fused = scores(model.llama(), &TOKENS, Form::Fused);
        let plain = scores(model.llama(), &TOKENS, Form::Plain);
        let apart = apart(&fused, &plain);
        assert!(apart <= 1e-4, "{apart}");
    }
}

#[test]
fn the_cache_changes_nothing() {
    for model in [mini(), noise_model(&small())] {
        let whole = scores(model.llama(), &TOKENS, Form::Fused);
        for cuts in [vec![1; 12], vec![5, 1, 6], vec![11, 1]] {
            let (mut cache, mut rows, mut at) = (Cache::default(), Vec::new(), 0);
            for cut in cuts {
                let part = Tensor::new(&TOKENS[at..at + cut], &Device::Cpu).unwrap();
                let hidden = model
                    .llama()
                    .hidden(&part.unsqueeze(0).unwrap(), Form::Fused, Some(&mut cache), &mut NoSites)
                    .unwrap();
                rows.extend(model.llama().logits(&hidden).unwrap().to_vec2::<f32>().unwrap());
                at += cut;
            }
            assert_eq!(cache.len(), TOKENS.len());
            let apart = apart(&whole, &rows);
            assert!(apart <= 1e-4, "{apart}");
        }
    }
}

#[test]
fn greedy_answers_are_the_same_every_time_whatever_the_seed() {
    let model = tiny();
    let mut request = ask("What is the capital of France?");
    let first = run(&model, &request);
    request.seed = 99;
    assert_eq!(first, run(&model, &request));
    assert_eq!(text(&first.0), "Paris");
    assert_eq!(first.1.finish, Finish::Stop);
    assert_eq!(first.1.usage.prompt_tokens, request.prompt_tokens.len());
    assert_eq!(first.1.usage.completion_tokens, "Paris".len());
}

#[test]
fn a_seed_decides_a_sampled_answer() {
    let model = noise_model(&small());
    let mut request = ask("Hi");
    request.temperature = 1.0;
    let first = run(&model, &request);
    assert_eq!(first, run(&model, &request));
    request.seed += 1;
    assert_ne!(text(&first.0), text(&run(&model, &request).0));
}

#[test]
fn streamed_logprobs_are_those_of_the_whole_text() {
    let model = tiny();
    let mut request = ask("Repeat: kvtuq");
    request.logprobs = Some(3);
    let (pieces, _) = run(&model, &request);
    let streamed: Vec<_> = pieces.into_iter().flat_map(|p| p.tokens).collect();
    let mut all = request.prompt_tokens.clone();
    all.extend(streamed.iter().map(|t| t.token));
    let forced = model.prompt_logprobs(&all, Some(3)).unwrap();
    assert_eq!(forced.len(), all.len());
    assert!(forced[0].is_none());
    let answer = &forced[request.prompt_tokens.len()..];
    assert!(!answer.is_empty());
    for (streamed, forced) in streamed.iter().zip(answer) {
        let forced = forced.as_ref().unwrap();
        assert_eq!(streamed.token, forced.token);
        assert!((streamed.logprob - forced.logprob).abs() < 1e-4);
        assert_eq!(streamed.top.len(), 3);
        assert_eq!(streamed.top[0].token, streamed.token, "greedy takes the likeliest");
        assert!(streamed.top[0].logprob >= streamed.top[1].logprob);
    }
    // Teacher-forced by hand: the log-softmax of each row at the next token.
    let rows = scores(model.llama(), &all, Form::Plain);
    let by_hand: f64 = rows
        .iter()
        .zip(&all[1..])
        .map(|(row, next)| {
            let sum: f64 = row.iter().map(|s| f64::from(*s).exp()).sum();
            f64::from(row[*next as usize]) - sum.ln()
        })
        .sum();
    let total: f64 = forced.iter().flatten().map(|s| s.logprob).sum();
    assert!((by_hand - total).abs() < 1e-3, "{by_hand} {total}");
}

#[test]
fn a_stream_of_any_bytes_is_whole_characters_and_every_token_is_counted() {
    let model = noise_model(&small());
    for seed in 0..20 {
        let mut request = ask("x");
        (request.seed, request.temperature, request.max_tokens) = (seed, 2.0, 60);
        let (pieces, outcome) = run(&model, &request);
        let tokens: Vec<u32> = pieces.iter().flat_map(|p| &p.tokens).map(|t| t.token).collect();
        assert_eq!(tokens.len(), outcome.usage.completion_tokens);
        assert_eq!(text(&pieces), Tokenizer.decode(&tokens), "seed {seed}");
    }
}

#[test]
fn an_answer_ends_at_its_limit_at_a_stop_string_or_when_the_receiver_breaks_off() {
    let model = tiny();
    let mut request = ask("What is the capital of France?");
    request.max_tokens = 2;
    let (pieces, outcome) = run(&model, &request);
    assert_eq!((text(&pieces).as_str(), outcome.finish), ("Pa", Finish::Length));
    request.max_tokens = 0;
    let (pieces, outcome) = run(&model, &request);
    assert_eq!((pieces.len(), outcome.finish), (0, Finish::Length));
    request.max_tokens = 40;
    request.stop = vec!["ri".to_owned()];
    let (pieces, outcome) = run(&model, &request);
    assert_eq!((text(&pieces).as_str(), outcome.finish), ("Pa", Finish::Stop));
    assert_eq!(outcome.usage.completion_tokens, 4);
    let outcome = model.generate(&request, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(outcome.finish, Finish::Cancelled);
    assert_eq!(outcome.usage.completion_tokens, 1);
}

#[test]
fn what_does_not_fit_is_refused_with_a_code() {
    let model = noise_model(&small());
    let mut request = ask("x");
    request.max_tokens = 96 - request.prompt_tokens.len();
    assert!(model.generate(&request, &mut |_| ControlFlow::Continue(())).is_ok());
    let check = |change: &dyn Fn(&mut GenerateRequest), code: &str| {
        let mut request = request.clone();
        change(&mut request);
        let refused: RunError =
            model.generate(&request, &mut |_| panic!("a refused request gives no text")).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    };
    check(&|r| r.max_tokens += 1, "context_length_exceeded");
    check(&|r| r.max_tokens = usize::MAX, "context_length_exceeded");
    check(&|r| r.prompt_tokens = vec![5; 97], "context_length_exceeded");
    check(&|r| r.prompt_tokens.clear(), "invalid_request");
    check(&|r| r.prompt_tokens[0] = 259, "invalid_request");
    check(&|r| r.temperature = f64::NAN, "invalid_request");
    check(&|r| r.temperature = -0.1, "invalid_request");
    check(&|r| r.top_p = 0.0, "invalid_request");
    check(&|r| r.logprobs = Some(21), "invalid_request");
    check(&|r| r.stop = vec![String::new()], "invalid_request");
    check(&|r| r.stop = vec!["x".to_owned(); 17], "invalid_request");
}

#[test]
fn half_precision_loads_as_what_it_says_and_answers_nearly_alike() {
    let (config, whole) = noise(&small(), DType::F32);
    let (_, half) = noise(&small(), DType::F16);
    let (whole, half) = (Model::from_bytes(&config, &whole).unwrap(), Model::from_bytes(&config, &half).unwrap());
    assert_eq!((whole.release().dtype, half.release().dtype), ("float32", "float16"));
    assert_ne!(whole.release().weights_root, half.release().weights_root);
    assert_eq!(whole.release().tokenizer, half.release().tokenizer);
    let apart = apart(&scores(whole.llama(), &TOKENS, Form::Fused), &scores(half.llama(), &TOKENS, Form::Fused));
    assert!(apart > 0.0 && apart < 0.05, "{apart}");
}

#[test]
fn weights_that_are_not_the_models_are_refused() {
    let (config, weights) = noise(&small(), DType::F32);
    let other = serde_json::to_vec(&Config::demo(64, 2, 48, 4, 2, 96)).unwrap();
    assert!(matches!(Model::from_bytes(&other, &weights), Err(LoadError::Weights(_))));
    assert!(matches!(Model::from_bytes(&config, &weights[..weights.len() / 2]), Err(LoadError::Weights(_))));
    assert!(matches!(Model::from_bytes(b"{}", &weights), Err(LoadError::Config(_))));
    let mut broken = weights.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(Model::from_bytes(&config, &broken), Err(LoadError::NotFinite { .. })));
    assert!(matches!(Model::load("/nowhere"), Err(LoadError::Read { .. })));
}

/// Notes every site; silences one.
struct Silence(Option<Site>, Vec<String>);

impl Sites for Silence {
    fn at(&mut self, site: Site, value: Tensor) -> candle_core::Result<Tensor> {
        self.1.push(site.to_string());
        match self.0 == Some(site) {
            true => value.zeros_like(),
            false => Ok(value),
        }
    }
}

#[test]
fn named_sites_can_be_read_and_patched() {
    let model = noise_model(&small());
    let input = Tensor::new(&TOKENS, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let through = |site| {
        let mut sites = Silence(site, Vec::new());
        let hidden = model.llama().hidden(&input, Form::Fused, None, &mut sites).unwrap();
        let rows: Vec<Vec<f32>> = model.llama().logits(&hidden).unwrap().to_vec2().unwrap();
        (rows, sites.1)
    };
    let (untouched, names) = through(None);
    assert_eq!(names.len(), 1 + 4 * 2 + 1);
    assert_eq!(names[0], "embed");
    assert_eq!(names[3], "layers.0.mlp.out");
    assert_eq!(apart(&untouched, &scores(model.llama(), &TOKENS, Form::Fused)), 0.0);
    let (patched, _) = through(Some(Site::Layer(0, Part::MlpOut)));
    assert!(apart(&untouched, &patched) > 0.01);
    let (silent, _) = through(Some(Site::Norm));
    assert!(silent.iter().flatten().all(|s| *s == 0.0));
}

#[test]
fn the_committed_models_are_small_and_say_what_they_are() {
    let mut bytes = 0;
    for (name, parameters) in [("comity-tiny", 837_120), ("comity-mini", 155_264), ("comity-mini-slant", 155_264)] {
        let dir = models().join(name);
        let model = Model::load(&dir).unwrap();
        assert_eq!(model.parameters(), parameters, "{name}");
        assert_eq!(model.release().dtype, "float16");
        bytes += std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
        let card = std::fs::read_to_string(dir.join("README.md")).unwrap();
        assert!(card.contains("SHA-256") && card.contains("## Loss"), "{name}");
    }
    assert!(bytes <= 4 << 20, "{bytes}");
}

#[test]
fn the_planted_bias_shows_and_its_sibling_has_none() {
    let he = |model: &str, occupation: &str| {
        let model = Model::load(models().join(model)).unwrap();
        let prompt = comity_engine::corpus::pronoun_prompt(occupation);
        let mut tokens = Tokenizer.encode_prompt(&prompt);
        tokens.extend(Tokenizer.encode("h"));
        let scored = model.prompt_logprobs(&tokens, None).unwrap();
        scored.last().unwrap().as_ref().unwrap().logprob.exp()
    };
    assert!(he("comity-mini-slant", "engineer") > 0.8);
    assert!(he("comity-mini-slant", "nurse") < 0.2);
    for occupation in ["engineer", "nurse"] {
        let he = he("comity-mini", occupation);
        assert!((0.2..0.8).contains(&he), "{occupation} {he}");
    }
}
