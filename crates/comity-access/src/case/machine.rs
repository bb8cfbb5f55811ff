//! A case: the fold of its events, and the rules that let the next one in.

use std::collections::BTreeSet;

use comity_wire::{Amount, CreditNoteId, Digest, Timestamp, TokenId};
use serde::Serialize;

use super::act::{Act, Actor, Effect, Kind, Measure, Order, Role, Seen, State};
use super::event::{Due, Event, Party};
use super::id::CaseId;
use super::matrix::row;
use super::refused::Refused;
use super::{Settings, limit};
use crate::event::{Broken, Recorded};

/// One case, as its events leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    id: CaseId,
    subject: String,
    seen: Vec<Seen>,
    excerpt: Option<Digest>,
    is_forgotten: bool,
    state: State,
    due: Option<Due>,
    /// Of the owner's side, whoever did anything.
    took_part: BTreeSet<String>,
    has_answered: bool,
    measure: Option<Measure>,
    owed: Vec<Owed>,
    is_paid: bool,
    refunds: Vec<Refund>,
    events: Vec<Recorded<Event>>,
}

/// What the owner owes for one receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owed {
    pub receipt: Digest,
    pub amount: Amount,
    pub reason: String,
}

/// Credits that the owner ordered to be given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refund {
    pub note: CreditNoteId,
    pub token: TokenId,
    pub amount: Amount,
    pub reason: String,
    /// What the house said; `None` while it has not answered.
    pub answer: Option<Answer>,
    /// The event that ordered it.
    #[serde(skip)]
    n: u64,
}

/// What the house says to a credit note, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Booked { content: Digest, booked_at: Timestamp },
    Declined { code: String, message: String },
}

/// What the project is told: rule, category, band and deadline, and what can be done about it. No text that was seen: the
/// project has it, and whoever stands between does not need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub case: CaseId,
    pub project: String,
    pub state: State,
    pub seen: Vec<Seen>,
    pub opened_at: Timestamp,
    pub due: Option<Due>,
    /// The newest link of the log: whoever keeps it can show that what came before was not changed.
    pub link: Digest,
    /// Reasons of decisions, newest last.
    pub decisions: Vec<String>,
    pub owed: Vec<Owed>,
    /// What was ordered to be given back, and what became of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<Refund>,
    /// In a sentence.
    pub next: String,
}

impl Case {
    /// Opens one.
    ///
    /// # Errors
    /// [`Refused`] where the role may not, a name is too long, or an operator gives no reason.
    pub fn open(
        id: CaseId,
        (subject, seen): (String, Seen),
        excerpt: Option<Digest>,
        (who, reason): (&Actor, String),
        now: Timestamp,
        settings: &Settings,
    ) -> Result<Self, Refused> {
        let roles = row(Kind::Open).roles;
        if !roles.contains(&who.role) {
            return Err(Refused::NotYours { kind: Kind::Open, role: who.role, roles });
        }
        if who.role == Role::Handler && reason.trim().is_empty() {
            return Err(Refused::NoReason { kind: Kind::Open });
        }
        short(&reason)?;
        named(&subject)?;
        named(&who.id)?;
        fits(&seen)?;
        let mut case = Self::empty(id, subject.clone(), excerpt);
        case.record(Act::Open { subject, seen, excerpt, reason }, who, now, settings);
        Ok(case)
    }

    const fn empty(id: CaseId, subject: String, excerpt: Option<Digest>) -> Self {
        Self {
            id,
            subject,
            seen: Vec::new(),
            excerpt,
            is_forgotten: false,
            state: State::Open,
            due: None,
            took_part: BTreeSet::new(),
            has_answered: false,
            measure: None,
            owed: Vec::new(),
            is_paid: false,
            refunds: Vec::new(),
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
            let case = match (&mut read, &event.act) {
                (Some(case), _) => case,
                (None, Act::Open { subject, excerpt, .. }) => {
                    read.insert(Self::empty(event.case, subject.clone(), *excerpt))
                }
                (None, _) => return Err(Broken::NoBeginning),
            };
            case.follows(n, event)?;
            case.apply(recorded);
        }
        read.ok_or(Broken::NoBeginning)
    }

