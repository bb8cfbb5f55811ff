//! One page that needs nothing beside it: no script, no picture, no other file. Read on a screen of any width, or on paper.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comity_sdk::compare::{Comparison, Prompt, Row};
use comity_wire::{Amount, ModelId};

use super::chart::{Bar, bars};
use super::difference::parts;
use super::statistics::{Agreement, Figures, agreements, figures, words};
use crate::printer::{percent_of, plain};

/// So many answers are shown side by side; all of them stand in the CSV.
const ANSWERS_SHOWN: usize = 2_000;

const STYLE: &str = include_str!("page.css");

/// The report of a comparison, as it stands now.
pub fn page(comparison: &Comparison) -> String {
    let figures = figures(comparison);
    let grid = comparison.grid();
    let title = format!("{} models, {} prompts", grid.models.len(), grid.prompts.len());
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    html.push_str(&about(comparison));
    html.push_str(&table(&figures));
    html.push_str(&charts(&figures));
    html.push_str(&agreement(&agreements(comparison)));
    html.push_str(&answers(comparison));
    html.push_str("</body></html>\n");
    html
}

fn about(comparison: &Comparison) -> String {
    let grid = comparison.grid();
    let settings = grid.settings.iter().map(|setting| {
        let fields = setting.fields.iter().map(|(name, value)| format!("{name} {value}"));
        let system = setting.system.iter().map(|system| format!("system {system:?}"));
        format!("{}: {}", setting.name, fields.chain(system).collect::<Vec<_>>().join(", "))
    });
    let settings = settings.collect::<Vec<_>>().join("; ");
    let repeats = if grid.repeats > 1 { format!(", each {} times", grid.repeats) } else { String::new() };
    format!(
        "<p class=\"soft\">{} of {} calls answered or paid for{repeats} · {} spent · begun {} · Comity {}</p>\
         <p class=\"soft\">Settings: {}</p>\n",
        comparison.done(),
        grid.len(),
        comparison.spent(),
        comparison.at(),
        env!("CARGO_PKG_VERSION"),
        escaped(&settings)
    )
}

fn table(figures: &[Figures]) -> String {
    let judged = figures.iter().any(|row| row.judged > 0);
    let mut html = "<h2>Figures</h2><div class=\"scroll\"><table><tr><th>model</th><th>answered</th>".to_owned();
    if judged {
        html.push_str("<th>as expected</th><th>95 %</th>");
    }
    html.push_str(
        "<th>cost</th><th>per answer</th><th>tokens in</th><th>tokens out</th><th>words</th><th>cut short</th>\
         <th>median ms</th><th>slowest</th></tr>\n",
    );
    for row in figures {
        let (low, high) = row.expected_interval;
        let _ =
            write!(html, "<tr><td>{}</td><td>{} of {}</td>", escaped(&row.model.to_string()), row.answered, row.calls);
        if judged {
            let interval =
                if row.judged == 0 { "–".to_owned() } else { format!("{:.0}–{:.0} %", low * 100.0, high * 100.0) };
            let _ = write!(html, "<td>{}</td><td>{interval}</td>", percent_of(row.as_expected, row.judged));
        }
        let _ = writeln!(
            html,
            "<td>{}</td><td>{:.1} µcr</td><td>{}</td><td>{}</td><td>{:.1} ± {:.1}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            row.cost,
            row.mean_cost_ucr,
            row.input_tokens,
            row.output_tokens,
            row.mean_words,
            row.sd_words,
            row.cut,
            row.median_ms,
            row.slowest_ms
        );
    }
    html.push_str(
        "</table></div><p class=\"soft\">Words: mean and standard deviation. µcr: millionths of a credit.</p>\n",
    );
    html
}

fn charts(figures: &[Figures]) -> String {
    let bar =
        |row: &Figures, value: f64, label: String| Bar { name: row.model.to_string(), value, interval: None, label };
    let mut html = "<div class=\"charts\">".to_owned();
    if figures.iter().any(|row| row.judged > 0) {
        let share = |row: &Figures| Bar {
            interval: Some(row.expected_interval).filter(|_| row.judged > 0),
            ..bar(row, row.as_expected as f64 / row.judged.max(1) as f64, percent_of(row.as_expected, row.judged))
        };
        html.push_str(&bars("Answers as expected", &figures.iter().map(share).collect::<Vec<_>>(), Some(1.0)));
    }
    let cost = figures.iter().map(|row| bar(row, row.mean_cost_ucr, format!("{:.1} µcr", row.mean_cost_ucr)));
    html.push_str(&bars("Cost of an answer", &cost.collect::<Vec<_>>(), None));
    let length = figures.iter().map(|row| bar(row, row.mean_words, format!("{:.1}", row.mean_words)));
    html.push_str(&bars("Words of an answer", &length.collect::<Vec<_>>(), None));
    let time = figures.iter().map(|row| bar(row, row.median_ms as f64, format!("{} ms", row.median_ms)));
    html.push_str(&bars("Time to the whole answer (median)", &time.collect::<Vec<_>>(), None));
    html.push_str("</div>\n");
    html
}

fn agreement(agreements: &[Agreement]) -> String {
    if agreements.is_empty() {
        return String::new();
    }
    let mut html =
        "<h2>The same answer</h2><p class=\"soft\">How often two models said the same, word for word, whatever \
        the case.</p><div class=\"scroll\"><table><tr><th>models</th><th>the same</th><th>of</th><th>share</th></tr>"
            .to_owned();
    for row in agreements {
        let _ = writeln!(
            html,
            "<tr><td>{} · {}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&row.one.to_string()),
            escaped(&row.other.to_string()),
            row.same,
            row.of,
            percent_of(row.same, row.of)
        );
    }
    html.push_str("</table></div>\n");
    html
}

