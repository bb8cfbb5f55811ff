//! What both ends of a QUIC door share: the transport's bounds, the codes, and one request's stream.
//!
//! One bidirectional stream carries one HTTP/1.1 exchange. The caller keeps its side open until the reply has ended:
//! closing or resetting it before is cancellation. An end that gives up resets, so that a reply which was cut is never
//! taken for one that is complete (spec/09-http.md §9.7).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{IdleTimeout, ReadError, RecvStream, SendStream, TransportConfig, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Closes a connection in order, and tells a sender that no more is needed of what it sends.
pub(crate) const DONE: VarInt = VarInt::from_u32(0);
/// Resets a stream whose exchange was given up.
pub(crate) const GIVEN_UP: VarInt = VarInt::from_u32(1);
/// Resets a stream that was not begun with, since the door is closing: the call may be made elsewhere.
pub(crate) const NOT_TAKEN: VarInt = VarInt::from_u32(2);

/// Nothing heard for so long: the connection is gone. Long enough for a laptop that changes its network; a door that was
/// started again says so itself, long before.
const IDLE: Duration = Duration::from_secs(30);
/// A caller says that it is there: an answer may think for minutes. Within so long, too, whoever waits for one hears that its
/// door was started again.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// What a stream, and all of a connection's together, may have under way unread.
const STREAM_WINDOW: VarInt = VarInt::from_u32(1 << 20);
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(16 << 20);

/// Which end of a connection.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Caller,
    /// How many requests it takes at once.
    Door {
        streams_max: u32,
    },
}

impl End {
    pub(crate) fn transport(self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        let (streams, keep_alive) = match self {
            Self::Caller => (0, Some(KEEP_ALIVE)),
            Self::Door { streams_max } => (streams_max, None),
        };
        transport
            .max_concurrent_bidi_streams(streams.into())
            .max_concurrent_uni_streams(0_u8.into())
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("half a minute fits")))
            .keep_alive_interval(keep_alive)
            .stream_receive_window(STREAM_WINDOW)
            .receive_window(CONNECTION_WINDOW)
            .send_window(CONNECTION_WINDOW.into_inner());
        transport
    }
}

/// One exchange's stream.
pub(crate) struct Exchange {
    send: SendStream,
    receive: RecvStream,
    /// It was ended, not given up.
    ended: bool,
}

impl Exchange {
    pub(crate) fn new(send: SendStream, receive: RecvStream) -> Self {
        Self { send, receive, ended: false }
    }
}

impl AsyncRead for Exchange {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf)
    }
}

impl AsyncWrite for Exchange {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.send).poll_write(cx, buf) {
            // The other side has its answer ready without reading all of the request: a body that was refused for its
            // size. What is left is dropped, and the answer still read.
            Poll::Ready(Err(WriteError::Stopped(code))) if code == DONE => Poll::Ready(Ok(buf.len())),
            written => written.map_err(io::Error::from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // QUIC sends what was written as soon as it may.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        // Where it was stopped or reset there is nothing left to finish.
        let _ = self.send.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            // quinn finishes what is dropped: a crash would look like an end.
            let _ = self.send.reset(GIVEN_UP);
            let _ = self.receive.stop(GIVEN_UP);
        }
    }
}

/// Whether a chain of causes says that the door did not begin with the call.
pub(crate) fn not_taken(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let read = inner.and_then(|inner| inner.downcast_ref::<ReadError>());
        if matches!(read, Some(ReadError::Reset(code)) if *code == NOT_TAKEN) {
            return true;
        }
        cause = error.source();
    }
    false
}
