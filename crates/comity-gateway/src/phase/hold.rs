//! Set aside: the worst case counts against every cap from here until the charge, or until nothing comes of it.

use axum::response::{IntoResponse as _, Response};
use comity_http::Refusal;
use comity_wire::{Code, Digest};
use tokio::time::Instant;

use super::authenticate::Authenticated;
use super::authorise::Authorised;
use super::seat::Seat;
use crate::gateway::{Gateway, Inner};
use crate::refusal;
use crate::replies::{Kept, mark_replayed};
use crate::reply;
use crate::spend::{self, Change, Charged, Known, Refused};
use crate::writer::{Admitted, Hold, WriteError};

/// A request whose worst case is held.
pub(crate) struct Held {
    pub(crate) authorised: Box<Authorised>,
    pub(crate) guard: Hold,
    /// When the work must have ended.
    pub(crate) deadline: Instant,
    /// The place at the server; free when the request was charged, or has come to its end without.
    pub(crate) seat: Option<Seat>,
}

pub(crate) enum Step {
    Held(Held),
    Replayed(Response),
}

/// Answers from the store what was charged already (rule 2): before scope, price and policy are looked at again.
pub(crate) async fn replay(inner: &Inner, authenticated: &Authenticated) -> Result<Option<Response>, Refusal> {
    let (token, root) = (authenticated.token(), authenticated.capability.token().id());
    let authority = authenticated.request.id();
    let at = (authenticated.key(), authenticated.slot());
    let known = match inner.ledger.known((token, root), at, authority).await {
        Err(WriteError::Refused(refused @ Refused::SequenceConflict { .. })) => {
            return conflict(inner, authenticated, &refused).await.map(Some);
        }
        known => known.map_err(|error| refusal::write(&error))?,
    };
    match known {
        Known::Free => Ok(None),
        Known::Charged(_) => stored(inner, authenticated, authority).await.map(Some),
        Known::AskStore { highest } => old(inner, authenticated, authority, highest).await.map(Some),
    }
}

/// Whether the hold would be refused as things stand. Holds nothing.
pub(crate) async fn foresee(inner: &Inner, authorised: &Authorised) -> Result<(), Refusal> {
    let ask = ask(authorised);
    match inner.ledger.foresee(&ask, authorised.authenticated.now).await {
        // What others hold at this moment, or will be acknowledged by then, may be free when it is this call's turn.
        Err(WriteError::Refused(Refused::NoAccount | Refused::BudgetInFlight { .. } | Refused::AckRequired { .. })) => {
            Ok(())
        }
        Err(error) => Err(turned_away(inner, authorised, &ask, &error)),
        Ok(()) => Ok(()),
    }
}

pub(crate) async fn hold(gateway: &Gateway, authorised: Box<Authorised>, seat: Seat) -> Result<Step, Refusal> {
    let inner = &*gateway.0;
    let authenticated = &authorised.authenticated;
    let root = authenticated.capability.token().id();
    let ask = ask(&authorised);
    let mut admission = inner.ledger.admit(&ask, authenticated.now).await;
    if let (Err(WriteError::Refused(Refused::AckRequired { .. })), Some(proof)) =
        (&admission, &authenticated.acknowledgement)
    {
        // It opens the window that this very request needs; otherwise it is stored with the charge.
        let change = Change::Acknowledge { token: ask.token, proof: proof.clone() };
        inner.ledger.change(ask.token, root, change).await.map_err(|error| refusal::write(&error))?;
        admission = inner.ledger.admit(&ask, authenticated.now).await;
    }
    match admission.map_err(|error| turned_away(inner, &authorised, &ask, &error))? {
        Admitted::Held(guard) => {
            inner.fail("hold.after");
            authenticated.trail.note(|call| call.held = ask.hold);
            Ok(Step::Held(Held { guard, authorised, deadline: seat.deadline, seat: Some(seat) }))
        }
        Admitted::Charged(Charged { .. }) => stored(inner, authenticated, ask.authority).await.map(Step::Replayed),
        Admitted::AskStore { highest } => old(inner, authenticated, ask.authority, highest).await.map(Step::Replayed),
    }
}

