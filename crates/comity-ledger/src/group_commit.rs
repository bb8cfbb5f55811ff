//! Group commit: many callers share one SQL transaction, and so one fsync.
//!
//! Jobs wait in a bounded queue before the one writing connection. The writer begins a transaction for the first that
//! comes, takes in whatever else has come meanwhile, each in a savepoint of its own, and commits as soon as the queue
//! is empty: an idle writer flushes at once, a busy one batches by itself. A job's failure undoes that job alone. A
//! caller hears of success, and of refusal too, only after COMMIT, since either may rest on the jobs before it.
//!
//! Where the database gives a transaction up for another one's sake, all its jobs are run again in a new one: a job may run more
//! than once, but only what its last run did is kept. PostgreSQL itself has no reason to, since writers take turns; engines with
//! its protocol that judge by serializability do.
//!
//! A COMMIT without an answer is read back on a fresh connection from the writer's own row of `writer`; only if that fails
//! as well does the caller hear [`CommitError::Unknown`], and must look its act up by id.
//!
//! Knows nothing of accounts: any database with the tables `writer` and, in PostgreSQL, `writing` will do.

mod merge;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::db::{Conn, Database, Db, Kind, Tx, has_conflict, is_conflict, noting_conflicts, query};

pub use merge::{Merged, REQUESTS_PER_JOB_MAX};

/// Jobs that may wait for the writer; one more is [`CommitError::Busy`].
pub const JOBS_WAITING_MAX: usize = 4_096;
/// Jobs in one transaction; the next waits for the next one.
pub const JOBS_PER_COMMIT_MAX: usize = 512;
/// Writers whose row is kept.
const WRITERS_KEPT: i64 = 10_000;
/// How often a transaction is run that another one came in the way of; then its callers hear that nothing was written.
const RUNS_MAX: u32 = 8;
/// How long one job may hold the writer; then it is undone.
pub const JOB_TIME_MAX: Duration = Duration::from_secs(10);

/// What a job gives back while it runs on the connection.
pub type JobFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Why a job's work is not in the database, or may not be.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<E> {
    /// The job said no, and its work was undone.
    #[error("{0}")]
    Refused(E),
    #[error("{JOBS_WAITING_MAX} writes are waiting already; try again")]
    Busy,
    #[error("the writer has stopped")]
    Stopped,
    /// Nothing of it was kept: it may be tried again.
    #[error("not written: {cause}")]
    NotCommitted { cause: String },
    /// It may have been kept: look it up before trying again.
    #[error("written or not, it is unknown: {cause}")]
    Unknown { cause: String },
}

impl<E> CommitError<E> {
    /// The writer answers every job it took; without an answer it died with the job, perhaps during COMMIT.
    fn unanswered() -> Self {
        Self::Unknown { cause: "the writer ended without an answer".into() }
    }
}

/// Hands jobs to the writer. Cheap to clone; the writer ends when all clones are gone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<Box<dyn Job>>,
    commits: Arc<AtomicU64>,
}

/// The one writer. Whoever composes the process runs it as a task.
pub struct Writer {
    database: Database,
    /// `None` after a failure that leaves it unclear what state the connection is in.
    conn: Option<Conn>,
    /// Its place among all writers that ever started; names its row.
    started: i64,
    queue: mpsc::Receiver<Box<dyn Job>>,
    commits: Arc<AtomicU64>,
}

impl Committer {
    /// Opens the writing connection of a migrated database. Run the [`Writer`] in a task of its own.
    pub async fn open(database: Database) -> Result<(Self, Writer), sqlx::Error> {
        Self::with_bound(database, JOBS_WAITING_MAX).await
    }

    async fn with_bound(database: Database, waiting_max: usize) -> Result<(Self, Writer), sqlx::Error> {
        let mut conn = database.connect().await?;
        let started = start(&mut conn).await?;
        let (sender, queue) = mpsc::channel(waiting_max);
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer { database, conn: Some(conn), started, queue, commits: Arc::clone(&commits) };
        Ok((Self { queue: sender, commits }, writer))
    }

