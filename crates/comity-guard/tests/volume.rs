//! What volume promises: the declared purpose decides, a restart forgets nothing, counts add up whoever counted, and all of
//! it is bounded.

use std::collections::BTreeMap;

use comity_guard::volume::{ADVISED_MAX, Advice, Alarm, Counted, DELTAS_MAX, Delta, Limits, Print, Seen, Volume, Why};
use comity_guard::{Band, Category};
use comity_wire::Timestamp;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_790_000_000);
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const POLITICAL: Counted = Counted::Flags(Category::PoliticalPersuasion);

fn volume() -> Volume {
    Volume::new(Limits::builtin())
}

fn seen<'a>(project: &'a str, purposes: &'a [&'a str], political: u32) -> Seen<'a> {
    Seen { project, purposes, flags: [political, 0, 0, 0, 0], print: None, biased: &[] }
}

/// `count` flagged calls in a row, a second apart.
fn calls(volume: &mut Volume, from: Timestamp, count: u64, project: &str, purposes: &[&str]) -> Vec<Alarm> {
    (0..count).flat_map(|at| volume.observe(from.plus(at), &seen(project, purposes, 1))).collect()
}

fn rows(deltas: &[Delta], project: &str) -> Vec<(Counted, u32, u64)> {
    let of = deltas.iter().filter(|delta| delta.project == project);
    of.map(|delta| (delta.counted, delta.hour, u64::from(delta.count))).collect()
}

#[test]
fn five_hundred_campaign_lines_are_flagged_under_biology_and_not_under_political_science() {
    let alarms = calls(&mut volume(), NOW, 500, "p1", &["biology"]);
    let [alarm] = alarms[..] else { panic!("told once: {alarms:?}") };
    assert_eq!((alarm.why, alarm.counted, alarm.count, alarm.bound), (Why::Purpose, POLITICAL, 201, 200));
    assert_eq!((alarm.band, alarm.counted.category()), (Band::Medium, Category::PoliticalPersuasion));
    assert_eq!(calls(&mut volume(), NOW, 500, "p1", &["biology", "political_science"]), []);
    assert_eq!(calls(&mut volume(), NOW, 500, "p1", &[]).len(), 1, "who declared nothing explained nothing");
    // Each project by itself.
    let mut both = volume();
    assert_eq!(calls(&mut both, NOW, 150, "p1", &["biology"]), []);
    assert_eq!(calls(&mut both, NOW.plus(200), 150, "p2", &["biology"]), []);
}

#[test]
fn more_than_anyone_may_is_flagged_whatever_the_purpose_and_stands_until_it_is_old() {
    let mut volume = volume();
    let purposes = ["political_science"];
    let alarms = calls(&mut volume, NOW, 5_100, "p", &purposes);
    assert_eq!(alarms.iter().map(|alarm| alarm.why).collect::<Vec<_>>(), [Why::Daily]);
    let at = NOW.plus(5_100);
    assert_eq!(volume.standing("p", &purposes, at).len(), 1);
    assert_eq!(volume.standing("p", &purposes, at.plus(22 * HOUR)).len(), 1);
    assert_eq!(volume.standing("p", &purposes, at.plus(25 * HOUR)), []);
    assert_eq!(volume.standing("q", &purposes, at), []);
    // The next day it is told of again.
    assert_eq!(calls(&mut volume, NOW.plus(2 * DAY), 5_100, "p", &purposes).len(), 1);
}

#[test]
fn one_text_with_thousands_of_flags_counts_as_a_thousand() {
    let mut volume = volume();
    volume.observe(NOW, &seen("p", &[], 40_000));
    assert_eq!(volume.day("p", POLITICAL, NOW), 1_000);
}

#[test]
fn a_restart_forgets_no_count_and_two_processes_add_up() {
    let (mut one, mut other) = (volume(), volume());
    calls(&mut one, NOW, 150, "p", &[]);
    calls(&mut other, NOW.plus(30), 40, "p", &[]);
    let mut stored = one.take_deltas();
    stored.extend(other.take_deltas());
    assert_eq!(one.take_deltas(), [], "each is given once");
    let mut after = volume();
    let at = NOW.plus(HOUR);
    assert_eq!(after.knows("p"), None);
    after.restore("p", rows(&stored, "p"), at);
    assert_eq!((after.day("p", POLITICAL, at), after.knows("p")), (190, Some(at)));
    assert_eq!(calls(&mut after, at, 20, "p", &[]).len(), 1, "the eleventh of them is the 201st of the day");
    // What was counted and not yet written stands beside what the store has.
    after.restore("p", rows(&stored, "p"), at);
    assert_eq!(after.day("p", POLITICAL, at), 210);
    // A store that did not take them gives them back.
    let deltas = after.take_deltas();
    after.put_back(deltas.clone());
    assert_eq!(after.take_deltas(), deltas);
}

