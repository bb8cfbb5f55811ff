//! The Llama forward pass on candle: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
//!
//! Two forms of the same arithmetic: [`Form::Fused`] for answering, [`Form::Plain`] for training, because candle's
//! fused `rms_norm`, `rope` and `softmax_last_dim` have no backward. A test holds them within 1e-4 of each other.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{ops, rotary_emb};

use crate::config::Config;
use crate::sites::{Part, Site, Sites};

/// Which operations a pass is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Fused kernels, no backward: for inference.
    Fused,
    /// Elementary operations with a backward: for training.
    Plain,
}

/// A Llama model's weights, ready to run.
#[derive(Clone, Debug)]
pub struct Llama {
    config: Config,
    embed: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
    cos: Tensor,
    sin: Tensor,
}

/// Keys and values of the tokens seen so far, one pair per layer.
#[derive(Debug, Default)]
pub struct Cache {
    layers: Vec<Option<(Tensor, Tensor)>>,
    len: usize,
}

impl Cache {
    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token was seen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Llama {
    /// Assembles the model from weights by their Hugging Face names; a missing or misshapen one is an error.
    pub fn new(config: &Config, weights: &HashMap<String, Tensor>) -> Result<Self> {
        let shapes: HashMap<String, Vec<usize>> = config.weights().into_iter().collect();
        let take = |name: &str| -> Result<Tensor> {
            let Some(tensor) = weights.get(name) else {
                candle_core::bail!("weight {name} is missing");
            };
            let want = &shapes[name];
            if tensor.dims() != want.as_slice() {
                candle_core::bail!("weight {name} has shape {:?}, not {want:?}", tensor.dims());
            }
            Ok(tensor.clone())
        };
        let embed = take("model.embed_tokens.weight")?;
        let head = match config.tie_word_embeddings {
            true => embed.clone(),
            false => take("lm_head.weight")?,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|n| {
                let take = |part: &str| take(&format!("model.layers.{n}.{part}.weight"));
                Ok(Layer {
                    attn_norm: take("input_layernorm")?,
                    q: take("self_attn.q_proj")?,
                    k: take("self_attn.k_proj")?,
                    v: take("self_attn.v_proj")?,
                    o: take("self_attn.o_proj")?,
                    mlp_norm: take("post_attention_layernorm")?,
                    gate: take("mlp.gate_proj")?,
                    up: take("mlp.up_proj")?,
                    down: take("mlp.down_proj")?,
                })
            })
            .collect::<Result<_>>()?;
        let (cos, sin) = rotation(config)?;
        Ok(Self { config: config.clone(), embed, layers, norm: take("model.norm.weight")?, head, cos, sin })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Runs `tokens` `[batch, time]` and gives the hidden states after the last norm, `[batch, time, hidden]`.
    ///
    /// With a cache the tokens follow those already in it, and it grows by `time`.
    pub fn hidden(
        &self,
        tokens: &Tensor,
        form: Form,
        mut cache: Option<&mut Cache>,
        sites: &mut dyn Sites,
    ) -> Result<Tensor> {
        let (batch, time) = tokens.dims2()?;
        let start = cache.as_ref().map_or(0, |c| c.len);
        if start + time > self.config.max_position_embeddings {
            candle_core::bail!("{} tokens exceed the context", start + time);
        }
        let pass = Pass {
            config: &self.config,
            form,
            cos: self.cos.narrow(0, start, time)?,
            sin: self.sin.narrow(0, start, time)?,
            mask: causal_mask(time, start)?,
        };
        let mut x =
            self.embed.index_select(&tokens.flatten_all()?, 0)?.reshape((batch, time, self.config.hidden_size))?;
        x = sites.at(Site::Embed, x)?;
        if let Some(cache) = cache.as_deref_mut() {
            cache.layers.resize(self.layers.len(), None);
        }
        for (n, layer) in self.layers.iter().enumerate() {
            let slot = cache.as_deref_mut().map(|c| &mut c.layers[n]);
            let attn = layer.attention(&pass, &pass.norm(&x, &layer.attn_norm)?, slot, n, sites)?;
            x = (x + sites.at(Site::Layer(n, Part::AttnOut), attn)?)?;
            let mlp = layer.mlp(&pass.norm(&x, &layer.mlp_norm)?)?;
            x = (x + sites.at(Site::Layer(n, Part::MlpOut), mlp)?)?;
            x = sites.at(Site::Layer(n, Part::Out), x)?;
        }
        if let Some(cache) = cache {
            cache.len += time;
        }
        sites.at(Site::Norm, pass.norm(&x, &self.norm)?)
    }

    /// The scores of the next token for each hidden state: `[…, hidden]` to `[rows, vocabulary]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        hidden.reshape(((), self.config.hidden_size))?.matmul(&self.head.t()?)
    }
}

/// What every layer of one pass shares.
struct Pass<'a> {
    config: &'a Config,
    form: Form,
    cos: Tensor,
    sin: Tensor,
    mask: Option<Tensor>,
}

