//! The charge: one durable transaction, before anything that rests on it leaves.

use axum::response::Response;
use bytes::Bytes;
use comity_http::Refusal;
use comity_http::problem::Form;
use comity_token::request_digest;
use comity_wire::object::{Ended, Receipt};
use comity_wire::{Code, Verified};
use tokio::sync::mpsc;

use super::meter::{Frame, Metered};
use crate::gateway::Inner;
use crate::refusal;
use crate::replies::Kept;
use crate::reply;
use crate::spend::{self, Change, Evidence, Outcome};
use crate::store::StoreError;
use crate::transcript::Transcript;
use crate::watch;
use crate::writer::WriteError;

/// Charges a buffered reply: commit, then header, then body.
pub(crate) async fn whole(inner: &Inner, metered: Metered) -> Result<Response, Refusal> {
    // Who left before the answer was made has nothing to be handed again: a retry is told so, with the receipt.
    let kept = (metered.ended != Ended::ClientGone).then(|| Kept::Whole(metered.body.clone()));
    let receipt = match commit(inner, &metered).await {
        Ok(receipt) => receipt,
        Err(Uncharged { refusal, may_be_stored }) => {
            if may_be_stored {
                keep(inner, &metered, kept);
            }
            return Err(refusal);
        }
    };
    let authorised = &metered.filtered.held.authorised;
    guard(inner, &metered).await;
    let authenticated = &authorised.authenticated;
    transcribe(inner, &metered, &receipt, std::slice::from_ref(&metered.body));
    keep(inner, &metered, kept);
    let mut response = reply::whole(metered.body.clone());
    let balance = inner.balance(authenticated.token(), &authenticated.capability.path());
    reply::money(response.headers_mut(), Some(receipt.charge), balance);
    reply::receipt(response.headers_mut(), receipt.bytes());
    reply::notes(response.headers_mut(), authorised);
    reply::flags(response.headers_mut(), authorised, &metered.findings);
    inner.fail("reply.before");
    Ok(response)
}

/// Charges a stream whose content has been taken: content, commit, receipt, `[DONE]`.
pub(crate) async fn streamed(
    inner: &Inner,
    mut metered: Metered,
    pieces: Vec<Bytes>,
    is_whole: bool,
    frames: &mpsc::Sender<Frame>,
) {
    let charged = commit(inner, &metered).await;
    // What is still to be said needs no model.
    drop(metered.filtered.held.seat.take());
    // Whoever has gone, or was given up, hears nothing more.
    let frames = (metered.ended != Ended::ClientGone).then_some(frames);
    match charged {
        Ok(receipt) => {
            transcribe(inner, &metered, &receipt, &pieces);
            guard(inner, &metered).await;
            if let Some(flags) = reply::flags_comment(&metered.filtered.held.authorised, &metered.findings) {
                say(inner, frames, flags).await;
            }
            keep(inner, &metered, is_whole.then_some(Kept::Pieces(pieces)));
            inner.fail("reply.before");
            say(inner, frames, reply::receipt_comment(receipt.bytes())).await;
            if is_whole {
                say(inner, frames, Bytes::from_static(reply::DONE)).await;
            }
        }
        Err(Uncharged { refusal, may_be_stored }) => {
            if may_be_stored {
                keep(inner, &metered, is_whole.then_some(Kept::Pieces(pieces)));
            }
            // No receipt, no `[DONE]`: the caller knows that it has nothing to acknowledge.
            metered.filtered.held.authorised.authenticated.trail.refused(&refusal);
            let said = Bytes::from(refusal.body(Form::OpenAi).to_string());
            say(inner, frames, reply::data(&said)).await;
        }
    }
}

/// Counts what was charged, and does what its flags ask for. What the model did not read is no use of it.
async fn guard(inner: &Inner, metered: &Metered) {
    let authorised = &metered.filtered.held.authorised;
    let runs_the_model = match authorised.authenticated.route.form {
        crate::routes::Form::Piece(work) => work.runs_the_model(),
        _ => true,
    };
    if runs_the_model {
        inner.guard(authorised, &metered.findings).await;
    }
}

