//! An application: the fold of its events, and the rules that let the next one in.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::api::access::{Sealed, Shown, commitment};
use comity_wire::object::Tier;
use comity_wire::{Digest, ModelId, Timestamp};

use crate::act::{Act, Actor, Kind, Role, State, Terms};
use crate::clock::{Due, Party};
use crate::event::{Broken, Event, Recorded};
use crate::form::{Answers, Form};
use crate::id::{ApplicationId, Salt};
use crate::limit;
use crate::matrix::row;
use crate::refused::Refused;
use crate::settings::Settings;

/// One application, as its events leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    id: ApplicationId,
    subject: String,
    form: Digest,
    state: State,
    due: Option<Due>,
    models: Vec<ModelId>,
    answers: Answers,
    attachments: Vec<Digest>,
    sealed: Option<Sealed>,
    shown: BTreeMap<Shown, String>,
    is_signed: bool,
    reviewers: BTreeSet<String>,
    deciders: BTreeSet<String>,
    votes: BTreeMap<String, bool>,
    conflicts: BTreeSet<String>,
    /// Of the owner's side, whoever did anything.
    took_part: BTreeSet<String>,
    granted: Option<Terms>,
    revoke_at: Option<(Timestamp, String)>,
    appealed_from: Option<State>,
    appeals: usize,
    reminders: usize,
    is_escalated: bool,
    next_salt: Option<Salt>,
    events: Vec<Recorded>,
}

impl Application {
    /// Begins one, as a draft.
    ///
    /// # Errors
    /// [`Refused`] where it asks for nothing, for too much, or for what the form does not have.
    pub fn open(
        id: ApplicationId,
        form: &Form,
        applicant: &Actor,
        models: Vec<ModelId>,
        answers: Answers,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        Self::begin(id, form, applicant, models, answers, None, now)
    }

    /// Begins another with the models and answers of one that is over.
    ///
    /// # Errors
    /// [`Refused`] where this one is not over, or the form has changed so that the answers do not fit.
    pub fn copy_as_new(&self, id: ApplicationId, form: &Form, who: &Actor, now: Timestamp) -> Result<Self, Refused> {
        self.permitted(Kind::CopyAsNew, who)?;
        let applicant = Actor { id: self.subject.clone(), role: Role::Applicant, organisation: None };
        Self::begin(id, form, &applicant, self.models.clone(), self.answers.clone(), Some(self.id), now)
    }

    fn begin(
        id: ApplicationId,
        form: &Form,
        applicant: &Actor,
        models: Vec<ModelId>,
        answers: Answers,
        copy_of: Option<ApplicationId>,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        if applicant.role != Role::Applicant {
            return Err(Refused::NotYours { kind: Kind::Open, role: applicant.role, roles: row(Kind::Open).roles });
        }
        named(&applicant.id)?;
        asked(&models)?;
        form.fits(&answers).map_err(Refused::Incomplete)?;
        let mut new = Self::empty(id, applicant.id.clone(), form.digest());
        let act = Act::Open { subject: applicant.id.clone(), form: form.digest(), copy_of, models, answers };
        new.record(act, applicant, now, &form.settings)?;
        Ok(new)
    }

    fn empty(id: ApplicationId, subject: String, form: Digest) -> Self {
        Self {
            id,
            subject,
            form,
            state: State::Draft,
            due: None,
            models: Vec::new(),
            answers: Answers::new(),
            attachments: Vec::new(),
            sealed: None,
            shown: BTreeMap::new(),
            is_signed: false,
            reviewers: BTreeSet::new(),
            deciders: BTreeSet::new(),
            votes: BTreeMap::new(),
            conflicts: BTreeSet::new(),
            took_part: BTreeSet::new(),
            granted: None,
            revoke_at: None,
            appealed_from: None,
            appeals: 0,
            reminders: 0,
            is_escalated: false,
            next_salt: None,
            events: Vec::new(),
        }
    }

    /// Reads a log again and checks it: form, order, links, and that every step is one the rules have.
    ///
    /// # Errors
    /// [`Broken`] naming the first event that is not what it should be.
    pub fn read<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Broken> {
        let mut read: Option<Self> = None;
        for (n, bytes) in (1_u64..).zip(events) {
            let recorded = Recorded::<Event>::read(bytes).ok_or(Broken::Form { n })?;
            let event = recorded.event();
            let application = match (&mut read, &event.act) {
                (Some(application), _) => application,
                (None, Act::Open { subject, form, .. }) if event.author == *subject => {
                    read.insert(Self::empty(event.application, subject.clone(), *form))
                }
                (None, _) => return Err(Broken::NoBeginning),
            };
            application.follows(n, event)?;
            application.apply(recorded);
        }
        read.ok_or(Broken::NoBeginning)
    }

