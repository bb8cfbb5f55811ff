//! Which settlements an auditor looks at (spec/10-log.md §8): drawn from the log by a seed that the auditor chose, so that whoever has
//! a copy of the log draws the same ones again. Pure.

use std::collections::BTreeSet;

use comity_ledger::{Posted, TransferKind};
use comity_wire::log::Entry;
use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// Items of one sample.
pub const ITEMS_MAX: usize = 1_000;
/// Bytes of a seed.
pub const SEED_MAX: usize = 256;

/// What was asked for, and what was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    pub seed: String,
    /// How many were asked for.
    pub n: usize,
    /// Settlements posted from this moment on, up to and without the next one; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The checkpoint of the log that it was drawn from, as it was signed.
    pub checkpoint: String,
    pub size: u64,
    pub root: Digest,
    /// How many settlements there are.
    pub population: u64,
    /// Their places in the log, in the order in which they were drawn; all of them, where there are no more than `n`.
    pub items: Vec<u64>,
}

/// The settlement that an entry of the log is, if it is one of that time.
pub fn settlement(entry: &[u8], from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Posted> {
    let Ok(Entry::Transfer(said)) = Entry::from_bytes(entry) else { return None };
    let posted = Posted::from_bytes(&said.bytes.0)?;
    let is_settlement = matches!(posted.transfer.kind, TransferKind::Settle | TransferKind::SuspenseSettle);
    let in_time = from.is_none_or(|from| posted.posted_at >= from) && to.is_none_or(|to| posted.posted_at < to);
    (is_settlement && in_time).then_some(posted)
}

/// Up to `n` places among `population`, none twice, in the order in which they are drawn.
pub fn drawn(root: &Digest, seed: &str, population: u64, n: usize) -> Vec<u64> {
    if population <= n as u64 {
        return (0..population).collect();
    }
    let start = Digest::of_parts(&[b"comity/audit-sample/v1", root.as_bytes(), seed.as_bytes()]);
    let (mut places, mut seen) = (Vec::with_capacity(n), BTreeSet::new());
    for turn in 1_u64.. {
        if places.len() == n {
            break;
        }
        let digest = Digest::of_parts(&[start.as_bytes(), &turn.to_be_bytes()]);
        let place = u64::from_be_bytes(digest.0[..8].try_into().expect("8 of 32 bytes")) % population;
        if seen.insert(place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_drawn_again_and_each_place_is_drawn_once() {
        let root = Digest::of(b"root");
        let places = drawn(&root, "2027-A", 1_000, 60);
        assert_eq!(places.len(), 60);
        assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), 60);
        assert!(places.iter().all(|place| *place < 1_000));
        assert_eq!(places, drawn(&root, "2027-A", 1_000, 60));
        assert_ne!(places, drawn(&root, "2027-B", 1_000, 60));
        assert_ne!(places, drawn(&Digest::of(b"another"), "2027-A", 1_000, 60));
        // Asking for more draws the same ones first.
        assert_eq!(places[..], drawn(&root, "2027-A", 1_000, 90)[..60]);
        assert_eq!(drawn(&root, "x", 3, 60), [0, 1, 2]);
        assert_eq!(drawn(&root, "x", 60, 60).len(), 60);
        assert!(drawn(&root, "x", 0, 60).is_empty());
    }

    #[test]
    fn every_place_comes_as_often_as_any_other() {
        let mut often = [0_u32; 20];
        for turn in 0..2_000_u32 {
            for place in drawn(&Digest::of(&turn.to_be_bytes()), "seed", 20, 5) {
                often[usize::try_from(place).unwrap()] += 1;
            }
        }
        assert!(often.iter().all(|count| (400..600).contains(count)), "{often:?}");
    }
}
