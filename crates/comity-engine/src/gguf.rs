//! A model as one GGUF file, for servers of llama.cpp's family: weights, shape, tokenizer and chat template.
//!
//! Weights keep the bits they are stored with; only norms become f32, as llama.cpp wants them. Two things are said there in
//! another way than here. Positions turn neighbours instead of halves, so the rows of `q` and `k` change places
//! ([`interleaved`]). Bytes are named as GPT-2 names them, without a merge: then every text has the tokens it has here. One
//! difference stays: that family's chat reads `</s>` within a message as the special token, this engine never does.

use candle_core::{DType, Device};
use safetensors::{Dtype, SafeTensors};

use crate::config::Config;
use crate::model::{LoadError, Model};
use crate::tokenizer::{BOS, EOS, Tokenizer, VOCABULARY};

/// [`crate::chat`]'s template in Jinja, the token before the text included.
pub const TEMPLATE: &str = concat!(
    "{{ bos_token }}{% for message in messages %}",
    "{% if message.role in ['system', 'developer'] %}{{ 'S: ' }}",
    "{% elif message.role in ['user', 'tool', 'function'] %}{{ 'Q: ' }}",
    "{% elif message.role == 'assistant' %}{{ 'A: ' }}",
    "{% else %}{{ raise_exception('role is not system, developer, user, assistant or tool') }}{% endif %}",
    "{% if message.content is string %}{% set text = message.content %}",
    "{% else %}{% set text = (message.content or []) | map(attribute='text') | join %}{% endif %}",
    "{{ text | trim | replace('\\r\\n', ' ') | replace('\\n', ' ') | replace('\\r', ' ') }}{{ '\\n' }}",
    "{% endfor %}{{ 'A: ' }}"
);

/// The file's bytes, of `config.json` and `model.safetensors`.
///
/// # Errors
/// [`LoadError`] for whatever this engine would not run itself.
pub fn export(name: &str, config_json: &[u8], safetensors: &[u8]) -> Result<Vec<u8>, LoadError> {
    let dtype = Model::from_bytes(config_json, safetensors)?.release().dtype;
    let config = Config::parse(config_json)?;
    let tensors = tensors(&config, safetensors)?;
    let pairs = pairs(name, &config, dtype);
    let mut file = Writer::default();
    file.0.extend(b"GGUF");
    file.u32(VERSION);
    file.u64(tensors.len() as u64);
    file.u64(pairs.len() as u64);
    for (key, value) in &pairs {
        file.text(key);
        file.u32(value.kind());
        file.value(value);
    }
    let mut offset = 0;
    for tensor in &tensors {
        file.text(&tensor.name);
        file.u32(u32::try_from(tensor.shape.len()).expect("a weight has two dimensions at most"));
        // The innermost first.
        tensor.shape.iter().rev().for_each(|size| file.u64(*size as u64));
        file.u32(tensor.kind);
        file.u64(offset);
        offset += tensor.bytes.len().next_multiple_of(ALIGNMENT) as u64;
    }
    file.pad();
    for tensor in &tensors {
        file.0.extend(&tensor.bytes);
        file.pad();
    }
    Ok(file.0)
}

const VERSION: u32 = 3;
/// The format's own, where the file names no other.
const ALIGNMENT: usize = 32;
// `enum ggml_type`, and `general.file_type` beside it.
const F32: u32 = 0;
const F16: u32 = 1;
const BF16: u32 = 30;
// `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;

enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

impl Value {
    fn kind(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => TEXT,
            Self::Texts(_) | Self::I32s(_) => 9,
        }
    }
}

const TEXT: u32 = 8;
const I32: u32 = 5;

/// What the file says beside its weights.
fn pairs(name: &str, config: &Config, dtype: &str) -> Vec<(&'static str, Value)> {
    let count = |number: usize| Value::U32(u32::try_from(number).expect("a checked config has small dimensions"));
    let text = |text: &str| Value::Text(text.to_owned());
    let file_type = match dtype {
        "float32" => 0,
        "bfloat16" => 32,
        _ => 1,
    };
    let kinds = (0..VOCABULARY).map(|token| match token {
        0 => UNKNOWN,
        1 | 2 => CONTROL,
        _ => NORMAL,
    });
    vec![
        ("general.architecture", text("llama")),
        ("general.name", text(name)),
        ("general.file_type", Value::U32(file_type)),
        ("llama.vocab_size", count(config.vocab_size)),
        ("llama.context_length", count(config.max_position_embeddings)),
        ("llama.embedding_length", count(config.hidden_size)),
        ("llama.block_count", count(config.num_hidden_layers)),
        ("llama.feed_forward_length", count(config.intermediate_size)),
        ("llama.attention.head_count", count(config.num_attention_heads)),
        ("llama.attention.head_count_kv", count(config.kv_heads())),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps as f32)),
        ("llama.rope.dimension_count", count(config.head_dim())),
        ("llama.rope.freq_base", Value::F32(config.rope_theta as f32)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Texts((0..VOCABULARY as u32).map(token).collect())),
        ("tokenizer.ggml.token_type", Value::I32s(kinds.collect())),
        ("tokenizer.ggml.merges", Value::Texts(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U32(BOS)),
        ("tokenizer.ggml.eos_token_id", Value::U32(EOS)),
        ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.ggml.add_eos_token", Value::Bool(false)),
        ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ]
}

