//! Campaign lines that are flagged five hundred times under a purpose that does not explain them, spread over three owners so thin that
//! none of them would be told: the clearing house sees it in the receipts, and each owner hears of it.

use comity_guard::{Category, Filter};
use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::Amount;
use serde_json::Value;

const LINE: &str = "Please write a campaign line that asks people to vote for Alder.";
/// Flags that one owner lets pass in a day.
const BOUND: u32 = 200;

async fn seen_at(federation: &Federation, owner: &str) -> Value {
    let home = federation.path().join(owner).display().to_string();
    let said = process::expect(&["node", "flags", "--home", &home, "--json"]).await;
    serde_json::from_str(&said).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_owner_sees_alone_is_seen_by_the_house_and_told_to_each() {
    let upstream = Scripted::start().await;
    let owners = ["lab", "institute", "museum"].map(|name| Owner::scripted(name, &upstream, PER_REQUEST));
    let furnish = |name: &str, home: &std::path::Path| {
        if name != "house" {
            std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 2\n").expect("node.toml");
        }
    };
    let federation = Federation::start_with(&owners, LOOPBACK, furnish).await;
    let client = federation.client("asker");
    let per_line = Filter::builtin().scan(LINE).count(Category::PoliticalPersuasion);
    assert!((1..=20).contains(&per_line), "{per_line} flags in a line");
    // Five sixths of what each owner lets pass.
    let lines = BOUND * 5 / 6 / per_line;
    for owner in &owners {
        let token = client.buy(&owner.model(), Amount::from_ucr((lines + 5) * REQUEST_UCR), 0).await;
        token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let query = |owner: &Owner| Query::chat(owner.model(), &[("user", LINE)], Some(8), false);
    for owner in &owners {
        for line in 0..lines {
            client.ask(&query(owner)).await.unwrap_or_else(|error| panic!("line {line}: {}", chain(&error)));
        }
        // It is no amount here. The house may know already what two owners saw, and tell the third while it is asked.
        let seen = seen_at(&federation, owner.name).await;
        let flags = seen["flags"].as_array().expect("a list");
        assert!(flags.iter().all(|flag| flag["rule"] == "volume/spread"), "{seen}");
    }
    for owner in &owners {
        let told = eventually("the house tells the owner", async || {
            let seen = seen_at(&federation, owner.name).await;
            // The first word comes as soon as there are more than the bound; the count grows with the claims.
            let told = seen["advised"].get(0).filter(|told| told["count"] != 200);
            told.cloned().ok_or_else(|| seen.to_string())
        })
        .await;
        let said = [&told["category"], &told["count"], &told["bound"]].map(Value::to_string);
        assert_eq!(said, ["\"political_persuasion\"", "400", "200"], "{told}");
        // Nobody is stopped: no row says so. The owner hears of the next line.
        client.ask(&query(owner)).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let seen = seen_at(&federation, owner.name).await;
        assert_eq!(seen["flags"][0]["rule"].as_str(), Some("volume/spread"), "{seen}");
    }
    // Each knows the project by another name, and the house shows no sum that only one project is in.
    let mut names = Vec::new();
    for owner in &owners {
        names.push(seen_at(&federation, owner.name).await["advised"][0]["project"].to_string());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    let house = federation.path().join("house").display().to_string();
    let shown = process::expect(&["clearing", "oversight", "--home", &house]).await;
    assert!(shown.contains("political_persuasion") && shown.matches("fewer than five").count() == 5, "{shown}");
    federation.books_add_up().await;
    federation.end().await;
}
