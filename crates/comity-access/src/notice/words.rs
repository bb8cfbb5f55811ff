//! What a notice says, in plain words, to the one side or the other.
//!
//! The words are ours: of anybody's else there are ids, and what the owner said to the applicant. Both are made
//! plain first, so that no line, no escape and no turned direction of writing gets into a title, a terminal or a header.

use std::collections::BTreeSet;

use comity_wire::Timestamp;

use super::limit;
use crate::act::{Act, Role, State, Terms};
use crate::clock::{Due, Party};
use crate::event::Event;
use crate::id::ApplicationId;

/// Who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Applicant,
    Owner,
    Signatory,
}

impl Side {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Applicant => "applicant",
            Self::Owner => "owner",
            Self::Signatory => "signatory",
        }
    }
}

pub(super) struct Said {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) reason: Option<String>,
    pub(super) command: String,
}

pub(super) fn of_event(side: Side, event: &Event, before: Option<State>, subject: &str) -> Said {
    let (headline, more) = match side {
        Side::Applicant => to_applicant(event, before),
        Side::Owner => to_owner(event, before),
        Side::Signatory => {
            ("An application waits for your institution's signature", "Nothing can be granted without it.".into())
        }
    };
    let reason = to_the_applicant(&event.act)
        .filter(|_| side == Side::Applicant)
        .map(|text| plain(text, limit::REASON_CHARS_MAX));
    said(side, event, subject, headline, more, reason)
}

/// Before a clock runs out.
pub(super) fn of_clock(side: Side, last: &Event, subject: &str) -> Said {
    let (headline, more) = match (side, last.state) {
        (Side::Applicant, State::Draft) => ("Your draft ends soon", "It lapses unless you hand it in."),
        (Side::Applicant, State::Returned) => ("Your answer is due soon", "The application lapses unless you answer."),
        (Side::Applicant, State::Approved) => {
            ("Your access ends soon", "To go on, apply again: a copy of the application can be begun now.")
        }
        (Side::Applicant, _) => ("The time to appeal ends soon", "After it the application is closed."),
        (Side::Owner | Side::Signatory, _) => ("An answer is due soon", "The applicant was promised one by then."),
    };
    said(side, last, subject, headline, more.into(), None)
}

fn said(side: Side, event: &Event, subject: &str, headline: &str, more: String, reason: Option<String>) -> Said {
    let id = event.application;
    let command = command(side, event.state, id);
    let of = match side {
        Side::Applicant => format!("Application {id}."),
        Side::Owner | Side::Signatory => format!("Application {id} of {}.", one_line(subject)),
    };
    let parts = [format!("{headline}."), more, of, next_move(side, event.state, event.due), format!("Type: {command}")];
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    let title = format!("{headline} ({id})").chars().take(limit::TITLE_CHARS_MAX).collect();
    Said { title, text, reason, command }
}

/// What an act says to the applicant. A review, a vote, a conflict and a remark are not said to them; what the applicant wrote
/// stays where it is.
fn to_the_applicant(act: &Act) -> Option<&str> {
    match act {
        Act::Return { reason }
        | Act::Approve { reason, .. }
        | Act::Reject { reason }
        | Act::Revoke { reason, .. }
        | Act::Reinstate { reason, .. }
        | Act::Dismiss { reason }
        | Act::Close { reason } => Some(reason),
        _ => None,
    }
}

fn to_applicant(event: &Event, before: Option<State>) -> (&'static str, String) {
    let none = String::new;
    match &event.act {
        Act::Sign { .. } => ("Your institution has signed your application", none()),
        Act::Return { .. } => ("The owner needs more from you", "It cannot decide before you have answered.".into()),
        Act::Approve { terms, .. } => ("Your application was approved", granted(terms)),
        Act::Reject { .. } => {
            ("Your application was rejected", "You can appeal to somebody who did not take part.".into())
        }
        Act::Remark { .. } => ("The owner left you a remark", none()),
        Act::Revoke { effective, .. } if event.state == State::Approved => {
            ("Your access will be taken back", format!("It ends on {}.", date(*effective)))
        }
        Act::Revoke { .. } => {
            ("Your access was taken back", "You can appeal to somebody who did not take part.".into())
        }
        Act::Reinstate { terms, .. } => ("Your appeal was granted", granted(terms)),
        Act::Dismiss { .. } => ("Your appeal was dismissed", "What was decided before stands.".into()),
        Act::Close { .. } => ("Your application was closed", none()),
        Act::Remind {} => ("The owner did not answer in time", "Those who have to answer were asked again.".into()),
        Act::Escalate { .. } => ("The owner did not answer in time", "Somebody else was asked.".into()),
        Act::Lapse {} if matches!(before, Some(State::Draft)) => {
            ("Your draft has lapsed", "It was not handed in in time. It can be begun again as a copy.".into())
        }
        Act::Lapse {} if matches!(before, Some(State::Returned)) => (
            "Your application has lapsed",
            "The owner's question was not answered in time. It can be begun again as a copy.".into(),
        ),
        Act::Lapse {} => (
            "Your application has lapsed",
            "The owner never answered; that is not your doing. It can be begun again as a copy.".into(),
        ),
        Act::Expire {} => {
            ("Your access has ended", "The time that was granted is over. You can apply again with a copy.".into())
        }
        _ => ("Something happened to your application", none()),
    }
}

