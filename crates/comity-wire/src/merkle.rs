//! RFC 6962 §2 (RFC 9162 §2.1) Merkle trees over SHA-256: the history of a lane; and what the clearing house's log
//! ([`crate::log`]) shares with it.
//!
//! A node keeps only the [`Frontier`]: the roots of the complete subtrees, at most 64 digests. Leaves are receipt ids.

use crate::digest::Digest;

/// The root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

pub fn leaf(data: &Digest) -> Digest {
    leaf_of(data.as_bytes())
}

/// The hash of a leaf whose data is of any length.
pub fn leaf_of(data: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], data])
}

pub(crate) fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The roots of the complete subtrees of a growing tree, largest first: one for each 1 bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Digest>,
}

impl Frontier {
    /// `None` where the number of roots does not fit the size.
    pub fn from_parts(size: u64, roots: Vec<Digest>) -> Option<Self> {
        (size.count_ones() as usize == roots.len()).then_some(Self { size, roots })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn roots(&self) -> &[Digest] {
        &self.roots
    }

    pub fn push(&mut self, receipt: &Digest) {
        let mut carry = leaf(receipt);
        for _ in 0..self.size.trailing_ones() {
            let left = self.roots.pop().expect("one root for each 1 bit of the size");
            carry = node(&left, &carry);
        }
        self.roots.push(carry);
        self.size += 1;
    }

    pub fn root(&self) -> Digest {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else { return empty_root() };
        roots.fold(*first, |right, left| node(left, &right))
    }
}

/// The tree's root over all leaves, by definition. For tests, audits and proofs; a lane uses [`Frontier`].
pub fn root(receipts: &[Digest]) -> Digest {
    match receipts {
        [] => empty_root(),
        [one] => leaf(one),
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The largest power of two below `size`.
fn split(size: usize) -> usize {
    1 << (usize::BITS - 1 - (size - 1).leading_zeros())
}

/// The path from the leaf at place `at`, counted from 0, up to the root (RFC 6962 §2.1.1); empty where there is no such
/// leaf.
pub fn inclusion_proof(receipts: &[Digest], at: usize) -> Vec<Digest> {
    fn walk(leaves: &[Digest], at: usize, path: &mut Vec<Digest>) {
        if leaves.len() < 2 {
            return;
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        if at < left.len() {
            walk(left, at, path);
            path.push(root(right));
        } else {
            walk(right, at - left.len(), path);
            path.push(root(left));
        }
    }
    let mut path = Vec::new();
    if at < receipts.len() {
        walk(receipts, at, &mut path);
    }
    path
}

/// Whether the tree of `size` leaves under `root` begins with the `at` leaves under `before`, and `receipt` after them.
///
/// One inclusion path (RFC 9162 §2.1.3.2) shows both: the siblings on its left are the complete subtrees of the first
/// `at` leaves, so that they fold to `before` as a [`Frontier`] does.
pub fn continues(at: u64, before: &Digest, receipt: &Digest, size: u64, root: &Digest, path: &[Digest]) -> bool {
    if at >= size {
        return false;
    }
    let (mut fn_, mut sn) = (at, size - 1);
    let (mut right, mut left) = (leaf(receipt), None);
    for sibling in path {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            left = Some(left.map_or(*sibling, |left| node(sibling, &left)));
            right = node(sibling, &right);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            right = node(&right, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && right == *root && left.unwrap_or_else(empty_root) == *before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|i| Digest::of(&i.to_be_bytes())).collect()
    }

    #[test]
    fn a_frontier_has_the_root_of_the_whole_tree() {
        let all = leaves(70);
        let mut frontier = Frontier::default();
        for size in 0..all.len() {
            assert_eq!(frontier.root(), root(&all[..size]), "size {size}");
            frontier.push(&all[size]);
        }
    }

    #[test]
    fn every_receipt_is_proved_with_what_lies_before_it_and_no_other() {
        let all = leaves(33);
        let forged = Digest::of(b"another past");
        for size in 1..=all.len() {
            let whole = root(&all[..size]);
            for at in 0..size {
                let (before, receipt) = (root(&all[..at]), all[at]);
                let path = inclusion_proof(&all[..size], at);
                let holds = |at: usize, before: &Digest, receipt: &Digest, size: usize, path: &[Digest]| {
                    continues(at as u64, before, receipt, size as u64, &whole, path)
                };
                assert!(holds(at, &before, &receipt, size, &path), "{at} of {size}");
                assert!(!holds(at, &forged, &receipt, size, &path), "{at} of {size}: before");
                assert!(!holds(at, &before, &forged, size, &path), "{at} of {size}: receipt");
                assert!(!holds(at, &before, &receipt, at, &path), "{at} of {size}: a tree that is too small");
                assert!(!holds(at, &before, &receipt, size, &[&path[..], &[forged]].concat()), "{at} of {size}: long");
                for other in (0..size).filter(|other| *other != at) {
                    assert!(!holds(other, &root(&all[..other]), &receipt, size, &path), "{at} of {size} at {other}");
                }
                for step in 0..path.len() {
                    let mut bent = path.clone();
                    bent[step] = forged;
                    assert!(!holds(at, &before, &receipt, size, &bent), "{at} of {size}: step {step}");
                    bent.remove(step);
                    assert!(!holds(at, &before, &receipt, size, &bent), "{at} of {size}: without step {step}");
                }
            }
        }
        assert!(inclusion_proof(&all, 33).is_empty() && inclusion_proof(&[], 0).is_empty());
    }
}
