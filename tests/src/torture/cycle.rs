//! The two ways to die, and when.

use std::time::Duration;

use super::point::Point;
use super::{Kind, Tally};
use crate::Chance;

/// How a cycle ends its process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    /// By itself, at a failpoint.
    At(Point),
    /// By kill −9, at any time.
    AtRandom,
}

/// A load that does not bring a process to its point within this has missed it.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// Long enough for a busy machine; what does not come about by then does not.
pub(super) const RECOVERY: Duration = Duration::from_secs(60);

/// Longer than any call waits for its other side.
const CALL: Duration = Duration::from_secs(120);

/// Waits for a task of the load, which was told to stop.
///
/// # Panics
/// Where it does not come to its end, or has panicked.
pub(super) async fn ended<T>(task: tokio::task::JoinHandle<T>) -> T {
    let ended = tokio::time::timeout(CALL, task).await.expect("whoever calls hears something within two minutes");
    ended.expect("whoever calls comes to an end")
}

/// All cycles of a kind: half at its points, half at random, mixed by chance.
pub(super) fn deaths(kind: Kind, cycles: u32, chance: &mut Chance) -> Vec<Death> {
    let mut named = kind.itinerary(cycles, chance);
    let mut random = cycles + cycles - u32::try_from(named.len()).expect("as many as there are cycles");
    let mut deaths = Vec::new();
    while random > 0 || !named.is_empty() {
        let left = named.len() as u64 + u64::from(random);
        if chance.within(0..left) < u64::from(random) {
            random -= 1;
            deaths.push(Death::AtRandom);
        } else {
            deaths.extend(named.pop().map(Death::At));
        }
    }
    deaths
}

/// After how much progress of the load, and how long after that, kill −9 strikes.
pub(super) fn moment(chance: &mut Chance) -> (u64, Duration) {
    const PROGRESS_MAX: u64 = 24;
    const STRIKE_US_MAX: u64 = 60_000;
    (chance.within(1..PROGRESS_MAX), Duration::from_micros(chance.within(0..STRIKE_US_MAX)))
}

/// One line on stderr for each cycle.
pub(super) fn told(kind: Kind, number: usize, of: usize, how: &str, tally: &Tally) {
    let report = tally.report();
    eprintln!("{} {number}/{of}: died {how}; {} answered so far", kind.name(), report.acked);
}
