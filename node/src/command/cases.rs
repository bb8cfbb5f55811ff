//! `comity cases`: what was held against projects, their answers, decisions and appeals, through the running node's admin socket.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comity_access::case::{Act, CaseId, Measure, Quarter, Role};
use comity_cli::plain;
use comity_wire::{Amount, Digest, ModelId, TokenId};
use serde_json::Value;

use crate::cases::pass::{PassAsk, Passed};
use crate::cases::refund::RefundAsk;
use crate::cases::{Ask, OpenAsk};
use crate::failure::Failure;
use crate::service::admin;
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum CasesCommand {
    /// The newest first, those that are not decided unless --ended is said
    List {
        #[command(flatten)]
        at: At,
        /// Of one project, by its pseudonym
        #[arg(long)]
        project: Option<String>,
        /// Also those that have ended
        #[arg(long)]
        ended: bool,
    },
    /// One case: its notice, its log, and what was seen where that is kept
    Show {
        #[command(flatten)]
        at: At,
        case: CaseId,
    },
    /// Counts by category, how cases ended and how long they took. Nobody is named
    Statistics {
        #[command(flatten)]
        at: At,
        /// What can be published of a quarter that is over, such as 2026-q3: counts behind which five projects stand
        #[arg(long)]
        quarter: Option<Quarter>,
    },
    /// Publish the counts of a quarter that is over in your organisation's feed, once, signed
    Publish {
        #[command(flatten)]
        at: At,
        /// The one before this, where it is left out
        #[arg(long)]
        quarter: Option<Quarter>,
    },
    /// Open one by your own word
    Open {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        /// By its pseudonym
        #[arg(long)]
        project: String,
        #[arg(long)]
        model: ModelId,
        /// What it is about: a category of the filter, or a word of your own
        #[arg(long)]
        category: String,
        #[arg(long)]
        reason: String,
    },
    /// Write down what the project answered
    Answer {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        #[arg(long)]
        text: String,
    },
    /// Write a note into it
    Remark {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        #[arg(long)]
        text: String,
    },
    /// Decide it: once the project has answered, or its time is over; --clear at any time
    Decide {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        #[command(flatten)]
        decision: Decision,
        #[arg(long)]
        reason: String,
    },
    /// Write down the project's appeal; or, as somebody who took no part, decide it
    Appeal {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        /// The appeal is right
        #[arg(long, conflicts_with = "confirm")]
        overturn: bool,
        /// The appeal is not right
        #[arg(long)]
        confirm: bool,
        #[arg(long)]
        reason: String,
    },
    /// After a case that did not stand: what is owed for a receipt
    Owe {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        #[arg(long)]
        receipt: Digest,
        /// Micro-credits
        #[arg(long, value_name = "UCR")]
        amount: u32,
        #[arg(long)]
        reason: String,
    },
    /// After a case that did not stand: what the project was charged for calls that were flagged so, by token
    Charges {
        #[command(flatten)]
        at: At,
        case: CaseId,
    },
    /// After a case that did not stand: give credits back, by a credit note to the clearing house
    Refund {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        /// Which had paid, where flagged calls were charged under several, or under none
        #[arg(long)]
        token: Option<TokenId>,
        /// Micro-credits, where it is not what the flagged calls had cost
        #[arg(long, value_name = "UCR")]
        amount: Option<u32>,
        #[arg(long)]
        reason: String,
        /// Besides what was ordered of this token in this case before
        #[arg(long)]
        again: bool,
    },
    /// After a case that did not stand: let texts of its category pass for its project, where the policy would hold them again
    Pass {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        /// For so many days, at most 366
        #[arg(long, required_unless_present = "end", conflicts_with = "end")]
        days: Option<u16>,
        /// Hold them again
        #[arg(long)]
        end: bool,
        #[arg(long)]
        reason: String,
    },
    /// What passes now that the policy would hold, by project
    Passes {
        #[command(flatten)]
        at: At,
    },
    /// What was owed was given back, in another way
    Pay {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
        case: CaseId,
        /// Where that can be seen
        #[arg(long)]
        reference: String,
    },
}

