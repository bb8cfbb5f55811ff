//! The body of an accepted call, read piece by piece: the only place that waits for a talking upstream.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line::{Answered, Broken};
use crate::dialect::Decode;
use crate::error::Silence;
use crate::sse::{self, SseError};
use crate::{Event, UpstreamError};

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) idle_ms_max: u64,
    pub(super) frame_bytes_max: usize,
}

struct Reader {
    response: Answered,
    decoder: Box<dyn Decode>,
    parser: sse::Parser,
    frames: VecDeque<String>,
    events: VecDeque<Event>,
    cancel: CancellationToken,
    limits: Limits,
    bytes: u64,
    fault: Option<UpstreamError>,
}

/// How long the last bytes after `[DONE]` are waited for, so that the connection can serve the next call.
const REUSE_WAIT: Duration = Duration::from_millis(20);

/// Events of a server that streams.
pub(super) fn events(
    response: Answered,
    decoder: Box<dyn Decode>,
    cancel: CancellationToken,
    limits: Limits,
) -> impl Stream<Item = Result<Event, UpstreamError>> + Send {
    let parser = sse::Parser::new(sse::Limits {
        line_bytes_max: limits.frame_bytes_max,
        frame_bytes_max: limits.frame_bytes_max,
    });
    let (frames, events) = (VecDeque::new(), VecDeque::new());
    let (bytes, fault) = (0, None);
    let reader = Reader { response, decoder, parser, frames, events, cancel, limits, bytes, fault };
    futures::stream::unfold(reader, |mut reader| async move { Some((reader.next().await, reader)) })
}

impl Reader {
    async fn next(&mut self) -> Result<Event, UpstreamError> {
        // Until a frame comes: comments keep the connection open, and say nothing. A frame without an event is a model
        // that thinks.
        let idle = Duration::from_millis(self.limits.idle_ms_max);
        let mut until = Instant::now() + idle;
        loop {
            if let Some(event) = self.events.pop_front() {
                if event == Event::Done {
                    let _ = tokio::time::timeout(REUSE_WAIT, self.response.chunk()).await;
                }
                return Ok(event);
            }
            if let Some(frame) = self.frames.pop_front() {
                self.decoder.frame(&frame, &mut self.events)?;
                until = Instant::now() + idle;
                continue;
            }
            // What came whole before a fault is given out before the fault.
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            let piece = piece(&mut self.response, &self.cancel, until, self.limits.idle_ms_max, self.bytes).await?;
            let Some(piece) = piece else {
                if self.parser.is_between_frames() && self.decoder.is_whole() {
                    return Ok(Event::Done);
                }
                let detail =
                    if self.parser.is_between_frames() { "it ended without [DONE]" } else { "it ended within a frame" };
                return Err(UpstreamError::Cut { bytes: self.bytes, detail: detail.into() });
            };
            self.bytes += piece.len() as u64;
            self.fault = self.parser.push(&piece, &mut self.frames).err().map(broken);
        }
    }
}

/// Events of a server that answers in one piece although it was asked to stream.
pub(super) fn one_piece(
    mut response: Answered,
    mut decoder: Box<dyn Decode>,
    cancel: CancellationToken,
    limits: Limits,
) -> impl Stream<Item = Result<Event, UpstreamError>> + Send {
    let read = async move {
        let mut body = Vec::new();
        let mut events = VecDeque::new();
        loop {
            let until = Instant::now() + Duration::from_millis(limits.idle_ms_max);
            let read = piece(&mut response, &cancel, until, limits.idle_ms_max, body.len() as u64).await?;
            let Some(piece) = read else { break };
            extend(&mut body, &piece, limits.frame_bytes_max)?;
        }
        decoder.body(&body, &mut events)?;
        Ok(events)
    };
    use futures::{FutureExt as _, StreamExt as _};
    read.into_stream().flat_map(|outcome: Result<VecDeque<Event>, _>| {
        let (events, fault) = match outcome {
            Ok(events) => (events, None),
            Err(fault) => (VecDeque::new(), Some(Err(fault))),
        };
        futures::stream::iter(events.into_iter().map(Ok).chain(fault))
    })
}

/// A bounded body, for errors and lists.
pub(super) async fn collect(mut response: Answered, limit: usize) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|e| cut(body.len() as u64, e))? {
        extend(&mut body, &piece, limit)?;
    }
    Ok(body)
}

async fn piece(
    response: &mut Answered,
    cancel: &CancellationToken,
    until: Instant,
    idle_ms_max: u64,
    bytes: u64,
) -> Result<Option<Bytes>, UpstreamError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(UpstreamError::Cancelled),
        // Before the read: a server that is never short of comments would keep the clock from being looked at.
        () = tokio::time::sleep_until(until) => {
            Err(UpstreamError::Silent { after_ms: idle_ms_max, whilst: Silence::WhilstAnswering })
        }
        read = response.chunk() => read.map_err(|e| cut(bytes, e)),
    }
}

fn extend(body: &mut Vec<u8>, piece: &[u8], limit: usize) -> Result<(), UpstreamError> {
    if body.len() + piece.len() > limit {
        return Err(UpstreamError::TooLarge { limit, unit: "bytes" });
    }
    body.extend_from_slice(piece);
    Ok(())
}

fn cut(bytes: u64, broken: Broken) -> UpstreamError {
    UpstreamError::Cut { bytes, detail: broken.detail }
}

fn broken(error: SseError) -> UpstreamError {
    match error {
        SseError::LineTooLong { limit } | SseError::FrameTooLong { limit } => {
            UpstreamError::TooLarge { limit, unit: "bytes in a frame" }
        }
        SseError::NotUtf8 => UpstreamError::Malformed { detail: error.to_string() },
    }
}
