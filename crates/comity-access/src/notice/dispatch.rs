//! The loop that takes rows from an outbox to their receivers. What follows from an attempt is [`step`]'s to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_wire::Timestamp;
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::schedule::{Outcome, Step, step};
use super::words::plain;
use super::{Outbox, Queued, Senders, Unkept, limit};

/// Times of the loop, by the machine's own clock.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of one attempt; at most [`limit::ATTEMPT_S_MAX`].
    pub attempt: Duration,
    /// How long a loop sleeps where nobody wakes it.
    pub rest: Duration,
    /// How long what is under way may go on once the node stops.
    pub grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { attempt: seconds(limit::ATTEMPT_S_MAX), rest: seconds(5), grace: seconds(3) }
    }
}

/// What brings a notice to one receiver, once. Dropping a call leaves it open whether it arrived.
pub trait Sender: Send + Sync {
    /// Tries it at `now`.
    fn send<'a>(&'a self, queued: &'a Queued, now: Timestamp) -> BoxFuture<'a, Outcome>;
}

/// How a target fares since the process began: for the doctor, figures and `comity node status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its name.
    pub target: String,
    /// Deliveries that were taken.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries that were given up.
    pub gave_up: u64,
    /// The newest delivery.
    pub last_delivered: Option<Timestamp>,
    /// The newest failure, and why; older than the newest delivery where all is well again.
    pub last_failure: Option<(Timestamp, String)>,
    /// Since when it wants nothing any more (410), and what it said. A restart asks it again.
    pub off: Option<(Timestamp, String)>,
}

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Rows that were taken.
    pub taken: usize,
    /// Of them delivered.
    pub delivered: usize,
    /// Of them given up.
    pub gave_up: usize,
}

struct Line {
    sender: Box<dyn Sender>,
    standing: Mutex<Standing>,
    wake: Notify,
}

/// Takes notices from an outbox to their targets, each target at its own pace.
pub struct Dispatcher {
    outbox: Arc<dyn Outbox>,
    lines: Vec<Line>,
    pace: Pace,
}

impl Dispatcher {
    /// Of [`super::Targets::open`]'s senders.
    pub fn new(outbox: Arc<dyn Outbox>, senders: Senders) -> Self {
        let line = |(target, sender)| {
            let standing = Mutex::new(Standing { target, ..Standing::default() });
            Line { sender, standing, wake: Notify::new() }
        };
        Self { outbox, lines: senders.into_iter().map(line).collect(), pace: Pace::default() }
    }

    /// At another pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Says that rows were written, so that nobody waits for the next look.
    pub fn wake(&self) {
        self.lines.iter().for_each(|line| line.wake.notify_one());
    }

    /// How each target fares.
    pub fn standing(&self) -> Vec<Standing> {
        self.lines.iter().map(|line| line.look(Standing::clone)).collect()
    }

