//! Several instances of one model as one upstream: the least loaded answers, a sick one is left alone for a while.
//!
//! A call goes to another instance only while none has accepted it and the failure may pass by itself, a bounded number of
//! times: what was accepted once is due once. All rules are in [`core`]; here is the awaiting.

mod core;

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::core::{Core, Millis, Outcome};
pub use self::core::{Settings, Sight, Standing};
use crate::{Answer, BoxFuture, Call, Event, Health, Reply, Upstream, UpstreamError};

/// Randomness for spreading probes, so that a hundred nodes do not ask one server at once.
pub type Entropy = Arc<dyn Fn() -> u32 + Send + Sync>;

/// The instances of one model, watched for as long as this lives.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    watch: JoinHandle<()>,
}

struct Shared {
    core: Mutex<Core>,
    /// Name for people, and the instance.
    instances: Vec<(String, Arc<dyn Upstream>)>,
    began: Instant,
    entropy: Entropy,
    /// Something may be due earlier than was thought.
    changed: Notify,
}

/// The most instances of one model.
pub const INSTANCES_MAX: usize = 64;
/// A probe that takes longer has failed, whatever its instance promises.
const PROBE_MAX: Duration = Duration::from_secs(10);

impl Pool {
    /// Takes the first [`INSTANCES_MAX`] instances, each with its name for people, and begins to watch them.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(mut instances: Vec<(String, Arc<dyn Upstream>)>, settings: Settings, entropy: Entropy) -> Self {
        instances.truncate(INSTANCES_MAX);
        let core = Mutex::new(Core::new(instances.len(), settings));
        let shared = Arc::new(Shared { core, instances, began: Instant::now(), entropy, changed: Notify::new() });
        let watch = tokio::spawn(watch(Arc::downgrade(&shared)));
        Self { shared, watch }
    }

    /// Probes what is due now, and comes back when that is known.
    pub async fn look_now(&self) {
        self.shared.probe_due().await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("instances", &self.instances).finish_non_exhaustive()
    }
}

impl Upstream for Pool {
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>> {
        async move {
            let asked = self.shared.first_of(call, |instance, call| instance.complete(call)).await;
            asked.map(|(reply, load)| Reply::new(watched(reply, load)))
        }
        .boxed()
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        async move {
            let asked = self.shared.first_of(call, |instance, call| instance.answer(call)).await;
            asked.map(|(answer, _)| answer)
        }
        .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let now = self.shared.now();
        let out = self.shared.core().out(now);
        async move {
            match out {
                None => Health::ready(Vec::new()),
                Some(UpstreamError::Out { is_starting: true, .. }) => {
                    Health::starting("every instance is starting or down")
                }
                Some(_) => Health::down("every instance is down"),
            }
        }
        .boxed()
    }

    fn instances(&self) -> Vec<(String, Sight)> {
        let now = self.shared.now();
        let core = self.shared.core();
        self.shared.instances.iter().enumerate().map(|(at, (name, _))| (name.clone(), core.sight(at, now))).collect()
    }
}

impl Shared {
    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("the rules do not panic")
    }

    /// Asks instances in turn until one accepts. Dropping this future stops the call and frees its place.
    async fn first_of<'a, T>(
        self: &'a Arc<Self>,
        call: Call,
        ask: impl Fn(&'a dyn Upstream, Call) -> BoxFuture<'a, Result<T, UpstreamError>>,
    ) -> Result<(T, Load), UpstreamError> {
        let mut tried = Vec::new();
        let mut last = None;
        let cancel = call.cancel.clone();
        let mut call = Some(call);
        loop {
            let chosen = self.core().choose(self.now(), &tried);
            let Some(at) = chosen else { break };
            let load = Load { shared: Arc::clone(self), at };
            let began = self.now();
            // Who is the last to be asked gets the call itself: it may be large.
            let is_last = tried.len() + 1 == self.instances.len();
            let Some(given) = (if is_last { call.take() } else { call.clone() }) else { break };
            match ask(&*self.instances[at].1, given).await {
                Ok(answer) => {
                    load.ended(Outcome::Accepted { took_ms: self.now().saturating_sub(began) });
                    return Ok((answer, load));
                }
                Err(error) => {
                    load.ended(Outcome::of(&error));
                    let may_go_on = core::may_go_on(&error) && !cancel.is_cancelled();
                    tracing::warn!(instance = %self.instances[at].0, %error, may_go_on, "instance");
                    if !may_go_on {
                        return Err(error);
                    }
                    tried.push(at);
                    last = Some(error);
                }
            }
        }
        Err(last
            .or_else(|| self.core().out(self.now()))
            .unwrap_or(UpstreamError::Out { is_starting: false, retry_after_s: 1 }))
    }

    async fn probe_due(&self) {
        let due = self.core().due(self.now());
        let probe = async |at: usize| {
            let found = tokio::time::timeout(PROBE_MAX, self.instances[at].1.health()).await;
            (at, found.unwrap_or_else(|_| Health::down("it did not answer a probe")))
        };
        for (at, health) in futures::future::join_all(due.into_iter().map(probe)).await {
            let before = self.core().sight(at, self.now()).standing;
            self.core().probed(self.now(), at, &health, (self.entropy)());
            let after = self.core().sight(at, self.now()).standing;
            if before != after {
                tracing::info!(instance = %self.instances[at].0, standing = ?after, reason = %health.reason, "instance");
            }
        }
    }
}

/// Ends with the pool: it holds no more than a weak hand on it while it waits.
async fn watch(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        strong.probe_due().await;
        let wait = Duration::from_millis(strong.core().wake_at().saturating_sub(strong.now()).max(1));
        tokio::select! {
            () = strong.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A place taken at an instance; given back when the answer has ended or was dropped.
struct Load {
    shared: Arc<Shared>,
    at: usize,
}

impl Load {
    fn ended(&self, outcome: Outcome) {
        self.shared.core().ended(self.shared.now(), self.at, outcome, (self.shared.entropy)());
        if outcome == Outcome::Failed {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.core().released(self.at);
    }
}

/// The same events; an answer that breaks counts against its instance.
fn watched(reply: Reply, load: Load) -> impl Stream<Item = Result<Event, UpstreamError>> + Send {
    reply.inspect(move |event| {
        if let Err(error) = event {
            load.ended(Outcome::of(error));
        }
    })
}

#[cfg(test)]
mod tests;
