//! The desk of cases: what a filter saw, what a project says and what an owner decides is judged by the rules of [`Case`] and kept;
//! then what follows of it is done at the node's doors.
//!
//! A decision and what it does at the doors are in two stores. The decision is written first, with a note of what has to be done; the
//! note is crossed out once it was done. [`Desk::run`] does what notes are left, also those of another process of the node.

mod refunds;

pub use refunds::{Again, ToGive};

use std::sync::Arc;
use std::time::Duration;

use comity_wire::api::decisions::{DecisionProof, ProofAsked};
use comity_wire::object::FilterAction;
use comity_wire::{Digest, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::act::{Act, Actor, Effect, Kind, Measure, Order, Role, Seen, State};
use super::id::CaseId;
use super::machine::{Answer, Case};
use super::quarter::{Quarter, Tally};
use super::refused::Refused;
use super::statistics::Statistics;
use super::store::{Append, Excerpt, OpenMax, Row, Which};
use super::{Settings, notices};
use crate::desk::{Clock, Entropy};
use crate::notice::{Delivery, SOON_S, Targets};
use crate::seal::{self, Of, Unproved};
use crate::store::{Appended, Store, StoreError};

/// A case that others write at the same moment is read again so often.
const TRIES_MAX: usize = 8;
/// Cases and notes that are looked at in one page.
const PAGE: u32 = 256;

/// The node's doors, as a case changes them. Each may be asked again, and then changes nothing.
pub trait Doors: Send + Sync {
    /// The project is stopped, by word of this case.
    fn stop(&self, case: CaseId, subject: String, reason: String) -> BoxFuture<'_, Result<(), String>>;
    /// A stop by this case ends, and a suspension by the filter, but for what others hold.
    fn lift(&self, case: CaseId, subject: String, others: Others) -> BoxFuture<'_, Result<(), String>>;
    /// The clearing house is told to give credits back: what it says for good, or why it has not said anything yet.
    fn refund(&self, order: Order) -> BoxFuture<'_, Result<Answer, String>>;
}

/// What stays of a project's other cases when one is lifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// One that is not decided yet suspends it.
    pub suspend: bool,
    /// One that was upheld stops it.
    pub stop: Option<CaseId>,
}

/// Something a filter saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The project's pseudonym.
    pub subject: String,
    pub seen: Seen,
    pub at: Timestamp,
}

/// Seals what was seen for a case, where anything of it is kept.
pub type Sealing<'a> = &'a (dyn Fn(CaseId) -> Result<Option<Excerpt>, String> + Sync);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The rules.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Something happened to it since the caller looked.
    #[error("the case has moved on since you looked at it; look again, then say it")]
    Moved,
    /// There is none, or none of the caller's.
    #[error("there is no such case here")]
    NotFound,
    /// A bound.
    #[error("there are {most} {what} already, and no more are opened")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// What was seen could not be sealed.
    #[error("what was seen is not sealed: {0}")]
    Unsealed(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An owner's cases. Cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    doors: Arc<dyn Doors>,
    settings: Settings,
    targets: Targets,
    clock: Clock,
    entropy: Entropy,
    /// Something was said.
    told: Notify,
    /// Something is left to be done at the doors.
    left: Notify,
    /// A credit note was ordered.
    ordered: Notify,
}

impl Desk {
    pub fn new(
        store: Arc<dyn Store>,
        doors: Arc<dyn Doors>,
        settings: Settings,
        targets: Targets,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        let (told, left, ordered) = (Notify::new(), Notify::new(), Notify::new());
        Self(Arc::new(Inner { store, doors, settings, targets, clock, entropy, told, left, ordered }))
    }

    /// That its newest sealed event cannot be rewritten unseen.
    ///
    /// # Errors
    /// [`Unproved`].
    pub async fn proof(&self, id: CaseId, asked: ProofAsked) -> Result<DecisionProof, Unproved> {
        seal::shown(&*self.0.store, Of::Case(id), asked).await
    }

