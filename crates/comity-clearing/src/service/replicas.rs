//! Replicas of the house: who is there, and the line of heads of the feed that they write together (decision 0051).

use comity_wire::{Digest, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clearing;
use crate::failure::Failure;
use crate::store;

/// Replicas at once: the doors of no more than these are announced (an announcement has 16, and a client tries 8).
pub const REPLICAS_MAX: u64 = 4;
/// How often each of them says that it is there.
pub const SEEN_EVERY_S: u64 = 10;
/// One that was not seen for so long is gone.
const GONE_S: u64 = 45;

/// One process that answers for the house.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Its transport key.
    pub key: PublicKey,
    /// What it announces: kind and address.
    pub doors: Vec<(u8, String)>,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
}

/// A head of the house's own feed, with everything that it names, as all replicas share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedHead {
    pub epoch: u32,
    pub seq: u64,
    pub id: Digest,
    pub head: Vec<u8>,
    pub writer: Vec<u8>,
    pub frames: Vec<(Digest, Vec<u8>)>,
}

/// What stands last in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedNewest {
    Nothing,
    /// The one that whoever asks has.
    Known,
    Other(FeedHead),
}

/// Whoever was not seen since then is gone.
pub(crate) fn gone(now: Timestamp) -> Timestamp {
    now.minus(GONE_S)
}

impl Clearing {
    /// Says that a replica is there.
    ///
    /// # Errors
    /// [`Failure::Limit`] where enough others are; [`Failure`] where it cannot be written.
    pub async fn replica_seen(
        &self,
        key: PublicKey,
        doors: Vec<(u8, String)>,
        started_at: Timestamp,
    ) -> Result<(), Failure> {
        let now = self.now();
        let replica = Replica { key, doors, started_at, seen_at: now };
        self.write(move |conn| {
            Box::pin(async move {
                let others = store::replicas::seen_in_tx(conn, &replica, gone(now)).await?;
                if others < REPLICAS_MAX {
                    Ok(())
                } else {
                    Err(Failure::Limit { what: "replicas of the house", max: REPLICAS_MAX.to_string() })
                }
            })
        })
        .await
    }

    /// Says that a replica goes.
    ///
    /// # Errors
    /// [`Failure`]; then it is gone all the same, a little later.
    pub async fn replica_left(&self, key: PublicKey) -> Result<(), Failure> {
        self.write(move |conn| Box::pin(async move { store::replicas::left_in_tx(conn, &key).await })).await
    }

    /// Those that are there, in the order of their keys.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn replicas(&self) -> Result<Vec<Replica>, Failure> {
        store::replicas::there(&mut self.read().await?.db(), gone(self.now())).await
    }

    /// What stands last in the line of the house's feed.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn feed_newest(&self, known: Option<Digest>) -> Result<FeedNewest, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let found = match store::feed::newest_id(&mut seen).await? {
            None => FeedNewest::Nothing,
            Some(id) if Some(id) == known => FeedNewest::Known,
            Some(_) => {
                let head = store::feed::newest(&mut seen).await?;
                FeedNewest::Other(head.ok_or(Failure::Unreadable { table: "feed_head", what: "the newest head" })?)
            }
        };
        snapshot.rollback().await?;
        Ok(found)
    }

    /// Puts a head behind `after`, under the one lock of the books; whether it stands there. Another replica may have been quicker.
    ///
    /// # Errors
    /// [`Failure`]; it may stand there all the same, which the next look tells.
    pub async fn feed_append(&self, after: Option<Digest>, next: FeedHead) -> Result<bool, Failure> {
        self.fail("line.before_commit");
        let done =
            self.write(move |conn| Box::pin(async move { store::feed::append_in_tx(conn, after, &next).await })).await;
        self.fail("line.after_commit");
        done
    }
}
