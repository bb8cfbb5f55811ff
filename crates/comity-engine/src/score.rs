//! From a row of scores to log-probabilities, alternatives and a choice.

use crate::chance::Chance;
use crate::tokenizer::Tokenizer;

/// Most alternatives reported per token, as in OpenAI's API.
pub const ALTERNATIVES_MAX: u8 = 20;

/// A token, how likely the model found it, and what it found likelier or next.
///
/// Log-probabilities are natural and those of the model itself, before temperature and top-p.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    pub token: u32,
    /// A readable name of the token; a byte that is no character by itself is `<0xHH>`.
    pub piece: String,
    /// The bytes it stands for.
    pub bytes: Vec<u8>,
    pub logprob: f64,
    /// The likeliest tokens, best first, as many as were asked for; without alternatives of their own.
    pub top: Vec<Self>,
}

/// The log-probabilities of one position.
pub(crate) struct Row(Vec<f64>);

impl Row {
    pub(crate) fn new(scores: &[f32]) -> Self {
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let max = f64::from(max);
        let sum: f64 = scores.iter().map(|s| (f64::from(*s) - max).exp()).sum();
        let base = max + sum.ln();
        Self(scores.iter().map(|s| f64::from(*s) - base).collect())
    }

    /// The token with its log-probability and the `k` likeliest.
    pub(crate) fn scored(&self, token: u32, k: Option<u8>) -> Scored {
        let mut scored = self.bare(token);
        if let Some(k) = k {
            scored.top = self.ranked().take(usize::from(k)).map(|t| self.bare(t)).collect();
        }
        scored
    }

    fn bare(&self, token: u32) -> Scored {
        Scored {
            token,
            piece: Tokenizer.piece(token),
            bytes: Tokenizer.bytes(token),
            logprob: self.0[token as usize],
            top: Vec::new(),
        }
    }

    /// Tokens from the likeliest down; of equals the lower number first.
    fn ranked(&self) -> impl Iterator<Item = u32> {
        let mut order: Vec<u32> = (0..).take(self.0.len()).collect();
        order.sort_by(|a, b| self.0[*b as usize].total_cmp(&self.0[*a as usize]));
        order.into_iter()
    }

    /// Greedy at temperature 0; else a draw from the likeliest tokens that together reach `top_p`.
    pub(crate) fn choose(&self, temperature: f64, top_p: f64, chance: &mut Chance) -> u32 {
        let mut ranked = self.ranked();
        if temperature == 0.0 {
            return ranked.next().expect("the vocabulary is not empty");
        }
        let order: Vec<u32> = ranked.collect();
        let best = self.0[order[0] as usize];
        let heat = |t: &u32| ((self.0[*t as usize] - best) / temperature).exp();
        let weights: Vec<f64> = order.iter().map(heat).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0;
        let mut mass = 0.0;
        while kept == 0 || (kept < order.len() && mass < top_p * total) {
            mass += weights[kept];
            kept += 1;
        }
        let mut at = chance.unit() * mass;
        for (token, weight) in order[..kept].iter().zip(&weights) {
            if at < *weight {
                return *token;
            }
            at -= weight;
        }
        order[kept - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_ties_go_to_the_lower_token() {
        let row = Row::new(&[1.0, 3.0, 3.0, -2.0]);
        let sum: f64 = row.0.iter().map(|l| l.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        let mut chance = Chance::new(1, "t");
        assert_eq!(row.choose(0.0, 1.0, &mut chance), 1);
        let top: Vec<u32> = row.scored(3, Some(3)).top.iter().map(|s| s.token).collect();
        assert_eq!(top, [1, 2, 0]);
    }

    #[test]
    fn draws_follow_the_temperature_and_never_leave_the_nucleus() {
        let probabilities = [0.5f64, 0.3, 0.15, 0.05];
        let scores = probabilities.map(|p| p.ln() as f32);
        let row = Row::new(&scores);
        let mut chance = Chance::new(3, "t");
        let mut count = [0usize; 4];
        for _ in 0..20_000 {
            count[row.choose(1.0, 1.0, &mut chance) as usize] += 1;
        }
        for (n, p) in count.iter().zip(probabilities) {
            assert!((*n as f64 / 20_000.0 - p).abs() < 0.015, "{count:?}");
        }
        let mut count = [0usize; 4];
        for _ in 0..5_000 {
            count[row.choose(1.0, 0.6, &mut chance) as usize] += 1;
        }
        assert!(count[0] > count[1] && count[1] > 1_000);
        assert_eq!(count[2..], [0, 0]);
        // A tiny nucleus and a tiny temperature are greedy.
        assert_eq!(row.choose(1.0, 1e-9, &mut chance), 0);
        assert_eq!(row.choose(1e-6, 1.0, &mut chance), 0);
    }
}
