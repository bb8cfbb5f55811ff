//! Who is told what.

use std::collections::BTreeSet;

use comity_access::notice::{About, Notice, TABLE, To, Topic, limit, markdown, notices, signature_wanted, soon};
use comity_access::{Act, Actor, Due, Kind, Role, State, allows};

use crate::story::{DAY, NOW, Story, who};

/// `applicant:sub-a; operator` of what was said.
fn told(notices: &[Notice]) -> String {
    let to = |to: &To| match to.persons.as_slice() {
        [] => to.role.to_string(),
        persons => format!("{}:{}", to.role, persons.join("+")),
    };
    let side = |notice: &Notice| notice.to.iter().map(to).collect::<Vec<_>>().join(", ");
    notices.iter().map(side).collect::<Vec<_>>().join("; ")
}

fn stands(notice: &Notice) -> (State, Option<Due>) {
    match notice.about {
        About::Application { state, due, .. } => (state, due),
        About::Case { .. } => panic!("it is about an application: {notice:?}"),
    }
}

/// Lines of `kind role -> who is told`; `clock` lets the time run out.
fn check(settings: &str, lines: &str) {
    let mut story = Story::begin(settings);
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (what, expected) = line.split_once("->").expect("an arrow");
        let said = match what.split_whitespace().collect::<Vec<_>>()[..] {
            ["clock"] => story.runs_out(),
            [kind, role] => {
                let kind = *Kind::ALL.iter().find(|known| known.as_str() == kind).expect("a kind");
                let role = *Role::ALL.iter().find(|known| known.as_str() == role).expect("a role");
                story.does(kind, role)
            }
            _ => panic!("{line}"),
        };
        assert_eq!(told(&said), expected.trim(), "{line}");
        let after = story.app.state();
        assert!(said.iter().all(|notice| stands(notice) == (after, story.app.due())), "{line}");
    }
}

#[test]
fn each_side_hears_what_concerns_it_from_the_draft_to_the_end_of_the_grant() {
    check(
        "",
        "
        save-draft applicant       ->
        attach member              ->
        submit applicant           -> operator
        sign signatory             -> applicant:sub-a; operator
        return operator            -> applicant:sub-a
        answer applicant           -> operator
        request-review operator    -> reviewer:rita
        reveal applicant           -> operator, reviewer:rita
        remark applicant           -> operator, reviewer:rita
        remark operator            -> applicant:sub-a
        remark reviewer            -> operator
        review reviewer            -> operator
        clock                      -> applicant:sub-a; operator, reviewer:rita
        request-decision operator  -> decider:dora+dirk
        vote decider               -> operator
        clock                      -> applicant:sub-a; operator, reviewer:rita, decider:dirk+dora
        approve operator           -> applicant:sub-a; operator
        remark operator            -> applicant:sub-a
        clock                      -> applicant:sub-a
        ",
    );
    check(
        "",
        "
        submit applicant           -> operator
        approve decider            -> applicant:sub-a; operator
        revoke decider             -> applicant:sub-a; operator
        appeal applicant           -> appeal-reviewer, operator
        remark applicant           -> operator, appeal-reviewer
        clock                      -> applicant:sub-a; operator, appeal-reviewer
        declare-conflict appeal-reviewer -> operator
        withdraw applicant         -> operator, appeal-reviewer
        ",
    );
    check(
        "",
        "
        submit applicant           -> operator
        reject decider             -> applicant:sub-a; operator
        appeal applicant           -> appeal-reviewer, operator
        dismiss appeal-reviewer    -> applicant:sub-a; operator
        clock                      -> applicant:sub-a
        ",
    );
    check(
        r#"when_silent = { then = "escalate", to = "dean" }"#,
        "
        submit applicant           -> operator
        clock                      -> applicant:sub-a; decider:dean, operator
        clock                      -> applicant:sub-a; operator, decider:dean
        reject operator            -> applicant:sub-a; operator
        ",
    );
    // The owner hears nothing of what was never handed in.
    check("", "clock -> applicant:sub-a");
    check("", "withdraw applicant ->");
}

#[test]
fn who_stepped_back_is_not_asked_again() {
    check(
        "",
        "
        submit applicant           -> operator
        request-decision operator  -> decider:dora+dirk
        declare-conflict decider   -> operator
        clock                      -> applicant:sub-a; operator, decider:dirk
        ",
    );
}

