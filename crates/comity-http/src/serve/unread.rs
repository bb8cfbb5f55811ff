//! What a handler has left unread of a request's body.
//!
//! Many clients write the head and the body one after the other. Who is answered before the body has come would write it
//! to a connection that hyper has closed, and see a broken connection instead of the answer. So what is left is read and
//! thrown away, within bounds: the answer arrives, and the connection serves the next request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// What is read for nobody, in bytes: more than any body that a door takes but files.
const BYTES_MAX: u64 = 8 << 20;
/// From the moment the handler lets go.
const WITHIN: Duration = Duration::from_secs(5);

/// The request as its handler gets it; over HTTP/1.1 what the handler leaves of the body is read.
///
/// Not over HTTP/2, which ends a stream and keeps its connection; nor where the client waits for leave to send
/// (RFC 9110 §10.1.1): who is answered otherwise need not send.
pub(super) fn lingering<B>(request: Request<B>) -> Request<axum::body::Body>
where
    B: Body<Data = Bytes, Error: Into<axum::BoxError>> + Unpin + Send + 'static,
{
    let waits = request.headers().contains_key(header::EXPECT);
    if request.version() >= Version::HTTP_2 || waits || request.body().is_end_stream() {
        return request.map(axum::body::Body::new);
    }
    request.map(|body| axum::body::Body::new(Lingering { body: Some(body) }))
}

/// A body whose rest is read by a task of its own once it is dropped.
struct Lingering<B: Body<Data = Bytes> + Unpin + Send + 'static> {
    /// `None` where nothing is to be read: it came to its end, or it broke off.
    body: Option<B>,
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Body for Lingering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            this.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // One that says it is longer than what is read for nobody: its connection ends.
        if body.size_hint().lower() > BYTES_MAX {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(tokio::time::timeout(WITHIN, read(body))));
        }
    }
}

async fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
