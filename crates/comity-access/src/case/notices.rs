//! What is said of a case, to whom: the project, the owner's operators, those who may decide an appeal (spec/12-notices.md).
//!
//! The words are ours. Of anybody else's there are names of categories, rules and persons, and what the owner said to the project when
//! it decided. No text that was seen, no answer, no remark, and not why an operator opened it, which may quote what was seen.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use comity_wire::Timestamp;
use comity_wire::object::FilterAction;

use super::act::{Act, Kind, Measure, Role, Seen, State};
use super::event::{Due, Event, Party};
use super::id::CaseId;
use super::machine::Case;
use crate::act::Role as Told;
use crate::event::Recorded;
use crate::notice::{About, Notice, NoticeId, SOON_S, To, Topic, date, limit, one_line, plain};

/// Somebody who hears of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The project that it is about.
    Project,
    /// Whoever runs the node.
    Operators,
    /// Those who may decide an appeal.
    AppealReviewers,
}

/// A command with those who hear that it was given.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub kind: Kind,
    pub who: &'static [Who],
}

const fn of(kind: Kind, who: &'static [Who]) -> Row {
    Row { kind, who }
}

const BOTH: &[Who] = &[Who::Project, Who::Operators];

/// Of what is not in here nobody is told.
pub const TABLE: &[Row] = &[
    of(Kind::Open, BOTH),
    of(Kind::Answer, &[Who::Operators]),
    of(Kind::Clear, BOTH),
    of(Kind::Uphold, BOTH),
    of(Kind::Appeal, &[Who::AppealReviewers, Who::Operators]),
    of(Kind::Overturn, BOTH),
    of(Kind::Confirm, BOTH),
    of(Kind::Owe, &[Who::Project]),
    of(Kind::Pay, &[Who::Project]),
    of(Kind::Booked, BOTH),
    of(Kind::Declined, &[Who::Operators]),
    of(Kind::Await, &[Who::Operators]),
    of(Kind::Lapse, BOTH),
    of(Kind::Close, &[Who::Project]),
];

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Project => "the project",
            Self::Operators => "operators",
            Self::AppealReviewers => "appeal reviewers",
        })
    }
}

/// The table as a page shows it.
pub fn markdown() -> String {
    let mut text = String::from("| what happened in a case | who hears of it |\n|---|---|");
    for row in TABLE {
        let who: Vec<String> = row.who.iter().map(ToString::to_string).collect();
        let _ = write!(text, "\n| `case-{}` | {} |", row.kind, who.join("; "));
    }
    text.push('\n');
    text
}

/// What is said of the newest event, to each side that hears of it.
pub fn notices(case: &Case) -> Vec<Notice> {
    let Some(newest) = case.events().last() else { return Vec::new() };
    let (link, event) = (newest.link(), newest.event());
    let Some(row) = TABLE.iter().find(|row| row.kind == event.act.kind()) else { return Vec::new() };
    sides(row.who.iter().map(|who| told(*who, case.subject())).collect())
        .into_iter()
        .map(|(side, to)| {
            let (headline, more) = match side {
                Side::Project => to_project(event),
                Side::Owner => to_owner(event),
            };
            let reason = to_the_project(&event.act).filter(|_| side == Side::Project);
            let id = NoticeId::of(event.at, &[link.as_bytes(), side.as_str().as_bytes()]);
            let kind = Topic::Case(event.act.kind());
            let said = Said { headline, more, reason: reason.map(|text| plain(text, limit::REASON_CHARS_MAX)) };
            notice((id, event.at, kind), case, side, to, said)
        })
        .collect()
}

