//! Applications and grants as an operator reads them.

use std::fmt::Write as _;

use comity_wire::Timestamp;
use comity_wire::api::access as api;
use comity_wire::time::DAY_S;
use serde_json::Value;

use super::GrantShown;
use crate::failure::Failure;

/// `a=b&c=d` of an object of plain values.
pub(super) fn query(fields: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = fields.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let pair = |(name, value): (&String, &Value)| format!("{name}={}", comity_sdk::discover::percent(&text(value)));
    fields.map(pair).collect::<Vec<_>>().join("&")
}

pub(super) fn list(page: &api::ListReply, json: bool, now: Timestamp) -> Result<String, Failure> {
    if json {
        return Ok(serde_json::to_string_pretty(page)?);
    }
    if page.applications.is_empty() {
        return Ok("no applications".to_owned());
    }
    let mut text = String::new();
    for one in &page.applications {
        let models = one.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let waits = one.due.map_or_else(|| "-".to_owned(), |due| waits_for(due, now));
        let _ = writeln!(text, "{}  {:<14}  {waits:<28}  {}  {models}", one.id, one.state, one.subject);
    }
    if let Some(next) = &page.next {
        let _ = writeln!(text, "there are more: --after {next}");
    }
    Ok(text.trim_end().to_owned())
}

/// Whose move it is, and how long they have.
fn waits_for(due: api::Due, now: Timestamp) -> String {
    let party = match due.party {
        api::Party::Applicant => "the applicant",
        api::Party::Signatory => "the signatory",
        api::Party::Owner => "you",
        api::Party::AppealReviewer => "an appeal reviewer",
        api::Party::Caller => "the caller",
        api::Party::Nobody => "nobody",
    };
    if due.at <= now { format!("{party}, now") } else { format!("{party}, {} left", span(due.at.since(now))) }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..3_600 => format!("{} min", seconds.div_ceil(60)),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / DAY_S),
    }
}

pub(super) fn application(shown: &api::Application, json: bool, now: Timestamp) -> Result<String, Failure> {
    if json {
        return Ok(serde_json::to_string_pretty(shown)?);
    }
    let mut text = format!("{}  {}\n", shown.id, shown.state);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {}", comity_cli::plain(value).replace('\n', "\n               "));
    };
    line("project", &shown.subject);
    line("models", &shown.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    if let Some(due) = shown.due {
        line("waits for", &waits_for(due, now));
    }
    if let Some(granted) = &shown.granted {
        line("granted", &format!("{} until {}", granted.tier, granted.not_after));
    }
    if let Some(notice) = &shown.revoked_from {
        line("ends", &format!("{} ({})", notice.at, notice.reason));
    }
    for (what, value) in &shown.shown {
        line(what, value);
    }
    for (field, answer) in &shown.answers {
        line(&comity_cli::plain(field), answer);
    }
    line("you can", &shown.can.join(", "));
    for event in &shown.events {
        let written: Value = event.text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let author = written["author"].as_str().unwrap_or_default();
        let act = &written["act"];
        let words = match (event.kind.as_str(), act["name"].as_str(), act["digest"].as_str(), act["bytes"].as_u64()) {
            // As `requests attachment` wants it.
            ("attach", Some(name), Some(digest), Some(bytes)) => format!("{digest}  {bytes} bytes  {name}"),
            _ => ["reason", "text"].iter().find_map(|name| act[*name].as_str()).unwrap_or_default().to_owned(),
        };
        let words = comity_cli::plain(&words).replace('\n', "\n               ");
        let _ =
            writeln!(text, "  {:>3}  {}  {:<16} {} ({})  {words}", event.n, event.at, event.kind, author, event.role);
    }
    let _ = write!(text, "  link {}", shown.head);
    Ok(text)
}

pub(super) fn grants(held: &[GrantShown], json: bool) -> Result<String, Failure> {
    if json {
        return Ok(serde_json::to_string_pretty(held)?);
    }
    if held.is_empty() {
        return Ok("nobody has a grant".to_owned());
    }
    let mut text = String::new();
    for grant in held {
        let models = grant.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let end = grant.withdrawn.map_or_else(|| grant.not_after.to_string(), |at| format!("{at} (taken back)"));
        let GrantShown { grant: id, subject, tier, not_before, reason, .. } = grant;
        let _ = writeln!(text, "{id}  {tier}  {subject}  {not_before} to {end}  {models}  {reason}");
    }
    Ok(text.trim_end().to_owned())
}
