//! The rules of applications: the matrix cell by cell, stories, and random acts.

use comity_access::{
    Act, Actor, Answers, Application, ApplicationId, Broken, Form, Kind, MATRIX, Party, Refused, Role, Sealed, Shown,
    State, Terms, allows, commitment, limit, markdown,
};
use comity_wire::object::Tier;
use comity_wire::{Digest, ModelId, Timestamp};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000);
const DAY: u64 = 86_400;
const FORM: &str = r#"
title = "Access"
[[field]]
id = "purpose"
label = "What for?"
type = "text"
required = true
length_max = 200
[[field]]
id = "agreed"
label = "I agree"
type = "checkbox"
required = true
[[field]]
id = "until"
label = "Until"
type = "date"
[[field]]
id = "area"
label = "Area"
type = "choice"
choices = ["biology", "politics"]
[[field]]
id = "country"
label = "Country"
type = "country"
"#;

fn form(settings: &str) -> Form {
    Form::read(&format!("{FORM}\n[settings]\n{settings}")).expect("a form")
}

fn model() -> ModelId {
    "org-aaaqeayeaudaocajbifqydiob4/llama".parse().expect("a model")
}

fn answers() -> Answers {
    [("purpose", "bias"), ("agreed", "yes")].map(|(id, text)| (id.to_owned(), text.to_owned())).into()
}

fn salt() -> Digest {
    Digest::of(b"salt")
}

fn sealed() -> Sealed {
    Sealed {
        organisation: commitment(Shown::Organisation, &salt(), "Uni Jena"),
        person: commitment(Shown::Person, &salt(), "Ada"),
    }
}

fn who(role: Role) -> Actor {
    let id = match role {
        Role::Applicant | Role::Member => "sub-a",
        Role::Signatory => "sig",
        Role::Reviewer => "rita",
        Role::Decider => "dora",
        Role::AppealReviewer => "petra",
        Role::Operator => "olaf",
        Role::Bot => "clock",
    };
    let organisation = if role == Role::Signatory { "Uni Jena" } else { "Lab" };
    Actor { id: id.into(), role, organisation: Some(organisation.into()) }
}

fn called(id: &str, role: Role) -> Actor {
    Actor { id: id.into(), ..who(role) }
}

fn terms(now: Timestamp) -> Terms {
    Terms { models: vec![model()], tier: Tier::Vetted, not_after: now.plus(90 * DAY) }
}

fn sample(kind: Kind, now: Timestamp) -> Act {
    let reason = || String::from("because");
    match kind {
        Kind::Open => Act::Open {
            subject: "sub-a".into(),
            form: Digest::ZERO,
            copy_of: None,
            models: vec![model()],
            answers: answers(),
        },
        Kind::SaveDraft => Act::SaveDraft { answers: answers() },
        Kind::ChangeModels => Act::ChangeModels { models: vec![model()] },
        Kind::Attach => Act::Attach { name: "letter.pdf".into(), digest: Digest::of(b"pdf"), bytes: 3 },
        Kind::Submit => Act::Submit { sealed: sealed() },
        Kind::Reveal => Act::Reveal { what: Shown::Organisation, value: "Uni Jena".into(), salt: salt() },
        Kind::Sign => Act::Sign { text: reason() },
        Kind::Return => Act::Return { reason: reason() },
        Kind::Answer => Act::Answer { answers: answers(), text: reason() },
        Kind::RequestReview => Act::RequestReview { reviewers: vec!["rita".into()] },
        Kind::Review => Act::Review { favour: true, reason: reason() },
        Kind::DeclareConflict => Act::DeclareConflict { reason: reason() },
        Kind::RequestDecision => Act::RequestDecision { deciders: vec!["dora".into()] },
        Kind::Vote => Act::Vote { favour: true, reason: reason() },
        Kind::Approve => Act::Approve { terms: terms(now), reason: reason() },
        Kind::Reject => Act::Reject { reason: reason() },
        Kind::Remark => Act::Remark { text: reason(), public: true },
        Kind::Revoke => Act::Revoke { reason: reason(), effective: now },
        Kind::Withdraw => Act::Withdraw { reason: String::new() },
        Kind::Appeal => Act::Appeal { reason: reason() },
        Kind::Reinstate => Act::Reinstate { terms: terms(now), reason: reason() },
        Kind::Dismiss => Act::Dismiss { reason: reason() },
        Kind::Close => Act::Close { reason: reason() },
        Kind::Remind => Act::Remind {},
        Kind::Escalate => Act::Escalate { to: "dean".into() },
        Kind::Lapse => Act::Lapse {},
        Kind::Expire => Act::Expire {},
        Kind::CopyAsNew => unreachable!("a copy is another application"),
    }
}