/// What is said before a clock runs out, to whom that concerns; `None` while it is early, or no clock runs. It has the same id at every
/// call for the same end of the same clock.
pub fn soon(case: &Case, now: Timestamp) -> Option<Notice> {
    let due = case.due()?;
    let events = case.events().iter().rev().map(Recorded::event);
    let began = events.take_while(|event| event.due == Some(due)).last()?.at;
    let ahead = SOON_S.min(due.at.since(began) / 2);
    if now >= due.at || now < due.at.minus(ahead) {
        return None;
    }
    let (who, headline, more) = match (due.party, case.state()) {
        (Party::Project, State::Upheld) => {
            (Who::Project, "The time to appeal ends soon", "After it the case is closed.")
        }
        (Party::Project, _) => {
            (Who::Project, "Your answer in a case is due soon", "After it the owner may decide without it.")
        }
        (Party::Owner, _) => (Who::Operators, "A decision is due soon", "Without one the case ends for the project."),
        (Party::AppealReviewer, _) => {
            (Who::AppealReviewers, "An appeal is due soon", "Without a decision the case ends for the project.")
        }
        (Party::Nobody, _) => return None,
    };
    let (side, to) = sides(vec![told(who, case.subject())]).pop()?;
    let state = case.state().as_str().as_bytes();
    let id = NoticeId::of(due.at, &[&case.id().0, b"case-due-soon\0", &due.at.0.to_be_bytes(), state]);
    Some(notice((id, now, Topic::CaseDueSoon), case, side, to, Said { headline, more: more.into(), reason: None }))
}

/// Who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Project,
    Owner,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Owner => "owner",
        }
    }
}

struct Said {
    headline: &'static str,
    more: String,
    reason: Option<String>,
}

fn told(who: Who, subject: &str) -> To {
    match who {
        // As an applicant is: by its pseudonym, where the owner wrote an address down for it.
        Who::Project => To { role: Told::Applicant, persons: vec![subject.to_owned()] },
        Who::Operators => To { role: Told::Operator, persons: Vec::new() },
        Who::AppealReviewers => To { role: Told::AppealReviewer, persons: Vec::new() },
    }
}

/// The two sides never read one text.
fn sides(to: Vec<To>) -> Vec<(Side, Vec<To>)> {
    let (project, owner): (Vec<To>, Vec<To>) = to.into_iter().partition(|to| to.role == Told::Applicant);
    [(Side::Project, project), (Side::Owner, owner)].into_iter().filter(|(_, to)| !to.is_empty()).collect()
}

fn notice(
    (id, at, kind): (NoticeId, Timestamp, Topic),
    case: &Case,
    side: Side,
    to: Vec<To>,
    Said { headline, more, reason }: Said,
) -> Notice {
    let (case_id, state, due) = (case.id(), case.state(), case.due());
    let command = command(side, state, case_id);
    let of = match side {
        Side::Project => format!("Case {case_id}."),
        Side::Owner => format!("Case {case_id} of {}.", one_line(case.subject())),
    };
    let seen = case.seen().first().map(seen).unwrap_or_default();
    let parts = [format!("{headline}."), more, seen, of, next_move(side, due), format!("Type: {command}")];
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    Notice {
        id,
        at,
        kind,
        about: About::Case { case: case_id, event: case.events().len() as u64, state, due },
        to,
        title: format!("{headline} ({case_id})").chars().take(limit::TITLE_CHARS_MAX).collect(),
        text,
        reason,
        command,
    }
}

/// Names, never what was written.
fn seen(seen: &Seen) -> String {
    let [category, rule, band] = [&seen.category, &seen.rule, &seen.band].map(|name| one_line(name));
    format!("Category {category}, rule {rule}, band {band}.")
}

