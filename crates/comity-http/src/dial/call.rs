//! Calls with JSON both ways, plain and signed, and bodies that are read whole.

use bytes::Bytes;
use comity_wire::{SecretKey, Timestamp};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, DialError};
use crate::problem::RemoteError;
use crate::signed;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the server's answer to {method} {path} is not what was asked for")]
    Answer { method: Method, path: String, source: serde_json::Error },
}

impl CallError {
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            Self::Remote(error) => Some(error),
            _ => None,
        }
    }
}

/// The most that an answer to a JSON call may hold.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl Client {
    /// A call as whoever it is: `body` as JSON unless it is `None`, the answer read as JSON.
    ///
    /// # Errors
    /// [`CallError`]; a status other than 2xx is [`CallError::Remote`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, CallError> {
        self.exchange(method, path_and_query, encode(body)?, None).await
    }

    /// The same, signed with `key` (tag `comity-api-v1`).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_signed<T: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<&(impl Serialize + ?Sized)>,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<T, CallError> {
        self.exchange(method, path_and_query, encode(body)?, Some((key, now))).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Bytes,
        signer: Option<(&SecretKey, Timestamp)>,
    ) -> Result<T, CallError> {
        let request = || {
            let built = Request::builder().method(method.clone()).uri(path_and_query).body(Full::new(body.clone()));
            let mut request = built.map_err(|e| DialError::Request { detail: e.to_string() })?;
            if !body.is_empty() {
                let json = header::HeaderValue::from_static("application/json");
                request.headers_mut().insert(header::CONTENT_TYPE, json);
            }
            if let Some((key, now)) = signer {
                signed::sign(&mut request, &body, key, now);
            }
            Ok::<_, DialError>(request)
        };
        let response = match self.request(request()?).await {
            // Signed anew, since a signature of this kind is good once.
            Err(DialError::Broken { lost: true, .. }) if method == Method::GET => self.request(request()?).await,
            response => response,
        };
        let (parts, body) = collect(response?, ANSWER_BYTES_MAX).await?.into_parts();
        if !parts.status.is_success() {
            return Err(RemoteError::read(parts.status.as_u16(), &parts.headers, &body).into());
        }
        // An answer without a body reads as `null`, which `()` and `Option` take.
        let json: &[u8] = if body.is_empty() { b"null" } else { &body };
        let path = || path_and_query.split('?').next().unwrap_or_default().to_owned();
        serde_json::from_slice(json).map_err(|source| CallError::Answer { method, path: path(), source })
    }
}

fn encode(body: Option<&(impl Serialize + ?Sized)>) -> Result<Bytes, DialError> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    serde_json::to_vec(body).map(Bytes::from).map_err(|e| DialError::Request { detail: e.to_string() })
}

/// Reads a response whole, within a bound.
///
/// # Errors
/// [`DialError::TooLarge`], [`DialError::Body`].
pub async fn collect(response: Response<Incoming>, bytes_max: usize) -> Result<Response<Bytes>, DialError> {
    let (parts, body) = response.into_parts();
    match Limited::new(body, bytes_max).collect().await {
        Ok(whole) => Ok(Response::from_parts(parts, whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(DialError::TooLarge { limit: bytes_max }),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(source) => Err(DialError::Body { address: "the server".into(), source: *source }),
            Err(other) => Err(DialError::Request { detail: other.to_string() }),
        },
    }
}
