//! Cases at this node: flags open them, the operator and the clock go on with them, and what follows is done at the gateway.
//!
//! What was seen is kept only where the tier's log class keeps texts, sealed for a key in `keys/`, and deleted when the model's
//! retention is over. Each process of a node has its own file of cases (decision 0060).

mod seal;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comity_access::case::store::{Cases, Excerpt, StoreError, Which};
use comity_access::case::{Act, Actor, Case, CaseId, Effect, Notice, Role, Seen, Settings, State, Statistics};
use comity_gateway::store::stops::{Running, Stop, Target, Word};
use comity_gateway::{Flagged, Flags, Gateway, Words};
use comity_wire::object::FilterAction;
use comity_wire::time::DAY_S;
use comity_wire::{Digest, ModelId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::shell;

use seal::Seal;

/// Flags that wait to be written down; what comes above that is counted, and still stands in the node's list.
const WAITING_MAX: usize = 1_024;
/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(30);
/// A case that others write at the same moment is read again so often.
const TRIES_MAX: usize = 8;
/// The file in the home.
const FILE: &str = "cases.sqlite";

/// Where flags become cases.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    store: Cases,
    seal: Seal,
    settings: Settings,
    opened: mpsc::Sender<Opening>,
    dropped: AtomicU64,
}

/// A flag on its way to a case.
struct Opening {
    flagged: Flagged,
    /// What was seen, and for how long it is kept.
    text: Option<(String, u64)>,
}

/// The other end of what flags put in.
pub struct Queue(mpsc::Receiver<Opening>);

/// What an operator's command asks of one case.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub act: Act,
    pub role: Role,
    pub author: String,
}

/// What an operator opens by their own word.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAsk {
    pub project: String,
    pub model: ModelId,
    pub category: String,
    pub reason: String,
    pub author: String,
}

/// A case as it is shown to the owner's side.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub notice: Notice,
    pub events: Vec<serde_json::Value>,
    /// Of the prompt, where it is kept.
    pub seen_text: Option<String>,
}

impl Desk {
    /// Opens the cases of a home, and makes the key where there is none.
    ///
    /// # Errors
    /// [`Failure`] naming what cannot be opened.
    pub async fn open(home: &Home) -> Result<(Self, Queue), Failure> {
        let path = home.file(FILE);
        let store = Cases::open(&path).await.while_(format!("cannot open {}", path.display()))?;
        let seal = Seal::of(&home.path)?;
        let (opened, queue) = mpsc::channel(WAITING_MAX);
        let inner = Inner { store, seal, settings: Settings::default(), opened, dropped: AtomicU64::new(0) };
        Ok((Self(Arc::new(inner)), Queue(queue)))
    }

