//! Personas against projects: nothing that a node sees of single calls and their order tells them apart.

use std::collections::{BTreeMap, BTreeSet};

use comity_probe::{Ask, Habit, Kind, Origin, Pool, Program, Secret};
use comity_wire::Amount;

use super::owner::{FIRST_DAY, Owner, play, program, secret};

const DAYS: u64 = 30;

/// What a node sees of a call.
#[derive(Clone, Copy)]
struct Call {
    who: u32,
    at: u64,
    session: u64,
    bytes: usize,
    limit: u32,
    stream: bool,
}

/// What can be told from calls: by the name of the figure, its values.
fn figures(mut calls: Vec<Call>) -> BTreeMap<&'static str, Vec<f64>> {
    calls.sort_by_key(|call| (call.who, call.at));
    let mut figures = BTreeMap::<_, Vec<f64>>::new();
    let (mut sessions, mut days) = (BTreeMap::<_, f64>::new(), BTreeMap::<_, f64>::new());
    for call in &calls {
        figures.entry("hour of the day").or_default().push((call.at % 86_400) as f64);
        figures.entry("hour of the week").or_default().push((call.at % (7 * 86_400)) as f64);
        figures.entry("bytes of the prompt").or_default().push(call.bytes as f64);
        figures.entry("limit of the answer").or_default().push(f64::from(call.limit));
        *sessions.entry((call.who, call.session)).or_default() += 1.0;
        *days.entry((call.who, call.at / 86_400)).or_default() += 1.0;
    }
    for pair in calls.windows(2).filter(|pair| pair[0].who == pair[1].who) {
        figures.entry("gap to the call before").or_default().push((pair[1].at - pair[0].at) as f64);
    }
    let streams = calls.iter().fold(BTreeMap::<u32, (f64, f64)>::new(), |mut all, call| {
        let of = all.entry(call.who).or_default();
        *of = (of.0 + f64::from(u8::from(call.stream)), of.1 + 1.0);
        all
    });
    figures.insert("streams", streams.values().map(|(streams, all)| streams / all).collect());
    figures.insert("calls of a session", sessions.into_values().collect());
    figures.insert("calls of a day", days.into_values().collect());
    figures
}

/// The calls of blind personas at a door, of some houses, each with so much money a day.
fn personas(seeds: std::ops::Range<u64>, day_max: u32) -> Vec<Call> {
    let mut calls = Vec::new();
    for seed in seeds {
        let mut program = program(seed);
        program.purse_mut().renew(Amount::from_ucr(day_max), Amount::ZERO);
        let owner = Owner::honest(seed, 0.0, true);
        for day in FIRST_DAY..FIRST_DAY + DAYS {
            let plan: Vec<Ask> = program.plan(day);
            let call = |ask: &Ask| Call {
                who: ask.persona,
                at: ask.at.seconds(),
                session: day * 100 + u64::from(ask.session),
                bytes: ask.prompt.text.len(),
                limit: ask.prompt.max_tokens,
                stream: ask.stream,
            };
            calls.extend(plan.iter().filter(|ask| !ask.announced).map(call));
            play(&mut program, &owner, seed, day..day + 1, |_| false);
        }
    }
    calls
}

/// Projects of the house, straight from the habits: they know no budget, no baseline and no terms of office.
fn projects(count: u32) -> Vec<Call> {
    let (pool, secret) = (Pool::new(Secret::new([90; 32])), secret(424_242));
    let mut calls = Vec::new();
    for who in 0..count {
        let mut chance = secret.chance("project", u64::from(who));
        let habit = Habit::draw(&mut chance);
        for day in FIRST_DAY..FIRST_DAY + DAYS {
            for slot in habit.day(day, &mut chance) {
                let prompt = pool.prompt(Pool::draw(Origin::Secret, slot.kind, &mut chance));
                calls.push(Call {
                    who,
                    at: slot.at.seconds(),
                    session: day * 100 + u64::from(slot.session),
                    bytes: prompt.text.len(),
                    limit: prompt.max_tokens,
                    stream: slot.stream,
                });
            }
        }
    }
    calls
}