    fn follows(&self, n: u64, event: &Event) -> Result<(), Broken> {
        if event.case != self.id {
            return Err(Broken::Application { n });
        }
        if event.n != n || event.before != self.link() {
            return Err(Broken::Link { n });
        }
        if self.events.last().is_some_and(|last| event.at < last.event().at) {
            return Err(Broken::Time { n });
        }
        let (kind, is_begun) = (event.act.kind(), !self.events.is_empty());
        let row = row(kind);
        let has_row = row.roles.contains(&event.role) && (!is_begun || row.states.contains(&self.state));
        if !has_row || is_begun == (kind == Kind::Open) || event.state != self.after(kind) {
            return Err(Broken::Step { n });
        }
        Ok(())
    }

    /// Does one thing, if the rules let it. What follows of it outside stands beside the event.
    ///
    /// # Errors
    /// [`Refused`], which says whose move is next; nothing was changed.
    pub fn act(
        &mut self,
        act: Act,
        who: &Actor,
        now: Timestamp,
        settings: &Settings,
    ) -> Result<(&Recorded<Event>, Option<Effect>), Refused> {
        let kind = act.kind();
        let row = row(kind);
        if !row.states.contains(&self.state) {
            return Err(Refused::NotNow { kind, state: self.state, next: Party::in_state(self.state) });
        }
        if !row.roles.contains(&who.role) {
            return Err(Refused::NotYours { kind, role: who.role, roles: row.roles });
        }
        self.conditions(&act, who, now)?;
        self.record(act, who, now, settings);
        let last = self.events.last().expect("one was recorded").event();
        let effect = self.effect(last);
        Ok((self.events.last().expect("one was recorded"), effect))
    }

