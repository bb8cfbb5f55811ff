//! That what an owner decided cannot be decided anew unseen (spec/11-access.md §11.9): the newest event of a log is under a head of the
//! node, and the head is in the house's log; and since when each event stands there.

use std::collections::BTreeMap;

use bytes::Bytes;
use comity_token::Directory as _;
use comity_wire::api::clearing::LogInclusion;
use comity_wire::api::decisions::{ActProof, DecisionProof, FirstHead, Logged, STEPS_MAX, Since};
use comity_wire::log::{Checkpoint, Entry, LogDecisions, Note, VerifierKey, includes};
use comity_wire::object::{AnchorRole, DecisionHead};
use comity_wire::{Digest, ModelId, NodeId, OrgId, PublicKey, Signed, Timestamp, Verified, merkle};
use http::Method;

use super::{Client, Error};
use crate::discover::percent;

/// What an owner's log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Application,
    Case,
}

/// An event that was found under a head.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Which event; those before it are under the same head, by its link.
    pub n: u64,
    pub head: Verified<DecisionHead>,
    /// In the log of this profile's house; `None` where the owner names none, and so vouches alone.
    pub logged: Option<InLog>,
    /// Whether the federation has a house at all.
    pub has_house: bool,
    /// For each event up to `n` the first head over it that the house has in its log: whatever was decided was decided by then. Empty
    /// where `logged` is `None`.
    pub since: Vec<SealedBy>,
}

/// When an event was under a head that the house logged.
#[derive(Clone, Debug)]
pub struct SealedBy {
    /// Which event.
    pub n: u64,
    /// The head's number.
    pub head: u64,
    /// Which of the node's logs; it may have ended since.
    pub log: u64,
    /// When the head was signed; houses take none that is older than an hour.
    pub at: Timestamp,
    /// The head's entry in the house's log.
    pub index: u64,
}

/// A head's entry in a house's log.
#[derive(Clone, Debug)]
pub struct InLog {
    pub index: u64,
    /// The tree that it was shown in.
    pub checkpoint: Checkpoint,
    /// Whether the checkpoint is signed by the key that the caller named; without one nobody but the house says so.
    pub is_signed: bool,
}

