//! What an operator changes while everything runs: a model is added, a member is let in and shown out.

use comity_sdk::Query;
use comity_tests::federation::{PER_REQUEST, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::{Code, ModelId, SecretKey};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_published_later_is_served_without_a_restart() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("reader");
    let home = federation.path().join("lab");
    let second: ModelId = "lab/second".parse().expect("a model's id");

    let offer = lab.offer("The second").replace("name = \"model\"", "name = \"second\"");
    std::fs::write(home.join("models/second.toml"), offer).expect("the model's file");
    process::expect(&["model", "publish", "--home", &home.display().to_string()]).await;
    for model in [&second, &lab.model()] {
        let query = Query::chat(model.clone(), &[("user", "Where?")], Some(8), false);
        eventually(&format!("an answer of {model}"), async || {
            client.refresh().await.map_err(|error| chain(&error))?;
            client.ask(&query).await.map(|_| ()).map_err(|error| chain(&error))
        })
        .await;
    }

    // A file with a mistake changes nothing.
    std::fs::write(home.join("models/third.toml"), "[model]\nname = 3\n").expect("the model's file");
    let failed = process::run(&["model", "publish", "--home", &home.display().to_string()]).await;
    assert!(!failed.success && failed.stderr.contains("third.toml"), "{}", failed.stderr);
    let query = Query::chat(second, &[("user", "And now?")], Some(8), false);
    client.ask(&query).await.expect("it is served as before");
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_let_in_and_shown_out_by_the_operator() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let student = SecretKey::from_seed([77; 32]);
    let client = federation.client_of("student", &student);
    let house = federation.path().join("house").display().to_string();
    let (project, key) = (federation.project.to_string(), student.public().to_string());
    let member = async |flag: &str| {
        let arguments = ["clearing", "project", "member", "--home", &house, &project, flag, &key];
        serde_json::from_str::<serde_json::Value>(&process::expect(&arguments).await).expect("JSON")["members"].as_u64()
    };
    let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
    let refused = |error: comity_sdk::Error| assert_eq!(error.code(), Some(Code::NotRegistered), "{}", chain(&error));

    client.ask(&query).await.map(|_| ()).map_err(refused).expect_err("a stranger draws nothing");
    assert_eq!(member("--add").await, Some(2));
    client.ask(&query).await.expect("a member asks");
    assert_eq!(member("--remove").await, Some(1));
    // What was drawn stays valid; nothing more is drawn.
    client.ask(&query).await.expect("the token stands");
    client
        .buy(&lab.model(), comity_wire::Amount::from_ucr(20_000), 0)
        .await
        .map(|_| ())
        .map_err(refused)
        .expect_err("");
    federation.end().await;
}
