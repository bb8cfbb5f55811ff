//! `comity access cases`: what was held against your project at a model's owner, your answer, your appeal.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use comity_sdk::client::decisions::Log;
use comity_sdk::{Client, Error};
use comity_wire::api::case::{Case, Due, Heard, Listed, Party};
use comity_wire::object::Statistics;
use comity_wire::{Code, Digest, ModelId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::proof;
use super::show::span;
use crate::printer::{Failure, note, plain, say};
use crate::session::{self, Session};

const FOLDER: &str = "cases";
/// Pages that a list follows: a thousand cases, the newest.
const PAGES_MAX: usize = 10;

/// Which one.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// case-…, as `comity access cases list` says it
    case: String,
    /// A model of the owner, where `list` has not been asked from this home
    #[arg(long)]
    model: Option<ModelId>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum Cases {
    /// Those that the owner of a model has about your project, the newest first
    List {
        model: ModelId,
        /// Also those that have ended
        #[arg(long)]
        ended: bool,
        #[arg(long)]
        json: bool,
    },
    /// One case: what was seen, what was said, whose move it is, until when
    Show(Which),
    /// Say your side of it, before anything is decided
    Answer {
        #[command(flatten)]
        which: Which,
        #[arg(long)]
        text: String,
    },
    /// What the owner of a model says of all its cases, quarter by quarter, signed; counts of few projects are left out
    Statistics {
        model: ModelId,
        #[arg(long)]
        json: bool,
    },
    /// Prove that what was said and decided cannot be changed unseen: it is under a head of the owner, which is in the house's log
    Proof {
        /// case-…, as `comity access cases list` says it
        case: String,
        /// A model of the owner, where `list` has not been asked from this home
        #[arg(long)]
        model: Option<ModelId>,
        #[command(flatten)]
        by: Box<proof::By>,
    },
    /// Ask somebody else at the owner to look at what was decided again
    Appeal {
        #[command(flatten)]
        which: Which,
        #[arg(long)]
        reason: String,
    },
}

/// What a researcher's home keeps of a case: where it is, and the newest link that was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    id: String,
    /// One of the owner's models, which says whose node it is at.
    model: ModelId,
    /// Zeros before it was looked at.
    head: Digest,
}

impl Cases {
    pub(super) async fn run(self, session: &Session, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List { model, ended, json } => list(session, client, &model, ended, json).await,
            Self::Show(which) => {
                let kept = which.kept(&session.home)?;
                let seen = client.case(&kept.model, &kept.id).await?;
                kept.seen(session, &seen, which.json)
            }
            Self::Statistics { model, json } => {
                let found = client.case_statistics(&model).await?;
                let found: Vec<&Statistics> = found.iter().map(|statistics| &**statistics).collect();
                say(&if json { serde_json::to_string_pretty(&found)? } else { counts(&found) });
                Ok(())
            }
            Self::Proof { case, model, by } => {
                let kept = Which { case, model, json: false }.kept(&session.home)?;
                let seen = client.case(&kept.model, &kept.id).await?;
                kept.check(&seen)?;
                let events: Vec<_> = seen
                    .events
                    .iter()
                    .map(|event| proof::Event { n: event.n, link: event.link, at: event.at })
                    .collect();
                proof::prove(client, &kept.model, (Log::Case, &kept.id), &events, &by).await
            }
            Self::Answer { which, text } => act(session, client, which, Heard::Answer { text }).await,
            Self::Appeal { which, reason } => act(session, client, which, Heard::Appeal { reason }).await,
        }
    }
}

async fn list(session: &Session, client: &Client, model: &ModelId, ended: bool, json: bool) -> Result<(), Failure> {
    let (mut cases, mut after) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let page = client.cases(model, !ended, after.as_deref()).await?;
        cases.extend(page.cases);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    for case in &cases {
        if Kept::read(&session.home, &case.id)?.is_none() {
            Kept { id: case.id.clone(), model: model.clone(), head: Digest::ZERO }.write(&session.home)?;
        }
    }
    if json {
        say(&serde_json::to_string_pretty(&cases)?);
    } else if cases.is_empty() {
        say("no case");
    }
    for case in cases.iter().filter(|_| !json) {
        say(&line(case, session::now()));
    }
    if after.is_some() {
        note("there are more, and older ones");
    }
    Ok(())
}