/// Each cell of the matrix is played, with a canary in every word that is not said to whoever reads the notice.
#[test]
fn no_notice_says_what_was_not_said_to_its_reader() {
    let mut kinds = BTreeSet::new();
    let mut quoted = BTreeSet::new();
    for state in State::ALL {
        for kind in Kind::ALL.iter().filter(|kind| !matches!(kind, Kind::Open | Kind::CopyAsNew)) {
            for role in Role::ALL.iter().filter(|role| allows(*kind, **role, *state)) {
                let mut story = Story::at(*state);
                if *role == Role::Bot {
                    story.now = story.app.due().expect("a clock runs").at;
                }
                if (*kind, *role) == (Kind::Revoke, Role::Bot) {
                    continue;
                }
                for notice in story.does(*kind, *role) {
                    let (what, json) =
                        (format!("{kind} by {role} in {state}"), String::from_utf8(notice.to_json()).unwrap());
                    assert!(!json.contains("canary"), "{what}: {json}");
                    let to_applicant = notice.to.iter().all(|to| to.role == Role::Applicant);
                    let to_owner = notice.to.iter().all(|to| to.role != Role::Applicant);
                    assert!(to_applicant != to_owner, "{what}: the two sides read one text");
                    assert!(to_applicant || (notice.reason.is_none() && !json.contains("spoken")), "{what}: {json}");
                    assert!(!notice.text.contains("spoken") && !notice.title.contains("spoken"), "{what}");
                    for name in ["rita", "dora", "olaf", "petra", "dirk"] {
                        assert!(!to_applicant || !json.contains(name), "{what}: a person of the owner's side: {json}");
                    }
                    assert!(json.len() < limit::NOTICE_BYTES_MAX);
                    assert_eq!(Notice::read(json.as_bytes()).expect("it reads"), notice);
                    kinds.insert(*kind);
                    if notice.reason == Some(format!("spoken: {kind}")) {
                        quoted.insert(*kind);
                    }
                }
            }
        }
    }
    let table: BTreeSet<Kind> = TABLE.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, table, "each row of the table was seen");
    let spoken = [Kind::Return, Kind::Approve, Kind::Reject, Kind::Revoke, Kind::Reinstate, Kind::Dismiss, Kind::Close];
    assert_eq!(quoted, BTreeSet::from(spoken), "a decision without its reason is none");
}

#[test]
fn a_notice_says_what_happened_whose_move_it_is_until_when_and_what_to_type() {
    let mut story = Story::at(State::Submitted);
    let [rejected, owners] = &story.does(Kind::Reject, Role::Decider)[..] else { panic!("two") };
    let id = story.app.id();
    assert_eq!(rejected.title, format!("Your application was rejected ({id})"));
    assert_eq!(
        rejected.text,
        format!(
            "Your application was rejected.\nYou can appeal to somebody who did not take part.\nApplication {id}.\n\
             The next move is yours, until 2027-02-14 08:02 UTC.\nType: comity access appeal {id} --reason \"...\""
        )
    );
    assert_eq!(rejected.reason.as_deref(), Some("spoken: reject"));
    assert_eq!(owners.title, format!("An application was rejected ({id})"));
    assert_eq!(
        owners.text,
        format!(
            "An application was rejected.\nBy dora (decider).\nApplication {id} of sub-a.\n\
             The next move is the applicant's, until 2027-02-14 08:02 UTC.\nType: comity requests show --home HOME {id}"
        )
    );
    let granted = &Story::at(State::Submitted).does(Kind::Approve, Role::Decider)[0];
    assert!(granted.text.contains("access to one model at tier t2 until 2027-04-15 08:02 UTC."), "{}", granted.text);
    assert!(granted.text.contains("No move is due. Access ends on 2027-04-15 08:02 UTC."), "{}", granted.text);
    let notice = Act::Revoke { reason: "spoken".into(), effective: story.now.plus(9 * DAY) };
    let mut story = Story::at(State::Approved);
    let said = story.done(notice, &who(Role::Decider));
    assert!(said[0].text.starts_with("Your access will be taken back.\nIt ends on 2027-01-24"), "{}", said[0].text);
    story.now = story.app.due().unwrap().at;
    let said = story.runs_out();
    assert!(said[0].text.starts_with("Your access was taken back."), "{}", said[0].text);
    for state in [State::Draft, State::Returned, State::Submitted] {
        let mut story = Story::at(state);
        let mut said = story.runs_out();
        while story.app.state() != State::Lapsed {
            said = story.runs_out();
        }
        let blames = [
            ("Your draft has", State::Draft),
            ("question was not answered", State::Returned),
            ("not your doing", State::Submitted),
        ];
        for (words, blamed) in blames {
            assert_eq!(said[0].text.contains(words), state == blamed, "{state}: {}", said[0].text);
        }
        assert!(said[0].text.contains("No move is left"), "{}", said[0].text);
    }
}

