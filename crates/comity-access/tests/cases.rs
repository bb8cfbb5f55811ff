//! The rules of cases: the matrix cell by cell, stories, changed logs, bounds.

use comity_access::Broken;
use comity_access::case::{
    Act, Actor, Case, CaseId, Effect, Kind, Measure, Party, Refused, Role, Seen, Settings, State, Statistics, allows,
    limit, markdown,
};
use comity_wire::object::FilterAction;
use comity_wire::{Amount, CreditNoteId, Digest, Timestamp, TokenId};

const NOW: Timestamp = Timestamp(1_800_000_000);
const DAY: u64 = 86_400;
const PROJECT: &str = "sub-a";

fn settings() -> Settings {
    Settings {
        answer_s: 10 * DAY,
        decide_s: 20 * DAY,
        appeal_s: 30 * DAY,
        appeal_decide_s: 40 * DAY,
        ..Settings::default()
    }
}

fn seen(action: FilterAction) -> Seen {
    let (category, rule, band) = ("political_persuasion".into(), "political/vote-for".into(), "high".into());
    Seen { model: "lab/tiny".parse().expect("a model"), category, rule, band, count: 3, action }
}

fn who(role: Role) -> Actor {
    let id = match role {
        Role::Project => PROJECT,
        Role::Handler => "hanna",
        Role::AppealReviewer => "petra",
        Role::Bot => "clock",
    };
    Actor { id: id.into(), role }
}

fn called(id: &str, role: Role) -> Actor {
    Actor { id: id.into(), role }
}

fn opened(id: u8) -> Case {
    let what = (PROJECT.to_owned(), seen(FilterAction::Suspend));
    let by = (&called("filter", Role::Bot), String::new());
    Case::open(CaseId([id; 16]), what, Some(Digest::of(b"sealed")), by, NOW, &settings()).expect("the filter opens")
}

fn reason() -> String {
    "because".into()
}

/// An act of a kind, whose content is in order.
fn act(kind: Kind) -> Act {
    match kind {
        Kind::Open => {
            Act::Open { subject: PROJECT.into(), seen: seen(FilterAction::Hold), excerpt: None, reason: reason() }
        }
        Kind::Add => Act::Add { seen: seen(FilterAction::Hold) },
        Kind::Answer => Act::Answer { text: "it is a study".into(), brought_by: None },
        Kind::Remark => Act::Remark { text: "a note".into(), salt: None },
        Kind::Clear => Act::Clear { reason: reason() },
        Kind::Uphold => Act::Uphold { measure: Measure::Stop, reason: reason() },
        Kind::Appeal => Act::Appeal { reason: reason(), brought_by: None },
        Kind::Overturn => Act::Overturn { reason: reason() },
        Kind::Confirm => Act::Confirm { reason: reason() },
        Kind::Owe => Act::Owe { receipt: Digest::of(b"r"), amount: Amount::from_ucr(5), reason: reason() },
        Kind::Pay => Act::Pay { reference: "lot 7".into() },
        Kind::Refund => {
            let (note, token) = (CreditNoteId([7; 16]), TokenId([8; 16]));
            Act::Refund { note, token, amount: Amount::from_ucr(5), reason: reason() }
        }
        Kind::Booked => Act::Booked { note: CreditNoteId([7; 16]), content: Digest::of(b"note"), booked_at: NOW },
        Kind::Declined => {
            Act::Declined { note: CreditNoteId([7; 16]), code: "closed".into(), message: "too late".into() }
        }
        Kind::Await => Act::Await {},
        Kind::Lapse => Act::Lapse {},
        Kind::Close => Act::Close {},
        Kind::Forget => Act::Forget {},
    }
}

fn role_of(kind: Kind) -> Role {
    match kind {
        Kind::Answer | Kind::Appeal => Role::Project,
        Kind::Overturn | Kind::Confirm => Role::AppealReviewer,
        Kind::Add | Kind::Await | Kind::Lapse | Kind::Close | Kind::Forget | Kind::Booked | Kind::Declined => Role::Bot,
        _ => Role::Handler,
    }
}

