//! An upstream that says what a test tells it to say, when the test lets it.
//!
//! Nothing in it waits for time: a [`Gate`] holds an answer back until the test opens it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use comity_wire::Op;
use futures::{FutureExt as _, Stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::error::Silence;
use crate::{Answer, BoxFuture, Call, Delta, Event, Health, Reply, Upstream, UpstreamError, Usage};

/// One line of a script.
#[derive(Clone, Debug)]
pub enum Step {
    Say(Event),
    /// Waits for a permit of the gate before going on.
    Wait(Gate),
    /// The connection ends here.
    Cut,
    /// Nothing ever comes again; reported as silence of so many milliseconds, at once.
    Silence(u64),
    /// Nothing ever comes again, until the call is cancelled or dropped.
    Hang,
    /// An error frame.
    Fail(String),
}

/// What the upstream does with one call.
#[derive(Clone, Debug)]
pub enum Script {
    Answer(Vec<Step>),
    /// An answer in one piece.
    Whole(Answer),
    /// An error status instead of an answer.
    Refuse {
        status: u16,
        message: String,
    },
    Unreachable,
    /// Holds acceptance itself back, then goes on.
    After(Gate, Box<Self>),
}

/// Held back until [`Gate::open`]; opens once per permit.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn shut() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets `times` waiters through, now or later.
    pub fn open(&self, times: usize) {
        self.0.add_permits(times);
    }

    async fn pass(&self) {
        self.0.acquire().await.expect("a gate's semaphore is never closed").forget();
    }
}

impl Script {
    /// An answer of one choice in these pieces, with usage: `input_tokens` and one output token per piece.
    pub fn text(op: Op, input_tokens: u64, pieces: &[&str]) -> Self {
        let delta = |delta| Step::Say(Event::Delta(delta));
        let role = (op == Op::Chat).then(|| "assistant".to_owned());
        let mut steps: Vec<Step> =
            role.into_iter().map(|role| delta(Delta { role: Some(role), ..Delta::default() })).collect();
        steps.extend(pieces.iter().map(|&text| delta(Delta { text: text.into(), ..Delta::default() })));
        steps.push(delta(Delta { finish_reason: Some("stop".into()), ..Delta::default() }));
        steps.push(Step::Say(Event::Usage(Usage { input_tokens, output_tokens: pieces.len() as u64 })));
        steps.push(Step::Say(Event::Done));
        Self::Answer(steps)
    }

    /// The same answer with its usage left out.
    pub fn without_usage(self) -> Self {
        self.map(|steps| steps.retain(|s| !matches!(s, Step::Say(Event::Usage(_)))))
    }

    /// The same answer with everything from `at` on replaced by `step`.
    pub fn broken_at(self, at: usize, step: Step) -> Self {
        self.map(|steps| {
            steps.truncate(at);
            steps.push(step);
        })
    }

    /// The same answer, held back at `at` until the gate opens.
    pub fn held_at(self, at: usize, gate: &Gate) -> Self {
        self.map(|steps| steps.insert(at.min(steps.len()), Step::Wait(gate.clone())))
    }

    fn map(self, change: impl FnOnce(&mut Vec<Step>)) -> Self {
        match self {
            Self::Answer(mut steps) => {
                change(&mut steps);
                Self::Answer(steps)
            }
            Self::After(gate, then) => Self::After(gate, Box::new(then.map(change))),
            other => other,
        }
    }
}

/// Plays queued scripts in order, then the standing one; keeps what it was asked. Clones are the same upstream.
#[derive(Clone, Debug)]
pub struct Scripted(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    queue: VecDeque<Script>,
    standing: Script,
    /// By op, for what is answered in one piece.
    whole: BTreeMap<Op, Answering>,
    health: Health,
    calls: Vec<Call>,
}

/// What is answered in one piece, by what was asked.
struct Answering(Box<dyn Fn(&Call) -> Script + Send>);

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answering(…)")
    }
}

/// How many calls are remembered; a benchmark makes more.
const CALLS_KEPT_MAX: usize = 10_000;

impl Scripted {
    /// Answers every call with `standing`.
    pub fn new(standing: Script) -> Self {
        let (queue, whole, calls) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { queue, standing, whole, health: Health::ready(Vec::new()), calls })))
    }

    /// Answers every call of `op` in one piece; other ops are not served that way.
    pub fn set_answer(&self, op: Op, answer: impl Fn(&Call) -> Script + Send + 'static) {
        self.state().whole.insert(op, Answering(Box::new(answer)));
    }

    /// The next call gets this one, once.
    pub fn push(&self, script: Script) {
        self.state().queue.push_back(script);
    }

    pub fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// What was asked so far, in order, also what was refused.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics whilst holding the script")
    }

    fn next_script(&self, call: &Call) -> Script {
        let mut state = self.state();
        state.keep(call);
        state.queue.pop_front().unwrap_or_else(|| state.standing.clone())
    }
}

impl State {
    fn keep(&mut self, call: &Call) {
        if self.calls.len() < CALLS_KEPT_MAX {
            self.calls.push(call.clone());
        }
    }
}

