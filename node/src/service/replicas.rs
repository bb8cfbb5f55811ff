//! A house's place in the federation, where it may be several replicas on one PostgreSQL: the feed that they write together, and the
//! doors that it announces (decision 0051).
//!
//! What is to be said is in the books: the newest revocation list, and who is there. Each replica looks every few seconds whether the feed
//! says it, and says what is missing: so it does not matter which of them made it, or ended before it could say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use comity_clearing::{Clearing, FeedHead, FeedNewest, Replica};
use comity_network::{Line, Newest, Numbered, PublishError, Shared};
use comity_supply::BoxFuture;
use comity_wire::cbor::Text;
use comity_wire::object::{Door, DoorKind};
use comity_wire::{Digest, PublicKey, Timestamp};
use tokio::sync::watch;

use crate::failure::{Failure, While as _};
use crate::service::{Doors, Member};

/// How often the feed is compared with the books.
const EVERY: Duration = Duration::from_secs(comity_clearing::SEEN_EVERY_S);
/// The same, after something could not be said.
const AGAIN: Duration = Duration::from_secs(2);
/// An announcement is made anew well before it ends.
const ANNOUNCE_AGAIN_S: u64 = 12 * 3600;
/// Doors of an announcement.
const DOORS_MAX: usize = 16;
/// Turns between two complaints that are the same.
const COMPLAIN_EVERY: u32 = 30;
/// Turns in a row that fail before this process is not ready: half a minute.
const SILENT_AFTER: u32 = 15;
/// How long the others' announcement is waited for at the end.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// Whether a house is one process, or one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Its books are in a PostgreSQL, which others may use: the feed is numbered there.
    pub(super) postgres: bool,
    /// The certificate names other processes.
    pub(super) several: bool,
    /// It began with a copy of the first one's keys.
    pub(super) replica: bool,
}

/// Keeps the feed saying what the books say.
pub(super) struct Publishing<'a> {
    member: &'a Member,
    clearing: &'a Clearing,
    sharing: Sharing,
    own: Vec<Door>,
    key: PublicKey,
    started_at: Timestamp,
    is_announced: AtomicBool,
    /// The line in the books is not one to go on from: so for each process.
    is_unsure: AtomicBool,
    /// Turns in a row that failed.
    turns_failed: AtomicU32,
}

impl<'a> Publishing<'a> {
    /// Takes up the pen, and says for the first time what is to be said.
    ///
    /// # Errors
    /// [`Failure`] where a house that is alone cannot say it; one of several serves all the same, and goes on trying.
    pub(super) async fn begin(
        member: &'a Member,
        clearing: &'a Clearing,
        sharing: Sharing,
        doors: &Doors,
    ) -> Result<Self, Failure> {
        let publishing = Self {
            member,
            clearing,
            sharing,
            own: doors.announced(&member.network),
            key: member.transport.public(),
            started_at: (member.clock)(),
            is_announced: AtomicBool::new(false),
            is_unsure: AtomicBool::new(false),
            turns_failed: AtomicU32::new(0),
        };
        if sharing.postgres {
            let shared = Shared {
                line: Arc::new(Books(clearing.clone())),
                may_begin: !sharing.replica,
                is_alone: !sharing.several,
            };
            member.network.share(Member::writer(&member.home)?, shared).await;
        }
        match publishing.turn().await {
            Err(failure) if sharing.several => {
                tracing::error!(%failure, "nothing is published from here yet; it is tried again");
                publishing.failed(SILENT_AFTER);
            }
            done => done?,
        }
        Ok(publishing)
    }

    /// Goes on for ever. `lists` wakes it.
    pub(super) async fn run(&self, mut lists: watch::Receiver<u64>) {
        loop {
            let failed = self.turns_failed.load(Ordering::Relaxed);
            let pause = if failed > 0 { AGAIN } else { EVERY };
            tokio::select! {
                changed = lists.changed() => if changed.is_err() {
                    tokio::time::sleep(pause).await;
                },
                () = tokio::time::sleep(pause) => {}
            }
            match self.turn().await {
                Ok(()) => self.failed(0),
                Err(failure) => {
                    if failed.is_multiple_of(COMPLAIN_EVERY) {
                        tracing::error!(%failure, "the feed does not say what the books say; it is tried again");
                    }
                    self.failed(failed.saturating_add(1));
                }
            }
        }
    }

    /// Has others send nobody here any more, where so many turns failed and another process may do better.
    fn failed(&self, turns: u32) {
        self.turns_failed.store(turns, Ordering::Relaxed);
        self.clearing.publishing(self.is_unsure.load(Ordering::Relaxed) || turns < SILENT_AFTER);
    }

    /// Says what the books have and the feed has not.
    async fn turn(&self) -> Result<(), Failure> {
        let mut doors = self.own.clone();
        if self.sharing.postgres {
            let own = self.own.iter().map(|door| (number(door.kind), door.address.to_string())).collect();
            self.clearing.replica_seen(self.key, own, self.started_at).await?;
            self.look().await?;
            doors = announced(&self.clearing.replicas().await?);
        }
        self.clearing.standing_look().await?;
        if !self.is_said(&doors) {
            self.member.network.announce(doors).await.while_("cannot announce this house")?;
            self.is_announced.store(true, Ordering::Relaxed);
        }
        let said = self.member.directory.standing(self.member.home.card.organisation).map_or(0, |list| list.number);
        match self.clearing.standing() {
            Some(list) if said < list.number => self.member.put(vec![list.bytes().to_vec()]).await,
            _ => Ok(()),
        }
    }

