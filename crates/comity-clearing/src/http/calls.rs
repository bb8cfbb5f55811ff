//! Signed calls: who asks, what they sent, and the key under which their answer is kept (decision 0044).

use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, http::HeaderMap};
use comity_http::{Refusal, Signed};
use comity_wire::{Code, Digest};
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Api;
use crate::answers::{Answer as Kept, KEY_BYTES_MAX, Once};
use crate::failure::Failure;
use crate::service::Clearing;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// As on a node's replies: this answer was kept, and nothing was done for it.
const REPLAYED: HeaderName = HeaderName::from_static("comity-replayed");
const JSON: &str = "application/json";

/// A signed call that may change the books.
pub(super) struct Call {
    pub(super) signed: Signed,
    once: Option<Once>,
}

impl Call {
    /// # Errors
    /// 400 `invalid_request` saying where the body is not what the route takes.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        self.signed.json()
    }
}

impl FromRequest<Api> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refusal> {
        json_only(request.headers())?;
        let key = key(request.headers())?;
        let target = format!("{} {}", request.method(), request.uri());
        let signed = Signed::from_request(request, api).await?;
        let once = key.map(|key| Once {
            signer: signed.caller.key,
            key,
            call: Digest::of_parts(&[b"comity/v1/call\0", target.as_bytes(), b"\0", &signed.body]),
        });
        Ok(Self { signed, once })
    }
}

/// A body of another type than JSON is refused before it is read; one of no type is taken for JSON.
pub(super) fn json_only(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(said) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = said.to_str().ok().and_then(|said| said.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(JSON)) {
        return Ok(());
    }
    let refusal = Refusal::new(Code::UnsupportedMediaType, format!("bodies are {JSON} here"));
    Err(refusal.with("whose_move", "caller").hint(format!("content-type: {JSON}")))
}

fn key(headers: &HeaderMap) -> Result<Option<Digest>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        let is_absent = !headers.contains_key(IDEMPOTENCY_KEY);
        return if is_absent { Ok(None) } else { Err(bad_key("there is more than one Idempotency-Key")) };
    };
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX || !bytes.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(bad_key("an Idempotency-Key has 1 to 255 visible characters of ASCII"));
    }
    Ok(Some(Digest::of_parts(&[b"comity/v1/idempotency-key\0", bytes])))
}

fn bad_key(why: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, why).param(IDEMPOTENCY_KEY.as_str()).with("whose_move", "caller")
}

/// Answers a signed call. One that was refused for who made it or what it says is forgotten: it would be refused again, and
/// nobody shall fill the memory of nonces with keys that are registered nowhere.
pub(super) async fn answer<T>(call: &Signed, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let done = work.await;
    if let Err(refusal) = &done
        && (matches!(refusal.status.as_u16(), 400 | 401 | 404) || refusal.code == Code::NotYours.as_str())
    {
        call.forget();
    }
    done
}

/// Answers a call that may change the books: once per key, where it has one.
///
/// With a key the work goes on when its caller is gone, so that the answer is there when they ask again.
pub(super) async fn answer_once<T, W, F>(house: Clearing, call: Call, work: W) -> Result<Response, Refusal>
where
    T: Serialize + Send + 'static,
    W: FnOnce(Clearing, Call) -> F + Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send,
{
    let signed = call.signed.clone();
    let Some(once) = call.once.clone() else {
        return Ok(Json(answer(&signed, work(house, call)).await?).into_response());
    };
    let turn = house.answer_turn(&once)?;
    if let Some(kept) = house.answer_kept(&once).await? {
        drop(turn);
        return Ok(replayed(kept));
    }
    let doing = house.clone();
    let working = async move {
        let _turn = turn;
        let done = answer(&signed, work(doing.clone(), call)).await?;
        let body = serde_json::to_vec(&done).map_err(Failure::invalid)?;
        Ok::<_, Refusal>(doing.answer_keep(&once, Kept { status: 200, body }).await.body)
    };
    let body = house.finish(working).await??;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(JSON))], body).into_response())
}

fn replayed(kept: Kept) -> Response {
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(JSON))], kept.body).into_response();
    *response.status_mut() = http::StatusCode::from_u16(kept.status).unwrap_or_default();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// A JSON body that nobody signed, refused in the one form.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, whole) = request.into_parts();
        json_only(&parts.headers)?;
        let limit = comity_http::body::Limit::bytes(super::BODY_BYTES_MAX);
        let bytes = comity_http::body::read(&parts.headers, whole, limit).await?;
        let read = serde_json::from_slice(&bytes);
        read.map(Self).map_err(|error| Failure::invalid(format!("the body is not right: {error}")).into())
    }
}

/// What a path has in the place of a name, refused in the one form where it is no text.
pub(crate) struct Part<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Part<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let part = Path::<T>::from_request_parts(parts, state).await;
        let Path(part) = part.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(Self(part))
    }
}

/// So that a [`Call`] is the house's own: it is taken with the state that its guard is in.
impl FromRef<Api> for comity_http::signed::Guard {
    fn from_ref(api: &Api) -> Self {
        api.guard.clone()
    }
}
