//! A node that is told to end while a stream runs: told once it lets the stream end, told twice it cuts it, and either way the
//! receipt says what was handed on, and the books add up.

use std::time::Duration;

use comity_sdk::client::Streaming;
use comity_sdk::{Client, Error, Query};
use comity_tests::federation::{PER_TOKEN, chain, eventually};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::object::Ended;

/// Long enough for a node that lets nothing end.
const STAYS_FOR: Duration = Duration::from_secs(1);
/// Less than a node waits by itself for what runs (300 s), and more than a busy machine takes.
const CUT_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_once_lets_its_stream_end() {
    let upstream = Scripted::halfway().await;
    let lab = Owner::scripted("lab", &upstream, PER_TOKEN);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("patient");
    let mut stream = begun(&client, &lab).await;
    federation.service("lab").ask_to_end().await;
    is_heard(&federation).await;
    let silent = tokio::time::timeout(STAYS_FOR, stream.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    assert!(federation.service("lab").runs(), "a stream runs");
    upstream.open();
    while stream.next().await.unwrap_or_else(|error| panic!("{}", chain(&error))).is_some() {}
    let receipt = stream.receipt().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(receipt.ended, Ended::Stop);
    assert!(federation.service("lab").ended().await, "{}", federation.service("lab").log());
    settles(federation, &client, receipt.charge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_twice_cuts_its_stream_and_charges_what_it_handed_on() {
    let upstream = Scripted::halfway().await;
    let lab = Owner::scripted("lab", &upstream, PER_TOKEN);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("cut");
    let mut stream = begun(&client, &lab).await;
    federation.service("lab").ask_to_end().await;
    // Two signals that come before the first is heard are one.
    is_heard(&federation).await;
    federation.service("lab").ask_to_end().await;
    let cut = async {
        loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was not ended by its server"),
                Err(error) => return error,
            }
        }
    };
    let cut = tokio::time::timeout(CUT_WITHIN, cut).await.expect("whoever says it twice means it");
    assert!(matches!(cut, Error::Cut(_)), "{}", chain(&cut));
    stream.abandon().await;
    assert!(federation.service("lab").ended().await, "{}", federation.service("lab").log());
    let spent = client.purses().await.first().expect("a token").spent;
    assert!(!spent.is_zero(), "a piece was handed on");
    settles(federation, &client, spent).await;
}

/// A stream of which the first words have come.
async fn begun<'a>(client: &'a Client, lab: &Owner) -> Streaming<'a> {
    let query = Query::chat(lab.model(), &[("user", "one")], Some(8), true);
    let mut stream = client.stream(&query).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    loop {
        let piece = stream.next().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        if piece.expect("it goes on").contains("Paris") {
            return stream;
        }
    }
}

/// Waits until it takes no connection any more: the signal was heard.
async fn is_heard(federation: &Federation) {
    let door = federation.address("lab");
    let address = door.strip_prefix("https://").expect("a door");
    eventually("the node takes nothing more", async || match tokio::net::TcpStream::connect(address).await {
        Ok(_) => Err("it listens".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
}

/// Its node is there again, and everybody agrees on what it cost.
async fn settles(mut federation: Federation, client: &Client, due: comity_wire::Amount) {
    federation.service("lab").restart().await;
    eventually("the token is over", async || {
        for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
            client.finish(purse.token).await.map_err(|error| chain(&error))?;
        }
        Ok(())
    })
    .await;
    assert_eq!(federation.books_add_up().await.settled, due);
    federation.end().await;
}