/// The largest distance of two distributions (Kolmogorov and Smirnov).
fn apart(a: &[f64], b: &[f64]) -> f64 {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut at, mut most) = (0, 0.0_f64);
    for (below, value) in b.iter().enumerate().filter(|(at, value)| b.get(at + 1) != Some(value)) {
        while a.get(at).is_some_and(|other| other <= value) {
            at += 1;
        }
        most = most.max((at as f64 / a.len() as f64 - (below + 1) as f64 / b.len() as f64).abs());
    }
    most
}

/// Calls of one project hang together, so a test that takes them for independent would see differences among honest ones.
/// The yardstick is therefore how far one set of honest projects lies from another of that size.
#[test]
fn personas_do_not_separate_from_projects() {
    let mine = figures(personas(0..6, 300_000));
    let honest: Vec<_> = projects(288).chunk_by(|a, b| a.who / 96 == b.who / 96).map(|c| figures(c.to_vec())).collect();
    for (name, values) in &mine {
        let theirs: Vec<f64> = honest.iter().flat_map(|figures| figures[name].clone()).collect();
        let found = apart(values, &theirs);
        let among = (0..3).map(|at| apart(&honest[at][name], &honest[(at + 1) % 3][name])).fold(0.0, f64::max);
        println!(
            "{name}: {} against {} values, {found:.3} apart; honest among themselves {among:.3}",
            values.len(),
            theirs.len()
        );
        assert!(found <= 1.5 * among + 0.02, "{name} tells personas from projects: {found:.3}, {among:.3}");
    }
}

/// Where money is short, sessions are fewer, and what is left looks as before.
#[test]
fn a_short_budget_leaves_sessions_out_and_shortens_none() {
    // The same personas with and without money, so that nothing but the budget differs.
    let (mine, theirs) = (figures(personas(0..6, 22_000)), figures(personas(0..6, 300_000)));
    let (calls, all) = (mine["hour of the day"].len(), theirs["hour of the day"].len());
    assert!(calls * 10 < all * 9, "{calls} of {all}: the budget was to be short");
    for name in ["hour of the day", "bytes of the prompt", "limit of the answer", "calls of a session"] {
        let found = apart(&mine[name], &theirs[name]);
        println!("{name}: {found:.3} apart");
        assert!(found <= 0.1, "{name}: {found:.3}");
    }
}

#[test]
fn no_prompt_gives_a_persona_away() {
    let mut program: Program = program(5);
    let owner = Owner::honest(5, 0.0, true);
    let mut seen = BTreeMap::<(u32, u32), u64>::new();
    let (mut sides, mut secret, mut all) = (BTreeMap::<u32, BTreeSet<bool>>::new(), 0, 0);
    for day in FIRST_DAY..FIRST_DAY + DAYS {
        for ask in program.plan(day) {
            assert_eq!(ask.announced, ask.prompt.origin == Origin::Public, "who asks listed prompts is listed");
            sides.entry(ask.persona).or_default().insert(ask.announced);
            let last = seen.insert((ask.persona, ask.prompt.number), day);
            assert!(
                ask.announced || last.is_none_or(|last| last == day || day >= last + 2),
                "asked again too soon, on days {last:?} and {day}"
            );
            secret += u32::from(!ask.announced);
            all += 1;
        }
        play(&mut program, &owner, 5, day..day + 1, |_| false);
    }
    assert!(sides.values().all(|sides| sides.len() == 1), "a persona is on one side");
    assert!(sides.len() > 8, "personas come and go: {}", sides.len());
    println!("{secret} of {all} calls with secret prompts");
    assert!((0.5..0.9).contains(&(f64::from(secret) / f64::from(all))));
    // Two kinds of prompts of one make.
    let pool = Pool::new(Secret::new([1; 32]));
    let mut chance = super::owner::secret(9).chance("sizes", 0);
    for kind in Kind::ALL {
        let mut bytes = |origin| -> Vec<f64> {
            (0..2_000).map(|_| pool.prompt(Pool::draw(origin, kind, &mut chance)).text.len() as f64).collect()
        };
        let (public, secret) = (bytes(Origin::Public), bytes(Origin::Secret));
        assert!(apart(&public, &secret) < 0.06, "{kind:?}: {}", apart(&public, &secret));
    }
}