#[derive(Debug, Args)]
pub struct At {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct By {
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Decision {
    /// Nothing was wrong: the project is let in again
    #[arg(long)]
    clear: bool,
    /// Something was: `note` keeps it on record, `stop` stops the project here
    #[arg(long, value_name = "note|stop", value_parser = measure)]
    uphold: Option<Measure>,
}

fn measure(text: &str) -> Result<Measure, String> {
    let found = Measure::ALL.iter().find(|measure| measure.as_str() == text);
    found.copied().ok_or_else(|| "note or stop".to_owned())
}

impl By {
    fn name(self) -> String {
        self.author.unwrap_or_else(super::login)
    }
}

/// # Errors
/// [`Failure`] where the node is not running, or refuses.
pub async fn run(command: CasesCommand) -> Result<String, Failure> {
    use CasesCommand::{
        Answer, Appeal, Charges, Decide, List, Open, Owe, Pass, Passes, Pay, Publish, Refund, Remark, Show, Statistics,
    };
    match command {
        List { at, project, ended } => {
            let mut path = format!("/admin/cases?undecided={}", !ended);
            if let Some(project) = project {
                path.push_str(&format!("&project={project}"));
            }
            let list: Value = admin::get(&at.home, &path).await?;
            if at.json {
                return Ok(serde_json::to_string_pretty(&list)?);
            }
            let lines: Vec<String> = list.as_array().into_iter().flatten().map(line).collect();
            Ok(if lines.is_empty() { "no case".into() } else { lines.join("\n") })
        }
        Show { at, case } => {
            let shown: Value = admin::get(&at.home, &format!("/admin/cases/{case}")).await?;
            Ok(if at.json { serde_json::to_string_pretty(&shown)? } else { whole(&shown) })
        }
        Statistics { at, quarter } => {
            let of = quarter.map_or_else(String::new, |quarter| format!("/{quarter}"));
            let statistics: Value = admin::get(&at.home, &format!("/admin/cases/statistics{of}")).await?;
            Ok(serde_json::to_string_pretty(&statistics)?)
        }
        Publish { at, quarter } => {
            let quarter = quarter.unwrap_or_else(|| Quarter::of(shell::now()).before());
            let path = format!("/admin/cases/statistics/{quarter}");
            let said: Value = admin::post(&at.home, &path, &Value::Null).await?;
            Ok(serde_json::to_string_pretty(&said)?)
        }
        Open { at, by, project, model, category, reason } => {
            let ask = OpenAsk { project, model, category, reason, author: by.name() };
            said(&at, admin::post(&at.home, "/admin/cases", &ask).await?)
        }
        Answer { at, by, case, text } => {
            act(&at, case, Act::Answer { text, brought_by: None }, Role::Project, by).await
        }
        Remark { at, by, case, text } => act(&at, case, Act::Remark { text, salt: None }, Role::Handler, by).await,
        Decide { at, by, case, decision, reason } => {
            let decided = match decision.uphold {
                Some(measure) => Act::Uphold { measure, reason },
                None => Act::Clear { reason },
            };
            act(&at, case, decided, Role::Handler, by).await
        }
        Appeal { at, by, case, overturn, confirm, reason } => {
            let (appeal, role) = match (overturn, confirm) {
                (true, _) => (Act::Overturn { reason }, Role::AppealReviewer),
                (_, true) => (Act::Confirm { reason }, Role::AppealReviewer),
                _ => (Act::Appeal { reason, brought_by: None }, Role::Project),
            };
            act(&at, case, appeal, role, by).await
        }
        Owe { at, by, case, receipt, amount, reason } => {
            let owe = Act::Owe { receipt, amount: Amount::from_ucr(amount), reason };
            act(&at, case, owe, Role::Handler, by).await
        }
        Charges { at, case } => {
            let charges: Value = admin::get(&at.home, &format!("/admin/cases/{case}/refund")).await?;
            if at.json {
                return Ok(serde_json::to_string_pretty(&charges)?);
            }
            let lines: Vec<String> = charges.as_array().into_iter().flatten().map(charged).collect();
            Ok(if lines.is_empty() { "no token of that time".into() } else { lines.join("\n") })
        }
        Refund { at, by, case, token, amount, reason, again } => {
            let amount = amount.map(Amount::from_ucr);
            let ask = RefundAsk { token, amount, reason, author: by.name(), again };
            said(&at, admin::post(&at.home, &format!("/admin/cases/{case}/refund"), &ask).await?)
        }
        Pass { at, by, case, days, end: _, reason } => {
            let ask = PassAsk { days, reason, author: by.name() };
            let done: Passed = admin::post(&at.home, &format!("/admin/cases/{case}/pass"), &ask).await?;
            Ok(if at.json { serde_json::to_string_pretty(&done)? } else { passed(&done) })
        }
        Passes { at } => {
            let all: Vec<Passed> = admin::get(&at.home, "/admin/cases/passes").await?;
            if at.json {
                return Ok(serde_json::to_string_pretty(&all)?);
            }
            let lines: Vec<String> = all.iter().map(passed).collect();
            Ok(if lines.is_empty() { "nothing passes that the policy holds".into() } else { lines.join("\n") })
        }
        Pay { at, by, case, reference } => act(&at, case, Act::Pay { reference }, Role::Handler, by).await,
    }
}

fn passed(Passed { project, category, until }: &Passed) -> String {
    match until {
        Some(until) => format!("{category} of {project} passes until {until}"),
        None => format!("{category} of {project} is held again"),
    }
}

async fn act(at: &At, case: CaseId, act: Act, role: Role, by: By) -> Result<String, Failure> {
    let ask = Ask { act, role, author: by.name() };
    said(at, post(&at.home, case, &ask).await?)
}

async fn post(home: &Path, case: CaseId, ask: &Ask) -> Result<Value, Failure> {
    admin::post(home, &format!("/admin/cases/{case}"), ask).await
}

fn said(at: &At, notice: Value) -> Result<String, Failure> {
    Ok(if at.json { serde_json::to_string_pretty(&notice)? } else { line(&notice) })
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// One case in one line: which, where it stands, of whom, for what, and whose move it is.
fn line(notice: &Value) -> String {
    let seen = &notice["seen"][0];
    let line = format!(
        "{}  {:<10}  {}  {} ({}, {}) at {}  {}",
        text(notice, "case"),
        text(notice, "state"),
        text(notice, "project"),
        text(seen, "category"),
        text(seen, "rule"),
        text(seen, "band"),
        text(seen, "model"),
        text(notice, "next")
    );
    plain(&line).replace('\n', " ")
}

/// The log, line by line, and what was seen.
fn whole(shown: &Value) -> String {
    let mut lines = vec![line(shown)];
    for event in shown["events"].as_array().into_iter().flatten() {
        let act = &event["act"];
        // What strangers wrote moves no cursor, and begins no line of its own.
        let words = ["reason", "text", "reference"].map(|name| text(act, name)).join("");
        let words = plain(&words).replace('\n', "\n      ");
        let at = event["at"].as_u64().map_or_else(String::new, |at| comity_wire::Timestamp(at).to_string());
        let kind = text(act, "kind");
        lines.push(format!(
            "{}  {at}  {kind}  by {} ({}): {words}",
            event["n"],
            plain(text(event, "author")).replace('\n', " "),
            text(event, "role")
        ));
    }
    for owed in shown["owed"].as_array().into_iter().flatten() {
        lines.push(format!(
            "owed  {} µcr for receipt {}: {}",
            owed["amount"],
            text(owed, "receipt"),
            text(owed, "reason")
        ));
    }
    lines.extend(shown["refunds"].as_array().into_iter().flatten().map(refund));
    if let Some(seen) = shown["seen_text"].as_str() {
        lines.push(format!("seen (of the prompt):\n      {}", plain(seen).replace('\n', "\n      ")));
    }
    if let Some(why) = shown["seen_sealed"].as_str() {
        lines.push(format!("seen: {why}"));
    }
    lines.push(format!("link {}", text(shown, "link")));
    lines.join("\n")
}

/// A credit note, and what the house said to it.
fn refund(refund: &Value) -> String {
    let (booked, declined) = (&refund["answer"]["booked"], &refund["answer"]["declined"]);
    let stands = match (booked["booked_at"].as_u64(), declined["message"].as_str()) {
        (Some(at), _) => format!("booked at {}", comity_wire::Timestamp(at)),
        (None, Some(why)) => format!("declined by the house: {}", plain(why).replace('\n', " ")),
        (None, None) => "the house has not booked it yet".into(),
    };
    format!("refund  {} µcr of {} by {}: {stands}", refund["amount"], text(refund, "token"), text(refund, "note"))
}

fn charged(one: &Value) -> String {
    format!(
        "{}  {} µcr for {} flagged calls, of {} µcr charged{}",
        text(one, "token"),
        one["amount"],
        one["receipts"],
        one["charged"],
        match one["ordered"].as_u64() {
            Some(ordered @ 1..) => format!(", besides {ordered} ordered back in this case"),
            _ => String::new(),
        }
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_stranger_wrote_steers_no_terminal_and_poses_as_no_line() {
        let shown = json!({
            "case": "case-1", "state": "to-decide", "project": "sub-a", "next": "the owner decides",
            "seen": [{"category": "a\u{1b}[2J", "rule": "r", "band": "high", "model": "lab/tiny"}],
            "events": [{"n": 2, "at": 1_800_000_000, "author": "sub-a", "role": "project",
                        "act": {"kind": "answer", "text": "no\u{1b}[2J\u{202e}\n3  clear  by hanna (handler): all is well"}}],
            "seen_text": "x\nlink 0000\u{7}", "link": "abcd",
        });
        let said = whole(&shown);
        assert!(!said.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{said:?}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(!lines.iter().any(|line| line.starts_with("3  clear") || *line == "link 0000"), "{said}");
        assert_eq!(lines.last(), Some(&"link abcd"));
    }
}