    fn follows(&self, n: u64, event: &Event) -> Result<(), Broken> {
        if event.application != self.id {
            return Err(Broken::Application { n });
        }
        if event.n != n || event.before != self.head() {
            return Err(Broken::Link { n });
        }
        if self.events.last().is_some_and(|last| event.at < last.event().at) {
            return Err(Broken::Time { n });
        }
        let kind = event.act.kind();
        let is_begun = !self.events.is_empty();
        let has_row = row(kind).roles.contains(&event.role) && (!is_begun || row(kind).states.contains(&self.state));
        if !has_row || is_begun == (kind == Kind::Open) || event.state != self.after(&event.act, event.at) {
            return Err(Broken::Step { n });
        }
        Ok(())
    }

    /// Does one thing, if the rules let it.
    ///
    /// # Errors
    /// [`Refused`], which says whose move is next; nothing was changed.
    pub fn act(&mut self, act: Act, who: &Actor, form: &Form, now: Timestamp) -> Result<&Recorded, Refused> {
        self.permitted(act.kind(), who)?;
        if form.digest() != self.form {
            return Err(Refused::Content("this is not the form that the application was begun with"));
        }
        self.conditions(&act, who, form, now)?;
        self.record(act, who, now, &form.settings)
    }

    /// What makes the next event's link one that nobody can guess the text of.
    pub const fn salt(&mut self, salt: [u8; 16]) {
        self.next_salt = Some(Salt(salt));
    }

    fn permitted(&self, kind: Kind, who: &Actor) -> Result<(), Refused> {
        let row = row(kind);
        if !row.states.contains(&self.state) {
            return Err(Refused::NotNow { kind, state: self.state, next: Party::in_state(self.state) });
        }
        if !row.roles.contains(&who.role) {
            return Err(Refused::NotYours { kind, role: who.role, roles: row.roles });
        }
        named(&who.id)?;
        if who.role == Role::Applicant && who.id != self.subject {
            return Err(self.stranger(kind, who));
        }
        Ok(())
    }

    fn stranger(&self, kind: Kind, who: &Actor) -> Refused {
        Refused::Stranger { kind, who: who.id.clone(), next: Party::in_state(self.state) }
    }

    fn conditions(&self, act: &Act, who: &Actor, form: &Form, now: Timestamp) -> Result<(), Refused> {
        let kind = act.kind();
        if let Some(reason) = act.reason() {
            if reason.trim().is_empty() {
                return Err(Refused::NoReason { kind });
            }
            short(reason)?;
        }
        if who.role == Role::Bot {
            self.clock_only(kind, now)?;
        }
        if matches!(kind, Kind::Review | Kind::Vote | Kind::Approve | Kind::Reject | Kind::Reinstate | Kind::Dismiss) {
            self.impartial(act, who, &form.settings)?;
        }
        match act {
            Act::SaveDraft { answers } => form.fits(answers).map_err(Refused::Incomplete),
            Act::Answer { answers, .. } => form.complete(answers).map_err(Refused::Incomplete),
            Act::Submit { .. } => form.complete(&self.answers).map_err(Refused::Incomplete),
            Act::ChangeModels { models } => asked(models),
            Act::Attach { name, bytes, .. } => self.attachable(name, *bytes),
            Act::Reveal { what, value, salt } => self.opens(*what, value, salt),
            Act::Sign { .. } => self.signs(who),
            Act::Withdraw { reason } => short(reason),
            Act::RequestReview { reviewers: persons } | Act::RequestDecision { deciders: persons } => some(persons),
            Act::Review { .. } if !self.reviewers.contains(&who.id) => Err(self.stranger(kind, who)),
            Act::Vote { .. } if !self.deciders.contains(&who.id) => Err(self.stranger(kind, who)),
            Act::Approve { terms, .. } | Act::Reinstate { terms, .. } => {
                self.may_grant(kind, terms, now, &form.settings)
            }
            Act::Revoke { effective, .. } if *effective < now => {
                Err(Refused::Content("a notice ends before it begins"))
            }
            Act::Appeal { .. } if self.appeals >= limit::APPEALS_MAX => {
                Err(Refused::TooMuch { what: "appeals", most: limit::APPEALS_MAX as u64 })
            }
            Act::Open { .. } => Err(Refused::NotNow { kind, state: self.state, next: Party::in_state(self.state) }),
            _ => Ok(()),
        }
    }