/// Why an event is not proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotSealed {
    #[error(transparent)]
    Call(#[from] Error),
    #[error("the proof is of event {n}, which the log does not have as it says: the log was rewritten")]
    Rewritten { n: u64 },
    #[error("the head is not this node's word")]
    Head(#[source] comity_wire::Unverified),
    #[error("the head is another node's")]
    OfAnother,
    #[error("the path does not lead to the head's root")]
    Path,
    #[error("the owner does not show since when event {n} stands in the house's log")]
    NoSince { n: u64 },
    #[error("entry {index} of the house's log is not this head")]
    Entry { index: u64 },
    #[error("the house's checkpoint does not stand: {0}")]
    Checkpoint(String),
    #[error("the house does not show that entry {index} is in its log")]
    Inclusion { index: u64 },
}

impl Client {
    /// Asks the owner for the proof of an application's or a case's newest sealed event, and since when each event is, and verifies both
    /// against the links that the caller has of that log, by event. `log_key` is the house's, as its operator publishes it.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub async fn sealed(
        &self,
        model: &ModelId,
        (log, id): (Log, &str),
        link_of: impl Fn(u64) -> Option<Digest>,
        log_key: Option<&VerifierKey>,
    ) -> Result<Sealed, NotSealed> {
        let node = self.node_of(model).await?;
        let root = match log {
            Log::Application => "/comity/v1/access/applications",
            Log::Case => "/comity/v1/access/cases",
        };
        let roster = self.seen.directory.roster();
        let house = roster.anchors_of(AnchorRole::House).next().map(|anchor| anchor.org);
        let path = |from: u64| {
            let house = house.map(|house| format!("&house={house}")).unwrap_or_default();
            format!("{root}/{}/proof?from={from}{house}", percent(id))
        };
        let proof: DecisionProof = self.apply(node, model, Method::GET, &path(1), Bytes::new()).await?;
        let certificate = self.seen.directory.certificate(node).ok_or(Error::Missing("the node's certificate"))?;
        let keys: Vec<_> = certificate.receipt_keys.iter().map(|entry| entry.key).collect();
        let head = under_head(&proof, node, &keys, &link_of)?;
        let (n, Some(index)) = (proof.n, index_at(&proof.logged, house)) else {
            return Ok(Sealed { n: proof.n, head, logged: None, has_house: house.is_some(), since: Vec::new() });
        };
        let logged = self.in_log(index, (&head, head.id()), log_key).await?;
        let mut firsts = Firsts { node, house, heads: BTreeMap::new() };
        let (mut since, mut page, mut from) = (Vec::new(), proof, 1);
        loop {
            for head in std::mem::take(&mut page.heads) {
                let Some((first, content, index)) = firsts.read(&head)? else { continue };
                self.in_log(index, (&first, content), log_key).await?;
                firsts.heads.insert(first.n, (first, index));
            }
            for event in &page.since {
                since.push(firsts.under(event, &link_of)?);
            }
            match page.next.filter(|next| *next > from && *next <= n) {
                Some(next) => from = next,
                None => break,
            }
            page = self.apply(node, model, Method::GET, &path(from), Bytes::new()).await?;
        }
        each_has_one(n, &since)?;
        Ok(Sealed { n, head, logged: Some(logged), has_house: true, since })
    }

    /// Verifies one act of an owner's register as the owner handed it over: that it is under a head of that node, which this profile's
    /// house has in its log, and since when.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub async fn act_sealed(&self, act: &ActProof, log_key: Option<&VerifierKey>) -> Result<Sealed, NotSealed> {
        let ActProof { node, text, proof } = act;
        let (node, n, link) = (*node, proof.n, act_link(text));
        let link_of = |asked: u64| (asked == n).then_some(link);
        let roster = self.seen.directory.roster();
        let house = roster.anchors_of(AnchorRole::House).next().map(|anchor| anchor.org);
        if self.certificate(node).is_err() {
            Box::pin(self.refresh_node(node)).await?;
        }
        let certificate = self.certificate(node)?;
        let keys: Vec<_> = certificate.receipt_keys.iter().map(|entry| entry.key).collect();
        let head = under_head(proof, node, &keys, link_of)?;
        let Some(index) = index_at(&proof.logged, house) else {
            return Ok(Sealed { n, head, logged: None, has_house: house.is_some(), since: Vec::new() });
        };
        let logged = self.in_log(index, (&head, head.id()), log_key).await?;
        let mut firsts = Firsts { node, house, heads: BTreeMap::new() };
        for shown in &proof.heads {
            let Some((first, content, index)) = firsts.read(shown)? else { continue };
            self.in_log(index, (&first, content), log_key).await?;
            firsts.heads.insert(first.n, (first, index));
        }
        let since = proof.since.iter().map(|event| firsts.under(event, link_of)).collect::<Result<Vec<_>, _>>()?;
        if since.len() != 1 {
            return Err(NotSealed::NoSince { n });
        }
        Ok(Sealed { n, head, logged: Some(logged), has_house: true, since })
    }

    async fn in_log(
        &self,
        index: u64,
        head: (&DecisionHead, Digest),
        key: Option<&VerifierKey>,
    ) -> Result<InLog, NotSealed> {
        let shown: LogInclusion = self.house_get(&format!("/v1/log/inclusion?index={index}")).await?;
        in_tree(index, &shown, head, key)
    }
}

/// The link of an act of an owner's register.
pub fn act_link(text: &str) -> Digest {
    Digest::of_parts(&[b"comity/v1/operator-act\0", text.as_bytes()])
}

fn index_at(logged: &[Logged], house: Option<OrgId>) -> Option<u64> {
    logged.iter().find(|logged| Some(logged.house) == house).map(|logged| logged.index)
}

/// First heads over events, by number. That the node signed one is the house's word, whose entry names its content: the receipt keys of long
/// ago stand in no certificate.
struct Firsts {
    node: NodeId,
    house: Option<OrgId>,
    heads: BTreeMap<u64, (DecisionHead, u64)>,
}

