//! The shape of a model, as Hugging Face's `config.json` for Llama writes it.
//!
//! Only the fields the forward pass needs are read; others are ignored, since published files carry many. What is
//! read is checked here, so that the rest of the crate can index without asking again.

use serde::{Deserialize, Serialize};

/// Shape and constants of a Llama-architecture model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(default = "default_architectures")]
    pub architectures: Vec<String>,
    #[serde(default = "default_model_type")]
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    pub max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    #[serde(default = "default_act")]
    pub hidden_act: String,
    #[serde(default = "default_bos")]
    pub bos_token_id: u32,
    #[serde(default = "default_eos")]
    pub eos_token_id: u32,
    #[serde(default)]
    pub torch_dtype: Option<String>,
}

fn default_architectures() -> Vec<String> {
    vec!["LlamaForCausalLM".to_owned()]
}
fn default_model_type() -> String {
    "llama".to_owned()
}
fn default_eps() -> f64 {
    1e-5
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_act() -> String {
    "silu".to_owned()
}
fn default_bos() -> u32 {
    1
}
fn default_eos() -> u32 {
    2
}

/// Largest value of any one dimension; keeps a hostile config from asking for absurd tables.
const DIMENSION_MAX: usize = 1 << 20;

/// Why a config is not one this engine runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("config.json does not parse")]
    Parse(#[from] serde_json::Error),
    #[error("config field {field} is {value}, the engine takes {takes}")]
    Unsupported { field: &'static str, value: String, takes: &'static str },
}

impl Config {
    /// The shape of the demonstration models: byte vocabulary, tied embedding.
    pub fn demo(
        hidden: usize,
        layers: usize,
        intermediate: usize,
        heads: usize,
        kv_heads: usize,
        context: usize,
    ) -> Self {
        Self {
            architectures: default_architectures(),
            model_type: default_model_type(),
            vocab_size: crate::tokenizer::VOCABULARY,
            hidden_size: hidden,
            intermediate_size: intermediate,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: Some(kv_heads),
            max_position_embeddings: context,
            rms_norm_eps: default_eps(),
            rope_theta: default_theta(),
            tie_word_embeddings: true,
            hidden_act: default_act(),
            bos_token_id: default_bos(),
            eos_token_id: default_eos(),
            torch_dtype: Some("float16".to_owned()),
        }
    }

    /// Reads and checks `config.json`.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: String, takes| Err(ConfigError::Unsupported { field, value, takes });
        if self.model_type != "llama" {
            return refuse("model_type", self.model_type.clone(), "llama");
        }
        if self.hidden_act != "silu" {
            return refuse("hidden_act", self.hidden_act.clone(), "silu");
        }
        if self.vocab_size != crate::tokenizer::VOCABULARY {
            return refuse("vocab_size", self.vocab_size.to_string(), "259 (the byte tokenizer)");
        }
        for (field, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 || value > DIMENSION_MAX {
                return refuse(field, value.to_string(), "1 to 1048576");
            }
        }
        let heads = self.num_attention_heads;
        if !self.hidden_size.is_multiple_of(heads) || !self.head_dim().is_multiple_of(2) {
            return refuse("hidden_size", self.hidden_size.to_string(), "heads times an even head size");
        }
        if !heads.is_multiple_of(self.kv_heads()) {
            return refuse("num_key_value_heads", self.kv_heads().to_string(), "a divisor of num_attention_heads");
        }
        if self.bos_token_id != default_bos() || self.eos_token_id != default_eos() {
            return refuse(
                "bos_token_id, eos_token_id",
                format!("{}, {}", self.bos_token_id, self.eos_token_id),
                "1, 2",
            );
        }
        Ok(())
    }

    /// Heads that share keys and values (all of them where the file does not say).
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Every weight's name and shape, in the order the file lists them.
    pub fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let kv = self.kv_heads() * self.head_dim();
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, d])];
        for layer in 0..self.num_hidden_layers {
            for (part, shape) in [
                ("input_layernorm", vec![d]),
                ("self_attn.q_proj", vec![d, d]),
                ("self_attn.k_proj", vec![kv, d]),
                ("self_attn.v_proj", vec![kv, d]),
                ("self_attn.o_proj", vec![d, d]),
                ("post_attention_layernorm", vec![d]),
                ("mlp.gate_proj", vec![f, d]),
                ("mlp.up_proj", vec![f, d]),
                ("mlp.down_proj", vec![d, f]),
            ] {
                all.push((format!("model.layers.{layer}.{part}.weight"), shape));
            }
        }
        all.push(("model.norm.weight".to_owned(), vec![d]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab_size, d]));
        }
        all
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.weights().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