    /// What the clock does, it does when it has run out. Approving, rejecting and asking for a review are the owner's rules' too, at any time.
    fn clock_only(&self, kind: Kind, now: Timestamp) -> Result<(), Refused> {
        if matches!(kind, Kind::Approve | Kind::Reject | Kind::RequestReview) {
            return Ok(());
        }
        match self.due {
            Some(due) if due.at > now => Err(Refused::TooEarly { kind, until: due.at }),
            Some(_) if kind == Kind::Revoke && self.revoke_at.as_ref().is_none_or(|(at, _)| *at > now) => {
                Err(Refused::Content("no notice of revocation has ended"))
            }
            Some(_) => Ok(()),
            None => Err(Refused::Content("no clock runs")),
        }
    }

    /// Revoking is not here: who sees harm may stop it, whatever their interest, and an appeal looks at it again.
    fn impartial(&self, act: &Act, who: &Actor, settings: &Settings) -> Result<(), Refused> {
        let kind = act.kind();
        if who.role == Role::Bot {
            return Ok(());
        }
        if self.conflicts.contains(&who.id) {
            return Err(Refused::Conflict { kind, who: who.id.clone(), why: "declared" });
        }
        if who.role == Role::AppealReviewer && self.took_part.contains(&who.id) {
            return Err(Refused::TookPart { who: who.id.clone() });
        }
        if !settings.other_organisation {
            return Ok(());
        }
        let is_favour = match act {
            Act::Review { favour, .. } | Act::Vote { favour, .. } => *favour,
            _ => matches!(kind, Kind::Approve | Kind::Reinstate),
        };
        match (self.shown.get(&Shown::Organisation), &who.organisation) {
            (Some(theirs), Some(own)) if same(theirs, own) => {
                Err(Refused::Conflict { kind, who: who.id.clone(), why: "of the same organisation" })
            }
            (_, None) => {
                Err(Refused::Unmet { what: "it is not known which organisation the person is of", next: Party::Owner })
            }
            // Refusing needs no consent: else an applicant could stop every decision.
            (None, Some(_)) if is_favour => Err(Refused::Unmet {
                what: "the applicant's organisation is sealed, and nobody decides for their own here",
                next: Party::Applicant,
            }),
            _ => Ok(()),
        }
    }

    /// Nobody signs for an institution but their own, nor for one that they cannot know.
    fn signs(&self, who: &Actor) -> Result<(), Refused> {
        if self.is_of(who.organisation.as_deref()) {
            return Ok(());
        }
        let unmet = |what, next| Err(Refused::Unmet { what, next });
        match (self.shown.get(&Shown::Organisation), &who.organisation) {
            (_, None) => unmet("it is not known which institution the person signs for", Party::Owner),
            (None, _) => unmet("which institution the applicant is of is still sealed", Party::Applicant),
            (Some(_), Some(_)) => unmet("the applicant is of another institution than whoever signs", Party::Signatory),
        }
    }

    pub(crate) fn may_grant(
        &self,
        kind: Kind,
        terms: &Terms,
        now: Timestamp,
        settings: &Settings,
    ) -> Result<(), Refused> {
        asked(&terms.models)?;
        if !terms.models.iter().all(|model| self.models.contains(model)) {
            return Err(Refused::Content("a model is granted that was not asked for"));
        }
        if terms.tier == Tier::Audited {
            return Err(Refused::Content("tier t3 needs an approved plan, which an application does not have"));
        }
        if terms.not_after <= now || terms.not_after > now.plus(settings.grant_s_max) {
            return Err(Refused::Content("the grant ends before it begins, or later than the form allows"));
        }
        if settings.signatory && !self.is_signed {
            return Err(Refused::Unmet { what: "the applicant's institution has not signed", next: Party::Signatory });
        }
        if !settings.shown.iter().all(|what| self.shown.contains_key(what)) {
            return Err(Refused::Unmet { what: "the applicant's identity is still sealed", next: Party::Applicant });
        }
        if kind == Kind::Approve && self.votes_for() < usize::from(settings.votes_needed) {
            return Err(Refused::Unmet { what: "votes for it are missing", next: Party::Owner });
        }
        Ok(())
    }

    fn attachable(&self, name: &str, bytes: u64) -> Result<(), Refused> {
        named(name)?;
        if bytes > limit::ATTACHMENT_BYTES_MAX {
            return Err(Refused::TooMuch { what: "bytes in an attachment", most: limit::ATTACHMENT_BYTES_MAX });
        }
        if self.attachments.len() >= limit::ATTACHMENTS_MAX {
            return Err(Refused::TooMuch { what: "attachments", most: limit::ATTACHMENTS_MAX as u64 });
        }
        Ok(())
    }