/// A story under one form.
struct Story {
    form: Form,
    app: Application,
    now: Timestamp,
}

impl Story {
    fn begin(settings: &str) -> Self {
        let form = form(settings);
        let id = ApplicationId([7; 16]);
        let app = Application::open(id, &form, &who(Role::Applicant), vec![model()], answers(), NOW).expect("opened");
        Self { form, app, now: NOW }
    }

    fn act(&mut self, act: Act, who: &Actor) -> Result<State, Refused> {
        self.now = self.now.plus(1);
        self.app.act(act, who, &self.form, self.now)?;
        Ok(self.app.state())
    }

    fn by(&mut self, kind: Kind, who: &Actor) -> Result<State, Refused> {
        let act = sample(kind, self.now.plus(1));
        self.act(act, who)
    }

    fn does(&mut self, kind: Kind, role: Role) -> &mut Self {
        self.by(kind, &who(role)).unwrap_or_else(|refused| panic!("{kind} by {role}: {refused}"));
        self
    }

    /// Lets the clock run out, and gives what it brought.
    fn runs_out(&mut self) -> Kind {
        self.now = self.app.due().expect("a clock runs").at;
        let early = self.app.tick(self.now.minus(1), &self.form.settings);
        assert_eq!(early, None, "the clock brings nothing before its time");
        let (act, bot) = self.app.tick(self.now, &self.form.settings).expect("something is due");
        let kind = act.kind();
        self.app.act(act, &bot, &self.form, self.now).expect("what the clock brings is taken");
        kind
    }
}

fn at(state: State) -> Story {
    let mut story = Story::begin("");
    let path: &[(Kind, Role)] = match state {
        State::Draft => &[],
        State::Submitted => &[(Kind::Submit, Role::Applicant)],
        State::Returned => &[(Kind::Submit, Role::Applicant), (Kind::Return, Role::Operator)],
        State::UnderReview => &[(Kind::Submit, Role::Applicant), (Kind::RequestReview, Role::Operator)],
        State::DecisionAsked => &[
            (Kind::Submit, Role::Applicant),
            (Kind::RequestReview, Role::Operator),
            (Kind::RequestDecision, Role::Operator),
        ],
        State::Approved => &[(Kind::Submit, Role::Applicant), (Kind::Approve, Role::Decider)],
        State::Rejected => &[(Kind::Submit, Role::Applicant), (Kind::Reject, Role::Decider)],
        State::Revoked => {
            &[(Kind::Submit, Role::Applicant), (Kind::Approve, Role::Decider), (Kind::Revoke, Role::Decider)]
        }
        State::Appealed => {
            &[(Kind::Submit, Role::Applicant), (Kind::Reject, Role::Decider), (Kind::Appeal, Role::Applicant)]
        }
        State::Withdrawn => &[(Kind::Withdraw, Role::Applicant)],
        State::Closed => {
            &[(Kind::Submit, Role::Applicant), (Kind::Reject, Role::Decider), (Kind::Close, Role::Operator)]
        }
        State::Expired => &[(Kind::Submit, Role::Applicant), (Kind::Approve, Role::Decider)],
        State::Lapsed => &[],
    };
    for (kind, role) in path {
        story.does(*kind, *role);
    }
    if matches!(state, State::Expired | State::Lapsed) {
        story.runs_out();
    }
    assert_eq!(story.app.state(), state);
    story
}

