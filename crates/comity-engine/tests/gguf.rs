//! What `gguf::export` writes, read by candle's own reader of the format: the same weights, and the same scores.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::rotary_emb;
use comity_engine::chance::Chance;
use comity_engine::config::Config;
use comity_engine::{LoadError, gguf};

fn committed() -> (Vec<u8>, Vec<u8>) {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/comity-tiny"));
    (std::fs::read(folder.join("config.json")).unwrap(), std::fs::read(folder.join("model.safetensors")).unwrap())
}

/// Grouped-query, a head of its own, weights that are noise.
fn noise(dtype: DType) -> (Vec<u8>, Vec<u8>) {
    let config = Config { tie_word_embeddings: false, ..Config::demo(32, 2, 48, 4, 2, 96) };
    let mut chance = Chance::new(7, "gguf");
    let weights: HashMap<String, Tensor> = config
        .weights()
        .into_iter()
        .map(|(name, shape)| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| (chance.normal() * 0.2) as f32).collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap())
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    candle_core::safetensors::save(&weights, folder.path().join("w")).unwrap();
    (serde_json::to_vec(&config).unwrap(), std::fs::read(folder.path().join("w")).unwrap())
}

struct File {
    content: Content,
    bytes: Vec<u8>,
}

impl File {
    fn of(config: &[u8], weights: &[u8]) -> Self {
        let bytes = gguf::export("m", config, weights).unwrap();
        let content = Content::read(&mut Cursor::new(&bytes)).unwrap();
        Self { content, bytes }
    }

    fn tensor(&self, name: &str) -> Tensor {
        let tensor = self.content.tensor(&mut Cursor::new(&self.bytes), name, &Device::Cpu).unwrap();
        tensor.dequantize(&Device::Cpu).unwrap()
    }

    fn number(&self, key: &str) -> usize {
        self.content.metadata[key].to_u32().unwrap() as usize
    }

