//! The desk: what comes from either side is decided by the rules of [`Application`] and kept, then what was decided is done to the
//! node's grants.
//!
//! A decision and what it does to the grants are in two stores. The decision is written first, with a note of what has to be done; the
//! note is crossed out once it was done. [`Desk::settle`] does what notes are left: at a start, before anybody is let in, and again
//! while the node runs.

mod looking;
mod turn;

use std::sync::Arc;

use comity_wire::object::Vetting;
use comity_wire::{Digest, GrantId, ModelId, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::act::{Act, Actor, Kind, Role, State, Terms};
use crate::application::Application;
use crate::clock::Party;
use crate::config::{Config, Person};
use crate::form::{Answers, Form};
use crate::id::ApplicationId;
use crate::notice::{self, Delivery, Outbox, Targets};
use crate::refused::Refused;
use crate::rules::{self, Facts};
use crate::store::{Append, Appended, Attached, Effect, EffectKind, Filter, Row, Store, StoreError, effect_of};

/// The node's grants, as the desk changes them. Each may be asked again with the same id, and then changes nothing.
pub trait Grants: Send + Sync {
    /// Signs a grant under this id and lets calls in by it.
    fn put(&self, decided: Decided) -> BoxFuture<'_, Result<(), String>>;
    /// Lets no further call in by it.
    fn withdraw(&self, id: GrantId) -> BoxFuture<'_, Result<(), String>>;
}

/// What a grant is signed from. The same decision gives the same bytes, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The grant's id.
    pub id: GrantId,
    /// The project's pseudonym.
    pub subject: String,
    /// What is granted.
    pub terms: Terms,
    /// Why.
    pub reason: String,
    /// When it was decided.
    pub at: Timestamp,
}

/// The time, and 16 random bytes.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// As it says.
pub type Entropy = Arc<dyn Fn() -> [u8; 16] + Send + Sync>;

/// A form and its text, with the models that it is for; none: all.
#[derive(Clone, Debug)]
pub struct FormOf {
    /// Read.
    pub form: Form,
    /// As it was written.
    pub text: String,
    /// For which.
    pub models: Vec<ModelId>,
}

/// Whoever applies, as their token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its pseudonym at this organisation.
    pub subject: String,
    /// Whether the token itself was theirs, or a part that was handed on.
    pub is_holder: bool,
    /// As the house states it.
    pub vetting: Vetting,
    /// Declared at the house.
    pub purposes: Vec<String>,
}

impl Project {
    fn actor(&self) -> Actor {
        let role = if self.is_holder { Role::Applicant } else { Role::Member };
        Actor { id: self.subject.clone(), role, organisation: None }
    }

