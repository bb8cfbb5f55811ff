//! The drill of `docs/operating/clearing-backup.md`: a backup under load, kill −9, a restore into a new home, the books add up,
//! and everybody who worked since the backup is paid.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use comity_sdk::{Client, Query};
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, books_in_postgres, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::{Amount, ModelId};
use serde_json::Value;

/// Queries after the backup, under a token of their own that is ended before the house dies.
const FORGOTTEN: u32 = 3;
/// Queries while the backup is taken.
const UNDER_LOAD: u32 = 30;

async fn ask(client: &Client, model: &ModelId) -> Result<(), String> {
    let query = Query::chat(model.clone(), &[("user", "Where?")], Some(8), false);
    client.ask(&query).await.map(drop).map_err(|error| chain(&error))
}

async fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&process::expect(arguments).await).expect("JSON")
}

/// Ends every open token of a wallet.
async fn finish(client: &Client) -> Result<(), String> {
    for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
        client.finish(purse.token).await.map_err(|error| chain(&error))?;
    }
    Ok(())
}

/// Where the books are, and where they come back.
enum On {
    Sqlite,
    Postgres(comity_scratch::Database, comity_scratch::Database),
}

async fn drill(on: On) {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == "lab" {
            std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
        }
        if let (On::Postgres(old, _), "house") = (&on, name) {
            books_in_postgres(home, &old.url());
        }
    })
    .await;
    let model = lab.model();
    let home = federation.path().join("house").display().to_string();
    let backup = federation.path().join("backup").display().to_string();
    let new_home = federation.path().join("house-again");
    let again = new_home.display().to_string();

    // Somebody works all the time, under one token that is bought before the backup.
    let answered = Arc::new(AtomicU32::new(0));
    let (more, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let busy = federation.client("busy");
    let work = tokio::spawn({
        let (answered, model) = (Arc::clone(&answered), model.clone());
        async move {
            while asked.recv().await.is_some() {
                ask(&busy, &model).await.expect("an answer");
                answered.fetch_add(1, Ordering::SeqCst);
            }
            busy
        }
    });
    let work_on = async |queries: u32| {
        let reach = answered.load(Ordering::SeqCst) + queries;
        (0..queries).for_each(|_| more.send(()).expect("the work goes on"));
        eventually("work", async || match answered.load(Ordering::SeqCst) {
            so_far if so_far >= reach => Ok(()),
            so_far => Err(format!("{so_far} of {reach}")),
        })
        .await;
    };
    work_on(2).await;
    let command = ["clearing", "backup", "--home", &home, "--out", &backup, "--with-keys"];
    let ((), taken) = tokio::join!(work_on(UNDER_LOAD), json(&command));
    assert!(taken["transfers"].as_u64() > Some(0), "{taken}");
    // What the backup does not know: a token that is bought, used, settled and ended after it.
    let late = federation.client("late");
    for _ in 0..FORGOTTEN {
        eventually("an answer", async || ask(&late, &model).await).await;
    }
    finish(&late).await.expect("it is ended, and the house has its final");
    let settled_before = federation.account().await.settled;
    assert!(settled_before >= Amount::from_ucr(FORGOTTEN * REQUEST_UCR), "{settled_before}");
    federation.service("house").kill().await;

    // Tokens live on without the house.
    work_on(2).await;
    let mut restore = vec!["clearing", "restore", "--from", &backup, "--home", &again];
    let url = match &on {
        On::Sqlite => String::new(),
        On::Postgres(_, new) => {
            let path = federation.path().join("new.url");
            comity_node::home::write_secret(&path, new.url().as_bytes()).expect("a secret");
            path.display().to_string()
        }
    };
    if !url.is_empty() {
        restore.extend(["--store-file", &url]);
    }
    let returned = json(&restore).await;
    assert_eq!(returned["restored"]["number"], 1, "{returned}");
    if let On::Postgres(_, new) = &on {
        books_in_postgres(&new_home, &new.url());
    }
    // It is told what is next, and held to it.
    let hub = federation.dial().to_owned();
    let early = process::run(&["clearing", "run", "--home", &again, "--listen", "127.0.0.1:0", "--hub", &hub]).await;
    assert!(!early.success && early.stderr.contains("--restored"), "{}", early.stderr);
    process::expect(&["clearing", "renew", "--home", &again, "--restored"]).await;
    federation.move_house(&new_home).await;
    let audit = json(&["ledger", "audit", "--home", &again, "--json"]).await;
    assert_eq!(audit["holds"], true, "{audit}");
    let log = json(&["clearing", "log", "show", "--home", &again]).await;
    assert!(log["stopped"].as_str().is_some_and(|why| why.contains("not known here")), "{log}");
    let log = json(&["clearing", "log", "restart", "--home", &again, "--why", "a drill"]).await;
    assert!(log["stopped"].is_null() && log["ended"].as_array().is_some_and(|ended| ended.len() == 1), "{log}");

    // Everybody is paid, by nodes that nobody told: those whose tokens live, and those whose tokens are forgotten.
    work_on(1).await;
    drop(more);
    let busy = work.await.expect("the work ends");
    eventually("finals", async || {
        busy.refresh().await.map_err(|error| chain(&error))?;
        finish(&busy).await
    })
    .await;
    let charged = (answered.load(Ordering::SeqCst) + FORGOTTEN) * REQUEST_UCR;
    let totals = eventually("every charge is settled", async || {
        let report = json(&["ledger", "audit", "--home", &again, "--json"]).await;
        assert_eq!(report["holds"], true, "{report}");
        let settled = report["totals"]["settled"].as_u64().unwrap_or(0);
        if settled == u64::from(charged) { Ok(report) } else { Err(format!("{settled} of {charged}")) }
    })
    .await;
    let from_suspense = totals["totals"]["from_suspense"].as_u64();
    assert_eq!(
        from_suspense,
        Some(u64::from(FORGOTTEN * REQUEST_UCR)),
        "what the books do not know is paid all the same"
    );
    let trial = json(&["clearing", "report", "trial-balance", "--home", &again]).await;
    assert_eq!(trial["total"]["balance_ucr"], 0, "{trial}");
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_comes_back_from_a_backup_and_everybody_is_paid() {
    drill(On::Sqlite).await;
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_house_comes_back_from_a_backup_and_everybody_is_paid() {
        let (old, new) = (comity_scratch::Database::create().await, comity_scratch::Database::create().await);
        drill(On::Postgres(old, new)).await;
    }
}
