//! Which receipts a claim is asked for: drawn by the log's checkpoint that came after it, so that nobody knew them when it was
//! made, and everybody can draw them again.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::Digest;

use super::LaneKey;

/// Where the draw begins: the root of the first checkpoint in which the claim is seen, and the claim's content id.
pub fn seed(root: &Digest, claim: &Digest) -> Digest {
    Digest::of_parts(&[b"comity/challenge/v1", root.as_bytes(), claim.as_bytes()])
}

/// Whether this claim is one of the `one_in` that are asked about; 0: none is.
pub fn is_drawn(seed: &Digest, one_in: u32) -> bool {
    one_in != 0 && number(seed, 0).is_multiple_of(u64::from(one_in))
}

/// At most `count` receipts of those that the claim brings: of each lane the numbers above `.0`, up to `.1`.
pub fn receipts(seed: &Digest, lanes: &BTreeMap<LaneKey, (u64, u64)>, count: u64) -> BTreeMap<LaneKey, BTreeSet<u64>> {
    let new = |(from, to): (u64, u64)| to.saturating_sub(from);
    let all: u64 = lanes.values().map(|span| new(*span)).fold(0, u64::saturating_add);
    let mut drawn: BTreeMap<LaneKey, BTreeSet<u64>> = BTreeMap::new();
    if all == 0 {
        return drawn;
    }
    for turn in 1..=count.min(all) {
        let mut place = if count < all { number(seed, turn) % all } else { turn - 1 };
        for (key, span) in lanes {
            if place < new(*span) {
                drawn.entry(*key).or_default().insert(span.0 + 1 + place);
                break;
            }
            place -= new(*span);
        }
    }
    drawn
}

/// The `turn`th number of a draw.
fn number(seed: &Digest, turn: u64) -> u64 {
    let digest = Digest::of_parts(&[seed.as_bytes(), &turn.to_be_bytes()]);
    u64::from_be_bytes(digest.0[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> BTreeMap<LaneKey, (u64, u64)> {
        let key = |lane| LaneKey { leaf: Digest::of(b"leaf"), lane };
        [(key(0), (10, 1_000)), (key(1), (0, 10)), (key(2), (7, 7))].into()
    }

    #[test]
    fn what_is_drawn_is_new_and_is_drawn_again() {
        let mut often: BTreeMap<u16, usize> = BTreeMap::new();
        for turn in 0..200_u32 {
            let seed = seed(&Digest::of(&turn.to_be_bytes()), &Digest::of(b"claim"));
            let drawn = receipts(&seed, &lanes(), 5);
            assert_eq!(drawn, receipts(&seed, &lanes(), 5));
            for (key, numbers) in &drawn {
                let (from, to) = lanes()[key];
                assert!(numbers.iter().all(|n| (from + 1..=to).contains(n)), "{numbers:?}");
                *often.entry(key.lane).or_default() += numbers.len();
            }
        }
        // 990 of 1,000 lie in the first lane, 10 in the second, none in the third.
        assert!(often[&0] > 950 && (1..40).contains(&often[&1]) && !often.contains_key(&2), "{often:?}");
    }

    #[test]
    fn where_there_are_few_all_are_drawn() {
        let few = receipts(&Digest::ZERO, &lanes(), 2_000);
        assert_eq!(few.values().map(BTreeSet::len).sum::<usize>(), 1_000);
        assert!(receipts(&Digest::ZERO, &BTreeMap::new(), 4).is_empty());
    }

    #[test]
    fn one_claim_in_so_many_is_drawn() {
        let seeds: Vec<Digest> = (0..4_000_u32).map(|at| Digest::of(&at.to_be_bytes())).collect();
        let drawn = |one_in| seeds.iter().filter(|seed| is_drawn(seed, one_in)).count();
        assert_eq!((drawn(0), drawn(1)), (0, 4_000));
        assert!((180..320).contains(&drawn(16)), "{}", drawn(16));
    }
}
