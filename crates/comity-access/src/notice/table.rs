//! Who hears of what, as data: [`notices`], the tests and `docs/operating/notices.md` read this table.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use comity_wire::{Digest, Timestamp};

use super::id::NoticeId;
use super::words::{self, Side};
use super::{About, Notice, To, Topic};
use crate::Shown;
use crate::act::{Act, Kind, Role, State};
use crate::application::Application;
use crate::clock::Party;
use crate::event::{Event, Recorded};
use crate::settings::Settings;

/// The most that a notice about a clock comes before its end, seconds; where the clock is short, half of it.
pub(crate) const SOON_S: u64 = 3 * comity_wire::time::DAY_S;
/// Persons that a notice names for one role; where there are more, whoever has the role is told.
const PERSONS_MAX: usize = 16;

/// Somebody who hears of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The project that asks.
    Applicant,
    /// Whoever runs the node.
    Operators,
    /// Operators and those who were asked for a view, a decision or an appeal here, but for whoever declared a conflict.
    Handlers,
    /// The persons that the act names.
    Named,
    /// Those who may answer an appeal.
    AppealReviewers,
    /// Of a remark: the other side; of one that is not public, the owner's.
    Readers,
}

/// A command with those who hear that it was given.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which command.
    pub kind: Kind,
    /// Who hears of it.
    pub who: &'static [Who],
}

const fn of(kind: Kind, who: &'static [Who]) -> Row {
    Row { kind, who }
}

const BOTH: &[Who] = &[Who::Applicant, Who::Operators];

/// Of what is not in here nobody is told. The owner's side hears nothing of an application before it was handed in, and
/// nobody hears of what they did themselves, where the notice goes to persons.
pub const TABLE: &[Row] = &[
    of(Kind::Submit, &[Who::Operators]),
    of(Kind::Reveal, &[Who::Handlers]),
    of(Kind::Sign, &[Who::Applicant, Who::Handlers]),
    of(Kind::Return, &[Who::Applicant]),
    of(Kind::Answer, &[Who::Handlers]),
    of(Kind::RequestReview, &[Who::Named]),
    of(Kind::Review, &[Who::Operators]),
    of(Kind::DeclareConflict, &[Who::Operators]),
    of(Kind::RequestDecision, &[Who::Named]),
    of(Kind::Vote, &[Who::Operators]),
    of(Kind::Approve, BOTH),
    of(Kind::Reject, BOTH),
    of(Kind::Remark, &[Who::Readers]),
    of(Kind::Revoke, BOTH),
    of(Kind::Withdraw, &[Who::Handlers]),
    of(Kind::Appeal, &[Who::AppealReviewers, Who::Operators]),
    of(Kind::Reinstate, BOTH),
    of(Kind::Dismiss, BOTH),
    of(Kind::Close, &[Who::Applicant]),
    of(Kind::Remind, &[Who::Applicant, Who::Handlers]),
    of(Kind::Escalate, &[Who::Applicant, Who::Named, Who::Operators]),
    of(Kind::Lapse, &[Who::Applicant, Who::Handlers]),
    of(Kind::Expire, &[Who::Applicant]),
];

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applicant => "applicant",
            Self::Operators => "operators",
            Self::Handlers => "operators, and who was asked here",
            Self::Named => "who is named",
            Self::AppealReviewers => "appeal reviewers",
            Self::Readers => "the other side; not public: the owner's",
        })
    }
}

/// The table as a page shows it.
pub fn markdown() -> String {
    let mut text = String::from("| what happened | who hears of it |\n|---|---|");
    for row in TABLE {
        let who: Vec<String> = row.who.iter().map(ToString::to_string).collect();
        let _ = write!(text, "\n| `{}` | {} |", row.kind, who.join("; "));
    }
    text.push('\n');
    text
}

/// What is said of an event, to each side that hears of it: none, one or two notices. `application` is as the event, or later
/// ones, left it; its log has the event.
pub fn notices(event: &Recorded, application: &Application) -> Vec<Notice> {
    let link = event.link();
    let event = event.event();
    let Some(row) = TABLE.iter().find(|row| row.kind == event.act.kind()) else { return Vec::new() };
    let log = Log::until(event, application);
    let to: Vec<To> = row.who.iter().flat_map(|who| log.told(*who)).collect();
    sides(to)
        .into_iter()
        .filter(|(side, _)| *side == Side::Applicant || log.is_handed_in)
        .map(|(side, to)| said_of(event, link, side, to, &log))
        .collect()
}

/// What is said to those who may sign for the applicant's institution, where the form wants a signature and there is none to what
/// is asked now: when it is known which institution that is, and again with what is changed after that.
pub fn signature_wanted(event: &Recorded, application: &Application, settings: &Settings) -> Option<Notice> {
    let link = event.link();
    let event = event.event();
    let log = Log::until(event, application);
    let is_news = matches!(event.act.kind(), Kind::Reveal | Kind::Answer | Kind::ChangeModels);
    let is_asked = settings.signatory && !log.is_signed && log.is_known && is_news;
    is_asked.then(|| said_of(event, link, Side::Signatory, vec![all(Role::Signatory)], &log))
}

fn said_of(event: &Event, link: Digest, side: Side, to: Vec<To>, log: &Log<'_>) -> Notice {
    let said = words::of_event(side, event, log.before, log.subject);
    Notice {
        id: NoticeId::of(event.at, &[link.as_bytes(), side.as_str().as_bytes()]),
        at: event.at,
        kind: Topic::Done(event.act.kind()),
        about: About::Application {
            application: event.application,
            event: event.n,
            state: event.state,
            due: event.due,
        },
        to,
        title: said.title,
        text: said.text,
        reason: said.reason,
        command: said.command,
    }
}

