//! What is taken back at the house ends at every node, within the minute that owners and researchers are promised
//! (spec/08-revocation.md): a token by its id, and all that a lost computer drew by its key.

use std::time::Duration;

use comity_sdk::{Client, Query};
use comity_tests::federation::{PER_TOKEN, chain, within};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::{Amount, TokenId};
use serde_json::Value;

/// From the operator's command to the last node's refusal.
const PROMISED: Duration = Duration::from_secs(60);

/// Under which token a call was answered, or what it was refused for.
async fn asked(client: &Client, owner: &Owner) -> Result<TokenId, String> {
    let query = Query::chat(owner.model(), &[("user", "one more")], Some(4), false);
    client.ask(&query).await.map(|answer| answer.receipt.token).map_err(|error| chain(&error))
}

/// Nothing is answered under this token any more.
async fn ends(client: &Client, owner: &Owner, token: TokenId) -> Result<(), String> {
    within(PROMISED, async || match asked(client, owner).await {
        Ok(under) if under == token => Err(format!("{token} is taken at {} still", owner.name)),
        Ok(_) => Ok(()),
        Err(why) if why.contains("revoked") || why.contains("not registered") => Ok(()),
        Err(why) => Err(why),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_at_the_house_ends_at_every_node_within_a_minute() {
    let upstream = Scripted::start().await;
    let owners = [Owner::scripted("lab", &upstream, PER_TOKEN), Owner::scripted("uni", &upstream, PER_TOKEN)];
    let federation = Federation::start(&owners).await;
    let house = federation.path().join("house").display().to_string();
    let client = federation.client("researcher");
    let mut tokens = Vec::new();
    for owner in &owners {
        let bought = client.buy(&owner.model(), Amount::from_ucr(20_000), 0).await;
        let token = bought.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(asked(&client, owner).await, Ok(token));
        tokens.push(token);
    }
    let [lab, uni] = &owners;
    process::expect(&["clearing", "revoke", "--home", &house, "--token", &tokens[0].to_string()]).await;
    ends(&client, lab, tokens[0]).await.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(asked(&client, uni).await, Ok(tokens[1]), "another token lives on");

    // The computer is lost, with the token that its wallet drew in place of the first one.
    let key = federation.member().public().to_string();
    let said = process::expect(&["clearing", "person", "revoke-key", "--home", &house, &key]).await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert!(
        said["tokens"]["stopped"].as_u64().is_some_and(|stopped| stopped >= 2) && said["tokens"]["left"] == 0,
        "{said}"
    );
    for (owner, token) in owners.iter().zip(&tokens) {
        ends(&client, owner, *token).await.unwrap_or_else(|why| panic!("{why}"));
        let refused = asked(&client, owner).await.expect_err("nothing new is drawn either");
        assert!(refused.contains("registered") || refused.contains("revoked"), "{refused}");
    }
    federation.books_add_up().await;
    federation.end().await;
}
