//! Kill −9 under load: no answered charge is lost, no credit is created, nobody honest is refused.
//!
//! The stories of `cargo xtask torture`, shorter: `COMITY_KILL_CYCLES` sets how often each kind of process dies at named
//! points, and how often at random; `COMITY_KILL_SEED` sets where and when.

use comity_tests::federation::PER_TOKEN;
use comity_tests::torture::{self, Kind, Store, Tally};
use comity_tests::{Chance, Federation, Owner, Scripted, process};
use comity_wire::Signed;
use comity_wire::object::{Announcement, DoorKind};
use sqlx::Connection as _;

fn cycles() -> u32 {
    std::env::var("COMITY_KILL_CYCLES").ok().map_or(3, |text| text.parse().expect("COMITY_KILL_CYCLES is a number"))
}

async fn check(kind: Kind, store: Store) {
    let mut chance = Chance::from_env("COMITY_KILL_SEED");
    let tally = Tally::default();
    torture::story(kind, store, cycles(), &mut chance, &tally).await;
    let report = tally.report();
    assert!(report.holds(), "{report:?}");
    assert_eq!(tally.missed(), [""; 0], "points that the load does not come to");
    assert_eq!(report.cycles, 2 * cycles());
    assert!(report.acked > u64::from(report.cycles), "nothing went on: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_keeps_every_answered_charge() {
    check(Kind::Node, Store::Sqlite).await;
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_is_killed_keeps_every_answered_charge() {
        check(Kind::Node, Store::Postgres).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_house_that_is_killed_creates_no_credit_and_forgets_no_token() {
        check(Kind::House, Store::Postgres).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_is_killed_creates_no_credit_and_forgets_no_token() {
    check(Kind::House, Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_serves_every_newest_head() {
    check(Kind::Hub, Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_killed_keeps_every_receipt() {
    check(Kind::Wallet, Store::Sqlite).await;
}

/// The shipped binary is not the one that dies where it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn comity_has_no_failpoints() {
    const AT: &str = "head.before_commit:1";
    let mut federation = Federation::start(&[]).await;
    let hub = federation.service("hub");
    hub.kill().await;
    assert!(hub.restart_armed(&process::crash_binary(), AT).await.is_err(), "the test's own binary dies there");
    assert!(hub.restart_armed(&process::binary(), AT).await.is_ok());
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_while_it_starts_does_not_hide_its_doors() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_TOKEN);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let node = federation.card("lab").node;
    let service = federation.service("lab");
    service.kill().await;
    // Its first head has its certificate and models, the second its doors.
    assert!(service.restart_armed(&process::crash_binary(), "head.before_commit:2").await.is_err());
    let store = federation.path().join("lab/network.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("the node's store");
    let frames: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT bytes FROM frame").fetch_all(&mut connection).await.expect("frames");
    let announced = frames.iter().filter_map(|bytes| Signed::<Announcement>::decode(bytes).ok());
    let own: Vec<_> = announced.filter(|announced| announced.unverified().node == node).collect();
    assert_eq!(own.len(), 1, "the node announces itself once");
    assert!(own[0].unverified().doors.iter().any(|door| door.kind == DoorKind::Https), "{own:?}");
    federation.service("lab").restart().await;
    federation.end().await;
}
