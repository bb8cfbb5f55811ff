//! A model in memory: its weights, its tokenizer, and the digests a token pins it by.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest as _, Sha256};

use crate::chat;
use crate::config::{Config, ConfigError};
use crate::llama::Llama;
use crate::tokenizer::Tokenizer;

/// Largest weights file; a larger one is refused before it is read.
pub const WEIGHTS_BYTES_MAX: u64 = 4 << 30;
/// Largest `config.json`.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What pins this model exactly: digests of what answers, and the type of its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// SHA-256 over the list of files (`config.json`, `model.safetensors`): for each, in order of name, the name, a
    /// zero byte and the SHA-256 of its bytes. Names are in it, so files that swap their names change the root.
    pub weights_root: [u8; 32],
    pub tokenizer: [u8; 32],
    pub template: [u8; 32],
    /// Type of the weights as stored: `float16`, `bfloat16` or `float32`.
    pub dtype: &'static str,
}

/// A loaded model. Cloning is cheap: the weights are shared.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) llama: Llama,
    release: Release,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    TooLarge { path: PathBuf, bytes_max: u64 },
    #[error("the model's shape is not one this engine runs")]
    Config(#[from] ConfigError),
    #[error("weights do not load")]
    Weights(#[source] candle_core::Error),
    #[error("weight {name} is stored as {dtype}, the engine loads f16, bf16 and f32")]
    Dtype { name: String, dtype: &'static str },
    #[error("weight {name} holds a value that is not finite")]
    NotFinite { name: String },
}

impl Model {
    /// Loads `config.json` and `model.safetensors` from a directory.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, LoadError> {
        let (config, weights) = files(dir)?;
        Self::from_bytes(&config, &weights)
    }

    /// Assembles a model from the bytes of the two files.
    pub fn from_bytes(config_json: &[u8], safetensors: &[u8]) -> Result<Self, LoadError> {
        let config = Config::parse(config_json)?;
        let (weights, dtype) = to_f32(safetensors)?;
        Ok(Self {
            llama: Llama::new(&config, &weights).map_err(LoadError::Weights)?,
            release: Release {
                weights_root: root(&[(CONFIG, config_json), (WEIGHTS, safetensors)]),
                tokenizer: Tokenizer.digest(),
                template: chat::digest(),
                dtype,
            },
        })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> Tokenizer {
        Tokenizer
    }

    /// What a token pins of this model.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Most tokens a prompt and its answer may have together.
    pub fn context_tokens_max(&self) -> usize {
        self.llama.config().max_position_embeddings
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.llama.config().parameters()
    }

    /// The forward pass itself, for reading and patching sites.
    pub fn llama(&self) -> &Llama {
        &self.llama
    }
}

/// The bytes of a model's two files in a directory: `config.json` and `model.safetensors`.
pub fn files(dir: impl AsRef<Path>) -> Result<(Vec<u8>, Vec<u8>), LoadError> {
    let dir = dir.as_ref();
    Ok((read(dir.join(CONFIG), CONFIG_BYTES_MAX)?, read(dir.join(WEIGHTS), WEIGHTS_BYTES_MAX)?))
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

fn read(path: PathBuf, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let attempt = || {
        let mut bytes = Vec::new();
        std::fs::File::open(&path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match attempt() {
        Ok(bytes) if bytes.len() as u64 > bytes_max => Err(LoadError::TooLarge { path, bytes_max }),
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(LoadError::Read { path, source }),
    }
}

fn to_f32(safetensors: &[u8]) -> Result<(HashMap<String, Tensor>, &'static str), LoadError> {
    let stored = candle_core::safetensors::load_buffer(safetensors, &Device::Cpu).map_err(LoadError::Weights)?;
    let mut stored_as = DType::F16;
    let mut weights = HashMap::with_capacity(stored.len());
    for (name, tensor) in stored {
        match tensor.dtype() {
            DType::F16 => {}
            wider @ (DType::BF16 | DType::F32) => stored_as = wider,
            other => {
                let dtype = other.as_str();
                return Err(LoadError::Dtype { name, dtype });
            }
        }
        let wide = tensor.to_dtype(DType::F32).map_err(LoadError::Weights)?;
        let values = wide.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        if !values.map_err(LoadError::Weights)?.iter().all(|v| v.is_finite()) {
            return Err(LoadError::NotFinite { name });
        }
        weights.insert(name, wide);
    }
    let dtype = match stored_as {
        DType::F32 => "float32",
        DType::BF16 => "bfloat16",
        _ => "float16",
    };
    Ok((weights, dtype))
}

fn root(files: &[(&str, &[u8])]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(bytes));
    }
    hash.finalize().into()
}
