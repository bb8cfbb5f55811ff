//! Sealed decisions (spec/11-access.md §11.9): the links of all events in one Merkle tree, so that one which was
//! sealed cannot be changed or taken out unseen, and everybody sees when it was sealed.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::decisions::{DecisionProof, FirstHead, Logged, ProofAsked, SINCE_MAX, Since};
use comity_wire::log::{Growing, Steps, TileError, TileId, Tiles, tiles_of};
use comity_wire::{Digest, GrantId, OrgId, Timestamp};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::case::CaseId;
use crate::id::ApplicationId;
use crate::store::StoreError;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Events that are sealed in one transaction.
pub const SEAL_MAX: u32 = 512;
/// Heads that are kept besides those that a house has in its log, of which each shows since when something was decided.
pub const HEADS_KEPT: u64 = 1_000;

/// Whose event a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// An application's.
    Application(ApplicationId),
    /// A case's.
    Case(CaseId),
    /// An act of the register of what operators do by hand.
    Register,
}

impl Of {
    pub(crate) const fn kind(self) -> i64 {
        match self {
            Self::Application(_) => 1,
            Self::Case(_) => 2,
            Self::Register => 3,
        }
    }

    pub(crate) const fn id(self) -> [u8; 16] {
        match self {
            Self::Application(id) => id.0,
            Self::Case(id) => id.0,
            Self::Register => [0; 16],
        }
    }
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Application(id) => write!(f, "{id}"),
            Self::Case(id) => write!(f, "{id}"),
            Self::Register => f.write_str("the register"),
        }
    }
}

/// How far the sealing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Which log, from 1.
    pub log: u64,
    /// Leaves.
    pub size: u64,
    /// The number of the newest head; 0 where none was signed.
    pub heads: u64,
}

/// One event's link in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose.
    pub of: Of,
    /// Which event.
    pub n: u64,
    /// In which log.
    pub log: u64,
    /// Where, from 0.
    pub place: u64,
    /// The leaf's data.
    pub link: Digest,
}

/// A signed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub n: u64,
    /// Of which log.
    pub log: u64,
    /// Over how many leaves.
    pub size: u64,
    /// As it was signed.
    pub bytes: Vec<u8>,
}

/// A head, and where houses have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedHead {
    /// The head.
    pub head: Head,
    /// Houses that have it in their logs, and at which place.
    pub logged: Vec<(OrgId, u64)>,
}