/// Does a kind of act at a time so late that every clock has run out.
fn go(case: &mut Case, kinds: &[Kind]) {
    for kind in kinds {
        let now = case.due().map_or(NOW, |due| due.at);
        case.act(act(*kind), &who(role_of(*kind)), now, &settings()).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

fn in_state(state: State) -> Case {
    use Kind::{Answer, Appeal, Clear, Close, Confirm, Lapse, Overturn, Uphold};
    let path: &[Kind] = match state {
        State::Open => &[],
        State::ToDecide => &[Answer],
        State::Upheld => &[Answer, Uphold],
        State::Appealed => &[Answer, Uphold, Appeal],
        State::Cleared => &[Clear],
        State::Overturned => &[Answer, Uphold, Appeal, Overturn],
        State::Confirmed => &[Answer, Uphold, Appeal, Confirm],
        State::Lapsed => &[Answer, Lapse],
        State::Closed => &[Answer, Uphold, Close],
    };
    let mut case = opened(1);
    go(&mut case, path);
    assert_eq!(case.state(), state);
    case
}

#[test]
fn every_cell_of_the_matrix_is_what_the_machine_does() {
    let mut taken = 0;
    for state in State::ALL {
        for kind in Kind::ALL {
            for role in Role::ALL {
                let mut case = in_state(*state);
                if *kind == Kind::Pay && state.is_for_the_project() {
                    go(&mut case, &[Kind::Owe]);
                }
                if matches!(kind, Kind::Booked | Kind::Declined) && state.is_for_the_project() {
                    go(&mut case, &[Kind::Refund]);
                }
                let (before, late) = (case.clone(), NOW.plus(1_000 * DAY));
                // A reviewer of its own, who did nothing before.
                let fresh = if *role == Role::AppealReviewer { called("rosa", *role) } else { who(*role) };
                let done = case.act(act(*kind), &fresh, late, &settings()).map(|_| ());
                assert_eq!(done.is_ok(), allows(*kind, *role, *state), "{role} {kind} in {state}: {done:?}");
                match done {
                    Ok(()) => {
                        taken += 1;
                        let again = Case::read(case.events().iter().map(|event| event.bytes()));
                        assert_eq!(again, Ok(case), "{kind}: it reads as it was written");
                    }
                    Err(_) => assert_eq!(case, before, "{role} {kind} in {state}: nothing was changed"),
                }
            }
        }
    }
    assert_eq!(taken, 65, "cells that the table has");
}

#[test]
fn the_page_shows_the_matrix() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/decisions/0060-a-case-for-each-flag-that-stops.md");
    let page = std::fs::read_to_string(path).expect("the page");
    assert!(page.contains(&markdown()), "the page should have\n{}", markdown());
}

#[test]
fn flagged_answered_upheld_appealed_overturned_and_paid() {
    let mut case = opened(1);
    let due = case.due().expect("a deadline");
    assert_eq!((due.party, due.at), (Party::Project, NOW.plus(10 * DAY)));
    let notice = case.notice();
    assert_eq!((notice.seen[0].rule.as_str(), notice.seen[0].band.as_str()), ("political/vote-for", "high"));
    assert!(notice.next.contains("the project may answer until"), "{}", notice.next);
    // Nobody is judged before they could speak.
    let early = case.act(act(Kind::Uphold), &who(Role::Handler), NOW, &settings()).map(|_| ());
    assert_eq!(early, Err(Refused::NotNow { kind: Kind::Uphold, state: State::Open, next: Party::Project }));
    let stranger = case.act(act(Kind::Answer), &called("sub-b", Role::Project), NOW, &settings()).map(|_| ());
    assert_eq!(stranger, Err(Refused::Stranger { who: "sub-b".into() }));
    let silent = Act::Answer { text: "  ".into(), brought_by: None };
    assert_eq!(
        case.act(silent, &who(Role::Project), NOW, &settings()).map(|_| ()),
        Err(Refused::NoReason { kind: Kind::Answer })
    );
    go(&mut case, &[Kind::Answer]);
    assert!(case.has_answered());
    let (_, effect) = case.act(act(Kind::Uphold), &who(Role::Handler), NOW, &settings()).expect("it was heard");
    assert!(matches!(effect, Some(Effect::Stop { subject, .. }) if subject == PROJECT));
    go(&mut case, &[Kind::Appeal]);
    // Whoever decided does not decide again, whatever they call themselves.
    let same = case.act(act(Kind::Confirm), &called("hanna", Role::AppealReviewer), NOW, &settings()).map(|_| ());
    assert_eq!(same, Err(Refused::TookPart { who: "hanna".into() }));
    let (_, effect) =
        case.act(act(Kind::Overturn), &who(Role::AppealReviewer), NOW, &settings()).expect("petra is new");
    assert_eq!(effect, Some(Effect::Lift { subject: PROJECT.into() }));
    assert_eq!(
        case.act(act(Kind::Pay), &who(Role::Handler), NOW, &settings()).map(|_| ()),
        Err(Refused::Content("nothing is owed"))
    );
    go(&mut case, &[Kind::Owe]);
    assert!(case.notice().next.contains("the owner owes"), "{}", case.notice().next);
    let twice = case.act(act(Kind::Owe), &who(Role::Handler), NOW, &settings()).map(|_| ());
    assert!(matches!(twice, Err(Refused::Content(_))), "{twice:?}");
    go(&mut case, &[Kind::Pay]);
    assert_eq!((case.owed().0.len(), case.owed().1), (1, true));
    assert_eq!(case.notice().decisions, ["because", "because"]);
}

#[test]
fn silence_of_the_project_gives_the_owner_the_word_and_silence_of_the_owner_ends_it_for_the_project() {
    let mut case = opened(1);
    let early = NOW.plus(10 * DAY - 1);
    assert_eq!(case.tick(early), None);
    let until = NOW.plus(10 * DAY);
    let too_early = case.act(Act::Await {}, &who(Role::Bot), early, &settings()).map(|_| ());
    assert_eq!(too_early, Err(Refused::TooEarly { kind: Kind::Await, until }));
    let (act, actor) = case.tick(until).expect("the project's time is over");
    case.act(act, &actor, until, &settings()).expect("the clock");
    assert_eq!(
        (case.state(), case.due().map(|due| (due.party, due.at))),
        (State::ToDecide, Some((Party::Owner, until.plus(20 * DAY))))
    );
    // It may still be heard; that takes no time from the owner, and gives none.
    let due = case.due();
    case.act(self::act(Kind::Answer), &who(Role::Project), until.plus(DAY), &settings()).expect("better late");
    assert_eq!((case.state(), case.due()), (State::ToDecide, due));
    let late = until.plus(20 * DAY);
    let (act, actor) = case.tick(late).expect("the owner's time is over");
    let (_, effect) = case.act(act, &actor, late, &settings()).expect("the clock");
    assert_eq!(effect, Some(Effect::Lift { subject: PROJECT.into() }));
    assert_eq!((case.state(), case.due(), case.tick(late.plus(999 * DAY))), (State::Lapsed, None, None));
    // An appeal that nobody decides, too; one that nobody makes does not.
    for (path, end, lifts) in [
        (&[Kind::Answer, Kind::Uphold, Kind::Appeal][..], State::Lapsed, true),
        (&[Kind::Answer, Kind::Uphold], State::Closed, false),
    ] {
        let mut case = opened(2);
        go(&mut case, path);
        let at = case.due().expect("a deadline").at;
        let (act, actor) = case.tick(at).expect("its time is over");
        let (_, effect) = case.act(act, &actor, at, &settings()).expect("the clock");
        assert_eq!((effect.is_some(), case.state()), (lifts, end));
    }
}

#[test]
fn an_operator_opens_one_with_a_reason() {
    let open = |role, reason: &str| {
        let by = (&who(role), reason.to_owned());
        Case::open(CaseId([9; 16]), (PROJECT.into(), seen(FilterAction::Log)), None, by, NOW, &settings()).map(|_| ())
    };
    assert_eq!(open(Role::Handler, "a complaint came"), Ok(()));
    assert_eq!(open(Role::Handler, " "), Err(Refused::NoReason { kind: Kind::Open }));
    for role in [Role::Project, Role::AppealReviewer] {
        assert!(matches!(open(role, "x"), Err(Refused::NotYours { .. })));
    }
}

#[test]
fn a_log_that_was_changed_is_found() {
    let mut case = in_state(State::Overturned);
    go(&mut case, &[Kind::Owe, Kind::Pay]);
    let log: Vec<Vec<u8>> = case.events().iter().map(|event| event.bytes().to_vec()).collect();
    let read = |log: &[Vec<u8>]| Case::read(log.iter().map(Vec::as_slice));
    assert_eq!(read(&log), Ok(case.clone()));
    assert_eq!(read(&[]), Err(Broken::NoBeginning));
    for n in 0..log.len() {
        for (from, to) in [("because", "Because"), ("hanna", "petra"), ("sub-a", "sub-b"), (":5,", ":4,")] {
            let text = String::from_utf8(log[n].clone()).expect("JSON");
            if !text.contains(from) || n + 1 == log.len() {
                continue;
            }
            let mut changed = log.clone();
            changed[n] = text.replace(from, to).into_bytes();
            assert!(read(&changed).is_err(), "event {} with {to}", n + 1);
        }
        if n + 1 < log.len() {
            let mut missing = log.clone();
            missing.remove(n);
            assert!(read(&missing).is_err(), "without event {}", n + 1);
        }
    }
    // A step that the rules do not have, in a log that is linked as it should be.
    let mut skipped = opened(1);
    let other = in_state(State::ToDecide);
    go(&mut skipped, &[Kind::Remark]);
    let forged = [skipped.events()[0].bytes().to_vec(), other.events()[1].bytes().to_vec()];
    assert!(read(&forged).is_ok(), "the same first event");
    // The end can be cut off unseen: whoever kept the newest link can show it.
    let cut = read(&log[..3]).expect("it is a log");
    assert_ne!(cut.link(), case.link());
}

#[test]
fn talk_cannot_stand_in_the_way_of_a_decision_and_names_and_texts_are_bounded() {
    let mut case = opened(1);
    let mut much = |kind, most: usize| {
        let mut done = 0;
        while case.act(act(kind), &who(role_of(kind)), NOW, &settings()).is_ok() {
            done += 1;
        }
        assert_eq!(done, most, "{kind}");
        assert!(matches!(case.act(act(kind), &who(role_of(kind)), NOW, &settings()), Err(Refused::TooMuch { .. })));
    };
    much(Kind::Add, limit::SEEN_MAX - 1);
    much(Kind::Remark, limit::REMARKS_MAX);
    much(Kind::Answer, limit::ANSWERS_MAX);
    assert_eq!(case.seen().len(), limit::SEEN_MAX);
    go(&mut case, &[Kind::Uphold, Kind::Appeal, Kind::Overturn, Kind::Forget]);
    for n in 0..limit::OWED_MAX {
        let owe = Act::Owe { receipt: Digest::of(&n.to_be_bytes()), amount: Amount::from_ucr(1), reason: reason() };
        case.act(owe, &who(Role::Handler), NOW, &settings()).expect("a receipt");
    }
    assert!(matches!(case.act(act(Kind::Owe), &who(Role::Handler), NOW, &settings()), Err(Refused::TooMuch { .. })));
    let mut case = in_state(State::Cleared);
    let long = Act::Remark { text: "x".repeat(limit::TEXT_BYTES_MAX + 1), salt: None };
    assert!(matches!(case.act(long, &who(Role::Handler), NOW, &settings()), Err(Refused::TooMuch { .. })));
    let nameless = case.act(act(Kind::Remark), &called(" ", Role::Handler), NOW, &settings()).map(|_| ());
    assert_eq!(nameless, Err(Refused::Content("a name is missing")));
    assert!(matches!(
        case.act(act(Kind::Remark), &called(&"x".repeat(limit::NAME_BYTES_MAX + 1), Role::Handler), NOW, &settings()),
        Err(Refused::TooMuch { .. })
    ));
    let nothing = Act::Owe { receipt: Digest::of(b"z"), amount: Amount::ZERO, reason: reason() };
    let nothing = case.act(nothing, &who(Role::Handler), NOW, &settings()).map(|_| ());
    assert_eq!(nothing, Err(Refused::Content("what is owed is more than nothing")));
}

#[test]
fn statistics_name_nobody() {
    let mut cleared = opened(3);
    cleared.act(act(Kind::Clear), &who(Role::Handler), NOW.plus(50), &settings()).expect("clear");
    let cases =
        [in_state(State::Overturned), in_state(State::Lapsed), in_state(State::Open), in_state(State::Closed), cleared];
    let statistics = Statistics::of(&cases);
    let counts = &statistics.categories["political_persuasion"];
    assert_eq!((counts.opened, counts.undecided, counts.upheld, counts.for_the_project), (5, 1, 1, 3));
    assert_eq!((counts.appealed, counts.overturned, counts.lapsed), (1, 1, 1));
    assert!(counts.decided_after_s.is_some_and(|seconds| seconds >= 50));
    let text = serde_json::to_string(&statistics).expect("JSON");
    assert!(!text.contains(PROJECT) && !text.contains("hanna"), "{text}");
}

#[test]
fn the_page_of_notices_shows_who_hears_of_what_in_a_case() {
    use comity_access::case::notices::{TABLE, markdown, notices};
    let page = include_str!("../../../docs/operating/notices.md");
    assert!(page.contains(&markdown()), "the page should have\n{}", markdown());
    // Each row says something, and what is in none says nothing; nobody's words are in it but the owner's own to the project.
    for kind in Kind::ALL {
        let mut case = match kind {
            Kind::Open | Kind::Add | Kind::Answer | Kind::Remark | Kind::Clear | Kind::Await => in_state(State::Open),
            Kind::Uphold | Kind::Forget => in_state(State::ToDecide),
            Kind::Lapse => in_state(State::Appealed),
            Kind::Appeal | Kind::Close => in_state(State::Upheld),
            Kind::Overturn | Kind::Confirm => in_state(State::Appealed),
            Kind::Owe | Kind::Pay | Kind::Refund | Kind::Booked | Kind::Declined => in_state(State::Lapsed),
        };
        if matches!(kind, Kind::Booked | Kind::Declined) {
            go(&mut case, &[Kind::Refund]);
        }
        if *kind == Kind::Pay {
            go(&mut case, &[Kind::Owe]);
        }
        if *kind != Kind::Open {
            go(&mut case, &[*kind]);
        }
        let said = notices(&case);
        let is_told = TABLE.iter().any(|row| row.kind == *kind);
        assert_eq!(!said.is_empty(), is_told, "{kind}");
        for notice in said {
            let text = format!("{} {} {}", notice.title, notice.text, notice.command);
            assert!(!text.contains("Something happened"), "{kind}: {text}");
            assert!(!text.contains("it is a study") && !text.contains("a note") && !text.contains("because"), "{text}");
            let to_project = notice.to.iter().any(|to| !to.persons.is_empty());
            assert!(to_project || notice.reason.is_none(), "{kind}: the owner's side reads it in the case");
            assert!(!to_project || !notice.text.contains("hanna") && !notice.text.contains("petra"), "{text}");
            assert_eq!(notice.kind.as_str(), format!("case-{kind}"));
        }
    }
}