    /// Runs `work` inside the next transaction and waits until that is durable. `work` awaits nothing but the
    /// connection, and leaves its transaction alone; `Err` undoes what it wrote. It runs again, as a clone, where the database
    /// gave up its transaction.
    ///
    /// Dropping this is safe: the job is then done whole or not at all, unheard. A job that has not begun is skipped.
    pub async fn run<T, E, F>(&self, work: F) -> Result<T, CommitError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'c, 'd> FnOnce(&'c mut Db<'d>) -> JobFuture<'c, Result<T, E>> + Clone + Send + 'static,
    {
        let place = self.place()?;
        let (reply, answer) = oneshot::channel();
        place.send(Box::new(Typed { work: Some(work), answer: None, reply }));
        answer.await.unwrap_or_else(|_| Err(CommitError::unanswered()))
    }

    /// A place in the queue. Taken before there is a job, so that no job is dropped for want of one.
    fn place<E>(&self) -> Result<mpsc::Permit<'_, Box<dyn Job>>, CommitError<E>> {
        self.queue.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => CommitError::Busy,
            mpsc::error::TrySendError::Closed(()) => CommitError::Stopped,
        })
    }

    /// Jobs in line for the writer.
    pub fn waiting(&self) -> u64 {
        (self.queue.max_capacity() - self.queue.capacity()) as u64
    }

    /// Transactions committed so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// [`Writer::run`] in a thread of its own, so that it waits for nobody but the database: what wakes it between two statements
    /// would else stand in line behind every request that the runtime has to begin. Resolves when it has ended.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn run_apart(
        mut self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<impl Future<Output = ()> + Send> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ended, end) = oneshot::channel::<()>();
        let work = async move {
            // A socket answers to the runtime that opened it.
            if let Some(conn) = self.conn.take_if(|conn| matches!(conn, Conn::Postgres(..)))
                && let Err(error) = conn.close().await
            {
                tracing::warn!(%error, "the connection that the writer began with did not close cleanly");
            }
            self.run(stop).await;
            drop(ended);
        };
        std::thread::Builder::new().name("comity-writer".into()).spawn(move || runtime.block_on(work))?;
        Ok(async move {
            // Nothing is sent: the sender goes with the writer.
            let _ = end.await;
        })
    }

    /// Serves jobs until `stop` resolves or every [`Committer`] is gone; then does what is queued and closes.
    ///
    /// Dropping it half-way abandons the open transaction; its callers hear [`CommitError::Unknown`].
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop.fuse());
        loop {
            let job = tokio::select! {
                biased;
                () = &mut stop, if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
                job = self.queue.recv() => job,
            };
            let Some(first) = job else { break };
            self.serve(first).await;
        }
        if let Some(conn) = self.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "the ledger's writing connection did not close cleanly");
        }
    }

    async fn serve(&mut self, first: Box<dyn Job>) {
        let mut taken = vec![first];
        let mut runs = 1;
        let fate = loop {
            let (fate, conflict) = noting_conflicts(self.attempt(&mut taken)).await;
            match fate {
                Fate::NotCommitted { cause } if conflict && runs < RUNS_MAX => {
                    tracing::info!(%cause, jobs = taken.len(), runs, "a group commit is run again");
                    runs += 1;
                }
                fate => break fate,
            }
        };
        match &fate {
            Fate::Committed => {}
            Fate::NotCommitted { cause } => {
                tracing::warn!(%cause, jobs = taken.len(), "a group commit was undone")
            }
            Fate::Unknown { cause } => {
                tracing::error!(%cause, jobs = taken.len(), "a group commit is in doubt")
            }
        }
        for job in taken {
            job.tell(&fate);
        }
    }

    /// One transaction over those that were taken, and over what the queue has besides, which is in `taken` afterwards.
    async fn attempt(&mut self, taken: &mut Vec<Box<dyn Job>>) -> Fate {
        // Taken out, and put back only while its state is certain.
        let conn = match self.conn.take() {
            Some(conn) => Ok(conn),
            None => self.database.connect().await,
        };
        let mut conn = match conn {
            Ok(conn) => conn,
            Err(error) => return Fate::not_committed("cannot open the database", &error),
        };
        let mut tx = match conn.write().await {
            Ok(tx) => tx,
            Err(error) => return Fate::not_committed("cannot begin", &error),
        };
        let mut kept = 0_u32;
        let mut next = 0;
        while let Some(job) = taken.get_mut(next) {
            next += 1;
            if job.is_awaited() {
                match in_savepoint(&mut tx, &mut **job).await {
                    // Some engines go on after a conflict and some do not: from none of them is what follows taken.
                    _ if has_conflict() => {
                        return Fate::NotCommitted { cause: "another transaction came in its way".into() };
                    }
                    Ok(keep) => kept += u32::from(keep),
                    // The savepoint is gone, so SQLite has undone the whole transaction (disk full, I/O error).
                    Err(error) => return Fate::not_committed("the transaction broke", &error),
                }
            }
            if next == taken.len() && next < JOBS_PER_COMMIT_MAX {
                taken.extend(self.queue.try_recv());
            }
        }
        if kept == 0 {
            // Nothing to make durable; refusals rest on what was committed before.
            return match tx.rollback().await {
                Ok(()) => {
                    self.conn = Some(conn);
                    Fate::Committed
                }
                Err(error) => Fate::not_committed("cannot roll back", &error),
            };
        }
        let mark = match mark_next(&mut tx.db(), self.started).await {
            Ok(mark) => mark,
            Err(error) => return Fate::not_committed("cannot mark the commit", &error),
        };
        match tx.commit().await {
            Ok(()) => {
                self.conn = Some(conn);
                self.commits.fetch_add(1, Ordering::Relaxed);
                Fate::Committed
            }
            // The server says itself that it did not happen.
            Err(error) if is_conflict(&error) => Fate::not_committed("cannot commit", &error),
            Err(error) => {
                drop(conn);
                self.read_back(mark, &error).await
            }
        }
    }

    /// After a COMMIT that failed: did it happen? Taking the write lock waits until whoever had it is done.
    async fn read_back(&mut self, mark: i64, cause: &sqlx::Error) -> Fate {
        let look = async {
            let mut conn = self.database.connect().await?;
            let mut tx = conn.write().await?;
            let number = mark_now(&mut tx.db(), self.started).await?;
            // A COMMIT that waits for a standby is seen here before the standby has it, and would be lost with this server. One
            // more COMMIT behind it waits for the same standby: what that one keeps, this one's answer may rest on.
            mark_again(&mut tx.db(), self.started).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>((conn, number))
        };
        match look.await {
            Ok((conn, number)) => {
                self.conn = Some(conn);
                if number >= mark {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    Fate::Committed
                } else {
                    Fate::not_committed("cannot commit", cause)
                }
            }
            Err(again) => Fate::Unknown { cause: format!("cannot commit: {cause}; cannot read back: {again}").into() },
        }
    }
}