impl Firsts {
    /// A head of this node that is not known yet, its content id, and its place in the house's log.
    fn read(&self, shown: &FirstHead) -> Result<Option<(DecisionHead, Digest, u64)>, NotSealed> {
        let signed = Signed::<DecisionHead>::decode(&shown.head).map_err(NotSealed::Head)?;
        let head = signed.unverified().clone();
        if head.node != self.node {
            return Err(NotSealed::OfAnother);
        }
        let index = index_at(&shown.logged, self.house).filter(|_| !self.heads.contains_key(&head.n));
        Ok(index.map(|index| (head, signed.id(), index)))
    }

    fn under(
        &self,
        Since { n, link, head, leaf, path }: &Since,
        link_of: impl Fn(u64) -> Option<Digest>,
    ) -> Result<SealedBy, NotSealed> {
        if link_of(*n) != Some(*link) {
            return Err(NotSealed::Rewritten { n: *n });
        }
        let (first, index) = self.heads.get(head).ok_or(NotSealed::NoSince { n: *n })?;
        let data = merkle::leaf(link);
        if path.len() > STEPS_MAX || !includes(data, *leaf, first.size, &first.root, path) {
            return Err(NotSealed::Path);
        }
        Ok(SealedBy { n: *n, head: *head, log: first.log, at: first.at, index: *index })
    }
}

/// Each event up to `n`, once and in order.
fn each_has_one(n: u64, since: &[SealedBy]) -> Result<(), NotSealed> {
    let missing = (1..=n).zip(since.iter().map(|one| Some(one.n)).chain(std::iter::repeat(None)));
    match missing.into_iter().find(|(expected, shown)| Some(*expected) != *shown) {
        Some((n, _)) => Err(NotSealed::NoSince { n }),
        None => Ok(()),
    }
}

/// The head that an event is under.
fn under_head(
    proof: &DecisionProof,
    node: NodeId,
    keys: &[PublicKey],
    link_of: impl Fn(u64) -> Option<Digest>,
) -> Result<Verified<DecisionHead>, NotSealed> {
    if link_of(proof.n) != Some(proof.link) {
        return Err(NotSealed::Rewritten { n: proof.n });
    }
    let head = Signed::<DecisionHead>::decode(&proof.head).and_then(|head| head.verify_any(keys));
    let head = head.map_err(NotSealed::Head)?;
    if head.node != node {
        return Err(NotSealed::OfAnother);
    }
    let leaf = merkle::leaf(&proof.link);
    if proof.path.len() > STEPS_MAX || !includes(leaf, proof.leaf, head.size, &head.root, &proof.path) {
        return Err(NotSealed::Path);
    }
    Ok(head)
}

/// A head's place in the tree that a house has signed.
fn in_tree(
    index: u64,
    shown: &LogInclusion,
    (head, content): (&DecisionHead, Digest),
    key: Option<&VerifierKey>,
) -> Result<InLog, NotSealed> {
    let expected = LogDecisions { node: head.node, n: head.n, log: head.log, content };
    if Entry::from_bytes(&shown.entry).ok() != Some(Entry::Decisions(expected)) {
        return Err(NotSealed::Entry { index });
    }
    let note = Note::parse(shown.checkpoint.as_bytes()).map_err(|error| NotSealed::Checkpoint(error.to_string()))?;
    let checkpoint = match key {
        Some(key) => note.verify(key).map_err(|error| NotSealed::Checkpoint(error.to_string()))?,
        None => Checkpoint::parse(note.text()).map_err(|error| NotSealed::Checkpoint(error.to_string()))?,
    };
    let leaf = merkle::leaf_of(&shown.entry);
    let Checkpoint { size, root, .. } = &checkpoint;
    if shown.proof.len() > STEPS_MAX || !includes(leaf, index, *size, root, &shown.proof) {
        return Err(NotSealed::Inclusion { index });
    }
    Ok(InLog { index, checkpoint, is_signed: key.is_some() })
}

