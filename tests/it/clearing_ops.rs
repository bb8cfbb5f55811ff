//! What an operator asks of a house's home: is it well, are its books up to date, move them into PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use comity_node::home::Home;
use comity_node::keystore::KeyName;
use comity_tests::{Federation, process};
use serde_json::Value;

/// What fails, but for what the machine that this runs on is to blame for.
async fn failing(home: &str, arguments: &[&str]) -> (bool, Vec<String>, Value) {
    let ended = process::run(&[&["clearing", "doctor", "--home", home, "--json"], arguments].concat()).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let checks = report["checks"].as_array().expect("checks").iter();
    let failing = checks.clone().filter(|check| check["state"] == "fail");
    let failing: Vec<_> = failing.map(|check| check["check"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(ended.success, failing.is_empty(), "{ended:?}");
    assert!(
        checks.clone().all(|check| check["state"] == "ok" || check["next"].is_string()),
        "whose move is next? {report}"
    );
    let ours = failing.into_iter().filter(|check| check != "file system" && check != "disk").collect();
    (report["running"] == true, ours, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_names_what_is_wrong_and_whose_move_is_next() {
    let mut federation = Federation::start(&[]).await;
    let home = federation.path().join("house");
    let named = home.display().to_string();
    let (running, ill, report) = failing(&named, &["--full"]).await;
    assert!(running && ill.is_empty(), "{report}");
    let warned: Vec<_> =
        report["checks"].as_array().expect("checks").iter().filter(|check| check["state"] == "warn").collect();
    assert!(warned.iter().any(|check| check["check"] == "backup"), "{report}");
    let backup = federation.path().join("b").display().to_string();
    process::expect(&["clearing", "backup", "--home", &named, "--out", &backup]).await;
    let (.., report) = failing(&named, &[]).await;
    let backup = report["checks"].as_array().expect("checks").iter().find(|check| check["check"] == "backup");
    assert_eq!(backup.expect("it is looked at")["state"], "ok", "{report}");

    federation.service("house").end().await;
    let key = home.join("keys/issuer.key");
    let closed = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("a mode");
    closed(0o644);
    assert_eq!(failing(&named, &[]).await.1, ["keys"]);
    closed(0o600);
    std::fs::write(home.join("clearing.toml"), "[books]\nstoer = \"sqlite\"\n").expect("a file");
    assert_eq!(failing(&named, &[]).await.1, ["settings"]);
    std::fs::remove_file(home.join("clearing.toml")).expect("it is there");
    let checkpoint = home.join("log.checkpoint");
    let kept = std::fs::read(&checkpoint).expect("the log was signed");
    std::fs::remove_file(&checkpoint).expect("it is there");
    assert_eq!(failing(&named, &[]).await.1, ["log"]);
    std::fs::write(&checkpoint, kept).expect("it is put back");
    std::fs::rename(home.join("clearing.sqlite"), home.join("lost")).expect("it is there");
    let (running, ill, report) = failing(&named, &[]).await;
    assert!(!running && ill == ["books"], "{report}");
    // Not a page of a database.
    std::fs::write(home.join("clearing.sqlite"), vec![7_u8; 8192]).expect("a file");
    assert_eq!(failing(&named, &[]).await.1, ["books"]);
    federation.service("hub").end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_shown_and_a_running_house_is_left_alone() {
    let mut federation = Federation::start(&[]).await;
    let home = federation.path().join("house").display().to_string();
    let shown = process::expect(&["clearing", "migrate", "--home", &home, "--check"]).await;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["pending"], 0, "{shown}");
    let rows = shown["migrations"].as_array().expect("a list");
    assert!(rows.iter().any(|row| row["number"] == 520 && row["state"] == "applied"), "{shown}");
    let refused =
        process::run(&["clearing", "migrate", "--home", &home, "--to", "postgres://nobody@127.0.0.1:1/none"]).await;
    assert!(!refused.success && refused.stderr.contains("is running"), "{}", refused.stderr);
    federation.service("house").end().await;
    federation.service("hub").end().await;
}

/// The roster lists the next key beside the one in use, from its first version on, so that no two days lie between.
#[tokio::test(flavor = "multi_thread")]
async fn another_issuer_key_is_approved_by_two_and_put_in_place() {
    let furnish = |name: &str, home: &Path| {
        if name == "house" {
            let home = Home::open(home).expect("a home");
            let next = home.keys.create(KeyName::IssuerNext).expect("a key").public();
            home.write_card(next, "organisation.next.json").expect("a card");
        }
    };
    let mut federation = Federation::start_with(&[], &["--listen", "127.0.0.1:0"], furnish).await;
    let path = federation.path().join("house");
    let named = path.display().to_string();
    let home = Home::open(&path).expect("a home");
    let clearing = async |arguments: &[&str]| {
        let ended = process::run(&[&["clearing"], arguments, &["--home", &named]].concat()).await;
        if ended.success { Ok(ended.stdout) } else { Err(ended.stderr) }
    };
    let keys = async || -> Vec<Value> {
        serde_json::from_str(&clearing(&["issuer", "list"]).await.expect("a list")).expect("JSON")
    };
    let [first] = &keys().await[..] else { panic!("the key of before") };
    assert!(first["in_use"] == true && first["roster"] == "active" && first.get("act").is_none(), "{first}");
    let officers = ["ann", "bob"].map(|name| federation.path().join(name));
    for officer in &officers {
        let folder = officer.display().to_string();
        let key = process::expect(&["clearing", "officer", "key", &folder]).await;
        let name = officer.file_name().and_then(|name| name.to_str()).expect("a name");
        clearing(&["officer", "add", key.trim(), "--name", name, "--reason", "founding"]).await.expect("it is added");
    }
    let next = home.keys.read(KeyName::IssuerNext).expect("the next key").public().to_string();
    let refused = clearing(&["issuer", "switch"]).await.expect_err("nobody approved it");
    assert!(refused.contains("nobody approved") && refused.contains("issuer approve"), "{refused}");
    for (officer, done) in officers.iter().zip(["false", "true"]) {
        let file = officer.join("keys/officer.key").display().to_string();
        let approve = ["issuer", "approve", &next, "--reason", "yearly", "--officer", &file];
        let said = clearing(&approve).await.expect("it is brought");
        assert!(said.contains(&format!("\"done\":{done}")), "{said}");
    }
    assert_eq!(clearing(&["issuer", "switch"]).await.expect("it is put in place").trim(), next);
    assert!(clearing(&["issuer", "switch"]).await.expect_err("there is no other").contains("issuer new"));
    federation.service("house").end().await;
    federation.service("house").restart().await;
    let known = keys().await;
    let used: Vec<_> = known.iter().filter(|key| key["in_use"] == true).collect();
    assert!(known.len() == 2 && used.len() == 1 && used[0]["key"] == next.as_str(), "{known:?}");
    assert!(used[0]["roster"] == "active" && used[0]["act"].is_string(), "{known:?}");
    assert!(failing(&named, &[]).await.1.is_empty(), "card, keys and roster agree");
    assert_eq!(home.keys.issuers_beside().expect("the key before").len(), 1);

    // One that the roster does not know: the house is not let switch to it, and does not run where somebody did.
    let third = clearing(&["issuer", "new"]).await.expect("a key").trim().to_owned();
    assert!(std::fs::read_to_string(path.join("organisation.next.json")).expect("a card").contains(&third));
    assert!(clearing(&["issuer", "new"]).await.is_err(), "there is one that waits");
    federation.service("house").end().await;
    home.keys.issuer_switch().expect("by hand");
    let ended = process::run(&["clearing", "run", "--home", &named, "--listen", "127.0.0.1:0"]).await;
    assert!(!ended.success && ended.stderr.contains("the roster does not list keys/issuer.key"), "{ended:?}");
    // A switch that was ended before it wrote the card goes on.
    assert_eq!(clearing(&["issuer", "switch"]).await.expect("the card").trim(), third);
    assert_eq!(Home::open(&path).expect("a home").card.issuer_key.map(|key| key.to_string()), Some(third));
    federation.service("hub").end().await;
}

/// Asks as Prometheus and a supervisor do.
async fn fetch(url: &str) -> (u16, String) {
    let answer = reqwest::Client::builder().no_proxy().build().expect("a client").get(url).send().await;
    let answer = answer.expect("it is served");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_is_watched_and_tells_no_secret_and_nobodys_name() {
    let mut federation = Federation::start(&[]).await;
    let home = federation.path().join("house");
    let access_log = federation.path().join("access.jsonl");
    let house = federation.service("house");
    house.end().await;
    house.also(&["--metrics", "127.0.0.1:0", "--access-log", &access_log.display().to_string()]);
    house.restart().await;
    let said = federation.service("house").log();
    let metrics = said.lines().find_map(|line| line.strip_prefix("figures: ")).expect("it says where").to_owned();
    let base = metrics.strip_suffix("/metrics").expect("an address");
    assert_eq!(fetch(&format!("{base}/healthz")).await, (200, "{\"live\":true}".into()));
    let (status, ready) = fetch(&format!("{base}/readyz")).await;
    assert_eq!(status, 200, "{ready}");

    let client = federation.client("reader");
    let nothing = "lab/none".parse().expect("a model id");
    client.refresh().await.expect("the hub is there");
    client.quote(&nothing, &[comity_wire::Op::Chat]).await.expect_err("no such model");
    let project = federation.project;
    let member = federation.member().public();
    let door = federation.address("house");
    let asked = comity_http::Client::new(comity_http::Endpoint {
        addresses: vec![door],
        trusted: comity_http::TrustedKeys::Exactly(vec![*federation.card("house").transport_key.as_bytes()]),
    });
    let path = format!("/v1/projects/{project}");
    let asked = asked.expect("an address");
    let called = asked.call_signed::<Value>(
        http::Method::GET,
        &path,
        None::<&()>,
        federation.member(),
        comity_node::shell::now(),
    );
    called.await.expect("a member sees its project");
    let (_, figures) = fetch(&metrics).await;
    for line in [
        "comity_house_calls_total{route=\"/v1/projects/{id}\",status=\"200\",code=\"\"} 1",
        "comity_house_ready{what=\"writing\"} 1",
        "comity_house_microcredits{what=\"awarded\"} 10000000",
        "comity_house_log_stopped 0",
    ] {
        assert!(figures.lines().any(|said| said == line), "{line}\nis not in\n{figures}");
    }
    federation.service("house").end().await;
    let log = std::fs::read_to_string(&access_log).expect("the access log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().any(|line| line["route"] == "/v1/projects/{id}" && line["status"] == 200), "{log}");
    assert_eq!(std::fs::metadata(&access_log).expect("a file").permissions().mode() & 0o777, 0o600);
    let said = federation.service("house").log();
    for text in [&log, &figures, &said] {
        assert!(!text.contains(&project.to_string()) && !text.contains(&member.to_string()), "{text}");
        for key in std::fs::read_dir(home.join("keys")).expect("keys") {
            let key = std::fs::read_to_string(key.expect("an entry").path()).expect("a key");
            assert!(!text.contains(key.trim()), "{text}");
        }
    }
    federation.service("hub").end().await;
}

/// SIGTERM in the middle of sales: what was answered stands, what was not is asked again, and the process ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_is_told_to_stop_ends_what_it_began() {
    let upstream = comity_tests::Scripted::start().await;
    let lab = comity_tests::Owner::scripted("lab", &upstream, comity_tests::federation::PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let clients: Vec<_> = ["a", "b", "c", "d"].map(|name| federation.client(name)).into();
    let buy = async |client: &comity_sdk::Client| {
        for _ in 0..5 {
            comity_tests::eventually("a token", async || {
                let bought = client.buy(&lab.model(), comity_wire::Amount::from_ucr(2_000), 0).await;
                bought.map_err(|error| comity_tests::federation::chain(&error))
            })
            .await;
        }
    };
    let restarts = async {
        for _ in 0..3 {
            federation.service("house").end().await;
            federation.service("house").restart().await;
        }
    };
    tokio::join!(futures::future::join_all(clients.iter().map(buy)), restarts);
    let account = federation.books_add_up().await;
    let mut held = 0;
    for client in &clients {
        for purse in client.purses().await.into_iter().filter(|purse| !purse.pending) {
            held += 1;
            assert!(account.tokens.iter().any(|token| token.token == purse.token), "an answered sale is in the books");
        }
    }
    assert!(held >= 20 && account.tokens.len() >= held, "{held} of {}", account.tokens.len());
    federation.end().await;
}

mod postgres {
    use comity_sdk::Query;
    use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
    use comity_tests::{Owner, Scripted, eventually};
    use comity_wire::Amount;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_house_moves_its_books_into_postgres_and_goes_on() {
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
        let home = federation.path().join("house");
        let named = home.display().to_string();
        let client = federation.client("reader");
        let ask = async || {
            let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
            client.ask(&query).await.map(|_| ()).map_err(|error| chain(&error))
        };
        eventually("an answer", ask).await;
        let before = federation.account().await;
        federation.service("house").end().await;
        let database = comity_scratch::Database::create().await;
        let url = federation.path().join("new.url");
        comity_node::home::write_secret(&url, database.url().as_bytes()).expect("a secret");
        let said =
            process::expect(&["clearing", "migrate", "--home", &named, "--to-file", &url.display().to_string()]).await;
        assert!(!said.contains("postgres://"), "{said}");
        assert!(!home.join("clearing.sqlite").exists() && home.join("clearing.sqlite.moved").exists());
        // A house that is not told where its books are begins no others.
        std::fs::rename(home.join("clearing.toml"), home.join("told")).expect("it was told");
        let refused = process::run(&["clearing", "run", "--home", &named, "--listen", "127.0.0.1:0"]).await;
        assert!(!refused.success && refused.stderr.contains("copied into a PostgreSQL"), "{}", refused.stderr);
        std::fs::rename(home.join("told"), home.join("clearing.toml")).expect("it is told again");
        federation.service("house").restart().await;
        let after = federation.account().await;
        assert_eq!((before.available, before.in_escrow), (after.available, after.in_escrow));
        eventually("another answer", ask).await;
        for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
            client.finish(purse.token).await.expect("it is ended at the new books");
        }
        assert_eq!(federation.books_add_up().await.settled, Amount::from_ucr(2 * REQUEST_UCR));
        // The tests' own cluster may keep nothing over a power cut, and is found out.
        let (running, ill, report) = failing(&named, &["--full"]).await;
        assert!(running && ill.iter().all(|check| check == "durability"), "{report}");
        federation.end().await;
    }
}
