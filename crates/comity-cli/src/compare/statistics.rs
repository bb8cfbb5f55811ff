//! What the rows of a comparison say of each model.

use std::collections::BTreeMap;

use comity_sdk::compare::{Comparison, Row};
use comity_wire::{Amount, ModelId};
use serde::Serialize;

/// One model's figures, over all prompts, settings and repeats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub model: ModelId,
    /// Calls of the plan.
    pub calls: u64,
    pub answered: u64,
    /// Answers to prompts that expect something, and those that say it.
    pub judged: u64,
    pub as_expected: u64,
    /// A 95 % interval of the share as expected (Wilson's).
    pub expected_interval: (f64, f64),
    pub cost: Amount,
    pub mean_cost_ucr: f64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub mean_words: f64,
    pub sd_words: f64,
    pub median_ms: u64,
    pub slowest_ms: u64,
    /// Answers that the length limit cut.
    pub cut: u64,
}

/// How often two models gave the same answer, whatever the case and the spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agreement {
    pub one: ModelId,
    pub other: ModelId,
    pub same: u64,
    pub of: u64,
}

/// In the order in which the models were named.
pub fn figures(comparison: &Comparison) -> Vec<Figures> {
    let grid = comparison.grid();
    let calls = grid.len() / grid.models.len().max(1) as u64;
    let of = |model: &ModelId| {
        let rows: Vec<&Row> = comparison.rows().filter(|row| row.model == *model).collect();
        figures_of(model, calls, &rows)
    };
    grid.models.iter().map(of).collect()
}

fn figures_of(model: &ModelId, calls: u64, rows: &[&Row]) -> Figures {
    let answered: Vec<&&Row> = rows.iter().filter(|row| row.answer.is_some()).collect();
    let words: Vec<f64> = answered.iter().map(|row| words(row.answer.as_deref().unwrap_or_default()) as f64).collect();
    let costs: Vec<f64> = answered.iter().map(|row| row.charge_ucr.ucr() as f64).collect();
    let mut ms: Vec<u64> = answered.iter().map(|row| row.ms).collect();
    ms.sort_unstable();
    let judged = answered.iter().filter(|row| row.as_expected.is_some()).count() as u64;
    let as_expected = answered.iter().filter(|row| row.as_expected == Some(true)).count() as u64;
    Figures {
        model: model.clone(),
        calls,
        answered: answered.len() as u64,
        judged,
        as_expected,
        expected_interval: wilson(as_expected, judged),
        cost: rows.iter().fold(Amount::ZERO, |sum, row| sum.saturating_add(row.charge_ucr)),
        mean_cost_ucr: mean(&costs),
        input_tokens: rows.iter().map(|row| row.input_tokens).sum(),
        output_tokens: rows.iter().map(|row| row.output_tokens).sum(),
        mean_words: mean(&words),
        sd_words: deviation(&words),
        median_ms: ms.get(ms.len() / 2).copied().unwrap_or(0),
        slowest_ms: ms.last().copied().unwrap_or(0),
        cut: answered.iter().filter(|row| row.finish_reason.as_deref() == Some("length")).count() as u64,
    }
}

/// Every pair of models over the calls that both answered.
pub fn agreements(comparison: &Comparison) -> Vec<Agreement> {
    let mut cells: BTreeMap<(&str, &str, u32), BTreeMap<&ModelId, String>> = BTreeMap::new();
    for row in comparison.rows() {
        let Some(answer) = &row.answer else { continue };
        let cell = cells.entry((&row.prompt, &row.setting, row.repeat)).or_default();
        cell.insert(&row.model, plain(answer));
    }
    let models = &comparison.grid().models;
    let pairs = models.iter().enumerate().flat_map(|(at, one)| models[at + 1..].iter().map(move |other| (one, other)));
    let agreement = |(one, other): (&ModelId, &ModelId)| {
        let both = cells.values().filter_map(|cell| cell.get(one).zip(cell.get(other)));
        let (mut same, mut of) = (0, 0);
        for (a, b) in both {
            (same, of) = (same + u64::from(a == b), of + 1);
        }
        Agreement { one: one.clone(), other: other.clone(), same, of }
    };
    pairs.map(agreement).collect()
}

pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn plain(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Of a sample.
fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// Wilson's score interval at 95 %: honest for few answers, too.
fn wilson(hits: u64, of: u64) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (of as f64, hits as f64 / of as f64);
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_textbook() {
        assert!((mean(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) - 5.0).abs() < 1e-12);
        assert!((deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) - 2.138_089_935).abs() < 1e-8);
        assert_eq!((mean(&[]), deviation(&[1.0])), (0.0, 0.0));
        // 8 of 10: 0.490 to 0.943 (Newcombe 1998, method 3).
        let (low, high) = wilson(8, 10);
        assert!((low - 0.4902).abs() < 5e-4 && (high - 0.9433).abs() < 5e-4, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn answers_are_the_same_whatever_the_case_and_the_spaces() {
        assert_eq!(plain(" The  Capital\nis Paris "), plain("the capital is paris"));
        assert_ne!(plain("Paris"), plain("Paris."));
    }
}
