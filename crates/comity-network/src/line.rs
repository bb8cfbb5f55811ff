//! Our own feed's line of heads, where several processes write it by turns.
//!
//! A feed has one writer: two heads of one number freeze it everywhere. Processes that share the writer's key therefore share a line:
//! a durable place that takes a head only behind the one that stands last. A head that the line did not take is never said. Which
//! database that is the composition root knows.

use std::sync::Arc;

use comity_wire::Digest;
use futures::future::BoxFuture;

/// A head with its place, and everything that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    pub epoch: u32,
    pub seq: u64,
    /// Content id of the head.
    pub id: Digest,
    /// The signed head, and its writer's certificate.
    pub head: Vec<u8>,
    pub writer: Vec<u8>,
    pub frames: Vec<(Digest, Vec<u8>)>,
}

/// What stands last in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newest {
    Nothing,
    /// The one that whoever asks has.
    Known,
    Other(Numbered),
}

/// Where heads are numbered. An error says what could not be done, and that it may have been.
pub trait Line: Send + Sync {
    fn newest(&self, known: Option<Digest>) -> BoxFuture<'_, Result<Newest, String>>;

    /// Puts `next` behind `after`, durably; `false`, and nothing is changed, where something else stands last. The same again is `true`.
    fn append(&self, after: Option<Digest>, next: Numbered) -> BoxFuture<'_, Result<bool, String>>;
}

/// How this process shares its organisation's feed.
#[derive(Clone)]
pub struct Shared {
    pub line: Arc<dyn Line>,
    /// Whether it may put the first head into an empty line: the one process that has written the feed before.
    pub may_begin: bool,
    /// Whether no other process writes: then what it knows itself is all that was ever said.
    pub is_alone: bool,
}