/// A caller that takes nothing does not keep the request, and its place among those under way, for ever.
async fn say(inner: &Inner, frames: Option<&mpsc::Sender<Frame>>, bytes: Bytes) {
    let Some(frames) = frames else { return };
    let stall = std::time::Duration::from_secs(inner.config.stall_s.max(1));
    let _ = tokio::time::timeout(stall, frames.send(Frame::Other(bytes))).await;
}

/// Keeps an answer for a caller that may not get it; in place of one that was kept for a charge in doubt, which this charge was
/// made instead of. It is handed out only where the store has the charge.
fn keep(inner: &Inner, metered: &Metered, kept: Option<Kept>) {
    let authenticated = &metered.filtered.held.authorised.authenticated;
    let authority = authenticated.request.id();
    let mut replies = inner.replies.lock().expect("no panic while replies are kept");
    match kept {
        Some(kept) => replies.keep(authority, kept, inner.now()),
        None => replies.take_back(&authority),
    }
}

/// Why there is no receipt.
struct Uncharged {
    refusal: Refusal,
    /// The store's answer was lost: the charge may be there.
    may_be_stored: bool,
}

impl From<Refusal> for Uncharged {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, may_be_stored: false }
    }
}

/// Hands the texts to whoever keeps them, where the tier does.
fn transcribe(inner: &Inner, metered: &Metered, receipt: &Verified<Receipt>, response: &[Bytes]) {
    let authorised = &metered.filtered.held.authorised;
    let (Some(transcripts), Some(retention_days)) = (&inner.transcripts, authorised.keeps_days) else { return };
    let authenticated = &authorised.authenticated;
    transcripts.keep(Transcript {
        at: receipt.at,
        model: authorised.asked.model.clone(),
        op: authorised.asked.op,
        tier: authorised.allowed.tier,
        subject: authorised.subject().to_owned(),
        token: authenticated.token(),
        receipt: receipt.id(),
        charge: receipt.charge,
        ended: receipt.ended,
        retention_days,
        request: authenticated.body.clone(),
        response: response.to_vec(),
    });
}

async fn commit(inner: &Inner, metered: &Metered) -> Result<Box<Verified<Receipt>>, Uncharged> {
    let held = &metered.filtered.held;
    let authorised = &held.authorised;
    let authenticated = &authorised.authenticated;
    let (request, capability) = (&authenticated.request, &authenticated.capability);
    let op = authorised.asked.priced_op();
    let exact = authorised.tariff.exact(op, &metered.meters);
    let exact =
        exact.map_err(|error| Refusal::new(Code::Internal, format!("the charge cannot be worked out: {error}")))?;
    let charge = spend::Charge {
        hold: held.guard.id(),
        exact,
        meters: metered.meters,
        flags: metered.findings.flags(),
        basis: metered.basis,
        ended: metered.ended,
        request: request_digest(&request.authority().nonce, &authenticated.body),
        response: metered.response,
        model: authorised.asked.model.clone(),
        op,
        release: authorised.scope.release,
        manifest: authorised.manifest,
        tariff: authorised.scope.tariff,
        standing: capability.standing(),
        at: inner.now(),
        evidence: Evidence { base: request.signature_base().to_owned(), signature: *request.signature() },
        chain: capability.chain_bytes().into(),
        acknowledgement: authenticated.acknowledgement.clone(),
    };
    let root = capability.token().id();
    match inner.ledger.change(authenticated.token(), root, Change::Charge(Box::new(charge))).await {
        Ok(Outcome::Charged(receipt)) => {
            let (basis, ended) = (receipt.basis, receipt.ended);
            let charged = watch::Charge { charge: receipt.charge, meters: receipt.meters, basis, ended };
            authenticated.trail.note(|call| call.charge = Some(charged));
            Ok(receipt)
        }
        Ok(other) => Err(Refusal::new(Code::Internal, format!("a charge came to {other:?}")).into()),
        Err(error) => {
            let may_be_stored = matches!(&error, WriteError::Store(why) if matches!(**why, StoreError::Doubt));
            Err(Uncharged { refusal: refusal::write(&error), may_be_stored })
        }
    }
}