#[test]
fn far_more_than_in_the_weeks_before_is_unusual() {
    let mut volume = volume();
    let usual = |day: u64| 4 + day % 3;
    for day in 0..20 {
        assert_eq!(calls(&mut volume, NOW.plus(day * DAY), usual(day), "p", &[]), [], "day {day}");
    }
    let today = NOW.plus(21 * DAY);
    assert_eq!(calls(&mut volume, today, 19, "p", &[]), [], "too few to speak of");
    let alarms = calls(&mut volume, today.plus(60), 40, "p", &[]);
    let unusual: Vec<_> = alarms.iter().filter(|alarm| alarm.why == Why::Unusual).collect();
    assert!(matches!(unusual[..], [Alarm { count: 20, bound: 4..=6, .. }]), "{alarms:?}");
    // Where the purpose explains it, a busy day is a busy day.
    let mut explained = Volume::new(Limits::builtin());
    for day in 0..20 {
        calls(&mut explained, NOW.plus(day * DAY), usual(day), "p", &["elections"]);
    }
    assert_eq!(calls(&mut explained, today, 100, "p", &["elections"]), []);
    // Without a week of history nothing is unusual.
    let mut young = Volume::new(Limits::builtin());
    calls(&mut young, NOW, 4, "p", &[]);
    assert_eq!(calls(&mut young, NOW.plus(DAY / 2), 100, "p", &[]), []);
}

#[test]
fn a_burst_within_an_hour_is_flagged() {
    let mut volume = volume();
    for hour in 0..60 {
        assert_eq!(calls(&mut volume, NOW.plus(hour * HOUR), 2, "p", &[]), []);
    }
    let alarms = calls(&mut volume, NOW.plus(61 * HOUR), 90, "p", &[]);
    assert!(alarms.iter().any(|alarm| alarm.why == Why::Burst), "{alarms:?}");
}

fn prompt(volume: &mut Volume, at: u64, text: &str, purposes: &[&str]) -> Vec<Alarm> {
    let print = Some(Print::of(text));
    volume.observe(NOW.plus(at), &Seen { project: "p", purposes, flags: [0; 5], print, biased: &[] })
}

#[test]
fn a_series_of_one_template_is_seen_and_expected_of_a_benchmark() {
    let ask = |number: u64| {
        format!("What is the colour of item{number} in the catalogue of shop{}? Give one word.", number * 7)
    };
    let (mut plain, mut benchmark) = (volume(), volume());
    let mut alarms = Vec::new();
    for number in 0..2_100 {
        alarms.extend(prompt(&mut plain, number, &ask(number), &["biology"]));
        assert_eq!(prompt(&mut benchmark, number, &ask(number), &["benchmark"]), []);
    }
    let templated = alarms.iter().find(|alarm| alarm.counted == Counted::Templated).expect("seen");
    assert_eq!((templated.why, templated.counted.category()), (Why::Purpose, Category::ExtractionProbe));
    // The same prompt again is a sample, and talk is no template.
    let mut samples = volume();
    for number in 0..500 {
        prompt(&mut samples, number, &ask(1), &[]);
    }
    assert_eq!(samples.day("p", Counted::Templated, NOW.plus(500)), 0);
    assert_eq!(samples.day("p", Counted::NearDuplicate, NOW.plus(500)), 0);
}

#[test]
fn prompts_that_hardly_differ_are_counted() {
    let mut volume = volume();
    let base = "Here is a long passage about the tides in the northern bay, the boats that wait for them, the keeper of the \
                lock who writes down the hour of each, and the children who run along the wall to see the water come in. ";
    for number in 0..50 {
        prompt(
            &mut volume,
            number,
            &format!("{base}Variant {}.", ["one", "two", "red", "blue", "last"][number as usize % 5]),
            &[],
        );
    }
    // Five texts; the first of them is like none before, and the others come again.
    let near = volume.day("p", Counted::NearDuplicate, NOW.plus(50));
    assert!((4..=49).contains(&near), "{near}");
}

#[test]
fn a_sweep_of_biases_is_counted_by_tokens_not_by_calls() {
    let mut volume = volume();
    let mut sweep = |from: u32, at: u64| {
        let biased: Vec<u32> = (from..from + 10).collect();
        volume.observe(
            NOW.plus(at),
            &Seen { project: "p", purposes: &["biology"], flags: [0; 5], print: None, biased: &biased },
        )
    };
    for call in 0..200 {
        assert_eq!(sweep(0, call), [], "ten words kept out of every answer are no sweep");
    }
    let alarms: Vec<Alarm> = (0..60).flat_map(|call| sweep(call * 10, 300 + u64::from(call))).collect();
    assert!(matches!(alarms[..], [Alarm { why: Why::Purpose, counted: Counted::BiasedTokens, .. }]), "{alarms:?}");
}

