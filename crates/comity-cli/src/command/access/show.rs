//! Forms and applications as a researcher reads them.

use std::fmt::Write as _;

use comity_wire::Timestamp;
use comity_wire::api::access::{Application, Due, FormReply, Party};
use comity_wire::api::node::Approval;
use comity_wire::time::DAY_S;
use serde_json::Value;

use crate::printer::plain;

pub(super) fn form(form: &FormReply) -> String {
    let mut text = format!("{}\n", form.title);
    for field in &form.fields {
        let needed = if field.required { "" } else { ", may be left out" };
        let choices = if field.choices.is_empty() { String::new() } else { format!(": {}", field.choices.join(" | ")) };
        let _ = writeln!(text, "  {:<20} {}\n  {:<20} {}{choices}{needed}", field.id, field.label, "", field.kind);
    }
    let _ = writeln!(text, "the owner answers within {}", span(form.answer_s));
    let silent = match form.when_silent.as_str() {
        "escalate" => "else somebody else there is asked",
        "lapse" => "else it ends unanswered",
        "approve" => "else it is granted",
        _ => "else the owner is reminded, until it does",
    };
    let _ = writeln!(text, "  {silent}");
    let _ = writeln!(
        text,
        "you answer questions within {}; a refusal can be appealed for {}",
        span(form.applicant_s),
        span(form.appeal_s)
    );
    if form.signatory {
        text.push_str("your institution has to sign\n");
    }
    if !form.shown.is_empty() {
        let _ = writeln!(text, "before it is granted you show: {}", form.shown.join(", "));
    }
    plain(text.trim_end())
}

pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{} minutes", seconds.div_ceil(60)),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / DAY_S),
    }
}

fn waits_for(due: Due, now: Timestamp) -> String {
    let party = match due.party {
        Party::Applicant => "you",
        Party::Signatory => "your institution's signatory",
        Party::Owner => "the owner",
        Party::AppealReviewer => "somebody at the owner who took no part",
        Party::Caller => "the caller",
        Party::Nobody => "nobody",
    };
    if due.at <= now {
        format!("{party}; the time is over")
    } else {
        format!("{party}, {} left (until {})", span(due.at.since(now)), due.at)
    }
}

pub(super) fn application(seen: &Application, now: Timestamp) -> String {
    let models = seen.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("{}  {}  {models}\n", seen.id, seen.state);
    if let Some(due) = seen.due.filter(|due| due.party != Party::Nobody) {
        let _ = writeln!(text, "  waits for  {}", waits_for(due, now));
    }
    if let Some(granted) = &seen.granted {
        let _ = writeln!(text, "  granted    {} until {}", granted.tier, granted.not_after);
    }
    if let Some(notice) = &seen.revoked_from {
        let _ = writeln!(text, "  ends       {}: {}", notice.at, notice.reason);
    }
    let _ = writeln!(text, "  you can    {}", seen.can.join(", "));
    for event in &seen.events {
        let written: Option<Value> = event.text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let Some(written) = written else { continue };
        let author = if event.role == "applicant" { "you" } else { written["author"].as_str().unwrap_or_default() };
        let words = ["reason", "text"].iter().find_map(|name| written["act"][*name].as_str()).unwrap_or_default();
        let words = plain(words).replace('\n', "\n             ");
        let _ = writeln!(text, "  {}  {:<12} {author}  {words}", event.at, event.kind);
    }
    text.trim_end().to_owned()
}

/// How far approved plans were executed.
pub(super) fn approvals<'a>(approvals: impl Iterator<Item = &'a Approval>, now: Timestamp) -> String {
    let mut text = String::new();
    for approval in approvals {
        let title = approval.title.as_deref().unwrap_or("(its node does not have the plan)");
        let _ = writeln!(
            text,
            "  plan '{title}': {} of {} executions left, until {}",
            approval.left, approval.executions, approval.not_after
        );
        for run in &approval.runs {
            let end = if run.ends_at <= now { "over since" } else { "until" };
            let used: Vec<String> = run
                .ops
                .iter()
                .map(|op| format!("{} {} calls, {} + {} tokens", op.op, op.calls, op.input_tokens, op.output_tokens))
                .collect();
            let _ = writeln!(text, "    {:<16} {end} {}  {}", run.run, run.ends_at, used.join("; "));
        }
    }
    plain(text.trim_end())
}
