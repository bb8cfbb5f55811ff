//! Attacks on a node that stays up, as `cargo xtask torture` plays them, in a small size. `COMITY_KILL_SEED` sets chance.

use comity_tests::Chance;
use comity_tests::torture::{self, Attack, Facts, Size, Store, Tally};

async fn check(attack: Attack, store: Store) -> Facts {
    let mut chance = Chance::from_env("COMITY_KILL_SEED");
    let tally = Tally::default();
    let facts = torture::attack(attack, store, Size::Small, &mut chance, &tally).await;
    let report = tally.report();
    assert!(report.holds(), "{report:?}: {facts:?}");
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_callers_that_hang_up_is_charged_for_what_it_took_and_leaves_nothing_held() {
    let facts = check(Attack::Storm, Store::Sqlite).await;
    assert!(facts["left"] > 0 && facts["charged"] > 0 && facts["honest"] > 0, "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_server_that_lies_charges_no_more_than_was_held_and_ends_nothing_as_if_whole() {
    let facts = check(Attack::Liars, Store::Sqlite).await;
    assert!(facts["whole"] > 0 && facts["left"] > 0, "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_take_bounded_memory_and_keep_nobody_waiting() {
    let facts = check(Attack::Readers, Store::Sqlite).await;
    assert!(facts["rss_before_kib"] > 0 || !cfg!(target_os = "linux"), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_everybody_gives_nothing_away_and_loses_no_charge() {
    let facts = check(Attack::Full, Store::Sqlite).await;
    assert!(facts["refused"] > 0 && facts["charged"] > 0, "{facts:?}");
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_is_cut_off_from_the_database_charges_nothing_twice() {
        let facts = check(Attack::Partition, Store::Postgres).await;
        assert!(facts["charged"] > 0 && facts["honest"] > 0, "{facts:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_storm_of_callers_that_hang_up_is_charged_for_what_it_took_and_leaves_nothing_held() {
        check(Attack::Storm, Store::Postgres).await;
    }
}