    fn opens(&self, what: Shown, value: &str, salt: &Digest) -> Result<(), Refused> {
        named(value)?;
        match &self.sealed {
            Some(sealed) if sealed.of(what) == commitment(what, salt, value) => Ok(()),
            _ => Err(Refused::Content("this is not what was sealed")),
        }
    }

    fn record(&mut self, act: Act, who: &Actor, now: Timestamp, settings: &Settings) -> Result<&Recorded, Refused> {
        let most = if is_talk(&act, now) { limit::TALK_MAX } else { limit::EVENTS_MAX };
        if self.events.len() >= most {
            return Err(Refused::TooMuch { what: "events of this kind in an application", most: most as u64 });
        }
        // A clock that was set back does not bend the log.
        let at = self.events.last().map_or(now, |last| last.event().at.max(now));
        let state = self.after(&act, at);
        let due = self.due_after(&act, state, at, settings);
        let event = Event {
            application: self.id,
            n: self.events.len() as u64 + 1,
            at,
            author: who.id.clone(),
            role: who.role,
            act,
            state,
            due,
            before: self.head(),
            salt: self.next_salt.take(),
        };
        let recorded = Recorded::new(event);
        if recorded.bytes().len() > limit::EVENT_BYTES_MAX {
            return Err(Refused::TooMuch { what: "bytes in an event", most: limit::EVENT_BYTES_MAX as u64 });
        }
        self.apply(recorded);
        Ok(self.events.last().expect("one was applied"))
    }

    /// The state that an act leaves; the matrix has let it in.
    fn after(&self, act: &Act, at: Timestamp) -> State {
        match act {
            Act::Open { .. } => State::Draft,
            Act::Submit { .. } | Act::Answer { .. } => State::Submitted,
            Act::Return { .. } => State::Returned,
            Act::RequestReview { .. } if self.state == State::Submitted => State::UnderReview,
            Act::RequestDecision { .. } => State::DecisionAsked,
            Act::Approve { .. } | Act::Reinstate { .. } => State::Approved,
            Act::Reject { .. } => State::Rejected,
            Act::Revoke { effective, .. } if *effective <= at => State::Revoked,
            Act::Withdraw { .. } => State::Withdrawn,
            Act::Appeal { .. } => State::Appealed,
            Act::Dismiss { .. } => self.appealed_from.unwrap_or(State::Rejected),
            Act::Close { .. } => State::Closed,
            Act::Lapse {} => State::Lapsed,
            Act::Expire {} => State::Expired,
            _ => self.state,
        }
    }

    fn apply(&mut self, recorded: Recorded) {
        let Event { author, role, act, state, due, .. } = recorded.event().clone();
        if Party::of(role) == Party::Owner || role == Role::AppealReviewer {
            self.took_part.insert(author.clone());
        }
        match act {
            Act::Open { models, answers, .. } => (self.models, self.answers) = (models, answers),
            Act::SaveDraft { answers } => self.answers = answers,
            Act::Answer { answers, .. } => {
                self.answers = answers;
                // Who voted or signed had something else before them.
                self.votes.clear();
                self.is_signed = false;
            }
            Act::ChangeModels { models } => {
                self.models = models;
                self.votes.clear();
                self.is_signed = false;
            }
            Act::Attach { digest, .. } => self.attachments.push(digest),
            Act::Submit { sealed } => self.sealed = Some(sealed),
            Act::Reveal { what, value, .. } => drop(self.shown.insert(what, value)),
            Act::Sign { .. } => self.is_signed = true,
            Act::RequestReview { reviewers } => self.reviewers.extend(reviewers),
            Act::RequestDecision { deciders } => self.deciders.extend(deciders),
            Act::Vote { favour, .. } => drop(self.votes.insert(author, favour)),
            Act::DeclareConflict { .. } => {
                self.votes.remove(&author);
                self.conflicts.insert(author);
            }
            Act::Approve { terms, .. } | Act::Reinstate { terms, .. } => {
                (self.granted, self.revoke_at) = (Some(terms), None);
            }
            Act::Revoke { reason, effective } if state == State::Approved => self.revoke_at = Some((effective, reason)),
            Act::Appeal { .. } => {
                self.appealed_from = Some(self.state);
                self.appeals += 1;
                self.reminders = 0;
            }
            Act::Remind {} => self.reminders += 1,
            Act::Escalate { .. } => (self.is_escalated, self.reminders) = (true, self.reminders + 1),
            _ => {}
        }
        if state != State::Approved {
            (self.granted, self.revoke_at) = (None, None);
        }
        (self.state, self.due) = (state, due);
        self.events.push(recorded);
    }

