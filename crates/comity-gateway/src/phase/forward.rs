//! To the upstream: tabled fields alone, the output capped at what the hold pays.

use comity_http::Refusal;
use comity_supply::{Answer, Call, Event, Reply, UpstreamError};
use tokio::sync::oneshot;

use super::filter::Filtered;
use crate::gateway::Inner;
use crate::refusal;
use crate::works::{self, Work};

/// An accepted call whose first event has come, so that a failure before it is still an honest status.
pub(crate) struct Forwarded {
    pub(crate) filtered: Filtered,
    pub(crate) first: Event,
    pub(crate) rest: Reply,
}

impl Forwarded {
    pub(crate) fn is_stream(&self) -> bool {
        self.filtered.held.authorised.asked.stream
    }
}

/// A call that the upstream has accepted: from here on its input is due, whoever leaves.
pub(crate) struct Accepted {
    filtered: Filtered,
    reply: Reply,
}

/// Fails without a charge: the hold ends with what is dropped here, and the seq is free.
pub(crate) async fn forward(inner: &Inner, filtered: Filtered) -> Result<Accepted, Refusal> {
    let authorised = &filtered.held.authorised;
    let mut body = authorised.asked.body.clone();
    body.insert("max_tokens".into(), authorised.priced.demand.output_tokens.into());
    let call = Call::new(authorised.asked.upstream_op(), authorised.served.upstream_model.clone(), body);
    let accepted = authorised.served.upstream.complete(call);
    let accepted = tokio::time::timeout_at(filtered.held.deadline, accepted).await.unwrap_or_else(|_| Err(late()));
    let reply = accepted.map_err(|error| failed(&filtered, &error))?;
    inner.fail("forward.accepted");
    Ok(Accepted { filtered, reply })
}

/// A call that was answered in one piece.
pub(crate) struct Answered {
    pub(crate) filtered: Filtered,
    pub(crate) answer: Answer,
}

/// Asks for what comes in one piece. Fails without a charge.
pub(crate) async fn ask(inner: &Inner, filtered: Filtered, work: Work) -> Result<Answered, Refusal> {
    let authorised = &filtered.held.authorised;
    let asked = &authorised.asked;
    if work == Work::Moderations {
        let id = authorised.authenticated.request.id().to_string();
        let body = works::moderations(&inner.filter, asked, &id[..24]);
        return Ok(Answered { answer: Answer { body, usage: None }, filtered });
    }
    let mut body = asked.body.clone();
    work.prepare(&mut body);
    let call = Call::new(asked.op, authorised.served.upstream_model.clone(), body);
    let answered = authorised.served.upstream.answer(call);
    let answered = tokio::time::timeout_at(filtered.held.deadline, answered).await.unwrap_or_else(|_| Err(late()));
    let answer = answered.map_err(|error| failed(&filtered, &error))?;
    inner.fail("forward.accepted");
    Ok(Answered { filtered, answer })
}

/// Waits for the first event. A caller that leaves meanwhile gets no answer and owes the input (spec/06-metering.md §6.2).
pub(crate) async fn first<T>(accepted: Accepted, head: &mut oneshot::Sender<T>) -> Result<Forwarded, Refusal> {
    let Accepted { filtered, reply: mut rest } = accepted;
    let deadline = filtered.held.deadline;
    let first = tokio::select! {
        biased;
        first = rest.next() => {
            let first = first.expect("a reply has an end");
            if first.is_ok() {
                filtered.held.authorised.authenticated.trail.first();
            }
            first
        }
        // The phases after this one see that nobody listens.
        () = head.closed() => Ok(Event::Done),
        () = tokio::time::sleep_until(deadline) => Err(late()),
    };
    match first {
        Ok(first) => Ok(Forwarded { first, rest, filtered }),
        Err(error) => Err(failed(&filtered, &error)),
    }
}

/// The work took longer than its token lets it (rule 1).
pub(crate) fn late() -> UpstreamError {
    UpstreamError::Failed { code: None, message: "the work took longer than its token allows".into() }
}

pub(crate) fn failed(filtered: &Filtered, error: &UpstreamError) -> Refusal {
    tracing::warn!(model = %filtered.held.authorised.asked.model, %error, "upstream");
    refusal::upstream(error)
}