fn ask(authorised: &Authorised) -> spend::Ask {
    let authenticated = &authorised.authenticated;
    let authority = authenticated.request.authority();
    let capability = &authenticated.capability;
    spend::Ask {
        token: authenticated.token(),
        key: authenticated.key(),
        slot: authenticated.slot(),
        authority: authenticated.request.id(),
        created: authenticated.request.created(),
        path: capability.path(),
        lanes: capability.lanes(),
        lanes_max: capability.token().terms.lanes_max,
        window: capability.token().terms.window,
        hold: authorised.priced.hold,
        least: authorised.priced.least,
        max: authority.max_charge,
        subject: authorised.counted_as().to_owned(),
        bounds: authorised.bounds.clone(),
        tokens: authorised.tokens_max(),
        within: authorised.within.clone(),
    }
}

/// A refusal with the limit that would fit, or the way to more.
fn turned_away(inner: &Inner, authorised: &Authorised, ask: &spend::Ask, error: &WriteError) -> Refusal {
    let refusal = refusal::write(error);
    let WriteError::Refused(refused) = error else { return refusal };
    match refused {
        Refused::BudgetExhausted { .. } => {
            let free = inner.ledger.free(ask.token, &ask.path);
            refusal::output_fits(refusal, authorised.output_tokens_fit(free.min(ask.window)))
        }
        Refused::WindowTooSmall { window, .. } => refusal::output_fits(refusal, authorised.output_tokens_fit(*window)),
        Refused::Concurrency { .. } | Refused::RateWindow { .. } | Refused::BeyondWindow { .. } => {
            let model = &authorised.asked.model;
            match (inner.directory.manifest(model), inner.directory.policy(model)) {
                (Some(manifest), Some(policy)) => {
                    let (op, tier) = (authorised.asked.op, Some(authorised.allowed.tier));
                    refusal::more(refusal, inner, &manifest, &policy, op, tier)
                }
                _ => refusal,
            }
        }
        _ => refusal,
    }
}

/// The reply as it was sent, or 409 with the receipt. Nothing is charged.
async fn stored(inner: &Inner, authenticated: &Authenticated, authority: Digest) -> Result<Response, Refusal> {
    let found = inner.ledger.store().charge(authenticated.token(), authenticated.key(), authenticated.slot()).await;
    let found = found.map_err(|error| refusal::store(&error))?;
    let found =
        found.ok_or_else(|| Refusal::new(Code::Internal, "the receipt of a charged request is not in the store"))?;
    authenticated.trail.note(|call| call.replayed = true);
    let kept = inner.replies.lock().expect("no panic while replies are kept").find(&authority, authenticated.now);
    let balance = inner.balance(authenticated.token(), &authenticated.capability.path());
    let mut response = match kept {
        Some(Kept::Whole(body)) => mark_replayed(reply::whole(body)),
        Some(Kept::Pieces(pieces)) => return Ok(mark_replayed(reply::pieces_again(pieces, &found.receipt, balance))),
        None => Refusal::new(
            Code::Replayed,
            "this request was answered and charged; its receipt is in header comity-receipt",
        )
        .with("whose_move", "nobody")
        .into_response(),
    };
    reply::receipt(response.headers_mut(), &found.receipt);
    reply::money(response.headers_mut(), Some(comity_wire::Amount::ZERO), balance);
    Ok(response)
}

/// The seq was charged for another request: the receipt of that one comes along (spec/errors.md).
async fn conflict(inner: &Inner, authenticated: &Authenticated, refused: &Refused) -> Result<Response, Refusal> {
    let found = inner.ledger.store().charge(authenticated.token(), authenticated.key(), authenticated.slot()).await;
    let mut response = refusal::refused(refused).into_response();
    if let Some(found) = found.map_err(|error| refusal::store(&error))? {
        reply::receipt(response.headers_mut(), &found.receipt);
    }
    let balance = inner.balance(authenticated.token(), &authenticated.capability.path());
    reply::money(response.headers_mut(), Some(comity_wire::Amount::ZERO), balance);
    Ok(response)
}

/// A number that only the store can still know.
async fn old(
    inner: &Inner,
    authenticated: &Authenticated,
    authority: Digest,
    highest: u64,
) -> Result<Response, Refusal> {
    let slot = authenticated.slot();
    let found = inner.ledger.store().charge(authenticated.token(), authenticated.key(), slot).await;
    match found.map_err(|error| refusal::store(&error))? {
        Some(found) if found.charged.authority == authority => stored(inner, authenticated, authority).await,
        Some(_) => conflict(inner, authenticated, &Refused::SequenceConflict { seq: slot.seq }).await,
        None => Err(refusal::refused(&Refused::SeqOutsideSpan { seq: slot.seq, highest })),
    }
}
