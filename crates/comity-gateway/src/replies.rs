//! Finished replies, kept for a caller that did not get them: a replay is answered with the same bytes, and charges
//! nothing.

use std::collections::{BTreeMap, VecDeque};

use axum::response::Response;
use bytes::Bytes;
use comity_wire::{Digest, Timestamp};

/// A reply as it was sent.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Whole(Bytes),
    /// The `data` payloads of a stream, without `[DONE]`.
    Pieces(Vec<Bytes>),
}

/// By authority id, oldest first out, bounded in time and bytes.
pub(crate) struct Replies {
    by_authority: BTreeMap<Digest, (Kept, Timestamp)>,
    order: VecDeque<(Digest, usize)>,
    bytes: usize,
    seconds: u64,
    bytes_max: usize,
}

impl Kept {
    fn bytes(&self) -> usize {
        const ENTRY: usize = 128;
        ENTRY
            + match self {
                Self::Whole(body) => body.len(),
                Self::Pieces(pieces) => pieces.iter().map(|piece| piece.len() + 32).sum(),
            }
    }
}

impl Replies {
    pub(crate) fn new(seconds: u64, bytes_max: usize) -> Self {
        Self { by_authority: BTreeMap::new(), order: VecDeque::new(), bytes: 0, seconds, bytes_max }
    }

    pub(crate) fn keep(&mut self, authority: Digest, kept: Kept, now: Timestamp) {
        let bytes = kept.bytes();
        if self.seconds == 0 || bytes > self.bytes_max {
            return;
        }
        self.bytes += bytes;
        self.by_authority.insert(authority, (kept, now));
        self.order.push_back((authority, bytes));
        self.forget(now);
    }

    pub(crate) fn find(&mut self, authority: &Digest, now: Timestamp) -> Option<Kept> {
        self.forget(now);
        self.by_authority.get(authority).map(|(kept, _)| kept.clone())
    }

    /// What was kept of a request is not its answer any more.
    pub(crate) fn take_back(&mut self, authority: &Digest) {
        self.by_authority.remove(authority);
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((authority, bytes)) = self.order.front().copied() {
            let is_old = self.by_authority.get(&authority).is_none_or(|(_, at)| now.since(*at) >= self.seconds);
            if !is_old && self.bytes <= self.bytes_max {
                return;
            }
            self.order.pop_front();
            self.by_authority.remove(&authority);
            self.bytes -= bytes;
        }
    }
}

/// Marks a reply that was sent before.
pub(crate) fn mark_replayed(mut response: Response) -> Response {
    response.headers_mut().insert("comity-replayed", http::HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_time_and_bytes() {
        let mut replies = Replies::new(600, 1_000);
        let whole = |bytes: usize| Kept::Whole(Bytes::from(vec![0; bytes]));
        let id = |n: u8| Digest([n; 32]);
        replies.keep(id(1), whole(400), Timestamp(0));
        replies.keep(id(2), whole(400), Timestamp(10));
        assert!(replies.find(&id(1), Timestamp(10)).is_none(), "two of 528 bytes pass 1000");
        assert!(replies.find(&id(2), Timestamp(609)).is_some());
        assert!(replies.find(&id(2), Timestamp(610)).is_none());
        replies.keep(id(3), whole(2_000), Timestamp(700));
        assert!(replies.find(&id(3), Timestamp(700)).is_none());
        assert_eq!(replies.bytes, 0);
    }
}
