//! An owner reads what its policy means, changes it, sees who would lose what, and publishes it: by the commands, and what they told
//! is what callers then meet.

use comity_sdk::Query;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::Amount;
use serde_json::{Value, json};

async fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&process::expect(arguments).await).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_who_would_lose_what_before_it_is_published() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let folder = federation.path().join("lab");
    let home = folder.display().to_string();
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let ask = async || {
        let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
        client.ask(&query).await.map(drop).map_err(|error| chain(&error))
    };
    ask().await.expect("it is registered");

    // The scripted lab's policy has no bound in time and looks for nothing: that is told, and refused nowhere.
    let checked = json_of(&["policy", "check", "--home", &home, "--json"]).await;
    let places: Vec<_> = checked[0]["advice"].as_array().expect("a list").iter().map(|one| &one["place"]).collect();
    assert_eq!(places, ["t1.windows", "t1.filters"], "{checked}");
    assert!(process::expect(&["policy", "check", "--home", &home]).await.contains("look at t1.windows"));

    // What it is now, for whoever asks.
    let of = async |more: &[&str]| {
        let preview = json_of(&[&["policy", "preview", "--home", &home, "--json"], more].concat()).await;
        preview[0]["outcomes"][0].clone()
    };
    assert_eq!(of(&["--vetting", "registered"]).await["tier"], "t1");
    let refused = of(&["--vetting", "none"]).await;
    assert_eq!((&refused["missing"], &refused["whose_move"]), (&json!("vetting_too_low"), &json!("house")));
    let same = process::expect(&["policy", "diff", "--home", &home]).await;
    assert!(same.ends_with("is as it is published"), "{same}");

    // The owner wants to decide about each project.
    let mut file = std::fs::read_dir(folder.join("models")).expect("a folder").flatten().map(|entry| entry.path());
    let file = file.find(|path| path.extension().is_some_and(|extension| extension == "toml")).expect("a file");
    let text = std::fs::read_to_string(&file).expect("it can be read");
    std::fs::write(&file, text.replace("grant = false", "grant = true")).expect("it can be written");
    let diff = process::expect(&["policy", "diff", "--home", &home]).await;
    assert!(diff.contains("t1.grant: false → true"), "{diff}");
    assert!(diff.contains("loses: chat for vetting registered: t1 → nothing"), "{diff}");
    let stopped = process::run(&["policy", "publish", "--home", &home]).await;
    assert!(!stopped.success && stopped.stderr.contains("--yes"), "{}", stopped.stderr);
    ask().await.expect("nothing was published");
    let known_as = federation.account().await.pseudonyms;
    process::expect(&["policy", "publish", "--home", &home, "--yes"]).await;
    eventually("what was told comes to pass", async || match ask().await {
        Err(refused) if refused.contains("grant_required") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    // And as this very project, with the grant that it is then given.
    let subject = known_as.first().expect("the lab knows it by a name").subject.to_string();
    let preview = async || of(&["--as", &subject]).await;
    assert_eq!(preview().await["missing"], "grant_required");
    let model = lab.model().to_string();
    let grant = ["requests", "grant", "--home", &home, "--subject", &subject, "--model", &model, "--tier", "t1"];
    process::expect(&grant).await;
    assert_eq!(preview().await["tier"], "t1");
    ask().await.expect("it has the grant");
    client.finish(token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    federation.end().await;
}
