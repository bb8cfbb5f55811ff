//! Money: never more than a day has, nor the lot; more where more hangs on it; nothing where none is left.

use std::collections::BTreeMap;

use comity_probe::{Checker, Program, Purse, Settings};
use comity_wire::Amount;
use comity_wire::time::DAY_S;

use super::owner::{FIRST_DAY, Owner, door, secret};

fn house(seed: u64, day_max: u32, lot: u32) -> Program {
    let purse = Purse::new(Amount::from_ucr(day_max), Amount::from_ucr(lot));
    let mut program = Program::new(secret(seed), Settings::default(), purse);
    for number in 1..=4 {
        program.add(door(number, number), Checker::default()).unwrap();
    }
    program
}

/// Plays ten days with four owners; gives what each day and each door cost.
fn spend(program: &mut Program, seed: u64, day_max: u32, lot: u32) -> (BTreeMap<u64, i64>, BTreeMap<usize, i64>) {
    let owners: Vec<Owner> = (0..4).map(|owner| Owner::honest(seed + owner, 0.0, true)).collect();
    let mut chance = secret(seed).chance("owners", 0);
    let (mut by_day, mut by_door, mut number) = (BTreeMap::<u64, i64>::new(), BTreeMap::<usize, i64>::new(), 0);
    for day in FIRST_DAY..FIRST_DAY + 10 {
        let plan = program.plan(day);
        assert_eq!(plan, program.plan(day), "the same secret plans the same");
        let mut open = Vec::new();
        for ask in plan {
            let Ok(held) = program.hold(ask.at, &ask) else { continue };
            number += 1;
            let seen = owners[ask.door].answer(&ask, number, &mut chance);
            *by_day.entry(ask.at.seconds() / DAY_S).or_default() += seen.bill.charge.ucr();
            *by_door.entry(ask.door).or_default() += seen.bill.charge.ucr();
            open.push((ask, held, seen));
            // Some calls are open while others begin; some end without an answer, and cost what was held.
            if open.len() > 5 {
                let (ask, held, seen) = open.remove(0);
                program.observe(ask.at, &ask, held, &seen);
            }
        }
        for (ask, held, seen) in open {
            program.observe(ask.at, &ask, held, &seen);
        }
    }
    assert!(by_day.values().all(|spent| *spent <= i64::from(day_max)), "{by_day:?}");
    let all: i64 = by_day.values().sum();
    assert!(all <= i64::from(lot) && program.purse().lot().ucr() == i64::from(lot) - all, "{all} of {lot}");
    (by_day, by_door)
}

#[test]
fn no_day_and_no_lot_is_ever_overspent() {
    for seed in 0..8 {
        for (day_max, lot) in
            [(100_000, 10_000_000), (20_000, 10_000_000), (20_000, 4_000), (4_000, 10_000), (0, 5_000)]
        {
            let (by_day, _) = spend(&mut house(seed, day_max, lot), seed, day_max, lot);
            if day_max == 20_000 && lot == 4_000 {
                assert!(by_day.len() < 10, "the lot was to end: {by_day:?}");
            }
        }
    }
}

#[test]
fn more_is_asked_where_more_hangs_on_it() {
    let mut sums = [0_i64; 4];
    for seed in 0..10 {
        let (_, by_door) = spend(&mut house(seed, 12_000, 10_000_000), seed, 12_000, 10_000_000);
        by_door.iter().for_each(|(door, spent)| sums[*door] += spent);
    }
    println!("spent by risk 1 to 4: {sums:?}");
    assert!(sums.windows(2).all(|pair| pair[0] < pair[1]), "{sums:?}");
}

#[test]
fn what_is_held_is_no_longer_there_for_others() {
    let mut purse = Purse::new(Amount::from_ucr(100), Amount::from_ucr(150));
    purse.hold(1, Amount::from_ucr(80)).unwrap();
    assert!(purse.hold(1, Amount::from_ucr(30)).is_err(), "the day has 20 left");
    assert!(purse.hold(2, Amount::from_ucr(80)).is_err(), "the lot has 70 left");
    purse.settle(1, Amount::from_ucr(80), Amount::from_ucr(10));
    assert_eq!(
        (purse.spent(1), purse.lot(), purse.left(1)),
        (Amount::from_ucr(10), Amount::from_ucr(140), Amount::from_ucr(90))
    );
}

/// A house that plans its day again and again, as one that is restarted all the time does, spends no more than one that does not.
#[test]
fn a_day_that_is_planned_again_has_what_was_left() {
    let (mut program, owner) = (house(3, 4_000, 1_000_000), Owner::honest(3, 0.0, true));
    let (mut chance, mut spent, mut number) = (secret(3).chance("owner", 0), 0, 0);
    for _ in 0..60 {
        for ask in program.plan(FIRST_DAY).into_iter().filter(|ask| ask.at.seconds() / DAY_S == FIRST_DAY) {
            let Ok(held) = program.hold(ask.at, &ask) else { continue };
            number += 1;
            let seen = owner.answer(&ask, number, &mut chance);
            spent += seen.bill.charge.ucr();
            program.observe(ask.at, &ask, held, &seen);
        }
    }
    assert!((500..=4_000).contains(&spent), "{spent}");
    assert_eq!(program.purse().spent(FIRST_DAY).ucr(), spent);
}
