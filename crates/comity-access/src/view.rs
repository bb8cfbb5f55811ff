//! What each side sees of an application.
//!
//! The owner's side sees everything but what is still sealed. The applicant's side sees what was decided, asked and said to it, with
//! author, reason and time; of reviews, votes, conflicts and remarks that are not public it sees that they were, and their link.

use comity_wire::api::access as api;

use crate::act::{Act, Kind, Role};
use crate::application::Application;
use crate::clock::{Due, Party};
use crate::event::Recorded;
use crate::form::{FieldKind, Form};
use crate::matrix::MATRIX;
use crate::settings::WhenSilent;
use crate::store::Row;

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The project that asks.
    Applicant,
    /// Those who answer.
    Owner,
}

/// An application as a side sees it, by somebody with these roles.
pub(crate) fn shown(application: &Application, side: Side, roles: &[Role]) -> api::Application {
    let can = MATRIX
        .iter()
        .filter(|row| row.states.contains(&application.state()) && row.roles.iter().any(|role| roles.contains(role)))
        .map(|row| row.kind.to_string());
    let granted = application.granted().map(|terms| api::Granted {
        models: terms.models.clone(),
        tier: terms.tier,
        not_after: terms.not_after,
        plan: terms.plan,
        executions: terms.executions,
    });
    let notice = application.revoke_at().map(|(at, reason)| api::Notice { at, reason: reason.to_owned() });
    let what = [api::Shown::Organisation, api::Shown::Person];
    let shown = what.iter().filter_map(|what| Some((what.as_str().to_owned(), application.shown(*what)?.to_owned())));
    api::Application {
        id: application.id().to_string(),
        subject: application.subject().to_owned(),
        state: application.state().to_string(),
        due: application.due().map(due),
        can: can.collect(),
        models: application.models().to_vec(),
        answers: application.answers().clone(),
        form: application.form(),
        granted,
        revoked_from: notice,
        shown: shown.collect(),
        head: application.head(),
        events: application.events().iter().map(|recorded| event(recorded, side)).collect(),
    }
}

fn event(recorded: &Recorded, side: Side) -> api::Event {
    let event = recorded.event();
    let text = (side == Side::Owner || is_for_the_applicant(&event.act))
        .then(|| String::from_utf8_lossy(recorded.bytes()).into_owned());
    api::Event {
        n: event.n,
        at: event.at,
        kind: event.act.kind().to_string(),
        role: event.role.to_string(),
        state: event.state.to_string(),
        link: recorded.link(),
        text,
    }
}

/// Whether the applicant's side reads what was done, and not only that something was.
pub fn is_for_the_applicant(act: &Act) -> bool {
    match act {
        Act::Remark { public, .. } => *public,
        act => !matches!(
            act.kind(),
            Kind::RequestReview
                | Kind::Review
                | Kind::DeclareConflict
                | Kind::RequestDecision
                | Kind::Vote
                | Kind::Escalate
        ),
    }
}

/// A line of a list.
pub fn listed(row: &Row) -> api::Listed {
    api::Listed {
        id: row.id.to_string(),
        subject: row.subject.clone(),
        state: row.state.to_string(),
        due: row.due.map(due),
        models: row.models.clone(),
        opened_at: row.opened_at,
        changed_at: row.changed_at,
    }
}

fn due(due: Due) -> api::Due {
    let party = match due.party {
        Party::Applicant => api::Party::Applicant,
        Party::Signatory => api::Party::Signatory,
        Party::Owner => api::Party::Owner,
        Party::AppealReviewer => api::Party::AppealReviewer,
        Party::Caller => api::Party::Caller,
        Party::Nobody => api::Party::Nobody,
    };
    api::Due { party, at: due.at }
}

/// A form as whoever fills it in reads it.
pub(crate) fn form(form: &Form, text: &str) -> api::FormReply {
    let settings = &form.settings;
    let when_silent = match &settings.when_silent {
        WhenSilent::Remind {} => "remind",
        WhenSilent::Escalate { .. } => "escalate",
        WhenSilent::Lapse {} => "lapse",
        WhenSilent::Approve { .. } => "approve",
    };
    let kind = |kind: FieldKind| match kind {
        FieldKind::Text => "text",
        FieldKind::Checkbox => "checkbox",
        FieldKind::Date => "date",
        FieldKind::Choice => "choice",
        FieldKind::Country => "country",
    };
    let fields = form.fields.iter().map(|field| api::FormField {
        id: field.id.clone(),
        label: field.label.clone(),
        kind: kind(field.kind).to_owned(),
        required: field.required,
        choices: field.choices.clone(),
    });
    api::FormReply {
        form: form.digest(),
        title: form.title.clone(),
        fields: fields.collect(),
        answer_s: settings.answer_s,
        when_silent: when_silent.to_owned(),
        applicant_s: settings.applicant_s,
        appeal_s: settings.appeal_s,
        signatory: settings.signatory,
        shown: settings.shown.iter().map(|what| what.as_str().to_owned()).collect(),
        text: text.to_owned(),
    }
}