    fn roles(&self) -> &'static [Role] {
        if self.is_holder { &[Role::Applicant] } else { &[Role::Member] }
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The rules.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Something happened to it since the caller looked.
    #[error("the application has moved on since you looked at it; look again, then decide")]
    Moved,
    /// Whoever asks has declared a conflict of interest.
    #[error("you stepped back from this application, and it is shown to others only")]
    SteppedBack,
    /// There is none, or none of the caller's.
    #[error("there is no such application here")]
    NotFound,
    /// A bound.
    #[error("there are {most} {what} already, and no more are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// No form is for these models together.
    #[error("no one form is for all of these models: apply for them one by one")]
    NoForm,
    /// The configuration names nobody of that name.
    #[error("{0} is not a [[access.person]] of this node")]
    Unknown(String),
    /// What came is not what was announced.
    #[error("{0}")]
    Content(&'static str),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An owner's applications. Cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    grants: Arc<dyn Grants>,
    config: Config,
    persons: Vec<Person>,
    forms: Vec<FormOf>,
    targets: Targets,
    clock: Clock,
    entropy: Entropy,
    /// Something was said.
    told: Notify,
    /// Something is left to be done to the grants.
    left: Notify,
}

/// The end of a notice that there is none of.
const AT_ONCE: Timestamp = Timestamp(0);

impl Desk {
    /// A desk with its store and its forms; the last form is for models that no other names.
    pub fn new(
        store: Arc<dyn Store>,
        grants: Arc<dyn Grants>,
        config: Config,
        mut forms: Vec<FormOf>,
        targets: Targets,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        let text = include_str!("../forms/default.toml");
        let form = Form::read(text).expect("the form that ships is one");
        forms.push(FormOf { form, text: text.to_owned(), models: Vec::new() });
        let persons = config.persons();
        let (told, left) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { store, grants, config, persons, forms, targets, clock, entropy, told, left }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Those who act for the owner.
    pub fn persons(&self) -> &[Person] {
        &self.0.persons
    }

    /// Of a name.
    ///
    /// # Errors
    /// [`Trouble::Unknown`].
    pub fn person(&self, id: &str) -> Result<&Person, Trouble> {
        self.0.persons.iter().find(|person| person.id == id).ok_or_else(|| Trouble::Unknown(id.to_owned()))
    }

    /// The form for these models.
    ///
    /// # Errors
    /// [`Trouble::NoForm`] where they have different ones.
    pub fn form_for(&self, models: &[ModelId]) -> Result<&FormOf, Trouble> {
        let of =
            |model: &ModelId| self.0.forms.iter().find(|form| form.models.is_empty() || form.models.contains(model));
        let mut forms = models.iter().filter_map(of);
        let first = forms.next().ok_or(Trouble::Refused(Refused::Content("no model is named")))?;
        if forms.all(|form| form.form.digest() == first.form.digest()) { Ok(first) } else { Err(Trouble::NoForm) }
    }

    /// Begins an application. One with this id that the same project began before is given back as it is.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn open(
        &self,
        project: &Project,
        id: ApplicationId,
        models: Vec<ModelId>,
        answers: Answers,
    ) -> Result<Application, Trouble> {
        if let Some(known) = self.0.store.load(id).await? {
            return if known.subject() == project.subject { Ok(known) } else { Err(Trouble::NotFound) };
        }
        let form = self.form_for(&models)?;
        let opened = Application::open(id, &form.form, &project.actor(), models, answers, (self.0.clock)())?;
        self.begin(opened, form).await
    }

    /// Begins another with the models and answers of one that is over.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn copy(&self, project: &Project, of: ApplicationId, id: ApplicationId) -> Result<Application, Trouble> {
        if let Some(known) = self.0.store.load(id).await? {
            return if known.subject() == project.subject { Ok(known) } else { Err(Trouble::NotFound) };
        }
        let before = self.of_project(project, of).await?;
        let form = self.form_for(before.models())?;
        let opened = before.copy_as_new(id, &form.form, &project.actor(), (self.0.clock)())?;
        self.begin(opened, form).await
    }

    async fn begin(&self, opened: Application, form: &FormOf) -> Result<Application, Trouble> {
        let deliveries = self.said(&opened, &form.form);
        let append = Append {
            application: &opened,
            form: &form.form,
            form_text: &form.text,
            effect: None,
            deliveries: &deliveries,
            open_max: self.0.config.open(),
        };
        match self.0.store.append(append).await? {
            Appended::Done => Ok(opened),
            Appended::Moved => Err(Trouble::Moved),
            Appended::TooMany { what, most } => Err(Trouble::TooMany { what, most }),
        }
    }

    /// An application of a project.
    ///
    /// # Errors
    /// [`Trouble::NotFound`] also where it is another project's.
    pub async fn of_project(&self, project: &Project, id: ApplicationId) -> Result<Application, Trouble> {
        let found = self.0.store.load(id).await?;
        found.filter(|found| found.subject() == project.subject).ok_or(Trouble::NotFound)
    }

    /// Any application.
    ///
    /// # Errors
    /// [`Trouble::NotFound`].
    pub async fn find(&self, id: ApplicationId) -> Result<Application, Trouble> {
        self.0.store.load(id).await?.ok_or(Trouble::NotFound)
    }