/// Looks, then says one thing behind what was seen.
async fn act(session: &Session, client: &Client, which: Which, act: Heard) -> Result<(), Failure> {
    let kept = which.kept(&session.home)?;
    let seen = client.case(&kept.model, &kept.id).await?;
    kept.check(&seen)?;
    let done = client.case_act(&kept.model, &kept.id, seen.head, &act).await.map_err(refused)?;
    kept.seen(session, &done, which.json)
}

fn refused(error: Error) -> Failure {
    let hint = match error.code() {
        Some(Code::CaseMoved) => "look at it with `comity access cases show`, then say it again",
        Some(Code::CaseState) => "`comity access cases show` says whose move it is",
        _ => return error.into(),
    };
    Failure { hint: Some(hint.to_owned()), ..error.into() }
}

impl Which {
    fn kept(&self, home: &Path) -> Result<Kept, Failure> {
        if let Some(kept) = Kept::read(home, &self.case)? {
            return Ok(kept);
        }
        match &self.model {
            Some(model) => Ok(Kept { id: self.case.clone(), model: model.clone(), head: Digest::ZERO }),
            None => Err(Failure::new(
                format!("this home does not know at whose node {} is", self.case),
                "ask `comity access cases list MODEL` first, or say --model",
            )),
        }
    }
}

impl Kept {
    /// The file of a case; an id is no path.
    fn path(home: &Path, id: &str) -> Result<PathBuf, Failure> {
        let digits = id.strip_prefix("case-").unwrap_or_default();
        let is_id = digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if is_id {
            return Ok(home.join(FOLDER).join(format!("{id}.json")));
        }
        let message = "that names no case: case- and 32 lower-case hex digits are expected";
        Err(Failure::new(message, "`comity access cases list MODEL` lists them"))
    }

    fn read(home: &Path, id: &str) -> Result<Option<Self>, Failure> {
        let path = Self::path(home, id)?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kept = serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            Failure::new(message, "put it back from a backup, or move it away")
        })?;
        Ok(Some(kept))
    }

    fn write(&self, home: &Path) -> Result<(), Failure> {
        let path = Self::path(home, &self.id)?;
        super::kept::write(&path, self)
    }

    /// Whether the owner's log still goes through the newest link that was seen, and each event that is shown is what its link is of.
    fn check(&self, seen: &Case) -> Result<(), Failure> {
        let mut before = Digest::ZERO;
        let is_whole = seen.events.iter().all(|event| {
            let link = std::mem::replace(&mut before, event.link);
            event.text.as_deref().is_none_or(|text| follows(text, link, event.link))
        });
        let is_kept = self.head == Digest::ZERO || seen.events.iter().any(|event| event.link == self.head);
        if is_whole && is_kept && seen.head == before {
            return Ok(());
        }
        Err(Failure::new(
            format!(
                "the owner's log of {} no longer goes through what you have seen before ({}): it was rewritten",
                self.id, self.head
            ),
            "keep the file in the folder cases/ of your home, and ask the owner how that came about",
        ))
    }

    /// Keeps the newest link, and shows the case.
    fn seen(&self, session: &Session, seen: &Case, json: bool) -> Result<(), Failure> {
        self.check(seen)?;
        Self { head: seen.head, ..self.clone() }.write(&session.home)?;
        say(&if json { serde_json::to_string_pretty(seen)? } else { shown(seen, session::now()) });
        Ok(())
    }
}

/// Whether an event's bytes have its link, and carry the one of the event before (spec/11-access.md §11.7).
fn follows(text: &str, before: Digest, link: Digest) -> bool {
    let said = serde_json::from_str::<Value>(text).ok();
    let carries = said.is_some_and(|said| said["before"].as_str() == Some(before.to_string().as_str()));
    carries && Digest::of_parts(&[b"comity/v1/case-event\0", text.as_bytes()]) == link
}

