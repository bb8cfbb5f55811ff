//! Group commit where several gateways share the store: admissions, changes and what is given back go through its rounds,
//! many in one SQL transaction.
//!
//! Nothing here decides: a round's book does, under the store's locks. What is kept in memory is what this gateway holds, so
//! that it is given back, and how tokens stood in the last round, so that callers can be told.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use comity_token::PathCap;
use comity_wire::{Amount, Digest, Timestamp, TokenId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{error, warn};

use super::{Admitted, BATCH_MAX, Hold, Kept, QUEUE_MAX, WriteError, chain, of_store};
use crate::Failpoint;
use crate::spend::{
    Account, Admission, Ask, Balance, Book, Bound, Change, HoldId, Outcome, PaceView, Refused, Signer, Stage, Standing,
    View,
};
use crate::store::postgres::LEASE_S;
use crate::store::{Decided, Needs, Rounds, Store, StoreError};
use crate::watch::Watch;

/// Tokens, and projects, whose standing is remembered for callers.
const VIEWS_MAX: usize = 10_000;

type Answered<T> = oneshot::Sender<Result<T, WriteError>>;

enum Job {
    Admit { ask: Box<Ask>, now: Timestamp, answer: Answered<Admitted> },
    Change { change: Change, token: TokenId, root: Digest, answer: Answered<Outcome> },
    Read { token: TokenId, answer: Answered<Option<Account>> },
    Leave { answer: oneshot::Sender<()> },
}

/// The way to the rounds. Clones are the same.
#[derive(Clone)]
pub(super) struct Shared {
    state: Arc<State>,
    jobs: mpsc::Sender<Job>,
}

pub(super) struct State {
    store: Arc<dyn Store>,
    /// What this gateway holds, with whom it counts against.
    open: Mutex<HashMap<HoldId, Counted>>,
    /// What of that is to be given back; at most as many as are open.
    releases: Mutex<HashSet<HoldId>>,
    wake: Notify,
    views: Mutex<Views>,
    news: watch::Sender<u64>,
    /// A beat found that the fence was taken.
    lost: AtomicBool,
    /// This gateway has said that it ends.
    left: AtomicBool,
}

#[derive(Clone)]
struct Counted {
    token: TokenId,
    subject: Option<String>,
    amount: Amount,
}

#[derive(Default)]
struct Views {
    by_token: HashMap<TokenId, (View, u64)>,
    by_subject: HashMap<String, (PaceView, u64)>,
    clock: u64,
}

impl State {
    /// Gives a hold back with the next round. Nothing happens where its charge has ended it.
    pub(super) fn release(&self, id: HoldId) {
        if lock(&self.open).contains_key(&id) {
            lock(&self.releases).insert(id);
            self.wake.notify_one();
        }
    }

    fn hear(&self, said: u64) {
        self.news.send_if_modified(|news| std::mem::replace(news, said) != said);
    }

    fn rounds(&self) -> &dyn Rounds {
        self.store.rounds().expect("only a store with rounds is shared")
    }
}

impl Shared {
    pub(super) fn start(
        store: Arc<dyn Store>,
        signer: Signer,
        failpoint: Failpoint,
        watch: Arc<dyn Watch>,
        tracker: &tokio_util::task::TaskTracker,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let state = Arc::new(State {
            store,
            open: Mutex::default(),
            releases: Mutex::default(),
            wake: Notify::new(),
            views: Mutex::default(),
            news: watch::Sender::new(0),
            lost: AtomicBool::new(false),
            left: AtomicBool::new(false),
        });
        tracker.spawn(beats(Arc::downgrade(&state)));
        tracker.spawn(Writer { state: state.clone(), signer, failpoint, watch }.run(queue));
        Self { state, jobs }
    }

    pub(super) async fn admit(&self, ask: Ask, now: Timestamp) -> Result<Admitted, WriteError> {
        self.ask(|answer| Job::Admit { ask: Box::new(ask), now, answer }).await
    }

    pub(super) async fn change(&self, token: TokenId, root: Digest, change: Change) -> Result<Outcome, WriteError> {
        self.ask(|answer| Job::Change { change, token, root, answer }).await
    }

    /// The account under its lock; `None` where there is none.
    pub(super) async fn account(&self, token: TokenId) -> Result<Option<Account>, WriteError> {
        self.ask(|answer| Job::Read { token, answer }).await
    }

    pub(super) async fn leave(&self) {
        let (answer, answered) = oneshot::channel();
        if self.jobs.send(Job::Leave { answer }).await.is_ok() {
            let _ = answered.await;
        }
    }

    #[cfg(test)]
    pub(super) fn lost(&self) -> &AtomicBool {
        &self.state.lost
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Of this gateway alone.
    pub(super) fn open_holds(&self) -> (usize, Amount) {
        let open = lock(&self.state.open);
        (open.len(), open.values().fold(Amount::ZERO, |sum, held| sum.saturating_add(held.amount)))
    }

    pub(super) fn balance(&self, token: TokenId, path: &[PathCap]) -> Balance {
        let views = lock(&self.state.views);
        views.by_token.get(&token).map_or_else(|| View::default().balance(path), |(view, _)| view.balance(path))
    }

    pub(super) fn free(&self, token: TokenId, path: &[PathCap]) -> Amount {
        let views = lock(&self.state.views);
        views.by_token.get(&token).map_or_else(|| View::default().free(path), |(view, _)| view.free(path))
    }

    pub(super) fn pace(&self, subject: &str, bounds: &[Bound], now: Timestamp) -> Vec<Standing> {
        let view = lock(&self.state.views).by_subject.get(subject).map(|(view, _)| view.clone()).unwrap_or_default();
        view.standing(bounds, now)
    }

    pub(super) async fn hear(&self) -> Result<u64, StoreError> {
        let news = self.state.rounds().news().await?;
        self.state.hear(news);
        Ok(news)
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.state.news.subscribe()
    }

    async fn ask<T>(&self, job: impl FnOnce(Answered<T>) -> Job) -> Result<T, WriteError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| WriteError::Stopped)?;
        answered.await.map_err(|_| WriteError::Stopped)?
    }
}

