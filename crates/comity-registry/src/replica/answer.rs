//! What a peer that asks is told: bounded pages of what we show.

use super::Registry;
use crate::feed::SignedHead;
use crate::message::{
    DIGESTS_MAX, HEADS_MAX, PAGE_BYTES, POSITIONS_MAX, PROOFS_MAX, Position, ROSTERS_MAX, Reply, Request,
};

impl Registry {
    /// Answers without changing anything.
    pub fn answer(&self, request: &Request) -> Reply {
        match request {
            Request::Hello(theirs) if theirs.federation != self.roster().federation => Reply::Refused,
            Request::Hello(_) => Reply::Hello(self.hello()),
            Request::Rosters { after } => {
                let mut room = PAGE_BYTES;
                let steps = self.chain.after(*after).take(ROSTERS_MAX);
                let rosters =
                    steps.take_while(|bytes| take(&mut room, bytes.len())).map(|bytes| bytes.to_vec()).collect();
                Reply::Rosters { rosters }
            }
            Request::Vector { after } => {
                let mut positions =
                    self.feeds().filter(|(org, _)| after.is_none_or(|after| *org > after)).map(|(org, feed)| {
                        let head = feed.head.id().0[..8].try_into().expect("a digest has 32 bytes");
                        Position { org, epoch: feed.head.epoch, seq: feed.head.seq, head }
                    });
                let page = positions.by_ref().take(POSITIONS_MAX).collect();
                let more = positions.next().is_some();
                Reply::Vector { positions: page, more }
            }
            Request::Heads { orgs } => {
                let feeds = orgs.iter().take(HEADS_MAX).filter_map(|org| self.feed(*org));
                Reply::Heads { heads: feeds.map(|feed| SignedHead::of(&feed.pair())).collect() }
            }
            Request::Objects { digests } => self.objects(&digests[..digests.len().min(DIGESTS_MAX)]),
            Request::Proofs { after } => {
                let mut proofs = self
                    .proofs()
                    .filter(|proof| after.is_none_or(|after| (proof.org(), proof.number().0) > after))
                    .map(|proof| (proof.heads().0.clone(), proof.heads().1.clone()));
                let page = proofs.by_ref().take(PROOFS_MAX).collect();
                let more = proofs.next().is_some();
                Reply::Proofs { proofs: page, more }
            }
        }
    }

    fn objects(&self, digests: &[comity_wire::Digest]) -> Reply {
        let (mut objects, mut missing) = (Vec::new(), Vec::new());
        let mut room = PAGE_BYTES;
        for digest in digests {
            match self.frame(digest) {
                None => missing.push(*digest),
                Some(bytes) if take(&mut room, bytes.len()) => objects.push((*digest, bytes.to_vec())),
                Some(_) => {}
            }
        }
        Reply::Objects { objects, missing }
    }
}

/// Whether a page has room left; it may close with one item that is larger than the rest of it, so that each page
/// holds at least one.
fn take(room: &mut usize, bytes: usize) -> bool {
    let open = *room > 0;
    *room = room.saturating_sub(bytes);
    open
}