    /// Writes down what flags open, and does what the clock brings, until `stop`.
    pub async fn run(self, mut queue: Queue, gateway: Gateway, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                opening = queue.0.recv() => match opening {
                    Some(opening) => self.take(opening).await,
                    None => break,
                },
                _ = ticks.tick() => self.tick(&gateway, shell::now()).await,
            }
        }
        // What came before the end is written down.
        while let Ok(opening) = queue.0.try_recv() {
            self.take(opening).await;
        }
        self.0.store.close().await;
    }

    async fn take(&self, opening: Opening) {
        if let Err(failure) = self.taken(opening).await {
            tracing::error!(%failure, "a flag has no case; it stands in the list of `comity node flags`");
        }
    }

    async fn taken(&self, Opening { flagged, text }: Opening) -> Result<CaseId, Failure> {
        let store = &self.0.store;
        let (subject, seen) = (flagged.project.clone(), seen(&flagged)?);
        let filter = Actor { id: "filter".into(), role: Role::Bot };
        for _ in 0..TRIES_MAX {
            let Some(mut case) = store.case_undecided(&subject, &seen.category, seen.model.as_str()).await? else {
                break;
            };
            match case.act(Act::Add { seen: seen.clone() }, &filter, flagged.at, &self.0.settings) {
                // As often as it was seen already, once more says nothing new.
                Err(_) => return Ok(case.id()),
                Ok(_) => match store.case_append(&case).await {
                    Err(StoreError::Raced { .. }) => {}
                    done => return done.map(|()| case.id()).map_err(Failure::from),
                },
            }
        }
        let id = CaseId(shell::random());
        let excerpt = match text {
            Some((text, days)) => {
                let sealed = self.0.seal.close(id, &text)?;
                Some(Excerpt { sealed, until: flagged.at.plus(days * DAY_S) })
            }
            None => None,
        };
        let digest = excerpt.as_ref().map(|excerpt| Digest::of(&excerpt.sealed));
        let by = (&filter, String::new());
        let case = Case::open(id, (subject, seen), digest, by, flagged.at, &self.0.settings)?;
        store.case_open(&case, excerpt.as_ref()).await?;
        tracing::info!(case = %id, project = case.subject(), "a flag has opened a case");
        Ok(id)
    }

    /// An operator's own word.
    ///
    /// # Errors
    /// [`Failure`] where it is refused.
    pub async fn word(&self, ask: OpenAsk) -> Result<Notice, Failure> {
        let OpenAsk { project, model, category, reason, author } = ask;
        let (rule, band, action) = ("operator".to_owned(), "high".to_owned(), FilterAction::Log);
        let seen = Seen { model, category, rule, band, count: 1, action };
        let handler = Actor { id: author, role: Role::Handler };
        let by = (&handler, reason);
        let case = Case::open(CaseId(shell::random()), (project, seen), None, by, shell::now(), &self.0.settings)?;
        self.0.store.case_open(&case, None).await?;
        Ok(case.notice())
    }

    /// Does one thing in a case, and what follows of it.
    ///
    /// # Errors
    /// [`Failure`] where the rules refuse it, or it is not written down.
    pub async fn act(&self, gateway: &Gateway, id: CaseId, ask: Ask) -> Result<Notice, Failure> {
        let Ask { act, role, author } = ask;
        if role == Role::Bot {
            return Err(Failure::new("the clock and the filter act by themselves"));
        }
        let mut tries = 0;
        loop {
            let mut case = self.0.store.case(id).await?.ok_or_else(|| unknown(id))?;
            // The project's word comes by whoever brings it, under the project's name.
            let (act, who) = match (role, act.clone()) {
                (Role::Project, Act::Answer { text, .. }) => {
                    (Act::Answer { text, brought_by: Some(author.clone()) }, case.subject())
                }
                (Role::Project, Act::Appeal { reason, .. }) => {
                    (Act::Appeal { reason, brought_by: Some(author.clone()) }, case.subject())
                }
                (_, act) => (act, author.as_str()),
            };
            let actor = Actor { id: who.to_owned(), role };
            let (_, effect) = case.act(act, &actor, shell::now(), &self.0.settings)?;
            match self.0.store.case_append(&case).await {
                Err(StoreError::Raced { .. }) if tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.follow(gateway, &case, effect).await?;
                    return Ok(case.notice());
                }
            }
        }
    }

    /// What follows of an act outside the case.
    async fn follow(&self, gateway: &Gateway, case: &Case, effect: Option<Effect>) -> Result<(), Failure> {
        let word = |reason: String| Word { author: case.id().to_string(), reason, at: shell::now() };
        match effect {
            None => Ok(()),
            Some(Effect::Stop { subject, reason }) => {
                let stop = Stop { target: Target::Project(subject), running: Running::Finishes, word: word(reason) };
                gateway.stop_put(stop).await.map(drop).while_(
                    "the case is upheld, and the project is not stopped yet: say it again with `comity node stop`",
                )
            }
            Some(Effect::Lift { subject }) => {
                let others = self.0.store.cases(&Which { subject: Some(subject.clone()), undecided: true }).await?;
                let suspends = |other: &Case| {
                    other.id() != case.id()
                        && matches!(other.state(), State::Open | State::ToDecide)
                        && other.seen().iter().any(|seen| seen.action == FilterAction::Suspend)
                };
                let hint = "the case has ended, and the project is not let in yet: say it with `comity node resume`";
                // Another case for which it is suspended goes on.
                if !others.iter().any(suspends) {
                    gateway.resume(&subject).await.while_(hint)?;
                }
                let target = Target::Project(subject);
                let is_ours = |stop: &Stop| stop.target == target && stop.word.author == case.id().to_string();
                if gateway.stops().iter().any(is_ours) {
                    gateway.stop_end(&target, &word("the case ended for the project".into())).await.while_(hint)?;
                }
                Ok(())
            }
        }
    }

    /// What the clock brings, and what is to be deleted.
    pub async fn tick(&self, gateway: &Gateway, now: Timestamp) {
        if let Err(failure) = self.ticked(gateway, now).await {
            tracing::error!(%failure, "the clock of cases; it is tried again");
        }
        let dropped = self.0.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "flags came faster than cases are written; they stand in the list alone");
        }
    }

    async fn ticked(&self, gateway: &Gateway, now: Timestamp) -> Result<(), Failure> {
        let store = &self.0.store;
        for id in store.cases_due(now).await? {
            let Some(mut case) = store.case(id).await? else { continue };
            let Some((act, clock)) = case.tick(now) else { continue };
            let (_, effect) = case.act(act, &clock, now, &self.0.settings)?;
            match store.case_append(&case).await {
                Err(StoreError::Raced { .. }) => {}
                done => {
                    done?;
                    self.follow(gateway, &case, effect).await?;
                }
            }
        }
        for id in store.excerpts_due(now).await? {
            let Some(mut case) = store.case(id).await? else { continue };
            let clock = Actor { id: "clock".into(), role: Role::Bot };
            if case.act(Act::Forget {}, &clock, now, &self.0.settings).is_ok() {
                match store.case_append(&case).await {
                    Ok(()) | Err(StoreError::Raced { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list(&self, which: &Which) -> Result<Vec<Notice>, Failure> {
        Ok(self.0.store.cases(which).await?.iter().map(Case::notice).collect())
    }

    /// # Errors
    /// [`Failure`].
    pub async fn statistics(&self) -> Result<Statistics, Failure> {
        Ok(Statistics::of(&self.0.store.cases(&Which::default()).await?))
    }

    /// # Errors
    /// [`Failure`] where there is none, or its log was changed.
    pub async fn show(&self, id: CaseId) -> Result<Shown, Failure> {
        let case = self.0.store.case(id).await?.ok_or_else(|| unknown(id))?;
        let events = case.events().iter().map(|event| serde_json::to_value(event.event())).collect::<Result<_, _>>()?;
        let seen_text = match (case.excerpt(), self.0.store.excerpt(id).await?) {
            (Some(digest), Some(excerpt)) if Digest::of(&excerpt.sealed) == digest => {
                Some(self.0.seal.open(id, &excerpt.sealed)?)
            }
            (Some(_), Some(_)) => return Err(Failure::new(format!("what {id} keeps is not what it was opened with"))),
            _ => None,
        };
        Ok(Shown { notice: case.notice(), events, seen_text })
    }
}

impl Flags for Desk {
    fn flag(&self, flagged: &Flagged, text: Option<Words<'_>>) {
        if !matches!(flagged.action, FilterAction::Hold | FilterAction::Block | FilterAction::Suspend) {
            return;
        }
        let text = text.map(|text| (text.said.to_owned(), u64::from(text.retention_days)));
        if self.0.opened.try_send(Opening { flagged: flagged.clone(), text }).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn seen(flagged: &Flagged) -> Result<Seen, Failure> {
    let band = serde_json::to_value(flagged.band)?.as_str().unwrap_or_default().to_owned();
    Ok(Seen {
        model: flagged.model.clone(),
        category: flagged.category.name().to_owned(),
        rule: flagged.rule.clone(),
        band,
        count: flagged.count,
        action: flagged.action,
    })
}

fn unknown(id: CaseId) -> Failure {
    Failure::new(format!("this process has no {id}"))
        .hint("comity cases list shows those it has; each process of a node has its own")
}