    /// A page of them.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Row>, Trouble> {
        Ok(self.0.store.list(filter, limit).await?)
    }

    /// What the applicant's side does. What the owner's rules say to it is done as well.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn act_of_project(
        &self,
        project: &Project,
        id: ApplicationId,
        after: Digest,
        act: Act,
    ) -> Result<Application, Trouble> {
        let application = self.of_project(project, id).await?;
        let is_handed_in = matches!(act.kind(), Kind::Submit | Kind::Answer);
        let application = self.act(application, after, act, &project.actor()).await?;
        // Not where a repeat comes later, nor where a person has begun to look: what they found is theirs to weigh.
        let newest = application.events().last().map(|newest| newest.event().act.kind());
        let is_looked_at = application.events().iter().any(|recorded| Party::of(recorded.event().role) == Party::Owner);
        let is_fresh = application.state() == State::Submitted && matches!(newest, Some(Kind::Submit | Kind::Answer));
        if !is_handed_in || !is_fresh || is_looked_at {
            return Ok(application);
        }
        let facts = Facts {
            vetting: project.vetting,
            purposes: project.purposes.clone(),
            was_revoked: self.0.store.was_revoked(&project.subject).await?,
        };
        self.by_rule(application, &facts).await
    }

    /// What the owner's side does, in the name of one of its persons.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn act_of_owner(
        &self,
        person: &Person,
        role: Option<Role>,
        id: ApplicationId,
        after: Option<Digest>,
        act: Act,
    ) -> Result<Application, Trouble> {
        let application = self.find(id).await?;
        let mut actor = person.actor(act.kind(), application.state());
        if let Some(role) = role {
            if !person.roles.contains(&role) {
                return Err(Trouble::Content("the person does not have that role"));
            }
            actor.role = role;
        }
        let after = after.unwrap_or_else(|| application.head());
        self.act(application, after, act, &actor).await
    }

    /// An application that it is not the turn of any more is what somebody else made of it: an act that stands there already is done.
    async fn act(
        &self,
        mut application: Application,
        after: Digest,
        act: Act,
        actor: &Actor,
    ) -> Result<Application, Trouble> {
        if application.head() != after {
            let next = application.events().iter().find(|recorded| recorded.event().before == after);
            let is_repeat = next.is_some_and(|next| {
                let event = next.event();
                event.author == actor.id && event.role == actor.role && is_done(&act, &event.act, event.at)
            });
            return if is_repeat { Ok(application) } else { Err(Trouble::Moved) };
        }
        let form = self.form_of(&application).await?;
        let (before, now) = (application.state(), (self.0.clock)());
        let act = match act {
            // Without a notice: by this node's clock, whatever the caller's says.
            Act::Revoke { reason, effective: AT_ONCE } => Act::Revoke { reason, effective: now },
            act => act,
        };
        application.salt((self.0.entropy)());
        application.act(act, actor, &form.form, now)?;
        self.keep(&application, before, &form).await?;
        Ok(application)
    }

    async fn form_of(&self, application: &Application) -> Result<FormOf, Trouble> {
        let digest = application.form();
        if let Some(known) = self.0.forms.iter().find(|known| known.form.digest() == digest) {
            return Ok(known.clone());
        }
        let lost = || StoreError::Unreadable { what: "an application whose form is lost".into() };
        let text = self.0.store.form(digest).await?.ok_or_else(lost)?;
        // It was one when it was kept; a rule that came since does not change it.
        let form = Form::read(&text).map_err(|_| lost())?;
        Ok(FormOf { form, text, models: Vec::new() })
    }

    /// What is said of the newest event, to each receiver.
    fn said(&self, application: &Application, form: &Form) -> Vec<Delivery> {
        let Some(newest) = application.events().last() else { return Vec::new() };
        let wanted = notice::signature_wanted(newest, application, &form.settings);
        let notices = notice::notices(newest, application).into_iter().chain(wanted);
        notices.flat_map(|notice| self.0.targets.deliveries(&notice)).collect()
    }

    /// Ends whenever there are notices to deliver.
    pub async fn has_said(&self) {
        self.0.told.notified().await;
    }

    /// Where notices wait.
    pub fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.0.store) as Arc<dyn Outbox>
    }

    /// Writes the newest event, then does what it does to the grants.
    async fn keep(&self, application: &Application, before: State, form: &FormOf) -> Result<(), Trouble> {
        let n = application.events().len() as u64;
        let of = |kind, grant| Effect { application: application.id(), n, kind, grant };
        let effect = match effect_of(before, application) {
            None => None,
            Some(EffectKind::Grant) => Some(of(EffectKind::Grant, GrantId((self.0.entropy)()))),
            Some(EffectKind::Withdraw) => {
                let grant = self.0.store.grant_of(application.id()).await?;
                grant.map(|grant| of(EffectKind::Withdraw, grant))
            }
        };
        let deliveries = self.said(application, &form.form);
        let append = Append {
            application,
            form: &form.form,
            form_text: &form.text,
            effect,
            deliveries: &deliveries,
            open_max: self.0.config.open(),
        };
        match self.0.store.append(append).await? {
            Appended::Done if !deliveries.is_empty() => self.0.told.notify_one(),
            Appended::Done => {}
            Appended::Moved => return Err(Trouble::Moved),
            Appended::TooMany { what, most } => return Err(Trouble::TooMany { what, most }),
        }
        if let Some(effect) = effect
            && let Err(error) = self.perform(effect).await
        {
            tracing::error!(application = %effect.application, grant = %effect.grant, error, "what was decided is not done yet; it is tried again");
            self.0.left.notify_one();
        }
        Ok(())
    }

    async fn perform(&self, effect: Effect) -> Result<(), String> {
        match effect.kind {
            EffectKind::Withdraw => self.0.grants.withdraw(effect.grant).await?,
            EffectKind::Grant => {
                let application = self.0.store.load(effect.application).await.map_err(|error| error.to_string())?;
                let application = application.ok_or_else(|| "the application is gone".to_owned())?;
                let decided = application.events().iter().find(|recorded| recorded.event().n == effect.n);
                let decided = decided.ok_or_else(|| "the event is gone".to_owned())?.event();
                let (Act::Approve { terms, reason } | Act::Reinstate { terms, reason }) = &decided.act else {
                    return Err("the event grants nothing".to_owned());
                };
                let decided = Decided {
                    id: effect.grant,
                    subject: application.subject().to_owned(),
                    terms: terms.clone(),
                    reason: reason.clone(),
                    at: decided.at,
                };
                self.0.grants.put(decided).await?;
            }
        }
        self.0.store.effect_done(effect).await.map_err(|error| error.to_string())
    }

    async fn by_rule(&self, mut application: Application, facts: &Facts) -> Result<Application, Trouble> {
        let form = self.form_of(&application).await?;
        let now = (self.0.clock)();
        let most = form.form.settings.grant_s_max;
        let Some((act, actor)) = rules::apply(&self.0.config.rule, &application, facts, most, now) else {
            return Ok(application);
        };
        let before = application.state();
        application.salt((self.0.entropy)());
        match application.act(act, &actor, &form.form, now) {
            Ok(_) => match self.keep(&application, before, &form).await {
                // Somebody was quicker than the rule: that stands.
                Err(Trouble::Moved) => self.find(application.id()).await,
                Err(trouble) => Err(trouble),
                Ok(()) => Ok(application),
            },
            // Something is missing that a rule cannot give: it goes the common way.
            Err(refused) => {
                tracing::info!(application = %application.id(), %refused, rule = actor.id, "a rule was met and could not be done");
                Ok(application)
            }
        }
    }

    /// Keeps the bytes of an attachment that the application names.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn attach(&self, project: &Project, id: ApplicationId, bytes: &[u8]) -> Result<(), Trouble> {
        let application = self.of_project(project, id).await?;
        let digest = Digest::of(bytes);
        let named = application.events().iter().any(|recorded| {
            matches!(&recorded.event().act, Act::Attach { digest: named, bytes: length, .. }
                if *named == digest && *length == bytes.len() as u64)
        });
        if !named {
            return Err(Trouble::Content("the application names no attachment with these bytes; attach it first"));
        }
        match self.0.store.attach(&application, digest, bytes, self.0.config.kept()).await? {
            Attached::Done => Ok(()),
            Attached::TooMuch { what, most } => Err(Trouble::TooMany { what, most }),
        }
    }

    /// The application that a grant came of; none, where the operator gave it without one.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn application_of(&self, grant: GrantId) -> Result<Option<ApplicationId>, Trouble> {
        Ok(self.0.store.application_of(grant).await?)
    }

    /// An attachment's bytes.
    ///
    /// # Errors
    /// [`Trouble::NotFound`] where they were never sent, or are kept no longer.
    pub async fn attachment(&self, id: ApplicationId, digest: Digest) -> Result<Vec<u8>, Trouble> {
        self.0.store.attachment(id, digest).await?.ok_or(Trouble::NotFound)
    }
}

/// Whether an act is the one that stands in the log.
fn is_done(asked: &Act, stands: &Act, at: Timestamp) -> bool {
    match (asked, stands) {
        (Act::Revoke { reason, effective: AT_ONCE }, Act::Revoke { reason: said, effective }) => {
            reason == said && *effective <= at
        }
        (asked, stands) => asked == stands,
    }
}

#[cfg(test)]
mod tests;