    /// Its name here.
    pub const fn id(&self) -> ApplicationId {
        self.id
    }

    /// The project's pseudonym.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Of the text of the form it was begun with.
    pub const fn form(&self) -> Digest {
        self.form
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whose move it is, until when.
    pub const fn due(&self) -> Option<Due> {
        self.due
    }

    /// What is asked for.
    pub fn models(&self) -> &[ModelId] {
        &self.models
    }

    /// What was filled in.
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What is granted now; also while a notice of revocation runs.
    pub const fn granted(&self) -> Option<&Terms> {
        self.granted.as_ref()
    }

    /// When a notice of revocation ends, and why it was given.
    pub fn revoke_at(&self) -> Option<(Timestamp, &str)> {
        self.revoke_at.as_ref().map(|(at, reason)| (*at, reason.as_str()))
    }

    /// What the applicant has consented to show.
    pub fn shown(&self, what: Shown) -> Option<&str> {
        self.shown.get(&what).map(String::as_str)
    }

    /// Whether the applicant has shown that they are of this organisation.
    pub fn is_of(&self, organisation: Option<&str>) -> bool {
        let shown = self.shown.get(&Shown::Organisation);
        shown.zip(organisation).is_some_and(|(theirs, own)| same(theirs, own))
    }

    /// Whether a person has declared a conflict of interest.
    pub fn has_stepped_back(&self, person: &str) -> bool {
        self.conflicts.contains(person)
    }

    /// Votes for it, of those without a conflict.
    pub fn votes_for(&self) -> usize {
        self.votes.values().filter(|favour| **favour).count()
    }

    /// The log, oldest first.
    pub fn events(&self) -> &[Recorded] {
        &self.events
    }

    /// The newest link: whoever keeps it will see it again in [`Self::has`], or knows that the log was rewritten.
    pub fn head(&self) -> Digest {
        self.events.last().map_or(Digest::ZERO, Recorded::link)
    }

    /// Whether the log goes through a link.
    pub fn has(&self, link: Digest) -> bool {
        self.events.iter().any(|event| event.link() == link)
    }

    pub(crate) const fn reminders(&self) -> usize {
        self.reminders
    }

    pub(crate) const fn is_escalated(&self) -> bool {
        self.is_escalated
    }
}

/// What can be said without end, a notice given again among it. Decisions, ends and the clock cannot, so room is kept for
/// them.
fn is_talk(act: &Act, now: Timestamp) -> bool {
    match act {
        Act::Revoke { effective, .. } => *effective > now,
        Act::Approve { .. }
        | Act::Reject { .. }
        | Act::Withdraw { .. }
        | Act::Appeal { .. }
        | Act::Reinstate { .. }
        | Act::Dismiss { .. }
        | Act::Close { .. }
        | Act::Remind {}
        | Act::Escalate { .. }
        | Act::Lapse {}
        | Act::Expire {} => false,
        _ => true,
    }
}

fn same(one: &str, other: &str) -> bool {
    one.trim().eq_ignore_ascii_case(other.trim())
}

fn named(text: &str) -> Result<(), Refused> {
    match text.len() {
        0 => Err(Refused::Content("a name is empty")),
        length if length > limit::NAME_BYTES_MAX => {
            Err(Refused::TooMuch { what: "bytes in a name", most: limit::NAME_BYTES_MAX as u64 })
        }
        _ => Ok(()),
    }
}

fn short(text: &str) -> Result<(), Refused> {
    if text.len() > limit::TEXT_BYTES_MAX {
        return Err(Refused::TooMuch { what: "bytes in a text", most: limit::TEXT_BYTES_MAX as u64 });
    }
    Ok(())
}

fn asked(models: &[ModelId]) -> Result<(), Refused> {
    if models.len() > limit::MODELS_MAX {
        return Err(Refused::TooMuch { what: "models", most: limit::MODELS_MAX as u64 });
    }
    if !models.is_sorted_by(|one, next| one < next) || models.is_empty() {
        return Err(Refused::Content("models are named once each, in order, and at least one"));
    }
    Ok(())
}

fn some(persons: &[String]) -> Result<(), Refused> {
    if persons.is_empty() {
        return Err(Refused::Content("nobody is asked"));
    }
    if persons.len() > limit::PERSONS_MAX {
        return Err(Refused::TooMuch { what: "persons", most: limit::PERSONS_MAX as u64 });
    }
    persons.iter().try_for_each(|person| named(person))
}
