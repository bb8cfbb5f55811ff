//! Bars, as SVG that needs nothing beside it.

use std::fmt::Write as _;

use super::page::escaped;

/// One bar: what it is of, its length, and what is written beside it.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    /// Whiskers, in the bar's own unit.
    pub(super) interval: Option<(f64, f64)>,
    pub(super) label: String,
}

const ROW: f64 = 26.0;
const WIDTH: f64 = 640.0;
/// Where bars begin and how long the longest may be.
const LEFT: f64 = 190.0;
const LONGEST: f64 = 330.0;

/// A chart with one row for each bar. `most`: the value of a bar of full length; `None`: the largest.
pub(super) fn bars(title: &str, bars: &[Bar], most: Option<f64>) -> String {
    let largest = bars.iter().map(|bar| bar.interval.map_or(bar.value, |(_, high)| high.max(bar.value)));
    let most = most.unwrap_or_else(|| largest.fold(0.0, f64::max)).max(f64::MIN_POSITIVE);
    let height = ROW * bars.len() as f64 + 4.0;
    let mut svg = format!(
        "<figure class=\"chart\"><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escaped(title),
        escaped(title)
    );
    for (at, bar) in bars.iter().enumerate() {
        let top = ROW * at as f64 + 4.0;
        let length = |value: f64| (value / most).clamp(0.0, 1.0) * LONGEST;
        let (middle, text) = (top + 9.0, top + 14.0);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text><rect class=\"m{}\" x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"18\"/>",
            LEFT - 8.0,
            escaped(&shortened(&bar.name)),
            at % 8,
            length(bar.value).max(1.0),
        );
        let mut end = LEFT + length(bar.value);
        if let Some((low, high)) = bar.interval {
            let (low, high) = (LEFT + length(low), LEFT + length(high));
            let _ = write!(
                svg,
                "<path class=\"whisker\" d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {top}v18M{high:.1} {top}v18\"/>"
            );
            end = end.max(high);
        }
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{text}\">{}</text>", end + 8.0, escaped(&bar.label));
    }
    svg.push_str("</svg></figure>");
    svg
}

/// The end of a model's id tells more than its beginning.
fn shortened(name: &str) -> String {
    const MOST: usize = 26;
    let count = name.chars().count();
    if count <= MOST {
        return name.to_owned();
    }
    let end: String = name.chars().skip(count - MOST + 1).collect();
    format!("…{end}")
}