/// What a script comes to once its gates are open.
enum Played {
    Steps(Vec<Step>),
    Whole(Answer),
}

async fn played(mut script: Script, cancel: &CancellationToken) -> Result<Played, UpstreamError> {
    loop {
        script = match script {
            Script::Answer(steps) => return Ok(Played::Steps(steps)),
            Script::Whole(answer) => return Ok(Played::Whole(answer)),
            Script::Refuse { status, message } => {
                return Err(UpstreamError::Refused { status, code: None, message, retry_after_s: None });
            }
            Script::Unreachable => {
                return Err(UpstreamError::Unreachable { upstream: "script".into(), detail: "scripted".into() });
            }
            Script::After(gate, then) => {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(UpstreamError::Cancelled),
                    () = gate.pass() => *then,
                }
            }
        }
    }
}

impl Upstream for Scripted {
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>> {
        let script = self.next_script(&call);
        async move {
            match played(script, &call.cancel).await? {
                Played::Steps(steps) => Ok(Reply::new(play(steps, call.cancel))),
                Played::Whole(_) => Err(UpstreamError::Unsupported { op: call.op }),
            }
        }
        .boxed()
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        let script = {
            let mut state = self.state();
            state.keep(&call);
            state.whole.get(&call.op).map(|answering| answering.0(&call))
        };
        async move {
            let unsupported = Err(UpstreamError::Unsupported { op: call.op });
            let Some(script) = script else { return unsupported };
            match played(script, &call.cancel).await? {
                Played::Whole(answer) => Ok(answer),
                Played::Steps(_) => unsupported,
            }
        }
        .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let health = self.state().health.clone();
        async move { health }.boxed()
    }
}

fn play(steps: Vec<Step>, cancel: CancellationToken) -> impl Stream<Item = Result<Event, UpstreamError>> + Send {
    futures::stream::unfold(VecDeque::from(steps), move |mut steps| {
        let cancel = cancel.clone();
        async move {
            let step = async {
                while let Some(step) = steps.pop_front() {
                    match step {
                        Step::Say(event) => return Some(Ok(event)),
                        Step::Wait(gate) => gate.pass().await,
                        Step::Cut => {
                            return Some(Err(UpstreamError::Cut { bytes: 0, detail: "scripted".into() }));
                        }
                        Step::Silence(after_ms) => {
                            return Some(Err(UpstreamError::Silent { after_ms, whilst: Silence::WhilstAnswering }));
                        }
                        Step::Hang => std::future::pending().await,
                        Step::Fail(message) => {
                            return Some(Err(UpstreamError::Failed { code: None, message }));
                        }
                    }
                }
                None
            };
            let said = tokio::select! {
                biased;
                () = cancel.cancelled() => Some(Err(UpstreamError::Cancelled)),
                said = step => said,
            };
            said.map(|said| (said, steps))
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use serde_json::Map;

    use super::*;

    fn call() -> Call {
        Call::new(Op::Chat, "m", Map::new())
    }

    async fn names(upstream: &Scripted) -> Vec<&'static str> {
        let reply = upstream.complete(call()).await.unwrap();
        reply
            .map(|e| match e {
                Ok(Event::Delta(_)) => "delta",
                Ok(Event::Usage(_)) => "usage",
                Ok(Event::UsageMissing) => "usage_missing",
                Ok(Event::Done) => "done",
                Err(e) => e.name(),
            })
            .collect()
            .await
    }

    #[tokio::test]
    async fn every_breakage_has_its_own_end_and_none_is_done() {
        let answer = || Script::text(Op::Chat, 3, &["a"]);
        let upstream = Scripted::new(answer());
        upstream.push(answer().without_usage());
        upstream.push(answer().broken_at(2, Step::Cut));
        upstream.push(answer().broken_at(2, Step::Silence(9)));
        upstream.push(answer().broken_at(1, Step::Fail("x".into())));
        assert_eq!(names(&upstream).await, ["delta", "delta", "delta", "usage_missing", "done"]);
        assert_eq!(names(&upstream).await, ["delta", "delta", "cut"]);
        assert_eq!(names(&upstream).await, ["delta", "delta", "silent"]);
        assert_eq!(names(&upstream).await, ["delta", "failed"]);
        assert_eq!(names(&upstream).await, ["delta", "delta", "delta", "usage", "done"]);
        assert_eq!(upstream.calls().len(), 5);
    }

    #[tokio::test]
    async fn a_gate_holds_the_answer_and_cancelling_ends_it() {
        let gate = Gate::shut();
        let upstream = Scripted::new(Script::text(Op::Chat, 3, &["a"]).held_at(1, &gate));
        let call = call();
        let cancel = call.cancel.clone();
        let mut reply = upstream.complete(call).await.unwrap();
        assert!(matches!(reply.next().await, Some(Ok(Event::Delta(_)))));
        assert!(reply.next().now_or_never().is_none());
        gate.open(1);
        assert!(matches!(reply.next().await, Some(Ok(Event::Delta(d))) if d.text == "a"));
        cancel.cancel();
        assert!(matches!(reply.next().await, Some(Err(UpstreamError::Cancelled))));
        assert!(reply.next().await.is_none());
    }
}
