//! A model that is no language model: a logistic scorecard, as agencies use for risk. Named quantities in, a probability
//! and its band out. It is one JSON file, and one owner can read all of it.

pub mod flood;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Risk = 1 / (1 + e^−z), z = `bias` + Σ `weight` · (x − `mean`) / `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scorecard {
    /// In this order they are summed.
    pub inputs: Vec<Input>,
    pub bias: f64,
    /// Ascending by `from`; the first is from 0.
    pub bands: Vec<Band>,
    /// Digits after the point that are told.
    pub decimals: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    pub mean: f64,
    /// Above zero.
    pub scale: f64,
    pub weight: f64,
}

/// What a risk from here on is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    pub from: f64,
    pub name: String,
}

/// What was computed for one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Score<'a> {
    /// 0 to 1.
    pub risk: f64,
    pub band: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum ScorecardError {
    #[error("no scorecard")]
    Json(#[from] serde_json::Error),
    #[error("scorecard: {0}")]
    Wrong(&'static str),
    /// An item lacks it, or has something else than a finite number there.
    #[error("{0}: a number is expected")]
    Input(String),
}

impl Scorecard {
    /// Inputs of a scorecard; more could not be read by anybody either.
    const INPUTS_MAX: usize = 256;

    /// # Errors
    /// [`ScorecardError`] where it is none, or could not be computed with.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ScorecardError> {
        let card: Self = serde_json::from_slice(bytes)?;
        let wrong = |what| Err(ScorecardError::Wrong(what));
        if card.inputs.is_empty() || card.inputs.len() > Self::INPUTS_MAX {
            return wrong("1 to 256 inputs are expected");
        }
        if !card.bias.is_finite() || card.inputs.iter().any(|input| !input.is_sound()) {
            return wrong("figures are finite, and each scale is above zero");
        }
        let names: std::collections::BTreeSet<_> = card.inputs.iter().map(|input| &input.name).collect();
        if names.len() < card.inputs.len() {
            return wrong("an input is named twice");
        }
        if card.bands.first().is_none_or(|band| band.from != 0.0) || !card.bands.is_sorted_by(|a, b| a.from < b.from) {
            return wrong("bands ascend from 0");
        }
        Ok(card)
    }

    /// What a token pins of it: SHA-256 of the file.
    pub fn digest(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    /// Scores one item; `of` gives the value of an input.
    ///
    /// # Errors
    /// [`ScorecardError::Input`] naming the first that is missing.
    pub fn score(&self, of: impl Fn(&str) -> Option<f64>) -> Result<Score<'_>, ScorecardError> {
        let mut z = self.bias;
        for input in &self.inputs {
            let value = of(&input.name).filter(|value| value.is_finite());
            let value = value.ok_or_else(|| ScorecardError::Input(input.name.clone()))?;
            z += input.weight * (value - input.mean) / input.scale;
        }
        let unit = 10_f64.powi(i32::from(self.decimals));
        let risk = (logistic(z) * unit).round() / unit;
        let band = self.bands.iter().rfind(|band| risk >= band.from).expect("the first band is from 0");
        Ok(Score { risk, band: &band.name })
    }
}

impl Input {
    fn is_sound(&self) -> bool {
        let finite = [self.mean, self.scale, self.weight].iter().all(|figure| figure.is_finite());
        finite && self.scale > 0.0 && !self.name.is_empty()
    }
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(text: &str) -> Result<Scorecard, ScorecardError> {
        Scorecard::from_bytes(text.as_bytes())
    }

    const GOOD: &str = r#"{"inputs": [{"name": "a", "mean": 1, "scale": 2, "weight": 3},
        {"name": "b", "mean": 0, "scale": 1, "weight": -1}], "bias": -0.5,
        "bands": [{"from": 0, "name": "low"}, {"from": 0.5, "name": "high"}], "decimals": 3}"#;

    #[test]
    fn a_risk_is_the_logistic_of_the_weighted_sum() {
        let card = card(GOOD).unwrap();
        let score = |a: f64, b: f64| card.score(|name| Some(if name == "a" { a } else { b })).unwrap();
        // z = −0.5 + 3·(3−1)/2 − 1 = 1.5; 1/(1+e^−1.5) = 0.81757…
        assert_eq!(score(3.0, 1.0), Score { risk: 0.818, band: "high" });
        assert_eq!(score(1.0, -0.5), Score { risk: 0.5, band: "high" });
        assert_eq!(score(1.0, -0.49), Score { risk: 0.498, band: "low" });
        assert_eq!(score(1e300, 0.0).risk, 1.0);
        let missing = card.score(|name| (name == "a").then_some(1.0)).unwrap_err();
        assert_eq!(missing.to_string(), "b: a number is expected");
        assert!(card.score(|_| Some(f64::NAN)).is_err());
    }

    #[test]
    fn a_file_that_could_not_be_computed_with_is_no_scorecard() {
        for (from, to) in [
            (r#""scale": 2"#, r#""scale": 0"#),
            (r#""scale": 2"#, r#""scale": -2"#),
            (r#""name": "b""#, r#""name": "a""#),
            (r#""from": 0, "#, r#""from": 0.1, "#),
            (r#""from": 0.5"#, r#""from": 0"#),
            (r#""decimals": 3"#, r#""decimals": 3, "more": 1"#),
            (r#""bias": -0.5"#, r#""bias": 1e999"#),
        ] {
            assert!(card(&GOOD.replacen(from, to, 1)).is_err(), "{to}");
        }
        assert!(card(r#"{"inputs": [], "bias": 0, "bands": [{"from": 0, "name": "low"}], "decimals": 3}"#).is_err());
    }
}
