//! What the project sees of a case: all that was seen of it, decided and said, with author, reason and time; of a remark that the
//! owner's side left for itself it sees that there is one, and its link.

use comity_wire::api::{access, case as api};

use super::act::{Act, Seen};
use super::desk::Desk;
use super::event::{Due, Event, Party};
use super::machine::{Answer, Case, Refund};
use super::store::Row;
use crate::event::Recorded;

pub(super) fn shown(case: &Case) -> api::Case {
    let notice = case.notice();
    let owed = notice.owed.into_iter().map(|owed| api::Owed {
        receipt: owed.receipt,
        amount: owed.amount,
        reason: owed.reason,
    });
    api::Case {
        id: case.id().to_string(),
        subject: notice.project,
        state: case.state().to_string(),
        due: case.due().map(due),
        can: Desk::can(case).map(|kind| kind.to_string()).collect(),
        seen: notice.seen.into_iter().map(seen).collect(),
        opened_at: notice.opened_at,
        measure: case.measure().map(|measure| measure.to_string()),
        owed: owed.collect(),
        is_paid: case.owed().1,
        refunds: case.refunds().iter().map(refund).collect(),
        next: notice.next,
        head: notice.link,
        events: case.events().iter().map(event).collect(),
    }
}

fn refund(refund: &Refund) -> api::Refund {
    let (booked_at, content, refused) = match &refund.answer {
        None => (None, None, None),
        Some(Answer::Booked { content, booked_at }) => (Some(*booked_at), Some(*content), None),
        Some(Answer::Declined { message, .. }) => (None, None, Some(message.clone())),
    };
    let Refund { note, token, amount, reason, .. } = refund.clone();
    api::Refund { note, token, amount, reason, booked_at, content, refused }
}

pub(super) fn listed(row: &Row) -> api::Listed {
    api::Listed {
        id: row.id.to_string(),
        state: row.state.to_string(),
        due: row.due.map(due),
        model: row.model.clone(),
        category: row.category.clone(),
        opened_at: row.opened_at,
        changed_at: row.changed_at,
    }
}

fn event(recorded: &Recorded<Event>) -> access::Event {
    let event = recorded.event();
    let is_shown = !matches!(event.act, Act::Remark { .. });
    access::Event {
        n: event.n,
        at: event.at,
        kind: event.act.kind().to_string(),
        role: event.role.to_string(),
        state: event.state.to_string(),
        link: recorded.link(),
        text: is_shown.then(|| String::from_utf8_lossy(recorded.bytes()).into_owned()),
    }
}

fn seen(seen: Seen) -> api::Seen {
    let Seen { model, category, rule, band, count, action } = seen;
    api::Seen { model, category, rule, band, count, action }
}

fn due(due: Due) -> api::Due {
    let party = match due.party {
        Party::Project => api::Party::Project,
        Party::Owner => api::Party::Owner,
        Party::AppealReviewer => api::Party::AppealReviewer,
        Party::Nobody => api::Party::Nobody,
    };
    api::Due { party, at: due.at }
}

#[cfg(test)]
mod tests {
    use comity_wire::Timestamp;
    use comity_wire::object::FilterAction;

    use super::*;
    use crate::case::{Actor, CaseId, Measure, Role, Settings, State};
    use crate::notice::About;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    /// The case of the examples.
    fn example() -> Case {
        let id: CaseId = "case-4f0c2b7d9e51a8364f0c2b7d9e51a836".parse().expect("an id");
        let (category, rule, band) = ("political_persuasion".into(), "political/vote-for".into(), "high".into());
        let model = "lab/tiny".parse().expect("a model");
        let seen = Seen { model, category, rule, band, count: 3, action: FilterAction::Suspend };
        let filter = Actor { id: "filter".into(), role: Role::Bot };
        let what = ("sub-aaaqeayeaudaocajbifqydiob4".to_owned(), seen);
        let mut case =
            Case::open(id, what, None, (&filter, String::new()), NOW, &Settings::default()).expect("it opens");
        let hanna = Actor { id: "hanna".into(), role: Role::Handler };
        let note = Act::Remark { text: "the third this week".into(), salt: Some(comity_wire::Digest([7; 32])) };
        case.act(note, &hanna, NOW.plus(60), &Settings::default()).expect("a remark");
        let project = Actor { id: case.subject().to_owned(), role: Role::Project };
        let answer = Act::Answer { text: "We study such lines; none is sent to anybody.".into(), brought_by: None };
        case.act(answer, &project, NOW.plus(120), &Settings::default()).expect("an answer");
        case
    }

    /// What a chapter shows has to be, field by field, what is said here.
    fn is_shown(chapter: &str, name: &str, said: &serde_json::Value) {
        let path = format!("{}/../../spec/{chapter}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("a chapter");
        let fence = format!("```json {name}\n");
        let blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
        let shown = blocks.filter_map(|block| serde_json::from_str::<serde_json::Value>(block).ok());
        assert!(
            shown.into_iter().any(|shown| shown == *said),
            "{chapter} has to show\n{}",
            serde_json::to_string_pretty(said).unwrap()
        );
    }

    #[test]
    fn the_examples_of_the_spec_are_ours() {
        let mut case = example();
        is_shown("11-access.md", "Case", &serde_json::to_value(shown(&case)).expect("JSON"));
        let hanna = Actor { id: "hanna".into(), role: Role::Handler };
        let uphold = Act::Uphold { measure: Measure::Stop, reason: "The lines name a real candidate.".into() };
        case.act(uphold, &hanna, NOW.plus(3_600), &Settings::default()).expect("a decision");
        let said = crate::case::notices::notices(&case);
        assert!(matches!(said[0].about, About::Case { state: State::Upheld, .. }));
        is_shown("12-notices.md", "Notice", &serde_json::to_value(&said[0]).expect("JSON"));
        // A notice reads as what was written, also where both kinds have the same word for a state.
        for notice in &said {
            assert_eq!(crate::notice::Notice::read(&notice.to_json()).expect("a notice"), *notice);
        }
    }

    #[test]
    fn a_remark_is_hidden_and_all_else_is_shown() {
        let seen = shown(&example());
        let texts: Vec<bool> = seen.events.iter().map(|event| event.text.is_some()).collect();
        assert_eq!(texts, [true, false, true]);
        let text = serde_json::to_string(&seen).expect("JSON");
        assert!(!text.contains("third this week") && !text.contains("hanna") && text.contains("We study"));
        assert_eq!(seen.can, ["answer"]);
    }
}
