//! The clearing house under faults of disk, database and clock, as `cargo xtask torture clearing` plays them, in a small size.
//! `COMITY_KILL_SEED` sets chance.

use comity_tests::Chance;
use comity_tests::torture::{self, Fault, Report, Store, Synchronous, Tally};

/// Each fault so many times.
const ROUNDS: u32 = 3;

async fn play(store: Store, synchronous: Synchronous, faults: &[Fault]) -> (Report, usize) {
    let mut chance = Chance::from_env("COMITY_KILL_SEED");
    let tally = Tally::default();
    let cycles = ROUNDS * u32::try_from(faults.len()).expect("a few");
    let (struck, unsynced) = torture::clearing(store, synchronous, faults, cycles, &mut chance, &tally).await;
    assert!(faults.iter().all(|fault| struck[fault.name()] == ROUNDS), "{struck:?}");
    (tally.report(), unsynced)
}

fn check(report: &Report) {
    assert!(report.holds(), "{report:?}");
    assert!(report.acked > 10 * u64::from(report.cycles), "nothing went on: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_on_sqlite_keeps_what_it_answered_whatever_its_disk_clock_and_callers_do() {
    check(&play(Store::Sqlite, Synchronous::Full, Fault::of(Store::Sqlite)).await.0);
}

/// The planted bug: COMMIT is answered before it is on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_does_not_wait_for_its_disk_is_found_out_by_a_power_cut() {
    let played = tokio::spawn(async { play(Store::Sqlite, Synchronous::Normal, &[Fault::PowerCut]).await }).await;
    // Books that cannot be read any more end it earlier, and are found out too.
    if let Ok((report, unsynced)) = played {
        assert!(unsynced > 0 && report.lost > 0, "{report:?}, {unsynced} writes unsynced");
    }
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_house_on_postgres_keeps_what_it_answered_whatever_its_server_and_clock_do() {
        check(&play(Store::Postgres, Synchronous::Full, Fault::of(Store::Postgres)).await.0);
    }
}
