//! Group commit: changes that come while a transaction runs share the next one; an idle store commits at once. The writer has a
//! thread of its own: it waits for the disk there, and nothing is handed to another thread between a charge and its commit.
//!
//! Where the store is this process's alone, admission is decided in memory and only changes are written. Where several
//! gateways share it, admissions wait for its rounds too ([`shared`]).

mod health;
mod shared;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_token::PathCap;
use comity_wire::{Amount, Digest, Timestamp, TokenId};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use self::health::Health;
use self::shared::Shared;
use crate::Failpoint;
use crate::spend::{
    Account, Admission, Ask, Balance, Book, Bound, Change, Charged, HoldId, Known, LaneKey, Outcome, Refused, Signer,
    Slot, Standing,
};
use crate::store::{Store, StoreError};
use crate::watch::Watch;

/// Changes that wait for a transaction. One that finds the queue full waits its turn; the number of requests under way
/// bounds how many.
const QUEUE_MAX: usize = 1024;
/// Changes in one transaction.
const BATCH_MAX: usize = 256;
/// A commit that takes longer is told of in the log.
const SLOW: Duration = Duration::from_secs(1);

/// Why a change is not durable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("cannot write to the spend store")]
    Store(#[source] Arc<StoreError>),
    #[error("the spend store's writer has stopped")]
    Stopped,
}

struct Job {
    change: Change,
    token: TokenId,
    root: Digest,
    answer: oneshot::Sender<Result<Outcome, WriteError>>,
}

/// The book with its store: admission goes to the book at once, changes through one writer task.
#[derive(Clone)]
pub(crate) struct Ledger {
    book: Arc<Mutex<Book>>,
    store: Arc<dyn Store>,
    jobs: mpsc::Sender<Job>,
    health: Arc<Health>,
    /// Where it is there, it decides, and the book stays empty.
    shared: Option<Shared>,
}

/// A hold. Dropped, it is given back, unless a charge has ended it.
pub(crate) struct Hold {
    id: HoldId,
    kept: Kept,
}

enum Kept {
    Alone(Arc<Mutex<Book>>),
    Shared(Arc<shared::State>),
}

impl Hold {
    pub(crate) const fn id(&self) -> HoldId {
        self.id
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        match &self.kept {
            Kept::Alone(book) => lock(book).release(self.id),
            Kept::Shared(state) => state.release(self.id),
        }
    }
}

/// What became of a request that was not refused.
pub(crate) enum Admitted {
    Held(Hold),
    Charged(Charged),
    AskStore { highest: u64 },
}

impl Ledger {
    /// Starts the writer, on a thread of its own where the store is this process's alone; it ends when the last handle is dropped.
    ///
    /// # Panics
    /// Where the system gives no thread.
    pub(crate) fn start(
        book: Book,
        store: Arc<dyn Store>,
        signer: Signer,
        failpoint: Failpoint,
        watch: Arc<dyn Watch>,
        tracker: &tokio_util::task::TaskTracker,
    ) -> Self {
        let book = Arc::new(Mutex::new(book));
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let health = Arc::<Health>::default();
        if store.rounds().is_some() {
            let shared = Shared::start(store.clone(), signer, failpoint, watch, tracker);
            return Self { book, store, jobs, health, shared: Some(shared) };
        }
        let writer =
            Writer { book: book.clone(), store: store.clone(), health: health.clone(), signer, failpoint, watch };
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("charges".into());
        // Who waits for a charge waits for its answer, and nobody for the thread.
        let _ = thread.spawn(move || runtime.block_on(writer.run(queue))).expect("a node that starts gets a thread");
        Self { book, store, jobs, health, shared: None }
    }

    /// This gateway's open holds, and what they set aside together.
    pub(crate) fn open_holds(&self) -> (usize, Amount) {
        self.shared.as_ref().map_or_else(|| self.with(|book| book.open_holds()), Shared::open_holds)
    }