    /// Opens a case for what a filter saw, or adds it to the undecided one of the same project, category and model.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn flagged(&self, flag: Flag, seal: Sealing<'_>) -> Result<CaseId, Trouble> {
        let Flag { subject, seen, at } = flag;
        let filter = Actor { id: "filter".into(), role: Role::Bot };
        for _ in 0..TRIES_MAX {
            let known = self.0.store.case_undecided(&subject, &seen.category, seen.model.as_str()).await?;
            if let Some(id) = known {
                let Some(mut case) = self.0.store.case(id).await? else { return Err(Trouble::NotFound) };
                match case.act(Act::Add { seen: seen.clone() }, &filter, at, &self.0.settings) {
                    // Somebody has decided meanwhile: what was seen now is another case.
                    Err(Refused::NotNow { .. }) => continue,
                    // As often as it was seen already, once more says nothing new.
                    Err(_) => return Ok(id),
                    Ok(_) => match self.keep(&case, None).await {
                        Err(Trouble::Moved) => continue,
                        done => return done.map(|()| id),
                    },
                }
            }
            let id = CaseId((self.0.entropy)());
            let excerpt = seal(id).map_err(Trouble::Unsealed)?;
            let digest = excerpt.as_ref().map(|excerpt| Digest::of(&excerpt.sealed));
            let what = (subject.clone(), seen.clone());
            let case = Case::open(id, what, digest, (&filter, String::new()), at, &self.0.settings)?;
            match self.begin(&case, excerpt.as_ref(), true, self.0.settings.open()).await {
                // Another gateway has opened it in the same moment.
                Err(Trouble::Moved) => {}
                done => return done.map(|()| id),
            }
        }
        Err(Trouble::Moved)
    }

    /// Opens one by somebody's own word. Cases that filters open do not stand in its way.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn word(&self, subject: String, seen: Seen, author: String, reason: String) -> Result<Case, Trouble> {
        let handler = Actor { id: author, role: Role::Handler };
        let id = CaseId((self.0.entropy)());
        let case = Case::open(id, (subject, seen), None, (&handler, reason), (self.0.clock)(), &self.0.settings)?;
        let most = OpenMax { all: u32::MAX, ..self.0.settings.open() };
        self.begin(&case, None, false, most).await?;
        Ok(case)
    }

    async fn begin(
        &self,
        case: &Case,
        excerpt: Option<&Excerpt>,
        gathers: bool,
        open_max: OpenMax,
    ) -> Result<(), Trouble> {
        let deliveries = self.said(case);
        let append = Append { case, excerpt, gathers, has_effect: false, deliveries: &deliveries, open_max };
        self.append(append).await
    }

    async fn append(&self, append: Append<'_>) -> Result<(), Trouble> {
        match self.0.store.case_append(append).await? {
            Appended::Done => {
                if !append.deliveries.is_empty() {
                    self.0.told.notify_one();
                }
                Ok(())
            }
            Appended::Moved => Err(Trouble::Moved),
            Appended::TooMany { what, most } => Err(Trouble::TooMany { what, most }),
        }
    }

    /// What is said of the newest event, to each receiver.
    fn said(&self, case: &Case) -> Vec<Delivery> {
        notices::notices(case).iter().flat_map(|notice| self.0.targets.deliveries(notice)).collect()
    }

    /// Says of clocks that will run out soon that they will, once each, whichever process comes first.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn remind(&self) -> Result<(), Trouble> {
        if self.0.targets.names().is_empty() {
            return Ok(());
        }
        let now = (self.0.clock)();
        let mut after = None;
        while let Some(page) = some(self.0.store.case_due(now.plus(SOON_S), after, PAGE).await?) {
            after = page.last().copied();
            let mut deliveries = Vec::new();
            for (_, id) in page {
                let said = self.find(id).await.map(|case| notices::soon(&case, now));
                deliveries.extend(said.ok().flatten().iter().flat_map(|notice| self.0.targets.deliveries(notice)));
            }
            if !deliveries.is_empty() {
                self.0.store.tell(&deliveries, now).await?;
                self.0.told.notify_one();
            }
        }
        Ok(())
    }

    /// Ends whenever there are notices to deliver.
    pub async fn has_said(&self) {
        self.0.told.notified().await;
    }

    /// Any case.
    ///
    /// # Errors
    /// [`Trouble::NotFound`].
    pub async fn find(&self, id: CaseId) -> Result<Case, Trouble> {
        self.0.store.case(id).await?.ok_or(Trouble::NotFound)
    }

    /// A case of a project.
    ///
    /// # Errors
    /// [`Trouble::NotFound`] also where it is another project's.
    pub async fn of_project(&self, subject: &str, id: CaseId) -> Result<Case, Trouble> {
        self.find(id).await.and_then(|case| if case.subject() == subject { Ok(case) } else { Err(Trouble::NotFound) })
    }

    /// A page, the newest first.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn list(&self, which: &Which, limit: u32) -> Result<Vec<Row>, Trouble> {
        Ok(self.0.store.case_list(which, limit).await?)
    }

    /// What was seen, as it was sealed, where it is still kept and is what the case was opened with.
    ///
    /// # Errors
    /// [`Trouble::Unsealed`] where it is something else.
    pub async fn excerpt(&self, case: &Case) -> Result<Option<Excerpt>, Trouble> {
        match (case.excerpt(), self.0.store.excerpt(case.id()).await?) {
            (Some(digest), Some(excerpt)) if Digest::of(&excerpt.sealed) == digest => Ok(Some(excerpt)),
            (Some(_), Some(_)) => Err(Trouble::Unsealed("it is not what the case was opened with".into())),
            _ => Ok(None),
        }
    }

    /// Of all cases.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn statistics(&self) -> Result<Statistics, Trouble> {
        let mut all = Vec::new();
        self.each(|case| all.push(case)).await?;
        Ok(Statistics::of(&all))
    }

    /// What happened within a quarter.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn tally(&self, quarter: Quarter) -> Result<Tally, Trouble> {
        let mut tally = Tally::default();
        self.each(|case| tally.count(&case, quarter)).await?;
        Ok(tally)
    }

    async fn each(&self, mut with: impl FnMut(Case)) -> Result<(), Trouble> {
        let mut which = Which::default();
        loop {
            let page = self.list(&which, PAGE).await?;
            for row in &page {
                if let Some(case) = self.0.store.case(row.id).await? {
                    with(case);
                }
            }
            match page.last() {
                Some(last) => which.after = Some(last.cursor()),
                None => return Ok(()),
            }
        }
    }

    /// What the owner's side does, or writes down for the project.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn act_of_owner(&self, id: CaseId, role: Role, author: String, act: Act) -> Result<Case, Trouble> {
        for _ in 0..TRIES_MAX {
            let case = self.find(id).await?;
            // The project's word comes by whoever brings it, under the project's name.
            let (act, who) = match (role, act.clone()) {
                (Role::Project, Act::Answer { text, .. }) => {
                    (Act::Answer { text, brought_by: Some(author.clone()) }, case.subject())
                }
                (Role::Project, Act::Appeal { reason, .. }) => {
                    (Act::Appeal { reason, brought_by: Some(author.clone()) }, case.subject())
                }
                // The project sees that it is there, and its link: a salt keeps the words from being guessed by it.
                (_, Act::Remark { text, .. }) => (Act::Remark { text, salt: Some(self.salt()) }, author.as_str()),
                (_, Act::Refund { token, amount, reason, .. }) => {
                    let ask = ToGive { token, amount, reason };
                    return self.order(id, &Actor { id: author, role }, ask, Again::No).await;
                }
                (_, act) => (act, author.as_str()),
            };
            let actor = Actor { id: who.to_owned(), role };
            match self.act(case, act, &actor).await {
                Err(Trouble::Moved) => {}
                done => return done,
            }
        }
        Err(Trouble::Moved)
    }

    /// What the project does by its own key, behind the link that it saw. What it did there already is done.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn act_of_project(&self, subject: &str, id: CaseId, after: Digest, act: Act) -> Result<Case, Trouble> {
        let case = self.of_project(subject, id).await?;
        let actor = Actor { id: subject.to_owned(), role: Role::Project };
        if case.link() != after {
            let next = case.events().iter().map(|recorded| recorded.event()).find(|event| event.before == after);
            let is_repeat =
                next.is_some_and(|next| next.author == actor.id && next.role == actor.role && next.act == act);
            return if is_repeat { Ok(case) } else { Err(Trouble::Moved) };
        }
        self.act(case, act, &actor).await
    }

    async fn act(&self, mut case: Case, act: Act, actor: &Actor) -> Result<Case, Trouble> {
        let (_, effect) = case.act(act, actor, (self.0.clock)(), &self.0.settings)?;
        self.keep(&case, effect).await?;
        Ok(case)
    }

    fn salt(&self) -> Digest {
        Digest::of_parts(&[&(self.0.entropy)(), &(self.0.entropy)()])
    }

    /// Writes the newest event, then does what follows of it.
    async fn keep(&self, case: &Case, effect: Option<Effect>) -> Result<(), Trouble> {
        let deliveries = self.said(case);
        let append = Append {
            case,
            excerpt: None,
            gathers: false,
            has_effect: effect.is_some(),
            deliveries: &deliveries,
            open_max: self.0.settings.open(),
        };
        self.append(append).await?;
        if effect.is_some() {
            let n = case.events().len() as u64;
            if let Err(error) = self.perform(case.id(), n).await {
                tracing::error!(case = %case.id(), n, error, "what was decided is not done yet; it is tried again");
                self.0.left.notify_one();
            }
        }
        Ok(())
    }

    /// Does what an event has left to be done, as the case stands now: who was let in again meanwhile is not stopped any more.
    async fn perform(&self, id: CaseId, n: u64) -> Result<(), String> {
        let case = self.find(id).await.map_err(|trouble| trouble.to_string())?;
        match case.left(n) {
            None => {}
            Some(Effect::Stop { subject, reason }) => self.0.doors.stop(id, subject, reason).await?,
            Some(Effect::Lift { subject }) => {
                let others = self.others(&subject, id).await.map_err(|trouble| trouble.to_string())?;
                self.0.doors.lift(id, subject, others).await?;
            }
            // The house may be long in answering, and nobody is let in or stopped the later for that.
            Some(Effect::Refund(_)) => {
                self.0.ordered.notify_one();
                return Ok(());
            }
        }
        self.0.store.case_effect_done(id, n).await.map_err(|error| error.to_string())
    }

    async fn others(&self, subject: &str, but: CaseId) -> Result<Others, Trouble> {
        let mut others = Others::default();
        let mut which = Which { subject: Some(subject.to_owned()), ..Which::default() };
        loop {
            let page = self.list(&which, PAGE).await?;
            for row in page.iter().filter(|row| row.id != but && !row.state.is_for_the_project()) {
                let Some(case) = self.0.store.case(row.id).await? else { continue };
                match case.state() {
                    State::Open | State::ToDecide => {
                        others.suspend |= case.seen().iter().any(|seen| seen.action == FilterAction::Suspend);
                    }
                    _ if case.measure() == Some(Measure::Stop) => others.stop = Some(case.id()),
                    _ => {}
                }
            }
            match page.last() {
                Some(last) => which.after = Some(last.cursor()),
                None => return Ok(others),
            }
        }
    }

    /// Does what decisions have left to be done; whether nothing is left.
    pub async fn settle(&self) -> bool {
        let (mut after, mut is_all) = (None, true);
        loop {
            let notes = match self.0.store.case_effects(after, PAGE).await {
                Ok(notes) => notes,
                Err(error) => {
                    tracing::error!(%error, "cannot read what decisions in cases have left to be done");
                    return false;
                }
            };
            let Some(last) = notes.last().copied() else { return is_all };
            for (case, n) in notes {
                if let Err(error) = self.perform(case, n).await {
                    tracing::error!(%case, n, error, "what was decided is not done yet");
                    is_all = false;
                }
            }
            after = Some(last);
        }
    }

    /// Brings what clocks that have run out bring, and deletes what was kept for long enough; how many acts that were.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn tick(&self) -> Result<usize, Trouble> {
        let now = (self.0.clock)();
        let (mut acts, mut after) = (0, None);
        while let Some(page) = some(self.0.store.case_due(now, after, PAGE).await?) {
            after = page.last().copied();
            for (_, id) in page {
                acts += self.one(id, |case| case.tick(now)).await?;
            }
        }
        after = None;
        while let Some(page) = some(self.0.store.excerpts_due(now, after, PAGE).await?) {
            after = page.last().copied();
            for (_, id) in page {
                let clock = || Actor { id: "clock".into(), role: Role::Bot };
                acts += self.one(id, |case| case.excerpt().map(|_| (Act::Forget {}, clock()))).await?;
            }
        }
        Ok(acts)
    }

    /// One case that cannot be read or moved on keeps no other from its clock.
    async fn one(&self, id: CaseId, next: impl Fn(&Case) -> Option<(Act, Actor)>) -> Result<usize, Trouble> {
        let case = match self.find(id).await {
            Err(Trouble::Store(error @ StoreError::Unreadable { .. })) => {
                tracing::error!(case = %id, %error, "a case's time is over, and its log does not hold");
                return Ok(0);
            }
            found => found?,
        };
        let Some((act, clock)) = next(&case) else { return Ok(0) };
        match self.act(case, act, &clock).await {
            // Another process was quicker.
            Err(Trouble::Moved) => Ok(0),
            Err(Trouble::Refused(refused)) => {
                tracing::error!(case = %id, %refused, "the clock of a case");
                Ok(0)
            }
            done => done.map(|_| 1),
        }
    }

    /// Goes on for ever: clocks, what decisions have left to be done, and credit notes.
    pub async fn run(&self) -> std::convert::Infallible {
        tokio::select! {
            never = self.run_clocks() => never,
            never = self.run_refunds() => never,
        }
    }

    async fn run_clocks(&self) -> std::convert::Infallible {
        const EVERY: Duration = Duration::from_secs(15);
        const AGAIN: Duration = Duration::from_secs(1);
        const REMIND: Duration = Duration::from_secs(3600);
        let mut remind_at = tokio::time::Instant::now();
        loop {
            if remind_at <= tokio::time::Instant::now() {
                remind_at = tokio::time::Instant::now() + REMIND;
                if let Err(error) = self.remind().await {
                    tracing::error!(%error, "nobody was told of cases whose clock runs out soon; it is tried in an hour");
                }
            }
            if let Err(error) = self.tick().await {
                tracing::error!(%error, "the clocks of cases stand still; they are looked at again");
            }
            let pause = if self.settle().await { EVERY } else { AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.left.notified() => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// What the project can do in a case now.
    pub fn can(case: &Case) -> impl Iterator<Item = Kind> {
        let state = case.state();
        Kind::ALL.iter().copied().filter(move |kind| super::matrix::allows(*kind, Role::Project, state))
    }
}

fn some<T>(page: Vec<T>) -> Option<Vec<T>> {
    (!page.is_empty()).then_some(page)
}

#[cfg(test)]
mod tests;
