//! Gathered reads: whoever asks while a read is under way is answered by the next, with all who came meanwhile. A trip to the database and
//! back costs more than what most of them ask for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::failure::Failure;

/// Questions of one read.
const TOGETHER_MAX: usize = 256;
/// Questions that wait; one more is asked alone.
const WAITING_MAX: usize = 4_096;
/// How long a read may take before each asks alone, on a connection of its own.
const READ_WAIT: Duration = Duration::from_secs(2);

/// Answers questions `Q` with `A`, many at a time.
pub(super) struct Gathered<Q, A>(Arc<Shared<Q, A>>);

type Read<Q, A> = dyn Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Failure>> + Send + Sync;

struct Shared<Q, A> {
    waiting: Mutex<Waiting<Q, A>>,
    read: Box<Read<Q, A>>,
}

struct Waiting<Q, A> {
    asked: Vec<(Q, oneshot::Sender<A>)>,
    /// Whether somebody reads, and will take them.
    reading: bool,
}

impl<Q: Send + 'static, A: Send + 'static> Gathered<Q, A> {
    /// `read` gives one answer per question, in order.
    pub(super) fn new(
        read: impl Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Failure>> + Send + Sync + 'static,
    ) -> Self {
        let waiting = Mutex::new(Waiting { asked: Vec::new(), reading: false });
        Self(Arc::new(Shared { waiting, read: Box::new(read) }))
    }

    /// What a read that begins from now on says. `None` where it failed, or too many wait: ask alone, and hear why.
    pub(super) async fn ask(&self, question: Q) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.0.waiting();
            if waiting.asked.len() >= WAITING_MAX {
                return None;
            }
            waiting.asked.push((question, reply));
            if !std::mem::replace(&mut waiting.reading, true) {
                tokio::spawn(Arc::clone(&self.0).serve());
            }
        }
        answer.await.ok()
    }
}

impl<Q, A> Shared<Q, A> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until nobody waits.
    async fn serve(self: Arc<Self>) {
        let mut broken = Broken { shared: &self, off: false };
        loop {
            let asked: Vec<_> = {
                let mut waiting = self.waiting();
                let count = waiting.asked.len().min(TOGETHER_MAX);
                if count == 0 {
                    waiting.reading = false;
                    broken.off = true;
                    return;
                }
                waiting.asked.drain(..count).collect()
            };
            let (questions, replies): (Vec<Q>, Vec<_>) = asked.into_iter().unzip();
            // Where it failed the replies go, and each asks alone.
            if let Ok(Ok(answers)) = tokio::time::timeout(READ_WAIT, (self.read)(questions)).await {
                replies.into_iter().zip(answers).for_each(|(reply, answer)| {
                    // A caller who left does not want to know.
                    let _ = reply.send(answer);
                });
            }
        }
    }
}

/// Lets go of all who wait where whoever read for them has come to an end before its time.
struct Broken<'s, Q, A> {
    shared: &'s Shared<Q, A>,
    off: bool,
}

impl<Q, A> Drop for Broken<'_, Q, A> {
    fn drop(&mut self) {
        if !self.off {
            let mut waiting = self.shared.waiting();
            waiting.reading = false;
            waiting.asked.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_come_while_one_reads_are_answered_by_the_next_read() {
        let (reads, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (seen, opened) = (Arc::clone(&reads), Arc::clone(&gate));
        let gathered = Gathered::new(move |asked: Vec<u32>| {
            seen.lock().expect("no panic").push(asked.len());
            let opened = Arc::clone(&opened);
            async move {
                opened.acquire().await.expect("it is open").forget();
                Ok(asked.into_iter().map(|question| question * 2).collect())
            }
            .boxed()
        });
        let mut first = Box::pin(gathered.ask(1));
        assert!(futures::poll!(&mut first).is_pending());
        while reads.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
        let mut others = Box::pin(join_all((2..=TOGETHER_MAX as u32 + 2).map(|question| gathered.ask(question))));
        assert!(futures::poll!(&mut others).is_pending());
        gate.add_permits(3);
        assert_eq!(first.await, Some(2));
        let expected: Vec<_> = (2..=TOGETHER_MAX as u32 + 2).map(|question| Some(question * 2)).collect();
        assert_eq!(others.await, expected);
        assert_eq!(*reads.lock().expect("no panic"), [1, TOGETHER_MAX, 1]);
    }

    #[tokio::test]
    async fn where_a_read_fails_or_breaks_each_asks_alone_and_the_next_is_served() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let gathered = Gathered::new(move |asked: Vec<u32>| {
            let nth = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match nth {
                    0 => Err(Failure::invalid("a planted failure")),
                    1 => std::panic::panic_any("a planted panic"),
                    _ => Ok(asked),
                }
            }
            .boxed()
        });
        assert_eq!(gathered.ask(1).await, None);
        assert_eq!(gathered.ask(2).await, None);
        assert_eq!(gathered.ask(3).await, Some(3));
        // A caller who leaves takes nobody along.
        let _ = gathered.ask(4).now_or_never();
        assert_eq!(gathered.ask(5).await, Some(5));
    }
}
