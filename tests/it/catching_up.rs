//! A node that was down while others published has, once it is up again, what they published.

use comity_sdk::door::Door;
use comity_sdk::{Query, client};
use comity_tests::federation::{PER_TOKEN, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::api::node::SearchReply;
use comity_wire::object::Summary;
use comity_wire::{Amount, Signed};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_down_catches_up() {
    let upstream = Scripted::start().await;
    let owners = [Owner::scripted("lab", &upstream, PER_TOKEN), Owner::scripted("uni", &upstream, PER_TOKEN)];
    let mut federation = Federation::start(&owners).await;
    let door = federation.door("uni");
    eventually("the other node's first model", async || title(&door).await.and_then(|title| wanted(title, "First")))
        .await;

    federation.service("uni").kill().await;
    let lab = federation.path().join("lab");
    std::fs::write(lab.join("models/model.toml"), owners[0].offer("Second")).expect("the model's file");
    process::expect(&["model", "publish", "--home", &lab.display().to_string()]).await;
    // The hub has it, so that no gossip of it is still on its way when the other comes back.
    let hub = federation.door("hub");
    eventually("the new version at the hub", async || title(&hub).await.and_then(|title| wanted(title, "Second")))
        .await;

    federation.service("uni").restart().await;
    eventually("what was missed", async || title(&door).await.and_then(|title| wanted(title, "Second"))).await;

    // And it serves: a token bought now is taken by the node that was down.
    let client = federation.client("after");
    let query = Query::chat(owners[1].model(), &[("user", "Where?")], Some(8), false);
    let answer = eventually("an answer", async || ask(&client, &query).await).await;
    assert!(answer > Amount::ZERO);
    federation.end().await;
}

async fn ask(client: &client::Client, query: &Query) -> Result<Amount, String> {
    let answer = client.ask(query).await.map_err(|error| chain(&error))?;
    Ok(answer.receipt.charge)
}

/// What this door's search says of the lab's model.
async fn title(door: &Door) -> Result<String, String> {
    let reply: SearchReply = door.get("/comity/v1/search?org=lab").await.map_err(|error| chain(&error))?;
    let hit = reply.hits.first().ok_or("no hit")?;
    let summary = Signed::<Summary>::decode(&hit.summary).map_err(|error| chain(&error))?;
    Ok(summary.unverified().title.to_string())
}

fn wanted(title: String, wanted: &str) -> Result<(), String> {
    if title == wanted { Ok(()) } else { Err(title) }
}
