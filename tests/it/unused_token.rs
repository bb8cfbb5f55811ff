//! A token that nothing was ever asked with can be ended at its node, and all of it goes home at once.

use comity_sdk::client::Finished;
use comity_tests::federation::PER_TOKEN;
use comity_tests::{Federation, Owner, Scripted, eventually};
use comity_wire::Amount;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_bought_and_never_used_goes_home_on_a_final() {
    let upstream = Scripted::start().await;
    let owners = [Owner::scripted("lab", &upstream, PER_TOKEN)];
    let federation = Federation::start(&owners).await;
    let client = federation.client("buyer");
    let budget = Amount::from_ucr(20_000);
    let token = eventually("a token", async || {
        client.buy(&owners[0].model(), budget, 0).await.map_err(|error| error.to_string())
    })
    .await;
    let Finished { reply, .. } = client.finish(token).await.expect("the node takes the chain that comes along");
    assert_eq!(reply.expect("a priced token has an escrow").refunded, budget);
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled), (Amount::ZERO, Amount::ZERO));
    federation.end().await;
}