    /// Whether the writer has ended, as it does at a broken invariant: nothing is charged here before the process starts
    /// again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.as_ref().map_or_else(|| self.jobs.is_closed() || self.health.has_ended(), Shared::is_stopped)
    }

    /// Whether a beat found that the fence was taken, where the store is shared.
    #[cfg(test)]
    pub(crate) fn lost(&self) -> Option<&std::sync::atomic::AtomicBool> {
        self.shared.as_ref().map(Shared::lost)
    }

    /// The book, for as long as `with` runs. Never waits for the store.
    pub(crate) fn with<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut lock(&self.book))
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Sees to it that the book knows what the store has of a token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn load(&self, token: TokenId, root: Digest) -> Result<(), StoreError> {
        if self.shared.is_some() {
            return Ok(());
        }
        load(&self.book, &*self.store, token, root).await
    }

    /// What is known of a slot, before anything is judged.
    ///
    /// # Errors
    /// As [`Book::known`].
    pub(crate) async fn known(
        &self,
        (token, root): (TokenId, Digest),
        (key, slot): (LaneKey, Slot),
        authority: Digest,
    ) -> Result<Known, WriteError> {
        let Some(shared) = &self.shared else {
            return Ok(self.with(|book| book.known(token, root, key, slot, authority))?);
        };
        // Whether it is being answered elsewhere is decided when it is admitted.
        let Some(found) = self.store.charge(token, key, slot).await.map_err(of_store)? else { return Ok(Known::Free) };
        shared.account(token).await?;
        if found.charged.authority == authority {
            Ok(Known::Charged(found.charged))
        } else {
            Err(Refused::SequenceConflict { seq: slot.seq }.into())
        }
    }

    /// Judges and holds in one step.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was consumed. Dropping the future gives back what it may have held.
    pub(crate) async fn admit(&self, ask: &Ask, now: Timestamp) -> Result<Admitted, WriteError> {
        if let Some(shared) = &self.shared {
            return shared.admit(ask.clone(), now).await;
        }
        // What cannot be charged any more is not begun: a stream would be handed over before anybody knew.
        if self.is_stopped() {
            return Err(WriteError::Stopped);
        }
        self.health.assure(&*self.store).await.map_err(of_store)?;
        self.load_subject(ask).await?;
        let mut admission = self.with(|book| book.admit(ask, now));
        if matches!(admission, Err(Refused::NoAccount)) {
            // It was read for this request and has been dropped from memory since.
            let root = ask.path.first().expect("a path begins at the token").id;
            self.load(ask.token, root).await.map_err(of_store)?;
            admission = self.with(|book| book.admit(ask, now));
        }
        Ok(match admission? {
            Admission::Held(id) => Admitted::Held(Hold { id, kept: Kept::Alone(self.book.clone()) }),
            Admission::Charged(charged) => Admitted::Charged(charged),
            Admission::AskStore { highest } => Admitted::AskStore { highest },
        })
    }

    /// The token's account as it is.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) async fn account(&self, token: TokenId, root: Digest) -> Result<Account, WriteError> {
        if let Some(shared) = &self.shared {
            return Ok(shared.account(token).await?.unwrap_or_else(|| Account::new(token, root)));
        }
        self.load(token, root).await.map_err(of_store)?;
        Ok(self.with(|book| book.account(token).cloned()).ok_or(Refused::NoAccount)?)
    }

    /// Whether a lane's receipt need not be asked of the store: it is remembered, or there is none. What is not in memory is not
    /// remembered.
    pub(crate) fn remembers(&self, token: TokenId, key: LaneKey, n: u64) -> bool {
        self.shared.is_none()
            && self.with(|book| {
                let Some(account) = book.account(token) else { return false };
                account.lanes.get(&key).is_none_or(|lane| n > lane.n || lane.by_n(n).is_some())
            })
    }

    /// Whether this very request is being answered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn is_open(&self, token: TokenId, key: LaneKey, slot: Slot) -> Result<bool, StoreError> {
        match self.store.rounds() {
            Some(rounds) => rounds.is_open(token, key, slot).await,
            None => Ok(self.with(|book| book.is_open(token, key, slot))),
        }
    }

    /// What a caller is told. Where the store is shared, as of this gateway's last round.
    pub(crate) fn balance(&self, token: TokenId, path: &[PathCap]) -> Balance {
        match &self.shared {
            Some(shared) => shared.balance(token, path),
            None => self.with(|book| book.balance(token, path)),
        }
    }

    /// Asks how often something was said to all gateways, and passes it on to those who follow; 0 where this one is alone.
    pub(crate) async fn hear(&self) -> Result<u64, StoreError> {
        match &self.shared {
            Some(shared) => shared.hear().await,
            None => Ok(0),
        }
    }

    /// Counts what was said to all gateways that share the store.
    pub(crate) fn news(&self) -> Option<watch::Receiver<u64>> {
        self.shared.as_ref().map(Shared::news)
    }

    /// Gives back what is held and the fence; for the end, when no request runs any more.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.shared {
            shared.leave().await;
        }
    }

    /// Sees to it that the book knows what the store has of a project's windows.
    async fn load_subject(&self, ask: &Ask) -> Result<(), WriteError> {
        let generation = |book: &Book| book.needs_subject(ask).then(|| book.subject_generation(&ask.subject));
        load_subject(&self.book, &*self.store, &ask.subject, generation).await.map_err(of_store)
    }

    /// What an admission would be refused for as things stand. Holds nothing. Where the store is shared, only its rounds
    /// know: then nothing is refused yet.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) async fn foresee(&self, ask: &Ask, now: Timestamp) -> Result<(), WriteError> {
        if self.shared.is_some() {
            return Ok(());
        }
        self.load_subject(ask).await?;
        Ok(self.with(|book| book.foresee(ask, now))?)
    }

    /// Lets go of accounts that nobody has used since the last time.
    pub(crate) fn sweep(&self) {
        self.with(Book::sweep);
    }

    /// What a call may still hold, for a caller.
    pub(crate) fn free(&self, token: TokenId, path: &[PathCap]) -> Amount {
        match &self.shared {
            Some(shared) => shared.free(token, path),
            None => self.with(|book| book.free(token, path)),
        }
    }

    /// How a project's windows stand, for a caller.
    pub(crate) fn pace(&self, subject: &str, bounds: &[Bound], now: Timestamp) -> Vec<Standing> {
        match &self.shared {
            Some(shared) => shared.pace(subject, bounds, now),
            None => self.with(|book| book.pace(subject, bounds, now)),
        }
    }

    /// Makes a change durable. Dropping the future does not undo it.
    ///
    /// # Errors
    /// [`WriteError`]; then nothing was written.
    pub(crate) async fn change(&self, token: TokenId, root: Digest, change: Change) -> Result<Outcome, WriteError> {
        if let Some(shared) = &self.shared {
            return shared.change(token, root, change).await;
        }
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { change, token, root, answer }).await.map_err(|_| WriteError::Stopped)?;
        answered.await.map_err(|_| WriteError::Stopped)?
    }
}

