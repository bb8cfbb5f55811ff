//! A linear classifier: the second layer, for what is said in words that no rule lists.
//!
//! Hashed word and character n-grams of folded text, one logistic regression for each category, weights of eight bits.
//! A text is judged in windows of words that overlap by half, so that a long harmless text does not hide a short harmful
//! one; what counts is whole numbers, so the same text gives the same score on every machine and however it was cut.
//!
//! What it finds is a guess. How often it guesses right, and on what data that was measured, is in
//! `docs/reference/guard.md`; bounds of its score are [`Band`]s.

pub(crate) mod features;
mod weights;
mod windows;

use std::sync::Arc;

use comity_wire::Digest;
use serde::{Deserialize, Serialize};

use crate::category::Category;
pub(crate) use windows::Windows;

pub use weights::BadWeights;

/// Words in half a window; windows overlap by half.
pub(crate) const HALF_WORDS: u32 = 32;
/// Fewer words than this are not judged: there is nothing to weigh.
pub(crate) const WORDS_MIN: u32 = 4;

/// Trained weights. Cheap to clone, shared by all scans.
#[derive(Debug, Clone)]
pub struct Classifier {
    pub(crate) inner: Arc<Weights>,
}

/// How sure the classifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Worth a look: about one harmless text of a hundred of those it was tuned on comes as far.
    Medium,
    /// Hardly any harmless text that it was tuned on comes as far. Also the band of every rule: a rule matched or did not.
    High,
}

/// What all scans share: a row of weights for each bucket, and what each category makes of their sum.
#[derive(Debug, PartialEq)]
pub(crate) struct Weights {
    pub(crate) buckets_log2: u8,
    /// Digest of the data that it was trained on.
    pub(crate) data: Digest,
    pub(crate) heads: [Head; Category::COUNT],
    /// Padded to eight, so that a row is added in one step.
    pub(crate) rows: Vec<[i8; LANES]>,
}

/// What one category makes of a window's sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Head {
    pub(crate) bias: f32,
    pub(crate) scale: f32,
    /// Log-odds from which on a window is in the band.
    pub(crate) medium: f32,
    pub(crate) high: f32,
}

/// Places in a row; categories fill the first of them.
pub(crate) const LANES: usize = 8;
const _: () = assert!(Category::COUNT <= LANES, "a row has a place for each category");

/// What a window came to in each category, as log-odds.
pub(crate) type Odds = [f32; Category::COUNT];

impl Classifier {
    /// Reads trained weights.
    ///
    /// # Errors
    /// When the bytes are not weights of this form, or were changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadWeights> {
        Weights::read(bytes).map(|weights| Self { inner: Arc::new(weights) })
    }

    /// The weights that come with the binary.
    #[must_use]
    pub fn builtin() -> Self {
        Self::from_bytes(include_bytes!("../weights/linear.bin")).expect("built-in weights are read by a test")
    }

    /// The bytes that [`Classifier::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.inner.write()
    }

    /// Digest of the data that it was trained on.
    #[must_use]
    pub fn data(&self) -> Digest {
        self.inner.data
    }

    /// How likely a whole text is of a category, in its worst window; 0 where it is too short to say.
    #[must_use]
    pub fn score(&self, text: &str) -> Scores {
        let mut windows = Windows::new(self.clone());
        let mut folder = crate::fold::Folder::default();
        for c in text.chars() {
            folder.push(c, |c| windows.push(c));
        }
        windows.finish();
        windows.scores()
    }
}

impl Weights {
    pub(crate) fn odds(&self, sum: &[i32; LANES], features: u32) -> Odds {
        let norm = f64::from(features.max(1)).sqrt();
        std::array::from_fn(|at| {
            let head = &self.heads[at];
            #[allow(clippy::cast_possible_truncation, reason = "log-odds need no more")]
            let odds = (f64::from(sum[at]) * f64::from(head.scale) / norm + f64::from(head.bias)) as f32;
            odds
        })
    }

    pub(crate) fn band(&self, category: usize, odds: f32) -> Option<Band> {
        let head = &self.heads[category];
        if odds >= head.high {
            Some(Band::High)
        } else if odds >= head.medium {
            Some(Band::Medium)
        } else {
            None
        }
    }
}

/// Probabilities of a text's worst window, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scores([u16; Category::COUNT]);

impl Scores {
    pub(crate) fn of(odds: Option<&Odds>) -> Self {
        Self(odds.map_or([0; Category::COUNT], |odds| odds.map(thousandths)))
    }

    /// In thousandths.
    #[must_use]
    pub fn of_category(&self, category: Category) -> u16 {
        self.0[category.index()]
    }

    /// The greater of each, as of two texts.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability is in 0 to 1")]
fn thousandths(odds: f32) -> u16 {
    (1000.0 / (1.0 + exp(f64::from(-odds)))).round() as u16
}

/// e to the `x`, by operations that give the same bits on every machine; the standard library's need not.
pub(crate) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    // e^x = 2^k e^r with r within half of ln 2, where thirteen terms of the series are exact enough.
    let k = (x * std::f64::consts::LOG2_E).round();
    let r = x - k * std::f64::consts::LN_2;
    let series = (1..=13).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "k is within 1,011 of 0")]
    let power = f64::from_bits(((k as i64 + 1023) as u64) << 52);
    series * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_exponential_is_that_of_the_library_but_for_the_last_bits() {
        for at in -2_000..2_000 {
            let x = f64::from(at) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
        }
        assert_eq!((thousandths(0.0), thousandths(50.0), thousandths(-50.0)), (500, 1000, 0));
    }
}
