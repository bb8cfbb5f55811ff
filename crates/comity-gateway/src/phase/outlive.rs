//! Work that is polled by whoever waits for it, and goes on in a task of its own when that one leaves.
//!
//! A task for each request would cost two switches between threads where the caller stays, as nearly all do.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Polls `work` until `answer` is there. What is left of the work then, or when this future is dropped, goes on in a task
/// that `tracker` counts.
pub(super) async fn until<T>(
    mut answer: impl Future<Output = T> + Unpin,
    work: BoxFuture<'static, ()>,
    tracker: &TaskTracker,
) -> T {
    let mut work = Work { future: Some(work), token: tracker.token() };
    poll_fn(|context| {
        work.poll(context);
        Pin::new(&mut answer).poll(context)
    })
    .await
}

struct Work {
    /// `None` where it has come to its end.
    future: Option<BoxFuture<'static, ()>>,
    /// Counted from the first poll on, as a task is.
    token: TaskTrackerToken,
}

impl Work {
    fn poll(&mut self, context: &mut std::task::Context<'_>) {
        let Some(future) = &mut self.future else { return };
        // As in a task, a panic ends the request and not the connection, on which others may run.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        if !matches!(polled, Ok(Poll::Pending)) {
            self.future = None;
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Without a runtime the process ends, and with it what runs.
        if let (Some(future), Ok(runtime)) = (self.future.take(), tokio::runtime::Handle::try_current()) {
            let token = self.token.clone();
            runtime.spawn(async move {
                future.await;
                drop(token);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_left_goes_on_in_a_task_when_the_answer_is_there() {
        let tracker = TaskTracker::new();
        let ((head, answer), (go, gone), (end, ended)) = (oneshot::channel(), oneshot::channel(), oneshot::channel());
        let work = async move {
            head.send(1).unwrap();
            gone.await.unwrap();
            end.send(2).unwrap();
        };
        assert_eq!(until(answer, Box::pin(work), &tracker).await, Ok(1));
        tracker.close();
        assert!(!tracker.is_empty(), "the rest is counted");
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok(2));
        tracker.wait().await;
    }

    #[tokio::test]
    async fn who_leaves_does_not_end_the_work() {
        let tracker = TaskTracker::new();
        let ((head, answer), (go, gone), (end, ended)) =
            (oneshot::channel::<()>(), oneshot::channel(), oneshot::channel());
        let work = async move {
            gone.await.unwrap();
            end.send(head.is_closed()).unwrap();
        };
        let mut waiting = Box::pin(until(answer, Box::pin(work), &tracker));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(waiting);
        tracker.close();
        assert!(!tracker.is_empty());
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok(true), "it sees that nobody listens");
        tracker.wait().await;
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_whoever_waits_hears_of_it() {
        let tracker = TaskTracker::new();
        let (head, answer) = oneshot::channel::<()>();
        let work = async move {
            let _head = head;
            tokio::task::yield_now().await;
            panic!("as planned");
        };
        assert!(until(answer, Box::pin(work), &tracker).await.is_err());
        assert!(tracker.is_empty());
    }

    #[tokio::test]
    async fn who_leaves_before_the_first_poll_does_not_end_it_either() {
        let tracker = TaskTracker::new();
        let ((_, answer), (end, ended)) = (oneshot::channel::<()>(), oneshot::channel());
        let work = async move { end.send(()).unwrap() };
        let waiting = Box::pin(until(answer, Box::pin(work), &tracker));
        drop(waiting);
        assert!(ended.await.is_err(), "an async function that was never polled has begun nothing");
        assert!(tracker.is_empty());
    }
}