fn waits_for(due: Due, now: Timestamp) -> String {
    let party = match due.party {
        Party::Project => "you",
        Party::Owner => "the owner",
        Party::AppealReviewer => "somebody at the owner who took no part",
        Party::Nobody => "nobody",
    };
    if due.at <= now {
        format!("{party}; the time is over")
    } else {
        format!("{party}, {} left (until {})", span(due.at.since(now)), due.at)
    }
}

fn line(case: &Listed, now: Timestamp) -> String {
    let waits = case.due.map_or_else(|| "has ended".to_owned(), |due| format!("waits for {}", waits_for(due, now)));
    plain(&format!("{}  {:<10}  {} at {}  {waits}", case.id, case.state, case.category, case.model))
}

fn shown(seen: &Case, now: Timestamp) -> String {
    let mut text = format!("{}  {}\n", seen.id, seen.state);
    for what in &seen.seen {
        let action = serde_json::to_value(what.action).ok();
        let action = action.as_ref().and_then(Value::as_str).unwrap_or_default();
        let said = format!(
            "{} ({}, {}) at {}, counted {}: {action}",
            what.category, what.rule, what.band, what.model, what.count
        );
        let _ = writeln!(text, "  seen       {}", plain(&said).replace('\n', " "));
    }
    if let Some(due) = seen.due {
        let _ = writeln!(text, "  waits for  {}", waits_for(due, now));
    }
    if let Some(measure) = &seen.measure {
        let _ = writeln!(text, "  measure    {}", plain(measure));
    }
    for owed in &seen.owed {
        let paid = if seen.is_paid { "given back" } else { "the owner owes" };
        let _ = writeln!(text, "  owed       {} µcr for receipt {} ({paid})", owed.amount.ucr(), owed.receipt);
    }
    for refund in &seen.refunds {
        let stands = match (refund.booked_at, &refund.refused) {
            (Some(at), _) => format!("given back at {at}"),
            (None, Some(why)) => format!("not booked: {}", plain(why).replace('\n', " ")),
            (None, None) => "ordered; the clearing house has not booked it yet".into(),
        };
        let _ = writeln!(text, "  refund     {} µcr of {} ({stands})", refund.amount.ucr(), refund.token);
    }
    let can = if seen.can.is_empty() { "nothing more".to_owned() } else { seen.can.join(", ") };
    let _ = writeln!(text, "  you can    {}", plain(&can));
    for event in &seen.events {
        let written: Option<Value> = event.text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let Some(written) = written else { continue };
        let author = if event.role == "project" { "you" } else { written["author"].as_str().unwrap_or_default() };
        let words = ["reason", "text", "reference"].iter().find_map(|name| written["act"][*name].as_str());
        let words = plain(words.unwrap_or_default()).replace('\n', "\n             ");
        let _ = writeln!(text, "  {}  {:<12} {}  {words}", event.at, event.kind, plain(author));
    }
    text.trim_end().to_owned()
}

/// One line for each category of a quarter. What is not shown is `-`: fewer than five projects, or none.
fn counts(found: &[&Statistics]) -> String {
    if found.is_empty() {
        return "this owner has published nothing of its cases".into();
    }
    let mut text = String::new();
    for statistics in found {
        let _ = writeln!(text, "{}  (signed {})", statistics.period, statistics.issued_at);
        if statistics.rows.is_empty() {
            text.push_str("  no count behind which five projects stand\n");
        }
        for row in statistics.rows.iter() {
            let shown = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
            let _ = writeln!(
                text,
                "  {}: opened {}, upheld {}, cleared {}, appealed {}, overturned {}, lapsed {}",
                plain(row.category.as_str()).replace('\n', " "),
                shown(row.opened),
                shown(row.upheld),
                shown(row.cleared),
                shown(row.appealed),
                shown(row.overturned),
                shown(row.lapsed)
            );
        }
    }
    text.trim_end().to_owned()
}