#[test]
fn the_same_event_is_said_under_the_same_ids_and_no_two_share_one() {
    let mut story = Story::at(State::Submitted);
    let early = story.does(Kind::Sign, Role::Signatory);
    let event = story.last().clone();
    story.does(Kind::RequestReview, Role::Operator);
    story.does(Kind::Reject, Role::Decider);
    assert_eq!(notices(&event, &story.app), early, "later events change nothing");
    let ids: Vec<_> =
        story.app.events().iter().flat_map(|event| notices(event, &story.app)).map(|said| said.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let sorted = early[0].id.to_string();
    assert_eq!(sorted.len(), "notice-".len() + 32);
    assert_eq!(sorted.parse(), Ok(early[0].id));
    assert!(early[0].id < story.said()[0].id, "ids of later seconds are greater");
    assert_eq!(u64::from_str_radix(&sorted[7..19], 16).unwrap() / 1_000, early[0].at.seconds());
}

#[test]
fn an_institution_is_asked_for_a_signature_where_the_form_wants_one_until_it_is_there() {
    let mut story = Story::begin("signatory = true");
    let asked = |story: &Story| signature_wanted(story.last(), &story.app, &story.form.settings);
    assert_eq!(asked(&story), None, "a draft is nobody's business");
    story.does(Kind::Submit, Role::Applicant);
    assert_eq!(asked(&story), None, "nobody knows yet whose institution it is");
    story.does(Kind::Return, Role::Operator);
    story.does(Kind::Answer, Role::Applicant);
    assert_eq!(asked(&story), None, "nor after an answer");
    let owners = story.does(Kind::Reveal, Role::Applicant);
    let first = asked(&story).expect("it is asked");
    assert_eq!(told(std::slice::from_ref(&first)), "signatory");
    assert!(first.title.starts_with("An application waits for your institution's signature"), "{}", first.title);
    assert!(first.text.contains("The next move is the owner's"), "{}", first.text);
    assert!(first.reason.is_none() && !String::from_utf8(first.to_json()).unwrap().contains("canary"));
    assert!(owners.iter().all(|notice| notice.id != first.id));
    let mut free = Story::begin("");
    free.does(Kind::Submit, Role::Applicant);
    free.does(Kind::Reveal, Role::Applicant);
    assert_eq!(asked(&free), None);
    story.does(Kind::Return, Role::Operator);
    assert_eq!(asked(&story), None);
    story.does(Kind::Answer, Role::Applicant);
    assert!(asked(&story).is_some_and(|again| again.id != first.id));
    story.does(Kind::Sign, Role::Signatory);
    story.does(Kind::Return, Role::Operator);
    assert_eq!(asked(&story), None, "it is signed");
    story.does(Kind::Answer, Role::Applicant);
    assert!(asked(&story).is_some(), "it was something else that they signed");
}

#[test]
fn before_a_clock_runs_out_those_whose_it_is_hear_of_it_once() {
    let cases = [
        (State::Draft, "applicant:sub-a", "Your draft ends soon"),
        (State::Submitted, "operator", "An answer is due soon"),
        (State::Returned, "applicant:sub-a", "Your answer is due soon"),
        (State::UnderReview, "operator, reviewer:rita", "An answer is due soon"),
        (State::DecisionAsked, "operator, reviewer:rita, decider:dirk+dora", "An answer is due soon"),
        (State::Approved, "applicant:sub-a", "Your access ends soon"),
        (State::Rejected, "applicant:sub-a", "The time to appeal ends soon"),
        (State::Revoked, "applicant:sub-a", "The time to appeal ends soon"),
        (State::Appealed, "appeal-reviewer", "An answer is due soon"),
    ];
    for (state, who, title) in cases {
        let story = Story::at(state);
        let due = story.app.due().expect("a clock runs").at;
        assert_eq!(soon(&story.app, due.minus(3 * DAY + 1)), None, "{state}: early");
        assert_eq!(soon(&story.app, due), None, "{state}: the clock itself speaks now");
        let said = soon(&story.app, due.minus(3 * DAY)).expect("it is near");
        assert_eq!(told(std::slice::from_ref(&said)), who, "{state}");
        assert!(said.title.starts_with(title), "{state}: {}", said.title);
        assert_eq!((said.kind, stands(&said)), (Topic::DueSoon, (state, story.app.due())));
        assert_eq!(soon(&story.app, due.minus(5)).expect("still").id, said.id, "{state}");
    }
    for state in State::ALL.iter().filter(|state| state.is_ended()) {
        assert_eq!(soon(&Story::at(*state).app, NOW.plus(400 * DAY)), None, "{state}");
    }
    // What was only said about an application does not begin its clock anew.
    let mut story = Story::at(State::Submitted);
    let due = story.app.due().unwrap().at;
    let before = soon(&story.app, due.minus(DAY)).unwrap().id;
    story.now = due.minus(DAY);
    story.does(Kind::Remark, Role::Applicant);
    assert_eq!(soon(&story.app, due.minus(5)).unwrap().id, before);
    story.runs_out();
    let next = story.app.due().unwrap().at;
    assert_ne!(soon(&story.app, next.minus(5)).unwrap().id, before, "a clock that began anew ends anew");
    // A clock of two days is announced after one.
    let mut story = Story::begin("answer_s = 172800");
    story.does(Kind::Submit, Role::Applicant);
    let due = story.app.due().unwrap().at;
    assert_eq!(soon(&story.app, due.minus(DAY + 1)), None);
    assert!(soon(&story.app, due.minus(DAY)).is_some());
}

#[test]
fn no_id_and_no_reason_breaks_a_line_or_turns_the_writing() {
    let rude = "eve\r\nBcc: evil@example.org\u{1b}[2J\u{202e}\u{2028}x";
    let mut story = Story::at(State::Submitted);
    story.now = story.now.plus(1);
    let by = Actor { id: rude.into(), role: Role::Operator, organisation: None };
    let said = story.done(Act::Reject { reason: format!("one\r\ntwo {rude}") }, &by);
    for notice in &said {
        for text in [&notice.title, &notice.text, notice.reason.as_ref().unwrap_or(&notice.title)] {
            assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c)), "{text:?}");
        }
        assert!(!notice.title.contains('\n'));
    }
    assert!(said[0].reason.as_ref().unwrap().starts_with("one\ntwo eve"), "{said:?}");
    assert!(said[1].text.contains("By eve Bcc: evil@example.org[2Jx (operator).\n"), "{}", said[1].text);
}

