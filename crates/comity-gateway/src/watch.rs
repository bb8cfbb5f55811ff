//! What each call came to, for those who watch: metrics, the access log, traces.
//!
//! A [`Call`] carries names, counts and times: never a prompt, an answer, a token's bytes or a key. What the policy's log
//! class keeps from the log is left out here, so that no watcher has to know of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comity_http::Refusal;
use comity_http::serve::RequestId;
use comity_wire::object::{Basis, Ended, Logging, Tier};
use comity_wire::{Amount, Meters, ModelId, Op, TokenId};

use crate::moderating::Moderated;

/// One request at a priced route, from its head to its end.
#[derive(Clone, Debug)]
pub struct Call {
    /// The number that the reply carries in `x-request-id`, where a door gave one.
    pub request: Option<String>,
    /// The route of the table, not what the caller wrote.
    pub route: &'static str,
    pub stream: bool,
    /// Known once the model was found to be served here: a stranger cannot make up new values.
    pub model: Option<ModelId>,
    pub op: Option<Op>,
    pub tier: Option<Tier>,
    /// The tier's log class is `none`: figures count the call, and nothing is written of it.
    pub is_unwritten: bool,
    /// The project's pseudonym with this organisation and its escrow; `None` where nothing is written.
    pub subject: Option<String>,
    pub token: Option<TokenId>,
    /// 0: the caller left before anything was said.
    pub status: u16,
    /// Why it was refused, or failed after its stream had begun.
    pub code: Option<&'static str>,
    pub replayed: bool,
    /// What was set aside.
    pub held: Amount,
    /// What was charged; `None`: nothing was, and there is no receipt.
    pub charge: Option<Charge>,
    /// From its head to the upstream's first word.
    pub first: Option<Duration>,
    pub took: Duration,
}

/// What a receipt says of a call.
#[derive(Clone, Debug)]
pub struct Charge {
    pub charge: Amount,
    pub meters: Meters,
    pub basis: Basis,
    pub ended: Ended,
}

/// Who is told. Must not wait: it is called on the path of requests.
pub trait Watch: Send + Sync {
    /// A call has ended, however it did.
    fn call(&self, call: &Call);

    /// A transaction with so many changes is durable.
    fn commit(&self, changes: usize, took: Duration);

    /// Another server was asked what is in a text.
    fn moderated(&self, _asked: &Moderated) {}
}

/// A call under way. The last clone to go tells the watcher: a request ends where its task ends, not where its head was sent.
#[derive(Clone)]
pub(crate) struct Trail(Arc<Inner>);

struct Inner {
    watch: Arc<dyn Watch>,
    began: Instant,
    call: Mutex<Call>,
}

impl Trail {
    pub(crate) fn begin(watch: Arc<dyn Watch>, route: &'static str, request: Option<&RequestId>) -> Self {
        let call = Call {
            request: request.map(|RequestId(id)| id.clone()),
            route,
            stream: false,
            model: None,
            op: None,
            tier: None,
            is_unwritten: false,
            subject: None,
            token: None,
            status: 0,
            code: None,
            replayed: false,
            held: Amount::ZERO,
            charge: None,
            first: None,
            took: Duration::ZERO,
        };
        Self(Arc::new(Inner { watch, began: Instant::now(), call: Mutex::new(call) }))
    }

    pub(crate) fn note(&self, note: impl FnOnce(&mut Call)) {
        note(&mut self.0.call.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Who is behind it, as far as the tier lets the log know.
    pub(crate) fn caller(&self, logging: Logging, subject: &str, token: TokenId) {
        self.note(|call| {
            call.is_unwritten = logging == Logging::None;
            if !call.is_unwritten {
                call.subject = Some(subject.to_owned());
                call.token = Some(token);
            }
        });
    }

    pub(crate) fn first(&self) {
        let after = self.0.began.elapsed();
        self.note(|call| {
            call.first.get_or_insert(after);
        });
    }

    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.note(|call| call.status = status.as_u16());
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.note(|call| {
            // A stream that fails after its head was sent keeps the head's status: that is what its caller saw.
            if call.status == 0 {
                call.status = refusal.status.as_u16();
            }
            call.code = Some(refusal.code);
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let call = self.call.get_mut().unwrap_or_else(PoisonError::into_inner);
        call.took = self.began.elapsed();
        self.watch.call(call);
    }
}
