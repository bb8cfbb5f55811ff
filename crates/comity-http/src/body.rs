//! Reading a request's body whole, within a bound of bytes and of time.

use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use comity_wire::Code;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::Instant;

use crate::problem::Refusal;

/// What a body may cost before it is understood.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes_max: usize,
    /// From the first wait to the last byte.
    pub ms_max: u64,
    /// A body that came slower than this so far is cut; 0: no bound.
    pub bytes_per_s_min: u64,
    /// How long it has before its pace is looked at: a handshake, a lost packet.
    pub grace_ms: u64,
}

const GRACE_MS: u64 = 1_000;
/// The pace's default: a modem's third.
const BYTES_PER_S_MIN: u64 = 1_024;

impl Default for Limit {
    fn default() -> Self {
        Self::bytes(1 << 20)
    }
}

impl Limit {
    /// How long a body of which so many bytes have come is waited for, from its beginning on.
    fn patience(&self, bytes: usize) -> Duration {
        let paced = (bytes as u64).saturating_mul(1_000) / self.bytes_per_s_min.max(1);
        let paced = if self.bytes_per_s_min == 0 { u64::MAX } else { self.grace_ms.saturating_add(paced) };
        Duration::from_millis(paced.min(self.ms_max))
    }

    pub const fn bytes(bytes_max: usize) -> Self {
        Self { bytes_max, ms_max: 30_000, bytes_per_s_min: BYTES_PER_S_MIN, grace_ms: GRACE_MS }
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
    let begun = Instant::now();
    let mut body = pin!(Limited::new(body, limit.bytes_max));
    let mut read = BytesMut::new();
    loop {
        let patience = limit.patience(read.len());
        match tokio::time::timeout_at(begun + patience, body.frame()).await {
            Ok(None) => return Ok(read.freeze()),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    read.put(data);
                }
            }
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
            Ok(Some(Err(_))) => return Err(Refusal::new(Code::InvalidRequest, "the body broke off")),
            Err(_) => return Err(too_slow(limit, patience)),
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

fn too_slow(limit: Limit, patience: Duration) -> Refusal {
    let message = if patience >= Duration::from_millis(limit.ms_max) {
        format!("the body did not come within {} s", limit.ms_max / 1000)
    } else {
        format!("the body comes slower than {} bytes a second", limit.bytes_per_s_min)
    };
    Refusal::new(Code::BodyTooSlow, message).with("whose_move", "caller")
}

fn too_large(limit: Limit) -> Refusal {
    Refusal::new(Code::BodyTooLarge, format!("the body may have at most {} bytes", limit.bytes_max))
        .with("bytes_max", limit.bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_waited_for_as_long_as_its_pace_deserves_and_no_longer_than_any() {
        let limit = Limit { bytes_max: 1 << 20, ms_max: 60_000, bytes_per_s_min: 100, grace_ms: 1_000 };
        let waits = |limit: Limit, bytes| limit.patience(bytes).as_millis();
        assert_eq!([0, 100, 5_000].map(|bytes| waits(limit, bytes)), [1_000, 2_000, 51_000]);
        assert_eq!(waits(limit, 1 << 19), 60_000);
        assert_eq!(waits(Limit { bytes_per_s_min: 0, ..limit }, 0), 60_000);
    }
}
