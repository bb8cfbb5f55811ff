//! Merging: callers who ask for the same kind of thing at the same time are served by one job over all of them.
//!
//! Group commit alone shares the fsync, but each job still pays for its own trips to the connection's thread. A merged
//! job reads, decides and writes once for everybody who waited ([`Store::transfers_post_in_tx`] over many groups).
//!
//! [`Store::transfers_post_in_tx`]: crate::store::Store::transfers_post_in_tx

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::db::Db;

use super::{CommitError, Committer, Fate, Job, JobFuture, taken};

/// Requests in one merged job, and so the most that wait for it; one more is [`CommitError::Busy`].
pub const REQUESTS_PER_JOB_MAX: usize = 2_048;

/// Serves requests `Q` with answers `R`, many at a time. An `E` is the failure of all that were merged. Cheap to clone.
pub struct Merged<Q, R, E> {
    committer: Committer,
    shared: Arc<Shared<Q, R, E>>,
}

type Work<Q, R, E> = dyn for<'c, 'd> Fn(&'c mut Db<'d>, Vec<Q>) -> JobFuture<'c, Result<Vec<R>, E>> + Send + Sync;
type Reply<R, E> = oneshot::Sender<Result<R, CommitError<Arc<E>>>>;

struct Shared<Q, R, E> {
    waiting: Mutex<Waiting<Q, R, E>>,
    work: Box<Work<Q, R, E>>,
}

struct Waiting<Q, R, E> {
    requests: Vec<(Q, Reply<R, E>)>,
    /// Whether a job that will take them stands in the writer's queue.
    job_queued: bool,
}

impl<Q, R, E> Clone for Merged<Q, R, E> {
    fn clone(&self) -> Self {
        Self { committer: self.committer.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<Q, R, E> Merged<Q, R, E>
where
    Q: Clone + Send + 'static,
    R: Send + 'static,
    E: Send + Sync + 'static,
{
    /// `work` gives one answer per request, in order; a refusal of one request is an answer. `Err` undoes all of them.
    pub fn new<F>(committer: Committer, work: F) -> Self
    where
        F: for<'c, 'd> Fn(&'c mut Db<'d>, Vec<Q>) -> JobFuture<'c, Result<Vec<R>, E>> + Send + Sync + 'static,
    {
        let waiting = Mutex::new(Waiting { requests: Vec::new(), job_queued: false });
        Self { committer, shared: Arc::new(Shared { waiting, work: Box::new(work) }) }
    }

    /// Has `request` served with whatever else waits, and waits until that is durable.
    ///
    /// Dropping this is safe: the request is then served whole or not at all, unheard.
    pub async fn ask(&self, request: Q) -> Result<R, CommitError<Arc<E>>> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.shared.waiting();
            if waiting.requests.len() >= REQUESTS_PER_JOB_MAX {
                return Err(CommitError::Busy);
            }
            // The job cannot begin before this lock is given back, so it finds the request.
            if !waiting.job_queued {
                let place = self.committer.place()?;
                place.send(Box::new(MergedJob {
                    shared: Arc::clone(&self.shared),
                    requests: None,
                    begun: false,
                    replies: Vec::new(),
                    answers: None,
                }));
                waiting.job_queued = true;
            }
            waiting.requests.push((request, reply));
        }
        answer.await.unwrap_or_else(|_| Err(CommitError::unanswered()))
    }
}

impl<Q, R, E> Shared<Q, R, E> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, R, E>> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<(Q, Reply<R, E>)> {
        let mut waiting = self.waiting();
        waiting.job_queued = false;
        std::mem::take(&mut waiting.requests)
    }
}

struct MergedJob<Q, R, E> {
    shared: Arc<Shared<Q, R, E>>,
    /// Those it serves, once it has begun; each with its reply in `replies`.
    requests: Option<Vec<Q>>,
    begun: bool,
    replies: Vec<Reply<R, E>>,
    answers: Option<Result<Vec<R>, Arc<E>>>,
}

impl<Q: Clone + Send, R: Send, E: Send + Sync> Job for MergedJob<Q, R, E> {
    fn is_awaited(&self) -> bool {
        true
    }

    fn run<'c>(&'c mut self, db: &'c mut Db<'_>) -> JobFuture<'c, bool> {
        if !self.begun {
            let awaited = self.shared.take().into_iter().filter(|(_, reply)| !reply.is_closed());
            let (requests, replies) = awaited.unzip();
            (self.requests, self.replies, self.begun) = (Some(requests), replies, true);
        }
        self.answers = None;
        let requests = taken(&mut self.requests, db.kind()).expect("SQLite runs a job once");
        Box::pin(async move {
            if requests.is_empty() {
                return false;
            }
            let answers = (self.shared.work)(db, requests).await;
            if let Ok(answers) = &answers {
                assert!(answers.len() == self.replies.len(), "a merged job answers each request once");
            }
            let keep = answers.is_ok();
            self.answers = Some(answers.map_err(Arc::new));
            keep
        })
    }

    fn tell(mut self: Box<Self>, fate: &Fate) {
        let replies = std::mem::take(&mut self.replies);
        match fate.judge(self.answers.take()) {
            Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| {
                // A caller who left does not want to know.
                let _ = reply.send(Ok(answer));
            }),
            Err(error) => replies.into_iter().for_each(|reply| {
                let _ = reply.send(Err(error.duplicate()));
            }),
        }
    }
}

/// A job that the writer never began lets go of those who wait for it, and they hear that.
impl<Q, R, E> Drop for MergedJob<Q, R, E> {
    fn drop(&mut self) {
        if !self.begun {
            drop(self.shared.take());
        }
    }
}

impl<E> CommitError<Arc<E>> {
    fn duplicate(&self) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(Arc::clone(refusal)),
            Self::Busy => Self::Busy,
            Self::Stopped => Self::Stopped,
            Self::NotCommitted { cause } => Self::NotCommitted { cause: cause.clone() },
            Self::Unknown { cause } => Self::Unknown { cause: cause.clone() },
        }
    }
}
