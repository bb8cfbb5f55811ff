//! One measured figure, printed for scripts and for people.

use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub metric: &'static str,
    /// `None`: its part does not exist yet, and the note says what brings it.
    pub value: Option<f64>,
    pub unit: &'static str,
    pub yardstick: Option<(String, f64)>,
    /// How many were measured.
    pub n: usize,
    pub note: String,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        let (_, yardstick) = self.yardstick.as_ref()?;
        Some(self.value? / yardstick)
    }

    fn json(&self) -> Value {
        json!({
            "metric": self.metric, "value": self.value.map(rounded), "unit": self.unit,
            "yardstick": self.yardstick.as_ref().map(|(name, _)| name),
            "yardstick_value": self.yardstick.as_ref().map(|(_, value)| rounded(*value)),
            "ratio": self.ratio().map(rounded), "n": self.n, "note": self.note,
        })
    }
}

#[expect(clippy::print_stdout, reason = "figures are the program's result")]
pub(crate) fn print(figures: &[Figure], json: bool) {
    if !json {
        println!(
            "{:<26} {:>12} {:<4} {:>12} {:>8} {:>8}  yardstick; note",
            "metric", "value", "unit", "yardstick", "ratio", "n"
        );
    }
    for figure in figures {
        if json {
            println!("{}", figure.json());
            continue;
        }
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let (name, yardstick) =
            figure.yardstick.clone().map_or((String::new(), None), |(name, value)| (name, Some(value)));
        println!(
            "{:<26} {:>12} {:<4} {:>12} {:>8} {:>8}  {name}; {}",
            figure.metric,
            number(figure.value),
            figure.unit,
            number(yardstick),
            number(figure.ratio()),
            figure.n,
            figure.note
        );
    }
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