struct Writer {
    book: Arc<Mutex<Book>>,
    store: Arc<dyn Store>,
    health: Arc<Health>,
    signer: Signer,
    failpoint: Failpoint,
    watch: Arc<dyn Watch>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.commit(std::mem::take(&mut batch)).await;
        }
    }

    async fn commit(&self, batch: Vec<Job>) {
        let (mut changes, mut answers, mut jobs) = (Vec::new(), Vec::new(), batch.into_iter());
        // The last that is made here, so the first that goes.
        let _at_work = self.health.at_work();
        for job in &mut jobs {
            answers.push(job.answer);
            // After a failure an account, and what its project has used, is read again before anything rests on it.
            match self.reload(job.token, job.root, &job.change).await {
                Ok(()) => changes.push(job.change),
                Err(error) => fail(answers.pop(), error),
            }
        }
        if changes.is_empty() {
            return;
        }
        // Signed without the book: whoever is to be admitted meanwhile would wait, and a worker of the runtime with it.
        let excerpt = lock(&self.book).excerpt(&changes);
        let stage = excerpt.stage(&changes, &self.signer);
        (self.failpoint)("charge.before_commit");
        let began = std::time::Instant::now();
        if !stage.writes.is_empty()
            && let Err(error) = self.store.write(&stage.writes).await
        {
            error!(error = %chain(&error), changes = changes.len(), "spend store did not take a batch");
            self.health.failed();
            self.settle_doubt(stage, answers, error).await;
            return;
        }
        if !stage.writes.is_empty() {
            self.health.took();
        }
        (self.failpoint)("charge.after_commit");
        let took = began.elapsed();
        if took > SLOW {
            warn!(?took, changes = answers.len(), "the spend store's disk is slow: every caller waits for it");
        }
        self.watch.commit(answers.len(), took);
        let outcomes = lock(&self.book).commit(stage);
        answer(answers, outcomes);
    }

    /// A commit whose answer was lost may have happened: what the store has now decides, and the bytes of a receipt that
    /// is not there are dropped unsent.
    async fn settle_doubt(
        &self,
        stage: crate::spend::Stage,
        answers: Vec<oneshot::Sender<Result<Outcome, WriteError>>>,
        error: StoreError,
    ) {
        let _at_work = self.health.at_work();
        let stored = match stage.writes.iter().rev().find_map(last_charge) {
            Some((token, key, slot, receipt)) => match self.store.charge(token, key, slot).await {
                Ok(stored) => Ok(stored.is_some_and(|stored| stored.charged.receipt == receipt)),
                Err(unknown) => Err(unknown),
            },
            None => Ok(false),
        };
        let error = match &stored {
            Ok(_) => error,
            // Nobody may be told that nothing was charged.
            Err(unknown) => {
                error!(error = %chain(unknown), "nobody knows whether the spend store took the batch");
                StoreError::Doubt
            }
        };
        if matches!(stored, Ok(true)) {
            warn!("the batch was committed all the same");
            let outcomes = lock(&self.book).commit(stage);
            return answer(answers, outcomes);
        }
        let mut book = lock(&self.book);
        for token in stage.tokens() {
            book.unload(token);
        }
        for subject in stage.subjects() {
            book.unload_subject(&subject);
        }
        drop(book);
        fail(answers, error);
    }

    async fn reload(&self, token: TokenId, root: Digest, change: &Change) -> Result<(), StoreError> {
        let subject = match change {
            Change::Charge(charge) => lock(&self.book).subject_to_read(charge.hold).map(str::to_owned),
            _ => None,
        };
        if let Some(subject) = subject {
            let generation = |book: &Book| Some(book.subject_generation(&subject));
            load_subject(&self.book, &*self.store, &subject, generation).await?;
        }
        load(&self.book, &*self.store, token, root).await
    }
}

