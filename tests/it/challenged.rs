//! A node and a house that are processes: what the house draws from claims, and what a member challenges, is shown by itself.

use comity_node::service::admin;
use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::api::challenge::ChallengeState;
use comity_wire::{Amount, Digest};
use serde_json::{Value, json};

const QUERIES: u32 = 6;

/// A wallet that was set back to a copy knows fewer receipts than the node has, as one whose node made some up would.
#[tokio::test(flavor = "multi_thread")]
async fn a_final_that_says_more_than_the_wallet_has_is_challenged_and_paid_once_the_node_has_shown_it() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == "lab" {
            std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
        }
    })
    .await;
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(100 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let ask = async |client: &comity_sdk::Client| {
        let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
        client.ask(&query).await.map(drop).unwrap_or_else(|error| panic!("{}", chain(&error)));
    };
    ask(&client).await;
    let journal = federation.wallet("asker").join("wallet.journal");
    let before = std::fs::read(&journal).expect("the wallet");
    for _ in 1..QUERIES {
        ask(&client).await;
    }
    drop(client);
    std::fs::write(&journal, before).expect("the wallet is ours");

    let client = federation.client("asker");
    let finished =
        eventually("a final that is challenged", async || client.finish(token).await.map_err(|error| chain(&error)))
            .await;
    let [above] = finished.above[..] else { panic!("{:?}", finished.above) };
    assert_eq!((above.lane, above.said.0, above.known.0), (0, u64::from(QUERIES), 1));
    eventually("it is shown, and paid", async || {
        let settled = federation.account().await.settled;
        if settled == Amount::from_ucr(QUERIES * REQUEST_UCR) { Ok(()) } else { Err(format!("{settled} is settled")) }
    })
    .await;
    federation.books_add_up().await;
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_what_is_drawn_from_its_claims_and_what_a_member_challenges() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        let (file, text) = match name {
            "lab" => ("node.toml", "[gateway]\nclaim_every_s = 1\n"),
            "house" => ("clearing.toml", "[settlement]\nsample_one_in = 1\n"),
            _ => return,
        };
        std::fs::write(home.join(file), text).expect(file);
    })
    .await;
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(100 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    for number in 0..QUERIES {
        let query = Query::chat(lab.model(), &[("user", &format!("Where is {number}?"))], Some(8), false);
        client.ask(&query).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    // All but the last are acknowledged and paid: no later claim makes another challenge of the same lane.
    eventually("claims of what was acknowledged", async || {
        let settled = federation.account().await.settled;
        if settled >= Amount::from_ucr((QUERIES - 1) * REQUEST_UCR) { Ok(()) } else { Err(format!("{settled}")) }
    })
    .await;
    // The last receipt comes with no later request that would acknowledge it: its holder will not have it.
    let challenged = eventually("a claim with a tail", async || {
        let ask = client.challenge(token, None, 0, "the last answer never came".into()).await;
        ask.map_err(|error| chain(&error))
    })
    .await;
    let again = eventually("an answer to the member's challenge", async || {
        let ask = client.challenge(token, None, 0, "said again".into()).await.map_err(|error| chain(&error))?;
        if ask.state == ChallengeState::Open { Err(format!("{ask:?}")) } else { Ok(ask) }
    })
    .await;
    assert_eq!((again.id, again.state, again.left), (challenged.id, ChallengeState::Answered, vec![]));

    let home = federation.path().join("house");
    let shown = home.display().to_string();
    let drawn = eventually("answers to what was drawn", async || {
        // Drawn at each sweep, once the log has the claim.
        let _: Value = admin::post(&home, "/admin/sweep", &json!({})).await.map_err(|failure| failure.to_string())?;
        let listed = process::expect(&["clearing", "dispute", "list", "--home", &shown]).await;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let challenges = listed["challenges"].as_array().expect("a list").clone();
        let drawn: Vec<Value> = challenges.into_iter().filter(|challenge| challenge["cause"] == "sample").collect();
        let open = drawn.iter().any(|challenge| challenge["state"] != "answered");
        if drawn.is_empty() || open { Err(listed.to_string()) } else { Ok(drawn) }
    })
    .await;
    let lanes: std::collections::BTreeSet<_> = drawn.iter().map(|challenge| challenge["leaf"].to_string()).collect();
    assert_eq!(lanes.len(), 1, "one leaf has asked: {drawn:?}");
    let listed = process::expect(&["clearing", "dispute", "list", "--home", &shown]).await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["disputes"], json!([]));
    let nothing = Digest::ZERO.to_string();
    let end = ["clearing", "dispute", "reverse", "--home", &shown, &nothing, "--reason", "none"];
    assert!(process::run(&end).await.stderr.contains("dispute"), "there is none of that name");
    let settled = federation.account().await.settled;
    assert!(settled >= Amount::from_ucr(QUERIES * REQUEST_UCR), "the tail is paid too: {settled}");
    federation.books_add_up().await;
    federation.end().await;
}