    /// The scores of `tokens` as a server of llama.cpp's family computes them from this file alone: norms before, neighbours
    /// turned, heads shared.
    fn scores(&self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let (heads, kv) = (self.number("llama.attention.head_count"), self.number("llama.attention.head_count_kv"));
        let (size, time) = (self.number("llama.rope.dimension_count"), tokens.len());
        let eps = self.content.metadata["llama.attention.layer_norm_rms_epsilon"].to_f32().unwrap();
        let base = self.content.metadata["llama.rope.freq_base"].to_f32().unwrap();
        let angles: Vec<f32> = (0..time)
            .flat_map(|at| (0..size / 2).map(move |i| at as f32 / base.powf(2.0 * i as f32 / size as f32)))
            .collect();
        let angles = Tensor::from_vec(angles, (time, size / 2), &Device::Cpu).unwrap();
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        let mask: Vec<f32> =
            (0..time).flat_map(|i| (0..time).map(move |j| if j <= i { 0.0 } else { f32::NEG_INFINITY })).collect();
        let mask = Tensor::from_vec(mask, (time, time), &Device::Cpu).unwrap();
        let norm = |x: &Tensor, name: &str| {
            let scale = (x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap() + f64::from(eps)).unwrap().sqrt().unwrap();
            x.broadcast_div(&scale).unwrap().broadcast_mul(&self.tensor(name)).unwrap()
        };
        let by = |x: &Tensor, name: &str| x.matmul(&self.tensor(name).t().unwrap()).unwrap();
        let split = |x: Tensor, heads: usize| {
            x.reshape((1, time, heads, size)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap()
        };
        let shared = |x: Tensor| {
            let each: Vec<Tensor> = (0..heads).map(|head| x.narrow(1, head * kv / heads, 1).unwrap()).collect();
            Tensor::cat(&each, 1).unwrap()
        };
        let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
        let mut x = self.tensor("token_embd.weight").index_select(&tokens, 0).unwrap();
        for layer in 0..self.number("llama.block_count") {
            let of = |part: &str| format!("blk.{layer}.{part}.weight");
            let h = norm(&x, &of("attn_norm"));
            let q = rotary_emb::rope_i(&split(by(&h, &of("attn_q")), heads), &cos, &sin).unwrap();
            let k = shared(rotary_emb::rope_i(&split(by(&h, &of("attn_k")), kv), &cos, &sin).unwrap());
            let v = shared(split(by(&h, &of("attn_v")), kv));
            let scores = (q.matmul(&k.t().unwrap()).unwrap() / (size as f64).sqrt()).unwrap();
            let shares = candle_nn::ops::softmax(&scores.broadcast_add(&mask).unwrap(), D::Minus1).unwrap();
            let gathered = shares.matmul(&v).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
            let gathered = gathered.reshape((time, heads * size)).unwrap();
            x = (x + by(&gathered, &of("attn_output"))).unwrap();
            let h = norm(&x, &of("ffn_norm"));
            let gate = by(&h, &of("ffn_gate")).silu().unwrap();
            x = (x + by(&(gate * by(&h, &of("ffn_up"))).unwrap(), &of("ffn_down"))).unwrap();
        }
        let is_tied = !self.content.tensor_infos.contains_key("output.weight");
        let head = if is_tied { "token_embd.weight" } else { "output.weight" };
        by(&norm(&x, "output_norm.weight"), head).to_vec2().unwrap()
    }
}

const TOKENS: [u32; 12] = [1, 84, 61, 35, 90, 107, 100, 119, 35, 66, 13, 68];

#[test]
fn what_is_read_back_scores_as_the_engine_does() {
    use comity_engine::llama::Form;
    use comity_engine::{Model, NoSites};
    for (config, weights) in [committed(), noise(DType::F32), noise(DType::BF16)] {
        let model = Model::from_bytes(&config, &weights).unwrap();
        let input = Tensor::new(&TOKENS, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = model.llama().hidden(&input, Form::Fused, None, &mut NoSites).unwrap();
        let own: Vec<Vec<f32>> = model.llama().logits(&hidden).unwrap().to_vec2().unwrap();
        let read = File::of(&config, &weights).scores(&TOKENS);
        let pairs = own.iter().flatten().zip(read.iter().flatten());
        let apart = pairs.map(|(own, read)| (own - read).abs()).fold(0.0, f32::max);
        assert_eq!((own.len(), own[0].len()), (read.len(), read[0].len()));
        assert!(apart <= 1e-3, "scores are {apart} apart");
    }
}

#[test]
fn the_file_says_what_a_server_needs_to_speak_as_the_engine_does() {
    let (config, weights) = committed();
    let file = File::of(&config, &weights);
    let text = |key: &str| file.content.metadata[key].to_string().unwrap().clone();
    assert_eq!(
        ["general.architecture", "general.name", "tokenizer.ggml.model"].map(text),
        ["llama", "m", "gpt2"].map(str::to_owned)
    );
    assert_eq!(
        ["llama.context_length", "llama.block_count", "tokenizer.ggml.eos_token_id"].map(|key| file.number(key)),
        [1024, 4, 2]
    );
    let Value::Array(tokens) = &file.content.metadata["tokenizer.ggml.tokens"] else { panic!("a list of tokens") };
    assert_eq!(tokens.len(), 259);
    assert!(file.content.metadata["tokenizer.ggml.add_bos_token"].to_bool().unwrap());
    // Nothing is widened but the norms: the file is hardly larger than what it was made of.
    assert!(file.bytes.len() < weights.len() + 16_384, "{} of {}", file.bytes.len(), weights.len());
}

#[test]
fn what_the_engine_does_not_run_is_not_written() {
    let (config, weights) = noise(DType::F32);
    let cut = gguf::export("m", &config, &weights[..weights.len() / 2]);
    assert!(matches!(cut, Err(LoadError::Weights(_))), "{cut:?}");
}