/// Where sealed decisions rest.
pub trait Seals: Send + Sync {
    /// How far it has come.
    fn tree(&self) -> Answer<'_, Tree>;
    /// How many events wait.
    fn unsealed(&self) -> Answer<'_, u64>;
    /// Gives the next events their leaves, at most `limit`; how many. Another process may have been quicker: then 0.
    fn seal(&self, limit: u32) -> Answer<'_, u64>;
    /// Tiles of the tree of `size`, each as wide as it is there; what is not stored is left out.
    fn tiles<'a>(&'a self, log: u64, ids: &'a BTreeSet<TileId>, size: u64) -> Answer<'a, Tiles>;
    /// Keeps a head over the tree as it stands; `false` where another process was quicker.
    fn head_put<'a>(&'a self, head: &'a Head) -> Answer<'a, bool>;
    /// The newest head.
    fn head_newest(&self) -> Answer<'_, Option<Head>>;
    /// The newest head of the present log that this house has in its log, else that any has, else the newest.
    fn head_shown(&self, house: Option<OrgId>) -> Answer<'_, Option<LoggedHead>>;
    /// The first head over a leaf that this house, or any, has in its log.
    fn head_first(&self, log: u64, place: u64, house: Option<OrgId>) -> Answer<'_, Option<LoggedHead>>;
    /// A head by its number.
    fn head(&self, n: u64) -> Answer<'_, Option<Head>>;
    /// Houses that have some head in their logs.
    fn houses_logged(&self) -> Answer<'_, BTreeSet<OrgId>>;
    /// Remembers where a house has a head in its log; `false` where this store has no such head.
    fn head_logged(&self, house: OrgId, n: u64, index: u64) -> Answer<'_, bool>;
    /// The newest sealed event of an application or a case among the first `size` leaves.
    fn leaf_of(&self, of: Of, log: u64, size: u64) -> Answer<'_, Option<Leaf>>;
    /// Leaves of events from `from` to before `to`, in this log and those before, that are what the events are now; by event and log.
    fn leaves_of(&self, of: Of, from: u64, to: u64) -> Answer<'_, Vec<Leaf>>;
    /// Leaves from a place on, with the link that the event has now; `None` where there is no such event.
    fn leaves(&self, log: u64, from: u64, limit: u32) -> Answer<'_, Vec<(Leaf, Option<Digest>)>>;
    /// Events that neither are sealed nor wait for it, at most `limit`.
    fn never_sealed(&self, limit: u32) -> Answer<'_, Vec<(Of, u64)>>;
    /// Ends the log and begins the next, in which all events are sealed anew. Its number.
    fn log_begin<'a>(&'a self, reason: &'a str, at: Timestamp) -> Answer<'a, u64>;
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unproved {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing of it is under a head yet.
    #[error("no event of it is sealed yet: that takes a minute")]
    NotSealed,
    /// Tiles are missing or cut.
    #[error("the tree of decisions is not whole")]
    Tiles(#[from] TileError),
}

/// A path from the newest sealed event of a log to a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The head.
    pub head: Head,
    /// Where houses have it in their logs.
    pub logged: Vec<(OrgId, u64)>,
    /// The event.
    pub leaf: Leaf,
    /// From the leaf up.
    pub path: Vec<Digest>,
}

/// Proves the newest sealed event of an application or a case.
///
/// # Errors
/// [`Unproved`].
pub async fn prove(store: &(impl Seals + ?Sized), of: Of, house: Option<OrgId>) -> Result<Proof, Unproved> {
    let shown = store.head_shown(house).await?.ok_or(Unproved::NotSealed)?;
    let leaf = store.leaf_of(of, shown.head.log, shown.head.size).await?.ok_or(Unproved::NotSealed)?;
    under(store, shown, leaf).await
}

/// One event as it is handed out by itself: under the head that is shown, and under the first one over it.
///
/// # Errors
/// [`Unproved`].
pub async fn shown_one(
    store: &(impl Seals + ?Sized),
    of: Of,
    n: u64,
    house: Option<OrgId>,
) -> Result<DecisionProof, Unproved> {
    let shown = store.head_shown(house).await?.ok_or(Unproved::NotSealed)?;
    let leaves = store.leaves_of(of, n, n.saturating_add(1)).await?;
    let in_it = |leaf: &Leaf| leaf.log == shown.head.log && leaf.place < shown.head.size;
    let leaf = leaves.into_iter().find(in_it).ok_or(Unproved::NotSealed)?;
    let proof = under(store, shown, leaf).await?;
    handed_out(store, of, proof, (n, n.saturating_add(1)), house).await
}

async fn under(store: &(impl Seals + ?Sized), shown: LoggedHead, leaf: Leaf) -> Result<Proof, Unproved> {
    let LoggedHead { head, logged } = shown;
    let steps = Steps::inclusion(leaf.place, head.size).ok_or(Unproved::NotSealed)?;
    let tiles = store.tiles(head.log, &steps.tiles(), head.size).await?;
    Ok(Proof { path: steps.of(&tiles)?, head, logged, leaf })
}

/// Proves events from `from` to before `to` under the first head over each that a house has in its log. An event which was sealed in a log
/// that ended, and is still what it was, is shown there: it stands since then.
///
/// # Errors
/// [`Unproved`].
pub async fn since(
    store: &(impl Seals + ?Sized),
    of: Of,
    (from, to): (u64, u64),
    house: Option<OrgId>,
) -> Result<Vec<Proof>, Unproved> {
    let mut found = BTreeMap::new();
    for leaf in store.leaves_of(of, from, to).await? {
        if found.contains_key(&leaf.n) {
            continue;
        }
        if let Some(first) = store.head_first(leaf.log, leaf.place, house).await? {
            found.insert(leaf.n, under(store, first, leaf).await?);
        }
    }
    Ok(found.into_values().collect())
}

/// The same, as it is handed out.
///
/// # Errors
/// [`Unproved`].
pub async fn shown(
    store: &(impl Seals + ?Sized),
    of: Of,
    ProofAsked { from, house }: ProofAsked,
) -> Result<DecisionProof, Unproved> {
    let proof = prove(store, of, house).await?;
    let from = from.unwrap_or(1);
    let to = from.saturating_add(SINCE_MAX).min(proof.leaf.n + 1);
    handed_out(store, of, proof, (from, to), house).await
}

async fn handed_out(
    store: &(impl Seals + ?Sized),
    of: Of,
    Proof { head, logged, leaf, path }: Proof,
    (from, to): (u64, u64),
    house: Option<OrgId>,
) -> Result<DecisionProof, Unproved> {
    let (mut events, mut heads) = (Vec::new(), BTreeMap::new());
    for Proof { head, logged, leaf, path } in since(store, of, (from, to), house).await? {
        events.push(Since { n: leaf.n, link: leaf.link, head: head.n, leaf: leaf.place, path });
        if let std::collections::btree_map::Entry::Vacant(entry) = heads.entry(head.n) {
            let (head, logged) = handed(&head, logged)?;
            entry.insert(FirstHead { head, logged });
        }
    }
    let (head, logged) = handed(&head, logged)?;
    Ok(DecisionProof {
        head,
        n: leaf.n,
        link: leaf.link,
        leaf: leaf.place,
        path,
        logged,
        since: events,
        heads: heads.into_values().collect(),
        next: (to <= leaf.n).then_some(to),
    })
}

fn handed(head: &Head, logged: Vec<(OrgId, u64)>) -> Result<(SignedBytes, Vec<Logged>), StoreError> {
    let bytes = SignedBytes::new(&head.bytes[..]);
    let head = bytes.map_err(|_| StoreError::Unreadable { what: "a head that is too long".into() })?;
    Ok((head, logged.into_iter().map(|(house, index)| Logged { house, index }).collect()))
}

/// The root over the first `size` leaves, out of stored tiles.
///
/// # Errors
/// [`Unproved`].
pub async fn root(store: &(impl Seals + ?Sized), log: u64, size: u64) -> Result<Digest, Unproved> {
    let tiles = store.tiles(log, &tiles_of(0..size), size).await?;
    Ok(tiles.root(0..size)?)
}

/// That the tree of `size` goes on from its first `old` leaves.
///
/// # Errors
/// [`Unproved`].
pub async fn consistency(
    store: &(impl Seals + ?Sized),
    log: u64,
    old: u64,
    size: u64,
) -> Result<Vec<Digest>, Unproved> {
    let steps = Steps::consistency(old, size).ok_or(Unproved::NotSealed)?;
    let tiles = store.tiles(log, &steps.tiles(), size).await?;
    Ok(steps.of(&tiles)?)
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Found {
    /// An event is another one than was sealed.
    Changed {
        /// Whose.
        of: Of,
        /// Which.
        n: u64,
    },
    /// An event that was sealed is gone.
    Gone {
        /// Whose.
        of: Of,
        /// Which.
        n: u64,
    },
    /// An event neither is sealed nor waits for it: somebody took it away from there.
    NeverSealed {
        /// Whose.
        of: Of,
        /// Which.
        n: u64,
    },
    /// A leaf is missing.
    LeafMissing {
        /// Where.
        place: u64,
    },
    /// The stored tree is not what the leaves make.
    TreeDiffers {
        /// Over so many leaves.
        size: u64,
    },
    /// An act of the register does not follow the one before it, or is none.
    Unlinked {
        /// Which.
        n: u64,
    },
    /// The line that an act is a copy of says something else now.
    LineChanged {
        /// Which act.
        n: u64,
        /// Which log.
        source: String,
        /// Which line of it.
        line: u64,
    },
    /// The line that an act is a copy of is gone.
    LineGone {
        /// Which act.
        n: u64,
        /// Which log.
        source: String,
        /// Which line of it.
        line: u64,
    },
    /// A line came into the register long after the moment that it names.
    LineLate {
        /// Which act.
        n: u64,
        /// Which log.
        source: String,
        /// Which line of it.
        line: u64,
        /// When it says that it was done.
        at: Timestamp,
        /// When it came.
        entered: Timestamp,
    },
    /// A line names a moment of long ago and is not in the register.
    NotEntered {
        /// Which log.
        source: String,
        /// Which line of it.
        line: u64,
    },
    /// A grant lets calls in, or is taken back, and neither an application nor the register says who gave or took it.
    GrantUnsaid {
        /// Which.
        grant: GrantId,
    },
    /// What the register says was granted, taken back or stopped does not stand so in the node's store.
    Undone {
        /// In words.
        what: String,
    },
}

/// Every event against what was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How far the sealing had come.
    pub tree: Tree,
    /// The root that the leaves make.
    pub root: Digest,
    /// At most [`FOUND_MAX`].
    pub found: Vec<Found>,
}

/// How much of what a check finds is listed.
pub const FOUND_MAX: usize = 1_000;

/// Holds every event against what was sealed, and the tree against its leaves.
///
/// # Errors
/// [`StoreError`].
pub async fn check(store: &(impl Seals + ?Sized)) -> Result<Checked, StoreError> {
    let tree = store.tree().await?;
    let (mut grown, mut found) = (Growing::default(), Vec::new());
    while grown.size() < tree.size {
        let page = store.leaves(tree.log, grown.size(), SEAL_MAX).await?;
        if page.first().is_none_or(|(leaf, _)| leaf.place != grown.size()) {
            found.push(Found::LeafMissing { place: grown.size() });
            break;
        }
        for (leaf, now) in page {
            if leaf.place != grown.size() || leaf.place >= tree.size {
                break;
            }
            grown.push(&leaf.link.0);
            let Leaf { of, n, .. } = leaf;
            match now {
                _ if found.len() >= FOUND_MAX => {}
                None => found.push(Found::Gone { of, n }),
                Some(link) if link != leaf.link => found.push(Found::Changed { of, n }),
                Some(_) => {}
            }
        }
    }
    let stored = match root(store, tree.log, tree.size).await {
        Ok(root) => Some(root),
        Err(Unproved::Store(error)) => return Err(error),
        Err(_) => None,
    };
    if stored != Some(grown.root()) {
        found.push(Found::TreeDiffers { size: tree.size });
    }
    let room = u32::try_from(FOUND_MAX.saturating_sub(found.len())).unwrap_or(0);
    let never = store.never_sealed(room).await?;
    found.extend(never.into_iter().map(|(of, n)| Found::NeverSealed { of, n }));
    Ok(Checked { tree, root: grown.root(), found })
}
