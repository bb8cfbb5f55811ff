//! A second process of a house waits, and takes over when the first one dies: clients cure the gap by asking again.

use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::process::Service;
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::Amount;

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_waits_takes_over_when_the_other_one_dies() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let home = federation.path().join("house");
    let named = home.display().to_string();
    // One that does not wait is refused before it touches anything.
    let refused = process::run(&["clearing", "run", "--home", &named, "--listen", "127.0.0.1:0"]).await;
    assert!(!refused.success && refused.stderr.contains("--standby"), "{}", refused.stderr);

    let client = federation.client("buyer");
    let price = Amount::from_ucr(2 * REQUEST_UCR);
    let buy = async || client.buy(&lab.model(), price, 0).await.map_err(|error| chain(&error));
    let first = eventually("a token", buy).await;
    let hub = federation.dial().to_owned();
    // Where the first one is: that is where everybody looks.
    let door = federation.address("house").trim_start_matches("https://").to_owned();
    let waiting = tokio::spawn(async move {
        Service::start_at("house-b", "clearing", &home, Some(&hub), &["--listen", &door, "--standby"]).await
    });
    let log = federation.path().join("house-b.log");
    eventually("the second one waits", async || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("waiting until the house") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(!waiting.is_finished());
    federation.service("house").kill().await;
    let mut second = waiting.await.expect("it takes over");
    let bought = eventually("a token of the second one", buy).await;
    for token in [first, bought] {
        eventually("a final", async || client.finish(token).await.map(drop).map_err(|error| chain(&error))).await;
    }
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled), (Amount::ZERO, Amount::ZERO));
    assert!(account.tokens.iter().any(|token| token.token == bought));
    second.end().await;
    federation.end().await;
}
