//! The money simulator: the real cores of wallet, gateway and clearing house under one seeded clock, and an adversary.
//!
//! No socket, no sleep, no clock of the machine. [`world`] plays a schedule; [`holder`], [`node`] and [`house`] are short
//! shells around `comity_sdk::wallet`, `comity_gateway::spend` and `comity_clearing::settlement` with the ledger's model,
//! which crash, are set back to backups, lie and collude; every object is signed and verified as it is in earnest.
//! [`truth`] keeps what really happened and holds the bounds of the design against it after each step. [`bugs`] is where
//! `comity-planted` puts its bugs, so that each bound is seen to fail.
//!
//! A schedule is named by its seed and number of steps, and plays the same way each time.
#![forbid(unsafe_code)]

mod around;
mod books;
pub mod bugs;
mod claims;
mod credits;
mod disputes;
mod federation;
mod forge;
mod holder;
mod house;
mod lies;
mod mandates;
mod net;
mod node;
mod truth;
mod world;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use bugs::{Bugs, Sound};
pub use truth::Violation;
use world::World;

/// Steps of a schedule where nobody says otherwise.
pub const STEPS: u32 = 90;

/// Schedules that failed once and are replayed for ever: seed and steps, one a line.
pub const KEPT: &str = include_str!("../kept.txt");

/// A schedule in which a bound did not hold.
#[derive(Clone, Debug)]
pub struct Failed {
    pub seed: u64,
    /// The shortest prefix that shows it.
    pub steps: u32,
    pub violation: Violation,
    pub trace: Vec<String>,
}

/// What schedules came to, together.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seeds: u64,
    pub steps: u64,
    pub failed: Vec<Failed>,
    /// The least that was left under each bound that is a sum.
    pub slack: BTreeMap<&'static str, i64>,
    /// How often each thing happened.
    pub met: BTreeMap<&'static str, u64>,
}

/// Failures that are kept of a campaign; it ends after them.
const FAILED_MAX: usize = 8;

impl Report {
    /// The least that was left under any bound.
    pub fn min_slack_ucr(&self) -> i64 {
        let ucr = self.slack.iter().filter(|(bound, _)| !bound.ends_with("(s)"));
        ucr.map(|(_, left)| *left).min().unwrap_or(i64::MAX)
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.failed.extend(other.failed);
        for (bound, left) in other.slack {
            let least = self.slack.entry(bound).or_insert(i64::MAX);
            *least = (*least).min(left);
        }
        for (what, times) in other.met {
            *self.met.entry(what).or_default() += times;
        }
    }
}

/// Plays one schedule.
pub fn play(seed: u64, steps: u32, bugs: &dyn Bugs) -> Report {
    let (world, violation) = once(seed, steps, bugs, false);
    let mut report = Report { seeds: 1, steps: u64::from(steps), ..Report::default() };
    report.slack.clone_from(world.truth.slack());
    report.met.clone_from(&world.truth.met);
    drop(world);
    if violation.is_some() {
        report.failed.push(shrunk(seed, steps, bugs));
    }
    report
}

/// Plays schedules `first` … on all processors.
pub fn campaign(first: u64, seeds: u64, steps: u32, bugs: &dyn Bugs) -> Report {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let whole = Mutex::new(Report::default());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut report = Report::default();
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds {
                        break;
                    }
                    report.add(play(first.wrapping_add(at), steps, bugs));
                    if report.failed.len() >= FAILED_MAX {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                whole.lock().expect("no panic while it is held").add(report);
            });
        }
    });
    whole.into_inner().expect("no panic while it was held")
}

/// The schedules of [`KEPT`].
pub fn kept(bugs: &dyn Bugs) -> Report {
    let mut report = Report::default();
    for line in KEPT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (seed, steps) = number().zip(number()).unwrap_or_else(|| panic!("`{line}` is not a seed and steps"));
        report.add(play(seed, u32::try_from(steps).expect("few steps"), bugs));
    }
    report
}

fn once(seed: u64, steps: u32, bugs: &dyn Bugs, traced: bool) -> (World<'_>, Option<Violation>) {
    std::sync::LazyLock::force(&federation::BASE);
    let mut world = World::new(seed, bugs, traced);
    // An assertion of a core is a bound too.
    let played = quietly(|| catch_unwind(AssertUnwindSafe(|| world.play(steps))));
    let violation = match played {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => Some(Violation { bound: "an assertion", what: message_of(&*panic) }),
    };
    (world, violation)
}

