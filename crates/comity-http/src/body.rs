//! Reading a request's body whole, within a bound of bytes and of time.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use comity_wire::Code;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::problem::Refusal;

/// What a body may cost before it is understood.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes_max: usize,
    /// From the first wait to the last byte.
    pub ms_max: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Self { bytes_max: 1 << 20, ms_max: 30_000 }
    }
}

impl Limit {
    pub const fn bytes(bytes_max: usize) -> Self {
        Self { bytes_max, ms_max: 30_000 }
    }
}

/// Reads it all. A declared length above the bound is refused before a byte is read.
///
/// # Errors
/// 413 `body_too_large`, 408 for one that does not come, 400 for one that breaks off.
pub async fn read<B>(headers: &HeaderMap, body: B, limit: Limit) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data: Send> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limit.bytes_max as u64) {
        return Err(too_large(limit));
    }
    let collect = Limited::new(body, limit.bytes_max).collect();
    match tokio::time::timeout(Duration::from_millis(limit.ms_max), collect).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(Refusal::new(Code::InvalidRequest, "the body broke off")),
        Err(_) => {
            let message = format!("the body did not come within {} s", limit.ms_max / 1000);
            Err(Refusal::with_status(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message))
        }
    }
}

/// A layer for routes that take their body in other ways: buffers it within the bound first.
///
/// `router.layer(axum::middleware::from_fn_with_state(Limit::bytes(1 << 20), body::bounded))`
pub async fn bounded(
    axum::extract::State(limit): axum::extract::State<Limit>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    match read(&parts.headers, body, limit).await {
        Ok(bytes) => next.run(Request::from_parts(parts, bytes.into())).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn too_large(limit: Limit) -> Refusal {
    Refusal::new(Code::BodyTooLarge, format!("the body may have at most {} bytes", limit.bytes_max))
        .with("bytes_max", limit.bytes_max)
}
