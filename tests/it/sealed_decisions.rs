//! What an owner's people decided is under a root in the house's log, so that neither a changed event nor a store that was set back goes
//! unseen: by the commands of `docs/operating/decisions.md`, with processes of an owner and a house.

use std::path::Path;

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::process::Ended;
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::{Amount, Digest};
use serde_json::{Value, json};
use sqlx::Connection as _;

const PAGE: &str = include_str!("../../docs/operating/decisions.md");

async fn run(words: &[&str]) -> Ended {
    process::run(words).await
}

/// `comity node decisions VERB --home HOME …`.
async fn decisions(home: &str, words: &[&str]) -> Ended {
    let (verb, rest) = words.split_first().expect("a verb");
    let words: Vec<&str> = ["node", "decisions", verb, "--home", home].iter().chain(rest).copied().collect();
    run(&words).await
}

async fn said(home: &str, words: &[&str]) -> String {
    let ended = decisions(home, words).await;
    assert!(ended.success, "{words:?}: {}", ended.stderr);
    ended.stdout
}

/// `comity --home HOME access …`, by the researcher.
async fn access(home: &str, words: &[&str]) -> Ended {
    let words: Vec<&str> = ["--home", home, "access"].iter().chain(words).copied().collect();
    run(&words).await
}

async fn told(home: &str, words: &[&str]) -> String {
    let ended = access(home, words).await;
    assert!(ended.success, "{words:?}: {}", ended.stderr);
    ended.stdout
}

/// Until a house has the newest head in its own log.
async fn logged(home: &str) -> String {
    eventually("a head in the house's log", async || {
        let standing = said(home, &["seal"]).await;
        if standing.contains("of its own log") { Ok(standing) } else { Err(standing) }
    })
    .await
}

/// A researcher of the federation's project, with a home of their own.
async fn researcher(federation: &Federation) -> String {
    let ada = federation.path().join("ada");
    std::fs::create_dir_all(&ada).expect("a home");
    let seed = Digest(*federation.member().seed());
    std::fs::write(ada.join("member.key"), seed.to_string()).expect("a key");
    let account = federation.account().await;
    let roster = federation.path().join("roster/roster.cbor").display().to_string();
    let (home, hub, project) = (ada.display().to_string(), federation.address("hub"), account.project.to_string());
    process::expect(&["--home", &home, "init", "--roster", &roster, "--entry", &hub, "--project", &project]).await;
    home
}

/// As whoever has the machine can: the guards of the database go first.
async fn meddle(home: &str, statements: &[&'static str]) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(Path::new(home).join("access.sqlite"));
    let mut db = sqlx::SqliteConnection::connect_with(&options).await.expect("the owner's store");
    for sql in statements {
        sqlx::query(*sql).execute(&mut db).await.expect("nothing guards it any more");
    }
    db.close().await.expect("it closes");
}

fn copied(home: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = ["access.sqlite", "access.sqlite-wal", "access.sqlite-shm"].map(|file| Path::new(home).join(file));
    files.into_iter().filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect()
}

fn put_back(home: &str, files: &[(std::path::PathBuf, Vec<u8>)]) {
    for file in ["access.sqlite", "access.sqlite-wal", "access.sqlite-shm"] {
        let _ = std::fs::remove_file(Path::new(home).join(file));
    }
    files.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("it can be written"));
}