/// How soon a gateway hears what another one was told: a grant that was taken back there lets nobody in here a second later.
const NEWS_EVERY: Duration = Duration::from_millis(800);

/// Says that this gateway lives, at least three times in a lease, until nobody has it any more, and hears what is new.
async fn beats(state: Weak<State>) {
    let every = NEWS_EVERY.min(Duration::from_secs(u64::from(LEASE_S)) / 3);
    loop {
        {
            let Some(state) = state.upgrade() else { return };
            if state.left.load(Ordering::SeqCst) {
                return;
            }
            match state.rounds().beat().await {
                Ok(beat) => state.hear(beat.news),
                Err(StoreError::Fenced) => state.lost.store(true, Ordering::SeqCst),
                Err(error) => warn!(error = %chain(&error), "the spend store did not hear that this gateway lives"),
            }
            // What could not be given back before.
            state.wake.notify_one();
        }
        tokio::time::sleep(every).await;
    }
}

/// The jobs of one round, by kind.
#[derive(Default)]
struct Batch {
    asks: Vec<(Box<Ask>, Timestamp)>,
    asked: Vec<Answered<Admitted>>,
    changes: Vec<Change>,
    changed: Vec<Answered<Outcome>>,
    reads: Vec<TokenId>,
    read: Vec<Answered<Option<Account>>>,
    releases: Vec<HoldId>,
    needs: Needs,
}

/// What a round's book said.
#[derive(Default)]
struct Said {
    admissions: Vec<Result<Admission, Refused>>,
    outcomes: Vec<Result<Outcome, Refused>>,
    accounts: Vec<Option<Account>>,
    ended: Vec<HoldId>,
    views: Vec<(TokenId, View)>,
    paces: Vec<(String, PaceView)>,
}

