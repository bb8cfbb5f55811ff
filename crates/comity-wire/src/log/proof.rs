//! Proofs (RFC 6962 §2.1.1, §2.1.2): that an entry is in a tree, that a tree goes on from an earlier one.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{TileError, TileId, Tiles, tile::split, tiles_of};
use crate::digest::Digest;
use crate::merkle;

/// Steps of a proof: a tree has at most 2⁶³ leaves.
pub const PROOF_STEPS_MAX: usize = 63;

/// The subtrees whose hashes make a proof, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<Range<u64>>);

impl Steps {
    /// Of the proof that entry `at` is in the tree of `size`; `None` where it cannot be.
    pub fn inclusion(at: u64, size: u64) -> Option<Self> {
        if at >= size {
            return None;
        }
        let (mut steps, mut within) = (Vec::new(), 0..size);
        while within.end - within.start > 1 {
            let middle = within.start + split(within.end - within.start);
            if at < middle {
                steps.push(middle..within.end);
                within.end = middle;
            } else {
                steps.push(within.start..middle);
                within.start = middle;
            }
        }
        steps.reverse();
        Some(Self(steps))
    }

    /// Of the proof that the tree of `size` begins with the tree of `old`; empty where nothing needs to be shown.
    pub fn consistency(old: u64, size: u64) -> Option<Self> {
        if old > size {
            return None;
        }
        if old == 0 || old == size {
            return Some(Self(Vec::new()));
        }
        let (mut steps, mut within, mut is_whole) = (Vec::new(), 0..size, true);
        while old != within.end {
            let middle = within.start + split(within.end - within.start);
            if old <= middle {
                steps.push(middle..within.end);
                within.end = middle;
            } else {
                steps.push(within.start..middle);
                within.start = middle;
                is_whole = false;
            }
        }
        if !is_whole {
            steps.push(within);
        }
        steps.reverse();
        Some(Self(steps))
    }

    /// The tiles that they take.
    pub fn tiles(&self) -> BTreeSet<TileId> {
        self.0.iter().cloned().flat_map(tiles_of).collect()
    }

    /// The proof, out of those tiles.
    ///
    /// # Errors
    /// [`TileError::Missing`].
    pub fn of(&self, tiles: &Tiles) -> Result<Vec<Digest>, TileError> {
        self.0.iter().cloned().map(|range| tiles.root(range)).collect()
    }
}

/// Whether `leaf`, the hash of an entry, is number `at` in the tree of `size` under `root` (RFC 9162 §2.1.3.2).
pub fn includes(leaf: Digest, at: u64, size: u64, root: &Digest, proof: &[Digest]) -> bool {
    if at >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (at, size - 1, leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = merkle::node(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = merkle::node(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the tree of `size` under `root` begins with the one of `old` under `before` (RFC 9162 §2.1.4.2).
pub fn goes_on(old: u64, before: &Digest, size: u64, root: &Digest, proof: &[Digest]) -> bool {
    match old {
        _ if old > size => return false,
        0 => return proof.is_empty() && *before == merkle::empty_root(),
        _ if old == size => return proof.is_empty() && before == root,
        _ => {}
    }
    // The old tree is one complete subtree: its root is the first step, and is left out.
    let mut steps = old.is_power_of_two().then_some(before).into_iter().chain(proof);
    let Some(first) = steps.next() else { return false };
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut was, mut is) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            was = merkle::node(step, &was);
            is = merkle::node(step, &is);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            is = merkle::node(&is, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && was == *before && is == *root
}

#[cfg(test)]
mod tests {
    use super::super::Growing;
    use super::*;

    fn grown(size: u64) -> (Tiles, Vec<Digest>) {
        let (mut tree, mut tiles, mut roots) = (Growing::default(), Tiles::default(), vec![merkle::empty_root()]);
        for at in 0..size {
            tree.push(&at.to_be_bytes());
            roots.push(tree.root());
        }
        for (tile, bytes) in tree.changed() {
            tiles.insert(tile, tile.width_at(size), &bytes).unwrap();
        }
        (tiles, roots)
    }

    #[test]
    fn every_entry_is_proved_in_every_tree_and_nothing_else_is() {
        let (tiles, roots) = grown(300);
        let leaf = |at: u64| merkle::leaf_of(&at.to_be_bytes());
        for size in [1, 2, 3, 7, 8, 255, 256, 257, 300_u64] {
            let root = &roots[usize::try_from(size).unwrap()];
            for at in (0..size).step_by(if size > 8 { 37 } else { 1 }).chain([size - 1]) {
                let steps = Steps::inclusion(at, size).unwrap();
                let proof = steps.of(&tiles).unwrap();
                assert!(includes(leaf(at), at, size, root, &proof), "{at} of {size}");
                assert!(!includes(leaf(at + 1), at, size, root, &proof), "{at} of {size}: another entry");
                assert!(!includes(leaf(at), at, size, &roots[0], &proof), "{at} of {size}: another root");
                assert!(!includes(leaf(at), at + 1, size, root, &proof), "{at} of {size}: another place");
                assert!(
                    !includes(leaf(at), at, size, root, &[&proof[..], &[Digest::ZERO]].concat()),
                    "a step too many"
                );
                if !proof.is_empty() {
                    assert!(!includes(leaf(at), at, size, root, &proof[1..]), "{at} of {size}: a step is missing");
                }
            }
        }
        assert!(Steps::inclusion(3, 3).is_none() && Steps::inclusion(0, 0).is_none());
    }

    #[test]
    fn a_tree_goes_on_from_each_that_it_was_and_from_no_other() {
        let (tiles, roots) = grown(520);
        let root = |size: u64| &roots[usize::try_from(size).unwrap()];
        for size in [0, 1, 2, 3, 6, 8, 9, 256, 257, 300, 511, 512, 520_u64] {
            for old in
                [0, 1, 2, 3, 4, 6, 7, 8, 255, 256, 257, 299, 512, 519, size].into_iter().filter(|old| *old <= size)
            {
                let proof = Steps::consistency(old, size).unwrap().of(&tiles).unwrap();
                assert!(goes_on(old, root(old), size, root(size), &proof), "{old} in {size}");
                let forged = Digest::of(b"another");
                assert!(!goes_on(old, &forged, size, root(size), &proof), "{old} in {size}: another past");
                assert!(
                    old == 0 || !goes_on(old, root(old), size, &forged, &proof),
                    "{old} in {size}: another present"
                );
                assert!(
                    !goes_on(old, root(old), size, root(size), &[&proof[..], &[forged]].concat()),
                    "a step too many"
                );
                if !proof.is_empty() {
                    assert!(
                        !goes_on(old, root(old), size, root(size), &proof[1..]),
                        "{old} in {size}: a step is missing"
                    );
                    let mut bent = proof.clone();
                    bent[0] = forged;
                    assert!(!goes_on(old, root(old), size, root(size), &bent), "{old} in {size}: a bent step");
                }
            }
        }
        assert!(Steps::consistency(4, 3).is_none());
        assert!(!goes_on(4, root(4), 3, root(3), &[]));
    }
}