/// What is said before a clock runs out, to whom that concerns; `None` while it is early, or no clock runs. It has the same id
/// at every call for the same end of the same clock, so a store that asks each hour keeps one.
pub fn soon(application: &Application, now: Timestamp) -> Option<Notice> {
    let due = application.due()?;
    let last = application.events().last()?.event();
    let began =
        application.events().iter().rev().map(Recorded::event).take_while(|event| event.due == Some(due)).last()?.at;
    let ahead = SOON_S.min(due.at.since(began) / 2);
    if now >= due.at || now < due.at.minus(ahead) {
        return None;
    }
    let log = Log { quiet: None, ..Log::until(last, application) };
    let who = match due.party {
        Party::Owner => Who::Handlers,
        Party::AppealReviewer => Who::AppealReviewers,
        Party::Applicant | Party::Signatory | Party::Caller | Party::Nobody => Who::Applicant,
    };
    let (side, to) = sides(log.told(who)).pop()?;
    let said = words::of_clock(side, last, application.subject());
    let state = application.state().as_str().as_bytes();
    Some(Notice {
        id: NoticeId::of(due.at, &[&application.id().0, b"due-soon\0", &due.at.0.to_be_bytes(), state]),
        at: now,
        kind: Topic::DueSoon,
        about: About::Application {
            application: application.id(),
            event: last.n,
            state: application.state(),
            due: Some(due),
        },
        to,
        title: said.title,
        text: said.text,
        reason: None,
        command: said.command,
    })
}

/// What of a log bears on who is told of one of its events.
struct Log<'a> {
    event: &'a Event,
    subject: &'a str,
    before: Option<State>,
    is_handed_in: bool,
    is_signed: bool,
    /// The applicant has shown of which institution they are.
    is_known: bool,
    reviewers: BTreeSet<&'a str>,
    deciders: BTreeSet<&'a str>,
    /// Who did it, and need not be told.
    quiet: Option<&'a str>,
}

impl<'a> Log<'a> {
    fn until(event: &'a Event, application: &'a Application) -> Self {
        let mut log = Self {
            event,
            subject: application.subject(),
            before: None,
            is_handed_in: false,
            is_signed: false,
            is_known: false,
            reviewers: BTreeSet::new(),
            deciders: BTreeSet::new(),
            quiet: Some(&event.author),
        };
        let mut conflicts = BTreeSet::new();
        for event in application.events().iter().map(Recorded::event).take_while(|other| other.n <= log.event.n) {
            match &event.act {
                Act::Submit { .. } => log.is_handed_in = true,
                Act::Sign { .. } => log.is_signed = true,
                // It was something else that they signed.
                Act::Answer { .. } | Act::ChangeModels { .. } => log.is_signed = false,
                Act::Reveal { what: Shown::Organisation, .. } => log.is_known = true,
                Act::RequestReview { reviewers } => log.reviewers.extend(reviewers.iter().map(String::as_str)),
                Act::RequestDecision { deciders } => log.deciders.extend(deciders.iter().map(String::as_str)),
                Act::Escalate { to } => drop(log.deciders.insert(to)),
                Act::DeclareConflict { .. } => drop(conflicts.insert(event.author.as_str())),
                _ => {}
            }
            if event.n < log.event.n {
                log.before = Some(event.state);
            }
        }
        log.reviewers.retain(|person| !conflicts.contains(person));
        log.deciders.retain(|person| !conflicts.contains(person));
        log
    }

    fn told(&self, who: Who) -> Vec<To> {
        match who {
            Who::Applicant => vec![To { role: Role::Applicant, persons: vec![self.subject.to_owned()] }],
            Who::Operators => vec![all(Role::Operator)],
            Who::AppealReviewers => vec![all(Role::AppealReviewer)],
            Who::Handlers => {
                let mut to = vec![all(Role::Operator)];
                if self.event.state == State::Appealed || self.before == Some(State::Appealed) {
                    to.push(all(Role::AppealReviewer));
                    return to;
                }
                to.extend(self.persons(Role::Reviewer, self.reviewers.iter().copied()));
                to.extend(self.persons(Role::Decider, self.deciders.iter().copied()));
                to
            }
            Who::Named => match &self.event.act {
                Act::RequestReview { reviewers } => self.persons(Role::Reviewer, reviewers.iter().map(String::as_str)),
                Act::RequestDecision { deciders } => self.persons(Role::Decider, deciders.iter().map(String::as_str)),
                Act::Escalate { to } => self.persons(Role::Decider, std::iter::once(to.as_str())),
                _ => None,
            }
            .into_iter()
            .collect(),
            Who::Readers => match &self.event.act {
                Act::Remark { public: true, .. } if Party::of(self.event.role) != Party::Applicant => {
                    self.told(Who::Applicant)
                }
                _ => self.told(Who::Handlers),
            },
        }
    }

    /// Persons but the author; `None` where nobody is left.
    fn persons(&self, role: Role, persons: impl Iterator<Item = &'a str>) -> Option<To> {
        let persons: Vec<String> = persons.filter(|person| Some(*person) != self.quiet).map(str::to_owned).collect();
        match persons.len() {
            0 => None,
            1..=PERSONS_MAX => Some(To { role, persons }),
            _ => Some(all(role)),
        }
    }
}

fn all(role: Role) -> To {
    To { role, persons: Vec::new() }
}

/// The two sides never read one text.
fn sides(to: Vec<To>) -> Vec<(Side, Vec<To>)> {
    let (applicant, owner): (Vec<To>, Vec<To>) = to.into_iter().partition(|to| to.role == Role::Applicant);
    [(Side::Applicant, applicant), (Side::Owner, owner)].into_iter().filter(|(_, to)| !to.is_empty()).collect()
}
