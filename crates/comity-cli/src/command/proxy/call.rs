//! One call under way, apart from who waits for it: a caller that is lost may come again and take up the same call.
//!
//! The call runs in a task of its own. Whoever waits holds its slot; where they go before the first byte came, the slot is
//! put back for as long as a retry may take, then the node is let go. Once a byte was handed over, a caller that goes
//! ends the call: what was relayed by then is what is charged.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use comity_sdk::Answer;
use comity_sdk::chat::Notes;
use comity_wire::Digest;
use futures::{FutureExt as _, Stream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::said::Said;

/// What comes before the first byte.
pub(super) enum Head {
    Whole(Box<Answer>),
    Stream(Notes, mpsc::Receiver<Bytes>),
    Failed(Box<Said>),
}

/// Calls under way, by key.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<Digest, Arc<Call>>>>);

pub(super) struct Call {
    slot: Mutex<Slot>,
    /// How often something was put back into the slot.
    turns: AtomicU64,
    ended: watch::Sender<bool>,
    is_stream: bool,
    patience: Duration,
}

enum Slot {
    /// Somebody waits, or the answer was taken.
    Taken,
    Head(oneshot::Receiver<Head>),
    Stream(Notes, mpsc::Receiver<Bytes>),
}

/// What a caller finds.
pub(super) enum Found {
    /// Nobody asks it.
    Nothing,
    /// It is to be waited for.
    Waiting(Waiting),
    /// Another waits for it: at its end it can be asked for.
    Ends(watch::Receiver<bool>),
    /// Another reads it.
    Taken,
}

impl Calls {
    pub(super) fn start(
        &self,
        key: Digest,
        is_stream: bool,
        patience: Duration,
    ) -> (oneshot::Sender<Head>, Waiting, Ended) {
        let (send, receive) = oneshot::channel();
        let call = Arc::new(Call {
            slot: Mutex::new(Slot::Taken),
            turns: AtomicU64::new(0),
            ended: watch::Sender::new(false),
            is_stream,
            patience,
        });
        self.with(|calls| calls.insert(key, Arc::clone(&call)));
        let ended = Ended { calls: self.clone(), key, call: Arc::clone(&call) };
        (send, Waiting { call, receive: Some(receive) }, ended)
    }

    pub(super) fn find(&self, key: &Digest) -> Found {
        let Some(call) = self.with(|calls| calls.get(key).cloned()) else { return Found::Nothing };
        let slot = std::mem::replace(&mut *call.lock(), Slot::Taken);
        match slot {
            Slot::Head(receive) => Found::Waiting(Waiting { call, receive: Some(receive) }),
            Slot::Stream(notes, frames) => {
                let (send, receive) = oneshot::channel();
                send.send(Head::Stream(notes, frames)).ok();
                Found::Waiting(Waiting { call, receive: Some(receive) })
            }
            Slot::Taken if call.is_stream => Found::Taken,
            Slot::Taken => Found::Ends(call.ended.subscribe()),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Digest, Arc<Call>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Call {
    fn lock(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a lost caller left, for as long as it may come again.
    fn put_back(self: &Arc<Self>, slot: Slot) {
        if self.patience.is_zero() {
            return;
        }
        let turn = self.put(slot);
        let call = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(call.patience).await;
            call.let_go(turn);
        });
    }

    fn put(&self, slot: Slot) -> u64 {
        let mut place = self.lock();
        *place = slot;
        self.turns.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Nobody came for what was put here then. What was put here since has a time of its own.
    fn let_go(&self, turn: u64) {
        let mut place = self.lock();
        if self.turns.load(Ordering::Relaxed) == turn {
            let left = std::mem::replace(&mut *place, Slot::Taken);
            drop(place);
            drop(left);
        }
    }
}

/// The call is under way until this is dropped.
pub(super) struct Ended {
    calls: Calls,
    key: Digest,
    call: Arc<Call>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.calls.with(|calls| calls.remove(&self.key));
        self.call.ended.send_replace(true);
    }
}

/// Resolves to the call's head; dropped before, it leaves the call to a retry.
pub(super) struct Waiting {
    call: Arc<Call>,
    receive: Option<oneshot::Receiver<Head>>,
}

impl Future for Waiting {
    type Output = Option<Head>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Head>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(None) };
        let head = ready!(receive.poll_unpin(context));
        self.receive = None;
        Poll::Ready(head.ok())
    }
}

impl Waiting {
    /// The frames of the call that was waited for.
    pub(super) fn frames(&self, notes: Notes, frames: mpsc::Receiver<Bytes>) -> Frames {
        Frames { call: Arc::clone(&self.call), left: Some((notes, frames)), touched: false, quiet: None }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(receive) = self.receive.take() {
            self.call.put_back(Slot::Head(receive));
        }
    }
}

/// A stream's frames, with a comment where nothing came for long.
pub(super) struct Frames {
    call: Arc<Call>,
    left: Option<(Notes, mpsc::Receiver<Bytes>)>,
    touched: bool,
    quiet: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// Hand-written clients choke on comments: no more of them than keep a connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

impl Stream for Frames {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some((_, frames)) = &mut this.left else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = frames.poll_recv(context) {
            this.touched = true;
            this.quiet = None;
            return Poll::Ready(frame.map(Ok));
        }
        let quiet = this.quiet.get_or_insert_with(|| Box::pin(tokio::time::sleep(KEEP_ALIVE)));
        ready!(quiet.as_mut().poll(context));
        this.quiet = None;
        Poll::Ready(Some(Ok(Bytes::from_static(b": wait\n\n"))))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some((notes, frames)) = self.left.take()
            && !self.touched
        {
            self.call.put_back(Slot::Stream(notes, frames));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    const KEY: Digest = Digest([1; 32]);
    const LONG: Duration = Duration::from_secs(600);

    fn notes() -> Notes {
        Notes { node: comity_wire::NodeId([1; 16]), headers: Vec::new(), door: None, served: None }
    }

    #[tokio::test]
    async fn a_lost_caller_comes_again_to_the_same_call() {
        let calls = Calls::default();
        let (send, waiting, ended) = calls.start(KEY, false, LONG);
        assert!(matches!(calls.find(&KEY), Found::Ends(_)), "another waits");
        drop(waiting);
        let Found::Waiting(again) = calls.find(&KEY) else { panic!("it was left") };
        send.send(Head::Failed(Box::new(Said::bad_request("no", None)))).ok();
        assert!(matches!(again.await, Some(Head::Failed(_))));
        drop(ended);
        assert!(matches!(calls.find(&KEY), Found::Nothing));
    }

    #[tokio::test]
    async fn who_does_not_come_again_ends_the_call() {
        let calls = Calls::default();
        let (mut send, waiting, _ended) = calls.start(KEY, false, Duration::ZERO);
        drop(waiting);
        send.closed().await;
    }

    #[tokio::test]
    async fn who_is_lost_twice_has_its_time_twice() {
        let calls = Calls::default();
        let (_send, waiting, ended) = calls.start(KEY, false, LONG);
        drop(waiting);
        let Found::Waiting(again) = calls.find(&KEY) else { panic!("it was left") };
        drop(again);
        ended.call.let_go(1);
        let Found::Waiting(again) = calls.find(&KEY) else { panic!("the first time is over, the second is not") };
        drop(again);
        ended.call.let_go(3);
        assert!(matches!(calls.find(&KEY), Found::Ends(_)), "nobody came");
    }

    #[tokio::test]
    async fn a_stream_is_taken_up_until_its_first_frame_was_handed_over() {
        let calls = Calls::default();
        let (send, mut waiting, _ended) = calls.start(KEY, true, LONG);
        let (frames, receive) = mpsc::channel(4);
        frames.send(Bytes::from_static(b"one")).await.unwrap();
        frames.send(Bytes::from_static(b"two")).await.unwrap();
        send.send(Head::Stream(notes(), receive)).ok();
        let Some(Head::Stream(notes, receive)) = (&mut waiting).await else { panic!("a stream") };
        drop(waiting.frames(notes, receive));

        let Found::Waiting(mut again) = calls.find(&KEY) else { panic!("nobody read it") };
        let Some(Head::Stream(notes, receive)) = (&mut again).await else { panic!("a stream") };
        let mut reading = again.frames(notes, receive);
        assert_eq!(reading.next().await.unwrap().unwrap(), "one");
        assert!(matches!(calls.find(&KEY), Found::Taken));
        drop(reading);
        assert!(matches!(calls.find(&KEY), Found::Taken), "it is not given in two halves");
        frames.closed().await;
    }
}