fn to_project(event: &Event) -> (&'static str, String) {
    match &event.act {
        Act::Open { seen, .. } => {
            let done = match seen.action {
                FilterAction::Suspend => "Your project is suspended at this owner until it ends.",
                FilterAction::Block | FilterAction::Hold => "The call was refused.",
                _ => "Nothing was done yet.",
            };
            let heard = "You are heard before anything is held against you.";
            ("A case was opened about your project", format!("{done} {heard}"))
        }
        Act::Clear { .. } => ("Your case was cleared", "Nothing was wrong, and what it stopped goes on.".into()),
        Act::Uphold { measure, .. } => {
            let done = match measure {
                Measure::Note => "It stays on record.",
                Measure::Stop => "Your project is stopped at this owner.",
            };
            ("Your case was upheld", format!("{done} You can appeal to somebody who did not take part."))
        }
        Act::Overturn { .. } => ("Your appeal was right", "What was decided before is undone.".into()),
        Act::Confirm { .. } => ("Your appeal was not right", "What was decided before stands.".into()),
        Act::Owe { .. } => ("The owner owes your project", "For a call that should have been answered.".into()),
        Act::Pay { .. } => ("What was owed was given back", String::new()),
        Act::Booked { .. } => (
            "Credits were given back to your project",
            "They lie in the lots that had paid; your statement shows them.".into(),
        ),
        Act::Lapse {} => ("Your case has ended for you", "The owner did not decide in time.".into()),
        Act::Close {} => ("Your case was closed", "Nobody appealed in time, and what was decided stands.".into()),
        _ => ("Something happened in your case", String::new()),
    }
}

fn to_owner(event: &Event) -> (&'static str, String) {
    let by = match event.role {
        Role::Bot | Role::Project => String::new(),
        role => format!("By {} ({role}).", one_line(&event.author)),
    };
    match &event.act {
        Act::Open { .. } if event.role == Role::Bot => ("A filter has opened a case", by),
        Act::Open { .. } => ("A case was opened", by),
        Act::Answer { .. } => ("A project has answered in a case", by),
        Act::Clear { .. } => ("A case was cleared", by),
        Act::Uphold { .. } => ("A case was upheld", by),
        Act::Appeal { .. } => ("A case was appealed", "Whoever took part in what is appealed cannot decide it.".into()),
        Act::Overturn { .. } => ("An appeal in a case was right", by),
        Act::Confirm { .. } => ("An appeal in a case was not right", by),
        Act::Booked { .. } => ("A credit note of a case was booked", "The project has its credits again.".into()),
        Act::Declined { .. } => {
            ("A credit note of a case was declined", "The clearing house does not book it; the case says why.".into())
        }
        Act::Await {} => ("A case waits for a decision", "The project did not answer in time.".into()),
        Act::Lapse {} => ("A case has ended for the project", "Nobody of your side decided in time.".into()),
        _ => ("Something happened in a case", by),
    }
}

/// What the owner says to the project with an act.
fn to_the_project(act: &Act) -> Option<&str> {
    match act {
        Act::Clear { reason }
        | Act::Uphold { reason, .. }
        | Act::Overturn { reason }
        | Act::Confirm { reason }
        | Act::Owe { reason, .. } => Some(reason),
        Act::Pay { reference } => Some(reference),
        _ => None,
    }
}

fn next_move(side: Side, due: Option<Due>) -> String {
    let Some(due) = due else { return "No move is left: this case is over.".into() };
    let whose = match (side, due.party) {
        (Side::Project, Party::Project) => "yours",
        (Side::Owner, Party::Project) => "the project's",
        (Side::Project, Party::Owner) => "the owner's",
        (Side::Owner, Party::Owner) => "your side's",
        (_, Party::AppealReviewer) => "an appeal reviewer's",
        (_, Party::Nobody) => return "No move is due.".into(),
    };
    format!("The next move is {whose}, until {}.", date(due.at))
}

/// Every command that a notice may name, so that a test can see that each is one.
pub fn commands(id: CaseId) -> BTreeSet<String> {
    let sides = [Side::Project, Side::Owner];
    sides.iter().flat_map(|side| State::ALL.iter().map(move |state| command(*side, *state, id))).collect()
}

fn command(side: Side, state: State, id: CaseId) -> String {
    match (side, state) {
        (Side::Project, State::Open) => format!("comity access cases answer {id} --text \"...\""),
        (Side::Project, State::Upheld) => format!("comity access cases appeal {id} --reason \"...\""),
        (Side::Project, _) => format!("comity access cases show {id}"),
        (Side::Owner, _) => format!("comity cases show --home HOME {id}"),
    }
}