    /// Takes over what other replicas have published.
    async fn look(&self) -> Result<(), Failure> {
        let looked = self.member.network.look().await;
        self.is_unsure.store(matches!(looked, Err(PublishError::Unsure { .. })), Ordering::Relaxed);
        match looked {
            // Where nothing was published yet there is nothing to take over; what cannot be read now is asked for again.
            Ok(_) | Err(PublishError::Line { .. }) => Ok(()),
            Err(error @ PublishError::Unsure { .. }) => Err(Failure::from(error).hint(
                "comity clearing renew --restored, for the first home; then copy both certificates into every home",
            )),
            Err(error) => Err(error).while_("cannot take over what other replicas have published"),
        }
    }

    /// Whether the feed announces these doors. Once after each start it is said anew, with the certificate of now.
    fn is_said(&self, doors: &[Door]) -> bool {
        let said = self.member.directory.announcement(self.member.home.card.node);
        let is_new = |said: Timestamp| (self.member.clock)().since(said) < ANNOUNCE_AGAIN_S;
        self.is_announced.load(Ordering::Relaxed)
            && said.is_some_and(|said| said.doors.iter().eq(doors) && is_new(said.issued_at))
    }

    /// Has the others' doors announced without this one's. What is not done in time they find out.
    pub(super) async fn leave(&self) {
        if !self.sharing.postgres {
            return;
        }
        let leaving = async {
            self.clearing.replica_left(self.key).await?;
            let others = announced(&self.clearing.replicas().await?);
            if !others.is_empty() {
                self.member.network.announce(others).await.while_("cannot announce this house")?;
            }
            Ok::<_, Failure>(())
        };
        match tokio::time::timeout(LEAVE_WAIT, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(%failure, "it was not announced that this replica goes"),
            Err(_) => tracing::warn!("it was not announced in time that this replica goes"),
        }
    }
}

/// What the house announces: the doors of all replicas, those that callers use first.
fn announced(replicas: &[Replica]) -> Vec<Door> {
    let of = |kind: DoorKind| {
        let doors = replicas.iter().flat_map(|replica| &replica.doors);
        doors
            .filter(move |(own, _)| *own == number(kind))
            .filter_map(move |(_, address)| Some(Door { kind, address: Text::new(address.clone()).ok()? }))
    };
    let mut doors: Vec<Door> = Vec::new();
    for door in [DoorKind::Https, DoorKind::Quic, DoorKind::Libp2p].into_iter().flat_map(of) {
        // Behind a load balancer they have one address.
        if !doors.contains(&door) && doors.len() < DOORS_MAX {
            doors.push(door);
        }
    }
    doors
}

fn number(kind: DoorKind) -> u8 {
    kind.number()
}

/// The line of the house's feed, in its books.
struct Books(Clearing);

impl Line for Books {
    fn newest(&self, known: Option<Digest>) -> BoxFuture<'_, Result<Newest, String>> {
        Box::pin(async move {
            Ok(match self.0.feed_newest(known).await.map_err(|failure| failure.to_string())? {
                FeedNewest::Nothing => Newest::Nothing,
                FeedNewest::Known => Newest::Known,
                FeedNewest::Other(FeedHead { epoch, seq, id, head, writer, frames }) => {
                    Newest::Other(Numbered { epoch, seq, id, head, writer, frames })
                }
            })
        })
    }

    fn append(&self, after: Option<Digest>, next: Numbered) -> BoxFuture<'_, Result<bool, String>> {
        let Numbered { epoch, seq, id, head, writer, frames } = next;
        let next = FeedHead { epoch, seq, id, head, writer, frames };
        Box::pin(async move { self.0.feed_append(after, next).await.map_err(|failure| failure.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::SecretKey;

    use super::*;

    #[test]
    fn the_doors_of_all_are_announced_those_that_callers_use_first() {
        let replica = |at: u8, doors: &[(DoorKind, &str)]| Replica {
            key: SecretKey::from_seed([at; 32]).public(),
            doors: doors.iter().map(|(kind, address)| (number(*kind), (*address).to_owned())).collect(),
            started_at: Timestamp(0),
            seen_at: Timestamp(0),
        };
        let (https, quic, libp2p) = (DoorKind::Https, DoorKind::Quic, DoorKind::Libp2p);
        let one = replica(1, &[(https, "https://a:1"), (quic, "quic://a:1"), (libp2p, "/ip4/1.2.3.4/tcp/1")]);
        let two = replica(2, &[(https, "https://b:1"), (libp2p, "/ip4/1.2.3.5/tcp/1")]);
        let balanced = replica(3, &[(https, "https://a:1")]);
        let doors = announced(&[one, two, balanced]);
        let addresses: Vec<_> = doors.iter().map(|door| door.address.as_str()).collect();
        let all = ["https://a:1", "https://b:1", "quic://a:1", "/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.5/tcp/1"];
        assert_eq!(addresses, all);
        let many: Vec<_> = (0..9).map(|at| format!("https://c:{at}")).collect();
        let many: Vec<_> = many.iter().map(|address| (https, address.as_str())).collect();
        let full =
            announced(&[replica(4, &many), replica(5, &[(https, "https://d:1")]), replica(6, &[(libp2p, "/x"); 1])]);
        assert_eq!(full.len(), 11);
        assert!(announced(&vec![replica(7, &many); 3]).len() <= DOORS_MAX);
    }
}
