//! The rows for a spreadsheet (RFC 4180).

use comity_sdk::compare::{Comparison, Row};

const HEAD: &str = "item,prompt,setting,model,repeat,question,answer,finish_reason,as_expected,error,charge_ucr,input_tokens,\
    output_tokens,ms,receipt\r\n";

/// Every row, in the order of the plan.
pub fn csv(comparison: &Comparison) -> String {
    let prompts = &comparison.grid().prompts;
    let questions: std::collections::HashMap<&str, &str> =
        prompts.iter().map(|prompt| (prompt.id.as_str(), prompt.question())).collect();
    let mut text = HEAD.to_owned();
    for row in comparison.rows() {
        let question = questions.get(row.prompt.as_str()).copied().unwrap_or_default();
        text.push_str(&line(row, question));
    }
    text
}

fn line(row: &Row, question: &str) -> String {
    let optional = |value: Option<String>| value.unwrap_or_default();
    let cells = [
        row.item.to_string(),
        row.prompt.clone(),
        row.setting.clone(),
        row.model.to_string(),
        row.repeat.to_string(),
        question.to_owned(),
        optional(row.answer.clone()),
        optional(row.finish_reason.clone()),
        optional(row.as_expected.map(|yes| yes.to_string())),
        optional(row.error.as_ref().map(|error| error.code.clone())),
        row.charge_ucr.ucr().to_string(),
        row.input_tokens.to_string(),
        row.output_tokens.to_string(),
        row.ms.to_string(),
        optional(row.receipt.map(|receipt| receipt.to_string())),
    ];
    format!("{}\r\n", cells.map(|cell| quoted(&cell)).join(","))
}

/// A spreadsheet takes a cell that begins so for a formula, and a model may have written it: it is text here.
fn quoted(cell: &str) -> String {
    let is_number = cell.parse::<f64>().is_ok();
    let armed = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    let cell = if armed { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_never_a_formula() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("she said \"no\"\n"), "\"she said \"\"no\"\"\n\"");
        assert_eq!(quoted("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!((quoted("-4"), quoted("-4 it is")), ("-4".to_owned(), "'-4 it is".to_owned()));
    }
}