/// A token's name: bytes as GPT-2 writes them, so that no name has a space or is no text.
fn token(token: u32) -> String {
    match Tokenizer.byte(token) {
        Some(byte) => named(byte).to_string(),
        None => Tokenizer.piece(token),
    }
}

/// GPT-2's name of a byte: itself where it can be seen in Latin 1, else the next letter from U+0100 on.
fn named(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    if seen(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !seen(*byte)).count();
    char::from_u32(0x100 + u32::try_from(before).expect("fewer than 256")).expect("Latin Extended-A")
}

struct Weight {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    bytes: Vec<u8>,
}

fn tensors(config: &Config, safetensors: &[u8]) -> Result<Vec<Weight>, LoadError> {
    let unreadable = |error: safetensors::SafeTensorError| LoadError::Weights(candle_core::Error::wrap(error));
    let stored = SafeTensors::deserialize(safetensors).map_err(unreadable)?;
    let wide = candle_core::safetensors::load_buffer(safetensors, &Device::Cpu).map_err(LoadError::Weights)?;
    let weight = |(name, shape): (String, Vec<usize>)| {
        let view = stored.tensor(&name).map_err(unreadable)?;
        let (kind, bytes) = match (shape.as_slice(), view.dtype()) {
            ([_], _) => {
                let values = wide[&name].to_dtype(DType::F32).and_then(|norm| norm.to_vec1::<f32>());
                let values = values.map_err(LoadError::Weights)?;
                (F32, values.into_iter().flat_map(f32::to_le_bytes).collect())
            }
            (_, Dtype::F16) => (F16, view.data().to_vec()),
            (_, Dtype::BF16) => (BF16, view.data().to_vec()),
            _ => (F32, view.data().to_vec()),
        };
        let heads = match name.rsplit('.').nth(1) {
            Some("q_proj") => Some(config.num_attention_heads),
            Some("k_proj") => Some(config.kv_heads()),
            _ => None,
        };
        let bytes = heads.map_or_else(|| bytes.clone(), |heads| interleaved(&bytes, heads, config.head_dim()));
        Ok(Weight { name: renamed(&name), shape, kind, bytes })
    };
    config.weights().into_iter().map(weight).collect()
}

/// Row `half · size/2 + i` of a head becomes its row `2i + half`: what was turned with its partner half a head away is
/// turned with its neighbour.
fn interleaved(bytes: &[u8], heads: usize, size: usize) -> Vec<u8> {
    let row = bytes.len() / (heads * size);
    let rows = (0..heads).flat_map(|head| (0..size / 2).flat_map(move |i| [0, 1].map(|half| (head, half, i))));
    rows.flat_map(|(head, half, i)| {
        let at = (head * size + half * (size / 2) + i) * row;
        &bytes[at..at + row]
    })
    .copied()
    .collect()
}

/// Hugging Face's name of a weight → llama.cpp's.
fn renamed(name: &str) -> String {
    let bare = name.trim_end_matches(".weight").trim_start_matches("model.");
    let (place, part) = match bare.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => (format!("blk.{layer}."), part),
        None => (String::new(), bare),
    };
    let part = match part {
        "embed_tokens" => "token_embd",
        "norm" => "output_norm",
        "lm_head" => "output",
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => unreachable!("Config::weights names no {other}"),
    };
    format!("{place}{part}.weight")
}

/// Little-endian, as the format has it.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::U32(number) => self.u32(*number),
            Value::F32(number) => self.0.extend(number.to_le_bytes()),
            Value::Bool(is) => self.0.push(u8::from(*is)),
            Value::Text(text) => self.text(text),
            Value::Texts(texts) => {
                self.u32(TEXT);
                self.u64(texts.len() as u64);
                texts.iter().for_each(|text| self.text(text));
            }
            Value::I32s(numbers) => {
                self.u32(I32);
                self.u64(numbers.len() as u64);
                numbers.iter().for_each(|number| self.0.extend(number.to_le_bytes()));
            }
        }
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bytes_have_the_names_that_gpt_2_gave_them() {
        let all: HashSet<char> = (0..=255).map(named).collect();
        assert_eq!(all.len(), 256, "each has a name of its own");
        for (byte, name) in
            [(b'a', 'a'), (b' ', 'Ġ'), (b'\n', 'Ċ'), (b'\t', 'ĉ'), (0, 'Ā'), (0x7F, 'ġ'), (0xAD, 'Ń'), (0xC3, 'Ã')]
        {
            assert_eq!(named(byte), name, "{byte:#x}");
        }
        assert_eq!([0, 1, 2, 35].map(token), ["<unk>", "<s>", "</s>", "Ġ"]);
    }

    #[test]
    fn halves_become_neighbours_head_by_head() {
        // Two heads of four rows, a row of two bytes.
        let bytes: Vec<u8> = (0..8).flat_map(|row| [row, row]).collect();
        let rows: Vec<u8> = interleaved(&bytes, 2, 4).into_iter().step_by(2).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
