//! A reply: events, then exactly one end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use serde_json::Value;

use crate::UpstreamError;

/// One thing an upstream said.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Delta(Delta),
    /// The upstream's own count. Where it comes more than once the last holds; it always comes before `Done`.
    Usage(Usage),
    /// The upstream ended its answer properly but never stated its usage; comes right before `Done`. The charge then
    /// rests on what was relayed.
    UsageMissing,
    /// The upstream itself said that the answer is whole. Nothing follows.
    Done,
}

/// A piece of one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    pub index: u32,
    /// Chat only; in the first delta of a choice.
    pub role: Option<String>,
    /// Text to append; may be empty.
    pub text: String,
    /// As the upstream wrote it: `{"content": […]}` for chat, `{"tokens": …}` for completions. Floats keep their bits.
    pub logprobs: Option<Value>,
    /// Calls of tools, or pieces of them.
    pub tool_calls: Vec<ToolCall>,
    /// `stop`, `length`, `tool_calls`, `content_filter` …: in the last delta of a choice.
    pub finish_reason: Option<String>,
}

/// A piece of one tool call: what the model wrote, nothing that a server put beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Which call of its choice.
    pub index: u32,
    /// In the first piece, where the server names its calls.
    pub id: Option<String>,
    /// In the first piece.
    pub name: Option<String>,
    /// To append.
    pub arguments: String,
}

/// A whole answer that is not generated text: one JSON value, in the shape that the op has at OpenAI's API or, for
/// [`Op::Tokenize`](comity_wire::Op::Tokenize), as [`Tokenizer`](crate::Tokenizer) says. What of it a caller sees is the
/// gateway's choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub body: Value,
    /// The upstream's own count, where it states one.
    pub usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// The events of one accepted call. Dropping it stops the upstream's work.
///
/// Whatever stands behind it, a reply yields at most one end, [`Event::Done`] or an error, and nothing after it; a
/// source that stops without an end yields [`UpstreamError::Cut`].
pub struct Reply {
    events: BoxStream<'static, Result<Event, UpstreamError>>,
    usage_seen: bool,
    held: Option<Event>,
    ended: bool,
}

impl Reply {
    /// `events` may leave `UsageMissing` out: the reply adds it.
    pub fn new(events: impl Stream<Item = Result<Event, UpstreamError>> + Send + 'static) -> Self {
        Self { events: events.boxed(), usage_seen: false, held: None, ended: false }
    }

    /// The next event; `None` only after an end. Safe to drop: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Event, UpstreamError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Reply {
    type Item = Result<Event, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(event) = self.held.take() {
            self.ended = true;
            return Poll::Ready(Some(Ok(event)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.events.poll_next_unpin(cx)) {
            Some(Ok(Event::Done)) if !self.usage_seen => {
                self.held = Some(Event::Done);
                Ok(Event::UsageMissing)
            }
            Some(Ok(event)) => {
                self.usage_seen |= matches!(event, Event::Usage(_) | Event::UsageMissing);
                self.ended = event == Event::Done;
                Ok(event)
            }
            Some(Err(error)) => {
                self.ended = true;
                Err(error)
            }
            None => {
                self.ended = true;
                Err(UpstreamError::Cut { bytes: 0, detail: "it stopped without saying that it had ended".into() })
            }
        }))
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(events: Vec<Result<Event, UpstreamError>>) -> Vec<Result<Event, &'static str>> {
        let reply = Reply::new(futures::stream::iter(events));
        reply.map(|e| e.map_err(|e| e.name())).collect().await
    }

    #[tokio::test]
    async fn a_source_that_stops_without_an_end_is_cut_and_never_done() {
        let text = || Event::Delta(Delta { text: "a".into(), ..Delta::default() });
        assert_eq!(all(vec![Ok(text())]).await, [Ok(text()), Err("cut")]);
        assert_eq!(all(vec![]).await, [Err("cut")]);
    }

    #[tokio::test]
    async fn nothing_follows_an_end() {
        let usage = Event::Usage(Usage { input_tokens: 1, output_tokens: 2 });
        let said = vec![Ok(usage.clone()), Ok(Event::Done), Ok(Event::Done)];
        assert_eq!(all(said).await, [Ok(usage), Ok(Event::Done)]);
        assert_eq!(all(vec![Err(UpstreamError::Cancelled), Ok(Event::Done)]).await, [Err("cancelled")]);
    }

    #[tokio::test]
    async fn an_end_without_usage_says_so_first() {
        assert_eq!(all(vec![Ok(Event::Done)]).await, [Ok(Event::UsageMissing), Ok(Event::Done)]);
    }
}
