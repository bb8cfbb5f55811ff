//! How a comparison is shown: figures per model, a table, CSV, and a page to look at or to print.

mod chart;
mod csv;
mod difference;
mod page;
mod statistics;

pub use csv::csv;
pub use page::page;
pub use statistics::{Agreement, Figures, agreements, figures};

use comity_sdk::compare::Comparison;

use crate::printer::{percent_of, table};

/// The figures for a terminal.
pub fn summary(comparison: &Comparison) -> String {
    let figures = figures(comparison);
    let expects = figures.iter().any(|row| row.judged > 0);
    let mut head = vec!["model", "answered", "cost", "per answer", "words", "median ms"];
    if expects {
        head.insert(2, "as expected");
    }
    let rows = figures.iter().map(|row| {
        let mut cells = vec![
            row.model.to_string(),
            format!("{} of {}", row.answered, row.calls),
            row.cost.to_string(),
            format!("{:.1} µcr", row.mean_cost_ucr),
            format!("{:.1} ± {:.1}", row.mean_words, row.sd_words),
            row.median_ms.to_string(),
        ];
        if expects {
            cells.insert(2, percent_of(row.as_expected, row.judged));
        }
        cells
    });
    table(&head, &rows.collect::<Vec<_>>())
}