#[test]
fn every_cell_of_the_matrix_is_what_the_machine_does() {
    let mut done = 0;
    for state in State::ALL {
        for kind in Kind::ALL {
            for role in Role::ALL {
                let mut story = at(*state);
                // Late enough for the clock's own acts.
                story.now = story.app.due().filter(|_| *role == Role::Bot).map_or(story.now, |due| due.at);
                if *kind == Kind::Sign && allows(Kind::Reveal, Role::Applicant, *state) {
                    // Nobody signs for an institution that they cannot know.
                    story.does(Kind::Reveal, Role::Applicant);
                }
                let outcome = if *kind == Kind::CopyAsNew {
                    let new = story.app.copy_as_new(ApplicationId([8; 16]), &story.form, &who(*role), story.now);
                    new.map(|new| assert_eq!(new.models(), story.app.models()))
                } else {
                    story.by(*kind, &who(*role)).map(drop)
                };
                let is_refused = matches!(outcome, Err(Refused::NotNow { .. } | Refused::NotYours { .. }));
                assert_eq!(is_refused, !allows(*kind, *role, *state), "{kind} by {role} in {state}: {outcome:?}");
                let no_notice = (*kind, *role) == (Kind::Revoke, Role::Bot);
                if !is_refused && !no_notice {
                    assert_eq!(outcome, Ok(()), "{kind} by {role} in {state}");
                    done += 1;
                }
            }
        }
    }
    let cells: usize = MATRIX.iter().map(|row| row.roles.len() * row.states.len()).sum();
    assert_eq!(done, cells - 1, "each cell was played, but for the bot's revocation, which has its own test");
}

#[test]
fn the_page_shows_the_matrix() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/access-matrix.md");
    let page = std::fs::read_to_string(path).expect("the page");
    assert!(page.contains(&markdown()), "the page's table has to read:\n{}", markdown());
}

