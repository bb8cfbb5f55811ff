//! Calls that spend nothing, signed by their caller's key (RFC 9421, tag `comity-api-v1`; spec/05-request.md §6).
//!
//! A handler that takes [`Signed`] runs only for a body that was within bounds, whole, unaltered and signed just now,
//! and only once per nonce. Whether that key may do what it asks is the handler's question.

mod replays;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{FromRef, FromRequest, Request};
use bytes::Bytes;
use comity_token::{Denied, sign_api, verify_api};
use comity_wire::{Code, PublicKey, SecretKey, Timestamp};
use http::{HeaderName, HeaderValue};
use serde::de::DeserializeOwned;

use crate::body::{self, Limit};
use crate::problem::Refusal;
use replays::Replays;

/// Who called, and with what.
#[derive(Clone, Debug)]
pub struct Signed {
    pub caller: Caller,
    pub body: Bytes,
    nonce: [u8; 16],
    replays: Arc<Replays>,
}

/// The holder of a key, proven for this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub key: PublicKey,
}

/// What a service checks signatures with; a part of its router's state (`FromRef`).
#[derive(Clone)]
pub struct Guard {
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    limit: Limit,
    replays: Arc<Replays>,
}

impl Guard {
    pub fn new(limit: Limit, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), limit, replays: Arc::default() }
    }

    /// By the system's clock.
    pub fn system(limit: Limit) -> Self {
        Self::new(limit, now)
    }

    /// Reads the body, then verifies. For services that are not axum handlers; handlers take [`Signed`].
    ///
    /// # Errors
    /// [`Refusal`] with the first fault: of the body's size, of the signature, of its time, then `replayed`.
    pub async fn check(&self, request: Request) -> Result<Signed, Refusal> {
        let (parts, body) = request.into_parts();
        let body = body::read(&parts.headers, body, self.limit).await?;
        let (method, uri) = (parts.method.as_str(), &parts.uri);
        let now = (self.clock)();
        let caller = verify_api(method, uri.path(), uri.query().unwrap_or(""), &parts.headers, &body, now)
            .map_err(|denied| refusal(&denied))?;
        self.replays.admit(&caller.key, &caller.nonce, now)?;
        let replays = Arc::clone(&self.replays);
        Ok(Signed { caller: Caller { key: caller.key }, body, nonce: caller.nonce, replays })
    }
}

impl Signed {
    /// # Errors
    /// 400 `invalid_request` saying where the body is not what the route takes.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        // No body reads as `null`.
        let body: &[u8] = if self.body.is_empty() { b"null" } else { &self.body };
        serde_json::from_slice(body)
            .map_err(|e| Refusal::new(Code::InvalidRequest, format!("the body is not right: {e}")))
    }
}

impl Signed {
    /// Gives up the memory of this call. For one that was refused and would be refused again however often it came: keys
    /// cost nothing, and the memory of nonces is for callers who may do something.
    pub fn forget(&self) {
        self.replays.forget(&self.caller.key, &self.nonce);
    }
}

impl<S> FromRequest<S> for Signed
where
    S: Send + Sync,
    Guard: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        Guard::from_ref(state).check(request).await
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What an outsider is told about a fault in token or signature: its code and its own sentence.
pub fn refusal(denied: &Denied) -> Refusal {
    let refusal = Refusal::new(denied.code(), denied.to_string());
    match denied {
        Denied::Stale { .. } => refusal.hint("check this computer's clock, then sign again"),
        _ => refusal,
    }
}

/// Signs a request in place over its method, path, query and `body`.
pub fn sign<B>(request: &mut http::Request<B>, body: &[u8], key: &SecretKey, now: Timestamp) {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).expect("the system gives random bytes");
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or("").to_owned());
    for (name, value) in sign_api(request.method().as_str(), &path, &query, body, now, nonce, key) {
        let value = HeaderValue::from_str(&value).expect("signature headers are ASCII");
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// The system's clock, for shells.
pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
