//! What the owner's operator has stopped: a model, a project, the node. In force within a second at every gateway of the
//! node (decision 0061).
//!
//! A gateway goes by what it read last. Where others may write the store too, it looks [`LOOK_EVERY`], and no call goes to
//! the model on the strength of a look that is older than [`LOOK_MAX`]: who cannot look lets nobody in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use comity_http::Refusal;
use comity_wire::{Code, ModelId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gateway::Inner;
use crate::phase::authorise::Authorised;
use crate::refusal;
use crate::store::stops::{Running, Stop, Target, Word};
use crate::store::{Store, StoreError};

/// How often a gateway of a shared store looks whether something was said. One row is read.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How old the last look may be when a call goes to the model. With [`LOOK_EVERY`] it is hardly ever older.
const LOOK_MAX: Duration = Duration::from_millis(700);

/// What this gateway knows to be stopped.
pub(crate) struct Stopping {
    standing: RwLock<Standing>,
    /// Changes with each change of what is stopped, for those who wait or run.
    changed: watch::Sender<u64>,
    looked: Mutex<Looked>,
    /// One at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Standing {
    /// As the store has it.
    written: BTreeMap<Target, Stop>,
    /// What the store did not take: in force here until this process ends.
    unwritten: BTreeMap<Target, Stop>,
    /// This process ends: what still runs, ends now.
    is_ending: bool,
}

/// The last look: when it began, and what had been said by then.
#[derive(Clone, Copy)]
struct Looked {
    at: Instant,
    news: Option<u64>,
}

impl Standing {
    fn all(&self) -> impl Iterator<Item = &Stop> {
        self.written.values().chain(self.unwritten.values())
    }

    /// The widest stop that a call is of.
    fn of(&self, model: &ModelId, project: &str, least: Running) -> Option<&Stop> {
        let concerns = |stop: &&Stop| stop.running >= least && stop.target.covers(model, project);
        self.all().filter(concerns).min_by_key(|stop| &stop.target)
    }
}

impl Stopping {
    pub(crate) async fn new(store: &dyn Store) -> Result<Self, StoreError> {
        let stopping = Self {
            standing: RwLock::default(),
            changed: watch::Sender::new(0),
            looked: Mutex::new(Looked { at: Instant::now(), news: None }),
            looking: tokio::sync::Mutex::default(),
        };
        stopping.read(store).await?;
        Ok(stopping)
    }

    /// Reads again what is stopped.
    async fn read(&self, store: &dyn Store) -> Result<(), StoreError> {
        let stops = store.stops().await?.into_iter().map(|stop| (stop.target.clone(), stop)).collect();
        self.change(|standing| standing.written = stops);
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        let changed = change(&mut self.standing.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        changed
    }

    /// All that is stopped here, the node first.
    pub(crate) fn all(&self) -> Vec<Stop> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Stop> = standing.all().cloned().collect();
        all.sort_by(|one, other| one.target.cmp(&other.target));
        all
    }

    /// Whether a call may be let in, by what is known.
    pub(crate) fn admit(&self, model: &ModelId, project: &str) -> Result<(), Refusal> {
        match self.refused(model, project, Running::Finishes) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    fn refused(&self, model: &ModelId, project: &str, least: Running) -> Option<Refusal> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.of(model, project, least).map(refuse).or_else(|| standing.is_ending.then(ending))
    }

    /// Waits until a call may not wait any longer (`Finishes`), or not run any longer (`Ends`). Safe to drop.
    pub(crate) async fn stopped(&self, model: &ModelId, project: &str, least: Running) -> Refusal {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(refusal) = self.refused(model, project, least) {
                return refusal;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// From here on nothing waits, and nothing runs on: of this process alone, and not to be taken back.
    pub(crate) fn end(&self) {
        self.change(|standing| standing.is_ending = true);
    }

    fn looked(&self) -> Looked {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Looks, in a store that others may write, whether something was said, and reads it.
    async fn look(&self) -> Result<(), StoreError> {
        let stopping = &self.stopping;
        let _one = stopping.looking.lock().await;
        let at = Instant::now();
        let news = self.ledger.hear().await?;
        if stopping.looked().news != Some(news) {
            stopping.read(&**self.ledger.store()).await?;
        }
        *stopping.looked.lock().unwrap_or_else(PoisonError::into_inner) = Looked { at, news: Some(news) };
        Ok(())
    }

    /// Reads what others may have said; a store that nobody shares has said nothing that is not known here.
    pub(crate) async fn look_again(&self) -> Result<(), StoreError> {
        match self.ledger.store().rounds() {
            Some(_) => self.look().await,
            None => Ok(()),
        }
    }

    /// The last question before the model is asked: what was stopped a second ago is known by now, whatever the call has
    /// waited for on its way.
    pub(crate) async fn may_still_ask(&self, authorised: &Authorised) -> Result<(), Refusal> {
        let is_shared = self.ledger.store().rounds().is_some();
        if is_shared && self.stopping.looked().at.elapsed() > LOOK_MAX {
            self.look().await.map_err(|error| refusal::store(&error))?;
        }
        self.stopping.admit(&authorised.asked.model, authorised.subject())
    }

    /// In memory first: a store that does not answer delays the writing, never the stop.
    pub(crate) async fn stop_put(&self, stop: Stop) -> Result<Stop, StoreError> {
        self.stopping.change(|standing| {
            let stands = standing.unwritten.entry(stop.target.clone()).or_insert_with(|| stop.clone());
            stands.running = stands.running.max(stop.running);
        });
        // A look that began before this would take it back for a moment.
        let _one = self.stopping.looking.lock().await;
        let stands = self.ledger.store().stop_put(&stop).await?;
        self.stopping.change(|standing| {
            standing.written.insert(stands.target.clone(), stands.clone());
            standing.unwritten.remove(&stands.target);
        });
        Ok(stands)
    }

    /// In the store first: what is not written down as resumed stays stopped.
    pub(crate) async fn stop_end(&self, target: &Target, word: &Word) -> Result<Option<Stop>, StoreError> {
        let _one = self.stopping.looking.lock().await;
        let ended = self.ledger.store().stop_end(target, word).await?;
        let unwritten = self.stopping.change(|standing| {
            standing.written.remove(target);
            standing.unwritten.remove(target)
        });
        Ok(ended.or(unwritten))
    }
}

/// Looks as long as the gateway lives.
pub(crate) async fn look_always(gateway: Weak<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(inner) = gateway.upgrade() else { return };
        if let Err(error) = inner.look().await {
            tracing::debug!(%error, "it is not known whether the operator has stopped something; calls look for themselves");
        }
    }
}

fn ending() -> Refusal {
    Refusal::new(Code::Busy, "this process of the node was told to end, and what took longer was ended with it")
        .with("whose_move", "caller")
        .retry_after_s(5)
        .hint("send it again: only what a receipt names was charged")
}

fn refuse(stop: &Stop) -> Refusal {
    let what = match &stop.target {
        Target::Node => "this node answers nothing at present".to_owned(),
        Target::Model(model) => format!("{model} is not answered for here at present"),
        Target::Project(_) => "this project is not answered here at present".to_owned(),
    };
    let Word { reason, at, .. } = &stop.word;
    Refusal::new(Code::Stopped, format!("{what}: its owner has stopped it ({reason})"))
        .with("stopped", stop.target.kind())
        .with("reason", reason.as_str())
        .with("since", at.seconds())
        .with("whose_move", "owner")
        .hint("nothing was charged for this refusal; ask again once the owner has resumed it, which only the owner can do")
}