#[test]
fn silence_means_what_the_form_says() {
    let check = |settings: &str, expected: &[Kind], ends: State| {
        let mut story = Story::begin(settings);
        story.does(Kind::Submit, Role::Applicant);
        assert_eq!(story.app.due().map(|due| due.party), Some(Party::Owner));
        for kind in expected {
            assert_eq!(story.runs_out(), *kind, "{settings}");
        }
        assert_eq!(story.app.state(), ends, "{settings}");
    };
    let approve = r#"when_silent = { then = "approve", tier = "t1", grant_s = 86400 }"#;
    check("", &[Kind::Remind, Kind::Remind], State::Submitted);
    check("", &[&[Kind::Remind; limit::REMINDERS_MAX][..], &[Kind::Lapse]].concat(), State::Lapsed);
    check(r#"when_silent = { then = "lapse" }"#, &[Kind::Lapse], State::Lapsed);
    check(r#"when_silent = { then = "escalate", to = "dean" }"#, &[Kind::Escalate, Kind::Remind], State::Submitted);
    check(approve, &[Kind::Approve, Kind::Expire], State::Expired);
    // Silence meets no other condition.
    check(&format!("{approve}\nsignatory = true"), &[Kind::Remind], State::Submitted);
    check(&format!("{approve}\nvotes_needed = 1"), &[Kind::Remind], State::Submitted);
    check(&format!("{approve}\nshown = [\"person\"]"), &[Kind::Remind], State::Submitted);
}

#[test]
fn a_question_stops_the_owners_clock_and_starts_the_applicants() {
    let mut story = at(State::Submitted);
    let owners = story.app.due().expect("a clock");
    story.does(Kind::RequestReview, Role::Operator).does(Kind::Review, Role::Reviewer);
    assert_eq!(story.app.due(), Some(owners), "a review does not buy the owner time");
    story.does(Kind::Return, Role::Reviewer);
    let theirs = story.app.due().expect("a clock");
    assert_eq!((theirs.party, theirs.at), (Party::Applicant, story.now.plus(30 * DAY)));
    story.does(Kind::SaveDraft, Role::Member);
    assert_eq!(story.app.due(), Some(theirs), "nor does a draft buy the applicant any");
    story.does(Kind::Answer, Role::Applicant);
    assert_eq!(story.app.due().map(|due| due.at), Some(story.now.plus(14 * DAY)));
    story.does(Kind::Return, Role::Operator);
    assert_eq!(story.runs_out(), Kind::Lapse);
}

#[test]
fn who_declared_a_conflict_decides_nothing() {
    let mut story = at(State::DecisionAsked);
    let dora = who(Role::Decider);
    assert_eq!(story.by(Kind::Vote, &dora), Ok(State::DecisionAsked));
    assert_eq!(story.app.votes_for(), 1);
    story.does(Kind::DeclareConflict, Role::Decider);
    assert_eq!(story.app.votes_for(), 0, "a voice given before does not count either");
    for kind in [Kind::Vote, Kind::Approve, Kind::Reject] {
        let refused = story.by(kind, &dora).expect_err("refused");
        assert!(matches!(refused, Refused::Conflict { why: "declared", .. }), "{refused}");
        assert_eq!(refused.next(), Party::Owner);
    }
    // The same person under another hat is the same person.
    assert!(matches!(story.by(Kind::Approve, &called("dora", Role::Operator)), Err(Refused::Conflict { .. })));
    assert_eq!(story.by(Kind::Approve, &called("dieter", Role::Decider)), Ok(State::Approved));
}

#[test]
fn nobody_decides_for_their_own_organisation() {
    let mut story = Story::begin("other_organisation = true");
    story.does(Kind::Submit, Role::Applicant);
    let own = Actor { organisation: Some("uni jena".into()), ..who(Role::Decider) };
    let unknown = Actor { organisation: None, ..who(Role::Decider) };
    let sealed = story.by(Kind::Approve, &own).expect_err("refused");
    assert_eq!(sealed.next(), Party::Applicant, "{sealed}");
    story.does(Kind::Reveal, Role::Applicant);
    assert!(matches!(story.by(Kind::Approve, &own), Err(Refused::Conflict { .. })));
    assert!(matches!(story.by(Kind::Reject, &own), Err(Refused::Conflict { .. })));
    assert_eq!(story.by(Kind::Approve, &unknown).map_err(|refused| refused.next()), Err(Party::Owner));
    story.does(Kind::Approve, Role::Decider);
}

#[test]
fn an_appeal_goes_to_somebody_who_took_no_part() {
    let mut story = at(State::Appealed);
    let refused = story.by(Kind::Reinstate, &called("dora", Role::AppealReviewer)).expect_err("refused");
    assert!(matches!(refused, Refused::TookPart { .. }), "{refused}");
    assert_eq!(story.by(Kind::Dismiss, &who(Role::AppealReviewer)), Ok(State::Rejected));
    story.does(Kind::Appeal, Role::Applicant);
    // Who has dismissed one took part in it.
    assert!(matches!(story.by(Kind::Reinstate, &who(Role::AppealReviewer)), Err(Refused::TookPart { .. })));
    assert_eq!(story.by(Kind::Reinstate, &called("paul", Role::AppealReviewer)), Ok(State::Approved));
    story.does(Kind::Revoke, Role::Operator).does(Kind::Appeal, Role::Applicant);
    assert_eq!(story.by(Kind::Dismiss, &called("pia", Role::AppealReviewer)), Ok(State::Revoked));
    let worn = story.by(Kind::Appeal, &who(Role::Applicant));
    assert!(matches!(worn, Err(Refused::TooMuch { what: "appeals", .. })), "{worn:?}");
    assert_eq!(story.runs_out(), Kind::Close);
}

#[test]
fn a_notice_of_revocation_ends_the_grant_when_it_says() {
    let mut story = at(State::Approved);
    let ends = story.now.plus(7 * DAY);
    let notice = |effective| Act::Revoke { reason: "moved".into(), effective };
    assert_eq!(story.act(notice(ends), &who(Role::Operator)), Ok(State::Approved));
    assert!(story.app.granted().is_some());
    // Given again, later: the earlier end is forgotten, in the clock too.
    let later = ends.plus(DAY);
    assert_eq!(story.act(notice(later), &who(Role::Operator)), Ok(State::Approved));
    assert_eq!(story.app.due().map(|due| due.at), Some(later));
    let early = story.by(Kind::Revoke, &who(Role::Bot));
    assert!(matches!(early, Err(Refused::TooEarly { .. })), "{early:?}");
    assert_eq!(story.runs_out(), Kind::Revoke);
    assert_eq!((story.app.state(), story.app.granted()), (State::Revoked, None));
}

#[test]
fn a_condition_names_who_can_meet_it() {
    let mut story = Story::begin("signatory = true\nvotes_needed = 1\nshown = [\"organisation\"]");
    story.does(Kind::Submit, Role::Applicant);
    let next = |story: &mut Story| story.by(Kind::Approve, &who(Role::Decider)).map_err(|refused| refused.next());
    assert_eq!(next(&mut story), Err(Party::Signatory));
    let signs = |story: &mut Story, organisation: Option<&str>| {
        let who = Actor { organisation: organisation.map(str::to_owned), ..who(Role::Signatory) };
        story.by(Kind::Sign, &who).map_err(|refused| refused.next())
    };
    // Not before it is known for whom, nor for another institution than one's own.
    assert_eq!(signs(&mut story, Some("Uni Jena")), Err(Party::Applicant));
    let other = Act::Reveal { what: Shown::Organisation, value: "Uni Bonn".into(), salt: salt() };
    assert!(matches!(story.act(other, &who(Role::Applicant)), Err(Refused::Content(_))), "not what was sealed");
    story.does(Kind::Reveal, Role::Applicant);
    assert_eq!(next(&mut story), Err(Party::Signatory));
    assert_eq!(signs(&mut story, None), Err(Party::Owner));
    assert_eq!(signs(&mut story, Some("Uni Bonn")), Err(Party::Signatory));
    assert_eq!(signs(&mut story, Some("uni jena ")), Ok(State::Submitted));
    assert_eq!(next(&mut story), Err(Party::Owner));
    story.does(Kind::RequestDecision, Role::Operator).does(Kind::Vote, Role::Decider);
    assert_eq!(next(&mut story), Ok(State::Approved));
}

#[test]
fn strangers_and_empty_reasons_are_refused() {
    let mut story = at(State::DecisionAsked);
    for (kind, role) in [(Kind::Review, Role::Reviewer), (Kind::Vote, Role::Decider), (Kind::Withdraw, Role::Applicant)]
    {
        let stranger = story.by(kind, &called("eve", role));
        assert!(matches!(stranger, Err(Refused::Stranger { .. })), "{kind}: {stranger:?}");
    }
    let blank = story.act(Act::Reject { reason: " \n".into() }, &who(Role::Decider));
    assert_eq!(blank, Err(Refused::NoReason { kind: Kind::Reject }));
    let more = Terms { models: vec!["org-aaaqeayeaudaocajbifqydiob4/other".parse().expect("a model")], ..terms(NOW) };
    let more = story.act(Act::Approve { terms: more, reason: "yes".into() }, &who(Role::Decider));
    assert!(matches!(more, Err(Refused::Content(_))), "{more:?}");
}

#[test]
fn a_form_asks_for_what_it_says() {
    let form = form("");
    let check = |field: &str, answer: &str, what: Option<&str>| {
        let mut filled = answers();
        filled.insert(field.into(), answer.into());
        let found = form.complete(&filled).err().map(|missing| missing[0].to_string());
        assert_eq!(found.as_deref(), what, "{field} = {answer}");
    };
    check("purpose", " ", Some("purpose is missing"));
    check("purpose", &"x".repeat(201), Some("purpose is too long"));
    check("agreed", "no", Some("agreed has to be agreed to"));
    check("until", "2027-02-30", Some("until is a date, YYYY-MM-DD"));
    check("until", "2027-02-28", None);
    check("area", "physics", Some("area is one of the choices"));
    check("area", "biology", None);
    check("country", "Germany", Some("country is a country, two capital letters"));
    check("country", "DE", None);
    check("other", "x", Some("other is no field of this form"));
    assert!(Form::read("title = \"x\"\nnot_a_key = 1").is_err());
    let escalates = |to: &str| {
        Form::read(&format!("title = \"x\"\n[settings]\nwhen_silent = {{ then = \"escalate\", to = \"{to}\" }}"))
    };
    assert!(escalates("dean").is_ok() && escalates("").is_err() && escalates(&"x".repeat(70_000)).is_err());
    assert!(escalates(&"x".repeat(limit::NAME_BYTES_MAX + 1)).is_err(), "a name that no event holds");
    assert!(Form::read(&format!("{FORM}{}", &FORM[FORM.find("[[").expect("a field")..])).is_err(), "fields stand once");
}

#[test]
fn a_rewritten_log_is_found() {
    let mut story = at(State::Appealed);
    story.does(Kind::Dismiss, Role::AppealReviewer);
    let log: Vec<Vec<u8>> = story.app.events().iter().map(|event| event.bytes().to_vec()).collect();
    let read = |log: &[Vec<u8>]| Application::read(log.iter().map(Vec::as_slice));
    assert_eq!(read(&log).as_ref(), Ok(&story.app));
    assert_eq!(read(&[]), Err(Broken::NoBeginning));
    let edited = |n: usize, from: &str, to: &str| {
        let mut log = log.clone();
        let text = String::from_utf8(log[n].clone()).expect("text");
        assert!(text.contains(from), "{text}");
        log[n] = text.replace(from, to).into_bytes();
        read(&log)
    };
    assert_eq!(edited(2, "because", "no reason"), Err(Broken::Link { n: 4 }), "a reason");
    assert_eq!(edited(2, "dora", "olaf"), Err(Broken::Link { n: 4 }), "an author");
    assert_eq!(
        edited(2, "{\"application\"", "{ \"application\""),
        Err(Broken::Form { n: 3 }),
        "the same, in other bytes"
    );
    assert_eq!(edited(4, "\"state\":\"rejected\"", "\"state\":\"approved\""), Err(Broken::Step { n: 5 }), "an outcome");
    assert_eq!(edited(4, "appeal-reviewer", "applicant"), Err(Broken::Step { n: 5 }), "a role");
    let mut gap = log.clone();
    gap.remove(2);
    assert_eq!(read(&gap), Err(Broken::Link { n: 3 }));
    // A log that was cut is a log; whoever kept its head knows better.
    let cut = read(&log[..4]).expect("a shorter log");
    assert!(story.app.has(cut.head()) && !cut.has(story.app.head()));
}

/// Everything that has to hold whatever happened.
fn holds(app: &Application) {
    let bytes = app.events().iter().map(|event| event.bytes());
    assert_eq!(Application::read(bytes).as_ref(), Ok(app), "the log says all there is");
    assert_eq!(app.granted().is_some(), app.state() == State::Approved);
    assert_eq!(app.due().is_none(), app.state().is_ended(), "a clock runs exactly while something can be due");
    if let Some(due) = app.due() {
        assert_eq!(due.party == Party::Nobody, app.state() == State::Approved);
    }
    assert!(app.events().len() <= limit::EVENTS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_acts_lead_out_of_the_rules(
        steps in proptest::collection::vec((0_usize..64, 0_usize..8, 0_u64..20 * DAY, any::<bool>()), 1..160)
    ) {
        let mut story = Story::begin("votes_needed = 1\nother_organisation = true");
        for (kind, role, wait, is_sensible) in steps {
            story.now = story.now.plus(wait);
            if let Some((act, bot)) = story.app.tick(story.now, &story.form.settings) {
                prop_assert!(story.app.act(act, &bot, &story.form, story.now).is_ok());
            }
            let state = story.app.state();
            // Half of the steps are ones the matrix has, so that the stories get somewhere.
            let kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| *kind != Kind::CopyAsNew).collect();
            let likely: Vec<(Kind, Role)> = kinds.iter().flat_map(|kind| Role::ALL.iter().map(|role| (*kind, *role)))
                .filter(|(kind, role)| allows(*kind, *role, state)).collect();
            let (kind, role) = match likely.get((kind * 8 + role) % likely.len().max(1)) {
                Some(step) if is_sensible => *step,
                _ => (kinds[kind % kinds.len()], Role::ALL[role]),
            };
            let before = story.app.clone();
            if story.by(kind, &who(role)).is_err() {
                prop_assert_eq!(&story.app, &before, "a refusal changes nothing");
            }
        }
        holds(&story.app);
    }
}

#[test]
fn talk_does_not_use_up_the_room_for_decisions() {
    let mut story = at(State::Approved);
    let notice = |now: Timestamp| Act::Revoke { reason: "soon".into(), effective: now.plus(DAY) };
    while story.act(notice(story.now), &who(Role::Operator)).is_ok() {}
    assert_eq!(story.app.events().len(), limit::TALK_MAX);
    for appeal in ["p1", "p2", "p3"] {
        story.does(Kind::Revoke, Role::Operator).does(Kind::Appeal, Role::Applicant);
        for _ in 0..limit::REMINDERS_MAX {
            assert_eq!(story.runs_out(), Kind::Remind);
        }
        assert_eq!(story.by(Kind::Reinstate, &called(appeal, Role::AppealReviewer)), Ok(State::Approved));
    }
    story.does(Kind::Revoke, Role::Operator);
    assert_eq!(story.runs_out(), Kind::Close);
    holds(&story.app);
}
