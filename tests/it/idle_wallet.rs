//! A wallet that nobody uses sends its credits home, and is used again as if nothing had been.

use std::sync::Arc;
use std::time::Duration;

use comity_sdk::Query;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::Amount;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_idle_wallet_has_not_spent_goes_home_and_no_call_notices() {
    let upstream = Scripted::shut().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = Arc::new(federation.client("idle"));
    assert!(client.finish_idle(Duration::ZERO).await.is_empty(), "nothing was ever asked");

    let asking = {
        let (client, model) = (Arc::clone(&client), lab.model());
        tokio::spawn(async move { client.ask(&Query::chat(model, &[("user", "one")], Some(8), false)).await })
    };
    eventually(
        "the call is at the model",
        async || {
            if upstream.asked() == 1 { Ok(()) } else { Err("not yet".to_owned()) }
        },
    )
    .await;
    assert!(client.finish_idle(Duration::ZERO).await.is_empty(), "a call is under way");
    upstream.open();
    let first = asking.await.expect("it ends").unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(client.finish_idle(Duration::from_secs(3600)).await.is_empty(), "it was idle for less than that");
    assert!(federation.account().await.in_escrow > Amount::ZERO);

    let finished = client.finish_idle(Duration::ZERO).await;
    assert_eq!(finished.len(), 1);
    assert!(finished[0].1.is_ok(), "{:?}", finished[0].1.as_ref().err().map(|error| chain(error)));
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled), (Amount::ZERO, Amount::from_ucr(REQUEST_UCR)));

    let query = Query::chat(lab.model(), &[("user", "two")], Some(8), false);
    let second = client.ask(&query).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_ne!(first.receipt.token, second.receipt.token, "another token was drawn");
    federation.end().await;
}