/// An account that is forgotten while it is read is read again, this often.
const READS_MAX: usize = 16;

/// Reads an account where the book has none. Others may read it, charge and forget it meanwhile: then what was read first is
/// older than the store.
async fn load(book: &Mutex<Book>, store: &dyn Store, token: TokenId, root: Digest) -> Result<(), StoreError> {
    for _ in 0..READS_MAX {
        let generation = {
            let mut book = lock(book);
            if book.touch(token) {
                return Ok(());
            }
            book.generation(token)
        };
        let account = store.account(token).await?.unwrap_or_else(|| Account::new(token, root));
        if lock(book).load_read(account, generation) {
            return Ok(());
        }
    }
    Err(StoreError::Overtaken { what: "an account", reads: READS_MAX })
}

/// The same of a project's windows and executions; `generation` is `None` where they need not be read.
async fn load_subject(
    book: &Mutex<Book>,
    store: &dyn Store,
    subject: &str,
    generation: impl Fn(&Book) -> Option<u64> + Send + Sync,
) -> Result<(), StoreError> {
    for _ in 0..READS_MAX {
        let Some(generation) = generation(&lock(book)) else { return Ok(()) };
        let read = (store.paces(subject).await?, store.runs(subject).await?);
        if lock(book).load_subject_read(subject, read, generation) {
            return Ok(());
        }
    }
    Err(StoreError::Overtaken { what: "a project", reads: READS_MAX })
}

fn of_store(error: StoreError) -> WriteError {
    WriteError::Store(Arc::new(error))
}

fn last_charge(write: &crate::spend::Write) -> Option<(TokenId, crate::spend::LaneKey, crate::spend::Slot, Digest)> {
    match write {
        crate::spend::Write::Charge { token, key, slot, charged, .. } => Some((*token, *key, *slot, charged.receipt)),
        _ => None,
    }
}

fn answer(answers: Vec<oneshot::Sender<Result<Outcome, WriteError>>>, outcomes: Vec<Result<Outcome, Refused>>) {
    for (to, outcome) in answers.into_iter().zip(outcomes) {
        // Whoever asked may have gone; what is durable stays.
        let _ = to.send(outcome.map_err(WriteError::from));
    }
}

fn fail(answers: impl IntoIterator<Item = oneshot::Sender<Result<Outcome, WriteError>>>, error: StoreError) {
    let error = Arc::new(error);
    for to in answers {
        let _ = to.send(Err(WriteError::Store(error.clone())));
    }
}

/// A panic inside the book is a broken invariant: it ends the writer, after which nothing is charged or answered.
fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