#[cfg(test)]
mod tests {
    use comity_wire::api::clearing::SignedBytes;
    use comity_wire::cbor::Bytes;
    use comity_wire::log::{Growing, KeyUse, Steps, Tiles};
    use comity_wire::{Encode as _, SecretKey, Timestamp, cose};

    use super::*;

    const NODE: NodeId = NodeId([1; 16]);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn path(tree: &Growing, at: u64) -> Vec<Digest> {
        let steps = Steps::inclusion(at, tree.size()).expect("a leaf");
        let mut tiles = Tiles::default();
        for tile in steps.tiles() {
            tiles.insert(tile, tile.width_at(tree.size()), &tree.tile(tile)).expect("a tile");
        }
        steps.of(&tiles).expect("whole tiles")
    }

    fn link(n: u64) -> Option<Digest> {
        (1..=5).contains(&n).then(|| Digest::of(&n.to_be_bytes()))
    }

    /// Five events, of which the fourth is proved; signed by the node's key.
    fn proof() -> (DecisionProof, DecisionHead) {
        let mut tree = Growing::default();
        (1..=5).for_each(|n| tree.push(&link(n).expect("an event").0));
        let head = DecisionHead { node: NODE, n: 7, log: 1, size: 5, root: tree.root(), at: Timestamp(9) };
        let (link, path) = (link(4).expect("an event"), path(&tree, 3));
        let (logged, since, heads, next) = (vec![], vec![], vec![], None);
        (DecisionProof { head: signed(&head, 1), n: 4, link, leaf: 3, path, logged, since, heads, next }, head)
    }

    fn signed(head: &DecisionHead, by: u8) -> SignedBytes {
        SignedBytes::new(cose::sign(head, &key(by)).bytes()).expect("a head")
    }

    #[test]
    fn an_event_is_under_a_head_of_this_node_or_nothing_is_proved() {
        let keys = [key(1).public()];
        let judged = |proof: &DecisionProof| under_head(proof, NODE, &keys, link).map(|head| head.n);
        let (whole, head) = proof();
        assert_eq!(judged(&whole).expect("it holds"), 7);
        let refused = |change: fn(&mut DecisionProof, &DecisionHead)| {
            let mut proof = whole.clone();
            change(&mut proof, &head);
            judged(&proof).expect_err("it does not hold")
        };
        assert!(matches!(refused(|proof, _| proof.n = 3), NotSealed::Rewritten { n: 3 }));
        assert!(matches!(refused(|proof, _| proof.link = Digest::ZERO), NotSealed::Rewritten { n: 4 }));
        assert!(matches!(refused(|proof, _| proof.leaf = 2), NotSealed::Path));
        assert!(matches!(refused(|proof, _| proof.path[0] = Digest::ZERO), NotSealed::Path));
        assert!(matches!(refused(|proof, _| proof.path = vec![Digest::ZERO; 65]), NotSealed::Path));
        let other = |proof: &mut DecisionProof, head: &DecisionHead| proof.head = signed(head, 2);
        assert!(matches!(refused(other), NotSealed::Head(_)));
        let elsewhere = |proof: &mut DecisionProof, head: &DecisionHead| {
            proof.head = signed(&DecisionHead { node: NodeId([2; 16]), ..head.clone() }, 1);
        };
        assert!(matches!(refused(elsewhere), NotSealed::OfAnother));
        let smaller = |proof: &mut DecisionProof, head: &DecisionHead| {
            proof.head = signed(&DecisionHead { size: 4, ..head.clone() }, 1);
        };
        assert!(matches!(refused(smaller), NotSealed::Path));
    }