impl Pass<'_> {
    fn norm(&self, x: &Tensor, alpha: &Tensor) -> Result<Tensor> {
        let eps = self.config.rms_norm_eps as f32;
        match self.form {
            Form::Fused => ops::rms_norm(&x.contiguous()?, alpha, eps),
            Form::Plain => ops::rms_norm_slow(x, alpha, eps),
        }
    }

    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        match self.form {
            Form::Fused => rotary_emb::rope(&x.contiguous()?, &self.cos, &self.sin),
            Form::Plain => rotary_emb::rope_slow(x, &self.cos, &self.sin),
        }
    }

    fn softmax(&self, x: &Tensor) -> Result<Tensor> {
        match self.form {
            Form::Fused => ops::softmax_last_dim(x),
            Form::Plain => ops::softmax(x, D::Minus1),
        }
    }
}

#[derive(Clone, Debug)]
struct Layer {
    attn_norm: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    mlp_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

impl Layer {
    fn attention(
        &self,
        pass: &Pass<'_>,
        x: &Tensor,
        cache: Option<&mut Option<(Tensor, Tensor)>>,
        n: usize,
        sites: &mut dyn Sites,
    ) -> Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        let (heads, kv, size) = (pass.config.num_attention_heads, pass.config.kv_heads(), pass.config.head_dim());
        let split = |y: Tensor, heads: usize| y.reshape((batch, time, heads, size))?.transpose(1, 2)?.contiguous();
        let q = pass.rotate(&split(project(x, &self.q)?, heads)?)?;
        let mut k = pass.rotate(&split(project(x, &self.k)?, kv)?)?;
        let mut v = split(project(x, &self.v)?, kv)?;
        if let Some(slot) = cache {
            if let Some((k_before, v_before)) = slot.take() {
                k = Tensor::cat(&[&k_before, &k], 2)?;
                v = Tensor::cat(&[&v_before, &v], 2)?;
            }
            *slot = Some((k.clone(), v.clone()));
        }
        let (k, v) = (repeat(&k, heads / kv)?, repeat(&v, heads / kv)?);
        let q = (q * (1.0 / (size as f64).sqrt()))?;
        let mut scores = q.matmul(&k.t()?)?;
        if let Some(mask) = &pass.mask {
            scores = scores.broadcast_add(mask)?;
        }
        let gathered =
            pass.softmax(&scores)?.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((batch, time, width))?;
        let gathered = sites.at(Site::Layer(n, Part::AttnHeads), gathered)?;
        project(&gathered, &self.o)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        let gate = ops::silu(&project(x, &self.gate)?)?;
        project(&(gate * project(x, &self.up)?)?, &self.down)
    }
}

/// `x · wᵀ` over the last dimension, as one matrix product.
fn project(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (batch, time, width) = x.dims3()?;
    x.reshape((batch * time, width))?.matmul(&w.t()?)?.reshape((batch, time, ()))
}

/// Gives each query head its own view of the keys (or values) it shares.
fn repeat(x: &Tensor, times: usize) -> Result<Tensor> {
    if times == 1 {
        return x.contiguous();
    }
    let (batch, kv, time, size) = x.dims4()?;
    x.unsqueeze(2)?.broadcast_as((batch, kv, times, time, size))?.contiguous()?.reshape((batch, kv * times, time, size))
}

fn causal_mask(time: usize, start: usize) -> Result<Option<Tensor>> {
    if time == 1 {
        return Ok(None);
    }
    let width = start + time;
    let mask: Vec<f32> = (0..time)
        .flat_map(|i| {
            (0..width).map(move |j| match j <= start + i {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
        })
        .collect();
    Tensor::from_vec(mask, (time, width), &Device::Cpu).map(Some)
}

fn rotation(config: &Config) -> Result<(Tensor, Tensor)> {
    let half = config.head_dim() / 2;
    let frequencies: Vec<f64> = (0..half).map(|i| config.rope_theta.powf(-(i as f64) / half as f64)).collect();
    let angles: Vec<f64> =
        (0..config.max_position_embeddings).flat_map(|at| frequencies.iter().map(move |f| at as f64 * f)).collect();
    let shape = (config.max_position_embeddings, half);
    let angles = Tensor::from_vec(angles, shape, &Device::Cpu)?;
    Ok((angles.cos()?.to_dtype(DType::F32)?, angles.sin()?.to_dtype(DType::F32)?))
}
