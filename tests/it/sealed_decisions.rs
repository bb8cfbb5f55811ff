//! What an owner's people decided is under a root in the house's log, so that neither a changed event nor a store that was set back goes
//! unseen: by the commands of `docs/operating/decisions.md`, with processes of an owner and a house.

use std::path::Path;

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::process::Ended;
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::Amount;
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

/// What the node enters at its first start: that the register begins, its policy, its rules.
const BEGUN: u64 = 3;

/// The number of the newest head.
fn head_of(standing: &str) -> u64 {
    let (_, rest) = standing.split_once("; head ").expect("a head");
    rest.split_whitespace().next().and_then(|n| n.parse().ok()).expect("its number")
}

/// As whoever has the machine can: the guards of the database go first.
async fn meddle(home: &str, statements: &[&'static str]) {
    meddle_with(home, "access.sqlite", statements).await;
}

async fn meddle_with(home: &str, file: &str, statements: &[&'static str]) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(Path::new(home).join(file));
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
    assert_eq!(lines.len(), 10, "{lines:?}");
    for line in lines {
        let line = line.split('#').next().expect("a command");
        for word in line.split_whitespace().filter(|word| word.starts_with("--") && *word != "--home") {
            assert!(played.contains(&format!("\"{word}\"")), "{word} of {line} is not played");
        }
        let verb = line
            .split_whitespace()
            .find(|word| ["status", "seal", "check", "renew", "proof", "acts", "act"].contains(word));
        assert!(played.contains(&format!("\"{}\"", verb.expect("a verb"))), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_in_the_houses_log_and_is_not_decided_anew_unseen() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |_, _| ()).await;
    let home = federation.path().join("lab").display().to_string();
    let ada = federation.researcher().await;
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

    let standing = logged_over(&home, BEGUN + 1).await;
    assert!(standing.contains("log 1: 4 events are sealed, 0 wait; head "), "{standing}");
    let first = head_of(&standing);
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
    let standing = logged_over(&home, BEGUN + 3).await;
    let second = head_of(&standing);
    let words = told(&ada, &["cases", "proof", &case, "--log-key", &vkey]).await;
    assert!(
        words.contains(&format!("events 1 to 3 stand under head {second}")) && words.contains("key that you named"),
        "{words}"
    );
    let unsigned = told(&ada, &["cases", "proof", &case]).await;
    assert!(unsigned.contains("by the house's word alone"), "{unsigned}");
    let proved: Value = serde_json::from_str(&told(&ada, &proof).await).expect("JSON");
    let since: Vec<_> = proved["since"].as_array().expect("a list").iter().collect();
    let by: Vec<_> = since.iter().map(|one| (one["n"].as_u64(), one["head"].as_u64(), one["log"].as_u64())).collect();
    assert_eq!(by, [(1, first), (2, second), (3, second)].map(|(n, head)| (Some(n), Some(head), Some(1))), "{proved}");
    assert_eq!(proved["late"], json!([]));
    let (name_of_key, rest) = vkey.split_once("/log/1+").expect("a key of the first log");
    let other = access(&ada, &["cases", "proof", &case, "--log-key", &format!("{name_of_key}/log/2+{rest}")]).await;
    assert!(!other.success, "a key that is not the log's");
    let held = said(&home, &["check"]).await;
    assert!(held.contains("log 1: 6 events, root "), "{held}");
    let ended = decisions(&home, &["renew", "--reason", "so that nobody sees", "--by", "hanna"]).await;
    assert!(!ended.success && ended.stderr.contains("nothing is lost or changed"), "{}", ended.stderr);
    let folder = federation.path().join("log").display().to_string();
    process::expect(&["clearing", "log", "export", "--home", &house, &folder]).await;
    let audited = process::expect(&["audit", &folder, "--key", &vkey, "--json"]).await;
    assert!(audited.contains(&format!("\"decisions\":{second}")), "{audited}");

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
    assert!(unheard.contains(&format!("5 events are sealed, 0 wait; head {first} is over 4")), "{unheard}");
    assert!(unheard.contains("nothing is signed before each house"), "{unheard}");
    let unknown = decisions(&home, &["check"]).await;
    assert!(!unknown.success && unknown.stderr.contains("not every house has said so"), "{}", unknown.stderr);
    federation.service("house").restart().await;
    let set_back = eventually("the node sees that it was set back", async || {
        let standing = said(&home, &["seal"]).await;
        if standing.contains("BROKEN") { Ok(standing) } else { Err(standing) }
    })
    .await;
    let behind = format!("its head {second} is over 6 events, and this node's store has 5");
    assert!(set_back.contains(&behind), "{set_back}");
    let held = decisions(&home, &["check"]).await;
    assert!(!held.success && held.stdout.contains("BROKEN"), "{}", held.stdout);
    let standing = said(&home, &["status"]).await;
    assert!(standing.contains(&format!("head {first} is over 4")), "nothing more is signed: {standing}");

    // Until the operator says that it is lost, for everybody to see.
    let renew = ["renew", "--reason", "the disk died; restored from Tuesday's backup", "--by", "hanna"];
    let standing = said(&home, &renew).await;
    assert!(standing.contains("log 2: ") && head_of(&standing) == second + 1, "{standing}");
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
    assert_eq!((&proved["since"][0]["head"], &proved["since"][0]["log"]), (&json!(first), &json!(1)), "{proved}");
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

/// Acts of the register, as JSON.
async fn acts(home: &str) -> Vec<Value> {
    said(home, &["seal"]).await;
    let lines = said(home, &["acts", "--json", "--after", "0"]).await;
    lines.lines().map(|line| serde_json::from_str(line).expect("an act")).collect()
}

async fn node(home: &str, words: &[&str]) -> String {
    let (verb, rest) = words.split_first().expect("a verb");
    let words: Vec<&str> = ["node", verb, "--home", home].iter().chain(rest).copied().collect();
    process::expect(&words).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_by_hand_is_in_the_register_and_is_not_done_anew_unseen() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |_, _| ()).await;
    let home = federation.path().join("lab").display().to_string();
    let ada = federation.researcher().await;
    let model = lab.model().to_string();
    let house = federation.path().join("house").display().to_string();
    let shown: Value =
        serde_json::from_str(&process::expect(&["clearing", "log", "show", "--home", &house]).await).expect("JSON");
    let vkey = shown["vkey"].as_str().expect("the log's key").to_owned();

    // By hand: a stop, its end, two grants and the end of one, a hold on texts and its end.
    node(&home, &["stop", "--model", &model, "--reason", "answers leak", "--by", "hanna"]).await;
    node(&home, &["resume", "--model", &model, "--reason", "mended", "--by", "otto"]).await;
    let grant = ["requests", "grant", "--home", &home, "--subject", "sub-x", "--model", &model, "--tier", "t1"];
    let grant = async |reason: &str| {
        let words = [&grant[..], &["--days", "7", "--reason", reason, "--by", "hanna"]].concat();
        let made: Value = serde_json::from_str(&process::expect(&words).await).expect("JSON");
        made["grant"].as_str().expect("an id").to_owned()
    };
    let (kept, taken) = (grant("the board of 12 May").await, grant("a demonstration").await);
    let revoke = ["requests", "revoke", "--home", &home, "--grant", &taken, "--reason", "it is over"];
    process::expect(&revoke).await;
    let hold = ["--subject", "sub-x", "--reason", "a court wants them", "--by", "otto"];
    process::expect(&[&["node", "transcripts", "hold", "--home", &home][..], &hold].concat()).await;
    let release = ["node", "transcripts", "release", "--home", &home, "1", "--reason", "it has them", "--by", "otto"];
    process::expect(&release).await;
    let entered = acts(&home).await;
    let kinds: Vec<_> = entered.iter().filter_map(|act| act["deed"]["kind"].as_str()).collect();
    let all = [
        "begin",
        "configure",
        "configure",
        "stop",
        "resume",
        "grant",
        "grant",
        "take-back",
        "hold-texts",
        "release-texts",
    ];
    assert_eq!(kinds, all, "{entered:?}");
    let stop = &entered[3];
    assert_eq!((&stop["author"], &stop["reason"]), (&json!("hanna"), &json!("answers leak")));
    assert_eq!(stop["deed"]["target"], json!(format!("model {model}")));
    assert_eq!(entered[5]["deed"]["grant"], json!(kept));
    let listed = said(&home, &["acts"]).await;
    let line = format!("gave sub-x the grant {kept}  by hanna: the board of 12 May");
    assert!(listed.contains(&line) && listed.contains("by otto: a court wants them"), "{listed}");
    let before = said(&home, &["check"]).await;
    assert!(before.contains("0 wait"), "{before}");

    // One act for an auditor, who has a home and the key of the house's log.
    logged_over(&home, 10).await;
    let file = federation.path().join("act.json").display().to_string();
    said(&home, &["act", "6", "--file", &file]).await;
    let proof = ["proof", "--act", &file, "--log-key", &vkey];
    let words = told(&ada, &proof).await;
    assert!(words.contains("the board of 12 May") && words.contains("under the log's key that you named"), "{words}");
    let proved: Value = serde_json::from_str(&told(&ada, &[&proof[..], &["--json"]].concat()).await).expect("JSON");
    let by = (&proved["act"]["author"], &proved["sealed"], &proved["late"]);
    assert_eq!(by, (&json!("hanna"), &json!(6), &json!([])), "{proved}");
    let text = std::fs::read_to_string(&file).expect("the act");
    std::fs::write(&file, text.replace("the board of 12 May", "a friend of mine")).expect("it can be written");
    let other = access(&ada, &proof).await;
    assert!(!other.success && other.stderr.contains("which the log does not have as it says"), "{}", other.stderr);

    // Where no process runs, the command enters what it does.
    federation.service("lab").end().await;
    node(&home, &["stop", "--all", "--reason", "the machine moves", "--by", "otto"]).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(Path::new(&home).join("access.sqlite"));
    let mut db = sqlx::SqliteConnection::connect_with(&options).await.expect("the owner's store");
    let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM access_act").fetch_one(&mut db).await.expect("acts");
    db.close().await.expect("it closes");
    assert_eq!(count, 11);
    federation.service("lab").restart().await;
    said(&home, &["check"]).await;

    // Rewritten, taken out, put in late, done without a word: each is named.
    federation.service("lab").end().await;
    let meddled = [
        "UPDATE stop_log SET reason = 'a test' WHERE n = 1",
        "DELETE FROM stop_log WHERE n = 2",
        "INSERT INTO stop_log (n, act, kind, name, author, reason, at) VALUES (9, 1, 3, 'sub-y', 'hanna', 'long ago', 1700000000)",
        "DELETE FROM stop WHERE kind = 1",
        "DELETE FROM grant_withdrawn",
    ];
    meddle_with(&home, "spend.sqlite", &meddled).await;
    federation.service("lab").restart().await;
    said(&home, &["seal"]).await;
    let found = decisions(&home, &["check"]).await;
    assert!(!found.success, "{}", found.stdout);
    for line in [
        "changed     line 1 of stops says something else than act 4".to_owned(),
        "gone        line 2 of stops, of which act 5 is a copy".to_owned(),
        "late        act 12, line 9 of stops, names 2023-11-14".to_owned(),
        "undone      the node is not stopped any more, and nobody has resumed it".to_owned(),
        "undone      project sub-y is not stopped any more, and nobody has resumed it".to_owned(),
        format!("undone      grant {taken} was taken back and counts again"),
    ] {
        assert!(found.stdout.contains(&line), "{line}\n{}", found.stdout);
    }
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
