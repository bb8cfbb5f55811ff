//! The phases. Each takes the type that the phase before produced, so that none can be skipped.
//!
//! From the hold on the request outlives its handler: hyper drops a handler whose caller has gone, and what was begun
//! must still be metered and charged ([`outlive`]).

pub(crate) mod authenticate;
pub(crate) mod authorise;
pub(crate) mod charge;
pub(crate) mod filter;
pub(crate) mod forward;
pub(crate) mod hold;
pub(crate) mod meter;
mod outlive;
mod scan;
pub(crate) mod seat;

use std::pin::{Pin, pin};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use comity_http::{Refusal, body};
use comity_token::Capability;
use comity_wire::{Code, ModelId};
use tokio::sync::oneshot;

use crate::gateway::{Gateway, Inner};
use crate::reply;
use crate::routes::{Form, Route};
use crate::store::stops::Running;
use crate::watch::Trail;

/// Answers one priced request, and tells who watches what it came to.
pub(crate) async fn run(gateway: Gateway, route: &'static Route, request: Request) -> Response {
    let trail = Trail::begin(gateway.0.watch.clone(), route.paths[0], request.extensions().get());
    let answered = answered(&gateway, route, request, trail.clone()).await;
    let response = answered.unwrap_or_else(|refusal| refusal.into_response());
    match response.extensions().get::<Refusal>() {
        Some(refusal) => trail.refused(refusal),
        None => trail.answered(response.status()),
    }
    response
}

async fn answered(
    gateway: &Gateway,
    route: &'static Route,
    request: Request,
    trail: Trail,
) -> Result<Response, Refusal> {
    let inner = &*gateway.0;
    let (parts, stream) = request.into_parts();
    // Who holds no token here takes no place, and no memory for a body.
    let capability = authenticate::capability(inner, &parts).await?;
    let permit = inner.in_flight.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(Code::Busy, "this node has as much under way as it takes")
            .with("whose_move", "caller")
            .retry_after_s(1)
    })?;
    let body = body::read(&parts.headers, stream, inner.config.body()).await?;
    let authenticated = authenticate::authenticate(inner, route, &parts, body, capability, trail).await?;
    let capability = authenticated.capability.clone();
    let answered = admitted(gateway, authenticated, permit).await;
    Ok(answered.unwrap_or_else(|refusal| refused(inner, refusal, &capability)))
}

/// A refusal says what is left, too.
fn refused(inner: &Inner, refusal: Refusal, capability: &Capability) -> Response {
    let mut response = refusal.into_response();
    let balance = inner.balance(capability.token().id, &capability.path());
    reply::money(response.headers_mut(), Some(comity_wire::Amount::ZERO), balance);
    response
}

async fn admitted(
    gateway: &Gateway,
    authenticated: Box<authenticate::Authenticated>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Result<Response, Refusal> {
    let inner = &*gateway.0;
    if let Some(replayed) = hold::replay(inner, &authenticated).await? {
        return Ok(replayed);
    }
    let authorised = authorise::authorise(inner, authenticated)?;
    let (capability, bounds) = (authorised.authenticated.capability.clone(), authorised.bounds.clone());
    let counted_as = authorised.counted_as().to_owned();
    let answered = allowed(gateway, authorised, permit).await;
    let mut response = answered.unwrap_or_else(|refusal| refused(inner, refusal, &capability));
    if bounds.iter().any(|bound| !bound.windows.is_empty()) {
        let standing = inner.ledger.pace(&counted_as, &bounds, inner.now());
        reply::pace(response.headers_mut(), &standing);
    }
    Ok(response)
}

async fn allowed(
    gateway: &Gateway,
    authorised: Box<authorise::Authorised>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Result<Response, Refusal> {
    let inner = &*gateway.0;
    let call = &authorised.authenticated;
    // Until there is a hold: who asks meanwhile what became of it must not hear that it is not here.
    let here = inner.arrived.enter(call.token(), call.key(), call.slot());
    let (authorised, seat) = seat::seat(inner, authorised).await?;
    let held = match hold::hold(gateway, authorised, seat).await? {
        hold::Step::Held(held) => held,
        hold::Step::Replayed(response) => return Ok(response),
    };
    drop(here);
    let filtered = filter::filter(inner, held).await?;
    inner.may_still_ask(&filtered.held.authorised).await?;
    let (head, answer) = oneshot::channel();
    let task_gateway = gateway.clone();
    let work = Box::pin(async move {
        answer_in_task(&task_gateway.0, filtered, head).await;
        drop(permit);
    });
    let answered = outlive::until(answer, work, &inner.tracker).await;
    answered.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "the request ended without an answer")))
}

/// What nothing was handed over of yet, until the owner ends it: the hold ends with it, and nothing is charged.
async fn until_stopped<T>(
    inner: &Inner,
    (model, project): (&ModelId, &str),
    work: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        stopped = inner.stopping.stopped(model, project, Running::Ends) => Err(stopped),
        done = work => done,
    }
}

/// Forward, meter, charge. `head` is closed when the caller has gone.
async fn answer_in_task(
    inner: &Inner,
    filtered: filter::Filtered,
    mut head: oneshot::Sender<Result<Response, Refusal>>,
) {
    inner.fail("forward.before");
    let authorised = &filtered.held.authorised;
    let (model, project) = (authorised.asked.model.clone(), authorised.subject().to_owned());
    let of = (&model, project.as_str());
    if let Form::Piece(work) = filtered.held.authorised.authenticated.route.form {
        // Worked on to its end whoever leaves: there is nothing to stop at, and a retry finds the answer.
        let answered = until_stopped(inner, of, pin!(forward::ask(inner, filtered, work))).await;
        let answer = match answered {
            Ok(answered) => match meter::piece(answered, work) {
                Ok(metered) => charge::whole(inner, metered).await,
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        let _ = head.send(answer);
        return;
    }
    let accepted = {
        let forwarding = pin!(forward::forward(inner, filtered));
        tokio::select! {
            accepted = until_stopped(inner, of, forwarding) => accepted,
            // Nothing was accepted yet; dropping the call ends it, and its hold with it.
            () = head.closed() => return,
        }
    };
    let forwarded = match accepted {
        Ok(accepted) => until_stopped(inner, of, pin!(forward::first(accepted, &mut head))).await,
        Err(refusal) => Err(refusal),
    };
    match forwarded {
        Err(refusal) => drop(head.send(Err(refusal))),
        // On its own: what a stream needs is no part of every other request.
        Ok(forwarded) if forwarded.is_stream() => Box::pin(meter::stream(inner, forwarded, head)).await,
        Ok(forwarded) => {
            let metered = until_stopped(inner, of, pin!(meter::whole(inner, forwarded, &mut head))).await;
            let answer = match metered {
                Ok(metered) => charge::whole(inner, metered).await,
                Err(refusal) => Err(refusal),
            };
            let _ = head.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<T, F: Future>(_: impl FnOnce(T) -> F) -> usize {
        size_of::<F>()
    }

    /// Each phase moves what the one before made: what is large lies behind a pointer, or a call copies itself thirty times over
    /// (docs/decisions/0087).
    #[test]
    fn a_call_is_small_to_move() {
        let whole = size(|(gateway, route, request): (Gateway, &'static Route, Request)| run(gateway, route, request));
        assert!(whole <= 4 << 10, "{whole} bytes");
        type Head = oneshot::Sender<Result<Response, Refusal>>;
        let work = size(|(inner, of, head): (&'static Inner, filter::Filtered, Head)| answer_in_task(inner, of, head));
        assert!(work <= 6 << 10, "{work} bytes");
    }
}