fn to_owner(event: &Event, before: Option<State>) -> (&'static str, String) {
    let by = || match event.role {
        Role::Bot => String::from("The clock, or a rule of yours, did it."),
        Role::Applicant | Role::Member => String::new(),
        role => format!("By {} ({role}).", one_line(&event.author)),
    };
    let headline = match &event.act {
        Act::Submit { .. } => "An application was handed in",
        Act::Reveal { .. } => "An applicant shows more of who they are",
        Act::Sign { .. } => "An institution has signed an application",
        Act::Answer { .. } => "An applicant has answered",
        Act::RequestReview { .. } => "You are asked for a review",
        Act::Review { .. } => "A review was written",
        Act::DeclareConflict { .. } => "Somebody stepped back from an application",
        Act::RequestDecision { .. } => "You are asked for a decision",
        Act::Vote { .. } => "A vote was given",
        Act::Approve { .. } => "An application was approved",
        Act::Reject { .. } => "An application was rejected",
        Act::Remark { public: true, .. } => "An applicant left a remark",
        Act::Remark { .. } => "A remark was left for your side alone",
        Act::Revoke { .. } if event.state == State::Approved => "Access will be taken back",
        Act::Revoke { .. } => "Access was taken back",
        Act::Withdraw { .. } => "An application was withdrawn",
        Act::Appeal { .. } => "A decision was appealed",
        Act::Reinstate { .. } => "An appeal was granted",
        Act::Dismiss { .. } => "An appeal was dismissed",
        Act::Remind {} => "An application still waits for an answer",
        Act::Escalate { .. } => "An application was put before somebody else",
        Act::Lapse {} => "An application has lapsed",
        _ => "Something happened to an application",
    };
    let more = match &event.act {
        Act::Appeal { .. } => "Whoever took part in what is appealed cannot answer it.".into(),
        Act::DeclareConflict { .. } => format!("{} Somebody else has to take their place.", by()),
        Act::Revoke { effective, .. } if event.state == State::Approved => {
            format!("It ends on {}. {}", date(*effective), by())
        }
        Act::Remind {} => "The time to answer has run out, and begins again.".into(),
        Act::Escalate { to } => format!("Nobody answered in time. Asked is {}.", one_line(to)),
        Act::Lapse {} if before == Some(State::Returned) => "The applicant did not answer in time.".into(),
        Act::Lapse {} => "Nobody of your side answered in time.".into(),
        _ => by(),
    };
    (headline, more)
}

fn granted(terms: &Terms) -> String {
    let models = match terms.models.len() {
        1 => String::from("one model"),
        many => format!("{many} models"),
    };
    format!("You have access to {models} at tier {} until {}.", terms.tier, date(terms.not_after))
}

fn next_move(side: Side, state: State, due: Option<Due>) -> String {
    let Some(due) = due else { return "No move is left: this application is over.".into() };
    let until = date(due.at);
    let whose = match (side, due.party) {
        (_, Party::Nobody) if state == State::Approved => return format!("No move is due. Access ends on {until}."),
        (_, Party::Nobody) => return String::from("No move is due."),
        (Side::Applicant, Party::Applicant | Party::Caller) => "yours",
        (Side::Owner | Side::Signatory, Party::Applicant | Party::Caller) => "the applicant's",
        (Side::Applicant | Side::Signatory, Party::Owner) => "the owner's",
        (Side::Owner, Party::Owner) => "your side's",
        (_, Party::Signatory) => "the institution's signatory's",
        (_, Party::AppealReviewer) => "an appeal reviewer's",
    };
    format!("The next move is {whose}, until {until}.")
}

/// Every command that a notice of an application may name, so that a test can see that each is one.
pub fn commands(id: ApplicationId) -> BTreeSet<String> {
    let sides = [Side::Applicant, Side::Owner, Side::Signatory];
    sides.iter().flat_map(|side| State::ALL.iter().map(move |state| command(*side, *state, id))).collect()
}

fn command(side: Side, state: State, id: ApplicationId) -> String {
    match (side, state) {
        (Side::Applicant, State::Draft) => format!("comity access submit {id}"),
        (Side::Applicant, State::Returned) => format!("comity access answer {id} --text \"...\""),
        (Side::Applicant, State::Rejected | State::Revoked) => format!("comity access appeal {id} --reason \"...\""),
        (Side::Applicant, state) if state.is_ended() => format!("comity access again {id}"),
        (Side::Applicant, _) => format!("comity access status {id}"),
        (Side::Owner, _) => format!("comity requests show --home HOME {id}"),
        (Side::Signatory, _) => format!("comity requests sign --home HOME --as PERSON {id} --text \"...\""),
    }
}

/// `2026-12-13 09:00 UTC`.
pub(crate) fn date(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

/// Without what controls a terminal, a header or the direction of writing; line ends stay.
pub(crate) fn plain(text: &str, chars_max: usize) -> String {
    let is_plain = |c: &char| *c == '\n' || !(c.is_control() || is_steering(*c));
    text.chars().filter(is_plain).take(chars_max).collect()
}

/// The same in one line.
pub(crate) fn one_line(text: &str) -> String {
    plain(text, crate::limit::NAME_BYTES_MAX).replace('\n', " ")
}

/// Characters that turn the direction of writing, end a line or are not seen (Unicode's bidirectional controls, line and
/// paragraph separators, zero widths).
const fn is_steering(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
