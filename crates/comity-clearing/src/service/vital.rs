//! Whether the house is well: what a load balancer, a supervisor and an operator ask.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_ledger::CommitError;
use tokio::time::Instant;

use super::Clearing;
use crate::failure::Failure;
use crate::settlement::Calendar;
use crate::store;

/// A heartbeat that is older was not written when it was due, nor when it was due again.
const BEAT_S: u64 = 2 * Calendar::BEAT_S + 30;
/// The sequencer looks every second; one that has not looked for so long hangs.
const LOG_TURN: Duration = Duration::from_secs(60);
/// How long the writer's lock is waited for by whoever asks, and how long an answer holds for others.
const PROBE_WAIT: Duration = Duration::from_secs(5);
const PROBE_HOLDS: Duration = Duration::from_secs(5);

/// How the house is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vital {
    /// Each part, and whether it is as it must be. The house is ready where all are.
    pub parts: Vec<(&'static str, bool)>,
    pub commits: u64,
    pub writes_waiting: u64,
    pub beat_age_s: u64,
    pub list_age_s: u64,
}

impl Vital {
    pub fn is_ready(&self) -> bool {
        self.parts.iter().all(|(_, is_well)| *is_well)
    }
}

/// When the writer was tried last, and whether it was there.
pub(super) type Probe = tokio::sync::Mutex<Option<(Instant, bool)>>;

impl Clearing {
    /// How the house is. Strangers may ask: nothing in it costs more than a read, and the writer is tried at most every few
    /// seconds.
    pub async fn vital(&self) -> Vital {
        let now = self.now();
        let beat = self.calendar().spans().last().map(|span| span.1);
        let beat_age_s = beat.map_or(u64::MAX, |beat| now.since(beat));
        let list_age_s = self.standing().map_or(u64::MAX, |list| now.since(list.issued_at));
        let turned = *self.inner.log_turned.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = vec![
            ("open", !self.inner.stop.is_cancelled() && !self.inner.retired.load(Ordering::Relaxed)),
            ("reading", self.reads().await.is_ok()),
            ("writing", self.writes().await),
            ("heartbeat", beat_age_s <= BEAT_S),
            ("clock", !crate::ops::is_clock_behind(beat, now)),
            ("sequencer", turned.elapsed() <= LOG_TURN),
            ("checkpoint", self.log_remembers()),
            ("issuer_key", self.is_issuing()),
            ("publishing", !self.inner.silent.load(Ordering::Relaxed)),
        ];
        let committer = &self.inner.committer;
        Vital { parts, commits: committer.commits(), writes_waiting: committer.waiting(), beat_age_s, list_age_s }
    }

    /// From here on the house says that it is not ready, and serves all the same: others send nobody any more.
    pub fn retire(&self) {
        self.inner.retired.store(true, Ordering::Relaxed);
    }

    /// Whoever keeps the feed says whether what this process makes is published. What the feed's state in the books keeps from being
    /// published is no matter of one process, and not said here: no other one could do better.
    pub fn publishing(&self, is_well: bool) {
        self.inner.silent.store(!is_well, Ordering::Relaxed);
    }

    async fn reads(&self) -> Result<(), Failure> {
        let look = async {
            let mut conn = self.read().await?;
            store::log::state(&mut conn.db()).await.map(drop)
        };
        let late = |_| Err(Failure::NotWritten { cause: "the books were not read in time".into() });
        tokio::time::timeout(PROBE_WAIT, look).await.unwrap_or_else(late)
    }

    /// Whether a transaction can be begun: it is refused, so nothing is written.
    async fn writes(&self) -> bool {
        let mut probe = self.inner.probe.lock().await;
        if let Some((at, is_there)) = *probe
            && at.elapsed() < PROBE_HOLDS
        {
            return is_there;
        }
        let asked = self.inner.committer.run(|_| Box::pin(async { Err::<(), ()>(()) }));
        let is_there = matches!(tokio::time::timeout(PROBE_WAIT, asked).await, Ok(Err(CommitError::Refused(()))));
        *probe = Some((Instant::now(), is_there));
        is_there
    }

    pub(super) fn log_turned(&self) {
        *self.inner.log_turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