fn answers(comparison: &Comparison) -> String {
    let grid = comparison.grid();
    let mut cells: BTreeMap<(&str, &str, u32), BTreeMap<&ModelId, &Row>> = BTreeMap::new();
    for row in comparison.rows() {
        cells.entry((&row.prompt, &row.setting, row.repeat)).or_default().insert(&row.model, row);
    }
    let mut html =
        "<h2>Side by side</h2><p class=\"soft\">Marked: what the first model's answer does not have there.</p>\n"
            .to_owned();
    let (mut shown, mut left) = (0, 0);
    for prompt in &grid.prompts {
        for setting in &grid.settings {
            for repeat in 0..grid.repeats {
                let Some(cell) = cells.get(&(prompt.id.as_str(), setting.name.as_str(), repeat)) else { continue };
                if shown + cell.len() > ANSWERS_SHOWN {
                    left += cell.len();
                    continue;
                }
                shown += cell.len();
                let name = match (grid.settings.len() > 1, grid.repeats > 1) {
                    (true, true) => format!("{} · {} · {}", prompt.id, setting.name, repeat + 1),
                    (true, false) => format!("{} · {}", prompt.id, setting.name),
                    (false, true) => format!("{} · {}", prompt.id, repeat + 1),
                    (false, false) => prompt.id.clone(),
                };
                html.push_str(&article(&name, prompt, &grid.models, cell));
            }
        }
    }
    if left > 0 {
        let _ = write!(html, "<p>{left} more answers stand in results.csv.</p>");
    }
    html
}

fn article(name: &str, prompt: &Prompt, models: &[ModelId], cell: &BTreeMap<&ModelId, &Row>) -> String {
    let expected = prompt.expected.as_ref().map(|text| format!(" · expected: {text}")).unwrap_or_default();
    let mut html = format!(
        "<article><div class=\"question\"><b>{}{}</b>{}</div><div class=\"answers\">",
        escaped(name),
        escaped(&expected),
        escaped(prompt.question())
    );
    let reference = models.iter().find_map(|model| Some((model, cell.get(model)?.answer.as_deref()?)));
    for model in models {
        let _ = write!(html, "<div class=\"answer\"><h3>{}</h3>", escaped(&model.to_string()));
        match cell.get(model) {
            Some(row) => {
                html.push_str(&answer(row, reference.filter(|(first, _)| *first != model).map(|(_, text)| text)))
            }
            None => html.push_str("<div class=\"text none\">not asked</div>"),
        }
        html.push_str("</div>");
    }
    html.push_str("</div></article>\n");
    html
}

fn answer(row: &Row, reference: Option<&str>) -> String {
    let text = match (&row.answer, &row.error) {
        (Some(text), _) if text.trim().is_empty() => "<div class=\"text none\">an empty answer</div>".to_owned(),
        (Some(text), _) => {
            format!("<div class=\"text\">{}</div>", reference.map_or_else(|| escaped(text), |old| marked(old, text)))
        }
        (None, Some(error)) => {
            let hint = error.hint.as_ref().map(|hint| format!("<br>{}", escaped(hint))).unwrap_or_default();
            format!("<div class=\"text bad\">{}: {}{hint}</div>", escaped(&error.code), escaped(&error.message))
        }
        (None, None) => "<div class=\"text none\">no answer</div>".to_owned(),
    };
    let mut foot = Vec::new();
    if let Some(answer) = &row.answer {
        foot.push(match words(answer) {
            1 => "1 word".to_owned(),
            count => format!("{count} words"),
        });
    }
    match row.as_expected {
        Some(true) => foot.push("as expected".to_owned()),
        Some(false) => foot.push("<span class=\"bad\">not as expected</span>".to_owned()),
        None => {}
    }
    if row.finish_reason.as_deref() == Some("length") {
        foot.push("<span class=\"bad\">cut at the limit</span>".to_owned());
    }
    if row.answer.is_some() || row.charge_ucr > Amount::ZERO {
        foot.push(if row.charge_ucr == Amount::ZERO { "free".to_owned() } else { row.charge_ucr.to_string() });
        foot.push(format!("{} ms", row.ms));
    }
    if let Some(receipt) = row.receipt {
        let receipt = receipt.to_string();
        foot.push(format!(
            "receipt <span title=\"{receipt}\">{}…</span>",
            receipt.chars().take(10).collect::<String>()
        ));
    }
    format!("{text}<div class=\"foot\">{}</div>", foot.join(" · "))
}

fn marked(reference: &str, text: &str) -> String {
    let show = |part: super::difference::Part<'_>| {
        let text = escaped(part.text);
        if part.is_new && !text.trim().is_empty() { format!("<mark>{text}</mark>") } else { text }
    };
    parts(reference, text).into_iter().map(show).collect()
}

/// What somebody else wrote, as a page may show it.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\r' => {}
            '\t' => html.push('\t'),
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push_str(&plain(c.encode_utf8(&mut [0; 4]))),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_wrote_stays_text() {
        let hostile = "<script>alert('x')</script>\u{202e}&amp;\"";
        let shown = escaped(hostile);
        assert!(!shown.contains('<') && !shown.contains('\u{202e}'), "{shown}");
        assert_eq!(escaped("a < b && c"), "a &lt; b &amp;&amp; c");
        assert_eq!(escaped("if x:\r\n\treturn\u{1b}"), "if x:\n\treturn\u{fffd}");
        assert_eq!(marked("one two", "one <b>"), "one <mark>&lt;b&gt;</mark>");
    }
}