#[test]
fn the_largest_notice_is_within_its_bound() {
    let mut story = Story::at(State::Submitted);
    // Sixteen of the longest names, of characters that JSON writes in six.
    let names =
        |letter: char| -> Vec<String> { (0..16).map(|n| format!("{letter}{n:02}{}", "\u{1}".repeat(125))).collect() };
    story.done(Act::RequestReview { reviewers: names('r') }, &who(Role::Operator));
    let said = story.done(Act::RequestDecision { deciders: names('d') }, &who(Role::Operator));
    assert_eq!(said[0].to[0].persons.len(), 16);
    let largest = story.runs_out().iter().map(|notice| notice.to_json().len()).max().unwrap();
    assert!((20_000..limit::NOTICE_BYTES_MAX).contains(&largest), "{largest}");
    let reason = "\\".repeat(comity_access::limit::TEXT_BYTES_MAX);
    let said = story.done(Act::Reject { reason }, &who(Role::Operator));
    assert!(said[0].to_json().len() < limit::NOTICE_BYTES_MAX);
    // One more, and whoever has the role is told.
    let mut story = Story::at(State::Submitted);
    story.done(Act::RequestReview { reviewers: names('r') }, &who(Role::Operator));
    story.done(Act::RequestReview { reviewers: vec!["rita".into()] }, &who(Role::Operator));
    assert_eq!(told(&story.runs_out()), "applicant:sub-a; operator, reviewer");
}

#[test]
fn the_page_shows_the_table() {
    let page = include_str!("../../../../docs/operating/notices.md");
    assert!(page.contains(&markdown()), "the page's table has to read:\n{}", markdown());
}

#[test]
fn the_example_of_the_spec_is_one_of_ours() {
    let chapter = include_str!("../../../../spec/12-notices.md");
    let blocks: Vec<&str> =
        chapter.split("```json Notice\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let value: serde_json::Value = serde_json::from_str(block).expect("JSON");
        let read = Notice::read(block.as_bytes()).expect("a notice");
        assert_eq!(serde_json::to_value(&read).unwrap(), value, "each field, and no other");
    }
    // Another implementation may say more.
    let mut value: serde_json::Value =
        serde_json::from_slice(&Story::at(State::Submitted).said()[0].to_json()).unwrap();
    value["more"] = true.into();
    assert!(Notice::read(value.to_string().as_bytes()).is_ok());
}