struct Writer {
    state: Arc<State>,
    signer: Signer,
    failpoint: Failpoint,
    watch: Arc<dyn Watch>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut jobs, BATCH_MAX) => if count == 0 { return },
                () = self.state.wake.notified() => {}
            }
            let mut leaving = None;
            let batch = self.batch(std::mem::take(&mut jobs), &mut leaving);
            let is_idle = batch.needs == Needs::default();
            if !is_idle || self.state.lost.load(Ordering::SeqCst) {
                self.round(batch).await;
            }
            if let Some(answer) = leaving {
                // Before it is said: a beat that finds the fence gone must not have a new one taken, which nobody would give back.
                self.state.left.store(true, Ordering::SeqCst);
                if let Err(error) = self.state.rounds().leave().await {
                    warn!(error = %chain(&error), "this gateway could not say that it ends; its lease does");
                }
                let _ = answer.send(());
                return;
            }
        }
    }

    fn batch(&self, jobs: Vec<Job>, leaving: &mut Option<oneshot::Sender<()>>) -> Batch {
        let mut batch = Batch::default();
        for job in jobs {
            match job {
                Job::Admit { ask, now, answer } => {
                    let root = ask.path.first().expect("a path begins at the token").id;
                    batch.needs.tokens.entry(ask.token).or_default().get_or_insert(root);
                    if ask.is_counted() {
                        batch.needs.subjects.insert(ask.subject.clone());
                    }
                    batch.asks.push((ask, now));
                    batch.asked.push(answer);
                }
                Job::Change { change, token, root, answer } => {
                    batch.needs.tokens.entry(token).or_default().get_or_insert(root);
                    if let Change::Charge(charge) = &change {
                        // It counts in its project's windows from now on.
                        let subject = lock(&self.state.open).get(&charge.hold).and_then(|held| held.subject.clone());
                        batch.needs.subjects.extend(subject);
                    }
                    batch.changes.push(change);
                    batch.changed.push(answer);
                }
                Job::Read { token, answer } => {
                    batch.needs.tokens.entry(token).or_default();
                    batch.reads.push(token);
                    batch.read.push(answer);
                }
                Job::Leave { answer } => *leaving = Some(answer),
            }
        }
        let open = lock(&self.state.open);
        for id in lock(&self.state.releases).drain() {
            let Some(counted) = open.get(&id) else { continue };
            batch.needs.tokens.entry(counted.token).or_default();
            batch.needs.subjects.extend(counted.subject.clone());
            batch.releases.push(id);
        }
        batch
    }

    async fn round(&self, batch: Batch) {
        let mut said = Said::default();
        let mut outcome = self.try_round(&batch, &mut said).await;
        if matches!(outcome, Err(StoreError::Fenced)) {
            outcome = self.again_under_a_new_fence(&batch, &mut said).await;
        }
        match outcome {
            Ok(()) => {
                // It stands under its fence, whatever a beat under the one before has found since.
                self.state.lost.store(false, Ordering::SeqCst);
                self.answer(batch, said);
            }
            Err(error) => self.fail(batch, &said, error),
        }
    }

    async fn try_round(&self, batch: &Batch, said: &mut Said) -> Result<(), StoreError> {
        let (signer, failpoint) = (&self.signer, &self.failpoint);
        let mut decide = |book: &mut Book| {
            let decided = decide(batch, signer, book, said);
            if !batch.changes.is_empty() {
                failpoint("charge.before_commit");
            }
            decided
        };
        let began = std::time::Instant::now();
        self.state.rounds().round(&batch.needs, &mut decide).await?;
        if !batch.changes.is_empty() {
            self.watch.commit(batch.changes.len(), began.elapsed());
            failpoint("charge.after_commit");
        }
        Ok(())
    }

    /// Others took this gateway for dead and released what it held. What runs under those holds is not charged any more.
    async fn again_under_a_new_fence(&self, batch: &Batch, said: &mut Said) -> Result<(), StoreError> {
        error!("this gateway was not heard of for too long and lost what it held; it goes on under a new fence");
        self.state.rounds().rejoin().await?;
        self.state.lost.store(false, Ordering::SeqCst);
        lock(&self.state.open).clear();
        lock(&self.state.releases).clear();
        self.try_round(batch, said).await
    }

    fn answer(&self, batch: Batch, said: Said) {
        {
            let mut open = lock(&self.state.open);
            for id in &said.ended {
                open.remove(id);
            }
            for ((ask, _), admission) in batch.asks.iter().zip(&said.admissions) {
                if let Ok(Admission::Held(id)) = admission {
                    let subject = ask.is_counted().then(|| ask.subject.clone());
                    open.insert(*id, Counted { token: ask.token, subject, amount: ask.hold });
                }
            }
        }
        lock(&self.state.views).keep(said.views, said.paces);
        for (to, admission) in batch.asked.into_iter().zip(said.admissions) {
            let admitted = admission.map(|admission| match admission {
                // Whoever asked may have gone: then this drops it, and so gives it back.
                Admission::Held(id) => Admitted::Held(Hold { id, kept: Kept::Shared(self.state.clone()) }),
                Admission::Charged(charged) => Admitted::Charged(charged),
                Admission::AskStore { highest } => Admitted::AskStore { highest },
            });
            let _ = to.send(admitted.map_err(WriteError::from));
        }
        for (to, outcome) in batch.changed.into_iter().zip(said.outcomes) {
            let _ = to.send(outcome.map_err(|refused| match refused {
                // Nobody releases a hold under its request but those who took its gateway for dead.
                Refused::HoldGone => of_store(StoreError::Fenced),
                refused => refused.into(),
            }));
        }
        for (to, account) in batch.read.into_iter().zip(said.accounts) {
            let _ = to.send(Ok(account));
        }
    }

    fn fail(&self, batch: Batch, said: &Said, error: StoreError) {
        error!(error = %chain(&error), asks = batch.asks.len(), changes = batch.changes.len(), "a round of the spend store failed");
        {
            let (mut open, mut releases) = (lock(&self.state.open), lock(&self.state.releases));
            releases.extend(batch.releases.iter().filter(|id| open.contains_key(id)));
            if matches!(error, StoreError::Doubt) {
                // What it may have held goes back; a hold that is not there is none to give back.
                for ((ask, _), admission) in batch.asks.iter().zip(&said.admissions) {
                    if let Ok(Admission::Held(id)) = admission {
                        let subject = ask.is_counted().then(|| ask.subject.clone());
                        open.insert(*id, Counted { token: ask.token, subject, amount: ask.hold });
                        releases.insert(*id);
                    }
                }
            }
        }
        let error = Arc::new(error);
        let failed = || WriteError::Store(error.clone());
        batch.asked.into_iter().for_each(|to| drop(to.send(Err(failed()))));
        batch.changed.into_iter().for_each(|to| drop(to.send(Err(failed()))));
        batch.read.into_iter().for_each(|to| drop(to.send(Err(failed()))));
    }
}