    /// Runs until it is stopped. Then nothing more is begun, and what does not end in time is dropped and comes again: the
    /// receiver knows it by its id.
    pub async fn run(&self, clock: impl Fn() -> Timestamp + Sync, stop: CancellationToken) {
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(self.pace.grace).await;
        };
        tokio::select! {
            () = late => {}
            () = self.work(&clock, &stop) => {}
        }
    }

    async fn work(&self, clock: &(impl Fn() -> Timestamp + Sync), stop: &CancellationToken) {
        let names: Vec<String> = self.lines.iter().map(|line| line.look(|standing| standing.target.clone())).collect();
        match self.outbox.gave_up_others(&names, clock(), "its target is not in the settings any more").await {
            Ok(0) => {}
            Ok(rows) => tracing::warn!(rows, "notices for targets that are gone were given up"),
            Err(error) => tracing::error!(error = %error.0, "{error}"),
        }
        join_all(self.lines.iter().map(|line| async move {
            while !stop.is_cancelled() {
                match self.take(line, clock, stop).await {
                    // More is there.
                    Ok(turn) if turn.taken == limit::BATCH_MAX => continue,
                    Ok(_) => {}
                    Err(error) => tracing::error!(error = %error.0, "{error}"),
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = line.wake.notified() => {}
                    () = tokio::time::sleep(self.pace.rest) => {}
                }
            }
        }))
        .await;
    }

    /// One turn with each target.
    ///
    /// # Errors
    /// [`Unkept`] of the first whose rows could not be read or written.
    pub async fn turn(&self, now: Timestamp) -> Result<Turn, Unkept> {
        let (clock, stop) = (|| now, CancellationToken::new());
        let mut sum = Turn::default();
        for turn in join_all(self.lines.iter().map(|line| self.take(line, &clock, &stop))).await {
            let turn = turn?;
            sum.taken += turn.taken;
            sum.delivered += turn.delivered;
            sum.gave_up += turn.gave_up;
        }
        Ok(sum)
    }

    async fn take(
        &self,
        line: &Line,
        clock: &(impl Fn() -> Timestamp + Sync),
        stop: &CancellationToken,
    ) -> Result<Turn, Unkept> {
        let (target, now) = (line.look(|standing| standing.target.clone()), clock());
        let rows = self.outbox.due(&target, now, now.plus(limit::TAKEN_S), limit::BATCH_MAX).await?;
        let taken = rows.len();
        let tries = rows.into_iter().map(|row| async move { self.attempt(line, &row, clock).await });
        let tries = futures::stream::iter(tries).take_until(stop.cancelled());
        let steps: Vec<_> = tries.buffer_unordered(limit::AT_ONCE_MAX).collect().await;
        let mut turn = Turn { taken, ..Turn::default() };
        for step in steps {
            match step? {
                Step::Done => turn.delivered += 1,
                Step::GiveUp { .. } => turn.gave_up += 1,
                Step::Again { .. } => {}
            }
        }
        Ok(turn)
    }

    async fn attempt(
        &self,
        line: &Line,
        row: &Queued,
        clock: &(impl Fn() -> Timestamp + Sync),
    ) -> Result<Step, Unkept> {
        let id = row.delivery.id;
        let outcome = if line.look(|standing| standing.off.is_some()) {
            Outcome::Failed {
                why: "the target wants nothing any more (410); a restart asks it again".into(),
                wait_s: None,
            }
        } else {
            let most = self.pace.attempt.min(Duration::from_secs(limit::ATTEMPT_S_MAX));
            let slow = || Outcome::Failed { why: format!("no answer within {most:?}"), wait_s: None };
            tokio::time::timeout(most, line.sender.send(row, clock())).await.unwrap_or_else(|_| slow())
        };
        let now = clock();
        let outcome = short(outcome);
        line.hear(&outcome, now);
        let mut dice = [0];
        getrandom::fill(&mut dice).expect("the system gives random bytes");
        let step = step(outcome, row.attempts, row.since, now, dice[0]);
        match &step {
            Step::Done => self.outbox.done(id, now).await?,
            Step::Again { at, why } => self.outbox.again(id, *at, why).await?,
            Step::GiveUp { why } => {
                let notice = &row.delivery.notice;
                let target = &row.delivery.target;
                tracing::warn!(%target, notice = %notice.id, about = %notice.about, %why, "a notice was given up");
                line.change(|standing| standing.gave_up += 1);
                self.outbox.gave_up(id, now, why).await?;
            }
        }
        Ok(step)
    }
}

impl Line {
    fn look<T>(&self, read: impl FnOnce(&Standing) -> T) -> T {
        read(&self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, write: impl FnOnce(&mut Standing)) {
        write(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn hear(&self, outcome: &Outcome, now: Timestamp) {
        self.change(|standing| match outcome {
            Outcome::Delivered => {
                standing.delivered += 1;
                standing.last_delivered = Some(now);
            }
            Outcome::Failed { why, .. } | Outcome::Refused { why } => {
                standing.failed += 1;
                standing.last_failure = Some((now, why.clone()));
            }
            Outcome::Gone { why } => {
                tracing::error!(target = standing.target, %why, "a target of notices wants nothing any more and is off until a restart");
                standing.failed += 1;
                standing.last_failure = Some((now, why.clone()));
                standing.off = Some((now, why.clone()));
            }
        });
    }
}

/// What the other side said, short and without what steers a terminal.
fn short(outcome: Outcome) -> Outcome {
    let cut = |why: String| plain(&why, limit::WHY_CHARS_MAX).replace('\n', " ");
    match outcome {
        Outcome::Delivered => Outcome::Delivered,
        Outcome::Failed { why, wait_s } => Outcome::Failed { why: cut(why), wait_s },
        Outcome::Refused { why } => Outcome::Refused { why: cut(why) },
        Outcome::Gone { why } => Outcome::Gone { why: cut(why) },
    }
}
