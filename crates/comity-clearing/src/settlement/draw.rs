//! Which receipts a claim is asked for: drawn by the log's checkpoint that came after it, so that nobody knew them when it was
//! made, and everybody can draw them again.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::{Amount, Digest};

use super::LaneKey;

/// Where the draw begins: the root of the first checkpoint in which the claim is seen, and the claim's content id.
pub fn seed(root: &Digest, claim: &Digest) -> Digest {
    Digest::of_parts(&[b"comity/challenge/v1", root.as_bytes(), claim.as_bytes()])
}

/// As [`seed`], with a signature of the house's in it, which nobody else can make beforehand: when a tail is asked for, its node might else
/// wait for a checkpoint that suits it.
pub fn blind_seed(root: &Digest, claim: &Digest, blind: &[u8; 64]) -> Digest {
    Digest::of_parts(&[b"comity/challenge/v1", root.as_bytes(), claim.as_bytes(), blind])
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

/// What of a tail is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfTail {
    /// Receipts, by their numbers.
    pub numbers: BTreeSet<u64>,
    /// µcr of the lane's total: the receipts that charge them.
    pub amounts: BTreeSet<u64>,
}

/// Of a tail's receipts above `receipts.0`, up to `receipts.1`, all; where there are more than `count`, those that charge so many of
/// the µcr above `amounts.0`, up to `amounts.1`, which are what would be paid: so what is made up is met by as much as it takes, in one
/// receipt or in many.
pub fn tail(seed: &Digest, receipts: (u64, u64), amounts: (Amount, Amount), count: u64) -> OfTail {
    let mut asked = OfTail::default();
    if receipts.1.saturating_sub(receipts.0) <= count {
        asked.numbers.extend(receipts.0 + 1..=receipts.1);
        return asked;
    }
    let (from, upto) = (amounts.0.ucr().unsigned_abs(), amounts.1.ucr().unsigned_abs());
    let all = upto.saturating_sub(from);
    if all > 0 {
        asked.amounts.extend((1..=count).map(|turn| from + 1 + number(seed, turn) % all));
    }
    asked
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
    fn a_short_tail_is_asked_for_whole_and_a_long_one_by_what_it_charges() {
        let ucr = Amount::from_ucr;
        let seed = Digest::of(b"seed");
        let short = tail(&seed, (10, 74), (ucr(5), ucr(500)), 64);
        assert_eq!((short.numbers.len(), short.amounts.len()), (64, 0));
        assert!(short.numbers.first() == Some(&11) && short.numbers.last() == Some(&74));
        let long = tail(&seed, (10, 75), (ucr(5), ucr(1_000_005)), 64);
        assert!(long.numbers.is_empty() && (60..=64).contains(&long.amounts.len()), "{}", long.amounts.len());
        assert!(long.amounts.iter().all(|at| (6..=1_000_005).contains(at)));
        assert_eq!(long, tail(&seed, (10, 75), (ucr(5), ucr(1_000_005)), 64));
        // One receipt of a thousand that takes a tenth of it is met all but one time in a thousand.
        let made_up = |at: &u64| (450_005..550_005).contains(at);
        let met = |seed: Digest| tail(&seed, (0, 1_000), (ucr(5), ucr(1_000_005)), 64).amounts.iter().any(made_up);
        let missed = (0..4_000_u32).filter(|at| !met(Digest::of(&at.to_be_bytes()))).count();
        assert!(missed < 20, "{missed} of 4,000");
        assert_eq!(tail(&seed, (0, 100), (ucr(5), ucr(5)), 64), OfTail::default(), "nothing would be paid");
        // All of few.
        assert!(tail(&seed, (0, 100), (ucr(0), ucr(2)), 64).amounts.iter().all(|at| [1, 2].contains(at)));
    }

    #[test]
    fn one_claim_in_so_many_is_drawn() {
        let seeds: Vec<Digest> = (0..4_000_u32).map(|at| Digest::of(&at.to_be_bytes())).collect();
        let drawn = |one_in| seeds.iter().filter(|seed| is_drawn(seed, one_in)).count();
        assert_eq!((drawn(0), drawn(1)), (0, 4_000));
        assert!((180..320).contains(&drawn(16)), "{}", drawn(16));
    }
}
