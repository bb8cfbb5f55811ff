//! Named places in the forward pass where a value can be read or replaced.
//!
//! The pass offers each value to a [`Sites`]; what comes back is what the pass goes on with. Names are stable and part
//! of the contract: `embed`, `layers.3.attn.heads`, `layers.3.attn.out`, `layers.3.mlp.out`, `layers.3.out`, `norm`.

use std::fmt;
use std::str::FromStr;

use candle_core::{Result, Tensor};

/// One named place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Token embeddings, `[batch, time, hidden]`.
    Embed,
    /// A place within a layer.
    Layer(usize, Part),
    /// After the last norm, before the head: `[batch, time, hidden]`.
    Norm,
}

/// A place within a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// What each attention head gathered, before the output projection: `[batch, time, heads × head size]`.
    AttnHeads,
    /// What attention adds to the residual stream.
    AttnOut,
    /// What the MLP adds to the residual stream.
    MlpOut,
    /// The residual stream after the layer.
    Out,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("embed"),
            Self::Norm => f.write_str("norm"),
            Self::Layer(layer, part) => {
                let part = match part {
                    Part::AttnHeads => "attn.heads",
                    Part::AttnOut => "attn.out",
                    Part::MlpOut => "mlp.out",
                    Part::Out => "out",
                };
                write!(f, "layers.{layer}.{part}")
            }
        }
    }
}

/// A name that is no site.
#[derive(Debug, thiserror::Error)]
#[error("no site is called {0:?}")]
pub struct UnknownSite(String);

impl FromStr for Site {
    type Err = UnknownSite;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownSite> {
        let unknown = || UnknownSite(name.chars().take(64).collect());
        match name {
            "embed" => return Ok(Self::Embed),
            "norm" => return Ok(Self::Norm),
            _ => {}
        }
        let (layer, part) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let part = match part {
            "attn.heads" => Part::AttnHeads,
            "attn.out" => Part::AttnOut,
            "mlp.out" => Part::MlpOut,
            "out" => Part::Out,
            _ => return Err(unknown()),
        };
        let layer = layer.parse().map_err(|_| unknown())?;
        Ok(Self::Layer(layer, part))
    }
}

/// Reads or replaces values as the forward pass makes them.
pub trait Sites {
    /// Is offered the value at `site`; the pass goes on with what this returns (same shape).
    fn at(&mut self, site: Site, value: Tensor) -> Result<Tensor>;
}

/// Looks at nothing.
#[derive(Debug, Default)]
pub struct NoSites;

impl Sites for NoSites {
    fn at(&mut self, _: Site, value: Tensor) -> Result<Tensor> {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_and_its_name_are_one_to_one() {
        for name in ["embed", "norm", "layers.0.attn.heads", "layers.12.attn.out", "layers.3.mlp.out", "layers.3.out"] {
            assert_eq!(name.parse::<Site>().unwrap().to_string(), name);
        }
        for name in ["", "layers", "layers.x.out", "layers.1.q", "norm.1"] {
            assert!(name.parse::<Site>().is_err(), "{name}");
        }
    }
}