/// Runs a job in a savepoint; whether its work was kept. An error means that the whole transaction is lost.
async fn in_savepoint(tx: &mut Tx<'_>, job: &mut dyn Job) -> Result<bool, sqlx::Error> {
    let mut point = tx.savepoint().await?;
    let keep = {
        let mut db = point.db();
        let work = AssertUnwindSafe(job.run(&mut db)).catch_unwind();
        // A panic or a job that does not end is undone like a refusal; it has left no answer, and its caller hears that.
        matches!(tokio::time::timeout(JOB_TIME_MAX, work).await, Ok(Ok(true)))
    };
    if keep {
        point.commit().await?;
    } else {
        point.rollback().await?;
    }
    Ok(keep)
}

/// Takes the next place among all writers that ever started. The oldest are forgotten: none of them still asks.
async fn start(conn: &mut Conn) -> Result<i64, sqlx::Error> {
    let mut tx = conn.write().await?;
    let mut db = tx.db();
    let begin =
        "INSERT INTO writer (started, commits) SELECT COALESCE(MAX(started), 0) + 1, 0 FROM writer RETURNING started";
    let started = query(begin).fetch_one(&mut db).await?.first()?;
    query("DELETE FROM writer WHERE started <= ?").bind(started - WRITERS_KEPT).execute(&mut db).await?;
    tx.commit().await?;
    Ok(started)
}