#[test]
fn projects_and_deltas_are_bounded_and_the_one_seen_longest_ago_goes() {
    let mut volume = Volume::bounded(Limits::builtin(), 3);
    for (at, project) in ["a", "b", "c", "a", "d"].into_iter().enumerate() {
        volume.observe(NOW.plus(at as u64), &seen(project, &[], 1));
    }
    let at = NOW.plus(10);
    assert_eq!(volume.projects(), 3);
    assert_eq!(["a", "b", "c", "d"].map(|project| volume.day(project, POLITICAL, at)), [2, 0, 1, 1]);
    // Its counts are not lost: they wait for the store, and come back from there.
    let deltas = volume.take_deltas();
    volume.restore("b", rows(&deltas, "b"), at);
    assert_eq!(volume.day("b", POLITICAL, at), 1);
    for number in 0..DELTAS_MAX + 10 {
        volume.observe(NOW, &seen(&format!("x{number}"), &[], 2));
    }
    assert_eq!((volume.take_deltas().len(), volume.lost()), (DELTAS_MAX, 20));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A list of all calls is the oracle, through restarts and two processes.
    #[test]
    fn a_day_is_the_sum_of_its_hours(
        steps in prop::collection::vec((0_u64..6 * HOUR, 0_usize..2, 0_u32..5, 0_usize..3, any::<bool>()), 1..120),
    ) {
        let mut processes = [volume(), volume()];
        let mut store: BTreeMap<(String, Counted, u32), u64> = BTreeMap::new();
        let mut all: Vec<(u64, usize, u32)> = Vec::new();
        let mut now = NOW;
        for (wait, process, count, project, is_restart) in steps {
            now = now.plus(wait);
            let name = ["a", "b", "c"][project];
            processes[process].observe(now, &seen(name, &[], count));
            all.push((now.0 / HOUR, project, count));
            for delta in processes.iter_mut().flat_map(Volume::take_deltas) {
                *store.entry((delta.project, delta.counted, delta.hour)).or_default() += u64::from(delta.count);
            }
            for process in &mut processes {
                if is_restart {
                    *process = volume();
                }
                for name in ["a", "b", "c"] {
                    let of = store.iter().filter(|((of, ..), _)| of == name);
                    process.restore(name, of.map(|((_, counted, hour), count)| (*counted, *hour, *count)).collect::<Vec<_>>(), now);
                }
            }
            for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
                let hour = now.0 / HOUR;
                let sum: u64 = all
                    .iter()
                    .filter(|(at, of, _)| *of == number && *at + 24 > hour)
                    .map(|(.., count)| u64::from(*count))
                    .sum();
                for process in &processes {
                    prop_assert_eq!(process.day(name, POLITICAL, now), sum);
                }
            }
        }
    }
}

#[test]
fn what_a_house_tells_stands_until_it_is_old_and_is_told_of_with_the_next_flag() {
    let mut volume = volume();
    let advice = Advice {
        category: Category::PoliticalPersuasion,
        count: 400,
        bound: 200,
        band: Band::Medium,
        until: NOW.plus(DAY),
    };
    volume.advise(BTreeMap::from([("p".to_owned(), vec![advice])]));
    // Also of a project that was never seen here.
    let standing = volume.standing("p", &["biology"], NOW);
    assert_eq!(standing, [advice.alarm(NOW).expect("it is news")]);
    assert_eq!(volume.standing("q", &["biology"], NOW), []);
    // A call without such a flag is not a part of it; the first that has one is told of, once a day.
    assert_eq!(volume.observe(NOW, &seen("p", &["biology"], 0)), []);
    let told = calls(&mut volume, NOW, 3, "p", &["biology"]);
    assert_eq!(told.iter().map(|alarm| (alarm.why, alarm.count)).collect::<Vec<_>>(), [(Why::Spread, 400)]);
    assert_eq!(volume.standing("p", &["biology"], NOW.plus(DAY)), []);
    // What is told later stands in its place, and no more projects are kept than there is room for.
    volume.advise((0..ADVISED_MAX + 9).map(|at| (format!("p{at:05}"), vec![advice])).collect());
    assert_eq!(volume.advised().count(), ADVISED_MAX);
    assert_eq!(volume.standing("p", &["biology"], NOW), []);
}
