use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const OWNER: OrgId = OrgId([1; 16]);
const OTHER: OrgId = OrgId([2; 16]);
const CHAT: Purpose<'static> = Purpose { owner: OWNER, ops: &[Op::Chat] };

fn ucr(amount: u32) -> Amount {
    Amount::from_ucr(amount)
}

fn lot(id: u8, balance: u32, ends_in: u64) -> Lot {
    Lot {
        id: LotId([id; 16]),
        project: ProjectId([0; 16]),
        award: AwardId([id; 16]),
        award_number: format!("A-{id}"),
        opens_at: NOW.minus(100),
        ends_at: NOW.plus(ends_in),
        released: true,
        frozen: false,
        owners: Vec::new(),
        ops: Vec::new(),
        balance: ucr(balance),
    }
}

fn taken(drawn: &Drawn) -> Vec<(u8, i64)> {
    drawn.draws.iter().map(|draw| (draw.lot.0[0], draw.amount.ucr())).collect()
}

#[test]
fn restricted_lots_are_drawn_first_then_what_ends_earliest() {
    let mut lots = vec![lot(1, 100, 5_000), lot(2, 100, 3_000), lot(3, 10, 9_000), lot(4, 10, 8_000)];
    lots[2].owners = vec![OWNER];
    lots[3].ops = vec![Op::Chat, Op::Embeddings];
    let drawn = draw(&mut lots, ucr(150), CHAT, NOW).unwrap();
    assert_eq!(taken(&drawn), [(4, 10), (3, 10), (2, 100), (1, 30)]);
    assert_eq!(drawn.ends_at, NOW.plus(3_000));
    assert_eq!(lots[0].balance, ucr(70));
}

#[test]
fn what_cannot_be_used_says_why() {
    let mut lots = (1..=6).map(|id| lot(id, 10, 5_000)).collect::<Vec<_>>();
    lots[0].frozen = true;
    lots[1].released = false;
    lots[2].opens_at = NOW.plus(1);
    lots[3].ends_at = NOW.plus(VALID_S_MIN - 1);
    lots[4].owners = vec![OTHER];
    lots[5].ops = vec![Op::Embeddings];
    let why = draw(&mut lots, ucr(1), CHAT, NOW).unwrap_err();
    assert_eq!(why.usable, Amount::ZERO);
    let mut reasons: Vec<_> = why.unusable.iter().map(|(id, _, _, why)| (id.0[0], *why)).collect();
    reasons.sort_by_key(|(id, _)| *id);
    let ended = Unusable::Ended { at: NOW.plus(VALID_S_MIN - 1) };
    let later = Unusable::OpensLater { at: NOW.plus(1) };
    let others = [Unusable::OtherOwner, Unusable::OtherOp { op: Op::Chat }];
    assert_eq!(
        reasons,
        [(1, Unusable::Frozen), (2, Unusable::AwaitsReport), (3, later), (4, ended), (5, others[0]), (6, others[1])]
    );
    // One op that a lot is not for keeps it from a token that could be used for it.
    let both = Purpose { owner: OWNER, ops: &[Op::Embeddings, Op::Chat] };
    assert!(lots[5].unusable(both, NOW).is_some());
    assert!(lots[5].unusable(Purpose { owner: OWNER, ops: &[Op::Embeddings] }, NOW).is_none());
}

#[test]
fn a_refused_reservation_takes_nothing() {
    let mut lots = vec![lot(1, 5, 5_000), lot(2, 5, 5_000)];
    let before = lots.clone();
    assert_eq!(draw(&mut lots, ucr(11), CHAT, NOW).unwrap_err().usable, ucr(10));
    assert_eq!(lots, before);
}

#[test]
fn charges_fall_in_the_order_of_drawing_and_refunds_go_back_in_the_other() {
    let mut lots = vec![lot(1, 10, 1_000), lot(2, 10, 2_000), lot(3, 10, 3_000)];
    let mut draws = draw(&mut lots, ucr(25), CHAT, NOW).unwrap().draws;
    assert_eq!(falls_on(&draws, ucr(12)), [(LotId([1; 16]), ucr(10)), (LotId([2; 16]), ucr(2))]);
    assert_eq!(give_back(&mut draws, ucr(8)).0, [(LotId([3; 16]), ucr(5)), (LotId([2; 16]), ucr(3))]);
    assert_eq!(give_back(&mut draws, ucr(5)), (vec![(LotId([2; 16]), ucr(5))], Amount::ZERO));
    // Of 25 are 13 home; a claim beyond the rest is suspense's, not a lot's.
    assert_eq!(falls_on(&draws, ucr(20)), [(LotId([1; 16]), ucr(10)), (LotId([2; 16]), ucr(2))]);
    assert_eq!(give_back(&mut draws, ucr(15)), (vec![(LotId([2; 16]), ucr(2)), (LotId([1; 16]), ucr(10))], ucr(3)));
}

proptest! {
    /// Whatever is drawn and comes home: nothing is made or lost, and each lot gets back no more than it gave. A lot's
    /// part of the charges and what it got back add up to what it gave.
    #[test]
    fn lots_are_conserved(balances in prop::collection::vec((0_u32..50, 100_u64..10_000, any::<bool>()), 1..8),
                          asked in 0_u32..200, paid in 0_u32..200) {
        let mut lots: Vec<Lot> = (1..).zip(&balances).map(|(id, (balance, ends, tied))| {
            let owners = if *tied { vec![OWNER] } else { Vec::new() };
            Lot { owners, ..lot(id, *balance, *ends) }
        }).collect();
        let sum = |lots: &[Lot]| lots.iter().map(|lot| lot.balance.ucr()).sum::<i64>();
        let before = sum(&lots);
        match draw(&mut lots, ucr(asked), CHAT, NOW) {
            Err(why) => {
                prop_assert!(before < i64::from(asked));
                prop_assert_eq!(why.usable.ucr(), before);
                prop_assert_eq!(sum(&lots), before);
            }
            Ok(mut drawn) => {
                prop_assert_eq!(sum(&lots) + i64::from(asked), before);
                let paid = paid.min(asked);
                let charged = falls_on(&drawn.draws, ucr(paid));
                let (home, left) = give_back(&mut drawn.draws, ucr(asked - paid));
                prop_assert!(left.is_zero());
                for draw in &drawn.draws {
                    let of = |list: &[(LotId, Amount)]| list.iter().filter(|(lot, _)| *lot == draw.lot).map(|(_, part)| part.ucr()).sum::<i64>();
                    prop_assert_eq!(of(&charged) + of(&home), draw.amount.ucr());
                    prop_assert_eq!(of(&home), draw.returned.ucr());
                }
            }
        }
    }
}