async fn mark_next(db: &mut Db<'_>, started: i64) -> Result<i64, sqlx::Error> {
    let next = query("UPDATE writer SET commits = commits + 1 WHERE started = ? RETURNING commits").bind(started);
    next.fetch_one(db).await?.first()
}

/// Writes the mark as it stands.
async fn mark_again(db: &mut Db<'_>, started: i64) -> Result<u64, sqlx::Error> {
    query("UPDATE writer SET commits = commits WHERE started = ?").bind(started).execute(db).await
}

async fn mark_now(db: &mut Db<'_>, started: i64) -> Result<i64, sqlx::Error> {
    query("SELECT commits FROM writer WHERE started = ?").bind(started).fetch_one(db).await?.first()
}

/// What became of a transaction.
enum Fate {
    Committed,
    NotCommitted { cause: Arc<str> },
    Unknown { cause: Arc<str> },
}

impl Fate {
    fn not_committed(what: &str, error: &sqlx::Error) -> Self {
        Self::NotCommitted { cause: format!("{what}: {error}").into() }
    }

    /// What a caller hears of its job's answer. A refusal too rests on the jobs before it, and is gone if they are.
    fn judge<T, E>(&self, answer: Option<Result<T, E>>) -> Result<T, CommitError<E>> {
        match (self, answer) {
            (Self::Committed, Some(Ok(value))) => Ok(value),
            (Self::Committed, Some(Err(refusal))) => Err(CommitError::Refused(refusal)),
            (Self::Committed, None) => {
                Err(CommitError::NotCommitted { cause: "the job panicked or ran too long".into() })
            }
            (Self::NotCommitted { cause }, _) => Err(CommitError::NotCommitted { cause: cause.to_string() }),
            (Self::Unknown { cause }, _) => Err(CommitError::Unknown { cause: cause.to_string() }),
        }
    }
}

/// A job whose types the queue does not know.
trait Job: Send {
    fn is_awaited(&self) -> bool;
    /// Does the work; whether to keep it.
    fn run<'c>(&'c mut self, db: &'c mut Db<'_>) -> JobFuture<'c, bool>;
    fn tell(self: Box<Self>, fate: &Fate);
}

struct Typed<T, E, F> {
    work: Option<F>,
    answer: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, CommitError<E>>>,
}

/// What a job works on: kept for another run where the engine may ask for one.
fn taken<F: Clone>(work: &mut Option<F>, kind: Kind) -> Option<F> {
    match kind {
        Kind::Sqlite => work.take(),
        Kind::Postgres => work.clone(),
    }
}

impl<T, E, F> Job for Typed<T, E, F>
where
    T: Send,
    E: Send,
    F: for<'c, 'd> FnOnce(&'c mut Db<'d>) -> JobFuture<'c, Result<T, E>> + Clone + Send,
{
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run<'c>(&'c mut self, db: &'c mut Db<'_>) -> JobFuture<'c, bool> {
        self.answer = None;
        let work = taken(&mut self.work, db.kind()).expect("SQLite runs a job once");
        Box::pin(async move {
            let answer = work(db).await;
            let keep = answer.is_ok();
            self.answer = Some(answer);
            keep
        })
    }

    fn tell(self: Box<Self>, fate: &Fate) {
        // A caller who left does not want to know.
        let _ = self.reply.send(fate.judge(self.answer));
    }
}

#[cfg(test)]
mod postgres;
#[cfg(test)]
mod tests;
