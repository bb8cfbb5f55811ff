//! Applications with words in them that no notice may have: what was filled in, sealed, written among the owner's side, or
//! written by the applicant has `canary` in it; what the owner says to the applicant has `spoken`.

use comity_access::notice::{Notice, notices};
use comity_access::{
    Act, Actor, Answers, Application, ApplicationId, Form, Kind, Recorded, Role, Sealed, Shown, State, Terms,
    commitment,
};
use comity_wire::object::Tier;
use comity_wire::{Digest, ModelId, Timestamp};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const DAY: u64 = 86_400;
const FORM: &str = r#"
title = "canary-form"
[[field]]
id = "purpose"
label = "What for?"
type = "text"
required = true
"#;

pub(crate) fn who(role: Role) -> Actor {
    let id = match role {
        Role::Applicant => "sub-a",
        Role::Member => "sub-m",
        Role::Signatory => "sig",
        Role::Reviewer => "rita",
        Role::Decider => "dora",
        Role::AppealReviewer => "petra",
        Role::Operator => "olaf",
        Role::Bot => "clock",
    };
    let organisation = if role == Role::Signatory { "canary-uni" } else { "canary-lab" };
    Actor { id: id.into(), role, organisation: Some(organisation.into()) }
}

fn model() -> ModelId {
    "org-aaaqeayeaudaocajbifqydiob4/canary-model".parse().expect("a model")
}

fn answers() -> Answers {
    [("purpose".to_owned(), "canary-answer".to_owned())].into()
}

fn salt() -> Digest {
    Digest::of(b"salt")
}

fn act(kind: Kind, by: Role, now: Timestamp) -> Act {
    let canary = || format!("canary-{kind}");
    let spoken = || format!("spoken: {kind}");
    let terms = Terms { models: vec![model()], tier: Tier::Vetted, not_after: now.plus(90 * DAY) };
    match kind {
        Kind::Open | Kind::CopyAsNew => unreachable!("it begins an application"),
        Kind::SaveDraft => Act::SaveDraft { answers: answers() },
        Kind::ChangeModels => Act::ChangeModels { models: vec![model()] },
        Kind::Attach => Act::Attach { name: canary(), digest: Digest::of(b"pdf"), bytes: 3 },
        Kind::Submit => Act::Submit {
            sealed: Sealed {
                organisation: commitment(Shown::Organisation, &salt(), "canary-uni"),
                person: commitment(Shown::Person, &salt(), "canary-ada"),
            },
        },
        Kind::Reveal => Act::Reveal { what: Shown::Organisation, value: "canary-uni".into(), salt: salt() },
        Kind::Sign => Act::Sign { text: canary() },
        Kind::Return => Act::Return { reason: spoken() },
        Kind::Answer => Act::Answer { answers: answers(), text: canary() },
        Kind::RequestReview => Act::RequestReview { reviewers: vec!["rita".into()] },
        Kind::Review => Act::Review { favour: true, reason: canary() },
        Kind::DeclareConflict => Act::DeclareConflict { reason: canary() },
        Kind::RequestDecision => Act::RequestDecision { deciders: vec!["dora".into(), "dirk".into()] },
        Kind::Vote => Act::Vote { favour: true, reason: canary() },
        Kind::Approve => Act::Approve { terms, reason: spoken() },
        Kind::Reject => Act::Reject { reason: spoken() },
        Kind::Remark => Act::Remark { text: canary(), public: by != Role::Reviewer },
        Kind::Revoke => Act::Revoke { reason: spoken(), effective: now },
        Kind::Withdraw => Act::Withdraw { reason: canary() },
        Kind::Appeal => Act::Appeal { reason: canary() },
        Kind::Reinstate => Act::Reinstate { terms, reason: spoken() },
        Kind::Dismiss => Act::Dismiss { reason: spoken() },
        Kind::Close => Act::Close { reason: spoken() },
        Kind::Remind => Act::Remind {},
        Kind::Escalate => Act::Escalate { to: "dean".into() },
        Kind::Lapse => Act::Lapse {},
        Kind::Expire => Act::Expire {},
    }
}

pub(crate) struct Story {
    pub(crate) form: Form,
    pub(crate) app: Application,
    pub(crate) now: Timestamp,
}

impl Story {
    pub(crate) fn begin(settings: &str) -> Self {
        let form = Form::read(&format!("{FORM}\n[settings]\n{settings}")).expect("a form");
        let applicant = who(Role::Applicant);
        let app = Application::open(ApplicationId([7; 16]), &form, &applicant, vec![model()], answers(), NOW);
        Self { form, app: app.expect("opened"), now: NOW }
    }

    pub(crate) fn at(state: State) -> Self {
        let mut story = Self::begin("");
        let path: &[(Kind, Role)] = match state {
            State::Draft | State::Lapsed => &[],
            State::Submitted => &[(Kind::Submit, Role::Applicant)],
            State::Returned => &[(Kind::Submit, Role::Applicant), (Kind::Return, Role::Operator)],
            State::UnderReview => &[(Kind::Submit, Role::Applicant), (Kind::RequestReview, Role::Operator)],
            State::DecisionAsked => &[
                (Kind::Submit, Role::Applicant),
                (Kind::RequestReview, Role::Operator),
                (Kind::RequestDecision, Role::Operator),
            ],
            State::Approved | State::Expired => &[(Kind::Submit, Role::Applicant), (Kind::Approve, Role::Decider)],
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
        };
        path.iter().for_each(|(kind, role)| drop(story.does(*kind, *role)));
        if matches!(state, State::Lapsed | State::Expired) {
            story.runs_out();
        }
        assert_eq!(story.app.state(), state);
        story
    }

    /// Does it and gives what is said of it.
    pub(crate) fn does(&mut self, kind: Kind, role: Role) -> Vec<Notice> {
        if kind == Kind::Sign && self.app.shown(Shown::Organisation).is_none() {
            // Nobody signs for an institution that they cannot know.
            self.does(Kind::Reveal, Role::Applicant);
        }
        self.now = self.now.plus(60);
        let act = act(kind, role, self.now);
        self.done(act, &who(role))
    }

    pub(crate) fn done(&mut self, act: Act, by: &Actor) -> Vec<Notice> {
        let kind = act.kind();
        let done = self.app.act(act, by, &self.form, self.now);
        done.unwrap_or_else(|refused| panic!("{kind} by {}: {refused}", by.role));
        self.said()
    }

    /// Lets the clock run out.
    pub(crate) fn runs_out(&mut self) -> Vec<Notice> {
        self.now = self.app.due().expect("a clock runs").at;
        let (act, bot) = self.app.tick(self.now, &self.form.settings).expect("something is due");
        self.done(act, &bot)
    }

    pub(crate) fn last(&self) -> &Recorded {
        self.app.events().last().expect("one is there")
    }

    /// Of the newest event.
    pub(crate) fn said(&self) -> Vec<Notice> {
        notices(self.last(), &self.app)
    }
}
