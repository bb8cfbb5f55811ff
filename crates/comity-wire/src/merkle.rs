//! RFC 6962 §2 (RFC 9162 §2.1) Merkle trees over SHA-256: the history of a lane.
//!
//! A node keeps only the [`Frontier`]: the roots of the complete subtrees, at most 64 digests. Leaves are receipt ids.

use crate::digest::Digest;

/// The root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

pub fn leaf(data: &Digest) -> Digest {
    Digest::of_parts(&[&[0], data.as_bytes()])
}

fn node(left: &Digest, right: &Digest) -> Digest {
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

/// The proof that the tree of the first `old` leaves is a prefix of the tree of all (RFC 6962 §2.1.2).
pub fn consistency_proof(receipts: &[Digest], old: usize) -> Vec<Digest> {
    fn walk(leaves: &[Digest], old: usize, whole: bool, proof: &mut Vec<Digest>) {
        if old == leaves.len() {
            if !whole {
                proof.push(root(leaves));
            }
            return;
        }
        let k = split(leaves.len());
        if old <= k {
            walk(&leaves[..k], old, whole, proof);
            proof.push(root(&leaves[k..]));
        } else {
            walk(&leaves[k..], old - k, false, proof);
            proof.push(root(&leaves[..k]));
        }
    }
    let mut proof = Vec::new();
    if old > 0 && old < receipts.len() {
        walk(receipts, old, true, &mut proof);
    }
    proof
}

/// Checks a consistency proof (RFC 9162 §2.1.4.2). From the empty tree everything follows, by an empty proof.
pub fn is_consistent(old: u64, old_root: &Digest, new: u64, new_root: &Digest, proof: &[Digest]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut path = proof.iter();
    let (mut fn_, mut sn) = (old - 1, new - 1);
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let seed = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(seed) = seed else { return false };
    let (mut fr, mut sr) = (*seed, *seed);
    for c in path {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            fr = node(c, &fr);
            sr = node(c, &sr);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            sr = node(&sr, c);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && fr == *old_root && sr == *new_root
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
    fn every_prefix_is_proved_and_no_other() {
        let all = leaves(33);
        for new in 0..=all.len() {
            for old in 0..=new {
                let (a, b) = (root(&all[..old]), root(&all[..new]));
                let proof = consistency_proof(&all[..new], old);
                assert!(is_consistent(old as u64, &a, new as u64, &b, &proof), "{old} {new}");
                if old > 0 {
                    let forged = Digest::of(b"another past");
                    assert!(!is_consistent(old as u64, &forged, new as u64, &b, &proof), "{old} {new}");
                }
            }
        }
    }
}