#[test]
fn each_command_of_the_page_is_played_here() {
    let played = include_str!("sealed_decisions.rs");
    let blocks = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter(|line| line.starts_with("comity")).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    for line in lines {
        let line = line.split('#').next().expect("a command");
        for word in line.split_whitespace().filter(|word| word.starts_with("--") && *word != "--home") {
            assert!(played.contains(&format!("\"{word}\"")), "{word} of {line} is not played");
        }
        let verb = line.split_whitespace().find(|word| ["status", "seal", "check", "renew", "proof"].contains(word));
        assert!(played.contains(&format!("\"{}\"", verb.expect("a verb"))), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_in_the_houses_log_and_is_not_decided_anew_unseen() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |_, _| ()).await;
    let home = federation.path().join("lab").display().to_string();
    let ada = researcher(&federation).await;
    let (client, model) = (federation.client("asker"), lab.model());
    let name = model.to_string();
    let house = federation.path().join("house").display().to_string();
    let shown: Value =
        serde_json::from_str(&process::expect(&["clearing", "log", "show", "--home", &house]).await).expect("JSON");
    let vkey = shown["vkey"].as_str().expect("the log's key").to_owned();

    // A case that the owner's people opened by word, about a project that has asked.
    let token = client.buy(&model, Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let query = Query::chat(model.clone(), &[("user", "Where?")], Some(8), false);
    client.ask(&query).await.expect("an answer");
    let subject = federation.account().await.pseudonyms[0].subject.to_string();
    let open = [
        "cases",
        "open",
        "--home",
        &home,
        "--project",
        &subject,
        "--model",
        &name,
        "--category",
        "political_persuasion",
        "--reason",
        "a colleague saw a campaign",
        "--by",
        "hanna",
    ];
    process::expect(&open).await;
    let listed: Value = serde_json::from_str(&told(&ada, &["cases", "list", &name, "--json"]).await).expect("JSON");
    let case = listed[0]["id"].as_str().expect("a case").to_owned();

    let standing = logged(&home).await;
    assert!(standing.contains("log 1: 1 events are sealed, 0 wait; head 1 is over 1"), "{standing}");
    let proof = ["cases", "proof", &case, "--log-key", &vkey, "--json"];
    let proved: Value = serde_json::from_str(&told(&ada, &proof).await).expect("JSON");
    assert_eq!(
        (&proved["sealed"], &proved["head"]["log"], &proved["logged"]["is_signed"]),
        (&json!(1), &json!(1), &json!(true))
    );
    let older = copied_while_stopped(&mut federation, &home).await;

    // Two events more, and the head goes on.
    told(&ada, &["cases", "answer", &case, "--text", "it is a study"]).await;
    process::expect(&["cases", "decide", &case, "--home", &home, "--clear", "--reason", "it is", "--by", "hanna"])
        .await;
    let standing = logged_over(&home, 3).await;
    assert!(standing.contains("over 3 events, entry "), "{standing}");
    let words = told(&ada, &["cases", "proof", &case, "--log-key", &vkey]).await;
    assert!(words.contains("events 1 to 3 stand under head 2") && words.contains("key that you named"), "{words}");
    let unsigned = told(&ada, &["cases", "proof", &case]).await;
    assert!(unsigned.contains("by the house's word alone"), "{unsigned}");
    let proved: Value = serde_json::from_str(&told(&ada, &proof).await).expect("JSON");
    let since: Vec<_> = proved["since"].as_array().expect("a list").iter().collect();
    let by: Vec<_> = since.iter().map(|one| (one["n"].as_u64(), one["head"].as_u64(), one["log"].as_u64())).collect();
    assert_eq!(by, [(1, 1), (2, 2), (3, 2)].map(|(n, head)| (Some(n), Some(head), Some(1))), "{proved}");
    assert_eq!(proved["late"], json!([]));
    let (name_of_key, rest) = vkey.split_once("/log/1+").expect("a key of the first log");
    let other = access(&ada, &["cases", "proof", &case, "--log-key", &format!("{name_of_key}/log/2+{rest}")]).await;
    assert!(!other.success, "a key that is not the log's");
    let held = said(&home, &["check"]).await;
    assert!(held.contains("log 1: 3 events, root "), "{held}");
    let ended = decisions(&home, &["renew", "--reason", "so that nobody sees", "--by", "hanna"]).await;
    assert!(!ended.success && ended.stderr.contains("nothing is lost or changed"), "{}", ended.stderr);
    let folder = federation.path().join("log").display().to_string();
    process::expect(&["clearing", "log", "export", "--home", &house, &folder]).await;
    let audited = process::expect(&["audit", &folder, "--key", &vkey, "--json"]).await;
    assert!(audited.contains("\"decisions\":2"), "{audited}");

    // An event is rewritten in the file: the check names it.
    federation.service("lab").end().await;
    let whole = copied(&home);
    let rewrite = "UPDATE access_case_event SET bytes = CAST(replace(CAST(bytes AS TEXT), 'it is a study', 'it was a prank') AS BLOB) WHERE n = 2";
    meddle(&home, &["DROP TRIGGER access_case_event_stays", rewrite]).await;
    federation.service("lab").restart().await;
    let found = decisions(&home, &["check"]).await;
    assert!(!found.success && found.stdout.contains(&format!("event 2 of {case} is another one")), "{}", found.stdout);

    // The file is an older one: whatever it says now, the house knows more.
    federation.service("lab").end().await;
    put_back(&home, &older);
    federation.service("house").end().await;
    federation.service("lab").restart().await;
    // While no house answers, it does not know that, and signs nothing.
    process::expect(&["cases", "decide", &case, "--home", &home, "--clear", "--reason", "x", "--by", "hanna"]).await;
    let unheard = said(&home, &["seal"]).await;
    assert!(unheard.contains("2 events are sealed, 0 wait; head 1 is over 1"), "{unheard}");
    assert!(unheard.contains("nothing is signed before each house"), "{unheard}");
    let unknown = decisions(&home, &["check"]).await;
    assert!(!unknown.success && unknown.stderr.contains("not every house has said so"), "{}", unknown.stderr);
    federation.service("house").restart().await;
    let set_back = eventually("the node sees that it was set back", async || {
        let standing = said(&home, &["seal"]).await;
        if standing.contains("BROKEN") { Ok(standing) } else { Err(standing) }
    })
    .await;
    assert!(set_back.contains("its head 2 is over 3 events, and this node's store has 2"), "{set_back}");
    let held = decisions(&home, &["check"]).await;
    assert!(!held.success && held.stdout.contains("BROKEN"), "{}", held.stdout);
    let standing = said(&home, &["status"]).await;
    assert!(standing.contains("head 1 is over 1"), "nothing more is signed: {standing}");

    // Until the operator says that it is lost, for everybody to see.
    let renew = ["renew", "--reason", "the disk died; restored from Tuesday's backup", "--by", "hanna"];
    let standing = said(&home, &renew).await;
    assert!(standing.contains("log 2: ") && standing.contains("head 3 is over "), "{standing}");
    logged(&home).await;
    let after = said(&home, &["check"]).await;
    assert!(after.contains("of log 2 over "), "{after}");
    // The first event is what it was, and stands since it did; the second is in the new log alone.
    let kept = access(&ada, &["cases", "proof", &case]).await;
    assert!(!kept.success && kept.stderr.contains("rewritten"), "her home kept the links: {}", kept.stderr);
    let fresh = stranger(&federation, &ada, &case, &name).await;
    let words = told(&fresh, &["cases", "proof", &case, "--model", &name]).await;
    assert!(words.contains("log 2 of this node: 1 before it ended"), "{words}");
    let proof = ["cases", "proof", &case, "--model", &name, "--json"];
    let proved: Value = serde_json::from_str(&told(&fresh, &proof).await).expect("JSON");
    assert_eq!((&proved["since"][0]["head"], &proved["since"][0]["log"]), (&json!(1), &json!(1)), "{proved}");
    assert_eq!((&proved["since"][1]["log"], &proved["late"]), (&json!(2), &json!([])), "{proved}");

    // The right file again, of the log that everybody saw end.
    federation.service("lab").end().await;
    put_back(&home, &whole);
    federation.service("lab").restart().await;
    let late = eventually("the node sees that its log ended", async || {
        let standing = said(&home, &["seal"]).await;
        if standing.contains("BROKEN") { Ok(standing) } else { Err(standing) }
    })
    .await;
    assert!(late.contains("of log 2, and this node's store is at log 1"), "{late}");
    federation.end().await;
}

/// The same project with a home that kept no links.
async fn stranger(federation: &Federation, ada: &str, case: &str, model: &str) -> String {
    let home = federation.path().join("stranger");
    std::fs::create_dir_all(&home).expect("a home");
    for entry in std::fs::read_dir(ada).expect("her home").filter_map(Result::ok) {
        if entry.file_type().expect("a kind").is_file() {
            std::fs::copy(entry.path(), home.join(entry.file_name())).expect("a copy");
        }
    }
    let home = home.display().to_string();
    told(&home, &["cases", "show", case, "--model", model]).await;
    home
}

async fn copied_while_stopped(federation: &mut Federation, home: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    federation.service("lab").end().await;
    let files = copied(home);
    federation.service("lab").restart().await;
    files
}

async fn logged_over(home: &str, events: u64) -> String {
    let over = format!("over {events} events, entry ");
    eventually("a head in the house's log", async || {
        let standing = said(home, &["seal"]).await;
        if standing.contains(&over) { Ok(standing) } else { Err(standing) }
    })
    .await
}
