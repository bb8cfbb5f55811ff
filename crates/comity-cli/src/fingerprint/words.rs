//! What a fingerprint is of, and what a check came to, in words.

use std::fmt::Write as _;

use comity_sdk::fingerprint::{By, Change, FALSE_ALARM, Fingerprint, Likeness, Report, Verdict};
use serde_json::{Value, json};

use crate::printer::{plain, table};

/// For programs.
pub fn facts(fingerprint: &Fingerprint) -> Value {
    let by = by(fingerprint);
    let reference = fingerprint.reference(by).ok();
    json!({
        "model": fingerprint.model, "release": fingerprint.release, "manifest": fingerprint.manifest,
        "manifest_version": fingerprint.card.as_ref().map(|card| card.version),
        "taken": [fingerprint.from, fingerprint.until], "prompts": fingerprint.len(), "by": by,
        "charge_ucr": fingerprint.charge, "false_alarm": FALSE_ALARM,
        "rates": reference.as_ref().map(comity_sdk::fingerprint::Reference::rates),
        "found_from": reference.as_ref().and_then(comity_sdk::fingerprint::Reference::found_from),
    })
}

fn by(fingerprint: &Fingerprint) -> By {
    if fingerprint.lists_tokens() { By::Tokens } else { By::Words }
}

fn compared_by(by: By) -> &'static str {
    match by {
        By::Tokens => "tokens and their log-probabilities",
        By::Words => "words alone",
    }
}

/// What it is of, and what a check by it would find, for people.
pub fn shown(fingerprint: &Fingerprint) -> String {
    let by = by(fingerprint);
    let version =
        fingerprint.card.as_ref().map_or_else(|| "not in the file".to_owned(), |card| card.version.to_string());
    let found = fingerprint.reference(by).ok().and_then(|reference| reference.found_from());
    let mut text =
        format!("{}: {} prompts, three times each, by {}\n", fingerprint.model, fingerprint.len(), compared_by(by));
    let _ = writeln!(text, "taken {} to {}, for {}", fingerprint.from, fingerprint.until, fingerprint.charge);
    let _ = writeln!(text, "release {}, manifest version {version}", fingerprint.release);
    let _ = write!(text, "a check asks each prompt once; {}; {}", reach(found), alarms());
    text
}

/// What a check tells of.
fn reach(found_from: Option<f64>) -> String {
    found_from.map_or_else(
        || "the server differs so much from itself that no other model would be noticed".to_owned(),
        |part| format!("it tells of a model that answers {} in 100 otherwise", hundredths(part)),
    )
}

fn alarms() -> String {
    format!("of one that did not change it says otherwise at most once in {:.0} checks", 1.0 / FALSE_ALARM)
}

fn hundredths(part: f64) -> String {
    format!("{:.0}", part * 100.0)
}

/// A line for each thing that the owner changed in public.
pub fn changes(changes: &[Change]) -> String {
    let line =
        |change: &Change| format!("changed openly: {}: {} → {}", change.what, plain(&change.then), plain(&change.now));
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The verdict, what it rests on, and what else is otherwise.
pub fn said(report: &Report) -> String {
    let likeness = &report.likeness;
    let verdict = match likeness.verdict {
        Verdict::Same => "same",
        Verdict::Changed => "changed",
        Verdict::TooFew | Verdict::TooNoisy | Verdict::Doubtful => "cannot tell",
    };
    let mut text = format!(
        "{verdict}: {}, {} of {} prompts asked, by {}\n\n{}\n\n",
        report.model,
        report.asked,
        report.of,
        compared_by(report.by),
        levels(likeness)
    );
    if likeness.turned > 0 {
        let _ = writeln!(
            text,
            "{} of {} are refused and were not, or the other way round",
            likeness.turned, likeness.turned_of
        );
    }
    let _ = writeln!(
        text,
        "bets on the answers: {:.3}, on refusals: {:.3}; {:.0} is an alarm",
        likeness.evidence.0, likeness.evidence.1, likeness.alarm
    );
    let _ = writeln!(text, "{}; {}", reach(likeness.found_from), alarms());
    if report.openly.is_empty() {
        text += "the owner's manifest is that of then";
    } else {
        text += &changes(&report.openly);
    }
    text
}

fn levels(likeness: &Likeness) -> String {
    let row = |at: usize| {
        vec![
            format!("{:.3}", likeness.levels[at]),
            format!("{} of {}", likeness.beyond[at], likeness.compared),
            format!("{} in 100", hundredths(likeness.bounds[at])),
        ]
    };
    table(
        &["further than", "answers", "an honest server at most"],
        &(0..likeness.levels.len()).map(row).collect::<Vec<_>>(),
    )
}
