//! Where answers come from: upstream servers, their dialects and health.
//!
//! An [`Upstream`] takes a [`Call`] whose body the gateway has already filtered. Generated text it gives back as a
//! [`Reply`], a stream of [`Event`]s; what comes in one piece, as an [`Answer`]. `Ok` from [`Upstream::complete`] means that the upstream *accepted* the work: input meters are due
//! from then on (design: meters). A reply ends in exactly one of two ways: [`Event::Done`], said by the upstream
//! itself, or an [`UpstreamError`]. Silence, a cut line or a malformed frame is never turned into `Done`; [`Reply`]
//! enforces that for every implementation.
//!
//! Leaves to others: who may ask, what it costs (comity-gateway), how the answer is written to the client, and the
//! built-in engine (the node adapts it to this trait).
#![forbid(unsafe_code)]

mod call;
mod dialect;
mod error;
pub mod fixture;
mod health;
pub mod pool;
pub mod probe;
mod reply;
pub mod scripted;
pub mod server;
pub mod sse;

pub use futures::future::BoxFuture;

pub use call::{Call, Tokenizer};
pub use dialect::{Dialect, Flavour, decoded};
pub use error::{Silence, UpstreamError};
pub use health::{Health, State};
pub use pool::Pool;
pub use reply::{Answer, Delta, Event, Reply, ToolCall, Usage};
pub use scripted::Scripted;
pub use server::Server;

/// One place that answers calls: a server over HTTP, the built-in engine, or a script in a test.
pub trait Upstream: Send + Sync + std::fmt::Debug {
    /// Hands the call over. `Ok` once the upstream has accepted it.
    ///
    /// Dropping the future, dropping the [`Reply`] or cancelling [`Call::cancel`] stops the work upstream.
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>>;

    /// Hands over a call that is answered in one piece. `Ok` is the whole answer; before it nothing is due.
    ///
    /// Dropping the future or cancelling [`Call::cancel`] stops the work upstream. An upstream that only generates text
    /// leaves this as it is.
    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        Box::pin(async move { Err(UpstreamError::Unsupported { op: call.op }) })
    }

    /// Whether it would answer now. Safe to drop; never takes longer than a few seconds.
    fn health(&self) -> BoxFuture<'_, Health>;

    /// The servers behind it, by name for the owner, as they stand now; none where it is no pool.
    fn instances(&self) -> Vec<(String, pool::Sight)> {
        Vec::new()
    }
}