/// What is given back first, then what is charged and acknowledged, then who is let in: each makes room for the next.
fn decide(batch: &Batch, signer: &Signer, book: &mut Book, said: &mut Said) -> Decided {
    *said = Said::default();
    let mut decided = Decided::default();
    for id in &batch.releases {
        if book.is_held(*id) {
            book.release(*id);
            decided.ended.push(*id);
        }
        said.ended.push(*id);
    }
    let mut stage: Stage = book.stage(&batch.changes, signer);
    decided.writes = std::mem::take(&mut stage.writes);
    decided.ended.extend(stage.charged());
    said.ended.extend(stage.charged());
    said.outcomes = book.commit(stage);
    for (ask, now) in &batch.asks {
        let admission = book.admit(ask, *now);
        if let Ok(Admission::Held(id)) = admission {
            decided.held.push(id);
        }
        said.admissions.push(admission);
    }
    said.accounts = batch.reads.iter().map(|token| book.account(*token).cloned()).collect();
    said.views = batch.needs.tokens.keys().map(|token| (*token, book.view(*token))).collect();
    said.paces = batch.needs.subjects.iter().map(|subject| (subject.clone(), book.pace_view(subject))).collect();
    decided
}

impl Views {
    fn keep(&mut self, views: Vec<(TokenId, View)>, paces: Vec<(String, PaceView)>) {
        for (token, view) in views {
            self.clock += 1;
            self.by_token.insert(token, (view, self.clock));
        }
        for (subject, pace) in paces {
            self.clock += 1;
            self.by_subject.insert(subject, (pace, self.clock));
        }
        if self.by_subject.len() > VIEWS_MAX {
            let floor = self.clock.saturating_sub(VIEWS_MAX as u64 / 2);
            self.by_subject.retain(|_, (_, used_at)| *used_at > floor);
        }
        if self.by_token.len() > VIEWS_MAX {
            let floor = self.clock.saturating_sub(VIEWS_MAX as u64 / 2);
            self.by_token.retain(|_, (_, used_at)| *used_at > floor);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