/// The shortest prefix of a schedule in which a bound is broken, played again with a trace.
fn shrunk(seed: u64, steps: u32, bugs: &dyn Bugs) -> Failed {
    let fails = |steps: u32| once(seed, steps, bugs, false).1.is_some();
    let least = (0..steps).find(|steps| fails(*steps)).unwrap_or(steps);
    let (world, violation) = once(seed, least, bugs, true);
    let unsteady = || Violation { bound: "a schedule plays the same way each time", what: String::new() };
    Failed { seed, steps: least, violation: violation.unwrap_or_else(unsteady), trace: world.net.trace() }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Runs without a panic's usual words on stderr: it is reported with its schedule.
fn quietly<T>(run: impl FnOnce() -> T) -> T {
    use std::cell::Cell;
    use std::sync::Once;
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let done = run();
    QUIET.set(false);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `cargo xtask test` plays.
    const SCHEDULES: u64 = 10_000;

    /// A campaign is worth nothing if it never met what it is about.
    const MET: &[&str] = &[
        "a break in the match",
        "a challenge that is answered",
        "a challenge that is missed",
        "a claim after the close",
        "a claim that does not verify",
        "a claim that is drawn from",
        "a credit note above what was paid",
        "a credit note again",
        "a credit note in a dispute",
        "a credit note that others would have to pay",
        "a credit note that waits",
        "a dispute",
        "a dispute that is reversed",
        "a dispute that is upheld",
        "a false final",
        "a fault in a receipt",
        "a final that contradicts",
        "a final that does not verify",
        "a forgery",
        "a holder acknowledges what is not",
        "a holder challenges",
        "a holder equivocates",
        "a holder that is set back",
        "a house that is closed",
        "a house that is set back",
        "a mandate that is drawn",
        "a mandate that is drawn for the day",
        "a mandate that is over",
        "a mandate that is taken back",
        "a message that is altered",
        "a message that is lost",
        "a node claims more than it charged",
        "a node claims what nobody asked for",
        "a node that dies after COMMIT",
        "a node that dies before COMMIT",
        "a node that is set back",
        "a node that meets its own newer receipt",
        "a reservation beyond the allocation",
        "a store that takes nothing",
        "a token on several lots",
        "a token that the books do not know",
        "an acknowledgement that does not verify",
        "an answer without its receipt",
        "an owner is paid",
        "another settled receipt",
        "answered from the store",
        "asked again",
        "clamped",
        "credits of a token that was paid out",
        "credits that are given back",
        "credits that cannot be used now",
        "drawn under a mandate",
        "late",
        "paid from escrow",
        "paid from suspense",
        "paid in full",
        "something is shown that proves nothing",
        "a tail that is shown by what it charges",
    ];

    fn check(report: &Report) {
        for failed in &report.failed {
            eprintln!("seed {} steps {}: {:?}", failed.seed, failed.steps, failed.violation);
            failed.trace.iter().for_each(|line| eprintln!("    {line}"));
        }
        assert!(report.failed.is_empty(), "{} schedules broke a bound", report.failed.len());
    }

    #[test]
    fn ten_thousand_schedules_keep_every_bound() {
        let report = campaign(1, SCHEDULES, STEPS, &Sound);
        check(&report);
        assert_eq!(report.seeds, SCHEDULES);
        for what in MET {
            assert!(report.met.contains_key(what), "{what} never happened: {:?}", report.met);
        }
        // A bound that is never reached says little: what may be used up is used up.
        assert_eq!(report.min_slack_ucr(), 0, "{:?}", report.slack);
    }

    #[test]
    fn schedules_that_failed_once_hold() {
        check(&kept(&Sound));
    }

    #[test]
    fn a_schedule_plays_the_same_way_each_time() {
        for seed in 0..20 {
            let (first, second) = (play(seed, 150, &Sound), play(seed, 150, &Sound));
            assert_eq!((&first.met, &first.slack), (&second.met, &second.slack), "seed {seed}");
        }
    }
}