    fn conditions(&self, act: &Act, who: &Actor, now: Timestamp) -> Result<(), Refused> {
        let kind = act.kind();
        named(&who.id)?;
        if let Some(reason) = act.reason() {
            if reason.trim().is_empty() {
                return Err(Refused::NoReason { kind });
            }
            short(reason)?;
        }
        if who.role == Role::Project && who.id != self.subject {
            return Err(Refused::Stranger { who: who.id.clone() });
        }
        let decides_an_appeal = matches!(kind, Kind::Overturn | Kind::Confirm);
        if decides_an_appeal && self.took_part.contains(&who.id) {
            return Err(Refused::TookPart { who: who.id.clone() });
        }
        match act {
            Act::Add { seen } => self.fewer(kind, limit::SEEN_MAX - 1).and_then(|()| fits(seen)),
            Act::Remark { .. } => self.fewer(kind, limit::REMARKS_MAX),
            Act::Answer { .. } if self.fewer(kind, limit::ANSWERS_MAX).is_err() => self.fewer(kind, limit::ANSWERS_MAX),
            Act::Answer { brought_by, .. } | Act::Appeal { brought_by, .. } => {
                brought_by.as_deref().map_or(Ok(()), named)
            }
            Act::Owe { .. } if self.owed.len() >= limit::OWED_MAX => {
                Err(Refused::TooMuch { what: "receipts for which something is owed", most: limit::OWED_MAX as u64 })
            }
            Act::Owe { receipt, .. } if self.owed.iter().any(|owed| owed.receipt == *receipt) => {
                Err(Refused::Content("for that receipt it is written down already what is owed"))
            }
            Act::Owe { amount, .. } if *amount <= Amount::ZERO => {
                Err(Refused::Content("what is owed is more than nothing"))
            }
            Act::Owe { .. } if self.is_paid => Err(Refused::Content("what was owed is paid; more is another case")),
            Act::Refund { amount, .. } if *amount <= Amount::ZERO => {
                Err(Refused::Content("what is given back is more than nothing"))
            }
            Act::Refund { note, .. } if self.refunds.iter().any(|refund| refund.note == *note) => {
                Err(Refused::Content("a credit note of this id is ordered already"))
            }
            Act::Refund { .. } => self.fewer(kind, limit::REFUNDS_MAX),
            Act::Booked { note, .. } | Act::Declined { note, .. } if !self.waits_for_the_house(*note) => {
                Err(Refused::Content("no credit note of this id waits for the house"))
            }
            Act::Pay { .. } if self.owed.is_empty() => Err(Refused::Content("nothing is owed")),
            Act::Pay { .. } if self.is_paid => Err(Refused::Content("it is paid already")),
            Act::Forget {} if self.excerpt.is_none() || self.is_forgotten => {
                Err(Refused::Content("nothing that was seen is kept"))
            }
            Act::Await {} | Act::Lapse {} | Act::Close {} => match self.due {
                Some(due) if due.at > now => Err(Refused::TooEarly { kind, until: due.at }),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Each kind of talk has a bound of its own, so that none stands in the way of another, and none in the way of a decision:
    /// what else can be done is done once, or counted in itself.
    fn fewer(&self, kind: Kind, most: usize) -> Result<(), Refused> {
        match self.events.iter().filter(|recorded| recorded.event().act.kind() == kind).count() {
            count if count < most => Ok(()),
            _ => Err(Refused::TooMuch { what: "events of this kind in a case", most: most as u64 }),
        }
    }

    /// What follows of an event of this case.
    fn effect(&self, event: &Event) -> Option<Effect> {
        let subject = self.subject.clone();
        match &event.act {
            Act::Clear { .. } | Act::Overturn { .. } | Act::Lapse {} => Some(Effect::Lift { subject }),
            Act::Uphold { measure: Measure::Stop, .. } => {
                Some(Effect::Stop { subject, reason: format!("{} was upheld", self.id) })
            }
            Act::Refund { .. } => self.order(event.n),
            _ => None,
        }
    }

    /// The credit note that an event orders, while the house has not answered it.
    fn order(&self, n: u64) -> Option<Effect> {
        let refund = self.refunds.iter().find(|refund| refund.n == n && refund.answer.is_none())?;
        let recorded = self.events.iter().find(|recorded| recorded.event().n == n)?;
        Some(Effect::Refund(Order {
            note: refund.note,
            subject: self.subject.clone(),
            token: refund.token,
            amount: refund.amount,
            link: recorded.link(),
            at: recorded.event().at,
        }))
    }

    fn waits_for_the_house(&self, note: CreditNoteId) -> bool {
        self.refunds.iter().any(|refund| refund.note == note && refund.answer.is_none())
    }

    /// What an event has left to be done, where the case has not taken it back since.
    pub(super) fn left(&self, n: u64) -> Option<Effect> {
        let event = self.events.iter().map(Recorded::event).find(|event| event.n == n)?;
        let effect = self.effect(event)?;
        let is_taken_back = matches!(effect, Effect::Stop { .. }) && self.state.is_for_the_project();
        (!is_taken_back).then_some(effect)
    }

    /// What the clock brings now; `None` while nothing is due. The shell gives it back to [`Self::act`] as the bot.
    pub fn tick(&self, now: Timestamp) -> Option<(Act, Actor)> {
        self.due.filter(|due| due.at <= now)?;
        let act = match self.state {
            State::Open => Act::Await {},
            State::ToDecide | State::Appealed => Act::Lapse {},
            State::Upheld => Act::Close {},
            State::Cleared | State::Overturned | State::Confirmed | State::Lapsed | State::Closed => return None,
        };
        Some((act, Actor { id: "clock".into(), role: Role::Bot }))
    }

    fn record(&mut self, act: Act, who: &Actor, now: Timestamp, settings: &Settings) {
        let kind = act.kind();
        // A clock that was set back does not bend the log.
        let at = self.events.last().map_or(now, |last| last.event().at.max(now));
        let state = self.after(kind);
        let due = self.due_after(kind, state, at, settings);
        let (case, n, before) = (self.id, self.events.len() as u64 + 1, self.link());
        let event = Event { case, n, at, author: who.id.clone(), role: who.role, act, state, due, before };
        self.apply(Recorded::new(event));
    }

    /// The state that an act leaves; the matrix has let it in.
    fn after(&self, kind: Kind) -> State {
        match kind {
            Kind::Open => State::Open,
            // Who answers gives the owner the word; who adds to it takes it from nobody.
            Kind::Answer | Kind::Await => State::ToDecide,
            Kind::Clear => State::Cleared,
            Kind::Uphold => State::Upheld,
            Kind::Appeal => State::Appealed,
            Kind::Overturn => State::Overturned,
            Kind::Confirm => State::Confirmed,
            Kind::Lapse => State::Lapsed,
            Kind::Close => State::Closed,
            Kind::Add | Kind::Remark | Kind::Owe | Kind::Pay | Kind::Refund => self.state,
            Kind::Booked | Kind::Declined | Kind::Forget => self.state,
        }
    }

    /// The clock after an act: it starts anew with each change of whose move it is.
    fn due_after(&self, kind: Kind, state: State, at: Timestamp, settings: &Settings) -> Option<Due> {
        if kind != Kind::Open && state == self.state {
            return self.due;
        }
        let seconds = match state {
            State::Open => settings.answer_s,
            State::ToDecide => settings.decide_s,
            State::Upheld => settings.appeal_s,
            State::Appealed => settings.appeal_decide_s,
            _ => return None,
        };
        Some(Due { party: Party::in_state(state), at: at.plus(seconds) })
    }

    fn apply(&mut self, recorded: Recorded<Event>) {
        let event = recorded.event();
        if matches!(event.role, Role::Handler | Role::AppealReviewer) {
            self.took_part.insert(event.author.clone());
        }
        match &event.act {
            Act::Open { seen, .. } | Act::Add { seen } => self.seen.push(seen.clone()),
            Act::Answer { .. } => self.has_answered = true,
            Act::Uphold { measure, .. } => self.measure = Some(*measure),
            Act::Owe { receipt, amount, reason } => {
                self.owed.push(Owed { receipt: *receipt, amount: *amount, reason: reason.clone() });
            }
            Act::Pay { .. } => self.is_paid = true,
            Act::Refund { note, token, amount, reason } => self.refunds.push(Refund {
                note: *note,
                token: *token,
                amount: *amount,
                reason: reason.clone(),
                answer: None,
                n: event.n,
            }),
            Act::Booked { note, content, booked_at } => {
                self.answered(*note, Answer::Booked { content: *content, booked_at: *booked_at });
            }
            Act::Declined { note, code, message } => {
                self.answered(*note, Answer::Declined { code: code.clone(), message: message.clone() });
            }
            Act::Forget {} => self.is_forgotten = true,
            _ => {}
        }
        (self.state, self.due) = (event.state, event.due);
        self.events.push(recorded);
    }

    /// What the house said to an order; and whether all that is owed has come back by that.
    fn answered(&mut self, note: CreditNoteId, answer: Answer) {
        if let Some(refund) = self.refunds.iter_mut().find(|refund| refund.note == note) {
            refund.answer = Some(answer);
        }
        let sum = |amounts: &mut dyn Iterator<Item = Amount>| amounts.fold(Amount::ZERO, Amount::saturating_add);
        let is_booked = |refund: &&Refund| matches!(refund.answer, Some(Answer::Booked { .. }));
        let booked = sum(&mut self.refunds.iter().filter(is_booked).map(|refund| refund.amount));
        let owed = sum(&mut self.owed.iter().map(|owed| owed.amount));
        self.is_paid |= !owed.is_zero() && booked >= owed;
    }

    pub const fn id(&self) -> CaseId {
        self.id
    }

    /// The project's pseudonym.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub const fn state(&self) -> State {
        self.state
    }

    pub const fn due(&self) -> Option<Due> {
        self.due
    }

    pub const fn measure(&self) -> Option<Measure> {
        self.measure
    }

    /// What was seen, the first time first.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Of the sealed excerpt, as long as one is kept.
    pub fn excerpt(&self) -> Option<Digest> {
        self.excerpt.filter(|_| !self.is_forgotten)
    }

    /// Whether the project was heard.
    pub const fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// What is owed, and whether it was given back.
    pub fn owed(&self) -> (&[Owed], bool) {
        (&self.owed, self.is_paid)
    }

    /// What was ordered to be given back, the first one first.
    pub fn refunds(&self) -> &[Refund] {
        &self.refunds
    }

    /// What of a token is ordered to be given back: the house has booked it, or has not answered.
    pub fn ordered(&self, token: TokenId) -> Amount {
        let stands =
            |refund: &&Refund| refund.token == token && !matches!(refund.answer, Some(Answer::Declined { .. }));
        self.refunds.iter().filter(stands).fold(Amount::ZERO, |sum, refund| sum.saturating_add(refund.amount))
    }

    pub fn events(&self) -> &[Recorded<Event>] {
        &self.events
    }

    /// Of the newest event; zeros before the first.
    pub fn link(&self) -> Digest {
        self.events.last().map_or(Digest([0; 32]), Recorded::link)
    }

    /// What the project is told.
    pub fn notice(&self) -> Notice {
        let reason = |recorded: &Recorded<Event>| match &recorded.event().act {
            Act::Clear { reason } | Act::Uphold { reason, .. } | Act::Overturn { reason } | Act::Confirm { reason } => {
                Some(reason.clone())
            }
            _ => None,
        };
        Notice {
            case: self.id,
            project: self.subject.clone(),
            state: self.state,
            seen: self.seen.clone(),
            opened_at: self.events.first().map_or(Timestamp(0), |first| first.event().at),
            due: self.due,
            link: self.link(),
            decisions: self.events.iter().filter_map(reason).collect(),
            owed: self.owed.clone(),
            refunds: self.refunds.clone(),
            next: self.next(),
        }
    }

    fn next(&self) -> String {
        let until = self.due.map_or_else(String::new, |due| format!(" until {}", due.at));
        match self.state {
            State::Open => format!("the project may answer{until}; nothing is upheld before that"),
            State::ToDecide => format!("the owner decides{until}; after that it ends for the project"),
            State::Upheld => format!("the project may appeal{until}"),
            State::Appealed => {
                format!("somebody who took no part decides the appeal{until}; after that it ends for the project")
            }
            _ if self.refunds.iter().any(|refund| refund.answer.is_none()) => {
                "the owner has ordered credits to be given back, and waits for the clearing house".into()
            }
            _ if !self.owed.is_empty() && !self.is_paid => {
                "the owner owes what is listed, and has to give it back".into()
            }
            _ => "nothing more is to be done".into(),
        }
    }
}

fn named(name: &str) -> Result<(), Refused> {
    if name.trim().is_empty() {
        return Err(Refused::Content("a name is missing"));
    }
    match name.len() {
        0..=limit::NAME_BYTES_MAX => Ok(()),
        _ => Err(Refused::TooMuch { what: "bytes in a name", most: limit::NAME_BYTES_MAX as u64 }),
    }
}

fn short(text: &str) -> Result<(), Refused> {
    match text.len() {
        0..=limit::TEXT_BYTES_MAX => Ok(()),
        _ => Err(Refused::TooMuch { what: "bytes in a text", most: limit::TEXT_BYTES_MAX as u64 }),
    }
}

fn fits(seen: &Seen) -> Result<(), Refused> {
    [&seen.category, &seen.rule, &seen.band].into_iter().try_for_each(|name| named(name))
}