    #[test]
    fn since_when_an_event_stands_is_shown_for_each_or_nothing_is_proved() {
        let house = OrgId([3; 16]);
        let mut tree = Growing::default();
        (1..=3).for_each(|n| tree.push(&link(n).expect("an event").0));
        let head = DecisionHead { node: NODE, n: 2, log: 1, size: 3, root: tree.root(), at: Timestamp(9) };
        let mut firsts = Firsts { node: NODE, house: Some(house), heads: BTreeMap::new() };
        let at = |house, head: &DecisionHead, by| FirstHead {
            head: signed(head, by),
            logged: vec![Logged { house, index: 40 }],
        };
        // By whichever key: the house's entry names the content. In another house's log it is nothing here.
        let (first, content, index) = firsts.read(&at(house, &head, 5)).expect("it is one").expect("it is logged");
        assert_eq!((&first, content, index), (&head, cose::sign(&head, &key(5)).id(), 40));
        assert!(firsts.read(&at(OrgId([4; 16]), &head, 1)).expect("it is one").is_none());
        let elsewhere = DecisionHead { node: NodeId([2; 16]), ..head.clone() };
        assert!(matches!(firsts.read(&at(house, &elsewhere, 1)), Err(NotSealed::OfAnother)));
        firsts.heads.insert(2, (first, index));
        let since =
            |n: u64| Since { n, link: link(n).expect("an event"), head: 2, leaf: n - 1, path: path(&tree, n - 1) };
        let by = firsts.under(&since(2), link).expect("it is under it");
        assert_eq!((by.n, by.head, by.log, by.at, by.index), (2, 2, 1, Timestamp(9), 40));
        assert!(matches!(firsts.under(&Since { leaf: 0, ..since(2) }, link), Err(NotSealed::Path)));
        assert!(matches!(firsts.under(&Since { head: 3, ..since(2) }, link), Err(NotSealed::NoSince { n: 2 })));
        assert!(matches!(firsts.under(&Since { n: 3, ..since(2) }, link), Err(NotSealed::Rewritten { n: 3 })));
        let all: Vec<_> = (1..=3).map(|n| firsts.under(&since(n), link).expect("it is under it")).collect();
        each_has_one(3, &all).expect("each has");
        for (n, shown) in [(4, &all[..]), (1, &[]), (2, &[all[0].clone(), all[2].clone()]), (1, &all[1..])] {
            let missing = each_has_one(n.max(3), shown);
            assert!(matches!(missing, Err(NotSealed::NoSince { n: which }) if which == n), "{n} {missing:?}");
        }
    }

    #[test]
    fn a_head_is_in_the_tree_that_the_house_has_signed_or_it_is_not_logged() {
        let head = cose::sign(&proof().1, &key(1));
        let said = |n| LogDecisions { node: NODE, n, log: 1, content: head.id() };
        let entries = [Entry::Decisions(said(6)).to_cbor(), Entry::Decisions(said(7)).to_cbor(), vec![7; 40]];
        let mut tree = Growing::default();
        entries.iter().for_each(|entry| tree.push(entry));
        let log = VerifierKey::new("comity/house/log/1", KeyUse::Log, key(3).public()).expect("a key");
        let checkpoint = Checkpoint { origin: "comity/house/log/1".into(), size: 3, root: tree.root() };
        let shown = |at: usize| LogInclusion {
            index: at as u64,
            size: 3,
            root: tree.root(),
            entry: Bytes::new(entries[at].clone()).expect("an entry"),
            said: serde_json::Value::Null,
            proof: path(&tree, at as u64),
            checkpoint: Note::sign(&checkpoint, &key(3)).expect("a note").to_string(),
        };
        let head = (&*head, head.id());
        let found = in_tree(1, &shown(1), head, Some(&log)).expect("it is there");
        assert!(found.is_signed && found.index == 1);
        assert!(!in_tree(1, &shown(1), head, None).expect("the house says so").is_signed);
        // Another head's entry; the right one elsewhere; another tree; another key.
        assert!(matches!(in_tree(0, &shown(0), head, Some(&log)), Err(NotSealed::Entry { index: 0 })));
        assert!(matches!(in_tree(0, &shown(1), head, Some(&log)), Err(NotSealed::Inclusion { index: 0 })));
        let mut cut = shown(1);
        cut.proof.pop();
        assert!(matches!(in_tree(1, &cut, head, Some(&log)), Err(NotSealed::Inclusion { .. })));
        let other = VerifierKey::new("comity/house/log/1", KeyUse::Log, key(4).public()).expect("a key");
        assert!(matches!(in_tree(1, &shown(1), head, Some(&other)), Err(NotSealed::Checkpoint(_))));
    }
}
