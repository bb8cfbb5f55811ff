//! What an accountant asks of a node and a house that are processes: the meter, the receipts and the ledger match, and an
//! auditor draws settlements and computes them again when the house is gone.

use std::path::Path;

use comity_node::service::admin;
use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::Amount;
use serde_json::{Value, json};

const QUERIES: u32 = 4;

async fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&process::expect(arguments).await).expect("JSON")
}

/// Asks for a count of everything that was sold up to now, once this second is over, and waits for the node's.
async fn counted(home: &Path) -> Value {
    let to = comity_node::shell::now().plus(1).seconds();
    let period = json!({ "from": 0, "to": to });
    let asked = eventually("a period that is over", async || {
        let asked = admin::post::<Value>(home, "/admin/counts", &period).await;
        asked.map_err(|failure| failure.to_string())
    })
    .await;
    assert_eq!(asked, json!({ "asked": 1 }));
    let path = format!("/admin/matches?from=0&to={to}");
    eventually("a count by the node", async || {
        let told: Value = admin::get(home, &path).await.map_err(|failure| failure.to_string())?;
        if told[0]["counted_at"].is_null() { Err(told.to_string()) } else { Ok(told[0].clone()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn meter_receipts_and_ledger_match_and_an_auditor_computes_settlements_again() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == "lab" {
            std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
        }
    })
    .await;
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(100 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    for number in 0..QUERIES {
        let query = Query::chat(lab.model(), &[("user", &format!("Where is {number}?"))], Some(8), false);
        client.ask(&query).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    client.finish(token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let spent = Amount::from_ucr(QUERIES * REQUEST_UCR);
    eventually("the whole settlement", async || {
        let account = federation.account().await;
        if account.settled == spent && account.in_escrow.is_zero() { Ok(()) } else { Err(format!("{account:?}")) }
    })
    .await;
    let home = federation.path().join("house");
    let shown = home.display().to_string();
    // Nobody said yet how the lab is paid: the operator hears it from the doctor.
    let doctor = process::run(&["clearing", "doctor", "--home", &shown]).await.stdout;
    let line = doctor.lines().find(|line| line.contains(" owners: ")).unwrap_or_default();
    assert!(line.starts_with("WARN") && line.contains(&format!("earned {spent} and cannot be paid")), "{doctor}");
    let matched = counted(&home).await;
    let sums = ["metered", "receipted", "settled"].map(|sum| matched[sum].as_i64());
    assert_eq!(sums, [Some(spent.ucr()); 3], "{matched}");
    assert_eq!(
        (&matched["charges"], &matched["differing"], &matched["in_transit"]),
        (&json!(QUERIES), &json!(0), &json!(0))
    );
    let of_days = ["clearing", "match", "ask", "--home", &shown, "--from", "2020-01-01", "--to", "2020-01-31"];
    assert_eq!(json_of(&of_days).await, json!({ "asked": 0 }), "nothing was sold then");

    // The auditor draws beside the running house, takes a copy of the log, and needs the house no more.
    let folder = federation.path().join("sample");
    let copy = federation.path().join("log-copy").display().to_string();
    let vkey =
        json_of(&["clearing", "log", "show", "--home", &shown]).await["vkey"].as_str().expect("a key").to_owned();
    process::expect(&["clearing", "log", "export", "--home", &shown, &copy]).await;
    let drawn = folder.display().to_string();
    let sample = json_of(&["audit", "sample", &drawn, "--home", &shown, "--n", "60", "--seed", "chosen here"]).await;
    let population = sample["population"].as_u64().expect("a number");
    assert!(population > 0 && sample["items"].as_u64() == Some(population), "{sample}");
    assert_eq!(sample["differing"], json!([]));
    let over_it = process::run(&["audit", "sample", &drawn, "--home", &shown, "--seed", "another"]).await;
    assert!(over_it.stderr.contains("is not empty") && over_it.stderr.contains("a new folder"), "{}", over_it.stderr);
    process::expect(&["clearing", "log", "export", "--home", &shown, &copy]).await;
    federation.books_add_up().await;
    federation.service("lab").end().await;
    federation.service("house").end().await;

    let redraw = ["audit", "redraw", &drawn, "--log", &copy, "--key", &vkey];
    let redrawn = json_of(&redraw).await;
    assert_eq!((&redrawn["holds"], &redrawn["population"]), (&json!(true), &json!(population)), "{redrawn}");
    let first = folder.join("001");
    for part in ["transfer", "proof", "approvals", "token", "claims", "settlement", "recomputation"] {
        assert!(first.join(format!("{part}.json")).exists(), "{part}");
    }
    // One micro-credit more is found, and said with the folder.
    let path = first.join("transfer.json");
    let mut transfer: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON");
    transfer["amount"] = json!(transfer["amount"].as_i64().expect("an amount") + 1);
    std::fs::write(&path, transfer.to_string()).expect("it is written");
    let bent = process::run(&redraw).await;
    assert!(!bent.success && bent.stderr.contains("in_the_log") && bent.stderr.contains("001"), "{}", bent.stderr);
    federation.end().await;
}
